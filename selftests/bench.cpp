// SPDX-License-Identifier: GPL-2.0-only
/*
 * The benchmark: times MAP_DMA and UNMAP_DMA of memory of several kinds, with
 * one backend or alternating between two, or IOMMUFD's calls that do the same.
 *
 * Each repetition has a container of its own and fresh memory, so that no
 * sample profits from what an earlier one left behind.
 */
#include "bench.hpp"

#include "bench_report.hpp"
#include "cgroup.hpp"
#include "child.hpp"
#include "environment.hpp"
#include "mapper.hpp"
#include "outcome.hpp"
#include "proc.hpp"
#include "rig.hpp"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <iomanip>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <unistd.h>

namespace selftest
{

using Clock = std::chrono::steady_clock;

/* Left for everything else when memory is tight. */
static constexpr std::size_t reserve = 64 * mib;
/* Enough for several threads to take part. */
static constexpr std::size_t warm_up_size = 64 * mib;

static double since(Clock::time_point begin)
{
	return std::chrono::duration<double>(Clock::now() - begin).count();
}

/* The part [at, at + size) of thread i of n; cuts are at multiples of unit. */
struct Part {
	std::size_t at, size;
};

static Part part_of(std::size_t size, std::size_t unit, unsigned i, unsigned n)
{
	const std::size_t units = (size + unit - 1) / unit;
	const std::size_t begin = units * i / n * unit;
	const std::size_t end = units * (i + 1) / n * unit;

	return {begin, std::min(end, size) - begin};
}

/* An instruction that does nothing, and is used for nothing else: a profiler can see it. */
static void mark()
{
#ifdef __x86_64__
	__asm__ volatile("nopl 0x12345678(%%rax)" ::: "memory");
#endif
}

/* Calls f(at, size) for each chunk, by n threads at once, and gives the time it took. */
static double timed(const BenchOptions &options, std::size_t size, std::size_t unit,
	const std::function<Result(std::size_t, std::size_t)> &f)
{
	std::atomic<int> error = 0;
	const auto run_part = [&](Part part) {
		const std::size_t chunk = options.chunk ? options.chunk : part.size;

		for (std::size_t at = part.at; at < part.at + part.size; at += chunk) {
			const Result result = f(at, std::min(chunk, part.at + part.size - at));

			if (!result.ok())
				error = result.err;
		}
	};
	double seconds;

	if (options.threads == 1) {
		mark();
		const auto begin = Clock::now();

		run_part({0, size});
		seconds = since(begin);
		mark();
	} else {
		/* The threads are there before the clock starts. */
		std::barrier start(static_cast<std::ptrdiff_t>(options.threads) + 1);
		std::vector<std::jthread> threads;

		for (unsigned i = 0; i < options.threads; i++)
			threads.emplace_back([&, i] {
				const Part part = part_of(size, unit, i, options.threads);

				start.arrive_and_wait();
				run_part(part);
			});
		start.arrive_and_wait();
		const auto begin = Clock::now();

		threads.clear();
		seconds = since(begin);
	}
	if (error)
		throw std::runtime_error("an ioctl failed: " + errno_name(error));
	return seconds;
}

/*
 * What the kernel allocates for this process as long as this exists, and charges to it. A
 * new group for each measurement: what an earlier one left behind is freed when it pleases
 * the kernel, but from the group that it was charged to.
 */
class KernelMemory
{
public:
	static bool available() { return !Cgroup::lacking({"memory"}); }

	KernelMemory() : group_("bench", {"memory"})
	{
		group_.enter();
		/* Of the counting itself. */
		before_ = group_.kernel_bytes();
	}
	KernelMemory(const KernelMemory &) = delete;
	KernelMemory &operator=(const KernelMemory &) = delete;
	~KernelMemory() { Cgroup::leave(); }

