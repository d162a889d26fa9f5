// Package probe finds out whether containers answer. A TCP probe only lets a
// container in: once it connected, it is not tried again. A probe with a path is
// repeated for as long as it is wanted.
package probe

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Options say how probing is done. The zero value probes for real.
type Options struct {
	// Log receives one line for every change of a state; nil discards.
	Log *slog.Logger
	// Try makes one attempt: a connection, or a GET where the probe has a path. Nil
	// means Attempt.
	Try func(context.Context, route.Probe) Outcome
	// Repeat is the pause between two GETs of a path that answers. Zero means 5 s.
	Repeat time.Duration
	// Slots is how many attempts are made side by side. Zero means 16.
	Slots int
}

const (
	// A container that has just appeared is tried this often, because its
	// route waits for it, and then less and less often.
	firstPause = 5 * time.Millisecond
	firstFor   = 250 * time.Millisecond
	quickPause = 25 * time.Millisecond
	quickFor   = 2 * time.Second
	briskPause = 100 * time.Millisecond
	briskFor   = 10 * time.Second
	slowest    = 5 * time.Second
	// againAfter is the pause after the first failure of a path that answered
	// before; only the second one in a row counts.
	againAfter = time.Second
	// maxWanted bounds what is probed.
	maxWanted = 4096
)

// Run probes what was wanted last and puts what it found whenever that changed,
// until ctx ends; then it returns nil. No attempt is left running then.
func Run(ctx context.Context, o Options, wanted <-chan []route.Probe, put func(route.Reach)) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Repeat = cmp.Or(o.Repeat, 5*time.Second)
	o.Slots = cmp.Or(o.Slots, 16)
	if o.Try == nil {
		o.Try = Attempt
	}
	r := &run{Options: o, put: put, targets: map[route.Probe]*target{}, done: make(chan result, o.Slots)}
	ctx, cancel := context.WithCancel(ctx)
	var attempts sync.WaitGroup
	defer attempts.Wait()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		r.start(ctx, &attempts)
		due := timer.C
		if next, ok := r.next(); ok {
			timer.Reset(time.Until(next))
		} else {
			due = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case ps, ok := <-wanted:
			if !ok {
				wanted = nil
				continue
			}
			r.want(ps)
		case x := <-r.done:
			r.learn(x)
		case <-due:
		}
	}
}

type run struct {
	Options
	put     func(route.Reach)
	targets map[route.Probe]*target
	done    chan result
	busy    int
}

// target is one probe that is wanted.
type target struct {
	route.Reached
	since    time.Time // when it was first wanted
	due      time.Time
	trying   bool
	answered bool // a path: it has been Reachable once
	failures int  // in a row
}

type result struct {
	probe   route.Probe
	outcome Outcome
}

func (r *run) want(ps []route.Probe) {
	now := time.Now()
	wanted := make(map[route.Probe]bool, len(ps))
	for _, p := range ps[:min(len(ps), maxWanted)] {
		wanted[p] = true
		if r.targets[p] == nil {
			r.targets[p] = &target{since: now, due: now}
		}
	}
	maps.DeleteFunc(r.targets, func(p route.Probe, _ *target) bool { return !wanted[p] })
}

// settled reports whether there is nothing more to find out.
func (t *target) settled(p route.Probe) bool { return p.Path == "" && t.State == route.Reachable }

func (r *run) start(ctx context.Context, attempts *sync.WaitGroup) {
	now := time.Now()
	for p, t := range r.targets {
		if r.busy == r.Slots {
			return
		}
		if t.trying || t.settled(p) || t.due.After(now) {
			continue
		}
		t.trying = true
		r.busy++
		attempts.Go(func() { r.done <- result{p, r.Try(ctx, p)} })
	}
}

// next is when the next attempt is due; ok is false when only something else
// than time can bring one about.
func (r *run) next() (at time.Time, ok bool) {
	if r.busy == r.Slots {
		return at, false
	}
	for p, t := range r.targets {
		if !t.trying && !t.settled(p) && (!ok || t.due.Before(at)) {
			at, ok = t.due, true
		}
	}
	return at, ok
}

func (r *run) learn(x result) {
	r.busy--
	t := r.targets[x.probe]
	if t == nil || !t.trying {
		return // not wanted any more, or wanted anew since
	}
	t.trying = false
	now := time.Now()
	was := t.Reached
	t.judge(x.outcome, now)
	t.due = now.Add(t.pause(now, r.Repeat))
	if t.State == was.State && t.Detail == was.Detail {
		return
	}
	if t.State != was.State {
		t.Since = now
		r.Log.Debug("probe", "addr", x.probe.Addr, "path", x.probe.Path, "container", x.probe.Container,
			"state", t.State, "detail", t.Detail, "after", now.Sub(t.since).Round(time.Millisecond))
	}
	r.put(r.reach())
}

// judge makes a state of an outcome.
func (t *target) judge(o Outcome, now time.Time) {
	if o.OK {
		t.failures, t.answered = 0, true
		t.State, t.Detail = route.Reachable, ""
		return
	}
	t.failures++
	switch {
	case t.answered && t.failures < 2:
		// Once is an accident.
	case t.answered, o.Answered:
		t.State, t.Detail = route.Failing, o.Detail
	default:
		t.State, t.Detail = route.Unreachable, o.Detail
	}
}

func (t *target) pause(now time.Time, repeat time.Duration) time.Duration {
	age := now.Sub(t.since)
	switch {
	case t.answered && t.failures == 1:
		return min(againAfter, repeat)
	case t.answered:
		return repeat
	case age < firstFor:
		return firstPause
	case age < quickFor:
		return quickPause
	case age < briskFor:
		return briskPause
	}
	return min(age/briskFor*briskPause*4, slowest)
}

func (r *run) reach() route.Reach {
	out := make(route.Reach, len(r.targets))
	for p, t := range r.targets {
		if t.State != route.Unknown {
			out[p] = t.Reached
		}
	}
	return out
}
