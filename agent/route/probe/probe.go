// Package probe finds out whether containers answer. A TCP probe only lets a
// container in: once it connected, it is not tried again, but asked what it speaks.
// A probe with a path is repeated for as long as it is wanted.
package probe

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Options say how probing is done. The zero value probes for real.
type Options struct {
	// Log receives one line for every change of a state; nil discards.
	Log *slog.Logger
	// Try makes one attempt: a connection, or a GET where the probe has a path. Nil
	// means Attempt.
	Try func(context.Context, route.Probe) Outcome
	// Look asks a container that connects what it speaks (Reached.Said). Nil means Said.
	Look func(context.Context, route.Probe) string
}

const (
	// slots is how many attempts are made side by side, and slotsOfOne how many to one container: one that does not answer
	// occupies its own, for as long as an attempt may take.
	slots, slotsOfOne = 256, 4
	// lookSlots is how many containers are asked side by side what they speak, for which nothing waits.
	lookSlots = 16
	// A container that has just appeared is tried again after shortest, because its route waits for it,
	// and then after a fiftieth of the time for which it has not answered.
	shortest = 5 * time.Millisecond
	longest  = 5 * time.Second
	// againAfter is the pause after the first failure of a path that answered
	// before; only the second one in a row counts.
	againAfter = time.Second
	// repeatAfter is the pause between two GETs of a path that answers.
	repeatAfter = 5 * time.Second
)

// Run probes what was wanted last and puts what it found whenever that changed,
// until ctx ends; then it returns nil. No attempt is left running then.
func Run(ctx context.Context, o Options, wanted <-chan []route.Probe, put func(route.Reach)) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Try == nil {
		o.Try = Attempt
	}
	if o.Look == nil {
		o.Look = Said
	}
	r := &run{Options: o, put: put, slots: make(chan struct{}, slots), looks: make(chan struct{}, lookSlots), found: route.Reach{}}
	var running sync.WaitGroup
	defer running.Wait()
	cancels, own := map[route.Probe]context.CancelFunc{}, map[string]chan struct{}{}
	for {
		select {
		case <-ctx.Done():
			for _, cancel := range cancels {
				cancel()
			}
			return nil
		case ps := <-wanted:
			before, ownBefore := cancels, own
			cancels, own = map[route.Probe]context.CancelFunc{}, map[string]chan struct{}{}
			for _, p := range ps {
				if own[p.Container] == nil {
					own[p.Container] = cmp.Or(ownBefore[p.Container], make(chan struct{}, slotsOfOne))
				}
				if cancels[p] = before[p]; cancels[p] == nil {
					probing, cancel := context.WithCancel(ctx)
					cancels[p] = cancel
					slots := own[p.Container]
					running.Go(func() { r.repeat(probing, p, slots) })
				}
			}
			for p, cancel := range before {
				if cancels[p] == nil {
					cancel()
					r.forget(p)
				}
			}
		}
	}
}

type run struct {
	Options
	slots, looks chan struct{}

	mu    sync.Mutex
	put   func(route.Reach)
	found route.Reach
}

// target is one probe that is wanted.
type target struct {
	route.Reached
	since    time.Time // when it was first wanted
	answered bool      // a path: it has been Reachable once
	failures int       // in a row
}

// take takes a slot; false if ctx has ended before there is one.
func take(ctx context.Context, slots chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case slots <- struct{}{}:
		return true
	}
}

// repeat makes attempts until ctx ends or there is nothing more to find out. own are the slots of its container.
func (r *run) repeat(ctx context.Context, p route.Probe, own chan struct{}) {
	t := target{since: time.Now()}
	for {
		if !take(ctx, own) {
			return
		}
		if !take(ctx, r.slots) {
			<-own
			return
		}
		outcome := r.Try(ctx, p)
		<-r.slots
		<-own
		now := time.Now()
		was := t.Reached
		t.judge(outcome)
		if t.State != was.State {
			r.Log.Debug("probe", "addr", p.Addr, "path", p.Path, "container", p.Container,
				"state", t.State, "detail", t.Detail, "after", now.Sub(t.since).Round(time.Millisecond))
		}
		if t.Reached != was {
			r.learn(ctx, p, t.Reached)
		}
		if p.Path == "" && t.State == route.Reachable {
			r.look(ctx, p, t.Reached)
			return
		}
		if !backoff.Sleep(ctx, t.pause(now)) {
			return
		}
	}
}

// look asks a container that connects what it speaks. Others go on being probed meanwhile.
func (r *run) look(ctx context.Context, p route.Probe, found route.Reached) {
	if p.Scheme == "" {
		return
	}
	if !take(ctx, r.looks) {
		return
	}
	found.Said = r.Look(ctx, p)
	<-r.looks
	if found.Said != "" {
		r.learn(ctx, p, found)
	}
}

// learn keeps what a probe that is still wanted has found, and puts all that is known.
func (r *run) learn(ctx context.Context, p route.Probe, found route.Reached) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() == nil {
		r.found[p] = found
		r.put(maps.Clone(r.found))
	}
}

// forget drops what a probe has found whose context has ended.
func (r *run) forget(p route.Probe) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.found, p)
}

// judge makes a state of an outcome.
func (t *target) judge(o Outcome) {
	if o.OK {
		t.failures, t.answered = 0, true
		t.Reached = route.Reached{State: route.Reachable}
		return
	}
	t.failures++
	switch {
	case t.answered && t.failures < 2:
		// Once is an accident.
	case t.answered, o.Answered:
		t.Reached = route.Reached{State: route.Failing, Detail: o.Detail}
	default:
		t.Reached = route.Reached{State: route.Unreachable, Detail: o.Detail}
	}
}

func (t *target) pause(now time.Time) time.Duration {
	switch {
	case t.answered && t.failures == 1:
		return againAfter
	case t.answered:
		return repeatAfter
	}
	return min(max(now.Sub(t.since)/50, shortest), longest)
}
