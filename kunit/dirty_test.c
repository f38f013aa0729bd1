// SPDX-License-Identifier: GPL-2.0-only
/*
 * dirty_test.c - dirty bitmaps
 *
 * A mapping's bits are compared, one by one, with those that the user gets.
 */
#include "seam.h"
#include "fake_maps.h"
#include "../dirty.c"

/* ---- sizes ---- */

static const struct {
	u64 pages;
	u64 bytes;
} bytes[] = {
	{ 0, 0 }, { 1, 8 }, { 63, 8 }, { 64, 8 }, { 65, 16 }, { 128, 16 },
	{ 129, 24 }, { 1 << 20, 1 << 17 },
	{ DIRTY_BITMAP_PAGES_MAX, (DIRTY_BITMAP_PAGES_MAX + 1) / 8 },
};

static void dirty_bytes(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bytes); i++)
		KUNIT_EXPECT_EQ(test, bytes[i].bytes,
				dirty_bitmap_bytes(bytes[i].pages));
}

/* ---- marks ---- */

static const struct mark_case {
	const char *desc;
	unsigned long pgsizes;
	u64 size;
	u64 offset;
	u64 nr;
	unsigned long first;
	unsigned long bits;
} marks[] = {
	{ "a byte", PAGE_MASK, MB(2), 0, 1, 0, 1 },
	{ "a page", PAGE_MASK, MB(2), SZ_4K, SZ_4K, 1, 1 },
	{ "the last byte of a page", PAGE_MASK, MB(2), SZ_8K - 1, 1, 1, 1 },
	{ "two bytes of two pages", PAGE_MASK, MB(2), SZ_8K - 1, 2, 1, 2 },
	{ "the last page", PAGE_MASK, MB(2), MB(2) - SZ_4K, SZ_4K, 511, 1 },
	{ "all", PAGE_MASK, MB(2), 0, MB(2), 0, 512 },
	{ "across words", PAGE_MASK, MB(2), 60 * SZ_4K, 10 * SZ_4K, 60, 10 },
	{ "large IOMMU pages", MB(2) | GB(1), MB(64), MB(3), MB(3), 1, 2 },
	{ "a byte of a large page", MB(2), MB(64), MB(64) - 1, 1, 31, 1 },
};

