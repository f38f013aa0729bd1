#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: run functional cases.
#
#	differential.sh FILTER WHO...
#
# WHO is "stock", the stock driver; "mt", ours as it is used; "mt-threads", ours with
# several threads even for small maps. Leaves /out/WHO.json and /out/WHO.log for
# each; the host compares.

selftest=/test/vfio_mt_selftest
mock=/test/vfio_mt_mock.ko
filter=$1
shift
status=0

# virtio-iommu does not isolate interrupts, so an administrator has to permit it.
unsafe=
for iommu in /sys/bus/virtio/drivers/virtio_iommu/virtio*; do
	[ ! -e "$iommu" ] || unsafe=allow_unsafe_interrupts=1
done

run()
{
	driver=$1
	shift
	# shellcheck disable=SC2086 # nothing, or one word
	backend "$driver" $unsafe "$@" || exit 1
	[ ! -f "$mock" ] || insmod "$mock" || exit 1
	if ! $selftest test --driver "$driver" --gtest_filter="$filter" \
		--outcome "/out/$who.json" >"/out/$who.log" 2>&1; then
		grep -a -e "FAILED  \]" -e "Failure$" -A 3 "/out/$who.log" | head -n 30
		status=1
	fi
	tail -n 1 "/out/$who.log"
	[ ! -f "$mock" ] || rmmod vfio_mt_mock || exit 1
}

# A disk that reads zeros, and one for swap, if the guest was given the modules.
modprobe null_blk gb=1 2>/dev/null
modprobe brd rd_nr=1 rd_size=131072 2>/dev/null

for who; do
	echo "# $who"
	case $who in
	stock|mt)
		run "$who"
		;;
	mt-threads)
		run mt helper_us=0 min_chunk_mb=2 max_threads=8 \
			lockvm_cache_pages=1000
		;;
	*)
		echo "differential.sh: who is $who?"
		status=2
		;;
	esac
done
exit $status
