#!/bin/sh
# A database cluster for one port, filled as pgbench wants it: postgres/setup.sh PORT SCALE makes /tmp/ditto-postgres-PORT/
# from a template that is made once for each scale.  Not in examples/build: the server refuses to run as root, and the
# user it runs as may not read a checkout in root's home.  Clusters of servers that are gone are removed.
set -eu
port=$1
scale=$2
. "$(dirname "$0")/where.sh"

. "$(dirname "$0")/../gone.sh"
remove_gone postmaster.pid /tmp/ditto-postgres-[0-9]*

template=/tmp/ditto-postgres-template-$scale
if [ ! -f "$template/ready" ]; then
	rm -rf "$template"
	mkdir -m 700 "$template"
	[ "$(id -u)" -ne 0 ] || chown postgres: "$template"
	as_owner "$bin/initdb" -D "$template" -U postgres -A trust -N >/dev/null
	as_owner "$bin/pg_ctl" -D "$template" -w -s -o "-h '' -k '$template' -F" start >/dev/null
	as_owner "$bin/pgbench" -h "$template" -U postgres -i -q -s "$scale" postgres >/dev/null 2>&1 || failed=yes
	as_owner "$bin/pg_ctl" -D "$template" -w -s -m fast stop >/dev/null
	[ -z "${failed:-}" ]
	as_owner touch "$template/ready"
fi

folder=/tmp/ditto-postgres-$port
rm -rf "$folder"
cp -a "$template" "$folder"
rm -f "$folder/ready"
