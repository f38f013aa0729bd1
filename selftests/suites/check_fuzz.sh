#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: fuzz each module of /test/broken, until a seed fails.
#
#	check_fuzz.sh SEED...
#
# Leaves /out/NAME.log, what the fuzzer printed for NAME.ko, and /out/NAME.replay, what
# it printed when what stands behind "--" in its replay line was run. FUZZ_REPLAY is as
# for fuzz.sh.

broken=/test/broken

for ko in "$broken"/*.ko; do
	name=$(basename "$ko" .ko)
	export VFIO_MT_KO="$ko"
	echo "# $name"
	FUZZ_DRIVERS=mt FUZZ_REPLAY="$FUZZ_REPLAY --mt-ko build/check-fuzz/broken/$name.ko" \
		/test/fuzz.sh "$@" >"/out/$name.log" 2>&1 && continue
	command=$(sed -n 's/^replay: .* -- //p' "/out/$name.log" | head -n 1)
	# A fuzzer that broke down has left nothing to replay, and the test module in use.
	[ -n "$command" ] || exit 1
	backend mt && $command >"/out/$name.replay" 2>&1
done
exit 0