	std::int64_t bytes() const { return group_.kernel_bytes() - before_; }

private:
	Cgroup group_;
	std::int64_t before_;
};

/* Why this cannot be run here. */
static std::optional<std::string> obstacle(
	const BenchOptions &options, Backing backing, std::size_t size)
{
	if (options.alias)
		return alias_lacking(*options.alias, backing, size);
	if (const auto why = lacking(backing, size))
		return why;
	if (size % page)
		return std::to_string(size) + " bytes is not a multiple of 4096";
	/* The pool of huge pages is not counted as available. */
	const bool pool = backing == Backing::hugetlb_2m || backing == Backing::hugetlb_1g ||
			  backing == Backing::memfd_2m;
	const auto available = static_cast<std::size_t>(meminfo("MemAvailable")) * kib;

	if (!pool && size + reserve > available)
		return "only " + size_text(available / mib * mib) + " of memory are available";
	return std::nullopt;
}

/* Processes that want all of a CPU: what is left to them? */
class Busy
{
public:
	explicit Busy(unsigned n)
	{
		for (unsigned i = 0; i < n; i++)
			processes_.push_back(
				std::make_unique<Child>([](Notes &, const ChildSync &sync) {
					volatile unsigned spins = 0;

					for (sync.ready();;)
						spins = spins + 1;
				}));
		for (const auto &process : processes_)
			process->wait_ready();
	}

	/* Calls f, which tells how long it took; gives the part of a CPU that each had. */
	double share(const std::function<double()> &f) const
	{
		const double before = cpu_seconds();
		const double seconds = f();

		if (processes_.empty() || seconds <= 0)
			return -1;
		return (cpu_seconds() - before) / seconds / static_cast<double>(processes_.size());
	}

private:
	double cpu_seconds() const
	{
		double sum = 0;

		for (const auto &process : processes_) {
			clockid_t clock;
			timespec time = {};

			if (::clock_getcpuclockid(process->pid(), &clock) == 0 &&
				::clock_gettime(clock, &time) == 0)
				sum += static_cast<double>(time.tv_sec) +
				       static_cast<double>(time.tv_nsec) * 1e-9;
		}
		return sum;
	}

