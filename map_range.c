// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_range.c - pin and map a range of user memory, on several threads
 *
 * A range is cut into chunks, larger ones first, so that threads finish at about
 * the same time. A chunk is done by one thread, batch by batch: pin, charge,
 * record, map. A chunk is done completely or not at all; the thread that fails
 * in one undoes that chunk itself.
 *
 * Cuts are made at user addresses, aligned to the leaf size of the memory: to a
 * PUD within 1 GiB hugetlb pages, to a PMD elsewhere, so that every huge leaf is
 * pinned by one thread in one piece. What that could do to the IOMMU's page
 * sizes, where IOVA and user address differ in alignment, is mended at the
 * seams: pieces held back by the chunks (map_feed.c) are joined and mapped at
 * the end.
 *
 * Errors
 * ------
 * The error returned is that of the lowest failing address, which is what a
 * single thread would have met: when a chunk fails, those behind it stop, those
 * before it go on. Chunks are handed out in order, so all of these have been
 * begun. Then all chunks that were done are undone, in parallel.
 *
 * A page that another thread holds a reference to, for the moment that pinning
 * takes, cannot be moved out of ZONE_MOVABLE or CMA memory. If the same page is
 * mapped twice, two threads could get into each other's way, and report a lack
 * of memory that one alone would not meet. So when pinning fails for want of
 * memory, what is left of the range is done over by the caller alone, a few
 * times, and only what fails then is final. It is also how a helper without
 * memory for its own use is made up for.
 *
 * When locked memory runs out while others charge to the same mm, they may be in
 * each other's way in the same manner (lockvm_cache.c): the whole map is undone
 * and, once, done over with nobody else charging.
 *
 * A copy maps what is pinned and mapped already into another domain. It is the
 * same work, except that runs come from the record and the first domain instead
 * of from pinning, and that there is nothing to charge or to unpin.
 *
 * Context: process context, may sleep. A fatal signal to the caller ends it.
 * Locking: the caller keeps everyone else from the range, and from changing the
 *    set of domains. work->lock protects the fields that say so; it is taken a
 *    few times a chunk.
 */
#include <linux/delay.h>
#include <linux/hugetlb.h>
#include <linux/iommu.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "include/compat.h"
#include "include/map_job.h"
#include "include/map_range.h"
#include "include/map_stat.h"
#include "include/pin_chunk.h"
#include "include/vfio_mt_trace.h"

struct map_tune map_tune = {
	.max_threads = 0,
	.lockvm_batch = 65536,
	.min_chunk = 16,
	.helper_us = 500,
};

/* Most pages pinned before they are mapped: bounds the wait for a stop. */
#define MAP_BATCH_PAGES		PIN_PUD_PAGES

/* So often is a page waited for that another thread holds for a moment. */
#define MAP_ATTEMPTS		3

/* Largest chunk: any larger one would only delay the end. */
#define MAP_CHUNK_MAX		PUD_SIZE

/* A chunk takes at most this part of a thread's share of what is left. */
#define MAP_CHUNK_SHARE		2

/* At the end of a range chunks take this part of what is worth a helper. */
#define MAP_CHUNK_LAST		4

/* Rough costs in nanoseconds, to tell whether a helper pays. */
#define MAP_NS_COLD		200000	/* a span to be faulted in and cleared */
#define MAP_NS_PAGES		40000	/* a span of small pages */
#define MAP_NS_LEAF		400	/* a PMD leaf */
#define MAP_SAMPLES		16

/**
 * struct map_chunk - a part of the range, and what became of it
 * @va: user address
 * @end: where it ends
 * @done: everything is pinned, and all but @head and @tail is mapped
 * @head: held back at the start; all of the chunk if it has the chunk's size
 * @tail: held back at the end
 * @charged: pages charged for it
 */
struct map_chunk {
	unsigned long va;
	unsigned long end;
	bool done;
	struct pin_extent head;
	struct pin_extent tail;
	unsigned long charged;
};

#define MAP_RUNS		(2 * PIN_SPAN_PAGES)
#define MAP_EXTENTS		128

/**
 * struct map_worker - what a thread needs to work on chunks
 * @node: in work->workers
 * @idx: number of the chunk being worked on; ULONG_MAX for none
 * @stop: give that chunk up
 * @cache: its locked_vm cache
 * @pins: what it has pinned, in chunks that were done
 * @pc: pins
 * @feed: maps
 * @pages: for pinning
 * @sg: for mapping, which is done at other times
 * @runs: for pinning
 * @ext: for mapping
 */
