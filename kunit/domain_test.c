// SPDX-License-Identifier: GPL-2.0-only
/*
 * domain_test.c - what may be mapped, and groups that come and go
 *
 * First the lists of IOVA ranges, then attach and detach with fake groups, whose
 * every step may fail: the container must be as before then.
 */
#include "seam.h"
#include "fake_maps.h"

/* ---- fake groups ---- */

#define MAX_RESVS	3
#define MAX_GROUPS	4

/**
 * struct fake_group - a group of devices
 * @start: what its IOMMU translates
 * @last: likewise
 * @resv: its reserved regions; length 0 for none
 * @pgsizes: page sizes of its IOMMU
 * @no_share: it attaches to no domain but its own
 * @other_driver: its IOMMU has a driver of its own
 * @coherent: which keeps caches coherent
 * @whole: its IOMMU unmaps whole requests only
 * @attaches: how often it was attached to its own domain
 * @attached: the domain that it is attached to
 * @own: the domain that was made for it
 */
struct fake_group {
	u64 start;
	u64 last;
	struct iommu_resv_region resv[MAX_RESVS];
	unsigned long pgsizes;
	bool no_share;
	bool other_driver;
	bool coherent;
	bool whole;
	unsigned int attaches;
	struct iommu_domain *attached;
	struct fake_domain *own;
};

/* What can go wrong when a group is attached */
enum attach_step {
	STEP_NONE,
	STEP_ALLOC,
	STEP_NESTING,
	STEP_ATTACH,
	STEP_RETURN,
	STEP_RESV,
	STEP_MSI_ISOLATED,
	STEP_MSI_COOKIE,
	STEP_EXTEND,
	STEP_ADD,
};

/* The groups of the case that runs, and the step that fails. */
static struct {
	struct fake_group group[MAX_GROUPS];
	enum attach_step fails;
	unsigned int domains;
	unsigned int cookies;
	int cookie_error;
	struct iommu_domain_ops other_ops;
} world;

static struct fake_group *to_group(struct iommu_group *group)
{
	return (struct fake_group *)group;
}

typedef int (*each_dev_fn)(struct device *dev, void *data);

static int fake_group_devices(struct iommu_group *group, void *data,
			      each_dev_fn fn)
{
	return fn((struct device *)group, data);
}

static bool fake_enforce_cache_coherency(struct iommu_domain *domain)
{
	unsigned int i;

	for (i = 0; i < MAX_GROUPS; i++)
		if (world.group[i].own && &world.group[i].own->domain == domain)
			return world.group[i].coherent;
	return false;
}

static struct iommu_domain *fake_paging_domain_alloc(struct device *dev)
{
	struct fake_group *g = (struct fake_group *)dev;

	if (world.fails == STEP_ALLOC)
		return ERR_PTR(-EIO);
	g->own = fake_domain_create(g->pgsizes);
	if (g->other_driver) {
		world.other_ops = *g->own->domain.ops;
		world.other_ops.enforce_cache_coherency =
			fake_enforce_cache_coherency;
		g->own->domain.ops = &world.other_ops;
	}
	g->own->domain.geometry.aperture_start = g->start;
	g->own->domain.geometry.aperture_end = g->last;
	if (world.fails == STEP_EXTEND)
		g->own->fail_error = -ENOSPC;
	g->own->fail_after = 0;
	g->own->whole = g->whole;
	world.domains++;
	return &g->own->domain;
}

static void fake_domain_free(struct iommu_domain *domain)
{
	unsigned int i;

	for (i = 0; i < MAX_GROUPS; i++)
		if (world.group[i].attached == domain)
			fake_complain("a domain is freed with a group in it");
	world.domains--;
}

static int fake_attach_group(struct iommu_domain *domain,
			     struct iommu_group *group)
{
	struct fake_group *g = to_group(group);

	if (g->attached)
		fake_complain("a group is attached twice");
	if (world.fails == STEP_ATTACH ||
	    (g->no_share && domain != &g->own->domain))
		return -EBUSY;
	if (domain == &g->own->domain && g->attaches++ &&
	    world.fails == STEP_RETURN)
		return -ENODEV;
	g->attached = domain;
	return 0;
}

static void fake_detach_group(struct iommu_domain *domain,
			      struct iommu_group *group)
{
	if (to_group(group)->attached != domain)
		fake_complain("a group is detached that is not attached");
	to_group(group)->attached = NULL;
}

static int fake_get_group_resv_regions(struct iommu_group *group,
				       struct list_head *head)
{
	struct fake_group *g = to_group(group);
	struct iommu_resv_region *copy;
	unsigned int i;

	for (i = 0; i < MAX_RESVS && g->resv[i].length; i++) {
		copy = kmemdup(&g->resv[i], sizeof(*copy), GFP_KERNEL);
		if (copy)
			list_add_tail(&copy->list, head);
	}
	return world.fails == STEP_RESV ? -ENOMEM : 0;
}

static int fake_get_msi_cookie(struct iommu_domain *domain, dma_addr_t base)
{
	if (world.fails == STEP_MSI_COOKIE)
		return -ENOSPC;
	world.cookies++;
	return world.cookie_error;
}

static int fake_enable_nesting(struct iommu_domain *domain)
{
	return world.fails == STEP_NESTING ? -EINVAL : 0;
}

