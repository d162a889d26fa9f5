package gate

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// State is all that the gate remembers, as plain data that may be kept as JSON across a restart. The zero State is
// a closed gate with an empty queue.
type State struct {
	Open bool `json:"open"`
	// Since is when Open last changed; zero before the first decision.
	Since time.Time `json:"since,omitzero"`
	// Known is true once a decision was made with knowledge. Before that the gate
	// is closed for lack of it, which is not a change that must dwell.
	Known bool  `json:"known,omitempty"`
	Brake Brake `json:"brake,omitzero"`
	// At is when the last decision was made.
	At time.Time `json:"at,omitzero"`
	// Awake is when the gate came back after a pause; silence counts from then.
	Awake time.Time `json:"awake,omitzero"`
	Jobs  []Entry   `json:"jobs,omitempty"`
	// History is what past runs cost, by job name.
	History map[string]Past `json:"history,omitempty"`
}

// pause is how long the gate may not have decided before that counts as its own absence, not the jobs' silence.
const pause = time.Minute

func (s State) clone() State {
	s.Jobs = slices.Clone(s.Jobs)
	s.History = maps.Clone(s.History)
	return s
}

// setBack takes what happened later than now, by a clock that has been set back since, as if it happened now.
func (s *State) setBack(now time.Time) {
	times := []*time.Time{&s.Since, &s.Brake.Since, &s.At, &s.Awake}
	for i := range s.Jobs {
		e := &s.Jobs[i]
		times = append(times, &e.Since, &e.Heard, &e.Changed)
	}
	for _, t := range times {
		if t.After(now) {
			*t = now
		}
	}
}

// takeAsked takes what the clients said and drops the jobs that have fallen silent.
func (s *State) takeAsked(in Input, set Settings, d *Decision) {
	if !s.At.IsZero() && in.Now.Sub(s.At) > pause {
		s.Awake = in.Now
	}
	asked := slices.Clone(in.Asked)
	slices.SortStableFunc(asked, func(a, b Asked) int { return a.At.Compare(b.At) })
	for _, a := range asked {
		s.takeOne(a, in.Now, d)
	}
	s.Jobs = slices.DeleteFunc(s.Jobs, func(e Entry) bool {
		heard := e.Heard
		if s.Awake.After(heard) && e.Phase != Done && e.Phase != Refused {
			heard = s.Awake
		}
		if in.Now.Sub(heard) <= Silence {
			return false
		}
		if o := e.owed(); o > 0 {
			d.Notes = append(d.Notes, fmt.Sprintf("job %q was not heard from for %s: its promise of %.1f credits is released", e.ID, Silence, o))
		}
		return true
	})
	// Past runs say the same of all runs of a job that came on a weekday, and hundreds of them may wait.
	type alike struct {
		name string
		day  time.Weekday
	}
	pasts := map[alike]Past{}
	for i := range s.Jobs {
		e := &s.Jobs[i]
		key := alike{e.Name, e.Since.UTC().Weekday()}
		past, known := pasts[key]
		if !known {
			past = s.past(*e)
			pasts[key] = past
		}
		e.Expected = past.expect(e.Need, set.DefaultNeed)
	}
	s.latestStarts(in.Credits)
	s.moveIntoWindows(set.Windows, in.Now)
}

// takeOne brings one job up to date. What was taken already, or said long ago, is ignored.
func (s *State) takeOne(a Asked, now time.Time, d *Decision) {
	if a.Validate() != nil || now.Sub(a.At) > Silence {
		return
	}
	i := s.index(func(e *Entry) bool { return e.ID == a.ID })
	switch {
	case i >= 0 && (!a.At.After(s.Jobs[i].Heard) || s.Jobs[i].Phase == Done && a.State == Running):
		return // in the latter case it was on its way while the job ended
	case i < 0 && a.State == Done:
		return
	case i < 0 && len(s.Jobs) >= mostJobs:
		d.Problems = append(d.Problems, problem.Problem{
			Code: "queue-full", Severity: problem.Error, Subject: "gate",
			Text: fmt.Sprintf("%d jobs are known to the gate and no more are taken", mostJobs),
			Hint: "let fewer jobs wait at once",
		})
		return
	case i < 0:
		i = len(s.Jobs)
		s.Jobs = append(s.Jobs, Entry{Phase: Waiting, Since: a.At, Changed: a.At})
	case a.State == Waiting && (s.Jobs[i].Phase == Done || s.Jobs[i].Phase == Running):
		// The same id again: another run.
		s.Jobs[i] = Entry{Phase: Waiting, Since: a.At, Changed: a.At}
	}
	e := &s.Jobs[i]
	e.Job, e.Heard, e.Spent = a.Job, a.At, max(e.Spent, a.Spent)
	switch {
	case a.State == Running && e.Phase != Running:
		e.setPhase(Running, a.At)
	case a.State == Done && e.Phase != Done && e.Phase != Refused:
		if !a.Killed && !(a.Failed && e.Spent <= e.Expected) {
			s.recordCost(*e, a.At)
		}
		e.Withdrawn = e.Phase != Running && e.Spent == 0
		e.setPhase(Done, a.At)
	}
}

// index returns the index of the first job for which is returns true; less than 0 if there is none.
func (s *State) index(is func(*Entry) bool) int {
	for i := range s.Jobs { // slices.IndexFunc would copy each of hundreds for each of hundreds
		if is(&s.Jobs[i]) {
			return i
		}
	}
	return -1
}

func (e *Entry) setPhase(p Phase, at time.Time) { e.Phase, e.Changed = p, at }

// failedShare is the part of a declared need below which a run has hardly begun: it failed, and teaches nothing.
const failedShare = 0.05

// recordCost records the cost of a run. A run that reported none, or next to nothing of its declared need, is ignored.
func (s *State) recordCost(e Entry, at time.Time) {
	if e.Spent <= failedShare*e.Need {
		return
	}
	if s.History == nil {
		s.History = map[string]Past{}
	}
	s.History[e.Name] = s.History[e.Name].and(e.Spent, e.Since, at)
	for len(s.History) > mostNames {
		names := slices.Sorted(maps.Keys(s.History))
		delete(s.History, slices.MinFunc(names, func(a, b string) int { return s.History[a].At.Compare(s.History[b].At) }))
	}
}
