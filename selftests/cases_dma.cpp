// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: what a device really reaches. DMA by the edu devices into and out of
 * each kind of memory, at page and huge page boundaries, with too few rights,
 * after an unmap, and while the process changes its memory under the mapping.
 */
#include "case.hpp"
#include "proc.hpp"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace selftest
{

static constexpr std::uint32_t rd = VFIO_DMA_MAP_FLAG_READ;
static constexpr std::uint32_t wr = VFIO_DMA_MAP_FLAG_WRITE;
static constexpr std::uint64_t scratch_iova = 0x800000;
static constexpr std::uint32_t bytes = 256;

class Dma : public VfioCase
{
protected:
	/* One page for the devices to read from and write to. */
	void map_scratch(Rig &rig)
	{
		scratch_ = Memory::map(3 * page);
		want_errno(
			"scratch", rig.container.map(scratch_iova, scratch_.data(), 3 * page), 0);
	}
	/* What the device finds at iova. */
	std::span<std::byte> device_reads(Rig &rig, std::uint64_t iova)
	{
		std::memset(scratch_.data(), 0x77, page);
		if (!run_copies(rig.engines, {{iova, scratch_iova, bytes}}))
			ADD_FAILURE() << "a transfer did not end";
		return scratch_.bytes(0, bytes);
	}
	/* The device writes fill()'s pattern to iova. */
	void device_writes(Rig &rig, std::uint64_t iova, unsigned seed)
	{
		fill(scratch_.bytes(page, bytes), seed);
		if (!run_copies(rig.engines, {{scratch_iova + page, iova, bytes}}))
			ADD_FAILURE() << "a transfer did not end";
	}

	Memory scratch_;
};

struct BackingRow {
	const char *name;
	Backing backing;
	std::size_t size;
};

class DmaBacking : public Dma, public testing::WithParamInterface<BackingRow>
{
};

/*
 * Places in a mapping that a wrong translation would hit: both sides of, and
 * across, the boundaries of small and huge pages. No two overlap.
 */
static std::vector<std::size_t> probe_places(std::size_t size, std::size_t unit)
{
	std::vector<std::size_t> places;
	const auto add = [&](std::size_t at) {
		const bool taken = std::ranges::any_of(places, [&](std::size_t other) {
			return at < other + bytes && other < at + bytes;
		});

		if (!taken && at + bytes <= size)
			places.push_back(at);
	};

	add(0);
	add(size - bytes);
	add(page - bytes / 2);
	add(size - page);
	for (std::size_t at = unit; at < size && places.size() < 24; at += unit) {
		add(at - bytes / 2);
		add(at + 5 * page % unit);
		add(at + unit / 2 / page * page + 512);
	}
	for (std::size_t i = 1; i < 24 && places.size() < 24; i++)
		add(i * (size / 24 / page) * page + 1024);
	places.resize(places.size() / 2 * 2);
	return places;
}

/* Every place is the source or the target of one copy. */
TEST_P(DmaBacking, ReadsAndWrites)
{
	const BackingRow &row = GetParam();

	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(row.backing, row.size);
	Rig rig = open_dma_rig();
	const Memory ram = allocate(row.backing, row.size);
	/* The same places through two other mappings, one of them not aligned alike. */
	const std::uint64_t iovas[] = {1ULL << 32, (2ULL << 32) + 3 * page};
	std::vector<std::size_t> places = probe_places(
		row.size, page_size(row.backing) == page ? 2 * page : page_size(row.backing));

	for (const auto iova : iovas) {
		const std::string key = iova == iovas[0] ? "aligned" : "odd";
		std::vector<Copy> copies;
		std::size_t right = 0;

		stamp(ram, 1);
		want_errno(key + ".map", rig.container.map(iova, ram.data(), row.size), 0);
		for (std::size_t i = 0; i + 1 < places.size(); i += 2) {
			fill(ram.bytes(places[i], bytes), static_cast<unsigned>(i));
			copies.push_back({iova + places[i], iova + places[i + 1], bytes});
		}
		want(key + ".ended", run_copies(rig.engines, copies), true);
		for (std::size_t i = 0; i + 1 < places.size(); i += 2)
			right += filled(ram.bytes(places[i + 1], bytes), static_cast<unsigned>(i));
		want(key + ".right", right, copies.size());
		see(key + ".copies", copies.size());
		want_unmapped(key + ".unmap", rig.container.unmap(iova, row.size), row.size / page);
		want(key + ".charged", charged(), 0);
		/* Half the places do for the second round. */
		places.resize(places.size() / 2 / 2 * 2);
	}
}

INSTANTIATE_TEST_SUITE_P(Table, DmaBacking,
	testing::Values(BackingRow{"small", Backing::small, 32 * page},
		BackingRow{"small_many", Backing::small, 2000 * page},
		BackingRow{"thp", Backing::thp, 4 * huge_2m},
		BackingRow{"hugetlb_2m", Backing::hugetlb_2m, 4 * huge_2m},
		BackingRow{"memfd", Backing::memfd, 64 * page},
		BackingRow{"memfd_2m", Backing::memfd_2m, 4 * huge_2m},
		BackingRow{"file", Backing::file, 64 * page}),
	row_name<BackingRow>);

/* Small pages one by one: each 4 KiB page is really where the device finds it. */
TEST_F(Dma, EverySmallPage)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig();
	constexpr std::size_t n = 24;
	const Memory ram = allocate(Backing::small, 2 * n * page);
	std::vector<Copy> copies;
	std::size_t right = 0;

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	for (std::size_t i = 0; i < n; i++) {
		fill(ram.bytes(i * page, bytes), static_cast<unsigned>(i));
		copies.push_back({iova0 + i * page, iova0 + (2 * n - 1 - i) * page, bytes});
	}
	want("ended", run_copies(rig.engines, copies), true);
	for (std::size_t i = 0; i < n; i++)
		right += filled(ram.bytes((2 * n - 1 - i) * page, bytes), static_cast<unsigned>(i));
	want("right", right, n);
}

