// SPDX-License-Identifier: GPL-2.0-only
/*
 * lockvm_cache_test.c - locked memory is charged in batches, and exactly
 *
 * Exactly: a charge is refused if and only if what is in use, and it, exceed the
 * limit, whatever the caches have drawn.
 */
#include <linux/prandom.h>

#include "seam.h"

/* How often the administrator was told that the limit does not suffice. */
static unsigned int lockvm_warnings;

#undef pr_warn_ratelimited
#define pr_warn_ratelimited(fmt, ...) \
	(lockvm_warnings++, no_printk(fmt, ##__VA_ARGS__))
/* How often a cache drew. */
static unsigned int lockvm_refills;

#include "../include/map_stat.h"
#define map_stat_add(item, nr) \
	(lockvm_refills += (item) == MAP_STAT_REFILLS ? (nr) : 0)
#undef pr_fmt
#include "../lockvm_cache.c"

static struct lockvm_owner fake_owner(bool cap)
{
	return (struct lockvm_owner){
		.mm = fake->mm.mm,
		.task = get_current(),
		.cap = cap,
	};
}

/* ---- without a pool ---- */

static const struct plain_case {
	const char *desc;
	unsigned long limit;
	unsigned long before;
	unsigned long nr;
	bool cap;
	int ret;
} plains[] = {
	{ "nothing", 0, 0, 0, false, 0 },
	{ "one page, no limit", ULONG_MAX, 0, 1, false, 0 },
	{ "just fits", 100, 0, 100, false, 0 },
	{ "one too many", 100, 0, 101, false, -ENOMEM },
	{ "the last page", 100, 99, 1, false, 0 },
	{ "none left", 100, 100, 1, false, -ENOMEM },
	{ "none left, nothing wanted", 100, 100, 0, false, 0 },
	{ "limit 0", 0, 0, 1, false, -ENOMEM },
	{ "none left, with the capability", 100, 100, 50, true, 0 },
};

static void plain_desc(const struct plain_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(plain, plains, plain_desc);

static void lockvm_plain(struct kunit *test)
{
	const struct plain_case *c = test->param_value;
	struct lockvm_owner owner = fake_owner(c->cap);

	fake->mm.limit = c->limit;
	KUNIT_ASSERT_EQ(test, 0, lockvm_charge(&owner, c->before));
	KUNIT_EXPECT_EQ(test, c->ret, lockvm_charge(&owner, c->nr));
	KUNIT_EXPECT_EQ(test, c->before + (c->ret ? 0 : c->nr),
			fake->mm.locked);
	KUNIT_EXPECT_EQ(test, c->ret ? 1U : 0, lockvm_warnings);
	lockvm_uncharge(&owner, fake->mm.locked);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.locked);
}

/* What a job had drawn may be given back while somebody asks for it. */
static void lockvm_plain_again(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);

	fake->mm.refusals = 1;
	KUNIT_EXPECT_EQ(test, 0, lockvm_charge(&owner, 3));
	KUNIT_EXPECT_EQ(test, 3UL, fake->mm.locked);
	KUNIT_EXPECT_EQ(test, 0U, lockvm_warnings);
	fake->mm.refusals = 2;
	KUNIT_EXPECT_EQ(test, -ENOMEM, lockvm_charge(&owner, 3));
	KUNIT_EXPECT_EQ(test, 3UL, fake->mm.locked);
	lockvm_uncharge(&owner, 3);
}

static void lockvm_killed(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);

	KUNIT_ASSERT_EQ(test, 0, lockvm_charge(&owner, 3));
	fake->killed = true;
	KUNIT_EXPECT_EQ(test, -EINTR, lockvm_charge(&owner, 1));
	/* What is locked already is charged, and given back, all the same. */
	fake->mm.limit = 3;
	lockvm_charge_anyway(&owner, 2);
	KUNIT_EXPECT_EQ(test, 5UL, fake->mm.locked);
	lockvm_uncharge(&owner, 2);
	lockvm_uncharge(&owner, 3);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.locked);
}

static void lockvm_mm_gone(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);

	KUNIT_ASSERT_EQ(test, 0, lockvm_charge(&owner, 3));
	atomic_set(&fake->mm.mm->mm_users, 0);
	lockvm_uncharge(&owner, 3);
	KUNIT_EXPECT_EQ(test, 3UL, fake->mm.locked);
	atomic_set(&fake->mm.mm->mm_users, 1);
	lockvm_uncharge(&owner, 3);
	KUNIT_EXPECT_EQ(test, 1, atomic_read(&fake->mm.mm->mm_users));
}

/* ---- caches, one step after another ---- */

#define STEPS		8
#define CACHES		3

