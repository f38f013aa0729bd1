#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2016,SC2086,SC2317 # for perl; no spaces; called by name
#
# In the guest's Debian: the package from its installation to its removal. Prints "ok" and
# "not ok" lines.
#
#	install-cases.sh VERSION [CASE]...	(default: all; most need what others leave)

VERSION=$1
shift
RELEASE=$(uname -r)
MT=vfio_mt_type1
STOCK=vfio_iommu_type1
DEVICE=${VFIO_DEVICES%% *}
# As guest/install has it
DISK=0000:00:1e.0
MODULE=/lib/modules/$RELEASE/updates/dkms/$MT.ko
FAILED=0

# shellcheck source=SCRIPTDIR/../../guest/inner/common.sh
. /test/common.sh

# report STATUS TEXT
report()
{
	if [[ $1 -eq 0 ]]; then
		echo "ok - $2"
	else
		echo "not ok - $2"
		FAILED=1
		[[ ! -s /tmp/log ]] || sed 's/^/# /' /tmp/log | tail -n 40
	fi
}

# try TEXT COMMAND ARG...: does it succeed?
try()
{
	local text=$1
	shift

	: >/tmp/log
	"$@" >/tmp/log 2>&1
	report $? "$text"
}

# refuse TEXT COMMAND ARG...: does it fail?
refuse()
{
	local text=$1
	shift

	: >/tmp/log
	! "$@" >/tmp/log 2>&1
	report $? "$text"
}

# says WHAT: is it in what the last command printed?
says()
{
	grep -qF -- "$1" /tmp/log
	report $? "... and says: $1"
}

# same TEXT WANTED GOT
same()
{
	: >/tmp/log
	[[ $2 == "$3" ]]
	report $? "$1$([[ $2 == "$3" ]] || echo ": '$3', not '$2'")"
}

# json EXPRESSION: of what "vfio-mt status --json" says, in perl
json()
{
	vfio-mt status --json --memory >/tmp/status.json
	perl -MJSON::PP -e '
		local $/;
		open(my $f, "<", "/tmp/status.json") or die;
		our $s = decode_json(<$f>);
		my $v = eval($ARGV[0]);
		die $@ if $@;
		$v = "null" if !defined $v;
		print ref($v) eq "ARRAY" ? join(",", @$v) : "$v";
	' "$1" 2>&1
}

parameter()
{
	cat "/sys/module/$MT/parameters/$1"
}

# unload: all of VFIO, as before the first use
unload()
{
	local module

	[[ ! -e /sys/bus/pci/drivers/vfio-pci/$DEVICE ]] ||
		echo "$DEVICE" >/sys/bus/pci/drivers/vfio-pci/unbind
	for module in vfio_pci vfio_pci_core vfio_virqfd $MT $STOCK vfio; do
		[[ ! -d /sys/module/$module ]] || rmmod $module
	done
}

only_loaded()
{
	[[ -d /sys/module/$1 && ! -d /sys/module/$2 ]]
}

# answers mt|stock: on a device, as the self tests find out
answers()
{
	sh /test/vfio-bind "$DEVICE" &&
		/test/vfio_mt_selftest bench --driver "$1" --size 64M --backing 4k,thp \
			--reps 1 --quiet
}

# hold [give]: a process with a container, until $HOLDER is killed; give: and $GIVEN, which
# has got it from that one, as long
hold()
{
	local group ready

	group=$(basename "$(readlink "/sys/bus/pci/devices/$DEVICE/iommu_group")")
	coproc perl -e '
		open(my $c, "+<", "/dev/vfio/vfio") or die;
		open(my $g, "+<", "/dev/vfio/$ARGV[0]") or die;
		# VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU with VFIO_TYPE1v2_IOMMU
		defined(ioctl($g, 0x3b68, pack("i", fileno($c)))) or die;
		defined(ioctl($c, 0x3b66, 3)) or die;
		my $holder = $$;
		my $given = $ARGV[1] ? fork : 0;
		if ($$ != $holder) {
			select(undef, undef, undef, 0.1) while getppid == $holder;
			exit;
		}
		$| = 1;
		print "ready $given\n";
		sleep;
	' "$group" "$@"
	HOLDER=$COPROC_PID
	read -r -t 60 ready GIVEN <&"${COPROC[0]}"
	same "a process has a container" ready "$ready"
}

