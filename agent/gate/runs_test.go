package gate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A job that never ends keeps its next run from starting, night after night, and an overrun is a problem with a remedy.
func TestAJobDoesNotStartWhileItsLastRunHasNotEnded(t *testing.T) {
	var s State
	var d Decision
	run := func(night int, state Phase, late Late, spent float64, at time.Time) Asked {
		a := ask(fmt.Sprintf("night-%d", night), 50, at)
		a.Name, a.Late, a.State, a.Spent = "backup", late, state, spent
		a.Deadline = noon.Add(time.Duration(night)*day + 8*time.Hour)
		return a
	}
	step := func(at time.Time, asked ...Asked) {
		t.Helper()
		s, d = decide(t, s, Input{Now: at, Credits: saved(at, 500, baseline), Asked: asked})
	}
	step(noon, run(0, Waiting, LateRefuse, 0, noon))
	if phases(d) != "night-0:admitted" {
		t.Fatal(phases(d))
	}
	step(noon.Add(time.Second), run(0, Running, LateRefuse, 1, noon.Add(time.Second)))
	for night := 1; night <= 3; night++ {
		at := noon.Add(time.Duration(night) * day)
		step(at, run(0, Running, LateRefuse, 20, at), run(night, Waiting, LateRefuse, 0, at))
		if e, _ := d.Job(fmt.Sprintf("night-%d", night)); e.Phase != Waiting || !strings.Contains(e.Reason, "its run night-0, which began at 2026-03-02 12:00 UTC, has not ended") {
			t.Fatalf("night %d: %+v", night, e)
		}
		at = at.Add(8 * time.Hour)
		step(at, run(0, Running, LateRefuse, 20, at), run(night, Waiting, LateRefuse, 0, at))
		if e, _ := d.Job(fmt.Sprintf("night-%d", night)); e.Phase != Refused {
			t.Fatalf("night %d: %+v", night, e)
		}
	}
	// Where it would rather be late, it waits, and that is a problem.
	at := noon.Add(4*day + 8*time.Hour)
	step(at, run(0, Running, LateRefuse, 20, at), run(4, Waiting, LateRun, 0, at))
	if e, _ := d.Job("night-4"); e.Phase != Waiting || len(d.Problems) != 1 || d.Problems[0].Code != "job-late" || !strings.Contains(d.Problems[0].Hint, "--kill-after") {
		t.Errorf("%+v, problems %+v", e, d.Problems)
	}
	at = at.Add(time.Minute)
	step(at, run(0, Done, LateRefuse, 20, at), run(4, Waiting, LateRun, 0, at))
	if e, _ := d.Job("night-4"); strings.Contains(e.Reason, "has not ended") {
		t.Errorf("once that has ended: %+v", e)
	}
}

func TestOverruns(t *testing.T) {
	for _, tt := range []struct {
		need, spent float64
		want        string
	}{
		{50, 149, ""},
		{50, 151, "warning"},
		{50, 501, "error"},
		{0, 501, ""}, // nobody has said what it needs
	} {
		a := ask("a", tt.need, noon)
		a.State, a.Spent = Running, tt.spent
		_, d := decide(t, State{}, Input{Now: noon, Credits: saved(noon, 500, baseline), Asked: []Asked{a}})
		got := ""
		for _, p := range d.Problems {
			if p.Code != "job-overrun" || !strings.Contains(p.Hint, "--kill-after") {
				t.Errorf("%+v", p)
			}
			got = p.Severity.String()
		}
		if got != tt.want {
			t.Errorf("needs %v, has spent %v: %q, want %q", tt.need, tt.spent, got, tt.want)
		}
	}
}

// What a run had spent when it was ended says nothing of what a whole one needs.
func TestAnEndedRunTeachesNothing(t *testing.T) {
	a := ask("a", 50, noon)
	a.State = Running
	s, _ := decide(t, State{}, Input{Now: noon, Credits: saved(noon, 500, baseline), Asked: []Asked{a}})
	a.State, a.Spent, a.Killed, a.At = Done, 150, true, noon.Add(time.Minute)
	if s, _ = decide(t, s, Input{Now: a.At, Credits: saved(a.At, 500, baseline), Asked: []Asked{a}}); len(s.History) != 0 {
		t.Errorf("%+v", s.History)
	}
}

// A report that was on its way while the job ended does not bring it back: its next run would wait for it.
func TestAReportAfterTheEndIsIgnored(t *testing.T) {
	a := ask("a", 50, noon)
	var s State
	var d Decision
	for i, phase := range []Phase{Running, Done, Running} {
		a.State, a.At = phase, noon.Add(time.Duration(i)*time.Second)
		s, d = decide(t, s, Input{Now: a.At, Credits: saved(a.At, 500, baseline), Asked: []Asked{a}})
	}
	if phases(d) != "a:done" {
		t.Errorf("%+v", d.Jobs)
	}
}

