// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: domains, page sizes, apertures, reserved regions, replay and failures,
 * with the IOMMU of the test module, which can be anything and can fail. Needs
 * a kernel without another IOMMU (guest/run --iommu none).
 */
#include "mock/mock_rig.hpp"

#include "proc.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <random>
#include <sys/mman.h>
#include <thread>

namespace selftest
{

using namespace mock_device;
using MockIommu = MockCase;
using MockDomains = MockCase;
using MockRanges = MockCase;
using MockLeaves = MockCase;

static constexpr std::uint32_t rd = VFIO_DMA_MAP_FLAG_READ;
static constexpr std::uint32_t wr = VFIO_DMA_MAP_FLAG_WRITE;
static constexpr std::uint64_t sizes_4k = page;
static constexpr std::uint64_t sizes_x86 = page | huge_2m | huge_1g;

class MockFailures : public MockCase
{
protected:
	/* What another domain needs 16 leaves for, as no two of them go together. */
	void want_three_maps(const MockRig &rig, const Memory &ram)
	{
		want_errno("map.1", rig.container.map(iova0, ram.data(), 3 * page), 0);
		want_errno("map.2", rig.container.map(iova0 + mib, ram.at(3 * page), 9 * page), 0);
		want_errno("map.3",
			rig.container.map(iova0 + 2 * mib, ram.at(12 * page), 4 * page, rd), 0);
	}
};

static Memory patterned(std::size_t pages, unsigned seed)
{
	Memory ram = Memory::map(pages * page);

	fill(ram.bytes(0, ram.size()), seed);
	return ram;
}

static bool reaches(const MockDevice &device, std::uint64_t iova, const Memory &ram)
{
	return device.reaches(iova, ram.bytes(0, ram.size()));
}

/* One domain */

TEST_F(MockIommu, MapAndDma)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86});
	const MockDevice &device = rig.devices[0];
	const Memory ram = patterned(16, 1);
	std::vector<std::byte> data(page);

	want("mapped.before", device.domain().leaves, 0);
	want_answer("dma.before", device.dma_read(iova0, data), "EFAULT");
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want("charged", charged(), 16);
	want("bytes", device.domain().bytes, 16 * page);
	want("dma", reaches(device, iova0, ram), true);
	want_answer("dma.beyond", device.dma_write(iova0 + 16 * page, data), "EFAULT");
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 16);
	want("mapped.after", device.domain().leaves, 0);
	want("unsynced", device.domain().unsynced, 0);
	want_answer("dma.after", device.dma_write(iova0, data), "EFAULT");
	want("contents", filled(ram.bytes(0, ram.size()), 1), true);
	want("charged.none", charged(), 0);
}

struct PermissionRow {
	const char *name;
	std::uint32_t flags;
	const char *read;
	const char *write;
};

class MockPermission : public MockCase, public testing::WithParamInterface<PermissionRow>
{
};

TEST_P(MockPermission, Dma)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86, small});
	const Memory ram = patterned(4, 2);
	std::vector<std::byte> data(page, std::byte{0x33});

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size(), GetParam().flags), 0);
	for (std::size_t i = 0; i < 2; i++) {
		const std::string key = std::to_string(i) + ".";

		want_answer(key + "read", rig.devices[i].dma_read(iova0, data), GetParam().read);
		want_answer(key + "write", rig.devices[i].dma_write(iova0, data), GetParam().write);
		for (const auto &leaf : rig.devices[i].leaves())
			if (leaf.prot != (GetParam().flags | VFIO_MT_MOCK_CACHE))
				ADD_FAILURE() << "prot " << leaf.prot;
	}
}

INSTANTIATE_TEST_SUITE_P(Table, MockPermission,
	testing::Values(PermissionRow{"ro", rd, "ok", "EFAULT"},
		PermissionRow{"wo", wr, "EFAULT", "ok"}, PermissionRow{"rw", rd | wr, "ok", "ok"}),
	row_name<PermissionRow>);

/* A read-only mapping of read-only memory, of the zero page, of a file */
TEST_F(MockIommu, ReadOnlyMemory)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86});
	Memory ram = patterned(8, 3);
	const Memory zero = Memory::map(8 * page);
	std::vector<std::byte> data(8 * page, std::byte{1});

	::madvise(zero.data(), zero.size(), MADV_NOHUGEPAGE);
	::mprotect(ram.data(), ram.size(), PROT_READ);
	want_errno("rw", rig.container.map(iova0, ram.data(), ram.size()), EFAULT);
	want("rw.charged", charged(), 0);
	want_errno("ro", rig.container.map(iova0, ram.data(), ram.size(), rd), 0);
	want("ro.charged", charged(), 8);
	want_answer("ro.read", rig.devices[0].dma_read(iova0, data), "ok");
	want("ro.right", filled(data, 3), true);
	want_errno("zero", rig.container.map(iova0 + mib, zero.data(), zero.size(), rd), 0);
	want("zero.charged", charged(), 8 + charge_of_zero_pages(8));
	want_answer("zero.read", rig.devices[0].dma_read(iova0 + mib, data), "ok");
	want("zero.right", std::ranges::all_of(data, [](std::byte b) { return b == std::byte{}; }),
		true);
	want_unmapped("unmap_all", rig.container.unmap_all(), 16);
	want("charged.none", charged(), 0);
	want("pinned.none", pinned(), 0);
}

/* KB02, KB15: a BAR, alone and between RAM, entered anywhere. */
TEST_F(MockIommu, KB15_DeviceMemoryBetweenRam)
{
	NEED_MOCK_IOMMU();
	covers({"KB02", "KB15", "KB17"});
	const MockRig rig = open_mock({x86, small});
	const Memory bar = mock().memory(VFIO_MT_MOCK_MEM_EAGER, 32 * page);

	fill(bar.bytes(0, bar.size()), 4);
	for (const std::uint64_t kind : {VFIO_MT_MOCK_MEM_LAZY, VFIO_MT_MOCK_MEM_EAGER}) {
		const std::string key = kind == VFIO_MT_MOCK_MEM_LAZY ? "lazy." : "eager.";
		Memory mixed = patterned(32, 5);

		/* RAM 0-9, BAR pages 7-18 at 10-21, RAM 22-31 */
		mixed.place(10 * page, 12 * page, PROT_READ | PROT_WRITE, MAP_SHARED, mock().fd(),
			kind + 7 * page);
		want_errno(key + "map", rig.container.map(iova0, mixed.data(), mixed.size()), 0);
		want(key + "charged", charged(), 20);
		want(key + "right",
			std::equal(bar.at(7 * page), bar.at(19 * page), mixed.at(10 * page)), true);
		want(key + "dma.0", reaches(rig.devices[0], iova0, mixed), true);
		want(key + "dma.1", reaches(rig.devices[1], iova0, mixed), true);
		/* Mapped from the middle of the BAR on */
		want_errno(key + "map.inside",
			rig.container.map(iova0 + mib, mixed.at(15 * page), 10 * page), 0);
		want(key + "charged.inside", charged(), 23);
		want(key + "dma.inside",
			rig.devices[0].reaches(iova0 + mib, mixed.bytes(15 * page, 10 * page)),
			true);
		want_unmapped(key + "unmap", rig.container.unmap(iova0, mixed.size()), 32);
		want_unmapped(key + "unmap_all", rig.container.unmap_all(), 10);
		want(key + "charged.none", charged(), 0);
		want(key + "pinned.none", pinned(), 0);
	}
}

TEST_F(MockIommu, KB02_DeviceMemorySwitchedOff)
{
	NEED_MOCK_IOMMU();
	covers({"KB02"});
	const MockRig rig = open_mock({x86});
	const Memory lazy = mock().memory(VFIO_MT_MOCK_MEM_LAZY, 8 * page);
	const Memory ro = mock().memory(VFIO_MT_MOCK_MEM_LAZY, 8 * page, PROT_READ);
	const Memory no = mock().memory(VFIO_MT_MOCK_MEM_UNRESERVED, 8 * page);
	const Memory pages = mock().memory(VFIO_MT_MOCK_MEM_PAGES, 8 * page);

	mock().zap(VFIO_MT_MOCK_MEM_LAZY, VFIO_MT_MOCK_MEM_SIZE, true);
	want_errno("off", rig.container.map(iova0, lazy.data(), lazy.size()), EFAULT);
	mock().zap(VFIO_MT_MOCK_MEM_LAZY, 0, false);
	want_errno("on", rig.container.map(iova0, lazy.data(), lazy.size()), 0);
	want_errno("read_only.rw", rig.container.map(iova0 + mib, ro.data(), ro.size()), EFAULT);
	want_errno("read_only.ro", rig.container.map(iova0 + mib, ro.data(), ro.size(), rd), 0);
	want_errno("unreserved", rig.container.map(iova0 + 2 * mib, no.data(), no.size()), EFAULT);
	want("charged", charged(), 0);
	want_errno("pages", rig.container.map(iova0 + 3 * mib, pages.data(), pages.size()), 0);
	want("charged.pages", charged(), 8);
	want("dma.pages", reaches(rig.devices[0], iova0 + 3 * mib, pages), true);
	/* Taken away while it is mapped: what the IOMMU has stays until the unmap. */
	mock().zap(VFIO_MT_MOCK_MEM_LAZY, VFIO_MT_MOCK_MEM_SIZE, true);
	want("bytes", rig.devices[0].domain().bytes, 24 * page);
	want_unmapped("unmap_all", rig.container.unmap_all(), 24);
	want("charged.none", charged(), 0);
	mock().zap(VFIO_MT_MOCK_MEM_LAZY, 0, false);
}

