#!/bin/sh
# memcached as Valgrind needs it: lens.sh PORT THREADS.
# memcached raises its limit of open files to fit -c connections, and Valgrind keeps 12 of the hard limit for itself.
# It stays root, for after a change of user Valgrind could not write what it measured.
limit=$(ulimit -Hn)
case $limit in
unlimited) limit=1048576 ;;
esac
exec memcached -p "$1" -t "$2" -c $((limit - 12)) -l 127.0.0.1 -m 1024 -u root
