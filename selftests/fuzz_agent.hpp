/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Another process that has a fuzzed container: it maps memory of its own, takes
 * mappings over, and is killed with them. It does one call at a time, when told.
 */
#pragma once

#include "child.hpp"
#include "memory.hpp"
#include "vfio.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace selftest
{

class Agent
{
public:
	static constexpr std::size_t pages = 64;

	/*
	 * Forks. The child keeps the container and closes all of fds. Its memory has
	 * tags: those of its pages are first_tag, first_tag + 1 and so on.
	 */
	Agent(const Container &container, const std::vector<int> &fds, std::uint32_t first_tag);

	/* The child's memory, at its own addresses. */
	std::uint64_t address(std::size_t at) const { return address_ + at * page; }

	Result map(std::uint64_t iova, std::uint64_t vaddr, std::uint64_t size,
		std::uint32_t flags) const;
	Result unmap(std::uint64_t iova, std::uint64_t size, std::uint32_t flags) const;
	std::int64_t vm_locked() const;

	/* By SIGKILL; returns when it is gone. */
	void kill();

private:
	struct Call {
		enum { map, unmap, locked } what;
		std::uint64_t iova, vaddr, size;
		std::uint32_t flags;
	};

	Result call(const Call &call) const;
	static void serve(const Container &container, int socket);

	Fd socket_;
	std::uint64_t address_ = 0;
	std::unique_ptr<Child> child_;
};

} // namespace selftest
