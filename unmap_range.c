// SPDX-License-Identifier: GPL-2.0-only
/*
 * unmap_range.c - unmap and unpin a range of user memory, on several threads
 *
 * A range is cut into chunks, and each chunk is undone by one thread, a batch
 * of extents at a time: find the pages behind the batch, unmap it in all
 * domains, synchronise the IOTLBs, and only then unpin.
 *
 * Cuts go neither through a leaf that was pinned as a whole nor through a page
 * of an IOMMU: unmapping a part of that would take away the whole of it, under
 * the nose of the thread that still has to find the pages behind the rest.
 * Batches end where physical memory is not contiguous, where there can be no
 * such page.
 *
 * Nothing here may fail: without memory for the plan or a batch, or without
 * helpers, it is merely slower.
 *
 * Context: process context, may sleep. Does not need the user's address space.
 * Locking: the caller keeps everyone else from the range, and from changing the
 *    set of domains.
 */
#include <linux/iommu.h>
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#include "include/compat.h"
#include "include/map_job.h"
#include "include/map_range.h"
#include "include/map_stat.h"
#include "include/vfio_mt_trace.h"

/* Extents in a batch: a batch is one call to the IOMMU driver, and one sync. */
#define UNMAP_EXTENTS		256

/* Extents for which no memory need be had. */
#define UNMAP_EXTENTS_MIN	16

/*
 * Bytes in a batch, about: not all IOMMU drivers count pages in 64 bits when
 * they flush, and nobody should wait for long.
 */
#define UNMAP_BATCH_SIZE	(64UL * SZ_1G)

/* So many pieces are looked up before others may run. */
#define UNMAP_RESCHED		256

/* A cut that would have to be moved further than this is not made. */
#define UNMAP_CUT_TRIES		16

/* Chunks per thread, so that threads finish at about the same time. */
#define UNMAP_CHUNKS		4

/* Rough costs in nanoseconds, to tell whether a helper pays. */
#define UNMAP_NS_PAGES		20000	/* a span of small pages */
#define UNMAP_NS_LEAF		200	/* a PMD leaf */
#define UNMAP_SAMPLES		16

/**
 * struct unmap_work - a range being unmapped
 * @range: the range
 * @cuts: user addresses: chunk i goes from @cuts[i] to @cuts[i + 1]
 */
struct unmap_work {
	const struct map_range *range;
	unsigned long *cuts;
};

/**
 * struct unmap_batch - extents that are unmapped together
 * @range: the range that they are of
 * @unpin: unpin them, too
 * @ext: the extents
 * @nr: how many
 * @room: how many there may be
 * @leaf: what all of them were pinned by, if huge and alike; else something less
 * @small: where @ext points as long as that suffices, or no memory is to be had
 */
struct unmap_batch {
	const struct map_range *range;
	bool unpin;
	struct pin_extent *ext;
	unsigned int nr;
	unsigned int room;
	enum pin_leaf leaf;
	struct pin_extent small[UNMAP_EXTENTS_MIN];
};

/*
 * For what can be done without: a killed process's memory may be what everybody
 * is waiting for.
 */
#define UNMAP_GFP		(GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN)

static struct kmem_cache *unmap_extents_cache;

/* With a constructor, for the same reason as in map_range.c. */
static void unmap_extents_ctor(void *extents)
{
	memset(extents, 0, UNMAP_EXTENTS * sizeof(struct pin_extent));
}

/**
 * unmap_range_module_init - create what all unmaps share
 *
 * Context: Module load. May sleep.
 * Return: 0, or -ENOMEM.
 */
int unmap_range_module_init(void)
{
	void *extents;

	unmap_extents_cache =
		kmem_cache_create("vfio_mt_unmap_extents",
				  UNMAP_EXTENTS * sizeof(struct pin_extent), 0,
				  0, unmap_extents_ctor);
	if (!unmap_extents_cache)
		return -ENOMEM;

	/* As in map_range.c: the first unmap is as quick as any other. */
	extents = kmem_cache_alloc(unmap_extents_cache,
				   GFP_KERNEL | __GFP_NOWARN);
	if (extents)
		kmem_cache_free(unmap_extents_cache, extents);
	return 0;
}

/**
 * unmap_range_module_exit - undo unmap_range_module_init()
 *
 * Context: Module unload; nothing is being unmapped.
 */
void unmap_range_module_exit(void)
{
	kmem_cache_destroy(unmap_extents_cache);
}

