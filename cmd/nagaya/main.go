// Nagaya lets many small services and nightly batches live together on one
// burstable EC2 instance. This command is the agent that runs on the instance,
// and the verbs by which people and scripts talk to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	// Small hosts and containers may have no database of time zones.
	_ "time/tzdata"
)

// Exit codes. 'nagaya gate run' exits as its command did; what it adds to that
// is in gate_run.go.
const (
	exitOK = 0
	// exitNo: the answer is no (gate closed, check found errors), or the verb failed.
	exitNo = 1
	// exitUsage: the command line or the configuration is wrong.
	exitUsage = 2
	// exitNoAgent: the agent does not answer.
	exitNoAgent = 3
)

func main() {
	// The first signal ends the context, a second one the process: a second ^C
	// must end it at once.
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if os.Getpid() == 1 {
		ends = append(ends, syscall.SIGQUIT) // how images of nginx are stopped
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// exitError carries an exit code up to main. An empty message prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the user's, not the host's.
func usage(err error) error { return &exitError{code: exitUsage, err: err} }

// exitCode returns what the process exits with after err.
func exitCode(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		return e.code
	}
	return exitNo
}

// hinted adds what the user can do to an error.
func hinted(err error, hint string) error {
	return fmt.Errorf("%w\n  hint: %s", err, hint)
}

// version is set at link time for releases, in the form "1.2.3"; otherwise it
// is what Go recorded about the build.
var version string

func versionText() string {
	info, ok := debug.ReadBuildInfo()
	v := version
	if v == "" && ok {
		v = info.Main.Version
	}
	if v == "" || v == "(devel)" {
		v = "devel"
	}
	return v
}
