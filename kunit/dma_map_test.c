// SPDX-License-Identifier: GPL-2.0-only
/*
 * dma_map_test.c - mappings by address, and calls that wait for each other
 *
 * Which calls wait, for what, and who gets its turn first. The threads that wait
 * are real ones, and do so without end: whoever is not woken is noticed.
 */
#include "seam.h"

/* Those of this unit; what fake_maps.c has by these names is for others. */
#define dma_map_first		real_dma_map_first
#define dma_map_next		real_dma_map_next
#define dma_map_lock		real_dma_map_lock
#define dma_map_lock_now	real_dma_map_lock_now
#define dma_map_unlock		real_dma_map_unlock
#define dma_map_add_domain	real_dma_map_add_domain
#define dma_map_drop_domains	real_dma_map_drop_domains
#define dma_map_remove_all	real_dma_map_remove_all
#include "fake_maps.h"

#define schedule_timeout(timeout) \
	schedule_timeout((timeout) ? MAX_SCHEDULE_TIMEOUT : 0)
#undef pr_fmt
#include "../dma_map.c"
#undef schedule_timeout

/* ---- external.c: no device pins anything here ---- */

unsigned long external_charged(void *arg, unsigned long offset,
			       unsigned long nr)
{
	fake_complain("a device is asked what it has pinned");
	return 0;
}

void external_notify_unmap(struct backend *backend, u64 iova, u64 size)
{
	fake_complain("a device is told of an unmap");
}

void external_drop_all(struct dma_map *map)
{
	fake_complain("a device's pages are dropped");
}

/* ---- the tree ---- */

static struct dma_map *wait_add_map(struct kunit *test, struct backend *backend,
				    u64 iova, u64 size,
				    enum dma_map_state state)
{
	struct dma_map *map = kunit_kzalloc(test, sizeof(*map), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, map);
	map->iova = iova;
	map->size = size;
	map->state = state;
	dma_map_insert(backend, map);
	return map;
}

/* Mappings at 2 and 6 MiB, and at the end of 64 bits; -1: none */
static const u64 tree_iovas[] = { MB(2), MB(6), -MB(2) };

static const struct tree_case {
	const char *desc;
	u64 from;
	u64 last;
	int first;
	int next;
} trees[] = {
	{ "everything", 0, U64_MAX, 0, 1 },
	{ "in front of all", 0, MB(2) - 1, -1, -1 },
	{ "the first address", 0, MB(2), 0, -1 },
	{ "the last address", MB(4) - 1, MB(5), 0, -1 },
	{ "between two", MB(4), MB(6) - 1, -1, -1 },
	{ "from within one into the next", MB(3), MB(6), 0, 1 },
	{ "up to the next, and not into it", MB(3), MB(6) - 1, 0, -1 },
	{ "the last two", MB(4), U64_MAX, 1, 2 },
	{ "up to the last", MB(8), -MB(2) - 1, -1, -1 },
	{ "the last address of 64 bits", U64_MAX, U64_MAX, 2, -1 },
};

