// SPDX-License-Identifier: GPL-2.0-only
/*
 * pin_record_test.c - the record of what was pinned
 *
 * Each case describes a mapping as runs. What the record and its cursors say of
 * it is compared with the same runs, spread out page by page.
 */
#include "seam.h"
#include "../pin_record.c"

#define TOP		(FAKE_TOP & PIN_SPAN_MASK)

/* ---- the encoding of a run ---- */

static const struct pin_run encodings[] = {
	{ FAKE_PFN(0), 1, PIN_LEAF_PTE, true },
	{ FAKE_PFN(0), 1, PIN_LEAF_PTE, false },
	{ FAKE_PFN(12345), PIN_SPAN_PAGES, PIN_LEAF_PTE, true },
	{ FAKE_PFN(12345), PIN_SPAN_PAGES - 1, PIN_LEAF_PTE, false },
	{ 0, 1, PIN_LEAF_PTE, false },
	/* The last page of 52 bits of physical address. */
	{ (1UL << 40) - 1, 2, PIN_LEAF_PTE, true },
};

static void encoding_desc(const struct pin_run *run, char *desc)
{
	sprintf(desc, "pfn %lx, %u pages, held %d", run->pfn, run->nr,
		run->held);
}

KUNIT_ARRAY_PARAM(encoding, encodings, encoding_desc);

static void record_encoding(struct kunit *test)
{
	const struct pin_run *run = test->param_value;
	u64 code = frag_encode(run);
	struct pin_run back;

	frag_decode(code, &back);
	KUNIT_EXPECT_EQ(test, run->pfn, back.pfn);
	KUNIT_EXPECT_EQ(test, run->nr, back.nr);
	KUNIT_EXPECT_EQ(test, run->held, back.held);
	KUNIT_EXPECT_EQ(test, (int)run->leaf, (int)back.leaf);
	/* A lone run is kept in an xarray's slot, which has 63 bits. */
	KUNIT_EXPECT_EQ(test, code, xa_to_value(xa_mk_value(code)));
}

/* ---- how large a record is ---- */

static const struct size_case {
	const char *desc;
	unsigned long va;
	unsigned long size;
	unsigned long words;
	bool inlined;
} sizes[] = {
	{ "one page", MB(2), PAGE_SIZE, 1, true },
	{ "page 0", 0, PAGE_SIZE, 1, true },
	{ "two pages across spans", MB(2) - PAGE_SIZE, 2 * PAGE_SIZE, 1, true },
	{ "32 spans", MB(2), MB(64), 1, true },
	{ "32 spans and a page", MB(2), MB(64) + PAGE_SIZE, 2, false },
	{ "33 spans touched", MB(3), MB(64), 2, false },
	{ "64 spans from a word's start", MB(64), MB(128), 2, false },
	{ "64 spans from within a word", MB(62), MB(128), 3, false },
	{ "1 GiB", GB(1), GB(1), 16, false },
	{ "1 TiB", GB(512), GB(1024), 16384, false },
	{ "the last page", FAKE_TOP - PAGE_SIZE, PAGE_SIZE, 1, true },
	{ "the last GiB", FAKE_TOP - GB(1), GB(1), 17, false },
	{ "the end of 64 bits", -GB(1), GB(1), 16, false },
};

