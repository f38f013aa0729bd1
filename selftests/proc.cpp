// SPDX-License-Identifier: GPL-2.0-only
/*
 * Readers of /proc and /sys.
 */
#include "proc.hpp"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <sys/utsname.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace selftest
{

std::optional<std::string> read_file(const std::string &path)
{
	std::ifstream in(path);
	if (!in)
		return std::nullopt;
	std::ostringstream text;

	text << in.rdbuf();
	return text.str();
}

bool write_file(const std::string &path, const std::string &text)
{
	std::ofstream out(path);

	out << text;
	out.flush();
	return out.good();
}

/* The number after "KEY" at the start of a line. */
static std::optional<std::int64_t> field_of(const std::string &text, const std::string &key)
{
	const std::size_t at = ('\n' + text).find('\n' + key);

	if (at == std::string::npos)
		return std::nullopt;
	return std::strtoll(text.c_str() + at + key.size(), nullptr, 10);
}

/* Likewise in a /proc file. */
static std::optional<std::int64_t> field(const std::string &path, const std::string &key)
{
	return field_of(read_file(path).value_or(""), key);
}

std::int64_t vm_locked_pages()
{
	return field("/proc/self/status", "VmLck:").value_or(-1) / 4;
}

std::int64_t vm_pinned_pages()
{
	return field("/proc/self/status", "VmPin:").value_or(-1) / 4;
}

std::optional<std::int64_t> pin_balance()
{
	/* Counters are kept per CPU and folded lazily; this file folds them now. */
	write_file("/proc/sys/vm/stat_refresh", "1\n");
	const std::string counters = read_file("/proc/vmstat").value_or("");
	const auto acquired = field_of(counters, "nr_foll_pin_acquired ");
	const auto released = field_of(counters, "nr_foll_pin_released ");

	if (!acquired || !released)
		return std::nullopt;
	return *acquired - *released;
}

std::int64_t meminfo(const std::string &name)
{
	return field("/proc/meminfo", name + ":").value_or(-1);
}

std::size_t anon_huge_bytes(const void *addr, std::size_t size)
{
	const auto begin = reinterpret_cast<std::uintptr_t>(addr);
	const auto end = begin + size;
	std::ifstream in("/proc/self/smaps");
	std::string line;
	std::size_t total = 0;
	bool inside = false;

	while (std::getline(in, line)) {
		unsigned long lo, hi;
		long kib;

		if (std::sscanf(line.c_str(), "%lx-%lx ", &lo, &hi) == 2)
			inside = lo < end && hi > begin;
		else if (inside && std::sscanf(line.c_str(), "AnonHugePages: %ld", &kib) == 1)
			total += static_cast<std::size_t>(kib) * 1024;
	}
	return total;
}

std::optional<std::int64_t> free_huge_pages(std::size_t page_size)
{
	const auto text = read_file("/sys/kernel/mm/hugepages/hugepages-" +
				    std::to_string(page_size / 1024) + "kB/free_hugepages");

	if (!text)
		return std::nullopt;
	return std::strtoll(text->c_str(), nullptr, 10);
}

std::optional<std::int64_t> module_refs(const std::string &module)
{
	const auto text = read_file("/sys/module/" + module + "/refcnt");

	if (!text)
		return std::nullopt;
	return std::strtoll(text->c_str(), nullptr, 10);
}

static std::string parameter_path(const std::string &module, const std::string &name)
{
	return "/sys/module/" + module + "/parameters/" + name;
}

std::optional<std::string> module_parameter(const std::string &module, const std::string &name)
{
	auto text = read_file(parameter_path(module, name));

	if (text && !text->empty() && text->back() == '\n')
		text->pop_back();
	return text;
}

bool set_module_parameter(
	const std::string &module, const std::string &name, const std::string &value)
{
	return write_file(parameter_path(module, name), value + "\n");
}

KernelLog::KernelLog() : fd_(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC))
{
	if (fd_ >= 0)
		::lseek(fd_, 0, SEEK_END);
}

KernelLog::~KernelLog()
{
	if (fd_ >= 0)
		::close(fd_);
}

bool KernelLog::waits_for(const std::string &text, std::chrono::milliseconds limit) const
{
	const auto until = std::chrono::steady_clock::now() + limit;
	char record[8192];

	do {
		/* One record for each read; an error is "nothing yet" or "you missed some". */
		const ssize_t n = ::read(fd_, record, sizeof(record));

		if (n > 0 && std::string(record, static_cast<std::size_t>(n)).find(text) !=
				     std::string::npos)
			return true;
		if (n <= 0)
			std::this_thread::sleep_for(std::chrono::milliseconds(10));
	} while (std::chrono::steady_clock::now() < until);
	return false;
}

std::vector<pid_t> tasks_named(const std::string &dir, const std::string &prefix)
{
	std::vector<pid_t> found;
	std::error_code none;

	for (const auto &entry : std::filesystem::directory_iterator(dir, none)) {
		const std::string name = entry.path().filename();
		pid_t pid = 0;

		std::from_chars(name.data(), name.data() + name.size(), pid);
		if (pid && read_file(entry.path() / "comm").value_or("").starts_with(prefix))
			found.push_back(pid);
	}
	return found;
}

bool helpers_are_threads()
{
	return !kernel_before(6, 12);
}

std::string kernel_release()
{
	utsname name;

	return uname(&name) ? "unknown" : name.release;
}

bool kernel_before(unsigned major, unsigned minor)
{
	unsigned is_major = 0, is_minor = 0;

	if (std::sscanf(kernel_release().c_str(), "%u.%u", &is_major, &is_minor) != 2)
		throw std::runtime_error("no kernel release: " + kernel_release());
	return std::pair(is_major, is_minor) < std::pair(major, minor);
}

int error_of_wrapping()
{
	return kernel_before(7, 2) ? EINVAL : EOVERFLOW;
}

std::int64_t charge_of_zero_pages(std::int64_t pages)
{
	return kernel_before(6, 2) ? 0 : pages;
}

std::string iommu_kind()
{
	std::error_code none;

	for (const auto &entry : std::filesystem::directory_iterator("/sys/class/iommu", none)) {
		const std::string name = entry.path().filename();

		if (name.starts_with("dmar"))
			return "intel";
		if (name.starts_with("ivhd"))
			return "amd";
		if (name.starts_with("vfio_mt_mock"))
			return "mock";
		/* It is named after its PCI device. */
		if (std::filesystem::read_symlink(entry.path() / "device/driver", none)
				.filename() == "virtio_iommu")
			return "virtio";
	}
	return "unknown";
}

} // namespace selftest