/* A range's first domain tells which pages are mapped; all have the same. */
static unsigned long unmap_pfn(struct iommu_domain *domain, unsigned long iova)
{
	phys_addr_t phys = iommu_iova_to_phys(domain, iova);

	WARN_ON_ONCE(!phys);
	return PHYS_PFN(phys);
}

static void unmap_batch_grow(struct unmap_batch *batch)
{
	struct pin_extent *ext;

	if (batch->ext != batch->small)
		return;
	ext = kmem_cache_alloc(unmap_extents_cache, UNMAP_GFP);
	if (!ext)
		return;
	memcpy(ext, batch->small, sizeof(batch->small));
	batch->ext = ext;
	batch->room = UNMAP_EXTENTS;
}

/* Is there room for another extent, or can it be made? */
static bool unmap_batch_has_room(struct unmap_batch *batch)
{
	if (likely(batch->nr < batch->room))
		return true;
	unmap_batch_grow(batch);
	return batch->nr < batch->room;
}

/*
 * How much of a range VT-d's driver will unmap in one step: pages of one of its
 * sizes, up to where larger ones begin. As the IOMMU core computes it. All of it
 * if this is no such driver: none of the sizes fits.
 */
static unsigned long unmap_step(unsigned long sizes, unsigned long iova,
				unsigned long size)
{
	unsigned long fit = sizes & GENMASK(__fls(size), 0), larger, offset;
	unsigned int shift;

	if (iova)
		fit &= GENMASK(__ffs(iova), 0);
	if (!fit)
		return size;
	shift = __fls(fit);
	larger = sizes & ~GENMASK(shift, 0);
	if (larger) {
		larger = 1UL << __ffs(larger);
		offset = larger - (iova & (larger - 1));
		if (offset < size && larger <= size - offset)
			size = offset;
	}
	return size >> shift << shift;
}

/*
 * Unmap from one domain, and synchronise. Returns how much was unmapped.
 *
 * Step by step, because VT-d's driver, when a second step makes it flush the
 * first, frees page tables of the second with it, before they are flushed. With
 * aligned memory there is one step, and a handful at worst.
 */
static unsigned long unmap_domain(struct iommu_domain *domain,
				  unsigned long iova, unsigned long size)
{
	unsigned long sizes = domain->pgsize_bitmap &
			      (PAGE_SIZE | PMD_SIZE | PUD_SIZE);
	struct iommu_iotlb_gather gather;
	unsigned long done = 0, step, got;

	while (done < size) {
		step = unmap_step(sizes, iova + done, size - done);
		iommu_iotlb_gather_init(&gather);
		got = iommu_unmap_fast(domain, iova + done, step, &gather);
		iommu_iotlb_sync(domain, &gather);
		done += got;
		if (got < step)
			break;
	}
	return done;
}

/* Unmap from all domains. Returns how much all of them have unmapped. */
static unsigned long unmap_domains(const struct map_range *range,
				   unsigned long iova, unsigned long size)
{
	const struct map_target *tgt = range->tgt;
	unsigned long done = size;
	unsigned int i;

	/* The first one last: it is asked for the pages of what is left. */
	for (i = tgt->nr; i-- > 0;) {
		done = min(done, unmap_domain(tgt->domains[i], iova, size));
		cond_resched();
	}

	/* Better to lose the pages than to let a device write to them. */
	WARN_ONCE(done != size,
		  "IOMMU unmapped %#lx of %#lx bytes at %#lx: pages lost\n",
		  done, size, iova);
	return done;
}

/* Unpin the batch's extents, as far as they lie within its first @done bytes. */
static void unmap_batch_unpin(const struct unmap_batch *batch,
			      unsigned long done)
{
	const struct map_range *range = batch->range;
	bool dirty = range->tgt->prot & IOMMU_WRITE;
	const struct pin_extent *ext = batch->ext;
	unsigned int nr = batch->nr;

	while (nr && ext[nr - 1].va - ext[0].va +
	       (ext[nr - 1].nr << PAGE_SHIFT) > done)
		nr--;
	if (batch->leaf >= PIN_LEAF_PMD) {
		pin_leaves_unpin(ext, nr, batch->leaf, dirty);
		return;
	}
	pin_record_unpin(range->record, ext, nr, dirty);
}

/* Unmap what the batch has, which ends at @end. */
static void unmap_batch_flush(struct unmap_batch *batch, unsigned long end)
{
	const struct map_range *range = batch->range;
	unsigned long va, done;

	if (!batch->nr)
		return;
	va = batch->ext[0].va;
	done = unmap_domains(range, va - range->vaddr + range->iova, end - va);
	if (batch->unpin) {
		unmap_batch_unpin(batch, done);
		pin_record_forget(range->record, va, end);
	}
	batch->nr = 0;
	cond_resched();
}

