// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_job_padata_test.c - jobs on kernels that let modules use padata
 *
 * map_job.c once more, as Kbuild has it compiled there, with a stand-in for
 * padata_do_multithreaded() that does as the kernel's does: ranges of several
 * units, handed out in order, to worker threads that have no mm.
 * map_range_test.c runs whole maps by it.
 */
#include "seam.h"
#include "padata_test.h"

/**
 * struct padata_run - a job being run
 * @job: the job
 * @lock: protects @next
 * @next: start of the next range to hand out
 * @chunk: units in a range
 */
struct padata_run {
	struct padata_mt_job *job;
	spinlock_t lock;
	unsigned long next;
	unsigned long chunk;
};

/**
 * struct padata_worker - one of its threads
 * @work: the thread's work
 * @run: the job
 */
struct padata_worker {
	struct work_struct work;
	struct padata_run *run;
};

#define PADATA_WORKERS	4

static unsigned int padata_runs;

static void padata_work(struct work_struct *work)
{
	struct padata_run *run =
		container_of(work, struct padata_worker, work)->run;
	unsigned long start, end, last = run->job->start + run->job->size;

	for (;;) {
		spin_lock(&run->lock);
		start = run->next;
		end = min(start + run->chunk, last);
		run->next = end;
		spin_unlock(&run->lock);
		if (start == last)
			break;
		run->job->thread_fn(start, end, run->job->fn_arg);
	}
}

static void fake_padata_do_multithreaded(struct padata_mt_job *job)
{
	unsigned int i, nr = clamp(job->max_threads, 1, PADATA_WORKERS);
	struct padata_worker worker[PADATA_WORKERS];
	struct padata_run run = { .job = job, .next = job->start };

	padata_runs++;
	if (!job->size)
		return;
	spin_lock_init(&run.lock);
	run.chunk = max(job->size / (nr * 4), max(job->min_chunk, 1UL));
	run.chunk = roundup(run.chunk, job->align);
	for (i = 0; i < nr; i++) {
		worker[i].run = &run;
		INIT_WORK_ONSTACK(&worker[i].work, padata_work);
		if (i)
			queue_work(system_dfl_wq, &worker[i].work);
	}
	padata_work(&worker[0].work);
	for (i = 0; i < nr; i++) {
		flush_work(&worker[i].work);
		destroy_work_on_stack(&worker[i].work);
	}
}

/**
 * struct padata_group - the group that the caller is in, as far as a case says so
 * @limited: the controller that limits it, or -1
 * @counts: that of memory counts huge pages from a pool
 */
struct padata_group {
	int limited;
	bool counts;
};

static struct padata_group padata_group = { .limited = -1 };

static const struct cgroup_subsys_state *padata_task_css(int subsys)
{
	static struct cgroup_subsys_state root, below = { .parent = &root };

	return subsys == padata_group.limited ? &below : &root;
}

#undef task_css
#undef compat_memcg_charges_hugetlb
#define task_css(task, subsys)		padata_task_css(subsys)
#define compat_memcg_charges_hugetlb()	padata_group.counts
#define HAVE_PADATA_MT
#define padata_do_multithreaded		fake_padata_do_multithreaded
#define map_job_run			padata_job_run
#define map_job_threads			padata_job_threads
#define map_job_is_in_process		padata_job_is_in_process
#define map_job_charges_hugetlb		padata_job_charges_hugetlb
#define map_job_lacks_cpus		padata_job_lacks_cpus
#define map_job_is_throttled		padata_job_is_throttled
#include "../map_job.c"

#define UNITS	100

static void padata_count(unsigned long start, unsigned long end, void *arg)
{
	atomic_t *done = arg;

	for (; start < end; start++)
		atomic_inc(&done[start]);
}

/* The job is the kernel's, as it is, and all of it gets done once. */
static void padata_runs_job(struct kunit *test)
{
	static atomic_t done[UNITS];
	struct map_job_how how = { };
	struct padata_mt_job job = {
		.thread_fn = padata_count,
		.fn_arg = done,
		.start = 3,
		.size = UNITS - 3,
		.align = 1,
		.min_chunk = 1,
		.max_threads = 2,
	};
	unsigned int i;

	memset(done, 0, sizeof(done));
	padata_runs = 0;
	padata_job_run(&job, &how);
	KUNIT_EXPECT_EQ(test, 1U, padata_runs);
	for (i = 0; i < UNITS; i++)
		KUNIT_EXPECT_EQ(test, i >= 3, atomic_read(&done[i]));
	KUNIT_EXPECT_GE(test, padata_job_threads(0), 1U);
}

/**
 * struct padata_look - what a worker is in a range, and behind it
 * @caller: the thread that runs the job
 * @worker: the worker; a reference is held
 * @nice: its priority in the range
 * @cpus: where it may run
 * @cred: its credentials
 * @came: completed when it has come
 * @left: the caller has done its range
 * @sleep: it sleeps, until a signal comes
 * @woken: it was woken by one
 * @kills: calls of how->kill()
 */
struct padata_look {
	struct task_struct *caller;
	struct task_struct *worker;
	int nice;
	struct cpumask cpus;
	const struct cred *cred;
	struct completion came;
	bool left;
	bool sleep;
	bool woken;
	unsigned int kills;
};

