/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * map_worker.h - threads of the calling process that call a function of ours
 */
#ifndef VFIO_MT_MAP_WORKER_H
#define VFIO_MT_MAP_WORKER_H

#include <linux/types.h>

#include "compat.h"

struct map_worker;
struct mm_struct;

#ifdef COMPAT_USER_WORKERS

bool map_worker_possible(const struct mm_struct *mm);
struct map_worker *map_worker_new(void (*fn)(void *arg), void *arg,
				  const char *name);
bool map_worker_call_off(struct map_worker *worker);
void map_worker_free(struct map_worker *worker, unsigned long *patience);
void map_worker_exit(void);

#else

static inline bool map_worker_possible(const struct mm_struct *mm)
{
	return false;
}

static inline struct map_worker *map_worker_new(void (*fn)(void *arg), void *arg,
						const char *name)
{
	return NULL;
}

static inline bool map_worker_call_off(struct map_worker *worker)
{
	return true;
}

static inline void map_worker_free(struct map_worker *worker,
				   unsigned long *patience)
{
}

static inline void map_worker_exit(void)
{
}

#endif

#endif /* VFIO_MT_MAP_WORKER_H */
