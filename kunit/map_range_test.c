// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_range_test.c - a range is cut into chunks, mapped, and undone if need be
 *
 * First the plan, function by function; then whole maps through all the units
 * below, on the fake address space and fake IOMMUs: each page must be where it
 * belongs, in IOMMU pages as large as without cuts, charged once and pinned by
 * as many references as the record knows to drop again.
 */
#include "seam.h"
#include "../include/map_job.h"
#include "../include/map_range.h"
#include "../include/map_stat.h"
#include "../include/pin_record.h"
#include "padata_test.h"

/* Jobs run either way: see map_job_padata_test.c. */
static bool range_by_padata;

static unsigned int range_job_run(struct padata_mt_job *job,
				  const struct map_job_how *how)
{
	return range_by_padata ? padata_job_run(job, how) :
				 map_job_run(job, how);
}

/* What was counted of the last map. */
static struct map_stat_sum range_sum;
static int range_error;

static void range_stat_map(const struct map_stat_sum *sum, int error)
{
	range_sum = *sum;
	range_error = error;
}

/* Do helpers charge huge pages of a pool to whom they should? */
static bool range_hugetlb_for_all;

/* Somebody who has to hear of a signal before anything is undone: its worker->stop. */
static bool *range_told;

static void range_undoes(void)
{
	if (range_told && !READ_ONCE(*range_told))
		fake_complain("a helper goes on while a chunk is being undone");
}

/* The unit asks "current" which address space it runs on. */
#undef current
#define current fake_current()
#define map_job_run range_job_run
#define map_stat_map range_stat_map
#define map_job_charges_hugetlb() range_hugetlb_for_all
#define unmap_interval(range, va, end, unpin) \
	(range_undoes(), unmap_interval(range, va, end, unpin))
#define pin_record_unpin(rec, ext, nr, dirty) \
	(range_undoes(), pin_record_unpin(rec, ext, nr, dirty))
#include "../map_range.c"
#undef pin_record_unpin
#undef unmap_interval
#undef map_job_charges_hugetlb
#undef map_stat_map
#undef map_job_run
#undef current
#define current get_current()

/* ---- where a cut goes ---- */

static const struct cut_case {
	const char *desc;
	struct fake_area area;
	unsigned long va;
	unsigned long cut;
} cuts[] = {
	{ "small pages, aligned", { MB(2), 5120, FAKE_PFN(0), PIN_LEAF_PTE },
	  MB(6), MB(6) },
	{ "small pages, one page on", { MB(2), 5120, FAKE_PFN(0),
	  PIN_LEAF_PTE }, MB(6) + PAGE_SIZE, MB(8) },
	{ "one page before a span's end", { MB(2), 5120, FAKE_PFN(0),
	  PIN_LEAF_PTE }, MB(8) - PAGE_SIZE, MB(8) },
	{ "nothing there", { }, MB(6) + PAGE_SIZE, MB(8) },
	{ "THP", { GB(1), 262144, FAKE_PFN(0), PIN_LEAF_PMD, PMD_FOLIO },
	  GB(1) + MB(3), GB(1) + MB(4) },
	{ "hugetlb of 2 MiB", { GB(1), 262144, FAKE_PFN(0), PIN_LEAF_PMD,
	  PMD_FOLIO, FAKE_HUGETLB }, GB(1) + MB(3), GB(1) + MB(4) },
	{ "hugetlb of 1 GiB", { GB(1), 524288, FAKE_PFN(0), PIN_LEAF_PUD,
	  PUD_FOLIO, FAKE_HUGETLB }, GB(1) + MB(2), GB(2) },
	{ "hugetlb of 1 GiB, aligned", { GB(1), 524288, FAKE_PFN(0),
	  PIN_LEAF_PUD, PUD_FOLIO, FAKE_HUGETLB }, GB(2), GB(2) },
	{ "hugetlb of 1 GiB, the last page", { GB(1), 524288, FAKE_PFN(0),
	  PIN_LEAF_PUD, PUD_FOLIO, FAKE_HUGETLB }, GB(2) - PAGE_SIZE, GB(2) },
	{ "hugetlb of 64 KiB", { GB(1), 262144, FAKE_PFN(0), PIN_LEAF_PTE,
	  4, FAKE_HUGETLB }, GB(1) + MB(3), GB(1) + MB(4) },
	{ "the last span", { FAKE_TOP - MB(4), 1024, FAKE_PFN(0),
	  PIN_LEAF_PTE }, FAKE_TOP - MB(1), FAKE_TOP + PAGE_SIZE },
};

