# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables of from-packages and guest/kernel
#
# Recipe (see guest/kernel): Debian's own 6.12, as Debian 12 offers it (bookworm-security).

SERIES=6.12
SUITE=machine
PACKAGES=(linux-image)

# shellcheck source=SCRIPTDIR/from-packages
. "$here/kernels/from-packages"
