package gate

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// turned is a forecast in which the services alone need what must stay; usually they need half of it.
func turned(at time.Time, batch float64) credit.Report {
	c := saved(at, 300, credit.Demand{Mean: 0.5, High: 0.8})
	c.Now.Batch = batch
	return c
}

func TestTheBrake(t *testing.T) {
	late := []Entry{{Job: Job{ID: "j", Name: "j"}, Phase: Running, Heard: noon, Since: noon, Overdue: true}}
	runs := []Entry{{Job: Job{ID: "j", Name: "j"}, Phase: Running, Heard: noon, Since: noon}}
	unknown := turned(noon, 1)
	unknown.Known = false
	plain := credit.Report{MeterAt: noon, Type: "m5.large", VCPUs: 2, NowKnown: true, Now: credit.Spent{Batch: 1}}
	// The balance is enough for the next 12 hours, and then the services need more than a day earns: what a job spends is billed.
	dear := saved(noon, 200, credit.Demand{Mean: 0.1, High: 0.1})
	dear.Bank.Mode = credit.Unlimited
	for i := range dear.Forecast {
		if i >= 12 {
			dear.Forecast[i].Demand = credit.Demand{Mean: 2, High: 2}
		}
	}
	on := Brake{Way: SlowPause, Since: noon.Add(-time.Hour), Reason: "before"}
	for name, tt := range map[string]struct {
		slow    Slow
		was     Brake
		jobs    []Entry
		batches int
		credits credit.Report
		way     Slow
		each    float64
		reason  string
	}{
		"off by default":                        {credits: turned(noon, 1), batches: 1},
		"nothing runs":                          {slow: SlowPause, credits: turned(noon, 0)},
		"a container is paused":                 {slow: SlowPause, credits: turned(noon, 0), batches: 1, way: SlowPause, reason: "batches are paused: the services alone may bring the balance to 12.0 by 00:00 UTC, and 48.0 must stay"},
		"what is seen to run is paused":         {slow: SlowPause, credits: turned(noon, 1), way: SlowPause, reason: "paused"},
		"a job is paused":                       {slow: SlowPause, credits: turned(noon, 0), jobs: runs, way: SlowPause, reason: "paused"},
		"one that is late by choice is spared":  {slow: SlowPause, credits: turned(noon, 0), jobs: late},
		"there is room":                         {slow: SlowPause, credits: saved(noon, 300, baseline), batches: 1},
		"a quota that the usual demand leaves":  {slow: SlowQuota, credits: turned(noon, 1), batches: 1, way: SlowQuota, each: 0.25, reason: "slowed to 0.2"},
		"it is divided":                         {slow: SlowQuota, credits: turned(noon, 1), batches: 2, jobs: runs, way: SlowQuota, each: 0.25 / 3, reason: "each"},
		"nothing is left":                       {slow: SlowQuota, credits: saved(noon, 40, baseline), batches: 1, way: SlowQuota, each: leastQuota, reason: "40.0 credits are sure now"},
		"what a job needs would be billed":      {slow: SlowPause, credits: dear, jobs: runs, way: SlowPause, reason: "more surplus would be charged"},
		"what is left is little then":           {slow: SlowQuota, credits: dear, batches: 1, way: SlowQuota, each: leastQuota, reason: "more surplus would be charged"},
		"it stays while that is so":             {slow: SlowPause, was: on, credits: dear, jobs: runs, way: SlowPause, reason: "before"},
		"it stays while nothing is known":       {slow: SlowPause, was: on, credits: unknown, batches: 1, way: SlowPause, reason: "before"},
		"it stays while there is little":        {slow: SlowPause, was: on, credits: saved(noon, 70, baseline), batches: 1, way: SlowPause, reason: "before"},
		"it ends with room":                     {slow: SlowPause, was: on, credits: saved(noon, 80, baseline), batches: 1, way: SlowOff, reason: "batches run freely again: they may spend 32.0 credits"},
		"not at once":                           {slow: SlowPause, was: Brake{Way: SlowPause, Since: noon.Add(-time.Minute)}, credits: saved(noon, 80, baseline), batches: 1, way: SlowPause},
		"it ends when it is not wanted":         {slow: SlowOff, was: on, credits: turned(noon, 1), batches: 1, way: SlowOff, reason: "not to be held back"},
		"there are no credits on this instance": {slow: SlowPause, was: on, credits: plain, batches: 1, way: SlowOff},
	} {
		t.Run(name, func(t *testing.T) {
			s := State{Brake: tt.was, Jobs: tt.jobs, At: noon}
			s, d := decide(t, s, Input{Now: noon, Credits: tt.credits, Settings: Settings{Slow: tt.slow}, Batches: tt.batches})
			if d.Brake.Way != tt.way || math.Abs(d.Brake.Each-tt.each) > 0.02 || !strings.Contains(d.Brake.Reason, tt.reason) {
				t.Errorf("brake %+v", d.Brake)
			}
			if d.Brake != s.Brake {
				t.Errorf("remembered is %+v", s.Brake)
			}
			if text := (Report{Decision: d}).Text(noon); d.Brake.On() && !strings.Contains(text, " "+d.Brake.Reason+"\n") {
				t.Errorf("shown as\n%s", text)
			}
			for _, e := range d.Jobs {
				if held := e.Slow == tt.way && e.Quota == d.Brake.Each && strings.Contains(e.Reason, d.Brake.text()); held != (d.Brake.On() && !e.Overdue) {
					t.Errorf("job %+v", e)
				}
			}
		})
	}
}

// What the brake leaves to batches keeps the reserve whole if the services need what they usually do.
func TestAQuotaKeepsTheReserve(t *testing.T) {
	_, d := decide(t, State{}, Input{Now: noon, Credits: turned(noon, 1), Settings: Settings{Slow: SlowQuota}, Batches: 1})
	b := turned(noon, 1).Bank
	b, _ = b.Advance(defaultHorizon, 0.5+d.Brake.Each)
	if b.Position() < 48-0.1 || b.Position() > 48+20 {
		t.Errorf("with %.3f vCPUs %.1f credits are left, want 48", d.Brake.Each, b.Position())
	}
}
