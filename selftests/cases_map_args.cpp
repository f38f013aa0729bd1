// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: arguments of VFIO_IOMMU_MAP_DMA. After every refusal nothing is
 * charged or pinned, and the same range can be mapped.
 */
#include "case.hpp"
#include "proc.hpp"

#include <cstring>
#include <functional>

namespace selftest
{

/* What a row may use to make its argument: 16 pages of RAM at iova0. */
struct MapContext {
	const Memory &ram;
	Info info;
};

struct MapRow {
	const char *name;
	/* errno; -1 where the ABI leaves it open: recorded only */
	int expected;
	std::function<void(vfio_iommu_type1_dma_map &, const MapContext &)> change;
	const char *covers = "KB24";
};

using MapArguments = RowCase<MapRow>;
using Call = vfio_iommu_type1_dma_map;
using Ctx = MapContext;

TEST_P(MapArguments, Map)
{
	NEED_DEVICES(1);
	covers({GetParam().covers});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(16 * page);
	Call map = {};

	map.argsz = sizeof(map);
	map.flags = map_rw;
	map.vaddr = ram.address();
	map.iova = iova0;
	map.size = ram.size();
	GetParam().change(map, {ram, rig.container.info()});

	const auto avail = rig.container.info().dma_avail;
	const Result result = rig.container.ioctl(VFIO_IOMMU_MAP_DMA, &map);

	if (GetParam().expected < 0)
		see_errno("map", result);
	else
		want_errno("map", result, GetParam().expected);
	see("charged", charged());
	if (result.ok()) {
		want_unmapped("unmap", rig.container.unmap(map.iova, map.size), map.size / page);
		return;
	}
	want("charged.refused", charged(), 0);
	want("pinned.refused", pinned(), 0);
	want("dma_avail.refused", rig.container.info().dma_avail - avail, 0);
	/* Nothing of the refused mapping is in the way. */
	want_errno("map.then", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_unmapped("unmap.then", rig.container.unmap(iova0, ram.size()), 16);
}

static const MapRow map_rows[] = {
	{"plain", 0, [](Call &, const Ctx &) {}},
	{"read_only", 0, [](Call &m, const Ctx &) { m.flags = VFIO_DMA_MAP_FLAG_READ; }},
	{"write_only", 0, [](Call &m, const Ctx &) { m.flags = VFIO_DMA_MAP_FLAG_WRITE; }},
	{"one_page", 0, [](Call &m, const Ctx &) { m.size = page; }},
	{"iova_zero", 0, [](Call &m, const Ctx &) { m.iova = 0; }},

	{"argsz_zero", EINVAL, [](Call &m, const Ctx &) { m.argsz = 0; }},
	{"argsz_31", EINVAL, [](Call &m, const Ctx &) { m.argsz = 31; }},
	{"argsz_33", 0, [](Call &m, const Ctx &) { m.argsz = 33; }},
	{"argsz_huge", 0, [](Call &m, const Ctx &) { m.argsz = 0xffffffff; }},

	{"flags_none", EINVAL, [](Call &m, const Ctx &) { m.flags = 0; }},
	{"flags_bit3", EINVAL, [](Call &m, const Ctx &) { m.flags |= 1U << 3; }},
	{"flags_bit3_alone", EINVAL, [](Call &m, const Ctx &) { m.flags = 1U << 3; }},
	{"flags_bit31", EINVAL, [](Call &m, const Ctx &) { m.flags |= 1U << 31; }},
	{"flags_vaddr_read", EINVAL,
		[](Call &m, const Ctx &) {
			m.flags = VFIO_DMA_MAP_FLAG_VADDR | VFIO_DMA_MAP_FLAG_READ;
		}},
	{"flags_vaddr_write", EINVAL,
		[](Call &m, const Ctx &) {
			m.flags = VFIO_DMA_MAP_FLAG_VADDR | VFIO_DMA_MAP_FLAG_WRITE;
		}},
	{"flags_vaddr_no_mapping", ENOENT,
		[](Call &m, const Ctx &) { m.flags = VFIO_DMA_MAP_FLAG_VADDR; }},

	{"vaddr_plus_1", EINVAL, [](Call &m, const Ctx &) { m.vaddr += 1; }},
	{"vaddr_plus_2048", EINVAL, [](Call &m, const Ctx &) { m.vaddr += 2048; }},
	{"iova_plus_1", EINVAL, [](Call &m, const Ctx &) { m.iova += 1; }},
	{"iova_plus_2048", EINVAL, [](Call &m, const Ctx &) { m.iova += 2048; }},
	{"size_zero", EINVAL, [](Call &m, const Ctx &) { m.size = 0; }},
	{"size_1", EINVAL, [](Call &m, const Ctx &) { m.size = 1; }},
	{"size_4095", EINVAL, [](Call &m, const Ctx &) { m.size = 4095; }},
	{"size_4097", EINVAL, [](Call &m, const Ctx &) { m.size = 4097; }},
	/* Aligned only together: the test must not add them up. */
	{"misaligned_alike", EINVAL,
		[](Call &m, const Ctx &) {
			m.vaddr += 2048;
			m.iova += 2048;
		}},

	{"iova_wraps", error_of_wrapping(),
		[](Call &m, const Ctx &) {
			m.iova = 0xfffffffffffff000;
			m.size = 2 * page;
		},
		"KB05"},
	{"iova_size_wrap_far", error_of_wrapping(),
		[](Call &m, const Ctx &) {
			m.iova = 0x8000000000000000;
			m.size = 0x8000000000001000;
		},
		"KB05"},
	{"size_all_but_a_page", error_of_wrapping(),
		[](Call &m, const Ctx &) { m.size = 0xfffffffffffff000; }, "KB05"},
	{"vaddr_wraps", error_of_wrapping(),
		[](Call &m, const Ctx &) {
			m.vaddr = 0xfffffffffffff000;
			m.size = 2 * page;
		},
		"KB05"},
	/* With another fault */
	{"iova_wraps_misaligned", error_of_wrapping(),
		[](Call &m, const Ctx &) {
			m.iova = 0xfffffffffffff800;
			m.size = 2 * page;
		},
		"KB05"},
	{"iova_wraps_flags_none", error_of_wrapping(),
		[](Call &m, const Ctx &) {
			m.iova = 0xfffffffffffff000;
			m.size = 2 * page;
			m.flags = 0;
		},
		"KB05"},
	{"iova_wraps_flags_bit3", EINVAL,
		[](Call &m, const Ctx &) {
			m.iova = 0xfffffffffffff000;
			m.size = 2 * page;
			m.flags |= 1U << 3;
		},
		"KB05"},
	{"vaddr_last_page", EFAULT,
		[](Call &m, const Ctx &) {
			m.vaddr = 0xfffffffffffff000;
			m.size = page;
		}},
	{"vaddr_kernel", EFAULT, [](Call &m, const Ctx &) { m.vaddr = 0xffff888000000000; }},
	{"vaddr_kernel_text", EFAULT, [](Call &m, const Ctx &) { m.vaddr = 0xffffffff81000000; }},
	{"vaddr_noncanonical", EFAULT, [](Call &m, const Ctx &) { m.vaddr = 0x8000000000000000; }},
	{"vaddr_past_task_size", EFAULT, [](Call &m, const Ctx &) { m.vaddr = 0x800000000000; }},
	{"vaddr_last_of_task", EFAULT,
		[](Call &m, const Ctx &) {
			m.vaddr = 0x7fffffffe000;
			m.size = 2 * page;
		}},
	{"vaddr_null", EFAULT, [](Call &m, const Ctx &) { m.vaddr = 0; }},
	{"vaddr_null_read", EFAULT,
		[](Call &m, const Ctx &) {
			m.vaddr = 0;
			m.flags = VFIO_DMA_MAP_FLAG_READ;
		}},
	/* The vsyscall page: execute only, and no VMA of the process. */
	{"vaddr_vsyscall_read", -1,
		[](Call &m, const Ctx &) {
			m.vaddr = 0xffffffffff600000;
			m.size = page;
			m.flags = VFIO_DMA_MAP_FLAG_READ;
		}},
	{"vaddr_vsyscall_write", EFAULT,
		[](Call &m, const Ctx &) {
			m.vaddr = 0xffffffffff600000;
			m.size = page;
		}},

	{"msi_window", EINVAL,
		[](Call &m, const Ctx &) {
			m.iova = 0xfee00000;
			m.size = page;
		},
		"KB23"},
	{"msi_window_last_page", EINVAL,
		[](Call &m, const Ctx &) {
			m.iova = 0xfeeff000;
			m.size = page;
		},
		"KB23"},
	{"into_msi_window", EINVAL,
		[](Call &m, const Ctx &) {
			m.iova = 0xfedff000;
			m.size = 2 * page;
		},
		"KB23"},
	{"out_of_msi_window", EINVAL,
		[](Call &m, const Ctx &) {
			m.iova = 0xfeeff000;
			m.size = 2 * page;
		},
		"KB23"},
	{"over_msi_window", -1,
		[](Call &m, const Ctx &) {
			m.iova = 0xfedff000;
			m.size = 0x102000;
		},
		"KB23"},
	{"below_msi_window", 0,
		[](Call &m, const Ctx &) {
			m.iova = 0xfedff000;
			m.size = page;
		},
		"KB23"},
	{"above_msi_window", 0,
		[](Call &m, const Ctx &) {
			m.iova = 0xfef00000;
			m.size = page;
		},
		"KB23"},

	/* VT-d's aperture ends here; AMD's is the whole of 64 bits. */
	{"past_39_bits", -1, [](Call &m, const Ctx &) { m.iova = 1ULL << 39; }, "KB23"},
	{"past_48_bits", -1, [](Call &m, const Ctx &) { m.iova = 1ULL << 48; }, "KB23"},
	{"past_57_bits", -1, [](Call &m, const Ctx &) { m.iova = 1ULL << 57; }, "KB23"},
	{"over_39_bits", -1,
		[](Call &m, const Ctx &) {
			m.iova = (1ULL << 39) - page;
			m.size = 2 * page;
		},
		"KB23"},
	{"end_of_39_bits", 0, [](Call &m, const Ctx &) { m.iova = (1ULL << 39) - 16 * page; },
		"KB23"},
	{"size_1_tib", -1, [](Call &m, const Ctx &) { m.size = 1ULL << 40; }},
};

INSTANTIATE_TEST_SUITE_P(Table, MapArguments, testing::ValuesIn(map_rows), row_name<MapRow>);

using MapCase = VfioCase;

TEST_F(MapCase, BadPointers)
{
	NEED_DEVICES(1);
	covers({"KB24"});
	const Rig rig = open_rig();
	Memory two = Memory::map(2 * page);
	const auto call = [&](unsigned long at) {
		return rig.container.ioctl(VFIO_IOMMU_MAP_DMA, at);
	};

	want_errno("null", call(0), EFAULT);
	want_errno("kernel", call(0xffff888000000000UL), EFAULT);
	two.punch(page, page);
	want_errno("unmapped", call(two.address() + page), EFAULT);
	want_errno("straddles", call(two.address() + page - 16), EFAULT);

	/* Nothing is written back: a read-only structure is fine. */
	const Memory ram = Memory::map(page);
	Call map = {};

	map.argsz = sizeof(map);
	map.flags = map_rw;
	map.vaddr = ram.address();
	map.iova = iova0;
	map.size = page;
	std::memcpy(two.data(), &map, sizeof(map));
	::mprotect(two.data(), page, PROT_READ);
	want_errno("read_only", call(two.address()), 0);
	want_unmapped("unmap", rig.container.unmap(iova0, page), 1);
}

/* Mapping [iova0 + at, + size) while [iova0 + 16 pages, iova0 + 32 pages) is mapped. */
struct OverlapRow {
	const char *name;
	std::size_t at_page;
	std::size_t pages;
	int expected;
};

using MapOverlap = RowCase<OverlapRow>;

TEST_P(MapOverlap, Map)
{
	NEED_DEVICES(1);
	const OverlapRow &row = GetParam();
	const Rig rig = open_rig();
	const Memory base = Memory::map(16 * page);
	const Memory more = Memory::map(64 * page);
	const std::uint64_t iova = iova0 + row.at_page * page;

	want_errno("base", rig.container.map(iova0 + 16 * page, base.data(), base.size()), 0);
	want_errno("map", rig.container.map(iova, more.data(), row.pages * page), row.expected);
	want("charged", charged(), row.expected ? 16 : 16 + row.pages);
	/* The one that was there is still there, whole. */
	if (!row.expected)
		want_unmapped("unmap", rig.container.unmap(iova, row.pages * page), row.pages);
	want_unmapped("unmap.base", rig.container.unmap(iova0 + 16 * page, base.size()), 16);
}

INSTANTIATE_TEST_SUITE_P(Table, MapOverlap,
	testing::Values(OverlapRow{"exact", 16, 16, EEXIST}, OverlapRow{"head", 8, 9, EEXIST},
		OverlapRow{"tail", 31, 8, EEXIST}, OverlapRow{"inside", 20, 4, EEXIST},
		OverlapRow{"around", 8, 40, EEXIST}, OverlapRow{"first_page", 16, 1, EEXIST},
		OverlapRow{"last_page", 31, 1, EEXIST},
		OverlapRow{"same_start_longer", 16, 32, EEXIST},
		OverlapRow{"same_end_longer", 0, 32, EEXIST}, OverlapRow{"just_before", 8, 8, 0},
		OverlapRow{"just_after", 32, 8, 0}, OverlapRow{"far", 64, 64, 0}),
	row_name<OverlapRow>);

/* Which check comes first decides the errno where several are violated. */
TEST_F(MapCase, OrderOfChecks)
{
	NEED_DEVICES(1);
	covers({"KB24"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(4 * page);

	want_errno("base", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("exists_before_fault", rig.container.map_addr(iova0, 0, page), EEXIST);
	want_errno("align_before_exists", rig.container.map_addr(iova0, 1, page), EINVAL);
	want_errno("flags_before_exists", rig.container.map_addr(iova0, ram.address(), page, 0),
		EINVAL);
	want_errno("vaddr_not_invalid",
		rig.container.map_addr(iova0, ram.address(), ram.size(), VFIO_DMA_MAP_FLAG_VADDR),
		EINVAL);
	want_errno("vaddr_other_size",
		rig.container.map_addr(iova0, ram.address(), page, VFIO_DMA_MAP_FLAG_VADDR),
		EINVAL);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 4);
}

} // namespace selftest
