// SPDX-License-Identifier: GPL-2.0-only
/*
 * lockvm_cache.c - charge locked memory in batches, exactly
 *
 * Every pinned page counts in mm->locked_vm, which is written under the mmap
 * lock taken for writing. Threads that pin hold that lock for reading most of
 * the time, so each of them draws locked_vm in batches: the idea, and the
 * batch's default size, are those of Daniel Jordan's padata series of 2022.
 *
 * There, a thread's cache could make a map fail that would just have fitted.
 * Here, a map is refused if and only if the pages it really charges do not fit:
 *  - A cache draws in advance about as much as the job may still need, or
 *    nothing when that does not fit.
 *  - A thread that finds no room recalls what all caches of the same mm have
 *    left, in this job and in others, gives it back, and tries once more with
 *    exactly what it needs. What is charged then is in use, and a refusal is
 *    what the limit demands. From there on, these jobs draw nothing in advance.
 *  - Two jobs may refuse each other what would do for one of them. Which of them
 *    goes first does not matter, but one would have succeeded. So a job that was
 *    refused while others were charging is undone, and done over alone.
 * Others that charge the same mm, mlock() for one, do not know of the caches and
 * may be refused while a map is under way.
 *
 * Terms: a charge is in mm->locked_vm; a credit is a charge not used yet.
 *
 * Context: process context, may sleep.
 * Locking, in this order:
 *    shared->turn	for reading: by jobs, from before they charge until they are
 *			done; for writing: by a job that wants to be alone
 *    shared->sem		one for each mm with open pools, so that processes
 *			cannot hold each other up: for reading while a cache
 *			draws or returns credit, for writing while credits are
 *			recalled, so that nobody draws what was just given back.
 *			Protects the lists of pools and caches, and @exact.
 *    mmap lock		for writing: mm->locked_vm
 *    lockvm_mms_lock	the list of all struct lockvm_mm, and their @users
 *    cache->credit is atomic: a recall may take it away at any time.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/mm.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "include/compat.h"
#include "include/lockvm_cache.h"
#include "include/map_stat.h"
#include "include/vfio_mt_trace.h"

/**
 * struct lockvm_mm - what all open pools of an mm share
 * @node: in lockvm_mms
 * @mm: the mm, compared and never used
 * @users: pools, and charges that may recall from them
 * @turn: see the top of the file
 * @sem: likewise
 * @pools: the open pools
 * @exact: draw nothing in advance any more, the limit is near
 */
struct lockvm_mm {
	struct list_head node;
	const struct mm_struct *mm;
	unsigned int users;
	struct rw_semaphore turn;
	struct rw_semaphore sem;
	struct list_head pools;
	bool exact;
};

static DEFINE_SPINLOCK(lockvm_mms_lock);
static LIST_HEAD(lockvm_mms);

/* Find what the pools of @mm share, and hold it; or insert @new. */
static struct lockvm_mm *lockvm_mm_get(const struct mm_struct *mm,
				       struct lockvm_mm *new)
{
	struct lockvm_mm *shared;

	spin_lock(&lockvm_mms_lock);
	list_for_each_entry(shared, &lockvm_mms, node)
		if (shared->mm == mm)
			goto found;
	shared = new;
	list_add(&shared->node, &lockvm_mms);
found:
	shared->users++;
	spin_unlock(&lockvm_mms_lock);
	return shared;
}

static void lockvm_mm_put(struct lockvm_mm *shared)
{
	spin_lock(&lockvm_mms_lock);
	if (--shared->users)
		shared = NULL;
	else
		list_del(&shared->node);
	spin_unlock(&lockvm_mms_lock);
	kfree(shared);
}

static struct lockvm_mm *lockvm_mm_alloc(const struct mm_struct *mm)
{
	struct lockvm_mm *shared = kzalloc(sizeof(*shared), GFP_KERNEL);

	if (!shared)
		return NULL;
	shared->mm = mm;
	init_rwsem(&shared->turn);
	init_rwsem(&shared->sem);
	INIT_LIST_HEAD(&shared->pools);
	return shared;
}

/* Hold what the pools of @mm share, or will share. */
static struct lockvm_mm *lockvm_mm_open(const struct mm_struct *mm)
{
	struct lockvm_mm *new = lockvm_mm_alloc(mm), *shared;

