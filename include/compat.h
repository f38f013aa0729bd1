/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - the only place that looks at the kernel version
 *
 * The sources are written for the newest API. Each entry below adapts an older
 * kernel to it and names the release that changed what, so that an entry can
 * be dropped once that release is the oldest one supported.
 *
 * A kernel outside the reviewed range does not build: the private VFIO
 * interface (vfio_driver_ops.h) gives no warning when it changes. To review a
 * new release, read drivers/vfio/vfio.h and drivers/vfio/vfio_iommu_type1.c of
 * that release, bring vfio_driver_ops.h and this file up to date, run the whole
 * suite on it, and only then widen the range.
 */
#ifndef VFIO_MT_COMPAT_H
#define VFIO_MT_COMPAT_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 1, 0) || \
	LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
#error "vfio_mt_type1: not a reviewed kernel (6.1.x): see include/compat.h"
#endif

#ifndef CONFIG_64BIT
#error "vfio_mt_type1: 64-bit kernels only"
#endif

#include <linux/device.h>
#include <linux/err.h>
#include <linux/iommu.h>
#include <linux/irqdomain.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/rcupdate.h>

/*
 * 6.3: iommu_map() and iommu_map_sg() take a gfp argument. Before, they
 * allocated with GFP_KERNEL.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define iommu_map(domain, iova, paddr, size, prot, gfp) \
	iommu_map(domain, iova, paddr, size, prot)
#define iommu_map_sg(domain, iova, sg, nents, prot, gfp) \
	iommu_map_sg(domain, iova, sg, nents, prot)
#endif

/*
 * 6.3: isolation of a group's interrupts is one question to the IOMMU core.
 * Before, the interrupt domains were asked first, then each device.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline int compat_device_remaps_msi(struct device *dev, void *unused)
{
	return device_iommu_capable(dev, IOMMU_CAP_INTR_REMAP);
}

static inline bool iommu_group_has_isolated_msi(struct iommu_group *group)
{
	return irq_domain_check_msi_remap() ||
	       iommu_group_for_each_dev(group, NULL, compat_device_remaps_msi);
}
#endif

/*
 * 6.5: pin_user_pages_remote() lost its vmas argument.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define pin_user_pages_remote(mm, start, nr, flags, pages, locked) \
	pin_user_pages_remote(mm, start, nr, flags, pages, NULL, locked)
#endif

/*
 * 6.11: domains are allocated for a device, not for a bus, and a failure is an
 * error pointer. -EIO is what type1 made of the older function's NULL.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
static inline struct iommu_domain *iommu_paging_domain_alloc(struct device *dev)
{
	struct iommu_domain *domain = iommu_domain_alloc(dev->bus);

	return domain ? domain : ERR_PTR(-EIO);
}
#endif

/*
 * 6.12: follow_pfnmap_start()/_end() replaced follow_pte() for looking up the
 * pfn behind a VM_PFNMAP address.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
struct follow_pfnmap_args {
	struct vm_area_struct *vma;
	unsigned long address;
	spinlock_t *lock;
	pte_t *ptep;
	unsigned long pfn;
	bool writable;
};

static inline int follow_pfnmap_start(struct follow_pfnmap_args *args)
{
	int ret = follow_pte(args->vma->vm_mm, args->address, &args->ptep,
			     &args->lock);

	if (ret)
		return ret;
	args->pfn = pte_pfn(*args->ptep);
	args->writable = pte_write(*args->ptep);
	return 0;
}

static inline void follow_pfnmap_end(struct follow_pfnmap_args *args)
{
	/* For sparse, which does not see that the lock was taken. */
	__acquire(args->lock);
	pte_unmap_unlock(args->ptep, args->lock);
}
#endif

/*
 * 6.15: device memory is no longer marked in the page table (pmd_devmap and
 * pud_devmap are gone). Before, such leaves are never pinned as a whole.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
#define compat_pmd_devmap(pmd)	pmd_devmap(pmd)
#define compat_pud_devmap(pud)	pud_devmap(pud)
#else
#define compat_pmd_devmap(pmd)	false
#define compat_pud_devmap(pud)	false
#endif

/*
 * Not a matter of release, but of configuration: where call_rcu_tasks() is
 * call_rcu(), there is no rcu_barrier_tasks().
 */
static inline void compat_rcu_barrier_tasks(void)
{
	if (IS_ENABLED(CONFIG_TASKS_RCU))
		rcu_barrier_tasks();
	else
		rcu_barrier();
}

#endif /* VFIO_MT_COMPAT_H */
