package gate

import (
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// admit goes through the queue, earliest deadline first. A job that does not fit yet holds back the
// ones behind it, so that smaller jobs cannot eat what it waits for for ever; one that could
// never fit holds back nobody.
func (s *State) admit(in Input, v view, d *Decision) {
	slices.SortFunc(s.Jobs, urgent)
	before := ""
	for i := range s.Jobs {
		e := &s.Jobs[i]
		if e.Phase != Waiting {
			e.report(d)
			continue
		}
		late := !e.LatestStart.IsZero() && !in.Now.Before(e.LatestStart) && !v.hold
		ok, why := false, v.shut
		if v.shut == "" {
			ls, _ := loads(s.Jobs)
			if before != "" {
				why = fmt.Sprintf("waits behind %q, which is more urgent", before)
			} else if ok, why = v.fits(*e, ls); !ok {
				ok, why = s.tries(*e, v, ls, why)
			}
			if late && !ok {
				pays, then := v.pays(*e, s.measured(e.Name), ls)
				if pays {
					ok, why = true, fmt.Sprintf("at its latest start %s it %s", clock(e.LatestStart), then)
				} else if then != "" {
					why += ", and " + then
				}
			}
		}
		switch {
		case ok:
			s.let(e, in.Now, "admitted: "+why, d)
		case late && e.Late == LateRefuse:
			e.to(Refused, in.Now)
			e.Reason = fmt.Sprintf("refused at its latest start %s: %s", clock(e.LatestStart), why)
			d.Notes = append(d.Notes, fmt.Sprintf("job %q: %s", e.ID, e.Reason))
			e.report(d)
		case late && v.outside:
			e.waits(why, "give it a deadline that leaves it a part of a window, or widen gate.windows", d)
		case late && v.paid():
			e.waits(why+", and surplus costs money", "allow surplus with gate.surplus-dollars or gate.surplus-limit, or give it a later deadline or a smaller need", d)
		case late:
			e.Overdue = true
			s.let(e, in.Now, fmt.Sprintf("admitted at its latest start %s although it %s", clock(e.LatestStart), although(why, v)), d)
			e.report(d)
		default:
			e.Reason = why
			if v.shut == "" && before == "" && !s.never(e, v, d) {
				before = e.ID
			}
		}
	}
}

// waits lets a job wait beyond its latest start, and says so.
func (e *Entry) waits(why, hint string, d *Decision) {
	e.Reason = fmt.Sprintf("should have started at %s, but %s", clock(e.LatestStart), why)
	d.Problems = append(d.Problems, problem.Problem{
		Code: "job-late", Subject: "job " + e.ID, Job: e.ID, Text: fmt.Sprintf("job %q %s", e.ID, e.Reason), Hint: hint,
	})
}

// although fits the reason into the sentence of a late admission.
func although(why string, v view) string {
	if v.shut != "" {
		return "cannot be judged: " + why
	}
	return why
}

func (s *State) let(e *Entry, now time.Time, reason string, d *Decision) {
	e.to(Admitted, now)
	e.Reason = reason
	d.Notes = append(d.Notes, fmt.Sprintf("job %q: %s", e.ID, reason))
}

// report keeps the reason of a job that does not wait up to date, and its problem standing.
func (e *Entry) report(d *Decision) {
	if e.Overdue && (e.Phase == Admitted || e.Phase == Running) {
		d.Problems = append(d.Problems, problem.Problem{
			Code: "job-late", Subject: "job " + e.ID, Job: e.ID,
			Text: fmt.Sprintf("job %q was admitted at its latest start %s although it did not fit", e.ID, clock(e.LatestStart)),
			Hint: "give it a later deadline or a smaller need, or let it be refused when late",
		})
	}
	switch e.Phase {
	case Running:
		e.Reason = fmt.Sprintf("has spent %.1f of %.1f credits", e.Spent, e.Expected)
	case Done:
		e.Reason = fmt.Sprintf("spent %.1f credits", e.Spent)
	case Refused:
		d.Problems = append(d.Problems, problem.Problem{
			Code: "job-refused", Severity: problem.Error, Subject: "job " + e.ID, Job: e.ID,
			Text: fmt.Sprintf("job %q was %s", e.ID, e.Reason),
			Hint: "give it a later deadline or a smaller need, or let it run when late",
		})
	}
}

// tries lets a job start of which it is only declared that even a full balance could not spare its need. Until it
// was measured that is a guess: if it may well be twice too much, the job is
// given all that a full balance spares, so that its need is learnt. Where a mistake would be billed it is not.
func (s *State) tries(e Entry, v view, ls []credit.Load, why string) (bool, string) {
	if !v.credits || v.paid() || len(s.History[e.Name].Costs) >= pastTrusted {
		return false, why
	}
	most := v.spare(e.Cores)
	if e.Expected <= most || e.Expected > guessed*most || v.room(e.Cores, ls) < most {
		return false, why
	}
	return true, fmt.Sprintf("may need less than the %.1f credits that are declared, and may spend %.1f, as much as a full balance can spare", e.Expected, most)
}

// never reports whether a job needs more than even a full balance could spare, and says so.
func (s *State) never(e *Entry, v view, d *Decision) bool {
	if !v.credits {
		return false
	}
	most := v.spare(e.Cores)
	if e.Expected <= most {
		return false
	}
	e.Reason = fmt.Sprintf("needs %.1f credits, and even a full balance can spare only %.1f", e.Expected, most)
	d.Problems = append(d.Problems, problem.Problem{
		Code: "job-never-fits", Severity: problem.Error, Subject: "job " + e.ID, Job: e.ID,
		Text: fmt.Sprintf("job %q %s", e.ID, e.Reason),
		Hint: "divide the job, let it use fewer cores for longer, lower the reserve, or use a larger instance type",
	})
	return true
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
