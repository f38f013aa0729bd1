// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: VFIO_IOMMU_DIRTY_PAGES, and VFIO_IOMMU_UNMAP_DMA with a bitmap. A
 * device that cannot tell what it wrote makes every mapped page dirty; which
 * bits of the user's bitmap are written, and which are left, is what is tested.
 */
#include "case.hpp"
#include "proc.hpp"

#include <cstring>
#include <functional>

namespace selftest
{

using DirtyCase = VfioCase;

static constexpr std::uint64_t pg(std::size_t n)
{
	return iova0 + n * page;
}

/* A bitmap with a known filling, and its words in hex. */
class Words
{
public:
	explicit Words(std::size_t words, std::uint64_t filling) : words_(words, filling) {}
	void *data() { return words_.data(); }
	std::size_t bytes() const { return words_.size() * 8; }
	std::string text() const
	{
		std::string text;

		for (const auto word : words_)
			text += (text.empty() ? "" : " ") + hex(word);
		return text;
	}

private:
	std::vector<std::uint64_t> words_;
};

/*
 * The stock driver shifts by the number of the lowest bit, whatever comes out for a size that
 * has none. Debian's kernels have a check for that since 7.2, and the guest panics.
 */
#define NEED_SHIFT(pgsize)                                                                         \
	if (!(pgsize) && !kernel_before(7, 2))                                                     \
	NOT_ON_STOCK("it shifts by 64")

/* Arguments of GET_BITMAP. There is one mapping of 70 pages at iova0. */
struct GetRow {
	const char *name;
	std::function<void(DirtyGetCall &)> change;
	int expected;
	const char *covers = "KB06";
	bool unaligned = false; /* see UnalignedGetLeavesBits */
};

using DirtyGet = RowCase<GetRow>;

TEST_P(DirtyGet, Arguments)
{
	NEED_DEVICES(1);
	covers({GetParam().covers});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(70 * page);
	const Memory bits = Memory::map(page);
	DirtyGetCall call = {};

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	std::memset(bits.data(), 0x5a, page);
	call.argsz = sizeof(call);
	call.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
	call.get.iova = iova0;
	call.get.size = ram.size();
	call.get.bitmap.pgsize = page;
	call.get.bitmap.size = 16;
	call.get.bitmap.data = reinterpret_cast<__u64 *>(bits.data());
	GetParam().change(call);
	NEED_SHIFT(call.get.bitmap.pgsize);
	want_errno("get", rig.container.ioctl(VFIO_IOMMU_DIRTY_PAGES, &call), GetParam().expected);
	see("bits", digest({bits.data(), page}));
	if (GetParam().unaligned)
		return;
	/* Whatever was refused, the next one is right. */
	Words good(2, 0);

	want_errno("get.then",
		rig.container.dirty_get(iova0, ram.size(), good.data(), good.bytes()), 0);
	want("bits.then", good.text(), "0xffffffffffffffff 0x3f");
}

static const GetRow get_rows[] = {
	{"plain", [](DirtyGetCall &) {}, 0},
	{"argsz_0", [](DirtyGetCall &c) { c.argsz = 0; }, EINVAL, "KB24"},
	{"argsz_7", [](DirtyGetCall &c) { c.argsz = 7; }, EINVAL, "KB24"},
	{"argsz_without_range", [](DirtyGetCall &c) { c.argsz = 8; }, EINVAL, "KB24"},
	{"argsz_part_of_range", [](DirtyGetCall &c) { c.argsz = 47; }, EINVAL, "KB24"},
	{"argsz_more", [](DirtyGetCall &c) { c.argsz = 4096; }, 0, "KB24"},
	{"flags_0", [](DirtyGetCall &c) { c.flags = 0; }, EINVAL, "KB24"},
	{"flags_start_get", [](DirtyGetCall &c) { c.flags = 1 | 4; }, EINVAL, "KB24"},
	{"flags_stop_get", [](DirtyGetCall &c) { c.flags = 2 | 4; }, EINVAL, "KB24"},
	{"flags_start_stop", [](DirtyGetCall &c) { c.flags = 1 | 2; }, EINVAL, "KB24"},
	{"flags_all", [](DirtyGetCall &c) { c.flags = 7; }, EINVAL, "KB24"},
	{"flags_bit3", [](DirtyGetCall &c) { c.flags = 8; }, EINVAL, "KB24"},
	{"flags_get_bit31", [](DirtyGetCall &c) { c.flags = 4 | 1U << 31; }, EINVAL, "KB24"},
	{"pgsize_0", [](DirtyGetCall &c) { c.get.bitmap.pgsize = 0; }, EINVAL},
	{"pgsize_1", [](DirtyGetCall &c) { c.get.bitmap.pgsize = 1; }, EINVAL},
	{"pgsize_2048", [](DirtyGetCall &c) { c.get.bitmap.pgsize = 2048; }, EINVAL},
	{"pgsize_8192", [](DirtyGetCall &c) { c.get.bitmap.pgsize = 8192; }, EINVAL},
	{"pgsize_2m", [](DirtyGetCall &c) { c.get.bitmap.pgsize = huge_2m; }, EINVAL},
	{"pgsize_4097", [](DirtyGetCall &c) { c.get.bitmap.pgsize = 4097; }, EINVAL},
	{"pgsize_top_bit", [](DirtyGetCall &c) { c.get.bitmap.pgsize = 1ULL << 63; }, EINVAL},
	{"bitmap_size_0", [](DirtyGetCall &c) { c.get.bitmap.size = 0; }, EINVAL},
	{"bitmap_size_8", [](DirtyGetCall &c) { c.get.bitmap.size = 8; }, EINVAL},
	{"bitmap_size_15", [](DirtyGetCall &c) { c.get.bitmap.size = 15; }, EINVAL},
	{"bitmap_size_17", [](DirtyGetCall &c) { c.get.bitmap.size = 17; }, 0},
	{"bitmap_size_page", [](DirtyGetCall &c) { c.get.bitmap.size = page; }, 0},
	{"bitmap_size_max", [](DirtyGetCall &c) { c.get.bitmap.size = 256 * mib; }, 0},
	{"bitmap_size_over_max", [](DirtyGetCall &c) { c.get.bitmap.size = 256 * mib + 1; },
		EINVAL},
	{"bitmap_size_wraps", [](DirtyGetCall &c) { c.get.bitmap.size = ~0ULL; }, EINVAL},
	{"bitmap_null", [](DirtyGetCall &c) { c.get.bitmap.data = nullptr; }, EFAULT},
	{"bitmap_odd_pointer",
		[](DirtyGetCall &c) {
			c.get.bitmap.data = reinterpret_cast<__u64 *>(
				reinterpret_cast<std::uintptr_t>(c.get.bitmap.data) + 3);
		},
		0},
	{"bitmap_kernel",
		[](DirtyGetCall &c) {
			c.get.bitmap.data = reinterpret_cast<__u64 *>(0xffff888000000000);
		},
		EINVAL},
	{"bitmap_noncanonical",
		[](DirtyGetCall &c) {
			c.get.bitmap.data = reinterpret_cast<__u64 *>(0x8000000000000000);
		},
		EINVAL},
	{"iova_plus_1", [](DirtyGetCall &c) { c.get.iova += 1; }, EINVAL},
	{"iova_plus_2048", [](DirtyGetCall &c) { c.get.iova += 2048; }, EINVAL},
	{"size_0", [](DirtyGetCall &c) { c.get.size = 0; }, EINVAL},
	{"size_1", [](DirtyGetCall &c) { c.get.size = 1; }, EINVAL},
	{"size_4095", [](DirtyGetCall &c) { c.get.size = 4095; }, EINVAL},
	{"size_plus_1", [](DirtyGetCall &c) { c.get.size += 1; }, EINVAL},
	{"wraps", [](DirtyGetCall &c) { c.get.size = 0 - iova0 + page; }, error_of_wrapping()},
	{"wraps_to_0", [](DirtyGetCall &c) { c.get.size = 0 - iova0; }, EINVAL, "KB05"},
	{"size_all_ones", [](DirtyGetCall &c) { c.get.size = ~0ULL; }, error_of_wrapping()},
	{"size_all_ones_iova_0",
		[](DirtyGetCall &c) {
			c.get.iova = 0;
			c.get.size = ~0ULL;
		},
		EINVAL},
	{"first_half", [](DirtyGetCall &c) { c.get.size = 35 * page; }, EINVAL},
	{"second_half",
		[](DirtyGetCall &c) {
			c.get.iova += 35 * page;
			c.get.size = 35 * page;
		},
		EINVAL},
	{"middle",
		[](DirtyGetCall &c) {
			c.get.iova += page;
			c.get.size = 64 * page;
		},
		EINVAL},
	{"all_but_last", [](DirtyGetCall &c) { c.get.size = 69 * page; }, EINVAL},
	{"before_and_half",
		[](DirtyGetCall &c) {
			c.get.iova -= 10 * page;
			c.get.size = 20 * page;
		},
		EINVAL},
	{"nothing_there",
		[](DirtyGetCall &c) {
			c.get.iova += 128 * page;
			c.get.size = 64 * page;
		},
		0},
	{"nothing_before",
		[](DirtyGetCall &c) {
			c.get.iova -= 64 * page;
			c.get.size = 64 * page;
		},
		0},
	{"wider", [](DirtyGetCall &c) { c.get.iova -= 10 * page, c.get.size = 100 * page; }, 0,
		"KB06", true},
};

INSTANTIATE_TEST_SUITE_P(Table, DirtyGet, testing::ValuesIn(get_rows), row_name<GetRow>);

TEST_F(DirtyCase, StartAndStop)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(4 * page);
	Words bits(1, 0);
	const auto get = [&] {
		return rig.container.dirty_get(iova0, 4 * page, bits.data(), bits.bytes());
	};

