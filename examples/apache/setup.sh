#!/bin/sh
# Write the folder that apache2 serves from on one port: apache/setup.sh PORT MPM BYTES makes /tmp/ditto-apache-PORT/.
# Not in examples/build: a server started as root serves as another user, who may not read a checkout in root's home.
# Folders of servers that are gone are removed.
set -eu
port=$1
mpm=$2
bytes=$3

. "$(dirname "$0")/../gone.sh"
remove_gone apache.pid /tmp/ditto-apache-*

folder=/tmp/ditto-apache-$port
rm -rf "$folder"
mkdir -p "$folder/html"
chmod 755 "$folder" "$folder/html"
yes 'A line of plain text, of which a file of the size asked for is made.' | head -c "$bytes" >"$folder/html/file.txt"
chmod 644 "$folder/html/file.txt"

user=
[ "$(id -u)" -ne 0 ] || user='User www-data
Group www-data'
cat >"$folder/apache.conf" <<CONF
ServerRoot $folder
ServerName 127.0.0.1
Listen 127.0.0.1:$port
PidFile apache.pid
DefaultRuntimeDir $folder
$user
LoadModule mpm_${mpm}_module /usr/lib/apache2/modules/mod_mpm_$mpm.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
TypesConfig /dev/null
ErrorLog $folder/error.log
LogLevel error
LogFormat "%h %l %u %t \"%r\" %>s %O \"%{Referer}i\" \"%{User-Agent}i\"" combined
CustomLog $folder/access.log combined
DocumentRoot $folder/html
KeepAlive On
KeepAliveTimeout 65
MaxKeepAliveRequests 0
<IfModule mpm_prefork_module>
StartServers 12
MinSpareServers 1
MaxSpareServers 12
MaxRequestWorkers 12
</IfModule>
<IfModule mpm_event_module>
StartServers 2
ServerLimit 2
ThreadsPerChild 16
MaxRequestWorkers 32
MinSpareThreads 1
MaxSpareThreads 32
</IfModule>
CONF