static const struct cache_case {
	const char *desc;
	unsigned long limit;
	unsigned long batch;
	unsigned long most;
	bool cap;
	struct {
		unsigned int cache;
		long nr;	/* negative: uncharge */
		int ret;
		unsigned long locked;
	} step[STEPS];
} caches[] = {
	{ "drawn in advance, then used", ULONG_MAX, 100, 1000, false, {
		{ 0, 10, 0, 110 }, { 0, 60, 0, 110 }, { 0, 40, 0, 110 },
		{ 0, 1, 0, 211 } } },
	{ "credit that does not suffice stays", ULONG_MAX, 100, 1000, false, {
		{ 0, 10, 0, 110 }, { 0, 101, 0, 311 }, { 0, 200, 0, 311 } } },
	{ "never more than the job can need", ULONG_MAX, 100, 150, false, {
		{ 0, 100, 0, 150 }, { 0, 50, 0, 150 } } },
	{ "also with several caches", ULONG_MAX, 100, 150, false, {
		{ 0, 10, 0, 110 }, { 1, 10, 0, 150 }, { 2, 10, 0, 160 } } },
	{ "the last page", 100, 64, 100, false, {
		{ 0, 30, 0, 94 }, { 0, 64, 0, 94 }, { 0, 6, 0, 100 },
		{ 0, 1, -ENOMEM, 100 } } },
	{ "no room for the batch, room for the pages", 100, 1000, 1000, false, {
		{ 0, 99, 0, 99 }, { 0, 1, 0, 100 }, { 0, 1, -ENOMEM, 100 } } },
	{ "another cache has what is missing", 100, 60, 1000, false, {
		{ 0, 20, 0, 80 }, { 1, 40, 0, 60 }, { 1, 40, 0, 100 },
		{ 0, 1, -ENOMEM, 100 } } },
	{ "nothing in advance after a recall", 100, 60, 1000, false, {
		{ 0, 20, 0, 80 }, { 1, 40, 0, 60 }, { 1, 10, 0, 70 },
		{ 0, 30, 0, 100 } } },
	{ "not even where there were room again", 100, 20, 1000, false, {
		{ 0, 10, 0, 30 }, { 1, 10, 0, 60 }, { 2, 45, 0, 65 },
		{ 0, 5, 0, 70 } } },
	{ "a refusal changes nothing in use", 100, 60, 1000, false, {
		{ 0, 20, 0, 80 }, { 1, 81, -ENOMEM, 20 }, { 1, 80, 0, 100 } } },
	{ "uncharged pages become credit", 100, 10, 1000, false, {
		{ 0, 90, 0, 100 }, { 0, -90, 0, 100 }, { 0, 95, 0, 100 } } },
	{ "and others may have it", 100, 10, 1000, false, {
		{ 0, 90, 0, 100 }, { 0, -90, 0, 100 }, { 1, 100, 0, 100 },
		{ 0, 1, -ENOMEM, 100 } } },
	{ "no limit with the capability", 10, 100, 1000, true, {
		{ 0, 50, 0, 150 }, { 1, 500, 0, 750 } } },
	{ "no batches", ULONG_MAX, 0, 1000, false, {
		{ 0, 5, 0, 5 }, { 0, 7, 0, 12 } } },
	{ "nothing is needed", 0, 100, 1000, false, { { 0, 0, 0, 0 } } },
};

static void cache_desc(const struct cache_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(cache, caches, cache_desc);

static void lockvm_steps(struct kunit *test)
{
	const struct cache_case *c = test->param_value;
	struct lockvm_owner owner = fake_owner(c->cap);
	struct lockvm_cache cache[CACHES];
	struct lockvm_pool pool;
	unsigned long used = 0;
	unsigned int i;

	fake->mm.limit = c->limit;
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, c->batch,
						  c->most));
	for (i = 0; i < CACHES; i++)
		lockvm_cache_open(&cache[i], &pool);
	for (i = 0; i < STEPS; i++) {
		struct lockvm_cache *which = &cache[c->step[i].cache];
		long nr = c->step[i].nr;

		if (i && !nr)
			break;
		if (nr < 0)
			lockvm_cache_uncharge(which, -nr);
		else
			KUNIT_EXPECT_EQ(test, c->step[i].ret,
					lockvm_cache_charge(which, nr));
		used += c->step[i].ret ? 0 : nr;
		KUNIT_EXPECT_EQ_MSG(test, c->step[i].locked, fake->mm.locked,
				    "after step %u", i);
	}
	lockvm_pool_close(&pool);
	KUNIT_EXPECT_EQ(test, used, pool.used);
	KUNIT_EXPECT_EQ(test, used, fake->mm.locked);
	lockvm_uncharge(&owner, pool.used);
	KUNIT_EXPECT_TRUE(test, list_empty(&lockvm_mms));
}

