/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * map_job.h - run a struct padata_mt_job on helper threads
 */
#ifndef VFIO_MT_MAP_JOB_H
#define VFIO_MT_MAP_JOB_H

#include <linux/padata.h>
#include <linux/types.h>

struct mm_struct;

/**
 * struct map_job_how - what a job needs beyond struct padata_mt_job
 * @mm: address space that helpers borrow while they work on the job; the caller
 *      keeps its users count elevated. NULL if they need none.
 * @in_process: for a job with an @mm, what map_job_is_in_process() said when the job
 *      was planned: helpers are threads of the calling process. If there are none to
 *      be had, the caller does it all.
 * @kill: called with the job's fn_arg, once at most, when a fatal signal hits the
 *        caller: makes thread_fn return early. No range is handed out after
 *        that. NULL for a job that must be completed.
 */
struct map_job_how {
	struct mm_struct *mm;
	bool in_process;
	void (*kill)(void *fn_arg);
};

unsigned int map_job_threads(unsigned int limit);
bool map_job_is_in_process(const struct mm_struct *mm);
bool map_job_charges_hugetlb(void);
bool map_job_lacks_cpus(unsigned int threads, unsigned int limit);
bool map_job_is_throttled(struct mm_struct *mm);
unsigned int map_job_run(struct padata_mt_job *job,
			 const struct map_job_how *how);

#endif /* VFIO_MT_MAP_JOB_H */
