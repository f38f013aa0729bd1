// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: several threads in one container at once. What each call returns must
 * be one of the answers it may have; afterwards everything is back. How often
 * which answer came is a matter of timing, and not recorded.
 */
#include "case.hpp"
#include "mock/mock_rig.hpp"
#include "proc.hpp"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <fcntl.h>
#include <filesystem>
#include <mutex>
#include <set>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

using namespace std::chrono_literals;

class Threads : public VfioCase
{
protected:
	/* Runs all bodies, again and again, for about this long. */
	void run(const std::vector<std::function<void(std::size_t)>> &bodies,
		std::chrono::milliseconds time = 800ms)
	{
		std::atomic<bool> stop = false;
		std::vector<std::jthread> threads;

		for (std::size_t i = 0; i < bodies.size(); i++)
			threads.emplace_back([&, i] {
				for (std::size_t round = 0; !stop; round++)
					bodies[i](round);
			});
		std::this_thread::sleep_for(time);
		stop = true;
	}

	/* An answer that the call may not give. */
	void allow(const char *call, const Result &result, std::initializer_list<int> errors)
	{
		if (std::ranges::find(errors, result.err) == errors.end()) {
			const std::lock_guard lock(mutex_);

			wrong_.insert(std::string(call) + ": " + errno_name(result.err));
		}
	}
	void wrong(const std::string &what)
	{
		const std::lock_guard lock(mutex_);

		wrong_.insert(what);
	}
	void want_nothing_wrong()
	{
		std::string text;

		for (const auto &what : wrong_)
			text += (text.empty() ? "" : "; ") + what;
		want("unexpected", text, "");
	}

private:
	std::mutex mutex_;
	std::set<std::string> wrong_;
};

/* KB19: every thread in its own range. */
TEST_F(Threads, KB19_DisjointRanges)
{
	NEED_DEVICES(1);
	covers({"KB19"});
	const Rig rig = open_rig();
	constexpr std::size_t n = 4;
	const Memory ram = allocate(Backing::thp, n * huge_2m);
	const Memory small = allocate(Backing::small, n * 64 * page);
	std::vector<std::function<void(std::size_t)>> bodies;

	stamp(ram, 1);
	for (std::size_t i = 0; i < n; i++)
		bodies.emplace_back([&, i](std::size_t round) {
			const std::uint64_t iova = iova0 + i * huge_2m;
			const bool huge = round % 2;
			const std::size_t size = huge ? huge_2m : 64 * page;

			allow("map",
				rig.container.map(iova,
					huge ? ram.at(i * huge_2m) : small.at(i * size), size),
				{0});
			const Result result = rig.container.unmap(iova, size);

			allow("unmap", result, {0});
			if (result.value != static_cast<long>(size))
				wrong("unmapped less");
		});
	run(bodies);
	want_nothing_wrong();
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
	want("contents", stamped(ram, 1), true);
	want("dma_avail", rig.container.info().dma_avail, 65535);
}

/* KB19: all at the same range: it is mapped once or not at all. */
TEST_F(Threads, KB19_SameRange)
{
	NEED_DEVICES(1);
	covers({"KB19"});
	const Rig rig = open_rig();
	const Memory ram = allocate(Backing::thp, huge_2m);

	run({4, [&](std::size_t) {
		     allow("map", rig.container.map(iova0, ram.data(), huge_2m), {0, EEXIST});
		     const Result result = rig.container.unmap(iova0, huge_2m);

		     allow("unmap", result, {0});
		     if (result.value && result.value != static_cast<long>(huge_2m))
			     wrong("unmapped a part");
	     }});
	rig.container.unmap_all();
	want_nothing_wrong();
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
	want("dma_avail", rig.container.info().dma_avail, 65535);
}

