#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Test guest/run itself: that it tells a good guest from a bad one.
#
#	guest/selftest.sh
#
# Prints a line for each test, and "N passed, N failed" at the end; exits with 1 if
# one has failed. Takes about two minutes without KVM.

set -uo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=SCRIPTDIR/../scripts/lib.sh
. "$here/../scripts/lib.sh"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
passed=0
failed=0

# guest ARG...: run a guest, and leave its output, messages and status in $work
guest()
{
	"$here/run" --mem 1G "$@" >"$work/stdout" 2>"$work/stderr"
	status=$?
}

# check NAME CONDITION...: report one test, which passes if the command succeeds
check()
{
	local name=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
		echo "ok $((passed + failed)) - $name"
	else
		failed=$((failed + 1))
		echo "not ok $((passed + failed)) - $name"
		echo "# did not hold: $*; status $status, output and messages:"
		tail -n 50 -- "$work/stdout" "$work/stderr" 2>/dev/null | sed 's/^/# /'
	fi
}

status_is()
{
	[[ $status -eq $1 ]]
}

stdout_is()
{
	[[ $(<"$work/stdout") == "$1" ]]
}

# Whether the guest failed, and for the reason that messages matching REGEX tell.
failed_with()
{
	status_is 125 && grep -Eq -- "$1" "$work/stderr"
}

build_faulty_module()
{
	local release

	release=$(<"$("$here/kernel")/release") || return
	cp -r -- "$here/selftest_module" "$work/module" &&
		make -s -C "/lib/modules/$release/build" M="$work/module" modules >&2 &&
		faulty=$work/module/vfio_mt_type1.ko
}

# shellcheck disable=SC2016 # the guest's shell expands these
three_devices='
	for device in $VFIO_DEVICES; do
		readlink "/sys/bus/pci/devices/$device/driver"
		readlink "/sys/bus/pci/devices/$device/iommu_group"
	done | sed "s,.*/,," | sort | uniq -c | sort -n | awk "{ print \$1, \$2 ~ /vfio/ ? \$2 : \"group\" }"'
three_devices_bound='1 group
1 group
1 group
3 vfio-pci'

