// SPDX-License-Identifier: GPL-2.0-only
/*
 * domain.c - groups, domains and what can be mapped for them
 *
 * A group of devices behind an IOMMU is attached to a domain. Groups share a
 * domain where the hardware lets them; else a container has several, and every
 * mapping is in all of them. Groups without an IOMMU (mediated devices) have no
 * domain.
 *
 * What may be mapped is what all domains can translate, less the regions that
 * are reserved for any of the groups.
 *
 * Context: process context, may sleep. Called from the ioctls that put groups
 *    into containers and take them out.
 * Locking: attach and detach hold domain_sem for writing (backend.h), so that
 *    nothing else happens in the container.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/rbtree.h>
#include <linux/slab.h>

#include "include/backend.h"
#include "include/compat.h"

/* ---- what may be mapped ---- */

static void iova_list_free(struct iova_list *list)
{
	kfree(list->ranges);
	list->ranges = NULL;
	list->nr = 0;
}

/* Begin with @from, or with the whole address space where that is empty. */
static int iova_list_init(struct iova_list *list, const struct iova_list *from)
{
	unsigned int nr = from ? from->nr : 0;

	list->ranges = kmalloc_array(nr ? nr : 1, sizeof(*list->ranges),
				     GFP_KERNEL_ACCOUNT);
	if (!list->ranges)
		return -ENOMEM;
	list->nr = nr ? nr : 1;
	if (nr)
		memcpy(list->ranges, from->ranges, nr * sizeof(*list->ranges));
	else
		list->ranges[0] = (struct iova_range){ 0, U64_MAX };
	return 0;
}

/* Take away what is not in [@start, @last]. */
static void iova_list_clip(struct iova_list *list, u64 start, u64 last)
{
	struct iova_range *range;
	unsigned int i, nr = 0;

	for (i = 0; i < list->nr; i++) {
		range = &list->ranges[i];
		if (range->last < start || range->start > last)
			continue;
		list->ranges[nr++] = (struct iova_range){
			max(range->start, start), min(range->last, last)
		};
	}
	list->nr = nr;
}

/* Take away [@start, @last]. One range may become two. */
static int iova_list_exclude(struct iova_list *list, u64 start, u64 last)
{
	struct iova_range *ranges, *range;
	unsigned int i, nr = 0;

	ranges = kmalloc_array(list->nr + 1, sizeof(*ranges),
			       GFP_KERNEL_ACCOUNT);
	if (!ranges)
		return -ENOMEM;
	for (i = 0; i < list->nr; i++) {
		range = &list->ranges[i];
		if (range->last < start || range->start > last) {
			ranges[nr++] = *range;
			continue;
		}
		if (range->start < start)
			ranges[nr++] = (struct iova_range){ range->start,
							    start - 1 };
		if (range->last > last)
			ranges[nr++] = (struct iova_range){ last + 1,
							    range->last };
	}
	kfree(list->ranges);
	list->ranges = ranges;
	list->nr = nr;
	return 0;
}

/* Regions that a relaxable mapping sits in may be used by others. */
static bool resv_blocks(const struct iommu_resv_region *resv)
{
	return resv->type != IOMMU_RESV_DIRECT_RELAXABLE && resv->length;
}

static u64 resv_last(const struct iommu_resv_region *resv)
{
	return resv->start + (resv->length - 1);
}

static int iova_list_exclude_resv(struct iova_list *list,
				  const struct list_head *resvs)
{
	const struct iommu_resv_region *resv;
	int ret;

	list_for_each_entry(resv, resvs, list) {
		if (!resv_blocks(resv))
			continue;
		ret = iova_list_exclude(list, resv->start, resv_last(resv));
		if (ret)
			return ret;
	}
	return list->nr ? 0 : -EINVAL;
}

static void resv_free(struct list_head *resvs)
{
	struct iommu_resv_region *resv, *next;

	list_for_each_entry_safe(resv, next, resvs, list)
		kfree(resv);
	INIT_LIST_HEAD(resvs);
}

