// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kinds of memory, and patterns in it.
 */
#include "memory.hpp"

#include "outcome.hpp"
#include "proc.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <linux/memfd.h>
#include <numeric>
#include <stdexcept>
#include <unistd.h>
#include <utility>

#ifndef MAP_HUGE_SHIFT
#define MAP_HUGE_SHIFT 26
#endif

namespace selftest
{

static constexpr int map_huge_2m = MAP_HUGETLB | (21 << MAP_HUGE_SHIFT);
static constexpr int map_huge_1g = MAP_HUGETLB | (30 << MAP_HUGE_SHIFT);

[[noreturn]] static void fail(const std::string &what)
{
	throw std::runtime_error(what + ": " + std::strerror(errno));
}

Memory::Memory(Memory &&other) noexcept
	: data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0))
{
}

Memory &Memory::operator=(Memory &&other) noexcept
{
	if (this != &other) {
		reset();
		data_ = std::exchange(other.data_, nullptr);
		size_ = std::exchange(other.size_, 0);
	}
	return *this;
}

void Memory::reset()
{
	if (data_)
		::munmap(std::exchange(data_, nullptr), std::exchange(size_, 0));
}

Memory Memory::map(std::size_t size, int prot, int flags, int fd, std::uint64_t offset)
{
	void *addr = ::mmap(nullptr, size, prot, flags, fd, static_cast<off_t>(offset));
	Memory memory;

	if (addr == MAP_FAILED)
		fail("mmap of " + std::to_string(size) + " bytes");
	memory.data_ = static_cast<std::byte *>(addr);
	memory.size_ = size;
	return memory;
}

Memory Memory::reserve(std::size_t size, std::size_t align)
{
	Memory memory = map(size + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
	const std::size_t head = (align - memory.address() % align) % align;

	/* Give back what is before and after the aligned part. */
	if (head)
		::munmap(memory.data_, head);
	memory.data_ += head;
	if (align - head)
		::munmap(memory.data_ + size, align - head);
	memory.size_ = size;
	return memory;
}

void Memory::place(
	std::size_t at, std::size_t size, int prot, int flags, int fd, std::uint64_t offset)
{
	if (::mmap(data_ + at, size, prot, flags | MAP_FIXED, fd, static_cast<off_t>(offset)) ==
		MAP_FAILED)
		fail("mmap of " + std::to_string(size) + " bytes at a fixed address");
}

void Memory::punch(std::size_t at, std::size_t size)
{
	::munmap(data_ + at, size);
}

struct BackingName {
	Backing backing;
	const char *name;
	std::size_t page_size;
};

static constexpr std::array backings = {
	BackingName{Backing::small, "4k", page},
	BackingName{Backing::thp, "thp", huge_2m},
	BackingName{Backing::hugetlb_2m, "2m", huge_2m},
	BackingName{Backing::hugetlb_1g, "1g", huge_1g},
	BackingName{Backing::memfd, "memfd", page},
	BackingName{Backing::memfd_2m, "memfd2m", huge_2m},
	BackingName{Backing::file, "file", page},
	BackingName{Backing::shared_anon, "shared", page},
};

static const BackingName &entry(Backing backing)
{
	return *std::ranges::find(backings, backing, &BackingName::backing);
}

const char *name(Backing backing)
{
	return entry(backing).name;
}

std::optional<Backing> backing_from(const std::string &text)
{
	for (const auto &b : backings)
		if (text == b.name)
			return b.backing;
	return std::nullopt;
}

std::size_t page_size(Backing backing)
{
	return entry(backing).page_size;
}

static bool is_hugetlb(Backing backing)
{
	return backing == Backing::hugetlb_2m || backing == Backing::hugetlb_1g ||
	       backing == Backing::memfd_2m;
}

std::optional<std::string> lacking(Backing backing, std::size_t size)
{
	const std::size_t unit = page_size(backing);

	if (backing == Backing::thp) {
		const auto mode = read_file("/sys/kernel/mm/transparent_hugepage/enabled");

		if (!mode || mode->find("[never]") != std::string::npos)
			return "transparent huge pages are switched off "
			       "(/sys/kernel/mm/transparent_hugepage/enabled)";
	}
	if (!is_hugetlb(backing))
		return std::nullopt;
	if (size % unit)
		return std::to_string(size) + " bytes is not a multiple of the huge page size";
	const auto need = static_cast<std::int64_t>(size / unit);
	const auto free = free_huge_pages(unit);
	const std::string pool = "/sys/kernel/mm/hugepages/hugepages-" +
				 std::to_string(unit / kib) + "kB/nr_hugepages";

	if (!free)
		return "this machine has no huge pages of " + std::to_string(unit / mib) +
		       " MiB (no " + pool + ")";
	if (*free < need)
		return "the pool of " + std::to_string(unit / mib) + " MiB pages has " +
		       std::to_string(*free) + " free, " + std::to_string(need) +
		       " are needed: echo N > " + pool +
		       (unit == huge_1g ? ", or boot with hugepagesz=1G hugepages=N" : "");
	return std::nullopt;
}

void drain_page_lists()
{
	static const Memory dummy = Memory::map(page);
	void *address = dummy.data();
	int node = 0, status = 0;

	*dummy.data() = std::byte{1};
	::syscall(SYS_move_pages, 0, 1UL, &address, &node, &status, 2 /* MPOL_MF_MOVE */);
}

int make_memfd(std::size_t size, unsigned flags)
{
	const int fd = ::memfd_create("vfio_mt_selftest", MFD_CLOEXEC | flags);

	if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(size)))
		fail("memfd_create");
	return fd;
}

