// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: where memory comes from that a map faults in, on a machine with two
 * nodes or more. The task's policy, the area's, and the cpuset's nodes decide;
 * which thread happens to fault a page in does not.
 */
#include "case.hpp"
#include "cgroup.hpp"
#include "mock/mock_rig.hpp"
#include "proc.hpp"

#include <algorithm>
#include <cstring>
#include <linux/mempolicy.h>
#include <map>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace selftest
{

static constexpr std::size_t numa_size = 16 * mib;

/* Nodes 0 and 1 are used. */
static bool has_two_nodes()
{
	return read_file("/sys/devices/system/node/node1/meminfo").has_value();
}

#define NEED_TWO_NODES()                                                                           \
	if (!has_two_nodes())                                                                      \
	GTEST_SKIP() << "needs two NUMA nodes with memory"

/* A mask of nodes, as system calls want it: they look at one bit less than told. */
static constexpr unsigned long node_bits = 8 * sizeof(unsigned long) + 1;

static void set_task_policy(int mode, unsigned long nodes)
{
	if (::syscall(SYS_set_mempolicy, mode, nodes ? &nodes : nullptr, nodes ? node_bits : 0))
		throw std::runtime_error(std::string("set_mempolicy: ") + std::strerror(errno));
}

static void set_area_policy(const Memory &ram, int mode, unsigned long nodes)
{
	if (::syscall(SYS_mbind, ram.data(), ram.size(), mode, &nodes, node_bits, 0))
		throw std::runtime_error(std::string("mbind: ") + std::strerror(errno));
}

static void run_on_node(int node)
{
	const std::string path = "/sys/devices/system/node/node" + std::to_string(node);
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (read_file(path + "/cpu" + std::to_string(cpu) + "/topology/core_id"))
			CPU_SET(cpu, &cpus);
	if (::sched_setaffinity(0, sizeof(cpus), &cpus))
		throw std::runtime_error("sched_setaffinity");
}

/* The node of each page, or a negative errno for a page that is not there. */
static std::vector<int> nodes_of(const Memory &ram, std::size_t unit)
{
	std::vector<void *> pages;

	for (std::size_t at = 0; at < ram.size(); at += unit)
		pages.push_back(ram.at(at));
	std::vector<int> status(pages.size(), -1);

	if (::syscall(SYS_move_pages, 0, pages.size(), pages.data(), nullptr, status.data(), 0))
		throw std::runtime_error(std::string("move_pages: ") + std::strerror(errno));
	return status;
}

/* How many units are on each node, "0:12 1:12"; and how often neighbours differ. */
static void see_nodes(Notes &seen, const std::vector<int> &nodes)
{
	std::map<int, std::size_t> counts;
	std::size_t changes = 0;
	std::string text;

	for (std::size_t i = 0; i < nodes.size(); i++) {
		counts[nodes[i]]++;
		changes += i && nodes[i] != nodes[i - 1];
	}
	for (const auto &[node, n] : counts)
		text += (text.empty() ? "" : " ") + std::to_string(node) + ":" + std::to_string(n);
	seen.put("nodes", text);
	seen.put("changes", changes);
}

enum class Scope { none, task, area, cpuset, both };

struct NumaRow {
	const char *name;
	Backing backing;
	Scope scope;
	int mode;	     /* for both: of the task, with node 0; the area is bound to node 1 */
	unsigned long nodes; /* bits */
	int expected;	     /* the node of all; -1: half and half, in turn */
	int run_on = -1;
};

using Numa = RowCase<NumaRow>;

static std::size_t numa_unit(Backing backing)
{
	return backing == Backing::thp || backing == Backing::hugetlb_2m ? huge_2m : page;
}

static std::string expected_nodes(const NumaRow &row)
{
	const std::size_t n = numa_size / numa_unit(row.backing);

	if (row.expected >= 0)
		return std::to_string(row.expected) + ":" + std::to_string(n);
	return "0:" + std::to_string(n / 2) + " 1:" + std::to_string(n / 2);
}

TEST_P(Numa, MemoryComesFrom)
{
	const NumaRow &row = GetParam();

	NEED_DEVICES(1);
	NEED_TWO_NODES();
	NEED_MEMORY(row.backing, numa_size);
	const EagerThreads eager;
	const Rig rig = open_rig();
	std::optional<Cgroup> group;

	if (row.scope == Scope::cpuset) {
		if (const auto why = Cgroup::lacking({"cpuset"}))
			GTEST_SKIP() << *why;
		group.emplace("numa", std::vector<std::string>{"cpuset"});
		group->set("cpuset.mems", std::to_string(row.expected));
	}
	take("", run_child([&](Notes &seen) {
		if (group)
			group->enter();
		if (row.run_on >= 0)
			run_on_node(row.run_on);
		if (row.scope == Scope::task)
			set_task_policy(row.mode, row.nodes);
		if (row.scope == Scope::both)
			set_task_policy(row.mode, 1);
		const Memory ram = allocate(row.backing, numa_size);

		if (row.scope == Scope::area)
			set_area_policy(ram, row.mode, row.nodes);
		if (row.scope == Scope::both)
			set_area_policy(ram, MPOL_BIND, 2);
		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), numa_size).err));
		see_nodes(seen, nodes_of(ram, numa_unit(row.backing)));
		seen.put("VmLck", vm_locked_pages());
		rig.container.unmap_all();
	}));
	expect_noted("map", to_value("ok"));
	expect_noted("nodes", to_value(expected_nodes(row)));
	expect_noted("changes",
		to_value(row.expected >= 0 ? 0 : numa_size / numa_unit(row.backing) - 1));
	expect_noted("VmLck", to_value(numa_size / page));
	want("pinned", pinned(), 0);
}

