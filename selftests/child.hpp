/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Part of a case in a child process: for limits, exits, exec, kills, another
 * mm. The child makes no gtest assertion; it notes what it sees, and the
 * parent gets the notes.
 */
#pragma once

#include "outcome.hpp"
#include "vfio.hpp"

#include <chrono>
#include <functional>
#include <sys/types.h>

namespace selftest
{

/* The child's end: it can stop at a point and let the parent do something. */
class ChildSync
{
public:
	ChildSync(int to_parent, int from_parent) : to_parent_(to_parent), from_parent_(from_parent)
	{
	}
	void ready() const;	  /* tell the parent that this point is reached */
	void wait_for_go() const; /* sleep until the parent says go() */
	void ready_and_wait() const
	{
		ready();
		wait_for_go();
	}

private:
	int to_parent_;
	int from_parent_;
};

class Child
{
public:
	using Body = std::function<void(Notes &, const ChildSync &)>;

	/* Forks; the child runs body, hands over its notes, and _exit()s. */
	explicit Child(const Body &body);
	Child(const Child &) = delete;
	Child &operator=(const Child &) = delete;
	~Child(); /* kills a child that is still there */

	pid_t pid() const { return pid_; }
	/* False when the child ended, or time ran out, before its ready(). */
	bool wait_ready(std::chrono::seconds limit = std::chrono::seconds(60));
	void go() const;
	/* Ended yet? Does not wait. */
	bool ended();
	void kill() const;

	/* Waits (and kills after the limit). What it noted; status is waitpid's. */
	Notes finish(std::chrono::seconds limit = std::chrono::seconds(60));
	int status() const { return status_; }
	bool timed_out() const { return timed_out_; }
	/* "exit 0", "signal SIGKILL", "timed out": for the outcome. */
	std::string ending() const;

private:
	pid_t pid_ = -1;
	Fd ready_;
	Fd go_;
	Fd notes_;
	int status_ = 0;
	bool reaped_ = false;
	bool timed_out_ = false;
};

/* The common case: run to the end, and give the notes ("ended" says how, if not well). */
Notes run_child(const std::function<void(Notes &)> &body,
	std::chrono::seconds limit = std::chrono::seconds(60));

} // namespace selftest
