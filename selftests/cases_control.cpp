// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: the limits that a process is under hold for the threads that a driver
 * uses on its behalf: CPUs, priority, memory and I/O.
 *
 * A map of memory with device memory strewn in, whose faults the test module
 * holds up, has all its threads stopped in the middle of their work. They can be
 * looked at then. The stock driver has only the caller.
 */
#include "case.hpp"
#include "cgroup.hpp"
#include "mock/mock_rig.hpp"
#include "proc.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <linux/sched.h>
#include <optional>
#include <sched.h>
#include <sstream>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

using namespace std::chrono_literals;

/* At most so many threads, and so many if need be */
struct Forced : EagerThreads {
	explicit Forced(unsigned threads) : max_threads("max_threads", std::to_string(threads)) {}

	BackendParameter max_threads;
};

/* The largest number of threads that the driver chooses by itself. */
static constexpr unsigned default_threads = 16;
static constexpr std::size_t held_spans = 18;

/* Memory cgroups of version 2 count huge pages from pools, if it is mounted so. */
static constexpr char counts_pools[] = "memory_hugetlb_accounting";

static bool can_count_pools()
{
	return !kernel_before(6, 7);
}

static bool has_helpers()
{
	return module_refs(mt_module).has_value();
}

static bool has_workers()
{
	return has_helpers() && helpers_are_threads();
}

static std::string text_of(const cpu_set_t &cpus)
{
	std::string text;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &cpus))
			text += (text.empty() ? "" : ",") + std::to_string(cpu);
	return text;
}

static cpu_set_t allowed_cpus(pid_t pid)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	if (::sched_getaffinity(pid, sizeof(cpus), &cpus))
		throw std::runtime_error("sched_getaffinity");
	return cpus;
}

static cpu_set_t first_cpus(int n)
{
	const cpu_set_t all = allowed_cpus(0);
	cpu_set_t some;

	CPU_ZERO(&some);
	for (int cpu = 0; cpu < CPU_SETSIZE && n; cpu++)
		if (CPU_ISSET(cpu, &all)) {
			CPU_SET(cpu, &some);
			n--;
		}
	return some;
}

static int last_cpu()
{
	const cpu_set_t all = allowed_cpus(0);
	int cpu = CPU_SETSIZE - 1;

	while (!CPU_ISSET(cpu, &all))
		cpu--;
	return cpu;
}

/* A line of /proc/PID/status. */
static std::string status_line(pid_t pid, const std::string &name)
{
	std::istringstream in(read_file("/proc/" + std::to_string(pid) + "/status").value_or(""));

	for (std::string line; std::getline(in, line);)
		if (line.starts_with(name + ":"))
			return line;
	return "";
}

/* What decides where and when a thread may run. */
struct Standing {
	std::string cpus;
	int policy;
	int nice;
	int priority;
	std::string nodes;
	std::string groups;

	bool operator==(const Standing &) const = default;

	/* all: with the group of version 2, too */
	static Standing of(pid_t pid, bool all)
	{
		Standing s;
		sched_param param = {};

		s.cpus = text_of(allowed_cpus(pid));
		s.policy = ::sched_getscheduler(pid);
		::sched_getparam(pid, &param);
		s.priority = param.sched_priority;
		s.nice = ::getpriority(PRIO_PROCESS, static_cast<id_t>(pid));
		s.nodes = status_line(pid, "Mems_allowed_list");
		std::istringstream in(
			read_file("/proc/" + std::to_string(pid) + "/cgroup").value_or(""));
		for (std::string line; std::getline(in, line);)
			if (all || !line.starts_with("0::"))
				s.groups += line + " ";
		return s;
	}
	std::string text() const
	{
		return "cpus " + cpus + " policy " + std::to_string(policy) + " nice " +
		       std::to_string(nice) + " priority " + std::to_string(priority) + " " +
		       nodes + " " + groups;
	}
};

static std::string tasks_of(pid_t pid)
{
	return "/proc/" + std::to_string(pid) + "/task";
}

/* The driver's threads that work for a thread: the kernel's, or of the thread's process. */
static std::vector<pid_t> helpers_of(pid_t caller)
{
	const std::string name = "vfio_mt/" + std::to_string(caller) + "\n";
	std::vector<pid_t> found = tasks_named("/proc", name);

	std::ranges::copy(tasks_named(tasks_of(caller), name), std::back_inserter(found));
	return found;
}

static bool soon(const std::function<bool()> &what)
{
	for (int tries = 0; !what(); tries++) {
		if (tries == 200)
			return false;
		std::this_thread::sleep_for(20ms);
	}
	return true;
}

