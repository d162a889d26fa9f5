package loop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/journalwords"
)

// linesByKind counts JSON log lines by the kind of their event.
func linesByKind(t *testing.T, log *bytes.Buffer) map[string]int {
	t.Helper()
	lines := map[string]int{}
	for line := range bytes.Lines(log.Bytes()) {
		var e struct{ Event string }
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		lines[e.Event]++
	}
	return lines
}

// The gate of a household that is quiet at night and unsteady by day, with three nightly
// jobs, writes no more in a day than a healthy day has of each kind.
func TestTheGateOfAHealthyDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		o := options(t.TempDir())
		o.Log = slog.New(slog.NewJSONHandler(&log, nil))
		r := start(t, o)
		const step, earned, most = time.Minute, 0.2, 288 // a t3.micro, per minute
		var (
			random  = rand.New(rand.NewPCG(1, 2))
			balance = 144.0
			jobs    []*nightly
			began   = time.Now()
		)
		for at := time.Duration(0); at < 24*time.Hour; at += step {
			hour := at.Hours()
			for i, hours := range []float64{1, 1.5, 3} {
				if hour == hours {
					jobs = append(jobs, &nightly{id: fmt.Sprint("report-", i), deadline: time.Now().Add(6 * time.Hour)})
				}
			}
			used := (0.04 + 0.08*max(0, math.Sin((hour-7)/16*math.Pi))) * (0.5 + random.Float64()) * step.Minutes()
			for _, j := range jobs {
				used += j.step(r, step.Minutes())
			}
			r.busy += used
			balance = min(most, max(0, balance+earned*step.Minutes()-used))
			if at%credit.Period == 0 {
				r.cloudWatchPoint(balance)
			}
			r.l.Readings.Put(credit.Reading{
				At: time.Now(), InstanceID: "i-1", Type: "t3.micro", Mode: credit.Standard, ModeKnown: true, StartedAt: began,
				CPU:   credit.CPU{Known: true, Boot: "b", Meter: "m", Online: 2, Busy: r.busy},
				Cloud: credit.Cloud{Balance: credit.Metric{Known: true, Measure: credit.Measure{At: r.anchor, Value: r.balance}}},
			})
			synctest.Wait()
			time.Sleep(step) // virtual: in a bubble
			synctest.Wait()
			r.turn()
		}
		lines := linesByKind(t, &log)
		t.Log(lines)
		for _, k := range journalwords.Kinds {
			if lines[k.Name] > k.Daily {
				t.Errorf("%d lines of %s; a healthy day has %d", lines[k.Name], k.Name, k.Daily)
			}
		}
		if lines[event.OfJob(string(gate.Done))] != 3 || lines[event.GateOpened] == 0 {
			t.Errorf("not all jobs ran, or the gate never opened: %v", lines)
		}
	})
}

// nightly is a job of twenty credits.
type nightly struct {
	id       string
	deadline time.Time
	phase    gate.Phase
	spent    float64
}

// step asks, or runs for a while, and returns what that spends.
func (j *nightly) step(r *running, minutes float64) float64 {
	const need = 20
	if j.phase == gate.Done {
		return 0
	}
	a := gate.Asked{Job: gate.Job{ID: j.id, Name: "report", Need: need, Cores: 1, Deadline: j.deadline}, State: gate.Waiting}
	switch {
	case j.spent >= need:
		a.State = gate.Done
	case j.phase == gate.Admitted || j.phase == gate.Running:
		a.State = gate.Running
	}
	j.phase = r.ask(a).Phase
	if a.State != gate.Running {
		return 0
	}
	j.spent += minutes
	return minutes
}
