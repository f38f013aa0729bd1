/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio_mt_mock: what the files of the test module share
 *
 * Purpose: declare struct mock_dev and the entry points of each file.
 * Layers: mock_main.c (control node, table of devices, module) uses
 *	mock_vfio.c (VFIO devices), mock_iommu.c (IOMMU driver), mock_mem.c
 *	(special memory) and mock_brake.c (stops in the middle of pinning).
 *	mock_vfio.c and mock_iommu.c use mock_domain.c (IOMMU domains, which are
 *	the mock hardware), and that uses mock_inject.c.
 *	mock_fail.c stands for itself.
 * Locking: mock_dev.lock protects the configuration and is innermost; nothing
 *	is called under it.  The order of all locks of this module is
 *	mock_vdev.unmap_sem, mock_domain.c's attach_sem, then the leaf locks
 *	mock_vdev.table_lock, mock_dev.lock, mock_inject.lock.  The backend may
 *	be called with unmap_sem held, with no other lock of this module.
 */
#ifndef VFIO_MT_MOCK_INTERNAL_H
#define VFIO_MT_MOCK_INTERNAL_H

#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/types.h>

#include "vfio_mt_mock.h"

#define MOCK_NAME	"vfio_mt_mock"

struct device;
struct file;
struct iommu_domain;
struct iommu_domain_ops;
struct mock_domain;
struct page;
struct vfio_device;
struct vm_area_struct;

/**
 * struct mock_dev - one test device, alive as long as the module
 * @index: place in the table of devices, and platform device id
 * @iommu: it is behind the mock IOMMU; otherwise an emulated device
 * @pdev: its platform device, NULL when it does not exist
 * @defaults: the configuration at load and after a reset
 * @lock: protects @config
 * @config: the configuration
 * @domain: the paging domain it is attached to, or NULL; protected by the
 *	attach_sem of mock_domain.c
 */
struct mock_dev {
	unsigned int index;
	bool iommu;
	struct platform_device *pdev;
	const struct vfio_mt_mock_config *defaults;
	struct mutex lock;	/* protects config */
	struct vfio_mt_mock_config config;
	struct mock_domain *domain;
};

/* mock_main.c */
struct mock_dev *mock_dev_from_device(struct device *dev);
struct mock_dev *mock_dev_get(unsigned int index);
void mock_dev_get_config(struct mock_dev *mdev,
			 struct vfio_mt_mock_config *config);
u32 mock_dev_flags(struct mock_dev *mdev);

/* mock_vfio.c */
extern struct platform_driver mock_vfio_driver;

/* mock_inject.c */
void mock_inject_init(void);
int mock_inject_set(const struct vfio_mt_mock_inject *conf);
int mock_inject_get(struct vfio_mt_mock_inject *conf);
void mock_inject_clear(void);
int mock_inject_hit(unsigned int point, u64 first, u64 last, bool can_sleep);

/* mock_fail.c */
int mock_fail_set(const struct vfio_mt_mock_fail *conf);
int mock_fail_get(struct vfio_mt_mock_fail *conf);
void mock_fail_wait(u64 iova);
void mock_fail_clear(void);

/* mock_domain.c */
extern const struct iommu_domain_ops mock_domain_ops_a;
extern struct iommu_domain mock_identity_domain;
extern struct iommu_domain mock_blocked_domain;
struct iommu_domain *mock_domain_alloc(unsigned int type);
struct iommu_domain *mock_domain_alloc_paging(struct device *dev);
int mock_domain_dma(struct mock_dev *mdev, u64 iova, void *data, size_t size,
		    bool write, u64 *done);
int mock_domain_leaves(struct mock_dev *mdev, u64 *first,
		       struct vfio_mt_mock_leaf *leaf, unsigned int count,
		       unsigned int *found);
int mock_domain_info(struct mock_dev *mdev, struct vfio_mt_mock_domain *info);
void mock_domain_get_stats(struct vfio_mt_mock_stats *stats);
void mock_domain_reset_stats(void);

/* mock_iommu.c */
int mock_iommu_register(void);
void mock_iommu_unregister(void);
void mock_iommu_configure(struct mock_dev *mdev);

/* mock_mem.c */
int mock_mem_init(void);
void mock_mem_exit(void);
int mock_mem_mmap(struct file *file, struct vm_area_struct *vma);
void mock_mem_zap(struct file *file, const struct vfio_mt_mock_zap *zap);
void mock_mem_hold(bool on);
int mock_mem_held(void);
void mock_mem_reset(void);
void mock_mem_page_state(struct vfio_mt_mock_page *state);
void mock_mem_pfn_state(struct vfio_mt_mock_page *state);
int mock_mem_unpoison(unsigned long pfn);
long mock_mem_pin_patched(unsigned long index, unsigned long nr,
			  struct page **pages);
struct page *mock_mem_page_at(unsigned long vaddr);
struct page *mock_mem_pinned_page_at(unsigned long vaddr);

/* mock_brake.c */
int mock_brake_set(const struct vfio_mt_mock_brake *conf);
int mock_brake_state(void);
int mock_brake_release(void);
void mock_brake_clear(void);
void mock_brake_exit(void);

#endif /* VFIO_MT_MOCK_INTERNAL_H */
