package nginx

import (
	"path"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	"github.com/nagaya-ecs/nagaya/agent/route"
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
	n := c.Nginx
	s := Settings{
		HTTPPort: uint16(n.HTTPPort), HTTPSPort: uint16(n.HTTPSPort),
		IPv6: n.IPv6 && h.IPv6, HTTP2: n.HTTP2, HTTP3: n.HTTP3,
		ProxyProtocol: n.ProxyProtocol, TLSPolicy: c.Routes.TLSPolicy, UpstreamCA: n.UpstreamCA, User: h.User,
		StateDir: StateDir(c), RunDir: path.Join(c.RunDir, "nginx"), LogDir: c.LogDir,
		AccessLog: n.AccessLog, LogFormat: n.LogFormat, LogEscape: n.LogEscape, Stderr: n.LogStdout && h.Child,
		DefaultRoot: n.DefaultRoot, UnservedStatus: n.UnservedStatus,
		ChallengeDir: n.ChallengeDir, Challenges: route.Challenges(n.Challenges), ChallengeUnknown: n.ChallengeUnknown,
		Debug: n.DebugEndpoint, DebugGlobal: nginxproxy.DebugGlobal(c),
		NginxProxy: c.NginxProxy, ServerTokens: n.ServerTokens, SnippetDir: n.SnippetDir, HtpasswdDir: n.HtpasswdDir,
		TrustedProxies: n.TrustedProxies, ShutdownTimeout: n.ShutdownTimeout,
	}
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
