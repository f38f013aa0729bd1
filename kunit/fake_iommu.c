// SPDX-License-Identifier: GPL-2.0-only
/*
 * fake_iommu.c - fake IOMMU domains
 */
#include <linux/pfn.h>
#include <linux/slab.h>

#include "../include/compat.h"
#include "fake.h"
#include "fake_iommu.h"

static const unsigned int level_shift[FAKE_LEVELS] = { 12, 21, 30 };

static struct fake_domain *to_fake(struct iommu_domain *domain)
{
	return container_of(domain, struct fake_domain, domain);
}

static unsigned long level_pages(unsigned int level)
{
	return 1UL << (level_shift[level] - PAGE_SHIFT);
}

static unsigned int level_of(size_t pgsize)
{
	unsigned int level;

	for (level = 0; level < FAKE_LEVELS - 1; level++)
		if (pgsize == 1UL << level_shift[level])
			break;
	return level;
}

static int change_by_pfn(struct fake_domain *fd, unsigned int level,
			 unsigned long pfn, long change)
{
	unsigned long key = pfn / level_pages(level);
	void *entry = xa_load(&fd->by_pfn[level], key);
	unsigned long nr = (entry ? xa_to_value(entry) : 0) + change;

	if (!nr) {
		xa_erase(&fd->by_pfn[level], key);
		return 0;
	}
	return xa_err(xa_store(&fd->by_pfn[level], key, xa_mk_value(nr),
			       GFP_KERNEL));
}

/* Is anything mapped in the page of @level at @iova? */
static bool is_mapped(struct fake_domain *fd, unsigned int level,
		      unsigned long iova)
{
	unsigned long first = iova, last = iova + (1UL << level_shift[level]) - 1;
	unsigned long key;
	unsigned int i;

	for (i = 0; i < FAKE_LEVELS; i++) {
		if (!fd->nr_pages[i])
			continue;
		key = first >> level_shift[i];
		if (xa_find(&fd->pages[i], &key, last >> level_shift[i],
			    XA_PRESENT))
			return true;
	}
	return false;
}

static int map_page(struct fake_domain *fd, unsigned int level,
		    unsigned long iova, unsigned long pfn)
{
	if (fd->fail_error &&
	    (!fd->fail_after ||
	     (fd->fail_iova & ~(BIT(level_shift[level]) - 1)) == iova))
		return fd->fail_error;
	if (fd->fail_after > 0)
		fd->fail_after--;
	if (is_mapped(fd, level, iova)) {
		fake_complain("IOVA %lx is mapped twice", iova);
		return -EADDRINUSE;
	}
	fd->nr_pages[level]++;
	return xa_err(xa_store(&fd->pages[level], iova >> level_shift[level],
			       xa_mk_value(pfn), GFP_KERNEL)) ? :
	       change_by_pfn(fd, level, pfn, 1);
}

static int fake_map_pages(struct iommu_domain *domain, unsigned long iova,
			  phys_addr_t phys, size_t pgsize, size_t count,
			  int prot, gfp_t gfp, size_t *mapped)
{
	struct fake_domain *fd = to_fake(domain);
	unsigned int level = level_of(pgsize);
	int ret = 0;

	fake_lock();
	fd->nr_maps++;
	for (; count && !ret; count--) {
		if ((iova | phys) & (pgsize - 1))
			fake_complain("IOVA %lx is not aligned", iova);
		ret = map_page(fd, level, iova, PHYS_PFN(phys));
		if (ret)
			break;
		iova += pgsize;
		phys += pgsize;
		*mapped += pgsize;
	}
	fd->whole_end = iova;
	fake_unlock();
	return ret;
}

/* Find what maps @iova. Returns its level, or -1. */
static int find_page(struct fake_domain *fd, unsigned long iova,
		     unsigned long *pfn)
{
	unsigned int level;
	void *entry;

	for (level = 0; level < FAKE_LEVELS; level++) {
		if (!fd->nr_pages[level])
			continue;
		entry = xa_load(&fd->pages[level], iova >> level_shift[level]);
		if (entry) {
			*pfn = xa_to_value(entry);
			return level;
		}
	}
	return -1;
}

