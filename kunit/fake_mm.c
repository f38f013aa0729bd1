// SPDX-License-Identifier: GPL-2.0-only
/*
 * fake_mm.c - a fake address space, made of areas
 */
#include <linux/hugetlb.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "fake.h"
#include "fake_compat.h"
#include "fake_iommu.h"

/* The unit holds the mmap lock, as the function faked demands. */
static void expect_mmap_lock(struct mm_struct *mm, bool write)
{
	if (!rwsem_is_locked(&mm->mmap_lock))
		fake_complain("the mmap lock is not held");
	if (write)
		lockdep_assert_held_write(&mm->mmap_lock);
	else
		lockdep_assert_held(&mm->mmap_lock);
}

/* ---- areas ---- */

static unsigned long area_end(const struct fake_area *area)
{
	return area->va + (area->nr << PAGE_SHIFT);
}

static struct fake_area *area_find(unsigned long va)
{
	struct fake_mm *mm = &fake->mm;
	unsigned int i;

	for (i = 0; i < mm->nr_areas; i++)
		if (va >= mm->areas[i].va && va < area_end(&mm->areas[i]))
			return &mm->areas[i];
	return NULL;
}

static struct fake_area *area_find_pfn(unsigned long pfn)
{
	struct fake_mm *mm = &fake->mm;
	unsigned int i;

	for (i = 0; i < mm->nr_areas; i++)
		if (pfn >= mm->areas[i].pfn &&
		    pfn < mm->areas[i].pfn + mm->areas[i].nr)
			return &mm->areas[i];
	return NULL;
}

static unsigned long area_pfn(const struct fake_area *area, unsigned long va)
{
	unsigned long idx = (va - area->va) >> PAGE_SHIFT;

	if (area->flags & FAKE_ZERO)
		return FAKE_PFN_ZERO;
	if (area->flags & FAKE_SCATTERED)
		idx = area->nr - 1 - idx;
	return area->pfn + idx;
}

/**
 * fake_mm_pfn - tell which page is at an address
 * @va: the address
 *
 * Return: its pfn, or 0 if there is none.
 */
unsigned long fake_mm_pfn(unsigned long va)
{
	struct fake_area *area = area_find(va);

	return area ? area_pfn(area, va) : 0;
}

/* ---- page tables ---- */

/* The table that an entry points to; a new one if it points nowhere. */
static void *table_get(unsigned long *entry)
{
	struct page *page;

	if (!*entry) {
		page = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!page)
			return NULL;
		list_add(&page->lru, &fake->mm.tables);
		*entry = page_to_phys(page) | _PAGE_TABLE;
	}
	return __va(*entry & PTE_PFN_MASK);
}

static unsigned long leaf_entry(const struct fake_area *area, unsigned long va)
{
	bool ro = area->flags & (FAKE_RO | FAKE_LEAF_RO);

	return (unsigned long)PFN_PHYS(area_pfn(area, va) + area->skew) |
	       _PAGE_PRESENT | _PAGE_USER | _PAGE_PSE |
	       (ro ? 0 : _PAGE_RW) |
	       (area->flags & FAKE_DEVMAP ? FAKE_PAGE_DEVICE : 0);
}

/* Has the leaf around @va been faulted in? */
static bool area_is_present(unsigned long va)
{
	unsigned long entry = ((unsigned long *)fake->mm.mm->pgd)[pgd_index(va)];

	if (entry)
		entry = ((unsigned long *)table_get(&entry))[pud_index(va)];
	if (entry && !(entry & _PAGE_PSE))
		entry = ((unsigned long *)table_get(&entry))[pmd_index(va)];
	return entry;
}

/* What a page fault does for the leaf around @va. */
static int area_populate(const struct fake_area *area, unsigned long va)
{
	unsigned long *table = (unsigned long *)fake->mm.mm->pgd, *entry;

	table = table_get(&table[pgd_index(va)]);
	if (!table)
		return -ENOMEM;
	entry = &table[pud_index(va)];
	if (area->leaf == PIN_LEAF_PUD) {
		*entry = leaf_entry(area, va & PUD_MASK);
		return 0;
	}
	table = table_get(entry);
	if (!table)
		return -ENOMEM;
	entry = &table[pmd_index(va)];
	if (area->leaf == PIN_LEAF_PMD)
		*entry = leaf_entry(area, va & PMD_MASK);
	else if (!table_get(entry))
		return -ENOMEM;
	return 0;
}

