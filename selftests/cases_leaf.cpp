// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: the argument why one reference for a huge leaf is safe (pin_chunk.c),
 * attacked step by step. Memory that only looks like a leaf, memory that other
 * processes own a part of, and memory that changes at the worst moment, which the
 * test module brings about: it stops the thread that pins before or after it has
 * pinned a part.
 *
 * What is checked each time: every page that the IOMMU translates to is the page
 * that the process has there, and is pinned; devices read and write exactly these
 * bytes, and nobody else's; and in the end each folio has the references that page
 * tables and the page cache explain, and no pins.
 *
 * doc/testing.md says which step of the argument each case is for.
 */
#include "mock/mock_rig.hpp"
#include "proc.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/userfaultfd.h>
#include <set>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace selftest
{

using namespace std::chrono_literals;

static constexpr std::uint32_t rd = VFIO_DMA_MAP_FLAG_READ;
static constexpr std::uint64_t scratch_iova = 0x800000;
static constexpr std::uint32_t bytes = 256;
static constexpr std::size_t span_pages = huge_2m / page;
static constexpr int rw = PROT_READ | PROT_WRITE;
static constexpr int anon = MAP_PRIVATE | MAP_ANONYMOUS;

using Pfns = std::vector<std::uint64_t>;

/* A file of /sys or /proc that has another value until the end. */
class Setting
{
public:
	Setting(std::string path, const std::string &value) : path_(std::move(path))
	{
		before_ = read_file(path_).value_or("");
		/* "always [madvise] never": the one in brackets */
		if (const auto at = before_.find('['); at != std::string::npos)
			before_ = before_.substr(at + 1, before_.find(']') - at - 1);
		set_ = write_file(path_, value);
	}
	Setting(const Setting &) = delete;
	Setting &operator=(const Setting &) = delete;
	~Setting() { write_file(path_, before_); }

	bool set() const { return set_; }

private:
	std::string path_;
	std::string before_;
	bool set_;
};

static const char *const shmem_enabled = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
static const char *const compact_memory = "/proc/sys/vm/compact_memory";

/* "all", or the first index at which it does not hold, and at how many. */
template <class F> std::string everywhere(std::size_t n, F holds)
{
	std::size_t bad = 0, first = 0;

	for (std::size_t i = 0; i < n; i++)
		if (!holds(i) && !bad++)
			first = i;
	return bad ? "not at " + std::to_string(first) + ", " + std::to_string(bad) + " of " +
			       std::to_string(n)
		   : "all";
}

class Leaf : public MockCase
{
protected:
	/* All devices, with memory for them to copy through. */
	Rig open_leaf_rig(std::size_t n = 0, std::size_t first = 0)
	{
		Rig rig = open_dma_rig(n, first);

		if (!scratch_.size())
			scratch_ = Memory::map(page);
		if (!rig.container.map(scratch_iova, scratch_.data(), page).ok())
			throw std::runtime_error("cannot map one page");
		return rig;
	}

	/* What the process has at each page; 0 for nothing. */
	Pfns process_pfns(std::span<const std::byte> memory) const
	{
		Pfns pfns;

		for (std::size_t at = 0; at < memory.size(); at += page)
			pfns.push_back(mock().page_state(&memory[at]).pfn);
		return pfns;
	}
	/* Where devices get to. */
	Pfns device_pfns(std::uint64_t iova, std::size_t size, std::size_t device = 0) const
	{
		return mock().translate(env().devices.at(device).bdf, iova, size / page);
	}
	std::string all_pinned(const Pfns &pfns) const
	{
		return everywhere(pfns.size(), [&](std::size_t i) {
			return pfns[i] && mock().pfn_state(pfns[i]).pins > 0;
		});
	}
	static std::string same(const Pfns &a, const Pfns &b)
	{
		if (a.size() != b.size())
			return "different sizes";
		return everywhere(a.size(), [&](std::size_t i) { return a[i] && a[i] == b[i]; });
	}

	/* Remember pages, and see later whether all references are gone. */
	void watch(const Pfns &pfns) { watched_.insert(pfns.begin(), pfns.end()); }
	void watch(std::span<const std::byte> memory) { watch(process_pfns(memory)); }
	void want_released(const std::string &key, Where where = Where::current())
	{
		std::string bad;

		watched_.erase(0);
		/* Pages wait in lists of each CPU for a while, with a reference. */
		for (int i = 0; i < 20; i++) {
			drain_page_lists();
			bad = unreleased();
			if (bad.empty())
				break;
			std::this_thread::sleep_for(20ms);
		}
		want(key, bad, "", where);
	}

	/*
	 * The mapping is right: each page, and DMA at these places. A copy goes from
	 * the start of each place to the end of the next one.
	 */
	void want_reached(const std::string &key, Rig &rig, std::uint64_t iova,
		std::span<std::byte> memory, const std::vector<std::size_t> &places,
		Where where = Where::current())
	{
		const Pfns device = device_pfns(iova, memory.size());

		watch(device);
		want(key + ".device", same(device, process_pfns(memory)), "all", where);
		want(key + ".pinned", all_pinned(device), "all", where);
		if (!places.empty())
			want(key + ".dma", copies(rig, iova, memory, places), "all", where);
		/* The copies took nothing away. */
		want(key + ".device.after", same(device, process_pfns(memory)), "all", where);
	}
	std::string copies(Rig &rig, std::uint64_t iova, std::span<std::byte> memory,
		const std::vector<std::size_t> &places)
	{
		const auto next = [&](std::size_t i) {
			return places[(i + 1) % places.size()] + page - bytes;
		};
		std::vector<Copy> todo;

		for (std::size_t i = 0; i < places.size(); i++) {
			fill(memory.subspan(places[i], bytes), seed_ + static_cast<unsigned>(i));
			todo.push_back({iova + places[i], iova + next(i), bytes});
		}
		if (!run_copies(rig.engines, todo))
			return "a transfer did not end";
		const std::string result = everywhere(places.size(), [&](std::size_t i) {
			return filled(
				memory.subspan(next(i), bytes), seed_ + static_cast<unsigned>(i));
		});

		seed_ += 100;
		return result;
	}
	/* First, middle and last page of each span. */
	static std::vector<std::size_t> usual_places(std::size_t size)
	{
		std::vector<std::size_t> places;

		for (std::size_t at = 0; at + huge_2m <= size; at += huge_2m)
			for (const std::size_t i : {std::size_t{0}, span_pages / 2, span_pages - 1})
				places.push_back(at + i * page);
		return places;
	}

	/*
	 * Map, and while the thread that does it is stopped before or after it has
	 * pinned the first part of [at, at + 2 MiB), make a change. Which page of a leaf
	 * that is depends on where the page table ends.
	 */
	template <class F>
	Result map_braked(Rig &rig, std::uint64_t iova, std::span<std::byte> memory,
		std::uint32_t when, std::size_t at, F change, std::uint32_t flags = map_rw)
	{
		std::atomic<bool> done = false;
		Result result;

		mock().set_brake(&memory[at], huge_2m, when);
		std::jthread mapper([&] {
			result = rig.container.map(iova, memory.data(), memory.size(), flags);
			done = true;
		});

		while (mock().brake_state() < VFIO_MT_MOCK_BRAKE_HOLDS && !done)
			std::this_thread::sleep_for(1ms);
		/* Else the case would prove nothing. */
		want("braked", mock().brake_state() == VFIO_MT_MOCK_BRAKE_HOLDS, true);
		change();
		want("still_braked", mock().release_brake(), true);
		mapper.join();
		return result;
	}

	/* Huge pages that one entry of the page table maps each, stamped with 1. */
	Memory make_thp(std::size_t spans)
	{
		Memory ram = allocate(Backing::thp, spans * huge_2m);

		stamp(ram, 1);
		/* Memory may have been too fragmented for the page fault. */
		for (int i = 0; i < 5 && anon_huge_bytes(ram.data(), ram.size()) != ram.size();
			i++) {
			write_file(compact_memory, "1");
			::madvise(ram.data(), ram.size(), MADV_COLLAPSE);
		}
		if (anon_huge_bytes(ram.data(), ram.size()) != ram.size())
			throw std::runtime_error("no transparent huge pages");
		return ram;
	}
	/* The same, of a memfd; needs shmem_enabled. */
	static Memory map_memfd(
		int fd, std::size_t size, int flags = MAP_SHARED, std::uint64_t offset = 0)
	{
		Memory view = Memory::reserve(size, huge_2m);

		view.place(0, size, rw, flags, fd, offset);
		return view;
	}
	void want_huge(const Memory &memory)
	{
		want("huge",
			everywhere(memory.size() / page,
				[&](std::size_t i) {
					return mock().page_state(memory.at(i * page)).order == 9;
				}),
			"all");
	}

private:
	std::string unreleased() const
	{
		constexpr unsigned user = VFIO_MT_MOCK_PAGE_ANON | VFIO_MT_MOCK_PAGE_CACHE;
		std::uint64_t checked = 0;

		for (const auto pfn : watched_) {
			if (pfn < checked)
				continue;
			const vfio_mt_mock_page state = mock().pfn_state(pfn);

			checked = (pfn | ((1ULL << state.order) - 1)) + 1;
			/* Who takes a page away keeps a reference. */
			if (state.pins || ((state.flags & user) && state.unexplained &&
						  !(state.flags & VFIO_MT_MOCK_PAGE_POISONED)))
				return "order " + std::to_string(state.order) + ": pins " +
				       std::to_string(state.pins) + ", unexplained references " +
				       std::to_string(state.unexplained);
		}
		return "";
	}

	Memory scratch_;
	std::set<std::uint64_t> watched_;
	unsigned seed_ = 1000;
};

/* ---- memory that is, or only looks like, a leaf ---- */

/* Memory to be mapped, and memory that no device may get to. */
struct LeafScene {
	Memory memory;
	std::size_t at = 0;
	std::size_t size = 0;	      /* 0: all */
	std::vector<Memory> others{}; /* stamped with 1 */
	std::vector<std::size_t> places{};
	std::vector<std::unique_ptr<Setting>> settings{};
};

struct LeafMemoryRow {
	const char *name;
	std::function<LeafScene(const std::function<Memory(std::size_t)> &thp)> make;
	Backing backing = Backing::thp;
	std::size_t need = 0;
	bool each = false; /* DMA in each leaf: takes long */
};

class LeafMemory : public Leaf, public testing::WithParamInterface<LeafMemoryRow>
{
};

TEST_P(LeafMemory, Map)
{
	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(GetParam().backing, GetParam().need);
	Rig rig = open_leaf_rig();
	LeafScene scene = GetParam().make([&](std::size_t spans) { return make_thp(spans); });

	if (!scene.size)
		scene.size = scene.memory.size() - scene.at;
	if (scene.places.empty())
		scene.places = GetParam().each ? usual_places(scene.size)
					       : std::vector<std::size_t>{0, span_pages / 2 * page,
							 scene.size - page};
	const std::span<std::byte> part = scene.memory.bytes(scene.at, scene.size);
	const std::size_t pages = scene.size / page;

	watch(part);
	want_errno("map", rig.container.map(iova0, part.data(), part.size()), 0);
	want_reached("mapped", rig, iova0, part, scene.places);
	want_unmapped("unmap", rig.container.unmap(iova0, part.size()), pages);
	want_released("released");
	/* Where IOVA and address are aligned differently, and part of a leaf first. */
	const std::uint64_t odd = iova0 + 3 * page;
	const std::span<std::byte> rest = part.subspan(page);

	want_errno("odd.map", rig.container.map(odd, rest.data(), rest.size()), 0);
	want_reached("odd", rig, odd, rest, {});
	want_unmapped("odd.unmap", rig.container.unmap(odd, rest.size()), pages - 1);
	want_released("odd.released");
	for (std::size_t i = 0; i < scene.others.size(); i++)
		want("others." + std::to_string(i), stamped(scene.others[i], 1), true);
}

static void split_pmd(const Memory &memory)
{
	for (std::size_t at = 0; at < memory.size(); at += huge_2m) {
		::mprotect(memory.at(at + 3 * page), page, PROT_READ);
		::mprotect(memory.at(at + 3 * page), page, rw);
	}
}

/* Drop these pages of each span, and perhaps get others in their place. */
static void replace_pages(
	const Memory &memory, std::initializer_list<std::size_t> pages, bool refault = true)
{
	for (std::size_t at = 0; at < memory.size(); at += huge_2m)
		for (const auto i : pages) {
			::madvise(memory.at(at + i * page), page, MADV_DONTNEED);
			if (refault)
				*memory.at(at + i * page) = std::byte{1};
		}
}

static void swap_pages(const Memory &memory, std::size_t a, std::size_t b, std::size_t n = 1)
{
	Memory aside = Memory::reserve(n * page, page);

	move_to(memory.at(a * page), n * page, aside.data());
	move_to(memory.at(b * page), n * page, memory.at(a * page));
	move_to(aside.data(), n * page, memory.at(b * page));
	/* Moved away, and so nothing to unmap. */
	aside = Memory();
}

static LeafScene scene_of(Memory memory)
{
	return {.memory = std::move(memory)};
}

static LeafScene huge_memfd(std::size_t spans, int &fd)
{
	LeafScene scene;

	scene.settings.push_back(std::make_unique<Setting>(shmem_enabled, "force"));
	fd = make_memfd(spans * huge_2m);
	scene.memory = Memory::reserve(spans * huge_2m, huge_2m);
	scene.memory.place(0, spans * huge_2m, rw, MAP_SHARED, fd);
	stamp(scene.memory, 1);
	return scene;
}

static Memory view_of(int fd, std::size_t size, int flags, std::uint64_t offset = 0)
{
	Memory view = Memory::reserve(size, huge_2m);

	view.place(0, size, rw, flags, fd, offset);
	return view;
}

using Thp = std::function<Memory(std::size_t)>;

static const LeafMemoryRow leaf_rows[] = {
	{"thp", [](const Thp &thp) { return scene_of(thp(2)); }, Backing::thp, 0, true},
	{"thp_mapped_by_ptes",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(2));

			split_pmd(s.memory);
			return s;
		}},
	{"thp_pages_replaced",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(2));

			replace_pages(s.memory, {5, 256, 510});
			return s;
		}},
	{"thp_pages_dropped",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(2));

			replace_pages(s.memory, {5, 256, 510}, false);
			return s;
		}},
	{"thp_ends_replaced",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(2));

			replace_pages(s.memory, {0, 511});
			return s;
		}},
	{"thp_all_but_ends_replaced",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(2));

			for (std::size_t at = 0; at < 2 * huge_2m; at += huge_2m) {
				::madvise(s.memory.at(at + page), huge_2m - 2 * page,
					MADV_NOHUGEPAGE);
				::madvise(
					s.memory.at(at + page), huge_2m - 2 * page, MADV_DONTNEED);
				for (std::size_t i = 1; i < span_pages - 1; i++)
					*s.memory.at(at + i * page) = std::byte{1};
			}
			return s;
		}},
	{"thp_only_ends_left",
		[](const Thp &thp) {
			/* The middle has gone to another place in this process. */
			LeafScene s = scene_of(thp(1));
			Memory away = Memory::reserve(huge_2m, huge_2m);

			move_to(s.memory.at(page), huge_2m - 2 * page, away.at(page));
			s.memory.place(page, huge_2m - 2 * page, rw, anon);
			s.others.push_back(std::move(away));
			s.others[0].place(0, page, rw, anon);
			s.others[0].place(huge_2m - page, page, rw, anon);
			stamp(s.others[0], 1);
			return s;
		}},
	{"thp_pages_swapped",
		[](const Thp &thp) {
			/* All pages of one folio, but not in its order. */
			LeafScene s = scene_of(thp(2));

			swap_pages(s.memory, 3, 7);
			swap_pages(s.memory, 512 + 100, 512 + 300, 20);
			s.places = {3 * page, 7 * page, (512 + 101) * page, (512 + 301) * page};
			return s;
		}},
	{"thp_halves_swapped",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(1));

			swap_pages(s.memory, 0, 256, 256);
			return s;
		}},
	{"thp_pages_of_two_swapped",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(2));

			swap_pages(s.memory, 9, 512 + 9, 10);
			swap_pages(s.memory, 511, 512);
			return s;
		}},
	{"thp_moved_to_other_alignment",
		[](const Thp &thp) {
			Memory ram = thp(2);
			LeafScene s = scene_of(Memory::reserve(3 * huge_2m, huge_2m));

			s.memory.place(0, 3 * huge_2m, rw, anon);
			move_to(ram.data(), 2 * huge_2m, s.memory.at(page));
			ram = Memory();
			return s;
		}},
	{"thp_moved_by_a_leaf",
		[](const Thp &thp) {
			/* Still mapped by PMDs, at another address. */
			Memory ram = thp(2);
			LeafScene s = scene_of(Memory::reserve(2 * huge_2m, huge_2m));

			move_to(ram.at(huge_2m), huge_2m, s.memory.data());
			move_to(ram.data(), huge_2m, s.memory.at(huge_2m));
			return s;
		}},
	{"thp_unmapped_in_part",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(2));

			s.memory.punch(100 * page, 50 * page);
			s.memory.place(100 * page, 50 * page, rw, anon);
			s.memory.punch(2 * huge_2m - 30 * page, 30 * page);
			s.size = 2 * huge_2m - 30 * page;
			s.places = {99 * page, 100 * page, 149 * page, 150 * page, 500 * page,
				512 * page};
			return s;
		}},
	{"thp_with_file_pages_between",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(1));
			const Fd fd(make_memfd(8 * page));

			s.memory.place(40 * page, 8 * page, rw, MAP_SHARED, fd.get());
			s.places = {39 * page, 40 * page, 47 * page};
			return s;
		}},
	{"thp_executable_in_part",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(2));

			::mprotect(s.memory.at(200 * page), 600 * page, rw | PROT_EXEC);
			return s;
		}},
	{"thp_split",
		[](const Thp &thp) {
			/* Its pages are small folios again, still one after the other. */
			LeafScene s = scene_of(thp(2));

			split_huge_pages(s.memory);
			return s;
		}},
	{"thp_freed_lazily",
		[](const Thp &thp) {
			LeafScene s = scene_of(thp(2));

			::madvise(s.memory.at(10 * page), 20 * page, MADV_FREE);
			::madvise(s.memory.at(huge_2m), huge_2m, MADV_FREE);
			return s;
		}},

	{"shmem",
		[](const Thp &) {
			int fd;
			LeafScene s = huge_memfd(2, fd);

			::close(fd);
			return s;
		}},
	{"shmem_at_other_offset",
		[](const Thp &) {
			/* Each address is aligned, but the file's huge pages are not there. */
			int fd;
			LeafScene s = huge_memfd(3, fd);

			s.memory = view_of(fd, 2 * huge_2m, MAP_SHARED, page);
			populate(s.memory);
			::close(fd);
			return s;
		}},
	{"shmem_punched",
		[](const Thp &) {
			int fd;
			LeafScene s = huge_memfd(2, fd);

			for (const std::size_t i : {0U, 5U, 700U, 1023U})
				::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					static_cast<off_t>(i * page), page);
			::close(fd);
			s.places = {0, 5 * page, 6 * page, 700 * page, 1022 * page, 1023 * page};
			return s;
		}},
	{"shmem_private_written",
		[](const Thp &) {
			int fd;
			LeafScene s = huge_memfd(2, fd);

			s.others.push_back(std::move(s.memory));
			s.memory = view_of(fd, 2 * huge_2m, MAP_PRIVATE);
			for (std::size_t at = 0; at < 2 * huge_2m; at += 64 * page)
				*s.memory.at(at + 5 * page) = std::byte{1};
			::close(fd);
			return s;
		}},
	{"shmem_private_read",
		[](const Thp &) {
			/* PMDs that allow reading only. */
			int fd;
			LeafScene s = huge_memfd(2, fd);
			unsigned sum = 0;

			s.others.push_back(std::move(s.memory));
			s.memory = view_of(fd, 2 * huge_2m, MAP_PRIVATE);
			for (std::size_t at = 0; at < 2 * huge_2m; at += page)
				sum += static_cast<unsigned>(
					*static_cast<volatile std::byte *>(s.memory.at(at)));
			static_cast<void>(sum);
			::close(fd);
			return s;
		},
		Backing::memfd, 0, true},

	{"hugetlb_punched",
		[](const Thp &) {
			const Fd fd(make_memfd(3 * huge_2m, MFD_HUGETLB | (21U << 26)));
			LeafScene s = scene_of(view_of(fd.get(), 3 * huge_2m, MAP_SHARED));

			stamp(s.memory, 1);
			::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, huge_2m,
				huge_2m);
			return s;
		},
		Backing::memfd_2m, 4 * huge_2m},
	{"hugetlb_private",
		[](const Thp &) {
			/* One that was written, one that was read, one that was not touched. */
			const Fd fd(make_memfd(3 * huge_2m, MFD_HUGETLB | (21U << 26)));
			LeafScene s;

			s.others.push_back(view_of(fd.get(), 3 * huge_2m, MAP_SHARED));
			stamp(s.others[0], 1);
			s.memory = view_of(fd.get(), 3 * huge_2m, MAP_PRIVATE);
			*s.memory.at(5 * page) = std::byte{1};
			static_cast<void>(*static_cast<volatile std::byte *>(s.memory.at(huge_2m)));
			return s;
		},
		Backing::memfd_2m, 6 * huge_2m, true},
};