static void size_desc(const struct size_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(size, sizes, size_desc);

static void record_size(struct kunit *test)
{
	const struct size_case *c = test->param_value;
	struct pin_record rec = { };
	unsigned long last = c->va + c->size - 1;

	KUNIT_ASSERT_EQ(test, 0, pin_record_init(&rec, c->va, c->size));
	KUNIT_EXPECT_EQ(test, c->words, rec.nr_words);
	KUNIT_EXPECT_EQ(test, c->inlined, rec.states == &rec.inline_state);
	KUNIT_EXPECT_EQ(test, (int)PIN_LEAF_NONE,
			(int)pin_record_leaf(&rec, c->va));
	KUNIT_EXPECT_LT(test, record_span(&rec, last) / STATES_PER_WORD,
			rec.nr_words);
	/* KASAN watches the last word. */
	record_set(&rec, record_span(&rec, last), PIN_LEAF_PMD);
	KUNIT_EXPECT_EQ(test, (int)PIN_LEAF_PMD,
			(int)pin_record_leaf(&rec, last));
	pin_record_destroy(&rec);
	pin_record_destroy(&rec);
}

static void record_size_no_memory(struct kunit *test)
{
	struct pin_record rec = { };

	atomic_set(&fake->alloc_fail, 0);
	KUNIT_EXPECT_EQ(test, -ENOMEM, pin_record_init(&rec, 0, GB(1)));
	pin_record_destroy(&rec);
	atomic_set(&fake->alloc_fail, 0);
	/* A small one needs none. */
	KUNIT_EXPECT_EQ(test, 0, pin_record_init(&rec, 0, MB(64)));
	atomic_set(&fake->alloc_fail, -1);
	pin_record_destroy(&rec);
}

/* ---- what a record holds ---- */

/* Runs of one kind: @times runs of @run, each @gap pfns behind the other. */
struct run_spec {
	struct pin_run run;
	unsigned int times;
	unsigned int gap;
};

#define RUN(n, pages, times, gap) \
	{ { FAKE_PFN(n), pages, PIN_LEAF_PTE, true }, times, gap }
#define UNHELD(n, pages, times, gap) \
	{ { FAKE_PFN(n), pages, PIN_LEAF_PTE, false }, times, gap }
#define LEAVES(n, times) \
	{ { FAKE_PFN(n), (times) * PIN_SPAN_PAGES, PIN_LEAF_PMD, true }, 1, 0 }
#define PUDS(n, times) \
	{ { FAKE_PFN(n), (times) * PIN_PUD_PAGES, PIN_LEAF_PUD, true }, 1, 0 }

static const struct held_case {
	const char *desc;
	unsigned long va;
	struct run_spec spec[8];
} helds[] = {
	{ "one page", MB(2), { RUN(0, 1, 1, 0) } },
	{ "page 0 of the address space", 0, { RUN(5, 1, 1, 0) } },
	{ "one span in one run", MB(2), { RUN(512, 512, 1, 0) } },
	{ "a start within a span, one run", MB(2) + 3 * PAGE_SIZE,
	  { RUN(0, 509, 1, 0) } },
	{ "a start within a span, two runs", MB(2) + 3 * PAGE_SIZE,
	  { RUN(0, 9, 1, 0), RUN(1000, 500, 1, 0) } },
	{ "an end within a span", MB(2), { RUN(0, 512, 1, 0), RUN(512, 7, 1, 0) } },
	{ "two runs", MB(4), { RUN(0, 511, 1, 0), RUN(5000, 1, 1, 0) } },
	{ "runs that touch but are not held alike", MB(4),
	  { RUN(0, 100, 1, 0), UNHELD(100, 12, 1, 0), RUN(112, 400, 1, 0) } },
	{ "scattered pages, then a span without references", MB(4),
	  { RUN(0, 1, 512, 2), UNHELD(8192, 512, 1, 0) } },
	{ "as many runs as kmalloc() holds", MB(4), { RUN(0, 1, 30, 2),
	  RUN(8192, 482, 1, 0) } },
	{ "one run more than that", MB(4), { RUN(0, 1, 31, 2),
	  RUN(8192, 481, 1, 0) } },
	{ "as many runs as a record keeps", MB(4), { RUN(0, 1, 58, 2),
	  RUN(8192, 454, 1, 0) } },
	{ "one run more than it keeps", MB(4), { RUN(0, 1, 59, 2),
	  RUN(8192, 453, 1, 0) } },
	{ "no two pages contiguous", MB(4), { RUN(0, 1, 512, 2) } },
	{ "too many runs, some not held", MB(4), { RUN(0, 1, 100, 2),
	  UNHELD(4096, 3, 20, 5), RUN(8192, 2, 100, 3),
	  UNHELD(16384, 152, 1, 0) } },
	{ "too many runs, start within a span", MB(4) + 100 * PAGE_SIZE,
	  { RUN(0, 1, 100, 2), UNHELD(4096, 1, 312, 3) } },
	{ "a PMD leaf", MB(2), { LEAVES(512, 1) } },
	{ "a PMD leaf between small pages", MB(4) - PAGE_SIZE,
	  { RUN(511, 1, 1, 0), LEAVES(512, 1), RUN(1024, 1, 1, 0) } },
	{ "leaves on both sides of a word", MB(2),
	  { LEAVES(512, 31), RUN(32768, 512, 1, 0), LEAVES(65536, 3) } },
	{ "a PUD leaf", GB(1), { PUDS(262144, 1) } },
	{ "a PUD leaf among other leaves", GB(1) - MB(2),
	  { LEAVES(512, 1), PUDS(262144, 1), RUN(1024, 512, 1, 0),
	    LEAVES(1536, 1) } },
	{ "two PUD leaves apart", GB(3), { PUDS(262144, 1), PUDS(1048576, 1) } },
	{ "the end of user memory", TOP - MB(2), { LEAVES(512, 1),
	  RUN(4096, 511, 1, 0) } },
};

static void held_desc(const struct held_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(held, helds, held_desc);

/* All of a case: its runs in order, and where each begins. */
struct held {
	unsigned long va;
	unsigned long end;
	unsigned int nr;
	struct pin_run *run;
	unsigned long *run_va;
};

static void held_make(struct kunit *test, const struct held_case *c,
		      struct held *held)
{
	const struct run_spec *spec;
	unsigned long va = c->va;
	unsigned int i, max = 0;

	for (spec = c->spec; spec->times; spec++)
		max += spec->times;
	held->run = kunit_kcalloc(test, max, sizeof(*held->run), GFP_KERNEL);
	held->run_va = kunit_kcalloc(test, max, sizeof(*held->run_va),
				     GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, held->run);
	KUNIT_ASSERT_NOT_NULL(test, held->run_va);
	held->va = va;
	held->nr = 0;
	for (spec = c->spec; spec->times; spec++) {
		for (i = 0; i < spec->times; i++) {
			held->run[held->nr] = spec->run;
			held->run[held->nr].pfn += i * spec->gap;
			held->run_va[held->nr++] = va;
			va += (unsigned long)spec->run.nr << PAGE_SHIFT;
		}
	}
	held->end = va;
}

/* The run that an address lies in. */
static unsigned int held_at(const struct held *held, unsigned long va)
{
	unsigned int i = held->nr;

	while (held->run_va[--i] > va)
		;
	return i;
}

/* What the IOMMU would say. */
static unsigned long held_pfn(void *arg, unsigned long va)
{
	const struct held *held = arg;
	unsigned int i = held_at(held, va);

	return held->run[i].pfn + ((va - held->run_va[i]) >> PAGE_SHIFT);
}

/* Runs come from pinning span by span, or as many leaves as there are. */
static int held_add(struct pin_record *rec, const struct held *held)
{
	return pin_record_add(rec, held->va, held->run, held->nr);
}

static void held_record(struct kunit *test, const struct held *held,
			struct pin_record *rec)
{
	memset(rec, 0, sizeof(*rec));
	KUNIT_ASSERT_EQ(test, 0, pin_record_init(rec, held->va,
						 held->end - held->va));
	KUNIT_ASSERT_EQ(test, 0, held_add(rec, held));
}

/* A walk yields each page once, as the runs have it, and no run crosses. */
static void held_walk(struct kunit *test, struct pin_record *rec,
		      struct held *held, unsigned long from, unsigned long to)
{
	unsigned long va = from, leaf_size;
	struct pin_cursor cur;
	struct pin_run run;
	unsigned int i;

	pin_cursor_init(&cur, rec, from, to, held_pfn, held);
	while (pin_cursor_next(&cur, &run)) {
		i = held_at(held, va);
		KUNIT_ASSERT_EQ(test, held_pfn(held, va), run.pfn);
		KUNIT_ASSERT_EQ(test, (int)held->run[i].leaf, (int)run.leaf);
		KUNIT_ASSERT_EQ(test, held->run[i].held, run.held);
		KUNIT_ASSERT_GT(test, run.nr, 0U);
		va += (unsigned long)run.nr << PAGE_SHIFT;
		KUNIT_ASSERT_EQ(test, cur.va, va);
		leaf_size = held->run[i].leaf == PIN_LEAF_PMD ? PMD_SIZE :
			    held->run[i].leaf == PIN_LEAF_PUD ? PUD_SIZE : 0;
		if (leaf_size)
			KUNIT_ASSERT_EQ(test, (unsigned long)run.nr,
					leaf_size >> PAGE_SHIFT);
		else
			KUNIT_ASSERT_EQ(test, held_at(held, va - 1), i);
	}
	KUNIT_ASSERT_EQ(test, to, va);
}

/* Are there more runs in the span that @va is in than are kept? */
static bool held_is_searched(const struct held *held, unsigned long va)
{
	unsigned long start = va & PIN_SPAN_MASK;
	unsigned long last = min(start + PIN_SPAN_SIZE, held->end) - 1;

	return held_at(held, last) - held_at(held, max(start, held->va)) >=
	       FRAG_MAX_RUNS;
}

/*
 * A walk that asks nobody: what the record does not hold is yielded by the span or
 * the leaf.
 */
static void held_walk_unasked(struct kunit *test, struct pin_record *rec,
			      struct held *held)
{
	struct pin_cursor cur;
	struct pin_run run;
	unsigned long va = held->va, end, size;
	unsigned int i;

	pin_cursor_init(&cur, rec, va, held->end, NULL, NULL);
	for (; pin_cursor_next(&cur, &run); va = cur.va) {
		i = held_at(held, va);
		KUNIT_ASSERT_EQ(test, (int)held->run[i].leaf, (int)run.leaf);
		end = va + ((unsigned long)run.nr << PAGE_SHIFT);
		KUNIT_ASSERT_EQ(test, cur.va, end);
		if (run.leaf == PIN_LEAF_PTE && !held_is_searched(held, va)) {
			KUNIT_ASSERT_EQ(test, held_pfn(held, va), run.pfn);
			KUNIT_ASSERT_EQ(test, held_at(held, end - 1), i);
			continue;
		}
		KUNIT_ASSERT_EQ(test, PIN_PFN_UNKNOWN, run.pfn);
		size = run.leaf == PIN_LEAF_PUD ? PUD_SIZE : PMD_SIZE;
		KUNIT_ASSERT_EQ(test, min((va & -size) + size, held->end), end);
	}
	KUNIT_ASSERT_EQ(test, held->end, va);
}

static void record_walk(struct kunit *test)
{
	struct pin_record rec;
	struct held held;

	held_make(test, test->param_value, &held);
	held_record(test, &held, &rec);
	held_walk(test, &rec, &held, held.va, held.end);
	held_walk_unasked(test, &rec, &held);
	pin_record_destroy(&rec);
}

/* Where a walk may begin or end: not within a leaf. */
static bool held_cuts(const struct held *held, unsigned long va)
{
	unsigned int i;

	if (va == held->end)
		return true;
	i = held_at(held, va);
	return held->run[i].leaf == PIN_LEAF_PTE ||
	       !((va - held->run_va[i]) &
		 ((held->run[i].leaf == PIN_LEAF_PMD ? PMD_SIZE : PUD_SIZE) - 1));
}

static void record_walk_parts(struct kunit *test)
{
	unsigned long from, to, step = 61 * PAGE_SIZE;
	struct pin_record rec;
	struct held held;

	held_make(test, test->param_value, &held);
	held_record(test, &held, &rec);
	if (held.end - held.va > GB(1))
		step = MB(254) + 33 * PAGE_SIZE;
	else if (held.end - held.va > MB(16))
		step = MB(3) + 37 * PAGE_SIZE;
	for (from = held.va; from < held.end; from += step)
		for (to = held.end; to > from; to -= min(step, to - from))
			if (held_cuts(&held, from) && held_cuts(&held, to))
				held_walk(test, &rec, &held, from, to);
	pin_record_destroy(&rec);
}

static void record_leaf_of_each_span(struct kunit *test)
{
	struct pin_record rec;
	struct held held;
	unsigned long va;

	held_make(test, test->param_value, &held);
	held_record(test, &held, &rec);
	for (va = held.va; va < held.end;
	     va = (va & PIN_SPAN_MASK) + PIN_SPAN_SIZE)
		KUNIT_ASSERT_EQ(test, (int)held.run[held_at(&held, va)].leaf,
				(int)pin_record_leaf(&rec, va));
	pin_record_destroy(&rec);
}

/* Pin what the runs stand for. */
static void held_pin(const struct held *held)
{
	unsigned int i, page, step;

	for (i = 0; i < held->nr; i++) {
		const struct pin_run *run = &held->run[i];

		step = run->leaf == PIN_LEAF_PTE ? 1 :
		       run->leaf == PIN_LEAF_PMD ? PMD_PAGES : PUD_PAGES;
		for (page = 0; run->held && page < run->nr; page += step)
			fake_mm_pin(run->pfn + page);
	}
}

/* Extents, of which physically contiguous runs make one. Returns how many. */
static unsigned int held_extents(const struct held *held, struct pin_extent *ext)
{
	unsigned int i, nr = 0;

	for (i = 0; i < held->nr; i++) {
		if (nr && ext[nr - 1].pfn + ext[nr - 1].nr == held->run[i].pfn)
			ext[nr - 1].nr += held->run[i].nr;
		else
			ext[nr++] = (struct pin_extent){ held->run_va[i],
							 held->run[i].pfn,
							 held->run[i].nr };
	}
	return nr;
}

/* Unpin all, of a process that is there and of one that is gone. */
static void record_unpin(struct kunit *test)
{
	struct pin_extent *ext;
	struct pin_record rec;
	struct held held;
	unsigned long pins;
	unsigned int nr;
	int gone;

	held_make(test, test->param_value, &held);
	held_record(test, &held, &rec);
	ext = kunit_kcalloc(test, held.nr, sizeof(*ext), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ext);
	nr = held_extents(&held, ext);
	for (gone = 0; gone < 2; gone++) {
		fake->mm.gone = gone;
		held_pin(&held);
		pins = fake->mm.nr_pins;
		/* For a device that reads, and for one that writes. */
		pin_record_unpin(&rec, ext, nr, gone);
		KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_pins);
		KUNIT_EXPECT_EQ(test, gone ? pins : 0UL, fake->mm.dirtied);
		KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_refs);
	}
	pin_record_destroy(&rec);
}