/* The first version of the interface: unmap by the start of a mapping. */
TEST_F(MockIommu, Version1Unmap)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86}, VFIO_TYPE1_IOMMU);
	const Memory ram = patterned(16, 6);
	const auto map = [&](const std::string &key) {
		want_errno(key + "map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	};

	map("inside.");
	want_unmapped("inside", rig.container.unmap(iova0 + 4 * page, 4 * page), 0);
	want("inside.charged", charged(), 16);
	want("inside.bytes", rig.devices[0].domain().bytes, 16 * page);
	want_unmapped("end", rig.container.unmap(iova0 + 15 * page, 4 * page), 0);
	want_unmapped("first_page", rig.container.unmap(iova0, page), 16);
	want("first_page.charged", charged(), 0);
	map("over.");
	want_unmapped("over", rig.container.unmap(iova0 - page, 2 * page), 16);
	want("over.bytes", rig.devices[0].domain().bytes, 0);
}

/*
 * Who attaches a group later need not be who mapped. The stock driver then pins
 * what the attaching process has at those addresses.
 */
TEST_F(MockIommu, OtherProcessAttaches)
{
	NEED_MOCK_IOMMU();
	MockRig rig = open_mock_groups({emulated0});
	const Memory ram = patterned(4, 28);
	const Group group = open_group(x86);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	take("", run_child([&](Notes &seen) {
		const auto before = vm_locked_pages();

		/* Pages of its own in the same places */
		fill(ram.bytes(0, ram.size()), 29);
		seen.put("attach", errno_name(group.set_container(rig.container).err));
		seen.put("charged.child", vm_locked_pages() - before);
	}));
	see("charged", charged());
	{
		const MockDevice device = open_device(group, x86);

		want_ours("reaches_the_mapper", reaches(device, iova0, ram), true);
	}
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 4);
	want("charged.none", charged(), 0);
	want("pinned.none", pinned(), 0);
}

/* Several domains in one container */

TEST_F(MockDomains, SameKindShares)
{
	NEED_MOCK_IOMMU();
	MockRig rig = open_mock({x86});
	const Memory ram = patterned(8, 7);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("add", add_group(rig, x86_twin), 0);
	rig.devices.push_back(open_device(rig.groups[1], x86_twin));
	want("shared", rig.devices[0].domain_id() == rig.devices[1].domain_id(), true);
	want("devices", rig.devices[0].domain().devices, 2);
	want("domains", mock().stats().domains, 1);
	want("charged", charged(), 8);
	want("dma.0", reaches(rig.devices[0], iova0, ram), true);
	want("dma.1", reaches(rig.devices[1], iova0, ram), true);
	rig.devices.erase(rig.devices.begin());
	want_errno("detach", rig.groups[0].unset_container(), 0);
	want("dma.detached", reaches(rig.devices[0], iova0, ram), true);
	want("devices.detached", rig.devices[0].domain().devices, 1);
	want("charged.detached", charged(), 8);
	rig.devices.clear();
	want_errno("detach.last", rig.groups[1].unset_container(), 0);
	want("charged.none", charged(), 0);
	want("domains.none", mock().stats().domains, 0);
}

TEST_F(MockDomains, TwoDevicesOfOneGroup)
{
	NEED_MOCK_IOMMU();
	MockRig rig = open_mock({pair0});
	const Memory ram = patterned(8, 8);

	rig.devices.push_back(open_device(rig.groups[0], pair1));
	want("one_group", mock().device(pair0).group == mock().device(pair1).group, true);
	want("shared", rig.devices[0].domain_id() == rig.devices[1].domain_id(), true);
	want("devices", rig.devices[0].domain().devices, 2);
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want("dma.0", reaches(rig.devices[0], iova0, ram), true);
	want("dma.1", reaches(rig.devices[1], iova0, ram), true);
	want("charged", charged(), 8);
}

TEST_F(MockDomains, TypesOfAddress)
{
	NEED_MOCK_IOMMU();
	MockRig rig = open_mock_groups({x86});
	/* From 6.2 on, the group is asked, not its container. */
	const auto check = [&](const std::string &key, long cc) {
		want(key + ".dma_cc", rig.container.extension(VFIO_DMA_CC_IOMMU).value, cc);
		want(key + ".coherent", mock().coherent(rig.groups[0]).value,
			kernel_before(6, 2) ? cc : 1);
	};

	check("coherent", 1);
	want_errno("add.small", add_group(rig, small), 0);
	check("both", 0);
	want("domains", mock().stats().domains, 2);
	want_errno("detach.x86", rig.groups[0].unset_container(), 0);
	want("incoherent", rig.container.extension(VFIO_DMA_CC_IOMMU).value, 0);
	want_errno("detach.small", rig.groups[1].unset_container(), 0);
	rig.groups.clear();
	want_errno("again", add_group(rig, x86), 0);
	want_errno("again.set_iommu", set_iommu(rig.container, VFIO_TYPE1v2_IOMMU), 0);
	check("again", 1);
}

struct PairRow {
	const char *name;
	unsigned first;
	unsigned second;
	bool shared;
};

class MockPair : public MockCase, public testing::WithParamInterface<PairRow>
{
};

/* A second kind of IOMMU, before and after the maps: DMA through both, and all orders of leaving.
 */
TEST_P(MockPair, KB23_BothReach)
{
	NEED_MOCK_IOMMU();
	covers({"KB23", "KB13"});
	const PairRow &row = GetParam();

	for (const char *when : {"before", "after"}) {
		for (const std::size_t leaver : {0UL, 1UL}) {
			const std::string key =
				std::string(when) + "." + std::to_string(leaver) + ".";
			const Memory ram = patterned(24, 9), read_only = patterned(8, 10);
			MockRig rig = open_mock({row.first});
			std::vector<std::byte> data(page);

			if (key.starts_with("before"))
				want_errno(key + "add", add_group(rig, row.second), 0);
			want_errno(
				key + "map.1", rig.container.map(iova0, ram.data(), 16 * page), 0);
			/* Adjacent, but another mapping */
			want_errno(key + "map.2",
				rig.container.map(iova0 + 16 * page, ram.at(16 * page), 8 * page),
				0);
			want_errno(key + "map.ro",
				rig.container.map(iova0 + mib, read_only.data(), 8 * page, rd), 0);
			if (key.starts_with("after"))
				want_errno(key + "add", add_group(rig, row.second), 0);
			rig.devices.push_back(open_device(rig.groups[1], row.second));

			want(key + "shared",
				rig.devices[0].domain_id() == rig.devices[1].domain_id(),
				row.shared);
			want(key + "charged", charged(), 32);
			const Info info = rig.container.info();

			want(key + "pgsizes", hex(info.page_sizes),
				hex(rig.devices[0].domain().pgsizes &
					rig.devices[1].domain().pgsizes));
			for (std::size_t i = 0; i < 2; i++) {
				const std::string dev = key + "dev" + std::to_string(i) + ".";

				want(dev + "bytes", rig.devices[i].domain().bytes, 32 * page);
				want(dev + "unpinned", rig.devices[i].domain().unpinned, 0);
				want(dev + "dma", reaches(rig.devices[i], iova0, ram), true);
				want_answer(dev + "ro.read",
					rig.devices[i].dma_read(iova0 + mib + page, data), "ok");
				want(dev + "ro.right",
					std::equal(data.begin(), data.end(), read_only.at(page)),
					true);
				want_answer(dev + "ro.write",
					rig.devices[i].dma_write(iova0 + mib, data), "EFAULT");
			}

			want_unmapped(
				key + "unmap", rig.container.unmap(iova0 + 16 * page, 8 * page), 8);
			want(key + "bytes.0", rig.devices[0].domain().bytes, 24 * page);
			want(key + "bytes.1", rig.devices[1].domain().bytes, 24 * page);
			rig.devices.erase(rig.devices.begin() + static_cast<long>(leaver));
			want_errno(key + "detach", rig.groups[leaver].unset_container(), 0);
			rig.groups.erase(rig.groups.begin() + static_cast<long>(leaver));
			want(key + "charged.left", charged(), 24);
			want(key + "dma.left",
				rig.devices[0].reaches(iova0, ram.bytes(0, 16 * page)), true);
			want_errno(key + "map.left",
				rig.container.map(iova0 + 16 * page, ram.at(16 * page), 8 * page),
				0);
			want_unmapped(key + "unmap_all", rig.container.unmap_all(), 32);
			want(key + "charged.none", charged(), 0);
			want(key + "pinned.none", pinned(), 0);
			want(key + "leaves", rig.devices[0].domain().leaves, 0);
		}
	}
}

