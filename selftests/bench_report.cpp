// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables, JSON and CSV of the benchmark.
 */
#include "bench_report.hpp"

#include "memory.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

namespace selftest
{

using json = nlohmann::ordered_json;

__attribute__((format(printf, 1, 2))) static std::string format(const char *pattern, ...)
{
	char text[512];
	va_list args;

	va_start(args, pattern);
	std::vsnprintf(text, sizeof(text), pattern, args);
	va_end(args);
	return text;
}

static double gb_per_second(double seconds, std::size_t size)
{
	return seconds > 0 ? static_cast<double>(size) / 1e9 / seconds : 0;
}

static double ms_per_gib(double seconds, std::size_t size)
{
	return seconds * 1e3 / (static_cast<double>(size) / static_cast<double>(gib));
}

std::string bench_line(const char *what, double seconds, std::size_t size)
{
	/* More digits where three would be zeroes. */
	return format(seconds < 0.01 ? "VFIO %s DMA in %.6f s (%.1f GB/s)"
				     : "VFIO %s DMA in %.3f s (%.1f GB/s)",
		what, seconds, gb_per_second(seconds, size));
}

std::string size_text(std::size_t bytes)
{
	if (bytes % gib == 0)
		return format("%zu GiB", bytes / gib);
	if (bytes % mib == 0)
		return format("%zu MiB", bytes / mib);
	return format("%zu KiB", bytes / kib);
}

/* Of one driver and configuration, over its repetitions. */
struct Summary {
	std::size_t reps = 0;
	double map = 0, map_min = 0, unmap = 0, unmap_min = 0;
	double huge = -1;
	double busy_map = -1, busy_unmap = -1;
};

static double median(std::vector<double> values)
{
	std::ranges::sort(values);
	const std::size_t n = values.size();

	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static std::optional<Summary> summarize(
	const BenchReport &report, const std::string &driver, const BenchConfig &config)
{
	std::vector<double> map, unmap, busy_map, busy_unmap;
	Summary summary;

	for (const auto &sample : report.samples) {
		if (sample.driver != driver || !(sample.config == config))
			continue;
		map.push_back(sample.map_seconds);
		unmap.push_back(sample.unmap_seconds);
		busy_map.push_back(sample.busy_map);
		busy_unmap.push_back(sample.busy_unmap);
		summary.huge = summary.huge < 0 ? sample.huge : std::min(summary.huge, sample.huge);
	}
	if (map.empty())
		return std::nullopt;
	summary.reps = map.size();
	summary.map = median(map);
	summary.map_min = *std::ranges::min_element(map);
	summary.unmap = median(unmap);
	summary.unmap_min = *std::ranges::min_element(unmap);
	summary.busy_map = median(busy_map);
	summary.busy_unmap = median(busy_unmap);
	return summary;
}

static std::string row_label(const BenchConfig &config)
{
	return format("%-8s %-9s %8s", config.backing.c_str(), config.state.c_str(),
		size_text(config.size).c_str());
}

static std::string remark(const std::optional<Summary> &summary)
{
	std::string text;

	if (summary && summary->huge >= 0 && summary->huge <= 0.999)
		text += format("  only %.0f%% in huge pages", summary->huge * 100);
	if (summary && summary->busy_map >= 0)
		text += format("  busy: %.2f, %.2f", summary->busy_map, summary->busy_unmap);
	return text;
}

static std::string head(const BenchReport &report)
{
	std::string text = format("IOMMU %s, kernel %s, %ld CPUs, %u mapping thread%s",
		report.iommu.c_str(), report.kernel.c_str(), report.cpus, report.threads,
		report.threads == 1 ? "" : "s");

	if (report.chunk)
		text += ", " + size_text(report.chunk) + " in each call";
	text += ". Medians; 1 GB is 10^9 bytes.\n";
	if (report.kill)
		text += "map, unmap: until SIGKILL to the mapping process, in the middle of its "
			"map; "
			"from then on until it is gone\n";
	if (report.exit)
		text += "unmap: from SIGKILL to the mapping process until it is gone\n";
	if (report.busy)
		text += format("busy: how much of a CPU each of %u other process%s had during map "
			       "and unmap\n",
			report.busy, report.busy == 1 ? "" : "es");
	return text;
}

static std::string single_table(const BenchReport &report)
{
	const std::string driver = report.drivers.empty() ? "" : report.drivers.front();
	std::string text = (driver.empty() ? "" : "backend " + driver + ", ") + head(report);

	text += format("%-8s %-9s %8s %10s %9s %10s %10s %9s %10s\n", "backing", "state", "size",
		"map s", "GB/s", "ms/GiB", "unmap s", "GB/s", "ms/GiB");
	for (const auto &config : report.configs) {
		const auto s = summarize(report, driver, config);

		if (!s)
			continue;
		text += row_label(config) +
			format(" %10.4f %9.2f %10.2f %10.4f %9.2f %10.2f", s->map,
				gb_per_second(s->map, config.size), ms_per_gib(s->map, config.size),
				s->unmap, gb_per_second(s->unmap, config.size),
				ms_per_gib(s->unmap, config.size)) +
			remark(s) + "\n";
	}
	return text;
}

static double ratio(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static std::string compare_table(const BenchReport &report)
{
	const std::string &a = report.drivers[0];
	const std::string &b = report.drivers[1];
	std::string text = head(report);

	text += format("%-27s %s\n", "", "map, ms/GiB                      unmap, ms/GiB");
	text += format("%-8s %-9s %8s %10s %10s %8s   %10s %10s %8s\n", "backing", "state", "size",
		a.c_str(), b.c_str(), "ratio", a.c_str(), b.c_str(), "ratio");
	for (const auto &config : report.configs) {
		const auto sa = summarize(report, a, config);
		const auto sb = summarize(report, b, config);

		if (!sa || !sb)
			continue;
		text += row_label(config) +
			format(" %10.2f %10.2f %7.2fx   %10.2f %10.2f %7.2fx",
				ms_per_gib(sa->map, config.size), ms_per_gib(sb->map, config.size),
				ratio(sa->map, sb->map), ms_per_gib(sa->unmap, config.size),
				ms_per_gib(sb->unmap, config.size), ratio(sa->unmap, sb->unmap)) +
			remark(sa) + (remark(sa) == remark(sb) ? "" : remark(sb)) + "\n";
	}
	text += "Who answered was verified at each repetition, by the modules' reference counts.\n";
	return text + format("ratio: how many times as fast as %s the backend %s is\n", a.c_str(),
			      b.c_str());
}

std::string BenchReport::table() const
{
	std::string text = drivers.size() > 1 ? compare_table(*this) : single_table(*this);

	for (const auto &row : not_run)
		text += row_label(row.config) + "  not run: " + row.reason + "\n";
	return text;
}

static json config_json(const BenchConfig &config)
{
	return json{{"backing", config.backing}, {"state", config.state}, {"size", config.size}};
}

static json summary_json(const std::string &driver, const BenchConfig &config, const Summary &s)
{
	json j = config_json(config);

	j["driver"] = driver;
	j["reps"] = s.reps;
	j["map_s"] = s.map;
	j["map_s_min"] = s.map_min;
	j["map_gb_s"] = gb_per_second(s.map, config.size);
	j["map_ms_per_gib"] = ms_per_gib(s.map, config.size);
	j["unmap_s"] = s.unmap;
	j["unmap_s_min"] = s.unmap_min;
	j["unmap_gb_s"] = gb_per_second(s.unmap, config.size);
	j["unmap_ms_per_gib"] = ms_per_gib(s.unmap, config.size);
	if (s.huge >= 0)
		j["huge"] = s.huge;
	if (s.busy_map >= 0) {
		j["busy_map"] = s.busy_map;
		j["busy_unmap"] = s.busy_unmap;
	}
	return j;
}

/* f(driver, config, summary) for each that was measured. */
static void for_each_summary(const BenchReport &report,
	const std::function<void(const std::string &, const BenchConfig &, const Summary &)> &f)
{
	for (const auto &config : report.configs)
		for (const auto &driver : report.drivers)
			if (const auto s = summarize(report, driver, config))
				f(driver, config, *s);
}

std::string BenchReport::json() const
{
	selftest::json root;

	root["schema"] = 1;
	root["iommu"] = iommu;
	root["kernel"] = kernel;
	root["cpus"] = cpus;
	root["threads"] = threads;
	root["chunk"] = chunk;
	root["busy"] = busy;
	root["exit"] = exit;
	root["kill"] = kill;
	root["drivers"] = drivers;
	root["summary"] = selftest::json::array();
	for_each_summary(
		*this, [&](const std::string &driver, const BenchConfig &config, const Summary &s) {
			root["summary"].push_back(summary_json(driver, config, s));
		});
	if (drivers.size() > 1) {
		root["comparison"] = selftest::json::array();
		for (const auto &config : configs) {
			const auto a = summarize(*this, drivers[0], config);
			const auto b = summarize(*this, drivers[1], config);

			if (!a || !b)
				continue;
			selftest::json j = config_json(config);

			j["map_ratio"] = ratio(a->map, b->map);
			j["unmap_ratio"] = ratio(a->unmap, b->unmap);
			root["comparison"].push_back(std::move(j));
		}
	}
	root["samples"] = selftest::json::array();
	for (const auto &sample : samples) {
		selftest::json j = config_json(sample.config);

		j["driver"] = sample.driver;
		j["rep"] = sample.rep;
		j["map_s"] = sample.map_seconds;
		j["unmap_s"] = sample.unmap_seconds;
		if (sample.charged_bytes >= 0)
			j["charged_bytes"] = sample.charged_bytes;
		if (sample.huge >= 0)
			j["huge"] = sample.huge;
		root["samples"].push_back(std::move(j));
	}
	root["not_run"] = selftest::json::array();
	for (const auto &row : not_run) {
		selftest::json j = config_json(row.config);

		j["reason"] = row.reason;
		root["not_run"].push_back(std::move(j));
	}
	return root.dump(1) + "\n";
}

std::string BenchReport::csv() const
{
	std::string text = "driver,backing,state,size,threads,chunk,reps,map_s,map_s_min,map_gb_s,"
			   "map_ms_per_gib,unmap_s,unmap_s_min,unmap_gb_s,unmap_ms_per_gib,huge\n";

	for_each_summary(*this, [&](const std::string &driver, const BenchConfig &config,
					const Summary &s) {
		text += format("%s,%s,%s,%zu,%u,%zu,%zu,%.9f,%.9f,%.3f,%.4f,%.9f,%.9f,%.3f,"
			       "%.4f,%s\n",
			driver.c_str(), config.backing.c_str(), config.state.c_str(), config.size,
			threads, chunk, s.reps, s.map, s.map_min, gb_per_second(s.map, config.size),
			ms_per_gib(s.map, config.size), s.unmap, s.unmap_min,
			gb_per_second(s.unmap, config.size), ms_per_gib(s.unmap, config.size),
			s.huge < 0 ? "" : format("%.4f", s.huge).c_str());
	});
	return text;
}

} // namespace selftest
