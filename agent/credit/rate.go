package credit

import (
	"math"
	"slices"
	"time"
)

// Rate is what CloudWatch has shown of the earnings of a type that is not in AWS's tables as this program has them: what the balance
// rose by and what was used meanwhile must have been earned.
type Rate struct {
	// From is the position from which the next sample is taken.
	From Measure `json:"from,omitzero"`
	// Samples are credits an hour, the newest last.
	Samples []float64 `json:"samples,omitempty"`
}

const (
	sampleSpan  = 30 * time.Minute
	mostSamples = 48
	// enoughSamples are two hours.
	enoughSamples = 4
	// unmoved is a change of the balance that says nothing: at the cap what is earned is thrown away, and an empty
	// balance hovers.
	unmoved = 0.05
)

// learn takes the newest points. A sample spans half an hour or more, of which every point of CPUCreditUsage is there.
func (r *Rate) learn(c Cloud) {
	if !c.Balance.Known || !(c.Balance.Value >= 0) {
		return
	}
	now := c.Balance.Measure
	if c.Surplus.Known && c.Surplus.At.Sub(now.At).Abs() <= Period && c.Surplus.Value > 0 {
		now.Value -= c.Surplus.Value
	}
	span := now.At.Sub(r.From.At)
	switch {
	case r.From.At.IsZero(), span < 0, span > 2*sampleSpan:
		r.From = now
		return
	case span < sampleSpan:
		return
	}
	var used float64
	var seen time.Duration
	for _, u := range c.Usage {
		if part := overlap(u.At, u.At.Add(Period), r.From.At, now.At); part > 0 {
			used += part * u.Value
			seen += time.Duration(part * float64(Period))
		}
	}
	if span-seen > Period/2 {
		return // a point of the usage has not come yet
	}
	rise := now.Value - r.From.Value
	r.From = now
	if earned := (rise + used) / span.Hours(); math.Abs(rise) > unmoved && earned > 0 {
		r.Samples = append(r.Samples, earned)
		r.Samples = slices.Clone(r.Samples[max(0, len(r.Samples)-mostSamples):])
	}
}

// spec is the type as it was learned: the median of the samples, and a day's earnings as the most that is held, as all types have
// it. False means that there are too few samples yet.
func (r Rate) spec(name string, vcpus int) (Spec, bool) {
	n := len(r.Samples)
	if n < enoughSamples || vcpus <= 0 {
		return Spec{}, false
	}
	sorted := slices.Sorted(slices.Values(r.Samples))
	earn := (sorted[(n-1)/2] + sorted[n/2]) / 2
	return Spec{Type: name, VCPUs: vcpus, EarnPerHour: earn, Max: 24 * earn}, true
}
