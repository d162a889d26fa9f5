// Package apply makes a running nginx serve a tree: it stages the tree, swaps it in,
// has nginx load it, asks nginx whether the new generation answers, and rolls back
// if it does not. However nginx runs, it outlives the agent and is adopted by the next one.
package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Options are the options of Run.
type Options struct {
	// Runtime runs nginx; there is no default.
	Runtime Runtime
	// Dirs are those of the nginx.Settings that the trees are rendered with. They are absolute,
	// which package config has checked.
	Dirs nginx.Dirs
	// Supervised is true where systemd, Docker or ECS restarts nginx when it has died. Then
	// it is looked for at least every second after that.
	Supervised bool
	// Pacer decides when a wanted tree is loaded; there is no default.
	Pacer Pacer
	// Limits bound times and numbers.
	Limits Limits
	// Reopen delivers requests that nginx opens its logs again. May be nil.
	Reopen <-chan struct{}
	// Log gets one line per decision; nil discards them.
	Log *slog.Logger
}

// Limits are time-outs, periods and maximum numbers. A zero value is its default.
type Limits struct {
	// Test bounds one nginx -t, together with perSite for each site; default 30 s.
	Test time.Duration
	// Answer is how long a new generation may take to answer before nginx -t is asked
	// whether nginx refuses it; default 500 ms. Confirm is how long it may take in all,
	// together with perSite for each site; default 10 s.
	Answer, Confirm time.Duration
	// MaxDraining is the maximum number of draining workers; default 16. The oldest are
	// ended where there are more.
	MaxDraining int
	// RetryQuarantine is the period after which refused sites are tried again although they
	// did not change; default 5 min: the cause may have been a file elsewhere.
	RetryQuarantine time.Duration
	// Recheck is how often the files of the current generation are compared without an
	// event of inotify; default 5 min. They are restored at most once in RestorePeriod;
	// default 10 min.
	Recheck, RestorePeriod time.Duration
}

// Runtime runs nginx; package runtime has one for each mode, and its documentation. Command
// may be called while another method runs; the others are for one goroutine.
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
	// Want sets the wanted tree; live is the one that nginx serves.
	Want(now time.Time, live nginx.Tree, wanted nginx.Wanted)
	// Wait returns how long to wait before the wanted tree is loaded.
	Wait(now time.Time) time.Duration
	// Loaded notes that the wanted tree is being loaded.
	Loaded(now time.Time)
}

func (o Options) withDefaults() Options {
	l := &o.Limits
	l.Test = cmp.Or(l.Test, 30*time.Second)
	l.Answer = cmp.Or(l.Answer, 500*time.Millisecond)
	l.Confirm = cmp.Or(l.Confirm, 10*time.Second)
	l.MaxDraining = cmp.Or(l.MaxDraining, 16)
	l.RetryQuarantine = cmp.Or(l.RetryQuarantine, 5*time.Minute)
	l.Recheck = cmp.Or(l.Recheck, 5*time.Minute)
	l.RestorePeriod = cmp.Or(l.RestorePeriod, 10*time.Minute)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Run keeps nginx serving the newest wanted tree until ctx ends, and then
// returns nil and leaves nginx running. It adopts a running nginx, or starts one with the
// generation that is on the disk before the first
// tree comes. A failure leaves the running nginx and the current generation as they
// were, is a problem in the status, and is tried again. An error is returned only
// (ErrLocked) when another agent uses the state directory.
func Run(ctx context.Context, o Options, wanted <-chan nginx.Wanted, put func(nginx.Status)) error {
	o = o.withDefaults()
	a := newApplier(o, put)
	if err := a.lock(ctx); err != nil || a.store.lock == nil {
		return err
	}
	defer func() { a.store.lock.Release() }()
	defer a.master.forget()
	var err error
	if a.guard.watcher, err = dirwatch.New(); err != nil {
		o.Log.Debug("changes of the files cannot be watched", "err", err)
	}
	defer a.guard.watcher.Close()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { a.guard.watch(ctx) })
	a.store.clean()
	removeOldChecks(o.Dirs.State)
	defer a.endTrial(0)
	a.adopt(ctx)
	a.loop(ctx, wanted)
	return nil
}

// Stop calls stop, which ends nginx, unless another agent uses the state directory
// (ErrLocked). It is for after the last Run.
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
