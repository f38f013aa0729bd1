// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: RLIMIT_MEMLOCK, CAP_IPC_LOCK and dma_entry_limit.
 *
 * The container is opened by the parent, who is root; the limited process is
 * a child that inherits it. Each child has an mm, and so a VmLck, of its own.
 */
#include "case.hpp"
#include "proc.hpp"

#include <algorithm>
#include <array>
#include <barrier>
#include <grp.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

/* Two ways to have no CAP_IPC_LOCK. */
enum class Privilege { full, no_ipc_lock, other_user };

static void set_memlock(std::uint64_t bytes)
{
	const rlimit limit = {.rlim_cur = bytes, .rlim_max = bytes};

	if (::setrlimit(RLIMIT_MEMLOCK, &limit))
		throw std::runtime_error("setrlimit");
}

static void drop_ipc_lock()
{
	__user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	__user_cap_data_struct data[2];

	if (::syscall(SYS_capget, &header, data))
		throw std::runtime_error("capget");
	for (auto *set : {&data[0].effective, &data[0].permitted})
		*set &= ~(1U << CAP_IPC_LOCK);
	if (::syscall(SYS_capset, &header, data))
		throw std::runtime_error("capset");
}

static void become(Privilege privilege)
{
	switch (privilege) {
	case Privilege::full:
		break;
	case Privilege::no_ipc_lock:
		drop_ipc_lock();
		break;
	case Privilege::other_user:
		if (::setgroups(0, nullptr) || ::setresgid(65534, 65534, 65534) ||
			::setresuid(65534, 65534, 65534))
			throw std::runtime_error("setresuid");
		break;
	}
}

/* One map of memory of some kind under a limit. */
struct LimitRow {
	const char *name;
	Privilege privilege;
	Backing backing;
	std::size_t pages;   /* to map */
	std::uint64_t limit; /* bytes */
	std::size_t locked;  /* pages already mlock()ed by the process */
	int expected;
	bool populated = true;
};

using Limits = RowCase<LimitRow>;

TEST_P(Limits, KB21_Map)
{
	const LimitRow &row = GetParam();
	const std::size_t size = row.pages * page;

	NEED_DEVICES(1);
	NEED_MEMORY(row.backing, size);
	covers({"KB21"});
	const Rig rig = open_rig();
	const Notes child = run_child([&](Notes &seen) {
		const Memory ram = allocate(row.backing, size);
		const Memory other = Memory::map(std::max<std::size_t>(row.locked, 1) * page);

		if (row.populated)
			populate(ram);
		if (row.locked && ::mlock(other.data(), row.locked * page))
			throw std::runtime_error("mlock");
		set_memlock(row.limit);
		become(row.privilege);

		const auto base = vm_locked_pages();
		const Result result = rig.container.map(iova0, ram.data(), size);

		seen.put("base", base);
		seen.put("map", errno_name(result.err));
		seen.put("charged", vm_locked_pages() - base);
		const Result unmapped = rig.container.unmap(iova0, size);

		seen.put("unmap", errno_name(unmapped.err));
		seen.put("unmap.pages", unmapped.value / static_cast<long>(page));
		seen.put("charged.after", vm_locked_pages() - base);
	});

	take("", child);
	expect_noted("map", errno_name(row.expected));
	expect_noted("base", static_cast<std::int64_t>(row.locked));
	expect_noted("charged", static_cast<std::int64_t>(row.expected ? 0 : row.pages));
	expect_noted("unmap.pages", static_cast<std::int64_t>(row.expected ? 0 : row.pages));
	expect_noted("charged.after", std::int64_t{0});
	want("pinned", pinned(), 0);
}

static constexpr auto full = Privilege::full;
static constexpr auto no_cap = Privilege::no_ipc_lock;
static constexpr auto nobody = Privilege::other_user;

