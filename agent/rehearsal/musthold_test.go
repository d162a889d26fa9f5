package rehearsal

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// The balance is known to 1 % of the cap, although CloudWatch's points are late, a fifth of them never
// come and the guest's meter is 3 % off.
func TestTheEstimateStaysNear(t *testing.T) {
	kinds := []string{"t3.micro"}
	if *full {
		kinds = []string{"t3.nano", "t3.micro", "t3.small", "t3.medium", "t2.micro"}
	}
	for _, kind := range kinds {
		s := spec(t, kind)
		for _, guest := range []float64{0.97, 1.03} {
			for _, mode := range []credit.Mode{credit.Standard, credit.Unlimited} {
				worst := 0.0
				for i, h := range households() {
					r := rand.New(rand.NewPCG(uint64(i), 9))
					lost := make([]bool, caseDays*288+1)
					for k := range lost {
						lost[k] = r.IntN(5) == 0
					}
					rep, err := Play(Options{
						Spec: s, Mode: mode, Trace: h.trace(uint64(i), s), Balance: s.Max / 2, Length: 4 * day, Guest: guest,
						Lag: 12 * time.Minute, Lost: func(k int) bool { return lost[k] },
						Jobs: []Job{every(t, "0 22 * * *", Job{Name: "a", Need: s.Max / 4, Late: gate.LateRefuse}, 8*time.Hour)},
					}, Gate)
					if err != nil {
						t.Fatal(err)
					}
					worst = max(worst, rep.Results[0].WorstError)
				}
				t.Logf("%s, %s, meter ×%v: worst error %.2f credits, %.2f %% of the cap", kind, mode, guest, worst, 100*worst/s.Max)
				if worst > 0.01*s.Max {
					t.Errorf("%s, %s, meter ×%v: the estimate was wrong by %.2f credits, %.1f %% of the cap", kind, mode, guest, worst, 100*worst/s.Max)
				}
			}
		}
	}
}

// Unlimited, with no surplus allowed: no job causes a bill.
func TestNothingIsBilledThatWasNotAllowed(t *testing.T) {
	kinds, estimates := []string{"t3.micro"}, []float64{1}
	if *full {
		kinds, estimates = []string{"t3.nano", "t3.micro", "t3.small", "t3.medium"}, []float64{0.5, 1, 2}
	}
	cases, spent := 0, 0.0
	bill := func(name string, tr Trace, jobs func(*rand.Rand, time.Time) []share, kind string, part float64) {
		for _, estimate := range estimates {
			x, ok := try(t, name, tr, 0, jobs, kind, credit.Unlimited, part, estimate, Gate)
			if !ok {
				return
			}
			cases++
			r := x.result(Gate)
			spent += r.Jobs
			if r.ChargedForJobs > 1e-6 {
				t.Errorf("%s: %.2f credits were billed", x.what(), r.ChargedForJobs)
			}
		}
	}
	for i, h := range households() {
		for _, kind := range kinds {
			tr := h.trace(uint64(i), spec(t, kind))
			shares := h.shares
			if !*full && *traces == "" {
				shares = shares[len(shares)-1:] // the most jobs are the most likely to be billed
			}
			for _, part := range shares {
				bill(h.name, tr, h.jobs, kind, part)
			}
		}
	}
	for _, x := range recordedTraces(t) {
		for _, kind := range kinds {
			for _, part := range ordinary {
				bill(x.name, x.trace, nightly, kind, part)
			}
		}
	}
	t.Logf("%d cases: jobs spent %.0f credits", cases, spent)
	if spent == 0 {
		t.Error("no job ran")
	}
}

// yearly is a year of five-minute steps with three jobs a night.
func yearly(b *testing.B) Options {
	s := spec(b, "t3.micro")
	o := Options{Spec: s, Trace: households()[0].trace(0, s), Length: 365 * day, Balance: s.Max / 2}
	for name, line := range map[string]string{"a": "0 22 * * *", "b": "0 0 * * *", "c": "30 2 * * *"} {
		o.Jobs = append(o.Jobs, every(b, line, Job{Name: name, Need: 25, Estimate: 25, Cores: 1}, 8*time.Hour))
	}
	return o
}

// BenchmarkYear is a simulated year through the gate.
func BenchmarkYear(b *testing.B) {
	o, err := yearly(b).withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	runs, err := o.runs()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		w := newInstance(o, append([]Run(nil), runs...))
		w.play(starter(Gate, o))
		if w.sums.Jobs < 0.9*25*float64(len(runs)) {
			b.Fatal("hardly a job ran")
		}
	}
}

// BenchmarkHour is what the agent's estimator and gate compute in an hour, with a reading every five
// seconds, a decision every thirty, and twenty jobs that wait: reported as CPU credits.
func BenchmarkHour(b *testing.B) {
	o, err := yearly(b).withDefaults()
	if err != nil {
		b.Fatal(err)
	}
	w := newInstance(o, nil)
	k := &gatePolicy{o: o, estimator: credit.Resume(credit.Memory{})}
	for range 2 * 288 {
		k.step(w)
		w.work(0.1)
	}
	r := w.reading()
	var state gate.State
	var ids []string
	for i := range 20 {
		ids = append(ids, fmt.Sprint(i))
	}
	for b.Loop() {
		for i := range 720 {
			r.At = r.At.Add(5 * time.Second)
			r.CPU.Busy += 0.01
			report := k.estimator.Next(r)
			if i%6 == 0 {
				var asked []gate.Asked
				for _, id := range ids {
					asked = append(asked, gate.Asked{Job: gate.Job{ID: id, Name: id, Need: 500, Deadline: r.At.Add(day)}, State: gate.Waiting, At: r.At})
				}
				state, _ = gate.Next(state, gate.Input{Now: r.At, Credits: report, Asked: asked})
			}
		}
	}
	b.ReportMetric(b.Elapsed().Minutes()/float64(b.N), "credits/h")
}
