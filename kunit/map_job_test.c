// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_job_test.c - the runner of jobs
 *
 * Helpers are real kernel threads here. What they must not escape from is set up
 * for the thread of the case, which is the caller.
 */
#include <linux/jiffies.h>

#include "seam.h"

/**
 * struct job_groups - cgroups that the caller is in, as far as a case says so
 * @css: what task_css() tells about every controller; NULL for the truth
 * @special: what it tells about one of them instead, if not NULL
 * @subsys: that one
 * @memcg_has_hugetlb: that of memory counts huge pages from a pool
 * @joins: how many helpers joined the caller's groups
 * @join_error: what they get
 * @hold: from the second helper on, joining waits for it
 */
static struct job_groups {
	struct cgroup_subsys_state *css;
	struct cgroup_subsys_state *special;
	int subsys;
	bool memcg_has_hugetlb;
	unsigned int joins;
	int join_error;
	struct completion *hold;
} job_groups;

static struct cgroup_subsys_state *job_task_css(struct task_struct *task,
						int subsys)
{
	if (job_groups.special && subsys == job_groups.subsys)
		return job_groups.special;
	return job_groups.css ? : task_css(task, subsys);
}

static int job_cgroup_attach_task_all(struct task_struct *from,
				      struct task_struct *task)
{
	if (++job_groups.joins > 1 && job_groups.hold)
		wait_for_completion_timeout(job_groups.hold, FAKE_WAIT);
	return job_groups.join_error ? : cgroup_attach_task_all(from, task);
}

/**
 * struct job_workers - threads of the calling process, if a case has such
 * @possible: it has
 * @most: so many can be made
 * @begin: so many of these begin to work; the others come too late
 * @made: how many were made
 * @freed: how many are gone again
 *
 * They are kernel threads, too: what makes them threads of the process is not here.
 */
static struct job_workers {
	bool possible;
	unsigned int most;
	unsigned int begin;
	unsigned int made;
	unsigned int freed;
} job_workers;

/**
 * struct user_worker - one of them
 * @fn: what it is to call
 * @arg: its argument
 * @taken: it has begun, or was called off
 * @thread: itself; NULL if it comes too late
 */
struct user_worker {
	void (*fn)(void *arg);
	void *arg;
	bool taken;
	struct task_struct *thread;
};

static int job_worker_thread(void *data)
{
	struct user_worker *worker = data;

	if (!xchg(&worker->taken, true))
		worker->fn(worker->arg);
	return 0;
}

