// SPDX-License-Identifier: GPL-2.0-only
/*
 * Leak hunt: repetitions of maps that end in every way a map can end, then a
 * comparison of what the machine has with what it had.
 *
 * Pins are counted exactly: one page that stays pinned is a failure. Free
 * memory is not exact (per-CPU lists, slab, what other processes do), so it is
 * compared with a tolerance that is small against what the repetitions moved.
 */
#include "soak.hpp"

#include "child.hpp"
#include "environment.hpp"
#include "exec_helper.hpp"
#include "memory.hpp"
#include "proc.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace selftest
{

using namespace std::chrono_literals;

static constexpr std::uint64_t iova = 4 * gib;

/* A container with one group: everything that a repetition needs. */
struct SoakRig {
	Container container;
	Group group;
};

static SoakRig open_rig()
{
	SoakRig rig{.container = Container::open(), .group = Group::open(env().devices[0].group)};

	if (!rig.group.set_container(rig.container).ok() ||
		!rig.container.set_iommu(VFIO_TYPE1v2_IOMMU).ok())
		throw std::runtime_error("the container of a repetition could not be set up");
	if (const auto why = backend_mismatch(rig.container.backend(), env().wanted))
		throw std::runtime_error(*why);
	return rig;
}

static void must(bool good, const char *what)
{
	if (!good)
		throw std::runtime_error(what);
}

struct Scenario {
	const char *name;
	Backing backing;
	/* Maps and more, in a child process. Ends when it ends, or is killed. */
	std::function<void(const Memory &)> body;
	bool populated = false;
	bool kill = false; /* at some time after the body began */
	const char *ending = "exit 0";
};

static void map_and_unmap(const Memory &memory)
{
	const SoakRig rig = open_rig();

	must(rig.container.map(iova, memory.data(), memory.size()).ok(), "map");
	must(rig.container.unmap(iova, memory.size()).value == static_cast<long>(memory.size()),
		"unmap");
}

static void map_and_leave(const Memory &memory)
{
	/* Never destroyed: the descriptors close when the process ends. */
	const auto *rig = new SoakRig(open_rig());

	must(rig->container.map(iova, memory.data(), memory.size()).ok(), "map");
}

static void map_and_close(const Memory &memory)
{
	const SoakRig rig = open_rig();

	must(rig.container.map(iova, memory.data(), memory.size()).ok(), "map");
}

static void map_parts(const Memory &memory)
{
	const SoakRig rig = open_rig();
	const std::size_t part = memory.size() / 16 / page * page;

	for (std::size_t i = 0; i < 16; i++)
		must(rig.container.map(iova + i * gib, memory.at(i * part), part).ok(), "map");
	for (std::size_t i = 0; i < 16; i += 2)
		must(rig.container.unmap(iova + i * gib, part).ok(), "unmap");
}

/* Forever, so that a kill always finds it inside. */
static void map_again_and_again(const Memory &memory)
{
	const SoakRig rig = open_rig();

	for (;;) {
		rig.container.map(iova, memory.data(), memory.size());
		rig.container.unmap(iova, memory.size());
	}
}

static void map_with_hole(const Memory &memory)
{
	const SoakRig rig = open_rig();

	::munmap(memory.at(memory.size() / 4 * 3), page);
	must(rig.container.map(iova, memory.data(), memory.size()).err == EFAULT, "a hole");
}

static void map_over_limit(const Memory &memory)
{
	const SoakRig rig = open_rig();
	const rlim_t most = memory.size() - page;
	const rlimit limit = {.rlim_cur = most, .rlim_max = most};

	must(!::setrlimit(RLIMIT_MEMLOCK, &limit) && !::setresuid(65534, 65534, 65534),
		"dropping rights");
	must(rig.container.map(iova, memory.data(), memory.size()).err == ENOMEM, "a limit");
}

static void map_and_exec(const Memory &memory)
{
	const SoakRig rig = open_rig();

	must(rig.container.map(iova, memory.data(), memory.size()).ok(), "map");
	::fcntl(rig.container.fd(), F_SETFD, 0);
	::fcntl(rig.group.fd(), F_SETFD, 0);
	::execl("/proc/self/exe", "vfio_mt_selftest", exec_helper_command, nullptr);
}

static void map_and_fork(const Memory &memory)
{
	const SoakRig rig = open_rig();

	must(rig.container.map(iova, memory.data(), memory.size()).ok(), "map");
	run_child([&](Notes &) {
		/* Copies what is pinned, and maps it, too. */
		for (std::size_t at = 0; at < memory.size(); at += 64 * page)
			*memory.at(at) = std::byte{2};
		rig.container.map(2 * iova, memory.data(), memory.size() / 2);
	});
	must(rig.container.unmap(iova, memory.size()).ok(), "unmap");
}

static void map_and_munmap(const Memory &memory)
{
	const SoakRig rig = open_rig();

	must(rig.container.map(iova, memory.data(), memory.size()).ok(), "map");
	::munmap(memory.at(page), memory.size() / 2);
	must(rig.container.unmap(iova, memory.size()).ok(), "unmap");
}

static const std::vector<Scenario> &scenarios()
{
	static const std::vector<Scenario> all = {
		{"small, cold: map, unmap", Backing::small, map_and_unmap},
		{"small, cold: killed", Backing::small, map_again_and_again, false, true},
		{"small, populated: killed", Backing::small, map_again_and_again, true, true},
		{"small: exit without unmap", Backing::small, map_and_leave},
		{"small: fault near the end", Backing::small, map_with_hole},
		{"small: over RLIMIT_MEMLOCK", Backing::small, map_over_limit},
		{"thp, cold: map, unmap", Backing::thp, map_and_unmap},
		{"thp, cold: killed", Backing::thp, map_again_and_again, false, true},
		{"thp, populated: killed", Backing::thp, map_again_and_again, true, true},
		{"thp: close without unmap", Backing::thp, map_and_close},
		{"thp: fault near the end", Backing::thp, map_with_hole},
		{"thp: over RLIMIT_MEMLOCK", Backing::thp, map_over_limit},
		/* The helper's own status */
		{"thp: exec without unmap", Backing::thp, map_and_exec, false, false, "exit 3"},
		{"thp: fork", Backing::thp, map_and_fork},
		{"thp: munmap before unmap", Backing::thp, map_and_munmap},
		{"thp: parts", Backing::thp, map_parts},
		{"2m: map, unmap", Backing::hugetlb_2m, map_and_unmap},
		{"2m, cold: killed", Backing::hugetlb_2m, map_again_and_again, false, true},
		{"2m: exit without unmap", Backing::hugetlb_2m, map_and_leave},
		{"memfd, cold: map, unmap", Backing::memfd, map_and_unmap},
		{"memfd, cold: killed", Backing::memfd, map_again_and_again, false, true},
		{"memfd: close without unmap", Backing::memfd, map_and_close},
	};

	return all;
}

static void run_scenario(const Scenario &scenario, std::size_t size, unsigned rep)
{
	Child child([&](Notes &, const ChildSync &sync) {
		const Memory memory = allocate(scenario.backing, size);

		if (scenario.populated)
			populate(memory);
		sync.ready();
		scenario.body(memory);
	});

	if (scenario.kill) {
		if (!child.wait_ready())
			throw std::runtime_error("a child did not begin");
		/* Spread over the first 160 ms: faults, maps, unmaps, and between them. */
		std::this_thread::sleep_for(std::chrono::milliseconds(5 + rep * 37 % 155));
		child.kill();
	}
	const Notes notes = child.finish(120s);
	const std::string ending = child.ending();
	const std::string trouble = notes.text("exception");
	const bool fine = ending == (scenario.kill ? "signal SIGKILL" : scenario.ending);

	if (!fine || !trouble.empty())
		throw std::runtime_error(std::string(scenario.name) + ": " + ending +
					 (trouble.empty() ? "" : ", " + trouble));
}

struct Snapshot {
	std::int64_t mem_free, mem_available, unreclaimable; /* KiB */
	std::int64_t huge_2m, huge_1g, locked;		     /* pages */
	std::optional<std::int64_t> pins;
};

/*
 * Free pages that the page allocator keeps for each CPU, some of them 2 MiB large. They
 * are not in MemFree, and how many there are changes by tens of MiB.
 */
static std::int64_t cpu_lists_kib()
{
	std::ifstream in("/proc/zoneinfo");
	std::int64_t pages = 0;

	for (std::string word; in >> word;) {
		std::int64_t count = 0;

		if (word == "count:" && in >> count)
			pages += count;
	}
	return pages * 4;
}

static Snapshot take_snapshot()
{
	/* What is only cached is no loss. */
	::sync();
	write_file("/proc/sys/vm/drop_caches", "3\n");
	write_file("/proc/sys/vm/compact_memory", "1\n");
	std::this_thread::sleep_for(300ms);
	const auto pins = pin_balance();
	const auto held = cpu_lists_kib();

	return {.mem_free = meminfo("MemFree") + held,
		.mem_available = meminfo("MemAvailable") + held,
		.unreclaimable = meminfo("SUnreclaim"),
		.huge_2m = free_huge_pages(selftest::huge_2m).value_or(0),
		.huge_1g = free_huge_pages(selftest::huge_1g).value_or(0),
		.locked = vm_locked_pages(),
		.pins = pins};
}

/* Snapshots until memory stops coming back: frees may be deferred (RCU, workqueues). */
static Snapshot settled()
{
	Snapshot last = take_snapshot();

	for (int i = 0; i < 10; i++) {
		const Snapshot next = take_snapshot();
		const bool quiet = next.mem_free - last.mem_free < 256;

		last = next;
		if (quiet)
			break;
	}
	return last;
}

struct Measure {
	const char *name;
	const char *unit;
	std::int64_t before, after;
	std::int64_t worst; /* this change, or a worse one, is a leak */
};

static std::vector<Measure> measures(
	const Snapshot &before, const Snapshot &after, std::int64_t tolerance_kib)
{
	std::vector<Measure> list = {
		{"MemFree", "KiB", before.mem_free, after.mem_free, -tolerance_kib},
		{"MemAvailable", "KiB", before.mem_available, after.mem_available, -tolerance_kib},
		{"SUnreclaim", "KiB", before.unreclaimable, after.unreclaimable, tolerance_kib},
		{"free 2 MiB pages", "", before.huge_2m, after.huge_2m, -1},
		{"free 1 GiB pages", "", before.huge_1g, after.huge_1g, -1},
		{"VmLck", "pages", before.locked, after.locked, 1},
	};

	if (before.pins && after.pins)
		list.push_back({"pinned", "pages", *before.pins, *after.pins, 1});
	return list;
}

static bool leaked(const Measure &m)
{
	const std::int64_t change = m.after - m.before;

	return m.worst < 0 ? change <= m.worst : change >= m.worst;
}

static std::size_t default_size()
{
	const auto available = static_cast<std::size_t>(meminfo("MemAvailable")) * kib;

	return std::min<std::size_t>(available / 8, 96 * mib) / huge_2m * huge_2m;
}

int soak(const SoakOptions &options)
{
	const std::size_t size = options.size ? options.size : default_size();
	const auto tolerance =
		static_cast<std::int64_t>((options.tolerance ? options.tolerance : 6 * mib) / kib);
	std::vector<const Scenario *> usable;
	const bool terminal = ::isatty(STDERR_FILENO) != 0;

	for (const auto &scenario : scenarios()) {
		const auto why = lacking(scenario.backing, size);

		if (why)
			std::printf("not run: %s: %s\n", scenario.name, why->c_str());
		else
			usable.push_back(&scenario);
	}
	const auto rep_once = [&](unsigned rep, const char *stage) {
		const Scenario &scenario = *usable[rep % usable.size()];

		if (terminal)
			std::fprintf(stderr, "\r\033[K[%s %u] %s", stage, rep + 1, scenario.name);
		run_scenario(scenario, size, rep);
	};

	/* The first round fills caches that stay filled. */
	for (unsigned rep = 0; rep < usable.size(); rep++)
		rep_once(rep, "warming up");
	const Snapshot before = settled();

	for (unsigned rep = 0; rep < options.reps; rep++)
		rep_once(rep, "repetition");
	if (terminal)
		std::fprintf(stderr, "\r\033[K");
	const Snapshot after = settled();

	nlohmann::ordered_json root = {{"schema", 1}, {"driver", env().outcome.driver},
		{"reps", options.reps}, {"size", size}, {"measures", nlohmann::json::array()}};
	bool good = true;

	std::printf("%u repetitions of %zu MiB, %zu kinds of ending\n%-18s %12s %12s %10s\n",
		options.reps, size / mib, usable.size(), "", "before", "after", "change");
	for (const Measure &m : measures(before, after, tolerance)) {
		const bool bad = leaked(m);

		good &= !bad;
		std::printf("%-18s %12lld %12lld %+10lld %s%s\n", m.name,
			static_cast<long long>(m.before), static_cast<long long>(m.after),
			static_cast<long long>(m.after - m.before), m.unit, bad ? "  LEAKED" : "");
		root["measures"].push_back({{"name", m.name}, {"before", m.before},
			{"after", m.after}, {"leaked", bad}});
	}
	if (!before.pins)
		throw std::runtime_error("this kernel does not count pinned pages");
	std::printf(good ? "no page is left pinned and no memory lost\n" : "something leaked\n");
	root["good"] = good;
	if (!options.json_file.empty() && !write_file(options.json_file, root.dump(1) + "\n"))
		throw std::runtime_error("cannot write " + options.json_file);
	return good ? 0 : 1;
}

} // namespace selftest
