/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - the only place that looks at the kernel version
 *
 * The sources are written for the newest API. Each entry below adapts an older
 * kernel to it and names the release that changed what, so that an entry can
 * be dropped once that release is the oldest one supported.
 *
 * A kernel of a series that nobody has reviewed does not build: the private VFIO
 * interface (vfio_driver_ops.h) gives no warning when it changes. To review a
 * new series, follow doc/kernels.md, and only then add it below.
 */
#ifndef VFIO_MT_COMPAT_H
#define VFIO_MT_COMPAT_H

#include <linux/version.h>

#define COMPAT_IS_SERIES(major, minor) \
	(LINUX_VERSION_CODE >= KERNEL_VERSION(major, minor, 0) && \
	 LINUX_VERSION_CODE < KERNEL_VERSION(major, (minor) + 1, 0))

#if !COMPAT_IS_SERIES(6, 1) && !COMPAT_IS_SERIES(6, 12) && \
	!COMPAT_IS_SERIES(7, 2)
#error "vfio_mt_type1: this kernel is none of those reviewed: 6.1, 6.12, 7.2"
#error "check struct vfio_iommu_driver_ops against include/vfio_driver_ops.h,"
#error "and what has changed in vfio_iommu_type1.c: doc/kernels.md says how"
#endif

/*
 * 6.12.50: a reference on the thread behind a struct vhost_task. 6.12.35: GUP-fast, which
 * pin_chunk.c looks at page tables like, and hugetlb's shared page tables. Debian has had
 * both since 6.12.57.
 */
#if COMPAT_IS_SERIES(6, 12) && LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 57)
#error "vfio_mt_type1: of Linux 6.12, releases from 6.12.57 on"
#endif

/*
 * Of these, the number says too little: what was backported to them, the private
 * interface not excepted, does not show in it.
 */
#if defined(RHEL_RELEASE_CODE) || defined(CONFIG_SUSE_KERNEL)
#error "vfio_mt_type1: a vendor's kernel, with changes from other releases"
#error "check it as a series of its own: doc/kernels.md says how"
#endif

#ifndef CONFIG_64BIT
#error "vfio_mt_type1: 64-bit kernels only"
#endif

#include <linux/cgroup.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/iommu.h>
#include <linux/irqdomain.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/minmax.h>
#include <linux/rcupdate.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>

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
 * 6.3: backends are not told any more that a container is closed. The member of
 * their operations is last, and VFIO does without it.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define COMPAT_VFIO_NOTIFY
#endif

/*
 * 6.3: pin_user_pages_fast() may wait for a fault that somebody else has to handle
 * (userfaultfd), where it failed before. Without a fault, it leaves what is missing
 * to pin_user_pages_remote(), which fails still. And 6.6: it makes none in memory from
 * hugetlb's pools either, then. Before, it is told by @fault whether it may; the function
 * that never does went when nobody used it.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
#define compat_pin_fast(va, nr, flags, pages, fault) \
	((fault) ? pin_user_pages_fast(va, nr, flags, pages) : \
		   pin_user_pages_fast_only(va, nr, flags, pages))
#else
#define compat_pin_fast(va, nr, flags, pages, fault) \
	pin_user_pages_fast(va, nr, (flags) | FOLL_NOFAULT, pages)
#endif

/*
 * 6.4: addresses have tags on x86 too, and a process of its own has its own kind
 * of them. With its mmap lock held, it can be asked. Before, untagged_addr() is
 * the same for all.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define untagged_addr_remote(mm, addr)	untagged_addr(addr)
#endif

/*
 * 6.4: a driver can give the process that calls it another thread, which stays in the
 * kernel: vhost_task_create(). It took some releases to become what it is in those
 * reviewed here.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0) && \
	IS_ENABLED(CONFIG_VHOST_TASK)
#define COMPAT_USER_WORKERS
#endif

/*
 * 6.5: pin_user_pages_remote() lost its vmas argument.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define pin_user_pages_remote(mm, start, nr, flags, pages, locked) \
	pin_user_pages_remote(mm, start, nr, flags, pages, NULL, locked)
#endif

/*
 * 6.6: GET_INFO writes as much of its argument as the user has room for. Before,
 * it was all up to the capabilities' offset, or up to what is in front of it.
 */
static inline size_t compat_type1_info_size(u32 argsz)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
	if (argsz >= offsetofend(struct vfio_iommu_type1_info, cap_offset))
		return offsetofend(struct vfio_iommu_type1_info, cap_offset);
	return offsetofend(struct vfio_iommu_type1_info, iova_pgsizes);
