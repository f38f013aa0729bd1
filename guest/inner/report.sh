# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154 # FAILED is read by who sources it; DRIVER and CASE are set there
#
# For scripts in the guest that use VFIO on both drivers: "ok" and "not ok" lines for
# what holds of $DRIVER in $CASE. FAILED tells whether there was a "not ok".

# shellcheck source=SCRIPTDIR/common.sh
. /test/common.sh

FAILED=0

result()
{
	status=$1
	shift
	if [ "$status" -eq 0 ]; then
		echo "ok - $DRIVER: $CASE: $*"
	else
		echo "not ok - $DRIVER: $CASE: $*"
		FAILED=1
	fi
}

# same TEXT WANTED GOT
same()
{
	[ "$2" = "$3" ]
	result $? "$1$([ "$2" = "$3" ] || echo ": $3, not $2")"
}

users()
{
	case $DRIVER in
	stock)	cat /sys/module/vfio_iommu_type1/refcnt ;;
	mt)	cat /sys/module/vfio_mt_type1/refcnt ;;
	esac
}

nothing_left()
{
	same "no page is pinned" 0 "$(pinned)"
	same "the driver is not in use" 0 "$(users)"
}
