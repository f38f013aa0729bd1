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
 *  - A cache draws in advance no more than the job may still need, and not at
 *    all when that does not fit.
 *  - A thread that finds no room recalls what all caches of the same mm have
 *    left, in this job and in others, gives it back, and tries once more with
 *    exactly what it needs. What is charged then is in use, and a refusal is
 *    what the limit demands. From there on, these jobs draw nothing in advance.
 *
 * Terms: a charge is in mm->locked_vm; a credit is a charge not used yet.
 *
 * Context: process context, may sleep, unless said otherwise.
 * Locking, in this order:
 *    lockvm_recall_sem	held for reading while a cache draws, for writing while
 *			credits are recalled, so that nobody draws what was just
 *			given back; protects pool->exact
 *    mmap lock		for writing: mm->locked_vm
 *    lockvm_pools_lock	the list of open pools
 *    pool->lock	the list of the pool's caches
 *    cache->credit is atomic; its owner and a recall may take from it, only the
 *    owner adds, with lockvm_recall_sem held for reading.
 */
#include <linux/mm.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "include/compat.h"
#include "include/lockvm_cache.h"

static DECLARE_RWSEM(lockvm_recall_sem);
static DEFINE_SPINLOCK(lockvm_pools_lock);
static LIST_HEAD(lockvm_pools);

/**
 * lockvm_charge - charge locked memory
 * @owner: to whom; the caller keeps the mm's users count elevated
 * @nr: number of pages
 *
 * Context: Process context. Takes the mmap lock for writing.
 * Return: 0, -ENOMEM if the limit does not allow it, or -EINTR if a fatal
 *    signal came first.
 */
int lockvm_charge(const struct lockvm_owner *owner, unsigned long nr)
{
	int ret;

	if (!nr)
		return 0;
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

/**
 * lockvm_pool_open - begin a job that charges locked memory
 * @pool: the pool
 * @owner: to whom; the caller keeps the mm's users count elevated until the
 *         pool is closed
 * @batch: most pages that a cache draws in advance
 * @most: most pages that the job can need
 *
 * Context: Any that may take a spinlock.
 */
void lockvm_pool_open(struct lockvm_pool *pool,
		      const struct lockvm_owner *owner, unsigned long batch,
		      unsigned long most)
{
	pool->owner = *owner;
	pool->batch = batch;
	atomic_long_set(&pool->left, most);
	pool->exact = false;
	pool->used = 0;
	spin_lock_init(&pool->lock);
	INIT_LIST_HEAD(&pool->caches);

	spin_lock(&lockvm_pools_lock);
	list_add(&pool->node, &lockvm_pools);
	spin_unlock(&lockvm_pools_lock);
}

/**
 * lockvm_pool_close - end a job: give back what was drawn and not used
 * @pool: the pool; its caches are closed by this. @pool->used is valid after.
 *
 * Context: Process context. May sleep. No thread uses the caches any more.
 */
void lockvm_pool_close(struct lockvm_pool *pool)
{
	struct lockvm_cache *cache;
	unsigned long credit = 0;

	/*
	 * Out of the list, these credits cannot be recalled: no recall may come
	 * between that and giving them back.
	 */
	down_read(&lockvm_recall_sem);
	spin_lock(&lockvm_pools_lock);
	list_del(&pool->node);
	spin_unlock(&lockvm_pools_lock);

	list_for_each_entry(cache, &pool->caches, node) {
		credit += atomic_long_xchg(&cache->credit, 0);
		pool->used += cache->used;
	}
	lockvm_uncharge(&pool->owner, credit);
	up_read(&lockvm_recall_sem);
}

/**
 * lockvm_cache_open - give a thread its cache
 * @cache: the cache
 * @pool: where it draws from
 *
 * Context: Any that may take a spinlock.
 */
void lockvm_cache_open(struct lockvm_cache *cache, struct lockvm_pool *pool)
{
	cache->pool = pool;
	cache->used = 0;
	atomic_long_set(&cache->credit, 0);
	spin_lock(&pool->lock);
	list_add(&cache->node, &pool->caches);
	spin_unlock(&pool->lock);
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

/* Draw @nr pages and some in advance; what was drawn before stays as it is. */
static int lockvm_cache_draw(struct lockvm_cache *cache, unsigned long nr)
{
	struct lockvm_pool *pool = cache->pool;
	long left = atomic_long_read(&pool->left);
	unsigned long ahead;
	int ret;

	ahead = left > (long)nr ? min(left - nr, pool->batch) : 0;
	if (pool->exact)
		ahead = 0;
	ret = lockvm_charge(&pool->owner, nr + ahead);
	if (ret == -ENOMEM && ahead) {
		ahead = 0;
		ret = lockvm_charge(&pool->owner, nr);
	}
	if (ret)
		return ret;
	atomic_long_sub(nr + ahead, &pool->left);
	atomic_long_add(ahead, &cache->credit);
	cache->used += nr;
	return 0;
}

/* Take back all credits that count in the mm of @pool. */
static unsigned long lockvm_recall(const struct lockvm_pool *pool)
{
	struct lockvm_cache *cache;
	struct lockvm_pool *other;
	unsigned long credit, sum = 0;

	spin_lock(&lockvm_pools_lock);
	list_for_each_entry(other, &lockvm_pools, node) {
		if (other->owner.mm != pool->owner.mm)
			continue;
		other->exact = true;
		spin_lock(&other->lock);
		list_for_each_entry(cache, &other->caches, node) {
			credit = atomic_long_xchg(&cache->credit, 0);
			atomic_long_add(credit, &other->left);
			sum += credit;
		}
		spin_unlock(&other->lock);
	}
	spin_unlock(&lockvm_pools_lock);
	return sum;
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

	down_read(&lockvm_recall_sem);
	ret = lockvm_cache_draw(cache, nr);
	up_read(&lockvm_recall_sem);
	if (ret != -ENOMEM)
		return ret;

	down_write(&lockvm_recall_sem);
	lockvm_uncharge(&pool->owner, lockvm_recall(pool));
	ret = lockvm_cache_draw(cache, nr);
	up_write(&lockvm_recall_sem);
	return ret;
}

/**
 * lockvm_cache_uncharge - stop using locked memory that this job charged
 * @cache: the calling thread's cache, which charged it
 * @nr: number of pages
 *
 * Context: Process context.
 */
void lockvm_cache_uncharge(struct lockvm_cache *cache, unsigned long nr)
{
	down_read(&lockvm_recall_sem);
	cache->used -= nr;
	atomic_long_add(nr, &cache->credit);
	up_read(&lockvm_recall_sem);
}
