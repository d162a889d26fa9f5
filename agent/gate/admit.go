package gate

import (
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// admit goes through the queue, earliest deadline first.
func (s *State) admit(in Input, v view, set Settings, d *Decision) {
	slices.SortFunc(s.Jobs, compareUrgency)
	var p *planner
	planned, aged := 0, 0
	for _, e := range s.lateLast(in.Now) {
		if e.Phase != Waiting {
			e.updateReason(d)
			s.overrun(e, d)
			continue
		}
		e.Choices = nil
		late := !e.LatestStart.IsZero() && !in.Now.Before(e.LatestStart) && !v.hold
		unended := s.index(func(o *Entry) bool { return (o.Phase == Admitted || o.Phase == Running) && o.Name == e.Name })
		switch {
		case e.Late == LateRefuse && !e.Deadline.IsZero() && !in.Now.Before(e.Deadline):
			e.refuse(in.Now, "its deadline "+clock(e.Deadline)+" has passed", d)
		case unended >= 0:
			e.behind(s.Jobs[unended], in.Now, late, d)
		case v.closed != "":
			e.closed(in.Now, v, late, d)
		case !v.credits:
			ls, _ := loads(s.Jobs)
			ok, why := v.fitsLoad(*e, ls)
			e.decide(in.Now, verdict{start: ok, hopeless: late, why: why}, late, v, d)
		case planned >= mostPlanned || aged >= mostAged && e.aged(in.Now):
			e.Reason = "waits behind jobs that are more urgent"
			e.updateReason(d)
		default:
			if p == nil {
				p = s.planner(in, v, set)
			}
			planned++
			if e.aged(in.Now) {
				aged++
			}
			e.decide(in.Now, p.decide(*e, s.past(*e), late), late, v, d)
			if e.Phase == Waiting {
				e.neverFits(v, d)
			}
		}
		if e.Phase == Waiting && e.Deadline.IsZero() && !in.Now.Before(e.due()) {
			d.add("job-waits", e, problem.Warning, fmt.Sprintf("has waited since %s: %s", clock(e.Since), e.Reason),
				"give it a deadline, which says how urgent it is; let fewer or smaller jobs run, or use a larger instance type")
		}
	}
}

// lateLast returns the jobs by urgency, with those whose deadline has passed at the end: what they take must not
// make others late.
func (s *State) lateLast(now time.Time) (all []*Entry) {
	for _, late := range []bool{false, true} {
		for i := range s.Jobs {
			if e := &s.Jobs[i]; e.isLate(now) == late {
				all = append(all, e)
			}
		}
	}
	return all
}

// isLate reports whether a job's deadline has passed.
func (e Entry) isLate(now time.Time) bool { return !e.Deadline.IsZero() && !now.Before(e.Deadline) }

// behind is what becomes of a waiting job whose last run has not ended: a job has one run at a time.
func (e *Entry) behind(last Entry, now time.Time, late bool, d *Decision) {
	why := fmt.Sprintf("its run %s, which began at %s, has not ended", last.ID, clock(last.Changed))
	switch {
	case late && e.Late == LateRefuse:
		e.refuse(now, why, d)
	case late:
		e.late(why, hintKill+"; or give jobs that may run at once names of their own", d)
	default:
		e.Reason = why
	}
}

// hintKill is the remedy for a run that takes too much.
const hintKill = "end that run if it hangs, and let 'nagaya gate run --kill-after' end the next one"

// A run that has spent so many times what its owner said, or what its past runs cost, is reported.
const (
	overrunWarning = 3
	overrunError   = 10
)

// overrun reports a run that spends far more than it should.
func (s *State) overrun(e *Entry, d *Decision) {
	times := e.Spent / e.Expected
	if e.Phase != Running || times < overrunWarning || e.Need == 0 && !s.measured(e.Name) {
		return
	}
	severity := problem.Warning
	if times >= overrunError {
		severity = problem.Error
	}
	d.add("job-overrun", e, severity, fmt.Sprintf("has spent %.1f credits, and %.1f were expected; it has run since %s", e.Spent, e.Expected, clock(e.Changed)),
		hintKill+"; if it rightly needs so much, declare it with --need")
}

// closed is what becomes of a waiting job while nothing can be judged.
func (e *Entry) closed(now time.Time, v view, late bool, d *Decision) {
	switch {
	case late && e.Late == LateRefuse:
		e.refuse(now, v.closed, d)
	case late && v.outside:
		e.late(v.closed, "give it a deadline that leaves it a part of a window, or widen gate.windows", d)
	case late && v.costsMoney():
		e.late(v.closed+", and surplus may cost money", "allow surplus with gate.surplus-dollars or gate.surplus-limit, or give it a later deadline or a smaller need", d)
	case late:
		e.Overdue = true
		e.start(now, fmt.Sprintf("admitted at its latest start %s although it cannot be judged: %s", clock(e.LatestStart), v.closed))
		e.updateReason(d)
	default:
		e.Reason = v.closed
	}
}

// decide does what was found.
func (e *Entry) decide(now time.Time, x verdict, late bool, v view, d *Decision) {
	e.Choices = x.choices
	switch {
	case x.start:
		e.Overdue = x.hopeless
		e.start(now, "admitted: "+x.why)
		e.updateReason(d)
	case x.hopeless && e.Late == LateRefuse:
		e.refuse(now, x.why, d)
	case x.hopeless && !v.credits:
		e.Overdue = true
		e.start(now, fmt.Sprintf("admitted at its latest start %s although it %s", clock(e.LatestStart), x.why))
		e.updateReason(d)
	case late:
		e.late(x.why, "give it a later deadline or a smaller need, let it be refused when late, or use a larger instance type", d)
	default:
		e.Reason = x.why
	}
}

// refuse ends the waiting of a job that cannot be in time.
func (e *Entry) refuse(now time.Time, why string, d *Decision) {
	e.setPhase(Refused, now)
	e.Reason = "refused: " + why
	e.updateReason(d)
}

// late is a job that goes on waiting although it will be late.
func (e *Entry) late(why, hint string, d *Decision) {
	e.Reason = fmt.Sprintf("should have started at %s, but %s", clock(e.LatestStart), why)
	d.add("job-late", e, problem.Warning, e.Reason, hint)
}

// add adds a problem of a job.
func (d *Decision) add(code string, e *Entry, severity problem.Severity, text, hint string) {
	d.Problems = append(d.Problems, problem.Problem{
		Code: code, Severity: severity, Subject: "job " + e.ID, Job: e.ID, Text: fmt.Sprintf("job %q %s", e.ID, text), Hint: hint,
	})
}

func (e *Entry) start(now time.Time, reason string) {
	e.setPhase(Admitted, now)
	e.Reason = reason
}

// updateReason keeps the reason of a job that does not wait up to date, and its problem standing.
func (e *Entry) updateReason(d *Decision) {
	if e.Overdue && (e.Phase == Admitted || e.Phase == Running) {
		d.add("job-late", e, problem.Warning, fmt.Sprintf("was admitted at its latest start %s although it did not fit", clock(e.LatestStart)),
			"give it a later deadline or a smaller need, or let it be refused when late")
	}
	switch {
	case e.Phase == Running:
		e.Reason = fmt.Sprintf("has spent %.1f of %.1f credits", e.Spent, e.Expected)
	case e.Withdrawn:
		e.Reason = "was withdrawn before it started"
	case e.Phase == Done:
		e.Reason = fmt.Sprintf("spent %.1f credits", e.Spent)
	case e.Phase == Refused:
		d.add("job-refused", e, problem.Error, "was "+e.Reason, "give it a later deadline or a smaller need, or let it run when late")
	}
}

// neverFits adds a problem if a job needs more than even a full balance could spare.
func (e *Entry) neverFits(v view, d *Decision) {
	if most := v.mostSpare(e.Cores); e.Expected > most {
		e.Reason = fmt.Sprintf("needs %.1f credits, and even a full balance can spare only %.1f", e.Expected, most)
		d.add("job-never-fits", e, problem.Error, e.Reason, "divide the job, let it use fewer cores for longer, lower the reserve, or use a larger instance type")
	}
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
