/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fake_iommu.h - fake IOMMU domains
 *
 * The kernel has a seam of its own here: a domain has operations. So the units
 * call the real IOMMU core, which chooses the page sizes, and the fake is the
 * driver underneath. It complains about what no driver would survive: a page
 * mapped twice, or an unmap that goes through a larger page.
 */
#ifndef VFIO_MT_KUNIT_FAKE_IOMMU_H
#define VFIO_MT_KUNIT_FAKE_IOMMU_H

#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/sizes.h>
#include <linux/types.h>
#include <linux/xarray.h>

/* The page sizes that fake domains may have, by level. */
#define FAKE_LEVELS		3
#define FAKE_SIZES		(SZ_4K | SZ_2M | SZ_1G)

/* No IOVA that any case maps, nor is one near it. */
#define FAKE_IOVA_NONE		(1UL << 62)

/**
 * struct fake_stale - what an IOTLB may still translate to
 * @gather: the gather that will end it
 * @pfn: first page
 * @nr: number of pages
 */
struct fake_stale {
	const struct iommu_iotlb_gather *gather;
	unsigned long pfn;
	unsigned long nr;
};

/**
 * struct fake_domain - an IOMMU domain
 * @node: in fake->domains
 * @domain: what the units get to see
 * @pages: by level, by IOVA in units of the level's size: the pfn
 * @by_pfn: likewise, by pfn: how many translate to it
 * @nr_pages: by level, how many there are
 * @nr_maps: calls to map
 * @nr_unmaps: calls to unmap
 * @nr_syncs: IOTLB synchronisations
 * @stale: what was unmapped and not synchronised
 * @nr_stale: entries of @stale in use
 * @max_stale: entries of @stale
 * @fail_iova: mapping fails at this address with @fail_error
 * @fail_error: 0 for no failure
 * @fail_after: and so it does when so many pages were mapped; negative for never
 * @short_unmap: unmapping ends before this address; 0 for never
 * @lost_iova: the page there is not found any more when its pfn is asked for
 * @whole: one call unmaps all that another one mapped, if it unmaps its start
 * @whole_end: where what was mapped by the last call ends
 */
struct fake_domain {
	struct list_head node;
	struct iommu_domain domain;
	struct xarray pages[FAKE_LEVELS];
	struct xarray by_pfn[FAKE_LEVELS];
	unsigned long nr_pages[FAKE_LEVELS];
	unsigned long nr_maps;
	unsigned long nr_unmaps;
	unsigned long nr_syncs;
	struct fake_stale *stale;
	unsigned int nr_stale;
	unsigned int max_stale;
	unsigned long fail_iova;
	int fail_error;
	long fail_after;
	unsigned long short_unmap;
	unsigned long lost_iova;
	bool whole;
	unsigned long whole_end;
};

struct fake_domain *fake_domain_create(unsigned long pgsizes);
int fake_domain_map(struct fake_domain *fd, unsigned long iova,
		    unsigned long pfn, unsigned long nr);
unsigned long fake_domain_pfn(struct fake_domain *fd, unsigned long iova);
bool fake_iommu_reaches(unsigned long pfn, unsigned long nr);
long fake_domain_next_failure(long nth, long total);
unsigned long fake_domain_mapped(const struct fake_domain *fd);
void fake_domain_forget(struct fake_domain *fd);
void fake_iommu_exit(void);

#endif /* VFIO_MT_KUNIT_FAKE_IOMMU_H */
