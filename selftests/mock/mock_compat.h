/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio_mt_mock: the only place of the test module that looks at the kernel version
 *
 * Purpose: the files are written for the newest interface to drivers of IOMMUs and
 *	of VFIO devices. Each entry adapts an older kernel to it, and names the release
 *	that changed what. The module's own include/compat.h is about what a backend
 *	uses; nothing is shared with it, so that neither hides a fault of the other.
 */
#ifndef VFIO_MT_MOCK_COMPAT_H
#define VFIO_MT_MOCK_COMPAT_H

#include <linux/version.h>

#define MOCK_IS_SERIES(major, minor) \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(major, minor, 0) && \
	 LINUX_VERSION_CODE < KERNEL_VERSION(major, (minor) + 1, 0))

#if !MOCK_IS_SERIES(6, 1) && !MOCK_IS_SERIES(6, 12) && !MOCK_IS_SERIES(7, 2)
#error "vfio_mt_mock: Linux 6.1, 6.12 and 7.2 only: see doc/kernels.md"
#endif

#include <linux/device/bus.h>
#include <linux/huge_mm.h>
#include <linux/hugetlb.h>
#include <linux/iommu.h>
#include <linux/irqdomain.h>
#include <linux/mm.h>
#include <linux/platform_device.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#include <linux/pfn_t.h>
#endif

/*
 * 6.2: VFIO frees a device after its release. Before, release did.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
static inline void vfio_free_device(struct vfio_device *vdev)
{
}
#endif

/*
 * 6.2: whether a domain could be coherent is a capability. Before, only the domain
 * could tell.
 */
static inline bool mock_cap_is_coherence(enum iommu_cap cap)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
	return false;
#else
	return cap == IOMMU_CAP_ENFORCE_CACHE_COHERENCY;
#endif
}

/*
 * 6.3: flags of a VMA are set by a function, which knows of its lock.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}
#endif

/*
 * 6.3: whether interrupts of a device are isolated is said by its interrupt domain.
 * Before, it was a capability of the IOMMU.
 */
static inline bool mock_cap_is_isolation(enum iommu_cap cap)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return cap == IOMMU_CAP_INTR_REMAP;
#else
	return false;
#endif
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define IRQ_DOMAIN_FLAG_ISOLATED_MSI	0
#endif

/*
 * 6.5: pin_user_pages_remote() lost its vmas argument. Of ours, neither driver
 * wants one, nor to know whether the lock was dropped.
 */
static inline long mock_pin_remote(struct mm_struct *mm, unsigned long start,
				   unsigned long nr, unsigned int flags,
				   struct page **pages)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	return pin_user_pages_remote(mm, start, nr, flags, pages, NULL, NULL);
#else
	return pin_user_pages_remote(mm, start, nr, flags, pages, NULL);
#endif
}

/*
 * 6.7: a domain is made for a device, and those without page tables are there
 * once. Before, the driver was asked for a type of domain, for no device.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
#define MOCK_DOMAINS_BY_TYPE
#endif

/*
 * 6.8: buses do not know their IOMMU driver any more. Before, the core never
 * took it from them.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
static inline void mock_bus_forget(struct bus_type *bus,
				   const struct iommu_ops *ops)
{
	if (bus->iommu_ops == ops)
		bus->iommu_ops = NULL;
}
#else
static inline void mock_bus_forget(const struct bus_type *bus,
				   const struct iommu_ops *ops)
{
}
#endif

/*
 * 6.8: iotlb_sync_map() may fail.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define MOCK_SYNC_MAP_RETURNS
#endif

/*
 * 6.11: a platform driver's remove() returns nothing.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
#define MOCK_REMOVE_RETURNS
#endif

/*
 * Between 6.12 and 7.2: nobody may ask any more whether a bus has an IOMMU. A driver
 * that is there has all of a bus's devices in groups, or some of them.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0)
#define mock_bus_has_iommu(bus)		iommu_present(bus)
#else
static inline int mock_device_has_iommu(struct device *dev, void *unused)
{
	return device_iommu_mapped(dev);
}

static inline bool mock_bus_has_iommu(const struct bus_type *bus)
{
	return bus_for_each_dev(bus, NULL, NULL, mock_device_has_iommu);
}
#endif

/*
 * 6.13: drivers of IOMMUs are not asked any more to make a domain one for nested
 * translation.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define MOCK_ENABLES_NESTING
#endif

/*
 * 6.15: a domain says what its cookie is. Before, that of a domain which is no
 * driver's own could only be one for MSIs.
 */
