// SPDX-License-Identifier: GPL-2.0-only
/*
 * Failed allocations: each call of the interface is made again and again, with the first
 * allocation failing, then the second, and so on until none is left to fail; and likewise
 * with everything failing from the n-th on. A call that fails leaves everything as it was,
 * and succeeds when it is made once more; a call that succeeds all the same has done all
 * that it was to do. What undoes something never fails.
 *
 * Run by "vfio_mt_selftest failnth", which needs a kernel with fault injection, the test
 * module, and our backend.
 */
#include "faults.hpp"
#include "mock/mock_rig.hpp"
#include "proc.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <functional>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace selftest
{

using namespace mock_device;

static constexpr std::uint32_t rd = VFIO_DMA_MAP_FLAG_READ;

/*
 * Every failure is tried, or, where there are many, not every one: the n-th alone up to the
 * 24th, and of those that last from the n-th on, whose number hardly matters, a few.
 */
static std::uint64_t stride(FaultKind kind, std::uint64_t n)
{
	if (env().full_sweep)
		return 1;
	if (kind == FaultKind::nth)
		return n < 24 ? 1 : n / 6;
	return kind == FaultKind::pages_from ? n : 4 * n;
}

/* How a sweep makes failures happen: before the call, and what came of it after. */
struct FaultSource {
	std::string name;
	FaultKind kind;
	std::function<void(std::uint64_t)> arm;
	std::function<FaultHit()> disarm;
	/* How many chunks a thread gets, it depends: so many misses in a row. */
	unsigned misses = 1;
};

/* A call that is swept, and what surrounds it. */
struct Attempt {
	/* Before the call: what it needs. */
	std::function<void()> prepare = [] {};
	std::function<Result()> call;
	/* After it has succeeded: back to what was before prepare(). */
	std::function<void()> undo = [] {};
	/* What else can be seen, beyond charges, pins and leaves. */
	std::function<std::string()> see = [] { return std::string(); };
	/* It undoes something: only the copies from and to the user may fail it. */
	bool never_fails = false;
	/* It allocates something, not only copies from and to the user. */
	bool takes_slab = true;
	/* What else, besides ENOMEM and EFAULT, a failed allocation may become. */
	int error = ENOMEM;
};

class FailNth : public MockCase
{
protected:
	void SetUp() override
	{
		std::string why_not;

		MockCase::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		faults_ = Faults::open(why_not);
		if (!faults_)
			GTEST_SKIP() << why_not;
	}
	void TearDown() override
	{
		faults_.reset();
		MockCase::TearDown();
	}

	/* In the calling thread, all kinds. */
	void sweep(const Attempt &attempt, Where where = Where::current());
	/* In a helper thread, and in a work item that makes helpers. */
	void sweep_helpers(const Attempt &attempt, Where where = Where::current());

private:
	struct State {
		std::string steady; /* the same whenever the call has succeeded */
		std::string all;
	};

	State state(const Attempt &attempt) const;
	FaultSource in_caller(FaultKind kind);
	FaultSource in_thread(FaultKind kind, const std::string &function);
	std::string attempt_once(const Attempt &attempt, const FaultSource &source, std::uint64_t n,
		const State &idle, const State &good, FaultHit &hit);
	std::string sweep_source(const Attempt &attempt, const FaultSource &source);

	std::optional<Faults> faults_;
	unsigned refused_ = 0;	/* calls that failed */
	unsigned survived_ = 0; /* calls that succeeded in spite of a failure */
};

FailNth::State FailNth::state(const Attempt &attempt) const
{
	const vfio_mt_mock_stats stats = mock().stats();
	const auto count = [](const char *what, auto n) {
		return std::string(" ") + what + " " + std::to_string(n);
	};
	State s;

	s.steady = "VmLck " + std::to_string(charged()) + count("domains", stats.domains) +
		   count("bytes", stats.bytes) + count("unsynced", stats.unsynced) +
		   count("bad", stats.bad_map_over + stats.bad_map_range + stats.bad_map_unsynced +
					stats.bad_unpinned + stats.bad_unpinned_unsynced +
					stats.bad_free_unsynced + stats.bad_free_attached) +
		   " " + attempt.see();
	s.all = s.steady + count("pins", pinned()) + count("leaves", stats.leaves);
	return s;
}

FaultSource FailNth::in_caller(FaultKind kind)
{
	return {.name = name(kind),
		.kind = kind,
		.arm = [this, kind](std::uint64_t n) { faults_->arm(kind, n); },
		.disarm = [this] { return faults_->disarm(); }};
}

FaultSource FailNth::in_thread(FaultKind kind, const std::string &function)
{
	const auto set = [this, kind, function](std::uint64_t n) {
		const auto nth = static_cast<unsigned>(kind == FaultKind::nth ? n : 0);

		faults_->set_up(kind, n);
		mock().fail_thread(function, 0, nth);
	};
	const auto clear = [this, kind] {
		const vfio_mt_mock_fail fail = mock().failed_thread();
		FaultHit hit = faults_->tear_down();

		if (kind == FaultKind::nth)
			hit.failures = fail.failed;
		mock().fail_thread(fail.function, ~0U, 0);
		return hit;
	};

	return {.name = function + " " + name(kind),
		.kind = kind,
		.arm = set,
		.disarm = clear,
		.misses = 2};
}

/*
 * One call with failures. @idle is the state before prepare(), @good that after a call that
 * has succeeded. Returns what is wrong.
 */
std::string FailNth::attempt_once(const Attempt &attempt, const FaultSource &source,
	std::uint64_t n, const State &idle, const State &good, FaultHit &hit)
{
	attempt.prepare();
	const std::string before = state(attempt).all;

	source.arm(n);
	Result result = attempt.call();
	hit = source.disarm();
	State after = state(attempt);

	if (result.ok()) {
		survived_ += hit.failures > 0;
	} else {
		const bool changed =
			hit.usercopy && after.all != before && after.steady == good.steady;

		refused_++;
		if (!hit.failures)
			return "fails with nothing injected: " + errno_name(result.err);
		if (result.err != attempt.error && result.err != ENOMEM && result.err != EFAULT)
			return "fails with " + errno_name(result.err);
		if (attempt.never_fails && !hit.usercopy)
			return "must not fail: " + errno_name(result.err);
		if (after.all != before && !changed)
			return "leaves something behind: " + after.all + ", before: " + before;
		/* Where only the answer was lost, there is nothing to do once more. */
		if (!changed) {
			result = attempt.call();
			if (!result.ok())
				return "does not succeed afterwards: " + errno_name(result.err);
			after = state(attempt);
		}
	}
	if (after.steady != good.steady)
		return "does not do all: " + after.steady + ", expected: " + good.steady;
	attempt.undo();
	after = state(attempt);
	return after.all == idle.all ? "" : "is not undone: " + after.all + ", before: " + idle.all;
}

std::string FailNth::sweep_source(const Attempt &attempt, const FaultSource &source)
{
	constexpr std::uint64_t limit = 1000000;
	std::uint64_t n = 1, step = 32;
	std::int64_t passed = -1, failures = 0, runs = 0;
	unsigned misses = 0;
	FaultHit hit;

	/* Without a failure first: what it is when all is well, and nothing is touched anew. */
	attempt.prepare();
	const Result result = attempt.call();

	if (!result.ok())
		return "fails by itself: " + errno_name(result.err);
	const State good = state(attempt);
	attempt.undo();
	const State idle = state(attempt);

	refused_ = survived_ = 0;
	while (misses < source.misses) {
		const std::string wrong = attempt_once(attempt, source, n, idle, good, hit);

		if (!wrong.empty())
			return source.name + " " + std::to_string(n) + ": " + wrong;
		runs++;
		failures += hit.failures > 0;
		misses = hit.failures ? 0 : misses + 1;
		if (n > limit)
			return source.name + " does not end";
		if (!hit.failures)
			continue;
		if (source.kind != FaultKind::slab_from) {
			n += stride(source.kind, n);
			continue;
		}
		/* Bytes: how far to the next allocation is not known. */
		step = hit.passed != passed ? 32 : step * 2;
		passed = hit.passed;
		n = std::max(static_cast<std::uint64_t>(passed) + step, n + stride(source.kind, n));
	}
	/* Slabs may have room, so that no page is needed. */
	const bool must_hit =
		source.kind == FaultKind::nth ||
		(source.kind == FaultKind::slab_from && attempt.takes_slab && !attempt.never_fails);

	if (!failures && must_hit)
		return source.name + ": nothing could be made to fail";
	std::printf("# %s: %lld runs up to %llu, %u refused, %u succeeded all the same\n",
		source.name.c_str(), static_cast<long long>(runs),
		static_cast<unsigned long long>(n), refused_, survived_);
	std::fflush(stdout);
	return "";
}

void FailNth::sweep(const Attempt &attempt, Where where)
{
	for (const FaultKind kind : {FaultKind::nth, FaultKind::pages_from, FaultKind::slab_from})
		want(name(kind), sweep_source(attempt, in_caller(kind)), "", where);
}

void FailNth::sweep_helpers(const Attempt &attempt, Where where)
{
	const auto sweep_one = [&](FaultKind kind, const char *function) {
		want(std::string(function) + "." + name(kind),
			sweep_source(attempt, in_thread(kind, function)), "", where);
	};

	/*
	 * What helpers run, and what makes them (map_job.c): the caller itself, where they
	 * are threads of its process, and sweep() has it fail. Most of what fails once is got
	 * at the second try: for a helper to fail, all must fail from some moment on.
	 */
	const bool threads = helpers_are_threads();
	const char *helper = threads ? "map_job_worker" : "map_job_helper";

	sweep_one(FaultKind::nth, helper);
	sweep_one(FaultKind::slab_from, helper);
	if (!threads)
		sweep_one(FaultKind::nth, "map_job_make");
	if (!env().full_sweep)
		return;
	/* These cannot do more than make a helper fail sooner. */
	sweep_one(FaultKind::pages_from, helper);
	if (threads)
		return;
	sweep_one(FaultKind::pages_from, "map_job_make");
	sweep_one(FaultKind::slab_from, "map_job_make");
}

/* What can be seen of a container. */
static std::string seen(const Container &container)
{
	const Info info = container.info();

	return "avail " + std::to_string(info.dma_avail) + " sizes " + hex(info.page_sizes) +
	       " ranges " + ranges(info);
}

/* Even small mappings are made and undone by several threads. */
struct WithHelpers {
	explicit WithHelpers(const std::string &mb = "2") : chunk("min_chunk_mb", mb) {}

	BackendParameter chunk;
	BackendParameter helper_us{"helper_us", "0"};
};

/* Open, attach, detach, close */

TEST_F(FailNth, SetIommu)
{
	NEED_MOCK_IOMMU();
	const Group group = open_group(x86);
	Container container;

	sweep({.prepare =
			[&] {
				container = Container::open();
				group.set_container(container);
			},
		.call = [&] { return container.ioctl(VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU); },
		.undo =
			[&] {
				group.unset_container();
				container.close();
			},
		.error = EIO});
}

/* The first group behind an IOMMU makes all mappings be pinned. */
TEST_F(FailNth, KB13_AttachFirst)
{
	NEED_MOCK_IOMMU();
	covers({"KB13"});
	const MockRig rig = open_mock({emulated0});
	const Group group = open_group(x86);
	const Memory ram = Memory::map(16 * page), huge = allocate(Backing::thp, 2 * huge_2m);
	Memory cold;

	populate(ram);
	populate(huge);
	want_errno("map.1", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("map.2", rig.container.map(iova0 + gib, huge.data(), huge.size()), 0);
	want_answer("pin", rig.devices[0].pin(iova0 + page, 2), "2");
	sweep({.prepare =
			[&] {
				cold = Memory::map(4 * page);
				rig.container.map(iova0 + mib, cold.data(), cold.size());
			},
		.call = [&] { return group.set_container(rig.container); },
		.undo =
			[&] {
				group.unset_container();
				rig.container.unmap(iova0 + mib, cold.size());
			},
		.see = [&] { return seen(rig.container); },
		.error = EIO});
}

/* Another domain: what is mapped is copied into it. */
TEST_F(FailNth, KB13_AttachSecond)
{
	NEED_MOCK_IOMMU();
	covers({"KB13"});
	const MockRig rig = open_mock({x86});
	const Group group = open_group(amd);
	const Memory ram = Memory::map(16 * page), huge = allocate(Backing::thp, 2 * huge_2m);

	want_errno("map.1", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("map.2", rig.container.map(iova0 + gib, huge.data(), huge.size()), 0);
	want_errno("map.3", rig.container.map(iova0 + mib, ram.data(), 4 * page, rd), 0);
	sweep({.call = [&] { return group.set_container(rig.container); },
		.undo = [&] { group.unset_container(); },
		.see = [&] { return seen(rig.container); },
		.error = EIO});
}

/* All mappings pinned, or copied into another domain, by several threads. */
class FailNthReplay : public FailNth
{
protected:
	void sweep_replay(unsigned first, unsigned second)
	{
		const WithHelpers helpers;
		const MockRig rig = open_mock({first});
		const Group group = open_group(second);
		const Memory ram = scattered(2 * huge_2m / page);

		want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
		sweep_helpers({.call = [&] { return group.set_container(rig.container); },
			.undo = [&] { group.unset_container(); },
			.see = [&] { return seen(rig.container); },
			.error = EIO});
	}
};

TEST_F(FailNthReplay, KB13_AttachFirst)
{
	NEED_MOCK_IOMMU();
	covers({"KB13"});
	sweep_replay(emulated0, x86);
}

TEST_F(FailNthReplay, KB13_AttachSecond)
{
	NEED_MOCK_IOMMU();
	covers({"KB13"});
	sweep_replay(x86, amd);
}

/* The same domain. */
TEST_F(FailNth, AttachToTheSameDomain)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86});
	const Group group = open_group(x86_twin);
	const Memory ram = Memory::map(16 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	sweep({.call = [&] { return group.set_container(rig.container); },
		.undo = [&] { group.unset_container(); },
		.see = [&] { return seen(rig.container); },
		.error = EIO});
}

TEST_F(FailNth, AttachWithoutIommu)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86});
	const Group group = open_group(emulated0);

	sweep({.call = [&] { return group.set_container(rig.container); },
		.undo = [&] { group.unset_container(); },
		.see = [&] { return seen(rig.container); }});
}

