// SPDX-License-Identifier: GPL-2.0-only
/*
 * pin_chunk_test.c - pinning, leaf by leaf where possible
 */
#include "seam.h"

/* The unit asks "current" which address space it runs on. */
#undef current
#define current fake_current()
#include "../pin_chunk.c"
#undef current
#define current get_current()

/* ---- a chunk, and what is pinned of it ---- */

#define ALL_RUNS	4096

struct pinner {
	struct pin_chunk pc;
	struct page *pages[PIN_SPAN_PAGES];
	struct pin_run runs[2 * PIN_SPAN_PAGES];
	bool stop;
	/* all runs so far */
	struct pin_run all[ALL_RUNS];
	unsigned int nr_all;
	unsigned long account;
	unsigned long leaves[PIN_LEAF_PUD + 1];
	unsigned long unheld;
	unsigned long spans;
	unsigned long span;
};

static struct pinner *pinner_open(struct kunit *test, unsigned long va,
				  unsigned long nr, bool write)
{
	struct pinner *p = kunit_kzalloc(test, sizeof(*p), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, p);
	p->pc = (struct pin_chunk){
		.mm = fake->mm.mm,
		.va = va,
		.end = va + (nr << PAGE_SHIFT),
		.batch = PIN_PUD_PAGES,
		.write = write,
		.leaves = true,
		.stop = &p->stop,
		.pages = p->pages,
		.max_pages = ARRAY_SIZE(p->pages),
		.runs = p->runs,
		.max_runs = ARRAY_SIZE(p->runs),
	};
	return p;
}

/* A run is what pin_record_add() wants, and what is really there. */
static void pinner_check_run(struct kunit *test, const struct pin_run *run,
			     unsigned long va)
{
	unsigned long size = (unsigned long)run->nr << PAGE_SHIFT, off, leaf;

	KUNIT_ASSERT_GT(test, run->nr, 0U);
	leaf = run->leaf == PIN_LEAF_PUD ? PUD_SIZE : PMD_SIZE;
	if (run->leaf == PIN_LEAF_PTE) {
		KUNIT_ASSERT_EQ(test, va & PIN_SPAN_MASK,
				(va + size - 1) & PIN_SPAN_MASK);
		leaf = PAGE_SIZE;
	} else {
		KUNIT_ASSERT_TRUE(test, IS_ALIGNED(va | size, leaf));
		KUNIT_ASSERT_TRUE(test, run->held);
	}
	for (off = 0; off < size; off += leaf)
		KUNIT_ASSERT_EQ(test, fake_mm_pfn(va + off),
				run->pfn + (off >> PAGE_SHIFT));
}

/* Count what the unit does: spans pinned by pages, and pages without reference. */
static void pinner_count(struct pinner *p, const struct pin_run *run,
			 unsigned long va)
{
	if (!run->held)
		p->unheld += run->nr;
	/* One more, so that span 0 is not the one before all. */
	if (run->leaf == PIN_LEAF_PTE && p->span != (va >> PIN_SPAN_SHIFT) + 1) {
		p->span = (va >> PIN_SPAN_SHIFT) + 1;
		p->spans++;
	}
}

/* Take the current batch. */
static void pinner_take(struct kunit *test, struct pinner *p, int nr)
{
	struct pin_chunk *pc = &p->pc;
	unsigned long va = pc->va - (pc->nr_pages << PAGE_SHIFT), pages = 0;
	int i;

	KUNIT_ASSERT_EQ(test, (unsigned int)nr, pc->nr_runs);
	KUNIT_ASSERT_LE(test, pc->nr_runs, pc->max_runs);
	for (i = 0; i < nr; i++) {
		struct pin_run *run = &pc->runs[i];
		unsigned long leaf = run->leaf == PIN_LEAF_PUD ? PUD_PAGES :
				     run->leaf == PIN_LEAF_PMD ? PMD_PAGES : 1;

		pinner_check_run(test, run, va);
		pinner_count(p, run, va);
		va += (unsigned long)run->nr << PAGE_SHIFT;
		pages += run->nr;
		p->leaves[run->leaf] += run->nr / leaf;
		KUNIT_ASSERT_LT(test, p->nr_all, ALL_RUNS);
		p->all[p->nr_all++] = *run;
	}
	KUNIT_ASSERT_EQ(test, pages, pc->nr_pages);
	KUNIT_ASSERT_LE(test, pc->nr_account, pc->nr_pages);
	/* Only the last leaf, or span, may reach across. */
	if (pc->runs[nr - 1].leaf != PIN_LEAF_PUD)
		KUNIT_ASSERT_LT(test, pages, pc->batch + PMD_PAGES);
	p->account += pc->nr_account;
}

/* Pin all of the chunk. Returns the error that ended it, or 0. */
static int pinner_run(struct kunit *test, struct pinner *p)
{
	int ret;

	while ((ret = pin_chunk_fill(&p->pc)) > 0)
		pinner_take(test, p, ret);
	return ret;
}

static void pinner_drop(struct pinner *p)
{
	while (p->nr_all)
		pin_run_unpin(&p->all[--p->nr_all], p->pc.write);
}

/* ---- kinds of memory ---- */

