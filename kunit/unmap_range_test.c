// SPDX-License-Identifier: GPL-2.0-only
/*
 * unmap_range_test.c - a range is cut and undone, in the right order
 *
 * The fakes complain if an unmap goes through an IOMMU page, and if a page is
 * unpinned that a device may still reach.
 */
#include "seam.h"
#include "../unmap_range.c"

/* ---- steps of one page size ---- */

static const struct step_case {
	const char *desc;
	unsigned long sizes;
	unsigned long iova;
	unsigned long size;
	unsigned long step;
} steps[] = {
	{ "a page", FAKE_SIZES, MB(2), SZ_4K, SZ_4K },
	{ "one large page", FAKE_SIZES, MB(2), MB(2), MB(2) },
	{ "large pages", FAKE_SIZES, MB(2), MB(64), MB(64) },
	{ "large pages and a part", FAKE_SIZES, MB(2), MB(64) + SZ_8K, MB(64) },
	{ "up to a large page", FAKE_SIZES, MB(2) - SZ_16K, MB(4), SZ_16K },
	{ "no large page fits", FAKE_SIZES, MB(2) - SZ_16K, MB(2), MB(2) },
	{ "up to a GiB", FAKE_SIZES, GB(1) - MB(4), GB(2), MB(4) },
	{ "no GiB fits", FAKE_SIZES, GB(1) - MB(4), GB(1), GB(1) },
	{ "GiB pages", FAKE_SIZES, GB(1), GB(5) + MB(2), GB(5) },
	{ "no such pages", SZ_4K | SZ_2M, GB(1), GB(5) + MB(2), GB(5) + MB(2) },
	{ "small pages only", SZ_4K, GB(1), MB(5) + SZ_4K, MB(5) + SZ_4K },
	{ "IOVA 0", FAKE_SIZES, 0, GB(1) + MB(2), GB(1) },
	{ "the last page of 64 bits", FAKE_SIZES, -SZ_4K, SZ_4K, SZ_4K },
	{ "the last GiB of 64 bits", FAKE_SIZES, -GB(1), GB(1), GB(1) },
	{ "a page before the last GiB", FAKE_SIZES, -GB(1) - SZ_4K,
	  GB(1) + SZ_4K, SZ_4K },
};

