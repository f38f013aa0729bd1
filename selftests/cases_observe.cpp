// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: what our driver tells about itself. Counters rise by exactly what was mapped,
 * events have its sizes, and a map that takes long because of memory.high says so.
 *
 * The stock driver has nothing of this: these cases have a suite of their own.
 */
#include "case.hpp"
#include "cgroup.hpp"
#include "child.hpp"
#include "proc.hpp"
#include "trace.hpp"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

namespace selftest
{

using namespace std::chrono_literals;
using Counters = std::map<std::string, std::int64_t>;

static const std::string debugfs = "/sys/kernel/debug/vfio_mt/";

static Counters read_counters()
{
	std::ifstream file(debugfs + "stats");
	Counters counters;
	std::string name;
	std::int64_t value;

	while (file >> name >> value)
		counters[name] = value;
	if (counters.empty())
		throw std::runtime_error("cannot read " + debugfs + "stats");
	return counters;
}

/* Does what is counted depend on time, or on how many threads there were? */
static bool varies(const std::string &name)
{
	return name.ends_with("_ns") || name == "helpers" || name == "refills" ||
	       name.starts_with("last_");
}

class Observe : public VfioCase
{
protected:
	void SetUp() override
	{
		VfioCase::SetUp();
		if (!module_refs(mt_module))
			GTEST_SKIP() << "the stock driver does not count";
		before_ = read_counters();
	}

	/* What was counted since the last time it was looked at. */
	Counters counted()
	{
		const Counters now = read_counters();
		Counters since;

		for (const auto &[name, value] : now)
			since[name] = value - before_.at(name);
		before_ = now;
		return since;
	}

	/* These, and nothing else that does not vary. */
	void want_counted(
		const std::string &key, const Counters &expected, Where where = Where::current())
	{
		seen_ = counted();
		for (const auto &[name, value] : seen_)
			if (!varies(name))
				want(key + "." + name, value,
					expected.contains(name) ? expected.at(name) : 0, where);
	}
	/* For what is different each time, and not recorded */
	void want_same(const std::string &key, std::int64_t actual, std::int64_t expected,
		Where where = Where::current())
	{
		want(key,
			actual == expected
				? "same"
				: std::to_string(actual) + ", not " + std::to_string(expected),
			"same", where);
	}
	/* Of what was looked at last */
	std::int64_t seen(const std::string &name) const { return seen_.at(name); }
	static std::int64_t now(const std::string &name) { return read_counters().at(name); }

	static Memory make_huge(std::size_t size)
	{
		Memory ram = allocate(Backing::thp, size);

		populate(ram);
		for (int i = 0; i < 5 && anon_huge_bytes(ram.data(), size) != size; i++) {
			write_file("/proc/sys/vm/compact_memory", "1");
			::madvise(ram.data(), size, MADV_COLLAPSE);
		}
		if (anon_huge_bytes(ram.data(), size) != size)
			throw std::runtime_error("no transparent huge pages");
		return ram;
	}

private:
	Counters before_;
	Counters seen_;
};

static std::int64_t n(std::size_t number)
{
	return static_cast<std::int64_t>(number);
}

/* ---- counters ---- */

struct ObserveRow {
	const char *name;
	Backing backing;
	std::size_t size;
	const char *leaf;
	bool populated = true;
};

class ObserveMemory : public Observe, public testing::WithParamInterface<ObserveRow>
{
};

TEST_P(ObserveMemory, CountsWhatWasMapped)
{
	const ObserveRow &row = GetParam();

	NEED_DEVICES(1);
	NEED_MEMORY(row.backing, row.size);
	const Rig rig = open_rig();
	const Memory ram = row.backing == Backing::thp && row.populated
				   ? make_huge(row.size)
				   : allocate(row.backing, row.size);

	if (row.populated)
		populate(ram);
	counted();
	want_errno("map", rig.container.map(iova0, ram.data(), row.size), 0);
	Counters expected{{"maps", 1}, {std::string("bytes_") + row.leaf, n(row.size)}};

	if (row.backing == Backing::small) {
		/* It begins anywhere. */
		const std::uint64_t odd = ram.address() % huge_2m;

		expected["fallback_small"] = n(row.size / huge_2m - (odd ? 1 : 0));
		expected["fallback_part"] = odd ? 2 : 0;
	}
	want_counted("map", expected);
	want("map.ns", seen("map_ns") > 0, true);
	want("map.refills", seen("refills") > 0, true);
	want("last.size", now("last_map_size"), n(row.size));
	want_same("last.ns", now("last_map_ns"), seen("map_ns"));
	want_same("last.threads", now("last_map_threads"), seen("helpers") + 1);

	want_unmapped("unmap", rig.container.unmap(iova0, row.size), row.size / page);
	want_counted("unmap", {{"unmaps", 1}});
	want("unmap.ns", seen("unmap_ns") > 0, true);
	want("unmap.map_ns", seen("map_ns"), 0);
}

INSTANTIATE_TEST_SUITE_P(Table, ObserveMemory,
	testing::Values(ObserveRow{"small", Backing::small, 64 * mib, "pte"},
		ObserveRow{"small_cold", Backing::small, 64 * mib, "pte", false},
		ObserveRow{"thp", Backing::thp, 64 * mib, "pmd"},
		ObserveRow{"hugetlb_2m", Backing::hugetlb_2m, 64 * mib, "pmd"},
		ObserveRow{"hugetlb_2m_cold", Backing::hugetlb_2m, 64 * mib, "pmd", false},
		ObserveRow{"hugetlb_1g", Backing::hugetlb_1g, gib, "pud"}),
	row_name<ObserveRow>);

/* Parts of leaves at both ends */
TEST_F(Observe, PartsOfLeaves)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = make_huge(4 * huge_2m);
	const std::size_t size = ram.size() - 2 * page;