/* As often as something is charged for a cache, it is counted. */
static void lockvm_counted(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_cache cache;
	struct lockvm_pool pool;

	fake->mm.limit = 100;
	lockvm_refills = 0;
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 16, 1000));
	lockvm_cache_open(&cache, &pool);
	KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&cache, 4));
	KUNIT_EXPECT_EQ(test, 1U, lockvm_refills);
	KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&cache, 16));
	KUNIT_EXPECT_EQ(test, 1U, lockvm_refills);
	KUNIT_EXPECT_EQ(test, 16UL, lockvm_cache_room(&cache, 1000));
	KUNIT_EXPECT_EQ(test, 2U, lockvm_refills);
	/* Refused in advance, and then as it is. */
	KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&cache, 80));
	KUNIT_EXPECT_EQ(test, 4U, lockvm_refills);
	lockvm_pool_cancel(&pool);
}

/* ---- any sequence of charges ---- */

static const struct random_case {
	const char *desc;
	unsigned long limit;
	unsigned long batch;
	unsigned long most;
	unsigned int seed;
} randoms[] = {
	{ "small batches", 1000, 16, 1000, 1 },
	{ "a batch as large as the limit", 1000, 1000, 1000, 2 },
	{ "a batch larger than the limit", 1000, 65536, 100000, 3 },
	{ "a job that asks for less than it said", 1000, 100, 100000, 4 },
	{ "a job that asks for more than it said", 1000, 100, 10, 5 },
	{ "no batches", 1000, 0, 1000, 6 },
};

static void random_desc(const struct random_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(random, randoms, random_desc);

static void lockvm_exact(struct kunit *test)
{
	const struct random_case *c = test->param_value;
	struct lockvm_owner owner = fake_owner(false);
	unsigned long in_use[CACHES] = { }, sum = 0;
	struct lockvm_cache cache[CACHES];
	struct lockvm_pool pool;
	struct rnd_state rnd;
	unsigned int i, k, nr;
	int ret;

	prandom_seed_state(&rnd, c->seed);
	fake->mm.limit = c->limit;
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, c->batch,
						  c->most));
	for (i = 0; i < CACHES; i++)
		lockvm_cache_open(&cache[i], &pool);
	for (i = 0; i < 2000; i++) {
		k = prandom_u32_state(&rnd) % CACHES;
		nr = prandom_u32_state(&rnd) % (c->limit / 4);
		if (prandom_u32_state(&rnd) % 3 == 0 && in_use[k]) {
			nr %= in_use[k] + 1;
			lockvm_cache_uncharge(&cache[k], nr);
			in_use[k] -= nr;
			sum -= nr;
			continue;
		}
		if (prandom_u32_state(&rnd) % 8 == 0)
			lockvm_cache_room(&cache[k], nr);
		ret = lockvm_cache_charge(&cache[k], nr);
		KUNIT_ASSERT_EQ_MSG(test, sum + nr <= c->limit ? 0 : -ENOMEM,
				    ret, "step %u: %lu in use, %u wanted", i,
				    sum, nr);
		if (!ret) {
			in_use[k] += nr;
			sum += nr;
		}
		KUNIT_ASSERT_LE(test, sum, fake->mm.locked);
	}
	KUNIT_EXPECT_LE(test, fake->mm.highest, c->limit);
	lockvm_pool_close(&pool);
	KUNIT_EXPECT_EQ(test, sum, pool.used);
	KUNIT_EXPECT_EQ(test, sum, fake->mm.locked);
	lockvm_uncharge(&owner, sum);
}

/* ---- batches save calls ---- */

static void lockvm_calls(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_cache cache;
	struct lockvm_pool pool;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 1000, 10000));
	lockvm_cache_open(&cache, &pool);
	for (i = 0; i < 10000; i++)
		KUNIT_ASSERT_EQ(test, 0, lockvm_cache_charge(&cache, 1));
	KUNIT_EXPECT_EQ(test, 10UL, fake->mm.account_calls);
	lockvm_pool_close(&pool);
	/* Nothing was left to give back. */
	KUNIT_EXPECT_EQ(test, 10UL, fake->mm.account_calls);
	lockvm_uncharge(&owner, 10000);
}

/* ---- how much may be pinned before it is charged ---- */