INSTANTIATE_TEST_SUITE_P(Table, MockPair,
	testing::Values(PairRow{"twins", x86, x86_twin, true},
		PairRow{"x86_small", x86, small, false}, PairRow{"small_x86", small, x86, false},
		PairRow{"x86_amd", x86, amd, false}, PairRow{"amd_small", amd, small, false},
		PairRow{"amd_arm", amd, arm, false},
		/* The same operations and coherency, but another aperture: attach says no. */
		PairRow{"x86_wide", x86, wide, false}, PairRow{"wide_x86", wide, x86, false}),
	row_name<PairRow>);

TEST_F(MockDomains, ThreeKinds)
{
	NEED_MOCK_IOMMU();
	MockRig rig = open_mock({x86, small, amd});
	const Memory ram = patterned(16, 11);

	want("domains", mock().stats().domains, 3);
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want("charged", charged(), 16);
	for (std::size_t i = 0; i < 3; i++)
		want("dma." + std::to_string(i), reaches(rig.devices[i], iova0, ram), true);
	/* The one in the middle leaves and comes back. */
	rig.devices.erase(rig.devices.begin() + 1);
	want_errno("detach", rig.groups[1].unset_container(), 0);
	want_errno("attach", rig.groups[1].set_container(rig.container), 0);
	rig.devices.push_back(open_device(rig.groups[1], small));
	for (std::size_t i = 0; i < 3; i++)
		want("dma.again." + std::to_string(i), reaches(rig.devices[i], iova0, ram), true);
	want_unmapped("unmap_all", rig.container.unmap_all(), 16);
	for (std::size_t i = 0; i < 3; i++)
		want("leaves." + std::to_string(i), rig.devices[i].domain().leaves, 0);
}

struct SizesRow {
	const char *name;
	std::uint64_t first;
	std::uint64_t second;
};

class MockSizes : public MockCase, public testing::WithParamInterface<SizesRow>
{
};

/* Page sizes of a container: those that all domains have, and 4K in place of smaller ones. */
TEST_P(MockSizes, Told)
{
	NEED_MOCK_IOMMU();
	mock().configure(x86, [](auto &c) { c.pgsizes = GetParam().first; });
	mock().configure(small, [](auto &c) { c.pgsizes = GetParam().second; });
	MockRig rig = open_mock({x86});
	const Memory ram = patterned(16, 12);

	see("one", hex(rig.container.info().page_sizes));
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("add", add_group(rig, small), 0);
	rig.devices.push_back(open_device(rig.groups[1], small));
	const Info info = rig.container.info();

	see("both", hex(info.page_sizes));
	see("migration", hex(info.migration_page_sizes));
	want("dma.0", reaches(rig.devices[0], iova0, ram), true);
	want("dma.1", reaches(rig.devices[1], iova0, ram), true);
	want_errno("half_page", rig.container.map(iova0 + mib, ram.data(), 512), EINVAL);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 16);
	rig.devices.clear();
	want_errno("detach", rig.groups[0].unset_container(), 0);
	see("other", hex(rig.container.info().page_sizes));
}

INSTANTIATE_TEST_SUITE_P(Table, MockSizes,
	testing::Values(SizesRow{"usual", sizes_x86, sizes_4k},
		SizesRow{"different", page | huge_2m, page | huge_1g},
		SizesRow{"all", ~(page - 1), sizes_x86}, SizesRow{"half_k", 512, 512 | page},
		SizesRow{"some_k", 1024 | page, 2048 | page | huge_2m},
		SizesRow{"big", page | 64 * kib, page | 64 * kib | huge_2m}),
	row_name<SizesRow>);

/* Ranges of addresses */

TEST_F(MockRanges, ApertureOfTheSecond)
{
	NEED_MOCK_IOMMU();
	MockRig rig = open_mock_groups({x86});
	const Memory ram = patterned(2, 13);
	const std::uint64_t high = 1ULL << 36;

	see("x86", ranges(rig.container.info()));
	want_errno("map.high", rig.container.map(high, ram.data(), page), 0);
	/* The arm device ends at 4G, and begins at 16M. */
	want_errno("add.conflict", add_group(rig, arm), EINVAL);
	see("conflict", ranges(rig.container.info()));
	want("domains.conflict", mock().stats().domains, 1);
	want_unmapped("unmap.high", rig.container.unmap(high, page), 1);
	want_errno("map.low", rig.container.map(0, ram.data(), page), 0);
	want_errno("add.conflict.low", add_group(rig, arm), EINVAL);
	want_unmapped("unmap.low", rig.container.unmap(0, page), 1);
	want_errno("map.edge", rig.container.map(0x1000000, ram.data(), page), 0);
	want_errno("map.edge.last", rig.container.map(0xfffff000, ram.data(), page), 0);
	want_errno("add", add_group(rig, arm), 0);
	see("both", ranges(rig.container.info()));
	want_errno("map.high.refused", rig.container.map(high, ram.data(), page), EINVAL);
	want_errno("map.low.refused", rig.container.map(0, ram.data(), page), EINVAL);
	want_unmapped("unmap.edge.last", rig.container.unmap(0xfffff000, page), 1);
	want_errno("map.over_end", rig.container.map(0xffffe000, ram.data(), 3 * page), EINVAL);
	want_errno("detach", rig.groups[1].unset_container(), 0);
	see("x86.again", ranges(rig.container.info()));
	want_errno("map.high.again", rig.container.map(high, ram.data(), page), 0);
	want("charged", charged(), 2);
}

TEST_F(MockRanges, Disjoint)
{
	NEED_MOCK_IOMMU();
	mock().configure(x86, [](auto &c) { c.aperture_last = 0xffffff; });
	MockRig rig = open_mock_groups({x86});

	want_errno("add", add_group(rig, arm), EINVAL);
	see("ranges", ranges(rig.container.info()));
	mock().configure(x86_twin, [](auto &c) { c.aperture_start = 0x1000000; });
	want_errno("add.twin", add_group(rig, x86_twin), EINVAL);
	mock().configure(x86_twin, [](auto &c) { c.aperture_start = 0xfff000; });
	want_errno("add.one_page", add_group(rig, x86_twin), 0);
	see("one_page", ranges(rig.container.info()));
}

struct ResvRow {
	const char *name;
	std::uint32_t type;
	bool counts; /* it is taken out of the ranges */
};

class MockResv : public MockCase, public testing::WithParamInterface<ResvRow>
{
};

TEST_P(MockResv, Types)
{
	NEED_MOCK_IOMMU();
	const ResvRow &row = GetParam();
	const std::uint64_t first = iova0 + 16 * page, last = first + 4 * page - 1;
	const Memory ram = patterned(64, 14);

	mock().configure(small, [&](auto &c) {
		c.nr_resv = 1;
		c.resv[0] = {.start = first, .last = last, .type = row.type, .pad = 0};
	});
	MockRig rig = open_mock_groups({x86});
	want_errno("map", rig.container.map(first + 3 * page, ram.data(), page), 0);
	want_errno("add.conflict", add_group(rig, small), row.counts ? EINVAL : 0);
	see("ranges.conflict", ranges(rig.container.info()));
	if (rig.groups.size() > 1) {
		want_errno("detach", rig.groups[1].unset_container(), 0);
		rig.groups.pop_back();
	}
	want_unmapped("unmap", rig.container.unmap(first + 3 * page, page), 1);
	want_errno("map.neighbour", rig.container.map(last + 1, ram.data(), page), 0);
	want_errno("add", add_group(rig, small), 0);
	see("ranges", ranges(rig.container.info()));
	want_errno("map.inside", rig.container.map(first + page, ram.data(), page),
		row.counts ? EINVAL : 0);
	want_errno("map.over", rig.container.map(first - 8 * page, ram.data(), 9 * page),
		row.counts ? EINVAL : 0);
	want_errno("map.before", rig.container.map(first - 16 * page, ram.data(), 8 * page), 0);
	want_errno("detach.again", rig.groups[1].unset_container(), 0);
	see("ranges.again", ranges(rig.container.info()));
	want_errno("map.free", rig.container.map(first + 2 * page, ram.data(), page), 0);
}

INSTANTIATE_TEST_SUITE_P(Table, MockResv,
	testing::Values(ResvRow{"direct", VFIO_MT_MOCK_RESV_DIRECT, true},
		ResvRow{"relaxable", VFIO_MT_MOCK_RESV_RELAXABLE, false},
		ResvRow{"reserved", VFIO_MT_MOCK_RESV_RESERVED, true},
		ResvRow{"msi", VFIO_MT_MOCK_RESV_MSI, true},
		ResvRow{"sw_msi", VFIO_MT_MOCK_RESV_SW_MSI, true}),
	row_name<ResvRow>);

struct RegionsRow {
	const char *name;
	std::vector<vfio_mt_mock_resv> resv;
};

