// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: PCI BARs as DMA targets (peer to peer). A BAR is PFNMAP memory that
 * vfio-pci fills in at the first fault: it is neither pinned nor charged.
 */
#include "case.hpp"
#include "mock/mock_rig.hpp"
#include "proc.hpp"

#include <cstdlib>
#include <cstring>

namespace selftest
{

static constexpr int rw = PROT_READ | PROT_WRITE;
static constexpr std::uint32_t rd = VFIO_DMA_MAP_FLAG_READ;
static constexpr std::uint32_t bar = VFIO_PCI_BAR0_REGION_INDEX;
static constexpr std::uint64_t scratch_iova = 0x800000;

/* Two devices, of which the second lends its BAR. */
class BarCase : public VfioCase
{
protected:
	Rig two() { return open_dma_rig(2); }

	/* What the first device reads at an address, through the IOMMU. */
	std::string peer_reads(const std::string &key, Rig &rig, std::uint64_t iova)
	{
		const Memory scratch = Memory::map(page);

		std::memset(scratch.data(), 0x77, page);
		want_errno(
			key + ".scratch", rig.container.map(scratch_iova, scratch.data(), page), 0);
		rig.engines[0].start_read(iova, 4);
		want(key + ".read_ended", rig.engines[0].wait(), true);
		rig.engines[0].start_write(scratch_iova, 4);
		want(key + ".write_ended", rig.engines[0].wait(), true);
		want_unmapped(key + ".unmap", rig.container.unmap(scratch_iova, page), 1);
		return hex(register_at(scratch.data()));
	}
	/* 0x010000ed: version 1.0 of an edu. It is at the start of the BAR, and nowhere else. */
	void want_peer_read(const std::string &key, Rig &rig, std::uint64_t bar_iova)
	{
		want(key + ".id", peer_reads(key, rig, bar_iova), "0x10000ed");
	}
	/* Each page that is mapped from iova0 on is this one of the BAR, and what the CPU reads. */
	void want_bar_pages(const std::string &key, Rig &rig, const std::byte *memory,
		const std::vector<std::uint64_t> &pages)
	{
		std::string why_not;
		const auto mock = Mock::open(why_not);

		for (std::size_t i = 0; i < pages.size(); i++) {
			const std::string at = key + "." + std::to_string(i);
			const std::string read = peer_reads(at, rig, iova0 + i * page);

			want(at, read, hex(register_at(memory + i * page)));
			want(at + ".is_first", read == "0x10000ed", pages[i] == 0);
		}
		if (!mock)
			return;
		/* The registers of the others cannot be told apart; their addresses can. */
		const auto pfns = mock->translate(env().devices.at(0).bdf, iova0, pages.size());

		for (std::size_t i = 0; i < pages.size(); i++)
			want(key + ".page." + std::to_string(i), pfns[i] - first_pfn(), pages[i]);
	}

private:
	static std::uint32_t register_at(const std::byte *at)
	{
		return *reinterpret_cast<const volatile std::uint32_t *>(at);
	}
	/* Where the second device's BAR is. */
	static std::uint64_t first_pfn()
	{
		const auto resources =
			read_file("/sys/bus/pci/devices/" + env().devices.at(1).bdf + "/resource");

		return std::strtoull(resources.value_or("").c_str(), nullptr, 16) / page;
	}
};

#define NEED_TWO_EDU()                                                                             \
	NEED_DEVICES(2);                                                                           \
	NEED_EDU()

TEST_F(BarCase, KB02_WholeBar)
{
	NEED_TWO_EDU();
	covers({"KB02"});
	Rig rig = two();
	/* Never touched: its pages are not there yet. */
	const Region region = rig.devices[1].map_region(bar, rw);

	want_errno("map", rig.container.map(iova0, region.data(), region.size()), 0);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
	want_peer_read("peer", rig, iova0);
	want_unmapped("unmap", rig.container.unmap(iova0, region.size()), region.size() / page);

	want_errno("map.read", rig.container.map(iova0, region.data(), region.size(), rd), 0);
	want_peer_read("peer.read", rig, iova0);
	want_unmapped(
		"unmap.read", rig.container.unmap(iova0, region.size()), region.size() / page);
}

TEST_F(BarCase, KB02_OwnBar)
{
	NEED_DEVICES(1);
	NEED_EDU();
	covers({"KB02"});
	Rig rig = open_dma_rig(1);
	const Region region = rig.devices[0].map_region(bar, rw);

	want_errno("map", rig.container.map(iova0, region.data(), 4 * page), 0);
	want("charged", charged(), 0);
	want_unmapped("unmap", rig.container.unmap(iova0, 4 * page), 4);
}

/* KB15: the VMA does not begin where the mapping begins. */
TEST_F(BarCase, KB15_PartOfBar)
{
	NEED_TWO_EDU();
	covers({"KB15"});
	Rig rig = two();
	Memory space = Memory::reserve(16 * page, page);

	/* BAR pages 2…5 at page 4 of the space, and behind them 0 and 1 */
	want_errno("mmap",
		rig.devices[1].map_region_at(bar, rw, space.at(4 * page), 4 * page, 2 * page), 0);
	want_errno("mmap.first",
		rig.devices[1].map_region_at(bar, rw, space.at(8 * page), 2 * page), 0);
	want_errno("inside", rig.container.map(iova0, space.at(5 * page), 2 * page), 0);
	want_bar_pages("inside", rig, space.at(5 * page), {3, 4});
	want_unmapped("inside.unmap", rig.container.unmap(iova0, 2 * page), 2);
	want_errno("from_before", rig.container.map(iova0, space.at(3 * page), 3 * page), EFAULT);
	want_errno("to_after", rig.container.map(iova0, space.at(8 * page), 4 * page), EFAULT);
	want_errno("whole", rig.container.map(iova0, space.at(4 * page), 6 * page), 0);
	want_bar_pages("whole", rig, space.at(4 * page), {2, 3, 4, 5, 0, 1});
	want("charged", charged(), 0);
	want_unmapped("whole.unmap", rig.container.unmap(iova0, 6 * page), 6);
}

/* KB15: RAM and BAR in one mapping, in several orders; only RAM is charged. */
struct OrderRow {
	const char *name;
	const char *pattern; /* R a page of RAM, B a page of the BAR, Z zero page, H hole */
	std::uint32_t flags;
	int expected;
};

class BarAndRam : public BarCase, public testing::WithParamInterface<OrderRow>
{
};

TEST_P(BarAndRam, KB15_OneMapping)
{
	NEED_TWO_EDU();
	covers({"KB15", "KB17"});
	const std::string pattern = GetParam().pattern;
	const std::size_t size = pattern.size() * page;
	Rig rig = two();
	Memory space = Memory::reserve(size, page);
	std::size_t bars = 0, first_bar = 0;
	std::int64_t ram = 0, zeros = 0;

	for (std::size_t i = 0; i < pattern.size(); i++) {
		std::byte *const at = space.at(i * page);

		switch (pattern[i]) {
		case 'R':
			space.place(i * page, page, rw, MAP_PRIVATE | MAP_ANONYMOUS);
			fill({at, page}, static_cast<unsigned>(i));
			ram++;
			break;
		case 'Z':
			space.place(i * page, page, rw, MAP_PRIVATE | MAP_ANONYMOUS);
			zeros++;
			break;
		case 'B':
			/* Consecutive pages of the BAR, so that they are one run. */
			if (!bars)
				first_bar = i;
			want_errno("mmap." + std::to_string(i),
				rig.devices[1].map_region_at(bar, rw, at, page, bars * page), 0);
			bars++;
			break;
		default:
			break;
		}
	}
	for (const char *round : {"first.", "second."}) {
		const std::string key = round;

		want_errno(key + "map",
			rig.container.map(iova0, space.data(), size, GetParam().flags),
			GetParam().expected);
		want(key + "charged", charged(),
			GetParam().expected ? 0 : ram + charge_of_zero_pages(zeros));
		if (GetParam().expected)
			continue;
		want_peer_read(key + "peer", rig, iova0 + first_bar * page);
		want_unmapped(key + "unmap", rig.container.unmap(iova0, size), pattern.size());
		want(key + "charged.unmapped", charged(), 0);
	}
	for (std::size_t i = 0; i < pattern.size(); i++)
		if (pattern[i] == 'R')
			want("contents." + std::to_string(i),
				filled(space.bytes(i * page, page), static_cast<unsigned>(i)),
				true);
}

INSTANTIATE_TEST_SUITE_P(Table, BarAndRam,
	testing::Values(OrderRow{"ram_bar", "RRRRBBBB", map_rw, 0},
		OrderRow{"bar_ram", "BBBBRRRR", map_rw, 0},
		OrderRow{"one_ram_bar", "RBBB", map_rw, 0},
		OrderRow{"one_bar_ram", "BRRR", map_rw, 0},
		OrderRow{"ram_bar_ram", "RRBBRR", map_rw, 0},
		OrderRow{"alternating", "RBRBRBRB", map_rw, 0},
		OrderRow{"zero_pages_too", "ZRBZBRZ", rd, 0},
		OrderRow{"ram_bar_hole", "RRBBH", map_rw, EFAULT},
		OrderRow{"bar_hole_ram", "BHRR", map_rw, EFAULT}),
	row_name<OrderRow>);

TEST_F(BarCase, ReadOnlyMmap)
{
	NEED_TWO_EDU();
	Rig rig = two();
	const Region region = rig.devices[1].map_region(bar, PROT_READ);

	want_errno("write", rig.container.map(iova0, region.data(), 4 * page), EFAULT);
	want_errno("read", rig.container.map(iova0, region.data(), 4 * page, rd), 0);
	want_peer_read("peer", rig, iova0);
	want_unmapped("unmap", rig.container.unmap(iova0, 4 * page), 4);
}

/* KB02: memory space switched off before the map, and under it. */
TEST_F(BarCase, KB02_MemoryDisabled)
{
	NEED_TWO_EDU();
	covers({"KB02"});
	Rig rig = two();
	const Region region = rig.devices[1].map_region(bar, rw);

	rig.devices[1].set_memory_enabled(false);
	want_errno("disabled", rig.container.map(iova0, region.data(), 4 * page), EFAULT);
	rig.devices[1].set_memory_enabled(true);
	want_errno("enabled", rig.container.map(iova0, region.data(), 4 * page), 0);
	rig.devices[1].set_memory_enabled(false);
	want_unmapped("unmap.disabled", rig.container.unmap(iova0, 4 * page), 4);
	rig.devices[1].set_memory_enabled(true);
	want_errno("map.again", rig.container.map(iova0, region.data(), 4 * page), 0);
	want_peer_read("peer", rig, iova0);
	want_unmapped("unmap", rig.container.unmap(iova0, 4 * page), 4);
}

/* KB02: RAM first, then the BAR of a disabled device: the RAM is given back. */
TEST_F(BarCase, KB02_MemoryDisabledAfterRam)
{
	NEED_TWO_EDU();
	covers({"KB02", "KB09"});
	Rig rig = two();
	Memory space = Memory::reserve(8 * page, page);

	space.place(0, 4 * page, rw, MAP_PRIVATE | MAP_ANONYMOUS);
	want_errno("mmap", rig.devices[1].map_region_at(bar, rw, space.at(4 * page), 4 * page), 0);
	rig.devices[1].set_memory_enabled(false);
	want_errno("disabled", rig.container.map(iova0, space.data(), 8 * page), EFAULT);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
	rig.devices[1].set_memory_enabled(true);
	want_errno("enabled", rig.container.map(iova0, space.data(), 8 * page), 0);
	want("charged.enabled", charged(), 4);
	want_unmapped("unmap", rig.container.unmap(iova0, 8 * page), 8);
}

TEST_F(BarCase, MunmapBeforeUnmap)
{
	NEED_TWO_EDU();
	Rig rig = two();
	Region region = rig.devices[1].map_region(bar, rw);
	const std::size_t size = region.size();

	want_errno("map", rig.container.map(iova0, region.data(), size), 0);
	region.reset();
	want_peer_read("peer", rig, iova0);
	want_unmapped("unmap", rig.container.unmap(iova0, size), size / page);
}

TEST_F(BarCase, CloseWithBarMapped)
{
	NEED_TWO_EDU();
	covers({"KB17"});
	Memory space = Memory::reserve(8 * page, page);
	{
		Rig rig = two();

		space.place(0, 4 * page, rw, MAP_PRIVATE | MAP_ANONYMOUS);
		want_errno("mmap",
			rig.devices[1].map_region_at(bar, rw, space.at(4 * page), 4 * page), 0);
		want_errno("map", rig.container.map(iova0, space.data(), 8 * page), 0);
		want("charged", charged(), 4);
		/* The mmap keeps the device open; it goes first. */
		space.punch(4 * page, 4 * page);
	}
	want("charged.closed", charged(), 0);
	want("pinned.closed", pinned(), 0);
}

} // namespace selftest
