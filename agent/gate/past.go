package gate

import (
	"math"
	"slices"
	"time"
)

// Past is what runs of a job cost, in credits, the newest last.
type Past struct {
	Costs []float64 `json:"costs"`
	// Came is when these runs came. It is shorter where the first of them were recorded by a version that did not keep it.
	Came []time.Time `json:"came,omitempty"`
	At   time.Time   `json:"at"`
}

const (
	// usualCosts is how many runs say what the next one needs.
	usualCosts  = 10
	pastTrusted = 3
	// pastRefuses is how long past runs are a reason to refuse the next: a refused job tells nothing of what it needs by now.
	pastRefuses = 8 * day
	// highSpread is by how many standard deviations an expected need is above the middle: one run of five exceeds it.
	highSpread = 0.84
	// A weekday's runs stand apart if they cost twice, or half, what the others do, and more than these differ among each other.
	apartTimes, apartSpread, apartLeast = 2, 2, 3
	// A declared need may be wrong by a factor of two, and what few runs took by half.
	declaredSpread = 0.7
	unknownSpread  = 0.4
)

// and returns the past with one more run.
func (p Past) and(cost float64, came, at time.Time) Past {
	costs, times := append(slices.Clone(p.Costs), cost), append(slices.Clone(p.Came), came)
	return Past{Costs: costs[max(0, len(costs)-mostCosts):], Came: times[max(0, len(times)-mostCosts):], At: at}
}

// like returns the costs that say what a run costs which comes at a time: those of the same weekday if they stand apart, as those of a
// weekly heavy run do under a nightly name; else the last ones of all days that do not.
func (p Past) like(came time.Time) []float64 {
	old := len(p.Costs) - len(p.Came)
	if old < 0 { // no version writes that
		return p.Costs
	}
	var by [7][]float64
	for i, at := range p.Came {
		d := at.UTC().Weekday()
		by[d] = append(by[d], p.Costs[old+i])
	}
	var apart [7]bool
	for d, costs := range by {
		var others []float64
		for e := range by {
			if e != d {
				others = append(others, by[e]...)
			}
		}
		if len(costs) == 0 || len(others) < apartLeast {
			continue
		}
		middle, _ := logNormal(costs)
		usual, spread := logNormal(others)
		apart[d] = math.Abs(math.Log(middle/usual)) > max(math.Log(apartTimes), apartSpread*spread)
	}
	today := came.UTC().Weekday()
	if apart[today] {
		return by[today]
	}
	costs := slices.Clone(p.Costs[:old])
	for i, at := range p.Came {
		if !apart[at.UTC().Weekday()] {
			costs = append(costs, p.Costs[old+i])
		}
	}
	return costs[max(0, len(costs)-usualCosts):]
}

// known reports whether anything is known of what a job needs that may be a reason to refuse it.
func (p Past) known(e Entry, now time.Time) bool {
	if len(p.Costs) == 0 {
		return e.Need > 0
	}
	return e.Late != LateRefuse || now.Sub(p.At) < pastRefuses
}

// logNormal is the distribution of some costs: the middle one, and the standard deviation of their logarithms, to which one more run
// is added that differs as much as is assumed of a job of which nothing is known.
func logNormal(costs []float64) (middle, spread float64) {
	sorted, n := slices.Sorted(slices.Values(costs)), len(costs)
	middle = max((sorted[(n-1)/2]+sorted[n/2])/2, tiny)
	sum := unknownSpread * unknownSpread
	for _, c := range costs {
		d := math.Log(max(c, tiny) / middle)
		sum += d * d
	}
	return middle, math.Sqrt(sum / float64(n+1))
}

// need is what a run costs that is so many standard deviations above the usual one. While none is known
// the declared need stands for them.
func (p Past) need(expected, spread float64) float64 {
	if len(p.Costs) == 0 {
		return expected * min(math.Exp(declaredSpread*spread), guessed)
	}
	middle, sd := logNormal(p.Costs)
	return middle * math.Exp(spread*sd)
}

// rest is what a run still needs that has spent some already: of the runs that cost as much at least, it is so many standard
// deviations above the usual one.
func (p Past) rest(expected, spread, spent float64) float64 {
	usual := p.need(expected, 0)
	sd := math.Log(p.need(expected, 1) / usual)
	if spent <= 0 || sd <= tiny {
		return max(0, p.need(expected, spread)-spent)
	}
	less := normal(math.Log(spent/usual) / sd)
	part := min(less+(1-less)*normal(spread), 1-tiny)
	return max(0, p.need(expected, math.Sqrt2*math.Erfinv(2*part-1))-spent)
}

// normal is how probable it is that what is distributed normally is at most so many standard deviations above the mean.
func normal(x float64) float64 { return (1 + math.Erf(x/math.Sqrt2)) / 2 }

// expect returns the credits that a job is expected to need: what one run of five exceeds, towards which
// a declared need is drawn by each of the first of them, and the given default when there is neither.
func (p Past) expect(declared, otherwise float64) float64 {
	n := len(p.Costs)
	if n == 0 {
		return positive(declared, otherwise)
	}
	high := p.need(0, highSpread*math.Sqrt(1+1/float64(n))) // the middle itself is known from so many runs only
	if n < pastTrusted && declared > high {
		return high + (declared-high)/float64(1+n)
	}
	return high
}