release()
{
	kill "$HOLDER"
	wait "$HOLDER" 2>/dev/null
}

# guest DRIVER: Debian's QEMU starts a guest that has a disk of this machine
guest()
{
	local sum qemu bound=/sys/bus/pci/devices/$DISK/driver_override

	if [[ -z ${KEYS-} ]]; then
		hold_keys qemu-system-x86_64 || report 1 "a guest that does nothing"
	fi
	sum=$(cat /test/disk.md5)
	sh /test/vfio-bind "$DISK"
	agent_open
	qemu-system-x86_64 $GUEST_ARGS -M q35 -m 512M \
		-kernel /test/vmlinux -initrd /test/inner.cpio -append "$KERNEL_ARGS" \
		-serial "file:/out/console.$1" $AGENT_ARGS \
		-device "vfio-pci,host=$DISK" >/tmp/qemu.log 2>&1 4<&- &
	qemu=$!
	agent_started
	wait_answer
	same "a guest with a disk of ours is up" up "$ANSWER"
	sed 's/^/# qemu: /' /tmp/qemu.log
	[[ $1 != "$MT" ]] || same "... status: on which driver" "qemu-system-x86 $1" \
		"$(json 'join " ", map { @$_{qw(command driver)} } grep { $_->{pid} == '$qemu' } @{$s->{processes}}')"
	same "... the container is this driver's" 1 "$(cat "/sys/module/$1/refcnt")"
	[[ $(pinned) -gt 0 ]]
	report $? "... which has pinned its memory ($(pinned) pins)"
	ask disk 0 0
	same "... what it reads of the disk, and has written" "$sum $sum" "$ANSWER"
	[[ $ANSWER != nothing ]] || kill -9 $qemu
	echo off >&3
	wait $qemu
	same "... QEMU has ended well" 0 $?
	same "... nothing is pinned" 0 "$(pinned)"
	agent_close
	echo "$DISK" >/sys/bus/pci/drivers/vfio-pci/unbind
	echo >"$bound"
}

# What dpkg, dkms and the tool would leave behind
remains()
{
	find / -xdev \( -path /proc -o -path /test -o -path /out \) -prune -o \
		\( -name '*vfio?mt*' -o -name '*vfio-mt*' \) -print 2>/dev/null |
		grep -v -e '^/var/log/' -e '^/var/cache/'
	# File systems of their own
	find "/lib/modules/$RELEASE" /run -name '*vfio?mt*'
}

case_install()
{
	cat >/etc/modprobe.d/local.conf <<-'END'
	options vfio_iommu_type1 allow_unsafe_interrupts=1 dma_entry_limit=1234
	options vfio_mt_type1 max_threads=3
	END
	try "modprobe loads the stock driver before" modprobe vfio-pci
	only_loaded $STOCK $MT
	report $? "... and no other"
	unload

	try "apt installs the package" apt-get install -y --no-install-recommends /test/old.deb
	sed "s/^/# /" /tmp/log
	[[ $(dkms status -m $MT) == "$MT/$VERSION, $RELEASE, x86_64: installed" ]]
	report $? "dkms has built it for the running kernel"
	same "the module has the package's version" "$VERSION" "$(modinfo -F version $MT)"
	same "it is signed by DKMS's key" "DKMS module signing key" "$(modinfo -F signer $MT)"
	cp "$MODULE" /tmp/signed.ko
	same "nothing was loaded" "" "$(ls -d /sys/module/$MT /sys/module/$STOCK 2>/dev/null)"
	same "status: what will be loaded" "whatever loads vfio gets $MT" \
		"$(json '$s->{new_containers}{why}')"
}

