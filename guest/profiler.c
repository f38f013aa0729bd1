// SPDX-License-Identifier: GPL-2.0-only
/*
 * profiler.c - a plugin of QEMU: which code runs between two marks, how often
 *
 * A guest marks the start and the end of what is to be counted with an
 * instruction that does nothing (mark() in selftests/bench.cpp). In between,
 * each translated block counts how often it runs. At the end the counts go to a
 * file: "phase N", and a line "ADDRESS INSTRUCTIONS TIMES" for each block.
 *
 * For a guest with one CPU. scripts/profile builds and uses it.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

int qemu_plugin_version = 1;

/* nopl 0x12345678(%rax) */
static const unsigned char mark[] = {
	0x0f, 0x1f, 0x80, 0x78, 0x56, 0x34, 0x12
};

struct block {
	struct block *next;
	uint64_t address;
	uint64_t insns;
	uint64_t times;
};

static struct block *blocks;
static FILE *out;
static unsigned int phase;
static bool counting;

static void count(unsigned int cpu, void *arg)
{
	struct block *block = arg;

	(void)cpu;
	if (counting)
		block->times++;
}

static void report(void)
{
	struct block *block;

	fprintf(out, "phase %u\n", phase++);
	for (block = blocks; block; block = block->next) {
		if (!block->times)
			continue;
		fprintf(out, "%lx %lu %lu\n", (unsigned long)block->address,
			(unsigned long)block->insns,
			(unsigned long)block->times);
		block->times = 0;
	}
	fflush(out);
}

static void at_mark(unsigned int cpu, void *arg)
{
	(void)cpu;
	(void)arg;
	if (counting)
		report();
	counting = !counting;
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t i, nr = qemu_plugin_tb_n_insns(tb);
	struct block *block = calloc(1, sizeof(*block));
	struct qemu_plugin_insn *insn;

	(void)id;
	if (!block)
		abort();
	block->address = qemu_plugin_tb_vaddr(tb);
	block->insns = nr;
	block->next = blocks;
	blocks = block;
	for (i = 0; i < nr; i++) {
		insn = qemu_plugin_tb_get_insn(tb, i);
		if (qemu_plugin_insn_size(insn) == sizeof(mark) &&
		    !memcmp(qemu_plugin_insn_data(insn), mark, sizeof(mark)))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, at_mark, 0,
							       NULL);
	}
	qemu_plugin_register_vcpu_tb_exec_cb(tb, count, 0, block);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
	const char *path = getenv("PROFILE_OUT");

	(void)info;
	(void)argc;
	(void)argv;
	out = path ? fopen(path, "w") : NULL;
	if (!out)
		return 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