/* An IOTLB may translate to these pages until it is synchronised. */
static void note_stale(struct fake_domain *fd, unsigned long pfn,
		       unsigned long nr,
		       const struct iommu_iotlb_gather *gather)
{
	struct fake_stale *last = fd->stale + fd->nr_stale - 1, *more;

	if (fd->nr_stale && last->gather == gather) {
		if (last->pfn == pfn + nr)
			last->pfn = pfn;
		if (last->pfn == pfn || last->pfn + last->nr == pfn) {
			last->nr += nr;
			return;
		}
	}
	if (fd->nr_stale == fd->max_stale) {
		more = krealloc_array(fd->stale, 2 * fd->max_stale + 8,
				      sizeof(*more), GFP_KERNEL);
		if (!more) {
			fake_complain("no memory for the test itself");
			return;
		}
		fd->stale = more;
		fd->max_stale = 2 * fd->max_stale + 8;
	}
	fd->stale[fd->nr_stale++] = (struct fake_stale){ gather, pfn, nr };
}

static void unmap_page(struct fake_domain *fd, unsigned int level,
		       unsigned long iova, unsigned long pfn,
		       const struct iommu_iotlb_gather *gather)
{
	xa_erase(&fd->pages[level], iova >> level_shift[level]);
	change_by_pfn(fd, level, pfn, -1);
	fd->nr_pages[level]--;
	note_stale(fd, pfn, level_pages(level), gather);
}

static size_t fake_unmap_pages(struct iommu_domain *domain, unsigned long iova,
			       size_t pgsize, size_t count,
			       struct iommu_iotlb_gather *gather)
{
	struct fake_domain *fd = to_fake(domain);
	size_t left = pgsize * count, done = 0, size;
	unsigned long pfn;
	int level;

	fake_lock();
	fd->nr_unmaps++;
	if (fd->whole)
		left = max_t(size_t, left, fd->whole_end - iova);
	while (done < left) {
		if (fd->short_unmap && iova >= fd->short_unmap)
			break;
		level = find_page(fd, iova, &pfn);
		if (level < 0)
			break;
		size = 1UL << level_shift[level];
		if (iova & (size - 1) || size > left - done)
			fake_complain("an unmap at IOVA %lx goes through a page",
				      iova);
		unmap_page(fd, level, iova, pfn, gather);
		size -= iova & (size - 1);
		iova += size;
		done += size;
	}
	fake_unlock();
	return done;
}

static void fake_iotlb_sync(struct iommu_domain *domain,
			    struct iommu_iotlb_gather *gather)
{
	struct fake_domain *fd = to_fake(domain);
	unsigned int i, nr = 0;

	fake_lock();
	fd->nr_syncs++;
	for (i = 0; i < fd->nr_stale; i++)
		if (fd->stale[i].gather != gather)
			fd->stale[nr++] = fd->stale[i];
	fd->nr_stale = nr;
	fake_unlock();
}

static phys_addr_t fake_iova_to_phys(struct iommu_domain *domain,
				     dma_addr_t iova)
{
	struct fake_domain *fd = to_fake(domain);
	unsigned long pfn;
	int level;

	fake_lock();
	level = find_page(fd, iova, &pfn);
	fake_unlock();
	if (level < 0 || !((iova ^ fd->lost_iova) >> level_shift[level]))
		return 0;
	return PFN_PHYS(pfn) + (iova & ((1UL << level_shift[level]) - 1));
}

static const struct iommu_domain_ops fake_ops = {
	.map_pages = fake_map_pages,
	.unmap_pages = fake_unmap_pages,
	.iotlb_sync = fake_iotlb_sync,
	.iova_to_phys = fake_iova_to_phys,
};

/**
 * fake_domain_create - make a domain, which goes with the case
 * @pgsizes: its page sizes, of FAKE_SIZES
 *
 * Return: the domain; the case ends if there is no memory.
 */
struct fake_domain *fake_domain_create(unsigned long pgsizes)
{
	struct fake_domain *fd = kzalloc(sizeof(*fd), GFP_KERNEL);
	unsigned int level;