static void step_desc(const struct step_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(step, steps, step_desc);

static void unmap_step_size(struct kunit *test)
{
	const struct step_case *c = test->param_value;
	struct fake_domain *fd = fake_domain_create(c->sizes);

	KUNIT_EXPECT_EQ(test, c->step, unmap_step(c->sizes, c->iova, c->size));

	/* To the IOMMU core, it is one call of the driver. */
	KUNIT_ASSERT_EQ(test, 0, iommu_map(&fd->domain, c->iova, c->iova,
					   c->size, IOMMU_READ, GFP_KERNEL));
	fd->nr_unmaps = 0;
	KUNIT_EXPECT_EQ(test, c->step, iommu_unmap(&fd->domain, c->iova,
						   c->step));
	KUNIT_EXPECT_EQ(test, 1UL, fd->nr_unmaps);
	fake_domain_forget(fd);
}

/* All of a range goes, and each step is synchronised. */
static void unmap_one_domain(struct kunit *test)
{
	const struct step_case *c = test->param_value;
	struct fake_domain *fd = fake_domain_create(c->sizes);

	KUNIT_ASSERT_EQ(test, 0, iommu_map(&fd->domain, c->iova, c->iova,
					   c->size, IOMMU_READ, GFP_KERNEL));
	fd->nr_unmaps = 0;
	KUNIT_EXPECT_EQ(test, c->size, unmap_domain(&fd->domain, c->iova,
						    c->size));
	KUNIT_EXPECT_EQ(test, 0UL, fake_domain_mapped(fd));
	KUNIT_EXPECT_EQ(test, fd->nr_unmaps, fd->nr_syncs);
	KUNIT_EXPECT_EQ(test, c->step == c->size, fd->nr_syncs == 1);
}

/* ---- mapped ranges ---- */

#define MAX_RUNS	4096

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
#define LEAVES(n, times, gap) \
	{ { FAKE_PFN(n), PMD_PAGES, PIN_LEAF_PMD, true }, times, gap }
#define PUDS(n, times, gap) \
	{ { FAKE_PFN(n), PUD_PAGES, PIN_LEAF_PUD, true }, times, gap }

static const struct mapped_case {
	const char *desc;
	unsigned long va;
	unsigned long iova;
	struct run_spec spec[4];
} mappeds[] = {
	{ "a page", MB(2), MB(2), { RUN(0, 1, 1, 0) } },
	{ "a span of pages", MB(2), MB(2), { RUN(512, 512, 1, 0) } },
	{ "8 MiB of pages", MB(2), MB(2), { RUN(512, 512, 4, 512) } },
	{ "8 MiB of pages, at another offset", MB(2), MB(3),
	  { RUN(512, 512, 4, 512) } },
	{ "16 extents", MB(2), MB(2), { RUN(512, 32, 16, 64) } },
	{ "17 extents", MB(2), MB(2), { RUN(512, 32, 16, 64),
	  RUN(9000, 1, 1, 0) } },
	{ "256 extents", MB(2), MB(2), { RUN(512, 8, 256, 16) } },
	{ "257 extents", MB(2), MB(2), { RUN(512, 8, 257, 16) } },
	{ "no two pages contiguous", MB(2), MB(2), { RUN(512, 1, 1536, 2) } },
	{ "leaves", MB(2), MB(2), { LEAVES(512, 32, 512) } },
	{ "leaves far apart", MB(2), MB(2), { LEAVES(512, 32, 1024) } },
	{ "leaves that make up a GiB", GB(1), GB(3),
	  { LEAVES(262144, 512, 512) } },
	{ "PUD leaves", GB(1), GB(1), { PUDS(262144, 4, 262144) } },
	{ "PUD leaves, at another offset", GB(1), GB(1) + MB(2),
	  { PUDS(262144, 3, 262144) } },
	{ "pages, leaves, a PUD leaf, pages", GB(1) - MB(6), GB(1) - MB(6),
	  { RUN(77, 512, 1, 0), LEAVES(1024, 2, 512), PUDS(262144, 1, 0),
	    RUN(3, 1, 99, 2) } },
	{ "leaves, then pages", MB(2), MB(2), { LEAVES(512, 2, 1024),
	  RUN(10240, 512, 2, 1024) } },
	{ "leaves, then a PUD leaf", GB(1) - MB(4), GB(1) - MB(4),
	  { LEAVES(512, 2, 512), PUDS(262144, 1, 0) } },
	{ "a PUD leaf, then leaves", GB(1), GB(1), { PUDS(262144, 1, 0),
	  LEAVES(524288, 512, 512) } },
	{ "pages and what is not held", MB(2), MB(2), { RUN(512, 100, 1, 0),
	  UNHELD(612, 100, 1, 0), RUN(712, 312, 1, 0), UNHELD(2048, 5, 1, 0) } },
	{ "130 GiB", GB(64), GB(64), { PUDS(33554432, 130, 262144) } },
	{ "the end of 64 bits", GB(1), -MB(8), { LEAVES(512, 4, 512) } },
	{ "page 0, IOVA 0", 0, 0, { RUN(0, 512, 4, 512) } },
};

static void mapped_desc(const struct mapped_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(mapped, mappeds, mapped_desc);

/* A range that is pinned, recorded and mapped. */
struct mapped {
	struct map_range range;
	struct map_target tgt;
	struct pin_record rec;
	struct fake_domain *fd[2];
	struct iommu_domain *domains[2];
	struct pin_run run[MAX_RUNS];
	unsigned int nr;
};

static void mapped_pin(const struct pin_run *run)
{
	unsigned int page, step;

	step = run->leaf == PIN_LEAF_PTE ? 1 :
	       run->leaf == PIN_LEAF_PMD ? PMD_PAGES : PUD_PAGES;
	for (page = 0; run->held && page < run->nr; page += step)
		fake_mm_pin(run->pfn + page);
}

/* Map all, each physically contiguous extent by one call. */
static void mapped_map(struct kunit *test, struct mapped *m,
		       struct fake_domain *fd)
{
	unsigned long iova = m->range.iova, pfn, nr;
	unsigned int i = 0;

	while (i < m->nr) {
		pfn = m->run[i].pfn;
		nr = m->run[i++].nr;
		while (i < m->nr && m->run[i].pfn == pfn + nr)
			nr += m->run[i++].nr;
		KUNIT_ASSERT_EQ(test, 0, fake_domain_map(fd, iova, pfn, nr));
		iova += nr << PAGE_SHIFT;
	}
}

static struct mapped *mapped_make(struct kunit *test,
				  const struct mapped_case *c)
{
	struct mapped *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);
	unsigned int i, k;

	KUNIT_ASSERT_NOT_NULL(test, m);
	m->range.vaddr = c->va;
	m->range.iova = c->iova;
	for (i = 0; i < ARRAY_SIZE(c->spec); i++) {
		for (k = 0; k < c->spec[i].times; k++) {
			KUNIT_ASSERT_LT(test, m->nr, MAX_RUNS);
			m->run[m->nr] = c->spec[i].run;
			m->run[m->nr].pfn += k * c->spec[i].gap;
			m->range.size += (unsigned long)m->run[m->nr].nr <<
					 PAGE_SHIFT;
			mapped_pin(&m->run[m->nr++]);
		}
	}
	KUNIT_ASSERT_EQ(test, 0, pin_record_init(&m->rec, c->va,
						 m->range.size));
	KUNIT_ASSERT_EQ(test, 0, pin_record_add(&m->rec, c->va, m->run, m->nr));
	m->tgt = (struct map_target){ m->domains, 2, IOMMU_READ | IOMMU_WRITE,
				      FAKE_SIZES, false };
	m->range.tgt = &m->tgt;
	m->range.record = &m->rec;
	for (i = 0; i < 2; i++) {
		/* The second one has smaller pages, where that are not too many. */
		m->fd[i] = fake_domain_create(!i || m->range.size > GB(1) ?
					      FAKE_SIZES :
					      m->range.size > MB(16) ?
					      SZ_4K | SZ_2M : SZ_4K);
		m->domains[i] = &m->fd[i]->domain;
		mapped_map(test, m, m->fd[i]);
	}
	return m;
}

static void mapped_expect_gone(struct kunit *test, struct mapped *m)
{
	KUNIT_EXPECT_EQ(test, 0UL, fake_domain_mapped(m->fd[0]));
	KUNIT_EXPECT_EQ(test, 0UL, fake_domain_mapped(m->fd[1]));
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_pins);
}

