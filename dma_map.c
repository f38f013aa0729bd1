// SPDX-License-Identifier: GPL-2.0-only
/*
 * dma_map.c - the mappings of a container
 *
 * A mapping is what one MAP_DMA made. They are kept in a tree by IOVA and never
 * overlap. All address arithmetic uses the last address instead of the one
 * behind it, because a mapping may end at the very top of the address space.
 *
 * Context: process context, may sleep. Called from ioctls and from group attach
 *    and detach.
 * Locking: see backend.h. A mapping is inserted in a state that makes others
 *    wait, pinned without the lock, and then made live or taken out again; an
 *    unmap takes mappings over likewise before it lets go of the lock.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "include/backend.h"
#include "include/compat.h"

/* Waits are cut into pieces that no hung-task detector minds. */
#define DMA_MAP_WAIT		(10 * HZ)

/* A device gets so many chances to unpin what is to be unmapped. */
#define DMA_MAP_NOTIFY_MAX	10

/* ---- the tree ---- */

static struct dma_map *dma_map_of(struct rb_node *node)
{
	return rb_entry_safe(node, struct dma_map, node);
}

/**
 * dma_map_first - find the first mapping that overlaps a range
 * @backend: the container
 * @from: first address of the range
 * @last: last address of the range
 *
 * Context: Locks as for reading the tree (backend.h).
 * Return: The mapping, or NULL.
 */
struct dma_map *dma_map_first(const struct backend *backend, u64 from, u64 last)
{
	struct rb_node *node = backend->maps.rb_node;
	struct dma_map *map, *found = NULL;

	while (node) {
		map = dma_map_of(node);
		if (dma_map_last(map) >= from) {
			found = map;
			node = node->rb_left;
		} else {
			node = node->rb_right;
		}
	}
	return found && found->iova <= last ? found : NULL;
}

/**
 * dma_map_next - find the mapping after another
 * @map: the other
 * @last: last address of the range
 *
 * Context: As dma_map_first().
 * Return: The next mapping that begins in the range, or NULL.
 */
struct dma_map *dma_map_next(const struct dma_map *map, u64 last)
{
	struct dma_map *next = dma_map_of(rb_next(&map->node));

	return next && next->iova <= last ? next : NULL;
}

static bool dma_map_less(struct rb_node *a, const struct rb_node *b)
{
	return dma_map_of(a)->iova <
	       rb_entry(b, struct dma_map, node)->iova;
}

static u64 dma_unmap_last(const struct dma_unmap *unmap)
{
	return unmap->all ? U64_MAX : unmap->iova + unmap->size - 1;
}

/*
 * Is something being mapped in the range, or, unless a device asks, being
 * unmapped? In a v1 container, what is being unmapped may go on behind the range
 * that is reserved for it.
 */
static bool dma_map_busy(const struct backend *backend, u64 from, u64 last,
			 bool device)
{
	const struct dma_unmap *unmap;
	struct dma_map *map;

	if (from > last)
		return false;
	for (map = dma_map_first(backend, from, last); map;
	     map = dma_map_next(map, last))
		if (map->state == DMA_MAP_MAPPING ||
		    (map->state == DMA_MAP_UNMAPPING && !device))
			return true;
	if (device)
		return false;
	list_for_each_entry(unmap, &backend->unmaps, node)
		if (from <= dma_unmap_last(unmap) && unmap->iova <= last)
			return true;
	return false;
}

/**
 * dma_map_lock_now - lock the container
 * @backend: the container
 *
 * Context: Process context. May sleep. Takes domain_sem for reading, then lock.
 */
void dma_map_lock_now(struct backend *backend)
{
	down_read(&backend->domain_sem);
	mutex_lock(&backend->lock);
}

/**
 * struct dma_wait - a call that waits for the mappings in a range
 * @node: in backend->waits, in the order in which they came
 * @from: first address of the range
 * @last: last address of the range
 */
struct dma_wait {
	struct list_head node;
	u64 from;
	u64 last;
};

/*
 * Did somebody come before @self who waits for a part of the same range? Or else a
 * call that needs all of a container might wait as long as others map in it.
 */
