/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio_mt_mock: the interface between the test module and the selftests
 *
 * Purpose: describe every ioctl of the control node /dev/vfio_mt_mock and of
 *	the VFIO devices that vfio_mt_mock.ko registers.  Test code only; the
 *	interface may change with every commit, VFIO_MT_MOCK_ABI says when.
 * Terms:
 *	emulated device	  a VFIO device that does no DMA of its own and pins
 *			  pages through the backend, as a mediated device does
 *	iommu device	  a VFIO device behind the mock IOMMU of this module
 *	leaf		  one entry of the mock IOMMU: an aligned run of IOVA
 *			  with one of the page sizes that the device supports
 *	All numbers are bytes; ranges are [first, last], so that the end of
 *	the 64-bit space can be named.
 * Context: user space opens the control node for set-up and statistics, and
 *	gets the device through VFIO_GROUP_GET_DEVICE_FD as for any VFIO device.
 *	An ioctl returns 0 when the request was carried out; what the backend
 *	answered is in the field result (0, a count, or a negative errno).
 */
#ifndef VFIO_MT_MOCK_H
#define VFIO_MT_MOCK_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VFIO_MT_MOCK_ABI	2
#define VFIO_MT_MOCK_NODE	"/dev/vfio_mt_mock"
#define VFIO_MT_MOCK_TYPE	0xE7

/* Bits of a protection, equal to IOMMU_READ, IOMMU_WRITE and IOMMU_CACHE. */
#define VFIO_MT_MOCK_READ	(1U << 0)
#define VFIO_MT_MOCK_WRITE	(1U << 1)
#define VFIO_MT_MOCK_CACHE	(1U << 2)

/* Who calls the backend. */
#define VFIO_MT_MOCK_CALLER	0	/* the thread that made the ioctl */
#define VFIO_MT_MOCK_WORKER	1	/* a kernel thread without an mm */

/*
 * ------------------------------ control node ------------------------------
 */

/**
 * struct vfio_mt_mock_info - what this module offers
 * @abi: VFIO_MT_MOCK_ABI of the module
 * @nr_devices: devices with index 0 .. @nr_devices - 1
 * @nr_emulated: how many of them are emulated devices; they come first
 * @iommu_error: 0 when the mock IOMMU is registered, otherwise the negative
 *	errno of the attempt (-EBUSY: this kernel has another IOMMU driver);
 *	then there are no iommu devices
 */
struct vfio_mt_mock_info {
	__u32 abi;
	__u32 nr_devices;
	__u32 nr_emulated;
	__s32 iommu_error;
};

#define VFIO_MT_MOCK_EMULATED	0
#define VFIO_MT_MOCK_IOMMU	1

/**
 * struct vfio_mt_mock_device - one device
 * @index: in: which device
 * @kind: out: VFIO_MT_MOCK_EMULATED or VFIO_MT_MOCK_IOMMU
 * @group: out: number of its group, as in /dev/vfio/<group>
 * @pad: zero
 * @name: out: the name to give to VFIO_GROUP_GET_DEVICE_FD
 */
struct vfio_mt_mock_device {
	__u32 index;
	__u32 kind;
	__s32 group;
	__u32 pad;
	char name[32];
};

#define VFIO_MT_MOCK_RESV_DIRECT	0
#define VFIO_MT_MOCK_RESV_RELAXABLE	1
#define VFIO_MT_MOCK_RESV_RESERVED	2
#define VFIO_MT_MOCK_RESV_MSI		3
#define VFIO_MT_MOCK_RESV_SW_MSI	4

/**
 * struct vfio_mt_mock_resv - one reserved region
 * @start: first IOVA
 * @last: last IOVA
 * @type: VFIO_MT_MOCK_RESV_*
 * @pad: zero
 */
struct vfio_mt_mock_resv {
	__u64 start;
	__u64 last;
	__u32 type;
	__u32 pad;
};

#define VFIO_MT_MOCK_NR_RESV	8

