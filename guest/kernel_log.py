#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Find the faults in a kernel log.

As a program, `kernel_log.py FILE...` prints them and exits with 1 if there are any;
with `--blocked-dma` as the first argument, what IOMMUs report about DMA as well.

A fault is what fails a test even when the test itself has passed: a warning, an
oops, a lockup, the report of a sanitizer. Two things with alarming names are none.
The reports of an IOMMU about blocked DMA ("DMAR: [DMA Read ...] fault addr",
"AMD-Vi: Event logged [IO_PAGE_FAULT ...") are what a test of unmapped memory is
after; in guests without such a test, they are faults, too. And a bare "Call Trace:"
also comes from fault injection, which announces each failure that it makes.
"""

import re
import sys

# The time, and with CONFIG_PRINTK_CALLER the task or CPU, before each message.
PREFIX = re.compile(r"^\[\s*\d+\.\d+\](?:\[\s*[TC]\d+\])? ")

# Matched at the start of the message, so that a fault's name quoted in the middle
# of another message (the name of a file or of a test) is not taken for one.
FAULT = re.compile(
    r"""
      WARNING:\s
    | (?:watchdog:\s|\[\s)?BUG[:\s]
    | kernel\sBUG\sat\s
    | Oops\b
    | Kernel\spanic\b
    | (?:traps:\s)?PANIC:\s
    | general\sprotection\sfault\b
    | (?:divide\serror|stack\ssegment|invalid\sopcode|int3)\b.*\[\#\d+\]
    | Unable\sto\shandle\skernel\b
    | (?:NMI\s)?watchdog:\s.*\bLOCKUP\b
    | (?:rcu:\s)?INFO:\s(?:rcu_\w+\s|task\s.*\sblocked\s)
    | INFO:\s(?:possible\srecursive|trying\sto\sregister\snon-static|lockdep\sis\sturned\soff)
    | note:\s\S+\sexited\swith\s
    | huh,\sentered\s
    | pagealloc:\smemory\scorruption
    | kobject:?\s.*\stried\sto\sinit\s
    | DEBUG_LOCKS_WARN_ON
    | ODEBUG:\s
    | UBSAN:\s
    | KASAN:\s
    | kmemleak:\s\d+\snew\ssuspected\s
    | refcount_t:\s
    | (?:list_add|list_del)\scorruption
    | sysfs:\scannot\screate\sduplicate\s
    | \s*pid:\s\d+,\sname:\s(?!migration/)
    | DMAR:\s(?:ERROR:|VT-d\sdetected)\s
    | AMD-Vi:\s(?:Completion-Wait\sloop\stimed\sout|Event\slogged\s\[ILLEGAL_)
    """,
    re.VERBOSE,
)

# KCSAN watches all of the kernel. A race is one of ours only if we take part: one of the
# two stacks of the report goes through a module of ours. The report ends with a line of
# "=", as it began.
RACE = re.compile(r"BUG: KCSAN: ")
RACE_END = re.compile(r"={20,}$")
OURS = re.compile(r"\[vfio_mt_\w+\]")

# Of the kernel's own making, though we take part, and harmless:
#
# Dropping a pin, the kernel reads from the flags of a page on which node it is, for a
# counter. These bits never change. Meanwhile another thread sets one of the other bits,
# atomically, since the page gets onto a list for reclaim that it was waiting for: it is
# mapped a second time, or was faulted in a moment ago. Neither is a matter of who pins.
#
# Whoever sleeps for some time looks whether the timer has woken it, which the timer's
# interrupt notes without a lock: usleep_range() does so, whoever calls it.
#
# A worker reads the flags of the work that it is about to do under the lock of its pool.
# Whoever cancels the work tries to set one of these flags, atomically, before it takes that
# lock; the worker looks at others.
#
# Whoever pins notes in the flags of the running task, for as long as that takes, where its
# memory may come from; capable() notes there that it has used a privilege. Nobody but the task
# itself writes these flags. Others read other bits of them, without a lock: RCU, in an interrupt
# at that moment, whether it has interrupted the idle task, and /proc whether the task is the
# kernel's own.
KNOWN = re.compile(r"BUG: KCSAN: data-race in ("
                   r"(?:__gup_longterm_locked|capable) / (?:do_task_stat|rcu_core|task_dump_owner)"
                   r"|gup_put_folio / lru_add_fn"
                   r"|hrtimer_wakeup / schedule_hrtimeout_range_clock"
                   r"|process_one_work / try_to_grab_pending"
                   r")$")

# What a device wanted of memory that is not mapped for it, or not so
BLOCKED = re.compile(r"DMAR: \[DMA |AMD-Vi: Event logged \[IO_PAGE_FAULT |virtio_iommu \S+ \S+ fault from ")

# When a CPU goes offline, 6.12 now and then counts one task on it that is not there,
# whichever backend is loaded. It lists those that are there: one that is not the kernel's
# own stopper is a fault.
DYING = re.compile(r"WARNING: .* at kernel/sched/core\.c:\d+ sched_cpu_dying\+")


# An emulated CPU gets stuck now and then, where another one patches the kernel's code, or sleeps
# and misses its timer. Or it runs into the breakpoint that is there while code is patched, when
# that is over and nobody knows of it any more.
HICCUP_LINES = 150  # what is told of it, and more
HICCUP = re.compile(r"(?:watchdog:\s)?BUG: soft lockup |(?:rcu: )?INFO: rcu_\w+ (?:self-)?detected .*stall"
                    r"|(?:Oops: )?int3: 0000 \[#1\]")
# What else the log may have then: tasks that waited for that CPU, and its end
FOLLOWS = re.compile(r"(?:rcu: )?INFO: task .* blocked |BUG: workqueue lockup "
                     r"|Kernel panic - not syncing: (?:softlockup|RCU Stall|hung_task|Fatal exception)"
                     r"|note: \S+ exited with ")


def messages_of(text):
    """Return the messages in a kernel log, without what is before each of them."""
    return [PREFIX.sub("", line, count=1).rstrip() for line in text.splitlines()]


def is_ours(messages, at):
    """Tell whether the race reported there is ours, or may be: the report has no end."""
    if KNOWN.match(messages[at]):
        return False
    for message in messages[at:]:
        if RACE_END.match(message):
            return False
        if OURS.search(message):
            return True
    return True


def find_faults(text):
    """Return the messages in a kernel log that report a fault, each one once."""
    messages = messages_of(text)
    faults = {}
    for at, message in enumerate(messages):
        if DYING.match(message):
            continue
        if FAULT.match(message) and (not RACE.match(message) or is_ours(messages, at)):
            faults.setdefault(message)
    return list(faults)


def find_blocked_dma(text):
    """Return the reports of an IOMMU that has blocked DMA, each one once."""
    return list(dict.fromkeys(message for message in messages_of(text) if BLOCKED.match(message)))


def has_hiccup(text):
    """Tell whether the emulator had one, and none of our modules is in the stacks shown then."""
    messages = messages_of(text)
    hiccups = [at for at, message in enumerate(messages) if HICCUP.match(message)]
    return bool(hiccups) and not any(OURS.search(later) for at in hiccups
                                     for later in messages[at:at + HICCUP_LINES])


def comes_of_hiccup(fault):
    """Tell whether a fault may be nothing but a hiccup or what that leads to."""
    return bool(HICCUP.match(fault) or FOLLOWS.match(fault))


def main(paths):
    finders = [find_faults]
    if paths[:1] == ["--blocked-dma"]:
        finders.append(find_blocked_dma)
        paths = paths[1:]
    faults = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        for find in finders:
            faults += find(text)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
