#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs in the guest, for guest/qemu-img: qemu-img reads a disk and writes it, on both
# drivers.

DISK=0000:00:05.0
# As in guest/qemu-img
DATA_MIB=16

# shellcheck source=SCRIPTDIR/report.sh
. /test/report.sh

# data FILE N: a checksum of the N-th copy of the data in FILE
data()
{
	dd if="$1" bs=1M skip=$((DATA_MIB * $2)) count=$DATA_MIB 2>/dev/null | md5sum |
		cut -d ' ' -f 1
}

# How often anything was pinned so far
pins()
{
	echo 1 >/proc/sys/vm/stat_refresh
	awk '/^nr_foll_pin_acquired/ { print $2 }' /proc/vmstat
}

# Is the driver ever in use, while process PID is at work?
watch_users()
{
	most=0
	while kill -0 "$1" 2>/dev/null; do
		now=$(users)
		[ "$now" -le $most ] || most=$now
	done
}

# qemu_img NAME ARGUMENT...
qemu_img()
{
	CASE=$1
	shift

	before=$(pins)
	/test/qemu-img "$@" >"/out/qemu-img.$DRIVER-$CASE" 2>&1 &
	pid=$!
	watch_users $pid
	wait $pid
	same "qemu-img has ended well" 0 $?
	same "the driver was in use" 1 $most
	before=$(($(pins) - before))
	[ $before -gt 0 ]
	result $? "its memory was pinned ($before times)"
	nothing_left
}

modprobe vfio-pci
vfio-bind $DISK || exit
copy=0
sum=$(cat /test/disk.md5)
for DRIVER in stock mt; do
	copy=$((copy + 1))
	backend $DRIVER || exit
	qemu_img read convert -f raw -O raw "nvme://$DISK/1" /tmp/read
	same "the data was read" "$sum" "$(data /tmp/read 0)"
	dd if=/tmp/read of=/tmp/write bs=1M 2>/dev/null
	dd if=/tmp/read of=/tmp/write bs=1M count=$DATA_MIB seek=$((DATA_MIB * copy)) \
		conv=notrunc 2>/dev/null
	qemu_img write convert -n -f raw -O raw /tmp/write "nvme://$DISK/1"
	qemu_img again convert -f raw -O raw "nvme://$DISK/1" /tmp/again
	same "the copy was written" "$sum" "$(data /tmp/again $copy)"
	rm /tmp/read /tmp/write /tmp/again
done
exit $FAILED