static void unmap_tune(unsigned int helper_us, unsigned int max_threads)
{
	map_tune = (struct map_tune){
		.min_chunk = 1,
		.helper_us = helper_us,
		.max_threads = max_threads,
	};
}

/* Unmap all. @alloc_fail as in struct fake. */
static void unmap_whole(struct kunit *test, unsigned int max_threads,
			int alloc_fail)
{
	struct mapped *m = mapped_make(test, test->param_value);

	unmap_tune(0, max_threads);
	fake->alloc_fail_all = true;
	atomic_set(&fake->alloc_fail, alloc_fail);
	map_range_unmap(&m->range);
	atomic_set(&fake->alloc_fail, -1);
	mapped_expect_gone(test, m);
	/* The threads have freed the runs of the spans that they did. */
	if (IS_ALIGNED(m->range.vaddr | m->range.size, PIN_SPAN_SIZE))
		KUNIT_EXPECT_TRUE(test, xa_empty(&m->rec.frags));
	pin_record_destroy(&m->rec);
}

static void unmap_alone(struct kunit *test)
{
	unmap_whole(test, 1, -1);
}

static void unmap_threads_all(struct kunit *test)
{
	unmap_whole(test, 0, -1);
}

static void unmap_no_memory(struct kunit *test)
{
	unmap_whole(test, 0, 0);
}

static void unmap_no_memory_later(struct kunit *test)
{
	unmap_whole(test, 0, 2);
}

