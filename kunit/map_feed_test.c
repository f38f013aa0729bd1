// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_feed_test.c - runs become extents, extents become few calls, and seams
 *
 * The IOMMU pages that come out are compared with what the IOMMU core makes of
 * the same memory when each extent is mapped by one call.
 */
#include "seam.h"
#include "../map_feed.c"

/* ---- pieces held back ---- */

static const struct seam_case {
	const char *desc;
	unsigned long pgsizes;
	unsigned long iova;
	unsigned long pfn;
	unsigned long nr;
	/* what is held back, in bytes, with the extent whole or not */
	unsigned long head;
	unsigned long head_whole;
	unsigned long tail;
	unsigned long tail_whole;
} seams[] = {
	{ "aligned, one large page", FAKE_SIZES, MB(2), FAKE_PFN(512), 512,
	  0, MB(2), 0, MB(2) },
	{ "aligned, small", FAKE_SIZES, MB(2), FAKE_PFN(512), 8,
	  0, SZ_32K, SZ_32K, SZ_32K },
	{ "starts with the second page", FAKE_SIZES, MB(2) + SZ_4K,
	  FAKE_PFN(513), 511, MB(2) - SZ_4K, MB(2) - SZ_4K, 0, MB(2) - SZ_4K },
	{ "ends one page early", FAKE_SIZES, MB(2), FAKE_PFN(512), 511,
	  0, MB(2) - SZ_4K, MB(2) - SZ_4K, MB(2) - SZ_4K },
	{ "ends one page late", FAKE_SIZES, MB(2), FAKE_PFN(512), 513,
	  0, MB(2) + SZ_4K, SZ_4K, MB(2) + SZ_4K },
	{ "in the middle", FAKE_SIZES, MB(2) + SZ_8K, FAKE_PFN(514), 8,
	  0, SZ_32K, 0, SZ_32K },
	{ "offsets differ", FAKE_SIZES, MB(2), FAKE_PFN(513), 512, 0, 0, 0, 0 },
	{ "offsets differ within 1 GiB, not within 2 MiB", FAKE_SIZES,
	  MB(4) - SZ_4K, FAKE_PFN(512 * 5 - 1), 2, SZ_4K, SZ_4K, SZ_4K,
	  SZ_4K },
	{ "no larger pages", SZ_4K, MB(2) + SZ_4K, FAKE_PFN(513), 511,
	  0, 0, 0, 0 },
	{ "2 MiB only besides", SZ_4K | SZ_2M, MB(4) + SZ_4K, FAKE_PFN(1025),
	  1023, MB(2) - SZ_4K, MB(2) - SZ_4K, 0, 0 },
	{ "up to a GiB", FAKE_SIZES, GB(1) - MB(2), FAKE_PFN(262144 - 512),
	  512, MB(2), MB(2), 0, 0 },
	{ "all of a GiB", FAKE_SIZES, GB(1), FAKE_PFN(262144), 262144,
	  0, 0, 0, 0 },
	{ "a page behind a GiB", FAKE_SIZES, GB(1), FAKE_PFN(262144), 262145,
	  0, 0, SZ_4K, SZ_4K },
	{ "the end of 64 bits", FAKE_SIZES, -SZ_4K, FAKE_PFN(262143), 1,
	  SZ_4K, SZ_4K, 0, 0 },
	{ "IOVA 0", FAKE_SIZES, 0, FAKE_PFN(0), 8, 0, 0, SZ_32K, SZ_32K },
};

