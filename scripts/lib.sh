# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Functions shared by the project's bash scripts. Source it, do not run it:
#
#	. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
#
# Everything meant for a person goes to stderr, so that a script's stdout stays
# free for its result (a path, a figure).

# Where depmod and modinfo are. Debian has it in the PATH of root only.
PATH+=:/usr/sbin:/sbin

# The name that messages begin with: as the script is named in the documentation.
MSG_NAME=$(basename -- "$(dirname -- "$(realpath -- "$0")")")/${0##*/}

msg()
{
	printf '%s: %s\n' "$MSG_NAME" "$*" >&2
}

warn()
{
	msg "warning: $*"
}

die()
{
	msg "error: $*"
	exit 1
}

# progress TEXT...
#
# One line about a step that takes long enough to make a person wonder. The time
# since the script began makes a slow step visible in a CI log afterwards.
progress()
{
	printf '%s: [%3ds] %s\n' "$MSG_NAME" "$SECONDS" "$*" >&2
}

# Print the cache directory, having made it. What lies there can be deleted at
# any time: it only saves work, and every user makes what it does not find.
cache_dir()
{
	local dir=${VFIO_MT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vfio_mt}

	mkdir -p -- "$dir" || die "cannot create the cache directory $dir"
	(CDPATH='' cd -- "$dir" && pwd)
}

# as_root COMMAND ARG...
as_root()
{
	if [[ $EUID -eq 0 ]]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo -- "$@"
	else
		die "needs root, and there is no sudo: $*"
	fi
}

package_installed()
{
	local state

	state=$(dpkg-query -W -f '${db:Status-Status}' -- "$1" 2>/dev/null) || return 1
	[[ $state == installed ]]
}

# lock FILE
#
# Wait until no other process holds FILE's lock, then hold it to the end of this
# script. Two checkouts share one cache, and may want the same thing at once.
lock()
{
	exec {LOCK_FD}>"$1" || die "cannot open the lock file $1"
	flock "$LOCK_FD" || die "cannot lock $1"
}

# Where modules are built against the kernel that guests boot. From the project's root.
guest_kdir()
{
	printf '/usr/src/linux-headers-%s\n' "$(cat "$(guest/kernel)/release")"
}

# build_for_guest LOG TARGET...: LOG is shown if that fails. From the project's root.
build_for_guest()
{
	local log=$1
	shift

	make KDIR="$(guest_kdir)" "$@" >"$log" 2>&1 ||
		{ tail -n 40 "$log" >&2; die "the build failed"; }
}

# put_table FILE NAME WORK: put what comes in between two lines of FILE, "<!-- NAME: -->"
# and "<!-- end -->", where something else was; WORK is a file to use meanwhile.
put_table()
{
	local begin="<!-- $2: -->" end='<!-- end -->' text

	text=$(cat)
	awk -v begin="$begin" -v end="$end" '
		$0 == begin { begun = 1 }
		$0 == end && begun { ended = 1 }
		END { exit !ended }
	' "$1" || die "$1 has no line '$begin', or no '$end' after it"
	# Through the environment: awk takes backslashes in -v for its own.
	TEXT=$text awk -v begin="$begin" -v end="$end" '
		$0 == end { inside = 0 }
		!inside { print }
		$0 == begin { inside = 1; print ENVIRON["TEXT"] }
	' "$1" >"$3"
	cat "$3" >"$1"
}
