package install

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// trouble is an error that knows what to tell the operator.
type trouble struct {
	code    string
	subject string
	// container and port are what it is about, where that is one of these.
	container string
	port      uint16
	text      string
	hint      string
	err       error
	again     time.Duration // look again no later than this; 0 is no hurry
}

func (t *trouble) Error() string { return t.text }
func (t *trouble) Unwrap() error { return t.err }

// refusal is nginx -t's no, in its own words.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// Explain makes a problem, with a remedy, of an error of Detect.
func Explain(err error) problem.Problem { return asProblem(err) }

// asProblem makes a standing problem of whatever went wrong.
func asProblem(err error) problem.Problem {
	var t *trouble
	if !errors.As(err, &t) {
		t = &trouble{
			code: "nginx-install-failed", text: bounded(err.Error()),
			hint: "what runs was not touched, and it is tried again; see the agent's log for the steps before",
		}
	}
	subject := t.subject
	if subject == "" {
		subject = "nginx"
	}
	return problem.Problem{Code: t.code, Severity: problem.Error, Subject: subject, Container: t.container, Port: t.port, Text: t.text, Hint: t.hint}
}

// diskTrouble names a failed write in dir.
func diskTrouble(doing, dir string, err error) error {
	if err == nil {
		return nil
	}
	t := &trouble{
		code: "state-dir-unwritable", subject: dir, err: err,
		text: fmt.Sprintf("%s failed: %s", doing, bounded(err.Error())),
		hint: "make the directory writable for nagaya (mount it read-write, mind its owner and mode); nginx goes on with what it has",
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		t.code = "disk-full"
		t.hint = "free some space or inodes on the file system of this directory; nginx goes on with what it has"
	}
	return t
}

// refusalTrouble says why the configuration as a whole is refused.
func refusalTrouble(text, stateDir string) error {
	t := &trouble{
		code: "nginx-config-refused", text: "nginx refuses the configuration: " + text,
		hint: "the cause is outside the sites: look at the file that is named, or remove your snippets in http.d one by one; nginx goes on with what it has",
	}
	switch {
	case strings.Contains(text, "No space left on device"):
		t.code, t.subject = "disk-full", stateDir
		t.hint = "free some space or inodes on this file system; nginx goes on with what it has"
	case strings.Contains(text, "Read-only file system"):
		t.code, t.subject = "state-dir-unwritable", stateDir
		t.hint = "mount the file system read-write; nginx goes on with what it has"
	case bindForbidden(text):
		t.code = "port-forbidden"
		t.hint = "run nagaya as root or with CAP_NET_BIND_SERVICE, or choose ports above 1023"
	}
	return t
}

// notRunnable says why nginx could not be asked.
func notRunnable(err error) error {
	if t := (*trouble)(nil); errors.As(err, &t) {
		return err
	}
	return &trouble{
		code: "nginx-not-runnable", err: err, text: "running nginx -t failed: " + bounded(err.Error()),
		hint: "install nginx, or correct the path of its binary",
	}
}

func bindForbidden(text string) bool {
	return strings.Contains(text, "bind() to ") && strings.Contains(text, "Permission denied")
}

var (
	emergLine = regexp.MustCompile(`(?m)^.*\[emerg\](?: \d+#\d+:)?(?: \*\d+)? (.*)$`)
	bindInUse = regexp.MustCompile(`bind\(\) to (\S*?):(\d{1,5}) failed \(\d+: Address already in use\)`)
)

// lastEmerg returns nginx's last "[emerg]" message in text, bounded. A message
// of nothing but "still could not bind()" is passed over for the one before it.
func lastEmerg(text string) string {
	ms := emergLine.FindAllStringSubmatch(text, -1)
	for i := len(ms) - 1; i >= 0; i-- {
		if m := ms[i][1]; !strings.HasPrefix(m, "still could not bind") {
			return bounded(m)
		}
	}
	return ""
}

// bounded makes what nginx said fit to be shown.
func bounded(s string) string { return problem.Printable(s, 400) }

func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
