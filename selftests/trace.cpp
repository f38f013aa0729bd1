// SPDX-License-Identifier: GPL-2.0-only
/*
 * A reader of trace events.
 */
#include "trace.hpp"

#include "proc.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

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

TraceBuffer::TraceBuffer(std::vector<std::string> enables) : enables_(std::move(enables))
{
	set("buffer_size_kb", buffer_kib);
	/*
	 * Nobody needs the names of processes. For these, the scheduler's code is patched,
	 * and in a patched place a CPU of an emulator was seen to get stuck.
	 */
	set("options/record-cmd", "0");
	clear();
	for (const auto &enable : enables_)
		set("events/" + enable, "1");
	set("tracing_on", "1");
}

TraceBuffer::~TraceBuffer()
{
	for (const auto &enable : enables_)
		write_file(tracefs + "events/" + enable, "0");
	write_file(tracefs + "trace", "");
}

void TraceBuffer::clear()
{
	set("trace", "");
}

IommuTrace::IommuTrace() : TraceBuffer({"iommu/map/enable", "iommu/unmap/enable"}) {}

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

std::vector<std::string> TraceBuffer::take_lines()
{
	std::ifstream file(tracefs + "trace");
	std::vector<std::string> lines;
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
			lines.push_back(line);
	}
	clear();
	return lines;
}

IommuEvents IommuTrace::take()
{
	IommuEvents events;

	for (const auto &line : take_lines())
		parse(line, events);
	std::ranges::sort(events.maps, {}, &IommuEvent::iova);
	std::ranges::sort(events.unmaps, {}, &IommuEvent::iova);
	return events;
}

std::int64_t MtEvent::at(const std::string &field) const
{
	const auto it = fields.find(field);

	if (it == fields.end())
		throw std::runtime_error("the event " + name + " has no field " + field);
	return it->second;
}

MtTrace::MtTrace() : TraceBuffer({"vfio_mt/enable"}) {}

/* "  task-12 [001] .....  34.567890: chunk: va=0x1000 size=4096 ret=0 ns=12" */
static MtEvent parse_mt(const std::string &line)
{
	std::istringstream words(line);
	std::string word, last;
	MtEvent event;

	while (words >> word) {
		const auto equals = word.find('=');

		if (equals != std::string::npos && !event.name.empty())
			event.fields[word.substr(0, equals)] = static_cast<std::int64_t>(
				std::stoull(word.substr(equals + 1), nullptr, 0));
		/* The name is behind the time, and both end with a colon. */
		else if (event.name.empty() && word.back() == ':' && !last.empty() &&
			 last.back() == ':')
			event.name = word.substr(0, word.size() - 1);
		last = word;
	}
	if (event.name.empty())
		throw std::runtime_error("not understood: " + line);
	return event;
}

std::vector<MtEvent> MtTrace::take()
{
	std::vector<MtEvent> events;

	for (const auto &line : take_lines())
		events.push_back(parse_mt(line));
	return events;
}

} // namespace selftest
