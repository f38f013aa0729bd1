/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fake_mm.h - a fake address space, made of areas
 *
 * It has real page tables (that no CPU ever uses), real locks, and fake memory:
 * pfns far above what the machine has. A struct page of such memory is an
 * address and no more, as pfn_to_page() and page_to_pfn() only calculate; whoever
 * looks into one crashes, and what the units do look at goes through the seam to
 * the areas. So an area may be as large, and its folios too, as a case likes.
 */
#ifndef VFIO_MT_KUNIT_FAKE_MM_H
#define VFIO_MT_KUNIT_FAKE_MM_H

#include <linux/list.h>
#include <linux/mm.h>
#include <linux/types.h>
#include <linux/xarray.h>

#include "../include/compat.h"
#include "../include/pin_record.h"

struct fake;
struct hstate;

#define MB(n)			((unsigned long)(n) << 20)
#define GB(n)			((unsigned long)(n) << 30)

/* Where user memory ends, with page tables of four levels. */
#define FAKE_TOP		((1UL << 47) - PAGE_SIZE)

/* Fake page number @n; what it is aligned to, so is the pfn. */
#define FAKE_PFN_BASE		(1UL << 30)
#define FAKE_PFN(n)		(FAKE_PFN_BASE + (n))
/* The zero page. */
#define FAKE_PFN_ZERO		(FAKE_PFN_BASE - 1)

#define PMD_PAGES		PIN_SPAN_PAGES
#define PUD_PAGES		PIN_PUD_PAGES
#define PMD_FOLIO		(PMD_SHIFT - PAGE_SHIFT)
#define PUD_FOLIO		(PUD_SHIFT - PAGE_SHIFT)

/* The memory may not be written. */
#define FAKE_RO			BIT(0)
/* Its pages are marked reserved. */
#define FAKE_RESERVED		BIT(1)
/* It is the zero page, again and again. */
#define FAKE_ZERO		BIT(2)
/* VM_PFNMAP: without struct pages, or with ones that nobody may pin. */
#define FAKE_PFNMAP		BIT(3)
#define FAKE_PFNMAP_PAGES	BIT(4)
/* Nothing is mapped before somebody pins it. */
#define FAKE_COLD		BIT(5)
/* Only the locking kind of pinning works. */
#define FAKE_SLOW		BIT(6)
/* VM_HUGETLB, with pages as large as the folios. */
#define FAKE_HUGETLB		BIT(7)
/* Leaves have the mark of device memory. */
#define FAKE_DEVMAP		BIT(8)
/* The leaf does not allow writing, though a page fault would make it. */
#define FAKE_LEAF_RO		BIT(9)
/* A page fault lets go of the mmap lock, the first time. */
#define FAKE_UNLOCKS		BIT(10)
/* The pfns run backwards: no two pages are contiguous. */
#define FAKE_SCATTERED		BIT(11)

/**
 * struct fake_area - addresses whose memory is of one kind
 * @va: first address
 * @nr: number of pages
 * @pfn: pfn of the first page
 * @leaf: what kind of page table entry maps them
 * @order: of the folios that the pages belong to
 * @flags: FAKE_*
 * @skew: leaves show pages so much further on: as if they had moved between
 *        the pin and the look at the page tables
 */
struct fake_area {
	unsigned long va;
	unsigned long nr;
	unsigned long pfn;
	enum pin_leaf leaf;
	unsigned int order;
	unsigned int flags;
	unsigned long skew;
};

/* The most areas that an address space has, and threads that run on it. */
#define FAKE_AREAS		8
#define FAKE_THREADS		16

/**
 * struct fake_mm - the address space
 * @areas: what is in it, in order of address
 * @vmas: one for each area
 * @nr_areas: how many
 * @hstate: how large the pages of a hugetlb area are
 * @task: stands for any thread that runs on it, for what "current" tells
 * @threads: the threads that do
 * @nr_threads: how many
 * @tables: pages of page tables
 * @pins: by pfn of a folio's head, how often it is pinned
 * @nr_pins: the sum of these
 * @dirtied: how many pins were dropped with the page marked dirty
 * @gone: the process is gone: a page is freed with its last pin or reference
 * @refs: by pfn of a folio's head, how many ordinary references a unit holds
 * @nr_refs: the sum of these
 * @freed: pages freed by dropping a pin, while @gone
 * @releases: calls that dropped ordinary references
 * @gup_max: most pages that one call pins
 * @gup_calls: calls that pinned, or tried to
 * @slow_calls: how many of them took the mmap lock
 * @fail_va: pinning fails at this address with @fail_error
 * @fail_nr: and at so many pages from there; 0 for one
 * @fail_error: 0 for no failure
 * @fail_times: so many times; negative for always
 * @fail_silent: a call that pins nothing for that reason returns 0, and not the error
 * @on_pin: called, without locks of the fakes, before an address is pinned
 * @on_pin_arg: its argument
 * @locked: what is charged
 * @limit: the most that may be charged
 * @refusals: so many charges are refused although they fit
 * @refused: how many were refused
 * @highest: the most that was ever charged
 * @account_calls: how often locked memory was charged or given back
 * @mm: what the units get to see; last, as it has a flexible end
 */
