# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Debian packages that are used without being installed. To be sourced, after lib.sh.
#
# A SUITE is "machine", what this machine's apt is set up for, or the name of another
# suite of Debian (trixie-backports). That one is read from the mirror that this
# machine's apt uses, with lists of packages in our own cache: nothing about the
# machine's apt changes.

# Print the mirror of the release of Debian that runs here.
debian_mirror()
{
	local codename uri

	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && printf '%s\n' "${VERSION_CODENAME-}")
	# Format strings of apt's
	# shellcheck disable=SC2016
	uri=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
		awk -v release="$codename" '$1 == release { print $2; exit }')
	[[ -n $uri ]] || die "apt has no source for Debian ${codename:-(which one?)}"
	printf '%s\n' "$uri"
}

# suite_options SUITE: set SUITE_OPTIONS, by which apt's programs read that suite
suite_options()
{
	local suite=$1 dir keys=/usr/share/keyrings/debian-archive-keyring.gpg

	SUITE_OPTIONS=()
	[[ $suite != machine ]] || return 0
	dir=$(cache_dir)/apt/$suite
	mkdir -p -- "$dir"/lists/partial "$dir"/cache/archives/partial
	printf 'deb %s%s %s main\n' "$([[ ! -f $keys ]] || echo "[signed-by=$keys] ")" \
		"$(debian_mirror)" "$suite" >"$dir/sources.list.$$"
	mv -- "$dir/sources.list.$$" "$dir/sources.list"
	SUITE_OPTIONS=(
		-o Dir::Etc::SourceList="$dir/sources.list"
		-o Dir::Etc::SourceParts=/dev/null
		-o Dir::State::Lists="$dir/lists"
		-o Dir::Cache="$dir/cache"
		-o Acquire::Languages=none
	)
}

update_lists()
{
	local suite=$1

	progress "apt-get update, for the packages of ${suite/#machine/this machine}"
	suite_options "$suite"
	if [[ $suite == machine ]]; then
		as_root apt-get -q=2 update
	else
		apt-get -q=2 -o APT::Sandbox::User=root "${SUITE_OPTIONS[@]}" update
	fi >&2
}

# newest_package SUITE REGEX: print "PACKAGE VERSION" of the one with the highest name
newest_package()
{
	local suite=$1 regex=$2 package version try

	suite_options "$suite"
	for try in old new; do
		package=$(apt-cache "${SUITE_OPTIONS[@]}" --names-only search "$regex" |
			cut -d ' ' -f 1 | sort -V | tail -n 1)
		[[ -z $package ]] || break
		# A new machine has no package lists, an old one may have outdated ones.
		[[ $try == old ]] || die "there is no package $regex in ${suite/#machine/what apt knows of}"
		update_lists "$suite"
	done
	version=$(apt-cache "${SUITE_OPTIONS[@]}" show --no-all-versions "$package" |
		sed -n 's/^Version: //p')
	printf '%s %s\n' "$package" "$version"
}

# download_package PACKAGE VERSION DIR [SUITE]: put one .deb into DIR
download_package()
{
	local package=$1 version=$2 dir=$3 suite=${4:-machine}

	fetch()
	{
		# As root apt would fetch as a user who cannot write to DIR, and
		# warn about it.
		(cd -- "$dir" && apt-get -q=2 -o APT::Sandbox::User=root \
			"${SUITE_OPTIONS[@]}" download "$package=$version")
	}

	suite_options "$suite"
	fetch 2>/dev/null && return
	update_lists "$suite"
	fetch || die "cannot download $package $version; if the mirror has a newer one by now," \
		"try again, or upgrade linux-headers-amd64 if this is for it"
}

# unpack_packages SUITE VERSION DIR PACKAGE...: unpack what these have into DIR
unpack_packages()
{
	local suite=$1 version=$2 dir=$3 package
	shift 3

	mkdir -p -- "$dir"
	for package in "$@"; do
		progress "fetching $package $version"
		download_package "$package" "$version" "$dir" "$suite"
		dpkg-deb -x "$dir"/*.deb "$dir"
		rm -- "$dir"/*.deb
	done
}

# The source of a SERIES of kernels (6.1) is that of the package that is installed, or else
# of the newest one in SUITE.

# installed_source SERIES: print the version of its package that is installed, if any
installed_source()
{
	dpkg-query -W -f '${Version}' -- "linux-source-$1" 2>/dev/null || true
}

# source_version SERIES SUITE: print the version of its package
source_version()
{
	local series=$1 suite=$2 version

	version=$(installed_source "$series")
	if [[ -z $version ]]; then
		[[ -n $suite ]] || die "linux-source-$series is not installed: run scripts/setup build"
		version=$(newest_package "$suite" "^linux-source-${series//./\\.}\$" | cut -d ' ' -f 2)
	fi
	printf '%s\n' "$version"
}

# source_tarball SERIES SUITE VERSION DIR: print the path of that version's source, which
# is fetched into DIR if it is not the one that is installed
source_tarball()
{
	local series=$1 suite=$2 version=$3 dir=$4 path=usr/src/linux-source-$1.tar.xz

	if [[ $(installed_source "$series") == "$version" && -f /$path ]]; then
		printf '%s\n' "/$path"
		return
	fi
	unpack_packages "$suite" "$version" "$dir" "linux-source-$series"
	printf '%s\n' "$dir/$path"
}

# unpack_kernel_source SERIES SUITE VERSION DIR [PATH]...: make DIR of the source; of its
# PATHs, or of all that a build for x86 reads
unpack_kernel_source()
{
	local series=$1 suite=$2 version=$3 dir=$4 tarball
	shift 4

	mkdir -- "$dir" "$dir.package"
	tarball=$(source_tarball "$series" "$suite" "$version" "$dir.package")
	# Kconfig files of all directories are read, whatever is built.
	tar -xf "$tarball" -C "$dir" --strip-components=1 \
		--exclude='*/Documentation/*/*' --exclude='*/tools/testing/*' \
		--exclude='*/drivers/gpu/drm/*.[ch]' "${@/#/linux-source-$series/}"
	rm -rf -- "$dir.package"
}