static const LimitRow limit_rows[] = {
	{"exact_fit", no_cap, Backing::small, 16, 16 * page, 0, 0},
	{"exact_fit_cold", no_cap, Backing::small, 16, 16 * page, 0, 0, false},
	{"exact_fit_nobody", nobody, Backing::small, 16, 16 * page, 0, 0},
	{"one_page_short", no_cap, Backing::small, 16, 15 * page, 0, ENOMEM},
	{"one_page_short_cold", no_cap, Backing::small, 16, 15 * page, 0, ENOMEM, false},
	{"one_page_short_nobody", nobody, Backing::small, 16, 15 * page, 0, ENOMEM},
	{"one_byte_short", no_cap, Backing::small, 16, 16 * page - 1, 0, ENOMEM},
	{"one_page_more", no_cap, Backing::small, 16, 17 * page, 0, 0},
	{"zero", no_cap, Backing::small, 1, 0, 0, ENOMEM},
	{"under_a_page", no_cap, Backing::small, 1, page - 1, 0, ENOMEM},
	{"infinite", no_cap, Backing::small, 16, RLIM_INFINITY, 0, 0},
	{"cap_ignores_zero", full, Backing::small, 16, 0, 0, 0},
	{"cap_ignores_short", full, Backing::small, 16, 15 * page, 0, 0},
	{"mlocked_fits", no_cap, Backing::small, 16, 20 * page, 4, 0},
	{"mlocked_short", no_cap, Backing::small, 16, 20 * page, 5, ENOMEM},
	{"mlocked_all", no_cap, Backing::small, 1, 4 * page, 4, ENOMEM},
	{"memfd_short", no_cap, Backing::memfd, 16, 15 * page, 0, ENOMEM},
	{"memfd_fits", no_cap, Backing::memfd, 16, 16 * page, 0, 0},
	{"thp_fits", no_cap, Backing::thp, 1024, 1024 * page, 0, 0},
	{"thp_fits_cold", no_cap, Backing::thp, 1024, 1024 * page, 0, 0, false},
	{"thp_short", no_cap, Backing::thp, 1024, 1023 * page, 0, ENOMEM},
	{"thp_short_cold", no_cap, Backing::thp, 1024, 1023 * page, 0, ENOMEM, false},
	{"thp_ends_inside_one", no_cap, Backing::thp, 1024, 700 * page, 0, ENOMEM},
	{"hugetlb_fits", no_cap, Backing::hugetlb_2m, 1024, 1024 * page, 0, 0},
	{"hugetlb_short", no_cap, Backing::hugetlb_2m, 1024, 1023 * page, 0, ENOMEM},
	{"hugetlb_short_cold", no_cap, Backing::hugetlb_2m, 1024, 1023 * page, 0, ENOMEM, false},
	{"many_pages_fit", no_cap, Backing::small, 3000, 3000 * page, 0, 0, false},
	{"many_pages_short", no_cap, Backing::small, 3000, 2999 * page, 0, ENOMEM, false},
	/* More than one batch of the charge cache (65,536 pages) */
	{"large_fits", no_cap, Backing::thp, 73728, 73728 * page, 0, 0, false},
	{"large_short", no_cap, Backing::thp, 73728, 73727 * page, 0, ENOMEM, false},
};

INSTANTIATE_TEST_SUITE_P(Table, Limits, testing::ValuesIn(limit_rows), row_name<LimitRow>);

using LimitsCase = VfioCase;

/*
 * Two reasons to fail in one map: too little room, and a hole. What comes first in
 * memory is the error, also if several threads map.
 */
TEST_F(LimitsCase, KB21_LimitAndHole)
{
	NEED_DEVICES(1);
	covers({"KB09", "KB21"});
	constexpr std::size_t size = 64 * mib;
	const Rig rig = open_rig();

	for (const Backing backing : {Backing::small, Backing::thp}) {
		for (const bool hole_first : {true, false}) {
			const std::string key = std::string(name(backing)) +
						(hole_first ? ".hole_first" : ".limit_first");

			take(key + ".", run_child([&](Notes &seen) {
				Memory ram = allocate(backing, size);

				set_memlock(size / 4 * (hole_first ? 3 : 1));
				drop_ipc_lock();
				ram.punch(size / 4 * (hole_first ? 1 : 3), huge_2m);
				seen.put("map",
					errno_name(rig.container.map(iova0, ram.data(), size).err));
				seen.put("VmLck", vm_locked_pages());
				seen.put("unmap.pages",
					rig.container.unmap_all().value / static_cast<long>(page));
			}));
			expect_noted(key + ".map", to_value(hole_first ? "EFAULT" : "ENOMEM"));
			expect_noted(key + ".VmLck", to_value(0));
			expect_noted(key + ".unmap.pages", to_value(0));
			want(key + ".pinned", pinned(), 0);
		}
	}
}

