// SPDX-License-Identifier: GPL-2.0-only
/*
 * user_worker_test.c - threads of the calling process
 *
 * A worker's thread is a kernel thread here, in a loop like vhost_task_fn()'s.
 * A case says what signals would do to it: keep it where the kernel takes them,
 * or kill it. Where the kernel makes no such threads, what there is instead of
 * workers is tested.
 */
#include <linux/module.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/task.h>

#include "seam.h"
#include "../include/user_worker.h"

#ifdef COMPAT_USER_WORKERS

#include <linux/sched/vhost_task.h>

/* Places for workers that are being ended: fewer than the kernel lets there be. */
#define UW_MOST		4
/* So many workers in a case. */
#define UW_TASKS	64
#define UW_NAME		"vfio_mt/4711"

/**
 * struct vhost_task - a worker's thread; drivers do not know the kernel's own
 * @fn: one turn
 * @fn_killed: called instead of further turns, if it was killed
 * @data: argument of both
 * @thread: the thread; a reference is held
 * @exit_mutex: protects @stop and @killed
 * @stop: it was told to end
 * @killed: it has ended by itself
 * @exited: it calls nothing of the unit's any more
 * @stay: it stays where signals are taken, as in a process that is stopped
 * @die: there, it learns that it was killed
 * @pending: signal_pending() of it
 * @slow: telling it to end takes until this is cleared
 * @turns: how many there were
 * @queued: how often the thread has queued its end
 * @asleep: it sleeps, having nothing to do
 * @ending: somebody tells it to end
 * @gone: it has ended, and the kernel would have forgotten it
 */
struct vhost_task {
	bool (*fn)(void *data);
	void (*fn_killed)(void *data);
	void *data;
	struct task_struct *thread;
	struct mutex exit_mutex;
	bool stop;
	bool killed;
	struct completion exited;
	bool stay;
	bool die;
	bool pending;
	bool slow;
	unsigned int turns;
	unsigned int queued;
	bool asleep;
	bool ending;
	bool gone;
};

/**
 * struct uw - what is around the workers of a case
 * @tasks: the threads that were made
 * @nr: how many
 * @creates: how many were asked for
 * @stay: new ones stay where signals are taken, and do not begin
 * @one_cpu: they run on the first CPU
 * @fails: none is made
 * @failure: but this is returned
 * @blocked: the signals that were blocked when the last one was asked for
 * @looks: how often the unit asked whether one has a signal to take
 * @linger: threads that have ended are there until the unit has looked so often
 * @naps: how often it did
 * @slow_naps: which takes a millisecond each time
 * @signalled: the caller has a signal to take
 * @shadow_stack: the caller has one
 * @memory: how many workers were allocated, less those freed
 * @modules: how many references on the module there are
 * @hold_put: putting one takes until this is cleared
 * @no_queue: there is no memory for a workqueue
 * @has_queue: user_worker_module_init() has succeeded
 * @current_task: who "current" is, if not who it is
 * @hold: functions do not return
 */
static struct uw {
	struct vhost_task *tasks[UW_TASKS];
	unsigned int nr;
	unsigned int creates;
	bool stay;
	bool one_cpu;
	bool fails;
	struct vhost_task *failure;
	sigset_t blocked;
	atomic_t looks;
	unsigned int linger;
	unsigned int naps;
	bool slow_naps;
	bool signalled;
	bool shadow_stack;
	atomic_t memory;
	atomic_t modules;
	bool hold_put;
	bool no_queue;
	bool has_queue;
	struct task_struct *current_task;
	bool hold;
} uw;

/* get_signal() returns when the process goes on; true if it was killed. */
static bool uw_get_signal(struct vhost_task *task)
{
	fake_wait_until(!READ_ONCE(task->stay) || READ_ONCE(task->die));
	return READ_ONCE(task->die);
}

static int uw_thread(void *data)
{
	struct vhost_task *task = data;

	for (;;) {
		if (uw_get_signal(task))
			break;
		set_current_state(TASK_INTERRUPTIBLE);
		if (READ_ONCE(task->stop)) {
			__set_current_state(TASK_RUNNING);
			break;
		}
		WRITE_ONCE(task->turns, task->turns + 1);
		if (!task->fn(task->data)) {
			WRITE_ONCE(task->asleep, true);
			schedule();
			WRITE_ONCE(task->asleep, false);
		}
	}
	mutex_lock(&task->exit_mutex);
	if (!task->stop) {
		task->killed = true;
		task->fn_killed(task->data);
	}
	mutex_unlock(&task->exit_mutex);
	complete_all(&task->exited);
	fake_wait_until(READ_ONCE(uw.naps) >= uw.linger);
	return 0;
}

static struct vhost_task *uw_task_create(bool (*fn)(void *data),
					 void (*fn_killed)(void *data),
					 void *data, const char *name)
{
	struct vhost_task *task;

	uw.creates++;
	uw.blocked = get_current()->blocked;
	if (uw.fails)
		return uw.failure;
	/* As copy_process() does. */
	if (signal_pending(get_current()))
		return ERR_PTR(-ERESTARTNOINTR);
	task = kunit_kzalloc(fake->test, sizeof(*task), GFP_KERNEL);
	if (!task || uw.nr == UW_TASKS) {
		fake_complain("no worker can be made");
		return NULL;
	}
	task->fn = fn;
	task->fn_killed = fn_killed;
	task->data = data;
	task->stay = uw.stay;
	mutex_init(&task->exit_mutex);
	init_completion(&task->exited);
	task->thread = kthread_create(uw_thread, task, "%s", name);
	if (IS_ERR(task->thread)) {
		fake_complain("no thread can be made");
		return NULL;
	}
	get_task_struct(task->thread);
	if (uw.one_cpu)
		kthread_bind(task->thread, 0);
	uw.tasks[uw.nr++] = task;
	return task;
}