/* iovas all over the address space */
TEST_F(Dma, FarIovas)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig();
	const std::uint64_t iovas[] = {0, 0xfedff000, 0xfef00000, (1ULL << 32) - page, 1ULL << 32,
		(1ULL << 38) - page, (1ULL << 39) - 2 * page};
	const Memory ram = Memory::map(std::size(iovas) * 2 * page);
	std::vector<Copy> copies;

	for (std::size_t i = 0; i < std::size(iovas); i++) {
		const std::size_t at = 2 * i * page;
		/* Two pages where there is room for them. */
		const std::size_t size = iovas[i] == 0xfedff000 ? page : 2 * page;

		if (i && iovas[i - 1] + 2 * page > iovas[i])
			continue;
		fill(ram.bytes(at, bytes), static_cast<unsigned>(i));
		want_errno(
			"map." + hex(iovas[i]), rig.container.map(iovas[i], ram.at(at), size), 0);
		copies.push_back({iovas[i], iovas[i] + size - bytes, bytes});
		want("end." + hex(iovas[i]), run_copies(rig.engines, {copies.back()}), true);
		want("data." + hex(iovas[i]),
			filled(ram.bytes(at + size - bytes, bytes), static_cast<unsigned>(i)),
			true);
	}
	see("unmapped", rig.container.unmap_all().value / static_cast<long>(page));
}

