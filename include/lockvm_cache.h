/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * lockvm_cache.h - charge locked memory in batches, exactly
 */
#ifndef VFIO_MT_LOCKVM_CACHE_H
#define VFIO_MT_LOCKVM_CACHE_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct lockvm_mm;
struct mm_struct;
struct task_struct;

/**
 * struct lockvm_owner - whom locked memory is charged to
 * @mm: the address space that carries the charge
 * @task: whose RLIMIT_MEMLOCK applies
 * @cap: the limit does not apply: the task had CAP_IPC_LOCK
 */
struct lockvm_owner {
	struct mm_struct *mm;
	struct task_struct *task;
	bool cap;
};

/**
 * enum lockvm_turn - whom a job shares its mm's limit with
 * @LOCKVM_ANY_TIME: it has not asked
 * @LOCKVM_SHARED: with other jobs
 * @LOCKVM_ALONE: with no other job
 */
enum lockvm_turn {
	LOCKVM_ANY_TIME,
	LOCKVM_SHARED,
	LOCKVM_ALONE,
};

/**
 * struct lockvm_pool - the charges of one job
 * @owner: whom they are charged to
 * @shared: what all open pools of the same mm share
 * @batch: most pages that a cache draws in advance
 * @left: pages that the job may still ask for: nothing is drawn beyond
 * @used: pages charged and used; valid after lockvm_pool_close()
 * @turn: see lockvm_pool_take_turn()
 * @crowded: something was refused while other jobs were charging
 * @caches: all caches that draw from this pool
 * @node: in the list of the mm's open pools
 */
struct lockvm_pool {
	struct lockvm_owner owner;
	struct lockvm_mm *shared;
	unsigned long batch;
	atomic_long_t left;
	unsigned long used;
	enum lockvm_turn turn;
	bool crowded;
	struct list_head caches;
	struct list_head node;
};

/**
 * struct lockvm_cache - one thread's share of a pool
 * @pool: where it draws from
 * @node: in the pool's list
 * @credit: pages charged, not used yet. Others may take them back.
 * @used: pages charged and used. The owner's own.
 */
struct lockvm_cache {
	struct lockvm_pool *pool;
	struct list_head node;
	atomic_long_t credit;
	unsigned long used;
};

int lockvm_pool_open(struct lockvm_pool *pool,
		     const struct lockvm_owner *owner, unsigned long batch,
		     unsigned long most);
int lockvm_pool_take_turn(struct lockvm_pool *pool, bool alone);
void lockvm_pool_close(struct lockvm_pool *pool);
void lockvm_pool_cancel(struct lockvm_pool *pool);
void lockvm_cache_open(struct lockvm_cache *cache, struct lockvm_pool *pool);
unsigned long lockvm_cache_room(struct lockvm_cache *cache, unsigned long most);
int lockvm_cache_charge(struct lockvm_cache *cache, unsigned long nr);
void lockvm_cache_uncharge(struct lockvm_cache *cache, unsigned long nr);

int lockvm_charge(const struct lockvm_owner *owner, unsigned long nr);
void lockvm_charge_anyway(const struct lockvm_owner *owner, unsigned long nr);
void lockvm_uncharge(const struct lockvm_owner *owner, unsigned long nr);

#endif /* VFIO_MT_LOCKVM_CACHE_H */