struct map_worker {
	struct list_head node;
	unsigned long idx;
	bool stop;
	struct lockvm_cache cache;
	struct map_stat_pins pins;
	struct pin_chunk pc;
	struct map_feed feed;
	union {
		struct page *pages[PIN_SPAN_PAGES];
		struct scatterlist sg[MAP_EXTENTS];
	};
	struct pin_run runs[MAP_RUNS];
	struct pin_extent ext[MAP_EXTENTS];
};

static struct kmem_cache *map_worker_cache;

/**
 * struct map_work - a range being mapped
 * @range: the range
 * @from: domains to copy from; NULL to pin
 * @in_process: to pin, helpers are threads of the calling process
 * @leaves: huge leaves may be pinned as a whole
 * @no_pool: helpers must not fault in memory from hugetlb's pools
 * @alone: nobody else may charge to the mm
 * @threads: most threads that may work on it
 * @estimate: how long it takes, in nanoseconds; 0 if nobody wanted to know
 * @sum: what it comes to
 * @chunks: the chunks in order
 * @nr: how many
 * @pool: what is charged
 * @lock: protects @workers, their @idx and @stop, @fail, @error, @soft, @killed
 * @workers: one for each thread that ever worked on it
 * @fail: number of the first chunk that failed; ULONG_MAX for none
 * @error: its error
 * @soft: another attempt by the caller alone may succeed
 * @killed: a fatal signal hit the caller
 */
struct map_work {
	const struct map_range *range;
	const struct map_target *from;
	bool in_process;
	bool leaves;
	bool no_pool;
	bool alone;
	unsigned int threads;
	u64 estimate;
	struct map_stat_sum *sum;
	struct map_chunk *chunks;
	unsigned long nr;
	struct lockvm_pool pool;
	spinlock_t lock;
	struct list_head workers;
	unsigned long fail;
	int error;
	bool soft;
	bool killed;
};

/* ---- workers ---- */

/*
 * Workers are large, and most of what is in them is written before it is read.
 * A cache with a constructor keeps a kernel with init_on_alloc, as Debian's are,
 * from clearing them each time: a virtual IOMMU maps single pages a lot.
 */
static void map_worker_ctor(void *worker)
{
	memset(worker, 0, sizeof(struct map_worker));
}

/**
 * map_range_module_init - create what all maps share
 *
 * Context: Module load. May sleep.
 * Return: 0, or -ENOMEM.
 */
int map_range_module_init(void)
{
	void *worker;

	map_worker_cache = kmem_cache_create("vfio_mt_map_worker",
					     sizeof(struct map_worker), 0, 0,
					     map_worker_ctor);
	if (!map_worker_cache)
		return -ENOMEM;

	/* So that the first map finds a slab whose pages are cleared. */
	worker = kmem_cache_alloc(map_worker_cache, GFP_KERNEL | __GFP_NOWARN);
	if (worker)
		kmem_cache_free(map_worker_cache, worker);
	return 0;
}

/**
 * map_range_module_exit - undo map_range_module_init()
 *
 * Context: Module unload; nothing is being mapped.
 */
void map_range_module_exit(void)
{
	kmem_cache_destroy(map_worker_cache);
}

/*
 * Eight pages in a row are not worth waiting for, let alone somebody's life:
 * without __GFP_NORETRY, as few as that call for the OOM killer.
 */
static struct map_worker *map_worker_alloc(void)
{
	struct map_worker *worker;

	worker = kmem_cache_alloc(map_worker_cache,
				  GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
	if (!worker)
		worker = __vmalloc(sizeof(*worker), GFP_KERNEL | __GFP_NOWARN);
	if (!worker)
		return NULL;
	worker->idx = 0;
	worker->stop = false;
	worker->pins = (struct map_stat_pins){ };
	worker->pc.pages = worker->pages;
	worker->pc.max_pages = ARRAY_SIZE(worker->pages);
	worker->pc.runs = worker->runs;
	worker->pc.max_runs = ARRAY_SIZE(worker->runs);
	worker->feed.ext = worker->ext;
	worker->feed.sg = worker->sg;
	worker->feed.room = ARRAY_SIZE(worker->ext);
	return worker;
}

static void map_worker_free(struct map_worker *worker)
{
	if (is_vmalloc_addr(worker))
		vfree(worker);
	else
		kmem_cache_free(map_worker_cache, worker);
}

/* Get an idle worker, or make one. */
static struct map_worker *map_worker_get(struct map_work *work)
{
	struct map_worker *worker;

