// SPDX-License-Identifier: GPL-2.0-only
/*
 * Comparison of two outcome files.
 */
#include "diff.hpp"

#include "outcome.hpp"

#include <algorithm>
#include <cstdio>
#include <fnmatch.h>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stdexcept>
#include <vector>

namespace selftest
{

struct Allowed {
	std::string case_name;
	std::string key;
	std::string reason;
	std::optional<std::string> ours; /* what our driver must show */
	std::size_t used = 0;
};

static bool matches(const std::string &pattern, const std::string &text)
{
	return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

/* The entry's value as values are shown. */
static std::string shown(const nlohmann::json &value)
{
	if (value.is_boolean())
		return show(to_value(value.get<bool>()));
	if (value.is_number_integer())
		return show(to_value(value.get<std::int64_t>()));
	return show(to_value(value.get<std::string>()));
}

/* "iommu" is one of them or a list; without it, an entry is for all. */
static bool is_for_iommu(const nlohmann::json &entry, const std::string &iommu)
{
	const auto it = entry.find("iommu");

	if (it == entry.end())
		return true;
	return it->is_array() ? std::find(it->begin(), it->end(), iommu) != it->end()
			      : *it == iommu;
}

/* Those that may occur on the IOMMU and the kernel of @outcome. */
static std::vector<Allowed> load_allowed(const std::string &path, const Outcome &outcome)
{
	std::vector<Allowed> list;

	if (path.empty())
		return list;
	std::ifstream in(path);
	if (!in)
		throw std::runtime_error("cannot read " + path);
	for (const auto &j : nlohmann::json::parse(in)) {
		Allowed allowed{.case_name = j.at("case").get<std::string>(),
			.key = j.at("key").get<std::string>(),
			.reason = j.at("reason").get<std::string>(),
			.ours = std::nullopt};

		if (j.contains("mt"))
			allowed.ours = shown(j.at("mt"));
		if (allowed.reason.empty())
			throw std::runtime_error(path + ": an entry without a reason");
		if (is_for_iommu(j, outcome.iommu) &&
			matches(j.value("kernel", "*"), outcome.kernel))
			list.push_back(std::move(allowed));
	}
	return list;
}

class Comparison
{
public:
	Comparison(const Outcome &a, const Outcome &b, std::vector<Allowed> allowed)
		: label_a_(a.driver == b.driver ? "first" : a.driver),
		  label_b_(a.driver == b.driver ? "second" : b.driver), a_is_ours_(is_ours(a)),
		  b_is_ours_(is_ours(b)), allowed_(std::move(allowed))
	{
	}

	void compare(const CaseOutcome &a, const CaseOutcome &b)
	{
		compare_value(a.name, "result", a.result, b.result);
		if (a.result == "skipped" && b.result == "skipped") {
			skipped_++;
			return;
		}
		std::set<std::string> seen;
		for (const auto &[key, value] : a.notes.items()) {
			const Value *other = b.notes.find(key);

			seen.insert(key);
			compare_value(
				a.name, key, show(value), other ? show(*other) : "(not observed)");
		}
		for (const auto &[key, value] : b.notes.items())
			if (!seen.contains(key))
				compare_value(a.name, key, "(not observed)", show(value));
		compared_++;
	}

	void missing(const std::string &case_name, bool in_a)
	{
		compare_value(case_name, "case", in_a ? "absent" : "present",
			in_a ? "present" : "absent");
	}

	int finish()
	{
		int unused = 0;

		for (const auto &allowed : allowed_) {
			if (allowed.used)
				continue;
			unused++;
			std::printf("UNUSED     %s %s: an allowed difference that did not occur "
				    "(%s)\n",
				allowed.case_name.c_str(), allowed.key.c_str(),
				allowed.reason.c_str());
		}
		std::printf("%zu cases compared, %zu values equal, %zu different, %zu allowed "
			    "differences, %d allowed but unused, %zu skipped in both\n",
			compared_, equal_, different_, deliberate_, unused, skipped_);
		return different_ || unused || !compared_ ? 1 : 0;
	}

private:
	void compare_value(const std::string &case_name, const std::string &key,
		const std::string &a, const std::string &b)
	{
		if (a == b) {
			equal_++;
			return;
		}
		Allowed *allowed = find_allowed(case_name, key);
		const bool right = allowed && is_right(*allowed, a, b);

		if (allowed)
			allowed->used++;
		(right ? deliberate_ : different_)++;
		std::printf("%s %s %s: %s %s, %s %s%s%s%s\n", right ? "allowed   " : "DIFFERENT ",
			case_name.c_str(), key.c_str(), label_a_.c_str(), a.c_str(),
			label_b_.c_str(), b.c_str(), allowed ? "  -- " : "",
			allowed ? allowed->reason.c_str() : "",
			allowed && !right ? "; but ours must show another value" : "");
	}

	static bool is_ours(const Outcome &outcome) { return outcome.driver == "mt"; }

	/* What is allowed is that the stock driver does it in another way, not what ours does. */
	bool is_right(const Allowed &allowed, const std::string &a, const std::string &b) const
	{
		return !allowed.ours ||
		       ((!a_is_ours_ || a == *allowed.ours) && (!b_is_ours_ || b == *allowed.ours));
	}

	Allowed *find_allowed(const std::string &case_name, const std::string &key)
	{
		for (auto &allowed : allowed_)
			if (matches(allowed.case_name, case_name) && matches(allowed.key, key))
				return &allowed;
		return nullptr;
	}

	std::string label_a_, label_b_;
	bool a_is_ours_, b_is_ours_;
	std::vector<Allowed> allowed_;
	std::size_t equal_ = 0, different_ = 0, deliberate_ = 0, compared_ = 0, skipped_ = 0;
};

int diff(const std::string &path_a, const std::string &path_b, const std::string &allow_file)
{
	const Outcome a = Outcome::load(path_a);
	const Outcome b = Outcome::load(path_b);
	Comparison comparison(a, b, load_allowed(allow_file, a));
	std::map<std::string, const CaseOutcome *> of_b;

	std::printf("%s: %s on %s, kernel %s\n%s: %s on %s, kernel %s\n", path_a.c_str(),
		a.driver.c_str(), a.iommu.c_str(), a.kernel.c_str(), path_b.c_str(),
		b.driver.c_str(), b.iommu.c_str(), b.kernel.c_str());
	for (const auto &c : b.cases)
		of_b[c.name] = &c;
	for (const auto &c : a.cases) {
		const auto other = of_b.find(c.name);

		if (other == of_b.end()) {
			comparison.missing(c.name, false);
			continue;
		}
		comparison.compare(c, *other->second);
		of_b.erase(other);
	}
	for (const auto &[name, c] : of_b)
		comparison.missing(name, true);
	return comparison.finish();
}

} // namespace selftest
