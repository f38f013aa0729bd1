// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who maps for a measurement.
 */
#include "mapper.hpp"

#include "environment.hpp"
#include "iommufd.hpp"
#include "rig.hpp"

namespace selftest
{

namespace
{

class ContainerMapper : public Mapper
{
public:
	Result map(std::uint64_t iova, const void *vaddr, std::uint64_t size) const override
	{
		return rig_.container.map(iova, vaddr, size);
	}
	Result unmap(std::uint64_t iova, std::uint64_t size) const override
	{
		return rig_.container.unmap(iova, size);
	}
	std::string driver() const override { return rig_.container.backend().driver; }

private:
	BenchRig rig_ = BenchRig::open();
};

class IommufdMapper : public Mapper
{
public:
	Result map(std::uint64_t iova, const void *vaddr, std::uint64_t size) const override
	{
		return iommufd_.map(iova, vaddr, size);
	}
	Result unmap(std::uint64_t iova, std::uint64_t size) const override
	{
		return iommufd_.unmap(iova, size);
	}
	std::string driver() const override { return "iommufd"; }

private:
	Iommufd iommufd_ = Iommufd::open();
	IommufdDevice device_ = IommufdDevice::attach(iommufd_, env().devices[0].bdf);
};

} // namespace

std::unique_ptr<Mapper> Mapper::open()
{
	if (env().wanted == "iommufd")
		return std::make_unique<IommufdMapper>();
	return std::make_unique<ContainerMapper>();
}

} // namespace selftest
