#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: compare the IOMMU pages of both drivers. Nothing may move memory
# or make huge pages of small ones meanwhile. Two of the pages of 1 GiB become pages of
# 2 MiB, which are contiguous then, whatever state memory is in.

echo 2 >/sys/kernel/mm/hugepages/hugepages-1048576kB/demote || exit

echo 4000000000 >/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs
echo 0 >/proc/sys/vm/compaction_proactiveness
exec /test/vfio_mt_selftest pagesizes "$@"
