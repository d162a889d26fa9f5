// Package apply makes a running nginx serve a tree: it stages the tree, swaps it in,
// has nginx load it, asks nginx whether the new generation answers, and rolls back
// if it does not. However nginx runs, it outlives the agent and is adopted by the next one.
package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// Options say which nginx, and how patient to be.
type Options struct {
	// Runtime runs nginx.
	Runtime Runtime
	// Dirs are those of the nginx.Settings that the trees are rendered with.
	Dirs nginx.Dirs
	// Version is that of the binary, for the status.
	Version string
	// Supervised is true where something else starts nginx again when it has died.
	Supervised bool
	// Pacer decides when a wanted tree is loaded; nil loads each at once.
	Pacer Pacer
	// Limits bound times and numbers.
	Limits Limits
	// Log gets one line per decision; nil discards them.
	Log *slog.Logger
}

// Limits bound how long things may take. A zero value is its default.
type Limits struct {
	// Test bounds one nginx -t; default 30 s.
	Test time.Duration
	// Answer is how long a new generation may take to answer before nginx -t is asked
	// whether nginx refuses it; default 500 ms. Confirm is how long it may take in all;
	// default 10 s.
	Answer, Confirm time.Duration
	// MaxDraining is how many old workers may go on serving their clients; default
	// 16. Beyond it the oldest are ended.
	MaxDraining int
	// RetryQuarantine is how often a refused site is tried again although it did
	// not change; default 5 min: the cause may have been a file elsewhere.
	RetryQuarantine time.Duration
	// Recheck is how often the files of the current generation are compared without a
	// sign of change; default 5 min. RestorePeriod is for how long they are left alone
	// when they were changed again after they had been restored; default 10 min.
	Recheck, RestorePeriod time.Duration
}

// Runtime runs nginx; package runtime has one for each mode, and its documentation.
type Runtime interface {
	Find(ctx context.Context) nginx.Instance
	Start(ctx context.Context) (master int, err error)
	Signal(ctx context.Context, pid int, s nginx.Signal) error
	Workers(master int) nginx.Workers
	Watch(master int) (ended <-chan struct{}, stop func())
	Command(ctx context.Context, args ...string) (output string, exit int, err error)
}

// Pacer decides when a wanted tree is loaded; package pools has the one that is used.
type Pacer interface {
	// Want notes what is wanted in the place of what is served.
	Want(now time.Time, live nginx.Tree, wanted nginx.Wanted)
	// Wait returns how long it still has to wait.
	Wait(now time.Time) time.Duration
	// Loaded notes that what is wanted is being loaded.
	Loaded(now time.Time)
}

// atOnce is the Pacer that never waits.
type atOnce struct{}

func (atOnce) Want(time.Time, nginx.Tree, nginx.Wanted) {}
func (atOnce) Wait(time.Time) time.Duration             { return 0 }
func (atOnce) Loaded(time.Time)                         {}

func (o Options) withDefaults() (Options, error) {
	if o.Runtime == nil {
		return o, errors.New("the field Runtime is missing")
	}
	for _, d := range []struct{ name, value string }{{"Dirs.State", o.Dirs.State}, {"Dirs.Run", o.Dirs.Run}} {
		if !filepath.IsAbs(d.value) {
			return o, fmt.Errorf("%s is %q: give an absolute path", d.name, d.value)
		}
	}
	if o.Dirs.Log != "" && !filepath.IsAbs(o.Dirs.Log) {
		return o, fmt.Errorf("Dirs.Log is %q: give an absolute path, or nothing for stderr", o.Dirs.Log)
	}
	l := &o.Limits
	for _, d := range []struct {
		value   *time.Duration
		instead time.Duration
	}{
		{&l.Test, 30 * time.Second},
		{&l.Answer, 500 * time.Millisecond},
		{&l.Confirm, 10 * time.Second},
		{&l.RetryQuarantine, 5 * time.Minute},
		{&l.Recheck, 5 * time.Minute},
		{&l.RestorePeriod, 10 * time.Minute},
	} {
		if *d.value <= 0 {
			*d.value = d.instead
		}
	}
	if l.MaxDraining <= 0 {
		l.MaxDraining = 16
	}
	if o.Pacer == nil {
		o.Pacer = atOnce{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// Run keeps nginx serving the newest wanted tree until ctx ends, and then
// returns nil and leaves nginx running. It adopts a running nginx of a former
// agent, or starts one with the generation that is on the disk before the first
// tree comes. A failure leaves the running nginx and the current generation as they
// were, is a problem in the status, and is tried again. An error comes back only
// for wrong Options, or (ErrLocked) when another agent works in the state directory.
func Run(ctx context.Context, o Options, wanted <-chan nginx.Wanted, put func(nginx.Status)) error {
	o, err := o.withDefaults()
	if err != nil {
		return fmt.Errorf("nginx apply: %w", err)
	}
	a := newApplier(o, put)
	if err := a.lock(ctx); err != nil || a.store.lock == nil {
		return err
	}
	defer func() { a.store.lock.Release() }()
	defer a.master.forget()
	defer a.guard.close()
	a.store.clean()
	removeOldChecks(o.Dirs.State)
	a.adopt(ctx)
	a.loop(ctx, wanted)
	return nil
}

// Stop ends nginx by stop, unless another agent works with it (ErrLocked), whose
// nginx is then left alone. It is for after the last Run.
func Stop(ctx context.Context, dirs nginx.Dirs, stop func(context.Context) error) error {
	// A directory that cannot be locked for another reason has no other agent in it.
	held, err := lockDir(dirs.State)
	if errors.Is(err, ErrLocked) {
		return fmt.Errorf("nginx stop: %w", err)
	}
	if err == nil {
		defer held.Release()
	}
	return stop(ctx)
}
