// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_mock: the VFIO devices
 *
 * Purpose: let user space drive what the backend does for drivers in the
 *	kernel: vfio_pin_pages(), vfio_unpin_pages() and vfio_dma_rw(), from the
 *	calling thread or from a kernel thread, and answer its dma_unmap calls.
 *	The ioctls of iommu devices go on to mock_domain.c.
 * Terms:
 *	pin	a page that vfio_pin_pages() gave us, by IOVA, with a count
 * Context: ioctls run in process context.  The backend calls dma_unmap with its
 *	list of devices locked; it may call vfio_unpin_pages() then.
 * Locking: unmap_sem is held for reading while pages are pinned or unpinned,
 *	so that dma_unmap (which holds it for writing) never misses a page that
 *	is being pinned; the backend must drop its lock for dma_unmap.
 *	table_lock protects the table of pins, the log and unmap_conf.  The
 *	backend is never called with table_lock held.
 * Invariants: a page is in the table as often as the backend has counted a pin
 *	of ours; the table is empty when the device is closed.
 */
#include <linux/err.h>
#include <linux/highmem.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "mock.h"
#include "mock_compat.h"

#define MOCK_MAX_PIN	4096
#define MOCK_MAX_RW	(16UL << 20)
#define MOCK_MAX_LEAVES	4096U
#define MOCK_MAX_IGNORE	5

/**
 * struct mock_pin - one pinned page
 * @page: the page
 * @count: how often we pinned it
 */
struct mock_pin {
	struct page *page;
	unsigned int count;
};

/**
 * struct mock_vdev - a VFIO device
 * @vdev: what VFIO sees
 * @mdev: its entry in the table of devices
 * @unmap_sem: see above
 * @table_lock: protects the rest
 * @pins: struct mock_pin by page number of the IOVA
 * @mismatches: pins that gave another page than before
 * @conf: what dma_unmap does
 * @log: calls of dma_unmap
 */
struct mock_vdev {
	struct vfio_device vdev;
	struct mock_dev *mdev;
	struct rw_semaphore unmap_sem;
	struct mutex table_lock;	/* protects what follows */
	struct xarray pins;
	u64 mismatches;
	struct vfio_mt_mock_unmap_conf conf;
	struct vfio_mt_mock_unmap_log log;
};

/**
 * struct mock_call - a call of the backend, made by a kernel thread
 * @work: the work item
 * @mock: the device
 * @fn: what to do
 * @iova: first IOVA
 * @last: last IOVA
 * @npage: number of pages
 * @prot: IOMMU_*
 * @pages: array of pages
 * @data: kernel buffer
 * @size: its size
 * @write: direction
 * @result: what the backend returned
 * @pins: pins dropped
 */
struct mock_call {
	struct work_struct work;
	struct mock_vdev *mock;
	void (*fn)(struct mock_call *call);
	u64 iova;
	u64 last;
	int npage;
	int prot;
	struct page **pages;
	void *data;
	size_t size;
	bool write;
	int result;
	u64 pins;
};

static struct mock_vdev *to_mock_vdev(struct vfio_device *vdev)
{
	return container_of(vdev, struct mock_vdev, vdev);
}

static void mock_call_work(struct work_struct *work)
{
	struct mock_call *call = container_of(work, struct mock_call, work);

	call->fn(call);
}

/**
 * mock_call_run() - make a call, here or in a kernel thread
 * @call: what to call
 * @context: VFIO_MT_MOCK_CALLER or VFIO_MT_MOCK_WORKER
 *
 * Context: sleeps until the call is done.
 */
static void mock_call_run(struct mock_call *call, u32 context)
{
	if (context == VFIO_MT_MOCK_CALLER) {
		call->fn(call);
		return;
	}
	INIT_WORK_ONSTACK(&call->work, mock_call_work);
	queue_work(system_dfl_wq, &call->work);
	flush_work(&call->work);
	destroy_work_on_stack(&call->work);
}

/* --------------------------------- pins --------------------------------- */

static void mock_call_pin(struct mock_call *call)
{
	call->result = vfio_pin_pages(&call->mock->vdev, call->iova,
				      call->npage, call->prot, call->pages);
}

static void mock_call_unpin(struct mock_call *call)
{
	const int max = VFIO_PIN_PAGES_MAX_ENTRIES;
	u64 iova = call->iova;
	int left = call->npage;

	while (left > 0) {
		int npage = min(left, max);

		vfio_unpin_pages(&call->mock->vdev, iova, npage);
		iova += (u64)npage << PAGE_SHIFT;
		left -= npage;
	}
}

