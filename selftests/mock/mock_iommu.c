// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_mock: an IOMMU driver
 *
 * Purpose: be the IOMMU of the iommu devices of this module, in a kernel that
 *	has no other: tell what each device's IOMMU is able to do, as user space
 *	has configured it.  mock_domain.c does the mapping.
 * Terms: see vfio_mt_mock.h.
 * Context: process context; the IOMMU core calls with its locks held.
 * Locking: none of its own.
 *
 * Unloading: the IOMMU core takes a reference on the owner of iommu_ops for
 * every device, and it is this module that removes its devices when it is
 * unloaded.  So the ops are a copy in allocated memory without an owner.  The
 * core of old kernels never clears bus_type.iommu_ops either: done here.
 */
#include <linux/err.h>
#include <linux/iommu.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "mock.h"
#include "mock_compat.h"

static struct iommu_device mock_iommu_device;
static struct iommu_ops *mock_iommu_ops;

static bool mock_iommu_capable(struct device *dev, enum iommu_cap cap)
{
	struct mock_dev *mdev = dev_iommu_priv_get(dev);

	if (mock_cap_is_isolation(cap))
		return mock_dev_flags(mdev) & VFIO_MT_MOCK_CFG_INTR_REMAP;
	if (mock_cap_is_coherence(cap))
		return mock_dev_flags(mdev) & VFIO_MT_MOCK_CFG_COHERENT;
	return cap == IOMMU_CAP_CACHE_COHERENCY;
}

/* Of the interrupts of devices, only whether they are isolated is ever asked. */
static struct irq_domain mock_isolated = {
	.name = MOCK_NAME,
	.flags = IRQ_DOMAIN_FLAG_ISOLATED_MSI,
};

/**
 * mock_iommu_configure() - follow a change of a device's configuration
 * @mdev: a device behind this IOMMU
 */
void mock_iommu_configure(struct mock_dev *mdev)
{
	bool isolated = mock_dev_flags(mdev) & VFIO_MT_MOCK_CFG_INTR_REMAP;

	dev_set_msi_domain(&mdev->pdev->dev, isolated ? &mock_isolated : NULL);
}

static struct iommu_device *mock_iommu_probe_device(struct device *dev)
{
	struct mock_dev *mdev = mock_dev_from_device(dev);

	if (!mdev || !mdev->iommu)
		return ERR_PTR(-ENODEV);

	dev_iommu_priv_set(dev, mdev);
	return &mock_iommu_device;
}

static int mock_iommu_def_domain_type(struct device *dev)
{
	return IOMMU_DOMAIN_IDENTITY;
}

/* The last two devices of the table share a group. */
static struct iommu_group *mock_iommu_device_group(struct device *dev)
{
	struct mock_dev *mdev = dev_iommu_priv_get(dev);
	struct mock_dev *before = mock_dev_get(mdev->index - 1);
	struct iommu_group *group = NULL;

	if (!mock_dev_get(mdev->index + 1) && before && before->pdev)
		group = iommu_group_get(&before->pdev->dev);
	return group ?: iommu_group_alloc();
}

static void mock_iommu_get_resv_regions(struct device *dev,
					struct list_head *list)
{
	static const enum iommu_resv_type types[] = {
		[VFIO_MT_MOCK_RESV_DIRECT] = IOMMU_RESV_DIRECT,
		[VFIO_MT_MOCK_RESV_RELAXABLE] = IOMMU_RESV_DIRECT_RELAXABLE,
		[VFIO_MT_MOCK_RESV_RESERVED] = IOMMU_RESV_RESERVED,
		[VFIO_MT_MOCK_RESV_MSI] = IOMMU_RESV_MSI,
		[VFIO_MT_MOCK_RESV_SW_MSI] = IOMMU_RESV_SW_MSI,
	};
	struct vfio_mt_mock_config config;
	unsigned int i;

	mock_dev_get_config(dev_iommu_priv_get(dev), &config);
	for (i = 0; i < config.nr_resv; i++) {
		const struct vfio_mt_mock_resv *resv = &config.resv[i];
		struct iommu_resv_region *region;

		/*
		 * Whoever asks cannot be told that there was no memory, and
		 * would take the region for one that may be mapped.
		 */
		region = iommu_alloc_resv_region(resv->start,
						 resv->last - resv->start + 1,
						 IOMMU_READ | IOMMU_WRITE,
						 types[resv->type],
						 GFP_KERNEL | __GFP_NOFAIL);
		list_add_tail(&region->list, list);
	}
}

static const struct iommu_ops mock_iommu_ops_template = {
	.capable		= mock_iommu_capable,
#ifdef MOCK_DOMAINS_BY_TYPE
	.domain_alloc		= mock_domain_alloc,
	.pgsize_bitmap		= PAGE_SIZE,
#else
	.domain_alloc_paging	= mock_domain_alloc_paging,
	.identity_domain	= &mock_identity_domain,
	.blocked_domain		= &mock_blocked_domain,
#endif
	.probe_device		= mock_iommu_probe_device,
	.device_group		= mock_iommu_device_group,
	.get_resv_regions	= mock_iommu_get_resv_regions,
	.def_domain_type	= mock_iommu_def_domain_type,
	.default_domain_ops	= &mock_domain_ops_a,
	.owner			= THIS_MODULE,
};

/**
 * mock_iommu_forget_buses() - undo what iommu_device_register() leaves behind
 */
static void mock_iommu_forget_buses(void)
{
	mock_bus_forget(&platform_bus_type, mock_iommu_ops);
	mock_bus_forget(&pci_bus_type, mock_iommu_ops);
}

/**
 * mock_iommu_register() - become the IOMMU driver of this kernel
 *
 * Must come before the platform devices of the iommu devices.
 *
 * Return: 0, -EBUSY when there is another one, -ENOMEM.
 */
int mock_iommu_register(void)
{
	int ret;

	if (mock_bus_has_iommu(&platform_bus_type) ||
	    mock_bus_has_iommu(&pci_bus_type))
		return -EBUSY;

	mock_iommu_ops = kmemdup(&mock_iommu_ops_template,
				 sizeof(mock_iommu_ops_template), GFP_KERNEL);
	if (!mock_iommu_ops)
		return -ENOMEM;
	mock_iommu_ops->owner = NULL;

	ret = iommu_device_sysfs_add(&mock_iommu_device, NULL, NULL, MOCK_NAME);
	if (ret)
		goto err_free;

	ret = iommu_device_register(&mock_iommu_device, mock_iommu_ops, NULL);
	if (ret)
		goto err_sysfs;
	return 0;

err_sysfs:
	mock_iommu_forget_buses();
	iommu_device_sysfs_remove(&mock_iommu_device);
err_free:
	kfree(mock_iommu_ops);
	mock_iommu_ops = NULL;
	return ret;
}

/**
 * mock_iommu_unregister() - stop being the IOMMU driver
 *
 * Must come after the platform devices are gone.
 */
void mock_iommu_unregister(void)
{
	if (!mock_iommu_ops)
		return;

	iommu_device_unregister(&mock_iommu_device);
	mock_iommu_forget_buses();
	iommu_device_sysfs_remove(&mock_iommu_device);
	kfree(mock_iommu_ops);
	mock_iommu_ops = NULL;
}
