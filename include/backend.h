/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * backend.h - one container: its mappings, domains, groups and devices
 *
 * Locking
 * -------
 * In this order:
 *
 * device_lock	held while devices are told of an unmap, and while one registers
 *		or unregisters. Outermost, because a device's dma_unmap() calls
 *		back into unpin_pages.
 * domain_sem	for writing: attach and detach of groups, start and stop of
 *		dirty tracking. Excludes everybody else, so the holder needs no
 *		other lock for the fields of the container and of its mappings,
 *		but for the two below.
 *		for reading: everything else, for as long as it depends on the
 *		set of domains; a map or unmap holds it until its threads are
 *		done.
 * lock		with domain_sem for reading: the tree of mappings and all fields
 *		of the mappings in it, the counters, the list of devices (with
 *		device_lock too, when it changes), the lists @unmaps and @waits.
 *		A call that is killed leaves @waits with lock alone, and devices
 *		come and go with device_lock and lock: these two are the fields
 *		that a holder of domain_sem must not touch without it.
 * then		mmap lock of the user, and what the layers below document.
 *
 * A mapping that is being pinned is in the tree, so that its place is taken, and
 * belongs to the thread that works on it, without the lock. An unmap reserves
 * its range until it is done: no mapping appears in it, and no other unmap
 * overlaps it, so what is DMA_MAP_UNMAPPING in it belongs to that unmap, without
 * the lock once devices have unpinned. Everybody else waits on @wait, having
 * dropped the lock and domain_sem, and looks again. So disjoint ranges of a
 * container are mapped and unmapped by several threads at the same time. Those
 * who wait for parts of the same range get it in the order in which they came.
 *
 * Devices' drivers do not wait for an unmap: they may be holding what their
 * dma_unmap() needs. For them, what is being unmapped is gone already, except
 * that they can still unpin.
 */
#ifndef VFIO_MT_BACKEND_H
#define VFIO_MT_BACKEND_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rbtree.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "map_range.h"
#include "map_stat.h"
#include "pin_record.h"

struct iommu_domain;
struct iommu_group;
struct vfio_device;

/**
 * struct iova_range - addresses that devices of a container may use
 * @start: first one
 * @last: last one
 */
struct iova_range {
	u64 start;
	u64 last;
};

/**
 * struct iova_list - all such addresses, in order
 * @nr: number of ranges
 * @ranges: the ranges
 */
struct iova_list {
	unsigned int nr;
	struct iova_range *ranges;
};

/**
 * struct backend - a container
 * @device_lock: see the top of the file
 * @domain_sem: likewise
 * @lock: likewise
 * @wait: for mappings to become live, or to go
 * @v2: VFIO_TYPE1v2_IOMMU or later: unmap must match mappings exactly
 * @nesting: domains are made for nested translation
 * @dirty_tracking: each mapping has a dirty bitmap
 * @maps: the mappings by IOVA
 * @unmaps: the unmaps under way, struct dma_unmap
 * @waits: calls that wait for mappings, struct dma_wait
 * @maps_avail: how many more there may be
 * @vaddr_invalid: how many have lost their user address
 * @pgsizes: page sizes that all domains support
 * @iovas: addresses that may be mapped; empty before the first domain
 * @domains: list of struct backend_domain
 * @target: the same, as the layer below takes them
 * @reach: last address that all domains have page table levels for, see
 *         backend_extend()
 * @users: ioctls under way, and one until it is released
 * @user: who has set it up
 * @rcu: frees it
 * @emulated: groups without an IOMMU, list of struct backend_group
 * @non_pinning: groups that may write to all memory mapped for them
 * @devices: devices with a dma_unmap(), struct vfio_device
 */
struct backend {
	struct mutex device_lock;
	struct rw_semaphore domain_sem;
	struct mutex lock;
	wait_queue_head_t wait;
	bool v2;
	bool nesting;
	bool dirty_tracking;
	struct rb_root maps;
	struct list_head unmaps;
	struct list_head waits;
	unsigned int maps_avail;
	unsigned int vaddr_invalid;
	unsigned long pgsizes;
	struct iova_list iovas;
	struct list_head domains;
	struct map_target target;
	u64 reach;
	refcount_t users;
	struct map_stat_user user;
	struct rcu_head rcu;
	struct list_head emulated;
	u64 non_pinning;
	struct list_head devices;
};

/* What every IOMMU's page tables reach without being extended: 3 levels. */
#define BACKEND_REACH_MIN	((1ULL << 39) - 1)

/**
 * struct backend_domain - an IOMMU domain
 * @node: in backend->domains
 * @domain: the domain
 * @groups: the groups attached to it, struct backend_group
 * @whole: see struct map_target
 * @coherent: the IOMMU ignores requests to bypass the CPU's caches
 */
struct backend_domain {
	struct list_head node;
	struct iommu_domain *domain;
	struct list_head groups;
	bool whole;
	bool coherent;
};

/**
 * struct backend_group - a group of devices
 * @node: in its domain's list, or in backend->emulated
 * @group: the group
 * @pinning: writes only to pages that it has pinned one by one
 */
struct backend_group {
	struct list_head node;
	struct iommu_group *group;
	bool pinning;
};

/**
 * enum dma_map_state - who a mapping belongs to
 * @DMA_MAP_LIVE: to whoever holds the locks
 * @DMA_MAP_MAPPING: to the thread that is mapping it
 * @DMA_MAP_UNMAPPING: to the unmap that has reserved its range. While that tells
 *                     devices, with nothing locked, the mapping may go with the
 *                     last group all the same.
 */
