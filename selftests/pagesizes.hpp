/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Does a backend give an IOMMU as large pages as another does, for the same memory?
 */
#pragma once

#include "rig.hpp"

#include <string>
#include <vector>

namespace selftest
{

struct PageSizesOptions {
	std::string reference = "stock";
	std::string driver = "mt";
	std::vector<unsigned> threads{1, 2, 8}; /* of the driver, for each map */
	std::string switch_command = default_switch_command;
	bool verbose = false; /* the pages of each size, too */
};

/* Prints "ok" and "not ok" lines. Exit status. */
int page_sizes(const PageSizesOptions &options);

} // namespace selftest
