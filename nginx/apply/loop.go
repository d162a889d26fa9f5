package apply

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// drainEvery is how often draining workers are counted while there are any.
const drainEvery = 5 * time.Second

// maxPause is the longest pause after a failure.
const maxPause = 30 * time.Second

func pauses() backoff.Backoff { return backoff.Backoff{First: time.Second, Most: maxPause} }

// never is longer than the program runs.
const never = 10 * 365 * 24 * time.Hour

// applier makes nginx serve what is wanted.
type applier struct {
	o      Options
	log    *slog.Logger
	store  *store
	client *statusClient
	master *master
	guard  *guard
	report *report

	wanted *nginx.Tree // nil until the first one came
	// live is the tree that nginx serves, as it was made; nil while that is not known.
	live *nginx.Tree
	// stale is true when nginx may have loaded other files than those of live.
	stale      bool
	quarantine quarantine
	backoff    backoff.Backoff
}

func newApplier(o Options, put func(nginx.Status)) *applier {
	st := &store{dir: o.Dirs.State}
	return &applier{
		o: o, log: o.Log, store: st, client: newStatusClient(nginx.Socket(o.Dirs.Run)),
		master: &master{runtime: o.Runtime, deaths: pauses()}, guard: newGuard(o, st),
		report:     &report{put: put, status: nginx.Status{Version: o.Version}},
		quarantine: quarantine{sites: map[string]refused{}}, backoff: pauses(),
	}
}

// lock waits for a state directory that can be locked; nothing is locked when ctx
// ended before.
func (a *applier) lock(ctx context.Context) error {
	for {
		err := a.store.prepare(a.o.Dirs.Run, a.o.Dirs.Log)
		if err == nil {
			a.store.lock, err = lockDir(a.o.Dirs.State)
		}
		if err == nil {
			a.backoff.Reset()
			a.report.err = nil
			return nil
		}
		if errors.Is(err, ErrLocked) {
			return err
		}
		a.report.failed(err)
		a.report.status.PID = a.master.find(ctx).Master
		a.report.status.Running = a.report.status.PID != 0
		a.publish()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(a.backoff.Next()):
		}
	}
}

func (a *applier) loop(ctx context.Context, wanted <-chan nginx.Wanted) {
	due := time.NewTimer(0)
	defer due.Stop()
	drain := time.NewTicker(drainEvery)
	drain.Stop()
	defer drain.Stop()
	for {
		changes, lost := a.guard.changes()
		select {
		case <-ctx.Done():
			return
		case <-changes:
			a.guard.changed()
			continue
		case <-lost: // the queue was full
			a.guard.changed()
			continue
		case <-a.guard.due.C:
			if a.checkFiles(time.Now()) {
				a.stale = true
				due.Reset(a.o.Pacer.Wait(time.Now()))
			}
			continue
		case w := <-wanted:
			a.want(w)
			due.Reset(a.o.Pacer.Wait(time.Now()))
			continue
		case <-a.master.ended:
			due.Reset(a.masterEnded())
			continue
		case <-drain.C:
			if a.countDraining() {
				a.publish()
			}
		case <-due.C:
			due.Reset(a.pass(ctx))
		}
		if a.report.status.WorkersDraining > 0 {
			drain.Reset(drainEvery)
		} else {
			drain.Stop()
		}
	}
}

// want takes note of a newer wanted tree.
func (a *applier) want(w nginx.Wanted) {
	live := nginx.Tree{}
	if a.live != nil {
		live = *a.live
	}
	a.o.Pacer.Want(time.Now(), live, w)
	a.wanted = &w.Tree
	if s := &a.report.status; w.Tree.Generation != s.Wanted {
		s.Wanted, s.Settled = w.Tree.Generation, false // until the pass
	}
	a.publish()
}

