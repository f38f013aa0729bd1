// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: memory that comes from a disk, and what is mapped while the kernel would like
 * to write it there: swap, and pages of the disk itself. It is one in memory, /dev/ram0
 * (modprobe brd).
 */
#include "mock/mock_rig.hpp"
#include "proc.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

static constexpr const char *ram_disk = "/dev/ram0";

/* As mkswap writes it: <linux/swap.h>, union swap_header. */
struct SwapHeader {
	std::array<char, 1024> boot;
	std::uint32_t version;
	std::uint32_t last_page;
	std::array<char, page - 1032 - 10> rest;
	std::array<char, 10> magic;
};
static_assert(sizeof(SwapHeader) == page);

/* The disk is used for swap, until the end. */
class SwapSpace
{
public:
	explicit SwapSpace(std::size_t size)
	{
		const Fd disk(::open(ram_disk, O_WRONLY | O_CLOEXEC));
		SwapHeader header = {};

		header.version = 1;
		header.last_page = static_cast<std::uint32_t>(size / page - 1);
		std::memcpy(header.magic.data(), "SWAPSPACE2", header.magic.size());
		if (::pwrite(disk.get(), &header, sizeof(header), 0) != sizeof(header) ||
			::fsync(disk.get()))
			throw std::runtime_error("cannot write to the disk for swap");
		if (::swapon(ram_disk, 0))
			throw std::runtime_error("swapon");
	}
	SwapSpace(const SwapSpace &) = delete;
	SwapSpace &operator=(const SwapSpace &) = delete;
	~SwapSpace() { ::swapoff(ram_disk); }
};

#define NEED_RAM_DISK()                                                                            \
	if (::access(ram_disk, W_OK))                                                              \
	GTEST_SKIP() << "no " << ram_disk << ": modprobe brd rd_size=131072"

struct SwapRow {
	const char *name;
	Backing backing;
};

class Swap : public MockCase, public testing::WithParamInterface<SwapRow>
{
protected:
	static constexpr std::size_t swap_size = 64 * mib;
	static constexpr std::size_t size = 8 * mib;
	static constexpr std::size_t pages = size / page;

	/* Pages of a part of memory that the process has in memory */
	std::size_t present(std::span<const std::byte> part) const
	{
		std::size_t n = 0;

		for (std::size_t at = 0; at < part.size(); at += page)
			n += mock().page_state(&part[at]).pfn != 0;
		return n;
	}
	/* Ask until all is out: pages on their way to the disk stay for a moment. */
	void page_out(std::span<std::byte> part) const
	{
		for (int i = 0; i < 100 && present(part); i++) {
			drain_page_lists();
			::madvise(part.data(), part.size(), MADV_PAGEOUT);
		}
	}
	/* Memory that is on the disk, and nowhere else */
	Memory paged_out(unsigned seed)
	{
		Memory ram = allocate(GetParam().backing, size);
		const auto part = ram.bytes(0, size);

		stamp(ram, seed);
		page_out(part);
		want("out", present(part), 0U);
		return ram;
	}
	/* Map it: all is charged, pinned, and what devices reach. */
	void map_all(const Rig &rig, const Memory &ram)
	{
		want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
		want("VmLck", charged(), std::int64_t{pages});
		want("reached", reached(ram.bytes(0, size)), "all");
	}
	/*
	 * Is this the page that the process has there, once it has touched it? Somebody may
	 * be at it again: what is held comes back as it was.
	 */
	bool is_page(std::uint64_t pfn, const std::byte *at) const
	{
		for (int i = 0; i < 1000; i++) {
			static_cast<void>(*static_cast<const volatile std::byte *>(at));
			if (const auto now = mock().page_state(at).pfn)
				return now == pfn;
		}
		return false;
	}
	/* Are these the pages that devices reach, and are they pinned? */
	std::string reached(std::span<const std::byte> part) const
	{
		const auto device =
			mock().translate(env().devices[0].bdf, iova0, part.size() / page);

		for (std::size_t i = 0; i < device.size(); i++) {
			if (!device[i] || !mock().pfn_state(device[i]).pins)
				return "not pinned: page " + std::to_string(i);
			if (!is_page(device[i], &part[i * page]))
				return "not the process's: page " + std::to_string(i);
		}
		return "all";
	}
};

/* What was on the disk is read from there. */
TEST_P(Swap, IsReadFromThere)
{
	NEED_DEVICES(1);
	NEED_RAM_DISK();
	const SwapSpace swap(swap_size);
	const EagerThreads eager;
	const Rig rig = open_rig();
	const Memory ram = paged_out(1);

	map_all(rig, ram);
	want("contents", stamped(ram, 1), true);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
}

/* Some of it is there, some is not: every third page comes from the disk. */
TEST_P(Swap, IsReadFromThereInPart)
{
	NEED_DEVICES(1);
	NEED_RAM_DISK();
	const SwapSpace swap(swap_size);
	const EagerThreads eager;
	const Rig rig = open_rig();
	const Memory ram = paged_out(2);

	for (std::size_t i = 0; i < pages; i++)
		if (i % 3)
			*ram.at(i * page + page / 2) = std::byte{1};
	map_all(rig, ram);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
}

