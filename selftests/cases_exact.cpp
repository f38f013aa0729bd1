// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cases: a map is refused if and only if what it charges does not fit, however
 * many threads charge for it and however much each charges in advance.
 *
 * Each is done many times: what might go wrong is a matter of which thread comes
 * first.
 */
#include "case.hpp"
#include "mock/mock_rig.hpp"
#include "proc.hpp"

#include <algorithm>
#include <array>
#include <barrier>
#include <functional>
#include <sys/resource.h>
#include <thread>

namespace selftest
{

static constexpr std::size_t exact_size = 32 * mib;
static constexpr std::size_t exact_pages = exact_size / page;
static constexpr int rounds = 3;

/* How many threads, and how much each charges in advance */
struct Charging : EagerThreads {
	Charging(unsigned max_threads, unsigned pages)
		: threads("max_threads", std::to_string(max_threads)),
		  cache("lockvm_cache_pages", std::to_string(pages))
	{
	}

	BackendParameter threads;
	BackendParameter cache;
};

static constexpr unsigned caches[] = {1, 7, 64, 65536};

/* For a child process without CAP_IPC_LOCK. */
static void set_limit(std::uint64_t pages)
{
	const rlimit limit = {.rlim_cur = pages * page, .rlim_max = exact_size};

	if (::setrlimit(RLIMIT_MEMLOCK, &limit))
		throw std::runtime_error("setrlimit");
}

/* Map under a limit again and again, and note how it goes. */
static void map_often(Notes &seen, const std::string &key, const Rig &rig, const Memory &ram,
	std::uint64_t limit, std::uint32_t flags)
{
	int fits = 0, refused = 0;
	std::int64_t charged = 0, left = 0;

	set_limit(limit);
	for (int round = 0; round < rounds; round++) {
		const Result result = rig.container.map(iova0, ram.data(), ram.size(), flags);

		fits += result.ok();
		refused += result.err == ENOMEM;
		charged += vm_locked_pages();
		rig.container.unmap_all();
		left += vm_locked_pages();
	}
	seen.put(key + "fits", fits);
	seen.put(key + "refused", refused);
	seen.put(key + "charged", charged);
	seen.put(key + "left", left);
}

/* Parameter: how many threads. */
class Exact : public MockCase, public testing::WithParamInterface<unsigned>
{
protected:
	/*
	 * With each size of cache: exactly enough, and a page less. The memory is made by the
	 * child: what is shared by a fork, and private, is copied page by page when it is
	 * pinned, and each copy interrupts all CPUs, which takes an emulator milliseconds.
	 */
	void map_exactly(const Rig &rig, const std::function<Memory()> &make, std::uint64_t pages,
		std::uint32_t flags = map_rw)
	{
		take("", run_child([&](Notes &seen) {
			const Memory ram = make();

			limit_locked_memory(exact_pages);
			for (const unsigned cache : caches) {
				const Charging charging(GetParam(), cache);
				const std::string key = std::to_string(cache) + ".";

				map_often(seen, key + "exact.", rig, ram, pages, flags);
				map_often(seen, key + "short.", rig, ram, pages - 1, flags);
			}
		}));
		for (const unsigned cache : caches) {
			expect_often(std::to_string(cache) + ".exact.", pages, true);
			expect_often(std::to_string(cache) + ".short.", pages, false);
		}
		want("pinned", pinned(), 0);
	}

private:
	void expect_often(const std::string &key, std::uint64_t pages, bool fits)
	{
		expect_noted(key + "fits", to_value(fits ? rounds : 0));
		expect_noted(key + "refused", to_value(fits ? 0 : rounds));
		expect_noted(key + "charged", to_value(fits ? pages * rounds : 0));
		expect_noted(key + "left", to_value(0));
	}
};

TEST_P(Exact, KB21_Populated)
{
	NEED_DEVICES(1);
	NEED_CPUS(GetParam());
	covers({"KB21"});
	const Rig rig = open_rig();

	map_exactly(
		rig,
		[] {
			Memory ram = allocate(Backing::small, exact_size);

			populate(ram);
			return ram;
		},
		exact_pages);
}

static std::string threads_name(const testing::TestParamInfo<unsigned> &info)
{
	return "threads_" + std::to_string(info.param);
}

INSTANTIATE_TEST_SUITE_P(Table, Exact, testing::Values(1U, 2U, 4U, 8U, 16U), threads_name);

class ExactMixed : public Exact
{
protected:
	static constexpr std::size_t zeros = 100 * page, device = 16 * page;

