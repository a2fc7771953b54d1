#!/bin/sh
# The server in the foreground: mariadb/serve.sh PORT [OPTION ...].  As root it becomes the user mysql first, so that
# Valgrind, which may run this script, begins anew after the change.
folder=/tmp/ditto-mariadb-$1
port=$1
shift
cd /
set -- /usr/sbin/mariadbd --no-defaults --datadir="$folder" --pid-file="$folder/pid" --socket="$folder/s" --port="$port" \
	--bind-address=127.0.0.1 --skip-name-resolve "$@"
[ "$(id -u)" -ne 0 ] || exec setpriv --reuid=mysql --regid=mysql --clear-groups "$@"
exec "$@"
