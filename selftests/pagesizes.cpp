// SPDX-License-Identifier: GPL-2.0-only
/*
 * Compare the IOMMU mappings that two backends make for the same memory.
 *
 * One process allocates memory of each kind and keeps it. Each backend maps all of it
 * to several IOVAs, and unmaps it again, and the trace events tell what it asked the
 * IOMMU for. A page size is not in them: the kernel chooses the largest that fits the
 * addresses and what is left of the piece, and so does pages_of() here. Whoever cuts
 * contiguous memory into pieces pays with smaller pages.
 *
 * The comparison means something only if physical memory is the same, which
 * /proc/self/pagemap tells, and if there is something to lose: large pages, made of
 * memory that is contiguous across the cuts between threads.
 */
#include "pagesizes.hpp"

#include "environment.hpp"
#include "memory.hpp"
#include "outcome.hpp"
#include "proc.hpp"
#include "trace.hpp"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <fcntl.h>
#include <functional>
#include <linux/memfd.h>
#include <map>
#include <stdexcept>
#include <unistd.h>

namespace selftest
{

/* An IOMMU page. */
struct IommuPage {
	std::uint64_t iova, phys, size;
};

/* A kind of memory, and where its pages are. */
struct Subject {
	std::string name;
	Memory memory;
	std::vector<std::uint64_t> pfns;
};

/* A range of a subject, and where it is mapped to. */
struct Placement {
	std::string name;
	std::size_t at, size;
	std::uint64_t iova;
};

/* What one backend did with a placement. */
struct Observed {
	std::vector<IommuPage> pages;
	std::size_t maps, unmaps;
};

/*
 * 2 MiB pages in the order of their physical addresses, the longest contiguous part first:
 * an IOMMU can map much of that by pages of 1 GiB.
 */
static Memory sorted_huge_pages(std::size_t size)
{
	using Part = std::vector<std::pair<std::uint64_t, std::size_t>>; /* pfn, offset */
	const Fd file(make_memfd(size, MFD_HUGETLB | (21U << MFD_HUGE_SHIFT)));
	Memory memory = Memory::reserve(size, huge_1g);
	Part order;
	std::vector<Part> parts;
	std::size_t to = 0;

	memory.place(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get());
	populate(memory);
	const auto pfns = pfns_of(memory);

	for (std::size_t at = 0; at < size; at += huge_2m)
		order.emplace_back(pfns[at / page], at);
	std::ranges::sort(order);
	for (const auto &entry : order) {
		if (parts.empty() || parts.back().back().first + huge_2m / page != entry.first)
			parts.emplace_back();
		parts.back().push_back(entry);
	}
	std::ranges::stable_sort(parts, std::ranges::greater{}, &Part::size);
	for (const auto &part : parts)
		for (const auto &entry : part) {
			memory.place(to, huge_2m, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(),
				entry.second);
			to += huge_2m;
		}
	return memory;
}

/* Small pages, and as contiguous as huge ones, whatever state memory is in. */
static Memory contiguous_pages(std::size_t size)
{
	Memory memory = allocate(Backing::thp, size);

	populate(memory);
	if (!split_huge_pages(memory))
		throw std::runtime_error("huge pages cannot be split: is debugfs mounted?");
	return memory;
}

static Memory subject_memory(Backing backing, std::size_t size)
{
	switch (backing) {
	case Backing::small:
		return contiguous_pages(size);
	case Backing::hugetlb_2m:
		return sorted_huge_pages(size);
	default:
		return allocate(backing, size);
	}
}

static Subject make_subject(Backing backing, std::size_t size)
{
	Subject subject{name(backing), subject_memory(backing, size), {}};

	populate(subject.memory);
	subject.pfns = pfns_of(subject.memory);
	return subject;
}

static std::vector<Subject> make_subjects()
{
	const std::pair<Backing, std::size_t> wanted[] = {
		{Backing::small, 48 * mib},
		{Backing::thp, 128 * mib},
		{Backing::hugetlb_2m, 1536 * mib},
		{Backing::hugetlb_1g, 2 * gib},
		{Backing::memfd, 48 * mib},
		{Backing::memfd_2m, 128 * mib},
		{Backing::file, 48 * mib},
		{Backing::shared_anon, 48 * mib},
	};
	std::vector<Subject> subjects;

	for (const auto &[backing, size] : wanted) {
		if (const auto why = lacking(backing, size))
			throw std::runtime_error(*why);
		subjects.push_back(make_subject(backing, size));
	}
	return subjects;
}

/*
 * vaddr and IOVA equal modulo 1 GiB, modulo 2 MiB only, not even that; and IOVAs that
 * go with physical addresses, which is what large pages need, from the first page on
 * and from the middle of a huge one.
 */
static std::vector<Placement> placements(const Subject &subject)
{
	const std::uint64_t base = first_iova, va = subject.memory.address() % gib;
	const std::uint64_t phys = subject.pfns[0] * page % gib;
	const std::size_t size = subject.memory.size(), head = 5 * page, tail = 3 * page;

	return {
		{"equal modulo 1 GiB", 0, size, base + va},
		{"equal modulo 2 MiB only", 0, size, base + va + 6 * mib},
		{"unequal modulo 2 MiB", 0, size, base + va + 3 * page},
		{"like the physical address", 0, size, base + phys},
		{"like the physical address, no ends aligned", head, size - head - tail,
			base + phys + head},
	};
}

/* The pages that the kernel maps a piece with: see iommu_pgsize(). */
static void pages_of(const IommuEvent &event, std::uint64_t sizes, std::vector<IommuPage> &pages)
{
	std::uint64_t done = 0;

	while (done < event.size) {
		const std::uint64_t iova = event.iova + done, phys = event.phys + done;
		const std::uint64_t align = (iova | phys) & -(iova | phys);
		std::uint64_t fit = sizes & (align | (align - 1));

		fit &= (std::bit_floor(event.size - done) << 1) - 1;
		const std::uint64_t size = std::bit_floor(fit);

		pages.push_back({iova, phys, size});
		done += size;
	}
}

/* Do the events cover the placement, each byte once? */
static void expect_covered(const std::vector<IommuEvent> &events, const Placement &place)
{
	std::uint64_t iova = place.iova;

	for (const auto &event : events) {
		if (event.iova != iova)
			throw std::runtime_error("a gap or an overlap at " + hex(iova));
		iova += event.size;
	}
	if (iova != place.iova + place.size)
		throw std::runtime_error("mapped or unmapped up to " + hex(iova) + " only");
}

static Observed observe(const Subject &subject, const Placement &place, IommuTrace &trace)
{
	const BenchRig rig = BenchRig::open();
	const std::uint64_t sizes = rig.container.info().page_sizes;

	/* Backends try out a new domain. */
	trace.clear();
	if (!rig.container.map(place.iova, subject.memory.at(place.at), place.size).ok())
		throw std::runtime_error("cannot be mapped");
	IommuEvents events = trace.take();

	if (rig.container.unmap(place.iova, place.size).value != static_cast<long>(place.size))
		throw std::runtime_error("cannot be unmapped");
	events.unmaps = trace.take().unmaps;

	expect_covered(events.maps, place);
	expect_covered(events.unmaps, place);
	Observed seen{{}, events.maps.size(), events.unmaps.size()};

	for (const auto &event : events.maps)
		pages_of(event, sizes, seen.pages);
	if (pfns_of(subject.memory) != subject.pfns)
		throw std::runtime_error("the memory has moved: nothing to compare");
	return seen;
}

/*
 * Where is a page of the driver smaller than the reference's, or another one? In how many
 * pieces the pages are mapped and unmapped is each driver's business.
 */
static std::string difference(const Observed &reference, const Observed &driver)
{
	auto at = driver.pages.begin();

	for (const auto &want : reference.pages) {
		while (at != driver.pages.end() && at->iova + at->size <= want.iova)
			++at;
		if (at == driver.pages.end())
			return "nothing at " + hex(want.iova);
		if (at->size < want.size)
			return "a page of " + hex(at->size) + " at " + hex(at->iova) +
			       " instead of " + hex(want.size);
		if (want.phys - want.iova != at->phys - at->iova)
			return "other memory at " + hex(want.iova);
	}
	if (driver.pages.size() > reference.pages.size())
		return "more pages";
	return "";
}

static std::string by_size(const Observed &seen)
{
	std::map<std::uint64_t, std::size_t> count;
	std::string text;

	for (const auto &p : seen.pages)
		count[p.size]++;
	for (const auto &[size, nr] : count)
		text += (text.empty() ? "" : ", ") + std::to_string(nr) + " of " + hex(size);
	return text;
}

class PageSizes
{
public:
	explicit PageSizes(const PageSizesOptions &options) : options_(options) {}