/* In SET_CONFIG only: ignore the rest, restore the default of the device. */
#define VFIO_MT_MOCK_CFG_DEFAULT	(1U << 0)
/* The VFIO device has a dma_unmap callback; read when it is opened. */
#define VFIO_MT_MOCK_CFG_DMA_UNMAP	(1U << 1)
/* The domain can enforce cache coherency. */
#define VFIO_MT_MOCK_CFG_COHERENT	(1U << 2)
/* The device has interrupt remapping (IOMMU_CAP_INTR_REMAP). */
#define VFIO_MT_MOCK_CFG_INTR_REMAP	(1U << 3)
/* A nesting domain may be attached. */
#define VFIO_MT_MOCK_CFG_NESTING	(1U << 4)
/*
 * Unmap of a part of a superpage splits it, as some ARM IOMMUs do.  Without
 * it the whole superpage goes and its size is returned, as with VT-d and AMD.
 */
#define VFIO_MT_MOCK_CFG_SPLIT		(1U << 5)
/* The second of two sets of domain operations. */
#define VFIO_MT_MOCK_CFG_OPS_B		(1U << 6)

/**
 * struct vfio_mt_mock_config - properties of a device and of its IOMMU
 * @index: in: which device
 * @flags: VFIO_MT_MOCK_CFG_*
 * @pgsizes: bitmap of page sizes; the smallest is 512 to 4096
 * @aperture_start: first IOVA that can be mapped
 * @aperture_last: last IOVA that can be mapped
 * @nr_resv: used entries of @resv
 * @pad: zero
 * @resv: reserved regions; read by the kernel at attach and at detach
 *
 * A domain takes page sizes, aperture and flags from the first device that is
 * attached to it, and refuses (-EINVAL) other devices that differ.
 * VFIO_MT_MOCK_CFG_INTR_REMAP and @resv count from the moment of the call.
 */
struct vfio_mt_mock_config {
	__u32 index;
	__u32 flags;
	__u64 pgsizes;
	__u64 aperture_start;
	__u64 aperture_last;
	__u32 nr_resv;
	__u32 pad;
	struct vfio_mt_mock_resv resv[VFIO_MT_MOCK_NR_RESV];
};

#define VFIO_MT_MOCK_INJECT_MAP		0	/* each leaf that is installed */
#define VFIO_MT_MOCK_INJECT_ATTACH	1	/* attach of a paging domain */
#define VFIO_MT_MOCK_INJECT_ALLOC	2	/* allocation of one; no errno */
#define VFIO_MT_MOCK_INJECT_NESTING	3	/* iommu_enable_nesting() */
#define VFIO_MT_MOCK_NR_INJECT		4

/**
 * struct vfio_mt_mock_inject - make one kind of operation fail, or slow
 * @point: VFIO_MT_MOCK_INJECT_*
 * @error: the errno (positive), 0 to fail nothing
 * @first: MAP only: the leaf touches @first .. @last
 * @last: see @first
 * @after: this many matching operations pass first
 * @times: then this many fail; U32_MAX: all
 * @delay_us: every matching operation takes at least this long
 * @pad: zero
 * @seen: GET_INJECT: matching operations since SET_INJECT
 * @failed: GET_INJECT: how many of them were failed
 */
struct vfio_mt_mock_inject {
	__u32 point;
	__u32 error;
	__u64 first;
	__u64 last;
	__u32 after;
	__u32 times;
	__u32 delay_us;
	__u32 pad;
	__u64 seen;
	__u64 failed;
};

