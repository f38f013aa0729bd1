// SPDX-License-Identifier: GPL-2.0-only
/*
 * A reader of the iommu trace events.
 */
#include "trace.hpp"

#include "proc.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>

namespace selftest
{

static const std::string tracefs = "/sys/kernel/tracing/";

/* Of each CPU: room for some hundred thousand events. */
static constexpr const char *buffer_kib = "32768";

static void set(const std::string &name, const std::string &value)
{
	if (!write_file(tracefs + name, value))
		throw std::runtime_error(
			"cannot write " + tracefs + name + ": is tracefs mounted, and am I root?");
}

IommuTrace::IommuTrace()
{
	set("buffer_size_kb", buffer_kib);
	set("trace", "");
	set("events/iommu/map/enable", "1");
	set("events/iommu/unmap/enable", "1");
	set("tracing_on", "1");
}

IommuTrace::~IommuTrace()
{
	write_file(tracefs + "events/iommu/map/enable", "0");
	write_file(tracefs + "events/iommu/unmap/enable", "0");
	write_file(tracefs + "trace", "");
}

static void parse(const std::string &line, IommuEvents &events)
{
	unsigned long long iova, end, phys, size, unmapped;
	const auto at = line.find(": IOMMU: iova=");

	if (at == std::string::npos)
		return;
	const char *text = line.c_str() + at;

	if (std::sscanf(text, ": IOMMU: iova=%llx - %llx paddr=%llx size=%llu", &iova, &end, &phys,
		    &size) == 4) {
		events.maps.push_back({iova, phys, size});
	} else if (std::sscanf(text, ": IOMMU: iova=%llx - %llx size=%llu unmapped_size=%llu",
			   &iova, &end, &size, &unmapped) == 4) {
		/*
		 * More, where a page of the IOMMU is larger: on an IOMMU with pages of many
		 * sizes, the stock driver asks for 4 KiB and gets what page there is.
		 */
		if (unmapped < size)
			throw std::runtime_error("an unmap found only a part: " + line);
		events.unmaps.push_back({iova, 0, unmapped});
	} else {
		throw std::runtime_error("not understood: " + line);
	}
}

void IommuTrace::clear()
{
	set("trace", "");
}

IommuEvents IommuTrace::take()
{
	std::ifstream file(tracefs + "trace");
	IommuEvents events;
	std::string line;

	while (std::getline(file, line)) {
		/* "[LOST n EVENTS]" in the text, and "entries-in-buffer/entries-written". */
		unsigned long long kept, written;

		if (line.find("LOST") != std::string::npos ||
			(std::sscanf(line.c_str(), "# entries-in-buffer/entries-written: %llu/%llu",
				 &kept, &written) == 2 &&
				kept != written))
			throw std::runtime_error("trace events were lost: " + line);
		if (!line.empty() && line[0] != '#')
			parse(line, events);
	}
	clear();
	std::ranges::sort(events.maps, {}, &IommuEvent::iova);
	std::ranges::sort(events.unmaps, {}, &IommuEvent::iova);
	return events;
}

} // namespace selftest
