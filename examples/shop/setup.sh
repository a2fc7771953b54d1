#!/bin/sh
# Compiles the price service, makes a database cluster, nginx' configuration and its one file.  $1: nginx' port, $2: the
# gateway's, $3: the database's.
set -eu
sh ../postgres/setup.sh "$3" 1
out=../build/shop
mkdir -p "$out/logs" "$out/www"
${CC:-cc} -O2 -Wall -Wextra -o "$out/price.$$" price.c
mv "$out/price.$$" "$out/price"
head -c 3000 /dev/zero | tr '\0' b > "$out/www/banner.html"
cat > "$out/nginx-$1.conf" <<CONF
daemon off;
worker_processes 1;
pid logs/nginx-$1.pid;
events { worker_connections 256; }
http {
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path logs/body;
    proxy_temp_path logs/proxy;
    upstream gateway { server 127.0.0.1:$2; keepalive 16; }
    server {
        listen 127.0.0.1:$1;
        root www;
        location = /banner.html { }
        location / {
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
    }
}
CONF