/* Would a mapping be lost if only [@start, @last] could be translated? */
static bool aperture_conflicts(const struct backend *backend, u64 start,
			       u64 last)
{
	const struct iova_list *iovas = &backend->iovas;
	u64 first, end;

	/* Devices without an IOMMU have no limits to compare with. */
	if (!iovas->nr)
		return false;
	first = iovas->ranges[0].start;
	end = iovas->ranges[iovas->nr - 1].last;
	if (start > end || last < first)
		return true;
	return (start > first && dma_map_first(backend, first, start - 1)) ||
	       (last < end && dma_map_first(backend, last + 1, end));
}

static bool resv_conflicts(const struct backend *backend,
			   const struct list_head *resvs)
{
	const struct iommu_resv_region *resv;

	list_for_each_entry(resv, resvs, list)
		if (resv_blocks(resv) &&
		    dma_map_first(backend, resv->start, resv_last(resv)))
			return true;
	return false;
}

/**
 * backend_iova_valid - tell whether a range may be mapped
 * @backend: the container
 * @first: first address
 * @last: last address
 *
 * Context: domain_sem is held.
 * Return: true if it may.
 */
bool backend_iova_valid(const struct backend *backend, u64 first, u64 last)
{
	const struct iova_list *iovas = &backend->iovas;
	unsigned int i;

	for (i = 0; i < iovas->nr; i++)
		if (first >= iovas->ranges[i].start &&
		    last <= iovas->ranges[i].last)
			return true;
	return !iovas->nr;
}

/* ---- the set of domains ---- */

static struct backend_group *domain_find_group(struct list_head *groups,
					       struct iommu_group *group)
{
	struct backend_group *g;

	list_for_each_entry(g, groups, node)
		if (g->group == group)
			return g;
	return NULL;
}

/**
 * backend_find_group - find a group in a container
 * @backend: the container
 * @group: the group
 *
 * Context: domain_sem is held.
 * Return: What the container knows about it, or NULL.
 */
struct backend_group *backend_find_group(struct backend *backend,
					 struct iommu_group *group)
{
	struct backend_domain *domain;
	struct backend_group *g;

	list_for_each_entry(domain, &backend->domains, node) {
		g = domain_find_group(&domain->groups, group);
		if (g)
			return g;
	}
	return domain_find_group(&backend->emulated, group);
}

/**
 * backend_group_domain - find the domain that a group is attached to
 * @backend: the container
 * @group: the group
 *
 * Context: Process context. May sleep.
 * Return: The domain, or an error pointer of -ENODEV.
 */
struct iommu_domain *backend_group_domain(struct backend *backend,
					  struct iommu_group *group)
{
	struct iommu_domain *found = ERR_PTR(-ENODEV);
	struct backend_domain *domain;

	down_read(&backend->domain_sem);
	list_for_each_entry(domain, &backend->domains, node) {
		if (domain_find_group(&domain->groups, group)) {
			found = domain->domain;
			break;
		}
	}
	up_read(&backend->domain_sem);
	return found;
}

/**
 * backend_coherent - tell whether all DMA is coherent with the CPU's caches
 * @backend: the container
 *
 * Context: Process context. May sleep.
 * Return: true if all domains enforce it; also if there is none.
 */
bool backend_coherent(struct backend *backend)
{
	struct backend_domain *domain;
	bool coherent = true;

	down_read(&backend->domain_sem);
	list_for_each_entry(domain, &backend->domains, node)
		coherent &= domain->coherent;
	up_read(&backend->domain_sem);
	return coherent;
}

/* The last address that page tables with enough levels for @last reach. */
static u64 reach_of(u64 last)
{
	unsigned int bits = 39;

	while (bits < 64 && last >> bits)
		bits += 9;
	return bits < 64 ? (1ULL << bits) - 1 : U64_MAX;
}

static int domain_extend(struct iommu_domain *domain, u64 last)
{
	u64 iova = last & PAGE_MASK;
	int ret;

	/* Larger pages than the CPU's: no such driver needs this. */
	if (__ffs(domain->pgsize_bitmap) > PAGE_SHIFT)
		return 0;
	ret = iommu_map(domain, iova, page_to_phys(ZERO_PAGE(0)), PAGE_SIZE,
			IOMMU_READ | IOMMU_CACHE, GFP_KERNEL_ACCOUNT);
	if (!ret)
		iommu_unmap(domain, iova, PAGE_SIZE);
	return ret;
}

