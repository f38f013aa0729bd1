#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: load both drivers in both orders. VFIO asks the one that was
# registered last first, so that one must answer; the other is not touched; an
# open container keeps its driver from being unloaded; both unload at the end.
# Prints "ok" and "not ok" lines.

selftest=/test/vfio_mt_selftest
stock_ko=$(find /lib/modules -name 'vfio_iommu_type1.ko*' | head -n 1)
failed=0

report()
{
	if [ "$1" -eq 0 ]; then
		echo "ok - $2"
	else
		echo "not ok - $2"
		failed=1
	fi
}

answers()
{
	$selftest test --driver "$1" --gtest_filter='Info*:Table/MapArguments.*:Table/MapMemory.*/thp*' \
		>/tmp/log 2>&1
	status=$?
	[ $status -eq 0 ] || cat /tmp/log
	return $status
}

load()
{
	case $1 in
	stock) insmod "$stock_ko" ;;
	mt) insmod "$VFIO_MT_KO" ;;
	esac
}

module()
{
	case $1 in
	stock) echo vfio_iommu_type1 ;;
	mt) echo vfio_mt_type1 ;;
	esac
}

in_order()
{
	first=$1 second=$2
	load "$first"
	answers "$first"
	report $? "$first alone answers"
	load "$second"
	answers "$second"
	report $? "$second, loaded after $first, answers"
	rmmod "$(module "$second")"
	report $? "$second unloads while $first stays"
	answers "$first"
	report $? "$first answers again"
	load "$second"
	rmmod "$(module "$first")"
	report $? "$first unloads while $second stays"
	answers "$second"
	report $? "$second answers without $first"
	rmmod "$(module "$second")"
	report $? "$second unloads"
}

backend none
in_order stock mt
in_order mt stock
exit $failed
