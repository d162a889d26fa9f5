package rehearsal

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// starter returns what a policy does at every step.
func starter(p Policy, o Options) func(*instance) {
	switch p {
	case Cron:
		return startAtOnce
	case Timeout:
		return func(w *instance) {
			w.stopLate()
			startAtOnce(w)
		}
	case Threshold:
		return func(w *instance) { startOneByOne(w, func(*Run) float64 { return o.Threshold * o.Spec.Max }) }
	case Script:
		return func(w *instance) {
			w.stopLate()
			startOneByOne(w, func(r *Run) float64 { return r.Estimate })
		}
	default:
		return (&gatePolicy{o: o, estimator: credit.Resume(credit.Memory{})}).step
	}
}

// startAtOnce is the policy cron.
func startAtOnce(w *instance) {
	w.dropEnded()
	for _, i := range w.due {
		if r := &w.runs[i]; r.State == gate.Waiting {
			w.setState(r, gate.Running, Decision{Reason: "its time has come", Balance: w.bank.Position()})
		}
	}
}

// stopLate ends what runs at its deadline, as timeout(1) does, and starts nothing that is late.
func (w *instance) stopLate() {
	for _, i := range w.due {
		r := &w.runs[i]
		if r.until(never).After(w.now) {
			continue
		}
		switch r.State {
		case gate.Running:
			r.Ended = w.now
			w.setState(r, gate.Done, Decision{Reason: "stopped at its deadline", Balance: w.bank.Position()})
		case gate.Waiting:
			w.setState(r, gate.Refused, Decision{Reason: "its deadline has passed", Balance: w.bank.Position()})
		}
	}
}

// startOneByOne is what a script does that looks at CloudWatch: of what waits it starts the most urgent
// while nothing runs and the balance is at least the run's mark.
func startOneByOne(w *instance, mark func(*Run) float64) {
	w.dropEnded()
	if len(w.due) == 0 {
		return
	}
	c := w.reading().Cloud.Balance
	first := w.due[0]
	for _, i := range w.due {
		switch r := &w.runs[i]; {
		case r.State == gate.Running:
			return
		case r.until(never).Before(w.runs[first].until(never)):
			first = i
		}
	}
	if r := &w.runs[first]; c.Known && c.Value >= mark(r) {
		w.setState(r, gate.Running, Decision{Reason: fmt.Sprintf("CloudWatch's balance of %.1f is at least %.1f", c.Value, mark(r)), Balance: c.Value})
	}
}

// never comes after every deadline.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// setState changes a run and records the decision.
func (w *instance) setState(r *Run, to gate.Phase, d Decision) {
	r.State = to
	if to == gate.Running {
		r.Started = w.now
	}
	d.At, d.Run, d.What = w.now, r.ID, string(to)
	w.sums.Decisions = append(w.sums.Decisions, d)
}

// gatePolicy is the program's own gate: the estimator gets every reading, and the
// gate decides while jobs ask, as it does in the agent.
type gatePolicy struct {
	o         Options
	estimator *credit.Estimator
	state     gate.State
	decided   time.Time
}

// restEvery is how often the gate decides while no job waits or runs.
const restEvery = time.Hour

func (k *gatePolicy) step(w *instance) {
	k.estimator.Update(w.reading())
	if estimate, known := k.estimator.Position(); known {
		w.sums.WorstError = math.Max(w.sums.WorstError, math.Abs(estimate-w.bank.Position()))
	}
	if len(w.due) == 0 && w.now.Sub(k.decided) < restEvery {
		return
	}
	k.decided = w.now
	wasOpen := k.state.Open
	d := k.decide(w, w.now)
	// The agent decides at a job's latest start, too. What comes before the next step is now.
	for _, e := range d.Jobs {
		if at := e.LatestStart; e.Phase == gate.Waiting && at.After(w.now) && at.Before(w.now.Add(w.tick)) {
			d = k.decide(w, at)
			break
		}
	}
	w.dropEnded()
	numbers := Decision{At: w.now, Balance: d.Balance, ErrorBar: d.ErrorBar, Headroom: d.Headroom, Promised: d.Promised}
	if wasOpen != d.Open {
		now := numbers
		now.What, now.Reason = gate.Word(d.Open), d.Reason
		w.sums.Decisions = append(w.sums.Decisions, now)
	}
	for _, i := range w.due {
		r := &w.runs[i]
		at := slices.IndexFunc(d.Jobs, func(e gate.Entry) bool { return e.ID == r.ID })
		if at < 0 {
			continue
		}
		if delete(w.slowed, i); d.Jobs[at].Slow != "" {
			w.slowed[i] = d.Jobs[at].Quota // a pause leaves none
		}
		if r.State != gate.Waiting {
			continue
		}
		now := numbers
		now.Reason = d.Jobs[at].Reason
		switch d.Jobs[at].Phase {
		case gate.Admitted:
			w.setState(r, gate.Running, now)
		case gate.Refused:
			w.setState(r, gate.Refused, now)
		}
	}
}

// decide is the gate's decision at a time while all runs that are due ask.
func (k *gatePolicy) decide(w *instance, at time.Time) (d gate.Decision) {
	in := gate.Input{Now: at, Credits: k.estimator.Report(), Settings: k.o.Settings}
	in.Credits.MeterAt = at // what is spent until then is not seen
	for _, i := range w.due {
		in.Asked = append(in.Asked, w.runs[i].asks(at))
	}
	k.state, d = gate.Next(k.state, in)
	return d
}

// asks is what the run's client says.
func (r Run) asks(now time.Time) gate.Asked {
	return gate.Asked{
		Job:   gate.Job{ID: r.ID, Name: r.Name, Need: r.Estimate, Cores: r.Cores, Deadline: r.Deadline, Late: r.Late},
		State: r.State, Spent: r.Spent, At: now,
	}
}