/* Should the batch end at @va, and can it? */
static bool unmap_batch_is_long(const struct unmap_batch *batch,
				unsigned long va)
{
	const struct map_range *range = batch->range;

	return batch->nr && va - batch->ext[0].va >= UNMAP_BATCH_SIZE &&
	       !map_target_cut(range->tgt, va - range->vaddr + range->iova);
}

/* Begin another extent behind the batch, unmapping that first if need be. */
static void unmap_batch_begin(struct unmap_batch *batch, unsigned long va,
			      unsigned long pfn, unsigned long nr,
			      enum pin_leaf leaf)
{
	if (!unmap_batch_has_room(batch))
		unmap_batch_flush(batch, va);
	if (!batch->nr)
		batch->leaf = leaf;
	else if (batch->leaf != leaf)
		batch->leaf = PIN_LEAF_NONE;
	batch->ext[batch->nr++] = (struct pin_extent){ va, pfn, nr };
}

/* Add what lies behind the batch. */
static void unmap_batch_add(struct unmap_batch *batch, unsigned long va,
			    unsigned long pfn, unsigned long nr,
			    enum pin_leaf leaf)
{
	struct pin_extent *ext = batch->ext + batch->nr;

	if (!batch->nr || ext[-1].pfn + ext[-1].nr != pfn) {
		unmap_batch_begin(batch, va, pfn, nr, leaf);
		return;
	}
	ext[-1].nr += nr;
	if (batch->leaf != leaf)
		batch->leaf = PIN_LEAF_NONE;
}

/*
 * Add small pages, which have to be looked up one by one. Where memory is
 * scattered, this is done for each page.
 */
static void unmap_batch_search(struct unmap_batch *batch, unsigned long va,
			       unsigned long end)
{
	const struct map_range *range = batch->range;
	struct iommu_domain *domain = range->tgt->domains[0];
	unsigned long to_iova = range->iova - range->vaddr;
	unsigned long pfn = unmap_pfn(domain, va + to_iova), next;
	struct pin_extent *ext;

	/* Whatever is added to the batch behind this does not change its leaf. */
	unmap_batch_add(batch, va, pfn, 1, PIN_LEAF_PTE);
	for (; (va += PAGE_SIZE) != end; pfn = next) {
		next = unmap_pfn(domain, va + to_iova);
		ext = batch->ext + batch->nr;
		if (next == pfn + 1) {
			ext[-1].nr++;
		} else if (likely(batch->nr < batch->room)) {
			*ext = (struct pin_extent){ va, next, 1 };
			batch->nr++;
		} else {
			unmap_batch_begin(batch, va, next, 1, PIN_LEAF_PTE);
		}
	}
}

/**
 * unmap_interval - unmap, and unpin, a part of a range on this thread
 * @range: the range
 * @va: user address; all from here
 * @end: to here is mapped. The ends are cuts as described above.
 * @unpin: drop the references as well
 *
 * What the record holds of small pages that were unpinned is forgotten.
 *
 * Context: Process context. May sleep.
 */
void unmap_interval(const struct map_range *range, unsigned long va,
		    unsigned long end, bool unpin)
{
	struct unmap_batch batch;
	unsigned int pieces = 0;
	struct pin_cursor cur;
	struct pin_run run;

	batch.range = range;
	batch.unpin = unpin;
	batch.nr = 0;
	batch.leaf = PIN_LEAF_NONE;
	batch.room = ARRAY_SIZE(batch.small);
	batch.ext = batch.small;

	pin_cursor_init(&cur, range->record, va, end, NULL, NULL);
	for (; pin_cursor_next(&cur, &run); va = cur.va) {
		if (unmap_batch_is_long(&batch, va))
			unmap_batch_flush(&batch, va);
		if (run.pfn == PIN_PFN_UNKNOWN && run.leaf < PIN_LEAF_PMD) {
			unmap_batch_search(&batch, va, cur.va);
			cond_resched();
			continue;
		}
		if (run.pfn == PIN_PFN_UNKNOWN)
			run.pfn = unmap_pfn(range->tgt->domains[0],
					    va - range->vaddr + range->iova);
		unmap_batch_add(&batch, va, run.pfn, run.nr, run.leaf);
		if (!(++pieces % UNMAP_RESCHED))
			cond_resched();
	}
	unmap_batch_flush(&batch, va);
	if (batch.ext != batch.small)
		kmem_cache_free(unmap_extents_cache, batch.ext);
}

