package rehearsal

import (
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// byHour is a trace of so many days with the value that each hour of the day has, in per cent.
func byHour(days int, value func(day, hour int) float64) Trace {
	tr := Trace{Start: start, Step: credit.Period}
	for i := range days * 288 {
		tr.Values = append(tr.Values, value(i/288, i%288/12))
	}
	return tr
}

// Cases in which an earlier gate did badly, each for a whole kind.
func TestCasesThatWereLost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		o      Options
		job    Job
		line   string
		within time.Duration
		most   float64 // score
	}{
		{
			name: "a saved balance is free to spend, unlimited", o: Options{Mode: credit.Unlimited, Trace: byHour(14, func(int, int) float64 { return 1.5 })},
			job: Job{Name: "a", Need: 250, Estimate: 250}, line: "0 22 * * *", within: 8 * time.Hour, most: 0,
		},
		{
			name: "a whole balance is free to spend, unlimited, though no run was measured", o: Options{Mode: credit.Unlimited, Balance: 288, Trace: byHour(14, func(int, int) float64 { return 3 })},
			job: Job{Name: "a", Need: 288, Estimate: 288}, line: "0 12 * * 5", within: 19 * time.Hour, most: 0,
		},
		{
			name: "no hour is free of harm", o: Options{Trace: byHour(20, func(_, h int) float64 {
				if h >= 3 && h < 6 {
					return 100
				}
				return 3
			})},
			job: Job{Name: "a", Need: 100, Estimate: 100}, line: "0 22 * * *", within: 8 * time.Hour, most: 1950,
		},
		{
			name: "services that are throttled want more than they get", o: Options{Balance: 144, Trace: byHour(20, func(_, h int) float64 {
				if h >= 8 && h < 20 {
					return 20
				}
				return 2
			})},
			job: Job{Name: "a", Need: 30, Estimate: 30}, line: "0 20 * * *", within: 11 * time.Hour, most: 660,
		},
		{
			name: "weekdays repay what busy weekends leave owed", o: Options{Mode: credit.Unlimited, Balance: 144, Trace: byHour(28, busyWeekends)},
			job: Job{Name: "a", Need: 70, Estimate: 70}, line: "0 22 * * *", within: 9 * time.Hour, most: 70, // of the first weekend
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Spec = spec(t, "t3.micro")
			tt.o.Jobs = []Job{every(t, tt.line, tt.job, tt.within)}
			rep, err := Play(tt.o, Gate, Cron, Threshold)
			if err != nil {
				t.Fatal(err)
			}
			g, c, th := rep.Results[0], rep.Results[1], rep.Results[2]
			t.Logf("gate %.0f (in time %d, late %d, charged %.1f, taken %.1f), cron %.0f, threshold %.0f", g.Score, g.InTime, g.Late, g.ChargedForJobs, g.ThrottledByJobs/60, c.Score, th.Score)
			if g.Score > tt.most || g.ChargedForJobs > 0 {
				t.Errorf("score %.0f, at most %.0f", g.Score, tt.most)
			}
		})
	}
}

// Processors are a resource like credits: of two jobs that need all of them for the whole window, one is in time.
func TestOfTwoJobsThatExcludeEachOtherOneIsInTime(t *testing.T) {
	o := Options{Spec: spec(t, "t3.small"), Trace: byHour(12, func(int, int) float64 { return 1 }), Balance: 576}
	for _, name := range []string{"a", "b"} {
		o.Jobs = append(o.Jobs, every(t, "0 22 * * *", Job{Name: name, Need: 150, Estimate: 150, Cores: 2, Late: gate.LateRefuse}, 2*time.Hour))
	}
	rep, err := Play(o, Gate, Cron)
	if err != nil {
		t.Fatal(err)
	}
	if g := rep.Results[0]; g.InTime < 10 {
		t.Errorf("%d of %d in time, cron %d", g.InTime, len(g.Runs), rep.Results[1].InTime)
	}
}