class MockRegions : public MockCase, public testing::WithParamInterface<RegionsRow>
{
};

TEST_P(MockRegions, Ranges)
{
	NEED_MOCK_IOMMU();
	const auto &resv = GetParam().resv;

	mock().configure(x86, [&](auto &c) {
		c.aperture_start = 0x1000;
		c.aperture_last = 0xfffff;
		c.nr_resv = static_cast<unsigned>(resv.size());
		std::ranges::copy(resv, c.resv);
	});
	Container container = Container::open();
	const Group group = open_group(x86);

	want_errno("set_container", group.set_container(container), 0);
	const Result result = set_iommu(container, VFIO_TYPE1v2_IOMMU);

	see_errno("set_iommu", result);
	if (result.ok())
		see("ranges", ranges(container.info()));
}

static constexpr std::uint32_t reserved = VFIO_MT_MOCK_RESV_RESERVED;
static constexpr std::uint32_t direct = VFIO_MT_MOCK_RESV_DIRECT;

INSTANTIATE_TEST_SUITE_P(Table, MockRegions,
	testing::Values(RegionsRow{"none", {}},
		RegionsRow{"start", {{0x1000, 0x1fff, reserved, 0}}},
		RegionsRow{"end", {{0xff000, 0xfffff, reserved, 0}}},
		RegionsRow{"over_start", {{0, 0x2fff, reserved, 0}}},
		RegionsRow{"over_end", {{0xf0000, 0x1fffff, reserved, 0}}},
		RegionsRow{"outside", {{0x200000, 0x2fffff, reserved, 0}, {0, 0xfff, reserved, 0}}},
		RegionsRow{"everything", {{0, 0x1fffff, reserved, 0}}},
		RegionsRow{"exactly_everything", {{0x1000, 0xfffff, reserved, 0}}},
		RegionsRow{"overlapping",
			{{0x5000, 0x8fff, reserved, 0}, {0x7000, 0xafff, direct, 0}}},
		RegionsRow{"nested", {{0x5000, 0xefff, reserved, 0}, {0x7000, 0x7fff, direct, 0}}},
		RegionsRow{
			"adjacent", {{0x5000, 0x5fff, reserved, 0}, {0x6000, 0x6fff, direct, 0}}},
		RegionsRow{
			"unordered", {{0x9000, 0x9fff, reserved, 0}, {0x3000, 0x3fff, reserved, 0},
					     {0x6000, 0x6fff, direct, 0}}},
		RegionsRow{"leaves_one_page",
			{{0, 0x7fff, reserved, 0}, {0x9000, 0xfffff, direct, 0}}},
		RegionsRow{"inside_a_page", {{0x5800, 0x5bff, reserved, 0}}},
		RegionsRow{"to_the_very_end", {{0x80000, ~0ULL, reserved, 0}}}),
	row_name<RegionsRow>);

/* Groups in every order of coming and going */
TEST_F(MockRanges, KB23_ComingAndGoing)
{
	NEED_MOCK_IOMMU();
	covers({"KB23"});
	const std::array kinds = {x86, arm, amd, emulated0};
	std::array<std::size_t, 4> order = {0, 1, 2, 3};
	int n = 0;

	do {
		const std::string key = std::to_string(n++) + ".";
		MockRig rig = open_mock_groups({kinds[order[0]]});

		for (std::size_t i = 1; i < 4; i++)
			see_errno(key + "attach." + std::to_string(i),
				add_group(rig, kinds[order[i]]));
		see(key + "all", ranges(rig.container.info()));
		/* Leaving in the order of coming */
		for (std::size_t i = 0; i < 3; i++) {
			want_errno(key + "detach." + std::to_string(i),
				rig.groups[i].unset_container(), 0);
			see(key + "left." + std::to_string(i), ranges(rig.container.info()));
		}
		see(key + "pgsizes", hex(rig.container.info().page_sizes));
	} while (std::ranges::next_permutation(order).found);
}

/* What only one group kept from the ends of the range is free when it leaves. */
TEST_F(MockRanges, EndsAreGivenBack)
{
	NEED_MOCK_IOMMU();
	mock().configure(x86_twin, [](auto &c) {
		c.resv[c.nr_resv++] = {0, mib - 1, reserved, 0};
		c.resv[c.nr_resv++] = {c.aperture_last - mib + 1, c.aperture_last, reserved, 0};
	});
	MockRig rig = open_mock_groups({x86});
	const Memory ram = patterned(1, 15);
	const std::string before = ranges(rig.container.info());

	want_errno("add", add_group(rig, x86_twin), 0);
	want_errno("map.both", rig.container.map(0, ram.data(), page), EINVAL);
	want_errno("detach", rig.groups[1].unset_container(), 0);
	const std::string after = ranges(rig.container.info());
	const Result mapped = rig.container.map(0, ram.data(), page);

	want_ours("after", after, before);
	want_ours("map", errno_name(mapped.err), "ok");
}

/* KB05: the whole 64-bit space. */
TEST_F(MockRanges, KB05_AlmostTheLastPage)
{
	NEED_MOCK_IOMMU();
	covers({"KB05"});
	MockRig rig = open_mock({wide});
	const Memory ram = patterned(4, 15);
	const std::uint64_t iova = ~0ULL - 5 * page + 1;

	want("ranges", ranges(rig.container.info()), "0x0-0xffffffffffffffff");
	want_errno("map", rig.container.map(iova, ram.data(), ram.size()), 0);
	want_errno("wrap", rig.container.map(iova + 4 * page, ram.data(), 2 * page),
		error_of_wrapping());
	want("dma", reaches(rig.devices[0], iova, ram), true);
	want_unmapped("unmap", rig.container.unmap(iova, ram.size()), 4);
	want("charged", charged(), 0);
}

TEST_F(MockRanges, KB05_LastPage)
{
	NEED_MOCK_IOMMU();
	covers({"KB05"});
	if (kernel_before(7, 2))
		NOT_ON_STOCK("it never unmaps or unpins what ends at 2^64");
	MockRig rig = open_mock({wide});
	const Memory ram = patterned(4, 16);
	Bitmap bits(4);

	for (const std::uint64_t pages : {1, 4}) {
		const std::string key = std::to_string(pages) + ".";
		const std::uint64_t size = pages * page, iova = ~size + 1;

		want_errno(key + "map", rig.container.map(iova, ram.data(), size), 0);
		want_errno(key + "twice", rig.container.map(~0ULL - page + 1, ram.data(), page),
			EEXIST);
		want(key + "charged", charged(), pages);
		want(key + "dma", rig.devices[0].reaches(iova, ram.bytes(0, size)), true);
		/* Another kind of domain, to replay to */
		mock().configure(small, [](auto &c) {
			c.aperture_last = ~0ULL;
			c.nr_resv = 0;
		});
		want_errno(key + "add", add_group(rig, small), 0);
		{
			const MockDevice other = open_device(rig.groups[1], small);

			want(key + "dma.other", other.reaches(iova, ram.bytes(0, size)), true);
		}
		want_errno(key + "start", rig.container.dirty_start(), 0);
		bits.clear();
		want_errno(key + "get",
			rig.container.dirty_get(iova, size, bits.data(), bits.bytes()), 0);
		want(key + "get.bits", bits.show(), pages == 1 ? "0" : "0-3");
		bits.clear();
		want_unmapped(key + "unmap_dirty",
			rig.container.unmap_dirty(iova, size, bits.data(), bits.bytes()), pages);
		want(key + "bits", bits.show(), pages == 1 ? "0" : "0-3");
		want_errno(key + "stop", rig.container.dirty_stop(), 0);
		want(key + "charged.none", charged(), 0);
		want_errno(key + "detach", rig.groups[1].unset_container(), 0);
		rig.groups.pop_back();
		want_errno(key + "map.again", rig.container.map(iova, ram.data(), size), 0);
		want_unmapped(key + "unmap_all", rig.container.unmap_all(), pages);
		want_errno(key + "map.third", rig.container.map(iova, ram.data(), size), 0);
		want_unmapped(key + "unmap", rig.container.unmap(iova, size), pages);
		want(key + "leaves", rig.devices[0].domain().leaves, 0);
	}
	/* And when the container is closed */
	want_errno("map.end", rig.container.map(~0ULL - page + 1, ram.data(), page), 0);
	rig.close();
	want("charged.end", charged(), 0);
	want("pinned.end", pinned(), 0);
}

/* Interrupts */

TEST_F(MockIommu, KB23_NoInterruptRemapping)
{
	NEED_MOCK_IOMMU();
	covers({"KB23"});
	mock().configure(x86, [](auto &c) { c.flags &= ~VFIO_MT_MOCK_CFG_INTR_REMAP; });
	{
		Container container = Container::open();
		const Group group = open_group(x86);

		want_errno("set_container", group.set_container(container), 0);
		want_errno("set_iommu", set_iommu(container, VFIO_TYPE1v2_IOMMU), EPERM);
		want("domains", mock().stats().domains, 0);
	}
	{
		MockRig rig = open_mock_groups({x86_twin});

		want_errno("add", add_group(rig, x86), EPERM);
		want("domains.twin", mock().stats().domains, 1);
		see("ranges", ranges(rig.container.info()));
	}
	const BackendParameter unsafe("allow_unsafe_interrupts", "Y");

	want("parameter", unsafe.set(), true);
	const MockRig rig = open_mock({x86});

	want("allowed", rig.devices[0].domain_id() != 0, true);
}