static const struct room_case {
	const char *desc;
	unsigned long limit;
	unsigned long batch;
	unsigned long most;
	bool cap;
	unsigned long used;
	unsigned long ask;
	unsigned long room;
} rooms[] = {
	{ "a batch", ULONG_MAX, 100, 1000, false, 0, 512, 100 },
	{ "as much as asked for", ULONG_MAX, 1000, 1000, false, 0, 512, 512 },
	{ "the job's rest", ULONG_MAX, 1000, 60, false, 0, 512, 60 },
	{ "what is left of a batch", ULONG_MAX, 100, 1000, false, 10, 512, 100 },
	{ "near the limit", 100, 1000, 1000, false, 0, 512, 0 },
	{ "no limit with the capability", 0, 100, 1000, true, 0, 512, 512 },
};

static void room_desc(const struct room_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(room, rooms, room_desc);

static void lockvm_room(struct kunit *test)
{
	const struct room_case *c = test->param_value;
	struct lockvm_owner owner = fake_owner(c->cap);
	struct lockvm_cache cache;
	struct lockvm_pool pool;

	fake->mm.limit = c->limit;
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, c->batch,
						  c->most));
	lockvm_cache_open(&cache, &pool);
	KUNIT_ASSERT_EQ(test, 0, lockvm_cache_charge(&cache, c->used));
	KUNIT_EXPECT_EQ(test, c->room, lockvm_cache_room(&cache, c->ask));
	KUNIT_EXPECT_EQ(test, c->room, lockvm_cache_room(&cache, c->ask));
	lockvm_pool_close(&pool);
	KUNIT_EXPECT_EQ(test, c->used, pool.used);
	lockvm_uncharge(&owner, pool.used);
}

/* ---- several jobs ---- */

/* A job's credit is there for another job of the same mm, and for single charges. */
static void lockvm_two_pools(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_cache one, two;
	struct lockvm_pool first, second;

	fake->mm.limit = 100;
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&first, &owner, 80, 1000));
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&second, &owner, 80, 1000));
	KUNIT_EXPECT_PTR_EQ(test, first.shared, second.shared);
	lockvm_cache_open(&one, &first);
	lockvm_cache_open(&two, &second);

	KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&one, 10));
	KUNIT_EXPECT_EQ(test, 90UL, fake->mm.locked);
	KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&two, 50));
	KUNIT_EXPECT_EQ(test, 60UL, fake->mm.locked);
	lockvm_cache_uncharge(&two, 50);
	KUNIT_EXPECT_EQ(test, 0, lockvm_charge(&owner, 90));
	KUNIT_EXPECT_EQ(test, 100UL, fake->mm.locked);
	KUNIT_EXPECT_EQ(test, -ENOMEM, lockvm_charge(&owner, 1));

	lockvm_pool_close(&first);
	KUNIT_EXPECT_FALSE(test, list_empty(&lockvm_mms));
	lockvm_pool_close(&second);
	KUNIT_EXPECT_TRUE(test, list_empty(&lockvm_mms));
	KUNIT_EXPECT_EQ(test, 10UL, first.used);
	KUNIT_EXPECT_EQ(test, 0UL, second.used);
	lockvm_uncharge(&owner, 100);
}

/* Another mm's job is left alone. */
static void lockvm_two_mms(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false), other = owner;
	struct lockvm_cache one, two;
	struct lockvm_pool first, second;
	struct mm_struct *mm;

	mm = kunit_kzalloc(test, sizeof(*mm) + cpumask_size(), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, mm);
	init_rwsem(&mm->mmap_lock);
	atomic_set(&mm->mm_users, 1);
	other.mm = mm;
	fake->mm.limit = 100;
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&first, &owner, 80, 1000));
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&second, &other, 80, 1000));
	lockvm_cache_open(&one, &first);
	lockvm_cache_open(&two, &second);
	KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&two, 20));
	KUNIT_EXPECT_EQ(test, 100UL, mm->locked_vm);

	KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&one, 10));
	KUNIT_EXPECT_EQ(test, -ENOMEM, lockvm_cache_charge(&one, 91));
	KUNIT_EXPECT_EQ(test, 100UL, mm->locked_vm);
	KUNIT_EXPECT_FALSE(test, second.shared->exact);
	lockvm_pool_close(&second);
	KUNIT_EXPECT_EQ(test, 20UL, mm->locked_vm);
	lockvm_uncharge(&other, 20);
	KUNIT_EXPECT_EQ(test, 0UL, mm->locked_vm);
	lockvm_pool_close(&first);
	lockvm_uncharge(&owner, first.used);
}

static void lockvm_open_no_memory(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_pool pool;

	atomic_set(&fake->alloc_fail, 0);
	KUNIT_EXPECT_EQ(test, -ENOMEM, lockvm_pool_open(&pool, &owner, 1, 1));
	KUNIT_EXPECT_TRUE(test, list_empty(&lockvm_mms));
}