	std::vector<std::unique_ptr<Child>> processes_;
};

static BenchSample new_sample(Backing backing, bool populated, std::size_t size, unsigned rep)
{
	return {.config = {name(backing), populated ? "populated" : "cold", size},
		.driver = "",
		.rep = rep,
		.map_seconds = 0,
		.unmap_seconds = 0,
		.huge = -1};
}

static Memory prepare(
	const BenchOptions &options, Backing backing, bool populated, std::size_t size)
{
	Memory memory = options.alias ? allocate_aliased(*options.alias, backing, size)
				      : allocate(backing, size, options.file_dir);

	if (populated && options.alias)
		populate_aliased(backing, memory);
	else if (populated)
		populate(memory);
	return memory;
}

static double timed_map(
	const BenchOptions &options, const Mapper &mapper, const Memory &memory, Backing backing)
{
	return timed(options, memory.size(), std::max(page_size(backing), page),
		[&](std::size_t at, std::size_t bytes) {
			return mapper.map(first_iova + at, memory.at(at), bytes);
		});
}

static double timed_unmap(
	const BenchOptions &options, const Mapper &mapper, const Memory &memory, Backing backing)
{
	return timed(options, memory.size(), std::max(page_size(backing), page),
		[&](std::size_t at, std::size_t bytes) {
			Result result = mapper.unmap(first_iova + at, bytes);

			if (result.ok() && result.value != static_cast<long>(bytes))
				result.err = ENODATA;
			return result;
		});
}

/*
 * A process maps, and is killed when it has done so, or so many seconds after it began to:
 * how long until it is gone?
 */
static BenchSample measure_killed(const BenchOptions &options, Backing backing, bool populated,
	std::size_t size, unsigned rep, std::optional<double> after)
{
	struct Told {
		std::atomic<bool> mapped;
		double map_seconds;
		char driver[16];
	};
	BenchSample sample = new_sample(backing, populated, size, rep);
	const Memory shared = Memory::map(page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
	auto &told = *reinterpret_cast<Told *>(shared.data());
	Child child([&](Notes &, const ChildSync &sync) {
		const Memory memory = prepare(options, backing, populated, size);
		const auto mapper = Mapper::open();

		mapper->driver().copy(told.driver, sizeof(told.driver) - 1);
		if (after)
			sync.ready();
		told.map_seconds = timed_map(options, *mapper, memory, backing);
		told.mapped = true;
		if (!after)
			sync.ready();
		sync.wait_for_go();
	});

	if (!child.wait_ready(std::chrono::hours(1)))
		throw std::runtime_error("the process that maps ended before its end");
	if (after) {
		std::this_thread::sleep_for(std::chrono::duration<double>(*after));
		if (told.mapped)
			throw std::runtime_error("too small: it is mapped when it is to be killed");
	}
	const auto begin = Clock::now();

	child.kill();
	child.finish(std::chrono::hours(1));
	sample.unmap_seconds = since(begin);
	sample.map_seconds = after.value_or(told.map_seconds);
	sample.driver = told.driver;
	return sample;
}

static BenchSample measure_exit(const BenchOptions &options, Backing backing, bool populated,
	std::size_t size, unsigned rep)
{
	return measure_killed(options, backing, populated, size, rep, std::nullopt);
}

/* In the middle of the map, by the time that a whole one takes. */
static BenchSample measure_kill(const BenchOptions &options, Backing backing, bool populated,
	std::size_t size, unsigned rep)
{
	const BenchSample whole = measure_exit(options, backing, populated, size, rep);

	return measure_killed(options, backing, populated, size, rep, whole.map_seconds / 2);
}

static BenchSample measure(const BenchOptions &options, Backing backing, bool populated,
	std::size_t size, unsigned rep)
{
	BenchSample sample = new_sample(backing, populated, size, rep);
	/* First: a fork later on would have the memory copied when it is pinned. */
	const Busy busy(options.busy);
	const Memory memory = prepare(options, backing, populated, size);
	const auto mapper = Mapper::open();
	std::optional<KernelMemory> kernel_memory;

	if (options.alias && KernelMemory::available())
		kernel_memory.emplace();
	sample.driver = mapper->driver();
	sample.busy_map = busy.share([&] {
		sample.map_seconds = timed_map(options, *mapper, memory, backing);
		return sample.map_seconds;
	});
	if (kernel_memory)
		sample.charged_bytes = kernel_memory->bytes();
	/* Whether it was huge is known when all of it is there. */
	if (backing == Backing::thp)
		sample.huge = static_cast<double>(anon_huge_bytes(memory.data(), size)) /
			      static_cast<double>(size);
	sample.busy_unmap = busy.share([&] {
		sample.unmap_seconds = timed_unmap(options, *mapper, memory, backing);
		return sample.unmap_seconds;
	});
	return sample;
}

/* One line on a terminal that is written over, and gone at the end. */
class Progress
{
public:
	explicit Progress(std::size_t total) : total_(total), shown_(::isatty(STDERR_FILENO) != 0)
	{
	}
	~Progress() { clear(); }

	void step(const std::string &what)
	{
		done_++;
		if (shown_)
			std::fprintf(stderr, "\r\033[K[%zu/%zu] %s", done_, total_, what.c_str());
	}
	void clear() const
	{
		if (shown_)
			std::fprintf(stderr, "\r\033[K");
	}

private:
	std::size_t total_;
	std::size_t done_ = 0;
	bool shown_;
};

class Bench
{
public:
	explicit Bench(const BenchOptions &options)
		: options_(options), measure_(options.kill   ? measure_kill
					      : options.exit ? measure_exit
							     : measure)
	{
		report_.iommu = iommu_kind();
		report_.kernel = kernel_release();
		report_.cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
		report_.threads = options.threads;
		report_.chunk = options.chunk;
		report_.busy = options.busy;
		report_.exit = options.exit;
		report_.kill = options.kill;
	}

	int run()
	{
		/* Without --compare: one "driver", whichever --driver asks for. */
		std::vector<std::string> drivers = options_.compare;

		if (drivers.empty())
			drivers.push_back("");
		choose_configs();
		Progress progress(configs_.size() * options_.reps * drivers.size());

		for (unsigned rep = 1; rep <= options_.reps; rep++) {
			for (const auto &driver : drivers) {
				if (!driver.empty()) {
					switch_backend(options_.switch_command, driver);
					warm_up();
				}
				run_once(rep, progress);
			}
			/* A B, B A, A B…: what drifts hits both alike. */
			std::ranges::reverse(drivers);
		}
		report_.drivers = options_.compare;
		if (report_.drivers.empty() && !report_.samples.empty())
			report_.drivers.push_back(report_.samples.front().driver);
		progress.clear();
		return publish();
	}

private:
	struct Config {
		Backing backing;
		bool populated;
		std::size_t size;
	};

	void choose_configs()
	{
		for (const auto size : options_.sizes)
			for (const auto backing : options_.backings)
				for (const bool populated : options_.populated) {
					BenchConfig config{name(backing),
						populated ? "populated" : "cold", size};

					if (const auto why = obstacle(options_, backing, size)) {
						report_.not_run.push_back({config, *why});
						continue;
					}
					configs_.push_back({backing, populated, size});
					report_.configs.push_back(std::move(config));
				}
	}

	/*
	 * Emulators translate code when it is first run, and a module that was just loaded is
	 * new code: so a little of each kind of memory first.
	 */
	void warm_up() const
	{
		for (const auto &c : configs_)
			if (c.populated)
				measure(options_, c.backing, true,
					std::min(c.size,
						std::max(page_size(c.backing), warm_up_size)),
					0);
	}

	void run_once(unsigned rep, Progress &progress)
	{
		for (const auto &c : configs_) {
			const std::string label = std::string(name(c.backing)) + " " +
						  (c.populated ? "populated" : "cold") + " " +
						  size_text(c.size);

			progress.step((env().wanted == "auto" ? "" : env().wanted + " ") + label +
				      ", repetition " + std::to_string(rep));
			report_.samples.push_back(
				measure_(options_, c.backing, c.populated, c.size, rep));
			progress.clear();
			print_sample(report_.samples.back(), label);
		}
	}

	void print_sample(const BenchSample &sample, const std::string &label)
	{
		if (options_.count) {
			count_text_ += count_line(sample, label);
		} else if (options_.format == "table" && !options_.quiet) {
			const std::string prefix = "[" + sample.driver + ", " + label + ", " +
						   std::to_string(sample.rep) + "/" +
						   std::to_string(options_.reps) + "] ";

			std::printf("%s%s\n%s%s\n", prefix.c_str(),
				bench_line("MAP", sample.map_seconds, sample.config.size).c_str(),
				prefix.c_str(),
				bench_line(options_.exit || options_.kill ? "EXIT" : "UNMAP",
					sample.unmap_seconds, sample.config.size)
					.c_str());
		}
		std::fflush(stdout);
	}

	/*
	 * What is printed makes the emulated console interrupt the guest a moment later, in
	 * the middle of the next measurement. So this waits until all is done.
	 */
	std::string count_line(const BenchSample &sample, const std::string &label) const
	{
		const auto pages = static_cast<double>(sample.config.size / page);
		const double map = sample.map_seconds * 1e9, unmap = sample.unmap_seconds * 1e9;
		std::ostringstream text;

		text << std::fixed << std::setprecision(3) << sample.driver << " " << label << ": "
		     << map / pages << " ns map, " << unmap / pages << " ns unmap for each 4 KiB\n";
		if (!options_.alias)
			return text.str();

		/* Linear or not, and what it takes to remember what is pinned. */
		const std::size_t unit = page_size(*backing_from(sample.config.backing));
		const auto leaves = static_cast<double>(sample.config.size / unit);

		text << std::setprecision(1) << "\t" << sample.config.size / unit
		     << " leaves: " << map / leaves << " ns map, " << unmap / leaves
		     << " ns unmap each";
		if (sample.charged_bytes >= 0)
			text << "; " << static_cast<double>(sample.charged_bytes) / kib
			     << " KiB of kernel memory charged while mapped";
		text << "\n";
		return text.str();
	}

	static void write(const std::string &path, const std::string &text)
	{
		if (!path.empty() && !write_file(path, text))
			throw std::runtime_error("cannot write " + path);
	}

	int publish() const
	{
		write(options_.json_file, report_.json());
		write(options_.csv_file, report_.csv());
		std::fputs(count_text_.c_str(), stdout);
		std::string text = report_.table();

		if (options_.format == "json")
			text = report_.json();
		else if (options_.format == "csv")
			text = report_.csv();
		else if (!options_.quiet)
			std::printf("\n");
		std::fputs(text.c_str(), stdout);
		/* Nothing measured is not a success. */
		return report_.samples.empty() ? 2 : 0;
	}

	const BenchOptions &options_;
	decltype(&measure) measure_;
	BenchReport report_;
	std::vector<Config> configs_;
	std::string count_text_;
};

int bench(const BenchOptions &options)
{
	BenchOptions adjusted = options;

	if (!options.reps)
		adjusted.reps = options.count ? 1 : 3;
	if (options.chunk % page)
		throw std::runtime_error("--chunk is not a multiple of 4096");
	return Bench(adjusted).run();
}

} // namespace selftest
