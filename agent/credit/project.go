package credit

import (
	"time"
)

// Point is the forecast for one step of time, which ends at At.
type Point struct {
	At time.Time `json:"at"`
	// Demand is what the services are expected to use during the step.
	Demand Demand `json:"demand"`
	// Balance is the position at At with mean demand and no batch: below 0 it is surplus that is owed.
	Balance float64 `json:"balance"`
	// Low is the same with high demand throughout.
	Low float64 `json:"low"`
	// Discarded and Charged are the credits thrown away and billed during the step, with mean demand.
	Discarded float64 `json:"discarded"`
	Charged   float64 `json:"charged"`
}

// Project runs a bank forward through the services' expected demand. It returns one point for
// each full step within the horizon, none if either is not positive.
func Project(b Bank, p *Profile, from time.Time, horizon, step time.Duration) []Point {
	if step <= 0 || horizon < step {
		return nil
	}
	points := make([]Point, 0, horizon/step)
	low := b
	for done := step; done <= horizon; done += step {
		at := from.Add(done)
		d := p.over(at.Add(-step), at, b.Spec)
		var a Account
		b, a = b.Advance(step, d.Mean)
		low, _ = low.Advance(step, d.High)
		points = append(points, Point{
			At: at, Demand: d, Balance: b.Position(), Low: low.Position(), Discarded: a.Discarded, Charged: a.Charged,
		})
	}
	return points
}

// FullAt returns when the balance reaches its cap and credits begin to be thrown
// away, with mean demand: from itself if that is so now, zero if it is not within the forecast.
func FullAt(b Bank, from time.Time, points []Point) time.Time {
	for _, p := range points {
		net := b.Spec.Baseline() - p.Demand.Mean
		if b.Balance >= b.Spec.Max && net > 0 {
			return from
		}
		after, a := b.Advance(p.At.Sub(from), p.Demand.Mean)
		if a.Discarded > 0 && net > 0 {
			wasted := time.Duration(a.Discarded / net * float64(time.Minute))
			return p.At.Add(-min(wasted, p.At.Sub(from)))
		}
		b, from = after, p.At
	}
	return time.Time{}
}

// Load is a batch: it uses Cores vCPUs, as far as the services leave them, until it has spent Credits.
type Load struct {
	Credits float64 `json:"credits"`
	// Cores is in vCPUs; 0 or less means all that are free.
	Cores float64 `json:"cores"`
	// Start is when it begins; the zero time is at once.
	Start time.Time `json:"start,omitzero"`
}

// Lowest returns the lowest position, and when it is reached, while the services use
// their high demand and the loads run from now on. CPU time that could not be given and
// credits that would be billed count as below 0, so that a floor of 0 means
// "never throttled and never charged". What the loads have not spent by the last
// point counts as spent there: a short horizon must not make a long batch look
// cheap. Without points it is the position now.
func Lowest(b Bank, from time.Time, points []Point, loads []Load) (float64, time.Time) {
	running := begin(loads)
	lowest, at := b.Position(), from
	var missing float64
	for _, p := range points {
		for from.Before(p.At) {
			rate, until := running.share(from, float64(b.Spec.VCPUs)-p.Demand.High)
			dt := min(p.At.Sub(from), until)
			var a Account
			b, a = b.Advance(dt, p.Demand.High+rate)
			missing += a.Throttled + a.Charged
			from = from.Add(dt)
			if now := b.Position() - missing; now < lowest {
				lowest, at = now, from
			}
			running.spend(dt)
		}
	}
	if end := b.Position() - missing - running.rest(); end < lowest {
		lowest, at = end, from
	}
	return lowest, at
}

// Headroom returns the most credits that one more load of the given cores may spend from now on,
// beside the loads that run already, such that the position never falls below the
// floor (see Lowest) within the points. It is 0 when even nothing is too much.
func Headroom(b Bank, from time.Time, points []Point, floor, cores float64, loads []Load) float64 {
	if len(points) == 0 {
		return 0
	}
	with := append(append(make([]Load, 0, len(loads)+1), loads...), Load{Cores: cores})
	over := func(x float64) float64 {
		with[len(with)-1].Credits = x
		low, _ := Lowest(b, from, points, with)
		return low - floor
	}
	low, room := 0.0, over(0)
	if room < -1e-9 {
		return 0
	}
	end := points[len(points)-1].At
	high := b.Spec.Max + b.Spec.LaunchCredits + float64(b.Spec.VCPUs)*end.Sub(from).Minutes()
	// A credit more costs the lowest position at most a credit, so what is over fits as well; where credits
	// would be thrown away it costs less, and halving is faster.
	for high-low > exact {
		x := min(low+max(room, exact), high)
		more := over(x)
		if more < -1e-9 {
			break // all that was over is spent
		}
		slow := more > room/2
		low, room = x, more
		if mid := (low + high) / 2; slow && high-low > exact {
			if r := over(mid); r >= -1e-9 {
				low, room = mid, r
			} else {
				high = mid
			}
		}
	}
	return low
}

// exact is how exact a headroom is, in credits.
const exact = 0.001
