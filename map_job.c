// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_job.c - run a struct padata_mt_job on helper threads
 *
 * Jobs are described as padata's multithreaded jobs are. Where the kernel lets
 * modules call padata_do_multithreaded() (HAVE_PADATA_MT, set by Kbuild), that
 * function runs them. Stock kernels keep it for boot time; there, the runner
 * below keeps the same contract: thread_fn is called for ranges that together
 * make up the job, in order of their start, from several threads at once, the
 * caller's among them, and all calls have returned when the function returns.
 * What thread_fn achieved is between it and whoever made the job.
 *
 * The runner
 * ----------
 * Helpers are made for the job. If none can be had, the caller does it all.
 *
 * Where the kernel has them and the caller can (map_job_is_in_process()), helpers are
 * threads of the calling process: see user_worker.c. All limits of the process hold for
 * them. If it may have fewer threads than there are to be helpers, it has fewer
 * helpers: nothing is done outside of its groups then. The caller makes them itself,
 * before it begins: nobody else can.
 *
 * Otherwise they are kernel threads. Making one takes longer than much of the work
 * does, so a work item makes them while the caller is working already; it stops as
 * soon as no work is left. It is also what makes helpers available to a caller with a
 * fatal signal pending, whose kthread_create() would be refused: releasing a killed
 * guest's memory is parallel as well.
 *
 * Such a helper works on behalf of the caller, and within its limits:
 *  - CPUs: the caller's affinity, which includes its cpuset's;
 *  - priority: its nice value and scheduling policy;
 *  - cgroups of either version: it joins the caller's, whose controllers then treat
 *    it as they treat the caller, if one of them has anything to say about what it
 *    does. vhost's threads have always done the same;
 *  - memory: the memory cgroup of the borrowed mm is charged, for page tables
 *    and the module's own memory as well as for the pages; the nodes allowed by
 *    the caller's cpuset and its NUMA policy are taken over. The policy is
 *    borrowed, not copied: only its task changes it, and that task sits in the
 *    ioctl until the helper is done;
 *  - privileges: a page fault may allocate blocks of a file. It does so with the
 *    caller's credentials.
 *  - file I/O: what is read for a page fault is the caller's cgroup's.
 *
 * Stopping: a fatal signal to the caller is told to the job's maker, by
 * how->kill(), and passed on to the helpers. (Threads of the process get it with the
 * caller.) What sleeps killably in a page fault wakes up; what does not, keeps its
 * helper, and the caller, as it would have kept the caller alone. The caller may
 * itself be waiting for a lock, uninterruptibly, whose holder is a helper in such a fault:
 * so a work item looks as well, every now and then, whether it was killed.
 *
 * padata
 * ------
 * Its threads are the workers of a workqueue, which belong to nobody. They become
 * as much of a helper as that allows for each range that they are given, and what
 * they were again behind it: all of the above but the cgroups. So CPU time is charged
 * to none, and memory that is charged to the cgroup of the thread that asks, and not to
 * the mm's or to a borrowed one, must be left to the caller: that is hugetlb's, see
 * map_job_charges_hugetlb(). The caller, who works too, can be killed, but padata does
 * not let it go before all have come back: here, too, it takes the work item to see it.
 *
 * Context: process context, may sleep. The caller holds no lock that thread_fn
 *    takes, nor one that stops kernel threads from being made.
 * Locking: run->lock protects the rest of the job, @killed and the list of
 *    helpers; it is taken once a chunk, never in one. run->active counts the
 *    helpers that may still call thread_fn.
 */
#include <linux/cgroup.h>
#include <linux/completion.h>
#include <linux/cpuset.h>
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/mempolicy.h>
#include <linux/oom.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <uapi/linux/sched/types.h>

#include "include/compat.h"
#include "include/map_job.h"
#include "include/user_worker.h"

/* More threads than this gain little on published machines. */
#define MAP_JOB_THREADS_DEFAULT	16

/* Of its limit, this much of a memory cgroup is left when a thread is charged to it. */
#define MAP_JOB_ROOM		SZ_1M

/*
 * Most helpers of all jobs together, for each CPU. No cgroup limits kernel
 * threads: users who map from many threads at once, memory that is slow to be
 * faulted in above all, could use up the machine's memory and its pids.
 */
#define MAP_JOB_HELPERS_PER_CPU	2

/* Sleeps are cut into pieces that no hung-task detector minds. */
#define MAP_JOB_WAIT		(10 * HZ)

