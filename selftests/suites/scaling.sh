#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest, for scripts/scaling:
#
#	scaling.sh wall REPS	times with the CPUs that there are
#	scaling.sh count	instructions by size, under -icount
#
# Leaves JSON files in /out.

selftest=/test/vfio_mt_selftest

bench()
{
	name=$1
	shift
	$selftest bench --quiet --json "/out/$name.json" "$@" || exit
}

case $1 in
wall)
	# Both drivers in turn: one call, on as many threads as the driver sees fit.
	bench one --compare stock,mt --reps "$2" --state cold,populated \
		--size 1G --backing 4k,thp,2m
	# The same by two threads of the program, each with half of it.
	bench two --compare stock,mt --reps "$2" --state cold --threads 2 \
		--size 1G --backing 4k,thp,2m
	# As many other tasks as there are CPUs, then one.
	bench busy --compare stock,mt --reps "$2" --state cold,populated \
		--busy "$(nproc)" --size 1G --backing 4k
	bench busy1 --compare stock,mt --reps "$2" --state cold,populated \
		--busy 1 --size 1G --backing 4k
	# Killed, after the map, or in the middle of it.
	bench exit --compare stock,mt --reps "$2" --state populated --exit \
		--size 1G --backing 4k,thp,2m
	bench exit-cold --compare stock,mt --reps "$2" --state cold --exit \
		--size 1G --backing 4k,thp,2m
	bench kill --compare stock,mt --reps "$2" --state cold --kill \
		--size 1G --backing 4k,thp,2m
	;;
count)
	# What a call costs whatever its size, and what each leaf adds.
	bench leaves-2m --driver mt --count --reps 3 --alias --state populated \
		--size 2M,64M,1G,16G,256G,1T --backing 2m
	bench leaves-1g --driver mt --count --reps 3 --alias --state populated \
		--size 1G,16G,256G,1T --backing 1g
	bench pages --driver mt --count --reps 3 --state populated \
		--size 4K,64K,1M,16M,64M,256M --backing 4k
	bench cold --driver mt --count --reps 3 --state cold \
		--size 16M,64M,256M --backing 4k,thp,2m
	;;
esac
