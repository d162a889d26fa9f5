#!/bin/sh
# After installation or upgrade. dpkg: configure [OLD-VERSION], rpm: 1 (first) or 2 (upgrade).
# Never fails where systemd is absent or does not run, as in a chroot or an image build.
set -e

unit=nagaya.service
nginx_unit=nagaya-nginx.service

quietly() { "$@" >/dev/null 2>&1 || true; }

# idle_nginx says whether Debian's nginx.service serves its welcome page alone: that
# site is linked, as it was delivered, and nothing else is configured.
idle_nginx() {
	[ "$(ls /etc/nginx/sites-enabled 2>/dev/null)" = default ] || return 1
	[ -z "$(ls /etc/nginx/conf.d 2>/dev/null)" ] || return 1
	delivered=$(dpkg-query -W -f='${Conffiles}\n' nginx-common 2>/dev/null |
		sed -n 's|^ /etc/nginx/sites-available/default ||p')
	[ -n "$delivered" ] && [ "$delivered" = "$(md5sum </etc/nginx/sites-available/default 2>/dev/null | cut -d' ' -f1)" ]
}

first() {
	said=$(systemctl enable "$unit" "$nginx_unit" 2>&1) || {
		echo "nagaya: not enabled: $said"
		return
	}
	if idle_nginx; then
		echo "nagaya: nginx.service serves only its welcome page and holds port 80: disabling it"
		quietly systemctl disable nginx.service
		[ ! -d /run/systemd/system ] || quietly systemctl stop nginx.service
	fi
	echo "nagaya: enabled; it starts at the next boot, or now with: systemctl start nagaya"
}

case "$1" in
configure) [ -n "$2" ] && upgrade=yes || upgrade= ;;
1) upgrade= ;;
[0-9]*) upgrade=yes ;;
*) exit 0 ;; # dpkg undoes a failed step: nothing to do
esac

quietly journalctl --update-catalog # what 'journalctl -x' explains
[ ! -d /run/systemd/system ] || quietly systemctl daemon-reload
if [ -z "$upgrade" ]; then
	first
elif [ -d /run/systemd/system ]; then
	# nginx goes on serving meanwhile.
	quietly systemctl try-restart "$unit"
fi