/* So often is looked whether the caller was killed. */
#define MAP_JOB_WATCH		msecs_to_jiffies(20)

/* So long are threads of a process waited for at most, to be gone. */
#define MAP_JOB_PATIENCE	HZ

/**
 * map_job_threads - choose how many threads a job may have
 * @limit: the administrator's limit; 0 to choose
 *
 * Context: Any.
 * Return: The number of threads, the caller included; at least 1.
 */
unsigned int map_job_threads(unsigned int limit)
{
	unsigned int cpus = 0, cpu;

	for_each_cpu_and(cpu, &current->cpus_mask, cpu_online_mask)
		cpus++;
	if (!limit)
		limit = MAP_JOB_THREADS_DEFAULT;
	return clamp(cpus, 1U, limit);
}

#if defined(CONFIG_CGROUPS) && defined(HAVE_PADATA_MT)
/* Is the calling thread in a group that a controller limits? */
static bool __maybe_unused map_job_is_limited(int subsys)
{
	const struct cgroup_subsys_state *css;
	bool is;

	rcu_read_lock();
	css = task_css(current, subsys);
	is = css && css->parent;
	rcu_read_unlock();
	return is;
}
#endif

#ifdef CONFIG_MEMCG
/* Is it so of the memory cgroup that @mm is charged to, or of one above it? */
static bool map_job_some_memcg(struct mm_struct *mm,
			       bool (*is_so)(struct mem_cgroup *memcg))
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(mm), *at = memcg;

	while (at && !is_so(at))
		at = parent_mem_cgroup(at);
	mem_cgroup_put(memcg);
	return at;
}

static bool map_job_is_full(struct page_counter *counter)
{
	unsigned long max = READ_ONCE(counter->max);
	unsigned long used = page_counter_read(counter);

	return used > max || max - used < MAP_JOB_ROOM >> PAGE_SHIFT;
}

static bool map_job_memcg_is_full(struct mem_cgroup *memcg)
{
	return map_job_is_full(&memcg->memory) ||
	       (!cgroup_subsys_on_dfl(memory_cgrp_subsys) &&
		map_job_is_full(&memcg->memsw));
}

static bool map_job_memcg_is_slow(struct mem_cgroup *memcg)
{
	unsigned long high = READ_ONCE(memcg->memory.high);

	return page_counter_read(&memcg->memory) >= high - high / 16;
}
#endif

/*
 * Threads are charged to the caller's memory cgroup. In one that is full, none is made:
 * it would be killed for it, though what it asks for may be to unmap.
 */
static bool __maybe_unused map_job_has_room(void)
{
#ifdef CONFIG_MEMCG
	return !map_job_some_memcg(current->mm, map_job_memcg_is_full);
#else
	return true;
#endif
}

/**
 * map_job_is_in_process - choose whose the helpers of a job shall be
 * @mm: the address space that the job needs, or NULL
 *
 * Context: Process context.
 * Return: Whether they should be threads of the calling process, and not of the kernel:
 *    for struct map_job_how.
 */
bool map_job_is_in_process(const struct mm_struct *mm)
{
#ifdef HAVE_PADATA_MT
	return false;
#else
	return user_worker_possible(mm) && map_job_has_room();
#endif
}

/**
 * map_job_charges_hugetlb - do helpers charge huge pages to whom they should?
 *
 * Pages from hugetlb's pools are charged to the cgroup of the thread that faults
 * them in: by their own controller, and by that of memory where version 2 is
 * mounted so, which does not look at set_active_memcg() for them. Helpers are in the
 * caller's groups then; padata's are in none.
 *
 * Context: Process context.
 * Return: false if memory from such a pool must be faulted in by the caller.
 */
bool map_job_charges_hugetlb(void)
{
#ifdef HAVE_PADATA_MT
#ifdef CONFIG_CGROUP_HUGETLB
	if (map_job_is_limited(hugetlb_cgrp_id))
		return false;
#endif
#ifdef CONFIG_MEMCG
	if (compat_memcg_charges_hugetlb() &&
	    map_job_is_limited(memory_cgrp_id))
		return false;
#endif
#endif
	return true;
}

/**
 * map_job_lacks_cpus - would more CPUs have given a job many more threads?
 * @threads: how many it was planned for
 * @limit: as for map_job_threads()
 *
 * Context: Process context.
 * Return: Whether it has all threads that map_job_threads() allows, and would
 *    have had twice as many if the caller were allowed on all CPUs.
 */
