// SPDX-License-Identifier: GPL-2.0-only
/*
 * user_worker.c - threads of the calling process that call a function of ours
 *
 * A driver can give the process that calls it one more thread, which never gets to
 * user space (vhost_task_create(), COMPAT_USER_WORKERS). It is a thread like the
 * others: in the process's control groups of either version, with its memory,
 * credentials, limits and signals, and with the affinity, priority and NUMA policy of
 * the thread that asked. Nothing of all that has to be borrowed, as kernel threads
 * must (map_job.c).
 *
 * Lifetime
 * --------
 * A worker calls its function, once. Before that and after it is in the kernel's loop
 * (vhost_task_fn()), which takes signals: if the process is stopped, traced, or its
 * group frozen, a worker stays there until it goes on. Nobody who holds something may
 * wait for that, nor could a group ever be frozen in which somebody does. So
 *  - who needs the function no more calls it off: what has not been begun then, never
 *    will be. Only what has been begun is waited for, by means of its own;
 *  - a worker is told to end by a work item of its own, which it queues itself as soon
 *    as it has nothing to do. While the worker is held up by such a thing, the item
 *    looks again, now and then;
 *  - user_worker_free() waits for a moment, in which nearly all are gone without a trace.
 * What is left of the problem: a stop that hits between the item's look and the moment
 * in which the worker, woken up by vhost_task_stop(), runs; that is later where its
 * group is out of CPU time, or other tasks are preferred to it. Then the item waits for the
 * process to go on, and the hung-task detector may tell of it. Who brings that about often
 * enough, with all the threads that he may have, takes the queue's places from others:
 * those get no workers then, and an ioctl that has some already may take the time of
 * user_worker_free() longer.
 *
 * One that is killed leaves the loop by itself, whether it has begun or not. A fatal
 * signal does not end its function: it is one to the caller, too, who knows what to do.
 *
 * Context: process context.
 * Locking: worker->lock protects @fn; worker_ending is atomic. @idle is the worker's own;
 *    @thread is written by the worker, and read by its work item; @ended is written by
 *    that, and read when it has completed @gone. The rest does not change once the
 *    worker has been started. Whoever made the worker has a reference on it, and its
 *    work item another, with one on the module.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "include/compat.h"
#include "include/user_worker.h"

#ifdef COMPAT_USER_WORKERS

#include <linux/sched/vhost_task.h>

/* So often is looked for workers that are held up. */
#define WORKER_AGAIN	(HZ / 10)

/* So long is waited for one that may be held up. */
#define WORKER_PATIENCE	(HZ / 10UL)

/* So often is looked for one that has ended: soon at first, then every millisecond. */
#define WORKER_SEE_OFF		600
#define WORKER_SEE_OFF_SOON	100

/**
 * struct user_worker - a thread that calls a function once
 * @refs: references
 * @lock: protects @fn
 * @fn: the function; NULL when it has been begun, or called off
 * @arg: its argument
 * @task: the thread, for vhost_task_stop()
 * @thread: the thread, once it is @idle and unless it was killed
 * @ended: the thread, when it has been told to end; a reference is held
 * @idle: it has nothing to do any more, and @end is queued
 * @end: ends it
 * @gone: it is on its way out, and calls nothing of ours any more
 */
struct user_worker {
	refcount_t refs;
	spinlock_t lock;
	void (*fn)(void *arg);
	void *arg;
	struct vhost_task *task;
	struct task_struct *thread;
	struct task_struct *ended;
	bool idle;
	struct delayed_work end;
	struct completion gone;
};

/*
 * Most workers that are being ended while others are made, and how often it is looked
 * whether there are fewer. One that takes its time keeps its place in the queue. A node
 * has as large a share of all places as of the CPUs; where all nodes are alike, half of
 * that is left for those that have been made already.
 */
#define WORKER_MOST		max(WQ_MAX_ACTIVE / 2 / (int)nr_node_ids, 1)
#define WORKER_LOOKS		10

static struct workqueue_struct *worker_queue;
static atomic_t worker_ending = ATOMIC_INIT(0);

static void worker_put(struct user_worker *worker)
{
	if (!refcount_dec_and_test(&worker->refs))
		return;
	if (worker->ended)
		put_task_struct(worker->ended);
	kfree(worker);
}

