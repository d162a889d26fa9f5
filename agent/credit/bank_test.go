package credit

import (
	"math"
	"strings"
	"testing"
	"time"
)

const tolerance = 0.01

func near(a, b float64) bool { return math.Abs(a-b) <= tolerance }

func mustLookup(t testing.TB, name string) Spec {
	t.Helper()
	s, ok := Lookup(name)
	if !ok {
		t.Fatalf("Lookup(%q) = false", name)
	}
	return s
}

// period is one row of AWS's worked examples; utilisation is per cent of all vCPUs.
type period struct {
	name                      string
	length                    time.Duration
	utilisation               float64
	balance, launch, surplus  float64
	spent, discarded, charged float64
}

var steps = []time.Duration{time.Second, 5 * time.Minute, 7 * time.Hour, 24 * time.Hour}

func replay(t *testing.T, b Bank, periods []period) {
	t.Helper()
	for _, step := range steps {
		b := b
		for _, p := range periods {
			demand := p.utilisation / 100 * float64(b.Spec.VCPUs)
			var sum Account
			for left := p.length; left > 0; left -= step {
				var a Account
				b, a = b.Advance(min(step, left), demand)
				sum = sum.Add(a)
			}
			got := []float64{b.Balance, b.Launch, b.Surplus, sum.Spent, sum.Discarded, sum.Charged}
			want := []float64{p.balance, p.launch, p.surplus, p.spent, p.discarded, p.charged}
			for i, field := range []string{"balance", "launch", "surplus", "spent", "discarded", "charged"} {
				if !near(got[i], want[i]) {
					t.Errorf("step %v, %s: %s = %.4f, want %.4f", step, p.name, field, got[i], want[i])
				}
			}
		}
	}
}

// The four worked examples of the EC2 User Guide, "Standard mode examples" and
// "Unlimited mode examples". Where the guide rounds, the row holds the exact value.
func TestPublishedExamples(t *testing.T) {
	h := time.Hour
	t.Run("T3 standard", func(t *testing.T) {
		replay(t, Open(mustLookup(t, "t3.nano"), Standard), []period{
			{name: "P1 idle", length: 24 * h, balance: 144},
			{name: "P2 at the cap", length: 12 * h, utilisation: 2.5, balance: 144, spent: 36, discarded: 36},
			{name: "P3 above the baseline", length: 24 * h, utilisation: 7, balance: 86.4, spent: 201.6},
			{name: "P4 below the baseline", length: 12 * h, utilisation: 2.5, balance: 122.4, spent: 36},
			{name: "P5 burst until empty", length: 2 * h, utilisation: 60, balance: 0, spent: 122.4 + 12},
			{name: "P6 at the baseline", length: 14 * h, utilisation: 5, balance: 0, spent: 84},
			{name: "P7 idle", length: 24 * h, balance: 144},
		})
	})
	t.Run("T2 standard", func(t *testing.T) {
		replay(t, Open(mustLookup(t, "t2.nano"), Standard), []period{
			{name: "1 idle", length: 24 * h, balance: 72, launch: 30},
			{name: "2 plateau", length: 12 * h, balance: 72, launch: 30, discarded: 36},
			{name: "3 launch credits first", length: 25 * h, utilisation: 2, balance: 72, spent: 30, discarded: 75},
			{name: "4 plateau without launch credits", length: 11 * h, utilisation: 2, balance: 72, spent: 13.2, discarded: 19.8},
			{name: "5 burst", length: 3 * h, utilisation: 20, balance: 45, spent: 36},
			{name: "6 recovery", length: 15 * h, utilisation: 2, balance: 72, spent: 18},
			{name: "7 idle at the cap", length: 6 * h, balance: 72, discarded: 18},
		})
	})
	t.Run("T3 unlimited", func(t *testing.T) {
		replay(t, Open(mustLookup(t, "t3.nano"), Unlimited), []period{
			{name: "P1 idle", length: 24 * h, balance: 144},
			{name: "P2 at the cap", length: 12 * h, utilisation: 2.5, balance: 144, spent: 36, discarded: 36},
			{name: "P3 above the baseline", length: 24 * h, utilisation: 7, balance: 86.4, spent: 201.6},
			{name: "P4 below the baseline", length: 12 * h, utilisation: 2.5, balance: 122.4, spent: 36},
			{name: "P5 burst on surplus", length: 5 * h, utilisation: 100, surplus: 144, spent: 600, charged: 303.6},
			{name: "P6 at the baseline", length: 13 * h, utilisation: 5, surplus: 144, spent: 78},
			{name: "P7 repayment", length: 24 * h},
		})
	})
	t.Run("T2 unlimited", func(t *testing.T) {
		full := Bank{Spec: mustLookup(t, "t2.nano"), Mode: Unlimited, Balance: 72}
		minutes := 72 / 0.95
		drain := time.Duration(minutes * float64(time.Minute))
		replay(t, full, []period{
			{name: "1 at the cap", length: 10 * time.Minute, balance: 72, discarded: 0.5},
			{name: "2 the balance is spent", length: drain, utilisation: 100, spent: 72 / 0.95},
			{name: "3 surplus up to 24 h of earning", length: drain, utilisation: 100, surplus: 72, spent: 72 / 0.95},
			{name: "4 charged", length: 25 * time.Minute, utilisation: 100, surplus: 72, spent: 25, charged: 23.75},
			{name: "5 repaid first", length: 24 * h},
			{name: "6 then saved, 0.25 in 5 minutes", length: 5 * time.Minute, balance: 0.25},
		})
	})
}

