package rehearsal

import (
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

var (
	update = flag.Bool("update", false, "record the table of TestTheGateInEveryMode")
	pairs  = flag.Bool("pairs", false, "play each pair of needs, loads and jobs: more than by default, and with -full less")
)

// setting is one case of that table: everything that may be otherwise elsewhere.
type setting struct {
	kind  string
	mode  credit.Mode
	trace Trace
	// scale is the services' mean as a part of the baseline; 0 is as recorded.
	scale float64
	jobs  func(*rand.Rand, time.Time) []share
	// vary says how many times the declared need a run takes, when a part of the time has passed.
	vary func(r *rand.Rand, passed float64) float64
	// part is the jobs' credits as a part of what is spare.
	part float64
}

var needs = []struct {
	name string
	of   func(r *rand.Rand, f float64) float64
}{
	{"constant needs", func(*rand.Rand, float64) float64 { return 1 }},
	{"needs vary (sigma 0.25)", func(r *rand.Rand, _ float64) float64 { return math.Exp(0.25 * r.NormFloat64()) }},
	{"needs vary (sigma 0.5)", func(r *rand.Rand, _ float64) float64 { return math.Exp(0.5 * r.NormFloat64()) }},
	{"needs grow", func(_ *rand.Rand, f float64) float64 { return 0.7 + 0.8*f }},
}

var loads = []struct {
	name  string
	scale float64
	// value is the load of an hour, beside that of other hours, where each week is as the one before; nil is the recorded load.
	value func(day, hour int) float64
}{
	{"as recorded", 0, nil},
	{"60 % of the baseline", 0.6, nil},
	{"90 % of the baseline", 0.9, nil},
	{"nothing to spare", 1.05, nil},
	{"office hours each day", 0.87, officeHours},
	{"quiet weekends", 0.73, func(day, hour int) float64 {
		if weekend(day) {
			return 4
		}
		return officeHours(day, hour)
	}},
	{"busy weekends", 0.67, busyWeekends},
}

// regularDays is how long the loads last that are the same each week.
const regularDays = 21

// weekend reports whether a day of a trace is a Saturday or a Sunday: each trace starts on a Monday.
func weekend(day int) bool { return day%7 >= 5 }

// officeHours is the load, in per cent of a t3.micro, of services that are busy from 09 to 17 h.
func officeHours(_, hour int) float64 {
	if hour >= 9 && hour < 17 {
		return 18
	}
	return 4
}

// busyWeekends is the load, in per cent of a t3.micro, of services that are busy at weekends from 08 to 22 h.
func busyWeekends(day, hour int) float64 {
	if weekend(day) && hour >= 8 && hour < 22 {
		return 25
	}
	return 3
}

// exclusive are two jobs of one window in which the processors suffice for one of them.
func exclusive(_ *rand.Rand, day time.Time) []share {
	return []share{{"first", day.Add(22 * time.Hour), 0, 0.5, 2}, {"second", day.Add(22 * time.Hour), 0, 0.5, 2}}
}

// tight is the window of exclusive jobs as a multiple of the time that one of them needs alone.
const tight = 1.5

var schedules = []struct {
	name string
	jobs func(*rand.Rand, time.Time) []share
}{
	{"nightly", nightly},
	{"ad hoc", adHoc},
	{"many small", manySmall},
	{"mutually exclusive", exclusive},
}

// scaled multiplies a trace such that its mean is a part of the type's baseline.
func (tr Trace) scaled(s credit.Spec, part float64) Trace {
	want := part * 100 * s.Baseline() / float64(s.VCPUs)
	at := func(f float64) (vs []float64, mean float64) {
		for _, v := range tr.Values {
			vs = append(vs, min(100, f*v))
			mean += vs[len(vs)-1] / float64(len(tr.Values))
		}
		return vs, mean
	}
	low, high := 0.0, 1e4
	for range 60 {
		if _, mean := at((low + high) / 2); mean < want {
			low = (low + high) / 2
		} else {
			high = (low + high) / 2
		}
	}
	tr.Values, _ = at(high)
	return tr
}

// yardsticks are the two ways to judge a case. A trace's end is no end of an instance, and what a policy has done until then has an
// effect later: it may have spent the whole balance or, on an unlimited instance, owe as much as can be owed, of which the
// score at the end of the trace has nothing. So each case is judged once more after as much time again, in which the same load
// comes and no new job, and at whose end the instance is stopped and what is still owed is billed. Neither is the
// truth: the first takes what is owed for a gift, the second has a stop after each trace. So a gate must hold by both.
type yardsticks struct{ atEnd, after Report }

// play lets all policies loose on the case, with jobs that run when they are late and with jobs that are refused. Of the
// policies only the gate looks at that. Of fewer than all policies there is nothing of jobs that are refused. Jobs are given a part of what is spare, but of a tenth of what is earned at
// least: where nothing is spare is where the most can be broken.
func (x setting) play(t testing.TB, policies ...Policy) (run, refuse yardsticks) {
	t.Helper()
	s := spec(t, x.kind)
	o := Options{Spec: s, Mode: x.mode, Trace: x.trace, Balance: s.Max / 2, Length: x.trace.Length()}
	if x.scale > 0 {
		o.Trace = o.Trace.scaled(s, x.scale)
	}
	o.Trace.Values = slices.Concat(o.Trace.Values, o.Trace.Values)
	long := o
	long.Length *= 2
	idle, o, err := withoutJobs(o)
	if err != nil {
		t.Fatal(err)
	}
	later, long, err := withoutJobs(long)
	if err != nil {
		t.Fatal(err)
	}
	report := func(late gate.Late) (y yardsticks, runs []Run) {
		o.Jobs = x.jobsOf(idle, o, late)
		runs, err := o.runs()
		if err != nil {
			t.Fatal(err)
		}
		y.atEnd = Report{Spare: idle.sums.Account.Discarded, Idle: idle.result("", nil)}
		for _, r := range runs {
			y.atEnd.Needed += r.Need
		}
		y.after = y.atEnd
		return y, runs
	}
	if n := len(later.services) - 1; x.mode == credit.Unlimited {
		// What would still be owed is billed: so the last thing that is wanted is to owe no more than without jobs.
		later.services[n].given += s.Max - later.bank.Surplus
	}
	by := func(p Policy, runs []Run) (atEnd, after Result) {
		w := newInstance(o, slices.Clone(runs))
		w.play(starter(p, o))
		atEnd = w.result(p, idle)
		w.o.Length = long.Length
		w.play(func(*instance) {})
		after = w.result(p, later)
		owed := max(0, w.bank.Surplus-later.bank.Surplus)
		after.ChargedForJobs += owed
		after.Score += gate.ServicesWeight * owed
		return atEnd, after
	}
	add := func(y *yardsticks, p Policy, runs []Run) {
		atEnd, after := by(p, runs)
		y.atEnd.Results, y.after.Results = append(y.atEnd.Results, atEnd), append(y.after.Results, after)
	}
	run, runs := report(gate.LateRun)
	for _, p := range policies {
		if p != Clairvoyant {
			add(&run, p, runs)
			continue
		}
		run.atEnd.Results = append(run.atEnd.Results, bounds(bound(o, runs, idle).whole())...)
		run.after.Results = append(run.after.Results, bounds(bound(long, runs, later).whole())...)
	}
	if len(policies) < len(Policies) {
		return run, refuse
	}
	refuse, runs = report(gate.LateRefuse)
	add(&refuse, Gate, runs)
	refuse.atEnd.Results = append(refuse.atEnd.Results, run.atEnd.Results[1:]...)
	refuse.after.Results = append(refuse.after.Results, run.after.Results[1:]...)
	return run, refuse
}

// What is known of the bound stands in the tables beside it: the best plan that was found, which is no more than the bound where that is
// exact, and the bound if parts of jobs counted.
const (
	bestPlan Policy = "best plan"
	relaxed  Policy = "relaxed"
)

var columns = slices.Concat(Policies, []Policy{bestPlan, relaxed})

func bounds(b *lowerBound) []Result {
	return []Result{{Policy: Clairvoyant, Score: b.least}, {Policy: bestPlan, Score: b.best}, {Policy: relaxed, Score: b.relaxed}}
}

// jobsOf are the jobs of the case, by what is spare without them.
func (x setting) jobsOf(idle *instance, o Options, late gate.Late) (all []Job) {
	days := int(o.Length / day)
	perDay := x.part * max(idle.sums.Account.Discarded, idle.sums.Account.Earned/10) / float64(days)
	r := rand.New(rand.NewPCG(3, 4))
	for d := range days {
		for _, j := range x.jobs(r, o.Trace.Start.Truncate(day).Add(time.Duration(d)*day)) {
			declared := max(perDay*j.part, 0.1)
			if j.deadline == 0 {
				j.deadline = max(15*time.Minute, minutes(tight*declared/min(j.cores, float64(o.Spec.VCPUs))))
			}
			all = append(all, once(j, declared*x.vary(r, float64(d)/float64(days)), declared, late))
		}
	}
	return all
}

func minutes(m float64) time.Duration { return time.Duration(m * float64(time.Minute)) }

// line sums the cases of one line of the table.
type line struct {
	name    string
	cases   int
	broken  int     // cases in which the gate is worse than the better of cron and threshold by more than 2 % of the jobs' credits
	charged float64 // for jobs, by the gate
	score   map[Policy]float64
	ratios  []float64 // of the gate's score to the bound, where something is at stake
}

// atStake is the share of the jobs' credits by which the worst policy must differ from the bound for a case to say something.
const atStake = 0.01

func (l *line) add(rep Report) {
	l.cases++
	if l.score == nil {
		l.score = map[Policy]float64{}
	}
	score, worst := map[Policy]float64{}, 0.0
	for _, r := range rep.Results {
		score[r.Policy] = r.Score
		l.score[r.Policy] += r.Score
		worst = max(worst, r.Score)
		if r.Policy == Gate {
			l.charged += r.ChargedForJobs
		}
	}
	if score[Gate]-min(score[Cron], score[Threshold]) > mostExcess*rep.Needed {
		l.broken++
	}
	if least := score[Clairvoyant]; worst-least > atStake*rep.Needed {
		l.ratios = append(l.ratios, (score[Gate]+atStake*rep.Needed)/(least+atStake*rep.Needed))
	}
}

// way is the mode and what happens to late jobs.
func (l *line) way() string { return l.name[:strings.Index(l.name, ":")] }

// lines are the lines of the table in their order.
type lines []*line

func (ls *lines) add(name string, rep Report) {
	for _, l := range *ls {
		if l.name == name {
			l.add(rep)
			return
		}
	}
	*ls = append(*ls, &line{name: name})
	(*ls)[len(*ls)-1].add(rep)
}

func (ls lines) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "cases of\tnumber\tbroken\tcharged\t")
	for _, p := range columns {
		fmt.Fprintf(w, "%s\t", p)
	}
	fmt.Fprintln(w, "gate/bound\t")
	for _, l := range ls {
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t", l.name, l.cases, l.broken, l.charged)
		for _, p := range columns {
			fmt.Fprintf(w, "%.0f\t", l.score[p])
		}
		ratio := "-"
		if len(l.ratios) > 0 {
			ratio = fmt.Sprintf("%.2f", median(l.ratios))
		}
		fmt.Fprintf(w, "%s\t\n", ratio)
	}
	w.Flush()
}

