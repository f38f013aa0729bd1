/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * map_stat.h - counts what is done, and tells why it took long
 */
#ifndef VFIO_MT_MAP_STAT_H
#define VFIO_MT_MAP_STAT_H

#include <linux/list.h>
#include <linux/time64.h>
#include <linux/types.h>

struct pid;

/**
 * enum map_fallback - why a span was pinned page by page, not by a huge leaf
 * @MAP_FALLBACK_OFF: leaves were not wanted: the disable_hugepages parameter
 * @MAP_FALLBACK_PART: the map has only a part of the span
 * @MAP_FALLBACK_SMALL: no single leaf of ordinary memory maps it
 * @MAP_FALLBACK_ACCESS: the leaf does not allow writing
 * @MAP_FALLBACK_MOVED: the leaf shows another page than the one that was pinned
 * @MAP_FALLBACK_FOLIO: its pages are not one folio
 * @MAP_FALLBACK_FOREIGN: the thread does not run on the address space
 * @MAP_FALLBACKS: how many reasons there are
 */
enum map_fallback {
	MAP_FALLBACK_OFF,
	MAP_FALLBACK_PART,
	MAP_FALLBACK_SMALL,
	MAP_FALLBACK_ACCESS,
	MAP_FALLBACK_MOVED,
	MAP_FALLBACK_FOLIO,
	MAP_FALLBACK_FOREIGN,
	MAP_FALLBACKS
};

/**
 * struct map_stat_pins - what one thread has pinned, but for single pages
 * @pmds: PMD leaves
 * @puds: PUD leaves
 * @unheld: pages of which no reference is held
 * @fallbacks: spans that were pinned page by page, by enum map_fallback
 *
 * What is left of the range's pages was pinned one by one: nobody counts these.
 */
struct map_stat_pins {
	unsigned long pmds;
	unsigned long puds;
	unsigned long unheld;
	unsigned long fallbacks[MAP_FALLBACKS];
};

/**
 * struct map_stat_sum - one map or copy, when it is over
 * @size: bytes
 * @ns: how long it took
 * @planned: threads that it was planned for
 * @threads: threads that worked on it; 0 if it failed before any could
 * @ptes: pages pinned one by one
 * @pins: what else was pinned; of a map that failed, or of a copy, nothing
 */
struct map_stat_sum {
	unsigned long size;
	u64 ns;
	unsigned int planned;
	unsigned int threads;
	unsigned long ptes;
	struct map_stat_pins pins;
};

/**
 * enum map_stat_item - what is counted one by one; the rest is counted by call
 * @MAP_STAT_REFILLS: charges that a thread drew locked memory by
 * @MAP_STAT_SOFT_RETRIES: attempts of the caller alone, for want of memory
 * @MAP_STAT_ALONE_RETRIES: maps done over with nobody else charging
 * @MAP_STAT_ITEMS: how many of these there are
 */
enum map_stat_item {
	MAP_STAT_REFILLS,
	MAP_STAT_SOFT_RETRIES,
	MAP_STAT_ALONE_RETRIES,
	MAP_STAT_ITEMS
};

/* A map that takes longer is asked why. */
#define MAP_STAT_SLOW_NS	NSEC_PER_SEC

/**
 * enum map_stat_slow - why a map took long, if the administrator can change it
 * @MAP_STAT_NOT_SLOW: it did not, or for no such reason
 * @MAP_STAT_THROTTLED: its memory cgroup is at memory.high
 * @MAP_STAT_LEAVES_OFF: disable_hugepages has most of it in small pages
 * @MAP_STAT_SMALL_PAGES: most of it is in small pages
 * @MAP_STAT_FEW_CPUS: with all CPUs, it would have had twice as many threads
 */
enum map_stat_slow {
	MAP_STAT_NOT_SLOW,
	MAP_STAT_THROTTLED,
	MAP_STAT_LEAVES_OFF,
	MAP_STAT_SMALL_PAGES,
	MAP_STAT_FEW_CPUS,
};

/**
 * struct map_stat_user - who has set up a container
 * @node: in the list of all
 * @pid: the process
 */
struct map_stat_user {
	struct list_head node;
	struct pid *pid;
};

void map_stat_module_init(void);
void map_stat_module_exit(void);

void map_stat_add(enum map_stat_item item, u64 nr);
void map_stat_pins_add(struct map_stat_pins *sum,
		       const struct map_stat_pins *more);
void map_stat_map(const struct map_stat_sum *sum, int error);
void map_stat_copy(const struct map_stat_sum *sum, int error);
void map_stat_unmap(unsigned int threads, u64 ns);

void map_stat_user_add(struct map_stat_user *user);
void map_stat_user_remove(struct map_stat_user *user);

enum map_stat_slow map_stat_why_slow(const struct map_stat_sum *sum,
				     bool throttled, bool few_cpus);
void map_stat_tell_slow(const struct map_stat_sum *sum, bool throttled,
			bool few_cpus);

#endif /* VFIO_MT_MAP_STAT_H */
