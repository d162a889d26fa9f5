package credit

import (
	"math"
	"time"
)

// Outcome returns what comes of the points while the services use their high demand and the loads run from now on, and
// when each load has spent its credits (the zero time if it has not by the last point). Throttled is the
// services' part alone: they come first, and an empty bank gives no more than the baseline, of which
// the loads have what the services leave.
func Outcome(b Bank, from time.Time, points []Point, loads []Load) (total Account, ends []time.Time) {
	left := append([]Load(nil), loads...)
	ends = make([]time.Time, len(loads))
	for _, p := range points {
		for from.Before(p.At) {
			services, free := p.Demand.High, float64(b.Spec.VCPUs)-p.Demand.High
			rate, until := share(left, free)
			if base := b.Spec.Baseline(); b.Mode != Unlimited && b.Position() <= exact && services+rate > base {
				services = math.Min(services, base)
				free = base - services
				rate, until = share(left, free)
			}
			dt := min(p.At.Sub(from), until, b.lasts(services+rate))
			var a Account
			b, a = b.Advance(dt, services+rate)
			a.Throttled = (p.Demand.High - services) * dt.Minutes()
			total = total.Add(a)
			from = from.Add(dt)
			spend(left, free, dt)
			for i, l := range left {
				if l.Credits == 0 && ends[i].IsZero() {
					ends[i] = from
				}
			}
		}
	}
	return total, ends
}

// lasts is how long a demand can be met: until the bank is empty.
func (b Bank) lasts(demand float64) time.Duration {
	net := demand - b.Spec.Baseline()
	minutes := math.Inf(1)
	switch {
	case b.Mode == Unlimited || net <= 0 || b.Position() <= exact:
	case b.Launch > 0:
		minutes = b.Launch / demand
	default:
		minutes = b.Balance / net
	}
	if minutes > 1e6 {
		return math.MaxInt64
	}
	return max(time.Duration(math.Ceil(minutes*float64(time.Minute))), time.Millisecond)
}
