#!/bin/sh
# After installation or upgrade. dpkg: configure [OLD-VERSION] or triggered, rpm: 1
# (first) or 2 (upgrade). Never fails where systemd is absent or does not run, as in a
# chroot or an image build; nor without Docker, nginx or EC2.
set -e

unit=nagaya.service
removed=/var/lib/nagaya/removed # as preremove.sh has it

quietly() { "$@" >/dev/null 2>&1 || true; }

running() { [ -d /run/systemd/system ]; }

# idle_nginx says whether Debian's nginx.service serves its welcome page alone: that
# site is linked, as it was delivered, and nothing else is configured.
idle_nginx() {
	[ "$(ls /etc/nginx/sites-enabled 2>/dev/null)" = default ] || return 1
	[ -z "$(ls /etc/nginx/conf.d 2>/dev/null)" ] || return 1
	delivered=$(dpkg-query -W -f='${Conffiles}\n' nginx-common 2>/dev/null |
		sed -n 's|^ /etc/nginx/sites-available/default ||p')
	[ -n "$delivered" ] && [ "$delivered" = "$(md5sum </etc/nginx/sites-available/default 2>/dev/null | cut -d' ' -f1)" ]
}

# make_room gives up port 80, which a fresh nginx of Debian holds for nothing.
make_room() {
	[ -e /etc/systemd/system/multi-user.target.wants/nginx.service ] && idle_nginx || return 0
	echo "nagaya: nginx.service serves only its welcome page and holds port 80: disabling it"
	quietly systemctl disable nginx.service
	! running || quietly systemctl stop nginx.service
	! running || quietly systemctl reset-failed nginx.service # it may have come too late for the port
}

# prepare makes the user and the directories. Where there is no systemd yet, it makes
# them when it comes.
prepare() {
	quietly systemd-sysusers nagaya.conf
	quietly systemd-tmpfiles --create nagaya.conf
	quietly journalctl --update-catalog # what 'journalctl -x' explains
	! running || quietly systemctl daemon-reload
}

# may_start asks Debian's local policy.
may_start() {
	command -v policy-rc.d >/dev/null || return 0
	code=0
	policy-rc.d "$unit" start >/dev/null 2>&1 || code=$?
	[ "$code" != 101 ]
}

# first enables everything. Debian starts what it installs; Amazon Linux and its kin
# leave that to whoever installs it.
first() {
	make_room
	said=$(systemctl enable "$unit" nagaya-nginx.service 2>&1) || {
		echo "nagaya: not enabled: $said"
		return 0
	}
	if [ "$1" = dpkg ] && running && may_start; then
		# Nobody waits: in user data that could be without end.
		quietly systemctl start --no-block "$unit"
		echo "nagaya: enabled and started; 'nagaya doctor' says what is missing"
	else
		echo "nagaya: enabled; it starts at the next boot, or now with: systemctl start --no-block nagaya"
	fi
}

# upgrade starts the new agent where the old one ran. nginx goes on serving.
upgrade() {
	# systemd gives the socket its group when it makes it, and keeps the one that is there.
	quietly chgrp -h nagaya-admin /run/nagaya/nagaya.sock
	! running || quietly systemctl try-restart "$unit"
}

# dpkg names the version from before also after a removal, which is no upgrade.
old=$2
if [ "$1" = configure ] && [ -e "$removed" ]; then
	rm -f "$removed"
	old=
fi
case "$1:$old" in
configure:)
	prepare
	first dpkg
	;;
1:*)
	prepare
	first rpm
	;;
configure:* | [0-9]*)
	prepare
	upgrade
	;;
triggered:*) make_room ;; # nginx came after nagaya
*) ;;                     # dpkg undoes a failed step: nothing to do
esac