static bool dma_wait_is_behind(const struct backend *backend,
			       const struct dma_wait *self)
{
	const struct dma_wait *other;

	list_for_each_entry(other, &backend->waits, node) {
		if (other == self)
			return false;
		if (other->from <= self->last && self->from <= other->last)
			return true;
	}
	return false;
}

static void dma_wait_begin(struct backend *backend, struct dma_wait *self)
{
	if (list_empty(&self->node))
		list_add_tail(&self->node, &backend->waits);
}

/* Whoever is behind this call need not wait for it any more. */
static void dma_wait_end(struct backend *backend, struct dma_wait *self)
{
	if (list_empty(&self->node))
		return;
	list_del_init(&self->node);
	wake_up_all(&backend->wait);
}

/* Is it not yet the turn of a call? */
static bool dma_wait_must(const struct backend *backend,
			  const struct dma_wait *self, bool device)
{
	return dma_map_busy(backend, self->from, self->last, device) ||
	       (!device && self->from <= self->last &&
		dma_wait_is_behind(backend, self));
}

/* Sleep until something may have changed. The locks are held before, not after. */
static void dma_wait_sleep(struct backend *backend)
{
	DEFINE_WAIT(wait);

	/* Whoever wakes us takes the lock before. */
	prepare_to_wait(&backend->wait, &wait, TASK_KILLABLE);
	dma_map_unlock(backend);
	schedule_timeout(DMA_MAP_WAIT);
	finish_wait(&backend->wait, &wait);
}

/**
 * dma_map_lock - lock the container when the mappings in a range are ready
 * @backend: the container
 * @from: first address of the range
 * @last: last address of the range; less than @from to wait for nothing
 * @device: a device asks: do not wait for what is being unmapped, nor for one's
 *          turn, since an unmap may be waiting for the device
 *
 * Calls that need parts of the same range get it in the order in which they came.
 *
 * Context: Process context. May sleep as long as it takes to pin or unpin a
 *    mapping. Takes domain_sem for reading, then lock.
 * Return: 0, or -EINTR with nothing locked.
 */
int dma_map_lock(struct backend *backend, u64 from, u64 last, bool device)
{
	struct dma_wait self = {
		.node = LIST_HEAD_INIT(self.node),
		.from = from,
		.last = last,
	};

	do {
		if (down_read_killable(&backend->domain_sem))
			break;
		mutex_lock(&backend->lock);
		if (!dma_wait_must(backend, &self, device)) {
			dma_wait_end(backend, &self);
			return 0;
		}
		if (!device)
			dma_wait_begin(backend, &self);
		dma_wait_sleep(backend);
	} while (!fatal_signal_pending(current));

	mutex_lock(&backend->lock);
	dma_wait_end(backend, &self);
	mutex_unlock(&backend->lock);
	return -EINTR;
}

/**
 * dma_map_unlock - undo dma_map_lock() or dma_map_lock_now()
 * @backend: the container
 */
void dma_map_unlock(struct backend *backend)
{
	mutex_unlock(&backend->lock);
	up_read(&backend->domain_sem);
}

/* ---- life of a mapping ---- */

static struct dma_map *dma_map_alloc(u64 iova, unsigned long vaddr, u64 size,
				     int prot)
{
	struct dma_map *map = kzalloc(sizeof(*map), GFP_KERNEL_ACCOUNT);

	if (!map)
		return NULL;
	map->iova = iova;
	map->vaddr = vaddr;
	map->size = size;
	map->prot = prot;
	map->state = DMA_MAP_MAPPING;
	xa_init_flags(&map->external, XA_FLAGS_ACCOUNT);

	/*
	 * Pages may be charged and given back long after this call, by devices
	 * or when the container is closed: against the limit of this process,
	 * whichever of its threads is still there, and in this mm, even if the
	 * process has moved on to another.
	 */
	map->owner.task = get_task_struct(current->group_leader);
	map->owner.mm = current->mm;
	mmgrab(map->owner.mm);
	map->owner.cap = capable(CAP_IPC_LOCK);
	return map;
}

static void dma_map_free(struct dma_map *map)
{
	pin_record_destroy(&map->record);
	dirty_free(map);
	xa_destroy(&map->external);
	put_task_struct(map->owner.task);
	mmdrop(map->owner.mm);
	kfree(map);
}

