#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: do the scripts for bpftrace tell what maps were made? Prints "ok" and
# "not ok" lines.

status=0

# expect FILE REGEX TEXT
expect()
{
	if grep -qE "$2" "$1"; then
		echo "ok - $3"
	else
		echo "not ok - $3"
		sed 's/^/# /' "$1"
		status=1
	fi
}

# run SCRIPT STATE SIZE MODULE-PARAMETER...: while memory of two kinds is mapped
run()
{
	script=$1 state=$2 size=$3
	shift 3
	backend mt "$@" || exit 1
	/test/bpftrace -c "/test/vfio_mt_selftest bench --driver mt --quiet --reps 1 --size $size --backing 4k,2m --state $state" \
		"/test/$script" >"/tmp/$script.log" 2>&1 || {
		echo "not ok - $script: exit status $?"
		sed 's/^/# /' "/tmp/$script.log"
		status=1
	}
}

run map-latency.bt populated 64M
expect /tmp/map-latency.bt.log '^@us_4k_pages:' 'map-latency.bt: small pages'
expect /tmp/map-latency.bt.log '^@us_2m_pages:' 'map-latency.bt: huge pages'
expect /tmp/map-latency.bt.log '^@us_per_gib_4k_pages: [0-9]+' 'map-latency.bt: time for each GiB'

# Cold: it takes so long that there is a helper in time on a busy machine, too.
run map-threads.bt cold 128M helper_us=0 min_chunk_mb=2 max_threads=2
expect /tmp/map-threads.bt.log '128 MiB in [0-9]+ chunks, for 2 threads' 'map-threads.bt: the plan'
expect /tmp/map-threads.bt.log '^@kib_of_thread\[vfio_mt/[0-9]+, [0-9]+\]: [0-9]+' \
	'map-threads.bt: a helper'
expect /tmp/map-threads.bt.log '^@kib_of_cpu\[[01]\]: [0-9]+' 'map-threads.bt: a CPU'
exit "$status"
