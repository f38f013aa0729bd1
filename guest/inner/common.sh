# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=sh
# shellcheck disable=SC2034,SC3045 # for who sources it; bash and busybox have read -t
#
# For scripts in a guest that start guests in it, or other users of VFIO; for busybox's
# shell and for bash.
#
# A guest in the guest is told what to do, and answers, over a serial port: see
# guest/inner/init. Descriptor 3 is what it is told by, 4 is where it answers.

ANSWER_SECONDS=120
STOP_SECONDS=200

# What every guest has. What takes long and is not of interest: the tests of the kernel's
# own ciphers. (So do devices that a guest finds: it gets few.)
KERNEL_ARGS="console=ttyS0 panic=-1 quiet cryptomgr.notests no_timer_check tsc=reliable"
GUEST_ARGS="-nodefaults -no-user-config -display none -accel kvm -cpu host"
AGENT_ARGS="-chardev pipe,id=agent,path=/tmp/agent -serial chardev:agent"

# pinned: how many pins of pages there are
pinned()
{
	# What CPUs have counted by themselves
	echo 1 >/proc/sys/vm/stat_refresh
	awk '/^nr_foll_pin_acquired/ { n += $2 } /^nr_foll_pin_released/ { n -= $2 }
		END { print n + 0 }' /proc/vmstat
}

# limit_time PID: kill it if it takes too long; sets LIMIT, to be killed when it did not,
# by "kill -- $LIMIT": a group of processes
limit_time()
{
	setsid sh -c "sleep $STOP_SECONDS; kill -9 $1" 3>&- 4>&- 5>&- >/dev/null 2>&1 &
	LIMIT=-$!
}

# hold_keys QEMU...: while there is a guest, even one that never runs, KVM does not patch
# the kernel's code when others come and go. An emulated CPU that comes upon code which
# another one patches stays there, now and then. Sets KEYS, to be killed in the end.
hold_keys()
{
	modprobe kvm-amd || return
	# shellcheck disable=SC2086 # words
	"$@" $GUEST_ARGS -monitor none -M q35 -m 16M -S >/tmp/keys.log 2>&1 &
	KEYS=$!
	tries=0
	while [ $tries -lt 100 ]; do
		# shellcheck disable=SC2010 # links
		! ls -l "/proc/$KEYS/fd" 2>/dev/null | grep -q 'anon_inode:kvm-vcpu' || return 0
		sleep 0.2
		tries=$((tries + 1))
	done
	return 1
}

# agent_open: before QEMU starts, which must not get descriptor 4
agent_open()
{
	rm -f /tmp/agent.in /tmp/agent.out
	mkfifo /tmp/agent.in /tmp/agent.out
	chmod 666 /tmp/agent.in /tmp/agent.out
	# shellcheck disable=SC2094 # a pipe
	exec 3<>/tmp/agent.in 6<>/tmp/agent.out 4</tmp/agent.out
}

# agent_started: only QEMU keeps the end that it writes to, so that its end is seen.
agent_started()
{
	exec 6>&-
}

agent_close()
{
	exec 3>&- 4>&-
	rm -f /tmp/agent.in /tmp/agent.out
}

# wait_answer: set $ANSWER to what the guest says, as long as QEMU lives. What a "read" has
# of a line when its time is over is lost: there is one, not one a second.
wait_answer()
{
	while read -r -t $ANSWER_SECONDS line <&4; do
		case $line in
		"= "*)
			ANSWER=${line#= }
			return
			;;
		esac
	done
	ANSWER=nothing
}

# ask COMMAND...: have the guest do something
ask()
{
	echo "$*" >&3
	wait_answer
}