static void cut_desc(const struct cut_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(cut, cuts, cut_desc);

static void range_cut(struct kunit *test)
{
	const struct cut_case *c = test->param_value;
	struct map_range range = { .owner.mm = fake->mm.mm };
	struct map_work work = { .range = &range };

	fake_mm_setup(&c->area, 1);
	mmap_read_lock(fake->mm.mm);
	KUNIT_EXPECT_EQ(test, c->cut, map_cut(&work, c->va));
	mmap_read_unlock(fake->mm.mm);
}

/* For a copy, what counts is what is pinned. */
static void range_cut_copy(struct kunit *test)
{
	struct pin_run runs[] = {
		{ FAKE_PFN(512), PMD_PAGES, PIN_LEAF_PMD, true },
		{ FAKE_PFN(262144), PUD_PAGES, PIN_LEAF_PUD, true },
		{ FAKE_PFN(7), 5, PIN_LEAF_PTE, true },
	};
	struct pin_record rec = { };
	struct map_target from = { };
	struct map_range range = { .record = &rec };
	struct map_work work = { .range = &range, .from = &from };

	KUNIT_ASSERT_EQ(test, 0, pin_record_init(&rec, GB(1) - MB(2),
						 GB(1) + MB(4)));
	KUNIT_ASSERT_EQ(test, 0, pin_record_add(&rec, GB(1) - MB(2), runs, 3));
	KUNIT_EXPECT_EQ(test, GB(1), map_cut(&work, GB(1) - MB(1)));
	KUNIT_EXPECT_EQ(test, GB(1), map_cut(&work, GB(1)));
	KUNIT_EXPECT_EQ(test, GB(2), map_cut(&work, GB(1) + PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, GB(2), map_cut(&work, GB(2) - PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, GB(2) + MB(2), map_cut(&work, GB(2) + PAGE_SIZE));
	pin_record_destroy(&rec);
}

/* ---- how large a chunk is ---- */

static const struct chunk_case {
	unsigned int threads;
	unsigned long left;
	unsigned long min_chunk;
	unsigned long size;
} chunks[] = {
	{ 2, GB(1), MB(16), MB(256) },
	{ 2, GB(2), MB(16), MB(512) },
	{ 2, GB(4), MB(16), GB(1) },
	{ 2, GB(64), MB(16), GB(1) },
	{ 16, GB(1), MB(16), MB(32) },
	{ 16, MB(100), MB(16), MB(16) },
	{ 16, MB(1), MB(16), MB(16) },
	{ 2, MB(100), MB(2), MB(26) },
	{ 2, PAGE_SIZE, MB(2), MB(2) },
	{ 3, GB(1), MB(2), MB(172) },
};

static void chunk_desc(const struct chunk_case *c, char *desc)
{
	sprintf(desc, "%u threads, %lu KiB left, at least %lu MiB", c->threads,
		c->left / SZ_1K, c->min_chunk / SZ_1M);
}

KUNIT_ARRAY_PARAM(chunk, chunks, chunk_desc);

static void range_chunk_size(struct kunit *test)
{
	const struct chunk_case *c = test->param_value;
	struct map_work work = { .threads = c->threads };

	KUNIT_EXPECT_EQ(test, c->size, map_chunk_size(&work, c->left,
						      c->min_chunk));
}

/* ---- the plan ---- */

static const struct plan_case {
	const char *desc;
	struct fake_area area[4];
	unsigned long va;
	unsigned long size;
	unsigned int threads;
	unsigned long min_chunk;
} plans[] = {
	{ "one page", { { MB(2), 1, FAKE_PFN(0) } }, MB(2), PAGE_SIZE, 2,
	  MB(2) },
	{ "less than a chunk", { }, MB(3), MB(1), 2, MB(2) },
	{ "exactly a chunk", { }, MB(2), MB(2), 2, MB(2) },
	{ "a chunk and a page", { }, MB(2), MB(2) + PAGE_SIZE, 2, MB(2) },
	{ "a GiB", { }, GB(1), GB(1), 2, MB(2) },
	{ "a GiB from within a span", { }, GB(1) + 5 * PAGE_SIZE, GB(1), 3,
	  MB(16) },
	{ "page 0", { }, 0, MB(64), 4, MB(2) },
	{ "to the end of user memory", { }, FAKE_TOP - MB(64), MB(64), 4,
	  MB(2) },
	{ "hugetlb of 1 GiB", { { GB(1), 1048576, FAKE_PFN(0), PIN_LEAF_PUD,
	  PUD_FOLIO, FAKE_HUGETLB } }, GB(1), GB(4), 4, MB(16) },
	{ "a part of hugetlb of 1 GiB", { { GB(1), 1048576, FAKE_PFN(0),
	  PIN_LEAF_PUD, PUD_FOLIO, FAKE_HUGETLB } }, GB(1) + MB(6),
	  GB(3) + MB(512), 4, MB(2) },
	{ "hugetlb among others", { { GB(1) - MB(64), 16384, FAKE_PFN(0),
	  PIN_LEAF_PTE }, { GB(1), 524288, FAKE_PFN(262144), PIN_LEAF_PUD,
	  PUD_FOLIO, FAKE_HUGETLB }, { GB(3), 16384, FAKE_PFN(1048576),
	  PIN_LEAF_PMD, PMD_FOLIO } }, GB(1) - MB(64), GB(2) + MB(128), 8,
	  MB(2) },
	{ "64 GiB, 16 threads", { }, GB(64), GB(64), 16, MB(16) },
};

static void plan_desc(const struct plan_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(plan, plans, plan_desc);

/* The chunks make up the range, are cut at leaves only, and get no larger. */
static void range_plan(struct kunit *test)
{
	const struct plan_case *c = test->param_value;
	struct map_range range = { c->va, c->va, c->size };
	struct map_work work = { .range = &range, .threads = c->threads };
	unsigned long nr, i, va = c->va, room, leaf, largest = 0;
	struct map_chunk *chunk;

	fake_mm_setup(c->area, ARRAY_SIZE(c->area));
	range.owner.mm = fake->mm.mm;
	nr = map_cut_all(&work, c->min_chunk, NULL, ULONG_MAX);
	KUNIT_ASSERT_GT(test, nr, 0UL);
	chunk = kunit_kcalloc(test, nr, sizeof(*chunk), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, chunk);
	KUNIT_ASSERT_EQ(test, nr, map_cut_all(&work, c->min_chunk, chunk, nr));
	for (i = 0; i < nr; i++) {
		struct fake_area *a = NULL;
		unsigned int k;

		KUNIT_ASSERT_EQ(test, va, chunk[i].va);
		va = chunk[i].end;
		KUNIT_ASSERT_GT(test, va, chunk[i].va);
		if (i == nr - 1)
			break;
		KUNIT_ASSERT_GE(test, va - chunk[i].va, c->min_chunk);
		for (k = 0; k < fake->mm.nr_areas; k++)
			if (va > fake->mm.areas[k].va && va <
			    fake->mm.areas[k].va +
			    (fake->mm.areas[k].nr << PAGE_SHIFT))
				a = &fake->mm.areas[k];
		leaf = a && a->leaf == PIN_LEAF_PUD ? PUD_SIZE : PMD_SIZE;
		KUNIT_ASSERT_TRUE(test, IS_ALIGNED(va, leaf));
		/* It grew by no more than the move to a leaf's end. */
		if (largest)
			KUNIT_ASSERT_LT(test, va - chunk[i].va,
					largest + PUD_SIZE);
		largest = va - chunk[i].va;
	}
	KUNIT_EXPECT_EQ(test, c->va + c->size, va);

	/* However little room there is, the chunks make up the range. */
	for (room = 1; room <= nr; room += 1 + nr / 5) {
		i = map_cut_all(&work, c->min_chunk, chunk, room);
		KUNIT_ASSERT_LE(test, i, room);
		KUNIT_EXPECT_EQ(test, c->va, chunk[0].va);
		KUNIT_EXPECT_EQ(test, c->va + c->size, chunk[i - 1].end);
	}
}

/* ---- how many threads ---- */

static const struct threads_case {
	const char *desc;
	struct fake_area area;
	unsigned long size;
	unsigned int min_chunk;
	unsigned int helper_us;
	unsigned int max_threads;
	unsigned int threads;
} threads[] = {
	{ "a page", { GB(1), 1, FAKE_PFN(0), PIN_LEAF_PTE }, PAGE_SIZE, 16,
	  500, 0, 1 },
	{ "small pages, 64 MiB", { GB(1), 16384, FAKE_PFN(0), PIN_LEAF_PTE },
	  MB(64), 16, 500, 0, 2 },
	{ "small pages, 16 MiB", { GB(1), 4096, FAKE_PFN(0), PIN_LEAF_PTE },
	  MB(16), 16, 500, 0, 1 },
	{ "small pages, 32 MiB", { GB(1), 8192, FAKE_PFN(0), PIN_LEAF_PTE },
	  MB(32), 16, 500, 0, 2 },
	{ "cold, 32 MiB", { GB(1), 8192, FAKE_PFN(0), PIN_LEAF_PTE, 0,
	  FAKE_COLD }, MB(32), 16, 500, 0, 2 },
	{ "PMD leaves, 1 GiB", { GB(1), 262144, FAKE_PFN(0), PIN_LEAF_PMD,
	  PMD_FOLIO }, GB(1), 16, 500, 0, 1 },
	{ "PMD leaves, 8 GiB", { GB(8), 2097152, FAKE_PFN(0), PIN_LEAF_PMD,
	  PMD_FOLIO }, GB(8), 16, 500, 0, 2 },
	{ "PMD leaves, regardless of the work", { GB(1), 262144, FAKE_PFN(0),
	  PIN_LEAF_PMD, PMD_FOLIO }, GB(1), 16, 0, 0, 2 },
	{ "PUD leaves, 64 GiB", { GB(64), 16777216, FAKE_PFN(0),
	  PIN_LEAF_PUD, PUD_FOLIO }, GB(64), 16, 500, 0, 1 },
	{ "one thread wanted", { GB(1), 16384, FAKE_PFN(0), PIN_LEAF_PTE },
	  MB(64), 16, 0, 1, 1 },
	{ "more than there are CPUs", { GB(1), 16384, FAKE_PFN(0),
	  PIN_LEAF_PTE }, MB(64), 1, 0, 100, 2 },
};

static void threads_desc(const struct threads_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(threads, threads, threads_desc);

static void range_tune(unsigned int min_chunk, unsigned int helper_us,
		       unsigned int max_threads)
{
	map_tune = (struct map_tune){
		.max_threads = max_threads,
		.min_chunk = min_chunk,
		.helper_us = helper_us,
		.lockvm_batch = 700,
	};
}

static void range_threads(struct kunit *test)
{
	const struct threads_case *c = test->param_value;
	struct map_range range = { c->area.va, c->area.va, c->size };
	struct map_work work = { .range = &range };
	unsigned int cpus = num_online_cpus();

	fake_mm_setup(&c->area, 1);
	range.owner.mm = fake->mm.mm;
	range_tune(c->min_chunk, c->helper_us, c->max_threads);
	if (c->threads > 1)
		KUNIT_EXPECT_EQ(test, min(cpus, c->threads),
				min(map_threads(&work), c->threads));
	else
		KUNIT_EXPECT_EQ(test, 1U, map_threads(&work));
}

/* ---- how little a chunk has ---- */

static const struct least_case {
	const char *desc;
	unsigned long size;
	u64 estimate;
	unsigned int helper_us;
	unsigned long least;
} leasts[] = {
	{ "not estimated", GB(1), 0, 500, MB(16) },
	{ "all of it is not worth a helper", GB(1), 500000, 500, MB(16) },
	{ "huge pages", GB(64), 64 * 512 * 400, 500, MB(16) },
	{ "small pages", GB(1), 512 * 40000, 500, MB(8) },
	{ "small pages, helpers are dear", GB(1), 512 * 40000, 1000, MB(14) },
	{ "cold", GB(1), 512 * 200000, 500, MB(2) },
	{ "cold, helpers are dear", GB(1), 512 * 200000, 3000, MB(8) },
	{ "half of it cold", GB(1), 512 * 120000, 2000, MB(10) },
	{ "cold, helpers are cheap", GB(1), 512 * 200000, 1, MB(2) },
	{ "cold, helpers have become free meanwhile", GB(1), 512 * 200000, 0,
	  MB(2) },
	{ "cold, all that there can be", 1UL << 63, 200000ULL << 42, 3000,
	  MB(8) },
};

static void least_desc(const struct least_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(least, leasts, least_desc);

static void range_least(struct kunit *test)
{
	const struct least_case *c = test->param_value;
	struct map_range range = { .size = c->size };
	struct map_work work = { .range = &range, .estimate = c->estimate };

	range_tune(16, c->helper_us, 0);
	KUNIT_EXPECT_EQ(test, c->least, map_least_chunk(&work, MB(16)));
}

/* What is estimated to be planned by, and that the plan goes by it. */
static void range_plan_cold(struct kunit *test)
{
	struct fake_area area = { GB(1), 262144, FAKE_PFN(0), PIN_LEAF_PTE, 0,
				  FAKE_COLD };
	struct map_range range = { GB(1), GB(1), GB(1) };
	struct map_work work = { .range = &range };
	struct map_chunk single;

	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU has no helpers");
	fake_mm_setup(&area, 1);
	range.owner.mm = fake->mm.mm;
	range_tune(16, 500, 0);
	map_plan(&work, &single);
	KUNIT_EXPECT_EQ(test, 512 * 200000ULL, work.estimate);
	KUNIT_EXPECT_EQ(test, work.nr,
			map_cut_all(&work, MB(2), NULL, ULONG_MAX));
	KUNIT_EXPECT_GT(test, work.nr,
			map_cut_all(&work, MB(16), NULL, ULONG_MAX));
	kvfree(work.chunks);
}

/*
 * Where helpers would charge huge pages to somebody else, the caller faults them
 * in itself: all of a range that has any. A copy faults nothing in.
 */
static const struct caller_case {
	const char *desc;
	struct fake_area area[3];
	bool for_all;
	bool copy;
	bool alone;
} callers[] = {
	{ "small pages", { { GB(1), 65536, FAKE_PFN(0), PIN_LEAF_PTE } },
	  false, false, false },
	{ "hugetlb", { { GB(1), 65536, FAKE_PFN(0), PIN_LEAF_PMD, PMD_FOLIO,
	  FAKE_HUGETLB } }, false, false, true },
	{ "hugetlb, charged to the caller", { { GB(1), 65536, FAKE_PFN(0),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_HUGETLB } }, true, false, false },
	{ "hugetlb, copied", { { GB(1), 65536, FAKE_PFN(0), PIN_LEAF_PMD,
	  PMD_FOLIO, FAKE_HUGETLB } }, false, true, false },
	{ "hugetlb at the end", { { GB(1), 65024, FAKE_PFN(0), PIN_LEAF_PTE },
	  { GB(1) + MB(254), 512, FAKE_PFN(65536), PIN_LEAF_PMD, PMD_FOLIO,
	  FAKE_HUGETLB } }, false, false, true },
	{ "hugetlb on both sides", { { GB(1) - MB(2), 512, FAKE_PFN(0),
	  PIN_LEAF_PMD, PMD_FOLIO, FAKE_HUGETLB }, { GB(1), 65536,
	  FAKE_PFN(65536), PIN_LEAF_PTE }, { GB(1) + MB(256), 512,
	  FAKE_PFN(512), PIN_LEAF_PMD, PMD_FOLIO, FAKE_HUGETLB } }, false,
	  false, false },
};

static void caller_desc(const struct caller_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(caller, callers, caller_desc);

static void range_for_caller(struct kunit *test)
{
	const struct caller_case *c = test->param_value;
	struct pin_run leaves = { FAKE_PFN(0), 65536, PIN_LEAF_PMD, true };
	struct pin_record rec = { };
	struct map_range range = { GB(1), GB(1), MB(256), .record = &rec };
	struct map_target from = { };
	struct map_work work = { .range = &range };

	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU has no helpers");
	fake_mm_setup(c->area, ARRAY_SIZE(c->area));
	range.owner.mm = fake->mm.mm;
	KUNIT_ASSERT_EQ(test, 0, pin_record_init(&rec, GB(1), MB(256)));
	if (c->copy) {
		work.from = &from;
		KUNIT_ASSERT_EQ(test, 0, pin_record_add(&rec, GB(1), &leaves,
							1));
	}
	range_tune(16, 0, 0);
	range_hugetlb_for_all = c->for_all;
	KUNIT_EXPECT_EQ(test, c->alone, map_threads(&work) == 1);
	pin_record_destroy(&rec);
}

/* ---- whole maps ---- */

static const struct whole_case {
	const char *desc;
	struct fake_area area[4];
	unsigned long va;
	unsigned long iova;
	unsigned long size;
	unsigned long pgsizes;
	unsigned long pins;
} wholes[] = {
	{ "one page", { { MB(2), 1, FAKE_PFN(9), PIN_LEAF_PTE } }, MB(2), MB(2),
	  PAGE_SIZE, FAKE_SIZES, 1 },
	{ "pages, 8 MiB", { { MB(2), 2048, FAKE_PFN(512), PIN_LEAF_PTE } },
	  MB(2), MB(2), MB(8), FAKE_SIZES, 2048 },
	{ "pages, IOVA at another offset", { { MB(2), 2048, FAKE_PFN(512),
	  PIN_LEAF_PTE } }, MB(2), MB(7) + SZ_4K, MB(8), FAKE_SIZES, 2048 },
	{ "pages, IOVA and memory at the same other offset", { { MB(2), 2048,
	  FAKE_PFN(512 + 77), PIN_LEAF_PTE } }, MB(2), MB(2) + 77 * SZ_4K,
	  MB(8), FAKE_SIZES, 2048 },
	{ "pages, start and end within spans", { { MB(2), 2560, FAKE_PFN(512),
	  PIN_LEAF_PTE } }, MB(3) + SZ_4K, MB(3) + SZ_4K, MB(8) - SZ_8K,
	  FAKE_SIZES, 2046 },
	{ "scattered pages", { { MB(2), 1536, FAKE_PFN(512), PIN_LEAF_PTE, 0,
	  FAKE_SCATTERED } }, MB(2), MB(2), MB(6), FAKE_SIZES, 1536 },
	{ "PMD leaves, 32 MiB", { { MB(2), 8192, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2), MB(2), MB(32), FAKE_SIZES, 16 },
	{ "PMD leaves, IOVA off by a page", { { MB(2), 4096, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO } }, MB(2), MB(2) + SZ_4K, MB(16),
	  FAKE_SIZES, 8 },
	{ "PMD leaves, parts at both ends", { { MB(2), 8192, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO } }, MB(2) + SZ_4K, GB(4) + SZ_4K,
	  MB(32) - SZ_8K, FAKE_SIZES, 511 + 511 + 14 },
	{ "PMD leaves that make up a GiB", { { GB(1), 262144, FAKE_PFN(262144),
	  PIN_LEAF_PMD, PMD_FOLIO } }, GB(1), GB(5), GB(1), FAKE_SIZES, 512 },
	{ "likewise, at another place in the GiB of the IOVA", { { GB(1),
	  262144, FAKE_PFN(262144 + 2048), PIN_LEAF_PMD, PMD_FOLIO } }, GB(1),
	  GB(5) + MB(8), GB(1), FAKE_SIZES, 512 },
	{ "PUD leaves", { { GB(1), 1048576, FAKE_PFN(1048576), PIN_LEAF_PUD,
	  PUD_FOLIO, FAKE_HUGETLB } }, GB(1), GB(1), GB(4), FAKE_SIZES, 4 },
	{ "PUD leaves, parts at both ends", { { GB(1), 1048576,
	  FAKE_PFN(1048576), PIN_LEAF_PUD, PUD_FOLIO, FAKE_HUGETLB } },
	  GB(2) - MB(2), GB(2) - MB(2), GB(1) + MB(4), FAKE_SIZES, 3 },
	{ "PUD leaves, no such IOMMU pages", { { GB(1), 524288,
	  FAKE_PFN(524288), PIN_LEAF_PUD, PUD_FOLIO, FAKE_HUGETLB } }, GB(1),
	  GB(1), GB(2), SZ_4K | SZ_2M, 2 },
	{ "PMD leaves, small IOMMU pages", { { MB(2), 2048, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO } }, MB(2), MB(2), MB(8), SZ_4K, 4 },
	{ "pages, leaves, pfns, zero page", { { MB(2), 512, FAKE_PFN(7),
	  PIN_LEAF_PTE }, { MB(4), 2048, FAKE_PFN(1024), PIN_LEAF_PMD,
	  PMD_FOLIO }, { MB(12), 700, FAKE_PFN(8192), PIN_LEAF_PTE, 0,
	  FAKE_PFNMAP }, { MB(12) + 700 * SZ_4K, 324, FAKE_PFN(10000),
	  PIN_LEAF_PTE, 0, FAKE_RESERVED } }, MB(2), MB(2), MB(14),
	  FAKE_SIZES, 512 + 4 + 324 },
	{ "cold leaves", { { MB(2), 8192, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO, FAKE_COLD } }, MB(2), MB(2), MB(32), FAKE_SIZES, 16 },
	{ "the end of 64 bits", { { GB(1), 4096, FAKE_PFN(262144 - 4096),
	  PIN_LEAF_PMD, PMD_FOLIO } }, GB(1), -MB(16), MB(16), FAKE_SIZES, 8 },
	{ "IOVA 0, page 0", { { 0, 4096, FAKE_PFN(0), PIN_LEAF_PTE } }, 0, 0,
	  MB(16), FAKE_SIZES, 4096 },
	{ "the end of user memory", { { FAKE_TOP - MB(16) + SZ_4K, 4095,
	  FAKE_PFN(4096), PIN_LEAF_PTE } }, FAKE_TOP - MB(16) + SZ_4K, MB(16),
	  MB(16) - SZ_4K, FAKE_SIZES, 4095 },
};

static void whole_desc(const struct whole_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(whole, wholes, whole_desc);

/* Everything that mapping a case needs. */
struct mapper {
	struct pin_record rec;
	struct map_range range;
	struct map_target tgt;
	struct iommu_domain *domains[2];
	struct fake_domain *fd[2];
	struct fake_domain *ref;
};

static struct mapper *mapper_make(struct kunit *test,
				  const struct whole_case *c,
				  unsigned int nr_domains)
{
	struct mapper *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, m);
	fake_mm_setup(c->area, ARRAY_SIZE(c->area));
	for (i = 0; i < nr_domains; i++) {
		m->fd[i] = fake_domain_create(c->pgsizes);
		m->domains[i] = &m->fd[i]->domain;
	}
	m->tgt = (struct map_target){ m->domains, nr_domains,
				      IOMMU_READ | IOMMU_WRITE, c->pgsizes,
				      false };
	m->range = (struct map_range){
		.vaddr = c->va,
		.iova = c->iova,
		.size = c->size,
		.owner = { fake->mm.mm, get_current(), false },
		.record = &m->rec,
		.tgt = &m->tgt,
	};
	KUNIT_ASSERT_EQ(test, 0, pin_record_init(&m->rec, c->va, c->size));
	return m;
}

/* The part of an area that is in the range, as extents. */
static bool mapper_extent(const struct mapper *m, unsigned long *va,
			  struct pin_extent *ext)
{
	unsigned long end = m->range.vaddr + m->range.size;
	const struct fake_area *a;
	unsigned int i;

	for (i = 0; i < fake->mm.nr_areas; i++) {
		a = &fake->mm.areas[i];
		if (*va < a->va || *va >= a->va + (a->nr << PAGE_SHIFT) ||
		    *va >= end)
			continue;
		ext->va = *va;
		ext->pfn = fake_mm_pfn(*va);
		ext->nr = 1;
		if (!(a->flags & (FAKE_SCATTERED | FAKE_ZERO)))
			ext->nr = (min(end, a->va + (a->nr << PAGE_SHIFT)) -
				   *va) >> PAGE_SHIFT;
		*va += ext->nr << PAGE_SHIFT;
		return true;
	}
	return false;
}

/* What the IOMMU core makes of it without any cut. */
static void mapper_reference(struct kunit *test, struct mapper *m)
{
	unsigned long va = m->range.vaddr;
	unsigned long to_iova = m->range.iova - va;
	struct pin_extent cur = { }, ext;
	bool more;

	m->ref = fake_domain_create(m->tgt.pgsizes);
	do {
		more = mapper_extent(m, &va, &ext);
		if (more && cur.nr && cur.pfn + cur.nr == ext.pfn) {
			cur.nr += ext.nr;
			continue;
		}
		if (cur.nr)
			KUNIT_ASSERT_EQ(test, 0,
					fake_domain_map(m->ref,
							cur.va + to_iova,
							cur.pfn, cur.nr));
		cur = ext;
	} while (more);
	KUNIT_ASSERT_EQ(test, m->range.size, fake_domain_mapped(m->ref));
}

/* Every page is where it belongs, and the IOMMU pages are as large as can be. */
static void mapper_compare(struct kunit *test, struct mapper *m,
			   struct fake_domain *fd)
{
	unsigned long off, step = m->range.size > MB(64) ? MB(1) + SZ_4K :
				  m->range.size > MB(8) ? 17 * SZ_4K : SZ_4K;
	unsigned int i;

	for (i = 0; i < FAKE_LEVELS; i++)
		KUNIT_EXPECT_EQ_MSG(test, m->ref->nr_pages[i], fd->nr_pages[i],
				    "level %u", i);
	for (off = 0; off < m->range.size; off += step)
		KUNIT_ASSERT_EQ(test, fake_mm_pfn(m->range.vaddr + off),
				fake_domain_pfn(fd, m->range.iova + off));
}

static unsigned long mapper_account(const struct mapper *m)
{
	unsigned long end = m->range.vaddr + m->range.size, sum = 0;
	const struct fake_area *a;
	unsigned int i;

	for (i = 0; i < fake->mm.nr_areas; i++) {
		a = &fake->mm.areas[i];
		if (!(a->flags & (FAKE_PFNMAP | FAKE_RESERVED | FAKE_ZERO)) &&
		    a->va < end)
			sum += (min(end, a->va + (a->nr << PAGE_SHIFT)) -
				max(m->range.vaddr, a->va)) >> PAGE_SHIFT;
	}
	return sum;
}

static bool mapper_is_clean(const struct mapper *m)
{
	unsigned int i;

	for (i = 0; i < m->tgt.nr; i++)
		if (fake_domain_mapped(m->fd[i]))
			return false;
	return !fake->mm.nr_pins && !fake->mm.locked;
}

static void mapper_done(struct mapper *m)
{
	pin_record_destroy(&m->rec);
	if (m->ref)
		fake_domain_forget(m->ref);
}

static void mapper_unmap(struct kunit *test, struct mapper *m,
			 unsigned long charged)
{
	map_range_unmap(&m->range);
	lockvm_uncharge(&m->range.owner, charged);
	KUNIT_EXPECT_TRUE(test, mapper_is_clean(m));
}

/* All pages were counted once, and so was each reference. */
static void range_counted(struct kunit *test, const struct whole_case *c)
{
	const struct map_stat_pins *pins = &range_sum.pins;

	KUNIT_EXPECT_EQ(test, 0, range_error);
	KUNIT_EXPECT_EQ(test, c->size, range_sum.size);
	KUNIT_EXPECT_EQ(test, c->pins,
			range_sum.ptes + pins->pmds + pins->puds);
	KUNIT_EXPECT_EQ(test, c->size >> PAGE_SHIFT,
			range_sum.ptes + pins->unheld + pins->pmds * PMD_PAGES +
			pins->puds * PUD_PAGES);
	KUNIT_EXPECT_GE(test, range_sum.threads, 1U);
	KUNIT_EXPECT_LE(test, range_sum.threads, range_sum.planned);
}

static void range_whole_by(struct kunit *test, unsigned int max_threads,
			   bool padata, unsigned int nr_domains)
{
	const struct whole_case *c = test->param_value;
	struct mapper *m = mapper_make(test, c, nr_domains);
	unsigned long charged;
	unsigned int i;

	range_tune(2, 0, max_threads);
	range_by_padata = padata;
	KUNIT_ASSERT_EQ(test, 0, map_range_map(&m->range, &charged));
	range_by_padata = false;
	mapper_reference(test, m);
	for (i = 0; i < nr_domains; i++)
		mapper_compare(test, m, m->fd[i]);
	KUNIT_EXPECT_EQ(test, c->pins, fake->mm.nr_pins);
	KUNIT_EXPECT_EQ(test, mapper_account(m), charged);
	KUNIT_EXPECT_EQ(test, charged, fake->mm.locked);
	range_counted(test, c);
	fake_domain_forget(m->ref);
	mapper_unmap(test, m, charged);
	mapper_done(m);
}

static void range_whole_alone(struct kunit *test)
{
	range_whole_by(test, 1, false, 1);
}

static void range_whole_threads(struct kunit *test)
{
	range_whole_by(test, 0, false, 2);
}

static void range_whole_padata(struct kunit *test)
{
	range_whole_by(test, 0, true, 1);
}

/* disable_hugepages: a reference a page, and small IOMMU pages. */
static void range_whole_single(struct kunit *test)
{
	const struct whole_case *c = test->param_value;
	struct mapper *m = mapper_make(test, c, 1);
	unsigned long charged;

	if (c->size > MB(8)) {
		m->range.size = MB(4);
		pin_record_destroy(&m->rec);
		KUNIT_ASSERT_EQ(test, 0, pin_record_init(&m->rec, c->va, MB(4)));
	}
	range_tune(2, 0, 0);
	m->tgt.single = true;
	KUNIT_ASSERT_EQ(test, 0, map_range_map(&m->range, &charged));
	KUNIT_EXPECT_EQ(test, m->range.size >> PAGE_SHIFT,
			m->fd[0]->nr_pages[0]);
	KUNIT_EXPECT_GE(test, fake->mm.nr_pins, charged);
	mapper_unmap(test, m, charged);
	mapper_done(m);
}

/* Some of it is charged already: a device has pinned it. */
static unsigned long range_charged_even(void *arg, unsigned long offset,
					unsigned long nr)
{
	/* Every other page from the range's start on. */
	return DIV_ROUND_UP(nr, 2) -
	       ((offset >> PAGE_SHIFT) % 2 && nr % 2 ? 1 : 0);
}

static void range_whole_charged(struct kunit *test)
{
	const struct whole_case *c = test->param_value;
	struct mapper *m = mapper_make(test, c, 1);
	unsigned long charged, pages = c->size >> PAGE_SHIFT;

	range_tune(2, 0, 0);
	m->range.charged = range_charged_even;
	KUNIT_ASSERT_EQ(test, 0, map_range_map(&m->range, &charged));
	if (mapper_account(m) == pages)
		KUNIT_EXPECT_EQ(test, pages / 2, charged);
	mapper_unmap(test, m, charged);
	mapper_done(m);
}

/*
 * A device has pinned what is the zero page by now: that is not charged, and pays for
 * no other page.
 */
static unsigned long range_charged_zero(void *arg, unsigned long offset,
					unsigned long nr)
{
	/* The first page, if it is there */
	return !offset && nr;
}

static void range_charged_was_replaced(struct kunit *test)
{
	const struct whole_case c = {
		.desc = "zero page, pages",
		.area = { { MB(2), 1, FAKE_PFN(7), PIN_LEAF_PTE, 0, FAKE_ZERO },
			  { MB(2) + PAGE_SIZE, 99, FAKE_PFN(8), PIN_LEAF_PTE } },
		.va = MB(2),
		.iova = MB(2),
		.size = 100 * PAGE_SIZE,
		.pgsizes = FAKE_SIZES,
	};
	struct mapper *m = mapper_make(test, &c, 1);
	unsigned long charged;

	m->range.charged = range_charged_zero;
	KUNIT_ASSERT_EQ(test, 0, map_range_map(&m->range, &charged));
	KUNIT_EXPECT_EQ(test, 99UL, charged);
	mapper_unmap(test, m, charged);
	mapper_done(m);
}

/* ---- failures ---- */

static const struct undo_case {
	struct whole_case whole;
	unsigned int max_threads;
} undos[] = {
	{ { "pages, alone", { { MB(3), 1536, FAKE_PFN(512), PIN_LEAF_PTE } },
	  MB(3), MB(3), MB(6), FAKE_SIZES }, 1 },
	{ { "pages, with threads", { { MB(3), 1536, FAKE_PFN(512),
	  PIN_LEAF_PTE } }, MB(3), MB(3), MB(6), FAKE_SIZES } },
	{ { "scattered pages, with threads", { { MB(2), 1536, FAKE_PFN(512),
	  PIN_LEAF_PTE, 0, FAKE_SCATTERED } }, MB(2), MB(2), MB(6),
	  FAKE_SIZES } },
	{ { "leaves, alone", { { MB(2), 8192, FAKE_PFN(512), PIN_LEAF_PMD,
	  PMD_FOLIO } }, MB(2), MB(2), MB(32), FAKE_SIZES }, 1 },
	{ { "leaves, with threads", { { MB(2), 8192, FAKE_PFN(512),
	  PIN_LEAF_PMD, PMD_FOLIO } }, MB(2), MB(2), MB(32), FAKE_SIZES } },
	{ { "leaves and seams", { { MB(2), 8192, FAKE_PFN(512 + 2048),
	  PIN_LEAF_PMD, PMD_FOLIO } }, MB(2), GB(1) + MB(10), MB(32),
	  FAKE_SIZES } },
	{ { "pages and seams", { { MB(2), 1536, FAKE_PFN(512 + 77),
	  PIN_LEAF_PTE } }, MB(2), MB(2) + 77 * SZ_4K, MB(6), FAKE_SIZES } },
	{ { "pages, leaves, pfns", { { MB(2), 512, FAKE_PFN(7), PIN_LEAF_PTE },
	  { MB(4), 2048, FAKE_PFN(1024), PIN_LEAF_PMD, PMD_FOLIO }, { MB(12),
	  1024, FAKE_PFN(8192), PIN_LEAF_PTE, 0, FAKE_PFNMAP } }, MB(2), MB(2),
	  MB(14), FAKE_SIZES } },
};

static void undo_desc(const struct undo_case *c, char *desc)
{
	strscpy(desc, c->whole.desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(undo, undos, undo_desc);

static struct mapper *mapper_make_undo(struct kunit *test)
{
	const struct undo_case *c = test->param_value;

	range_tune(2, 0, c->max_threads);
	return mapper_make(test, &c->whole, 2);
}

/* It failed, nothing is left, and it can be done again. */
static void mapper_expect_undone(struct kunit *test, struct mapper *m,
				 unsigned long where)
{
	KUNIT_ASSERT_TRUE_MSG(test, mapper_is_clean(m), "failure at %lu", where);
	KUNIT_ASSERT_TRUE(test, xa_empty(&m->rec.frags));
}

/* Places where a failure is tried: the pages at the ends of each span. */
static unsigned long next_page(const struct mapper *m, unsigned long page)
{
	unsigned long last = PMD_PAGES - 1;
	unsigned long in_span = ((m->range.vaddr >> PAGE_SHIFT) + page) &
				last;

	return page + (in_span == 0 || in_span == last ? 1 : last - in_span);
}

static void range_pin_fails(struct kunit *test)
{
	struct mapper *m = mapper_make_undo(test);
	unsigned long page, charged, pages = m->range.size >> PAGE_SHIFT;
	int ret;

	for (page = 0; page < pages; page = next_page(m, page)) {
		fake->mm.fail_va = m->range.vaddr + (page << PAGE_SHIFT);
		fake->mm.fail_error = -EHWPOISON;
		ret = map_range_map(&m->range, &charged);
		if (!ret) {
			/* Nobody needed that page: it is in a leaf. */
			mapper_unmap(test, m, charged);
			pin_record_clear(&m->rec, m->range.vaddr,
					 m->range.vaddr + m->range.size);
			continue;
		}
		KUNIT_ASSERT_EQ(test, -EHWPOISON, ret);
		KUNIT_ASSERT_EQ(test, 0UL, charged);
		mapper_expect_undone(test, m, page);
	}
	mapper_done(m);
}

/* Cases in which each page is pinned for itself. */
static const void *paged_gen_params(FAKE_GEN_ARGS)
{
	const struct undo_case *c = prev;

	do
		c = fake_next_param(undo_gen_params, c, desc);
	while (c && (c->whole.area[0].leaf != PIN_LEAF_PTE ||
		     c->whole.area[1].nr));
	return c;
}

/**
 * struct two_errors - two pages that cannot be pinned
 * @hole: the higher one
 * @hole_seen: completed when somebody is about to pin it
 */
struct two_errors {
	unsigned long hole;
	struct completion hole_seen;
};

/* The lower error waits for the higher one, for a moment. */
static void two_errors_on_pin(void *arg, unsigned long va)
{
	struct two_errors *two = arg;

	if (va == two->hole)
		complete_all(&two->hole_seen);
	else if (va == fake->mm.fail_va)
		wait_for_completion_timeout(&two->hole_seen, HZ / 50);
}

/* Of two failures, the lower address's is reported, whichever comes first. */
static void range_lowest_error(struct kunit *test)
{
	struct mapper *m = mapper_make_undo(test);
	unsigned long charged, end = m->range.vaddr + m->range.size;
	struct two_errors two = { .hole = end - PAGE_SIZE };

	fake->mm.areas[0].nr--;
	fake->mm.on_pin = two_errors_on_pin;
	fake->mm.on_pin_arg = &two;
	fake->mm.fail_error = -EHWPOISON;
	for (fake->mm.fail_va = m->range.vaddr; fake->mm.fail_va < two.hole;
	     fake->mm.fail_va += MB(1)) {
		init_completion(&two.hole_seen);
		KUNIT_ASSERT_EQ(test, -EHWPOISON,
				map_range_map(&m->range, &charged));
		mapper_expect_undone(test, m, fake->mm.fail_va);
	}
	mapper_done(m);
}

/* The n-th page that a driver is to map fails, in either domain. */
static void range_iommu_fails(struct kunit *test)
{
	struct mapper *m = mapper_make_undo(test);
	unsigned long charged;
	unsigned int which;
	long nth, total;

	for (which = 0; which < 2; which++) {
		struct fake_domain *fd = m->fd[which];

		/* How many are there? Counted by failures that never come. */
		fd->fail_error = -ENOSPC;
		fd->fail_after = LONG_MAX;
		KUNIT_ASSERT_EQ(test, 0, map_range_map(&m->range, &charged));
		total = LONG_MAX - fd->fail_after;
		mapper_unmap(test, m, charged);
		pin_record_clear(&m->rec, m->range.vaddr,
				 m->range.vaddr + m->range.size);
		for (nth = 0; nth < total;
		     nth = fake_domain_next_failure(nth, total)) {
			fd->fail_after = nth;
			KUNIT_ASSERT_EQ(test, -ENOSPC,
					map_range_map(&m->range, &charged));
			mapper_expect_undone(test, m, nth);
		}
		fd->fail_error = 0;
	}
	mapper_done(m);
}

/* The limit is a few pages short, or just suffices. */
static void range_limit(struct kunit *test)
{
	static const unsigned long missing[] = { 0, 1, 513 };
	struct mapper *m = mapper_make_undo(test);
	unsigned long charged, need = mapper_account(m);
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(missing); i++) {
		fake->mm.limit = need - missing[i];
		KUNIT_ASSERT_EQ(test, missing[i] ? -ENOMEM : 0,
				map_range_map(&m->range, &charged));
		KUNIT_ASSERT_LE(test, fake->mm.highest, need);
		if (!missing[i]) {
			KUNIT_ASSERT_EQ(test, need, charged);
			mapper_unmap(test, m, charged);
			pin_record_clear(&m->rec, m->range.vaddr,
					 m->range.vaddr + m->range.size);
			fake->mm.highest = 0;
		} else {
			mapper_expect_undone(test, m, missing[i]);
		}
	}
	mapper_done(m);
}

/**
 * struct rival - another thread that charges to the same mm
 * @thread: the thread
 * @owner: whom it charges to
 * @nr: how many pages
 * @keep: it keeps them
 * @ret: what became of it
 * @charged: completed when it has them
 * @undone: it saw that the map had been refused, and undone
 */
struct rival {
	struct fake_thread thread;
	struct lockvm_owner owner;
	unsigned long nr;
	bool keep;
	int ret;
	struct completion charged;
	bool undone;
};

/* Has the map been refused something, and is it undone? */
static bool rival_sees_undo(const struct rival *rival)
{
	return READ_ONCE(fake->mm.refused) &&
	       READ_ONCE(fake->mm.locked) == rival->nr &&
	       !READ_ONCE(fake->mm.nr_pins);
}

static void rival_run(void *arg)
{
	struct rival *rival = arg;
	struct lockvm_cache cache;
	struct lockvm_pool pool;

	rival->ret = lockvm_pool_open(&pool, &rival->owner, 0, rival->nr) ? :
		     lockvm_pool_take_turn(&pool, false);
	lockvm_cache_open(&cache, &pool);
	if (!rival->ret)
		rival->ret = lockvm_cache_charge(&cache, rival->nr);
	complete(&rival->charged);
	rival->undone = fake_wait_until(rival_sees_undo(rival));
	if (rival->keep)
		lockvm_pool_close(&pool);
	else
		lockvm_pool_cancel(&pool);
}

/*
 * Another job has what is missing. If it fails, this one must succeed, as it would
 * have if it had come first: it is done over when the other one is gone.
 */
static void range_crowded(struct kunit *test)
{
	struct mapper *m = mapper_make_undo(test);
	struct rival rival = { .owner = m->range.owner };
	unsigned long charged, need = mapper_account(m);
	int ret;

	rival.nr = need / 2;
	for (rival.keep = false; ; rival.keep = true) {
		init_completion(&rival.charged);
		fake->mm.limit = need + rival.nr - 1;
		fake->mm.highest = 0;
		fake->mm.refused = 0;
		fake_thread_start(&rival.thread, rival_run, &rival);
		wait_for_completion(&rival.charged);
		ret = map_range_map(&m->range, &charged);
		fake_thread_join(&rival.thread);
		KUNIT_ASSERT_EQ(test, 0, rival.ret);
		KUNIT_EXPECT_TRUE(test, rival.undone);
		KUNIT_EXPECT_LE(test, fake->mm.highest, fake->mm.limit);
		if (rival.keep)
			break;
		KUNIT_ASSERT_EQ(test, 0, ret);
		KUNIT_EXPECT_EQ(test, need, charged);
		mapper_unmap(test, m, charged);
		pin_record_clear(&m->rec, m->range.vaddr,
				 m->range.vaddr + m->range.size);
	}
	/* The other one succeeded: this one cannot. */
	KUNIT_EXPECT_EQ(test, -ENOMEM, ret);
	KUNIT_EXPECT_EQ(test, 0UL, charged);
	lockvm_uncharge(&rival.owner, rival.nr);
	mapper_expect_undone(test, m, 0);
	mapper_done(m);
}

/* The n-th allocation fails: it fails cleanly, or makes do without. */
static void range_no_memory(struct kunit *test)
{
	struct mapper *m = mapper_make_undo(test);
	unsigned long charged;
	unsigned int all;
	int nth, ret;

	for (all = 0; all < 2; all++) {
		fake->alloc_fail_all = all;
		for (nth = 0; ; nth++) {
			atomic_set(&fake->alloc_fail, nth);
			ret = map_range_map(&m->range, &charged);
			if (!ret && atomic_read(&fake->alloc_fail) > 0)
				break;
			if (!ret) {
				map_range_unmap(&m->range);
				lockvm_uncharge(&m->range.owner, charged);
				KUNIT_ASSERT_TRUE(test, mapper_is_clean(m));
				pin_record_clear(&m->rec, m->range.vaddr,
						 m->range.vaddr +
						 m->range.size);
				continue;
			}
			KUNIT_ASSERT_EQ(test, -ENOMEM, ret);
			mapper_expect_undone(test, m, nth);
			KUNIT_ASSERT_LT(test, nth, 20000);
		}
		atomic_set(&fake->alloc_fail, -1);
		mapper_unmap(test, m, charged);
		pin_record_clear(&m->rec, m->range.vaddr,
				 m->range.vaddr + m->range.size);
	}
	mapper_done(m);
}

/* A page that cannot be pinned for a moment: it is tried again, but not forever. */
static void range_page_is_busy(struct kunit *test)
{
	static const struct {
		int error;
		int times;
		bool goes;
	} tries[] = {
		{ -ENOMEM, 1, true },
		/*
		 * Once in the job, MAP_ATTEMPTS times by the caller; each time at
		 * least twice: fast and slowly.
		 */
		{ -ENOMEM, 2 * (1 + MAP_ATTEMPTS) - 1, true },
		{ -ENOMEM, 1000, false },
		{ -EAGAIN, 1, true },
		{ -EAGAIN, 1000, false },
		{ -EBUSY, 1, true },
		{ -EBUSY, 1000, false },
	};
	struct mapper *m = mapper_make_undo(test);
	unsigned long charged;
	unsigned int i;

	fake->mm.fail_va = m->range.vaddr + 100 * PAGE_SIZE;
	if (fake->mm.areas[0].leaf == PIN_LEAF_PMD) {
		/* Any page of the leaf */
		fake->mm.fail_va = m->range.vaddr + MB(4);
		fake->mm.fail_nr = PMD_PAGES;
	}
	for (i = 0; i < ARRAY_SIZE(tries); i++) {
		fake->mm.fail_error = tries[i].error;
		fake->mm.fail_times = tries[i].times;
		KUNIT_ASSERT_EQ(test, tries[i].goes ? 0 : tries[i].error,
				map_range_map(&m->range, &charged));
		if (tries[i].goes) {
			KUNIT_EXPECT_EQ(test, 0, fake->mm.fail_times);
			/* What a failed attempt charged does not count. */
			KUNIT_EXPECT_EQ(test, mapper_account(m), charged);
			mapper_unmap(test, m, charged);
			pin_record_clear(&m->rec, m->range.vaddr,
					 m->range.vaddr + m->range.size);
		} else {
			mapper_expect_undone(test, m, i);
		}
	}
	mapper_done(m);
}

static void kill_caller(void *arg, unsigned long va)
{
	if (va == fake->mm.fail_va)
		send_sig(SIGKILL, arg, 1);
}

/* The caller is killed when it, or a helper, gets to a page. */
static void range_killed(struct kunit *test)
{
	struct mapper *m = mapper_make_undo(test);
	unsigned long page, charged, pages = m->range.size >> PAGE_SHIFT;
	int ret;

	allow_signal(SIGKILL);
	fake->mm.on_pin = kill_caller;
	fake->mm.on_pin_arg = get_current();
	/* At every other of these places */
	for (page = 0; page < pages; page = next_page(m, next_page(m, page))) {
		fake->mm.fail_va = m->range.vaddr + (page << PAGE_SHIFT);
		ret = map_range_map(&m->range, &charged);
		if (fatal_signal_pending(get_current()))
			KUNIT_ASSERT_EQ(test, -EINTR, ret);
		flush_signals(get_current());
		if (!ret) {
			mapper_unmap(test, m, charged);
			pin_record_clear(&m->rec, m->range.vaddr,
					 m->range.vaddr + m->range.size);
			continue;
		}
		mapper_expect_undone(test, m, page);
	}
	disallow_signal(SIGKILL);
	mapper_done(m);
}

/* What a worker knew of pfns when it was stopped is of no use to its next chunk. */
static void range_stale_pfns(struct kunit *test)
{
	static const struct whole_case c = {
		"", { { GB(1), 262144, FAKE_PFN(262144), PIN_LEAF_PUD, 0,
			FAKE_PFNMAP } }, GB(1), GB(1), MB(8), FAKE_SIZES
	};
	struct mapper *m = mapper_make(test, &c, 1);
	struct map_stat_sum sum = { };
	struct map_work work = { .range = &m->range, .sum = &sum };
	struct map_chunk single = { };
	struct map_worker *worker;

	range_tune(2, 0, 1);
	KUNIT_ASSERT_EQ(test, 0, map_work_open(&work));
	map_plan(&work, &single);
	KUNIT_ASSERT_PTR_EQ(test, &single, work.chunks);
	worker = map_worker_get(&work);
	KUNIT_ASSERT_NOT_NULL(test, worker);
	worker->pc.pfns = (struct pin_run){ .pfn = FAKE_PFN(0), .nr = 512 };
	map_worker_put(&work, worker);

	map_work_chunk(&work, 0);
	KUNIT_EXPECT_EQ(test, 0, work.error);
	KUNIT_EXPECT_TRUE(test, list_is_singular(&work.workers));
	mapper_reference(test, m);
	mapper_compare(test, m, m->fd[0]);
	lockvm_pool_cancel(&work.pool);
	map_worker_free(worker);
	mapper_unmap(test, m, 0);
	mapper_done(m);
}

/* So many that there are several chunks */
static const struct whole_case many_pages = {
	"", { { MB(2), 16384, FAKE_PFN(512), PIN_LEAF_PTE } }, MB(2), MB(2),
	MB(64), FAKE_SIZES
};

/* A caller that is killed tells that to helpers before it undoes its own chunk. */
static void range_killed_tells(struct kunit *test)
{
	struct mapper *m = mapper_make(test, &many_pages, 1);
	struct map_stat_sum sum = { };
	struct map_work work = { .range = &m->range, .sum = &sum };
	struct map_worker *helper, *next;
	struct map_chunk single = { };

	range_tune(2, 0, 2);
	KUNIT_ASSERT_EQ(test, 0, map_work_open(&work));
	map_plan(&work, &single);
	KUNIT_ASSERT_GT(test, work.nr, 1UL);
	helper = map_worker_get(&work);
	KUNIT_ASSERT_NOT_NULL(test, helper);
	KUNIT_EXPECT_TRUE(test, map_worker_begin(&work, helper, 1));

	allow_signal(SIGKILL);
	fake->mm.on_pin = kill_caller;
	fake->mm.on_pin_arg = get_current();
	fake->mm.fail_va = m->range.vaddr + MB(1);
	range_told = &helper->stop;
	map_work_chunk(&work, 0);
	range_told = NULL;
	flush_signals(get_current());
	disallow_signal(SIGKILL);

	KUNIT_EXPECT_TRUE(test, work.killed);
	KUNIT_EXPECT_EQ(test, -EINTR, work.error);
	lockvm_pool_cancel(&work.pool);
	mapper_expect_undone(test, m, 0);
	list_for_each_entry_safe(helper, next, &work.workers, node)
		map_worker_free(helper);
	kvfree(work.chunks);
	mapper_done(m);
}

/* Chunks behind one that failed are not begun. */
static void range_fails_soon(struct kunit *test)
{
	unsigned int threads;

	for (threads = 1; threads <= 2; threads++) {
		struct mapper *m = mapper_make(test, &many_pages, 1);
		unsigned long charged;

		range_tune(2, 0, threads);
		fake->mm.fail_va = m->range.vaddr;
		fake->mm.fail_error = -EHWPOISON;
		fake->mm.gup_calls = 0;
		KUNIT_EXPECT_EQ(test, -EHWPOISON, map_range_map(&m->range,
								&charged));
		mapper_expect_undone(test, m, 0);
		/* Fast and slowly; a helper may be in its first chunk. */
		KUNIT_EXPECT_LE(test, fake->mm.gup_calls,
				threads == 1 ? 2UL : 20UL);
		mapper_done(m);
	}
}

/* What is not user memory is refused before anything is done. */
static void range_not_user_memory(struct kunit *test)
{
	static const struct {
		unsigned long va;
		unsigned long size;
	} ranges[] = {
		{ FAKE_TOP, SZ_4K },
		{ FAKE_TOP - SZ_4K, SZ_8K },
		{ 0xffff888000000000UL, MB(2) },
		{ SZ_4K, -SZ_4K },
	};
	struct map_range range = { .owner.mm = fake->mm.mm };
	unsigned long charged;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		range.vaddr = ranges[i].va;
		range.size = ranges[i].size;
		KUNIT_EXPECT_EQ(test, -EFAULT, map_range_map(&range, &charged));
		KUNIT_EXPECT_EQ(test, 0UL, charged);
	}
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.gup_calls);
}

/* ---- copies ---- */

/* A second domain gets the same pages; nothing is pinned or charged for it. */
static void range_copy(struct kunit *test)
{
	const struct whole_case *c = test->param_value;
	struct mapper *m = mapper_make(test, c, 1);
	struct fake_domain *copy = fake_domain_create(c->pgsizes);
	struct iommu_domain *domain = &copy->domain;
	struct map_target to = m->tgt;
	struct map_range range = m->range;
	unsigned long charged, pins;

	range_tune(2, 0, 0);
	KUNIT_ASSERT_EQ(test, 0, map_range_map(&m->range, &charged));
	pins = fake->mm.nr_pins;
	to.domains = &domain;
	range.tgt = &to;
	KUNIT_ASSERT_EQ(test, 0, map_range_copy(&range, &m->tgt));
	mapper_reference(test, m);
	mapper_compare(test, m, copy);
	fake_domain_forget(m->ref);
	KUNIT_EXPECT_EQ(test, pins, fake->mm.nr_pins);
	KUNIT_EXPECT_EQ(test, charged, fake->mm.locked);
	KUNIT_ASSERT_EQ(test, c->size, iommu_unmap(domain, c->iova, c->size));
	mapper_unmap(test, m, charged);
	mapper_done(m);
}

/* It fails at the n-th page: the new domain is empty, the old one untouched. */
static void range_copy_fails(struct kunit *test)
{
	struct mapper *m = mapper_make_undo(test);
	struct fake_domain *copy = fake_domain_create(m->tgt.pgsizes);
	struct iommu_domain *domain = &copy->domain;
	struct map_target to = m->tgt;
	struct map_range range = m->range;
	unsigned long charged, pins;
	long nth, total;

	KUNIT_ASSERT_EQ(test, 0, map_range_map(&m->range, &charged));
	pins = fake->mm.nr_pins;
	to.domains = &domain;
	to.nr = 1;
	range.tgt = &to;
	copy->fail_error = -ENOSPC;
	copy->fail_after = LONG_MAX;
	KUNIT_ASSERT_EQ(test, 0, map_range_copy(&range, &m->tgt));
	total = LONG_MAX - copy->fail_after;
	iommu_unmap(domain, m->range.iova, m->range.size);
	for (nth = 0; nth < total; nth = fake_domain_next_failure(nth, total)) {
		copy->fail_after = nth;
		KUNIT_ASSERT_EQ(test, -ENOSPC, map_range_copy(&range, &m->tgt));
		KUNIT_ASSERT_EQ(test, 0UL, fake_domain_mapped(copy));
		KUNIT_ASSERT_EQ(test, m->range.size,
				fake_domain_mapped(m->fd[0]));
		KUNIT_ASSERT_EQ(test, pins, fake->mm.nr_pins);
	}
	mapper_unmap(test, m, charged);
	mapper_done(m);
}

/* Is the domain, and not the record, asked for the page at @va? */
static bool copy_asks(const struct mapper *m, unsigned long va)
{
	return pin_record_leaf(&m->rec, va) != PIN_LEAF_PTE ||
	       fake->mm.areas[0].flags & FAKE_SCATTERED;
}

/*
 * The first domain has lost a page: the new one gets nothing, let alone page 0 or
 * a hole.
 */
static void range_copy_lost(struct kunit *test)
{
	struct mapper *m = mapper_make_undo(test);
	struct fake_domain *copy = fake_domain_create(m->tgt.pgsizes);
	struct iommu_domain *domain = &copy->domain;
	struct map_range range = m->range;
	struct map_target to = m->tgt;
	unsigned long charged, pins, off, step = m->range.size / 4;
	unsigned int asked = 0;
	bool asks;

	KUNIT_ASSERT_EQ(test, 0, map_range_map(&m->range, &charged));
	pins = fake->mm.nr_pins;
	to.domains = &domain;
	to.nr = 1;
	range.tgt = &to;
	/* In the first page, some in between, and the last one */
	for (off = 0; off <= m->range.size; off += step) {
		off = min(off, m->range.size - PAGE_SIZE);
		asks = copy_asks(m, m->range.vaddr + off);
		asked += asks;
		m->fd[0]->lost_iova = m->range.iova + off;
		KUNIT_ASSERT_EQ(test, asks ? -EIO : 0,
				map_range_copy(&range, &m->tgt));
		KUNIT_ASSERT_EQ(test, asks, !!atomic_xchg(&fake->warnings, 0));
		m->fd[0]->lost_iova = FAKE_IOVA_NONE;
		if (!asks)
			iommu_unmap(domain, range.iova, range.size);
		KUNIT_ASSERT_EQ(test, 0UL, fake_domain_mapped(copy));
		KUNIT_ASSERT_EQ(test, m->range.size,
				fake_domain_mapped(m->fd[0]));
		KUNIT_ASSERT_EQ(test, pins, fake->mm.nr_pins);
		KUNIT_ASSERT_EQ(test, charged, fake->mm.locked);
	}
	/* Small pages that are contiguous are the only ones that are not. */
	if (fake->mm.areas[0].flags & FAKE_SCATTERED ||
	    fake->mm.areas[fake->mm.nr_areas / 2].leaf == PIN_LEAF_PMD)
		KUNIT_EXPECT_GT(test, asked, 0U);
	/* Nothing is lost any more: it works. */
	KUNIT_EXPECT_EQ(test, 0, map_range_copy(&range, &m->tgt));
	KUNIT_EXPECT_EQ(test, range.size,
			iommu_unmap(domain, range.iova, range.size));
	mapper_unmap(test, m, charged);
	mapper_done(m);
}

static int range_suite_init(struct kunit_suite *suite)
{
	return pin_record_module_init() ? : map_range_module_init() ? :
	       unmap_range_module_init();
}

static void range_suite_exit(struct kunit_suite *suite)
{
	unmap_range_module_exit();
	map_range_module_exit();
	pin_record_module_exit();
}

static struct kunit_case range_cases[] = {
	KUNIT_CASE_PARAM(range_cut, cut_gen_params),
	KUNIT_CASE(range_cut_copy),
	KUNIT_CASE_PARAM(range_chunk_size, chunk_gen_params),
	KUNIT_CASE_PARAM(range_plan, plan_gen_params),
	KUNIT_CASE_PARAM(range_threads, threads_gen_params),
	KUNIT_CASE_PARAM(range_least, least_gen_params),
	KUNIT_CASE(range_plan_cold),
	KUNIT_CASE_PARAM(range_for_caller, caller_gen_params),
	KUNIT_CASE_PARAM(range_whole_alone, whole_gen_params),
	KUNIT_CASE_PARAM(range_whole_threads, whole_gen_params),
	KUNIT_CASE_PARAM(range_whole_padata, whole_gen_params),
	KUNIT_CASE_PARAM(range_whole_single, whole_gen_params),
	KUNIT_CASE_PARAM(range_whole_charged, whole_gen_params),
	KUNIT_CASE(range_charged_was_replaced),
	KUNIT_CASE_PARAM(range_pin_fails, undo_gen_params),
	KUNIT_CASE_PARAM(range_lowest_error, paged_gen_params),
	KUNIT_CASE_PARAM(range_iommu_fails, undo_gen_params),
	KUNIT_CASE_PARAM(range_limit, undo_gen_params),
	KUNIT_CASE_PARAM(range_crowded, undo_gen_params),
	KUNIT_CASE_PARAM(range_no_memory, undo_gen_params),
	KUNIT_CASE_PARAM(range_page_is_busy, undo_gen_params),
	KUNIT_CASE_PARAM(range_killed, undo_gen_params),
	KUNIT_CASE(range_stale_pfns),
	KUNIT_CASE(range_killed_tells),
	KUNIT_CASE(range_fails_soon),
	KUNIT_CASE(range_not_user_memory),
	KUNIT_CASE_PARAM(range_copy, whole_gen_params),
	KUNIT_CASE_PARAM(range_copy_fails, undo_gen_params),
	KUNIT_CASE_PARAM(range_copy_lost, undo_gen_params),
	{ }
};

static int range_init(struct kunit *test)
{
	range_hugetlb_for_all = true;
	range_by_padata = false;
	return fake_init(test);
}

static struct kunit_suite range_suite = {
	.name = "vfio_mt_map_range",
	.suite_init = range_suite_init,
	.suite_exit = range_suite_exit,
	.init = range_init,
	.exit = fake_exit,
	.test_cases = range_cases,
};

kunit_test_suite(range_suite);
