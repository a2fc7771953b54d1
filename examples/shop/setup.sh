#!/bin/sh
# Compiles the price service and writes the configuration and the files of the static one.  $1: its port.
set -eu
out=../build/shop
mkdir -p "$out/logs" "$out/www"
${CC:-cc} -O2 -Wall -Wextra -o "$out/price.$$" price.c
mv "$out/price.$$" "$out/price"
head -c 3000 /dev/zero | tr '\0' b > "$out/www/banner.html"
head -c 12000 /dev/zero | tr '\0' s > "$out/www/style.css"
cat > "$out/nginx-$1.conf" <<CONF
daemon off;
worker_processes 1;
pid logs/nginx-$1.pid;
events { worker_connections 256; }
http {
    access_log off;
    keepalive_requests 1000000;
    server { listen 127.0.0.1:$1; root www; }
}
CONF
