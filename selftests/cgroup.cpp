// SPDX-License-Identifier: GPL-2.0-only
/*
 * Control groups through their file systems.
 */
#include "cgroup.hpp"

#include "memory.hpp"
#include "proc.hpp"
#include "vfio.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

static const std::string root = "/sys/fs/cgroup";
static const std::string group_name = "/vfio_mt_selftest";

static void write(const std::string &path, const std::string &text)
{
	if (!write_file(path, text))
		throw std::runtime_error("cannot write " + text + " to " + path);
}

/* A task that has ended leaves its group a moment later. */
static bool remove_directory(const std::string &path)
{
	for (int tries = 0; ::rmdir(path.c_str()); tries++) {
		if (tries == 100)
			return errno == ENOENT;
		std::this_thread::sleep_for(std::chrono::milliseconds(20));
	}
	return true;
}

std::optional<std::string> Cgroup::lacking(const std::vector<std::string> &controllers)
{
	const auto text = read_file(root + "/cgroup.controllers");
	std::istringstream words(text.value_or(""));
	std::vector<std::string> all;

	if (!text)
		return "no cgroup of version 2 at " + root;
	for (std::string word; words >> word;)
		all.push_back(word);
	for (const auto &controller : controllers)
		if (std::ranges::find(all, controller) == all.end())
			return "this kernel has no controller " + controller +
			       " in version 2 of cgroup";
	if (::access((root + "/cgroup.procs").c_str(), W_OK))
		return root + " is not writable";
	return std::nullopt;
}

Cgroup::Cgroup(const std::string &name, const std::vector<std::string> &controllers)
	: path_(root + group_name + "." + name)
{
	const std::string control = root + "/cgroup.subtree_control";
	std::istringstream others(read_file(control).value_or(""));

	/* What was on for another case would count here, too. */
	for (std::string controller; others >> controller;)
		if (std::ranges::find(controllers, controller) == controllers.end())
			write(control, "-" + controller);
	for (const auto &controller : controllers)
		write(control, "+" + controller);
	remove();
	if (::mkdir(path_.c_str(), 0755))
		throw std::runtime_error("cannot make " + path_);
}

bool Cgroup::remove()
{
	return remove_directory(path_);
}

void Cgroup::enter() const
{
	set("cgroup.procs", "0");
}

void Cgroup::leave()
{
	write(root + "/cgroup.procs", "0");
}

void Cgroup::set(const std::string &file, const std::string &value) const
{
	write(path_ + "/" + file, value);
}

std::string Cgroup::get(const std::string &file) const
{
	return read_file(path_ + "/" + file).value_or("");
}

std::int64_t Cgroup::number(const std::string &file) const
{
	const std::string text = get(file);

	return text.empty() ? -1 : std::strtoll(text.c_str(), nullptr, 10);
}

std::int64_t Cgroup::number(const std::string &file, const std::string &key) const
{
	std::istringstream lines(get(file));
	std::string word;
	std::int64_t value;

	while (lines >> word >> value)
		if (word == key)
			return value;
	return -1;
}

std::int64_t Cgroup::kernel_bytes() const
{
	/* Changes that a CPU may keep to itself, twice over: the reader wants more of them. */
	constexpr std::size_t batch = 2 * 64;
	const std::size_t size =
		batch * static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_ONLN) + 1) * page;
	const Memory pages = Memory::map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	std::int64_t kernel;

	/*
	 * The kernel adds up what its CPUs have counted when that is much. So make it much: each
	 * small page is counted on its own. That they are seen shows that it has been done.
	 */
	::madvise(pages.data(), size, MADV_NOHUGEPAGE);
	populate(pages);
	kernel = number("memory.stat", "kernel");
	if (number("memory.stat", "anon") < static_cast<std::int64_t>(size / 2))
		throw std::runtime_error("the memory of " + path_ + " is not up to date");
	return kernel - number("memory.stat", "pagetables");
}

std::size_t Cgroup::charged(const Memory &memory) const
{
	const Fd groups(::open("/proc/kpagecgroup", O_RDONLY | O_CLOEXEC));
	struct stat own = {};
	std::size_t pages = 0;

	if (::stat(path_.c_str(), &own))
		throw std::runtime_error("cannot stat " + path_);
	for (const std::uint64_t pfn : pfns_of(memory)) {
		/* Of a huge page, the first one knows. */
		for (const std::uint64_t of : {pfn, pfn & ~std::uint64_t{511}}) {
			std::uint64_t group = 0;

			if (::pread(groups.get(), &group, sizeof(group),
				    static_cast<off_t>(of * sizeof(group))) != sizeof(group))
				throw std::runtime_error("/proc/kpagecgroup");
			if (group) {
				pages += group == own.st_ino;
				break;
			}
		}
	}
	return pages;
}

/* Those that are not named are off. */
static bool remount(const std::string &options)
{
	return !::mount(nullptr, root.c_str(), nullptr, MS_REMOUNT, options.c_str());
}

CgroupOption::CgroupOption(const std::string &option)
{
	if (!remount(option))
		throw std::runtime_error(root + " cannot be mounted with " + option);
}

CgroupOption::~CgroupOption()
{
	remount("");
}

std::optional<CgroupV1> CgroupV1::mount(const std::string &controller)
{
	const std::string path = "/tmp/vfio_mt_selftest." + controller;

	::mkdir(path.c_str(), 0700);
	if (::mount("cgroup", path.c_str(), "cgroup", 0, controller.c_str()))
		return std::nullopt;
	CgroupV1 group(path);

	if (::mkdir((path + group_name).c_str(), 0755))
		return std::nullopt;
	return group;
}

CgroupV1::~CgroupV1()
{
	if (path_.empty())
		return;
	remove_directory(path_ + group_name);
	::umount(path_.c_str());
	::rmdir(path_.c_str());
}

void CgroupV1::enter() const
{
	write(path_ + group_name + "/cgroup.procs", "0");
}

} // namespace selftest
