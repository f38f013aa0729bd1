// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer with several threads and processes in one container.
 *
 *	worker processes	each with an address space and several threads. Each
 *				thread has a range of the container's addresses for
 *				itself, and an exact model of it. All threads stop
 *				now and then: then what is charged is exact, too.
 *	chaos			a process whose threads do anything, in a range of
 *				the container and in a container of their own, one
 *				against another. It is killed all the time.
 *	this process		puts a group into the container and takes it out,
 *				switches dirty tracking, lets a device write where
 *				chaos maps and unmaps, kills, and cleans up behind
 *				the dead.
 *
 * What a device writes to a page that nobody has pinned any more would show in
 * the workers' memory, and in fresh pages here.
 */
#include "fuzz.hpp"

#include "environment.hpp"
#include "fuzz_sequence.hpp"
#include "proc.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <linux/capability.h>
#include <shared_mutex>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

using namespace std::chrono_literals;

/* Steps of each thread between two points where all stand still. */
static constexpr std::uint64_t round_steps = 40;
/* What a device writes where nobody should keep it. */
static constexpr unsigned stray_tag = 0xdeadbeef;
static constexpr std::int64_t limited_pages = 6000;
static constexpr auto child_limit = 3600s;

static std::uint64_t window(std::uint64_t index)
{
	return FuzzSequence::first_window + index * FuzzSequence::window_size;
}

/* ---- a worker ---- */

struct WorkerTask {
	std::uint64_t seed;
	std::uint64_t first_window; /* of as many as there are threads */
	unsigned threads;
	std::uint64_t steps;
	bool limited;
};

/* RLIMIT_MEMLOCK is for the process; the threads inherit the capabilities. */
static void limit_this_process()
{
	const rlimit limit = {.rlim_cur = limited_pages * page, .rlim_max = limited_pages * page};
	__user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	__user_cap_data_struct data[2];

	if (::setrlimit(RLIMIT_MEMLOCK, &limit) || ::syscall(SYS_capget, &header, data))
		throw std::runtime_error("a limit for locked memory");
	for (auto *set : {&data[0].effective, &data[0].permitted})
		*set &= ~(1U << CAP_IPC_LOCK);
	if (::syscall(SYS_capset, &header, data))
		throw std::runtime_error("capset");
}

class Worker
{
public:
	Worker(const Container &container, const Info &info, const WorkerTask &task) : task_(task)
	{
		if (task.limited)
			limit_this_process();
		for (unsigned i = 0; i < task.threads; i++) {
			auto shared = std::make_shared<FuzzContainer>();

			shared->handle = container.duplicate();
			/* As far as one thread is concerned there is always room. */
			shared->model.begin(VFIO_TYPE1v2_IOMMU, 1 << 30, info.ranges);
			shared->model.set_dirty(true);
			sequences_.push_back(std::make_unique<FuzzSequence>(
				task.seed + i, FuzzShare{shared, window(task.first_window + i),
						       task.limited, env().devices[0].bdf}));
		}
		failures_.resize(task.threads);
	}

	/* What was wrong, or nothing. */
	std::string run()
	{
		for (std::uint64_t done = 0; done < task_.steps; done += round_steps) {
			each([&](FuzzSequence &sequence) {
				const std::uint64_t end = std::min(done + round_steps, task_.steps);

				for (std::uint64_t step = done; step < end; step++)
					sequence.step(step);
			});
			if (std::string text = at_rest(); !text.empty())
				return text;
		}
		each([](FuzzSequence &sequence) { sequence.finish(); });
		return at_rest();
	}

private:
	/* In a thread for each sequence; the threads are gone when it returns. */
	void each(const std::function<void(FuzzSequence &)> &body)
	{
		std::vector<std::jthread> threads;

		for (std::size_t i = 0; i < sequences_.size(); i++)
			threads.emplace_back([&, i] {
				try {
					body(*sequences_[i]);
				} catch (const std::exception &e) {
					failures_[i] =
						"thread " + std::to_string(i) + ": " + e.what();
					for (const auto &line : sequences_[i]->history())
						failures_[i] += "\n  " + line;
				}
			});
	}

