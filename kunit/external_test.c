// SPDX-License-Identifier: GPL-2.0-only
/*
 * external_test.c - what devices pin, read and write themselves
 *
 * A container with a few mappings, whose user memory can be copied too. The
 * layers below are real; the lock of the container is a fake, which knows who
 * asked for it. Every case ends with no page pinned, charged, or known to a
 * mapping.
 */
#include <linux/vfio.h>

#include "seam.h"

/* Those of this unit; what others call by these names is in their fakes. */
#define external_charged	real_external_charged
#define external_drop_all	real_external_drop_all
#define external_mark_dirty	real_external_mark_dirty
#define external_notify_unmap	real_external_notify_unmap
#include "fake_maps.h"
#include "../include/pin_chunk.h"

/* ---- the container ---- */

#define PAGES(n)	((u64)(n) << PAGE_SHIFT)
#define IOVA(n)		(GB(1) + PAGES(n))
#define RW		(IOMMU_READ | IOMMU_WRITE)

/* Each mapping has so many pages. */
#define EXT_PAGES	16
#define EXT_SIZE	(EXT_PAGES * PAGE_SIZE)

/* The mappings: three without a hole between them, and the end of 64 bits */
enum {
	EXT_RW,
	EXT_NEXT,
	EXT_RO,
	EXT_WO,
	EXT_TOP,
	EXT_MAPS,
};

static const struct {
	u64 iova;
	unsigned long va;
	int prot;
} ext_maps[EXT_MAPS] = {
	/* The 8th page is the last one under its PMD. */
	[EXT_RW] = { IOVA(0), MB(4) - 8 * PAGE_SIZE, RW },
	[EXT_NEXT] = { IOVA(16), MB(16), RW },
	[EXT_RO] = { IOVA(32), MB(32), IOMMU_READ },
	[EXT_WO] = { IOVA(64), MB(48), IOMMU_WRITE },
	[EXT_TOP] = { -EXT_SIZE, MB(64), RW },
};

/* The most pages that a case pins in one call */
#define EXT_PINS	600
#define EXT_DEVICES	3

/* Where nobody has stored a page */
#define EXT_NO_PAGE	((struct page *)POISON_POINTER_DELTA + 0x5a)

/**
 * struct ext_device - a device
 * @device: what the unit gets to see
 * @calls: how often it was told of an unmap
 * @turn: the how-manieth of all it was, the last time
 * @iova: what it was told
 * @size: likewise
 * @unpin: it unpins so many pages then, from there on
 */
struct ext_device {
	struct vfio_device device;
	unsigned int calls;
	unsigned int turn;
	u64 iova;
	u64 size;
	int unpin;
};

/**
 * struct ext - what a case has
 * @fm: the container
 * @map: its mappings
 * @device: its devices; the first one is registered
 * @domain: an IOMMU domain, which may be in the container
 * @turns: how often any device was told of an unmap
 * @stranger: if not NULL, the calling thread is this one, of another process
 * @fault: the user address at which a copy faults
 * @pages: what was pinned by the last call
 * @user: the memory of all mappings
 * @expected: what it should be
 * @data: what a device reads or writes
 */
struct ext {
	struct fake_maps *fm;
	struct dma_map *map[EXT_MAPS];
	struct ext_device device[EXT_DEVICES];
	struct backend_domain domain;
	unsigned int turns;
	struct task_struct *stranger;
	unsigned long fault;
	struct page *pages[EXT_PINS];
	u8 user[EXT_MAPS * EXT_SIZE];
	u8 expected[EXT_MAPS * EXT_SIZE];
	u8 data[EXT_MAPS * EXT_SIZE];
};

static struct ext *ext;

static void ext_expect_locked(void)
{
	if (!ext->fm->locked && !rwsem_is_locked(&ext->fm->backend.domain_sem))
		fake_complain("the container is not locked");
}

static void ext_expect_users(void)
{
	if (atomic_read(&fake->mm.mm->mm_users) < 2)
		fake_complain("the mm is used and not held");
}

/* ---- what the unit calls ---- */

static struct task_struct *ext_current(void)
{
	return ext->stranger ? : fake_current();
}

/* It demands an aligned address, and would not end without. */
static int ext_pin_one_page(struct mm_struct *mm, unsigned long va, bool write,
			    struct pin_run *run, bool *account)
{
	ext_expect_locked();
	ext_expect_users();
	if (va & ~PAGE_MASK) {
		fake_complain("a page is pinned at %#lx", va);
		return -EFAULT;
	}
	return pin_one_page(mm, va, write, run, account);
}

/* The memory at a user address, and how much follows without a fault. */
static u8 *ext_user_at(unsigned long va, bool write, unsigned long *size)
{
	unsigned long offset;
	unsigned int i;

	ext_expect_locked();
	ext_expect_users();
	if (ext_current()->mm != fake->mm.mm)
		fake_complain("a thread copies that does not run on the mm");
	for (i = 0; i < EXT_MAPS; i++) {
		offset = va - ext_maps[i].va;
		if (offset >= EXT_SIZE)
			continue;
		*size = EXT_SIZE - offset;
		if (ext->fault - va < *size)
			*size = ext->fault - va;
		if (write && !(ext_maps[i].prot & IOMMU_WRITE))
			*size = 0;
		return &ext->user[i * EXT_SIZE + offset];
	}
	*size = 0;
	return NULL;
}

static unsigned long ext_copy_to_user(void __user *to, const void *from,
				      unsigned long n)
{
	unsigned long size;
	u8 *user = ext_user_at((unsigned long)to, true, &size);

	size = min(size, n);
	if (size)
		memcpy(user, from, size);
	return n - size;
}

static unsigned long ext_copy_from_user(void *to, const void __user *from,
					unsigned long n)
{
	unsigned long size;
	u8 *user = ext_user_at((unsigned long)from, false, &size);

	size = min(size, n);
	if (size)
		memcpy(to, user, size);
	return n - size;
}

#undef current
#define current ext_current()
#undef copy_to_user
#define copy_to_user(to, from, n)	ext_copy_to_user(to, from, n)
#define copy_from_user(to, from, n)	ext_copy_from_user(to, from, n)
#undef WARN_ON
#define WARN_ON(condition)		fake_warn(condition)
#define pin_one_page			ext_pin_one_page
#define pin_run_unpin(run, dirty) \
	(ext_expect_locked(), pin_run_unpin(run, dirty))
#define dirty_mark(backend, map, offset, size) \
	(ext_expect_locked(), dirty_mark(backend, map, offset, size))
#include "../external.c"
#undef dirty_mark
#undef pin_run_unpin
#undef pin_one_page
#undef current
#define current get_current()

/* ---- devices ---- */

