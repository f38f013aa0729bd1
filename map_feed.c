// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_feed.c - feed pinned memory to IOMMU domains in few, large calls
 *
 * Runs come in from pinning, in order of address. They are merged into extents,
 * physically contiguous whatever they were pinned by, and mapped many extents a
 * call, so that the IOMMU driver synchronises once a call and not once a run.
 *
 * Seams
 * -----
 * An IOMMU driver uses the largest page sizes that fit the extent it is given.
 * If the range of one map is cut into chunks, and memory happens to be
 * physically contiguous across a cut, two calls could make small mappings where
 * one call would have made a large one, and the guest would pay with IOTLB
 * misses for the rest of its life. So the pieces next to a cut that could be
 * part of a larger IOMMU page are held back, and whoever made the chunks joins
 * them when all chunks are done. Almost always there is no such piece: a cut
 * aligned to the page size needs none, nor does memory whose physical address
 * and IOVA differ in their offset within the larger page.
 *
 * Within a chunk, the last extent stays pending until it is known where it ends,
 * for the same reason.
 *
 * Context: process context, may sleep.
 * Locking: a struct map_feed belongs to one thread. IOMMU drivers let several
 *    threads map disjoint ranges of a domain at once, as the DMA API does.
 */
#include <linux/iommu.h>
#include <linux/log2.h>
#include <linux/sched.h>

#include "include/compat.h"
#include "include/map_feed.h"

/* A scatterlist entry's length has 32 bits. */
#define MAP_SG_MAX	SZ_1G

static int map_prot(const struct map_target *tgt)
{
	return tgt->prot | IOMMU_CACHE;
}

/* Page by page: what disable_hugepages asks for. */
static int map_singly(const struct map_target *tgt, struct iommu_domain *domain,
		      unsigned long iova, unsigned long pfn, unsigned long nr)
{
	unsigned long i;
	int ret;

	for (i = 0; i < nr; i++) {
		ret = iommu_map(domain, iova + (i << PAGE_SHIFT),
				PFN_PHYS(pfn + i), PAGE_SIZE, map_prot(tgt),
				GFP_KERNEL_ACCOUNT);
		if (ret) {
			if (i)
				iommu_unmap(domain, iova, i << PAGE_SHIFT);
			return ret;
		}
		cond_resched();
	}
	return 0;
}

static int map_one(const struct map_target *tgt, struct iommu_domain *domain,
		   unsigned long iova, unsigned long pfn, unsigned long nr)
{
	if (unlikely(tgt->single))
		return map_singly(tgt, domain, iova, pfn, nr);
	return iommu_map(domain, iova, PFN_PHYS(pfn), nr << PAGE_SHIFT,
			 map_prot(tgt), GFP_KERNEL_ACCOUNT);
}

static void unmap_from(const struct map_target *tgt, unsigned int nr_domains,
		       unsigned long iova, unsigned long size)
{
	while (nr_domains--)
		iommu_unmap(tgt->domains[nr_domains], iova, size);
}

/**
 * map_target_map - map one extent into all domains
 * @tgt: the domains
 * @iova: where to
 * @pfn: first page
 * @nr: number of pages
 *
 * Context: Process context. May sleep.
 * Return: 0, or the IOMMU driver's error; then nothing is mapped.
 */
int map_target_map(const struct map_target *tgt, unsigned long iova,
		   unsigned long pfn, unsigned long nr)
{
	unsigned int i;
	int ret;

	for (i = 0; i < tgt->nr; i++) {
		ret = map_one(tgt, tgt->domains[i], iova, pfn, nr);
		if (ret) {
			unmap_from(tgt, i, iova, nr << PAGE_SHIFT);
			return ret;
		}
	}
	return 0;
}

static bool iova_contiguous(struct iommu_domain *domain, unsigned long iova)
{
	return iommu_iova_to_phys(domain, iova - PAGE_SIZE) + PAGE_SIZE ==
	       iommu_iova_to_phys(domain, iova);
}

/**
 * map_target_cut - find how a mapped range may be cut for unmapping
 * @tgt: the domains; all translate to the same memory
 * @iova: where a cut is wanted; mapped on both sides
 *
 * Unmapping a part of an IOMMU page unmaps the whole of it, so a cut must not
 * go through one. Where physical memory does not continue across the cut, or
 * not at the same offset within the larger page, there is none. With
 * @tgt->whole, a cut must not go through physically contiguous memory at all.
 *
 * Return: 0 if @iova can be cut at, else the size of a page that may be there;
 *    with @tgt->whole, of one that is not aligned at @iova.
 */
unsigned long map_target_cut(const struct map_target *tgt, unsigned long iova)
{
	struct iommu_domain *domain = tgt->domains[0];
	unsigned long align = iova & -iova;
	unsigned long larger = tgt->pgsizes & ~(align | (align - 1));

	if (tgt->whole)
		return iova_contiguous(domain, iova) ? align << 1 ? : align : 0;
	if (!larger)
		return 0;
	/* The smallest page that could reach across. */
	larger = 1UL << __ffs(larger);
	if (!iova_contiguous(domain, iova) ||
	    (iova ^ iommu_iova_to_phys(domain, iova)) & (larger - 1))
		return 0;
	return larger;
}

