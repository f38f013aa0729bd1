// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: VFIO_IOMMU_UNMAP_DMA without bitmaps and without vaddr updates, of
 * v2 and of v1 containers.
 *
 * The layout is always the same, in pages from iova0:
 *
 *	A [0, 4)   B [4, 8)   (gap)   C [16, 20)
 */
#include "case.hpp"
#include "proc.hpp"

#include <cstring>
#include <functional>

namespace selftest
{

struct Slot {
	const char *name;
	std::size_t at, pages;
};
static constexpr Slot slots[] = {{"A", 0, 4}, {"B", 4, 4}, {"C", 16, 4}};
static constexpr std::size_t all_pages = 12;

class UnmapCase : public VfioCase
{
protected:
	void map_slots(const Container &container, const Memory &ram)
	{
		for (const Slot &slot : slots)
			want_errno(std::string("map.") + slot.name,
				container.map(iova0 + slot.at * page, ram.at(slot.at * page),
					slot.pages * page),
				0);
	}

	/* "A C": which slots are there. A mapped one refuses a map at its first page. */
	std::string left(const Container &container, const Memory &ram)
	{
		std::string text;

		for (const Slot &slot : slots) {
			const std::uint64_t iova = iova0 + slot.at * page;

			if (container.map(iova, ram.data(), page).err == EEXIST)
				text += (text.empty() ? "" : " ") + std::string(slot.name);
			else
				container.unmap(iova, page);
		}
		return text;
	}
};

struct UnmapRow {
	const char *name;
	std::function<void(vfio_iommu_type1_dma_unmap &)> change;
	int expected; /* errno */
	std::size_t pages;
	const char *left;
	const char *covers = nullptr;
};

using Call = vfio_iommu_type1_dma_unmap;

static constexpr std::uint64_t pg(std::size_t n)
{
	return iova0 + n * page;
}

static void range(Call &u, std::uint64_t iova, std::uint64_t size)
{
	u.iova = iova;
	u.size = size;
}

class UnmapTable : public UnmapCase, public testing::WithParamInterface<UnmapRow>
{
protected:
	void run_row(unsigned long type)
	{
		const UnmapRow &row = GetParam();
		const Rig rig = open_rig(1, type);
		const Memory ram = Memory::map(20 * page);
		Call unmap = {};

		map_slots(rig.container, ram);
		unmap.argsz = sizeof(unmap);
		range(unmap, iova0, 4 * page);
		row.change(unmap);
		const Call before = unmap;

		want_errno(
			"unmap", rig.container.ioctl(VFIO_IOMMU_UNMAP_DMA, &unmap), row.expected);
		if (row.expected)
			/* A refused call writes nothing back. */
			want("untouched", std::memcmp(&before, &unmap, sizeof(unmap)) == 0, true);
		else
			want("pages", unmap.size / page, row.pages);
		see("size", hex(unmap.size));
		want("charged", charged(), all_pages - (row.expected ? 0 : row.pages));
		want("left", left(rig.container, ram), row.left);
	}
};

TEST_P(UnmapTable, V2)
{
	NEED_DEVICES(1);
	if (GetParam().covers)
		covers({GetParam().covers});
	run_row(VFIO_TYPE1v2_IOMMU);
}

static const UnmapRow v2_rows[] = {
	{"exact", [](Call &u) { range(u, pg(0), 4 * page); }, 0, 4, "B C"},
	{"exact_last", [](Call &u) { range(u, pg(16), 4 * page); }, 0, 4, "A B"},
	{"two", [](Call &u) { range(u, pg(0), 8 * page); }, 0, 8, "C"},
	{"two_and_gap", [](Call &u) { range(u, pg(4), 16 * page); }, 0, 8, "A"},
	{"all_three", [](Call &u) { range(u, pg(0), 20 * page); }, 0, 12, ""},
	{"wider_than_all", [](Call &u) { range(u, 0, 2 * iova0); }, 0, 12, ""},
	{"begins_before", [](Call &u) { range(u, iova0 - page, 5 * page); }, 0, 4, "B C"},
	{"ends_in_gap", [](Call &u) { range(u, pg(4), 6 * page); }, 0, 4, "A C"},

	{"KB14_gap", [](Call &u) { range(u, pg(8), 8 * page); }, 0, 0, "A B C", "KB14"},
	{"KB14_one_page_of_gap", [](Call &u) { range(u, pg(15), page); }, 0, 0, "A B C", "KB14"},
	{"KB14_just_after_last", [](Call &u) { range(u, pg(20), page); }, 0, 0, "A B C", "KB14"},
	{"KB14_just_before_first", [](Call &u) { range(u, iova0 - page, page); }, 0, 0, "A B C",
		"KB14"},
	{"KB14_first_page_only", [](Call &u) { range(u, pg(0), page); }, EINVAL, 0, "A B C",
		"KB14"},
	{"KB14_last_page_only", [](Call &u) { range(u, pg(3), page); }, EINVAL, 0, "A B C", "KB14"},
	{"KB14_middle", [](Call &u) { range(u, pg(1), 2 * page); }, EINVAL, 0, "A B C", "KB14"},
	{"KB14_all_but_last_page", [](Call &u) { range(u, pg(0), 3 * page); }, EINVAL, 0, "A B C",
		"KB14"},
	{"KB14_all_but_first_page", [](Call &u) { range(u, pg(1), 3 * page); }, EINVAL, 0, "A B C",
		"KB14"},
	{"KB14_whole_and_half", [](Call &u) { range(u, pg(0), 6 * page); }, EINVAL, 0, "A B C",
		"KB14"},
	{"KB14_half_and_whole", [](Call &u) { range(u, pg(2), 6 * page); }, EINVAL, 0, "A B C",
		"KB14"},
	{"KB14_gap_and_half", [](Call &u) { range(u, pg(10), 8 * page); }, EINVAL, 0, "A B C",
		"KB14"},

	{"argsz_0", [](Call &u) { u.argsz = 0; }, EINVAL, 0, "A B C", "KB24"},
	{"argsz_23", [](Call &u) { u.argsz = 23; }, EINVAL, 0, "A B C", "KB24"},
	{"argsz_more", [](Call &u) { u.argsz = 4096; }, 0, 4, "B C", "KB24"},
	{"flags_bit3", [](Call &u) { u.flags = 1U << 3; }, EINVAL, 0, "A B C", "KB24"},
	{"flags_bit31", [](Call &u) { u.flags = 1U << 31; }, EINVAL, 0, "A B C", "KB24"},
	{"iova_plus_1", [](Call &u) { u.iova += 1; }, EINVAL, 0, "A B C", "KB24"},
	{"iova_plus_2048", [](Call &u) { u.iova += 2048; }, EINVAL, 0, "A B C", "KB24"},
	{"size_0", [](Call &u) { u.size = 0; }, EINVAL, 0, "A B C", "KB24"},
	{"size_1", [](Call &u) { u.size = 1; }, EINVAL, 0, "A B C", "KB24"},
	{"size_odd", [](Call &u) { u.size += 2048; }, EINVAL, 0, "A B C", "KB24"},
	{"KB05_wraps", [](Call &u) { range(u, 0xfffffffffffff000, 2 * page); }, error_of_wrapping(),
		0, "A B C", "KB05"},
	{"KB05_wraps_far", [](Call &u) { range(u, iova0, 0xfffffffffffff000); },
		error_of_wrapping(), 0, "A B C", "KB05"},
	{"KB05_all_but_last_page", [](Call &u) { range(u, 0, 0xfffffffffffff000); }, 0, 12, "",
		"KB05"},
	{"KB05_half_the_space", [](Call &u) { range(u, 0, 1ULL << 63); }, 0, 12, "", "KB05"},
	{"KB05_last_page_of_space", [](Call &u) { range(u, 0xfffffffffffff000, page); }, 0, 0,
		"A B C", "KB05"},

	{"all", [](Call &u) { u = {.argsz = u.argsz, .flags = 2, .iova = 0, .size = 0}; }, 0, 12,
		""},
	{"all_with_size",
		[](Call &u) {
			u = {u.argsz, 2, 0, page};
		},
		EINVAL, 0, "A B C", "KB24"},
	{"all_with_iova",
		[](Call &u) {
			u = {u.argsz, 2, iova0, 0};
		},
		EINVAL, 0, "A B C", "KB24"},
	{"all_with_range", [](Call &u) { u.flags = 2; }, EINVAL, 0, "A B C", "KB24"},
	{"all_with_bad_iova",
		[](Call &u) {
			u = {u.argsz, 2, 1, 0};
		},
		EINVAL, 0, "A B C", "KB24"},
	{"all_with_bitmap",
		[](Call &u) {
			u = {u.argsz, 2 | 1, 0, 0};
		},
		EINVAL, 0, "A B C", "KB24"},
	{"vaddr_with_bitmap", [](Call &u) { u.flags = 4 | 1; }, EINVAL, 0, "A B C", "KB24"},
	{"bitmap_without_room", [](Call &u) { u.flags = 1; }, EINVAL, 0, "A B C", "KB24"},
};

INSTANTIATE_TEST_SUITE_P(Table, UnmapTable, testing::ValuesIn(v2_rows), row_name<UnmapRow>);

/*
 * KB05: a range that ends with the last byte of the address space, so that all there is
 * goes. The stock driver takes its end for 0, and finds none of the mappings below it.
 */
TEST_F(UnmapCase, KB05_RangeToTheEnd)
{
	NEED_DEVICES(1);
	covers({"KB05", "KB14"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(20 * page);

	map_slots(rig.container, ram);
	const Result result = rig.container.unmap(page, 0xfffffffffffff000);

	want_errno("unmap", result, 0);
	want_ours("pages", result.value / static_cast<long>(page), all_pages);
	want_ours("charged", charged(), 0);
	want_ours("left", left(rig.container, ram), "");
}

/* v1: the range is a hint. Only mappings that begin inside it go, and then whole. */
class UnmapV1Table : public UnmapTable
{
};

TEST_P(UnmapV1Table, V1)
{
	NEED_DEVICES(1);
	if (GetParam().covers)
		covers({GetParam().covers});
	run_row(VFIO_TYPE1_IOMMU);
}

static const UnmapRow v1_rows[] = {
	{"exact", [](Call &u) { range(u, pg(0), 4 * page); }, 0, 4, "B C"},
	{"two", [](Call &u) { range(u, pg(0), 8 * page); }, 0, 8, "C"},
	{"first_page", [](Call &u) { range(u, pg(0), page); }, 0, 4, "B C"},
	{"last_page", [](Call &u) { range(u, pg(3), page); }, 0, 0, "A B C"},
	{"middle", [](Call &u) { range(u, pg(1), 2 * page); }, 0, 0, "A B C"},
	{"all_but_first_page", [](Call &u) { range(u, pg(1), 3 * page); }, 0, 0, "A B C"},
	{"whole_and_half", [](Call &u) { range(u, pg(0), 6 * page); }, 0, 8, "C"},
	/* Begins in the middle of A: nothing goes, not even B, which is covered. */
	{"half_and_whole", [](Call &u) { range(u, pg(2), 6 * page); }, 0, 0, "A B C"},
	{"gap_and_half", [](Call &u) { range(u, pg(10), 8 * page); }, 0, 4, "A B"},
	{"gap", [](Call &u) { range(u, pg(8), 8 * page); }, 0, 0, "A B C"},
	{"all_three", [](Call &u) { range(u, pg(0), 20 * page); }, 0, 12, ""},
	{"all_flag",
		[](Call &u) {
			u = {u.argsz, 2, 0, 0};
		},
		0, 12, ""},
	{"size_0", [](Call &u) { u.size = 0; }, EINVAL, 0, "A B C"},
	{"iova_plus_1", [](Call &u) { u.iova += 1; }, EINVAL, 0, "A B C"},
	{"bitmap_flag", [](Call &u) { u.flags = 1; }, EINVAL, 0, "A B C"},
};

INSTANTIATE_TEST_SUITE_P(Table, UnmapV1Table, testing::ValuesIn(v1_rows), row_name<UnmapRow>);

TEST_F(UnmapCase, KB14_AllWithNone)
{
	NEED_DEVICES(1);
	covers({"KB14"});
	const Rig rig = open_rig();

	want_unmapped("all", rig.container.unmap_all(), 0);
	want_unmapped("range", rig.container.unmap(iova0, page), 0);
	want_unmapped("whole", rig.container.unmap(0, 1ULL << 40), 0);
}

TEST_F(UnmapCase, AllOfManyMappings)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(page);
	constexpr std::size_t many = 500;

	for (std::size_t i = 0; i < many; i++)
		ASSERT_TRUE(rig.container.map(iova0 + 2 * i * page, ram.data(), page).ok());
	want("charged", charged(), many);
	want_unmapped("all", rig.container.unmap_all(), many);
	want("charged.after", charged(), 0);
	want_unmapped("again", rig.container.unmap_all(), 0);
}

TEST_F(UnmapCase, BadPointers)
{
	NEED_DEVICES(1);
	covers({"KB24"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(4 * page);
	Memory two = Memory::map(2 * page);
	const auto call = [&](unsigned long at) {
		return rig.container.ioctl(VFIO_IOMMU_UNMAP_DMA, at);
	};
	Call unmap = {.argsz = sizeof(unmap), .flags = 0, .iova = iova0, .size = ram.size()};

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("null", call(0), EFAULT);
	want_errno("kernel", call(0xffff888000000000UL), EFAULT);
	two.punch(page, page);
	want_errno("unmapped", call(two.address() + page), EFAULT);
	want_errno("straddles", call(two.address() + page - 16), EFAULT);
	want("charged", charged(), 4);

	/* The range goes, and only then the size cannot be written back. */
	std::memcpy(two.data(), &unmap, sizeof(unmap));
	::mprotect(two.data(), page, PROT_READ);
	want_errno("read_only", call(two.address()), EFAULT);
	want("charged.read_only", charged(), 0);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 0);
}

/* A mapping can be made again right where one was removed, many times. */
TEST_F(UnmapCase, MapAgain)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = allocate(Backing::thp, huge_2m);

	for (int i = 0; i < 20; i++) {
		ASSERT_TRUE(rig.container.map(iova0, ram.data(), huge_2m).ok());
		ASSERT_EQ(rig.container.unmap(iova0, huge_2m).value, static_cast<long>(huge_2m));
	}
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* One huge mapping beside others, unmapped in the middle of the tree. */
TEST_F(UnmapCase, MiddleOfThree)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = allocate(Backing::thp, 3 * huge_2m);

	for (std::size_t i = 0; i < 3; i++)
		want_errno("map." + std::to_string(i),
			rig.container.map(iova0 + i * huge_2m, ram.at(i * huge_2m), huge_2m), 0);
	want_unmapped("middle", rig.container.unmap(iova0 + huge_2m, huge_2m), 512);
	want("charged", charged(), 1024);
	want_errno("map.other", rig.container.map(iova0 + huge_2m, ram.at(0), huge_2m), 0);
	want_unmapped("rest", rig.container.unmap(iova0, 3 * huge_2m), 1536);
}

} // namespace selftest
