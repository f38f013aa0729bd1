// SPDX-License-Identifier: GPL-2.0-only
/*
 * dirty.c - which pages devices may have written to
 *
 * While dirty tracking is on, each mapping has a bitmap with a bit for every
 * page of the IOMMU's smallest size. A bit is set when a device pins the page or
 * writes to it through VFIO. Devices behind an IOMMU write without telling: as
 * long as there is a group that is not known to pin what it writes, everything
 * that is mapped for it is reported dirty.
 *
 * Reporting a bitmap clears it, but for the pages that are pinned by a device
 * just then: it may write to them again. Nothing is cleared before everything
 * asked for has reached the user.
 *
 * Context: process context, may sleep.
 * Locking: see backend.h. The bitmap of a mapping is a field of the mapping.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "include/backend.h"
#include "include/compat.h"

/* Words of a bitmap that are put together before they go to the user. */
#define DIRTY_COPY_WORDS	64

/**
 * dirty_bitmap_bytes - size of a bitmap
 * @nr_pages: number of bits
 *
 * Return: the number of bytes, in whole 64-bit words.
 */
u64 dirty_bitmap_bytes(u64 nr_pages)
{
	return ALIGN(nr_pages, BITS_PER_TYPE(u64)) / BITS_PER_BYTE;
}

static u64 dirty_bits(const struct backend *backend, const struct dma_map *map)
{
	return map->size / backend_pgsize(backend);
}

/**
 * dirty_alloc - give a mapping its bitmap, all clean
 * @backend: the container
 * @map: the mapping
 *
 * Context: Process context. May sleep. Nobody else uses @map->dirty.
 * Return: 0, -EINVAL if the mapping has more pages than the interface allows,
 *    or -ENOMEM.
 */
int dirty_alloc(const struct backend *backend, struct dma_map *map)
{
	u64 bits = dirty_bits(backend, map);

	if (bits > DIRTY_BITMAP_PAGES_MAX)
		return -EINVAL;
	map->dirty = kvzalloc(dirty_bitmap_bytes(bits), GFP_KERNEL_ACCOUNT);
	return map->dirty ? 0 : -ENOMEM;
}

/**
 * dirty_free - take the bitmap away
 * @map: the mapping, with a bitmap or without
 */
void dirty_free(struct dma_map *map)
{
	kvfree(map->dirty);
	map->dirty = NULL;
}

/**
 * dirty_mark - mark a part of a mapping dirty
 * @backend: the container
 * @map: the mapping; nothing happens if it has no bitmap
 * @offset: first byte
 * @size: number of bytes, not 0
 *
 * Context: lock or domain_sem for writing is held.
 */
void dirty_mark(const struct backend *backend, struct dma_map *map, u64 offset,
		u64 size)
{
	unsigned int shift = __ffs(backend->pgsizes);
	u64 first = offset >> shift;

	if (map->dirty)
		bitmap_set(map->dirty, first,
			   ((offset + size - 1) >> shift) - first + 1);
}

/**
 * dirty_start - start dirty tracking
 * @backend: the container
 *
 * Context: Process context. May sleep. domain_sem is held for writing.
 * Return: 0, also if it is on already, or as dirty_alloc().
 */
int dirty_start(struct backend *backend)
{
	struct dma_map *map;
	int ret;

	lockdep_assert_held_write(&backend->domain_sem);
	if (backend->dirty_tracking)
		return 0;
	for (map = dma_map_first(backend, 0, U64_MAX); map;
	     map = dma_map_next(map, U64_MAX)) {
		ret = dirty_alloc(backend, map);
		if (ret) {
			dirty_stop(backend);
			return ret;
		}
		external_mark_dirty(backend, map);
	}
	backend->dirty_tracking = true;
	return 0;
}

/**
 * dirty_stop - stop dirty tracking
 * @backend: the container; nothing happens if it is off
 *
 * Context: domain_sem is held for writing.
 */
void dirty_stop(struct backend *backend)
{
	struct dma_map *map;

	lockdep_assert_held_write(&backend->domain_sem);
	for (map = dma_map_first(backend, 0, U64_MAX); map;
	     map = dma_map_next(map, U64_MAX))
		dirty_free(map);
	backend->dirty_tracking = false;
}

/**
 * dirty_mark_all - mark everything dirty
 * @backend: the container
 *
 * For when a group goes that may have written anywhere.
 *
 * Context: domain_sem is held for writing.
 */
void dirty_mark_all(struct backend *backend)
{
	struct dma_map *map;

	lockdep_assert_held_write(&backend->domain_sem);
	for (map = dma_map_first(backend, 0, U64_MAX); map;
	     map = dma_map_next(map, U64_MAX))
		dirty_mark(backend, map, 0, map->size);
}