	want_errno("stop.first", rig.container.dirty_stop(), 0);
	want_errno("get.not_started", get(), EINVAL);
	want_errno("start.empty", rig.container.dirty_start(), 0);
	want_errno("start.twice", rig.container.dirty_start(), 0);
	want_errno("get.empty", get(), 0);
	want("bits.empty", bits.text(), "0x0");
	/* Mapped while tracking. */
	want_errno("map", rig.container.map(iova0, ram.data(), 4 * page), 0);
	want_errno("get.mapped", get(), 0);
	want("bits.mapped", bits.text(), "0xf");
	want_errno("get.again", get(), 0);
	want("bits.again", bits.text(), "0xf");
	want_unmapped("unmap", rig.container.unmap(iova0, 4 * page), 4);
	want_errno("get.unmapped", get(), 0);
	see("bits.unmapped", bits.text());
	want_errno("stop", rig.container.dirty_stop(), 0);
	want_errno("stop.twice", rig.container.dirty_stop(), 0);
	want_errno("get.stopped", get(), EINVAL);
	/* Started with mappings there. */
	want_errno("map.again", rig.container.map(iova0, ram.data(), 4 * page), 0);
	want_errno("start.mapped", rig.container.dirty_start(), 0);
	want_errno("get.restarted", get(), 0);
	want("bits.restarted", bits.text(), "0xf");
}