static void dma_map_insert(struct backend *backend, struct dma_map *map)
{
	rb_add(&map->node, &backend->maps, dma_map_less);
	backend->maps_avail--;
}

static void dma_map_erase(struct backend *backend, struct dma_map *map)
{
	rb_erase(&map->node, &backend->maps);
	backend->maps_avail++;
	if (map->vaddr_invalid)
		backend->vaddr_invalid--;
	dma_map_free(map);
}

/* What the layer below needs to know about a mapping. */
static struct map_range dma_map_range(struct dma_map *map,
				      const struct map_target *tgt)
{
	return (struct map_range){
		.vaddr = map->record.vaddr,
		.iova = map->iova,
		.size = map->size,
		.owner = map->owner,
		.record = &map->record,
		.tgt = tgt,
		.charged = xa_empty(&map->external) ? NULL : external_charged,
		.arg = map,
	};
}

/* A copy of a container's target for one mapping. */
static struct map_target dma_map_target(const struct map_target *all,
					const struct dma_map *map)
{
	struct map_target tgt = *all;

	tgt.prot = map->prot;
	tgt.single = READ_ONCE(map_tune.disable_hugepages);
	return tgt;
}

/* Pin a mapping and map it into domains that it was in none of. */
static int dma_map_pin(struct dma_map *map, const struct map_target *all)
{
	struct map_target tgt = dma_map_target(all, map);
	unsigned long charged;
	struct map_range range;
	int ret;

	/* It cannot be pinned, and its record would be as large as it claims. */
	if (!access_ok((void __user *)untagged_addr(map->vaddr), map->size))
		return -EFAULT;
	ret = pin_record_init(&map->record, map->vaddr, map->size);
	if (ret)
		return ret;
	if (!mmget_not_zero(map->owner.mm)) {
		ret = -ENODEV;
		goto out;
	}
	range = dma_map_range(map, &tgt);
	ret = map_range_map(&range, &charged);
	mmput(map->owner.mm);
	if (ret)
		goto out;
	map->charged += charged;
	map->iommu_mapped = true;
	return 0;
out:
	pin_record_destroy(&map->record);
	return ret;
}

/* Unmap a mapping from the domains that it is in, and unpin it. */
static void dma_map_unpin(struct dma_map *map, const struct map_target *all)
{
	struct map_target tgt = dma_map_target(all, map);
	struct map_range range = dma_map_range(map, &tgt);

	if (!map->iommu_mapped)
		return;
	map_range_unmap(&range);
	pin_record_destroy(&map->record);
	map->iommu_mapped = false;
}

/* Undo what a mapping has pinned and charged. It is busy, or all is locked. */
static void dma_map_undo(struct backend *backend, struct dma_map *map)
{
	dma_map_unpin(map, &backend->target);
	lockvm_uncharge(&map->owner, map->charged);
	map->charged = 0;
}

/* ---- MAP_DMA ---- */

/* What both flavours of MAP_DMA demand of their arguments. */
static int dma_map_check(const struct backend *backend, u64 iova,
			 unsigned long vaddr, u64 size)
{
	if (!size || (size | iova | vaddr) & (backend_pgsize(backend) - 1))
		return -EINVAL;
	return 0;
}

static int dma_map_may_create(const struct backend *backend, u64 iova,
			      unsigned long vaddr, u64 size)
{
	int ret = dma_map_check(backend, iova, vaddr, size);

	if (ret)
		return ret;
	if (dma_map_first(backend, iova, iova + size - 1))
		return -EEXIST;
	if (!backend->maps_avail)
		return -ENOSPC;
	if (!backend_iova_valid(backend, iova, iova + size - 1))
		return -EINVAL;
	return 0;
}

/*
 * Lock the container for making a mapping that may be made. Now and then that
 * takes page tables with another level, and nobody else in the container.
 */
static int dma_map_lock_new(struct backend *backend, u64 iova,
			    unsigned long vaddr, u64 size)
{
	u64 last = iova + size - 1;
	int ret;

	if (!size)
		return -EINVAL;
	for (;;) {
		ret = dma_map_lock(backend, iova, last, false);
		if (ret)
			return ret;
		ret = dma_map_may_create(backend, iova, vaddr, size);
		if (!ret && (last <= backend->reach ||
			     list_empty(&backend->domains)))
			return 0;
		dma_map_unlock(backend);
		if (ret)
			return ret;

		if (down_write_killable(&backend->domain_sem))
			return -EINTR;
		ret = dma_map_may_create(backend, iova, vaddr, size);
		if (!ret)
			ret = backend_extend(backend, last);
		up_write(&backend->domain_sem);
		if (ret)
			return ret;
	}
}