INSTANTIATE_TEST_SUITE_P(Table, LeafMemory, testing::ValuesIn(leaf_rows), row_name<LeafMemoryRow>);

/* ---- one reference ---- */

/* Not part of the ABI, and so not recorded: that all this is about leaves at all. */
TEST_F(Leaf, OnePinEach)
{
	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(Backing::hugetlb_1g, huge_1g);
	NEED_MEMORY(Backing::hugetlb_2m, 2 * huge_2m);
	Rig rig = open_leaf_rig();
	const Setting force(shmem_enabled, "force");
	const auto check = [&](const char *key, Memory ram, std::int64_t leaves, int pins) {
		stamp(ram, 1);
		watch(ram.bytes(0, huge_2m));
		want_errno(std::string(key) + ".map",
			rig.container.map(huge_1g, ram.data(), ram.size()), 0);
		if (!is_stock()) {
			EXPECT_EQ(mock().page_state(ram.at(page)).pins, pins) << key;
			EXPECT_EQ(pinned() - 1, leaves) << key;
		}
		want_unmapped(std::string(key) + ".unmap", rig.container.unmap(huge_1g, ram.size()),
			ram.size() / page);
	};

	check("thp", make_thp(2), 2, 1);
	check("2m", allocate(Backing::hugetlb_2m, 2 * huge_2m), 2, 1);
	check("1g", allocate(Backing::hugetlb_1g, huge_1g), 1, 1);
	{
		const Fd fd(make_memfd(2 * huge_2m));

		check("shmem", view_of(fd.get(), 2 * huge_2m, MAP_SHARED), 2, 1);
	}
	Memory split = make_thp(1);
	split_pmd(split);
	check("ptes", std::move(split), span_pages, span_pages);
	want_released("released");
}