/**
 * struct dirty_view - the words of a bitmap as the user sees them
 * @bits: the bitmap; NULL for one with all bits set
 * @nr: number of bits
 * @shift: zero bits put in front
 */
struct dirty_view {
	const unsigned long *bits;
	u64 nr;
	unsigned int shift;
};

/* Word @i of the bitmap itself, clear behind its end. */
static u64 dirty_word(const struct dirty_view *view, u64 i)
{
	u64 first = i * BITS_PER_LONG, word;

	if (first >= view->nr)
		return 0;
	word = view->bits ? view->bits[i] : ~0ULL;
	if (view->nr - first < BITS_PER_LONG)
		word &= GENMASK_ULL(view->nr - first - 1, 0);
	return word;
}

/* Word @i of the shifted bitmap. */
static u64 dirty_view_word(const struct dirty_view *view, u64 i)
{
	u64 word = dirty_word(view, i) << view->shift;

	if (view->shift && i)
		word |= dirty_word(view, i - 1) >>
			(BITS_PER_LONG - view->shift);
	return word;
}

static int dirty_view_copy(const struct dirty_view *view, u64 __user *to)
{
	u64 words = dirty_bitmap_bytes(view->nr + view->shift) / sizeof(u64);
	u64 buf[DIRTY_COPY_WORDS], i, k, n, before;

	for (i = 0; i < words; i += n) {
		n = min_t(u64, words - i, DIRTY_COPY_WORDS);
		for (k = 0; k < n; k++)
			buf[k] = dirty_view_word(view, i + k);
		/* Some of its bits belong to what is mapped in front. */
		if (!i && view->shift) {
			if (get_user(before, to))
				return -EFAULT;
			buf[0] |= before;
		}
		if (copy_to_user(to + i, buf, n * sizeof(u64)))
			return -EFAULT;
		cond_resched();
	}
	return 0;
}

/**
 * dirty_copy - copy a mapping's bitmap to the user
 * @backend: the container
 * @map: the mapping, which has a bitmap
 * @base: address of the first bit of the user's bitmap
 * @bitmap: the user's bitmap
 *
 * Whole words are written, so bits behind the mapping are cleared. Where it does
 * not begin with a word, all bits that are set in its first word stay set: this
 * is how user space knows the interface.
 *
 * Context: Process context. May sleep. @map is locked.
 * Return: 0 or -EFAULT. The mapping's bitmap is as before.
 */
int dirty_copy(const struct backend *backend, const struct dma_map *map,
	       u64 base, u64 __user *bitmap)
{
	u64 first = (map->iova - base) >> __ffs(backend->pgsizes);
	struct dirty_view view = {
		.bits = map->dirty,
		.nr = dirty_bits(backend, map),
		.shift = first % BITS_PER_LONG,
	};

	if (backend->non_pinning && map->iommu_mapped)
		view.bits = NULL;
	return dirty_view_copy(&view, bitmap + first / BITS_PER_LONG);
}

/* Only pages that devices have pinned stay dirty. */
static void dirty_clear(const struct backend *backend, struct dma_map *map)
{
	bitmap_zero(map->dirty, dirty_bits(backend, map));
	external_mark_dirty(backend, map);
}

/**
 * dirty_get - report and clear the dirty pages of a range
 * @backend: the container
 * @iova: first address
 * @size: number of bytes, not 0; the range does not wrap around
 * @pgsize: bytes that a bit stands for
 * @bitmap: the user's bitmap
 *
 * Context: Process context. May sleep.
 * Return: 0; -EINVAL if tracking is off, @pgsize is not the smallest one, or the
 *    range cuts a mapping; -EFAULT, -EINTR. Nothing is cleared then.
 */
int dirty_get(struct backend *backend, u64 iova, u64 size, u64 pgsize,
	      u64 __user *bitmap)
{
	u64 last = iova + size - 1;
	struct dma_map *map;
	int ret;

	ret = dma_map_lock(backend, iova, last, false);
	if (ret)
		return ret;

	ret = -EINVAL;
	if (pgsize != backend_pgsize(backend) || (iova | size) & (pgsize - 1) ||
	    !backend->dirty_tracking)
		goto unlock;
	map = dma_map_first(backend, iova, iova);
	if (map && map->iova != iova)
		goto unlock;
	map = dma_map_first(backend, last, last);
	if (map && dma_map_last(map) != last)
		goto unlock;

	for (map = dma_map_first(backend, iova, last); map;
	     map = dma_map_next(map, last)) {
		ret = dirty_copy(backend, map, iova, bitmap);
		if (ret)
			goto unlock;
	}
	for (map = dma_map_first(backend, iova, last); map;
	     map = dma_map_next(map, last))
		dirty_clear(backend, map);
	ret = 0;
unlock:
	dma_map_unlock(backend);
	return ret;
}
