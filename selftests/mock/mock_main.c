// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_mock: a module for tests of VFIO IOMMU backends
 *
 * Purpose: register VFIO devices that do nothing by themselves, so that user
 *	space can drive the side of a VFIO IOMMU backend that only drivers in
 *	the kernel see, and an IOMMU whose properties and failures user space
 *	chooses.  vfio_mt_mock.h describes the interface.
 * Terms: see vfio_mt_mock.h.
 * Context: test guests only.  Never load this on a machine that does real
 *	work: whoever may open its nodes can make the kernel read and write any
 *	memory that a user mapped, and can stop its IOMMU from working.
 * Locking: the table of devices is filled before the first device exists and
 *	does not change before the last is gone; mock_dev.lock protects the
 *	configuration of one device.
 * Invariants: emulated devices come first in the table.
 */
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/iommu.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>

#include "mock.h"

#define MOCK_CFG_FLAGS	(VFIO_MT_MOCK_CFG_DMA_UNMAP |	\
			 VFIO_MT_MOCK_CFG_COHERENT |	\
			 VFIO_MT_MOCK_CFG_INTR_REMAP |	\
			 VFIO_MT_MOCK_CFG_NESTING |	\
			 VFIO_MT_MOCK_CFG_SPLIT |	\
			 VFIO_MT_MOCK_CFG_OPS_B)

#define SIZES_4K	BIT_ULL(12)
#define SIZES_X86	(BIT_ULL(12) | BIT_ULL(21) | BIT_ULL(30))
#define SIZES_ALL	GENMASK_ULL(47, 12)

#define X86_MSI		{ 0xfee00000, 0xfeefffff, VFIO_MT_MOCK_RESV_MSI, 0 }

static const struct vfio_mt_mock_config config_emulated = {
	.flags = VFIO_MT_MOCK_CFG_DMA_UNMAP,
};

static const struct vfio_mt_mock_config config_emulated_plain = {};

/* As VT-d with 39 address bits. */
static const struct vfio_mt_mock_config config_x86 = {
	.flags = VFIO_MT_MOCK_CFG_COHERENT | VFIO_MT_MOCK_CFG_INTR_REMAP,
	.pgsizes = SIZES_X86,
	.aperture_last = BIT_ULL(39) - 1,
	.nr_resv = 1,
	.resv = { X86_MSI },
};

/* As VT-d without superpages and without snoop control. */
static const struct vfio_mt_mock_config config_4k = {
	.flags = VFIO_MT_MOCK_CFG_INTR_REMAP,
	.pgsizes = SIZES_4K,
	.aperture_last = BIT_ULL(39) - 1,
	.nr_resv = 1,
	.resv = { X86_MSI },
};

/* As AMD: nearly all powers of two, and the HyperTransport range. */
static const struct vfio_mt_mock_config config_amd = {
	.flags = VFIO_MT_MOCK_CFG_COHERENT | VFIO_MT_MOCK_CFG_INTR_REMAP |
		 VFIO_MT_MOCK_CFG_OPS_B,
	.pgsizes = SIZES_ALL,
	.aperture_last = U64_MAX,
	.nr_resv = 2,
	.resv = {
		X86_MSI,
		{ 0xfd00000000, 0xffffffffff, VFIO_MT_MOCK_RESV_RESERVED, 0 },
	},
};

/* As an ARM IOMMU with a window for MSIs; unmap splits superpages. */
static const struct vfio_mt_mock_config config_arm = {
	.flags = VFIO_MT_MOCK_CFG_COHERENT | VFIO_MT_MOCK_CFG_INTR_REMAP |
		 VFIO_MT_MOCK_CFG_NESTING | VFIO_MT_MOCK_CFG_SPLIT |
		 VFIO_MT_MOCK_CFG_OPS_B,
	.pgsizes = SIZES_X86,
	.aperture_start = 0x1000000,
	.aperture_last = BIT_ULL(32) - 1,
	.nr_resv = 1,
	.resv = { { 0x8000000, 0x80fffff, VFIO_MT_MOCK_RESV_SW_MSI, 0 } },
};

