// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: calls that take long, and memory that is hard to pin. For a guest of their own
 * (scripts/check slow), with a kernel that preempts nothing, memory in ZONE_MOVABLE, and
 * FUSE.
 */
#include "case.hpp"
#include "proc.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <linux/fuse.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

using namespace std::chrono_literals;
using Slow = VfioCase;
using Clock = std::chrono::steady_clock;

/* One CPU for this thread and those that it makes; put back at the end. */
class OneCpu
{
public:
	OneCpu()
	{
		cpu_set_t one;

		::sched_getaffinity(0, sizeof(before_), &before_);
		CPU_ZERO(&one);
		CPU_SET(0, &one);
		::sched_setaffinity(0, sizeof(one), &one);
	}
	OneCpu(const OneCpu &) = delete;
	OneCpu &operator=(const OneCpu &) = delete;
	~OneCpu() { ::sched_setaffinity(0, sizeof(before_), &before_); }

private:
	cpu_set_t before_;
};

/* How long a thread of the same CPU was kept from running, at most, while body ran. */
static std::chrono::nanoseconds longest_gap(const std::function<void()> &body)
{
	std::atomic<bool> stop = false, begun = false;
	Clock::duration longest{};
	std::jthread other([&] {
		Clock::time_point last = Clock::now();

		begun = true;
		while (!stop) {
			const Clock::time_point now = Clock::now();

			longest = std::max(longest, now - last);
			last = now;
			std::this_thread::yield();
		}
	});

	while (!begun)
		std::this_thread::yield();
	body();
	stop = true;
	other.join();
	return longest;
}

/*
 * KB10: a kernel that preempts nothing (preempt=none) depends on the driver to let others
 * run. What a soft lockup or an RCU stall would be with more memory is a gap here that is
 * about as long as the call.
 */
TEST_F(Slow, KB10_OthersRunMeanwhile)
{
	NEED_DEVICES(1);
	covers({"KB10"});
	const Rig rig = open_rig();
	const OneCpu one;

	for (const auto &[backing, size] :
		{std::pair{Backing::small, 512 * mib}, std::pair{Backing::thp, gib}}) {
		const Memory ram = allocate(backing, size);
		const std::string key = name(backing);

		for (const char *state : {"cold", "populated"}) {
			const auto timed = [&](const char *what,
						   const std::function<Result()> &call) {
				const Clock::time_point start = Clock::now();
				Result result;
				const auto gap = longest_gap([&] { result = call(); });
				const auto time = Clock::now() - start;
				const std::string text = key + "." + state + "." + what;

				want(text, errno_name(result.err), "ok");
				/* Short calls say nothing. */
				if (gap > 100ms && gap > time / 4)
					ADD_FAILURE() << text << " kept the CPU for " << gap / 1ms
						      << " of " << time / 1ms << " ms";
			};

			timed("map",
				[&] { return rig.container.map(4 * gib, ram.data(), ram.size()); });
			timed("unmap", [&] { return rig.container.unmap(4 * gib, ram.size()); });
		}
	}
}

/* ZONE_MOVABLE: what is pinned has to be moved out of it first. */

static bool has_movable_zone()
{
	std::ifstream in("/proc/zoneinfo");
	bool movable = false;

	for (std::string word; in >> word;) {
		if (word == "zone")
			movable = in >> word && word == "Movable";
		if (movable && word == "managed")
			return in >> word && word != "0";
	}
	return false;
}

/*
 * KB11: the same pages at two addresses of one mapping. With helper threads they are pinned
 * twice at the same time; the one may be in the way of the other's migration, which must
 * not become an error: a single thread never meets it.
 */