	std::string at_rest() const
	{
		std::int64_t charged = 0;

		for (const auto &failure : failures_)
			if (!failure.empty())
				return failure;
		for (const auto &sequence : sequences_)
			charged += sequence->charged();
		const std::int64_t locked = vm_locked_pages();

		if (locked != charged)
			return "at rest: VmLck is " + std::to_string(locked) + ", must be " +
			       std::to_string(charged);
		if (task_.limited && locked > limited_pages)
			return "at rest: VmLck is " + std::to_string(locked) + ", over the limit";
		return "";
	}

	WorkerTask task_;
	std::vector<std::unique_ptr<FuzzSequence>> sequences_;
	std::vector<std::string> failures_;
};

static std::unique_ptr<Child> start_worker(
	const Container &container, const Info &info, const WorkerTask &task)
{
	return std::make_unique<Child>([&container, &info, task](Notes &notes, const ChildSync &) {
		notes.put("failure", Worker(container, info, task).run());
	});
}

/* ---- chaos ---- */

/* One thread's random calls in a range of addresses, whose answers may be anything. */
static void chaos_calls(const Container &container, Random &rng, std::uint64_t base, bool all)
{
	static constexpr std::size_t pages = 2 * slot_pages;
	const Memory ram =
		allocate(rng.one_of({Backing::small, Backing::thp, Backing::memfd}), pages * page);
	alignas(8) std::byte bitmap[512];

	for (int i = 0; i < 20; i++) {
		const std::size_t n = rng.magnitude(pages);
		const std::size_t at = rng.below(pages - n + 1);
		/* Few places, so that threads meet. */
		const std::uint64_t iova = base + rng.below(8) * huge_2m + at % slot_pages * page;

		switch (rng.below(12)) {
		case 0 ... 3:
			container.map(iova, ram.at(at * page), n * page);
			break;
		case 4:
			container.unmap(base, FuzzSequence::window_size);
			break;
		case 5 ... 6:
			container.unmap(iova, n * page);
			break;
		case 7:
			container.unmap(base, FuzzSequence::window_size, VFIO_DMA_UNMAP_FLAG_VADDR);
			break;
		case 8:
			container.map(iova, ram.at(at * page), n * page, VFIO_DMA_MAP_FLAG_VADDR);
			break;
		case 9:
			container.dirty_get(
				iova, 8 * sizeof(bitmap) * page, bitmap, sizeof(bitmap));
			container.unmap_dirty(iova, n * page, bitmap, sizeof(bitmap));
			break;
		case 10:
			container.info();
			if (all)
				container.unmap_all();
			break;
		default:
			::madvise(ram.at(at * page), n * page, MADV_DONTNEED);
			break;
		}
	}
}

/* Its own container: groups come and go under the calls of the others. */
class ChaosContainer
{
public:
	explicit ChaosContainer(const std::vector<DeviceName> &devices) : devices_(devices) {}

	void calls(Random &rng)
	{
		/* Readers would never let a writer in. */
		while (rebuilding_)
			std::this_thread::sleep_for(1ms);
		/* VFIO itself does not keep the backend while an ioctl enters or leaves it. */
		const std::shared_lock lock(mutex_);

		if (container_.fd() >= 0)
			chaos_calls(container_, rng, window(0), true);
	}

	void groups(Random &rng)
	{
		for (int i = 0; i < 6; i++) {
			if (groups_.empty() || rng.chance(20)) {
				rebuilding_ = true;
				const std::unique_lock lock(mutex_);

				rebuild();
				rebuilding_ = false;
			} else if (groups_.size() > 1 && rng.chance(50)) {
				groups_.pop_back();
			} else if (groups_.size() < devices_.size()) {
				add();
			}
			container_.dirty_flag(rng.chance(50) ? VFIO_IOMMU_DIRTY_PAGES_FLAG_START
							     : VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP);
			std::this_thread::sleep_for(1ms);
		}
	}

private:
	void rebuild()
	{
		groups_.clear();
		container_ = Container::open();
		add();
		container_.set_iommu(VFIO_TYPE1v2_IOMMU);
	}
	void add()
	{
		Group group = Group::open(devices_[groups_.size()].group);

		/* -EBUSY while a user address is invalid */
		if (group.set_container(container_).ok())
			groups_.push_back(std::move(group));
	}

