package credit

import (
	"math"
	"time"
)

// Course is what comes of some time.
type Course struct {
	// Account is the bank's, except for Throttled, which is the services' part alone.
	Account
	// Ends is when each load has spent its credits: the zero time if it has not by the last point.
	Ends []time.Time
	// Left is what the loads have not spent by the last point, in credits.
	Left float64
	// Positions are the bank's at the end of each point.
	Positions []float64
}

// Outcome returns what comes of the points while the services use their high demand and the loads run, each from its
// start on. The services come first, and the loads share what they leave in equal parts, as the kernel's
// scheduler shares it; an empty bank gives no more than the baseline.
func Outcome(b Bank, from time.Time, points []Point, loads []Load) Course {
	c := Course{Ends: make([]time.Time, len(loads)), Positions: make([]float64, 0, len(points))}
	running := begin(loads)
	for _, p := range points {
		for from.Before(p.At) {
			services := p.Demand.High
			rate, until := running.share(from, float64(b.Spec.VCPUs)-services)
			if base := b.Spec.Baseline(); b.Mode != Unlimited && b.Position() <= exact && services+rate > base {
				services = math.Min(services, base)
				rate, until = running.share(from, base-services)
			}
			dt := min(p.At.Sub(from), until, b.lasts(services+rate))
			var a Account
			b, a = b.Advance(dt, services+rate)
			a.Throttled = (p.Demand.High - services) * dt.Minutes()
			c.Account = c.Account.Add(a)
			from = from.Add(dt)
			running.spend(dt)
			for i, rate := range running.rates {
				if rate > 0 && running.left[i] == 0 {
					c.Ends[i] = from
				}
			}
		}
		c.Positions = append(c.Positions, b.Position())
	}
	c.Left = running.rest()
	return c
}

// running are loads, and what each has not spent yet and spends now.
type running struct {
	loads       []Load
	left, rates []float64 // credits, and vCPUs
}

func begin(loads []Load) running {
	r := running{loads, make([]float64, len(loads)), make([]float64, len(loads))}
	for i, l := range loads {
		r.left[i] = l.Credits
	}
	return r
}

// share gives those that have begun their parts of the free vCPUs, and says for how long that stays so.
func (r running) share(from time.Time, free float64) (given float64, until time.Duration) {
	until = math.MaxInt64
	hungry := 0
	for i, l := range r.loads {
		r.rates[i] = 0
		if l.Start.After(from) {
			until = min(until, l.Start.Sub(from))
		} else if r.left[i] > 0 {
			hungry++
		}
	}
	// Those that need little leave their rest to the others.
	for before := 0; hungry > 0 && hungry != before && free > 1e-12; {
		part := free / float64(hungry)
		before, hungry = hungry, 0
		for i, l := range r.loads {
			if r.left[i] <= 0 || l.Start.After(from) || l.Cores > 0 && r.rates[i] >= l.Cores {
				continue
			}
			add := part
			if l.Cores > 0 {
				add = math.Min(part, l.Cores-r.rates[i])
			}
			r.rates[i] += add
			given += add
			free -= add
			if l.Cores <= 0 || r.rates[i] < l.Cores {
				hungry++
			}
		}
	}
	for i, rate := range r.rates {
		if rate > 0 {
			if minutes := r.left[i] / rate; minutes < 1e6 {
				// At least a nanosecond, so that time always moves on.
				until = min(until, max(1, time.Duration(math.Ceil(minutes*float64(time.Minute)))))
			}
		}
	}
	return given, until
}

// spend takes from each what it spends in dt.
func (r running) spend(dt time.Duration) {
	for i, rate := range r.rates {
		if r.left[i] -= rate * dt.Minutes(); r.left[i] < 1e-9 {
			r.left[i] = 0
		}
	}
}

// rest is what they have not spent together.
func (r running) rest() (credits float64) {
	for _, x := range r.left {
		credits += x
	}
	return credits
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