bool map_job_lacks_cpus(unsigned int threads, unsigned int limit)
{
	unsigned int most = min_t(unsigned int, num_online_cpus(),
				  limit ? : MAP_JOB_THREADS_DEFAULT);

	return threads >= map_job_threads(limit) && 2 * threads <= most;
}

/**
 * map_job_is_throttled - is memory being had slowly because of memory.high?
 * @mm: who is charged for it
 *
 * The kernel holds up whoever charges to a cgroup beyond that limit, but does not
 * count for how long. What pins leaves no pages that could be reclaimed: a cgroup
 * that was held up is at its limit still.
 *
 * Context: Process context.
 * Return: Whether the cgroup, or one above it, has reached its limit, or nearly.
 */
bool map_job_is_throttled(struct mm_struct *mm)
{
#ifdef CONFIG_MEMCG
	return map_job_some_memcg(mm, map_job_memcg_is_slow);
#else
	return false;
#endif
}

/* ---- on the caller's behalf ---- */

/**
 * struct map_job_caller - for whom helpers work
 * @task: the thread that runs the job
 * @cred: its credentials; they do not change while it is here
 * @mm: the address space that helpers borrow, or NULL
 */
struct map_job_caller {
	struct task_struct *task;
	const struct cred *cred;
	struct mm_struct *mm;
};

/**
 * struct map_job_own - what a helper has of its own, while it has the caller's
 * @cred: its credentials
 * @memcg: the memory cgroup that it charged explicitly
 * @lent: the one that it charges instead
 * @nodes: the nodes that it may allocate on
 * @policy: its NUMA policy
 */
struct map_job_own {
	const struct cred *cred;
	struct mem_cgroup *memcg;
	struct mem_cgroup *lent;
	nodemask_t nodes;
	struct mempolicy *policy;
};

static struct map_job_caller map_job_caller(const struct map_job_how *how)
{
	return (struct map_job_caller){
		.task = current,
		.cred = current_cred(),
		.mm = how->mm,
	};
}

/* The calling helper allocates by @policy. Returns what it had before. */
static struct mempolicy *map_job_swap_policy(struct mempolicy *policy)
{
	struct mempolicy *old = NULL;

#ifdef CONFIG_NUMA
	task_lock(current);
	old = current->mempolicy;
	current->mempolicy = policy;
	task_unlock(current);
#endif
	return old;
}

static struct mempolicy *map_job_policy(const struct task_struct *task)
{
#ifdef CONFIG_NUMA
	return task->mempolicy;
#else
	return NULL;
#endif
}

/* The nodes that a task may allocate on, which may be changing. */
static nodemask_t map_job_nodes(struct task_struct *task)
{
	nodemask_t nodes;
#ifdef CONFIG_CPUSETS
	unsigned int seq;

	do {
		seq = read_seqcount_begin(&task->mems_allowed_seq);
		nodes = task->mems_allowed;
	} while (read_seqcount_retry(&task->mems_allowed_seq, seq));
#else
	nodes = node_states[N_MEMORY];
#endif
	return nodes;
}

/*
 * Have the calling helper's file I/O charged to the cgroup of @task, or, without
 * one, to its own again.
 */
static void map_job_charge_io(struct task_struct *task)
{
#ifdef CONFIG_BLK_CGROUP
	struct cgroup_subsys_state *css = NULL;

	if (task)
		css = task_get_css(task, io_cgrp_id);
	kthread_associate_blkcg(css);
	if (css)
		css_put(css);
#endif
}

/* From here on the calling helper works with the caller's memory, and as it may. */
static void map_job_borrow(const struct map_job_caller *caller,
			   struct map_job_own *own)
{
	own->cred = override_creds(caller->cred);
	kthread_use_mm(caller->mm);
	own->lent = get_mem_cgroup_from_mm(caller->mm);
	own->memcg = set_active_memcg(own->lent);
	own->nodes = map_job_nodes(current);
	set_mems_allowed(map_job_nodes(caller->task));
	own->policy = map_job_swap_policy(map_job_policy(caller->task));
	map_job_charge_io(caller->task);
}

static void map_job_return(const struct map_job_caller *caller,
			   const struct map_job_own *own)
{
	map_job_charge_io(NULL);
	map_job_swap_policy(own->policy);
	set_mems_allowed(own->nodes);
	set_active_memcg(own->memcg);
	mem_cgroup_put(own->lent);
	kthread_unuse_mm(caller->mm);
	revert_creds(own->cred);
}

