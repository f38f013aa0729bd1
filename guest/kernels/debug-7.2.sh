# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables of from-source and guest/kernel
#
# Recipe (see guest/kernel): the kernel "debug" of Linux 7.2, for what runs only on
# newer kernels: helpers that are threads of the calling process.

KERNEL_NAME=debug-7.2
SOURCE_SERIES=7.2
SUITE=trixie-backports
FRAGMENTS=(base debug fault-injection linux-7.2)
BUILD_MINUTES=10
SLOW=yes

# shellcheck source=SCRIPTDIR/from-source
. "$here/kernels/from-source"
