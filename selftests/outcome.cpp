// SPDX-License-Identifier: GPL-2.0-only
/*
 * Observations and the outcome file: conversion to and from JSON.
 */
#include "outcome.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace selftest
{

/* ordered_json keeps the keys of an object in the order they were written. */
using json = nlohmann::ordered_json;

static json to_json(const Value &value)
{
	return std::visit([](const auto &v) { return json(v); }, value);
}

static Value from_json(const json &j)
{
	if (j.is_boolean())
		return Value{j.get<bool>()};
	if (j.is_number_integer())
		return Value{j.get<std::int64_t>()};
	return Value{j.get<std::string>()};
}

static json to_json(const Notes &notes)
{
	json list = json::array();

	for (const auto &[key, value] : notes.items())
		list.push_back(json::array({key, to_json(value)}));
	return list;
}

static Notes notes_from_json(const json &list)
{
	Notes notes;

	for (const auto &item : list)
		notes.put_value(item.at(0).get<std::string>(), from_json(item.at(1)));
	return notes;
}

std::string show(const Value &value)
{
	if (const auto *text = std::get_if<std::string>(&value))
		return *text;
	return to_json(value).dump();
}

std::string hex(std::uint64_t v)
{
	char text[32];

	std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(v));
	return text;
}

std::string errno_name(int err)
{
	if (!err)
		return "ok";
	const char *name = strerrorname_np(err);

	return name ? name : "errno " + std::to_string(err);
}

void Notes::put_value(const std::string &key, Value value)
{
	if (find(key))
		throw std::logic_error("observation \"" + key + "\" recorded twice");
	items_.emplace_back(key, std::move(value));
}

void Notes::append(const std::string &prefix, const Notes &other)
{
	for (const auto &[key, value] : other.items())
		put_value(prefix + key, value);
}

const Value *Notes::find(std::string_view key) const
{
	for (const auto &[k, v] : items_)
		if (k == key)
			return &v;
	return nullptr;
}

std::string Notes::text(std::string_view key) const
{
	const Value *value = find(key);

	return value ? show(*value) : std::string();
}

std::string Notes::serialize() const
{
	return to_json(*this).dump();
}

Notes Notes::parse(const std::string &text)
{
	return notes_from_json(json::parse(text));
}

void Outcome::save(const std::string &path) const
{
	json root;

	root["schema"] = 1;
	root["driver"] = driver;
	root["module"] = module;
	root["iommu"] = iommu;
	root["kernel"] = kernel;
	root["cases"] = json::array();
	for (const auto &c : cases) {
		json j;

		j["name"] = c.name;
		j["result"] = c.result;
		if (!c.reason.empty())
			j["reason"] = c.reason;
		if (!c.needs.empty())
			j["needs"] = c.needs;
		if (!c.covers.empty())
			j["covers"] = c.covers;
		j["observed"] = to_json(c.notes);
		root["cases"].push_back(std::move(j));
	}

	std::ofstream out(path);
	out << root.dump(1) << '\n';
	out.flush();
	if (!out)
		throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
}

Outcome Outcome::load(const std::string &path)
{
	std::ifstream in(path);
	if (!in)
		throw std::runtime_error("cannot read " + path + ": " + std::strerror(errno));
	const json root = json::parse(in);

	if (root.at("schema").get<int>() != 1)
		throw std::runtime_error(path + ": unknown schema");
	Outcome outcome;

	outcome.driver = root.at("driver").get<std::string>();
	outcome.module = root.at("module").get<std::string>();
	outcome.iommu = root.at("iommu").get<std::string>();
	outcome.kernel = root.at("kernel").get<std::string>();
	for (const auto &j : root.at("cases")) {
		CaseOutcome c;

		c.name = j.at("name").get<std::string>();
		c.result = j.at("result").get<std::string>();
		c.reason = j.value("reason", std::string());
		c.needs = j.value("needs", std::vector<std::string>());
		c.covers = j.value("covers", std::vector<std::string>());
		c.notes = notes_from_json(j.at("observed"));
		outcome.cases.push_back(std::move(c));
	}
	return outcome;
}

} // namespace selftest
