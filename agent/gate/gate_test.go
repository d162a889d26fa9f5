package gate

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

var (
	update = flag.Bool("update", false, "rewrite the golden files in testdata")
	noon   = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
)

// saved is a t3.small (2 vCPUs, 24 an hour, cap 576, mark 28.8)
// whose services use a steady demand, at a time, with a fresh anchor and no error.
func saved(at time.Time, balance float64, d credit.Demand) credit.Report {
	spec, _ := credit.Lookup("t3.small")
	b := credit.Open(spec, credit.Standard).Holding(balance)
	r := credit.Report{
		At: at, MeterAt: at, AnchorAt: at.Add(-8 * time.Minute), Known: true, Type: "t3.small", Burstable: true,
		VCPUs: 2, Mode: credit.Standard, ModeKnown: true, Balance: balance, Max: 576, EarnPerHour: 24, NowKnown: true,
		Now: credit.Spent{Services: d.Mean}, Bank: b, LongRun: d.Mean, LongRunDays: 28,
	}
	for i := range 24 {
		b, _ = b.Advance(time.Hour, d.Mean)
		r.Forecast = append(r.Forecast, credit.Point{At: at.Add(time.Duration(i+1) * time.Hour), Demand: d, Balance: b.Position()})
	}
	return r
}

// baseline makes the services spend exactly what is earned, so that headroom is balance less reserve.
var baseline = credit.Demand{Mean: 0.4, High: 0.4}

// busy is more than the baseline: what a job spends is taken from the services in the end.
var busy = credit.Demand{Mean: 0.5, High: 0.5}

// decide makes a decision with a reserve of 48 unless another is set, and checks what holds for every decision.
func decide(t *testing.T, s State, in Input) (State, Decision) {
	t.Helper()
	if in.Settings.Reserve == 0 {
		in.Settings.Reserve = 48
	}
	before, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	next, d := Next(s, in)
	if after, _ := json.Marshal(s); string(after) != string(before) {
		t.Errorf("Next changed its argument:\n%s\n%s", before, after)
	}
	// What is remembered survives being kept as JSON.
	blob, err := json.Marshal(next)
	if err != nil {
		t.Fatal(err)
	}
	var again State
	if err := json.Unmarshal(blob, &again); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(next, again, cmpopts.EquateEmpty()); d != "" {
		t.Error("JSON changes the state:", d)
	}
	return again, d
}

func TestDefaults(t *testing.T) {
	for typ, reserve := range map[string]float64{"t3.small": 96, "t3.nano": 28.8, "t3.2xlarge": 288, "t2.micro": 28.8, "t2.large": 84} {
		spec, _ := credit.Lookup(typ)
		if got := (Settings{}).For(spec); got.Reserve < reserve-1e-6 || got.Reserve > reserve+1e-6 || got.Horizon != 12*time.Hour {
			t.Errorf("%s: %+v, want reserve %v", typ, got, reserve)
		}
	}
	spec, _ := credit.Lookup("t3.small")
	got := Settings{Reserve: -1, OpenMark: 7, Dwell: time.Second, SurplusLimit: -5}.For(spec)
	if got.Reserve != 0 || got.OpenMark != 7 || got.Dwell != time.Second || got.SurplusLimit != 0 {
		t.Errorf("own choices: %+v", got)
	}
}