/**
 * dma_map_create - map user memory for the devices of a container
 * @backend: the container
 * @iova: the devices' address
 * @vaddr: user address, in the caller's address space
 * @size: bytes; the caller has seen that neither range wraps around
 * @prot: IOMMU_READ, IOMMU_WRITE
 *
 * Without an IOMMU domain in the container nothing is pinned yet.
 *
 * Context: Process context with an mm. May sleep for long.
 * Return: 0; -EINVAL for arguments that are misaligned or may not be mapped,
 *    -EEXIST, -ENOSPC beyond dma_entry_limit, -ENOMEM, -EINTR, or as
 *    map_range_map().
 */
int dma_map_create(struct backend *backend, u64 iova, unsigned long vaddr,
		   u64 size, int prot)
{
	struct dma_map *map;
	int ret;

	ret = dma_map_lock_new(backend, iova, vaddr, size);
	if (ret)
		return ret;
	map = dma_map_alloc(iova, vaddr, size, prot);
	if (!map) {
		ret = -ENOMEM;
		goto unlock;
	}
	dma_map_insert(backend, map);
	mutex_unlock(&backend->lock);

	if (!list_empty(&backend->domains))
		ret = dma_map_pin(map, &backend->target);
	if (!ret && backend->dirty_tracking) {
		ret = dirty_alloc(backend, map);
		if (ret)
			dma_map_undo(backend, map);
	}

	mutex_lock(&backend->lock);
	if (ret)
		dma_map_erase(backend, map);
	else
		map->state = DMA_MAP_LIVE;
	wake_up_all(&backend->wait);
unlock:
	dma_map_unlock(backend);
	return ret;
}

/* Charge the caller for a mapping instead of the process that it came from. */
static int dma_map_set_owner(struct dma_map *map)
{
	struct lockvm_owner owner = {
		.mm = current->mm,
		.task = current->group_leader,
		.cap = capable(CAP_IPC_LOCK),
	};
	int ret;

	if (owner.mm == map->owner.mm)
		return 0;
	ret = lockvm_charge(&owner, map->charged);
	if (ret)
		return ret;
	lockvm_uncharge(&map->owner, map->charged);

	get_task_struct(owner.task);
	put_task_struct(map->owner.task);
	mmgrab(owner.mm);
	mmdrop(map->owner.mm);
	map->owner = owner;
	return 0;
}

/**
 * dma_map_set_vaddr - give a mapping a new user address
 * @backend: the container
 * @iova: the mapping's address
 * @vaddr: the new user address of the same memory, in the caller's address space
 * @size: the mapping's size; the caller has seen that neither range wraps around
 *
 * Context: Process context with an mm. May sleep.
 * Return: 0; -ENOENT without a mapping, -EINVAL if it is another one or still
 *    has its user address, or as lockvm_charge().
 */
int dma_map_set_vaddr(struct backend *backend, u64 iova, unsigned long vaddr,
		      u64 size)
{
	struct dma_map *map;
	int ret;

	if (!size)
		return -EINVAL;
	ret = dma_map_lock(backend, iova, iova + size - 1, false);
	if (ret)
		return ret;
	ret = dma_map_check(backend, iova, vaddr, size);
	if (ret)
		goto unlock;
	map = dma_map_first(backend, iova, iova + size - 1);
	if (!map) {
		ret = -ENOENT;
	} else if (!map->vaddr_invalid || map->iova != iova ||
		   map->size != size) {
		ret = -EINVAL;
	} else {
		ret = dma_map_set_owner(map);
		if (!ret) {
			map->vaddr = vaddr;
			map->vaddr_invalid = false;
			backend->vaddr_invalid--;
		}
	}
unlock:
	dma_map_unlock(backend);
	return ret;
}

/* ---- UNMAP_DMA ---- */

