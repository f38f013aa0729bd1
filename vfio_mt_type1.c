// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_type1.c - VFIO IOMMU backend that maps on several threads
 *
 * Takes the place of vfio_iommu_type1: the same interface to user space
 * (VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_NESTING_IOMMU) and to VFIO,
 * the same parameters. VFIO asks the backend that was registered last first.
 *
 * This file is the module's edge: parameters, the table of operations, and the
 * decoding of ioctls. What they do is in the layers below, each of which uses
 * only those under it:
 *
 *	dma_map.c domain.c dirty.c external.c	a container		(backend.h)
 *	map_range.c unmap_range.c		a range of memory	(map_range.h)
 *	map_feed.c map_job.c user_worker.c	the IOMMU; threads
 *	pin_chunk.c pin_record.c lockvm_cache.c	user memory
 *	map_stat.c				counters, trace events
 *	include/compat.h			the kernel's version
 *
 * Context: process context; VFIO calls attach_group, detach_group and release
 *    with its container's lock held, ioctl without.
 * Locking: see backend.h.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>
#include <linux/wait_bit.h>

#include "include/backend.h"
#include "include/compat.h"
#include "include/map_stat.h"
#include "include/user_worker.h"
#include "include/vfio_driver_ops.h"

/* ---- parameters ---- */

static bool allow_unsafe_interrupts;
module_param(allow_unsafe_interrupts, bool, 0644);
MODULE_PARM_DESC(allow_unsafe_interrupts,
		 "Allow devices on platforms that do not isolate interrupts (default: N)");

module_param_named(disable_hugepages, map_tune.disable_hugepages, bool, 0644);
MODULE_PARM_DESC(disable_hugepages,
		 "Map every page on its own, without the IOMMU's large pages (default: N)");

static unsigned int dma_entry_limit __read_mostly = U16_MAX;
module_param(dma_entry_limit, uint, 0644);
MODULE_PARM_DESC(dma_entry_limit,
		 "Most mappings in a container made from now on (default: 65535)");

module_param_named(max_threads, map_tune.max_threads, uint, 0644);
MODULE_PARM_DESC(max_threads,
		 "Most threads that map or unmap one range, 1 for the caller alone (default: 0, choose)");

module_param_named(lockvm_cache_pages, map_tune.lockvm_batch, uint, 0644);
MODULE_PARM_DESC(lockvm_cache_pages,
		 "Most pages of locked memory that a thread charges in advance (default: 65536)");

module_param_named(min_chunk_mb, map_tune.min_chunk, uint, 0644);
MODULE_PARM_DESC(min_chunk_mb,
		 "Least memory for each thread, in MiB (default: 16)");

module_param_named(helper_us, map_tune.helper_us, uint, 0644);
MODULE_PARM_DESC(helper_us,
		 "Least estimated work for each thread, in microseconds (default: 500)");

/* ---- CHECK_EXTENSION, GET_INFO ---- */

static bool has_emulated(struct backend *backend)
{
	bool has;

	down_read(&backend->domain_sem);
	has = !list_empty(&backend->emulated);
	up_read(&backend->domain_sem);
	return has;
}

/* @backend is NULL before the user has chosen this one. */
static long check_extension(struct backend *backend, unsigned long extension)
{
	switch (extension) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_UNMAP_ALL:
		return 1;
	case VFIO_TYPE1_NESTING_IOMMU:
		return COMPAT_OFFERS_NESTING;
	case VFIO_UPDATE_VADDR:
		/* Devices without an IOMMU use user addresses at any time. */
		return backend && !has_emulated(backend);
	case VFIO_DMA_CC_IOMMU:
		return backend && backend_coherent(backend);
	default:
		return 0;
	}
}

static int info_add_migration(const struct backend *backend,
			      struct vfio_info_cap *caps)
{
	struct vfio_iommu_type1_info_cap_migration cap = {
		.header.id = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
		.header.version = 1,
		.pgsize_bitmap = backend_pgsize(backend),
		.max_dirty_bitmap_size =
			dirty_bitmap_bytes(DIRTY_BITMAP_PAGES_MAX),
	};

