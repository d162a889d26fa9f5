package apply

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// pollEvery is how often nginx is asked once a reload may be over. Until then
// it needs the processor itself.
const pollEvery = 5 * time.Millisecond

// start starts nginx with the current generation and waits for its answer.
func (a *applier) start(ctx context.Context, gen string) error {
	began, l := time.Now(), &loading{gen: gen, logSize: logSize(a.o.Dirs)}
	_ = os.RemoveAll(nginx.GoneDir(a.o.Dirs.State)) // no worker is older than the generation
	pid, err := a.o.Runtime.Start(ctx)
	if err != nil {
		return a.startFault(ctx, gen, err)
	}
	a.master.follow(pid, began)
	a.master.find(ctx)
	if err := a.confirm(ctx, l); err != nil {
		return err
	}
	a.loaded(ctx, "nginx started", event.NginxStarted, gen, began)
	return nil
}

// startFault returns why nginx did not start: a port that another process holds, or
// a configuration that nginx refuses, else the error of the start.
func (a *applier) startFault(ctx context.Context, gen string, err error) error {
	if tree, readErr := a.treeOf(gen); readErr == nil {
		if f := a.portFault(tree); f != nil {
			return f
		}
	}
	return cmp.Or(a.refusal(ctx, gen), err)
}

// reload has the running nginx load the current generation, which is that of the tree,
// and waits until it answers and no old worker takes new connections.
func (a *applier) reload(ctx context.Context, tree nginx.Tree) error {
	began := time.Now()
	a.o.Pacer.Loaded(began)
	before := a.o.Runtime.Workers(a.master.pid)
	l := &loading{gen: tree.Generation, tree: &tree, logSize: logSize(a.o.Dirs), old: slices.Concat(before.Active, before.Starting)}
	if !a.master.unconfirmed {
		a.master.workerCount = len(l.old)
	}
	a.tellGone(tree)
	if err := a.o.Runtime.Signal(ctx, a.master.pid, nginx.Reload); err != nil {
		return err
	}
	if err := a.confirm(ctx, l); err != nil {
		a.master.unconfirmed = true
		return err
	}
	a.master.unconfirmed = false
	a.loaded(ctx, "nginx reloaded", event.NginxReloaded, tree.Generation, began)
	return nil
}

func (a *applier) loaded(ctx context.Context, message, kind, gen string, began time.Time) {
	a.report.status.Reloads++
	a.report.status.LoadedAt = time.Now()
	a.stale = false
	a.guard.workers = a.o.Runtime.Workers(a.master.pid).Active
	a.restrictRunDir(ctx)
	a.log.Info(message, event.Key, kind, "generation", gen, "pid", a.master.pid, "took", time.Since(began).Round(time.Millisecond).String(), "quarantined", len(a.quarantine.sites))
}

// loading is the state of loading a generation.
type loading struct {
	gen      string
	tree     *nginx.Tree // nil for a start: an nginx that runs has accepted it
	logSize  int64       // of the error log before
	tested   bool        // nginx -t was asked
	old      []int       // workers that must stop accepting
	newSince time.Time   // when the first new worker was seen
	answered time.Time   // when the new generation answered first
	looked   time.Time   // when its ports were looked at last
}

// confirm waits until nginx serves the generation. A signal has no answer: where the
// generation does not answer in time, or the master has logged something, nginx -t is asked
// whether nginx refuses it.
func (a *applier) confirm(ctx context.Context, l *loading) error {
	began := time.Now()
	limit := time.NewTimer(patience(a.o.Limits.Confirm, a.store.generation(l.gen)))
	defer limit.Stop()
	test := time.NewTimer(max(a.o.Limits.Answer, 4*a.master.usual))
	defer test.Stop()
	poll := time.NewTimer(a.master.usual / 2)
	defer poll.Stop()
	for {
		select {
		case <-a.master.ended:
			return diedFault("nginx (process %d) ended while it loaded generation %s", a.master.pid, l.gen)
		case <-limit.C:
			return a.noAnswerFault(l)
		case <-ctx.Done():
			return ctx.Err()
		case <-test.C:
			if err := a.testOnce(ctx, l); err != nil {
				return err
			}
			continue
		case <-poll.C:
			poll.Reset(pollEvery)
			if masterMessage(a.o.Dirs, a.master.pid, l.logSize) != "" {
				if err := a.testOnce(ctx, l); err != nil {
					return err
				}
				if err := a.takenMeanwhile(l); err != nil {
					return err
				}
			}
		}
		if a.oldWorkersAccept(l) || a.client.generation(ctx) != l.gen {
			continue
		}
		if l.answered.IsZero() {
			l.answered = time.Now()
		}
		if !a.master.unconfirmed || a.noExtraWorkers(l) {
			a.master.usual = min(time.Since(began), time.Second)
			return nil
		}
	}
}