/* KB19: every ioctl at once, with a group coming and going. */
TEST_F(Threads, KB19_EverythingAtOnce)
{
	NEED_DEVICES(2);
	covers({"KB19"});
	const Rig rig = open_rig();
	const Group group = Group::open(env().devices[1].group);
	const Memory ram = allocate(Backing::thp, 2 * huge_2m);
	const Memory kept = Memory::map(8 * page);

	/* This one is never unmapped by a thread. */
	want_errno("map.kept", rig.container.map(8 * iova0, kept.data(), 8 * page), 0);
	run({
		    [&](std::size_t) {
			    allow("map", rig.container.map(iova0, ram.data(), huge_2m), {0});
			    allow("unmap", rig.container.unmap(iova0, huge_2m), {0});
		    },
		    [&](std::size_t) {
			    /* Fails in the middle each time. */
			    allow("map.fault",
				    rig.container.map(2 * iova0, ram.at(huge_2m), 2 * huge_2m),
				    {EFAULT});
			    allow("unmap.none", rig.container.unmap(2 * iova0, 2 * huge_2m), {0});
		    },
		    [&](std::size_t) {
			    std::uint64_t bits = 0;

			    allow("dirty.start", rig.container.dirty_start(), {0});
			    allow("dirty.get",
				    rig.container.dirty_get(8 * iova0, 8 * page, &bits, 8), {0});
			    if (bits != 0xff)
				    wrong("dirty bits " + hex(bits));
			    allow("dirty.stop", rig.container.dirty_stop(), {0});
		    },
		    [&](std::size_t) {
			    const Info info = rig.container.info();

			    allow("get_info", info.result, {0});
			    if (info.dma_avail > 65534 || info.dma_avail < 65531)
				    wrong("dma_avail " + std::to_string(info.dma_avail));
			    allow("extension", rig.container.extension(VFIO_DMA_CC_IOMMU), {0});
		    },
		    [&](std::size_t) {
			    allow("attach", group.set_container(rig.container), {0});
			    allow("detach", group.unset_container(), {0});
		    },
	    },
		1500ms);
	want_nothing_wrong();
	want("charged", charged(), 8);
	want_unmapped("unmap.kept", rig.container.unmap(8 * iova0, 8 * page), 8);
	want("charged.after", charged(), 0);
	want("pinned", pinned(), 0);
}

