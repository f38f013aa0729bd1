/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * padata_test.h - map_job.c as it is for kernels whose padata runs the jobs
 */
#ifndef VFIO_MT_KUNIT_PADATA_TEST_H
#define VFIO_MT_KUNIT_PADATA_TEST_H

struct map_job_how;
struct padata_mt_job;

unsigned int padata_job_run(struct padata_mt_job *job,
			    const struct map_job_how *how);

#endif /* VFIO_MT_KUNIT_PADATA_TEST_H */
