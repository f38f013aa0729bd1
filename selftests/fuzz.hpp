/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The fuzzer: random sequences of everything that the ABI permits and forbids,
 * each step checked against a model (fuzz_model.hpp, fuzz_arena.hpp).
 *
 * One thread: the model is exact, and the same seed makes the same calls with
 * every driver, so that the outcome files can be compared, too. Several threads
 * and processes (fuzz_parallel.cpp): exact in the part of a container that each
 * thread has for itself, and at points where all stand still.
 */
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace selftest
{

struct FuzzOptions {
	std::vector<std::uint64_t> seeds; /* none: a random one */
	std::uint64_t steps = 500;
	unsigned threads = 1;
	unsigned processes = 1;
	double minutes = 0; /* fresh seeds for so long */
	std::string skip;   /* steps to leave out: "3-17,40" */
	std::string outcome_file;
	std::string replay; /* how this program is called, for the replay line */
	bool verbose = false;
};

/* Exit status: 0, or 1 when something was not as it must be. */
int fuzz(const FuzzOptions &options);

/* One seed with several threads and processes. Throws FuzzMismatch (fuzz_sequence.hpp). */
void fuzz_parallel(std::uint64_t seed, const FuzzOptions &options);

} // namespace selftest