static void seam_desc(const struct seam_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(seam, seams, seam_desc);

static void feed_seam(struct kunit *test)
{
	const struct seam_case *c = test->param_value;
	struct map_target tgt = { .pgsizes = c->pgsizes };
	struct pin_extent ext = { GB(7), c->pfn, c->nr };
	struct map_feed feed = { .tgt = &tgt, .to_iova = c->iova - GB(7) };

	KUNIT_EXPECT_EQ(test, c->head, seam_head(&feed, &ext, false));
	KUNIT_EXPECT_EQ(test, c->head_whole, seam_head(&feed, &ext, true));
	KUNIT_EXPECT_EQ(test, c->tail, seam_tail(&feed, &ext, false));
	KUNIT_EXPECT_EQ(test, c->tail_whole, seam_tail(&feed, &ext, true));
	tgt.single = true;
	KUNIT_EXPECT_EQ(test, 0UL, seam_head(&feed, &ext, true));
	KUNIT_EXPECT_EQ(test, 0UL, seam_tail(&feed, &ext, true));
}

/* ---- chunks ---- */

#define ROOM		8
#define MAX_RUNS	600

/* Runs of one kind: @times runs of @nr pages, each @gap pfns after the other. */
struct feed_spec {
	unsigned long pfn;
	unsigned int nr;
	unsigned int times;
	unsigned int gap;
};

static const struct feed_case {
	const char *desc;
	unsigned long va;
	unsigned long iova;
	struct feed_spec spec[4];
	unsigned long calls;	/* at most so many, 0 for any number */
} feeds[] = {
	{ "a page", MB(2), MB(2), { { FAKE_PFN(5), 1, 1 } }, 1 },
	{ "contiguous runs are one extent", MB(2), MB(2),
	  { { FAKE_PFN(512), 64, 16, 64 } }, 1 },
	{ "a leaf as runs of one page", MB(2), GB(5),
	  { { FAKE_PFN(512), 1, 512, 1 } }, 1 },
	{ "no two contiguous, fewer than there is room", MB(2), MB(2),
	  { { FAKE_PFN(512), 1, 8, 2 } } },
	{ "no two contiguous, more than there is room", MB(2), MB(2),
	  { { FAKE_PFN(512), 1, 100, 2 } } },
	{ "leaves far apart", MB(2), MB(2), { { FAKE_PFN(512), 512, 20, 1024 } } },
	{ "leaves from high to low", MB(2), MB(2), { { FAKE_PFN(51200), 512, 20,
	  -512 } } },
	{ "offsets differ", MB(2), MB(3), { { FAKE_PFN(512), 512, 5, 512 } } },
	{ "a GiB in 2 MiB runs", GB(1), GB(1), { { FAKE_PFN(262144), 512, 512,
	  512 } }, 1 },
	{ "a GiB in one", GB(1), GB(1), { { FAKE_PFN(262144), 262144, 1 } }, 1 },
	{ "more than a scatterlist entry holds, among others", GB(1), GB(1),
	  { { FAKE_PFN(1), 5, 1 }, { FAKE_PFN(262149), 262144 + 7, 1 },
	    { FAKE_PFN(3), 12, 1 } } },
	{ "pages, leaves, pages", MB(4) - 3 * SZ_4K, MB(4) - 3 * SZ_4K,
	  { { FAKE_PFN(7), 1, 3, 5 }, { FAKE_PFN(1024), 512, 3, 512 },
	    { FAKE_PFN(9000), 1, 3, 3 } } },
	{ "the end of 64 bits", GB(3), -MB(4), { { FAKE_PFN(1024), 512, 2,
	  1024 } } },
	{ "IOVA 0", GB(3), 0, { { FAKE_PFN(1024), 512, 2, 1024 } } },
};

static void feed_desc(const struct feed_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(feed, feeds, feed_desc);

/* Everything that feeding a case needs. */
struct feeder {
	struct pin_run run[MAX_RUNS];
	unsigned int nr;
	unsigned long pages;
	struct fake_domain *fd[2];
	struct iommu_domain *domains[2];
	struct map_target tgt;
	struct map_feed feed;
	struct pin_extent ext[ROOM];
	struct scatterlist sg[ROOM];
	unsigned long to_iova;
	struct pin_extent tail;
};

static struct feeder *feeder_make(struct kunit *test, unsigned int domains,
				  unsigned long pgsizes)
{
	const struct feed_case *c = test->param_value;
	struct feeder *f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	unsigned int i, k;

	KUNIT_ASSERT_NOT_NULL(test, f);
	for (i = 0; i < ARRAY_SIZE(c->spec); i++) {
		for (k = 0; k < c->spec[i].times; k++) {
			f->run[f->nr++] = (struct pin_run){
				c->spec[i].pfn + k * (int)c->spec[i].gap,
				c->spec[i].nr, PIN_LEAF_PTE, true
			};
			f->pages += c->spec[i].nr;
		}
	}
	for (i = 0; i < domains; i++) {
		f->fd[i] = fake_domain_create(pgsizes);
		f->domains[i] = &f->fd[i]->domain;
	}
	f->tgt = (struct map_target){ f->domains, domains, IOMMU_WRITE,
				      pgsizes, false };
	f->to_iova = c->iova - c->va;
	f->feed.ext = f->ext;
	f->feed.sg = f->sg;
	f->feed.room = ROOM;
	return f;
}

/* pfn_valid() of all the fake memory that the cases use. */
static void feeder_memory(void)
{
	static const struct fake_area all = { GB(1), 1UL << 24, FAKE_PFN(0),
					      PIN_LEAF_PTE, 0, FAKE_COLD };

	fake_mm_setup(&all, 1);
}

/* What one call for each extent makes of it. */
static struct fake_domain *feeder_reference(struct kunit *test,
					    struct feeder *f,
					    unsigned long iova)
{
	struct fake_domain *ref = fake_domain_create(f->tgt.pgsizes);
	unsigned long nr;
	unsigned int i = 0;

	while (i < f->nr) {
		unsigned long pfn = f->run[i].pfn;

		nr = f->run[i++].nr;
		while (i < f->nr && f->run[i].pfn == pfn + nr)
			nr += f->run[i++].nr;
		KUNIT_ASSERT_EQ(test, 0, fake_domain_map(ref, iova, pfn, nr));
		iova += nr << PAGE_SHIFT;
	}
	return ref;
}

static void feeder_compare(struct kunit *test, struct feeder *f,
			   struct fake_domain *fd, struct fake_domain *ref,
			   unsigned long iova)
{
	unsigned long page;
	unsigned int i;

	for (i = 0; i < FAKE_LEVELS; i++)
		KUNIT_EXPECT_EQ_MSG(test, ref->nr_pages[i], fd->nr_pages[i],
				    "level %u", i);
	for (i = 0; i < f->nr; i++) {
		for (page = 0; page < f->run[i].nr;
		     page += max(f->run[i].nr / 3, 1U))
			KUNIT_ASSERT_EQ(test, f->run[i].pfn + page,
					fake_domain_pfn(fd, iova +
							page * PAGE_SIZE));
		iova += (unsigned long)f->run[i].nr << PAGE_SHIFT;
	}
}

static void feeder_unmap(struct feeder *f, unsigned long iova)
{
	unsigned int i;

	for (i = 0; i < f->tgt.nr; i++)
		iommu_unmap(f->domains[i], iova, f->pages << PAGE_SHIFT);
}

static int feeder_feed(struct feeder *f, unsigned long va, unsigned int *taken)
{
	int ret;

	map_feed_open(&f->feed, &f->tgt, va, f->to_iova);
	ret = map_feed_add(&f->feed, f->run, f->nr, taken);
	return ret ? ret : map_feed_close(&f->feed, &f->tail);
}

static void feed_chunk(struct kunit *test)
{
	const struct feed_case *c = test->param_value;
	struct feeder *f = feeder_make(test, 2, FAKE_SIZES);
	struct fake_domain *ref;
	unsigned int taken;

	feeder_memory();
	KUNIT_EXPECT_EQ(test, 0, feeder_feed(f, c->va, &taken));
	KUNIT_EXPECT_EQ(test, f->nr, taken);
	KUNIT_EXPECT_EQ(test, 0UL, f->feed.head.nr);
	KUNIT_EXPECT_EQ(test, 0UL, f->tail.nr);
	KUNIT_EXPECT_EQ(test, f->feed.va, c->va + (f->pages << PAGE_SHIFT));
	if (c->calls)
		KUNIT_EXPECT_LE(test, f->fd[0]->nr_maps, c->calls);
	ref = feeder_reference(test, f, c->iova);
	feeder_compare(test, f, f->fd[0], ref, c->iova);
	feeder_compare(test, f, f->fd[1], ref, c->iova);
	feeder_unmap(f, c->iova);
	iommu_unmap(&ref->domain, c->iova, f->pages << PAGE_SHIFT);
}

/* disable_hugepages: nothing but small pages. */
static void feed_single(struct kunit *test)
{
	const struct feed_case *c = test->param_value;
	struct feeder *f = feeder_make(test, 1, FAKE_SIZES);
	unsigned int taken;

	if (f->pages > 20000) {
		/* Too many: one page tells as much. */
		f->nr = 1;
		f->pages = 1;
		f->run[0].nr = 1;
	}
	feeder_memory();
	f->tgt.single = true;
	f->feed.open_left = true;
	f->feed.open_right = true;
	KUNIT_EXPECT_EQ(test, 0, feeder_feed(f, c->va, &taken));
	KUNIT_EXPECT_EQ(test, f->pages, f->fd[0]->nr_pages[0]);
	feeder_unmap(f, c->iova);
}

/* pfns without struct pages go the same way, one extent a call. */
static void feed_pfns(struct kunit *test)
{
	const struct feed_case *c = test->param_value;
	struct feeder *f = feeder_make(test, 1, FAKE_SIZES);
	struct fake_domain *ref;
	unsigned int taken;

	KUNIT_EXPECT_EQ(test, 0, feeder_feed(f, c->va, &taken));
	ref = feeder_reference(test, f, c->iova);
	feeder_compare(test, f, f->fd[0], ref, c->iova);
	feeder_unmap(f, c->iova);
	iommu_unmap(&ref->domain, c->iova, f->pages << PAGE_SHIFT);
}

/* What feeding has taken: mapped, pending, or held back; each page once. */
static unsigned long feeder_pending(struct feeder *f)
{
	unsigned long nr = f->feed.head.nr + f->tail.nr;
	unsigned int i;

	for (i = 0; i < f->feed.nr; i++)
		nr += f->feed.ext[i].nr;
	return nr;
}

static unsigned long feeder_taken(struct feeder *f, unsigned int taken)
{
	unsigned long nr = 0;
	unsigned int i;

	for (i = 0; i < taken; i++)
		nr += f->run[i].nr;
	return nr;
}

/* The driver fails at the n-th page, in the first domain or the second. */
static void feed_fail(struct kunit *test)
{
	const struct feed_case *c = test->param_value;
	struct feeder *f = feeder_make(test, 2, FAKE_SIZES);
	unsigned int taken, which, i;
	unsigned long mapped;
	long nth, total = LONG_MAX;
	int ret;

	feeder_memory();
	f->feed.open_left = true;
	f->feed.open_right = true;
	for (which = 0; which < 2; which++) {
		/* First none fails, to see how many there are. */
		for (nth = LONG_MAX; ; nth = nth == LONG_MAX ? 0 :
		     fake_domain_next_failure(nth, total)) {
			f->fd[which]->fail_error = -ENOSPC;
			f->fd[which]->fail_after = nth;
			f->tail.nr = 0;
			ret = feeder_feed(f, c->va, &taken);
			if (nth == LONG_MAX)
				total = nth - f->fd[which]->fail_after;
			f->fd[which]->fail_error = 0;
			mapped = fake_domain_mapped(f->fd[0]);
			/* Both domains have the same, and all is accounted for. */
			KUNIT_ASSERT_EQ(test, mapped,
					fake_domain_mapped(f->fd[1]));
			KUNIT_ASSERT_EQ(test, feeder_taken(f, taken),
					(mapped >> PAGE_SHIFT) +
					feeder_pending(f));
			KUNIT_ASSERT_EQ(test, mapped, f->feed.va - c->va -
					(f->feed.head.nr << PAGE_SHIFT));
			for (i = 0; i < 2; i++)
				iommu_unmap(f->domains[i], f->feed.va -
					    mapped + f->to_iova, mapped);
			KUNIT_ASSERT_EQ(test, nth < total ? -ENOSPC : 0, ret);
			if (nth == total)
				break;
		}
	}
}

/*
 * Cut anywhere: the chunks on both sides and what they held back, joined, make
 * the pages that one chunk makes.
 */
static void feed_cut(struct kunit *test)
{
	const struct feed_case *c = test->param_value;
	struct feeder *f = feeder_make(test, 1, FAKE_SIZES);
	unsigned long va, iova = c->iova;
	struct pin_extent piece[4], cur;
	struct fake_domain *ref;
	unsigned int cut, i, n, taken, nr = f->nr;
	unsigned long pages = f->pages;
	int ret;

	feeder_memory();
	ref = feeder_reference(test, f, c->iova);
	for (cut = 1; cut < nr; cut += 1 + nr / 20) {
		va = c->va;
		n = 0;
		for (i = 0; i < 2; i++) {
			unsigned int from = i ? cut : 0, to = i ? nr : cut;

			f->feed.open_left = i;
			f->feed.open_right = !i;
			map_feed_open(&f->feed, &f->tgt, va, f->to_iova);
			KUNIT_ASSERT_EQ(test, 0,
					map_feed_add(&f->feed, f->run + from,
						     to - from, &taken));
			KUNIT_ASSERT_EQ(test, 0, map_feed_close(&f->feed,
								&f->tail));
			piece[n++] = f->feed.head;
			piece[n++] = f->tail;
			for (; from < to; from++)
				va += (unsigned long)f->run[from].nr <<
				      PAGE_SHIFT;
		}
		/* As map_range.c joins them. */
		cur = (struct pin_extent){ };
		for (i = 0; i <= n; i++) {
			if (i < n && !piece[i].nr)
				continue;
			if (i < n && cur.nr &&
			    cur.pfn + cur.nr == piece[i].pfn &&
			    cur.va + (cur.nr << PAGE_SHIFT) == piece[i].va) {
				cur.nr += piece[i].nr;
				continue;
			}
			ret = cur.nr ? map_target_map(&f->tgt,
						      cur.va + f->to_iova,
						      cur.pfn, cur.nr) : 0;
			KUNIT_ASSERT_EQ(test, 0, ret);
			if (i < n)
				cur = piece[i];
		}
		KUNIT_ASSERT_EQ(test, pages << PAGE_SHIFT,
				fake_domain_mapped(f->fd[0]));
		feeder_compare(test, f, f->fd[0], ref, iova);
		feeder_unmap(f, iova);
	}
	iommu_unmap(&ref->domain, iova, pages << PAGE_SHIFT);
}

/* ---- where a mapped range may be cut ---- */

static const struct cut_case {
	const char *desc;
	unsigned long pgsizes;
	unsigned long iova;
	unsigned long pfn[2];	/* in front of the cut, and behind it */
	unsigned long page;
} cuts[] = {
	{ "not contiguous", FAKE_SIZES, MB(2) + SZ_4K, { FAKE_PFN(512),
	  FAKE_PFN(600) }, 0 },
	{ "within a large page", FAKE_SIZES, MB(2) + SZ_4K, { FAKE_PFN(512),
	  FAKE_PFN(513) }, MB(2) },
	{ "offsets differ", FAKE_SIZES, MB(2) + SZ_4K, { FAKE_PFN(513),
	  FAKE_PFN(514) }, 0 },
	{ "between 2 MiB pages of a GiB", FAKE_SIZES, GB(1) + MB(2),
	  { FAKE_PFN(262144 + 511), FAKE_PFN(262144 + 512) }, GB(1) },
	{ "likewise, offsets differ within the GiB", FAKE_SIZES, GB(1) + MB(2),
	  { FAKE_PFN(1023), FAKE_PFN(1024) }, 0 },
	{ "likewise, no such pages", SZ_4K | SZ_2M, GB(1) + MB(2),
	  { FAKE_PFN(262144 + 511), FAKE_PFN(262144 + 512) }, 0 },
	{ "at a GiB", FAKE_SIZES, GB(1), { FAKE_PFN(262143),
	  FAKE_PFN(262144) }, 0 },
	{ "small pages only", SZ_4K, MB(2) + SZ_4K, { FAKE_PFN(512),
	  FAKE_PFN(513) }, 0 },
	{ "in the middle of 64 bits", FAKE_SIZES, 1UL << 63,
	  { FAKE_PFN(262143), FAKE_PFN(262144) }, 0 },
	{ "the last page of 64 bits", FAKE_SIZES, -SZ_4K,
	  { FAKE_PFN(262142), FAKE_PFN(262143) }, MB(2) },
};

static void cut_desc(const struct cut_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(cut, cuts, cut_desc);

static void feed_target_cut(struct kunit *test)
{
	const struct cut_case *c = test->param_value;
	struct fake_domain *fd = fake_domain_create(SZ_4K);
	struct iommu_domain *domain = &fd->domain;
	struct map_target tgt = { &domain, 1, IOMMU_READ, c->pgsizes, false };
	unsigned long i;

	for (i = 0; i < 2; i++)
		KUNIT_ASSERT_EQ(test, 0,
				fake_domain_map(fd, c->iova - PAGE_SIZE +
						i * PAGE_SIZE, c->pfn[i], 1));
	KUNIT_EXPECT_EQ(test, c->page, map_target_cut(&tgt, c->iova));
	/* Where what is mapped by one call cannot be cut, only between two calls. */
	tgt.whole = true;
	KUNIT_EXPECT_EQ(test, c->pfn[0] + 1 == c->pfn[1],
			!!map_target_cut(&tgt, c->iova));
	iommu_unmap(domain, c->iova - PAGE_SIZE, 2 * PAGE_SIZE);
}

/* One extent into several domains: into all of them, or none. */
static void feed_target_map(struct kunit *test)
{
	struct iommu_domain *domains[3];
	struct fake_domain *fd[3];
	struct map_target tgt = { domains, 3, IOMMU_READ, FAKE_SIZES, false };
	unsigned int i, bad, single;

	for (i = 0; i < 3; i++) {
		fd[i] = fake_domain_create(FAKE_SIZES);
		domains[i] = &fd[i]->domain;
	}
	for (single = 0; single < 2; single++) {
		tgt.single = single;
		for (bad = 0; bad < 3; bad++) {
			fd[bad]->fail_error = -ENOMEM;
			fd[bad]->fail_iova = MB(2) + 200 * PAGE_SIZE;
			KUNIT_EXPECT_EQ(test, -ENOMEM,
					map_target_map(&tgt, MB(2),
						       FAKE_PFN(512), 512));
			for (i = 0; i < 3; i++)
				KUNIT_EXPECT_EQ(test, 0UL,
						fake_domain_mapped(fd[i]));
			fd[bad]->fail_error = 0;
		}
		KUNIT_EXPECT_EQ(test, 0, map_target_map(&tgt, MB(2),
							FAKE_PFN(512), 512));
		for (i = 0; i < 3; i++) {
			KUNIT_EXPECT_EQ(test, single ? 512UL : 0,
					fd[i]->nr_pages[0]);
			KUNIT_EXPECT_EQ(test, single ? 0 : 1UL,
					fd[i]->nr_pages[1]);
			iommu_unmap(domains[i], MB(2), MB(2));
		}
	}
}

static struct kunit_case feed_cases[] = {
	KUNIT_CASE_PARAM(feed_seam, seam_gen_params),
	KUNIT_CASE_PARAM(feed_chunk, feed_gen_params),
	KUNIT_CASE_PARAM(feed_single, feed_gen_params),
	KUNIT_CASE_PARAM(feed_pfns, feed_gen_params),
	KUNIT_CASE_PARAM(feed_fail, feed_gen_params),
	KUNIT_CASE_PARAM(feed_cut, feed_gen_params),
	KUNIT_CASE_PARAM(feed_target_cut, cut_gen_params),
	KUNIT_CASE(feed_target_map),
	{ }
};

static struct kunit_suite feed_suite = {
	.name = "vfio_mt_map_feed",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = feed_cases,
};

kunit_test_suite(feed_suite);