/* Pages that go with their pin are freed together, wherever they are. */
static void record_unpin_releases(struct kunit *test)
{
	enum { LONE = 70, ROW = 100 };
	struct pin_extent *ext;
	struct pin_record rec = { };
	struct pin_run *runs;
	unsigned int i, gone;

	KUNIT_ASSERT_EQ(test, 0, pin_record_init(&rec, MB(2), MB(2)));
	ext = kunit_kcalloc(test, LONE + 1, sizeof(*ext), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ext);
	runs = kunit_kcalloc(test, LONE + 1, sizeof(*runs), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, runs);
	for (i = 0; i <= LONE; i++) {
		ext[i].va = MB(2) + i * PAGE_SIZE;
		ext[i].pfn = FAKE_PFN(2 * i);
		ext[i].nr = i < LONE ? 1 : ROW;
		runs[i] = (struct pin_run){ ext[i].pfn, ext[i].nr,
					    PIN_LEAF_PTE, true };
	}
	KUNIT_ASSERT_EQ(test, 0, pin_record_add(&rec, MB(2), runs, LONE + 1));
	for (gone = 0; gone < 2; gone++) {
		fake->mm.gone = gone;
		for (i = 0; i < LONE + ROW; i++)
			fake_mm_pin(i < LONE ? ext[i].pfn :
				    ext[LONE].pfn + i - LONE);
		pin_record_unpin(&rec, ext, LONE + 1, true);
		KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_pins);
		KUNIT_EXPECT_EQ(test, 0UL, fake->mm.freed);
		KUNIT_EXPECT_EQ(test, gone ? DIV_ROUND_UP(LONE + ROW,
							  PIN_RELEASE_PAGES) :
				0UL, fake->mm.releases);
	}

	/* So are those of a run that was never recorded. */
	fake->mm.releases = 0;
	for (i = 0; i < ROW; i++)
		fake_mm_pin(runs[LONE].pfn + i);
	pin_run_unpin(&runs[LONE], true);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.freed);
	KUNIT_EXPECT_EQ(test, (unsigned long)DIV_ROUND_UP(ROW,
							  PIN_RELEASE_PAGES),
			fake->mm.releases);

	/* But not a single page. */
	fake_mm_pin(runs[0].pfn);
	pin_run_unpin(&runs[0], true);
	KUNIT_EXPECT_EQ(test, 1UL, fake->mm.freed);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_refs);
	pin_record_destroy(&rec);
}

