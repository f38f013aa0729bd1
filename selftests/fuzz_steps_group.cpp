// SPDX-License-Identifier: GPL-2.0-only
/*
 * The fuzzer's steps: containers, groups, devices, limits, another process.
 */
#include "fuzz_sequence.hpp"

#include "environment.hpp"
#include "proc.hpp"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace selftest
{

/* ---- GET_INFO, CHECK_EXTENSION, nonsense ---- */

bool FuzzSequence::info()
{
	const auto c = rng_.chance(95) ? active_container() : any_container();

	if (!c)
		return false;
	constexpr std::size_t fixed = offsetof(vfio_iommu_type1_info, cap_offset);
	alignas(8) std::byte buffer[1024];
	auto *raw = reinterpret_cast<vfio_iommu_type1_info *>(buffer);

	std::memset(buffer, 0xa5, sizeof(buffer));
	raw->argsz = rng_.one_of<std::uint32_t>({0, fixed - 1, fixed, fixed + 3, fixed + 4,
		sizeof(*raw), 48, 64, 100, 120, 128, sizeof(buffer)});
	const bool good = c->model.active() && raw->argsz >= fixed;
	const std::uint32_t asked = raw->argsz;
	const Result result = c->handle.ioctl(VFIO_IOMMU_GET_INFO, buffer);

	/* Where others are in the container, too, how much is left is their matter. */
	expect(show(*c) + " argsz " + std::to_string(asked) + " digest " +
			(share_ ? "" : digest(buffer)),
		result, {good ? 0 : EINVAL});
	return true;
}

bool FuzzSequence::extension()
{
	const auto c = any_container();

	if (!c)
		return false;
	const std::uint64_t number = rng_.chance(80) ? rng_.below(16) : rng_.next() & 0xffffffff;
	const Result result = c->handle.extension(number);
	Answers values{0};

	switch (number) {
	case VFIO_TYPE1_IOMMU:
	case VFIO_TYPE1v2_IOMMU:
	case VFIO_TYPE1_NESTING_IOMMU:
	case VFIO_UNMAP_ALL:
		values = {1};
		break;
	case VFIO_UPDATE_VADDR:
		values = {c->model.active()};
		break;
	case VFIO_DMA_CC_IOMMU: /* what the IOMMU can do */
		values = {0, c->model.active()};
		break;
	default:
		break;
	}
	note(show(*c) + " " + std::to_string(number) + ": " + std::to_string(result.value));
	if (std::ranges::find(values, result.value) == values.end())
		fail("extension " + std::to_string(number) + " is " + std::to_string(result.value));
	return true;
}

/* Pointers to nowhere, and calls that there are not. */
bool FuzzSequence::bad_call()
{
	const auto c = any_container();

	if (!c)
		return false;
	const auto request = rng_.one_of<unsigned long>({VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA,
		VFIO_IOMMU_GET_INFO, VFIO_IOMMU_DIRTY_PAGES, _IO(VFIO_TYPE, VFIO_BASE + 25)});
	/* Behind the bitmap: a structure whose end cannot be read. */
	const std::uint64_t pointer = rng_.one_of<std::uint64_t>(
		{0, 8, bitmap_.address() + bitmap_.size() - page - 4, 0xffff888000000000});
	int err = EFAULT;

	if (!c->model.active())
		err = EINVAL;
	else if (request == _IO(VFIO_TYPE, VFIO_BASE + 25))
		err = ENOTTY;
	else if (request == VFIO_IOMMU_DIRTY_PAGES && !c->model.v2())
		err = EACCES;
	expect(show(*c) + " request " + hex(request), c->handle.ioctl(request, pointer), {err});
	return true;
}

/* ---- containers and groups ---- */

/* What is missing until something can be mapped, in one container. */
bool FuzzSequence::progress()
{
	const FuzzContainerPtr c = rng_.pick(containers_);

	if (!c->open()) {
		c->handle = Container::open();
		note(show(*c) + " opened");
		return true;
	}
	if (c->groups.empty()) {
		for (int i = 0; i < static_cast<int>(groups_.size()); i++) {
			FuzzGroup &group = groups_[static_cast<std::size_t>(i)];

			if (group.lingering || group.in)
				continue;
			if (!group.open())
				group.handle = Group::open(group.number);
			return do_attach(i, c);
		}
		return false;
	}
	if (!c->model.active())
		return do_set_iommu(*c, rng_.chance(80) ? VFIO_TYPE1v2_IOMMU : VFIO_TYPE1_IOMMU);
	for (const int i : c->groups)
		if (!groups_[static_cast<std::size_t>(i)].device)
			return open_device();
	return false;
}

bool FuzzSequence::open_container()
{
	for (const auto &c : containers_) {
		if (c->open())
			continue;
		c->handle = Container::open();
		note(show(*c));
		return true;
	}
	return false;
}

/* Its groups, and the other process, keep it alive; here a new one takes its place. */
bool FuzzSequence::close_container()
{
	FuzzContainerPtr &c = rng_.pick(containers_);

	if (!c->open())
		return false;
	note(show(*c));
	c->handle.close();
	c = std::make_shared<FuzzContainer>();
	return true;
}

bool FuzzSequence::open_group()
{
	FuzzGroup &group = rng_.pick(groups_);

	if (!group.open() && !group.lingering) {
		group.handle = Group::open(group.number);
		note(std::to_string(group.number));
		return true;
	}
	const std::string path = "/dev/vfio/" + std::to_string(group.number);
	const Fd second(::open(path.c_str(), O_RDWR | O_CLOEXEC));

	expect(std::to_string(group.number) + " once more",
		{.value = 0, .err = second.valid() ? 0 : errno}, {EBUSY});
	return true;
}

/* The group is not in its container any more. */
void FuzzSequence::left_container(FuzzGroup &group, int index)
{
	if (!group.in)
		return;
	group.in->groups.erase(index);
	if (group.in->groups.empty() && group.in->model.active())
		group.in->model.end();
	group.in.reset();
}

bool FuzzSequence::close_group()
{
	const int index = static_cast<int>(rng_.below(groups_.size()));
	FuzzGroup &group = groups_[static_cast<std::size_t>(index)];

	if (!group.open())
		return false;
	note(std::to_string(group.number) + (group.device ? ", its device is open" : ""));
	group.handle.close();
	if (group.device)
		group.lingering = true;
	else
		left_container(group, index);
	return true;
}

bool FuzzSequence::do_attach(int index, const FuzzContainerPtr &c)
{
	FuzzGroup &group = groups_[static_cast<std::size_t>(index)];
	int err = 0;

	if (group.in)
		err = EINVAL;
	else if (c->model.active() && c->model.any_vaddr_invalid())
		err = EBUSY;
	const Result result = group.handle.set_container(c->handle);

	expect("group " + std::to_string(index) + " to " + show(*c), result, {err});
	if (result.ok()) {
		group.in = c;
		c->groups.insert(index);
	}
	return true;
}

bool FuzzSequence::attach()
{
	const auto c = any_container();
	const int index = static_cast<int>(rng_.below(groups_.size()));

	if (!c || !groups_[static_cast<std::size_t>(index)].open())
		return false;
	return do_attach(index, c);
}

bool FuzzSequence::detach()
{
	const int index = static_cast<int>(rng_.below(groups_.size()));
	FuzzGroup &group = groups_[static_cast<std::size_t>(index)];

	if (!group.open())
		return false;
	const Result result = group.handle.unset_container();
	const int err = !group.in ? EINVAL : group.device ? EBUSY : 0;

	expect("group " + std::to_string(index), result, {err});
	if (result.ok())
		left_container(group, index);
	return true;
}

bool FuzzSequence::do_set_iommu(FuzzContainer &c, unsigned long type)
{
	const bool known = type == VFIO_TYPE1_IOMMU || type == VFIO_TYPE1v2_IOMMU ||
			   type == VFIO_TYPE1_NESTING_IOMMU;
	Answers answers{0};

	if (c.groups.empty() || c.model.active())
		answers = {EINVAL};
	else if (!known)
		answers = {ENODEV};
	else if (type == VFIO_TYPE1_NESTING_IOMMU)
		answers = {0, EINVAL, ENODEV}; /* it is up to the IOMMU */
	const Result result = c.handle.set_iommu(type);

	expect(show(c) + " type " + std::to_string(type), result, answers);
	if (!result.ok())
		return true;
	if (const auto why = backend_mismatch(c.handle.backend(), env().wanted))
		throw std::runtime_error(*why);
	module_ = c.handle.backend().module;

	const Info info = c.handle.info();

	expect_equal("dma_avail", info.dma_avail, entry_limit_);
	c.model.begin(type, info.dma_avail, info.ranges);
	return true;
}

bool FuzzSequence::set_iommu()
{
	const auto c = any_container();

	if (!c)
		return false;
	return do_set_iommu(*c,
		rng_.one_of<unsigned long>({VFIO_TYPE1v2_IOMMU, VFIO_TYPE1v2_IOMMU,
			VFIO_TYPE1_IOMMU, VFIO_TYPE1_NESTING_IOMMU, 0, 2, VFIO_NOIOMMU_IOMMU, 99}));
}

bool FuzzSequence::open_device()
{
	FuzzGroup &group = rng_.pick(groups_);

	if (!group.open() || group.device)
		return false;
	const bool good = group.in && group.in->model.active();
	const Result result = group.handle.device_fd(group.bdf);

	expect(std::to_string(group.number), result, {good ? 0 : EINVAL});
	if (!result.ok())
		return true;
	group.device.emplace(Device::adopt(static_cast<int>(result.value)));
	if (all_edu())
		group.engine.emplace(*group.device);
	return true;
}

bool FuzzSequence::close_device()
{
	const int index = static_cast<int>(rng_.below(groups_.size()));
	FuzzGroup &group = groups_[static_cast<std::size_t>(index)];

	if (!group.device)
		return false;
	note(std::to_string(group.number) + (group.lingering ? ", the last of its group" : ""));
	group.engine.reset();
	group.device.reset();
	if (group.lingering) {
		group.lingering = false;
		left_container(group, index);
	}
	return true;
}

/* ---- limits and parameters ---- */

bool FuzzSequence::limit()
{
	rlimit limit;

	if (::getrlimit(RLIMIT_MEMLOCK, &limit))
		return false;
	limit.rlim_max = RLIM_INFINITY;
	if (rng_.chance(30)) {
		limit_ = -1;
		limit.rlim_cur = RLIM_INFINITY;
	} else {
		/* What is charged now, and some pages more, or less. */
		const std::int64_t more = static_cast<std::int64_t>(
			rng_.one_of<std::uint64_t>({0, 1, rng_.below(16), rng_.below(1024)}));

		limit_ = vm_locked_pages() + (rng_.chance(10) ? -more : more);
		limit_ = std::max<std::int64_t>(limit_, 0);
		limit.rlim_cur = static_cast<rlim_t>(limit_) * page;
	}
	if (::setrlimit(RLIMIT_MEMLOCK, &limit))
		throw std::runtime_error("setrlimit");
	note(limit_ < 0 ? "none" : "set");
	return true;
}

/* Of this thread. It stays permitted, and so can come back. */
static void set_ipc_lock(bool on)
{
	__user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
	__user_cap_data_struct data[2];

	if (::syscall(SYS_capget, &header, data))
		throw std::runtime_error("capget");
	data[0].effective &= ~(1U << CAP_IPC_LOCK);
	data[0].effective |= on ? 1U << CAP_IPC_LOCK : 0U;
	if (::syscall(SYS_capset, &header, data))
		throw std::runtime_error("capset");
}

bool FuzzSequence::capability()
{
	cap_ = !cap_;
	set_ipc_lock(cap_);
	note(cap_ ? "CAP_IPC_LOCK" : "none");
	return true;
}

void FuzzSequence::set_parameter(const std::string &name, const std::string &value)
{
	parameters_before_.try_emplace(name, module_parameter(module_, name).value_or(value));
	if (!set_module_parameter(module_, name, value))
		throw std::runtime_error("parameter " + name + " of " + module_);
}

bool FuzzSequence::parameters()
{
	static constexpr std::pair<const char *, std::array<const char *, 4>> threads[] = {
		{"max_threads", {"0", "1", "2", "8"}}, {"min_chunk_mb", {"0", "1", "2", "16"}},
		{"helper_us", {"0", "0", "0", "500"}},
		{"lockvm_cache_pages", {"0", "1", "100", "65536"}}};
	const std::uint64_t choice = rng_.below(8);
	const std::int64_t entries = static_cast<std::int64_t>(
		rng_.one_of<std::uint64_t>({65535, 65535, 0, rng_.below(12)}));
	const auto &[name, values] = rng_.pick(threads);
	const std::string value = rng_.pick(values);

	if (module_.empty())
		return false;
	if (choice < 2) {
		set_parameter("dma_entry_limit", std::to_string(entries));
		entry_limit_ = entries;
		note("dma_entry_limit " + std::to_string(entries));
		return true;
	}
	if (choice == 2) {
		const bool on = rng_.chance(50);

		set_parameter("disable_hugepages", on ? "Y" : "N");
		note(on ? "disable_hugepages" : "use huge pages");
		return true;
	}
	/* Only one driver has these, and they must make no difference. */
	if (module_ == mt_module)
		set_parameter(name, value);
	note("of threads");
	return true;
}

/* ---- another process ---- */

bool FuzzSequence::agent_start()
{
	const auto c = active_container();

	if (!c || agent_)
		return false;
	std::vector<int> others;
	const std::uint32_t first_tag = arena_->fresh_tag();

	for (std::size_t i = 1; i < Agent::pages; i++)
		arena_->fresh_tag();
	for (const auto &other : containers_)
		if (other != c && other->open())
			others.push_back(other->handle.fd());
	for (FuzzGroup &group : groups_) {
		if (group.open())
			others.push_back(group.handle.fd());
		if (group.device)
			others.push_back(group.device->fd());
		/* The mapping of its registers would go along, and keep the device. */
		group.engine.reset();
	}
	agent_ = std::make_unique<Agent>(c->handle, others, first_tag);
	agent_owner_++;
	agent_container_ = c;
	agent_frames_.clear();
	for (std::uint32_t i = 0; i < Agent::pages; i++)
		agent_frames_.push_back(arena_->foreign_frame(first_tag + i));
	for (FuzzGroup &group : groups_)
		if (group.device && all_edu())
			group.engine.emplace(*group.device);
	note(show(*c));
	return true;
}

bool FuzzSequence::agent_map()
{
	if (!agent_)
		return false;
	FuzzContainer &c = *agent_container_;
	const std::size_t pages = rng_.magnitude(Agent::pages);
	const std::size_t at = rng_.below(Agent::pages - pages + 1);
	MapArgs args;

	args.flags = rng_.one_of<std::uint32_t>({map_rw, map_rw, VFIO_DMA_MAP_FLAG_READ});
	args.vaddr = agent_->address(at);
	args.size = pages * page;
	args.iova = choose_iova(c, args.vaddr, pages);
	const int err = c.model.check_map(args);

	expect(show(c) + " " + hex(args.iova) + "+" + hex(args.size),
		agent_->map(args.iova, args.vaddr, args.size, args.flags), {err});
	if (err)
		return true;
	Mapping mapping{.iova = args.iova, .size = args.size, .flags = args.flags};

	mapping.frames.assign(agent_frames_.begin() + static_cast<long>(at),
		agent_frames_.begin() + static_cast<long>(at + pages));
	mapping.owner = agent_owner_;
	mapping.charged = static_cast<std::int64_t>(pages);
	learn_pages(c, mapping);
	c.model.add(std::move(mapping));
	return true;
}

bool FuzzSequence::agent_unmap()
{
	if (!agent_)
		return false;
	FuzzContainer &c = *agent_container_;
	UnmapArgs args = choose_unmap(c);
	std::vector<std::uint64_t> taken;
	const int err = c.model.check_unmap(args, {}, taken);
	const Result result = agent_->unmap(args.iova, args.size, 0);

	expect(show(c) + " " + hex(args.iova) + "+" + hex(args.size), result, {err});
	for (const std::uint64_t iova : taken) {
		const std::uint64_t size = c.model.take(iova).size;

		check_translation(c, iova, size);
	}
	return true;
}

/* The other process takes a mapping over, and is charged for it. */
bool FuzzSequence::agent_remap()
{
	if (!agent_)
		return false;
	FuzzContainer &c = *agent_container_;
	const Mapping *mapping = any_mapping(c);

	for (const auto &[iova, m] : c.model.maps())
		if (m.vaddr_invalid && rng_.chance(60))
			mapping = &m;
	if (!mapping)
		return false;
	MapArgs args{
		.flags = VFIO_DMA_MAP_FLAG_VADDR, .iova = mapping->iova, .size = mapping->size};

	args.vaddr = agent_->address(0);
	const int err = c.model.check_map(args);

	expect(show(c) + " " + hex(args.iova) + "+" + hex(args.size),
		agent_->map(args.iova, args.vaddr, args.size, args.flags), {err});
	if (!err)
		c.model.remap(args.iova, agent_owner_);
	return true;
}

bool FuzzSequence::agent_kill()
{
	if (!agent_)
		return false;
	agent_->kill();
	agent_.reset();
	for (const auto &c : all_containers())
		c->model.owner_died(agent_owner_);
	note(show(*agent_container_));
	agent_container_.reset();
	return true;
}

/* What the sequence changed for all. */
void FuzzSequence::restore()
{
	const rlimit none = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};

	if (!cap_)
		set_ipc_lock(true);
	::setrlimit(RLIMIT_MEMLOCK, &none);
	for (const auto &[name, value] : parameters_before_)
		set_module_parameter(module_, name, value);
}

} // namespace selftest