// A night without CloudWatch closes no gate: what was measured since its last point says what the balance is.
func TestNightsWithoutCloudWatch(t *testing.T) {
	o := Options{Spec: spec(t, "t3.micro"), Trace: byHour(8, func(int, int) float64 { return 4 }), Balance: 144}
	o.Lost = func(n int) bool {
		hour := start.Add(time.Duration(n) * credit.Period).Hour()
		return hour >= 20 || hour < 8
	}
	o.Jobs = []Job{every(t, "0 22 * * *", Job{Name: "a", Need: 60, Estimate: 60, Late: gate.LateRefuse}, 8*time.Hour)}
	rep, err := Play(o, Gate)
	if err != nil {
		t.Fatal(err)
	}
	if g := rep.Results[0]; g.InTime != len(g.Runs) || g.ThrottledByJobs > 0 || g.WorstError > 8 {
		t.Errorf("%d of %d in time, %.0f vCPU-s taken, the balance was wrong by %.1f", g.InTime, len(g.Runs), g.ThrottledByJobs, g.WorstError)
	}
}

// A job without a deadline has its turn although new ones with deadlines come without end and need more than is spare.
func TestAJobWithoutADeadlineHasItsTurn(t *testing.T) {
	o := Options{Spec: spec(t, "t3.micro"), Trace: byHour(6, func(int, int) float64 { return 6 }), Balance: 100}
	o.Jobs = []Job{
		every(t, "0 */4 * * *", Job{Name: "new", Need: 25, Estimate: 25}, 12*time.Hour),
		{Name: "old", Need: 40, Estimate: 40, Starts: func(from, to time.Time) []time.Time {
			if at := start.Add(day); !at.Before(from) && at.Before(to) {
				return []time.Time{at}
			}
			return nil
		}},
	}
	rep, err := Play(o, Gate)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rep.Results[0].Runs {
		if r.Name == "old" && (r.Started.IsZero() || r.Started.Sub(r.Due) > 3*day) {
			t.Errorf("%+v", r)
		}
	}
}

// Where the services leave nothing, every credit of a job is taken from them: the gate does no worse than the better of cron and
// threshold. (Where credits cost money, what is owed can be seen to be billed only days ahead.)
func TestNothingToSpare(t *testing.T) {
	for _, late := range []gate.Late{gate.LateRun, gate.LateRefuse} {
		o := Options{Spec: spec(t, "t3.micro"), Balance: 144, Trace: byHour(8, func(_, h int) float64 {
			if h >= 8 && h < 20 {
				return 18
			}
			return 5
		})}
		o.Jobs = []Job{every(t, "0 22 * * *", Job{Name: "a", Need: 30, Estimate: 30, Late: late}, 8*time.Hour)}
		rep, err := Play(o, Gate, Cron, Threshold)
		if err != nil {
			t.Fatal(err)
		}
		if e := excess(rep); e > mostExcess {
			t.Errorf("%s: the gate is worse than the better of cron and threshold by %.1f %% of the jobs' credits", late, 100*e)
		}
	}
}

// Small jobs come each hour, and in eight hours of each day the services use almost twice what is earned. After a day or two that is
// known, so that the gate does no worse than who runs nothing.
func TestSmallJobsEachHourLeaveTheBusyHoursAlone(t *testing.T) {
	for _, tt := range []struct {
		need   float64
		mode   credit.Mode
		billed float64 // at most: the first day's
	}{{4, credit.Standard, 0}, {8, credit.Standard, 0}, {8, credit.Unlimited, 20}} {
		o := Options{Spec: spec(t, "t3.micro"), Mode: tt.mode, Trace: byHour(7, func(_, h int) float64 {
			if h >= 9 && h < 17 {
				return 18
			}
			return 4
		})}
		o.Jobs = []Job{every(t, "0 * * * *", Job{Name: "a", Need: tt.need}, 50*time.Minute)}
		rep, err := Play(o, Gate, Cron, Threshold)
		if err != nil {
			t.Fatal(err)
		}
		if e, billed := excess(rep), rep.Results[0].ChargedForJobs; e > mostExcess || billed > tt.billed {
			t.Errorf("need %v, %s: the gate is worse than the better of cron and threshold by %.1f %% of the jobs' credits; %.1f credits were billed", tt.need, tt.mode, 100*e, billed)
		}
	}
}