static void tree_desc(const struct tree_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(tree, trees, tree_desc);

static void wait_tree(struct kunit *test)
{
	const struct tree_case *c = test->param_value;
	struct backend *backend = &fake_maps_create(test)->backend;
	struct dma_map *map[ARRAY_SIZE(tree_iovas)], *first;
	unsigned int i;

	/* The order in which they are made does not matter. */
	for (i = ARRAY_SIZE(tree_iovas); i-- > 0;)
		map[i] = wait_add_map(test, backend, tree_iovas[i], MB(2),
				      DMA_MAP_LIVE);
	first = dma_map_first(backend, c->from, c->last);
	KUNIT_EXPECT_PTR_EQ(test, c->first < 0 ? NULL : map[c->first], first);
	if (first)
		KUNIT_EXPECT_PTR_EQ(test, c->next < 0 ? NULL : map[c->next],
				    dma_map_next(first, c->last));
}

/* ---- what is waited for ---- */

static const struct busy_case {
	const char *desc;
	u64 iova;		/* of a mapping of 2 MiB */
	enum dma_map_state state;
	bool reserved;		/* no mapping: its place is reserved */
	bool all;		/* and so is everything */
	u64 from;
	u64 last;
	bool busy;
	bool busy_for_device;
} busys[] = {
	{ "live", MB(2), DMA_MAP_LIVE, false, false, 0, U64_MAX, false, false },
	{ "being mapped", MB(2), DMA_MAP_MAPPING, false, false, 0, U64_MAX,
	  true, true },
	{ "being mapped, the first address", MB(2), DMA_MAP_MAPPING, false,
	  false, 0, MB(2), true, true },
	{ "being mapped, behind it", MB(2), DMA_MAP_MAPPING, false, false,
	  MB(4), U64_MAX, false, false },
	{ "being mapped, nothing wanted", MB(2), DMA_MAP_MAPPING, false, false,
	  1, 0, false, false },
	{ "being unmapped", MB(2), DMA_MAP_UNMAPPING, false, false, 0, U64_MAX,
	  true, false },
	{ "reserved", MB(2), DMA_MAP_LIVE, true, false, MB(3), MB(3), true,
	  false },
	{ "reserved, in front of it", MB(2), DMA_MAP_LIVE, true, false, 0,
	  MB(2) - 1, false, false },
	{ "reserved, behind it", MB(2), DMA_MAP_LIVE, true, false, MB(4),
	  U64_MAX, false, false },
	{ "everything reserved", 0, DMA_MAP_LIVE, true, true, U64_MAX, U64_MAX,
	  true, false },
	{ "the end of 64 bits reserved", -MB(2), DMA_MAP_LIVE, true, false,
	  U64_MAX, U64_MAX, true, false },
};

static void busy_desc(const struct busy_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(busy, busys, busy_desc);

static void wait_busy(struct kunit *test)
{
	const struct busy_case *c = test->param_value;
	struct backend *backend = &fake_maps_create(test)->backend;
	struct dma_unmap unmap = {
		.iova = c->iova,
		.size = c->all ? 0 : MB(2),
		.all = c->all,
	};

	if (c->reserved)
		list_add(&unmap.node, &backend->unmaps);
	else
		wait_add_map(test, backend, c->iova, MB(2), c->state);
	KUNIT_EXPECT_EQ(test, c->busy,
			dma_map_busy(backend, c->from, c->last, false));
	KUNIT_EXPECT_EQ(test, c->busy_for_device,
			dma_map_busy(backend, c->from, c->last, true));
}

/* ---- turns ---- */

/* What is being mapped while others come. */
#define WAIT_IOVA	MB(2)
#define WAIT_SIZE	MB(2)

/**
 * struct waiter - a thread that locks a container
 * @thread: the thread
 * @backend: the container
 * @from: first address that it needs
 * @last: last address
 * @device: it asks for a device
 * @ret: what became of it
 * @turn: the how-manieth it was to get the lock
 * @done: completed when it has had the lock, or been refused
 */
struct waiter {
	struct fake_thread thread;
	struct backend *backend;
	u64 from;
	u64 last;
	bool device;
	int ret;
	unsigned int turn;
	struct completion done;
};

/* Protected by the container's lock. */
static unsigned int wait_turns;

static void waiter_run(void *arg)
{
	struct waiter *waiter = arg;

	waiter->ret = dma_map_lock(waiter->backend, waiter->from, waiter->last,
				   waiter->device);
	if (!waiter->ret) {
		waiter->turn = ++wait_turns;
		dma_map_unlock(waiter->backend);
	}
	complete(&waiter->done);
}

static unsigned int wait_queued(struct backend *backend)
{
	struct list_head *node;
	unsigned int nr = 0;

	mutex_lock(&backend->lock);
	list_for_each(node, &backend->waits)
		nr++;
	mutex_unlock(&backend->lock);
	return nr;
}

/* Start a thread. Returns whether it has to wait, as all do that came before. */
static bool waiter_start(struct kunit *test, struct waiter *waiter)
{
	unsigned int before = wait_queued(waiter->backend);

	init_completion(&waiter->done);
	fake_thread_start(&waiter->thread, waiter_run, waiter);
	KUNIT_EXPECT_TRUE(test,
			  fake_wait_until(completion_done(&waiter->done) ||
					  wait_queued(waiter->backend) > before));
	return !completion_done(&waiter->done);
}

/* It has had its turn, and ends. */
static void waiter_end(struct kunit *test, struct waiter *waiter, int ret)
{
	KUNIT_EXPECT_TRUE(test, fake_wait_until(completion_done(&waiter->done)));
	if (!completion_done(&waiter->done)) {
		/* Nobody wakes it: it would wait forever. */
		send_sig(SIGKILL, waiter->thread.task, 1);
		fake_thread_join(&waiter->thread);
		return;
	}
	fake_thread_join(&waiter->thread);
	KUNIT_EXPECT_EQ(test, ret, waiter->ret);
}

/* A container in which something is being mapped. */
static struct backend *wait_container(struct kunit *test, struct dma_map **map)
{
	struct backend *backend = &fake_maps_create(test)->backend;

	wait_turns = 0;
	*map = wait_add_map(test, backend, WAIT_IOVA, WAIT_SIZE,
			    DMA_MAP_MAPPING);
	return backend;
}

/* It is mapped, as at the end of dma_map_create(). */
static void wait_mapped(struct backend *backend, struct dma_map *map)
{
	mutex_lock(&backend->lock);
	map->state = DMA_MAP_LIVE;
	wake_up_all(&backend->wait);
	mutex_unlock(&backend->lock);
}

static const struct pair_case {
	const char *desc;
	u64 from;		/* needed by the first, which waits */
	u64 last;
	u64 from2;		/* by the second: nothing that is being mapped */
	u64 last2;
	bool device;		/* the second */
	bool waits;
} pairs[] = {
	{ "all, and a part", 0, U64_MAX, MB(8), MB(10) - 1, false, true },
	{ "all, and the last address", 0, U64_MAX, U64_MAX, U64_MAX, false,
	  true },
	{ "all, and nothing", 0, U64_MAX, 1, 0, false, false },
	{ "all, and a device", 0, U64_MAX, MB(8), MB(10) - 1, true, false },
	{ "one address in common, behind", MB(2), MB(6), MB(6), MB(8) - 1,
	  false, true },
	{ "next to each other, behind", MB(2), MB(6) - 1, MB(6), MB(8) - 1,
	  false, false },
	{ "one address in common, in front", MB(1), MB(4) - 1, 0, MB(1), false,
	  true },
	{ "next to each other, in front", MB(1), MB(4) - 1, 0, MB(1) - 1,
	  false, false },
	{ "one within the other", MB(2), MB(10) - 1, MB(5), MB(6) - 1, false,
	  true },
};

static void pair_desc(const struct pair_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(pair, pairs, pair_desc);

/* Who comes later does not overtake a call that needs the same addresses. */
static void wait_pair(struct kunit *test)
{
	const struct pair_case *c = test->param_value;
	struct waiter first = { .from = c->from, .last = c->last };
	struct waiter second = {
		.from = c->from2,
		.last = c->last2,
		.device = c->device,
	};
	struct dma_map *map;

	first.backend = wait_container(test, &map);
	second.backend = first.backend;
	KUNIT_EXPECT_TRUE(test, waiter_start(test, &first));
	KUNIT_EXPECT_EQ(test, c->waits, waiter_start(test, &second));
	wait_mapped(first.backend, map);
	waiter_end(test, &first, 0);
	waiter_end(test, &second, 0);
	KUNIT_EXPECT_EQ(test, c->waits ? 1U : 2U, first.turn);
	KUNIT_EXPECT_EQ(test, c->waits ? 2U : 1U, second.turn);
	KUNIT_EXPECT_TRUE(test, list_empty(&first.backend->waits));
}

#define WAITERS	4

static const struct order_case {
	const char *desc;
	u64 from[WAITERS];
	u64 last[WAITERS];
} orders[] = {
	{ "all of them all", { }, { U64_MAX, U64_MAX, U64_MAX, U64_MAX } },
	{ "parts, and then all", { MB(2), MB(3), MB(2), 0 },
	  { MB(4), MB(4), MB(3), U64_MAX } },
	{ "each the end of the one before", { MB(3), MB(6), MB(8), MB(10) },
	  { MB(6), MB(8), MB(10), MB(12) } },
};

static void order_desc(const struct order_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(order, orders, order_desc);

/* They get their turns in the order in which they came. */
static void wait_order(struct kunit *test)
{
	const struct order_case *c = test->param_value;
	struct waiter waiter[WAITERS] = { };
	struct backend *backend;
	struct dma_map *map;
	unsigned int i;

	backend = wait_container(test, &map);
	for (i = 0; i < WAITERS; i++) {
		waiter[i].backend = backend;
		waiter[i].from = c->from[i];
		waiter[i].last = c->last[i];
		KUNIT_EXPECT_TRUE(test, waiter_start(test, &waiter[i]));
	}
	KUNIT_EXPECT_EQ(test, (unsigned int)WAITERS, wait_queued(backend));
	wait_mapped(backend, map);
	for (i = 0; i < WAITERS; i++) {
		waiter_end(test, &waiter[i], 0);
		KUNIT_EXPECT_EQ(test, i + 1, waiter[i].turn);
	}
	KUNIT_EXPECT_TRUE(test, list_empty(&backend->waits));
}

/* Who is killed while it waits is waited for by nobody any more. */
static void wait_killed(struct kunit *test)
{
	struct waiter first = { .last = U64_MAX };
	struct waiter second = { .from = MB(8), .last = MB(10) - 1 };
	struct dma_map *map;

	first.backend = wait_container(test, &map);
	second.backend = first.backend;
	KUNIT_EXPECT_TRUE(test, waiter_start(test, &first));
	KUNIT_EXPECT_TRUE(test, waiter_start(test, &second));
	send_sig(SIGKILL, first.thread.task, 1);
	waiter_end(test, &first, -EINTR);
	/* The second one needs nothing that is being mapped. */
	waiter_end(test, &second, 0);
	KUNIT_EXPECT_EQ(test, 1U, second.turn);
	KUNIT_EXPECT_TRUE(test, list_empty(&first.backend->waits));
	wait_mapped(first.backend, map);
}

/* So is who is killed while a group is being attached, with the container locked. */
static void wait_killed_locked(struct kunit *test)
{
	struct waiter waiter = { .last = U64_MAX };
	struct dma_map *map;

	waiter.backend = wait_container(test, &map);
	KUNIT_EXPECT_TRUE(test, waiter_start(test, &waiter));
	down_write(&waiter.backend->domain_sem);
	wait_mapped(waiter.backend, map);
	KUNIT_EXPECT_TRUE(test, fake_wait_until(rwsem_is_contended(&waiter.backend->domain_sem)));
	send_sig(SIGKILL, waiter.thread.task, 1);
	waiter_end(test, &waiter, -EINTR);
	KUNIT_EXPECT_TRUE(test, list_empty(&waiter.backend->waits));
	up_write(&waiter.backend->domain_sem);
}

static struct kunit_case wait_cases[] = {
	KUNIT_CASE_PARAM(wait_tree, tree_gen_params),
	KUNIT_CASE_PARAM(wait_busy, busy_gen_params),
	KUNIT_CASE_PARAM(wait_pair, pair_gen_params),
	KUNIT_CASE_PARAM(wait_order, order_gen_params),
	KUNIT_CASE(wait_killed),
	KUNIT_CASE(wait_killed_locked),
	{ }
};

static struct kunit_suite wait_suite = {
	.name = "vfio_mt_dma_map",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = wait_cases,
};

kunit_test_suite(wait_suite);