TEST_F(Dma, UnmappedIova)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	const Memory ram = Memory::map(3 * page);
	std::vector<std::byte> before;

	map_scratch(rig);
	for (std::size_t i = 0; i < 3; i++)
		fill(ram.bytes(i * page, page), static_cast<unsigned>(i));
	before.assign(ram.data(), ram.data() + ram.size());
	/* Only the page in the middle. */
	want_errno("map", rig.container.map(iova0 + page, ram.at(page), page), 0);

	const KernelLog log;

	device_writes(rig, iova0, 50);
	/* QEMU's AMD IOMMU refuses without an event that Linux would log. */
	if (env().outcome.iommu == "intel" && log.readable())
		want("fault_logged",
			log.waits_for("fault addr " + hex(iova0), std::chrono::seconds(2)), true);
	device_writes(rig, iova0 + 2 * page, 51);
	device_writes(rig, iova0 + 64 * mib, 52);
	want("untouched", std::memcmp(before.data(), ram.data(), ram.size()) == 0, true);
	want("read.before", filled(device_reads(rig, iova0), 0), false);
	want("read.after", filled(device_reads(rig, iova0 + 2 * page), 2), false);
	/* What is mapped works all the same. */
	want("read.mapped", filled(device_reads(rig, iova0 + page), 1), true);
	device_writes(rig, iova0 + 2 * page - bytes, 53);
	want("written.mapped", filled(ram.bytes(2 * page - bytes, bytes), 53), true);
}

/* As migration has it: what a device may have written to, while it writes. */
TEST_F(Dma, WritesWhileTracking)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	const Memory ram = Memory::map(8 * page);
	std::uint64_t dirty = 0;

	map_scratch(rig);
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	device_writes(rig, iova0 + 3 * page, 5);
	want("written", filled(ram.bytes(3 * page, bytes), 5), true);
	want_errno("get", rig.container.dirty_get(iova0, ram.size(), &dirty, sizeof(dirty)), 0);
	/* Whatever the device can reach, as nobody says what it writes to. */
	want("dirty", hex(dirty), hex(0xff));
	device_writes(rig, iova0 + 6 * page, 6);
	dirty = 0;
	want_errno("again", rig.container.dirty_get(iova0, ram.size(), &dirty, sizeof(dirty)), 0);
	want("dirty.again", hex(dirty), hex(0xff));
	want_errno("stop", rig.container.dirty_stop(), 0);
	want_errno("stopped", rig.container.dirty_get(iova0, ram.size(), &dirty, sizeof(dirty)),
		EINVAL);
	want("written.again", filled(ram.bytes(6 * page, bytes), 6), true);
	want("unmapped", rig.container.unmap_all().value,
		static_cast<long long>(ram.size() + 3 * page));
}

/* A transfer that begins in mapped memory and runs out of it. */
TEST_F(Dma, RunsOutOfMapping)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	const Memory ram = Memory::map(2 * page);

	map_scratch(rig);
	std::memset(ram.data(), 0x11, 2 * page);
	want_errno("map", rig.container.map(iova0, ram.data(), page), 0);
	device_writes(rig, iova0 + page - bytes / 2, 60);
	/* The neighbour in memory is not touched. */
	want("next.first", static_cast<int>(*ram.at(page)), 0x11);
	want("inside", filled(ram.bytes(page - bytes / 2, bytes / 2), 60), true);
}

/* The IOMMU forgets a mapping at once, also where it had used it just before. */
TEST_F(Dma, AfterUnmap)
{
	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(Backing::hugetlb_2m, huge_2m);
	Rig rig = open_dma_rig(1);

	map_scratch(rig);
	for (const Backing backing : {Backing::small, Backing::thp, Backing::hugetlb_2m}) {
		const std::string key = name(backing);
		const Memory ram = allocate(backing, huge_2m);
		const std::size_t at = 100 * page;

		want_errno(key + ".map", rig.container.map(iova0, ram.data(), huge_2m), 0);
		device_writes(rig, iova0 + at, 1);
		want(key + ".written", filled(ram.bytes(at, bytes), 1), true);
		want_unmapped(key + ".unmap", rig.container.unmap(iova0, huge_2m), 512);
		device_writes(rig, iova0 + at, 2);
		want(key + ".refused", filled(ram.bytes(at, bytes), 1), true);
		want(key + ".read_refused", filled(device_reads(rig, iova0 + at), 1), false);
	}
}

