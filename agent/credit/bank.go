package credit

import (
	"math"
	"time"
)

// Bank is the state of an instance's credits at one moment. All amounts are
// credits and never negative.
//
// Rules: EC2 User Guide, "Key concepts for burstable performance instances",
// "Standard mode concepts", "Unlimited mode concepts", and the equations of
// "Monitor your CPU credits".
type Bank struct {
	Spec Spec `json:"spec"`
	Mode Mode `json:"mode"`
	// Balance is the earned credits, 0 to Spec.Max.
	Balance float64 `json:"balance"`
	// Launch is what is left of a T2's launch credits: spent first, not counted
	// towards Max, never earned again.
	Launch float64 `json:"launch,omitempty"`
	// Surplus is what an unlimited instance has borrowed, 0 to Spec.Max. Earnings
	// repay it before the balance grows.
	Surplus float64 `json:"surplus,omitempty"`
}

// Account is what happened in a span of time. All amounts are credits and never
// negative. For every span:
//
//	Earned + Charged + opening position = Spent + Discarded + closing position
type Account struct {
	Earned float64 `json:"earned"`
	// Spent is the CPU time that was given.
	Spent float64 `json:"spent"`
	// Discarded was earned (or, at a change of mode, held) and thrown away.
	Discarded float64 `json:"discarded"`
	// Charged is the surplus that is billed.
	Charged float64 `json:"charged"`
	// Throttled is the CPU time that was wanted and not given.
	Throttled float64 `json:"throttled"`
}

// Add returns the sum of two accounts.
func (a Account) Add(b Account) Account {
	return Account{a.Earned + b.Earned, a.Spent + b.Spent, a.Discarded + b.Discarded, a.Charged + b.Charged, a.Throttled + b.Throttled}
}

// Open returns the bank of a newly launched instance: nothing but a T2's launch credits.
func Open(s Spec, m Mode) Bank {
	b := Bank{Spec: s, Mode: m}
	if m != Unlimited {
		b.Launch = s.LaunchCredits
	}
	return b
}

// Position is what could be spent before anything hurts, less what is owed: negative while there is surplus.
func (b Bank) Position() float64 { return b.Balance + b.Launch - b.Surplus }

// Holding returns the bank with the given position, all of it earned credits
// or surplus. Amounts beyond the limits of the type are cut off.
func (b Bank) Holding(position float64) Bank {
	b.Launch = 0
	b.Balance = clamp(position, 0, b.Spec.Max)
	b.Surplus = 0
	if b.Mode == Unlimited {
		b.Surplus = clamp(-position, 0, b.Spec.Max)
	}
	return b
}

// Less returns the bank with x credits fewer: launch credits go first, then the balance, and an
// unlimited instance then owes surplus up to its cap. It is how a careful reader uses an estimate.
func (b Bank) Less(x float64) Bank {
	for _, pot := range []*float64{&b.Launch, &b.Balance} {
		d := math.Min(*pot, math.Max(x, 0))
		*pot -= d
		x -= d
	}
	if b.Mode == Unlimited && x > 0 {
		b.Surplus = math.Min(b.Surplus+x, b.Spec.Max)
	}
	return b
}

// Advance returns the bank after dt of a constant demand in vCPUs and what
// happened meanwhile. Demand is limited to what the type has; a negative dt or a
// demand that is not a number counts as 0.
//
// Under constant demand every amount changes linearly until one of them reaches
// a limit, so the span is cut at those moments and each piece is solved at once:
// the result does not depend on how the caller divides the time.
func (b Bank) Advance(dt time.Duration, demand float64) (Bank, Account) {
	var total Account
	if dt <= 0 {
		return b, total
	}
	if math.IsNaN(demand) {
		demand = 0
	}
	demand = clamp(demand, 0, float64(b.Spec.VCPUs))
	left := dt.Minutes()
	for left > 0 {
		var used float64
		var a Account
		if b.Launch > 0 && demand > 0 && b.Mode != Unlimited {
			// Launch credits are spent first, while the earned ones grow.
			lasts := b.Launch / demand
			b, a, used = b.piece(math.Min(left, lasts), 0)
			a.Spent = demand * used
			if b.Launch -= a.Spent; used == lasts {
				b.Launch = 0
			}
		} else {
			b, a, used = b.piece(left, demand)
		}
		total = total.Add(a)
		left -= used
	}
	return b, total
}

// piece advances by at most left minutes and stops early when the balance or the surplus reaches a limit.
func (b Bank) piece(left, demand float64) (Bank, Account, float64) {
	earn := b.Spec.Baseline()
	net, t := earn-demand, left
	rate := Account{Earned: earn, Spent: demand} // a minute
	switch {
	case net > 0 && b.Surplus > 0:
		t, b.Surplus = toward(b.Surplus, -net, 0, left)
	case net > 0 && b.Balance >= b.Spec.Max:
		b.Balance, rate.Discarded = b.Spec.Max, net
	case net > 0:
		t, b.Balance = toward(b.Balance, net, b.Spec.Max, left)
	case net < 0 && b.Balance > 0:
		t, b.Balance = toward(b.Balance, net, 0, left)
	case net < 0 && b.Mode != Unlimited:
		// Throttled to the baseline: what is earned is spent.
		b.Balance, rate.Spent, rate.Throttled = 0, earn, -net
	case net < 0 && b.Surplus >= b.Spec.Max:
		b.Surplus, rate.Charged = b.Spec.Max, -net
	case net < 0:
		t, b.Surplus = toward(b.Surplus, -net, b.Spec.Max, left)
	}
	return b, Account{rate.Earned * t, rate.Spent * t, rate.Discarded * t, rate.Charged * t, rate.Throttled * t}, t
}

// toward moves an amount at a rate per minute until it reaches the limit or the time
// is over, and returns the minutes used and the new amount, which is the limit
// itself when it is reached.
func toward(amount, rate, limit, left float64) (float64, float64) {
	t := (limit - amount) / rate
	if t <= left {
		return math.Max(t, 0), limit
	}
	return left, amount + rate*left
}

// Switch returns the bank after ModifyInstanceCreditSpecification. To unlimited a
// T2 loses its launch credits; to standard the surplus is charged at once.
func (b Bank) Switch(m Mode) (Bank, Account) {
	var a Account
	if m == b.Mode {
		return b, a
	}
	b.Mode = m
	if m == Unlimited {
		a.Discarded, b.Launch = b.Launch, 0
	} else {
		a.Charged, b.Surplus = b.Surplus, 0
	}
	return b, a
}

func clamp(x, low, high float64) float64 { return math.Max(low, math.Min(high, x)) }
