#!/bin/sh
# Before removal or upgrade. dpkg: remove, upgrade or deconfigure; rpm: 0 (removal) or 1 (upgrade).
set -e

pidfile=/run/nagaya/nginx/nginx.pid
removed=/var/lib/nagaya/removed

quietly() { "$@" >/dev/null 2>&1 || true; }

# stop ends the agent, with whatever would start it again, and then nginx, which
# outlives it.
stop() {
	if [ -d /run/systemd/system ]; then
		quietly systemctl stop nagaya.socket nagaya-nginx.path nagaya.service
		quietly systemctl stop nagaya-nginx.service
	fi
	pid=$(cat "$pidfile" 2>/dev/null || true)
	# An old pid file may name a process that is something else by now, and another user's.
	if [ "$(cat "/proc/${pid:-none}/comm" 2>/dev/null)" = nginx ]; then
		quietly setpriv --reuid=nagaya --regid=nagaya --clear-groups sh -c "kill -QUIT $pid"
	fi
}

case "$1" in
remove) # stays enabled, for a dpkg -i later, which starts it; purge forgets it
	stop
	quietly touch "$removed"
	;;
0)
	stop
	quietly systemctl disable nagaya.service nagaya-nginx.service
	;;
esac