/**
 * mock_pin_add() - remember a pin
 * @mock: the device
 * @iova: IOVA of the page
 * @page: the page
 *
 * Return: 0 or -ENOMEM.
 */
static int mock_pin_add(struct mock_vdev *mock, u64 iova, struct page *page)
{
	struct mock_pin *pin;
	int ret = 0;

	mutex_lock(&mock->table_lock);
	pin = xa_load(&mock->pins, iova >> PAGE_SHIFT);
	if (!pin) {
		pin = kzalloc(sizeof(*pin), GFP_KERNEL);
		if (!pin) {
			ret = -ENOMEM;
			goto unlock;
		}
		pin->page = page;
		ret = xa_err(xa_store(&mock->pins, iova >> PAGE_SHIFT, pin,
				      GFP_KERNEL));
		if (ret) {
			kfree(pin);
			goto unlock;
		}
	}
	if (pin->page != page)
		mock->mismatches++;
	pin->count++;
unlock:
	mutex_unlock(&mock->table_lock);
	return ret;
}

/**
 * mock_pin_forget() - take one pin of each page of a range from the table
 * @mock: the device
 * @iova: first page
 * @npage: number of pages
 * @raw: pages that are not in the table are left out
 *
 * Return: 0, or -ENOENT with nothing changed when a page is not in the table.
 */
static int mock_pin_forget(struct mock_vdev *mock, u64 iova, int npage,
			   bool raw)
{
	unsigned long index = iova >> PAGE_SHIFT;
	struct mock_pin *pin;
	int ret = 0;
	int i;

	mutex_lock(&mock->table_lock);
	for (i = 0; i < npage && !raw; i++) {
		if (!xa_load(&mock->pins, index + i)) {
			ret = -ENOENT;
			goto unlock;
		}
	}
	for (i = 0; i < npage; i++) {
		pin = xa_load(&mock->pins, index + i);
		if (pin && !--pin->count) {
			xa_erase(&mock->pins, index + i);
			kfree(pin);
		}
	}
unlock:
	mutex_unlock(&mock->table_lock);
	return ret;
}

/**
 * mock_call_drop() - unpin all that is pinned in a range
 * @call: mock, iova, last; sets pins
 *
 * Context: unmap_sem held for writing by the caller of mock_call_run().
 */
static void mock_call_drop(struct mock_call *call)
{
	struct mock_vdev *mock = call->mock;
	unsigned long index = call->iova >> PAGE_SHIFT;
	struct mock_pin *pin;

	for (;;) {
		mutex_lock(&mock->table_lock);
		pin = xa_find(&mock->pins, &index, call->last >> PAGE_SHIFT,
			      XA_PRESENT);
		if (pin)
			xa_erase(&mock->pins, index);
		mutex_unlock(&mock->table_lock);
		if (!pin)
			return;

		for (; pin->count; pin->count--) {
			vfio_unpin_pages(&mock->vdev, (u64)index << PAGE_SHIFT,
					 1);
			call->pins++;
		}
		kfree(pin);
	}
}

/**
 * mock_pin_get_page() - the page that is pinned at an IOVA
 * @mock: the device
 * @iova: any address in the page
 *
 * Return: the page with a reference for the caller to put, or NULL.
 */
static struct page *mock_pin_get_page(struct mock_vdev *mock, u64 iova)
{
	struct page *page = NULL;
	struct mock_pin *pin;

	mutex_lock(&mock->table_lock);
	pin = xa_load(&mock->pins, iova >> PAGE_SHIFT);
	if (pin) {
		page = pin->page;
		get_page(page);
	}
	mutex_unlock(&mock->table_lock);
	return page;
}

/* -------------------------------- ioctls -------------------------------- */

static long mock_ioctl_pin(struct mock_vdev *mock,
			   struct vfio_mt_mock_pin __user *arg)
{
	struct mock_call call = { .mock = mock, .fn = mock_call_pin };
	struct vfio_mt_mock_pin pin;
	int i;

	if (copy_from_user(&pin, arg, sizeof(pin)))
		return -EFAULT;
	if (pin.npage < 0 || pin.npage > MOCK_MAX_PIN ||
	    pin.context > VFIO_MT_MOCK_WORKER || pin.flags)
		return -EINVAL;

