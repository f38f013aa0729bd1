// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_worker.c - threads of the calling process that call a function of ours
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
 * (vhost_task_fn()), which takes signals: if the process is stopped, or its group is
 * frozen, a worker stays there until it goes on. Nobody who holds something may wait
 * for that, nor could a group ever be frozen in which somebody does. So
 *  - who needs the function no more calls it off: what has not been begun then, never
 *    will be. Only what has been begun is waited for, by means of its own;
 *  - map_worker_free() waits for a moment. A worker that has not come back until then
 *    is left to a work item, which looks again now and then, and to nobody else. It
 *    keeps a reference on the module.
 * One that is killed leaves the loop by itself, whether it has begun or not. A fatal
 * signal does not end its function: it is one to the caller, too, who knows what to do.
 *
 * What is left: a stop or freeze that hits between a worker's coming back and the
 * moment after, in which vhost_task_stop() tells it to end, holds up the caller.
 *
 * Context: process context.
 * Locking: worker->lock protects @fn. worker_lock protects the list of those that are
 *    waited for, and is taken inside nothing.
 */
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "include/compat.h"
#include "include/map_worker.h"

#ifdef COMPAT_USER_WORKERS

#include <linux/sched/vhost_task.h>

/* So often is looked for workers that had not come back. */
#define WORKER_AGAIN	(HZ / 10)

/**
 * struct map_worker - a thread that calls a function once
 * @lock: protects @fn
 * @fn: the function; NULL when it has been begun, or called off
 * @arg: its argument
 * @back: the thread has nothing to do any more: it is on the way out, or sits where
 *        vhost_task_stop() finds it at once
 * @task: the thread
 * @node: in worker_left
 */
struct map_worker {
	spinlock_t lock;
	void (*fn)(void *arg);
	void *arg;
	struct completion back;
	struct vhost_task *task;
	struct list_head node;
};

static void worker_look(struct work_struct *work);

static LIST_HEAD(worker_left);
static DEFINE_SPINLOCK(worker_lock);
static DECLARE_DELAYED_WORK(worker_work, worker_look);

/* Whoever gets the function, and only he, may call it. */
static void (*worker_take(struct map_worker *worker))(void *arg)
{
	void (*fn)(void *arg);

	spin_lock(&worker->lock);
	fn = worker->fn;
	worker->fn = NULL;
	spin_unlock(&worker->lock);
	return fn;
}

/*
 * One turn of the loop, which has announced that it will sleep. Returns whether it
 * should not.
 */
static bool worker_turn(void *data)
{
	struct map_worker *worker = data;
	void (*fn)(void *arg) = worker_take(worker);

	if (!fn) {
		complete_all(&worker->back);
		return false;
	}
	__set_current_state(TASK_RUNNING);
	fn(worker->arg);
	return true;
}

/* The process was killed: there are no more turns. */
static void worker_killed(void *data)
{
	struct map_worker *worker = data;

	complete_all(&worker->back);
}

/*
 * The kernel makes no thread for one that has a signal to handle first. It may be one
 * that is to be handled after the ioctl: only what ends or stops the process counts.
 */
static struct vhost_task *worker_make(struct map_worker *worker,
				      const char *name)
{
	struct vhost_task *task;
	sigset_t block, old;

	siginitsetinv(&block, sigmask(SIGKILL) | sigmask(SIGSTOP));
	sigprocmask(SIG_BLOCK, &block, &old);
	task = vhost_task_create(worker_turn, worker_killed, worker, name);
	sigprocmask(SIG_SETMASK, &old, NULL);
	return task;
}

/**
 * map_worker_possible - can the caller have workers?
 * @mm: the address space that they need, or NULL
 *
 * Not if it is another's, if the caller is about to end and so is its memory, nor if
 * the caller has a deadline, which cannot be shared. Where they are possible, there
 * may still be none to be had.
 *
 * Context: Process context.
 * Return: Whether map_worker_new() makes sense.
 */
bool map_worker_possible(const struct mm_struct *mm)
{
	return current->mm && (!mm || mm == current->mm) &&
	       !(current->flags & (PF_EXITING | PF_KTHREAD | PF_USER_WORKER)) &&
	       !fatal_signal_pending(current) &&
	       current->policy != SCHED_DEADLINE;
}

/**
 * map_worker_new - make a worker, and let it begin
 * @fn: what it calls, unless that is called off before it comes to it
 * @arg: with this
 * @name: the thread's name
 *
 * Context: Process context, map_worker_possible(). May sleep.
 * Return: The worker, for map_worker_call_off() and map_worker_free(); NULL if the
 *    process may have no more threads, or memory is short.
 */
struct map_worker *map_worker_new(void (*fn)(void *arg), void *arg,
				  const char *name)
{
	struct map_worker *worker;

	worker = kzalloc(sizeof(*worker),
			 GFP_KERNEL | __GFP_NORETRY | __GFP_NOWARN);
	if (!worker)
		return NULL;
	spin_lock_init(&worker->lock);
	init_completion(&worker->back);
	worker->fn = fn;
	worker->arg = arg;
	worker->task = worker_make(worker, name);
	/* It was NULL in older kernels. */
	if (IS_ERR_OR_NULL(worker->task)) {
		kfree(worker);
		return NULL;
	}
	vhost_task_start(worker->task);
	return worker;
}

/**
 * map_worker_call_off - see that the worker does not begin any more
 * @worker: the worker
 *
 * Context: Any but interrupts.
 * Return: true if its function was not called, and will not be. Otherwise it has
 *    been begun, if not ended.
 */
bool map_worker_call_off(struct map_worker *worker)
{
	return worker_take(worker);
}

/* The worker is back. */
static void worker_end(struct map_worker *worker)
{
	vhost_task_stop(worker->task);
	kfree(worker);
}

static void worker_look(struct work_struct *work)
{
	struct map_worker *worker, *next;
	LIST_HEAD(back);
	bool more;

	spin_lock(&worker_lock);
	list_for_each_entry_safe(worker, next, &worker_left, node)
		if (completion_done(&worker->back))
			list_move(&worker->node, &back);
	more = !list_empty(&worker_left);
	spin_unlock(&worker_lock);

	list_for_each_entry_safe(worker, next, &back, node) {
		worker_end(worker);
		/* map_worker_exit() waits for the rest of this function. */
		module_put(THIS_MODULE);
	}
	if (more)
		queue_delayed_work(system_wq, &worker_work, WORKER_AGAIN);
}

/**
 * map_worker_free - give a worker back
 * @worker: one whose function has been called off, or has ended as far as the caller
 *          is concerned
 * @patience: in and out: how long to wait for it, in jiffies; less what it took
 *
 * Context: Process context. May sleep, as long as that.
 */
void map_worker_free(struct map_worker *worker, unsigned long *patience)
{
	*patience = wait_for_completion_timeout(&worker->back, *patience);
	if (*patience) {
		worker_end(worker);
		return;
	}
	__module_get(THIS_MODULE);
	spin_lock(&worker_lock);
	list_add_tail(&worker->node, &worker_left);
	spin_unlock(&worker_lock);
	queue_delayed_work(system_wq, &worker_work, WORKER_AGAIN);
}

/**
 * map_worker_exit - at the end of the module
 *
 * Context: Process context. May sleep. No worker is left: each has a reference on
 *    the module.
 */
void map_worker_exit(void)
{
	flush_delayed_work(&worker_work);
}

#endif /* COMPAT_USER_WORKERS */