/* ---- the end of a job ---- */

static const struct end_case {
	const char *desc;
	bool cancel;
	unsigned long charge[CACHES];
	unsigned long uncharge[CACHES];
	unsigned long left;	/* charged after the end */
} ends[] = {
	{ "nothing charged, closed", false, { }, { }, 0 },
	{ "nothing charged, cancelled", true, { }, { }, 0 },
	{ "used in part, closed", false, { 10, 1, 90 }, { }, 101 },
	{ "used in part, cancelled", true, { 10, 1, 90 }, { }, 0 },
	{ "given up in part, closed", false, { 10, 20, 30 }, { 3, 0, 30 }, 27 },
	{ "given up in part, cancelled", true, { 10, 20, 30 }, { 3, 0, 30 }, 0 },
	{ "all given up, cancelled", true, { 7 }, { 7 }, 0 },
};

static void end_desc(const struct end_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(end, ends, end_desc);

/* A job that is closed keeps what it uses, one that is cancelled nothing. */
static void lockvm_end(struct kunit *test)
{
	const struct end_case *c = test->param_value;
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_cache cache[CACHES];
	struct lockvm_pool pool;
	unsigned int i;

	KUNIT_ASSERT_EQ(test, 0, lockvm_charge(&owner, 5));
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 64, 1000));
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_take_turn(&pool, false));
	for (i = 0; i < CACHES; i++) {
		lockvm_cache_open(&cache[i], &pool);
		KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&cache[i],
							     c->charge[i]));
		lockvm_cache_uncharge(&cache[i], c->uncharge[i]);
	}
	if (c->cancel)
		lockvm_pool_cancel(&pool);
	else
		lockvm_pool_close(&pool);
	KUNIT_EXPECT_EQ(test, c->left, pool.used);
	/* What was charged by others stays. */
	KUNIT_EXPECT_EQ(test, c->left + 5, fake->mm.locked);
	KUNIT_EXPECT_TRUE(test, list_empty(&lockvm_mms));
	lockvm_uncharge(&owner, fake->mm.locked);
}

/* ---- refusals that may be another job's fault ---- */

static const struct crowd_case {
	const char *desc;
	enum lockvm_turn turn;
	bool other;		/* another job is under way */
	unsigned long nr;
	int ret;
	bool crowded;
} crowds[] = {
	{ "no other job", LOCKVM_SHARED, false, 71, -ENOMEM, false },
	{ "another job", LOCKVM_SHARED, true, 71, -ENOMEM, true },
	{ "another job, but it fits", LOCKVM_SHARED, true, 70, 0, false },
	{ "another job, which is none to wait for", LOCKVM_ALONE, true, 71,
	  -ENOMEM, false },
	{ "another job, and no turn", LOCKVM_ANY_TIME, true, 71, -ENOMEM,
	  false },
};

static void crowd_desc(const struct crowd_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(crowd, crowds, crowd_desc);

/* The job is told, and the administrator is not: it may succeed yet. */
static void lockvm_crowded(struct kunit *test)
{
	const struct crowd_case *c = test->param_value;
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_pool pool, other;
	struct lockvm_cache mine, his;

	fake->mm.limit = 100;
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 10, 1000));
	lockvm_cache_open(&mine, &pool);
	if (c->turn != LOCKVM_ANY_TIME)
		KUNIT_ASSERT_EQ(test, 0, lockvm_pool_take_turn(&pool, c->turn ==
							       LOCKVM_ALONE));
	KUNIT_EXPECT_EQ(test, (int)c->turn, (int)pool.turn);
	if (c->other) {
		KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&other, &owner, 30,
							  1000));
		lockvm_cache_open(&his, &other);
		KUNIT_ASSERT_EQ(test, 0, lockvm_cache_charge(&his, 30));
	} else {
		KUNIT_ASSERT_EQ(test, 0, lockvm_charge(&owner, 30));
	}

	KUNIT_EXPECT_EQ(test, c->ret, lockvm_cache_charge(&mine, c->nr));
	KUNIT_EXPECT_EQ(test, c->crowded, pool.crowded);
	KUNIT_EXPECT_EQ(test, c->ret && !c->crowded, lockvm_warnings == 1);
	lockvm_pool_close(&pool);
	KUNIT_EXPECT_EQ(test, c->ret ? 0 : c->nr, pool.used);
	if (c->other) {
		/* It was not refused anything. */
		KUNIT_EXPECT_FALSE(test, other.crowded);
		lockvm_pool_close(&other);
		KUNIT_EXPECT_EQ(test, 30UL, other.used);
	}
	lockvm_uncharge(&owner, 30 + pool.used);
}

