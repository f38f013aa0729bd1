// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_mock: memory that only drivers have, and the state of pages
 *
 * Purpose: mmap() of the control node gives VM_PFNMAP memory like a device's
 *	BAR (mapped at once, or at a fault, and revocable), VM_PFNMAP memory
 *	that type1 must refuse, and ordinary pages of the kernel.
 *	mock_mem_page_state() and mock_mem_pfn_state() tell tests how often a
 *	page is pinned.
 * Terms:
 *	bar	the pages that stand for a BAR.  They are RAM, but marked
 *		reserved, which is what makes type1 take them for MMIO
 *	ram	pages of the kernel that are not reserved
 *	patched	small pages that lie as those of a huge one do
 * Context: everything here runs in process context and may sleep.
 * Locking: bar_disabled and hold are plain flags (READ_ONCE); the memory itself is
 *	allocated at load and freed at unload, when no mapping can be left
 *	because every VMA holds the control node's file and with it the module.
 */
#include <linux/atomic.h>
#include <linux/gfp.h>
#include <linux/hugetlb.h>
#include <linux/io.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/huge_mm.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "mock.h"
#include "mock_compat.h"

#define MEM_PAGES	(VFIO_MT_MOCK_MEM_SIZE >> PAGE_SHIFT)
#define MEM_KIND_SHIFT	(28 - PAGE_SHIFT)
#define MEM_KIND(pgoff)	((u64)((pgoff) >> MEM_KIND_SHIFT) << 28)
#define MEM_INDEX(pgoff) ((pgoff) & (BIT(MEM_KIND_SHIFT) - 1))

static void *bar;
static void *ram;
static bool bar_disabled;
static struct page *patched;

#define PATCHED_PAGES	(VFIO_MT_MOCK_PATCHED_SIZE >> PAGE_SHIFT)
static bool hold;
static atomic_t held = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(hold_wait);

/* Wait as long as faults are to take. Returns 0 or -ERESTARTSYS. */
static int mock_mem_wait(void)
{
	int ret;

	if (!READ_ONCE(hold))
		return 0;
	atomic_inc(&held);
	ret = wait_event_killable(hold_wait, !READ_ONCE(hold));
	atomic_dec(&held);
	return ret;
}

/**
 * mock_mem_fault() - give one page of LAZY or UNRESERVED memory
 * @vmf: the fault
 *
 * Context: fault handler.
 * Return: VM_FAULT_NOPAGE with the entry installed, or VM_FAULT_SIGBUS.
 */
static vm_fault_t mock_mem_fault(struct vm_fault *vmf)
{
	u64 kind = MEM_KIND(vmf->pgoff);
	void *mem = kind == VFIO_MT_MOCK_MEM_LAZY ? bar : ram;
	unsigned long index = MEM_INDEX(vmf->pgoff);

	if (index >= MEM_PAGES)
		return VM_FAULT_SIGBUS;
	if (kind == VFIO_MT_MOCK_MEM_LAZY &&
	    (mock_mem_wait() || READ_ONCE(bar_disabled)))
		return VM_FAULT_SIGBUS;

	return vmf_insert_pfn(vmf->vma, vmf->address,
			      PHYS_PFN(virt_to_phys(mem)) + index);
}

static const struct vm_operations_struct mock_mem_vm_ops = {
	.fault = mock_mem_fault,
};

/**
 * struct mock_patched - a mapping of PATCHED memory
 * @notifier: tells when the kernel is about to remove its entry
 * @pmd: the entry, once there is one
 *
 * The kernel would take the entry for one of a huge page, and give up references
 * that nobody has.  So it is marked as a driver's before that.
 */
struct mock_patched {
	struct mmu_interval_notifier notifier;
	pmd_t *pmd;
};

static bool mock_mem_patched_invalidate(struct mmu_interval_notifier *notifier,
					const struct mmu_notifier_range *range,
					unsigned long seq)
{
	struct mock_patched *map = container_of(notifier, struct mock_patched,
						notifier);
	pmd_t *pmd = READ_ONCE(map->pmd);

	mmu_interval_set_seq(notifier, seq);
	if (pmd && (range->event == MMU_NOTIFY_UNMAP ||
		    range->event == MMU_NOTIFY_CLEAR ||
		    range->event == MMU_NOTIFY_RELEASE))
		mock_pmd_set_special(notifier->mm, pmd, true);
	return true;
}

