package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Run keeps an nginx serving the newest wanted tree until ctx ends, and then
// returns nil and leaves nginx running; Stop ends it. It adopts a running nginx
// of a former agent, or starts one with the generation that is on the disk
// before the first tree comes. Whatever fails leaves the running nginx and the
// current generation as they were, is a problem in the status, and is tried
// again. An error comes back only for wrong Options, or (ErrLocked) when another
// agent works in StateDir.
func Run(ctx context.Context, o Options, wanted <-chan nginx.Tree, put func(nginx.Status)) error {
	o, err := o.forRun()
	if err != nil {
		return fmt.Errorf("nginx install: %w", err)
	}
	r, err := newRunner(o, put)
	if err != nil {
		return fmt.Errorf("nginx install: %w", err)
	}
	if err := r.lock(ctx); err != nil || r.held == nil {
		return err
	}
	defer func() { r.held.unlock() }()
	defer r.way.close()
	defer r.forget()
	defer r.guard.rest()
	defer r.ahead.close()
	r.store.clean()
	r.ahead.tester.store.unstage()
	removeOldChecks(o.StateDir)
	r.adopt(ctx)
	r.loop(ctx, wanted)
	return nil
}

// minLife is how long nginx must have lived for its death to be no failure of
// the start before.
const minLife = 10 * time.Second

// drainEvery is how often draining workers are counted while there are any.
const drainEvery = 5 * time.Second

type runner struct {
	o       Options
	log     *slog.Logger
	put     func(nginx.Status)
	store   *store
	way     way
	door    *door
	budget  budget
	backoff backoff
	guard   *guard
	held    *lock
	ahead   *ahead

	wanted *nginx.Tree
	served []string // the servers of the tree that nginx serves, sorted
	status nginx.Status
	err    error // why the last pass failed
	// stale is true when nginx may have loaded other files than it should have.
	stale bool
	// unanswered is true when nginx was told to reload and nobody saw it do so.
	unanswered bool
	crew       int           // how many workers nginx had before that
	usual      time.Duration // how long nginx took to load a configuration last
	pending    bool          // nothing has been tried for the newest wanted tree

	pid       int
	startedAt time.Time
	gone      <-chan struct{} // nil when nothing is watched
	unwatch   func()

	diedYoung bool    // nginx's last life was shorter than minLife
	deaths    backoff // the pause after one more such life

	quarantine map[string]refused // by host
	retryAt    time.Time          // when the quarantine is tried again
}

func newRunner(o Options, put func(nginx.Status)) (*runner, error) {
	w, err := newWay(o)
	if err != nil {
		return nil, err
	}
	a, err := newAhead(o)
	st := &store{dir: o.StateDir}
	return &runner{
		o: o, log: o.Log, put: put,
		store: st, way: w, door: newDoor(nginx.Socket(o.RunDir)), guard: newGuard(o, st), ahead: a,
		budget:     budget{burst: o.ReloadBurst, every: o.ReloadEvery},
		status:     nginx.Status{Version: o.Build.Version.String()},
		quarantine: map[string]refused{},
	}, err
}

// lock waits for a state directory that can be locked; nothing is held when ctx
// ended before.
func (r *runner) lock(ctx context.Context) error {
	for {
		err := r.store.prepare()
		if err == nil {
			r.held, err = lockStore(r.o.StateDir)
		}
		if err == nil {
			r.backoff.reset()
			r.err = nil
			return nil
		}
		if errors.Is(err, ErrLocked) {
			return err
		}
		r.failed(err)
		r.status.PID = r.way.find(ctx)
		r.status.Running = r.status.PID != 0
		r.publish()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(r.backoff.next()):
		}
	}
}