func TestOpenOrClosed(t *testing.T) {
	old := saved(noon, 300, baseline)
	old.AnchorAt, old.ErrorBar = noon.Add(-9*time.Hour), 100
	forgotten := old
	forgotten.ErrorBar = 116
	deaf := saved(noon, 300, baseline)
	deaf.MeterAt = noon.Add(-2 * time.Minute)
	vague := saved(noon, 300, baseline)
	vague.ErrorBar = 230
	unanchored := saved(noon, 300, baseline)
	unanchored.Known = false
	plain := credit.Report{MeterAt: noon, Type: "m5.large", VCPUs: 2, NowKnown: true, Now: credit.Spent{Services: 0.3, Batch: 1.6}}
	crowded := plain
	crowded.Now.Services = 1.1
	unlimited := saved(noon, 0, baseline)
	unlimited.Bank.Mode = credit.Unlimited
	tests := []struct {
		name     string
		credits  credit.Report
		settings Settings
		hold     string
		open     bool
		known    bool
		headroom float64
		reason   string
	}{
		{name: "enough", credits: saved(noon, 300, baseline), open: true, known: true, headroom: 252, reason: "batches may spend 252.0 credits (balance 300.0 ±0.0, reserve 48.0, promised 0.0)"},
		{name: "below the mark", credits: saved(noon, 70, baseline), known: true, headroom: 22, reason: "the headroom of 22.0 credits is below the mark of 28.8"},
		{name: "below the reserve", credits: saved(noon, 40, baseline), known: true, reason: "nothing is left to spend: 40.0 credits are sure now and 48.0 must stay"},
		{name: "services will need more", credits: saved(noon, 250, credit.Demand{Mean: 0.3, High: 0.8}), known: true, headroom: 0, reason: "the services alone may need 38.0 credits more than there are by 00:00 UTC, and"},
		{name: "services will need it", credits: saved(noon, 300, credit.Demand{Mean: 0.3, High: 0.8}), known: true, headroom: 0, reason: "the services alone may bring the balance to 12.0 by 00:00 UTC"},
		{name: "a nearer horizon", credits: saved(noon, 300, credit.Demand{Mean: 0.3, High: 0.8}), settings: Settings{Horizon: 6 * time.Hour}, open: true, known: true, headroom: 108, reason: "may spend 108.0"},
		{name: "not sure enough", credits: vague, known: true, headroom: 22, reason: "±230.0"},
		{name: "no reserve wanted", credits: saved(noon, 40, baseline), settings: Settings{Reserve: -1}, open: true, known: true, headroom: 40, reason: "reserve 0.0"},
		{name: "nothing known at all", credits: credit.Report{}, reason: "the instance type is not known yet"},
		{name: "no point yet", credits: unanchored, reason: "not known yet"},
		{name: "an old anchor that is nearly right", credits: old, open: true, known: true, headroom: 152, reason: "balance 300.0 ±100.0"},
		{name: "an old anchor", credits: forgotten, reason: "9h0m0s old, and by now may be wrong by 116.0 credits, more than 115.2"},
		{name: "an anchor that is too old for the operator", credits: old, settings: Settings{StaleAfter: time.Hour}, reason: "9h0m0s old, more than 1h0m0s"},
		{name: "meter dead", credits: deaf, reason: "CPU time has not been read"},
		{name: "held", credits: saved(noon, 300, baseline), hold: "spot interruption", known: true, headroom: 252, reason: "held: spot interruption"},
		{name: "unlimited spends no surplus", credits: unlimited, known: true, reason: "nothing is left"},
		{name: "unlimited within its limit", credits: unlimited, settings: Settings{Reserve: -1, SurplusLimit: 100}, open: true, known: true, headroom: 100, reason: "may spend 100.0"},
		{name: "no credits, idle", credits: plain, open: true, known: true, reason: "the services use 15 % of 2 processors"},
		{name: "no credits, busy", credits: crowded, known: true, reason: "55 % of 2 processors, the mark is 50 %"},
		{name: "no credits, load unknown", credits: credit.Report{MeterAt: noon, Type: "m5.large", VCPUs: 2}, reason: "load is not known"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, d := decide(t, State{}, Input{Now: noon, Credits: tt.credits, Settings: tt.settings, Hold: tt.hold})
			if d.Open != tt.open || d.Known != tt.known || !strings.Contains(d.Reason, tt.reason) {
				t.Errorf("open %v, known %v: %s", d.Open, d.Known, d.Reason)
			}
			if diff := d.Headroom - tt.headroom; diff > 0.1 || diff < -0.1 {
				t.Errorf("headroom %.2f, want %.2f", d.Headroom, tt.headroom)
			}
			if !d.ValidUntil.After(d.NextCheck) || !d.NextCheck.After(noon) {
				t.Errorf("next check %v, valid until %v", d.NextCheck, d.ValidUntil)
			}
		})
	}
}

func TestHysteresisAndDwell(t *testing.T) {
	var s State
	var d Decision
	now := noon
	for i, step := range []struct {
		after   time.Duration
		balance float64
		hold    string
		open    bool
	}{
		{0, 70, "", false},               // below the mark of 28.8 above 48
		{time.Minute, 80, "", false},     // above it, too soon
		{5 * time.Minute, 80, "", true},  // now
		{time.Minute, 70, "", true},      // between the marks
		{time.Minute, 60, "", true},      // below the lower mark, too soon
		{5 * time.Minute, 60, "", false}, // now
		{6 * time.Minute, 70, "", false}, // between the marks again
		{time.Minute, 300, "", true},
		{time.Second, 48, "", false},             // nothing left closes at once
		{6 * time.Minute, 300, "", true},         //
		{time.Second, 300, "maintenance", false}, // so does a hold
		{time.Minute, 300, "", false},
	} {
		now = now.Add(step.after)
		s, d = decide(t, s, Input{Now: now, Credits: saved(now, step.balance, baseline), Hold: step.hold})
		if d.Open != step.open || d.Open != s.Open {
			t.Errorf("step %d: open %v: %s", i, d.Open, d.Reason)
		}
	}
	if !d.Since.Equal(now.Add(-time.Minute)) {
		t.Errorf("since %v", d.Since)
	}
}