/* The pins stay: what was mapped is to be mapped elsewhere. */
static void unmap_without_unpin(struct kunit *test)
{
	struct mapped *m = mapped_make(test, test->param_value);
	unsigned long pins = fake->mm.nr_pins, va = m->range.vaddr;
	unsigned int i;

	unmap_interval(&m->range, va, va + m->range.size, false);
	KUNIT_EXPECT_EQ(test, 0UL, fake_domain_mapped(m->fd[0]));
	KUNIT_EXPECT_EQ(test, 0UL, fake_domain_mapped(m->fd[1]));
	KUNIT_EXPECT_EQ(test, pins, fake->mm.nr_pins);
	for (i = 0; i < m->nr; i++)
		pin_run_unpin(&m->run[i], false);
	pin_record_destroy(&m->rec);
}

/* Plans for any number of threads: harmless cuts that make up the range. */
static void unmap_plan_cuts(struct kunit *test)
{
	struct mapped *m = mapped_make(test, test->param_value);
	unsigned long to_iova = m->range.iova - m->range.vaddr;
	struct unmap_work work = { .range = &m->range };
	unsigned long nr, i, va, leaf_size;
	unsigned int threads;

	for (threads = 2; threads <= 16; threads += 7) {
		nr = unmap_plan(&work, threads);
		KUNIT_ASSERT_GT(test, nr, 0UL);
		KUNIT_ASSERT_LE(test, nr, threads * UNMAP_CHUNKS + 1UL);
		KUNIT_EXPECT_EQ(test, m->range.vaddr, work.cuts[0]);
		KUNIT_EXPECT_EQ(test, m->range.vaddr + m->range.size,
				work.cuts[nr]);
		for (i = 1; i < nr; i++) {
			va = work.cuts[i];
			KUNIT_ASSERT_GT(test, va, work.cuts[i - 1]);
			leaf_size = pin_record_leaf(&m->rec, va) ==
				    PIN_LEAF_PUD ? PUD_SIZE :
				    pin_record_leaf(&m->rec, va) ==
				    PIN_LEAF_PMD ? PMD_SIZE : PAGE_SIZE;
			KUNIT_ASSERT_TRUE(test, IS_ALIGNED(va, leaf_size));
			KUNIT_ASSERT_EQ(test, 0UL,
					map_target_cut(&m->tgt, va + to_iova));
		}
		kvfree(work.cuts);
	}
	atomic_set(&fake->alloc_fail, 0);
	KUNIT_EXPECT_EQ(test, 0UL, unmap_plan(&work, 2));
	kvfree(work.cuts);
	unmap_interval(&m->range, m->range.vaddr,
		       m->range.vaddr + m->range.size, true);
	mapped_expect_gone(test, m);
	pin_record_destroy(&m->rec);
}

/* Batches end after 64 GiB, and where the runs that one holds are used up. */
static void unmap_batches(struct kunit *test)
{
	static const struct {
		struct mapped_case mapped;
		bool no_memory;
		unsigned long syncs;
	} batches[] = {
		{ { "64 GiB", GB(64), GB(64), { PUDS(33554432, 64, 262144) } },
		  false, 1 },
		{ { "65 GiB", GB(64), GB(64), { PUDS(33554432, 65, 262144) } },
		  false, 2 },
		{ { "130 GiB", GB(64), GB(64), { PUDS(33554432, 130,
		  262144) } }, false, 3 },
		{ { "256 extents", MB(2), MB(2), { RUN(513, 1, 256, 2) } },
		  false, 1 },
		{ { "257 extents", MB(2), MB(2), { RUN(513, 1, 257, 2) } },
		  false, 2 },
		{ { "33 extents, no memory", MB(2), MB(2), { RUN(513, 1, 33,
		  2) } }, true, 3 },
	};
	struct mapped *m;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(batches); i++) {
		m = mapped_make(test, &batches[i].mapped);
		fake->alloc_fail_all = true;
		atomic_set(&fake->alloc_fail, batches[i].no_memory ? 0 : -1);
		unmap_interval(&m->range, m->range.vaddr,
			       m->range.vaddr + m->range.size, true);
		atomic_set(&fake->alloc_fail, -1);
		mapped_expect_gone(test, m);
		KUNIT_EXPECT_EQ_MSG(test, batches[i].syncs, m->fd[0]->nr_syncs,
				    "%s", batches[i].mapped.desc);
		pin_record_destroy(&m->rec);
	}
}

