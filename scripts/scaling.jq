# SPDX-License-Identifier: GPL-2.0-only
#
# Tables of what scripts/scaling measured.

# [[size, cost]...]: what each byte adds, and what is there without any. The slope is
# that between the two largest sizes.
def fit:
	sort_by(.[0]) as $p |
	(($p[-1][1] - $p[-2][1]) / ($p[-1][0] - $p[-2][0])) as $slope |
	{each: $slope, fixed: ([$p[0][1] - $slope * $p[0][0], 0] | max)};

def round1: . * 10 | round / 10;
def ms: . * 1000 | round1;

[inputs | . + {file: (input_filename | split("/") | .[-2:] | join("/"))}] as $all |

"instructions: a call whatever its size, and each leaf more",
(["backing", "state", "op", "a call", "a leaf"] | @tsv),
($all[] | select(.file | startswith("count/")) | .samples |
	group_by([.backing, .state])[] | . as $s |
	({"4k": 4096, "thp": 2097152, "2m": 2097152, "1g": 1073741824}[$s[0].backing]) as $unit |
	("map_s", "unmap_s") as $op |
	($s | group_by(.size) | map([.[0].size, (map(.[$op]) | min * 1e9)])) as $points |
	select($points | length > 1) | ($points | fit) |
	[$s[0].backing, $s[0].state, ($op | rtrimstr("_s")), (.fixed | round), (.each * $unit | round1)] |
	@tsv),
"",
"milliseconds, medians",
(["what", "CPUs", "backing", "state", "stock map", "mt map", "ratio", "stock unmap", "mt unmap", "ratio", "busy, stock", "busy, mt"] | @tsv),
($all[] | select(.file | startswith("wall-")) | . as $f |
	(.file | split("/") | {cpus: .[0][5:], what: .[1] | rtrimstr(".json")}) as $n |
	.summary | group_by([.backing, .state, .size])[] |
	(map(select(.driver == "stock"))[0]) as $s | (map(select(.driver == "mt"))[0]) as $m |
	[$n.what, $n.cpus, $m.backing, $m.state,
	 ($s.map_s | ms), ($m.map_s | ms), ($s.map_s / $m.map_s | round1),
	 ($s.unmap_s | ms), ($m.unmap_s | ms), ($s.unmap_s / $m.unmap_s | round1)] +
	(if $m.busy_map then [($s.busy_map * 100 | round), ($m.busy_map * 100 | round)] else [] end) |
	@tsv)
