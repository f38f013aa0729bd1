# SPDX-License-Identifier: GPL-2.0-only
#
# Draw what scripts/bench measured. Set csv and svg with -e.
#
# Columns of the CSV: 1 kind, 2 backing, 3 run, 4 state, 5 size, 7 driver,
# 9 map_per_page, 10 unmap_per_page, 14 map_ms_per_gib, 15 unmap_ms_per_gib

set terminal svg size 900,1000 font "sans,13" background "white"
set output svg
set datafile separator ","

rows(kind, state, driver, column) = sprintf("< awk -F, -v OFS=, '$1 == \"%s\" && $4 == \"%s\" && $7 == \"%s\" && $3 == \"\" {print $2, $%d}' %s", kind, state, driver, column, csv)
line(backing, driver, column) = sprintf("< awk -F, -v OFS=, '$1 == \"alias\" && $2 == \"%s\" && $7 == \"%s\" && $3 == \"\" {print $5 / 2^30, $%d * $5 / 4096}' %s", backing, driver, column, csv)

set style data histogram
set style histogram clustered gap 1
set style fill solid 0.85 border -1
set boxwidth 0.9
set grid ytics
set key outside right top
set logscale y
set format y "%g"

stock_map = "#b03030"; stock_unmap = "#e09090"
mt_map = "#206020"; mt_unmap = "#80c080"

set multiplot layout 3,1

set title "Instructions for each 4 KiB, populated memory, one CPU"
set yrange [0.01:3000]
plot rows("instructions", "populated", "stock", 9) using 2:xtic(1) title "map, stock" lc rgb stock_map, \
     rows("instructions", "populated", "mt", 9) using 2 title "map, mt" lc rgb mt_map, \
     rows("instructions", "populated", "stock", 10) using 2 title "unmap, stock" lc rgb stock_unmap, \
     rows("instructions", "populated", "mt", 10) using 2 title "unmap, mt" lc rgb mt_unmap

# Without repetitions there are no times.
if (int(system(sprintf("grep -c ^wall, %s || true", csv))) > 0) {
set title "Milliseconds for each GiB, populated memory, 2 emulated CPUs"
set yrange [0.01:1000]
plot rows("wall", "populated", "stock", 14) using 2:xtic(1) title "map, stock" lc rgb stock_map, \
     rows("wall", "populated", "mt", 14) using 2 title "map, mt" lc rgb mt_map, \
     rows("wall", "populated", "stock", 15) using 2 title "unmap, stock" lc rgb stock_unmap, \
     rows("wall", "populated", "mt", 15) using 2 title "unmap, mt" lc rgb mt_unmap
}

set title "Instructions to map the memory of a large guest"
set style data linespoints
set logscale xy
set yrange [*:*]
set xlabel "GiB"
set format y "10^{%L}"
plot line("memfd", "stock", 9) using 1:2 title "4 KiB, stock" lc rgb stock_map pt 4, \
     line("2m", "stock", 9) using 1:2 title "2 MiB, stock" lc rgb stock_map pt 6, \
     line("1g", "stock", 9) using 1:2 title "1 GiB, stock" lc rgb stock_map pt 8, \
     line("memfd", "mt", 9) using 1:2 title "4 KiB, mt" lc rgb mt_map pt 5, \
     line("2m", "mt", 9) using 1:2 title "2 MiB, mt" lc rgb mt_map pt 7, \
     line("1g", "mt", 9) using 1:2 title "1 GiB, mt" lc rgb mt_map pt 9
unset multiplot
