/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * map_feed.h - feed pinned memory to IOMMU domains in few, large calls
 */
#ifndef VFIO_MT_MAP_FEED_H
#define VFIO_MT_MAP_FEED_H

#include <linux/scatterlist.h>
#include <linux/types.h>

#include "pin_record.h"

struct iommu_domain;

/**
 * struct map_target - the domains that a mapping goes to
 * @domains: the domains
 * @nr: how many; at least 1
 * @prot: IOMMU_READ, IOMMU_WRITE
 * @pgsizes: page sizes that any of the domains can map
 * @single: map page by page (the disable_hugepages parameter)
 * @whole: what was mapped by one call may have to be unmapped by one call
 */
struct map_target {
	struct iommu_domain **domains;
	unsigned int nr;
	int prot;
	unsigned long pgsizes;
	bool single;
	bool whole;
};

/**
 * struct map_feed - one chunk's way into the IOMMU
 * @tgt: where it goes
 * @to_iova: add to a user address to get its IOVA
 * @open_left: the chunk continues one before it
 * @open_right: a chunk after it continues it
 * @va: everything before is mapped, but for @head
 * @end: where the pending extents end
 * @ext: the pending extents; pinned, recorded, not mapped
 * @nr: how many
 * @room: how many there may be
 * @unheld: some may be without struct pages, since no reference is held
 * @sg: scratch space for @room entries
 * @first: nothing was mapped yet
 * @head: what was held back at the chunk's start, see map_feed_close()
 */
struct map_feed {
	const struct map_target *tgt;
	unsigned long to_iova;
	bool open_left;
	bool open_right;
	unsigned long va;
	unsigned long end;
	struct pin_extent *ext;
	unsigned int nr;
	unsigned int room;
	bool unheld;
	struct scatterlist *sg;
	bool first;
	struct pin_extent head;
};

void map_feed_open(struct map_feed *feed, const struct map_target *tgt,
		   unsigned long va, unsigned long to_iova);
int map_feed_add(struct map_feed *feed, const struct pin_run *runs,
		 unsigned int nr, unsigned int *taken);
int map_feed_close(struct map_feed *feed, struct pin_extent *tail);

int map_target_map(const struct map_target *tgt, unsigned long iova,
		   unsigned long pfn, unsigned long nr);
unsigned long map_target_cut(const struct map_target *tgt, unsigned long iova);

#endif /* VFIO_MT_MAP_FEED_H */
