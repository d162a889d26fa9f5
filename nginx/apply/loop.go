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
	client statusClient
	master *master
	guard  *guard
	report *report

	wanted *nginx.Tree // nil until the first one came
	// live is the tree that nginx serves; it has no Generation while that is not known.
	live nginx.Tree
	// stale is true when nginx may have loaded other files than those of live.
	stale      bool
	quarantine quarantine
	trial      *trial // nil while none runs
	backoff    backoff.Backoff
	drain      *time.Timer // when draining workers are counted
}

func newApplier(o Options, put func(nginx.Status)) *applier {
	st := &store{dir: o.Dirs.State}
	return &applier{
		o: o, log: o.Log, store: st, client: statusClient(nginx.Socket(o.Dirs.Run)),
		master: &master{runtime: o.Runtime, restarts: pauses()}, guard: newGuard(),
		report:     &report{put: put},
		quarantine: quarantine{sites: map[string]refused{}, suspects: map[string]*suspect{}, inVain: map[string]boundInVain{}}, backoff: pauses(), drain: time.NewTimer(never),
	}
}

// lock locks the state directory, as soon as that can be locked. Nothing is locked when ctx
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
		a.report.fail(err)
		a.report.status.PID = a.master.find(ctx).Master
		a.report.status.Running = a.report.status.PID != 0
		a.publish()
		if !backoff.Sleep(ctx, a.backoff.Next()) {
			return nil
		}
	}
}

func (a *applier) loop(ctx context.Context, wanted <-chan nginx.Wanted) {
	due := time.NewTimer(0)
	defer due.Stop()
	checkFiles := func() {
		if a.checkFiles(time.Now()) {
			a.stale = true
			due.Reset(a.o.Pacer.Wait(time.Now()))
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.guard.events:
			checkFiles()
		case <-a.guard.due.C:
			checkFiles()
		case w := <-wanted:
			a.setWanted(w)
			due.Reset(a.o.Pacer.Wait(time.Now()))
		case <-a.o.Reopen:
			a.reopenLogs(ctx)
		case <-a.master.ended:
			due.Reset(a.masterEnded())
		case <-a.drain.C:
			if a.countDraining() {
				a.publish()
			}
		case err := <-a.trial.ended():
			a.trialEnded(err)
			due.Reset(0)
		case <-due.C:
			a.endTrial(trialGrace)
			due.Reset(a.pass(ctx))
		}
	}
}

// setWanted sets a newer wanted tree.
func (a *applier) setWanted(w nginx.Wanted) {
	a.o.Pacer.Want(time.Now(), a.live, w)
	a.wanted = &w.Tree
	if s := &a.report.status; w.Tree.Generation != s.Wanted {
		s.Wanted, s.Settled = w.Tree.Generation, false // until the pass
	}
	a.publish()
}

// pass converges once, puts the status and returns when to do so again.
func (a *applier) pass(ctx context.Context) time.Duration {
	err := a.converge(ctx)
	if ctx.Err() != nil {
		return never
	}
	a.observe(ctx)
	if err != nil {
		again := a.backoff.Next()
		if f, ok := errors.AsType[*nginx.Fault](err); ok && f.Retry > 0 {
			again = min(again, f.Retry)
		}
		level := a.report.fail(err)
		a.publish()
		s := a.report.status
		a.log.Log(ctx, level, "nginx out of sync", event.Key, event.NginxOutOfSync, "err", err, "generation", s.Generation, "wanted", s.Wanted, "retry_in", again.Round(time.Millisecond).String())
		return again
	}
	a.backoff.Reset()
	a.report.succeed()
	a.publish()
	return a.beginTrial(ctx)
}

// observe updates the status with what nginx answers.
func (a *applier) observe(ctx context.Context) {
	s := &a.report.status
	s.Running, s.PID, s.Container = a.master.pid != 0, a.master.pid, a.master.container
	s.Generation, s.WorkersDraining = "", 0
	if a.master.pid != 0 {
		s.Generation = a.client.generation(ctx)
		a.countDraining()
	}
}

// countDraining counts the draining workers, and ends the oldest
// where there are too many: each holds as much memory as an active one. It reports
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
	if len(old) > 0 {
		a.drain.Reset(drainEvery)
	}
	return before != [2]int{s.WorkersDraining, s.WorkersEnded}
}

// adopt finds an nginx that runs already and follows it. Its tree is read from the disk if
// it has a manifest; without one (an older version of nagaya wrote it) nginx goes on with
// what it serves until a tree is wanted.
func (a *applier) adopt(ctx context.Context) {
	i := a.master.find(ctx)
	if i.Master == 0 {
		return
	}
	a.master.follow(i.Master, time.Time{})
	a.observe(ctx)
	gen := a.report.status.Generation
	a.log.Info("running nginx adopted", event.Key, event.NginxAdopted, "pid", i.Master, "generation", gen)
	if gen != "" && gen == a.store.current() && a.readLive(gen) {
		a.guard.workers = a.o.Runtime.Workers(i.Master).Active
	}
	a.restrictRunDir(ctx)
}

// readLive makes the tree of a generation on the disk the live one, if its files were not
// changed.
func (a *applier) readLive(gen string) bool {
	tree, err := a.store.read(gen)
	if err == nil {
		a.setLive(tree)
	}
	return err == nil
}

// known reports whether it is known what nginx serves.
func (a *applier) known() bool { return a.live.Generation != "" }

// setLive sets the tree that nginx serves, which is the current generation.
func (a *applier) setLive(tree nginx.Tree) {
	a.live = tree
	a.watchDirs()
	a.guard.due.Reset(a.o.Limits.Recheck)
}

// masterEnded handles the end of the master; it returns how long to wait before a start.
func (a *applier) masterEnded() time.Duration {
	pid := a.master.pid
	wait := a.master.restartIn(time.Now())
	if a.o.Supervised {
		wait = min(wait, time.Second) // the supervisor starts it
	}
	a.master.forget()
	a.report.fail(diedFault("nginx (process %d) ended by itself", pid))
	s := &a.report.status
	s.Running, s.PID, s.Generation, s.Settled = false, 0, "", false
	a.publish()
	a.log.Warn("nginx ended by itself", event.Key, event.NginxEnded, "pid", pid, "retry_in", wait.Round(time.Millisecond).String())
	return wait
}
