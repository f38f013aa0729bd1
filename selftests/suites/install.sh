#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# In the guest of guest/install: put a Debian together out of the image (which stays as it
# is) and the kernel's modules, and run the cases in it.
#
#	install.sh VERSION [CASE]...

release=$(uname -r)
root=/debian/root

# VFIO is to be loaded by the cases, by Debian's modprobe.
for device in /sys/bus/pci/drivers/vfio-pci/0*; do
	[ ! -e "$device" ] || echo "${device##*/}" >/sys/bus/pci/drivers/vfio-pci/unbind
done
for module in vfio_pci vfio_pci_core vfio_virqfd vfio_iommu_type1 vfio irqbypass; do
	[ ! -d /sys/module/$module ] || rmmod $module || exit
done

modprobe -q crc32c_generic	# ext4 of later kernels does without
for module in virtio_blk ext4 overlay; do
	modprobe $module || exit
done
mkdir /debian
mount -t tmpfs -o size=3G tmpfs /debian || exit
mkdir /debian/image /debian/upper /debian/work $root
mount -t ext4 -o ro /dev/vda /debian/image || exit
mount -t overlay -o lowerdir=/debian/image,upperdir=/debian/upper,workdir=/debian/work \
	overlay $root || exit
for dir in proc sys dev dev/pts test out; do
	mkdir -p $root/$dir
	mount --bind /$dir $root/$dir || exit
done
# The modules that this guest has, where DKMS adds one
mkdir -p $root/lib/modules
mount --bind /lib/modules $root/lib/modules || exit
ln -sfn "/usr/src/linux-headers-$release" "/lib/modules/$release/build"
# From the kernel's package, as is /boot/config
mkdir -p $root/boot
cp "$root/usr/src/linux-headers-$release/.config" "$root/boot/config-$release"

# Or apt has a path of its own for what it runs.
echo 'DPkg::Path "/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin";' >$root/etc/apt/apt.conf.d/ccache

exec chroot $root env -i PATH=/usr/lib/ccache:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
	LC_ALL=C DEBIAN_FRONTEND=noninteractive CCACHE_DIR=/test/ccache \
	CCACHE_COMPILERCHECK=content CCACHE_SLOPPINESS=locale VFIO_DEVICES="$VFIO_DEVICES" \
	bash /test/install-cases.sh "$@"
