/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the benchmark measured, and its presentation: a table for people, JSON
 * and CSV for programs.
 */
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace selftest
{

/* What is measured; a row of the table. */
struct BenchConfig {
	std::string backing;
	std::string state; /* cold or populated */
	std::size_t size;

	bool operator==(const BenchConfig &) const = default;
};

struct BenchSample {
	BenchConfig config;
	std::string driver; /* that answered: stock, mt, unknown */
	unsigned rep;	    /* from 1 */
	double map_seconds;
	double unmap_seconds;
	double huge; /* part that is really THP; below 0: not a THP backing */
	/* Kernel memory that the map was charged, while mapped; below 0: not known */
	std::int64_t charged_bytes = -1;
	/* How much of a CPU each busy process had; below 0: there was none. */
	double busy_map = -1, busy_unmap = -1;
};

struct BenchNotRun {
	BenchConfig config;
	std::string reason;
};

struct BenchReport {
	std::string iommu, kernel;
	long cpus;
	unsigned threads;
	std::size_t chunk;
	unsigned busy;
	bool exit, kill;
	std::vector<std::string> drivers; /* in the order of the columns */
	std::vector<BenchConfig> configs;
	std::vector<BenchSample> samples;
	std::vector<BenchNotRun> not_run;

	std::string table() const;
	std::string json() const;
	std::string csv() const;
};

/* "VFIO MAP DMA in 0.047 s (340.2 GB/s)"; 1 GB is 10^9 bytes. */
std::string bench_line(const char *what, double seconds, std::size_t size);

/* "512 MiB" */
std::string size_text(std::size_t bytes);

} // namespace selftest