test_kernel_log()
{
	status=0
	cat >"$work/harmless" <<-'END'
	[    0.000000] rcu: 	RCU CPU stall warnings timeout set to 60 (rcu_cpu_stall_timeout).
	[    1.000000] DMAR: DRHD: handling fault status reg 2
	[    1.000000] DMAR: [DMA Write NO_PASID] Request device [00:10.0] fault addr 0x1000 [fault reason 0x05]
	[    1.000000] AMD-Vi: Event logged [IO_PAGE_FAULT device=00:10.0 domain=0x0001 address=0x1000 flags=0x0020]
	[    1.000000] test: WARNING: BUG: quoted in the middle
	[    1.000000] FAULT_INJECTION: forcing a failure.
	[    1.000000] Call Trace:
	[    1.000000] BUG: KCSAN: data-race in __gup_longterm_locked / task_dump_owner
	[    1.000000]  vfio_mt_x+0x1/0x2 [vfio_mt_type1]
	[    1.000000] ==================================================================
	[    1.000000] BUG: KCSAN: data-race in gup_put_folio / lru_add_fn
	[    1.000000]  vfio_mt_x+0x1/0x2 [vfio_mt_type1]
	[    1.000000] ==================================================================
	[    1.000000] BUG: KCSAN: data-race in hrtimer_wakeup / schedule_hrtimeout_range_clock
	[    1.000000]  vfio_mt_x+0x1/0x2 [vfio_mt_type1]
	[    1.000000] ==================================================================
	[    1.000000] BUG: KCSAN: data-race in process_one_work / try_to_grab_pending
	[    1.000000]  vfio_mt_x+0x1/0x2 [vfio_mt_type1]
	[    1.000000] ==================================================================
	[    1.000000] BUG: KCSAN: data-race in x / y
	[    1.000000]  x+0x1/0x2
	[    1.000000]  y+0x1/0x2 [vfio_pci_core]
	[    1.000000] ==================================================================
	[    1.000000]  z+0x1/0x2 [vfio_mt_type1]
	END
	cat >"$work/faults" <<-'END'
	[    1.000000] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 x+0x1/0x2 [x]
	[    1.000000][  T123] WARNING: possible circular locking dependency detected
	[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000
	[    1.000000][    C0] BUG: KASAN: use-after-free in x+0x1/0x2
	[    1.000000] BUG kmalloc-64 (Tainted: G           O): Poison overwritten
	[    1.000000] Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1]
	[    1.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [x:1]
	[    1.000000] INFO: task x:1 blocked for more than 120 seconds.
	[    1.000000] rcu: INFO: rcu_preempt self-detected stall on CPU
	[    1.000000] UBSAN: array-index-out-of-bounds in x.c:1:1
	[    1.000000] [ BUG: Invalid wait context ]
	[    1.000000] INFO: lockdep is turned off.
	[    1.000000] note: x[1] exited with preempt_count 1
	[    1.000000] huh, entered softirq 1 TIMER x with preempt_count 00000100, exited with 00000101?
	[    1.000000] pagealloc: memory corruption
	[    1.000000] kobject: 'x' (x): tried to init an initialized object, something is seriously wrong.
	[    1.000000] DMAR: VT-d detected Invalidation Queue Error: Reason f
	[    1.000000] AMD-Vi: Completion-Wait loop timed out
	[    1.000000] AMD-Vi: Event logged [ILLEGAL_DEV_TABLE_ENTRY device=00:10.0 pasid=0x00000 address=0x1000 flags=0x0020]
	[    1.000000] Kernel panic - not syncing: sysrq triggered crash
	[    1.000000] kmemleak: 1 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
	[    1.000000] DMAR: ERROR: DMA PTE for vPFN 0x1 already set (to 1 not 2)
	[    1.000000] BUG: KCSAN: data-race in x / y
	END
	cat >"$work/races" <<-'END'
	[    1.000000] BUG: KCSAN: data-race in x / y
	[    1.000000]  x+0x1/0x2
	[    1.000000]  y+0x1/0x2 [vfio_mt_type1]
	[    1.000000] ==================================================================
	[    1.000000] BUG: KCSAN: data-race in __gup_longterm_locked / y
	[    1.000000]  vfio_mt_x+0x1/0x2 [vfio_mt_type1]
	[    1.000000] ==================================================================
	END
	check "harmless kernel messages are no faults" "$here/kernel_log.py" "$work/harmless"
	[[ $("$here/kernel_log.py" --blocked-dma "$work/harmless" | wc -l) -eq 2 ]] || status=1
	check "what an IOMMU has blocked is found where it may not be" status_is 0
	[[ $("$here/kernel_log.py" "$work/races" | wc -l) -eq 2 ]] || status=1
	check "a race of the module's own is a fault" status_is 0
	"$here/kernel_log.py" "$work/faults" >"$work/stdout"
	check "every kind of fault is found" diff "$work/stdout" \
		<(sed -E 's/^\[[^]]*\](\[[^]]*\])? //' "$work/faults")
}

test_command()
{
	guest -- true
	check "a command that succeeds" status_is 0
	guest -- exit 3
	check "a command that fails gives its exit status" status_is 3

	# One guest for all that can be seen in one
	mkdir -p "$work/tree/sub"
	printf '#!/bin/sh\nprintf "[%%s]" "$@"\n' >"$work/tree/sub/arguments"
	chmod +x "$work/tree/sub/arguments"
	head -c 5000000 /dev/urandom >"$work/blob"
	# shellcheck disable=SC2016 # the guest's shell expands these
	guest --add "$work/tree" --add "$work/blob:/data/renamed" --out "$work/returned" \
		--append "made_up=1" --with-module loop -- sh -c '
		echo "BUG: printed by the command"
		echo "[    1.0] WARNING: printed by the command"
		tree/sub/arguments "$@"; echo
		grep -o made_up=1 /proc/cmdline
		modprobe loop && ls -d /sys/module/loop
		mkdir /out/deep
		cp /data/renamed /out/deep/blob
		echo "text" >/out/text
		sleep 1000 & # left behind
		exit 7' sh 'two words' '$quoted' "it's"
	check "a failing command's status, in spite of what else goes on" status_is 7
	# shellcheck disable=SC2016 # what the guest's shell did not expand
	check "faults that the command prints are its own affair" stdout_is \
'BUG: printed by the command
[    1.0] WARNING: printed by the command
[two words][$quoted][it'\''s]
made_up=1
/sys/module/loop'
	check "files come back, however deep" cmp "$work/blob" "$work/returned/deep/blob"
	check "and all of them" grep -qx text "$work/returned/text"
}

test_bad_guests()
{
	guest --timeout 25 --verbose -- 'echo started; sleep 1000'
	check "a guest that does not end is a timeout" status_is 124
	check "what it printed before that is there" stdout_is started
	check "--verbose shows the console" grep -q "running the command" "$work/stderr"

	guest --keep-log "$work/log" -- 'echo c >/proc/sysrq-trigger; sleep 1000'
	check "a panic fails the guest" failed_with "kernel log: Kernel panic"
	check "--keep-log keeps the log of a panic" grep -q "sysrq triggered crash" "$work/log"

	local lockup='watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [x:1]'
	local trap='Oops: int3: 0000 [#1] PREEMPT SMP NOPTI' what ours

	for what in "$lockup" "$trap"; do
		for ours in '' ' y+0x1/0x2 [vfio_mt_type1]'; do
			guest --accel tcg -- "for line in '$what' ' x+0x1/0x2 [vfio_pci]' '$ours'; do
				echo \"\$line\" >/dev/kmsg; done"
			check "'${what%%[*}' fails the guest" failed_with "kernel log.*: ${what%%[*}"
			check "and is a hiccup unless we are in its stack: '$ours'" \
				test "$(grep -c ': hiccup' "$work/stderr")" -eq "$((!${#ours}))"
			check "and is told as one then: '$ours'" \
				test "$(grep -c 'log of a hiccup' "$work/stderr")" -eq "$((!${#ours}))"
		done
	done
	guest --accel tcg -- "for line in '$lockup' ' x+0x1/0x2 [vfio_pci]' 'BUG: KASAN: made up'; do
		echo \"\$line\" >/dev/kmsg; done"
	check "what has nothing to do with a hiccup is not told as one" \
		failed_with 'in the kernel log: BUG: KASAN: made up'

	guest -- poweroff -f
	check "a guest that ends too early fails" failed_with "without a report"

	guest --driver mt --mt-ko "$work/missing.ko" -- true
	check "a missing module fails" failed_with "build it first"

	guest --append init=/missing -- true
	check "init= does not replace ours" status_is 0
	guest --append rdinit=/missing -- true
	check "a guest that does not boot fails" failed_with "Kernel panic"
}

test_modules()
{
	if ! build_faulty_module; then
		status=1
		check "the faulty module builds" false
		return
	fi

	guest --driver mt --mt-ko "$faulty" -- 'backend status; backend stock; backend status;
		backend mt fault=leave; cat /sys/module/vfio_mt_type1/parameters/fault;
		backend none; backend status'
	check "the backend can be changed in the guest" stdout_is $'vfio_mt_type1\nvfio_iommu_type1\nleave'
	check "and that is no fault" status_is 0

	guest --driver mt --driver-arg fault=warn --mt-ko "$faulty" -- true
	check "a kernel warning fails the guest" failed_with "kernel log: WARNING: .*faulty_init"
	guest --driver mt --driver-arg fault=warn --mt-ko "$faulty" --no-panic-on-warn -- 'echo ran'
	check "also where it is no panic" failed_with "kernel log: WARNING: .*faulty_init"
	check "and the command runs" stdout_is ran
	guest --driver mt --driver-arg fault=warn --mt-ko "$faulty" --expect-warn faulty_init -- true
	check "a warning can be expected" status_is 0
	guest --expect-warn faulty_init -- true
	check "and is missed then" failed_with "no fault in the kernel log matches"
	guest --no-blocked-dma -- 'echo "DMAR: [DMA Write NO_PASID] Request device" >/dev/kmsg'
	check "blocked DMA fails the guest where there may be none" failed_with "blocked DMA: DMAR: "
	guest --driver mt --driver-arg fault=exit_warn --mt-ko "$faulty" -- true
	check "a warning after the command fails the guest" failed_with "kernel log: WARNING: .*faulty_exit"
	guest --driver mt --driver-arg fault=leak --mt-ko "$faulty" -- true
	check "a leaked reference fails the guest" failed_with "vfio_mt_type1 cannot be unloaded"
}

test_machines()
{
	local iommu

	for iommu in intel amd; do
		guest --iommu "$iommu" -- "$three_devices"
		check "$iommu: three devices, each in a group of its own" stdout_is "$three_devices_bound"
		check "$iommu: nothing wrong" status_is 0
	done
	guest --iommu none --devices 1 -- 'ls /sys/kernel/iommu_groups; backend stock; backend status'
	check "no IOMMU: no groups, the stock backend loads" stdout_is vfio_iommu_type1

	guest --mem 4G --smp 1 --hugepages-2m 10 --hugepages-1g 1 --iommu intel,aw-bits=48 --devices 1 -- '
		nproc; cat /sys/kernel/mm/hugepages/hugepages-*/nr_hugepages; ls /hugetlbfs'
	check "CPUs and huge pages as asked for" stdout_is $'1\n1\n10\n1G\n2M'

	guest --mem 1G --hugepages-1g 4 -- true
	check "a lack of huge pages fails the guest" failed_with "of 4 hugepages-1048576kB are there"

	guest --accel tcg -- grep -q tick_handle_periodic /proc/timer_list
	check "an emulated CPU has a tick" status_is 0

	guest --icount -- sh -c 'nproc; ! grep -q nohz=off /proc/cmdline'
	check "a guest with a counting clock" stdout_is 1
	check "and without ticks that would be counted" status_is 0
}

"$here/kernel" >/dev/null || die "there is no guest kernel"
test_kernel_log
test_command
test_machines
test_modules
test_bad_guests

echo "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