	counted();
	want_errno("map", rig.container.map(iova0 + page, ram.at(page), size), 0);
	want_counted(
		"map", {{"maps", 1}, {"bytes_pmd", n(2 * huge_2m)},
			       {"bytes_pte", n(2 * huge_2m - 2 * page)}, {"fallback_part", 2}});
}

/* A leaf that fork() has taken writing from is no leaf for a device that writes. */
TEST_F(Observe, LeafWithoutWriting)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = make_huge(2 * huge_2m);
	Child child([](Notes &, const ChildSync &sync) { sync.ready_and_wait(); });

	want("child", child.wait_ready(), true);
	counted();
	/* It is split, and copied page by page. */
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_counted("map", {{"maps", 1}, {"bytes_pte", n(2 * huge_2m)}, {"fallback_access", 2}});
	child.go();
	child.finish();
}

TEST_F(Observe, HugePagesOff)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = make_huge(2 * huge_2m);

	counted();
	set_module_parameter(mt_module, "disable_hugepages", "Y");
	const Result result = rig.container.map(iova0, ram.data(), ram.size());

	set_module_parameter(mt_module, "disable_hugepages", "N");
	want_errno("map", result, 0);
	want_counted("map", {{"maps", 1}, {"bytes_pte", n(2 * huge_2m)}, {"fallback_off", 2}});
}

/* No reference is held on what is not memory. */
TEST_F(Observe, Bar)
{
	NEED_DEVICES(1);
	NEED_EDU();
	Rig rig = open_dma_rig(1);
	/* Elsewhere it might lie across the border of two leaves. */
	const Memory bar = Memory::reserve(4 * page, huge_2m);

	want_errno("mmap",
		rig.devices[0].map_region_at(
			VFIO_PCI_BAR0_REGION_INDEX, PROT_READ | PROT_WRITE, bar.data(), bar.size()),
		0);
	counted();
	want_errno("map", rig.container.map(iova0, bar.data(), bar.size()), 0);
	want_counted("map", {{"maps", 1}, {"bytes_unheld", n(4 * page)}, {"fallback_part", 1}});
	want_unmapped("unmap", rig.container.unmap(iova0, bar.size()), 4);
}

/* 32 MiB in small pages, of which the last one cannot be pinned */
static Memory hole_at_the_end()
{
	Memory ram = allocate(Backing::small, 32 * mib);

	populate(ram);
	ram.place(ram.size() - page, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	return ram;
}

TEST_F(Observe, Failure)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = hole_at_the_end();

	counted();
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), EFAULT);
	want_counted("map", {{"failures", 1}});
	want("map.ns", seen("map_ns") > 0, true);
	/* Nothing was begun. */
	want_errno("args", rig.container.map(iova0, ram.data(), 0), EINVAL);
	want_counted("args", {});
}