/* The caller lets a worker have one of two units. */
static void padata_look_fn(unsigned long start, unsigned long end, void *arg)
{
	struct padata_look *look = arg;

	if (get_current() == look->caller) {
		fake_wait_until(completion_done(&look->came));
		WRITE_ONCE(look->left, true);
		return;
	}
	look->worker = get_current();
	get_task_struct(look->worker);
	look->nice = task_nice(look->worker);
	cpumask_copy(&look->cpus, &look->worker->cpus_mask);
	look->cred = current_cred();
	complete_all(&look->came);
	if (look->sleep) {
		/* Then the caller itself does not look any more. */
		fake_wait_until(READ_ONCE(look->left) &&
				READ_ONCE(look->caller->__state) ==
				TASK_UNINTERRUPTIBLE);
		send_sig(SIGKILL, look->caller, 1);
		look->woken = schedule_timeout_killable(FAKE_WAIT) > 0;
	}
}

static void padata_kill(void *arg)
{
	struct padata_look *look = arg;

	look->kills++;
}

static struct padata_look *padata_look_at(struct kunit *test, bool sleep)
{
	struct padata_look *look = kunit_kzalloc(test, sizeof(*look),
						 GFP_KERNEL);
	struct map_job_how how = {
		.mm = fake->mm.mm,
		.kill = sleep ? padata_kill : NULL,
	};
	struct padata_mt_job job = {
		.thread_fn = padata_look_fn,
		.fn_arg = look,
		.size = 2,
		.align = 1,
		.min_chunk = 1,
		.max_threads = 2,
	};

	KUNIT_ASSERT_NOT_NULL(test, look);
	look->caller = get_current();
	look->sleep = sleep;
	init_completion(&look->came);
	KUNIT_EXPECT_EQ(test, 2U, padata_job_run(&job, &how));
	KUNIT_ASSERT_NOT_NULL(test, look->worker);
	return look;
}

/* In a range, a worker may do what the caller may; behind it, what it could. */
static void padata_adopts(struct kunit *test)
{
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_policy = SCHED_NORMAL,
		.sched_nice = 7,
	};
	struct padata_look *look;

	KUNIT_ASSERT_EQ(test, 0, sched_setattr_nocheck(get_current(), &attr));
	set_cpus_allowed_ptr(get_current(), cpumask_of(0));
	look = padata_look_at(test, false);
	KUNIT_EXPECT_EQ(test, 7, look->nice);
	KUNIT_EXPECT_TRUE(test, cpumask_equal(&look->cpus, cpumask_of(0)));
	KUNIT_EXPECT_PTR_EQ(test, current_cred(), look->cred);

	KUNIT_EXPECT_EQ(test, 0, task_nice(look->worker));
	if (num_online_cpus() > 1)
		KUNIT_EXPECT_FALSE(test, cpumask_equal(&look->worker->cpus_mask,
						       cpumask_of(0)));
	KUNIT_EXPECT_PTR_NE(test, look->cred,
			    rcu_access_pointer(look->worker->cred));
	put_task_struct(look->worker);
	set_cpus_allowed_ptr(get_current(), cpu_possible_mask);
}

/*
 * A worker sleeps, as in a page fault, when the caller is killed, and padata waits
 * for it: it is woken, and forgets the signal.
 */
static void padata_wakes(struct kunit *test)
{
	struct padata_look *look;

	allow_signal(SIGKILL);
	look = padata_look_at(test, true);
	KUNIT_EXPECT_TRUE(test, look->woken);
	KUNIT_EXPECT_EQ(test, 1U, look->kills);
	KUNIT_EXPECT_FALSE(test, fatal_signal_pending(look->worker));
	put_task_struct(look->worker);
	flush_signals(get_current());
	disallow_signal(SIGKILL);
}

static const struct padata_pool_case {
	const char *desc;
	int limited;
	bool counts;
	bool charges;	/* workers charge huge pages as the caller would */
} padata_pools[] = {
	{ "root", -1, true, true },
	{ "hugetlb", hugetlb_cgrp_id, false, false },
	{ "memory", memory_cgrp_id, false, true },
	{ "memory that counts", memory_cgrp_id, true, false },
	{ "cpu", cpu_cgrp_id, true, true },
};

static void padata_pool_desc(const struct padata_pool_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(padata_pool, padata_pools, padata_pool_desc);

/* Workers are in no group: what is charged to the thread that faults is the caller's. */
static void padata_charges(struct kunit *test)
{
	const struct padata_pool_case *c = test->param_value;

	padata_group.limited = c->limited;
	padata_group.counts = c->counts;
	KUNIT_EXPECT_EQ(test, c->charges, map_job_charges_hugetlb());
	padata_group.limited = -1;
}

static struct kunit_case padata_cases[] = {
	KUNIT_CASE(padata_runs_job),
	KUNIT_CASE(padata_adopts),
	KUNIT_CASE(padata_wakes),
	KUNIT_CASE_PARAM(padata_charges, padata_pool_gen_params),
	{ }
};

static struct kunit_suite padata_suite = {
	.name = "vfio_mt_map_job_padata",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = padata_cases,
};

kunit_test_suite(padata_suite);
