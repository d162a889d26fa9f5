package credit

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestStopAndStart(t *testing.T) {
	t2, t3 := mustLookup(t, "t2.micro"), mustLookup(t, "t3.micro")
	day := 24 * time.Hour
	for _, row := range []struct {
		name  string
		bank  Bank
		off   time.Duration
		want  Bank
		costs Account
	}{
		{"a t2 loses all and is given launch credits again", Bank{Spec: t2, Balance: 100, Launch: 5}, time.Hour, Bank{Spec: t2, Launch: 30}, Account{Discarded: 105}},
		{"an unlimited t2 is given none", Bank{Spec: t2, Mode: Unlimited, Balance: 100}, time.Hour, Bank{Spec: t2, Mode: Unlimited}, Account{Discarded: 100}},
		{"a t3 keeps its balance for seven days", Bank{Spec: t3, Balance: 100}, 7 * day, Bank{Spec: t3, Balance: 100}, Account{}},
		{"and no longer", Bank{Spec: t3, Balance: 100}, 7*day + time.Second, Bank{Spec: t3}, Account{Discarded: 100}},
		{"what is owed is charged at once", Bank{Spec: t3, Mode: Unlimited, Surplus: 40}, time.Hour, Bank{Spec: t3, Mode: Unlimited}, Account{Charged: 40}},
	} {
		stopped, a := row.bank.stop()
		started, more := stopped.start(row.off)
		if started != row.want || a.Add(more) != row.costs {
			t.Errorf("%s: %+v %+v, want %+v %+v", row.name, started, a.Add(more), row.want, row.costs)
		}
	}
}

func TestPrice(t *testing.T) {
	// The guide's own example charges 304 credits of a t3.nano: five hours of a vCPU and 4 minutes.
	if got := mustLookup(t, "t3.nano").SurplusPrice() / 60 * 304; !near(got, 0.2533) {
		t.Errorf("304 credits cost %.4f dollars", got)
	}
	if got := mustLookup(t, "t4g.nano").SurplusPrice(); got != 0.04 {
		t.Errorf("an hour of a t4g's surplus costs %.4f dollars", got)
	}
}

// A life is what befalls an instance: work, rests, changes of the mode, stops.
// Whatever it is, what was earned is spent, stored or thrown away, and whether
// the bank is looked at every second or every five minutes does not matter.
func TestTheBooksOfALifeBalance(t *testing.T) {
	for seed, name := range Types() {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		coarse := Open(mustLookup(t, name), Mode([]string{"standard", "unlimited"}[seed%2]))
		fine := coarse
		opened := coarse.Position()
		var books, fineBooks Account
		for range 40 {
			var a, b Account
			switch what := r.IntN(10); {
			case what == 0:
				m := Mode([]string{"standard", "unlimited"}[r.IntN(2)])
				coarse, a = coarse.Switch(m)
				fine, b = fine.Switch(m)
			case what == 1:
				off := time.Duration(r.IntN(10*24)) * time.Hour
				coarse, a = coarse.stop()
				fine, b = fine.stop()
				var lost, fineLost Account
				coarse, lost = coarse.start(off)
				fine, fineLost = fine.start(off)
				a, b = a.Add(lost), b.Add(fineLost)
				opened += coarse.Launch
			default:
				demand := r.Float64() * r.Float64() * 1.2 * float64(coarse.Spec.VCPUs)
				span := time.Duration(1+r.IntN(24)) * Period
				for range span / Period {
					var one Account
					coarse, one = coarse.Advance(Period, demand)
					a = a.Add(one)
				}
				for range span / time.Second {
					var one Account
					fine, one = fine.Advance(time.Second, demand)
					b = b.Add(one)
				}
			}
			books, fineBooks = books.Add(a), fineBooks.Add(b)
			if in, out := opened+books.Earned+books.Charged, books.Spent+books.Discarded+coarse.Position(); !near(in, out) {
				t.Fatalf("%s: %v came in, %v went out or is there (%+v, %+v)", name, in, out, coarse, books)
			}
			for i, d := range []float64{
				coarse.Balance - fine.Balance, coarse.Launch - fine.Launch, coarse.Surplus - fine.Surplus,
				books.Spent - fineBooks.Spent, books.Discarded - fineBooks.Discarded,
				books.Charged - fineBooks.Charged, books.Throttled - fineBooks.Throttled,
			} {
				if !near(d, 0) {
					t.Fatalf("%s: amount %d differs by %v between 1 s and 5 min (%+v, %+v)", name, i, d, coarse, fine)
				}
			}
		}
	}
}

// keptStopped is how long a stopped instance keeps its balance, T2 apart (EC2 User
// Guide, "Key concepts for burstable performance instances").
const keptStopped = 7 * 24 * time.Hour

// start returns the bank of an instance that was stopped for off. A balance outlives seven
// days. A T2 in standard mode is given its launch credits again, which are not earned: the books of a
// new epoch open with them. (AWS grants them to a hundred launches and starts a day; a T2
// beyond that has none, and CloudWatch's first point tells.)
func (b Bank) start(off time.Duration) (Bank, Account) {
	var a Account
	if off > keptStopped {
		a.Discarded, b.Balance = b.Balance, 0
	}
	b.Launch = 0
	if b.Mode != Unlimited {
		b.Launch = b.Spec.LaunchCredits
	}
	return b, a
}

// stop returns the bank of an instance that is stopped or terminated, and what that costs: a surplus is
// charged at once, and a T2 loses all it has. A reboot is no stop and changes nothing.
func (b Bank) stop() (Bank, Account) {
	a := Account{Charged: b.Surplus}
	b.Surplus = 0
	if b.Spec.LaunchCredits > 0 { // T2
		a.Discarded = b.Balance + b.Launch
		b.Balance, b.Launch = 0, 0
	}
	return b, a
}