case_load()
{
	try "modprobe vfio-pci" modprobe vfio-pci
	only_loaded $MT $STOCK
	report $? "... loads ours, and not the stock driver"
	same "options of the stock driver apply" "Y 1234" \
		"$(parameter allow_unsafe_interrupts) $(parameter dma_entry_limit)"
	same "options of ours apply" 3 "$(parameter max_threads)"
	try "our driver answers" answers mt
	try "modprobe -r $STOCK" modprobe -r $STOCK
	[[ ! -d /sys/module/$MT ]]
	report $? "... unloads ours"
	try "modprobe $STOCK, with an option" modprobe $STOCK disable_hugepages=1
	only_loaded $MT $STOCK
	report $? "... loads ours"
	same "... with the option, and those of the configuration" "Y Y 1234 3" \
		"$(parameter disable_hugepages) $(parameter allow_unsafe_interrupts) $(parameter dma_entry_limit) $(parameter max_threads)"
	unload
	try "modprobe $MT, with nothing loaded" modprobe $MT
	same "... with the options of both" "1234 3" \
		"$(parameter dma_entry_limit) $(parameter max_threads)"
	try "modprobe --ignore-install has the last word" modprobe --ignore-install $STOCK
	[[ -d /sys/module/$STOCK ]]
	report $? "... and loads the stock driver"
	same "status: the last one answers" $STOCK "$(json '$s->{new_containers}{driver}')"
	unload
}

case_status()
{
	local ours given drivers='join ", ", map { "$_->{pid} " . ($_->{driver} // "?") }
		sort { $a->{pid} <=> $b->{pid} } @{$s->{processes}}'

	modprobe vfio-pci
	sh /test/vfio-bind "$DEVICE"
	hold
	same "status: what new containers get" $MT "$(json '$s->{new_containers}{driver}')"
	same "status: what refers to each" "1 0" "$(json 'join " ", map { $_->{references} } @{$s->{drivers}}')"
	same "status: the process's driver" "$HOLDER perl 1 $MT" \
		"$(json 'join " ", map { @$_{qw(pid command containers driver)} } @{$s->{processes}}')"
	same "status: the device" "$DEVICE vfio-pci" \
		"$(json 'join " ", @{$s->{devices}[0]}{qw(address driver)}')"
	same "status: VT-d's pages and address bits" "VT-d 4K,2M,1G 39" \
		"$(json '"$s->{iommu}[0]{kind} " . join(",", @{$s->{iommu}[0]{page_sizes}}) . " $s->{iommu}[0]{address_bits}"')"
	same "status: parameters" "1234 Y" "$(json '"$s->{parameters}{dma_entry_limit} $s->{parameters}{allow_unsafe_interrupts}"')"
	same "status: a list of the last maps" ARRAY "$(json 'ref $s->{last_maps}')"
	try "status, for people" vfio-mt status
	says "New containers get $MT."
	says "perl ($HOLDER): $MT:"
	sed 's/^/# /' /tmp/log
	refuse "switch stock refuses while a container is open" vfio-mt switch stock
	says "perl (pid $HOLDER)"
	only_loaded $MT $STOCK
	report $? "... and changes nothing"
	release
	mount -t debugfs debugfs /sys/kernel/debug
	exec 5</sys/kernel/debug/vfio_mt/stats
	refuse "switch stock refuses while ours has a file open" vfio-mt switch stock
	says "no process has a container"
	only_loaded $MT $STOCK
	report $? "... and changes nothing"
	exec 5<&-
	try "ours maps" answers mt
	same "status: the last maps, each of 64 MiB" "64 64" \
		"$(json 'join " ", map { $_->{bytes} >> 20 } grep { $_->{ns} > 0 } @{$s->{last_maps}}[-2, -1]')"
	hold give
	ours=$HOLDER given=$GIVEN
	modprobe --ignore-install $STOCK
	sh /test/vfio-bind "$DISK"
	DEVICE=$DISK hold
	same "status: two processes, with a driver each, and one that was given a container" \
		"$ours $MT, $given ?, $HOLDER $STOCK" "$(json "$drivers")"
	umount /sys/kernel/debug
	same "... which nobody tells without debugfs" "$ours ?, $given ?, $HOLDER ?" "$(json "$drivers")"
	release
	HOLDER=$ours
	release
	for _ in $(seq 100); do
		kill -0 "$given" 2>/dev/null || break
		sleep 0.1
	done
	rmmod $STOCK
	echo "$DISK" >/sys/bus/pci/drivers/vfio-pci/unbind
	echo >"/sys/bus/pci/devices/$DISK/driver_override"
}

case_guest()
{
	modprobe vfio-pci
	only_loaded $MT $STOCK
	report $? "our driver is loaded, for a guest"
	guest $MT
}