static void ext_dma_unmap(struct vfio_device *device, u64 iova, u64 size)
{
	struct ext_device *d = container_of(device, struct ext_device, device);
	struct backend *backend = &ext->fm->backend;

	if (!mutex_is_locked(&backend->device_lock) ||
	    mutex_is_locked(&backend->lock) || ext->fm->locked)
		fake_complain("a device is told with the wrong locks held");
	d->calls++;
	d->turn = ++ext->turns;
	d->iova = iova;
	d->size = size;
	external_unpin(backend, iova, d->unpin);
}

static const struct vfio_device_ops ext_ops = { .dma_unmap = ext_dma_unmap };
static const struct vfio_device_ops ext_plain_ops = { };

/* ---- cases begin and end ---- */

/* The memory of all mappings; that of @map is of another kind. */
static void ext_memory(unsigned int map, unsigned int flags, unsigned int order)
{
	struct fake_area areas[EXT_MAPS];
	unsigned int i;

	for (i = 0; i < EXT_MAPS; i++)
		areas[i] = (struct fake_area){
			.va = ext_maps[i].va,
			.nr = EXT_PAGES,
			.pfn = FAKE_PFN(ext_maps[i].va >> PAGE_SHIFT),
			.leaf = PIN_LEAF_PTE,
			.flags = ext_maps[i].prot & IOMMU_WRITE ? 0 : FAKE_RO,
		};
	areas[map].flags |= flags;
	areas[map].order = order;
	fake_mm_setup(areas, EXT_MAPS);
}

static void ext_add_map(unsigned int i)
{
	struct dma_map *map = fake_maps_add(ext->fm, ext_maps[i].iova,
					    EXT_SIZE);

	map->vaddr = ext_maps[i].va;
	map->prot = ext_maps[i].prot;
	map->owner.mm = fake->mm.mm;
	map->owner.task = get_current();
	xa_init_flags(&map->external, XA_FLAGS_ACCOUNT);
	ext->map[i] = map;
}

static int ext_init(struct kunit *test)
{
	unsigned int i;

	if (fake_init(test))
		return -ENOMEM;
	ext = kvzalloc(sizeof(*ext), GFP_KERNEL);
	if (!ext)
		return -ENOMEM;
	ext->fm = fake_maps_create(test);
	ext->fm->backend.v2 = true;
	for (i = 0; i < EXT_MAPS; i++)
		ext_add_map(i);
	ext_memory(EXT_RW, 0, 0);
	for (i = 0; i < sizeof(ext->user); i++)
		ext->user[i] = i * 7 + (i >> 8);
	INIT_LIST_HEAD(&ext->domain.groups);
	for (i = 0; i < EXT_DEVICES; i++)
		ext->device[i].device.ops = &ext_ops;
	external_register(&ext->fm->backend, &ext->device[0].device);
	return 0;
}

static void ext_exit(struct kunit *test)
{
	struct backend *backend;
	struct dma_map *map;
	unsigned int i;

	if (!ext)
		goto out;
	for (i = 0; i < EXT_MAPS && ext->map[i]; i++) {
		map = ext->map[i];
		if (!xa_empty(&map->external))
			fake_complain("mapping %u has pages left", i);
		if (map->nr_external || map->charged)
			fake_complain("mapping %u counts %lu pages, %lu charged",
				      i, map->nr_external, map->charged);
		xa_destroy(&map->external);
		dirty_free(map);
	}
	backend = &ext->fm->backend;
	if (ext->fm->locked || mutex_is_locked(&backend->lock) ||
	    mutex_is_locked(&backend->device_lock) ||
	    rwsem_is_locked(&backend->domain_sem))
		fake_complain("the container is still locked");
	if (atomic_read(&fake->mm.mm->mm_users) != 1)
		fake_complain("the mm has %d users",
			      atomic_read(&fake->mm.mm->mm_users));
	kvfree(ext);
	ext = NULL;
out:
	fake_exit(test);
}

/* ---- helpers of cases ---- */

static unsigned int ext_map_of(u64 iova)
{
	unsigned int i;

	for (i = 0; i < EXT_MAPS - 1; i++)
		if (iova - ext_maps[i].iova < EXT_SIZE)
			break;
	return i;
}

static unsigned long ext_va(u64 iova)
{
	unsigned int i = ext_map_of(iova);

	return ext_maps[i].va + (iova - ext_maps[i].iova);
}

static u8 *ext_user(u8 *memory, u64 iova)
{
	unsigned int i = ext_map_of(iova);

	return &memory[i * EXT_SIZE + (iova - ext_maps[i].iova)];
}

/* An IOMMU domain comes into the container, or goes. */
static void ext_domain_comes(void)
{
	list_add(&ext->domain.node, &ext->fm->backend.domains);
}

static void ext_domain_goes(void)
{
	list_del(&ext->domain.node);
}

/* Pin for a group, and see that the pages are the right ones, or none. */
static int ext_pin_for(struct iommu_group *group, u64 iova, int nr, int prot)
{
	struct page *page;
	int ret, i;

	for (i = 0; i < EXT_PINS; i++)
		ext->pages[i] = EXT_NO_PAGE;
	ret = external_pin(&ext->fm->backend, group, iova, nr, prot,
			   ext->pages);
	for (i = 0; i < EXT_PINS; i++) {
		page = EXT_NO_PAGE;
		if (i < ret)
			page = pfn_to_page(fake_mm_pfn(ext_va(iova + PAGES(i))));
		/* Nobody looks at them after a failure. */
		else if (i < nr && !ext->pages[i])
			page = NULL;
		if (ext->pages[i] == page)
			continue;
		fake_complain("page %d is the wrong one", i);
		break;
	}
	return ret;
}

static int ext_pin(u64 iova, int nr, int prot)
{
	return ext_pin_for(NULL, iova, nr, prot);
}

static void ext_unpin(u64 iova, int nr)
{
	external_unpin(&ext->fm->backend, iova, nr);
}

/* How many pages mappings know to be pinned. */
static unsigned long ext_known(void)
{
	unsigned long nr = 0, idx;
	unsigned int i;
	void *page;

	for (i = 0; i < EXT_MAPS; i++)
		xa_for_each(&ext->map[i]->external, idx, page)
			nr++;
	return nr;
}

/* What mappings say is charged, or would be without a domain. */
static unsigned long ext_charged(bool any_way)
{
	unsigned long nr = 0;
	unsigned int i;

	for (i = 0; i < EXT_MAPS; i++)
		nr += any_way ? ext->map[i]->nr_external : ext->map[i]->charged;
	return nr;
}

/* So many ordinary pages are pinned, and so many charged. */
static void ext_expect(struct kunit *test, unsigned long pinned,
		       unsigned long charged)
{
	KUNIT_EXPECT_EQ(test, pinned, ext_known());
	KUNIT_EXPECT_EQ(test, pinned, fake->mm.nr_pins);
	KUNIT_EXPECT_EQ(test, pinned, ext_charged(true));
	KUNIT_EXPECT_EQ(test, charged, fake->mm.locked);
	KUNIT_EXPECT_EQ(test, charged, ext_charged(false));
	KUNIT_EXPECT_FALSE(test, ext->fm->locked);
}