	KUNIT_ASSERT_NOT_NULL(fake->test, fd);
	for (level = 0; level < FAKE_LEVELS; level++) {
		xa_init(&fd->pages[level]);
		xa_init(&fd->by_pfn[level]);
	}
	fd->fail_iova = FAKE_IOVA_NONE;
	fd->lost_iova = FAKE_IOVA_NONE;
	fd->fail_after = -1;
	fd->domain.type = IOMMU_DOMAIN_UNMANAGED;
	fd->domain.ops = &fake_ops;
	fd->domain.pgsize_bitmap = pgsizes;
	fd->domain.geometry.aperture_end = U64_MAX;
	list_add(&fd->node, &fake->domains);
	return fd;
}

/**
 * fake_domain_map - map an extent by one call of the IOMMU core
 * @fd: the domain
 * @iova: where to
 * @pfn: first page
 * @nr: number of pages
 *
 * Return: as iommu_map().
 */
int fake_domain_map(struct fake_domain *fd, unsigned long iova,
		    unsigned long pfn, unsigned long nr)
{
	return iommu_map(&fd->domain, iova, PFN_PHYS(pfn), nr << PAGE_SHIFT,
			 IOMMU_READ | IOMMU_WRITE, GFP_KERNEL);
}

/**
 * fake_domain_pfn - tell which page is mapped at an IOVA
 * @fd: the domain
 * @iova: the IOVA
 *
 * Return: its pfn, or 0.
 */
unsigned long fake_domain_pfn(struct fake_domain *fd, unsigned long iova)
{
	return PHYS_PFN(iommu_iova_to_phys(&fd->domain, iova));
}

/**
 * fake_iommu_reaches - tell whether a device could reach any of some pages
 * @pfn: first page
 * @nr: number of pages
 *
 * Return: true if a domain translates to them, or an IOTLB still may.
 */
bool fake_iommu_reaches(unsigned long pfn, unsigned long nr)
{
	struct fake_domain *fd;
	unsigned long key;
	unsigned int i;

	lockdep_assert_held(&fake->lock);
	list_for_each_entry(fd, &fake->domains, node) {
		for (i = 0; i < fd->nr_stale; i++)
			if (fd->stale[i].pfn < pfn + nr &&
			    fd->stale[i].pfn + fd->stale[i].nr > pfn)
				return true;
		for (i = 0; i < FAKE_LEVELS; i++) {
			if (!fd->nr_pages[i])
				continue;
			key = pfn / level_pages(i);
			if (xa_find(&fd->by_pfn[i], &key,
				    (pfn + nr - 1) / level_pages(i),
				    XA_PRESENT))
				return true;
		}
	}
	return false;
}

/**
 * fake_domain_next_failure - choose which page is to fail after the n-th
 * @nth: the number of the one that failed last
 * @total: so many pages are mapped if none fails
 *
 * Return: the first ones, the last ones, and some in between; at last @total.
 */
long fake_domain_next_failure(long nth, long total)
{
	const long first = 3, last = 2, between = 4;

	if (nth < first || nth >= total - last)
		return nth + 1;
	return min(nth + 1 + total / between, total - last);
}

/**
 * fake_domain_mapped - tell how much a domain has mapped
 * @fd: the domain
 *
 * Return: the number of bytes.
 */
unsigned long fake_domain_mapped(const struct fake_domain *fd)
{
	unsigned long sum = 0;
	unsigned int i;

	for (i = 0; i < FAKE_LEVELS; i++)
		sum += fd->nr_pages[i] << level_shift[i];
	return sum;
}

/**
 * fake_domain_forget - empty a domain that a case is done with
 * @fd: the domain
 */
void fake_domain_forget(struct fake_domain *fd)
{
	unsigned int i;

	for (i = 0; i < FAKE_LEVELS; i++) {
		xa_destroy(&fd->pages[i]);
		xa_destroy(&fd->by_pfn[i]);
		fd->nr_pages[i] = 0;
	}
	kfree(fd->stale);
	fd->stale = NULL;
	fd->nr_stale = 0;
	fd->max_stale = 0;
}

/**
 * fake_iommu_exit - take all domains down, and complain about what is in them
 */
void fake_iommu_exit(void)
{
	struct fake_domain *fd, *next;

	list_for_each_entry_safe(fd, next, &fake->domains, node) {
		if (fake_domain_mapped(fd))
			fake_complain("%#lx bytes are still mapped",
				      fake_domain_mapped(fd));
		if (fd->nr_stale)
			fake_complain("an IOTLB was not synchronised");
		fake_domain_forget(fd);
		list_del(&fd->node);
		kfree(fd);
	}
}