	spin_lock(&work->lock);
	list_for_each_entry(worker, &work->workers, node) {
		if (worker->idx == ULONG_MAX) {
			worker->idx = 0;
			spin_unlock(&work->lock);
			return worker;
		}
	}
	spin_unlock(&work->lock);

	worker = map_worker_alloc();
	if (!worker)
		return NULL;
	lockvm_cache_open(&worker->cache, &work->pool);
	spin_lock(&work->lock);
	list_add(&worker->node, &work->workers);
	spin_unlock(&work->lock);
	return worker;
}

static void map_worker_put(struct map_work *work, struct map_worker *worker)
{
	spin_lock(&work->lock);
	worker->idx = ULONG_MAX;
	spin_unlock(&work->lock);
}

/* Begin a chunk, unless there is no point in it any more. */
static bool map_worker_begin(struct map_work *work, struct map_worker *worker,
			     unsigned long idx)
{
	bool stop;

	spin_lock(&work->lock);
	stop = work->killed || idx > work->fail;
	worker->idx = idx;
	worker->stop = stop;
	spin_unlock(&work->lock);
	/* By now others may have set it. */
	return !stop;
}

/* A chunk failed: those behind it need not be done. */
static void map_work_fail(struct map_work *work, unsigned long idx, int error,
			  bool soft)
{
	struct map_worker *worker;

	spin_lock(&work->lock);
	if (idx < work->fail) {
		work->fail = idx;
		work->error = error;
		work->soft = soft;
		list_for_each_entry(worker, &work->workers, node)
			if (worker->idx > idx)
				WRITE_ONCE(worker->stop, true);
	}
	spin_unlock(&work->lock);
}

static void map_work_kill(void *arg)
{
	struct map_work *work = arg;
	struct map_worker *worker;

	spin_lock(&work->lock);
	work->killed = true;
	list_for_each_entry(worker, &work->workers, node)
		WRITE_ONCE(worker->stop, true);
	spin_unlock(&work->lock);
}

/* ---- one chunk ---- */

/* How many pages of the current batch are charged already. */
static unsigned long map_batch_charged(const struct map_range *range,
				       const struct pin_chunk *pc)
{
	unsigned long off = pc->va - (pc->nr_pages << PAGE_SHIFT) -
			    range->vaddr;
	unsigned long charged = 0;
	unsigned int i;

	for (i = 0; i < pc->nr_runs; i++) {
		/* Others are not charged, whoever pinned what was there before. */
		if (pc->runs[i].held)
			charged += range->charged(range->arg, off,
						  pc->runs[i].nr);
		off += (unsigned long)pc->runs[i].nr << PAGE_SHIFT;
	}
	return charged;
}

/* How many pages of the current batch have to be charged. */
static unsigned long map_batch_charge(const struct map_work *work,
				      const struct pin_chunk *pc)
{
	unsigned long charged = 0;

	if (work->range->charged)
		charged = map_batch_charged(work->range, pc);
	return pc->nr_account - min(charged, pc->nr_account);
}

/* Charge and record the pinned batch, or drop it. */
static int map_batch_keep(struct map_work *work, struct map_worker *worker,
			  struct map_chunk *chunk)
{
	struct pin_chunk *pc = &worker->pc;
	unsigned long charge = map_batch_charge(work, pc);
	unsigned long va = pc->va - (pc->nr_pages << PAGE_SHIFT);
	int ret;

	ret = lockvm_cache_charge(&worker->cache, charge);
	if (ret)
		goto drop;
	ret = pin_record_add(work->range->record, va, pc->runs, pc->nr_runs);
	if (ret)
		goto uncharge;
	chunk->charged += charge;
	return 0;

uncharge:
	lockvm_cache_uncharge(&worker->cache, charge);
drop:
	pin_chunk_drop(pc);
	return ret;
}

/* Drop the runs of the current batch that the feed has not taken. */
static void map_batch_drop(struct pin_chunk *pc, unsigned int taken)
{
	while (pc->nr_runs > taken)
		pin_run_unpin(&pc->runs[--pc->nr_runs], pc->write);
}

/* The next batch of runs: pinned, charged and recorded; or read. */
static int map_pin_batch(struct map_work *work, struct map_worker *worker,
			 struct map_chunk *chunk)
{
	int ret;

