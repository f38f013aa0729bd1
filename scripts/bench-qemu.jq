# SPDX-License-Identifier: GPL-2.0-only
#
# Medians of what guest/passthrough measured:
#
#	jq -L scripts -R -s -f scripts/bench-qemu.jq times.csv >qemu.json

include "figures";

split("\n") | map(select(length > 0) | split(",")) |
.[0] as $head |
.[1:] | map([$head, .] | transpose | map({key: .[0], value: .[1]}) | from_entries) |
[group_by(.case)[] | {case: .[0].case, end: .[0].end,
	drivers: (group_by(.driver) | reverse | map(. as $samples | {key: .[0].driver, value:
		({reps: length} +
		 (["start_ms", "map_ms", "stop_ms", "unmap_ms"] |
		  map({key: ., value: (. as $column | [$samples[][$column] | tonumber] | median | . * 10 | round / 10)}) |
		  from_entries))}) | from_entries)}]
