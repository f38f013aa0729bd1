/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The DMA engine of QEMU's "edu" device (1234:11e8): it copies up to 4 KiB
 * between memory and a buffer of its own. The buffer cannot be read by the
 * CPU, so a test copies from one iova to another through it: that proves a
 * device read at the one and a device write at the other.
 *
 * One transfer takes the device 100 ms whatever its size, so Copier spreads
 * independent copies over all edu devices of the container.
 */
#pragma once

#include "vfio.hpp"

#include <chrono>
#include <cstdint>
#include <vector>

namespace selftest
{

class Edu
{
public:
	/* Maps BAR 0 and switches bus mastering on. Throws when this is not an edu. */
	explicit Edu(const Device &device);

	static constexpr std::uint32_t max_transfer = 2048;

	/* Memory at iova into the buffer, and the buffer to memory at iova. */
	void start_read(std::uint64_t iova, std::uint32_t bytes);
	void start_write(std::uint64_t iova, std::uint32_t bytes);
	bool busy() const;
	/* False when it did not end in five seconds. */
	bool wait() const;

private:
	void start(std::uint64_t source, std::uint64_t target, std::uint32_t bytes,
		std::uint64_t direction);

	Region bar_;
};

struct Copy {
	std::uint64_t from; /* iova */
	std::uint64_t to;   /* iova */
	std::uint32_t bytes;
};

/* All copies, as parallel as there are engines. False when one did not end. */
bool run_copies(std::vector<Edu> &engines, const std::vector<Copy> &copies);

} // namespace selftest
