# SPDX-License-Identifier: GPL-2.0-only
#
# The table of qemu.json for README.md:
#
#	jq -L scripts -r -f scripts/bench-qemu-md.jq qemu.json

include "figures";

# The cases of guest/inner/cases.sh, in the order of the table
def cases: {
	thp: "1 GiB, THP, disk and network card",
	hugetlb: "512 MiB, hugetlb 2 MiB, allocated by QEMU, two disks",
	giant: "1 GiB in one page",
	small_pages: "512 MiB, 4 KiB pages, locked by QEMU",
	hotplug: "512 MiB, more memory and another disk later",
	virtio_mem: "512 MiB, more memory by virtio-mem",
	viommu: "512 MiB, IOMMU in the guest, two disks"
};

def ends: {quit: "`quit`", kill: "SIGKILL", off: "powered off"};

def ratio($key): .drivers.stock[$key] / .drivers.mt[$key] | significant(2) | "\(.)x";

def cells($keys): [$keys[] as $key | (.drivers.stock[$key], .drivers.mt[$key] | text),
	ratio($key)];

(["guest; its end", "", "start, stock", "start, mt", "", "end, stock", "end, mt", ""] | line),
(["---", "---"] + [range(6) | "---:"] | line),
([.[] | {key: .case, value: .}] | from_entries as $rows |
 (cases | keys_unsorted)[] as $name | $rows[$name] // empty |
 (["\(cases[$name]); \(ends[.end])", "all"] + cells(["start_ms", "stop_ms"]) | line),
 (["", "driver"] + cells(["map_ms", "unmap_ms"]) | line))
