package credit

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// world is an instance as EC2 sees it, read as the meter does.
type world struct {
	t         *testing.T
	at        time.Time
	bank      Bank
	guest     float64 // guest's credits per billed credit
	lag       time.Duration
	cpu       CPU
	points    []Measure // CPUCreditBalance
	owed      []Measure
	usage     []Measure
	spent     float64
	estimator *Estimator
	modeKnown bool
	pressure  float64 // share of the time in which a process waits for a processor
}

func newWorld(t *testing.T, typ string, m Mode, position float64) *world {
	return &world{
		t: t, at: monday, bank: Open(mustLookup(t, typ), m).Holding(position), guest: 1, lag: 8 * time.Minute,
		cpu:       CPU{Known: true, Boot: "boot-1", Meter: "meter-1", Online: 2, Busy: 100},
		estimator: Resume(Memory{}), modeKnown: true,
	}
}

func (w *world) reading() Reading {
	r := Reading{
		At: w.at, InstanceID: "i-1", Type: w.bank.Spec.Type, Mode: w.bank.Mode, ModeKnown: w.modeKnown,
		StartedAt: monday.Add(-time.Hour), CPU: w.cpu,
	}
	for _, p := range w.points {
		if !p.At.After(w.at.Add(-w.lag)) {
			r.Cloud.Balance = Metric{Known: true, Measure: p}
		}
	}
	for _, p := range w.owed {
		if !p.At.After(w.at.Add(-w.lag)) {
			r.Cloud.Surplus = Metric{Known: true, Measure: p}
		}
	}
	for _, p := range w.usage {
		if !p.At.Add(Period).After(w.at.Add(-w.lag)) && p.At.After(w.at.Add(-time.Hour)) {
			r.Cloud.Usage = append(r.Cloud.Usage, p)
		}
	}
	return r
}

// run lets the instance work for a while with one reading every ten seconds and returns the last report.
func (w *world) run(d time.Duration, services, batch float64) Report {
	w.t.Helper()
	const step = 10 * time.Second
	rep := w.estimator.Next(w.reading())
	for end := w.at.Add(d); w.at.Before(end); {
		if w.at.Equal(w.at.Truncate(Period)) {
			w.points = append(w.points, Measure{w.at, w.bank.Balance + w.bank.Launch})
			if w.bank.Mode == Unlimited {
				w.owed = append(w.owed, Measure{w.at, w.bank.Surplus})
			}
			w.usage = append(w.usage, Measure{w.at.Add(-Period), w.spent})
			w.spent = 0
		}
		var a Account
		w.bank, a = w.bank.Advance(step, services+batch)
		w.at = w.at.Add(step)
		w.spent += a.Spent
		w.cpu.Busy += a.Spent * w.guest
		w.cpu.Waiting += w.pressure * step.Minutes()
		w.cpu.Batch += a.Spent * w.guest * batch / max(services+batch, 1e-9)
		rep = w.estimator.Next(w.reading())
	}
	return rep
}

func (w *world) check(r Report, within float64) {
	w.t.Helper()
	if !r.Known {
		w.t.Fatalf("at %v: not known", w.at)
	}
	diff := math.Abs(r.Bank.Position() - w.bank.Position())
	if diff > within || diff > r.ErrorBar {
		w.t.Errorf("at %v: estimate %.3f ±%.3f, truth %.3f, want within %v", w.at, r.Bank.Position(), r.ErrorBar, w.bank.Position(), within)
	}
}

func TestEstimateFollowsTheTruth(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 200)
	if r := w.run(7*time.Minute, 0.1, 0); r.Known || r.Forecast != nil || !r.Burstable {
		t.Fatalf("before the first point: %+v", r)
	}
	w.check(w.run(time.Hour, 0.1, 0), 0.5)
	r := w.run(30*time.Minute, 0.1, 1.5)
	w.check(r, 0.5)
	if math.Abs(r.SpentLastHour.Batch-45) > 1 || math.Abs(r.SpentLastHour.Services-6) > 1 || !near(r.Now.Batch, 1.5) {
		t.Errorf("spent in the last hour %+v, now %+v", r.SpentLastHour, r.Now)
	}
	// Drained: the balance is 0 and stays there, and then grows.
	w.check(w.run(4*time.Hour, 0.1, 1.9), 0.5)
	if w.bank.Balance != 0 {
		t.Fatal("the test did not drain the bank")
	}
	r = w.run(4*time.Hour, 0.05, 0)
	w.check(r, 0.5)
	if r.Discarded < 0 || len(r.Forecast) != 24 || !r.AnchorAt.Before(r.At) {
		t.Errorf("report: %+v", r)
	}
	// The batch has taught the services' profile nothing.
	if high := r.Forecast[0].Demand.High; high > 0.3 {
		t.Errorf("services' high demand is %v after a batch of 1.9 vCPUs", high)
	}
}