/* One of a hundred pages has another owner still. */
static const struct mixed_case {
	const char *name;
	unsigned int owned;
	unsigned long releases;
	unsigned long freed;	/* one by one */
} mixeds[] = {
	{ "first", 0, 3, PIN_RELEASE_PAGES - 1 },
	{ "in the middle", 50, 3, PIN_RELEASE_PAGES - 1 },
	{ "last", 99, 4, 0 },
};

static void mixed_desc(const struct mixed_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(mixed, mixeds, mixed_desc);

static void record_unpin_mixed(struct kunit *test)
{
	const struct mixed_case *c = test->param_value;
	const struct pin_run run = { FAKE_PFN(0), 100, PIN_LEAF_PTE, true };
	struct page *owned = pfn_to_page(run.pfn + c->owned);
	unsigned long i;

	fake->mm.gone = true;
	for (i = 0; i < run.nr; i++)
		fake_mm_pin(run.pfn + i);
	fake_get_page(owned);
	pin_run_unpin(&run, true);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_pins);
	KUNIT_EXPECT_EQ(test, 1UL, fake->mm.nr_refs);
	KUNIT_EXPECT_EQ(test, c->releases, fake->mm.releases);
	KUNIT_EXPECT_EQ(test, c->freed, fake->mm.freed);
	fake_release_pages(&owned, 1);
}

