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

// Configured returns how nginx runs and how it is written, by the configuration and by
// what this host has.
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

// configuredMode chooses how nginx runs where the configuration leaves that open: as a
// unit where systemd runs and has one for our files.
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

// workerUser chooses the user of nginx's workers; "" is the one that nginx was built for.
// Only root can choose, and this host's users say nothing of a container's.
func workerUser(n config.Nginx) string {
	switch {
	case os.Geteuid() != 0:
		return ""
	case n.User != "auto":
		return n.User
	case n.Mode == string(Container):
		return ""
	}
	for _, one := range []string{"nginx", "www-data"} {
		if _, err := user.Lookup(one); err == nil {
			return one
		}
	}
	return ""
}

// hasIPv6 reports whether the kernel has any IPv6 address; nginx does not
// start if it is told to listen on IPv6 where there is none.
func hasIPv6() bool {
	b, err := os.ReadFile("/proc/net/if_inet6")
	return err == nil && len(b) > 0
}