TEST_F(MockIommu, SoftwareMsiWindow)
{
	NEED_MOCK_IOMMU();
	const auto cookie = [&](unsigned index) {
		const MockRig rig = open_mock({index});

		return (rig.devices[0].domain().flags & VFIO_MT_MOCK_DOM_MSI_COOKIE) != 0;
	};

	want("sw_msi", cookie(arm), true);
	want("msi", cookie(x86), false);
	want("none", cookie(wide), false);
	/* A real window takes precedence, wherever it is. */
	mock().configure(arm, [](auto &c) {
		c.nr_resv = 2;
		c.resv[1] = {.start = 0x9000000,
			.last = 0x9000fff,
			.type = VFIO_MT_MOCK_RESV_MSI,
			.pad = 0};
	});
	want("msi_after", cookie(arm), false);
	mock().configure(arm, [](auto &c) {
		c.resv[1].start = 0x2000000;
		c.resv[1].last = 0x2000fff;
	});
	want("msi_before", cookie(arm), false);
}

TEST_F(MockIommu, SoftwareMsiOfTheSecondGroup)
{
	NEED_MOCK_IOMMU();
	MockRig rig = open_mock({amd});

	want("first", (rig.devices[0].domain().flags & VFIO_MT_MOCK_DOM_MSI_COOKIE) != 0, false);
	want_errno("add", add_group(rig, arm), 0);
	rig.devices.push_back(open_device(rig.groups[1], arm));
	want("second", (rig.devices[1].domain().flags & VFIO_MT_MOCK_DOM_MSI_COOKIE) != 0, true);
	want("first.still", (rig.devices[0].domain().flags & VFIO_MT_MOCK_DOM_MSI_COOKIE) != 0,
		false);
}

TEST_F(MockIommu, Nesting)
{
	NEED_MOCK_IOMMU();
	const auto attach = [&](unsigned index) {
		Container container = Container::open();
		const Group group = open_group(index);

		group.set_container(container);
		const Result result = set_iommu(container, VFIO_TYPE1_NESTING_IOMMU);

		if (result.ok()) {
			const MockDevice device = open_device(group, index);

			want("nesting." + std::to_string(index),
				(device.domain().flags & VFIO_MT_MOCK_DOM_NESTING) != 0, true);
		}
		return result;
	};

	if (!kernel_before(6, 13)) {
		want_errno("not_offered", attach(arm), ENODEV);
		return;
	}
	want_errno("can", attach(arm), 0);
	want_errno("cannot", attach(x86), EINVAL);
	mock().fail(VFIO_MT_MOCK_INJECT_NESTING, EOPNOTSUPP);
	want_errno("refused", attach(arm), EOPNOTSUPP);
	want("domains", mock().stats().domains, 0);
	mock().stop_failing(VFIO_MT_MOCK_INJECT_NESTING);
	const MockRig rig = open_mock({arm});

	want("plain", (rig.devices[0].domain().flags & VFIO_MT_MOCK_DOM_NESTING) != 0, false);
}

/* What fails at attach */

TEST_F(MockFailures, Attach)
{
	NEED_MOCK_IOMMU();
	const auto first_group = [&](const std::string &key) {
		Container container = Container::open();
		const Group group = open_group(x86);

		want_errno(key + ".set_container", group.set_container(container), 0);
		const Result result = set_iommu(container, VFIO_TYPE1v2_IOMMU);

		want(key + ".domains", mock().stats().domains, result.ok() ? 1 : 0);
		return result;
	};

	mock().fail(VFIO_MT_MOCK_INJECT_ALLOC, ENOMEM);
	want_errno("alloc", first_group("alloc"), kernel_before(6, 11) ? EIO : ENOMEM);
	for (const int error : {EBUSY, EINVAL, ENODEV}) {
		const std::string key = errno_name(error);

		mock().fail(VFIO_MT_MOCK_INJECT_ATTACH, error);
		want_errno(key, first_group(key), error);
	}
	want_errno("none", first_group("none"), 0);
}

TEST_F(MockFailures, AttachOfTheSecond)
{
	NEED_MOCK_IOMMU();
	const Memory ram = patterned(8, 17);

	for (const unsigned second : {x86_twin, small}) {
		const std::string kind = second == small ? "other." : "twin.";

		/* Counted from 1: which of the attaches fails; 0: the allocation */
		for (unsigned nth = 0; nth <= 3; nth++) {
			const std::string key = kind + std::to_string(nth) + ".";
			MockRig rig = open_mock({x86});

			want_errno(
				key + "map", rig.container.map(iova0, ram.data(), ram.size()), 0);
			if (nth)
				mock().fail(VFIO_MT_MOCK_INJECT_ATTACH, EBUSY, nth - 1);
			else
				mock().fail(VFIO_MT_MOCK_INJECT_ALLOC, ENOMEM);
			const Result result = add_group(rig, second);

			mock().stop_failing(
				nth ? VFIO_MT_MOCK_INJECT_ATTACH : VFIO_MT_MOCK_INJECT_ALLOC);
			see_errno(key + "add", result);
			see(key + "domains", mock().stats().domains);
			want(key + "charged", charged(), 8);
			want(key + "dma", reaches(rig.devices[0], iova0, ram), true);
			if (result.ok()) {
				const MockDevice device = open_device(rig.groups[1], second);

				want(key + "dma.second", reaches(device, iova0, ram), true);
			} else {
				want_errno(key + "again", add_group(rig, second), 0);
			}
		}
	}
}

/* KB13: a replay that fails at any leaf leaves nothing behind. */
TEST_F(MockFailures, KB13_ReplayToASecondDomain)
{
	NEED_MOCK_IOMMU();
	covers({"KB13"});
	may_unmap_nothing();
	MockRig rig = open_mock({x86});
	const Memory ram = patterned(16, 18);
	int failures = 0;

	want_three_maps(rig, ram);
	for (unsigned n = 0;; n++) {
		mock().fail_map(ENOMEM, iova0, iova0 + 4 * mib, n);
		const Result result = add_group(rig, small);

		if (result.ok())
			break;
		failures++;
		if (result.err != ENOMEM || mock().stats().domains != 1 || charged() != 16 ||
			rig.devices[0].domain().bytes != 16 * page ||
			rig.devices[0].domain().unpinned)
			ADD_FAILURE() << n << ": " << errno_name(result.err);
		ASSERT_LT(n, 100U);
	}
	mock().stop_failing(VFIO_MT_MOCK_INJECT_MAP);
	want("failures", failures, 16);
	rig.devices.push_back(open_device(rig.groups[1], small));
	want("dma.0", rig.devices[0].reaches(iova0 + mib, ram.bytes(3 * page, 9 * page)), true);
	want("dma.1", rig.devices[1].reaches(iova0 + mib, ram.bytes(3 * page, 9 * page)), true);
	want("charged", charged(), 16);
	want_unmapped("unmap_all", rig.container.unmap_all(), 16);
	want("charged.none", charged(), 0);
	want("pinned.none", pinned(), 0);
}

TEST_F(MockFailures, KB13_ReplayToTheFirstDomain)
{
	NEED_MOCK_IOMMU();
	covers({"KB13"});
	may_unmap_nothing();
	MockRig rig = open_mock({emulated0});
	const Memory ram = patterned(16, 19);
	int failures = 0;

	want_three_maps(rig, ram);
	want_answer("pin", rig.devices[0].pin(iova0 + mib + page, 2), "2");
	const std::int64_t pins = pinned();
	for (unsigned n = 0;; n++) {
		mock().fail_map(ENOMEM, iova0, iova0 + 4 * mib, n);
		const Result result = add_group(rig, small);

		if (result.ok())
			break;
		failures++;
		if (result.err != ENOMEM || mock().stats().domains || charged() != 2 ||
			pinned() != pins ||
			!rig.devices[0].same_page(iova0 + mib + page, ram.at(4 * page)))
			ADD_FAILURE()
				<< n << ": " << errno_name(result.err) << ", charged " << charged();
		ASSERT_LT(n, 100U);
	}
	mock().stop_failing(VFIO_MT_MOCK_INJECT_MAP);
	want("failures", failures, 16);
	want("charged", charged(), 16);
	{
		const MockDevice device = open_device(rig.groups[1], small);

		want("dma", device.reaches(iova0 + mib, ram.bytes(3 * page, 9 * page)), true);
	}
	want_errno("detach", rig.groups[1].unset_container(), 0);
	want("charged.detached", charged(), 2);
	want("pinned.detached", pinned() == pins, true);
}

