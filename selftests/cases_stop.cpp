// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: a process is killed at every stage of a map or an unmap: while threads are
 * being started, in the middle, while what was done is undone, while all of them wait
 * for a page. It must go, and nothing of it may stay.
 *
 * The container is the parent's: what the child leaves in it can be seen.
 */
#include "case.hpp"
#include "mock/mock_rig.hpp"
#include "proc.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

enum class StopIn { map, unmap, undo };

struct StopRow {
	const char *name;
	StopIn in;
	std::size_t size;
	int kills; /* at so many moments, from the call's begin to its end */
};

/* A page that two processes see. */
template <class T> class Shared
{
public:
	volatile T &operator*() const { return *reinterpret_cast<volatile T *>(memory_.data()); }

private:
	Memory memory_ = Memory::map(page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
};

class Stop : public RowCase<StopRow>
{
protected:
	enum Phase { before, inside, after };

	/* Populated once, and shared by all children. For an undo, its end is not there. */
	Memory memory() const
	{
		const StopRow &row = GetParam();
		Memory ram = allocate(Backing::memfd, row.size);

		populate(ram);
		if (row.in == StopIn::undo)
			ram.place(row.size - page, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
		return ram;
	}

	/* A process that makes the call, to be killed after a while or never. */
	Clock::duration run(const Rig &rig, const Memory &ram, std::optional<Clock::duration> kill)
	{
		const StopRow &row = GetParam();
		const Shared<int> phase;
		Child child([&](Notes &, const ChildSync &sync) {
			if (row.in == StopIn::unmap)
				rig.container.map(iova0, ram.data(), row.size);
			sync.ready_and_wait();
			*phase = inside;
			if (row.in == StopIn::unmap)
				rig.container.unmap(iova0, row.size);
			else
				rig.container.map(iova0, ram.data(), row.size);
			*phase = after;
			sync.wait_for_go();
		});

		if (!child.wait_ready()) {
			ADD_FAILURE() << "the child did not get ready";
			return {};
		}
		child.go();
		while (*phase == before && !child.ended())
			std::this_thread::yield();
		const auto begin = Clock::now();

		if (kill)
			std::this_thread::sleep_for(*kill);
		else
			while (*phase == inside && !child.ended())
				std::this_thread::yield();
		const auto time = Clock::now() - begin;

		hits_ += *phase == inside;
		child.kill();
		const auto killed = Clock::now();

		child.finish(30s);
		slowest_ = std::max(slowest_, Clock::now() - killed);
		if (child.ending() != "signal SIGKILL")
			wrong_ += "ending: " + child.ending() + "; ";
		return time;
	}

	/* All of the range or nothing, and no pin without it. */
	void check(const Rig &rig)
	{
		const auto left = rig.container.unmap_all().value;

		if (left && (left != static_cast<long>(GetParam().size) ||
				    GetParam().in == StopIn::undo))
			wrong_ += "mapped: " + std::to_string(left) + "; ";
		if (pinned())
			wrong_ += "pinned: " + std::to_string(pinned()) + "; ";
	}

	const EagerThreads eager_;
	int hits_ = 0;
	Clock::duration slowest_{};
	std::string wrong_;
};

TEST_P(Stop, KB20_AtAnyTime)
{
	NEED_DEVICES(1);
	covers({"KB03", "KB16", "KB20"});
	const Rig rig = open_rig();
	const Memory ram = memory();
	const int kills = GetParam().kills;
	const bool large = GetParam().size >= 64 * mib;
	const auto whole = run(rig, ram, std::nullopt);

	check(rig);
	hits_ = 0;
	for (int i = 0; i < kills && wrong_.empty(); i++) {
		run(rig, ram, whole * i / kills);
		check(rig);
	}
	/* A small one may be over before anybody can be killed in it. */
	for (int i = 0; i < 30 && large && !hits_ && wrong_.empty(); i++) {
		run(rig, ram, 0ms);
		check(rig);
	}
	std::printf("    %d of %d were killed inside the call; gone after %ld ms at most\n", hits_,
		kills, static_cast<long>(slowest_ / 1ms));
	want("wrong", wrong_, "");
	if (large)
		want("killed_inside", hits_ > 0, true);
	want("pinned", pinned(), 0);
	want("dma_avail", rig.container.info().dma_avail, 65535);
}

static const StopRow stop_rows[] = {
	{"map_small", StopIn::map, 64 * page, 4},
	{"map_large", StopIn::map, 64 * mib, 12},
	{"unmap_small", StopIn::unmap, 64 * page, 4},
	{"unmap_large", StopIn::unmap, 64 * mib, 6},
	{"undo_small", StopIn::undo, 64 * page, 4},
	{"undo_large", StopIn::undo, 64 * mib, 10},
};

INSTANTIATE_TEST_SUITE_P(Table, Stop, testing::ValuesIn(stop_rows), row_name<StopRow>);

/* ---- in a fault ---- */

struct FaultRow {
	const char *name;
	std::size_t size;
	std::size_t first, step; /* pages that are missing: the first in every step bytes */
};

using StopInFault = RowCase<FaultRow>;

/*
 * Faults that nobody serves, of one thread or of each of them. The process is killed when
 * nobody comes any further. Who pins under the mmap lock does not wait for such a page, and
 * gets -EFAULT; without it, only Linux 6.1 does, and waits. Pages that are waited for on
 * all kernels: SlowFuse.
 */
TEST_P(StopInFault, KB20_Userfaultfd)
{
	NEED_DEVICES(1);
	covers({"KB20"});
	const FaultRow &row = GetParam();
	const EagerThreads eager;
	const Rig rig = open_rig();
	const Shared<int> faults;
	const Shared<bool> answered;
	Child child([&](Notes &seen, const ChildSync &sync) {
		const Memory ram = allocate(Backing::small, row.size);
		const Fd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)));
		uffdio_api api = {.api = UFFD_API, .features = 0, .ioctls = 0};
		uffdio_register range = {};

		populate(ram);
		for (std::size_t at = row.first; at < row.size; at += row.step)
			::madvise(ram.at(at), page, MADV_DONTNEED);
		range.range = {.start = ram.address(), .len = row.size};
		range.mode = UFFDIO_REGISTER_MODE_MISSING;
		if (!uffd.valid() || ::ioctl(uffd.get(), UFFDIO_API, &api) ||
			::ioctl(uffd.get(), UFFDIO_REGISTER, &range)) {
			seen.put("userfaultfd", "unavailable");
			return;
		}
		const std::jthread reader([&] {
			uffd_msg message;

			while (::read(uffd.get(), &message, sizeof(message)) == sizeof(message))
				*faults = *faults + 1;
		});

		sync.ready();
		rig.container.map(iova0, ram.data(), ram.size());
		*answered = true;
		sync.wait_for_go();
	});

	if (!child.wait_ready() && child.finish().text("userfaultfd") == "unavailable")
		GTEST_SKIP() << "this kernel has no userfaultfd for us";
	for (int i = 0, last = 0, same = 0; i < 1000 && same < 20 && !*answered; i++) {
		std::this_thread::sleep_for(10ms);
		same = *faults && *faults == last ? same + 1 : 0;
		last = *faults;
	}
	if (kernel_before(6, 3))
		want("waits_or_answers", *faults > 0 || *answered, true);
	else
		want("answers", *answered, true);
	std::printf("    %d faults at once%s\n", *faults, *answered ? ", answered" : "");
	child.kill();
	child.finish(20s);
	want("ending", child.ending(), "signal SIGKILL");
	want_unmapped("unmap_all", rig.container.unmap_all(), 0);
	want("pinned", pinned(), 0);
	want("dma_avail", rig.container.info().dma_avail, 65535);
}

static const FaultRow fault_rows[] = {
	{"small", 16 * page, 8 * page, 16 * page},
	{"last_page", 16 * mib, 16 * mib - page, 16 * mib},
	{"every_chunk", 16 * mib, huge_2m / 2, huge_2m},
};

INSTANTIATE_TEST_SUITE_P(Table, StopInFault, testing::ValuesIn(fault_rows), row_name<FaultRow>);

} // namespace selftest
