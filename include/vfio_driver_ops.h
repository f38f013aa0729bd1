/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vfio_driver_ops.h - mirror of the interface between VFIO and its backends
 *
 * The kernel keeps these declarations in drivers/vfio/vfio.h, which is not part
 * of the headers package. They are an interface, repeated here member by member
 * for the reviewed kernel series (compat.h); `make lint` compares them with the
 * source package of 6.1, `make check-matrix` with those of the others. A member
 * that differs would make VFIO call the wrong function, so nothing here may be
 * guessed.
 */
#ifndef VFIO_MT_VFIO_DRIVER_OPS_H
#define VFIO_MT_VFIO_DRIVER_OPS_H

#include <linux/types.h>

#include "compat.h"

struct iommu_domain;
struct iommu_group;
struct module;
struct page;
struct vfio_device;

enum vfio_group_type {
	VFIO_IOMMU,
	VFIO_EMULATED_IOMMU,
	VFIO_NO_IOMMU,
};

#ifdef COMPAT_VFIO_NOTIFY
enum vfio_iommu_notify_type {
	VFIO_IOMMU_CONTAINER_CLOSE = 0,
};
#endif

struct vfio_iommu_driver_ops {
	char		*name;
	struct module	*owner;
	void		*(*open)(unsigned long arg);
	void		(*release)(void *iommu_data);
	long		(*ioctl)(void *iommu_data, unsigned int cmd,
				 unsigned long arg);
	int		(*attach_group)(void *iommu_data,
					struct iommu_group *group,
					enum vfio_group_type);
	void		(*detach_group)(void *iommu_data,
					struct iommu_group *group);
	int		(*pin_pages)(void *iommu_data,
				     struct iommu_group *group,
				     dma_addr_t user_iova,
				     int npage, int prot,
				     struct page **pages);
	void		(*unpin_pages)(void *iommu_data,
				       dma_addr_t user_iova, int npage);
	void		(*register_device)(void *iommu_data,
					   struct vfio_device *vdev);
	void		(*unregister_device)(void *iommu_data,
					     struct vfio_device *vdev);
	int		(*dma_rw)(void *iommu_data, dma_addr_t user_iova,
				  void *data, size_t count, bool write);
	struct iommu_domain *(*group_iommu_domain)(void *iommu_data,
						   struct iommu_group *group);
#ifdef COMPAT_VFIO_NOTIFY
	void		(*notify)(void *iommu_data,
				  enum vfio_iommu_notify_type event);
#endif
};

int vfio_register_iommu_driver(const struct vfio_iommu_driver_ops *ops);
void vfio_unregister_iommu_driver(const struct vfio_iommu_driver_ops *ops);

#endif /* VFIO_MT_VFIO_DRIVER_OPS_H */
