/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a measurement needs: a container with a device in it, and a way to change
 * the backend in between.
 */
#pragma once

#include "vfio.hpp"

#include <string>

namespace selftest
{

/* The guest's command that loads a backend. */
inline constexpr const char *default_switch_command = "backend {driver}";

/* At 4 GiB: aligned to every page size, and above the MSI window. */
inline constexpr std::uint64_t first_iova = std::uint64_t{4} << 30;

/* A container with the first device's group. */
struct BenchRig {
	Container container;
	Group group;

	/* Throws when it cannot be had, or another backend answers than env().wanted. */
	static BenchRig open();
};

/* Load this backend and no other, and expect it to answer from now on. */
void switch_backend(const std::string &switch_command, const std::string &driver);

} // namespace selftest