// A new agent knows nothing for a moment; once it does, nobody waits for a dwell.
func TestFirstKnowledgeDoesNotDwell(t *testing.T) {
	s, d := decide(t, State{}, Input{Now: noon})
	if d.Open || d.Known {
		t.Fatalf("open %v, known %v without any knowledge", d.Open, d.Known)
	}
	now := noon.Add(time.Second)
	if s, d = decide(t, s, Input{Now: now, Credits: saved(now, 300, baseline)}); !d.Open {
		t.Errorf("closed although 300 credits are known: %s", d.Reason)
	}
	now = now.Add(time.Second)
	if _, d = decide(t, s, Input{Now: now, Credits: saved(now, 60, baseline)}); !d.Open {
		t.Errorf("the second change came too soon: %s", d.Reason)
	}
}

func TestOpensAt(t *testing.T) {
	// 40 credits, gaining 12 an hour: 76.8 is passed in the fourth.
	_, d := decide(t, State{}, Input{Now: noon, Credits: saved(noon, 40, credit.Demand{Mean: 0.2, High: 0.2})})
	if !d.OpensAt.Equal(noon.Add(4 * time.Hour)) {
		t.Errorf("opens at %v", d.OpensAt)
	}
}

func ask(id string, need float64, at time.Time) Asked {
	return Asked{Job: Job{ID: id, Name: "job-" + id, Need: need}, State: Waiting, At: at}
}

// phases shows the queue as "id:state", most urgent first.
func phases(d Decision) string {
	var w []string
	for _, e := range d.Jobs {
		w = append(w, fmt.Sprintf("%s:%s", e.ID, e.Phase))
	}
	return strings.Join(w, " ")
}

func TestQueue(t *testing.T) {
	due := func(a Asked, d time.Duration) Asked { a.Deadline = noon.Add(d); return a }
	refuse := func(a Asked) Asked { a.Late = LateRefuse; return a }
	cores := func(a Asked, n float64) Asked { a.Cores = n; return a }
	running := func(a Asked, spent float64) Asked { a.State, a.Spent = Running, spent; return a }
	tests := []struct {
		name     string
		balance  float64
		services credit.Demand // baseline if zero
		hold     string
		asked    []Asked
		want     string
		code     string
		reason   string
	}{
		{name: "fits", balance: 300, asked: []Asked{ask("a", 100, noon)}, want: "a:admitted", reason: "needs 100.0 credits: batches may spend as many"},
		{name: "it would take from the services", balance: 100, services: busy, asked: []Asked{ask("a", 60, noon)}, want: "a:waiting"},
		{name: "it never ends", balance: 300, asked: []Asked{ask("a", 900, noon)}, want: "a:waiting", code: "job-never-fits"},
		{name: "earliest deadline first", balance: 300, asked: []Asked{due(ask("a", 140, noon), 20*time.Hour), ask("b", 200, noon.Add(-time.Minute)), due(ask("c", 140, noon), 10*time.Hour)}, want: "c:admitted a:waiting b:waiting"},
		{name: "one that never fits blocks nobody", balance: 300, asked: []Asked{due(ask("a", 900, noon), 40*time.Hour), ask("b", 1, noon)}, want: "b:admitted a:waiting", code: "job-never-fits"},
		{name: "the services would lose more than it is worth", balance: 100, services: busy, asked: []Asked{due(ask("a", 120, noon), 2*time.Hour)}, want: "a:waiting", code: "job-late"},
		{name: "latest start has not come", balance: 100, services: busy, asked: []Asked{due(ask("a", 120, noon), 205*time.Minute)}, want: "a:waiting"},
		{name: "slower, so earlier", balance: 100, services: busy, asked: []Asked{cores(due(ask("a", 120, noon), 205*time.Minute), 1)}, want: "a:waiting", code: "job-late"},
		{name: "refused at its own wish", balance: 100, services: busy, asked: []Asked{refuse(due(ask("a", 120, noon), 20*time.Minute))}, want: "a:refused", code: "job-refused", reason: "refused: needs 120.0 credits: cannot end in time"},
		{name: "it goes on waiting when it cannot end in time", balance: 100, services: busy, asked: []Asked{due(ask("a", 120, noon), 20*time.Minute)}, want: "a:waiting", code: "job-late"},
		{name: "held even at its latest start", balance: 300, hold: "leaving", asked: []Asked{due(ask("a", 1, noon), time.Minute)}, want: "a:waiting"},
		{name: "running jobs hold what they have not spent", balance: 300, asked: []Asked{running(ask("a", 200, noon), 150), ask("b", 150, noon)}, want: "a:running b:admitted"},
		{name: "so less is left", balance: 450, services: busy, asked: []Asked{running(ask("a", 300, noon), 0), due(ask("b", 100, noon), 10*time.Hour)}, want: "b:waiting a:running"},
		{name: "without a declared need", balance: 300, asked: []Asked{ask("a", 0, noon)}, want: "a:admitted", reason: "needs 57.6 credits:"},
		{name: "nonsense is not heard", balance: 300, asked: []Asked{ask("", 1, noon), ask("a b", 1, noon), ask("n", -1, noon), {Job: Job{ID: "x", Name: "x"}, State: "sleeping", At: noon}, ask("old", 1, noon.Add(-time.Hour))}, want: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.services == (credit.Demand{}) {
				tt.services = baseline
			}
			in := Input{Now: noon, Credits: saved(noon, tt.balance, tt.services), Asked: tt.asked, Hold: tt.hold}
			s, d := decide(t, State{}, in)
			if got := phases(d); got != tt.want {
				t.Errorf("got %q, want %q: %+v", got, tt.want, d.Jobs)
			}
			var codes []string
			for _, p := range d.Problems {
				codes = append(codes, p.Code)
			}
			if got := strings.Join(codes, " "); got != tt.code {
				t.Errorf("problems %q, want %q", got, tt.code)
			}
			var reasons string
			for _, e := range d.Jobs {
				reasons += e.Reason + "\n"
			}
			if !strings.Contains(reasons, tt.reason) || (tt.reason == "" && strings.Contains(reasons, "although")) {
				t.Errorf("reasons %q, want %q", reasons, tt.reason)
			}
			if len(d.Notes) != 0 { // the journal has a line for the entry already
				t.Errorf("notes %q beside the entries", d.Notes)
			}
			// Saying the same again changes nothing and notes nothing.
			_, again := decide(t, s, in)
			if len(again.Notes) != 0 || phases(again) != tt.want || len(again.Problems) != len(d.Problems) {
				t.Errorf("a second time: %q, notes %q, problems %+v", phases(again), again.Notes, again.Problems)
			}
		})
	}
}

