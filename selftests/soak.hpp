/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Many maps, unmaps and kills, and then: is every page back?
 */
#pragma once

#include <cstddef>
#include <string>

namespace selftest
{

struct SoakOptions {
	unsigned reps = 100;
	std::size_t size = 0; /* of one map; 0: chosen by the memory of the machine */
	std::string json_file;
	/* MemFree and MemAvailable may be lower by so much at the end. */
	std::size_t tolerance = 0; /* 0: chosen */
};

/* Exit status. */
int soak(const SoakOptions &options);

} // namespace selftest
