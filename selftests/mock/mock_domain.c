// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_mock: IOMMU domains whose page table is an xarray
 *
 * Purpose: map and unmap like an IOMMU with the page sizes and the aperture
 *	that the device has; let tests read back what was mapped and let the
 *	"device" do DMA; count every mistake of the domain's user, above all an
 *	unmap of what is not mapped and pages that are unpinned too early.
 * Terms:
 *	leaf	   an entry: an aligned run of IOVA of one page size
 *	unsynced   a leaf after unmap and before the IOTLB sync.  Hardware could
 *		   still use it, so its pages must stay pinned
 *	finalised  a domain that knows its properties.  In Linux 6.1 a domain is
 *		   allocated for a bus, so it learns them at the first attach;
 *		   later, it is allocated for a device
 * Context: the IOMMU core calls in process context; map and unmap may be
 *	called concurrently for different ranges of a domain.
 * Locking: attach_sem (read: use mock_dev.domain, write: change it) comes
 *	after the group mutex of the IOMMU core.  The leaves of a domain are
 *	protected by the lock of their xarray; counters are atomic.
 * Invariants: one entry of the xarray at the index of a leaf's first IOVA and
 *	none at the others that it covers; entries are values (no memory of
 *	their own), so unmap never allocates.
 */
#include <linux/atomic.h>
#include <linux/bitfield.h>
#include <linux/bitops.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/io.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/xarray.h>

#include "mock.h"
#include "mock_compat.h"

/*
 * An entry of the xarray: flags in the low bits, the physical address (in
 * units of 512 bytes) above them.
 */
#define LEAF_ORDER	GENMASK(5, 0)	/* log2 of the size in bytes */
#define LEAF_PROT	GENMASK(8, 6)	/* IOMMU_READ, _WRITE, _CACHE */
#define LEAF_PROT_SHIFT	6
#define LEAF_PINNED	BIT(9)		/* all pages pinned at map */
#define LEAF_UNSYNCED	BIT(10)
#define LEAF_PHYS_SHIFT	11
#define LEAF_PHYS_UNIT	9

#define MARK_UNSYNCED	XA_MARK_0

/**
 * struct mock_domain - a domain
 * @domain: what the IOMMU core sees
 * @id: number, never used twice
 * @finalised: the properties are known; protected by attach_sem
 * @coherent: the domain enforces cache coherency
 * @nesting: iommu_enable_nesting() was called
 * @flags: VFIO_MT_MOCK_CFG_* of the first device
 * @devices: devices attached; protected by attach_sem
 * @shift: log2 of the smallest page size; index in @leaves is IOVA >> @shift
 * @orders: the sizes of leaves that @leaves ever had, one bit for each order
 * @leaves: the leaves, unsynced ones included
 * @nr_leaves: leaves mapped now
 * @nr_bytes: bytes mapped now
 * @nr_unsynced: unsynced leaves
 * @map_calls: calls of map_pages
 * @unmap_calls: calls of unmap_pages
 * @sync_calls: calls of iotlb_sync
 */
struct mock_domain {
	struct iommu_domain domain;
	u64 id;
	bool finalised;
	bool coherent;
	bool nesting;
	u32 flags;
	unsigned int devices;
	unsigned int shift;
	unsigned long orders;
	struct xarray leaves;
	atomic64_t nr_leaves;
	atomic64_t nr_bytes;
	atomic64_t nr_unsynced;
	atomic64_t map_calls;
	atomic64_t unmap_calls;
	atomic64_t sync_calls;
};

/* Events, see struct vfio_mt_mock_stats. */
static struct {
	atomic64_t domains_allocated;
	atomic64_t attaches;
	atomic64_t map_calls;
	atomic64_t unmap_calls;
	atomic64_t sync_map_calls;
	atomic64_t sync_calls;
	atomic64_t flush_calls;
	atomic64_t lookups;
	atomic64_t leaves_mapped[64];
	atomic64_t leaves_freed;
	atomic64_t bad_map_over;
	atomic64_t bad_map_range;
	atomic64_t bad_map_unsynced;
	atomic64_t bad_unmap;
	atomic64_t bad_unpinned;
	atomic64_t bad_unpinned_unsynced;
	atomic64_t bad_free_unsynced;
	atomic64_t bad_free_attached;
} events;