// A job without a deadline that has waited for a day is reported, and comes before newer ones.
func TestAJobWithoutADeadlineAges(t *testing.T) {
	late := ask("new", 120, noon)
	late.Deadline = noon.Add(2 * time.Hour)
	for _, tt := range []struct {
		waited time.Duration
		want   string
		codes  string
	}{
		{23 * time.Hour, "old:waiting new:waiting", "job-late"},
		{21 * time.Hour, "new:waiting old:waiting", "job-late"},
		{25 * time.Hour, "old:waiting new:waiting", "job-waits job-late"},
	} {
		old := Entry{Job: Job{ID: "old", Name: "old", Need: 120}, Phase: Waiting, Since: noon.Add(-tt.waited), Heard: noon}
		_, d := decide(t, State{Jobs: []Entry{old}}, Input{Now: noon, Credits: saved(noon, 100, busy), Asked: []Asked{late}})
		var codes []string
		for _, p := range d.Problems {
			codes = append(codes, p.Code)
		}
		slices.Reverse(codes)
		if phases(d) != tt.want || strings.Join(codes, " ") != tt.codes {
			t.Errorf("after %s: %s, %v", tt.waited, phases(d), codes)
		}
	}
}

// life plays what a client says of one job, a second between, and returns what the gate knows then.
func life(t *testing.T, s State, a Asked, phases ...Phase) (State, Decision) {
	t.Helper()
	var d Decision
	for i, phase := range phases {
		b := a
		b.State, b.At = phase, a.At.Add(time.Duration(i)*time.Second)
		if phase == Waiting {
			b.Spent, b.Failed = 0, false
		}
		s, d = decide(t, s, Input{Now: b.At, Credits: saved(b.At, 500, baseline), Asked: []Asked{b}})
	}
	return s, d
}

// What a run had spent when it failed is the least that a whole one needs: less than was expected says nothing.
func TestAFailedRunTeachesOnlyThatMoreIsNeeded(t *testing.T) {
	for _, tt := range []struct {
		need, spent float64
		failed      bool
		learned     int
	}{
		{0, 0.01, true, 0},
		{50, 30, true, 0},
		{50, 60, true, 1},
		{0, 0.01, false, 1},
		{50, 30, false, 1},
	} {
		a := ask("a", tt.need, noon)
		a.Spent, a.Failed = tt.spent, tt.failed
		if s, _ := life(t, State{}, a, Waiting, Running, Done); len(s.History["job-a"].Costs) != tt.learned {
			t.Errorf("%+v: learned %+v", tt, s.History)
		}
	}
}

// A job that was taken back before it ran is not shown as one that is done, and a refused one stays refused.
func TestAJobThatNeverRanIsNotShownAsDone(t *testing.T) {
	if _, d := life(t, State{}, ask("a", 50, noon), Waiting, Done); !d.Jobs[0].Withdrawn || d.Jobs[0].Reason != "was withdrawn before it started" {
		t.Errorf("withdrawn: %+v", d.Jobs)
	}
	a := ask("a", 50, noon)
	if _, d := life(t, State{}, a, Waiting, Running, Done); d.Jobs[0].Withdrawn {
		t.Errorf("ran: %+v", d.Jobs)
	}
	a.Late, a.Deadline = LateRefuse, noon.Add(time.Second)
	if _, d := life(t, State{}, a, Waiting, Done); phases(d) != "a:refused" || len(d.Problems) != 1 || d.Problems[0].Code != "job-refused" {
		t.Errorf("refused: %+v, problems %+v", d.Jobs, d.Problems)
	}
}

// However much is free, what asks to be refused rather than late does not start when its deadline has passed.
func TestADeadlineThatHasPassedIsRefused(t *testing.T) {
	a := ask("a", 5, noon)
	a.Late, a.Deadline = LateRefuse, noon.Add(-time.Hour)
	if _, d := life(t, State{}, a, Waiting); phases(d) != "a:refused" || !strings.Contains(d.Jobs[0].Reason, "its deadline 2026-03-02 11:00 UTC has passed") {
		t.Errorf("%+v", d.Jobs)
	}
	a.Late = LateRun
	if _, d := life(t, State{}, a, Waiting); phases(d) == "a:refused" {
		t.Errorf("that may be late: %+v", d.Jobs)
	}
}

func TestAnEmptyQueueIsAListInJSON(t *testing.T) {
	if _, d := decide(t, State{}, Input{Now: noon, Credits: saved(noon, 500, baseline)}); d.Jobs == nil {
		t.Error("jobs is null")
	}
}