/* How others may be scheduled as @task is: a deadline cannot be shared. */
static struct sched_attr map_job_sched_attr(const struct task_struct *task)
{
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_policy = task->policy,
		.sched_nice = task_nice(task),
		.sched_priority = task->rt_priority,
	};

	if (task->policy == SCHED_DEADLINE)
		attr.sched_policy = SCHED_NORMAL;
	return attr;
}

/* ---- a caller that is killed ---- */

struct map_job_run;

/* Nobody begins anything, or goes on sleeping in a fault. Doing it again does no harm. */
static void map_job_stop(struct map_job_run *run);

/**
 * struct map_job_watch - looks whether a job's caller was killed
 * @work: does so, every now and then
 * @run: the job, to be stopped then
 * @caller: its caller
 */
struct map_job_watch {
	struct delayed_work work;
	struct map_job_run *run;
	struct task_struct *caller;
};

static void map_job_look(struct work_struct *work)
{
	struct map_job_watch *watch = container_of(to_delayed_work(work),
						   struct map_job_watch, work);

	/* Again and again: a helper may have come in between. */
	if (fatal_signal_pending(watch->caller))
		map_job_stop(watch->run);
	queue_delayed_work(system_percpu_wq, &watch->work, MAP_JOB_WATCH);
}

static void map_job_watch_begin(struct map_job_watch *watch,
				struct map_job_run *run,
				const struct map_job_how *how,
				struct task_struct *caller)
{
	watch->run = run;
	watch->caller = caller;
	INIT_DELAYED_WORK_ONSTACK(&watch->work, map_job_look);
	/* Not behind what makes helpers, which may have to wait for what this ends. */
	if (how->kill)
		queue_delayed_work(system_percpu_wq, &watch->work, MAP_JOB_WATCH);
}

static void map_job_watch_end(struct map_job_watch *watch)
{
	cancel_delayed_work_sync(&watch->work);
	destroy_delayed_work_on_stack(&watch->work);
}

#ifdef HAVE_PADATA_MT

/* ---- padata's threads ---- */

/**
 * struct map_job_helper - one of padata's threads, while it does a range
 * @node: in run->idle or run->busy
 * @task: the thread
 * @cpus: its own affinity
 * @attr: how it is scheduled otherwise
 * @own: what else it has of its own
 */
struct map_job_helper {
	struct list_head node;
	struct task_struct *task;
	struct cpumask cpus;
	struct sched_attr attr;
	struct map_job_own own;
};

/**
 * struct map_job_run - a job being run
 * @job: the job
 * @how: what else it needs
 * @caller: who runs it
 * @attr: how the caller is scheduled
 * @lock: protects @idle, @busy and @killed
 * @idle: room for threads that come
 * @busy: threads that do a range
 * @killed: a fatal signal hit the caller: nobody begins anything any more
 * @watch: looks for that signal where the caller does not see it
 */
struct map_job_run {
	struct padata_mt_job *job;
	const struct map_job_how *how;
	struct map_job_caller caller;
	struct sched_attr attr;
	spinlock_t lock;
	struct list_head idle;
	struct list_head busy;
	bool killed;
	struct map_job_watch watch;
};

static void map_job_stop(struct map_job_run *run)
{
	struct map_job_helper *helper;
	bool first;

	spin_lock(&run->lock);
	first = !run->killed;
	WRITE_ONCE(run->killed, true);
	list_for_each_entry(helper, &run->busy, node)
		send_sig(SIGKILL, helper->task, 1);
	spin_unlock(&run->lock);
	if (first)
		run->how->kill(run->job->fn_arg);
}

static void map_job_work(struct map_job_run *run, unsigned long start,
			 unsigned long end)
{
	unsigned long chunk = roundup(max(run->job->min_chunk, 1UL),
				      run->job->align);
	unsigned long next;

	for (; start < end && !READ_ONCE(run->killed); start = next) {
		next = min(roundup(start + 1, chunk), end);
		run->job->thread_fn(start, next, run->job->fn_arg);
		cond_resched();
		if (current == run->caller.task && run->how->kill &&
		    fatal_signal_pending(current))
			map_job_stop(run);
	}
}

/* A thread comes. There is room for as many as padata was allowed to use. */
static struct map_job_helper *map_job_enter(struct map_job_run *run)
{
	struct map_job_helper *helper = NULL;

