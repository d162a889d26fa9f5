#!/bin/bash
# bake.sh PACKAGE.rpm [SHA256] makes this machine one of which an image with nagaya can be
# taken: it installs the package with the nginx that it needs, and removes what must be new
# on each instance. For the ECS-optimized Amazon Linux 2023, as root; nagaya.pkr.hcl and
# component.yaml run it. It may run again.
set -Eeuo pipefail
trap 'echo "bake.sh: failed at line $LINENO: take no image of this machine" >&2' ERR

package=${1:?usage: bake.sh PACKAGE.rpm [SHA256]}
if [ -n "${2-}" ]; then
	echo "$2  $package" | sha256sum --check
fi
dnf -qy install "$package" nginx nginx-mod-stream
rm -f "$package"

# nagaya runs an nginx of its own; the distribution's would hold its ports.
systemctl enable nagaya.service
systemctl disable nginx.service
nagaya version
nginx -v

# What was learnt on this machine: a container instance's registration, above all.
systemctl stop ecs.service nagaya.service nagaya-nginx.service || true
rm -rf /var/lib/ecs/data/* /var/log/ecs/* /var/lib/nagaya/* /var/log/nagaya/* /run/nagaya

# Its identity, keys and traces; cloud-init, and with it user data, runs again.
dnf -q clean all
rm -rf /var/lib/cloud/* /var/log/cloud-init*.log /var/log/journal/*
rm -f /etc/ssh/ssh_host_* /root/.ssh/authorized_keys /home/*/.ssh/authorized_keys /root/.bash_history /home/*/.bash_history
: >/etc/machine-id
