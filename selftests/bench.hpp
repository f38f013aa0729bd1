/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Timing of VFIO_IOMMU_MAP_DMA and VFIO_IOMMU_UNMAP_DMA.
 */
#pragma once

#include "alias.hpp"
#include "memory.hpp"
#include "rig.hpp"

#include <string>
#include <vector>

namespace selftest
{

struct BenchOptions {
	std::vector<std::size_t> sizes;
	std::vector<Backing> backings;
	std::vector<bool> populated;	  /* one run for each: cold (false), populated (true) */
	unsigned threads = 1;		  /* of this program, mapping disjoint parts at once */
	unsigned reps = 0;		  /* 0: 3, or 1 with count */
	std::size_t chunk = 0;		  /* bytes for each MAP_DMA call; 0: all in one */
	std::string format = "table";	  /* of standard output: table, json, csv */
	std::string json_file, csv_file;  /* the data, too, in files */
	std::string file_dir = "/tmp";	  /* for the backing "file" */
	std::vector<std::string> compare; /* drivers to alternate between */
	std::string switch_command = default_switch_command;
	bool count = false; /* under -icount: ns for each 4 KiB */
	bool quiet = false; /* no line for each repetition */
	unsigned busy = 0;  /* processes that want all of a CPU meanwhile */
	bool exit = false;  /* instead of an unmap: the end of a killed process */
	bool kill = false;  /* the same, killed in the middle of its map */
	/* Ranges that map little memory again and again (alias.hpp). */
	std::optional<AliasOptions> alias;
};

/* Exit status. */
int bench(const BenchOptions &options);

} // namespace selftest