	/* As for threads of our own: only map_job_stop() sends it. */
	allow_kernel_signal(SIGKILL);
	spin_lock(&run->lock);
	if (!run->killed) {
		helper = list_first_entry(&run->idle, struct map_job_helper,
					  node);
		helper->task = current;
		list_move(&helper->node, &run->busy);
	}
	spin_unlock(&run->lock);
	return helper;
}

static void map_job_leave(struct map_job_run *run, struct map_job_helper *helper)
{
	if (helper) {
		spin_lock(&run->lock);
		list_move(&helper->node, &run->idle);
		spin_unlock(&run->lock);
	}
	/* It forgets one that was sent, too. */
	kernel_sigaction(SIGKILL, SIG_IGN);
}

static bool map_job_same_attr(const struct sched_attr *a,
			      const struct sched_attr *b)
{
	return a->sched_policy == b->sched_policy &&
	       a->sched_nice == b->sched_nice &&
	       a->sched_priority == b->sched_priority;
}

/*
 * Run where and when the caller may. What might fail is that all of its CPUs have
 * just gone offline: then it has left them itself.
 */
static void map_job_adopt(const struct map_job_run *run,
			  struct map_job_helper *helper)
{
	const struct cpumask *cpus = &run->caller.task->cpus_mask;

	cpumask_copy(&helper->cpus, &current->cpus_mask);
	helper->attr = map_job_sched_attr(current);
	if (!cpumask_subset(&helper->cpus, cpus))
		set_cpus_allowed_ptr(current, cpus);
	if (!map_job_same_attr(&helper->attr, &run->attr))
		sched_setattr_nocheck(current, &run->attr);
}

static void map_job_give_up(const struct map_job_run *run,
			    const struct map_job_helper *helper)
{
	if (!map_job_same_attr(&helper->attr, &run->attr))
		sched_setattr_nocheck(current, &helper->attr);
	set_cpus_allowed_ptr(current, &helper->cpus);
}

static void map_job_help(struct map_job_run *run, unsigned long start,
			 unsigned long end)
{
	struct map_job_helper *helper = map_job_enter(run);

	if (helper) {
		map_job_adopt(run, helper);
		if (run->caller.mm)
			map_job_borrow(&run->caller, &helper->own);
		map_job_work(run, start, end);
		if (run->caller.mm)
			map_job_return(&run->caller, &helper->own);
		map_job_give_up(run, helper);
	}
	map_job_leave(run, helper);
}

static void map_job_range(unsigned long start, unsigned long end, void *arg)
{
	struct map_job_run *run = arg;

	if (current == run->caller.task)
		map_job_work(run, start, end);
	else
		map_job_help(run, start, end);
}

static void map_job_run_padata(struct map_job_run *run)
{
	struct padata_mt_job job = *run->job;

	job.thread_fn = map_job_range;
	job.fn_arg = run;
	map_job_watch_begin(&run->watch, run, run->how, run->caller.task);
	padata_do_multithreaded(&job);
	map_job_watch_end(&run->watch);
}

/**
 * map_job_run - run a job to its end
 * @job: the job
 * @how: what else it needs
 *
 * Context: Process context. May sleep; a fatal signal shortens that, if
 *    there is @how->kill.
 * Return: How many threads worked on it, at the same time.
 */
