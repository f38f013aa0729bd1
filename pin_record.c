// SPDX-License-Identifier: GPL-2.0-only
/*
 * pin_record.c - what is pinned in one mapping, and by which references
 *
 * Unpinning must drop exactly the references that pinning took. One reference
 * may stand for a page, for what a PMD maps or for what a PUD maps (pin_chunk.c
 * says when), and the page tables may have changed since: so it is recorded.
 *
 * The record is small, because it lives as long as the mapping:
 *  - Two bits for each span (PMD_SIZE of user address space, aligned): 128 KiB
 *    for 1 TiB. That is all for huge leaves. Their pfns are not recorded; the
 *    IOMMU knows them.
 *  - For a span pinned page by page, its runs, 8 bytes each, so that unmap need
 *    not ask the IOMMU for every page. One run lives in the xarray's slot
 *    itself. A span with more than FRAG_MAX_RUNS runs keeps none, and its pfns
 *    are asked for page by page: at most 512 bytes for 2 MiB, 0.025 %, however
 *    fragmented the memory is. Of such a span only the pages that are mapped
 *    without a reference are remembered, in a bitmap, if there are any.
 *
 * Small pages are unpinned, and those that nothing else holds are freed, several
 * at a time: see struct pin_release.
 *
 * Terms: a run is physically contiguous and pinned alike; a piece is what a
 * cursor yields, at most a run; an extent is physically contiguous, however it
 * was pinned.
 *
 * Addresses here are user addresses as they were when the memory was pinned.
 * VFIO_DMA_MAP_FLAG_VADDR may give the mapping another address later; the
 * record keeps the old one, which decides where the leaves lie.
 *
 * Context: process context; pin_record_init() and pin_record_add() allocate.
 * Locking: while a mapping is being pinned, each span has one writer, the
 *    thread that pins the chunk it lies in (chunks are cut at span boundaries).
 *    States of neighbouring spans share a word, so they are set atomically;
 *    @frags has the xarray's lock. Nobody reads before all writers are done,
 *    except a writer its own spans.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "include/compat.h"
#include "include/pin_record.h"

/* So many huge leaves are unpinned before others may run: microseconds. */
#define PIN_RESCHED		64

/*
 * So many pages are freed together: release_pages() of 6.1 lets go of its locks
 * after 32, that of later kernels takes 31 at a time.
 */
#define PIN_RELEASE_PAGES	31

#define STATE_BITS		2
#define STATES_PER_WORD		(BITS_PER_LONG / STATE_BITS)
#define SPANS_PER_PUD		(PUD_SIZE / PIN_SPAN_SIZE)

/* struct pin_frag and this many runs fill FRAG_BYTES. */
#define FRAG_BYTES		480
#define FRAG_MAX_RUNS		((FRAG_BYTES - sizeof(struct pin_frag)) / \
				 sizeof(u64))
/* Up to here kmalloc() wastes little; above, it would take 512 bytes. */
#define FRAG_SMALL_RUNS		((256 - sizeof(struct pin_frag)) / sizeof(u64))

/**
 * struct pin_frag - a span pinned page by page, in more than one run
 * @nr: number of runs; 0 if there were too many of them
 * @run: the runs in order of address, encoded by frag_encode(); or, with @nr
 *       0, a bitmap of the span's pages that are mapped without a reference
 */
struct pin_frag {
	u64 nr;
	u64 run[];
};

static struct kmem_cache *frag_cache;

/* A run within a span: pages - 1 in 9 bits on x86, then held, then the pfn. */
#define FRAG_NR_BITS		(PIN_SPAN_SHIFT - PAGE_SHIFT)
#define FRAG_NR_MASK		((1UL << FRAG_NR_BITS) - 1)
#define FRAG_HELD		(1UL << FRAG_NR_BITS)
#define FRAG_PFN_SHIFT		(FRAG_NR_BITS + 1)

static u64 frag_encode(const struct pin_run *run)
{
	return ((u64)run->pfn << FRAG_PFN_SHIFT) |
	       (run->held ? FRAG_HELD : 0) | (run->nr - 1);
}

