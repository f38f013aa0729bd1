// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: processes that fork, exec, exit and are killed while mappings exist;
 * containers that pass from one process to another; close without unmap.
 */
#include "case.hpp"
#include "exec_helper.hpp"
#include "proc.hpp"

#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

using namespace std::chrono_literals;

using Lifecycle = VfioCase;

static constexpr std::size_t pages = 16;
static constexpr std::size_t size = pages * page;
static constexpr std::uint64_t scratch_iova = 0x800000;

static Memory shared_memory(std::size_t bytes)
{
	return Memory::map(bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
}

static std::int64_t in_pages(const Result &unmapped)
{
	return unmapped.value / static_cast<long>(page);
}

/* KB16: the process that mapped is gone; the container, its pins and DMA live on. */
TEST_F(Lifecycle, KB16_MapperExitsFirst)
{
	NEED_DEVICES(1);
	NEED_EDU();
	covers({"KB03", "KB16"});
	Rig rig = open_dma_rig(1);
	const Memory ram = shared_memory(size);
	const auto pins = pinned();

	fill(ram.bytes(0, 256), 1);
	take("child.", run_child([&](Notes &seen) {
		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), size).err));
		seen.put("VmLck", vm_locked_pages());
	}));
	expect_noted("child.VmLck", to_value(pages));
	want("charged", charged(), 0);
	want("still_pinned", pinned() > pins, true);
	want("copied", run_copies(rig.engines, {{iova0, iova0 + 9 * page, 256}}), true);
	want("data", filled(ram.bytes(9 * page, 256), 1), true);
	/* Nobody's charge to lower now: no underflow. */
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
	want("charged.after", charged(), 0);
	want("pinned.after", pinned() - pins, 0);
}

TEST_F(Lifecycle, KB16_MapperKilled)
{
	NEED_DEVICES(1);
	covers({"KB16"});
	const Rig rig = open_rig();
	const Memory ram = shared_memory(size);
	Child child([&](Notes &, const ChildSync &sync) {
		if (rig.container.map(iova0, ram.data(), size).ok())
			sync.ready_and_wait();
	});

	want("ready", child.wait_ready(), true);
	child.kill();
	child.finish();
	want("ending", child.ending(), "signal SIGKILL");
	want_errno("exists", rig.container.map(iova0, ram.data(), page), EEXIST);
	want_unmapped("unmap", rig.container.unmap(iova0, size), pages);
	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	want("charged", charged(), pages);
}

/* The mapper exits, and only then another group comes in: its pages are all known. */
TEST_F(Lifecycle, KB16_AttachAfterMapperExit)
{
	NEED_DEVICES(2);
	NEED_EDU();
	covers({"KB13", "KB16"});
	Rig rig = open_rig();
	const Memory ram = shared_memory(size);

	fill(ram.bytes(0, 256), 1);
	take("child.", run_child([&](Notes &seen) {
		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), size).err));
	}));
	rig.groups.push_back(Group::open(env().devices[1].group));
	want_errno("attach", rig.groups[1].set_container(rig.container), 0);
	want("charged", charged(), 0);
	rig.devices.push_back(Device::open(rig.groups[1], env().devices[1].bdf));
	rig.engines.emplace_back(rig.devices[0]);
	want("copied", run_copies(rig.engines, {{iova0, iova0 + 9 * page, 256}}), true);
	want("data", filled(ram.bytes(9 * page, 256), 1), true);
}

/* An unmap lowers the charge of the process that mapped, whoever calls it. */
TEST_F(Lifecycle, ForkChildUnmaps)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(size);

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	take("child.", run_child([&](Notes &seen) {
		seen.put("VmLck", vm_locked_pages());
		seen.put("exists", errno_name(rig.container.map(iova0, ram.data(), page).err));
		seen.put("unmap", in_pages(rig.container.unmap(iova0, size)));
		seen.put("VmLck.after", vm_locked_pages());
	}));
	expect_noted("child.VmLck", to_value(0));
	expect_noted("child.exists", to_value("EEXIST"));
	expect_noted("child.unmap", to_value(pages));
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