// A job runs if what the services may lose by it, three times, is less than what it is worth, and not where it cannot end in time.
func TestAJobIsWeighedAgainstTheServices(t *testing.T) {
	quiet := credit.Demand{Mean: 0.1, High: 0.6}
	known := State{History: map[string]Past{"job-a": {Costs: []float64{120, 120, 120}, At: noon.Add(-day)}}}
	for _, tt := range []struct {
		name    string
		s       State
		balance float64
		demand  credit.Demand
		want    string
		why     string
	}{
		{name: "only a high demand would miss it", s: known, balance: 150, demand: quiet, want: "a:admitted", why: "now is the best time"},
		{name: "the services need it", balance: 150, demand: credit.Demand{Mean: 0.5, High: 0.6}, want: "a:waiting", why: "may take 139.5 from the services (expected cost: now 456.8, never 139.5)"},
		{name: "the bank is too low for it to end in time", s: known, balance: 20, demand: credit.Demand{Mean: 0.1, High: 0.4}, want: "a:refused", why: "cannot end in time"},
	} {
		a := ask("a", 120, noon)
		a.Deadline, a.Late = noon.Add(75*time.Minute), LateRefuse
		_, d := decide(t, tt.s, Input{Now: noon, Credits: saved(noon, tt.balance, tt.demand), Asked: []Asked{a}})
		if phases(d) != tt.want || !strings.Contains(d.Jobs[0].Reason, tt.why) {
			t.Errorf("%s: %s: %s", tt.name, phases(d), d.Jobs[0].Reason)
		}
	}
}

// A job that is late waits for an hour in which it does no harm, and is run in four weeks in any case.
func TestALateJobWaitsForAnHourWithoutHarm(t *testing.T) {
	for _, tt := range []struct {
		late   time.Duration
		demand credit.Demand
		want   string
	}{
		{late: time.Hour, demand: busy, want: "a:waiting"},
		{late: time.Hour, demand: credit.Demand{Mean: 0.1, High: 0.2}, want: "a:admitted"},
		{late: 20 * day, demand: busy, want: "a:waiting"},
		{late: 28*day + time.Hour, demand: busy, want: "a:admitted"},
	} {
		a := ask("a", 120, noon)
		a.Deadline = noon.Add(-tt.late)
		_, d := decide(t, State{}, Input{Now: noon, Credits: saved(noon, 300, tt.demand), Asked: []Asked{a}})
		if phases(d) != tt.want || len(d.Problems) != 1 || d.Problems[0].Code != "job-late" {
			t.Errorf("%s late: %s: %s %+v", tt.late, phases(d), d.Jobs[0].Reason, d.Problems)
		}
	}
}

