// Package loop runs the gate: it feeds the credit estimator and the gate, answers the jobs
// that ask, and keeps on disk what both have learned.
package loop

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
)

// Options say how the gate decides, and where the loop keeps its state.
type Options struct {
	Settings gate.Settings
	// CreditFile and GateFile are the state files of the estimator and of the gate.
	CreditFile, GateFile string
	// Log gets one line for each decision that changes something; nil discards.
	Log *slog.Logger
}

// Loop is the gate with its inputs. Run it once; Job may be called at any time.
type Loop struct {
	Identity *latest.Slot[identity.Identity]
	Readings *latest.Slot[credit.Reading]
	// Released are the claims that the operator released.
	Released *latest.Slot[[]string]
	// Batches are the ids of the batch containers that run or are paused.
	Batches *latest.Slot[[]string]

	o         Options
	questions chan question

	mu       sync.Mutex
	decision gate.Decision
	decided  chan struct{} // closed at the next decision
}

// question is what a job says; it is answered once the gate has decided on it.
type question struct {
	asked    gate.Asked
	answered chan struct{}
}

// New returns a loop that has decided nothing yet.
func New(o Options) *Loop {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return &Loop{
		Identity: latest.New[identity.Identity](), Readings: latest.New[credit.Reading](),
		Released: latest.New[[]string](), Batches: latest.New[[]string](),
		o: o, questions: make(chan question), decided: make(chan struct{}),
	}
}

const (
	// saveEvery is how often the state files are written; a crash loses no more.
	saveEvery = 5 * time.Minute
	// startPatience is how long the first decision waits for instance and meter to be known.
	startPatience = 5 * time.Second
	// publishEvery is how often a decision is published at most, unless the gate has
	// opened or closed: jobs may ask as often as they like.
	publishEvery = time.Second
)

// state is what one Run knows.
type state struct {
	estimator *credit.Estimator
	gate      gate.State
	report    credit.Report
	identity  identity.Identity
	released  []string
	batches   int
	published time.Time // when a decision was last published
	unsaved   bool      // jobs were heard since the files were written
}

// Run decides until ctx ends, and returns nil then. Every reading's report goes to putReport,
// the decisions to putDecision, at most one each second.
func (l *Loop) Run(ctx context.Context, putReport func(credit.Report), putDecision func(gate.Decision)) error {
	s := l.resume()
	defer l.save(s)
	saveTick := time.NewTicker(saveEvery)
	defer saveTick.Stop()
	check := time.NewTimer(startPatience)
	defer check.Stop()
	// Nothing is decided, and no job heard, before instance and meter are known: a gate that is open stays so across a reload.
	var questions chan question
	identified := false
	for {
		var heard []question
		select {
		case <-ctx.Done():
			return nil
		case r := <-l.Readings.C():
			before := s.report
			s.report = s.estimator.Next(r)
			putReport(s.report)
			if sameKnowledge(before, s.report) {
				continue // the next decision is due by its own timer
			}
		case ids := <-l.Batches.C():
			s.batches = len(ids)
			continue
		case s.identity = <-l.Identity.C():
			identified = true
		case s.released = <-l.Released.C():
		case q := <-questions:
			heard = append(heard, q)
		case <-check.C:
			questions = l.questions
		case <-saveTick.C:
			l.save(s)
			continue
		}
		if identified && s.report.Type != "" {
			questions = l.questions
		}
		if questions == nil {
			continue
		}
		wasOpen := s.gate.Open
		decision := l.decide(s, heard)
		next := max(decision.NextCheck.Sub(decision.At), publishEvery)
		if early := s.published.Add(publishEvery).Sub(decision.At); early > 0 && wasOpen == decision.Open {
			check.Reset(min(next, early)) // it is published together with what comes until then
			continue
		}
		check.Reset(next)
		s.published = decision.At
		if s.unsaved {
			l.save(s) // a promise must survive a crash
		}
		putDecision(decision)
	}
}

// resume goes on from what the state files hold. It is no part of Run, whose stack would have room for each copy of the
// estimator's memory as long as it runs: half a MiB.
//
//go:noinline
func (l *Loop) resume() *state {
	return &state{estimator: credit.Resume(load[credit.Memory](l, l.o.CreditFile)), gate: load[gate.State](l, l.o.GateFile)}
}