static void frag_decode(u64 code, struct pin_run *run)
{
	run->pfn = code >> FRAG_PFN_SHIFT;
	run->nr = (code & FRAG_NR_MASK) + 1;
	run->held = code & FRAG_HELD;
	run->leaf = PIN_LEAF_PTE;
}

static struct pin_frag *frag_alloc(unsigned int nr)
{
	struct pin_frag *frag;

	if (nr > FRAG_SMALL_RUNS)
		frag = kmem_cache_alloc(frag_cache, GFP_KERNEL_ACCOUNT);
	else
		frag = kmalloc(struct_size(frag, run, nr), GFP_KERNEL_ACCOUNT);
	if (frag)
		frag->nr = nr;
	return frag;
}

static void frag_free(struct pin_frag *frag)
{
	if (frag->nr > FRAG_SMALL_RUNS)
		kmem_cache_free(frag_cache, frag);
	else
		kfree(frag);
}

/**
 * pin_record_module_init - create what all records share
 *
 * Context: Module load. May sleep.
 * Return: 0, or -ENOMEM.
 */
int pin_record_module_init(void)
{
	frag_cache = kmem_cache_create("vfio_mt_pin_frag", FRAG_BYTES,
				       sizeof(u64), 0, NULL);
	return frag_cache ? 0 : -ENOMEM;
}

/**
 * pin_record_module_exit - undo pin_record_module_init()
 *
 * Context: Module unload; no record exists.
 */
void pin_record_module_exit(void)
{
	kmem_cache_destroy(frag_cache);
}

/*
 * kvcalloc() would round large ones up to a power of two: up to twice the size. With
 * 5-level page tables, users can ask for more than 2 GiB.
 */
static atomic_long_t *record_alloc_states(unsigned long nr_words)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN;
	atomic_long_t *states;

	if (nr_words * sizeof(*states) > PAGE_SIZE)
		return __vcalloc(nr_words, sizeof(*states), gfp);
	return kcalloc(nr_words, sizeof(*states), gfp);
}

/**
 * pin_record_init - make an empty record
 * @rec: the record; zeroed or destroyed before
 * @vaddr: user address of the mapping, page-aligned
 * @size: its size in bytes, a multiple of the page size, not 0
 *
 * A mapping of at most %STATES_PER_WORD spans costs no allocation: users of a
 * virtual IOMMU make many thousands of these.
 *
 * Context: Process context. May sleep.
 * Return: 0, or -ENOMEM.
 */
int pin_record_init(struct pin_record *rec, unsigned long vaddr, size_t size)
{
	unsigned long last = (vaddr + size - 1) >> PIN_SPAN_SHIFT;

	rec->vaddr = vaddr;
	rec->first = vaddr >> PIN_SPAN_SHIFT;
	atomic_long_set(&rec->inline_state, 0);
	xa_init_flags(&rec->frags, XA_FLAGS_ACCOUNT);

	if (last - rec->first < STATES_PER_WORD) {
		rec->states = &rec->inline_state;
		rec->nr_words = 1;
		return 0;
	}

	/* Whole words for whole PUDs: see record_set_pud(). */
	rec->first = round_down(rec->first, STATES_PER_WORD);
	rec->nr_words = (last - rec->first) / STATES_PER_WORD + 1;
	rec->states = record_alloc_states(rec->nr_words);
	return rec->states ? 0 : -ENOMEM;
}

/* The slot of a span holds a run, a struct pin_frag, or nothing. */
static void record_free_entry(void *entry)
{
	if (entry && !xa_is_value(entry))
		frag_free(entry);
}

/**
 * pin_record_destroy - free what a record occupies
 * @rec: the record; one that is zeroed or was never filled is fine
 *
 * The references themselves are not dropped.
 *
 * Context: Process context. Nobody else uses @rec.
 */