static int area_populate_all(const struct fake_area *area)
{
	unsigned long step = area->leaf == PIN_LEAF_PUD ? PUD_SIZE : PMD_SIZE;
	unsigned long va;
	int ret = 0;

	for (va = area->va & ~(step - 1); va < area_end(area) && !ret;
	     va += step)
		ret = area_populate(area, max(va, area->va));
	return ret;
}

/**
 * fake_mm_setup - say what is in the address space
 * @areas: the areas, in order of address
 * @nr: how many
 */
void fake_mm_setup(const struct fake_area *areas, unsigned int nr)
{
	struct fake_mm *mm = &fake->mm;
	unsigned int i, flags;

	KUNIT_ASSERT_LE(fake->test, nr, FAKE_AREAS);
	for (i = 0; i < nr && areas[i].nr; i++) {
		flags = areas[i].flags;
		mm->areas[i] = areas[i];
		mm->vmas[i].vm_mm = mm->mm;
		mm->vmas[i].vm_start = areas[i].va;
		mm->vmas[i].vm_end = area_end(&areas[i]);
		vm_flags_init(&mm->vmas[i],
			      (flags & (FAKE_PFNMAP | FAKE_PFNMAP_PAGES) ?
			       VM_PFNMAP : 0) |
			      (flags & FAKE_HUGETLB ? VM_HUGETLB : 0));
		if (!(flags & FAKE_COLD))
			KUNIT_ASSERT_EQ(fake->test, 0,
					area_populate_all(&areas[i]));
	}
	mm->nr_areas = i;
}

/* ---- pins ---- */

static unsigned long folio_head(unsigned long pfn)
{
	struct fake_area *area = area_find_pfn(pfn);

	return area ? pfn & ~((1UL << area->order) - 1) : pfn;
}

static unsigned long folio_pages(unsigned long pfn)
{
	struct fake_area *area = area_find_pfn(pfn);

	return area ? 1UL << area->order : 1;
}

/* What is counted of the folio of a page */
static unsigned long folio_count(struct xarray *counts, unsigned long pfn)
{
	void *entry = xa_load(counts, folio_head(pfn));

	return entry ? xa_to_value(entry) : 0;
}

static void folio_count_set(struct xarray *counts, unsigned long pfn,
			    unsigned long count)
{
	lockdep_assert_held(&fake->lock);
	if (count)
		xa_store(counts, folio_head(pfn), xa_mk_value(count),
			 GFP_KERNEL);
	else
		xa_erase(counts, folio_head(pfn));
}

static void pins_change(unsigned long pfn, long change)
{
	struct fake_mm *mm = &fake->mm;
	unsigned long pins = folio_count(&mm->pins, pfn);

	lockdep_assert_held(&fake->lock);
	if (!pins && change < 0) {
		fake_complain("pfn %lx is unpinned too often",
			      pfn - FAKE_PFN_BASE);
		return;
	}
	pins += change;
	mm->nr_pins += change;
	folio_count_set(&mm->pins, pfn, pins);
	if (!pins && mm->gone && !folio_count(&mm->refs, pfn))
		mm->freed++;
	if (!pins && fake_iommu_reaches(folio_head(pfn), folio_pages(pfn)))
		fake_complain("pfn %lx is unpinned while a device reaches it",
			      pfn - FAKE_PFN_BASE);
}

/**
 * fake_mm_pin - pin a page, for a unit that is given pinned pages
 * @pfn: the page
 */
void fake_mm_pin(unsigned long pfn)
{
	fake_lock();
	pins_change(pfn, 1);
	fake_unlock();
}

/**
 * fake_mm_pins - tell how often the folio of a page is pinned
 * @pfn: the page
 *
 * Return: how often.
 */
unsigned long fake_mm_pins(unsigned long pfn)
{
	return folio_count(&fake->mm.pins, pfn);
}

/* Is pinning at @va to fail? */
static bool pin_fails(struct fake_mm *mm, unsigned long va)
{
	unsigned long nr = max(mm->fail_nr, 1UL);

	if (!mm->fail_error || !mm->fail_times || va < mm->fail_va ||
	    va - mm->fail_va >= nr << PAGE_SHIFT)
		return false;
	if (mm->fail_times > 0)
		mm->fail_times--;
	return true;
}

