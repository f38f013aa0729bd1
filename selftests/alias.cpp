// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ranges in which the same memory is mapped again and again.
 */
#include "alias.hpp"

#include "outcome.hpp"
#include "proc.hpp"
#include "vfio.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/memfd.h>
#include <numeric>
#include <random>
#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace selftest
{

/* What a pin of a 4 KiB page adds to its reference count (GUP_PIN_COUNTING_BIAS). */
static constexpr std::size_t pin_bias = 1024;
static constexpr std::size_t max_references = std::size_t{1} << 31;

/* Memory areas that everything else needs. */
static constexpr std::size_t other_areas = 1000;

static const char *const max_map_count = "/proc/sys/vm/max_map_count";

std::size_t alias_memory(const AliasOptions &options, Backing backing, std::size_t size)
{
	return std::min(size, std::max(options.memory, page_size(backing)));
}

static std::size_t areas(const AliasOptions &options, Backing backing, std::size_t size)
{
	const std::size_t memory = alias_memory(options, backing, size);

	return (size + memory - 1) / memory;
}

static bool raise_max_map_count(std::size_t needed)
{
	const auto now = read_file(max_map_count);

	return (now && std::stoull(*now) >= needed) ||
	       write_file(max_map_count, std::to_string(needed));
}

std::optional<std::string> alias_lacking(
	const AliasOptions &options, Backing backing, std::size_t size)
{
	const std::size_t memory = alias_memory(options, backing, size);
	const std::size_t nr = areas(options, backing, size);

	if (backing != Backing::memfd && backing != Backing::memfd_2m &&
		backing != Backing::hugetlb_2m && backing != Backing::hugetlb_1g)
		return "this memory cannot be mapped twice: only memfd, memfd2m, 2m and 1g can";
	if (memory % page_size(backing) || size % page_size(backing))
		return "the sizes are not multiples of the page size";
	/* The stock driver pins each 4 KiB of a huge page, ours the page once. */
	if (nr * std::max(pin_bias, page_size(backing) / page) >= max_references)
		return "each page would be pinned so often that its reference count overflows: "
		       "give more memory to --alias-memory";
	if (!raise_max_map_count(nr + other_areas))
		return std::to_string(nr) + " memory areas are needed: raise " + max_map_count;
	return lacking(backing, memory);
}

static int make_file(Backing backing, std::size_t size)
{
	switch (backing) {
	case Backing::hugetlb_1g:
		return make_memfd(size, MFD_HUGETLB | (30U << MFD_HUGE_SHIFT));
	case Backing::hugetlb_2m:
	case Backing::memfd_2m:
		return make_memfd(size, MFD_HUGETLB | (21U << MFD_HUGE_SHIFT));
	default:
		return make_memfd(size);
	}
}

/*
 * Memory that is allocated one page after the other tends to be contiguous. So the
 * file gets its pages in an order in which neighbours in the file, but for those of
 * one run, are none in time.
 */
static void fill_shuffled(int fd, std::size_t size, std::size_t run_pages)
{
	const std::size_t run = run_pages * page;
	std::vector<std::size_t> order((size + run - 1) / run);

	std::iota(order.begin(), order.end(), std::size_t{0});
	std::ranges::shuffle(order, std::mt19937{1});
	for (const std::size_t i : order)
		for (std::size_t at = i * run; at < std::min(size, (i + 1) * run); at += page)
			if (::pwrite(fd, "", 1, static_cast<off_t>(at)) != 1)
				throw std::runtime_error("cannot fill a memfd: " + errno_name(errno));
}

Memory allocate_aliased(const AliasOptions &options, Backing backing, std::size_t size)
{
	const std::size_t file_size = alias_memory(options, backing, size);
	const Fd file(make_file(backing, file_size));
	Memory memory = Memory::reserve(size, huge_1g);

	if (backing == Backing::memfd)
		fill_shuffled(file.get(), file_size,
			options.run_pages ? options.run_pages : file_size / page);
	for (std::size_t at = 0; at < size; at += file_size)
		memory.place(at, std::min(file_size, size - at), PROT_READ | PROT_WRITE, MAP_SHARED,
			file.get());
	return memory;
}

void populate_aliased(Backing backing, const Memory &memory)
{
	/*
	 * The file has all its pages. For small ones, reads do: they map many pages a fault,
	 * writable as the area is, while each write would be a fault of its own.
	 */
	const int advice = page_size(backing) == page ? MADV_POPULATE_READ : MADV_POPULATE_WRITE;

	/* In pieces, so that nobody waits for a long time for the mmap lock. */
	for (std::size_t at = 0; at < memory.size(); at += gib)
		if (::madvise(memory.at(at), std::min(gib, memory.size() - at), advice))
			throw std::runtime_error("MADV_POPULATE: " + errno_name(errno));
}

} // namespace selftest