/* State, not cleared by RESET_STATS. */
static atomic64_t nr_domains;
static atomic64_t nr_leaves;
static atomic64_t nr_bytes;
static atomic64_t nr_unsynced;
static atomic64_t next_domain_id;

static DECLARE_RWSEM(attach_sem);

static const struct iommu_domain_ops mock_domain_ops_b;

static struct mock_domain *to_mock_domain(struct iommu_domain *domain)
{
	return container_of(domain, struct mock_domain, domain);
}

/* -------------------------------- leaves -------------------------------- */

static unsigned long leaf_size(unsigned long leaf)
{
	return BIT(FIELD_GET(LEAF_ORDER, leaf));
}

static phys_addr_t leaf_phys(unsigned long leaf)
{
	return (phys_addr_t)(leaf >> LEAF_PHYS_SHIFT) << LEAF_PHYS_UNIT;
}

static unsigned long leaf_make(phys_addr_t phys, unsigned int order, int prot)
{
	return (phys >> LEAF_PHYS_UNIT << LEAF_PHYS_SHIFT) |
	       (((unsigned long)prot << LEAF_PROT_SHIFT) & LEAF_PROT) | order;
}

/**
 * leaf_is_pinned() - are all pages of a leaf pinned now?
 * @leaf: the leaf
 *
 * Memory without struct page, reserved pages and the zero page are not pinned
 * by anyone.
 *
 * Return: true if all are.
 */
static bool leaf_is_pinned(unsigned long leaf)
{
	unsigned long pfn = PHYS_PFN(leaf_phys(leaf));
	unsigned long end = PHYS_PFN(leaf_phys(leaf) + leaf_size(leaf) - 1);

	while (pfn <= end) {
		struct folio *folio;
		struct page *page;

		if (!pfn_valid(pfn) || is_zero_pfn(pfn))
			return false;
		page = pfn_to_page(pfn);
		if (PageReserved(page))
			return false;
		folio = page_folio(page);
		if (!folio_maybe_dma_pinned(folio))
			return false;
		pfn = folio_pfn(folio) + folio_nr_pages(folio);
	}
	return true;
}

/**
 * leaf_find() - the leaf that covers an IOVA
 * @dom: the domain
 * @iova: the address
 * @start: out: first IOVA of the leaf
 *
 * Return: the leaf, which may be unsynced, or 0.
 */
static unsigned long leaf_find(struct mock_domain *dom, unsigned long iova,
			       unsigned long *start)
{
	unsigned long orders = READ_ONCE(dom->orders);
	unsigned int order;

	for_each_set_bit(order, &orders, BITS_PER_LONG) {
		unsigned long first = iova & ~(BIT(order) - 1);
		void *entry = xa_load(&dom->leaves, first >> dom->shift);

		if (entry && iova - first < leaf_size(xa_to_value(entry))) {
			*start = first;
			return xa_to_value(entry);
		}
	}
	return 0;
}

static void leaf_count(struct mock_domain *dom, unsigned long leaf, int sign)
{
	atomic64_add(sign, &dom->nr_leaves);
	atomic64_add(sign, &nr_leaves);
	if (sign < 0) {
		atomic64_sub(leaf_size(leaf), &dom->nr_bytes);
		atomic64_sub(leaf_size(leaf), &nr_bytes);
	} else {
		atomic64_add(leaf_size(leaf), &dom->nr_bytes);
		atomic64_add(leaf_size(leaf), &nr_bytes);
	}
}

/**
 * leaf_check_free() - is an aligned range free of leaves?
 * @dom: the domain
 * @iova: first IOVA
 * @size: bytes, a power of two
 *
 * Counts what it finds.  A leaf that is only unsynced gives way.
 *
 * Return: 0 or -EEXIST.
 */
static int leaf_check_free(struct mock_domain *dom, unsigned long iova,
			   unsigned long size)
{
	unsigned long last = (iova + size - 1) >> dom->shift;
	unsigned long index, start, leaf;
	void *entry;

	leaf = leaf_find(dom, iova, &start);
	if (leaf && !(leaf & LEAF_UNSYNCED)) {
		atomic64_inc(&events.bad_map_over);
		return -EEXIST;
	}
	if (leaf && start != iova)
		atomic64_inc(&events.bad_map_unsynced);

	index = iova >> dom->shift;
	xa_for_each_range(&dom->leaves, index, entry, index, last) {
		if (!(xa_to_value(entry) & LEAF_UNSYNCED)) {
			atomic64_inc(&events.bad_map_over);
			return -EEXIST;
		}
		atomic64_inc(&events.bad_map_unsynced);
		xa_erase(&dom->leaves, index);
		atomic64_dec(&dom->nr_unsynced);
		atomic64_dec(&nr_unsynced);
	}
	return 0;
}

