/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio_mt_trace.h - trace events: what is mapped, by how many threads, how quickly
 *
 * Sizes are in bytes, times in nanoseconds. What was pinned is in pages, by the
 * leaf that one reference stands for. The time of a chunk is taken only while
 * somebody listens.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vfio_mt

#if !defined(VFIO_MT_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VFIO_MT_TRACE_H

#include <linux/pgtable.h>
#include <linux/tracepoint.h>
#include <linux/types.h>

#include "map_stat.h"

/* A map, or a copy into another domain, was planned. */
TRACE_EVENT(map_begin,
	TP_PROTO(unsigned long vaddr, unsigned long iova, unsigned long size,
		 unsigned int threads, unsigned long chunks, bool copy),
	TP_ARGS(vaddr, iova, size, threads, chunks, copy),
	TP_STRUCT__entry(
		__field(unsigned long, vaddr)
		__field(unsigned long, iova)
		__field(unsigned long, size)
		__field(unsigned int, threads)
		__field(unsigned long, chunks)
		__field(bool, copy)
	),
	TP_fast_assign(
		__entry->vaddr = vaddr;
		__entry->iova = iova;
		__entry->size = size;
		__entry->threads = threads;
		__entry->chunks = chunks;
		__entry->copy = copy;
	),
	TP_printk("vaddr=%#lx iova=%#lx size=%lu threads=%u chunks=%lu copy=%d",
		  __entry->vaddr, __entry->iova, __entry->size,
		  __entry->threads, __entry->chunks, __entry->copy)
);

/* It is over. What failed has pinned nothing. */
TRACE_EVENT(map_end,
	TP_PROTO(unsigned long iova, const struct map_stat_sum *sum, int ret,
		 bool copy),
	TP_ARGS(iova, sum, ret, copy),
	TP_STRUCT__entry(
		__field(unsigned long, iova)
		__field(unsigned long, size)
		__field(unsigned long, pte)
		__field(unsigned long, pmd)
		__field(unsigned long, pud)
		__field(unsigned long, unheld)
		__field(u64, ns)
		__field(unsigned int, threads)
		__field(int, ret)
		__field(bool, copy)
	),
	TP_fast_assign(
		__entry->iova = iova;
		__entry->size = sum->size;
		__entry->pte = sum->ptes;
		__entry->pmd = sum->pins.pmds * (PMD_SIZE / PAGE_SIZE);
		__entry->pud = sum->pins.puds * (PUD_SIZE / PAGE_SIZE);
		__entry->unheld = sum->pins.unheld;
		__entry->ns = sum->ns;
		__entry->threads = sum->threads;
		__entry->ret = ret;
		__entry->copy = copy;
	),
	TP_printk("iova=%#lx size=%lu ret=%d threads=%u pte=%lu pmd=%lu pud=%lu unheld=%lu ns=%llu copy=%d",
		  __entry->iova, __entry->size, __entry->ret,
		  __entry->threads, __entry->pte, __entry->pmd, __entry->pud,
		  __entry->unheld, __entry->ns, __entry->copy)
);

/* A thread has done a part of a map or copy. */
TRACE_EVENT(chunk,
	TP_PROTO(unsigned long va, unsigned long size, int ret, u64 ns),
	TP_ARGS(va, size, ret, ns),
	TP_STRUCT__entry(
		__field(unsigned long, va)
		__field(unsigned long, size)
		__field(u64, ns)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->va = va;
		__entry->size = size;
		__entry->ns = ns;
		__entry->ret = ret;
	),
	TP_printk("va=%#lx size=%lu ret=%d ns=%llu",
		  __entry->va, __entry->size, __entry->ret, __entry->ns)
);

/* A mapping was unmapped and unpinned. */
TRACE_EVENT(unmap,
	TP_PROTO(unsigned long iova, unsigned long size, unsigned int threads,
		 u64 ns),
	TP_ARGS(iova, size, threads, ns),
	TP_STRUCT__entry(
		__field(unsigned long, iova)
		__field(unsigned long, size)
		__field(u64, ns)
		__field(unsigned int, threads)
	),
	TP_fast_assign(
		__entry->iova = iova;
		__entry->size = size;
		__entry->ns = ns;
		__entry->threads = threads;
	),
	TP_printk("iova=%#lx size=%lu threads=%u ns=%llu",
		  __entry->iova, __entry->size, __entry->threads, __entry->ns)
);

/* A thread has charged locked memory: what it needs, and some in advance. */
TRACE_EVENT(refill,
	TP_PROTO(unsigned long pages, int ret),
	TP_ARGS(pages, ret),
	TP_STRUCT__entry(
		__field(unsigned long, pages)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->pages = pages;
		__entry->ret = ret;
	),
	TP_printk("pages=%lu ret=%d", __entry->pages, __entry->ret)
);

/* A map or copy has failed: what other chunks have done will be undone. */
TRACE_EVENT(undo,
	TP_PROTO(unsigned long iova, unsigned long chunks, int error),
	TP_ARGS(iova, chunks, error),
	TP_STRUCT__entry(
		__field(unsigned long, iova)
		__field(unsigned long, chunks)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->iova = iova;
		__entry->chunks = chunks;
		__entry->error = error;
	),
	TP_printk("iova=%#lx chunks=%lu error=%d",
		  __entry->iova, __entry->chunks, __entry->error)
);

#endif /* VFIO_MT_TRACE_H */

/* The folder is one that Kbuild has the compiler look in. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE vfio_mt_trace
#include <trace/define_trace.h>