/* Killed while it maps. One that has come to its end before is no reason to complain. */
TEST_F(Observe, Kill)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory shared = Memory::map(page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
	volatile std::byte &begun = *shared.data();
	Counters since;

	for (int i = 0; i < 20 && !since["aborts"]; i++) {
		begun = std::byte{0};
		counted();
		Child child([&](Notes &, const ChildSync &sync) {
			const Memory ram = allocate(Backing::small, 512 * mib);

			begun = std::byte{1};
			(void)rig.container.map(iova0, ram.data(), ram.size());
			sync.wait_for_go();
		});

		while (begun == std::byte{0} && !child.ended())
			std::this_thread::yield();
		std::this_thread::sleep_for(10ms);
		child.kill();
		child.finish();
		rig.container.unmap_all();
		since = counted();
	}
	want("aborts", since["aborts"], 1);
	want("failures", since["failures"], 1);
	want("maps", since["maps"], 0);
	want("bytes_pte", since["bytes_pte"], 0);
}

/* The list of the last maps: those that are not small, as they ended. */
TEST_F(Observe, LastMaps)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = make_huge(32 * mib);
	std::string line, last;

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("small", rig.container.map(iova0 + gib, ram.data(), huge_2m), 0);
	std::ifstream file(debugfs + "maps");

	while (std::getline(file, line))
		last = line;
	std::istringstream words(last);
	std::int64_t ago = 0, size = 0, ns = 0, threads = 0, pte = 0, pmd = 0, pud = 0, error = -1;

	words >> ago >> size >> ns >> threads >> pte >> pmd >> pud >> error;
	want("size", size, n(ram.size()));
	want_same("ns", ns, now("last_map_ns"));
	want("pte", pte, 0);
	want("pmd", pmd, n(ram.size()));
	want("pud", pud, 0);
	want("error", error, 0);
}

/* ---- events ---- */

using Events = std::vector<MtEvent>;

static Events named(const Events &events, const std::string &name)
{
	Events some;

	std::ranges::copy_if(events, std::back_inserter(some),
		[&](const MtEvent &event) { return event.name == name; });
	return some;
}

/* The only one of its name, or one without any field if there is none or another one. */
static MtEvent only(const Events &events, const std::string &name)
{
	const Events some = named(events, name);

	return some.size() == 1 ? some[0] : MtEvent{name, {}};
}

static std::int64_t sum_of(const Events &events, const std::string &field)
{
	std::int64_t sum = 0;

	for (const auto &event : events)
		sum += event.at(field);
	return sum;
}

static std::int64_t count_ok(const Events &events)
{
	return std::ranges::count_if(
		events, [](const MtEvent &event) { return event.at("ret") == 0; });
}

/* A line for each container, with the process that has set it up. */
TEST_F(Observe, Containers)
{
	NEED_DEVICES(1);
	const auto lines = [](pid_t pid) {
		std::istringstream text(read_file(debugfs + "containers").value_or(""));
		int n = 0;

		for (std::string line; std::getline(text, line);)
			n += line == std::to_string(pid);
		return n;
	};
	{
		const Rig rig = open_rig();

		want("open", lines(::getpid()), 1);
		want("others", lines(0), 0);
	}
	want("closed", lines(::getpid()), 0);
	Child child([&](Notes &, const ChildSync &sync) {
		const Rig rig = open_rig();

		sync.ready_and_wait();
	});

	want("child.ready", child.wait_ready(), true);
	want("child.open", lines(child.pid()), 1);
	child.go();
	child.finish();
	want("child.closed", lines(child.pid()), 0);
	want("child.gone", lines(0), 0);
}