static const struct mmu_interval_notifier_ops mock_mem_patched_ops = {
	.invalidate = mock_mem_patched_invalidate,
};

static vm_fault_t mock_mem_patched_fault(struct vm_fault *vmf)
{
	struct mock_patched *map = vmf->vma->vm_private_data;
	vm_fault_t ret;

	ret = vmf_insert_pfn_pmd(vmf, page_to_pfn(patched), true);
	if (ret == VM_FAULT_NOPAGE) {
		WRITE_ONCE(map->pmd, vmf->pmd);
		mock_pmd_set_special(vmf->vma->vm_mm, vmf->pmd, false);
	}
	return ret;
}

/* mremap() makes a copy before it asks whether it may. */
static void mock_mem_patched_open(struct vm_area_struct *vma)
{
	vma->vm_private_data = NULL;
}

static void mock_mem_patched_close(struct vm_area_struct *vma)
{
	struct mock_patched *map = vma->vm_private_data;

	if (!map)
		return;
	mmu_interval_notifier_remove(&map->notifier);
	kfree(map);
}

/* Neither elsewhere, nor a part of it, nor a child's copy: the entry has one owner. */
static int mock_mem_patched_mremap(struct vm_area_struct *vma)
{
	return -EINVAL;
}

static int mock_mem_patched_may_split(struct vm_area_struct *vma,
				      unsigned long addr)
{
	return -EINVAL;
}

static const struct vm_operations_struct mock_mem_patched_vm_ops = {
	.open = mock_mem_patched_open,
	.close = mock_mem_patched_close,
	.mremap = mock_mem_patched_mremap,
	.may_split = mock_mem_patched_may_split,
	.fault = mock_mem_patched_fault,
};

static int mock_mem_map_patched(struct vm_area_struct *vma)
{
	struct mock_patched *map;
	int ret;

	if (!patched)
		return -ENOMEM;
	if (!IS_ALIGNED(vma->vm_start, PMD_SIZE) ||
	    vma_pages(vma) != PATCHED_PAGES || MEM_INDEX(vma->vm_pgoff))
		return -EINVAL;
	map = kzalloc(sizeof(*map), GFP_KERNEL);
	if (!map)
		return -ENOMEM;
	ret = mmu_interval_notifier_insert_locked(&map->notifier, vma->vm_mm,
						  vma->vm_start, PMD_SIZE,
						  &mock_mem_patched_ops);
	if (ret) {
		kfree(map);
		return ret;
	}
	vm_flags_set(vma, VM_MIXEDMAP | VM_DONTCOPY | VM_DONTEXPAND |
			  VM_DONTDUMP);
	vma->vm_private_data = map;
	vma->vm_ops = &mock_mem_patched_vm_ops;
	return 0;
}

/**
 * mock_mem_pin_patched() - what GUP would do with PATCHED memory
 * @index: first page
 * @nr: number of pages
 * @pages: out: the pages, each pinned
 *
 * Return: @nr, or -EFAULT.
 */
long mock_mem_pin_patched(unsigned long index, unsigned long nr,
			  struct page **pages)
{
	unsigned long i;

	if (!patched || index >= PATCHED_PAGES || nr > PATCHED_PAGES - index)
		return -EFAULT;
	for (i = 0; i < nr; i++) {
		pages[i] = patched + index + i;
		page_ref_add(pages[i], GUP_PIN_COUNTING_BIAS);
		mod_node_page_state(page_pgdat(pages[i]), NR_FOLL_PIN_ACQUIRED,
				    1);
	}
	return nr;
}

static int mock_mem_insert_pages(struct vm_area_struct *vma,
				 unsigned long index, unsigned long npages)
{
	unsigned long i;
	int ret;

	for (i = 0; i < npages; i++) {
		ret = vm_insert_page(vma, vma->vm_start + (i << PAGE_SHIFT),
				     virt_to_page(ram +
						  ((index + i) << PAGE_SHIFT)));
		if (ret)
			return ret;
	}
	return 0;
}

/**
 * mock_mem_mmap() - mmap() of the control node
 * @file: the control node
 * @vma: what to map; shared mappings only
 *
 * Return: 0 or the errno.
 */