static void uw_task_start(struct vhost_task *task)
{
	/* From now on, it can end. */
	if (atomic_read(&uw.modules) <= 0)
		fake_complain("a worker begins that does not keep the module");
	wake_up_process(task->thread);
}

static bool uw_is_held(const struct vhost_task *task)
{
	return READ_ONCE(task->pending) || READ_ONCE(task->stay);
}

static void uw_task_stop(struct vhost_task *task)
{
	if (task->ending)
		fake_complain("a worker is ended twice");
	if (uw_is_held(task) && !READ_ONCE(task->die))
		fake_complain("a worker is waited for that is held up");
	WRITE_ONCE(task->ending, true);
	fake_wait_until(!READ_ONCE(task->slow));
	mutex_lock(&task->exit_mutex);
	if (!task->killed) {
		WRITE_ONCE(task->stop, true);
		wake_up_process(task->thread);
	}
	mutex_unlock(&task->exit_mutex);
	wait_for_completion(&task->exited);
	WRITE_ONCE(task->gone, true);
}

static bool uw_signal_pending(struct task_struct *thread)
{
	bool pending = false;
	unsigned int i;

	if (thread == get_current())
		return uw.signalled;
	for (i = 0; i < uw.nr; i++)
		if (uw.tasks[i]->thread == thread)
			pending = READ_ONCE(uw.tasks[i]->pending);
	atomic_inc(&uw.looks);
	return pending;
}

static void *uw_kzalloc(size_t size, gfp_t gfp)
{
	void *memory = kzalloc(size, gfp);

	if (memory)
		atomic_inc(&uw.memory);
	return memory;
}

static void uw_kfree(const void *memory)
{
	atomic_dec(&uw.memory);
	kfree(memory);
}

static void uw_module_get(void)
{
	atomic_inc(&uw.modules);
}

static void uw_module_put(void)
{
	fake_wait_until(!READ_ONCE(uw.hold_put));
	atomic_dec(&uw.modules);
}

static struct workqueue_struct *uw_alloc_workqueue(const char *name,
						   unsigned int flags, int max)
{
	return uw.no_queue ? NULL : alloc_workqueue("%s", flags, max, name);
}

static struct task_struct *uw_current(void)
{
	return uw.current_task ? : get_current();
}

/* Its thread does this once, when it has nothing to do any more. */
static bool uw_queue(struct workqueue_struct *queue, struct delayed_work *work,
		     unsigned long delay)
{
	unsigned int i;

	for (i = 0; i < uw.nr; i++)
		if (uw.tasks[i]->thread == get_current() &&
		    uw.tasks[i]->queued++) {
			fake_complain("the end of a worker is queued twice");
			return false;
		}
	return queue_delayed_work(queue, work, delay);
}

/* The unit waits for a thread to be none of the process any more. */
static void uw_nap(void)
{
	WRITE_ONCE(uw.naps, uw.naps + 1);
	if (uw.slow_naps)
		usleep_range(1000, 1100);
	else
		usleep_range(10, 20);
}

#undef current
#define current				uw_current()
#define usleep_range(least, most)	uw_nap()
#undef compat_has_shadow_stack
#define compat_has_shadow_stack(task)	uw.shadow_stack
#define vhost_task_create		uw_task_create
#define vhost_task_start		uw_task_start
#define vhost_task_stop			uw_task_stop
#define signal_pending(task)		uw_signal_pending(task)
#undef kzalloc
#define kzalloc(size, gfp)		uw_kzalloc(size, gfp)
#define kfree(memory)			uw_kfree(memory)
#undef __module_get
#define __module_get(module)		uw_module_get()
#undef module_put
#define module_put(module)		uw_module_put()
#undef alloc_workqueue
#define alloc_workqueue(name, flags, max) \
	uw_alloc_workqueue(name, flags, max)
#define queue_delayed_work(queue, work, delay) \
	uw_queue(queue, work, delay)
#define WQ_MAX_ACTIVE			UW_MOST
#undef nr_node_ids
#define nr_node_ids			1
#include "../user_worker.c"
#undef current
#define current get_current()
#undef signal_pending
#undef usleep_range
#undef kfree

/**
 * struct uw_call - what a worker's function notes
 * @calls: how often it was called
 * @state: the thread's state in it
 * @name: the thread's name
 * @left: it has returned
 */
struct uw_call {
	atomic_t calls;
	unsigned int state;
	char name[TASK_COMM_LEN];
	bool left;
};

static void uw_fn(void *arg)
{
	struct uw_call *call = arg;

	call->state = READ_ONCE(get_current()->__state);
	strscpy(call->name, get_current()->comm, sizeof(call->name));
	atomic_inc(&call->calls);
	fake_wait_until(!READ_ONCE(uw.hold));
	WRITE_ONCE(call->left, true);
}

/* Not on the stack: a case that fails ends before its workers do. */
static struct uw_call *uw_call_make(struct kunit *test)
{
	struct uw_call *call = kunit_kzalloc(test, sizeof(*call), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, call);
	return call;
}

static struct user_worker *uw_new(struct kunit *test, struct uw_call *call)
{
	struct user_worker *worker = user_worker_new(uw_fn, call, UW_NAME);

	KUNIT_ASSERT_NOT_NULL(test, worker);
	return worker;
}

