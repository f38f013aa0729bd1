// SPDX-License-Identifier: GPL-2.0-only
/*
 * pin_chunk.c - pin a chunk of user memory, leaf by leaf where possible
 *
 * Pinning yields runs (pin_record.h) in order of address, a batch at a time.
 * The caller charges a batch, records it, maps it, and asks for the next.
 *
 * One pin for a huge leaf
 * -----------------------
 * The classic way takes a reference for every base page. Where a PMD or a PUD
 * maps the memory, one reference is enough, if three things hold:
 *
 *  1. The leaf's pages are one folio (THP, hugetlb, a large page of shmem) from
 *     the first to the last. A folio has a single reference count and a single
 *     pin count: with one of its pages pinned, none of them can be freed,
 *     migrated, reclaimed or swapped, and the folio cannot be split.
 *  2. The page tables map the whole leaf at this address. A large folio alone
 *     proves nothing: mapped by PTEs, it may be here in part only, at another
 *     offset, or mixed with other pages.
 *  3. What the pin of one page established holds for all its pages: they may
 *     be written if that was asked for, and an anonymous folio is exclusive to
 *     this mm, so that no write here will ever copy a page away from what the
 *     device sees. Both are properties of the PMD or PUD and of the folio's
 *     head page as long as one leaf maps it. After the pin, fork() copies
 *     instead of sharing, because the pin count it looks at is the folio's,
 *     even when it has to split the leaf to do so.
 *
 * So: pin one of the leaf's pages, and only then look at the page tables. The
 * order matters. The pinned page cannot become another page, so if the leaf
 * found maps that page there, the mm maps exactly this folio here, now, and this
 * moment serves as the one at which all pages were pinned together. Before the
 * pin, the same look would prove nothing about what gets pinned later. The
 * leaf must allow the access asked for. What fails any of this is pinned page
 * by page, and so are device memory and reserved pages. (The huge zero page is a
 * folio like others, which nobody may write to.)
 *
 * What user space does to the address afterwards (munmap, MADV_DONTNEED, hole
 * punching, mremap, mprotect, fork) is as harmless, or as much its own fault,
 * as it is with one reference a page: the device keeps seeing the pinned pages.
 *
 * The look at the page tables takes no lock. As for GUP-fast, interrupts are off
 * on a CPU that runs the mm: page tables are freed only after that CPU has
 * answered an interrupt, or after an RCU grace period. Each entry is read once.
 * A thread that does not run on the mm therefore pins page by page.
 *
 * Fast and slow
 * -------------
 * A thread that runs on the mm, its own or borrowed with kthread_use_mm(), can
 * pin populated memory without the mmap lock. Whatever that refuses goes through
 * pin_user_pages_remote(), whose answer is the one that counts: it checks access
 * as for a stranger, as VFIO always did, without regard to the protection keys
 * of the thread that happens to do the work. Memory that devices will only read
 * always goes there: what page tables let a CPU read, the area need not (PROT_WRITE
 * alone), and VFIO never let devices read that.
 *
 * Memory from hugetlb's pools is charged to the thread that faults it in. One that is
 * not in the caller's group (pc->no_pool) faults in nothing without a look at what it
 * is, under the mmap lock that it faults with.
 *
 * Context: process context, may sleep for long: faults read files, wait for
 *    userfaultfd, reclaim memory.
 * Locking: takes the mmap lock of @mm for reading. The caller keeps @mm's users
 *    count elevated. A struct pin_chunk belongs to one thread.
 */
#include <linux/hugetlb_inline.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "include/compat.h"
#include "include/pin_chunk.h"

/* A PUD, if a huge leaf of ordinary memory that allows the access. */
static bool pud_is_leaf(pud_t pud, bool write)
{
	return pud_leaf(pud) && (!write || pud_write(pud)) &&
	       !compat_pud_is_device(pud);
}

/* Likewise for a PMD. */
static bool pmd_is_leaf(pmd_t pmd, bool write)
{
	return pmd_present(pmd) && pmd_leaf(pmd) && (!write || pmd_write(pmd)) &&
	       !compat_pmd_is_device(pmd);
}