/**
 * leaf_install() - map one leaf
 * @dom: the domain
 * @iova: first IOVA
 * @phys: physical address
 * @order: log2 of the size
 * @prot: IOMMU_*
 * @gfp: how to allocate nodes of the xarray
 *
 * Return: 0 or a negative errno.
 */
static int leaf_install(struct mock_domain *dom, unsigned long iova,
			phys_addr_t phys, unsigned int order, int prot,
			gfp_t gfp)
{
	unsigned long leaf = leaf_make(phys, order, prot);
	int ret;

	if (leaf_is_pinned(leaf))
		leaf |= LEAF_PINNED;

	if (!test_bit(order, &dom->orders))
		set_bit(order, &dom->orders);
	ret = xa_err(xa_store(&dom->leaves, iova >> dom->shift,
			      xa_mk_value(leaf), gfp));
	if (ret)
		return ret;

	leaf_count(dom, leaf, 1);
	return 0;
}

/**
 * leaf_remove() - unmap one leaf; it stays as unsynced
 * @dom: the domain
 * @iova: first IOVA of the leaf
 * @leaf: the leaf
 */
static void leaf_remove(struct mock_domain *dom, unsigned long iova,
			unsigned long leaf)
{
	if ((leaf & LEAF_PINNED) && !leaf_is_pinned(leaf))
		atomic64_inc(&events.bad_unpinned);

	/* Replacing an entry does not allocate. */
	xa_store(&dom->leaves, iova >> dom->shift,
		 xa_mk_value(leaf | LEAF_UNSYNCED), GFP_ATOMIC);
	xa_set_mark(&dom->leaves, iova >> dom->shift, MARK_UNSYNCED);
	leaf_count(dom, leaf, -1);
	atomic64_inc(&dom->nr_unsynced);
	atomic64_inc(&nr_unsynced);
}

/**
 * leaf_sync() - forget unsynced leaves, after checking that they are pinned
 * @dom: the domain
 * @first: first IOVA
 * @last: last IOVA
 */
static void leaf_sync(struct mock_domain *dom, unsigned long first,
		      unsigned long last)
{
	unsigned long index = first >> dom->shift;
	unsigned long max = last >> dom->shift;
	void *entry;

	for (entry = xa_find(&dom->leaves, &index, max, MARK_UNSYNCED); entry;
	     entry = xa_find_after(&dom->leaves, &index, max, MARK_UNSYNCED)) {
		unsigned long leaf = xa_to_value(entry);

		if ((leaf & LEAF_PINNED) && !leaf_is_pinned(leaf))
			atomic64_inc(&events.bad_unpinned_unsynced);
		if (xa_cmpxchg(&dom->leaves, index, entry, NULL, 0) == entry) {
			atomic64_dec(&dom->nr_unsynced);
			atomic64_dec(&nr_unsynced);
		}
	}
}

/**
 * leaf_fill() - map a range with the largest leaves that fit
 * @dom: the domain
 * @iova: first IOVA
 * @last: last IOVA
 * @phys: physical address
 * @prot: IOMMU_*
 */
static void leaf_fill(struct mock_domain *dom, unsigned long iova,
		      unsigned long last, phys_addr_t phys, int prot)
{
	unsigned long left = last - iova;	/* bytes, less one */

	for (;;) {
		unsigned int order, best = dom->shift;

		for_each_set_bit(order, &dom->domain.pgsize_bitmap,
				 BITS_PER_LONG) {
			if (!IS_ALIGNED(iova | phys, BIT(order)) ||
			    BIT(order) - 1 > left)
				break;
			best = order;
		}
		if (leaf_install(dom, iova, phys, best, prot, GFP_ATOMIC))
			return;
		if (BIT(best) - 1 >= left)
			return;
		iova += BIT(best);
		phys += BIT(best);
		left -= BIT(best);
	}
}

/**
 * leaf_split() - replace a leaf by smaller ones, so that a range has its own
 * @dom: the domain
 * @start: first IOVA of the leaf
 * @leaf: the leaf
 * @first: first IOVA of the range
 * @last: last IOVA of the range
 */