/* What else happens during a map. */
struct Meanwhile {
	int most_helpers = 1000; /* whatever CPUs there are */
	bool pool = false;	 /* the last of the memory is a huge page from a pool */
	bool killed = false;	 /* with all threads stuck */
	bool kernels = false;	 /* helpers are the kernel's threads, whatever they could be */
	bool grouped = false;	 /* and yet they are in the caller's group of version 2 */
	/* In the process, in another thread; and when its map is done. */
	std::function<void(const Memory &)> beside = {};
	std::function<void(Notes &)> mapped = [](Notes &) {};
	/* With all threads stuck; then, when they are not any more. */
	std::function<void(pid_t)> held = [](pid_t) {};
	std::function<void(pid_t)> released = [](pid_t) {};
};

class Control : public MockCase
{
protected:
	/* A thread that is there: to begin, one needs the mmap lock. */
	static std::jthread begun(const std::function<void()> &body)
	{
		std::atomic<bool> there = false;
		std::jthread thread([&, body] {
			there = true;
			body();
		});

		while (!there)
			std::this_thread::sleep_for(1ms);
		return thread;
	}

	/* Memory of which each thread that maps it gets stuck in its first chunk. */
	Memory held_memory(bool pool) const
	{
		Memory ram = Memory::reserve(held_spans * huge_2m, huge_2m);

		/*
		 * Read only, never touched: quick to map. Private pages are not, since Linux 6.2:
		 * the zero page is replaced in each place, and all CPUs have to flush it.
		 */
		ram.place(0, ram.size(), PROT_READ, MAP_SHARED | MAP_ANONYMOUS);
		::madvise(ram.data(), ram.size(), MADV_NOHUGEPAGE);
		for (std::size_t i = 0; i < held_spans; i++)
			ram.place(i * huge_2m, page, PROT_READ, MAP_SHARED, mock().fd(),
				VFIO_MT_MOCK_MEM_LAZY + i * page);
		if (pool)
			ram.place(ram.size() - huge_2m, huge_2m, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB);
		return ram;
	}

	/* Wait until so many threads are stuck, and nobody else comes. */
	bool wait_held(int threads) const
	{
		for (int tries = 0; mock().held() < threads; tries++) {
			if (tries == 1000)
				return false;
			std::this_thread::sleep_for(10ms);
		}
		std::this_thread::sleep_for(100ms);
		return mock().held() == threads;
	}

	/*
	 * A map by a process that has set itself up. There must be as many helpers as it
	 * is allowed, and they must stand as it stands.
	 */
	void map_and_look(unsigned max_threads, const std::function<void()> &set_up,
		const Meanwhile &now = {})
	{
		const Forced forced(max_threads);
		const Rig rig = open_rig();
		const Memory ram = held_memory(now.pool);
		const auto refs = module_refs(mt_module);

		mock().hold(true);
		Child child([&](Notes &seen, const ChildSync &sync) {
			set_up();
			sync.ready_and_wait();
			std::jthread other;
			if (now.beside)
				other = begun([&] { now.beside(ram); });
			seen.put("map", errno_name(rig.container
							   .map(iova0, ram.data(), ram.size(),
								   VFIO_DMA_MAP_FLAG_READ)
							   .err));
			now.mapped(seen);
			seen.put("unmap.pages",
				rig.container.unmap_all().value / static_cast<long>(page));
		});
		if (child.wait_ready()) {
			const cpu_set_t cpus = allowed_cpus(child.pid());
			int helpers = 0;

			if (has_helpers())
				helpers = std::min({CPU_COUNT(&cpus) - 1, now.most_helpers,
					static_cast<int>(
						max_threads ? max_threads : default_threads) -
						1});
			child.go();
			look(child.pid(), helpers, now);
			now.held(child.pid());
		}
		if (now.killed)
			child.kill();
		mock().hold(false);
		now.released(child.pid());
		if (now.killed) {
			child.finish();
			want("ending", child.ending(), "signal SIGKILL");
			/* No thread has mapped more than what it was stuck in. */
			want_unmapped("unmap_all", rig.container.unmap_all(), 0);
			want("dma_avail", rig.container.info().dma_avail, 65535);
		} else {
			take("", child.finish());
			want("ending", child.ending(), "exit 0");
			expect_noted("map", to_value("ok"));
		}
		want("pinned", pinned(), 0);
		/* No thread is forgotten: each has the module. */
		want("refs", soon([&] { return module_refs(mt_module) == refs; }), true);
	}

private:
	void look(pid_t caller, int expected, const Meanwhile &now)
	{
		const bool held = wait_held(expected + 1);
		const bool all = now.grouped || (has_workers() && !now.kernels);
		const Standing own = Standing::of(caller, all);
		const auto helpers = helpers_of(caller);
		std::string unlike;

		for (const pid_t helper : helpers) {
			const Standing its = Standing::of(helper, all);

			if (its != likeness(own))
				unlike += its.text() + "; caller: " + own.text() + "\n";
		}
		if (now.kernels)
			want("of_the_process", tasks_named(tasks_of(caller), "vfio_mt/").size(),
				0U);
		EXPECT_TRUE(held) << "threads at work: " << mock().held();
		EXPECT_EQ(helpers.size(), static_cast<std::size_t>(expected));
		want("helpers", held && helpers.size() == static_cast<std::size_t>(expected), true);
		want("unlike", unlike, "");
	}

