/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What this run was asked to use (devices, the backend that must answer), and
 * what was found on the machine. Set up once by main, read by everything.
 */
#pragma once

#include "outcome.hpp"
#include "vfio.hpp"

#include <optional>
#include <string>
#include <vector>

namespace selftest
{

struct Environment {
	std::vector<DeviceName> devices; /* bound to vfio-pci, one for each group */
	std::string wanted = "auto";	 /* --driver: auto, stock or mt */
	bool full_sweep = false;	 /* failnth --full */
	Outcome outcome;		 /* of this run; the cases append themselves */
};

Environment &env();

/* Are the devices all QEMU's edu, which can do DMA when told? */
bool all_edu();

/* A group of the test module vfio_mt_mock.ko, -1 when it is not loaded. */
int mock_group();

/*
 * Fill in env().devices from --device or, with none, from the variable
 * VFIO_DEVICES. Throws, telling how to bind a device, when none is usable and the
 * test module is not loaded either: its cases need no other device.
 */
void find_devices(const std::vector<std::string> &bdfs);

/* Why this backend is not the one asked for; nothing when it is. */
std::optional<std::string> backend_mismatch(const Backend &backend, const std::string &wanted);

/* Several lines that explain how a device is given to this program. */
std::string binding_help(const std::string &bdf);

} // namespace selftest