/* A single charge that is refused is no job's concern. */
static void lockvm_crowded_plain(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_cache cache;
	struct lockvm_pool pool;

	fake->mm.limit = 100;
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 10, 1000));
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_take_turn(&pool, false));
	lockvm_cache_open(&cache, &pool);
	KUNIT_ASSERT_EQ(test, 0, lockvm_cache_charge(&cache, 30));
	KUNIT_EXPECT_EQ(test, -ENOMEM, lockvm_charge(&owner, 71));
	KUNIT_EXPECT_EQ(test, 1U, lockvm_warnings);
	KUNIT_EXPECT_FALSE(test, pool.crowded);
	KUNIT_EXPECT_EQ(test, 0, lockvm_charge(&owner, 70));
	lockvm_pool_cancel(&pool);
	lockvm_uncharge(&owner, 70);
}

/* ---- jobs that take turns ---- */

/**
 * struct rival - a job of another thread's
 * @thread: the thread
 * @pool: its pool
 * @alone: it wants to be alone
 * @ret: what lockvm_pool_take_turn() returned
 * @asked: completed when it has returned
 * @end: completed when it may end the job
 */
struct rival {
	struct fake_thread thread;
	struct lockvm_pool pool;
	bool alone;
	int ret;
	struct completion asked;
	struct completion end;
};

static void rival_run(void *arg)
{
	struct rival *rival = arg;

	rival->ret = lockvm_pool_take_turn(&rival->pool, rival->alone);
	complete(&rival->asked);
	wait_for_completion(&rival->end);
	lockvm_pool_close(&rival->pool);
}

static void rival_start(struct kunit *test, struct rival *rival,
			const struct lockvm_owner *owner, bool alone)
{
	rival->alone = alone;
	init_completion(&rival->asked);
	init_completion(&rival->end);
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&rival->pool, owner, 10, 10));
	fake_thread_start(&rival->thread, rival_run, rival);
}

static void rival_end(struct rival *rival)
{
	/* Had it waited in vain, it would wait forever. */
	if (!completion_done(&rival->asked))
		send_sig(SIGKILL, rival->thread.task, 1);
	complete(&rival->end);
	fake_thread_join(&rival->thread);
}

/* Is it its turn? It is, or it waits: nothing in between lasts. */
static bool rival_waits(struct kunit *test, struct rival *rival)
{
	struct rw_semaphore *turn = &rival->pool.shared->turn;

	KUNIT_EXPECT_TRUE(test, fake_wait_until(completion_done(&rival->asked) ||
						rwsem_is_contended(turn)));
	return !completion_done(&rival->asked);
}

static const struct turn_case {
	const char *desc;
	enum lockvm_turn first;
	bool alone;		/* the second */
	bool cancel;		/* so the first ends */
	bool waits;
} turns[] = {
	{ "both share", LOCKVM_SHARED, false, false, false },
	{ "the second wants to be alone", LOCKVM_SHARED, true, false, true },
	{ "the first is alone", LOCKVM_ALONE, false, false, true },
	{ "both want to be alone", LOCKVM_ALONE, true, false, true },
	{ "the first shares, and fails", LOCKVM_SHARED, true, true, true },
	{ "the first is alone, and fails", LOCKVM_ALONE, false, true, true },
	{ "the first charges nothing", LOCKVM_ANY_TIME, true, false, false },
};

static void turn_desc(const struct turn_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(turn, turns, turn_desc);

static void lockvm_turns(struct kunit *test)
{
	const struct turn_case *c = test->param_value;
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_pool pool;
	struct rival rival;

	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 10, 10));
	if (c->first != LOCKVM_ANY_TIME)
		KUNIT_ASSERT_EQ(test, 0,
				lockvm_pool_take_turn(&pool, c->first ==
						      LOCKVM_ALONE));
	rival_start(test, &rival, &owner, c->alone);
	KUNIT_EXPECT_EQ(test, c->waits, rival_waits(test, &rival));
	if (c->cancel)
		lockvm_pool_cancel(&pool);
	else
		lockvm_pool_close(&pool);
	KUNIT_EXPECT_TRUE(test, fake_wait_until(completion_done(&rival.asked)));
	KUNIT_EXPECT_EQ(test, 0, rival.ret);
	rival_end(&rival);
	KUNIT_EXPECT_TRUE(test, list_empty(&lockvm_mms));
}

