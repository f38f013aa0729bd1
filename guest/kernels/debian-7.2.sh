# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables of from-packages and guest/kernel
#
# Recipe (see guest/kernel): Debian's own 7.2, as it is offered for Debian 13.

SERIES=7.2
SUITE=trixie-backports
PACKAGES=(linux-binary linux-modules linux-base)
# Its tools want the libc of Debian 13.
HEADERS=source

# shellcheck source=SCRIPTDIR/from-packages
. "$here/kernels/from-packages"
