// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_stat.c - counts what is done, and tells why it took long
 *
 * Threads count in plain fields of their own (struct map_stat_pins). These are
 * summed up when a map is over, and only then added to the counters that all
 * maps share, of which each CPU has its own. So nothing shared is written to for
 * a page, a leaf or a chunk, and what a map that failed had pinned meanwhile
 * counts nowhere.
 *
 * The counters are read in debugfs, and start from 0 when the module is loaded:
 *
 *	vfio_mt/stats	all of them, a name and a value a line
 *	vfio_mt/maps	the last maps that were not small
 *	vfio_mt/containers
 *			who has set up the containers that there are
 *
 * Without debugfs they are merely not seen.
 *
 * Context: any, but for loading and unloading, and for containers that come and go.
 * Locking: map_stat_lock protects the list of the last maps. It is taken once for
 *    a map of MAP_STAT_NOTED bytes or more, and for none that is smaller: a
 *    virtual IOMMU maps single pages a lot. map_stat_users_lock protects the list of
 *    containers.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/list.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/pgtable.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "include/compat.h"
#include "include/map_stat.h"

#define CREATE_TRACE_POINTS
#include "include/vfio_mt_trace.h"

/* Smaller maps are not noted: they would push out those that take time. */
#define MAP_STAT_NOTED		SZ_16M

/* So many maps are. */
#define MAP_STAT_LAST		16

/* Small pages are no reason why a map takes a second, if it is smaller. */
#define MAP_STAT_BIG		SZ_1G

/**
 * struct map_stats - all counters, of one CPU
 * @maps: maps that succeeded
 * @copies: copies into another domain that did
 * @unmaps: mappings that were unmapped
 * @failures: maps and copies that failed after they had begun
 * @aborts: as many of these because of a fatal signal
 * @ptes: pages pinned one by one
 * @pins: what else was pinned
 * @helpers: threads that helped, in all calls
 * @map_ns: time that maps took, also those that failed
 * @copy_ns: likewise copies
 * @unmap_ns: likewise unmaps
 * @items: by enum map_stat_item
 */
struct map_stats {
	u64 maps;
	u64 copies;
	u64 unmaps;
	u64 failures;
	u64 aborts;
	u64 ptes;
	struct map_stat_pins pins;
	u64 helpers;
	u64 map_ns;
	u64 copy_ns;
	u64 unmap_ns;
	u64 items[MAP_STAT_ITEMS];
};

static DEFINE_PER_CPU(struct map_stats, map_stats);

/**
 * struct map_stat_note - a map that is over
 * @sum: what it was
 * @end: when that was, in nanoseconds since the machine was started
 * @error: how it ended
 */
struct map_stat_note {
	struct map_stat_sum sum;
	u64 end;
	int error;
};

static DEFINE_SPINLOCK(map_stat_lock);
static struct map_stat_note map_stat_notes[MAP_STAT_LAST];
/* How many there were: the next one's place, modulo MAP_STAT_LAST. */
static u64 map_stat_noted;

static struct dentry *map_stat_dir;

/**
 * map_stat_add - count something
 * @item: what
 * @nr: how often
 *
 * Context: Any.
 */
void map_stat_add(enum map_stat_item item, u64 nr)
{
	this_cpu_add(map_stats.items[item], nr);
}

/**
 * map_stat_pins_add - add what a thread has pinned to what others have
 * @sum: the sum
 * @more: what it has pinned
 *
 * Context: Any.
 */
void map_stat_pins_add(struct map_stat_pins *sum,
		       const struct map_stat_pins *more)
{
	unsigned int i;

	sum->pmds += more->pmds;
	sum->puds += more->puds;
	sum->unheld += more->unheld;
	for (i = 0; i < MAP_FALLBACKS; i++)
		sum->fallbacks[i] += more->fallbacks[i];
}

static void map_stat_add_pins(const struct map_stat_sum *sum)
{
	const struct map_stat_pins *pins = &sum->pins;
	unsigned int i;

	this_cpu_add(map_stats.ptes, sum->ptes);
	this_cpu_add(map_stats.pins.pmds, pins->pmds);
	this_cpu_add(map_stats.pins.puds, pins->puds);
	this_cpu_add(map_stats.pins.unheld, pins->unheld);
	for (i = 0; i < MAP_FALLBACKS; i++)
		this_cpu_add(map_stats.pins.fallbacks[i], pins->fallbacks[i]);
}