	/* What helpers of such a caller look like: a deadline cannot be shared. */
	static Standing likeness(Standing s)
	{
		if (s.policy == SCHED_DEADLINE)
			s.policy = SCHED_OTHER;
		return s;
	}
};

#define NEED_CGROUP(...)                                                                           \
	if (const auto why = Cgroup::lacking({__VA_ARGS__}))                                       \
	GTEST_SKIP() << *why

struct ControlRow {
	const char *name;
	unsigned max_threads;
	void (*set_up)();
};

class ControlTable : public Control, public testing::WithParamInterface<ControlRow>
{
};

static void want_zero(int result, const char *what)
{
	if (result)
		throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

static void set_cpus(const cpu_set_t &cpus)
{
	want_zero(::sched_setaffinity(0, sizeof(cpus), &cpus), "sched_setaffinity");
}

static void set_policy(int policy, int priority = 0)
{
	const sched_param param = {.sched_priority = priority};

	want_zero(::sched_setscheduler(0, policy, &param), "sched_setscheduler");
}

static void set_nice(int nice)
{
	want_zero(::setpriority(PRIO_PROCESS, 0, nice), "setpriority");
}

static void set_deadline()
{
	struct {
		std::uint32_t size, policy;
		std::uint64_t flags;
		std::int32_t nice;
		std::uint32_t priority;
		std::uint64_t runtime, deadline, period;
	} attr = {};

	attr.size = sizeof(attr);
	attr.policy = SCHED_DEADLINE;
	attr.runtime = 10'000'000;
	attr.deadline = 50'000'000;
	attr.period = 100'000'000;
	want_zero(static_cast<int>(::syscall(SYS_sched_setattr, 0, &attr, 0)), "sched_setattr");
}

TEST_P(ControlTable, HelpersAreLikeTheCaller)
{
	NEED_DEVICES(1);
	map_and_look(GetParam().max_threads, GetParam().set_up);
}

static const ControlRow control_rows[] = {
	{"default", 0, [] {}},
	{"one_thread", 1, [] {}},
	{"two_threads", 2, [] {}},
	{"three_threads", 3, [] {}},
	{"first_cpu", 0, [] { set_cpus(first_cpus(1)); }},
	{"last_cpu", 0,
		[] {
			cpu_set_t cpus;

			CPU_ZERO(&cpus);
			CPU_SET(last_cpu(), &cpus);
			set_cpus(cpus);
		}},
	{"two_cpus", 0, [] { set_cpus(first_cpus(2)); }},
	{"two_cpus_many_threads", 16, [] { set_cpus(first_cpus(2)); }},
	{"nice_19", 0, [] { set_nice(19); }},
	{"nice_minus_5", 0, [] { set_nice(-5); }},
	{"batch", 0,
		[] {
			set_policy(SCHED_BATCH);
			set_nice(7);
		}},
	{"idle", 0, [] { set_policy(SCHED_IDLE); }},
	{"fifo", 0, [] { set_policy(SCHED_FIFO, 10); }},
	{"round_robin", 0, [] { set_policy(SCHED_RR, 3); }},
	{"deadline", 0, set_deadline},
};

INSTANTIATE_TEST_SUITE_P(
	Table, ControlTable, testing::ValuesIn(control_rows), row_name<ControlRow>);

/* A cpuset of one CPU, and of one less than there are. */
TEST_F(Control, CpusetOfOneCpu)
{
	NEED_DEVICES(1);
	NEED_CGROUP("cpuset");
	const Cgroup group("cpuset", {"cpuset"});

	group.set("cpuset.cpus", std::to_string(last_cpu()));
	map_and_look(0, [&] { group.enter(); }, {.grouped = true});
}

TEST_F(Control, CpusetOfAllButOne)
{
	NEED_DEVICES(1);
	NEED_CGROUP("cpuset");
	const cpu_set_t all = allowed_cpus(0);
	const Cgroup group("cpuset", {"cpuset"});

	group.set("cpuset.cpus", text_of(first_cpus(std::max(CPU_COUNT(&all) - 1, 1))));
	map_and_look(0, [&] { group.enter(); }, {.grouped = true});
}

/* A group of version 1: helpers are in it, too. */
TEST_F(Control, GroupOfVersion1)
{
	NEED_DEVICES(1);
	const auto group = CgroupV1::mount("cpuacct");

	if (!group)
		GTEST_SKIP() << "this kernel has no controller cpuacct to mount";
	map_and_look(0, [&] { group->enter(); });
}

/* One of version 2 that counts memory: so it does for helpers, be they in it or not. */
TEST_F(Control, GroupOfVersion2)
{
	NEED_DEVICES(1);
	NEED_CGROUP("memory");
	const Cgroup group("threads", {"memory"});

	map_and_look(0, [&] { group.enter(); });
}

/* One that limits CPU time: they must be in it, whosever they are. */
TEST_F(Control, GroupOfCpuTime)
{
	NEED_DEVICES(1);
	NEED_CGROUP("cpu");
	const Cgroup group("time", {"cpu"});

	/*
	 * Newer kernels let threads go on in the kernel, and in user space wait for all that
	 * they have used too much: minutes, in a slow machine with all checks.
	 */
	group.set("cpu.max", kernel_before(7, 0) ? "50000 100000" : "400000 100000");
	map_and_look(0, [&] { group.enter(); }, {.grouped = true});
}

/* A group in the state "threaded", as libvirt has for QEMU's threads. */
TEST_F(Control, ThreadedGroup)
{
	NEED_DEVICES(1);
	NEED_CGROUP("cpu");
	const Cgroup group("threaded", {"cpu"});

	group.set("cgroup.type", "threaded");
	map_and_look(0, [&] { group.set("cgroup.threads", "0"); }, {.grouped = true});
}

static void spare_from_oom()
{
	if (!write_file("/proc/self/oom_score_adj", "-1000"))
		throw std::runtime_error("oom_score_adj");
}

/* A group is killed as a whole, but for one process: it is no less spared for its helpers. */
TEST_F(Control, GroupIsKilled)
{
	NEED_DEVICES(1);
	NEED_CGROUP("memory", "cpu");
	const Cgroup group("killed", {"memory", "cpu"});

	group.set("memory.oom.group", "1");
	map_and_look(0,
		[&] {
			group.enter();
			spare_from_oom();
		},
		{.grouped = true, .held = [&](pid_t) {
			 group.set("memory.max",
				 std::to_string(group.number("memory.current") + 4 * mib));
			 Child eater([&](Notes &, const ChildSync &) {
				 group.enter();
				 populate(allocate(Backing::small, 32 * mib));
			 });

			 eater.finish();
			 want("eater", eater.ending(), "signal SIGKILL");
			 group.set("memory.max", "max");
		 }});
}

/*
 * Threads are charged to the group's memory: where there is hardly any left, helpers are
 * the kernel's, and stand as the caller stands all the same.
 */
TEST_F(Control, GroupWithoutMemory)
{
	NEED_DEVICES(1);
	NEED_CGROUP("memory", "cpu");
	const Cgroup group("full", {"memory", "cpu"});

	map_and_look(0,
		[&] {
			static std::optional<Memory> some;

			group.enter();
			set_cpus(first_cpus(3));
			set_nice(3);
			some = allocate(Backing::small, 8 * mib);
			populate(*some);
			/* Enough to begin, not enough for threads. */
			group.set("memory.max",
				std::to_string(group.number("memory.current") + mib * 3 / 4));
		},
		{.kernels = true, .grouped = true, .held = [&](pid_t) {
			 group.set("memory.max", "max");
		 }});
}

/* ---- what the process may, and what happens to it ---- */

/* From here on the process is a user's, who may have so many threads. */
static void become_user(rlim_t threads)
{
	const rlimit few = {threads, threads}, any = {RLIM_INFINITY, RLIM_INFINITY};
	// Nobody else's: threads that have just ended may still count.
	const auto user = static_cast<uid_t>(100000 + ::getpid());

	want_zero(::setrlimit(RLIMIT_MEMLOCK, &any), "RLIMIT_MEMLOCK");
	want_zero(::setrlimit(RLIMIT_NPROC, &few), "RLIMIT_NPROC");
	want_zero(::setresuid(user, user, user), "setresuid");
}

/* Whoever may have no more threads: nobody works for him elsewhere. */
TEST_F(Control, UserWithoutMoreThreads)
{
	NEED_DEVICES(1);
	map_and_look(0, [] { become_user(1); }, {.most_helpers = has_workers() ? 0 : 1000});
}

TEST_F(Control, UserWithOneMoreThread)
{
	NEED_DEVICES(1);
	map_and_look(0, [] { become_user(2); }, {.most_helpers = has_workers() ? 1 : 1000});
}

/*
 * What only a process with one thread may do, it may do when its map is over: the driver's
 * threads are no longer there.
 */
TEST_F(Control, AloneAfterwards)
{
	NEED_DEVICES(1);
	const Forced forced(0);
	const Rig rig = open_rig();
	int refused = 0;

	for (int round = 0; round < 20; round++) {
		const Notes seen = run_child([&](Notes &notes) {
			const Memory ram = allocate(Backing::small, 16 * mib);
			const Result result = rig.container.map(iova0, ram.data(), ram.size());

			notes.put("unshare", errno_name(::unshare(CLONE_NEWUSER) ? errno : 0));
			notes.put("map", errno_name(result.err));
			rig.container.unmap_all();
		});

		refused += seen.text("map") != "ok" || seen.text("unshare") != "ok";
	}
	want("refused", refused, 0);
	want("pinned", pinned(), 0);
}

/* Signals that wait to be handled do not stand in the way of threads being made. */
TEST_F(Control, SignalsAllTheTime)
{
	NEED_DEVICES(1);
	map_and_look(0, [] {
		constexpr itimerval often = {{0, 500}, {0, 500}};
		struct sigaction ignore = {};

		ignore.sa_handler = [](int) {};
		ignore.sa_flags = SA_RESTART;
		want_zero(::sigaction(SIGALRM, &ignore, nullptr), "sigaction");
		want_zero(::setitimer(ITIMER_REAL, &often, nullptr), "setitimer");
	});
}

/* Are all threads of a process stopped? */
static bool is_stopped(pid_t pid)
{
	std::error_code none;
	bool any = false;

	for (const auto &entry : std::filesystem::directory_iterator(tasks_of(pid), none)) {
		const std::string stat = read_file(entry.path() / "stat").value_or("");
		const auto name_end = stat.rfind(") ");

		if (name_end == std::string::npos)
			continue;
		if (stat[name_end + 2] != 'T')
			return false;
		any = true;
	}
	return any;
}

/* KB20: killed while each of its threads is in a fault that takes long. */
TEST_F(Control, KB20_KilledInSlowFaults)
{
	NEED_DEVICES(1);
	covers({"KB20"});
	map_and_look(0, [] {}, {.killed = true});
}

/* The signal goes to a thread that is not in the ioctl, if there is one. */
static void stop(pid_t pid)
{
	for (const pid_t helper : helpers_of(pid))
		::syscall(SYS_tgkill, pid, helper, SIGSTOP);
	::kill(pid, SIGSTOP);
}

/* Stopped during a map, a process is so as soon as the ioctl is over. */
TEST_F(Control, StoppedDuringAMap)
{
	NEED_DEVICES(1);
	map_and_look(
		0, [] {}, {.held = stop, .released = [&](pid_t pid) {
				   want("stopped", soon([pid] { return is_stopped(pid); }), true);
				   ::kill(pid, SIGCONT);
			   }});
}

/* And a group whose processes are to be frozen, is, with helpers in it or not. */
class ControlFreeze : public Control
{
protected:
	void freeze(const std::vector<std::string> &controllers, bool grouped)
	{
		const Cgroup group("frozen", controllers);
		const auto frozen = [&] { return group.number("cgroup.events", "frozen") == 1; };

		map_and_look(0, [&] { group.enter(); },
			{.grouped = grouped,
				.held = [&](pid_t) { group.set("cgroup.freeze", "1"); },
				.released =
					[&](pid_t) {
						want("frozen", soon(frozen), true);
						group.set("cgroup.freeze", "0");
					}});
	}
};

TEST_F(ControlFreeze, FrozenDuringAMap)
{
	NEED_DEVICES(1);
	NEED_CGROUP();
	freeze({}, false);
}

TEST_F(ControlFreeze, FrozenWithItsHelpers)
{
	NEED_DEVICES(1);
	NEED_CGROUP("cpu");
	freeze({"cpu"}, true);
}

/*
 * A huge page from a pool is charged to the thread that faults it in: helpers are in the
 * caller's group if that is charged at all.
 */
struct PoolRow {
	const char *name;
	const char *controller;
	bool option; /* memory cgroups are to count such pages */
	bool (*counts)();
};

class ControlPool : public Control, public testing::WithParamInterface<PoolRow>
{
};

TEST_P(ControlPool, HelpersCharge)
{
	const PoolRow &row = GetParam();

	NEED_DEVICES(1);
	NEED_MEMORY(Backing::hugetlb_2m, huge_2m);
	NEED_CGROUP(row.controller);
	const Cgroup group("pool", {row.controller});
	std::optional<CgroupOption> option;

	if (row.option && can_count_pools())
		option.emplace(counts_pools);
	map_and_look(0, [&] { group.enter(); }, {.pool = true, .grouped = row.counts()});
}

static const PoolRow pool_rows[] = {
	{"hugetlb", "hugetlb", false, [] { return true; }},
	{"memory", "memory", false, [] { return false; }},
	{"memory_that_counts", "memory", true, can_count_pools},
};

INSTANTIATE_TEST_SUITE_P(Table, ControlPool, testing::ValuesIn(pool_rows), row_name<PoolRow>);

/*
 * A huge page from a pool takes the place of other memory while that is being mapped: the
 * threads are there already, and it must be charged to the caller's group all the same.
 */
TEST_F(Control, PoolComesDuringAMap)
{
	NEED_DEVICES(1);
	NEED_MEMORY(Backing::hugetlb_2m, huge_2m);
	NEED_CGROUP("hugetlb");
	const Cgroup group("replaced", {"hugetlb"});
	const cpu_set_t cpus = allowed_cpus(0);
	const int threads =
		has_helpers() ? std::min(CPU_COUNT(&cpus), static_cast<int>(default_threads)) : 1;

	/* Others are in their first chunk then; who maps is next to have the mmap lock. */
	const auto replace = [&](const Memory &ram) {
		while (mock().held() < threads)
			std::this_thread::sleep_for(5ms);
		if (::mmap(ram.at(ram.size() - huge_2m), huge_2m, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED, -1,
			    0) == MAP_FAILED)
			std::abort();
	};

	map_and_look(0, [&] { group.enter(); },
		{.grouped = true, .beside = replace, .mapped = [&](Notes &seen) {
			 seen.put("charged", group.number("hugetlb.2MB.current"));
		 }});
	expect_noted("charged", to_value(static_cast<long>(huge_2m)));
}

/* ---- threads and CPUs that are not there ---- */

/* The kernel makes no more threads, whoever asks. */
class NoNewThreads
{
public:
	NoNewThreads() = default;
	NoNewThreads(const NoNewThreads &) = delete;
	NoNewThreads &operator=(const NoNewThreads &) = delete;
	~NoNewThreads() { write_file(file, before_); }

	/* By the child, when it is there. The least that can be set is less than there are. */
	static void begin()
	{
		if (!write_file(file, "20"))
			throw std::runtime_error("threads-max");
	}

private:
	static constexpr auto file = "/proc/sys/kernel/threads-max";
	const std::string before_ = read_file(file).value_or("");
};

/* Then the caller does it all, the unmap as well. */
TEST_F(Control, NoThreadsToBeHad)
{
	NEED_DEVICES(1);
	const NoNewThreads restore;

	map_and_look(0, NoNewThreads::begin, {.most_helpers = 0});
}

/* CPUs that are taken away, and come back at the end. */
class CpusOffline
{
public:
	CpusOffline() = default;
	CpusOffline(const CpusOffline &) = delete;
	CpusOffline &operator=(const CpusOffline &) = delete;
	~CpusOffline() { bring_back(); }

	void take(int cpu)
	{
		if (!write_file(file(cpu), "0"))
			throw std::runtime_error("cannot take CPU " + std::to_string(cpu));
		gone_.push_back(cpu);
	}
	void bring_back()
	{
		for (const int cpu : gone_)
			if (!write_file(file(cpu), "1"))
				ADD_FAILURE() << "CPU " << cpu << " does not come back";
		gone_.clear();
	}

private:
	static std::string file(int cpu)
	{
		return "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/online";
	}
	std::vector<int> gone_;
};

/* All but one CPU go while helpers are at work on each of them. */
TEST_F(Control, CpusGoDuringAMap)
{
	NEED_DEVICES(1);
	NEED_CPUS(4);
	CpusOffline cpus;

	map_and_look(0, [] {}, {.held = [&](pid_t) {
		for (int cpu = last_cpu(); cpu > 0; cpu--)
			cpus.take(cpu);
	}});
}

/* The only CPUs that the caller may use go. */
TEST_F(Control, AllowedCpusGoDuringAMap)
{
	NEED_DEVICES(1);
	NEED_CPUS(4);
	CpusOffline cpus;
	const int last = last_cpu();

	map_and_look(0,
		[last] {
			cpu_set_t two;

			CPU_ZERO(&two);
			CPU_SET(last, &two);
			CPU_SET(last - 1, &two);
			set_cpus(two);
		},
		{.held = [&](pid_t) {
			cpus.take(last);
			cpus.take(last - 1);
		}});
}

/* They go and come all the time, while threads are started, work, and end. */
TEST_F(Control, CpusComeAndGo)
{
	NEED_DEVICES(1);
	NEED_CPUS(4);
	const Forced forced(0);
	const Rig rig = open_rig();
	const Memory ram = allocate(Backing::memfd, 32 * mib);

	populate(ram);
	Child child([&](Notes &seen, const ChildSync &sync) {
		std::atomic<bool> stop = false;
		int failed = 0;

		sync.ready();
		const std::jthread waiter([&] {
			sync.wait_for_go();
			stop = true;
		});

		while (!stop) {
			failed += !rig.container.map(iova0, ram.data(), ram.size()).ok();
			failed += rig.container.unmap_all().value != static_cast<long>(ram.size());
		}
		seen.put("failed", failed);
		seen.put("VmLck", vm_locked_pages());
	});

	want("ready", child.wait_ready(), true);
	for (int round = 0; round < 2; round++) {
		CpusOffline cpus;

		for (int cpu = last_cpu(); cpu > 0; cpu -= 2)
			cpus.take(cpu);
	}
	child.go();
	take("", child.finish());
	expect_noted("failed", to_value(0));
	expect_noted("VmLck", to_value(0));
	want("pinned", pinned(), 0);
}

/* ---- memory ---- */

/* Any map of cold memory by a process in a group. */
class ControlMemory : public Control
{
protected:
	static constexpr std::size_t size = 32 * mib;

	/* What is left for the group to be charged when its processes are gone. */
	static constexpr std::int64_t little = 2 * mib;
};

TEST_F(ControlMemory, ChargedToTheCaller)
{
	NEED_DEVICES(1);
	NEED_CGROUP("memory");
	const Forced forced(0);
	const Rig rig = open_rig();
	const Cgroup group("memory", {"memory"});

	for (const Backing backing : {Backing::small, Backing::thp, Backing::memfd}) {
		const std::string key = std::string(name(backing)) + ".";

		take(key, run_child([&](Notes &seen) {
			group.enter();
			const Memory ram = allocate(backing, size);
			const auto tables = group.number("memory.stat", "pagetables");
			/* Page tables of what is not mapped by huge ones, all but a few. */
			const auto least = backing == Backing::thp ? std::size_t{0}
								   : (size / huge_2m - 1) * page;

			seen.put("map", errno_name(rig.container.map(iova0, ram.data(), size).err));
			seen.put("charged", group.charged(ram));
			/* The kernel adds up what CPUs have counted every two seconds. */
			seen.put("tables", soon([&] {
				return group.number("memory.stat", "pagetables") - tables >=
				       static_cast<std::int64_t>(least);
			}));
			seen.put("VmLck", vm_locked_pages());
			rig.container.unmap_all();
		}));
		expect_noted(key + "map", to_value("ok"));
		expect_noted(key + "charged", to_value(size / page));
		expect_noted(key + "tables", to_value(true));
		expect_noted(key + "VmLck", to_value(size / page));
	}
	want("pinned", pinned(), 0);
}

/* More than the group may have: its OOM killer takes the process. */
TEST_F(ControlMemory, MaxKills)
{
	NEED_DEVICES(1);
	NEED_CGROUP("memory");
	const Forced forced(0);
	Rig rig = open_rig();
	Cgroup group("memory", {"memory"});

	group.set("memory.max", std::to_string(size / 2));
	Child child([&](Notes &, const ChildSync &) {
		group.enter();
		const Memory ram = allocate(Backing::small, size);

		rig.container.map(iova0, ram.data(), size);
	});
	child.finish();
	want("ending", child.ending(), "signal SIGKILL");
	want("killed", group.number("memory.events", "oom_kill") > 0, true);
	/* The container is still open: nothing is mapped in it. */
	want_unmapped("unmap", rig.container.unmap_all(), 0);
	want("pinned", pinned(), 0);
	want("freed", soon([&] { return group.number("memory.current") < little; }), true);
	want("removed", group.remove(), true);
}

/* The same for a process that must not be killed: the map fails, it lives on. */
TEST_F(ControlMemory, MaxFails)
{
	NEED_DEVICES(1);
	NEED_CGROUP("memory");
	const Forced forced(0);
	const Rig rig = open_rig();
	Cgroup group("memory", {"memory"});

	group.set("memory.max", std::to_string(size / 2));
	take("", run_child([&](Notes &seen) {
		spare_from_oom();
		group.enter();
		Memory ram = allocate(Backing::small, size);
		Memory spare = allocate(Backing::small, size / 16);

		populate(spare);
		const Result result = rig.container.map(iova0, ram.data(), size);

		/* Or else this process could not touch another page, and would be stuck. */
		spare.reset();
		seen.put("map", errno_name(result.err));
		seen.put("VmLck", vm_locked_pages());
		seen.put("unmap.pages", rig.container.unmap_all().value / static_cast<long>(page));
		/* What was faulted in is the process's, and can be given up. */
		ram.reset();
		seen.put("freed", soon([&] { return group.number("memory.current") < little; }));
		ram = allocate(Backing::small, size / 4);
		seen.put("less", errno_name(rig.container.map(iova0, ram.data(), size / 4).err));
		seen.put("VmLck.less", vm_locked_pages());
		rig.container.unmap_all();
	}));
	expect_noted("map", to_value("ENOMEM"));
	expect_noted("VmLck", to_value(0));
	expect_noted("unmap.pages", to_value(0));
	expect_noted("freed", to_value(true));
	expect_noted("less", to_value("ok"));
	want("pinned", pinned(), 0);
	want("removed", group.remove(), true);
}

/* Huge pages have a controller of their own, which charges the thread that faults. */
TEST_F(ControlMemory, HugetlbChargedToTheCaller)
{
	NEED_DEVICES(1);
	NEED_MEMORY(Backing::hugetlb_2m, size);
	NEED_CGROUP("hugetlb");
	const Forced forced(0);
	const Rig rig = open_rig();
	Cgroup group("hugetlb", {"hugetlb"});

	for (const bool fits : {true, false}) {
		const std::string key = fits ? "fits." : "short.";

		group.set("hugetlb.2MB.max", std::to_string(fits ? size : size / 2));
		take(key, run_child([&](Notes &seen) {
			group.enter();
			const Memory ram = allocate(Backing::hugetlb_2m, size);

			seen.put("map", errno_name(rig.container.map(iova0, ram.data(), size).err));
			seen.put("charged", group.number("hugetlb.2MB.current") /
						    static_cast<std::int64_t>(huge_2m));
			seen.put("VmLck", vm_locked_pages());
			rig.container.unmap_all();
		}));
		expect_noted(key + "map", to_value(fits ? "ok" : "EFAULT"));
		expect_noted(key + "charged", to_value(size / huge_2m / (fits ? 1 : 2)));
		expect_noted(key + "VmLck", to_value(fits ? size / page : 0));
		want(key + "pinned", pinned(), 0);
	}
	want("freed", soon([&] { return group.number("hugetlb.2MB.current") == 0; }), true);
	want("removed", group.remove(), true);
}

/* They may be memory like any other, too. */
TEST_F(ControlMemory, HugetlbChargedAsMemory)
{
	NEED_DEVICES(1);
	NEED_MEMORY(Backing::hugetlb_2m, size);
	NEED_CGROUP("memory");
	const bool counts = can_count_pools();
	const Forced forced(0);
	const Rig rig = open_rig();
	Cgroup group("memory", {"memory"});
	std::optional<CgroupOption> option;

	if (counts)
		option.emplace(counts_pools);
	for (const bool fits : {true, false}) {
		const std::string key = fits ? "fits." : "short.";
		const bool maps = fits || !counts;

		group.set("memory.max", std::to_string(fits ? size * 2 : size / 2));
		take(key, run_child([&](Notes &seen) {
			group.enter();
			const Memory ram = allocate(Backing::hugetlb_2m, size);

			seen.put("map", errno_name(rig.container.map(iova0, ram.data(), size).err));
			if (maps)
				seen.put("charged", group.charged(ram));
			seen.put("VmLck", vm_locked_pages());
			rig.container.unmap_all();
		}));
		expect_noted(key + "map", to_value(maps ? "ok" : "ENOMEM"));
		if (maps)
			expect_noted(key + "charged", to_value(counts ? size / page : 0));
		expect_noted(key + "VmLck", to_value(maps ? size / page : 0));
		want(key + "pinned", pinned(), 0);
	}
	want("freed", soon([&] { return group.number("memory.current") < little; }), true);
	want("removed", group.remove(), true);
}

/* What a fault reads from a disk is the caller's I/O. */
TEST_F(ControlMemory, IoOfTheCaller)
{
	NEED_DEVICES(1);
	NEED_CGROUP("io", "memory");
	const Fd disk(::open("/dev/nullb0", O_RDONLY | O_CLOEXEC));

	if (!disk.valid())
		GTEST_SKIP() << "no /dev/nullb0: modprobe null_blk";
	const Forced forced(0);
	const Rig rig = open_rig();
	Cgroup group("io", {"io", "memory"});

	::posix_fadvise(disk.get(), 0, 0, POSIX_FADV_DONTNEED);
	take("", run_child([&](Notes &seen) {
		group.enter();
		const Memory file = Memory::map(size, PROT_READ, MAP_SHARED, disk.get());

		seen.put("map",
			errno_name(
				rig.container.map(iova0, file.data(), size, VFIO_DMA_MAP_FLAG_READ)
					.err));
		rig.container.unmap_all();
	}));
	expect_noted("map", to_value("ok"));

	/* "MAJOR:MINOR rbytes=N wbytes=... ..." */
	const std::string stat = group.get("io.stat");
	const auto at = stat.find("rbytes=");
	const auto read = at == std::string::npos
				  ? std::int64_t{0}
				  : std::strtoll(stat.c_str() + at + 7, nullptr, 10);

	EXPECT_GE(read, static_cast<std::int64_t>(size)) << stat;
	want("all_read", read >= static_cast<std::int64_t>(size), true);
	want("pinned", pinned(), 0);
}

} // namespace selftest