/**
 * struct vfio_mt_mock_stats - counters of the mock IOMMU, all domains together
 * @domains: paging domains that exist now
 * @domains_allocated: paging domains allocated
 * @attaches: devices attached to a paging domain
 * @map_calls: calls of map_pages
 * @unmap_calls: calls of unmap_pages
 * @sync_map_calls: calls of iotlb_sync_map
 * @sync_calls: calls of iotlb_sync
 * @flush_calls: calls of flush_iotlb_all
 * @lookups: calls of iova_to_phys
 * @leaves: leaves that are mapped now, in domains that exist
 * @bytes: bytes that they map
 * @unsynced: leaves unmapped, but not synced yet
 * @leaves_mapped: leaves installed, by the binary logarithm of their size
 * @leaves_freed: leaves still mapped when their domain was freed (the stock
 *	driver does this on purpose with a second domain)
 * @bad_map_over: map of an IOVA that is mapped already
 * @bad_map_range: map outside the aperture or unaligned
 * @bad_map_unsynced: map of an IOVA whose old leaf was not synced yet
 * @bad_unmap: unmap of an IOVA that is not mapped
 * @bad_unpinned: a page was unpinned while a leaf mapped it
 * @bad_unpinned_unsynced: a page was unpinned between unmap and sync
 * @bad_free_unsynced: leaves not synced when their domain was freed
 * @bad_free_attached: a domain freed with a device attached
 *
 * RESET_STATS clears all that is a count of events.
 */
struct vfio_mt_mock_stats {
	__u64 domains;
	__u64 domains_allocated;
	__u64 attaches;
	__u64 map_calls;
	__u64 unmap_calls;
	__u64 sync_map_calls;
	__u64 sync_calls;
	__u64 flush_calls;
	__u64 lookups;
	__u64 leaves;
	__u64 bytes;
	__u64 unsynced;
	__u64 leaves_mapped[64];
	__u64 leaves_freed;
	__u64 bad_map_over;
	__u64 bad_map_range;
	__u64 bad_map_unsynced;
	__u64 bad_unmap;
	__u64 bad_unpinned;
	__u64 bad_unpinned_unsynced;
	__u64 bad_free_unsynced;
	__u64 bad_free_attached;
};

#define VFIO_MT_MOCK_PAGE_PRESENT	(1U << 0)
#define VFIO_MT_MOCK_PAGE_LARGE		(1U << 1)
#define VFIO_MT_MOCK_PAGE_RESERVED	(1U << 2)
#define VFIO_MT_MOCK_PAGE_ZERO		(1U << 3)
#define VFIO_MT_MOCK_PAGE_ANON		(1U << 4)
#define VFIO_MT_MOCK_PAGE_CACHE		(1U << 5)	/* in the page cache */
#define VFIO_MT_MOCK_PAGE_POISONED	(1U << 6)	/* or taken offline */

/**
 * struct vfio_mt_mock_page - state of a page
 * @vaddr: PAGE_STATE: in: an address of the caller; it is not faulted in
 * @flags: out: VFIO_MT_MOCK_PAGE_*
 * @order: out: order of the folio that the page belongs to
 * @pins: out: pins (FOLL_PIN); of the whole folio when it is large
 * @refs: out: other references, of the whole folio when it is large
 * @unexplained: out: how many of @refs are neither held by a page table nor by
 *	the page cache: 0, but for a moment, for memory that nobody works on
 * @pfn: page frame number; PAGE_STATE: out, PFN_STATE: in
 *
 * PFN_STATE finds a page that no process may have any more.  It is not
 * VFIO_MT_MOCK_PAGE_PRESENT when it is free.
 */
struct vfio_mt_mock_page {
	__u64 vaddr;
	__u32 flags;
	__u32 order;
	__s64 pins;
	__s64 refs;
	__s64 unexplained;
	__u64 pfn;
};

/**
 * struct vfio_mt_mock_translate - where the IOMMU takes a device's accesses
 * @device: the PCI device: domain << 16 | bus << 8 | devfn
 * @count: pages to look up, at most 4096
 * @iova: the first of them
 * @pfns: address of an array of @count __u64: page frame numbers, 0 for what
 *	is not mapped
 */
struct vfio_mt_mock_translate {
	__u32 device;
	__u32 count;
	__u64 iova;
	__u64 pfns;
};

#define VFIO_MT_MOCK_BRAKE_BEFORE	1
#define VFIO_MT_MOCK_BRAKE_AFTER	2
/*
 * Stop nobody, but pin PATCHED memory page by page in place of GUP, as often as
 * somebody comes.
 */
#define VFIO_MT_MOCK_BRAKE_PATCHED	3