enum dma_map_state {
	DMA_MAP_LIVE,
	DMA_MAP_MAPPING,
	DMA_MAP_UNMAPPING,
};

/**
 * struct dma_map - a mapping, made by one MAP_DMA
 * @node: in backend->maps
 * @batch: for the thread that it belongs to
 * @iova: the device's address
 * @vaddr: the user's address
 * @size: bytes
 * @prot: IOMMU_READ, IOMMU_WRITE
 * @state: see there
 * @iommu_mapped: pinned, and mapped in all domains
 * @vaddr_invalid: @vaddr was given up by UNMAP_DMA with the VADDR flag
 * @owner: whose memory, and who is charged; holds a reference on both
 * @charged: pages charged to @owner for this mapping
 * @record: what is pinned for the IOMMU
 * @external: pages that devices have pinned, by page number from @iova
 * @nr_external: how many of these count as locked memory
 * @dirty: a bit for each IOMMU page, while dirty tracking is on
 */
struct dma_map {
	struct rb_node node;
	struct list_head batch;
	u64 iova;
	unsigned long vaddr;
	u64 size;
	int prot;
	enum dma_map_state state;
	bool iommu_mapped;
	bool vaddr_invalid;
	struct lockvm_owner owner;
	unsigned long charged;
	struct pin_record record;
	struct xarray external;
	unsigned long nr_external;
	unsigned long *dirty;
};

static inline u64 dma_map_last(const struct dma_map *map)
{
	return map->iova + (map->size - 1);
}

/**
 * struct dma_unmap - what UNMAP_DMA was asked to do
 * @node: in backend->unmaps while the range is reserved
 * @iova: first address
 * @size: bytes; 0 with @all
 * @all: all mappings
 * @vaddr_only: give up user addresses only
 * @report: report what was dirty
 * @bitmap: where to
 * @pgsize: bytes that a bit of @bitmap stands for
 */
struct dma_unmap {
	struct list_head node;
	u64 iova;
	u64 size;
	bool all;
	bool vaddr_only;
	bool report;
	u64 __user *bitmap;
	u64 pgsize;
};

static inline u64 backend_pgsize(const struct backend *backend)
{
	return 1ULL << __ffs(backend->pgsizes);
}

/* dma_map.c: the tree of mappings */
struct dma_map *dma_map_first(const struct backend *backend, u64 from,
			      u64 last);
struct dma_map *dma_map_next(const struct dma_map *map, u64 last);
int dma_map_lock(struct backend *backend, u64 from, u64 last, bool device);
void dma_map_lock_now(struct backend *backend);
void dma_map_unlock(struct backend *backend);
int dma_map_create(struct backend *backend, u64 iova, unsigned long vaddr,
		   u64 size, int prot);
int dma_map_set_vaddr(struct backend *backend, u64 iova, unsigned long vaddr,
		      u64 size);
int dma_map_remove(struct backend *backend, struct dma_unmap *unmap,
		   u64 *unmapped);
void dma_map_remove_all(struct backend *backend);
int dma_map_add_domain(struct backend *backend, struct backend_domain *domain);
void dma_map_drop_domains(struct backend *backend);

/* domain.c: groups, domains and what can be mapped for them */
int backend_attach_group(struct backend *backend, struct iommu_group *group,
			 bool emulated, bool unsafe_interrupts);
void backend_detach_group(struct backend *backend, struct iommu_group *group);
void backend_release_domains(struct backend *backend);
struct backend_group *backend_find_group(struct backend *backend,
					 struct iommu_group *group);
struct iommu_domain *backend_group_domain(struct backend *backend,
					  struct iommu_group *group);
bool backend_coherent(struct backend *backend);
int backend_extend(struct backend *backend, u64 last);
bool backend_iova_valid(const struct backend *backend, u64 first, u64 last);

/* dirty.c: which pages devices may have written to */
#define DIRTY_BITMAP_PAGES_MAX	((u64)INT_MAX)

u64 dirty_bitmap_bytes(u64 nr_pages);
int dirty_alloc(const struct backend *backend, struct dma_map *map);
void dirty_free(struct dma_map *map);
void dirty_mark(const struct backend *backend, struct dma_map *map,
		u64 offset, u64 size);
int dirty_start(struct backend *backend);
void dirty_stop(struct backend *backend);
void dirty_mark_all(struct backend *backend);
int dirty_copy(const struct backend *backend, const struct dma_map *map,
	       u64 base, u64 __user *bitmap);
int dirty_get(struct backend *backend, u64 iova, u64 size, u64 pgsize,
	      u64 __user *bitmap);

/* external.c: what devices pin, read and write themselves */
int external_pin(struct backend *backend, struct iommu_group *group, u64 iova,
		 int nr, int prot, struct page **pages);
void external_unpin(struct backend *backend, u64 iova, int nr);
int external_rw(struct backend *backend, u64 iova, void *data, size_t count,
		bool write);
void external_register(struct backend *backend, struct vfio_device *device);
void external_unregister(struct backend *backend, struct vfio_device *device);
void external_notify_unmap(struct backend *backend, u64 iova, u64 size);
unsigned long external_charged(void *arg, unsigned long offset,
			       unsigned long nr);
void external_mark_dirty(const struct backend *backend, struct dma_map *map);
void external_drop_all(struct dma_map *map);

#endif /* VFIO_MT_BACKEND_H */
