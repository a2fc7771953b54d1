#!/bin/sh
# Run php-fpm of whatever version is installed: php-fpm/serve.sh FOLDER.  Run in examples/.
set -eu
for fpm in /usr/sbin/php-fpm*; do
    if [ "$(id -u)" -eq 0 ]; then
        exec "$fpm" --allow-to-run-as-root --fpm-config "$1/fpm.conf"
    fi
    exec "$fpm" --fpm-config "$1/fpm.conf"
done