static void mark_desc(const struct mark_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(mark, marks, mark_desc);

static void dirty_marks(struct kunit *test)
{
	const struct mark_case *c = test->param_value;
	struct fake_maps *fm = fake_maps_create(test);
	struct dma_map *map = fake_maps_add(fm, GB(1), c->size);
	unsigned long pages, i;

	fm->backend.pgsizes = c->pgsizes;
	pages = c->size / backend_pgsize(&fm->backend);
	/* Without a bitmap, nothing happens. */
	dirty_mark(&fm->backend, map, c->offset, c->nr);
	KUNIT_ASSERT_EQ(test, 0, dirty_alloc(&fm->backend, map));
	dirty_mark(&fm->backend, map, c->offset, c->nr);
	for (i = 0; i < pages; i++)
		KUNIT_ASSERT_EQ(test,
				i >= c->first && i < c->first + c->bits,
				test_bit(i, map->dirty));
	dirty_free(map);
	KUNIT_EXPECT_NULL(test, map->dirty);
	dirty_free(map);
}

/* ---- starting and stopping ---- */

static struct fake_maps *dirty_three_maps(struct kunit *test)
{
	struct fake_maps *fm = fake_maps_create(test);

	fake_maps_add(fm, 0, MB(1));
	fake_maps_add(fm, MB(4), MB(2));
	fake_maps_add(fm, -MB(2), MB(2));
	return fm;
}

static void dirty_start_stop(struct kunit *test)
{
	struct fake_maps *fm = dirty_three_maps(test);
	struct backend *backend = &fm->backend;
	unsigned int i;

	fm->pinned[1] = 5 * SZ_4K;
	down_write(&backend->domain_sem);
	dirty_stop(backend);
	KUNIT_EXPECT_EQ(test, 0, dirty_start(backend));
	KUNIT_EXPECT_TRUE(test, backend->dirty_tracking);
	for (i = 0; i < 3; i++)
		KUNIT_ASSERT_NOT_NULL(test, fm->maps[i].dirty);
	/* What a device has pinned is dirty from the start, and nothing else. */
	KUNIT_EXPECT_TRUE(test, bitmap_empty(fm->maps[0].dirty, 256));
	KUNIT_EXPECT_EQ(test, 1, bitmap_weight(fm->maps[1].dirty, 512));
	KUNIT_EXPECT_TRUE(test, test_bit(5, fm->maps[1].dirty));
	/* To start again changes nothing. */
	KUNIT_EXPECT_EQ(test, 0, dirty_start(backend));
	KUNIT_EXPECT_TRUE(test, test_bit(5, fm->maps[1].dirty));

	dirty_mark_all(backend);
	KUNIT_EXPECT_TRUE(test, bitmap_full(fm->maps[0].dirty, 256));
	KUNIT_EXPECT_TRUE(test, bitmap_full(fm->maps[1].dirty, 512));
	KUNIT_EXPECT_TRUE(test, bitmap_full(fm->maps[2].dirty, 512));

	dirty_stop(backend);
	KUNIT_EXPECT_FALSE(test, backend->dirty_tracking);
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_NULL(test, fm->maps[i].dirty);
	up_write(&backend->domain_sem);
}

/* Without memory for one bitmap, there is none. */
static void dirty_start_no_memory(struct kunit *test)
{
	struct fake_maps *fm = dirty_three_maps(test);
	struct backend *backend = &fm->backend;
	unsigned int i, nth;

	down_write(&backend->domain_sem);
	for (nth = 0; nth < 3; nth++) {
		atomic_set(&fake->alloc_fail, nth);
		KUNIT_EXPECT_EQ(test, -ENOMEM, dirty_start(backend));
		KUNIT_EXPECT_FALSE(test, backend->dirty_tracking);
		for (i = 0; i < 3; i++)
			KUNIT_EXPECT_NULL(test, fm->maps[i].dirty);
	}
	up_write(&backend->domain_sem);
}

/* More pages than the interface allows */
static void dirty_too_large(struct kunit *test)
{
	struct fake_maps *fm = fake_maps_create(test);
	struct dma_map *map = fake_maps_add(fm, 0, (DIRTY_BITMAP_PAGES_MAX + 1)
					    << PAGE_SHIFT);

	KUNIT_EXPECT_EQ(test, -EINVAL, dirty_alloc(&fm->backend, map));
	KUNIT_EXPECT_NULL(test, map->dirty);
	fm->backend.pgsizes = MB(2);
	KUNIT_EXPECT_EQ(test, 0, dirty_alloc(&fm->backend, map));
	dirty_free(map);
}

/* ---- reports ---- */

#define USER_WORDS	160
#define GUARD		0xdeadbeefcafe0000ULL

static const struct copy_case {
	const char *desc;
	u64 base;
	u64 iova;
	u64 size;
	unsigned int nth;	/* every n-th page is dirty */
	bool all;		/* a group writes where it likes */
} copies[] = {
	{ "a word", 0, 0, 64 * SZ_4K, 3 },
	{ "less than a word", 0, 0, 10 * SZ_4K, 2 },
	{ "a page", 0, 0, SZ_4K, 1 },
	{ "a clean page", 0, 0, SZ_4K, 0 },
	{ "a word and a page", 0, 0, 65 * SZ_4K, 1 },
	{ "some words", 0, 0, 1000 * SZ_4K, 7 },
	{ "as many as are put together", 0, 0, 4096 * SZ_4K, 5 },
	{ "one more", 0, 0, 4097 * SZ_4K, 5 },
	{ "behind a hole of words", 0, 128 * SZ_4K, 64 * SZ_4K, 3 },
	{ "behind a hole of a page", 0, SZ_4K, 64 * SZ_4K, 3 },
	{ "behind a hole of 63 pages", 0, 63 * SZ_4K, 64 * SZ_4K, 1 },
	{ "in one word, not from its start", 0, 10 * SZ_4K, 20 * SZ_4K, 1 },
	{ "to the word's end", 0, 10 * SZ_4K, 54 * SZ_4K, 1 },
	{ "a page beyond the word's end", 0, 10 * SZ_4K, 55 * SZ_4K, 1 },
	{ "many words, shifted", 0, 33 * SZ_4K, 4200 * SZ_4K, 5 },
	{ "many words, shifted by 1", 0, 65 * SZ_4K, 4095 * SZ_4K, 3 },
	{ "the end of 64 bits", -256 * SZ_4K, -100 * SZ_4K, 100 * SZ_4K, 3 },
	{ "another base", GB(1), GB(1) + 70 * SZ_4K, 99 * SZ_4K, 4 },
	{ "all, whatever the bits", 0, 7 * SZ_4K, 300 * SZ_4K, 0, true },
	{ "all of a word", 0, 0, 64 * SZ_4K, 0, true },
};

static void copy_desc(const struct copy_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(copy, copies, copy_desc);

/* What the user's bitmap has before: bits in the word that is shared. */
static u64 *dirty_user(struct kunit *test, unsigned int words)
{
	u64 *user = kunit_kmalloc_array(test, words, sizeof(u64), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, user);
	for (i = 0; i < words; i++)
		user[i] = GUARD + i;
	fake->user = user;
	fake->user_fault = words;
	return user;
}

static bool copy_bit(const struct copy_case *c, unsigned long page)
{
	return c->all || (c->nth && page % c->nth == 0);
}

static struct fake_maps *copy_make(struct kunit *test,
				   const struct copy_case *c)
{
	struct fake_maps *fm = fake_maps_create(test);
	struct dma_map *map = fake_maps_add(fm, c->iova, c->size);
	unsigned long i;

	KUNIT_ASSERT_EQ(test, 0, dirty_alloc(&fm->backend, map));
	for (i = 0; i < c->size / SZ_4K && c->nth; i += c->nth)
		dirty_mark(&fm->backend, map, i * SZ_4K, SZ_4K);
	map->iommu_mapped = true;
	fm->backend.non_pinning = c->all;
	fm->backend.dirty_tracking = true;
	return fm;
}

static void dirty_copies(struct kunit *test)
{
	const struct copy_case *c = test->param_value;
	struct fake_maps *fm = copy_make(test, c);
	unsigned long first = (c->iova - c->base) / SZ_4K, pages, i, words;
	u64 *user = dirty_user(test, USER_WORDS), before;

	pages = c->size / SZ_4K;
	words = DIV_ROUND_UP(first + pages, 64);
	before = user[first / 64];
	KUNIT_ASSERT_EQ(test, 0, dirty_copy(&fm->backend, &fm->maps[0],
					    c->base, (u64 __user *)user));
	for (i = 0; i < pages; i++)
		KUNIT_ASSERT_EQ_MSG(test, copy_bit(c, i) ||
				    (first % 64 && (first + i) / 64 ==
				     first / 64 && before >>
				     ((first + i) % 64) & 1),
				    !!(user[(first + i) / 64] >>
				       ((first + i) % 64) & 1), "page %lu", i);
	/* The bits in front, in the same word, stay; those behind are clear. */
	for (i = 0; i < first % 64; i++)
		KUNIT_ASSERT_EQ(test, before >> i & 1,
				user[first / 64] >> i & 1);
	for (i = first + pages; i < words * 64; i++)
		KUNIT_ASSERT_EQ(test, first % 64 && i / 64 == first / 64 ?
				before >> i % 64 & 1 : 0,
				user[i / 64] >> i % 64 & 1);
	/* And nothing else is touched. */
	for (i = 0; i < USER_WORDS; i++)
		if (i < first / 64 || i >= words)
			KUNIT_ASSERT_EQ(test, GUARD + i, user[i]);
	dirty_free(&fm->maps[0]);
}

/* The user's memory ends within the bitmap: -EFAULT, and nothing is lost. */
static void dirty_copies_fault(struct kunit *test)
{
	const struct copy_case *c = test->param_value;
	struct fake_maps *fm = copy_make(test, c);
	unsigned long first = (c->iova - c->base) / SZ_4K, words, i;
	u64 last = c->base + (first * SZ_4K) + c->size - 1;
	unsigned int weight;

	words = DIV_ROUND_UP(first + c->size / SZ_4K, 64);
	dirty_user(test, USER_WORDS);
	weight = bitmap_weight(fm->maps[0].dirty, c->size / SZ_4K);
	for (i = first / 64; i < words; i++) {
		fake->user_fault = i;
		KUNIT_ASSERT_EQ(test, -EFAULT,
				dirty_get(&fm->backend, c->base,
					  last - c->base + 1, SZ_4K,
					  (u64 __user *)fake->user));
		KUNIT_ASSERT_EQ(test, weight,
				(unsigned int)bitmap_weight(fm->maps[0].dirty,
							    c->size / SZ_4K));
		KUNIT_ASSERT_FALSE(test, fm->locked);
	}
	dirty_free(&fm->maps[0]);
}

/* What was reported is clean, but for what a device has pinned. */
static void dirty_get_clears(struct kunit *test)
{
	const struct copy_case *c = test->param_value;
	struct fake_maps *fm = copy_make(test, c);
	u64 size = c->iova - c->base + c->size;
	unsigned long pages = c->size / SZ_4K;

	dirty_user(test, USER_WORDS);
	fm->pinned[0] = c->size - SZ_4K;
	KUNIT_ASSERT_EQ(test, 0, dirty_get(&fm->backend, c->base, size, SZ_4K,
					   (u64 __user *)fake->user));
	KUNIT_EXPECT_EQ(test, 1, bitmap_weight(fm->maps[0].dirty, pages));
	KUNIT_EXPECT_TRUE(test, test_bit(pages - 1, fm->maps[0].dirty));
	fm->pinned[0] = -1;
	KUNIT_ASSERT_EQ(test, 0, dirty_get(&fm->backend, c->base, size, SZ_4K,
					   (u64 __user *)fake->user));
	KUNIT_EXPECT_TRUE(test, bitmap_empty(fm->maps[0].dirty, pages));
	KUNIT_EXPECT_FALSE(test, fm->locked);
	dirty_free(&fm->maps[0]);
}

/* Several mappings that share words: each bit where it belongs. */
static void dirty_get_neighbours(struct kunit *test)
{
	static const unsigned long at[] = { 0, 10, 70, 150, 151 };
	static const unsigned long nr[] = { 10, 20, 64, 1, 77 };
	struct fake_maps *fm = fake_maps_create(test);
	u64 *user = dirty_user(test, USER_WORDS);
	unsigned long i, k, want = 0;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		fake_maps_add(fm, GB(1) + at[i] * SZ_4K, nr[i] * SZ_4K);
		KUNIT_ASSERT_EQ(test, 0, dirty_alloc(&fm->backend,
						     &fm->maps[i]));
		/* The first and the last page of each */
		dirty_mark(&fm->backend, &fm->maps[i], 0, 1);
		dirty_mark(&fm->backend, &fm->maps[i],
			   (nr[i] - 1) * SZ_4K, 1);
	}
	fm->backend.dirty_tracking = true;
	memset(user, 0, USER_WORDS * sizeof(*user));
	KUNIT_ASSERT_EQ(test, 0, dirty_get(&fm->backend, GB(1), MB(1), SZ_4K,
					   (u64 __user *)user));
	for (i = 0; i < 256; i++) {
		want = 0;
		for (k = 0; k < ARRAY_SIZE(at); k++)
			want |= i == at[k] || i == at[k] + nr[k] - 1;
		KUNIT_ASSERT_EQ_MSG(test, want, (unsigned long)
				    (user[i / 64] >> i % 64 & 1), "page %lu", i);
	}
	for (i = 0; i < ARRAY_SIZE(at); i++)
		dirty_free(&fm->maps[i]);
}

/* ---- what is refused ---- */

static const struct get_case {
	const char *desc;
	u64 iova;
	u64 size;
	u64 pgsize;
	int ret;
} gets[] = {
	{ "all mappings", 0, GB(1), SZ_4K, 0 },
	{ "one mapping", MB(4), MB(2), SZ_4K, 0 },
	{ "nothing mapped", MB(64), MB(2), SZ_4K, 0 },
	{ "the start cuts a mapping", MB(5), MB(2), SZ_4K, -EINVAL },
	{ "the end cuts a mapping", MB(2), MB(3), SZ_4K, -EINVAL },
	{ "within a mapping", MB(4) + SZ_4K, SZ_4K, SZ_4K, -EINVAL },
	{ "another page size", MB(4), MB(2), SZ_8K, -EINVAL },
	{ "page size 0", MB(4), MB(2), 0, -EINVAL },
	{ "not aligned", MB(4) - 1, MB(2), SZ_4K, -EINVAL },
	{ "a size that is not aligned", MB(4), MB(2) + 1, SZ_4K, -EINVAL },
	{ "the end of 64 bits", -MB(2), MB(2), SZ_4K, 0 },
};

static void get_desc(const struct get_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(get, gets, get_desc);

static void dirty_get_args(struct kunit *test)
{
	const struct get_case *c = test->param_value;
	struct fake_maps *fm = dirty_three_maps(test);
	unsigned int i;
	void *user;

	user = kvzalloc(GB(1) / SZ_4K / 8, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, user);
	fake->user = user;
	KUNIT_EXPECT_EQ(test, -EINVAL, dirty_get(&fm->backend, c->iova,
						 c->size, c->pgsize,
						 (u64 __user *)user));
	down_write(&fm->backend.domain_sem);
	KUNIT_ASSERT_EQ(test, 0, dirty_start(&fm->backend));
	for (i = 0; i < 3; i++)
		dirty_mark(&fm->backend, &fm->maps[i], 0, 1);
	up_write(&fm->backend.domain_sem);
	KUNIT_EXPECT_EQ(test, c->ret, dirty_get(&fm->backend, c->iova, c->size,
						c->pgsize,
						(u64 __user *)user));
	for (i = 0; i < 3; i++) {
		bool clean = !c->ret && fm->maps[i].iova >= c->iova &&
			     dma_map_last(&fm->maps[i]) <=
			     c->iova + c->size - 1;

		KUNIT_EXPECT_EQ(test, !clean, test_bit(0, fm->maps[i].dirty));
	}
	fm->lock_error = -EINTR;
	KUNIT_EXPECT_EQ(test, -EINTR, dirty_get(&fm->backend, c->iova, c->size,
						c->pgsize,
						(u64 __user *)user));
	KUNIT_EXPECT_FALSE(test, fm->locked);
	down_write(&fm->backend.domain_sem);
	dirty_stop(&fm->backend);
	up_write(&fm->backend.domain_sem);
	kvfree(user);
}

static struct kunit_case dirty_cases[] = {
	KUNIT_CASE(dirty_bytes),
	KUNIT_CASE_PARAM(dirty_marks, mark_gen_params),
	KUNIT_CASE(dirty_start_stop),
	KUNIT_CASE(dirty_start_no_memory),
	KUNIT_CASE(dirty_too_large),
	KUNIT_CASE_PARAM(dirty_copies, copy_gen_params),
	KUNIT_CASE_PARAM(dirty_copies_fault, copy_gen_params),
	KUNIT_CASE_PARAM(dirty_get_clears, copy_gen_params),
	KUNIT_CASE(dirty_get_neighbours),
	KUNIT_CASE_PARAM(dirty_get_args, get_gen_params),
	{ }
};

static struct kunit_suite dirty_suite = {
	.name = "vfio_mt_dirty",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = dirty_cases,
};

kunit_test_suite(dirty_suite);
