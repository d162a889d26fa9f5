#!/bin/sh
# The beginning of a box: control groups of its own to write to, units that a container
# has no use for, the network; then systemd is process 1.
for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do
	! mountpoint -q "$dir" || mount -o remount,bind,rw "$dir"
done
if [ ! -e /var/lib/box ]; then
	systemctl -q mask getty.target console-getty.service systemd-logind.service systemd-udevd.service \
		systemd-udev-trigger.service e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
	systemctl -q enable cloud-final.service ecs.service
	# Where nobody can be reached, apt does not try.
	: >/etc/apt/sources.list
	mkdir -p /var/log/journal
	: >/var/lib/box
fi
until [ -n "$(ip -o -4 address show dev eth0 2>/dev/null)" ]; do sleep 0.02; done
exec /lib/systemd/systemd
