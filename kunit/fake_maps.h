/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fake_maps.h - a container with mappings, for the units that ask dma_map.c
 *
 * The tree is a real one; what dma_map.c and external.c do beyond finding
 * mappings is noted, and no more.
 */
#ifndef VFIO_MT_KUNIT_FAKE_MAPS_H
#define VFIO_MT_KUNIT_FAKE_MAPS_H

#include <linux/types.h>

#include "../include/backend.h"

/* The most mappings of a case. */
#define FAKE_MAPS	6

/**
 * struct fake_maps - the container
 * @backend: what the units get to see
 * @maps: the mappings, in order of IOVA
 * @nr: how many
 * @pinned: by mapping, offset of a page that a device has pinned, or -1
 * @removed_all: calls of dma_map_remove_all()
 * @dropped: calls of dma_map_drop_domains()
 * @added: domains that dma_map_add_domain() was called for
 * @add_error: what it returns
 * @lock_error: what dma_map_lock() returns
 * @lock_from: the range that it was called for last
 * @lock_last: likewise
 * @lock_device: and whether a device asked
 * @locked: it or dma_map_lock_now() was called, and dma_map_unlock() was not
 */
struct fake_maps {
	struct backend backend;
	struct dma_map maps[FAKE_MAPS];
	unsigned int nr;
	s64 pinned[FAKE_MAPS];
	unsigned int removed_all;
	unsigned int dropped;
	unsigned int added;
	int add_error;
	int lock_error;
	u64 lock_from;
	u64 lock_last;
	bool lock_device;
	bool locked;
};

struct fake_maps *fake_maps_create(struct kunit *test);
struct dma_map *fake_maps_add(struct fake_maps *fm, u64 iova, u64 size);

#endif /* VFIO_MT_KUNIT_FAKE_MAPS_H */
