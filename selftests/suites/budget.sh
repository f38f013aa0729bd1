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
	# Runs of ten pages are too short to be few, and too long to be given up.
	bench --alias --alias-run 1 --size 4G --backing memfd --json /out/alias-run1.json
	bench --alias --alias-run 10 --size 4G --backing memfd --json /out/alias-run10.json
	;;
esac
