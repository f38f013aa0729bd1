#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs in the guest, for guest/dpdk: users of DPDK on both drivers.
#
#	dpdk.sh FRAMES [switch]		with Open vSwitch too
#
# shellcheck disable=SC2317 # commands of wait_for

FRAMES=$1
WITH_SWITCH=${2-}

# The cards' slots, in the order of guest/dpdk
FIRST_CARD=5
SECONDS_MAX=120

# shellcheck source=SCRIPTDIR/report.sh
. /test/report.sh

# ---- what they have in common ----

# next_card CASE: set DEVICE to a card that was not in use yet, for the driver
next_card()
{
	CASE=$1
	RECEIVED=
	DEVICE=0000:00:$(printf %02x $CARD).0
	CARD=$((CARD + 1))
	vfio-bind "$DEVICE" || { result 1 "the card is bound"; return 1; }
	before=$(pinned)
}

# wait_for PID COMMAND ARGUMENT...: until COMMAND says that the frames were received, and no
# more come; sets RECEIVED
wait_for()
{
	pid=$1
	shift
	last=
	until=$(($(date +%s) + SECONDS_MAX))
	while kill -0 "$pid" 2>/dev/null && [ "$(date +%s)" -lt $until ]; do
		sleep 3
		RECEIVED=$("$@")
		[ "${RECEIVED:-0}" -lt "$FRAMES" ] || [ "$RECEIVED" != "$last" ] || break
		last=$RECEIVED
	done
	[ "$(pinned)" -gt "$before" ]
	result $? "its memory is pinned ($(pinned) pages)"
	[ "$(users)" -gt 0 ]
	result $? "the driver is in use"
}

# ended PID: it has been told to end
ended()
{
	limit_time "$1"
	wait "$1"
	same "it has ended well" 0 $?
	kill -- $LIMIT
	[ "${RECEIVED:-0}" -ge "$FRAMES" ]
	result $? "frames were received: ${RECEIVED:-none}"
	nothing_left
}

# ---- testpmd ----

# testpmd_received LOG: how many frames it says it has received so far
testpmd_received()
{
	sed -n 's/.*RX-packets: \([0-9]*\).*/\1/p' "$1" | tail -n 1
}

# run_testpmd CASE [OPTION]...: sends back what the next card receives, until it has had
# enough and nothing more comes.
run_testpmd()
{
	next_card "$1" || return
	shift
	log=/out/testpmd.$DRIVER-$CASE

	/test/dpdk-testpmd -l 0,1 -n 1 -a "$DEVICE" -m 128 "$@" -- --forward-mode=macswap \
		--port-topology=loop --total-num-mbufs=8192 --auto-start --stats-period 1 >"$log" 2>&1 </dev/null &
	testpmd=$!
	wait_for $testpmd testpmd_received "$log"
	kill -INT $testpmd 2>/dev/null
	ended $testpmd
}

# ---- Open vSwitch ----

switch_received()
{
	/test/ovs-vsctl --timeout=20 get Interface card statistics:rx_packets 2>/dev/null
}

# What the database is told before and after the switch starts
switch_configure()
{
	/test/ovs-vsctl --timeout=20 --no-wait init &&
		/test/ovs-vsctl --timeout=20 --no-wait set Open_vSwitch . \
			other_config:dpdk-init=true other_config:dpdk-socket-mem=128 \
			"other_config:dpdk-extra=\"-a $DEVICE\"" \
			other_config:pmd-cpu-mask=0x2 &&
		/test/ovs-vsctl --timeout=20 --no-wait add-br br0 \
			-- set bridge br0 datapath_type=netdev \
			-- add-port br0 card -- set Interface card type=dpdk ofport_request=1 \
			"options:dpdk-devargs=$DEVICE"
}

# What comes in goes out, with its addresses exchanged.
switch_flow()
{
	/test/ovs-ofctl --timeout=20 del-flows br0 &&
		/test/ovs-ofctl --timeout=20 add-flow br0 "in_port=1,actions=\
move:NXM_OF_ETH_SRC[]->NXM_NX_XXREG0[0..47],\
move:NXM_OF_ETH_DST[]->NXM_OF_ETH_SRC[],\
move:NXM_NX_XXREG0[0..47]->NXM_OF_ETH_DST[],in_port"
}

run_switch()
{
	next_card switch || return
	log=/out/switch.$DRIVER
	OVS_RUNDIR=/tmp/ovs.$DRIVER OVS_DBDIR=/tmp/ovs.$DRIVER OVS_LOGDIR=/tmp/ovs.$DRIVER
	OVS_SYSCONFDIR=/tmp/ovs.$DRIVER
	export OVS_RUNDIR OVS_DBDIR OVS_LOGDIR OVS_SYSCONFDIR

	mkdir -p "$OVS_RUNDIR"
	/test/ovsdb-tool create "$OVS_DBDIR/conf.db" /test/vswitch.ovsschema >"$log" 2>&1 &&
		/test/ovsdb-server "--remote=punix:$OVS_RUNDIR/db.sock" --pidfile --detach \
			--log-file >>"$log" 2>&1 &&
		switch_configure >>"$log" 2>&1
	result $? "the database knows what to do"
	/test/ovs-vswitchd-dpdk --pidfile >>"$log" 2>&1 </dev/null &
	switch=$!
	/test/ovs-vsctl --timeout=60 --retry wait-until Interface card ofport=1 >>"$log" 2>&1 &&
		switch_flow >>"$log" 2>&1
	result $? "the switch has its card"
	wait_for $switch switch_received
	/test/ovs-appctl --timeout=20 -t ovs-vswitchd-dpdk exit --cleanup >>"$log" 2>&1
	ended $switch
	/test/ovs-appctl --timeout=20 -t ovsdb-server exit >>"$log" 2>&1
}

mkdir -p /var/run/dpdk
modprobe vfio-pci
modprobe tun
CARD=$FIRST_CARD
for DRIVER in stock mt; do
	backend $DRIVER || exit
	run_testpmd huge
	run_testpmd small --no-huge
	[ -z "$WITH_SWITCH" ] || run_switch
done
exit $FAILED
