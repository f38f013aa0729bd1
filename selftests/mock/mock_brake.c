// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_mock: stop a thread in the middle of pinning
 *
 * Purpose: tests of what happens to memory while it is being pinned need a
 *	thread that has pinned some of it, or is about to, and stays there until
 *	the test has made its change.  A breakpoint at GUP's entry points sends
 *	the first thread that comes for the memory in question on a detour
 *	through a function of this file, which calls GUP and waits, before or
 *	after.
 * Context: the breakpoints exist from the first use on, because it takes long
 *	to make and to remove them.  The detour runs as the function that it
 *	replaces, and may sleep.
 * Locking: brake.setup serialises setting and clearing; brake.state says who
 *	owns the rest, and changes by cmpxchg where two could change it.
 */
#include <linux/atomic.h>
#include <linux/jiffies.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/wait.h>

#include "mock.h"
#include "mock_compat.h"

/* As VFIO_MT_MOCK_BRAKE_HOLDS, but on the way there; tests see SET. */
#define BRAKE_TAKEN		100

/* A test that fails must not hang the machine. */
#define BRAKE_LIMIT		(30 * HZ)

/**
 * struct mock_brake - the brake
 * @setup: serialises setting and clearing
 * @probes: the breakpoints exist
 * @state: VFIO_MT_MOCK_BRAKE_* or BRAKE_TAKEN
 * @users: threads on the detour
 * @mm: whose memory; only compared
 * @conf: which part of it, and when
 * @wait: for changes of @state and @users
 */
static struct mock_brake {
	struct mutex setup;
	bool probes;
	atomic_t state;
	atomic_t users;
	const struct mm_struct *mm;
	struct vfio_mt_mock_brake conf;
	wait_queue_head_t wait;
} brake = {
	.setup = __MUTEX_INITIALIZER(brake.setup),
	.wait = __WAIT_QUEUE_HEAD_INITIALIZER(brake.wait),
};

static bool brake_is_patched(void)
{
	return brake.conf.when == VFIO_MT_MOCK_BRAKE_PATCHED;
}

/* Is this the thread? If so, the brake is used up. */
static bool brake_takes(const struct mm_struct *mm, unsigned long start,
			unsigned long nr)
{
	if (atomic_read(&brake.state) != VFIO_MT_MOCK_BRAKE_SET ||
	    mm != brake.mm)
		return false;
	if (start > brake.conf.last ||
	    start + (nr << PAGE_SHIFT) <= brake.conf.first)
		return false;
	/* Counted first: from then on brake_clear() waits. */
	atomic_inc(&brake.users);
	if (atomic_cmpxchg(&brake.state, VFIO_MT_MOCK_BRAKE_SET,
			   brake_is_patched() ? VFIO_MT_MOCK_BRAKE_SET :
						BRAKE_TAKEN) ==
	    VFIO_MT_MOCK_BRAKE_SET)
		return true;
	atomic_dec(&brake.users);
	return false;
}

static long brake_pin_patched(unsigned long start, unsigned long nr,
			      struct page **pages)
{
	return mock_mem_pin_patched((start - brake.conf.first) >> PAGE_SHIFT,
				    nr, pages);
}

static void brake_hold(u32 when)
{
	if (brake.conf.when != when)
		return;
	atomic_set(&brake.state, VFIO_MT_MOCK_BRAKE_HOLDS);
	wake_up_all(&brake.wait);
	if (!wait_event_timeout(brake.wait, atomic_read(&brake.state) ==
				VFIO_MT_MOCK_BRAKE_RELEASED, BRAKE_LIMIT))
		atomic_set(&brake.state, VFIO_MT_MOCK_BRAKE_WORN_OUT);
}

static void brake_leave(void)
{
	atomic_dec(&brake.users);
	wake_up_all(&brake.wait);
}

static int brake_pin_fast(unsigned long start, int nr, unsigned int flags,
			  struct page **pages)
{
	int ret;

	brake_hold(VFIO_MT_MOCK_BRAKE_BEFORE);
	if (brake_is_patched())
		ret = brake_pin_patched(start, nr, pages);
	else
		ret = pin_user_pages_fast(start, nr, flags, pages);
	brake_hold(VFIO_MT_MOCK_BRAKE_AFTER);
	brake_leave();
	return ret;
}

/*
 * The caller has the mmap lock, and does not mind that it is dropped; its further
 * arguments are all NULL.
 */
static long brake_pin_remote(struct mm_struct *mm, unsigned long start,
			     unsigned long nr, unsigned int flags,
			     struct page **pages)
{
	long ret;

