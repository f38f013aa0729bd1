/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Readers of what the kernel tells about memory and modules: /proc/self/status,
 * /proc/meminfo, /proc/vmstat, smaps, the hugetlb pools, module references.
 */
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace selftest
{

std::optional<std::string> read_file(const std::string &path);
bool write_file(const std::string &path, const std::string &text);

/* Of this process, in 4 KiB pages. type1 charges VmLck; VmPin must never move. */
std::int64_t vm_locked_pages();
std::int64_t vm_pinned_pages();

/*
 * Pages pinned and not yet unpinned by anybody (nr_foll_pin_acquired less
 * nr_foll_pin_released), exact: the per-CPU parts are folded in first. Nothing
 * on kernels that do not count it.
 */
std::optional<std::int64_t> pin_balance();

/* A field of /proc/meminfo in KiB (or a count, for HugePages_*). */
std::int64_t meminfo(const std::string &field);

/* Bytes of [addr, addr + size) that THP really backs, from smaps. */
std::size_t anon_huge_bytes(const void *addr, std::size_t size);

/* Free pages in the hugetlb pool of this page size; nothing when there is no such pool. */
std::optional<std::int64_t> free_huge_pages(std::size_t page_size);

/* Module reference count; nothing when the module is not loaded (or built in). */
std::optional<std::int64_t> module_refs(const std::string &module);

/* /sys/module/MODULE/parameters/NAME, without its newline. */
std::optional<std::string> module_parameter(const std::string &module, const std::string &name);
bool set_module_parameter(
	const std::string &module, const std::string &name, const std::string &value);

/* The kernel log from now on. */
class KernelLog
{
public:
	KernelLog();
	~KernelLog();
	KernelLog(const KernelLog &) = delete;
	KernelLog &operator=(const KernelLog &) = delete;

	bool readable() const { return fd_ >= 0; }
	/* Does a line with this text come within the time? */
	bool waits_for(const std::string &text, std::chrono::milliseconds limit) const;

private:
	int fd_;
};

/*
 * Tasks below a folder, /proc or /proc/PID/task, whose name begins so; the whole name
 * ends with a newline.
 */
std::vector<pid_t> tasks_named(const std::string &dir, const std::string &prefix);

/*
 * Our backend's helpers are threads of the process that calls, unless there is a reason
 * for them to be the kernel's.
 */
bool helpers_are_threads();

std::string kernel_release();

/* Is the kernel older than that release? */
bool kernel_before(unsigned major, unsigned minor);

/*
 * What a range that wraps around is refused with: EINVAL, and from Linux 7.2 on EOVERFLOW,
 * whatever else is wrong with it.
 */
int error_of_wrapping();

/*
 * How many of so many zero pages are charged, and pinned, when they are mapped for
 * reading. From Linux 6.2 on, real pages take their place.
 */
std::int64_t charge_of_zero_pages(std::int64_t pages);
/* intel, amd, virtio, mock or unknown, by the units under /sys/class/iommu. */
std::string iommu_kind();

} // namespace selftest
