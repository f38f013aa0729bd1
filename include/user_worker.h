/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * user_worker.h - threads of the calling process that call a function of ours
 */
#ifndef VFIO_MT_USER_WORKER_H
#define VFIO_MT_USER_WORKER_H

#include <linux/types.h>

#include "compat.h"

struct mm_struct;
struct user_worker;

#ifdef COMPAT_USER_WORKERS

int user_worker_module_init(void);
void user_worker_module_exit(void);
bool user_worker_possible(const struct mm_struct *mm);
struct user_worker *user_worker_new(void (*fn)(void *arg), void *arg,
				    const char *name);
bool user_worker_call_off(struct user_worker *worker);
void user_worker_free(struct user_worker *worker, unsigned long *patience);

#else

static inline int user_worker_module_init(void)
{
	return 0;
}

static inline void user_worker_module_exit(void)
{
}

static inline bool user_worker_possible(const struct mm_struct *mm)
{
	return false;
}

static inline struct user_worker *
user_worker_new(void (*fn)(void *arg), void *arg, const char *name)
{
	return NULL;
}

static inline bool user_worker_call_off(struct user_worker *worker)
{
	return true;
}

static inline void user_worker_free(struct user_worker *worker,
				    unsigned long *patience)
{
}

#endif

#endif /* VFIO_MT_USER_WORKER_H */