static struct user_worker *job_worker_new(void (*fn)(void *arg), void *arg,
					  const char *name)
{
	struct user_worker *worker;

	if (job_workers.made == job_workers.most)
		return NULL;
	worker = kunit_kzalloc(fake->test, sizeof(*worker), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(fake->test, worker);
	worker->fn = fn;
	worker->arg = arg;
	if (job_workers.made++ < job_workers.begin) {
		worker->thread = kthread_create(job_worker_thread, worker, "%s",
						name);
		KUNIT_ASSERT_FALSE(fake->test, IS_ERR(worker->thread));
		get_task_struct(worker->thread);
		wake_up_process(worker->thread);
	}
	return worker;
}

static bool job_worker_call_off(struct user_worker *worker)
{
	return !xchg(&worker->taken, true);
}

static void job_worker_free(struct user_worker *worker)
{
	if (!worker->taken)
		fake_complain("a worker is freed that may begin yet");
	if (worker->thread) {
		kthread_stop(worker->thread);
		put_task_struct(worker->thread);
	}
	job_workers.freed++;
}

/* More than anybody's guest has. */
#define JOB_CPUS	128

/**
 * struct job_cpus - CPUs as a case says, if it says anything
 * @faked: it does
 * @allowed: those that the caller may use
 * @online: those that there are
 */
static struct job_cpus {
	bool faked;
	DECLARE_BITMAP(allowed, JOB_CPUS);
	DECLARE_BITMAP(online, JOB_CPUS);
} job_cpus;

/* A mask of the kernel's has no bits but for the CPUs that there may be. */
static const unsigned long *job_mask(const struct cpumask *mask)
{
	if (!job_cpus.faked)
		return cpumask_bits(mask);
	if (mask == &get_current()->cpus_mask)
		return job_cpus.allowed;
	if (mask != cpu_online_mask)
		fake_complain("CPUs of another mask are counted");
	return job_cpus.online;
}

static unsigned int job_next_cpu(unsigned int cpu, const struct cpumask *a,
				 const struct cpumask *b)
{
	return find_next_and_bit(job_mask(a), job_mask(b),
				 job_cpus.faked ? JOB_CPUS : nr_cpu_ids, cpu);
}

/* Nothing looks every now and then whether the caller was killed. */
static bool job_nobody_looks;

#undef for_each_cpu_and
#define for_each_cpu_and(cpu, a, b)					\
	for ((cpu) = job_next_cpu(0, a, b);				\
	     (cpu) < (job_cpus.faked ? JOB_CPUS : nr_cpu_ids);		\
	     (cpu) = job_next_cpu((cpu) + 1, a, b))
#define task_css(task, subsys)		job_task_css(task, subsys)
#define compat_memcg_charges_hugetlb()	job_groups.memcg_has_hugetlb
#define cgroup_attach_task_all(from, task) \
	job_cgroup_attach_task_all(from, task)
#undef kthread_create
#define kthread_create(fn, arg, fmt, ...) \
	(fake->no_kthreads ? (struct task_struct *)ERR_PTR(-ENOMEM) : \
	 kthread_create_on_node(fn, arg, NUMA_NO_NODE, fmt, ##__VA_ARGS__))
#define set_cpus_allowed_ptr(task, mask) \
	(fake->no_affinity ? -EINVAL : set_cpus_allowed_ptr(task, mask))
#include "../include/user_worker.h"
#define user_worker_possible(mm)	job_workers.possible
#define user_worker_new(fn, arg, name)	job_worker_new(fn, arg, name)
#define user_worker_call_off(worker)	job_worker_call_off(worker)
#define user_worker_free(worker, patience) \
	((void)(patience), job_worker_free(worker))
#define queue_delayed_work(queue, work, delay) \
	(job_nobody_looks ? false : queue_delayed_work(queue, work, delay))
#include "../map_job.c"
#undef set_cpus_allowed_ptr
#undef queue_delayed_work

#define UNITS		512
#define JOB_THREADS	16

/**
 * struct job_test - a job that notes what is done with it
 * @test: the case
 * @caller: the thread that runs the job
 * @job: the job
 * @how: likewise
 * @lock: protects what follows
 * @done: by unit, how often it was done
 * @order: starts of ranges, as they were handed out
 * @nr: how many ranges
 * @threads: who worked on it
 * @nr_threads: how many
 * @busy: how many just now
 * @most_busy: the most at a time
 * @helper: completed when a helper has begun
 * @kills: calls of how->kill()
 * @after_kill: ranges begun after that
 * @kill_at: the unit at which the caller gets a SIGKILL
 * @slept: a helper slept until it was woken by a signal
 * @expected: how many threads there should be
 */
struct job_test {
	struct kunit *test;
	struct task_struct *caller;
	struct padata_mt_job job;
	struct map_job_how how;
	spinlock_t lock;
	unsigned char done[UNITS];
	unsigned long order[UNITS];
	unsigned int nr;
	struct task_struct *threads[JOB_THREADS];
	unsigned int nr_threads;
	unsigned int busy;
	unsigned int most_busy;
	struct completion helper;
	unsigned int kills;
	unsigned int after_kill;
	unsigned long kill_at;
	bool slept;
	unsigned int expected;
};

static void job_note(struct job_test *jt, unsigned long start,
		     unsigned long end)
{
	unsigned int i;

	spin_lock(&jt->lock);
	jt->after_kill += !!jt->kills;
	jt->busy++;
	jt->most_busy = max(jt->busy, jt->most_busy);
	for (; start < end && start < UNITS; start++)
		jt->done[start]++;
	for (i = 0; i < jt->nr_threads; i++)
		if (jt->threads[i] == get_current())
			break;
	if (i == jt->nr_threads && i < JOB_THREADS)
		jt->threads[jt->nr_threads++] = get_current();
	spin_unlock(&jt->lock);
	if (get_current() != jt->caller)
		complete_all(&jt->helper);
}

/* The range that job_note() was called for is done. */
static void job_leave(struct job_test *jt)
{
	spin_lock(&jt->lock);
	jt->busy--;
	spin_unlock(&jt->lock);
}

static void job_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_test *jt = arg;

	spin_lock(&jt->lock);
	if (jt->nr < UNITS)
		jt->order[jt->nr++] = start;
	spin_unlock(&jt->lock);
	job_note(jt, start, end);
	if (start <= jt->kill_at && jt->kill_at < end)
		send_sig(SIGKILL, jt->caller, 1);
	job_leave(jt);
}

static void job_kill(void *arg)
{
	struct job_test *jt = arg;

	spin_lock(&jt->lock);
	jt->kills++;
	spin_unlock(&jt->lock);
}

static struct job_test *job_make(struct kunit *test)
{
	struct job_test *jt = kunit_kzalloc(test, sizeof(*jt), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, jt);
	jt->test = test;
	jt->caller = get_current();
	spin_lock_init(&jt->lock);
	init_completion(&jt->helper);
	jt->kill_at = ULONG_MAX;
	jt->job = (struct padata_mt_job){
		.thread_fn = job_fn,
		.fn_arg = jt,
		.size = UNITS,
		.align = 1,
		.min_chunk = 1,
		.max_threads = 2,
	};
	return jt;
}

/* All was done, all of it once. */
static void job_expect_done(struct kunit *test, struct job_test *jt)
{
	unsigned long i, start = jt->job.start, end = start + jt->job.size;

	for (i = 0; i < UNITS; i++)
		KUNIT_ASSERT_EQ_MSG(test, i >= start && i < end ? 1 : 0,
				    (int)jt->done[i], "unit %lu", i);
	KUNIT_EXPECT_EQ(test, 0U, jt->busy);
	KUNIT_EXPECT_LE(test, jt->nr_threads,
			max_t(unsigned int, jt->job.max_threads, 1));
}

/* ---- how many threads ---- */

static const struct limit_case {
	unsigned int limit;
	unsigned int allowed;	/* so many CPUs, from the first on */
	unsigned int online;
	unsigned int threads;
} limits[] = {
	/* Chosen: as many as there are CPUs, up to 16 */
	{ 0, 1, 1, 1 }, { 0, 2, 2, 2 }, { 0, 15, 15, 15 }, { 0, 16, 16, 16 },
	{ 0, 17, 17, 16 }, { 0, 64, 64, 16 }, { 0, JOB_CPUS, JOB_CPUS, 16 },
	/* What the administrator says, up to the CPUs */
	{ 1, 1, 1, 1 }, { 1, 64, 64, 1 }, { 2, 1, 1, 1 }, { 3, 2, 2, 2 },
	{ 3, 64, 64, 3 }, { 16, 64, 64, 16 }, { 17, 64, 64, 17 },
	{ 64, 64, 64, 64 }, { 1000, 64, 64, 64 }, { UINT_MAX, 1, 1, 1 },
	{ UINT_MAX, JOB_CPUS, JOB_CPUS, JOB_CPUS },
	/* Some are not the caller's, or offline */
	{ 0, 1, 64, 1 }, { 0, 4, 64, 4 }, { 0, 64, 4, 4 }, { 1000, 64, 1, 1 },
	{ 1000, 40, 64, 40 }, { 1000, 64, 40, 40 },
	/* All that the caller may use are offline */
	{ 0, 0, 64, 1 }, { 1000, 0, 64, 1 }, { 1, 0, 1, 1 },
};

static void limit_desc(const struct limit_case *c, char *desc)
{
	sprintf(desc, "limit %u, %u CPUs allowed, %u online", c->limit,
		c->allowed, c->online);
}

KUNIT_ARRAY_PARAM(limit, limits, limit_desc);

/* Never more than there are CPUs for the caller. */
static void job_threads(struct kunit *test)
{
	const struct limit_case *c = test->param_value;

	job_cpus.faked = true;
	bitmap_set(job_cpus.allowed, 0, c->allowed);
	bitmap_set(job_cpus.online, 0, c->online);
	KUNIT_EXPECT_EQ(test, c->threads, map_job_threads(c->limit));
}

/* The same with the CPUs of this machine. */
static void job_threads_here(struct kunit *test)
{
	set_cpus_allowed_ptr(get_current(), cpumask_of(0));
	KUNIT_EXPECT_EQ(test, 1U, map_job_threads(1000));
	set_cpus_allowed_ptr(get_current(), cpu_possible_mask);
	KUNIT_EXPECT_EQ(test, num_online_cpus(), map_job_threads(1000));
}

/* CPUs are what a job lacks if it has all threads that it may, and half of them. */
static void job_lacks_cpus(struct kunit *test)
{
	if (num_online_cpus() < 2)
		kunit_skip(test, "one CPU is all there is");
	KUNIT_EXPECT_FALSE(test, map_job_lacks_cpus(map_job_threads(0), 0));
	set_cpus_allowed_ptr(get_current(), cpumask_of(0));
	KUNIT_EXPECT_TRUE(test, map_job_lacks_cpus(1, 0));
	KUNIT_EXPECT_TRUE(test, map_job_lacks_cpus(1, 2));
	/* The administrator wants no more. */
	KUNIT_EXPECT_FALSE(test, map_job_lacks_cpus(1, 1));
	set_cpus_allowed_ptr(get_current(), cpu_possible_mask);
	/* It was not worth more. */
	KUNIT_EXPECT_FALSE(test, map_job_lacks_cpus(1, 0));
}

/* ---- ranges ---- */

static const struct split_case {
	const char *desc;
	unsigned long start;
	unsigned long size;
	unsigned long align;
	unsigned long min_chunk;
	unsigned int max_threads;
	unsigned int ranges;
} splits[] = {
	{ "nothing", 0, 0, 1, 1, 2, 0 },
	{ "one unit", 0, 1, 1, 1, 2, 1 },
	{ "one unit, no threads given", 5, 1, 1, 1, 0, 1 },
	{ "one by one, alone", 0, 100, 1, 1, 1, 100 },
	{ "one by one, two threads", 0, 100, 1, 1, 2, 100 },
	{ "one by one, eight threads", 0, UNITS, 1, 1, 8, UNITS },
	{ "more threads than units", 3, 2, 1, 1, 16, 2 },
	{ "a start", 17, 100, 1, 1, 2, 100 },
	{ "chunks of 8", 0, 100, 1, 8, 2, 13 },
	{ "chunks of 8 by alignment", 0, 96, 8, 1, 2, 12 },
	{ "chunks of 10, aligned to 8", 0, 100, 8, 10, 2, 7 },
	{ "a start that is not aligned", 5, 100, 8, 8, 2, 14 },
	{ "a chunk larger than the job", 5, 100, 1, 1000, 4, 1 },
	{ "no least chunk", 0, 50, 1, 0, 2, 50 },
};

static void split_desc(const struct split_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(split, splits, split_desc);

static void job_split(struct kunit *test)
{
	const struct split_case *c = test->param_value;
	struct job_test *jt = job_make(test);
	unsigned int threads;

	jt->job.start = c->start;
	jt->job.size = c->size;
	jt->job.align = c->align;
	jt->job.min_chunk = c->min_chunk;
	jt->job.max_threads = c->max_threads;
	threads = map_job_run(&jt->job, &jt->how);
	job_expect_done(test, jt);
	KUNIT_EXPECT_EQ(test, c->ranges, jt->nr);
	KUNIT_EXPECT_EQ(test, threads, jt->nr_threads);
}

/* Alone, ranges are done in order, and none crosses a chunk's end. */
static void job_split_in_order(struct kunit *test)
{
	const struct split_case *c = test->param_value;
	unsigned long chunk = roundup(max(c->min_chunk, 1UL), c->align);
	struct job_test *jt = job_make(test);
	unsigned int i;

	jt->job.start = c->start;
	jt->job.size = c->size;
	jt->job.align = c->align;
	jt->job.min_chunk = c->min_chunk;
	jt->job.max_threads = 1;
	map_job_run(&jt->job, &jt->how);
	for (i = 0; i < jt->nr; i++) {
		KUNIT_ASSERT_EQ(test, i ? rounddown(c->start, chunk) +
				i * chunk : c->start, jt->order[i]);
	}
	KUNIT_EXPECT_EQ(test, min(1U, jt->nr), jt->nr_threads);
}

/* ---- helpers ---- */

/* There are two threads: whoever comes first waits for the other. */
static void job_both_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_test *jt = arg;

	job_note(jt, start, end);
	KUNIT_EXPECT_TRUE(jt->test,
			  fake_wait_until(READ_ONCE(jt->nr_threads) == 2));
	job_leave(jt);
}

static void job_helper_comes(struct kunit *test)
{
	struct job_test *jt = job_make(test);

	jt->job.thread_fn = job_both_fn;
	KUNIT_EXPECT_EQ(test, 2U, map_job_run(&jt->job, &jt->how));
	job_expect_done(test, jt);
	KUNIT_EXPECT_EQ(test, 2U, jt->nr_threads);
}

/**
 * struct job_look - what a helper sees of itself
 * @jt: its job
 * @nice: its nice value
 * @policy: its scheduling policy
 * @priority: its realtime priority
 * @cpus: where it may run
 * @cred: on whose behalf it works
 * @on_mm: it runs on the caller's mm
 * @memcg: whom its memory is charged to
 * @oom: what keeps it from being killed for want of memory
 */
struct job_look {
	struct job_test *jt;
	int nice;
	unsigned int policy;
	unsigned int priority;
	struct cpumask cpus;
	const struct cred *cred;
	bool on_mm;
	struct mem_cgroup *memcg;
	short oom;
};

static void job_look_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_look *look = arg;
	struct job_test *jt = look->jt;

	if (get_current() != jt->caller) {
		spin_lock(&jt->lock);
		look->nice = task_nice(get_current());
		look->policy = get_current()->policy;
		look->priority = get_current()->rt_priority;
		cpumask_copy(&look->cpus, &get_current()->cpus_mask);
		look->cred = current_cred();
		look->on_mm = fake_current() == fake->mm.task;
		look->oom = get_current()->signal->oom_score_adj;
#ifdef CONFIG_MEMCG
		look->memcg = get_current()->active_memcg;
#endif
		spin_unlock(&jt->lock);
	}
	job_both_fn(start, end, jt);
}

static const struct adopt_case {
	const char *desc;
	int nice;
	unsigned int policy;
	unsigned int priority;
	int cpu;	/* -1: any */
	bool mm;
} adopts[] = {
	{ "as it comes", 0, SCHED_NORMAL, 0, -1, false },
	{ "with the mm", 0, SCHED_NORMAL, 0, -1, true },
	{ "nice 7", 7, SCHED_NORMAL, 0, -1, true },
	{ "nice -5", -5, SCHED_NORMAL, 0, -1, true },
	{ "SCHED_BATCH", 3, SCHED_BATCH, 0, -1, true },
	{ "SCHED_FIFO", 0, SCHED_FIFO, 3, -1, true },
	{ "SCHED_RR", 0, SCHED_RR, 7, -1, true },
	{ "SCHED_DEADLINE, which cannot be shared", 0, SCHED_DEADLINE, 0, -1,
	  true },
	{ "one CPU", 0, SCHED_NORMAL, 0, 0, true },
};

static void adopt_desc(const struct adopt_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(adopt, adopts, adopt_desc);

/* A helper may do what the caller may, no more. */
static void job_adopt(struct kunit *test)
{
	const struct adopt_case *c = test->param_value;
	struct job_test *jt = job_make(test);
	struct job_look look = { .jt = jt };
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_policy = c->policy,
		.sched_nice = c->nice,
		.sched_priority = c->priority,
	};

	if (c->policy == SCHED_DEADLINE) {
		attr.sched_runtime = 10 * NSEC_PER_MSEC;
		attr.sched_deadline = 30 * NSEC_PER_MSEC;
		attr.sched_period = 30 * NSEC_PER_MSEC;
	}
	KUNIT_ASSERT_EQ(test, 0, sched_setattr_nocheck(get_current(), &attr));
	if (c->cpu >= 0)
		set_cpus_allowed_ptr(get_current(), cpumask_of(c->cpu));
	jt->job.thread_fn = job_look_fn;
	jt->job.fn_arg = &look;
	jt->how.mm = c->mm ? fake->mm.mm : NULL;
	map_job_run(&jt->job, &jt->how);

	job_expect_done(test, jt);
	KUNIT_EXPECT_EQ(test, c->nice, look.nice);
	KUNIT_EXPECT_EQ(test, c->policy == SCHED_DEADLINE ? SCHED_NORMAL :
			c->policy, look.policy);
	KUNIT_EXPECT_EQ(test, c->priority, look.priority);
	KUNIT_EXPECT_TRUE(test, cpumask_equal(&look.cpus,
					      &get_current()->cpus_mask));
	KUNIT_EXPECT_EQ(test, c->mm, look.on_mm);
	KUNIT_EXPECT_EQ(test, OOM_SCORE_ADJ_MIN, (int)look.oom);
	/* Without an mm, there is nothing to fault in for the caller. */
	if (c->mm)
		KUNIT_EXPECT_PTR_EQ(test, current_cred(), look.cred);
#ifdef CONFIG_MEMCG
	if (c->mm && !mem_cgroup_disabled())
		KUNIT_EXPECT_NOT_NULL(test, look.memcg);
#endif
	set_cpus_allowed_ptr(get_current(), cpu_possible_mask);
}

/* Whatever stands in the way of helpers: the caller does it all. */
static void job_without_helpers(struct kunit *test)
{
	struct job_test *jt;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		jt = job_make(test);
		fake->no_kthreads = i == 0;
		fake->no_affinity = i == 1;
		if (i == 2)
			atomic_set(&fake->alloc_fail, 0);
		jt->job.max_threads = 4;
		map_job_run(&jt->job, &jt->how);
		job_expect_done(test, jt);
		KUNIT_EXPECT_EQ(test, 1U, jt->nr_threads);
	}
}