/* A folio that is pinned as often as one pin of a small page counts. */
static void record_unpin_folio(struct kunit *test)
{
	const struct fake_area area = {
		.va = MB(2), .nr = PIN_SPAN_PAGES, .pfn = FAKE_PFN(0),
		.order = PMD_SHIFT - PAGE_SHIFT,
	};
	const struct pin_run run = { area.pfn, area.nr, PIN_LEAF_PTE, true };
	unsigned long i;

	fake_mm_setup(&area, 1);
	fake->mm.gone = true;
	for (i = 0; i < GUP_PIN_COUNTING_BIAS; i++)
		fake_mm_pin(run.pfn);
	KUNIT_ASSERT_EQ(test, GUP_PIN_COUNTING_BIAS,
			fake_page_ref_count(pfn_to_page(run.pfn)));
	pin_run_unpin(&run, true);
	pin_run_unpin(&run, true);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_pins);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.releases);
}

/* pin_run_unpin() undoes what was pinned for a run. */
static void record_run_unpin(struct kunit *test)
{
	struct held held;
	unsigned long pins;
	unsigned int i;
	int dirty;

	held_make(test, test->param_value, &held);
	for (dirty = 0; dirty < 2; dirty++) {
		held_pin(&held);
		pins = fake->mm.nr_pins;
		for (i = 0; i < held.nr; i++)
			pin_run_unpin(&held.run[i], dirty);
		KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_pins);
		KUNIT_EXPECT_EQ(test, dirty ? pins : 0UL, fake->mm.dirtied);
	}
}

