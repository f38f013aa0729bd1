// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's memory, and its model of it.
 *
 * What the model has to know of Linux: a private anonymous page that was never
 * written is the zero page to who reads it, also to a device that pins it for
 * reading, and is another page once it is written. Shared memory and huge pages
 * have a page as soon as anybody looks. Pinned pages are not shared by fork().
 */
#include "fuzz_arena.hpp"

#include "proc.hpp"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

namespace selftest
{

static constexpr int rw = PROT_READ | PROT_WRITE;
static constexpr int anon = MAP_PRIVATE | MAP_ANONYMOUS;
static constexpr std::size_t bar_size = 256; /* pages of an edu's BAR */

Arena::Arena(std::size_t slots, const Device *bar, Random &rng)
	: memory_(Memory::reserve(slots * huge_2m, huge_2m)), bar_(bar), slots_(slots),
	  spots_(slots * slot_pages)
{
	/* The special frames, so that the identifiers of the others are indices. */
	frames_.resize(frame_unknown + 1);
	for (std::size_t i = 0; i < slots; i++)
		renew(i, rng);
}

bool Arena::is_bar(std::size_t at) const
{
	return at % slot_pages < slots_[at / slot_pages].bar_pages;
}

bool Arena::is_huge(std::size_t at) const
{
	const Kind kind = slots_[at / slot_pages].kind;

	return kind == Kind::hugetlb || kind == Kind::memfd_2m;
}

bool Arena::is_shared(std::size_t at) const
{
	const Kind kind = slots_[at / slot_pages].kind;

	return kind == Kind::memfd || kind == Kind::memfd_2m || kind == Kind::file ||
	       kind == Kind::shared;
}

std::string Arena::describe(std::size_t at) const
{
	static const char *const names[] = {
		"4k", "thp", "2m", "memfd", "memfd2m", "file", "shared", "bar"};

	return std::to_string(at / slot_pages) + "+" + std::to_string(at % slot_pages) + "(" +
	       names[static_cast<int>(slots_[at / slot_pages].kind)] + ")";
}

/* ---- pinning ---- */

FrameId Arena::fault_in(std::size_t at)
{
	const std::size_t first = is_huge(at) ? at / slot_pages * slot_pages : at;
	const std::size_t count = is_huge(at) ? slot_pages : 1;

	if (spots_[at].frame != frame_none)
		return spots_[at].frame;
	for (std::size_t i = first; i < first + count; i++) {
		spots_[i].frame = static_cast<FrameId>(frames_.size());
		spots_[i].maybe = false;
		frames_.push_back({0, static_cast<std::uint32_t>(i)});
	}
	return spots_[at].frame;
}

PinnedPage Arena::pin(std::size_t at, bool for_write, bool commit)
{
	const Spot &spot = spots_[at];
	const Kind kind = slots_[at / slot_pages].kind;

	if (!spot.mapped || !(spot.prot & PROT_READ) || (for_write && !(spot.prot & PROT_WRITE)))
		return {};
	if (is_bar(at))
		return bar_enabled_ ? PinnedPage{.frame = frame_bar} : PinnedPage{};
	if (spot.frame == frame_none && !for_write) {
		if ((kind == Kind::small || kind == Kind::bar) && !spot.maybe)
			return {.frame = frame_zero};
		/* The huge page around it may be there, or be the huge page of zeroes, or
		 * there was no memory for one. */
		if (kind == Kind::thp || spot.maybe)
			return {.frame = frame_unknown, .unsure = true};
	}
	return {.frame = commit ? fault_in(at) : frame_unknown, .charged = true};
}

void Arena::pin_failed(std::size_t first, std::size_t count)
{
	for (std::size_t i = first; i < first + count; i++)
		spots_[i].maybe |= spots_[i].frame == frame_none;
}

/* ---- changes ---- */

Arena::Kind Arena::choose_kind(Random &rng) const
{
	static constexpr Kind kinds[] = {Kind::small, Kind::small, Kind::thp, Kind::thp, Kind::thp,
		Kind::hugetlb, Kind::hugetlb, Kind::memfd, Kind::memfd_2m, Kind::file, Kind::shared,
		Kind::bar};
	const Kind kind = rng.pick(kinds);

	if (kind == Kind::bar && !bar_)
		return Kind::small;
	if (kind == Kind::hugetlb || kind == Kind::memfd_2m)
		/* One for this slot, and copies for children. */
		if (free_huge_pages(huge_2m).value_or(0) < 8)
			return Kind::thp;
	return kind;
}

static int temporary_file()
{
	const int fd = ::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 || ::ftruncate(fd, huge_2m))
		throw std::runtime_error("a temporary file in /tmp");
	return fd;
}