/* What is mapped stays what devices reach, while memory next to it goes. */
TEST_P(Swap, StaysWhileMapped)
{
	NEED_DEVICES(1);
	NEED_RAM_DISK();
	const SwapSpace swap(swap_size);
	const EagerThreads eager;
	const Rig rig = open_rig();
	const Memory ram = allocate(GetParam().backing, 2 * size);
	const auto part = ram.bytes(0, size), next = ram.bytes(size, size);

	stamp(ram, 3);
	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	for (int i = 0; i < 3; i++)
		::madvise(part.data(), size, MADV_PAGEOUT);
	page_out(next);
	want("next.out", present(next), 0U);
	want("reached", reached(part), "all");
	want("contents", stamped(ram, 3), true);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
	/* Now it can. */
	page_out(part);
	want("out", present(part), 0U);
	want("contents.after", stamped(ram, 3), true);
}

/* What devices wrote to pages that came from the disk goes to it, and comes back. */
TEST_P(Swap, WhatDevicesWriteIsKept)
{
	static constexpr std::uint32_t bytes = 512;
	static constexpr std::array<std::size_t, 3> at = {0, 3 * mib + 5 * page, size - page};

	NEED_DEVICES(1);
	NEED_EDU();
	NEED_RAM_DISK();
	const SwapSpace swap(swap_size);
	const EagerThreads eager;
	Rig rig = open_dma_rig(1);
	const Memory ram = paged_out(4), source = Memory::map(page);
	const auto part = ram.bytes(0, size);
	const std::uint64_t source_iova = iova0 + size;

	fill(source.bytes(0, bytes), 5);
	want_errno("source", rig.container.map(source_iova, source.data(), page), 0);
	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	for (const std::size_t offset : at)
		want("dma." + std::to_string(offset),
			run_copies(rig.engines, {{source_iova, iova0 + offset, bytes}}), true);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
	page_out(part);
	want("out.again", present(part), 0U);
	for (const std::size_t offset : at)
		want("kept." + std::to_string(offset), filled(ram.bytes(offset, bytes), 5), true);
}

/* While the kernel takes away what is not pinned yet, or not any more */
TEST_P(Swap, GoesMeanwhile)
{
	NEED_DEVICES(1);
	NEED_CPUS(2);
	NEED_RAM_DISK();
	const SwapSpace swap(swap_size);
	const EagerThreads eager;
	const Rig rig = open_rig();
	const Memory ram = allocate(GetParam().backing, size);
	const auto part = ram.bytes(0, size);
	std::atomic<bool> stop = false;
	std::size_t rounds = 0;
	std::string bad;

	stamp(ram, 6);
	std::jthread other([&] {
		for (; !stop; rounds++)
			::madvise(part.data(), size, MADV_PAGEOUT);
	});
	for (int i = 0; i < 10 && bad.empty(); i++) {
		const Result result = rig.container.map(iova0, ram.data(), size);

		if (!result.ok())
			bad = "map: " + errno_name(result.err);
		else if (const auto where = reached(part); where != "all")
			bad = where;
		if (rig.container.unmap(iova0, size).value != static_cast<long>(size))
			bad += " unmapped less";
	}
	stop = true;
	other.join();
	want("bad", bad, "");
	want("rounds", rounds > 0, true);
	want("contents", stamped(ram, 6), true);
}

static const std::array<SwapRow, 3> swap_rows = {{
	{"small", Backing::small},
	{"thp", Backing::thp},
	{"memfd", Backing::memfd},
}};

INSTANTIATE_TEST_SUITE_P(Table, Swap, testing::ValuesIn(swap_rows), row_name<SwapRow>);

class Disk : public MockCase
{
};

/*
 * Pages of the disk that have been written back are clean, also where they are mapped. If a
 * device writes to them afterwards, only the driver knows, and has to say so.
 */
TEST_F(Disk, WhatDevicesWriteIsKept)
{
	static constexpr std::uint32_t bytes = 512;
	static constexpr std::size_t pages = 64, size = pages * page;
	static constexpr std::array<std::size_t, 3> at = {0, 17, pages - 1};

	NEED_DEVICES(1);
	NEED_EDU();
	NEED_RAM_DISK();
	const Fd disk(::open(ram_disk, O_RDWR | O_DIRECT | O_CLOEXEC));
	const Memory view = Memory::map(size, PROT_READ | PROT_WRITE, MAP_SHARED, disk.get());
	const Memory source = Memory::map(page), stored = Memory::map(page);
	const std::uint64_t source_iova = iova0 + size;
	Rig rig = open_dma_rig(1);

	fill(source.bytes(0, page), 7);
	fill(view.bytes(0, size), 6);
	want_errno("source", rig.container.map(source_iova, source.data(), page), 0);
	/* From Linux 6.5 on, nobody may pin for long what has to be written back. */
	const bool may = kernel_before(6, 5);

	want_errno("map", rig.container.map(iova0, view.data(), size), may ? 0 : EFAULT);
	if (!may)
		return;
	want("written", ::msync(view.data(), size, MS_SYNC), 0);
	for (const std::size_t i : at)
		want("dma." + std::to_string(i),
			run_copies(rig.engines, {{source_iova, iova0 + i * page, bytes}}), true);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
	want("synced", ::fsync(disk.get()), 0);
	for (const std::size_t i : at) {
		const auto where = static_cast<off_t>(i * page);

		want("read." + std::to_string(i), ::pread(disk.get(), stored.data(), page, where),
			static_cast<ssize_t>(page));
		want("kept." + std::to_string(i), filled(stored.bytes(0, bytes), 7), true);
	}
}

} // namespace selftest