	worker->pc.batch = max(lockvm_cache_room(&worker->cache,
						 MAP_BATCH_PAGES), 1UL);
	ret = pin_chunk_fill(&worker->pc);
	if (ret > 0)
		ret = map_batch_keep(work, worker, chunk) ? : ret;
	else if (ret == -ENOMEM || ret == -EAGAIN || ret == -EBUSY)
		map_work_fail(work, worker->idx, ret, true);
	return ret;
}

static unsigned long map_copy_pfn(void *arg, unsigned long va)
{
	const struct map_work *work = arg;
	const struct map_range *range = work->range;

	return PHYS_PFN(iommu_iova_to_phys(work->from->domains[0],
					   va - range->vaddr + range->iova));
}

static int map_copy_batch(struct map_worker *worker, struct pin_cursor *cur)
{
	struct pin_chunk *pc = &worker->pc;
	struct pin_run *run;

	pc->nr_runs = 0;
	while (pc->nr_runs < pc->max_runs) {
		if (READ_ONCE(worker->stop) || fatal_signal_pending(current))
			return -EINTR;
		run = &pc->runs[pc->nr_runs];
		if (!pin_cursor_next(cur, run))
			break;
		/* Never let a device have page 0 instead of what it had. */
		if (WARN_ON_ONCE(!run->pfn))
			return -EIO;
		pc->nr_runs++;
	}
	cond_resched();
	return pc->nr_runs;
}

/* Undo what a chunk has mapped, and what it has pending or held back. */
static void map_chunk_undo(struct map_work *work, struct map_chunk *chunk,
			   unsigned long mapped_end,
			   const struct pin_extent *pending, unsigned int nr)
{
	const struct map_range *range = work->range;
	unsigned long va = chunk->va + (chunk->head.nr << PAGE_SHIFT);
	bool dirty = range->tgt->prot & IOMMU_WRITE, unpin = !work->from;

	if (va < mapped_end)
		unmap_interval(range, va, mapped_end, unpin);
	if (!unpin)
		return;
	if (chunk->head.nr)
		pin_record_unpin(range->record, &chunk->head, 1, dirty);
	if (chunk->tail.nr)
		pin_record_unpin(range->record, &chunk->tail, 1, dirty);
	pin_record_unpin(range->record, pending, nr, dirty);
	pin_record_clear(range->record, chunk->va, chunk->end);
}

static void map_chunk_open(struct map_work *work, struct map_worker *worker,
			   struct map_chunk *chunk)
{
	const struct map_range *range = work->range;
	struct pin_chunk *pc = &worker->pc;

	pc->mm = range->owner.mm;
	pc->va = chunk->va;
	pc->end = chunk->end;
	pc->write = range->tgt->prot & IOMMU_WRITE;
	pc->leaves = work->leaves;
	pc->no_pool = work->no_pool && current->flags & PF_KTHREAD;
	pc->stop = &worker->stop;
	pc->leaf = PIN_LEAF_NONE;
	pc->pfns.nr = 0;
	pc->count = (struct map_stat_pins){ };
	pc->error = 0;

	worker->feed.open_left = chunk != work->chunks;
	worker->feed.open_right = chunk != work->chunks + work->nr - 1;
	map_feed_open(&worker->feed, range->tgt, chunk->va,
		      range->iova - range->vaddr);
}

static int map_chunk_do(struct map_work *work, struct map_worker *worker,
			struct map_chunk *chunk)
{
	struct map_feed *feed = &worker->feed;
	struct pin_chunk *pc = &worker->pc;
	struct pin_cursor cur;
	unsigned int taken;
	int ret;

	map_chunk_open(work, worker, chunk);
	if (work->from)
		pin_cursor_init(&cur, work->range->record, chunk->va,
				chunk->end, map_copy_pfn, work);

	for (;;) {
		ret = work->from ? map_copy_batch(worker, &cur) :
				   map_pin_batch(work, worker, chunk);
		if (ret <= 0)
			break;
		ret = map_feed_add(feed, pc->runs, pc->nr_runs, &taken);
		if (ret) {
			if (!work->from)
				map_batch_drop(pc, taken);
			break;
		}
	}
	chunk->tail.nr = 0;
	if (!ret)
		ret = map_feed_close(feed, &chunk->tail);
	chunk->head = feed->head;
	if (!ret) {
		map_stat_pins_add(&worker->pins, &pc->count);
		return 0;
	}