/* ---- where a cut goes ---- */

static const struct cut_case {
	const char *desc;
	struct mapped_case mapped;
	unsigned long va;
	unsigned long cut;
} cuts[] = {
	{ "scattered pages: where it is wanted", { "", MB(2), MB(2),
	  { RUN(512, 1, 1024, 2) } }, MB(2) + SZ_16K, MB(2) + SZ_16K },
	{ "contiguous pages: the IOMMU page's end", { "", MB(2), MB(2),
	  { RUN(512, 512, 3, 512) } }, MB(2) + SZ_16K, MB(8) },
	{ "pages at another offset: where it is wanted", { "", MB(2), MB(2),
	  { RUN(513, 512, 3, 512) } }, MB(2) + SZ_16K, MB(2) + SZ_16K },
	{ "leaves apart: the leaf's end", { "", MB(2), MB(2),
	  { LEAVES(512, 3, 1024) } }, MB(2) + SZ_16K, MB(4) },
	{ "leaves apart: at a leaf", { "", MB(2), MB(2),
	  { LEAVES(512, 3, 1024) } }, MB(4), MB(4) },
	{ "leaves within a GiB: the GiB's end", { "", GB(1), GB(1),
	  { LEAVES(262144, 1024, 512) } }, GB(1) + MB(2), GB(2) },
	{ "leaves, offset within the GiB: where it is wanted", { "", GB(1),
	  GB(1) + MB(2), { LEAVES(262144, 1024, 512) } }, GB(1) + MB(2),
	  GB(1) + MB(2) },
	{ "a PUD leaf: its end", { "", GB(1), GB(1), { PUDS(262144, 2,
	  262144) } }, GB(1) + MB(2), GB(2) },
	{ "a PUD leaf, IOVA at another offset: its end", { "", GB(1),
	  GB(1) + MB(2), { PUDS(262144, 2, 262144) } }, GB(1) + MB(2), GB(2) },
	{ "nowhere: the end", { "", MB(2), MB(2), { RUN(512, 512, 2, 512) } },
	  MB(2) + SZ_16K, MB(6) },
	{ "at the end", { "", MB(2), MB(2), { RUN(512, 512, 2, 512) } },
	  MB(6), MB(6) },
};