/* Pin one page for user space. */
static int pin_one(unsigned long va, unsigned int flags, bool fast,
		   struct page **page)
{
	struct fake_mm *mm = &fake->mm;
	struct fake_area *area;
	unsigned long pfn;
	int ret;

	if (pin_fails(mm, va))
		return mm->fail_error;
	area = area_find(va);
	if (!area || area->flags & (FAKE_PFNMAP | FAKE_PFNMAP_PAGES) ||
	    (area->flags & FAKE_RO && flags & FOLL_WRITE) ||
	    (area->flags & FAKE_SLOW && fast))
		return -EFAULT;
	ret = area_populate(area, va);
	if (ret)
		return ret;
	pfn = area_pfn(area, va);
	pins_change(pfn, 1);
	*page = pfn_to_page(pfn);
	return 0;
}

static long pin_many(unsigned long va, unsigned long nr, unsigned int flags,
		     bool fast, struct page **pages)
{
	struct fake_mm *mm = &fake->mm;
	unsigned long i;
	int ret = 0;

	if (!(flags & FOLL_LONGTERM))
		fake_complain("memory is pinned for a short time only");
	if (mm->gup_max)
		nr = min(nr, mm->gup_max);
	fake_lock();
	mm->gup_calls++;
	mm->slow_calls += !fast;
	for (i = 0; i < nr && !ret; i += !ret, va += PAGE_SIZE) {
		if (mm->on_pin) {
			fake_unlock();
			mm->on_pin(mm->on_pin_arg, va);
			fake_lock();
		}
		ret = pin_one(va, flags, fast, &pages[i]);
	}
	fake_unlock();
	if (!i && mm->fail_silent)
		return 0;
	return i ? i : ret;
}

/* Without @fault, up to what would have to be faulted in. */
long fake_pin_fast(unsigned long va, int nr, unsigned int flags,
		   struct page **pages, bool fault)
{
	int there = 0;

	if (fake_current() != fake->mm.task)
		fake_complain("fast pinning by a thread that does not run on the mm");
	if (!(flags & FOLL_WRITE))
		fake_complain("fast pinning of what devices only read");
	if (fault)
		return pin_many(va, nr, flags, true, pages);
	while (there < nr && area_is_present(va + there * PAGE_SIZE))
		there++;
	return there ? pin_many(va, there, flags, true, pages) : 0;
}

long fake_pin_user_pages_remote(struct mm_struct *mm, unsigned long va,
				unsigned long nr, unsigned int flags,
				struct page **pages, int *locked)
{
	expect_mmap_lock(mm, false);
	return pin_many(va, nr, flags, false, pages);
}

void fake_unpin_user_page(struct page *page)
{
	fake_lock();
	pins_change(page_to_pfn(page), -1);
	fake_unlock();
}

void fake_unpin_user_pages_dirty_lock(struct page **pages, unsigned long nr,
				      bool dirty)
{
	unsigned long i;

	fake_lock();
	for (i = 0; i < nr; i++)
		pins_change(page_to_pfn(pages[i]), -1);
	fake->mm.dirtied += dirty ? nr : 0;
	fake_unlock();
}

void fake_unpin_user_page_range_dirty_lock(struct page *page, unsigned long nr,
					   bool dirty)
{
	unsigned long i;

	fake_lock();
	for (i = 0; i < nr; i++)
		pins_change(page_to_pfn(page) + i, -1);
	fake->mm.dirtied += dirty ? nr : 0;
	fake_unlock();
}

/* ---- ordinary references ---- */

/* That of a page in the middle of a folio is 0. */
int fake_page_ref_count(struct page *page)
{
	unsigned long pfn = page_to_pfn(page), pins = fake_mm_pins(pfn);

	if (folio_head(pfn) != pfn)
		return 0;
	if (folio_pages(pfn) == 1)
		pins *= GUP_PIN_COUNTING_BIAS;
	return pins + folio_count(&fake->mm.refs, pfn) + !fake->mm.gone;
}

bool fake_page_compound(struct page *page)
{
	return folio_pages(page_to_pfn(page)) > 1;
}

static void refs_change(unsigned long pfn, long change)
{
	struct fake_mm *mm = &fake->mm;
	unsigned long refs = folio_count(&mm->refs, pfn);

	lockdep_assert_held(&fake->lock);
	if (!refs && change < 0) {
		fake_complain("pfn %lx is released too often",
			      pfn - FAKE_PFN_BASE);
		return;
	}
	mm->nr_refs += change;
	folio_count_set(&mm->refs, pfn, refs + change);
}

