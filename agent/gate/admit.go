package gate

import (
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// admit goes through the queue, earliest deadline first. A job that does not fit yet holds back the
// ones behind it, so that smaller jobs cannot go on using up what it waits for; one that could
// never fit holds back none.
func (s *State) admit(in Input, v view, d *Decision) {
	slices.SortFunc(s.Jobs, compareUrgency)
	before := ""
	for i := range s.Jobs {
		e := &s.Jobs[i]
		if e.Phase != Waiting {
			e.updateReason(d)
			continue
		}
		late := !e.LatestStart.IsZero() && !in.Now.Before(e.LatestStart) && !v.hold
		ok, why := false, v.closed
		if v.closed == "" {
			ok, why = s.mayStart(*e, v, before, late)
		}
		switch {
		case ok:
			e.start(in.Now, "admitted: "+why, d)
		case late && e.Late == LateRefuse:
			e.setPhase(Refused, in.Now)
			e.Reason = fmt.Sprintf("refused at its latest start %s: %s", clock(e.LatestStart), why)
			d.Notes = append(d.Notes, fmt.Sprintf("job %q: %s", e.ID, e.Reason))
			e.updateReason(d)
		case late && (v.outside || v.costsMoney()):
			hint := "give it a deadline that leaves it a part of a window, or widen gate.windows"
			if !v.outside {
				why += ", and surplus costs money"
				hint = "allow surplus with gate.surplus-dollars or gate.surplus-limit, or give it a later deadline or a smaller need"
			}
			e.Reason = fmt.Sprintf("should have started at %s, but %s", clock(e.LatestStart), why)
			d.add("job-late", e, problem.Warning, e.Reason, hint)
		case late:
			e.Overdue = true
			if v.closed != "" {
				why = "cannot be judged: " + why
			}
			e.start(in.Now, fmt.Sprintf("admitted at its latest start %s although it %s", clock(e.LatestStart), why), d)
			e.updateReason(d)
		default:
			e.Reason = why
			if v.closed == "" && before == "" && !e.neverFits(v, d) {
				before = e.ID
			}
		}
	}
}

// mayStart says whether a waiting job may start, and why; before is the id of a more urgent one that does not fit.
func (s *State) mayStart(e Entry, v view, before string, late bool) (ok bool, why string) {
	ls, _ := loads(s.Jobs)
	if before != "" {
		why = fmt.Sprintf("waits behind %q, which is more urgent", before)
	} else if ok, why = v.fits(e, ls); !ok {
		ok, why = s.fitsAsGuess(e, v, ls, why)
	}
	if ok || !late {
		return ok, why
	}
	ok, then := v.pays(e, s.measured(e.Name), ls)
	switch {
	case ok:
		return true, fmt.Sprintf("at its latest start %s it %s", clock(e.LatestStart), then)
	case then != "":
		why += ", and " + then
	}
	return false, why
}

// add adds a problem of a job.
func (d *Decision) add(code string, e *Entry, severity problem.Severity, text, hint string) {
	d.Problems = append(d.Problems, problem.Problem{
		Code: code, Severity: severity, Subject: "job " + e.ID, Job: e.ID, Text: fmt.Sprintf("job %q %s", e.ID, text), Hint: hint,
	})
}

func (e *Entry) start(now time.Time, reason string, d *Decision) {
	e.setPhase(Admitted, now)
	e.Reason = reason
	d.Notes = append(d.Notes, fmt.Sprintf("job %q: %s", e.ID, reason))
}

// updateReason keeps the reason of a job that does not wait up to date, and its problem standing.
func (e *Entry) updateReason(d *Decision) {
	if e.Overdue && (e.Phase == Admitted || e.Phase == Running) {
		d.add("job-late", e, problem.Warning, fmt.Sprintf("was admitted at its latest start %s although it did not fit", clock(e.LatestStart)),
			"give it a later deadline or a smaller need, or let it be refused when late")
	}
	switch e.Phase {
	case Running:
		e.Reason = fmt.Sprintf("has spent %.1f of %.1f credits", e.Spent, e.Expected)
	case Done:
		e.Reason = fmt.Sprintf("spent %.1f credits", e.Spent)
	case Refused:
		d.add("job-refused", e, problem.Error, "was "+e.Reason, "give it a later deadline or a smaller need, or let it run when late")
	}
}

// fitsAsGuess lets a job start of which it is only declared that even a full balance could not spare its need. Until it
// was measured that is a guess: if it may well be twice too much, the job is
// given all that a full balance spares, so that its need is learned. Where a mistake would be billed it is not.
func (s *State) fitsAsGuess(e Entry, v view, ls []credit.Load, why string) (bool, string) {
	if !v.credits || v.costsMoney() || len(s.History[e.Name].Costs) >= pastTrusted {
		return false, why
	}
	most := v.mostSpare(e.Cores)
	if e.Expected <= most || e.Expected > guessed*most || v.room(e.Cores, ls) < most {
		return false, why
	}
	return true, fmt.Sprintf("may need less than the %.1f credits that are declared, and may spend %.1f, as much as a full balance can spare", e.Expected, most)
}

// neverFits reports whether a job needs more than even a full balance could spare, and adds that as a problem.
func (e *Entry) neverFits(v view, d *Decision) bool {
	if !v.credits {
		return false
	}
	most := v.mostSpare(e.Cores)
	if e.Expected <= most {
		return false
	}
	e.Reason = fmt.Sprintf("needs %.1f credits, and even a full balance can spare only %.1f", e.Expected, most)
	d.add("job-never-fits", e, problem.Error, e.Reason, "divide the job, let it use fewer cores for longer, lower the reserve, or use a larger instance type")
	return true
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