void pin_record_destroy(struct pin_record *rec)
{
	unsigned long idx;
	void *entry;

	if (!rec->states)
		return;
	xa_for_each(&rec->frags, idx, entry) {
		record_free_entry(entry);
		cond_resched();
	}
	xa_destroy(&rec->frags);
	if (rec->states != &rec->inline_state)
		kvfree(rec->states);
	rec->states = NULL;
}

static unsigned long record_span(const struct pin_record *rec, unsigned long va)
{
	return (va >> PIN_SPAN_SHIFT) - rec->first;
}

static enum pin_leaf record_get(const struct pin_record *rec,
				unsigned long span)
{
	long word = atomic_long_read(&rec->states[span / STATES_PER_WORD]);

	return (word >> (span % STATES_PER_WORD * STATE_BITS)) &
	       ((1 << STATE_BITS) - 1);
}

static void record_set(struct pin_record *rec, unsigned long span,
		       enum pin_leaf leaf)
{
	atomic_long_or((long)leaf << (span % STATES_PER_WORD * STATE_BITS),
		       &rec->states[span / STATES_PER_WORD]);
}

static void record_unset(struct pin_record *rec, unsigned long span)
{
	long mask = (1 << STATE_BITS) - 1;

	atomic_long_andnot(mask << (span % STATES_PER_WORD * STATE_BITS),
			   &rec->states[span / STATES_PER_WORD]);
}

/*
 * All spans of a PUD leaf, so that any of them tells that the leaf must not be
 * cut. In a mapping large enough to hold one, the first state's span number is
 * a multiple of STATES_PER_WORD, and so is that of a PUD: its words are its own.
 */
static void record_set_pud(struct pin_record *rec, unsigned long span)
{
	unsigned long word;

	BUILD_BUG_ON(PIN_LEAF_PUD != (1 << STATE_BITS) - 1);
	BUILD_BUG_ON(SPANS_PER_PUD % STATES_PER_WORD);
	for (word = 0; word < SPANS_PER_PUD / STATES_PER_WORD; word++)
		atomic_long_set(&rec->states[span / STATES_PER_WORD + word],
				-1L);
}

/*
 * Runs that are too many to keep: only which pages hold no reference, and
 * nothing at all where all do.
 */
static struct pin_frag *frag_from_many(const struct pin_run *runs,
				       unsigned int nr, unsigned int first_page,
				       bool *needed)
{
	unsigned int page = first_page, i;
	struct pin_frag *frag;

	*needed = false;
	for (i = 0; i < nr; i++)
		if (!runs[i].held)
			*needed = true;
	if (!*needed)
		return NULL;

	frag = kzalloc(sizeof(*frag) + BITS_TO_LONGS(PIN_SPAN_PAGES) *
		       sizeof(long), GFP_KERNEL_ACCOUNT);
	if (!frag)
		return NULL;
	for (i = 0; i < nr; page += runs[i].nr, i++)
		if (!runs[i].held)
			bitmap_set((unsigned long *)frag->run, page,
				   runs[i].nr);
	return frag;
}

static unsigned int span_page(unsigned long va)
{
	return (va & ~PIN_SPAN_MASK) >> PAGE_SHIFT;
}

/* Keep the runs of one span, or what there is room for. */
static int record_add_span(struct pin_record *rec, unsigned long va,
			   const struct pin_run *runs, unsigned int nr)
{
	unsigned long span = record_span(rec, va);
	struct pin_frag *frag;
	void *entry;
	unsigned int i;
	bool needed;
	int ret;

	if (nr == 1) {
		entry = xa_mk_value(frag_encode(&runs[0]));
	} else if (nr <= FRAG_MAX_RUNS) {
		frag = frag_alloc(nr);
		if (!frag)
			return -ENOMEM;
		entry = frag;
		for (i = 0; i < nr; i++)
			frag->run[i] = frag_encode(&runs[i]);
	} else {
		entry = frag_from_many(runs, nr, span_page(va), &needed);
		if (!entry && needed)
			return -ENOMEM;
	}

	if (entry) {
		ret = xa_err(xa_store(&rec->frags, span, entry,
				      GFP_KERNEL_ACCOUNT));
		if (ret) {
			record_free_entry(entry);
			return ret;
		}
	}
	record_set(rec, span, PIN_LEAF_PTE);
	return 0;
}