TEST_F(DirtyCase, FlagsAlone)
{
	NEED_DEVICES(1);
	covers({"KB24"});
	const Rig rig = open_rig();

	for (std::uint32_t flags = 0; flags < 16; flags++)
		see_errno("flags." + std::to_string(flags), rig.container.dirty_flag(flags));
	see_errno("flags.top", rig.container.dirty_flag(1U << 31));
	for (const std::uint32_t argsz : {0U, 7U, 8U, 9U, 0xffffffffU}) {
		vfio_iommu_type1_dirty_bitmap dirty = {};

		dirty.argsz = argsz;
		dirty.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
		want_errno("start.argsz." + std::to_string(argsz),
			rig.container.ioctl(VFIO_IOMMU_DIRTY_PAGES, &dirty),
			argsz < 8 ? EINVAL : 0);
		dirty.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
		want_errno("stop.argsz." + std::to_string(argsz),
			rig.container.ioctl(VFIO_IOMMU_DIRTY_PAGES, &dirty),
			argsz < 8 ? EINVAL : 0);
	}
}

TEST_F(DirtyCase, BadPointers)
{
	NEED_DEVICES(1);
	covers({"KB24"});
	const Rig rig = open_rig();
	Memory two = Memory::map(2 * page);
	const auto call = [&](unsigned long at) {
		return rig.container.ioctl(VFIO_IOMMU_DIRTY_PAGES, at);
	};
	const DirtyGetCall get = {
		.argsz = sizeof(get), .flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, .get = {}};

	want_errno("null", call(0), EFAULT);
	want_errno("kernel", call(0xffff888000000000UL), EFAULT);
	two.punch(page, page);
	want_errno("unmapped", call(two.address() + page), EFAULT);
	want_errno("straddles", call(two.address() + page - 4), EFAULT);
	std::memcpy(two.at(page - 8), &get, 8);
	want_errno("range_unmapped", call(two.address() + page - 8), EFAULT);
}