	if (!new)
		return NULL;
	shared = lockvm_mm_get(mm, new);
	if (shared != new)
		kfree(new);
	return shared;
}

/**
 * lockvm_charge_anyway - charge what is locked already, whatever the limit
 * @owner: to whom; the caller keeps the mm's users count elevated
 * @nr: number of pages
 *
 * Context: Process context. Takes the mmap lock for writing.
 */
void lockvm_charge_anyway(const struct lockvm_owner *owner, unsigned long nr)
{
	mmap_write_lock(owner->mm);
	__account_locked_vm(owner->mm, nr, true, owner->task, true);
	mmap_write_unlock(owner->mm);
}

/* Charge, without regard to what caches have drawn. */
static int lockvm_account(const struct lockvm_owner *owner, unsigned long nr)
{
	int ret;

	if (mmap_write_lock_killable(owner->mm))
		return -EINTR;
	ret = __account_locked_vm(owner->mm, nr, true, owner->task,
				  owner->cap);
	mmap_write_unlock(owner->mm);
	return ret;
}

/**
 * lockvm_uncharge - take a charge back
 * @owner: to whom it was charged. If its address space is gone already, so is
 *         the charge.
 * @nr: number of pages
 *
 * Unlike charging, this is not given up because of a signal: the mm may be
 * shared with a process that lives on.
 *
 * Context: Process context. Takes the mmap lock for writing.
 */
void lockvm_uncharge(const struct lockvm_owner *owner, unsigned long nr)
{
	if (!nr || !mmget_not_zero(owner->mm))
		return;
	mmap_write_lock(owner->mm);
	__account_locked_vm(owner->mm, nr, false, owner->task, owner->cap);
	mmap_write_unlock(owner->mm);
	mmput(owner->mm);
}

/* Take back all credits. @shared->sem is held for writing. */
static unsigned long lockvm_recall(struct lockvm_mm *shared)
{
	struct lockvm_cache *cache;
	struct lockvm_pool *pool;
	unsigned long credit, sum = 0;

	shared->exact = true;
	list_for_each_entry(pool, &shared->pools, node) {
		list_for_each_entry(cache, &pool->caches, node) {
			credit = atomic_long_xchg(&cache->credit, 0);
			atomic_long_add(credit, &pool->left);
			sum += credit;
		}
	}
	return sum;
}

static void lockvm_warn(const struct lockvm_owner *owner)
{
	pr_warn_ratelimited("%s (%d): RLIMIT_MEMLOCK (%lu bytes) exceeded\n",
			    owner->task->comm, task_pid_nr(owner->task),
			    task_rlimit(owner->task, RLIMIT_MEMLOCK));
}

/* Charge exactly @nr pages, for @pool if any, where there seemed to be no room. */
static int lockvm_account_last(struct lockvm_mm *shared,
			       const struct lockvm_owner *owner,
			       unsigned long nr, struct lockvm_pool *pool)
{
	bool crowded;
	int ret;

	if (down_write_killable(&shared->sem))
		return -EINTR;
	lockvm_uncharge(owner, lockvm_recall(shared));
	ret = lockvm_account(owner, nr);
	crowded = pool && pool->turn == LOCKVM_SHARED &&
		  !list_is_singular(&shared->pools);
	if (ret == -ENOMEM && crowded)
		pool->crowded = true;
	up_write(&shared->sem);
	if (ret == -ENOMEM && !crowded)
		lockvm_warn(owner);
	return ret;
}

/**
 * lockvm_charge - charge locked memory
 * @owner: to whom; the caller keeps the mm's users count elevated
 * @nr: number of pages
 *
 * Context: Process context. Takes the mmap lock for writing.
 * Return: 0, -ENOMEM if the limit does not allow it, or if it is close and there
 *    is no memory to find out, or -EINTR if a fatal signal came first.
 */
int lockvm_charge(const struct lockvm_owner *owner, unsigned long nr)
{
	struct lockvm_mm *shared;
	int ret;

	if (!nr)
		return 0;
	ret = lockvm_account(owner, nr);
	if (ret != -ENOMEM)
		return ret;
	/* A job may have drawn what is missing here, or be about to. */
	shared = lockvm_mm_open(owner->mm);
	if (!shared)
		return -ENOMEM;
	ret = lockvm_account_last(shared, owner, nr, NULL);
	lockvm_mm_put(shared);
	return ret;
}