TEST_F(Lifecycle, ForkBothMap)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(2 * size);

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	Child child([&](Notes &seen, const ChildSync &sync) {
		seen.put("map", errno_name(rig.container.map(2 * iova0, ram.at(size), size).err));
		seen.put("VmLck", vm_locked_pages());
		sync.ready_and_wait();
		seen.put("VmLck.after", vm_locked_pages());
	});

	want("ready", child.wait_ready(), true);
	want("charged", charged(), pages);
	want_unmapped("all", rig.container.unmap_all(), 2 * pages);
	want("charged.after", charged(), 0);
	child.go();
	take("child.", child.finish());
	expect_noted("child.VmLck", to_value(pages));
	expect_noted("child.VmLck.after", to_value(0));
}

/* Descriptors are shared by a fork: the container lives until the last holder is gone. */
TEST_F(Lifecycle, ForkParentClosesFirst)
{
	NEED_DEVICES(1);
	Rig rig = open_rig();
	const Memory ram = Memory::map(size);

	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	Child child([&](Notes &seen, const ChildSync &sync) {
		sync.ready_and_wait();
		seen.put("exists", errno_name(rig.container.map(iova0, ram.data(), page).err));
	});

	want("ready", child.wait_ready(), true);
	rig.close();
	want("charged.closed", charged(), pages);
	child.go();
	take("child.", child.finish());
	expect_noted("child.exists", to_value("EEXIST"));
	want("charged.child_gone", charged(), 0);
	want("pinned", pinned(), 0);
}

/* KB03: exec replaces the mm that was charged. */
TEST_F(Lifecycle, KB03_Exec)
{
	NEED_DEVICES(1);
	covers({"KB03"});
	const Rig rig = open_rig();
	int pipe_fds[2];

	ASSERT_EQ(::pipe(pipe_fds), 0);
	const int container = rig.container.fd();
	Child child([&](Notes &, const ChildSync &) {
		const Memory ram = Memory::map(size);
		const std::string fd = std::to_string(container), out = std::to_string(pipe_fds[1]);
		const std::string iova = std::to_string(iova0), n = std::to_string(pages);

		if (!rig.container.map(iova0, ram.data(), size).ok())
			::_exit(4);
		::fcntl(container, F_SETFD, 0);
		::execl("/proc/self/exe", "vfio_mt_selftest", exec_helper_command, fd.c_str(),
			out.c_str(), iova.c_str(), n.c_str(), nullptr);
		::_exit(5);
	});
	::close(pipe_fds[1]);
	std::string text;
	char buffer[1024];

	for (ssize_t n; (n = ::read(pipe_fds[0], buffer, sizeof(buffer))) > 0;)
		text.append(buffer, static_cast<std::size_t>(n));
	::close(pipe_fds[0]);
	child.finish();
	want("ending", child.ending(), "exit 0");
	if (!text.empty())
		take("", Notes::parse(text));
	expect_noted("exec.VmLck", to_value(0));
	expect_noted("exec.unmap.pages", to_value(pages));
	expect_noted("exec.VmLck.after", to_value(0));
	want("pinned", pinned(), 0);
}

/* exec with the mappings left: the pages stay until the container closes. */
TEST_F(Lifecycle, KB03_ExecLeavesMappings)
{
	NEED_DEVICES(1);
	covers({"KB03"});
	Rig rig = open_rig();
	Child child([&](Notes &, const ChildSync &) {
		const Memory ram = Memory::map(size);

		if (!rig.container.map(iova0, ram.data(), size).ok())
			::_exit(4);
		/* Without its arguments it only exits. */
		::execl("/proc/self/exe", "vfio_mt_selftest", exec_helper_command, nullptr);
		::_exit(5);
	});

	child.finish();
	want("ending", child.ending(), "exit 3");
	want_errno("exists", rig.container.map_addr(iova0, 0, page), EEXIST);
	rig.close();
	want("pinned", pinned(), 0);
}

