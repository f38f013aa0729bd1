#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: time both drivers, alternating between them.

reps=${1:-3}

/test/vfio_mt_selftest bench --compare stock,mt --reps "$reps" --quiet \
	--size 1G --backing 4k,thp,2m --state cold,populated \
	--json /out/demo.json --csv /out/demo.csv || exit
echo
/test/vfio_mt_selftest bench --compare stock,mt --reps "$reps" --quiet \
	--size 2G --backing 1g --state cold,populated \
	--json /out/demo-1g.json --csv /out/demo-1g.csv
