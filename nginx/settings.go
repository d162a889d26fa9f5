package nginx

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Settings is what the operator decides about nginx as a whole. Default returns
// the defaults; a zero port, count or duration means its default too.
type Settings struct {
	// HTTPPort and HTTPSPort are the public ports; default 80 and 443.
	HTTPPort  uint16 `json:"http_port"`
	HTTPSPort uint16 `json:"https_port"`
	// IPv6 listens on [::] too.
	IPv6 bool `json:"ipv6"`
	// HTTP2 offers HTTP/2 over TLS where the build can; default true.
	HTTP2 bool `json:"http2"`
	// HTTP3 offers HTTP/3 (QUIC) at UDP HTTPSPort where the build can.
	HTTP3 bool `json:"http3"`
	// ProxyProtocol expects the PROXY protocol from every client of the public
	// ports, e.g. a load balancer's; whom it is believed from is TrustedProxies.
	ProxyProtocol bool `json:"proxy_protocol"`
	// UpstreamCA is a file with the certificate authorities that containers'
	// certificates are judged by, where a route wants that; default
	// /etc/ssl/certs/ca-certificates.crt.
	UpstreamCA string `json:"upstream_ca"`
	// User and Group are who the workers run as; empty means nginx's compiled
	// default. Without a Group, nginx takes the one that is named like User. The
	// user must be able to enter StateDir and to read the files in HtpasswdDir.
	User  string `json:"user"`
	Group string `json:"group"`
	// StateDir holds the generations and temporary files, default
	// /var/lib/nagaya/nginx; RunDir the pid file and the private unix socket,
	// default /run/nagaya/nginx.
	StateDir string `json:"state_dir"`
	RunDir   string `json:"run_dir"`
	// LogDir holds error.log and access.log; empty means that errors go to
	// stderr and there is no access log, unless AccessLog names one.
	LogDir string `json:"log_dir"`
	// AccessLog is a path, or "off"; empty means access.log in LogDir.
	AccessLog string `json:"access_log"`
	// LogFormat is the line of a request in AccessLog, with nginx's variables in it;
	// "json" or empty mean nagaya's own. LogEscape is default, json or none (the
	// parameter escape of nginx's log_format), for a LogFormat of the operator's.
	LogFormat string `json:"log_format,omitempty"`
	LogEscape string `json:"log_escape,omitempty"`
	// DefaultRoot answers the paths of a host that no location serves: arguments of
	// nginx's return with spaces between them, or "none" for no answer. Empty means 404
	// with a line of text.
	DefaultRoot string `json:"default_root,omitempty"`
	// Stderr makes errors go to stderr besides LogDir.
	Stderr bool `json:"stderr,omitempty"`
	// SnippetDir is where Snippets were found; default /etc/nagaya/nginx.
	SnippetDir string `json:"snippet_dir"`
	// Snippets are the operator's own files that exist.
	Snippets []Snippet `json:"snippets,omitempty"`
	// HtpasswdDir holds the files that a route's Auth names; default
	// /etc/nagaya/htpasswd.
	HtpasswdDir string `json:"htpasswd_dir"`
	// HostAuth are the files in HtpasswdDir that are for whole hosts, as nginx-proxy
	// names them: HOST, or HOST_ and the SHA-1 of a path.
	HostAuth []string `json:"host_auth,omitempty"`
	// Passwords are all files in HtpasswdDir; nil means that nobody has looked.
	Passwords []string `json:"passwords,omitempty"`
	// TLSPolicy is for sites and streams that have none; empty is route.DefaultTLSPolicy.
	TLSPolicy string `json:"tls_policy,omitempty"`
	// WorkerProcesses is the number of workers; 0 means one per core.
	WorkerProcesses int `json:"worker_processes"`
	// WorkerConnections is the number of connections of one worker, clients and
	// upstreams together; default 1024.
	WorkerConnections int `json:"worker_connections"`
	// ShutdownTimeout bounds how long an old worker serves what it had begun
	// before a reload; default 240 s. nginx itself would wait for ever.
	ShutdownTimeout time.Duration `json:"shutdown_timeout"`
	// TrustedProxies are the peers whose X-Forwarded-* headers are believed;
	// nobody's by default.
	TrustedProxies []netip.Prefix `json:"trusted_proxies,omitempty"`
}