	call.pages = kvmalloc_array(max(pin.npage, 1), sizeof(*call.pages),
				    GFP_KERNEL);
	if (!call.pages)
		return -ENOMEM;
	/* Anything but NULL: what the backend leaves alone can be seen. */
	for (i = 0; i < pin.npage; i++)
		call.pages[i] = ZERO_PAGE(0);
	call.iova = pin.iova;
	call.npage = pin.npage;
	call.prot = pin.prot;

	down_read(&mock->unmap_sem);
	mock_call_run(&call, pin.context);
	pin.result = call.result;
	for (i = 0; i < call.result; i++) {
		u64 iova = pin.iova + ((u64)i << PAGE_SHIFT);

		if (mock_pin_add(mock, iova, call.pages[i])) {
			mock_pin_forget(mock, pin.iova, i, false);
			vfio_unpin_pages(&mock->vdev, pin.iova, call.result);
			pin.result = -ENOMEM;
			break;
		}
	}
	up_read(&mock->unmap_sem);

	pin.nr_pages = 0;
	for (i = 0; i < pin.npage; i++)
		pin.nr_pages += !!call.pages[i];
	kvfree(call.pages);

	return copy_to_user(arg, &pin, sizeof(pin)) ? -EFAULT : 0;
}

static long mock_ioctl_unpin(struct mock_vdev *mock,
			     struct vfio_mt_mock_pin __user *arg)
{
	struct mock_call call = { .mock = mock, .fn = mock_call_unpin };
	struct vfio_mt_mock_pin pin;

	if (copy_from_user(&pin, arg, sizeof(pin)))
		return -EFAULT;
	if (pin.npage <= 0 || pin.npage > MOCK_MAX_PIN ||
	    pin.context > VFIO_MT_MOCK_WORKER ||
	    pin.flags & ~VFIO_MT_MOCK_PIN_RAW)
		return -EINVAL;

	call.iova = pin.iova;
	call.npage = pin.npage;

	down_read(&mock->unmap_sem);
	pin.result = mock_pin_forget(mock, pin.iova, pin.npage,
				     pin.flags & VFIO_MT_MOCK_PIN_RAW);
	if (!pin.result)
		mock_call_run(&call, pin.context);
	up_read(&mock->unmap_sem);

	pin.nr_pages = 0;
	return copy_to_user(arg, &pin, sizeof(pin)) ? -EFAULT : 0;
}

static void mock_call_rw(struct mock_call *call)
{
	call->result = vfio_dma_rw(&call->mock->vdev, call->iova, call->data,
				   call->size, call->write);
}

static void mock_call_dma(struct mock_call *call)
{
	call->result = mock_domain_dma(call->mock->mdev, call->iova, call->data,
				       call->size, call->write, &call->pins);
}

static void mock_call_page_rw(struct mock_call *call)
{
	u64 done = 0;

	while (done < call->size) {
		u64 iova = call->iova + done;
		size_t length = min_t(size_t, call->size - done,
				      PAGE_SIZE - offset_in_page(iova));
		struct page *page = mock_pin_get_page(call->mock, iova);
		void *mem;

		if (!page) {
			call->result = -ENOENT;
			break;
		}
		mem = kmap_local_page(page) + offset_in_page(iova);
		if (call->write)
			memcpy(mem, call->data + done, length);
		else
			memcpy(call->data + done, mem, length);
		kunmap_local(mem);
		put_page(page);
		done += length;
	}
	call->pins = done;
}

static long mock_ioctl_rw(struct mock_vdev *mock,
			  struct vfio_mt_mock_rw __user *arg,
			  void (*fn)(struct mock_call *call))
{
	struct mock_call call = { .mock = mock, .fn = fn };
	struct vfio_mt_mock_rw rw;
	void __user *buf;
	long ret = 0;

	if (copy_from_user(&rw, arg, sizeof(rw)))
		return -EFAULT;
	if (rw.size > MOCK_MAX_RW || rw.context > VFIO_MT_MOCK_WORKER)
		return -EINVAL;

	buf = u64_to_user_ptr(rw.buf);
	call.iova = rw.iova;
	call.size = rw.size;
	call.write = rw.write;
	call.data = kvmalloc(max_t(size_t, rw.size, 1), GFP_KERNEL);
	if (!call.data)
		return -ENOMEM;
	if (copy_from_user(call.data, buf, rw.size)) {
		ret = -EFAULT;
		goto free;
	}

	mock_call_run(&call, rw.context);

	rw.result = call.result;
	rw.done = call.pins;
	if (!rw.write && copy_to_user(buf, call.data, rw.size))
		ret = -EFAULT;
	if (copy_to_user(arg, &rw, sizeof(rw)))
		ret = -EFAULT;
free:
	kvfree(call.data);
	return ret;
}