/*
 * Look up what maps @max spans from @va on, all under one PUD. @va is untagged,
 * interrupts are off, and the caller runs on @mm.
 */
static unsigned int pin_leaves_walk(struct mm_struct *mm, unsigned long va,
				    bool write, unsigned int max,
				    unsigned long *pfns, enum pin_leaf *leaf)
{
	unsigned long offset;
	unsigned int i;
	pgd_t pgd;
	p4d_t p4d;
	pud_t pud;
	pmd_t pmd = { }, *pmdp;

	*leaf = PIN_LEAF_NONE;
	pgd = READ_ONCE(*pgd_offset(mm, va));
	if (pgd_none(pgd) || !pgd_present(pgd))
		return 0;
	p4d = READ_ONCE(*p4d_offset(&pgd, va));
	if (p4d_none(p4d) || !p4d_present(p4d))
		return 0;
	pud = READ_ONCE(*pud_offset(&p4d, va));
	if (pud_none(pud))
		return 0;

	*leaf = PIN_LEAF_PTE;
	if (!pud_present(pud))
		return 0;
	if (pud_leaf(pud)) {
		if (!pud_is_leaf(pud, write))
			return 0;
		for (i = 0; i < max; i++, va += PIN_SPAN_SIZE)
			pfns[i] = pud_pfn(pud) +
				  ((va & ~PUD_MASK) >> PAGE_SHIFT);
		*leaf = PIN_LEAF_PUD;
		return max;
	}

	pmdp = pmd_offset(&pud, va);
	offset = (va & ~PMD_MASK) >> PAGE_SHIFT;
	for (i = 0; i < max; i++) {
		pmd = READ_ONCE(pmdp[i]);
		if (!pmd_is_leaf(pmd, write))
			break;
		pfns[i] = pmd_pfn(pmd) + offset;
	}
	if (i)
		*leaf = PIN_LEAF_PMD;
	else if (pmd_none(pmd))
		*leaf = PIN_LEAF_NONE;
	return i;
}

/* pin_leaf_at() for @max spans; returns for how many the first's answer holds. */
static unsigned int pin_leaves_at(struct mm_struct *mm, unsigned long va,
				  bool write, unsigned int max,
				  unsigned long *pfns, enum pin_leaf *leaf)
{
	unsigned long flags;
	unsigned int nr;

	*leaf = PIN_LEAF_PTE;
	/* As GUP does. What access_ok() lets pass depends on the release. */
	va = untagged_addr(va);
	if (current->mm != mm || va >= TASK_SIZE_MAX)
		return 0;
	local_irq_save(flags);
	nr = pin_leaves_walk(mm, va, write, max, pfns, leaf);
	local_irq_restore(flags);
	return nr;
}

/**
 * pin_leaf_at - look up what maps an address
 * @mm: the address space; its users count is elevated
 * @va: an address in it
 * @write: the leaf must allow writing
 * @pfn: set to the pfn that a huge leaf maps @va to
 *
 * Context: Any. Takes no lock: the answer may be outdated when it arrives.
 * Return: %PIN_LEAF_PMD or %PIN_LEAF_PUD for a huge leaf of ordinary memory
 *    that allows the access, %PIN_LEAF_NONE where nothing is mapped and no page
 *    table exists, %PIN_LEAF_PTE for all else, and always if the caller does
 *    not run on @mm.
 */
enum pin_leaf pin_leaf_at(struct mm_struct *mm, unsigned long va, bool write,
			  unsigned long *pfn)
{
	enum pin_leaf leaf;

	pin_leaves_at(mm, va, write, 1, pfn, &leaf);
	return leaf;
}

/*
 * How many of @nr pages may be faulted in where none may come from a pool? The mmap lock
 * is held: until it is dropped, the answer stays true.
 */
static unsigned long pin_no_pool(struct mm_struct *mm, unsigned long va,
				 unsigned long nr)
{
	struct vm_area_struct *vma;

	va = untagged_addr_remote(mm, va);
	vma = vma_lookup(mm, va);
	/* A stack may grow to there, and have a pool's memory behind it. */
	if (!vma)
		return 1;
	if (is_vm_hugetlb_page(vma))
		return 0;
	return min(nr, (vma->vm_end - va) >> PAGE_SHIFT);
}

