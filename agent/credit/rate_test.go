package credit

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// A type that no table has is learned from what CloudWatch shows of it, and its balance is known from then on.
func TestAnUnknownTypeIsLearnt(t *testing.T) {
	truth := Bank{Spec: Spec{Type: "t9.odd", VCPUs: 2, EarnPerHour: 18, Max: 432}, Mode: Standard, Balance: 50}
	now := time.Date(2026, 3, 2, 0, 2, 0, 0, time.UTC) // CloudWatch's stamps of balance and usage are not in step
	e, busy := &Estimator{}, 0.0
	var usage []Measure
	var last Report
	points := map[time.Time]float64{}
	for step := range 6 * 60 {
		demand := 0.1
		if step%50 < 7 {
			demand = 0.9
		}
		truth, _ = truth.Advance(time.Minute, demand)
		now, busy = now.Add(time.Minute), busy+demand
		points[now.Truncate(Period)] += demand
		r := Reading{
			At: now, InstanceID: "i-1", Type: "t9.odd", Mode: Standard, ModeKnown: true,
			CPU:   CPU{Known: true, Boot: "b", Meter: "m", Online: 2, Busy: busy},
			Cloud: Cloud{Usage: usage},
		}
		if now.Minute()%5 == 2 {
			r.Cloud.Balance = Metric{Known: true, Measure: Measure{At: now, Value: truth.Balance}}
		}
		if now.Minute()%5 == 0 {
			at := now.Add(-Period)
			usage = append(usage, Measure{At: at, Value: points[at]})
			usage = usage[max(0, len(usage)-12):]
		}
		if r.Cloud.Balance.Known || step%10 == 0 {
			last = e.Next(r)
		}
		if step == 60 && (last.Known || !last.Burstable || last.Problems[0].Severity != problem.Error || !strings.Contains(last.Problems[0].Text, "of 4 half hours")) {
			t.Errorf("after an hour: %+v", last.Problems)
		}
	}
	if !last.Known || math.Abs(last.EarnPerHour-18) > 1.5 || math.Abs(last.Max-432) > 36 || math.Abs(last.Balance-truth.Balance) > last.ErrorBar+1 {
		t.Errorf("earns %.2f, holds %.0f, has %.1f ±%.1f; truly 18, 432, %.1f", last.EarnPerHour, last.Max, last.Balance, last.ErrorBar, truth.Balance)
	}
	if len(last.Problems) != 1 || last.Problems[0].Code != "credit-type-unknown" || last.Problems[0].Severity == problem.Error || !strings.Contains(last.Problems[0].Text, "by CloudWatch it earns 1") {
		t.Errorf("problems %+v", last.Problems)
	}
	// It survives a restart of the agent, and not a change of the type.
	again := Resume(e.Memory())
	if r := again.Next(Reading{At: now.Add(time.Second), InstanceID: "i-1", Type: "t9.odd", CPU: CPU{Known: true, Boot: "b", Meter: "n", Online: 2, Busy: busy}}); !r.Known {
		t.Errorf("after a restart: %+v", r.Problems)
	}
	if r := again.Next(Reading{At: now.Add(time.Minute), InstanceID: "i-1", Type: "t9.new", CPU: CPU{Known: true, Boot: "b", Meter: "n", Online: 2, Busy: busy}}); r.Known || r.EarnPerHour != 0 {
		t.Errorf("another type has the rate %v", r.EarnPerHour)
	}
}

// What tells nothing of the earnings is no sample: a balance at its cap, or points that are missing.
func TestWhatIsNoSample(t *testing.T) {
	begin := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	full := func(at time.Time) (u []Measure) {
		for i := range 12 {
			u = append(u, Measure{At: at.Add(time.Duration(i-12) * Period), Value: 0.5})
		}
		return u
	}
	for name, tt := range map[string]struct {
		balance func(i int) float64
		usage   func(time.Time) []Measure
		samples int
	}{
		"rising":         {func(i int) float64 { return 10 + float64(i) }, full, 4},
		"at the cap":     {func(int) float64 { return 432 }, full, 0},
		"empty":          {func(i int) float64 { return 0.01 + 0.01*float64(i%2) }, full, 0},
		"no usage":       {func(i int) float64 { return 10 + float64(i) }, func(time.Time) []Measure { return nil }, 0},
		"half the usage": {func(i int) float64 { return 10 + float64(i) }, func(at time.Time) []Measure { return full(at)[9:] }, 0},
	} {
		var r Rate
		for i := range 25 {
			at := begin.Add(time.Duration(i) * Period)
			r.learn(Cloud{Balance: Metric{Known: true, Measure: Measure{At: at, Value: tt.balance(i)}}, Usage: tt.usage(at)})
		}
		if len(r.Samples) != tt.samples {
			t.Errorf("%s: samples %v, want %d", name, r.Samples, tt.samples)
		}
		if s, ok := r.spec("t9.odd", 2); ok != (tt.samples >= 4) || ok && math.Abs(s.EarnPerHour-18) > 0.01 {
			t.Errorf("%s: %+v, %v", name, s, ok)
		}
	}
}
