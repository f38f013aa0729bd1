/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's fault injection, for the calling thread: its n-th allocation fails, or all
 * from the n-th on. Needs a kernel that was built for it (guest/run --kernel debug) and
 * debugfs.
 */
#pragma once

#include "vfio.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace selftest
{

/* What fails between arm() and disarm(). */
enum class FaultKind {
	nth,	    /* the n-th of all that can fail: slab, pages, copies from and to user space */
	pages_from, /* every page allocation from the n-th on */
	slab_from,  /* every slab allocation after n bytes of them */
};

const char *name(FaultKind kind);

/* What came of it. */
struct FaultHit {
	std::int64_t failures = 0;
	/* One of them was a copy from or to user space. */
	bool usercopy = false;
	/* slab_from: bytes allocated before the first failure */
	std::int64_t passed = 0;
};

class Faults
{
public:
	/* For the calling thread, which must be the one that is to meet the failures. */
	static std::optional<Faults> open(std::string &why_not);

	/*
	 * Nothing between these two may touch memory for the first time: where a page fault of
	 * user space finds no memory, the kernel tries again and again.
	 */
	void arm(FaultKind kind, std::uint64_t n);
	FaultHit disarm();

	/* Settings for other threads that the test module marks: all that the kind says fails. */
	void set_up(FaultKind kind, std::uint64_t n);
	FaultHit tear_down();

private:
	Faults() = default;

	void set(const std::string &file, std::uint64_t value);
	std::int64_t new_failures(const std::string &folder);

	FaultKind kind_ = FaultKind::nth;
	std::uint64_t n_ = 0;
	Fd fail_nth_, make_it_fail_;
	/* What was written to files last, and how often each kind may still fail. */
	std::map<std::string, std::uint64_t> settings_;
	std::map<std::string, std::int64_t> times_;
};

} // namespace selftest
