/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory to be mapped for DMA: each kind of backing a user of VFIO may have,
 * and patterns that tell whether the contents survived.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <sys/mman.h>
#include <vector>

namespace selftest
{

inline constexpr std::size_t page = 4096;
inline constexpr std::size_t kib = 1024;
inline constexpr std::size_t mib = 1024 * kib;
inline constexpr std::size_t gib = 1024 * mib;
inline constexpr std::size_t huge_2m = 2 * mib;
inline constexpr std::size_t huge_1g = gib;

/* An mmap'ed range that is unmapped at the end. */
class Memory
{
public:
	Memory() = default;
	Memory(Memory &&other) noexcept;
	Memory &operator=(Memory &&other) noexcept;
	~Memory() { reset(); }

	/* Throws when mmap refuses. */
	static Memory map(std::size_t size, int prot = PROT_READ | PROT_WRITE,
		int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1, std::uint64_t offset = 0);
	/* PROT_NONE address space at a multiple of align, to place mappings in. */
	static Memory reserve(std::size_t size, std::size_t align);

	/* Replace a part by another mapping (MAP_FIXED). Throws when mmap refuses. */
	void place(std::size_t at, std::size_t size, int prot, int flags, int fd = -1,
		std::uint64_t offset = 0);
	/* Unmap a part, leaving a hole. */
	void punch(std::size_t at, std::size_t size);

	std::byte *data() const { return data_; }
	std::byte *at(std::size_t offset) const { return data_ + offset; }
	std::size_t size() const { return size_; }
	std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(data_); }
	std::span<std::byte> bytes(std::size_t offset, std::size_t size) const
	{
		return {data_ + offset, size};
	}
	void reset();

private:
	std::byte *data_ = nullptr;
	std::size_t size_ = 0;
};

enum class Backing {
	small,	     /* anonymous, never huge */
	thp,	     /* anonymous, transparent huge pages */
	hugetlb_2m,  /* anonymous MAP_HUGETLB */
	hugetlb_1g,  /* the same, of 1 GiB pages */
	memfd,	     /* shared memory */
	memfd_2m,    /* shared hugetlb memory */
	file,	     /* shared mapping of a file in --file-dir */
	shared_anon, /* MAP_SHARED | MAP_ANONYMOUS */
};

const char *name(Backing backing);
std::optional<Backing> backing_from(const std::string &name);
/* The size in which this backing comes: 4 KiB, 2 MiB or 1 GiB. */
std::size_t page_size(Backing backing);
/* Why so many bytes of this backing cannot be had here; nothing when they can. */
std::optional<std::string> lacking(Backing backing, std::size_t size);

/*
 * Fresh memory, aligned to its page size and not touched. populate() touches it. file_dir is
 * where Backing::file makes its (unlinked) file.
 */
Memory allocate(Backing backing, std::size_t size, const std::string &file_dir = "/tmp");
void populate(const Memory &memory);

/* Whatever was here is somewhere else afterwards. */
void move_to(std::byte *from, std::size_t size, std::byte *to);

/*
 * So many transparent huge pages, populated, in the order of falling physical addresses: no
 * two of them can be mapped as one.
 */
Memory disjoint_thp(std::size_t n);

/*
 * Populated pages of a file, no two of them contiguous, in whichever direction the kernel
 * hands them out; untouched ones in front of them.
 */
Memory scattered(std::size_t pages, std::size_t untouched = 0);

/*
 * Make small pages of transparent huge ones: they stay where they are, one after the other.
 * Only root can, with debugfs.
 */
bool split_huge_pages(const Memory &memory);

/* The physical page behind each page, all of which are there. Only root may know. */
std::vector<std::uint64_t> pfns_of(const Memory &memory);

/*
 * Pages wait in lists of each CPU for a while, with a reference, and cannot be taken away.
 * Put them where they belong: what any attempt to move a page begins with.
 */
void drain_page_lists();

/* A memfd with size bytes, flags as of memfd_create. The descriptor is the caller's. */
int make_memfd(std::size_t size, unsigned flags = 0);

/* Deterministic contents, different for each seed. */
void fill(std::span<std::byte> bytes, unsigned seed);
bool filled(std::span<const std::byte> bytes, unsigned seed);
/* The same for some bytes at the start and end of each 4 KiB page: quick for big memory. */
void stamp(const Memory &memory, unsigned seed);
bool stamped(const Memory &memory, unsigned seed);
/* FNV-1a, as hex. */
std::string digest(std::span<const std::byte> bytes);

} // namespace selftest