static long mock_ioctl_same_page(struct mock_vdev *mock,
				 struct vfio_mt_mock_same __user *arg)
{
	struct vfio_mt_mock_same same;
	struct page *page, *other;

	if (copy_from_user(&same, arg, sizeof(same)))
		return -EFAULT;

	page = mock_pin_get_page(mock, same.iova);
	if (!page)
		return -ENOENT;
	other = mock_mem_pinned_page_at(same.vaddr);
	same.same = page == other;
	same.zero = is_zero_pfn(page_to_pfn(page));
	if (other)
		put_page(other);
	put_page(page);

	return copy_to_user(arg, &same, sizeof(same)) ? -EFAULT : 0;
}

static long mock_ioctl_unmap_conf(struct mock_vdev *mock,
				  struct vfio_mt_mock_unmap_conf __user *arg)
{
	struct vfio_mt_mock_unmap_conf conf;

	if (copy_from_user(&conf, arg, sizeof(conf)))
		return -EFAULT;
	if (conf.ignore > MOCK_MAX_IGNORE || conf.async > 1)
		return -EINVAL;

	mutex_lock(&mock->table_lock);
	mock->conf = conf;
	mutex_unlock(&mock->table_lock);
	return 0;
}

static long mock_ioctl_unmap_log(struct mock_vdev *mock,
				 struct vfio_mt_mock_unmap_log __user *arg)
{
	struct vfio_mt_mock_unmap_log *log;
	long ret = 0;

	log = kmalloc(sizeof(*log), GFP_KERNEL);
	if (!log)
		return -ENOMEM;

	mutex_lock(&mock->table_lock);
	*log = mock->log;
	memset(&mock->log, 0, sizeof(mock->log));
	mutex_unlock(&mock->table_lock);

	if (copy_to_user(arg, log, sizeof(*log)))
		ret = -EFAULT;
	kfree(log);
	return ret;
}

static long mock_ioctl_pin_info(struct mock_vdev *mock,
				struct vfio_mt_mock_pin_info __user *arg)
{
	struct vfio_mt_mock_pin_info info = {};
	struct mock_pin *pin;
	unsigned long index;

	mutex_lock(&mock->table_lock);
	info.mismatches = mock->mismatches;
	xa_for_each(&mock->pins, index, pin) {
		info.pages++;
		info.pins += pin->count;
	}
	mutex_unlock(&mock->table_lock);

	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long mock_ioctl_leaves(struct mock_vdev *mock,
			      struct vfio_mt_mock_leaves __user *arg)
{
	struct vfio_mt_mock_leaves req;
	struct vfio_mt_mock_leaf *leaf;
	unsigned int found;
	long ret;

	if (copy_from_user(&req, arg, sizeof(req)))
		return -EFAULT;

	req.count = min(req.count, MOCK_MAX_LEAVES);
	leaf = kvmalloc_array(max(req.count, 1U), sizeof(*leaf), GFP_KERNEL);
	if (!leaf)
		return -ENOMEM;

	ret = mock_domain_leaves(mock->mdev, &req.first, leaf, req.count,
				 &found);
	if (ret >= 0) {
		req.more = ret;
		req.count = found;
		ret = 0;
		if (copy_to_user(u64_to_user_ptr(req.buf), leaf,
				 found * sizeof(*leaf)) ||
		    copy_to_user(arg, &req, sizeof(req)))
			ret = -EFAULT;
	}
	kvfree(leaf);
	return ret;
}

static long mock_ioctl_domain(struct mock_vdev *mock,
			      struct vfio_mt_mock_domain __user *arg)
{
	struct vfio_mt_mock_domain info;
	int ret = mock_domain_info(mock->mdev, &info);

