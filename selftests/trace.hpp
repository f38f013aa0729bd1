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

/* A physically contiguous piece that was mapped or unmapped by one call. */
struct IommuEvent {
	std::uint64_t iova;
	std::uint64_t phys; /* 0 for an unmap, which does not say */
	std::uint64_t size;
};

struct IommuEvents {
	std::vector<IommuEvent> maps, unmaps;
};

/* Events are recorded as long as this exists. The machine has no other tracer. */
class IommuTrace
{
public:
	/* Throws without a tracefs, or without these events. */
	IommuTrace();
	~IommuTrace();
	IommuTrace(const IommuTrace &) = delete;
	IommuTrace &operator=(const IommuTrace &) = delete;

	/* Forget what there is. */
	void clear();
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
class MtTrace
{
public:
	/* Throws without a tracefs, or without our driver. */
	MtTrace();
	~MtTrace();
	MtTrace(const MtTrace &) = delete;
	MtTrace &operator=(const MtTrace &) = delete;

	/* The events since the last call, in order of time. Throws when some were lost. */
	std::vector<MtEvent> take();
};

} // namespace selftest
