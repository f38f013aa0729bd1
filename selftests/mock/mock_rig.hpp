/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For the cases in cases_mock*.cpp: the test module vfio_mt_mock.ko, its VFIO
 * devices and its IOMMU, as objects; and the fixture that gives each case a
 * freshly reset module and looks for mistakes that it has counted.
 */
#pragma once

#include "../case.hpp"
#include "vfio_mt_mock.h"

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace selftest
{

/* Devices by what they are: places in the table of mock_main.c. */
namespace mock_device
{
enum : unsigned {
	emulated0,
	emulated1,
	emulated2,
	plain0, /* emulated, without a dma_unmap callback */
	plain1,
	x86, /* 4K, 2M, 1G; 39 bits; coherent; MSI window */
	x86_twin,
	small, /* 4K; 39 bits; not coherent */
	amd,   /* all powers of two; 64 bits; other operations */
	arm,   /* 4K, 2M, 1G; 16M to 4G; SW_MSI; nesting; splits; other operations */
	wide,  /* 4K, 2M, 1G; 64 bits; nothing reserved */
	pair0, /* as x86; two devices in one group */
	pair1,
};
}

/* What the kernel side of VFIO answered: "3", "ok", "EINVAL". */
std::string answer(int result);

inline constexpr unsigned mock_rw = VFIO_MT_MOCK_READ | VFIO_MT_MOCK_WRITE;

/* Sizes of leaves in order, "2M*3 4K*512": nothing that differs from boot to boot. */
std::string sizes(const std::vector<vfio_mt_mock_leaf> &leaves);
/* The same with addresses: "0x1000000+2M*3 0x1800000+4K". */
std::string layout(const std::vector<vfio_mt_mock_leaf> &leaves);
/*
 * The leaves that one iommu_map() for each physically contiguous run would make
 * with these page sizes: what the stock driver does. mappings: the ranges that
 * were mapped by one MAP_DMA each.
 */
struct MappedRange {
	std::uint64_t iova;
	std::uint64_t size;
};
std::vector<vfio_mt_mock_leaf> ideal_leaves(const std::vector<vfio_mt_mock_leaf> &leaves,
	std::uint64_t page_sizes, const std::vector<MappedRange> &mappings);
std::string ranges(const Info &info);

/* The control node. */
class Mock
{
public:
	/* Nothing when the module is not loaded, or is another version. */
	static std::optional<Mock> open(std::string &why_not);

	int fd() const { return fd_.get(); }
	const vfio_mt_mock_info &info() const { return info_; }

	void reset() const;
	vfio_mt_mock_device device(unsigned index) const;
	vfio_mt_mock_config config(unsigned index) const;
	void set_config(const vfio_mt_mock_config &config) const;
	/* Change the configuration of a device until the case ends. */
	template <class F> void configure(unsigned index, F change) const
	{
		vfio_mt_mock_config c = config(index);

		change(c);
		set_config(c);
	}
	void inject(const vfio_mt_mock_inject &conf) const;
	vfio_mt_mock_inject injected(unsigned point) const;
	/* The next operations pass, and then times fail. */
	void fail_map(int error, std::uint64_t first, std::uint64_t last, unsigned after = 0,
		unsigned times = 1) const;
	void fail(unsigned point, int error, unsigned after = 0, unsigned times = 1) const;
	/* Nothing fails any more, but the counters of injected() stay. */
	void stop_failing(unsigned point) const;
	/* Every leaf takes so long to be installed. */
	void slow_map(unsigned microseconds) const;
	/* The n-th failure, or all, in a kernel thread: see struct vfio_mt_mock_fail. */
	void fail_thread(const std::string &function, unsigned skip, unsigned nth) const;
	vfio_mt_mock_fail failed_thread() const;
	vfio_mt_mock_stats stats() const;
	vfio_mt_mock_page page_state(const void *vaddr) const;
	vfio_mt_mock_page pfn_state(std::uint64_t pfn) const;
	/* The pages that a PCI device gets to; 0 for none. */
	std::vector<std::uint64_t> translate(
		const std::string &bdf, std::uint64_t iova, std::size_t pages) const;
	/* Stop the next thread that pins memory of this process that is here. */
	void set_brake(const void *vaddr, std::size_t size, unsigned when) const;
	unsigned brake_state() const;
	/* False if nobody is stopped (any more). */
	bool release_brake() const;
	Result unpoison(std::uint64_t pfn) const;
	/* vfio_file_enforced_coherent() */
	Result coherent(const Group &group) const;
	Memory memory(std::uint64_t kind, std::size_t size, int prot = PROT_READ | PROT_WRITE,
		std::uint64_t offset = 0) const;
	void zap(std::uint64_t offset, std::uint64_t size, bool disabled) const;
	/* Faults on LAZY memory wait from now on, or go on. */
	void hold(bool on) const;
	/* How many threads wait in one. */
	int held() const;

private:
	explicit Mock(Fd fd) : fd_(std::move(fd)) {}

	Fd fd_;
	vfio_mt_mock_info info_ = {};
};

/* What a pin or a copy answered. */
struct MockAnswer {
	int result = 0;		/* as the kernel function: count, 0 or -errno */
	int pages = 0;		/* pin: entries of the array that are not NULL */
	std::uint64_t done = 0; /* bytes copied */
};

/* A VFIO device of the module. */
class MockDevice
{
public:
	MockDevice(const Group &group, const std::string &name) : device_(Device::open(group, name))
	{
	}

	int fd() const { return device_.fd(); }
	void close() { device_.close(); }

	MockAnswer pin(std::uint64_t iova, int pages = 1, unsigned prot = mock_rw,
		unsigned context = VFIO_MT_MOCK_CALLER) const;
	Result unpin(std::uint64_t iova, int pages = 1, unsigned flags = 0,
		unsigned context = VFIO_MT_MOCK_CALLER) const;
	/* vfio_dma_rw() */
	MockAnswer read(std::uint64_t iova, std::span<std::byte> data,
		unsigned context = VFIO_MT_MOCK_CALLER) const;
	MockAnswer write(std::uint64_t iova, std::span<std::byte> data,
		unsigned context = VFIO_MT_MOCK_CALLER) const;
	/* Access to pinned pages. */
	MockAnswer read_page(std::uint64_t iova, std::span<std::byte> data) const;
	MockAnswer write_page(std::uint64_t iova, std::span<std::byte> data) const;
	bool same_page(std::uint64_t iova, const void *vaddr) const;
	bool zero_page(std::uint64_t iova) const;
	void on_unmap(unsigned ignore, bool async) const;
	vfio_mt_mock_unmap_log unmap_log() const;
	vfio_mt_mock_pin_info pin_info() const;

	/* DMA through the mock IOMMU. */
	MockAnswer dma_read(std::uint64_t iova, std::span<std::byte> data) const;
	MockAnswer dma_write(std::uint64_t iova, std::span<std::byte> data) const;
	/* The device finds these contents, and can change them (checked through the CPU). */
	bool reaches(std::uint64_t iova, std::span<std::byte> memory) const;
	std::vector<vfio_mt_mock_leaf> leaves(std::uint64_t first = 0) const;
	vfio_mt_mock_domain domain() const;
	/* Number of the domain, 0 with none. */
	std::uint64_t domain_id() const;

private:
	MockAnswer copy(unsigned long request, std::uint64_t iova, std::span<std::byte> data,
		bool write, unsigned context) const;

	Device device_;
};

/* Closes in the order devices, groups, container. */
struct MockRig {
	Container container;
	std::vector<Group> groups;
	std::vector<MockDevice> devices;

	void close();
	/* What was closed without this object. No devices are open. */
	void forget();
};

class MockCase : public VfioCase
{
protected:
	void SetUp() override;
	void TearDown() override;

	const Mock &mock() const { return *mock_; }

	Group open_group(unsigned index) const;
	MockDevice open_device(const Group &group, unsigned index) const;
	/* A container with the groups of these devices, all devices opened. */
	MockRig open_mock(
		const std::vector<unsigned> &indexes, unsigned long type = VFIO_TYPE1v2_IOMMU);
	/* The same without opening devices. */
	MockRig open_mock_groups(
		const std::vector<unsigned> &indexes, unsigned long type = VFIO_TYPE1v2_IOMMU);
	/* One more group, without its device. */
	Result add_group(MockRig &rig, unsigned index);

	/* An unmap of what is not mapped is no mistake in this case. */
	void may_unmap_nothing() { unmap_nothing_ = true; }

	bool has_mock_iommu();
	const std::string &mock_lack() const { return mock_lack_; }

	template <class... Args>
	void want_answer(const std::string &key, const MockAnswer &actual,
		const std::string &expected, Where where = Where::current())
	{
		want(key, answer(actual.result), expected, where);
	}

	/* Report and clear what is dirty of so many pages from iova0 on: "3 5-8". */
	void want_dirty(const std::string &key, const Container &container, std::size_t pages,
		const std::string &expected, Where where = Where::current());

private:
	std::optional<Mock> mock_;
	bool unmap_nothing_ = false;
	std::string mock_lack_;
};

/* A dirty bitmap for a range of 4 KiB pages. */
class Bitmap
{
public:
	explicit Bitmap(std::size_t pages) : pages_(pages), words_((pages + 63) / 64) {}

	std::uint64_t *data() { return words_.data(); }
	std::uint64_t bytes() const { return words_.size() * 8; }
	/* "3 5-8", "" for none: bits beyond the range included */
	std::string show() const;
	void clear() { words_.assign(words_.size(), 0); }

private:
	std::size_t pages_;
	std::vector<std::uint64_t> words_;
};

/* Parameter of the backend that is loaded, put back at the end. */
class BackendParameter
{
public:
	BackendParameter(const std::string &name, const std::string &value);
	BackendParameter(const BackendParameter &) = delete;
	BackendParameter &operator=(const BackendParameter &) = delete;
	~BackendParameter();

	bool set() const { return set_; }

private:
	std::string module_;
	std::string name_;
	std::string before_;
	bool set_ = false;
};

/* Threads are used, whatever the work is worth, and for each 2 MiB if need be. */
struct EagerThreads {
	BackendParameter helper_us{"helper_us", "0"};
	BackendParameter min_chunk{"min_chunk_mb", "2"};
};

/* For child processes: no CAP_IPC_LOCK, and this many pages of RLIMIT_MEMLOCK. */
void limit_locked_memory(std::uint64_t pages);

#define NEED_MOCK_IOMMU()                                                                          \
	if (!has_mock_iommu())                                                                     \
	GTEST_SKIP() << mock_lack()

} // namespace selftest