func TestEstimateUnlimited(t *testing.T) {
	w := newWorld(t, "t3.nano", Unlimited, 30)
	w.check(w.run(time.Hour, 1, 0), 0.5)
	if w.bank.Surplus == 0 {
		t.Fatal("the test did not borrow")
	}
	r := w.run(20*time.Minute, 0, 0)
	w.check(r, 0.5)
	if r.Balance != 0 || r.Surplus < 10 {
		t.Errorf("owing: %+v", r.Bank)
	}
}

func TestFactorIsLearnt(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 400)
	w.guest = 0.8
	r := w.run(24*time.Hour, 0.3, 0)
	if math.Abs(r.Factor-1.25) > 0.02 {
		t.Errorf("factor = %.3f, want 1.25", r.Factor)
	}
	w.check(r, 0.5)
}

func TestErrorBarGrowsWithAge(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 300)
	young := w.run(time.Hour, 0.1, 0)
	w.lag = 1000 * time.Hour
	var old Report
	for range 3 {
		was := old.ErrorBar
		old = w.run(time.Hour, 0.1, 0)
		if old.ErrorBar <= was || old.ErrorBar <= young.ErrorBar {
			t.Errorf("error bar %v after %v", old.ErrorBar, was)
		}
	}
	if !old.Known || len(old.Problems) != 1 || old.Problems[0].Code != "credit-anchor-old" {
		t.Errorf("problems: %+v", old.Problems)
	}
	w.check(old, 1)
}

func TestNoPointsIsNotZero(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 300)
	w.lag = 1000 * time.Hour
	if r := w.run(time.Hour, 0.1, 0); r.Known || r.Balance != 0 || r.ErrorBar != 0 {
		t.Errorf("a balance out of nothing: %+v", r)
	}
}

func TestRestartContinues(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 300)
	w.run(2*time.Hour, 0.1, 0)
	blob, err := json.Marshal(w.estimator.Memory())
	if err != nil {
		t.Fatal(err)
	}
	var m Memory
	if err := json.Unmarshal(blob, &m); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(*w.estimator.Memory(), m); d != "" {
		t.Fatal("JSON changes the memory:", d)
	}
	// Away for 20 minutes in which 30 credits were spent, CloudWatch silent since.
	w.points, w.usage = nil, nil
	w.lag = 1000 * time.Hour
	w.bank, _ = w.bank.Advance(20*time.Minute, 1.5)
	w.at = w.at.Add(20 * time.Minute)
	w.cpu.Busy += 30
	w.cpu.Meter, w.cpu.Batch = "meter-2", 0
	w.estimator = Resume(m)
	r := w.run(time.Minute, 0.1, 0)
	w.check(r, 1)
	if d := r.Forecast[0].Demand; d.Mean > 0.4 {
		t.Errorf("the profile learned from minutes in which batches could not be told apart: %+v", d)
	}
}

func TestForgets(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Reading)
		known  bool
	}{
		{"nothing changed", func(*Reading) {}, true},
		{"metadata not readable for a while", func(r *Reading) { r.InstanceID, r.Type = "", "" }, true},
		{"another instance", func(r *Reading) { r.InstanceID = "i-2" }, false},
		{"another type", func(r *Reading) { r.Type = "t3.medium" }, false},
		{"stopped and started", func(r *Reading) { r.StartedAt = r.At.Add(-time.Minute) }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "t3.small", Standard, 300)
			w.run(time.Hour, 0.1, 0)
			r := w.reading()
			r.At = r.At.Add(10 * time.Second)
			tt.change(&r)
			r.Cloud = Cloud{}
			if got := w.estimator.Next(r).Known; got != tt.known {
				t.Errorf("Known = %v, want %v", got, tt.known)
			}
		})
	}
	t.Run("points from before the start", func(t *testing.T) {
		w := newWorld(t, "t3.small", Standard, 300)
		r := w.reading()
		r.Cloud.Balance = Metric{Known: true, Measure: Measure{r.StartedAt.Add(-10 * time.Minute), 500}}
		if w.estimator.Next(r).Known {
			t.Error("stands on a point from before the last stop")
		}
	})
}