/* Who waits for its turn can be killed, and holds up nobody after that. */
static void lockvm_turn_killed(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_pool pool, third;
	struct rival rival;
	unsigned int alone;

	for (alone = 0; alone < 2; alone++) {
		KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 1, 1));
		/* Whoever wants to be alone waits for one that shares. */
		KUNIT_ASSERT_EQ(test, 0, lockvm_pool_take_turn(&pool, !alone));
		rival_start(test, &rival, &owner, alone);
		KUNIT_EXPECT_TRUE(test, rival_waits(test, &rival));
		send_sig(SIGKILL, rival.thread.task, 1);
		KUNIT_EXPECT_TRUE(test, fake_wait_until(completion_done(&rival.asked)));
		KUNIT_EXPECT_EQ(test, -EINTR, rival.ret);
		KUNIT_EXPECT_EQ(test, (int)LOCKVM_ANY_TIME,
				(int)rival.pool.turn);
		rival_end(&rival);
		lockvm_pool_close(&pool);

		KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&third, &owner, 1, 1));
		KUNIT_EXPECT_EQ(test, 0, lockvm_pool_take_turn(&third, true));
		lockvm_pool_close(&third);
	}
}

/* ---- killed threads ---- */

/**
 * struct holder - a thread that holds a semaphore
 * @thread: the thread
 * @sem: the semaphore
 * @write: held for writing
 * @held: it has it
 * @end: completed when it may let go
 */
struct holder {
	struct fake_thread thread;
	struct rw_semaphore *sem;
	bool write;
	struct completion held;
	struct completion end;
};

static void holder_run(void *arg)
{
	struct holder *holder = arg;

	if (holder->write)
		down_write(holder->sem);
	else
		down_read(holder->sem);
	complete(&holder->held);
	wait_for_completion(&holder->end);
	if (holder->write)
		up_write(holder->sem);
	else
		up_read(holder->sem);
}

static void holder_start(struct holder *holder, struct rw_semaphore *sem,
			 bool write)
{
	holder->sem = sem;
	holder->write = write;
	init_completion(&holder->held);
	init_completion(&holder->end);
	fake_thread_start(&holder->thread, holder_run, holder);
	wait_for_completion(&holder->held);
}

static void holder_end(struct holder *holder)
{
	complete(&holder->end);
	fake_thread_join(&holder->thread);
}

/* Killed while others draw or recall: it gets nothing, and nothing is lost. */
static void lockvm_killed_waiting(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_pool pool, another;
	struct lockvm_cache cache;
	struct holder holder;
	unsigned int write;

	allow_signal(SIGKILL);
	fake->mm.limit = 100;
	for (write = 0; write < 2; write++) {
		KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 10,
							  1000));
		lockvm_cache_open(&cache, &pool);
		KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&cache, 30));
		holder_start(&holder, &pool.shared->sem, write);
		send_sig(SIGKILL, get_current(), 1);

		KUNIT_EXPECT_EQ(test, -EINTR, lockvm_pool_open(&another, &owner,
							       10, 10));
		/* Read by others, credit can still be drawn, but not recalled. */
		KUNIT_EXPECT_EQ(test, -EINTR,
				lockvm_cache_charge(&cache, write ? 11 : 71));
		KUNIT_EXPECT_EQ(test, -EINTR, lockvm_charge(&owner, 71));
		KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&cache, 10));
		KUNIT_EXPECT_EQ(test, write ? 0UL : 10UL,
				lockvm_cache_room(&cache, 512));

		flush_signals(get_current());
		holder_end(&holder);
		lockvm_pool_close(&pool);
		KUNIT_EXPECT_EQ(test, 40UL, pool.used);
		KUNIT_EXPECT_EQ(test, 40UL, fake->mm.locked);
		KUNIT_EXPECT_TRUE(test, list_empty(&lockvm_mms));
		lockvm_uncharge(&owner, pool.used);
	}
	KUNIT_EXPECT_EQ(test, 0U, lockvm_warnings);
	disallow_signal(SIGKILL);
}

/* A killed thread gets nothing, and what it has is given back. */
static void lockvm_cache_killed(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);
	struct lockvm_cache cache;
	struct lockvm_pool pool;

	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 10, 1000));
	lockvm_cache_open(&cache, &pool);
	KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&cache, 5));
	fake->killed = true;
	KUNIT_EXPECT_EQ(test, 0, lockvm_cache_charge(&cache, 10));
	KUNIT_EXPECT_EQ(test, -EINTR, lockvm_cache_charge(&cache, 1));
	KUNIT_EXPECT_EQ(test, 0UL, lockvm_cache_room(&cache, 100));
	lockvm_pool_close(&pool);
	KUNIT_EXPECT_EQ(test, 15UL, pool.used);
	lockvm_uncharge(&owner, pool.used);
}

/* ---- several threads ---- */

#define RACERS		4

struct racer {
	struct fake_thread thread;
	struct lockvm_cache cache;
	unsigned int seed;
	unsigned long used;
	unsigned long refused;
};

