// SPDX-License-Identifier: GPL-2.0-only
/*
 * vfio_mt_mock: operations of the mock IOMMU that fail on request
 *
 * Purpose: keep, for each injection point, which of its next operations fail
 *	with which errno, or how long they take.
 * Terms: see struct vfio_mt_mock_inject.
 * Context: any context may ask; only callers that may sleep are delayed.
 * Locking: mock_inject.lock protects an injection point and is innermost.
 *	armed is also read without it, so that nothing is locked normally.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/time64.h>

#include "mock.h"

/**
 * struct mock_inject - one injection point
 * @lock: protects the rest
 * @armed: SET_INJECT was called
 * @conf: the request; seen and failed count
 */
struct mock_inject {
	spinlock_t lock;	/* protects what follows */
	bool armed;
	struct vfio_mt_mock_inject conf;
};

static struct mock_inject injects[VFIO_MT_MOCK_NR_INJECT];

/**
 * mock_inject_hit() - does this operation fail?
 * @point: VFIO_MT_MOCK_INJECT_*
 * @first: first IOVA of a leaf, 0 for other points
 * @last: last IOVA of a leaf, 0 for other points
 * @can_sleep: the caller may sleep
 *
 * Context: sleeps only if @can_sleep and a delay was requested.
 * Return: 0 or a negative errno.
 */
int mock_inject_hit(unsigned int point, u64 first, u64 last, bool can_sleep)
{
	struct mock_inject *inject = &injects[point];
	struct vfio_mt_mock_inject *conf = &inject->conf;
	u32 delay_us = 0;
	int ret = 0;

	if (!READ_ONCE(inject->armed))
		return 0;

	spin_lock(&inject->lock);
	if (inject->armed && first <= conf->last && last >= conf->first) {
		delay_us = conf->delay_us;
		if (conf->error && conf->seen >= conf->after &&
		    (conf->times == U32_MAX || conf->failed < conf->times)) {
			conf->failed++;
			ret = -(int)conf->error;
		}
		conf->seen++;
	}
	spin_unlock(&inject->lock);

	if (delay_us && can_sleep)
		fsleep(delay_us);
	return ret;
}

/**
 * mock_inject_set() - arm an injection point
 * @conf: what to do there
 *
 * Return: 0 or -EINVAL.
 */
int mock_inject_set(const struct vfio_mt_mock_inject *conf)
{
	struct mock_inject *inject;

	if (conf->point >= VFIO_MT_MOCK_NR_INJECT ||
	    conf->error > MAX_ERRNO || conf->delay_us > USEC_PER_SEC)
		return -EINVAL;

	inject = &injects[conf->point];
	spin_lock(&inject->lock);
	inject->conf = *conf;
	if (conf->point != VFIO_MT_MOCK_INJECT_MAP) {
		inject->conf.first = 0;
		inject->conf.last = U64_MAX;
	}
	inject->conf.seen = 0;
	inject->conf.failed = 0;
	WRITE_ONCE(inject->armed, true);
	spin_unlock(&inject->lock);
	return 0;
}

/**
 * mock_inject_get() - read an injection point
 * @conf: in: point; out: the request and its counters
 *
 * Return: 0 or -EINVAL.
 */
int mock_inject_get(struct vfio_mt_mock_inject *conf)
{
	struct mock_inject *inject;

	if (conf->point >= VFIO_MT_MOCK_NR_INJECT)
		return -EINVAL;

	inject = &injects[conf->point];
	spin_lock(&inject->lock);
	*conf = inject->conf;
	spin_unlock(&inject->lock);
	return 0;
}

/**
 * mock_inject_clear() - disarm all injection points
 */
void mock_inject_clear(void)
{
	unsigned int i;

	for (i = 0; i < VFIO_MT_MOCK_NR_INJECT; i++) {
		spin_lock(&injects[i].lock);
		WRITE_ONCE(injects[i].armed, false);
		memset(&injects[i].conf, 0, sizeof(injects[i].conf));
		injects[i].conf.point = i;
		spin_unlock(&injects[i].lock);
	}
}

/**
 * mock_inject_init() - prepare the injection points
 */
void mock_inject_init(void)
{
	unsigned int i;

	for (i = 0; i < VFIO_MT_MOCK_NR_INJECT; i++)
		spin_lock_init(&injects[i].lock);
	mock_inject_clear();
}
