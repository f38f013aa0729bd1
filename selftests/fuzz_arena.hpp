/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The memory that a fuzzed sequence maps, with a model of it.
 *
 * An arena is one range of addresses, made of slots of 2 MiB with a kind of
 * memory each. The model knows for each page whether it may be pinned, and which
 * frame is there. A frame stands for a page of physical memory and has a tag,
 * which says what its first bytes are. A mapping remembers the frames that were
 * there when it was made: that is what a device must see, whatever the process
 * does to its addresses later.
 */
#pragma once

#include "fuzz_random.hpp"
#include "memory.hpp"
#include "vfio.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace selftest
{

using FrameId = std::uint32_t;

/* Not frames of the arena's own. */
inline constexpr FrameId frame_none = 0;    /* nothing there yet */
inline constexpr FrameId frame_zero = 1;    /* the kernel's page of zeroes */
inline constexpr FrameId frame_bar = 2;	    /* a device's registers */
inline constexpr FrameId frame_unknown = 3; /* a page of zeroes, or one of its own */

inline constexpr std::size_t slot_pages = huge_2m / page;
/* Bytes at the start of a page that its tag decides. */
inline constexpr std::size_t tag_bytes = 256;

/* What became of pinning one page. */
struct PinnedPage {
	FrameId frame = frame_none; /* frame_none: it cannot be pinned */
	bool charged = false;
	bool unsure = false; /* it may be charged, or not */
};

struct Frame {
	std::uint32_t tag;  /* 0: zeroes */
	std::uint32_t page; /* of the arena, where it was made */
};

class Arena
{
public:
	/* bar: the device that lends its BAR, or none. Slots get kinds that rng chooses. */
	Arena(std::size_t slots, const Device *bar, Random &rng);

	std::size_t pages() const { return slots_.size() * slot_pages; }
	std::uint64_t address(std::size_t at) const { return memory_.address() + at * page; }
	std::string describe(std::size_t at) const;

	/* Would the page be pinned, and what is then there? With for_write, as for a mapping
	 * that devices may write to. commit: it is pinned, and so faulted in. */
	PinnedPage pin(std::size_t at, bool for_write, bool commit);
	/* A map failed after it had pinned for writing some of what is not there yet. */
	void pin_failed(std::size_t first, std::size_t count);

	/* Changes of the memory and of the model. */
	void renew(std::size_t slot, Random &rng);
	void touch(std::size_t at);
	void dontneed(std::size_t first, std::size_t count);
	void remove(std::size_t first, std::size_t count);
	void unmap(std::size_t first, std::size_t count);
	void protect(std::size_t first, std::size_t count, int prot);
	/* Another process writes to its copies of private pages, and ends. */
	void fork_and_write(Random &rng) const;
	/* Writes to fresh memory and gives it back: where freed pages would show. */
	static void churn(std::size_t count);

	/*
	 * What was unmapped is reserved, so that nothing else gets there. It is a hole
	 * for the time between these two, in which nobody may map memory.
	 */
	void open_holes(std::size_t first, std::size_t count);
	void close_holes(std::size_t first, std::size_t count);

	void set_bar_enabled(bool on) { bar_enabled_ = on; }

	/* What is in a page's first bytes is not what it must be: text, or nothing. */
	std::optional<std::string> wrong(std::size_t at) const;
	/* The same for all pages that are there. */
	std::optional<std::string> wrong_anywhere() const;
	/* A random page that the CPU can read, if some tries find one. */
	std::optional<std::size_t> readable_page(Random &rng) const;

	std::uint32_t tag(FrameId frame) const { return frames_[frame].tag; }
	void set_tag(FrameId frame, std::uint32_t tag) { frames_[frame].tag = tag; }
	std::uint32_t fresh_tag() { return ++last_tag_; }
	/* Memory of another process, which only devices reach from here. */
	FrameId foreign_frame(std::uint32_t tag);
	/* The page where the CPU sees a frame, while it does. */
	std::optional<std::size_t> home(FrameId frame) const;
	const std::byte *bytes(std::size_t at) const { return memory_.at(at * page); }

private:
	enum class Kind { small, thp, hugetlb, memfd, memfd_2m, file, shared, bar };
	struct Slot {
		Kind kind = Kind::small;
		std::size_t bar_pages = 0;
	};
	struct Spot { /* a page of the address range */
		FrameId frame = frame_none;
		int prot = PROT_NONE;
		bool mapped = false; /* else a hole */
		bool maybe = false;  /* a map that failed may have faulted it in */
	};

	bool is_shared(std::size_t at) const;
	bool is_huge(std::size_t at) const;
	bool is_bar(std::size_t at) const;
	FrameId fault_in(std::size_t at);
	Kind choose_kind(Random &rng) const;
	void place(std::size_t slot, int prot);
	void widen(std::size_t &first, std::size_t &count) const;
	void tidy_bar(std::size_t &first, std::size_t &count) const;

	Memory memory_;
	const Device *bar_;
	bool bar_enabled_ = true;
	std::vector<Slot> slots_;
	std::vector<Spot> spots_;
	std::vector<Frame> frames_;
	std::uint32_t last_tag_ = 0;
};

} // namespace selftest
