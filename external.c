// SPDX-License-Identifier: GPL-2.0-only
/*
 * external.c - what devices pin, read and write themselves
 *
 * Mediated devices have no IOMMU of their own. Their drivers ask for single
 * pages of what the user has mapped, to program them into hardware (pin_pages,
 * unpin_pages), or let the CPU copy (dma_rw).
 *
 * A page that several callers have pinned is pinned once and counted. It is
 * charged if there is no IOMMU domain in the container; with one, everything
 * mapped is pinned and charged anyway.
 *
 * Context: process context, may sleep; dma_rw from kernel threads too.
 * Locking: see backend.h. @external and @nr_external are fields of a mapping.
 *    Devices' dma_unmap() is called with nothing locked but device_lock.
 */
#include <linux/iommu.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include "include/backend.h"
#include "include/compat.h"
#include "include/pin_chunk.h"

/**
 * struct external_page - a page that devices have pinned
 * @run: the page, and whether a reference is held
 * @account: it counts as locked memory
 * @refs: how many times it was pinned and not yet unpinned
 */
struct external_page {
	struct pin_run run;
	bool account;
	unsigned int refs;
};

/* The mapping at an address, unless it is about to go. */
static struct dma_map *external_find(const struct backend *backend, u64 iova)
{
	struct dma_map *map = dma_map_first(backend, iova, iova);

	return map && map->state == DMA_MAP_LIVE ? map : NULL;
}

static unsigned long external_index(const struct dma_map *map, u64 iova)
{
	return (iova - map->iova) >> PAGE_SHIFT;
}

/* Pin the page at @iova, and charge it if it is on its own. */
static struct external_page *external_page_alloc(struct dma_map *map, u64 iova,
						 bool charge)
{
	unsigned long va = map->vaddr + (iova - map->iova);
	bool write = map->prot & IOMMU_WRITE;
	struct external_page *page;
	int ret;

	page = kzalloc(sizeof(*page), GFP_KERNEL_ACCOUNT);
	if (!page)
		return ERR_PTR(-ENOMEM);
	ret = pin_one_page(map->owner.mm, va, write, &page->run,
			   &page->account);
	if (ret)
		goto free;
	/* The caller gets struct pages. */
	if (!pfn_valid(page->run.pfn)) {
		ret = -EINVAL;
		goto unpin;
	}
	if (charge && page->account) {
		ret = lockvm_charge(&map->owner, 1);
		if (ret)
			goto unpin;
	}
	page->refs = 1;
	return page;
unpin:
	pin_run_unpin(&page->run, write);
free:
	kfree(page);
	return ERR_PTR(ret);
}

static void external_page_free(struct dma_map *map, struct external_page *page,
			       bool charged)
{
	pin_run_unpin(&page->run, map->prot & IOMMU_WRITE);
	if (charged && page->account)
		lockvm_uncharge(&map->owner, 1);
	kfree(page);
}

static struct external_page *external_page_new(struct dma_map *map, u64 iova,
					       bool charge)
{
	struct external_page *page;
	int ret;

	/* The user's process may be gone while others use the container. */
	if (!mmget_not_zero(map->owner.mm))
		return ERR_PTR(-ENODEV);
	page = external_page_alloc(map, iova, charge);
	if (IS_ERR(page))
		goto out;
	ret = xa_err(xa_store(&map->external, external_index(map, iova), page,
			      GFP_KERNEL_ACCOUNT));
	if (ret) {
		external_page_free(map, page, charge);
		page = ERR_PTR(ret);
		goto out;
	}
	if (page->account) {
		map->nr_external++;
		map->charged += charge;
	}
out:
	mmput(map->owner.mm);
	return page;
}

static void external_unpin_page(struct dma_map *map, u64 iova, bool charged)
{
	unsigned long idx = external_index(map, iova);
	struct external_page *page = xa_load(&map->external, idx);

	if (!page || --page->refs)
		return;
	xa_erase(&map->external, idx);
	if (page->account) {
		map->nr_external--;
		map->charged -= charged;
	}
	external_page_free(map, page, charged);
}

static int external_pin_page(struct backend *backend, u64 iova, int prot,
			     bool charge, struct page **result)
{
	struct dma_map *map = external_find(backend, iova);
	struct external_page *page;

	if (!map)
		return -EINVAL;
	if ((map->prot & prot) != prot)
		return -EPERM;

	page = xa_load(&map->external, external_index(map, iova));
	if (page) {
		page->refs++;
	} else {
		page = external_page_new(map, iova, charge);
		if (IS_ERR(page))
			return PTR_ERR(page);
		dirty_mark(backend, map, iova - map->iova, PAGE_SIZE);
	}
	*result = pfn_to_page(page->run.pfn);
	return 0;
}