	/* What is charged for all of it */
	static std::size_t charged_pages()
	{
		constexpr std::size_t parts = exact_size / huge_2m;

		return (exact_size - parts * (zeros + device)) / page +
		       charge_of_zero_pages(parts * zeros / page);
	}

	/* In every 2 MiB: real pages, zero pages, pages of a device, and real pages again. */
	Memory strewn() const
	{
		Memory ram = allocate(Backing::small, exact_size);

		for (std::size_t at = 0; at < ram.size(); at += huge_2m) {
			const std::size_t zero = at + huge_2m / 4 + at / huge_2m * 7 * page;

			ram.place(zero + zeros, device, PROT_READ, MAP_SHARED, mock().fd(),
				VFIO_MT_MOCK_MEM_EAGER);
			for (std::size_t here = at; here < at + huge_2m; here += page)
				if (here < zero || here >= zero + zeros + device)
					*reinterpret_cast<volatile std::byte *>(ram.at(here)) =
						std::byte{1};
		}
		return ram;
	}
};

TEST_P(ExactMixed, KB21_ZeroPagesAndBars)
{
	NEED_DEVICES(1);
	NEED_CPUS(GetParam());
	covers({"KB12", "KB15", "KB21"});
	const Rig rig = open_rig();

	map_exactly(
		rig, [this] { return strewn(); }, charged_pages(), VFIO_DMA_MAP_FLAG_READ);
}

/*
 * Devices have pinned, and been charged for, some of the pages when an IOMMU
 * comes, and everything has to be pinned.
 */
TEST_P(ExactMixed, KB21_ExternallyPinned)
{
	NEED_DEVICES(1);
	NEED_CPUS(GetParam());
	covers({"KB18", "KB21"});
	const Charging charging(GetParam(), 64);
	MockRig rig = open_mock({mock_device::emulated0});
	const Memory ram = allocate(Backing::memfd, exact_size);
	const Group group = Group::open(env().devices.at(0).group);
	const auto pin = [&](std::size_t first, int n) {
		return rig.devices[0].pin(iova0 + first * page, n).result;
	};

	populate(ram);
	take("", run_child([&](Notes &seen) {
		int fits = 0, refused = 0;
		std::int64_t charged[] = {0, 0}, left = 0;
		const auto round = [&](bool fit) {
			rig.container.map(iova0, ram.data(), ram.size());
			/* Across chunks, at one's start, and single pages in many. */
			for (std::size_t at = 1000; at < 3000; at += 500)
				pin(at, 500);
			pin(5120, 7);
			for (std::size_t i = 0; i < 8; i++)
				pin(6000 + 250 * i, 1);
			const Result result = group.set_container(rig.container);

			fits += fit && result.ok();
			refused += !fit && result.err == ENOMEM;
			charged[fit] += vm_locked_pages();
			if (result.ok())
				group.unset_container();
			rig.container.unmap_all();
			left += vm_locked_pages();
		};

		limit_locked_memory(exact_pages);
		for (int i = 0; i < rounds; i++)
			round(true);
		set_limit(exact_pages - 1);
		for (int i = 0; i < rounds; i++)
			round(false);
		seen.put("fits", fits);
		seen.put("charged", charged[true]);
		seen.put("refused", refused);
		seen.put("charged.short", charged[false]);
		seen.put("left", left);
	}));
	expect_noted("fits", to_value(rounds));
	expect_noted("charged", to_value(exact_pages * rounds));
	expect_noted("refused", to_value(rounds));
	/* What the device has pinned. */
	expect_noted("charged.short", to_value((2000 + 7 + 8) * rounds));
	expect_noted("left", to_value(0));
	want("pinned", pinned(), 0);
}

/* Two threads of a process map at once. */
TEST_P(ExactMixed, KB21_TwoAtOnce)
{
	NEED_DEVICES(1);
	NEED_CPUS(GetParam());
	covers({"KB19", "KB21"});
	const Charging charging(GetParam(), 64);
	const Rig rig = open_rig();
	const Memory ram = allocate(Backing::memfd, exact_size);

	populate(ram);
	take("", run_child([&](Notes &seen) {
		constexpr std::size_t half = exact_size / 2;
		const auto both = [&] {
			std::array<int, 2> errors = {};
			std::barrier start(2);

			{
				std::array<std::jthread, 2> threads;

				for (std::size_t i = 0; i < 2; i++)
					threads[i] = std::jthread([&, i] {
						start.arrive_and_wait();
						errors[i] = rig.container
								    .map(iova0 + i * half,
									    ram.at(i * half), half)
								    .err;
					});
			}
			return errors;
		};
		int fits = 0, one = 0;
		std::int64_t left = 0;

		limit_locked_memory(exact_pages);
		for (int i = 0; i < rounds; i++) {
			const auto errors = both();

			fits += !errors[0] && !errors[1];
			rig.container.unmap_all();
			left += vm_locked_pages();
		}
		set_limit(exact_pages - 1);
		for (int i = 0; i < rounds; i++) {
			const auto errors = both();

			/* One passes, whichever: never none. */
			one += std::ranges::count(errors, 0) == 1 &&
			       std::ranges::count(errors, ENOMEM) == 1;
			rig.container.unmap_all();
			left += vm_locked_pages();
		}
		seen.put("fits", fits);
		seen.put("one", one);
		seen.put("left", left);
	}));
	expect_noted("fits", to_value(rounds));
	expect_noted("one", to_value(rounds));
	expect_noted("left", to_value(0));
	want("pinned", pinned(), 0);
}

/* Two processes, each with a limit of its own, map in one container at once. */
TEST_P(ExactMixed, KB21_TwoProcesses)
{
	NEED_DEVICES(1);
	NEED_CPUS(GetParam());
	covers({"KB19", "KB21"});
	const Charging charging(GetParam(), 64);
	const Rig rig = open_rig();
	const Memory ram = allocate(Backing::memfd, exact_size);
	const auto body = [&](std::uint64_t iova) {
		return [&, iova](Notes &seen, const ChildSync &sync) {
			int fits = 0, refused = 0;
			const auto map = [&] {
				return rig.container.map(iova, ram.data(), ram.size());
			};

			limit_locked_memory(exact_pages);
			sync.ready_and_wait();
			for (int i = 0; i < rounds; i++) {
				fits += map().ok();
				rig.container.unmap(iova, ram.size());
			}
			set_limit(exact_pages - 1);
			for (int i = 0; i < rounds; i++)
				refused += map().err == ENOMEM;
			seen.put("fits", fits);
			seen.put("refused", refused);
			seen.put("left", vm_locked_pages());
		};
	};

	populate(ram);
	Child a(body(iova0)), b(body(iova0 + exact_size));

	for (Child *child : {&a, &b})
		want(child == &a ? "a.ready" : "b.ready", child->wait_ready(), true);
	a.go();
	b.go();
	take("a.", a.finish());
	take("b.", b.finish());
	for (const char *key : {"a.", "b."}) {
		expect_noted(std::string(key) + "fits", to_value(rounds));
		expect_noted(std::string(key) + "refused", to_value(rounds));
		expect_noted(std::string(key) + "left", to_value(0));
	}
	want("pinned", pinned(), 0);
}

INSTANTIATE_TEST_SUITE_P(Table, ExactMixed, testing::Values(1U, 4U, 16U), threads_name);

} // namespace selftest
