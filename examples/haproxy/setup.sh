#!/bin/sh
# Write the configuration of a proxy on one port: haproxy/setup.sh PORT BACKEND_PORT makes build/haproxy-PORT.cfg.
# Run in examples/.
set -eu
mkdir -p build
find build -maxdepth 1 -name 'haproxy-*.cfg' -mmin +60 -delete
cat >"build/haproxy-$1.cfg" <<CONF
global
    maxconn 1024
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend front
    bind 127.0.0.1:$1
    default_backend back
backend back
    server s1 127.0.0.1:$2
CONF