// Snippet is one file of the operator; package install lists them. Its name
// says where it is included, see snippets.go.
type Snippet struct {
	Name string `json:"name"`
	// Path is the file itself; empty means that it is at Name in SnippetDir.
	Path string `json:"path,omitempty"`
	// Fingerprint changes when the content does, and so makes nginx reload it.
	Fingerprint string `json:"fingerprint"`
}

// OperatorFiles are the files of the operator's own that a rendering depends on.
type OperatorFiles struct {
	Snippets []Snippet
	// Passwords are the names of the password files; never nil once they were listed.
	Passwords []string
}

// Default returns the settings of an operator who decided nothing.
func Default() Settings {
	s := Settings{HTTP2: true, LogDir: "/var/log/nagaya"}.withDefaults()
	s.AccessLog = "" // it follows LogDir, also when that is changed
	return s
}

func (s Settings) withDefaults() Settings {
	s.HTTPPort = or(s.HTTPPort, 80)
	s.HTTPSPort = or(s.HTTPSPort, 443)
	s.StateDir = or(s.StateDir, "/var/lib/nagaya/nginx")
	s.RunDir = or(s.RunDir, "/run/nagaya/nginx")
	s.SnippetDir = or(s.SnippetDir, "/etc/nagaya/nginx")
	s.HtpasswdDir = or(s.HtpasswdDir, "/etc/nagaya/htpasswd")
	s.UpstreamCA = or(s.UpstreamCA, "/etc/ssl/certs/ca-certificates.crt")
	s.WorkerConnections = or(s.WorkerConnections, 1024)
	s.ShutdownTimeout = or(s.ShutdownTimeout, 240*time.Second)
	if s.AccessLog == "" {
		s.AccessLog = "off"
		if s.LogDir != "" {
			s.AccessLog = path.Join(s.LogDir, "access.log")
		}
	}
	return s
}

func or[T comparable](v, instead T) T {
	var zero T
	if v == zero {
		return instead
	}
	return v
}

// socketPathMax is the longest path of a unix socket on Linux: sun_path holds
// 108 bytes with the closing zero (unix(7)).
const socketPathMax = 107