/*
 * One entry of the page table, but not one folio: a reference to one of its pages
 * would keep none of the others.
 */
TEST_F(Leaf, EntryOfSeveralFolios)
{
	constexpr std::size_t size = VFIO_MT_MOCK_PATCHED_SIZE;

	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_leaf_rig();
	Memory ram = Memory::reserve(size, huge_2m);

	ram.place(0, size, rw, MAP_SHARED, mock().fd(), VFIO_MT_MOCK_MEM_PATCHED);
	stamp(ram, 1);
	const std::span<std::byte> part = ram.bytes(0, size);

	watch(part);
	mock().set_brake(ram.data(), size, VFIO_MT_MOCK_BRAKE_PATCHED);
	want_errno("map", rig.container.map(iova0, part.data(), size), 0);
	want_reached("mapped", rig, iova0, part, usual_places(size));
	want_unmapped("unmap", rig.container.unmap(iova0, size), span_pages);
	want_released("released");
}

/* ---- a part belongs to another process ---- */

enum class Moment { earlier, before, after };

struct ForkRow {
	const char *name;
	Backing backing;
	Moment moment;
	bool keep_ends;	    /* the child gets all but the first and last page of each leaf */
	bool parent_writes; /* so that what is shared becomes the child's alone */
	bool child_writes;
	std::size_t spans = 1;
	std::size_t at = 0; /* the page that the brake is at */
};

