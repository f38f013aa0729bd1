/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fake.h - what all fakes share: the world that a test case lives in
 *
 * A case gets one fake address space (fake_mm.h), any number of fake IOMMU
 * domains (fake_iommu.h), and failures on demand. fake_exit() complains about
 * everything that is left of them: a pin, a charge, a mapping, a translation
 * that no IOTLB flush has ended. Every suite has fake_init() and fake_exit() as
 * its init and exit, and so every case ends with these questions.
 *
 * Locking: fake->lock protects all of it. It is taken in process context, inside
 *    all locks of the units.
 */
#ifndef VFIO_MT_KUNIT_FAKE_H
#define VFIO_MT_KUNIT_FAKE_H

#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/xarray.h>

#include "fake_mm.h"

/**
 * struct fake - the world of one test case
 * @test: the case
 * @lock: protects the fakes
 * @mm: the address space
 * @domains: the IOMMU domains, struct fake_domain
 * @alloc_fail: so many allocations of the units succeed, the next one fails;
 *              negative: none fails
 * @alloc_fail_all: and so do all that follow
 * @killed: killable waits for the mmap lock end with -EINTR
 * @warnings: how many times a unit warned
 * @user_fault: number of 64-bit words of user memory behind which a copy faults
 * @user: first byte of that memory
 * @no_kthreads: kthread_create() fails
 * @no_affinity: set_cpus_allowed_ptr() fails
 * @in_vain: somebody waited too long for another thread
 */
struct fake {
	struct kunit *test;
	struct mutex lock;
	struct fake_mm mm;
	struct list_head domains;
	atomic_t alloc_fail;
	bool alloc_fail_all;
	bool killed;
	atomic_t warnings;
	void *user;
	unsigned long user_fault;
	bool no_kthreads;
	bool no_affinity;
	bool in_vain;
};

/* The world of the case that runs; cases run one after another. */
extern struct fake *fake;

int fake_init(struct kunit *test);
void fake_exit(struct kunit *test);

#ifdef FAKE_MUTANTS
/* Which fault the units have: its number in mutant_list.py, 0 for none. */
extern unsigned int fake_mutant;
#endif

/* A suite that is in the module, and not run: see Kbuild. */
#ifdef FAKE_NO_SUITE
#undef kunit_test_suite
#define kunit_test_suite(suite) \
	static struct kunit_suite * const suite##_unused __maybe_unused = &(suite)
#endif

/* Something is wrong, whatever the case itself looks at. */
#define fake_complain(fmt, ...) KUNIT_FAIL(fake->test, fmt, ##__VA_ARGS__)

/*
 * The fakes use xarrays, each of whose calls takes a lock. Lockdep would look at
 * all of these, in vain, for most of the time that the suites take; it looks at
 * fake->lock and at what the units do.
 */
static inline void fake_lock(void)
{
	mutex_lock(&fake->lock);
	lockdep_off();
}

static inline void fake_unlock(void)
{
	lockdep_on();
	mutex_unlock(&fake->lock);
}

/* ---- other threads of a case ---- */

/* Long enough for anything, on a busy machine that emulates another. */
#define FAKE_WAIT		(60 * HZ)

/* How long is waited: less once something has failed for that reason. */
extern unsigned long fake_patience;
#define FAKE_WAIT_LESS		(2 * HZ)

/*
 * Wait for what another thread brings about. Returns whether it did. A case has
 * failed that has waited in vain: nobody in it waits for anything after that, and
 * the cases behind it wait less, so that a suite ends soon whatever is broken.
 */
#define fake_wait_until(condition) ({				\
	unsigned long begun = jiffies;				\
								\
	while (!(condition) && !READ_ONCE(fake->in_vain)) {	\
		if (jiffies - begun >= READ_ONCE(fake_patience)) { \
			WRITE_ONCE(fake->in_vain, true);	\
			WRITE_ONCE(fake_patience, FAKE_WAIT_LESS); \
		}						\
		usleep_range(100, 200);				\
	}							\
	(condition);						\
})

/**
 * struct fake_thread - a thread that a case starts, and joins before it ends
 * @task: the thread; SIGKILL is a signal to it as to any process
 * @fn: what it does. No assertions: they would end the case.
 * @arg: argument of @fn
 * @done: @fn has returned
 */
struct fake_thread {
	struct task_struct *task;
	void (*fn)(void *arg);
	void *arg;
	struct completion done;
};

void fake_thread_start(struct fake_thread *thread, void (*fn)(void *arg),
		       void *arg);
void fake_thread_join(struct fake_thread *thread);

/* ---- what seam.h puts in the place of the kernel's ---- */

bool fake_alloc_fails(void);
bool fake_warn(bool condition);
unsigned long fake_copy_to_user(void __user *to, const void *from,
				unsigned long n);
int fake_get_user(u64 *value, const u64 __user *from);

#endif /* VFIO_MT_KUNIT_FAKE_H */