/* What may be mapped is worked out anew; without memory for that it stays as it is. */
TEST_F(FailNth, Detach)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86});
	const Group group = open_group(amd);
	const Memory ram = Memory::map(16 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	sweep({.prepare = [&] { group.set_container(rig.container); },
		.call = [&] { return group.unset_container(); },
		.see = [&] { return "avail " + std::to_string(rig.container.info().dma_avail); },
		.never_fails = true});
	/* A group that comes and goes undoes that. */
	group.set_container(rig.container);
	group.unset_container();
	want("ranges", ranges(rig.container.info()), "0x0-0xfedfffff 0xfef00000-0x7fffffffff");
}

/* The last group behind an IOMMU goes; a device's pins stay, and stay charged. */
TEST_F(FailNth, DetachLast)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({emulated0});
	const Group group = open_group(x86);
	const Memory ram = Memory::map(16 * page), huge = allocate(Backing::thp, huge_2m);

	want_errno("map.1", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_errno("map.2", rig.container.map(iova0 + gib, huge.data(), huge.size()), 0);
	want_answer("pin", rig.devices[0].pin(iova0, 3), "3");
	sweep({.prepare = [&] { group.set_container(rig.container); },
		.call = [&] { return group.unset_container(); },
		.see = [&] { return "avail " + std::to_string(rig.container.info().dma_avail); },
		.never_fails = true});
}