	mmap_read_unlock(mm);
	brake_hold(VFIO_MT_MOCK_BRAKE_BEFORE);
	mmap_read_lock(mm);
	if (brake_is_patched())
		ret = brake_pin_patched(start, nr, pages);
	else
		ret = mock_pin_remote(mm, start, nr, flags, pages);
	mmap_read_unlock(mm);
	brake_hold(VFIO_MT_MOCK_BRAKE_AFTER);
	mmap_read_lock(mm);
	brake_leave();
	return ret;
}

static int brake_at_fast(struct kprobe *probe, struct pt_regs *regs)
{
	if (!brake_takes(current->mm, regs->di, (int)regs->si))
		return 0;
	instruction_pointer_set(regs, (unsigned long)brake_pin_fast);
	return 1;
}

static int brake_at_remote(struct kprobe *probe, struct pt_regs *regs)
{
	if (!brake_takes((struct mm_struct *)regs->di, regs->si, regs->dx))
		return 0;
	instruction_pointer_set(regs, (unsigned long)brake_pin_remote);
	return 1;
}

/* With a post-handler a probe is one that may change where it returns to. */
static void brake_post(struct kprobe *probe, struct pt_regs *regs,
		       unsigned long flags)
{
}

static struct kprobe brake_probe_fast;
static struct kprobe brake_probe_remote;

static int brake_probe(struct kprobe *probe, const char *symbol,
		       kprobe_pre_handler_t handler)
{
	*probe = (struct kprobe){
		.symbol_name = symbol,
		.pre_handler = handler,
		.post_handler = brake_post,
	};
	return register_kprobe(probe);
}

static int brake_probes(void)
{
	int ret;

	if (brake.probes)
		return 0;
	ret = brake_probe(&brake_probe_fast, "pin_user_pages_fast",
			  brake_at_fast);
	if (ret)
		return ret;
	ret = brake_probe(&brake_probe_remote, "pin_user_pages_remote",
			  brake_at_remote);
	if (ret)
		unregister_kprobe(&brake_probe_fast);
	else
		brake.probes = true;
	return ret;
}

static void brake_clear(void)
{
	/* No new one can come. One that is there must not stay. */
	atomic_set(&brake.state, VFIO_MT_MOCK_BRAKE_RELEASED);
	wake_up_all(&brake.wait);
	wait_event(brake.wait, !atomic_read(&brake.users));
	atomic_set(&brake.state, VFIO_MT_MOCK_BRAKE_OFF);
}

/**
 * mock_brake_set() - stop the next thread that pins some of the caller's memory
 * @conf: which memory, and when
 *
 * Return: 0 or the errno.
 */
int mock_brake_set(const struct vfio_mt_mock_brake *conf)
{
	int ret;

	if (!current->mm || conf->pad || conf->first > conf->last ||
	    conf->when < VFIO_MT_MOCK_BRAKE_BEFORE ||
	    conf->when > VFIO_MT_MOCK_BRAKE_PATCHED)
		return -EINVAL;

	mutex_lock(&brake.setup);
	brake_clear();
	brake.mm = current->mm;
	brake.conf = *conf;
	ret = brake_probes();
	/* Only now do they stop anybody. */
	if (!ret)
		atomic_set_release(&brake.state, VFIO_MT_MOCK_BRAKE_SET);
	mutex_unlock(&brake.setup);
	return ret;
}

/**
 * mock_brake_state() - has somebody come?
 *
 * Return: VFIO_MT_MOCK_BRAKE_*.
 */
int mock_brake_state(void)
{
	int state = atomic_read(&brake.state);

	return state == BRAKE_TAKEN ? VFIO_MT_MOCK_BRAKE_SET : state;
}

/**
 * mock_brake_release() - let the thread that was stopped go on
 *
 * Return: 0, or -ENOENT when none is stopped.
 */
int mock_brake_release(void)
{
	if (atomic_cmpxchg(&brake.state, VFIO_MT_MOCK_BRAKE_HOLDS,
			   VFIO_MT_MOCK_BRAKE_RELEASED) !=
	    VFIO_MT_MOCK_BRAKE_HOLDS)
		return -ENOENT;
	wake_up_all(&brake.wait);
	return 0;
}

/**
 * mock_brake_clear() - release the brake, and let nobody be stopped any more
 */
void mock_brake_clear(void)
{
	mutex_lock(&brake.setup);
	brake_clear();
	mutex_unlock(&brake.setup);
}

/**
 * mock_brake_exit() - the same, and remove the breakpoints
 */
void mock_brake_exit(void)
{
	mock_brake_clear();
	if (!brake.probes)
		return;
	unregister_kprobe(&brake_probe_fast);
	unregister_kprobe(&brake_probe_remote);
}