/* The whole 64-bit space, nothing reserved. */
static const struct vfio_mt_mock_config config_wide = {
	.flags = VFIO_MT_MOCK_CFG_COHERENT | VFIO_MT_MOCK_CFG_INTR_REMAP,
	.pgsizes = SIZES_X86,
	.aperture_last = U64_MAX,
};

static const struct vfio_mt_mock_config * const defaults[] = {
	/* Emulated devices. */
	&config_emulated,
	&config_emulated,
	&config_emulated,
	&config_emulated_plain,
	&config_emulated_plain,
	/* IOMMU devices; the last two share a group. */
	&config_x86,
	&config_x86,
	&config_4k,
	&config_amd,
	&config_arm,
	&config_wide,
	&config_x86,
	&config_x86,
};

#define NR_EMULATED	5

static struct mock_dev mock_devs[ARRAY_SIZE(defaults)];
static unsigned int nr_devs;
static int iommu_error;

/**
 * mock_dev_get() - a device by its index
 * @index: place in the table
 *
 * Return: the device or NULL.
 */
struct mock_dev *mock_dev_get(unsigned int index)
{
	return index < nr_devs ? &mock_devs[index] : NULL;
}

/**
 * mock_dev_from_device() - is this device one of ours?
 * @dev: any device
 *
 * Return: our device or NULL.
 */
struct mock_dev *mock_dev_from_device(struct device *dev)
{
	struct mock_dev *mdev;

	if (dev->bus != &platform_bus_type || to_platform_device(dev)->id < 0)
		return NULL;
	mdev = mock_dev_get(to_platform_device(dev)->id);
	if (!mdev || mdev->pdev != to_platform_device(dev))
		return NULL;
	return mdev;
}

/**
 * mock_dev_get_config() - copy the configuration of a device
 * @mdev: the device
 * @config: out
 */
void mock_dev_get_config(struct mock_dev *mdev,
			 struct vfio_mt_mock_config *config)
{
	mutex_lock(&mdev->lock);
	*config = mdev->config;
	mutex_unlock(&mdev->lock);
}

/**
 * mock_dev_flags() - the configuration flags of a device
 * @mdev: the device
 *
 * Return: VFIO_MT_MOCK_CFG_*.
 */
u32 mock_dev_flags(struct mock_dev *mdev)
{
	u32 flags;

	mutex_lock(&mdev->lock);
	flags = mdev->config.flags;
	mutex_unlock(&mdev->lock);
	return flags;
}

static void mock_dev_set_config(struct mock_dev *mdev,
				const struct vfio_mt_mock_config *config)
{
	mutex_lock(&mdev->lock);
	mdev->config = *config;
	mdev->config.index = mdev->index;
	mutex_unlock(&mdev->lock);
	if (mdev->iommu && mdev->pdev)
		mock_iommu_configure(mdev);
}

static void mock_dev_reset_config(struct mock_dev *mdev)
{
	mock_dev_set_config(mdev, mdev->defaults);
}

static bool mock_config_valid(const struct mock_dev *mdev,
			      const struct vfio_mt_mock_config *config)
{
	unsigned int i;

	if (config->flags & ~MOCK_CFG_FLAGS)
		return false;
	if (!mdev->iommu)
		return true;
	if (!config->pgsizes || __ffs64(config->pgsizes) < 9 ||
	    __ffs64(config->pgsizes) > PAGE_SHIFT)
		return false;
	if (config->aperture_start > config->aperture_last)
		return false;
	if (config->nr_resv > VFIO_MT_MOCK_NR_RESV)
		return false;
	for (i = 0; i < config->nr_resv; i++) {
		const struct vfio_mt_mock_resv *resv = &config->resv[i];

		if (resv->type > VFIO_MT_MOCK_RESV_SW_MSI ||
		    resv->start > resv->last ||
		    resv->last - resv->start == U64_MAX)
			return false;
	}
	return true;
}

/* -------------------------------- ioctls -------------------------------- */