/* ---- the caller's cgroups ---- */

static const struct group_case {
	const char *desc;
	bool root;		/* in the hierarchy's root */
	bool v2;		/* of the hierarchy of version 2 */
	int join_error;
	unsigned int joins;
	unsigned int threads;
} groups[] = {
	{ "root of v1", true, false, 0, 0, 2 },
	{ "root of v2", true, true, 0, 0, 2 },
	{ "group of v1", false, false, 0, 1, 2 },
	{ "group of v2", false, true, 0, 1, 2 },
	{ "group of v1 that takes no helper", false, false, -ENOSPC, 1, 1 },
	{ "group of v2 that takes no helper", false, true, -EBUSY, 1, 1 },
};

static void group_desc(const struct group_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(group, groups, group_desc);

/* The caller waits until it was tried to have a helper join. */
static void job_join_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_test *jt = arg;

	job_note(jt, start, end);
	KUNIT_EXPECT_TRUE(jt->test, fake_wait_until(READ_ONCE(job_groups.joins)));
	job_leave(jt);
}

static struct cgroup_subsys_state *job_group(struct kunit *test, bool root,
					     bool v2)
{
	struct cgroup_subsys_state *css;
	struct cgroup *cgroup;

	css = kunit_kzalloc(test, sizeof(*css), GFP_KERNEL);
	cgroup = kunit_kzalloc(test, sizeof(*cgroup), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, css);
	KUNIT_ASSERT_NOT_NULL(test, cgroup);
	css->cgroup = cgroup;
	css->parent = root ? NULL : css;
	cgroup->root = v2 ? &cgrp_dfl_root : NULL;
	return css;
}