class LeafFork : public Leaf, public testing::WithParamInterface<ForkRow>
{
};

/*
 * What the child owns is not reached, neither by the page table of the IOMMU nor by
 * a write. The parent's DMA reaches what the parent sees.
 */
TEST_P(LeafFork, ChildKeepsItsPages)
{
	const ForkRow &row = GetParam();

	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(row.backing, 3 * row.spans * huge_2m);
	Rig rig = open_leaf_rig();
	const std::size_t size = row.spans * huge_2m, pages = size / page;
	const Memory ram =
		row.backing == Backing::thp ? make_thp(row.spans) : allocate(row.backing, size);
	const Memory reached = Memory::map(pages * 8, rw, MAP_SHARED | MAP_ANONYMOUS);
	const auto kept = [&](std::size_t i) {
		return row.keep_ends && (i % span_pages == 0 || i % span_pages == span_pages - 1);
	};
	std::optional<Child> child;

	stamp(ram, 1);
	watch(ram.bytes(0, size));
	const std::vector<std::byte> before(ram.data(), ram.data() + size);
	const auto child_body = [&](Notes &seen, const ChildSync &sync) {
		std::vector<std::byte> own = before;
		Pfns device(pages);

		if (row.child_writes)
			for (std::size_t i = 0; i < pages; i++)
				if (!kept(i))
					*ram.at(i * page + 64) = own[i * page + 64] = std::byte{9};
		sync.ready_and_wait();
		std::memcpy(device.data(), reached.data(), pages * 8);
		const std::set<std::uint64_t> all(device.begin(), device.end());

		seen.put("contents", everywhere(pages, [&](std::size_t i) {
			return kept(i) || !std::memcmp(ram.at(i * page), &own[i * page], page);
		}));
		seen.put("apart", everywhere(pages, [&](std::size_t i) {
			return kept(i) || !all.contains(mock().page_state(ram.at(i * page)).pfn);
		}));
	};
	const auto fork_it = [&] {
		for (std::size_t at = 0; row.keep_ends && at < size; at += huge_2m) {
			::madvise(ram.at(at), page, MADV_DONTFORK);
			::madvise(ram.at(at + huge_2m - page), page, MADV_DONTFORK);
		}
		child.emplace(child_body);
		want("ready", child->wait_ready(), true);
		for (std::size_t i = 0; row.parent_writes && i < pages; i++)
			if (!kept(i))
				*ram.at(i * page + 32) = std::byte{8};
	};
	const std::span<std::byte> part = ram.bytes(0, size);
	Result result;

	if (row.moment == Moment::earlier) {
		fork_it();
		result = rig.container.map(iova0, part.data(), size);
	} else {
		result = map_braked(rig, iova0, part,
			row.moment == Moment::before ? VFIO_MT_MOCK_BRAKE_BEFORE
						     : VFIO_MT_MOCK_BRAKE_AFTER,
			row.at * page, fork_it);
	}
	want_errno("map", result, 0);
	const Pfns device = device_pfns(iova0, size);

	std::memcpy(reached.data(), device.data(), pages * 8);
	want_reached("mapped", rig, iova0, part, usual_places(huge_2m));
	child->go();
	take("child.", child->finish());
	expect_noted("child.contents", Value{"all"});
	expect_noted("child.apart", Value{"all"});
	/* And now the parent is alone. */
	want_reached("alone", rig, iova0, part, {});
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
	want_released("released");
}

static const ForkRow fork_rows[] = {
	{"thp_earlier", Backing::thp, Moment::earlier, false, false, false},
	{"thp_earlier_parent_writes", Backing::thp, Moment::earlier, false, true, false},
	{"thp_earlier_child_writes", Backing::thp, Moment::earlier, false, false, true},
	/* Only the pages that will be looked at are the parent's. */
	{"thp_earlier_keeps_ends", Backing::thp, Moment::earlier, true, false, false, 2},
	{"thp_earlier_keeps_ends_writes", Backing::thp, Moment::earlier, true, true, false, 2},
	{"thp_before", Backing::thp, Moment::before, false, false, false},
	{"thp_before_keeps_ends", Backing::thp, Moment::before, true, false, false},
	{"thp_before_keeps_ends_writes", Backing::thp, Moment::before, true, true, false},
	{"thp_after", Backing::thp, Moment::after, false, false, false},
	{"thp_after_writes", Backing::thp, Moment::after, false, true, true},
	{"thp_after_keeps_ends", Backing::thp, Moment::after, true, false, false},
	{"thp_after_keeps_ends_writes", Backing::thp, Moment::after, true, true, false},
	{"thp_batch_before", Backing::thp, Moment::before, true, true, false, 4, 2 * span_pages},
	{"thp_batch_after", Backing::thp, Moment::after, true, true, false, 4, 2 * span_pages},
	{"hugetlb_earlier", Backing::hugetlb_2m, Moment::earlier, false, true, false},
	{"hugetlb_before", Backing::hugetlb_2m, Moment::before, false, false, true},
	{"hugetlb_after", Backing::hugetlb_2m, Moment::after, false, true, false},
};