/* Dirty tracking begins, with all pages clean. */
static void ext_track(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < EXT_MAPS; i++) {
		dirty_free(ext->map[i]);
		KUNIT_ASSERT_EQ(test, 0, dirty_alloc(&ext->fm->backend,
						     ext->map[i]));
	}
	ext->fm->backend.dirty_tracking = true;
}

/* Dirty are the pages of @size bytes from @iova on, and no others. */
static void ext_expect_dirty(struct kunit *test, u64 iova, u64 size)
{
	unsigned int i, k;
	u64 page;

	for (i = 0; i < EXT_MAPS; i++)
		for (k = 0; k < EXT_PAGES; k++) {
			page = ext_maps[i].iova + PAGES(k);
			KUNIT_EXPECT_EQ_MSG(test, size && page <= iova + size - 1 &&
					    page + PAGE_SIZE - 1 >= iova,
					    test_bit(k, ext->map[i]->dirty),
					    "page %u of mapping %u", k, i);
		}
}

/* ---- pins ---- */

static const struct pin_case {
	const char *desc;
	u64 iova;
	int nr;
	int prot;
	int ret;
} pins[] = {
	{ "a page", IOVA(3), 1, RW, 1 },
	{ "the first page", IOVA(0), 1, RW, 1 },
	{ "the last page of a mapping", IOVA(15), 1, RW, 1 },
	{ "a whole mapping", IOVA(0), 16, RW, 16 },
	{ "across mappings", IOVA(15), 2, RW, 2 },
	{ "all of three mappings", IOVA(0), 48, IOMMU_READ, 48 },
	{ "the last page of 64 bits", -PAGES(1), 1, RW, 1 },
	{ "the last mapping", -PAGES(16), 16, RW, 16 },
	{ "beyond 64 bits", -PAGES(1), 2, RW, -COMPAT_EWRAP },
	{ "no access", IOVA(64), 1, 0, 1 },
	{ "read of read-write", IOVA(0), 1, IOMMU_READ, 1 },
	{ "read of read-only", IOVA(32), 16, IOMMU_READ, 16 },
	{ "write of read-only", IOVA(32), 1, IOMMU_WRITE, -EPERM },
	{ "read and write of read-only", IOVA(32), 1, RW, -EPERM },
	{ "write of write-only", IOVA(64), 16, IOMMU_WRITE, 16 },
	{ "read of write-only", IOVA(64), 1, IOMMU_READ, -EPERM },
	{ "into what is read-only", IOVA(30), 3, RW, -EPERM },
	{ "in front of all", IOVA(-1), 1, RW, -EINVAL },
	{ "from in front of all", IOVA(-1), 2, RW, -EINVAL },
	{ "a hole", IOVA(48), 16, IOMMU_READ, -EINVAL },
	{ "into a hole", IOVA(40), 9, IOMMU_READ, -EINVAL },
	{ "out of a hole", IOVA(63), 2, IOMMU_WRITE, -EINVAL },
	{ "more than there is", IOVA(0), EXT_PINS, IOMMU_READ, -EINVAL },
	{ "no pages", IOVA(0), 0, RW, -EINVAL },
	{ "less than none", IOVA(0), -1, RW, -EINVAL },
	{ "the least number", IOVA(0), INT_MIN, RW, -EINVAL },
};

static void pin_desc(const struct pin_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(pin, pins, pin_desc);

/* Each page is pinned and charged once, however often it is asked for. */
static void ext_pins(struct kunit *test)
{
	const struct pin_case *c = test->param_value;
	unsigned int nr = max(c->ret, 0), i;

	for (i = 1; i <= 3; i++) {
		KUNIT_EXPECT_EQ(test, c->ret, ext_pin(c->iova, c->nr, c->prot));
		ext_expect(test, nr, nr);
	}
	if (c->ret <= 0)
		return;
	KUNIT_EXPECT_EQ(test, c->iova, ext->fm->lock_from);
	KUNIT_EXPECT_EQ(test, c->iova + PAGES(c->nr) - 1, ext->fm->lock_last);
	KUNIT_EXPECT_TRUE(test, ext->fm->lock_device);
	for (i = 1; i <= 3; i++) {
		ext_expect(test, nr, nr);
		ext_unpin(c->iova, c->nr);
	}
	ext_expect(test, 0, 0);
}

/* With a domain in the container, what is mapped is charged already. */
static void ext_pins_beside_domain(struct kunit *test)
{
	const struct pin_case *c = test->param_value;
	unsigned int nr = max(c->ret, 0);

	ext_domain_comes();
	fake->mm.limit = 0;
	KUNIT_EXPECT_EQ(test, c->ret, ext_pin(c->iova, c->nr, c->prot));
	ext_expect(test, nr, 0);
	ext_unpin(c->iova, c->nr);
	ext_expect(test, 0, 0);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.account_calls);
}

/* Addresses are those of pages, whatever their last bits are. */
static const struct within_case {
	const char *desc;
	u64 iova;
	unsigned int page;
} withins[] = {
	{ "the second byte", IOVA(0) + 1, 0 },
	{ "the last byte", IOVA(4) - 1, 3 },
	{ "the last page under a PMD", IOVA(7) + 100, 7 },
	{ "the last byte of a mapping", IOVA(16) - 1, 15 },
};