func TestRebootIsBlind(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 300)
	before := w.run(time.Hour, 0.1, 0)
	w.at = w.at.Add(2 * time.Minute)
	w.bank, _ = w.bank.Advance(2*time.Minute, 2)
	w.cpu = CPU{Known: true, Boot: "boot-2", Meter: "meter-2", Online: 2, Busy: 1}
	r := w.estimator.Next(w.reading())
	w.check(r, 4)
	if r.ErrorBar < before.ErrorBar+3 {
		t.Errorf("two unseen minutes on 2 vCPUs widen the bar from %v to %v only", before.ErrorBar, r.ErrorBar)
	}
}

func TestClockSetBack(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 300)
	before := w.run(time.Hour, 0.1, 0)
	r := w.reading()
	r.At = r.At.Add(-10 * time.Minute)
	if got := w.estimator.Next(r); math.Abs(got.Balance-before.Balance) > tolerance {
		t.Errorf("balance jumped from %v to %v", before.Balance, got.Balance)
	}
	w.check(w.run(time.Hour, 0.1, 0), 1)
}

func TestModeWithoutAnswer(t *testing.T) {
	w := newWorld(t, "t3.nano", Unlimited, 30)
	w.modeKnown = false
	if r := w.run(30*time.Minute, 0.1, 0); r.Mode != Unlimited || r.ModeKnown {
		t.Errorf("surplus points prove unlimited: %v %v", r.Mode, r.ModeKnown)
	}
	w = newWorld(t, "t3.nano", Standard, 30)
	w.modeKnown = false
	if r := w.run(30*time.Minute, 0.1, 0); r.Mode != Standard || !r.Known {
		t.Errorf("no surplus points: %v, known %v", r.Mode, r.Known)
	}
}

func TestLaunchCreditsInTheBalance(t *testing.T) {
	w := newWorld(t, "t2.micro", Standard, 0)
	w.bank.Balance, w.bank.Launch = 144, 20
	r := w.run(20*time.Minute, 0.05, 0)
	w.check(r, 0.5)
	if math.Abs(r.Bank.Launch-w.bank.Launch) > 0.5 || r.Balance <= 144 {
		t.Errorf("bank %+v, truth %+v", r.Bank, w.bank)
	}
}

// CloudWatch's balance does not tell launch credits from earned ones, but they are spent first.
func TestLaunchCreditsOfAFreshStart(t *testing.T) {
	w := newWorld(t, "t2.micro", Standard, 0)
	w.bank.Launch = 22
	w.cpu = CPU{Known: true, Boot: "boot-1", Meter: "meter-1", Online: 1, Busy: 8}
	w.at = monday.Add(-50 * time.Minute)
	r := w.run(20*time.Minute, 0.1, 0)
	if math.Abs(r.Bank.Launch-w.bank.Launch) > 0.5 {
		t.Errorf("bank %+v, truth %+v", r.Bank, w.bank)
	}
	w.check(r, 0.5)
}

func TestTypesWithoutRules(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 0)
	r := w.reading()
	r.Type = "m5.large"
	if got := w.estimator.Next(r); got.Known || got.Burstable || got.VCPUs != 2 || len(got.Problems) != 0 {
		t.Errorf("m5.large: %+v", got)
	}
	r.Type = "t9z.small"
	got := w.estimator.Next(r)
	if got.Known || !got.Burstable || len(got.Problems) != 1 || got.Problems[0].Code != "credit-type-unknown" {
		t.Errorf("t9z.small: %+v", got)
	}
}

func TestStealIsReported(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 300)
	w.run(time.Hour, 0.1, 0)
	var r Report
	for range 60 {
		w.cpu.Steal += 0.1
		r = w.run(10*time.Second, 0.1, 0)
	}
	if len(r.Problems) != 1 || r.Problems[0].Code != "cpu-steal" {
		t.Errorf("problems: %+v", r.Problems)
	}
}

func TestTooSmall(t *testing.T) {
	w := newWorld(t, "t3.nano", Unlimited, 144)
	r := w.run(22*time.Hour, 0.15, 0)
	if len(r.Problems) != 1 || r.Problems[0].Code != "instance-too-small" {
		t.Errorf("problems: %+v", r.Problems)
	}
}

