# SPDX-License-Identifier: GPL-2.0-only
#
# Make one of the files that scripts/bench-peers collected, count-…-NAME.json and
# wall-…-NAME-REPETITION.json:
#
#	jq -L scripts -n -f scripts/bench-peers.jq FILE.json... >peers.json
#
# rows: what was measured (instructions, wall), of what, and the figures of each of
# those compared. Under -icount a nanosecond is an instruction.

include "figures";

def names: ["stock", "iommufd", "iommufd-threads", "mt-alone", "mt"];

def backings: ["4k", "memfd", "thp", "2m", "1g"];

# "wall-1g-iommufd-threads-3" is one of "iommufd-threads".
def name_of($file): $file | sub("^(count-(populated|cold)|wall)(-1g)?-"; "") | sub("-[0-9]+$"; "");

[inputs | (input_filename | split("/") | last | rtrimstr(".json")) as $file |
 . as $report | .samples[] |
 {kind: (if $file | startswith("wall") then "wall" else "instructions" end),
  backing, state, size, name: name_of($file), map_s, unmap_s,
  kernel: $report.kernel, iommu: $report.iommu, cpus: $report.cpus}] |
(map(select(.name as $name | names | index($name) | not)) | if length > 0 then
	error("who is \(.[0].name)?") else . end) as $none |
{kernel: .[0].kernel, iommu: .[0].iommu,
 rows: (group_by([.kind, .backing, .state, .size]) | map(
	.[0] as $first |
	# Milliseconds for each GiB, or instructions for each 4 KiB
	(if $first.kind == "wall" then 1e3 / ($first.size / 1073741824)
	 else 1e9 / ($first.size / 4096) end) as $unit |
	{kind: $first.kind, backing: $first.backing, state: $first.state,
	 size: $first.size, cpus: $first.cpus,
	 peers: (group_by(.name) | map({key: .[0].name, value:
		{reps: length,
		 map: ([.[].map_s] | median * $unit | significant(4)),
		 unmap: ([.[].unmap_s] | median * $unit | significant(4))}}) | from_entries)}) |
  sort_by([.kind, (.backing as $backing | backings | index($backing)), .state]))}