	if (ret)
		return ret;
	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long mock_ioctl_get_info(struct vfio_device_info __user *arg)
{
	unsigned long minsz = offsetofend(struct vfio_device_info, num_irqs);
	struct vfio_device_info info;

	if (copy_from_user(&info, arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;

	info.flags = VFIO_DEVICE_FLAGS_PLATFORM;
	info.num_regions = 0;
	info.num_irqs = 0;
	return copy_to_user(arg, &info, minsz) ? -EFAULT : 0;
}

static long mock_iommu_ioctl(struct mock_vdev *mock, unsigned int cmd,
			     void __user *arg)
{
	switch (cmd) {
	case VFIO_MT_MOCK_DMA:
		return mock_ioctl_rw(mock, arg, mock_call_dma);
	case VFIO_MT_MOCK_LEAVES:
		return mock_ioctl_leaves(mock, arg);
	case VFIO_MT_MOCK_DOMAIN:
		return mock_ioctl_domain(mock, arg);
	default:
		return -ENOTTY;
	}
}

static long mock_vfio_ioctl(struct vfio_device *vdev, unsigned int cmd,
			    unsigned long argument)
{
	struct mock_vdev *mock = to_mock_vdev(vdev);
	void __user *arg = (void __user *)argument;

	switch (cmd) {
	case VFIO_DEVICE_GET_INFO:
		return mock_ioctl_get_info(arg);
	case VFIO_MT_MOCK_PIN:
		return mock_ioctl_pin(mock, arg);
	case VFIO_MT_MOCK_UNPIN:
		return mock_ioctl_unpin(mock, arg);
	case VFIO_MT_MOCK_RW:
		return mock_ioctl_rw(mock, arg, mock_call_rw);
	case VFIO_MT_MOCK_PAGE_RW:
		return mock_ioctl_rw(mock, arg, mock_call_page_rw);
	case VFIO_MT_MOCK_SAME_PAGE:
		return mock_ioctl_same_page(mock, arg);
	case VFIO_MT_MOCK_UNMAP_CONF:
		return mock_ioctl_unmap_conf(mock, arg);
	case VFIO_MT_MOCK_UNMAP_LOG:
		return mock_ioctl_unmap_log(mock, arg);
	case VFIO_MT_MOCK_PIN_INFO:
		return mock_ioctl_pin_info(mock, arg);
	default:
		return mock->mdev->iommu ? mock_iommu_ioctl(mock, cmd, arg) :
					   -ENOTTY;
	}
}

/* -------------------------- device operations --------------------------- */

/**
 * mock_unmap_logged() - log a call of dma_unmap, and decide what it does
 * @mock: the device
 * @iova: first IOVA
 * @length: bytes
 * @async: out: unpin in a kernel thread
 *
 * Return: true if pages shall be unpinned.
 */
static bool mock_unmap_logged(struct mock_vdev *mock, u64 iova, u64 length,
			      bool *async)
{
	struct vfio_mt_mock_unmap_log *log = &mock->log;
	unsigned long index = iova >> PAGE_SHIFT;
	u64 last = iova + length - 1;
	unsigned int slot;
	bool drop = true;

	mutex_lock(&mock->table_lock);
	slot = log->calls;
	if (slot >= VFIO_MT_MOCK_NR_LOG) {
		slot = VFIO_MT_MOCK_NR_LOG - 1;
		memmove(&log->range[0], &log->range[1],
			slot * sizeof(log->range[0]));
	}
	log->range[slot].iova = iova;
	log->range[slot].size = length;
	log->calls++;

	if (mock->conf.ignore &&
	    xa_find(&mock->pins, &index, last >> PAGE_SHIFT, XA_PRESENT)) {
		mock->conf.ignore--;
		drop = false;
	}
	*async = mock->conf.async;
	mutex_unlock(&mock->table_lock);
	return drop;
}

static void mock_vfio_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
	struct mock_vdev *mock = to_mock_vdev(vdev);
	struct mock_call call = { .mock = mock, .fn = mock_call_drop };
	bool async;

	down_write(&mock->unmap_sem);
	if (mock_unmap_logged(mock, iova, length, &async)) {
		call.iova = iova;
		call.last = iova + length - 1;
		mock_call_run(&call, async ? VFIO_MT_MOCK_WORKER :
					     VFIO_MT_MOCK_CALLER);
		mutex_lock(&mock->table_lock);
		mock->log.unpinned += call.pins;
		mutex_unlock(&mock->table_lock);
	}
	up_write(&mock->unmap_sem);
}

static const struct vfio_device_ops mock_ops_dma_unmap;
static const struct vfio_device_ops mock_ops_plain;

/*
 * VFIO asks for a device by its name before it opens it, and looks for dma_unmap
 * when it opens and when it closes it.
 */
static int mock_vfio_match(struct vfio_device *vdev, char *name)
{
	struct mock_vdev *mock = to_mock_vdev(vdev);

	if (strcmp(dev_name(vdev->dev), name))
		return 0;
	if (vdev->open_count)
		return 1;
	if (mock_dev_flags(mock->mdev) & VFIO_MT_MOCK_CFG_DMA_UNMAP)
		vdev->ops = &mock_ops_dma_unmap;
	else
		vdev->ops = &mock_ops_plain;
	return 1;
}

static int mock_vfio_open_device(struct vfio_device *vdev)
{
	struct mock_vdev *mock = to_mock_vdev(vdev);

	mutex_lock(&mock->table_lock);
	mock->mismatches = 0;
	memset(&mock->conf, 0, sizeof(mock->conf));
	memset(&mock->log, 0, sizeof(mock->log));
	mutex_unlock(&mock->table_lock);
	return 0;
}

static void mock_vfio_close_device(struct vfio_device *vdev)
{
	struct mock_call call = {
		.mock = to_mock_vdev(vdev),
		.fn = mock_call_drop,
		.last = U64_MAX,
	};

	down_write(&call.mock->unmap_sem);
	mock_call_run(&call, VFIO_MT_MOCK_CALLER);
	up_write(&call.mock->unmap_sem);
}

static int mock_vfio_init(struct vfio_device *vdev)
{
	struct mock_vdev *mock = to_mock_vdev(vdev);

	mock->mdev = mock_dev_from_device(vdev->dev);
	init_rwsem(&mock->unmap_sem);
	mutex_init(&mock->table_lock);
	xa_init(&mock->pins);
	return 0;
}

static void mock_vfio_release(struct vfio_device *vdev)
{
	struct mock_vdev *mock = to_mock_vdev(vdev);

	xa_destroy(&mock->pins);
	mutex_destroy(&mock->table_lock);
	vfio_free_device(vdev);
}

static const struct vfio_device_ops mock_ops_dma_unmap = {
	.name = MOCK_NAME,
	.init = mock_vfio_init,
	.release = mock_vfio_release,
	.open_device = mock_vfio_open_device,
	.close_device = mock_vfio_close_device,
	.ioctl = mock_vfio_ioctl,
	.match = mock_vfio_match,
	.dma_unmap = mock_vfio_dma_unmap,
};

static const struct vfio_device_ops mock_ops_plain = {
	.name = MOCK_NAME,
	.init = mock_vfio_init,
	.release = mock_vfio_release,
	.open_device = mock_vfio_open_device,
	.close_device = mock_vfio_close_device,
	.ioctl = mock_vfio_ioctl,
	.match = mock_vfio_match,
};

/* --------------------------- platform driver ---------------------------- */

static int mock_vfio_probe(struct platform_device *pdev)
{
	struct mock_dev *mdev = mock_dev_from_device(&pdev->dev);
	struct mock_vdev *mock;
	int ret;

	if (!mdev)
		return -ENODEV;

	mock = vfio_alloc_device(mock_vdev, vdev, &pdev->dev, &mock_ops_plain);
	if (IS_ERR(mock))
		return PTR_ERR(mock);

	if (mdev->iommu)
		ret = vfio_register_group_dev(&mock->vdev);
	else
		ret = vfio_register_emulated_iommu_dev(&mock->vdev);
	if (ret) {
		vfio_put_device(&mock->vdev);
		return ret;
	}
	platform_set_drvdata(pdev, mock);
	return 0;
}

static void mock_vfio_unregister(struct platform_device *pdev)
{
	struct mock_vdev *mock = platform_get_drvdata(pdev);

	vfio_unregister_group_dev(&mock->vdev);
	vfio_put_device(&mock->vdev);
}

#ifdef MOCK_REMOVE_RETURNS
static int mock_vfio_remove(struct platform_device *pdev)
{
	mock_vfio_unregister(pdev);
	return 0;
}
#else
static void mock_vfio_remove(struct platform_device *pdev)
{
	mock_vfio_unregister(pdev);
}
#endif

struct platform_driver mock_vfio_driver = {
	.probe = mock_vfio_probe,
	.remove = mock_vfio_remove,
	.driver = {
		.name = MOCK_NAME,
	},
	.driver_managed_dma = true,
};
