# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables of from-source and guest/kernel
#
# Recipe (see guest/kernel): a kernel that counts which lines of a module are run.

KERNEL_NAME=gcov
FRAGMENTS=(base gcov fault-injection)
BUILD_MINUTES=5

# shellcheck source=SCRIPTDIR/from-source
. "$here/kernels/from-source"