// What is saved is free to spend where surplus costs money; what would be billed in the next two days is not.
func TestNoJobIsBilledBeyondWhatIsAllowed(t *testing.T) {
	for _, tt := range []struct {
		name     string
		position float64
		limit    float64
		want     string
	}{
		{name: "the saved balance", position: 300, want: "a:admitted"},
		{name: "surplus that is repaid in a day", position: 0, want: "a:admitted"},
		{name: "more than a day's earnings would be owed", position: -500, want: "a:waiting"},
		{name: "that is allowed", position: -500, limit: 400, want: "a:admitted"},
	} {
		c := saved(noon, 0, credit.Demand{Mean: 0.1, High: 0.1})
		c.Bank.Mode = credit.Unlimited
		c.Bank = c.Bank.Holding(tt.position)
		a := ask("a", 150, noon)
		a.Deadline = noon.Add(3 * time.Hour)
		in := Input{Now: noon, Credits: c, Settings: Settings{SurplusLimit: tt.limit}, Asked: []Asked{a}}
		if _, d := decide(t, State{}, in); phases(d) != tt.want {
			t.Errorf("%s: %+v", tt.name, d.Jobs)
		}
	}
}

// expectedToNeed is of a job that ran once.
func expectedToNeed(credits float64) Past {
	return Past{Costs: []float64{credits / (Past{Costs: []float64{1}}).expect(0, 0)}, At: noon.Add(-day)}
}

// Jobs with one deadline start in time for all of them, not each as if it were alone.
func TestLatestStartsLeaveTimeForWhatFollows(t *testing.T) {
	var asked []Asked
	for i, need := range []float64{32, 64, 16} {
		a := ask(fmt.Sprint(i), need, noon.Add(time.Duration(i)*time.Second))
		a.Deadline, a.Cores = noon.Add(10*time.Hour), 1
		asked = append(asked, a)
	}
	s := State{History: map[string]Past{"job-0": expectedToNeed(32), "job-2": expectedToNeed(16)}}
	_, d := decide(t, s, Input{Now: noon.Add(3 * time.Second), Credits: saved(noon, 50, baseline), Asked: asked})
	// 1.6 processors of 2 are free, so that a job of one core has 0.8. The last takes 20 minutes, the least margin is 5. The second takes
	// 80, is not measured, and a quarter more. The first takes 40 and a quarter more, beside the second, before the last begins.
	for i, before := range []time.Duration{75 * time.Minute, 200 * time.Minute, 25 * time.Minute} {
		if e, _ := d.Job(fmt.Sprint(i)); !e.LatestStart.Round(time.Second).Equal(noon.Add(10*time.Hour - before)) {
			t.Errorf("job %d: latest start %v before the deadline, want %v", i, e.Deadline.Sub(e.LatestStart), before)
		}
	}
}

// What a job of later deadline takes of the processors until then is not there for one before it.
func TestTheLatestStartLeavesOutWhatALaterJobTakes(t *testing.T) {
	long, short := ask("long", 64, noon), ask("short", 40, noon)
	long.Deadline, long.Cores = noon.Add(10*time.Hour), 1
	short.Deadline, short.Cores = noon.Add(9*time.Hour), 2
	s := State{History: map[string]Past{long.Name: expectedToNeed(64), short.Name: expectedToNeed(40)}}
	_, d := decide(t, s, Input{Now: noon, Credits: saved(noon, 50, baseline), Asked: []Asked{long, short}})
	// Of 1.6 processors the long one has 0.8 for its last 100 minutes, so that the short one has 0.8 in the 40 minutes before its deadline: 32 of 50 credits. The rest takes
	// 11 minutes and a quarter on all of them.
	if e, _ := d.Job("short"); !e.LatestStart.Round(time.Second).Equal(short.Deadline.Add(-51*time.Minute - 15*time.Second)) {
		t.Errorf("latest start %v before the deadline", short.Deadline.Sub(e.LatestStart))
	}
}

// Of two jobs whose window is too short for both, the second waits for the end of the first even if that needs more
// than was said: what it would lose is all that it needs, not only what it has not spent yet. How much more it needs is
// seen from what it has spent.
func TestTheSecondOfTwoLeavesTheProcessorsToTheFirst(t *testing.T) {
	for _, tt := range []struct{ need, within, after, spent float64 }{
		{need: 14.4, within: 15, after: 5, spent: 8},
		{need: 14.4, within: 15, after: 5, spent: 9.7},
		{need: 59.8, within: 44.85, after: 20, spent: 37},
		{need: 59.8, within: 44.85, after: 20, spent: 39},
		{need: 59.8, within: 44.85, after: 25, spent: 48},
	} {
		first, second := ask("first", tt.need, noon), ask("second", tt.need, noon)
		first.Deadline, second.Deadline = noon.Add(minutes(tt.within)), noon.Add(minutes(tt.within))
		first.Cores, second.Cores = 2, 2
		idle := credit.Demand{Mean: 0.05, High: 0.1}
		s, d := decide(t, State{}, Input{Now: noon, Credits: saved(noon, 500, idle), Asked: []Asked{first, second}})
		if phases(d) != "first:admitted second:waiting" {
			t.Fatal(phases(d))
		}
		now := noon.Add(minutes(tt.after))
		first.State, first.Spent, first.At, second.At = Running, tt.spent, now, now
		s.At = now // it has decided all the time
		if _, d = decide(t, s, Input{Now: now, Credits: saved(now, 490, idle), Asked: []Asked{first, second}}); phases(d) != "first:running second:waiting" {
			t.Errorf("%+v: %s: %+v", tt, phases(d), d.Jobs)
		}
	}
}