TEST_F(DirtyCase, V1Container)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig(1, VFIO_TYPE1_IOMMU);
	Words bits(1, 0);

	want_errno("start", rig.container.dirty_start(), EACCES);
	want_errno("stop", rig.container.dirty_stop(), EACCES);
	want_errno("get", rig.container.dirty_get(iova0, page, bits.data(), 8), EACCES);
	want_errno("null", rig.container.ioctl(VFIO_IOMMU_DIRTY_PAGES, 0UL), EACCES);
}

/* Where the bits go when one call covers several mappings and gaps. */
struct LayoutRow {
	const char *name;
	std::vector<std::pair<std::size_t, std::size_t>> mappings; /* page, pages */
	std::size_t at, pages;					   /* of the get */
};

using DirtyLayout = RowCase<LayoutRow>;

TEST_P(DirtyLayout, Bits)
{
	NEED_DEVICES(1);
	covers({"KB06"});
	const LayoutRow &row = GetParam();
	const Memory ram = Memory::map(256 * page);

	const std::size_t words = (row.pages + 63) / 64;
	const auto tracked = [&](const std::string &key) {
		Rig fresh = open_rig();

		for (const auto &[at, pages] : row.mappings)
			want_errno(key + ".map." + std::to_string(at),
				fresh.container.map(pg(at), ram.data(), pages * page), 0);
		want_errno(key + ".start", fresh.container.dirty_start(), 0);
		return fresh;
	};

	/* Two fillings tell bits that are written from those that are left. */
	for (const std::uint64_t filling : {0ULL, 0x5a5a5a5a5a5a5a5aULL, ~0ULL}) {
		const std::string key = "filled." + hex(filling);
		const Rig rig = tracked(key);
		/* One word more than needed: it must not change. */
		Words bits(words + 1, filling);

		want_errno(key,
			rig.container.dirty_get(
				pg(row.at), row.pages * page, bits.data(), words * 8),
			0);
		see(key + ".bits", bits.text());
	}
	/* The same through unmap. */
	const Rig rig = tracked("unmap");
	Words bits(words + 1, 0x5a5a5a5a5a5a5a5a);
	const Result result =
		rig.container.unmap_dirty(pg(row.at), row.pages * page, bits.data(), words * 8);

	see_errno("unmap", result);
	see("unmap.pages", result.value / static_cast<long>(page));
	see("unmap.bits", bits.text());
	see("charged", charged());
}