func (r *runner) loop(ctx context.Context, wanted <-chan nginx.Tree) {
	due := time.NewTimer(0)
	defer due.Stop()
	drain := time.NewTicker(drainEvery)
	drain.Stop()
	defer drain.Stop()
	var newest nginx.Tree
	for {
		signs, lost := r.guard.signs()
		select {
		case <-ctx.Done():
			return
		case <-signs:
			r.guard.sign()
			continue
		case <-lost: // a queue that was full: whatever was in it
			r.guard.sign()
			continue
		case <-r.guard.due.C:
			if r.look(time.Now()) {
				r.stale = true
				due.Reset(r.budget.wait(time.Now()))
			}
			continue
		case newest = <-wanted:
			if newest.Generation != r.status.Wanted {
				r.budget.ask(time.Now(), lacks(newest.Servers(), r.served))
			}
			r.wanted, r.pending = &newest, true
			r.status.Wanted, r.status.Settled = newest.Generation, false
			r.publish() // nobody shall take the time until the pass for settled
			due.Reset(r.patience(newest))
			continue
		case o := <-r.o.Foreseen:
			r.foresee(ctx, o)
			if r.pending { // whoever waits for others waits no longer, or begins to
				due.Reset(r.patience(newest))
			}
			continue
		case err := <-r.ahead.done:
			r.ahead.ended(err)
			continue
		case <-r.gone:
			due.Reset(r.lost())
			continue
		case <-drain.C:
			if before := r.status; r.drain() != before.WorkersDraining || r.status.WorkersEnded != before.WorkersEnded {
				r.publish()
			}
		case <-due.C:
			due.Reset(r.pass(ctx))
		}
		if r.status.WorkersDraining > 0 {
			drain.Reset(drainEvery)
		} else {
			drain.Stop()
		}
	}
}

// never is longer than the program runs.
const never = 10 * 365 * 24 * time.Hour

// pass does whatever is to be done now and returns when to look again.
func (r *runner) pass(ctx context.Context) time.Duration {
	r.pending = false
	err := r.converge(ctx)
	if ctx.Err() != nil {
		return never
	}
	r.observe(ctx)
	if err != nil {
		again := r.backoff.next()
		if t := (*trouble)(nil); errors.As(err, &t) && t.again > 0 {
			again = min(again, t.again)
		}
		level := slog.LevelWarn
		if r.status.LastError == bounded(err.Error()) {
			level = slog.LevelDebug // a standing problem is in the status
		}
		r.failed(err)
		r.publish()
		r.log.Log(ctx, level, "nginx is not as wanted", event.Key, event.NginxNotAsWanted, "err", err, "generation", r.status.Generation, "wanted", r.status.Wanted, "retry_in", again.Round(time.Millisecond).String())
		return again
	}
	r.backoff.reset()
	r.err, r.status.LastError = nil, ""
	r.publish()
	if len(r.quarantine) > 0 {
		return max(0, time.Until(r.retryAt))
	}
	return never
}

func (r *runner) failed(err error) {
	r.err, r.status.LastError = err, bounded(err.Error())
}

// observe asks nginx itself how it is.
func (r *runner) observe(ctx context.Context) {
	r.status.Running, r.status.PID, r.status.Container = r.pid != 0, r.pid, r.way.container()
	r.status.Generation, r.status.WorkersDraining = "", 0
	if r.pid != 0 {
		r.status.Generation = r.door.generation(ctx)
		r.drain()
	}
}

// patience is how long a tree waits for its turn.
func (r *runner) patience(wanted nginx.Tree) time.Duration {
	now := time.Now()
	if lacks(wanted.Servers(), r.served) {
		return r.budget.waitDrain(now)
	}
	return r.budget.wait(now)
}

// lacks reports whether one of the sorted words is not among all, which are sorted
// too.
func lacks(all, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		_, found := slices.BinarySearch(all, w)
		return !found
	})
}

// drain counts the workers that finish what they had begun, and ends the oldest
// where there are too many: each holds as much memory as one that serves.
func (r *runner) drain() int {
	_, old := r.way.workers(r.pid)
	for len(old) > r.o.MaxDraining {
		if err := r.way.end(old[0]); err != nil {
			r.log.Warn("old worker could not be ended", event.Key, event.WorkerStuck, "pid", old[0], "err", err)
			break
		}
		r.log.Warn("old worker ended before its clients were done", event.Key, event.WorkerEnded, "pid", old[0], "draining", len(old), "limit", r.o.MaxDraining)
		r.status.WorkersEnded++
		old = old[1:]
	}
	r.status.WorkersDraining = len(old)
	return len(old)
}

