#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2046,SC2054,SC2086 # words are meant to split; QEMU likes commas
# shellcheck disable=SC2010,SC2317 # links; cases are called by name
# shellcheck disable=SC3045 # busybox has read -t
#
# Runs in the outer guest: start unmodified QEMU guests with passthrough devices, on
# both drivers, and see that the devices work in them. Prints "ok" and "not ok" lines;
# writes times to /out/times.csv.
#
#	cases.sh CASE...
#
# The host (guest/passthrough) looks at the disks afterwards: of each it knows which
# slots should have been written, from /out/slots.

DISK0=0000:00:05.0
DISK1=0000:00:06.0
CARD=0000:00:07.0
WHOLE_DISK=0000:00:08.0

QEMU=/test/qemu-system-x86_64
FIRMWARE="-L /test/firmware"
TRACING=/sys/kernel/tracing
NEXT_SLOT=0
WHOLE_PASS=0

# shellcheck source=SCRIPTDIR/report.sh
. /test/report.sh

# ---- times ----

# Two rings: one keeps the first events, up to the first instruction of the guest, the
# other has what the driver is asked for and when the process is gone; it holds all that
# a guest with an IOMMU of its own asks for.
trace_setup()
{
	for ring in start ioctl; do
		mkdir -p $TRACING/instances/$ring
		echo global >$TRACING/instances/$ring/trace_clock
	done
	echo 16384 >$TRACING/instances/ioctl/buffer_size_kb
	cd $TRACING/instances/start || exit
	echo 64 >buffer_size_kb
	echo 0 >options/overwrite
	echo "filename == \"$QEMU\"" >events/sched/sched_process_exec/filter
	# From here on: see hold_keys.
	echo 0 >tracing_on
	echo 1 >events/sched/sched_process_exec/enable
	echo 1 >events/kvm/kvm_fpu/enable
	cd - >/dev/null || exit
}

# What of a driver the time is measured in: the ioctls MAP_DMA and UNMAP_DMA, and what
# takes mappings away when the container is closed.
trace_begin()
{
	case $DRIVER in
	stock)	module=vfio_iommu_type1 prefix=vfio_iommu_type1 ;;
	mt)	module=vfio_mt_type1 prefix=vfio_mt ;;
	esac
	{
		echo "p:vmt/begin $module:${prefix}_ioctl cmd=%si:x32"
		echo "r:vmt/end $module:${prefix}_ioctl"
		for call in detach_group release; do
			echo "p:vmt/begin_$call $module:${prefix}_$call"
			echo "r:vmt/end_$call $module:${prefix}_$call"
		done
	} >$TRACING/kprobe_events
	cd $TRACING/instances/ioctl || exit
	# _IO(';', 113) and 114
	echo 'cmd == 0x3b71 || cmd == 0x3b72' >events/vmt/begin/filter
	echo 1 >events/vmt/enable
	echo >trace
	echo >../start/trace
	echo 1 >../start/tracing_on
	cd - >/dev/null || exit
}

# mark TEXT
mark()
{
	echo "$1" >$TRACING/instances/ioctl/trace_marker
}

