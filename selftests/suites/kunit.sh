#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest: run the unit tests, which KUnit does while their module is being
# loaded.
#
#	kunit.sh NUMBER-OF-SUITES
#
# Prints an "ok" or "not ok" line for each case, or for each of its parameters, and
# what went wrong. The whole of the KTAP is left in /out.

mark="kunit.sh: loading the unit tests"
suites=$1
echo "$mark" >/dev/kmsg
insmod /test/vfio_mt_kunit.ko || exit 1
dmesg | sed 's/^\[[^]]*\] //' | sed -n "/$mark/,\$p" >/out/ktap
rmmod vfio_mt_kunit || exit 1

awk -v suites="$suites" '
	/^    # Subtest: /	{ suite = $3 }
	/^        # Subtest: /	{ params = 0 }
	/^    # .*(FAILED|error|failed)/	{ print "# " $0 }
	/^        (Expected |[a-z].* (==|!=|<|>) )/	{ print "# " $0 }
	/^ *(not )?ok [0-9]+ / {
		match($0, /^ */)
		depth = RLENGTH / 4
		match($0, /(not )?ok [0-9]+ /)
		good = ($0 ~ /^ *ok / && $0 !~ /# SKIP/) ? "ok" : "not ok"
		name = substr($0, RSTART + RLENGTH)
		if (depth == 2) {
			params++
			leaf[params] = good " - " suite "."
			text[params] = name
		} else if (depth == 1) {
			for (i = 1; i <= params; i++)
				print leaf[i] name ": " text[i]
			if (!params || (good != "ok" && $0 ~ /# SKIP/))
				print good " - " suite "." name
			params = 0
		} else {
			ended++
			if (good != "ok")
				print good " - " suite
		}
	}
	END {
		good = suites > 0 && ended == suites
		print (good ? "ok" : "not ok") " - all suites came to their end: " \
			ended + 0 " of " suites
	}' /out/ktap >/tmp/lines
cat /tmp/lines
! grep -q '^not ok' /tmp/lines
