// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer: runs of a seed, what must be back afterwards, and how a failure is
 * told.
 */
#include "fuzz.hpp"

#include "environment.hpp"
#include "fuzz_emulated.hpp"
#include "fuzz_sequence.hpp"
#include "memory.hpp"
#include "proc.hpp"

#include <chrono>
#include <cstdio>
#include <random>
#include <sstream>
#include <thread>

namespace selftest
{

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/* Steps in one case of the outcome, so that a difference is near its step. */
static constexpr std::uint64_t case_steps = 50;

/* What the machine must have again when a seed is done. */
class Ledger
{
public:
	Ledger()
		: pins_(pin_balance()), pool_(free_huge_pages(huge_2m)),
		  stock_(module_refs(stock_module)), mt_(module_refs(mt_module))
	{
	}

	/* A process that was killed may take a moment to be gone altogether. */
	void check() const
	{
		std::string left;

		for (int tries = 0; tries < 50; tries++) {
			left = missing();
			if (left.empty())
				return;
			std::this_thread::sleep_for(100ms);
		}
		throw FuzzMismatch("after the end: " + left);
	}

private:
	std::string missing() const
	{
		std::string text;
		const auto compare = [&](const char *what, const auto &before, const auto &now) {
			if (before != now)
				text += std::string(what) + " " + std::to_string(now.value_or(-1)) +
					", was " + std::to_string(before.value_or(-1)) + "; ";
		};

		compare("pins", pins_, pin_balance());
		compare("free huge pages", pool_, free_huge_pages(huge_2m));
		compare("references to vfio_iommu_type1", stock_, module_refs(stock_module));
		compare("references to vfio_mt_type1", mt_, module_refs(mt_module));
		return text;
	}

	std::optional<std::int64_t> pins_, pool_, stock_, mt_;
};

/* khugepaged would put pages where the model knows of none. */
class KhugepagedOff
{
public:
	KhugepagedOff() : before_(read_file(path)) { write_file(path, "0\n"); }
	~KhugepagedOff()
	{
		if (before_)
			write_file(path, *before_);
	}
	KhugepagedOff(const KhugepagedOff &) = delete;
	KhugepagedOff &operator=(const KhugepagedOff &) = delete;

private:
	static constexpr const char *path =
		"/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none";
	std::optional<std::string> before_;
};

/* "3-17,40" */
static std::vector<std::pair<std::uint64_t, std::uint64_t>> parse_ranges(const std::string &text)
{
	std::vector<std::pair<std::uint64_t, std::uint64_t>> list;
	std::istringstream in(text);

	for (std::string part; std::getline(in, part, ',');) {
		const std::size_t dash = part.find('-');
		const std::uint64_t first = std::stoull(part);

		list.emplace_back(first,
			dash == std::string::npos ? first : std::stoull(part.substr(dash + 1)));
	}
	return list;
}

static void record(const std::string &sequence, std::uint64_t step, const std::string &text)
{
	const std::string name = "Fuzz." + sequence + "_" + std::to_string(step / case_steps);
	auto &cases = env().outcome.cases;

	if (cases.empty() || cases.back().name != name) {
		cases.emplace_back();
		cases.back().name = name;
		cases.back().result = "passed";
	}
	cases.back().notes.put(std::to_string(step), text);
}

/* name: in the outcome */
template <class Sequence>
static void run_steps(Sequence &sequence, const std::string &name, const FuzzOptions &options)
{
	const auto skipped = parse_ranges(options.skip);

	sequence.set_log([&](std::uint64_t step, const std::string &text) {
		record(name, step, text);
		if (options.verbose)
			std::printf(
				"%6llu %s\n", static_cast<unsigned long long>(step), text.c_str());
	});
	try {
		for (std::uint64_t step = 0; step < options.steps; step++)
			if (std::ranges::none_of(skipped, [&](const auto &range) {
				    return step >= range.first && step <= range.second;
			    }))
				sequence.step(step);
		sequence.finish();
	} catch (const FuzzMismatch &) {
		std::printf("the latest steps:\n");
		for (const auto &line : sequence.history())
			std::printf("  %s\n", line.c_str());
		sequence.restore();
		throw;
	}
}

static void run_one(std::uint64_t seed, const FuzzOptions &options)
{
	const std::string name = "seed" + std::to_string(seed);
	const Ledger ledger;

	if (options.threads > 1 || options.processes > 1) {
		fuzz_parallel(seed, options);
		ledger.check();
		return;
	}
	{
		FuzzSequence sequence(seed);

		run_steps(sequence, name, options);
	}
	ledger.check();
	/* Where the test module is, its devices, too. */
	if (auto emulated = FuzzEmulated::make(seed))
		run_steps(*emulated, name + "_emulated", options);
	ledger.check();
}

static std::string replay_line(std::uint64_t seed, const FuzzOptions &options)
{
	const std::string before =
		options.replay.empty() ? "./vfio_mt_selftest fuzz" : options.replay;
	std::string line = before + " --driver " + env().outcome.driver + " --seed " +
			   std::to_string(seed) + " --steps " + std::to_string(options.steps);

	if (options.threads > 1)
		line += " --threads " + std::to_string(options.threads);
	if (options.processes > 1)
		line += " --processes " + std::to_string(options.processes);
	if (!options.skip.empty())
		line += " --skip " + options.skip;
	return line;
}

/* "ok" and "not ok" lines, for whoever counts. */
static bool run_and_tell(std::uint64_t seed, const FuzzOptions &options)
{
	const auto begin = Clock::now();
	const std::string name = "fuzz " + env().outcome.driver + " seed " + std::to_string(seed);

	/* First of all, since what goes wrong may be the kernel. */
	std::printf("# %s: %s\n", name.c_str(), replay_line(seed, options).c_str());
	std::fflush(stdout);
	try {
		run_one(seed, options);
	} catch (const std::exception &e) {
		std::printf("%s\nnot ok %s\nreplay: %s\n", e.what(), name.c_str(),
			replay_line(seed, options).c_str());
		std::fflush(stdout);
		if (!env().outcome.cases.empty())
			env().outcome.cases.back().result = "failed";
		return false;
	}
	std::printf("ok %s # %.1f s\n", name.c_str(),
		std::chrono::duration<double>(Clock::now() - begin).count());
	std::fflush(stdout);
	return true;
}

int fuzz(const FuzzOptions &options)
{
	const KhugepagedOff khugepaged;
	const auto end = Clock::now() +
			 std::chrono::duration_cast<Clock::duration>(
				 std::chrono::duration<double, std::ratio<60>>(options.minutes));
	std::random_device entropy;
	bool good = true;

	for (const std::uint64_t seed : options.seeds)
		good &= run_and_tell(seed, options);
	/* Of a long run nothing is kept but what failed. */
	while (good && (Clock::now() < end || options.seeds.empty())) {
		good = run_and_tell(entropy(), options);
		if (options.outcome_file.empty())
			env().outcome.cases.clear();
		if (options.minutes <= 0)
			break;
	}
	if (!options.outcome_file.empty())
		env().outcome.save(options.outcome_file);
	return good ? 0 : 1;
}

} // namespace selftest
