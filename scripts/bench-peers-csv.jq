# SPDX-License-Identifier: GPL-2.0-only
#
# One line for each row of peers.json and each of those compared:
#
#	jq -r -f scripts/bench-peers-csv.jq peers.json >peers.csv
#
# map and unmap: of the kind "wall" in milliseconds for each GiB, of the kind
# "instructions" for each 4 KiB.

["kind", "backing", "state", "size", "cpus", "name", "reps", "map", "unmap"] as $head |
($head | join(",")),
(.rows[] | . as $row | .peers | to_entries[] |
 ($row + .value + {name: .key}) as $line |
 [$head[] | $line[.]] | map(tostring) | join(","))
