#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In a guest under -icount: measure what budget.json has figures for.
#
#	budget.sh pages|alias

bench()
{
	/test/vfio_mt_selftest bench --driver mt --count --quiet --state populated "$@" || exit
}

case $1 in
pages)
	bench --reps 3 --size 256M --backing 4k,thp,2m --json /out/pages.json
	bench --reps 3 --size 1G --backing 1g --json /out/pages-1g.json
	;;
alias)
	# A TiB needs an IOMMU with 48 address bits. 320 GiB are no power of two.
	bench --alias --size 32G,320G,1T --backing 2m --json /out/alias.json
	# No two leaves are neighbours: each costs a call of the IOMMU's driver.
	bench --alias --alias-run 1 --size 32G --backing 2m --json /out/alias-leaves.json
	# Pages that nothing is recorded of, and runs so short that they are many, but
	# not too many to be recorded.
	bench --alias --alias-run 1 --size 1G --backing memfd --json /out/alias-pages.json
	bench --alias --alias-run 20 --size 2G --backing memfd --json /out/alias-runs.json
	;;
esac
