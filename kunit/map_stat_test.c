// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_stat_test.c - counters add up, and a long map is explained if it can be
 *
 * The other suites count here as well, so it is differences that are looked at.
 */
#include <kunit/test.h>

#include "fake.h"
#undef pr_fmt
#include "../map_stat.c"

/* ---- counters ---- */

/* What was counted since @before. */
static struct map_stats stat_since(const struct map_stats *before)
{
	struct map_stats now;
	u64 *to = (u64 *)&now;
	const u64 *from = (const u64 *)before;
	unsigned int i;

	map_stat_read(&now);
	for (i = 0; i < sizeof(now) / sizeof(u64); i++)
		to[i] -= from[i];
	return now;
}

/* A sum in which each number occurs once. */
static struct map_stat_sum stat_sum(void)
{
	return (struct map_stat_sum){
		.size = SZ_1M,
		.ns = 1000,
		.planned = 8,
		.threads = 4,
		.ptes = 11,
		.pins = {
			.pmds = 12,
			.puds = 13,
			.unheld = 14,
			.fallbacks = { 20, 21, 22, 23, 24, 25, 26 },
		},
	};
}

static void stat_expect_pins(struct kunit *test, const struct map_stats *got,
			     unsigned int times)
{
	unsigned int i;

	KUNIT_EXPECT_EQ(test, 11 * times, got->ptes);
	KUNIT_EXPECT_EQ(test, 12UL * times, got->pins.pmds);
	KUNIT_EXPECT_EQ(test, 13UL * times, got->pins.puds);
	KUNIT_EXPECT_EQ(test, 14UL * times, got->pins.unheld);
	for (i = 0; i < MAP_FALLBACKS; i++)
		KUNIT_EXPECT_EQ(test, (20UL + i) * times,
				got->pins.fallbacks[i]);
}

static void stat_maps(struct kunit *test)
{
	struct map_stat_sum sum = stat_sum();
	struct map_stats before, got;

	map_stat_read(&before);
	map_stat_map(&sum, 0);
	map_stat_map(&sum, 0);
	got = stat_since(&before);
	KUNIT_EXPECT_EQ(test, 2, got.maps);
	KUNIT_EXPECT_EQ(test, 2000, got.map_ns);
	KUNIT_EXPECT_EQ(test, 6, got.helpers);
	KUNIT_EXPECT_EQ(test, 0, got.failures);
	KUNIT_EXPECT_EQ(test, 0, got.copies);
	stat_expect_pins(test, &got, 2);
}

/* What failed took its time, and has pinned nothing. */
static void stat_failures(struct kunit *test)
{
	struct map_stat_sum sum = stat_sum();
	struct map_stats before, got;

	map_stat_read(&before);
	map_stat_map(&sum, -ENOMEM);
	map_stat_map(&sum, -EINTR);
	map_stat_copy(&sum, -EIO);
	got = stat_since(&before);
	KUNIT_EXPECT_EQ(test, 0, got.maps);
	KUNIT_EXPECT_EQ(test, 0, got.copies);
	KUNIT_EXPECT_EQ(test, 3, got.failures);
	KUNIT_EXPECT_EQ(test, 1, got.aborts);
	KUNIT_EXPECT_EQ(test, 2000, got.map_ns);
	KUNIT_EXPECT_EQ(test, 1000, got.copy_ns);
	stat_expect_pins(test, &got, 0);
}

/* A copy pins nothing. */
static void stat_copies_and_unmaps(struct kunit *test)
{
	struct map_stat_sum sum = stat_sum();
	struct map_stats before, got;

	map_stat_read(&before);
	map_stat_copy(&sum, 0);
	map_stat_unmap(3, 500);
	map_stat_unmap(1, 50);
	/* One that failed before any thread could work on it */
	sum.threads = 0;
	map_stat_map(&sum, -ENOMEM);
	got = stat_since(&before);
	KUNIT_EXPECT_EQ(test, 1, got.copies);
	KUNIT_EXPECT_EQ(test, 1000, got.copy_ns);
	KUNIT_EXPECT_EQ(test, 2, got.unmaps);
	KUNIT_EXPECT_EQ(test, 550, got.unmap_ns);
	KUNIT_EXPECT_EQ(test, 3 + 2, got.helpers);
	stat_expect_pins(test, &got, 0);
}

static void stat_items(struct kunit *test)
{
	struct map_stats before, got;
	unsigned int i;

	map_stat_read(&before);
	for (i = 0; i < MAP_STAT_ITEMS; i++)
		map_stat_add(i, i + 1);
	got = stat_since(&before);
	for (i = 0; i < MAP_STAT_ITEMS; i++)
		KUNIT_EXPECT_EQ(test, i + 1, got.items[i]);
}

static void stat_pins_add(struct kunit *test)
{
	struct map_stat_sum sum = stat_sum();
	struct map_stats got = { };

	got.ptes = 33;
	map_stat_pins_add(&got.pins, &sum.pins);
	map_stat_pins_add(&got.pins, &sum.pins);
	map_stat_pins_add(&got.pins, &sum.pins);
	stat_expect_pins(test, &got, 3);
}

