/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Trace events: the kernel's iommu:map and iommu:unmap, what a VFIO backend asks an IOMMU
 * for, seen from outside; and those that our driver has itself.
 */
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace selftest
{

/*
 * The trace buffer, in which some events are recorded as long as this exists. The machine
 * has no other tracer.
 */
class TraceBuffer
{
public:
	TraceBuffer(const TraceBuffer &) = delete;
	TraceBuffer &operator=(const TraceBuffer &) = delete;

	/* Forget what there is. */
	void clear();

protected:
	/* Files below events/ that enable them. Throws without a tracefs, or without one. */
	explicit TraceBuffer(std::vector<std::string> enables);
	~TraceBuffer();

	/* The lines of the events since the last call. Throws when some were lost. */
	std::vector<std::string> take_lines();

private:
	const std::vector<std::string> enables_;
};

/* A physically contiguous piece that was mapped or unmapped by one call. */
struct IommuEvent {
	std::uint64_t iova;
	std::uint64_t phys; /* 0 for an unmap, which does not say */
	std::uint64_t size;
};

struct IommuEvents {
	std::vector<IommuEvent> maps, unmaps;
};

class IommuTrace : public TraceBuffer
{
public:
	/* Throws without a tracefs, or without these events. */
	IommuTrace();

	/*
	 * The events since the last call, in order of address. Throws when some were lost,
	 * or an unmap did not find all that it was to unmap.
	 */
	IommuEvents take();
};

/* One of vfio_mt's: its name, and its fields as they are printed. */
struct MtEvent {
	std::string name;
	std::map<std::string, std::int64_t> fields;

	/* Throws for a field that it has not. */
	std::int64_t at(const std::string &field) const;
};

/* As IommuTrace, for those of vfio_mt. */
class MtTrace : public TraceBuffer
{
public:
	/* Throws without a tracefs, or without our driver. */
	MtTrace();

	/* The events since the last call, in order of time. Throws when some were lost. */
	std::vector<MtEvent> take();
};

} // namespace selftest