// recorded reads the table that was recorded: by the name of a line its broken cases, what was charged, and the gate's score.
func recorded(t *testing.T, file string) map[string][3]float64 {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][3]float64{}
	for row := range strings.Lines(string(text)) {
		columns := slices.DeleteFunc(strings.Split(row, "  "), func(s string) bool { return strings.TrimSpace(s) == "" })
		if len(columns) < 5 {
			continue
		}
		var x [3]float64
		for i := range x {
			if x[i], err = strconv.ParseFloat(strings.TrimSpace(columns[2+i]), 64); err != nil {
				break
			}
		}
		if err == nil {
			all[strings.TrimSpace(columns[0])] = x
		}
	}
	return all
}

// TestTheGateInEveryMode plays the gate beside what else an operator could do, in both credit modes, with jobs that run when
// they are late and jobs that are refused, and with needs, loads and jobs of many kinds. It prints the sums, also
// where the gate loses, and holds the gate to what was recorded: no line may become worse. By default it plays each of the
// needs, loads and jobs once in each mode. With -pairs or -full it plays more, -full also more types and shares and the traces of
// -traces, and only prints.
func TestTheGateInEveryMode(t *testing.T) {
	kinds, parts, all := []string{"t3.micro"}, []float64{1}, []Trace{services(t)}
	if *full {
		kinds, parts = []string{"t3.nano", "t3.small"}, []float64{0.5, 1, 1.5}
		for _, x := range recordedTraces(t) {
			all = append(all, x.trace)
		}
	}
	var byNeeds, byLoad, byJobs lines
	var atEnd, after, regularAtEnd, regularAfter mustHold
	add := func(way, needs, load, jobs string, part float64, regular bool, y yardsticks) {
		for _, rep := range []Report{y.atEnd, y.after} {
			least := rep.Results[slices.IndexFunc(rep.Results, func(r Result) bool { return r.Policy == Clairvoyant })].Score
			for _, r := range rep.Results {
				if r.Policy != relaxed && r.Score < least-almost || r.Policy == relaxed && r.Score > least+almost {
					t.Errorf("%s%s, %s, %s: %s scores %v beside a bound of %v", way, needs, load, jobs, r.Policy, r.Score, least)
				}
			}
		}
		if regular {
			regularAtEnd.add(way, needs, part, y.atEnd)
			regularAfter.add(way, needs, part, y.after)
		} else {
			atEnd.add(way, needs, part, y.atEnd)
			after.add(way, needs, part, y.after)
		}
		byNeeds.add(way+needs, y.atEnd)
		byLoad.add(way+load, y.atEnd)
		byJobs.add(way+jobs, y.atEnd)
	}
	for _, mode := range []credit.Mode{credit.Standard, credit.Unlimited} {
		for i, n := range needs {
			for j, load := range loads {
				for k, jobs := range schedules {
					if !played(i, j, k) {
						continue
					}
					regular, traces, parts := load.value != nil, all, parts
					if regular {
						traces, parts = []Trace{byHour(regularDays, load.value)}, []float64{1}
					}
					for _, kind := range kinds {
						for _, part := range parts {
							for _, tr := range traces {
								run, refuse := setting{kind, mode, tr, load.scale, jobs.jobs, n.of, part}.play(t, Policies...)
								add(fmt.Sprintf("%s, run: ", mode), n.name, load.name, jobs.name, part, regular, run)
								add(fmt.Sprintf("%s, refuse: ", mode), n.name, load.name, jobs.name, part, regular, refuse)
							}
						}
						if !*full && !regular && i < 2 {
							run, _ := setting{kind, mode, services(t), load.scale, jobs.jobs, n.of, overload}.play(t, Gate, Cron, Clairvoyant)
							atEnd.overload(overload, run.atEnd)
							after.overload(overload, run.after)
						}
					}
				}
			}
		}
	}
	table := slices.Concat(byNeeds, byLoad, byJobs)
	slices.SortStableFunc(table, func(a, b *line) int { return strings.Compare(a.way(), b.way()) })
	var out strings.Builder
	table.print(&out)
	t.Logf("\n%s\nAt the end of the trace:\n\n%s\nAfter as much time again, with what is owed then:\n\n%s", out.String(), atEnd.text(), after.text())
	if len(regularAtEnd) > 0 {
		t.Logf("\nOf services whose hours are the same each week, at the end of the trace:\n\n%s\nAfter as much time again:\n\n%s", regularAtEnd.text(), regularAfter.text())
	}
	const file = "testdata/every-mode.txt"
	if *full || *pairs {
		return
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	was := recorded(t, file)
	for _, l := range table {
		w, ok := was[l.name]
		switch {
		case !ok:
			t.Errorf("%q is not in %s: record it with -update", l.name, file)
		case float64(l.broken) > w[0] || l.charged > 1.01*w[1]+1 || l.score[Gate] > 1.01*w[2]+1:
			t.Errorf("%s: the gate is worse than recorded: %d broken (%.0f), %.0f charged (%.0f), score %.0f (%.0f)",
				l.name, l.broken, w[0], l.charged, w[1], l.score[Gate], w[2])
		}
	}
}

// played chooses the cases of needs, loads and jobs: each of them once, every pair of them once, or all.
func played(needs, load, jobs int) bool {
	switch {
	case *pairs, *full && loads[load].value != nil:
		return (needs+load+jobs)%4 == 0
	case *full:
		return true
	}
	return load == (needs+1)%4 && jobs == (needs+2)%4
}

// services is the recorded load of real services that the gate's own test plays, too: five days, and the first two once more.
func services(t testing.TB) Trace {
	t.Helper()
	text, err := os.ReadFile("../gate/testdata/services-cpu.txt")
	if err != nil {
		t.Fatal(err)
	}
	tr := Trace{Start: start, Step: credit.Period}
	for line := range strings.FieldsSeq(string(text)) {
		v, err := strconv.ParseFloat(line, 64)
		if err != nil {
			t.Fatal(err)
		}
		tr.Values = append(tr.Values, v)
	}
	tr.Values = append(tr.Values, tr.Values[:2*288]...)
	return tr
}