/* Whoever gets the function, and only he, may call it. */
static void (*worker_take(struct user_worker *worker))(void *arg)
{
	void (*fn)(void *arg);

	spin_lock(&worker->lock);
	fn = worker->fn;
	worker->fn = NULL;
	spin_unlock(&worker->lock);
	return fn;
}

/*
 * The calling worker has nothing to do any more. It may be called again; then the work
 * item that there is finds another @thread.
 */
static void worker_set_idle(struct user_worker *worker,
			    struct task_struct *thread)
{
	WRITE_ONCE(worker->thread, thread);
	if (worker->idle)
		return;
	worker->idle = true;
	queue_delayed_work(worker_queue, &worker->end, 0);
}

/*
 * One turn of the loop, which has announced that it will sleep. Returns whether it
 * should not.
 */
static bool worker_turn(void *data)
{
	struct user_worker *worker = data;
	void (*fn)(void *arg) = worker_take(worker);

	if (!fn) {
		worker_set_idle(worker, current);
		return false;
	}
	__set_current_state(TASK_RUNNING);
	fn(worker->arg);
	return true;
}

/* The process was killed: there are no more turns. */
static void worker_killed(void *data)
{
	worker_set_idle(data, NULL);
}

/* Would it have to be waited for? It may be about to take a signal, or in doing so. */
static bool worker_is_held(const struct user_worker *worker)
{
	struct task_struct *thread = READ_ONCE(worker->thread);

	return thread &&
	       (signal_pending(thread) ||
		READ_ONCE(thread->jobctl) &
		(JOBCTL_PENDING_MASK | JOBCTL_TRAP_FREEZE | JOBCTL_STOPPED |
		 JOBCTL_TRACED));
}

/*
 * Wait until a thread that ends is none of its process's any more. Some things only a
 * process with a single thread may do, unshare(CLONE_NEWUSER) for one: who has no
 * others must not be refused after an ioctl. One that is out of CPU time takes a while;
 * a debugger may keep it for longer.
 */
static void worker_see_off(const struct task_struct *thread,
			   unsigned long *patience)
{
	unsigned long most = *patience, begin = jiffies;
	unsigned int tries = 0;
	long left = most;

	while (READ_ONCE(thread->sighand) && tries < WORKER_SEE_OFF &&
	       left > 0) {
		if (tries++ < WORKER_SEE_OFF_SOON)
			usleep_range(10, 20);
		else
			usleep_range(1000, 2000);
		if (signal_pending(current))
			most = min(most, WORKER_PATIENCE);
		left = (long)(begin + most - jiffies);
	}
	*patience = max(left, 0L);
}

/* vhost_task_stop() waits until the thread is about to exit, and keeps it until then. */
static void worker_stop(struct user_worker *worker)
{
	struct task_struct *thread = READ_ONCE(worker->thread);

	if (thread)
		worker->ended = get_task_struct(thread);
	atomic_inc(&worker_ending);
	vhost_task_stop(worker->task);
	atomic_dec(&worker_ending);
}

static void worker_end(struct work_struct *work)
{
	struct user_worker *worker = container_of(to_delayed_work(work),
						  struct user_worker, end);

	if (worker_is_held(worker)) {
		queue_delayed_work(worker_queue, &worker->end, WORKER_AGAIN);
		return;
	}
	worker_stop(worker);
	complete(&worker->gone);
	worker_put(worker);
	/* user_worker_module_exit() waits for the rest of this function. */
	module_put(THIS_MODULE);
}

/* The signals that the process handles. What ends or stops it is not among them. */
static sigset_t worker_handled_signals(void)
{
	struct sighand_struct *sighand = rcu_dereference_raw(current->sighand);
	__sighandler_t handler;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	spin_lock_irq(&sighand->siglock);
	for (sig = 1; sig <= _NSIG; sig++) {
		handler = sighand->action[sig - 1].sa.sa_handler;
		if (handler != SIG_DFL && handler != SIG_IGN)
			sigaddset(&set, sig);
	}
	spin_unlock_irq(&sighand->siglock);
	return set;
}

/*
 * The kernel makes no thread for one that has a signal to handle first. It may be one
 * that is to be handled after the ioctl.
 */
static struct vhost_task *worker_make(struct user_worker *worker,
				      const char *name)
{
	sigset_t handled = worker_handled_signals(), old;
	struct vhost_task *task;

	sigprocmask(SIG_BLOCK, &handled, &old);
	task = vhost_task_create(worker_turn, worker_killed, worker, name);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return task;
}