static void send_fd(int socket, int fd)
{
	char byte = 'f';
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
	iovec data = {.iov_base = &byte, .iov_len = 1};
	msghdr message = {};

	message.msg_iov = &data;
	message.msg_iovlen = 1;
	message.msg_control = control;
	message.msg_controllen = sizeof(control);
	cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	std::memcpy(CMSG_DATA(header), &fd, sizeof(int));
	if (::sendmsg(socket, &message, 0) != 1)
		throw std::runtime_error("sendmsg");
}

static int receive_fd(int socket)
{
	char byte;
	alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
	iovec data = {.iov_base = &byte, .iov_len = 1};
	msghdr message = {};
	int fd = -1;

	message.msg_iov = &data;
	message.msg_iovlen = 1;
	message.msg_control = control;
	message.msg_controllen = sizeof(control);
	if (::recvmsg(socket, &message, 0) == 1 && CMSG_FIRSTHDR(&message))
		std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return fd;
}

/* KB16: the container in a message to a process that was there before it. */
TEST_F(Lifecycle, KB16_PassedThroughSocket)
{
	NEED_DEVICES(1);
	covers({"KB16"});
	int pair[2];

	ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
	Child child([&](Notes &seen, const ChildSync &sync) {
		const Fd container(receive_fd(pair[1]));
		const Memory ram = Memory::map(size);
		vfio_iommu_type1_dma_map map = {};

		map.argsz = sizeof(map);
		map.flags = map_rw;
		map.vaddr = ram.address();
		map.iova = iova0;
		map.size = size;
		seen.put("map",
			errno_name(Result::of(::ioctl(container.get(), VFIO_IOMMU_MAP_DMA, &map))
					   .err));
		seen.put("VmLck", vm_locked_pages());
		sync.ready_and_wait();
		seen.put("VmLck.after", vm_locked_pages());
	});
	Rig rig = open_rig();

	send_fd(pair[0], rig.container.fd());
	want("ready", child.wait_ready(), true);
	want("charged", charged(), 0);
	/* All descriptors here are closed; the child's one does not keep the group. */
	rig.close();
	child.go();
	take("child.", child.finish());
	expect_noted("child.map", to_value("ok"));
	expect_noted("child.VmLck", to_value(pages));
	expect_noted("child.VmLck.after", to_value(0));
	want("pinned", pinned(), 0);
	::close(pair[0]);
	::close(pair[1]);
}

/* Everything in a child that just exits. */
TEST_F(Lifecycle, ExitWithoutUnmap)
{
	NEED_DEVICES(1);
	NEED_MEMORY(Backing::hugetlb_2m, 2 * huge_2m);
	const auto pool = free_huge_pages(huge_2m);

	take("child.", run_child([&](Notes &seen) {
		/* Kept until _exit(): no destructor runs. */
		auto *rig = new Rig(open_rig());
		auto *small = new Memory(allocate(Backing::small, 100 * page));
		auto *thp = new Memory(allocate(Backing::thp, 2 * huge_2m));
		auto *huge = new Memory(allocate(Backing::hugetlb_2m, 2 * huge_2m));

		seen.put("small",
			errno_name(rig->container.map(iova0, small->data(), small->size()).err));
		seen.put("thp",
			errno_name(rig->container.map(2 * iova0, thp->data(), thp->size()).err));
		seen.put("huge",
			errno_name(rig->container.map(3 * iova0, huge->data(), huge->size()).err));
		seen.put("VmLck", vm_locked_pages());
	}));
	expect_noted("child.VmLck", to_value(100 + 1024 + 1024));
	want("pinned", pinned(), 0);
	want("pool", free_huge_pages(huge_2m) == pool, true);
	want("device_free", open_rig().container.info().dma_avail, 65535);
}