static void map_stat_add_error(int error)
{
	this_cpu_inc(map_stats.failures);
	if (error == -EINTR)
		this_cpu_inc(map_stats.aborts);
}

static void map_stat_add_threads(unsigned int threads)
{
	if (threads > 1)
		this_cpu_add(map_stats.helpers, threads - 1);
}

static void map_stat_note(const struct map_stat_sum *sum, int error)
{
	struct map_stat_note note = {
		.sum = *sum,
		.end = ktime_get_boottime_ns(),
		.error = error,
	};

	spin_lock(&map_stat_lock);
	map_stat_notes[map_stat_noted++ % MAP_STAT_LAST] = note;
	spin_unlock(&map_stat_lock);
}

/**
 * map_stat_map - count a map
 * @sum: the map
 * @error: how it ended, 0 for well
 *
 * Context: Process context.
 */
void map_stat_map(const struct map_stat_sum *sum, int error)
{
	this_cpu_add(map_stats.map_ns, sum->ns);
	map_stat_add_threads(sum->threads);
	if (error) {
		map_stat_add_error(error);
	} else {
		this_cpu_inc(map_stats.maps);
		map_stat_add_pins(sum);
	}
	if (sum->size >= MAP_STAT_NOTED)
		map_stat_note(sum, error);
}

/**
 * map_stat_copy - count a copy into another domain
 * @sum: the copy
 * @error: how it ended, 0 for well
 *
 * Context: Any.
 */
void map_stat_copy(const struct map_stat_sum *sum, int error)
{
	this_cpu_add(map_stats.copy_ns, sum->ns);
	map_stat_add_threads(sum->threads);
	if (error)
		map_stat_add_error(error);
	else
		this_cpu_inc(map_stats.copies);
}

/**
 * map_stat_unmap - count an unmap
 * @threads: threads that worked on it
 * @ns: how long it took
 *
 * Context: Any.
 */
void map_stat_unmap(unsigned int threads, u64 ns)
{
	this_cpu_inc(map_stats.unmaps);
	this_cpu_add(map_stats.unmap_ns, ns);
	map_stat_add_threads(threads);
}

/* ---- what took long ---- */

/**
 * map_stat_why_slow - tell why a map took long, if that can be changed
 * @sum: the map, which succeeded
 * @throttled: its memory cgroup is at memory.high
 * @few_cpus: with all CPUs, it would have had twice as many threads
 *
 * With what is looked for, a map would take half of the time or less; of disable_hugepages,
 * that holds if there are huge pages, which nobody has looked for then.
 *
 * Context: Any.
 * Return: The first reason that applies, in the order of the enum.
 */
enum map_stat_slow map_stat_why_slow(const struct map_stat_sum *sum,
				     bool throttled, bool few_cpus)
{
	unsigned long pages = sum->size >> PAGE_SHIFT;

	if (sum->ns <= MAP_STAT_SLOW_NS)
		return MAP_STAT_NOT_SLOW;
	if (throttled)
		return MAP_STAT_THROTTLED;
	if (sum->size >= MAP_STAT_BIG && sum->ptes > pages / 2)
		return sum->pins.fallbacks[MAP_FALLBACK_OFF] ?
		       MAP_STAT_LEAVES_OFF : MAP_STAT_SMALL_PAGES;
	return few_cpus ? MAP_STAT_FEW_CPUS : MAP_STAT_NOT_SLOW;
}

/**
 * map_stat_tell_slow - tell the administrator why a map took long
 * @sum: the map, which succeeded
 * @throttled: as for map_stat_why_slow()
 * @few_cpus: likewise
 *
 * Now and then only, and nothing if there is nothing that could be done.
 *
 * Context: Process context, of the process that maps.
 */