static void within_desc(const struct within_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(within, withins, within_desc);

static void ext_within_page(struct kunit *test)
{
	const struct within_case *c = test->param_value;

	ext_track(test);
	KUNIT_EXPECT_EQ(test, 1, ext_pin(c->iova, 1, RW));
	ext_expect(test, 1, 1);
	ext_expect_dirty(test, IOVA(c->page), 1);
	/* It is the same page at another offset, too. */
	KUNIT_EXPECT_EQ(test, 1, ext_pin(IOVA(c->page), 1, RW));
	ext_expect(test, 1, 1);
	ext_unpin(c->iova, 1);
	ext_expect(test, 1, 1);
	ext_unpin(c->iova, 1);
	ext_expect(test, 0, 0);
}

/* A kernel thread pins for a device as well. */
static void ext_pin_by_kthread(struct kunit *test)
{
	fake_mm_leave();
	KUNIT_EXPECT_EQ(test, 3, ext_pin(IOVA(14), 3, RW));
	ext_expect(test, 3, 3);
	ext_unpin(IOVA(14), 3);
	ext_expect(test, 0, 0);
	fake_mm_enter();
}

/* ---- memory of any kind ---- */

static const struct kind_case {
	const char *desc;
	unsigned int map;
	unsigned int flags;
	unsigned int order;
	int ret;
	unsigned long held;
	unsigned long charged;
} kinds[] = {
	{ "ordinary", EXT_RW, 0, 0, 2, 2, 2 },
	{ "not there yet", EXT_RW, FAKE_COLD, 0, 2, 2, 2 },
	{ "large folios", EXT_RW, 0, PMD_FOLIO, 2, 2, 2 },
	{ "with the mmap lock only", EXT_RW, FAKE_SLOW, 0, 2, 2, 2 },
	{ "read-only, mapped to be written", EXT_RW, FAKE_RO, 0, -EFAULT },
	{ "the zero page", EXT_RO, FAKE_ZERO, 0, 2, 0, 0 },
	{ "reserved", EXT_RW, FAKE_RESERVED, 0, 2, 2, 0 },
	{ "of a device, reserved", EXT_RW, FAKE_PFNMAP_PAGES | FAKE_RESERVED,
	  0, 2, 0, 0 },
	{ "of a device, not reserved", EXT_RW, FAKE_PFNMAP_PAGES, 0, -EFAULT },
	{ "of a device, without pages", EXT_RW, FAKE_PFNMAP, 0, -EINVAL },
};

static void kind_desc(const struct kind_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(kind, kinds, kind_desc);

static void ext_kinds(struct kunit *test)
{
	const struct kind_case *c = test->param_value;
	u64 iova = ext_maps[c->map].iova + PAGES(2);
	struct dma_map *map = ext->map[c->map];
	unsigned int i;

	ext_memory(c->map, c->flags, c->order);
	fake->mm.limit = c->charged;
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, c->ret, ext_pin(iova, 2, IOMMU_READ));
		KUNIT_EXPECT_EQ(test, max(c->ret, 0), (int)ext_known());
		KUNIT_EXPECT_EQ(test, c->held, fake->mm.nr_pins);
		KUNIT_EXPECT_EQ(test, c->charged, fake->mm.locked);
		KUNIT_EXPECT_EQ(test, c->charged, map->charged);
		KUNIT_EXPECT_EQ(test, c->charged, map->nr_external);
		KUNIT_EXPECT_EQ(test, c->charged,
				external_charged(map, 0, EXT_PAGES));
	}
	ext_unpin(iova, 2);
	ext_unpin(iova, 2);
	/* A device may have written to all that it could. */
	KUNIT_EXPECT_EQ(test, map->prot & IOMMU_WRITE ? c->held : 0,
			fake->mm.dirtied);
	ext_expect(test, 0, 0);
}

/* ---- limits ---- */

static const struct limit_case {
	const char *desc;
	unsigned long limit;
	int before;		/* pages, from the last one of the ten back */
	bool cap;
	int ret;
} limits[] = {
	{ "just fits", 10, 0, false, 10 },
	{ "one page short", 9, 0, false, -ENOMEM },
	{ "nothing left", 0, 0, false, -ENOMEM },
	{ "some are pinned, the rest fits", 10, 4, false, 10 },
	{ "some are pinned, one page short", 9, 4, false, -ENOMEM },
	{ "some are pinned, nothing left", 4, 4, false, -ENOMEM },
	{ "all are pinned, nothing left", 10, 10, false, 10 },
	{ "all are pinned, over the limit", 0, 10, false, 10 },
	{ "with the capability", 0, 0, true, 10 },
	{ "some are pinned, with the capability", 0, 4, true, 10 },
};

static void limit_desc(const struct limit_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(limit, limits, limit_desc);

/* Of one mapping and the next. Exactly what is not charged yet must fit. */
static void ext_limits(struct kunit *test)
{
	const struct limit_case *c = test->param_value;
	u64 iova = IOVA(11), before = iova + PAGES(10 - c->before);
	unsigned int nr = c->ret < 0 ? c->before : 10;

	ext->map[EXT_RW]->owner.cap = c->cap;
	ext->map[EXT_NEXT]->owner.cap = c->cap;
	if (c->before)
		KUNIT_EXPECT_EQ(test, c->before, ext_pin(before, c->before, RW));
	fake->mm.limit = c->limit;
	KUNIT_EXPECT_EQ(test, c->ret, ext_pin(iova, 10, RW));
	ext_expect(test, nr, nr);
	if (c->ret > 0)
		ext_unpin(iova, 10);
	ext_expect(test, c->before, c->before);
	ext_unpin(before, c->before);
	ext_expect(test, 0, 0);
}

/* ---- what fails in the middle ---- */

#define FAIL_IOVA	IOVA(11)
#define FAIL_NR		10

/* All that a call pins but what was pinned before is undone. */
static void ext_fail_expect(struct kunit *test, int ret, int got)
{
	KUNIT_EXPECT_EQ(test, ret, got);
	ext_expect(test, ret < 0 ? 2 : FAIL_NR, ret < 0 ? 2 : FAIL_NR);
	if (got == FAIL_NR)
		ext_unpin(FAIL_IOVA, FAIL_NR);
	ext_expect(test, 2, 2);
}

static void ext_fails_at_each_page(struct kunit *test)
{
	int i;

	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(15), 2, RW));
	fake->mm.fail_error = -EHWPOISON;
	for (i = 0; i < FAIL_NR; i++) {
		bool before = i == 4 || i == 5;

		fake->mm.fail_va = ext_va(FAIL_IOVA + PAGES(i));
		ext_fail_expect(test, before ? FAIL_NR : -EHWPOISON,
				ext_pin(FAIL_IOVA, FAIL_NR, RW));
	}
	ext_unpin(IOVA(15), 2);
	ext_expect(test, 0, 0);
}

static void ext_fails_at_each_allocation(struct kunit *test)
{
	int ret, i;

	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(15), 2, RW));
	/* Two for each page: what is known of it, and its place there */
	for (i = 0; i <= 2 * (FAIL_NR - 2); i++) {
		atomic_set(&fake->alloc_fail, i);
		ret = ext_pin(FAIL_IOVA, FAIL_NR, RW);
		atomic_set(&fake->alloc_fail, -1);
		ext_fail_expect(test, i < 2 * (FAIL_NR - 2) ? -ENOMEM : FAIL_NR,
				ret);
	}
	ext_unpin(IOVA(15), 2);
	ext_expect(test, 0, 0);
}

/* A signal comes when something is to be charged. */
static void ext_fails_when_killed(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(15), 2, RW));
	fake->killed = true;
	KUNIT_EXPECT_EQ(test, -EINTR, ext_pin(FAIL_IOVA, FAIL_NR, RW));
	KUNIT_EXPECT_EQ(test, -EINTR, ext_pin(IOVA(15), 3, RW));
	ext_expect(test, 2, 2);
	/* What costs nothing, and what is given back, waits for no lock. */
	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(15), 2, RW));
	ext_unpin(IOVA(15), 2);
	ext_unpin(IOVA(15), 2);
	ext_expect(test, 0, 0);
}

