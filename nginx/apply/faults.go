package apply

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// ProblemOf makes a standing problem of whatever went wrong with nginx.
func ProblemOf(err error) problem.Problem {
	var f *nginx.Fault
	if !errors.As(err, &f) {
		f = &nginx.Fault{Problem: problem.Problem{
			Code: "nginx-install-failed", Text: nginx.Printable(err.Error()),
			Hint: "what runs was not touched, and it is tried again; see the agent's log for the steps before",
		}}
	}
	p := f.Problem
	p.Severity = problem.Error
	if p.Subject == "" {
		p.Subject = "nginx"
	}
	return p
}

// errPortInUse is wrapped by the Fault of a port that another process holds.
var errPortInUse = errors.New("the port is in use")

// errRefused is wrapped by the Fault of a configuration that nginx refuses.
var errRefused = errors.New("nginx refuses the configuration")

// refusalFault says why nginx refuses a configuration as a whole: reason is its own
// message, dir the state directory.
func refusalFault(reason, dir string) *nginx.Fault {
	f := &nginx.Fault{Err: errRefused, Problem: problem.Problem{
		Code: "nginx-config-refused", Text: "nginx refuses the configuration: " + reason,
		Hint: "the cause is outside the sites: look at the file that is named, or remove your snippets in http.d one by one; nginx goes on with what it has",
	}}
	switch {
	case strings.Contains(reason, "No space left on device"):
		f.Code, f.Subject = "disk-full", dir
		f.Hint = "free some space or inodes on this file system; nginx goes on with what it has"
	case strings.Contains(reason, "Read-only file system"):
		f.Code, f.Subject = "state-dir-unwritable", dir
		f.Hint = "mount the file system read-write; nginx goes on with what it has"
	case nginx.BindForbidden(reason):
		f.Code = "port-forbidden"
		f.Hint = "run nagaya as root or with CAP_NET_BIND_SERVICE, or choose ports above 1023"
	}
	return f
}

// diskFault names a failed write in a directory; nil for no error.
func diskFault(doing, dir string, err error) error {
	if err == nil {
		return nil
	}
	f := &nginx.Fault{Err: err, Problem: problem.Problem{
		Code: "state-dir-unwritable", Subject: dir,
		Text: fmt.Sprintf("%s failed: %s", doing, nginx.Printable(err.Error())),
		Hint: "make the directory writable for nagaya (mount it read-write, check its owner and mode); nginx goes on with what it has",
	}}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		f.Code = "disk-full"
		f.Hint = "free some space or inodes on the file system of this directory; nginx goes on with what it has"
	}
	return f
}
