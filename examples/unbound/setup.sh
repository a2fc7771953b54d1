#!/bin/sh
# Write what a resolver with a small zone of its own needs on one port: unbound/setup.sh PORT makes
# build/unbound-PORT.conf and the questions, build/unbound.txt, which are the same for all ports: a client that is sent
# through a relay is told another one.  Run in examples/.
set -eu
mkdir -p build
find build -maxdepth 1 -name 'unbound-*' -mmin +60 -exec rm -rf {} +
cat >"build/unbound-$1.conf" <<CONF
server:
    interface: 127.0.0.1
    port: $1
    num-threads: 1
    do-daemonize: no
    do-tcp: no
    use-syslog: no
    logfile: ""
    chroot: ""
    username: ""
    pidfile: ""
    directory: "$PWD/build"
    module-config: "iterator"
    access-control: 127.0.0.0/8 allow
    local-zone: "example." static
remote-control:
    control-enable: no
CONF
i=0
while [ $i -lt 200 ]; do
	echo "    local-data: \"host$i.example. 300 IN A 10.0.$((i / 100)).$((i % 100))\""
	i=$((i + 1))
done | sed '1i server:' >>"build/unbound-$1.conf"
i=0
while [ $i -lt 220 ]; do # one in eleven does not exist
	echo "host$i.example. A"
	i=$((i + 1))
done >"build/unbound-$1.txt"
mv "build/unbound-$1.txt" build/unbound.txt