/* ---- states ---- */

enum ext_state {
	STATE_PLAIN,
	STATE_V1,
	STATE_VADDR_INVALID,
	STATE_NO_DEVICE,
	STATE_KILLED,
	STATE_MAPPING,
	STATE_UNMAPPING,
	STATE_GONE,
};

static const struct state_case {
	const char *desc;
	enum ext_state state;
	int pin;		/* of a page that is pinned already, and another */
	int again;		/* of what is pinned already */
	int rw;
} states[] = {
	{ "ready", STATE_PLAIN, 2, 2, 0 },
	{ "the first version", STATE_V1, -EACCES, -EACCES, 0 },
	{ "user addresses given up", STATE_VADDR_INVALID, -EBUSY, -EBUSY,
	  -EBUSY },
	{ "nobody to be told", STATE_NO_DEVICE, -EINVAL, -EINVAL, 0 },
	{ "killed while it waits", STATE_KILLED, -EINTR, -EINTR, -EINTR },
	{ "being mapped", STATE_MAPPING, -EINVAL, -EINVAL, -EINVAL },
	{ "being unmapped", STATE_UNMAPPING, -EINVAL, -EINVAL, -EINVAL },
	{ "the process is gone", STATE_GONE, -ENODEV, 2, -EPERM },
};

static void state_desc(const struct state_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(state, states, state_desc);

static void ext_state_set(enum ext_state state)
{
	struct backend *backend = &ext->fm->backend;

	backend->v2 = state != STATE_V1;
	backend->vaddr_invalid = state == STATE_VADDR_INVALID;
	if (state == STATE_NO_DEVICE)
		external_unregister(backend, &ext->device[0].device);
	ext->fm->lock_error = state == STATE_KILLED ? -EINTR : 0;
	ext->map[EXT_RW]->state = state == STATE_MAPPING ? DMA_MAP_MAPPING :
				  state == STATE_UNMAPPING ? DMA_MAP_UNMAPPING :
							     DMA_MAP_LIVE;
	/* The charge goes with the address space. */
	if (state == STATE_GONE) {
		atomic_set(&fake->mm.mm->mm_users, 0);
		fake->mm.locked = 0;
	}
}

static void ext_states(struct kunit *test)
{
	const struct state_case *c = test->param_value;
	struct backend *backend = &ext->fm->backend;
	unsigned int nr = max(c->pin, 0);

	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(0), 2, RW));
	ext_state_set(c->state);
	KUNIT_EXPECT_EQ(test, c->pin, ext_pin(IOVA(1), 2, RW));
	KUNIT_EXPECT_EQ(test, nr ? 3UL : 2UL, fake->mm.nr_pins);
	KUNIT_EXPECT_EQ(test, c->again, ext_pin(IOVA(0), 2, RW));
	KUNIT_EXPECT_EQ(test, c->rw, external_rw(backend, IOVA(0), ext->data,
						 100, false));
	KUNIT_EXPECT_EQ(test, c->rw, external_rw(backend, IOVA(0), ext->data,
						 100, true));
	/* What was pinned can be unpinned, all the same. */
	ext_unpin(IOVA(0), 2);
	if (c->again > 0)
		ext_unpin(IOVA(0), 2);
	if (c->state == STATE_V1) {
		KUNIT_EXPECT_EQ(test, 2UL, fake->mm.nr_pins);
		KUNIT_EXPECT_EQ(test, 1, atomic_read(&fake->warnings));
		atomic_set(&fake->warnings, 0);
		ext_state_set(STATE_PLAIN);
		ext_unpin(IOVA(0), 2);
	}
	ext_unpin(IOVA(1), nr);
	ext_expect(test, 0, 0);
	/* What stands for it is still there. */
	if (c->state == STATE_GONE)
		atomic_set(&fake->mm.mm->mm_users, 1);
}

static void ext_no_room_for_pages(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, -EINVAL, external_pin(&ext->fm->backend, NULL,
						    IOVA(0), 1, RW, NULL));
	ext_expect(test, 0, 0);
}

/* ---- groups ---- */

/* A group is trusted once it has pinned something, and not before. */
static void ext_groups(struct kunit *test)
{
	struct backend_group group[2] = { };
	struct backend *backend = &ext->fm->backend;
	struct iommu_group *id[2];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		id[i] = (struct iommu_group *)&group[i];
		group[i].group = id[i];
	}
	/* One behind the IOMMU, one without */
	list_add(&group[0].node, &ext->domain.groups);
	list_add(&group[1].node, &backend->emulated);
	ext_domain_comes();
	backend->non_pinning = 2;

	KUNIT_EXPECT_EQ(test, -EINVAL, ext_pin_for(id[0], IOVA(48), 1, RW));
	KUNIT_EXPECT_EQ(test, -EPERM, ext_pin_for(id[0], IOVA(31), 2, RW));
	KUNIT_EXPECT_FALSE(test, group[0].pinning);
	KUNIT_EXPECT_EQ(test, 2ULL, backend->non_pinning);
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_EQ(test, 1, ext_pin_for(id[0], IOVA(i), 1, RW));
		KUNIT_EXPECT_TRUE(test, group[0].pinning);
		KUNIT_EXPECT_FALSE(test, group[1].pinning);
		KUNIT_EXPECT_EQ(test, 1ULL, backend->non_pinning);
	}
	/* One that has no IOMMU, and one that is not known */
	KUNIT_EXPECT_EQ(test, 1, ext_pin_for(NULL, IOVA(0), 1, RW));
	KUNIT_EXPECT_EQ(test, 1ULL, backend->non_pinning);
	KUNIT_EXPECT_EQ(test, 1, ext_pin_for(id[1], IOVA(0), 1, RW));
	KUNIT_EXPECT_TRUE(test, group[1].pinning);
	KUNIT_EXPECT_EQ(test, 0ULL, backend->non_pinning);
	ext_expect(test, 2, 0);
	for (i = 0; i < 3; i++)
		ext_unpin(IOVA(0), 2);
	ext_expect(test, 0, 0);
}

/* ---- unpins ---- */

static const struct unpin_case {
	const char *desc;
	u64 iova;
	int nr;
	u64 left;		/* pages that stay pinned */
} unpins[] = {
	/* Pinned are 4 to 7, and 6 twice. */
	{ "all, once", IOVA(4), 4, BIT(6) },
	{ "one page", IOVA(5), 1, BIT(4) | BIT(6) | BIT(7) },
	{ "what is pinned twice", IOVA(6), 1, 0xf0 },
	{ "what is not pinned", IOVA(8), 4, 0xf0 },
	{ "more than is pinned", IOVA(0), 16, BIT(6) },
	{ "from in front of all", IOVA(-3), 8, 0xe0 },
	{ "across mappings and holes", IOVA(5), 80, BIT(4) | BIT(6) },
	{ "a hole", IOVA(48), 16, 0xf0 },
	{ "another mapping", IOVA(16 + 4), 4, 0xf0 },
	{ "no pages", IOVA(4), 0, 0xf0 },
	{ "less than none", IOVA(4), -1, 0xf0 },
	{ "the last byte of a page", IOVA(6) - 1, 1, 0xd0 },
};