static void leaf_split(struct mock_domain *dom, unsigned long start,
		       unsigned long leaf, unsigned long first,
		       unsigned long last)
{
	unsigned long end = start + leaf_size(leaf) - 1;
	phys_addr_t phys = leaf_phys(leaf);
	int prot = FIELD_GET(LEAF_PROT, leaf);

	xa_erase(&dom->leaves, start >> dom->shift);
	leaf_count(dom, leaf, -1);
	if (first != start)
		leaf_fill(dom, start, first - 1, phys, prot);
	leaf_fill(dom, first, last, phys + (first - start), prot);
	if (last != end)
		leaf_fill(dom, last + 1, end, phys + (last + 1 - start), prot);
}

/* -------------------------- domain operations --------------------------- */

static int mock_domain_map_pages(struct iommu_domain *domain,
				 unsigned long iova, phys_addr_t paddr,
				 size_t pgsize, size_t pgcount, int prot,
				 gfp_t gfp, size_t *mapped)
{
	struct mock_domain *dom = to_mock_domain(domain);
	bool can_sleep = gfpflags_allow_blocking(gfp);
	unsigned int order = __ffs(pgsize);
	int ret;

	atomic64_inc(&events.map_calls);
	atomic64_inc(&dom->map_calls);

	if (!(domain->pgsize_bitmap & pgsize) || !is_power_of_2(pgsize) ||
	    !IS_ALIGNED(iova | paddr, pgsize) ||
	    iova < domain->geometry.aperture_start ||
	    iova + (pgsize * pgcount - 1) > domain->geometry.aperture_end ||
	    iova + (pgsize * pgcount - 1) < iova) {
		atomic64_inc(&events.bad_map_range);
		return -EFAULT;
	}

	if (can_sleep)
		mock_fail_wait(iova);
	for (; pgcount; pgcount--) {
		ret = mock_inject_hit(VFIO_MT_MOCK_INJECT_MAP, iova,
				      iova + pgsize - 1, can_sleep);
		if (ret)
			return ret;
		ret = leaf_check_free(dom, iova, pgsize);
		if (ret)
			return ret;
		ret = leaf_install(dom, iova, paddr, order, prot, gfp);
		if (ret)
			return ret;
		atomic64_inc(&events.leaves_mapped[order]);
		iova += pgsize;
		paddr += pgsize;
		*mapped += pgsize;
		if (can_sleep)
			cond_resched();
	}
	return 0;
}

static size_t mock_domain_unmap_pages(struct iommu_domain *domain,
				      unsigned long iova, size_t pgsize,
				      size_t pgcount,
				      struct iommu_iotlb_gather *gather)
{
	struct mock_domain *dom = to_mock_domain(domain);
	size_t size = pgsize * pgcount;
	size_t unmapped = 0;

	atomic64_inc(&events.unmap_calls);
	atomic64_inc(&dom->unmap_calls);
	/* Only backends use these domains, and they may sleep. */
	mock_fail_wait(iova);

	while (unmapped < size) {
		unsigned long start, leaf, last;

		leaf = leaf_find(dom, iova, &start);
		if (!leaf || (leaf & LEAF_UNSYNCED)) {
			if (!unmapped)
				atomic64_inc(&events.bad_unmap);
			break;
		}

		last = iova + (size - unmapped - 1);
		if ((dom->flags & VFIO_MT_MOCK_CFG_SPLIT) &&
		    (iova != start || last - start < leaf_size(leaf) - 1)) {
			leaf_split(dom, start, leaf, iova,
				   min(last, start + leaf_size(leaf) - 1));
			continue;
		}

		leaf_remove(dom, start, leaf);
		iommu_iotlb_gather_add_range(gather, start, leaf_size(leaf));
		unmapped += leaf_size(leaf);
		iova = start + leaf_size(leaf);
	}
	return unmapped;
}

#ifdef MOCK_SYNC_MAP_RETURNS
static int mock_domain_iotlb_sync_map(struct iommu_domain *domain,
				      unsigned long iova, size_t size)
{
	atomic64_inc(&events.sync_map_calls);
	return 0;
}
#else
static void mock_domain_iotlb_sync_map(struct iommu_domain *domain,
				       unsigned long iova, size_t size)
{
	atomic64_inc(&events.sync_map_calls);
}
#endif

static void mock_domain_iotlb_sync(struct iommu_domain *domain,
				   struct iommu_iotlb_gather *gather)
{
	struct mock_domain *dom = to_mock_domain(domain);

