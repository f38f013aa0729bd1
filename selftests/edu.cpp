// SPDX-License-Identifier: GPL-2.0-only
/*
 * Registers of the edu device, as QEMU's docs/specs/edu.txt gives them.
 */
#include "edu.hpp"

#include <algorithm>
#include <stdexcept>
#include <sys/mman.h>
#include <thread>

namespace selftest
{

using namespace std::chrono_literals;

static constexpr std::size_t reg_id = 0x00;
static constexpr std::size_t reg_source = 0x80;
static constexpr std::size_t reg_target = 0x88;
static constexpr std::size_t reg_count = 0x90;
static constexpr std::size_t reg_command = 0x98;
static constexpr std::uint64_t buffer_address = 0x40000;
static constexpr std::uint64_t command_start = 1;
static constexpr std::uint64_t command_to_memory = 2;

/* The compiler must neither merge nor split accesses to a device. */
static volatile std::uint64_t &reg64(const Region &bar, std::size_t offset)
{
	return *reinterpret_cast<volatile std::uint64_t *>(bar.data() + offset);
}

Edu::Edu(const Device &device)
	: bar_(device.map_region(VFIO_PCI_BAR0_REGION_INDEX, PROT_READ | PROT_WRITE))
{
	const auto id = *reinterpret_cast<volatile std::uint32_t *>(bar_.data() + reg_id);

	if ((id & 0xff) != 0xed)
		throw std::runtime_error("the device is not QEMU's edu");
	device.set_bus_master(true);
}

void Edu::start(
	std::uint64_t source, std::uint64_t target, std::uint32_t bytes, std::uint64_t direction)
{
	/* The model aborts QEMU when the transfer leaves its buffer. */
	if (!bytes || bytes > max_transfer)
		throw std::logic_error("edu transfer of a wrong size");
	reg64(bar_, reg_source) = source;
	reg64(bar_, reg_target) = target;
	reg64(bar_, reg_count) = bytes;
	reg64(bar_, reg_command) = command_start | direction;
}

void Edu::start_read(std::uint64_t iova, std::uint32_t bytes)
{
	start(iova, buffer_address, bytes, 0);
}

void Edu::start_write(std::uint64_t iova, std::uint32_t bytes)
{
	start(buffer_address, iova, bytes, command_to_memory);
}

bool Edu::busy() const
{
	return reg64(bar_, reg_command) & command_start;
}

bool Edu::wait() const
{
	const auto until = std::chrono::steady_clock::now() + 5s;

	while (busy()) {
		if (std::chrono::steady_clock::now() > until)
			return false;
		std::this_thread::sleep_for(2ms);
	}
	return true;
}

bool run_copies(std::vector<Edu> &engines, const std::vector<Copy> &copies)
{
	for (std::size_t first = 0; first < copies.size(); first += engines.size()) {
		const std::size_t n = std::min(engines.size(), copies.size() - first);
		bool ended = true;

		for (std::size_t i = 0; i < n; i++)
			engines[i].start_read(copies[first + i].from, copies[first + i].bytes);
		for (std::size_t i = 0; i < n; i++)
			ended &= engines[i].wait();
		for (std::size_t i = 0; i < n && ended; i++)
			engines[i].start_write(copies[first + i].to, copies[first + i].bytes);
		for (std::size_t i = 0; i < n; i++)
			ended &= engines[i].wait();
		if (!ended)
			return false;
	}
	return true;
}

} // namespace selftest
