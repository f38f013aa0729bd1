// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's steps: MAP_DMA, UNMAP_DMA, DIRTY_PAGES.
 */
#include "fuzz_sequence.hpp"

#include "environment.hpp"
#include "proc.hpp"

#include <algorithm>
#include <cstring>

namespace selftest
{

static constexpr std::uint32_t rd = VFIO_DMA_MAP_FLAG_READ;
static constexpr std::uint32_t wr = VFIO_DMA_MAP_FLAG_WRITE;
static constexpr std::uint32_t vaddr_flag = VFIO_DMA_MAP_FLAG_VADDR;

static std::string range_text(std::uint64_t iova, std::uint64_t size)
{
	return hex(iova) + "+" + hex(size);
}

/* ---- MAP_DMA ---- */

FuzzSequence::Span FuzzSequence::choose_span()
{
	const std::size_t all = arena_->pages();
	std::size_t most = slot_pages;
	std::size_t pages = 1;

	switch (rng_.below(10)) {
	case 0 ... 4:
		pages = rng_.magnitude(16);
		break;
	case 5 ... 6:
		pages = rng_.magnitude(slot_pages);
		break;
	case 7 ... 8: /* a whole slot */
		return {rng_.below(all / slot_pages) * slot_pages, slot_pages};
	default: /* several */
		pages = rng_.between(slot_pages, 3 * slot_pages);
		most = all;
		break;
	}
	const std::size_t first = rng_.below(all / most) * most;

	return {first + rng_.below(most - pages + 1), pages};
}

Answers FuzzSequence::answers_for_pins(
	const Span &span, std::uint32_t flags, std::int64_t &charge, std::int64_t &unsure) const
{
	const std::int64_t may = room();
	bool bad = false;

	charge = unsure = 0;
	for (std::size_t i = 0; i < span.pages; i++) {
		const PinnedPage pinned = arena_->pin(span.at + i, flags & wr, false);

		bad |= pinned.frame == frame_none;
		charge += pinned.charged;
		unsure += pinned.unsure;
	}
	Answers answers{bad ? EFAULT : 0};

	if (share_ && share_->limited && charge + unsure)
		answers.push_back(ENOMEM);
	if (may < 0 || charge + unsure <= may)
		return answers;
	/* With both in the way it may be either. */
	if (bad || charge <= may)
		answers.push_back(ENOMEM);
	else
		answers = {ENOMEM};
	return answers;
}

void FuzzSequence::do_map(FuzzContainer &c, const MapArgs &args, const Span *span)
{
	const int err = c.model.check_map(args);
	const bool pins = !err && !(args.flags & vaddr_flag);
	std::int64_t charge = 0, unsure = 0;
	Answers answers{err};

	/* Without a span there is no memory at the address at all. */
	if (pins)
		answers = span ? answers_for_pins(*span, args.flags, charge, unsure)
			       : Answers{EFAULT};
	const std::int64_t before = vm_locked_pages();
	vfio_iommu_type1_dma_map call = {};

	call.argsz = args.argsz;
	call.flags = args.flags;
	call.vaddr = args.vaddr;
	call.iova = args.iova;
	call.size = args.size;
	if (span && !share_)
		arena_->open_holes(span->at, span->pages);
	const Result result = c.handle.ioctl(VFIO_IOMMU_MAP_DMA, &call);

	if (span && !share_)
		arena_->close_holes(span->at, span->pages);
	expect(show(c) + " " + range_text(args.iova, args.size) + " flags " +
			std::to_string(args.flags) + (span ? " " + arena_->describe(span->at) : ""),
		result, answers);
	if (result.ok() && args.flags & vaddr_flag)
		c.model.remap(args.iova, owner_self);
	if (!pins || !span)
		return;
	if (!result.ok()) {
		if (args.flags & wr)
			arena_->pin_failed(span->at, span->pages);
		check_translation(c, args.iova, args.size);
		return;
	}
	Mapping mapping{.iova = args.iova, .size = args.size, .flags = args.flags};

	for (std::size_t i = 0; i < span->pages; i++)
		mapping.frames.push_back(arena_->pin(span->at + i, args.flags & wr, true).frame);
	mapping.charged = charge;
	if (unsure && !share_) {
		mapping.charged = vm_locked_pages() - before;
		if (mapping.charged < charge || mapping.charged > charge + unsure)
			fail("charged " + std::to_string(mapping.charged));
	}
	learn_pages(c, mapping, *span);
	c.model.add(std::move(mapping));
}

bool FuzzSequence::map()
{
	const auto c = rng_.chance(97) ? active_container() : any_container();

	if (!c)
		return false;
	const Span span = choose_span();
	MapArgs args;

	args.flags = rng_.one_of<std::uint32_t>({map_rw, map_rw, map_rw, rd, rd, wr});
	args.vaddr = arena_->address(span.at);
	args.size = span.pages * page;
	args.iova = choose_iova(*c, args.vaddr, span.pages);

	std::int64_t charge, unsure;

	answers_for_pins(span, args.flags, charge, unsure);
	/* What cannot be known must not decide about a limit, or count where others charge. */
	if (unsure && (share_ || !cap_))
		args.flags |= wr;
	do_map(*c, args, &span);
	return true;
}

bool FuzzSequence::map_bad()
{
	const auto c = active_container();

	if (!c)
		return false;
	const Span span{rng_.below(arena_->pages() - 8), rng_.between(1, 8)};
	const Span *where = &span;
	MapArgs args;

	args.vaddr = arena_->address(span.at);
	args.size = span.pages * page;
	args.iova = choose_iova(*c, args.vaddr, span.pages);
	switch (rng_.below(9)) {
	case 0:
		args.argsz = rng_.one_of<std::uint32_t>({0, 8, 31, 33, 4096, UINT32_MAX});
		break;
	case 1:
		args.flags = static_cast<std::uint32_t>(rng_.below(16));
		break;
	case 2:
		args.flags = static_cast<std::uint32_t>(rng_.next());
		break;
	case 3:
		args.size = rng_.one_of<std::uint64_t>(
			{0, 1, page - 1, page + 1, UINT64_MAX, UINT64_MAX - page + 1, 1ULL << 63});
		where = nullptr;
		break;
	case 4:
		args.iova += rng_.between(1, page - 1);
		break;
	case 5:
		args.vaddr += rng_.between(1, page - 1);
		break;
	case 6: /* the end of all addresses, and beyond; what ends there is another matter */
		args.iova = UINT64_MAX - rng_.below(span.pages) * page - page + 1;
		args.size += page;
		break;
	case 7:
		args.vaddr = UINT64_MAX - page + 1;
		args.size = rng_.between(1, 4) * page;
		if (args.size == page)
			args.size += page;
		break;
	default: /* no memory of a process */
		args.vaddr = rng_.one_of<std::uint64_t>({0, 0x7ffffffff000, 0x800000000000,
			0xffff888000000000, 0xffffffff81000000});
		where = nullptr;
		break;
	}
	/* The addresses of others would be in it, and what they have mapped. */
	if (share_ && args.size > window_size)
		return false;
	/* A flag of a kind that needs no memory makes another call of it. */
	if (!(args.flags & wr) && where) {
		std::int64_t charge, unsure;

		answers_for_pins(span, args.flags, charge, unsure);
		if (unsure)
			return false;
	}
	do_map(*c, args, where);
	return true;
}

/* A new user address for a mapping; also when it has not given up its old one. */
bool FuzzSequence::remap()
{
	const auto c = active_container();
	const Mapping *mapping = c ? any_mapping(*c) : nullptr;

	if (!mapping)
		return false;
	/* One that is invalid, more often than chance would have it. */
	for (const auto &[iova, m] : c->model.maps())
		if (m.vaddr_invalid && rng_.chance(60))
			mapping = &m;
	MapArgs args{.flags = vaddr_flag, .iova = mapping->iova, .size = mapping->size};

	args.vaddr = arena_->address(rng_.below(arena_->pages()));
	if (rng_.chance(10))
		args.size += page;
	if (rng_.chance(10))
		args.iova += page;
	if (share_ && args.iova + args.size > share_->window + window_size)
		return false;

	const int err = c->model.check_map(args);
	const bool moves = !err && mapping->owner != owner_self;
	Answers answers{err};

	/* It is charged to this process from now on. Nothing to charge is too much for the
	 * stock driver when the limit is exceeded already. */
	if (moves && room() >= 0 && mapping->charged > room())
		answers = {ENOMEM};
	else if (moves && room() == 0 && vm_locked_pages() > limit_)
		answers = {0, ENOMEM};
	const Result result = c->handle.map_addr(args.iova, args.vaddr, args.size, args.flags);

	expect(show(*c) + " " + range_text(args.iova, args.size), result, answers);
	if (result.ok())
		c->model.remap(args.iova, owner_self);
	return true;
}

/* ---- UNMAP_DMA ---- */

BitmapArgs FuzzSequence::choose_bitmap(std::uint64_t size)
{
	const std::uint64_t need = (size / page + 63) / 64 * 8;
	const std::uint64_t all = bitmap_.size() - page;
	BitmapArgs args;

	args.size = need + 8 * rng_.below(4);
	if (args.size > all || args.size < 8)
		args.size = 8;
	/* It ends where memory ends. */
	args.room = args.size;
	args.data = bitmap_.address() + all - args.size;
	return args;
}

void FuzzSequence::fill_bitmap(const BitmapArgs &args)
{
	if (args.data < bitmap_.address() || args.room > bitmap_.size() - page)
		return;
	/* Sparse, so that a bit that must be set is mostly clear before. */
	for (std::uint64_t i = 0; i < args.room / 8; i++) {
		const std::uint64_t word = rng_.next() & rng_.next() & rng_.next();

		std::memcpy(bitmap_.at(args.data - bitmap_.address() + i * 8), &word, 8);
	}
}

static std::vector<std::uint64_t> words_at(const BitmapArgs &args)
{
	std::vector<std::uint64_t> words(args.room / 8);

	std::memcpy(words.data(), reinterpret_cast<const void *>(args.data), words.size() * 8);
	return words;
}

void FuzzSequence::check_bitmap(const FuzzContainer &c, const std::vector<std::uint64_t> &mappings,
	std::uint64_t base, const BitmapArgs &args)
{
	const std::vector<std::uint64_t> after = words_at(args);
	std::vector<std::uint64_t> before = bitmap_before_, known;

	c.model.report(mappings, base, before, known);
	for (std::size_t i = 0; i < after.size(); i++) {
		/* The stock driver's own old bits are one of its documented faults. */
		const std::uint64_t mask = module_ == stock_module ? known[i] : ~0ULL;

		if ((after[i] ^ before[i]) & mask)
			fail("word " + std::to_string(i) + " of the bitmap is " + hex(after[i]) +
				", must be " + hex(before[i]) + " where " + hex(mask) + " is set");
	}
}

void FuzzSequence::do_unmap(FuzzContainer &c, const UnmapArgs &args, BitmapArgs bitmap)
{
	std::vector<std::uint64_t> taken;
	const int err = c.model.check_unmap(args, bitmap, taken);
	std::uint64_t bytes = 0;
	Answers answers{err};

	/* Others switch the tracking on and off. */
	if (share_ && args.report() && (err == 0 || err == EFAULT))
		answers.push_back(EINVAL);
	for (const std::uint64_t iova : taken)
		bytes += c.model.maps().at(iova).size;

	UnmapDirtyCall call = {};

	call.argsz = args.argsz;
	call.flags = args.flags;
	call.iova = args.iova;
	call.size = args.size;
	call.bitmap.pgsize = bitmap.pgsize;
	call.bitmap.size = bitmap.size;
	call.bitmap.data = reinterpret_cast<__u64 *>(bitmap.data);
	if (args.report()) {
		fill_bitmap(bitmap);
		bitmap_before_ = words_at(bitmap);
	}
	const Result result = c.handle.ioctl(VFIO_IOMMU_UNMAP_DMA, &call);

	expect(show(c) + " " + range_text(args.iova, args.size) + " flags " +
			std::to_string(args.flags) + ", " + std::to_string(taken.size()) +
			" mappings",
		result, answers);
	expect_equal("the size that came back", static_cast<std::int64_t>(call.size),
		static_cast<std::int64_t>(result.ok() ? bytes : args.size));
	if (!result.ok())
		return;
	if (args.report())
		check_bitmap(c, taken, args.iova, bitmap);
	for (const std::uint64_t iova : taken) {
		if (args.vaddr()) {
			c.model.invalidate(iova);
			check_pins(c, c.model.maps().at(iova));
			continue;
		}
		const std::uint64_t size = c.model.take(iova).size;

		check_translation(c, iova, size);
	}
	check_translation(c, args.iova, args.size);
}

/* Mostly what is mapped: one mapping, or from one to another. */
UnmapArgs FuzzSequence::choose_unmap(const FuzzContainer &c)
{
	const std::uint64_t base = share_ ? share_->window : first_window;
	const Mapping *first = any_mapping(c);
	UnmapArgs args;

	if (!first || rng_.chance(5)) {
		args.iova = base + rng_.below(window_size / page) * page;
		args.size = rng_.magnitude((base + window_size - args.iova) / page) * page;
		return args;
	}
	args.iova = first->iova;
	args.size = first->size;
	if (rng_.chance(65))
		return args;

	const Mapping *second = any_mapping(c);
	std::uint64_t from = std::min(first->iova, second->iova);
	std::uint64_t last = std::max(first->last(), second->last());

	switch (rng_.below(8)) {
	case 0: /* begins before */
		from -= std::min(from, rng_.magnitude(100) * page);
		break;
	case 1: /* ends behind */
		last += rng_.magnitude(100) * page;
		break;
	case 2: /* begins within */
		from += rng_.below(first->pages()) * page;
		break;
	case 3: /* ends within */
		last -= rng_.below(second->pages()) * page;
		break;
	default:
		break;
	}
	if (share_) {
		from = std::max(from, base);
		last = std::min(last, base + window_size - 1);
	}
	if (last < from)
		return args;
	args.iova = from;
	args.size = last - from + 1;
	return args;
}

bool FuzzSequence::unmap()
{
	const auto c = rng_.chance(97) ? active_container() : any_container();

	if (!c)
		return false;
	do_unmap(*c, choose_unmap(*c), {});
	return true;
}

bool FuzzSequence::unmap_all()
{
	const auto c = active_container();

	if (!c)
		return false;
	do_unmap(*c, {.flags = VFIO_DMA_UNMAP_FLAG_ALL}, {});
	return true;
}

bool FuzzSequence::unmap_bad()
{
	const auto c = active_container();

	if (!c)
		return false;
	UnmapArgs args = choose_unmap(*c);
	BitmapArgs bitmap = choose_bitmap(args.size);

	switch (rng_.below(6)) {
	case 0:
		args.argsz = rng_.one_of<std::uint32_t>({0, 8, 23, 25, 47, 4096});
		break;
	case 1:
		args.flags = static_cast<std::uint32_t>(rng_.below(16));
		args.argsz = rng_.one_of<std::uint32_t>({24, 47, 48});
		break;
	case 2:
		args.flags = static_cast<std::uint32_t>(rng_.next()) | 8;
		break;
	case 3:
		args.size = rng_.one_of<std::uint64_t>({0, 1, page - 1, args.size + 1, UINT64_MAX,
			UINT64_MAX - args.iova + page + 1});
		break;
	case 4:
		args.iova += rng_.between(1, page - 1);
		break;
	default:
		args.flags = VFIO_DMA_UNMAP_FLAG_ALL;
		break;
	}
	/* All of a container is not ours alone to unmap. */
	if (share_ && (args.flags & VFIO_DMA_UNMAP_FLAG_ALL))
		return false;
	do_unmap(*c, args, bitmap);
	return true;
}

/* Arguments that are wrong, in one way. */
static void spoil(BitmapArgs &args, Random &rng, std::uint64_t end)
{
	switch (rng.below(6)) {
	case 0: /* the stock driver has no answer to a page size of 0 */
		args.pgsize = rng.one_of<std::uint64_t>({1, 2048, 2 * page, huge_2m, 3 * page});
		break;
	case 1:
		args.size = args.size >= 16 ? args.size - 8 : 0;
		args.room = std::min(args.room, args.size);
		break;
	case 2:
		args.size = rng.one_of<std::uint64_t>(
			{0, 256 * mib + 8, 1ULL << 47, UINT64_MAX, UINT64_MAX - 7});
		break;
	case 3:
		args.data = rng.one_of<std::uint64_t>(
			{0x800000000000, 0xffff888000000000, UINT64_MAX - 7, 0x7ffffffff000 - 4});
		args.room = 0;
		break;
	case 4: /* nothing can be written */
		args.data = end;
		args.room = 0;
		break;
	default: /* only the beginning */
		args.room = rng.below(args.size / 8 + 1) * 8;
		args.data = end - args.room;
		break;
	}
}

/* Often from a little before: then the bits of a mapping do not begin with a word. */
UnmapArgs FuzzSequence::choose_dirty(const FuzzContainer &c)
{
	UnmapArgs args = choose_unmap(c);
	const std::uint64_t base = share_ ? share_->window : 0;

	if (rng_.chance(40)) {
		const std::uint64_t front = std::min(rng_.between(1, 100) * page, args.iova - base);

		args.iova -= front;
		args.size += front;
	}
	return args;
}

bool FuzzSequence::unmap_dirty()
{
	const auto c = active_container();

	if (!c)
		return false;
	UnmapArgs args = choose_dirty(*c);

	if (args.size / page / 8 > bitmap_.size() / 2)
		return false;
	args.flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
	args.argsz = sizeof(UnmapDirtyCall);

	BitmapArgs bitmap = choose_bitmap(args.size);

	/* When several mappings go, the stock driver cannot undo the first ones. */
	if (rng_.chance(25) && c->model.within(args.iova, args.iova + args.size - 1).size() <= 1)
		spoil(bitmap, rng_, bitmap_.address() + bitmap_.size() - page);
	do_unmap(*c, args, bitmap);
	return true;
}

bool FuzzSequence::invalidate()
{
	const auto c = active_container();

	if (!c)
		return false;
	UnmapArgs args = choose_unmap(*c);

	args.flags = VFIO_DMA_UNMAP_FLAG_VADDR;
	if (!share_ && rng_.chance(10))
		args = {.flags = VFIO_DMA_UNMAP_FLAG_VADDR | VFIO_DMA_UNMAP_FLAG_ALL};
	do_unmap(*c, args, {});
	return true;
}

/* ---- DIRTY_PAGES ---- */

bool FuzzSequence::dirty_switch()
{
	const auto c = active_container();

	if (!c)
		return false;
	const bool on = rng_.chance(75);
	const Result result = on ? c->handle.dirty_start() : c->handle.dirty_stop();

	expect(show(*c) + (on ? " start" : " stop"), result, {c->model.v2() ? 0 : EACCES});
	if (result.ok())
		c->model.set_dirty(on);
	return true;
}

bool FuzzSequence::dirty_get()
{
	const auto c = active_container();

	if (!c)
		return false;
	UnmapArgs range = choose_dirty(*c);

	if (rng_.chance(5))
		range.iova += rng_.between(1, page);
	if (rng_.chance(5))
		range.size += rng_.between(1, page);
	if (range.size / page / 8 > bitmap_.size() / 2)
		return false;

	BitmapArgs bitmap = choose_bitmap(range.size);

	if (rng_.chance(20))
		spoil(bitmap, rng_, bitmap_.address() + bitmap_.size() - page);

	const int early = c->model.check_dirty_flags(
		sizeof(DirtyGetCall), VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP);
	const int err = early ? early : c->model.check_dirty_get(range.iova, range.size, bitmap);
	Answers answers{err};

	if (share_ && (err == 0 || err == EFAULT))
		answers.push_back(EINVAL);
	fill_bitmap(bitmap);
	bitmap_before_ = words_at(bitmap);
	const Result result = c->handle.dirty_get(range.iova, range.size,
		reinterpret_cast<void *>(bitmap.data), bitmap.size, bitmap.pgsize);

	expect(show(*c) + " get " + range_text(range.iova, range.size), result, answers);
	if (result.ok())
		check_bitmap(*c, c->model.within(range.iova, range.iova + range.size - 1),
			range.iova, bitmap);
	return true;
}

bool FuzzSequence::dirty_bad()
{
	const auto c = active_container();

	if (!c)
		return false;
	DirtyGetCall call = {};
	constexpr std::uint32_t start = VFIO_IOMMU_DIRTY_PAGES_FLAG_START;
	constexpr std::uint32_t stop = VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
	constexpr std::uint32_t get = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;

	/* Flags of 0 are undefined with the stock driver; a good GET is another step. */
	call.flags = rng_.one_of<std::uint32_t>(
		{start | stop, start | get, stop | get, 8, 1U << 31, get, start, stop});
	call.argsz = rng_.one_of<std::uint32_t>({0, 7, 8, sizeof(call) - 1});
	if (share_ && call.argsz >= 8 && (call.flags == start || call.flags == stop))
		return false;
	const int err = c->model.check_dirty_flags(call.argsz, call.flags);
	const Result result = c->handle.ioctl(VFIO_IOMMU_DIRTY_PAGES, &call);

	expect(show(*c) + " argsz " + std::to_string(call.argsz) + " flags " + hex(call.flags),
		result, {err});
	if (result.ok())
		c->model.set_dirty(call.flags == start);
	return true;
}

} // namespace selftest