/* States of the brake, in this order. */
#define VFIO_MT_MOCK_BRAKE_OFF		0
#define VFIO_MT_MOCK_BRAKE_SET		1	/* nobody has come yet */
#define VFIO_MT_MOCK_BRAKE_HOLDS	2	/* a thread is stopped */
#define VFIO_MT_MOCK_BRAKE_RELEASED	3	/* it may go on */
#define VFIO_MT_MOCK_BRAKE_WORN_OUT	4	/* it went on after 30 seconds */

/**
 * struct vfio_mt_mock_brake - stop a thread that pins memory of the caller
 * @first: the first thread that pins memory that touches @first .. @last
 * @last: see @first
 * @when: VFIO_MT_MOCK_BRAKE_BEFORE or _AFTER it has pinned this memory; or
 *	VFIO_MT_MOCK_BRAKE_PATCHED
 * @pad: zero
 *
 * It stops once, without the mmap lock.  There is one brake, until RESET.
 */
struct vfio_mt_mock_brake {
	__u64 first;
	__u64 last;
	__u32 when;
	__u32 pad;
};

/*
 * mmap() of the control node gives memory that only drivers have.  The offset
 * is one of these plus an offset into the memory of that kind; the size of
 * each kind is VFIO_MT_MOCK_MEM_SIZE.  All of it is shared memory of the
 * kernel, zeroed when the module is loaded.
 */
#define VFIO_MT_MOCK_MEM_SIZE		(1ULL << 20)
/* VM_PFNMAP of reserved pages, as a BAR: each page appears at a fault. */
#define VFIO_MT_MOCK_MEM_LAZY		(0ULL << 28)
/* The same memory, all of it mapped by mmap(). */
#define VFIO_MT_MOCK_MEM_EAGER		(1ULL << 28)
/* VM_PFNMAP of pages that are not reserved; type1 refuses it. */
#define VFIO_MT_MOCK_MEM_UNRESERVED	(2ULL << 28)
/* The same memory as ordinary pages (vm_insert_page()), which GUP can pin. */
#define VFIO_MT_MOCK_MEM_PAGES		(3ULL << 28)
/*
 * VFIO_MT_MOCK_PATCHED_SIZE bytes, to be mapped at a multiple of that and as a
 * whole: small pages, but one entry of the page table maps them all.  No memory of
 * this kernel is like that, and its GUP could not pin it: see BRAKE_PATCHED.
 */
#define VFIO_MT_MOCK_MEM_PATCHED	(4ULL << 28)
#define VFIO_MT_MOCK_PATCHED_SIZE	(2ULL << 20)

/**
 * struct vfio_mt_mock_zap - take LAZY memory away from all processes
 * @offset: offset as given to mmap()
 * @size: bytes
 * @disabled: from now on a fault on LAZY memory gives SIGBUS (1), or the
 *	page (0), as with a BAR whose device has memory access disabled
 * @pad: zero
 */
struct vfio_mt_mock_zap {
	__u64 offset;
	__u64 size;
	__u32 disabled;
	__u32 pad;
};

/**
 * struct vfio_mt_mock_fail - make allocations of a kernel thread fail
 * @function: in: the function, of any module, that the thread runs; empty to
 *	disarm
 * @skip: in: this many calls of the function pass first; U32_MAX: all
 * @nth: in: during the one call that follows them, the n-th of whatever the
 *	kernel's fault injection can make fail does.  0: all that the injection's
 *	own settings say, with their task filter
 * @entered: out: calls of the function since SET_FAIL
 * @failed: out: with @nth, 1 if it came to that
 * @first: in: until that one call has mapped or unmapped something here or above, or
 *	returned, other threads wait before they do
 *
 * -EOPNOTSUPP on kernels without fault injection.
 */
struct vfio_mt_mock_fail {
	char function[32];
	__u32 skip;
	__u32 nth;
	__u32 entered;
	__u32 failed;
	__u64 first;
};

#define VFIO_MT_MOCK_GET_INFO \
	_IOR(VFIO_MT_MOCK_TYPE, 0, struct vfio_mt_mock_info)
