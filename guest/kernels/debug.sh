# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034,SC2154 # variables of from-source and guest/kernel
#
# Recipe (see guest/kernel): a kernel with all checks that find errors where they
# happen: KASAN, lockdep, kmemleak, UBSAN and others, and with fault injection.

KERNEL_NAME=debug
FRAGMENTS=(base debug fault-injection)
BUILD_MINUTES=10

# The checks make everything several times slower, and emulation does so again: the
# detectors of hangs wait longer than by default.
CMDLINE="watchdog_thresh=60 workqueue.watchdog_thresh=180 rcupdate.rcu_cpu_stall_timeout=180"
CMDLINE+=" sysctl.kernel.hung_task_timeout_secs=300"

# shellcheck source=SCRIPTDIR/from-source
. "$here/kernels/from-source"