/* KB19: UNMAP_ALL and vaddr updates against maps of others. */
TEST_F(Threads, KB19_UnmapAllAndVaddr)
{
	NEED_DEVICES(1);
	covers({"KB19", "KB04"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(64 * page);

	run({
		[&](std::size_t round) {
			allow("map", rig.container.map(iova0 + round % 8 * page, ram.data(), page),
				{0, EEXIST});
		},
		[&](std::size_t round) {
			allow("map.other",
				rig.container.map(
					iova0 + (8 + round % 8) * page, ram.at(8 * page), page),
				{0, EEXIST});
		},
		[&](std::size_t) { allow("all", rig.container.unmap_all(), {0}); },
		[&](std::size_t round) {
			const std::uint64_t iova = iova0 + round % 8 * page;

			/* Some are invalid already, or gone in between. */
			allow("invalidate",
				rig.container.unmap(iova, page, VFIO_DMA_UNMAP_FLAG_VADDR),
				{0, EINVAL});
			allow("remap",
				rig.container.map(iova, ram.data(), page, VFIO_DMA_MAP_FLAG_VADDR),
				{0, ENOENT, EINVAL});
		},
	});
	rig.container.unmap_all();
	want_nothing_wrong();
	want("charged", charged(), 0);
	want("dma_avail", rig.container.info().dma_avail, 65535);
}

/* Calls that meet in an order that the case decides on. */
class ThreadsInTurn : public MockCase
{
protected:
	struct Caller {
		std::atomic<pid_t> tid = 0;
		std::atomic<bool> done = false;
		Result result;
		std::jthread thread;
	};

	/* Begins a call, and goes on when it is done, or waits for good. */
	template <class F> static void start(Caller &caller, F call)
	{
		caller.thread = std::jthread([&caller, call] {
			caller.tid = static_cast<pid_t>(::syscall(SYS_gettid));
			caller.result = call();
			caller.done = true;
		});
		for (int waits = 0; waits < 50 && !caller.done;) {
			std::this_thread::sleep_for(10ms);
			waits = is_in_ioctl(caller.tid) ? waits + 1 : 0;
		}
	}

private:
	/* Does a thread sleep in an ioctl? */
	static bool is_in_ioctl(pid_t tid)
	{
		return read_file("/proc/self/task/" + std::to_string(tid) + "/syscall")
			.value_or("")
			.starts_with(std::to_string(SYS_ioctl) + ' ');
	}
};

/*
 * An unmap of everything gets its turn, however many threads go on mapping: it waits
 * for what is being mapped when it comes, and who comes later waits for it.
 */
TEST_F(ThreadsInTurn, KB19_UnmapAllIsNotStarved)
{
	NEED_DEVICES(1);
	covers({"KB19"});
	const Rig rig = open_rig();
	constexpr std::size_t size = 8 * page;
	const Memory ram = allocate(Backing::small, 2 * size);
	Caller before, all, behind;

	populate(ram);
	mock().set_brake(ram.data(), page, VFIO_MT_MOCK_BRAKE_BEFORE);
	start(before, [&] { return rig.container.map(iova0, ram.data(), size); });
	want("braked", mock().brake_state() == VFIO_MT_MOCK_BRAKE_HOLDS, true);
	start(all, [&] { return rig.container.unmap_all(); });
	want("all.waits", !all.done, true);
	start(behind, [&] { return rig.container.map(2 * iova0, ram.at(size), size); });
	want("behind.waits", !behind.done, true);
	want("still_braked", mock().release_brake(), true);
	for (Caller *caller : {&before, &all, &behind})
		caller->thread.join();

	want_errno("before", before.result, 0);
	want_unmapped("all", all.result, size / page);
	want_errno("behind", behind.result, 0);
	want_unmapped("unmap", rig.container.unmap(2 * iova0, size), size / page);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

using MockThreadsInTurn = ThreadsInTurn;
using namespace mock_device;

/* KB19: one map waits; who has to do with other ranges does not. */
TEST_F(MockThreadsInTurn, KB19_OthersRunMeanwhile)
{
	NEED_MOCK_IOMMU();
	covers({"KB19"});
	NOT_ON_STOCK("it has one lock for all");
	const MockRig rig = open_mock({small, emulated0});
	const Memory ram = Memory::map(8 * page), other = Memory::map(16 * page);
	Caller mapping, all;
	int pinned_pages = 0;
	Result mapped, unmapped;

	want_errno("map.other", rig.container.map(2 * iova0, other.data(), 8 * page), 0);
	mock().set_brake(ram.data(), page, VFIO_MT_MOCK_BRAKE_BEFORE);
	start(mapping, [&] { return rig.container.map(iova0, ram.data(), ram.size()); });
	want("braked", mock().brake_state() == VFIO_MT_MOCK_BRAKE_HOLDS, true);
	start(all, [&] {
		mapped = rig.container.map(3 * iova0, other.at(8 * page), 8 * page);
		pinned_pages = rig.devices[1].pin(2 * iova0, 4).result;
		rig.devices[1].unpin(2 * iova0, 4);
		unmapped = rig.container.unmap(2 * iova0, 8 * page);
		return rig.container.unmap(3 * iova0, 8 * page);
	});
	want("others.done", all.done.load(), true);
	want("still_braked", mock().release_brake(), true);
	mapping.thread.join();
	all.thread.join();

	want_errno("map", mapping.result, 0);
	want_errno("map.meanwhile", mapped, 0);
	want("pin.meanwhile", pinned_pages, 4);
	want_unmapped("unmap.meanwhile", unmapped, 8);
	want_unmapped("unmap.of_meanwhile", all.result, 8);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 8);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* KB19: who asks for a range that is being mapped waits until it is. */
TEST_F(MockThreadsInTurn, KB19_WhoMeetsAMapWaits)
{
	NEED_MOCK_IOMMU();
	covers({"KB19"});
	const MockRig rig = open_mock({small, emulated0});
	const Memory ram = Memory::map(8 * page);
	const Group group = open_group(x86);
	Caller mapping, asking, pinning, attaching;
	Bitmap bits(8);
	int pinned_pages = 0;

	want_errno("start", rig.container.dirty_start(), 0);
	mock().set_brake(ram.data(), page, VFIO_MT_MOCK_BRAKE_BEFORE);
	start(mapping, [&] { return rig.container.map(iova0, ram.data(), ram.size()); });
	want("braked", mock().brake_state() == VFIO_MT_MOCK_BRAKE_HOLDS, true);
	start(asking, [&] {
		return rig.container.dirty_get(iova0, ram.size(), bits.data(), bits.bytes());
	});
	want("asking.waits", !asking.done, true);
	start(pinning, [&] {
		pinned_pages = rig.devices[1].pin(iova0, 4).result;
		return Result();
	});
	want("pinning.waits", !pinning.done, true);
	start(attaching, [&] { return group.set_container(rig.container); });
	want("attaching.waits", !attaching.done, true);
	want("still_braked", mock().release_brake(), true);
	for (Caller *caller : {&mapping, &asking, &pinning, &attaching})
		caller->thread.join();

	want_errno("map", mapping.result, 0);
	want_errno("dirty", asking.result, 0);
	want("pin", pinned_pages, 4);
	want_errno("attach", attaching.result, 0);
	want("attached", open_device(group, x86).reaches(iova0, ram.bytes(0, ram.size())), true);
	want_errno("unpin", rig.devices[1].unpin(iova0, 4), 0);
	want_unmapped("unmap", rig.container.unmap(iova0, ram.size()), 8);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* KB19: the container's last descriptor is closed while a map runs. */
TEST_F(Threads, KB19_CloseUnderRunningMap)
{
	NEED_DEVICES(1);
	covers({"KB19"});
	Rig rig = open_rig();
	const Memory ram = allocate(Backing::small, 64 * mib);
	std::atomic<bool> ended = false;
	Result result;

	{
		const std::jthread mapper([&, fd = rig.container.fd()] {
			vfio_iommu_type1_dma_map map = {};

			map.argsz = sizeof(map);
			map.flags = map_rw;
			map.vaddr = ram.address();
			map.iova = iova0;
			map.size = ram.size();
			result = Result::of(::ioctl(fd, VFIO_IOMMU_MAP_DMA, &map));
			ended = true;
		});

		/* It is in the call when it has charged something. */
		while (!charged() && !ended)
			std::this_thread::yield();
		rig.container.close();
	}
	want_errno("map", result, 0);
	want("charged", charged(), 64 * mib / page);
	/* The group still holds it. */
	rig.groups.clear();
	want("charged.closed", charged(), 0);
	want("pinned.closed", pinned(), 0);
}

/*
 * KB19: the last group leaves, and with it the backend, under the ioctls of other
 * threads. They find a container with a backend or one without. VFIO calls the
 * backend without its lock, so the stock driver may use freed memory here.
 */
TEST_F(Threads, KB19_LastGroupLeavesUnderIoctls)
{
	NEED_DEVICES(1);
	covers({"KB19"});
	NOT_ON_STOCK("it may use freed memory");
	const Rig rig = open_rig();
	const Memory ram = Memory::map(8 * page);
	const auto user = [&](std::size_t i) {
		return [&, i](std::size_t) {
			const std::uint64_t iova = iova0 + i * page;

			allow("info", rig.container.info().result, {0, EINVAL});
			allow("map", rig.container.map(iova, ram.at(i * page), page),
				{0, EEXIST, EINVAL});
			allow("unmap", rig.container.unmap(iova, page), {0, EINVAL});
		};
	};

	run(
		{
			user(0),
			user(1),
			[&](std::size_t) {
				allow("unset", rig.groups[0].unset_container(), {0});
				allow("set", rig.groups[0].set_container(rig.container), {0});
				allow("set_iommu",
					rig.container.ioctl(VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU),
					{0});
			},
		},
		1500ms);
	rig.container.unmap_all();
	want_nothing_wrong();
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* The process changes its memory while a thread maps it; sizes and charges stay right. */
TEST_F(Threads, KB11_MemoryChangesUnderMap)
{
	NEED_DEVICES(1);
	covers({"KB09", "KB11"});
	const Rig rig = open_rig();
	const Memory ram = allocate(Backing::thp, 2 * huge_2m);

	run({
		[&](std::size_t) {
			const Result mapped = rig.container.map(iova0, ram.data(), ram.size());

			allow("map", mapped, {0});
			const Result result = rig.container.unmap(iova0, ram.size());

			if (mapped.ok() && result.value != static_cast<long>(ram.size()))
				wrong("unmapped less");
		},
		[&](std::size_t round) {
			::madvise(ram.at(round * 37 * page % ram.size()), page, MADV_DONTNEED);
		},
		[&](std::size_t round) {
			/* Splits and restores the huge page's entry. */
			std::byte *const at = ram.at(round * 11 * page % ram.size());

			::mprotect(at, page, PROT_READ | PROT_WRITE | PROT_EXEC);
			::mprotect(at, page, PROT_READ | PROT_WRITE);
		},
		[&](std::size_t round) {
			*reinterpret_cast<volatile std::byte *>(
				ram.at(round * 101 * page % ram.size())) = std::byte{1};
		},
	});
	want_nothing_wrong();
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/*
 * KB11: two containers pin the same memory at the same time. Where it has to be
 * migrated first (CMA, ZONE_MOVABLE: boot with movablecore=), the one gets in the
 * other's way; that must not become an error.
 */
TEST_F(Threads, KB11_SamePagesInTwoContainers)
{
	NEED_DEVICES(2);
	covers({"KB11", "KB19"});
	const Rig a = open_rig(1);
	const Rig b = open_rig(1, VFIO_TYPE1v2_IOMMU, 1);
	const Memory thp = allocate(Backing::thp, 2 * huge_2m);
	const Memory memfd = allocate(Backing::memfd, huge_2m);
	const auto body = [&](const Container &container) {
		return [&](std::size_t round) {
			const Memory &ram = round % 2 ? thp : memfd;

			allow("map", container.map(iova0, ram.data(), ram.size()), {0});
			allow("unmap", container.unmap(iova0, ram.size()), {0});
		};
	};

	run({body(a.container), body(b.container), [&](std::size_t round) {
		     /* Fresh pages now and then, so that there is something to migrate. */
		     ::madvise(round % 2 ? thp.data() : memfd.data(), huge_2m, MADV_REMOVE);
		     ::madvise(thp.data(), huge_2m, MADV_DONTNEED);
		     std::this_thread::sleep_for(5ms);
	     }});
	want_nothing_wrong();
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* Another process forks all the time: its copies must not take the pins away. */
TEST_F(Threads, ForksUnderMap)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = allocate(Backing::thp, 2 * huge_2m);

	stamp(ram, 1);
	run({
		    [&](std::size_t) {
			    allow("map", rig.container.map(iova0, ram.data(), ram.size()), {0});
			    allow("unmap", rig.container.unmap(iova0, ram.size()), {0});
		    },
		    [&](std::size_t) {
			    const pid_t pid = ::fork();

			    if (!pid)
				    ::_exit(0);
			    if (pid > 0)
				    ::waitpid(pid, nullptr, 0);
		    },
	    },
		600ms);
	want_nothing_wrong();
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
	want("contents", stamped(ram, 1), true);
}

/* A map may fail when its own process is killed, not when somebody shoots at kernel threads. */
TEST_F(Threads, HelpersAreNotKilled)
{
	NEED_DEVICES(1);
	covers({"KB20"});
	if (helpers_are_threads())
		GTEST_SKIP() << "helpers are threads of the process: who kills one kills all of it";
	const Rig rig = open_rig();
	constexpr std::size_t size = 64 * mib;
	std::atomic<int> killed = 0;

	/* As many times as it takes to find one. */
	for (int round = 0; round < 3 || (round < 20 && module_refs(mt_module) && !killed);
		round++) {
		/* Cold memory: helpers have something to do. */
		const Memory ram = Memory::map(size);
		std::atomic<bool> done = false;
		const std::jthread killer([&] {
			while (!done)
				for (const pid_t pid : tasks_named("/proc", "vfio_mt/"))
					killed += !::syscall(SYS_tgkill, pid, pid, SIGKILL);
		});

		allow("map", rig.container.map(iova0, ram.data(), size), {0});
		done = true;
		allow("unmap", rig.container.unmap(iova0, size), {0});
	}
	if (module_refs(mt_module)) {
		EXPECT_GT(killed, 0) << "no helper was found";
	}
	want_nothing_wrong();
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* Many maps at once must not make many threads. Those of the kernel count in no cgroup. */
TEST_F(Threads, HelpersAreFew)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	constexpr std::size_t n = 24, size = 32 * mib;
	std::atomic<std::size_t> running = n;
	std::size_t most = 0;

	{
		std::vector<std::jthread> threads;

		for (std::size_t i = 0; i < n; i++)
			threads.emplace_back([&, i] {
				const Memory ram = Memory::map(size);

				allow("map", rig.container.map(iova0 + i * size, ram.data(), size),
					{0});
				allow("unmap", rig.container.unmap(iova0 + i * size, size), {0});
				running--;
			});
		while (running)
			most = std::max(
				most, tasks_named("/proc", "vfio_mt/").size() +
					      tasks_named("/proc/self/task", "vfio_mt/").size());
	}
	/* Twice as many as CPUs, and some that are gone but for their entry in /proc. */
	if (most > 4 * std::thread::hardware_concurrency())
		wrong(std::to_string(most) + " helpers");
	want_nothing_wrong();
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

} // namespace selftest