/**
 * lockvm_pool_open - begin a job that charges locked memory
 * @pool: the pool
 * @owner: to whom; the caller keeps the mm's users count elevated until the
 *         pool is closed
 * @batch: most pages that a cache draws in advance
 * @most: most pages that the job can need
 *
 * Context: Process context. May sleep.
 * Return: 0, -ENOMEM, or -EINTR.
 */
int lockvm_pool_open(struct lockvm_pool *pool,
		     const struct lockvm_owner *owner, unsigned long batch,
		     unsigned long most)
{
	pool->shared = lockvm_mm_open(owner->mm);
	if (!pool->shared)
		return -ENOMEM;
	pool->owner = *owner;
	pool->batch = batch;
	atomic_long_set(&pool->left, most);
	pool->used = 0;
	pool->turn = LOCKVM_ANY_TIME;
	pool->crowded = false;
	INIT_LIST_HEAD(&pool->caches);

	if (down_write_killable(&pool->shared->sem)) {
		lockvm_mm_put(pool->shared);
		return -EINTR;
	}
	list_add(&pool->node, &pool->shared->pools);
	up_write(&pool->shared->sem);
	return 0;
}

/**
 * lockvm_pool_take_turn - wait until a job may charge
 * @pool: the pool; nothing was charged yet
 * @alone: have no other job charge to this mm until the pool is closed. For a
 *         job that failed before, with @pool->crowded.
 *
 * The thread that waits is the one that closes the pool.
 *
 * Context: Process context. May sleep as long as other jobs take.
 * Return: 0 or -EINTR.
 */
int lockvm_pool_take_turn(struct lockvm_pool *pool, bool alone)
{
	struct rw_semaphore *turn = &pool->shared->turn;

	if (alone ? down_write_killable(turn) : down_read_killable(turn))
		return -EINTR;
	pool->turn = alone ? LOCKVM_ALONE : LOCKVM_SHARED;
	return 0;
}

static void lockvm_pool_end_turn(struct lockvm_pool *pool)
{
	if (pool->turn == LOCKVM_ALONE)
		up_write(&pool->shared->turn);
	else if (pool->turn == LOCKVM_SHARED)
		up_read(&pool->shared->turn);
}

static void lockvm_pool_end(struct lockvm_pool *pool, bool keep)
{
	struct lockvm_cache *cache;
	unsigned long back = 0;

	/*
	 * For writing: a recall must find these credits either still in the
	 * caches or back in the mm. The same goes for whoever is refused: either
	 * this pool is still open, or nothing of it is charged that will not stay.
	 */
	down_write(&pool->shared->sem);
	list_del(&pool->node);
	list_for_each_entry(cache, &pool->caches, node) {
		back += atomic_long_xchg(&cache->credit, 0);
		pool->used += cache->used;
	}
	if (!keep) {
		back += pool->used;
		pool->used = 0;
	}
	lockvm_uncharge(&pool->owner, back);
	up_write(&pool->shared->sem);
	lockvm_pool_end_turn(pool);
	lockvm_mm_put(pool->shared);
}

/**
 * lockvm_pool_close - end a job: give back what was drawn and not used
 * @pool: the pool; its caches are closed by this. @pool->used is valid after.
 *
 * Context: Process context. May sleep. No thread uses the caches any more.
 */
void lockvm_pool_close(struct lockvm_pool *pool)
{
	lockvm_pool_end(pool, true);
}

/**
 * lockvm_pool_cancel - end a job that failed: give everything back
 * @pool: the pool; its caches are closed by this
 *
 * Context: Process context. May sleep. No thread uses the caches any more.
 */
void lockvm_pool_cancel(struct lockvm_pool *pool)
{
	lockvm_pool_end(pool, false);
}

/**
 * lockvm_cache_open - give a thread its cache
 * @cache: the cache
 * @pool: where it draws from
 *
 * Context: Process context. May sleep.
 */
