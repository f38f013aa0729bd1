// SPDX-License-Identifier: GPL-2.0-only
/*
 * No cases: what cases_mock*.cpp share. See mock/mock_rig.hpp.
 */
#include "mock/mock_rig.hpp"

#include "proc.hpp"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdexcept>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace selftest
{

static void must(int fd, unsigned long request, void *argument, const char *what)
{
	if (::ioctl(fd, request, argument) < 0)
		throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

std::string answer(int result)
{
	if (result > 0)
		return std::to_string(result);
	return errno_name(-result);
}

/* Leaves as text */

static std::string size_name(std::uint64_t size)
{
	static const char *const units[] = {"", "K", "M", "G", "T", "P", "E"};
	unsigned unit = 0;

	while (size % 1024 == 0 && size && unit < 6) {
		size /= 1024;
		unit++;
	}
	return std::to_string(size) + units[unit];
}

static std::string describe(const std::vector<vfio_mt_mock_leaf> &leaves, bool addresses)
{
	std::string text;

	for (std::size_t i = 0; i < leaves.size();) {
		std::size_t n = 1;

		while (i + n < leaves.size() && leaves[i + n].size == leaves[i].size &&
			leaves[i + n].iova == leaves[i].iova + n * leaves[i].size)
			n++;
		text += (text.empty() ? "" : " ") +
			(addresses ? hex(leaves[i].iova) + "+" : std::string()) +
			size_name(leaves[i].size) + (n > 1 ? "*" + std::to_string(n) : "");
		i += n;
	}
	return text;
}

std::string sizes(const std::vector<vfio_mt_mock_leaf> &leaves)
{
	return describe(leaves, false);
}

std::string layout(const std::vector<vfio_mt_mock_leaf> &leaves)
{
	return describe(leaves, true);
}

/* As iommu_map() chooses: the largest page that is aligned and fits. */
static void add_run(
	std::vector<vfio_mt_mock_leaf> &out, std::uint64_t page_sizes, vfio_mt_mock_leaf run)
{
	while (run.size) {
		std::uint64_t fitting = page_sizes;
		const std::uint64_t address = run.iova | run.phys;

		if (address)
			fitting &= (2ULL << std::countr_zero(address)) - 1;
		while (std::bit_floor(fitting) > run.size)
			fitting &= ~std::bit_floor(fitting);
		vfio_mt_mock_leaf leaf = run;

		leaf.size = std::bit_floor(fitting);
		out.push_back(leaf);
		run.iova += leaf.size;
		run.phys += leaf.size;
		run.size -= leaf.size;
	}
}

std::vector<vfio_mt_mock_leaf> ideal_leaves(const std::vector<vfio_mt_mock_leaf> &leaves,
	std::uint64_t page_sizes, const std::vector<MappedRange> &mappings)
{
	std::vector<vfio_mt_mock_leaf> out;
	const auto begins = [&](std::uint64_t iova) {
		return std::ranges::any_of(
			mappings, [&](const MappedRange &m) { return m.iova == iova; });
	};

	for (std::size_t i = 0; i < leaves.size();) {
		vfio_mt_mock_leaf run = leaves[i++];

		while (i < leaves.size() && leaves[i].iova == run.iova + run.size &&
			leaves[i].phys == run.phys + run.size && !begins(leaves[i].iova))
			run.size += leaves[i++].size;
		add_run(out, page_sizes, run);
	}
	return out;
}

std::string ranges(const Info &info)
{
	std::string text;

	for (const auto &r : info.ranges)
		text += (text.empty() ? "" : " ") + hex(r.start) + "-" + hex(r.end);
	return text;
}

/* Mock */

std::optional<Mock> Mock::open(std::string &why_not)
{
	Mock mock(Fd(::open(VFIO_MT_MOCK_NODE, O_RDWR | O_CLOEXEC)));

	if (!mock.fd_.valid()) {
		why_not = std::string("needs the test module vfio_mt_mock.ko (" VFIO_MT_MOCK_NODE
				      ": ") +
			  std::strerror(errno) + ")";
		return std::nullopt;
	}
	if (::ioctl(mock.fd(), VFIO_MT_MOCK_GET_INFO, &mock.info_) < 0 ||
		mock.info_.abi != VFIO_MT_MOCK_ABI) {
		why_not = "the test module vfio_mt_mock.ko that is loaded is another version";
		return std::nullopt;
	}
	return mock;
}

void Mock::reset() const
{
	must(fd(), VFIO_MT_MOCK_RESET, nullptr, "RESET");
}

vfio_mt_mock_device Mock::device(unsigned index) const
{
	vfio_mt_mock_device device = {};

	device.index = index;
	must(fd(), VFIO_MT_MOCK_GET_DEVICE, &device, "GET_DEVICE");
	return device;
}

vfio_mt_mock_config Mock::config(unsigned index) const
{
	vfio_mt_mock_config config = {};

	config.index = index;
	must(fd(), VFIO_MT_MOCK_GET_CONFIG, &config, "GET_CONFIG");
	return config;
}

void Mock::set_config(const vfio_mt_mock_config &config) const
{
	vfio_mt_mock_config copy = config;

	must(fd(), VFIO_MT_MOCK_SET_CONFIG, &copy, "SET_CONFIG");
}

void Mock::inject(const vfio_mt_mock_inject &conf) const
{
	vfio_mt_mock_inject copy = conf;

	must(fd(), VFIO_MT_MOCK_SET_INJECT, &copy, "SET_INJECT");
}

vfio_mt_mock_inject Mock::injected(unsigned point) const
{
	vfio_mt_mock_inject inject = {};

	inject.point = point;
	must(fd(), VFIO_MT_MOCK_GET_INJECT, &inject, "GET_INJECT");
	return inject;
}

void Mock::fail_map(
	int error, std::uint64_t first, std::uint64_t last, unsigned after, unsigned times) const
{
	vfio_mt_mock_inject conf = {};

	conf.point = VFIO_MT_MOCK_INJECT_MAP;
	conf.error = static_cast<unsigned>(error);
	conf.first = first;
	conf.last = last;
	conf.after = after;
	conf.times = times;
	inject(conf);
}

void Mock::fail(unsigned point, int error, unsigned after, unsigned times) const
{
	vfio_mt_mock_inject conf = {};

	conf.point = point;
	conf.error = static_cast<unsigned>(error);
	conf.last = ~0ULL;
	conf.after = after;
	conf.times = times;
	inject(conf);
}

void Mock::stop_failing(unsigned point) const
{
	fail(point, 0);
}

void Mock::slow_map(unsigned microseconds) const
{
	vfio_mt_mock_inject conf = {};

	conf.point = VFIO_MT_MOCK_INJECT_MAP;
	conf.last = ~0ULL;
	conf.delay_us = microseconds;
	inject(conf);
}

void Mock::fail_thread(const std::string &function, unsigned skip, unsigned nth) const
{
	vfio_mt_mock_fail fail = {};

	function.copy(fail.function, sizeof(fail.function) - 1);
	fail.skip = skip;
	fail.nth = nth;
	fail.first = iova0;
	must(fd(), VFIO_MT_MOCK_SET_FAIL, &fail, "SET_FAIL");
}

vfio_mt_mock_fail Mock::failed_thread() const
{
	vfio_mt_mock_fail fail = {};

	must(fd(), VFIO_MT_MOCK_GET_FAIL, &fail, "GET_FAIL");
	return fail;
}

vfio_mt_mock_stats Mock::stats() const
{
	vfio_mt_mock_stats stats;

	must(fd(), VFIO_MT_MOCK_GET_STATS, &stats, "GET_STATS");
	return stats;
}

vfio_mt_mock_page Mock::page_state(const void *vaddr) const
{
	vfio_mt_mock_page state = {};

	state.vaddr = reinterpret_cast<std::uintptr_t>(vaddr);
	must(fd(), VFIO_MT_MOCK_PAGE_STATE, &state, "PAGE_STATE");
	return state;
}

vfio_mt_mock_page Mock::pfn_state(std::uint64_t pfn) const
{
	vfio_mt_mock_page state = {};

	state.pfn = pfn;
	must(fd(), VFIO_MT_MOCK_PFN_STATE, &state, "PFN_STATE");
	return state;
}

std::vector<std::uint64_t> Mock::translate(
	const std::string &bdf, std::uint64_t iova, std::size_t pages) const
{
	unsigned domain = 0, bus = 0, slot = 0, function = 0;
	std::vector<std::uint64_t> pfns(pages);

	if (std::sscanf(bdf.c_str(), "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		throw std::runtime_error("not a PCI address: " + bdf);
	for (std::size_t at = 0; at < pages; at += 4096) {
		vfio_mt_mock_translate call = {};

		call.device = domain << 16 | bus << 8 | slot << 3 | function;
		call.count = static_cast<unsigned>(std::min<std::size_t>(pages - at, 4096));
		call.iova = iova + at * page;
		call.pfns = reinterpret_cast<std::uintptr_t>(&pfns[at]);
		must(fd(), VFIO_MT_MOCK_TRANSLATE, &call, "TRANSLATE");
	}
	return pfns;
}

void Mock::set_brake(const void *vaddr, std::size_t size, unsigned when) const
{
	vfio_mt_mock_brake brake = {};

	brake.first = reinterpret_cast<std::uintptr_t>(vaddr);
	brake.last = brake.first + size - 1;
	brake.when = when;
	must(fd(), VFIO_MT_MOCK_SET_BRAKE, &brake, "SET_BRAKE");
}

unsigned Mock::brake_state() const
{
	return static_cast<unsigned>(::ioctl(fd(), VFIO_MT_MOCK_BRAKE_STATE));
}

bool Mock::release_brake() const
{
	return !::ioctl(fd(), VFIO_MT_MOCK_RELEASE_BRAKE);
}

Result Mock::unpoison(std::uint64_t pfn) const
{
	return Result::of(::ioctl(fd(), VFIO_MT_MOCK_UNPOISON, pfn));
}

Result Mock::coherent(const Group &group) const
{
	return Result::of(::ioctl(fd(), VFIO_MT_MOCK_COHERENT, group.fd()));
}

Memory Mock::memory(std::uint64_t kind, std::size_t size, int prot, std::uint64_t offset) const
{
	return Memory::map(size, prot, MAP_SHARED, fd(), kind + offset);
}

void Mock::zap(std::uint64_t offset, std::uint64_t size, bool disabled) const
{
	vfio_mt_mock_zap zap = {};

	zap.offset = offset;
	zap.size = size;
	zap.disabled = disabled;
	must(fd(), VFIO_MT_MOCK_ZAP, &zap, "ZAP");
}

void Mock::hold(bool on) const
{
	if (::ioctl(fd(), VFIO_MT_MOCK_HOLD, on ? 1UL : 0UL))
		throw std::runtime_error("HOLD");
}

int Mock::held() const
{
	const int held = ::ioctl(fd(), VFIO_MT_MOCK_HELD, 0UL);

	if (held < 0)
		throw std::runtime_error("HELD");
	return held;
}

/* MockDevice */

MockAnswer MockDevice::pin(std::uint64_t iova, int pages, unsigned prot, unsigned context) const
{
	vfio_mt_mock_pin pin = {};

	pin.iova = iova;
	pin.npage = pages;
	pin.prot = prot;
	pin.context = context;
	must(fd(), VFIO_MT_MOCK_PIN, &pin, "PIN");
	return {.result = pin.result, .pages = pin.nr_pages};
}

Result MockDevice::unpin(std::uint64_t iova, int pages, unsigned flags, unsigned context) const
{
	vfio_mt_mock_pin pin = {};

	pin.iova = iova;
	pin.npage = pages;
	pin.flags = flags;
	pin.context = context;
	must(fd(), VFIO_MT_MOCK_UNPIN, &pin, "UNPIN");
	return {.value = 0, .err = -pin.result};
}

MockAnswer MockDevice::copy(unsigned long request, std::uint64_t iova, std::span<std::byte> data,
	bool write, unsigned context) const
{
	vfio_mt_mock_rw rw = {};

	rw.iova = iova;
	rw.size = data.size();
	rw.buf = reinterpret_cast<std::uintptr_t>(data.data());
	rw.context = context;
	rw.write = write;
	must(fd(), request, &rw, "a copy by the test module");
	return {.result = rw.result, .done = rw.done};
}

MockAnswer MockDevice::read(std::uint64_t iova, std::span<std::byte> data, unsigned context) const
{
	return copy(VFIO_MT_MOCK_RW, iova, data, false, context);
}

MockAnswer MockDevice::write(std::uint64_t iova, std::span<std::byte> data, unsigned context) const
{
	return copy(VFIO_MT_MOCK_RW, iova, data, true, context);
}

MockAnswer MockDevice::read_page(std::uint64_t iova, std::span<std::byte> data) const
{
	return copy(VFIO_MT_MOCK_PAGE_RW, iova, data, false, VFIO_MT_MOCK_CALLER);
}

MockAnswer MockDevice::write_page(std::uint64_t iova, std::span<std::byte> data) const
{
	return copy(VFIO_MT_MOCK_PAGE_RW, iova, data, true, VFIO_MT_MOCK_CALLER);
}

static vfio_mt_mock_same compare_page(int fd, std::uint64_t iova, const void *vaddr)
{
	vfio_mt_mock_same same = {};

	same.iova = iova;
	same.vaddr = reinterpret_cast<std::uintptr_t>(vaddr);
	must(fd, VFIO_MT_MOCK_SAME_PAGE, &same, "SAME_PAGE");
	return same;
}

bool MockDevice::same_page(std::uint64_t iova, const void *vaddr) const
{
	return compare_page(fd(), iova, vaddr).same;
}

bool MockDevice::zero_page(std::uint64_t iova) const
{
	return compare_page(fd(), iova, nullptr).zero;
}

void MockDevice::on_unmap(unsigned ignore, bool async) const
{
	vfio_mt_mock_unmap_conf conf = {.ignore = ignore, .async = async};

	must(fd(), VFIO_MT_MOCK_UNMAP_CONF, &conf, "UNMAP_CONF");
}

vfio_mt_mock_unmap_log MockDevice::unmap_log() const
{
	vfio_mt_mock_unmap_log log;

	must(fd(), VFIO_MT_MOCK_UNMAP_LOG, &log, "UNMAP_LOG");
	return log;
}

vfio_mt_mock_pin_info MockDevice::pin_info() const
{
	vfio_mt_mock_pin_info info;

	must(fd(), VFIO_MT_MOCK_PIN_INFO, &info, "PIN_INFO");
	return info;
}

MockAnswer MockDevice::dma_read(std::uint64_t iova, std::span<std::byte> data) const
{
	return copy(VFIO_MT_MOCK_DMA, iova, data, false, VFIO_MT_MOCK_CALLER);
}

MockAnswer MockDevice::dma_write(std::uint64_t iova, std::span<std::byte> data) const
{
	return copy(VFIO_MT_MOCK_DMA, iova, data, true, VFIO_MT_MOCK_CALLER);
}

bool MockDevice::reaches(std::uint64_t iova, std::span<std::byte> memory) const
{
	std::vector<std::byte> before(memory.begin(), memory.end());
	std::vector<std::byte> data(memory.size());

	if (dma_read(iova, data).result || data != before)
		return false;
	for (auto &b : data)
		b = ~b;
	if (dma_write(iova, data).result || !std::ranges::equal(memory, data))
		return false;
	return !dma_write(iova, before).result && std::ranges::equal(memory, before);
}

std::vector<vfio_mt_mock_leaf> MockDevice::leaves(std::uint64_t first) const
{
	std::vector<vfio_mt_mock_leaf> all;
	std::vector<vfio_mt_mock_leaf> some(4096);
	vfio_mt_mock_leaves call = {};

	call.first = first;
	do {
		call.buf = reinterpret_cast<std::uintptr_t>(some.data());
		call.count = static_cast<unsigned>(some.size());
		must(fd(), VFIO_MT_MOCK_LEAVES, &call, "LEAVES");
		all.insert(all.end(), some.begin(), some.begin() + call.count);
	} while (call.more);
	return all;
}

vfio_mt_mock_domain MockDevice::domain() const
{
	vfio_mt_mock_domain domain;

	must(fd(), VFIO_MT_MOCK_DOMAIN, &domain, "DOMAIN");
	return domain;
}

std::uint64_t MockDevice::domain_id() const
{
	vfio_mt_mock_domain domain = {};

	return ::ioctl(fd(), VFIO_MT_MOCK_DOMAIN, &domain) < 0 ? 0 : domain.id;
}

/* The fixture */

void MockRig::close()
{
	devices.clear();
	groups.clear();
	container.close();
}

void MockRig::forget()
{
	for (Group &group : groups)
		group.forget();
	groups.clear();
	container.forget();
}

void MockCase::SetUp()
{
	VfioCase::SetUp();
	if (HasFatalFailure())
		return;
	mock_ = Mock::open(mock_lack_);
	if (!mock_)
		GTEST_SKIP() << mock_lack_;
	mock_->reset();
}

void MockCase::TearDown()
{
	VfioCase::TearDown();
	if (!mock_)
		return;
	const vfio_mt_mock_stats stats = mock_->stats();

	mock_->reset();
	if (testing::Test::IsSkipped())
		return;
	want("after.domains", stats.domains, 0);
	want("after.leaves", stats.leaves, 0);
	want("after.map_over_mapped", stats.bad_map_over, 0);
	want("after.map_outside", stats.bad_map_range, 0);
	want("after.map_over_unsynced", stats.bad_map_unsynced, 0);
	want("after.unpinned_while_mapped", stats.bad_unpinned, 0);
	want("after.unpinned_before_sync", stats.bad_unpinned_unsynced, 0);
	want("after.freed_unsynced", stats.bad_free_unsynced, 0);
	want("after.freed_attached", stats.bad_free_attached, 0);
	if (!unmap_nothing_)
		want("after.unmap_of_nothing", stats.bad_unmap, 0);
}

Group MockCase::open_group(unsigned index) const
{
	return Group::open(mock_->device(index).group);
}

MockDevice MockCase::open_device(const Group &group, unsigned index) const
{
	return MockDevice(group, mock_->device(index).name);
}

MockRig MockCase::open_mock_groups(const std::vector<unsigned> &indexes, unsigned long type)
{
	MockRig rig;

	rig.container = Container::open();
	for (const unsigned index : indexes) {
		const Result result = add_group(rig, index);

		if (!result.ok())
			throw std::runtime_error(
				"VFIO_GROUP_SET_CONTAINER: " + errno_name(result.err));
	}
	const Result result = set_iommu(rig.container, type);

	if (!result.ok())
		throw std::runtime_error("VFIO_SET_IOMMU: " + errno_name(result.err));
	return rig;
}

MockRig MockCase::open_mock(const std::vector<unsigned> &indexes, unsigned long type)
{
	MockRig rig = open_mock_groups(indexes, type);

	for (std::size_t i = 0; i < indexes.size(); i++)
		rig.devices.push_back(open_device(rig.groups[i], indexes[i]));
	return rig;
}

Result MockCase::add_group(MockRig &rig, unsigned index)
{
	Group group = open_group(index);
	const Result result = group.set_container(rig.container);

	if (result.ok())
		rig.groups.push_back(std::move(group));
	return result;
}

bool MockCase::has_mock_iommu()
{
	if (!mock_->info().iommu_error)
		return true;
	mock_lack_ =
		"needs the mock IOMMU, and this kernel has another (guest/run --iommu none): " +
		errno_name(-mock_->info().iommu_error);
	return false;
}

void MockCase::want_dirty(const std::string &key, const Container &container, std::size_t pages,
	const std::string &expected, Where where)
{
	Bitmap bits(pages);

	want_errno(key + ".get",
		container.dirty_get(iova0, pages * page, bits.data(), bits.bytes()), 0, where);
	want(key, bits.show(), expected, where);
}

/* Bitmap */

std::string Bitmap::show() const
{
	const auto bit = [&](std::size_t i) { return words_[i / 64] >> (i % 64) & 1; };
	const std::size_t end = words_.size() * 64;
	std::string text;

	for (std::size_t i = 0; i < end; i++) {
		std::size_t last = i;

		if (!bit(i))
			continue;
		while (last + 1 < end && bit(last + 1))
			last++;
		text += (text.empty() ? "" : " ") + std::to_string(i) +
			(last > i ? "-" + std::to_string(last) : "") + (last >= pages_ ? "!" : "");
		i = last;
	}
	return text;
}

/* BackendParameter */

BackendParameter::BackendParameter(const std::string &name, const std::string &value)
	: module_(module_refs(mt_module) ? mt_module : stock_module), name_(name)
{
	const auto before = module_parameter(module_, name_);

	if (!before)
		return;
	before_ = *before;
	set_ = set_module_parameter(module_, name_, value);
}

BackendParameter::~BackendParameter()
{
	if (set_)
		set_module_parameter(module_, name_, before_);
}

/* Limits */

void limit_locked_memory(std::uint64_t pages)
{
	__user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	__user_cap_data_struct data[2] = {};
	const rlimit limit = {.rlim_cur = pages * page, .rlim_max = pages * page};

	if (::syscall(SYS_capget, &header, data))
		throw std::runtime_error("capget");
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	data[0].permitted &= ~(1U << CAP_IPC_LOCK);
	data[0].inheritable &= ~(1U << CAP_IPC_LOCK);
	if (::setrlimit(RLIMIT_MEMLOCK, &limit) || ::syscall(SYS_capset, &header, data))
		throw std::runtime_error("cannot limit locked memory");
}

} // namespace selftest