/* How many of @runs, which begin at @va, lie in @va's span. */
static unsigned int runs_in_span(const struct pin_run *runs, unsigned int nr,
				 unsigned long va, unsigned long *end)
{
	unsigned long span_end = (va & PIN_SPAN_MASK) + PIN_SPAN_SIZE;
	unsigned int i;

	for (i = 0; i < nr && va != span_end; i++) {
		if (runs[i].leaf != PIN_LEAF_PTE)
			break;
		va += (unsigned long)runs[i].nr << PAGE_SHIFT;
	}
	*end = va;
	return i;
}

/**
 * pin_record_add - remember what was just pinned
 * @rec: the record
 * @va: user address of the first run
 * @runs: runs at contiguous addresses; none of %PIN_LEAF_PTE crosses a span
 *        boundary, and a span is complete, except where the mapping ends in it
 * @nr: number of runs
 *
 * Context: Process context. May sleep. The caller is the only one that touches
 *    these spans.
 * Return: 0, or -ENOMEM; then pin_record_clear() the range.
 */
int pin_record_add(struct pin_record *rec, unsigned long va,
		   const struct pin_run *runs, unsigned int nr)
{
	unsigned long end, span;
	unsigned int i = 0, n;
	int ret;

	while (i < nr) {
		if (runs[i].leaf == PIN_LEAF_PTE) {
			n = runs_in_span(runs + i, nr - i, va, &end);
			ret = record_add_span(rec, va, runs + i, n);
			if (ret)
				return ret;
			va = end;
			i += n;
			continue;
		}

		end = va + ((unsigned long)runs[i].nr << PAGE_SHIFT);
		span = record_span(rec, va);
		while (va != end) {
			if (runs[i].leaf == PIN_LEAF_PUD) {
				record_set_pud(rec, span);
				span += SPANS_PER_PUD;
				va += PUD_SIZE;
			} else {
				record_set(rec, span++, PIN_LEAF_PMD);
				va += PIN_SPAN_SIZE;
			}
		}
		i++;
	}
	return 0;
}

/* Spans cleared between two chances for others to run. */
#define CLEAR_SPANS	65536

/* Is nothing recorded of a span, nor of those that share its word? */
static bool record_word_is_empty(const struct pin_record *rec,
				 unsigned long span)
{
	return !atomic_long_read(&rec->states[span / STATES_PER_WORD]);
}

/**
 * pin_record_clear - forget a range whose references are gone
 * @rec: the record
 * @va: user address of a span, or of the mapping's start
 * @end: likewise, or the mapping's end
 *
 * Context: Process context. The caller is the only one that touches the range.
 */
void pin_record_clear(struct pin_record *rec, unsigned long va,
		      unsigned long end)
{
	unsigned long span = record_span(rec, va);
	unsigned long last = record_span(rec, end - 1);

	while (span <= last) {
		/* Of a large range, little may have been pinned. */
		if (record_word_is_empty(rec, span)) {
			span = round_down(span, STATES_PER_WORD) +
			       STATES_PER_WORD;
			if (!(span % CLEAR_SPANS))
				cond_resched();
			continue;
		}
		if (record_get(rec, span) == PIN_LEAF_PTE)
			record_free_entry(xa_erase(&rec->frags, span));
		record_unset(rec, span);
		span++;
	}
}

/**
 * pin_record_forget - free what is recorded of the spans within a range
 * @rec: the record, which will be destroyed
 * @va: user address
 * @end: user address
 *
 * The threads that unpin a mapping do this for what they have unpinned, so that
 * it need not all be done at the end. A span at either end that is not wholly in
 * the range is left to pin_record_destroy().
 *
 * Context: Process context. Nobody needs these spans any more.
 */