/* Mappings add up; an unmap makes room; a higher limit is honoured at once. */
TEST_F(LimitsCase, KB21_SeveralMappings)
{
	NEED_DEVICES(1);
	covers({"KB21"});
	const Rig rig = open_rig();
	const Notes child = run_child([&](Notes &seen) {
		const Memory ram = Memory::map(64 * page);
		const auto map = [&](std::size_t at, std::size_t pages) {
			return errno_name(
				rig.container
					.map(iova0 + at * page, ram.at(at * page), pages * page)
					.err);
		};

		set_memlock(32 * page);
		/* The hard limit cannot be raised again without the capability. */
		drop_ipc_lock();
		seen.put("16", map(0, 16));
		seen.put("16+10", map(16, 10));
		seen.put("16+10+7", map(26, 7));
		seen.put("VmLck.full", vm_locked_pages());
		seen.put("16+10+6", map(26, 6));
		seen.put("16+10+6+1", map(32, 1));
		rig.container.unmap(iova0 + 16 * page, 10 * page);
		seen.put("after_unmap", map(40, 10));
		seen.put("VmLck", vm_locked_pages());

		rlimit limit = {.rlim_cur = 33 * page, .rlim_max = 33 * page};

		/* CAP_SYS_RESOURCE is still there. */
		seen.put("setrlimit", ::setrlimit(RLIMIT_MEMLOCK, &limit));
		seen.put("after_raise", map(50, 1));
		/* A limit below what is charged refuses more and changes nothing. */
		limit = {.rlim_cur = page, .rlim_max = page};
		::setrlimit(RLIMIT_MEMLOCK, &limit);
		seen.put("after_lower", map(51, 1));
		seen.put("VmLck.lower", vm_locked_pages());
		seen.put("all.pages", rig.container.unmap_all().value / static_cast<long>(page));
		seen.put("VmLck.after", vm_locked_pages());
	});

	take("", child);
	for (const char *key : {"16", "16+10", "16+10+6", "after_unmap", "after_raise"})
		expect_noted(key, to_value("ok"));
	for (const char *key : {"16+10+7", "16+10+6+1", "after_lower"})
		expect_noted(key, to_value("ENOMEM"));
	expect_noted("all.pages", to_value(33));
	expect_noted("VmLck.after", to_value(0));
}

/* Containers of one process share its limit. */
TEST_F(LimitsCase, KB21_TwoContainers)
{
	NEED_DEVICES(2);
	covers({"KB21"});
	const Rig a = open_rig(1);
	const Rig b = open_rig(1, VFIO_TYPE1v2_IOMMU, 1);
	const Notes child = run_child([&](Notes &seen) {
		const Memory ram = Memory::map(32 * page);

		set_memlock(48 * page);
		drop_ipc_lock();
		seen.put("a", errno_name(a.container.map(iova0, ram.data(), 32 * page).err));
		/* The same memory, charged again: as for N devices behind a vIOMMU. */
		seen.put("b", errno_name(b.container.map(iova0, ram.data(), 32 * page).err));
		seen.put("b.half", errno_name(b.container.map(iova0, ram.data(), 16 * page).err));
		seen.put("VmLck", vm_locked_pages());
		a.container.unmap(iova0, 32 * page);
		seen.put("VmLck.a_gone", vm_locked_pages());
		seen.put("b.more",
			errno_name(b.container.map(2 * iova0, ram.data(), 32 * page).err));
		b.container.unmap_all();
		seen.put("VmLck.after", vm_locked_pages());
	});

	take("", child);
	expect_noted("a", to_value("ok"));
	expect_noted("b", to_value("ENOMEM"));
	expect_noted("b.half", to_value("ok"));
	expect_noted("VmLck", to_value(48));
	expect_noted("b.more", to_value("ok"));
	expect_noted("VmLck.after", to_value(0));
}

/* The capability counts at the time of the map. */
TEST_F(LimitsCase, KB21_CapabilityDroppedLater)
{
	NEED_DEVICES(1);
	covers({"KB21"});
	const Rig rig = open_rig();
	const Notes child = run_child([&](Notes &seen) {
		const Memory ram = Memory::map(32 * page);

		set_memlock(4 * page);
		seen.put("with", errno_name(rig.container.map(iova0, ram.data(), 16 * page).err));
		drop_ipc_lock();
		seen.put("without",
			errno_name(rig.container.map(iova0 + 16 * page, ram.data(), page).err));
		seen.put("VmLck", vm_locked_pages());
		seen.put("unmap.pages",
			rig.container.unmap(iova0, 16 * page).value / static_cast<long>(page));
		seen.put("VmLck.after", vm_locked_pages());
		seen.put("then", errno_name(rig.container.map(iova0, ram.data(), 4 * page).err));
		rig.container.unmap_all();
	});

	take("", child);
	expect_noted("with", to_value("ok"));
	expect_noted("without", to_value("ENOMEM"));
	expect_noted("VmLck.after", to_value(0));
	expect_noted("then", to_value("ok"));
}