void lockvm_cache_open(struct lockvm_cache *cache, struct lockvm_pool *pool)
{
	cache->pool = pool;
	cache->used = 0;
	atomic_long_set(&cache->credit, 0);
	down_write(&pool->shared->sem);
	list_add(&cache->node, &pool->caches);
	up_write(&pool->shared->sem);
}

/* Use @nr pages of the credit if it has as many. */
static bool lockvm_cache_take(struct lockvm_cache *cache, unsigned long nr)
{
	long credit = atomic_long_read(&cache->credit);

	do {
		if (credit < (long)nr)
			return false;
	} while (!atomic_long_try_cmpxchg(&cache->credit, &credit,
					  credit - (long)nr));
	cache->used += nr;
	return true;
}

/* Charge what a cache draws. It is seldom enough to be counted at once. */
static int lockvm_refill(const struct lockvm_pool *pool, unsigned long nr)
{
	int ret = lockvm_account(&pool->owner, nr);

	map_stat_add(MAP_STAT_REFILLS, 1);
	trace_refill(nr, ret);
	return ret;
}

/*
 * Draw @nr pages that are needed, and some in advance; the credit that there is
 * stays. shared->sem is held for reading.
 */
static int lockvm_cache_draw(struct lockvm_cache *cache, unsigned long nr)
{
	struct lockvm_pool *pool = cache->pool;
	long left = atomic_long_read(&pool->left) - (long)nr;
	unsigned long ahead = 0;
	int ret = -ENOMEM;

	if (left > 0 && !pool->shared->exact)
		ahead = min_t(unsigned long, left, pool->batch);
	if (ahead)
		ret = lockvm_refill(pool, nr + ahead);
	if (ret == -ENOMEM) {
		ahead = 0;
		ret = nr ? lockvm_refill(pool, nr) : 0;
	}
	if (ret)
		return ret;
	atomic_long_sub(nr + ahead, &pool->left);
	atomic_long_add(ahead, &cache->credit);
	cache->used += nr;
	return 0;
}

/**
 * lockvm_cache_room - tell how much locked memory can be used without asking
 * @cache: the calling thread's cache
 * @most: more than that is of no interest
 *
 * What is pinned before it is charged should not exceed the limit by much.
 *
 * Context: Process context. May sleep.
 * Return: The number of pages; @most if there is no limit.
 */
unsigned long lockvm_cache_room(struct lockvm_cache *cache, unsigned long most)
{
	struct lockvm_pool *pool = cache->pool;

	if (pool->owner.cap)
		return most;
	if (!atomic_long_read(&cache->credit) &&
	    !down_read_killable(&pool->shared->sem)) {
		/* An error shows again when there is something to charge. */
		lockvm_cache_draw(cache, 0);
		up_read(&pool->shared->sem);
	}
	return min_t(unsigned long, atomic_long_read(&cache->credit), most);
}

/**
 * lockvm_cache_charge - use locked memory
 * @cache: the calling thread's cache
 * @nr: number of pages
 *
 * Context: Process context. Takes no lock while the credit lasts.
 * Return: As lockvm_charge().
 */
int lockvm_cache_charge(struct lockvm_cache *cache, unsigned long nr)
{
	struct lockvm_pool *pool = cache->pool;
	int ret;

	if (lockvm_cache_take(cache, nr))
		return 0;

	if (down_read_killable(&pool->shared->sem))
		return -EINTR;
	ret = lockvm_cache_draw(cache, nr);
	up_read(&pool->shared->sem);
	if (ret != -ENOMEM)
		return ret;

	ret = lockvm_account_last(pool->shared, &pool->owner, nr, pool);
	if (!ret) {
		atomic_long_sub(nr, &pool->left);
		cache->used += nr;
	}
	return ret;
}

/**
 * lockvm_cache_uncharge - stop using locked memory that this job charged
 * @cache: the calling thread's cache, which charged it
 * @nr: number of pages
 *
 * Context: Process context. May sleep.
 */
void lockvm_cache_uncharge(struct lockvm_cache *cache, unsigned long nr)
{
	down_read(&cache->pool->shared->sem);
	cache->used -= nr;
	atomic_long_add(nr, &cache->credit);
	up_read(&cache->pool->shared->sem);
}