# trace_end HOW: a line for times.csv, in milliseconds: from exec to the guest's first
# instruction; how much of it the driver takes; from the order to stop to the process
# gone; how much of that the driver takes. None if events were lost.
trace_end()
{
	cd $TRACING/instances/ioctl || exit
	echo 0 >events/vmt/enable
	echo 0 >../start/tracing_on
	cat ../start/trace trace >"/out/trace.$DRIVER.$CASE"
	cd - >/dev/null || exit
	echo >$TRACING/kprobe_events
	awk -v line="$DRIVER,$CASE,$1" '
		/entries-in-buffer/ {
			split($3, entries, "/")
			lost += entries[2] - entries[1]
		}
		/^#/ || NF == 0 { next }
		{
			match($0, /[0-9]+\.[0-9]+: /)
			now = substr($0, RSTART, RLENGTH - 2) * 1000
			match($0, /-[0-9]+ +\[/)
			task = substr($0, RSTART, RLENGTH)
		}
		/sched_process_exec/ && !exec { exec = now }
		/kvm_fpu: load/ && !first { first = now }
		/ begin(_[a-z_]+)?: / { since[task] = now }
		/ end(_[a-z_]+)?: / && task in since {
			if (now < first)
				map += now - since[task]
			else if (stop)
				unmap += now - since[task]
			delete since[task]
		}
		/: stop$/ { stop = now }
		/: gone$/ { gone = now }
		END {
			if (!first || lost)
				exit
			printf "%s,%.1f,%.1f,%.1f,%.1f\n", line, first - exec, map,
				gone - stop, unmap
		}' "/out/trace.$DRIVER.$CASE" >>/out/times.csv
}

# ---- a guest ----

# as_user KIB COMMAND...: as a user who may lock so much memory; replaces this shell
as_user()
{
	ulimit -l "$1"
	shift
	exec /test/setpriv --reuid 1000 --regid 1000 --clear-groups "$@"
}

# locked PID: how much memory is charged to it, in KiB, but for what it has locked
# itself; it stands still meanwhile.
locked()
{
	kill -STOP "$1"
	while kill -0 "$1" && ! grep -q '^State:.*stopped' "/proc/$1/status"; do
		usleep 10000
	done
	awk '
		$1 == "VmLck:" { sum += $2 }
		$1 == "Size:" { size = $2 }
		$1 == "VmFlags:" && / lo( |$)/ { sum -= size }
		END { print sum }' "/proc/$1/status" "/proc/$1/smaps"
	kill -CONT "$1"
}

# start [-u KIB] ARGUMENT...: start one with the kernel arguments in $APPEND, and wait
# until it is up. With -u, as a user who may lock so much memory.
start()
{
	as='exec'
	[ "$1" != -u ] || { as="as_user $2"; shift 2; }

	rm -f /tmp/monitor.*
	mkfifo /tmp/monitor.in /tmp/monitor.out
	: >"/out/console.$DRIVER.$CASE"
	chmod 666 /tmp/monitor.* "/out/console.$DRIVER.$CASE"
	agent_open
	exec 5<>/tmp/monitor.in
	cat 6>&- </tmp/monitor.out >"/out/monitor.$DRIVER.$CASE" &

	trace_begin
	(
		$as $QEMU $FIRMWARE $GUEST_ARGS -machine sata=off,smbus=off,vmport=off \
			-kernel /test/vmlinux -initrd /test/inner.cpio \
			-append "$KERNEL_ARGS $APPEND" \
			-serial "file:/out/console.$DRIVER.$CASE" $AGENT_ARGS \
			-chardev pipe,id=monitor,path=/tmp/monitor -mon chardev=monitor \
			"$@" 4<&-
	) 2>"/out/qemu.$DRIVER.$CASE" &
	PID=$!
	agent_started
	wait_answer
	same "the guest is up" up "$ANSWER"
	[ "$(pinned)" -gt 0 ]
	result $? "its memory is pinned"
	# With an IOMMU of its own it has mapped what its driver has in use just now.
	[ "$CASE" = viommu ] || charged "$(locked $PID)"
}

# charged KIB: what both drivers are to have charged alike at this point of a case
charged()
{
	[ "${1:-0}" -gt 0 ]
	result $? "memory is charged to QEMU: $1 KiB"
	CHARGED="$CHARGED $1"
}

# refused KIB ARGUMENT...: this is not enough memory to lock for a user
refused()
{
	limit=$1
	shift
	(
		as_user "$limit" $QEMU $FIRMWARE $GUEST_ARGS -monitor none -S "$@"
	) 2>/tmp/refused.log &
	PID=$!
	limit_time $PID
	wait $PID
	same "QEMU does not start with a limit of $limit KiB" 1 $?
	kill -- $LIMIT
	grep -q 'vfio_dma_map.*Cannot allocate memory' /tmp/refused.log
	result $? "it says: $(grep -o 'vfio_dma_map.*' /tmp/refused.log | head -n 1)"
	nothing_left
}

# monitor COMMAND...
monitor()
{
	echo "$*" >&5
}

# Has the last guest asked for as many as one with an IOMMU does?
many_maps()
{
	count=$(grep -c ' begin: ' "/out/trace.$DRIVER.$CASE")
	[ "$count" -gt 2000 ]
	result $? "the guest's IOMMU: $count calls to map and unmap"
}

# stop quit|kill|off: end the guest in one of these ways
stop()
{
	mark stop
	case $1 in
	quit)	monitor quit ;;
	kill)	kill -9 $PID ;;
	off)	echo off >&3 ;;
	esac
	limit_time $PID
	wait $PID
	status=$?
	mark gone
	kill -- $LIMIT
	case $1 in
	kill)	same "QEMU was killed" 137 $status ;;
	*)	same "QEMU has ended well" 0 $status ;;
	esac
	trace_end "$1"
	[ "$CASE" != viommu ] || many_maps
	agent_close
	exec 5>&-
	nothing_left
}

