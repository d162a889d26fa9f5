package gate

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// example is a t3.small whose services use little at night and much from 06:00 to 10:00.
func example(at time.Time, balance, errorBar float64) credit.Report {
	r := saved(at, balance, credit.Demand{})
	r.ErrorBar = errorBar
	b := r.Bank
	for i := range r.Forecast {
		p := &r.Forecast[i]
		p.Demand = credit.Demand{Mean: 0.10, High: 0.25}
		if h := p.At.Add(-30 * time.Minute).Hour(); h >= 6 && h < 10 {
			p.Demand = credit.Demand{Mean: 0.45, High: 0.90}
		}
		b, _ = b.Advance(time.Hour, p.Demand.Mean)
		p.Balance = b.Position()
	}
	return r
}

// The example in the manual is what the gate computes.
func TestExampleOfTheManual(t *testing.T) {
	begin := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC)
	job := func(id string, need float64, hours time.Duration) Job {
		return Job{ID: id, Name: id, Need: need, Cores: 1, Deadline: begin.Add(hours * time.Hour)}
	}
	now := example(begin, 212.4, 8.4)
	_, d := Next(State{History: map[string]Past{"report": {Costs: []float64{26, 25, 26, 27, 26}}}}, Input{Now: begin, Credits: now, Asked: []Asked{
		{Job: job("backup", 30, 10), State: Running, Spent: 10, At: begin},
		{Job: job("report", 30, 8), State: Waiting, At: begin},
	}})
	var w strings.Builder
	left := 0.0
	line := func(what string, change float64) {
		left += change
		fmt.Fprintf(&w, "%-64s%+7.1f %7.1f\n", what, change, left)
	}
	line(fmt.Sprintf("balance %.1f, less its error of %.1f", now.Balance, now.ErrorBar), now.Balance-now.ErrorBar)
	for _, part := range []struct {
		text          string
		first, length int
	}{{"22:00 to 06:00", 0, 8}, {"06:00 to 10:00", 8, 4}} {
		high := 60 * now.Forecast[part.first].Demand.High
		line(fmt.Sprintf("%s, each hour: earned %g, services use up to %.0f", part.text, now.EarnPerHour, high), float64(part.length)*(now.EarnPerHour-high))
	}
	if lowest, _ := credit.Lowest(now.Bank.Less(now.ErrorBar), begin, now.Forecast[:12], nil); math.Abs(left-lowest) > 1e-6 {
		t.Errorf("the lowest balance is %v in the example and %v by the forecast", left, lowest)
	}
	report, _ := d.Job("report")
	promised := d.Promised - report.Expected
	line("reserve", -d.Reserve)
	line("promised to backup, which has spent 10 of 30", -promised)
	fmt.Fprintf(&w, "report needs %.1f and is %s\n", report.Expected, report.Phase)
	line("promised to report", -report.Expected)
	if math.Abs(left-d.Free) > 1e-6 {
		t.Errorf("free is %v in the example and %v by the gate", left, d.Free)
	}
	compare(t, "example", w.String())

	w.Reset()
	known := State{History: map[string]Past{"index": {Costs: []float64{50, 48, 52, 50}}}}
	for _, balance := range []float64{212.4, 90, 40} {
		_, d := Next(known, Input{Now: begin, Credits: example(begin, balance, 8.4), Asked: []Asked{{Job: job("index", 50, 10), State: Waiting, At: begin}}})
		fmt.Fprintf(&w, "balance %.1f: %s\n", balance, d.Jobs[0].Reason)
	}
	compare(t, "plan", w.String())

	_, d = Next(known, Input{Now: begin, Credits: example(begin, 90, 8.4), Asked: []Asked{{Job: job("index", 50, 10), State: Waiting, At: begin}}})
	found, text, ok := d.Why("index")
	if !ok || len(found) != 1 || len(found[0].Choices) < 4 || !found[0].Choices[len(found[0].Choices)-1].Start.IsZero() {
		t.Errorf("%v, %+v", ok, found)
	}
	compare(t, "why", text)
	if _, _, ok := d.Why("another"); ok {
		t.Error("a job of another name is explained")
	}
}

// compare compares an example with the block of the manual that has its name.
func compare(t *testing.T, name, want string) {
	t.Helper()
	const file = "../../docs/batches.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), "<!-- "+name+": go test ./agent/gate -update -->\n```\n")
	have, tail, closed := strings.Cut(rest, "```\n")
	if !ok || !closed {
		t.Fatalf("%s has no block %q", file, name)
	}
	if *update {
		text := head + "<!-- " + name + ": go test ./agent/gate -update -->\n```\n" + want + "```\n" + tail
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if d := cmp.Diff(want, have); d != "" {
		t.Errorf("%s (-computed +written):\n%s", file, d)
	}
}
