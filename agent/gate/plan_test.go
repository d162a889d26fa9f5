package gate

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// What the services need more at present is in the forecast's mean already: where it is taken to last, it is not added once more.
func TestWhatLastsCountsOnce(t *testing.T) {
	c := saved(noon, 576, baseline)
	c.Bank.Mode, c.LongRun, c.LongRunDays, c.Lasting = credit.Unlimited, 0.3, 28, 0.4
	for i := range c.Forecast {
		more := 0.4 * math.Exp2(-float64(i)/24)
		c.Forecast[i].Demand = credit.Demand{Mean: 0.3 + more, High: 0.3 + more, More: more}
	}
	// 0.7 vCPUs for two days leave 288 of 576 owed.
	s, _ := decide(t, State{}, Input{Now: noon, Credits: c, Asked: []Asked{withDeadline(ask("a", 50, noon), 10*time.Hour)}})
	if a := s.Jobs[0]; a.Phase != Admitted {
		t.Errorf("%s: %s", a.Phase, a.Reason)
	}
}

// A tenth of the largest balance may be owed for a day for a job's sake.
func TestAJobMayLeaveSurplusForADay(t *testing.T) {
	for need, want := range map[float64]Phase{40: Admitted, 70: Waiting} {
		c := saved(noon, 0, baseline)
		c.Bank.Mode = credit.Unlimited
		s, _ := decide(t, State{}, Input{Now: noon, Credits: c, Asked: []Asked{withDeadline(ask("a", need, noon), 10*time.Hour)}})
		if a := s.Jobs[0]; a.Phase != want {
			t.Errorf("needs %v: %s, want %s: %s", need, a.Phase, want, a.Reason)
		}
	}
}

// Where weeks are alike, what the day after repays is not owed for long.
func TestWhatARegularWeekRepaysIsNotOwed(t *testing.T) {
	c := saved(noon, 0, baseline)
	c.Bank.Mode = credit.Unlimited
	for want, after := range map[Phase][]float64{Admitted: slices.Repeat([]float64{0.1}, 24), Waiting: nil} {
		c.DayAfter = after
		s, _ := decide(t, State{}, Input{Now: noon, Credits: c, Asked: []Asked{withDeadline(ask("a", 70, noon), 10*time.Hour)}})
		if a := s.Jobs[0]; a.Phase != want {
			t.Errorf("%d hours of the day after are known: %s, want %s: %s", len(after), a.Phase, want, a.Reason)
		}
	}
}

// What may be owed is for the services' bursts as well: the reserve is not kept free beside it.
func TestOwedSurplusNeedsNoReserve(t *testing.T) {
	c := saved(noon, 0, baseline)
	c.Bank.Mode = credit.Unlimited
	for owed, want := range map[float64]Phase{540: Admitted, 570: Waiting} {
		c.Bank = c.Bank.Holding(-owed)
		s, _ := decide(t, State{}, Input{Now: noon, Credits: c, Asked: []Asked{withDeadline(ask("a", 5, noon), 10*time.Hour)}})
		if a := s.Jobs[0]; a.Phase != want {
			t.Errorf("%v of 576 owed: %s, want %s: %s", owed, a.Phase, want, a.Reason)
		}
	}
}

// A job that has to wait for the end of a burst is not one that never fits.
func TestABurstDoesNotMakeAJobNeverFit(t *testing.T) {
	for _, mode := range []credit.Mode{credit.Standard, credit.Unlimited} {
		c := saved(noon, 20, credit.Demand{Mean: 1.5, High: 1.5})
		c.Bank.Mode, c.LongRun, c.LongRunDays = mode, 0.2, 28
		for need, want := range map[float64]bool{5: false, 900: true} {
			_, d := decide(t, State{}, Input{Now: noon, Credits: c, Asked: []Asked{withDeadline(ask("a", need, noon), 30*time.Hour)}})
			never := slices.ContainsFunc(d.Problems, func(p problem.Problem) bool { return p.Code == "job-never-fits" })
			if phases(d) != "a:waiting" || never != want {
				t.Errorf("%s, needs %v: %s: %s %+v", mode, need, phases(d), d.Jobs[0].Reason, d.Problems)
			}
		}
	}
}

func withDeadline(a Asked, in time.Duration) Asked {
	a.Deadline = noon.Add(in)
	return a
}
