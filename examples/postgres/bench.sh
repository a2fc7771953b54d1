#!/bin/sh
# pgbench for a number of transactions over all its clients: postgres/bench.sh PORT TRANSACTIONS CLIENTS [OPTION ...]
. "$(dirname "$0")/where.sh"
port=$1
each=$((($2 + $3 - 1) / $3))
clients=$3
shift 3
exec "$bin/pgbench" -h 127.0.0.1 -p "$port" -U postgres -n -c "$clients" -t "$each" "$@" postgres
