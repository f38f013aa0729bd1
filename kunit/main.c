// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - the module that the unit tests are in
 *
 * KUnit runs the suites while the module is being loaded.
 */
#include <linux/module.h>

MODULE_DESCRIPTION("Unit tests of vfio_mt_type1");
MODULE_LICENSE("GPL");
