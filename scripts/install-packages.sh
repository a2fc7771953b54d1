#!/bin/sh
# Install the Debian packages named as arguments that are missing, without starting any service they bring.
#
# Prints what it is about to install.  Without root it prints the exact command to run and ends with code 3.
# scripts/install-packages.sh [--list] PACKAGE...       --list prints the missing ones and ends
set -eu

list=no
if [ "${1:-}" = --list ]; then
	list=yes
	shift
fi

missing=
for package in "$@"; do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $package"
done

if [ "$list" = yes ]; then
	echo "${missing# }"
	exit 0
fi
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "missing:$missing" >&2
	echo "this machine has no apt-get; install what these Debian packages hold with its own tool" >&2
	exit 3
fi
if [ "$(id -u)" -ne 0 ]; then
	echo "missing Debian packages; run this, then make again:" >&2
	echo "    sudo $0$missing" >&2
	exit 3
fi

echo "Installing from Debian:$missing"

# While packages are configured, invoke-rc.d asks this script whether a service may start: code 101 says no.
policy=/usr/sbin/policy-rc.d
saved=
restore() {
	if [ -n "$saved" ]; then
		mv -f "$saved" "$policy"
	else
		rm -f "$policy"
	fi
}
if [ -e "$policy" ] || [ -L "$policy" ]; then
	saved="$policy.before-ditto"
	# A run that was killed may have left its own guard in place of the one saved: keep the saved one then.
	[ -e "$saved" ] || mv "$policy" "$saved"
fi
trap restore EXIT
trap 'exit 130' INT TERM HUP
printf '#!/bin/sh\n# Placed by ditto while it installs packages; removed afterwards.\nexit 101\n' >"$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
install_missing() {
	# shellcheck disable=SC2086  # a list of words
	apt-get install -y --no-install-recommends $missing
}
# The package lists of a fresh machine are empty or old: fetch them when the first try fails.
if ! install_missing; then
	apt-get update
	install_missing
fi