struct fake_mm {
	struct fake_area areas[FAKE_AREAS];
	struct vm_area_struct vmas[FAKE_AREAS];
	unsigned int nr_areas;
	struct hstate *hstate;
	struct task_struct *task;
	struct task_struct *threads[FAKE_THREADS];
	unsigned int nr_threads;
	struct list_head tables;
	struct xarray pins;
	unsigned long nr_pins;
	unsigned long dirtied;
	bool gone;
	struct xarray refs;
	unsigned long nr_refs;
	unsigned long freed;
	unsigned long releases;
	unsigned long gup_max;
	unsigned long gup_calls;
	unsigned long slow_calls;
	unsigned long fail_va;
	unsigned long fail_nr;
	int fail_error;
	int fail_times;
	bool fail_silent;
	void (*on_pin)(void *arg, unsigned long va);
	void *on_pin_arg;
	unsigned long locked;
	unsigned long limit;
	unsigned int refusals;
	unsigned int refused;
	unsigned long highest;
	unsigned long account_calls;
	struct mm_struct *mm;
};

void fake_mm_setup(const struct fake_area *areas, unsigned int nr);
unsigned long fake_mm_pfn(unsigned long va);
void fake_mm_pin(unsigned long pfn);
unsigned long fake_mm_pins(unsigned long pfn);

/* The calling thread runs on the fake address space, or not any more. */
void fake_mm_enter(void);
void fake_mm_leave(void);

int fake_mm_init(struct fake_mm *mm);
void fake_mm_exit(struct fake_mm *mm);

/* ---- what seam.h puts in the place of the kernel's ---- */

struct task_struct *fake_current(void);
bool fake_fatal_signal_pending(struct task_struct *task);
void fake_kthread_use_mm(struct mm_struct *mm);
void fake_kthread_unuse_mm(struct mm_struct *mm);
int fake_mmap_write_lock_killable(struct mm_struct *mm);
long fake_pin_fast(unsigned long va, int nr, unsigned int flags,
		   struct page **pages, bool fault);
long fake_pin_user_pages_remote(struct mm_struct *mm, unsigned long va,
				unsigned long nr, unsigned int flags,
				struct page **pages, int *locked);
void fake_unpin_user_page(struct page *page);
void fake_unpin_user_pages_dirty_lock(struct page **pages, unsigned long nr,
				      bool dirty);
void fake_unpin_user_page_range_dirty_lock(struct page *page, unsigned long nr,
					   bool dirty);
struct vm_area_struct *fake_vma_lookup(struct mm_struct *mm, unsigned long va);
struct vm_area_struct *fake_vma_find(unsigned long va, unsigned long end);
struct hstate *fake_hstate_vma(struct vm_area_struct *vma);
int fake_follow_pfnmap_start(struct follow_pfnmap_args *args);
void fake_follow_pfnmap_end(struct follow_pfnmap_args *args);
unsigned long fake_pfnmap_mask(const struct follow_pfnmap_args *args);
int fake_fixup_user_fault(struct mm_struct *mm, unsigned long va,
			  unsigned int flags, bool *unlocked);
int fake_account_locked_vm(struct mm_struct *mm, unsigned long nr, bool inc,
			   struct task_struct *task, bool bypass);
int fake_page_ref_count(struct page *page);
bool fake_page_compound(struct page *page);
void fake_get_page(struct page *page);
void fake_release_pages(struct page **pages, int nr);
bool fake_pfn_valid(unsigned long pfn);
bool fake_page_reserved(struct page *page);
struct folio *fake_page_folio(struct page *page);
long fake_folio_nr_pages(struct folio *folio);

#endif /* VFIO_MT_KUNIT_FAKE_MM_H */
