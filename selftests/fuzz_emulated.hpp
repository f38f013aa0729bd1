/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A random sequence of steps in a container whose devices are all emulated: nothing is
 * pinned by MAP_DMA, and dirty is what devices have pinned or written to. The devices
 * are the test module's.
 */
#pragma once

#include "fuzz_random.hpp"
#include "fuzz_teller.hpp"
#include "mock/mock_rig.hpp"
#include "vfio.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace selftest
{

class FuzzEmulated : public FuzzTeller
{
public:
	/* Nothing without the test module. */
	static std::optional<FuzzEmulated> make(std::uint64_t seed);

	/* Throws FuzzMismatch. */
	void step(std::uint64_t number);
	/* Take everything down; nothing may be left. */
	void finish();
	void restore() {}

private:
	/* Of the sequence's memory, mapped. */
	struct Range {
		std::uint64_t at; /* first page of the memory */
		std::uint64_t pages;
		std::uint32_t flags;
		std::set<std::uint64_t> dirty{}; /* pages of the container */
	};
	struct Emulated {
		Group group;
		std::string name;
		std::optional<MockDevice> device;
		/* How often each page of the container is pinned. */
		std::map<std::uint64_t, unsigned> pins{};
	};
	struct Step {
		const char *name;
		unsigned weight;
		bool (FuzzEmulated::*run)();
	};
	using Ranges = std::map<std::uint64_t, Range>; /* by page of the container */

	static const Step steps[];

	FuzzEmulated(std::uint64_t seed, const Mock &mock);

	void expect(
		const std::string &call, const std::string &actual, const std::string &expected);
	void check();

	Range *find(std::uint64_t at);
	std::uint64_t memory_at(std::uint64_t at) const;
	Ranges::iterator any_range();
	std::uint64_t any_page();
	Emulated *any_device();
	std::size_t pinned() const;
	bool is_pinned(std::uint64_t at) const;
	void drop_pins(std::uint64_t first, std::uint64_t pages);
	void clean(std::uint64_t at, Range &range);
	void check_bits(
		std::uint64_t base, std::uint64_t at, const Range &range, bool others) const;
	std::string copied(std::uint64_t from, std::span<std::byte> data, bool write);

	bool map();
	bool unmap();
	bool unmap_dirty();
	bool pin();
	bool unpin();
	bool copy();
	bool use_page();
	bool dirty_switch();
	bool dirty_get();
	bool reopen();

	std::uint64_t seed_;
	Random rng_;

	Memory ram_;
	std::vector<std::byte> shadow_; /* what must be in it */
	std::vector<std::uint64_t> bits_;
	Container container_;
	std::array<Emulated, 2> devices_;
	Ranges ranges_;
	bool tracking_ = false;
	std::int64_t locked_before_ = 0;
};

} // namespace selftest
