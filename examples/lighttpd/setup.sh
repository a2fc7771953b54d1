#!/bin/sh
# Write the folder that lighttpd serves on one port: lighttpd/setup.sh PORT BYTES makes build/lighttpd-PORT/.
# Run in examples/.
set -eu
mkdir -p build
find build -maxdepth 1 -name 'lighttpd-*' -mmin +60 -exec rm -rf {} +
folder=$PWD/build/lighttpd-$1
mkdir -p "$folder/html"
yes 'A line of plain text, of which a file of the size asked for is made.' | head -c "$2" >"$folder/html/file.txt"
cat >"$folder/lighttpd.conf" <<CONF
server.bind = "127.0.0.1"
server.port = $1
server.document-root = "$folder/html"
server.modules = ("mod_accesslog")
accesslog.filename = "$folder/access.log"
server.max-keep-alive-requests = 1000000
mimetype.assign = (".txt" => "text/plain")
CONF