	atomic64_inc(&events.sync_calls);
	atomic64_inc(&dom->sync_calls);
	if (gather->start <= gather->end)
		leaf_sync(dom, gather->start, gather->end);
}

static void mock_domain_flush_iotlb_all(struct iommu_domain *domain)
{
	atomic64_inc(&events.flush_calls);
	leaf_sync(to_mock_domain(domain), 0, ULONG_MAX);
}

static phys_addr_t mock_domain_iova_to_phys(struct iommu_domain *domain,
					    dma_addr_t iova)
{
	unsigned long start, leaf;

	atomic64_inc(&events.lookups);
	leaf = leaf_find(to_mock_domain(domain), iova, &start);
	if (!leaf || (leaf & LEAF_UNSYNCED))
		return 0;
	return leaf_phys(leaf) + (iova - start);
}

static bool mock_domain_enforce_cache_coherency(struct iommu_domain *domain)
{
	struct mock_domain *dom = to_mock_domain(domain);

	if (!(dom->flags & VFIO_MT_MOCK_CFG_COHERENT))
		return false;
	dom->coherent = true;
	return true;
}

#ifdef MOCK_ENABLES_NESTING
static int mock_domain_enable_nesting(struct iommu_domain *domain)
{
	int ret = mock_inject_hit(VFIO_MT_MOCK_INJECT_NESTING, 0, 0, true);

	if (!ret)
		to_mock_domain(domain)->nesting = true;
	return ret;
}

#define MOCK_NESTING_OP	.enable_nesting = mock_domain_enable_nesting,
#else
#define MOCK_NESTING_OP
#endif

/**
 * mock_domain_finalise() - give a domain the properties of a device
 * @dom: a paging domain
 * @config: the properties
 */
static void mock_domain_finalise(struct mock_domain *dom,
				 const struct vfio_mt_mock_config *config)
{
	lockdep_assert_held_write(&attach_sem);

	dom->flags = config->flags;
	dom->shift = __ffs(config->pgsizes);
	dom->domain.pgsize_bitmap = config->pgsizes;
	dom->domain.geometry.aperture_start = config->aperture_start;
	dom->domain.geometry.aperture_end = config->aperture_last;
	dom->domain.geometry.force_aperture = true;
	if (config->flags & VFIO_MT_MOCK_CFG_OPS_B)
		dom->domain.ops = &mock_domain_ops_b;
	dom->finalised = true;
}

/**
 * mock_domain_fits() - can a device use a domain that others use?
 * @dom: a finalised paging domain
 * @config: the properties of the device
 *
 * Return: true if it can.
 */
static bool mock_domain_fits(struct mock_domain *dom,
			     const struct vfio_mt_mock_config *config)
{
	const u32 same = VFIO_MT_MOCK_CFG_SPLIT | VFIO_MT_MOCK_CFG_OPS_B;
	struct iommu_domain *domain = &dom->domain;

	lockdep_assert_held_write(&attach_sem);

	return domain->pgsize_bitmap == config->pgsizes &&
	       domain->geometry.aperture_start == config->aperture_start &&
	       domain->geometry.aperture_end == config->aperture_last &&
	       !((dom->flags ^ config->flags) & same) &&
	       (!dom->coherent || config->flags & VFIO_MT_MOCK_CFG_COHERENT);
}

static void mock_dev_set_domain(struct mock_dev *mdev, struct mock_domain *dom)
{
	lockdep_assert_held_write(&attach_sem);

	if (mdev->domain)
		mdev->domain->devices--;
	if (dom)
		dom->devices++;
	mdev->domain = dom;
}

/* The core calls this on its error paths: it cannot fail. */
static int mock_domain_attach_none(struct iommu_domain *domain,
				   struct device *dev,
				   struct iommu_domain *old)
{
	down_write(&attach_sem);
	mock_dev_set_domain(dev_iommu_priv_get(dev), NULL);
	up_write(&attach_sem);
	return 0;
}

static int mock_domain_attach_dev(struct iommu_domain *domain,
				  struct device *dev,
				  struct iommu_domain *old)
{
	struct mock_domain *dom = to_mock_domain(domain);
	struct mock_dev *mdev = dev_iommu_priv_get(dev);
	struct vfio_mt_mock_config config;
	int ret;

	if (domain->type != IOMMU_DOMAIN_UNMANAGED)
		return mock_domain_attach_none(domain, dev, old);