#define VFIO_MT_MOCK_GET_DEVICE \
	_IOWR(VFIO_MT_MOCK_TYPE, 1, struct vfio_mt_mock_device)
#define VFIO_MT_MOCK_GET_CONFIG \
	_IOWR(VFIO_MT_MOCK_TYPE, 2, struct vfio_mt_mock_config)
#define VFIO_MT_MOCK_SET_CONFIG \
	_IOW(VFIO_MT_MOCK_TYPE, 3, struct vfio_mt_mock_config)
#define VFIO_MT_MOCK_SET_INJECT \
	_IOW(VFIO_MT_MOCK_TYPE, 4, struct vfio_mt_mock_inject)
#define VFIO_MT_MOCK_GET_INJECT \
	_IOWR(VFIO_MT_MOCK_TYPE, 5, struct vfio_mt_mock_inject)
#define VFIO_MT_MOCK_GET_STATS \
	_IOR(VFIO_MT_MOCK_TYPE, 6, struct vfio_mt_mock_stats)
#define VFIO_MT_MOCK_RESET_STATS	_IO(VFIO_MT_MOCK_TYPE, 7)
/* Defaults for all devices, nothing injected, statistics reset, memory on. */
#define VFIO_MT_MOCK_RESET		_IO(VFIO_MT_MOCK_TYPE, 8)
#define VFIO_MT_MOCK_PAGE_STATE \
	_IOWR(VFIO_MT_MOCK_TYPE, 9, struct vfio_mt_mock_page)
/* Argument: a group fd; result: vfio_file_enforced_coherent(), 0 or 1. */
#define VFIO_MT_MOCK_COHERENT		_IO(VFIO_MT_MOCK_TYPE, 10)
#define VFIO_MT_MOCK_ZAP \
	_IOW(VFIO_MT_MOCK_TYPE, 11, struct vfio_mt_mock_zap)
#define VFIO_MT_MOCK_PFN_STATE \
	_IOWR(VFIO_MT_MOCK_TYPE, 12, struct vfio_mt_mock_page)
#define VFIO_MT_MOCK_TRANSLATE \
	_IOW(VFIO_MT_MOCK_TYPE, 13, struct vfio_mt_mock_translate)
#define VFIO_MT_MOCK_SET_BRAKE \
	_IOW(VFIO_MT_MOCK_TYPE, 14, struct vfio_mt_mock_brake)
/* Result: VFIO_MT_MOCK_BRAKE_*. */
#define VFIO_MT_MOCK_BRAKE_STATE	_IO(VFIO_MT_MOCK_TYPE, 15)
#define VFIO_MT_MOCK_RELEASE_BRAKE	_IO(VFIO_MT_MOCK_TYPE, 16)
/* Argument: the pfn of a page that madvise(MADV_HWPOISON) has taken away. */
#define VFIO_MT_MOCK_UNPOISON		_IO(VFIO_MT_MOCK_TYPE, 17)
/*
 * Argument: from now on, faults on LAZY memory wait (1), or do not, and those
 * that wait go on (0).
 */
#define VFIO_MT_MOCK_HOLD		_IO(VFIO_MT_MOCK_TYPE, 24)
/* Result: how many threads wait in such a fault. */
#define VFIO_MT_MOCK_HELD		_IO(VFIO_MT_MOCK_TYPE, 25)
#define VFIO_MT_MOCK_SET_FAIL \
	_IOW(VFIO_MT_MOCK_TYPE, 26, struct vfio_mt_mock_fail)
#define VFIO_MT_MOCK_GET_FAIL \
	_IOR(VFIO_MT_MOCK_TYPE, 27, struct vfio_mt_mock_fail)

/*
 * ------------------- all devices: the kernel side of VFIO -------------------
 */

/* UNPIN only: pass the range on even where this device has pinned nothing. */
#define VFIO_MT_MOCK_PIN_RAW	(1U << 0)