INSTANTIATE_TEST_SUITE_P(Table, LeafFork, testing::ValuesIn(fork_rows), row_name<ForkRow>);

/* ---- memory changes while it is pinned ---- */

/* A userfaultfd for a range. */
class FaultFd
{
public:
	FaultFd(const Memory &memory, std::uint64_t mode)
		: fd_(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)))
	{
		uffdio_api api = {};
		uffdio_register area = {};

		api.api = UFFD_API;
		area.range = {memory.address(), memory.size()};
		area.mode = mode;
		if (::ioctl(fd_.get(), UFFDIO_API, &api) ||
			::ioctl(fd_.get(), UFFDIO_REGISTER, &area))
			throw std::runtime_error("userfaultfd");
	}
	void write_protect(const Memory &memory, bool on) const
	{
		uffdio_writeprotect wp = {};

		wp.range = {memory.address(), memory.size()};
		wp.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0;
		if (::ioctl(fd_.get(), UFFDIO_WRITEPROTECT, &wp))
			throw std::runtime_error("UFFDIO_WRITEPROTECT");
	}
	void give_zero_page(const std::byte *at) const
	{
		uffdio_zeropage zero = {};

		zero.range = {reinterpret_cast<std::uintptr_t>(at), page};
		if (::ioctl(fd_.get(), UFFDIO_ZEROPAGE, &zero))
			throw std::runtime_error("UFFDIO_ZEROPAGE");
	}

private:
	Fd fd_;
};

/* What a change has to work with. */
struct Victim {
	const Mock *mock;
	Memory memory;
	int fd = -1;
	std::vector<Memory> aside{};
	std::vector<std::uint64_t> poisoned{};
	std::vector<std::unique_ptr<Setting>> settings{};
	std::optional<FaultFd> faults{};
};

struct ChangeRow {
	const char *name;
	std::function<void(Victim &)> change;
	/* errno of a map that meets the change */
	int error = 0;
	/* put back what would keep the test from looking */
	std::function<void(Victim &)> restore = nullptr;
	Backing backing = Backing::thp;
	/* the change can no more be made when a page is pinned */
	bool prevented = false;
};

static constexpr int madv_hwpoison = 100;
static constexpr int madv_soft_offline = 101;

static void each_span(Victim &v, const std::function<void(std::size_t)> &change)
{
	for (std::size_t at = 0; at < v.memory.size(); at += huge_2m)
		change(at / page);
}

/*
 * A page of each leaf that a MADV_ value for testing takes away, if it does. Newer kernels
 * than 6.1 tell who has it, by a signal that must not be ignored.
 */
static void take_pages_away(Victim &v, int advice)
{
	const auto before = std::signal(SIGBUS, [](int) {});

	each_span(v, [&](std::size_t first) {
		std::byte *const at = v.memory.at((first + 5) * page);

		v.poisoned.push_back(v.mock->page_state(at).pfn);
		::madvise(at, page, advice);
	});
	std::signal(SIGBUS, before);
}

/*
 * Let the daemon look at everything several times. It merges a page when it comes by for the third
 * time; the round that it is in may have gone past it already, and it passes over a page that
 * somebody has locked.
 */
static void run_ksmd()
{
	const std::string ksm = "/sys/kernel/mm/ksm/";
	const auto scans = [&] { return std::atoll(read_file(ksm + "full_scans")->c_str()); };
	const Setting many(ksm + "pages_to_scan", "2000");
	const Setting quick(ksm + "sleep_millisecs", "0");
	const Setting on(ksm + "run", "1");
	const auto until = scans() + 6;

	for (int i = 0; i < 3000 && scans() < until; i++)
		std::this_thread::sleep_for(10ms);
}

static void punch(int fd, std::size_t at, std::size_t size)
{
	::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(at),
		static_cast<off_t>(size));
}

static int other_node(const void *at)
{
	void *address = const_cast<void *>(at);
	int status = -1;

	::syscall(SYS_move_pages, 0, 1UL, &address, nullptr, &status, 0);
	return status == 0 ? 1 : 0;
}

static void move_to_other_node(const Memory &memory)
{
	std::vector<void *> addresses;
	std::vector<int> nodes, status(memory.size() / page);

	for (std::size_t at = 0; at < memory.size(); at += page)
		addresses.push_back(memory.at(at));
	nodes.assign(addresses.size(), other_node(memory.data()));
	::syscall(SYS_move_pages, 0, addresses.size(), addresses.data(), nodes.data(),
		status.data(), 2 /* MPOL_MF_MOVE */);
}

