#!/bin/sh
# Before removal or upgrade. dpkg: remove, upgrade or deconfigure; rpm: 0 (removal) or 1 (upgrade).
set -e

pidfile=/run/nagaya/nginx/nginx.pid
removed=/var/lib/nagaya/removed

quietly() { "$@" >/dev/null 2>&1 || true; }

# as_agent runs a command as the agent's user: what it works on is that user's, who could
# have put a link there that leads elsewhere.
as_agent() { quietly setpriv --reuid=nagaya --regid=nagaya --clear-groups "$@"; }

# stop ends the agent, with whatever would start it again, and then nginx, which
# outlives it.
stop() {
	if [ -d /run/systemd/system ]; then
		quietly systemctl stop nagaya.socket nagaya-nginx-test.socket nagaya-nginx.path nagaya.service
		quietly systemctl stop nagaya-nginx.service
	fi
	# An old pid file may name a process that is something else by now, and another user's.
	# shellcheck disable=SC2016 # expanded by that shell
	as_agent sh -c 'pid=$(cat "$1") && [ "$(cat "/proc/$pid/comm")" = nginx ] && kill -QUIT "$pid"' sh "$pidfile"
}

case "$1" in
remove) # stays enabled, for a dpkg -i later, which starts it; purge forgets it
	stop
	as_agent touch "$removed"
	;;
0)
	stop
	quietly systemctl disable nagaya.service nagaya-nginx.service
	;;
esac