/* Helpers are limited as the caller is, or there are none. */
static void job_in_groups(struct kunit *test)
{
	const struct group_case *c = test->param_value;
	struct job_test *jt = job_make(test);

	job_groups.css = job_group(test, c->root, c->v2);
	job_groups.join_error = c->join_error;

	KUNIT_EXPECT_TRUE(test, map_job_charges_hugetlb());
	/* One for each: waiting in vain takes long. */
	jt->job.size = 2;
	jt->job.thread_fn = c->threads > 1 ? job_both_fn : job_join_fn;
	map_job_run(&jt->job, &jt->how);
	job_expect_done(test, jt);
	KUNIT_EXPECT_EQ(test, c->threads, jt->nr_threads);
	KUNIT_EXPECT_EQ(test, c->joins, job_groups.joins);
}

static const struct controller_case {
	const char *desc;
	int subsys;
	bool v2;	/* its hierarchy is that of version 2 */
	bool counts;	/* version 2 is mounted to have memory count huge pages */
	bool joins;	/* its groups have to be joined */
} controllers[] = {
	{ "cpu of v2", cpu_cgrp_id, true, false, true },
	{ "cpuset of v2", cpuset_cgrp_id, true, false, true },
	{ "hugetlb of v2", hugetlb_cgrp_id, true, false, true },
	{ "memory of v2", memory_cgrp_id, true, false, false },
	{ "memory of v2 that counts", memory_cgrp_id, true, true, true },
	{ "memory of v1, v2 counts", memory_cgrp_id, false, true, true },
	{ "memory of v1", memory_cgrp_id, false, false, true },
	{ "pids of v2", pids_cgrp_id, true, false, false },
	{ "pids of v1", pids_cgrp_id, false, false, true },
};

