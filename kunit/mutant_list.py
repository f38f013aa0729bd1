# SPDX-License-Identifier: GPL-2.0-only
"""What kunit/mutants breaks: (suite, name, file, text, replacement).

The text must be in the file once. It is one statement or several, with their line ends,
or an expression; so is the replacement, or it is empty. The suite's own tests must notice
it: what changes nothing but time or words is no mutant.
"""

MUTANTS = [
    # ---- pin_chunk.c ----
    ("pin_chunk", "leaf-not-verified", "pin_chunk.c",
     """\
		if (pfns[i] != leaves->pfn[i] ||
		    !pin_page_keeps(leaves->page[i], pfns[i], PIN_SPAN_PAGES))
			break;
""",
     ""),
    ("pin_chunk", "leaf-of-several-folios", "pin_chunk.c",
     "pfn + nr <= folio_pfn(folio) + folio_nr_pages(folio)", "true"),
    ("pin_chunk", "leaf-without-write-access", "pin_chunk.c",
     "pmd_present(pmd) && pmd_leaf(pmd) && (!write || pmd_write(pmd))",
     "pmd_present(pmd) && pmd_leaf(pmd)"),
    ("pin_chunk", "fast-for-readers", "pin_chunk.c",
     "current->mm == mm && pc->write", "current->mm == mm"),
    ("pin_chunk", "nothing-pinned-and-no-error", "pin_chunk.c",
     "ret ? ret : -EFAULT", "ret ? ret : -EIO"),
    ("pin_chunk", "pool-not-left-to-others", "pin_chunk.c",
     "		nr = pin_no_pool(mm, va, nr);\n", "		;\n"),
    ("pin_chunk", "pool-faulted-in-fast", "pin_chunk.c",
     "!pc->no_pool", "true"),
    ("pin_chunk", "pool-behind-other-memory", "pin_chunk.c",
     "min(nr, (vma->vm_end - va) >> PAGE_SHIFT)", "nr"),
    ("pin_chunk", "failed-leaf-stays-pinned", "pin_chunk.c",
     """\
	for (i = nr; i < leaves.nr; i++)
		unpin_user_page(leaves.page[i]);
""",
     ""),
    ("pin_chunk", "span-one-page-too-long", "pin_chunk.c",
     "(va & PIN_SPAN_MASK) + PIN_SPAN_SIZE - va",
     "(va & PIN_SPAN_MASK) + PIN_SPAN_SIZE + PAGE_SIZE - va"),
    ("pin_chunk", "batch-not-bounded", "pin_chunk.c",
     "	nr = min(nr, (pc->batch - pc->nr_pages) / PIN_SPAN_PAGES + 1);\n", ""),
    ("pin_chunk", "zero-page-stays-pinned", "pin_chunk.c",
     """\
	if (zero) {
		unpin_user_page(page);
		pc->count.unheld++;
	}
""",
     ""),
    ("pin_chunk", "reserved-pages-charged", "pin_chunk.c",
     "PageReserved(page) || is_zero_pfn(pfn)", "is_zero_pfn(pfn)"),
    ("pin_chunk", "reserved-page-alone-charged", "pin_chunk.c",
     "	if (!PageReserved(page))\n		pc->nr_account++;\n",
     "	pc->nr_account++;\n"),
    ("pin_chunk", "pages-apart-are-a-run", "pin_chunk.c",
     "pfn == first + plain && plain && !odd", "plain && !odd"),
    ("pin_chunk", "entry-one-page-too-long", "pin_chunk.c",
     "((last - va) >> PAGE_SHIFT) + 1", "((last - va) >> PAGE_SHIFT) + 2"),
    ("pin_chunk", "entry-beyond-its-area", "pin_chunk.c",
     "min(va | ~compat_pfnmap_mask(&args), vma->vm_end - 1)",
     "va | ~compat_pfnmap_mask(&args)"),
    ("pin_chunk", "pfn-of-a-page-unpinned", "pin_chunk.c",
     "!ret && !pfns_are_unheld(run->pfn, run->nr)", "false"),
    ("pin_chunk", "pages-behind-the-first-unchecked", "pin_chunk.c",
     "			pfn++;\n", "			pfn = end;\n"),
    ("pin_chunk", "pages-behind-no-pages-unchecked", "pin_chunk.c",
     "			pfn = ALIGN(pfn + 1, PAGES_PER_SUBSECTION);\n",
     "			pfn = end;\n"),
    ("pin_chunk", "known-pfns-of-a-dropped-batch", "pin_chunk.c",
     "	pc->pfns.nr = 0;\n", ""),
    ("pin_chunk", "pfns-asked-for-again", "pin_chunk.c",
     "	pc->pfns.nr -= nr;\n", "	pc->pfns.nr = 0;\n"),
    ("pin_chunk", "known-pfns-stay-the-same", "pin_chunk.c",
     "	pc->pfns.pfn += nr;\n", ""),
    ("pin_chunk", "known-pfns-beyond-the-chunk", "pin_chunk.c",
     "min_t(unsigned long, PIN_PUD_PAGES,\n				  (pc->end - pc->va) >> PAGE_SHIFT)",
     "PIN_PUD_PAGES"),
    ("pin_chunk", "stop-not-noticed", "pin_chunk.c",
     "(pc->stop && READ_ONCE(*pc->stop))", "false"),

    ("pin_chunk", "leaves-not-counted", "pin_chunk.c",
     "		pc->count.pmds += nr;\n", "		;\n"),
    ("pin_chunk", "part-of-a-span-is-off", "pin_chunk.c",
     "pc->leaves ? MAP_FALLBACK_PART : MAP_FALLBACK_OFF", "MAP_FALLBACK_OFF"),
    ("pin_chunk", "moved-leaf-is-no-folio", "pin_chunk.c",
     "pfns[0] != leaves->pfn[0]", "false"),
    ("pin_chunk", "access-is-small-pages", "pin_chunk.c",
     "		return MAP_FALLBACK_ACCESS;\n", "		return MAP_FALLBACK_SMALL;\n"),

    # ---- pin_record.c ----
    ("pin_record", "frees-one-by-one", "pin_record.c",
     "page_ref_count(page) == GUP_PIN_COUNTING_BIAS", "false"),
    ("pin_record", "unheld-pages-unpinned", "pin_record.c",
     "xa_load(&ru->rec->frags, record_span(ru->rec, va))", "false"),
    ("pin_record", "next-span-like-the-last", "pin_record.c",
     "end <= ru->plain_end", "ru->plain_end"),
    ("pin_record", "keeps-references", "pin_record.c",
     "	if (release->nr)\n		release_pages(release->page, release->nr);\n", ""),
    ("pin_record", "keeps-references-of-a-run", "pin_record.c",
     "	run_unpin(run, &release);\n	pin_release_flush(&release);\n",
     "	run_unpin(run, &release);\n"),
    ("pin_record", "clean-though-written", "pin_record.c",
     "	release->dirty = dirty;\n", "	release->dirty = false;\n"),
    ("pin_record", "lone-pages-stay-pinned", "pin_record.c",
     """\
	if (release->nr_lone)
		unpin_user_pages_dirty_lock(release->lone, release->nr_lone,
					    release->dirty);
""",
     ""),
    ("pin_record", "lone-pages-forgotten", "pin_record.c",
     """\
	if (release->nr_lone == PIN_RELEASE_PAGES ||
	    release->nr == PIN_RELEASE_PAGES)
		pin_release_flush(release);
""",
     """\
	if (release->nr_lone == PIN_RELEASE_PAGES ||
	    release->nr == PIN_RELEASE_PAGES)
		release->nr_lone = 0;
"""),
    ("pin_record", "gathers-what-others-hold", "pin_record.c",
     "!page_has_pin_only(page)", "false"),
    ("pin_record", "gathers-folios", "pin_record.c",
     "!PageCompound(page)", "true"),
    ("pin_record", "neighbours-not-cleared", "pin_record.c",
     "!atomic_long_read(&rec->states[span / STATES_PER_WORD])",
     "!record_get(rec, span)"),
    ("pin_record", "part-of-a-span-forgotten", "pin_record.c",
     "record_span(rec, va + PIN_SPAN_SIZE - 1)", "record_span(rec, va)"),
    ("pin_record", "pud-unpinned-as-pmds", "pin_record.c",
     "		va += leaf == PIN_LEAF_PMD ? PMD_SIZE : PUD_SIZE;\n",
     "		va += PMD_SIZE;\n"),
    ("pin_record", "run-one-page-too-long", "pin_record.c",
     "	run->nr = (code & FRAG_NR_MASK) + 1;\n",
     "	run->nr = (code & FRAG_NR_MASK) + 2;\n"),
    ("pin_record", "start-within-a-span", "pin_record.c",
     "max(start, cur->rec->vaddr)", "start"),
    ("pin_record", "too-many-runs-all-held", "pin_record.c",
     """\
		if (!runs[i].held)
			*needed = true;
""",
     ""),
    ("pin_record", "all-are-held", "pin_record.c",
     "(run->held ? FRAG_HELD : 0)", "FRAG_HELD"),

    # ---- lockvm_cache.c ----
    ("lockvm_cache", "too-late-for-the-limit", "lockvm_cache.c",
     "	__account_locked_vm(owner->mm, nr, true, owner->task, true);\n",
     "	__account_locked_vm(owner->mm, nr, true, owner->task, owner->cap);\n"),
    ("lockvm_cache", "no-recall", "lockvm_cache.c",
     "	ret = lockvm_account_last(pool->shared, &pool->owner, nr, pool);\n",
     "	ret = -ENOMEM;\n"),
    ("lockvm_cache", "recalled-twice", "lockvm_cache.c",
     "	lockvm_uncharge(owner, lockvm_recall(shared));\n",
     "	lockvm_uncharge(owner, 2 * lockvm_recall(shared));\n"),
    ("lockvm_cache", "credit-lost-at-the-end", "lockvm_cache.c",
     "	lockvm_uncharge(&pool->owner, back);\n",
     "	lockvm_uncharge(&pool->owner, keep ? 0 : back);\n"),
    ("lockvm_cache", "cancelled-job-keeps-charges", "lockvm_cache.c",
     "		back += pool->used;\n", ""),
    ("lockvm_cache", "draws-at-the-limit", "lockvm_cache.c",
     "	shared->exact = true;\n", ""),
    ("lockvm_cache", "draws-more-than-needed", "lockvm_cache.c",
     "		ahead = min_t(unsigned long, left, pool->batch);\n",
     "		ahead = pool->batch;\n"),
    ("lockvm_cache", "turn-never-ends", "lockvm_cache.c",
     "		up_read(&pool->shared->turn);\n", ""),
    ("lockvm_cache", "not-alone", "lockvm_cache.c",
     "	pool->turn = alone ? LOCKVM_ALONE : LOCKVM_SHARED;\n",
     """\
	if (alone)
		downgrade_write(turn);
	pool->turn = LOCKVM_SHARED;
"""),
    ("lockvm_cache", "never-crowded", "lockvm_cache.c",
     "		pool->crowded = true;\n", ""),
    ("lockvm_cache", "crowded-by-itself", "lockvm_cache.c",
     "!list_is_singular(&shared->pools)", "true"),
    ("lockvm_cache", "killed-opener-leaks", "lockvm_cache.c",
     """\
		lockvm_mm_put(pool->shared);
		return -EINTR;
""",
     "		return -EINTR;\n"),
    ("lockvm_cache", "device-refused-at-once", "lockvm_cache.c",
     "	ret = lockvm_account_last(shared, owner, nr, NULL);\n",
     "	ret = -ENOMEM;\n"),

    ("lockvm_cache", "refills-not-counted", "lockvm_cache.c",
     "	map_stat_add(MAP_STAT_REFILLS, 1);\n", ""),

    # ---- map_job.c ----
    ("map_job", "as-many-threads-as-cpus", "map_job.c",
     "		limit = MAP_JOB_THREADS_DEFAULT;\n", "		limit = UINT_MAX;\n"),
    ("map_job", "cpus-that-are-offline-counted", "map_job.c",
     "cpu_online_mask", "&current->cpus_mask"),
    ("map_job", "chunk-one-unit-too-long", "map_job.c",
     "roundup(*start + 1, chunk)", "roundup(*start + 2, chunk)"),
    ("map_job", "helpers-not-woken", "map_job.c",
     """\
	for (i = 0; run->helpers && i < run->nr_helpers; i++)
		send_sig(SIGKILL, run->helpers[i], 1);
""",
     ""),
    ("map_job", "killed-caller-not-seen", "map_job.c",
     """\
	if (how->kill)
		queue_delayed_work(system_percpu_wq, &watch->work, MAP_JOB_WATCH);
""",
     ""),
    ("map_job", "kill-left-to-others", "map_job.c",
     "			map_job_stop(run);\n			killable = false;\n", "			killable = false;\n"),
    ("map_job", "helpers-not-capped", "map_job.c",
     "atomic_inc_return(&map_job_helpers) <= most",
     "atomic_inc_return(&map_job_helpers) <= 1000 * most"),
    ("map_job", "helper-stays-counted", "map_job.c",
     """\
		map_job_see_off(run, run->helpers[i]);
		map_job_release_helper();
""",
     "		map_job_see_off(run, run->helpers[i]);\n"),
    ("map_job", "failed-helper-stays-counted", "map_job.c",
     """\
	map_job_release_helper();
	return NULL;
""",
     "	return NULL;\n"),
    ("map_job", "goes-on-when-killed", "map_job.c",
     "	more = run->left && !run->killed;\n", "	more = run->left;\n"),
    ("map_job", "any-cpu", "map_job.c",
     "set_cpus_allowed_ptr(task, &caller->cpus_mask)", "0"),
    ("map_job", "own-priority", "map_job.c", "task_nice(task)", "0"),
    ("map_job", "own-credentials", "map_job.c",
     "override_creds(caller->cred)", "override_creds(current_cred())"),
    ("map_job", "outside-the-groups", "map_job.c",
     "cgroup_attach_task_all(run->caller.task, task)", "0"),
    ("map_job", "killed-with-the-group", "map_job.c",
     "	task->signal->oom_score_adj = OOM_SCORE_ADJ_MIN;\n", ""),
    ("map_job", "v2-without-cpu", "map_job.c",
     "	if (subsys == cpu_cgrp_id)\n		return true;\n", ""),
    ("map_job", "v2-without-cpuset", "map_job.c",
     "	if (subsys == cpuset_cgrp_id)\n		return true;\n", ""),
    ("map_job", "v2-without-hugetlb", "map_job.c",
     "	if (subsys == hugetlb_cgrp_id)\n		return true;\n", ""),
    ("map_job", "v2-always-for-memory", "map_job.c",
     "		return compat_memcg_charges_hugetlb();\n", "		return true;\n"),
    ("map_job", "v2-always", "map_job.c",
     "(css->cgroup->root != &cgrp_dfl_root ||\n		       map_job_v2_limits(i))", "true"),
    ("map_job_padata", "charges-hugetlb-elsewhere", "map_job.c",
     "	if (map_job_is_limited(hugetlb_cgrp_id))\n		return false;\n",
     ""),
    ("map_job_padata", "memcg-always-charges-hugetlb", "map_job.c",
     "compat_memcg_charges_hugetlb() &&\n	    map_job_is_limited(memory_cgrp_id)",
     "map_job_is_limited(memory_cgrp_id)"),
    ("map_job_padata", "memcg-never-charges-hugetlb", "map_job.c",
     "	is = css && css->parent;\n", "	is = css && css->parent && subsys == hugetlb_cgrp_id;\n"),
    ("map_job", "worker-counted-for-ever", "map_job.c",
     """\
		user_worker_free(run->workers[i], &patience);
		map_job_release_helper();
""",
     """\
		user_worker_free(run->workers[i], &patience);
"""),
    ("map_job", "worker-counted-though-not-made", "map_job.c",
     """\
			atomic_dec(&run->active);
			map_job_release_helper();
""",
     """\
			atomic_dec(&run->active);
"""),
    ("map_job", "each-range-is-a-thread", "map_job.c",
     "		first = false;\n", ""),
    ("map_job", "never-lacks-cpus", "map_job.c",
     "2 * threads <= most", "false"),
    ("map_job", "lacks-cpus-it-was-not-worth", "map_job.c",
     "threads >= map_job_threads(limit)", "true"),
    ("map_job_padata", "without-padata", "map_job.c",
     "	padata_do_multithreaded(&job);\n",
     "	job.thread_fn(job.start, job.start + job.size, job.fn_arg);\n"),
    ("map_job_padata", "worker-not-woken", "map_job.c",
     """\
	list_for_each_entry(helper, &run->busy, node)
		send_sig(SIGKILL, helper->task, 1);
""",
     ""),
    ("map_job_padata", "caller-not-watched", "map_job.c",
     "fatal_signal_pending(watch->caller)", "false"),
    ("map_job_padata", "worker-on-any-cpu", "map_job.c",
     "		set_cpus_allowed_ptr(current, cpus);\n", "		;\n"),
    ("map_job_padata", "worker-of-own-priority", "map_job.c",
     "		sched_setattr_nocheck(current, &run->attr);\n", "		;\n"),

    # ---- map_feed.c ----
    ("map_feed", "seam-of-a-whole-extent", "map_feed.c",
     "		need = -iova & (size - 1);\n",
     """\
		need = -iova & (size - 1);
		if (need == extent_size(ext) && !whole)
			continue;
"""),
    ("map_feed", "failure-leaves-a-part", "map_feed.c", "(ret && i)", "(false)"),
    ("map_feed", "other-domains-stay-mapped", "map_feed.c",
     """\
			unmap_from(tgt, i, feed->ext[0].va + feed->to_iova,
				   feed->end - feed->ext[0].va);
""",
     ""),
    ("map_feed", "tail-not-held-back", "map_feed.c",
     "feed->nr && feed->open_right", "false"),
    ("map_feed", "large-pages-of-single-ones", "map_feed.c",
     """\
	if (unlikely(tgt->single))
		return map_singly(tgt, domain, iova, pfn, nr);
""",
     ""),
    ("map_feed", "never-to-be-cut", "map_feed.c",
     "!iova_contiguous(domain, iova)", "true"),

    # ---- map_range.c ----
    ("map_range", "undoes-before-it-tells", "map_range.c",
     """\
	if (fatal_signal_pending(current))
		map_work_kill(work);
""",
     ""),
    ("map_range", "cut-through-a-pud", "map_range.c",
     "			size = max(size, huge_page_size(hstate_vma(vma)));\n",
     "			size = PIN_SPAN_SIZE;\n"),
    ("map_range", "cold-chunks-are-large", "map_range.c",
     "		min_chunk = map_least_chunk(work, min_chunk);\n", ""),
    ("map_range", "last-chunks-are-large", "map_range.c", "ns / MAP_CHUNK_LAST", "ns"),
    ("map_range", "chunks-of-any-size", "map_range.c",
     "round_up(least, PIN_SPAN_SIZE)", "least"),
    ("map_range", "known-pfns-of-another-map", "map_range.c",
     "	pc->pfns.nr = 0;\n", ""),
    ("map_range", "tail-not-unpinned", "map_range.c",
     """\
	if (chunk->tail.nr)
		pin_record_unpin(range->record, &chunk->tail, 1, dirty);
""",
     ""),
    ("map_range", "pending-not-unpinned", "map_range.c",
     "	pin_record_unpin(range->record, pending, nr, dirty);\n", ""),
    ("map_range", "chunk-stays-charged", "map_range.c",
     "	lockvm_cache_uncharge(&worker->cache, chunk->charged);\n", ""),
    ("map_range", "failed-map-stays-charged", "map_range.c",
     """\
	if (ret)
		lockvm_pool_cancel(&work->pool);
	else
		lockvm_pool_close(&work->pool);
""",
     "	lockvm_pool_close(&work->pool);\n"),
    ("map_range", "last-span-stays-mapped", "map_range.c",
     """\
	if (va < mapped_end)
		unmap_interval(range, va, mapped_end, unpin);
""",
     """\
	if (va + PIN_SPAN_SIZE < mapped_end)
		unmap_interval(range, va, mapped_end - PIN_SPAN_SIZE, unpin);
"""),
    ("map_range", "any-error", "map_range.c",
     "idx < work->fail", "work->fail == ULONG_MAX"),
    ("map_range", "goes-on-after-a-failure", "map_range.c",
     "idx > work->fail", "false"),
    ("map_range", "not-tried-again", "map_range.c",
     """\
	if (work->error && work->soft && !work->killed)
		map_again(work);
""",
     ""),
    ("map_range", "never-alone", "map_range.c",
     """\
	if (again)
		ret = map_range_try(range, true, &sum, charged, &again);
""",
     ""),
    ("map_range", "without-a-turn", "map_range.c",
     "		ret = lockvm_pool_take_turn(&work->pool, work->alone);\n", ""),
    ("map_range", "device-pays-for-another-page", "map_range.c",
     "pc->runs[i].held", "true"),
    ("map_range", "helpers-without-the-mm", "map_job.c", "how->mm", "NULL"),
    ("map_range", "seams-not-mapped", "map_range.c",
     """\
	if (!ret)
		ret = map_join(work);
""",
     ""),
    ("map_range", "lost-page-copied", "map_range.c",
     "WARN_ON_ONCE(!run->pfn)", "false"),
    ("map_range", "charged-twice", "map_range.c",
     "min(charged, pc->nr_account)", "0"),
    ("map_range", "helpers-fault-hugetlb-in", "map_range.c",
     "work->no_pool && map_has_hugetlb(work)", "false"),

    ("map_range", "not-counted", "map_range.c",
     "		map_stat_pins_add(&worker->pins, &pc->count);\n", ""),
    ("map_range", "unheld-pages-counted", "map_range.c",
     "(range->size >> PAGE_SHIFT) - pins->unheld", "(range->size >> PAGE_SHIFT)"),

    # ---- map_stat.c ----
    ("map_stat", "failures-count-as-maps", "map_stat.c",
     """\
	if (error) {
		map_stat_add_error(error);
	} else {
		this_cpu_inc(map_stats.maps);
		map_stat_add_pins(sum);
	}
""",
     """\
	if (error)
		map_stat_add_error(error);
	this_cpu_inc(map_stats.maps);
	map_stat_add_pins(sum);
"""),
    ("map_stat", "any-failure-is-a-kill", "map_stat.c", "error == -EINTR", "true"),
    ("map_stat", "caller-helps-itself", "map_stat.c",
     "		this_cpu_add(map_stats.helpers, threads - 1);\n",
     "		this_cpu_add(map_stats.helpers, threads);\n"),
    ("map_stat", "one-cpu-only", "map_stat.c",
     "			to[i] += READ_ONCE(from[i]);\n",
     "			to[i] = READ_ONCE(from[i]);\n"),
    ("map_stat", "quick-maps-are-slow", "map_stat.c",
     "sum->ns <= MAP_STAT_SLOW_NS", "false"),
    ("map_stat", "leaves-off-not-told", "map_stat.c",
     "sum->pins.fallbacks[MAP_FALLBACK_OFF]", "false"),
    ("map_stat", "half-of-it-is-most", "map_stat.c",
     "sum->ptes > pages / 2", "sum->ptes >= pages / 2"),
    ("map_stat", "small-maps-are-big", "map_stat.c",
     "sum->size >= MAP_STAT_BIG", "true"),
    ("map_stat", "small-maps-noted", "map_stat.c",
     "sum->size >= MAP_STAT_NOTED", "true"),
    ("map_stat", "oldest-is-last", "map_stat.c",
     "(map_stat_noted - 1) % MAP_STAT_LAST", "map_stat_noted % MAP_STAT_LAST"),
    ("map_stat", "too-many-shown", "map_stat.c",
     "nr > MAP_STAT_LAST ? nr - MAP_STAT_LAST : 0", "0"),
    ("map_stat", "container-of-the-dead", "map_stat.c",
     "pid_has_task(pid, PIDTYPE_TGID) ? pid_nr_ns(pid, ns) : 0", "pid_nr_ns(pid, ns)"),
    ("map_stat", "container-stays", "map_stat.c",
     "	list_del(&user->node);\n", "	;\n"),

    # ---- unmap_range.c ----
    ("unmap_range", "not-synchronised", "unmap_range.c",
     "		iommu_iotlb_sync(domain, &gather);\n", ""),
    ("unmap_range", "cut-through-a-page", "unmap_range.c",
     "		size = map_target_cut(range->tgt, va + to_iova);\n",
     "		size = 0;\n"),
    ("unmap_range", "first-domain-only", "unmap_range.c", "i = tgt->nr", "i = 1"),
    ("unmap_range", "endless-batch", "unmap_range.c",
     "va - batch->ext[0].va >= UNMAP_BATCH_SIZE",
     "va - batch->ext[0].va >= 16 * UNMAP_BATCH_SIZE"),
    ("unmap_range", "one-step", "unmap_range.c",
     "		step = unmap_step(sizes, iova + done, size - done);\n",
     "		step = size - done;\n"),
    ("unmap_range", "unpinned-though-mapped", "unmap_range.c",
     """\
	while (nr && ext[nr - 1].va - ext[0].va +
	       (ext[nr - 1].nr << PAGE_SHIFT) > done)
		nr--;
""",
     ""),
    ("unmap_range", "all-like-the-first-leaf", "unmap_range.c",
     """\
	ext[-1].nr += nr;
	if (batch->leaf != leaf)
		batch->leaf = PIN_LEAF_NONE;
""",
     "	ext[-1].nr += nr;\n"),
    ("unmap_range", "extents-like-the-first-leaf", "unmap_range.c",
     """\
	if (!batch->nr)
		batch->leaf = leaf;
	else if (batch->leaf != leaf)
		batch->leaf = PIN_LEAF_NONE;
""",
     """\
	if (!batch->nr)
		batch->leaf = leaf;
"""),
    ("unmap_range", "pages-apart-are-an-extent", "unmap_range.c",
     "next == pfn + 1", "next"),

    # ---- dma_map.c ----
    ("dma_map", "no-queue", "dma_map.c", "dma_wait_is_behind(backend, self)", "false"),
    ("dma_map", "last-come-first-served", "dma_map.c",
     "		list_add_tail(&self->node, &backend->waits);\n",
     "		list_add(&self->node, &backend->waits);\n"),
    ("dma_map", "behind-what-is-next-to-it", "dma_map.c",
     "other->from <= self->last && self->from <= other->last",
     "other->from <= self->last && self->from <= other->last + 1"),
    ("dma_map", "next-one-not-woken", "dma_map.c",
     """\
	list_del_init(&self->node);
	wake_up_all(&backend->wait);
""",
     "	list_del_init(&self->node);\n"),
    ("dma_map", "devices-wait-for-their-turn", "dma_map.c",
     "!device && self->from <= self->last", "self->from <= self->last"),
    ("dma_map", "unmaps-not-waited-for", "dma_map.c",
     "from <= dma_unmap_last(unmap) && unmap->iova <= last", "false"),
    ("dma_map", "map-that-ends-in-front-found", "dma_map.c",
     "dma_map_last(map) >= from", "dma_map_last(map) + 1 >= from"),

    # ---- domain.c ----
    ("domain", "one-address-too-many", "domain.c",
     """\
			ranges[nr++] = (struct iova_range){ last + 1,
							    range->last };
""",
     """\
			ranges[nr++] = (struct iova_range){ last,
							    range->last };
"""),
    ("domain", "stays-attached", "domain.c",
     "	iommu_detach_group(own, at->g->group);\n", ""),
    ("domain", "relaxable-regions-block", "domain.c",
     "resv->type != IOMMU_RESV_DIRECT_RELAXABLE", "true"),
    ("domain", "across-a-hole", "domain.c",
     "last <= iovas->ranges[i].last", "last <= iovas->ranges[iovas->nr - 1].last"),
    ("domain", "shares-with-incoherent", "domain.c",
     "d->coherent != at->domain->coherent", "false"),
    ("domain", "software-msi-always", "domain.c",
     """\
		if (resv->type == IOMMU_RESV_MSI)
			return 0;
""",
     ""),
    ("domain", "writes-forgotten", "domain.c",
     "			dirty_mark_all(backend);\n", ""),

    # ---- dirty.c ----
    ("domain", "whole-requests-cut", "domain.c",
     "	return done != PAGE_SIZE;\n", "	return false;\n"),
    ("domain", "whole-domain-forgotten", "domain.c",
     "		target->whole |= domain->whole;\n", ""),
    ("dirty", "shifted-by-one-too-many", "dirty.c",
     "(BITS_PER_LONG - view->shift)", "(BITS_PER_LONG - 1 - view->shift)"),
    ("dirty", "cleared-before-reported", "dirty.c",
     "		ret = dirty_copy(backend, map, iova, bitmap);\n",
     """\
		dirty_clear(backend, map);
		ret = dirty_copy(backend, map, iova, bitmap);
"""),
    ("dirty", "neighbour-overwritten", "dirty.c",
     "			buf[0] |= before;\n", ""),
    ("dirty", "pinned-pages-clean", "dirty.c",
     """\
	bitmap_zero(map->dirty, dirty_bits(backend, map));
	external_mark_dirty(backend, map);
""",
     "	bitmap_zero(map->dirty, dirty_bits(backend, map));\n"),

    # ---- external.c ----
    ("external", "not-counted", "external.c", "		page->refs++;\n", "		;\n"),
    ("external", "failed-pin-stays-pinned", "external.c",
     "			external_unpin_locked(backend, iova, i);\n", ""),
    ("external", "charged-beside-a-domain", "external.c",
     "	charge = list_empty(&backend->domains);\n", "	charge = true;\n"),
    ("external", "reserved-pages-charged", "external.c",
     "charge && page->account", "charge"),
    ("external", "any-access", "external.c", "(map->prot & prot) != prot", "false"),
    ("external", "found-while-unmapped", "external.c",
     "map && map->state == DMA_MAP_LIVE ? map : NULL", "map"),
    ("external", "pinned-and-clean", "external.c",
     "		dirty_mark(backend, map, iova - map->iova, PAGE_SIZE);\n", ""),
    ("external", "copies-beyond-the-mapping", "external.c",
     "	count = min_t(u64, count, dma_map_last(map) - iova + 1);\n", ""),
    ("external", "trusted-twice", "external.c", "owner && !owner->pinning", "owner"),
    ("external", "offset-in-a-page", "external.c", "	iova &= PAGE_MASK;\n", ""),

    # ---- user_worker.c ----
    ("user_worker", "called-twice", "user_worker.c",
     "	fn(worker->arg);\n", "	fn(worker->arg);\n	fn(worker->arg);\n"),
    ("user_worker", "begins-though-called-off", "user_worker.c",
     "	return worker_take(worker);\n", "	return READ_ONCE(worker->fn);\n"),
    ("user_worker", "begins-half-asleep", "user_worker.c",
     "	__set_current_state(TASK_RUNNING);\n", ""),
    ("user_worker", "never-sleeps", "user_worker.c",
     """\
		worker_set_idle(worker, current);
		return false;
""",
     """\
		worker_set_idle(worker, current);
		return true;
"""),
    ("user_worker", "ended-twice", "user_worker.c",
     "	if (worker->idle)\n		return;\n", ""),
    ("user_worker", "killed-and-still-held-up", "user_worker.c",
     "	worker_set_idle(data, NULL);\n", "	worker_set_idle(data, current);\n"),
    ("user_worker", "waits-for-signals", "user_worker.c",
     "signal_pending(thread)", "false"),
    ("user_worker", "waits-for-what-is-to-stop", "user_worker.c",
     "JOBCTL_PENDING_MASK", "0"),
    ("user_worker", "waits-for-frozen", "user_worker.c", "JOBCTL_TRAP_FREEZE", "0"),
    ("user_worker", "waits-for-stopped", "user_worker.c", "JOBCTL_STOPPED", "0"),
    ("user_worker", "waits-for-traced", "user_worker.c", "JOBCTL_TRACED", "0"),
    ("user_worker", "looked-at-once", "user_worker.c",
     """\
		queue_delayed_work(worker_queue, &worker->end, WORKER_AGAIN);
		return;
""",
     "		return;\n"),
    ("user_worker", "counted-though-gone", "user_worker.c",
     "	vhost_task_stop(worker->task);\n	atomic_dec(&worker_ending);\n",
     "	vhost_task_stop(worker->task);\n"),
    ("user_worker", "ended-thread-kept", "user_worker.c",
     "	if (worker->ended)\n		put_task_struct(worker->ended);\n", ""),
    ("user_worker", "gone-though-on-its-way", "user_worker.c",
     "READ_ONCE(thread->sighand)", "false"),
    ("user_worker", "seen-off-for-ever", "user_worker.c",
     "tries < WORKER_SEE_OFF", "true"),
    ("user_worker", "seen-off-without-patience", "user_worker.c",
     "left > 0", "true"),
    ("user_worker", "seen-off-though-signalled", "user_worker.c",
     "		if (signal_pending(current))\n			most = min(most, WORKER_PATIENCE);\n", ""),
    ("user_worker", "gone-unnoticed", "user_worker.c",
     "	complete(&worker->gone);\n", ""),
    ("user_worker", "never-freed", "user_worker.c",
     "	refcount_set(&worker->refs, 2);\n", "	refcount_set(&worker->refs, 3);\n"),
    ("user_worker", "module-kept", "user_worker.c",
     "	module_put(THIS_MODULE);\n", ""),
    ("user_worker", "ignored-is-handled", "user_worker.c",
     "handler != SIG_DFL && handler != SIG_IGN", "handler != SIG_DFL"),
    ("user_worker", "last-signal-not-blocked", "user_worker.c",
     "sig <= _NSIG", "sig < _NSIG"),
    ("user_worker", "blocked-signals-let-in", "user_worker.c",
     "	sigprocmask(SIG_BLOCK, &handled, &old);\n",
     "	sigprocmask(SIG_SETMASK, &handled, &old);\n"),
    ("user_worker", "signals-stay-blocked", "user_worker.c",
     "	sigprocmask(SIG_SETMASK, &old, NULL);\n", ""),
    ("user_worker", "for-any-memory", "user_worker.c",
     "(!mm || mm == current->mm)", "true"),
    ("user_worker", "workers-of-workers", "user_worker.c",
     "PF_EXITING | PF_KTHREAD | PF_USER_WORKER", "PF_EXITING | PF_KTHREAD"),
    ("user_worker", "possible-though-killed", "user_worker.c",
     "!fatal_signal_pending(current)", "true"),
    ("user_worker", "deadlines-shared", "user_worker.c",
     "current->policy != SCHED_DEADLINE", "true"),
    ("user_worker", "one-too-many", "user_worker.c",
     "atomic_read(&worker_ending) < WORKER_MOST", "atomic_read(&worker_ending) <= WORKER_MOST"),
    ("user_worker", "failed-thread-keeps-memory", "user_worker.c",
     "		kfree(worker);\n		return NULL;\n", "		return NULL;\n"),
    ("user_worker", "begins-without-the-module", "user_worker.c",
     "	__module_get(THIS_MODULE);\n	vhost_task_start(worker->task);\n",
     "	vhost_task_start(worker->task);\n	__module_get(THIS_MODULE);\n"),
    ("user_worker", "not-waited-for", "user_worker.c",
     "wait_for_completion_interruptible_timeout(&worker->gone,\n							      *patience)",
     "0"),
    ("user_worker", "waits-for-its-own-stop", "user_worker.c",
     "min(*patience,\n						       WORKER_PATIENCE)", "*patience"),
    ("user_worker", "shadow-stacks-made", "user_worker.c",
     "!compat_has_shadow_stack(current)", "true"),
    ("user_worker", "one-end-at-a-time", "user_worker.c",
     'alloc_workqueue("vfio_mt", WQ_UNBOUND, WQ_MAX_ACTIVE)',
     'alloc_workqueue("vfio_mt", WQ_UNBOUND, 1)'),
    ("user_worker", "queue-taken-for-granted", "user_worker.c",
     "worker_queue ? 0 : -ENOMEM", "0"),
    ("user_worker", "module-does-not-wait", "user_worker.c",
     "	destroy_workqueue(worker_queue);\n", ""),
]