/**
 * struct vfio_mt_mock_pin - vfio_pin_pages() and vfio_unpin_pages()
 * @iova: first page; passed on as it is
 * @npage: number of pages, passed on as it is (at most 4096 here)
 * @prot: VFIO_MT_MOCK_READ, VFIO_MT_MOCK_WRITE
 * @context: VFIO_MT_MOCK_CALLER or VFIO_MT_MOCK_WORKER
 * @flags: VFIO_MT_MOCK_PIN_RAW
 * @result: out: PIN: what vfio_pin_pages() returned; UNPIN: 0
 * @nr_pages: out: PIN: entries of the page array that are not NULL afterwards,
 *	of those that the call should have written
 *
 * The device remembers what it pinned, drops it at dma_unmap and when it is
 * closed.  UNPIN answers -ENOENT when it has not pinned all of the range.
 */
struct vfio_mt_mock_pin {
	__u64 iova;
	__s32 npage;
	__u32 prot;
	__u32 context;
	__u32 flags;
	__s32 result;
	__s32 nr_pages;
};

/**
 * struct vfio_mt_mock_rw - copy to or from memory
 * @iova: first byte
 * @size: bytes, at most 16 MiB here
 * @buf: address of the buffer of the caller
 * @context: VFIO_MT_MOCK_CALLER or VFIO_MT_MOCK_WORKER; RW only
 * @write: 0: memory to @buf, 1: @buf to memory
 * @result: out: 0 or the errno
 * @pad: zero
 * @done: out: bytes copied (DMA and PAGE_RW; RW cannot know)
 *
 * RW calls vfio_dma_rw().  PAGE_RW uses the pages that this device pinned
 * (-ENOENT: not pinned).  DMA goes through the mock IOMMU as the hardware
 * would (-EFAULT: no leaf, or it does not permit this).  The buffer is copied
 * in before and out after a read, so partial reads can be seen.
 */
struct vfio_mt_mock_rw {
	__u64 iova;
	__u64 size;
	__u64 buf;
	__u32 context;
	__u32 write;
	__s32 result;
	__u32 pad;
	__u64 done;
};

/**
 * struct vfio_mt_mock_same - is a pinned page the page of an address?
 * @iova: in: a page that this device pinned
 * @vaddr: in: an address of the caller; it is not faulted in
 * @same: out: 1 when both are one page, 0 when not or when nothing is there
 * @zero: out: 1 when the pinned page is the zero page (which cannot be found
 *	at @vaddr, so it is never the same)
 */
struct vfio_mt_mock_same {
	__u64 iova;
	__u64 vaddr;
	__u32 same;
	__u32 zero;
};

/**
 * struct vfio_mt_mock_unmap_conf - what dma_unmap does
 * @ignore: this many calls that find pinned pages do nothing; at most 5,
 *	because the stock driver gives up (BUG) after 10
 * @async: the pages are unpinned by a kernel thread that dma_unmap waits for
 */
struct vfio_mt_mock_unmap_conf {
	__u32 ignore;
	__u32 async;
};

#define VFIO_MT_MOCK_NR_LOG	64

/**
 * struct vfio_mt_mock_unmap_log - calls of dma_unmap since the last UNMAP_LOG
 * @calls: how many
 * @unpinned: pins dropped by them
 * @range: the last of them, oldest first: start and length
 */
struct vfio_mt_mock_unmap_log {
	__u64 calls;
	__u64 unpinned;
	struct {
		__u64 iova;
		__u64 size;
	} range[VFIO_MT_MOCK_NR_LOG];
};

/**
 * struct vfio_mt_mock_pin_info - what the device has pinned
 * @pages: different pages (by IOVA)
 * @pins: pins of them
 * @mismatches: since the open: pins that gave another page than an earlier
 *	pin of the same IOVA
 */
struct vfio_mt_mock_pin_info {
	__u64 pages;
	__u64 pins;
	__u64 mismatches;
};

#define VFIO_MT_MOCK_PIN \
	_IOWR(VFIO_MT_MOCK_TYPE, 32, struct vfio_mt_mock_pin)
#define VFIO_MT_MOCK_UNPIN \
	_IOWR(VFIO_MT_MOCK_TYPE, 33, struct vfio_mt_mock_pin)