void pin_record_forget(struct pin_record *rec, unsigned long va,
		       unsigned long end)
{
	unsigned long first = record_span(rec, va + PIN_SPAN_SIZE - 1);
	unsigned long behind = record_span(rec, end), span;
	void *entry;

	if (first >= behind)
		return;
	/* Huge leaves have no entry: only what there is costs anything. */
	xa_for_each_range(&rec->frags, span, entry, first, behind - 1) {
		xa_erase(&rec->frags, span);
		record_free_entry(entry);
	}
}

/**
 * pin_record_leaf - tell how a span is pinned
 * @rec: the record
 * @va: a user address in the mapping
 *
 * Return: the span's state.
 */
enum pin_leaf pin_record_leaf(const struct pin_record *rec, unsigned long va)
{
	return record_get(rec, record_span(rec, va));
}

/**
 * pin_cursor_init - begin a walk
 * @cur: the cursor
 * @rec: the record to walk
 * @va: user address to begin at
 * @end: user address to end at; neither lies within a huge leaf
 * @pfn_of: asked for the pfns that the record does not hold; or NULL: the caller
 *          asks for them himself, and whether the pages are held is not told
 * @arg: argument of @pfn_of
 */
void pin_cursor_init(struct pin_cursor *cur, struct pin_record *rec,
		     unsigned long va, unsigned long end, pin_pfn_fn pfn_of,
		     void *arg)
{
	cur->rec = rec;
	cur->va = va;
	cur->end = end;
	cur->pfn_of = pfn_of;
	cur->arg = arg;
	cur->span = ULONG_MAX;
	cur->ahead_va = 0;
}

static unsigned long cursor_pfn(struct pin_cursor *cur, unsigned long va)
{
	if (cur->ahead_va == va && va)
		return cur->ahead_pfn;
	return cur->pfn_of(cur->arg, va);
}

/* A span whose runs were too many: look for one page by page. */
static void cursor_search(struct pin_cursor *cur, unsigned long end,
			  struct pin_run *run)
{
	const struct pin_frag *frag = cur->entry;
	const unsigned long *unheld = frag ? (const void *)frag->run : NULL;
	unsigned int page = span_page(cur->va);
	unsigned long va = cur->va, pfn;

	run->leaf = PIN_LEAF_PTE;
	run->pfn = cursor_pfn(cur, va);
	run->held = !(unheld && test_bit(page, unheld));
	run->nr = 1;
	while ((va += PAGE_SIZE) != end) {
		pfn = cur->pfn_of(cur->arg, va);
		cur->ahead_va = va;
		cur->ahead_pfn = pfn;
		page++;
		if (pfn != run->pfn + run->nr ||
		    run->held != !(unheld && test_bit(page, unheld)))
			break;
		run->nr++;
	}
}

/* A span whose runs are known. */
static void cursor_lookup(struct pin_cursor *cur, unsigned long end,
			  struct pin_run *run)
{
	const struct pin_frag *frag = cur->entry;
	unsigned long skip;

	for (;;) {
		frag_decode(xa_is_value(cur->entry) ? xa_to_value(cur->entry) :
			    frag->run[cur->run_idx], run);
		skip = (cur->va - cur->run_va) >> PAGE_SHIFT;
		if (skip < run->nr)
			break;
		cur->run_va += (unsigned long)run->nr << PAGE_SHIFT;
		cur->run_idx++;
	}
	run->pfn += skip;
	run->nr = min_t(unsigned long, run->nr - skip,
			(end - cur->va) >> PAGE_SHIFT);
}

/* Out of line, so that a huge leaf does not pay for the registers it needs. */
static noinline void cursor_pages(struct pin_cursor *cur, unsigned long span,
				  struct pin_run *run)
{
	unsigned long start = cur->va & PIN_SPAN_MASK;
	unsigned long left = start + PIN_SPAN_SIZE - cur->va;
	unsigned long end = cur->va + min(left, cur->end - cur->va);
	const struct pin_frag *frag;

