/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a container must answer: a model of the ABI, in user space.
 *
 * It knows what is mapped, for whom, at which charge, and whether dirty pages
 * are tracked, and from that the errno of every call, what an unmap reports, and
 * every bit of a dirty bitmap. It is written from the ABI and from what the stock
 * driver does, and shares no code with either.
 */
#pragma once

#include "fuzz_arena.hpp"
#include "vfio.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace selftest
{

/* The errors a call may end with; 0 for success. Mostly one. */
using Answers = std::vector<int>;

/* Whose memory a mapping is, and who is charged for it. */
inline constexpr int owner_self = 0;
inline constexpr int owner_gone = -1;

struct Mapping {
	std::uint64_t iova = 0;
	std::uint64_t size = 0;
	std::uint32_t flags = 0; /* VFIO_DMA_MAP_FLAG_READ, _WRITE */
	std::vector<FrameId> frames{};
	std::vector<std::uint64_t> pfns{}; /* where devices get to, if somebody can tell */
	int owner = owner_self;
	std::int64_t charged = 0;
	bool vaddr_invalid = false;

	std::uint64_t last() const { return iova + size - 1; }
	std::size_t pages() const { return frames.size(); }
	bool readable() const { return flags & VFIO_DMA_MAP_FLAG_READ; }
	bool writable() const { return flags & VFIO_DMA_MAP_FLAG_WRITE; }
};

/* A page that was mapped once. */
struct Ghost {
	std::uint64_t iova;
	FrameId frame;
};

struct MapArgs {
	std::uint32_t argsz = sizeof(vfio_iommu_type1_dma_map);
	std::uint32_t flags = map_rw;
	std::uint64_t vaddr = 0;
	std::uint64_t iova = 0;
	std::uint64_t size = 0;
};

struct UnmapArgs {
	std::uint32_t argsz = sizeof(vfio_iommu_type1_dma_unmap);
	std::uint32_t flags = 0;
	std::uint64_t iova = 0;
	std::uint64_t size = 0;

	bool all() const { return flags & VFIO_DMA_UNMAP_FLAG_ALL; }
	bool vaddr() const { return flags & VFIO_DMA_UNMAP_FLAG_VADDR; }
	bool report() const { return flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP; }
};

/* The part of a call that is about a bitmap. */
struct BitmapArgs {
	std::uint64_t pgsize = page;
	std::uint64_t size = 0;
	std::uint64_t data = 0;
	/* Bytes from data on that can be written. */
	std::uint64_t room = 0;
};

class ContainerModel
{
public:
	using Maps = std::map<std::uint64_t, Mapping>;

	/* VFIO_SET_IOMMU was done, and what GET_INFO tells of the addresses. */
	void begin(unsigned long type, std::int64_t avail, std::vector<IovaRange> ranges);
	/* The last group is gone, and with it everything. Returns what was mapped. */
	std::vector<Mapping> end();

	bool active() const { return active_; }
	bool v2() const { return v2_; }
	bool dirty_tracking() const { return dirty_; }
	std::int64_t avail() const { return avail_; }
	const std::vector<IovaRange> &ranges() const { return ranges_; }
	const Maps &maps() const { return maps_; }
	const std::deque<Ghost> &ghosts() const { return ghosts_; }
	bool any_vaddr_invalid() const;

	const Mapping *find(std::uint64_t iova) const;
	/* What a device sees at an address: frame_none where nothing is mapped. */
	FrameId frame_at(std::uint64_t iova) const;

	/* Why a MAP_DMA must fail before anything is pinned; 0 if it gets that far. */
	int check_map(const MapArgs &args) const;
	/* For MAP_DMA with FLAG_VADDR: the mapping whose owner may have to change. */
	int check_remap(const MapArgs &args) const;
	void add(Mapping mapping);
	void remap(std::uint64_t iova, int owner);

	/* The answer to UNMAP_DMA, and what it takes. */
	int check_unmap(const UnmapArgs &args, const BitmapArgs &bitmap,
		std::vector<std::uint64_t> &taken) const;
	Mapping take(std::uint64_t iova);
	void invalidate(std::uint64_t iova);

	int check_dirty_flags(std::uint32_t argsz, std::uint32_t flags) const;
	void set_dirty(bool on) { dirty_ = on; }
	int check_dirty_get(std::uint64_t iova, std::uint64_t size, const BitmapArgs &bitmap) const;

	/*
	 * What reporting these mappings makes of a user's bitmap. known: the bits that
	 * the stock driver gets right, too; it leaves others of itself behind the end
	 * of a mapping.
	 */
	void report(const std::vector<std::uint64_t> &mappings, std::uint64_t base,
		std::vector<std::uint64_t> &bits, std::vector<std::uint64_t> &known) const;
	std::vector<std::uint64_t> within(std::uint64_t first, std::uint64_t last) const;

	/* A process is gone: what it mapped stays, and is charged to nobody. */
	void owner_died(int owner);
	std::int64_t charged(int owner) const;

private:
	const Mapping *overlap(std::uint64_t first, std::uint64_t last) const;
	bool cuts(std::uint64_t first, std::uint64_t last) const;
	bool valid(std::uint64_t first, std::uint64_t last) const;
	int check_bitmap(const BitmapArgs &bitmap, std::uint64_t size) const;
	bool faults(const std::vector<std::uint64_t> &mappings, std::uint64_t base,
		const BitmapArgs &bitmap) const;

	bool active_ = false;
	bool v2_ = false;
	bool dirty_ = false;
	std::int64_t avail_ = 0;
	std::vector<IovaRange> ranges_;
	Maps maps_;
	std::deque<Ghost> ghosts_;
};

} // namespace selftest
