// SPDX-License-Identifier: GPL-2.0-only
/*
 * Child processes with pipes for notes and for taking turns.
 */
#include "child.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <poll.h>
#include <stdexcept>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace selftest
{

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

struct Pipe {
	Fd read;
	Fd write;

	Pipe()
	{
		int fds[2];

		if (::pipe2(fds, O_CLOEXEC))
			throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
		read = Fd(fds[0]);
		write = Fd(fds[1]);
	}
};

void ChildSync::ready() const
{
	if (::write(to_parent_, "r", 1) != 1)
		::_exit(3);
}

void ChildSync::wait_for_go() const
{
	char byte;

	/* End of file: the parent is gone, nobody is interested any more. */
	if (::read(from_parent_, &byte, 1) != 1)
		::_exit(3);
}

static void write_all(int fd, const std::string &text)
{
	std::size_t done = 0;

	while (done < text.size()) {
		const ssize_t n = ::write(fd, text.data() + done, text.size() - done);

		if (n <= 0)
			::_exit(3);
		done += static_cast<std::size_t>(n);
	}
}

[[noreturn]] static void child_main(const Child::Body &body, const ChildSync &sync, int notes_fd)
{
	Notes notes;

	/* A parent that dies (a time limit, a Ctrl-C) takes its children along. */
	::prctl(PR_SET_PDEATHSIG, SIGKILL);
	try {
		body(notes, sync);
	} catch (const std::exception &e) {
		notes.put("exception", e.what());
	}
	write_all(notes_fd, notes.serialize());
	::_exit(0);
}

Child::Child(const Body &body)
{
	Pipe ready, go, notes;

	std::fflush(nullptr);
	pid_ = ::fork();
	if (pid_ < 0)
		throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
	if (!pid_) {
		ready.read.reset();
		go.write.reset();
		notes.read.reset();
		child_main(body, ChildSync(ready.write.get(), go.read.get()), notes.write.get());
	}
	ready_ = std::move(ready.read);
	go_ = std::move(go.write);
	notes_ = std::move(notes.read);
}

Child::~Child()
{
	if (!reaped_) {
		kill();
		::waitpid(pid_, nullptr, 0);
	}
}

bool Child::wait_ready(std::chrono::seconds limit)
{
	pollfd waiting = {.fd = ready_.get(), .events = POLLIN, .revents = 0};
	char byte;

	if (::poll(&waiting, 1, static_cast<int>(limit.count() * 1000)) != 1)
		return false;
	return ::read(ready_.get(), &byte, 1) == 1;
}

void Child::go() const
{
	/* A child that died has no reader; its ending tells, not a SIGPIPE here. */
	const auto before = std::signal(SIGPIPE, SIG_IGN);
	const ssize_t n = ::write(go_.get(), "g", 1);

	std::signal(SIGPIPE, before);
	static_cast<void>(n);
}

bool Child::ended()
{
	if (!reaped_ && ::waitpid(pid_, &status_, WNOHANG) == pid_)
		reaped_ = true;
	return reaped_;
}

void Child::kill() const
{
	if (!reaped_)
		::kill(pid_, SIGKILL);
}

Notes Child::finish(std::chrono::seconds limit)
{
	const auto until = Clock::now() + limit;
	std::string text;
	char buffer[4096];

	/* Notes first: a child with many would else block on its full pipe. */
	for (;;) {
		const auto left =
			std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
		pollfd waiting = {.fd = notes_.get(), .events = POLLIN, .revents = 0};

		if (left <= 0ms || ::poll(&waiting, 1, static_cast<int>(left.count())) != 1) {
			timed_out_ = true;
			kill();
			break;
		}
		const ssize_t n = ::read(notes_.get(), buffer, sizeof(buffer));

		if (n <= 0)
			break;
		text.append(buffer, static_cast<std::size_t>(n));
	}
	if (!reaped_ && ::waitpid(pid_, &status_, 0) == pid_)
		reaped_ = true;
	return text.empty() ? Notes() : Notes::parse(text);
}

std::string Child::ending() const
{
	if (timed_out_)
		return "timed out";
	if (WIFSIGNALED(status_))
		return std::string("signal SIG") + ::sigabbrev_np(WTERMSIG(status_));
	return "exit " + std::to_string(WEXITSTATUS(status_));
}

Notes run_child(const std::function<void(Notes &)> &body, std::chrono::seconds limit)
{
	Child child([&](Notes &notes, const ChildSync &) { body(notes); });
	Notes notes = child.finish(limit);

	if (child.ending() != "exit 0")
		notes.put("ended", child.ending());
	return notes;
}

} // namespace selftest