	return vfio_info_add_capability(caps, &cap.header, sizeof(cap));
}

static int info_add_avail(const struct backend *backend,
			  struct vfio_info_cap *caps)
{
	struct vfio_iommu_type1_info_dma_avail cap = {
		.header.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
		.header.version = 1,
		.avail = backend->maps_avail,
	};

	return vfio_info_add_capability(caps, &cap.header, sizeof(cap));
}

static int info_add_iovas(const struct backend *backend,
			  struct vfio_info_cap *caps)
{
	struct vfio_iommu_type1_info_cap_iova_range *cap;
	const struct iova_list *iovas = &backend->iovas;
	unsigned int i;
	size_t size;
	int ret;

	if (!iovas->nr)
		return 0;
	size = struct_size(cap, iova_ranges, iovas->nr);
	cap = kzalloc(size, GFP_KERNEL);
	if (!cap)
		return -ENOMEM;
	cap->header.id = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE;
	cap->header.version = 1;
	cap->nr_iovas = iovas->nr;
	for (i = 0; i < iovas->nr; i++) {
		cap->iova_ranges[i].start = iovas->ranges[i].start;
		cap->iova_ranges[i].end = iovas->ranges[i].last;
	}
	ret = vfio_info_add_capability(caps, &cap->header, size);
	kfree(cap);
	return ret;
}

static int info_collect(struct backend *backend,
			struct vfio_iommu_type1_info *info,
			struct vfio_info_cap *caps)
{
	int ret;

	dma_map_lock_now(backend);
	info->flags = VFIO_IOMMU_INFO_PGSIZES;
	info->iova_pgsizes = backend->pgsizes;
	ret = info_add_migration(backend, caps);
	if (!ret)
		ret = info_add_avail(backend, caps);
	if (!ret)
		ret = info_add_iovas(backend, caps);
	dma_map_unlock(backend);
	return ret;
}

static long get_info(struct backend *backend, void __user *arg)
{
	size_t size = offsetofend(struct vfio_iommu_type1_info, iova_pgsizes);
	struct vfio_info_cap caps = { };
	struct vfio_iommu_type1_info info = { };
	long ret;

	if (copy_from_user(&info, arg, size))
		return -EFAULT;
	if (info.argsz < size)
		return -EINVAL;
	/* The first users of this had no room for capabilities. */
	size = compat_type1_info_size(info.argsz);

	ret = info_collect(backend, &info, &caps);
	if (ret)
		goto out;
	if (caps.size) {
		info.flags |= VFIO_IOMMU_INFO_CAPS;
		if (info.argsz < sizeof(info) + caps.size) {
			info.argsz = sizeof(info) + caps.size;
		} else {
			vfio_info_cap_shift(&caps, sizeof(info));
			ret = -EFAULT;
			if (copy_to_user(arg + sizeof(info), caps.buf,
					 caps.size))
				goto out;
			info.cap_offset = sizeof(info);
		}
	}
	ret = copy_to_user(arg, &info, size) ? -EFAULT : 0;
out:
	kfree(caps.buf);
	return ret;
}

/* ---- MAP_DMA, UNMAP_DMA ---- */

static long map_dma(struct backend *backend, void __user *arg)
{
	const u32 rw = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
	size_t size = offsetofend(struct vfio_iommu_type1_dma_map, size);
	struct vfio_iommu_type1_dma_map map;
	int prot = 0;

	if (copy_from_user(&map, arg, size))
		return -EFAULT;
	if (map.argsz < size || map.flags & ~(rw | VFIO_DMA_MAP_FLAG_VADDR))
		return -EINVAL;
	/* Where it has an errno of its own, it comes before all that follows. */
	if (map.size && (map.iova + map.size - 1 < map.iova ||
			 map.vaddr + map.size - 1 < map.vaddr))
		return -COMPAT_EWRAP;
	/* Either a mapping is made, or one is given its address back. */
	if (!(map.flags & rw) == !(map.flags & VFIO_DMA_MAP_FLAG_VADDR))
		return -EINVAL;
	if (!current->mm)
		return -ENODEV;

	if (map.flags & VFIO_DMA_MAP_FLAG_VADDR)
		return dma_map_set_vaddr(backend, map.iova, map.vaddr,
					 map.size);

	if (map.flags & VFIO_DMA_MAP_FLAG_READ)
		prot |= IOMMU_READ;
	if (map.flags & VFIO_DMA_MAP_FLAG_WRITE)
		prot |= IOMMU_WRITE;
	return dma_map_create(backend, map.iova, map.vaddr, map.size, prot);
}