	ret = mock_inject_hit(VFIO_MT_MOCK_INJECT_ATTACH, 0, 0, true);
	if (ret)
		return ret;

	mock_dev_get_config(mdev, &config);
	down_write(&attach_sem);
	if (dom->nesting && !(config.flags & VFIO_MT_MOCK_CFG_NESTING))
		ret = -EINVAL;
	else if (!dom->finalised)
		mock_domain_finalise(dom, &config);
	else if (!mock_domain_fits(dom, &config))
		ret = -EINVAL;
	if (!ret) {
		mock_dev_set_domain(mdev, dom);
		atomic64_inc(&events.attaches);
	}
	up_write(&attach_sem);
	return ret;
}

static void mock_domain_free(struct iommu_domain *domain)
{
	struct mock_domain *dom = to_mock_domain(domain);
	unsigned long index;
	void *entry;

	if (dom->devices)
		atomic64_inc(&events.bad_free_attached);

	xa_for_each(&dom->leaves, index, entry) {
		unsigned long leaf = xa_to_value(entry);

		if (leaf & LEAF_UNSYNCED) {
			atomic64_inc(&events.bad_free_unsynced);
			atomic64_dec(&nr_unsynced);
			continue;
		}
		atomic64_inc(&events.leaves_freed);
		if ((leaf & LEAF_PINNED) && !leaf_is_pinned(leaf))
			atomic64_inc(&events.bad_unpinned);
		leaf_count(dom, leaf, -1);
	}
	xa_destroy(&dom->leaves);
	if (domain->type == IOMMU_DOMAIN_UNMANAGED)
		atomic64_dec(&nr_domains);
	kfree(dom);
}

#define MOCK_DOMAIN_OPS {						\
	.attach_dev		 = mock_domain_attach_dev,		\
	.map_pages		 = mock_domain_map_pages,		\
	.unmap_pages		 = mock_domain_unmap_pages,		\
	.flush_iotlb_all	 = mock_domain_flush_iotlb_all,		\
	.iotlb_sync_map		 = mock_domain_iotlb_sync_map,		\
	.iotlb_sync		 = mock_domain_iotlb_sync,		\
	.iova_to_phys		 = mock_domain_iova_to_phys,		\
	.enforce_cache_coherency = mock_domain_enforce_cache_coherency,	\
	MOCK_NESTING_OP							\
	.free			 = mock_domain_free,			\
}

/* The backend compares domains by the address of their operations. */
const struct iommu_domain_ops mock_domain_ops_a = MOCK_DOMAIN_OPS;
static const struct iommu_domain_ops mock_domain_ops_b = MOCK_DOMAIN_OPS;

/* Returns NULL without memory, and on request. */
static struct mock_domain *mock_domain_new(bool paging)
{
	struct mock_domain *dom;

	if (paging && mock_inject_hit(VFIO_MT_MOCK_INJECT_ALLOC, 0, 0, true))
		return NULL;

	dom = kzalloc(sizeof(*dom), GFP_KERNEL);
	if (!dom)
		return NULL;

	xa_init(&dom->leaves);
	dom->shift = PAGE_SHIFT;
	dom->id = atomic64_inc_return(&next_domain_id);
	if (paging) {
		atomic64_inc(&events.domains_allocated);
		atomic64_inc(&nr_domains);
	}
	return dom;
}

#ifdef MOCK_DOMAINS_BY_TYPE

/**
 * mock_domain_alloc() - allocate a domain
 * @type: IOMMU_DOMAIN_*
 *
 * Return: the domain, or NULL for other types, without memory, and on request.
 */
struct iommu_domain *mock_domain_alloc(unsigned int type)
{
	struct mock_domain *dom;

	if (type != IOMMU_DOMAIN_UNMANAGED && type != IOMMU_DOMAIN_IDENTITY &&
	    type != IOMMU_DOMAIN_BLOCKED)
		return NULL;
	dom = mock_domain_new(type == IOMMU_DOMAIN_UNMANAGED);
	return dom ? &dom->domain : NULL;
}

#else

/**
 * mock_domain_alloc_paging() - allocate a domain with page tables
 * @dev: the device to make it for
 *
 * Return: the domain, or NULL without memory, and on request.
 */
struct iommu_domain *mock_domain_alloc_paging(struct device *dev)
{
	struct mock_domain *dom = mock_domain_new(true);
	struct vfio_mt_mock_config config;