/**
 * backend_extend - make page tables reach an address
 * @backend: the container
 * @last: the address; nothing is mapped at it or behind it
 *
 * AMD's driver adds a level to a domain's page tables when an address needs it.
 * Whoever walks them at that moment, to map or to unmap, may take the new root
 * for one of the old height. The stock driver never maps from two threads. So
 * levels are added here, by mapping a page for a moment, while nobody else is
 * in the container. For other drivers this does nothing.
 *
 * Context: Process context. May sleep. domain_sem is held for writing.
 * Return: 0 or the IOMMU driver's error.
 */
int backend_extend(struct backend *backend, u64 last)
{
	struct backend_domain *domain;
	int ret;

	lockdep_assert_held_write(&backend->domain_sem);
	if (last <= backend->reach)
		return 0;
	list_for_each_entry(domain, &backend->domains, node) {
		ret = domain_extend(domain->domain, last);
		if (ret)
			return ret;
	}
	backend->reach = reach_of(last);
	return 0;
}

/*
 * A new domain reaches the highest mapping before threads map into it. What is
 * not mapped any more need not be reached by any domain.
 */
static int backend_extend_new(struct backend *backend,
			      struct iommu_domain *domain)
{
	struct rb_node *node = rb_last(&backend->maps);
	u64 last = node ? dma_map_last(rb_entry(node, struct dma_map, node)) : 0;

	backend->reach = max(reach_of(last), BACKEND_REACH_MIN);
	return last > BACKEND_REACH_MIN ? domain_extend(domain, last) : 0;
}

/* Two pages that the devices of @iovas can reach, and no larger page fits. */
static bool whole_find_iova(const struct iova_list *iovas, u64 *iova)
{
	unsigned int i;

	for (i = 0; i < iovas->nr; i++) {
		*iova = round_up(iovas->ranges[i].start, 2 * PAGE_SIZE) +
			PAGE_SIZE;
		if (*iova > iovas->ranges[i].start &&
		    *iova + 2 * PAGE_SIZE - 1 > *iova &&
		    *iova + 2 * PAGE_SIZE - 1 <= iovas->ranges[i].last)
			return true;
	}
	return false;
}

/* Map two pages by one call and unmap the first: does the other one stay? */
static bool whole_try(struct iommu_domain *domain, u64 iova, struct page *page)
{
	size_t done;

	if (iommu_map(domain, iova, page_to_phys(page), 2 * PAGE_SIZE,
		      IOMMU_READ | IOMMU_CACHE, GFP_KERNEL_ACCOUNT))
		return true;
	done = iommu_unmap(domain, iova, PAGE_SIZE);
	if (done < 2 * PAGE_SIZE)
		iommu_unmap(domain, iova + done, 2 * PAGE_SIZE - done);
	return done != PAGE_SIZE;
}

/*
 * Must what was mapped by one call be unmapped by one call? Not where there are page
 * tables. But virtio-iommu passes on requests, of any size, and can only take back a
 * request as a whole: if it is asked for the first part of one, all of it is gone. In
 * doubt, the answer is yes, and physically contiguous memory is unmapped by one thread.
 * @domain is empty.
 */
static bool domain_is_whole(struct iommu_domain *domain,
			    const struct iova_list *iovas)
{
	struct page *pages;
	bool whole = true;
	u64 iova;

	if (__ffs(domain->pgsize_bitmap) > PAGE_SHIFT ||
	    !whole_find_iova(iovas, &iova))
		return true;
	pages = alloc_pages(GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN, 1);
	if (pages) {
		whole = whole_try(domain, iova, pages);
		__free_pages(pages, 1);
	}
	return whole;
}

/* A group that comes or goes may change what its domain can map. */
static void backend_update_sizes(struct backend *backend)
{
	struct backend_domain *domain;

	backend->target.pgsizes = 0;
	list_for_each_entry(domain, &backend->domains, node)
		backend->target.pgsizes |= domain->domain->pgsize_bitmap;
}

/* Follow a change of backend->domains. @target has room for all of them. */
static void backend_update_domains(struct backend *backend)
{
	struct map_target *target = &backend->target;
	struct backend_domain *domain;
	unsigned long all = ~0UL;

	target->nr = 0;
	target->whole = false;
	backend_update_sizes(backend);
	list_for_each_entry(domain, &backend->domains, node) {
		target->domains[target->nr++] = domain->domain;
		target->whole |= domain->whole;
		all &= domain->domain->pgsize_bitmap;
	}
	/* Users need not know of pages smaller than theirs. */
	if (all & ~PAGE_MASK)
		all = (all & PAGE_MASK) | PAGE_SIZE;
	backend->pgsizes = all;
}