#else
	return min_t(size_t, argsz, sizeof(struct vfio_iommu_type1_info));
#endif
}

/*
 * 6.6: processes on x86 may have shadow stacks. Each thread gets one when it is made, even
 * one that never gets to user space.
 */
#ifdef CONFIG_X86_USER_SHADOW_STACK
#include <asm/prctl.h>
#define compat_has_shadow_stack(task) \
	((task)->thread.features & ARCH_SHSTK_SHSTK)
#else
#define compat_has_shadow_stack(task)	false
#endif

/*
 * 6.7: version 2 of cgroup can be mounted with memory_hugetlb_accounting. Then huge
 * pages from a pool are charged to the memory cgroup of the thread that faults them
 * in, whatever set_active_memcg() says: mem_cgroup_hugetlb_try_charge(), in newer
 * kernels mem_cgroup_charge_hugetlb(), is for get_mem_cgroup_from_current().
 */
#ifdef CONFIG_MEMCG
static inline bool compat_memcg_charges_hugetlb(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
	return false;
#else
	return READ_ONCE(cgrp_dfl_root.flags) &
	       CGRP_ROOT_MEMORY_HUGETLB_ACCOUNTING;
#endif
}
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
 * 6.15: follow_pfnmap_start() says by a mask of addresses how much the entry maps.
 * Before, it is asked about each page.
 */
static inline unsigned long
compat_pfnmap_mask(const struct follow_pfnmap_args *args)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
	return PAGE_MASK;
#else
	return args->addr_mask;
#endif
}

/*
 * 6.13: domains for nested translation are iommufd's alone. Asked for, they are not
 * offered; chosen all the same, they are like any others.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
#define COMPAT_OFFERS_NESTING	1
#else
#define COMPAT_OFFERS_NESTING	0
#define VFIO_TYPE1_NESTING_IOMMU	__VFIO_RESERVED_TYPE1_NESTING_IOMMU
static inline int iommu_enable_nesting(struct iommu_domain *domain)
{
	return 0;
}
#endif

/*
 * 6.14: a kernel thread chooses its CPUs as the first thing when it is woken, and forgets
 * what was set before (kthread_affine_node()). Before, it has chosen when it has been made.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 14, 0)
#define COMPAT_KTHREAD_CPUS_LATE	1
#else
#define COMPAT_KTHREAD_CPUS_LATE	0
#endif

/*
 * 6.17: the system's workqueues have names that say on which CPUs work is done, and a
 * line in the kernel log tells who uses the old ones. Debian's 6.12 has both names:
 * the header comes before, so nothing of it is changed here.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define system_percpu_wq	system_wq
#define system_dfl_wq		system_unbound_wq
#endif

/*
 * Between 6.12 and 7.2: what user space is told of a range that wraps around.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 2, 0)
#define COMPAT_EWRAP	EINVAL
#else
#define COMPAT_EWRAP	EOVERFLOW
#endif

/*
 * Leaves of device memory are never pinned as a whole. How the page table marks
 * them: up to 6.14 those that have struct pages (devmap), from 6.12 on those that
 * drivers map by their pfns (special).
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
#define compat_pmd_is_device(pmd)	pmd_devmap(pmd)
#define compat_pud_is_device(pud)	pud_devmap(pud)
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
#define compat_pmd_is_device(pmd)	(pmd_devmap(pmd) || pmd_special(pmd))
#define compat_pud_is_device(pud)	(pud_devmap(pud) || pud_special(pud))
#else
#define compat_pmd_is_device(pmd)	pmd_special(pmd)
#define compat_pud_is_device(pud)	pud_special(pud)
#endif

/*
 * Not a matter of release, but of configuration: where call_rcu_tasks() is
 * call_rcu(), there is no rcu_barrier_tasks(); and with preemption, it would not
 * wait for whom it must wait for.
 */
#if defined(CONFIG_PREEMPTION) && !defined(CONFIG_TASKS_RCU)
#error "vfio_mt_type1 needs CONFIG_TASKS_RCU in a kernel that is preemptible"
#endif

static inline void compat_rcu_barrier_tasks(void)
{
	if (IS_ENABLED(CONFIG_TASKS_RCU))
		rcu_barrier_tasks();
	else
		rcu_barrier();
}

#endif /* VFIO_MT_COMPAT_H */