static void controller_desc(const struct controller_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(controller, controllers, controller_desc);

/* Of the groups of one controller only, which is in the root of all others. */
static void job_in_controller(struct kunit *test)
{
	const struct controller_case *c = test->param_value;
	struct job_test *jt = job_make(test);

	job_groups.css = job_group(test, true, true);
	job_groups.special = job_group(test, false, c->v2);
	job_groups.subsys = c->subsys;
	job_groups.memcg_has_hugetlb = c->counts;
	KUNIT_EXPECT_TRUE(test, map_job_charges_hugetlb());
	jt->job.size = 2;
	jt->job.thread_fn = job_both_fn;
	map_job_run(&jt->job, &jt->how);
	job_expect_done(test, jt);
	KUNIT_EXPECT_EQ(test, 2U, jt->nr_threads);
	KUNIT_EXPECT_EQ(test, c->joins ? 1U : 0U, job_groups.joins);
}

/* ---- how many helpers ---- */

/* Never more than asked for, also when they are wanted badly. */
static void job_slow_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_test *jt = arg;

	job_note(jt, start, end);
	usleep_range(500, 1000);
	job_leave(jt);
}

static void job_limit(struct kunit *test)
{
	struct job_test *jt;
	int max;

	for (max = 1; max <= 8; max++) {
		jt = job_make(test);
		jt->job.size = 64;
		jt->job.thread_fn = job_slow_fn;
		jt->job.max_threads = max;
		map_job_run(&jt->job, &jt->how);
		job_expect_done(test, jt);
		KUNIT_EXPECT_LE(test, jt->most_busy, (unsigned int)max);
	}
}