static inline bool mock_domain_has_msi_cookie(const struct iommu_domain *domain)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
	return domain->iova_cookie;
#else
	return domain->cookie_type == IOMMU_COOKIE_DMA_MSI;
#endif
}

/*
 * 6.17: the system's workqueues have names that say on which CPUs work is done, and
 * a line in the log tells who uses the old ones.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define system_dfl_wq	system_unbound_wq
#endif

/*
 * 6.17: a pfn is a number. Before, it had a type that said what is behind it.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define vmf_insert_pfn_pmd(vmf, pfn, write) \
	vmf_insert_pfn_pmd(vmf, pfn_to_pfn_t(pfn), write)
#endif

/*
 * 6.19: attach_dev() is told which domain a device has had.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
#define mock_domain_attach_dev(domain, dev, old) \
	mock_domain_attach_dev(domain, dev)
#define mock_domain_attach_none(domain, dev, old) \
	mock_domain_attach_none(domain, dev)
#endif

/*
 * How many references are due to page tables? Each entry holds one, whether it
 * maps a page or the whole folio.
 *
 * 6.9: that is what folio_mapcount() says. Before, what maps all of a folio counted
 * in each page too, for files, and for anonymous memory if some mapped it as a
 * whole, some in parts.
 */
static inline int mock_folio_mappings(struct folio *folio)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 9, 0)
	int nr = folio_nr_pages(folio), whole, i, sum;

	if (!folio_test_large(folio))
		return atomic_read(&folio->_mapcount) + 1;
	whole = folio_entire_mapcount(folio);
	if (PageHuge(&folio->page))
		return whole;
	for (sum = whole, i = 0; i < nr; i++)
		sum += atomic_read(&folio_page(folio, i)->_mapcount) + 1;
	if (!folio_test_anon(folio))
		return sum - whole * nr;
	return folio_test_double_map(folio) ? sum - nr : sum;
#else
	return folio_mapcount(folio);
#endif
}

/*
 * How many references does the page cache hold to a folio? One for each page.
 *
 * 6.7: of a hugetlb page too. Before, it held one in all.
 */
static inline int mock_folio_cache_refs(struct folio *folio)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	if (PageHuge(&folio->page))
		return 1;
#endif
	return folio_nr_pages(folio);
}

/*
 * 6.3: a large folio's pins are a member. Before, it was at the place that a
 * function told.
 */
static inline int mock_folio_pins(struct folio *folio)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return atomic_read(folio_pincount_ptr(folio));
#else
	return atomic_read(&folio->_pincount);
#endif
}

/*
 * 6.12: what a driver maps by its pfn is marked as special, and GUP stays away from
 * it. Take the mark away, or put it there again. Before, there was none in huge
 * entries.
 *
 * Between 6.12 and 7.2: whoever removes an entry goes by the mark. Before, by its VMA.
 */
static inline void mock_pmd_set_special(struct mm_struct *mm, pmd_t *pmd,
					bool special)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	spinlock_t *ptl = pmd_lock(mm, pmd);

	if (pmd_present(*pmd) && pmd_special(*pmd) != special)
		WRITE_ONCE(*pmd, special ? pmd_mkspecial(*pmd) :
					   pmd_clear_flags(*pmd, _PAGE_SPECIAL));
	spin_unlock(ptl);
#endif
}

#endif /* VFIO_MT_MOCK_COMPAT_H */