// publish puts a copy of the status with all problems in it.
func (r *runner) publish() {
	s := r.status
	s.Quarantined, s.Problems = nil, nil
	for _, q := range r.quarantine {
		s.Quarantined = append(s.Quarantined, nginx.Quarantine{Host: q.site.Host, Reason: q.reason, LastGood: q.good.Host != ""})
		s.Problems = append(s.Problems, quarantineProblem(q))
	}
	slices.SortFunc(s.Quarantined, func(a, b nginx.Quarantine) int { return strings.Compare(a.Host, b.Host) })
	if r.err != nil {
		s.Problems = append(s.Problems, asProblem(r.err))
	}
	if r.guard.problem != nil {
		s.Problems = append(s.Problems, *r.guard.problem)
	}
	if r.wanted != nil {
		s.Problems = append(s.Problems, r.wanted.Problems...)
	}
	problem.Sort(s.Problems)
	r.put(s)
}

func quarantineProblem(q refused) problem.Problem {
	p := problem.Problem{
		Code: "site-quarantined", Severity: problem.Error, Subject: "site " + q.site.Host, Host: q.site.Host,
		Text: fmt.Sprintf("nginx refuses this site (%s), so it is left out", q.reason),
		Hint: "correct what the message names (a certificate file, a label, a snippet in site.d); the site is tried again when its configuration changes, and every few minutes",
	}
	if q.good.Host != "" {
		p.Severity = problem.Warning
		p.Text = fmt.Sprintf("nginx refuses the site's new configuration (%s), so its last accepted one is served", q.reason)
	}
	return p
}

// adopt takes over the nginx of a former agent.
func (r *runner) adopt(ctx context.Context) {
	pid := r.way.find(ctx)
	if pid == 0 {
		return
	}
	r.follow(pid, time.Time{})
	r.observe(ctx)
	r.log.Info("running nginx adopted", event.Key, event.NginxAdopted, "pid", pid, "generation", r.status.Generation)
	if gen := r.store.current(); gen != "" && gen == r.status.Generation {
		if r.recall(gen) {
			r.guard.workers, _ = r.way.workers(pid)
		}
	}
}

// follow watches over a master process.
func (r *runner) follow(pid int, startedAt time.Time) {
	r.forget()
	r.pid, r.startedAt, r.unanswered = pid, startedAt, false
	r.gone, r.unwatch = r.way.watch(pid)
}

func (r *runner) forget() {
	if r.unwatch != nil {
		r.unwatch()
	}
	r.pid, r.gone, r.unwatch = 0, nil, nil
}

// lost is called when the master has ended; it returns when to start the next.
func (r *runner) lost() time.Duration {
	pid, lived := r.pid, time.Since(r.startedAt)
	r.forget()
	r.failed(&trouble{
		code: "nginx-died", text: fmt.Sprintf("nginx (process %d) ended by itself", pid),
		hint: "it is started again; if this repeats, read nginx's error log and the kernel's (journalctl -k), e.g. for a lack of memory",
	})
	r.status.Running, r.status.PID, r.status.Generation, r.status.Settled = false, 0, "", false
	r.publish()
	// The first death is mended at once, a row of short lives is not.
	wait := time.Duration(0)
	switch {
	case lived >= minLife:
		r.diedYoung = false
		r.deaths.reset()
	case r.diedYoung:
		wait = r.deaths.next()
	default:
		r.diedYoung = true
	}
	if r.o.Mode != Exec {
		wait = min(wait, time.Second) // somebody else starts it, and looking costs little
	}
	r.log.Warn("nginx ended by itself", event.Key, event.NginxEnded, "pid", pid, "retry_in", wait.Round(time.Millisecond).String())
	return wait
}
