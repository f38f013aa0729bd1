# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Recipe (see guest/kernel): Debian's own kernel, at exactly the ABI version of
# the installed headers, so that a module built against these loads into it.

# Print "PACKAGE VERSION" of the newest installed 6.1 headers.
headers_package()
{
	local depends

	# What the metapackage stands for now is what a plain "make" builds for.
	depends=$(dpkg-query -W -f '${Depends}' linux-headers-amd64 2>/dev/null) || true
	if [[ $depends =~ ^(linux-headers-6\.1\.[^ ]+-amd64)\ \(=\ ([^\)]+)\)$ ]]; then
		printf '%s %s\n' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
		return
	fi

	dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' 'linux-headers-6.1.*-amd64' 2>/dev/null |
		sed -n 's/^installed //p' | sort -V | tail -n 1
}

kernel_key()
{
	local package version

	read -r package version < <(headers_package) ||
		die "no headers of Debian's 6.1 kernel are installed: run scripts/setup"
	printf '%s_%s\n' "${package#linux-headers-}" "$version"
}

kernel_build()
{
	local dir=$1 package version release

	read -r package version < <(headers_package)
	release=${package#linux-headers-}

	progress "fetching Debian's kernel $release $version"
	download_package "linux-image-$release" "$version" "$dir"
	progress "unpacking it"
	unpack_kernel_package "$dir"/linux-image-*.deb "$release" "$dir"
	rm -- "$dir"/linux-image-*.deb
}