// What the brake does is rehearsed: a job that runs when the services become busy takes less from them.
func TestTheBrakeIsRehearsed(t *testing.T) {
	taken := map[gate.Slow]float64{}
	for _, slow := range []gate.Slow{gate.SlowOff, gate.SlowQuota, gate.SlowPause} {
		o := Options{Spec: spec(t, "t3.micro"), Balance: 144, Settings: gate.Settings{Slow: slow}, Trace: byHour(4, func(d, h int) float64 {
			if d == 2 && h > 2 && h < 8 {
				return 60
			}
			return 2
		})}
		o.Jobs = []Job{every(t, "0 2 * * *", Job{Name: "a", Need: 150, Estimate: 150, Cores: 1}, 5*time.Hour)}
		rep, err := Play(o, Gate)
		if err != nil {
			t.Fatal(err)
		}
		taken[slow] = rep.Results[0].ThrottledByJobs / 60
	}
	if taken[gate.SlowOff] < 1.3*taken[gate.SlowQuota] || taken[gate.SlowQuota] < taken[gate.SlowPause] {
		t.Errorf("credits taken from the services: %v", taken)
	}
}

// What is usual has no bursts, because they come at other hours each day: a bank that is nearly empty bears no job before the next one.
func TestAnEmptyBankBearsNoBurst(t *testing.T) {
	x := setting{"t3.micro", credit.Standard, services(t), 0.9, adHoc, needs[1].of, overload}
	run, _ := x.play(t, Gate, Cron)
	if g, c := run.atEnd.Results[0], run.atEnd.Results[1]; g.Score > 0.42*c.Score {
		t.Errorf("the gate's score is %.0f, of which %.0f credits were taken from the services; cron's is %.0f", g.Score, g.ThrottledByJobs/60, c.Score)
	}
}

// A job that is refused tells nothing of what it needs. It is not refused for ever where nobody knows that, nor because
// of a run that was long ago.
func TestARefusedJobIsTried(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first float64 // what the first run needs, of which is 5 afterwards
		least int     // runs in time of 20
	}{{"never measured", 5, 19}, {"the first run was a heavy one", 20, 10}} {
		o := Options{Spec: spec(t, "t3.micro"), Trace: byHour(21, func(int, int) float64 { return 1.5 }), Balance: 144}
		for i := range 20 {
			need := 5.0
			if i == 0 {
				need = tt.first
			}
			at := start.Add(time.Duration(i)*day + 22*time.Hour)
			o.Jobs = append(o.Jobs, once(share{"a", at, 15 * time.Minute, 0, 0.5}, need, 0, gate.LateRefuse))
		}
		rep, err := Play(o, Gate)
		if err != nil {
			t.Fatal(err)
		}
		if g := rep.Results[0]; g.InTime < tt.least {
			t.Errorf("%s: %d of %d in time; the last one: %s", tt.name, g.InTime, len(g.Runs), g.Decisions[len(g.Decisions)-1].Reason)
		}
	}
}

// One day on which the services use more than is earned says little of the next month: a job that the balance pays for runs.
func TestOneDayIsNotAMonth(t *testing.T) {
	o := Options{Spec: spec(t, "t3.micro"), Balance: 288, Trace: byHour(8, func(d, _ int) float64 {
		if d == 0 {
			return 12
		}
		return 2
	})}
	for d := range 7 {
		o.Jobs = append(o.Jobs, once(share{"a", start.Add(time.Duration(d)*day + 22*time.Hour), 6 * time.Hour, 0, 1}, 30, 30, gate.LateRefuse))
	}
	rep, err := Play(o, Gate)
	if err != nil {
		t.Fatal(err)
	}
	if g := rep.Results[0]; g.InTime != len(g.Runs) {
		t.Errorf("%d of %d in time; the first decision: %s", g.InTime, len(g.Runs), g.Decisions[0].Reason)
	}
}
