// Nagaya lets many small services and nightly batches live together on one
// burstable EC2 instance. This command is the agent that runs on the instance,
// and the verbs by which people and scripts talk to it.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
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

func main() { os.Exit(command(time.Second)) }

// command is the process. The first signal ends the context, and one that comes later than a moment
// after it the process at once. What comes in that moment is the same wish: timeout(1) sends its
// signal to the command and then to the group, and what is begun must be taken back between them.
func command(moment time.Duration) (code int) {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if os.Getpid() == 1 {
		ends = append(ends, syscall.SIGQUIT) // how images of nginx are stopped
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	context.AfterFunc(ctx, func() { time.AfterFunc(moment, stop) })
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
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

// usage marks an error as the user's, not the host's, if it has no exit code yet.
func usage(err error) error {
	if _, has := errors.AsType[*exitError](err); has {
		return err
	}
	return &exitError{code: exitUsage, err: err}
}

// exitCode returns what the process exits with after err.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*exitError](err); ok {
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
	if info, ok := debug.ReadBuildInfo(); ok && version == "" {
		return cmp.Or(strings.Trim(info.Main.Version, "()"), "devel")
	}
	return cmp.Or(version, "devel")
}
