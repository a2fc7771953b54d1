#!/bin/sh
# A data folder for one port, filled as sysbench wants it: mariadb/setup.sh PORT ROWS makes /tmp/ditto-mariadb-PORT/ from a
# template that is made once for each number of rows.  Not in examples/build: the server refuses to run as root, and the
# user it runs as may not read a checkout in root's home.  Folders of servers that are gone are removed.
set -eu
port=$1
rows=$2
. "$(dirname "$0")/where.sh"

. "$(dirname "$0")/../gone.sh"
remove_gone pid /tmp/ditto-mariadb-[0-9]*

template=/tmp/ditto-mariadb-template-$rows
if [ ! -f "$template/ready" ]; then
	rm -rf "$template"
	mkdir -m 700 "$template"
	[ "$(id -u)" -ne 0 ] || chown mysql: "$template"
	as_owner mariadb-install-db --no-defaults --datadir="$template" --auth-root-authentication-method=normal \
		--skip-test-db >/dev/null 2>&1
	as_owner mariadbd --no-defaults --datadir="$template" --socket="$template/s" --pid-file="$template/pid" \
		--skip-networking --innodb-flush-log-at-trx-commit=0 >/dev/null 2>&1 &
	for _ in $(seq 100); do
		mariadb-admin --no-defaults -S "$template/s" -u root ping >/dev/null 2>&1 && break
		sleep 0.2
	done
	mariadb --no-defaults -S "$template/s" -u root -e \
		"CREATE DATABASE sbtest; CREATE USER sbtest@'127.0.0.1'; GRANT ALL ON sbtest.* TO sbtest@'127.0.0.1'"
	sysbench oltp_common --db-driver=mysql --mysql-socket="$template/s" --mysql-user=root --table-size="$rows" prepare \
		>/dev/null
	mariadb-admin --no-defaults -S "$template/s" -u root shutdown
	wait
	as_owner touch "$template/ready"
fi

folder=/tmp/ditto-mariadb-$port
rm -rf "$folder"
cp -a "$template" "$folder"
rm -f "$folder/ready"