static void unpin_desc(const struct unpin_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(unpin, unpins, unpin_desc);

static void ext_unpins(struct kunit *test)
{
	const struct unpin_case *c = test->param_value;
	unsigned long nr = hweight64(c->left);
	unsigned int i;

	KUNIT_EXPECT_EQ(test, 4, ext_pin(IOVA(4), 4, RW));
	KUNIT_EXPECT_EQ(test, 1, ext_pin(IOVA(6), 1, RW));
	ext_unpin(c->iova, c->nr);
	ext_expect(test, nr, nr);
	for (i = 0; i < EXT_PAGES; i++)
		KUNIT_EXPECT_EQ(test, c->left >> i & 1,
				(u64)fake_mm_pins(fake_mm_pfn(ext_va(IOVA(i)))));
	ext_unpin(IOVA(0), 16);
	ext_unpin(IOVA(0), 16);
	ext_expect(test, 0, 0);
}

/* ---- charges ---- */

/* How many pages of a part of a mapping are charged already. */
static void ext_charged_part(struct kunit *test)
{
	static const struct {
		unsigned int from;
		unsigned int nr;
		unsigned long charged;
	} parts[] = {
		{ 0, 16, 3 }, { 0, 2, 0 }, { 0, 3, 1 }, { 2, 1, 1 }, { 2, 2, 2 },
		{ 3, 2, 1 }, { 4, 1, 0 }, { 4, 12, 1 }, { 15, 1, 1 },
		{ 5, 10, 0 },
	};
	unsigned int i;

	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(2), 2, RW));
	/* This one and one of the next mapping */
	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(15), 2, RW));
	for (i = 0; i < ARRAY_SIZE(parts); i++)
		KUNIT_EXPECT_EQ_MSG(test, parts[i].charged,
				    external_charged(ext->map[EXT_RW],
						     PAGES(parts[i].from),
						     parts[i].nr),
				    "pages %u + %u", parts[i].from, parts[i].nr);
	ext_unpin(IOVA(2), 2);
	ext_unpin(IOVA(15), 2);
}

/* What was charged for a device is the mapping's once it is pinned as a whole. */
static void ext_charged_before_domain(struct kunit *test)
{
	struct dma_map *map = ext->map[EXT_RW];

	KUNIT_EXPECT_EQ(test, 3, ext_pin(IOVA(4), 3, RW));
	ext_domain_comes();
	KUNIT_EXPECT_EQ(test, 4, ext_pin(IOVA(5), 4, RW));
	ext_expect(test, 5, 3);
	ext_unpin(IOVA(4), 3);
	ext_unpin(IOVA(5), 4);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_pins);
	KUNIT_EXPECT_EQ(test, 0UL, map->nr_external);
	KUNIT_EXPECT_EQ(test, 3UL, map->charged);
	lockvm_uncharge(&map->owner, map->charged);
	map->charged = 0;
	ext_domain_goes();
}

/* And once the last domain is gone, it is the device that it is charged for. */
static void ext_charged_after_domain(struct kunit *test)
{
	struct dma_map *map = ext->map[EXT_RW];

	ext_domain_comes();
	KUNIT_EXPECT_EQ(test, 3, ext_pin(IOVA(4), 3, RW));
	ext_expect(test, 3, 0);
	ext_domain_goes();
	lockvm_charge_anyway(&map->owner, map->nr_external);
	map->charged = map->nr_external;
	KUNIT_EXPECT_EQ(test, 4, ext_pin(IOVA(5), 4, RW));
	ext_expect(test, 5, 5);
	ext_unpin(IOVA(4), 3);
	ext_unpin(IOVA(5), 4);
	ext_expect(test, 0, 0);
}

/* ---- dirty pages ---- */

static void ext_dirty(struct kunit *test)
{
	struct backend *backend = &ext->fm->backend;
	unsigned int i;

	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(15), 2, RW));
	ext_track(test);
	/* What is pinned already is marked when tracking begins, not now. */
	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(15), 2, RW));
	ext_expect_dirty(test, 0, 0);
	KUNIT_EXPECT_EQ(test, 4, ext_pin(IOVA(14), 4, RW));
	for (i = 0; i < EXT_MAPS; i++)
		KUNIT_EXPECT_EQ(test, i == EXT_RW || i == EXT_NEXT ? 1 : 0,
				bitmap_weight(ext->map[i]->dirty, EXT_PAGES));
	KUNIT_EXPECT_TRUE(test, test_bit(14, ext->map[EXT_RW]->dirty));
	KUNIT_EXPECT_TRUE(test, test_bit(1, ext->map[EXT_NEXT]->dirty));

	/* Unpinned pages stay dirty; pinned ones are made so again. */
	ext_unpin(IOVA(15), 2);
	ext_unpin(IOVA(14), 1);
	KUNIT_EXPECT_TRUE(test, test_bit(14, ext->map[EXT_RW]->dirty));
	ext_track(test);
	down_write(&backend->domain_sem);
	for (i = 0; i < EXT_MAPS; i++)
		external_mark_dirty(backend, ext->map[i]);
	up_write(&backend->domain_sem);
	ext_expect_dirty(test, IOVA(15), PAGES(3));
	ext_unpin(IOVA(15), 3);
	ext_unpin(IOVA(15), 2);
	ext_expect(test, 0, 0);
}

/* ---- reads and writes ---- */