static void unmap_work_fn(unsigned long start, unsigned long end, void *arg)
{
	struct unmap_work *work = arg;

	for (; start < end; start++)
		unmap_interval(work->range, work->cuts[start],
			       work->cuts[start + 1], true);
}

/* Estimate the work by looking at some of the spans. */
static u64 unmap_estimate_ns(const struct map_range *range)
{
	unsigned long step = max(range->size / UNMAP_SAMPLES, PIN_SPAN_SIZE);
	unsigned long off, samples = 0;
	u64 ns = 0;

	for (off = 0; off < range->size; off += step, samples++) {
		switch (pin_record_leaf(range->record, range->vaddr + off)) {
		case PIN_LEAF_PTE:
			ns += UNMAP_NS_PAGES;
			break;
		case PIN_LEAF_PMD:
			ns += UNMAP_NS_LEAF;
			break;
		default:
			break;
		}
	}
	return div64_u64(ns, samples) * (range->size >> PIN_SPAN_SHIFT);
}

/* How many threads the work is worth. */
static unsigned int unmap_threads(const struct map_range *range)
{
	unsigned long min_chunk = max(READ_ONCE(map_tune.min_chunk), 1U) *
				  (unsigned long)SZ_1M;
	unsigned int us = READ_ONCE(map_tune.helper_us);
	u64 worth = range->size / min_chunk;

	worth = min_t(u64, worth,
		      map_job_threads(READ_ONCE(map_tune.max_threads)));
	if (worth < 2)
		return 1;
	if (us)
		worth = min(worth, div64_u64(unmap_estimate_ns(range),
					     us * 1000ULL) + 1);
	return worth;
}

/* The first place from @va on, before @end, where a cut is harmless; or @end. */
static unsigned long unmap_cut(const struct map_range *range, unsigned long va,
			       unsigned long end)
{
	unsigned long to_iova = range->iova - range->vaddr, size;
	enum pin_leaf leaf;
	int i;

	for (i = 0; i < UNMAP_CUT_TRIES && va < end; i++) {
		leaf = pin_record_leaf(range->record, va);
		size = leaf == PIN_LEAF_PUD ? PUD_SIZE :
		       leaf == PIN_LEAF_PMD ? PMD_SIZE : PAGE_SIZE;
		if (!IS_ALIGNED(va, size)) {
			va = ALIGN(va, size);
			continue;
		}
		size = map_target_cut(range->tgt, va + to_iova);
		if (!size)
			return va;
		va = ALIGN(va + to_iova, size) - to_iova;
	}
	return end;
}

/* Plan chunks for @threads. Returns how many, or 0 without memory. */
static unsigned long unmap_plan(struct unmap_work *work, unsigned int threads)
{
	const struct map_range *range = work->range;
	unsigned long end = range->vaddr + range->size;
	unsigned long chunk, va = range->vaddr, nr = 0;

	chunk = round_up(range->size / (threads * UNMAP_CHUNKS),
			 PIN_SPAN_SIZE);
	work->cuts = kmalloc_array(range->size / chunk + 2,
				   sizeof(*work->cuts), UNMAP_GFP);
	if (!work->cuts)
		return 0;

	while (va < end) {
		work->cuts[nr++] = va;
		va = end - va > chunk ?
		     unmap_cut(range, round_up(va + chunk, PIN_SPAN_SIZE), end) :
		     end;
	}
	work->cuts[nr] = end;
	return nr;
}

/* Unmap a range. Returns how many threads worked on it. */
static unsigned int unmap_all(const struct map_range *range)
{
	struct unmap_work work = { .range = range };
	struct map_job_how how = { };
	struct padata_mt_job job = {
		.thread_fn = unmap_work_fn,
		.fn_arg = &work,
		.align = 1,
		.min_chunk = 1,
		.max_threads = unmap_threads(range),
	};
	unsigned int threads = 1;

	if (job.max_threads > 1)
		job.size = unmap_plan(&work, job.max_threads);
	if (job.size)
		threads = map_job_run(&job, &how);
	else
		unmap_interval(range, range->vaddr,
			       range->vaddr + range->size, true);
	kfree(work.cuts);
	return threads;
}

/**
 * map_range_unmap - unmap and unpin a range
 * @range: the range, all of which is mapped. Its record is of no use any more:
 *         the caller destroys it.
 *
 * Context: Process context. May sleep. Signals do not stop it.
 */
void map_range_unmap(const struct map_range *range)
{
	u64 begun = ktime_get_ns(), ns;
	unsigned int threads = unmap_all(range);

	ns = ktime_get_ns() - begun;
	trace_unmap(range->iova, range->size, threads, ns);
	map_stat_unmap(threads, ns);
}