/* Nobody goes on before as many threads as are expected have come. */
static void job_gather_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_test *jt = arg;

	job_note(jt, start, end);
	KUNIT_EXPECT_TRUE(jt->test, fake_wait_until(READ_ONCE(jt->nr_threads) >=
						    jt->expected));
	/* More may come. */
	usleep_range(500, 1000);
	job_leave(jt);
}

/* All jobs together have so many helpers and no more; the caller is none. */
static void job_helpers_of_all(struct kunit *test)
{
	int most = num_online_cpus() * MAP_JOB_HELPERS_PER_CPU, others;
	struct job_test *jt;

	for (others = most; others >= 0; others--) {
		/* As if so many worked on other jobs. */
		atomic_set(&map_job_helpers, others);
		jt = job_make(test);
		jt->job.size = 64;
		jt->job.thread_fn = job_gather_fn;
		jt->job.max_threads = JOB_THREADS;
		jt->expected = most - others + 1;
		map_job_run(&jt->job, &jt->how);
		job_expect_done(test, jt);
		KUNIT_EXPECT_EQ(test, jt->expected, jt->nr_threads);
		KUNIT_EXPECT_EQ(test, others, atomic_read(&map_job_helpers));
	}
}

/* ---- threads of the calling process ---- */

static const struct worker_case {
	const char *desc;
	unsigned int max_threads;
	unsigned int most;
	unsigned int begin;
	unsigned int threads;
} workers[] = {
	{ "as many as asked for", 4, 16, 16, 4 },
	{ "no more than can be made", 4, 1, 16, 2 },
	{ "none can be made", 4, 0, 16, 1 },
	{ "one comes too late", 4, 16, 2, 3 },
	{ "all come too late", 4, 16, 0, 1 },
	{ "none is asked for", 1, 16, 16, 1 },
};

