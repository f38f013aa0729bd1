#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs in the guest, for guest/dpdk: DPDK's testpmd on both drivers.
#
#	dpdk.sh FRAMES

FRAMES=$1

# The cards' slots, in the order of guest/dpdk
FIRST_CARD=5
SECONDS_MAX=150

# shellcheck source=SCRIPTDIR/report.sh
. /test/report.sh

# received LOG: how many frames testpmd says it has received so far
received()
{
	sed -n 's/.*RX-packets: \([0-9]*\).*/\1/p' "$1" | tail -n 1
}

# run_testpmd MEMORY [OPTION]...: sends back what the next card receives, until it has
# had enough and nothing more comes.
run_testpmd()
{
	CASE=$1
	log=/out/testpmd.$DRIVER-$CASE
	device=0000:00:0$CARD.0
	CARD=$((CARD + 1))
	shift

	vfio-bind "$device" || { result 1 "the card is bound"; return; }
	before=$(pinned)
	/test/dpdk-testpmd -l 0,1 -n 1 -a "$device" -m 128 "$@" -- --forward-mode=macswap \
		--port-topology=loop --total-num-mbufs=8192 --auto-start --stats-period 1 >"$log" 2>&1 </dev/null &
	pid=$!
	last=
	waited=0
	while kill -0 $pid 2>/dev/null && [ $waited -lt $SECONDS_MAX ]; do
		sleep 3
		waited=$((waited + 3))
		now=$(received "$log")
		[ "${now:-0}" -lt "$FRAMES" ] || [ "$now" != "$last" ] || break
		last=$now
	done
	[ "$(pinned)" -gt "$before" ]
	result $? "its memory is pinned ($(pinned) pages)"
	[ "$(users)" -gt 0 ]
	result $? "the driver is in use"
	kill -INT $pid 2>/dev/null
	wait $pid
	same "testpmd has ended well" 0 $?
	[ "${now:-0}" -ge "$FRAMES" ]
	result $? "frames were received: ${now:-none}"
	nothing_left
}

mkdir -p /var/run/dpdk
modprobe vfio-pci
CARD=$FIRST_CARD
for DRIVER in stock mt; do
	backend $DRIVER || exit
	run_testpmd huge
	run_testpmd small --no-huge
done
exit $FAILED
