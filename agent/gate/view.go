package gate

import (
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// view is what the credits, or the load of an instance without credits, allow.
type view struct {
	// closed says why nothing may start; empty when the numbers decide.
	closed string
	// hold means that not even a job at its latest start may start.
	hold bool
	// outside means that no window is open, so that a job which may be late waits for the next.
	outside bool
	// known is whether the numbers mean something although closed is set.
	known bool
	// credits is false on an instance without credits: the load decides then.
	credits bool
	// guessed means that nobody has said the credit mode: the instance is taken for an unlimited one, for which all surplus is billed.
	guessed bool
	report  credit.Report
	bank    credit.Bank // with the error bar taken off
	points  []credit.Point
	floor   float64
	busy    float64
}

// newView reads the input. What is unknown or stale closes the gate.
func newView(in Input, set Settings) view {
	c := in.Credits
	v := view{credits: c.Burstable, guessed: c.Burstable && !c.ModeKnown && c.Bank.Mode != credit.Unlimited, busy: set.Busy}
	if v.guessed {
		c.Bank, _ = c.Bank.Switch(credit.Unlimited)
	}
	v.report = c
	old := in.Now.Sub(c.AnchorAt)
	switch {
	case c.Type == "":
		v.closed = "the instance type is not known yet"
	case c.MeterAt.IsZero() || in.Now.Sub(c.MeterAt) > meterStale:
		v.closed = "the CPU time has not been read for more than " + meterStale.String()
	case !c.Burstable && !c.NowKnown:
		v.closed = "the load is not known yet"
	case !c.Burstable:
		v.known = true
	case !c.Known:
		v.closed = "the credit balance is not known yet: no point of CloudWatch has arrived"
	case set.StaleAfter > 0 && old > set.StaleAfter:
		v.closed = fmt.Sprintf("the newest balance of CloudWatch is %s old, more than %s", old.Round(time.Minute), set.StaleAfter)
	case old > anchorLate && c.ErrorBar > vagueOfMax*c.Bank.Spec.Max:
		v.closed = fmt.Sprintf("the newest balance of CloudWatch is %s old, and by now may be wrong by %.1f credits, more than %.1f",
			old.Round(time.Minute), c.ErrorBar, vagueOfMax*c.Bank.Spec.Max)
	default:
		v.known = true
		v.bank = c.Bank.Less(c.ErrorBar)
		v.floor = set.Reserve
		if c.Bank.Mode == credit.Unlimited {
			v.floor = set.Reserve - set.surplus(c).Left
		}
		end := in.Now.Add(set.Horizon)
		for i, p := range c.Forecast {
			if i == 0 || !p.At.After(end) {
				v.points = c.Forecast[:i+1]
			}
		}
	}
	if why := set.Windows.closed(in.Now); why != "" {
		v.closed, v.outside = why, true
	}
	if in.Hold != "" {
		v.closed, v.hold = "held: "+in.Hold, true
	}
	return v
}

// charged is what is billed in a course, as far as it is known.
func (v view) charged(c credit.Course) float64 {
	if !v.guessed {
		return c.Charged
	}
	most := c.Charged
	for _, x := range c.Positions {
		most = max(most, c.Charged-x)
	}
	return most
}

// room is the most credits that one more batch of the given cores may spend beside the loads.
func (v view) room(cores float64, ls []credit.Load) float64 {
	return credit.Headroom(v.bank, v.report.MeterAt, v.points, v.floor, cores, ls)
}

// costsMoney reports whether credits that are not there would cost money. They may while the credit option is not known.
func (v view) costsMoney() bool {
	return v.report.Type == "" || v.credits && v.report.Bank.Mode == credit.Unlimited
}

// mostSpare is the most that a full balance could give a batch of the given cores while the services need what they do in the long
// run: what they need beyond that at present will not last.
func (v view) mostSpare(cores float64) float64 {
	points := slices.Clone(v.points)
	for i := range points {
		points[i].Demand.High = v.report.LongRun
	}
	return credit.Headroom(v.bank.Holding(v.bank.Spec.Max).Less(v.report.ErrorBar), v.report.MeterAt, points, v.floor, cores, nil)
}

// whyNothingLeft says when the services alone come nearest to the floor.
func (v view) whyNothingLeft() string {
	low, at := credit.Lowest(v.bank, v.report.MeterAt, v.points, nil)
	if low >= v.floor {
		return "all of it is promised to jobs"
	}
	if !at.After(v.report.MeterAt) {
		return fmt.Sprintf("%.1f credits are sure now and %.1f must stay", low, v.floor)
	}
	if low < 0 {
		return fmt.Sprintf("the services alone may need %.1f credits more than there are by %s, and %.1f must stay", -low, at.UTC().Format("15:04 MST"), v.floor)
	}
	return fmt.Sprintf("the services alone may bring the balance to %.1f by %s, and %.1f must stay", low, at.UTC().Format("15:04 MST"), v.floor)
}

// opensAt is when the balance is expected to be above the floor by the mark and all promises.
func (v view) opensAt(set Settings, promised float64) time.Time {
	for _, p := range v.report.Forecast {
		if p.Balance-v.report.ErrorBar-v.floor-promised >= set.OpenMark {
			return p.At
		}
	}
	return time.Time{}
}

// judgeLoad is the gate of an instance without credits: it looks at the services' CPU use alone.
func (v view) judgeLoad(isOpen bool, jobs int) (open, urgently bool, reason string) {
	share, limit := v.share(), v.busy
	if isOpen {
		limit = min(busyCloseShare*v.busy, 1)
	}
	numbers := fmt.Sprintf("the services use %.0f %% of %s, the mark is %.0f %%", 100*share, problem.Counted(v.report.VCPUs, "processor"), 100*limit)
	if share >= limit {
		return false, false, numbers
	}
	if jobs >= v.report.VCPUs {
		return false, false, fmt.Sprintf("%s on %s", problem.Counted(jobs, "running job"), problem.Counted(v.report.VCPUs, "processor"))
	}
	return true, false, numbers
}

// share is the services' part of all processors.
func (v view) share() float64 {
	return v.report.Now.Services / float64(max(v.report.VCPUs, 1))
}

// fitsLoad admits as many jobs as there are processors that the services leave.
func (v view) fitsLoad(e Entry, ls []credit.Load) (bool, string) {
	if share := v.share(); share >= v.busy {
		return false, fmt.Sprintf("the services use %.0f %% of the processors, the mark is %.0f %%", 100*share, 100*v.busy)
	}
	taken := 0.0
	for _, l := range ls {
		taken += positive(l.Cores, float64(v.report.VCPUs))
	}
	free := float64(v.report.VCPUs) - taken
	if want := positive(min(e.Cores, float64(v.report.VCPUs)), float64(v.report.VCPUs)); want > free {
		return false, fmt.Sprintf("needs %.1f processors and %.1f are free", want, max(free, 0))
	}
	return true, fmt.Sprintf("%.1f processors are free", free)
}