/* With everything mapped. */
TEST_F(FailNth, Close)
{
	NEED_MOCK_IOMMU();
	const Memory ram = Memory::map(80 * page), huge = allocate(Backing::thp, 2 * huge_2m);
	MockRig rig;

	sweep({.prepare =
			[&] {
				rig = open_mock_groups({x86, amd});
				rig.container.map(iova0, ram.data(), ram.size());
				rig.container.map(iova0 + gib, huge.data(), huge.size());
				rig.container.dirty_start();
			},
		.call =
			[&] {
				for (const Group &group : rig.groups)
					::close(group.fd());
				return Result::of(::close(rig.container.fd()));
			},
		.undo = [&] { rig.forget(); },
		.never_fails = true});
}

/* MAP_DMA and UNMAP_DMA of all kinds of memory */

struct SweptMemory {
	const char *name;
	std::function<Memory(const Mock &)> make;
	std::uint32_t flags = map_rw;
	bool fresh = false;   /* nobody may have touched it before the call */
	bool helpers = false; /* there are helper threads */
	const char *chunk_mb = "2";
};

static Memory populated(Backing backing, std::size_t size)
{
	Memory memory = allocate(backing, size);

	populate(memory);
	return memory;
}

static const std::vector<SweptMemory> &swept_memories()
{
	static const std::vector<SweptMemory> rows = {
		{"SmallCold", [](const Mock &) { return allocate(Backing::small, 24 * page); },
			map_rw, true},
		{"SmallPopulated",
			[](const Mock &) { return populated(Backing::small, 600 * page); }},
		{"ReadOnly", [](const Mock &) { return populated(Backing::small, 24 * page); }, rd},
		{"Scattered16", [](const Mock &) { return scattered(16); }},
		{"Scattered50", [](const Mock &) { return scattered(50); }},
		{"Scattered100", [](const Mock &) { return scattered(100); }},
		{"KB12_ZeroPages", [](const Mock &) { return Memory::map(8 * page, PROT_READ); },
			rd, true},
		{"KB17_ZeroPagesAmongMany", [](const Mock &) { return scattered(80, 3); }, rd,
			true},
		{"ThpCold", [](const Mock &) { return allocate(Backing::thp, huge_2m); }, map_rw,
			true},
		{"ThpPopulated", [](const Mock &) { return populated(Backing::thp, 2 * huge_2m); }},
		{"Hugetlb2mCold",
			[](const Mock &) { return allocate(Backing::hugetlb_2m, huge_2m); }, map_rw,
			true},
		{"Hugetlb2mPopulated",
			[](const Mock &) { return populated(Backing::hugetlb_2m, 2 * huge_2m); }},
		{"SharedCold", [](const Mock &) { return allocate(Backing::memfd, 8 * page); },
			map_rw, true},
		{"Bar",
			[](const Mock &mock) {
				return mock.memory(VFIO_MT_MOCK_MEM_LAZY, 16 * page);
			},
			map_rw, true},
		{"ThreadsSmallPopulated",
			[](const Mock &) { return populated(Backing::small, 2 * huge_2m); }, map_rw,
			false, true},
		{"ThreadsThpCold", [](const Mock &) { return allocate(Backing::thp, 3 * huge_2m); },
			map_rw, true, true},
		/*
		 * What may be joined with the next chunk is mapped at the end. Of two huge pages
		 * that cannot be joined, one is mapped at once: there the caller waits for the
		 * helper. Otherwise it might have pinned all before there is one.
		 */
		{"ThreadsThpPopulated", [](const Mock &) { return disjoint_thp(6); }, map_rw, false,
			true, "4"},
		{"ThreadsHugetlb2mCold",
			[](const Mock &) { return allocate(Backing::hugetlb_2m, 3 * huge_2m); },
			map_rw, true, true},
	};

	return rows;
}