static int make_file(std::size_t size, const std::string &dir)
{
	std::string path = dir + "/vfio_mt_selftest.XXXXXX";
	const int fd = ::mkostemp(path.data(), O_CLOEXEC);

	if (fd < 0)
		fail("a temporary file in " + dir);
	::unlink(path.c_str());
	if (::ftruncate(fd, static_cast<off_t>(size)))
		fail("ftruncate of a file in " + dir);
	return fd;
}

Memory allocate(Backing backing, std::size_t size, const std::string &file_dir)
{
	constexpr int rw = PROT_READ | PROT_WRITE;
	constexpr int anon = MAP_PRIVATE | MAP_ANONYMOUS;
	Memory memory = Memory::reserve(size, page_size(backing));
	int fd = -1;

	switch (backing) {
	case Backing::small:
	case Backing::thp:
		memory.place(0, size, rw, anon);
		::madvise(memory.data(), size,
			backing == Backing::thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
		break;
	case Backing::hugetlb_2m:
		memory.place(0, size, rw, anon | map_huge_2m);
		break;
	case Backing::hugetlb_1g:
		memory.place(0, size, rw, anon | map_huge_1g);
		break;
	case Backing::shared_anon:
		memory.place(0, size, rw, MAP_SHARED | MAP_ANONYMOUS);
		break;
	case Backing::memfd:
		fd = make_memfd(size);
		break;
	case Backing::memfd_2m:
		fd = make_memfd(size, MFD_HUGETLB | (21U << MFD_HUGE_SHIFT));
		break;
	case Backing::file:
		fd = make_file(size, file_dir);
		break;
	}
	if (fd >= 0) {
		memory.place(0, size, rw, MAP_SHARED, fd);
		::close(fd);
	}
	return memory;
}

void populate(const Memory &memory)
{
	/* A write to each small page: right for every backing, and no huge zero page. */
	for (std::size_t at = 0; at < memory.size(); at += page)
		*reinterpret_cast<volatile std::byte *>(memory.at(at)) = std::byte{0};
}

Memory scattered(std::size_t pages, std::size_t untouched)
{
	constexpr int rw = PROT_READ | PROT_WRITE;
	const int fd = make_memfd(pages * page);
	Memory memory = Memory::reserve((pages + untouched) * page, huge_2m);

	if (untouched)
		memory.place(0, untouched * page, rw, MAP_PRIVATE | MAP_ANONYMOUS);
	memory.place(untouched * page, pages * page, rw, MAP_SHARED, fd);
	::close(fd);
	/* Every second one is touched first, then the others. */
	for (const std::size_t first : {0, 1})
		for (std::size_t i = first; i < pages; i += 2)
			*memory.at((untouched + i) * page) = std::byte{1};
	return memory;
}

void move_to(std::byte *from, std::size_t size, std::byte *to)
{
	if (::mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		fail("mremap");
}

Memory disjoint_thp(std::size_t n)
{
	const Memory made = allocate(Backing::thp, n * huge_2m);
	Memory memory = Memory::reserve(n * huge_2m, huge_2m);
	std::vector<std::size_t> order(n);

	populate(made);
	const std::vector<std::uint64_t> pfns = pfns_of(made);

	std::iota(order.begin(), order.end(), 0);
	std::ranges::sort(
		order, std::greater(), [&](std::size_t i) { return pfns[i * (huge_2m / page)]; });
	for (std::size_t i = 0; i < n; i++)
		move_to(made.at(order[i] * huge_2m), huge_2m, memory.at(i * huge_2m));
	return memory;
}

bool split_huge_pages(const Memory &memory)
{
	char range[100];

	std::snprintf(range, sizeof(range), "%d,0x%lx,0x%lx", ::getpid(), memory.address(),
		memory.address() + memory.size());
	return write_file("/sys/kernel/debug/split_huge_pages", range);
}

std::vector<std::uint64_t> pfns_of(const Memory &memory)
{
	constexpr std::uint64_t pfn_mask = (std::uint64_t{1} << 55) - 1;
	std::vector<std::uint64_t> pfns(memory.size() / page);
	const int fd = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	const auto bytes = static_cast<ssize_t>(pfns.size() * sizeof(pfns[0]));
	const auto got = ::pread(fd, pfns.data(), static_cast<std::size_t>(bytes),
		static_cast<off_t>(memory.address() / page * sizeof(pfns[0])));

	::close(fd);
	if (got != bytes)
		fail("/proc/self/pagemap");
	for (auto &pfn : pfns)
		if (!(pfn &= pfn_mask))
			throw std::runtime_error("a page without a pfn in /proc/self/pagemap");
	return pfns;
}

static std::uint64_t word(std::uint64_t index, unsigned seed)
{
	/* splitmix64: any two words, of any two seeds, differ. */
	std::uint64_t z = (index + 1) * 0x9e3779b97f4a7c15U + seed * 0xbf58476d1ce4e5b9U;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
	return z ^ (z >> 31);
}

void fill(std::span<std::byte> bytes, unsigned seed)
{
	for (std::size_t at = 0; at < bytes.size(); at += 8) {
		const std::uint64_t w = word(at / 8, seed);

		std::memcpy(&bytes[at], &w, std::min<std::size_t>(8, bytes.size() - at));
	}
}

bool filled(std::span<const std::byte> bytes, unsigned seed)
{
	for (std::size_t at = 0; at < bytes.size(); at += 8) {
		const std::uint64_t w = word(at / 8, seed);

		if (std::memcmp(&bytes[at], &w, std::min<std::size_t>(8, bytes.size() - at)))
			return false;
	}
	return true;
}

void stamp(const Memory &memory, unsigned seed)
{
	for (std::size_t at = 0; at < memory.size(); at += page) {
		const std::uint64_t w = word(at / page, seed);

		std::memcpy(memory.at(at), &w, 8);
		std::memcpy(memory.at(at + page - 8), &w, 8);
	}
}

bool stamped(const Memory &memory, unsigned seed)
{
	for (std::size_t at = 0; at < memory.size(); at += page) {
		const std::uint64_t w = word(at / page, seed);

		if (std::memcmp(memory.at(at), &w, 8) ||
			std::memcmp(memory.at(at + page - 8), &w, 8))
			return false;
	}
	return true;
}

std::string digest(std::span<const std::byte> bytes)
{
	std::uint64_t h = 0xcbf29ce484222325U;

	for (const std::byte b : bytes)
		h = (h ^ static_cast<std::uint64_t>(b)) * 0x100000001b3U;
	return hex(h);
}

} // namespace selftest
