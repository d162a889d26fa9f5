package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
)

// door feeds the estimator and the gate, answers the jobs that ask, and keeps
// what both have learnt.
type door struct {
	identity *latest.Slot[identity.Identity]
	readings *latest.Slot[credit.Reading]
	// released are the claims that the operator gave away.
	released *latest.Slot[[]string]
	// asks are jobs that say how they stand; each is answered once it was heard.
	asks chan ask

	// batches returns the batch containers; nil is none.
	batches    func() []string
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
	settings, _ := GateSettings(c.Gate) // checked when the configuration was read
	return &door{
		identity: latest.New[identity.Identity](), readings: latest.New[credit.Reading](), released: latest.New[[]string](), asks: make(chan ask),
		settings: settings, creditFile: statePath(c, "credit.json"), gateFile: statePath(c, "gate.json"),
		log: a.o.Log, decided: make(chan struct{}),
	}
}

// GateSettings translates the configuration, in which 0 is 0 and auto is auto,
// into the gate's terms, in which 0 is the default and less is none. The error names
// the field that is wrong.
func GateSettings(c config.Gate) (gate.Settings, error) {
	s := gate.Settings{
		Horizon: c.Horizon, Dwell: c.Dwell, StaleAfter: c.StaleAfter, Busy: c.Busy, Slow: gate.Slow(c.Slow),
		SurplusLimit: c.SurplusLimit, SurplusDollars: c.SurplusDollars, SurplusPeriod: gate.Period(c.SurplusPeriod), SurplusPrice: max(c.SurplusPrice, 0),
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
	var err error
	if s.Windows, err = gate.ParseWindows(c.Windows, time.LoadLocation); err != nil {
		return s, &config.Error{Field: "gate.windows", Reason: err.Error()}
	}
	return s, nil
}

// smallest is an amount of credits that is as good as none.
const smallest = 1e-6

// keepEvery is how often what was learnt is written down; a crash loses no more.
const keepEvery = 5 * time.Minute

// tellEvery is how often the outlets and the board are told at most, unless the
// gate has opened or closed: jobs may ask as often as they like.
const tellEvery = time.Second

// mind is what the door knows while it runs.
type mind struct {
	estimator *credit.Estimator
	state     gate.State
	report    credit.Report
	identity  identity.Identity
	released  []string
	told      time.Time // when a decision was last given away
	promised  bool      // jobs were heard since all was written down
}

func (d *door) run(ctx context.Context, publish func(gate.Decision), putCredit func(credit.Report), putDecision func(gate.Decision)) error {
	m := &mind{estimator: credit.Resume(learnt[credit.Memory](d, d.creditFile)), state: learnt[gate.State](d, d.gateFile)}
	defer func() { d.keep(m.estimator, m.state) }()
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
			before := m.report
			m.report = m.estimator.Next(r)
			putCredit(m.report)
			if sameNews(before, m.report) {
				continue // the next decision is due by its own timer
			}
		case m.identity = <-d.identity.C():
		case m.released = <-d.released.C():
		case one := <-d.asks:
			heard = append(heard, one)
		case <-check.C:
		case <-keepTick.C:
			d.keep(m.estimator, m.state)
			continue
		}
		was := m.state.Open
		decision := d.decide(m, heard)
		next := max(decision.NextCheck.Sub(decision.At), tellEvery)
		if early := m.told.Add(tellEvery).Sub(decision.At); early > 0 && was == decision.Open {
			check.Reset(min(next, early)) // it is told together with what comes until then
			continue
		}
		check.Reset(next)
		m.told = decision.At
		if m.promised {
			m.promised = false
			d.keep(m.estimator, m.state) // a promise must survive a crash
		}
		publish(decision)
		putDecision(decision)
	}
}

// decide makes a decision, and answers the jobs that asked.
func (d *door) decide(m *mind, heard []ask) gate.Decision {
	in := gate.Input{Now: time.Now(), Credits: m.report, Settings: d.settings, Hold: holdFor(m.identity, m.released)}
	if d.batches != nil {
		in.Batches = len(d.batches())
	}
	for _, one := range heard {
		one.asked.At = in.Now
		in.Asked = append(in.Asked, one.asked)
		m.promised = true
	}
	before := m.state
	var decision gate.Decision
	m.state, decision = gate.Next(m.state, in)
	d.tell(decision)
	for _, one := range heard {
		close(one.heard)
	}
	d.logChange(before, decision)
	return decision
}