static std::vector<SweptMemory> swept_by_threads()
{
	std::vector<SweptMemory> rows;

	for (const SweptMemory &row : swept_memories())
		if (row.helpers)
			rows.push_back(row);
	return rows;
}

class FailNthMemory : public FailNth, public testing::WithParamInterface<SweptMemory>
{
protected:
	void SetUp() override
	{
		FailNth::SetUp();
		if (IsSkipped() || HasFatalFailure())
			return;
		if (GetParam().helpers)
			helpers_.emplace(GetParam().chunk_mb);
	}

	Attempt map_attempt(const MockRig &rig)
	{
		return {.prepare =
				[&] {
					if (GetParam().fresh || !memory_.size())
						memory_ = GetParam().make(mock());
				},
			.call = [&] { return map(rig); },
			.undo = [&] { rig.container.unmap_all(); },
			.see = [&] { return seen(rig.container); }};
	}
	Attempt unmap_attempt(const MockRig &rig)
	{
		return {.prepare = [&] { map(rig); },
			.call = [&] { return rig.container.unmap(iova0, memory_.size()); },
			.see = [&] { return seen(rig.container); },
			.never_fails = true};
	}
	Result map(const MockRig &rig)
	{
		return rig.container.map(iova0, memory_.data(), memory_.size(), GetParam().flags);
	}