static const ChangeRow change_rows[] = {
	{"nothing", [](Victim &) {}},
	{"pages_dropped",
		[](Victim &v) {
			replace_pages(v.memory, {5, 256, 510});
		}},
	{"ends_dropped",
		[](Victim &v) {
			replace_pages(v.memory, {0, 511});
		}},
	{"pages_gone",
		[](Victim &v) {
			replace_pages(v.memory, {5, 256, 510}, false);
		}},
	{"all_dropped",
		[](Victim &v) {
			::madvise(v.memory.data(), v.memory.size(), MADV_DONTNEED);
			populate(v.memory);
		}},
	{"all_gone", [](Victim &v) { ::madvise(v.memory.data(), v.memory.size(), MADV_DONTNEED); }},
	{"freed_lazily", [](Victim &v) { ::madvise(v.memory.data(), v.memory.size(), MADV_FREE); }},
	{"entry_split", [](Victim &v) { split_pmd(v.memory); }},
	{"read_only", [](Victim &v) { ::mprotect(v.memory.data(), v.memory.size(), PROT_READ); },
		EFAULT, [](Victim &v) { ::mprotect(v.memory.data(), v.memory.size(), rw); }},
	{"a_page_read_only", [](Victim &v) { ::mprotect(v.memory.at(99 * page), page, PROT_READ); },
		EFAULT, [](Victim &v) { ::mprotect(v.memory.data(), v.memory.size(), rw); }},
	{"no_access", [](Victim &v) { ::mprotect(v.memory.data(), v.memory.size(), PROT_NONE); },
		EFAULT, [](Victim &v) { ::mprotect(v.memory.data(), v.memory.size(), rw); }},
	/* Filled again, lest somebody else gets the addresses. */
	{"unmapped", [](Victim &v) { v.memory.punch(0, v.memory.size()); }, EFAULT,
		[](Victim &v) { v.memory.place(0, v.memory.size(), PROT_NONE, anon); }},
	{"a_page_unmapped", [](Victim &v) { v.memory.punch(77 * page, page); }, EFAULT,
		[](Victim &v) { v.memory.place(77 * page, page, PROT_NONE, anon); }},
	{"moved",
		[](Victim &v) {
			v.aside.push_back(Memory::reserve(v.memory.size(), huge_2m));
			move_to(v.memory.data(), v.memory.size(), v.aside[0].data());
			v.memory.place(0, v.memory.size(), rw, anon);
			populate(v.memory);
		}},
	{"moved_in_part",
		[](Victim &v) {
			v.aside.push_back(Memory::reserve(v.memory.size(), huge_2m));
			each_span(v, [&](std::size_t first) {
				const std::size_t at = (first + 1) * page;

				move_to(v.memory.at(at), huge_2m - 2 * page, v.aside[0].at(at));
				v.memory.place(at, huge_2m - 2 * page, rw, anon);
			});
			populate(v.memory);
		}},
	{"pages_swapped",
		[](Victim &v) {
			each_span(v, [&](std::size_t first) {
				swap_pages(v.memory, first + 3, first + 300, 100);
			});
		}},
	{"halves_swapped",
		[](Victim &v) {
			each_span(v, [&](std::size_t first) {
				swap_pages(v.memory, first, first + 256, 256);
			});
		}},
	{"folio_split", [](Victim &v) { split_huge_pages(v.memory); }},
	{"split_and_collapsed",
		[](Victim &v) {
			split_huge_pages(v.memory);
			::madvise(v.memory.data(), v.memory.size(), MADV_COLLAPSE);
		}},
	{"refaulted_and_collapsed",
		[](Victim &v) {
			replace_pages(v.memory, {5, 256, 510});
			::madvise(v.memory.data(), v.memory.size(), MADV_COLLAPSE);
		}},
	{"compacted", [](Victim &) { write_file(compact_memory, "1"); }},
	{"page_taken_offline", [](Victim &v) { take_pages_away(v, madv_soft_offline); }},
	{"page_poisoned", [](Victim &v) { take_pages_away(v, madv_hwpoison); }, EFAULT, nullptr,
		Backing::thp, true},
	{"moved_to_other_node", [](Victim &v) { move_to_other_node(v.memory); }},
	{"write_protected",
		[](Victim &v) {
			v.faults.emplace(v.memory, UFFDIO_REGISTER_MODE_WP);
			v.faults->write_protect(v.memory, true);
		},
		EFAULT, [](Victim &v) { v.faults->write_protect(v.memory, false); }},
	{"page_missing",
		[](Victim &v) {
			v.faults.emplace(v.memory, UFFDIO_REGISTER_MODE_MISSING);
			::madvise(v.memory.at(5 * page), page, MADV_DONTNEED);
		},
		EFAULT},
	{"merged",
		[](Victim &v) {
			/* Equal pages, here and outside. */
			v.aside.push_back(allocate(Backing::small, 64 * page));
			for (const Memory *m : {&v.memory, &v.aside[0]}) {
				std::memset(m->data(), 0x55, m->size());
				::madvise(m->data(), m->size(), MADV_MERGEABLE);
			}
			run_ksmd();
		}},
	{"shmem_punched",
		[](Victim &v) {
			for (const std::size_t i : {0U, 5U, 256U, 511U})
				punch(v.fd, i * page, page);
		},
		0, nullptr, Backing::memfd},
	{"shmem_punched_whole",
		[](Victim &v) {
			punch(v.fd, 0, v.memory.size());
			populate(v.memory);
		},
		0, nullptr, Backing::memfd},
	{"shmem_truncated", [](Victim &v) { static_cast<void>(::ftruncate(v.fd, 9 * page) != 0); },
		EFAULT,
		[](Victim &v) {
			static_cast<void>(
				::ftruncate(v.fd, static_cast<off_t>(v.memory.size())) != 0);
		},
		/* a folio that is pinned stays whole, and so does its entry */
		Backing::memfd, true},
	{"shmem_other_offset",
		[](Victim &v) {
			v.memory.place(0, v.memory.size() - page, rw, MAP_SHARED, v.fd, page);
			populate(v.memory);
		},
		0, nullptr, Backing::memfd},
	{"shmem_made_private",
		[](Victim &v) {
			v.memory.place(0, v.memory.size(), rw, MAP_PRIVATE, v.fd);
			static_cast<void>(*static_cast<volatile std::byte *>(v.memory.data()));
		},
		0, nullptr, Backing::memfd},
	{"hugetlb_punched",
		[](Victim &v) {
			punch(v.fd, 0, huge_2m);
			populate(v.memory);
		},
		0, nullptr, Backing::memfd_2m},
	{"hugetlb_truncated", [](Victim &v) { static_cast<void>(::ftruncate(v.fd, 0) != 0); },
		EFAULT,
		[](Victim &v) {
			static_cast<void>(
				::ftruncate(v.fd, static_cast<off_t>(v.memory.size())) != 0);
		},
		Backing::memfd_2m},
};

struct LeafChangeRow {
	std::string name;
	const ChangeRow *row;
	Moment moment;
	std::size_t spans;
};

static std::vector<LeafChangeRow> leaf_change_rows()
{
	std::vector<LeafChangeRow> rows;

	for (const ChangeRow &row : change_rows) {
		const std::string name = row.name;

		rows.push_back({name + "_before", &row, Moment::before, 1});
		rows.push_back({name + "_after", &row, Moment::after, 1});
		/* Several leaves that are pinned first, and looked at then. */
		if (!row.error && row.backing == Backing::thp)
			rows.push_back({name + "_batch", &row, Moment::after, 4});
	}
	return rows;
}

class LeafVictims : public Leaf
{
	/* With several nodes, the kernel takes entries away to see who faults. */
	const Setting no_balancing_{"/proc/sys/kernel/numa_balancing", "0"};

protected:
	Victim make_victim(Backing backing, std::size_t size)
	{
		Victim v{.mock = &mock(), .memory = {}};

		if (backing == Backing::thp) {
			v.memory = make_thp(size / huge_2m);
			return v;
		}
		if (backing == Backing::memfd)
			v.settings.push_back(std::make_unique<Setting>(shmem_enabled, "force"));
		v.fd = make_memfd(size, backing == Backing::memfd ? 0 : MFD_HUGETLB | (21U << 26));
		v.memory = view_of(v.fd, size, MAP_SHARED);
		stamp(v.memory, 1);
		return v;
	}
	/* Give back what is bad for other cases. */
	void end(Victim &v)
	{
		v.memory.reset();
		v.aside.clear();
		if (v.fd >= 0)
			::close(v.fd);
		for (const auto pfn : v.poisoned)
			if (pfn)
				mock().unpoison(pfn);
	}
};

class LeafChange : public LeafVictims, public testing::WithParamInterface<LeafChangeRow>
{
};

using LeafHeld = LeafVictims;

/*
 * A change that meets the thread before it pins: both drivers pin what is there
 * afterwards. A change that meets it when it has pinned something: the stock driver
 * has pinned each page and keeps to these; ours has pinned one page of a leaf, and must
 * not believe any more than what the page table says now.
 */
