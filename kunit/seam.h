/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * seam.h - puts fakes in the place of what the units call
 *
 * A test file includes this, and then the unit's .c file: so the unit, and
 * nothing else, is compiled to call the fakes, its static functions can be
 * tested, and the real module knows nothing of it.
 *
 * All headers that units include come first: what follows would change their
 * meaning. It sits on top of compat.h, so that a fake has the newest form of the
 * function that it stands for.
 */
#ifndef VFIO_MT_KUNIT_SEAM_H
#define VFIO_MT_KUNIT_SEAM_H

#include <kunit/test.h>
#include <linux/bitmap.h>
#include <linux/cgroup.h>
#include <linux/completion.h>
#include <linux/cpuset.h>
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/hugetlb.h>
#include <linux/iommu.h>
#include <linux/kthread.h>
#include <linux/log2.h>
#include <linux/math64.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/mm.h>
#include <linux/oom.h>
#include <linux/padata.h>
#include <linux/rbtree.h>
#include <linux/rwsem.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <uapi/linux/sched/types.h>

#include "../include/compat.h"
#include "fake.h"
#include "fake_compat.h"
#include "fake_iommu.h"

/* ---- user memory ---- */

#undef pin_user_pages_remote
#undef page_folio
#undef pfn_valid
#undef is_zero_pfn
#undef PageReserved
#undef compat_pin_fast
#define compat_pin_fast			fake_pin_fast
#define pin_user_pages_remote		fake_pin_user_pages_remote
#define unpin_user_page			fake_unpin_user_page
#define unpin_user_page_range_dirty_lock \
	fake_unpin_user_page_range_dirty_lock
#define unpin_user_pages_dirty_lock	fake_unpin_user_pages_dirty_lock
#define page_ref_count(page)		fake_page_ref_count(page)
#define PageCompound(page)		fake_page_compound(page)
#define get_page(page)			fake_get_page(page)
#define release_pages(pages, nr)	fake_release_pages(pages, nr)
#define pfn_valid(pfn)			fake_pfn_valid(pfn)
#define is_zero_pfn(pfn)		((pfn) == FAKE_PFN_ZERO)
#define PageReserved(page)		fake_page_reserved(page)
#define page_folio(page)		fake_page_folio(page)
#define folio_nr_pages(folio)		fake_folio_nr_pages(folio)
#define vma_lookup(mm, va)		fake_vma_lookup(mm, va)
#undef for_each_vma_range
#define for_each_vma_range(vmi, vma, end) \
	for ((vma) = fake_vma_find((vmi).mas.index, end); (vma); \
	     (vma) = fake_vma_find((vma)->vm_end, end))
#define hstate_vma(vma)			fake_hstate_vma(vma)
#define follow_pfnmap_start(args)	fake_follow_pfnmap_start(args)
#define follow_pfnmap_end(args)		fake_follow_pfnmap_end(args)
#define compat_pfnmap_mask(args)	fake_pfnmap_mask(args)
#define fixup_user_fault		fake_fixup_user_fault

/* ---- locked memory ---- */

#define __account_locked_vm		fake_account_locked_vm
#define mmap_write_lock_killable(mm)	fake_mmap_write_lock_killable(mm)

/* ---- threads ---- */

#define fatal_signal_pending(task)	fake_fatal_signal_pending(task)
#define kthread_use_mm(mm)		fake_kthread_use_mm(mm)
#define kthread_unuse_mm(mm)		fake_kthread_unuse_mm(mm)

/* ---- the user's bitmap ---- */

#undef get_user
#define get_user(value, from)		fake_get_user(&(value), from)
#define copy_to_user(to, from, n)	fake_copy_to_user(to, from, n)

/* ---- memory of the kernel's, and warnings ---- */

#undef kmalloc
#undef kzalloc
#undef kcalloc
#undef kmalloc_array
#undef kvzalloc
#undef kvcalloc
#undef kvmalloc_array
#undef __vmalloc
#undef __vcalloc
#undef kmem_cache_alloc
#define FAKE_ALLOC(alloc, args...) \
	(fake_alloc_fails() ? NULL : fake_real_alloc(alloc)(args))
#define kmalloc(args...)		FAKE_ALLOC(kmalloc, args)
#define kzalloc(args...)		FAKE_ALLOC(kzalloc, args)
#define kcalloc(args...)		FAKE_ALLOC(kcalloc, args)
#define kmalloc_array(args...)		FAKE_ALLOC(kmalloc_array, args)
#define kvzalloc(args...)		FAKE_ALLOC(kvzalloc, args)
#define kvcalloc(args...)		FAKE_ALLOC(kvcalloc, args)
#define kvmalloc_array(args...)		FAKE_ALLOC(kvmalloc_array, args)
#define __vmalloc(args...)		FAKE_ALLOC(__vmalloc, args)
#define __vcalloc(args...)		FAKE_ALLOC(__vcalloc, args)
#define kmem_cache_alloc(args...)	FAKE_ALLOC(kmem_cache_alloc, args)
#define xa_store(xa, index, entry, gfp)	\
	(fake_alloc_fails() ? XA_ERROR(-ENOMEM) : xa_store(xa, index, entry, gfp))

#undef WARN_ONCE
#undef WARN_ON_ONCE
#define WARN_ONCE(condition, fmt...)	fake_warn(condition)
#define WARN_ON_ONCE(condition)		fake_warn(condition)

#endif /* VFIO_MT_KUNIT_SEAM_H */