TEST_F(Lifecycle, CloseWithoutUnmap)
{
	NEED_DEVICES(1);
	for (const Backing backing : {Backing::small, Backing::thp, Backing::memfd}) {
		const std::string key = name(backing);
		Rig rig = open_rig();
		const Memory ram = allocate(backing, 2 * huge_2m);

		stamp(ram, 1);
		for (std::size_t i = 0; i < 4; i++)
			want_errno(key + ".map." + std::to_string(i),
				rig.container.map(
					iova0 + i * huge_2m, ram.at(i * huge_2m / 2), huge_2m / 2),
				0);
		want(key + ".charged", charged(), 1024);
		rig.close();
		want(key + ".charged.closed", charged(), 0);
		want(key + ".pinned.closed", pinned(), 0);
		want(key + ".contents", stamped(ram, 1), true);
	}
}

/* munmap before the unmap: the charge stays, and goes with the mapping. */
TEST_F(Lifecycle, MunmapBeforeUnmap)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	Memory ram = allocate(Backing::thp, huge_2m);

	want_errno("map", rig.container.map(iova0, ram.data(), huge_2m), 0);
	ram.punch(0, huge_2m / 2);
	want("charged.half", charged(), 512);
	ram.reset();
	want("charged", charged(), 512);
	want_unmapped("unmap", rig.container.unmap(iova0, huge_2m), 512);
	want("charged.after", charged(), 0);
	want("pinned.after", pinned(), 0);
}

/* The thread that maps ends; the charge is the process's. */
TEST_F(Lifecycle, ThreadEnds)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();
	const Memory ram = Memory::map(size);
	Result mapped;

	std::thread([&] { mapped = rig.container.map(iova0, ram.data(), size); }).join();
	want_errno("map", mapped, 0);
	want("charged", charged(), pages);
	Result unmapped;

	std::thread([&] { unmapped = rig.container.unmap(iova0, size); }).join();
	want_unmapped("unmap", unmapped, pages);
}

/*
 * KB23: a device that has no reset, as edu has none. That is its VFIO driver's business: the
 * group is attached, mapped for and detached as any other.
 */