void fake_get_page(struct page *page)
{
	unsigned long pfn = page_to_pfn(page);

	fake_lock();
	if (!fake_mm_pins(pfn))
		fake_complain("a reference to pfn %lx, which may be free",
			      pfn - FAKE_PFN_BASE);
	refs_change(pfn, 1);
	fake_unlock();
}

void fake_release_pages(struct page **pages, int nr)
{
	int i;

	fake_lock();
	fake->mm.releases++;
	for (i = 0; i < nr; i++)
		refs_change(page_to_pfn(pages[i]), -1);
	fake_unlock();
}

/* ---- what a struct page tells ---- */

bool fake_pfn_valid(unsigned long pfn)
{
	struct fake_area *area = area_find_pfn(pfn);

	return pfn == FAKE_PFN_ZERO || (area && !(area->flags & FAKE_PFNMAP));
}

bool fake_page_reserved(struct page *page)
{
	unsigned long pfn = page_to_pfn(page);
	struct fake_area *area = area_find_pfn(pfn);

	return pfn == FAKE_PFN_ZERO || (area && area->flags & FAKE_RESERVED);
}

struct folio *fake_page_folio(struct page *page)
{
	return (struct folio *)pfn_to_page(folio_head(page_to_pfn(page)));
}

long fake_folio_nr_pages(struct folio *folio)
{
	return folio_pages(page_to_pfn(&folio->page));
}

/* ---- areas without pages to pin ---- */

struct vm_area_struct *fake_vma_lookup(struct mm_struct *mm, unsigned long va)
{
	struct fake_area *area = area_find(va);

	expect_mmap_lock(mm, false);
	return area ? &fake->mm.vmas[area - fake->mm.areas] : NULL;
}

/* The first one that has any of [@va, @end). */
struct vm_area_struct *fake_vma_find(unsigned long va, unsigned long end)
{
	struct fake_mm *mm = &fake->mm;
	unsigned int i;

	expect_mmap_lock(mm->mm, false);
	for (i = 0; i < mm->nr_areas; i++)
		if (mm->vmas[i].vm_end > va && mm->vmas[i].vm_start < end)
			return &mm->vmas[i];
	return NULL;
}

struct hstate *fake_hstate_vma(struct vm_area_struct *vma)
{
	fake->mm.hstate->order = fake->mm.areas[vma - fake->mm.vmas].order;
	return fake->mm.hstate;
}

int fake_follow_pfnmap_start(struct follow_pfnmap_args *args)
{
	struct fake_area *area = &fake->mm.areas[args->vma - fake->mm.vmas];

	expect_mmap_lock(args->vma->vm_mm, false);
	if (area->flags & FAKE_COLD)
		return -EINVAL;
	args->pfn = area_pfn(area, args->address);
	args->writable = !(area->flags & (FAKE_RO | FAKE_LEAF_RO));
	return 0;
}

void fake_follow_pfnmap_end(struct follow_pfnmap_args *args)
{
}

unsigned long fake_pfnmap_mask(const struct follow_pfnmap_args *args)
{
	switch (fake->mm.areas[args->vma - fake->mm.vmas].leaf) {
	case PIN_LEAF_PMD:
		return PMD_MASK;
	case PIN_LEAF_PUD:
		return PUD_MASK;
	default:
		return PAGE_MASK;
	}
}

int fake_fixup_user_fault(struct mm_struct *mm, unsigned long va,
			  unsigned int flags, bool *unlocked)
{
	struct fake_area *area = area_find(va);

	expect_mmap_lock(mm, false);
	if (fake->mm.fail_error && va == fake->mm.fail_va)
		return fake->mm.fail_error;
	if (area->flags & FAKE_UNLOCKS) {
		area->flags &= ~FAKE_UNLOCKS;
		*unlocked = true;
	}
	area->flags &= ~FAKE_COLD;
	return 0;
}

/* ---- locked memory ---- */

int fake_account_locked_vm(struct mm_struct *mm, unsigned long nr, bool inc,
			   struct task_struct *task, bool bypass)
{
	struct fake_mm *fm = &fake->mm;
	int ret = 0;