static void uw_expect_none(struct kunit *test)
{
	struct uw_call *call = uw_call_make(test);

	KUNIT_EXPECT_NULL(test, user_worker_new(uw_fn, call, UW_NAME));
}

#define uw_expect_until(test, condition) \
	KUNIT_EXPECT_TRUE(test, fake_wait_until(condition))

/* The thread of the worker that was made last. */
static struct vhost_task *uw_last(void)
{
	return uw.tasks[uw.nr - 1];
}

static void uw_expect_begun(struct kunit *test, struct uw_call *call)
{
	uw_expect_until(test, atomic_read(&call->calls));
}

static void uw_expect_asleep(struct kunit *test, struct vhost_task *task,
			     unsigned int turns)
{
	uw_expect_until(test, READ_ONCE(task->gone) ||
			(READ_ONCE(task->turns) >= turns &&
			 READ_ONCE(task->asleep)));
	KUNIT_EXPECT_FALSE(test, READ_ONCE(task->gone));
	KUNIT_EXPECT_EQ(test, turns, READ_ONCE(task->turns));
}

/* It is looked at so often, and again. */
static void uw_expect_looks(struct kunit *test, struct vhost_task *task, int nr)
{
	int before = atomic_read(&uw.looks);

	uw_expect_until(test, READ_ONCE(task->gone) ||
			atomic_read(&uw.looks) - before >= nr);
	KUNIT_EXPECT_FALSE(test, READ_ONCE(task->gone));
}

static void uw_expect_gone(struct kunit *test, struct vhost_task *task,
			   struct user_worker *worker)
{
	unsigned long patience = 0;

	if (fake_wait_until(READ_ONCE(task->gone)))
		patience = READ_ONCE(fake_patience);
	user_worker_free(worker, &patience);
	KUNIT_EXPECT_GT(test, patience, 0UL);
	if (!patience) {
		WRITE_ONCE(fake->in_vain, true);
		WRITE_ONCE(fake_patience, FAKE_WAIT_LESS);
	}
}

/* ---- the function ---- */

static void uw_calls_once(struct kunit *test)
{
	struct uw_call *call = uw_call_make(test);
	struct user_worker *worker = uw_new(test, call);
	struct vhost_task *task = uw_last();

	uw_expect_begun(test, call);
	uw_expect_until(test, READ_ONCE(task->gone));
	KUNIT_EXPECT_FALSE(test, user_worker_call_off(worker));
	uw_expect_gone(test, task, worker);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&worker_ending));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&call->calls));
	KUNIT_EXPECT_TRUE(test, call->left);
	KUNIT_EXPECT_EQ(test, (unsigned int)TASK_RUNNING, call->state);
	KUNIT_EXPECT_STREQ(test, UW_NAME, (const char *)call->name);
}

/* A turn that finds nothing to do lets the thread sleep; there may be more. */
static void uw_turns_again(struct kunit *test)
{
	struct uw_call *call = uw_call_make(test);
	struct user_worker *worker;
	struct vhost_task *task;
	unsigned int turns;

	uw.hold = true;
	worker = uw_new(test, call);
	task = uw_last();
	uw_expect_begun(test, call);
	/* So that its end does not come in between. */
	WRITE_ONCE(task->pending, true);
	WRITE_ONCE(uw.hold, false);
	for (turns = 2; turns < 6; turns++) {
		uw_expect_asleep(test, task, turns);
		wake_up_process(task->thread);
	}
	uw_expect_asleep(test, task, turns);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&call->calls));
	WRITE_ONCE(task->pending, false);
	uw_expect_gone(test, task, worker);
}

/* ---- calling off ---- */

static void uw_called_off(struct kunit *test)
{
	struct uw_call *call = uw_call_make(test);
	struct user_worker *worker;
	struct vhost_task *task;

	uw.stay = true;
	worker = uw_new(test, call);
	task = uw_last();
	KUNIT_EXPECT_TRUE(test, user_worker_call_off(worker));
	/* It has been called off already: the next one has not done it. */
	KUNIT_EXPECT_FALSE(test, user_worker_call_off(worker));
	WRITE_ONCE(task->stay, false);
	uw_expect_gone(test, task, worker);
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&call->calls));
	KUNIT_EXPECT_EQ(test, 1U, task->turns);
}

static void uw_called_off_too_late(struct kunit *test)
{
	struct uw_call *call = uw_call_make(test);
	struct user_worker *worker;
	unsigned long patience = 0;

	uw.hold = true;
	worker = uw_new(test, call);
	uw_expect_begun(test, call);
	KUNIT_EXPECT_FALSE(test, user_worker_call_off(worker));
	/* Whoever made it may go; the worker knows what it needs. */
	user_worker_free(worker, &patience);
	KUNIT_EXPECT_EQ(test, 0UL, patience);
	KUNIT_EXPECT_FALSE(test, READ_ONCE(call->left));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&uw.memory));
	WRITE_ONCE(uw.hold, false);
	uw_expect_until(test, !atomic_read(&uw.memory));
	KUNIT_EXPECT_TRUE(test, READ_ONCE(uw_last()->gone));
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&call->calls));
}

/* Whoever comes first: one of both. */
static void uw_called_off_or_not(struct kunit *test)
{
	struct user_worker *worker;
	struct uw_call *call;
	unsigned int i;
	bool off;

	for (i = 0; i < UW_TASKS && !READ_ONCE(fake->in_vain); i++) {
		call = uw_call_make(test);
		worker = uw_new(test, call);
		if (i % 2)
			udelay(i);
		off = user_worker_call_off(worker);
		uw_expect_gone(test, uw_last(), worker);
		KUNIT_ASSERT_EQ(test, 1, off + atomic_read(&call->calls));
	}
}

