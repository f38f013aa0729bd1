// SPDX-License-Identifier: GPL-2.0-only
/*
 * The model of a container.
 *
 * All devices of these containers are behind an IOMMU and never pin by themselves, so
 * everything that is mapped is dirty whenever somebody asks. (Those of FuzzEmulated are
 * not.)
 */
#include "fuzz_model.hpp"
#include "proc.hpp"

#include <bit>
#include <cerrno>
#include <cstddef>

namespace selftest
{

static constexpr std::size_t ghosts_kept = 64;
static constexpr std::uint64_t bitmap_bytes_max = 256 * mib;
/* The first address that no user pointer may reach. */
static constexpr std::uint64_t user_end = 0x7ffffffff000;

static bool odd(std::uint64_t value)
{
	return value % page;
}

void ContainerModel::begin(unsigned long type, std::int64_t avail, std::vector<IovaRange> ranges)
{
	active_ = true;
	v2_ = type != VFIO_TYPE1_IOMMU;
	dirty_ = false;
	avail_ = avail;
	ranges_ = std::move(ranges);
}

std::vector<Mapping> ContainerModel::end()
{
	std::vector<Mapping> gone;

	while (!maps_.empty())
		gone.push_back(take(maps_.begin()->first));
	active_ = false;
	ghosts_.clear();
	return gone;
}

bool ContainerModel::any_vaddr_invalid() const
{
	return std::ranges::any_of(maps_, [](const auto &m) { return m.second.vaddr_invalid; });
}

const Mapping *ContainerModel::overlap(std::uint64_t first, std::uint64_t last) const
{
	auto it = maps_.upper_bound(last);

	if (it == maps_.begin())
		return nullptr;
	--it;
	return it->second.last() >= first ? &it->second : nullptr;
}

const Mapping *ContainerModel::find(std::uint64_t iova) const
{
	return overlap(iova, iova);
}

FrameId ContainerModel::frame_at(std::uint64_t iova) const
{
	const Mapping *mapping = find(iova);

	return mapping ? mapping->frames[(iova - mapping->iova) / page] : frame_none;
}

/* Does the range cut a mapping at either end? */
bool ContainerModel::cuts(std::uint64_t first, std::uint64_t last) const
{
	const Mapping *at_first = find(first);
	const Mapping *at_last = find(last);

	return (at_first && at_first->iova != first) || (at_last && at_last->last() != last);
}

bool ContainerModel::valid(std::uint64_t first, std::uint64_t last) const
{
	return std::ranges::any_of(
		ranges_, [&](const IovaRange &r) { return first >= r.start && last <= r.end; });
}

std::vector<std::uint64_t> ContainerModel::within(std::uint64_t first, std::uint64_t last) const
{
	std::vector<std::uint64_t> list;

	for (auto it = maps_.lower_bound(first); it != maps_.end() && it->first <= last; ++it)
		list.push_back(it->first);
	return list;
}

/* ---- MAP_DMA ---- */

int ContainerModel::check_map(const MapArgs &args) const
{
	const bool vaddr = args.flags & VFIO_DMA_MAP_FLAG_VADDR;

	if (!active_)
		return EINVAL;
	if (args.argsz < offsetof(vfio_iommu_type1_dma_map, size) + sizeof(args.size))
		return EINVAL;
	if (args.flags & ~(map_rw | VFIO_DMA_MAP_FLAG_VADDR))
		return EINVAL;
	if (args.size &&
		(args.iova + args.size - 1 < args.iova || args.vaddr + args.size - 1 < args.vaddr))
		return error_of_wrapping();
	if (static_cast<bool>(args.flags & map_rw) == vaddr)
		return EINVAL;
	if (!args.size || odd(args.size) || odd(args.iova) || odd(args.vaddr))
		return EINVAL;
	if (vaddr)
		return check_remap(args);
	if (overlap(args.iova, args.iova + args.size - 1))
		return EEXIST;
	if (!avail_)
		return ENOSPC;
	if (!valid(args.iova, args.iova + args.size - 1))
		return EINVAL;
	return 0;
}

int ContainerModel::check_remap(const MapArgs &args) const
{
	/* Any of the mappings in a range that is not one may be looked at: the same error. */
	const Mapping *mapping = overlap(args.iova, args.iova + args.size - 1);

	if (!mapping)
		return ENOENT;
	return mapping->iova == args.iova && mapping->size == args.size && mapping->vaddr_invalid
		       ? 0
		       : EINVAL;
}

void ContainerModel::add(Mapping mapping)
{
	avail_--;
	maps_[mapping.iova] = std::move(mapping);
}

void ContainerModel::remap(std::uint64_t iova, int owner)
{
	Mapping &mapping = maps_.at(iova);

	mapping.owner = owner;
	mapping.vaddr_invalid = false;
}

/* ---- UNMAP_DMA ---- */

int ContainerModel::check_bitmap(const BitmapArgs &bitmap, std::uint64_t size) const
{
	if (bitmap.size > user_end || bitmap.data > user_end - bitmap.size)
		return EINVAL;
	const std::uint64_t pages = size >> std::countr_zero(bitmap.pgsize);

	if (!pages || !bitmap.size || bitmap.size > bitmap_bytes_max ||
		bitmap.size < (pages + 63) / 64 * 8)
		return EINVAL;
	return 0;
}

/* Would the report of these mappings leave the memory that can be written? */
bool ContainerModel::faults(const std::vector<std::uint64_t> &mappings, std::uint64_t base,
	const BitmapArgs &bitmap) const
{
	return std::ranges::any_of(mappings, [&](std::uint64_t iova) {
		const std::uint64_t bits = (iova - base) / page + maps_.at(iova).pages();

		return (bits + 63) / 64 * 8 > bitmap.room;
	});
}

int ContainerModel::check_unmap(
	const UnmapArgs &args, const BitmapArgs &bitmap, std::vector<std::uint64_t> &taken) const
{
	constexpr std::uint32_t known = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP |
					VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR;
	const std::uint64_t last = args.all() ? UINT64_MAX : args.iova + args.size - 1;

	if (!active_)
		return EINVAL;
	if (args.argsz < sizeof(vfio_iommu_type1_dma_unmap) || args.flags & ~known)
		return EINVAL;
	if (args.report()) {
		if (args.all() || args.vaddr() || args.argsz < sizeof(UnmapDirtyCall))
			return EINVAL;
		if (const int err = check_bitmap(bitmap, args.size))
			return err;
	}
	if (odd(args.iova))
		return EINVAL;
	if (args.all() && (args.iova || args.size))
		return EINVAL;
	if (!args.all() && (!args.size || odd(args.size)))
		return EINVAL;
	if (last < args.iova)
		return error_of_wrapping();
	if (args.report() && (!dirty_ || bitmap.pgsize != page))
		return EINVAL;
	if (v2_ && !args.all() && cuts(args.iova, last))
		return EINVAL;

	/* The first version: nothing at all if the range begins within a mapping. */
	const Mapping *at_first = find(args.iova);

	if (at_first && at_first->iova != args.iova)
		return 0;
	taken = within(args.iova, last);
	if (args.vaddr() && std::ranges::any_of(taken, [&](std::uint64_t iova) {
		    return maps_.at(iova).vaddr_invalid;
	    })) {
		taken.clear();
		return EINVAL;
	}
	if (args.report() && faults(taken, args.iova, bitmap)) {
		taken.clear();
		return EFAULT;
	}
	return 0;
}

Mapping ContainerModel::take(std::uint64_t iova)
{
	const auto it = maps_.find(iova);
	Mapping mapping = std::move(it->second);

	maps_.erase(it);
	avail_++;
	for (const std::size_t i : {std::size_t{0}, mapping.pages() / 2, mapping.pages() - 1})
		ghosts_.push_back({mapping.iova + i * page, mapping.frames[i]});
	while (ghosts_.size() > ghosts_kept)
		ghosts_.pop_front();
	return mapping;
}

void ContainerModel::invalidate(std::uint64_t iova)
{
	maps_.at(iova).vaddr_invalid = true;
}

/* ---- DIRTY_PAGES ---- */

int ContainerModel::check_dirty_flags(std::uint32_t argsz, std::uint32_t flags) const
{
	constexpr std::uint32_t header = sizeof(vfio_iommu_type1_dirty_bitmap);

	if (!active_)
		return EINVAL;
	if (!v2_)
		return EACCES;
	if (argsz < header)
		return EINVAL;
	switch (flags) {
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
		return 0;
	case VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
		return argsz < sizeof(DirtyGetCall) ? EINVAL : 0;
	default:
		return EINVAL;
	}
}

int ContainerModel::check_dirty_get(
	std::uint64_t iova, std::uint64_t size, const BitmapArgs &bitmap) const
{
	if (size && iova + size - 1 < iova)
		return error_of_wrapping();
	if (iova + size < iova)
		return EINVAL;
	if (const int err = check_bitmap(bitmap, size))
		return err;
	if (bitmap.pgsize != page || odd(iova) || !size || odd(size) || !dirty_)
		return EINVAL;
	if (cuts(iova, iova + size - 1))
		return EINVAL;
	return faults(within(iova, iova + size - 1), iova, bitmap) ? EFAULT : 0;
}

static void set_bits(
	std::vector<std::uint64_t> &words, std::uint64_t first, std::uint64_t count, bool on)
{
	for (std::uint64_t i = first; i < first + count; i++) {
		const std::uint64_t bit = 1ULL << (i % 64);

		words[i / 64] = on ? words[i / 64] | bit : words[i / 64] & ~bit;
	}
}

void ContainerModel::report(const std::vector<std::uint64_t> &mappings, std::uint64_t base,
	std::vector<std::uint64_t> &bits, std::vector<std::uint64_t> &known) const
{
	known.assign(bits.size(), ~0ULL);
	for (const std::uint64_t iova : mappings) {
		const std::uint64_t first = (iova - base) / page;
		const std::uint64_t pages = maps_.at(iova).pages();
		const std::uint64_t end = first + pages;
		const std::uint64_t after = (end + 63) / 64 * 64 - end;

		set_bits(bits, first, pages, true);
		set_bits(known, first, pages, true);
		/* Whole words are written, and so what is behind is cleared; but what was set
		 * in the first word stays if the mapping does not begin there. */
		if (first % 64 == 0 || first / 64 != (end - 1) / 64)
			set_bits(bits, end, after, false);
		set_bits(known, end, after, false);
	}
}

/* ---- processes ---- */

void ContainerModel::owner_died(int owner)
{
	for (auto &[iova, mapping] : maps_)
		if (mapping.owner == owner)
			mapping.owner = owner_gone;
}

std::int64_t ContainerModel::charged(int owner) const
{
	std::int64_t sum = 0;

	for (const auto &[iova, mapping] : maps_)
		if (mapping.owner == owner)
			sum += mapping.charged;
	return sum;
}

} // namespace selftest
