// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's steps: the process changes its memory, and a device copies.
 */
#include "fuzz_sequence.hpp"

#include <algorithm>
#include <cstring>

namespace selftest
{

/* ---- memory ---- */

FuzzSequence::Span FuzzSequence::any_span(std::size_t most)
{
	const std::size_t pages = rng_.magnitude(most);

	return {rng_.below(arena_->pages() - pages + 1), pages};
}

bool FuzzSequence::touch()
{
	const auto [first, pages] = any_span(slot_pages);

	for (std::size_t at = first; at < first + pages; at++)
		arena_->touch(at);
	note(std::to_string(pages) + " from " + arena_->describe(first));
	return true;
}

bool FuzzSequence::verify()
{
	if (const auto text = arena_->wrong_anywhere())
		fail(*text);
	/* Also what nobody has written: the machine's page of zeroes is one of them. */
	for (int i = 0; i < 32; i++)
		if (const auto at = arena_->readable_page(rng_))
			if (const auto text = arena_->wrong(*at))
				fail(*text);
	for (const auto &c : containers_)
		check_pages(*c);
	note("");
	return true;
}

bool FuzzSequence::dontneed()
{
	const auto [first, pages] = any_span(slot_pages);

	arena_->dontneed(first, pages);
	Arena::churn(64);
	note(std::to_string(pages) + " from " + arena_->describe(first));
	return true;
}

bool FuzzSequence::remove()
{
	const auto [first, pages] = any_span(slot_pages);

	arena_->remove(first, pages);
	Arena::churn(64);
	note(std::to_string(pages) + " from " + arena_->describe(first));
	return true;
}

bool FuzzSequence::munmap()
{
	const auto [first, pages] = any_span(slot_pages / 4);

	note(std::to_string(pages) + " from " + arena_->describe(first));
	arena_->unmap(first, pages);
	Arena::churn(64);
	return true;
}

bool FuzzSequence::renew()
{
	const std::size_t slot = rng_.below(arena_->pages() / slot_pages);

	arena_->renew(slot, rng_);
	Arena::churn(64);
	note(arena_->describe(slot * slot_pages));
	return true;
}

bool FuzzSequence::protect()
{
	const auto [first, pages] = any_span(slot_pages);
	const int prot = rng_.one_of({PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE});

	arena_->protect(first, pages, prot);
	note(std::to_string(pages) + " from " + arena_->describe(first) + " " +
		std::to_string(prot));
	return true;
}

bool FuzzSequence::fork()
{
	arena_->fork_and_write(rng_);
	note("");
	return true;
}

/* A BAR whose device does not answer cannot be mapped. */
bool FuzzSequence::bar_switch()
{
	if (!lender_)
		return false;
	const bool on = rng_.chance(70);

	lender_->device->set_memory_enabled(on);
	arena_->set_bar_enabled(on);
	note(on ? "on" : "off");
	return true;
}

/* ---- devices ---- */

/* Something to read: mapped, mapped before, or never. */
FuzzSequence::Place FuzzSequence::choose_source(const FuzzContainer &c)
{
	Place place;

	for (int tries = 0; tries < 16; tries++) {
		const Mapping *mapping = any_mapping(c);

		if (!mapping || rng_.chance(15))
			break;
		const std::size_t i = rng_.below(mapping->pages());

		place = {mapping->iova + i * page, mapping->frames[i], mapping->readable()};
		/* Best is what the process cannot reach any more: only the pin keeps it. */
		if (place.reachable && place.frame != frame_bar && place.frame != frame_unknown &&
			(tries >= 8 || !arena_->home(place.frame)))
			return place;
	}
	return unmapped_place(c);
}

FuzzSequence::Place FuzzSequence::unmapped_place(const FuzzContainer &c)
{
	for (int tries = 0; tries < 16; tries++) {
		Place place{
			first_window + rng_.below(window_size / page) * page, frame_none, false};

		if (!c.model.ghosts().empty() && rng_.chance(70)) {
			const Ghost &ghost = c.model.ghosts()[rng_.below(c.model.ghosts().size())];

			place = {ghost.iova, ghost.frame, false};
		}
		if (!c.model.find(place.iova))
			return place;
	}
	return {};
}

/* Something to write to. must_be_seen: in memory that this process can look at. */
FuzzSequence::Place FuzzSequence::choose_target(const FuzzContainer &c, bool must_be_seen)
{
	Place place;

	for (int tries = 0; tries < 16; tries++) {
		const Mapping *mapping = any_mapping(c);

		if (!mapping || (!must_be_seen && rng_.chance(10)))
			break;
		const std::size_t i = rng_.below(mapping->pages());

		place = {mapping->iova + i * page, mapping->frames[i], mapping->writable()};
		if (place.frame == frame_bar || place.frame == frame_unknown)
			continue;
		if (!must_be_seen || (place.reachable && arena_->home(place.frame)))
			return place;
	}
	return must_be_seen ? Place{} : unmapped_place(c);
}

/* A device takes 100 ms, and a busy host many times that. */
static bool wait_long(const Edu &engine)
{
	for (int tries = 0; tries < 6; tries++)
		if (engine.wait())
			return true;
	return false;
}

bool FuzzSequence::dma()
{
	std::vector<FuzzGroup *> able;

	for (FuzzGroup &group : groups_)
		if (group.engine && group.in)
			able.push_back(&group);
	if (able.empty())
		return false;
	FuzzGroup &group = *rng_.pick(able);
	const FuzzContainer &c = *group.in;
	const Place from = choose_source(c);
	const Place to = choose_target(c, !from.reachable);

	if (!from.iova || !to.iova)
		return false;
	group.engine->start_read(from.iova, tag_bytes);
	bool ended = wait_long(*group.engine);

	group.engine->start_write(to.iova, tag_bytes);
	ended &= wait_long(*group.engine);
	note(show(c) + " " + hex(from.iova) + (from.reachable ? " to " : " (unmapped) to ") +
		hex(to.iova) + (to.reachable ? "" : " (not writable)"));
	if (!ended)
		fail("the device did not end its transfer, command " +
			hex(group.device->pci_command()));

	const std::uint32_t tag = arena_->tag(from.frame);
	const auto home = arena_->home(to.frame);

	if (to.reachable && from.reachable) {
		arena_->set_tag(to.frame, tag);
		if (home)
			if (const auto text = arena_->wrong(*home))
				fail("after DMA: " + *text);
	} else if (to.reachable) {
		/* It must not have got what was there once. */
		if (tag && filled({arena_->bytes(*home), tag_bytes}, tag))
			fail("a device read " + hex(from.iova) + ", which is unmapped");
		arena_->touch(*home);
	} else if (home) {
		if (const auto text = arena_->wrong(*home))
			fail("a device wrote to " + hex(to.iova) + ", which it may not: " + *text);
	}
	return true;
}

} // namespace selftest
