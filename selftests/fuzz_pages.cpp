// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's look behind the interface: which page the IOMMU takes a device to,
 * and whether that is pinned. Only where the test module is loaded; it asks the
 * IOMMU's driver and the page itself.
 *
 * A model of the ABI cannot tell a page that was unpinned too early, or one that a
 * device still reaches after an unmap, before a device happens to go there: here it
 * shows at once, in the step that did it.
 */
#include "fuzz_sequence.hpp"

#include "mock/mock_rig.hpp"

namespace selftest
{

/* Pages of a mapping that are looked at one by one. What is wrong is mostly wrong at
 * either end, or everywhere. */
static constexpr std::size_t looked_at = 96;
/* Of a range that a call was about; an unmap of everything is about too many. */
static constexpr std::uint64_t range_max = 64 * mib;

/* The ends, and as many in between. */
static std::vector<std::size_t> sample(std::size_t pages, Random &rng)
{
	std::vector<std::size_t> list;

	if (pages <= looked_at) {
		for (std::size_t i = 0; i < pages; i++)
			list.push_back(i);
		return list;
	}
	for (std::size_t i = 0; i < looked_at / 3; i++) {
		list.push_back(i);
		list.push_back(pages - 1 - i);
		list.push_back(rng.below(pages));
	}
	return list;
}

/* A device that is in the container, if there is one to ask. */
std::optional<std::string> FuzzSequence::translator(const FuzzContainer &c) const
{
	if (!mock_)
		return std::nullopt;
	if (share_)
		return share_->bdf;
	if (c.groups.empty() || !c.model.active())
		return std::nullopt;
	/* Now this one, now that: they may have IOMMU domains of their own. */
	const auto at = static_cast<long>(number_ % c.groups.size());

	return groups_[static_cast<std::size_t>(*std::next(c.groups.begin(), at))].bdf;
}

/* Nothing else may be where a mapping was, or was refused; and what is mapped stays. */
void FuzzSequence::check_translation(
	const FuzzContainer &c, std::uint64_t iova, std::uint64_t size) const
{
	const auto bdf = translator(c);

	if (!bdf || !size || size % page || iova % page || size > range_max)
		return;
	const auto pfns = mock_->translate(*bdf, iova, size / page);

	for (std::size_t i = 0; i < pfns.size(); i++) {
		const Mapping *mapping = c.model.find(iova + i * page);
		std::uint64_t wanted = 0;

		if (mapping && mapping->pfns.empty())
			continue;
		if (mapping)
			wanted = mapping->pfns[(iova + i * page - mapping->iova) / page];
		if (pfns[i] != wanted)
			fail("a device gets at " + hex(iova + i * page) + " of " + show(c) +
				" to the page " + hex(pfns[i]) + ", must get to " + hex(wanted));
	}
}

/* A page that a mapping holds: neither a device's register nor the page of zeroes. */
static bool is_held(FrameId frame)
{
	return frame != frame_bar && frame != frame_zero && frame != frame_unknown;
}

void FuzzSequence::check_pins(const FuzzContainer &c, const Mapping &mapping)
{
	if (mapping.pfns.empty())
		return;
	/* Which pages are looked at must change no later choice. */
	Random rng(seed_, ~number_);

	for (const std::size_t i : sample(mapping.pages(), rng))
		if (is_held(mapping.frames[i]) && !mock_->pfn_state(mapping.pfns[i]).pins)
			fail("the page " + hex(mapping.pfns[i]) + " at " +
				hex(mapping.iova + i * page) + " of " + show(c) + " is not pinned");
}

/* Where the device gets to in a new mapping is what this process has there. */
void FuzzSequence::learn_pages(FuzzContainer &c, Mapping &mapping, const Span &span)
{
	const auto bdf = translator(c);

	if (!bdf)
		return;
	Random rng(seed_, ~number_);

	mapping.pfns = mock_->translate(*bdf, mapping.iova, mapping.pages());
	for (const std::size_t i : sample(mapping.pages(), rng)) {
		if (!mapping.pfns[i])
			fail("nothing is mapped at " + hex(mapping.iova + i * page));
		if (mapping.frames[i] == frame_zero &&
			!(mock_->pfn_state(mapping.pfns[i]).flags & VFIO_MT_MOCK_PAGE_ZERO))
			fail("a device gets at " + hex(mapping.iova + i * page) + " to the page " +
				hex(mapping.pfns[i]) + ", which is not the page of zeroes");
		if (!is_held(mapping.frames[i]))
			continue;
		const auto state = mock_->page_state(arena_->bytes(span.at + i));

		if (state.pfn != mapping.pfns[i])
			fail("a device gets at " + hex(mapping.iova + i * page) + " to the page " +
				hex(mapping.pfns[i]) + ", this process has " + hex(state.pfn));
	}
	check_pins(c, mapping);
}

/* The same for a mapping that another process made. */
void FuzzSequence::learn_pages(FuzzContainer &c, Mapping &mapping)
{
	if (const auto bdf = translator(c))
		mapping.pfns = mock_->translate(*bdf, mapping.iova, mapping.pages());
	check_pins(c, mapping);
}

/* All that is mapped is where it was, and pinned. */
void FuzzSequence::check_pages(const FuzzContainer &c)
{
	if (!translator(c))
		return;
	for (const auto &[iova, mapping] : c.model.maps()) {
		check_translation(c, iova, mapping.size);
		check_pins(c, mapping);
	}
}

} // namespace selftest
