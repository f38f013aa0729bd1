# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables of from-source and guest/kernel
#
# Recipe (see guest/kernel): a kernel in which padata runs the module's jobs.

KERNEL_NAME=padata
FRAGMENTS=(base padata)
BUILD_MINUTES=4

# shellcheck source=SCRIPTDIR/from-source
. "$here/kernels/from-source"
