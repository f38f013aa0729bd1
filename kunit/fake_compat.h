/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fake_compat.h - the only place of the unit tests that looks at the kernel version
 *
 * What the fakes do in another way on another kernel; what the units do is in
 * ../include/compat.h.
 */
#ifndef VFIO_MT_KUNIT_FAKE_COMPAT_H
#define VFIO_MT_KUNIT_FAKE_COMPAT_H

#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/version.h>

/*
 * 6.3: flags of a VMA are set by functions.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_init(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags = flags;
}
#endif

/*
 * 6.10: functions that allocate are macros, which tell where they are called, around
 * others. That is not told here.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
#define fake_real_alloc(alloc)	alloc
#else
#define fake_real_alloc(alloc)	alloc##_noprof
#define kcalloc_noprof(n, size, gfp) \
	kmalloc_array_noprof(n, size, (gfp) | __GFP_ZERO)
#define kvzalloc_noprof(size, gfp) \
	kvmalloc_node_noprof(size, (gfp) | __GFP_ZERO, NUMA_NO_NODE)
#endif

/*
 * 6.15: the page table does not tell device memory that has struct pages (devmap), only
 * what drivers map by its pfns (special).
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
#define FAKE_PAGE_DEVICE	_PAGE_DEVMAP
#else
#define FAKE_PAGE_DEVICE	_PAGE_SPECIAL
#endif

/*
 * 6.18: what generates parameters is told for which test.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
#define FAKE_GEN_ARGS	const void *prev, char *desc
#define fake_next_param(name, prev, desc)	name(prev, desc)
#else
#define FAKE_GEN_ARGS	struct kunit *test, const void *prev, char *desc
#define fake_next_param(name, prev, desc)	name(test, prev, desc)
#endif

#endif /* VFIO_MT_KUNIT_FAKE_COMPAT_H */
