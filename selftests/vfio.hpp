/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Thin owners of VFIO's file descriptors: container, group, device, and the
 * mmap of a PCI region. Every call returns what the kernel answered; nothing
 * is retried, checked or hidden, since the answers are what is tested.
 */
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <linux/vfio.h>
#include <string>
#include <utility>
#include <vector>

namespace selftest
{

/* What a system call answered: its value, and errno where that was -1. */
struct Result {
	long value = 0;
	int err = 0;

	bool ok() const { return err == 0; }
	static Result of(long value) { return {value, value < 0 ? errno : 0}; }
};

class Fd
{
public:
	Fd() = default;
	explicit Fd(int fd) : fd_(fd) {}
	Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
	Fd &operator=(Fd &&other) noexcept;
	~Fd() { reset(); }

	int get() const { return fd_; }
	bool valid() const { return fd_ >= 0; }
	void reset();
	/* It was closed by other means. */
	void forget() { fd_ = -1; }

private:
	int fd_ = -1;
};

/* A PCI device given by its address, and the IOMMU group that it is in. */
struct DeviceName {
	std::string bdf; /* 0000:00:03.0 */
	int group = -1;
	std::string driver; /* bound driver, "" for none */

	static DeviceName look_up(const std::string &bdf);
};

/* Which backend's reference count went up at a VFIO_SET_IOMMU. */
struct Backend {
	std::string driver; /* stock, mt, or unknown */
	std::string module; /* vfio_iommu_type1, vfio_mt_type1, or "" */
};
extern const char *const stock_module;
extern const char *const mt_module;

struct IovaRange {
	std::uint64_t start;
	std::uint64_t end; /* the last byte */
};

/* VFIO_IOMMU_GET_INFO with its capabilities taken apart. */
struct Info {
	Result result;
	std::uint32_t flags = 0;
	std::uint64_t page_sizes = 0;
	std::vector<std::pair<int, int>> caps; /* id and version, in the chain's order */
	std::vector<IovaRange> ranges;
	std::int64_t dma_avail = -1;
	std::uint32_t migration_flags = 0;
	std::uint64_t migration_page_sizes = 0;
	std::uint64_t migration_bitmap_max = 0;
};

/*
 * Two calls of the ABI end in a flexible array in which another structure
 * begins; here each is one plain structure.
 */
struct UnmapDirtyCall {
	std::uint32_t argsz;
	std::uint32_t flags;
	std::uint64_t iova;
	std::uint64_t size;
	vfio_bitmap bitmap;
};
static_assert(offsetof(UnmapDirtyCall, bitmap) == offsetof(vfio_iommu_type1_dma_unmap, data));

struct DirtyGetCall {
	std::uint32_t argsz;
	std::uint32_t flags;
	vfio_iommu_type1_dirty_bitmap_get get;
};
static_assert(offsetof(DirtyGetCall, get) == offsetof(vfio_iommu_type1_dirty_bitmap, data));

inline constexpr std::uint32_t map_rw = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;

class Container
{
public:
	Container() = default;
	static Container open(); /* throws when /dev/vfio/vfio does not open */
	/* Another descriptor of the same container. */
	Container duplicate() const;

	int fd() const { return fd_.get(); }
	void close() { fd_.reset(); }
	void forget() { fd_.forget(); }

	Result ioctl(unsigned long request, unsigned long argument) const;
	Result ioctl(unsigned long request, void *argument) const;

	Result extension(unsigned long number) const;
	/* Notes in backend() who answered. */
	Result set_iommu(unsigned long type);
	const Backend &backend() const { return backend_; }

	Info info() const;

	Result map(std::uint64_t iova, const void *vaddr, std::uint64_t size,
		std::uint32_t flags = map_rw) const;
	Result map_addr(std::uint64_t iova, std::uint64_t vaddr, std::uint64_t size,
		std::uint32_t flags = map_rw) const;
	/* value: the bytes unmapped, from the structure that the kernel wrote back */
	Result unmap(std::uint64_t iova, std::uint64_t size, std::uint32_t flags = 0) const;
	Result unmap_all() const { return unmap(0, 0, VFIO_DMA_UNMAP_FLAG_ALL); }
	Result unmap_dirty(std::uint64_t iova, std::uint64_t size, void *bitmap,
		std::uint64_t bitmap_bytes, std::uint64_t page_size = 4096) const;

	Result dirty_start() const { return dirty_flag(VFIO_IOMMU_DIRTY_PAGES_FLAG_START); }
	Result dirty_stop() const { return dirty_flag(VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP); }
	Result dirty_get(std::uint64_t iova, std::uint64_t size, void *bitmap,
		std::uint64_t bitmap_bytes, std::uint64_t page_size = 4096) const;
	Result dirty_flag(std::uint32_t flags) const;

private:
	Fd fd_;
	Backend backend_;
};

class Group
{
public:
	static Group open(int number); /* throws, telling why, when it does not open */

	int fd() const { return fd_.get(); }
	void close() { fd_.reset(); }
	void forget() { fd_.forget(); }
	Result set_container(const Container &container) const;
	Result unset_container() const;
	Result device_fd(const std::string &bdf) const;
	/* VFIO_GROUP_FLAGS_* */
	Result status() const;

private:
	Fd fd_;
};

/* A mapped PCI BAR. */
class Region
{
public:
	Region() = default;
	Region(void *addr, std::size_t size) : addr_(addr), size_(size) {}
	Region(Region &&other) noexcept
		: addr_(std::exchange(other.addr_, nullptr)), size_(std::exchange(other.size_, 0))
	{
	}
	Region &operator=(Region &&other) noexcept;
	~Region() { reset(); }

	std::byte *data() const { return static_cast<std::byte *>(addr_); }
	std::size_t size() const { return size_; }
	void reset();

private:
	void *addr_ = nullptr;
	std::size_t size_ = 0;
};

class Device
{
public:
	static Device open(const Group &group, const std::string &bdf);
	/* Takes over what device_fd() answered. */
	static Device adopt(int fd);

	int fd() const { return fd_.get(); }
	void close() { fd_.reset(); }
	Result region_info(std::uint32_t index, vfio_region_info &info) const;
	/* Throws when the BAR is not there or is not mappable. */
	Region map_region(std::uint32_t index, int prot) const;
	/* The same at a fixed address (part of it), for mappings next to RAM. */
	Result map_region_at(std::uint32_t index, int prot, void *addr, std::size_t size,
		std::size_t offset = 0) const;

	std::uint16_t pci_command() const;
	void set_pci_command(std::uint16_t value) const;
	void set_bus_master(bool on) const;
	void set_memory_enabled(bool on) const;

private:
	Fd fd_;
};

} // namespace selftest