/* The same iova, other memory: no stale translation. */
TEST_F(Dma, MapOtherMemory)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	const Memory first = allocate(Backing::thp, huge_2m);
	const Memory second = allocate(Backing::small, huge_2m);

	map_scratch(rig);
	stamp(first, 1);
	stamp(second, 2);
	fill(first.bytes(7 * page, bytes), 1);
	fill(second.bytes(7 * page, bytes), 2);
	want_errno("map.first", rig.container.map(iova0, first.data(), huge_2m), 0);
	want("read.first", filled(device_reads(rig, iova0 + 7 * page), 1), true);
	want_unmapped("unmap.first", rig.container.unmap(iova0, huge_2m), 512);
	want_errno("map.second", rig.container.map(iova0, second.data(), huge_2m), 0);
	want("read.second", filled(device_reads(rig, iova0 + 7 * page), 2), true);
	want_unmapped("unmap.second", rig.container.unmap(iova0, huge_2m), 512);
	want_errno("map.third", rig.container.map(iova0, first.data(), huge_2m), 0);
	device_writes(rig, iova0 + 9 * page, 3);
	want("written.first", filled(first.bytes(9 * page, bytes), 3), true);
	want("second.untouched", stamped(second, 2), false); /* page 7 was filled */
	want("second.page9", filled(second.bytes(9 * page, bytes), 3), false);
}

TEST_F(Dma, Rights)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);

	map_scratch(rig);
	for (const Backing backing : {Backing::small, Backing::thp}) {
		const std::string key = name(backing);
		const Memory ram = allocate(backing, huge_2m);
		const auto reset = [&] { fill(ram.bytes(5 * page, bytes), 1); };
		const auto after_write = [&](unsigned seed) {
			device_writes(rig, iova0 + 5 * page, seed);
			return filled(ram.bytes(5 * page, bytes), seed);
		};

		reset();
		want_errno(key + ".read.map", rig.container.map(iova0, ram.data(), huge_2m, rd), 0);
		want(key + ".read.reads", filled(device_reads(rig, iova0 + 5 * page), 1), true);
		want(key + ".read.writes", after_write(2), false);
		want(key + ".read.kept", filled(ram.bytes(5 * page, bytes), 1), true);
		want_unmapped(key + ".read.unmap", rig.container.unmap(iova0, huge_2m), 512);

		want_errno(
			key + ".write.map", rig.container.map(iova0, ram.data(), huge_2m, wr), 0);
		want(key + ".write.writes", after_write(3), true);
		reset();
		see(key + ".write.reads", filled(device_reads(rig, iova0 + 5 * page), 1));
		want_unmapped(key + ".write.unmap", rig.container.unmap(iova0, huge_2m), 512);
	}
}

/* A mapping for reading of untouched memory: zeroes, and none of the process's other data. */
TEST_F(Dma, KB12_ZeroPage)
{
	NEED_DEVICES(1);
	NEED_EDU();
	covers({"KB12"});
	Rig rig = open_dma_rig(1);
	const Memory ram = allocate(Backing::small, 8 * page);
	const std::vector<std::byte> zero(bytes);

	map_scratch(rig);
	want_errno("map", rig.container.map(iova0, ram.data(), 8 * page, rd), 0);
	const auto got = device_reads(rig, iova0 + 3 * page);

	want("zero", std::memcmp(got.data(), zero.data(), bytes) == 0, true);
	device_writes(rig, iova0 + 3 * page, 4);
	/* The zero page of the whole machine must not be written. */
	want("still_zero", std::memcmp(ram.at(3 * page), zero.data(), bytes) == 0, true);
	/* A write by the process gives it its own page; the device keeps seeing zeroes. */
	fill(ram.bytes(3 * page, bytes), 6);
	see("sees_new_page", filled(device_reads(rig, iova0 + 3 * page), 6));
	want_unmapped("unmap", rig.container.unmap(iova0, 8 * page), 8);
}