/* Make room for one more domain in backend->target. */
static int backend_grow_target(struct backend *backend)
{
	struct map_target *target = &backend->target;
	struct iommu_domain **domains;

	domains = krealloc_array(target->domains, target->nr + 1,
				 sizeof(*domains), GFP_KERNEL_ACCOUNT);
	if (!domains)
		return -ENOMEM;
	target->domains = domains;
	return 0;
}

static int domain_alloc_for(struct device *dev, void *data)
{
	*(struct iommu_domain **)data = iommu_paging_domain_alloc(dev);
	/* The first device stands for its group. */
	return 1;
}

static struct backend_domain *domain_alloc(struct iommu_group *group,
					   bool nesting)
{
	struct iommu_domain *iommu_domain = ERR_PTR(-EIO);
	struct backend_domain *domain;
	int ret;

	domain = kzalloc(sizeof(*domain), GFP_KERNEL_ACCOUNT);
	if (!domain)
		return ERR_PTR(-ENOMEM);
	INIT_LIST_HEAD(&domain->groups);

	iommu_group_for_each_dev(group, &iommu_domain, domain_alloc_for);
	if (IS_ERR(iommu_domain)) {
		ret = PTR_ERR(iommu_domain);
		goto free;
	}
	domain->domain = iommu_domain;
	if (nesting) {
		ret = iommu_enable_nesting(iommu_domain);
		if (ret)
			goto free_domain;
	}
	return domain;
free_domain:
	iommu_domain_free(iommu_domain);
free:
	kfree(domain);
	return ERR_PTR(ret);
}

static void domain_free(struct backend_domain *domain)
{
	iommu_domain_free(domain->domain);
	kfree(domain);
}

/* ---- attach ---- */

/**
 * struct attach - a group being attached
 * @backend: to this container
 * @g: the group
 * @domain: a domain of its own, which it is attached to
 * @resvs: its reserved regions
 * @iovas: what may be mapped with it
 */
struct attach {
	struct backend *backend;
	struct backend_group *g;
	struct backend_domain *domain;
	struct list_head resvs;
	struct iova_list iovas;
};

/* What can be mapped with this group, and does it conflict with what is? */
static int attach_iovas(struct attach *at)
{
	struct iommu_domain_geometry *geo = &at->domain->domain->geometry;
	int ret;

	if (aperture_conflicts(at->backend, geo->aperture_start,
			       geo->aperture_end))
		return -EINVAL;
	ret = iommu_get_group_resv_regions(at->g->group, &at->resvs);
	if (ret)
		return ret;
	if (resv_conflicts(at->backend, &at->resvs))
		return -EINVAL;
	ret = iova_list_init(&at->iovas, &at->backend->iovas);
	if (ret)
		return ret;
	iova_list_clip(&at->iovas, geo->aperture_start, geo->aperture_end);
	return iova_list_exclude_resv(&at->iovas, &at->resvs);
}

static int attach_check_msi(const struct attach *at, bool unsafe_interrupts)
{
	if (unsafe_interrupts || iommu_group_has_isolated_msi(at->g->group))
		return 0;
	pr_warn("this platform does not isolate interrupts of devices: module parameter allow_unsafe_interrupts permits their use all the same\n");
	return -EPERM;
}

/* The window for interrupts that software manages, if the group needs one. */
static int attach_msi_window(const struct attach *at)
{
	const struct iommu_resv_region *resv, *window = NULL;
	int ret;

	list_for_each_entry(resv, &at->resvs, list) {
		/* A window in hardware is the one that is used. */
		if (resv->type == IOMMU_RESV_MSI)
			return 0;
		if (resv->type == IOMMU_RESV_SW_MSI)
			window = resv;
	}
	if (!window)
		return 0;
	ret = iommu_get_msi_cookie(at->domain->domain, window->start);
	return ret == -ENODEV ? 0 : ret;
}

/*
 * Move the group to a domain that the container has, if one takes it. Returns 1
 * if so, 0 if it is on its own domain as before, or an error if it is on none.
 */
