// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_mock: failed allocations in kernel threads of the backend
 *
 * Purpose: /proc/thread-self/fail-nth makes an allocation of the thread that
 *	writes to it fail.  A backend's helper threads and work items cannot be
 *	reached like that: they come and go within one ioctl.  So a return probe
 *	on the function that they run arms the same mechanism in them, and
 *	disarms it before they go on to something else.  Meanwhile whoever else
 *	comes to the mock IOMMU waits there: on a slow machine all would be done
 *	before there is such a thread.
 * Terms: see struct vfio_mt_mock_fail.
 * Context: the probe's handlers run in the thread that calls the function, not
 *	allowed to sleep.
 * Locking: fail_lock, for setting and clearing.  The handlers see a request
 *	that does not change while the function runs; counters are atomic.
 *	fail_awaited and fail_thread are written by one thread at a time: who
 *	makes the request, then the thread in question.
 */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/kprobes.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/string.h>

#include "mock.h"

#if defined(CONFIG_FAULT_INJECTION) && defined(CONFIG_KRETPROBES)

static DEFINE_MUTEX(fail_lock);
static struct vfio_mt_mock_fail fail_conf;
static char fail_function[sizeof(fail_conf.function)];
static atomic_t fail_entered;
static atomic_t fail_failed;
/* The thread has not yet come to the IOMMU, or to its end. */
static bool fail_awaited;
static struct task_struct *fail_thread;	/* only compared */

/* A test that fails must not hang the machine. */
#define FAIL_PATIENCE		(20 * HZ)

static int mock_fail_entry(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	u32 call = atomic_inc_return(&fail_entered) - 1;

	if (call != fail_conf.skip)
		return 1;	/* its return is of no interest */
	WRITE_ONCE(fail_thread, current);
	if (fail_conf.nth)
		current->fail_nth = fail_conf.nth;
	else
		current->make_it_fail = 1;
	return 0;
}

NOKPROBE_SYMBOL(mock_fail_entry);

static int mock_fail_return(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (fail_conf.nth && !current->fail_nth)
		atomic_inc(&fail_failed);
	current->fail_nth = 0;
	current->make_it_fail = 0;
	WRITE_ONCE(fail_awaited, false);
	return 0;
}

NOKPROBE_SYMBOL(mock_fail_return);

static struct kretprobe fail_probe;

/* Registering takes long, so a probe stays until another is asked for. */
static int mock_fail_probe(const char *function)
{
	int ret;

	if (fail_probe.kp.symbol_name && !strcmp(fail_function, function))
		return 0;
	if (fail_probe.kp.symbol_name)
		unregister_kretprobe(&fail_probe);
	memset(&fail_probe, 0, sizeof(fail_probe));
	if (!function[0])
		return 0;

	strscpy(fail_function, function, sizeof(fail_function));
	fail_probe.kp.symbol_name = fail_function;
	fail_probe.entry_handler = mock_fail_entry;
	fail_probe.handler = mock_fail_return;
	ret = register_kretprobe(&fail_probe);
	if (ret)
		fail_probe.kp.symbol_name = NULL;
	return ret;
}

/**
 * mock_fail_set() - arm, or disarm
 * @conf: what is to fail. The function is not running.
 *
 * Return: 0, -EINVAL for a name that does not end, -ENOENT if no loaded module
 * has the function, or what else register_kretprobe() says.
 */
int mock_fail_set(const struct vfio_mt_mock_fail *conf)
{
	int ret;

	if (strnlen(conf->function, sizeof(conf->function)) ==
	    sizeof(conf->function))
		return -EINVAL;
	mutex_lock(&fail_lock);
	fail_conf = *conf;
	atomic_set(&fail_entered, 0);
	atomic_set(&fail_failed, 0);
	WRITE_ONCE(fail_thread, NULL);
	ret = mock_fail_probe(conf->function);
	WRITE_ONCE(fail_awaited, !ret && conf->function[0] &&
		   conf->skip != U32_MAX);
	mutex_unlock(&fail_lock);
	return ret;
}

/**
 * mock_fail_get() - tell what has failed
 * @conf: out: the request and its counters
 *
 * Return: 0.
 */
int mock_fail_get(struct vfio_mt_mock_fail *conf)
{
	mutex_lock(&fail_lock);
	*conf = fail_conf;
	conf->entered = atomic_read(&fail_entered);
	conf->failed = atomic_read(&fail_failed);
	mutex_unlock(&fail_lock);
	return 0;
}

/**
 * mock_fail_clear() - disarm
 */
void mock_fail_clear(void)
{
	mutex_lock(&fail_lock);
	WRITE_ONCE(fail_awaited, false);
	mock_fail_probe("");
	mutex_unlock(&fail_lock);
}

/**
 * mock_fail_wait() - let the thread go first in which allocations fail
 * @iova: where the calling thread is about to map or unmap
 *
 * Called by whoever maps or unmaps in the mock IOMMU.  Returns when that thread
 * comes here as well, or is through.
 *
 * Context: may sleep.
 */
void mock_fail_wait(u64 iova)
{
	unsigned long end = jiffies + FAIL_PATIENCE;

	if (iova < READ_ONCE(fail_conf.first))
		return;
	if (current == READ_ONCE(fail_thread))
		WRITE_ONCE(fail_awaited, false);
	while (READ_ONCE(fail_awaited) && time_before(jiffies, end))
		usleep_range(1000, 2000);
}

#else /* a kernel without fault injection */

int mock_fail_set(const struct vfio_mt_mock_fail *conf)
{
	return -EOPNOTSUPP;
}

int mock_fail_get(struct vfio_mt_mock_fail *conf)
{
	return -EOPNOTSUPP;
}

void mock_fail_clear(void)
{
}

void mock_fail_wait(u64 iova)
{
}

#endif