// A job at its latest start runs although nothing can be judged, but not where it may be that it is billed.
func TestLateAdmissionWithoutKnowledge(t *testing.T) {
	standard := saved(noon, 0, baseline)
	standard.Known = false
	guessed, unlimited := standard, standard
	guessed.ModeKnown = false
	unlimited.Bank.Mode = credit.Unlimited
	for _, tt := range []struct {
		name      string
		credits   credit.Report
		want, why string
	}{
		{"standard", standard, "a:admitted", "cannot be judged: the credit balance is not known yet"},
		{"unlimited", unlimited, "a:waiting", "the credit balance is not known yet: no point of CloudWatch has arrived, and surplus may cost money"},
		{"a mode that nobody has said", guessed, "a:waiting", "and surplus may cost money"},
		{"a type that nobody has said", credit.Report{}, "a:waiting", "the instance type is not known yet, and surplus may cost money"},
		{"no credits", credit.Report{Type: "m5.large", VCPUs: 2}, "a:admitted", "cannot be judged"},
	} {
		a := ask("a", 10, noon)
		a.Deadline = noon.Add(time.Minute)
		_, d := decide(t, State{}, Input{Now: noon, Credits: tt.credits, Asked: []Asked{a}})
		if phases(d) != tt.want || d.Open || !strings.Contains(d.Jobs[0].Reason, tt.why) {
			t.Errorf("%s: open %v, %+v", tt.name, d.Open, d.Jobs)
		}
	}
}

// While EC2 has not said the mode, what a standard bank would withhold counts as billed: only what is saved is spent.
func TestAModeThatNobodyHasSaidCountsAsPaid(t *testing.T) {
	for _, tt := range []struct {
		name    string
		balance float64
		known   bool
		limit   float64
		want    string
		open    bool
	}{
		{name: "saved", balance: 500, want: "a:admitted", open: true},
		{name: "half of it is not there", balance: 75, want: "a:waiting"},
		{name: "half of it is not there, in standard mode", balance: 75, known: true, want: "a:admitted"},
		{name: "half of it may be billed", balance: 75, limit: 400, want: "a:admitted", open: true},
	} {
		c := saved(noon, tt.balance, baseline)
		c.ModeKnown = tt.known
		a := ask("a", 150, noon)
		a.Deadline = noon.Add(100 * time.Minute)
		_, d := decide(t, State{}, Input{Now: noon, Credits: c, Settings: Settings{SurplusLimit: tt.limit}, Asked: []Asked{a}})
		if phases(d) != tt.want || d.Open != tt.open {
			t.Errorf("%s: open %v (%s), %+v", tt.name, d.Open, d.Reason, d.Jobs)
		}
	}
}

func TestLifeOfAJob(t *testing.T) {
	var s State
	var d Decision
	balance := 300.0
	step := func(at time.Duration, asked ...Asked) {
		t.Helper()
		now := noon.Add(at)
		for i := range asked {
			asked[i].At = now
		}
		s, d = decide(t, s, Input{Now: now, Credits: saved(now, balance, baseline), Asked: asked})
	}
	a := ask("a", 100, noon)
	step(0, a)
	if phases(d) != "a:admitted" || d.Promised != 100 || d.Free > d.Headroom-99 {
		t.Fatalf("%s promised %v, free %v of %v", phases(d), d.Promised, d.Free, d.Headroom)
	}
	a.State, a.Spent, balance = Running, 30, 270
	step(30*time.Second, a)
	if e, _ := d.Job("a"); d.Promised != 70 || e.Reason != "has spent 30.0 of 100.0 credits" {
		t.Errorf("promised %v: %+v", d.Promised, e)
	}
	a.Spent, balance = 120, 180
	step(time.Minute, a)
	if d.Promised != 10 {
		t.Errorf("beyond its need it is granted a tenth at a time: promised %v", d.Promised)
	}
	a.State, a.Spent = Done, 125
	step(80*time.Second, a)
	step(90*time.Second, a)
	if phases(d) != "a:done" || d.Promised != 0 {
		t.Errorf("%s, promised %v", phases(d), d.Promised)
	}
	if got := s.History["job-a"].Costs; !cmp.Equal(got, []float64{125}) {
		t.Errorf("history: %v", got)
	}
	// Another run under the same id is not mistaken for the one that is done, and its need is learned.
	again := ask("a", 100, noon)
	step(100*time.Second, again)
	if e, _ := d.Job("a"); e.Phase != Admitted || e.Expected != s.History["job-a"].expect(100, 0) || e.Spent != 0 {
		t.Errorf("second run: %+v", e)
	}
	// It falls silent while admitted.
	for at := 110 * time.Second; at <= 240*time.Second; at += 30 * time.Second {
		step(at)
	}
	if len(d.Jobs) != 0 || len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "credits is released") {
		t.Errorf("jobs %+v, notes %q", d.Jobs, d.Notes)
	}
}

