#!/bin/sh
# The server behind the proxy: nginx with a file of 5 KB.  Run in examples/: haproxy/backend.sh PORT.
set -eu
sh nginx/setup.sh "$1" 5000
exec nginx -e stderr -p "build/nginx-$1/" -c nginx.conf
