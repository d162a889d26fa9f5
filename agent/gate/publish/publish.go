// Package publish publishes the gate's decision for those who start batches: in a file,
// an attribute of the ECS container instance, and the state of an AWS Batch compute environment.
package publish

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options says where the decision is published. The zero value publishes nothing.
type Options struct {
	// Log gets a line for each change; nil discards.
	Log *slog.Logger
	// File is the path of the JSON file, e.g. "/run/nagaya/gate.json"; empty for none.
	File string
	// ECS sets the attribute nagaya.batch to open or closed; *ecs.Client satisfies it. Nil for none. The attribute
	// waits until the container instance is known.
	ECS Attributes
	// Batch enables and disables ComputeEnvironment (a name or ARN); *batch.Client satisfies it. Both must be given.
	Batch              ComputeEnvironments
	ComputeEnvironment string
	// Identity delivers who this instance is; may be nil. Calls to AWS go to its Region if that is known.
	Identity <-chan identity.Identity
	// Unchanged leaves ECS and AWS Batch as they are when ctx ends. The file says even then that
	// nagaya does not run.
	Unchanged bool
}

const (
	retryFirst  = 2 * time.Second
	retryLast   = time.Minute
	callTimeout = 20 * time.Second
	goodbye     = 5 * time.Second // how long all outlets together may take to be closed at the end
)

// message is what an outlet publishes.
type message struct {
	gate.Decision
	who identity.Identity
}

// result is what is an outlet.
type result struct {
	outlet int
	message
	err error
}

// Run publishes each decision until ctx ends; it then publishes at every outlet once, within 5 s, that the gate is
// closed (see Options.Unchanged), and returns nil. Outlets do not wait for each other. Put is called when
// what is published or what is wrong has changed.
func Run(ctx context.Context, o Options, decisions <-chan gate.Decision, put func(gate.Published)) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	var now message
	s := newStatus(o.outlets(), put)
	results := make(chan result)
	var publishing sync.WaitGroup
	publishing.Go(func() { <-ctx.Done() })
	var slots []*latest.Slot[message]
	for i, out := range s.outlets {
		slot := latest.New[message]()
		slots = append(slots, slot)
		t := publisher{Options: o, outlet: out, note: func(m message, err error) { results <- result{i, m, err} }}
		publishing.Go(func() { t.run(ctx, slot.C()) })
	}
	go func() {
		publishing.Wait()
		close(results)
	}()
	for {
		select {
		case now.Decision = <-decisions:
		case now.who = <-o.Identity:
		case r, open := <-results:
			if !open {
				return nil
			}
			s.note(r)
			continue
		}
		for _, slot := range slots {
			slot.Put(now)
		}
	}
}

// publisher serves one outlet.
type publisher struct {
	Options
	outlet outlet
	note   func(message, error)
}

// run publishes the newest decision, again and again until that succeeds.
func (t publisher) run(ctx context.Context, messages <-chan message) {
	var want, told message
	shown := false // the outlet shows told
	pause := backoff.Backoff{First: retryFirst, Most: retryLast}
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-ctx.Done():
			// An outlet that shows a closed gate already needs no call, but the file says why.
			if t.outlet.every || !t.Unchanged && (!shown || told.Open) {
				t.publishClosed(ctx, want)
			}
			return
		case next := <-messages:
			moved := t.outlet.target(next.who) != t.outlet.target(want.who) // e.g. ECS knows this instance now
			want = next
			if shown && !t.outlet.every && want.Open == told.Open || pause.Failing() && !moved {
				continue
			}
		case <-timer.C:
		}
		if want.At.IsZero() {
			continue // nothing is decided yet
		}
		err := t.publish(ctx, want)
		if ctx.Err() != nil {
			continue
		}
		with := t.Log.With("outlet", t.outlet.name, "target", t.outlet.target(want.who), "decision", gate.Word(want.Open))
		if err != nil && !pause.Failing() {
			with.Warn("gate not published", event.Key, event.GateUnpublished, "err", err)
		} else if err == nil && !(shown && told.Open == want.Open) {
			with.Info("gate published", event.Key, event.GatePublished, "reason", want.Reason)
		}
		t.note(want, err)
		if shown = err == nil; !shown {
			timer.Reset(pause.Next())
			continue
		}
		told = want
		pause.Reset()
		timer.Stop()
		if t.outlet.again > 0 {
			timer.Reset(t.outlet.again)
		}
	}
}

func (t publisher) publish(ctx context.Context, m message) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return t.outlet.publish(ctx, m)
}

// publishClosed publishes that the gate is closed: the credits are not watched from now on.
func (t publisher) publishClosed(ctx context.Context, last message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if last.Open || last.Since.IsZero() {
		last.Since = time.Now()
	}
	last.Open, last.Reason, last.At = false, "nagaya is not running", time.Now()
	last.OpensAt, last.NextCheck, last.ValidUntil = time.Time{}, time.Time{}, last.At
	if err := t.outlet.publish(ctx, last); err != nil {
		t.Log.Warn("gate could not be closed at the end", event.Key, event.GateUnpublished, "outlet", t.outlet.name, "target", t.outlet.target(last.who), "decision", gate.Word(false), "err", err)
		return
	}
	t.note(last, nil)
}

// status is what the outlets show.
type status struct {
	outlets  []outlet
	now      gate.Published
	problems map[int]problem.Problem
	put      func(gate.Published)
}

func newStatus(outlets []outlet, put func(gate.Published)) *status {
	s := &status{outlets: outlets, put: put, problems: map[int]problem.Problem{}}
	for _, o := range outlets {
		s.now.Outlets = append(s.now.Outlets, gate.Outlet{Name: o.name, Target: o.target(identity.Identity{})})
	}
	s.putStatus()
	return s
}

// note takes a result, and puts the status if it has changed.
func (s *status) note(r result) {
	out := &s.now.Outlets[r.outlet]
	old, stood := s.problems[r.outlet]
	out.Target = s.outlets[r.outlet].target(r.who)
	if r.err != nil {
		p := s.outlets[r.outlet].problem(r.err)
		if stood && p == old {
			return
		}
		s.problems[r.outlet] = p
	} else {
		if !stood && out.Known && out.Open == r.Open {
			return
		}
		delete(s.problems, r.outlet)
		out.Known, out.Open, out.At = true, r.Open, r.At
	}
	s.putStatus()
}

func (s *status) putStatus() {
	p := gate.Published{Outlets: slices.Clone(s.now.Outlets)}
	for _, x := range s.problems {
		p.Problems = append(p.Problems, x)
	}
	problem.Sort(p.Problems)
	s.put(p)
}