static constexpr auto small = Backing::small;
static constexpr auto thp = Backing::thp;
static constexpr auto huge = Backing::hugetlb_2m;
static constexpr auto memfd = Backing::memfd;

static const NumaRow numa_rows[] = {
	/* Without a policy, memory is that of the node on which a thread runs. */
	{"local_0", small, Scope::none, 0, 0, 0, 0},
	{"local_1", small, Scope::none, 0, 0, 1, 1},
	{"task_bind_0", small, Scope::task, MPOL_BIND, 1, 0},
	{"task_bind_1", small, Scope::task, MPOL_BIND, 2, 1},
	{"task_bind_1_thp", thp, Scope::task, MPOL_BIND, 2, 1},
	{"task_bind_1_2m", huge, Scope::task, MPOL_BIND, 2, 1},
	{"task_bind_1_memfd", memfd, Scope::task, MPOL_BIND, 2, 1},
	{"task_bind_1_elsewhere", small, Scope::task, MPOL_BIND, 2, 1, 0},
	{"task_preferred_0", small, Scope::task, MPOL_PREFERRED, 1, 0},
	{"task_preferred_1", small, Scope::task, MPOL_PREFERRED, 2, 1},
	{"task_preferred_1_2m", huge, Scope::task, MPOL_PREFERRED, 2, 1},
	{"task_preferred_1_thp", thp, Scope::task, MPOL_PREFERRED, 2, 1},
	{"task_interleave", small, Scope::task, MPOL_INTERLEAVE, 3, -1},
	{"task_interleave_thp", thp, Scope::task, MPOL_INTERLEAVE, 3, -1},
	{"task_interleave_2m", huge, Scope::task, MPOL_INTERLEAVE, 3, -1},
	{"task_interleave_memfd", memfd, Scope::task, MPOL_INTERLEAVE, 3, -1},
	{"area_bind_0", small, Scope::area, MPOL_BIND, 1, 0},
	{"area_bind_1", small, Scope::area, MPOL_BIND, 2, 1},
	{"area_bind_1_2m", huge, Scope::area, MPOL_BIND, 2, 1},
	{"area_bind_1_memfd", memfd, Scope::area, MPOL_BIND, 2, 1},
	{"area_preferred_1", small, Scope::area, MPOL_PREFERRED, 2, 1},
	{"area_interleave", small, Scope::area, MPOL_INTERLEAVE, 3, -1},
	{"area_before_task", small, Scope::both, MPOL_BIND, 0, 1},
	{"area_before_task_interleave", small, Scope::both, MPOL_INTERLEAVE, 0, 1},
	{"cpuset_0", small, Scope::cpuset, 0, 0, 0},
	{"cpuset_1", small, Scope::cpuset, 0, 0, 1},
	{"cpuset_1_2m", huge, Scope::cpuset, 0, 0, 1},
	{"cpuset_1_elsewhere", small, Scope::cpuset, 0, 0, 1, 0},
};

INSTANTIATE_TEST_SUITE_P(Table, Numa, testing::ValuesIn(numa_rows), row_name<NumaRow>);

using NumaCase = VfioCase;

/* The caller has its policy back, or rather has never been without it. */
TEST_F(NumaCase, PolicyIsTheCallers)
{
	NEED_DEVICES(1);
	NEED_TWO_NODES();
	const EagerThreads eager;
	const Rig rig = open_rig();

	take("", run_child([&](Notes &seen) {
		const Memory ram = allocate(Backing::small, numa_size);
		const Memory own = allocate(Backing::small, numa_size / 8);
		int mode = -1;
		unsigned long nodes = 0;

		set_task_policy(MPOL_BIND, 2);
		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), numa_size).err));
		see_nodes(seen, nodes_of(ram, page));
		::syscall(SYS_get_mempolicy, &mode, &nodes, node_bits, nullptr, 0);
		seen.put("mode", mode);
		seen.put("mask", nodes);
		populate(own);
		seen.put("own.wrong", std::ranges::count_if(nodes_of(own, page),
					      [](int node) { return node != 1; }));
		rig.container.unmap_all();
	}));
	expect_noted("map", to_value("ok"));
	expect_noted("nodes", to_value("1:" + std::to_string(numa_size / page)));
	expect_noted("mode", to_value(static_cast<int>(MPOL_BIND)));
	expect_noted("mask", to_value(2));
	expect_noted("own.wrong", to_value(0));
}

} // namespace selftest