/* Wherever it is counted, it is counted once. */
static void stat_other_cpu(struct kunit *test)
{
	struct map_stats before, got;
	unsigned int cpu;

	map_stat_read(&before);
	for_each_online_cpu(cpu) {
		set_cpus_allowed_ptr(get_current(), cpumask_of(cpu));
		map_stat_unmap(1, 1);
	}
	set_cpus_allowed_ptr(get_current(), cpu_possible_mask);
	got = stat_since(&before);
	KUNIT_EXPECT_EQ(test, num_online_cpus(), (unsigned int)got.unmaps);
}

/* ---- why it took long ---- */

#define SECOND	NSEC_PER_SEC
#define GIB	(SZ_1G / PAGE_SIZE)

static const struct slow_case {
	const char *desc;
	u64 ns;
	unsigned long pages;
	unsigned long ptes;
	bool throttled;
	bool few_cpus;
	enum map_stat_slow slow;
	bool leaves_off;
} slows[] = {
	{ "quick, of small pages", SECOND, GIB, GIB, true, true,
	  MAP_STAT_NOT_SLOW },
	{ "a second, of small pages", SECOND + 1, GIB, GIB, false, false,
	  MAP_STAT_SMALL_PAGES },
	{ "too small for that to be the reason", 2 * SECOND, GIB - 1, GIB - 1,
	  false, false, MAP_STAT_NOT_SLOW },
	{ "half of it huge", 2 * SECOND, GIB, GIB / 2, false, false,
	  MAP_STAT_NOT_SLOW },
	{ "less than half of it huge", 2 * SECOND, GIB, GIB / 2 + 1, false,
	  false, MAP_STAT_SMALL_PAGES },
	{ "huge pages, few CPUs", 2 * SECOND, GIB, 0, false, true,
	  MAP_STAT_FEW_CPUS },
	{ "small pages come first", 2 * SECOND, GIB, GIB, false, true,
	  MAP_STAT_SMALL_PAGES },
	{ "huge pages are not wanted", 2 * SECOND, GIB, GIB, false, true,
	  MAP_STAT_LEAVES_OFF, .leaves_off = true },
	{ "not wanted, though there are none", 2 * SECOND, GIB - 1, GIB - 1,
	  false, true, MAP_STAT_FEW_CPUS, .leaves_off = true },
	{ "a limit of memory even more so", 2 * SECOND, GIB, GIB, true, true,
	  MAP_STAT_THROTTLED },
	{ "a limit of memory, however small", 2 * SECOND, 1, 1, true, false,
	  MAP_STAT_THROTTLED },
	{ "no reason", 20 * SECOND, 64 * GIB, 0, false, false,
	  MAP_STAT_NOT_SLOW },
};

