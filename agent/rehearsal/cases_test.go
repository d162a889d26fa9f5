package rehearsal

import (
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

var (
	full   = flag.Bool("full", false, "judge the gate by all cases and print the table")
	traces = flag.String("traces", "", "directory of recorded traces (*.csv) to judge by as well")
)

// A household is services' load and the jobs beside it, by a seed.
type household struct {
	name string
	// load returns the services' demand in units of the baseline at a time.
	load func(r *rand.Rand, at time.Time, day int) float64
	// jobs returns the runs of a day as shares of the day's credits.
	jobs func(r *rand.Rand, day time.Time) []share
	// shares are the jobs' credits as a part of the spare ones.
	shares []float64
}

type share struct {
	name     string
	due      time.Time
	deadline time.Duration
	part     float64
	cores    float64
}

const caseDays = 14

// busyHours is 1 in the working hours of a day and 0 at night, with soft edges.
func busyHours(at time.Time) float64 {
	h := float64(at.Hour()) + float64(at.Minute())/60
	return clamp01((h-7)/2) * clamp01((20-h)/2)
}

func clamp01(x float64) float64 { return math.Max(0, math.Min(1, x)) }

func noise(r *rand.Rand, spread float64) float64 {
	return math.Exp(spread*r.NormFloat64() - spread*spread/2)
}

func dayPeak(r *rand.Rand, at time.Time, _ int) float64 {
	return (0.2 + 1.1*busyHours(at)) * noise(r, 0.4)
}

func nightly(_ *rand.Rand, day time.Time) []share {
	return []share{
		{"backup", day.Add(22 * time.Hour), 9 * time.Hour, 0.5, 1},
		{"report", day.Add(24 * time.Hour), 6 * time.Hour, 0.3, 2},
		{"index", day.Add(26 * time.Hour), 10 * time.Hour, 0.2, 1},
	}
}

var ordinary = []float64{0.1, 0.5, 1, 1.5}

func households() []household {
	return []household{
		{"day peak, nightly jobs", dayPeak, nightly, ordinary},
		{"weekly", func(r *rand.Rand, at time.Time, day int) float64 {
			if d := at.Weekday(); d == time.Saturday || d == time.Sunday {
				return 0.15 * noise(r, 0.4)
			}
			return 1.1 * dayPeak(r, at, day)
		}, nightly, ordinary},
		{"bursty", bursts(), nightly, ordinary},
		{"drifting", func(r *rand.Rand, at time.Time, day int) float64 {
			return (0.3 + 0.7*float64(day)/caseDays) * (0.5 + busyHours(at)) * noise(r, 0.3)
		}, nightly, ordinary},
		{"spike on the morning after", spikes(), nightly, ordinary},
		{"overload", func(r *rand.Rand, at time.Time, _ int) float64 {
			return (0.5 + 0.4*busyHours(at)) * noise(r, 0.3)
		}, nightly, []float64{1.5, 2, 3}},
		{"many small jobs", dayPeak, manySmall, ordinary},
		{"ad-hoc jobs by day", dayPeak, adHoc, ordinary},
	}
}

func manySmall(_ *rand.Rand, day time.Time) (all []share) {
	for i := range 24 {
		all = append(all, share{fmt.Sprintf("small%d", i%6), day.Add(time.Duration(i) * time.Hour), 4 * time.Hour, 1.0 / 24, 1})
	}
	return all
}

func adHoc(r *rand.Rand, day time.Time) (all []share) {
	for i := range 3 {
		due := day.Add(time.Duration(9*60+r.IntN(8*60)) * time.Minute)
		all = append(all, share{fmt.Sprintf("adhoc%d", i), due, time.Duration(4+r.IntN(16)) * time.Hour, 0.2 + 0.25*r.Float64(), 2})
	}
	return all
}

// bursts come at any time, about four a day, and take all that one vCPU can give.
func bursts() func(*rand.Rand, time.Time, int) float64 {
	var until time.Time
	return func(r *rand.Rand, at time.Time, _ int) float64 {
		if at.Before(start.Add(time.Minute)) {
			until = time.Time{}
		}
		if at.After(until) && r.IntN(72) == 0 {
			until = at.Add(time.Duration(10+r.IntN(40)) * time.Minute)
		}
		if at.Before(until) {
			return 5
		}
		return 0.25 * noise(r, 0.5)
	}
}

// spikes come on one morning of five, unannounced.
func spikes() func(*rand.Rand, time.Time, int) float64 {
	on := map[int]bool{}
	return func(r *rand.Rand, at time.Time, day int) float64 {
		if at.Equal(start) {
			clear(on)
		}
		if _, known := on[day]; !known {
			on[day] = r.IntN(5) == 0
		}
		if h := at.Hour(); on[day] && h >= 8 && h < 11 {
			return 5 * noise(r, 0.1)
		}
		return (0.2 + 0.7*busyHours(at)) * noise(r, 0.4)
	}
}

// trial is one case.
type trial struct {
	household, kind string
	share, estimate float64
	report          Report
}

func (x trial) result(p Policy) Result { return resultOf(x.report, p) }

func resultOf(rep Report, p Policy) Result {
	return rep.Results[slices.IndexFunc(rep.Results, func(r Result) bool { return r.Policy == p })]
}

// excess is how much worse the gate is than the better of cron and threshold, as a share of the jobs' credits. A case
// with more than mostExcess is lost.
func excess(rep Report) float64 {
	return (resultOf(rep, Gate).Score - min(resultOf(rep, Cron).Score, resultOf(rep, Threshold).Score)) / rep.Needed
}

const mostExcess = 0.02

// load makes the trace of a household for a type.
func (h household) trace(seed uint64, s credit.Spec) Trace {
	r := rand.New(rand.NewPCG(seed, 1))
	tr := Trace{Start: start, Step: credit.Period}
	for i := range caseDays * 288 {
		at := start.Add(time.Duration(i) * tr.Step)
		tr.Values = append(tr.Values, min(100, 100*h.load(r, at, i/288)*s.Baseline()/float64(s.VCPUs)))
	}
	return tr
}

// try plays a case with jobs of so much of the spare credits, by the given policies or all. Where the services leave nothing
// at all there is no case: of nothing, no job can take a part.
func try(t testing.TB, name string, tr Trace, vcpus float64, jobs func(*rand.Rand, time.Time) []share, kind string, mode credit.Mode, part, estimate float64, policies ...Policy) (trial, bool) {
	t.Helper()
	s := spec(t, kind)
	o := Options{Spec: s, Mode: mode, Trace: tr, TraceVCPUs: vcpus, Balance: s.Max / 2}
	idle, err := Play(o)
	if err != nil {
		t.Fatal(err)
	}
	if idle.Spare <= 0 {
		t.Logf("%s on %s: the services leave nothing, so there is no case", name, kind)
		return trial{}, false
	}
	r := rand.New(rand.NewPCG(uint64(len(name)), 2))
	days := int(tr.Length() / day)
	perDay := part * idle.Spare / float64(days)
	first := tr.Start.Truncate(day)
	for d := range days {
		for _, x := range jobs(r, first.Add(time.Duration(d)*day)) {
			need := max(perDay*x.part, 0.1)
			o.Jobs = append(o.Jobs, once(x, need, need*estimate, gate.LateRefuse))
		}
	}
	if len(policies) == 0 {
		policies = Policies
	}
	rep, err := Play(o, policies...)
	if err != nil {
		t.Fatal(err)
	}
	return trial{name, kind, part, estimate, rep}, true
}

// once is a job of one run.
func once(x share, need, estimate float64, late gate.Late) Job {
	return Job{
		Name: x.name, Need: need, Estimate: estimate, Cores: x.cores, Late: late,
		Starts: func(from, to time.Time) []time.Time {
			if x.due.Before(from) || !x.due.Before(to) {
				return nil
			}
			return []time.Time{x.due}
		},
		Deadline: func(due time.Time) time.Time { return due.Add(x.deadline) },
	}
}

// TestTheGateIsWorthIt judges the gate beside the other policies: by a few cases always, with -full by all, and
// with -traces by recorded ones too.
func TestTheGateIsWorthIt(t *testing.T) {
	kinds, estimates := []string{"t3.nano", "t3.micro", "t3.small", "t3.medium"}, []float64{0.5, 1, 2}
	if !*full {
		kinds, estimates = []string{"t3.micro"}, []float64{1}
	}
	var all []trial
	add := func(x trial, ok bool) {
		if ok {
			all = append(all, x)
		}
	}
	for i, h := range households() {
		shares := h.shares
		if !*full {
			shares = shares[2:3]
		}
		for _, kind := range kinds {
			tr := h.trace(uint64(i), spec(t, kind))
			for _, part := range shares {
				for _, estimate := range estimates {
					add(try(t, h.name, tr, 0, h.jobs, kind, credit.Standard, part, estimate))
				}
			}
		}
	}
	for _, x := range recordedTraces(t) {
		for _, kind := range kinds {
			for _, part := range ordinary {
				for _, estimate := range estimates {
					add(try(t, x.name, x.trace, 0, nightly, kind, credit.Standard, part, estimate))
				}
			}
		}
	}
	judge(t, all)
}

type namedTrace struct {
	name  string
	trace Trace
}

func recordedTraces(t *testing.T) (all []namedTrace) {
	t.Helper()
	if *traces == "" {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(*traces, "*.csv"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces in %s (%v)", *traces, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := ReadTrace(text)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		all = append(all, namedTrace{strings.TrimSuffix(filepath.Base(f), ".csv"), tr})
	}
	return all
}

// judge prints the table and says what does not hold.
func judge(t *testing.T, all []trial) {
	t.Helper()
	var out strings.Builder
	table(&out, all)
	var regrets []float64
	for _, x := range all {
		regrets = append(regrets, x.result(Gate).Regret)
		if e := excess(x.report); e > mostExcess {
			t.Errorf("%s: the gate is worse than the better of cron and threshold by %.1f %% of the jobs' credits", x.what(), 100*e)
		}
		if g, c := x.result(Gate).Score, x.result(Cron).Score; x.household == "overload" && g > 0.6*c {
			t.Errorf("%s: the gate's score of %.0f is more than 60 %% of cron's, %.0f", x.what(), g, c)
		}
	}
	m := median(regrets)
	fmt.Fprintf(&out, "\n%d cases; median regret of the gate %.1f %% (bound 15 %%)\n", len(all), 100*m)
	t.Log("\n" + out.String())
	if m > 0.15 {
		t.Errorf("the median regret is %.1f %%", 100*m)
	}
}

func (x trial) what() string {
	return fmt.Sprintf("%s on %s, jobs %.0f %% of what is spare, estimates ×%v", x.household, x.kind, 100*x.share, x.estimate)
}

// table prints one row for each household and share: the median scores in per cent of the jobs' credits.
func table(out io.Writer, all []trial) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "load\tjobs / spare\tcases\t")
	for _, p := range Policies {
		fmt.Fprintf(w, "%s\t", p)
	}
	fmt.Fprintln(w, "regret\tworst excess\t")
	for len(all) > 0 {
		var row []trial
		first := all[0]
		all = slices.DeleteFunc(slices.Clone(all), func(x trial) bool {
			same := x.household == first.household && x.share == first.share
			if same {
				row = append(row, x)
			}
			return same
		})
		fmt.Fprintf(w, "%s\t%.0f %%\t%d\t", first.household, 100*first.share, len(row))
		for _, p := range Policies {
			var xs []float64
			for _, x := range row {
				xs = append(xs, x.result(p).Score/x.report.Needed)
			}
			fmt.Fprintf(w, "%.1f %%\t", 100*median(xs))
		}
		var regrets, excesses []float64
		for _, x := range row {
			regrets, excesses = append(regrets, x.result(Gate).Regret), append(excesses, excess(x.report))
		}
		fmt.Fprintf(w, "%.1f %%\t%+.1f %%\t\n", 100*median(regrets), 100*slices.Max(excesses))
	}
	w.Flush()
}

func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	return s[len(s)/2]
}