/* Pages that nobody found are lost, loudly, but not unpinned by mistake. */
static void record_unpin_lost(struct kunit *test)
{
	struct pin_extent ext = { MB(2), 0, 1 };
	struct pin_record rec = { };

	KUNIT_ASSERT_EQ(test, 0, pin_record_init(&rec, MB(2), PAGE_SIZE));
	pin_record_unpin(&rec, &ext, 1, false);
	KUNIT_EXPECT_EQ(test, 1, atomic_xchg(&fake->warnings, 0));
	pin_record_destroy(&rec);
}

static void record_clear_all(struct kunit *test)
{
	struct pin_record rec;
	struct held held;
	unsigned long va;

	held_make(test, test->param_value, &held);
	held_record(test, &held, &rec);
	pin_record_clear(&rec, held.va, held.end);
	KUNIT_EXPECT_TRUE(test, xa_empty(&rec.frags));
	for (va = held.va; va < held.end;
	     va = (va & PIN_SPAN_MASK) + PIN_SPAN_SIZE)
		KUNIT_ASSERT_EQ(test, (int)PIN_LEAF_NONE,
				(int)pin_record_leaf(&rec, va));
	/* It can be filled again. */
	KUNIT_ASSERT_EQ(test, 0, held_add(&rec, &held));
	held_walk(test, &rec, &held, held.va, held.end);
	pin_record_destroy(&rec);
}

