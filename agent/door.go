package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
)

// door feeds the estimator and the gate, answers the jobs that ask, and keeps
// what both have learnt.
type door struct {
	identity *latest.Slot[identity.Identity]
	readings *latest.Slot[credit.Reading]
	// asks are jobs that say how they stand; each is answered once it was heard.
	asks chan ask

	settings   gate.Settings
	creditFile string
	gateFile   string
	log        *slog.Logger

	mu       sync.Mutex
	decision gate.Decision
	decided  chan struct{} // closed at the next decision
}

type ask struct {
	asked gate.Asked
	heard chan struct{}
}

func newDoor(a *agent, c config.Config) *door {
	return &door{
		identity: latest.New[identity.Identity](), readings: latest.New[credit.Reading](), asks: make(chan ask),
		settings: gateSettings(c.Gate), creditFile: statePath(c, "credit.json"), gateFile: statePath(c, "gate.json"),
		log: a.o.Log, decided: make(chan struct{}),
	}
}

// gateSettings translates the configuration, in which 0 is 0 and auto is auto,
// into the gate's terms, in which 0 is the default and less is none.
func gateSettings(c config.Gate) gate.Settings {
	s := gate.Settings{
		Horizon: c.Horizon, Dwell: c.Dwell, StaleAfter: c.StaleAfter, SurplusLimit: c.SurplusLimit, Busy: c.Busy,
	}
	switch c.Reserve {
	case config.Auto:
	case 0:
		s.Reserve = -1
	default:
		s.Reserve = c.Reserve
	}
	if c.OpenMark != config.Auto {
		s.OpenMark = max(c.OpenMark, smallest)
	}
	return s
}

// smallest is an amount of credits that is as good as none.
const smallest = 1e-6

// keepEvery is how often what was learnt is written down; a crash loses no more.
const keepEvery = 5 * time.Minute

func (d *door) run(ctx context.Context, publish func(gate.Decision), putCredit func(credit.Report), putDecision func(gate.Decision)) error {
	var (
		memory credit.Memory
		state  gate.State
		report credit.Report
		hold   string
	)
	for file, v := range map[string]any{d.creditFile: &memory, d.gateFile: &state} {
		if err := recall(file, v); err != nil {
			d.log.Warn("what was learnt is lost", "file", file, "err", err)
		}
	}
	estimator := credit.Resume(memory)
	defer func() { d.keep(estimator, state) }()
	keepTick := time.NewTicker(keepEvery)
	defer keepTick.Stop()
	check := time.NewTimer(0)
	defer check.Stop()
	for {
		var heard []ask
		select {
		case <-ctx.Done():
			return nil
		case r := <-d.readings.C():
			before := report
			report = estimator.Next(r)
			putCredit(report)
			if sameNews(before, report) {
				continue // the next decision is due by its own timer
			}
		case id := <-d.identity.C():
			hold = holdFor(id)
		case one := <-d.asks:
			heard = append(heard, one)
		case <-check.C:
		case <-keepTick.C:
			d.keep(estimator, state)
			continue
		}
		in := gate.Input{Now: time.Now(), Credits: report, Settings: d.settings, Hold: hold}
		for _, one := range heard {
			one.asked.At = in.Now
			in.Asked = append(in.Asked, one.asked)
		}
		var decision gate.Decision
		before := state
		state, decision = gate.Next(state, in)
		check.Reset(max(time.Until(decision.NextCheck), time.Second))
		d.tell(decision)
		for _, one := range heard {
			close(one.heard)
		}
		d.logChange(before, decision)
		if len(heard) > 0 {
			d.keep(estimator, state) // a promise must survive a crash
		}
		publish(decision)
		putDecision(decision)
	}
}

// sameNews reports whether two reports differ only by the few seconds between
// them. A decision costs more than a reading, and nothing changes in seconds.
func sameNews(a, b credit.Report) bool {
	return a.Known == b.Known && a.Type == b.Type && a.Mode == b.Mode && a.NowKnown == b.NowKnown &&
		a.AnchorAt.Equal(b.AnchorAt) && a.MeterAt.IsZero() == b.MeterAt.IsZero()
}

// holdFor says why batches must not start whatever the credits are.
func holdFor(id identity.Identity) string {
	if id.Leaving() {
		return "this instance is about to be taken away"
	}
	return ""
}

func (d *door) keep(e *credit.Estimator, s gate.State) {
	for file, v := range map[string]any{d.creditFile: e.Memory(), d.gateFile: s} {
		if err := keep(file, v); err != nil {
			d.log.Warn("what was learnt could not be kept", "file", file, "err", err)
		}
	}
}

// logChange writes one line when the gate opens or closes, and one for every job
// that went on.
func (d *door) logChange(before gate.State, now gate.Decision) {
	if before.At.IsZero() || before.Open != now.Open {
		d.log.Info("gate "+gate.Word(now.Open), "reason", now.Reason, "balance", now.Balance, "error_bar", now.ErrorBar,
			"reserve", now.Reserve, "headroom", now.Headroom, "promised", now.Promised, "free", now.Free, "known", now.Known)
	}
	for _, j := range now.Jobs {
		i := slices.IndexFunc(before.Jobs, func(e gate.Entry) bool { return e.ID == j.ID })
		if i < 0 || before.Jobs[i].Phase != j.Phase {
			d.log.Info("job "+string(j.Phase), "job", j.Name, "job_id", j.ID, "reason", j.Reason, "expected", j.Expected,
				"spent", j.Spent, "deadline", j.Deadline, "free", now.Free)
		}
	}
	for _, n := range now.Notes {
		d.log.Info("gate note", "note", n)
	}
}

func (d *door) tell(decision gate.Decision) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.decision = decision
	close(d.decided)
	d.decided = make(chan struct{})
}

func (d *door) last() (gate.Decision, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.decision, d.decided
}

// job takes what a job says and returns how it stands. For a job that waits it
// returns when that has changed or ctx ends, whichever is first.
func (d *door) job(ctx context.Context, asked gate.Asked) (gate.Entry, error) {
	if err := asked.Validate(); err != nil {
		return gate.Entry{}, err
	}
	one := ask{asked: asked, heard: make(chan struct{})}
	// The gate answers within milliseconds; the patience of ctx is for the wait below.
	soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	select {
	case d.asks <- one:
	case <-soon.Done():
		return gate.Entry{}, errors.New("the gate does not answer")
	}
	select {
	case <-one.heard:
	case <-soon.Done():
		return gate.Entry{}, errors.New("the gate does not answer")
	}
	for {
		decision, next := d.last()
		i := slices.IndexFunc(decision.Jobs, func(e gate.Entry) bool { return e.ID == asked.ID })
		if i < 0 {
			// Over, or not taken because the queue is full, which is a problem of its own.
			return gate.Entry{Job: asked.Job, Phase: asked.State}, nil
		}
		if e := decision.Jobs[i]; e.Phase != gate.Waiting || ctx.Err() != nil {
			return e, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}
