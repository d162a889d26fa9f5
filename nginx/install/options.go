// Package install makes an nginx of nagaya's own serve a tree: it proves the
// tree, swaps it in, reloads and asks nginx whether the new generation answers.
// It starts that nginx and watches over it. However nginx runs, it outlives the
// agent and is adopted by the next one.
package install

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// Outlook is what will probably be wanted.
type Outlook struct {
	// Tree is the next one. It is tested before it is wanted; the zero Tree is none.
	Tree nginx.Tree
	// More says that containers are on their way: while reloads have to be saved up,
	// the next one waits for them.
	More bool
}

// Options say which nginx and where. StateDir, RunDir and LogDir must be those
// of the nginx.Settings that the trees are rendered with.
type Options struct {
	// Mode is how nginx runs; default Exec.
	Mode Mode
	// Unit is the systemd service of mode Service.
	Unit string
	// Docker is the address of the engine in mode Container, e.g.
	// "unix:///var/run/docker.sock". Labels are the labels by which nginx's container
	// is known; one of them is enough, whatever its value. Shared are the paths that
	// the container must see as this host does, where they exist, beside StateDir,
	// RunDir and LogDir.
	Docker string
	Labels []string
	Shared []string
	// Binary is the nginx to run; default "nginx" from PATH. In mode Service the one
	// of the unit takes its place, in mode Container it is one in the container.
	// Build is what Detect found out about it; Stop does without.
	Binary string
	Build  nginx.Build
	// StateDir holds the generations; it must be on a disk and is made when it is
	// missing. RunDir may be in /run. LogDir empty means that nginx logs to this
	// process's stderr; then its reasons for a refusal are read there, not here.
	StateDir string
	RunDir   string
	LogDir   string
	// Stdout hands this process's stdout to nginx as StdoutPath, and its stderr too,
	// for settings that name them.
	Stdout bool
	// TestTimeout bounds one nginx -t, default 30 s; ConfirmTimeout how long a new
	// generation may take to answer, default 10 s.
	TestTimeout    time.Duration
	ConfirmTimeout time.Duration
	// StopTimeout is how long Stop waits for what nginx has begun, default 10 s.
	StopTimeout time.Duration
	// ReloadBurst reloads may follow each other at once, default 3; after that
	// there is one every ReloadEvery, which is asked each time; nil is 1 s. The newest
	// tree wins. One that takes a container out does not wait for this.
	ReloadBurst int
	ReloadEvery func() time.Duration
	// Foreseen gets what is to be expected. Nil means that nobody tells.
	Foreseen <-chan Outlook
	// MaxDraining is how many old workers may go on serving their clients, default
	// 16; beyond it the oldest are ended.
	MaxDraining int
	// RetryQuarantine is how often a refused site is tried again although it did
	// not change, default 5 min: the cause may have been a file elsewhere.
	RetryQuarantine time.Duration
	// Restores is how often files of the current generation that somebody else has
	// changed are put back within a RestorePeriod; default 3 in 10 min. Recheck is how
	// often they are looked at without a sign of change, default 5 min.
	Restores      int
	RestorePeriod time.Duration
	Recheck       time.Duration
	// Log gets one line per decision; nil discards them.
	Log *slog.Logger
}

// Mode is a way to run nginx.
type Mode string

// The modes.
const (
	Exec      Mode = "exec"      // a daemon that the agent starts
	Service   Mode = "service"   // a unit that systemd runs
	Container Mode = "container" // a container that Docker or ECS runs
)

// forRun is withDefaults for whoever starts nginx or asks it.
func (o Options) forRun() (Options, error) {
	if !o.Build.Version.AtLeast(nginx.MinVersion) {
		return o, errors.New("the field Build is missing: call Detect first")
	}
	return o.withDefaults()
}

func (o Options) withDefaults() (Options, error) {
	if o.Binary == "" {
		o.Binary = "nginx"
	}
	if o.Mode == "" {
		o.Mode = Exec
	}
	for _, d := range []struct{ name, value string }{{"StateDir", o.StateDir}, {"RunDir", o.RunDir}} {
		if !filepath.IsAbs(d.value) {
			return o, fmt.Errorf("%s is %q: give an absolute path", d.name, d.value)
		}
	}
	if o.LogDir != "" && !filepath.IsAbs(o.LogDir) {
		return o, fmt.Errorf("LogDir is %q: give an absolute path, or nothing for stderr", o.LogDir)
	}
	for _, d := range []struct {
		value   *time.Duration
		instead time.Duration
	}{
		{&o.TestTimeout, 30 * time.Second},
		{&o.ConfirmTimeout, 10 * time.Second},
		{&o.StopTimeout, 10 * time.Second},
		{&o.RetryQuarantine, 5 * time.Minute},
		{&o.RestorePeriod, 10 * time.Minute},
		{&o.Recheck, 5 * time.Minute},
	} {
		if *d.value <= 0 {
			*d.value = d.instead
		}
	}
	if o.ReloadBurst <= 0 {
		o.ReloadBurst = 3
	}
	if o.ReloadEvery == nil {
		o.ReloadEvery = func() time.Duration { return time.Second }
	}
	if o.MaxDraining <= 0 {
		o.MaxDraining = 16
	}
	if o.Restores <= 0 {
		o.Restores = 3
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// StdoutPath is where an nginx that was started with Options.Stdout finds this
// process's stdout: its own is closed when it becomes a daemon.
const StdoutPath = "/dev/fd/3"

// confPath is the path that nginx is started with; the symbolic link in it is
// what a swap changes.
func (o Options) confPath() string { return filepath.Join(o.StateDir, currentLink, nginx.MainFile) }
