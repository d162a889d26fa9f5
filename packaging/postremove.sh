#!/bin/sh
# After removal. dpkg: remove, purge, upgrade and others; rpm: 0 (removal) or 1 (upgrade).
set -e

quietly() { "$@" >/dev/null 2>&1 || true; }

[ ! -d /run/systemd/system ] || quietly systemctl daemon-reload
case "$1" in remove | 0) quietly journalctl --update-catalog ;; esac
if [ "$1" = purge ]; then
	for link in multi-user.target.wants/nagaya.service multi-user.target.wants/nagaya-nginx.service \
		multi-user.target.wants/nagaya-nginx.path sockets.target.wants/nagaya.socket; do
		rm -f "/etc/systemd/system/$link"
	done
	rm -rf /var/lib/nagaya /var/log/nagaya /run/nagaya
	rm -f /etc/nagaya/nagaya.env
	# Certificates, snippets and batches are the operator's: a directory goes only if it
	# is empty.
	for dir in /etc/nagaya/certs /etc/nagaya; do
		[ ! -d "$dir" ] || rmdir --ignore-fail-on-non-empty "$dir"
	done
	quietly userdel nagaya-nginx
	quietly userdel nagaya
	quietly groupdel nagaya
	quietly groupdel nagaya-admin
fi