	if (!dom)
		return NULL;
	mock_dev_get_config(dev_iommu_priv_get(dev), &config);
	down_write(&attach_sem);
	mock_domain_finalise(dom, &config);
	up_write(&attach_sem);
	return &dom->domain;
}

static const struct iommu_domain_ops mock_none_ops = {
	.attach_dev = mock_domain_attach_none,
};

struct iommu_domain mock_identity_domain = {
	.type = IOMMU_DOMAIN_IDENTITY,
	.ops = &mock_none_ops,
};

struct iommu_domain mock_blocked_domain = {
	.type = IOMMU_DOMAIN_BLOCKED,
	.ops = &mock_none_ops,
};

#endif

/* ----------------------- what the ioctls ask for ------------------------ */

/**
 * mock_domain_copy() - access physical memory as a device
 * @phys: address
 * @data: kernel buffer
 * @size: bytes, within one page
 * @write: to memory
 *
 * Return: 0 or -EFAULT.
 */
static int mock_domain_copy(phys_addr_t phys, void *data, size_t size,
			    bool write)
{
	unsigned long offset = offset_in_page(phys);
	void __iomem *io;
	void *mem;

	if (pfn_valid(PHYS_PFN(phys))) {
		mem = kmap_local_page(pfn_to_page(PHYS_PFN(phys)));
		if (write)
			memcpy(mem + offset, data, size);
		else
			memcpy(data, mem + offset, size);
		kunmap_local(mem);
		return 0;
	}

	io = ioremap(phys, size);
	if (!io)
		return -EFAULT;
	if (write)
		memcpy_toio(io, data, size);
	else
		memcpy_fromio(data, io, size);
	iounmap(io);
	return 0;
}

/**
 * mock_domain_dma() - DMA by a device
 * @mdev: the device
 * @iova: address
 * @data: kernel buffer
 * @size: bytes
 * @write: to memory
 * @done: out: bytes copied
 *
 * Return: 0, -EFAULT when a page is not mapped or not permitted, -ENODEV when
 * the device is attached to no paging domain.
 */
int mock_domain_dma(struct mock_dev *mdev, u64 iova, void *data, size_t size,
		    bool write, u64 *done)
{
	unsigned int need = write ? IOMMU_WRITE : IOMMU_READ;
	struct mock_domain *dom;
	int ret = 0;

	*done = 0;
	down_read(&attach_sem);
	dom = mdev->domain;
	if (!dom)
		ret = -ENODEV;

	while (!ret && *done < size) {
		u64 addr = iova + *done;
		size_t length = min_t(size_t, size - *done,
				      BIT(dom->shift) -
				      (addr & (BIT(dom->shift) - 1)));
		unsigned long start, leaf;

		leaf = leaf_find(dom, addr, &start);
		if (!leaf || (leaf & LEAF_UNSYNCED) ||
		    !(FIELD_GET(LEAF_PROT, leaf) & need)) {
			ret = -EFAULT;
			break;
		}
		ret = mock_domain_copy(leaf_phys(leaf) + (addr - start),
				       data + *done, length, write);
		if (!ret)
			*done += length;
	}
	up_read(&attach_sem);
	return ret;
}

/**
 * mock_domain_leaves() - read leaves
 * @mdev: the device
 * @first: in: first IOVA; out: where to go on
 * @leaf: array
 * @count: its length
 * @found: out: entries written
 *
 * Return: 1 when there may be more, 0 at the end, -ENODEV when the device is
 * attached to no paging domain.
 */
int mock_domain_leaves(struct mock_dev *mdev, u64 *first,
		       struct vfio_mt_mock_leaf *leaf, unsigned int count,
		       unsigned int *found)
{
	struct mock_domain *dom;
	unsigned long index;
	void *entry;
	int ret = 0;

	*found = 0;
	down_read(&attach_sem);
	dom = mdev->domain;
	if (!dom) {
		ret = -ENODEV;
		goto unlock;
	}

	index = *first >> dom->shift;
	xa_for_each_start(&dom->leaves, index, entry, index) {
		unsigned long value = xa_to_value(entry);

		if (value & LEAF_UNSYNCED)
			continue;
		if (*found == count) {
			*first = (u64)index << dom->shift;
			ret = 1;
			break;
		}
		leaf[*found].iova = (u64)index << dom->shift;
		leaf[*found].phys = leaf_phys(value);
		leaf[*found].size = leaf_size(value);
		leaf[*found].prot = FIELD_GET(LEAF_PROT, value);
		leaf[*found].pinned = !!(value & LEAF_PINNED);
		(*found)++;
	}
unlock:
	up_read(&attach_sem);
	return ret;
}