// FuzzEstimator feeds readings in any order and of any content: no panic, and numbers stay numbers.
func FuzzEstimator(f *testing.F) {
	f.Add([]byte("abcdefghijklmnop"))
	f.Add([]byte{0, 255, 3, 9, 200, 100, 50, 7, 1, 1, 1, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		in = in[:min(len(in), 300)]
		e := Resume(Memory{})
		types := []string{"t3.nano", "t2.micro", "m5.large", "", "t9.x"}
		at := monday
		for len(in) >= 6 {
			at = at.Add(time.Duration(int8(in[0])) * time.Minute)
			r := Reading{
				At: at, InstanceID: "i-1", Type: types[int(in[1])%len(types)], ModeKnown: in[1]&64 != 0, Mode: Unlimited,
				CPU: CPU{Known: in[2]&1 == 0, Boot: string(in[2] & 2), Online: int(in[3]), Busy: float64(in[3]) * 10, Batch: float64(in[4]), Steal: float64(in[2])},
				Cloud: Cloud{
					Balance: Metric{Known: in[4]&1 == 0, Measure: Measure{at.Add(-time.Duration(in[5]) * time.Minute), float64(in[4]) - 3}},
					Surplus: Metric{Known: in[4]&4 == 0, Measure: Measure{at, float64(in[5])}},
					Usage:   []Measure{{at.Add(-time.Duration(in[5]) * time.Minute), float64(in[0])}},
				},
			}
			got := e.Next(r)
			for _, x := range []float64{got.Balance, got.Surplus, got.ErrorBar, got.Factor, got.Headroom, got.Discarded} {
				if !(x >= 0) || math.IsInf(x, 0) {
					t.Fatalf("%+v", got)
				}
			}
			if _, err := json.Marshal(e.Memory()); err != nil {
				t.Fatal(err)
			}
			got.Text(at)
			in = in[6:]
		}
	})
}

// A credit mode that changes while the instance runs changes the rules and keeps the balance.
func TestTheModeChangesWhileRunning(t *testing.T) {
	begin := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	e := &Estimator{}
	at, busy := begin, 0.0
	say := func(mode Mode, minutes, used float64) Report {
		at, busy = at.Add(time.Duration(minutes*float64(time.Minute))), busy+used
		r := Reading{At: at, InstanceID: "i-1", Type: "t3.micro", Mode: mode, ModeKnown: true, CPU: CPU{Known: true, Boot: "b", Meter: "m", Online: 2, Busy: busy}}
		r.Cloud.Balance = Metric{Known: true, Measure: Measure{At: begin, Value: 30}}
		return e.Next(r)
	}
	say(Standard, 0, 0)
	// An hour at two vCPUs would need 120 credits; 30 and the 12 that are earned are there.
	if r := say(Standard, 60, 120); r.Mode != Standard || r.Bank.Position() != 0 || !near(r.LastDay.Throttled, 120-30-12) {
		t.Errorf("standard: %+v, throttled %.1f", r.Bank, r.LastDay.Throttled)
	}
	if r := say(Unlimited, 10, 20); r.Mode != Unlimited || !near(r.Bank.Position(), -18) || r.Bill.OfDay != 0 {
		t.Errorf("unlimited: %+v", r.Bank)
	}
	if r := say(Standard, 5, 1); r.Mode != Standard || r.Surplus != 0 || !near(r.Bill.OfDay, 18) {
		t.Errorf("standard again: %+v, billed %.1f", r.Bank, r.Bill.OfDay)
	}
}

// Where an empty bank shows as processes that wait and not as steal, the services are known to have wanted more than they got; while
// there are credits it says nothing.
func TestPressureShowsWhatServicesWanted(t *testing.T) {
	for _, tt := range []struct {
		name               string
		position, pressure float64
		batch              float64
		low, high          float64
	}{
		{"throttled, and they wait most of the time", 0, 0.8, 0, 1.5, 1.7},
		{"throttled, and nobody waits", 0, 0, 0, 0.35, 0.45},
		{"with credits", 300, 0.8, 0, 0.9, 1.1},
		{"beside a batch, which waits too: nothing is known", 0, 0.8, 0.5, 0, 0},
	} {
		w := newWorld(t, "t3.small", Standard, tt.position)
		w.pressure = tt.pressure
		w.run(4*time.Hour, 1, tt.batch)
		m := w.estimator.Memory()
		if got := m.Profile.All.Sum / max(m.Profile.All.Weight, 1); got < tt.low || got > tt.high {
			t.Errorf("%s: learnt %.2f vCPUs, want %v to %v", tt.name, got, tt.low, tt.high)
		}
	}
}

// An hour in which the guest counts what an empty bank withheld does not change what a credit of the guest's is on the bill.
func TestThrottledHoursSayNothingOfTheBill(t *testing.T) {
	w := newWorld(t, "t3.small", Standard, 0)
	w.guest = 2.5
	if r := w.run(6*time.Hour, 1, 0); r.Factor < 0.95 {
		t.Errorf("factor %.2f", r.Factor)
	}
}
