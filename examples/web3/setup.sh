#!/bin/sh
# Makes a database cluster, nginx' configuration and its one file.  $1: nginx' port, $2: the workers', $3: the database's.
set -eu
sh ../postgres/setup.sh "$3" 1
out=../build/web3
mkdir -p "$out/logs" "$out/www"
head -c 4000 /dev/zero | tr '\0' a > "$out/www/about.html"
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
    server {
        listen 127.0.0.1:$1;
        root www;
        location = /about.html { }
        location / { proxy_pass http://127.0.0.1:$2; }
    }
}
CONF