// testOnce returns the fault of a generation that nginx -t refuses. It asks once, and not at a
// start: an nginx that runs has accepted what it started with.
func (a *applier) testOnce(ctx context.Context, l *loading) error {
	if l.tree == nil || l.tested {
		return nil
	}
	l.tested = true
	return a.refusal(ctx, l.gen)
}

// refusal returns the fault of a generation that nginx -t refuses; nil if it does not.
func (a *applier) refusal(ctx context.Context, gen string) error {
	tree, _ := a.treeOf(gen) // without it a copy is named instead of a file
	if reason, err := a.tester().test(ctx, a.store.generation(gen), tree); err == nil && reason != "" {
		return refusalFault(reason, a.o.Dirs.State)
	}
	return nil
}

// noAnswerFault is the fault of a generation that nginx -t accepts, or that nginx has started
// with, and that does not answer.
func (a *applier) noAnswerFault(l *loading) error {
	reason := cmp.Or(masterMessage(a.o.Dirs, a.master.pid, l.logSize), fmt.Sprintf("the new generation did not answer within %v", patience(a.o.Limits.Confirm, a.store.generation(l.gen))))
	if l.tree == nil {
		return nginx.NewFault(nil, "nginx-start-failed", "nginx was started and does not answer: "+reason, "read nginx's error log; it is tried again")
	}
	if f := a.portFault(*l.tree); f != nil {
		return f
	}
	if f := a.namedPort(l, reason); f != nil {
		return f
	}
	return nginx.NewFault(errNotLoaded, "reload-refused", "nginx did not load the new configuration: "+reason,
		"nginx goes on with the one before; if the message is about a changed zone or key, restart nginx (nagaya starts it again by itself when it is stopped)")
}

// Left to itself, nginx's master lets the old workers accept connections for another
// 100 ms beside the new ones (ngx_process_cycle.c, all versions up to 1.30), and the
// kernel wakes the oldest waiting worker first: the new generation is there, and no
// client sees it. So the old workers are retired as soon as a new one accepts.
// The row "start" of `make bench-routes` pays for it: 100 ms less for each start.

const (
	// masterWaits is how long the master waits before it retires the old workers itself.
	masterWaits = 100 * time.Millisecond
	// extraWorkersEnd is how long a master that was signalled to reload more than once
	// may take to retire the workers of the reloads before; it does so after masterWaits.
	extraWorkersEnd = 300 * time.Millisecond
)

// oldWorkersAccept reports whether one of the old workers still accepts connections, and
// retires them as soon as a new one accepts. The reload is not over before as many new ones
// accept: one that is still starting when the next reload begins would be taken for
// one of that. A worker that ends before the master has signalled it is no crash for the
// master: it blocks the signals of its children until then.
func (a *applier) oldWorkersAccept(l *loading) bool {
	if len(l.old) == 0 {
		return false
	}
	isOld := func(pid int) bool { return slices.Contains(l.old, pid) }
	w := a.o.Runtime.Workers(a.master.pid)
	accept := slices.ContainsFunc(w.Active, isOld) || slices.ContainsFunc(w.Starting, isOld)
	old := slices.DeleteFunc(slices.Clone(w.Active), func(pid int) bool { return !isOld(pid) })
	if len(old) == len(w.Active) {
		return accept
	}
	if l.newSince.IsZero() {
		l.newSince = time.Now()
	}
	for _, pid := range old {
		if err := a.o.Runtime.Signal(context.Background(), pid, nginx.Retire); err != nil {
			a.log.Debug("old worker left to the master", "pid", pid, "err", err)
		}
	}
	return accept || len(w.Active)-len(old) < len(l.old) && time.Since(l.newSince) < masterWaits
}

// noExtraWorkers reports whether no more workers accept than before the first reload that
// was not confirmed. A master that hung and then does an older reload too makes workers of
// that one, which are not among the old ones and answer until the master retires them.
func (a *applier) noExtraWorkers(l *loading) bool {
	return time.Since(l.answered) > extraWorkersEnd || len(a.o.Runtime.Workers(a.master.pid).Active) <= a.master.workerCount
}