static int attach_share(struct attach *at)
{
	struct iommu_domain *own = at->domain->domain;
	struct iommu_group *group = at->g->group;
	struct backend_domain *d;
	int ret;

	list_for_each_entry(d, &at->backend->domains, node) {
		if (d->domain->ops != own->ops ||
		    d->coherent != at->domain->coherent)
			continue;
		iommu_detach_group(own, group);
		if (!iommu_attach_group(d->domain, group)) {
			list_add(&at->g->node, &d->groups);
			backend_update_sizes(at->backend);
			return 1;
		}
		ret = iommu_attach_group(own, group);
		if (ret)
			return ret;
	}
	return 0;
}

/* Give the container the group's own domain. */
static int attach_new_domain(struct attach *at)
{
	struct backend *backend = at->backend;
	int ret;

	ret = backend_grow_target(backend);
	if (ret)
		return ret;
	ret = attach_msi_window(at);
	if (ret)
		return ret;
	at->domain->whole = domain_is_whole(at->domain->domain, &at->iovas);
	ret = backend_extend_new(backend, at->domain->domain);
	if (ret)
		return ret;
	ret = dma_map_add_domain(backend, at->domain);
	if (ret)
		return ret;
	list_add(&at->g->node, &at->domain->groups);
	list_add(&at->domain->node, &backend->domains);
	backend_update_domains(backend);
	return 0;
}

static int attach_to_domain(struct attach *at, bool unsafe_interrupts)
{
	struct iommu_domain *own = at->domain->domain;
	int ret;

	ret = iommu_attach_group(own, at->g->group);
	if (ret)
		return ret;
	ret = attach_iovas(at);
	if (ret)
		goto detach;
	ret = attach_check_msi(at, unsafe_interrupts);
	if (ret)
		goto detach;
	/* KVM need not emulate what guests do against incoherent caches. */
	if (own->ops->enforce_cache_coherency)
		at->domain->coherent = own->ops->enforce_cache_coherency(own);

	ret = attach_share(at);
	if (ret < 0)
		return ret;
	if (ret) {
		domain_free(at->domain);
		at->domain = NULL;
		return 0;
	}
	ret = attach_new_domain(at);
	if (ret)
		goto detach;
	return 0;
detach:
	iommu_detach_group(own, at->g->group);
	return ret;
}

static int attach_iommu_group(struct backend *backend, struct backend_group *g,
			      bool unsafe_interrupts)
{
	struct attach at = { .backend = backend, .g = g };
	int ret;

	INIT_LIST_HEAD(&at.resvs);
	at.domain = domain_alloc(g->group, backend->nesting);
	if (IS_ERR(at.domain))
		return PTR_ERR(at.domain);
	ret = attach_to_domain(&at, unsafe_interrupts);
	resv_free(&at.resvs);
	if (ret) {
		iova_list_free(&at.iovas);
		domain_free(at.domain);
		return ret;
	}
	iova_list_free(&backend->iovas);
	backend->iovas = at.iovas;
	/* It may write to all that is mapped, until it says otherwise. */
	backend->non_pinning++;
	return 0;
}

/**
 * backend_attach_group - put a group into a container
 * @backend: the container
 * @group: the group
 * @emulated: its devices have no IOMMU
 * @unsafe_interrupts: the administrator trusts it with its interrupts
 *
 * Context: Process context. May sleep for long: mappings are pinned, or mapped
 *    for the group.
 * Return: 0; -EBUSY while user addresses are given up, -EINVAL if the group is
 *    in it already or conflicts with what is mapped, -EPERM if its interrupts
 *    are not isolated, -EIO without a domain, -ENOMEM, -EINTR, or the IOMMU
 *    driver's error. The container is as before then.
 */
int backend_attach_group(struct backend *backend, struct iommu_group *group,
			 bool emulated, bool unsafe_interrupts)
{
	struct backend_group *g;
	int ret;

	if (down_write_killable(&backend->domain_sem))
		return -EINTR;
	ret = -EBUSY;
	if (backend->vaddr_invalid)
		goto unlock;
	ret = -EINVAL;
	if (backend_find_group(backend, group))
		goto unlock;
	ret = -ENOMEM;
	g = kzalloc(sizeof(*g), GFP_KERNEL_ACCOUNT);
	if (!g)
		goto unlock;
	g->group = group;

	if (emulated) {
		/* It cannot write to memory but by pinning, or through us. */
		g->pinning = true;
		list_add(&g->node, &backend->emulated);
		ret = 0;
		goto unlock;
	}
	ret = attach_iommu_group(backend, g, unsafe_interrupts);
	if (ret)
		kfree(g);
unlock:
	up_write(&backend->domain_sem);
	return ret;
}