/**
 * user_worker_possible - can the caller have workers?
 * @mm: the address space that they need, or NULL
 *
 * Not if it is another's, if the caller is about to end and so is its memory, nor if
 * the caller has a deadline, which cannot be shared, or a shadow stack, of which the
 * kernel would make one for each worker, under the mmap lock. Where they are possible,
 * there may still be none to be had.
 *
 * Context: Process context.
 * Return: Whether user_worker_new() makes sense.
 */
bool user_worker_possible(const struct mm_struct *mm)
{
	return current->mm && (!mm || mm == current->mm) &&
	       !(current->flags & (PF_EXITING | PF_KTHREAD | PF_USER_WORKER)) &&
	       !fatal_signal_pending(current) &&
	       current->policy != SCHED_DEADLINE &&
	       !compat_has_shadow_stack(current);
}

/* Most end in no time: that there are many does not mean that they take theirs. */
static bool worker_has_room(void)
{
	unsigned int i;

	for (i = 0; i < WORKER_LOOKS; i++) {
		if (atomic_read(&worker_ending) < WORKER_MOST)
			return true;
		usleep_range(100, 200);
	}
	return false;
}

/**
 * user_worker_new - make a worker, and let it begin
 * @fn: what it calls, unless that is called off before it comes to it
 * @arg: with this
 * @name: the thread's name
 *
 * Context: Process context, user_worker_possible(). May sleep. Somebody else keeps
 *    the module.
 * Return: The worker, for user_worker_call_off() and user_worker_free(); NULL if the
 *    process may have no more threads, too many do not end, or memory is short.
 */
struct user_worker *user_worker_new(void (*fn)(void *arg), void *arg,
				    const char *name)
{
	struct user_worker *worker;

	if (!worker_has_room())
		return NULL;
	worker = kzalloc(sizeof(*worker),
			 GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
	if (!worker)
		return NULL;
	refcount_set(&worker->refs, 2);
	spin_lock_init(&worker->lock);
	INIT_DELAYED_WORK(&worker->end, worker_end);
	init_completion(&worker->gone);
	worker->fn = fn;
	worker->arg = arg;
	worker->task = worker_make(worker, name);
	/* It was NULL in older kernels. */
	if (IS_ERR_OR_NULL(worker->task)) {
		kfree(worker);
		return NULL;
	}
	__module_get(THIS_MODULE);
	vhost_task_start(worker->task);
	return worker;
}

/**
 * user_worker_call_off - see that the worker does not begin any more
 * @worker: the worker
 *
 * Context: Any but interrupts.
 * Return: true if its function was not called, and will not be. Otherwise it has
 *    been begun, if not ended.
 */
bool user_worker_call_off(struct user_worker *worker)
{
	return worker_take(worker);
}

/**
 * user_worker_free - wait for a worker's end, for a moment, and forget it
 * @worker: one whose function has been called off, or has ended as far as the caller
 *          is concerned
 * @patience: in and out: how long to wait for it, in jiffies; less what it took, or
 *            what is too much
 *
 * Context: Process context. May sleep, as long as that; not for much longer when a signal
 *    has come, by which the worker may have been stopped before the caller is.
 */
void user_worker_free(struct user_worker *worker, unsigned long *patience)
{
	long left = wait_for_completion_interruptible_timeout(&worker->gone,
							      *patience);

	if (left < 0)
		left = wait_for_completion_timeout(&worker->gone,
						   min(*patience,
						       WORKER_PATIENCE));
	/* It was 0, and is 1 where nothing was to be waited for. */
	*patience = min_t(unsigned long, left, *patience);
	if (*patience && worker->ended)
		worker_see_off(worker->ended, patience);
	worker_put(worker);
}

/**
 * user_worker_module_init - at the beginning of the module
 *
 * Context: Process context. May sleep.
 * Return: 0 or -ENOMEM.
 */
int user_worker_module_init(void)
{
	worker_queue = alloc_workqueue("vfio_mt", WQ_UNBOUND, WQ_MAX_ACTIVE);
	return worker_queue ? 0 : -ENOMEM;
}

/**
 * user_worker_module_exit - at the end of the module
 *
 * Context: Process context. May sleep. No worker is left: each has a reference on
 *    the module.
 */
void user_worker_module_exit(void)
{
	destroy_workqueue(worker_queue);
}

#endif /* COMPAT_USER_WORKERS */