#define VFIO_MT_MOCK_RW \
	_IOWR(VFIO_MT_MOCK_TYPE, 34, struct vfio_mt_mock_rw)
#define VFIO_MT_MOCK_PAGE_RW \
	_IOWR(VFIO_MT_MOCK_TYPE, 35, struct vfio_mt_mock_rw)
#define VFIO_MT_MOCK_SAME_PAGE \
	_IOWR(VFIO_MT_MOCK_TYPE, 36, struct vfio_mt_mock_same)
#define VFIO_MT_MOCK_UNMAP_CONF \
	_IOW(VFIO_MT_MOCK_TYPE, 37, struct vfio_mt_mock_unmap_conf)
#define VFIO_MT_MOCK_UNMAP_LOG \
	_IOR(VFIO_MT_MOCK_TYPE, 38, struct vfio_mt_mock_unmap_log)
#define VFIO_MT_MOCK_PIN_INFO \
	_IOR(VFIO_MT_MOCK_TYPE, 39, struct vfio_mt_mock_pin_info)

/*
 * --------------------- iommu devices: the mock hardware ---------------------
 */

/**
 * struct vfio_mt_mock_leaf - one entry of the mock IOMMU
 * @iova: first IOVA
 * @phys: physical address
 * @size: bytes
 * @prot: VFIO_MT_MOCK_READ, VFIO_MT_MOCK_WRITE, VFIO_MT_MOCK_CACHE
 * @pinned: 1 when all pages were pinned when the leaf was installed
 */
struct vfio_mt_mock_leaf {
	__u64 iova;
	__u64 phys;
	__u64 size;
	__u32 prot;
	__u32 pinned;
};

/**
 * struct vfio_mt_mock_leaves - read leaves in the order of IOVA
 * @first: in: leaves that begin here or later; out: where to go on
 * @buf: address of an array of struct vfio_mt_mock_leaf
 * @count: in: its length; out: entries written
 * @more: out: 1 when there may be more leaves from @first on
 */
struct vfio_mt_mock_leaves {
	__u64 first;
	__u64 buf;
	__u32 count;
	__u32 more;
};

#define VFIO_MT_MOCK_DOM_COHERENT	(1U << 0)
#define VFIO_MT_MOCK_DOM_NESTING	(1U << 1)
#define VFIO_MT_MOCK_DOM_MSI_COOKIE	(1U << 2)

/**
 * struct vfio_mt_mock_domain - the paging domain that the device is attached to
 * @id: number of the domain, never used twice
 * @devices: devices attached to it
 * @flags: VFIO_MT_MOCK_DOM_*
 * @pgsizes: page sizes
 * @aperture_start: first IOVA
 * @aperture_last: last IOVA
 * @leaves: leaves mapped now
 * @bytes: bytes mapped now
 * @unsynced: leaves unmapped, but not synced yet
 * @unpinned: leaves that were pinned when installed, and are not now
 * @map_calls: calls of map_pages
 * @unmap_calls: calls of unmap_pages
 * @sync_calls: calls of iotlb_sync
 */
struct vfio_mt_mock_domain {
	__u64 id;
	__u32 devices;
	__u32 flags;
	__u64 pgsizes;
	__u64 aperture_start;
	__u64 aperture_last;
	__u64 leaves;
	__u64 bytes;
	__u64 unsynced;
	__u64 unpinned;
	__u64 map_calls;
	__u64 unmap_calls;
	__u64 sync_calls;
};

#define VFIO_MT_MOCK_DMA \
	_IOWR(VFIO_MT_MOCK_TYPE, 48, struct vfio_mt_mock_rw)
#define VFIO_MT_MOCK_LEAVES \
	_IOWR(VFIO_MT_MOCK_TYPE, 49, struct vfio_mt_mock_leaves)
#define VFIO_MT_MOCK_DOMAIN \
	_IOR(VFIO_MT_MOCK_TYPE, 50, struct vfio_mt_mock_domain)

#endif /* VFIO_MT_MOCK_H */