INSTANTIATE_TEST_SUITE_P(Table, DirtyLayout,
	testing::Values(LayoutRow{"one_page", {{0, 1}}, 0, 1},
		LayoutRow{"64_pages", {{0, 64}}, 0, 64}, LayoutRow{"65_pages", {{0, 65}}, 0, 65},
		LayoutRow{"63_pages", {{0, 63}}, 0, 63},
		LayoutRow{"two_adjacent", {{0, 3}, {3, 5}}, 0, 8},
		LayoutRow{"two_with_gap", {{0, 3}, {10, 5}}, 0, 20},
		LayoutRow{"offset_3", {{3, 5}}, 0, 64}, LayoutRow{"offset_63", {{63, 2}}, 0, 128},
		LayoutRow{"offset_60_long", {{60, 100}}, 0, 192},
		LayoutRow{"three_in_one_word", {{1, 2}, {5, 3}, {20, 40}}, 0, 64},
		LayoutRow{"across_words", {{0, 60}, {60, 10}, {70, 70}}, 0, 192},
		LayoutRow{"gap_of_a_word", {{0, 10}, {130, 10}}, 0, 192},
		LayoutRow{"not_from_the_first", {{0, 4}, {8, 4}, {16, 4}}, 8, 16},
		LayoutRow{"up_to_the_middle", {{0, 4}, {8, 4}, {16, 4}}, 0, 12},
		LayoutRow{"from_inside_a_gap", {{0, 4}, {8, 4}}, 5, 10},
		LayoutRow{"gap_only", {{0, 4}, {100, 4}}, 8, 64}),
	row_name<LayoutRow>);

/*
 * A get whose first bit is not the first of a word shows what is mapped, each time. The
 * stock driver shifts its own bitmap and leaves it shifted, so that each further get shows
 * more pages beyond the mapping as dirty.
 */
TEST_F(DirtyCase, UnalignedGetLeavesBits)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(4 * page);

	want_errno("map", rig.container.map(pg(8), ram.data(), 4 * page), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	for (int i = 0; i < 4; i++) {
		Words bits(2, 0);

		want_errno("get." + std::to_string(i),
			rig.container.dirty_get(pg(0), 64 * page, bits.data(), 8), 0);
		want_ours("bits." + std::to_string(i), bits.text(), "0xf00 0x0");
	}
}

/* Arguments of UNMAP_DMA with a bitmap. One mapping of 70 pages at iova0. */
struct UnmapDirtyRow {
	const char *name;
	std::function<void(UnmapDirtyCall &)> change;
	int expected;
	bool tracking = true;
};

using UnmapDirty = RowCase<UnmapDirtyRow>;

