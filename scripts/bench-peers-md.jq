# SPDX-License-Identifier: GPL-2.0-only
#
# The tables of peers.json for README.md:
#
#	jq -L scripts -r -f scripts/bench-peers-md.jq peers.json

include "figures";

def columns: {"stock": "stock", "iommufd": "IOMMUFD", "iommufd-threads": "IOMMUFD, threads",
	      "mt-alone": "mt, alone", "mt": "mt"};

def memory: {"4k": "4 KiB pages", "memfd": "memfd, 4 KiB", "thp": "THP",
	     "2m": "hugetlb 2 MiB", "1g": "hugetlb 1 GiB"}[.];

# Why ours is behind, in README.md, below the tables
def reasons: {
	"wall": ([("4k", "memfd", "thp", "2m", "1g") | {"map \(.) cold": "(1)"}] | add),
	"instructions": {"map 4k cold": "(2)"}
};

# How many times as fast as the best of the others, and if it is not, why
def ratio($what; $row): ([$row.peers | to_entries[] | select(.key | startswith("mt") | not) |
	.value[$what]] | min) / $row.peers.mt[$what] |
	"\(text)x" +
	if . >= 1 then "" else reasons[$row.kind]["\($what) \($row.backing) \($row.state)"] |
		if . then " \(.)" else "" end end;

def table($what; $rows; $unit):
	[columns | keys_unsorted[] | select(. as $name | $rows | any(.peers[$name]))] as $names |
	([$what + ", " + $unit, ""] + [columns[$names[]]] + [""] | line),
	(["---", "---"] + [$names[] | "---:"] + ["---:"] | line),
	($rows[] | . as $row | [(.backing | memory), .state] + [$names[] | $row.peers[.][$what] | text] +
	 [ratio($what; $row)] | line);

[.rows[] | select(.kind == "wall")] as $wall |
[.rows[] | select(.kind == "instructions")] as $count |
(if $wall | length > 0 then
	table("map"; $wall; "ms for each GiB"), "",
	table("unmap"; $wall; "ms for each GiB"), ""
 else empty end),
table("map"; $count; "instructions for each 4 KiB"), "",
table("unmap"; $count; "instructions for each 4 KiB")