TEST_F(Observe, EventsOfMapAndUnmap)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = make_huge(64 * mib);
	MtTrace trace;

	counted();
	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	const Events map = trace.take();
	const Counters counters = counted();

	const MtEvent begin = only(map, "map_begin");

	want_same("begin.vaddr", begin.at("vaddr"), n(ram.address()));
	want("begin.iova", begin.at("iova"), n(iova0));
	want("begin.size", begin.at("size"), n(ram.size()));
	want("begin.copy", begin.at("copy"), 0);

	const Events chunks = named(map, "chunk");

	want_same("chunks", n(chunks.size()), begin.at("chunks"));
	want("chunks.size", sum_of(chunks, "size"), n(ram.size()));
	want_same("chunks.ok", count_ok(chunks), n(chunks.size()));
	want("chunks.ns",
		std::ranges::all_of(chunks, [](const MtEvent &c) { return c.at("ns") > 0; }), true);

	const MtEvent end = only(map, "map_end");

	want("end.iova", end.at("iova"), n(iova0));
	want("end.size", end.at("size"), n(ram.size()));
	want("end.ret", end.at("ret"), 0);
	want("end.pte", end.at("pte"), 0);
	want("end.pmd", end.at("pmd"), n(ram.size() / page));
	want("end.pud", end.at("pud"), 0);
	want_same("end.ns", end.at("ns"), counters.at("map_ns"));
	want_same("end.threads", end.at("threads"), counters.at("helpers") + 1);
	want("threads", end.at("threads") <= begin.at("threads"), true);

	const Events refills = named(map, "refill");

	want_same("refills", n(refills.size()), counters.at("refills"));
	want_same("refills.ok", count_ok(refills), n(refills.size()));
	want("refills.pages", sum_of(refills, "pages") >= n(ram.size() / page), true);
	want("undo", n(named(map, "undo").size()), 0);

	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), ram.size() / page);
	const Events events = trace.take();
	const MtEvent unmap = only(events, "unmap");

	want("events", n(events.size()), 1);
	want("unmap.iova", unmap.at("iova"), n(iova0));
	want("unmap.size", unmap.at("size"), n(ram.size()));
	want_same("unmap.ns", unmap.at("ns"), counted().at("unmap_ns"));
	want("unmap.threads", unmap.at("threads") >= 1, true);
}

TEST_F(Observe, EventsOfAFailure)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = hole_at_the_end();
	MtTrace trace;

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), EFAULT);
	const Events events = trace.take();
	const MtEvent undo = only(events, "undo"), end = only(events, "map_end");
	const Events chunks = named(events, "chunk");

	want("undo.iova", undo.at("iova"), n(iova0));
	want("undo.error", undo.at("error"), -EFAULT);
	want_same("undo.chunks", undo.at("chunks"), count_ok(chunks));
	want_same("one failed", n(chunks.size()), count_ok(chunks) + 1);
	want("end.ret", end.at("ret"), -EFAULT);
	want("end.pte", end.at("pte"), 0);
	/* With several threads, there was something to undo. */
	if (module_parameter(mt_module, "min_chunk_mb") == "2")
		want("undone", undo.at("chunks") > 0, true);
}

/* For a child process: no CAP_IPC_LOCK, and no more locked memory than this */
static void limit_memlock(std::size_t size)
{
	const rlimit limit{size, size};

	if (::setrlimit(RLIMIT_MEMLOCK, &limit) || ::setuid(65534))
		throw std::runtime_error("cannot limit locked memory");
}

/* A charge that is refused is seen as well. */
TEST_F(Observe, EventOfARefusal)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	MtTrace trace;

	const Notes child = run_child([&](Notes &notes) {
		const Memory ram = allocate(Backing::small, mib);

		populate(ram);
		limit_memlock(64 * page);
		notes.put("map", rig.container.map(iova0, ram.data(), ram.size()).err);
	});

	take("", child);
	expect_noted("map", to_value(ENOMEM));
	const Events refills = named(trace.take(), "refill");

	want("refused",
		std::ranges::any_of(
			refills, [](const MtEvent &r) { return r.at("ret") == -ENOMEM; }),
		true);
}

/* ---- the log ---- */

TEST_F(Observe, MemoryHigh)
{
	NEED_DEVICES(1);
	if (const auto why = Cgroup::lacking({"memory"}))
		GTEST_SKIP() << *why;
	const Rig rig = open_rig();
	const Cgroup group("observe", {"memory"});
	const KernelLog log;

	group.set("memory.high", "16M");
	const Notes child = run_child(
		[&](Notes &notes) {
			group.enter();
			const Memory ram = allocate(Backing::small, 18 * mib);

			notes.put("map", rig.container.map(iova0, ram.data(), ram.size()).err);
			notes.put("unmap", rig.container.unmap(iova0, ram.size()).err);
			Cgroup::leave();
		},
		300s);

	take("", child);
	expect_noted("map", to_value(0));
	want("told", log.waits_for("memory.high", 2s), true);
}

} // namespace selftest
