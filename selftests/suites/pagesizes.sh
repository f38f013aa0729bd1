#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: compare the IOMMU pages of both drivers. Nothing may move memory
# or make huge pages of small ones meanwhile.

echo 4000000000 >/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs
echo 0 >/proc/sys/vm/compaction_proactiveness
exec /test/vfio_mt_selftest pagesizes "$@"