static void lockvm_racer(void *arg)
{
	struct racer *racer = arg;
	struct rnd_state rnd;
	unsigned int i, nr;

	prandom_seed_state(&rnd, racer->seed);
	for (i = 0; i < 500; i++) {
		nr = 1 + prandom_u32_state(&rnd) % 40;
		if (prandom_u32_state(&rnd) % 4 == 0 && racer->used >= nr) {
			lockvm_cache_uncharge(&racer->cache, nr);
			racer->used -= nr;
		} else if (lockvm_cache_charge(&racer->cache, nr)) {
			racer->refused++;
		} else {
			racer->used += nr;
		}
		cond_resched();
	}
}

static const struct race_case {
	const char *desc;
	unsigned int pools;
} races[] = {
	{ "one job", 1 },
	{ "two jobs", 2 },
	{ "a job each", RACERS },
};

static void race_desc(const struct race_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(race, races, race_desc);

static void lockvm_race(struct kunit *test)
{
	const struct race_case *c = test->param_value;
	struct lockvm_owner owner = fake_owner(false);
	unsigned long used = 0, refused = 0, in_pools = 0;
	struct lockvm_pool pool[RACERS];
	struct racer *racer;
	unsigned int i;

	racer = kunit_kcalloc(test, RACERS, sizeof(*racer), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, racer);
	fake->mm.limit = 4000;
	for (i = 0; i < c->pools; i++)
		KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool[i], &owner, 256,
							  100000));
	for (i = 0; i < RACERS; i++) {
		lockvm_cache_open(&racer[i].cache, &pool[i % c->pools]);
		racer[i].seed = i + 1;
	}
	for (i = 0; i < RACERS; i++)
		fake_thread_start(&racer[i].thread, lockvm_racer, &racer[i]);
	for (i = 0; i < RACERS; i++) {
		fake_thread_join(&racer[i].thread);
		used += racer[i].used;
		refused += racer[i].refused;
	}
	for (i = 0; i < c->pools; i++) {
		lockvm_pool_close(&pool[i]);
		in_pools += pool[i].used;
	}
	KUNIT_EXPECT_EQ(test, used, in_pools);
	KUNIT_EXPECT_EQ(test, used, fake->mm.locked);
	KUNIT_EXPECT_LE(test, fake->mm.highest, fake->mm.limit);
	/* The limit was reached: else this would have tested little. */
	KUNIT_EXPECT_GT(test, refused, 0UL);
	lockvm_uncharge(&owner, used);
}

static int lockvm_init(struct kunit *test)
{
	lockvm_warnings = 0;
	return fake_init(test);
}

/* What a case that was broken off has left must not get into the way of others. */
static void lockvm_exit(struct kunit *test)
{
	struct lockvm_mm *shared, *next;

	list_for_each_entry_safe(shared, next, &lockvm_mms, node) {
		fake_complain("a job has not ended");
		list_del(&shared->node);
		kfree(shared);
	}
	fake_exit(test);
}

static struct kunit_case lockvm_cases[] = {
	KUNIT_CASE_PARAM(lockvm_plain, plain_gen_params),
	KUNIT_CASE(lockvm_plain_again),
	KUNIT_CASE(lockvm_killed),
	KUNIT_CASE(lockvm_mm_gone),
	KUNIT_CASE_PARAM(lockvm_steps, cache_gen_params),
	KUNIT_CASE(lockvm_counted),
	KUNIT_CASE_PARAM(lockvm_exact, random_gen_params),
	KUNIT_CASE(lockvm_calls),
	KUNIT_CASE_PARAM(lockvm_room, room_gen_params),
	KUNIT_CASE(lockvm_two_pools),
	KUNIT_CASE(lockvm_two_mms),
	KUNIT_CASE(lockvm_open_no_memory),
	KUNIT_CASE_PARAM(lockvm_end, end_gen_params),
	KUNIT_CASE_PARAM(lockvm_crowded, crowd_gen_params),
	KUNIT_CASE(lockvm_crowded_plain),
	KUNIT_CASE_PARAM(lockvm_turns, turn_gen_params),
	KUNIT_CASE(lockvm_turn_killed),
	KUNIT_CASE(lockvm_killed_waiting),
	KUNIT_CASE(lockvm_cache_killed),
	KUNIT_CASE_PARAM(lockvm_race, race_gen_params),
	{ }
};

static struct kunit_suite lockvm_suite = {
	.name = "vfio_mt_lockvm_cache",
	.init = lockvm_init,
	.exit = lockvm_exit,
	.test_cases = lockvm_cases,
};

kunit_test_suite(lockvm_suite);