void Arena::place(std::size_t slot, int prot)
{
	const std::size_t at = slot * huge_2m;
	const Kind kind = slots_[slot].kind;
	Fd file;

	if (kind == Kind::memfd)
		file = Fd(make_memfd(huge_2m));
	if (kind == Kind::memfd_2m)
		file = Fd(make_memfd(huge_2m, MFD_HUGETLB | (21U << MFD_HUGE_SHIFT)));
	if (kind == Kind::file)
		file = Fd(temporary_file());

	if (file.valid())
		memory_.place(at, huge_2m, prot, MAP_SHARED, file.get());
	else if (kind == Kind::shared)
		memory_.place(at, huge_2m, prot, MAP_SHARED | MAP_ANONYMOUS);
	else if (kind == Kind::hugetlb)
		memory_.place(at, huge_2m, prot, anon | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT));
	else
		memory_.place(at, huge_2m, prot, anon);
	if (kind == Kind::thp)
		::madvise(memory_.at(at), huge_2m, MADV_HUGEPAGE);
	if (kind == Kind::small || kind == Kind::bar)
		::madvise(memory_.at(at), huge_2m, MADV_NOHUGEPAGE);
}

void Arena::renew(std::size_t slot, Random &rng)
{
	const int prot = rng.chance(90) ? rw : PROT_READ;
	Slot &s = slots_[slot];

	memory_.place(slot * huge_2m, huge_2m, PROT_NONE, anon | MAP_NORESERVE);
	s.kind = choose_kind(rng);
	s.bar_pages = s.kind == Kind::bar ? rng.between(1, bar_size) : 0;
	place(slot, prot);
	if (s.bar_pages)
		if (!bar_->map_region_at(VFIO_PCI_BAR0_REGION_INDEX, prot,
				 memory_.at(slot * huge_2m), s.bar_pages * page)
				.ok())
			throw std::runtime_error("mmap of a BAR");
	for (std::size_t i = 0; i < slot_pages; i++)
		spots_[slot * slot_pages + i] = {frame_none, prot, true};
	/* Half of them are populated from the start. */
	if (prot == rw && rng.chance(50))
		for (std::size_t i = s.bar_pages; i < slot_pages; i++)
			touch(slot * slot_pages + i);
}

void Arena::touch(std::size_t at)
{
	const Spot &spot = spots_[at];

	if (!spot.mapped || spot.prot != rw || is_bar(at))
		return;
	const FrameId frame = fault_in(at);

	frames_[frame].tag = fresh_tag();
	fill(memory_.bytes(at * page, tag_bytes), frames_[frame].tag);
}

/* Huge pages are changed as a whole. */
void Arena::widen(std::size_t &first, std::size_t &count) const
{
	std::size_t end = first + count;

	if (is_huge(first))
		first = first / slot_pages * slot_pages;
	if (is_huge(end - 1))
		end = (end - 1) / slot_pages * slot_pages + slot_pages;
	count = end - first;
}

/* The pages of a range that are in one slot and no BAR. */
void Arena::tidy_bar(std::size_t &first, std::size_t &count) const
{
	const std::size_t slot = first / slot_pages;
	const std::size_t end = std::min(first + count, (slot + 1) * slot_pages);

	first = std::max(first, slot * slot_pages + slots_[slot].bar_pages);
	count = end > first ? end - first : 0;
	if (count)
		widen(first, count);
}

void Arena::dontneed(std::size_t first, std::size_t count)
{
	tidy_bar(first, count);
	if (!count || ::madvise(memory_.at(first * page), count * page, MADV_DONTNEED))
		return;
	for (std::size_t i = first; i < first + count; i++)
		if (!is_shared(i)) {
			spots_[i].frame = frame_none;
			spots_[i].maybe = false;
		}
}