TEST_P(LeafChange, WhilePinned)
{
	const ChangeRow &row = *GetParam().row;
	const std::size_t size = GetParam().spans * huge_2m;
	const bool before = GetParam().moment == Moment::before;
	const bool batch = GetParam().spans > 1;

	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(row.backing, 3 * size);
	if (std::string(row.name) == "moved_to_other_node" &&
		!read_file("/sys/devices/system/node/node1/meminfo"))
		GTEST_SKIP() << "needs two NUMA nodes (numa=fake=2)";
	Rig rig = open_leaf_rig();
	Victim v = make_victim(row.backing, size);
	const std::span<std::byte> part = v.memory.bytes(0, size);
	const Pfns old = process_pfns(part);

	watch(old);
	want("huge",
		everywhere(old.size(),
			[&](std::size_t i) { return mock().pfn_state(old[i]).order == 9; }),
		"all");
	const Result result = map_braked(rig, iova0, part,
		before ? VFIO_MT_MOCK_BRAKE_BEFORE : VFIO_MT_MOCK_BRAKE_AFTER,
		batch ? 2 * huge_2m : 0, [&] { row.change(v); });

	if (row.restore)
		row.restore(v);
	const bool keeps = !before && is_stock();
	const Pfns device = device_pfns(iova0, size);
	const Pfns now = process_pfns(part);

	watch(now);
	watch(device);
	const int error = keeps || (!before && row.prevented) ? 0 : row.error;

	if (before)
		want_errno("map", result, error);
	else
		want("map", result.err == error, true);
	if (!result.ok())
		want("nothing",
			everywhere(device.size(), [&](std::size_t i) { return !device[i]; }),
			"all");
	else if (batch)
		want("device",
			everywhere(device.size(),
				[&](std::size_t i) {
					return device[i] == old[i] || device[i] == now[i];
				}),
			"all");
	else
		want("device", same(device, keeps ? old : now), "all");
	if (result.ok()) {
		want("pinned", all_pinned(device), "all");
		/* Takes long, and tells nothing new of the drivers' common part. */
		if (!before && !batch && !keeps) {
			EXPECT_EQ(copies(rig, iova0, part, {0, 256 * page, size - page}), "all");
		}
		want_unmapped("unmap", rig.container.unmap(iova0, size), size / page);
	}
	want_released("released");
	/* The next one finds what is there. */
	if (!row.error) {
		want_errno("again", rig.container.map(iova0, part.data(), size), 0);
		want_reached("again", rig, iova0, part, {});
	}
	rig.close();
	want_released("again.released");
	end(v);
}

INSTANTIATE_TEST_SUITE_P(
	Table, LeafChange, testing::ValuesIn(leaf_change_rows()), row_name<LeafChangeRow>);

/* ---- and all the time ---- */

/* What another thread does, again and again, while memory is mapped and unmapped. */
struct StressRow {
	const char *name;
	std::function<void(Victim &, std::size_t round)> change;
	bool may_fail = false; /* there are moments at which it is not there */
	Backing backing = Backing::thp;
	std::size_t repetitions = 30;
};

static const StressRow stress_rows[] = {
	{"drops",
		[](Victim &v, std::size_t round) {
			std::byte *const at = v.memory.at(round * 37 * page % v.memory.size());

			::madvise(at, page, MADV_DONTNEED);
			*at = std::byte{1};
			if (round % 16 == 0)
				::madvise(v.memory.data(), huge_2m, MADV_DONTNEED);
		}},
	{"protects",
		[](Victim &v, std::size_t round) {
			const std::size_t n = round % 2 ? page : huge_2m;

			::mprotect(v.memory.at(round % 4 * huge_2m), n, PROT_READ);
			::mprotect(v.memory.at(round % 4 * huge_2m), n, rw);
		},
		true},
	{"swaps",
		[](Victim &v, std::size_t round) {
			swap_pages(v.memory, round * 7 % 1000, 1000 + round * 11 % 1000);
		},
		true},
	{"splits_and_collapses",
		[](Victim &v, std::size_t) {
			split_huge_pages(v.memory);
			::madvise(v.memory.data(), v.memory.size(), MADV_COLLAPSE);
		}},
	{"compacts",
		[](Victim &v, std::size_t round) {
			::madvise(v.memory.at(round % 4 * huge_2m), huge_2m, MADV_DONTNEED);
			populate(v.memory);
			write_file(compact_memory, "1");
		}},
	{"forks",
		[](Victim &v, std::size_t round) {
			const Child child([](Notes &, const ChildSync &) {});

			for (std::size_t at = round * 5 * page % huge_2m; at < v.memory.size();
				at += huge_2m / 4)
				*v.memory.at(at) = std::byte{1};
		}},
	{"write_protects",
		[](Victim &v, std::size_t) {
			if (!v.faults)
				v.faults.emplace(v.memory, UFFDIO_REGISTER_MODE_WP);
			v.faults->write_protect(v.memory, true);
			v.faults->write_protect(v.memory, false);
		},
		true},
	{"merges",
		[](Victim &v, std::size_t round) {
			if (!round) {
				::madvise(v.memory.data(), v.memory.size(), MADV_MERGEABLE);
				v.settings.push_back(std::make_unique<Setting>(
					"/sys/kernel/mm/ksm/sleep_millisecs", "0"));
				v.settings.push_back(std::make_unique<Setting>(
					"/sys/kernel/mm/ksm/pages_to_scan", "1000"));
				v.settings.push_back(
					std::make_unique<Setting>("/sys/kernel/mm/ksm/run", "1"));
			}
			std::memset(v.memory.at(round * 3 * page % v.memory.size()), 0x55, page);
			std::this_thread::sleep_for(1ms);
		}},
	{"punches",
		[](Victim &v, std::size_t round) {
			punch(v.fd, round * 37 * page % v.memory.size(),
				round % 8 ? page : huge_2m);
		},
		false, Backing::memfd},
	{"punches_hugetlb",
		[](Victim &v, std::size_t round) {
			punch(v.fd, round % 4 * huge_2m, huge_2m);
			*v.memory.at(round % 4 * huge_2m) = std::byte{1};
		},
		false, Backing::memfd_2m},
};

class LeafStress : public LeafVictims, public testing::WithParamInterface<StressRow>
{
};

/* Whatever the IOMMU translates to is pinned, each time. */
TEST_P(LeafStress, MapAndUnmap)
{
	const StressRow &row = GetParam();
	constexpr std::size_t size = 4 * huge_2m;

	NEED_DEVICES(1);
	NEED_EDU();
	NEED_MEMORY(row.backing, 2 * size);
	Rig rig = open_leaf_rig();
	Victim v = make_victim(row.backing, size);
	std::atomic<bool> stop = false;
	std::atomic<std::size_t> rounds = 0;
	std::size_t mapped = 0;
	std::jthread other([&] {
		for (std::size_t round = 0; !stop; rounds = ++round)
			row.change(v, round);
	});
	std::string bad;

	for (std::size_t i = 0; i < row.repetitions && bad.empty(); i++) {
		const Result result = rig.container.map(iova0, v.memory.data(), size);

		if (!result.ok()) {
			if (!row.may_fail || result.err != EFAULT)
				bad = "map: " + errno_name(result.err);
			continue;
		}
		mapped++;
		const Pfns device = device_pfns(iova0, size);

		watch(device);
		if (all_pinned(device) != "all")
			bad = "pinned: " + all_pinned(device);
		if (rig.container.unmap(iova0, size).value != static_cast<long>(size))
			bad = "unmapped less";
	}
	stop = true;
	other.join();
	v.settings.clear();
	want("bad", bad, "");
	/* It has been a fight. */
	want("rounds", rounds > 0, true);
	want("mapped", mapped > 0, true);
	watch(v.memory.bytes(0, size));
	want_released("released");
	/* In peace: what the process sees is what devices see. */
	want_errno("map", rig.container.map(iova0, v.memory.data(), size), 0);
	want_reached("mapped", rig, iova0, v.memory.bytes(0, size), usual_places(huge_2m));
	rig.close();
	want_released("closed.released");
	end(v);
}

INSTANTIATE_TEST_SUITE_P(Table, LeafStress, testing::ValuesIn(stress_rows), row_name<StressRow>);

/* ---- while it is mapped ---- */