static const struct pin_case {
	const char *desc;
	struct fake_area area[4];
	unsigned long va;
	unsigned long nr;
	bool write;
	/* what is expected */
	int ret;
	unsigned long pins;
	unsigned long pmds;
	unsigned long puds;
	unsigned long account;
} kinds[] = {
	{ "a page", { { MB(2), 1, FAKE_PFN(7), PIN_LEAF_PTE } },
	  MB(2), 1, true, 0, 1, 0, 0, 1 },
	{ "page 0 of the address space", { { 0, 1, FAKE_PFN(7), PIN_LEAF_PTE } },
	  0, 1, true, 0, 1, 0, 0, 1 },
	{ "the last page", { { FAKE_TOP - PAGE_SIZE, 1, FAKE_PFN(7),
	  PIN_LEAF_PTE } }, FAKE_TOP - PAGE_SIZE, 1, true, 0, 1, 0, 0, 1 },
	{ "behind the last page", { { } }, FAKE_TOP, 1, true, -EFAULT, 0, 0, 0,
	  0 },
	{ "a span of pages", { { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PTE } },
	  MB(2), 512, true, 0, 512, 0, 0, 512 },
	{ "pages across spans", { { MB(3), 1024, FAKE_PFN(0), PIN_LEAF_PTE } },
	  MB(3), 1024, true, 0, 1024, 0, 0, 1024 },
	{ "scattered pages", { { MB(2), 700, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_SCATTERED } }, MB(2), 700, true, 0, 700, 0, 0, 700 },
	{ "a PMD leaf", { { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2), 512, true, 0, 1, 1, 0, 512 },
	{ "a PMD leaf at address 0", { { 0, 512, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, 0, 512, true, 0, 1, 1, 0, 512 },
	{ "70 PMD leaves", { { MB(2), 35840, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2), 35840, true, 0, 70, 70, 0, 35840 },
	{ "PMD leaves across a PUD", { { GB(1) - MB(10), 5120, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO } }, GB(1) - MB(10), 5120, true, 0, 10, 10,
	  0, 5120 },
	{ "PMD leaves of larger folios", { { MB(4), 4096, FAKE_PFN(4096),
	  PIN_LEAF_PMD, 12 } }, MB(4), 4096, true, 0, 8, 8, 0, 4096 },
	{ "a start within a leaf", { { MB(2), 1536, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO } }, MB(4) - PAGE_SIZE, 1025, true, 0, 3, 2,
	  0, 1025 },
	{ "an end within a leaf", { { MB(2), 1536, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO } }, MB(2), 1027, true, 0, 5, 2, 0, 1027 },
	{ "a part of a leaf", { { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2) + PAGE_SIZE, 510, true, 0, 510, 0, 0, 510 },
	{ "pages, leaves, pages", { { MB(2), 512, FAKE_PFN(0), PIN_LEAF_PTE },
	  { MB(4), 2048, FAKE_PFN(1024), PIN_LEAF_PMD, PMD_FOLIO },
	  { MB(12), 512, FAKE_PFN(8192), PIN_LEAF_PTE } },
	  MB(2), 3072, true, 0, 1028, 4, 0, 3072 },
	{ "a PUD leaf", { { GB(1), 262144, FAKE_PFN(262144), PIN_LEAF_PUD,
	  PUD_FOLIO } }, GB(1), 262144, true, 0, 1, 0, 1, 262144 },
	{ "three PUD leaves", { { GB(1), 786432, FAKE_PFN(262144),
	  PIN_LEAF_PUD, PUD_FOLIO } }, GB(1), 786432, true, 0, 3, 0, 3,
	  786432 },
	{ "a part of a PUD leaf", { { GB(1), 262144, FAKE_PFN(262144),
	  PIN_LEAF_PUD, PUD_FOLIO } }, GB(1) + MB(2), 1024, true, 0, 2, 2, 0,
	  1024 },
	{ "all but a page of a PUD leaf", { { GB(1), 262144, FAKE_PFN(262144),
	  PIN_LEAF_PUD, PUD_FOLIO } }, GB(1), 262143, true, 0, 511 + 511, 511,
	  0, 262143 },
	{ "PMD leaves, then a PUD leaf", { { GB(1) - MB(4), 1024,
	  FAKE_PFN(1024), PIN_LEAF_PMD, PMD_FOLIO }, { GB(1), 262144,
	  FAKE_PFN(262144), PIN_LEAF_PUD, PUD_FOLIO } }, GB(1) - MB(4),
	  263168, true, 0, 3, 2, 1, 263168 },
	/* What looks like a leaf and is none */
	{ "a large folio mapped by PTEs", { { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PTE, PMD_FOLIO } }, MB(2), 512, true, 0, 512, 0, 0, 512 },
	{ "a PMD leaf of several folios", { { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PMD, 8 } }, MB(2), 512, true, 0, 512, 0, 0, 512 },
	{ "a PUD leaf of several folios", { { GB(1), 262144, FAKE_PFN(262144),
	  PIN_LEAF_PUD, 17 } }, GB(1), 262144, true, 0, 512, 512, 0, 262144 },
	{ "a leaf that moved", { { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO, 0, 512 } }, MB(2), 512, true, 0, 512, 0, 0, 512 },
	{ "a leaf that fork() took writing from", { { MB(2), 512,
	  FAKE_PFN(512), PIN_LEAF_PMD, PMD_FOLIO, FAKE_LEAF_RO } }, MB(2),
	  512, true, 0, 512, 0, 0, 512 },
	{ "a PUD leaf without writing", { { GB(1), 1024, FAKE_PFN(262144),
	  PIN_LEAF_PUD, PUD_FOLIO, FAKE_LEAF_RO } }, GB(1), 1024, true, 0,
	  1024, 0, 0, 1024 },
	{ "a leaf of device memory", { { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_DEVMAP } }, MB(2), 512, true, 0, 512,
	  0, 0, 512 },
	{ "a PUD leaf of device memory", { { GB(1), 1024, FAKE_PFN(262144),
	  PIN_LEAF_PUD, PUD_FOLIO, FAKE_DEVMAP } }, GB(1), 1024, true, 0,
	  1024, 0, 0, 1024 },
	{ "a leaf of reserved pages", { { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_RESERVED } }, MB(2), 512, true, 0,
	  512, 0, 0, 0 },
	{ "leaf, not a leaf, leaf", { { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO }, { MB(4), 512, FAKE_PFN(1024),
	  PIN_LEAF_PMD, 8 }, { MB(6), 512, FAKE_PFN(1536), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2), 1536, true, 0, 514, 2, 0, 1536 },
	/* Access */
	{ "read-only leaves", { { MB(2), 1024, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO, FAKE_RO } }, MB(2), 1024, false, 0, 2, 2, 0, 1024 },
	{ "read-only leaves, to be written", { { MB(2), 1024, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_RO } }, MB(2), 1024, true, -EFAULT },
	{ "read-only pages, to be written", { { MB(2), 1024, FAKE_PFN(512),
	  PIN_LEAF_PTE, 0, FAKE_RO } }, MB(2), 1024, true, -EFAULT },
	/* Populated or not */
	{ "cold pages", { { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PTE, 0,
	  FAKE_COLD } }, MB(2), 512, true, 0, 512, 0, 0, 512 },
	{ "cold leaves", { { MB(2), 5120, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO, FAKE_COLD } }, MB(2), 5120, true, 0, 10, 10, 0, 5120 },
	{ "cold PUD leaves", { { GB(1), 524288, FAKE_PFN(524288),
	  PIN_LEAF_PUD, PUD_FOLIO, FAKE_COLD } }, GB(1), 524288, true, 0, 2, 0,
	  2, 524288 },
	{ "what only the slow way pins", { { MB(2), 1024, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_SLOW } }, MB(2), 1024, true, 0, 2, 2,
	  0, 1024 },
	/* Without references */
	{ "the zero page", { { MB(2), 20, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_ZERO } }, MB(2), 20, false, 0, 0, 0, 0, 0 },
	{ "reserved pages", { { MB(2), 20, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_RESERVED } }, MB(2), 20, true, 0, 20, 0, 0, 0 },
	{ "pfns without pages", { { MB(2), 700, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_PFNMAP } }, MB(2), 700, true, 0, 0, 0, 0, 0 },
	{ "scattered pfns", { { MB(2), 9, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_PFNMAP | FAKE_SCATTERED } }, MB(2), 9, true, 0, 0, 0, 0, 0 },
	{ "pfns to be faulted in", { { MB(2), 600, FAKE_PFN(0), PIN_LEAF_PTE,
	  0, FAKE_PFNMAP | FAKE_COLD } }, MB(2), 600, true, 0, 0, 0, 0, 0 },
	{ "pfns, the lock lost meanwhile", { { MB(2), 600, FAKE_PFN(0),
	  PIN_LEAF_PTE, 0, FAKE_PFNMAP | FAKE_COLD | FAKE_UNLOCKS } }, MB(2),
	  600, true, 0, 0, 0, 0, 0 },
	{ "read-only pfns", { { MB(2), 6, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_PFNMAP | FAKE_RO } }, MB(2), 6, false, 0, 0, 0, 0, 0 },
	{ "read-only pfns, to be written", { { MB(2), 6, FAKE_PFN(0),
	  PIN_LEAF_PTE, 0, FAKE_PFNMAP | FAKE_RO } }, MB(2), 6, true,
	  -EFAULT },
	{ "pfns of pages that may be freed", { { MB(2), 6, FAKE_PFN(0),
	  PIN_LEAF_PTE, 0, FAKE_PFNMAP_PAGES } }, MB(2), 6, true, -EFAULT },
	{ "pfns of reserved pages", { { MB(2), 6, FAKE_PFN(0), PIN_LEAF_PTE,
	  0, FAKE_PFNMAP_PAGES | FAKE_RESERVED } }, MB(2), 6, true, 0, 0, 0, 0,
	  0 },
	{ "pfns of PMDs", { { MB(2), 1536, FAKE_PFN(512), PIN_LEAF_PMD, 0,
	  FAKE_PFNMAP } }, MB(2), 1536, true, 0, 0, 0, 0, 0 },
	{ "pfns of PMDs, from the middle to the middle", { { MB(2), 1536,
	  FAKE_PFN(512), PIN_LEAF_PMD, 0, FAKE_PFNMAP } },
	  MB(2) + 5 * PAGE_SIZE, 1300, true, 0, 0, 0, 0, 0 },
	{ "pfns of a PUD, from the middle to the middle", { { GB(1), 262144,
	  FAKE_PFN(262144), PIN_LEAF_PUD, 0, FAKE_PFNMAP } },
	  GB(1) + MB(2) - PAGE_SIZE, 2000, true, 0, 0, 0, 0, 0 },
	{ "pfns of a PUD, then pages", { { GB(1), 262144, FAKE_PFN(262144),
	  PIN_LEAF_PUD, 0, FAKE_PFNMAP }, { GB(2), 700, FAKE_PFN(524288),
	  PIN_LEAF_PTE } }, GB(2) - MB(5), 1280 + 600, true, 0, 600, 0, 0,
	  600 },
	{ "pfns of a PUD, then nothing", { { GB(1), 262144, FAKE_PFN(262144),
	  PIN_LEAF_PUD, 0, FAKE_PFNMAP } }, GB(2) - MB(5), 1280 + 1, true,
	  -EFAULT },
	{ "pfns of a PUD that reaches beyond its area", { { GB(1) + MB(2),
	  100, FAKE_PFN(512), PIN_LEAF_PUD, 0, FAKE_PFNMAP } },
	  GB(1) + MB(2), 101, true, -EFAULT },
	{ "pfns of PMDs, of pages that may be freed", { { MB(2), 512,
	  FAKE_PFN(512), PIN_LEAF_PMD, 0, FAKE_PFNMAP_PAGES } }, MB(2), 512,
	  true, -EFAULT },
	{ "pfns of PMDs, of pages of which some may be freed", { { MB(8), 100,
	  FAKE_PFN(512), PIN_LEAF_PTE, 0, FAKE_RESERVED }, { MB(2), 512,
	  FAKE_PFN(512), PIN_LEAF_PMD, 0, FAKE_PFNMAP_PAGES } }, MB(2), 512,
	  true, -EFAULT },
	{ "pfns of a PUD, then pages that may be freed, in one entry", {
	  { MB(8), 512, FAKE_PFN(262144 + 512), PIN_LEAF_PTE }, { GB(1),
	  262144, FAKE_PFN(262144), PIN_LEAF_PUD, 0, FAKE_PFNMAP } }, GB(1),
	  1536, true, -EFAULT },
	{ "pfns of PMDs, of pages of which others may be freed", { { MB(8),
	  100, FAKE_PFN(512), PIN_LEAF_PTE, 0, FAKE_RESERVED }, { MB(2), 512,
	  FAKE_PFN(512), PIN_LEAF_PMD, 0, FAKE_PFNMAP_PAGES } }, MB(2), 100,
	  true, 0, 0, 0, 0, 0 },
	{ "pages, pfns, zero page, pages", { { MB(2), 100, FAKE_PFN(0),
	  PIN_LEAF_PTE }, { MB(2) + 100 * PAGE_SIZE, 100, FAKE_PFN(100),
	  PIN_LEAF_PTE, 0, FAKE_PFNMAP }, { MB(2) + 200 * PAGE_SIZE, 100,
	  FAKE_PFN(200), PIN_LEAF_PTE, 0, FAKE_ZERO }, { MB(2) + 300 *
	  PAGE_SIZE, 100, FAKE_PFN(300), PIN_LEAF_PTE } }, MB(2), 400, false,
	  0, 200, 0, 0, 200 },
	/* Holes */
	{ "nothing there", { { } }, MB(2), 512, true, -EFAULT },
	{ "a hole behind the first page", { { MB(2), 1, FAKE_PFN(512),
	  PIN_LEAF_PTE } }, MB(2), 2, true, -EFAULT },
	{ "the last page is missing", { { MB(2), 1535, FAKE_PFN(512),
	  PIN_LEAF_PTE } }, MB(2), 1536, true, -EFAULT, 1024, 0, 0, 1024 },
	{ "leaves, then a hole", { { MB(2), 1024, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO } }, MB(2), 1536, true, -EFAULT, 2, 2, 0,
	  1024 },
};

static void kind_desc(const struct pin_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(kind, kinds, kind_desc);

/* Without those that are too large to be pinned page by page in no time. */
static const void *small_kind_gen_params(FAKE_GEN_ARGS)
{
	const struct pin_case *c = prev;

	do
		c = fake_next_param(kind_gen_params, c, desc);
	while (c && c->nr > 6000);
	return c;
}

/* The unit has counted all of it, unless it failed. */
static void pin_kind_counted(struct kunit *test, const struct pinner *p)
{
	const struct map_stat_pins *count = &p->pc.count;
	unsigned long spans = 0;
	unsigned int i;

	for (i = 0; i < MAP_FALLBACKS; i++)
		spans += count->fallbacks[i];
	KUNIT_EXPECT_EQ(test, p->leaves[PIN_LEAF_PMD], count->pmds);
	KUNIT_EXPECT_EQ(test, p->leaves[PIN_LEAF_PUD], count->puds);
	KUNIT_EXPECT_EQ(test, p->unheld, count->unheld);
	KUNIT_EXPECT_EQ(test, p->spans, spans);
}

static void pin_kind_run(struct kunit *test, struct pinner *p)
{
	const struct pin_case *c = test->param_value;

	KUNIT_EXPECT_EQ(test, c->ret, pinner_run(test, p));
	KUNIT_EXPECT_EQ(test, c->pins, fake->mm.nr_pins);
	KUNIT_EXPECT_EQ(test, c->pmds, p->leaves[PIN_LEAF_PMD]);
	KUNIT_EXPECT_EQ(test, c->puds, p->leaves[PIN_LEAF_PUD]);
	KUNIT_EXPECT_EQ(test, c->account, p->account);
	if (!c->ret) {
		KUNIT_EXPECT_EQ(test, p->pc.va, p->pc.end);
		pin_kind_counted(test, p);
	}
	pinner_drop(p);
}

static struct pinner *pin_kind_open(struct kunit *test)
{
	const struct pin_case *c = test->param_value;

	fake_mm_setup(c->area, ARRAY_SIZE(c->area));
	return pinner_open(test, c->va, c->nr, c->write);
}

static void pin_kind(struct kunit *test)
{
	pin_kind_run(test, pin_kind_open(test));
}

/* As little as possible in one go. */
static void pin_kind_small_batches(struct kunit *test)
{
	struct pinner *p = pin_kind_open(test);

	p->pc.batch = 1;
	p->pc.max_runs = PIN_SPAN_PAGES;
	p->pc.max_pages = 7;
	pin_kind_run(test, p);
}

/* Batches that end within leaves. */
static void pin_kind_odd_batches(struct kunit *test)
{
	struct pinner *p = pin_kind_open(test);

	p->pc.batch = 3 * PMD_PAGES + 1;
	pin_kind_run(test, p);
}

/* Pinning that does a little at a time. */
static void pin_kind_short_gup(struct kunit *test)
{
	struct pinner *p = pin_kind_open(test);

	fake->mm.gup_max = 1;
	pin_kind_run(test, p);
}

/* One reference a page, where leaves are not wanted: never more, never fewer. */
static void pin_kind_by_page(struct kunit *test)
{
	const struct pin_case *c = test->param_value;
	struct pinner *p = pin_kind_open(test);

	p->pc.leaves = false;
	KUNIT_EXPECT_EQ(test, c->ret, pinner_run(test, p));
	KUNIT_EXPECT_EQ(test, 0UL, p->leaves[PIN_LEAF_PMD]);
	KUNIT_EXPECT_EQ(test, 0UL, p->leaves[PIN_LEAF_PUD]);
	if (!c->ret)
		KUNIT_EXPECT_EQ(test, c->account, p->account);
	if (c->account == c->nr)
		KUNIT_EXPECT_EQ(test, c->nr, fake->mm.nr_pins);
	pinner_drop(p);
}

/* A thread that does not run on the mm cannot look: page by page, and slowly. */
static void pin_kind_by_stranger(struct kunit *test)
{
	const struct pin_case *c = test->param_value;
	struct pinner *p = pin_kind_open(test);

	fake_mm_leave();
	KUNIT_EXPECT_EQ(test, c->ret, pinner_run(test, p));
	KUNIT_EXPECT_EQ(test, 0UL, p->leaves[PIN_LEAF_PMD]);
	KUNIT_EXPECT_EQ(test, fake->mm.gup_calls, fake->mm.slow_calls);
	fake_mm_enter();
	pinner_drop(p);
}

/* pin_chunk_drop() forgets the batch as if it had not been asked for. */
static void pin_kind_drop(struct kunit *test)
{
	const struct pin_case *c = test->param_value;
	struct pinner *p = pin_kind_open(test);
	/* As much as there is room for, and of one span */
	const unsigned long batches[] = { p->pc.batch, 1 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(batches); i++) {
		p->pc.batch = batches[i];
		if (pin_chunk_fill(&p->pc) <= 0)
			break;
		pin_chunk_drop(&p->pc);
		KUNIT_EXPECT_EQ(test, c->va, p->pc.va);
		KUNIT_EXPECT_EQ(test, 0UL, p->pc.nr_pages);
		KUNIT_EXPECT_EQ(test, 0U, p->pc.pfns.nr);
		/* An error behind the batch is not of the next one. */
		p->pc.error = 0;
		p->pc.leaf = PIN_LEAF_NONE;
	}
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_pins);
}

/* ---- why there is no leaf ---- */

static const struct why_case {
	const char *desc;
	struct fake_area area[4];
	unsigned long va;
	unsigned long nr;
	bool off;
	bool stranger;
	enum map_fallback why;
	unsigned long spans;
} whys[] = {
	{ "leaves", { { MB(2), 1024, FAKE_PFN(512), PIN_LEAF_PMD, PMD_FOLIO } },
	  MB(2), 1024, false, false, MAP_FALLBACK_SMALL, 0 },
	{ "small pages", { { MB(2), 1024, FAKE_PFN(512), PIN_LEAF_PTE } },
	  MB(2), 1024, false, false, MAP_FALLBACK_SMALL, 2 },
	{ "cold small pages", { { MB(2), 1024, FAKE_PFN(512), PIN_LEAF_PTE, 0,
	  FAKE_COLD } }, MB(2), 1024, false, false, MAP_FALLBACK_SMALL, 2 },
	{ "pfns without pages", { { MB(2), 1024, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_PFNMAP } }, MB(2), 1024, false, false, MAP_FALLBACK_SMALL, 2 },
	{ "a leaf of device memory", { { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_DEVMAP } }, MB(2), 512, false, false,
	  MAP_FALLBACK_SMALL, 1 },
	{ "parts of leaves", { { MB(2), 1024, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(3), 512, false, false, MAP_FALLBACK_PART, 2 },
	{ "a leaf without writing", { { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_LEAF_RO } }, MB(2), 512, false, false,
	  MAP_FALLBACK_ACCESS, 1 },
	{ "a PUD leaf without writing", { { GB(1), 1024, FAKE_PFN(262144),
	  PIN_LEAF_PUD, PUD_FOLIO, FAKE_LEAF_RO } }, GB(1), 1024, false, false,
	  MAP_FALLBACK_ACCESS, 2 },
	{ "a leaf that moved", { { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO, 0, 512 } }, MB(2), 512, false, false, MAP_FALLBACK_MOVED,
	  1 },
	{ "a leaf of several folios", { { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO }, { MB(4), 512, FAKE_PFN(1024),
	  PIN_LEAF_PMD, 8 }, { MB(6), 512, FAKE_PFN(1536), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2), 1536, false, false, MAP_FALLBACK_FOLIO, 1 },
	{ "nobody wants leaves", { { MB(2), 1024, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2), 1024, true, false, MAP_FALLBACK_OFF, 2 },
	{ "a stranger's", { { MB(2), 1024, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2), 1024, false, true, MAP_FALLBACK_FOREIGN, 2 },
};

static void why_desc(const struct why_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(why, whys, why_desc);

static void pin_why(struct kunit *test)
{
	const struct why_case *c = test->param_value;
	struct pinner *p;
	unsigned int i;

	fake_mm_setup(c->area, ARRAY_SIZE(c->area));
	p = pinner_open(test, c->va, c->nr, true);
	p->pc.leaves = !c->off;
	if (c->stranger)
		fake_mm_leave();
	KUNIT_EXPECT_EQ(test, 0, pinner_run(test, p));
	if (c->stranger)
		fake_mm_enter();
	for (i = 0; i < MAP_FALLBACKS; i++)
		KUNIT_EXPECT_EQ_MSG(test, i == c->why ? c->spans : 0UL,
				    p->pc.count.fallbacks[i], "reason %u", i);
	pinner_drop(p);
}

/* ---- failures at each page ---- */

static const struct fail_case {
	const char *desc;
	struct fake_area area[4];
	unsigned long va;
	unsigned long nr;
	unsigned int max_pages;
} fails[] = {
	{ "pages", { { MB(2), 1024, FAKE_PFN(0), PIN_LEAF_PTE } },
	  MB(2), 1024, 512 },
	{ "pages, few a call", { { MB(2), 600, FAKE_PFN(0), PIN_LEAF_PTE } },
	  MB(2), 600, 5 },
	{ "scattered pages", { { MB(2), 600, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_SCATTERED } }, MB(2), 600, 512 },
	{ "pages from within a span", { { MB(3), 600, FAKE_PFN(0),
	  PIN_LEAF_PTE } }, MB(3), 600, 512 },
	{ "leaves", { { MB(2), 5120, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2), 5120, 512 },
	{ "pages, leaves, pages", { { MB(3), 256, FAKE_PFN(0), PIN_LEAF_PTE },
	  { MB(4), 2048, FAKE_PFN(1024), PIN_LEAF_PMD, PMD_FOLIO },
	  { MB(12), 256, FAKE_PFN(8192), PIN_LEAF_PTE } },
	  MB(3), 2560, 512 },
	{ "what is no leaf", { { MB(2), 1024, FAKE_PFN(512), PIN_LEAF_PMD,
	  8 } }, MB(2), 1024, 512 },
	{ "pages and pfns", { { MB(2), 100, FAKE_PFN(0), PIN_LEAF_PTE },
	  { MB(2) + 100 * PAGE_SIZE, 100, FAKE_PFN(100), PIN_LEAF_PTE, 0,
	  FAKE_PFNMAP }, { MB(2) + 200 * PAGE_SIZE, 100, FAKE_PFN(300),
	  PIN_LEAF_PTE } }, MB(2), 300, 512 },
};

static void fail_desc(const struct fail_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(fail, fails, fail_desc);

static const struct {
	unsigned long off;
	int error;
} fail_points[] = {
	{ 0, -EFAULT }, { 1, -ENOMEM }, { 2, -EFAULT }, { 4, -EAGAIN },
	{ 5, -EFAULT }, { 99, -ENOMEM }, { 100, -EFAULT }, { 199, -ENOMEM },
	{ 200, -EFAULT }, { 255, -EFAULT }, { 256, -ENOMEM }, { 299, -EFAULT },
	{ 510, -EFAULT }, { 511, -ENOMEM }, { 512, -EFAULT }, { 513, -EFAULT },
	{ 599, -EFAULT }, { 767, -EFAULT }, { 768, -ENOMEM }, { 1023, -EBUSY },
	{ 1024, -EFAULT }, { 1535, -EFAULT }, { 1536, -EFAULT },
	{ 2047, -EFAULT }, { 2303, -EFAULT }, { 2304, -EFAULT },
	{ 2559, -ENOMEM }, { 4607, -EFAULT }, { 4608, -EFAULT },
	{ 5119, -EFAULT },
};

/* All in front of the failing span is yielded; nothing of it stays pinned. */
static void pin_fail_with(struct kunit *test, bool silent)
{
	const struct fail_case *c = test->param_value;
	struct pinner *p = pinner_open(test, c->va, c->nr, true);
	unsigned int i;
	int ret;

	fake_mm_setup(c->area, ARRAY_SIZE(c->area));
	for (i = 0; i < ARRAY_SIZE(fail_points); i++) {
		if (fail_points[i].off >= c->nr)
			break;
		fake->mm.fail_va = c->va + (fail_points[i].off << PAGE_SHIFT);
		fake->mm.fail_error = fail_points[i].error;
		p->pc.va = c->va;
		p->pc.error = 0;
		p->pc.leaf = PIN_LEAF_NONE;
		p->pc.max_pages = c->max_pages;
		ret = pinner_run(test, p);
		if (ret) {
			KUNIT_ASSERT_EQ(test, silent ? -EFAULT :
					fail_points[i].error, ret);
			KUNIT_ASSERT_LE(test, p->pc.va, fake->mm.fail_va);
			KUNIT_ASSERT_LT(test, fake->mm.fail_va - p->pc.va,
					PIN_SPAN_SIZE);
		} else {
			/* It lies within a leaf, and nobody needed it. */
			KUNIT_ASSERT_EQ(test, p->pc.end, p->pc.va);
		}
		pinner_drop(p);
		KUNIT_ASSERT_EQ_MSG(test, 0UL, fake->mm.nr_pins,
				    "failure at page %lu", fail_points[i].off);
	}
}

static void pin_fail(struct kunit *test)
{
	pin_fail_with(test, false);
}

/* Nothing was pinned, and nothing says why: never a loop. */
static void pin_fail_silent(struct kunit *test)
{
	fake->mm.fail_silent = true;
	pin_fail_with(test, true);
}

static void stop_at(void *arg, unsigned long va)
{
	struct pinner *p = arg;

	if (va == fake->mm.fail_va)
		WRITE_ONCE(p->stop, true);
}

static void kill_at(void *arg, unsigned long va)
{
	if (va == fake->mm.fail_va)
		send_sig(SIGKILL, get_current(), 1);
}

/* Somebody stops it, or it is killed, at each of these pages. */
static void pin_stopped_by(struct kunit *test,
			   void (*on_pin)(void *arg, unsigned long va))
{
	const struct fail_case *c = test->param_value;
	struct pinner *p = pinner_open(test, c->va, c->nr, true);
	unsigned long before;
	unsigned int i;
	int ret;

	fake_mm_setup(c->area, ARRAY_SIZE(c->area));
	fake->mm.on_pin = on_pin;
	fake->mm.on_pin_arg = p;
	for (i = 0; i < ARRAY_SIZE(fail_points); i++) {
		if (fail_points[i].off >= c->nr)
			break;
		fake->mm.fail_va = c->va + (fail_points[i].off << PAGE_SHIFT);
		p->pc.va = c->va;
		p->pc.error = 0;
		p->pc.leaf = PIN_LEAF_NONE;
		p->pc.max_pages = c->max_pages;
		p->stop = false;
		ret = pinner_run(test, p);
		if (p->stop || fatal_signal_pending(get_current())) {
			/* The call that was under way may have been the last. */
			KUNIT_ASSERT_TRUE(test, ret == -EINTR ||
					  p->pc.va == p->pc.end);
			/* Not another call of any kind. */
			before = fake->mm.gup_calls;
			if (ret)
				KUNIT_ASSERT_EQ(test, -EINTR,
						pin_chunk_fill(&p->pc));
			KUNIT_ASSERT_EQ(test, before, fake->mm.gup_calls);
		} else {
			KUNIT_ASSERT_EQ(test, 0, ret);
		}
		flush_signals(get_current());
		pinner_drop(p);
		KUNIT_ASSERT_EQ(test, 0UL, fake->mm.nr_pins);
	}
}

static void pin_stopped(struct kunit *test)
{
	pin_stopped_by(test, stop_at);
}

static void pin_killed(struct kunit *test)
{
	allow_signal(SIGKILL);
	pin_stopped_by(test, kill_at);
	disallow_signal(SIGKILL);
}

/* A stop is noticed before anything is pinned. */
static void pin_stopped_before(struct kunit *test)
{
	const struct fail_case *c = test->param_value;
	struct pinner *p = pinner_open(test, c->va, c->nr, true);

	fake_mm_setup(c->area, ARRAY_SIZE(c->area));
	p->stop = true;
	KUNIT_EXPECT_EQ(test, -EINTR, pinner_run(test, p));
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.gup_calls);
}

/*
 * ---- what others are to fault in ----
 *
 * A thread that must not fault in memory of a pool pins what is there, and faults in all
 * else, up to the page before.
 */
static const struct pool_case {
	const char *desc;
	struct fake_area area[3];
	unsigned long nr;
	int ret;
	unsigned long pins;
} pools[] = {
	{ "pages", { { MB(2), 1024, FAKE_PFN(0), PIN_LEAF_PTE } }, 1024, 0,
	  1024 },
	{ "cold pages", { { MB(2), 1024, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_COLD } }, 1024, 0, 1024 },
	{ "pages that take the slow way", { { MB(2), 1024, FAKE_PFN(0),
	  PIN_LEAF_PTE, 0, FAKE_SLOW } }, 1024, 0, 1024 },
	{ "hugetlb that is there", { { MB(2), 1024, FAKE_PFN(0), PIN_LEAF_PMD,
	  PMD_FOLIO, FAKE_HUGETLB } }, 1024, 0, 2 },
	{ "cold hugetlb", { { MB(2), 1024, FAKE_PFN(0), PIN_LEAF_PMD, PMD_FOLIO,
	  FAKE_HUGETLB | FAKE_COLD } }, 1024, -EAGAIN, 0 },
	{ "cold pages, then hugetlb", { { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PTE, 0, FAKE_COLD }, { MB(4), 512, FAKE_PFN(1024),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_HUGETLB | FAKE_COLD } }, 1024,
	  -EAGAIN, 512 },
	{ "cold pages, then hugetlb in the same span", { { MB(2), 256,
	  FAKE_PFN(0), PIN_LEAF_PTE, 0, FAKE_SLOW }, { MB(3), 256,
	  FAKE_PFN(1024), PIN_LEAF_PTE, 0, FAKE_HUGETLB | FAKE_SLOW } }, 512,
	  -EAGAIN, 0 },
	{ "nothing, then hugetlb", { { MB(3), 256, FAKE_PFN(1024), PIN_LEAF_PTE,
	  0, FAKE_HUGETLB | FAKE_SLOW } }, 512, -EFAULT, 0 },
};

static void pool_desc(const struct pool_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(pool, pools, pool_desc);

static void pin_no_pool_memory(struct kunit *test)
{
	const struct pool_case *c = test->param_value;
	struct pinner *p = pinner_open(test, MB(2), c->nr, true);

	fake_mm_setup(c->area, ARRAY_SIZE(c->area));
	p->pc.no_pool = true;
	KUNIT_EXPECT_EQ(test, c->ret, pinner_run(test, p));
	KUNIT_EXPECT_EQ(test, c->pins, fake->mm.nr_pins);
	pinner_drop(p);
}

/* ---- how much work it is ---- */

static const struct cost_case {
	const char *desc;
	struct fake_area area;
	unsigned long max_calls;
	unsigned long max_slow;
} costs[] = {
	{ "512 PMD leaves", { GB(1), 262144, FAKE_PFN(262144), PIN_LEAF_PMD,
	  PMD_FOLIO }, 260, 0 },
	{ "4 PUD leaves", { GB(1), 1048576, FAKE_PFN(1048576), PIN_LEAF_PUD,
	  PUD_FOLIO }, 4, 0 },
	{ "8 spans of pages", { MB(2), 4096, FAKE_PFN(0), PIN_LEAF_PTE }, 8, 0 },
	/* Each is asked for twice, fast and slow. */
	{ "pfns of 8 PMDs", { MB(2), 4096, FAKE_PFN(512), PIN_LEAF_PMD, 0,
	  FAKE_PFNMAP | FAKE_DEVMAP }, 16, 8 },
	{ "pfns of 4 PUDs", { GB(1), 1048576, FAKE_PFN(1048576), PIN_LEAF_PUD,
	  0, FAKE_PFNMAP | FAKE_DEVMAP }, 8, 4 },
};

static void cost_desc(const struct cost_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(cost, costs, cost_desc);

static void pin_cost(struct kunit *test)
{
	const struct cost_case *c = test->param_value;
	struct pinner *p = pinner_open(test, c->area.va, c->area.nr, true);

	fake_mm_setup(&c->area, 1);
	KUNIT_EXPECT_EQ(test, 0, pinner_run(test, p));
	KUNIT_EXPECT_LE(test, fake->mm.gup_calls, c->max_calls);
	KUNIT_EXPECT_LE(test, fake->mm.slow_calls, c->max_slow);
	pinner_drop(p);
}

/* ---- a look at the page tables ---- */

static const struct look_case {
	const char *desc;
	struct fake_area area;
	unsigned long va;
	bool write;
	enum pin_leaf leaf;
	unsigned long pfn;
} looks[] = {
	{ "nothing", { }, MB(2), false, PIN_LEAF_NONE },
	{ "not user memory", { }, FAKE_TOP, false, PIN_LEAF_PTE },
	{ "the kernel's", { }, 0xffff888000000000UL, false, PIN_LEAF_PTE },
	{ "small pages", { MB(2), 512, FAKE_PFN(0), PIN_LEAF_PTE }, MB(2),
	  false, PIN_LEAF_PTE },
	{ "cold", { MB(2), 512, FAKE_PFN(0), PIN_LEAF_PMD, PMD_FOLIO,
	  FAKE_COLD }, MB(2), false, PIN_LEAF_NONE },
	{ "a PMD leaf", { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO }, MB(2), true, PIN_LEAF_PMD, FAKE_PFN(512) },
	{ "within a PMD leaf", { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO }, MB(2) + 17 * PAGE_SIZE, true, PIN_LEAF_PMD,
	  FAKE_PFN(529) },
	{ "a PUD leaf", { GB(1), 262144, FAKE_PFN(262144), PIN_LEAF_PUD,
	  PUD_FOLIO }, GB(1), true, PIN_LEAF_PUD, FAKE_PFN(262144) },
	{ "within a PUD leaf", { GB(1), 262144, FAKE_PFN(262144),
	  PIN_LEAF_PUD, PUD_FOLIO }, GB(2) - PAGE_SIZE, true, PIN_LEAF_PUD,
	  FAKE_PFN(524287) },
	{ "a read-only leaf", { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO, FAKE_RO }, MB(2), false, PIN_LEAF_PMD, FAKE_PFN(512) },
	{ "a read-only leaf, to be written", { MB(2), 512, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_RO }, MB(2), true, PIN_LEAF_PTE },
	{ "device memory", { MB(2), 512, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO, FAKE_DEVMAP }, MB(2), false, PIN_LEAF_PTE },
	{ "a PUD of device memory", { GB(1), 262144, FAKE_PFN(262144),
	  PIN_LEAF_PUD, PUD_FOLIO, FAKE_DEVMAP }, GB(1), false,
	  PIN_LEAF_PTE },
	{ "the last leaf", { FAKE_TOP - MB(2) + PAGE_SIZE, 511,
	  FAKE_PFN(512), PIN_LEAF_PMD, PMD_FOLIO }, FAKE_TOP - PAGE_SIZE, true,
	  PIN_LEAF_PMD, FAKE_PFN(1022) },
};

static void look_desc(const struct look_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(look, looks, look_desc);

static void pin_look(struct kunit *test)
{
	const struct look_case *c = test->param_value;
	unsigned long pfn = 0;

	fake_mm_setup(&c->area, 1);
	KUNIT_EXPECT_EQ(test, (int)c->leaf,
			(int)pin_leaf_at(fake->mm.mm, c->va, c->write, &pfn));
	if (c->leaf >= PIN_LEAF_PMD)
		KUNIT_EXPECT_EQ(test, c->pfn, pfn);

	fake_mm_leave();
	KUNIT_EXPECT_EQ(test, (int)PIN_LEAF_PTE,
			(int)pin_leaf_at(fake->mm.mm, c->va, c->write, &pfn));
	fake_mm_enter();
}

/* ---- single pages ---- */

static const struct one_case {
	const char *desc;
	unsigned int flags;
	bool write;
	int ret;
	bool held;
	bool account;
} ones[] = {
	{ "a page", 0, true, 0, true, true },
	{ "a read-only page", FAKE_RO, false, 0, true, true },
	{ "a read-only page, to be written", FAKE_RO, true, -EFAULT },
	{ "the zero page", FAKE_ZERO, false, 0, false, false },
	{ "a reserved page", FAKE_RESERVED, true, 0, true, false },
	{ "a pfn", FAKE_PFNMAP, true, 0, false, false },
	{ "a pfn to be faulted in", FAKE_PFNMAP | FAKE_COLD | FAKE_UNLOCKS,
	  true, 0, false, false },
	{ "a pfn that has a page", FAKE_PFNMAP_PAGES, true, -EFAULT },
};

static void one_desc(const struct one_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(one, ones, one_desc);

static void pin_one(struct kunit *test)
{
	const struct one_case *c = test->param_value;
	struct fake_area area = { MB(2), 3, FAKE_PFN(0), PIN_LEAF_PTE, 0,
				  c->flags };
	unsigned long va = MB(2) + PAGE_SIZE;
	struct pin_run run;
	bool account;

	fake_mm_setup(&area, 1);
	KUNIT_EXPECT_EQ(test, c->ret, pin_one_page(fake->mm.mm, va, c->write,
						   &run, &account));
	if (c->ret)
		return;
	KUNIT_EXPECT_EQ(test, fake_mm_pfn(va), run.pfn);
	KUNIT_EXPECT_EQ(test, 1U, run.nr);
	KUNIT_EXPECT_EQ(test, c->held, run.held);
	KUNIT_EXPECT_EQ(test, c->account, account);
	KUNIT_EXPECT_EQ(test, c->held ? 1UL : 0, fake->mm.nr_pins);
	pin_run_unpin(&run, c->write);
}

static struct kunit_case pin_cases[] = {
	KUNIT_CASE_PARAM(pin_kind, kind_gen_params),
	KUNIT_CASE_PARAM(pin_kind_small_batches, kind_gen_params),
	KUNIT_CASE_PARAM(pin_kind_odd_batches, kind_gen_params),
	KUNIT_CASE_PARAM(pin_kind_short_gup, kind_gen_params),
	KUNIT_CASE_PARAM(pin_kind_by_page, small_kind_gen_params),
	KUNIT_CASE_PARAM(pin_kind_by_stranger, small_kind_gen_params),
	KUNIT_CASE_PARAM(pin_kind_drop, kind_gen_params),
	KUNIT_CASE_PARAM(pin_why, why_gen_params),
	KUNIT_CASE_PARAM(pin_fail, fail_gen_params),
	KUNIT_CASE_PARAM(pin_fail_silent, fail_gen_params),
	KUNIT_CASE_PARAM(pin_stopped, fail_gen_params),
	KUNIT_CASE_PARAM(pin_killed, fail_gen_params),
	KUNIT_CASE_PARAM(pin_stopped_before, fail_gen_params),
	KUNIT_CASE_PARAM(pin_no_pool_memory, pool_gen_params),
	KUNIT_CASE_PARAM(pin_cost, cost_gen_params),
	KUNIT_CASE_PARAM(pin_look, look_gen_params),
	KUNIT_CASE_PARAM(pin_one, one_gen_params),
	{ }
};

static struct kunit_suite pin_suite = {
	.name = "vfio_mt_pin_chunk",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = pin_cases,
};

kunit_test_suite(pin_suite);
