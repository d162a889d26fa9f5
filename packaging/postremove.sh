#!/bin/sh
# After removal. dpkg: remove, purge, upgrade and others; rpm: 0 (removal) or 1 (upgrade).
set -e

[ ! -d /run/systemd/system ] || systemctl daemon-reload >/dev/null 2>&1 || true
case "$1" in remove | 0) journalctl --update-catalog >/dev/null 2>&1 || true ;; esac
if [ "$1" = purge ]; then
	rm -f /etc/systemd/system/multi-user.target.wants/nagaya.service /etc/systemd/system/multi-user.target.wants/nagaya-nginx.service
	rm -rf /var/lib/nagaya /var/log/nagaya /run/nagaya
fi
