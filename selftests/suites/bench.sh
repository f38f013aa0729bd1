#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest, for scripts/bench:
#
#	bench.sh count stock|mt	instructions, under -icount
#	bench.sh alias stock|mt	the same for very large ranges
#	bench.sh wall REPS	times of both drivers in turn
#
# Leaves JSON files in /out.

selftest=/test/vfio_mt_selftest

bench()
{
	$selftest bench --quiet "$@" || exit
}

count()
{
	name=$1
	shift
	bench --driver "$driver" --count --json "/out/$name-$driver.json" "$@"
}

case $1 in
count)
	driver=$2
	# Populated first: the memory of a machine that has just been started.
	count populated --state populated --size 256M --backing 4k,thp,2m
	count populated-1g --state populated --size 1G --backing 1g
	count cold --state cold --size 256M --backing 4k,thp,2m
	count cold-1g --state cold --size 1G --backing 1g
	;;
alias)
	driver=$2
	# What the stock driver does in a minute or two. Its cost is linear, too.
	sizes_2m=1G,4G,32G sizes_1g=4G,32G sizes_4k=1G,4G
	if [ "$driver" = mt ]; then
		sizes_2m=1G,4G,32G,256G,1T,4T sizes_1g=4G,32G,256G,1T,4T
		sizes_4k=1G,4G,16G
	fi
	count alias-2m --alias --state populated --size $sizes_2m --backing 2m
	count alias-1g --alias --state populated --size $sizes_1g --backing 1g
	count alias-4k --alias --state populated --size $sizes_4k --backing memfd
	count alias-2m-run1 --alias --alias-run 1 --state populated \
		--size 4G --backing 2m
	count alias-4k-run1 --alias --alias-run 1 --state populated \
		--size 1G --backing memfd
	count alias-4k-run20 --alias --alias-run 20 --state populated \
		--size 1G --backing memfd
	;;
wall)
	bench --compare stock,mt --reps "$2" --state cold,populated \
		--size 1G --backing 4k,thp,2m --json /out/wall.json
	bench --compare stock,mt --reps "$2" --state cold,populated \
		--size 2G --backing 1g --json /out/wall-1g.json
	# By two threads of the program, each with half of it.
	bench --compare stock,mt --reps "$2" --state cold --threads 2 \
		--size 1G --backing 4k,thp,2m --json /out/two.json
	;;
esac
