#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest, for scripts/bench-peers:
#
#	bench_peers.sh count NAME	instructions, under -icount
#	bench_peers.sh wall REPS	times of all of them in turn
#
# NAME is one of $peers: type1's two drivers, ours also alone; IOMMUFD, also from as many
# threads of the calling program as there are CPUs, each with its part of the memory.
#
# Leaves JSON files in /out.

selftest=/test/vfio_mt_selftest
peers="stock iommufd iommufd-threads mt-alone mt"

# choose NAME: load what it takes, and set $options to how it is asked for
choose()
{
	case $1 in
	stock)		 backend stock; options="--driver stock" ;;
	iommufd)	 backend none; options="--driver iommufd" ;;
	iommufd-threads) backend none; options="--driver iommufd --threads $(nproc)" ;;
	mt-alone)	 backend mt max_threads=1; options="--driver mt" ;;
	mt)		 backend mt; options="--driver mt" ;;
	*)		 echo "there is no $1: $peers" >&2; exit 2 ;;
	esac || exit
}

bench()
{
	# shellcheck disable=SC2086 # several options
	$selftest bench $options --quiet "$@" || exit
}

# Emulators translate code when it is first run, and a module that was just loaded is new
# code.
warm_up()
{
	bench --reps 1 --state populated --size 64M --backing 4k,thp,2m,memfd
	bench --reps 1 --state populated --size 1G --backing 1g
} >/dev/null

count()
{
	file=$1-$name
	shift
	bench --count --json "/out/count-$file.json" "$@"
}

# wall NAME REPETITION
wall()
{
	bench --reps 1 --state cold,populated --size 1G --backing 4k,thp,2m,memfd \
		--json "/out/wall-$1-$2.json"
	bench --reps 1 --state cold,populated --size 2G --backing 1g \
		--json "/out/wall-1g-$1-$2.json"
}

# reversed WORD...: the last one first
reversed()
{
	words=
	for word; do
		words="$word $words"
	done
	echo "$words"
}

case $1 in
count)
	name=$2
	choose "$name"
	# Populated first: the memory of a machine that has just been started.
	count populated --state populated --size 256M --backing 4k,thp,2m,memfd
	count populated-1g --state populated --size 1G --backing 1g
	count cold --state cold --size 256M --backing 4k,thp,2m,memfd
	count cold-1g --state cold --size 1G --backing 1g
	;;
wall)
	# The emulator has its own memory yet to get, as the guest first touches it: whoever
	# is first would pay.
	choose stock
	wall stock 0
	rm /out/wall-*-0.json
	rep=1
	while [ $rep -le "$2" ]; do
		for name in $peers; do
			choose "$name"
			warm_up
			wall "$name" $rep
		done
		# There and back: what drifts hits all alike.
		# shellcheck disable=SC2086 # one word each
		peers=$(reversed $peers)
		rep=$((rep + 1))
	done
	;;
esac
