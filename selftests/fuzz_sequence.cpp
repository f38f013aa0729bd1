// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's sequence: which steps there are, choosing one, and what must hold
 * after each.
 */
#include "fuzz_sequence.hpp"

#include "environment.hpp"
#include "proc.hpp"

#include <algorithm>
#include <numeric>

namespace selftest
{

static constexpr std::size_t arena_slots = 10;
static constexpr std::size_t share_slots = 5;
static constexpr std::size_t bitmap_bytes = 64 * kib;

const FuzzSequence::Step FuzzSequence::steps[] = {
	{"map", 60, &FuzzSequence::map, true},
	{"map-bad", 8, &FuzzSequence::map_bad, true},
	{"remap", 10, &FuzzSequence::remap, true},
	{"unmap", 30, &FuzzSequence::unmap, true},
	{"unmap-all", 1, &FuzzSequence::unmap_all, false},
	{"unmap-bad", 5, &FuzzSequence::unmap_bad, true},
	{"unmap-dirty", 7, &FuzzSequence::unmap_dirty, true},
	{"invalidate", 8, &FuzzSequence::invalidate, true},
	{"dirty-switch", 5, &FuzzSequence::dirty_switch, false},
	{"dirty-get", 10, &FuzzSequence::dirty_get, true},
	{"dirty-bad", 4, &FuzzSequence::dirty_bad, true},
	{"touch", 12, &FuzzSequence::touch, true},
	{"verify", 4, &FuzzSequence::verify, true},
	{"dontneed", 5, &FuzzSequence::dontneed, true},
	{"remove", 2, &FuzzSequence::remove, true},
	{"munmap", 3, &FuzzSequence::munmap, true},
	{"renew", 6, &FuzzSequence::renew, true},
	{"mprotect", 6, &FuzzSequence::protect, true},
	{"fork", 2, &FuzzSequence::fork, true},
	{"bar", 2, &FuzzSequence::bar_switch, false},
	{"dma", 8, &FuzzSequence::dma, false},
	{"info", 6, &FuzzSequence::info, true},
	{"extension", 3, &FuzzSequence::extension, true},
	{"bad-call", 4, &FuzzSequence::bad_call, true},
	{"progress", 6, &FuzzSequence::progress, false},
	{"open-container", 1, &FuzzSequence::open_container, false},
	{"close-container", 1, &FuzzSequence::close_container, false},
	{"open-group", 1, &FuzzSequence::open_group, false},
	{"close-group", 1, &FuzzSequence::close_group, false},
	{"attach", 2, &FuzzSequence::attach, false},
	{"detach", 2, &FuzzSequence::detach, false},
	{"set-iommu", 2, &FuzzSequence::set_iommu, false},
	{"open-device", 2, &FuzzSequence::open_device, false},
	{"close-device", 2, &FuzzSequence::close_device, false},
	{"limit", 5, &FuzzSequence::limit, false},
	{"capability", 4, &FuzzSequence::capability, false},
	{"parameters", 3, &FuzzSequence::parameters, false},
	{"agent-start", 2, &FuzzSequence::agent_start, false},
	{"agent-map", 5, &FuzzSequence::agent_map, false},
	{"agent-unmap", 2, &FuzzSequence::agent_unmap, false},
	{"agent-remap", 3, &FuzzSequence::agent_remap, false},
	{"agent-kill", 1, &FuzzSequence::agent_kill, false},
};

FuzzSequence::FuzzSequence(std::uint64_t seed, std::optional<FuzzShare> share)
	: seed_(seed), rng_(seed), share_(std::move(share)),
	  bitmap_(Memory::map(bitmap_bytes + page))
{
	std::string why_not;

	mock_ = Mock::open(why_not);
	locked_before_ = vm_locked_pages();
	/* Behind the bitmap is nothing that could be written. */
	::mprotect(bitmap_.at(bitmap_bytes), page, PROT_NONE);
	if (share_) {
		containers_ = {share_->container};
		arena_ = std::make_unique<Arena>(share_slots, nullptr, rng_);
		return;
	}

	std::size_t devices = env().devices.size();

	if (devices > 1 && all_edu()) {
		const DeviceName &name = env().devices[--devices];

		lender_ = Lender{Container::open(), Group::open(name.group), {}};
		if (!lender_->group.set_container(lender_->container).ok() ||
			!lender_->container.set_iommu(VFIO_TYPE1v2_IOMMU).ok())
			throw std::runtime_error("the container of the device that lends its BAR");
		lender_->device = Device::open(lender_->group, name.bdf);
		lender_->device->set_memory_enabled(true);
	}
	for (std::size_t i = 0; i < devices; i++) {
		groups_.emplace_back();
		groups_.back().number = env().devices[i].group;
		groups_.back().bdf = env().devices[i].bdf;
	}
	containers_ = {std::make_shared<FuzzContainer>(), std::make_shared<FuzzContainer>()};
	arena_ = std::make_unique<Arena>(arena_slots, lender_ ? &*lender_->device : nullptr, rng_);
}

FuzzSequence::~FuzzSequence() = default;

/* ---- choosing ---- */

const FuzzSequence::Step &FuzzSequence::choose()
{
	const auto weight = [&](const Step &s) { return share_ && !s.shared ? 0U : s.weight; };
	const unsigned sum = std::accumulate(std::begin(steps), std::end(steps), 0U,
		[&](unsigned n, const Step &s) { return n + weight(s); });
	std::uint64_t n = rng_.below(sum);

	for (const Step &s : steps) {
		if (n < weight(s))
			return s;
		n -= weight(s);
	}
	return steps[0];
}

FuzzContainerPtr FuzzSequence::any_container()
{
	const FuzzContainerPtr c = rng_.pick(containers_);

	return c->open() ? c : nullptr;
}

FuzzContainerPtr FuzzSequence::active_container()
{
	std::vector<FuzzContainerPtr> list;

	for (const auto &c : containers_)
		if (c->open() && c->model.active())
			list.push_back(c);
	return list.empty() ? nullptr : rng_.pick(list);
}

/* Also those that only groups, or the other process, hold on to. */
std::vector<FuzzContainerPtr> FuzzSequence::all_containers() const
{
	std::vector<FuzzContainerPtr> all = containers_;
	const auto add = [&](const FuzzContainerPtr &c) {
		if (c && std::ranges::find(all, c) == all.end())
			all.push_back(c);
	};

	for (const FuzzGroup &group : groups_)
		add(group.in);
	add(agent_container_);
	return all;
}

const Mapping *FuzzSequence::any_mapping(const FuzzContainer &c)
{
	const auto &maps = c.model.maps();

	if (maps.empty())
		return nullptr;
	return &std::next(maps.begin(), static_cast<long>(rng_.below(maps.size())))->second;
}

std::uint64_t FuzzSequence::choose_iova(
	const FuzzContainer &c, std::uint64_t vaddr, std::uint64_t pages)
{
	const std::uint64_t base = share_ ? share_->window : first_window;
	const std::uint64_t size = pages * page;
	const std::uint64_t most = window_size > size ? window_size - size : 0;
	const auto inside = [&](std::uint64_t iova) {
		return !share_ || (iova >= base && iova - base <= most);
	};
	std::uint64_t iova = 0;

	for (int tries = 0; tries < 8; tries++) {
		const Mapping *mapping = any_mapping(c);

		switch (rng_.below(10)) {
		case 0 ... 3: /* so that the IOMMU can have huge pages where the CPU has them */
			iova = base + rng_.below(most / huge_2m + 1) * huge_2m + vaddr % huge_2m;
			break;
		case 4 ... 5:
			iova = base + rng_.below(most / page + 1) * page;
			break;
		case 6:
			iova = mapping ? mapping->last() + 1 : base;
			break;
		case 7:
			iova = mapping ? mapping->iova - size : base;
			break;
		case 8: /* over something */
			iova = mapping ? mapping->iova + rng_.below(mapping->pages()) * page : base;
			break;
		default: /* the ends of what may be mapped; never the end of all addresses */
			if (!c.model.ranges().empty()) {
				IovaRange range = rng_.pick(c.model.ranges());

				if (range.end == UINT64_MAX)
					range.end = range.start + gib - 1;

				iova = rng_.one_of<std::uint64_t>({range.start, range.start - page,
					range.end + 1 - size, range.end + 1,
					range.end + 1 - size + page, 4 * gib - size / 2});
				iova = iova / page * page;
			}
			break;
		}
		if (inside(iova) && iova + size > iova)
			return iova;
	}
	return base;
}

/* ---- telling ---- */

std::string FuzzSequence::show(const FuzzContainer &c) const
{
	for (std::size_t i = 0; i < containers_.size(); i++)
		if (containers_[i].get() == &c)
			return "c" + std::to_string(i);
	return "c-";
}

void FuzzSequence::expect(const std::string &call, const Result &result, const Answers &answers)
{
	std::string wanted;

	for (const int answer : answers)
		wanted += (wanted.empty() ? "" : " or ") + errno_name(answer);
	/* Where several are right, it is a matter of the driver which one it is. */
	note(call + ": " +
		(std::ranges::find(answers, result.err) == answers.end() ? errno_name(result.err)
									 : wanted));
	if (std::ranges::find(answers, result.err) == answers.end())
		fail(call + ": " + errno_name(result.err) + ", must be " + wanted);
}

void FuzzSequence::expect_equal(
	const std::string &what, std::int64_t actual, std::int64_t expected) const
{
	if (actual != expected)
		fail(what + " is " + std::to_string(actual) + ", must be " +
			std::to_string(expected));
}

/* ---- checking ---- */

std::int64_t FuzzSequence::charged() const
{
	std::int64_t sum = 0;

	for (const auto &c : all_containers())
		sum += c->model.charged(owner_self);
	return sum;
}

void FuzzSequence::check_avail(const FuzzContainer &c) const
{
	if (!share_ && c.open() && c.model.active())
		expect_equal("dma_avail of " + show(c), c.handle.info().dma_avail, c.model.avail());
}

void FuzzSequence::check()
{
	if (share_)
		return;
	expect_equal("VmLck", vm_locked_pages() - locked_before_, charged());
	for (const auto &c : containers_)
		check_avail(*c);
	if (agent_ && (number_ % 16 == 0 || std::string_view(step_name_).starts_with("agent")))
		expect_equal("VmLck of the other process", agent_->vm_locked(),
			agent_container_->model.charged(agent_owner_));
}

/* Pages that may still be charged; -1 for any number. */
std::int64_t FuzzSequence::room() const
{
	if (share_ || cap_ || limit_ < 0)
		return -1;
	return std::max<std::int64_t>(0, limit_ - vm_locked_pages());
}

void FuzzSequence::step(std::uint64_t number)
{
	number_ = number;
	rng_ = Random(seed_, number + 1);
	/* What is not possible just now makes room for something else. */
	for (int tries = 0; tries < 20; tries++) {
		const Step &s = choose();

		step_name_ = s.name;
		if ((this->*s.run)()) {
			check();
			return;
		}
	}
}

void FuzzSequence::finish()
{
	step_name_ = "end";
	if (const auto text = arena_->wrong_anywhere())
		fail(*text);
	for (const auto &c : containers_)
		check_pages(*c);
	if (share_) {
		FuzzContainer &c = *share_->container;

		for (const std::uint64_t iova : c.model.within(0, UINT64_MAX)) {
			const std::uint64_t size = c.model.take(iova).size;

			expect_equal("bytes unmapped", c.handle.unmap(iova, size).value,
				static_cast<std::int64_t>(size));
			check_translation(c, iova, size);
		}
		return;
	}
	restore();
	agent_.reset();
	for (FuzzGroup &group : groups_) {
		group.engine.reset();
		group.device.reset();
		group.handle.close();
		group.in.reset();
	}
	containers_.clear();
	agent_container_.reset();
	arena_.reset();
	lender_.reset();
	expect_equal("VmLck", vm_locked_pages() - locked_before_, 0);
}

} // namespace selftest
