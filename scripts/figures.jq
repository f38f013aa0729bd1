# SPDX-License-Identifier: GPL-2.0-only
#
# A module of the other programs here: jq -L scripts.

def median: sort | if length % 2 == 1 then .[length / 2 | floor]
		   else (.[length / 2 - 1] + .[length / 2]) / 2 end;

# To N significant digits
def significant($n): if . == 0 then 0
		     else (. | fabs | log10 | floor) as $e | pow(10; $n - 1 - $e) as $f |
			  (. * $f | round) / $f end;

# A figure, and a line of cells, in a table of Markdown's
def text: significant(3) | tostring;
def line: "| \(join(" | ")) |";
