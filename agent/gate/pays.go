package gate

import (
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// ServicesWeight is how much worse it is to take a credit from a service than to leave a job's undone.
const ServicesWeight = 3

const (
	// highShare is how probable the services' high demand is: it is what one hour out of ten exceeds.
	highShare = 0.1
	// lastDayShare is how much of the expected demand is what the last day needed hour by hour. The rest is what
	// has been learned of many days: that is steadier, and slow to see that things have changed.
	lastDayShare = 0.5
)

// pays says whether a job at its latest start may take from the services what it is expected to, and why.
//
// Beside what the services need it costs nothing that their bank runs low, as long as it does not run
// dry: so the reserve is not looked at, but the next two days are played through, once with the job
// and once without, at the expected demand and at the high one. What the services lose by the job, weighted by
// how probable that is, counts ServicesWeight times, and must not be more than what the job is worth: its credits, if
// it ends in time. Of a job that was never measured it is not known when it would end;
// its first run is worth its credits in any case, because its need is known afterwards.
//
// It is not asked where a mistake would be billed.
func (v view) pays(e Entry, measured bool, ls []credit.Load) (ok bool, why string) {
	if !v.credits || v.costsMoney() {
		return false, ""
	}
	with := append(slices.Clip(ls), credit.Load{Credits: e.Expected, Cores: e.Cores})
	var loss, worth float64
	for _, c := range []struct{ probable, lastDay, high float64 }{{1 - highShare, lastDayShare, 0}, {highShare, 0, 1}} {
		points := v.twoDays(c.lastDay, c.high)
		before, _ := credit.Outcome(v.report.Bank, v.report.MeterAt, points, ls)
		after, ends := credit.Outcome(v.report.Bank, v.report.MeterAt, points, with)
		loss += c.probable * max(0, after.Throttled-before.Throttled)
		if end := ends[len(ls)]; !measured || !end.IsZero() && !end.After(e.Deadline) {
			worth += c.probable * e.Expected
		}
	}
	switch {
	case worth == 0:
		return false, "would not end in time"
	case ServicesWeight*loss > worth:
		return false, fmt.Sprintf("may take %.1f from the services", loss)
	}
	return true, fmt.Sprintf("needs %.1f credits and may take %.1f from the services", e.Expected, loss)
}

// wasted is what would be thrown away in the next day beside the loads, at usual demand.
func (v view) wasted(ls []credit.Load) float64 {
	a, _ := credit.Outcome(v.bank, v.report.MeterAt, withUsualDemand(v.report.Forecast), ls)
	return a.Discarded
}

// withUsualDemand returns the points with the usual demand in place of the high one.
func withUsualDemand(points []credit.Point) []credit.Point {
	points = slices.Clone(points)
	for i := range points {
		points[i].Demand.High = points[i].Demand.Mean
	}
	return points
}

// twoDays is the forecast with a demand between what is usual and the last day's, or the high one, and then
// the same day again as it is usual (or high).
func (v view) twoDays(lastDay, high float64) []credit.Point {
	seen := map[time.Time]float64{}
	if n := len(v.report.Hours); n > 0 {
		for _, h := range v.report.Hours[:n-1] { // the last is not over
			seen[h.At] = h.Services / time.Hour.Minutes()
		}
	}
	points := slices.Clone(v.report.Forecast)
	next := slices.Clone(points)
	for i := range points {
		d := &points[i].Demand
		d.High = high*d.High + (1-high)*d.Mean
		next[i].At, next[i].Demand = next[i].At.Add(day), *d
		if x, ok := seen[points[i].At.Add(-day-time.Hour/2).UTC().Truncate(time.Hour)]; ok {
			d.High = lastDay*x + (1-lastDay)*d.High
		}
	}
	return append(points, next...)
}

const day = 24 * time.Hour