TEST_F(MockFailures, KB21_ReplayOverTheLimit)
{
	NEED_MOCK_IOMMU();
	covers({"KB21", "KB13"});
	MockRig rig = open_mock({emulated0});

	take("", run_child([&](Notes &seen) {
		const Memory ram = patterned(16, 20);
		const auto before = vm_locked_pages();

		limit_locked_memory(15);
		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), 16 * page).err));
		seen.put("attach", errno_name(add_group(rig, x86).err));
		seen.put("charged", vm_locked_pages() - before);
		seen.put("pin", answer(rig.devices[0].pin(iova0, 4).result));
		seen.put("attach.pinned", errno_name(add_group(rig, x86).err));
		seen.put("charged.pinned", vm_locked_pages() - before);
		seen.put("unmap", errno_name(rig.container.unmap_all().err));
		seen.put("map.fits",
			errno_name(rig.container.map(iova0, ram.data(), 15 * page).err));
		seen.put("pin.fits", answer(rig.devices[0].pin(iova0, 4).result));
		seen.put("attach.fits", errno_name(add_group(rig, x86).err));
		seen.put("charged.fits", vm_locked_pages() - before);
		seen.put("pin.more", answer(rig.devices[0].pin(iova0 + 4 * page, 4).result));
		seen.put("charged.more", vm_locked_pages() - before);
		seen.put("unmap.fits", errno_name(rig.container.unmap_all().err));
		seen.put("charged.none", vm_locked_pages() - before);
	}));
	expect_noted("attach", std::string("ENOMEM"));
	expect_noted("charged", std::int64_t{0});
	expect_noted("attach.pinned", std::string("ENOMEM"));
	expect_noted("charged.pinned", std::int64_t{4});
	expect_noted("attach.fits", std::string("ok"));
	expect_noted("charged.fits", std::int64_t{15});
	expect_noted("charged.more", std::int64_t{15});
	expect_noted("charged.none", std::int64_t{0});
}

struct FailRow {
	const char *name;
	Backing backing;
	std::size_t size;
	std::vector<unsigned> devices;
	/* Leaves before the one that fails; one leaf is 4K with small, a huge page with x86. */
	std::vector<unsigned> after;
};

class MockMapFails : public MockCase, public testing::WithParamInterface<FailRow>
{
};

TEST_P(MockMapFails, KB13_NothingIsLeft)
{
	NEED_MOCK_IOMMU();
	const FailRow &row = GetParam();
	NEED_MEMORY(row.backing, row.size);
	covers({"KB13", "KB09"});
	may_unmap_nothing();
	const MockRig rig = open_mock(row.devices);
	const Memory ram = allocate(row.backing, row.size);

	populate(ram);
	stamp(ram, 21);
	for (const unsigned after : row.after) {
		mock().fail_map(ENOMEM, 0, ~0ULL, after);
		const Result result = rig.container.map(huge_1g, ram.data(), ram.size());

		mock().stop_failing(VFIO_MT_MOCK_INJECT_MAP);
		if (result.err != ENOMEM || charged() || pinned() || mock().stats().leaves ||
			mock().stats().unsynced)
			ADD_FAILURE() << "after " << after << ": " << errno_name(result.err)
				      << ", charged " << charged() << ", pinned " << pinned()
				      << ", leaves " << mock().stats().leaves;
	}
	/* An address that fails, not a number: the last page, the one in the middle */
	for (const std::uint64_t at : {row.size - page, row.size / 2 & ~(page - 1), 0UL}) {
		mock().fail_map(ENOSPC, huge_1g + at, huge_1g + at);
		see_errno("at." + hex(at), rig.container.map(huge_1g, ram.data(), ram.size()));
		mock().stop_failing(VFIO_MT_MOCK_INJECT_MAP);
		want("at." + hex(at) + ".charged", charged(), 0);
		want("at." + hex(at) + ".leaves", mock().stats().leaves, 0);
	}
	want("pinned.failed", pinned(), 0);
	see("avail", rig.container.info().dma_avail);
	want_errno("map", rig.container.map(huge_1g, ram.data(), ram.size()), 0);
	want("charged", charged(), row.size / page);
	for (const auto &device : rig.devices)
		if (device.domain().bytes != row.size)
			ADD_FAILURE() << "not all is mapped";
	want_unmapped("unmap", rig.container.unmap(huge_1g, ram.size()), row.size / page);
	want("contents", stamped(ram, 21), true);
}

static std::vector<unsigned> up_to(unsigned n)
{
	std::vector<unsigned> list;

	for (unsigned i = 0; i < n; i++)
		list.push_back(i);
	return list;
}

/* Around the borders of huge pages, where a driver may cut its work */
static const std::vector<unsigned> borders = {
	0, 1, 510, 511, 512, 513, 1023, 1024, 1535, 1536, 2047, 2048, 2500, 4095};

INSTANTIATE_TEST_SUITE_P(Table, MockMapFails,
	testing::Values(FailRow{"small", Backing::small, 16 * page, {small}, up_to(16)},
		FailRow{"small_two", Backing::small, 8 * page, {small, x86}, up_to(16)},
		FailRow{"small_16m", Backing::small, 16 * mib, {small}, borders},
		FailRow{"memfd_16m", Backing::memfd, 16 * mib, {small}, borders},
		FailRow{"thp_16m", Backing::thp, 16 * mib, {small}, borders},
		FailRow{"hugetlb_2m", Backing::hugetlb_2m, 4 * huge_2m, {x86}, up_to(4)},
		FailRow{"hugetlb_2m_small", Backing::hugetlb_2m, 8 * huge_2m, {small}, borders},
		FailRow{"hugetlb_2m_two", Backing::hugetlb_2m, 4 * huge_2m, {x86, x86_twin, wide},
			up_to(8)},
		FailRow{"hugetlb_1g", Backing::hugetlb_1g, huge_1g, {x86}, {0}}),
	row_name<FailRow>);

/* A failure in one domain takes the other along. */
TEST_F(MockFailures, MapInOneOfTwoDomains)
{
	NEED_MOCK_IOMMU();
	may_unmap_nothing();
	const MockRig rig = open_mock({x86, small});
	const Memory ram = patterned(8, 22);
	int failures = 0;

	for (unsigned n = 0; n < 100; n++) {
		mock().fail_map(ENOMEM, 0, ~0ULL, n);
		const Result result = rig.container.map(iova0, ram.data(), ram.size());

		mock().stop_failing(VFIO_MT_MOCK_INJECT_MAP);
		if (result.ok())
			break;
		failures++;
		if (mock().stats().leaves || charged())
			ADD_FAILURE() << n << ": leaves " << mock().stats().leaves;
	}
	want("failures", failures, 16);
	want("dma.0", reaches(rig.devices[0], iova0, ram), true);
	want("dma.1", reaches(rig.devices[1], iova0, ram), true);
}

TEST_F(MockFailures, KB01_FailedMapGivesItsEntryBack)
{
	NEED_MOCK_IOMMU();
	covers({"KB01"});
	may_unmap_nothing();
	const BackendParameter limit("dma_entry_limit", "2");
	if (!limit.set())
		GTEST_SKIP() << "the parameter dma_entry_limit cannot be set";
	const MockRig rig = open_mock({x86});
	const Memory ram = patterned(4, 23);

	want_errno("map.1", rig.container.map(iova0, ram.data(), page), 0);
	mock().fail_map(ENOMEM, 0, ~0ULL);
	want_errno("map.fails", rig.container.map(iova0 + page, ram.data(), page), ENOMEM);
	mock().stop_failing(VFIO_MT_MOCK_INJECT_MAP);
	want("avail", rig.container.info().dma_avail, 1);
	want_errno("map.2", rig.container.map(iova0 + page, ram.data(), page), 0);
	want_errno("map.full", rig.container.map(iova0 + 2 * page, ram.data(), page), ENOSPC);
	want("avail.none", rig.container.info().dma_avail, 0);
}

/*
 * KB20: a process is killed during a map that would take minutes. What is counted is not
 * time but leaves, each of which takes little from the kill on: all that is still mapped is
 * what a thread had pinned before it looked, or was told.
 */
TEST_F(MockFailures, KB20_KilledWhileMapping)
{
	NEED_MOCK_IOMMU();
	covers({"KB20"});
	may_unmap_nothing();
	constexpr std::uint64_t pages = 16384;
	const BackendParameter threads("max_threads", "2");
	MockRig rig = open_mock({small});
	const auto mapped = [&] { return mock().stats().leaves_mapped[12]; };

	mock().slow_map(10000);
	Child child([&](Notes &, const ChildSync &sync) {
		const Memory ram = scattered(pages);

		sync.ready();
		rig.container.map(iova0, ram.data(), ram.size());
		sync.ready_and_wait();
	});

	want("ready", child.wait_ready(), true);
	while (mapped() < 20 && !child.ended())
		std::this_thread::sleep_for(std::chrono::milliseconds(5));
	child.kill();
	mock().slow_map(200);
	child.finish();
	mock().stop_failing(VFIO_MT_MOCK_INJECT_MAP);
	std::printf("    %llu leaves of %llu\n", static_cast<unsigned long long>(mapped()),
		static_cast<unsigned long long>(pages));
	want("ending", child.ending(), "signal SIGKILL");
	want("begun", mapped() >= 20, true);
	want("cut_short", mapped() < pages / 2, true);
	want("leaves.before", mock().stats().leaves, 0);
	want_unmapped("unmap_all", rig.container.unmap_all(), 0);
	want("leaves", mock().stats().leaves, 0);
	want("pinned", pinned(), 0);
	rig.close();
}