/* ---- detach ---- */

/* What may be mapped for the groups that are left. */
static int detach_iovas(struct backend *backend, struct iova_list *iovas)
{
	struct backend_domain *domain;
	struct backend_group *g;
	LIST_HEAD(resvs);
	int ret;

	ret = iova_list_init(iovas, NULL);
	if (ret)
		return ret;
	list_for_each_entry(domain, &backend->domains, node) {
		iova_list_clip(iovas, domain->domain->geometry.aperture_start,
			       domain->domain->geometry.aperture_end);
		list_for_each_entry(g, &domain->groups, node) {
			ret = iommu_get_group_resv_regions(g->group, &resvs);
			if (ret)
				goto out;
		}
	}
	ret = iova_list_exclude_resv(iovas, &resvs);
out:
	resv_free(&resvs);
	if (ret)
		iova_list_free(iovas);
	return ret;
}

/* The last group of a domain is gone. */
static void detach_domain(struct backend *backend,
			  struct backend_domain *domain)
{
	if (list_is_singular(&backend->domains)) {
		if (list_empty(&backend->emulated))
			dma_map_remove_all(backend);
		else
			dma_map_drop_domains(backend);
	}
	list_del(&domain->node);
	domain_free(domain);
	backend_update_domains(backend);
}

static struct backend_domain *backend_domain_of(struct backend *backend,
						struct iommu_group *group)
{
	struct backend_domain *domain;

	list_for_each_entry(domain, &backend->domains, node)
		if (domain_find_group(&domain->groups, group))
			return domain;
	return NULL;
}

/* Take the group out of its list. */
static void detach_group(struct backend *backend, struct backend_group *g)
{
	struct backend_domain *domain = backend_domain_of(backend, g->group);
	struct iova_list iovas = { };

	list_del(&g->node);
	if (!domain) {
		if (list_empty(&backend->emulated) &&
		    list_empty(&backend->domains))
			dma_map_remove_all(backend);
		return;
	}
	iommu_detach_group(domain->domain, g->group);
	if (list_empty(&domain->groups))
		detach_domain(backend, domain);
	else
		backend_update_sizes(backend);
	/* Without memory, what was forbidden stays so. */
	if (!detach_iovas(backend, &iovas)) {
		iova_list_free(&backend->iovas);
		backend->iovas = iovas;
	}
}

/**
 * backend_detach_group - take a group out of a container
 * @backend: the container
 * @group: the group
 *
 * With the last group go all mappings; with the last one behind an IOMMU, all
 * that is pinned for it.
 *
 * Context: Process context. May sleep for long.
 */
void backend_detach_group(struct backend *backend, struct iommu_group *group)
{
	struct backend_group *g;

	down_write(&backend->domain_sem);
	g = backend_find_group(backend, group);
	if (g) {
		detach_group(backend, g);
		/* Gone without having said what it wrote to. */
		if (!g->pinning) {
			backend->non_pinning--;
			dirty_mark_all(backend);
		}
		kfree(g);
	}
	up_write(&backend->domain_sem);
}

/**
 * backend_release_domains - detach all groups from a container that is closed
 * @backend: the container; it has no mappings any more
 *
 * Context: Process context. May sleep. domain_sem is held for writing.
 */
void backend_release_domains(struct backend *backend)
{
	struct backend_domain *domain, *next_domain;
	struct backend_group *g, *next;

	list_for_each_entry_safe(g, next, &backend->emulated, node)
		kfree(g);
	list_for_each_entry_safe(domain, next_domain, &backend->domains, node) {
		list_for_each_entry_safe(g, next, &domain->groups, node) {
			iommu_detach_group(domain->domain, g->group);
			kfree(g);
		}
		domain_free(domain);
	}
	iova_list_free(&backend->iovas);
	kfree(backend->target.domains);
}