	/* Undoing takes its time. Nobody need begin another batch meanwhile. */
	if (fatal_signal_pending(current))
		map_work_kill(work);
	map_chunk_undo(work, chunk, feed->va, feed->ext, feed->nr);
	lockvm_cache_uncharge(&worker->cache, chunk->charged);
	chunk->charged = 0;
	return ret;
}

/* Do a chunk, and have it seen by whoever listens. */
static int map_chunk_traced(struct map_work *work, struct map_worker *worker,
			    struct map_chunk *chunk)
{
	bool traced = trace_chunk_enabled();
	u64 begun = traced ? ktime_get_ns() : 0;
	int ret = map_chunk_do(work, worker, chunk);

	if (traced)
		trace_chunk(chunk->va, chunk->end - chunk->va, ret,
			    ktime_get_ns() - begun);
	return ret;
}

static void map_work_chunk(struct map_work *work, unsigned long idx)
{
	struct map_worker *worker = map_worker_get(work);
	int ret;

	if (!worker) {
		map_work_fail(work, idx, -ENOMEM, true);
		return;
	}
	if (map_worker_begin(work, worker, idx)) {
		ret = map_chunk_traced(work, worker, &work->chunks[idx]);
		if (ret)
			map_work_fail(work, idx, ret, false);
		else
			work->chunks[idx].done = true;
	}
	map_worker_put(work, worker);
}

static void map_work_fn(unsigned long start, unsigned long end, void *arg)
{
	struct map_work *work = arg;

	for (; start < end; start++)
		map_work_chunk(work, start);
}

/* ---- the plan ---- */

/* Estimate the work by looking at some of the spans. */
static u64 map_estimate_ns(const struct map_work *work)
{
	const struct map_range *range = work->range;
	unsigned long step = max(range->size / MAP_SAMPLES, PIN_SPAN_SIZE);
	unsigned long off, pfn, samples = 0;
	enum pin_leaf leaf;
	u64 ns = 0;

	for (off = 0; off < range->size; off += step, samples++) {
		leaf = work->from ?
		       pin_record_leaf(range->record, range->vaddr + off) :
		       pin_leaf_at(range->owner.mm, range->vaddr + off, false,
				   &pfn);
		if (leaf == PIN_LEAF_NONE)
			ns += MAP_NS_COLD;
		else if (leaf == PIN_LEAF_PTE)
			ns += MAP_NS_PAGES;
		else if (leaf == PIN_LEAF_PMD)
			ns += MAP_NS_LEAF;
	}
	return div64_u64(ns, samples) * (range->size >> PIN_SPAN_SHIFT);
}

/* Does any of the range come from a pool of huge pages? */
static bool map_has_hugetlb(const struct map_work *work)
{
	struct mm_struct *mm = work->range->owner.mm;
	struct vm_area_struct *vma;
	struct vma_iterator vmi;
	bool has = false;
	unsigned long va;

	/* Who is killed needs no helpers. */
	if (mmap_read_lock_killable(mm))
		return true;
	va = untagged_addr_remote(mm, work->range->vaddr);
	vma_iter_init(&vmi, mm, va);
	for_each_vma_range(vmi, vma, va + work->range->size) {
		has = is_vm_hugetlb_page(vma);
		if (has)
			break;
	}
	mmap_read_unlock(mm);
	return has;
}

/* How many threads the work is worth; also whose they are. */
static unsigned int map_threads(struct map_work *work)
{
	unsigned long min_chunk = max(READ_ONCE(map_tune.min_chunk), 1U) *
				  (unsigned long)SZ_1M;
	unsigned int us = READ_ONCE(map_tune.helper_us);
	u64 worth = work->range->size / min_chunk;

	worth = min_t(u64, worth,
		      map_job_threads(READ_ONCE(map_tune.max_threads)));
	if (worth < 2)
		return 1;
	if (us) {
		work->estimate = map_estimate_ns(work);
		worth = min(worth, div64_u64(work->estimate, us * 1000ULL) + 1);
	}
	if (worth < 2)
		return 1;
	work->in_process = !work->from &&
			   map_job_is_in_process(work->range->owner.mm);
	/* Others may still put such memory there: helpers leave it to the caller. */
	work->no_pool = !work->from && !work->in_process &&
			!map_job_charges_hugetlb();
	return work->no_pool && map_has_hugetlb(work) ? 1 : worth;
}

/*
 * The least that a chunk has, of which @most is enough: threads wait for the one that has
 * the last chunk. That costs less than a helper does; of cold memory, it is little.
 */
static unsigned long map_least_chunk(const struct map_work *work,
				     unsigned long most)
{
	u64 ns = READ_ONCE(map_tune.helper_us) * 1000ULL, least;

	if (work->estimate <= ns)
		return most;
	least = mul_u64_u64_div_u64(work->range->size, ns / MAP_CHUNK_LAST,
				    work->estimate);
	return clamp_t(u64, round_up(least, PIN_SPAN_SIZE), PIN_SPAN_SIZE,
		       most);
}

/* Where a cut wanted at @va goes: on a leaf boundary. */
static unsigned long map_cut(const struct map_work *work, unsigned long va)
{
	unsigned long size = PIN_SPAN_SIZE;
	struct vm_area_struct *vma;
	struct mm_struct *mm;

	if (work->from) {
		if (pin_record_leaf(work->range->record, va) == PIN_LEAF_PUD)
			size = PUD_SIZE;
	} else {
		mm = work->range->owner.mm;
		vma = vma_lookup(mm, untagged_addr_remote(mm, va));
		if (vma && is_vm_hugetlb_page(vma))
			size = max(size, huge_page_size(hstate_vma(vma)));
	}
	return round_up(va, size);
}

static unsigned long map_chunk_size(const struct map_work *work,
				    unsigned long left, unsigned long min_chunk)
{
	unsigned long chunk = left / (work->threads * MAP_CHUNK_SHARE);

	return clamp(round_up(chunk, PIN_SPAN_SIZE), min_chunk,
		     MAP_CHUNK_MAX);
}

/* Cut the range into chunks; returns how many. @chunks may be NULL: count. */
static unsigned long map_cut_all(const struct map_work *work,
				 unsigned long min_chunk,
				 struct map_chunk *chunks, unsigned long room)
{
	const struct map_range *range = work->range;
	unsigned long va = range->vaddr, end = va + range->size, next, nr = 0;
	struct mm_struct *mm = work->from ? NULL : range->owner.mm;