/*
 * Pin up to @nr pages. Returns how many, at least one, or an error, which is -EAGAIN
 * where pc->no_pool forbids it; the pages are zero pages too, with a reference.
 */
static long pin_pages(const struct pin_chunk *pc, unsigned long va,
		      unsigned long nr, struct page **pages)
{
	unsigned int flags = FOLL_LONGTERM | (pc->write ? FOLL_WRITE : 0);
	struct mm_struct *mm = pc->mm;
	long ret;

	if (current->mm == mm && pc->write) {
		ret = compat_pin_fast(va, nr, flags, pages, !pc->no_pool);
		if (ret > 0 || ret == -EINTR)
			return ret;
	}

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	if (pc->no_pool)
		nr = pin_no_pool(mm, va, nr);
	ret = nr ? pin_user_pages_remote(mm, va, nr, flags, pages, NULL) :
		   -EAGAIN;
	mmap_read_unlock(mm);
	return ret ? ret : -EFAULT;
}

/*
 * VFIO never holds a reference on reserved pages and pfns without a page, nor
 * counts them as locked. Is that all there is? Pages begin and end with a
 * subsection.
 */
static bool pfns_are_unheld(unsigned long pfn, unsigned long nr)
{
	unsigned long end = pfn + nr;

	while (pfn < end) {
		if (IS_ALIGNED(pfn, PAGES_PER_SUBSECTION))
			cond_resched();
		if (!pfn_valid(pfn))
			pfn = ALIGN(pfn + 1, PAGES_PER_SUBSECTION);
		else if (PageReserved(pfn_to_page(pfn)))
			pfn++;
		else
			return false;
	}
	return true;
}

/*
 * The pfns behind an address of a VM_PFNMAP area and those that the same entry of
 * the page table maps after it, faulted in if need be; at most @run->nr, which is
 * set to how many. The mmap lock is held; it may be dropped and taken again, then
 * -EAGAIN.
 */
static int pfnmap_find(struct vm_area_struct *vma, unsigned long va, bool write,
		       struct pin_run *run)
{
	struct follow_pfnmap_args args = { .vma = vma, .address = va };
	unsigned int flags = FAULT_FLAG_REMOTE |
			     (write ? FAULT_FLAG_WRITE : 0);
	bool unlocked = false;
	unsigned long last;
	int ret;

	ret = follow_pfnmap_start(&args);
	if (ret) {
		ret = fixup_user_fault(vma->vm_mm, va, flags, &unlocked);
		if (unlocked)
			return -EAGAIN;
		if (ret)
			return ret;
		ret = follow_pfnmap_start(&args);
		if (ret)
			return ret;
	}

	if (write && !args.writable)
		ret = -EFAULT;
	run->pfn = args.pfn;
	/* A PUD may reach across the end of an area that was split. */
	last = min(va | ~compat_pfnmap_mask(&args), vma->vm_end - 1);
	follow_pfnmap_end(&args);

	run->nr = min_t(unsigned long, run->nr, ((last - va) >> PAGE_SHIFT) + 1);
	/* A page that others may free must not be mapped without a pin. */
	if (!ret && !pfns_are_unheld(run->pfn, run->nr))
		ret = -EFAULT;
	return ret;
}

/*
 * Find one run of pfns at @va in a VM_PFNMAP area: @nr if there are so many, and
 * up to @max if the last entry of the page table says so. @gup_error is what
 * ordinary pinning said, and is passed on where this is no such area.
 */
static int pin_pfnmap(struct mm_struct *mm, unsigned long va, unsigned long nr,
		      unsigned long max, bool write, int gup_error,
		      struct pin_run *run)
{
	struct vm_area_struct *vma;
	struct pin_run piece;
	unsigned long addr;
	int ret = gup_error;