/* The pages stay pinned whatever the process does with its addresses. */
TEST_F(Dma, MunmapUnderMapping)
{
	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(Backing::hugetlb_2m, huge_2m);
	Rig rig = open_dma_rig(1);

	map_scratch(rig);
	for (const Backing backing :
		{Backing::small, Backing::thp, Backing::hugetlb_2m, Backing::memfd}) {
		const std::string key = name(backing);
		Memory ram = allocate(backing, huge_2m);

		stamp(ram, 1);
		fill(ram.bytes(300 * page, bytes), 1);
		want_errno(key + ".map", rig.container.map(iova0, ram.data(), huge_2m), 0);
		ram.reset();
		/* Fresh memory, perhaps at the same address, and not the device's. */
		const Memory other = allocate(Backing::small, huge_2m);

		stamp(other, 2);
		want(key + ".read", filled(device_reads(rig, iova0 + 300 * page), 1), true);
		device_writes(rig, iova0 + 301 * page, 3);
		want(key + ".other", stamped(other, 2), true);
		want(key + ".charged", charged() - 3, 512);
		want_unmapped(key + ".unmap", rig.container.unmap(iova0, huge_2m), 512);
	}
}

TEST_F(Dma, DontneedUnderMapping)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);

	map_scratch(rig);
	for (const Backing backing : {Backing::small, Backing::thp}) {
		const std::string key = name(backing);
		const Memory ram = allocate(backing, huge_2m);

		stamp(ram, 1);
		fill(ram.bytes(200 * page, bytes), 1);
		fill(ram.bytes(100 * page, bytes), 2);
		want_errno(key + ".map", rig.container.map(iova0, ram.data(), huge_2m), 0);
		/* One page in the middle, then all. */
		::madvise(ram.at(200 * page), page, MADV_DONTNEED);
		want(key + ".cpu.one", static_cast<int>(*ram.at(200 * page)), 0);
		want(key + ".device.one", filled(device_reads(rig, iova0 + 200 * page), 1), true);
		::madvise(ram.data(), huge_2m, MADV_DONTNEED);
		want(key + ".cpu.all", static_cast<int>(*ram.at(100 * page)), 0);
		want(key + ".device.all", filled(device_reads(rig, iova0 + 100 * page), 2), true);
		want(key + ".charged", charged() - 3, 512);
		want_unmapped(key + ".unmap", rig.container.unmap(iova0, huge_2m), 512);
		/* Mapped anew, both see the same again. */
		fill(ram.bytes(100 * page, bytes), 3);
		want_errno(key + ".map.again", rig.container.map(iova0, ram.data(), huge_2m), 0);
		want(key + ".device.again", filled(device_reads(rig, iova0 + 100 * page), 3), true);
		want_unmapped(key + ".unmap.again", rig.container.unmap(iova0, huge_2m), 512);
	}
}

/* A hole in a memfd takes the page away from the file, not from the device. */
TEST_F(Dma, PunchHoleUnderMapping)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	const Fd memfd(make_memfd(16 * page));
	const Memory ram = Memory::map(16 * page, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get());

	map_scratch(rig);
	fill(ram.bytes(5 * page, bytes), 1);
	want_errno("map", rig.container.map(iova0, ram.data(), 16 * page), 0);
	want_errno("punch",
		Result::of(::fallocate(
			memfd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 5 * page, page)),
		0);
	want("cpu", static_cast<int>(*ram.at(5 * page)), 0);
	want("device", filled(device_reads(rig, iova0 + 5 * page), 1), true);
	want_unmapped("unmap", rig.container.unmap(iova0, 16 * page), 16);
}