	std::vector<DeviceName> devices_;
	std::shared_mutex mutex_;
	std::atomic<bool> rebuilding_ = false;
	Container container_;
	std::vector<Group> groups_;
};

[[noreturn]] static void chaos_main(const Container &container,
	const std::vector<DeviceName> &devices, std::uint64_t seed, std::uint64_t base)
{
	ChaosContainer own(devices);
	std::atomic<std::uint64_t> stream = 0;
	const auto forever = [&](auto body) {
		return std::jthread([&, body] {
			for (;;) {
				Random rng(seed, ++stream);

				body(rng);
			}
		});
	};
	const std::jthread a = forever([&](Random &r) { chaos_calls(container, r, base, false); });
	const std::jthread b = forever([&](Random &r) { chaos_calls(container, r, base, false); });
	const std::jthread c = forever([&](Random &r) { own.calls(r); });
	const std::jthread d = forever([&](Random &r) { own.calls(r); });

	for (Random rng(seed);; rng.next())
		own.groups(rng);
}

/* ---- this process ---- */

class Conductor
{
public:
	Conductor(std::uint64_t seed, const FuzzOptions &options)
		: seed_(seed), options_(options), rng_(seed), container_(Container::open())
	{
		const auto &devices = env().devices;

		if (devices.size() < 2)
			throw std::runtime_error("several threads need two devices");
		group_ = Group::open(devices[0].group);
		spare_ = Group::open(devices[1].group);
		if (!group_.set_container(container_).ok() ||
			!container_.set_iommu(VFIO_TYPE1v2_IOMMU).ok())
			throw std::runtime_error("the container cannot be set up");
		info_ = container_.info();
		avail_ = info_.dma_avail;
	}

	void run()
	{
		for (unsigned i = 0; i < options_.processes; i++)
			workers_.push_back(start(i));
		start_chaos();
		while (!workers_.empty()) {
			disturb();
			reap();
			if (chaos_->ended())
				throw FuzzMismatch("the process of chaos ended: " +
						   chaos_->finish().text("exception"));
		}
		/* Which kills it and waits. */
		chaos_.reset();
		clean_up();
	}

private:
	struct Running {
		unsigned index;
		std::unique_ptr<Child> child;
	};

	std::uint64_t chaos_window() const
	{
		return window(std::uint64_t{options_.processes} * options_.threads);
	}
	std::uint64_t stray_window() const { return chaos_window() + FuzzSequence::window_size; }

	Running start(unsigned index)
	{
		/* Each life of a worker is another sequence. */
		const WorkerTask task{.seed = seed_ + 1000 * ++lives_,
			.first_window = std::uint64_t{index} * options_.threads,
			.threads = options_.threads,
			.steps = options_.steps,
			.limited = index % 2 == 1};

		return {index, start_worker(container_, info_, task)};
	}

	void start_chaos()
	{
		const std::vector<DeviceName> devices(
			env().devices.begin() + 2, env().devices.end());

		chaos_ = std::make_unique<Child>([&](Notes &, const ChildSync &) {
			/* A group that this process has is nothing for that one. */
			group_.close();
			spare_.close();
			chaos_main(container_, devices, seed_ + 7 * ++lives_, chaos_window());
		});
		lives_++;
	}

