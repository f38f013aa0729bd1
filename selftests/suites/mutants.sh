#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: run the unit tests of units that have faults (kunit/mutants). For each
# line "NAME SUITE MUTANT" of /test/mutants/list, prints "mutant NAME", and what of the
# suite's KTAP tells whether it and its cases passed. The KTAP itself goes to /out.
# A suite that hangs ends the guest: there is no way to get it out of the kernel.

LIMIT=600

# What is wrong is in the KTAP; the console would take hours for some of it.
dmesg -n 1
while read -r name suite mutant; do
	echo "mutant $name"
	dmesg -c >/dev/null
	insmod "/test/mutants/$suite.ko" "mutant=$mutant" || echo "not loaded" &
	insmod=$!
	seconds=0
	while kill -0 "$insmod" 2>/dev/null; do
		[ "$seconds" -lt "$LIMIT" ] || { echo "hanging"; exit 1; }
		sleep 1
		seconds=$((seconds + 1))
	done
	dmesg | sed 's/^\[[^]]*\] //' >/tmp/ktap
	rmmod vfio_mt_kunit || echo "not unloaded"
	head -c 1000000 /tmp/ktap >"/out/$name"
	grep -E '^(not )?ok |^    not ok |^(BUG|WARNING|Oops)' /tmp/ktap
done </test/mutants/list
