#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: fuzz.
#
#	fuzz.sh SEED...		each seed with the stock driver and with ours, one
#				thread, and the outcomes compared; then ours with
#				several threads and processes, and helper threads
#				for small maps, once
#	fuzz.sh --minutes N	the same with fresh seeds, for so long
#	fuzz.sh --replay OPTION...
#				vfio_mt_selftest fuzz, once, with the backend as it is
#
# With the test module in /test, it tells what the IOMMU translates to, and to which
# pages, in every step.
# FUZZ_DRIVERS ("stock mt"), FUZZ_STEPS and FUZZ_REPLAY come from the host. Prints
# "ok" and "not ok" lines, and how to replay what failed. Leaves /out/fuzz-SEED.*.

selftest=/test/vfio_mt_selftest
mock=/test/vfio_mt_mock.ko
drivers=${FUZZ_DRIVERS:-stock mt}
steps=${FUZZ_STEPS:-300}
status=0

# Helper threads even for small maps, which charge a little at a time
helpers='helper_us=0 min_chunk_mb=2 max_threads=8 lockvm_cache_pages=100'

# fuzz DRIVER PARAMETERS OPTION...
fuzz()
{
	driver=$1
	parameters=$2
	shift 2
	# shellcheck disable=SC2086 # several parameters
	backend "$driver" $parameters || exit 1
	[ ! -f "$mock" ] || insmod "$mock" || exit 1
	replay="$FUZZ_REPLAY --driver $driver"
	for parameter in $parameters; do
		replay="$replay --driver-arg $parameter"
	done
	$selftest fuzz --driver "$driver" --steps "$steps" \
		--replay "$replay -- /test/fuzz.sh --replay" "$@"
	result=$?
	[ ! -f "$mock" ] || rmmod vfio_mt_mock || exit 1
	return $result
}

# One thread, with each driver.
sequence()
{
	seed=$1
	for driver in $drivers; do
		fuzz "$driver" "" --seed "$seed" \
			--outcome "/out/fuzz-$seed.$driver.json" || status=1
	done
	[ "$drivers" = "stock mt" ] || return
	if $selftest diff "/out/fuzz-$seed.stock.json" "/out/fuzz-$seed.mt.json" \
		>"/out/fuzz-$seed.diff"; then
		echo "ok fuzz seed $seed: both drivers are alike"
	else
		echo "not ok fuzz seed $seed: the drivers differ"
		grep DIFFERENT "/out/fuzz-$seed.diff" | head -n 5
		status=1
	fi
}

threads()
{
	fuzz mt "$helpers" --seed "$1" --threads 3 --processes 2 || status=1
}

if [ "$1" = --replay ]; then
	shift
	[ ! -f "$mock" ] || insmod "$mock" || exit 1
	$selftest fuzz "$@" || status=1
	[ ! -f "$mock" ] || rmmod vfio_mt_mock || exit 1
	exit $status
fi
if [ "$1" = --minutes ]; then
	end=$(($(date +%s) + $2 * 60))
	while [ $status -eq 0 ] && [ "$(date +%s)" -lt $end ]; do
		seed=$(($(hexdump -n 4 -e '"%u"' /dev/urandom)))
		sequence "$seed"
		threads "$seed"
		[ $status -ne 0 ] || rm -f /out/fuzz-"$seed".*
	done
	exit $status
fi
for seed; do
	sequence "$seed"
	[ $status -eq 0 ] || exit $status
done
threads "$1"
exit $status
