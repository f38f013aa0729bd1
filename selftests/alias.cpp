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
 * The order in which the file gets its pages. Memory that is allocated one page after the
 * other tends to be contiguous; when shuffled, neighbours in the file, but for those of one
 * run, are none in time.
 */
static std::vector<std::size_t> fill_order(std::size_t nr, std::size_t run)
{
	std::vector<std::size_t> runs((nr + run - 1) / run), order;

	std::iota(runs.begin(), runs.end(), std::size_t{0});
	if (run < nr)
		std::ranges::shuffle(runs, std::mt19937{1});
	for (const std::size_t i : runs)
		for (std::size_t at = i * run; at < std::min(nr, (i + 1) * run); at++)
			order.push_back(at);
	return order;
}

static void fill_file(int fd, std::size_t unit, std::size_t size, std::size_t run_pages)
{
	const Memory view = Memory::map(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	const auto order = fill_order(size / unit, run_pages ? run_pages : size / unit);
	const auto touch = [&] {
		for (const std::size_t i : order)
			*reinterpret_cast<volatile std::byte *>(view.at(i * unit)) = std::byte{1};
	};

	touch();
	if (run_pages || size <= unit)
		return;
	/*
	 * Huge pages are on a list from which the last one added is taken first: they may come
	 * in falling order. Given back in that order, they will come the other way round.
	 */
	const auto pfns = pfns_of(view);

	if (pfns[unit / page] < pfns[0]) {
		if (::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			    static_cast<off_t>(size)))
			throw std::runtime_error("fallocate: " + errno_name(errno));
		touch();
	}
}

Memory allocate_aliased(const AliasOptions &options, Backing backing, std::size_t size)
{
	const std::size_t file_size = alias_memory(options, backing, size);
	const Fd file(make_file(backing, file_size));
	Memory memory = Memory::reserve(size, huge_1g);

	fill_file(file.get(), page_size(backing), file_size, options.run_pages);
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
