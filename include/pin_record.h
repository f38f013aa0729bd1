/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pin_record.h - what is pinned in one mapping, and by which references
 */
#ifndef VFIO_MT_PIN_RECORD_H
#define VFIO_MT_PIN_RECORD_H

#include <linux/atomic.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/types.h>
#include <linux/xarray.h>

/* A span is what one PMD maps: the unit in which the record is kept. */
#define PIN_SPAN_SHIFT		PMD_SHIFT
#define PIN_SPAN_SIZE		PMD_SIZE
#define PIN_SPAN_MASK		PMD_MASK
#define PIN_SPAN_PAGES		(PMD_SIZE >> PAGE_SHIFT)
#define PIN_PUD_PAGES		(PUD_SIZE >> PAGE_SHIFT)

/**
 * enum pin_leaf - how big a page-table leaf one reference stands for
 * @PIN_LEAF_NONE: nothing is pinned here
 * @PIN_LEAF_PTE: page by page
 * @PIN_LEAF_PMD: one reference for a whole span
 * @PIN_LEAF_PUD: one reference for what one PUD maps
 *
 * The values are what the record stores in two bits a span.
 */
enum pin_leaf {
	PIN_LEAF_NONE,
	PIN_LEAF_PTE,
	PIN_LEAF_PMD,
	PIN_LEAF_PUD,
};

/**
 * struct pin_run - physically contiguous pages that were pinned alike
 * @pfn: first page
 * @nr: number of pages; a multiple of the leaf's pages
 * @leaf: what one reference stands for
 * @held: references are held. They are not for pages that VFIO maps without
 *        pinning: the zero page and pfns without a struct page.
 */
struct pin_run {
	unsigned long pfn;
	u32 nr;
	u8 leaf;
	bool held;
};

/* In a run that a cursor yields: look for the pfns yourself, page by page. */
#define PIN_PFN_UNKNOWN		ULONG_MAX

/**
 * struct pin_extent - physically contiguous pages at contiguous addresses
 * @va: user address of the first page, as it was when the page was pinned
 * @pfn: first page
 * @nr: number of pages
 */
struct pin_extent {
	unsigned long va;
	unsigned long pfn;
	unsigned long nr;
};

/**
 * struct pin_record - which references one mapping holds
 * @vaddr: user address of the mapping's first byte when it was pinned
 * @first: number of the first span with a state (user address / span size)
 * @states: two bits a span, enum pin_leaf; NULL until pin_record_init()
 * @nr_words: length of @states
 * @inline_state: where @states points for a mapping small enough
 * @frags: by span number less @first: the runs of a span pinned page by page
 */
struct pin_record {
	unsigned long vaddr;
	unsigned long first;
	atomic_long_t *states;
	unsigned long nr_words;
	atomic_long_t inline_state;
	struct xarray frags;
};

/**
 * typedef pin_pfn_fn - tells which page is behind a user address
 * @arg: the caller's
 * @va: page-aligned address, as it was when the page was pinned
 *
 * Return: the pfn, or 0 if it cannot be told.
 */
typedef unsigned long (*pin_pfn_fn)(void *arg, unsigned long va);

/**
 * struct pin_cursor - a walk over a part of a record
 * @rec: the record
 * @va: where the walk has got to
 * @end: where it ends
 * @pfn_of: asked for the pfns that the record does not hold, or NULL
 * @arg: argument of @pfn_of
 * @span: number of the span that @entry belongs to
 * @entry: what @rec holds about a span pinned page by page
 * @run_idx: run of @entry that @va lies in or after
 * @run_va: address of that run
 * @ahead_va: address whose pfn was asked for ahead of time, or 0
 * @ahead_pfn: the answer
 *
 * All but @va are private after pin_cursor_init().
 */
struct pin_cursor {
	struct pin_record *rec;
	unsigned long va;
	unsigned long end;
	pin_pfn_fn pfn_of;
	void *arg;
	unsigned long span;
	void *entry;
	unsigned int run_idx;
	unsigned long run_va;
	unsigned long ahead_va;
	unsigned long ahead_pfn;
};

int pin_record_module_init(void);
void pin_record_module_exit(void);

int pin_record_init(struct pin_record *rec, unsigned long vaddr, size_t size);
void pin_record_destroy(struct pin_record *rec);
int pin_record_add(struct pin_record *rec, unsigned long va,
		   const struct pin_run *runs, unsigned int nr);
void pin_record_clear(struct pin_record *rec, unsigned long va,
		      unsigned long end);
void pin_record_forget(struct pin_record *rec, unsigned long va,
		       unsigned long end);
enum pin_leaf pin_record_leaf(const struct pin_record *rec, unsigned long va);
void pin_cursor_init(struct pin_cursor *cur, struct pin_record *rec,
		     unsigned long va, unsigned long end, pin_pfn_fn pfn_of,
		     void *arg);
bool pin_cursor_next(struct pin_cursor *cur, struct pin_run *run);
void pin_record_unpin(struct pin_record *rec, const struct pin_extent *ext,
		      unsigned int nr, bool dirty);
void pin_leaves_unpin(const struct pin_extent *ext, unsigned int nr,
		      enum pin_leaf leaf, bool dirty);
void pin_run_unpin(const struct pin_run *run, bool dirty);

#endif /* VFIO_MT_PIN_RECORD_H */