/**
 * map_feed_open - begin a chunk
 * @feed: the feed; @ext, @sg and @room are set
 * @tgt: where the chunk goes
 * @va: user address of the chunk
 * @to_iova: add to a user address to get its IOVA
 */
void map_feed_open(struct map_feed *feed, const struct map_target *tgt,
		   unsigned long va, unsigned long to_iova)
{
	feed->tgt = tgt;
	feed->to_iova = to_iova;
	feed->va = va;
	feed->end = va;
	feed->nr = 0;
	feed->unheld = false;
	feed->first = true;
	feed->head.nr = 0;
}

static unsigned long extent_size(const struct pin_extent *ext)
{
	return ext->nr << PAGE_SHIFT;
}

/*
 * The IOMMU page sizes, beyond the smallest, within which an extent's IOVA and
 * physical address have the same offset.
 */
static unsigned long seam_sizes(const struct map_feed *feed,
				const struct pin_extent *ext)
{
	unsigned long iova = ext->va + feed->to_iova;
	unsigned long differ = iova ^ PFN_PHYS(ext->pfn);
	unsigned long sizes = feed->tgt->pgsizes & PAGE_MASK & ~PAGE_SIZE;

	if (feed->tgt->single)
		return 0;
	/* A size of 1 << n needs the n lowest bits to agree. */
	return differ ? sizes & GENMASK(__ffs(differ), 0) : sizes;
}

/*
 * How much of an extent that begins with the chunk may belong to an IOMMU page
 * that begins before it. @whole: the extent goes on behind the chunk.
 */
static unsigned long seam_head(const struct map_feed *feed,
			       const struct pin_extent *ext, bool whole)
{
	unsigned long iova = ext->va + feed->to_iova, need, size;
	unsigned long sizes = seam_sizes(feed, ext);

	for (; sizes; sizes &= ~size) {
		size = 1UL << __fls(sizes);
		need = -iova & (size - 1);
		if (need && need <= extent_size(ext))
			return need;
		if (need && whole)
			return extent_size(ext);
	}
	return 0;
}

/* Likewise for an extent that ends with the chunk, and a page that ends after. */
static unsigned long seam_tail(const struct map_feed *feed,
			       const struct pin_extent *ext, bool whole)
{
	unsigned long end = ext->va + feed->to_iova + extent_size(ext);
	unsigned long sizes = seam_sizes(feed, ext), need, size;

	for (; sizes; sizes &= ~size) {
		size = 1UL << __fls(sizes);
		need = end & (size - 1);
		if (need && need <= extent_size(ext))
			return need;
		if (need && whole)
			return extent_size(ext);
	}
	return 0;
}

/* Move @size bytes from the front of @from to @to. */
static void extent_split(struct pin_extent *from, unsigned long size,
			 struct pin_extent *to)
{
	to->va = from->va;
	to->pfn = from->pfn;
	to->nr = size >> PAGE_SHIFT;
	from->va += size;
	from->pfn += to->nr;
	from->nr -= to->nr;
}

/*
 * Build the scatterlist for extents from @i on, as far as they have struct
 * pages and entries last. Returns the extent behind the last one that is in.
 * No more entries are initialised than are used: mostly there are few of them.
 */
static unsigned int feed_sg(struct map_feed *feed, unsigned int i,
			    unsigned int *nents)
{
	struct scatterlist *sg = feed->sg;
	unsigned int used = 0;

	for (; i < feed->nr; i++) {
		struct pin_extent *ext = &feed->ext[i];

		if (used == feed->room || extent_size(ext) > MAP_SG_MAX ||
		    (feed->unheld && !pfn_valid(ext->pfn)))
			break;
		sg[used] = (struct scatterlist){ };
		sg_set_page(&sg[used], pfn_to_page(ext->pfn),
			    extent_size(ext), 0);
		used++;
	}
	if (used)
		sg_mark_end(&sg[used - 1]);
	*nents = used;
	return i;
}

/* Map all pending extents into one domain. */
static int feed_map(struct map_feed *feed, struct iommu_domain *domain)
{
	const struct map_target *tgt = feed->tgt;
	unsigned int i = 0, next, nents;
	unsigned long iova;
	ssize_t mapped;
	int ret = 0;

	while (i < feed->nr && !ret) {
		iova = feed->ext[i].va + feed->to_iova;
		next = tgt->single ? i : feed_sg(feed, i, &nents);
		if (next > i + 1) {
			mapped = iommu_map_sg(domain, iova, feed->sg, nents,
					      map_prot(tgt),
					      GFP_KERNEL_ACCOUNT);
			/* 0: an error that the kernel's API has no room for */
			if (mapped <= 0)
				ret = mapped ? mapped : -ENOMEM;
		} else {
			/* Alone, large, or without struct pages. */
			ret = map_one(tgt, domain, iova, feed->ext[i].pfn,
				      feed->ext[i].nr);
			next = i + 1;
		}
		if (!ret)
			i = next;
	}
	if (ret && i)
		iommu_unmap(domain, feed->ext[0].va + feed->to_iova,
			    feed->ext[i].va - feed->ext[0].va);
	return ret;
}