static int dma_unmap_check(const struct backend *backend,
			   const struct dma_unmap *unmap)
{
	u64 pgsize = backend_pgsize(backend), last = dma_unmap_last(unmap);
	struct dma_map *map;

	/* Devices without an IOMMU use the user's address. */
	if (unmap->vaddr_only && !list_empty(&backend->emulated))
		return -EBUSY;
	if (unmap->iova & (pgsize - 1))
		return -EINVAL;
	if (unmap->all)
		return unmap->iova || unmap->size ? -EINVAL : 0;
	if (!unmap->size || unmap->size & (pgsize - 1))
		return -EINVAL;
	if (last < unmap->iova)
		return -COMPAT_EWRAP;
	if (unmap->report &&
	    (!backend->dirty_tracking || unmap->pgsize != pgsize))
		return -EINVAL;
	if (!backend->v2)
		return 0;

	/* No mapping may be cut. */
	map = dma_map_first(backend, unmap->iova, unmap->iova);
	if (map && map->iova != unmap->iova)
		return -EINVAL;
	map = dma_map_first(backend, last, last);
	if (map && dma_map_last(map) != last)
		return -EINVAL;
	return 0;
}

/*
 * The first mapping to unmap. The first version of the interface unmaps whole
 * mappings whose first address is in the range, and nothing if the range begins
 * within one.
 */
static struct dma_map *dma_unmap_first(const struct backend *backend,
				       const struct dma_unmap *unmap)
{
	struct dma_map *map = dma_map_first(backend, unmap->iova,
					    dma_unmap_last(unmap));

	return map && map->iova < unmap->iova ? NULL : map;
}

static int dma_unmap_vaddr(struct backend *backend,
			   const struct dma_unmap *unmap, u64 *unmapped)
{
	u64 last = dma_unmap_last(unmap);
	struct dma_map *map;

	for (map = dma_unmap_first(backend, unmap); map;
	     map = dma_map_next(map, last))
		if (map->vaddr_invalid)
			return -EINVAL;

	for (map = dma_unmap_first(backend, unmap); map;
	     map = dma_map_next(map, last)) {
		map->vaddr_invalid = true;
		backend->vaddr_invalid++;
		*unmapped += map->size;
	}
	return 0;
}

/* The first mapping from @from on that devices have pinned pages of. */
static struct dma_map *dma_unmap_pinned(const struct backend *backend,
					const struct dma_unmap *unmap, u64 from)
{
	u64 last = dma_unmap_last(unmap);
	struct dma_map *map = dma_unmap_first(backend, unmap);

	if (map && map->iova < from)
		map = dma_map_first(backend, from, last);
	while (map && xa_empty(&map->external))
		map = dma_map_next(map, last);
	return map;
}

/* Reserve the range, and take over what is to be unmapped in it. */
static void dma_unmap_reserve(struct backend *backend, struct dma_unmap *unmap)
{
	u64 last = dma_unmap_last(unmap);
	struct dma_map *map;

	list_add(&unmap->node, &backend->unmaps);
	for (map = dma_unmap_first(backend, unmap); map;
	     map = dma_map_next(map, last))
		map->state = DMA_MAP_UNMAPPING;
}

/* Give back the range, and what is left in it. */
static void dma_unmap_cancel(struct backend *backend, struct dma_unmap *unmap)
{
	u64 last = dma_unmap_last(unmap);
	struct dma_map *map;

	/* What begins in front, as it may in a v1 container, was not taken. */
	for (map = dma_map_first(backend, unmap->iova, last); map;
	     map = dma_map_next(map, last))
		if (map->iova >= unmap->iova)
			map->state = DMA_MAP_LIVE;
	list_del(&unmap->node);
	wake_up_all(&backend->wait);
}

/*
 * Devices still have pages of @map pinned. Tell them, with nothing locked,
 * because they call back. Returns with the locks held again. Mappings may have
 * gone in between, with the last group, but none has come.
 */
static void dma_unmap_notify(struct backend *backend, const struct dma_map *map)
{
	u64 iova = map->iova, size = map->size;

	dma_map_unlock(backend);
	external_notify_unmap(backend, iova, size);
	dma_map_lock_now(backend);
}

/*
 * Have devices unpin all that is to be unmapped. The range is reserved, so what
 * they have unpinned stays so.
 */