// Runs that die at once say nothing of what a whole one needs.
func TestFailedRunsTeachNothing(t *testing.T) {
	var s State
	now := noon
	for i := range 4 {
		a := ask("a", 150, now)
		a.ID = fmt.Sprint(i)
		for _, phase := range []Phase{Waiting, Running, Done} {
			a.State, a.At = phase, now
			if phase != Waiting {
				a.Spent = 0.02
			}
			s, _ = decide(t, s, Input{Now: now, Credits: saved(now, 500, baseline), Asked: []Asked{a}})
			now = now.Add(time.Second)
		}
	}
	if _, d := decide(t, s, Input{Now: now, Credits: saved(now, 500, baseline), Asked: []Asked{ask("b", 150, now), {Job: Job{ID: "last", Name: "job-a", Need: 150}, State: Waiting, At: now}}}); len(d.Jobs) == 0 || d.Jobs[len(d.Jobs)-1].Expected != 150 {
		t.Errorf("%+v", d.Jobs)
	}
}

func TestAbsenceOfTheGateIsNotSilence(t *testing.T) {
	s, _ := decide(t, State{}, Input{Now: noon, Credits: saved(noon, 300, baseline), Asked: []Asked{ask("a", 100, noon)}})
	back := noon.Add(time.Hour)
	s, d := decide(t, s, Input{Now: back, Credits: saved(back, 300, baseline)})
	if phases(d) != "a:admitted" {
		t.Errorf("after an hour away: %q", phases(d))
	}
	for at := back; !at.After(back.Add(3 * time.Minute)); at = at.Add(30 * time.Second) {
		s, d = decide(t, s, Input{Now: at, Credits: saved(at, 300, baseline)})
	}
	if len(d.Jobs) != 0 {
		t.Errorf("three minutes later: %q", phases(d))
	}
}

// What is over is forgotten, however seldom the gate decides: it would fill the books.
func TestWhatIsOverIsForgotten(t *testing.T) {
	var s State
	var d Decision
	for i := range 20 {
		now := noon.Add(time.Duration(i) * 5 * time.Minute)
		a := ask(fmt.Sprint(i), 1, now)
		s, _ = decide(t, s, Input{Now: now, Credits: saved(now, 300, baseline), Asked: []Asked{a}})
		a.State, a.Spent, a.At = Done, 1, now.Add(time.Second)
		s, d = decide(t, s, Input{Now: a.At, Credits: saved(a.At, 300, baseline), Asked: []Asked{a}})
	}
	if len(d.Jobs) > 2 {
		t.Errorf("%d jobs are kept: %s", len(d.Jobs), phases(d))
	}
}

func TestQueueWithoutCredits(t *testing.T) {
	r := credit.Report{MeterAt: noon, Type: "m5.large", VCPUs: 2, NowKnown: true, Now: credit.Spent{Services: 0.3}}
	one := func(id string) Asked { a := ask(id, 10, noon); a.Cores = 1; return a }
	_, d := decide(t, State{}, Input{Now: noon, Credits: r, Asked: []Asked{one("a"), one("b"), one("c")}})
	if phases(d) != "a:admitted b:admitted c:waiting" || d.Open {
		t.Errorf("%s, open %v: %s", phases(d), d.Open, d.Reason)
	}
	_, d = decide(t, State{}, Input{Now: noon, Credits: r, Asked: []Asked{ask("all", 10, noon), one("b")}})
	if phases(d) != "all:admitted b:waiting" {
		t.Errorf("a job that uses all processors: %s", phases(d))
	}
}

func TestBounds(t *testing.T) {
	var s State
	in := Input{Now: noon, Credits: saved(noon, 10, baseline)}
	for i := range mostJobs + 5 {
		in.Asked = append(in.Asked, ask(fmt.Sprintf("j%d", i), 5, noon))
	}
	s, d := decide(t, s, in)
	if len(s.Jobs) != mostJobs || len(d.Problems) == 0 || d.Problems[0].Code != "queue-full" {
		t.Errorf("%d jobs, problems %+v", len(s.Jobs), d.Problems)
	}
	for i := range mostNames + 5 {
		s.recordCost(Entry{Job: Job{Name: fmt.Sprintf("n%d", i)}, Spent: 5}, noon.Add(time.Duration(i)*time.Second))
	}
	if _, oldest := s.History["n0"]; len(s.History) != mostNames || oldest {
		t.Errorf("%d names, the oldest among them: %v", len(s.History), oldest)
	}
	for i := range 50 {
		s.recordCost(Entry{Job: Job{Name: "n"}, Spent: float64(i + 1)}, noon.Add(time.Hour))
	}
	if got := s.History["n"].Costs; len(got) != mostCosts || got[mostCosts-1] != 50 || len(s.History["n"].Came) != mostCosts {
		t.Errorf("costs %v", got)
	}
}