	Memory memory_;

private:
	std::optional<WithHelpers> helpers_;
};
using FailNthHelpers = FailNthMemory;

TEST_P(FailNthMemory, KB09_Map)
{
	NEED_MOCK_IOMMU();
	covers({"KB09", "KB12"});
	const MockRig rig = open_mock({x86, amd});

	sweep(map_attempt(rig));
}

TEST_P(FailNthMemory, Unmap)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86, amd});

	memory_ = GetParam().make(mock());
	sweep(unmap_attempt(rig));
}

TEST_P(FailNthHelpers, KB09_Map)
{
	NEED_MOCK_IOMMU();
	covers({"KB09"});
	const MockRig rig = open_mock({x86, amd});

	sweep_helpers(map_attempt(rig));
}

/* So many extents that each thread needs memory for them. */
TEST_F(FailNth, UnmapByHelpers)
{
	NEED_MOCK_IOMMU();
	const WithHelpers helpers;
	const MockRig rig = open_mock({x86, amd});
	const Memory ram = scattered(2 * huge_2m / page);

	sweep_helpers({.prepare = [&] { rig.container.map(iova0, ram.data(), ram.size()); },
		.call = [&] { return rig.container.unmap(iova0, ram.size()); },
		.see = [&] { return seen(rig.container); },
		.never_fails = true});
}