	expect_mmap_lock(mm, true);
	fake_lock();
	if (mm != fm->mm) {
		/* Of another one, it is only of interest that all is undone. */
		mm->locked_vm += inc ? nr : -nr;
		goto unlock;
	}
	fm->account_calls++;
	if (!inc) {
		if (nr > fm->locked)
			fake_complain("%lu pages are uncharged, %lu are charged",
				      nr, fm->locked);
		fm->locked -= min(nr, fm->locked);
	} else if (fm->refusals) {
		fm->refusals--;
		fm->refused++;
		ret = -ENOMEM;
	} else if (!bypass && fm->locked + nr > fm->limit) {
		fm->refused++;
		ret = -ENOMEM;
	} else {
		fm->locked += nr;
		fm->highest = max(fm->highest, fm->locked);
	}
unlock:
	fake_unlock();
	return ret;
}

int fake_mmap_write_lock_killable(struct mm_struct *mm)
{
	if (fake->killed)
		return -EINTR;
	mmap_write_lock(mm);
	return 0;
}

/* ---- threads ---- */

void fake_mm_enter(void)
{
	struct fake_mm *mm = &fake->mm;
	unsigned int i;

	for (i = 0; i < FAKE_THREADS; i++)
		if (!cmpxchg(&mm->threads[i], NULL, get_current()))
			return;
	fake_complain("too many threads run on the mm");
}

void fake_mm_leave(void)
{
	struct fake_mm *mm = &fake->mm;
	unsigned int i;

	for (i = 0; i < FAKE_THREADS; i++) {
		if (READ_ONCE(mm->threads[i]) == get_current()) {
			WRITE_ONCE(mm->threads[i], NULL);
			return;
		}
	}
	fake_complain("a thread leaves an mm that it does not run on");
}

void fake_kthread_use_mm(struct mm_struct *mm)
{
	if (mm != fake->mm.mm || fake_current() == fake->mm.task)
		fake_complain("kthread_use_mm() of a thread that has an mm");
	fake_mm_enter();
}

void fake_kthread_unuse_mm(struct mm_struct *mm)
{
	fake_mm_leave();
}

/* "current", for all that a unit asks it for. */
struct task_struct *fake_current(void)
{
	struct fake_mm *mm = &fake->mm;
	unsigned int i;

	for (i = 0; i < FAKE_THREADS; i++)
		if (READ_ONCE(mm->threads[i]) == get_current())
			return mm->task;
	return get_current();
}

bool fake_fatal_signal_pending(struct task_struct *task)
{
	if (task == fake->mm.task)
		task = get_current();
	return fatal_signal_pending(task);
}

/* ---- the whole ---- */

int fake_mm_init(struct fake_mm *mm)
{
	INIT_LIST_HEAD(&mm->tables);
	xa_init(&mm->pins);
	xa_init(&mm->refs);
	mm->limit = ULONG_MAX;
	mm->fail_times = -1;
	mm->hstate = kzalloc(sizeof(*mm->hstate), GFP_KERNEL);
	mm->task = kzalloc(sizeof(*mm->task), GFP_KERNEL);
	mm->mm = kzalloc(sizeof(*mm->mm) + cpumask_size(), GFP_KERNEL);
	if (!mm->hstate || !mm->task || !mm->mm)
		return -ENOMEM;
	init_rwsem(&mm->mm->mmap_lock);
	atomic_set(&mm->mm->mm_users, 1);
	atomic_set(&mm->mm->mm_count, 1);
	mm->mm->pgd = (pgd_t *)get_zeroed_page(GFP_KERNEL);
	mm->task->mm = mm->mm;
	return mm->mm->pgd ? 0 : -ENOMEM;
}

void fake_mm_exit(struct fake_mm *mm)
{
	struct page *page, *next;
	unsigned long head;
	void *entry;

	xa_for_each(&mm->pins, head, entry)
		fake_complain("pfn %lx is still pinned, %lu times",
			      head - FAKE_PFN_BASE, xa_to_value(entry));
	if (mm->nr_refs)
		fake_complain("%lu references are left", mm->nr_refs);
	if (mm->locked)
		fake_complain("%lu pages are still charged", mm->locked);
	if (rwsem_is_locked(&mm->mm->mmap_lock))
		fake_complain("the mmap lock is still held");

	xa_destroy(&mm->pins);
	xa_destroy(&mm->refs);
	list_for_each_entry_safe(page, next, &mm->tables, lru)
		__free_page(page);
	free_page((unsigned long)mm->mm->pgd);
	kfree(mm->mm);
	kfree(mm->task);
	kfree(mm->hstate);
}
