// SPDX-License-Identifier: GPL-2.0-only
/*
 * VFIO's ioctls, one method each.
 */
#include "vfio.hpp"

#include "proc.hpp"

#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <linux/pci_regs.h>
#include <stdexcept>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace selftest
{

namespace fs = std::filesystem;

const char *const stock_module = "vfio_iommu_type1";
const char *const mt_module = "vfio_mt_type1";

Fd &Fd::operator=(Fd &&other) noexcept
{
	if (this != &other) {
		reset();
		fd_ = std::exchange(other.fd_, -1);
	}
	return *this;
}

void Fd::reset()
{
	if (fd_ >= 0)
		::close(std::exchange(fd_, -1));
}

[[noreturn]] static void fail(const std::string &what)
{
	throw std::runtime_error(what + ": " + std::strerror(errno));
}

DeviceName DeviceName::look_up(const std::string &bdf)
{
	/* People leave out the domain, as lspci does. */
	DeviceName name{.bdf = bdf.size() == 7 ? "0000:" + bdf : bdf, .group = -1, .driver = ""};
	const fs::path dir = fs::path("/sys/bus/pci/devices") / name.bdf;
	std::error_code none;

	if (!fs::exists(dir, none))
		throw std::runtime_error("there is no PCI device " + name.bdf);
	const fs::path group = fs::read_symlink(dir / "iommu_group", none);
	if (!none)
		name.group = std::stoi(group.filename());
	const fs::path driver = fs::read_symlink(dir / "driver", none);
	if (!none)
		name.driver = driver.filename();
	return name;
}

/* Container */

Container Container::open()
{
	Container container;

	container.fd_ = Fd(::open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
	if (!container.fd_.valid())
		fail("/dev/vfio/vfio");
	return container;
}

Container Container::duplicate() const
{
	Container container;

	container.fd_ = Fd(::fcntl(fd(), F_DUPFD_CLOEXEC, 0));
	if (!container.fd_.valid())
		fail("another descriptor of a container");
	container.backend_ = backend_;
	return container;
}

Result Container::ioctl(unsigned long request, unsigned long argument) const
{
	return Result::of(::ioctl(fd_.get(), request, argument));
}

Result Container::ioctl(unsigned long request, void *argument) const
{
	return Result::of(::ioctl(fd_.get(), request, argument));
}

Result Container::extension(unsigned long number) const
{
	return ioctl(VFIO_CHECK_EXTENSION, number);
}

Result Container::set_iommu(unsigned long type)
{
	const auto stock = module_refs(stock_module);
	const auto mt = module_refs(mt_module);
	const Result result = ioctl(VFIO_SET_IOMMU, type);

	backend_ = {"unknown", ""};
	if (!result.ok())
		return result;
	/* The backend that answered holds one reference more for this container. */
	if (stock && module_refs(stock_module) > stock)
		backend_ = {"stock", stock_module};
	if (mt && module_refs(mt_module) > mt)
		backend_ = {"mt", mt_module};
	return result;
}

static void read_capability(Info &info, const std::byte *cap)
{
	const auto *header = reinterpret_cast<const vfio_info_cap_header *>(cap);

	info.caps.emplace_back(header->id, header->version);
	switch (header->id) {
	case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: {
		const auto *c = reinterpret_cast<const vfio_iommu_type1_info_cap_iova_range *>(cap);

		for (std::uint32_t i = 0; i < c->nr_iovas; i++)
			info.ranges.push_back({c->iova_ranges[i].start, c->iova_ranges[i].end});
		break;
	}
	case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION: {
		const auto *c = reinterpret_cast<const vfio_iommu_type1_info_cap_migration *>(cap);

		info.migration_flags = c->flags;
		info.migration_page_sizes = c->pgsize_bitmap;
		info.migration_bitmap_max = c->max_dirty_bitmap_size;
		break;
	}
	case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
		info.dma_avail =
			reinterpret_cast<const vfio_iommu_type1_info_dma_avail *>(cap)->avail;
		break;
	default:
		break;
	}
}

Info Container::info() const
{
	alignas(8) std::byte buffer[4096] = {};
	auto *raw = reinterpret_cast<vfio_iommu_type1_info *>(buffer);
	Info info;

	raw->argsz = sizeof(buffer);
	info.result = ioctl(VFIO_IOMMU_GET_INFO, raw);
	if (!info.result.ok())
		return info;
	info.flags = raw->flags;
	info.page_sizes = raw->iova_pgsizes;
	if (!(raw->flags & VFIO_IOMMU_INFO_CAPS))
		return info;
	/* At most as many steps as headers fit, so a looping chain ends here. */
	std::uint32_t offset = raw->cap_offset;
	for (int i = 0; offset && offset < sizeof(buffer) - 64 && i < 64; i++) {
		read_capability(info, buffer + offset);
		offset = reinterpret_cast<const vfio_info_cap_header *>(buffer + offset)->next;
	}
	return info;
}

Result Container::map(
	std::uint64_t iova, const void *vaddr, std::uint64_t size, std::uint32_t flags) const
{
	return map_addr(iova, reinterpret_cast<std::uintptr_t>(vaddr), size, flags);
}

Result Container::map_addr(
	std::uint64_t iova, std::uint64_t vaddr, std::uint64_t size, std::uint32_t flags) const
{
	vfio_iommu_type1_dma_map map = {};

	map.argsz = sizeof(map);
	map.flags = flags;
	map.vaddr = vaddr;
	map.iova = iova;
	map.size = size;
	return ioctl(VFIO_IOMMU_MAP_DMA, &map);
}

Result Container::unmap(std::uint64_t iova, std::uint64_t size, std::uint32_t flags) const
{
	vfio_iommu_type1_dma_unmap unmap = {};

	unmap.argsz = sizeof(unmap);
	unmap.flags = flags;
	unmap.iova = iova;
	unmap.size = size;
	Result result = ioctl(VFIO_IOMMU_UNMAP_DMA, &unmap);

	result.value = static_cast<long>(unmap.size);
	return result;
}

Result Container::unmap_dirty(std::uint64_t iova, std::uint64_t size, void *bitmap,
	std::uint64_t bitmap_bytes, std::uint64_t page_size) const
{
	UnmapDirtyCall call = {};

	call.argsz = sizeof(call);
	call.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
	call.iova = iova;
	call.size = size;
	call.bitmap.pgsize = page_size;
	call.bitmap.size = bitmap_bytes;
	call.bitmap.data = static_cast<__u64 *>(bitmap);
	Result result = ioctl(VFIO_IOMMU_UNMAP_DMA, &call);

	result.value = static_cast<long>(call.size);
	return result;
}

Result Container::dirty_flag(std::uint32_t flags) const
{
	vfio_iommu_type1_dirty_bitmap dirty = {};

	dirty.argsz = sizeof(dirty);
	dirty.flags = flags;
	return ioctl(VFIO_IOMMU_DIRTY_PAGES, &dirty);
}

Result Container::dirty_get(std::uint64_t iova, std::uint64_t size, void *bitmap,
	std::uint64_t bitmap_bytes, std::uint64_t page_size) const
{
	DirtyGetCall call = {};

	call.argsz = sizeof(call);
	call.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
	call.get.iova = iova;
	call.get.size = size;
	call.get.bitmap.pgsize = page_size;
	call.get.bitmap.size = bitmap_bytes;
	call.get.bitmap.data = static_cast<__u64 *>(bitmap);
	return ioctl(VFIO_IOMMU_DIRTY_PAGES, &call);
}

/* Group */

Group Group::open(int number)
{
	Group group;
	const std::string path = "/dev/vfio/" + std::to_string(number);

	group.fd_ = Fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
	if (!group.fd_.valid())
		fail(path);
	return group;
}

Result Group::set_container(const Container &container) const
{
	int fd = container.fd();

	return Result::of(::ioctl(fd_.get(), VFIO_GROUP_SET_CONTAINER, &fd));
}

Result Group::unset_container() const
{
	return Result::of(::ioctl(fd_.get(), VFIO_GROUP_UNSET_CONTAINER));
}

Result Group::device_fd(const std::string &bdf) const
{
	return Result::of(::ioctl(fd_.get(), VFIO_GROUP_GET_DEVICE_FD, bdf.c_str()));
}

Result Group::status() const
{
	vfio_group_status status = {};

	status.argsz = sizeof(status);
	Result result = Result::of(::ioctl(fd_.get(), VFIO_GROUP_GET_STATUS, &status));

	if (result.ok())
		result.value = status.flags;
	return result;
}

/* Region and device */

Region &Region::operator=(Region &&other) noexcept
{
	if (this != &other) {
		reset();
		addr_ = std::exchange(other.addr_, nullptr);
		size_ = std::exchange(other.size_, 0);
	}
	return *this;
}

void Region::reset()
{
	if (addr_)
		::munmap(std::exchange(addr_, nullptr), std::exchange(size_, 0));
}

Device Device::open(const Group &group, const std::string &bdf)
{
	Device device;
	const Result result = group.device_fd(bdf);

	if (!result.ok())
		fail("VFIO_GROUP_GET_DEVICE_FD " + bdf);
	device.fd_ = Fd(static_cast<int>(result.value));
	return device;
}

Device Device::adopt(int fd)
{
	Device device;

	device.fd_ = Fd(fd);
	return device;
}

Result Device::region_info(std::uint32_t index, vfio_region_info &info) const
{
	info = {};
	info.argsz = sizeof(info);
	info.index = index;
	return Result::of(::ioctl(fd_.get(), VFIO_DEVICE_GET_REGION_INFO, &info));
}

Region Device::map_region(std::uint32_t index, int prot) const
{
	vfio_region_info info;

	if (!region_info(index, info).ok())
		fail("VFIO_DEVICE_GET_REGION_INFO " + std::to_string(index));
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		throw std::runtime_error("region " + std::to_string(index) + " cannot be mapped");
	void *addr = ::mmap(
		nullptr, info.size, prot, MAP_SHARED, fd_.get(), static_cast<off_t>(info.offset));
	if (addr == MAP_FAILED)
		fail("mmap of region " + std::to_string(index));
	return Region(addr, info.size);
}

Result Device::map_region_at(
	std::uint32_t index, int prot, void *addr, std::size_t size, std::size_t offset) const
{
	vfio_region_info info;
	const Result result = region_info(index, info);

	if (!result.ok())
		return result;
	void *got = ::mmap(addr, size, prot, MAP_SHARED | MAP_FIXED, fd_.get(),
		static_cast<off_t>(info.offset + offset));
	return Result::of(got == MAP_FAILED ? -1 : 0);
}

std::uint16_t Device::pci_command() const
{
	vfio_region_info info;
	std::uint16_t value = 0;

	if (!region_info(VFIO_PCI_CONFIG_REGION_INDEX, info).ok() ||
		::pread(fd_.get(), &value, 2, static_cast<off_t>(info.offset + PCI_COMMAND)) != 2)
		fail("reading the PCI command register");
	return value;
}

void Device::set_pci_command(std::uint16_t value) const
{
	vfio_region_info info;

	if (!region_info(VFIO_PCI_CONFIG_REGION_INDEX, info).ok() ||
		::pwrite(fd_.get(), &value, 2, static_cast<off_t>(info.offset + PCI_COMMAND)) != 2)
		fail("writing the PCI command register");
}

static std::uint16_t with_bit(std::uint16_t value, unsigned bit, bool on)
{
	return static_cast<std::uint16_t>(on ? value | bit : value & ~bit);
}

void Device::set_bus_master(bool on) const
{
	set_pci_command(with_bit(pci_command(), PCI_COMMAND_MASTER, on));
}

void Device::set_memory_enabled(bool on) const
{
	set_pci_command(with_bit(pci_command(), PCI_COMMAND_MEMORY, on));
}

} // namespace selftest