// pass does whatever is due now and returns when to look again.
func (a *applier) pass(ctx context.Context) time.Duration {
	err := a.converge(ctx)
	if ctx.Err() != nil {
		return never
	}
	a.observe(ctx)
	if err != nil {
		again := a.backoff.Next()
		if f := (*nginx.Fault)(nil); errors.As(err, &f) && f.Retry > 0 {
			again = min(again, f.Retry)
		}
		level := a.report.failed(err)
		a.publish()
		s := a.report.status
		a.log.Log(ctx, level, "nginx out of sync", event.Key, event.NginxOutOfSync, "err", err, "generation", s.Generation, "wanted", s.Wanted, "retry_in", again.Round(time.Millisecond).String())
		return again
	}
	a.backoff.Reset()
	a.report.succeeded()
	a.publish()
	if len(a.quarantine.sites) > 0 {
		return max(0, time.Until(a.quarantine.retryAt))
	}
	return never
}

// observe asks nginx itself how it is.
func (a *applier) observe(ctx context.Context) {
	s := &a.report.status
	s.Running, s.PID, s.Container = a.master.pid != 0, a.master.pid, a.master.container
	s.Generation, s.WorkersDraining = "", 0
	if a.master.pid != 0 {
		s.Generation = a.client.generation(ctx)
		a.countDraining()
	}
}

// countDraining counts the workers that finish what they have begun, and ends the oldest
// where there are too many: each holds as much memory as one that serves. It reports
// whether the status has changed.
func (a *applier) countDraining() (changed bool) {
	s := &a.report.status
	before := [2]int{s.WorkersDraining, s.WorkersEnded}
	old := a.o.Runtime.Workers(a.master.pid).Draining
	for len(old) > a.o.Limits.MaxDraining {
		if err := a.o.Runtime.Signal(context.Background(), old[0], nginx.End); err != nil {
			a.log.Warn("old worker could not be ended", event.Key, event.WorkerStuck, "pid", old[0], "err", err)
			break
		}
		a.log.Warn("old worker ended before its clients were done", event.Key, event.WorkerEnded, "pid", old[0], "draining", len(old), "limit", a.o.Limits.MaxDraining)
		s.WorkersEnded++
		old = old[1:]
	}
	s.WorkersDraining = len(old)
	return before != [2]int{s.WorkersDraining, s.WorkersEnded}
}

// adopt takes over the nginx of a former agent.
func (a *applier) adopt(ctx context.Context) {
	i := a.master.find(ctx)
	if i.Master == 0 {
		return
	}
	a.master.follow(i.Master, time.Time{})
	a.observe(ctx)
	gen := a.report.status.Generation
	a.log.Info("running nginx adopted", event.Key, event.NginxAdopted, "pid", i.Master, "generation", gen)
	if gen != "" && gen == a.store.current() && a.recall(gen) {
		a.guard.workers = a.o.Runtime.Workers(i.Master).Active
	}
	a.enclose(ctx)
}

// recall takes the tree of a generation on the disk for the live one, if its files
// still are what they were.
func (a *applier) recall(gen string) bool {
	tree, err := a.store.read(gen)
	if err == nil {
		a.setLive(tree)
	}
	return err == nil
}

// setLive takes note of the tree that nginx serves.
func (a *applier) setLive(tree nginx.Tree) {
	a.live = &tree
	a.guard.keep(tree)
}

// masterEnded is called when the master has ended; it returns when to start the next.
func (a *applier) masterEnded() time.Duration {
	pid := a.master.pid
	wait := a.master.restartIn(time.Now())
	if a.o.Supervised {
		wait = min(wait, time.Second) // looking costs little
	}
	a.master.forget()
	a.report.failed(diedFault("nginx (process %d) ended by itself", pid))
	s := &a.report.status
	s.Running, s.PID, s.Generation, s.Settled = false, 0, "", false
	a.publish()
	a.log.Warn("nginx ended by itself", event.Key, event.NginxEnded, "pid", pid, "retry_in", wait.Round(time.Millisecond).String())
	return wait
}