func TestText(t *testing.T) {
	late := ask("late", 400, noon)
	late.Deadline = noon.Add(time.Hour)
	s, d := Next(State{}, Input{Now: noon, Credits: saved(noon, 300, busy), Settings: Settings{Reserve: 48}, Asked: []Asked{ask("nightly-1", 100, noon), ask("big", 120, noon), late}})
	shut, _ := Next(s, Input{Now: noon.Add(10 * time.Minute), Credits: saved(noon.Add(10*time.Minute), 40, credit.Demand{Mean: 0.1, High: 0.2}), Settings: Settings{Reserve: 48}})
	_, closed := Next(shut, Input{Now: noon.Add(11 * time.Minute), Credits: saved(noon.Add(11*time.Minute), 40, credit.Demand{Mean: 0.1, High: 0.2}), Settings: Settings{Reserve: 48}})
	for name, r := range map[string]Report{
		"queue": {Decision: d, Published: Published{
			Outlets:  []Outlet{{Name: "file", Target: "/run/nagaya/gate.json", Known: true, Open: true, At: noon}, {Name: "batch", Target: "nightly-ce"}},
			Problems: []problem.Problem{{Code: "batch-denied", Severity: problem.Error, Subject: "batch", Text: "AWS Batch refused", Hint: "Allow it."}},
		}},
		"closed":    {Decision: closed},
		"undecided": {},
		"not-known": {Decision: func() Decision { _, d := Next(State{}, Input{Now: noon}); return d }()},
		"no-credits": {Decision: func() Decision {
			_, d := Next(State{}, Input{Now: noon, Credits: credit.Report{MeterAt: noon, Type: "m5.large", VCPUs: 2, NowKnown: true}})
			return d
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".golden")
			got := r.Text(noon.Add(11*time.Minute + 5*time.Second))
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("%s differs (-want +got); -update rewrites it:\n%s", path, d)
			}
		})
	}
}

// FuzzNext lets clients say anything: no panic, bounded books, promises and the queue's order hold.
func FuzzNext(f *testing.F) {
	f.Add("a", "n", 10.0, 5.0, 1.0, int64(3600), "waiting", "run", 300.0)
	f.Add("a", "n", -1.0, 5e9, 1.0, int64(-3600), "done", "refuse", 0.0)
	f.Fuzz(func(t *testing.T, id, name string, need, spent, cores float64, due int64, state, lateness string, balance float64) {
		a := Asked{Job: Job{ID: id, Name: name, Need: need, Cores: cores, Late: Late(lateness), Deadline: noon.Add(time.Duration(due) * time.Second)}, State: Phase(state), Spent: spent, At: noon}
		b := a
		b.ID += "2"
		s, d := Next(State{}, Input{Now: noon, Credits: saved(noon, min(max(balance, 0), 576), baseline), Asked: []Asked{a, b}})
		if !(d.Promised >= 0) || !(d.Free >= 0) || len(d.Jobs) > 2 {
			t.Errorf("%+v", d)
		}
		if _, err := json.Marshal(s); err != nil {
			t.Error(err)
		}
		Report{Decision: d}.Text(noon)
	})
}

// While nothing can be judged, a late job that would cost money waits, and the remedy is about money
// and not about windows.
func TestALateJobThatCannotBeJudged(t *testing.T) {
	old := saved(noon, 300, baseline)
	old.AnchorAt, old.ErrorBar, old.Bank.Mode = noon.Add(-31*time.Minute), 200, credit.Unlimited
	job := Entry{Job: Job{ID: "j", Name: "j", Need: 10, Deadline: noon}, Phase: Waiting, Heard: noon, Since: noon.Add(-time.Hour), LatestStart: noon.Add(-time.Minute)}
	_, d := decide(t, State{Jobs: []Entry{job}}, Input{Now: noon, Credits: old})
	for _, p := range d.Problems {
		if p.Code == "job-late" {
			if !strings.Contains(p.Hint, "gate.surplus-dollars") || strings.Contains(p.Hint, "gate.windows") {
				t.Errorf("the hint is %q", p.Hint)
			}
			return
		}
	}
	t.Errorf("no problem: %+v", d.Problems)
}
