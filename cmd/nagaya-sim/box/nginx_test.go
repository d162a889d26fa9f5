package box

import (
	"fmt"
	"strings"
)

// nginxComes installs Debian's nginx after nagaya: it makes room by itself. The packages
// are those of the box, packed again.
func nginxComes(m *machine) {
	m.sh(`mkdir -p /root/again && cd /root/again
for name in nginx-common nginx; do
	mkdir -p $name/DEBIAN
	dpkg -L $name | while read -r file; do
		case $file in /lib | /bin | /sbin) continue ;; esac # links since /usr has all
		if [ -d "$file" ] && [ ! -L "$file" ]; then
			mkdir -p "$name$file"
		elif [ -e "$file" ] || [ -L "$file" ]; then
			mkdir -p "$name${file%/*}"
			cp -a "$file" "$name$file"
		fi
	done
	for part in preinst postinst prerm postrm conffiles triggers; do
		[ ! -e /var/lib/dpkg/info/$name.$part ] || cp -p /var/lib/dpkg/info/$name.$part $name/DEBIAN/$part
	done
	dpkg-query -s $name | sed '/^Status:/d; /^Conffiles:/,/^[A-Z]/{/^Conffiles:/d; /^ \//d}' >$name/DEBIAN/control
	dpkg-deb -Znone -b $name >/dev/null
done
dpkg --purge libnginx-mod-stream nginx nginx-common
test ! -e /usr/sbin/nginx`)
	m.do("dpkg", "-i", "/root/newer.deb")
	m.is("nagaya", "active")
	out := m.do("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-i", "/root/again/nginx-common.deb", "/root/again/nginx.deb")
	if !strings.Contains(out, "nginx.service serves only its welcome page") {
		m.t.Errorf("it is not said that it makes room:\n%s", out)
	}
	m.is("nginx", "inactive") // and not failed, though nagaya's has the port already
	if out, _ := m.try("systemctl", "is-enabled", "nginx"); out != "disabled" {
		m.t.Errorf("nginx.service is %s, want disabled", out)
	}
	m.is("nagaya-nginx", "active")
	until(m.t, "nagaya's nginx has the port", func() error {
		if out, code := m.try("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: nobody.test", "http://127.0.0.1/"); out != "404" {
			return fmt.Errorf("exit code %d: %s", code, out)
		}
		return nil
	})

	// One that serves something keeps running.
	m.sh("dpkg --purge nginx nginx-common; systemctl stop nagaya nagaya-nginx")
	m.sh("mkdir -p /etc/nginx/conf.d; echo 'server { listen 8081; }' >/etc/nginx/conf.d/mine.conf")
	out = m.do("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-i", "/root/again/nginx-common.deb", "/root/again/nginx.deb")
	m.is("nginx", "active")
	if strings.Contains(out, "welcome page") {
		m.t.Errorf("a configured nginx was stopped:\n%s", out)
	}
}
