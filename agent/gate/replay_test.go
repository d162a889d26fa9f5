package gate

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// TestFiveDays lets a job follow a job through the gate beside real services (CPU use in per cent of
// the instance, one line for five minutes) whose balance is known from late
// points of CloudWatch and a meter that sees a tenth too little. The services must never be
// throttled, though they work for three hours on the third day as never before, and most of what
// would be thrown away must be used.
func TestFiveDays(t *testing.T) {
	text, err := os.ReadFile("testdata/services-cpu.txt")
	if err != nil {
		t.Fatal(err)
	}
	spec, _ := credit.Lookup("t3.small")
	bank := credit.Open(spec, credit.Standard).Holding(spec.Max)
	idle, wasted := bank, 0.0
	estimator := credit.Resume(credit.Memory{})
	reading := credit.Reading{
		InstanceID: "i-1", Type: spec.Type, Mode: credit.Standard, ModeKnown: true, StartedAt: noon.AddDate(0, 0, -1),
		CPU: credit.CPU{Known: true, Boot: "b", Meter: "m", Online: 2, Busy: 1},
	}
	const lag = 10 * time.Minute
	var s State
	var balances, usages []credit.Measure
	var total credit.Account
	var used, lastSpent, wrong float64
	lowest, jobs, now := bank.Balance, 1, noon
	job := Asked{Job: Job{ID: "j1", Name: "nightly", Need: 60, Cores: 1.5}, State: Waiting}
	for _, line := range strings.Fields(string(text)) {
		percent, err := strconv.ParseFloat(line, 64)
		if err != nil {
			t.Fatal(err)
		}
		services := percent / 100 * float64(spec.VCPUs)
		balances = append(balances, credit.Measure{At: now, Value: bank.Balance})
		usages = append(usages, credit.Measure{At: now.Add(-credit.Period), Value: lastSpent})
		lastSpent = 0
		for range 5 {
			batch := 0.0
			if job.State == Running {
				batch = min(job.Cores, float64(spec.VCPUs)-services)
			}
			var a credit.Account
			bank, a = bank.Advance(time.Minute, services+batch)
			total = total.Add(a)
			idle, a = idle.Advance(time.Minute, services)
			wasted += a.Discarded
			now = now.Add(time.Minute)
			lowest = min(lowest, bank.Balance)
			used += batch
			lastSpent += services + batch
			job.Spent += batch
			reading.CPU.Busy += (services + batch) * 0.9
			reading.CPU.Batch += batch * 0.9
			reading.At = now
			reading.Cloud = credit.Cloud{}
			for i, b := range balances[max(0, len(balances)-12):] {
				if !b.At.After(now.Add(-lag)) {
					reading.Cloud.Balance = credit.Metric{Known: true, Measure: b}
					reading.Cloud.Usage = append(reading.Cloud.Usage, usages[max(0, len(usages)-12)+i])
				}
			}
			report := estimator.Next(reading)
			if report.Known {
				if diff := report.Balance - bank.Balance; diff > report.ErrorBar || -diff > report.ErrorBar {
					wrong++
				}
			}
			if job.Spent >= 55 {
				job.State = Done
			}
			job.At = now
			var d Decision
			s, d = Next(s, Input{Now: now, Credits: report, Asked: []Asked{job}})
			e, _ := d.Job(job.ID)
			switch {
			case job.State == Done:
				jobs++
				job = Asked{Job: Job{ID: fmt.Sprintf("j%d", jobs), Name: "nightly", Need: 60, Cores: 1.5}, State: Waiting}
			case e.Phase == Admitted:
				job.State = Running
			}
		}
	}
	reserve := Settings{}.For(spec).Reserve
	t.Logf("%d jobs spent %.0f credits; without them %.0f would have been thrown away, with them %.0f; lowest balance %.0f (reserve %.0f)",
		jobs-1, used, wasted, total.Discarded, lowest, reserve)
	if total.Throttled > 0 {
		t.Errorf("%.1f credits of CPU time were not given", total.Throttled)
	}
	if used < 0.7*wasted {
		t.Errorf("batches used %.0f credits of the %.0f that would be thrown away", used, wasted)
	}
	if share := wrong / (5 * 24 * 60); share > 0.01 {
		t.Errorf("the error bar was too short in %.1f %% of the minutes", 100*share)
	}
}