# check_disk N: what a disk has is read, and written behind that
check_disk()
{
	slot=$NEXT_SLOT
	NEXT_SLOT=$((NEXT_SLOT + 1))
	sum=$(cat "/test/disk$1.md5")
	ask disk "$1" $slot
	same "disk $1: read, written, read again" "$sum $sum" "$ANSWER"
	echo "$1 $slot" >>/out/slots
}

# check_whole_disk: all that a disk has is read and written through the guest's page
# cache, each byte larger by one each time
check_whole_disk()
{
	set -- $(sed -n "$((WHOLE_PASS + 1)),$((WHOLE_PASS + 2))p" /test/whole.md5)
	WHOLE_PASS=$((WHOLE_PASS + 1))
	ask whole 2
	same "a whole disk: read, written, read again" "$1 $2" "$ANSWER"
	echo $WHOLE_PASS >/out/whole
}

# check_card: data goes out through it, and other data comes in
check_card()
{
	ask net
	# shellcheck disable=SC2086 # words
	set -- $ANSWER
	[ -n "$1" ] && [ "$1" = "$2" ]
	result $? "the network card sends ($ANSWER)"
	same "the network card receives" "$(cat /test/net.md5)" "$3"
}

passthrough()
{
	echo "-device vfio-pci,host=$1${2-}"
}

# The group's file, of a device
group_file()
{
	echo "/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")")"
}

thp()
{
	echo "$1" >/sys/kernel/mm/transparent_hugepage/enabled
}

# ---- cases ----

case_thp()
{
	thp always
	[ "$(group_file $DISK0)" != "$(group_file $CARD)" ]
	result $? "its devices are of two groups"
	start -M q35 -m 1G $(passthrough $DISK0) $(passthrough $CARD)
	[ "$(awk '$1 == "AnonHugePages:" { print $2 }' "/proc/$PID/smaps_rollup")" -gt 900000 ]
	result $? "its memory is huge pages"
	check_disk 0
	check_card
	stop quit
}

# A guest started by a user, who may lock just as much memory as it needs.
case_hugetlb()
{
	chmod 666 /dev/kvm "$(group_file $DISK0)" "$(group_file $WHOLE_DISK)"
	chmod 777 /hugetlbfs/2M
	set -- -M q35,memory-backend=ram -m 512M -object \
		memory-backend-file,id=ram,size=512M,mem-path=/hugetlbfs/2M,prealloc=on,prealloc-threads=2 \
		$(passthrough $DISK0) $(passthrough $WHOLE_DISK)
	# Both devices are in one container.
	enough=$((512 * 1024))
	refused $((enough - 4)) "$@"
	start -u $enough "$@"
	check_disk 0
	check_whole_disk
	stop off
}

case_small_pages()
{
	thp never
	start -M q35,memory-backend=ram -m 512M \
		-object memory-backend-memfd,id=ram,size=512M,share=on \
		-device virtio-balloon -overcommit mem-lock=on $(passthrough $DISK0)
	same "its memory is no huge pages" 0 "$(awk '
		/^(Anon|Shmem|File).*Huge|PmdMapped:/ { sum += $2 }
		END { print sum + 0 }' "/proc/$PID/smaps_rollup")"
	check_disk 0
	ask load
	same "its disk is busy" started "$ANSWER"
	stop kill
	thp always
}

case_giant()
{
	start -M q35,memory-backend=ram -m 1G -object \
		memory-backend-file,id=ram,size=1G,mem-path=/hugetlbfs/1G \
		$(passthrough $DISK0)
	check_disk 0
	ask load
	same "its disk is busy" started "$ANSWER"
	stop kill
}

