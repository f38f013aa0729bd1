// SPDX-License-Identifier: GPL-2.0-only
/*
 * map_job_padata_test.c - jobs on kernels that let modules use padata
 *
 * map_job.c once more, as Kbuild has it compiled there, with a stand-in for
 * padata_do_multithreaded() that does as the kernel's does: ranges of several
 * units, handed out in order, to worker threads that have no mm.
 * map_range_test.c runs whole maps by it.
 */
#include "seam.h"
#include "padata_test.h"

/**
 * struct padata_run - a job being run
 * @job: the job
 * @lock: protects @next
 * @next: start of the next range to hand out
 * @chunk: units in a range
 */
struct padata_run {
	struct padata_mt_job *job;
	spinlock_t lock;
	unsigned long next;
	unsigned long chunk;
};

/**
 * struct padata_worker - one of its threads
 * @work: the thread's work
 * @run: the job
 */
struct padata_worker {
	struct work_struct work;
	struct padata_run *run;
};

#define PADATA_WORKERS	4

static unsigned int padata_runs;

static void padata_work(struct work_struct *work)
{
	struct padata_run *run =
		container_of(work, struct padata_worker, work)->run;
	unsigned long start, end, last = run->job->start + run->job->size;

	for (;;) {
		spin_lock(&run->lock);
		start = run->next;
		end = min(start + run->chunk, last);
		run->next = end;
		spin_unlock(&run->lock);
		if (start == last)
			break;
		run->job->thread_fn(start, end, run->job->fn_arg);
	}
}

static void fake_padata_do_multithreaded(struct padata_mt_job *job)
{
	unsigned int i, nr = clamp(job->max_threads, 1, PADATA_WORKERS);
	struct padata_worker worker[PADATA_WORKERS];
	struct padata_run run = { .job = job, .next = job->start };

	padata_runs++;
	if (!job->size)
		return;
	spin_lock_init(&run.lock);
	run.chunk = max(job->size / (nr * 4), max(job->min_chunk, 1UL));
	run.chunk = roundup(run.chunk, job->align);
	for (i = 0; i < nr; i++) {
		worker[i].run = &run;
		INIT_WORK_ONSTACK(&worker[i].work, padata_work);
		if (i)
			queue_work(system_unbound_wq, &worker[i].work);
	}
	padata_work(&worker[0].work);
	for (i = 0; i < nr; i++) {
		flush_work(&worker[i].work);
		destroy_work_on_stack(&worker[i].work);
	}
}

#define HAVE_PADATA_MT
#define padata_do_multithreaded		fake_padata_do_multithreaded
#define map_job_run			padata_job_run
#define map_job_threads			padata_job_threads
#define map_job_charges_hugetlb		padata_job_charges_hugetlb
#include "../map_job.c"

#define UNITS	100

static void padata_count(unsigned long start, unsigned long end, void *arg)
{
	atomic_t *done = arg;

	for (; start < end; start++)
		atomic_inc(&done[start]);
}

/* The job is the kernel's, as it is, and all of it gets done once. */
static void padata_runs_job(struct kunit *test)
{
	static atomic_t done[UNITS];
	struct map_job_how how = { };
	struct padata_mt_job job = {
		.thread_fn = padata_count,
		.fn_arg = done,
		.start = 3,
		.size = UNITS - 3,
		.align = 1,
		.min_chunk = 1,
		.max_threads = 2,
	};
	unsigned int i;

	memset(done, 0, sizeof(done));
	padata_runs = 0;
	padata_job_run(&job, &how);
	KUNIT_EXPECT_EQ(test, 1U, padata_runs);
	for (i = 0; i < UNITS; i++)
		KUNIT_EXPECT_EQ(test, i >= 3, atomic_read(&done[i]));
	KUNIT_EXPECT_GE(test, padata_job_threads(0), 1U);
}

static struct kunit_case padata_cases[] = {
	KUNIT_CASE(padata_runs_job),
	{ }
};

static struct kunit_suite padata_suite = {
	.name = "vfio_mt_map_job_padata",
	.init = fake_init,
	.exit = fake_exit,
	.test_cases = padata_cases,
};

kunit_test_suite(padata_suite);
