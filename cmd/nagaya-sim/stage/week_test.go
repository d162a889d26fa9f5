package stage

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/history/keep"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

// visitors are the hosts of the pictures, with how many requests a minute each has at noon.
var visitors = []struct {
	host   string
	minute float64
}{{"chat.example.com", 12}, {"git.example.com", 25}, {"shop.example.com", 90}, {"wiki.example.com", 40}}

// nights are the jobs: when one starts, and the credits that it takes.
var nights = []struct {
	name         string
	hour, minute int
	credits      float64
}{{"report", 2, 0, 30}, {"images", 4, 30, 16}, {"backup", 22, 0, 10}}

// week is how it was on a t3.micro with them, minute by minute, as the agent there has seen it.
type week struct {
	report.Status
	random    *rand.Rand
	log       *slog.Logger
	estimator *credit.Estimator
	reading   credit.Reading
	bank      credit.Bank
	job       gate.Entry // the one that runs, if it has a name
}

// minute goes on to the next minute.
func (w *week) minute(now time.Time) report.Status {
	at := float64(now.Hour()) + float64(now.Minute())/60
	day := max(0, math.Sin((at-7)/15*math.Pi))
	if now.Weekday() == time.Saturday || now.Weekday() == time.Sunday {
		day /= 4
	}
	services := (0.05 + 0.32*day) * (0.8 + 0.4*w.random.Float64())
	w.At = now
	batch := w.batch(now)
	w.bank, _ = w.bank.Advance(time.Minute, services+batch)
	w.reading.At = now
	w.reading.CPU.Busy += services + batch
	w.reading.CPU.Batch += batch
	if now.Minute()%5 == 0 {
		w.reading.Cloud.Balance = credit.Metric{Known: true, Measure: credit.Measure{At: now, Value: w.bank.Balance}}
	}
	w.Credit = w.estimator.Next(w.reading)
	d := &w.Gate.Decision
	d.Jobs = nil
	if w.job.Name != "" {
		d.Jobs = []gate.Entry{w.job}
	}
	if open := w.bank.Balance > 155 || d.Open && w.bank.Balance > 135; open != d.Open {
		d.Open = open
		w.note(map[bool]string{true: event.GateOpened, false: event.GateClosed}[open], "reason", fmt.Sprintf("the balance is %.1f", w.bank.Balance), "credits", w.bank.Balance, "reserve", 10.)
	}
	w.serve(day)
	return w.Status
}

// batch is what the job that runs takes in this minute.
func (w *week) batch(now time.Time) float64 {
	for _, n := range nights {
		if now.Hour() == n.hour && now.Minute() == n.minute {
			w.job = gate.Entry{Job: gate.Job{ID: fmt.Sprintf("%s-%d", n.name, now.Unix()), Name: n.name}, Phase: gate.Running, Expected: n.credits}
			w.job.Changed = now
			w.job.Need = n.credits * (0.85 + 0.3*w.random.Float64())
			w.noteJob(event.BatchRunning)
		}
	}
	if w.job.Name == "" {
		return 0
	}
	const most = 0.9 // vCPUs
	batch := min(most, w.job.Need-w.job.Spent)
	if w.job.Spent += batch; w.job.Spent >= w.job.Need {
		w.noteJob(event.BatchDone)
		w.job = gate.Entry{}
	}
	return batch
}

// serve counts what visitors asked for. Now and then a service is replaced, for which nginx is reloaded.
func (w *week) serve(day float64) {
	hosts := w.Traffic.Hosts
	w.Traffic.Hosts = nil // the look before has its own
	for i, h := range hosts {
		n := uint64(visitors[i].minute * (0.08 + day) * (0.6 + 0.8*w.random.Float64()))
		h.Requests[1] += n
		h.Bytes += n * 14_000
		if w.random.Float64() < 0.004 {
			h.Requests[4] += 1 + n/6
		}
		if w.random.Float64() < 0.0004 {
			w.Nginx.Reloads += 2
			w.note(event.ServiceDeployed, "family", strings.TrimSuffix(h.Host, ".example.com"), "old", fmt.Sprint(w.Nginx.Reloads), "new", fmt.Sprint(w.Nginx.Reloads+1), "servers", 1, "took", "6.2s")
		}
		w.Traffic.Hosts = append(w.Traffic.Hosts, h)
	}
}

func (w *week) note(kind string, fields ...any) {
	w.log.Info(kind, append([]any{event.Key, kind}, fields...)...)
}

func (w *week) noteJob(kind string) {
	w.note(kind, "job_id", w.job.ID, "job", w.job.Name, "reason", fmt.Sprintf("%.1f of %.1f credits spent", w.job.Spent, w.job.Expected), "declared", 0., "expected", w.job.Expected, "spent", w.job.Spent, "took", w.At.Sub(w.job.Changed).String())
}

// live writes the history of a time that ends now into a directory, as the agent does, and returns the balance at its end
// and what was learnt of the load.
func live(t *testing.T, lasts time.Duration, dir, instance string) (balance float64, learnt credit.Memory) {
	t.Helper()
	begun := time.Now().Add(-lasts)
	spec, _ := credit.Lookup("t3.micro")
	w := &week{
		random: rand.New(rand.NewPCG(1, 2)), estimator: &credit.Estimator{}, bank: credit.Bank{Spec: spec, Mode: credit.Standard, Balance: 160},
		reading: credit.Reading{InstanceID: instance, Type: "t3.micro", Mode: credit.Standard, ModeKnown: true, CPU: credit.CPU{Known: true, Boot: "b", Meter: "m", Online: 2}},
	}
	w.Address = address.NewReport([]address.ClaimReport{{ClaimStatus: address.ClaimStatus{Known: true, Holder: address.Holder{Kind: address.Self}}}})
	w.Traffic.Since = begun
	for _, v := range visitors {
		w.Traffic.Hosts = append(w.Traffic.Hosts, traffic.Host{Host: v.host})
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(begun)) // virtual, as all that follows
		notes := keep.NewNotes()
		w.log = slog.New(notes.Handler(slog.DiscardHandler))
		w.note(event.AgentStarted, "version", "0.1.0")
		w.note(event.AddressHeld, "address", "203.0.113.10", "private_addr", "10.0.0.10")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- keep.Run(ctx, dir, func() report.Status { return w.minute(time.Now()) }, notes, func(err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}()
		time.Sleep(lasts)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w.bank.Balance, *w.estimator.Memory()
}