	void disturb()
	{
		switch (rng_.below(8)) {
		case 0:
			require("start", container_.dirty_start(), {0});
			break;
		case 1:
			require("stop", container_.dirty_stop(), {0});
			break;
		case 2 ... 3: /* -EBUSY while a user address is invalid */
			if (spare_in_)
				require("detach", spare_.unset_container(), {0});
			else if (!require("attach", spare_.set_container(container_), {0, EBUSY}))
				break;
			spare_in_ = !spare_in_;
			break;
		case 4:
			chaos_.reset();
			check_window(chaos_window(), 1);
			start_chaos();
			break;
		case 5:
			if (workers_.size() > 1 && kills_ < 2 * options_.processes)
				kill_worker();
			break;
		default:
			stray_dma();
			break;
		}
		std::this_thread::sleep_for(20ms);
	}

	bool require(const char *what, const Result &result, const Answers &answers)
	{
		if (std::ranges::find(answers, result.err) == answers.end())
			throw FuzzMismatch(std::string(what) + ": " + errno_name(result.err));
		return result.ok();
	}

	/* What a dead process has left must be whole, and go away. */
	void check_window(std::uint64_t first, std::uint64_t count)
	{
		require("unmap behind the dead",
			container_.unmap(first, count * FuzzSequence::window_size), {0});
	}

	void kill_worker()
	{
		Running &victim = rng_.pick(workers_);
		const unsigned index = victim.index;

		kills_++;
		victim.child.reset();
		check_window(window(std::uint64_t{index} * options_.threads), options_.threads);
		victim = start(index);
	}

	/* A device writes where chaos maps and unmaps; fresh memory must not change. */
	void stray_dma()
	{
		if (!all_edu())
			return;
		if (!engine_) {
			device_ = Device::open(group_, env().devices[0].bdf);
			fill(source_.bytes(0, tag_bytes), stray_tag);
			require("map of a source",
				container_.map(stray_window(), source_.data(), page), {0});
			engine_.emplace(device_);
		}
		const Memory fresh = Memory::map(256 * page);

		stamp(fresh, 1);
		engine_->start_read(stray_window(), tag_bytes);
		bool ended = engine_->wait();

		engine_->start_write(chaos_window() + rng_.below(8 * slot_pages) * page, tag_bytes);
		ended &= engine_->wait();
		if (!ended)
			throw FuzzMismatch("the device did not end its transfer");
		if (!stamped(fresh, 1))
			throw FuzzMismatch("a device wrote to memory that is not mapped");
	}

	void reap()
	{
		for (std::size_t i = 0; i < workers_.size(); i++) {
			Child &child = *workers_[i].child;

			if (!child.ended())
				continue;
			const Notes notes = child.finish(child_limit);
			const std::string failure = notes.text("failure") + notes.text("exception");

			if (!failure.empty() || child.ending() != "exit 0")
				throw FuzzMismatch("process " + std::to_string(workers_[i].index) +
						   " (" + child.ending() + "): " + failure);
			workers_.erase(workers_.begin() + static_cast<long>(i));
			return;
		}
	}

	void clean_up()
	{
		check_window(chaos_window(), 2);
		if (const auto avail = container_.info().dma_avail; avail != avail_)
			throw FuzzMismatch("at the end: dma_avail is " + std::to_string(avail) +
					   ", must be " + std::to_string(avail_));
		if (const Result rest = container_.unmap_all(); rest.value)
			throw FuzzMismatch("at the end: something was still mapped");
		if (vm_locked_pages())
			throw FuzzMismatch("at the end: VmLck is not 0");
	}

	std::uint64_t seed_;
	const FuzzOptions &options_;
	Random rng_;
	Container container_;
	Group group_, spare_;
	bool spare_in_ = false;
	Info info_;
	std::int64_t avail_ = 0;
	std::uint64_t lives_ = 0;
	unsigned kills_ = 0;
	std::vector<Running> workers_;
	std::unique_ptr<Child> chaos_;
	Memory source_ = Memory::map(page);
	Device device_;
	std::optional<Edu> engine_;
};

void fuzz_parallel(std::uint64_t seed, const FuzzOptions &options)
{
	Conductor(seed, options).run();
}

} // namespace selftest