/* A bitmap that has a bit for each page of @size bytes at least. */
static int bitmap_check(const struct vfio_bitmap *bitmap, u64 size)
{
	u64 pages;

	if (!access_ok((void __user *)bitmap->data, bitmap->size))
		return -EINVAL;
	if (!bitmap->pgsize)
		return -EINVAL;
	pages = size >> __ffs64(bitmap->pgsize);
	if (!pages || !bitmap->size ||
	    bitmap->size > dirty_bitmap_bytes(DIRTY_BITMAP_PAGES_MAX) ||
	    bitmap->size < dirty_bitmap_bytes(pages))
		return -EINVAL;
	return 0;
}

static int unmap_dma_bitmap(const struct vfio_iommu_type1_dma_unmap *arg,
			    void __user *data, struct dma_unmap *unmap)
{
	struct vfio_bitmap bitmap;
	int ret;

	if (arg->flags & (VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR))
		return -EINVAL;
	if (arg->argsz < offsetof(struct vfio_iommu_type1_dma_unmap, data) +
			 sizeof(bitmap))
		return -EINVAL;
	if (copy_from_user(&bitmap, data, sizeof(bitmap)))
		return -EFAULT;
	ret = bitmap_check(&bitmap, arg->size);
	if (ret)
		return ret;
	unmap->report = true;
	unmap->bitmap = (u64 __user *)bitmap.data;
	unmap->pgsize = bitmap.pgsize;
	return 0;
}

static long unmap_dma(struct backend *backend, void __user *uarg)
{
	size_t size = offsetofend(struct vfio_iommu_type1_dma_unmap, size);
	struct vfio_iommu_type1_dma_unmap arg;
	struct dma_unmap unmap = { };
	u64 unmapped;
	int ret;

	if (copy_from_user(&arg, uarg, size))
		return -EFAULT;
	if (arg.argsz < size ||
	    arg.flags & ~(VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP |
			  VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR))
		return -EINVAL;
	if (arg.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) {
		ret = unmap_dma_bitmap(&arg, uarg + size, &unmap);
		if (ret)
			return ret;
	}
	unmap.iova = arg.iova;
	unmap.size = arg.size;
	unmap.all = arg.flags & VFIO_DMA_UNMAP_FLAG_ALL;
	unmap.vaddr_only = arg.flags & VFIO_DMA_UNMAP_FLAG_VADDR;

	ret = dma_map_remove(backend, &unmap, &unmapped);
	if (ret)
		return ret;
	arg.size = unmapped;
	return copy_to_user(uarg, &arg, size) ? -EFAULT : 0;
}

/* ---- DIRTY_PAGES ---- */

static long dirty_pages_switch(struct backend *backend, bool start)
{
	int ret = 0;

	if (down_write_killable(&backend->domain_sem))
		return -EINTR;
	if (start)
		ret = dirty_start(backend);
	else
		dirty_stop(backend);
	up_write(&backend->domain_sem);
	return ret;
}

static long dirty_pages_get(struct backend *backend, void __user *arg,
			    u32 size)
{
	struct vfio_iommu_type1_dirty_bitmap_get get;
	int ret;

	if (size < sizeof(get))
		return -EINVAL;
	if (copy_from_user(&get, arg, sizeof(get)))
		return -EFAULT;
	/* The range may end where the address space does. */
	if (!get.size)
		return -EINVAL;
	if (get.iova + get.size - 1 < get.iova)
		return -COMPAT_EWRAP;
	ret = bitmap_check(&get.bitmap, get.size);
	if (ret)
		return ret;
	return dirty_get(backend, get.iova, get.size, get.bitmap.pgsize,
			 (u64 __user *)get.bitmap.data);
}