	int run()
	{
		std::printf("%s, kernel %s: %s against %s\n", iommu_kind().c_str(),
			kernel_release().c_str(), options_.driver.c_str(),
			options_.reference.c_str());
		switch_backend(options_.switch_command, options_.reference);
		for (const auto &subject : subjects_)
			for (const auto &place : placements(subject))
				reference_.push_back(observe(subject, place, trace_));
		switch_backend(options_.switch_command, options_.driver);
		for (const unsigned threads : options_.threads)
			compare(threads);
		report(large_pages(), "there are large pages to lose, also of small memory");
		return failed_ ? 1 : 0;
	}

private:
	void report(bool good, const std::string &text)
	{
		std::printf("%s - %s\n", good ? "ok" : "not ok", text.c_str());
		std::fflush(stdout);
		failed_ |= !good;
	}

	/* So many threads, however little there is to do. */
	static void set_threads(unsigned threads)
	{
		if (!set_module_parameter(mt_module, "max_threads", std::to_string(threads)) ||
			!set_module_parameter(mt_module, "helper_us", "0") ||
			!set_module_parameter(mt_module, "min_chunk_mb", "2"))
			throw std::runtime_error("cannot set the module's parameters");
	}

	void compare(unsigned threads)
	{
		auto reference = reference_.begin();

		if (options_.driver == "mt")
			set_threads(threads);
		for (const auto &subject : subjects_)
			for (const auto &place : placements(subject))
				compare(threads, subject, place, *reference++);
	}