int mock_mem_mmap(struct file *file, struct vm_area_struct *vma)
{
	unsigned long index = MEM_INDEX(vma->vm_pgoff);
	unsigned long npages = vma_pages(vma);

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (MEM_KIND(vma->vm_pgoff) == VFIO_MT_MOCK_MEM_PATCHED)
		return mock_mem_map_patched(vma);
	if (index >= MEM_PAGES || npages > MEM_PAGES - index)
		return -EINVAL;

	switch (MEM_KIND(vma->vm_pgoff)) {
	case VFIO_MT_MOCK_MEM_LAZY:
	case VFIO_MT_MOCK_MEM_UNRESERVED:
		vm_flags_set(vma, VM_PFNMAP | VM_IO | VM_DONTEXPAND |
				  VM_DONTDUMP);
		vma->vm_ops = &mock_mem_vm_ops;
		return 0;
	case VFIO_MT_MOCK_MEM_EAGER:
		return remap_pfn_range(vma, vma->vm_start,
				       PHYS_PFN(virt_to_phys(bar)) + index,
				       npages << PAGE_SHIFT,
				       vma->vm_page_prot);
	case VFIO_MT_MOCK_MEM_PAGES:
		return mock_mem_insert_pages(vma, index, npages);
	default:
		return -EINVAL;
	}
}

/**
 * mock_mem_zap() - remove LAZY memory from all page tables
 * @file: the control node
 * @zap: which part, and whether a fault may bring it back
 */
void mock_mem_zap(struct file *file, const struct vfio_mt_mock_zap *zap)
{
	WRITE_ONCE(bar_disabled, zap->disabled);
	if (zap->size)
		unmap_mapping_range(file->f_mapping, zap->offset, zap->size, 1);
}

/**
 * mock_mem_hold() - have faults on LAZY memory wait, or go on
 * @on: which
 */
void mock_mem_hold(bool on)
{
	WRITE_ONCE(hold, on);
	wake_up_all(&hold_wait);
}

/**
 * mock_mem_held() - how many threads wait in a fault on LAZY memory?
 *
 * Return: the number.
 */
int mock_mem_held(void)
{
	return atomic_read(&held);
}

/**
 * mock_mem_reset() - faults give LAZY memory again, at once
 */
void mock_mem_reset(void)
{
	WRITE_ONCE(bar_disabled, false);
	mock_mem_hold(false);
}

/*
 * The page at an address in PATCHED memory, or NULL. GUP's fast way in 6.12 takes it
 * for secret memory, which are small pages too, and leaves it alone.
 */
static struct page *mock_mem_patched_at(unsigned long vaddr)
{
	struct vm_area_struct *vma;
	struct page *page = NULL;

	mmap_read_lock(current->mm);
	vma = vma_lookup(current->mm, vaddr);
	if (vma && vma->vm_ops == &mock_mem_patched_vm_ops)
		page = patched + ((vaddr - vma->vm_start) >> PAGE_SHIFT);
	if (page)
		get_page(page);
	mmap_read_unlock(current->mm);
	return page;
}

/**
 * mock_mem_page_at() - the page at an address of the caller
 * @vaddr: the address; nothing is faulted in
 *
 * Return: the page with a reference for the caller to put, or NULL.
 */
struct page *mock_mem_page_at(unsigned long vaddr)
{
	struct page *page;

	if (get_user_pages_fast_only(vaddr & PAGE_MASK, 1, 0, &page) != 1)
		return mock_mem_patched_at(vaddr);
	return page;
}

/**
 * mock_mem_pinned_page_at() - likewise, where a page should be pinned
 * @vaddr: the address
 *
 * A page that is pinned stays, but the kernel may try to move it: for a moment its
 * entry in the page table is gone.  Where there is none for good, one is faulted in.
 *
 * Return: the page with a reference for the caller to put, or NULL.
 */
struct page *mock_mem_pinned_page_at(unsigned long vaddr)
{
	struct page *page;

	if (get_user_pages_fast(vaddr & PAGE_MASK, 1, 0, &page) != 1)
		return mock_mem_patched_at(vaddr);
	return page;
}

/* How many references are due to the page cache? */
static int folio_cached(struct folio *folio)
{
	if (folio_test_anon(folio) || folio_test_slab(folio) ||
	    !READ_ONCE(folio->mapping))
		return 0;
	return mock_folio_cache_refs(folio);
}

/*
 * A pin of a small page counts as GUP_PIN_COUNTING_BIAS references; a large
 * folio counts pins apart from references, and a pin is a reference, too. The
 * caller has a reference to @page.
 */
static void mock_mem_fill_state(struct vfio_mt_mock_page *state,
				struct page *page)
{
	struct folio *folio = page_folio(page);
	int refs = folio_ref_count(folio) - 1;