/*
 * KB10: others wait for a map that takes long: none of them so that the kernel takes it for
 * hung. With the stock driver, which has them wait for a mutex, it does.
 */
TEST_F(MockFailures, KB10_WaitersAreNotHung)
{
	NEED_MOCK_IOMMU();
	covers({"KB10"});
	NOT_ON_STOCK("those who wait are reported as hung");
	const std::string timeout = "/proc/sys/kernel/hung_task_timeout_secs";
	const std::string interval = "/proc/sys/kernel/hung_task_check_interval_secs";
	const std::string panic = "/proc/sys/kernel/hung_task_panic";
	const auto timeout_before = read_file(timeout), interval_before = read_file(interval),
		   panic_before = read_file(panic);

	ASSERT_TRUE(timeout_before && interval_before && panic_before);
	MockRig rig = open_mock({small});
	const Memory ram = patterned(100, 25);
	const KernelLog log;
	std::vector<std::jthread> waiters;
	Result mapped, again, unmapped, attached;

	/* 100 leaves, five seconds. */
	mock().slow_map(50000);
	want("detector",
		write_file(panic, "0\n") && write_file(interval, "1\n") &&
			write_file(timeout, "1\n"),
		true);
	waiters.emplace_back([&] { mapped = rig.container.map(iova0, ram.data(), ram.size()); });
	std::this_thread::sleep_for(std::chrono::milliseconds(300));
	waiters.emplace_back([&] { again = rig.container.map(iova0, ram.data(), page); });
	waiters.emplace_back([&] { unmapped = rig.container.unmap(iova0 + page, page); });
	waiters.emplace_back([&] { attached = add_group(rig, x86); });
	want("hung", log.waits_for("blocked for more than", std::chrono::milliseconds(5000)),
		false);
	waiters.clear();
	write_file(timeout, *timeout_before);
	write_file(interval, *interval_before);
	write_file(panic, *panic_before);
	mock().stop_failing(VFIO_MT_MOCK_INJECT_MAP);
	want_errno("map", mapped, 0);
	want_errno("again", again, EEXIST);
	want_errno("unmap", unmapped, EINVAL);
	want_errno("attach", attached, 0);
	want_unmapped("unmap_all", rig.container.unmap_all(), 100);
}

/* What the IOMMU gets: never more or smaller entries than one iommu_map() per run makes. */

enum class Place { equal, page_off, huge_off };

struct LeafRow {
	const char *name;
	Backing backing;
	std::size_t size;
	unsigned device;
	Place place;
	bool fixed; /* the sizes are the same in every run, so they are recorded */
};

class MockLeafSizes : public MockCase, public testing::WithParamInterface<LeafRow>
{
protected:
	static void TearDownTestSuite()
	{
		gigantic_ = Memory();
		MockCase::TearDownTestSuite();
	}
	/* Clearing a page of 1 GiB takes long: all rows use the same one. */
	static const Memory &gigantic()
	{
		if (!gigantic_.size()) {
			gigantic_ = allocate(Backing::hugetlb_1g, huge_1g);
			populate(gigantic_);
		}
		return gigantic_;
	}
	static bool has_gigantic() { return gigantic_.size() > 0; }

private:
	static inline Memory gigantic_;
};

static std::uint64_t iova_for(const LeafRow &row, const Memory &ram)
{
	const std::uint64_t base = huge_1g + ram.address() % huge_1g;

	switch (row.place) {
	case Place::equal:
		break;
	case Place::page_off:
		return base + page;
	case Place::huge_off:
		return base + huge_2m;
	}
	return base;
}

TEST_P(MockLeafSizes, NotMoreNotSmaller)
{
	NEED_MOCK_IOMMU();
	const LeafRow &row = GetParam();
	const bool large = row.backing == Backing::hugetlb_1g;
	if (!large || !has_gigantic())
		NEED_MEMORY(row.backing, row.size);
	const MockRig rig = open_mock({row.device});
	const MockDevice &device = rig.devices[0];
	const Memory own = large ? Memory() : allocate(row.backing, row.size);
	const Memory &ram = large ? gigantic() : own;
	const std::uint64_t iova = iova_for(row, ram);

	populate(ram);
	stamp(ram, 25);
	want_errno("map", rig.container.map(iova, ram.data(), ram.size()), 0);
	const auto leaves = device.leaves();
	const auto ideal =
		ideal_leaves(leaves, device.domain().pgsizes, {{.iova = iova, .size = ram.size()}});

	want("bytes", device.domain().bytes, row.size);
	want("all_pinned", std::ranges::all_of(leaves, &vfio_mt_mock_leaf::pinned), true);
	want("ideal", leaves.size() == ideal.size() && sizes(leaves) == sizes(ideal), true);
	if (HasFailure())
		std::printf("leaves: %zu, ideal: %zu\n%.300s\n%.300s\n", leaves.size(),
			ideal.size(), sizes(leaves).c_str(), sizes(ideal).c_str());
	if (row.fixed)
		see("sizes", sizes(leaves));
	want("dma.first", device.reaches(iova, ram.bytes(0, page)), true);
	want("dma.last", device.reaches(iova + row.size - page, ram.bytes(row.size - page, page)),
		true);
	want_unmapped("unmap", rig.container.unmap(iova, ram.size()), row.size / page);
	want("leaves.none", device.domain().leaves, 0);
	want("contents", stamped(ram, 25), true);
}

INSTANTIATE_TEST_SUITE_P(Table, MockLeafSizes,
	testing::Values(LeafRow{"4k_small", Backing::small, 8 * mib, small, Place::equal, true},
		LeafRow{"4k_x86", Backing::small, 8 * mib, x86, Place::equal, false},
		LeafRow{"4k_amd", Backing::small, 8 * mib, amd, Place::equal, false},
		LeafRow{"memfd_x86", Backing::memfd, 8 * mib, x86, Place::equal, false},
		LeafRow{"memfd_amd", Backing::memfd, 8 * mib, amd, Place::equal, false},
		LeafRow{"thp_small", Backing::thp, 16 * mib, small, Place::equal, true},
		LeafRow{"thp_x86", Backing::thp, 16 * mib, x86, Place::equal, false},
		LeafRow{"thp_x86_off", Backing::thp, 16 * mib, x86, Place::page_off, true},
		LeafRow{"thp_amd", Backing::thp, 16 * mib, amd, Place::equal, false},
		LeafRow{"thp_amd_off", Backing::thp, 16 * mib, amd, Place::page_off, false},
		LeafRow{"thp_arm", Backing::thp, 16 * mib, arm, Place::equal, false},
		LeafRow{"2m_arm_huge_off", Backing::hugetlb_2m, 16 * mib, arm, Place::huge_off,
			true},
		LeafRow{"1g_arm", Backing::hugetlb_1g, huge_1g, arm, Place::equal, true},
		LeafRow{"2m_small", Backing::hugetlb_2m, 16 * mib, small, Place::equal, true},
		LeafRow{"2m_x86", Backing::hugetlb_2m, 16 * mib, x86, Place::equal, true},
		LeafRow{"2m_x86_off", Backing::hugetlb_2m, 16 * mib, x86, Place::page_off, true},
		LeafRow{"2m_x86_huge_off", Backing::hugetlb_2m, 16 * mib, x86, Place::huge_off,
			true},
		LeafRow{"2m_amd", Backing::hugetlb_2m, 16 * mib, amd, Place::equal, false},
		LeafRow{"2m_amd_off", Backing::hugetlb_2m, 16 * mib, amd, Place::page_off, false},
		LeafRow{"1g_x86", Backing::hugetlb_1g, huge_1g, x86, Place::equal, true},
		LeafRow{"1g_x86_huge_off", Backing::hugetlb_1g, huge_1g, x86, Place::huge_off,
			true},
		LeafRow{"1g_amd", Backing::hugetlb_1g, huge_1g, amd, Place::equal, true},
		LeafRow{"1g_amd_huge_off", Backing::hugetlb_1g, huge_1g, amd, Place::huge_off,
			true},
		LeafRow{"shared_amd", Backing::shared_anon, 8 * mib, amd, Place::equal, false},
		LeafRow{"file_amd", Backing::file, 8 * mib, amd, Place::equal, false}),
	row_name<LeafRow>);