/* What is not charged needs no room: BARs, and zero pages that stay what they are. */
TEST_F(LimitsCase, UnchargedNeedNoRoom)
{
	NEED_DEVICES(1);
	NEED_EDU();
	covers({"KB12", "KB21"});
	const Rig rig = open_dma_rig(1);
	const Region region =
		rig.devices[0].map_region(VFIO_PCI_BAR0_REGION_INDEX, PROT_READ | PROT_WRITE);
	const bool zeros_stay = !charge_of_zero_pages(1);
	const Notes child = run_child([&](Notes &seen) {
		const Memory zero = allocate(Backing::small, 16 * page);
		/* A fork does not copy a BAR's page table: faulted in here. */
		const auto map = [&](std::uint64_t iova, const void *at, std::uint32_t flags) {
			return errno_name(rig.container.map(iova, at, 16 * page, flags).err);
		};

		set_memlock(0);
		drop_ipc_lock();
		seen.put("zero_page", map(iova0, zero.data(), VFIO_DMA_MAP_FLAG_READ));
		seen.put("bar", map(2 * iova0, region.data(), map_rw));
		seen.put("VmLck", vm_locked_pages());
		*zero.at(9 * page) = std::byte{1};
		seen.put("one_real_page", map(3 * iova0, zero.data(), VFIO_DMA_MAP_FLAG_READ));
		seen.put("unmap.pages", rig.container.unmap_all().value / static_cast<long>(page));
	});

	take("", child);
	expect_noted("zero_page", to_value(zeros_stay ? "ok" : "ENOMEM"));
	expect_noted("bar", to_value("ok"));
	expect_noted("VmLck", to_value(0));
	expect_noted("one_real_page", to_value("ENOMEM"));
	expect_noted("unmap.pages", to_value(zeros_stay ? 32 : 16));
}

/* Parallel maps under a limit for all but one: exactly one is refused, whichever. */
TEST_F(LimitsCase, KB21_ThreadsShareTheLimit)
{
	NEED_DEVICES(1);
	covers({"KB19", "KB21"});
	const Rig rig = open_rig();
	const Notes child = run_child([&](Notes &seen) {
		constexpr std::size_t n = 8;
		const Memory ram = Memory::map(n * 64 * page);
		std::vector<int> errors(n);
		std::vector<std::jthread> threads;

		populate(ram);
		set_memlock((n * 64 - 1) * page);
		drop_ipc_lock();
		for (std::size_t i = 0; i < n; i++)
			threads.emplace_back([&, i] {
				errors[i] = rig.container
						    .map(iova0 + i * 64 * page,
							    ram.at(i * 64 * page), 64 * page)
						    .err;
			});
		threads.clear();
		seen.put("ok", std::ranges::count(errors, 0));
		seen.put("ENOMEM", std::ranges::count(errors, ENOMEM));
		seen.put("VmLck", vm_locked_pages());
		rig.container.unmap_all();
		seen.put("VmLck.after", vm_locked_pages());
	});

	take("", child);
	expect_noted("ok", to_value(7));
	expect_noted("ENOMEM", to_value(1));
	expect_noted("VmLck", to_value(7 * 64));
	expect_noted("VmLck.after", to_value(0));
}

/* Two maps at a time under a limit for one: they must not refuse each other. */
TEST_F(LimitsCase, KB21_OneOfTwo)
{
	NEED_DEVICES(1);
	covers({"KB19", "KB21"});
	const Rig rig = open_rig();
	const Notes child = run_child([&](Notes &seen) {
		constexpr std::size_t size = 32 * mib;
		std::int64_t one = 0;

		set_memlock(size);
		drop_ipc_lock();
		for (int round = 0; round < 6; round++) {
			/* Cold memory, so that it takes a while. */
			const Memory ram[] = {Memory::map(size), Memory::map(size)};
			std::barrier start(2);
			std::array<int, 2> errors = {};

			{
				std::array<std::jthread, 2> threads;

				for (std::size_t i = 0; i < 2; i++)
					threads[i] = std::jthread([&, i] {
						start.arrive_and_wait();
						errors[i] = rig.container
								    .map(iova0 + i * size,
									    ram[i].data(), size)
								    .err;
					});
			}
			one += std::ranges::count(errors, 0) == 1 &&
			       std::ranges::count(errors, ENOMEM) == 1;
			rig.container.unmap_all();
		}
		seen.put("one", one);
		seen.put("VmLck", vm_locked_pages());
	});

	take("", child);
	expect_noted("one", to_value(6));
	expect_noted("VmLck", to_value(0));
}