void map_stat_tell_slow(const struct map_stat_sum *sum, bool throttled,
			bool few_cpus)
{
	static const char *const why[] = {
		[MAP_STAT_THROTTLED] =
			"its memory cgroup is at memory.high",
		[MAP_STAT_LEAVES_OFF] =
			"disable_hugepages is on, each page is mapped alone",
		[MAP_STAT_SMALL_PAGES] =
			"most of it is in pages of 4 KiB, huge pages take less",
		[MAP_STAT_FEW_CPUS] =
			"it may use less than half of the CPUs",
	};
	static DEFINE_RATELIMIT_STATE(limit, 60 * HZ, 3);
	enum map_stat_slow slow = map_stat_why_slow(sum, throttled, few_cpus);

	if (slow == MAP_STAT_NOT_SLOW || !__ratelimit(&limit))
		return;
	pr_info("%s (%d): mapping %lu MiB took %llu ms on %u threads: %s\n",
		current->comm, task_tgid_nr(current), sum->size / SZ_1M,
		div_u64(sum->ns, NSEC_PER_MSEC), sum->threads, why[slow]);
}

/* ---- debugfs ---- */

/* What all CPUs have counted, of which some may be counting. */
static void map_stat_read(struct map_stats *all)
{
	u64 *to = (u64 *)all;
	unsigned int cpu, i;
	const u64 *from;

	BUILD_BUG_ON(sizeof(long) != sizeof(u64));
	memset(all, 0, sizeof(*all));
	for_each_possible_cpu(cpu) {
		from = (const u64 *)per_cpu_ptr(&map_stats, cpu);
		for (i = 0; i < sizeof(*all) / sizeof(u64); i++)
			to[i] += READ_ONCE(from[i]);
	}
}

/* The last map that was noted, or nothing. */
static struct map_stat_sum map_stat_last(void)
{
	struct map_stat_sum sum = { };

	spin_lock(&map_stat_lock);
	if (map_stat_noted)
		sum = map_stat_notes[(map_stat_noted - 1) % MAP_STAT_LAST].sum;
	spin_unlock(&map_stat_lock);
	return sum;
}

static void map_stat_show(struct seq_file *s, const char *name, u64 value)
{
	seq_printf(s, "%s %llu\n", name, value);
}

static void map_stat_show_pins(struct seq_file *s, const struct map_stats *all)
{
	static const char *const fallbacks[MAP_FALLBACKS] = {
		[MAP_FALLBACK_OFF]	= "fallback_off",
		[MAP_FALLBACK_PART]	= "fallback_part",
		[MAP_FALLBACK_SMALL]	= "fallback_small",
		[MAP_FALLBACK_ACCESS]	= "fallback_access",
		[MAP_FALLBACK_MOVED]	= "fallback_moved",
		[MAP_FALLBACK_FOLIO]	= "fallback_folio",
		[MAP_FALLBACK_FOREIGN]	= "fallback_foreign",
	};
	unsigned int i;

	map_stat_show(s, "bytes_pte", all->ptes << PAGE_SHIFT);
	map_stat_show(s, "bytes_pmd", (u64)all->pins.pmds << PMD_SHIFT);
	map_stat_show(s, "bytes_pud", (u64)all->pins.puds << PUD_SHIFT);
	map_stat_show(s, "bytes_unheld", (u64)all->pins.unheld << PAGE_SHIFT);
	for (i = 0; i < MAP_FALLBACKS; i++)
		map_stat_show(s, fallbacks[i], all->pins.fallbacks[i]);
}

static int stats_show(struct seq_file *s, void *unused)
{
	struct map_stat_sum last = map_stat_last();
	struct map_stats all;

	map_stat_read(&all);
	map_stat_show(s, "maps", all.maps);
	map_stat_show(s, "copies", all.copies);
	map_stat_show(s, "unmaps", all.unmaps);
	map_stat_show(s, "failures", all.failures);
	map_stat_show(s, "aborts", all.aborts);
	map_stat_show_pins(s, &all);
	map_stat_show(s, "helpers", all.helpers);
	map_stat_show(s, "refills", all.items[MAP_STAT_REFILLS]);
	map_stat_show(s, "soft_retries", all.items[MAP_STAT_SOFT_RETRIES]);
	map_stat_show(s, "alone_retries", all.items[MAP_STAT_ALONE_RETRIES]);
	map_stat_show(s, "map_ns", all.map_ns);
	map_stat_show(s, "copy_ns", all.copy_ns);
	map_stat_show(s, "unmap_ns", all.unmap_ns);
	map_stat_show(s, "last_map_size", last.size);
	map_stat_show(s, "last_map_ns", last.ns);
	map_stat_show(s, "last_map_threads", last.threads);
	return 0;
}

