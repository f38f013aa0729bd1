/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a fuzzed sequence tells: the step it is at, what the latest ones did, and what was
 * not as the model says.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

namespace selftest
{

/* Something was not as the model says. */
class FuzzMismatch : public std::runtime_error
{
	using std::runtime_error::runtime_error;
};

class FuzzTeller
{
public:
	using Log = std::function<void(std::uint64_t step, const std::string &)>;

	/* Called for each step with what it did and saw. */
	void set_log(Log log) { log_ = std::move(log); }
	/* The latest steps. */
	const std::deque<std::string> &history() const { return history_; }

protected:
	/* kind: before the names of steps, in failures */
	explicit FuzzTeller(const char *kind = "") : kind_(kind) {}

	[[noreturn]] void fail(const std::string &what) const
	{
		throw FuzzMismatch("step " + std::to_string(number_) + " (" + kind_ + step_name_ +
				   "): " + what);
	}
	void note(const std::string &text)
	{
		const std::string line = std::string(step_name_) + " " + text;

		history_.push_back(std::to_string(number_) + " " + line);
		if (history_.size() > history_length)
			history_.pop_front();
		if (log_)
			log_(number_, line);
	}

	std::uint64_t number_ = 0;
	const char *step_name_ = "";

private:
	static constexpr std::size_t history_length = 12;

	const char *kind_;
	Log log_;
	std::deque<std::string> history_;
};

} // namespace selftest