/* Nearly nothing of a large range was pinned: at its ends, and in the middle. */
static void record_clear_sparse(struct kunit *test)
{
	const unsigned long size = GB(300), base = GB(1) + MB(2);
	const unsigned long at[] = { 0, GB(1), GB(150) + MB(6), GB(300) - MB(2) };
	struct pin_run run = { FAKE_PFN(0), 512, PIN_LEAF_PTE, true };
	struct pin_record rec = { };
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, pin_record_init(&rec, base, size));
	for (i = 0; i < ARRAY_SIZE(at); i++)
		KUNIT_ASSERT_EQ(test, 0, pin_record_add(&rec, base + at[i],
							&run, 1));
	/* All but the last. */
	pin_record_clear(&rec, base, base + at[3]);
	for (i = 0; i < ARRAY_SIZE(at); i++)
		KUNIT_EXPECT_EQ(test, i < 3 ? (int)PIN_LEAF_NONE :
				(int)PIN_LEAF_PTE,
				(int)pin_record_leaf(&rec, base + at[i]));
	pin_record_clear(&rec, base + at[3], base + size);
	KUNIT_EXPECT_TRUE(test, xa_empty(&rec.frags));
	pin_record_destroy(&rec);
}

/*
 * A part of three spans is forgotten or cleared. The first two have an entry: which
 * of them do after that?
 */
static const struct part_case {
	const char *desc;
	unsigned long from;
	unsigned long to;
	unsigned long forgotten;
	unsigned long cleared;
} parts[] = {
	{ "first span", MB(2), MB(4), BIT(1), BIT(1) },
	{ "second span", MB(4), MB(6), BIT(0), BIT(0) },
	{ "third span", MB(6), MB(8), BIT(0) | BIT(1), BIT(0) | BIT(1) },
	{ "all", MB(2), MB(8), 0, 0 },
	{ "less than a span", MB(2) + PAGE_SIZE, MB(4) - PAGE_SIZE,
	  BIT(0) | BIT(1), BIT(1) },
	{ "end within a span", MB(2), MB(6) - PAGE_SIZE, BIT(1), 0 },
	{ "start within a span", MB(4) - PAGE_SIZE, MB(8), BIT(0), 0 },
};