TEST_F(Dma, MremapUnderMapping)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);

	map_scratch(rig);
	for (const Backing backing : {Backing::small, Backing::thp}) {
		const std::string key = name(backing);
		const Memory ram = allocate(backing, huge_2m);
		const Memory target = Memory::reserve(huge_2m, huge_2m);

		stamp(ram, 1);
		want_errno(key + ".map", rig.container.map(iova0, ram.data(), huge_2m), 0);
		want(key + ".mremap",
			::mremap(ram.data(), huge_2m, huge_2m, MREMAP_MAYMOVE | MREMAP_FIXED,
				target.data()) == target.data(),
			true);
		device_writes(rig, iova0 + 400 * page, 2);
		want(key + ".follows", filled(target.bytes(400 * page, bytes), 2), true);
		want_unmapped(key + ".unmap", rig.container.unmap(iova0, huge_2m), 512);
	}
}

TEST_F(Dma, MprotectUnderMapping)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	const Memory ram = allocate(Backing::thp, huge_2m);

	map_scratch(rig);
	stamp(ram, 1);
	want_errno("map", rig.container.map(iova0, ram.data(), huge_2m), 0);
	::mprotect(ram.at(10 * page), page, PROT_NONE);
	::mprotect(ram.at(20 * page), page, PROT_READ);
	device_writes(rig, iova0 + 10 * page, 2);
	device_writes(rig, iova0 + 20 * page, 3);
	want("read_only", filled(ram.bytes(20 * page, bytes), 3), true);
	::mprotect(ram.data(), huge_2m, PROT_READ | PROT_WRITE);
	want("none", filled(ram.bytes(10 * page, bytes), 2), true);
	want_unmapped("unmap", rig.container.unmap(iova0, huge_2m), 512);
}

/*
 * fork() must not take the pinned pages away from the process that mapped
 * them: what it writes after the fork is what the device reads.
 */
TEST_F(Dma, ForkUnderMapping)
{
	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(Backing::hugetlb_2m, 2 * huge_2m);
	Rig rig = open_dma_rig(1);

	map_scratch(rig);
	for (const Backing backing : {Backing::small, Backing::thp, Backing::hugetlb_2m}) {
		const std::string key = name(backing);
		const Memory ram = allocate(backing, huge_2m);
		const std::size_t places[] = {0, 77 * page, 511 * page};

		stamp(ram, 1);
		for (const auto at : places)
			fill(ram.bytes(at, bytes), 1);
		want_errno(key + ".map", rig.container.map(iova0, ram.data(), huge_2m), 0);
		Child child([&](Notes &seen, const ChildSync &sync) {
			bool same = true;

			for (const auto at : places)
				same &= filled(ram.bytes(at, bytes), 1);
			seen.put("contents", same);
			/* Its own copy: not the device's business. */
			for (const auto at : places)
				fill(ram.bytes(at, bytes), 9);
			sync.ready_and_wait();
			same = true;
			for (const auto at : places)
				same &= filled(ram.bytes(at, bytes), 9);
			seen.put("own_copy", same);
		});

		want(key + ".ready", child.wait_ready(), true);
		for (const auto at : places) {
			const std::string where = key + "." + std::to_string(at / page);

			fill(ram.bytes(at, bytes), 2);
			want(where + ".device_reads", filled(device_reads(rig, iova0 + at), 2),
				true);
		}
		device_writes(rig, iova0 + places[1], 3);
		want(key + ".device_writes", filled(ram.bytes(places[1], bytes), 3), true);
		child.go();
		take(key + ".child.", child.finish());
		expect_noted(key + ".child.contents", Value{true});
		expect_noted(key + ".child.own_copy", Value{true});
		want_unmapped(key + ".unmap", rig.container.unmap(iova0, huge_2m), 512);
	}
}

