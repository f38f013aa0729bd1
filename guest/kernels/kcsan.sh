# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables of from-source and guest/kernel
#
# Recipe (see guest/kernel): a kernel that finds data races, with KCSAN. It reports
# those that an out-of-tree module takes part in (see config/kcsan-6.1.patch).

KERNEL_NAME=kcsan
FRAGMENTS=(base kcsan)
BUILD_MINUTES=8
SLOW=yes

# shellcheck source=SCRIPTDIR/from-source
. "$here/kernels/from-source"