TEST_F(Lifecycle, KB23_NoReset)
{
	NEED_DEVICES(1);
	NEED_EDU();
	covers({"KB23"});
	const Memory ram = Memory::map(size);

	fill(ram.bytes(0, 256), 23);
	for (const char *round : {"first", "again"}) {
		const std::string key = std::string(round) + ".";
		Rig rig = open_dma_rig(1);
		vfio_device_info info = {};

		info.argsz = sizeof(info);
		want_errno(key + "info",
			Result::of(::ioctl(rig.devices[0].fd(), VFIO_DEVICE_GET_INFO, &info)), 0);
		want(key + "has_reset", (info.flags & VFIO_DEVICE_FLAGS_RESET) != 0, false);
		see_errno(
			key + "reset", Result::of(::ioctl(rig.devices[0].fd(), VFIO_DEVICE_RESET)));
		want_errno(key + "map", rig.container.map(iova0, ram.data(), size), 0);
		want(key + "copied", run_copies(rig.engines, {{iova0, iova0 + 9 * page, 256}}),
			true);
		want(key + "data", filled(ram.bytes(9 * page, 256), 23), true);
		std::memset(ram.at(9 * page), 0, 256);
		want_unmapped(key + "unmap", rig.container.unmap(iova0, size), pages);
		rig.engines.clear();
		rig.devices.clear();
		want_errno(key + "detach", rig.groups[0].unset_container(), 0);
	}
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* KB20: killed while it maps, or unmaps, memory that takes a while. */
struct KillRow {
	const char *name;
	Backing backing;
	std::size_t size;
	bool populated;
	bool in_unmap; /* else in the map */
};

class Kill : public VfioCase, public testing::WithParamInterface<KillRow>
{
};

TEST_P(Kill, KB20_InTheMiddle)
{
	const KillRow &row = GetParam();

	NEED_DEVICES(1);
	NEED_MEMORY(row.backing, row.size);
	covers({"KB20", "KB03"});
	const auto pool = free_huge_pages(page_size(row.backing));
	std::chrono::microseconds delay = row.populated ? 1ms : 20ms;
	bool inside = false;

	/* Too late is tried again, sooner: how long it takes is not known. */
	for (int tries = 0; tries < 8 && !inside; tries++, delay /= 4) {
		/* 1: begun, 2: ended */
		const Memory state = shared_memory(page);
		auto &phase = *reinterpret_cast<volatile int *>(state.data());
		Child child([&](Notes &, const ChildSync &sync) {
			const Rig rig = open_rig();
			const Memory ram = allocate(row.backing, row.size);

			if (row.populated)
				populate(ram);
			if (row.in_unmap)
				rig.container.map(iova0, ram.data(), row.size);
			sync.ready();
			phase = 1;
			if (row.in_unmap)
				rig.container.unmap(iova0, row.size);
			else
				rig.container.map(iova0, ram.data(), row.size);
			phase = 2;
			sync.wait_for_go();
		});

		ASSERT_TRUE(child.wait_ready());
		while (phase == 0 && !child.ended())
			std::this_thread::yield();
		std::this_thread::sleep_for(delay);
		inside = phase == 1;
		child.kill();
		child.finish(30s);
		ASSERT_EQ(child.ending(), "signal SIGKILL");
		ASSERT_EQ(pinned(), 0);
	}
	want("inside", inside, true);
	want("pinned", pinned(), 0);
	want("pool", free_huge_pages(page_size(row.backing)) == pool, true);
	want("device_free", open_rig().container.info().dma_avail, 65535);
}

INSTANTIATE_TEST_SUITE_P(Table, Kill,
	testing::Values(KillRow{"small_cold", Backing::small, 192 * mib, false, false},
		KillRow{"small_populated", Backing::small, 192 * mib, true, false},
		KillRow{"small_unmap", Backing::small, 192 * mib, true, true},
		KillRow{"thp_cold", Backing::thp, 384 * mib, false, false},
		KillRow{"hugetlb_2m_cold", Backing::hugetlb_2m, 384 * mib, false, false},
		KillRow{"memfd_cold", Backing::memfd, 192 * mib, false, false}),
	row_name<KillRow>);

/* The container survives the one that is killed while mapping into it. */
TEST_F(Lifecycle, KB20_KilledMapperOfSharedContainer)
{
	NEED_DEVICES(1);
	covers({"KB16", "KB20"});
	const Rig rig = open_rig();
	const Memory ram = Memory::map(size);
	constexpr std::size_t much = 256 * mib;
	Child child([&](Notes &, const ChildSync &sync) {
		const Memory big = allocate(Backing::small, much);

		sync.ready();
		rig.container.map(iova0, big.data(), big.size());
		sync.wait_for_go();
	});

	want("ready", child.wait_ready(), true);
	std::this_thread::sleep_for(100ms);
	child.kill();
	child.finish();
	/* Interrupted or whole: the kill may come at any time. After this it is gone. */
	const long left = rig.container.unmap_all().value;

	want("nothing_or_all", left == 0 || left == static_cast<long>(much), true);
	want("pinned", pinned(), 0);
	want("dma_avail", rig.container.info().dma_avail, 65535);
	want_errno("map", rig.container.map(iova0, ram.data(), size), 0);
	want("charged", charged(), pages);
}

/* A signal with a handler is not a reason to fail a map. */
TEST_F(Lifecycle, HandledSignalsDoNotInterrupt)
{
	NEED_DEVICES(1);
	const Rig rig = open_rig();

	take("child.", run_child([&](Notes &seen) {
		struct sigaction action = {};
		const itimerval often = {.it_interval = {.tv_sec = 0, .tv_usec = 5000},
			.it_value = {.tv_sec = 0, .tv_usec = 5000}};
		const Memory ram = allocate(Backing::small, 64 * mib);

		action.sa_handler = [](int) {};
		::sigaction(SIGALRM, &action, nullptr);
		::setitimer(ITIMER_REAL, &often, nullptr);
		seen.put("map", errno_name(rig.container.map(iova0, ram.data(), ram.size()).err));
		seen.put("VmLck", vm_locked_pages());
		seen.put("unmap", in_pages(rig.container.unmap(iova0, ram.size())));
		seen.put("VmLck.after", vm_locked_pages());
	}));
	expect_noted("child.map", to_value("ok"));
	expect_noted("child.VmLck", to_value(64 * mib / page));
	expect_noted("child.unmap", to_value(64 * mib / page));
}

/*
 * KB20: memory whose faults a userfaultfd serves, and nobody answers. Whatever
 * the driver does, it must answer or be killable.
 */
TEST_F(Lifecycle, KB20_Userfaultfd)
{
	NEED_DEVICES(1);
	covers({"KB20"});
	const Rig rig = open_rig();
	Child child([&](Notes &seen, const ChildSync &) {
		const Memory ram = allocate(Backing::small, size);
		const Fd uffd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)));
		uffdio_api api = {.api = UFFD_API, .features = 0, .ioctls = 0};
		uffdio_register range = {};

		range.range = {.start = ram.address(), .len = size};
		range.mode = UFFDIO_REGISTER_MODE_MISSING;
		/* The first half is there, the second is not. */
		std::memset(ram.data(), 1, size / 2);
		if (!uffd.valid() || ::ioctl(uffd.get(), UFFDIO_API, &api) ||
			::ioctl(uffd.get(), UFFDIO_REGISTER, &range)) {
			seen.put("userfaultfd", "unavailable");
			return;
		}
		seen.put("present", errno_name(rig.container.map(iova0, ram.data(), size / 2).err));
		seen.put("missing", errno_name(rig.container.map(2 * iova0, ram.data(), size).err));
		seen.put("VmLck", vm_locked_pages());
	});
	const Notes seen = child.finish(5s);

	if (seen.text("userfaultfd") == "unavailable")
		GTEST_SKIP() << "this kernel has no userfaultfd for us";
	notes().append("child.", seen);
	/* "timed out" means that it waited for the fault, and could be killed. */
	see("ending", child.ending());
	see("unmapped.pages", in_pages(rig.container.unmap_all()));
	want("pinned", pinned(), 0);
}

