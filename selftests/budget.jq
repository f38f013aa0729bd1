# SPDX-License-Identifier: GPL-2.0-only
#
# Compare what `bench --json` measured with budget.json: an "ok" or "not ok" line for
# each figure.
#
#	jq -rn --slurpfile budget selftests/budget.json \
#		-f selftests/budget.jq FILE.json...

def line($good; $text): if $good then "ok - \($text)" else "not ok - \($text)" end;

def rounded: if . < 10 then . * 1000 | round / 1000 else . * 10 | round / 10 end;

def gib: "\(. / 1073741824) GiB";

# Of a file, keyed by its name without directory and suffix: the first repetition, and
# the least of each figure. A timer tick, or what other work the guest's kernel does
# meanwhile, only ever adds to it.
def sample($all; $file; $backing; $size):
	[$all[$file].samples[]? | select(.backing == $backing and .size == $size)] |
	if length == 0 then null
	else {size: $size, first: (map(select(.rep == 1)) | first),
	      least: {map_s: (map(.map_s) | min), unmap_s: (map(.unmap_s) | min)},
	      charged_bytes: (map(.charged_bytes) | max)}
	end;

# Under -icount a nanosecond is an instruction.
def cost($sample; $which; $op; $per):
	$sample[$which]["\($op)_s"] * 1e9 / ($sample.size / $per);

# What is promised holds for the first repetition. That, and the least, are compared
# with what was measured when the figures were stored.
def check_cost($all; $margin):
	. as $row | sample($all; .file; .backing; .size) as $sample |
	(if .per == 4096 then "4 KiB" else "leaf" end) as $unit |
	"\(.file): \(.backing), \(.size | gib): \(.op)" as $what |
	if $sample == null then line(false; "\($what): not measured")
	else
		(["first", .first, .limit], ["least", .least, null]) as [$which, $usual, $limit] |
		cost($sample; $which; .op; .per) as $cost |
		([$usual * (1 + $margin), $limit // infinite] | min) as $allowed |
		line($cost <= $allowed;
		     "\($what), \($which): \($cost | rounded) instructions a \($unit), " +
		     "usually \($usual)" +
		     if $limit then ", limit \($limit)" else "" end +
		     if $row.wanted and $which == "first" then ", wanted \($row.wanted)"
		     else "" end)
	end;

def check_linear($all):
	. as $row |
	sample($all; .file; .backing; .from) as $a |
	sample($all; .file; .backing; .to) as $b |
	("map", "unmap") as $op |
	"\(.file): \(.backing): \($op) is linear from \(.from | gib) to \(.to | gib)" as $what |
	if $a == null or $b == null then line(false; "\($what): not measured")
	else cost($a; "least"; $op; 2097152) as $x | cost($b; "least"; $op; 2097152) as $y |
		line($y <= $x * (1 + $row.tolerance);
		     "\($what): \($x | rounded) and \($y | rounded) each 2 MiB")
	end;

def check_memory($all; $margin; $noise):
	. as $row | sample($all; .file; .backing; .size) as $sample |
	([.limit, (.usual // infinite) * (1 + $margin)] | min + $noise) as $allowed |
	"\(.file): \(.backing), \(.size | gib): memory" as $what |
	if $sample.charged_bytes == null then line(false; "\($what): not measured")
	else line($sample.charged_bytes <= $allowed and
		  $sample.charged_bytes >= $row.least - $noise;
		  "\($what): \($sample.charged_bytes / 1024) KiB, limit \($row.limit / 1024)")
	end;

(reduce inputs as $report ({};
	.[input_filename | split("/") | last | rtrimstr(".json")] = $report)) as $all |
$budget[0] as $b |
($b.costs[] | check_cost($all; $b.margin)),
($b.linear[] | check_linear($all)),
($b.memory[] | check_memory($all; $b.margin; $b.memory_noise))