#define iommu_group_for_each_dev	fake_group_devices
#define iommu_paging_domain_alloc	fake_paging_domain_alloc
#define iommu_domain_free		fake_domain_free
#define iommu_attach_group		fake_attach_group
#define iommu_detach_group		fake_detach_group
#define iommu_get_group_resv_regions	fake_get_group_resv_regions
#define iommu_get_msi_cookie		fake_get_msi_cookie
#define iommu_enable_nesting		fake_enable_nesting
#define iommu_group_has_isolated_msi(group) \
	(world.fails != STEP_MSI_ISOLATED)
#undef krealloc_array
#define krealloc_array(args...)		FAKE_ALLOC(krealloc_array, args)
#undef pr_fmt
#include "../domain.c"

/* ---- lists of ranges ---- */

#define RANGES	5

static const struct list_case {
	const char *desc;
	struct iova_range before[RANGES];
	u64 start;
	u64 last;
	struct iova_range clipped[RANGES];
	struct iova_range excluded[RANGES];
} lists[] = {
#define ALL	{ 0, U64_MAX }
	{ "the middle of everything", { ALL }, 0x1000, 0x1fff,
	  { { 0x1000, 0x1fff } }, { { 0, 0xfff }, { 0x2000, U64_MAX } } },
	{ "the start of everything", { ALL }, 0, 0xfff,
	  { { 0, 0xfff } }, { { 0x1000, U64_MAX } } },
	{ "the end of everything", { ALL }, -0x1000ULL, U64_MAX,
	  { { -0x1000ULL, U64_MAX } }, { { 0, -0x1001ULL } } },
	{ "everything", { ALL }, 0, U64_MAX, { ALL }, { } },
	{ "one address", { ALL }, 5, 5, { { 5, 5 } },
	  { { 0, 4 }, { 6, U64_MAX } } },
	{ "address 0", { ALL }, 0, 0, { { 0, 0 } }, { { 1, U64_MAX } } },
	{ "the last address", { ALL }, U64_MAX, U64_MAX,
	  { { U64_MAX, U64_MAX } }, { { 0, U64_MAX - 1 } } },
	{ "exactly a range", { { 10, 20 }, { 30, 40 } }, 10, 20,
	  { { 10, 20 } }, { { 30, 40 } } },
	{ "a range but its first address", { { 10, 20 } }, 11, 20,
	  { { 11, 20 } }, { { 10, 10 } } },
	{ "a range but its last address", { { 10, 20 } }, 10, 19,
	  { { 10, 19 } }, { { 20, 20 } } },
	{ "a hole", { { 10, 20 }, { 30, 40 } }, 21, 29,
	  { }, { { 10, 20 }, { 30, 40 } } },
	{ "a hole and one address on both sides", { { 10, 20 }, { 30, 40 } },
	  20, 30, { { 20, 20 }, { 30, 30 } }, { { 10, 19 }, { 31, 40 } } },
	{ "several ranges", { { 10, 20 }, { 30, 40 }, { 50, 60 } }, 15, 55,
	  { { 15, 20 }, { 30, 40 }, { 50, 55 } }, { { 10, 14 }, { 56, 60 } } },
	{ "in front of all", { { 10, 20 } }, 0, 9, { }, { { 10, 20 } } },
	{ "behind all", { { 10, 20 } }, 21, 99, { }, { { 10, 20 } } },
	{ "more than all", { { 10, 20 }, { 30, 40 } }, 5, 99,
	  { { 10, 20 }, { 30, 40 } }, { } },
	{ "nothing there", { }, 5, 99, { }, { } },
};