static void external_unpin_locked(struct backend *backend, u64 iova, int nr)
{
	bool charged = list_empty(&backend->domains);
	struct dma_map *map;

	for (; nr > 0; nr--, iova += PAGE_SIZE) {
		map = dma_map_first(backend, iova, iova);
		if (map)
			external_unpin_page(map, iova, charged);
	}
}

static u64 external_last(u64 iova, int nr)
{
	return iova + ((u64)nr << PAGE_SHIFT) - 1;
}

/**
 * external_pin - pin pages for a device
 * @backend: the container
 * @group: the device's group
 * @iova: an address in the first page: VFIO's callers may leave an offset in it
 * @nr: number of pages
 * @prot: IOMMU_READ, IOMMU_WRITE, as the device needs
 * @pages: set to the pages
 *
 * Context: Process context. May sleep.
 * Return: @nr; or an error with nothing pinned: -EACCES with the first version
 *    of the interface, -EOVERFLOW (from Linux 7.2 on) for addresses that wrap
 *    around, -EBUSY while user addresses are given up, -EINVAL for no pages,
 *    without a device that could be told to unpin, or where nothing is mapped,
 *    -EPERM, -ENODEV if the user's process is gone, -ENOMEM, or as
 *    pin_one_page().
 */
int external_pin(struct backend *backend, struct iommu_group *group, u64 iova,
		 int nr, int prot, struct page **pages)
{
	struct backend_group *owner;
	bool charge;
	int i, ret;

	if (!pages || nr <= 0)
		return -EINVAL;
	if (!backend->v2)
		return -EACCES;
	if (COMPAT_EWRAP != EINVAL && external_last(iova, nr) < iova)
		return -COMPAT_EWRAP;
	iova &= PAGE_MASK;
	ret = dma_map_lock(backend, iova, external_last(iova, nr), true);
	if (ret)
		return ret;

	ret = -EBUSY;
	if (backend->vaddr_invalid)
		goto unlock;
	ret = -EINVAL;
	if (list_empty(&backend->devices))
		goto unlock;

	charge = list_empty(&backend->domains);
	for (i = 0; i < nr; i++) {
		ret = external_pin_page(backend, iova + ((u64)i << PAGE_SHIFT),
					prot, charge, &pages[i]);
		if (ret) {
			external_unpin_locked(backend, iova, i);
			memset(pages, 0, (i + 1) * sizeof(*pages));
			goto unlock;
		}
	}
	ret = nr;

	/* From now on it is trusted to pin whatever it writes to. */
	owner = backend_find_group(backend, group);
	if (owner && !owner->pinning) {
		owner->pinning = true;
		backend->non_pinning--;
	}
unlock:
	dma_map_unlock(backend);
	return ret;
}

/**
 * external_unpin - unpin pages for a device
 * @backend: the container
 * @iova: an address in the first page
 * @nr: number of pages
 *
 * Context: Process context. May sleep. Called from devices' dma_unmap() too.
 */
void external_unpin(struct backend *backend, u64 iova, int nr)
{
	if (WARN_ON(!backend->v2) || nr <= 0)
		return;
	dma_map_lock_now(backend);
	external_unpin_locked(backend, iova, nr);
	dma_map_unlock(backend);
}

/**
 * external_charged - tell how many pages are charged because devices pinned them
 * @arg: the mapping, struct dma_map
 * @offset: bytes from its start
 * @nr: number of pages
 *
 * Context: Any; the mapping's external pages do not change.
 * Return: The number of pages.
 */
unsigned long external_charged(void *arg, unsigned long offset,
			       unsigned long nr)
{
	unsigned long first = offset >> PAGE_SHIFT, idx, sum = 0;
	struct dma_map *map = arg;
	struct external_page *page;

	xa_for_each_range(&map->external, idx, page, first, first + nr - 1)
		sum += page->account;
	return sum;
}

/**
 * external_mark_dirty - mark what devices have pinned dirty
 * @backend: the container
 * @map: the mapping, with a dirty bitmap
 *
 * Context: lock or domain_sem for writing is held.
 */
void external_mark_dirty(const struct backend *backend, struct dma_map *map)
{
	struct external_page *page;
	unsigned long idx;

	xa_for_each(&map->external, idx, page)
		dirty_mark(backend, map, (u64)idx << PAGE_SHIFT, PAGE_SIZE);
}