	state->flags |= VFIO_MT_MOCK_PAGE_PRESENT;
	state->pfn = page_to_pfn(page);
	state->order = folio_order(folio);
	if (folio_test_large(folio)) {
		state->flags |= VFIO_MT_MOCK_PAGE_LARGE;
		state->pins = mock_folio_pins(folio);
		state->refs = refs - state->pins;
	} else {
		state->pins = refs / GUP_PIN_COUNTING_BIAS;
		state->refs = refs % GUP_PIN_COUNTING_BIAS;
	}
	state->unexplained = state->refs - mock_folio_mappings(folio) -
			     folio_cached(folio);
	if (PageReserved(page))
		state->flags |= VFIO_MT_MOCK_PAGE_RESERVED;
	if (is_zero_pfn(page_to_pfn(page)))
		state->flags |= VFIO_MT_MOCK_PAGE_ZERO;
	if (PageAnon(page))
		state->flags |= VFIO_MT_MOCK_PAGE_ANON;
	if (PageHWPoison(page))
		state->flags |= VFIO_MT_MOCK_PAGE_POISONED;
	if (folio_cached(folio))
		state->flags |= VFIO_MT_MOCK_PAGE_CACHE;
}

/**
 * mock_mem_page_state() - how often is the page at an address pinned?
 * @state: in: vaddr; out: all the rest
 */
void mock_mem_page_state(struct vfio_mt_mock_page *state)
{
	struct page *page = mock_mem_page_at(state->vaddr);

	*state = (struct vfio_mt_mock_page){ .vaddr = state->vaddr };
	if (!page)
		return;
	mock_mem_fill_state(state, page);
	put_page(page);
}

/**
 * mock_mem_pfn_state() - how often is a page pinned?
 * @state: in: pfn; out: all the rest but vaddr
 */
void mock_mem_pfn_state(struct vfio_mt_mock_page *state)
{
	struct page *page = pfn_to_online_page(state->pfn);
	struct folio *folio;

	*state = (struct vfio_mt_mock_page){ .pfn = state->pfn };
	if (!page)
		return;
	folio = page_folio(page);
	if (!folio_try_get(folio))
		return;
	/* It may have been freed, or split, in the meantime. */
	if (page_folio(page) == folio)
		mock_mem_fill_state(state, page);
	folio_put(folio);
}

/**
 * mock_mem_unpoison() - make a page usable again that a test has poisoned
 * @pfn: the page
 *
 * Return: 0 or the errno.
 */
int mock_mem_unpoison(unsigned long pfn)
{
#ifdef CONFIG_MEMORY_FAILURE
	return unpoison_memory(pfn);
#else
	return -EOPNOTSUPP;
#endif
}

static void mock_mem_reserve(void *mem, bool reserve)
{
	unsigned long i;

	for (i = 0; i < MEM_PAGES; i++) {
		struct page *page = virt_to_page(mem + (i << PAGE_SHIFT));

		if (reserve)
			SetPageReserved(page);
		else
			ClearPageReserved(page);
	}
}

/**
 * mock_mem_init() - allocate the memory
 *
 * Return: 0 or -ENOMEM.
 */
int mock_mem_init(void)
{
	bar = alloc_pages_exact(VFIO_MT_MOCK_MEM_SIZE, GFP_KERNEL | __GFP_ZERO);
	if (!bar)
		return -ENOMEM;
	ram = alloc_pages_exact(VFIO_MT_MOCK_MEM_SIZE, GFP_KERNEL | __GFP_ZERO);
	if (!ram) {
		free_pages_exact(bar, VFIO_MT_MOCK_MEM_SIZE);
		return -ENOMEM;
	}
	mock_mem_reserve(bar, true);
	/* Cases that need it say so if there is no such block any more. */
	patched = alloc_pages(GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN,
			      get_order(VFIO_MT_MOCK_PATCHED_SIZE));
	if (patched)
		split_page(patched, get_order(VFIO_MT_MOCK_PATCHED_SIZE));
	return 0;
}

/**
 * mock_mem_exit() - free the memory
 */
void mock_mem_exit(void)
{
	unsigned long i;

	for (i = 0; patched && i < PATCHED_PAGES; i++)
		__free_page(patched + i);
	mock_mem_reserve(bar, false);
	free_pages_exact(ram, VFIO_MT_MOCK_MEM_SIZE);
	free_pages_exact(bar, VFIO_MT_MOCK_MEM_SIZE);
}
