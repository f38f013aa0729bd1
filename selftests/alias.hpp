/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A very large range of addresses out of little memory: the same pages of a file,
 * mapped again and again. The kernel's page tables, the pins and the IOMMU's page
 * tables are those of a very large guest; only the memory is not there.
 *
 * How often a page may be mapped is limited by its reference count, which has 31
 * bits. A pin of a 4 KiB page adds 1024 to it, a pin of a huge page 1; but the
 * stock driver pins a huge page once for each 4 KiB of it.
 */
#pragma once

#include "memory.hpp"

#include <optional>
#include <string>

namespace selftest
{

struct AliasOptions {
	std::size_t memory = 256 * mib; /* that the range is made of; at least one page */
	/*
	 * Physically contiguous in runs of so many pages, of the size in which this memory
	 * comes. 0: as much as can be had.
	 */
	std::size_t run_pages = 0;
};

/* How much memory a range of this backing and size is made of. */
std::size_t alias_memory(const AliasOptions &options, Backing backing, std::size_t size);

/* Why such a range cannot be had here; nothing when it can. */
std::optional<std::string> alias_lacking(
	const AliasOptions &options, Backing backing, std::size_t size);

/* The range, aligned to 1 GiB, not populated. */
Memory allocate_aliased(const AliasOptions &options, Backing backing, std::size_t size);

/* Fill the page tables, quicker than by a write to each page. */
void populate_aliased(Backing backing, const Memory &memory);

} // namespace selftest
