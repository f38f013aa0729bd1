// SPDX-License-Identifier: GPL-2.0-only
/*
 * A container for measurements, and the choice of its backend.
 */
#include "rig.hpp"

#include "environment.hpp"
#include "outcome.hpp"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace selftest
{

static std::runtime_error refused(const std::string &what, const Result &result)
{
	return std::runtime_error(what + ": " + errno_name(result.err));
}

BenchRig BenchRig::open()
{
	BenchRig rig{.container = Container::open(), .group = Group::open(env().devices[0].group)};
	Result result = rig.group.set_container(rig.container);

	if (!result.ok())
		throw refused("VFIO_GROUP_SET_CONTAINER", result);
	result = rig.container.set_iommu(VFIO_TYPE1v2_IOMMU);
	if (!result.ok())
		throw refused("VFIO_SET_IOMMU (is a backend loaded?)", result);
	if (const auto why = backend_mismatch(rig.container.backend(), env().wanted))
		throw std::runtime_error(*why);
	return rig;
}

void switch_backend(const std::string &switch_command, const std::string &driver)
{
	std::string command = switch_command;
	const std::string placeholder = "{driver}";

	for (std::size_t at; (at = command.find(placeholder)) != std::string::npos;)
		command.replace(at, placeholder.size(), driver);
	std::fflush(nullptr);
	if (std::system(command.c_str()))
		throw std::runtime_error("\"" + command + "\" failed");
	env().wanted = driver;
}

} // namespace selftest
