// Package publish tells the gate's decision to those who start batches: a file,
// an attribute of the ECS container instance, and the state of an AWS Batch compute environment.
package publish

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options says where the decision is told. The zero value tells nobody.
type Options struct {
	// Log is told about changes; nil discards.
	Log *slog.Logger
	// File is the path of the JSON file, e.g. "/run/nagaya/gate.json"; empty for none.
	File string
	// ECS sets the attribute nagaya.batch to open or closed; *ecs.Client satisfies it. Nil for none.
	ECS Attributes
	// Where says which cluster and container instance this is; it is called at every attempt
	// and must not block. The attribute waits until it is known.
	Where func() identity.ECS
	// Batch enables and disables ComputeEnvironment (a name or ARN); *batch.Client satisfies it. Both must be given.
	Batch              ComputeEnvironments
	ComputeEnvironment string
	// Region is given with each call to AWS when it is not empty; it is called at every attempt.
	Region func() string
	// Unchanged leaves ECS and AWS Batch as they were told last when ctx ends. The file says even then that
	// nobody decides any more.
	Unchanged bool
	// Goodbye is how long all outlets together may take to be closed at the end, 5 s by default.
	Goodbye time.Duration
}

// outlet is one place to tell a decision to. Telling is idempotent.
type outlet interface {
	name() string
	target() string
	// tell may fail; it is then tried again.
	tell(context.Context, gate.Decision) error
	// problem says what a failure means for the operator.
	problem(error) problem.Problem
	// again is when what was told must be told again although the gate has not changed; 0 for never.
	again() time.Duration
	// every is whether each decision matters and not only whether the gate is open.
	every() bool
}

const (
	retryFirst  = 2 * time.Second
	retryLast   = time.Minute
	callTimeout = 20 * time.Second
)

// Run tells each decision until ctx ends; it then tells every outlet once, within Options.Goodbye, that the gate is
// closed (see Options.Unchanged), and returns nil. Outlets do not wait for each other. Put is called, never twice at once, when
// what is told or what is wrong has changed.
func Run(ctx context.Context, o Options, decisions <-chan gate.Decision, put func(gate.Published)) error {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Goodbye <= 0 {
		o.Goodbye = 5 * time.Second
	}
	outlets := o.outlets()
	b := newBoard(outlets, put)
	slots := make([]*latest.Slot[gate.Decision], len(outlets))
	var telling sync.WaitGroup
	for i, out := range outlets {
		slots[i] = latest.New[gate.Decision]()
		t := teller{Options: o, outlet: out, note: func(d gate.Decision, err error) { b.note(i, d, err) }}
		telling.Go(func() { t.run(ctx, slots[i].C()) })
	}
	defer telling.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case d, open := <-decisions:
			if !open {
				decisions = nil
				continue
			}
			for _, s := range slots {
				s.Put(d)
			}
		}
	}
}

func (o Options) outlets() []outlet {
	if o.Region == nil {
		o.Region = func() string { return "" }
	}
	var outs []outlet
	if o.File != "" {
		outs = append(outs, file{path: o.File})
	}
	if o.ECS != nil && o.Where != nil {
		outs = append(outs, attribute{api: o.ECS, where: o.Where, region: o.Region})
	}
	if o.Batch != nil && o.ComputeEnvironment != "" {
		outs = append(outs, environment{api: o.Batch, environment: o.ComputeEnvironment, region: o.Region})
	}
	return outs
}

// teller serves one outlet.
type teller struct {
	Options
	outlet outlet
	note   func(gate.Decision, error)
}

// run tells the newest decision, again and again until it is told.
func (t teller) run(ctx context.Context, decisions <-chan gate.Decision) {
	var want, told gate.Decision
	var has, done bool // want is set; told is what the outlet shows
	pause := backoff.Backoff{First: retryFirst, Most: retryLast}
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-ctx.Done():
			// An outlet that shows a closed gate already is spared the call, but the file says why.
			if t.outlet.every() || !t.Unchanged && (!done || told.Open) {
				t.goodbye(ctx, want)
			}
			return
		case d := <-decisions:
			want, has = d, true
			if done && !t.outlet.every() && d.Open == told.Open || pause.Failing() {
				continue
			}
		case <-timer.C:
			if !has {
				continue
			}
		}
		err := t.tell(ctx, want)
		if ctx.Err() != nil {
			continue
		}
		t.log(want, err, pause.Failing(), done && told.Open == want.Open)
		t.note(want, err)
		if err != nil {
			done = false
			timer.Reset(pause.Next())
			continue
		}
		told, done = want, true
		pause.Reset()
		timer.Stop()
		if a := t.outlet.again(); a > 0 {
			timer.Reset(a)
		}
	}
}

func (t teller) tell(ctx context.Context, d gate.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return t.outlet.tell(ctx, d)
}

// goodbye tells that the gate is closed: nobody watches the credits from now on.
func (t teller) goodbye(ctx context.Context, last gate.Decision) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.Goodbye)
	defer cancel()
	if last.Open || last.Since.IsZero() {
		last.Since = time.Now()
	}
	last.Open, last.Reason, last.At = false, "nagaya is not running", time.Now()
	last.OpensAt, last.NextCheck, last.ValidUntil = time.Time{}, time.Time{}, last.At
	err := t.outlet.tell(ctx, last)
	if err != nil {
		t.Log.Warn("gate could not be closed at the end", event.Key, event.GateUnpublished, "outlet", t.outlet.name(), "target", t.outlet.target(), "decision", gate.Word(false), "err", err)
		return
	}
	t.note(last, nil)
}

// log writes a line when the gate was told something new, and for the first of a row of failures.
func (t teller) log(want gate.Decision, err error, failing, shown bool) {
	with := t.Log.With("outlet", t.outlet.name(), "target", t.outlet.target(), "decision", gate.Word(want.Open))
	switch {
	case err != nil && !failing:
		with.Warn("gate not published", event.Key, event.GateUnpublished, "err", err)
	case err == nil && !shown:
		with.Info("gate published", event.Key, event.GatePublished, "reason", want.Reason)
	}
}

// board gathers how the outlets stand.
type board struct {
	mu       sync.Mutex
	outlets  []outlet
	put      func(gate.Published)
	now      gate.Published
	problems map[int]problem.Problem
}

func newBoard(outlets []outlet, put func(gate.Published)) *board {
	b := &board{outlets: outlets, put: put, problems: map[int]problem.Problem{}}
	for _, o := range outlets {
		b.now.Outlets = append(b.now.Outlets, gate.Outlet{Name: o.name(), Target: o.target()})
	}
	b.publish()
	return b
}

// note takes the result of telling one outlet, and puts if anything has changed.
func (b *board) note(i int, d gate.Decision, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := &b.now.Outlets[i]
	old, stood := b.problems[i]
	out.Target = b.outlets[i].target()
	if err != nil {
		p := b.outlets[i].problem(err)
		if stood && p == old {
			return
		}
		b.problems[i] = p
	} else {
		if !stood && out.Known && out.Open == d.Open {
			return
		}
		delete(b.problems, i)
		out.Known, out.Open, out.At = true, d.Open, d.At
	}
	b.publish()
}

// publish hands out a copy.
func (b *board) publish() {
	p := gate.Published{Outlets: append([]gate.Outlet(nil), b.now.Outlets...)}
	for _, x := range b.problems {
		p.Problems = append(p.Problems, x)
	}
	problem.Sort(p.Problems)
	b.put(p)
}
