# SPDX-License-Identifier: GPL-2.0-only
#
# Draw what scripts/bench-qemu measured. Set csv and svg with -e.
#
# Columns of the CSV: 1 case, 3 driver, 5 start_ms, 6 map_ms, 7 stop_ms, 8 unmap_ms

set terminal svg size 900,700 font "sans,13" background "white"
set output svg
set datafile separator ","

# What the driver takes, and the rest
rows(all, part) = sprintf("< awk -F, -v OFS=, 'NR > 1 {sub(/_/, \" \", $1); print $1 \"\\\\n\" $3, $%d, $%d - $%d}' %s", part, all, part, csv)

set style data histogram
set style histogram rowstacked gap 1
set style fill solid 0.85 border -1
set boxwidth 0.7
set grid ytics
set key outside right top
set ylabel "ms"
set yrange [0:*]

set multiplot layout 2,1
set title "From exec of QEMU to the first instruction of its guest"
plot rows(5, 6) using 2:xtic(1) title "the driver" lc rgb "#b03030", \
     "" using 3 title "all else" lc rgb "#c0c0c0"
set title "From the order to end to the end of the process"
plot rows(7, 8) using 2:xtic(1) title "the driver" lc rgb "#b03030", \
     "" using 3 title "all else" lc rgb "#c0c0c0"
unset multiplot
