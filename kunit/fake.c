// SPDX-License-Identifier: GPL-2.0-only
/*
 * fake.c - what all fakes share: the world that a test case lives in
 */
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "fake.h"
#include "fake_iommu.h"

struct fake *fake;
unsigned long fake_patience = FAKE_WAIT;

#ifdef FAKE_MUTANTS
unsigned int fake_mutant;
module_param_named(mutant, fake_mutant, uint, 0444);

/*
 * In some kernels, the cases run before the module's parameters are looked at. In the
 * others the text has been cut into pieces by then.
 */
static void fake_choose_mutant(void)
{
	const char *args = THIS_MODULE->args;
	unsigned int mutant;

	if (args && sscanf(args, "mutant=%u", &mutant) == 1)
		fake_mutant = mutant;
}
#else
static void fake_choose_mutant(void)
{
}
#endif

/**
 * fake_init - make a world for a case
 * @test: the case
 *
 * The calling thread, the case's, runs on the fake address space.
 *
 * Context: Process context. May sleep.
 * Return: 0, or -ENOMEM.
 */
int fake_init(struct kunit *test)
{
	fake_choose_mutant();
	fake = kzalloc(sizeof(*fake), GFP_KERNEL);
	if (!fake)
		return -ENOMEM;
	fake->test = test;
	mutex_init(&fake->lock);
	INIT_LIST_HEAD(&fake->domains);
	atomic_set(&fake->alloc_fail, -1);
	fake->user_fault = ULONG_MAX;
	if (fake_mm_init(&fake->mm))
		return -ENOMEM;
	fake_mm_enter();
	return 0;
}

/**
 * fake_exit - end the world of a case, and complain about what is left in it
 * @test: the case
 *
 * Context: Process context. May sleep.
 */
void fake_exit(struct kunit *test)
{
	if (!fake)
		return;
	fake_iommu_exit();
	fake_mm_exit(&fake->mm);
	if (atomic_read(&fake->warnings))
		fake_complain("a unit warned");
	mutex_destroy(&fake->lock);
	kfree(fake);
	fake = NULL;
}

static int fake_thread_main(void *data)
{
	struct fake_thread *thread = data;

	allow_signal(SIGKILL);
	thread->fn(thread->arg);
	complete(&thread->done);
	return 0;
}

/**
 * fake_thread_start - start another thread
 * @thread: the thread
 * @fn: what it does
 * @arg: argument of @fn
 *
 * Context: Process context. May sleep. The case ends if there is no thread.
 */
void fake_thread_start(struct fake_thread *thread, void (*fn)(void *arg),
		       void *arg)
{
	thread->fn = fn;
	thread->arg = arg;
	init_completion(&thread->done);
	thread->task = kthread_create(fake_thread_main, thread, "fake_thread");
	KUNIT_ASSERT_FALSE(fake->test, IS_ERR(thread->task));
	get_task_struct(thread->task);
	wake_up_process(thread->task);
}

/**
 * fake_thread_join - wait for a thread's end
 * @thread: the thread
 *
 * Context: Process context. May sleep.
 */
void fake_thread_join(struct fake_thread *thread)
{
	wait_for_completion(&thread->done);
	/* It may still be on its way out of this module's code. */
	kthread_stop(thread->task);
	put_task_struct(thread->task);
}

/* Several threads may ask: each failure is for one of them. */
bool fake_alloc_fails(void)
{
	int left;

	/* What a whole suite shares is made before the first case. */
	if (!fake)
		return false;
	left = atomic_dec_if_positive(&fake->alloc_fail);
	/* -1: it was 0; less: it was negative already. */
	if (left != -1)
		return false;
	return READ_ONCE(fake->alloc_fail_all) ||
	       atomic_cmpxchg(&fake->alloc_fail, 0, -1) == 0;
}

bool fake_warn(bool condition)
{
	if (condition)
		atomic_inc(&fake->warnings);
	return condition;
}

/* Is the word at @at, and are all before it, in the user's memory? */
static bool user_reaches(const void __user *at)
{
	unsigned long offset = (__force const void *)at - fake->user;

	return offset / sizeof(u64) < fake->user_fault;
}

unsigned long fake_copy_to_user(void __user *to, const void *from,
				unsigned long n)
{
	unsigned long done = 0;

	while (done < n && user_reaches(to + done)) {
		memcpy((__force void *)to + done, from + done, sizeof(u64));
		done += sizeof(u64);
	}
	return n - done;
}

int fake_get_user(u64 *value, const u64 __user *from)
{
	if (!user_reaches(from))
		return -EFAULT;
	*value = *(__force const u64 *)from;
	return 0;
}
