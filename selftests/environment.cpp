// SPDX-License-Identifier: GPL-2.0-only
/*
 * Finding the devices, and the text that explains how to provide one.
 */
#include "environment.hpp"

#include "mock/vfio_mt_mock.h"
#include "proc.hpp"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <sstream>
#include <stdexcept>
#include <sys/ioctl.h>

namespace selftest
{

Environment &env()
{
	static Environment environment;

	return environment;
}

std::string binding_help(const std::string &bdf)
{
	const std::string dev = bdf.empty() ? "0000:03:00.0" : bdf;

	return "A device must be bound to vfio-pci before it can be used. For example:\n"
	       "\n"
	       "  modprobe vfio-pci\n"
	       "  echo vfio-pci > /sys/bus/pci/devices/" +
	       dev +
	       "/driver_override\n"
	       "  echo " +
	       dev + " > /sys/bus/pci/devices/" + dev +
	       "/driver/unbind  # if bound\n"
	       "  echo " +
	       dev +
	       " > /sys/bus/pci/drivers_probe\n"
	       "  " +
	       "vfio_mt_selftest test --device " + dev +
	       "\n"
	       "\n"
	       "The machine needs an IOMMU that is switched on (intel_iommu=on, or AMD's, which "
	       "is\n"
	       "on by itself), and every other device of the same IOMMU group must be unbound or "
	       "on\n"
	       "vfio-pci as well:  ls /sys/bus/pci/devices/" +
	       dev +
	       "/iommu_group/devices\n"
	       "Unbinding takes the device away from its present driver: not your root disk's.\n";
}

static bool is_edu(const DeviceName &device)
{
	const auto vendor = read_file("/sys/bus/pci/devices/" + device.bdf + "/vendor");
	const auto id = read_file("/sys/bus/pci/devices/" + device.bdf + "/device");

	return vendor == "0x1234\n" && id == "0x11e8\n";
}

bool all_edu()
{
	return !env().devices.empty() && std::ranges::all_of(env().devices, is_edu);
}

int mock_group()
{
	const Fd node(::open(VFIO_MT_MOCK_NODE, O_RDWR | O_CLOEXEC));
	vfio_mt_mock_device device = {};

	return ::ioctl(node.get(), VFIO_MT_MOCK_GET_DEVICE, &device) ? -1 : device.group;
}

void find_devices(const std::vector<std::string> &given)
{
	std::vector<std::string> bdfs = given;

	if (bdfs.empty()) {
		const char *list = std::getenv("VFIO_DEVICES");
		std::istringstream words(list ? list : "");

		for (std::string word; words >> word;)
			bdfs.push_back(word);
	}
	/* A guest without IOMMU has PCI devices, but no groups; the test module has both. */
	if (mock_group() >= 0 && std::ranges::none_of(bdfs, [](const std::string &bdf) {
		    return DeviceName::look_up(bdf).group >= 0;
	    }))
		return;
	if (bdfs.empty())
		throw std::runtime_error("no device given (--device, or the variable "
					 "VFIO_DEVICES).\n\n" +
					 binding_help(""));

	for (const auto &bdf : bdfs) {
		DeviceName name = DeviceName::look_up(bdf);

		if (name.group < 0)
			throw std::runtime_error(
				name.bdf +
				" is in no IOMMU group: the IOMMU is absent or switched off.\n\n" +
				binding_help(name.bdf));
		if (name.driver != "vfio-pci")
			throw std::runtime_error(
				name.bdf + " is " +
				(name.driver.empty() ? std::string("not bound to any driver")
						     : "bound to " + name.driver) +
				", not to vfio-pci.\n\n" + binding_help(name.bdf));
		/* Two devices of one group cannot be in two containers: one is enough. */
		if (std::ranges::none_of(env().devices,
			    [&](const DeviceName &d) { return d.group == name.group; }))
			env().devices.push_back(std::move(name));
	}
}

std::optional<std::string> backend_mismatch(const Backend &backend, const std::string &wanted)
{
	if (wanted == "auto" || wanted == backend.driver)
		return std::nullopt;
	return "--driver " + wanted + " was asked for, but " +
	       (backend.module.empty() ? std::string("an unknown backend") : backend.module) +
	       " answered VFIO_SET_IOMMU";
}

} // namespace selftest
