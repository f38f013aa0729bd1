// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: calls that take long, and memory that is hard to pin. For guests of their own
 * (scripts/check slow): with a kernel that preempts nothing, memory in ZONE_MOVABLE, and
 * FUSE. What compares times runs in the one whose clock counts instructions
 * (guest/run --icount), so a busy host changes none of them.
 */
#include "alias.hpp"
#include "case.hpp"
#include "proc.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <linux/fuse.h>
#include <poll.h>
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

class SlowCalls : public VfioCase
{
protected:
	/* A call that must succeed, and must not keep others from running. */
	void timed(const std::string &text, const std::function<Result()> &call)
	{
		const Clock::time_point start = Clock::now();
		Result result;
		const auto gap = longest_gap([&] { result = call(); });
		const auto time = Clock::now() - start;

		want(text, errno_name(result.err), "ok");
		std::printf("    %s: %ld ms, others waited for %ld ms at most\n", text.c_str(),
			static_cast<long>(time / 1ms), static_cast<long>(gap / 1ms));
		/*
		 * Short calls say nothing: it takes some ticks to take turns. And the stock driver
		 * does keep the CPU, in an unmap of huge pages for half of its time.
		 */
		if (module_refs(mt_module) && gap > 20ms && gap > time / 4)
			ADD_FAILURE() << text << " kept the CPU for " << gap / 1ms << " of "
				      << time / 1ms << " ms";
	}
};

/*
 * KB10: a kernel that preempts nothing (preempt=none) depends on the driver to let others
 * run. What a soft lockup or an RCU stall would be with more memory is a gap here that is
 * about as long as the call.
 */
TEST_F(SlowCalls, KB10_OthersRunMeanwhile)
{
	NEED_DEVICES(1);
	covers({"KB10"});
	const Rig rig = open_rig();
	const OneCpu one;
	/* With page tables that are there, nothing but the driver takes long. */
	const std::size_t much = module_refs(mt_module) ? 2 * gib : 256 * mib;
	const Memory pages = allocate_aliased({}, Backing::memfd, much);

	populate_aliased(Backing::memfd, pages);
	timed("pages.map", [&] { return rig.container.map(4 * gib, pages.data(), much); });
	timed("pages.unmap", [&] { return rig.container.unmap(4 * gib, much); });
	for (const auto &[backing, size] :
		{std::pair{Backing::small, 128 * mib}, std::pair{Backing::thp, 256 * mib}}) {
		const Memory ram = allocate(backing, size);

		for (const char *state : {"cold", "populated"}) {
			const std::string key = std::string(name(backing)) + "." + state;

			timed(key + ".map",
				[&] { return rig.container.map(4 * gib, ram.data(), ram.size()); });
			timed(key + ".unmap", [&] { return rig.container.unmap(4 * gib, size); });
		}
	}
}

/*
 * KB10: 1 TiB, made of little memory (the stock driver, to which it would take minutes, gets
 * less), mapped by one thread, unmapped, and given up with the container.
 */
