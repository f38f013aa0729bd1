// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module with faults on demand, for guest/selftest.sh: a guest that does not
 * notice these would also not notice them in the real module.
 *
 * It is built under the real module's name and takes its place in the guest.
 */
#include <linux/bug.h>
#include <linux/module.h>
#include <linux/string.h>

static char *fault = "none";
module_param(fault, charp, 0444);
MODULE_PARM_DESC(fault, "none, warn (when loaded), leak (a reference to the module), exit_warn (when unloaded)");

static int __init faulty_init(void)
{
	if (!strcmp(fault, "leak"))
		__module_get(THIS_MODULE);
	WARN_ON(!strcmp(fault, "warn"));
	return 0;
}

static void __exit faulty_exit(void)
{
	WARN_ON(!strcmp(fault, "exit_warn"));
}

module_init(faulty_init);
module_exit(faulty_exit);

MODULE_DESCRIPTION("Faults on demand, to test guest/run");
MODULE_LICENSE("GPL");