TEST_P(UnmapDirty, Arguments)
{
	NEED_DEVICES(1);
	covers({"KB06", "KB24"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(70 * page);
	const Memory bits = Memory::map(page);
	UnmapDirtyCall call = {};

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	if (GetParam().tracking)
		want_errno("start", rig.container.dirty_start(), 0);
	std::memset(bits.data(), 0x5a, page);
	call.argsz = sizeof(call);
	call.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
	call.iova = iova0;
	call.size = ram.size();
	call.bitmap.pgsize = page;
	call.bitmap.size = 16;
	call.bitmap.data = reinterpret_cast<__u64 *>(bits.data());
	GetParam().change(call);
	NEED_SHIFT(call.bitmap.pgsize);
	want_errno("unmap", rig.container.ioctl(VFIO_IOMMU_UNMAP_DMA, &call), GetParam().expected);
	see("size", hex(call.size));
	see("bits", digest({bits.data(), page}));
	see("charged", charged());
	see("rest.pages", rig.container.unmap_all().value / static_cast<long>(page));
	want("charged.after", charged(), 0);
}

static const UnmapDirtyRow unmap_dirty_rows[] = {
	{"plain", [](UnmapDirtyCall &) {}, 0},
	{"not_tracking", [](UnmapDirtyCall &) {}, EINVAL, false},
	{"argsz_24", [](UnmapDirtyCall &c) { c.argsz = 24; }, EINVAL},
	{"argsz_47", [](UnmapDirtyCall &c) { c.argsz = 47; }, EINVAL},
	{"argsz_more", [](UnmapDirtyCall &c) { c.argsz = 4096; }, 0},
	{"with_all", [](UnmapDirtyCall &c) { c.flags |= 2; }, EINVAL},
	{"with_vaddr", [](UnmapDirtyCall &c) { c.flags |= 4; }, EINVAL},
	{"with_both", [](UnmapDirtyCall &c) { c.flags |= 6; }, EINVAL},
	{"pgsize_0", [](UnmapDirtyCall &c) { c.bitmap.pgsize = 0; }, EINVAL},
	{"pgsize_8192", [](UnmapDirtyCall &c) { c.bitmap.pgsize = 8192; }, EINVAL},
	{"pgsize_2m", [](UnmapDirtyCall &c) { c.bitmap.pgsize = huge_2m; }, EINVAL},
	{"bitmap_size_0", [](UnmapDirtyCall &c) { c.bitmap.size = 0; }, EINVAL},
	{"bitmap_size_8", [](UnmapDirtyCall &c) { c.bitmap.size = 8; }, EINVAL},
	{"bitmap_size_over_max", [](UnmapDirtyCall &c) { c.bitmap.size = 256 * mib + 1; }, EINVAL},
	{"bitmap_null", [](UnmapDirtyCall &c) { c.bitmap.data = nullptr; }, EFAULT},
	{"bitmap_kernel",
		[](UnmapDirtyCall &c) {
			c.bitmap.data = reinterpret_cast<__u64 *>(0xffff888000000000);
		},
		EINVAL},
	{"size_0", [](UnmapDirtyCall &c) { c.size = 0; }, EINVAL},
	{"size_odd", [](UnmapDirtyCall &c) { c.size -= 1; }, EINVAL},
	{"iova_odd", [](UnmapDirtyCall &c) { c.iova += 1; }, EINVAL},
	{"wraps", [](UnmapDirtyCall &c) { c.size = 0 - iova0 + page; }, EINVAL},
	{"half", [](UnmapDirtyCall &c) { c.size = 35 * page; }, EINVAL},
	{"wider", [](UnmapDirtyCall &c) { c.iova -= 10 * page, c.size = 100 * page; }, 0},
	{"elsewhere", [](UnmapDirtyCall &c) { c.iova += 128 * page, c.size = page; }, 0},
	/* v2 ABI: a bitmap of the range, even where its size is not the mapping's */
	{"bitmap_larger", [](UnmapDirtyCall &c) { c.bitmap.size = 4096; }, 0},
};

INSTANTIATE_TEST_SUITE_P(
	Table, UnmapDirty, testing::ValuesIn(unmap_dirty_rows), row_name<UnmapDirtyRow>);

/*
 * The bitmap cannot be written in the middle. Nothing is unmapped then; by the stock driver,
 * what comes before.
 */
TEST_F(DirtyCase, KB07_UnmapBitmapFaultsInTheMiddle)
{
	NEED_DEVICES(1);
	covers({"KB06", "KB07"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(page);
	Memory bits = Memory::map(2 * page);
	/* Bits of the first mapping are in the first page of the bitmap, those of the second
	 * one in the second, which is not there. */
	constexpr std::uint64_t far = 32768 + 64;

	want_errno("map.0", rig.container.map(iova0, ram.data(), page), 0);
	want_errno("map.1", rig.container.map(pg(far), ram.data(), page), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	bits.punch(page, page);

	const auto size = (far + 64) * page;
	const auto bitmap_bytes = (far + 64) / 8;

	want_errno("get", rig.container.dirty_get(iova0, size, bits.data(), bitmap_bytes), EFAULT);
	want("charged.get", charged(), 2);
	see("get.bits", hex(*reinterpret_cast<std::uint64_t *>(bits.data())));
	want_errno(
		"unmap", rig.container.unmap_dirty(iova0, size, bits.data(), bitmap_bytes), EFAULT);
	want_ours("charged.unmap", charged(), 2);
	want_ours("rest.pages", rig.container.unmap_all().value / static_cast<long>(page), 2);
	want("charged.after", charged(), 0);
}

TEST_F(DirtyCase, ReadOnlyBitmap)
{
	NEED_DEVICES(1);
	covers({"KB06"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(8 * page);
	const Memory bits = Memory::map(page);
	Words good(1, 0);

	/* The second one begins at bit 4: that path reads the bitmap first. */
	want_errno("map.0", rig.container.map(pg(0), ram.data(), 4 * page), 0);
	want_errno("map.1", rig.container.map(pg(4), ram.data(), 4 * page), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	::mprotect(bits.data(), page, PROT_READ);
	want_errno("get", rig.container.dirty_get(iova0, 8 * page, bits.data(), 8), EFAULT);
	want_errno("unmap", rig.container.unmap_dirty(iova0, 8 * page, bits.data(), 8), EFAULT);
	want("charged", charged(), 8);
	want_errno("get.good", rig.container.dirty_get(iova0, 8 * page, good.data(), 8), 0);
	want("bits.good", good.text(), "0xff");
	want_unmapped("unmap.good", rig.container.unmap_dirty(iova0, 8 * page, good.data(), 8), 8);
}

/* A huge mapping: 2 MiB pages are reported by the 4 KiB. */
TEST_F(DirtyCase, HugePagesBySmallBits)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = allocate(Backing::thp, 2 * huge_2m);
	Words bits(17, 0);

	want_errno("start", rig.container.dirty_start(), 0);
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("get", rig.container.dirty_get(iova0, ram.size(), bits.data(), 128), 0);
	see("bits", bits.text());
	want_unmapped(
		"unmap", rig.container.unmap_dirty(iova0, ram.size(), bits.data(), 128), 1024);
}

TEST_F(DirtyCase, SecondGroupWhileTracking)
{
	NEED_DEVICES(2);
	Rig rig = open_rig();
	const Memory ram = Memory::map(4 * page);
	Words bits(1, 0);
	const auto get = [&](const char *key) {
		want_errno(key, rig.container.dirty_get(iova0, 4 * page, bits.data(), 8), 0);
		see(std::string(key) + ".bits", bits.text());
	};

	want_errno("map", rig.container.map(iova0, ram.data(), 4 * page), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	get("one");
	rig.groups.push_back(Group::open(env().devices[1].group));
	want_errno("attach", rig.groups[1].set_container(rig.container), 0);
	get("two");
	want_errno("detach", rig.groups[0].unset_container(), 0);
	get("other");
	want_unmapped("unmap", rig.container.unmap(iova0, 4 * page), 4);
}

TEST_F(DirtyCase, CloseWhileTracking)
{
	NEED_DEVICES(1);
	{
		const Rig rig = open_rig();
		const Memory ram = Memory::map(64 * page);

		want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
		want_errno("start", rig.container.dirty_start(), 0);
	}
	want("charged", charged(), 0);
}

/* A failed map while tracking leaves nothing. */
TEST_F(DirtyCase, KB07_FailedMapWhileTracking)
{
	NEED_DEVICES(1);
	covers({"KB07"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(4 * page);
	Words bits(1, 0);

	want_errno("start", rig.container.dirty_start(), 0);
	want_errno("fault", rig.container.map_addr(iova0, 0, 4 * page), EFAULT);
	want_errno("get", rig.container.dirty_get(iova0, 4 * page, bits.data(), 8), 0);
	want("bits", bits.text(), "0x0");
	want_errno("map", rig.container.map(iova0, ram.data(), 4 * page), 0);
	want_errno("exists", rig.container.map(iova0, ram.data(), page), EEXIST);
	want_errno("get.mapped", rig.container.dirty_get(iova0, 4 * page, bits.data(), 8), 0);
	want("bits.mapped", bits.text(), "0xf");
}

} // namespace selftest