/* Two iovas of one page: a write through the one is read through the other. */
TEST_F(Dma, SameMemoryTwice)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	const Memory ram = allocate(Backing::thp, huge_2m);

	map_scratch(rig);
	stamp(ram, 1);
	want_errno("map.first", rig.container.map(iova0, ram.data(), huge_2m), 0);
	want_errno("map.second", rig.container.map(2 * iova0 + page, ram.data(), huge_2m), 0);
	device_writes(rig, iova0 + 33 * page, 7);
	want("second", filled(device_reads(rig, 2 * iova0 + 34 * page), 7), true);
	want_unmapped("unmap.first", rig.container.unmap(iova0, huge_2m), 512);
	device_writes(rig, 2 * iova0 + 35 * page, 8);
	want("still", filled(ram.bytes(34 * page, bytes), 8), true);
	want_unmapped("unmap.second", rig.container.unmap(2 * iova0 + page, huge_2m), 512);
}

/* A group that comes later finds what is mapped; when the first one goes, it stays. */
TEST_F(Dma, SecondGroupFindsMappings)
{
	NEED_DEVICES(2);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	const Memory ram = allocate(Backing::thp, huge_2m);
	const Memory more = Memory::map(4 * page);

	map_scratch(rig);
	stamp(ram, 1);
	want_errno("map", rig.container.map(iova0, ram.data(), huge_2m), 0);
	rig.groups.push_back(Group::open(env().devices[1].group));
	want_errno("attach", rig.groups[1].set_container(rig.container), 0);
	want("charged", charged(), 515);
	rig.devices.push_back(Device::open(rig.groups[1], env().devices[1].bdf));
	rig.engines.emplace_back(rig.devices[1]);
	/* Everything by the second one from here. */
	std::swap(rig.engines[0], rig.engines[1]);
	device_writes(rig, iova0 + 44 * page, 5);
	want("second.writes", filled(ram.bytes(44 * page, bytes), 5), true);
	want_errno("map.more", rig.container.map(2 * iova0, more.data(), 4 * page), 0);
	device_writes(rig, 2 * iova0 + 3 * page, 6);
	want("second.more", filled(more.bytes(3 * page, bytes), 6), true);

	/* The group that came first goes. */
	rig.engines.pop_back();
	rig.devices.erase(rig.devices.begin());
	want_errno("detach", rig.groups[0].unset_container(), 0);
	want("charged.detached", charged(), 519);
	device_writes(rig, iova0 + 45 * page, 7);
	want("second.still", filled(ram.bytes(45 * page, bytes), 7), true);
	want_errno("attach.again", rig.groups[0].set_container(rig.container), 0);
	want_unmapped("unmap", rig.container.unmap_all(), 519);
}

/* Two containers: the same iova is other memory in each. */
TEST_F(Dma, TwoContainers)
{
	NEED_DEVICES(2);
	NEED_EDU();
	Rig a = open_dma_rig(1, 0);
	Rig b = open_dma_rig(1, 1);
	const Memory of_a = Memory::map(4 * page);
	const Memory of_b = Memory::map(4 * page);

	want_errno("a.map", a.container.map(iova0, of_a.data(), 4 * page), 0);
	want_errno("b.map", b.container.map(iova0, of_b.data(), 4 * page), 0);
	want("charged", charged(), 8);
	fill(of_a.bytes(0, bytes), 1);
	fill(of_b.bytes(0, bytes), 2);
	want("a.ended", run_copies(a.engines, {{iova0, iova0 + 3 * page, bytes}}), true);
	want("b.ended", run_copies(b.engines, {{iova0, iova0 + 3 * page, bytes}}), true);
	want("a.data", filled(of_a.bytes(3 * page, bytes), 1), true);
	want("b.data", filled(of_b.bytes(3 * page, bytes), 2), true);
	a.close();
	want("charged.a_closed", charged(), 4);
	fill(of_b.bytes(page, bytes), 3);
	want("b.ended.again", run_copies(b.engines, {{iova0 + page, iova0 + 2 * page, bytes}}),
		true);
	want("b.data.again", filled(of_b.bytes(2 * page, bytes), 3), true);
}

} // namespace selftest
