package runtime

import (
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// Configured returns the options of nginx's runtime and the settings of its trees, by the
// configuration and this host.
func Configured(c config.Config) (Options, nginx.Settings) {
	mode := configuredMode(c)
	s := nginx.Configured(c, nginx.Host{IPv6: hasIPv6(), User: workerUser(c.Nginx), Child: mode == Exec, Stdout: StdoutPath})
	return Options{
		Mode: mode, Unit: c.Nginx.Unit,
		Docker: c.Docker.Host, Labels: []string{c.Nginx.ContainerLabel, nginxproxy.NginxLabel},
		Shared: slices.DeleteFunc([]string{c.Certs.Dir, c.Nginx.SnippetDir, c.Nginx.HtpasswdDir, c.Nginx.VhostDir, c.Nginx.ConfDir},
			func(dir string) bool { return dir == "" }),
		Binary: c.Nginx.Binary, Dirs: s.Dirs(), StopTimeout: c.Nginx.StopTimeout, Stdout: s.Stderr,
	}, s
}

// configuredMode returns the mode of the configuration. Where that is auto, it is Unit if
// systemd runs and has the unit for our files, else Exec.
func configuredMode(c config.Config) Mode {
	if c.Nginx.Mode != "auto" {
		return Mode(c.Nginx.Mode)
	}
	main := nginx.Dirs{State: nginx.StateDir(c)}.MainFile()
	if systemd.Booted() && strings.Contains(systemd.InstalledUnit(c.Nginx.Unit), " "+main+" ") {
		return Unit
	}
	return Exec
}

// workerUser returns the user of nginx's workers; "" is the one that nginx was built for.
// Only root can choose one, and a container has other users than this host.
func workerUser(n config.Nginx) string {
	switch {
	case os.Geteuid() != 0:
		return ""
	case n.User != "auto":
		return n.User
	case n.Mode == string(Container):
		return ""
	}
	for _, name := range []string{"nginx", "www-data"} {
		if _, err := user.Lookup(name); err == nil {
			return name
		}
	}
	return ""
}

// hasIPv6 reports whether the kernel has any IPv6 address; nginx does not
// start if it has to listen on IPv6 where there is none.
func hasIPv6() bool {
	b, err := os.ReadFile("/proc/net/if_inet6")
	return err == nil && len(b) > 0
}
