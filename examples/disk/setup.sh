#!/bin/sh
# Make the file of records: disk/setup.sh MEGABYTES makes build/disk-MEGABYTES.  Run in examples/.
set -eu
mkdir -p build
file=build/disk-$1
[ -s "$file" ] || { head -c "$1M" /dev/urandom >"$file.part" && sync "$file.part" && mv "$file.part" "$file"; }
