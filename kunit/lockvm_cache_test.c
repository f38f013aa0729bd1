// SPDX-License-Identifier: GPL-2.0-only
/*
 * lockvm_cache_test.c - locked memory is charged in batches, and exactly
 *
 * Exactly: a charge is refused if and only if what is in use, and it, exceed the
 * limit, whatever the caches have drawn.
 */
#include <linux/prandom.h>

#include "seam.h"
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
	lockvm_uncharge(&owner, fake->mm.locked);
	KUNIT_EXPECT_EQ(test, 0UL, fake->mm.locked);
}

static void lockvm_killed(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);

	KUNIT_ASSERT_EQ(test, 0, lockvm_charge(&owner, 3));
	fake->killed = true;
	KUNIT_EXPECT_EQ(test, -EINTR, lockvm_charge(&owner, 1));
	/* What was charged is given back all the same. */
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
	struct lockvm_cache cache;
	struct completion done;
	unsigned int seed;
	unsigned long used;
	unsigned long refused;
};

static int lockvm_racer(void *arg)
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
	complete(&racer->done);
	return 0;
}

static void lockvm_race(struct kunit *test)
{
	struct lockvm_owner owner = fake_owner(false);
	unsigned long used = 0, refused = 0;
	struct racer *racer;
	struct lockvm_pool pool;
	unsigned int i;

	racer = kunit_kcalloc(test, RACERS, sizeof(*racer), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, racer);
	fake->mm.limit = 4000;
	KUNIT_ASSERT_EQ(test, 0, lockvm_pool_open(&pool, &owner, 256, 100000));
	for (i = 0; i < RACERS; i++) {
		lockvm_cache_open(&racer[i].cache, &pool);
		init_completion(&racer[i].done);
		racer[i].seed = i + 1;
	}
	for (i = 0; i < RACERS; i++)
		if (IS_ERR(kthread_run(lockvm_racer, &racer[i], "racer")))
			complete(&racer[i].done);
	for (i = 0; i < RACERS; i++) {
		wait_for_completion(&racer[i].done);
		used += racer[i].used;
		refused += racer[i].refused;
	}
	lockvm_pool_close(&pool);
	KUNIT_EXPECT_EQ(test, used, pool.used);
	KUNIT_EXPECT_EQ(test, used, fake->mm.locked);
	KUNIT_EXPECT_LE(test, fake->mm.highest, fake->mm.limit);
	/* The limit was reached: else this would have tested little. */
	KUNIT_EXPECT_GT(test, refused, 0UL);
	lockvm_uncharge(&owner, used);
}

static struct kunit_case lockvm_cases[] = {
	KUNIT_CASE_PARAM(lockvm_plain, plain_gen_params),
	KUNIT_CASE(lockvm_killed),
	KUNIT_CASE(lockvm_mm_gone),
	KUNIT_CASE_PARAM(lockvm_steps, cache_gen_params),
	KUNIT_CASE_PARAM(lockvm_exact, random_gen_params),
	KUNIT_CASE(lockvm_calls),
	KUNIT_CASE_PARAM(lockvm_room, room_gen_params),
	KUNIT_CASE(lockvm_two_pools),
	KUNIT_CASE(lockvm_two_mms),
	KUNIT_CASE(lockvm_open_no_memory),
	KUNIT_CASE(lockvm_cache_killed),
	KUNIT_CASE(lockvm_race),
	{ }
};

static struct kunit_suite lockvm_suite = {
	.name = "vfio_mt_lockvm_cache",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = lockvm_cases,
};

kunit_test_suite(lockvm_suite);