// EC2 User Guide, "Monitor your CPU credits": prior balance 2, earned 0.5, used 1.
func TestFiveMinuteEquation(t *testing.T) {
	b := Bank{Spec: mustLookup(t, "t3.nano"), Mode: Standard, Balance: 2}
	if b, _ = b.Advance(5*time.Minute, 0.2); !near(b.Balance, 1.5) {
		t.Errorf("balance = %v, want 1.5", b.Balance)
	}
}

func TestThrottling(t *testing.T) {
	b := Bank{Spec: mustLookup(t, "t3.nano"), Mode: Standard, Balance: 122.4}
	b, a := b.Advance(2*time.Hour, 1.2)
	if !near(b.Balance, 0) || !near(a.Spent+a.Throttled, 144) || !near(a.Throttled, 9.6) {
		t.Errorf("got balance %v, account %+v; want an empty bank and 9.6 credits not given", b.Balance, a)
	}
}

func TestSwitch(t *testing.T) {
	t2 := mustLookup(t, "t2.micro")
	b, a := Bank{Spec: t2, Mode: Standard, Balance: 10, Launch: 30}.Switch(Unlimited)
	if b.Launch != 0 || b.Balance != 10 || a.Discarded != 30 {
		t.Errorf("to unlimited: %+v %+v", b, a)
	}
	b, a = Bank{Spec: t2, Mode: Unlimited, Surplus: 12}.Switch(Standard)
	if b.Surplus != 0 || a.Charged != 12 {
		t.Errorf("to standard: %+v %+v", b, a)
	}
	if b, a = b.Switch(Standard); a != (Account{}) || b.Mode != Standard {
		t.Errorf("to the same mode: %+v %+v", b, a)
	}
}