static long dirty_pages(struct backend *backend, void __user *arg)
{
	size_t size = offsetofend(struct vfio_iommu_type1_dirty_bitmap, flags);
	struct vfio_iommu_type1_dirty_bitmap dirty;

	if (!backend->v2)
		return -EACCES;
	if (copy_from_user(&dirty, arg, size))
		return -EFAULT;
	if (dirty.argsz < size)
		return -EINVAL;

	switch (dirty.flags) {
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
		return dirty_pages_switch(backend, true);
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
		return dirty_pages_switch(backend, false);
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
		return dirty_pages_get(backend, arg + size, dirty.argsz - size);
	default:
		return -EINVAL;
	}
}

/* ---- the table of operations ---- */

static long backend_ioctl(struct backend *backend, unsigned int cmd,
			  unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case VFIO_CHECK_EXTENSION:
		return check_extension(backend, arg);
	case VFIO_IOMMU_GET_INFO:
		return get_info(backend, uarg);
	case VFIO_IOMMU_MAP_DMA:
		return map_dma(backend, uarg);
	case VFIO_IOMMU_UNMAP_DMA:
		return unmap_dma(backend, uarg);
	case VFIO_IOMMU_DIRTY_PAGES:
		return dirty_pages(backend, uarg);
	default:
		return -ENOTTY;
	}
}

/*
 * VFIO calls this without its container's lock, so the last group can be taken
 * out by another thread meanwhile. VFIO then has the backend released, and only
 * afterwards forgets its address. So release waits for the ioctls that are in
 * here, those that come later are turned away by @users being 0, and the memory
 * stays until every thread that may have fetched the address has used it.
 */
static long vfio_mt_ioctl(void *data, unsigned int cmd, unsigned long arg)
{
	struct backend *backend = data;
	long ret;

	if (!backend && cmd == VFIO_CHECK_EXTENSION)
		return backend_ioctl(NULL, cmd, arg);
	/* As VFIO answers when the last group is gone. */
	if (!backend || !refcount_inc_not_zero(&backend->users))
		return -EINVAL;
	ret = backend_ioctl(backend, cmd, arg);
	if (refcount_dec_and_test(&backend->users))
		wake_up_var(&backend->users);
	return ret;
}

static void *vfio_mt_open(unsigned long type)
{
	struct backend *backend;

	if (type != VFIO_TYPE1_IOMMU && type != VFIO_TYPE1v2_IOMMU &&
	    type != VFIO_TYPE1_NESTING_IOMMU)
		return ERR_PTR(-EINVAL);

	backend = kzalloc(sizeof(*backend), GFP_KERNEL_ACCOUNT);
	if (!backend)
		return ERR_PTR(-ENOMEM);
	backend->v2 = type != VFIO_TYPE1_IOMMU;
	backend->nesting = type == VFIO_TYPE1_NESTING_IOMMU;
	backend->maps = RB_ROOT;
	backend->maps_avail = READ_ONCE(dma_entry_limit);
	backend->pgsizes = PAGE_MASK;
	backend->reach = BACKEND_REACH_MIN;
	refcount_set(&backend->users, 1);
	mutex_init(&backend->device_lock);
	init_rwsem(&backend->domain_sem);
	mutex_init(&backend->lock);
	init_waitqueue_head(&backend->wait);
	INIT_LIST_HEAD(&backend->unmaps);
	INIT_LIST_HEAD(&backend->waits);
	INIT_LIST_HEAD(&backend->domains);
	INIT_LIST_HEAD(&backend->emulated);
	INIT_LIST_HEAD(&backend->devices);
	map_stat_user_add(&backend->user);
	return backend;
}

static void backend_free(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct backend, rcu));
}