TEST_F(Slow, KB11_SamePagesTwiceInOneMap)
{
	NEED_DEVICES(1);
	covers({"KB11"});
	if (!has_movable_zone())
		GTEST_SKIP() << "needs memory in ZONE_MOVABLE (movablecore=)";
	const Rig rig = open_rig();
	constexpr std::size_t part = 2 * huge_2m, copies = 4;
	std::string wrong;

	for (int round = 0; round < 20 && wrong.empty(); round++) {
		const Fd file(make_memfd(part));
		Memory ram = Memory::reserve(copies * part, huge_2m);

		for (std::size_t i = 0; i < copies; i++)
			ram.place(i * part, part, PROT_READ | PROT_WRITE, MAP_SHARED, file.get());
		populate(ram);
		const Result mapped = rig.container.map(4 * gib, ram.data(), ram.size());

		if (!mapped.ok() || charged() != static_cast<long>(ram.size() / page))
			wrong = std::to_string(round) + ": " + errno_name(mapped.err);
		rig.container.unmap_all();
	}
	want("wrong", wrong, "");
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* Two processes' worth of it: two containers, each with a thread, map the same file. */
TEST_F(Slow, KB11_SamePagesInTwoContainers)
{
	NEED_DEVICES(2);
	covers({"KB11"});
	if (!has_movable_zone())
		GTEST_SKIP() << "needs memory in ZONE_MOVABLE (movablecore=)";
	const Rig a = open_rig(1);
	const Rig b = open_rig(1, VFIO_TYPE1v2_IOMMU, 1);
	const std::size_t size = 2 * huge_2m;
	int failed = 0;

	for (int round = 0; round < 20; round++) {
		const Memory ram = allocate(Backing::memfd, size);
		std::atomic<int> ready = 0;
		std::atomic<int> errors = 0;
		const auto body = [&](const Container &container) {
			ready++;
			while (ready < 2)
				;
			if (!container.map(4 * gib, ram.data(), size).ok())
				errors++;
		};

		populate(ram);
		{
			const std::jthread one([&] { body(a.container); });
			const std::jthread two([&] { body(b.container); });
		}
		failed += errors;
		a.container.unmap_all();
		b.container.unmap_all();
	}
	want("failed", failed, 0);
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* A file system whose server never answers a read. */

class SilentFuse
{
public:
	SilentFuse();
	SilentFuse(const SilentFuse &) = delete;
	SilentFuse &operator=(const SilentFuse &) = delete;
	~SilentFuse();

	bool mounted() const { return mounted_; }
	std::string file() const { return dir_ + "/file"; }
	/* Somebody waits for a read. */
	bool asked() const { return asked_; }

private:
	void serve();
	template <class T> void answer(const fuse_in_header &request, const T &body) const;
	void answer_error(const fuse_in_header &request, int error) const;
	static fuse_attr attributes(std::uint64_t node);

	static constexpr std::size_t file_size = 16 * mib;
	const std::string dir_ = "/tmp/silent-fuse";
	Fd device_;
	bool mounted_ = false;
	std::atomic<bool> asked_ = false;
	std::jthread server_;
};

SilentFuse::SilentFuse()
{
	/* Its node appears with the module. */
	if (std::system("modprobe fuse 2>/dev/null") == 0)
		device_ = Fd(::open("/dev/fuse", O_RDWR | O_CLOEXEC));

	const std::string options =
		"fd=" + std::to_string(device_.get()) + ",rootmode=40000,user_id=0,group_id=0";

	::mkdir(dir_.c_str(), 0700);
	if (!device_.valid() || ::mount("silent", dir_.c_str(), "fuse", 0, options.c_str()))
		return;
	mounted_ = true;
	server_ = std::jthread([this] { serve(); });
}

SilentFuse::~SilentFuse()
{
	if (mounted_)
		::umount2(dir_.c_str(), MNT_FORCE | MNT_DETACH);
	/* The read of the server ends with the connection. */
	if (server_.joinable())
		server_.join();
	::rmdir(dir_.c_str());
}

template <class T> void SilentFuse::answer(const fuse_in_header &request, const T &body) const
{
	std::array<std::byte, sizeof(fuse_out_header) + sizeof(T)> out;
	fuse_out_header header = {};

	header.len = sizeof(out);
	header.unique = request.unique;
	std::memcpy(out.data(), &header, sizeof(header));
	std::memcpy(out.data() + sizeof(header), &body, sizeof(body));
	if (::write(device_.get(), out.data(), out.size()) < 0)
		asked_.load();
}

void SilentFuse::answer_error(const fuse_in_header &request, int error) const
{
	fuse_out_header header = {};

	header.len = sizeof(header);
	header.error = -error;
	header.unique = request.unique;
	if (::write(device_.get(), &header, sizeof(header)) < 0)
		asked_.load();
}

fuse_attr SilentFuse::attributes(std::uint64_t node)
{
	fuse_attr attr = {};

	attr.ino = node;
	attr.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0700 : S_IFREG | 0600;
	attr.size = node == FUSE_ROOT_ID ? 0 : file_size;
	attr.nlink = 1;
	return attr;
}

void SilentFuse::serve()
{
	std::vector<std::byte> buffer(1 * mib);

	for (;;) {
		const ssize_t got = ::read(device_.get(), buffer.data(), buffer.size());
		fuse_in_header in;

		if (got < static_cast<ssize_t>(sizeof(in))) {
			if (got < 0 && (errno == EINTR || errno == ENOENT))
				continue;
			return;
		}
		std::memcpy(&in, buffer.data(), sizeof(in));
		switch (in.opcode) {
		case FUSE_INIT: {
			fuse_init_out out = {};

			out.major = FUSE_KERNEL_VERSION;
			out.minor = FUSE_KERNEL_MINOR_VERSION;
			out.max_readahead = 128 * kib;
			out.max_write = 128 * kib;
			answer(in, out);
			break;
		}
		case FUSE_LOOKUP: {
			fuse_entry_out out = {};

			out.nodeid = 2;
			out.attr_valid = out.entry_valid = 3600;
			out.attr = attributes(2);
			answer(in, out);
			break;
		}
		case FUSE_GETATTR: {
			fuse_attr_out out = {};

			out.attr_valid = 3600;
			out.attr = attributes(in.nodeid);
			answer(in, out);
			break;
		}
		case FUSE_OPEN:
		case FUSE_OPENDIR:
			answer(in, fuse_open_out{});
			break;
		case FUSE_READ:
			asked_ = true;
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			break;
		default:
			answer_error(in, ENOSYS);
		}
	}
}

/* KB20: killed while it waits for pages that never come. */
TEST_F(Slow, KB20_Fuse)
{
	NEED_DEVICES(1);
	covers({"KB20"});
	const Rig rig = open_rig();
	const SilentFuse fuse;

	if (!fuse.mounted())
		GTEST_SKIP() << "needs FUSE (guest/run --with-module fuse)";
	Child child([&](Notes &, const ChildSync &sync) {
		const Fd file(::open(fuse.file().c_str(), O_RDWR | O_CLOEXEC));
		Memory ram = Memory::map(2 * huge_2m);

		/* The first part is there; the rest is the file's. */
		populate(ram);
		ram.place(huge_2m, huge_2m, PROT_READ | PROT_WRITE, MAP_SHARED, file.get());
		sync.ready();
		rig.container.map(iova0, ram.data(), ram.size());
	});

	want("ready", child.wait_ready(), true);
	for (int i = 0; i < 200 && !fuse.asked(); i++)
		std::this_thread::sleep_for(10ms);
	want("waits", fuse.asked() && !child.ended(), true);
	child.kill();
	const auto killed = Clock::now();

	child.finish(20s);
	want("ending", child.ending(), "signal SIGKILL");
	want("promptly", Clock::now() - killed < 5s, true);
	want_unmapped("unmap_all", rig.container.unmap_all(), 0);
	want("pinned", pinned(), 0);
}

} // namespace selftest