static const struct rw_case {
	const char *desc;
	u64 iova;
	size_t count;
	size_t done;		/* by a read */
	int read;
	size_t written;
	int write;
} rws[] = {
	{ "a byte", IOVA(3) + 7, 1, 1, 0, 1, 0 },
	{ "a page", IOVA(3), SZ_4K, SZ_4K, 0, SZ_4K, 0 },
	{ "the last byte of a page", IOVA(4) - 1, 1, 1, 0, 1, 0 },
	{ "across pages", IOVA(4) - 33, 100, 100, 0, 100, 0 },
	{ "two bytes across mappings", IOVA(16) - 1, 2, 2, 0, 2, 0 },
	{ "a mapping", IOVA(0), EXT_SIZE, EXT_SIZE, 0, EXT_SIZE, 0 },
	{ "a mapping and a half", IOVA(0) + 5, PAGES(24), PAGES(24), 0,
	  PAGES(24), 0 },
	{ "the end of 64 bits", -PAGES(2) + 9, PAGES(2) - 9, PAGES(2) - 9, 0,
	  PAGES(2) - 9, 0 },
	{ "beyond 64 bits", -10ULL, 20, 10, -EINVAL, 10, -EINVAL },
	{ "nothing", IOVA(3), 0, 0, 0, 0, 0 },
	{ "nothing, of nothing", IOVA(48), 0, 0, 0, 0, 0 },
	{ "read-only", IOVA(32) + 1, 5000, 5000, 0, 0, -EPERM },
	{ "into what is read-only", IOVA(32) - 30, 100, 100, 0, 30, -EPERM },
	{ "write-only", IOVA(64), 100, 0, -EPERM, 0, -EPERM },
	{ "in front of all", IOVA(0) - 1, 2, 0, -EINVAL, 0, -EINVAL },
	{ "a hole", IOVA(50), 100, 0, -EINVAL, 0, -EINVAL },
	{ "into a hole", IOVA(48) - 9, 10, 9, -EINVAL, 0, -EPERM },
	{ "out of a hole", IOVA(64) - 1, 2, 0, -EINVAL, 0, -EINVAL },
	{ "everything up to a hole", IOVA(0), PAGES(49), PAGES(48), -EINVAL,
	  PAGES(32), -EPERM },
};

static void rw_desc(const struct rw_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(rw, rws, rw_desc);

static int ext_rw(u64 iova, size_t count, bool write)
{
	return external_rw(&ext->fm->backend, iova, ext->data, count, write);
}

/* Read. The first @done bytes are right, and the others as before. */
static void ext_expect_read(struct kunit *test, u64 iova, size_t count,
			    size_t done, int ret)
{
	memset(ext->data, 0xee, sizeof(ext->data));
	KUNIT_EXPECT_EQ(test, ret, ext_rw(iova, count, false));
	KUNIT_EXPECT_EQ(test, 0, memcmp(ext->data, ext_user(ext->user, iova),
					done));
	KUNIT_EXPECT_NULL(test, memchr_inv(ext->data + done, 0xee,
					   sizeof(ext->data) - done));
}

/* Write. The first @done bytes arrive, and nothing else changes. */
static void ext_expect_write(struct kunit *test, u64 iova, size_t count,
			     size_t done, int ret)
{
	size_t i;

	for (i = 0; i < count; i++)
		ext->data[i] = ~(i * 5 + (i >> 8));
	memcpy(ext->expected, ext->user, sizeof(ext->user));
	memcpy(ext_user(ext->expected, iova), ext->data, done);
	KUNIT_EXPECT_EQ(test, ret, ext_rw(iova, count, true));
	KUNIT_EXPECT_EQ(test, 0, memcmp(ext->user, ext->expected,
					sizeof(ext->user)));
}

static void ext_rws(struct kunit *test)
{
	const struct rw_case *c = test->param_value;
	bool kthread;

	for (kthread = false;; kthread = true) {
		ext_track(test);
		ext_expect_read(test, c->iova, c->count, c->done, c->read);
		ext_expect_dirty(test, 0, 0);
		KUNIT_EXPECT_EQ(test, c->iova, ext->fm->lock_from);
		KUNIT_EXPECT_EQ(test, c->iova + c->count - 1,
				ext->fm->lock_last);
		KUNIT_EXPECT_TRUE(test, ext->fm->lock_device);
		ext_expect_write(test, c->iova, c->count, c->written, c->write);
		ext_expect_dirty(test, c->iova, c->written);
		if (kthread)
			break;
		/* Another one has no memory of its own. */
		fake_mm_leave();
	}
	fake_mm_enter();
	/* Nothing is pinned for it. */
	ext_expect(test, 0, 0);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.gup_calls);
}

static const struct fault_case {
	const char *desc;
	u64 fault;
	u64 iova;
	size_t count;
	size_t done;
} faults[] = {
	{ "the first byte", IOVA(3), IOVA(3), 100, 0 },
	{ "the second page", IOVA(4), IOVA(3), PAGES(2), PAGES(1) },
	{ "the last byte", IOVA(4) - 1, IOVA(3), PAGES(1), PAGES(1) - 1 },
	{ "the second mapping", IOVA(16), IOVA(15), PAGES(2), PAGES(1) },
};

static void fault_desc(const struct fault_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(fault, faults, fault_desc);

/* The user's memory is not there. */
static void ext_rw_faults(struct kunit *test)
{
	const struct fault_case *c = test->param_value;

	ext->fault = ext_va(c->fault);
	ext_expect_read(test, c->iova, c->count, c->done, -EFAULT);
	ext_expect_write(test, c->iova, c->count, c->done, -EFAULT);
	/* And it is there again. */
	ext->fault = 0;
	ext_expect_read(test, c->iova, c->count, c->count, 0);
	ext_expect_write(test, c->iova, c->count, c->count, 0);
}

/* Another process has memory, but not this. */
static void ext_rw_by_stranger(struct kunit *test)
{
	ext->stranger = kunit_kzalloc(test, sizeof(*ext->stranger), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ext->stranger);
	ext->stranger->mm = (struct mm_struct *)ext->stranger;
	ext_track(test);
	ext_expect_read(test, IOVA(3), 100, 0, -EFAULT);
	ext_expect_write(test, IOVA(3), 100, 0, -EFAULT);
	ext_expect_dirty(test, 0, 0);
}

/* ---- what devices are told ---- */

/* What the devices were told since the last time, in which order */
static void ext_expect_told(struct kunit *test, unsigned int first,
			    unsigned int second, unsigned int third)
{
	unsigned int turn[EXT_DEVICES] = { first, second, third }, i;

	for (i = 0; i < EXT_DEVICES; i++) {
		struct ext_device *d = &ext->device[i];

		KUNIT_EXPECT_EQ(test, turn[i] ? 1U : 0U, d->calls);
		KUNIT_EXPECT_EQ(test, turn[i], d->turn);
		KUNIT_EXPECT_EQ(test, turn[i] ? IOVA(16) : 0ULL, d->iova);
		KUNIT_EXPECT_EQ(test, turn[i] ? EXT_SIZE : 0, d->size);
		d->calls = 0;
		d->turn = 0;
		d->iova = 0;
		d->size = 0;
	}
	ext->turns = 0;
}

/* Who came last is told first; who has nothing to say is not asked. */
static void ext_told(struct kunit *test)
{
	struct backend *backend = &ext->fm->backend;
	struct vfio_device *device[EXT_DEVICES];
	unsigned int i;

	for (i = 0; i < EXT_DEVICES; i++)
		device[i] = &ext->device[i].device;
	device[1]->ops = &ext_plain_ops;
	external_register(backend, device[1]);
	external_register(backend, device[2]);
	external_notify_unmap(backend, IOVA(16), EXT_SIZE);
	ext_expect_told(test, 2, 0, 1);
	/* Nor does it matter that such a one goes. */
	external_unregister(backend, device[1]);
	external_unregister(backend, device[2]);
	external_notify_unmap(backend, IOVA(16), EXT_SIZE);
	ext_expect_told(test, 1, 0, 0);

	/* It does not count as one that could unpin. */
	external_register(backend, device[1]);
	external_unregister(backend, device[0]);
	external_notify_unmap(backend, IOVA(16), EXT_SIZE);
	ext_expect_told(test, 0, 0, 0);
	KUNIT_EXPECT_EQ(test, -EINVAL, ext_pin(IOVA(0), 1, RW));
	external_unregister(backend, device[1]);

	/* It comes again. */
	external_register(backend, device[0]);
	external_notify_unmap(backend, IOVA(16), EXT_SIZE);
	ext_expect_told(test, 1, 0, 0);
}

/* Devices unpin what they are told will go, while it is being unmapped. */
static void ext_told_and_unpinned(struct kunit *test)
{
	struct backend *backend = &ext->fm->backend;

	external_register(backend, &ext->device[1].device);
	KUNIT_EXPECT_EQ(test, 8, ext_pin(IOVA(12), 8, RW));
	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(16), 2, RW));
	ext->map[EXT_NEXT]->state = DMA_MAP_UNMAPPING;
	ext->device[0].unpin = 4;
	ext->device[1].unpin = 2;
	external_notify_unmap(backend, IOVA(16), EXT_SIZE);
	ext_expect_told(test, 2, 1, 0);
	KUNIT_EXPECT_TRUE(test, xa_empty(&ext->map[EXT_NEXT]->external));
	ext_expect(test, 4, 4);
	KUNIT_EXPECT_EQ(test, -EINVAL, ext_pin(IOVA(16), 1, RW));
	ext_unpin(IOVA(12), 4);
	ext_expect(test, 0, 0);
}

