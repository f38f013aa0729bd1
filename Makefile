# SPDX-License-Identifier: GPL-2.0-only
#
# make          build the module for the running kernel, or where there are no headers
#               for it, for the newest that are installed
# make KDIR=…   build it for others
# make load     load it instead of vfio_iommu_type1, until the next boot
# make unload   back to the stock driver
# make selftests
#               the test and benchmark program: selftests/build
# make demo     measure it against the stock driver, in a test guest
# make bench    measure everything, and draw it: doc/bench
# make check    run all tests
# make check-matrix
#               run them on all kernels, in a short form on those but 6.1
# make check-qemu
#               QEMU guests with passthrough devices on three kinds of IOMMU
# make coverage which lines of the module they reach
# make check-detectors
#               build it with faults, and see that they are found
# make check-mutants
#               build its units with faults, and see that the unit tests fail
# make check-fuzz
#               the same for the fuzzer
# make fuzz     the fuzzer with fresh seeds, for MINUTES=10, on KERNEL=debian-6.1
# make soak     map, unmap, exec, fork and SIGKILL, again and again
# make failnth  each allocation fails once, none left out
# make lint     static checks
# make deb      the Debian package: build/deb
# make setup    install all Debian packages that any of this needs
# make clean    remove what was built
# make help     this

SHELL := /bin/bash
# Folders of headers are named after the release.
KDIR ?= $(shell dir=/lib/modules/$$(uname -r)/build; \
	[ -f "$$dir/Module.symvers" ] && readlink -f "$$dir" || \
	ls -d /lib/modules/*/build /usr/src/linux-headers-*-$(ARCH_DEB) \
	2>/dev/null | while read -r dir; do \
		[ -f "$$dir/Module.symvers" ] && readlink -f "$$dir"; \
	done | sort -uV | tail -n 1)
ARCH_DEB := $(shell dpkg --print-architecture 2>/dev/null || echo amd64)

CC_KERNEL := $(if $(W),W=$(W)) $(if $(C),C=$(C))

.PHONY: all module selftests mock demo bench check check-matrix soak fuzz failnth lint coverage \
	check-detectors check-qemu check-mutants check-fuzz deb load unload clean setup help

all: module

help:
	@sed -n '/^# make/,/^$$/s/^# \{0,1\}//p' Makefile

setup:
	@scripts/setup all

module:
	@if [ -z "$(KDIR)" ]; then \
		echo 'no kernel headers: scripts/setup build, or make KDIR=…' >&2; \
		exit 1; \
	fi
	$(MAKE) -C $(KDIR) M=$(CURDIR) $(CC_KERNEL) modules

mock:
	$(MAKE) -C selftests/mock KDIR=$(KDIR)

selftests:
	@cmake -S selftests -B selftests/build >/dev/null
	@cmake --build selftests/build --parallel $$(nproc)

# These set up whatever is missing, so that they work on a fresh machine.
demo:
	@scripts/demo

bench:
	@scripts/bench

check:
	@scripts/check

check-matrix:
	@scripts/check-matrix

check-qemu:
	@scripts/check qemu-full

soak:
	@scripts/check soak

# KERNEL may also be debug or kcsan.
fuzz:
	@scripts/fuzz $(or $(MINUTES),10) $(or $(KERNEL),debian-6.1)

# All failures, where "make check" leaves some out.
failnth:
	@FAILNTH_FULL=1 scripts/check failnth

lint:
	@scripts/lint

coverage:
	@scripts/coverage $(SUITES)

check-detectors:
	@scripts/check-detectors $(FAULTS)

check-mutants:
	@kunit/mutants $(MUTANTS)

check-fuzz:
	@scripts/check-fuzz $(FAULTS)

deb:
	@scripts/deb

# A real host: see README.md. The module of this checkout, without the package.
AS_ROOT := $(if $(filter-out 0,$(shell id -u)),sudo)

load:
	@$(AS_ROOT) tools/vfio-mt switch mt --module vfio_mt_type1.ko

unload:
	@$(AS_ROOT) tools/vfio-mt switch stock

clean:
	@[ -z "$(KDIR)" ] || $(MAKE) -C $(KDIR) M=$(CURDIR) clean
	@[ -z "$(KDIR)" ] || $(MAKE) -C selftests/mock KDIR=$(KDIR) clean
	rm -rf selftests/build build