static void cut_desc(const struct cut_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(cut, cuts, cut_desc);

static void unmap_cut_at(struct kunit *test)
{
	const struct cut_case *c = test->param_value;
	struct mapped *m = mapped_make(test, &c->mapped);
	unsigned long end = m->range.vaddr + m->range.size;

	KUNIT_EXPECT_EQ(test, c->cut, unmap_cut(&m->range, c->va, end));
	unmap_interval(&m->range, m->range.vaddr, end, true);
	mapped_expect_gone(test, m);
	pin_record_destroy(&m->rec);
}

/* ---- how many threads ---- */

static const struct threads_case {
	struct mapped_case mapped;
	unsigned int helper_us;
	unsigned int max_threads;
	unsigned int threads;
} threads[] = {
	{ { "a page", MB(2), MB(2), { RUN(0, 1, 1, 0) } }, 500, 0, 1 },
	{ { "8 MiB of pages", MB(2), MB(2), { RUN(512, 512, 4, 512) } }, 500,
	  0, 1 },
	{ { "64 MiB of pages", MB(2), MB(2), { RUN(512, 512, 32, 512) } }, 500,
	  0, 2 },
	{ { "64 MiB of pages, one thread wanted", MB(2), MB(2), { RUN(512, 512,
	  32, 512) } }, 500, 1, 1 },
	{ { "a GiB of leaves", GB(1), GB(1), { LEAVES(262144, 512, 512) } },
	  500, 0, 1 },
	{ { "a GiB of leaves, regardless", GB(1), GB(1), { LEAVES(262144, 512,
	  512) } }, 0, 0, 2 },
	{ { "130 GiB of PUD leaves", GB(64), GB(64), { PUDS(33554432, 130,
	  262144) } }, 500, 0, 1 },
};

static void threads_desc(const struct threads_case *c, char *desc)
{
	strscpy(desc, c->mapped.desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(threads, threads, threads_desc);

static void unmap_nr_threads(struct kunit *test)
{
	const struct threads_case *c = test->param_value;
	struct mapped *m = mapped_make(test, &c->mapped);

	unmap_tune(c->helper_us, c->max_threads);
	KUNIT_EXPECT_EQ(test, min(c->threads, num_online_cpus()),
			min(unmap_threads(&m->range), c->threads));
	if (c->threads == 1)
		KUNIT_EXPECT_EQ(test, 1U, unmap_threads(&m->range));
	unmap_interval(&m->range, m->range.vaddr,
		       m->range.vaddr + m->range.size, true);
	pin_record_destroy(&m->rec);
}

/* ---- an IOMMU that does not do what it is told ---- */

/* What it did not unmap stays pinned: better lost than written to. */
static void unmap_short(struct kunit *test)
{
	static const struct {
		struct mapped_case mapped;
		unsigned long size;	/* of a run */
	} shorts[] = {
		{ { "", MB(2), MB(2), { RUN(512, 1, 12, 2) } }, PAGE_SIZE },
		{ { "", MB(2), MB(2), { LEAVES(512, 12, 1024) } }, PMD_SIZE },
	};
	unsigned long size, gone;
	unsigned int which, i;
	struct mapped *m;

	for (which = 0; which < 2 * ARRAY_SIZE(shorts); which++) {
		size = shorts[which / 2].size;
		gone = MB(2) + 5 * size;
		m = mapped_make(test, &shorts[which / 2].mapped);
		m->fd[which % 2]->short_unmap = gone;
		unmap_interval(&m->range, MB(2), MB(2) + 12 * size, true);
		KUNIT_EXPECT_EQ(test, 1, atomic_xchg(&fake->warnings, 0));
		KUNIT_EXPECT_EQ(test, 7UL, fake->mm.nr_pins);
		m->fd[which % 2]->short_unmap = 0;
		iommu_unmap(m->domains[which % 2], gone, 7 * size);
		for (i = 5; i < 12; i++)
			pin_run_unpin(&m->run[i], false);
		mapped_expect_gone(test, m);
		pin_record_destroy(&m->rec);
	}
}

static int unmap_suite_init(struct kunit_suite *suite)
{
	return pin_record_module_init() ? : unmap_range_module_init();
}

static void unmap_suite_exit(struct kunit_suite *suite)
{
	unmap_range_module_exit();
	pin_record_module_exit();
}

static struct kunit_case unmap_cases[] = {
	KUNIT_CASE_PARAM(unmap_step_size, step_gen_params),
	KUNIT_CASE_PARAM(unmap_one_domain, step_gen_params),
	KUNIT_CASE_PARAM(unmap_alone, mapped_gen_params),
	KUNIT_CASE_PARAM(unmap_threads_all, mapped_gen_params),
	KUNIT_CASE_PARAM(unmap_no_memory, mapped_gen_params),
	KUNIT_CASE_PARAM(unmap_no_memory_later, mapped_gen_params),
	KUNIT_CASE_PARAM(unmap_without_unpin, mapped_gen_params),
	KUNIT_CASE_PARAM(unmap_plan_cuts, mapped_gen_params),
	KUNIT_CASE(unmap_batches),
	KUNIT_CASE_PARAM(unmap_cut_at, cut_gen_params),
	KUNIT_CASE_PARAM(unmap_nr_threads, threads_gen_params),
	KUNIT_CASE(unmap_short),
	{ }
};

static struct kunit_suite unmap_suite = {
	.name = "vfio_mt_unmap_range",
	.suite_init = unmap_suite_init,
	.suite_exit = unmap_suite_exit,
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = unmap_cases,
};

kunit_test_suite(unmap_suite);