/* ---- workers that are held up ---- */

static const struct held_case {
	const char *desc;
	bool pending;
	unsigned long jobctl;
	bool held;
} helds[] = {
	{ "not at all", false, 0, false },
	{ "a signal", true, 0, true },
	{ "about to stop", false, JOBCTL_STOP_PENDING, true },
	{ "about to stop for a tracer", false, JOBCTL_TRAP_STOP, true },
	{ "about to tell a tracer", false, JOBCTL_TRAP_NOTIFY, true },
	{ "frozen", false, JOBCTL_TRAP_FREEZE, true },
	{ "stopped", false, JOBCTL_STOPPED, true },
	{ "traced", false, JOBCTL_TRACED, true },
	{ "a signal, stopped, traced", true, JOBCTL_STOPPED | JOBCTL_TRACED,
	  true },
	/* What is left when it goes on. */
	{ "was stopped", false, JOBCTL_STOP_DEQUEUED | SIGSTOP, false },
	{ "was seized", false, JOBCTL_LISTENING, false },
};

static void held_desc(const struct held_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(held, helds, held_desc);

/* While something holds it up, it is looked for again, and not waited for. */
static void uw_held(struct kunit *test)
{
	const struct held_case *c = test->param_value;
	struct uw_call *call = uw_call_make(test);
	struct user_worker *worker;
	struct vhost_task *task;

	uw.hold = true;
	worker = uw_new(test, call);
	task = uw_last();
	uw_expect_begun(test, call);
	WRITE_ONCE(task->pending, c->pending);
	WRITE_ONCE(task->thread->jobctl, c->jobctl);
	WRITE_ONCE(uw.hold, false);
	if (c->held) {
		uw_expect_asleep(test, task, 2);
		uw_expect_looks(test, task, 3);
		KUNIT_EXPECT_FALSE(test, READ_ONCE(task->ending));
		KUNIT_EXPECT_EQ(test, 0, atomic_read(&worker_ending));
		WRITE_ONCE(task->pending, false);
		WRITE_ONCE(task->thread->jobctl, 0);
	}
	uw_expect_gone(test, task, worker);
}

/* ---- workers that are killed ---- */

enum kill_when {
	KILL_BEFORE,		/* it begins */
	KILL_CALLED_OFF,	/* it begins, but after that */
	KILL_WITHIN,		/* its function */
	KILL_HELD,		/* it is idle, and held up by something */
	KILL_ENDING,		/* it is idle, and about to be ended */
};

static const struct kill_case {
	const char *desc;
	enum kill_when when;
} kills[] = {
	{ "before it begins", KILL_BEFORE },
	{ "called off before", KILL_CALLED_OFF },
	{ "in its function", KILL_WITHIN },
	{ "held up", KILL_HELD },
	{ "about to be ended", KILL_ENDING },
};

static void kill_desc(const struct kill_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(kill, kills, kill_desc);

static void uw_kill(struct vhost_task *task)
{
	WRITE_ONCE(task->die, true);
	wake_up_process(task->thread);
}

/* It ends by itself, once; what it has not begun can be called off still. */
static void uw_killed(struct kunit *test)
{
	const struct kill_case *c = test->param_value;
	bool begins = c->when >= KILL_WITHIN;
	struct uw_call *call = uw_call_make(test);
	struct user_worker *worker;
	struct vhost_task *task;

	uw.stay = !begins;
	uw.hold = true;
	worker = uw_new(test, call);
	task = uw_last();
	if (c->when == KILL_CALLED_OFF)
		KUNIT_EXPECT_TRUE(test, user_worker_call_off(worker));
	if (begins)
		uw_expect_begun(test, call);
	WRITE_ONCE(task->pending, c->when == KILL_HELD);
	WRITE_ONCE(task->slow, c->when == KILL_ENDING);
	if (c->when > KILL_WITHIN) {
		WRITE_ONCE(uw.hold, false);
		uw_expect_asleep(test, task, 2);
	}
	if (c->when == KILL_HELD)
		uw_expect_looks(test, task, 2);
	if (c->when == KILL_ENDING)
		uw_expect_until(test, READ_ONCE(task->ending));
	uw_kill(task);
	if (c->when == KILL_WITHIN)
		KUNIT_EXPECT_FALSE(test, READ_ONCE(call->left));
	WRITE_ONCE(uw.hold, false);
	uw_expect_until(test, completion_done(&task->exited));
	WRITE_ONCE(task->slow, false);
	uw_expect_until(test, READ_ONCE(task->gone));
	KUNIT_EXPECT_TRUE(test, task->killed);
	KUNIT_EXPECT_EQ(test, c->when == KILL_BEFORE,
			user_worker_call_off(worker));
	KUNIT_EXPECT_EQ(test, begins, atomic_read(&call->calls));
	KUNIT_EXPECT_EQ(test, begins, call->left);
	uw_expect_gone(test, task, worker);
}

/* ---- waiting for the end ---- */

/**
 * struct uw_wait - a thread that waits for something of the unit's
 * @thread: the thread
 * @worker: for the end of this one; NULL: for the end of the module
 * @patience: so long at most
 * @begun: it does
 * @done: it does no more
 * @modules: so many references on the module there were then
 */
struct uw_wait {
	struct fake_thread thread;
	struct user_worker *worker;
	unsigned long patience;
	bool begun;
	bool done;
	int modules;
};

static void uw_wait_fn(void *arg)
{
	struct uw_wait *wait = arg;

	WRITE_ONCE(wait->begun, true);
	if (wait->worker)
		user_worker_free(wait->worker, &wait->patience);
	else
		user_worker_module_exit();
	wait->modules = atomic_read(&uw.modules);
	WRITE_ONCE(wait->done, true);
}

static struct uw_wait *uw_wait_begin(struct kunit *test,
				     struct user_worker *worker)
{
	struct uw_wait *wait = kunit_kzalloc(test, sizeof(*wait), GFP_KERNEL);
	unsigned int *state;

	KUNIT_ASSERT_NOT_NULL(test, wait);
	wait->worker = worker;
	wait->patience = READ_ONCE(fake_patience);
	fake_thread_start(&wait->thread, uw_wait_fn, wait);
	state = &wait->thread.task->__state;
	uw_expect_until(test, READ_ONCE(wait->done) ||
			(READ_ONCE(wait->begun) &&
			 READ_ONCE(*state) & TASK_NORMAL));
	KUNIT_EXPECT_FALSE(test, READ_ONCE(wait->done));
	return wait;
}

static void uw_free_waits(struct kunit *test)
{
	struct user_worker *worker;
	struct vhost_task *task;
	struct uw_wait *wait;

	uw.stay = true;
	worker = uw_new(test, uw_call_make(test));
	task = uw_last();
	KUNIT_EXPECT_TRUE(test, user_worker_call_off(worker));
	wait = uw_wait_begin(test, worker);
	WRITE_ONCE(task->stay, false);
	fake_thread_join(&wait->thread);
	KUNIT_EXPECT_TRUE(test, READ_ONCE(task->gone));
	KUNIT_EXPECT_GT(test, wait->patience, 0UL);
	KUNIT_EXPECT_LE(test, wait->patience, READ_ONCE(fake_patience));
}

/* One whose process does not go on is left alone when patience ends. */
static void uw_free_gives_up(struct kunit *test)
{
	struct user_worker *worker;
	struct vhost_task *task;
	unsigned long patience = 1;

	uw.stay = true;
	worker = uw_new(test, uw_call_make(test));
	task = uw_last();
	KUNIT_EXPECT_TRUE(test, user_worker_call_off(worker));
	user_worker_free(worker, &patience);
	KUNIT_EXPECT_EQ(test, 0UL, patience);
	KUNIT_EXPECT_FALSE(test, READ_ONCE(task->ending));
	WRITE_ONCE(task->stay, false);
	uw_expect_until(test, !atomic_read(&uw.memory));
	KUNIT_EXPECT_TRUE(test, READ_ONCE(task->gone));
}

/* A caller that has a signal to take may have to stop, and the worker already has. */
static void uw_free_with_signal(struct kunit *test)
{
	unsigned long patience = FAKE_WAIT, begin = jiffies;
	struct user_worker *worker;
	struct vhost_task *task;

	uw.stay = true;
	worker = uw_new(test, uw_call_make(test));
	task = uw_last();
	KUNIT_EXPECT_TRUE(test, user_worker_call_off(worker));
	allow_signal(SIGKILL);
	send_sig(SIGKILL, get_current(), 1);
	user_worker_free(worker, &patience);
	flush_signals(get_current());
	disallow_signal(SIGKILL);
	KUNIT_EXPECT_EQ(test, 0UL, patience);
	KUNIT_EXPECT_LT(test, jiffies - begin, FAKE_WAIT / 2);
	WRITE_ONCE(task->stay, false);
	uw_expect_until(test, !atomic_read(&uw.memory));
}

/* One that is gone is no thread any more. */
static void uw_gone(struct kunit *test)
{
	struct user_worker *worker;
	struct vhost_task *task;

	uw.linger = 3;
	worker = uw_new(test, uw_call_make(test));
	task = uw_last();
	uw_expect_gone(test, task, worker);
	KUNIT_EXPECT_GE(test, uw.naps, 3U);
	KUNIT_EXPECT_NULL(test, READ_ONCE(task->thread->sighand));
}

/* But for one that somebody keeps: until then, or as long as there is patience. */
static void uw_gone_though_kept(struct kunit *test)
{
	struct user_worker *worker;

	uw.linger = WORKER_SEE_OFF + 1;
	worker = uw_new(test, uw_call_make(test));
	uw_expect_gone(test, uw_last(), worker);
	KUNIT_EXPECT_EQ(test, (unsigned int)WORKER_SEE_OFF, uw.naps);
	WRITE_ONCE(uw.linger, 0);
}

static void uw_expect_kept_less(struct kunit *test, unsigned long patience)
{
	struct user_worker *worker;

	uw.linger = UINT_MAX;
	uw.slow_naps = true;
	worker = uw_new(test, uw_call_make(test));
	uw_expect_until(test, completion_done(&worker->gone));
	user_worker_free(worker, &patience);
	KUNIT_EXPECT_EQ(test, 0UL, patience);
	KUNIT_EXPECT_GT(test, uw.naps, 0U);
	KUNIT_EXPECT_LT(test, uw.naps, (unsigned int)WORKER_SEE_OFF);
	WRITE_ONCE(uw.linger, 0);
}

static void uw_gone_though_kept_for_long(struct kunit *test)
{
	uw_expect_kept_less(test, 1);
}

/* The caller's own stop or end must not be kept waiting either. */
static void uw_gone_though_kept_with_signal(struct kunit *test)
{
	uw.signalled = true;
	uw_expect_kept_less(test, FAKE_WAIT);
}

/* One that is gone costs no patience. */
static void uw_free_gone(struct kunit *test)
{
	struct user_worker *worker = uw_new(test, uw_call_make(test));
	unsigned long patience = 12345;

	uw_expect_until(test, completion_done(&worker->gone));
	uw_expect_until(test, !READ_ONCE(uw_last()->thread->sighand));
	user_worker_free(worker, &patience);
	KUNIT_EXPECT_EQ(test, 12345UL, patience);
	KUNIT_EXPECT_EQ(test, 0U, uw.naps);
}

/* ---- how many ---- */

static void uw_fill(struct kunit *test, struct user_worker **workers)
{
	unsigned int i;

	uw.stay = true;
	for (i = 0; i < UW_MOST; i++) {
		workers[i] = uw_new(test, uw_call_make(test));
		KUNIT_EXPECT_TRUE(test, user_worker_call_off(workers[i]));
	}
}

/* @tasks and @workers are those of one uw_fill(). */
static void uw_drain(struct kunit *test, struct vhost_task **tasks,
		     struct user_worker **workers)
{
	unsigned int i;

	for (i = 0; i < UW_MOST; i++) {
		WRITE_ONCE(tasks[i]->stay, false);
		uw_expect_gone(test, tasks[i], workers[i]);
	}
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&worker_ending));
}