	if (cur->span != span) {
		cur->span = span;
		cur->entry = xa_load(&cur->rec->frags, span);
		cur->run_idx = 0;
		/* The mapping may begin within its first span. */
		cur->run_va = max(start, cur->rec->vaddr);
	}
	frag = cur->entry;
	if (frag && (xa_is_value(frag) || frag->nr)) {
		cursor_lookup(cur, end, run);
	} else if (cur->pfn_of) {
		cursor_search(cur, end, run);
	} else {
		run->pfn = PIN_PFN_UNKNOWN;
		run->nr = (end - cur->va) >> PAGE_SHIFT;
		run->held = false;
	}
}

/**
 * pin_cursor_next - yield the next piece
 * @cur: the cursor
 * @run: the piece, which begins at @cur->va as it was before the call: one
 *       huge leaf, or pages of one span. Its pfn is %PIN_PFN_UNKNOWN where the
 *       record does not hold it, and there is nobody to ask; then @run->held
 *       says nothing.
 *
 * Context: As the cursor's pfn_of needs.
 * Return: false at the end of the walk.
 */
bool pin_cursor_next(struct pin_cursor *cur, struct pin_run *run)
{
	unsigned long span;

	if (cur->va == cur->end)
		return false;

	span = record_span(cur->rec, cur->va);
	run->leaf = record_get(cur->rec, span);
	switch (run->leaf) {
	case PIN_LEAF_PMD:
	case PIN_LEAF_PUD:
		run->nr = run->leaf == PIN_LEAF_PMD ? PIN_SPAN_PAGES :
						      PIN_PUD_PAGES;
		run->held = true;
		run->pfn = cur->pfn_of ? cur->pfn_of(cur->arg, cur->va) :
					 PIN_PFN_UNKNOWN;
		break;
	default:
		cursor_pages(cur, span, run);
		break;
	}
	cur->va += (unsigned long)run->nr << PAGE_SHIFT;
	return true;
}

/**
 * struct pin_release - small pages that are unpinned, or freed, together
 * @dirty: mark pages dirty before they are unpinned
 * @nr_lone: how many of @lone
 * @lone: pages to be unpinned that no run joins with others
 * @nr: how many of @page
 * @page: pages that go as soon as they are unpinned; a reference is held on each
 *
 * Of a process that was killed, private memory goes before its files do, and a
 * pin is the last reference to a page. To free one takes the locks of its LRU
 * list and of a list of free pages, and uncharges it from its cgroup; threads
 * that free pages one by one wait for each other there. So an ordinary reference
 * is taken before the pin is dropped, and what has gathered is released together.
 */
struct pin_release {
	bool dirty;
	unsigned int nr_lone;
	struct page *lone[PIN_RELEASE_PAGES];
	unsigned int nr;
	struct page *page[PIN_RELEASE_PAGES];
};

static void pin_release_init(struct pin_release *release, bool dirty)
{
	release->dirty = dirty;
	release->nr_lone = 0;
	release->nr = 0;
}

static void pin_release_flush(struct pin_release *release)
{
	if (release->nr_lone)
		unpin_user_pages_dirty_lock(release->lone, release->nr_lone,
					    release->dirty);
	if (release->nr)
		release_pages(release->page, release->nr);
	release->nr_lone = 0;
	release->nr = 0;
}

/*
 * Is a pin all that holds a small page? It may be no more than likely. Large
 * folios count their pins apart, and release_pages() does not release the huge
 * zero page.
 */
static inline bool page_has_pin_only(struct page *page)
{
	return page_ref_count(page) == GUP_PIN_COUNTING_BIAS &&
	       !PageCompound(page);
}

/* Keep a page until pin_release_flush(), unless others hold it, too. */
static inline bool pin_release_keep_page(struct pin_release *release,
					 struct page *page)
{
	if (!page_has_pin_only(page))
		return false;
	get_page(page);
	release->page[release->nr++] = page;
	return true;
}

