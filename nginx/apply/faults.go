package apply

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// ProblemOf returns the problem of an error of nginx: a Fault's own, or nginx-install-failed.
func ProblemOf(err error) problem.Problem {
	f, ok := errors.AsType[*nginx.Fault](err)
	if !ok {
		f = nginx.NewFault(err, "nginx-install-failed", nginx.Printable(err.Error()),
			"what runs was not touched, and it is tried again; see the agent's log for the steps before")
	}
	p := f.Problem
	p.Severity, p.Subject = problem.Error, cmp.Or(p.Subject, "nginx")
	return p
}

// errPortInUse is wrapped by the Fault of a port that another process holds.
var errPortInUse = errors.New("the port is in use")

// errNotLoaded is wrapped by the Fault of a generation that nginx -t accepts and the master does not load.
var errNotLoaded = errors.New("nginx did not load the generation")

// refusalFault is the fault of a configuration that nginx refuses as a whole: reason is its
// own message, dir the state directory. It wraps a refusal.
func refusalFault(reason, dir string) *nginx.Fault {
	f := nginx.NewFault(&refusal{reason}, "nginx-config-refused", "nginx refuses the configuration: "+reason,
		"the cause is outside the sites: look at the file that is named, or remove your snippets in http.d one by one; nginx goes on with what it has")
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

// diskFault is the fault of a failed write in a directory; nil for no error.
func diskFault(doing, dir string, err error) error {
	if err == nil {
		return nil
	}
	f := nginx.NewFault(err, "state-dir-unwritable", fmt.Sprintf("%s failed: %s", doing, nginx.Printable(err.Error())),
		"make the directory writable for nagaya (mount it read-write, check its owner and mode); nginx goes on with what it has")
	f.Subject = dir
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		f.Code = "disk-full"
		f.Hint = "free some space or inodes on the file system of this directory; nginx goes on with what it has"
	}
	return f
}

// diedFault is the fault of a master that has ended.
func diedFault(format string, args ...any) error {
	return nginx.NewFault(nil, "nginx-died", fmt.Sprintf(format, args...),
		"it is started again; if this repeats, read nginx's error log and the kernel's (journalctl -k), e.g. for a lack of memory")
}
