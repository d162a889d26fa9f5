package rehearsal

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

func spec(t testing.TB, name string) credit.Spec {
	t.Helper()
	s, ok := credit.Lookup(name)
	if !ok {
		t.Fatalf("%s is not known", name)
	}
	return s
}

// steady is a trace of one value for so many days.
func steady(percent float64, days int) Trace {
	v := make([]float64, days*288)
	for i := range v {
		v[i] = percent
	}
	return Trace{Start: start, Step: 5 * time.Minute, Values: v}
}

// every is a job by a cron line.
func every(t testing.TB, line string, j Job, deadline time.Duration) Job {
	t.Helper()
	s, err := parseSchedule(line, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	j.Starts = s.Between
	if deadline > 0 {
		j.Deadline = func(at time.Time) time.Time { return at.Add(deadline) }
	}
	return j
}

// The books of every policy balance, no policy is better than the bound, and the same
// input gives the same answer.
func TestWhateverThePolicy(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	names, cases := credit.Types(), 6
	if *full {
		cases = 48
	}
	for range cases {
		s := spec(t, names[r.IntN(len(names))])
		tr := steady(0, 3)
		level := r.Float64() * 1.6 * 100 * s.Baseline() / float64(s.VCPUs)
		for i := range tr.Values {
			tr.Values[i] = min(100, level*2*r.Float64())
		}
		o := Options{
			Spec: s, Mode: []credit.Mode{credit.Standard, credit.Unlimited}[r.IntN(2)], Trace: tr, Balance: r.Float64() * s.Max, Steps: true,
			Jobs: []Job{
				every(t, "0 1 * * *", Job{Name: "a", Need: 0.3 * s.Max * r.Float64(), Estimate: 0.1 * s.Max, Late: gate.LateRefuse}, 8*time.Hour),
				every(t, "30 */6 * * *", Job{Name: "b", Need: 0.1*s.Max*r.Float64() + 1, Cores: 1}, 5*time.Hour),
			},
		}
		rep, err := Play(o, Policies...)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range rep.Results {
			a := x.Account
			opening := o.Balance + credit.Open(s, o.Mode).Launch
			if in, out := opening+a.Earned+a.Charged, a.Spent+a.Discarded+x.Steps[len(x.Steps)-1].Balance; math.Abs(in-out) > 0.05 {
				t.Errorf("%s on %s, %s: %v came in, %v went out or is there", x.Policy, s.Type, o.Mode, in, out)
			}
			if x.Policy != Clairvoyant && math.Abs(x.Services+x.Jobs-a.Spent) > 0.05 {
				t.Errorf("%s on %s: services %v and jobs %v are not all that was spent, %v", x.Policy, s.Type, x.Services, x.Jobs, a.Spent)
			}
			if x.Regret < -1e-6 {
				t.Errorf("%s on %s, %s: %v better than the bound", x.Policy, s.Type, o.Mode, -x.Regret)
			}
			if n := x.InTime + x.Late + x.Refused; n != len(x.Runs) || n == 0 {
				t.Errorf("%s on %s: %d of %d runs are counted", x.Policy, s.Type, n, len(x.Runs))
			}
		}
		again, err := Play(o, Policies...)
		if err != nil {
			t.Fatal(err)
		}
		for _, rep := range []Report{rep, again} {
			for i := range rep.Results {
				rep.Results[i].Steps = nil // the sums tell the same, and are compared sooner
			}
		}
		if d := cmp.Diff(rep, again); d != "" {
			t.Errorf("a second time: %s", d)
		}
	}
}

func TestWhatIsCounted(t *testing.T) {
	s := spec(t, "t3.micro") // 2 vCPUs, 12 an hour, cap 288
	o := Options{Spec: s, Trace: steady(5, 2), Jobs: []Job{every(t, "0 0 * * *", Job{Name: "unfilled", Need: 200, Cores: 2}, 6*time.Hour)}}
	rep, err := Play(o, Cron)
	if err != nil {
		t.Fatal(err)
	}
	x := rep.Results[0]
	// The bank is empty at first. 12 an hour less the services' 6 are 16 hours for the half of 200 ... the job is
	// late, and the services keep what they want, because they come first.
	if x.Late != 2-x.InTime || x.Late == 0 || x.Throttled > 1e-6 {
		t.Errorf("cron: %d in time, %d late, throttled %v", x.InTime, x.Late, x.Throttled)
	}
	if x.Runs[0].Started != start || x.Missed != 200*float64(x.Late) {
		t.Errorf("cron: started %v, missed %v", x.Runs[0].Started, x.Missed)
	}
	// With a load of more than the baseline whatever a job spends is taken from the services.
	o.Trace = steady(20, 2)
	o.Balance = 288
	if rep, err = Play(o, Cron); err != nil {
		t.Fatal(err)
	}
	x = rep.Results[0]
	if taken := x.ThrottledByJobs / 60; math.Abs(taken-x.Jobs) > 0.1 || math.Abs(x.Score-gate.ServicesWeight*taken-x.Missed) > 1e-6 {
		t.Errorf("cron: jobs spent %v and took %v from the services, score %v", x.Jobs, taken, x.Score)
	}
	// An unlimited instance throttles nobody and pays.
	o.Mode = credit.Unlimited
	if rep, err = Play(o, Cron); err != nil {
		t.Fatal(err)
	}
	x = rep.Results[0]
	if x.Throttled != 0 || x.ChargedForJobs <= 0 || math.Abs(x.ChargedDollars-x.Account.Charged/60*0.05) > 1e-9 {
		t.Errorf("unlimited: %+v", x.Account)
	}
}

// The report ends with what to change.
func TestAdviceSpeaksOfWhatServicesLose(t *testing.T) {
	r := Report{Type: "t3.micro", Needed: 180, Spare: 500, Fits: "t3.small"}
	for taken, want := range map[float64]string{
		3:  "all 3 runs are in time on t3.micro with these settings; nothing needs to change.",
		60: "all 3 runs are in time on t3.micro, but of the 180 credits 60 are missing to the services then, or billed: take t3.small, run fewer of them, or give them later deadlines.",
	} {
		if got := r.advise(&instance{}, Result{Runs: make([]Run, 3), InTime: 3, ThrottledByJobs: 60 * taken}); got != want {
			t.Errorf("%v: %s", taken, got)
		}
	}
}

func TestAdviceOfOneRun(t *testing.T) {
	want := "the only run is in time on t3.micro with these settings; nothing needs to change."
	if got := (Report{Type: "t3.micro", Needed: 60}).advise(&instance{}, Result{Runs: make([]Run, 1), InTime: 1}); got != want {
		t.Error(got)
	}
}

func TestAdvice(t *testing.T) {
	for _, tt := range []struct {
		name          string
		percent, need float64
		within        time.Duration
		late          gate.Late
		want          string
	}{
		{name: "all is well", percent: 2, need: 50, within: 8 * time.Hour, want: "all 3 runs are in time on t3.micro"},
		{name: "too much", percent: 2, need: 280, within: 8 * time.Hour, want: "1 of 3 runs are not in time (a 1), because the jobs need 840 credits and only"},
		{name: "too much, and what would do", percent: 2, need: 280, within: 8 * time.Hour, want: "take t3.small, run fewer of them"},
		{name: "too much, and refused already", percent: 2, need: 280, within: 8 * time.Hour, late: gate.LateRefuse, want: "take t3.small, or run fewer of them."},
		{name: "overload", percent: 40, need: 50, within: 8 * time.Hour, want: "the services alone are throttled on t3.micro, and may have been when this was recorded: take t3.xlarge, or unlimited"},
		{name: "no time", percent: 2, need: 50, within: 10 * time.Minute, want: "(a 4) although enough credits are spare: give those jobs later deadlines"},
	} {
		o := Options{Spec: spec(t, "t3.micro"), Balance: 100, Trace: steady(tt.percent, 4), Jobs: []Job{every(t, "0 20 * * *", Job{Name: "a", Need: tt.need, Estimate: tt.need, Late: tt.late}, tt.within)}, Advise: true}
		rep, err := Play(o, Gate)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(rep.Advice, tt.want) || !strings.HasSuffix(rep.Text(), "\nadvice: "+rep.Advice+"\n") {
			t.Errorf("%s: %s", tt.name, rep.Text())
		}
	}
}

func TestTextWithoutJobs(t *testing.T) {
	rep, err := Play(Options{Spec: spec(t, "t3.micro"), Balance: 100, Trace: steady(2, 4), Advise: true}, Gate, Cron)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"jobs need", "in time", "score", "regret"} {
		if text := rep.Text(); strings.Contains(text, word) || !strings.Contains(text, "t3.micro does for the services") {
			t.Fatalf("without jobs the text says %q:\n%s", word, text)
		}
	}
}

