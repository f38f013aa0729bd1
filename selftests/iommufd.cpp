// SPDX-License-Identifier: GPL-2.0-only
/*
 * IOMMUFD's ioctls, one function each.
 */
#include "iommufd.hpp"

#include "iommufd_abi.hpp"
#include "outcome.hpp"

#include <fcntl.h>
#include <filesystem>
#include <stdexcept>

namespace selftest
{

namespace abi = iommufd_abi;
namespace fs = std::filesystem;

static Fd open_node(const std::string &path)
{
	Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));

	if (!fd.valid())
		throw std::runtime_error(path + ": " + errno_name(errno));
	return fd;
}

static void must(const char *what, const Result &result)
{
	if (!result.ok())
		throw std::runtime_error(std::string(what) + ": " + errno_name(result.err));
}

Iommufd Iommufd::open()
{
	abi::IoasAlloc alloc = {.size = sizeof(alloc), .flags = 0, .ioas = 0};
	Iommufd iommufd;

	iommufd.fd_ = open_node("/dev/iommu");
	must("IOMMU_IOAS_ALLOC", Result::of(::ioctl(iommufd.fd_.get(), abi::ioas_alloc, &alloc)));
	iommufd.ioas_ = alloc.ioas;
	return iommufd;
}

Result Iommufd::map(std::uint64_t iova, const void *vaddr, std::uint64_t size) const
{
	abi::IoasMap map = {.size = sizeof(map),
		.flags = abi::map_fixed_iova | abi::map_readable | abi::map_writeable,
		.ioas = ioas_,
		.reserved = 0,
		.user_va = reinterpret_cast<std::uintptr_t>(vaddr),
		.length = size,
		.iova = iova};

	return Result::of(::ioctl(fd_.get(), abi::ioas_map, &map));
}

Result Iommufd::unmap(std::uint64_t iova, std::uint64_t size) const
{
	abi::IoasUnmap unmap = {.size = sizeof(unmap), .ioas = ioas_, .iova = iova, .length = size};
	Result result = Result::of(::ioctl(fd_.get(), abi::ioas_unmap, &unmap));

	if (result.ok())
		result.value = static_cast<long>(unmap.length);
	return result;
}

/* /dev/vfio/devices/vfioN */
static std::string device_node(const std::string &bdf)
{
	std::error_code none;

	for (const auto &entry :
		fs::directory_iterator("/sys/bus/pci/devices/" + bdf + "/vfio-dev", none))
		return "/dev/vfio/devices/" + entry.path().filename().string();
	throw std::runtime_error(
		bdf +
		" has no node of its own: is CONFIG_VFIO_DEVICE_CDEV on, and it on vfio-pci?");
}

IommufdDevice IommufdDevice::attach(const Iommufd &iommufd, const std::string &bdf)
{
	abi::BindIommufd bind = {
		.argsz = sizeof(bind), .flags = 0, .iommufd = iommufd.fd_.get(), .device = 0};
	abi::AttachIommufd attach = {.argsz = sizeof(attach), .flags = 0, .pt = iommufd.ioas_};
	IommufdDevice device;

	device.fd_ = open_node(device_node(bdf));
	must("VFIO_DEVICE_BIND_IOMMUFD",
		Result::of(::ioctl(device.fd_.get(), abi::bind_iommufd, &bind)));
	must("VFIO_DEVICE_ATTACH_IOMMUFD_PT",
		Result::of(::ioctl(device.fd_.get(), abi::attach_iommufd, &attach)));
	return device;
}

} // namespace selftest