// Validate says what in the settings nginx could not live with, naming the
// field. Zero values are fine.
func (s Settings) Validate() error {
	s = s.withDefaults()
	if s.HTTPPort == s.HTTPSPort {
		return fmt.Errorf("http_port and https_port are both %d: give them different ports", s.HTTPPort)
	}
	for _, f := range []struct{ name, value string }{
		{"state_dir", s.StateDir},
		{"run_dir", s.RunDir},
		{"log_dir", s.LogDir},
		{"snippet_dir", s.SnippetDir},
		{"htpasswd_dir", s.HtpasswdDir},
		{"access_log", s.AccessLog},
		{"upstream_ca", s.UpstreamCA},
	} {
		if f.value == "off" && f.name == "access_log" || f.value == "" && f.name == "log_dir" {
			continue
		}
		if !plainPath(f.value) {
			return fmt.Errorf("%s is %q: give an absolute path without $ and control characters", f.name, cut(f.value))
		}
	}
	if p := AsideSocket(passSocket(s.RunDir, "")); len(p) > socketPathMax {
		return fmt.Errorf("run_dir is %d bytes long: the socket's path %q may have %d bytes at most", len(s.RunDir), cut(p), socketPathMax)
	}
	if s.Group != "" && s.User == "" {
		return fmt.Errorf("group is %q but user is empty: nginx takes a group only with a user", cut(s.Group))
	}
	if !accountName(s.User) || !accountName(s.Group) {
		return fmt.Errorf("user %q or group %q is not an account name: letters, digits, '.', '_' and '-'", cut(s.User), cut(s.Group))
	}
	if !slices.Contains([]string{"", "default", "json", "none"}, s.LogEscape) {
		return fmt.Errorf("log_escape is %q: give default, json or none", cut(s.LogEscape))
	}
	if strings.ContainsFunc(s.DefaultRoot, unicode.IsControl) {
		return fmt.Errorf("default_root is %q: give a text without control characters", cut(s.DefaultRoot))
	}
	if strings.ContainsFunc(s.LogFormat, unicode.IsControl) {
		return fmt.Errorf("log_format is %q: give a text without control characters", cut(s.LogFormat))
	}
	if _, ok := route.PolicyNamed(s.TLSPolicy); !ok {
		return fmt.Errorf("tls_policy is %q: give the name of a policy that is known", cut(s.TLSPolicy))
	}
	if s.WorkerProcesses < 0 || s.WorkerProcesses > 512 {
		return fmt.Errorf("worker_processes is %d: give 0 (one per core) to 512", s.WorkerProcesses)
	}
	if s.WorkerConnections < 64 || s.WorkerConnections > 1<<20 {
		return fmt.Errorf("worker_connections is %d: give 64 to %d", s.WorkerConnections, 1<<20)
	}
	if s.ShutdownTimeout < time.Second || s.ShutdownTimeout > 24*time.Hour {
		return fmt.Errorf("shutdown_timeout is %v: give 1s to 24h", s.ShutdownTimeout)
	}
	for _, sn := range s.Snippets {
		if !snippetName(sn.Name) {
			return fmt.Errorf("snippet %q: only plain names in http.d, stream.d, site.d, location.d and vhost.d are included", cut(sn.Name))
		}
		if sn.Path != "" && !plainPath(sn.Path) {
			return fmt.Errorf("snippet %q is at %q: give an absolute path without $ and control characters", cut(sn.Name), cut(sn.Path))
		}
	}
	return nil
}

// Socket returns the path of the private unix socket in a RunDir. It answers
// /generation and, where the build can, /status.
func Socket(runDir string) string { return path.Join(runDir, "nginx.sock") }

// TLSSocket returns the path of the socket in a RunDir at which the http section
// takes HTTPS while the stream section has the public port.
func TLSSocket(runDir string) string { return path.Join(runDir, "https.sock") }

// passSocket returns the path of the socket in a RunDir that leads to a host whose
// TLS is passed on.
func passSocket(runDir, host string) string { return path.Join(runDir, digest(host)+".sock") }

// PIDFile returns the path of the pid file in a RunDir.
func PIDFile(runDir string) string { return path.Join(runDir, "nginx.pid") }

// ErrorLog returns the path of the error log in a LogDir, or "stderr" without one.
func ErrorLog(logDir string) string {
	if logDir == "" {
		return "stderr"
	}
	return path.Join(logDir, "error.log")
}

// TempDir returns the directory in a StateDir that must exist before nginx
// starts: nginx makes its temporary directories in it, but not itself.
func TempDir(stateDir string) string { return path.Join(stateDir, "temp") }

// plainPath says whether nginx takes p as it is: '$' would begin a variable in
// the directives that allow one.
func plainPath(p string) bool {
	return path.IsAbs(p) && len(p) <= 4095 && !strings.ContainsFunc(p, func(r rune) bool {
		return r == '$' || r == unicode.ReplacementChar || unicode.IsControl(r)
	})
}

func accountName(s string) bool {
	return len(s) <= 64 && !strings.HasPrefix(s, "-") && !strings.ContainsFunc(s, func(r rune) bool { return !wordRune(r) })
}

func wordRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

// cut bounds text from elsewhere for an error.
func cut(s string) string {
	if len(s) > 120 {
		return s[:120] + "…"
	}
	return s
}
