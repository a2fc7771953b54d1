#!/bin/sh
# Write the folder that caddy serves on one port: caddy/setup.sh PORT BYTES makes build/caddy-PORT/.  Run in examples/.
set -eu
mkdir -p build
find build -maxdepth 1 -name 'caddy-*' -mmin +60 -exec rm -rf {} +
folder=build/caddy-$1
mkdir -p "$folder/html"
yes 'A line of plain text, of which a file of the size asked for is made.' | head -c "$2" >"$folder/html/file.txt"
cat >"$folder/Caddyfile" <<CONF
{
	admin off
	auto_https off
	log {
		output discard
	}
}
http://127.0.0.1:$1 {
	root * $folder/html
	file_server
}
CONF