// learnt recalls a file. What cannot be read counts as empty, and not as half of
// what it was.
func learnt[T any](d *door, file string) T {
	var v, empty T
	if err := atomicfile.ReadJSON(file, &v); err != nil {
		d.log.Warn("what was learnt is lost", event.Key, event.MemoryLost, "file", file, "err", err)
		return empty
	}
	return v
}

// sameNews reports whether two reports differ only by the few seconds between
// them. A decision costs more than a reading, and nothing changes in seconds.
func sameNews(a, b credit.Report) bool {
	return a.Known == b.Known && a.Type == b.Type && a.Mode == b.Mode && a.NowKnown == b.NowKnown &&
		a.AnchorAt.Equal(b.AnchorAt) && a.MeterAt.IsZero() == b.MeterAt.IsZero()
}

// holdFor says why batches must not start whatever the credits are: an instance that
// leaves, or gives its address away, is not to be kept busy.
func holdFor(id identity.Identity, released []string) string {
	if why := id.WhyLeaving(); why != "" || len(released) == 0 {
		return why
	}
	return "the operator released " + strings.Join(released, ", ")
}

func (d *door) keep(e *credit.Estimator, s gate.State) {
	for file, v := range map[string]any{d.creditFile: e.Memory(), d.gateFile: s} {
		if err := atomicfile.WriteJSON(file, v); err != nil {
			d.log.Warn("what was learnt could not be kept", event.Key, event.MemoryUnkept, "file", file, "err", err)
		}
	}
}

// logChange writes one line when the gate opens or closes, and one for every job
// that went on. It reports whether one did.
func (d *door) logChange(before gate.State, now gate.Decision) (moved bool) {
	if before.At.IsZero() || before.Open != now.Open {
		d.log.Info("gate "+gate.Word(now.Open), event.Key, event.OfGate(now.Open), "decision", gate.Word(now.Open), "reason", now.Reason, "credits", now.Balance, "error_bar", now.ErrorBar,
			"reserve", now.Reserve, "headroom", now.Headroom, "promised", now.Promised, "free", now.Free, "known", now.Known)
	}
	if b := now.Brake; b.Way != before.Brake.Way && (b.On() || before.Brake.On()) {
		d.log.Info("brake of batches "+string(b.Way), event.Key, event.BrakeChanged, "decision", string(b.Way), "reason", b.Reason, "vcpus", b.Each, "credits", now.Balance, "error_bar", now.ErrorBar,
			"reserve", now.Reserve, "headroom", now.Headroom)
	}
	for _, j := range now.Jobs {
		i := slices.IndexFunc(before.Jobs, func(e gate.Entry) bool { return e.ID == j.ID })
		if i < 0 || before.Jobs[i].Phase != j.Phase {
			moved = true
			d.log.Info("job "+string(j.Phase), event.Key, event.OfJob(string(j.Phase)), "decision", j.Phase, "job", j.Name, "job_id", j.ID, "reason", j.Reason, "expected", j.Expected,
				"spent", j.Spent, "deadline", j.Deadline, "free", now.Free)
		}
	}
	for _, n := range now.Notes {
		d.log.Info("gate note", event.Key, event.GateNoted, "note", n)
	}
	return moved
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

// job takes what a job says and returns how it stands. For a job that waits, or that
// runs and says how it is held back, it returns when that has changed or ctx ends,
// whichever is first.
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
		if i < 0 && asked.State == gate.Waiting {
			// It is held all the same, or it would ask again at once, and for ever.
			<-ctx.Done()
			return gate.Entry{Job: asked.Job, Phase: gate.Waiting, Reason: "the gate took no notice of it: too many jobs wait"}, nil
		}
		if i < 0 {
			return gate.Entry{Job: asked.Job, Phase: asked.State}, nil // it is over
		}
		e := decision.Jobs[i]
		same := e.Phase == asked.State && (e.Phase == gate.Waiting || e.Phase == gate.Running && e.Slow == asked.Slow && e.Quota == asked.Quota)
		if !same || ctx.Err() != nil {
			return e, nil
		}
		select {
		case <-next:
		case <-ctx.Done():
		}
	}
}