DEFINE_SHOW_ATTRIBUTE(stats);

static void map_stat_show_note(struct seq_file *s,
			       const struct map_stat_note *note, u64 now)
{
	const struct map_stat_sum *sum = &note->sum;

	seq_printf(s, "%llu %lu %llu %u %lu %lu %lu %d\n",
		   div_u64(now - note->end, NSEC_PER_MSEC), sum->size, sum->ns,
		   sum->threads, sum->ptes << PAGE_SHIFT,
		   sum->pins.pmds << PMD_SHIFT, sum->pins.puds << PUD_SHIFT,
		   note->error);
}

/* The oldest one first. */
static int maps_show(struct seq_file *s, void *unused)
{
	struct map_stat_note note;
	u64 i, nr, now;

	seq_puts(s, "# ms_ago size ns threads bytes_pte bytes_pmd bytes_pud error\n");
	spin_lock(&map_stat_lock);
	nr = map_stat_noted;
	spin_unlock(&map_stat_lock);
	now = ktime_get_boottime_ns();
	for (i = nr > MAP_STAT_LAST ? nr - MAP_STAT_LAST : 0; i < nr; i++) {
		spin_lock(&map_stat_lock);
		note = map_stat_notes[i % MAP_STAT_LAST];
		spin_unlock(&map_stat_lock);
		/* It may be a later one by now. */
		map_stat_show_note(s, &note, max(now, note.end));
	}
	return 0;
}

DEFINE_SHOW_ATTRIBUTE(maps);

static LIST_HEAD(map_stat_users);
static DEFINE_MUTEX(map_stat_users_lock);

/**
 * map_stat_user_add - a process has set up a container
 * @user: of the container
 *
 * Context: Process context, that of the process. May sleep.
 */
void map_stat_user_add(struct map_stat_user *user)
{
	user->pid = get_pid(task_tgid(current));
	mutex_lock(&map_stat_users_lock);
	list_add_tail(&user->node, &map_stat_users);
	mutex_unlock(&map_stat_users_lock);
}

/**
 * map_stat_user_remove - a container is gone
 * @user: of the container, as it was added
 *
 * Context: Process context. May sleep.
 */
void map_stat_user_remove(struct map_stat_user *user)
{
	mutex_lock(&map_stat_users_lock);
	list_del(&user->node);
	mutex_unlock(&map_stat_users_lock);
	put_pid(user->pid);
}

/* 0 for a process that the reader cannot see, or that is gone: another may have its number. */
static int map_stat_pid(struct pid *pid, struct pid_namespace *ns)
{
	return pid_has_task(pid, PIDTYPE_TGID) ? pid_nr_ns(pid, ns) : 0;
}

static int containers_show(struct seq_file *s, void *unused)
{
	struct pid_namespace *ns = task_active_pid_ns(current);
	struct map_stat_user *user;

	seq_puts(s, "# pid\n");
	mutex_lock(&map_stat_users_lock);
	list_for_each_entry(user, &map_stat_users, node)
		seq_printf(s, "%d\n", map_stat_pid(user->pid, ns));
	mutex_unlock(&map_stat_users_lock);
	return 0;
}

DEFINE_SHOW_ATTRIBUTE(containers);

/**
 * map_stat_module_init - let the counters be seen
 *
 * If that is not possible, they are not.
 *
 * Context: Module load. May sleep.
 */
void map_stat_module_init(void)
{
	map_stat_dir = debugfs_create_dir("vfio_mt", NULL);
	debugfs_create_file("stats", 0444, map_stat_dir, NULL, &stats_fops);
	debugfs_create_file("maps", 0444, map_stat_dir, NULL, &maps_fops);
	debugfs_create_file("containers", 0400, map_stat_dir, NULL,
			    &containers_fops);
}

/**
 * map_stat_module_exit - undo map_stat_module_init()
 *
 * Context: Module unload; nothing is being mapped. May sleep.
 */
void map_stat_module_exit(void)
{
	debugfs_remove(map_stat_dir);
}