/* The first of some pages, up to one that others hold. Returns how many. */
static unsigned long pin_release_keep(struct pin_release *release,
				      unsigned long pfn, unsigned long nr)
{
	unsigned long i;

	if (release->nr == PIN_RELEASE_PAGES)
		pin_release_flush(release);
	nr = min(nr, (unsigned long)PIN_RELEASE_PAGES - release->nr);
	for (i = 0; i < nr; i++)
		if (!pin_release_keep_page(release, pfn_to_page(pfn + i)))
			break;
	return i;
}

/* Unpin a page, at the latest at the next flush. */
static void pin_release_unpin(struct pin_release *release, unsigned long pfn)
{
	struct page *page = pfn_to_page(pfn);

	if (release->nr_lone == PIN_RELEASE_PAGES ||
	    release->nr == PIN_RELEASE_PAGES)
		pin_release_flush(release);
	pin_release_keep_page(release, page);
	release->lone[release->nr_lone++] = page;
}

/*
 * Unpin small pages that follow each other. Out of line, so that a single page does
 * not pay for the registers that this needs.
 */
static noinline void pin_release_run(struct pin_release *release,
				     unsigned long pfn, unsigned long nr)
{
	unsigned long some;

	for (; nr; nr -= some, pfn += some) {
		some = pin_release_keep(release, pfn, nr);
		/* Its neighbours are likely to be held as well: do not look. */
		if (!some)
			some = min(nr, (unsigned long)PIN_RELEASE_PAGES);
		unpin_user_page_range_dirty_lock(pfn_to_page(pfn), some,
						 release->dirty);
	}
}

static inline void pin_release_pages(struct pin_release *release,
				     unsigned long pfn, unsigned long nr)
{
	if (nr == 1)
		pin_release_unpin(release, pfn);
	else
		pin_release_run(release, pfn, nr);
}

static void run_unpin(const struct pin_run *run, struct pin_release *release)
{
	const struct pin_extent ext = { .pfn = run->pfn, .nr = run->nr };

	if (!run->held || !run->pfn)
		return;

	if (run->leaf == PIN_LEAF_PTE)
		pin_release_pages(release, run->pfn, run->nr);
	else
		pin_leaves_unpin(&ext, 1, run->leaf, release->dirty);
}

/**
 * pin_run_unpin - drop the references of a run
 * @run: the run
 * @dirty: mark its pages dirty first: a device may have written to them
 *
 * Context: Process context. May sleep.
 */
void pin_run_unpin(const struct pin_run *run, bool dirty)
{
	struct pin_release release;

	/* Of a single page, there is nothing to gather. */
	if (run->nr == 1) {
		if (run->held && run->pfn)
			unpin_user_page_range_dirty_lock(pfn_to_page(run->pfn),
							 1, dirty);
		return;
	}
	pin_release_init(&release, dirty);
	run_unpin(run, &release);
	pin_release_flush(&release);
}

static unsigned long extent_pfn(void *arg, unsigned long va)
{
	const struct pin_extent *ext = arg;

	return ext->pfn + ((va - ext->va) >> PAGE_SHIFT);
}

/**
 * struct record_unpin - extents being unpinned
 * @rec: the record
 * @plain_va: begin of a span of small pages that are all held, if one was met
 * @plain_end: its end
 * @release: pages to be unpinned or freed
 *
 * Where memory is scattered, an extent is a page, and has to be as quick as that.
 */
struct record_unpin {
	struct pin_record *rec;
	unsigned long plain_va;
	unsigned long plain_end;
	struct pin_release release;
};

/* Unpin an extent's small pages from @va to @end, which lie in one span. */
static void record_unpin_runs(struct record_unpin *ru,
			      const struct pin_extent *ext, unsigned long va,
			      unsigned long end)
{
	struct pin_cursor cur;
	struct pin_run run;

	pin_cursor_init(&cur, ru->rec, va, end, extent_pfn, (void *)ext);
	while (pin_cursor_next(&cur, &run)) {
		run_unpin(&run, &ru->release);
		cond_resched();
	}
}