INSTANTIATE_TEST_SUITE_P(
	Memory, FailNthMemory, testing::ValuesIn(swept_memories()), row_name<SweptMemory>);
INSTANTIATE_TEST_SUITE_P(
	Memory, FailNthHelpers, testing::ValuesIn(swept_by_threads()), row_name<SweptMemory>);

/* The first address that takes another level of page tables. */
TEST_F(FailNth, MapFarAway)
{
	NEED_MOCK_IOMMU();
	MockRig rig;
	const Memory ram = populated(Backing::small, 4 * page);
	const std::uint64_t far = 1ULL << 45;

	sweep({.prepare = [&] { rig = open_mock_groups({wide}); },
		.call = [&] { return rig.container.map(far, ram.data(), ram.size()); },
		.undo = [&] { rig.close(); }});
}

TEST_F(FailNth, KB07_MapWhileTracking)
{
	NEED_MOCK_IOMMU();
	covers({"KB07"});
	const MockRig rig = open_mock({x86});
	const Memory ram = populated(Backing::small, 64 * page);

	want_errno("start", rig.container.dirty_start(), 0);
	sweep({.call = [&] { return rig.container.map(iova0, ram.data(), ram.size()); },
		.undo = [&] { rig.container.unmap_all(); },
		.see = [&] { return seen(rig.container); }});
}

/* UNMAP_DMA of other kinds */

TEST_F(FailNth, UnmapAll)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86, amd});
	const Memory ram = populated(Backing::small, 16 * page), holes = scattered(40),
		     huge = populated(Backing::thp, huge_2m);

	sweep({.prepare =
			[&] {
				rig.container.map(iova0, ram.data(), ram.size());
				rig.container.map(iova0 + mib, holes.data(), holes.size());
				rig.container.map(iova0 + gib, huge.data(), huge.size());
			},
		.call = [&] { return rig.container.unmap_all(); },
		.see = [&] { return seen(rig.container); },
		.never_fails = true});
}

/* Only what a device has pinned is dirty. Answers as no kernel does if the bits are others. */
static Result expect_bits(const Result &result, const Bitmap &bits, const std::string &expected)
{
	return result.ok() && bits.show() != expected ? Result{-1, EILSEQ} : result;
}

TEST_F(FailNth, UnmapWithBitmap)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = populated(Backing::small, 200 * page);
	Bitmap bits(200);

	want_errno("start", rig.container.dirty_start(), 0);
	sweep({.prepare =
			[&] {
				rig.container.map(iova0, ram.data(), ram.size());
				for (const std::uint64_t i : {3, 70, 199}) {
					device.pin(iova0 + i * page);
					device.unpin(iova0 + i * page);
				}
				bits.clear();
			},
		.call =
			[&] {
				return expect_bits(rig.container.unmap_dirty(iova0, ram.size(),
							   bits.data(), bits.bytes()),
					bits, "3 70 199");
			},
		.see = [&] { return seen(rig.container); },
		.never_fails = true});
}