// decide makes a decision, and answers the jobs that asked.
func (l *Loop) decide(s *state, heard []question) gate.Decision {
	in := gate.Input{
		Now: time.Now(), Credits: s.report, Settings: l.o.Settings, Batches: s.batches, Hold: holdReason(s.identity, s.released),
	}
	for _, q := range heard {
		q.asked.At = in.Now
		in.Asked = append(in.Asked, q.asked)
		s.unsaved = true
	}
	before := s.gate
	var decision gate.Decision
	s.gate, decision = gate.Next(s.gate, in)
	l.setDecision(decision)
	for _, q := range heard {
		close(q.answered)
	}
	l.logChanges(before, decision)
	return decision
}

// holdReason says why batches must not start whatever the credits are: an instance that is
// leaving, or releases its address, must not be kept busy. Empty is no reason.
func holdReason(id identity.Identity, released []string) string {
	if why := id.WhyLeaving(); why != "" || len(released) == 0 {
		return why
	}
	return "the operator released " + strings.Join(released, ", ")
}

// sameKnowledge reports whether two reports differ only by the few seconds between
// them. A decision costs more than a reading, and nothing changes in seconds.
func sameKnowledge(a, b credit.Report) bool {
	return a.Known == b.Known && a.Type == b.Type && a.Mode == b.Mode && a.NowKnown == b.NowKnown &&
		a.AnchorAt.Equal(b.AnchorAt) && a.MeterAt.IsZero() == b.MeterAt.IsZero()
}

// load reads a state file. What cannot be read counts as empty, and not as half of
// what it was.
func load[T any](l *Loop, file string) T {
	var v, empty T
	if err := atomicfile.ReadJSON(file, &v); err != nil {
		l.o.Log.Warn("state file could not be read; starting with an empty state", event.Key, event.MemoryLost, "file", file, "err", err)
		return empty
	}
	return v
}

func (l *Loop) save(s *state) {
	s.unsaved = false
	for file, v := range map[string]any{l.o.CreditFile: s.estimator.Memory(), l.o.GateFile: s.gate} {
		if err := atomicfile.WriteJSON(file, v); err != nil {
			l.o.Log.Warn("state file could not be written", event.Key, event.MemoryUnkept, "file", file, "err", err)
		}
	}
}

// logChanges writes one line when the gate opens or closes, one when the brake changes, and
// one for every job that came to another phase.
func (l *Loop) logChanges(before gate.State, now gate.Decision) {
	log := l.o.Log
	if before.At.IsZero() || before.Open != now.Open {
		log.Info("gate "+gate.Word(now.Open), event.Key, event.OfGate(now.Open), "decision", gate.Word(now.Open), "reason", now.Reason, "credits", now.Balance, "error_bar", now.ErrorBar,
			"reserve", now.Reserve, "headroom", now.Headroom, "promised", now.Promised, "free", now.Free, "known", now.Known)
	}
	if b := now.Brake; b.Way != before.Brake.Way && (b.On() || before.Brake.On()) {
		log.Info("brake of batches "+string(b.Way), event.Key, event.BrakeChanged, "decision", string(b.Way), "reason", b.Reason, "vcpus", b.Each, "credits", now.Balance, "error_bar", now.ErrorBar,
			"reserve", now.Reserve, "headroom", now.Headroom)
	}
	jobs := map[string]gate.Entry{}
	for _, j := range before.Jobs {
		jobs[j.ID] = j
	}
	for _, j := range now.Jobs {
		if was := jobs[j.ID]; was.Phase != j.Phase {
			took := time.Duration(0) // how long it waited, or ran
			if was.Phase != "" && !j.Withdrawn {
				took = j.Changed.Sub(was.Changed).Round(time.Second)
			}
			log.Info("job "+string(j.Phase), event.Key, event.OfJob(string(j.Phase)), "decision", j.Phase, "job", j.Name, "job_id", j.ID, "reason", j.Reason, "declared", j.Need, "expected", j.Expected,
				"spent", j.Spent, "took", took.String(), "deadline", j.Deadline, "free", now.Free, "alternatives", j.Alternatives())
		}
	}
	for _, n := range now.Notes {
		log.Info("gate note", event.Key, event.GateNoted, "note", n)
	}
}
