// SPDX-License-Identifier: GPL-2.0-only
/*
 * The files of the kernel's fault injection. What arms and disarms the calling thread is
 * opened beforehand: opening allocates.
 */
#include "faults.hpp"

#include "proc.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <unistd.h>
#include <utility>
#include <vector>

namespace selftest
{

/* So many failures are left, of so many, tells how many there were. */
static constexpr std::int64_t plenty = 1000000000;

static const std::string debugfs = "/sys/kernel/debug/";

const char *name(FaultKind kind)
{
	switch (kind) {
	case FaultKind::nth:
		return "nth";
	case FaultKind::pages_from:
		return "pages_from";
	case FaultKind::slab_from:
		return "slab_from";
	}
	return "?";
}

static void put(const Fd &fd, std::uint64_t value)
{
	const std::string text = std::to_string(value);

	if (::pwrite(fd.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
		throw std::runtime_error(std::string("fault injection: ") + std::strerror(errno));
}

static void write(const std::string &file, std::uint64_t value)
{
	if (!write_file(debugfs + file, std::to_string(value)))
		throw std::runtime_error("fault injection: cannot write " + file);
}

/* Of a setting that only we change. Writing takes longer than many a call that is swept. */
void Faults::set(const std::string &file, std::uint64_t value)
{
	const auto [last, first] = settings_.try_emplace(file, value);

	if (!first && last->second == value)
		return;
	last->second = value;
	write(file, value);
}

static std::int64_t get(const std::string &file)
{
	const auto text = read_file(debugfs + file);

	if (!text)
		throw std::runtime_error("fault injection: cannot read " + file);
	return std::strtoll(text->c_str(), nullptr, 0);
}

static Fd open_file(const std::string &path, std::string &why_not)
{
	Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));

	if (!fd.valid() && why_not.empty())
		why_not =
			"needs a kernel with fault injection (guest/run --kernel debug): " + path +
			": " + std::strerror(errno);
	return fd;
}

/* First and last address of a function of the kernel's own; nothing if it is unknown. */
static std::optional<std::pair<std::uint64_t, std::uint64_t>> function_range(
	const std::string &name)
{
	std::ifstream symbols("/proc/kallsyms");
	std::uint64_t first = 0, next = UINT64_MAX;
	std::vector<std::uint64_t> starts;

	for (std::string address, type, symbol; symbols >> address >> type >> symbol;) {
		const std::uint64_t start = std::strtoull(address.c_str(), nullptr, 16);

		if (type == "t" || type == "T")
			starts.push_back(start);
		if (symbol == name)
			first = start;
		symbols.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
	}
	for (const std::uint64_t start : starts)
		if (start > first)
			next = std::min(next, start);
	if (!first || next == UINT64_MAX)
		return std::nullopt;
	return std::pair(first, next - 1);
}

/*
 * Where helpers are threads of the process, the caller makes them, and with them their stacks.
 * Without memory for the record of a vmalloc() area, the kernel goes without, but warns:
 * those allocations are left out.
 */
static void leave_out_stacks()
{
	if (!helpers_are_threads())
		return;
	static const auto range = function_range("alloc_vmap_area");

	if (!range)
		return;
	for (const char *folder : {"failslab/", "fail_page_alloc/"}) {
		write(std::string(folder) + "reject-start", range->first);
		write(std::string(folder) + "reject-end", range->second);
	}
}

std::optional<Faults> Faults::open(std::string &why_not)
{
	static const char *const settings[][2] = {
		{"failslab/verbose", "0"},
		{"failslab/interval", "1"},
		{"failslab/probability", "0"},
		{"failslab/task-filter", "Y"},
		{"failslab/ignore-gfp-wait", "N"},
		{"fail_page_alloc/verbose", "0"},
		{"fail_page_alloc/interval", "1"},
		{"fail_page_alloc/probability", "0"},
		{"fail_page_alloc/task-filter", "Y"},
		{"fail_page_alloc/ignore-gfp-wait", "N"},
		{"fail_page_alloc/ignore-gfp-highmem", "N"},
		{"fail_page_alloc/min-order", "0"},
		{"fail_usercopy/verbose", "0"},
		{"fail_usercopy/probability", "0"},
	};
	Faults faults;

	why_not.clear();
	faults.fail_nth_ = open_file("/proc/thread-self/fail-nth", why_not);
	faults.make_it_fail_ = open_file("/proc/thread-self/make-it-fail", why_not);
	for (const auto &[file, value] : settings)
		if (why_not.empty() && !write_file(debugfs + file, value))
			why_not = "cannot write " + debugfs + file;
	if (!why_not.empty())
		return std::nullopt;
	leave_out_stacks();
	for (const char *folder : {"failslab/", "fail_page_alloc/", "fail_usercopy/"}) {
		write(std::string(folder) + "times", plenty);
		faults.times_[folder] = plenty;
	}
	return faults;
}

/* Failures of a kind since the last look. */
std::int64_t Faults::new_failures(const std::string &folder)
{
	const std::int64_t left = get(folder + "times");

	return std::exchange(times_[folder], left) - left;
}

void Faults::set_up(FaultKind kind, std::uint64_t n)
{
	const bool pages = kind == FaultKind::pages_from, slab = kind == FaultKind::slab_from;

	kind_ = kind;
	n_ = n;
	/* Only threads that are marked meet these. */
	set("fail_page_alloc/probability", pages ? 100 : 0);
	set("failslab/probability", slab ? 100 : 0);
	if (pages)
		write("fail_page_alloc/space", n);
	if (slab)
		write("failslab/space", n);
}

FaultHit Faults::tear_down()
{
	FaultHit hit;

	switch (kind_) {
	case FaultKind::nth:
		hit.usercopy = new_failures("fail_usercopy/") > 0;
		break;
	case FaultKind::pages_from:
		hit.failures = new_failures("fail_page_alloc/");
		break;
	case FaultKind::slab_from:
		hit.failures = new_failures("failslab/");
		hit.passed = static_cast<std::int64_t>(n_) - get("failslab/space");
		break;
	}
	return hit;
}

void Faults::arm(FaultKind kind, std::uint64_t n)
{
	set_up(kind, n);
	if (kind == FaultKind::nth)
		put(fail_nth_, n);
	else
		put(make_it_fail_, 1);
}

FaultHit Faults::disarm()
{
	if (kind_ != FaultKind::nth) {
		put(make_it_fail_, 0);
		return tear_down();
	}

	/* What is left of the count. Where it is 1, it is this read that fails. */
	char text[16] = {};
	const ssize_t got = ::pread(fail_nth_.get(), text, sizeof(text) - 1, 0);
	const bool happened = got > 0 && std::strtol(text, nullptr, 0) == 0;

	/* Likewise the first of these writes. */
	if (::pwrite(fail_nth_.get(), "0", 1, 0) != 1)
		put(fail_nth_, 0);

	FaultHit hit = tear_down();

	hit.failures = happened;
	hit.usercopy = happened && hit.usercopy;
	return hit;
}

} // namespace selftest