/* Map all pending extents into all domains: all of them, or none. */
static int feed_flush(struct map_feed *feed)
{
	const struct map_target *tgt = feed->tgt;
	unsigned int i;
	int ret;

	if (!feed->nr)
		return 0;
	for (i = 0; i < tgt->nr; i++) {
		ret = feed_map(feed, tgt->domains[i]);
		if (ret) {
			unmap_from(tgt, i, feed->ext[0].va + feed->to_iova,
				   feed->end - feed->ext[0].va);
			return ret;
		}
		cond_resched();
	}
	feed->nr = 0;
	feed->unheld = false;
	feed->va = feed->end;
	feed->first = false;
	return 0;
}

/* Hold back the start of the chunk's first extent, if need be. */
static void feed_hold_head(struct map_feed *feed, bool whole)
{
	unsigned long size;

	if (!feed->first || !feed->open_left || !feed->nr)
		return;
	feed->first = false;
	size = seam_head(feed, &feed->ext[0], whole);
	if (!size)
		return;
	extent_split(&feed->ext[0], size, &feed->head);
	feed->va += size;
	if (!feed->ext[0].nr) {
		feed->nr--;
		memmove(feed->ext, feed->ext + 1,
			feed->nr * sizeof(*feed->ext));
	}
}

/* Append a run; false if it needs an extent of its own and there is no room. */
static bool feed_append(struct map_feed *feed, const struct pin_run *run)
{
	struct pin_extent *ext = feed->ext + feed->nr;

	if (feed->nr && ext[-1].pfn + ext[-1].nr == run->pfn) {
		ext[-1].nr += run->nr;
	} else {
		if (feed->nr == feed->room)
			return false;
		*ext = (struct pin_extent){ feed->end, run->pfn, run->nr };
		feed->nr++;
	}
	feed->unheld |= !run->held;
	feed->end += (unsigned long)run->nr << PAGE_SHIFT;
	return true;
}

/**
 * map_feed_add - feed runs
 * @feed: the feed
 * @runs: pinned runs that follow the ones fed before
 * @nr: number of runs
 * @taken: set to how many of them the feed has taken. Those before @feed->va
 *         are mapped, but for @feed->head; the others are in @feed->ext.
 *
 * Context: Process context. May sleep.
 * Return: 0 if all were taken, or the IOMMU driver's error.
 */
int map_feed_add(struct map_feed *feed, const struct pin_run *runs,
		 unsigned int nr, unsigned int *taken)
{
	unsigned int i;
	int ret;

	for (i = 0; i < nr; i++) {
		*taken = i;
		if (feed_append(feed, &runs[i]))
			continue;
		/* The last extent is known to end here. */
		feed_hold_head(feed, false);
		ret = feed_flush(feed);
		if (ret)
			return ret;
		feed_append(feed, &runs[i]);
	}
	*taken = nr;
	return 0;
}

/* Take the last @size bytes of the pending extents away. */
static void feed_hold_tail(struct map_feed *feed, unsigned long size,
			   struct pin_extent *tail)
{
	struct pin_extent *last = &feed->ext[feed->nr - 1];

	tail->nr = size >> PAGE_SHIFT;
	tail->va = feed->end - size;
	tail->pfn = last->pfn + last->nr - tail->nr;
	last->nr -= tail->nr;
	if (!last->nr)
		feed->nr--;
	feed->end -= size;
}

/**
 * map_feed_close - end a chunk: map what is pending, but for the seams
 * @feed: the feed. @feed->head is what was held back at the chunk's start.
 * @tail: set to what is held back at its end
 *
 * What is held back is pinned and must be mapped together with what continues
 * it in the neighbouring chunk, if anything does. @nr is 0 where nothing is. A
 * chunk that is held back as a whole is all @feed->head.
 *
 * Context: Process context. May sleep.
 * Return: 0, or the IOMMU driver's error; then what is not mapped is in
 *    @feed->ext, @feed->head and @tail.
 */
int map_feed_close(struct map_feed *feed, struct pin_extent *tail)
{
	bool only = feed->first && feed->nr == 1;
	unsigned long size;

	tail->nr = 0;
	feed_hold_head(feed, only && feed->open_right);
	if (feed->nr && feed->open_right) {
		size = seam_tail(feed, &feed->ext[feed->nr - 1],
				 only && feed->open_left);
		if (size)
			feed_hold_tail(feed, size, tail);
	}
	return feed_flush(feed);
}
