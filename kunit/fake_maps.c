// SPDX-License-Identifier: GPL-2.0-only
/*
 * fake_maps.c - a container with mappings, for the units that ask dma_map.c
 */
#include <kunit/test.h>
#include <linux/rbtree.h>

#include "fake.h"
#include "fake_maps.h"

static struct fake_maps *to_fake(const struct backend *backend)
{
	return container_of(backend, struct fake_maps, backend);
}

/**
 * fake_maps_create - make an empty container, which goes with the case
 * @test: the case
 *
 * Return: the container; the case ends if there is no memory.
 */
struct fake_maps *fake_maps_create(struct kunit *test)
{
	struct fake_maps *fm = kunit_kzalloc(test, sizeof(*fm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, fm);
	mutex_init(&fm->backend.device_lock);
	init_rwsem(&fm->backend.domain_sem);
	mutex_init(&fm->backend.lock);
	init_waitqueue_head(&fm->backend.wait);
	fm->backend.maps = RB_ROOT;
	fm->backend.pgsizes = PAGE_MASK;
	INIT_LIST_HEAD(&fm->backend.unmaps);
	INIT_LIST_HEAD(&fm->backend.waits);
	INIT_LIST_HEAD(&fm->backend.domains);
	INIT_LIST_HEAD(&fm->backend.emulated);
	INIT_LIST_HEAD(&fm->backend.devices);
	return fm;
}

/**
 * fake_maps_add - put a mapping into the container, behind the others
 * @fm: the container
 * @iova: its address
 * @size: its size in bytes
 *
 * Return: the mapping.
 */
struct dma_map *fake_maps_add(struct fake_maps *fm, u64 iova, u64 size)
{
	struct rb_node **link = &fm->backend.maps.rb_node, *parent = NULL;
	struct dma_map *map = &fm->maps[fm->nr];

	fm->pinned[fm->nr++] = -1;
	map->iova = iova;
	map->size = size;
	while (*link) {
		parent = *link;
		link = &parent->rb_right;
	}
	rb_link_node(&map->node, parent, link);
	rb_insert_color(&map->node, &fm->backend.maps);
	return map;
}

/* ---- dma_map.c ---- */

struct dma_map *dma_map_first(const struct backend *backend, u64 from, u64 last)
{
	struct fake_maps *fm = to_fake(backend);
	unsigned int i;

	for (i = 0; i < fm->nr; i++)
		if (dma_map_last(&fm->maps[i]) >= from &&
		    fm->maps[i].iova <= last)
			return &fm->maps[i];
	return NULL;
}

struct dma_map *dma_map_next(const struct dma_map *map, u64 last)
{
	struct rb_node *node = rb_next(&map->node);

	if (!node || rb_entry(node, struct dma_map, node)->iova > last)
		return NULL;
	return rb_entry(node, struct dma_map, node);
}

void dma_map_lock_now(struct backend *backend)
{
	if (to_fake(backend)->locked)
		fake_complain("the container is locked twice");
	to_fake(backend)->locked = true;
}

int dma_map_lock(struct backend *backend, u64 from, u64 last, bool device)
{
	struct fake_maps *fm = to_fake(backend);

	fm->lock_from = from;
	fm->lock_last = last;
	fm->lock_device = device;
	if (fm->lock_error)
		return fm->lock_error;
	dma_map_lock_now(backend);
	return 0;
}

void dma_map_unlock(struct backend *backend)
{
	if (!to_fake(backend)->locked)
		fake_complain("the container is not locked");
	to_fake(backend)->locked = false;
}

int dma_map_add_domain(struct backend *backend, struct backend_domain *domain)
{
	to_fake(backend)->added++;
	return to_fake(backend)->add_error;
}

void dma_map_drop_domains(struct backend *backend)
{
	to_fake(backend)->dropped++;
}

void dma_map_remove_all(struct backend *backend)
{
	to_fake(backend)->removed_all++;
}

/* ---- external.c ---- */

void external_mark_dirty(const struct backend *backend, struct dma_map *map)
{
	struct fake_maps *fm = to_fake(backend);
	s64 offset = fm->pinned[map - fm->maps];

	if (offset >= 0)
		dirty_mark(backend, map, offset, PAGE_SIZE);
}
