/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pin_chunk.h - pin a chunk of user memory, leaf by leaf where possible
 */
#ifndef VFIO_MT_PIN_CHUNK_H
#define VFIO_MT_PIN_CHUNK_H

#include <linux/types.h>

#include "map_stat.h"
#include "pin_record.h"

struct mm_struct;
struct page;

/**
 * struct pin_chunk - the state of one thread that pins one chunk
 * @mm: whose memory
 * @va: where pinning has got to
 * @end: where the chunk ends
 * @batch: pin no more than so many pages in one go, but for the leaf or span
 *         that reaches across; at least 1
 * @write: the device may write
 * @leaves: one reference may stand for a huge leaf
 * @no_pool: the thread must not fault in memory from hugetlb's pools
 * @stop: set by others to make the thread give up, or NULL
 * @pages: scratch space for @max_pages pages
 * @max_pages: most pages that are asked for in one go
 * @runs: what pin_chunk_fill() pinned
 * @max_runs: room in @runs; at least for the pages that the chunk has of a span
 * @nr_runs: how many of @runs are filled
 * @nr_pages: pages in @runs
 * @nr_account: how many of them count as locked memory
 * @leaf: how the span before was pinned, if as a leaf: this one may be, too
 * @pfns: @pfns.nr pfns that are known to lie at @va, and need no pin
 * @why: why the current span is pinned page by page, if it is
 * @count: what was pinned of the chunk; of no use once anything has failed
 * @error: what stopped the pinning behind @runs
 */
struct pin_chunk {
	struct mm_struct *mm;
	unsigned long va;
	unsigned long end;
	unsigned long batch;
	bool write;
	bool leaves;
	bool no_pool;
	const bool *stop;
	struct page **pages;
	unsigned int max_pages;
	struct pin_run *runs;
	unsigned int max_runs;
	unsigned int nr_runs;
	unsigned long nr_pages;
	unsigned long nr_account;
	enum pin_leaf leaf;
	struct pin_run pfns;
	enum map_fallback why;
	struct map_stat_pins count;
	int error;
};

enum pin_leaf pin_leaf_at(struct mm_struct *mm, unsigned long va, bool write,
			  unsigned long *pfn);
int pin_chunk_fill(struct pin_chunk *pc);
void pin_chunk_drop(struct pin_chunk *pc);
int pin_one_page(struct mm_struct *mm, unsigned long va, bool write,
		 struct pin_run *run, bool *account);

#endif /* VFIO_MT_PIN_CHUNK_H */
