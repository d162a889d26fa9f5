// Package runtime runs nginx, in one of three modes: as a daemon that the agent starts,
// as a unit of systemd, or in a container of Docker or ECS. In each mode nginx
// goes on when the agent ends, and the next agent finds it again.
package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Mode is how nginx runs.
type Mode string

// The modes.
const (
	Exec      Mode = "exec"      // a daemon that the agent starts
	Unit      Mode = "service"   // a unit that systemd starts
	Container Mode = "container" // a container that Docker or ECS starts
)

// Options are the options of all modes.
type Options struct {
	// Mode is how nginx runs; default Exec.
	Mode Mode
	// Unit is the systemd service of mode Unit.
	Unit string
	// Docker is the address of the engine in mode Container, e.g.
	// "unix:///var/run/docker.sock". Nginx's container has one of Labels, with any value.
	// Shared are the directories beside Dirs that the container must see at the same paths,
	// unless they are empty.
	Docker string
	Labels []string
	Shared []string
	// Binary is the nginx to run; default "nginx" from PATH. In mode Unit the unit's
	// binary takes its place, in mode Container it is a path in the container.
	Binary string
	// Dirs are those of the nginx.Settings that the trees are rendered with.
	Dirs nginx.Dirs
	// Stdout gives this process's stdout to nginx as StdoutPath, and its stderr as stderr,
	// for settings that name them (mode Exec).
	Stdout bool
	// StopTimeout is how long Stop waits for nginx to finish its requests; default 10 s.
	StopTimeout time.Duration
	// Log gets one line per decision; nil discards them.
	Log *slog.Logger
}

// StdoutPath is the path of this process's stdout for an nginx that was started with
// Options.Stdout: a daemon's own stdout is closed.
const StdoutPath = "/dev/fd/3"

// Runtime is one mode of running nginx. A master is identified by its process number.
// Its methods are for one goroutine at a time.
type Runtime interface {
	// Find returns the running instance of our nginx; its Master is 0 if there is none.
	Find(ctx context.Context) nginx.Instance
	// Start makes nginx run with the current generation and returns its master. It does
	// not wait until nginx answers.
	Start(ctx context.Context) (master int, err error)
	// Signal sends a signal to the master or to one of its workers and does not wait for
	// its effect. A worker that has ended is no error.
	Signal(ctx context.Context, pid int, s nginx.Signal) error
	// Workers lists the children of a master.
	Workers(master int) nginx.Workers
	// Watch returns a channel that is closed when the master has ended. stop stops watching.
	Watch(master int) (ended <-chan struct{}, stop func())
	// Command runs the binary where the running nginx runs (in its container), and returns the
	// end of its output and its exit status. The error says why it could not be run.
	Command(ctx context.Context, args ...string) (output string, exit int, err error)
}

// New returns the runtime of o.Mode. done closes its connections; nginx goes on.
func New(o Options) (r Runtime, done func(), err error) {
	o = o.withDefaults()
	switch o.Mode {
	case Exec:
		return &daemon{process{o}}, func() {}, nil
	case Unit:
		return &unit{process{o}}, func() {}, nil
	case Container:
		c, err := newContainer(o)
		if err != nil {
			return nil, nil, err
		}
		return c, func() { c.cli.Close() }, nil
	}
	return nil, nil, fmt.Errorf("mode %q is none of exec, service and container", o.Mode)
}

// Stop ends an nginx of mode Exec: SIGQUIT, then SIGTERM, then SIGKILL. The other modes leave
// it to systemd, Docker or ECS.
func Stop(ctx context.Context, o Options) error {
	o = o.withDefaults()
	r, done, err := New(o)
	if err != nil {
		return err
	}
	defer done()
	switch r := r.(type) {
	case *daemon:
		return r.stop(ctx)
	case *unit:
		o.Log.Info("nginx goes on", event.Key, event.NginxLeftRunning, "unit", o.Unit)
	default:
		o.Log.Info("nginx goes on in its container", event.Key, event.NginxLeftRunning)
	}
	return nil
}

func (o Options) withDefaults() Options {
	o.Mode = cmp.Or(o.Mode, Exec)
	o.Binary = cmp.Or(o.Binary, "nginx")
	o.StopTimeout = cmp.Or(o.StopTimeout, 10*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}

// Detect runs nginx -V and returns what that nginx can do. The Options need to
// name an nginx and no more. The error is a Fault, except for wrong Options.
func Detect(ctx context.Context, o Options) (b nginx.Build, err error) {
	r, done, err := New(o)
	if err != nil {
		return b, err
	}
	defer done()
	o = o.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	output, exit, err := r.Command(ctx, "-V")
	if _, ok := errors.AsType[*nginx.Fault](err); ok {
		return b, err
	}
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("nginx is not installed as %q: install it, e.g. apt install nginx or dnf install nginx: %w", o.Binary, err)
	case err != nil:
		err = fmt.Errorf("running %s -V: %w", o.Binary, err)
	case exit != 0:
		err = fmt.Errorf("running %s -V: exit status %d", o.Binary, exit)
	default:
		if b, err = nginx.ParseBuild(output); err != nil {
			err = fmt.Errorf("%s: %w", o.Binary, err)
		}
	}
	if err != nil {
		return b, nginx.NewFault(err, "nginx-missing", nginx.Printable(err.Error()),
			fmt.Sprintf("install nginx %s or newer, or set nginx.binary; it is looked for again by itself", nginx.MinVersion))
	}
	if b.Stream == "dynamic" {
		has := hasFile
		if c, ok := r.(*container); ok {
			has = c.hasFile
		}
		if b.StreamModule = streamModule(output, has); b.StreamModule == "" {
			// Distributions have the module in a package of its own, which is not installed.
			b.Stream, b.StreamRealIP, b.StreamPreread, b.StreamTLS = "", false, false, false
		}
	}
	return b, nil
}

// modulesDir is the directory of modules in a build's configure arguments.
var modulesDir = regexp.MustCompile(`--modules-path=(/\S+)`)

// streamModule returns the file of a dynamic stream module; empty when it is not
// installed. version is the output of nginx -V.
func streamModule(version string, has func(file string) bool) string {
	dirs := []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules"}
	if m := modulesDir.FindStringSubmatch(version); m != nil {
		dirs = append([]string{m[1]}, dirs...)
	}
	for _, dir := range dirs {
		if file := filepath.Join(dir, "ngx_stream_module.so"); has(file) {
			return file
		}
	}
	return ""
}

// hasFile reports whether there is a regular file of that name.
func hasFile(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Mode().IsRegular()
}
