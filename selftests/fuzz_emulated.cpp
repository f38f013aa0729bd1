// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's sequence for emulated devices, with a model of its own: which pages are
 * mapped, how often each is pinned by which device, and which are dirty.
 */
#include "fuzz_emulated.hpp"

#include "environment.hpp"
#include "proc.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace selftest
{

static constexpr std::uint64_t ram_pages = 256;
static constexpr std::uint64_t window = 1024; /* pages of the container that are used */
static constexpr std::uint64_t first_iova = 0x1000000;
static constexpr std::uint64_t most_bytes = 3 * page;

static std::uint64_t iova_of(std::uint64_t at)
{
	return first_iova + at * page;
}

static std::string range_text(std::uint64_t at, std::uint64_t pages)
{
	return std::to_string(at) + "+" + std::to_string(pages);
}

const FuzzEmulated::Step FuzzEmulated::steps[] = {
	{"map", 20, &FuzzEmulated::map},
	{"unmap", 5, &FuzzEmulated::unmap},
	{"unmap-dirty", 4, &FuzzEmulated::unmap_dirty},
	{"pin", 24, &FuzzEmulated::pin},
	{"unpin", 18, &FuzzEmulated::unpin},
	{"copy", 12, &FuzzEmulated::copy},
	{"use-page", 6, &FuzzEmulated::use_page},
	{"dirty-switch", 4, &FuzzEmulated::dirty_switch},
	{"dirty-get", 14, &FuzzEmulated::dirty_get},
	{"reopen", 1, &FuzzEmulated::reopen},
};

std::optional<FuzzEmulated> FuzzEmulated::make(std::uint64_t seed)
{
	std::string why_not;
	const auto mock = Mock::open(why_not);

	if (!mock)
		return std::nullopt;
	return FuzzEmulated(seed, *mock);
}

FuzzEmulated::FuzzEmulated(std::uint64_t seed, const Mock &mock)
	: FuzzTeller("emulated "), seed_(seed), rng_(seed), ram_(Memory::map(ram_pages * page)),
	  shadow_(ram_pages * page), bits_(window / 64 + 2), container_(Container::open())
{
	for (std::uint64_t i = 0; i < ram_pages; i++)
		fill(ram_.bytes(i * page, page), static_cast<unsigned>(i + 1));
	std::memcpy(shadow_.data(), ram_.data(), shadow_.size());
	for (unsigned i = 0; i < devices_.size(); i++) {
		const vfio_mt_mock_device device = mock.device(mock_device::emulated0 + i);

		devices_[i].group = Group::open(device.group);
		devices_[i].name = device.name;
		if (!devices_[i].group.set_container(container_).ok())
			throw std::runtime_error("the group of an emulated device");
	}
	if (!container_.set_iommu(VFIO_TYPE1v2_IOMMU).ok())
		throw std::runtime_error("the container of emulated devices");
	if (const auto why = backend_mismatch(container_.backend(), env().wanted))
		throw std::runtime_error(*why);
	for (Emulated &d : devices_)
		d.device.emplace(d.group, d.name);
	locked_before_ = vm_locked_pages();
}

/* ---- telling and checking ---- */

void FuzzEmulated::expect(
	const std::string &call, const std::string &actual, const std::string &expected)
{
	note(call + ": " + actual);
	if (actual != expected)
		fail(call + ": " + actual + ", must be " + expected);
}

void FuzzEmulated::check()
{
	const auto charged = vm_locked_pages() - locked_before_;

	if (charged != static_cast<std::int64_t>(pinned()))
		fail("VmLck is " + std::to_string(charged) + ", must be " +
			std::to_string(pinned()));
	if (std::memcmp(ram_.data(), shadow_.data(), shadow_.size()) != 0)
		fail("the memory is not what devices made of it");
	for (const Emulated &d : devices_)
		if (d.device && d.device->pin_info().mismatches)
			fail("a page was pinned twice, and was not the same");
}

/* ---- the model ---- */

FuzzEmulated::Range *FuzzEmulated::find(std::uint64_t at)
{
	auto it = ranges_.upper_bound(at);

	if (it == ranges_.begin())
		return nullptr;
	--it;
	return at - it->first < it->second.pages ? &it->second : nullptr;
}

/* Which page of the memory is mapped there: something is. */
std::uint64_t FuzzEmulated::memory_at(std::uint64_t at) const
{
	const auto it = std::prev(ranges_.upper_bound(at));

	return it->second.at + at - it->first;
}

FuzzEmulated::Ranges::iterator FuzzEmulated::any_range()
{
	return std::next(ranges_.begin(), static_cast<long>(rng_.below(ranges_.size())));
}

/* Mostly one that is mapped. */
std::uint64_t FuzzEmulated::any_page()
{
	if (ranges_.empty() || rng_.chance(10))
		return rng_.below(window);
	const auto it = any_range();

	return it->first + rng_.below(it->second.pages);
}

FuzzEmulated::Emulated *FuzzEmulated::any_device()
{
	Emulated &d = rng_.pick(devices_);

	return d.device ? &d : nullptr;
}

/* A page that several have pinned, or one several times, is charged once. */
std::size_t FuzzEmulated::pinned() const
{
	std::set<std::uint64_t> pages;

	for (const Emulated &d : devices_)
		for (const auto &[at, count] : d.pins)
			pages.insert(at);
	return pages.size();
}

bool FuzzEmulated::is_pinned(std::uint64_t at) const
{
	return std::ranges::any_of(
		devices_, [&](const Emulated &d) { return d.pins.contains(at); });
}

/* Devices are asked to unpin, and do. */
void FuzzEmulated::drop_pins(std::uint64_t first, std::uint64_t pages)
{
	for (Emulated &d : devices_)
		std::erase_if(d.pins, [&](const auto &pin) {
			return pin.first >= first && pin.first - first < pages;
		});
}

/* What is pinned may be written to at any time. */
void FuzzEmulated::clean(std::uint64_t at, Range &range)
{
	range.dirty.clear();
	for (std::uint64_t i = 0; i < range.pages; i++)
		if (is_pinned(at + i))
			range.dirty.insert(at + i);
}

/*
 * others: the range has other mappings. Then the stock driver may call more dirty: what its
 * earlier answers left behind the end of one mapping gets into the answer for the next.
 */
void FuzzEmulated::check_bits(
	std::uint64_t base, std::uint64_t at, const Range &range, bool others) const
{
	const bool more = others && container_.backend().module == stock_module;

	for (std::uint64_t i = at; i < at + range.pages; i++) {
		const bool is = bits_[(i - base) / 64] >> ((i - base) % 64) & 1;
		const bool must = range.dirty.contains(i);

		if (is != must && !(is && more))
			fail("page " + std::to_string(i) + (is ? " is dirty" : " is not dirty"));
	}
}

/* ---- MAP_DMA, UNMAP_DMA ---- */

bool FuzzEmulated::map()
{
	const std::uint64_t pages = rng_.magnitude(150);
	Range range{.at = rng_.below(ram_pages - pages + 1),
		.pages = pages,
		.flags = rng_.one_of<std::uint32_t>(
			{map_rw, map_rw, map_rw, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE})};
	std::uint64_t at = rng_.below(window - pages + 1);

	/* Often right behind another. */
	if (!ranges_.empty() && rng_.chance(40)) {
		const auto it = any_range();

		at = std::min(it->first + it->second.pages, window - pages);
	}
	bool free = true;

	for (std::uint64_t i = at; i < at + pages; i++)
		free &= !find(i);
	const Result result =
		container_.map(iova_of(at), ram_.at(range.at * page), pages * page, range.flags);

	expect(range_text(at, pages) + " flags " + std::to_string(range.flags),
		errno_name(result.err), errno_name(free ? 0 : EEXIST));
	if (free)
		ranges_.emplace(at, std::move(range));
	return true;
}

bool FuzzEmulated::unmap()
{
	if (ranges_.empty())
		return false;
	const auto it = any_range();
	const auto [at, pages] = std::pair(it->first, it->second.pages);
	const Result result = container_.unmap(iova_of(at), pages * page);

	expect(range_text(at, pages), errno_name(result.err) + " " + std::to_string(result.value),
		"ok " + std::to_string(pages * page));
	drop_pins(at, pages);
	ranges_.erase(it);
	return true;
}

bool FuzzEmulated::unmap_dirty()
{
	if (ranges_.empty())
		return false;
	const auto it = any_range();
	const auto [at, pages] = std::pair(it->first, it->second.pages);

	std::ranges::fill(bits_, 0);
	const Result result =
		container_.unmap_dirty(iova_of(at), pages * page, bits_.data(), bits_.size() * 8);

	expect(range_text(at, pages), errno_name(result.err), errno_name(tracking_ ? 0 : EINVAL));
	if (!result.ok())
		return true;
	check_bits(at, at, it->second, false);
	drop_pins(at, pages);
	ranges_.erase(it);
	return true;
}

/* ---- pins ---- */

bool FuzzEmulated::pin()
{
	Emulated *d = any_device();

	if (!d)
		return false;
	const std::uint64_t at = any_page();
	const auto pages = static_cast<int>(rng_.magnitude(64));
	const unsigned prot = rng_.one_of<unsigned>(
		{mock_rw, mock_rw, VFIO_MT_MOCK_READ, VFIO_MT_MOCK_READ, VFIO_MT_MOCK_WRITE, 0});
	const unsigned context = rng_.chance(25) ? VFIO_MT_MOCK_WORKER : VFIO_MT_MOCK_CALLER;
	int err = 0;
	std::uint64_t end = at;

	/* What stands before the error is pinned, and unpinned again. */
	for (; !err && end < at + static_cast<std::uint64_t>(pages); end += !err) {
		Range *range = find(end);

		if (!range)
			err = EINVAL;
		else if (prot & ~range->flags)
			err = EPERM;
		else if (tracking_ && !is_pinned(end))
			range->dirty.insert(end);
	}
	const MockAnswer got = d->device->pin(iova_of(at), pages, prot, context);

	expect(range_text(at, static_cast<std::uint64_t>(pages)) + " prot " + std::to_string(prot),
		answer(got.result), answer(err ? -err : pages));
	for (std::uint64_t i = at; !err && i < end; i++) {
		d->pins[i]++;
		if (!d->device->same_page(iova_of(i), ram_.at(memory_at(i) * page)))
			fail("another page than the one at " + std::to_string(i));
	}
	return true;
}

bool FuzzEmulated::unpin()
{
	Emulated *d = any_device();

	if (!d || d->pins.empty())
		return false;
	auto it = std::next(d->pins.begin(), static_cast<long>(rng_.below(d->pins.size())));
	const std::uint64_t at = it->first;
	std::uint64_t end = at, most = rng_.magnitude(64);

	while (end - at < most && d->pins.contains(end)) {
		if (!--d->pins[end])
			d->pins.erase(end);
		end++;
	}
	const Result result = d->device->unpin(iova_of(at), static_cast<int>(end - at), 0,
		rng_.chance(25) ? VFIO_MT_MOCK_WORKER : VFIO_MT_MOCK_CALLER);

	expect(range_text(at, end - at), errno_name(result.err), errno_name(0));
	return true;
}

/* ---- what devices read and write ---- */

/* The model's answer, and what of it is done: all up to the first mapping that refuses. */
std::string FuzzEmulated::copied(std::uint64_t from, std::span<std::byte> data, bool write)
{
	std::uint64_t done = 0;

	while (done < data.size()) {
		const std::uint64_t at = (from + done) / page;
		Range *range = find(at);

		if (!range)
			return "EINVAL";
		if (!(range->flags & VFIO_DMA_MAP_FLAG_READ) ||
			(write && !(range->flags & VFIO_DMA_MAP_FLAG_WRITE)))
			return "EPERM";
		const std::uint64_t offset = (from + done) % page;
		const std::uint64_t size = std::min(data.size() - done, page - offset);
		std::byte *shadow = shadow_.data() + memory_at(at) * page + offset;

		if (write)
			std::memcpy(shadow, data.data() + done, size);
		else
			std::memcpy(data.data() + done, shadow, size);
		if (write && tracking_)
			range->dirty.insert(at);
		done += size;
	}
	return "ok";
}

bool FuzzEmulated::copy()
{
	Emulated *d = any_device();

	if (!d)
		return false;
	const std::uint64_t from = any_page() * page + rng_.below(page);
	const std::uint64_t size = std::min(rng_.magnitude(most_bytes), window * page - from);
	const bool write = rng_.chance(50);
	const unsigned context = rng_.chance(25) ? VFIO_MT_MOCK_WORKER : VFIO_MT_MOCK_CALLER;
	std::vector<std::byte> data(size), expected(size);

	if (write) {
		fill(data, static_cast<unsigned>(rng_.below(1 << 30)));
		expected = data;
	}
	const std::string text = hex(from) + "+" + std::to_string(size);
	const std::string wanted = copied(from, expected, write);
	const MockAnswer got = write ? d->device->write(first_iova + from, data, context)
				     : d->device->read(first_iova + from, data, context);

	expect((write ? "write " : "read ") + text, answer(got.result), wanted);
	if (!write && got.result == 0 && data != expected)
		fail("a device reads something else");
	return true;
}

/* A device that has a page pinned uses it, with nobody told. */
bool FuzzEmulated::use_page()
{
	Emulated *d = any_device();

	if (!d || d->pins.empty())
		return false;
	const auto it = std::next(d->pins.begin(), static_cast<long>(rng_.below(d->pins.size())));
	const std::uint64_t at = it->first;
	std::byte *shadow = shadow_.data() + memory_at(at) * page;
	std::vector<std::byte> data(page);

	fill(data, static_cast<unsigned>(rng_.below(1 << 30)));
	std::memcpy(shadow, data.data(), page);
	expect(std::to_string(at), answer(d->device->write_page(iova_of(at), data).result), "ok");
	return true;
}

/* ---- DIRTY_PAGES ---- */

bool FuzzEmulated::dirty_switch()
{
	const bool on = rng_.chance(75);
	const Result result = on ? container_.dirty_start() : container_.dirty_stop();

	expect(on ? "start" : "stop", errno_name(result.err), errno_name(0));
	if (on && !tracking_)
		for (auto &[at, range] : ranges_)
			clean(at, range);
	tracking_ = on;
	return true;
}

/* From before one mapping to behind another. */
bool FuzzEmulated::dirty_get()
{
	if (ranges_.empty())
		return false;
	auto first = any_range(), last = any_range();

	if (first->first > last->first)
		std::swap(first, last);
	std::uint64_t base = first->first;

	while (base && rng_.chance(90) && !find(base - 1))
		base--;
	const std::uint64_t end = last->first + last->second.pages;

	std::ranges::fill(bits_, 0);
	const Result result = container_.dirty_get(
		iova_of(base), (end - base) * page, bits_.data(), bits_.size() * 8);

	expect(range_text(base, end - base), errno_name(result.err),
		errno_name(tracking_ ? 0 : EINVAL));
	if (!result.ok())
		return true;
	for (auto it = first;; ++it) {
		check_bits(base, it->first, it->second, first != last);
		clean(it->first, it->second);
		if (it == last)
			return true;
	}
}

/* ---- devices ---- */

/* A device that is closed unpins all. */
bool FuzzEmulated::reopen()
{
	Emulated &d = rng_.pick(devices_);

	note(d.device ? "close" : "open");
	if (d.device) {
		d.device.reset();
		d.pins.clear();
	} else {
		d.device.emplace(d.group, d.name);
	}
	return true;
}

void FuzzEmulated::step(std::uint64_t number)
{
	const unsigned sum = std::accumulate(std::begin(steps), std::end(steps), 0U,
		[](unsigned n, const Step &s) { return n + s.weight; });

	number_ = number;
	/* Another one than that of FuzzSequence. */
	rng_ = Random(~seed_, number + 1);
	for (int tries = 0; tries < 20; tries++) {
		const Step *s = steps;
		std::uint64_t n = rng_.below(sum);

		for (; n >= s->weight; s++)
			n -= s->weight;
		step_name_ = s->name;
		if ((this->*s->run)()) {
			check();
			return;
		}
	}
}

void FuzzEmulated::finish()
{
	step_name_ = "end";
	for (Emulated &d : devices_) {
		d.device.reset();
		d.pins.clear();
	}
	check();
	for (Emulated &d : devices_)
		d.group.close();
	container_.close();
	check();
}

} // namespace selftest