/* Groups come and go around mappings; what the process is charged stays right. */
TEST_F(Lifecycle, GroupsComeAndGo)
{
	NEED_DEVICES(3);
	Rig rig = open_rig(1);
	const Memory ram = Memory::map(4 * size);
	const auto state = [&](const std::string &key, std::int64_t expected) {
		want(key + ".charged", charged(), expected);
		want(key + ".get_info", rig.container.info().result.err, 0);
	};

	want_errno("map.0", rig.container.map(iova0, ram.data(), size), 0);
	for (std::size_t i = 1; i < 3; i++) {
		const std::string n = std::to_string(i);

		rig.groups.push_back(Group::open(env().devices[i].group));
		want_errno("attach." + n, rig.groups[i].set_container(rig.container), 0);
		/* Not charged again for one more group behind the same IOMMU. */
		state("attached." + n, static_cast<std::int64_t>(i * pages));
		want_errno(
			"map." + n, rig.container.map(iova0 + i * size, ram.at(i * size), size), 0);
	}
	want_errno("detach.0", rig.groups[0].unset_container(), 0);
	state("detached.0", 3 * pages);
	want_errno("detach.2", rig.groups[2].unset_container(), 0);
	state("detached.2", 3 * pages);
	want_errno("attach.again", rig.groups[0].set_container(rig.container), 0);
	state("attached.again", 3 * pages);
	want_unmapped("unmap.1", rig.container.unmap(iova0 + size, size), pages);
	want_errno("detach.1", rig.groups[1].unset_container(), 0);
	state("detached.1", 2 * pages);
	/* The last one takes all with it. */
	want_errno("detach.last", rig.groups[0].unset_container(), 0);
	want("charged.end", charged(), 0);
	want("pinned.end", pinned(), 0);
}

} // namespace selftest