unsigned int map_job_run(struct padata_mt_job *job,
			 const struct map_job_how *how)
{
	struct map_job_helper *helpers = NULL;
	struct map_job_run run = {
		.job = job,
		.how = how,
		.caller = map_job_caller(how),
		.attr = map_job_sched_attr(current),
		.idle = LIST_HEAD_INIT(run.idle),
		.busy = LIST_HEAD_INIT(run.busy),
	};
	unsigned int worked = 1;
	int i;

	spin_lock_init(&run.lock);
	if (job->size > 1 && job->max_threads > 1)
		helpers = kvcalloc(job->max_threads - 1, sizeof(*helpers),
				   GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
	if (!helpers) {
		map_job_work(&run, job->start, job->start + job->size);
		return worked;
	}
	for (i = 0; i < job->max_threads - 1; i++)
		list_add(&helpers[i].node, &run.idle);
	map_job_run_padata(&run);
	/* Whoever came took the room of one that had left, if there was. */
	for (i = 0; i < job->max_threads - 1; i++)
		worked += !!helpers[i].task;
	kvfree(helpers);
	return worked;
}

#else /* !HAVE_PADATA_MT */

/* ---- threads of our own ---- */

/**
 * struct map_job_run - a job being run
 * @job: the job
 * @how: what else it needs
 * @caller: who runs it
 * @lock: protects @next, @left, @worked, @helpers, @nr_helpers and @killed; of
 *        @workers only the caller knows, who makes them
 * @next: start of the next range to hand out
 * @left: size of what is not handed out
 * @worked: threads that were handed something
 * @helpers: the kernel threads made so far; a reference is held on each
 * @workers: or the threads of the process
 * @nr_helpers: how many of either
 * @grouped: @helpers join the caller's groups; written by what makes them, and read by
 *           the caller when it makes none any more
 * @killed: a fatal signal hit the caller: hand nothing out any more
 * @active: helpers that may still call thread_fn, plus one for the caller
 * @idle: completed when @active drops to 0
 * @made: completed when @make has made all that it was to make
 * @make: makes the helpers
 * @watch: looks for that signal where the caller does not see it
 */
struct map_job_run {
	struct padata_mt_job *job;
	const struct map_job_how *how;
	struct map_job_caller caller;
	spinlock_t lock;
	unsigned long next;
	unsigned long left;
	unsigned int worked;
	struct task_struct **helpers;
	struct user_worker **workers;
	unsigned int nr_helpers;
	bool grouped;
	bool killed;
	atomic_t active;
	struct completion idle;
	struct completion made;
	struct work_struct make;
	struct map_job_watch watch;
};

/* Helpers of all jobs. */
static atomic_t map_job_helpers = ATOMIC_INIT(0);

/* May there be another helper? */
static bool map_job_reserve_helper(void)
{
	int most = num_online_cpus() * MAP_JOB_HELPERS_PER_CPU;

	if (atomic_inc_return(&map_job_helpers) <= most)
		return true;
	atomic_dec(&map_job_helpers);
	return false;
}

static void map_job_release_helper(void)
{
	atomic_dec(&map_job_helpers);
}

/* Hand out the next range; @first: the thread's first one. */
static bool map_job_next(struct map_job_run *run, bool first,
			 unsigned long *start, unsigned long *end)
{
	struct padata_mt_job *job = run->job;
	unsigned long chunk = roundup(max(job->min_chunk, 1UL), job->align);
	bool more;

	spin_lock(&run->lock);
	more = run->left && !run->killed;
	if (more) {
		*start = run->next;
		*end = min(roundup(*start + 1, chunk), *start + run->left);
		run->next = *end;
		run->left -= *end - *start;
		run->worked += first;
	}
	spin_unlock(&run->lock);
	return more;
}

static void map_job_stop(struct map_job_run *run)
{
	unsigned int i;
	bool first;

	spin_lock(&run->lock);
	first = !run->killed;
	run->killed = true;
	/* Whoever killed the caller killed the threads of its process with it. */
	for (i = 0; run->helpers && i < run->nr_helpers; i++)
		send_sig(SIGKILL, run->helpers[i], 1);
	spin_unlock(&run->lock);
	if (first)
		run->how->kill(run->job->fn_arg);
}

static void map_job_work(struct map_job_run *run)
{
	unsigned long start, end;
	bool first = true;

	while (map_job_next(run, first, &start, &end)) {
		first = false;
		run->job->thread_fn(start, end, run->job->fn_arg);
		cond_resched();
		if (current == run->caller.task && run->how->kill &&
		    fatal_signal_pending(current))
			map_job_stop(run);
	}
}

static void map_job_put(struct map_job_run *run)
{
	if (atomic_dec_and_test(&run->active))
		complete(&run->idle);
}

static int map_job_helper(void *arg)
{
	struct map_job_run *run = arg;
	struct map_job_own own;

	/*
	 * map_job_stop() ends a sleep in a page fault with it. Nobody else
	 * may: the job would fail, and its caller be there to see it.
	 */
	allow_kernel_signal(SIGKILL);
	if (COMPAT_KTHREAD_CPUS_LATE)
		set_cpus_allowed_ptr(current, &run->caller.task->cpus_mask);
	if (run->caller.mm)
		map_job_borrow(&run->caller, &own);
	map_job_work(run);
	if (run->caller.mm)
		map_job_return(&run->caller, &own);
	map_job_put(run);
	return 0;
}

#ifdef CONFIG_CGROUPS
/*
 * Would a controller of version 2 limit a helper otherwise than in the root? Memory and
 * I/O are the caller's in any case, and nearly all processes are in groups that are
 * counted so and not limited otherwise.
 */
static bool map_job_v2_limits(int subsys)
{
#ifdef CONFIG_CGROUP_SCHED
	if (subsys == cpu_cgrp_id)
		return true;
#endif
#ifdef CONFIG_CPUSETS
	if (subsys == cpuset_cgrp_id)
		return true;
#endif
#ifdef CONFIG_CGROUP_HUGETLB
	if (subsys == hugetlb_cgrp_id)
		return true;
#endif
#ifdef CONFIG_MEMCG
	if (subsys == memory_cgrp_id)
		return compat_memcg_charges_hugetlb();
#endif
	return false;
}

/* Is @task in a group that its helpers have to join? */
static bool map_job_has_groups(struct task_struct *task)
{
	const struct cgroup_subsys_state *css;
	bool has = false;
	int i;

	rcu_read_lock();
	for (i = 0; i < CGROUP_SUBSYS_COUNT && !has; i++) {
		css = task_css(task, i);
		has = css && css->parent &&
		      (css->cgroup->root != &cgrp_dfl_root ||
		       map_job_v2_limits(i));
	}
	rcu_read_unlock();
	return has;
}
#endif

/*
 * Joining takes its time, while nobody can fork: it is not done where it changes
 * nothing.
 */
static int map_job_join_groups(struct map_job_run *run,
			       struct task_struct *task)
{
#ifdef CONFIG_CGROUPS
	if (map_job_has_groups(run->caller.task)) {
		run->grouped = true;
		return cgroup_attach_task_all(run->caller.task, task);
	}
#endif
	return 0;
}

/* Let @task have what the caller has, no more. */
static int map_job_adopt(struct map_job_run *run, struct task_struct *task)
{
	struct task_struct *caller = run->caller.task;
	struct sched_attr attr = map_job_sched_attr(caller);

	/* Groups come first: a cpuset sets the affinity of who joins it. */
	return map_job_join_groups(run, task) ? :
	       sched_setattr_nocheck(task, &attr) ? :
	       set_cpus_allowed_ptr(task, &caller->cpus_mask);
}

static bool map_job_wants_help(struct map_job_run *run)
{
	bool wants;

	spin_lock(&run->lock);
	wants = run->left && !run->killed &&
		run->nr_helpers + 1 < run->job->max_threads;
	spin_unlock(&run->lock);
	return wants;
}

/*
 * A helper may still be on its way out of this module's code, and of the caller's groups.
 * Whether a group is frozen, the kernel asks when a process of it freezes, not when a
 * kernel thread leaves: the caller must be the last.
 */
static void map_job_see_off(const struct map_job_run *run,
			    struct task_struct *task)
{
	kthread_stop(task);
#ifdef CONFIG_CGROUPS
	while (run->grouped && !list_empty_careful(&task->cg_list))
		usleep_range(10, 50);
#endif
	put_task_struct(task);
}

/* A helper that has not run yet, or NULL. */
static struct task_struct *map_job_new_helper(struct map_job_run *run)
{
	struct task_struct *task;

	if (!map_job_reserve_helper())
		return NULL;
	task = kthread_create(map_job_helper, run, "vfio_mt/%d",
			      task_pid_nr(run->caller.task));
	if (IS_ERR(task))
		goto release;
	get_task_struct(task);
	/*
	 * Where the caller's group is killed as a whole for want of memory, the kernel would
	 * take a helper for a process, kill whoever shares the mm, and wait for it to exit
	 * with that.
	 */
	task->signal->oom_score_adj = OOM_SCORE_ADJ_MIN;
	if (!map_job_adopt(run, task))
		return task;
	/* It was never woken: it ends without having run. */
	map_job_see_off(run, task);
release:
	map_job_release_helper();
	return NULL;
}

static void map_job_make(struct work_struct *work)
{
	struct map_job_run *run = container_of(work, struct map_job_run, make);
	struct task_struct *task;

	while (map_job_wants_help(run)) {
		task = map_job_new_helper(run);
		if (!task)
			break;
		atomic_inc(&run->active);
		spin_lock(&run->lock);
		run->helpers[run->nr_helpers++] = task;
		spin_unlock(&run->lock);
		wake_up_process(task);
	}
	complete(&run->made);
}

/*
 * In pieces, which no hung-task detector minds. The watch sees a kill as well, but may
 * have to wait for a CPU.
 */
static void map_job_wait_for(struct map_job_run *run, struct completion *what)
{
	bool killable = run->how->kill;
	long left;

	do {
		left = killable ?
		       wait_for_completion_killable_timeout(what,
							    MAP_JOB_WAIT) :
		       wait_for_completion_timeout(what, MAP_JOB_WAIT);
		if (left < 0) {
			map_job_stop(run);
			killable = false;
		}
	} while (left <= 0);
}

/*
 * The caller has no more to do. Wait for the helpers, none of which is being
 * made any more.
 */
static void map_job_wait(struct map_job_run *run)
{
	map_job_put(run);
	map_job_wait_for(run, &run->idle);
}

/*
 * Have no more helpers made. What makes them may be waiting for the cgroups' lock,
 * its holder for the mmap lock, and that is held by a helper in a page fault.
 */
static void map_job_end_making(struct map_job_run *run)
{
	if (!cancel_work(&run->make))
		map_job_wait_for(run, &run->made);
	cancel_work_sync(&run->make);
	destroy_work_on_stack(&run->make);
}

static void map_job_run_threads(struct map_job_run *run)
{
	unsigned int i;

	init_completion(&run->made);
	INIT_WORK_ONSTACK(&run->make, map_job_make);
	queue_work(system_dfl_wq, &run->make);
	map_job_watch_begin(&run->watch, run, run->how, run->caller.task);
	map_job_work(run);
	map_job_end_making(run);
	map_job_wait(run);
	map_job_watch_end(&run->watch);

	for (i = 0; i < run->nr_helpers; i++) {
		map_job_see_off(run, run->helpers[i]);
		map_job_release_helper();
	}
}

/* ---- threads of the calling process ---- */

static void map_job_worker(void *arg)
{
	struct map_job_run *run = arg;

	map_job_work(run);
	map_job_put(run);
}

static void map_job_make_workers(struct map_job_run *run)
{
	struct user_worker *worker;
	char name[TASK_COMM_LEN];

	snprintf(name, sizeof(name), "vfio_mt/%d", task_pid_nr(current));
	while (map_job_wants_help(run) && map_job_has_room() &&
	       map_job_reserve_helper()) {
		atomic_inc(&run->active);
		worker = user_worker_new(map_job_worker, run, name);
		if (!worker) {
			atomic_dec(&run->active);
			map_job_release_helper();
			break;
		}
		run->workers[run->nr_helpers++] = worker;
	}
}

static void map_job_run_workers(struct map_job_run *run)
{
	unsigned long patience = MAP_JOB_PATIENCE;
	unsigned int i;

	map_job_make_workers(run);
	map_job_watch_begin(&run->watch, run, run->how, run->caller.task);
	map_job_work(run);
	for (i = 0; i < run->nr_helpers; i++)
		if (user_worker_call_off(run->workers[i]))
			map_job_put(run);
	map_job_wait(run);
	map_job_watch_end(&run->watch);
	for (i = 0; i < run->nr_helpers; i++) {
		user_worker_free(run->workers[i], &patience);
		map_job_release_helper();
	}
}

/* ---- either ---- */

static void **map_job_room(const struct padata_mt_job *job)
{
	return kcalloc(job->max_threads - 1, sizeof(void *),
		       GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
}

/**
 * map_job_run - run a job to its end
 * @job: the job
 * @how: what else it needs
 *
 * Context: Process context. May sleep; a fatal signal shortens that, if
 *    there is @how->kill.
 * Return: How many threads worked on it.
 */
unsigned int map_job_run(struct padata_mt_job *job,
			 const struct map_job_how *how)
{
	struct map_job_run run = {
		.job = job,
		.how = how,
		.caller = map_job_caller(how),
		.next = job->start,
		.left = job->size,
		.active = ATOMIC_INIT(1),
	};
	void **room = NULL;

	if (!job->size)
		return 0;
	spin_lock_init(&run.lock);
	init_completion(&run.idle);
	if (job->max_threads > 1)
		room = map_job_room(job);
	if (!room) {
		map_job_work(&run);
	} else if (run.caller.mm ? how->in_process :
				    map_job_is_in_process(NULL)) {
		run.workers = (struct user_worker **)room;
		map_job_run_workers(&run);
	} else {
		run.helpers = (struct task_struct **)room;
		map_job_run_threads(&run);
	}
	kfree(room);
	return run.worked;
}

#endif /* HAVE_PADATA_MT */
