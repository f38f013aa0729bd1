// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_selftest: options and subcommands.
 *
 * Exit status: 0 all well; 1 a case failed, outcomes differ, something leaked;
 * 2 it could not be run (no device, the wrong backend, bad options).
 */
#include "bench.hpp"
#include "case.hpp"
#include "diff.hpp"
#include "environment.hpp"
#include "exec_helper.hpp"
#include "fuzz.hpp"
#include "pagesizes.hpp"
#include "proc.hpp"
#include "soak.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <gtest/gtest.h>

using namespace selftest;

namespace
{

constexpr int status_cannot_run = 2;

struct TestOptions {
	std::string filter = "*";
	std::string outcome_file;
	bool list = false;
	bool brief = false;
	unsigned repeat = 1;
};

/* Opens a container once, so that the wrong backend is told before all else. */
void probe_backend()
{
	Container container = Container::open();
	const int number = env().devices.empty() ? mock_group() : env().devices[0].group;
	Group group = Group::open(number);
	Result result = group.set_container(container);

	if (result.ok())
		result = container.set_iommu(VFIO_TYPE1v2_IOMMU);
	if (!result.ok())
		throw std::runtime_error(
			"VFIO_SET_IOMMU for group " + std::to_string(number) + ": " +
			errno_name(result.err) +
			" (is an IOMMU backend loaded? modprobe vfio_iommu_type1)");
	if (const auto why = backend_mismatch(container.backend(), env().wanted))
		throw std::runtime_error(*why);
	env().outcome.driver = container.backend().driver;
	env().outcome.module = container.backend().module;
	env().outcome.iommu = iommu_kind();
	env().outcome.kernel = kernel_release();
}

void print_environment()
{
	std::string devices;

	for (const auto &d : env().devices)
		devices += " " + d.bdf + " (group " + std::to_string(d.group) + ")";
	std::printf("backend: %s (%s)\nIOMMU: %s, kernel %s\ndevices:%s\n",
		env().outcome.driver.c_str(),
		env().outcome.module.empty() ? "no module's reference count moved"
					     : env().outcome.module.c_str(),
		env().outcome.iommu.c_str(), env().outcome.kernel.c_str(), devices.c_str());
	std::fflush(stdout);
}

/* Those about failed allocations are a command of their own: they take another kernel. */
std::string only_cases(const std::string &filter, bool fail_nth)
{
	const std::string cases = "*FailNth*";

	if (!fail_nth)
		return filter + (filter.find('-') == std::string::npos ? "-" : ":") + cases;
	return filter == "*" ? cases : filter;
}

void init_gtest(const TestOptions &options)
{
	std::string arguments[] = {"vfio_mt_selftest", "--gtest_filter=" + options.filter,
		options.brief ? "--gtest_brief=1" : "--gtest_brief=0"};
	char *argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
	int argc = 3;

	testing::InitGoogleTest(&argc, argv);
	testing::GTEST_FLAG(list_tests) = options.list;
	testing::GTEST_FLAG(repeat) = static_cast<int>(options.repeat);
}

int run_tests(const TestOptions &options, const std::vector<std::string> &bdfs)
{
	init_gtest(options);
	if (options.list)
		return RUN_ALL_TESTS();
	find_devices(bdfs);
	probe_backend();
	print_environment();
	install_outcome_listener();

	const int status = RUN_ALL_TESTS();
	int passed = 0, failed = 0, skipped = 0;

	for (const auto &c : env().outcome.cases) {
		passed += c.result == "passed";
		failed += c.result == "failed";
		skipped += c.result == "skipped";
	}
	if (!options.outcome_file.empty())
		env().outcome.save(options.outcome_file);
	std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	if (!passed && !failed) {
		std::fprintf(stderr, "no case was run\n");
		return status_cannot_run;
	}
	return status;
}

/* "1G", "512M", "4096" */
std::size_t parse_size(const std::string &text)
{
	std::size_t used = 0;
	const unsigned long long number = std::stoull(text, &used, 0);
	const std::string unit = text.substr(used);

	if (unit.empty())
		return number;
	if (unit == "K" || unit == "k")
		return number * kib;
	if (unit == "M" || unit == "m")
		return number * mib;
	if (unit == "G" || unit == "g")
		return number * gib;
	if (unit == "T" || unit == "t")
		return number * 1024 * gib;
	throw CLI::ValidationError(text, "is not a size: 4096, 512M, 1G, 1T");
}

struct BenchTexts {
	std::vector<std::string> sizes{"1G"};
	std::vector<std::string> backings{"4k", "thp", "2m", "1g"};
	std::vector<std::string> states{"cold", "populated"};
	std::string chunk = "0";
	bool alias = false;
	std::string alias_memory = "256M";
	std::size_t alias_run = 0;
};

BenchOptions bench_options(BenchOptions options, const BenchTexts &texts)
{
	for (const auto &size : texts.sizes)
		options.sizes.push_back(parse_size(size));
	for (const auto &text : texts.backings) {
		const auto backing = backing_from(text);

		if (!backing)
			throw CLI::ValidationError(text,
				"is no backing: 4k, thp, 2m, 1g, memfd, memfd2m, file, shared");
		options.backings.push_back(*backing);
	}
	for (const auto &state : texts.states)
		options.populated.push_back(state == "populated");
	options.chunk = parse_size(texts.chunk);
	if (texts.alias)
		options.alias = AliasOptions{parse_size(texts.alias_memory), texts.alias_run};
	return options;
}

void add_device_options(CLI::App *command, std::vector<std::string> &bdfs,
	const std::vector<std::string> &drivers = {"auto", "stock", "mt"})
{
	command->add_option("--driver", env().wanted,
		       "backend that must answer: an error when another one does")
		->check(CLI::IsMember(drivers))
		->capture_default_str();
	command->add_option("--device", bdfs,
		"PCI device on vfio-pci, as 0000:03:00.0; several are used where a case needs "
		"them (default: the variable VFIO_DEVICES)");
}

void add_bench_options(CLI::App *command, BenchOptions &options, BenchTexts &texts)
{
	command->add_option("--size", texts.sizes, "bytes to map")
		->delimiter(',')
		->capture_default_str();
	command->add_option(
		       "--backing", texts.backings, "4k, thp, 2m, 1g, memfd, memfd2m, file, shared")
		->delimiter(',')
		->capture_default_str();
	command->add_option("--state", texts.states, "memory not touched yet, or touched before")
		->delimiter(',')
		->check(CLI::IsMember({"cold", "populated"}))
		->capture_default_str();
	command->add_option("--threads", options.threads,
		       "threads of this program that map disjoint parts at the same time")
		->check(CLI::Range(1, 256))
		->capture_default_str();
	command->add_option(
		       "--reps", options.reps, "repetitions; the table shows medians (default: 3)")
		->check(CLI::Range(1, 100000));
	command->add_option(
		       "--chunk", texts.chunk, "bytes for each MAP_DMA call (0: the whole in one)")
		->capture_default_str();
	command->add_option("--format", options.format, "of standard output")
		->check(CLI::IsMember({"table", "json", "csv"}))
		->capture_default_str();
	command->add_option("--json", options.json_file, "write the data to this file, too");
	command->add_option("--csv", options.csv_file, "write the data to this file, too");
	command->add_option("--file-dir", options.file_dir, "directory for the backing \"file\"")
		->capture_default_str();
	command->add_option("--compare", options.compare,
		       "backends to alternate between, in this boot: stock,mt")
		->delimiter(',')
		->check(CLI::IsMember({"stock", "mt"}));
	command->add_option("--switch", options.switch_command,
		       "command that loads a backend, for --compare")
		->capture_default_str();
	command->add_flag("--count", options.count,
		"for a guest under -icount, whose clock counts instructions: ns for each 4 KiB; a "
		"single repetition unless --reps says otherwise");
	command->add_flag("--quiet", options.quiet, "no line for each repetition");
	auto *busy = command->add_option("--busy", options.busy,
		"so many processes want all of a CPU meanwhile: what is left to them?");
	auto *exit = command->add_flag("--exit", options.exit,
				    "instead of an unmap, kill the process that has mapped, and "
				    "time until it is gone")
			     ->excludes(busy);
	command->add_flag("--kill", options.kill,
		       "the same in the middle of the map, which must take a while")
		->excludes(busy)
		->excludes(exit);
	auto *alias = command->add_flag("--alias", texts.alias,
		"build the range out of little memory, mapped again and again: a very large guest "
		"on a small machine. For memfd, memfd2m, 2m and 1g");
	command->add_option("--alias-memory", texts.alias_memory, "so much memory")
		->needs(alias)
		->capture_default_str();
	command->add_option("--alias-run", texts.alias_run,
		       "physically contiguous in runs of so many pages only (0: as can be had)")
		->needs(alias);
}

void add_page_sizes_options(
	CLI::App *command, PageSizesOptions &options, std::vector<std::string> &bdfs)
{
	command->add_option("--device", bdfs, "PCI device on vfio-pci")->capture_default_str();
	command->add_option("--reference", options.reference, "backend to compare with")
		->check(CLI::IsMember({"stock", "mt"}))
		->capture_default_str();
	command->add_option("--driver", options.driver, "backend that must not do worse")
		->check(CLI::IsMember({"stock", "mt"}))
		->capture_default_str();
	command->add_option("--threads", options.threads, "most threads of ours for each map")
		->delimiter(',')
		->capture_default_str();
	command->add_option("--switch", options.switch_command, "command that loads a backend")
		->capture_default_str();
	command->add_flag("--verbose", options.verbose, "the pages of each size, too");
}

void add_fuzz_options(CLI::App *command, FuzzOptions &options)
{
	command->add_option("--seed", options.seeds, "what to run; several, for one after another")
		->delimiter(',');
	command->add_option("--steps", options.steps, "of each thread")->capture_default_str();
	command->add_option("--threads", options.threads, "of each process, in one container")
		->check(CLI::Range(1, 64))
		->capture_default_str();
	command->add_option("--processes", options.processes, "in the same container")
		->check(CLI::Range(1, 16))
		->capture_default_str();
	command->add_option("--minutes", options.minutes, "go on with fresh seeds for so long");
	command->add_option("--skip", options.skip, "steps to leave out, as 3-17,40");
	command->add_option(
		"--outcome", options.outcome_file, "write what each step saw to this file");
	command->add_option("--replay", options.replay,
		"what comes before the options in the line that replays a failure");
	command->add_flag("--verbose", options.verbose, "print each step");
}

int run(int argc, char **argv)
{
	CLI::App app("Functional cases and timings for VFIO's type1 IOMMU backends");
	TestOptions test;
	BenchOptions bench_opts;
	BenchTexts bench_texts;
	SoakOptions soak_opts;
	PageSizesOptions sizes_opts;
	FuzzOptions fuzz_opts;
	std::vector<std::string> bdfs;
	std::string path_a, path_b, allow_file, soak_size = "0", soak_tolerance = "0";

	app.require_subcommand(1);

	auto *test_cmd = app.add_subcommand("test", "run the functional cases");
	add_device_options(test_cmd, bdfs);
	test_cmd->add_option(
		"--gtest_filter,--filter", test.filter, "cases, as GoogleTest's filter");
	test_cmd->add_option(
		"--outcome", test.outcome_file, "write what was observed to this file");
	test_cmd->add_option("--repeat", test.repeat, "run all cases so many times");
	test_cmd->add_flag("--list", test.list, "list the cases and do nothing");
	test_cmd->add_flag("--brief", test.brief, "print failures only");

	auto *fail_cmd = app.add_subcommand(
		"failnth", "make allocations fail, one after the other, in every call");
	add_device_options(fail_cmd, bdfs);
	fail_cmd->add_option(
		"--gtest_filter,--filter", test.filter, "of these cases, as GoogleTest's filter");
	fail_cmd->add_option(
		"--outcome", test.outcome_file, "write what was observed to this file");
	fail_cmd->add_flag("--full", env().full_sweep,
		"every single failure, also where there are many (minutes, not seconds)");
	fail_cmd->add_flag("--list", test.list, "list the cases and do nothing");
	fail_cmd->add_flag("--brief", test.brief, "print failures only");

	auto *diff_cmd = app.add_subcommand("diff", "compare two files of test --outcome");
	diff_cmd->add_option("A", path_a)->required()->check(CLI::ExistingFile);
	diff_cmd->add_option("B", path_b)->required()->check(CLI::ExistingFile);
	diff_cmd->add_option("--allow", allow_file, "JSON list of deliberate differences")
		->check(CLI::ExistingFile);

	auto *bench_cmd = app.add_subcommand("bench", "time MAP_DMA and UNMAP_DMA");
	/* IOMMUFD is no backend, but what backends are measured against. */
	add_device_options(bench_cmd, bdfs, {"auto", "stock", "mt", "iommufd"});
	add_bench_options(bench_cmd, bench_opts, bench_texts);

	auto *soak_cmd = app.add_subcommand("soak", "map, unmap and kill, then look for leaks");
	add_device_options(soak_cmd, bdfs);
	soak_cmd->add_option("--reps", soak_opts.reps)->capture_default_str();
	soak_cmd->add_option("--size", soak_size, "bytes of one map (0: chosen)");
	soak_cmd->add_option(
		"--tolerance", soak_tolerance, "bytes MemFree may be lower (0: chosen)");
	soak_cmd->add_option("--json", soak_opts.json_file, "write the measurements to this file");

	auto *sizes_cmd = app.add_subcommand(
		"pagesizes", "compare the IOMMU pages that two backends make for the same memory");
	add_page_sizes_options(sizes_cmd, sizes_opts, bdfs);
	auto *fuzz_cmd = app.add_subcommand("fuzz", "random sequences, checked against a model");
	add_device_options(fuzz_cmd, bdfs);
	add_fuzz_options(fuzz_cmd, fuzz_opts);

	try {
		app.parse(argc, argv);
		if (*bench_cmd)
			bench_opts = bench_options(bench_opts, bench_texts);
		soak_opts.size = parse_size(soak_size);
		soak_opts.tolerance = parse_size(soak_tolerance);
	} catch (const CLI::ParseError &e) {
		return app.exit(e) ? status_cannot_run : 0;
	}

	if (*diff_cmd)
		return diff(path_a, path_b, allow_file);
	if (*test_cmd || *fail_cmd) {
		test.filter = only_cases(test.filter, fail_cmd->parsed());
		return run_tests(test, bdfs);
	}

	find_devices(bdfs);
	if (*bench_cmd)
		return bench(bench_opts);
	if (*sizes_cmd)
		return page_sizes(sizes_opts);
	probe_backend();
	print_environment();
	if (*fuzz_cmd)
		return fuzz(fuzz_opts);
	return soak(soak_opts);
}

} // namespace

int main(int argc, char **argv)
{
	/* A case about exec() runs this program again, with descriptors open. */
	if (argc > 1 && std::string(argv[1]) == exec_helper_command)
		return exec_helper_main(argc, argv);
	try {
		return run(argc, argv);
	} catch (const std::exception &e) {
		std::fflush(stdout);
		std::fprintf(stderr, "vfio_mt_selftest: %s\n", e.what());
		return status_cannot_run;
	}
}