void Arena::remove(std::size_t first, std::size_t count)
{
	tidy_bar(first, count);
	for (std::size_t i = first; i < first + count; i++)
		if (!spots_[i].mapped || spots_[i].prot != rw)
			return;
	if (!count || !is_shared(first) ||
		::madvise(memory_.at(first * page), count * page, MADV_REMOVE))
		return;
	for (std::size_t i = first; i < first + count; i++)
		spots_[i].frame = frame_none;
}

void Arena::unmap(std::size_t first, std::size_t count)
{
	widen(first, count);
	memory_.place(first * page, count * page, PROT_NONE, anon | MAP_NORESERVE);
	for (std::size_t i = first; i < first + count; i++)
		spots_[i] = {};
}

void Arena::open_holes(std::size_t first, std::size_t count)
{
	for (std::size_t i = first; i < first + count; i++)
		if (!spots_[i].mapped)
			memory_.punch(i * page, page);
}

void Arena::close_holes(std::size_t first, std::size_t count)
{
	for (std::size_t i = first; i < first + count; i++)
		if (!spots_[i].mapped)
			memory_.place(i * page, page, PROT_NONE, anon | MAP_NORESERVE);
}

void Arena::protect(std::size_t first, std::size_t count, int prot)
{
	tidy_bar(first, count);
	for (std::size_t i = first; i < first + count; i++)
		if (!spots_[i].mapped)
			return;
	if (!count || ::mprotect(memory_.at(first * page), count * page, prot))
		return;
	for (std::size_t i = first; i < first + count; i++)
		spots_[i].prot = prot;
}

void Arena::fork_and_write(Random &rng) const
{
	std::vector<std::byte *> places;

	for (int i = 0; i < 64; i++) {
		const std::size_t at = rng.below(pages());

		if (spots_[at].prot == rw && !is_shared(at) && !is_huge(at) && !is_bar(at))
			places.push_back(memory_.at(at * page));
	}
	const pid_t pid = ::fork();

	if (!pid) {
		for (std::byte *place : places)
			std::memset(place, 0xee, tag_bytes);
		::_exit(0);
	}
	if (pid > 0)
		::waitpid(pid, nullptr, 0);
}

void Arena::churn(std::size_t count)
{
	const Memory fresh = Memory::map(count * page);

	for (std::size_t i = 0; i < count; i++)
		std::memset(fresh.at(i * page), 0xdd, tag_bytes);
}

/* ---- contents ---- */

static bool has_tag(std::span<const std::byte> bytes, std::uint32_t tag)
{
	if (tag)
		return filled(bytes, tag);
	return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

std::optional<std::string> Arena::wrong(std::size_t at) const
{
	const Spot &spot = spots_[at];

	if (!spot.mapped || !(spot.prot & PROT_READ) || is_bar(at))
		return std::nullopt;
	const std::uint32_t tag = frames_[spot.frame].tag;

	if (has_tag(memory_.bytes(at * page, tag_bytes), tag))
		return std::nullopt;
	for (std::uint32_t other = 0; other <= last_tag_; other++)
		if (has_tag(memory_.bytes(at * page, tag_bytes), other))
			return "page " + describe(at) + " has the contents " +
			       std::to_string(other) + ", must have " + std::to_string(tag);
	return "page " + describe(at) + " has strange contents, must have " + std::to_string(tag);
}

std::optional<std::string> Arena::wrong_anywhere() const
{
	for (std::size_t at = 0; at < pages(); at++)
		if (spots_[at].frame != frame_none)
			if (auto text = wrong(at))
				return text;
	return std::nullopt;
}

std::optional<std::size_t> Arena::readable_page(Random &rng) const
{
	for (int i = 0; i < 32; i++) {
		const std::size_t at = rng.below(pages());

		if (spots_[at].mapped && spots_[at].prot & PROT_READ && !is_bar(at))
			return at;
	}
	return std::nullopt;
}

FrameId Arena::foreign_frame(std::uint32_t tag)
{
	frames_.push_back({tag, static_cast<std::uint32_t>(-1)});
	return static_cast<FrameId>(frames_.size() - 1);
}

std::optional<std::size_t> Arena::home(FrameId frame) const
{
	if (frame <= frame_unknown || frames_[frame].page == static_cast<std::uint32_t>(-1))
		return std::nullopt;
	const std::size_t at = frames_[frame].page;

	if (spots_[at].frame != frame || !(spots_[at].prot & PROT_READ))
		return std::nullopt;
	return at;
}

} // namespace selftest
