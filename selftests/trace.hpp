/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's trace events iommu:map and iommu:unmap: what a VFIO backend asks an
 * IOMMU for, seen from outside.
 */
#pragma once

#include <cstdint>
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

} // namespace selftest