/* The same from @va on, up to the end of its span. Returns where that is. */
static unsigned long record_unpin_pages(struct record_unpin *ru,
					const struct pin_extent *ext,
					unsigned long va, unsigned long end)
{
	unsigned long start = va & PIN_SPAN_MASK;

	end = min(end, start + PIN_SPAN_SIZE);
	if (xa_load(&ru->rec->frags, record_span(ru->rec, va))) {
		record_unpin_runs(ru, ext, va, end);
		return end;
	}
	ru->plain_va = start;
	ru->plain_end = start + PIN_SPAN_SIZE;
	pin_release_pages(&ru->release, extent_pfn((void *)ext, va),
			  (end - va) >> PAGE_SHIFT);
	cond_resched();
	return end;
}

static void record_unpin_extent(struct record_unpin *ru,
				const struct pin_extent *ext)
{
	unsigned long end = ext->va + (ext->nr << PAGE_SHIFT), va = ext->va;
	unsigned int leaves = 0;
	enum pin_leaf leaf;
	struct page *page;

	/* Pages that could not be found are lost. */
	if (WARN_ON_ONCE(!ext->pfn))
		return;
	if (va >= ru->plain_va && end <= ru->plain_end) {
		pin_release_pages(&ru->release, ext->pfn, ext->nr);
		return;
	}
	while (va != end) {
		leaf = pin_record_leaf(ru->rec, va);
		if (leaf < PIN_LEAF_PMD) {
			va = record_unpin_pages(ru, ext, va, end);
			continue;
		}
		page = pfn_to_page(extent_pfn((void *)ext, va));
		unpin_user_page_range_dirty_lock(page, 1, ru->release.dirty);
		va += leaf == PIN_LEAF_PMD ? PMD_SIZE : PUD_SIZE;
		if (!(++leaves % PIN_RESCHED))
			cond_resched();
	}
}

/**
 * pin_record_unpin - drop the references held on some extents
 * @rec: the record
 * @ext: the extents; no huge leaf crosses their ends
 * @nr: how many extents
 * @dirty: mark the pages dirty first
 *
 * The record itself stays as it is. No IOMMU may translate to these pages any
 * more, IOTLBs included.
 *
 * Context: Process context. May sleep.
 */
void pin_record_unpin(struct pin_record *rec, const struct pin_extent *ext,
		      unsigned int nr, bool dirty)
{
	struct record_unpin ru;

	ru.rec = rec;
	ru.plain_va = 0;
	ru.plain_end = 0;
	pin_release_init(&ru.release, dirty);
	for (; nr; nr--, ext++) {
		record_unpin_extent(&ru, ext);
		if (!(nr % PIN_RESCHED))
			cond_resched();
	}
	pin_release_flush(&ru.release);
}

/**
 * pin_leaves_unpin - drop the references held on huge leaves
 * @ext: extents of nothing but huge leaves of one size
 * @nr: how many extents
 * @leaf: %PIN_LEAF_PMD or %PIN_LEAF_PUD
 * @dirty: mark the pages dirty first
 *
 * As pin_record_unpin() for each extent, but without looking anything up.
 *
 * Context: Process context. May sleep.
 */
void pin_leaves_unpin(const struct pin_extent *ext, unsigned int nr,
		      enum pin_leaf leaf, bool dirty)
{
	unsigned long step = leaf == PIN_LEAF_PMD ? PIN_SPAN_PAGES :
						    PIN_PUD_PAGES;
	unsigned long pfn, end;
	unsigned int leaves = 0;

	for (; nr; nr--, ext++) {
		if (WARN_ON_ONCE(!ext->pfn))
			continue;
		end = ext->pfn + ext->nr;
		for (pfn = ext->pfn; pfn != end; pfn += step) {
			unpin_user_page_range_dirty_lock(pfn_to_page(pfn), 1,
							 dirty);
			if (!(++leaves % PIN_RESCHED))
				cond_resched();
		}
	}
}
