# SPDX-License-Identifier: GPL-2.0-only
#
# One line for each case and driver of qemu.json:
#
#	jq -r -f scripts/bench-qemu-csv.jq qemu.json >qemu.csv

["case", "end", "driver", "reps", "start_ms", "map_ms", "stop_ms", "unmap_ms"] as $head |
($head | join(",")),
(.[] | . as $row | .drivers | to_entries[] |
 ($row + .value + {driver: .key}) as $line |
 [$head[] | $line[.]] | map(tostring) | join(","))
