# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables of from-source and guest/kernel
#
# Recipe (see guest/kernel): a kernel for scripts/bench-peers, with IOMMUFD beside type1.

KERNEL_NAME=peers-7.2
SOURCE_SERIES=7.2
SUITE=trixie-backports
FRAGMENTS=(base linux-7.2 peers)
BUILD_MINUTES=8

# shellcheck source=SCRIPTDIR/from-source
. "$here/kernels/from-source"
