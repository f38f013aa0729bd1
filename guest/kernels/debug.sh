# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables of from-source and guest/kernel
#
# Recipe (see guest/kernel): a kernel with all checks that find errors where they
# happen: KASAN, lockdep, kmemleak, UBSAN and others, and with fault injection.

KERNEL_NAME=debug
FRAGMENTS=(base debug fault-injection)
BUILD_MINUTES=10
SLOW=yes

# shellcheck source=SCRIPTDIR/from-source
. "$here/kernels/from-source"