/* A part of a huge page, from and to anywhere */
TEST_F(MockLeaves, PartsOfHugePages)
{
	NEED_MOCK_IOMMU();
	NEED_MEMORY(Backing::hugetlb_2m, 4 * huge_2m);
	const Memory ram = allocate(Backing::hugetlb_2m, 4 * huge_2m);

	populate(ram);
	for (const auto &[from, to] : {std::pair{1UL, 2047UL}, {511UL, 513UL}, {512UL, 1024UL},
		     {3UL, 1027UL}, {1500UL, 2048UL}, {0UL, 1UL}}) {
		for (const unsigned index : {x86, amd}) {
			const std::string key = (index == x86 ? "x86." : "amd.") +
						std::to_string(from) + "-" + std::to_string(to);
			const MockRig rig = open_mock({index});
			const std::uint64_t iova = huge_1g + from * page;

			want_errno(key,
				rig.container.map(iova, ram.at(from * page), (to - from) * page),
				0);
			const auto leaves = rig.devices[0].leaves();
			const auto ideal = ideal_leaves(leaves, rig.devices[0].domain().pgsizes,
				{{.iova = iova, .size = (to - from) * page}});

			want(key + ".ideal", sizes(leaves) == sizes(ideal), true);
			if (index == x86)
				see(key + ".layout", layout(leaves));
			want(key + ".charged", charged(), to - from);
			want_unmapped(key + ".unmap", rig.container.unmap(iova, (to - from) * page),
				to - from);
		}
	}
}

TEST_F(MockLeaves, WithoutHugePages)
{
	NEED_MOCK_IOMMU();
	NEED_MEMORY(Backing::hugetlb_2m, 2 * huge_2m);
	const BackendParameter no_huge("disable_hugepages", "Y");
	const MockRig rig = open_mock({x86});
	const Memory ram = allocate(Backing::hugetlb_2m, 2 * huge_2m);

	want("parameter", no_huge.set(), true);
	want_errno("map", rig.container.map(huge_1g, ram.data(), ram.size()), 0);
	want("sizes", sizes(rig.devices[0].leaves()), "4K*1024");
	want("charged", charged(), 1024);
	want_unmapped("unmap", rig.container.unmap(huge_1g, ram.size()), 1024);
}

/* Entries of a second domain, made from those of the first */
TEST_F(MockLeaves, OfAReplay)
{
	NEED_MOCK_IOMMU();
	NEED_MEMORY(Backing::hugetlb_2m, 4 * huge_2m);
	const Memory ram = allocate(Backing::hugetlb_2m, 4 * huge_2m);

	populate(ram);
	for (const auto &[first, second] :
		{std::pair{x86, small}, {small, x86}, {wide, x86}, {emulated0, x86}}) {
		const std::string key = std::to_string(first) + "." + std::to_string(second) + ".";
		MockRig rig = open_mock_groups({first});

		want_errno(key + "map", rig.container.map(huge_1g, ram.data(), 3 * huge_2m), 0);
		want_errno(key + "map.part",
			rig.container.map(2 * huge_1g + page, ram.at(page), huge_2m), 0);
		want_errno(key + "add", add_group(rig, second), 0);
		const MockDevice device = open_device(rig.groups[1], second);

		see(key + "layout", layout(device.leaves()));
		want(key + "dma", device.reaches(huge_1g, ram.bytes(0, huge_2m)), true);
		want(key + "charged", charged(), 4 * 512);
	}
}

/* Two mappings that are contiguous in IOVA and in memory stay two. */
TEST_F(MockLeaves, MappingsAreNotMerged)
{
	NEED_MOCK_IOMMU();
	NEED_MEMORY(Backing::hugetlb_2m, huge_2m);
	MockRig rig = open_mock({x86});
	const Memory ram = allocate(Backing::hugetlb_2m, huge_2m);

	populate(ram);
	for (std::size_t i = 0; i < 4; i++)
		want_errno("map." + std::to_string(i),
			rig.container.map(
				huge_1g + i * huge_2m / 4, ram.at(i * huge_2m / 4), huge_2m / 4),
			0);
	want("sizes", sizes(rig.devices[0].leaves()), "4K*512");
	want_errno("add", add_group(rig, wide), 0);
	{
		const MockDevice device = open_device(rig.groups[1], wide);

		want("sizes.replay", sizes(device.leaves()), "4K*512");
	}
	want_unmapped("unmap", rig.container.unmap(huge_1g, huge_2m), 512);
}

/* Dirty pages */

TEST_F(MockIommu, DirtyScope)
{
	NEED_MOCK_IOMMU();
	for (const unsigned index : {x86, x86_twin, small})
		mock().configure(index, [](auto &c) { c.flags |= VFIO_MT_MOCK_CFG_DMA_UNMAP; });
	MockRig rig = open_mock({x86, small});
	const Memory ram = patterned(8, 26);
	const auto get = [&](const std::string &key, const std::string &expected) {
		want_dirty(key, rig.container, 8, expected);
	};

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	get("all", "0-7");
	/* A device that pins tells what it writes to; the other one does not. */
	want_answer("pin.0", rig.devices[0].pin(iova0 + page), "1");
	get("one_pins", "0-7");
	want_answer("pin.1", rig.devices[1].pin(iova0 + 2 * page), "1");
	get("both_pin", "1-2");
	want("charged", charged(), 8);
	/* Not a word of a third one. */
	want_errno("add", add_group(rig, x86_twin), 0);
	get("third", "0-7");
	want_errno("detach", rig.groups[2].unset_container(), 0);
	rig.groups.pop_back();
	get("third_left", "0-7");
	get("third_left.again", "1-2");
	want_errno("unpin", rig.devices[1].unpin(iova0 + 2 * page), 0);
	get("unpinned", "1-2");
	get("unpinned.again", "1");
}

/* Many at once */

TEST_F(MockIommu, KB19_ManyThreads)
{
	NEED_MOCK_IOMMU();
	covers({"KB19"});
	MockRig rig = open_mock({x86, small});
	std::atomic<int> wrong = 0;
	std::atomic<bool> stop = false;
	std::vector<std::thread> threads;

	for (unsigned t = 0; t < 3; t++)
		threads.emplace_back([&, t] {
			const Memory ram = patterned(64, 100 + t);
			const std::uint64_t iova = iova0 + t * 16 * mib;

			for (int i = 0; i < 25; i++) {
				if (!rig.container.map(iova, ram.data(), ram.size()).ok() ||
					!reaches(rig.devices[0], iova, ram) ||
					!reaches(rig.devices[1], iova, ram) ||
					rig.container.unmap(iova, ram.size()).value !=
						static_cast<long>(ram.size()))
					wrong++;
			}
		});
	/* A third domain comes and goes, and is replayed to. */
	threads.emplace_back([&] {
		const Group group = open_group(amd);

		while (!stop) {
			if (!group.set_container(rig.container).ok() ||
				!group.unset_container().ok())
				wrong++;
			if (!rig.container.info().result.ok())
				wrong++;
		}
	});
	for (std::size_t t = 0; t < 3; t++)
		threads[t].join();
	stop = true;
	threads[3].join();
	want("wrong", wrong.load(), 0);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
	want("leaves", mock().stats().leaves, 0);
}

/* Many maps of all kinds at random places: everything stays as the book says. */
TEST_F(MockIommu, RandomMaps)
{
	NEED_MOCK_IOMMU();
	MockRig rig = open_mock({amd, small});
	const Memory ram = patterned(1024, 27);
	std::mt19937 random(4711);
	std::vector<MappedRange> book;
	int wrong = 0;

	for (int i = 0; i < 300; i++) {
		const std::size_t slot = random() % 16, from = random() % 1000;
		const std::uint64_t pages = random() % 24 + 1;
		const std::uint64_t iova = iova0 + slot * mib;
		const auto known = std::ranges::find(book, iova, &MappedRange::iova);

		if (known != book.end()) {
			wrong += rig.container.unmap(iova, known->size).value !=
				 static_cast<long>(known->size);
			book.erase(known);
			continue;
		}
		wrong += !rig.container.map(iova, ram.at(from * page), pages * page).ok();
		book.push_back({.iova = iova, .size = pages * page});
		for (const auto &device : rig.devices)
			wrong += !device.reaches(iova, ram.bytes(from * page, pages * page));
	}
	std::int64_t pages = 0;
	for (const auto &range : book)
		pages += static_cast<std::int64_t>(range.size / page);
	want("wrong", wrong, 0);
	want("charged", charged(), pages);
	want("bytes.0", rig.devices[0].domain().bytes, pages * static_cast<std::int64_t>(page));
	want("bytes.1", rig.devices[1].domain().bytes, pages * static_cast<std::int64_t>(page));
	std::ranges::sort(book, {}, &MappedRange::iova);
	for (const auto &device : rig.devices) {
		const auto leaves = device.leaves();

		if (sizes(leaves) != sizes(ideal_leaves(leaves, device.domain().pgsizes, book)))
			ADD_FAILURE() << "smaller leaves than possible";
	}
	want("contents", filled(ram.bytes(0, ram.size()), 27), true);
	want_unmapped("unmap_all", rig.container.unmap_all(), static_cast<std::size_t>(pages));
}

} // namespace selftest