func TestLess(t *testing.T) {
	t2 := mustLookup(t, "t2.micro")
	for _, tt := range []struct {
		name string
		bank Bank
		x    float64
		want Bank
	}{
		{"nothing", Bank{Balance: 10, Launch: 5}, 0, Bank{Balance: 10, Launch: 5}},
		{"launch credits first", Bank{Balance: 10, Launch: 5}, 7, Bank{Balance: 8}},
		{"standard ends at 0", Bank{Balance: 10}, 12, Bank{}},
		{"unlimited owes", Bank{Mode: Unlimited, Balance: 10}, 12, Bank{Mode: Unlimited, Surplus: 2}},
		{"unlimited owes no more than its cap", Bank{Mode: Unlimited, Surplus: 100}, 90, Bank{Mode: Unlimited, Surplus: 144}},
		{"never more", Bank{Balance: 10}, -5, Bank{Balance: 10}},
	} {
		tt.bank.Spec, tt.want.Spec = t2, t2
		if got := tt.bank.Less(tt.x); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, name := range Types() {
		s := mustLookup(t, name)
		if s.Max != 24*s.EarnPerHour || s.Baseline() >= float64(s.VCPUs) || s.Baseline() <= 0 {
			t.Errorf("%s: %+v", name, s)
		}
		if strings.HasPrefix(name, "t2.") != (s.LaunchCredits > 0) || !Burstable(name) {
			t.Errorf("%s: family rules are wrong: %+v", name, s)
		}
	}
	if n := len(Types()); n != 32 {
		t.Errorf("%d types, want 4 families of 7 sizes and t8i of 4", n)
	}
	// Spot checks against AWS's table, one a family, and the two that break every formula.
	for name, want := range map[string][4]float64{
		"t2.xlarge": {4, 54, 1296, 120}, "t2.2xlarge": {8, 81.6, 1958.4, 240},
		"t3.small": {2, 24, 576, 0}, "t3a.large": {2, 36, 864, 0}, "t4g.2xlarge": {8, 192, 4608, 0},
		"t8i.nano": {2, 6, 144, 0}, "t8i.micro": {2, 12, 288, 0}, "t8i.small": {2, 24, 576, 0}, "t8i.medium": {2, 24, 576, 0},
	} {
		s := mustLookup(t, name)
		if got := [4]float64{float64(s.VCPUs), s.EarnPerHour, s.Max, s.LaunchCredits}; !near(got[2], want[2]) || got[0] != want[0] || got[1] != want[1] || got[3] != want[3] {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{"", "m5.large", "t3", "t3.", "t3.metal", "t5g.small", "trn1.2xlarge", "T3.small", "t8i.large"} {
		if _, ok := Lookup(name); ok {
			t.Errorf("Lookup(%q) = true", name)
		}
	}
	if Burstable("trn1.2xlarge") || Burstable("m5.large") || Burstable("") || !Burstable("t5g.small") {
		t.Error("Burstable tells T families from others wrongly")
	}
}

// FuzzAdvance checks what must hold for every bank and demand: the books
// balance, nothing is negative or beyond its cap, more demand never leaves more,
// and dividing the span changes nothing.
func FuzzAdvance(f *testing.F) {
	f.Add(uint8(0), false, 0.5, 0.3, uint32(3600), uint8(7))
	f.Add(uint8(7), true, -0.9, 1.0, uint32(400000), uint8(3))
	f.Add(uint8(3), false, 1.2, 0.1, uint32(90000), uint8(255))
	f.Add(uint8(9), true, 0.0, math.Inf(1), uint32(1), uint8(1))
	f.Add(uint8(1), false, math.NaN(), math.NaN(), uint32(77), uint8(2))
	names := Types()
	f.Fuzz(func(t *testing.T, kind uint8, unlimited bool, fill, load float64, seconds uint32, parts uint8) {
		s := mustLookup(t, names[int(kind)%len(names)])
		b := Open(s, Standard)
		if unlimited {
			b = Open(s, Unlimited)
		}
		if !math.IsNaN(fill) {
			launch := b.Launch * clamp(fill, 0, 1)
			b = b.Holding(clamp(fill, -1, 1) * s.Max)
			b.Launch = launch
		}
		dt := time.Duration(seconds%(30*24*3600)) * time.Second
		demand := load * float64(s.VCPUs)
		after, a := b.Advance(dt, demand)

		in := b.Position() + a.Earned + a.Charged
		out := after.Position() + a.Spent + a.Discarded
		if math.Abs(in-out) > tolerance {
			t.Fatalf("books do not balance: in %v, out %v (%+v → %+v, %+v)", in, out, b, after, a)
		}
		if wanted := clamp(demand, 0, float64(s.VCPUs)) * dt.Minutes(); !math.IsNaN(demand) && math.Abs(a.Spent+a.Throttled-wanted) > tolerance {
			t.Fatalf("spent %v + throttled %v, wanted %v", a.Spent, a.Throttled, wanted)
		}
		for _, x := range []float64{after.Balance, after.Launch, after.Surplus, a.Earned, a.Spent, a.Discarded, a.Charged, a.Throttled} {
			if !(x >= 0) {
				t.Fatalf("negative amount: %+v %+v", after, a)
			}
		}
		if after.Balance > s.Max || after.Surplus > s.Max || after.Launch > b.Launch {
			t.Fatalf("beyond the cap: %+v", after)
		}
		if after.Balance > 0 && after.Surplus > 0 {
			t.Fatalf("saved and owed at once: %+v", after)
		}
		if busier, _ := b.Advance(dt, demand+0.1); busier.Position() > after.Position()+tolerance {
			t.Fatalf("more demand left more: %v > %v", busier.Position(), after.Position())
		}
		n := time.Duration(parts) + 1
		stepped, sum := b, Account{}
		for i := range n {
			var one Account
			stepped, one = stepped.Advance(dt*(i+1)/n-dt*i/n, demand)
			sum = sum.Add(one)
		}
		for i, d := range []float64{
			stepped.Balance - after.Balance, stepped.Launch - after.Launch, stepped.Surplus - after.Surplus,
			sum.Spent - a.Spent, sum.Discarded - a.Discarded, sum.Charged - a.Charged, sum.Throttled - a.Throttled,
		} {
			if math.Abs(d) > tolerance {
				t.Fatalf("%d parts differ from one in amount %d by %v", n, i, d)
			}
		}
	})
}