static long mock_ioctl_get_info(void __user *arg)
{
	struct vfio_mt_mock_info info = {
		.abi = VFIO_MT_MOCK_ABI,
		.nr_devices = nr_devs,
		.nr_emulated = NR_EMULATED,
		.iommu_error = iommu_error,
	};

	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long mock_ioctl_get_device(struct vfio_mt_mock_device __user *arg)
{
	struct vfio_mt_mock_device device;
	struct iommu_group *group;
	struct mock_dev *mdev;

	if (copy_from_user(&device, arg, sizeof(device)))
		return -EFAULT;
	mdev = mock_dev_get(device.index);
	if (!mdev)
		return -ENODEV;

	device.kind = mdev->iommu ? VFIO_MT_MOCK_IOMMU : VFIO_MT_MOCK_EMULATED;
	device.pad = 0;
	device.group = -1;
	group = iommu_group_get(&mdev->pdev->dev);
	if (group) {
		device.group = iommu_group_id(group);
		iommu_group_put(group);
	}
	memset(device.name, 0, sizeof(device.name));
	strscpy(device.name, dev_name(&mdev->pdev->dev), sizeof(device.name));

	return copy_to_user(arg, &device, sizeof(device)) ? -EFAULT : 0;
}

static long mock_ioctl_get_config(struct vfio_mt_mock_config __user *arg)
{
	struct vfio_mt_mock_config config;
	struct mock_dev *mdev;

	if (copy_from_user(&config, arg, sizeof(config)))
		return -EFAULT;
	mdev = mock_dev_get(config.index);
	if (!mdev)
		return -ENODEV;

	mock_dev_get_config(mdev, &config);
	return copy_to_user(arg, &config, sizeof(config)) ? -EFAULT : 0;
}

static long mock_ioctl_set_config(struct vfio_mt_mock_config __user *arg)
{
	struct vfio_mt_mock_config config;
	struct mock_dev *mdev;

	if (copy_from_user(&config, arg, sizeof(config)))
		return -EFAULT;
	mdev = mock_dev_get(config.index);
	if (!mdev)
		return -ENODEV;
	if (config.flags == VFIO_MT_MOCK_CFG_DEFAULT) {
		mock_dev_reset_config(mdev);
		return 0;
	}
	if (!mock_config_valid(mdev, &config))
		return -EINVAL;

	mock_dev_set_config(mdev, &config);
	return 0;
}

static long mock_ioctl_set_inject(void __user *arg)
{
	struct vfio_mt_mock_inject inject;

	if (copy_from_user(&inject, arg, sizeof(inject)))
		return -EFAULT;
	return mock_inject_set(&inject);
}

static long mock_ioctl_get_inject(void __user *arg)
{
	struct vfio_mt_mock_inject inject;
	int ret;

	if (copy_from_user(&inject, arg, sizeof(inject)))
		return -EFAULT;
	ret = mock_inject_get(&inject);
	if (ret)
		return ret;
	return copy_to_user(arg, &inject, sizeof(inject)) ? -EFAULT : 0;
}

static long mock_ioctl_set_fail(void __user *arg)
{
	struct vfio_mt_mock_fail fail;

	if (copy_from_user(&fail, arg, sizeof(fail)))
		return -EFAULT;
	return mock_fail_set(&fail);
}

static long mock_ioctl_get_fail(void __user *arg)
{
	struct vfio_mt_mock_fail fail;
	int ret = mock_fail_get(&fail);

	if (ret)
		return ret;
	return copy_to_user(arg, &fail, sizeof(fail)) ? -EFAULT : 0;
}

static long mock_ioctl_get_stats(void __user *arg)
{
	struct vfio_mt_mock_stats *stats;
	long ret = 0;

	stats = kmalloc(sizeof(*stats), GFP_KERNEL);
	if (!stats)
		return -ENOMEM;
	mock_domain_get_stats(stats);
	if (copy_to_user(arg, stats, sizeof(*stats)))
		ret = -EFAULT;
	kfree(stats);
	return ret;
}

static long mock_ioctl_reset(void)
{
	unsigned int i;

	for (i = 0; i < nr_devs; i++)
		mock_dev_reset_config(&mock_devs[i]);
	mock_inject_clear();
	mock_fail_clear();
	mock_domain_reset_stats();
	mock_mem_reset();
	mock_brake_clear();
	return 0;
}

static long mock_ioctl_state(void __user *arg,
			     void (*fill)(struct vfio_mt_mock_page *state))
{
	struct vfio_mt_mock_page state;

	if (copy_from_user(&state, arg, sizeof(state)))
		return -EFAULT;
	fill(&state);
	return copy_to_user(arg, &state, sizeof(state)) ? -EFAULT : 0;
}

#define MOCK_TRANSLATE_PAGES	4096

/* Ask the IOMMU of a PCI device: any IOMMU, not only the mock one. */
static long mock_translate(struct device *dev,
			   const struct vfio_mt_mock_translate *translate)
{
	struct iommu_domain *domain = iommu_get_domain_for_dev(dev);
	u64 __user *pfns = u64_to_user_ptr(translate->pfns);
	unsigned int i;
	u64 pfn;

	if (!domain)
		return -ENODEV;
	for (i = 0; i < translate->count; i++) {
		pfn = PHYS_PFN(iommu_iova_to_phys(domain, translate->iova +
						  ((u64)i << PAGE_SHIFT)));
		if (put_user(pfn, pfns + i))
			return -EFAULT;
	}
	return 0;
}

static long mock_ioctl_translate(void __user *arg)
{
	struct vfio_mt_mock_translate translate;
	struct pci_dev *pdev;
	long ret;

	if (copy_from_user(&translate, arg, sizeof(translate)))
		return -EFAULT;
	if (translate.count > MOCK_TRANSLATE_PAGES)
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(translate.device >> 16,
					   translate.device >> 8 & 0xff,
					   translate.device & 0xff);
	if (!pdev)
		return -ENODEV;
	ret = mock_translate(&pdev->dev, &translate);
	pci_dev_put(pdev);
	return ret;
}

static long mock_ioctl_set_brake(void __user *arg)
{
	struct vfio_mt_mock_brake conf;

	if (copy_from_user(&conf, arg, sizeof(conf)))
		return -EFAULT;
	return mock_brake_set(&conf);
}

static long mock_ioctl_coherent(int fd)
{
	struct file *file = fget(fd);
	long ret = -EINVAL;

	if (!file)
		return -EBADF;
	if (vfio_file_is_group(file))
		ret = vfio_file_enforced_coherent(file);
	fput(file);
	return ret;
}

static long mock_ioctl_zap(struct file *file, void __user *arg)
{
	struct vfio_mt_mock_zap zap;

	if (copy_from_user(&zap, arg, sizeof(zap)))
		return -EFAULT;
	if (zap.disabled > 1 || zap.size > VFIO_MT_MOCK_MEM_SIZE)
		return -EINVAL;
	mock_mem_zap(file, &zap);
	return 0;
}

static long mock_ioctl(struct file *file, unsigned int cmd,
		       unsigned long argument)
{
	void __user *arg = (void __user *)argument;

	switch (cmd) {
	case VFIO_MT_MOCK_GET_INFO:
		return mock_ioctl_get_info(arg);
	case VFIO_MT_MOCK_GET_DEVICE:
		return mock_ioctl_get_device(arg);
	case VFIO_MT_MOCK_GET_CONFIG:
		return mock_ioctl_get_config(arg);
	case VFIO_MT_MOCK_SET_CONFIG:
		return mock_ioctl_set_config(arg);
	case VFIO_MT_MOCK_SET_INJECT:
		return mock_ioctl_set_inject(arg);
	case VFIO_MT_MOCK_GET_INJECT:
		return mock_ioctl_get_inject(arg);
	case VFIO_MT_MOCK_SET_FAIL:
		return mock_ioctl_set_fail(arg);
	case VFIO_MT_MOCK_GET_FAIL:
		return mock_ioctl_get_fail(arg);
	case VFIO_MT_MOCK_GET_STATS:
		return mock_ioctl_get_stats(arg);
	case VFIO_MT_MOCK_RESET_STATS:
		mock_domain_reset_stats();
		return 0;
	case VFIO_MT_MOCK_RESET:
		return mock_ioctl_reset();
	case VFIO_MT_MOCK_PAGE_STATE:
		return mock_ioctl_state(arg, mock_mem_page_state);
	case VFIO_MT_MOCK_COHERENT:
		return mock_ioctl_coherent(argument);
	case VFIO_MT_MOCK_ZAP:
		return mock_ioctl_zap(file, arg);
	case VFIO_MT_MOCK_PFN_STATE:
		return mock_ioctl_state(arg, mock_mem_pfn_state);
	case VFIO_MT_MOCK_TRANSLATE:
		return mock_ioctl_translate(arg);
	case VFIO_MT_MOCK_SET_BRAKE:
		return mock_ioctl_set_brake(arg);
	case VFIO_MT_MOCK_BRAKE_STATE:
		return mock_brake_state();
	case VFIO_MT_MOCK_UNPOISON:
		return mock_mem_unpoison(argument);
	case VFIO_MT_MOCK_RELEASE_BRAKE:
		return mock_brake_release();
	case VFIO_MT_MOCK_HOLD:
		mock_mem_hold(argument);
		return 0;
	case VFIO_MT_MOCK_HELD:
		return mock_mem_held();
	default:
		return -ENOTTY;
	}
}

static const struct file_operations mock_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = mock_ioctl,
	.mmap = mock_mem_mmap,
	.llseek = noop_llseek,
};