TEST_F(SlowCalls, KB10_VeryLarge)
{
	NEED_DEVICES(1);
	NEED_MEMORY(Backing::hugetlb_2m, 256 * mib);
	covers({"KB10"});
	const std::size_t size = module_refs(mt_module) ? 1024 * gib : 4 * gib;
	const Memory ram = allocate_aliased({}, Backing::hugetlb_2m, size);
	Rig rig = open_rig();
	const OneCpu one;
	const auto map = [&] { return rig.container.map(4 * gib, ram.data(), size); };

	timed("cold.map", map);
	timed("unmap", [&] { return rig.container.unmap(4 * gib, size); });
	timed("map", map);
	timed("close", [&] {
		rig.close();
		return Result();
	});
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
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

	for (int round = 0; round < 6 && wrong.empty(); round++) {
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

/*
 * Two processes' worth of it: two containers, each with a thread, map the same file. The stock
 * driver does not try again: now and then it gives up.
 */
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

	for (int round = 0; round < 6; round++) {
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
	if (module_refs(mt_module)) {
		EXPECT_EQ(failed, 0);
	}
	want("charged", charged(), 0);
	want("pinned", pinned(), 0);
}

/* A file system whose server never answers a read, or does not even take it. */

class SilentFuse
{
public:
	SilentFuse();
	SilentFuse(const SilentFuse &) = delete;
	SilentFuse &operator=(const SilentFuse &) = delete;
	~SilentFuse();

	bool mounted() const { return mounted_; }
	std::string file() const { return dir_ + "/file"; }
	/* From now on, leave requests where they are: then who waits for one can be killed. */
	void leave() { leaves_ = true; }
	/* Somebody waits for a read. */
	bool asked() const { return asked_; }
	/* As its administrator would: everybody who waits gets an error. */
	void abort() const { ::umount2(dir_.c_str(), MNT_FORCE | MNT_DETACH); }

private:
	void serve();
	template <class T> void answer(const fuse_in_header &request, const T &body) const;
	void answer_error(const fuse_in_header &request, int error) const;
	static fuse_attr attributes(std::uint64_t node);

	static constexpr std::size_t file_size = 16 * mib;
	const std::string dir_ = "/tmp/silent-fuse";
	Fd device_;
	bool mounted_ = false;
	std::atomic<bool> leaves_ = false;
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
		abort();
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
		pollfd request = {.fd = device_.get(), .events = POLLIN, .revents = 0};
		fuse_in_header in;

		if (::poll(&request, 1, 20) == 1 && leaves_ && !(request.revents & POLLERR)) {
			asked_ = true;
			std::this_thread::sleep_for(20ms);
			continue;
		}
		if (!request.revents)
			continue;
		const ssize_t got = ::read(device_.get(), buffer.data(), buffer.size());

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

struct FuseRow {
	const char *name;
	std::size_t chunks; /* that have such a page, each for a thread to get stuck at */
	bool taken;	    /* the server has the request: even SIGKILL must wait for its answer */
};

using SlowFuse = RowCase<FuseRow>;

/* KB20: killed while it waits for pages that do not come. */
TEST_P(SlowFuse, KB20_Killed)
{
	NEED_DEVICES(1);
	covers({"KB20"});
	const FuseRow &row = GetParam();
	const Rig rig = open_rig();
	SilentFuse fuse;

	if (!fuse.mounted())
		GTEST_SKIP() << "needs FUSE (guest/run --with-module fuse)";
	Child child([&](Notes &, const ChildSync &sync) {
		Fd file(::open(fuse.file().c_str(), O_RDWR | O_CLOEXEC));
		Memory ram = Memory::map((row.chunks + 1) * huge_2m);

		/*
		 * The first chunk is there; then a page in each is to be copied from the file.
		 * Pages of the file itself are no memory for a device since Linux 6.5.
		 */
		populate(ram);
		for (std::size_t i = 0; i < row.chunks; i++)
			ram.place((i + 1) * huge_2m, page, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				file.get(), i * mib);
		/* Or its end would have to wait for an answer to the close. */
		file.reset();
		sync.ready_and_wait();
		rig.container.map(iova0, ram.data(), ram.size());
	});

	want("ready", child.wait_ready(), true);
	if (!row.taken)
		fuse.leave();
	child.go();
	for (int i = 0; i < 500 && !fuse.asked(); i++)
		std::this_thread::sleep_for(10ms);
	/* For the others to get there. */
	std::this_thread::sleep_for(200ms);
	want("waits", fuse.asked() && !child.ended(), true);
	child.kill();
	std::this_thread::sleep_for(200ms);
	if (row.taken)
		fuse.abort();
	const auto killed = Clock::now();

	child.finish(30s);
	want("ending", child.ending(), "signal SIGKILL");
	want("promptly", Clock::now() - killed < 10s, true);
	want_unmapped("unmap_all", rig.container.unmap_all(), 0);
	want("pinned", pinned(), 0);
}

static const FuseRow fuse_rows[] = {
	{"one_not_taken", 1, false},
	{"all_not_taken", 8, false},
	{"one_taken", 1, true},
	{"all_taken", 8, true},
};

INSTANTIATE_TEST_SUITE_P(Table, SlowFuse, testing::ValuesIn(fuse_rows), row_name<FuseRow>);

} // namespace selftest