/**
 * external_drop_all - drop what devices should have unpinned
 * @map: a mapping about to go, together with the last group
 *
 * Context: Process context. May sleep. domain_sem is held for writing.
 */
void external_drop_all(struct dma_map *map)
{
	struct external_page *page;
	unsigned long idx;

	WARN_ONCE(!xa_empty(&map->external), "pages left pinned by a device\n");
	xa_for_each(&map->external, idx, page) {
		xa_erase(&map->external, idx);
		external_page_free(map, page, false);
	}
	map->nr_external = 0;
}

/* Copy what lies in one mapping. Returns how much, or an error. */
static ssize_t external_rw_map(struct backend *backend, u64 iova, void *data,
			       size_t count, bool write)
{
	struct dma_map *map = external_find(backend, iova);
	bool borrow = !current->mm;
	ssize_t ret = -EFAULT;
	void __user *va;

	if (!map)
		return -EINVAL;
	if ((write && !(map->prot & IOMMU_WRITE)) || !(map->prot & IOMMU_READ))
		return -EPERM;
	if (!mmget_not_zero(map->owner.mm))
		return -EPERM;

	count = min_t(u64, count, dma_map_last(map) - iova + 1);
	va = (void __user *)(map->vaddr + (iova - map->iova));
	if (borrow)
		kthread_use_mm(map->owner.mm);
	if (current->mm == map->owner.mm) {
		if (write ? !copy_to_user(va, data, count) :
			    !copy_from_user(data, va, count))
			ret = count;
	}
	if (borrow)
		kthread_unuse_mm(map->owner.mm);
	if (write && ret > 0)
		dirty_mark(backend, map, iova - map->iova, count);
	mmput(map->owner.mm);
	return ret;
}

/**
 * external_rw - read or write user memory for a device
 * @backend: the container
 * @iova: address
 * @data: kernel memory
 * @count: number of bytes
 * @write: write to user memory
 *
 * Context: Process context, in the process that mapped the memory or a kernel
 *    thread. May sleep.
 * Return: 0; -EBUSY while user addresses are given up, -EINVAL where nothing is
 *    mapped, -EPERM, -EFAULT, -EINTR.
 */
int external_rw(struct backend *backend, u64 iova, void *data, size_t count,
		bool write)
{
	ssize_t done;
	int ret;

	ret = dma_map_lock(backend, iova, iova + count - 1, true);
	if (ret)
		return ret;
	if (backend->vaddr_invalid)
		ret = -EBUSY;
	while (!ret && count) {
		done = external_rw_map(backend, iova, data, count, write);
		if (done < 0) {
			ret = done;
			break;
		}
		count -= done;
		data += done;
		iova += done;
	}
	dma_map_unlock(backend);
	return ret;
}

/**
 * external_register - a device was opened
 * @backend: the container
 * @device: the device
 *
 * Context: Process context. May sleep.
 */
void external_register(struct backend *backend, struct vfio_device *device)
{
	if (!device->ops->dma_unmap)
		return;
	mutex_lock(&backend->device_lock);
	mutex_lock(&backend->lock);
	list_add(&device->iommu_entry, &backend->devices);
	mutex_unlock(&backend->lock);
	mutex_unlock(&backend->device_lock);
}

/**
 * external_unregister - a device was closed
 * @backend: the container
 * @device: the device
 *
 * Context: Process context. May sleep.
 */
void external_unregister(struct backend *backend, struct vfio_device *device)
{
	if (!device->ops->dma_unmap)
		return;
	mutex_lock(&backend->device_lock);
	mutex_lock(&backend->lock);
	list_del(&device->iommu_entry);
	mutex_unlock(&backend->lock);
	mutex_unlock(&backend->device_lock);
}

/**
 * external_notify_unmap - tell devices that a mapping is about to go
 * @backend: the container
 * @iova: the mapping's address
 * @size: the mapping's size
 *
 * Devices unpin what they have pinned in it.
 *
 * Context: Process context. May sleep. domain_sem and lock are not held:
 *    devices call external_unpin().
 */
void external_notify_unmap(struct backend *backend, u64 iova, u64 size)
{
	struct vfio_device *device;

	mutex_lock(&backend->device_lock);
	list_for_each_entry(device, &backend->devices, iommu_entry)
		device->ops->dma_unmap(device, iova, size);
	mutex_unlock(&backend->device_lock);
}
