/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * map_range.h - map and unmap a range of user memory, on several threads
 */
#ifndef VFIO_MT_MAP_RANGE_H
#define VFIO_MT_MAP_RANGE_H

#include <linux/types.h>

#include "lockvm_cache.h"
#include "map_feed.h"
#include "pin_record.h"

/**
 * struct map_tune - what the administrator can set
 * @max_threads: most threads that work on one job, 1 for none but the caller,
 *               0 to choose
 * @lockvm_batch: most pages of locked memory that a thread charges in advance
 * @min_chunk: least number of MiB for which another thread is used
 * @helper_us: least number of microseconds of work, by a rough estimate, for
 *             which another thread is used; 0 to use them regardless
 * @disable_hugepages: map every page on its own, with the IOMMU's smallest pages
 *
 * Each may change at any time; a job reads it once, at its start.
 */
struct map_tune {
	unsigned int max_threads;
	unsigned int lockvm_batch;
	unsigned int min_chunk;
	unsigned int helper_us;
	bool disable_hugepages;
};

extern struct map_tune map_tune;

/**
 * struct map_range - a range of user memory and where it goes
 * @vaddr: user address
 * @iova: the device's address
 * @size: bytes
 * @owner: whose memory it is, and whom it is charged to. The caller keeps the
 *         mm's users count elevated; map_range_unmap() does not need that.
 * @record: what is pinned
 * @tgt: the IOMMU domains
 * @charged: tells how many of @nr pages from @offset bytes into the range on
 *           are charged already; NULL if none are. May be called from several
 *           threads at once.
 * @arg: argument of @charged
 */
struct map_range {
	unsigned long vaddr;
	unsigned long iova;
	unsigned long size;
	struct lockvm_owner owner;
	struct pin_record *record;
	const struct map_target *tgt;
	unsigned long (*charged)(void *arg, unsigned long offset,
				 unsigned long nr);
	void *arg;
};

int map_range_module_init(void);
void map_range_module_exit(void);
int unmap_range_module_init(void);
void unmap_range_module_exit(void);

int map_range_map(const struct map_range *range, unsigned long *charged);
int map_range_copy(const struct map_range *range,
		   const struct map_target *from);
void map_range_unmap(const struct map_range *range);

void unmap_interval(const struct map_range *range, unsigned long va,
		    unsigned long end, bool unpin);

#endif /* VFIO_MT_MAP_RANGE_H */