case_switch()
{
	try "switch stock" vfio-mt switch stock
	only_loaded $STOCK $MT
	report $? "... and ours is gone"
	try "the stock driver answers" answers stock
	same "status says why" "/run/modprobe.d/vfio_mt_type1.conf says so (vfio-mt switch, until the next boot)" \
		"$(json '$s->{new_containers}{why}')"
	unload
	modprobe vfio-pci
	only_loaded $STOCK $MT
	report $? "modprobe goes along with that"
	try "switch mt" vfio-mt switch mt
	only_loaded $MT $STOCK
	report $? "... and the stock driver is gone"
	same "... with the options of both" "1234 3" \
		"$(parameter dma_entry_limit) $(parameter max_threads)"
	try "our driver answers again" answers mt
	refuse "users cannot keep the tool from working" setpriv --reuid 65534 --regid 65534 \
		--clear-groups flock -n /run/vfio-mt.lock true
	unload
	try "switch mt to a file, with a package and nothing loaded" vfio-mt switch mt --module /tmp/signed.ko
	only_loaded $MT $STOCK
	report $? "... loads it"
	[[ -s /run/modprobe.d/$MT.conf ]]
	report $? "... and tells modprobe"
	unload
	try "modprobe vfio-pci, after it was unloaded" modprobe vfio-pci
	only_loaded $STOCK $MT
	report $? "... loads a driver all the same"
	echo "install $STOCK /bin/false" >/etc/modprobe.d/a.conf
	same "status: an administrator's own rule" 'modprobe has another rule: "install vfio_iommu_type1 /bin/false"' \
		"$(json '$s->{new_containers}{why}')"
	rm /etc/modprobe.d/a.conf
	try "switch mt" vfio-mt switch mt
	only_loaded $MT $STOCK
	report $? "... and ours is there"
}

# Where the module is not for a kernel, that is installed as if it were not there.
case_kernels()
{
	local release dir

	for release in 6.6.0-1-amd64 6.1.0-1-without; do
		dir=/lib/modules/$release
		mkdir -p "$dir/build/include"
		printf '%s\n' CONFIG_MODULES=y CONFIG_VFIO=m >"$dir/build/.config"
		[[ $release == *-without ]] || echo CONFIG_VFIO_IOMMU_TYPE1=m >>"$dir/build/.config"
		try "dkms, for the kernel $release" dkms autoinstall -k "$release"
		! dkms status | grep -qF "$release"
		report $? "... has nothing to do"
		rm -r "$dir"
	done
	# As for a kernel that is installed later, whose package calls this
	try "dkms builds nothing for this kernel" dkms unbuild "$MT/$VERSION" -k "$RELEASE"
	[[ ! -e $MODULE ]]
	report $? "... and has removed what was built"
	try "dkms, when this kernel is installed" /etc/kernel/postinst.d/dkms "$RELEASE"
	same "... builds for it" "$MT/$VERSION, $RELEASE, x86_64: installed" "$(dkms status -m $MT)"
	[[ -e $MODULE ]]
	report $? "... and installs that"
}

case_initramfs()
{
	local dir

	echo vfio_pci >>/etc/initramfs-tools/modules
	# Not a disk's driver and the like as well
	echo MODULES=list >/etc/initramfs-tools/conf.d/brief
	: >/tmp/log
	mkinitramfs -k -c gzip -o /tmp/initrd "$RELEASE" >/tmp/log 2>&1
	report $? "an initial file system with vfio"
	dir=$(echo /var/tmp/mkinitramfs_*)
	[[ -e $dir/lib/modules/$RELEASE/updates/dkms/$MT.ko ]]
	report $? "... has our driver"
	[[ -n $(find "$dir/lib/modules/" -name "$STOCK.ko") ]]
	report $? "... and the stock one"
	[[ -e $dir/lib/modprobe.d/vfio_mt_type1.conf && -e $dir/etc/modprobe.d/local.conf ]]
	report $? "... and modprobe's files"
	rm -rf "$dir" /tmp/initrd
	rm /etc/initramfs-tools/conf.d/brief
	sed -i /vfio_pci/d /etc/initramfs-tools/modules
}

case_upgrade()
{
	try "apt upgrades the package" apt-get install -y --no-install-recommends /test/new.deb
	same "dkms has the new version only" "$MT/$VERSION.1, $RELEASE, x86_64: installed" \
		"$(dkms status -m $MT)"
	only_loaded $MT $STOCK
	report $? "what was loaded stays"
	same "... as it was" "$VERSION" "$(cat /sys/module/$MT/version)"
	[[ $(json '$s->{notes}') == *"is not the installed one"* ]]
	report $? "status says so"
	try "switch mt" vfio-mt switch mt
	same "... loads the new one" "$VERSION.1" "$(cat /sys/module/$MT/version)"
}