/* Sets a module parameter for the life of the object. */
class Parameter
{
public:
	Parameter(std::string module, std::string name, const std::string &value)
		: module_(std::move(module)), name_(std::move(name)),
		  before_(module_parameter(module_, name_).value_or("")),
		  set_(set_module_parameter(module_, name_, value))
	{
	}
	~Parameter() { set_module_parameter(module_, name_, before_); }
	bool set() const { return set_; }

private:
	std::string module_, name_, before_;
	bool set_;
};

#define NEED_PARAMETER(parameter)                                                                  \
	if (!(parameter).set())                                                                    \
	GTEST_SKIP() << "the backend's module parameters cannot be set here"

TEST_F(LimitsCase, KB01_DmaEntryLimit)
{
	NEED_DEVICES(1);
	covers({"KB01"});
	const Parameter limit(open_rig().container.backend().module, "dma_entry_limit", "5");
	NEED_PARAMETER(limit);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(page);
	const auto map = [&](std::size_t i) {
		return rig.container.map(iova0 + 2 * i * page, ram.data(), page);
	};

	want("avail", rig.container.info().dma_avail, 5);
	for (std::size_t i = 0; i < 5; i++)
		want_errno("map." + std::to_string(i), map(i), 0);
	want("avail.none", rig.container.info().dma_avail, 0);
	want_errno("map.5", map(5), ENOSPC);
	want_errno("exists_first", map(0), EEXIST);
	want("charged", charged(), 5);
	want_unmapped("unmap", rig.container.unmap(iova0, page), 1);
	want_errno("map.after_unmap", map(5), 0);
	want_errno("map.full_again", map(0), ENOSPC);
	/* Checked before the range and before the memory. */
	want_errno("map.reserved", rig.container.map(0xfee00000, ram.data(), page), ENOSPC);
	want_errno("map.fault", rig.container.map_addr(iova0, 0, page), ENOSPC);
	want_unmapped("all", rig.container.unmap_all(), 5);
	want("avail.after", rig.container.info().dma_avail, 5);
	/* A failed map gives its entry back. */
	for (std::size_t i = 0; i < 6; i++)
		want_errno("fault." + std::to_string(i), rig.container.map_addr(iova0, 0, page),
			EFAULT);
	want("avail.faults", rig.container.info().dma_avail, 5);
}

/* The limit is taken when the container gets its IOMMU, not later. */
TEST_F(LimitsCase, KB01_LimitOfOpenContainer)
{
	NEED_DEVICES(1);
	covers({"KB01"});
	const Rig rig = open_rig();
	const Parameter limit(rig.container.backend().module, "dma_entry_limit", "1");
	NEED_PARAMETER(limit);
	const Memory ram = Memory::map(page);

	want("avail", rig.container.info().dma_avail, 65535);
	for (std::size_t i = 0; i < 3; i++)
		want_errno("map." + std::to_string(i),
			rig.container.map(iova0 + 2 * i * page, ram.data(), page), 0);
}

TEST_F(LimitsCase, KB01_LimitZero)
{
	NEED_DEVICES(1);
	covers({"KB01"});
	const Parameter limit(open_rig().container.backend().module, "dma_entry_limit", "0");
	NEED_PARAMETER(limit);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(page);

	want("avail", rig.container.info().dma_avail, 0);
	want_errno("map", rig.container.map(iova0, ram.data(), page), ENOSPC);
}

/* disable_hugepages changes how, not what: same charges, same data. */
TEST_F(LimitsCase, DisableHugepages)
{
	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(Backing::hugetlb_2m, huge_2m);
	const std::string module = open_rig().container.backend().module;
	const Parameter parameter(module, "disable_hugepages", "Y");
	NEED_PARAMETER(parameter);
	Rig rig = open_dma_rig();

	want("value", module_parameter(module, "disable_hugepages").value_or(""), "Y");
	for (const Backing backing : {Backing::small, Backing::thp, Backing::hugetlb_2m}) {
		const std::string key = name(backing);
		const Memory ram = allocate(backing, huge_2m);

		stamp(ram, 4);
		fill(ram.bytes(100 * page, 512), 1);
		want_errno(key + ".map", rig.container.map(iova0, ram.data(), huge_2m), 0);
		want(key + ".charged", charged(), 512);
		want(key + ".copies",
			run_copies(rig.engines, {{iova0 + 100 * page, iova0 + 511 * page, 512}}),
			true);
		want(key + ".data", filled(ram.bytes(511 * page, 512), 1), true);
		want_unmapped(key + ".unmap", rig.container.unmap(iova0, huge_2m), 512);
	}
}

} // namespace selftest