static const struct lock_case {
	const char *desc;
	bool leaves;
	bool device_lock;
} locks[] = {
	{ "a device comes, devices are being told", false, true },
	{ "a device comes, the container is locked", false, false },
	{ "a device goes, devices are being told", true, true },
	{ "a device goes, the container is locked", true, false },
};

static void lock_desc(const struct lock_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(lock, locks, lock_desc);

static void ext_come_or_go(void *arg)
{
	const struct lock_case *c = arg;

	if (c->leaves)
		external_unregister(&ext->fm->backend, &ext->device[0].device);
	else
		external_register(&ext->fm->backend, &ext->device[1].device);
}

/* The list of devices changes with both locks held. */
static void ext_device_locks(struct kunit *test)
{
	const struct lock_case *c = test->param_value;
	struct backend *backend = &ext->fm->backend;
	struct list_head *first = &ext->device[0].device.iommu_entry;
	struct mutex *lock = c->device_lock ? &backend->device_lock :
					      &backend->lock;
	struct fake_thread thread;

	mutex_lock(lock);
	fake_thread_start(&thread, ext_come_or_go, (void *)c);
	/* It waits for the lock, or is done without. */
	KUNIT_EXPECT_TRUE(test,
			  fake_wait_until(READ_ONCE(thread.task->__state) ==
					  TASK_UNINTERRUPTIBLE ||
					  completion_done(&thread.done)));
	KUNIT_EXPECT_PTR_EQ(test, first, backend->devices.next);
	KUNIT_EXPECT_PTR_EQ(test, first, backend->devices.prev);
	mutex_unlock(lock);
	fake_thread_join(&thread);
	KUNIT_EXPECT_EQ(test, c->leaves, list_empty(&backend->devices));
	KUNIT_EXPECT_EQ(test, !c->leaves,
			backend->devices.next != backend->devices.prev);
}

/* ---- the end ---- */

/* What devices have not unpinned goes with the mapping, which pays for it. */
static void ext_dropped(struct kunit *test)
{
	struct backend *backend = &ext->fm->backend;
	struct dma_map *map = ext->map[EXT_RW];
	unsigned int i;

	KUNIT_EXPECT_EQ(test, 3, ext_pin(IOVA(2), 3, RW));
	KUNIT_EXPECT_EQ(test, 2, ext_pin(IOVA(2), 2, RW));
	KUNIT_EXPECT_EQ(test, 1, ext_pin(IOVA(15), 1, RW));
	down_write(&backend->domain_sem);
	external_drop_all(map);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&fake->warnings));
	atomic_set(&fake->warnings, 0);
	/* Nothing is left to be complained about. */
	for (i = 0; i < EXT_MAPS; i++)
		external_drop_all(ext->map[i]);
	up_write(&backend->domain_sem);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.nr_pins);
	KUNIT_EXPECT_EQ(test, 4UL, fake->mm.dirtied);
	KUNIT_EXPECT_EQ(test, 0UL, map->nr_external);
	KUNIT_EXPECT_EQ(test, 4UL, map->charged);
	KUNIT_EXPECT_EQ(test, 4UL, fake->mm.locked);
	lockvm_uncharge(&map->owner, map->charged);
	map->charged = 0;
}

static struct kunit_case ext_cases[] = {
	KUNIT_CASE_PARAM(ext_pins, pin_gen_params),
	KUNIT_CASE_PARAM(ext_pins_beside_domain, pin_gen_params),
	KUNIT_CASE_PARAM(ext_within_page, within_gen_params),
	KUNIT_CASE(ext_pin_by_kthread),
	KUNIT_CASE_PARAM(ext_kinds, kind_gen_params),
	KUNIT_CASE_PARAM(ext_limits, limit_gen_params),
	KUNIT_CASE(ext_fails_at_each_page),
	KUNIT_CASE(ext_fails_at_each_allocation),
	KUNIT_CASE(ext_fails_when_killed),
	KUNIT_CASE_PARAM(ext_states, state_gen_params),
	KUNIT_CASE(ext_no_room_for_pages),
	KUNIT_CASE(ext_groups),
	KUNIT_CASE_PARAM(ext_unpins, unpin_gen_params),
	KUNIT_CASE(ext_charged_part),
	KUNIT_CASE(ext_charged_before_domain),
	KUNIT_CASE(ext_charged_after_domain),
	KUNIT_CASE(ext_dirty),
	KUNIT_CASE_PARAM(ext_rws, rw_gen_params),
	KUNIT_CASE_PARAM(ext_rw_faults, fault_gen_params),
	KUNIT_CASE(ext_rw_by_stranger),
	KUNIT_CASE(ext_told),
	KUNIT_CASE(ext_told_and_unpinned),
	KUNIT_CASE_PARAM(ext_device_locks, lock_gen_params),
	KUNIT_CASE(ext_dropped),
	{ }
};

static struct kunit_suite ext_suite = {
	.name = "vfio_mt_external",
	.init = ext_init,
	.exit = ext_exit,
	.test_cases = ext_cases,
};

kunit_test_suite(ext_suite);
