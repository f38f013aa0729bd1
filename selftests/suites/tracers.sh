#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: do the scripts for bpftrace, perf and trace-cmd tell what maps were made?
# Those of the programs that are here. Prints "ok" and "not ok" lines.

status=0

# expect FILE REGEX TEXT
expect()
{
	if grep -qE "$2" "$1"; then
		echo "ok - $3"
	else
		echo "not ok - $3"
		sed 's/^/# /' "$1" | tail -n 40
		status=1
	fi
}

# try NAME COMMAND ARG...: what it prints goes to /tmp/NAME.log
try()
{
	name=$1
	shift
	"$@" >"/tmp/$name.log" 2>&1 || {
		echo "not ok - $name: exit status $?"
		sed 's/^/# /' "/tmp/$name.log" | tail -n 40
		status=1
	}
}

# maps STATE SIZE: the command that maps and unmaps memory of two kinds
maps()
{
	echo "/test/vfio_mt_selftest bench --driver mt --quiet --reps 1 --size $2 --backing 4k,2m --state $1"
}

bpftrace_scripts()
{
	backend mt || exit 1
	try map-latency.bt /test/bpftrace -c "$(maps populated 64M)" /test/map-latency.bt
	log=/tmp/map-latency.bt.log
	expect $log '^@us_4k_pages:' 'map-latency.bt: small pages'
	expect $log '^@us_2m_pages:' 'map-latency.bt: huge pages'
	expect $log '^@us_per_gib_4k_pages: [0-9]+' 'map-latency.bt: time for each GiB'

	# Cold: it takes so long that there is a helper in time on a busy machine, too.
	backend mt helper_us=0 min_chunk_mb=2 max_threads=2 || exit 1
	try map-threads.bt /test/bpftrace -c "$(maps cold 128M)" /test/map-threads.bt
	log=/tmp/map-threads.bt.log
	expect $log '128 MiB in [0-9]+ chunks, for 2 threads' 'map-threads.bt: the plan'
	expect $log '^@kib_of_thread\[vfio_mt/[0-9]+, [0-9]+\]: [0-9]+' 'map-threads.bt: a helper'
	expect $log '^@kib_of_cpu\[[01]\]: [0-9]+' 'map-threads.bt: a CPU'
}

# events NAME FILE: is there each event, with its size?
events()
{
	expect "$2" 'vfio_mt:?.*map_begin.*size' "$1: map_begin"
	expect "$2" 'vfio_mt:?.*map_end.*size' "$1: map_end"
	expect "$2" 'vfio_mt:?.*chunk.*size' "$1: chunk"
	expect "$2" 'vfio_mt:?.*unmap.*size' "$1: unmap"
}

perf_trace()
{
	backend mt || exit 1
	# shellcheck disable=SC2046 # words
	try perf /test/perf trace -e 'vfio_mt:*' $(maps populated 64M)
	events perf /tmp/perf.log
}

trace_cmd()
{
	backend mt || exit 1
	# shellcheck disable=SC2046 # words
	try record /test/trace-cmd record -q -e vfio_mt -o /tmp/trace.dat $(maps populated 64M)
	try trace-cmd /test/trace-cmd report -i /tmp/trace.dat
	events trace-cmd /tmp/trace-cmd.log
}

[ ! -x /test/bpftrace ] || bpftrace_scripts
[ ! -x /test/perf ] || perf_trace
[ ! -x /test/trace-cmd ] || trace_cmd
exit "$status"