static void worker_desc(const struct worker_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(worker, workers, worker_desc);

/* Nobody waits for one that has not begun, and each one made is freed. */
static void job_in_process(struct kunit *test)
{
	const struct worker_case *c = test->param_value;
	struct job_test *jt = job_make(test);

	job_workers.possible = true;
	job_workers.most = c->most;
	job_workers.begin = c->begin;
	fake->no_kthreads = true;
	jt->job.size = 64;
	jt->job.thread_fn = job_gather_fn;
	jt->job.max_threads = c->max_threads;
	jt->expected = c->threads;
	KUNIT_EXPECT_EQ(test, c->threads, map_job_run(&jt->job, &jt->how));
	job_expect_done(test, jt);
	KUNIT_EXPECT_EQ(test, c->threads, jt->nr_threads);
	KUNIT_EXPECT_EQ(test, min(c->most, c->max_threads - 1),
			job_workers.made);
	KUNIT_EXPECT_EQ(test, job_workers.made, job_workers.freed);
}

/* ---- a killed caller ---- */

static const struct kill_case {
	unsigned long at;
	unsigned int max_threads;
} kills[] = {
	{ 0, 1 }, { 1, 1 }, { UNITS - 1, 1 }, { 0, 2 }, { 1, 2 }, { 100, 2 },
	{ UNITS - 1, 2 }, { 50, 8 },
};

static void kill_desc(const struct kill_case *c, char *desc)
{
	sprintf(desc, "at unit %lu of %u, %u threads", c->at, UNITS,
		c->max_threads);
}

KUNIT_ARRAY_PARAM(kill, kills, kill_desc);

/* It is told once, and soon nothing is handed out any more. */
static void job_killed(struct kunit *test)
{
	const struct kill_case *c = test->param_value;
	struct job_test *jt = job_make(test);

	allow_signal(SIGKILL);
	jt->how.kill = job_kill;
	jt->kill_at = c->at;
	jt->job.max_threads = c->max_threads;
	map_job_run(&jt->job, &jt->how);
	KUNIT_EXPECT_TRUE(test, fatal_signal_pending(get_current()));
	if (c->max_threads > 1 && c->at < UNITS - 1)
		KUNIT_EXPECT_EQ(test, 1U, jt->kills);
	KUNIT_EXPECT_LE(test, jt->kills, 1U);
	/* What had just been handed out. */
	KUNIT_EXPECT_LT(test, jt->after_kill, c->max_threads);
	KUNIT_EXPECT_EQ(test, 0U, jt->busy);
	/* Alone, the range in which it happens is the last. */
	if (c->max_threads == 1)
		KUNIT_EXPECT_EQ(test, c->at + 1, (unsigned long)jt->nr);
	flush_signals(get_current());
	disallow_signal(SIGKILL);
}

/* Both threads are in a range when the caller is killed: it is their last. */
static void job_last_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_test *jt = arg;

	job_note(jt, start, end);
	KUNIT_EXPECT_TRUE(jt->test, fake_wait_until(READ_ONCE(jt->nr_threads) ==
						    2));
	if (get_current() == jt->caller)
		send_sig(SIGKILL, jt->caller, 1);
	else
		KUNIT_EXPECT_TRUE(jt->test, fake_wait_until(READ_ONCE(jt->kills)));
	job_leave(jt);
}

static void job_killed_with_helper(struct kunit *test)
{
	struct job_test *jt = job_make(test);

	allow_signal(SIGKILL);
	jt->how.kill = job_kill;
	jt->job.thread_fn = job_last_fn;
	map_job_run(&jt->job, &jt->how);
	KUNIT_EXPECT_EQ(test, 1U, jt->kills);
	KUNIT_EXPECT_EQ(test, 0U, jt->after_kill);
	KUNIT_EXPECT_EQ(test, 0U, jt->busy);
	flush_signals(get_current());
	disallow_signal(SIGKILL);
}

/* All that they are told is that there is no more to do. */
static void job_killed_in_process(struct kunit *test)
{
	job_workers.possible = true;
	job_workers.most = 1;
	job_workers.begin = 1;
	job_killed_with_helper(test);
	KUNIT_EXPECT_EQ(test, 1U, job_workers.freed);
}

/* A job that must be completed is completed. */
static void job_killed_but_goes_on(struct kunit *test)
{
	const struct kill_case *c = test->param_value;
	struct job_test *jt = job_make(test);

	allow_signal(SIGKILL);
	jt->kill_at = c->at;
	jt->job.max_threads = c->max_threads;
	map_job_run(&jt->job, &jt->how);
	job_expect_done(test, jt);
	flush_signals(get_current());
	disallow_signal(SIGKILL);
}

/* Killed beforehand, it may have helpers all the same: it frees memory. */
static void job_killed_before(struct kunit *test)
{
	struct job_test *jt = job_make(test);

	allow_signal(SIGKILL);
	send_sig(SIGKILL, get_current(), 1);
	jt->job.thread_fn = job_both_fn;
	map_job_run(&jt->job, &jt->how);
	job_expect_done(test, jt);
	KUNIT_EXPECT_EQ(test, 2U, jt->nr_threads);
	flush_signals(get_current());
	disallow_signal(SIGKILL);
}

/*
 * A helper sleeps, as in a page fault, when the caller is killed: it is woken.
 * The caller is killed by the helper, when it waits for it.
 */
static void job_sleep_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_test *jt = arg;
	long left;

	job_note(jt, start, end);
	if (get_current() == jt->caller) {
		fake_wait_until(completion_done(&jt->helper));
	} else if (!jt->slept) {
		/* The caller gets to its wait meanwhile, or does soon. */
		usleep_range(20000, 21000);
		send_sig(SIGKILL, jt->caller, 1);
		jt->slept = true;
		left = schedule_timeout_killable(FAKE_WAIT);
		KUNIT_EXPECT_GT(jt->test, left, 0L);
	}
	job_leave(jt);
}

/* Run a job with a helper that sleeps until it is woken, when the caller is killed. */
static void job_expect_woken(struct job_test *jt,
			     void (*fn)(unsigned long, unsigned long, void *),
			     unsigned int threads)
{
	unsigned long before = jiffies;

	jt->job.thread_fn = fn;
	jt->job.size = threads;
	jt->job.max_threads = threads;
	allow_signal(SIGKILL);
	jt->how.kill = job_kill;
	map_job_run(&jt->job, &jt->how);
	KUNIT_EXPECT_TRUE(jt->test, jt->slept);
	KUNIT_EXPECT_EQ(jt->test, 1U, jt->kills);
	KUNIT_EXPECT_EQ(jt->test, 0U, jt->busy);
	KUNIT_EXPECT_LT(jt->test, jiffies - before, (unsigned long)FAKE_WAIT);
	flush_signals(get_current());
	disallow_signal(SIGKILL);
}