// Jobs that never come within the trace are not passed over in silence.
func TestAdviceOfJobsThatNeverCome(t *testing.T) {
	o := Options{Spec: spec(t, "t3.micro"), Trace: steady(2, 4), Advise: true, Jobs: []Job{every(t, "0 22 31 12 *", Job{Name: "a", Need: 5}, time.Hour)}}
	rep, err := Play(o, Gate)
	if err != nil {
		t.Fatal(err)
	}
	if want := "no run of the jobs comes"; !strings.Contains(rep.Advice, want) {
		t.Errorf("the advice is %q, without %q", rep.Advice, want)
	}
}

// A step may take long where thousands of runs wait: how far it is is told at each.
func TestProgressIsToldAtEachStep(t *testing.T) {
	told := 0
	o := Options{Spec: spec(t, "t3.micro"), Trace: steady(2, 1), Length: time.Hour, Progress: func(float64) { told++ }}
	if _, err := Play(o, Gate); err != nil {
		t.Fatal(err)
	}
	if steps := int(time.Hour / o.tick()); told < 2*steps { // without jobs, and with the gate
		t.Errorf("told %d times in %d steps", told, steps)
	}
}

// Runs of one name that come at the same time are two runs, one after the other with the gate.
func TestRunsOfOneNameAtOneTime(t *testing.T) {
	o := Options{Spec: spec(t, "t3.micro"), Trace: steady(2, 2), Balance: 200}
	for _, need := range []float64{30, 20} {
		o.Jobs = append(o.Jobs, every(t, "0 12 * * *", Job{Name: "a", Need: need, Estimate: need, Cores: 1}, 8*time.Hour))
	}
	rep, err := Play(o, Gate)
	if err != nil {
		t.Fatal(err)
	}
	first, second := rep.Results[0].Runs[0], rep.Results[0].Runs[1]
	if first.ID == second.ID {
		t.Errorf("both are called %s", first.ID)
	}
	if first.Started.Before(second.Ended) && second.Started.Before(first.Ended) {
		t.Errorf("they run at once: %+v, %+v", first, second)
	}
}