static void slow_desc(const struct slow_case *c, char *desc)
{
	strscpy(desc, c->desc, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(slow, slows, slow_desc);

static void stat_slow(struct kunit *test)
{
	const struct slow_case *c = test->param_value;
	struct map_stat_sum sum = {
		.size = c->pages << PAGE_SHIFT,
		.ns = c->ns,
		.ptes = c->ptes,
		.pins.fallbacks[MAP_FALLBACK_OFF] = c->leaves_off,
	};

	KUNIT_EXPECT_EQ(test, c->slow,
			map_stat_why_slow(&sum, c->throttled, c->few_cpus));
}

/* ---- what is seen ---- */

static void stat_notes(struct kunit *test)
{
	struct map_stat_sum sum = stat_sum();
	u64 noted = map_stat_noted;
	unsigned int i;

	/* Small ones push nothing out. */
	sum.size = MAP_STAT_NOTED - 1;
	map_stat_map(&sum, 0);
	KUNIT_EXPECT_EQ(test, noted, map_stat_noted);
	for (i = 0; i < MAP_STAT_LAST + 3; i++) {
		sum.size = MAP_STAT_NOTED + i;
		map_stat_map(&sum, i % 2 ? -EFAULT : 0);
		KUNIT_EXPECT_EQ(test, sum.size, map_stat_last().size);
	}
	KUNIT_EXPECT_EQ(test, noted + i, map_stat_noted);
}

static char *stat_text(struct kunit *test,
		       int (*show)(struct seq_file *s, void *unused))
{
	struct seq_file s = { .size = PAGE_SIZE };

	/* One more, for the end. */
	s.buf = kunit_kzalloc(test, s.size + 1, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, s.buf);
	KUNIT_ASSERT_EQ(test, 0, show(&s, NULL));
	KUNIT_ASSERT_LT(test, s.count, s.size);
	return s.buf;
}

/* A name and a number a line. */
static void stat_text_stats(struct kunit *test)
{
	unsigned long long value;
	unsigned int lines = 0;
	struct map_stats all;
	char *text, *line;
	char name[32];

	map_stat_unmap(1, 1);
	map_stat_read(&all);
	text = stat_text(test, stats_show);
	while ((line = strsep(&text, "\n")) && *line) {
		KUNIT_ASSERT_EQ_MSG(test, 2,
				    sscanf(line, "%31s %llu", name, &value),
				    "%s", line);
		if (!strcmp(name, "unmaps"))
			KUNIT_EXPECT_EQ(test, all.unmaps, value);
		lines++;
	}
	KUNIT_EXPECT_EQ(test, 26U, lines);
}

/* The last maps, the oldest one first, and no more than there is room for. */
static void stat_text_maps(struct kunit *test)
{
	unsigned long long ago, ns, before = ULLONG_MAX;
	struct map_stat_sum sum = stat_sum();
	unsigned long size, pte, pmd, pud;
	unsigned int lines = 0, threads;
	char *text, *line;
	int error = 0, i;

	for (i = 0; i < MAP_STAT_LAST + 3; i++) {
		sum.size = MAP_STAT_NOTED + i;
		map_stat_map(&sum, -i);
	}
	text = stat_text(test, maps_show);
	line = strsep(&text, "\n");
	KUNIT_EXPECT_EQ(test, '#', line[0]);
	while ((line = strsep(&text, "\n")) && *line) {
		KUNIT_ASSERT_EQ_MSG(test, 8,
				    sscanf(line,
					   "%llu %lu %llu %u %lu %lu %lu %d",
					   &ago, &size, &ns, &threads, &pte,
					   &pmd, &pud, &error), "%s", line);
		KUNIT_EXPECT_LE(test, ago, before);
		before = ago;
		KUNIT_EXPECT_EQ(test, MAP_STAT_NOTED + 3UL + lines, size);
		KUNIT_EXPECT_EQ(test, -3 - (int)lines, error);
		KUNIT_EXPECT_EQ(test, 1000ULL, ns);
		KUNIT_EXPECT_EQ(test, 4U, threads);
		KUNIT_EXPECT_EQ(test, 11 * PAGE_SIZE, pte);
		KUNIT_EXPECT_EQ(test, 12 * PMD_SIZE, pmd);
		KUNIT_EXPECT_EQ(test, 13 * PUD_SIZE, pud);
		lines++;
	}
	KUNIT_EXPECT_EQ(test, (unsigned int)MAP_STAT_LAST, lines);
}

static int stat_end(void *unused)
{
	return 0;
}

static struct pid *stat_ended_pid(struct kunit *test)
{
	/* Not begun: it would be gone before it is held on to. */
	struct task_struct *task = kthread_create(stat_end, NULL, "stat_end");
	struct pid *pid;

	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
	get_task_struct(task);
	pid = get_pid(task_tgid(task));
	kthread_stop(task);
	put_task_struct(task);
	KUNIT_EXPECT_TRUE(test, fake_wait_until(!pid_has_task(pid, PIDTYPE_TGID)));
	return pid;
}

/* A container a line, of whoever has set it up. */
static void stat_text_containers(struct kunit *test)
{
	struct map_stat_user users[3];
	char want[64];
	int pid = task_tgid_nr(get_current());
	struct pid *gone;
	unsigned int i;

	KUNIT_EXPECT_STREQ(test, "# pid\n", stat_text(test, containers_show));
	for (i = 0; i < ARRAY_SIZE(users); i++)
		map_stat_user_add(&users[i]);
	snprintf(want, sizeof(want), "# pid\n%d\n%d\n%d\n", pid, pid, pid);
	KUNIT_EXPECT_STREQ(test, want, stat_text(test, containers_show));
	map_stat_user_remove(&users[0]);

	/* One that has ended. */
	gone = stat_ended_pid(test);
	swap(users[1].pid, gone);
	snprintf(want, sizeof(want), "# pid\n0\n%d\n", pid);
	KUNIT_EXPECT_STREQ(test, want, stat_text(test, containers_show));
	swap(users[1].pid, gone);
	put_pid(gone);

	map_stat_user_remove(&users[2]);
	map_stat_user_remove(&users[1]);
	KUNIT_EXPECT_STREQ(test, "# pid\n", stat_text(test, containers_show));
}

static struct kunit_case stat_cases[] = {
	KUNIT_CASE(stat_maps),
	KUNIT_CASE(stat_failures),
	KUNIT_CASE(stat_copies_and_unmaps),
	KUNIT_CASE(stat_items),
	KUNIT_CASE(stat_pins_add),
	KUNIT_CASE(stat_other_cpu),
	KUNIT_CASE_PARAM(stat_slow, slow_gen_params),
	KUNIT_CASE(stat_notes),
	KUNIT_CASE(stat_text_stats),
	KUNIT_CASE(stat_text_maps),
	KUNIT_CASE(stat_text_containers),
	{ }
};

static struct kunit_suite stat_suite = {
	.name = "vfio_mt_map_stat",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = stat_cases,
};

kunit_test_suite(stat_suite);
