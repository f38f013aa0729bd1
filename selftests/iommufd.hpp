/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Thin owners of IOMMUFD's file descriptors, as vfio.hpp has them for VFIO's.
 */
#pragma once

#include "vfio.hpp"

#include <cstdint>
#include <string>

namespace selftest
{

/* An address space of its own, in a /dev/iommu of its own. */
class Iommufd
{
public:
	static Iommufd open(); /* throws when it cannot be had */

	Result map(std::uint64_t iova, const void *vaddr, std::uint64_t size) const;
	/* value: the bytes unmapped. It must be what was mapped, whole. */
	Result unmap(std::uint64_t iova, std::uint64_t size) const;

private:
	friend class IommufdDevice;

	Fd fd_;
	std::uint32_t ioas_ = 0;
};

/* A device on vfio-pci that does its DMA in such an address space. */
class IommufdDevice
{
public:
	/* Throws when it cannot be had. */
	static IommufdDevice attach(const Iommufd &iommufd, const std::string &bdf);

private:
	Fd fd_;
};

} // namespace selftest
