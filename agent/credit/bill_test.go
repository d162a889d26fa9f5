package credit

import (
	"testing"
	"time"
)

// The bill starts over with each day and month in UTC, and holds what is charged while it
// runs, at a stop and at a change to standard.
func TestBill(t *testing.T) {
	begin := time.Date(2026, 3, 31, 22, 0, 0, 0, time.UTC)
	e := &Estimator{}
	now, busy := begin, 0.0
	say := func(mode Mode, started time.Time, cpu float64, d time.Duration) Report {
		now, busy = now.Add(d), busy+cpu*d.Minutes()
		r := Reading{
			At: now, InstanceID: "i-1", Type: "t3.nano", StartedAt: started, Mode: mode, ModeKnown: true,
			CPU: CPU{Known: true, Boot: "b", Meter: "m", Online: 2, Busy: busy},
		}
		if now.Equal(begin) {
			r.Cloud.Balance = Metric{Known: true, Measure: Measure{At: begin}}
			r.Cloud.Surplus = Metric{Known: true, Measure: Measure{At: begin, Value: 144}}
		}
		return e.Next(r)
	}
	started := begin.Add(-50 * time.Hour)
	say(Unlimited, started, 0, 0)
	// 1.1 vCPUs are 1 more than is earned, and the surplus is at its cap: a credit a minute is charged.
	if r := say(Unlimited, started, 1.1, time.Hour); !near(r.Bill.OfDay, 60) || !near(r.Bill.OfMonth, 60) {
		t.Errorf("in March: %+v", r.Bill)
	}
	say(Unlimited, started, 0.1, time.Hour)
	if r := say(Unlimited, started, 1.1, 30*time.Minute); !near(r.Bill.OfDay, 30) || !near(r.Bill.OfMonth, 30) {
		t.Errorf("in April: %+v", r.Bill)
	}
	say(Unlimited, started, 0.1, 24*time.Hour)
	if r := say(Unlimited, started, 0.1, time.Minute); r.Bill.OfDay > 0.01 || !near(r.Bill.OfMonth, 30) {
		t.Errorf("on the second of April: %+v", r.Bill)
	}
	e = Resume(*e.Memory())
	if r := say(Standard, started, 0.1, time.Minute); !near(r.Bill.OfDay, 144) || !near(r.Bill.OfMonth, 174) {
		t.Errorf("after the change to standard: %+v", r.Bill)
	}
	if r := say(Standard, now, 0, time.Minute); !near(r.Bill.OfMonth, 174) {
		t.Errorf("after a stop that owes nothing: %+v", r.Bill)
	}
}

// What an instance owes is charged when it is stopped.
func TestAStopIsBilled(t *testing.T) {
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	r := Reading{
		At: now, InstanceID: "i-1", Type: "t3.nano", StartedAt: now.Add(-time.Hour), Mode: Unlimited, ModeKnown: true,
		CPU:   CPU{Known: true, Boot: "b", Meter: "m", Online: 2},
		Cloud: Cloud{Balance: Metric{Known: true, Measure: Measure{At: now}}, Surplus: Metric{Known: true, Measure: Measure{At: now, Value: 40}}},
	}
	e := &Estimator{}
	e.Next(r)
	r.At, r.StartedAt, r.CPU.Boot, r.Cloud = now.Add(time.Hour), now.Add(59*time.Minute), "c", Cloud{}
	if got := e.Next(r); !near(got.Bill.OfDay, 40) {
		t.Errorf("%+v", got.Bill)
	}
	r.InstanceID, r.StartedAt = "i-2", r.At
	if got := e.Next(r); got.Bill.OfDay != 0 {
		t.Errorf("another instance took over %+v", got.Bill)
	}
}
