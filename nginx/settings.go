package nginx

import (
	"cmp"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
)

// Settings are those of nginx as a whole: the operator's, whose values package config has checked, and what follows from
// the rest of the configuration and from the host. Here IPv6 is true where the host has it too, User is the account of
// the workers, empty for the one that nginx was built for, and AccessLog is a path, or "off".
type Settings struct {
	config.Nginx
	// StateDir holds the generations and temporary files, RunDir the pid file and the unix sockets.
	StateDir string
	RunDir   string
	// LogDir holds error.log; empty means that errors go to stderr.
	LogDir string
	// Stderr makes errors go to stderr in place of error.log in LogDir.
	Stderr bool
	// TokenDir has the answers to challenges of the agent's own orders; empty where it makes none.
	TokenDir string
	// DebugGlobal is a JSON object with the settings for all, for clients that are told how a site is set.
	DebugGlobal string
	// NginxProxy writes what programs read as nginx-proxy does: Alt-Svc, and lines of the access
	// log where LogFormat is empty.
	NginxProxy bool
	// TLSPolicy is for sites and streams that have none; empty is config.DefaultTLSPolicy.
	TLSPolicy string
	// Spaces say where nginx is to write no more.
	Spaces Spaces
	// Snippets are the operator's own files that exist.
	Snippets []Snippet
	// Passwords are the files in HtpasswdDir; nil means that they are not known. With HostAuth they are named by hosts
	// too, as nginx-proxy does (nginxproxy.PasswordFiles).
	Passwords []string
	// WorkerProcesses is the number of workers; 0 means one per core.
	WorkerProcesses int
}

// Snippet is one file of the operator; package snippets lists them. Its name
// determines where it is included, see snippets.go.
type Snippet struct {
	Name string `json:"name"`
	// Path is the file's path; empty means Name in SnippetDir.
	Path string `json:"path"`
	// Fingerprint changes when Text does, and so makes nginx reload it.
	Fingerprint string `json:"fingerprint"`
	// Private is true where not everybody may read the file, nor its copy in a tree.
	Private bool `json:"private,omitempty"`
	// File is its copy in a tree, below SnippetsDir; a tree sets it.
	File string `json:"file"`
	// Text is its content, with that of the files which it includes.
	Text string `json:"-"`
	// Says are the directives in it and in the files that it includes; nil where it cannot
	// be read as nginx reads it.
	Says []Directive `json:"-"`
	// Out is true for one that is left out, because nginx refuses it and has never accepted
	// another version.
	Out bool `json:"-"`
	// Unreadable is true where it, or a file that it includes, could not be read, so that it may
	// say anything. In the place of the file itself is a Text that nginx does not accept.
	Unreadable bool `json:"-"`
}

func (s Snippet) compare(name string) int { return strings.Compare(s.Name, name) }

// OperatorFiles are the operator's files that a rendering depends on.
type OperatorFiles struct {
	Snippets []Snippet
	// Passwords are the names of the password files; never nil once they were listed.
	Passwords []string
}

// prepared returns the settings with the operator's files sorted, so that one is found without
// looking at all.
func (s Settings) prepared() Settings {
	s.Snippets = slices.Clone(s.Snippets)
	for i := range s.Snippets {
		sn := &s.Snippets[i]
		if sn.Name == etcSnippets+"/"+ProxyFile {
			sn.Text = nginxproxy.WithoutClients(sn.Text)
			sn.Says, _ = ParseDirectives(sn.Text) // one that it cannot read says nothing
		}
		sn.Path, sn.File = cmp.Or(sn.Path, path.Join(s.SnippetDir, sn.Name)), sn.copyName()
	}
	slices.SortStableFunc(s.Snippets, func(a, b Snippet) int { return cmp.Or(a.compare(b.Name), cmp.Compare(a.Path, b.Path)) })
	s.Passwords = slices.Clone(s.Passwords)
	slices.Sort(s.Passwords)
	return s
}

// hostPasswords are the password files that may be named by hosts, sorted.
func (s Settings) hostPasswords() []string {
	if !s.HostAuth {
		return nil
	}
	return s.Passwords
}

// Socket returns the path of the private unix socket in a RunDir. It answers
// /generation and, where the build can, /status.
func Socket(runDir string) string { return path.Join(runDir, "nginx.sock") }

// tlsSocket returns the path of the socket in a RunDir at which the http section
// takes HTTPS while the stream section has the public port.
func tlsSocket(runDir string) string { return path.Join(runDir, "https.sock") }

// streamLog is where connections of the stream section are logged: beside the access log, and
// in it where that is no file but a device, such as this process's stdout.
func (s Settings) streamLog() string {
	if s.logsToDevice() {
		return s.AccessLog
	}
	return path.Join(path.Dir(s.AccessLog), "stream.log")
}

func (s Settings) logsToDevice() bool { return strings.HasPrefix(s.AccessLog, "/dev/") }

// passthroughSocket returns the path of the socket in a RunDir for the TLS connections of
// a host that are passed through.
func passthroughSocket(runDir, host string) string { return path.Join(runDir, digest(host)+".sock") }

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
// starts: nginx creates its temporary directories in it.
func TempDir(stateDir string) string { return path.Join(stateDir, "temp") }

// plainPath reports whether nginx takes p as it is: '$' would begin a variable in
// the directives that allow one.
func plainPath(p string) bool {
	return path.IsAbs(p) && len(p) <= 4095 && !strings.ContainsFunc(p, func(r rune) bool {
		return r == '$' || r == unicode.ReplacementChar || unicode.IsControl(r)
	})
}

// truncated bounds text from elsewhere for an error or a comment.
func truncated(s string) string {
	if len(s) > 120 {
		return s[:120] + "…"
	}
	return s
}
