/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Comparison of two outcome files, case by case and key by key.
 */
#pragma once

#include <string>

namespace selftest
{

/*
 * Prints every difference. allow_file may name a JSON list of deliberate ones,
 *
 *	[{"case": "Suite.Name", "key": "key", "reason": "…", "mt": 0, "iommu": "amd"}]
 *
 * where case and key may hold the wildcards * and ? (key "*" covers the result, too).
 * "mt" (optional) is the value that our driver must show: what is allowed is that the
 * stock driver's is another one. "iommu" (optional) limits the entry to runs on that
 * IOMMU, "kernel" (optional, with wildcards) to releases. An entry for which no
 * difference occurs is an error: the list must stay true. Returns the exit status:
 * 0 equal, 1 different.
 */
int diff(const std::string &path_a, const std::string &path_b, const std::string &allow_file);

} // namespace selftest