/* The end of the worker that was made at @i takes its time from now on. */
static void uw_end_slowly(struct kunit *test, unsigned int i)
{
	WRITE_ONCE(uw.tasks[i]->slow, true);
	WRITE_ONCE(uw.tasks[i]->stay, false);
	uw_expect_until(test, READ_ONCE(uw.tasks[i]->ending));
}

/* Those that the process keeps from ending are no burden to others. */
static void uw_many_held(struct kunit *test)
{
	struct user_worker *workers[2 * UW_MOST];

	uw_fill(test, workers);
	uw_fill(test, workers + UW_MOST);
	uw_drain(test, uw.tasks + UW_MOST, workers + UW_MOST);
	uw_drain(test, uw.tasks, workers);
}

/* Where many take their time to end, no more are made, until one has. */
static void uw_most(struct kunit *test)
{
	struct user_worker *workers[UW_MOST], *another;
	unsigned int i;

	uw_fill(test, workers);
	for (i = 0; i < UW_MOST / 2 - 1; i++)
		uw_end_slowly(test, i);
	another = uw_new(test, uw_call_make(test));
	KUNIT_EXPECT_TRUE(test, user_worker_call_off(another));
	uw_end_slowly(test, i);
	for (i = 0; i < 3; i++)
		uw_expect_none(test);
	KUNIT_EXPECT_EQ(test, UW_MOST + 1U, uw.creates);
	KUNIT_EXPECT_EQ(test, UW_MOST + 1, atomic_read(&uw.memory));
	KUNIT_EXPECT_EQ(test, UW_MOST + 1, atomic_read(&uw.modules));

	WRITE_ONCE(uw.tasks[0]->slow, false);
	uw_expect_until(test, READ_ONCE(uw.tasks[0]->gone));
	uw_expect_until(test, atomic_read(&worker_ending) < UW_MOST / 2);
	user_worker_free(another, &(unsigned long){ 0 });
	another = uw_new(test, uw_call_make(test));
	KUNIT_EXPECT_TRUE(test, user_worker_call_off(another));
	user_worker_free(another, &(unsigned long){ 0 });
	for (i = 0; i < uw.nr; i++) {
		WRITE_ONCE(uw.tasks[i]->slow, false);
		WRITE_ONCE(uw.tasks[i]->stay, false);
	}
	for (i = 0; i < UW_MOST; i++)
		uw_expect_gone(test, uw.tasks[i], workers[i]);
}

