#!/bin/sh
# Write the folder that nginx serves from on one port: nginx/setup.sh PORT BYTES makes build/nginx-PORT/.
# Run in examples/.  Folders of servers that are gone are removed.
set -eu
port=$1
bytes=$2
mkdir -p build

. "$(dirname "$0")/../gone.sh"
remove_gone nginx.pid build/nginx-*

folder=build/nginx-$port
rm -rf "$folder"
mkdir -p "$folder/html" "$folder/temp"
yes 'A line of plain text, of which a file of the size asked for is made.' | head -c "$bytes" >"$folder/html/file.txt"

# As root, nginx would let its worker become "nobody", who may not read a checkout in root's home.
user=
[ "$(id -u)" -ne 0 ] || user='user root;'
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
    default_type text/plain;
    sendfile on;
    tcp_nopush on;
    keepalive_timeout 65;
    keepalive_requests 1000000;
    access_log access.log combined;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
    server {
        listen 127.0.0.1:$port;
        root html;
    }
}
CONF