/* Devices are told, and unpin. */
TEST_F(FailNth, UnmapWhatDevicesPin)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86, emulated0, emulated1});
	const Memory ram = populated(Backing::small, 16 * page);

	sweep({.prepare =
			[&] {
				rig.container.map(iova0, ram.data(), ram.size());
				rig.devices[1].pin(iova0, 5);
				rig.devices[2].pin(iova0 + 3 * page, 5);
			},
		.call = [&] { return rig.container.unmap(iova0, ram.size()); },
		.see = [&] { return seen(rig.container); },
		.never_fails = true});
}

/* Dirty tracking */

TEST_F(FailNth, KB07_DirtyStart)
{
	NEED_MOCK_IOMMU();
	covers({"KB07"});
	const MockRig rig = open_mock({emulated0});
	const Memory ram = Memory::map(64 * page);
	Bitmap bits(16);

	for (std::uint64_t i = 0; i < 4; i++)
		want_errno("map." + std::to_string(i),
			rig.container.map(iova0 + i * mib, ram.at(i * 16 * page), 16 * page), 0);
	want_answer("pin", rig.devices[0].pin(iova0 + page), "1");
	sweep({.call = [&] { return rig.container.dirty_start(); },
		.undo = [&] { rig.container.dirty_stop(); },
		.see =
			[&] {
				const Result result = rig.container.dirty_get(
					iova0, 16 * page, bits.data(), bits.bytes());

				return errno_name(result.err);
			}});
}

TEST_F(FailNth, DirtyGet)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = populated(Backing::small, 200 * page);
	Bitmap bits(200);

	want_errno("map.1", rig.container.map(iova0, ram.data(), 100 * page), 0);
	want_errno(
		"map.2", rig.container.map(iova0 + 100 * page, ram.at(100 * page), 100 * page), 0);
	want_errno("start", rig.container.dirty_start(), 0);
	/* Clean once. */
	want_errno("get", rig.container.dirty_get(iova0, ram.size(), bits.data(), bits.bytes()), 0);
	sweep({.prepare =
			[&] {
				for (const std::uint64_t i : {3, 70, 120, 199}) {
					device.pin(iova0 + i * page);
					device.unpin(iova0 + i * page);
				}
				bits.clear();
			},
		.call =
			[&] {
				return expect_bits(rig.container.dirty_get(iova0, ram.size(),
							   bits.data(), bits.bytes()),
					bits, "3 70 120 199");
			},
		.see = [&] { return seen(rig.container); },
		.takes_slab = false});
}

/* User addresses */

/* Without them no group can be attached: that is how it shows whether they are there. */
static std::string seen_vaddr(const Container &container, const Group &group)
{
	const Result result = group.set_container(container);

	if (result.ok())
		group.unset_container();
	return seen(container) + " attach " + errno_name(result.err);
}

TEST_F(FailNth, GiveUpVaddr)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86});
	const Group group = open_group(x86_twin);
	const Memory ram = populated(Backing::small, 16 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	sweep({.call =
			[&] {
				return rig.container.unmap(
					iova0, ram.size(), VFIO_DMA_UNMAP_FLAG_VADDR);
			},
		.undo =
			[&] {
				rig.container.map(
					iova0, ram.data(), ram.size(), VFIO_DMA_MAP_FLAG_VADDR);
			},
		.see = [&] { return seen_vaddr(rig.container, group); },
		.never_fails = true});
}

