package simaws

import (
	"math"
	"testing"
	"time"
)

// stretch is a run of hours at one CPU use, and what AWS says stands at its end.
type stretch struct {
	hours    float64
	percent  float64
	balance  float64
	surplus  float64
	charged  float64
	launched float64
}

// The stretches are the worked examples of the EC2 User Guide ("Standard mode
// examples", "Unlimited mode examples"), to the hundredth of a credit.
func TestLedgerReproducesWorkedExamples(t *testing.T) {
	idleDays := []stretch{
		{hours: 24, percent: 0, balance: 144},
		{hours: 12, percent: 2.5, balance: 144},
		{hours: 24, percent: 7, balance: 86.4},
		{hours: 12, percent: 2.5, balance: 122.4},
	}
	for _, row := range []struct {
		name      string
		kind      string
		mode      CreditMode
		stretches []stretch
	}{
		{"t3 standard", "t3.nano", Standard, append(idleDays[:4:4],
			stretch{hours: 2, percent: 60},
			stretch{hours: 14, percent: 5},
			stretch{hours: 24, percent: 0, balance: 144},
		)},
		{"t3 unlimited", "t3.nano", Unlimited, append(idleDays[:4:4],
			stretch{hours: 5, percent: 100, surplus: 144, charged: 303.6},
			stretch{hours: 13, percent: 5, surplus: 144, charged: 303.6},
			stretch{hours: 24, percent: 0, charged: 303.6},
		)},
		{"t2 standard spends launch credits first", "t2.nano", Standard, []stretch{
			{hours: 24, percent: 0, balance: 72, launched: 30},
			{hours: 1, percent: 25, balance: 72, launched: 15},
			// One hour on the other half of the launch credits, one on the balance.
			{hours: 2, percent: 25, balance: 60},
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			hw, _ := hardwareOf(row.kind)
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			l := ledger{hw: hw, mode: row.mode, at: now, since: now}
			l.start()
			for n, s := range row.stretches {
				l.percent = s.percent
				now = now.Add(time.Duration(s.hours * float64(time.Hour)))
				l.advance(now, 0)
				for _, v := range []struct {
					what      string
					got, want float64
				}{
					{"balance", l.now.Balance, s.balance},
					{"surplus", l.now.Surplus, s.surplus},
					{"charged", l.now.Charged, s.charged},
					{"launch credits", l.now.Launch, s.launched},
				} {
					if math.Abs(v.got-v.want) > 0.005 {
						t.Errorf("stretch %d: %s is %.3f, want %.3f", n+1, v.what, v.got, v.want)
					}
				}
			}
		})
	}
}

func TestLedgerRows(t *testing.T) {
	hw, _ := hardwareOf("t3.nano")
	start := time.Date(2026, 1, 1, 0, 2, 0, 0, time.UTC)
	l := ledger{hw: hw, mode: Standard, percent: 10, at: start, since: start}
	l.start()
	l.now.Balance = 2
	l.advance(start.Add(9*time.Minute), time.Minute)
	want := []sample{
		{at: start.Add(3 * time.Minute), usage: 0.6, balance: 1.7, percent: 10},
		{at: start.Add(8 * time.Minute), usage: 1, balance: 1.2, percent: 10},
	}
	if len(l.rows) != len(want) {
		t.Fatalf("%d rows, want %d: %+v", len(l.rows), len(want), l.rows)
	}
	for n, w := range want {
		got := l.rows[n]
		if !got.at.Equal(w.at) || !got.visible.Equal(w.at.Add(time.Minute)) {
			t.Errorf("row %d: at %s, visible %s", n, got.at, got.visible)
		}
		if math.Abs(got.usage-w.usage) > 1e-9 || math.Abs(got.balance-w.balance) > 1e-9 || math.Abs(got.percent-w.percent) > 1e-9 {
			t.Errorf("row %d: %+v, want %+v", n, got, w)
		}
	}
}

func TestStopAndStart(t *testing.T) {
	for _, row := range []struct {
		name    string
		kind    string
		mode    CreditMode
		before  Credits
		stopped time.Duration
		want    Credits
	}{
		{"t2 loses everything and is given launch credits", "t2.micro", Standard, Credits{Balance: 100, Launch: 5}, time.Hour, Credits{Launch: 30}},
		{"t3 keeps its balance", "t3.micro", Standard, Credits{Balance: 100}, 7 * 24 * time.Hour, Credits{Balance: 100}},
		{"t3 loses it after a week", "t3.micro", Standard, Credits{Balance: 100}, 8 * 24 * time.Hour, Credits{}},
		{"surplus is charged", "t3.micro", Unlimited, Credits{Surplus: 40}, time.Hour, Credits{Charged: 40}},
	} {
		t.Run(row.name, func(t *testing.T) {
			hw, _ := hardwareOf(row.kind)
			now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			l := ledger{hw: hw, mode: row.mode, percent: 50, at: now, since: now}
			l.start()
			l.now = row.before
			l.stop()
			l.advance(now.Add(row.stopped), 0)
			l.start()
			if l.now != row.want {
				t.Errorf("credits %+v, want %+v", l.now, row.want)
			}
		})
	}
}

func TestSwitchOfMode(t *testing.T) {
	hw, _ := hardwareOf("t2.micro")
	l := ledger{hw: hw, mode: Standard}
	l.start()
	l.now.Balance = 10
	l.setMode(Unlimited)
	if want := (Credits{Balance: 10}); l.now != want {
		t.Errorf("to unlimited: %+v, want %+v", l.now, want)
	}
	l.now = Credits{Surplus: 7}
	l.setMode(Standard)
	if want := (Credits{Charged: 7}); l.now != want {
		t.Errorf("to standard: %+v, want %+v", l.now, want)
	}
}
