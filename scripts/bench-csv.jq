# SPDX-License-Identifier: GPL-2.0-only
#
# One line for each row and driver of bench.json:
#
#	jq -r -f scripts/bench-csv.jq bench.json >bench.csv

["kind", "backing", "run_pages", "state", "size", "cpus", "driver", "reps",
 "map_per_page", "unmap_per_page", "map_per_leaf", "unmap_per_leaf",
 "charged_bytes", "map_ms_per_gib", "unmap_ms_per_gib", "map_ratio", "unmap_ratio"] as $head |
($head | join(",")),
(.rows[] | . as $row | .drivers | to_entries[] |
 ($row + .value + {driver: .key}) as $line |
 [$head[] | $line[.] // ""] | map(tostring) | join(","))