	run->nr = 0;
	run->leaf = PIN_LEAF_PTE;
	run->held = false;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	addr = untagged_addr_remote(mm, va);
	while (run->nr < nr) {
		vma = vma_lookup(mm, addr);
		if (!vma || !(vma->vm_flags & VM_PFNMAP))
			break;
		piece.nr = max - run->nr;
		ret = pfnmap_find(vma, addr, write, &piece);
		if (ret == -EAGAIN && !fatal_signal_pending(current)) {
			ret = gup_error;
			continue;
		}
		if (ret == -EAGAIN)
			ret = -EINTR;
		if (ret || (run->nr && piece.pfn != run->pfn + run->nr))
			break;
		if (!run->nr)
			run->pfn = piece.pfn;
		run->nr += piece.nr;
		addr += (unsigned long)piece.nr << PAGE_SHIFT;
	}
	mmap_read_unlock(mm);
	/* What stopped it behind a first page shows again at the next call. */
	return run->nr ? 0 : ret;
}

static bool pin_chunk_stopped(const struct pin_chunk *pc)
{
	return (pc->stop && READ_ONCE(*pc->stop)) ||
	       fatal_signal_pending(current);
}

/* Extend the last run of this span, or begin another. */
static void pin_chunk_add(struct pin_chunk *pc, unsigned int first_run,
			  unsigned long pfn, unsigned long nr, bool held)
{
	struct pin_run *run = pc->runs + pc->nr_runs;

	pc->nr_pages += nr;
	if (pc->nr_runs > first_run && run[-1].pfn + run[-1].nr == pfn &&
	    run[-1].held == held) {
		run[-1].nr += nr;
		return;
	}
	*run = (struct pin_run){ pfn, nr, PIN_LEAF_PTE, held };
	pc->nr_runs++;
}

/* Add ordinary pages that follow each other. */
static void pin_chunk_add_plain(struct pin_chunk *pc, unsigned int first_run,
				unsigned long pfn, unsigned long nr)
{
	if (!nr)
		return;
	pc->nr_account += nr;
	pin_chunk_add(pc, first_run, pfn, nr, true);
}

/* Add a pinned page that is not ordinary. */
static void pin_chunk_add_odd(struct pin_chunk *pc, unsigned int first_run,
			      struct page *page)
{
	unsigned long pfn = page_to_pfn(page);
	bool zero = is_zero_pfn(pfn);

	/* It is always there; a reference to it is never kept. */
	if (zero) {
		unpin_user_page(page);
		pc->count.unheld++;
	}
	if (!PageReserved(page))
		pc->nr_account++;
	pin_chunk_add(pc, first_run, pfn, 1, !zero);
}

/* Turn pinned pages into runs. */
static void pin_chunk_add_pages(struct pin_chunk *pc, unsigned int first_run,
				unsigned long nr)
{
	unsigned long first = 0, plain = 0, pfn, i;
	struct page *page;
	bool odd;

	for (i = 0; i < nr; i++) {
		page = pc->pages[i];
		pfn = page_to_pfn(page);
		odd = PageReserved(page) || is_zero_pfn(pfn);
		if (likely(pfn == first + plain && plain && !odd)) {
			plain++;
			continue;
		}
		pin_chunk_add_plain(pc, first_run, first, plain);
		first = pfn;
		plain = !odd;
		if (odd)
			pin_chunk_add_odd(pc, first_run, page);
	}
	pin_chunk_add_plain(pc, first_run, first, plain);
}

/* Drop the runs from @first_run on, which end at pc->va and begin at @va. */
static void pin_chunk_drop_from(struct pin_chunk *pc, unsigned int first_run,
				unsigned long va)
{
	while (pc->nr_runs > first_run) {
		struct pin_run *run = &pc->runs[--pc->nr_runs];

		pin_run_unpin(run, pc->write);
		pc->nr_pages -= run->nr;
	}
	pc->pfns.nr = 0;
	pc->va = va;
}

/* How many pages of the current span the chunk has. */
static unsigned long pin_chunk_span_pages(const struct pin_chunk *pc)
{
	unsigned long va = pc->va;

	return min((va & PIN_SPAN_MASK) + PIN_SPAN_SIZE - va, pc->end - va) >>
	       PAGE_SHIFT;
}

/*
 * What ordinary pinning refuses at pc->va, with an error, may be pfns that are
 * mapped without a pin. One entry may map many spans of them: those behind the
 * first one are not asked for again.
 */