TEST_F(FailNth, KB04_SetVaddr)
{
	NEED_MOCK_IOMMU();
	covers({"KB04"});
	const MockRig rig = open_mock({x86});
	const Group group = open_group(x86_twin);
	const Memory ram = populated(Backing::small, 16 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	sweep({.prepare =
			[&] { rig.container.unmap(iova0, ram.size(), VFIO_DMA_UNMAP_FLAG_VADDR); },
		.call =
			[&] {
				return rig.container.map(
					iova0, ram.data(), ram.size(), VFIO_DMA_MAP_FLAG_VADDR);
			},
		.see = [&] { return seen_vaddr(rig.container, group); },
		.takes_slab = false});
}

TEST_F(FailNth, GetInfo)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86});

	sweep({.call =
			[&] {
				std::uint64_t buffer[64] = {sizeof(buffer)};

				return rig.container.ioctl(VFIO_IOMMU_GET_INFO, buffer);
			},
		.see = [&] { return seen(rig.container); }});
}

/* What devices do themselves. The test module's own calls are swept with them. */

static Result pin_call(const MockDevice &device, std::uint64_t iova, int pages,
	unsigned long request = VFIO_MT_MOCK_PIN)
{
	vfio_mt_mock_pin pin = {};

	pin.iova = iova;
	pin.npage = pages;
	pin.prot = request == VFIO_MT_MOCK_PIN ? mock_rw : 0;
	const Result result = Result::of(::ioctl(device.fd(), request, &pin));

	return result.ok() && pin.result < 0 ? Result{-1, -pin.result} : result;
}

static Result rw_call(
	const MockDevice &device, std::uint64_t iova, std::span<std::byte> data, bool write)
{
	vfio_mt_mock_rw rw = {};

	rw.iova = iova;
	rw.size = data.size();
	rw.buf = reinterpret_cast<std::uintptr_t>(data.data());
	rw.write = write;
	const Result result = Result::of(::ioctl(device.fd(), VFIO_MT_MOCK_RW, &rw));

	return result.ok() && rw.result < 0 ? Result{-1, -rw.result} : result;
}

static std::string seen(const MockDevice &device)
{
	const vfio_mt_mock_pin_info info = device.pin_info();

	return "pages " + std::to_string(info.pages) + " of the device's " +
	       std::to_string(info.pins);
}

TEST_F(FailNth, Pin)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	Memory ram;

	sweep({.prepare =
			[&] {
				ram = Memory::map(16 * page);
				rig.container.map(iova0, ram.data(), ram.size());
			},
		.call = [&] { return pin_call(device, iova0 + page, 6); },
		.undo = [&] { rig.container.unmap_all(); },
		.see = [&] { return seen(rig.container) + seen(device); }});
}

TEST_F(FailNth, PinTwice)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({x86, emulated0});
	const MockDevice &device = rig.devices[1];
	const Memory ram = populated(Backing::small, 16 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	want_answer("pin", device.pin(iova0, 4), "4");
	sweep({.call = [&] { return pin_call(device, iova0 + 2 * page, 4); },
		.undo = [&] { device.unpin(iova0 + 2 * page, 4); },
		.see = [&] { return seen(rig.container) + seen(device); }});
}

TEST_F(FailNth, Unpin)
{
	NEED_MOCK_IOMMU();
	const MockRig rig = open_mock({emulated0});
	const MockDevice &device = rig.devices[0];
	const Memory ram = populated(Backing::small, 16 * page);

	want_errno("map", rig.container.map(iova0, ram.data(), ram.size()), 0);
	sweep({.prepare = [&] { device.pin(iova0, 4); },
		.call = [&] { return pin_call(device, iova0, 4, VFIO_MT_MOCK_UNPIN); },
		.see = [&] { return seen(rig.container) + seen(device); },
		.never_fails = true});
}

/* A device's driver reads or writes memory that nobody has touched. */
class FailNthRw : public FailNth
{
protected:
	void sweep_rw(bool write)
	{
		NEED_MOCK_IOMMU();
		const MockRig rig = open_mock({emulated0});
		std::vector<std::byte> data(3 * page);
		Memory ram;

		sweep({.prepare =
				[&] {
					ram = Memory::map(16 * page);
					rig.container.map(iova0, ram.data(), ram.size());
				},
			.call = [&] { return rw_call(rig.devices[0], iova0 + 100, data, write); },
			.undo = [&] { rig.container.unmap_all(); },
			.see = [&] { return seen(rig.container); }});
	}
};

TEST_F(FailNthRw, Read)
{
	sweep_rw(false);
}

TEST_F(FailNthRw, Write)
{
	sweep_rw(true);
}

} // namespace selftest
