package nginx

import (
	"path"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
)

// Host is what the settings depend on of the host that nginx runs on.
type Host struct {
	// IPv6 is true where the kernel has an IPv6 address.
	IPv6 bool
	// User is the user of nginx's workers; see Settings.User.
	User string
	// Child is true for an nginx that the agent starts: only that one can log to
	// the agent's stdout, whose path is Stdout.
	Child  bool
	Stdout string
}

// StateDir returns the directory of nginx's generations, and of the copies of certificates,
// which is in nagaya's.
func StateDir(c config.Config) string { return path.Join(c.StateDir, "nginx") }

// Configured returns the settings of a configuration. Snippets and password files are
// not among them.
func Configured(c config.Config, h Host) Settings {
	s := Settings{
		Nginx: c.Nginx, StateDir: StateDir(c), RunDir: path.Join(c.RunDir, "nginx"), LogDir: c.LogDir, Stderr: c.Nginx.LogStdout && h.Child,
		DebugGlobal: nginxproxy.DebugGlobal(c), NginxProxy: c.NginxProxy, TLSPolicy: c.Routes.TLSPolicy,
	}
	s.IPv6, s.User = s.IPv6 && h.IPv6, h.User
	if c.Certs.ACME.On() {
		s.TokenDir = TokenDir(s.StateDir)
	}
	switch {
	case s.AccessLog == "off":
	case s.Stderr:
		s.AccessLog = h.Stdout
	default:
		s.AccessLog = path.Join(c.LogDir, s.AccessLog)
	}
	return s
}