static int pin_chunk_find_pfns(struct pin_chunk *pc, unsigned long nr, int error)
{
	unsigned long max = min_t(unsigned long, PIN_PUD_PAGES,
				  (pc->end - pc->va) >> PAGE_SHIFT);

	return pin_pfnmap(pc->mm, pc->va, nr, max, pc->write, error,
			  &pc->pfns);
}

/* Add pfns that are known to follow, at most @nr. */
static unsigned long pin_chunk_add_pfns(struct pin_chunk *pc,
					unsigned int first_run,
					unsigned long nr)
{
	nr = min_t(unsigned long, nr, pc->pfns.nr);
	pin_chunk_add(pc, first_run, pc->pfns.pfn, nr, false);
	pc->count.unheld += nr;
	pc->pfns.pfn += nr;
	pc->pfns.nr -= nr;
	return nr;
}

/*
 * Pin the next of at most @nr pages of a span, or find pfns that need no pin.
 * Returns how many, or an error.
 */
static long pin_chunk_some(struct pin_chunk *pc, unsigned int first_run,
			   unsigned long nr)
{
	long ret;

	if (!pc->pfns.nr) {
		ret = pin_pages(pc, pc->va,
				min_t(unsigned long, nr, pc->max_pages),
				pc->pages);
		if (ret > 0) {
			pin_chunk_add_pages(pc, first_run, ret);
			return ret;
		}
		ret = pin_chunk_find_pfns(pc, nr, ret);
		if (ret)
			return ret;
	}
	return pin_chunk_add_pfns(pc, first_run, nr);
}

/* Pin what the chunk has of one span page by page: all of it, or nothing. */
static int pin_chunk_pages(struct pin_chunk *pc)
{
	unsigned long left = pin_chunk_span_pages(pc), va = pc->va;
	unsigned long account = pc->nr_account;
	unsigned int first_run = pc->nr_runs;
	long ret = 0;

	pc->count.fallbacks[pc->why]++;
	for (; left; left -= ret) {
		cond_resched();
		ret = pin_chunk_stopped(pc) ? -EINTR :
		      pin_chunk_some(pc, first_run, left);
		if (ret < 0)
			break;
		pc->va += ret << PAGE_SHIFT;
	}
	if (!left)
		return 0;
	pin_chunk_drop_from(pc, first_run, va);
	pc->nr_account = account;
	return ret;
}

/*
 * Most leaves that are pinned first and then looked at together: bounds the time
 * with interrupts off.
 */
#define PIN_LEAVES		32

/**
 * struct pin_leaves - leaves being pinned
 * @nr: how many
 * @page: a pinned page of each
 * @pfn: the leaf's first page, if @page is where it seems to be
 */
struct pin_leaves {
	unsigned int nr;
	struct page *page[PIN_LEAVES];
	unsigned long pfn[PIN_LEAVES];
};

/*
 * Pin a page of each of @nr leaves. The last page of one and the first of the
 * next are neighbours: one call pins both.
 */
static void pin_leaves_pin(const struct pin_chunk *pc, unsigned int nr,
			   struct pin_leaves *leaves)
{
	unsigned long va = pc->va;
	unsigned int i;
	long got;

	for (i = 0; i < nr; i += 2, va += 2 * PIN_SPAN_SIZE) {
		if (i + 1 == nr) {
			got = pin_pages(pc, va, 1, &leaves->page[i]);
			if (got == 1) {
				leaves->pfn[i] = page_to_pfn(leaves->page[i]);
				i++;
			}
			break;
		}
		if (pin_chunk_stopped(pc))
			break;
		got = pin_pages(pc, va + PIN_SPAN_SIZE - PAGE_SIZE, 2,
				&leaves->page[i]);
		if (got > 0)
			leaves->pfn[i] = page_to_pfn(leaves->page[i]) + 1 -
					 PIN_SPAN_PAGES;
		if (got < 2) {
			i += got == 1;
			break;
		}
		leaves->pfn[i + 1] = page_to_pfn(leaves->page[i + 1]);
	}
	leaves->nr = min(i, nr);
}

