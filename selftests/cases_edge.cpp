// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: the end of the 64-bit address space, where iova + size wraps to 0 (KB05). Only an
 * IOMMU whose aperture reaches so far can map it (AMD's does, VT-d's does not).
 *
 * In the stock driver such a mapping is not found again: it cannot be unmapped,
 * it can be mapped twice, and its pages stay pinned and charged for ever. So the
 * cases run in a child, whose mm takes the lost charge along, and expect something
 * of our driver only.
 */
#include "case.hpp"
#include "proc.hpp"

namespace selftest
{

using Edge = VfioCase;

static constexpr std::uint64_t last_page = 0xfffffffffffff000;

TEST_F(Edge, KB05_LastPage)
{
	NEED_DEVICES(1);
	covers({"KB05", "KB14"});
	stock_may_leave_pins();
	take("", run_child([&](Notes &seen) {
		const Rig rig = open_rig();
		const Memory ram = Memory::map(page);
		std::uint64_t bits = 0;

		seen.put("map", errno_name(rig.container.map(last_page, ram.data(), page).err));
		seen.put("VmLck", vm_locked_pages());
		seen.put("avail", rig.container.info().dma_avail);
		rig.container.dirty_start();
		seen.put("dirty",
			errno_name(rig.container.dirty_get(last_page, page, &bits, 8).err));
		seen.put("dirty.bits", hex(bits));
		rig.container.dirty_stop();
		const Result result = rig.container.unmap(last_page, page);

		seen.put("unmap", errno_name(result.err));
		seen.put("unmap.pages", result.value / static_cast<long>(page));
		seen.put("VmLck.after", vm_locked_pages());
		seen.put("avail.after", rig.container.info().dma_avail);
	}));
	const bool mapped = notes().text("map") == "ok";

	expect_ours("VmLck", mapped ? 1 : 0);
	expect_ours("avail", mapped ? 65534 : 65535);
	expect_ours("dirty", "ok");
	expect_ours("dirty.bits", mapped ? "0x1" : "0x0");
	expect_ours("unmap", "ok");
	expect_ours("unmap.pages", mapped ? 1 : 0);
	expect_ours("VmLck.after", 0);
	expect_ours("avail.after", 65535);
}

TEST_F(Edge, KB05_LastPageTwice)
{
	NEED_DEVICES(1);
	covers({"KB05"});
	stock_may_leave_pins();
	take("", run_child([&](Notes &seen) {
		Rig rig = open_rig();
		const Memory ram = Memory::map(2 * page);

		seen.put("map", errno_name(rig.container.map(last_page, ram.data(), page).err));
		seen.put("again", errno_name(rig.container.map(last_page, ram.at(page), page).err));
		seen.put("all.pages", rig.container.unmap_all().value / static_cast<long>(page));
		seen.put("VmLck", vm_locked_pages());
		rig.close();
		seen.put("VmLck.closed", vm_locked_pages());
	}));
	const bool mapped = notes().text("map") == "ok";

	expect_ours("again", mapped ? "EEXIST" : "EINVAL");
	expect_ours("all.pages", mapped ? 1 : 0);
	expect_ours("VmLck", 0);
	expect_ours("VmLck.closed", 0);
}

/* A range that ends with the last page, and another one below it. */
TEST_F(Edge, KB05_LastPages)
{
	NEED_DEVICES(1);
	covers({"KB05"});
	stock_may_leave_pins();
	take("", run_child([&](Notes &seen) {
		Rig rig = open_rig();
		const Memory ram = Memory::map(8 * page);

		seen.put("below",
			errno_name(
				rig.container.map(last_page - 7 * page, ram.data(), 4 * page).err));
		seen.put("last",
			errno_name(
				rig.container.map(last_page - 3 * page, ram.data(), 4 * page).err));
		seen.put("VmLck", vm_locked_pages());
		seen.put("unmap.below.pages",
			rig.container.unmap(last_page - 7 * page, 4 * page).value /
				static_cast<long>(page));
		seen.put("unmap.last.pages",
			rig.container.unmap(last_page - 3 * page, 4 * page).value /
				static_cast<long>(page));
		seen.put("VmLck.unmapped", vm_locked_pages());
		rig.close();
		seen.put("VmLck.closed", vm_locked_pages());
	}));
	const bool mapped = notes().text("last") == "ok";

	expect_ours("below", mapped ? "ok" : "EINVAL");
	expect_ours("VmLck", mapped ? 8 : 0);
	expect_ours("unmap.below.pages", mapped ? 4 : 0);
	expect_ours("unmap.last.pages", mapped ? 4 : 0);
	expect_ours("VmLck.unmapped", 0);
	expect_ours("VmLck.closed", 0);
}

/* One page short of the end: nothing wraps, everything works. */
TEST_F(Edge, KB05_LastPageButOne)
{
	NEED_DEVICES(1);
	covers({"KB05"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(4 * page);
	std::uint64_t bits = 0;
	const Result mapped = rig.container.map(last_page - 4 * page, ram.data(), 4 * page);

	see_errno("map", mapped);
	see("charged", charged());
	if (!mapped.ok())
		return;
	want_errno("exists", rig.container.map(last_page - page, ram.data(), page), EEXIST);
	want_errno("start", rig.container.dirty_start(), 0);
	want_errno("get", rig.container.dirty_get(last_page - 4 * page, 4 * page, &bits, 8), 0);
	want("bits", hex(bits), "0xf");
	want_unmapped("unmap", rig.container.unmap(last_page - 4 * page, 4 * page), 4);
}

/* More than a process can have: nothing is there to be pinned, and little is spent on it. */
TEST_F(Edge, KB05_MoreThanTheAddressSpace)
{
	NEED_DEVICES(1);
	covers({"KB05", "KB07"});
	const Rig rig = open_rig();
	constexpr std::uint64_t iova = 1ULL << 40, nothing_there = 0x10000;

	for (const bool dirty : {false, true}) {
		if (dirty)
			want_errno("start", rig.container.dirty_start(), 0);
		for (const int bits : {44, 46, 47, 53, 54, 55, 58, 62})
			see_errno((dirty ? "dirty." : "map.") + std::to_string(bits),
				rig.container.map_addr(iova, nothing_there, 1ULL << bits));
	}
	want("avail", rig.container.info().dma_avail, 65535);
	want("charged", charged(), 0);
}

/* The end of the last range that GET_INFO names, wherever that is. */
TEST_F(Edge, EndOfAperture)
{
	NEED_DEVICES(1);
	covers({"KB23"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(4 * page);
	const auto ranges = rig.container.info().ranges;

	ASSERT_FALSE(ranges.empty());
	for (std::size_t i = 0; i < ranges.size(); i++) {
		const std::string key = "range." + std::to_string(i);
		const std::uint64_t end = ranges[i].end;

		see(key + ".end", hex(end));
		if (end == ~0ULL)
			continue; /* the cases above */
		want_errno(key + ".last", rig.container.map(end + 1 - page, ram.data(), page), 0);
		want_errno(key + ".past", rig.container.map(end + 1, ram.data(), page), EINVAL);
		want_errno(key + ".over",
			rig.container.map(end + 1 - 2 * page, ram.data(), 4 * page), EEXIST);
		want_unmapped(key + ".unmap", rig.container.unmap(end + 1 - page, page), 1);
		want_errno(key + ".over.free",
			rig.container.map(end + 1 - 2 * page, ram.data(), 4 * page), EINVAL);
		if (ranges[i].start)
			want_errno(key + ".before",
				rig.container.map(ranges[i].start - page, ram.data(), page),
				EINVAL);
		want_errno(key + ".first", rig.container.map(ranges[i].start, ram.data(), page), 0);
		want_unmapped(key + ".first.unmap", rig.container.unmap(ranges[i].start, page), 1);
	}
}

} // namespace selftest
