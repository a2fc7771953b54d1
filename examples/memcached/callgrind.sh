#!/bin/sh
# memcached as callgrind needs it: callgrind.sh PORT THREADS.  (Ditto's own tool runs it as it is.)
# memcached sets its limit of open files to its -c, and Valgrind, which keeps 12 files for itself, allows no other
# limit than the hard one minus 12.  /proc tells the true one, whether or not this shell runs under Valgrind too.
# It stays root, for after a change of user Valgrind could not write what it measured.
limit=$(awk '/^Max open files/ { print $5 }' /proc/self/limits)
exec memcached -p "$1" -t "$2" -c $((limit - 12)) -l 127.0.0.1 -m 1024 -u root