case_remove()
{
	try "apt removes the package" apt-get remove -y vfio-mt-type1-dkms
	only_loaded $STOCK $MT
	report $? "the stock driver is back"
	try "the stock driver answers" answers stock
	unload
	modprobe vfio-pci
	only_loaded $STOCK $MT
	report $? "modprobe loads the stock driver"
	same "it has its options" 1234 "$(cat /sys/module/$STOCK/parameters/dma_entry_limit)"
	guest $STOCK
	kill "$KEYS"
	wait "$KEYS" 2>/dev/null
	KEYS=
	unload
	try "apt purges the package" apt-get purge -y vfio-mt-type1-dkms
	same "no file is left" "" "$(remains)"
}

# make load, make unload: the tool and the module of a checkout, without the package
case_checkout()
{
	try "switch mt, to a file" /test/vfio-mt switch mt --module /tmp/signed.ko
	only_loaded $MT $STOCK
	report $? "... and the stock driver is gone"
	same "... with the options of both" "1234 3" \
		"$(parameter dma_entry_limit) $(parameter max_threads)"
	try "modprobe vfio-pci" modprobe vfio-pci
	only_loaded $MT $STOCK
	report $? "... does not bring the stock driver back"
	try "our driver answers" answers mt
	try "switch stock" /test/vfio-mt switch stock
	only_loaded $STOCK $MT
	report $? "... and ours is gone"
	unload
	modprobe vfio-pci
	only_loaded $STOCK $MT
	report $? "modprobe loads the stock driver"
	unload
	rm /run/vfio-mt.lock
	same "no file is left" "" "$(remains)"
}

# Last, as there is no way back. The same as module.sig_enforce=1 on the command line.
case_signatures()
{
	# As if it were there already: it is not built once more.
	touch /etc/dkms/no-autoinstall
	try "apt installs the package, and dkms builds nothing" \
		apt-get install -y --no-install-recommends /test/old.deb
	says "There is no vfio_mt_type1 for the kernel $RELEASE yet"
	try "modprobe vfio-pci, without a module of ours" modprobe vfio-pci
	only_loaded $STOCK $MT
	report $? "... loads the stock driver"
	same "status says why" "there is no $MT for kernel $RELEASE: see dkms status" \
		"$(json '$s->{new_containers}{why}')"
	refuse "switch mt fails" vfio-mt switch mt
	says "there is no $MT for kernel $RELEASE"
	unload

	echo 1 >/sys/module/module/parameters/sig_enforce
	mkdir -p "${MODULE%/*}"
	cp /tmp/signed.ko "$MODULE"
	depmod
	dmesg -C
	modprobe vfio-pci 2>/tmp/log
	only_loaded $STOCK $MT
	report $? "a key that the kernel does not trust: the stock driver is loaded"
	dmesg | grep -q "vfio_mt_type1 cannot be loaded, vfio_iommu_type1 takes its place"
	report $? "... and the kernel log says so"
	refuse "switch mt fails" vfio-mt switch mt
	says 'signed by "DKMS module signing key"'
	says "mokutil --import /var/lib/dkms/mok.pub"
	says "$STOCK stays"
	only_loaded $STOCK $MT
	report $? "... and the stock driver is still there"
	try "status" vfio-mt status
	says "mokutil --import /var/lib/dkms/mok.pub"

	strip -g "$MODULE"
	depmod
	refuse "switch mt fails without a signature" vfio-mt switch mt
	says "is not signed: install openssl"
	unload
	rm -r "${MODULE%/*}"
	try "apt purges the package" apt-get purge -y vfio-mt-type1-dkms
	same "no file is left" "" "$(remains)"
}

mkdir -p /run /tmp
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
[[ $# -gt 0 ]] ||
	set -- install load status guest switch kernels initramfs upgrade remove checkout signatures
for case; do
	declare -F "case_$case" >/dev/null || { echo "not ok - no such case: $case"; exit 1; }
	echo "# $case, after $SECONDS s"
	"case_$case"
done
echo "# the end, after $SECONDS s"
# What was compiled in advance
ccache -s | sed 's/^/# /'
umount /run
exit $FAILED
