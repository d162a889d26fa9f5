#!/bin/bash
# User data of an ECS container instance that nagaya looks after, on Amazon Linux 2023
# and on Debian and its kin. Fill in the settings below, or set them before, as
# packaging/cloudformation/nagaya.yaml does. It may run any number of times: at the first
# boot through cloud-init, or by hand. What it says is in /var/log/cloud-init-output.log.
set -Eeuo pipefail

# The package: an s3:// or https:// URL, or a file. Empty: the image has it already.
PACKAGE=${PACKAGE-}
# The package's SHA-256, which `make package` prints. An s3:// or https:// URL needs it.
SHA256=${SHA256-}
# The ECS cluster. Empty: whatever /etc/ecs/ecs.config says, as AWS Batch needs it.
CLUSTER=${CLUSTER-}
# Lines for /etc/nagaya/nagaya.yaml, e.g. 'address: {claim: "tag:Name=nagaya"}'.
# Empty: the package's own file, in which nothing is set, so that instance tags count.
CONFIG=${CONFIG-}
# An s3:// prefix whose files go to /etc/nagaya: certs/, htpasswd/, routes.d/, ...
FILES=${FILES-}

export DEBIAN_FRONTEND=noninteractive
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'say "failed at line $LINENO: nagaya is not set up on this instance"' ERR

say() { echo "nagaya user data: $*" >&2; }

fail() {
	say "$*"
	exit 1
}

# again CMD... tries for a minute: at a boot the network, the role's credentials and the
# package database may not be there yet.
again() {
	local try
	for try in 1 2 3 4 5 6; do
		"$@" && return
		say "try $try of 7 failed: $1"
		sleep 10
	done
	"$@"
}

# add PACKAGE... from the distribution's repositories, or from a file.
add() {
	if command -v apt-get >/dev/null; then
		again apt-get -qq update
		apt-get -qqy -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold install --no-install-recommends "$@"
	else
		again dnf -qy install "$@"
	fi
}

need_aws() {
	command -v aws >/dev/null && return
	say "installing the AWS CLI"
	if command -v apt-get >/dev/null; then add awscli; else add awscli-2; fi
}

# fetch URL FILE
fetch() {
	case $1 in
	s3://*)
		need_aws
		again aws s3 cp --only-show-errors "$1" "$2"
		;;
	https://*)
		command -v curl >/dev/null || add curl
		curl -fsSL --proto =https --retry 5 --retry-connrefused -o "$2" "$1"
		;;
	/*) cp "$1" "$2" ;;
	*) fail "PACKAGE=$1 is neither an s3:// or https:// URL nor a file's absolute path" ;;
	esac
}

install_package() {
	local file module=nginx-mod-stream
	case $PACKAGE in
	'')
		[ -x /usr/bin/nagaya ] || fail "PACKAGE is empty, and this image has no nagaya"
		return
		;;
	*.deb | *.rpm) file=$dir/${PACKAGE##*/} ;;
	*) fail "PACKAGE=$PACKAGE is neither a .deb nor a .rpm" ;;
	esac
	case $PACKAGE in
	/*) ;;
	*) [ -n "$SHA256" ] || fail "PACKAGE=$PACKAGE comes from elsewhere: set SHA256 too" ;;
	esac
	fetch "$PACKAGE" "$file"
	if [ -n "$SHA256" ] && ! echo "$SHA256  $file" | sha256sum --check --status; then
		fail "PACKAGE=$PACKAGE has the SHA-256 $(sha256sum "$file" | cut -d' ' -f1), not $SHA256: it is not installed"
	fi
	chmod 755 "$dir" # apt reads as a user of its own
	case $file in *.deb) module=libnginx-mod-stream ;; esac
	add "$file" nginx "$module"
}

# fetch_files brings what is in FILES whole and with its final permissions: the agent,
# which is no superuser, may be running.
fetch_files() {
	local file mode group=root
	need_aws
	mkdir -m 700 "$dir/files"
	again aws s3 cp --only-show-errors --recursive "$FILES" "$dir/files/"
	if getent group nagaya >/dev/null; then group=nagaya; fi
	cd "$dir/files"
	while IFS= read -r -d '' file; do
		case $file in ./certs/* | ./htpasswd/*) mode=640 ;; *) mode=644 ;; esac
		install -D -m "$mode" -g "$group" "$file" "/etc/nagaya/$file"
	done < <(find . -type f -print0)
	cd /
}

# configure writes no setting that the program does not understand.
configure() {
	[ -z "$FILES" ] || fetch_files
	if [ -n "$CONFIG" ]; then
		echo "$CONFIG" >"$dir/nagaya.yaml"
		nagaya config --config "$dir/nagaya.yaml" >/dev/null || fail "CONFIG is wrong: /etc/nagaya/nagaya.yaml stays as it is"
		cp "$dir/nagaya.yaml" /etc/nagaya/nagaya.yaml.new
		mv /etc/nagaya/nagaya.yaml.new /etc/nagaya/nagaya.yaml
	fi
}

ecs_config=/etc/ecs/ecs.config

ecs_get() { sed -n "s/^$1=//p" "$ecs_config" | tail -n 1; }

# ecs_set KEY VALUE makes this the only line for the key.
ecs_set() {
	[ "$(sed -n "/^$1=/p" "$ecs_config")" != "$1=$2" ] || return 0
	sed -i -e "/^$1=/d" -e "\$a\\" "$ecs_config"
	echo "$1=$2" >>"$ecs_config"
	ecs_changed=yes
}

# configure_ecs keeps what is configured already, other reserved ports included.
configure_ecs() {
	mkdir -p "${ecs_config%/*}"
	touch "$ecs_config"
	[ -z "$CLUSTER" ] || ecs_set ECS_CLUSTER "$CLUSTER"
	# ECS puts no task with a static host port on these. The variable replaces the ECS
	# agent's own list, so that is named too: SSH, Docker, the agent. 80, 443: nginx;
	# 9646: nagaya's metrics.
	ecs_set ECS_RESERVED_PORTS "[$(echo "$(ecs_get ECS_RESERVED_PORTS) 22 80 443 2375 2376 9646 51678 51679 51680" |
		tr -cs 0-9 '\n' | sed '/^$/d' | sort -nu | paste -sd,)]"
	# Whoever is asked for the role's credentials may move the address: not the tasks.
	[ -n "$(ecs_get ECS_AWSVPC_BLOCK_IMDS)" ] || ecs_set ECS_AWSVPC_BLOCK_IMDS true
}

# Nothing is waited for: ecs.service starts after cloud-final.service, which ends when
# this script does, and nagaya.service starts before ecs.service.
start() {
	[ -d /run/systemd/system ] || return 0
	systemctl enable --now --no-block nagaya.service
	if [ -n "$ecs_changed" ] && systemctl --quiet is-active ecs.service; then
		systemctl restart --no-block ecs.service
	fi
}

ecs_changed=
install_package
configure
configure_ecs
start
say "done: $(nagaya version)"
