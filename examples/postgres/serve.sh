#!/bin/sh
# The server in the foreground: postgres/serve.sh PORT [OPTION ...].  As root it becomes the user postgres first, so that
# Valgrind, which may run this script, begins anew after the change.
. "$(dirname "$0")/where.sh"
folder=/tmp/ditto-postgres-$1
port=$1
shift
cd /
set -- "$bin/postgres" -D "$folder" -p "$port" -h 127.0.0.1 -k '' "$@"
[ "$(id -u)" -ne 0 ] || exec setpriv --reuid=postgres --regid=postgres --clear-groups "$@"
exec "$@"