static void vfio_mt_release(void *data)
{
	struct backend *backend = data;

	map_stat_user_remove(&backend->user);
	if (!refcount_dec_and_test(&backend->users))
		wait_var_event(&backend->users,
			       !refcount_read(&backend->users));
	/* Nobody else is left; this is for lockdep. */
	down_write(&backend->domain_sem);
	dma_map_remove_all(backend);
	backend_release_domains(backend);
	up_write(&backend->domain_sem);
	/* Between VFIO's fetching the address and our looking nobody sleeps. */
	call_rcu_tasks(&backend->rcu, backend_free);
}

static int vfio_mt_attach_group(void *data, struct iommu_group *group,
				enum vfio_group_type type)
{
	return backend_attach_group(data, group, type == VFIO_EMULATED_IOMMU,
				    READ_ONCE(allow_unsafe_interrupts));
}

static void vfio_mt_detach_group(void *data, struct iommu_group *group)
{
	backend_detach_group(data, group);
}

static int vfio_mt_pin_pages(void *data, struct iommu_group *group,
			     dma_addr_t iova, int nr, int prot,
			     struct page **pages)
{
	return data ? external_pin(data, group, iova, nr, prot, pages) :
		      -EINVAL;
}

static void vfio_mt_unpin_pages(void *data, dma_addr_t iova, int nr)
{
	external_unpin(data, iova, nr);
}

static void vfio_mt_register_device(void *data, struct vfio_device *device)
{
	external_register(data, device);
}

static void vfio_mt_unregister_device(void *data, struct vfio_device *device)
{
	external_unregister(data, device);
}

static int vfio_mt_dma_rw(void *data, dma_addr_t iova, void *buf, size_t count,
			  bool write)
{
	return external_rw(data, iova, buf, count, write);
}

static struct iommu_domain *vfio_mt_group_iommu_domain(void *data,
						       struct iommu_group *group)
{
	if (!data || !group)
		return ERR_PTR(-EINVAL);
	return backend_group_domain(data, group);
}

static const struct vfio_iommu_driver_ops vfio_mt_ops = {
	.name			= "vfio-mt-type1",
	.owner			= THIS_MODULE,
	.open			= vfio_mt_open,
	.release		= vfio_mt_release,
	.ioctl			= vfio_mt_ioctl,
	.attach_group		= vfio_mt_attach_group,
	.detach_group		= vfio_mt_detach_group,
	.pin_pages		= vfio_mt_pin_pages,
	.unpin_pages		= vfio_mt_unpin_pages,
	.register_device	= vfio_mt_register_device,
	.unregister_device	= vfio_mt_unregister_device,
	.dma_rw			= vfio_mt_dma_rw,
	.group_iommu_domain	= vfio_mt_group_iommu_domain,
};

static int __init vfio_mt_init(void)
{
	int ret;

	ret = pin_record_module_init();
	if (ret)
		return ret;
	ret = map_range_module_init();
	if (ret)
		goto exit_record;
	ret = unmap_range_module_init();
	if (ret)
		goto exit_map;
	ret = user_worker_module_init();
	if (ret)
		goto exit_unmap;
	map_stat_module_init();
	ret = vfio_register_iommu_driver(&vfio_mt_ops);
	if (ret)
		goto exit_stat;
	return 0;

exit_stat:
	map_stat_module_exit();
	user_worker_module_exit();
exit_unmap:
	unmap_range_module_exit();
exit_map:
	map_range_module_exit();
exit_record:
	pin_record_module_exit();
	return ret;
}

static void __exit vfio_mt_exit(void)
{
	/*
	 * backend_free() is part of this module; and who is late with an ioctl looks
	 * at what VFIO frees next. Nobody opens a container any more.
	 */
	compat_rcu_barrier_tasks();
	vfio_unregister_iommu_driver(&vfio_mt_ops);
	map_stat_module_exit();
	user_worker_module_exit();
	unmap_range_module_exit();
	map_range_module_exit();
	pin_record_module_exit();
}

module_init(vfio_mt_init);
module_exit(vfio_mt_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Multithreaded Type1 IOMMU backend for VFIO");
MODULE_VERSION("0.1");
