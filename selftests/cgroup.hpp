/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Control groups made for a case: of version 2, below the root group, and of
 * version 1, in a hierarchy of their own.
 */
#pragma once

#include "memory.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace selftest
{

/* A group of version 2 that is removed at the end. */
class Cgroup
{
public:
	/* Why there can be no group with these controllers; nothing if there can. */
	static std::optional<std::string> lacking(const std::vector<std::string> &controllers);

	/* With these controllers and no others. Throws when it cannot be made. */
	Cgroup(const std::string &name, const std::vector<std::string> &controllers);
	Cgroup(const Cgroup &) = delete;
	Cgroup &operator=(const Cgroup &) = delete;
	~Cgroup() { remove(); }

	/* Move the calling process into it. Throws when that is refused. */
	void enter() const;
	/* Move the calling process into the root group. Throws when that is refused. */
	static void leave();
	/* Throws when the value is refused. */
	void set(const std::string &file, const std::string &value) const;
	std::string get(const std::string &file) const;
	/* The number in a file, or behind a key in one; -1 when it is not there. */
	std::int64_t number(const std::string &file) const;
	std::int64_t number(const std::string &file, const std::string &key) const;
	/*
	 * Memory that the kernel has allocated for processes in this group and charged to it,
	 * without page tables: exact, but for a page or two of each CPU. Whatever else the
	 * kernel allocates or frees meanwhile is not in it. Needs the controller "memory"; the
	 * caller is in the group.
	 */
	std::int64_t kernel_bytes() const;
	/* Of so many pages of this process's memory, how many are charged to it? */
	std::size_t charged(const Memory &memory) const;
	/* False while something keeps it. */
	bool remove();

private:
	std::string path_;
};

/* The hierarchy of version 2 has a mount option, for a while. Throws when it cannot. */
class CgroupOption
{
public:
	explicit CgroupOption(const std::string &option);
	CgroupOption(const CgroupOption &) = delete;
	CgroupOption &operator=(const CgroupOption &) = delete;
	~CgroupOption();
};

/* A hierarchy of version 1 with one controller and one group. */
class CgroupV1
{
public:
	/* Nothing when the controller cannot be had. */
	static std::optional<CgroupV1> mount(const std::string &controller);

	CgroupV1(CgroupV1 &&other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
	CgroupV1 &operator=(CgroupV1 &&) = delete;
	~CgroupV1();

	void enter() const;

private:
	explicit CgroupV1(std::string path) : path_(std::move(path)) {}

	std::string path_;
};

} // namespace selftest