/* Does the pinned page keep @nr pages from @pfn on? Step 1 above. */
static bool pin_page_keeps(struct page *page, unsigned long pfn,
			   unsigned long nr)
{
	struct folio *folio = page_folio(page);

	return pfn >= folio_pfn(folio) &&
	       pfn + nr <= folio_pfn(folio) + folio_nr_pages(folio) &&
	       !PageReserved(page);
}

/* Why is there no leaf at pc->va that one reference could stand for? */
static enum map_fallback pin_chunk_no_leaf(const struct pin_chunk *pc)
{
	unsigned long pfn;

	if (current->mm != pc->mm)
		return MAP_FALLBACK_FOREIGN;
	if (pc->write && pin_leaf_at(pc->mm, pc->va, false, &pfn) >= PIN_LEAF_PMD)
		return MAP_FALLBACK_ACCESS;
	return MAP_FALLBACK_SMALL;
}

/*
 * Of the pinned leaves, how many are what they seem to be? Steps 1 to 3 at the
 * top of the file. Sets how big they are: only a single one may be a PUD. If it
 * is none, says why.
 */
static unsigned int pin_leaves_verify(struct pin_chunk *pc,
				      const struct pin_leaves *leaves,
				      enum pin_leaf *leaf)
{
	unsigned long pfns[PIN_LEAVES];
	unsigned int nr, i;

	nr = pin_leaves_at(pc->mm, pc->va, pc->write, leaves->nr, pfns, leaf);
	if (*leaf == PIN_LEAF_PUD) {
		/* Part of a PUD's memory is as good as a PMD's. */
		if (leaves->nr == 1 && IS_ALIGNED(pc->va, PUD_SIZE) &&
		    pc->end - pc->va >= PUD_SIZE && pfns[0] == leaves->pfn[0] &&
		    pin_page_keeps(leaves->page[0], pfns[0], PIN_PUD_PAGES))
			return 1;
		*leaf = PIN_LEAF_PMD;
	}
	for (i = 0; i < nr; i++)
		if (pfns[i] != leaves->pfn[i] ||
		    !pin_page_keeps(leaves->page[i], pfns[i], PIN_SPAN_PAGES))
			break;
	if (!nr)
		pc->why = pin_chunk_no_leaf(pc);
	else if (!i)
		pc->why = pfns[0] != leaves->pfn[0] ? MAP_FALLBACK_MOVED :
						      MAP_FALLBACK_FOLIO;
	return i;
}

/* How many leaves to try in one go. If none, says why. */
static unsigned int pin_chunk_max_leaves(struct pin_chunk *pc)
{
	unsigned long size = pc->end - pc->va, nr = PIN_LEAVES;

	pc->why = pc->leaves ? MAP_FALLBACK_PART : MAP_FALLBACK_OFF;
	if (!pc->leaves || !IS_ALIGNED(pc->va, PIN_SPAN_SIZE) ||
	    size < PIN_SPAN_SIZE)
		return 0;
	/* More only where they are expected, and to the end of a page table. */
	if (pc->leaf != PIN_LEAF_PMD || IS_ALIGNED(pc->va, PUD_SIZE))
		return 1;
	nr = min(nr, size / PIN_SPAN_SIZE);
	nr = min(nr, (PUD_SIZE - (pc->va & ~PUD_MASK)) / PIN_SPAN_SIZE);
	nr = min(nr, (pc->batch - pc->nr_pages) / PIN_SPAN_PAGES + 1);
	return min_t(unsigned long, nr, pc->max_runs - pc->nr_runs);
}

static void pin_chunk_add_leaf(struct pin_chunk *pc, unsigned long pfn,
			       enum pin_leaf leaf)
{
	struct pin_run *run = pc->runs + pc->nr_runs;
	unsigned long nr = leaf == PIN_LEAF_PUD ? PIN_PUD_PAGES :
						  PIN_SPAN_PAGES;

	if (pc->nr_runs && run[-1].leaf == leaf &&
	    run[-1].pfn + run[-1].nr == pfn) {
		run[-1].nr += nr;
	} else {
		*run = (struct pin_run){ pfn, nr, leaf, true };
		pc->nr_runs++;
	}
	pc->nr_pages += nr;
	pc->nr_account += nr;
	pc->va += nr << PAGE_SHIFT;
}