static const struct fail_case {
	const char *desc;
	bool memory;
	long error;
} fails[] = {
	{ "no memory", true, 0 },
	{ "no thread", false, -EAGAIN },
	{ "no thread: a signal", false, -ERESTARTNOINTR },
	{ "no thread, as it was told once", false, 0 },
};

static void fail_desc(const struct fail_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(fail, fails, fail_desc);

/* What was not made is not counted, and keeps nothing. */
static void uw_fails(struct kunit *test)
{
	const struct fail_case *c = test->param_value;
	struct user_worker *workers[UW_MOST];
	unsigned int i;

	uw.fails = true;
	uw.failure = ERR_PTR(c->error);
	for (i = 0; i < 2 * UW_MOST; i++) {
		if (c->memory)
			atomic_set(&fake->alloc_fail, 0);
		uw_expect_none(test);
		KUNIT_EXPECT_EQ(test, c->memory ? 0 : i + 1, uw.creates);
	}
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&uw.memory));
	KUNIT_EXPECT_EQ(test, 0, atomic_read(&uw.modules));
	uw.fails = false;
	uw_fill(test, workers);
	uw_drain(test, uw.tasks, workers);
}

/* Those that take their time to end, on one CPU, keep no other from it. */
static void uw_slow_ends(struct kunit *test)
{
	struct user_worker *workers[UW_MOST];
	unsigned int i, last = UW_MOST - 1;

	uw.one_cpu = true;
	uw_fill(test, workers);
	for (i = 0; i < last; i++)
		uw_end_slowly(test, i);
	WRITE_ONCE(uw.tasks[last]->stay, false);
	uw_expect_until(test, READ_ONCE(uw.tasks[last]->gone));
	for (i = 0; i < last; i++) {
		KUNIT_EXPECT_FALSE(test, READ_ONCE(uw.tasks[i]->gone));
		WRITE_ONCE(uw.tasks[i]->slow, false);
	}
	uw_drain(test, uw.tasks, workers);
}

/* ---- the caller's signals ---- */

/* Nobody calls it: kernel threads do not handle signals this way. */
#define UW_HANDLER	((__force __sighandler_t)0x1000UL)