static struct miscdevice mock_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = MOCK_NAME,
	.fops = &mock_fops,
	.mode = 0600,
};

/* -------------------------------- module -------------------------------- */

static int mock_dev_create(struct mock_dev *mdev, unsigned int index)
{
	struct platform_device *pdev;
	int ret;

	mdev->index = index;
	mdev->iommu = index >= NR_EMULATED;
	mdev->defaults = defaults[index];
	mutex_init(&mdev->lock);

	pdev = platform_device_alloc(MOCK_NAME, index);
	if (!pdev)
		return -ENOMEM;

	mdev->pdev = pdev;
	mock_dev_reset_config(mdev);
	ret = platform_device_add(pdev);
	if (ret) {
		mdev->pdev = NULL;
		platform_device_put(pdev);
	}
	return ret;
}

static void mock_dev_destroy_all(void)
{
	unsigned int i = nr_devs;

	while (i--) {
		struct platform_device *pdev = mock_devs[i].pdev;

		if (pdev)
			platform_device_unregister(pdev);
		mock_devs[i].pdev = NULL;
	}
}

static int __init mock_init(void)
{
	unsigned int i;
	int ret;

	ret = mock_mem_init();
	if (ret)
		return ret;

	mock_inject_init();
	iommu_error = mock_iommu_register();
	if (iommu_error)
		pr_info("%s: no mock IOMMU here (%d)\n", MOCK_NAME,
			iommu_error);
	nr_devs = iommu_error ? NR_EMULATED : ARRAY_SIZE(mock_devs);

	for (i = 0; i < nr_devs; i++) {
		ret = mock_dev_create(&mock_devs[i], i);
		if (ret)
			goto err_devices;
	}

	ret = platform_driver_register(&mock_vfio_driver);
	if (ret)
		goto err_devices;

	ret = misc_register(&mock_misc);
	if (ret)
		goto err_driver;
	return 0;

err_driver:
	platform_driver_unregister(&mock_vfio_driver);
err_devices:
	mock_dev_destroy_all();
	mock_iommu_unregister();
	mock_mem_exit();
	return ret;
}

static void __exit mock_exit(void)
{
	misc_deregister(&mock_misc);
	mock_fail_clear();
	platform_driver_unregister(&mock_vfio_driver);
	mock_dev_destroy_all();
	mock_iommu_unregister();
	mock_brake_exit();
	mock_mem_exit();
}

module_init(mock_init);
module_exit(mock_exit);

MODULE_DESCRIPTION("VFIO devices and an IOMMU for tests of VFIO backends");
MODULE_LICENSE("GPL");
