#!/bin/sh
# Before removal or upgrade. dpkg: remove, upgrade or deconfigure; rpm: 0 (removal) or 1 (upgrade).
set -e

unit=nagaya.service
nginx_unit=nagaya-nginx.service
pidfile=/run/nagaya/nginx/nginx.pid

quietly() { "$@" >/dev/null 2>&1 || true; }

# stop ends the agent and then nginx, which outlives it.
stop() {
	if [ -d /run/systemd/system ]; then
		quietly systemctl stop "$unit"
		quietly systemctl stop "$nginx_unit"
	fi
	pid=$(cat "$pidfile" 2>/dev/null || true)
	# An old pid file may name a process that is something else by now.
	if [ "$(cat "/proc/${pid:-none}/comm" 2>/dev/null)" = nginx ]; then
		quietly kill -QUIT "$pid"
	fi
}

case "$1" in
remove) stop ;; # stays enabled, for a dpkg -i later; purge forgets it
0)
	stop
	quietly systemctl disable "$unit" "$nginx_unit"
	;;
esac