// A bank that is empty on the first day does not make the advice name a type that is too large, nor call one too small.
func TestAdviceIsOfAnInstanceThatHasRunForAWhile(t *testing.T) {
	peak := steady(3, 14) // 100 % from 03:00 to 06:00
	perHour := int(time.Hour / peak.Step)
	for i := range peak.Values {
		if h := i / perHour % 24; h >= 3 && h < 6 {
			peak.Values[i] = 100
		}
	}
	jobs := []Job{every(t, "0 22 * * *", Job{Name: "a", Need: 100, Estimate: 100}, 8*time.Hour)}
	large := []Job{every(t, "0 22 * * *", Job{Name: "a", Need: 200, Estimate: 200}, 8*time.Hour)}
	two := []Job{
		every(t, "0 1 * * *", Job{Name: "a", Need: 150, Cores: 2}, 2*time.Hour), every(t, "0 1 * * *", Job{Name: "b", Need: 150, Cores: 2}, 2*time.Hour),
	}
	for _, tt := range []struct {
		name, of string
		mode     credit.Mode
		trace    Trace
		jobs     []Job
		want     string
	}{
		{"a peak", "t3.micro", credit.Standard, peak, jobs, "throttled on t3.micro, and may have been when this was recorded: take t3.small, or"},
		{"no jobs", "t3.micro", credit.Standard, peak, nil, "take t3.small, or unlimited."},
		{"no jobs and enough", "t3.small", credit.Standard, peak, nil, "t3.small does for the services"},
		{"processors", "t3.small", credit.Standard, steady(4, 14), two, "or take t3.xlarge."},
		{"a medium has no more credits than a small", "t3.small", credit.Standard, peak, large, "take a larger type"},
		{"what services cost", "t3.nano", credit.Unlimited, steady(100, 3), nil, "billed $6.72 of surplus in 3 days on t3.nano: compare that with the price of t3.2xlarge."},
	} {
		rep, err := Play(Options{Spec: spec(t, tt.of), Mode: tt.mode, Trace: tt.trace, Jobs: tt.jobs, Advise: true}, Gate)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(rep.Advice, tt.want) || strings.Contains(rep.Advice, "t3.medium") {
			t.Errorf("%s: %s", tt.name, rep.Advice)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Spec: spec(t, "t3.micro"), Trace: steady(1, 1)}
	for name, change := range map[string]func(*Options){
		"no type":           func(o *Options) { o.Spec = credit.Spec{} },
		"no trace":          func(o *Options) { o.Trace = Trace{} },
		"too long":          func(o *Options) { o.Length = 10 * maxLength },
		"too many credits":  func(o *Options) { o.Balance = 289 },
		"fewer than none":   func(o *Options) { o.Balance = -1 },
		"no vCPUs recorded": func(o *Options) { o.TraceVCPUs = -2 },
		"too many runs": func(o *Options) {
			o.Length = maxLength
			o.Jobs = []Job{every(t, "* * * * *", Job{Name: "a", Need: 1}, time.Hour)}
		},
	} {
		o := good
		change(&o)
		if _, err := Play(o, Cron); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Play(good, Policies...); err != nil {
		t.Error(err)
	}
}

// Jobs that take far more than is earned cost what was allowed on an unlimited instance, and no more.
func TestSurplusStaysWithinItsLimit(t *testing.T) {
	s := spec(t, "t3.nano")
	for _, dollars := range []float64{0, 0.25} {
		rep, err := Play(Options{
			Spec: s, Mode: credit.Unlimited, Trace: steady(2, 3), Balance: s.Max / 2,
			Jobs:     []Job{every(t, "0 */3 * * *", Job{Name: "greedy", Need: 100, Estimate: 100}, 0)},
			Settings: gate.Settings{SurplusDollars: dollars, Reserve: -1},
		}, Gate)
		if err != nil {
			t.Fatal(err)
		}
		x := rep.Results[0]
		if x.ChargedDollars > dollars || dollars > 0.2 && x.ChargedDollars < dollars/2 {
			t.Errorf("allowed $%.2f, charged $%.3f", dollars, x.ChargedDollars)
		}
	}
}
