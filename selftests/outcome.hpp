/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a case observed, as an ordered list of key and value, and the file that
 * keeps it for all cases of a run.
 *
 * The suite is differential: the same cases run against the stock driver and
 * against ours, and the two files are compared (diff.cpp). So only what the
 * driver decides may go in here: no times, addresses, pids or free memory.
 */
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace selftest
{

using Value = std::variant<bool, std::int64_t, std::string>;

/* "17", "true", "EINVAL": how a value is shown to people. */
std::string show(const Value &value);

/* One conversion point, so that size_t, enums of errno and literals do not become bool. */
inline Value to_value(bool v)
{
	return Value{v};
}
template <std::integral T>
requires(!std::same_as<T, bool>) Value to_value(T v)
{
	return Value{static_cast<std::int64_t>(v)};
}
inline Value to_value(std::string v)
{
	return Value{std::move(v)};
}
inline Value to_value(const char *v)
{
	return Value{std::string(v)};
}
inline Value to_value(std::string_view v)
{
	return Value{std::string(v)};
}

/* Addresses and masks: more readable in hex, and u64 does not fit a JSON int. */
std::string hex(std::uint64_t v);
/* "ok" or "EINVAL". */
std::string errno_name(int err);

class Notes
{
public:
	using Item = std::pair<std::string, Value>;

	/* A key may be used once a case: a second use is a mistake in the case. */
	template <class T> void put(const std::string &key, T value)
	{
		put_value(key, to_value(std::move(value)));
	}
	void put_value(const std::string &key, Value value);
	/* All of other's items, each key prefixed. */
	void append(const std::string &prefix, const Notes &other);

	const std::vector<Item> &items() const { return items_; }
	const Value *find(std::string_view key) const;
	/* The value as text, "" where there is none: for expectations on a child's notes. */
	std::string text(std::string_view key) const;

	/* JSON text, to pass through a pipe from a child process. */
	std::string serialize() const;
	static Notes parse(const std::string &text);

private:
	std::vector<Item> items_;
};

struct CaseOutcome {
	std::string name;
	std::string result;		 /* passed, failed or skipped */
	std::string reason;		 /* of a skip, or what failed first */
	std::vector<std::string> needs;	 /* what the machine must have: devices>=2 … */
	std::vector<std::string> covers; /* KB01…: numbers in the list of known bugs */
	Notes notes;
};

struct Outcome {
	std::string driver; /* stock, mt or unknown: who answered */
	std::string module;
	std::string iommu; /* as iommu_kind() says */
	std::string kernel;
	std::vector<CaseOutcome> cases;

	void save(const std::string &path) const;
	static Outcome load(const std::string &path);
};

} // namespace selftest