static int dma_unmap_wait_unpinned(struct backend *backend,
				   const struct dma_unmap *unmap)
{
	u64 told = unmap->iova;
	struct dma_map *map;
	int ret, tries = 0;

	while ((map = dma_unmap_pinned(backend, unmap, told))) {
		tries = map->iova == told ? tries + 1 : 1;
		told = map->iova;
		if (tries > DMA_MAP_NOTIFY_MAX) {
			pr_warn_ratelimited("a device does not unpin %#llx-%#llx\n",
					    map->iova, dma_map_last(map));
			return -EBUSY;
		}
		dma_unmap_notify(backend, map);
		/* Dirty tracking may have been stopped, for example. */
		ret = dma_unmap_check(backend, unmap);
		if (ret)
			return ret;
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}

/*
 * Lock the container with everything checked and, unless it is for user addresses
 * only, the range reserved and no page in it pinned by a device.
 */
static int dma_unmap_lock(struct backend *backend, struct dma_unmap *unmap)
{
	bool empty = !unmap->all && !unmap->size;
	int ret;

	ret = dma_map_lock(backend, empty ? 1 : unmap->iova,
			   empty ? 0 : dma_unmap_last(unmap), false);
	if (ret)
		return ret;
	ret = dma_unmap_check(backend, unmap);
	if (ret)
		goto unlock;
	if (unmap->vaddr_only)
		return 0;

	dma_unmap_reserve(backend, unmap);
	ret = dma_unmap_wait_unpinned(backend, unmap);
	if (!ret)
		return 0;
	dma_unmap_cancel(backend, unmap);
unlock:
	dma_map_unlock(backend);
	return ret;
}

/* Report the dirty pages of all that will be unmapped. */
static int dma_unmap_report(const struct backend *backend,
			    const struct dma_unmap *unmap)
{
	u64 last = dma_unmap_last(unmap);
	struct dma_map *map;
	int ret;

	for (map = dma_unmap_first(backend, unmap); map;
	     map = dma_map_next(map, last)) {
		ret = dirty_copy(backend, map, unmap->iova, unmap->bitmap);
		if (ret)
			return ret;
	}
	return 0;
}

static void dma_unmap_collect(const struct backend *backend,
			      const struct dma_unmap *unmap,
			      struct list_head *batch)
{
	u64 last = dma_unmap_last(unmap);
	struct dma_map *map;

	for (map = dma_unmap_first(backend, unmap); map;
	     map = dma_map_next(map, last))
		list_add_tail(&map->batch, batch);
}

/**
 * dma_map_remove - unmap
 * @backend: the container
 * @unmap: what to unmap
 * @unmapped: set to the number of bytes unmapped
 *
 * Context: Process context. May sleep for long.
 * Return: 0; -EBUSY, -EINVAL, -%COMPAT_EWRAP for a range that wraps around,
 *    -EFAULT for @unmap->bitmap, -EINTR; then nothing was unmapped.
 */
int dma_map_remove(struct backend *backend, struct dma_unmap *unmap,
		   u64 *unmapped)
{
	struct dma_map *map, *next;
	LIST_HEAD(batch);
	int ret;

	*unmapped = 0;
	ret = dma_unmap_lock(backend, unmap);
	if (ret)
		return ret;
	if (unmap->vaddr_only) {
		ret = dma_unmap_vaddr(backend, unmap, unmapped);
		goto unlock;
	}
	if (unmap->report)
		ret = dma_unmap_report(backend, unmap);
	if (ret) {
		dma_unmap_cancel(backend, unmap);
		goto unlock;
	}
	dma_unmap_collect(backend, unmap, &batch);
	mutex_unlock(&backend->lock);

	list_for_each_entry(map, &batch, batch)
		dma_map_undo(backend, map);

	mutex_lock(&backend->lock);
	list_for_each_entry_safe(map, next, &batch, batch) {
		*unmapped += map->size;
		dma_map_erase(backend, map);
	}
	dma_unmap_cancel(backend, unmap);
unlock:
	dma_map_unlock(backend);
	return ret;
}

/* ---- groups come and go ---- */

/**
 * dma_map_remove_all - unmap everything
 * @backend: the container
 *
 * Context: Process context. May sleep for long. domain_sem is held for writing.
 */
void dma_map_remove_all(struct backend *backend)
{
	struct dma_map *map;

	lockdep_assert_held_write(&backend->domain_sem);
	while ((map = dma_map_of(rb_first(&backend->maps)))) {
		external_drop_all(map);
		dma_map_undo(backend, map);
		dma_map_erase(backend, map);
	}
}

/*
 * What stays charged when a mapping is not pinned for an IOMMU any more: pages
 * that devices have pinned. With a domain in the container these are charged
 * with the rest, or not at all if they took the place of a zero page later.
 */
static void dma_map_charge_external(struct dma_map *map)
{
	const struct lockvm_owner *owner = &map->owner;

	if (map->charged > map->nr_external) {
		lockvm_uncharge(owner, map->charged - map->nr_external);
	} else if (map->charged < map->nr_external &&
		   mmget_not_zero(owner->mm)) {
		/* They are pinned already: too late for the limit. */
		lockvm_charge_anyway(owner, map->nr_external - map->charged);
		mmput(owner->mm);
	}
	map->charged = map->nr_external;
}

/* Unmap a mapping from a domain that is not the container's yet. */
static void dma_map_undo_copy(struct dma_map *map, const struct map_target *all)
{
	struct map_target tgt = dma_map_target(all, map);
	struct map_range range = dma_map_range(map, &tgt);

	unmap_interval(&range, range.vaddr, range.vaddr + range.size, false);
}

/* Undo dma_map_add_domain() for the mappings before @end. */
static void dma_map_undo_domain(struct backend *backend,
				const struct map_target *tgt,
				struct dma_map *end, bool copied)
{
	struct dma_map *map;

	for (map = dma_map_first(backend, 0, U64_MAX); map != end;
	     map = dma_map_next(map, U64_MAX)) {
		if (copied) {
			dma_map_undo_copy(map, tgt);
		} else {
			dma_map_unpin(map, tgt);
			dma_map_charge_external(map);
		}
	}
}

static int dma_map_copy(struct dma_map *map, const struct map_target *to,
			const struct map_target *from)
{
	struct map_target tgt = dma_map_target(to, map);
	struct map_range range = dma_map_range(map, &tgt);

	return map_range_copy(&range, from);
}

/**
 * dma_map_add_domain - map everything into another domain
 * @backend: the container, which does not have the domain yet
 * @domain: the domain, empty
 *
 * The first domain of a container makes its mappings be pinned.
 *
 * Context: Process context. May sleep for long. domain_sem is held for writing.
 * Return: 0; or an error as of map_range_map(), or -ENODEV if the process that
 *    made a mapping is gone and its memory is not pinned, with the domain empty
 *    and nothing pinned that was not before.
 */
int dma_map_add_domain(struct backend *backend, struct backend_domain *domain)
{
	struct map_target to = {
		.domains = &domain->domain,
		.nr = 1,
		.pgsizes = domain->domain->pgsize_bitmap,
		.whole = domain->whole,
	};
	bool copy = !list_empty(&backend->domains);
	struct dma_map *map;
	int ret = 0;

	lockdep_assert_held_write(&backend->domain_sem);
	for (map = dma_map_first(backend, 0, U64_MAX); map;
	     map = dma_map_next(map, U64_MAX)) {
		if (copy)
			ret = dma_map_copy(map, &to, &backend->target);
		else
			ret = dma_map_pin(map, &to);
		if (ret) {
			dma_map_undo_domain(backend, &to, map, copy);
			break;
		}
		cond_resched();
	}
	return ret;
}

/**
 * dma_map_drop_domains - unpin everything but what devices have pinned
 * @backend: the container, whose last domain is about to go
 *
 * Pages that devices have pinned themselves were charged once, with the rest.
 * Their charge stays.
 *
 * Context: Process context. May sleep for long. domain_sem is held for writing.
 */
void dma_map_drop_domains(struct backend *backend)
{
	struct dma_map *map;

	lockdep_assert_held_write(&backend->domain_sem);
	for (map = dma_map_first(backend, 0, U64_MAX); map;
	     map = dma_map_next(map, U64_MAX)) {
		dma_map_unpin(map, &backend->target);
		dma_map_charge_external(map);
		cond_resched();
	}
}