static void part_desc(const struct part_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(part, parts, part_desc);

static unsigned long record_has(struct pin_record *rec)
{
	unsigned long idx, mask = 0;
	void *entry;

	xa_for_each(&rec->frags, idx, entry)
		mask |= BIT(idx);
	return mask;
}

static void record_part(struct kunit *test)
{
	static const struct held_case three_spans = {
		"", MB(2), { RUN(0, 100, 5, 101), RUN(4096, 12, 1, 0),
			     RUN(8192, 512, 1, 0), RUN(16384, 2, 256, 3) }
	};
	const struct part_case *c = test->param_value;
	struct pin_record rec;
	struct held held;

	held_make(test, &three_spans, &held);
	held_record(test, &held, &rec);
	/* Nothing is kept of a span with too many runs. */
	KUNIT_ASSERT_EQ(test, BIT(0) | BIT(1), record_has(&rec));
	pin_record_forget(&rec, c->from, c->to);
	KUNIT_EXPECT_EQ(test, c->forgotten, record_has(&rec));
	pin_record_destroy(&rec);

	held_record(test, &held, &rec);
	pin_record_clear(&rec, c->from, c->to);
	KUNIT_EXPECT_EQ(test, c->cleared, record_has(&rec));
	pin_record_destroy(&rec);
}

/* Without memory it says so, and what it has can be cleared. */
static void record_no_memory(struct kunit *test)
{
	struct pin_record rec = { };
	struct held held;
	int nth, ret;

	held_make(test, test->param_value, &held);
	KUNIT_ASSERT_EQ(test, 0, pin_record_init(&rec, held.va,
						 held.end - held.va));
	for (nth = 0; ; nth++) {
		atomic_set(&fake->alloc_fail, nth);
		ret = held_add(&rec, &held);
		if (!ret)
			break;
		KUNIT_ASSERT_EQ(test, -ENOMEM, ret);
		pin_record_clear(&rec, held.va, held.end);
		KUNIT_ASSERT_TRUE(test, xa_empty(&rec.frags));
	}
	atomic_set(&fake->alloc_fail, -1);
	held_walk(test, &rec, &held, held.va, held.end);
	pin_record_destroy(&rec);
}

/* ---- bounds that the design promises ---- */

static void record_bounds(struct kunit *test)
{
	KUNIT_EXPECT_LE(test, FRAG_BYTES, 512);
	KUNIT_EXPECT_EQ(test, (unsigned long)FRAG_MAX_RUNS, 59UL);
	KUNIT_EXPECT_LE(test, sizeof(struct pin_frag) +
			PIN_SPAN_PAGES / BITS_PER_BYTE, 256UL);
}

static int record_suite_init(struct kunit_suite *suite)
{
	return pin_record_module_init();
}

static void record_suite_exit(struct kunit_suite *suite)
{
	pin_record_module_exit();
}

static struct kunit_case record_cases[] = {
	KUNIT_CASE_PARAM(record_encoding, encoding_gen_params),
	KUNIT_CASE_PARAM(record_size, size_gen_params),
	KUNIT_CASE(record_size_no_memory),
	KUNIT_CASE_PARAM(record_walk, held_gen_params),
	KUNIT_CASE_PARAM(record_walk_parts, held_gen_params),
	KUNIT_CASE_PARAM(record_leaf_of_each_span, held_gen_params),
	KUNIT_CASE_PARAM(record_unpin, held_gen_params),
	KUNIT_CASE(record_unpin_releases),
	KUNIT_CASE_PARAM(record_unpin_mixed, mixed_gen_params),
	KUNIT_CASE(record_unpin_folio),
	KUNIT_CASE_PARAM(record_run_unpin, held_gen_params),
	KUNIT_CASE(record_unpin_lost),
	KUNIT_CASE_PARAM(record_clear_all, held_gen_params),
	KUNIT_CASE(record_clear_sparse),
	KUNIT_CASE_PARAM(record_part, part_gen_params),
	KUNIT_CASE_PARAM(record_no_memory, held_gen_params),
	KUNIT_CASE(record_bounds),
	{ }
};

static struct kunit_suite record_suite = {
	.name = "vfio_mt_pin_record",
	.suite_init = record_suite_init,
	.suite_exit = record_suite_exit,
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = record_cases,
};

kunit_test_suite(record_suite);