/**
 * mock_domain_info() - describe and check the domain of a device
 * @mdev: the device
 * @info: out: all of it
 *
 * Return: 0, or -ENODEV when the device is attached to no paging domain.
 */
int mock_domain_info(struct mock_dev *mdev, struct vfio_mt_mock_domain *info)
{
	struct mock_domain *dom;
	unsigned long index;
	void *entry;

	memset(info, 0, sizeof(*info));
	down_read(&attach_sem);
	dom = mdev->domain;
	if (!dom) {
		up_read(&attach_sem);
		return -ENODEV;
	}

	info->id = dom->id;
	info->devices = dom->devices;
	info->flags = (dom->coherent ? VFIO_MT_MOCK_DOM_COHERENT : 0) |
		      (dom->nesting ? VFIO_MT_MOCK_DOM_NESTING : 0) |
		      (mock_domain_has_msi_cookie(&dom->domain) ?
		       VFIO_MT_MOCK_DOM_MSI_COOKIE : 0);
	info->pgsizes = dom->domain.pgsize_bitmap;
	info->aperture_start = dom->domain.geometry.aperture_start;
	info->aperture_last = dom->domain.geometry.aperture_end;
	info->leaves = atomic64_read(&dom->nr_leaves);
	info->bytes = atomic64_read(&dom->nr_bytes);
	info->unsynced = atomic64_read(&dom->nr_unsynced);
	info->map_calls = atomic64_read(&dom->map_calls);
	info->unmap_calls = atomic64_read(&dom->unmap_calls);
	info->sync_calls = atomic64_read(&dom->sync_calls);
	xa_for_each(&dom->leaves, index, entry) {
		unsigned long leaf = xa_to_value(entry);

		if (!(leaf & LEAF_UNSYNCED) && (leaf & LEAF_PINNED) &&
		    !leaf_is_pinned(leaf))
			info->unpinned++;
		cond_resched();
	}
	up_read(&attach_sem);
	return 0;
}

/**
 * mock_domain_get_stats() - read all counters
 * @stats: out
 */
void mock_domain_get_stats(struct vfio_mt_mock_stats *stats)
{
	unsigned int i;

	memset(stats, 0, sizeof(*stats));
	stats->domains = atomic64_read(&nr_domains);
	stats->leaves = atomic64_read(&nr_leaves);
	stats->bytes = atomic64_read(&nr_bytes);
	stats->unsynced = atomic64_read(&nr_unsynced);
	stats->domains_allocated = atomic64_read(&events.domains_allocated);
	stats->attaches = atomic64_read(&events.attaches);
	stats->map_calls = atomic64_read(&events.map_calls);
	stats->unmap_calls = atomic64_read(&events.unmap_calls);
	stats->sync_map_calls = atomic64_read(&events.sync_map_calls);
	stats->sync_calls = atomic64_read(&events.sync_calls);
	stats->flush_calls = atomic64_read(&events.flush_calls);
	stats->lookups = atomic64_read(&events.lookups);
	stats->leaves_freed = atomic64_read(&events.leaves_freed);
	stats->bad_map_over = atomic64_read(&events.bad_map_over);
	stats->bad_map_range = atomic64_read(&events.bad_map_range);
	stats->bad_map_unsynced = atomic64_read(&events.bad_map_unsynced);
	stats->bad_unmap = atomic64_read(&events.bad_unmap);
	stats->bad_unpinned = atomic64_read(&events.bad_unpinned);
	stats->bad_unpinned_unsynced =
		atomic64_read(&events.bad_unpinned_unsynced);
	stats->bad_free_unsynced = atomic64_read(&events.bad_free_unsynced);
	stats->bad_free_attached = atomic64_read(&events.bad_free_attached);
	for (i = 0; i < ARRAY_SIZE(stats->leaves_mapped); i++)
		stats->leaves_mapped[i] =
			atomic64_read(&events.leaves_mapped[i]);
}

/**
 * mock_domain_reset_stats() - clear the counters of events
 */
void mock_domain_reset_stats(void)
{
	memset(&events, 0, sizeof(events));
}