/* Try to pin leaves from pc->va on. False, and pc->why, if there is none. */
static bool pin_chunk_leaf(struct pin_chunk *pc)
{
	unsigned int max = pin_chunk_max_leaves(pc), nr, i;
	struct pin_leaves leaves;
	enum pin_leaf leaf;
	unsigned long pfn;

	if (!max)
		return false;
	if (pc->pfns.nr) {
		pc->why = pin_chunk_no_leaf(pc);
		return false;
	}
	/* Populated with small pages: not worth a pin to find out. */
	if (pc->leaf == PIN_LEAF_NONE &&
	    pin_leaf_at(pc->mm, pc->va, pc->write, &pfn) == PIN_LEAF_PTE) {
		pc->why = pin_chunk_no_leaf(pc);
		return false;
	}

	pc->leaf = PIN_LEAF_NONE;
	pc->why = MAP_FALLBACK_SMALL;
	pin_leaves_pin(pc, max, &leaves);
	if (!leaves.nr)
		return false;
	nr = pin_leaves_verify(pc, &leaves, &leaf);
	for (i = nr; i < leaves.nr; i++)
		unpin_user_page(leaves.page[i]);
	for (i = 0; i < nr; i++)
		pin_chunk_add_leaf(pc, leaves.pfn[i], leaf);
	if (leaf == PIN_LEAF_PUD)
		pc->count.puds += nr;
	else
		pc->count.pmds += nr;
	if (nr == max)
		pc->leaf = leaf;
	return nr;
}

static bool pin_chunk_has_room(const struct pin_chunk *pc)
{
	return pc->nr_runs + pin_chunk_span_pages(pc) <= pc->max_runs;
}

/**
 * pin_chunk_fill - pin the next batch of a chunk
 * @pc: the chunk. The runs of the batch before are forgotten.
 *
 * Context: Process context. May sleep. The caller holds no lock that a page
 *    fault may need.
 * Return: The number of runs in @pc->runs, 0 at the end of the chunk, or
 *    -EFAULT: not mapped, or not with the access asked for,
 *    -EINTR: stopped, or a fatal signal is pending,
 *    or what else pin_user_pages_remote() says. The error is reported when the
 *    runs in front of it have been taken.
 */
int pin_chunk_fill(struct pin_chunk *pc)
{
	pc->nr_runs = 0;
	pc->nr_pages = 0;
	pc->nr_account = 0;

	while (!pc->error && pc->va != pc->end &&
	       pc->nr_pages < pc->batch && pc->nr_runs < pc->max_runs) {
		if (pin_chunk_stopped(pc))
			pc->error = -EINTR;
		else if (pin_chunk_leaf(pc))
			cond_resched();
		else if (pin_chunk_has_room(pc))
			pc->error = pin_chunk_pages(pc);
		else
			break;
	}
	return pc->nr_runs ? pc->nr_runs : pc->error;
}

/**
 * pin_chunk_drop - drop the references of the current batch
 * @pc: the chunk
 *
 * Context: Process context. May sleep. No IOMMU translates to these pages.
 */
void pin_chunk_drop(struct pin_chunk *pc)
{
	pin_chunk_drop_from(pc, 0, pc->va - (pc->nr_pages << PAGE_SHIFT));
}

/**
 * pin_one_page - pin a single page
 * @mm: whose memory; its users count is elevated
 * @va: page-aligned address
 * @write: the device may write
 * @run: set to the page
 * @account: set to whether it counts as locked memory
 *
 * Context: Process context. May sleep.
 * Return: 0, or as pin_chunk_fill().
 */
int pin_one_page(struct mm_struct *mm, unsigned long va, bool write,
		 struct pin_run *run, bool *account)
{
	struct page *page;
	struct pin_chunk pc = {
		.mm = mm,
		.va = va,
		.end = va + PAGE_SIZE,
		.batch = 1,
		.write = write,
		.pages = &page,
		.max_pages = 1,
		.runs = run,
		.max_runs = 1,
	};
	int ret = pin_chunk_fill(&pc);

	*account = pc.nr_account;
	return min(ret, 0);
}
