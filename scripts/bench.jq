# SPDX-License-Identifier: GPL-2.0-only
#
# Make one of the files that scripts/bench collected:
#
#	jq -L scripts -n -f scripts/bench.jq FILE.json... >bench.json
#
# rows: what was measured (instructions, alias, wall, or two: wall with two threads of
# the program), of what, and the figures of each driver. Under -icount a nanosecond is an
# instruction.

include "figures";

# A leaf is the size in which the memory comes.
def leaf: {"4k": 4096, "memfd": 4096, "thp": 2097152, "2m": 2097152,
	   "1g": 1073741824}[.];

def kind($name): if $name | startswith("wall") then "wall"
		 elif $name == "two" then "two"
		 elif $name | startswith("alias") then "alias"
		 else "instructions" end;

# Milliseconds, not instructions
def is_timed: . == "wall" or . == "two";

# How fragmented alias memory was made.
def run($name): $name | capture("run(?<n>[0-9]+)").n // "";

[inputs | (input_filename | split("/") | last | rtrimstr(".json")) as $name |
 . as $report | kind($name) as $kind | .samples[] |
 {kind: $kind, run: (run($name) // ""), backing, state, size, driver,
  map_s, unmap_s, charged_bytes, kernel: $report.kernel, iommu: $report.iommu,
  cpus: $report.cpus}] |
group_by([.kind, .backing, .run, .state, .size]) |
map(.[0] as $first | ($first.backing | leaf) as $leaf |
    {kind: $first.kind, backing: $first.backing, run_pages: $first.run,
     state: $first.state, size: $first.size, leaf: $leaf,
     kernel: $first.kernel, iommu: $first.iommu, cpus: $first.cpus,
     drivers: (group_by(.driver) | map(
	([.[].map_s] | median) as $map | ([.[].unmap_s] | median) as $unmap |
	{key: .[0].driver, value:
	 ({reps: length} +
	  if $first.kind | is_timed then
		{map_ms_per_gib: ($map * 1e3 / ($first.size / 1073741824) | significant(4)),
		 unmap_ms_per_gib: ($unmap * 1e3 / ($first.size / 1073741824) | significant(4))}
	  else
		{map_per_page: ($map * 1e9 / ($first.size / 4096) | significant(4)),
		 unmap_per_page: ($unmap * 1e9 / ($first.size / 4096) | significant(4)),
		 map_per_leaf: ($map * 1e9 / ($first.size / $leaf) | significant(4)),
		 unmap_per_leaf: ($unmap * 1e9 / ($first.size / $leaf) | significant(4))} +
		(if $first.kind == "alias" then {charged_bytes: ([.[].charged_bytes] | median)}
		 else {} end)
	  end)}) | from_entries)}) |
{kernel: .[0].kernel, iommu: .[0].iommu,
 rows: (map(. as $row |
	(if .kind | is_timed then ["map_ms_per_gib", "unmap_ms_per_gib"]
	 else ["map_per_page", "unmap_per_page"] end) as [$map, $unmap] |
	(if .drivers.stock and .drivers.mt then
		{map_ratio: (.drivers.stock[$map] / .drivers.mt[$map] | significant(4)),
		 unmap_ratio: (.drivers.stock[$unmap] / .drivers.mt[$unmap] | significant(4))}
	 else {} end) as $ratios |
	del(.kernel, .iommu) + $ratios) |
	sort_by([.kind, .leaf, .backing, .run_pages, .size, .state]))}