	if (mm)
		mmap_read_lock(mm);
	while (va < end) {
		next = va + map_chunk_size(work, end - va, min_chunk);
		if (next < end)
			next = map_cut(work, next);
		/* Memory areas may change between counting and cutting. */
		if (next >= end || nr + 1 == room)
			next = end;
		if (chunks) {
			chunks[nr].va = va;
			chunks[nr].end = next;
		}
		nr++;
		va = next;
		cond_resched();
	}
	if (mm)
		mmap_read_unlock(mm);
	return nr;
}

/* Plan the chunks. Without memory for a plan, there is one. */
static void map_plan(struct map_work *work, struct map_chunk *single)
{
	unsigned long min_chunk = max(READ_ONCE(map_tune.min_chunk), 2U) *
				  (unsigned long)SZ_1M;
	unsigned long nr;

	min_chunk = clamp(round_up(min_chunk, PIN_SPAN_SIZE), PIN_SPAN_SIZE,
			  MAP_CHUNK_MAX);
	work->threads = map_threads(work);
	if (work->threads > 1) {
		min_chunk = map_least_chunk(work, min_chunk);
		nr = map_cut_all(work, min_chunk, NULL, ULONG_MAX);
		work->chunks = kvcalloc(nr, sizeof(*work->chunks),
					GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
		if (work->chunks) {
			work->nr = map_cut_all(work, min_chunk, work->chunks,
					       nr);
			return;
		}
	}
	work->threads = 1;
	work->chunks = single;
	work->nr = 1;
	single->va = work->range->vaddr;
	single->end = single->va + work->range->size;
}

/* ---- seams ---- */

/* Map, or unmap again, a piece joined from what chunks held back. */
static int map_piece(const struct map_work *work, const struct pin_extent *piece,
		     bool map)
{
	const struct map_range *range = work->range;
	const struct map_target *tgt = range->tgt;
	unsigned long iova = piece->va - range->vaddr + range->iova;
	unsigned int i;

	cond_resched();
	if (map)
		return map_target_map(tgt, iova, piece->pfn, piece->nr);
	for (i = 0; i < tgt->nr; i++)
		iommu_unmap(tgt->domains[i], iova, piece->nr << PAGE_SHIFT);
	return 0;
}

static bool extent_continues(const struct pin_extent *ext,
			     const struct pin_extent *next)
{
	return ext->nr && ext->pfn + ext->nr == next->pfn &&
	       ext->va + (ext->nr << PAGE_SHIFT) == next->va;
}

/*
 * Join what was held back across cuts, and map it. With @upto less than the
 * number of pieces, unmap that many again. Returns the number of pieces that
 * are mapped, all if there was no error.
 */
static unsigned long map_seams(struct map_work *work, bool map,
			       unsigned long upto, int *error)
{
	struct pin_extent cur = { };
	unsigned long i, pieces = 0;
	struct map_chunk *chunk;
	struct pin_extent *ext;
	int side;

	*error = 0;
	for (i = 0; i < work->nr; i++) {
		chunk = &work->chunks[i];
		for (side = 0; side < 2; side++) {
			ext = side ? &chunk->tail : &chunk->head;
			if (!ext->nr)
				continue;
			if (extent_continues(&cur, ext)) {
				cur.nr += ext->nr;
				continue;
			}
			if (cur.nr) {
				if (pieces == upto)
					return pieces;
				*error = map_piece(work, &cur, map);
				if (*error)
					return pieces;
				pieces++;
			}
			cur = *ext;
		}
	}
	if (cur.nr && pieces < upto) {
		*error = map_piece(work, &cur, map);
		if (!*error)
			pieces++;
	}
	return pieces;
}

static int map_join(struct map_work *work)
{
	unsigned long pieces;
	int ret, ignored;

	pieces = map_seams(work, true, ULONG_MAX, &ret);
	if (ret)
		map_seams(work, false, pieces, &ignored);
	return ret;
}

/* ---- the whole ---- */

static void map_undo_fn(unsigned long start, unsigned long end, void *arg)
{
	struct map_work *work = arg;
	struct map_chunk *chunk;

	for (; start < end; start++) {
		chunk = &work->chunks[start];
		if (chunk->done)
			map_chunk_undo(work, chunk, chunk->end -
				       (chunk->tail.nr << PAGE_SHIFT), NULL, 0);
		chunk->done = false;
	}
}

static unsigned long map_chunks_done(const struct map_work *work)
{
	unsigned long idx, done = 0;

	for (idx = 0; idx < work->nr; idx++)
		done += work->chunks[idx].done;
	return done;
}

/* Undo the chunks that were done. */
static void map_undo(struct map_work *work, int error)
{
	struct map_job_how how = { };
	struct padata_mt_job job = {
		.thread_fn = map_undo_fn,
		.fn_arg = work,
		.size = work->nr,
		.align = 1,
		.min_chunk = 1,
		.max_threads = work->threads,
	};

	if (trace_undo_enabled())
		trace_undo(work->range->iova, map_chunks_done(work), error);
	map_job_run(&job, &how);
}

/* What failed for want of memory, the caller may be able to do alone. */
static void map_again(struct map_work *work)
{
	unsigned long idx;
	int attempt;

	work->threads = 1;
	for (attempt = 0; attempt < MAP_ATTEMPTS; attempt++) {
		map_stat_add(MAP_STAT_SOFT_RETRIES, 1);
		work->fail = ULONG_MAX;
		work->error = 0;
		for (idx = 0; idx < work->nr && !work->error; idx++)
			if (!work->chunks[idx].done)
				map_work_chunk(work, idx);
		if (!work->error || !work->soft ||
		    fatal_signal_pending(current))
			break;
		usleep_range(500, 1000);
	}
}

static int map_work_run(struct map_work *work)
{
	struct map_job_how how = {
		.mm = work->from ? NULL : work->range->owner.mm,
		.in_process = work->in_process,
		.kill = map_work_kill,
	};
	struct padata_mt_job job = {
		.thread_fn = map_work_fn,
		.fn_arg = work,
		.size = work->nr,
		.align = 1,
		.min_chunk = 1,
		.max_threads = work->threads,
	};
	int ret;

	work->sum->threads = map_job_run(&job, &how);
	if (work->error && work->soft && !work->killed)
		map_again(work);
	ret = work->error;
	/* Killed before any chunk could say so. */
	if (!ret && (work->killed || fatal_signal_pending(current)))
		ret = -EINTR;
	if (!ret)
		ret = map_join(work);
	if (ret)
		map_undo(work, ret);
	return ret;
}

static int map_work_charging(struct map_work *work)
{
	struct map_stat_sum *sum = work->sum;
	struct map_worker *worker, *next;
	struct map_chunk single = { };
	int ret = 0;

	/* A copy charges nothing. */
	if (!work->from)
		ret = lockvm_pool_take_turn(&work->pool, work->alone);
	if (!ret) {
		map_plan(work, &single);
		sum->planned = work->threads;
		trace_map_begin(work->range->vaddr, work->range->iova,
				work->range->size, work->threads, work->nr,
				work->from);
		ret = map_work_run(work);
	}
	if (ret)
		lockvm_pool_cancel(&work->pool);
	else
		lockvm_pool_close(&work->pool);

	list_for_each_entry_safe(worker, next, &work->workers, node) {
		if (!ret)
			map_stat_pins_add(&sum->pins, &worker->pins);
		map_worker_free(worker);
	}
	if (work->chunks != &single)
		kvfree(work->chunks);
	return ret;
}

static int map_work_open(struct map_work *work)
{
	const struct map_range *range = work->range;

	spin_lock_init(&work->lock);
	INIT_LIST_HEAD(&work->workers);
	work->fail = ULONG_MAX;
	work->leaves = !range->tgt->single;
	return lockvm_pool_open(&work->pool, &range->owner,
				READ_ONCE(map_tune.lockvm_batch),
				range->size >> PAGE_SHIFT);
}

static int map_work_all(struct map_work *work)
{
	return map_work_open(work) ? : map_work_charging(work);
}

/* Map; @again: it may succeed with nobody else charging. */
static int map_range_try(const struct map_range *range, bool alone,
			 struct map_stat_sum *sum, unsigned long *charged,
			 bool *again)
{
	struct map_work work = { .range = range, .alone = alone, .sum = sum };
	int ret = map_work_all(&work);

	if (alone)
		map_stat_add(MAP_STAT_ALONE_RETRIES, 1);
	*charged = work.pool.used;
	*again = ret == -ENOMEM && work.pool.crowded;
	return ret;
}

/* A map that began at @begun is over. */
static void map_range_over(const struct map_range *range,
			   struct map_stat_sum *sum, u64 begun, int error)
{
	const struct map_stat_pins *pins = &sum->pins;
	unsigned int limit = READ_ONCE(map_tune.max_threads);

	sum->ns = ktime_get_ns() - begun;
	if (!error)
		sum->ptes = (range->size >> PAGE_SHIFT) - pins->unheld -
			    pins->pmds * PIN_SPAN_PAGES -
			    pins->puds * PIN_PUD_PAGES;
	trace_map_end(range->iova, sum, error, false);
	map_stat_map(sum, error);
	if (!error && unlikely(sum->ns > MAP_STAT_SLOW_NS))
		map_stat_tell_slow(sum, map_job_is_throttled(range->owner.mm),
				   map_job_lacks_cpus(sum->planned, limit));
}

/**
 * map_range_map - pin, charge and map a range
 * @range: the range; its record is initialised and empty
 * @charged: set to the number of pages charged
 *
 * Context: Process context. May sleep.
 * Return: 0; or an error, with nothing pinned, charged or mapped:
 *    -EFAULT: memory is not there, or not with the access asked for,
 *    -ENOMEM: no memory, or RLIMIT_MEMLOCK does not allow it,
 *    -EINTR: a fatal signal,
 *    or the IOMMU driver's.
 */
int map_range_map(const struct map_range *range, unsigned long *charged)
{
	struct map_stat_sum sum = { .size = range->size };
	u64 begun = ktime_get_ns();
	bool again;
	int ret;

	*charged = 0;
	/* No user memory: pinning would say so, but the plan comes first. */
	if (!access_ok((void __user *)untagged_addr(range->vaddr),
		       range->size))
		return -EFAULT;

	ret = map_range_try(range, false, &sum, charged, &again);
	if (again)
		ret = map_range_try(range, true, &sum, charged, &again);
	map_range_over(range, &sum, begun, ret);
	return ret;
}

/**
 * map_range_copy - map a range that is pinned and mapped into other domains
 * @range: the range, and the domains to map it into
 * @from: the domains it is mapped into
 *
 * Context: Process context. May sleep.
 * Return: 0; or an error, with nothing mapped into the new domains: -EINTR, -EIO
 *    if a page is not found any more, or the IOMMU driver's.
 */
int map_range_copy(const struct map_range *range,
		   const struct map_target *from)
{
	struct map_stat_sum sum = { .size = range->size };
	struct map_work work = { .range = range, .from = from, .sum = &sum };
	u64 begun = ktime_get_ns();
	int ret = map_work_all(&work);

	sum.ns = ktime_get_ns() - begun;
	trace_map_end(range->iova, &sum, ret, true);
	map_stat_copy(&sum, ret);
	return ret;
}
