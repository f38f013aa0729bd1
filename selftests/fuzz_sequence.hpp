/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A random sequence of steps by one thread, and the check of each.
 *
 * With everything for itself (the default) a sequence opens and closes
 * containers, moves groups, changes limits, and knows every page that is charged.
 * As a part of something bigger (Share) it has one container that others use,
 * too, and a range of its addresses for itself.
 */
#pragma once

#include "edu.hpp"
#include "fuzz_agent.hpp"
#include "fuzz_arena.hpp"
#include "fuzz_model.hpp"
#include "fuzz_random.hpp"
#include "fuzz_teller.hpp"
#include "mock/mock_rig.hpp"
#include "vfio.hpp"

#include <array>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace selftest
{

struct FuzzContainer {
	Container handle; /* closed when it is not valid */
	ContainerModel model;
	std::set<int> groups;

	bool open() const { return handle.fd() >= 0; }
};
using FuzzContainerPtr = std::shared_ptr<FuzzContainer>;

struct FuzzGroup {
	int number = -1;
	std::string bdf;
	Group handle;
	/* Its descriptor is closed, but the device's keeps it. */
	bool lingering = false;
	FuzzContainerPtr in;
	std::optional<Device> device;
	std::optional<Edu> engine;

	bool open() const { return handle.fd() >= 0; }
};

/* What a sequence has that is not alone. */
struct FuzzShare {
	FuzzContainerPtr container; /* its model is for the addresses below only */
	std::uint64_t window = 0;   /* first address */
	bool limited = false;	    /* RLIMIT_MEMLOCK may refuse any map */
	std::string bdf;	    /* a device that stays in the container */
};

class FuzzSequence : public FuzzTeller
{
public:
	explicit FuzzSequence(std::uint64_t seed, std::optional<FuzzShare> share = {});
	~FuzzSequence();

	/* Throws FuzzMismatch. */
	void step(std::uint64_t number);
	/* Take everything down; nothing may be left. */
	void finish();
	/* Put back what was changed for the whole process and the driver. */
	void restore();

	/* Pages that must be charged to this process. */
	std::int64_t charged() const;

	static constexpr std::uint64_t window_size = 64 * mib;
	static constexpr std::uint64_t first_window = 0x1000000;

private:
	struct Step {
		const char *name;
		unsigned weight;
		bool (FuzzSequence::*run)(); /* false: not possible now */
		bool shared;		     /* for a share, too */
	};
	static const Step steps[];

	/* fuzz_sequence.cpp: choosing, comparing, bookkeeping */
	const Step &choose();
	FuzzContainerPtr any_container();
	FuzzContainerPtr active_container();
	std::vector<FuzzContainerPtr> all_containers() const;
	const Mapping *any_mapping(const FuzzContainer &c);
	std::uint64_t choose_iova(const FuzzContainer &c, std::uint64_t vaddr, std::uint64_t pages);
	std::string show(const FuzzContainer &c) const;
	void expect(const std::string &call, const Result &result, const Answers &answers);
	void expect_equal(
		const std::string &what, std::int64_t actual, std::int64_t expected) const;
	void check();
	void check_avail(const FuzzContainer &c) const;
	std::int64_t room() const;

	/* fuzz_steps_map.cpp */
	struct Span { /* of the arena */
		std::size_t at = 0;
		std::size_t pages = 0;
	};
	Span choose_span();
	Answers answers_for_pins(const Span &span, std::uint32_t flags, std::int64_t &charge,
		std::int64_t &unsure) const;
	void do_map(FuzzContainer &c, const MapArgs &args, const Span *span);
	bool map();
	bool map_bad();
	bool remap();
	void do_unmap(FuzzContainer &c, const UnmapArgs &args, BitmapArgs bitmap);
	BitmapArgs choose_bitmap(std::uint64_t size);
	void fill_bitmap(const BitmapArgs &bitmap);
	void check_bitmap(const FuzzContainer &c, const std::vector<std::uint64_t> &mappings,
		std::uint64_t base, const BitmapArgs &bitmap);
	UnmapArgs choose_unmap(const FuzzContainer &c);
	UnmapArgs choose_dirty(const FuzzContainer &c);
	bool unmap();
	bool unmap_all();
	bool unmap_bad();
	bool unmap_dirty();
	bool invalidate();
	bool dirty_switch();
	bool dirty_get();
	bool dirty_bad();

	/* fuzz_pages.cpp: what the IOMMU and the pages say, if the test module is there */
	std::optional<std::string> translator(const FuzzContainer &c) const;
	void check_translation(
		const FuzzContainer &c, std::uint64_t iova, std::uint64_t size) const;
	void check_pins(const FuzzContainer &c, const Mapping &mapping);
	void learn_pages(FuzzContainer &c, Mapping &mapping, const Span &span);
	void learn_pages(FuzzContainer &c, Mapping &mapping);
	void check_pages(const FuzzContainer &c);

	/* fuzz_steps_memory.cpp */
	Span any_span(std::size_t most);
	bool touch();
	bool verify();
	bool dontneed();
	bool remove();
	bool munmap();
	bool renew();
	bool protect();
	bool fork();
	bool bar_switch();
	bool dma();
	struct Place {
		std::uint64_t iova = 0;
		FrameId frame = frame_none; /* what is, or was there */
		bool reachable = false;
	};
	Place choose_source(const FuzzContainer &c);
	Place unmapped_place(const FuzzContainer &c);
	Place choose_target(const FuzzContainer &c, bool must_be_seen);

	/* fuzz_steps_group.cpp */
	bool info();
	bool extension();
	bool bad_call();
	bool progress();
	bool open_container();
	bool close_container();
	bool open_group();
	bool close_group();
	bool attach();
	bool detach();
	bool set_iommu();
	bool do_set_iommu(FuzzContainer &c, unsigned long type);
	bool do_attach(int group, const FuzzContainerPtr &c);
	bool open_device();
	bool close_device();
	void left_container(FuzzGroup &group, int index);
	bool limit();
	bool capability();
	void set_parameter(const std::string &name, const std::string &value);
	bool parameters();
	bool agent_start();
	bool agent_map();
	bool agent_unmap();
	bool agent_remap();
	bool agent_kill();

	std::uint64_t seed_;
	Random rng_;
	std::optional<FuzzShare> share_;
	std::optional<Mock> mock_;

	/* The device that lends its BAR stays in a container of its own. */
	struct Lender {
		Container container;
		Group group;
		std::optional<Device> device;
	};
	std::optional<Lender> lender_;
	std::unique_ptr<Arena> arena_;
	Memory bitmap_;
	std::vector<std::uint64_t> bitmap_before_;

	std::vector<FuzzContainerPtr> containers_; /* with a descriptor, or to get one */
	std::vector<FuzzGroup> groups_;
	std::string module_; /* that answers, where that is known */
	std::map<std::string, std::string> parameters_before_;

	bool cap_ = true;
	std::int64_t limit_ = -1; /* pages; -1: none */
	std::int64_t entry_limit_ = 65535;

	std::unique_ptr<Agent> agent_;
	int agent_owner_ = 0;
	FuzzContainerPtr agent_container_;
	std::vector<FrameId> agent_frames_;

	std::int64_t locked_before_ = 0;
};

} // namespace selftest