/*
 * One reference keeps the whole leaf where it is, whatever is tried: the device still
 * gets to the pages that the process has.
 */
TEST_F(LeafHeld, NothingMovesIt)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_leaf_rig();
	Victim v{.mock = &mock(), .memory = make_thp(2)};
	const std::span<std::byte> part = v.memory.bytes(0, v.memory.size());
	const Pfns old = process_pfns(part);
	const auto check = [&](const char *key) {
		want(std::string(key) + ".process", same(process_pfns(part), old), "all");
		want(std::string(key) + ".device", same(device_pfns(iova0, part.size()), old),
			"all");
		want(std::string(key) + ".pinned", all_pinned(old), "all");
	};

	watch(old);
	want_errno("map", rig.container.map(iova0, part.data(), part.size()), 0);
	split_huge_pages(v.memory);
	check("split");
	write_file(compact_memory, "1");
	check("compacted");
	::madvise(part.data(), part.size(), MADV_COLLAPSE);
	check("collapsed");
	take_pages_away(v, madv_soft_offline);
	check("offline");
	::madvise(part.data(), part.size(), MADV_PAGEOUT);
	check("paged_out");
	for (std::size_t at = 0; at < part.size(); at += page)
		std::memset(&part[at], 0x55, page);
	::madvise(part.data(), part.size(), MADV_MERGEABLE);
	run_ksmd();
	check("merged");
	split_pmd(v.memory);
	split_huge_pages(v.memory);
	check("split.again");
	move_to_other_node(v.memory);
	check("moved");
	want("dma", copies(rig, iova0, part, usual_places(part.size())), "all");
	want_unmapped("unmap", rig.container.unmap(iova0, part.size()), part.size() / page);
	want_released("released");
	/* Now it can. */
	split_huge_pages(v.memory);
	want("now", mock().pfn_state(old[0]).order, 0U);
	end(v);
}

/* A hole that the user has to fill is no memory, for either driver. */
TEST_F(LeafHeld, UserfaultMissing)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_leaf_rig();
	const Memory ram = make_thp(2);
	const FaultFd faults(ram, UFFDIO_REGISTER_MODE_MISSING);
	const std::span<std::byte> part = ram.bytes(0, ram.size());

	want_errno("full", rig.container.map(iova0, part.data(), part.size()), 0);
	want_reached("full", rig, iova0, part, {0, huge_2m});
	want_unmapped("full.unmap", rig.container.unmap(iova0, part.size()), part.size() / page);
	::madvise(ram.at(700 * page), page, MADV_DONTNEED);
	want_errno("hole", rig.container.map(iova0, part.data(), part.size()), EFAULT);
	faults.give_zero_page(ram.at(700 * page));
	want_errno("filled", rig.container.map(iova0, part.data(), part.size()), 0);
	want_reached("filled", rig, iova0, part, {0, 700 * page});
	want_unmapped("unmap", rig.container.unmap(iova0, part.size()), part.size() / page);
	watch(part);
	want_released("released");
}

/* A page that is gone for good makes its leaf a range that cannot be mapped. */
TEST_F(LeafHeld, Poisoned)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_leaf_rig();
	Victim v{.mock = &mock(), .memory = make_thp(2)};
	const std::span<std::byte> part = v.memory.bytes(0, v.memory.size());

	watch(part);
	take_pages_away(v, madv_hwpoison);
	want_errno("map", rig.container.map(iova0, part.data(), part.size()), EFAULT);
	/* All around it can. */
	want_errno("map.before", rig.container.map(iova0, part.data(), 5 * page), 0);
	want_errno(
		"map.between", rig.container.map(iova0 + 6 * page, &part[6 * page], 511 * page), 0);
	want_reached("between", rig, iova0 + 6 * page, part.subspan(6 * page, 511 * page),
		{0, 300 * page});
	want("not", device_pfns(iova0 + 5 * page, page)[0], 0U);
	rig.close();
	end(v);
	want_released("released");
}

/* KSM's pages are nobody's: writing, by the process or by a device, needs one's own. */
TEST_F(LeafHeld, Merged)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_leaf_rig();
	Victim v{.mock = &mock(), .memory = make_thp(1)};
	const Memory other = allocate(Backing::small, 64 * page);
	const std::span<std::byte> part = v.memory.bytes(0, v.memory.size());

	std::memset(part.data(), 0x55, part.size());
	std::memset(other.data(), 0x55, other.size());
	::madvise(part.data(), part.size(), MADV_MERGEABLE);
	::madvise(other.data(), other.size(), MADV_MERGEABLE);
	/* ksmd leaves out what somebody has locked at that moment, or what it thinks changes. */
	const auto merged = [&] {
		const Pfns pfns = process_pfns(part);

		return std::set(pfns.begin(), pfns.end()).size() < pfns.size();
	};
	for (int i = 0; i < 20 && !merged(); i++)
		run_ksmd();
	want("merged", merged(), true);
	for (const auto flags : {map_rw, rd}) {
		const std::string key = flags == rd ? "read" : "write";

		want_errno(key, rig.container.map(iova0, part.data(), part.size(), flags), 0);
		run_ksmd();
		const Pfns device = device_pfns(iova0, part.size());

		watch(device);
		want(key + ".device", same(device, process_pfns(part)), "all");
		want(key + ".pinned", all_pinned(device), "all");
		if (flags == map_rw)
			want(key + ".dma", copies(rig, iova0, part, usual_places(huge_2m)), "all");
		want_unmapped(key + ".unmap", rig.container.unmap(iova0, part.size()),
			part.size() / page);
		run_ksmd();
	}
	want("other",
		everywhere(other.size() / page,
			[&](std::size_t i) {
				return *other.at(i * page) == std::byte{0x55} &&
				       !std::memcmp(other.at(i * page), other.at(i * page) + 1,
					       page - 1);
			}),
		"all");
	want_released("released");
}

/* A hole in a folio that another mapping holds does not take its pages away. */
TEST_F(LeafHeld, PunchedWhileHeldElsewhere)
{
	NEED_DEVICES(2);
	NEED_EDU();
	Rig one = open_leaf_rig(1, 0);
	Rig two = open_leaf_rig(1, 1);
	const Setting force(shmem_enabled, "force");
	const Fd fd(make_memfd(huge_2m));
	const Memory ram = view_of(fd.get(), huge_2m, MAP_SHARED);
	const std::span<std::byte> part = ram.bytes(0, huge_2m);

	stamp(ram, 1);
	const Pfns old = process_pfns(part);

	watch(old);
	want_errno("one", one.container.map(iova0, part.data(), part.size()), 0);
	punch(fd.get(), 100 * page, 50 * page);
	want_errno("two", two.container.map(iova0, part.data(), part.size()), 0);
	want("one.device", same(device_pfns(iova0, huge_2m, 0), old), "all");
	const Pfns device = device_pfns(iova0, huge_2m, 1);

	watch(device);
	want("two.device", same(device, process_pfns(part)), "all");
	want("two.pinned", all_pinned(device), "all");
	want_unmapped("one.unmap", one.container.unmap(iova0, huge_2m), span_pages);
	want("two.still_pinned", all_pinned(device), "all");
	want("two.dma", copies(two, iova0, part, {0, 100 * page, 511 * page}), "all");
	want_unmapped("two.unmap", two.container.unmap(iova0, huge_2m), span_pages);
	want_released("released");
}

} // namespace selftest