	void compare(unsigned threads, const Subject &subject, const Placement &place,
		const Observed &reference)
	{
		const std::string label = std::to_string(threads) + " threads, " + subject.name +
					  ", IOVA " + place.name;
		std::string why;

		try {
			const Observed driver = observe(subject, place, trace_);

			why = difference(reference, driver);
			std::printf("# pages: %zu (%zu), calls to map: %zu (%zu), to unmap: %zu "
				    "(%zu)\n",
				driver.pages.size(), reference.pages.size(), driver.maps,
				reference.maps, driver.unmaps, reference.unmaps);
			if (options_.verbose || !why.empty())
				std::printf("# %s (%s)\n", by_size(driver).c_str(),
					by_size(reference).c_str());
		} catch (const std::runtime_error &error) {
			why = error.what();
		}
		report(why.empty(), label + (why.empty() ? "" : ": " + why));
	}

	/*
	 * Is there a kind of memory whose IOMMU pages are larger than its own? Of small ones,
	 * which kind lies together is up to the kernel: in 6.12 it is the shared one.
	 */
	bool large_pages() const
	{
		const auto is_small = [](const Subject &subject) {
			return subject.name == name(Backing::small) ||
			       subject.name == name(Backing::shared_anon);
		};
		auto reference = reference_.begin();
		bool small = false, huge = false;

		for (const auto &subject : subjects_)
			for (std::size_t i = 0; i < placements(subject).size(); i++, ++reference)
				for (const auto &p : reference->pages) {
					small |= is_small(subject) && p.size >= huge_2m;
					huge |= subject.name == "2m" && p.size >= huge_1g;
				}
		std::printf("# 4 KiB memory in pages of 2 MiB: %s; 2 MiB memory in pages of 1 GiB: "
			    "%s\n",
			small ? "yes" : "no", huge ? "yes" : "no");
		return small && huge;
	}

	const PageSizesOptions &options_;
	const std::vector<Subject> subjects_ = make_subjects();
	IommuTrace trace_;
	std::vector<Observed> reference_;
	bool failed_ = false;
};

int page_sizes(const PageSizesOptions &options)
{
	return PageSizes(options).run();
}

} // namespace selftest