case_hotplug()
{
	start -M q35 -m 512M,slots=2,maxmem=2G \
		-device pcie-root-port,id=port0,chassis=1 \
		-device pcie-root-port,id=port1,chassis=2 \
		$(passthrough $DISK0 ,id=disk0,bus=port0)
	ask memory
	before=$ANSWER
	monitor object_add memory-backend-ram,id=more,size=256M
	monitor device_add pc-dimm,id=dimm,memdev=more
	wait_until memory $((before + 256))
	same "memory was added" $((before + 256)) "$ANSWER"
	check_disk 0
	ask fill 560
	same "the memory can be used" $((560 << 20)) "$ANSWER"
	ask fill 0
	check_disk 0
	monitor device_add "vfio-pci,host=$DISK1,id=disk1,bus=port1"
	wait_until disks 2
	same "a disk was added" 2 "$ANSWER"
	monitor device_del disk0
	wait_until disks 1
	same "a disk was taken away" 1 "$ANSWER"
	check_disk 1
	monitor device_del disk1
	wait_until disks 0
	same "the last disk was taken away" 0 "$ANSWER"
	wait_unused
	nothing_left
	same "nothing is charged" 0 "$(locked $PID)"
	monitor device_add "vfio-pci,host=$DISK1,id=again,bus=port1"
	wait_until disks 1
	same "a disk was added" 1 "$ANSWER"
	charged "$(locked $PID)"
	ask reboot
	same "the guest was started again" up "$ANSWER"
	check_disk 1
	stop quit
}

# Memory comes and goes in small blocks, each of which QEMU maps and unmaps. What the
# guest gives to a balloon, QEMU does not take, as devices can reach it. The balloon comes
# last: a guest that fills it has no time to move what is in memory that is to go, and
# tries again only after 50 seconds.
case_virtio_mem()
{
	start -M q35 -m 512M,maxmem=2G -device virtio-balloon \
		-object memory-backend-ram,id=more,size=1G \
		-device virtio-mem-pci,id=block,memdev=more,requested-size=128M \
		$(passthrough $DISK0)
	wait_until memory 640
	same "there is memory from the start" 640 "$ANSWER"
	monitor qom-set block requested-size 512M
	wait_until memory 1024
	same "memory was added" 1024 "$ANSWER"
	check_disk 0
	ask fill 600
	same "the memory can be used" $((600 << 20)) "$ANSWER"
	check_disk 0
	ask fill 0
	monitor qom-set block requested-size 0
	wait_until memory 512
	same "memory was taken away" 512 "$ANSWER"
	monitor balloon 256
	wait_until balloon 256
	same "the balloon has its memory" 256 "$ANSWER"
	check_disk 0
	stop quit
}

# wait_until COMMAND ANSWER
wait_until()
{
	attempts=0
	while ask "$1" && [ "$ANSWER" != "$2" ] && [ $attempts -lt 100 ]; do
		usleep 100000
		attempts=$((attempts + 1))
	done
}

# wait_unused: QEMU gives a device back some time after the guest has
wait_unused()
{
	attempts=0
	while [ "$(users)" != 0 ] && [ $attempts -lt 100 ]; do
		usleep 100000
		attempts=$((attempts + 1))
	done
}

# The guest has an IOMMU itself: each of its mappings is one of ours.
case_viommu()
{
	APPEND="intel_iommu=on iommu=nopt iommu.strict=1"
	start -M q35,kernel-irqchip=split -m 512M \
		-device intel-iommu,intremap=on,caching-mode=on \
		$(passthrough $DISK0) $(passthrough $DISK1)
	APPEND=
	ask iommu
	[ "$ANSWER" -gt 0 ]
	result $? "the guest uses its IOMMU ($ANSWER groups)"
	same "each disk has a container" 2 "$(ls -l /proc/$PID/fd | grep -c '/dev/vfio/vfio$')"
	check_disk 0
	check_disk 1
	stop off
}

# ---- all ----

cd /test || exit
ip link set lo up
vfio-bind $DISK0 $DISK1 $CARD $WHOLE_DISK || exit
: >/out/slots
echo driver,case,end,start_ms,map_ms,stop_ms,unmap_ms >/out/times.csv
APPEND=
modprobe kvm-amd || exit
trace_setup
hold_keys $QEMU $FIRMWARE || exit
# virtio-iommu comes without interrupt remapping.
unsafe=
for iommu in /sys/bus/virtio/drivers/virtio_iommu/virtio*; do
	[ ! -e "$iommu" ] || unsafe=allow_unsafe_interrupts=1
done
# In turn, as the second finds more of what the emulator has translated.
drivers="stock mt"
for CASE; do
	first=
	for DRIVER in $drivers; do
		backend "$DRIVER" $unsafe || exit
		CHARGED=
		"case_$CASE"
		[ -z "$first" ] || same "as much is charged as by the other driver" "$first" "$CHARGED"
		first=$CHARGED
	done
	drivers="${drivers#* } ${drivers% *}"
done
kill $KEYS
exit $FAILED
