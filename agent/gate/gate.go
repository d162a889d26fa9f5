package gate

import (
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Input is all that a decision is made of.
type Input struct {
	Now      time.Time
	Credits  credit.Report
	Settings Settings
	// Asked is what clients said lately: at least all that is new, at most the last word of each. It may be repeated.
	Asked []Asked
	// Batches is the number of batch containers that run or are paused.
	Batches int
	// Hold closes the gate whatever the credits are, and says why in a few words, e.g. "the
	// instance is about to be interrupted". Empty means no hold.
	Hold string
}

// Decision is whether a batch may start now, and why.
type Decision struct {
	At time.Time `json:"at"`
	// Open is for batches that did not ask by name; a job that did goes by its own state.
	Open bool `json:"open"`
	// Since is when Open last changed.
	Since time.Time `json:"since"`
	// Reason is one sentence with the numbers that decided.
	Reason string `json:"reason"`
	// Known is false when the decision was made without knowledge of the credits (or of the load).
	Known bool `json:"known"`
	// Balance is the credits saved (negative: owed) and ErrorBar by how many that may be wrong.
	Balance  float64 `json:"balance"`
	ErrorBar float64 `json:"error_bar"`
	Reserve  float64 `json:"reserve"`
	// Headroom is what batches may spend from now on, Promised what admitted and running jobs will take
	// of it, and Free what is left for others.
	Headroom float64 `json:"headroom"`
	Promised float64 `json:"promised"`
	Free     float64 `json:"free"`
	OpenMark float64 `json:"open_mark"`
	// OpensAt is when a closed gate is expected to open; zero when that is not in sight.
	OpensAt time.Time `json:"opens_at,omitzero"`
	// Brake is how batches that run already are held back.
	Brake Brake `json:"brake,omitzero"`
	// Surplus is what may be billed; nil except on an unlimited instance.
	Surplus *Surplus `json:"surplus,omitempty"`
	// Windows are when batches may start; WindowChanges is when the present one ends, or the next begins.
	Windows       []string  `json:"windows,omitempty"`
	WindowChanges time.Time `json:"window_changes,omitzero"`
	// Jobs are all known jobs, the most urgent first.
	Jobs []Entry `json:"jobs"`
	// NextCheck is when the next decision is due even if nothing new arrives.
	NextCheck time.Time `json:"next_check"`
	// ValidUntil is when a reader must take the gate as closed if it has seen no newer decision.
	ValidUntil time.Time `json:"valid_until"`
	// Notes are what happened at this decision and is in no job's entry, as sentences for the journal.
	Notes    []string          `json:"notes,omitempty"`
	Problems []problem.Problem `json:"problems,omitempty"`
}

// Job returns the job of an id.
func (d Decision) Job(id string) (Entry, bool) {
	for _, e := range d.Jobs {
		if e.ID == id {
			return e, true
		}
	}
	return Entry{}, false
}

const (
	checkEvery = 30 * time.Second
	validFor   = 5 * time.Minute
)

// Next makes a decision. It changes neither the state nor anything in the input.
func Next(s State, in Input) (State, Decision) {
	set := in.Settings.For(in.Credits.Bank.Spec)
	s = s.clone()
	s.setBack(in.Now)
	d := Decision{At: in.Now, Reserve: set.Reserve, OpenMark: set.OpenMark, ValidUntil: in.Now.Add(validFor)}
	d.Windows, d.WindowChanges = set.Windows.texts(), set.Windows.Change(in.Now)
	if in.Credits.Bank.Mode == credit.Unlimited {
		allowed := set.surplus(in.Credits)
		d.Surplus = &allowed
	}
	s.takeAsked(in, set, &d)
	v := newView(in, set)
	s.admit(in, v, set, &d)
	s.setOpen(in, set, v, &d)
	s.setBrake(in, set, v, &d)
	s.At = in.Now
	d.Open, d.Since = s.Open, s.Since
	d.Jobs = append([]Entry{}, s.Jobs...) // never null in JSON
	slices.SortFunc(d.Jobs, compareUrgency)
	d.NextCheck = s.nextCheck(in.Now, set)
	if w := d.WindowChanges; !w.IsZero() && w.Before(d.NextCheck) {
		d.NextCheck = w
	}
	problem.Sort(d.Problems)
	return s, d
}

// setOpen opens or closes the gate.
func (s *State) setOpen(in Input, set Settings, v view, d *Decision) {
	ls, promised := loads(s.Jobs)
	d.Known = v.closed == "" || v.known
	d.Balance, d.ErrorBar = in.Credits.Bank.Position(), in.Credits.ErrorBar
	if !d.Known || !v.credits {
		d.Balance, d.ErrorBar, d.Reserve, d.OpenMark = 0, 0, 0, 0
	} else {
		d.Headroom, d.Promised = v.room(0, nil), promised
		d.Free = d.Headroom
		if len(ls) > 0 {
			d.Free = v.room(0, ls)
		}
	}
	open, urgently, reason := s.judge(v, set, ls, d)
	switch {
	case open == s.Open:
	case s.Known && !s.Since.IsZero() && !urgently && in.Now.Sub(s.Since) < set.Dwell:
		open = s.Open
		reason = fmt.Sprintf("%s; unchanged, the last change was less than %s ago", reason, set.Dwell)
	default:
		s.Open, s.Since = open, in.Now
	}
	if s.Since.IsZero() {
		s.Since = in.Now
	}
	s.Known = s.Known || d.Known
	d.Reason = reason
	switch {
	case open && !d.WindowChanges.IsZero():
		d.Reason += "; the window ends at " + clock(d.WindowChanges)
	case !open && v.outside && !v.hold:
		d.OpensAt = d.WindowChanges
	case !open && v.closed == "" && v.credits:
		d.OpensAt = v.opensAt(set, promised)
		if !d.OpensAt.IsZero() && !set.Windows.Open(d.OpensAt) {
			d.OpensAt = set.Windows.Change(d.OpensAt)
		}
	}
}

// judge says what the gate should be, whether that cannot wait, and why.
func (s *State) judge(v view, set Settings, ls []credit.Load, d *Decision) (open, urgently bool, reason string) {
	if v.closed != "" {
		return false, true, v.closed
	}
	if !v.credits {
		return v.judgeLoad(s.Open, len(ls))
	}
	mark := d.OpenMark
	if s.Open {
		mark *= closeShare
	}
	open = d.Free >= mark && d.Free > 0
	numbers := fmt.Sprintf("balance %.1f ±%.1f, reserve %.1f, promised %.1f", d.Balance, d.ErrorBar, d.Reserve, d.Promised) + d.Surplus.numbers()
	if open && v.billed(set, append(slices.Clip(ls), unnamed)...) {
		return false, false, fmt.Sprintf("more surplus would be charged within two days than is allowed if one more batch ran (%s)", numbers)
	}
	if open {
		return true, false, fmt.Sprintf("batches may spend %.1f credits (%s)", d.Free, numbers)
	}
	if d.Free <= 0 {
		return false, true, fmt.Sprintf("nothing is left to spend: %s (%s)", v.whyNothingLeft(), numbers)
	}
	return false, false, fmt.Sprintf("the headroom of %.1f credits is below the mark of %.1f (%s)", d.Free, mark, numbers)
}

func (s *State) nextCheck(now time.Time, set Settings) time.Time {
	next := now.Add(checkEvery)
	for _, e := range s.Jobs {
		if e.Phase == Waiting && e.LatestStart.After(now) && e.LatestStart.Before(next) {
			next = e.LatestStart
		}
	}
	if end := s.Since.Add(set.Dwell); end.After(now) && end.Before(next) {
		next = end
	}
	return next
}
