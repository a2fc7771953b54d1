#!/bin/sh
# Write what php-fpm and the nginx in front of it need: php-fpm/setup.sh PORT FRONT makes build/php-fpm-FRONT/.
# Run in examples/.
set -eu
mkdir -p build
. "$(dirname "$0")/../gone.sh"
remove_gone nginx.pid build/php-fpm-*

folder=$PWD/build/php-fpm-$2
rm -rf "$folder"
mkdir -p "$folder/html" "$folder/temp"
cp php-fpm/page.php php-fpm/list.php "$folder/html/"
# PHP keeps no compiled form of files that are younger than two seconds.
touch -d "1 hour ago" "$folder/html/"*.php

# As root, php-fpm asks for a user, and nginx would let its worker become "nobody".
pool= user=
if [ "$(id -u)" -eq 0 ]; then
    pool='user = root' user='user root;'
fi
cat >"$folder/fpm.conf" <<CONF
[global]
error_log = $folder/fpm.log
daemonize = no
[www]
$pool
listen = 127.0.0.1:$1
listen.backlog = 511
pm = static
pm.max_children = 4
CONF
cat >"$folder/nginx.conf" <<CONF
$user
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr error;
events {
    worker_connections 1024;
}
http {
    keepalive_requests 1000000;
    access_log off;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
    server {
        listen 127.0.0.1:$2;
        root $folder/html;
        location ~ \.php$ {
            fastcgi_pass 127.0.0.1:$1;
            include /etc/nginx/fastcgi.conf;
        }
    }
}
CONF