static const struct signal_case {
	const char *desc;
	int sig;
	int how;		/* 0: default, 1: ignored, 2: handled */
	bool blocked;		/* by the caller */
	bool pending;
	bool made;
} signals[] = {
	{ "default", SIGUSR1, 0, false, false, true },
	{ "default, blocked", SIGUSR1, 0, true, false, true },
	{ "ignored", SIGUSR1, 1, false, false, true },
	{ "handled", SIGUSR1, 2, false, false, true },
	{ "handled, blocked", SIGUSR1, 2, true, false, true },
	{ "the first handled", 1, 2, false, false, true },
	{ "the last handled", _NSIG, 2, false, false, true },
	{ "handled, pending", SIGUSR1, 2, false, true, true },
	{ "the first pending", 1, 2, false, true, true },
	{ "the last pending", _NSIG, 2, false, true, true },
	/* What stops the process does so before it has another thread. */
	{ "about to stop", SIGTSTP, 0, false, true, false },
};

static void signal_desc(const struct signal_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(signal, signals, signal_desc);

static const __sighandler_t uw_handlers[] = { SIG_DFL, SIG_IGN, UW_HANDLER };

/* What the process handles is blocked while a thread is made, and not lost. */
static void uw_signals(struct kunit *test)
{
	const struct signal_case *c = test->param_value;
	struct uw_call *call = uw_call_make(test);
	struct k_sigaction *action = get_current()->sighand->action;
	__sighandler_t handler = action[c->sig - 1].sa.sa_handler;
	sigset_t before, all, one;
	struct user_worker *worker;

	action[c->sig - 1].sa.sa_handler = uw_handlers[c->how];
	/* Another one, in either state. */
	siginitset(&before, sigmask(SIGUSR2));
	siginitset(&one, 0);
	sigaddset(&one, c->sig);
	if (c->blocked)
		sigorsets(&before, &before, &one);
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (c->pending)
		send_sig(c->sig, get_current(), 1);

	worker = user_worker_new(uw_fn, call, UW_NAME);
	KUNIT_EXPECT_EQ(test, c->made, !!worker);
	all = before;
	if (c->how == 2)
		sigorsets(&all, &all, &one);
	KUNIT_EXPECT_TRUE(test, sigequalsets(&uw.blocked, &all));
	KUNIT_EXPECT_TRUE(test, sigequalsets(&get_current()->blocked, &before));
	KUNIT_EXPECT_EQ(test, c->pending, signal_pending(get_current()));

	flush_signals(get_current());
	siginitset(&all, 0);
	sigprocmask(SIG_SETMASK, &all, NULL);
	action[c->sig - 1].sa.sa_handler = handler;
	if (worker)
		uw_expect_gone(test, uw_last(), worker);
	KUNIT_EXPECT_EQ(test, c->made, atomic_read(&call->calls));
}

/* ---- whether there can be any ---- */

static const struct possible_case {
	const char *desc;
	bool no_mm;		/* the caller has no memory */
	int mm;			/* 0: none, 1: its own, 2: another's */
	unsigned int flags;
	unsigned int policy;
	bool killed;
	bool possible;
	bool shadow_stack;
} possibles[] = {
	{ "no memory needed", .possible = true },
	{ "the caller's memory", .mm = 1, .possible = true },
	{ "another's memory", .mm = 2 },
	{ "a caller without memory", .no_mm = true },
	{ "a caller without memory, another's", .no_mm = true, .mm = 2 },
	{ "ending", .flags = PF_EXITING },
	{ "ending, its memory", .mm = 1, .flags = PF_EXITING },
	{ "a kernel thread", .mm = 1, .flags = PF_KTHREAD },
	{ "a worker", .mm = 1, .flags = PF_USER_WORKER },
	{ "other flags", .mm = 1, .flags = PF_SUPERPRIV | PF_RANDOMIZE,
	  .possible = true },
	{ "killed", .mm = 1, .killed = true },
	{ "with a deadline", .mm = 1, .policy = SCHED_DEADLINE },
	{ "first in, first out", .mm = 1, .policy = SCHED_FIFO,
	  .possible = true },
	{ "in turn", .mm = 1, .policy = SCHED_RR, .possible = true },
	{ "idle", .mm = 1, .policy = SCHED_IDLE, .possible = true },
	{ "with a shadow stack", .mm = 1, .shadow_stack = true },
};

static void possible_desc(const struct possible_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(possible, possibles, possible_desc);

static void uw_possible(struct kunit *test)
{
	const struct possible_case *c = test->param_value;
	/* Addresses are compared, and no more. */
	struct mm_struct *mms[] = { NULL, fake->mm.mm, fake->mm.mm + 1 };
	struct task_struct *task = kunit_kzalloc(test, sizeof(*task),
						 GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, task);
	task->mm = c->no_mm ? NULL : mms[1];
	task->flags = c->flags;
	uw.shadow_stack = c->shadow_stack;
	task->policy = c->policy;
	if (c->killed) {
		sigaddset(&task->pending.signal, SIGKILL);
		set_tsk_thread_flag(task, TIF_SIGPENDING);
	}
	uw.current_task = task;
	KUNIT_EXPECT_EQ(test, c->possible, user_worker_possible(mms[c->mm]));
	uw.current_task = NULL;
}

/* ---- the module ---- */

static void uw_no_queue(struct kunit *test)
{
	user_worker_module_exit();
	uw.has_queue = false;
	uw.no_queue = true;
	KUNIT_EXPECT_EQ(test, -ENOMEM, user_worker_module_init());
}

/* Who has put the last reference is not gone yet. */
static void uw_exit_waits(struct kunit *test)
{
	struct user_worker *worker;
	struct uw_wait *wait;

	uw.hold_put = true;
	worker = uw_new(test, uw_call_make(test));
	uw_expect_gone(test, uw_last(), worker);
	wait = uw_wait_begin(test, NULL);
	uw.has_queue = false;
	WRITE_ONCE(uw.hold_put, false);
	fake_thread_join(&wait->thread);
	KUNIT_EXPECT_EQ(test, 0, wait->modules);
}

static bool uw_all_gone(void)
{
	unsigned int i;

	for (i = 0; i < uw.nr; i++)
		if (!READ_ONCE(uw.tasks[i]->gone))
			return false;
	/* Otherwise the end of the module waits for the last of it. */
	return uw.has_queue || !atomic_read(&uw.modules);
}

static int uw_init(struct kunit *test)
{
	int ret;

	memset(&uw, 0, sizeof(uw));
	ret = fake_init(test);
	if (!ret)
		ret = user_worker_module_init();
	uw.has_queue = !ret;
	return ret;
}

static void uw_let_go(struct vhost_task *task)
{
	WRITE_ONCE(task->stay, false);
	WRITE_ONCE(task->pending, false);
	WRITE_ONCE(task->slow, false);
	WRITE_ONCE(task->thread->jobctl, 0);
}

/* Only the test still knows of it. */
static bool uw_is_forgotten(struct task_struct *thread)
{
	return refcount_read(&thread->usage) == 1;
}

static void uw_exit(struct kunit *test)
{
	unsigned int i;

	if (!fake)
		return;
	WRITE_ONCE(uw.hold, false);
	WRITE_ONCE(uw.hold_put, false);
	for (i = 0; i < uw.nr; i++)
		uw_let_go(uw.tasks[i]);
	if (!fake_wait_until(uw_all_gone())) {
		fake_complain("a worker does not end");
		/* Now it has to: the next case needs to be alone. */
		WRITE_ONCE(fake->in_vain, false);
		for (i = 0; i < uw.nr; i++)
			uw_kill(uw.tasks[i]);
		fake_wait_until(uw_all_gone());
	}
	for (i = 0; i < uw.nr; i++) {
		kthread_stop(uw.tasks[i]->thread);
		if (!fake_wait_until(uw_is_forgotten(uw.tasks[i]->thread)))
			fake_complain("a thread is not forgotten");
		put_task_struct(uw.tasks[i]->thread);
	}
	if (uw.has_queue)
		user_worker_module_exit();
	if (atomic_read(&worker_ending))
		fake_complain("%d workers are still being ended",
			      atomic_read(&worker_ending));
	atomic_set(&worker_ending, 0);
	if (atomic_read(&uw.memory))
		fake_complain("%d workers are not freed",
			      atomic_read(&uw.memory));
	if (atomic_read(&uw.modules))
		fake_complain("%d references on the module are left",
			      atomic_read(&uw.modules));
	fake_exit(test);
}

static struct kunit_case uw_cases[] = {
	KUNIT_CASE(uw_calls_once),
	KUNIT_CASE(uw_turns_again),
	KUNIT_CASE(uw_called_off),
	KUNIT_CASE(uw_called_off_too_late),
	KUNIT_CASE(uw_called_off_or_not),
	KUNIT_CASE_PARAM(uw_held, held_gen_params),
	KUNIT_CASE_PARAM(uw_killed, kill_gen_params),
	KUNIT_CASE(uw_free_waits),
	KUNIT_CASE(uw_free_gives_up),
	KUNIT_CASE(uw_free_with_signal),
	KUNIT_CASE(uw_gone),
	KUNIT_CASE(uw_gone_though_kept),
	KUNIT_CASE(uw_gone_though_kept_for_long),
	KUNIT_CASE(uw_gone_though_kept_with_signal),
	KUNIT_CASE(uw_free_gone),
	KUNIT_CASE(uw_many_held),
	KUNIT_CASE(uw_most),
	KUNIT_CASE_PARAM(uw_fails, fail_gen_params),
	KUNIT_CASE(uw_slow_ends),
	KUNIT_CASE_PARAM(uw_signals, signal_gen_params),
	KUNIT_CASE_PARAM(uw_possible, possible_gen_params),
	KUNIT_CASE(uw_no_queue),
	KUNIT_CASE(uw_exit_waits),
	{ }
};

#else

static int uw_init(struct kunit *test)
{
	return fake_init(test);
}

static void uw_exit(struct kunit *test)
{
	fake_exit(test);
}

/* Nobody gets a worker, and who asks for none lacks nothing. */
static void uw_none(struct kunit *test)
{
	unsigned long patience = 1;

	KUNIT_EXPECT_EQ(test, 0, user_worker_module_init());
	KUNIT_EXPECT_FALSE(test, user_worker_possible(NULL));
	KUNIT_EXPECT_FALSE(test, user_worker_possible(fake->mm.mm));
	KUNIT_EXPECT_NULL(test, user_worker_new(NULL, NULL, "none"));
	KUNIT_EXPECT_TRUE(test, user_worker_call_off(NULL));
	user_worker_free(NULL, &patience);
	KUNIT_EXPECT_EQ(test, 1UL, patience);
	user_worker_module_exit();
}

static struct kunit_case uw_cases[] = {
	KUNIT_CASE(uw_none),
	{ }
};

#endif /* COMPAT_USER_WORKERS */

static struct kunit_suite uw_suite = {
	.name = "vfio_mt_user_worker",
	.init = uw_init,
	.exit = uw_exit,
	.test_cases = uw_cases,
};

kunit_test_suite(uw_suite);
