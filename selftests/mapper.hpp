/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who maps for a measurement: a container with one of the type1 backends, or an address
 * space of IOMMUFD.
 */
#pragma once

#include "vfio.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace selftest
{

/* With the first device in it; what is mapped is gone with it. */
class Mapper
{
public:
	/* The one that env().wanted names. Throws when it cannot be had. */
	static std::unique_ptr<Mapper> open();

	Mapper() = default;
	Mapper(const Mapper &) = delete;
	Mapper &operator=(const Mapper &) = delete;
	virtual ~Mapper() = default;

	virtual Result map(std::uint64_t iova, const void *vaddr, std::uint64_t size) const = 0;
	/* value: the bytes unmapped */
	virtual Result unmap(std::uint64_t iova, std::uint64_t size) const = 0;
	/* stock, mt, iommufd or unknown */
	virtual std::string driver() const = 0;
};

} // namespace selftest