static void list_desc(const struct list_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(list, lists, list_desc);

static unsigned int list_length(const struct iova_range *ranges)
{
	unsigned int nr = 0;

	while (nr < RANGES && ranges[nr].last)
		nr++;
	/* Only "address 0" ends with 0, and is alone. */
	return nr;
}

static void list_make(struct kunit *test, struct iova_list *list,
		      const struct iova_range *ranges)
{
	struct iova_list from = { list_length(ranges),
				  (struct iova_range *)ranges };

	KUNIT_ASSERT_EQ(test, 0, iova_list_init(list, &from));
	/* An empty one is one that knows no limits yet. */
	if (!from.nr) {
		KUNIT_ASSERT_EQ(test, 1U, list->nr);
		KUNIT_ASSERT_EQ(test, 0ULL, list->ranges[0].start);
		KUNIT_ASSERT_EQ(test, U64_MAX, list->ranges[0].last);
		list->nr = 0;
	}
}

static void list_compare(struct kunit *test, const struct iova_list *list,
			 const struct iova_range *want, unsigned int nr)
{
	unsigned int i;

	KUNIT_ASSERT_EQ(test, nr, list->nr);
	for (i = 0; i < nr; i++) {
		KUNIT_EXPECT_EQ(test, want[i].start, list->ranges[i].start);
		KUNIT_EXPECT_EQ(test, want[i].last, list->ranges[i].last);
	}
}

static void domain_clip(struct kunit *test)
{
	const struct list_case *c = test->param_value;
	unsigned int nr = list_length(c->clipped);
	struct iova_list list;

	list_make(test, &list, c->before);
	iova_list_clip(&list, c->start, c->last);
	list_compare(test, &list, c->clipped, c->last ? nr : 1);
	iova_list_free(&list);
}

static void domain_exclude(struct kunit *test)
{
	const struct list_case *c = test->param_value;
	struct iova_list list;

	list_make(test, &list, c->before);
	KUNIT_EXPECT_EQ(test, 0, iova_list_exclude(&list, c->start, c->last));
	list_compare(test, &list, c->excluded, list_length(c->excluded));
	iova_list_free(&list);
	KUNIT_EXPECT_NULL(test, list.ranges);
}

/* Without memory, the list is as before. */
static void domain_list_no_memory(struct kunit *test)
{
	const struct list_case *c = test->param_value;
	struct iova_list list;

	list_make(test, &list, c->before);
	atomic_set(&fake->alloc_fail, 0);
	KUNIT_EXPECT_EQ(test, -ENOMEM, iova_list_exclude(&list, c->start,
							 c->last));
	list_compare(test, &list, c->before, list_length(c->before));
	iova_list_free(&list);
	atomic_set(&fake->alloc_fail, 0);
	KUNIT_EXPECT_EQ(test, -ENOMEM, iova_list_init(&list, NULL));
}

/* Clip and exclude against the question itself: may this be mapped? */
static void domain_iova_valid(struct kunit *test)
{
	const struct list_case *c = test->param_value;
	struct fake_maps *fm = fake_maps_create(test);
	struct iova_list *list = &fm->backend.iovas;
	unsigned int i;
	u64 at[] = { 0, 4, 5, 9, 10, 15, 20, 21, 29, 30, 40, 41, 0xfff, 0x1000,
		     0x1fff, 0x2000, U64_MAX - 1, U64_MAX };

	list_make(test, list, c->before);
	for (i = 0; list->nr && i < ARRAY_SIZE(at); i++) {
		bool in = false, out = at[i] < c->start || at[i] > c->last;
		unsigned int k;

		for (k = 0; k < list->nr; k++)
			in |= at[i] >= list->ranges[k].start &&
			      at[i] <= list->ranges[k].last;
		KUNIT_EXPECT_EQ(test, in, backend_iova_valid(&fm->backend,
							     at[i], at[i]));
		if (!in || !out)
			continue;
		KUNIT_ASSERT_EQ(test, 0, iova_list_exclude(list, c->start,
							   c->last));
		KUNIT_EXPECT_TRUE(test, backend_iova_valid(&fm->backend, at[i],
							   at[i]));
		in = backend_iova_valid(&fm->backend, c->start, c->last);
		KUNIT_EXPECT_EQ(test, !list->nr, in);
		iova_list_free(list);
		list_make(test, list, c->before);
	}
	/* No range across a hole. */
	for (i = 0; i + 1 < list->nr; i++) {
		u64 first = list->ranges[i].start;
		u64 last = list->ranges[i + 1].last;

		KUNIT_EXPECT_FALSE(test, backend_iova_valid(&fm->backend,
							    first, last));
	}
	/* Before there is a domain, everything may be mapped. */
	iova_list_free(list);
	KUNIT_EXPECT_TRUE(test, backend_iova_valid(&fm->backend, 0, U64_MAX));
}

/* ---- reserved regions ---- */

static const struct resv_case {
	const char *desc;
	struct iommu_resv_region resv[MAX_RESVS];
	int ret;
	bool conflicts;	/* with a mapping of [2 MiB, 4 MiB - 1] */
	struct iova_range left[RANGES];
} resvs[] = {
#define RESV(s, l, t)	{ .start = (s), .length = (l), .type = (t) }
	{ "none", { }, 0, false, { ALL } },
	{ "the MSI window of x86", { RESV(0xfee00000, 0x100000,
	  IOMMU_RESV_MSI) }, 0, false,
	  { { 0, 0xfedfffff }, { 0xfef00000, U64_MAX } } },
	{ "a relaxable one", { RESV(MB(2), MB(2),
	  IOMMU_RESV_DIRECT_RELAXABLE) }, 0, false, { ALL } },
	{ "a direct one, mapped", { RESV(MB(3), SZ_4K, IOMMU_RESV_DIRECT) },
	  0, true, { { 0, MB(3) - 1 }, { MB(3) + SZ_4K, U64_MAX } } },
	{ "in front of what is mapped", { RESV(0, MB(2),
	  IOMMU_RESV_RESERVED) }, 0, false, { { MB(2), U64_MAX } } },
	{ "behind what is mapped", { RESV(MB(4), SZ_4K,
	  IOMMU_RESV_RESERVED) }, 0, false,
	  { { 0, MB(4) - 1 }, { MB(4) + SZ_4K, U64_MAX } } },
	{ "its first byte", { RESV(0, MB(2) + 1, IOMMU_RESV_RESERVED) }, 0,
	  true, { { MB(2) + 1, U64_MAX } } },
	{ "its last byte", { RESV(MB(4) - 1, 1, IOMMU_RESV_RESERVED) }, 0,
	  true, { { 0, MB(4) - 2 }, { MB(4), U64_MAX } } },
	{ "to the end of 64 bits", { RESV(GB(1), -GB(1),
	  IOMMU_RESV_RESERVED) }, 0, false, { { 0, GB(1) - 1 } } },
	{ "everything", { RESV(0, GB(1), IOMMU_RESV_RESERVED),
	  RESV(GB(1), -GB(1), IOMMU_RESV_RESERVED) }, -EINVAL, true, { } },
	{ "several", { RESV(MB(8), SZ_4K, IOMMU_RESV_MSI), RESV(0, SZ_4K,
	  IOMMU_RESV_RESERVED), RESV(MB(9), SZ_4K, IOMMU_RESV_SW_MSI) }, 0,
	  false, { { SZ_4K, MB(8) - 1 }, { MB(8) + SZ_4K, MB(9) - 1 },
	  { MB(9) + SZ_4K, U64_MAX } } },
};

static void resv_desc(const struct resv_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(resv, resvs, resv_desc);

static void domain_resv(struct kunit *test)
{
	const struct resv_case *c = test->param_value;
	struct fake_maps *fm = fake_maps_create(test);
	struct iommu_resv_region *copy;
	struct iova_list list;
	LIST_HEAD(head);
	unsigned int i;

	for (i = 0; i < MAX_RESVS && c->resv[i].length; i++) {
		copy = kmemdup(&c->resv[i], sizeof(*copy), GFP_KERNEL);
		KUNIT_ASSERT_NOT_NULL(test, copy);
		list_add_tail(&copy->list, &head);
	}
	KUNIT_ASSERT_EQ(test, 0, iova_list_init(&list, NULL));
	KUNIT_EXPECT_EQ(test, c->ret, iova_list_exclude_resv(&list, &head));
	list_compare(test, &list, c->left, list_length(c->left));
	KUNIT_EXPECT_FALSE(test, resv_conflicts(&fm->backend, &head));
	fake_maps_add(fm, MB(2), MB(2));
	KUNIT_EXPECT_EQ(test, c->conflicts, resv_conflicts(&fm->backend,
							   &head));
	iova_list_free(&list);
	resv_free(&head);
	KUNIT_EXPECT_TRUE(test, list_empty(&head));
}

/* ---- apertures ---- */

static const struct aperture_case {
	const char *desc;
	u64 start;
	u64 last;
	bool conflicts;	/* with mappings at 2 MiB and 1 GiB, of 2 MiB each */
} apertures[] = {
	{ "everything", 0, U64_MAX, false },
	{ "39 bits", 0, (1ULL << 39) - 1, false },
	{ "from the first mapping on", MB(2), U64_MAX, false },
	{ "from its second byte on", MB(2) + 1, U64_MAX, true },
	{ "to the end of the last one", 0, GB(1) + MB(2) - 1, false },
	{ "to its last byte but one", 0, GB(1) + MB(2) - 2, true },
	{ "between them", MB(4), GB(1) - 1, true },
	{ "behind them", GB(2), GB(3), true },
};

static void aperture_desc(const struct aperture_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(aperture, apertures, aperture_desc);

static void domain_aperture(struct kunit *test)
{
	const struct aperture_case *c = test->param_value;
	struct fake_maps *fm = fake_maps_create(test);
	struct iova_range limits[] = { { SZ_4K, GB(8) - 1 }, { GB(9), -2ULL } };

	/* Without a domain there are no limits to compare with. */
	KUNIT_EXPECT_FALSE(test, aperture_conflicts(&fm->backend, c->start,
						    c->last));
	fm->backend.iovas = (struct iova_list){ 2, limits };
	KUNIT_EXPECT_FALSE(test, aperture_conflicts(&fm->backend, c->start,
						    c->last));
	fake_maps_add(fm, MB(2), MB(2));
	fake_maps_add(fm, GB(1), MB(2));
	KUNIT_EXPECT_EQ(test, c->conflicts,
			aperture_conflicts(&fm->backend, c->start, c->last));
	/* Where nothing at all is in common */
	KUNIT_EXPECT_TRUE(test, aperture_conflicts(&fm->backend, 0,
						   SZ_4K - 1));
	KUNIT_EXPECT_TRUE(test, aperture_conflicts(&fm->backend, U64_MAX,
						   U64_MAX));
}

/* ---- levels of page tables ---- */

static const struct {
	u64 last;
	u64 reach;
} reaches[] = {
	{ 0, (1ULL << 39) - 1 },
	{ (1ULL << 39) - 1, (1ULL << 39) - 1 },
	{ 1ULL << 39, (1ULL << 48) - 1 },
	{ (1ULL << 48) - 1, (1ULL << 48) - 1 },
	{ 1ULL << 48, (1ULL << 57) - 1 },
	{ 1ULL << 57, U64_MAX },
	{ U64_MAX, U64_MAX },
};

static void domain_reach(struct kunit *test)
{
	struct fake_maps *fm = fake_maps_create(test);
	struct fake_domain *fd = fake_domain_create(FAKE_SIZES);
	struct backend_domain d = { .domain = &fd->domain };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(reaches); i++)
		KUNIT_EXPECT_EQ(test, reaches[i].reach,
				reach_of(reaches[i].last));

	list_add(&d.node, &fm->backend.domains);
	down_write(&fm->backend.domain_sem);
	fm->backend.reach = BACKEND_REACH_MIN;
	for (i = 0; i < ARRAY_SIZE(reaches); i++) {
		fd->nr_maps = 0;
		KUNIT_EXPECT_EQ(test, 0, backend_extend(&fm->backend,
							reaches[i].last));
		/* A page for a moment, once for each level */
		KUNIT_EXPECT_EQ(test, reaches[i].reach, fm->backend.reach);
		KUNIT_EXPECT_EQ(test, i == 2 || i == 4 || i == 5,
				fd->nr_maps == 1);
		KUNIT_EXPECT_EQ(test, 0UL, fake_domain_mapped(fd));
	}
	fm->backend.reach = BACKEND_REACH_MIN;
	fd->fail_error = -ENOSPC;
	fd->fail_after = 0;
	KUNIT_EXPECT_EQ(test, -ENOSPC, backend_extend(&fm->backend, U64_MAX));
	KUNIT_EXPECT_EQ(test, BACKEND_REACH_MIN, fm->backend.reach);
	up_write(&fm->backend.domain_sem);
}

/* ---- what must be unmapped as a whole ---- */

static const struct {
	u64 start;
	u64 last;
	u64 iova;	/* 0: there is no room */
} whole_rooms[] = {
	{ 0, U64_MAX, SZ_4K },
	{ SZ_4K, U64_MAX, 3 * SZ_4K },
	{ 0, 3 * SZ_4K - 1, SZ_4K },
	{ 0, 3 * SZ_4K - 2, 0 },
	{ MB(2) + 5, MB(4), MB(2) + 3 * SZ_4K },
	{ U64_MAX - SZ_4K, U64_MAX, 0 },
	{ U64_MAX - 3 * SZ_4K + 1, U64_MAX, 0 },
	{ U64_MAX - 4 * SZ_4K + 1, U64_MAX, U64_MAX - 3 * SZ_4K + 1 },
};

static void domain_whole_iova(struct kunit *test)
{
	struct iova_range ranges[2] = { { 0, SZ_4K - 1 } };
	struct iova_list list = { 2, ranges };
	unsigned int i;
	u64 iova;

	for (i = 0; i < ARRAY_SIZE(whole_rooms); i++) {
		ranges[1] = (struct iova_range){ whole_rooms[i].start,
						 whole_rooms[i].last };
		if (!whole_find_iova(&list, &iova))
			iova = 0;
		KUNIT_EXPECT_EQ(test, whole_rooms[i].iova, iova);
	}
	list.nr = 0;
	KUNIT_EXPECT_FALSE(test, whole_find_iova(&list, &iova));
}

static void domain_whole_try(struct kunit *test)
{
	struct iova_range all = { 0, U64_MAX };
	struct iova_list list = { 1, &all };
	struct fake_domain *fd = fake_domain_create(FAKE_SIZES);

	KUNIT_EXPECT_FALSE(test, domain_is_whole(&fd->domain, &list));
	KUNIT_EXPECT_EQ(test, 1UL, fd->nr_maps);
	fd->whole = true;
	KUNIT_EXPECT_TRUE(test, domain_is_whole(&fd->domain, &list));
	KUNIT_EXPECT_EQ(test, 2UL, fd->nr_maps);
	fd->whole = false;
	fd->short_unmap = SZ_4K;
	KUNIT_EXPECT_TRUE(test, domain_is_whole(&fd->domain, &list));
	fd->short_unmap = 0;
	iommu_unmap(&fd->domain, SZ_4K, 2 * SZ_4K);

	/* In doubt, yes */
	fd->fail_error = -ENOMEM;
	fd->fail_after = 0;
	KUNIT_EXPECT_TRUE(test, domain_is_whole(&fd->domain, &list));
	fd->fail_error = 0;
	list.nr = 0;
	KUNIT_EXPECT_TRUE(test, domain_is_whole(&fd->domain, &list));
	KUNIT_EXPECT_EQ(test, 0UL, fake_domain_mapped(fd));
}

/* ---- page sizes ---- */

static const struct {
	unsigned long one;
	unsigned long two;
	unsigned long users;	/* what all can, from the CPU's pages on */
	unsigned long any;
} page_sizes[] = {
	{ FAKE_SIZES, 0, PAGE_MASK & FAKE_SIZES, FAKE_SIZES },
	{ FAKE_SIZES, SZ_4K, SZ_4K, FAKE_SIZES },
	{ FAKE_SIZES, SZ_4K | SZ_2M, SZ_4K | SZ_2M, FAKE_SIZES },
	{ SZ_512 | SZ_4K | SZ_2M, 0, SZ_4K | SZ_2M, SZ_512 | SZ_4K | SZ_2M },
	{ SZ_512 | SZ_2M, 0, SZ_4K | SZ_2M, SZ_512 | SZ_2M },
	{ SZ_64K | SZ_2M, 0, SZ_64K | SZ_2M, SZ_64K | SZ_2M },
};

static void domain_page_sizes(struct kunit *test)
{
	struct fake_maps *fm = fake_maps_create(test);
	struct backend *backend = &fm->backend;
	struct backend_domain d[2] = { };
	struct fake_domain *fd[2];
	struct iommu_domain *targets[2];
	unsigned int i, nr;

	for (i = 0; i < 2; i++) {
		fd[i] = fake_domain_create(FAKE_SIZES);
		d[i].domain = &fd[i]->domain;
	}
	backend->target.domains = targets;
	backend_update_domains(backend);
	KUNIT_EXPECT_EQ(test, PAGE_MASK, backend->pgsizes);
	KUNIT_EXPECT_EQ(test, 0U, backend->target.nr);
	for (i = 0; i < ARRAY_SIZE(page_sizes); i++) {
		fd[0]->domain.pgsize_bitmap = page_sizes[i].one;
		fd[1]->domain.pgsize_bitmap = page_sizes[i].two;
		nr = page_sizes[i].two ? 2 : 1;
		INIT_LIST_HEAD(&backend->domains);
		list_add_tail(&d[0].node, &backend->domains);
		if (nr == 2)
			list_add_tail(&d[1].node, &backend->domains);
		backend_update_domains(backend);
		KUNIT_EXPECT_EQ(test, nr, backend->target.nr);
		KUNIT_EXPECT_EQ(test, page_sizes[i].users, backend->pgsizes);
		KUNIT_EXPECT_EQ(test, page_sizes[i].any,
				backend->target.pgsizes);
	}
}

/* ---- attach and detach ---- */

static struct fake_maps *groups_make(struct kunit *test)
{
	unsigned int i;

	memset(&world, 0, sizeof(world));
	for (i = 0; i < MAX_GROUPS; i++) {
		world.group[i].last = (1ULL << 48) - 1;
		world.group[i].pgsizes = FAKE_SIZES;
		world.group[i].resv[0] = (struct iommu_resv_region)
			RESV(0xfee00000, 0x100000, IOMMU_RESV_MSI);
	}
	return fake_maps_create(test);
}

static int attach(struct fake_maps *fm, unsigned int i)
{
	return backend_attach_group(&fm->backend,
				    (struct iommu_group *)&world.group[i],
				    false, false);
}

static void detach(struct fake_maps *fm, unsigned int i)
{
	backend_detach_group(&fm->backend,
			     (struct iommu_group *)&world.group[i]);
}

static unsigned int nr_domains(struct fake_maps *fm)
{
	struct backend_domain *d;
	unsigned int nr = 0;

	list_for_each_entry(d, &fm->backend.domains, node)
		nr++;
	return nr;
}

static const struct attach_case {
	const char *desc;
	enum attach_step step;
	unsigned int nr_before;	/* groups in the container */
	bool no_share;
	u64 start;
	int ret;
} attaches[] = {
	{ "the first group", STEP_NONE, 0, false, 0, 0 },
	{ "a group that shares the domain", STEP_NONE, 1, false, 0, 0 },
	{ "a group with its own domain", STEP_NONE, 1, true, 0, 0 },
	{ "no domain", STEP_ALLOC, 0, false, 0, -EIO },
	{ "no domain for a second group", STEP_ALLOC, 1, true, 0, -EIO },
	{ "no nesting", STEP_NESTING, 0, false, 0, -EINVAL },
	{ "it cannot be attached", STEP_ATTACH, 0, false, 0, -EBUSY },
	{ "it cannot go back to its own domain", STEP_RETURN, 1, true, 0,
	  -ENODEV },
	{ "no reserved regions", STEP_RESV, 1, true, 0, -ENOMEM },
	{ "interrupts not isolated", STEP_MSI_ISOLATED, 0, false, 0, -EPERM },
	{ "no MSI window", STEP_MSI_COOKIE, 0, false, 0, -ENOSPC },
	{ "page tables cannot grow", STEP_EXTEND, 1, true, 0, -ENOSPC },
	{ "mappings cannot be copied", STEP_ADD, 1, true, 0, -EFAULT },
	{ "the aperture conflicts", STEP_NONE, 1, true, GB(4), -EINVAL },
};

static void attach_desc(const struct attach_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(attach, attaches, attach_desc);

/* What of a container must be as before, when an attach has failed */
struct snapshot {
	unsigned int domains;
	unsigned int real_domains;
	unsigned int targets;
	unsigned int iovas;
	u64 last;
	u64 non_pinning;
	unsigned long pgsizes;
};

static struct snapshot snapshot_take(struct fake_maps *fm)
{
	const struct iova_list *iovas = &fm->backend.iovas;

	return (struct snapshot){
		.domains = nr_domains(fm),
		.real_domains = world.domains,
		.targets = fm->backend.target.nr,
		.iovas = iovas->nr,
		.last = iovas->nr ? iovas->ranges[iovas->nr - 1].last : 0,
		.non_pinning = fm->backend.non_pinning,
		.pgsizes = fm->backend.pgsizes,
	};
}

static void domain_attach(struct kunit *test)
{
	const struct attach_case *c = test->param_value;
	struct fake_maps *fm = groups_make(test);
	struct fake_group *g = &world.group[c->nr_before];
	struct snapshot before, after;
	unsigned int i;

	for (i = 0; i < c->nr_before; i++)
		KUNIT_ASSERT_EQ(test, 0, attach(fm, i));
	if (c->nr_before)
		fake_maps_add(fm, 1ULL << 40, MB(2));
	before = snapshot_take(fm);

	world.fails = c->step;
	fm->add_error = c->step == STEP_ADD ? -EFAULT : 0;
	fm->backend.nesting = c->step == STEP_NESTING;
	g->no_share = c->no_share;
	if (c->step == STEP_MSI_COOKIE)
		g->resv[0] = (struct iommu_resv_region)
			RESV(0x8000000, 0x100000, IOMMU_RESV_SW_MSI);
	g->start = c->start;
	if (c->start)
		g->last = GB(5) - 1;
	KUNIT_EXPECT_EQ(test, c->ret, attach(fm, c->nr_before));
	after = snapshot_take(fm);
	if (c->ret) {
		KUNIT_EXPECT_EQ(test, 0, memcmp(&before, &after,
						sizeof(before)));
		KUNIT_EXPECT_NULL(test, g->attached);
	} else {
		KUNIT_EXPECT_NOT_NULL(test, g->attached);
		KUNIT_EXPECT_EQ(test, before.non_pinning + 1,
				after.non_pinning);
		KUNIT_EXPECT_EQ(test, before.domains +
				(!before.domains || c->no_share),
				after.domains);
		KUNIT_EXPECT_EQ(test, after.domains, after.real_domains);
		KUNIT_EXPECT_EQ(test, after.domains, after.targets);
		KUNIT_EXPECT_EQ(test, 2U, after.iovas);
		/* Twice is once too often. */
		KUNIT_EXPECT_EQ(test, -EINVAL, attach(fm, c->nr_before));
	}

	world.fails = STEP_NONE;
	backend_release_domains(&fm->backend);
	KUNIT_EXPECT_EQ(test, 0U, world.domains);
	for (i = 0; i < MAX_GROUPS; i++)
		KUNIT_EXPECT_NULL(test, world.group[i].attached);
}

/* One such domain is enough for all, as long as it is there. */
static void domain_whole_attach(struct kunit *test)
{
	struct fake_maps *fm = groups_make(test);

	world.group[1].whole = true;
	world.group[1].no_share = true;
	KUNIT_ASSERT_EQ(test, 0, attach(fm, 0));
	KUNIT_EXPECT_FALSE(test, fm->backend.target.whole);
	KUNIT_ASSERT_EQ(test, 0, attach(fm, 1));
	KUNIT_EXPECT_TRUE(test, fm->backend.target.whole);
	backend_detach_group(&fm->backend,
			     (struct iommu_group *)&world.group[1]);
	KUNIT_EXPECT_FALSE(test, fm->backend.target.whole);
	backend_release_domains(&fm->backend);
}

/* Groups share a domain if one driver has both, and both are coherent or not. */
static void domain_coherency(struct kunit *test)
{
	static const struct {
		bool other_driver;
		bool coherent;
		unsigned int domains;	/* with this group */
		bool all;		/* are coherent */
	} groups[MAX_GROUPS] = {
		{ true, true, 1, true },
		{ true, true, 1, true },
		{ true, false, 2, false },
		{ false, false, 3, false },
	};
	struct fake_maps *fm = groups_make(test);
	struct iommu_group *group;
	unsigned int i;

	KUNIT_EXPECT_TRUE(test, backend_coherent(&fm->backend));
	for (i = 0; i < MAX_GROUPS; i++) {
		group = (struct iommu_group *)&world.group[i];
		world.group[i].other_driver = groups[i].other_driver;
		world.group[i].coherent = groups[i].coherent;
		KUNIT_EXPECT_PTR_EQ(test, (struct iommu_domain *)
				    ERR_PTR(-ENODEV),
				    backend_group_domain(&fm->backend, group));
		KUNIT_ASSERT_EQ(test, 0, attach(fm, i));
		KUNIT_EXPECT_EQ(test, groups[i].domains, nr_domains(fm));
		KUNIT_EXPECT_EQ(test, groups[i].all,
				backend_coherent(&fm->backend));
		KUNIT_EXPECT_PTR_EQ(test, world.group[i].attached,
				    backend_group_domain(&fm->backend, group));
	}
	backend_release_domains(&fm->backend);
}

/* Which groups need a window for interrupts that software manages? */
static const struct msi_case {
	const char *desc;
	struct iommu_resv_region resv[MAX_RESVS];
	int cookie_error;
	int ret;
	unsigned int cookies;
} msis[] = {
	{ "none", { }, 0, 0, 0 },
	{ "in hardware", { RESV(0xfee00000, SZ_4K, IOMMU_RESV_MSI) }, 0, 0, 0 },
	{ "in software", { RESV(MB(8), SZ_4K, IOMMU_RESV_SW_MSI) }, 0, 0, 1 },
	{ "in software, which the driver does without", { RESV(MB(8), SZ_4K,
	  IOMMU_RESV_SW_MSI) }, -ENODEV, 0, 1 },
	{ "in software, without memory", { RESV(MB(8), SZ_4K,
	  IOMMU_RESV_SW_MSI) }, -ENOMEM, -ENOMEM, 1 },
	{ "in both, software first", { RESV(MB(8), SZ_4K, IOMMU_RESV_SW_MSI),
	  RESV(0xfee00000, SZ_4K, IOMMU_RESV_MSI) }, 0, 0, 0 },
	{ "in both, hardware first", { RESV(0xfee00000, SZ_4K, IOMMU_RESV_MSI),
	  RESV(MB(8), SZ_4K, IOMMU_RESV_SW_MSI) }, 0, 0, 0 },
};

static void msi_desc(const struct msi_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(msi, msis, msi_desc);

static void domain_msi(struct kunit *test)
{
	const struct msi_case *c = test->param_value;
	struct fake_maps *fm = groups_make(test);

	memcpy(world.group[0].resv, c->resv, sizeof(c->resv));
	world.cookie_error = c->cookie_error;
	KUNIT_EXPECT_EQ(test, c->ret, attach(fm, 0));
	KUNIT_EXPECT_EQ(test, c->cookies, world.cookies);
	backend_release_domains(&fm->backend);
	KUNIT_EXPECT_EQ(test, 0U, world.domains);
}

/* The n-th allocation fails. */
static void domain_attach_no_memory(struct kunit *test)
{
	struct fake_maps *fm = groups_make(test);
	struct snapshot before, after;
	unsigned int i, nth;
	int ret;

	world.group[1].no_share = true;
	for (i = 0; i < 2; i++) {
		before = snapshot_take(fm);
		for (nth = 0; ; nth++) {
			atomic_set(&fake->alloc_fail, nth);
			ret = attach(fm, i);
			if (!ret)
				break;
			KUNIT_ASSERT_EQ(test, -ENOMEM, ret);
			after = snapshot_take(fm);
			KUNIT_ASSERT_EQ(test, 0, memcmp(&before, &after,
							sizeof(before)));
			KUNIT_ASSERT_NULL(test, world.group[i].attached);
		}
		atomic_set(&fake->alloc_fail, -1);
		KUNIT_EXPECT_GT(test, nth, 3U);
	}
	backend_release_domains(&fm->backend);
	KUNIT_EXPECT_EQ(test, 0U, world.domains);
}

/* User addresses are given up: nobody may come. */
static void domain_attach_vaddr_invalid(struct kunit *test)
{
	struct fake_maps *fm = groups_make(test);

	fm->backend.vaddr_invalid = 1;
	KUNIT_EXPECT_EQ(test, -EBUSY, attach(fm, 0));
}

/* Groups go: what they forbade is allowed again, and the last takes all with it. */
static void domain_detach(struct kunit *test)
{
	struct fake_maps *fm = groups_make(test);
	struct backend *backend = &fm->backend;

	world.group[1].no_share = true;
	world.group[1].last = (1ULL << 39) - 1;
	world.group[1].pgsizes = SZ_4K;
	KUNIT_ASSERT_EQ(test, 0, attach(fm, 0));
	KUNIT_ASSERT_EQ(test, 0, attach(fm, 1));
	KUNIT_EXPECT_FALSE(test, backend_iova_valid(backend, 1ULL << 39,
						    1ULL << 39));
	KUNIT_EXPECT_EQ(test, (unsigned long)SZ_4K, backend->pgsizes);
	KUNIT_EXPECT_EQ(test, 2ULL, backend->non_pinning);

	detach(fm, 1);
	KUNIT_EXPECT_TRUE(test, backend_iova_valid(backend, 1ULL << 39,
						   1ULL << 39));
	KUNIT_EXPECT_FALSE(test, backend_iova_valid(backend, 0xfee00000,
						    0xfee00fff));
	KUNIT_EXPECT_EQ(test, (unsigned long)FAKE_SIZES, backend->pgsizes);
	KUNIT_EXPECT_EQ(test, 1ULL, backend->non_pinning);
	KUNIT_EXPECT_EQ(test, 1U, world.domains);
	KUNIT_EXPECT_EQ(test, 0U, fm->removed_all);
	/* One that is not there: nothing happens. */
	detach(fm, 1);
	KUNIT_EXPECT_EQ(test, 1ULL, backend->non_pinning);

	detach(fm, 0);
	KUNIT_EXPECT_EQ(test, 1U, fm->removed_all);
	KUNIT_EXPECT_EQ(test, 0U, fm->dropped);
	KUNIT_EXPECT_EQ(test, 0U, world.domains);
	KUNIT_EXPECT_EQ(test, 0U, backend->target.nr);
	backend_release_domains(backend);
}

/* With a mediated device left, mappings stay, but are not pinned any more. */
static void domain_detach_emulated(struct kunit *test)
{
	struct fake_maps *fm = groups_make(test);
	struct dma_map *map = fake_maps_add(fm, MB(2), MB(2));
	struct backend *backend = &fm->backend;
	struct iommu_group *emulated = (struct iommu_group *)&world.group[2];

	KUNIT_ASSERT_EQ(test, 0, dirty_alloc(backend, map));

	KUNIT_ASSERT_EQ(test, 0, backend_attach_group(backend, emulated, true,
						      false));
	KUNIT_EXPECT_EQ(test, 0ULL, backend->non_pinning);
	KUNIT_ASSERT_EQ(test, 0, attach(fm, 0));
	detach(fm, 0);
	KUNIT_EXPECT_EQ(test, 0U, fm->removed_all);
	KUNIT_EXPECT_EQ(test, 1U, fm->dropped);
	/* It may have written to anything; one that pins has not. */
	KUNIT_EXPECT_TRUE(test, bitmap_full(map->dirty, 512));
	bitmap_zero(map->dirty, 512);
	backend_detach_group(backend, emulated);
	KUNIT_EXPECT_TRUE(test, bitmap_empty(map->dirty, 512));
	dirty_free(map);
	KUNIT_EXPECT_EQ(test, 1U, fm->removed_all);
	backend_release_domains(backend);
}

static struct kunit_case domain_cases[] = {
	KUNIT_CASE_PARAM(domain_clip, list_gen_params),
	KUNIT_CASE_PARAM(domain_exclude, list_gen_params),
	KUNIT_CASE_PARAM(domain_list_no_memory, list_gen_params),
	KUNIT_CASE_PARAM(domain_iova_valid, list_gen_params),
	KUNIT_CASE_PARAM(domain_resv, resv_gen_params),
	KUNIT_CASE_PARAM(domain_aperture, aperture_gen_params),
	KUNIT_CASE(domain_reach),
	KUNIT_CASE(domain_whole_iova),
	KUNIT_CASE(domain_whole_try),
	KUNIT_CASE(domain_whole_attach),
	KUNIT_CASE(domain_page_sizes),
	KUNIT_CASE_PARAM(domain_attach, attach_gen_params),
	KUNIT_CASE(domain_coherency),
	KUNIT_CASE_PARAM(domain_msi, msi_gen_params),
	KUNIT_CASE(domain_attach_no_memory),
	KUNIT_CASE(domain_attach_vaddr_invalid),
	KUNIT_CASE(domain_detach),
	KUNIT_CASE(domain_detach_emulated),
	{ }
};

static struct kunit_suite domain_suite = {
	.name = "vfio_mt_domain",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = domain_cases,
};

kunit_test_suite(domain_suite);