static void job_wakes_helpers(struct kunit *test)
{
	job_expect_woken(job_make(test), job_sleep_fn, 2);
}

/* Nobody else has a CPU to look whether the caller was killed: it does so itself. */
static void job_wakes_helpers_itself(struct kunit *test)
{
	job_nobody_looks = true;
	job_wakes_helpers(test);
	job_nobody_looks = false;
}

/*
 * A helper sleeps as above, and the caller waits for it where no signal gets through: for
 * a lock, in its own range.
 */
static void job_deaf_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_test *jt = arg;

	job_note(jt, start, end);
	if (get_current() == jt->caller) {
		fake_wait_until(completion_done(&jt->helper));
		send_sig(SIGKILL, jt->caller, 1);
		KUNIT_EXPECT_TRUE(jt->test, fake_wait_until(READ_ONCE(jt->slept)));
	} else {
		KUNIT_EXPECT_GT(jt->test, schedule_timeout_killable(FAKE_WAIT),
				0L);
		WRITE_ONCE(jt->slept, true);
	}
	job_leave(jt);
}

static void job_wakes_helpers_of_deaf_caller(struct kunit *test)
{
	job_expect_woken(job_make(test), job_deaf_fn, 2);
}

/*
 * A helper sleeps as above, and what makes another one cannot go on before that one
 * does: it waits for a lock whose holder waits for the mmap lock.
 */
static void job_hold_fn(unsigned long start, unsigned long end, void *arg)
{
	struct job_test *jt = arg;

	job_note(jt, start, end);
	if (get_current() == jt->caller) {
		fake_wait_until(completion_done(&jt->helper) &&
				READ_ONCE(job_groups.joins) > 1);
	} else if (!jt->slept) {
		fake_wait_until(READ_ONCE(job_groups.joins) > 1);
		usleep_range(20000, 21000);
		send_sig(SIGKILL, jt->caller, 1);
		jt->slept = true;
		KUNIT_EXPECT_GT(jt->test, schedule_timeout_killable(FAKE_WAIT),
				0L);
		complete_all(job_groups.hold);
	}
	job_leave(jt);
}

static void job_wakes_helpers_while_making(struct kunit *test)
{
	struct job_test *jt = job_make(test);
	struct completion hold;

	init_completion(&hold);
	job_groups.css = job_group(test, false, false);
	job_groups.hold = &hold;
	job_expect_woken(jt, job_hold_fn, 3);
}

static int job_init(struct kunit *test)
{
	memset(&job_groups, 0, sizeof(job_groups));
	memset(&job_cpus, 0, sizeof(job_cpus));
	memset(&job_workers, 0, sizeof(job_workers));
	atomic_set(&map_job_helpers, 0);
	return fake_init(test);
}

static void job_exit(struct kunit *test)
{
	/* Each helper that was counted has been forgotten again. */
	if (atomic_read(&map_job_helpers))
		fake_complain("%d helpers are still counted",
			      atomic_read(&map_job_helpers));
	/* Other suites run jobs, too. */
	memset(&job_groups, 0, sizeof(job_groups));
	memset(&job_workers, 0, sizeof(job_workers));
	fake_exit(test);
}

static struct kunit_case job_cases[] = {
	KUNIT_CASE_PARAM(job_threads, limit_gen_params),
	KUNIT_CASE(job_threads_here),
	KUNIT_CASE(job_lacks_cpus),
	KUNIT_CASE_PARAM(job_split, split_gen_params),
	KUNIT_CASE_PARAM(job_split_in_order, split_gen_params),
	KUNIT_CASE(job_helper_comes),
	KUNIT_CASE_PARAM(job_adopt, adopt_gen_params),
	KUNIT_CASE(job_without_helpers),
	KUNIT_CASE_PARAM(job_in_groups, group_gen_params),
	KUNIT_CASE_PARAM(job_in_controller, controller_gen_params),
	KUNIT_CASE(job_limit),
	KUNIT_CASE(job_helpers_of_all),
	KUNIT_CASE_PARAM(job_in_process, worker_gen_params),
	KUNIT_CASE_PARAM(job_killed, kill_gen_params),
	KUNIT_CASE(job_killed_with_helper),
	KUNIT_CASE(job_killed_in_process),
	KUNIT_CASE_PARAM(job_killed_but_goes_on, kill_gen_params),
	KUNIT_CASE(job_killed_before),
	KUNIT_CASE(job_wakes_helpers),
	KUNIT_CASE(job_wakes_helpers_itself),
	KUNIT_CASE(job_wakes_helpers_of_deaf_caller),
	KUNIT_CASE(job_wakes_helpers_while_making),
	{ }
};

static struct kunit_suite job_suite = {
	.name = "vfio_mt_map_job",
	.init = job_init,
	.exit = job_exit,
	.test_cases = job_cases,
};

kunit_test_suite(job_suite);
