package gate

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// The planner decides by playing the next two days through, in a few ways in which they may go, for a few times at which a
// job could start. What it looks for is the least expected cost, in credits: ServicesWeight for each that
// a job takes from the services, and one for each of a job that does not end in time. What is billed is a
// limit, not a cost that can be outweighed.

// ServicesWeight is how much worse it is to take a credit from a service than to leave a job's undone.
const ServicesWeight = 3

const (
	day = 24 * time.Hour
	// mostPlanned is how many jobs are planned, and mostAged how many of them may be late or without a deadline.
	mostPlanned = 40
	mostAged    = 4
	// evenly is by what share of a job's need another time must be better than now for the job to wait.
	evenly = 0.02
	// boughtWeight is what a credit costs that is billed within what the operator allows: less than it is worth to a job.
	boughtWeight = 0.1
	// daysAfter is for how many days after the two that are played the services' lack of credits counts, daysOwed where surplus is
	// free until the most is owed. It is for learnedTimes the days that were learned at most: one day says little of the next month.
	daysAfter    = 30.0
	daysOwed     = 2.0
	learnedTimes = 2.0
	// A job that is late, or has no deadline, may cost more the longer it has waited: in
	// four weeks all that it can. Without a
	// deadline it begins with leastAge of that.
	ageFully = 28 * day
	leastAge = 0.2
	// owedWeight is what a credit costs that is still owed a day after, because the instance may be stopped before it is
	// repaid; owedFree is how much more a job may be expected to leave owed then, as a share of the largest balance.
	owedWeight = 0.3
	owedFree   = 0.1
	// guessWorth is what a credit of a job that ends late costs whose need was never measured: afterwards it is known.
	guessWorth = 0.3
	// carefulDay is where a day of much load lies between the usual demand and that which each hour exceeds one time in ten:
	// not all its hours are so.
	carefulDay = 0.4
	// likeLastDay is how probable it is that a day is as the last one was.
	likeLastDay = 0.2
	hoursOfDay  = 24
)

// scenario is one way in which the next two days may go. The points' High is the services' demand.
type scenario struct {
	probable float64
	bank     credit.Bank
	points   []credit.Point
	// spread is by how many standard deviations jobs need more than usual.
	spread float64
}

// scenarios are those that are played: what is expected, the same with jobs that need more, what has lasted for hours for two days
// more with jobs that need less, and a day of high demand from a balance that is as low as it may be, in which the
// reserve counts as the services'. Where credits cost money, nothing may be billed in any of them but the last. Where they do not, the
// last day may come once more as it was: what is expected has no bursts, and a bank that is nearly empty cannot bear one.
func (v view) scenarios() []scenario {
	usual := v.twoDays(0, 0)
	all := []scenario{
		{0.5, v.report.Bank, usual, 0},
		{0.2, v.report.Bank, usual, 1.3},
		{0.2, v.report.Bank, v.twoDays(v.report.Lasting, 0), -1},
		{0.1, v.bank, v.twoDays(0, carefulDay), 0.7},
	}
	if !v.costsMoney() && len(v.report.Hours) == hoursOfDay {
		all[0].probable -= likeLastDay
		all = append(all, scenario{likeLastDay, v.report.Bank, v.lastDayAgain(usual), 0})
	}
	return all
}

// lastDayAgain is two days with what the services wanted in each clock hour of the last day. In the running one it is the usual demand.
func (v view) lastDayAgain(usual []credit.Point) []credit.Point {
	var wanted [hoursOfDay]float64
	for _, h := range v.report.Hours {
		wanted[h.At.UTC().Hour()] = (h.Services + h.Throttled) / time.Hour.Minutes()
	}
	points := slices.Clone(usual)
	for i := range points {
		if hour := points[i].At.Add(-time.Hour / 2).UTC().Hour(); hour != v.report.MeterAt.UTC().Hour() {
			points[i].Demand.High = wanted[hour]
		}
	}
	return points
}

// careful is the index of the scenario in which the reserve counts.
const careful = 3

// twoDays is the forecast with a demand between what is usual and the high one, and then what is usual on the day after: the same
// day again where weeks are not known to be alike. More is by how many vCPUs the services need more than was learned in all that
// time. What they need more at present fades otherwise, by half in a day.
func (v view) twoDays(more, high float64) []credit.Point {
	points := slices.Clone(v.report.Forecast)
	next := slices.Clone(points)
	for i := range points {
		d, n := &points[i].Demand, &next[i].Demand
		learned := d.Mean - d.More
		after := learned
		if v.report.DayAfter != nil {
			after = v.report.DayAfter[i]
		}
		next[i].At, n.High = next[i].At.Add(day), after+max(more, d.More/2)
		d.High = max(high*d.High+(1-high)*d.Mean, learned+more)
	}
	return append(points, next...)
}

// planner holds the jobs that are set already: those that run, and of those that wait the ones before the present.
type planner struct {
	v         view
	settings  Settings
	now       time.Time
	scenarios []scenario
	loads     [][]credit.Load // by scenario
	jobs      []Entry         // of the loads
	before    []credit.Course // what comes of the loads, by scenario
	allowed   float64         // surplus that may be charged and owed
}

func (s *State) planner(in Input, v view, set Settings) *planner {
	p := &planner{v: v, settings: set, now: in.Now, scenarios: v.scenarios()}
	if v.costsMoney() {
		p.allowed = set.surplus(in.Credits).Left
	}
	p.loads = make([][]credit.Load, len(p.scenarios))
	for _, e := range s.Jobs {
		if e.owed() > 0 {
			p.set(e, p.needs(e, s.past(e)), time.Time{})
		}
	}
	for i, c := range p.scenarios {
		p.before = append(p.before, credit.Outcome(c.bank, v.report.MeterAt, c.points, p.loads[i]))
	}
	return p
}

// choice is a start that is compared, with what only the planner looks at.
type choice struct {
	Choice
	// ends is how probable it is that the job ends at all in the two days.
	ends float64
	// harm is what the services lose on a day of high demand, the reserve included.
	harm    float64
	courses []credit.Course
}

// verdict is what the planner says of a job.
type verdict struct {
	start    bool
	hopeless bool // it cannot end in time any more
	why      string
	choices  []Choice // that were compared
}

// aged reports whether a job has no deadline, or none any more.
func (e Entry) aged(now time.Time) bool { return e.Deadline.IsZero() || !now.Before(e.Deadline) }

// needs says what a job will spend from now on, by scenario.
func (p *planner) needs(e Entry, past Past) (all []float64) {
	for _, c := range p.scenarios {
		all = append(all, max(past.rest(e.Expected, c.spread, e.Spent), overrun*e.Expected))
	}
	return all
}

// decide says whether a job that waits starts now. If another time is better, the job is set for it, so that
// those behind it leave it its credits. Late is whether its latest start has come.
func (p *planner) decide(e Entry, past Past, late bool) verdict {
	needs := p.needs(e, past)
	worth := 0.0
	for i, c := range p.scenarios {
		worth += c.probable * needs[i]
	}
	// Where credits are spare, a job is tried of which nothing is known by now.
	tried := !past.known(e, p.now) && !e.isLate(p.now) && e.Expected <= p.v.room(e.Cores, p.loads[0])
	measured := len(past.Costs) > 0 && !tried
	now := p.at(p.now, e, needs, measured)
	v := verdict{hopeless: late && now.InTime == 0 && !tried}
	if !now.Charged && p.isSpare(e) {
		v.start, v.why = true, fmt.Sprintf("needs %.1f credits: batches may spend as many", e.Expected)
		v.choices = []Choice{now.Choice}
		p.keep(e, now, needs)
		return v
	}
	aged, due := e.Deadline.IsZero() || v.hopeless, false
	if aged {
		since, least := e.Since, leastAge
		if v.hopeless {
			since, least = e.Deadline, 0
		}
		share := max(least, min(1, float64(p.now.Sub(since))/float64(ageFully)))
		if now.ends == 0 && share < 1 {
			share = 0
		}
		worth *= share * share * ServicesWeight
		due = share == 1
	}
	if v.hopeless {
		now.Cost += p.displaced(e, needs[0], p.now)
	}
	best := now
	var later *choice // the best of the later ones
	for _, at := range p.times(e) {
		if !now.Charged && max(now.Cost, now.harm) <= evenly*worth {
			break // nothing can be much better
		}
		c := p.at(at, e, needs, measured)
		if v.hopeless {
			c.Cost += p.displaced(e, needs[0], at)
		}
		if aged {
			c.Cost += worth * float64(at.Sub(p.now)) / float64(day)
		}
		v.choices = append(v.choices, c.Choice)
		// Where nothing is lost by it, one job runs after the other: then it is known what the first has left.
		turn := !aged && c.Cost <= now.Cost && slices.ContainsFunc(p.before[0].Ends, at.Equal)
		better := turn || now.Charged || c.Cost < now.Cost-evenly*worth
		if better && !c.Charged && (best.Start.Equal(p.now) || c.Cost < best.Cost) {
			best = c
		}
		if later == nil || later.Charged && !c.Charged || c.Charged == later.Charged && c.Cost < later.Cost {
			later = &c
		}
	}
	costs := "now " + now.cost()
	if later != nil {
		costs += fmt.Sprintf(", at %s %s", later.Start.UTC().Format("15:04"), later.cost())
	}
	// What the services may need is known better later: so nothing starts early that would harm them on a day of high demand.
	if !p.v.costsMoney() && !aged && !late && best.Start.Equal(p.now) && later != nil && now.harm > evenly*worth {
		best = *later
	}
	switch never := best.Charged || best.Cost >= worth && !due; {
	case !never && best.Start.Equal(p.now):
		v.start, v.why = true, "now is the best time"
		p.keep(e, best, needs)
	case !never:
		v.why = "is better started at " + clock(best.Start)
		p.keep(e, best, needs)
	case now.Charged:
		v.why = "more surplus would be charged than is allowed"
	case v.hopeless:
		v.why = "cannot end in time"
	default:
		v.why = fmt.Sprintf("may take %.1f from the services", now.Services)
	}
	v.choices = slices.Concat([]Choice{now.Choice}, v.choices, []Choice{{Cost: worth}})
	v.why = fmt.Sprintf("needs %.1f credits: %s (expected cost: %s, never %.1f)", e.Expected, v.why, costs, worth)
	return v
}

// isSpare reports whether a job may start without a comparison with other times: nobody says when it
// has to end, and what it needs fits into what the gate says that batches may spend.
func (p *planner) isSpare(e Entry) bool {
	return e.Deadline.IsZero() && e.Expected <= p.v.room(e.Cores, p.loads[0])
}

// times are the later ones at which a job could start: soon, and up to its latest start.
func (p *planner) times(e Entry) (all []time.Time) {
	last := e.LatestStart
	for _, d := range []time.Duration{1, 3, 8, 16} {
		at := p.now.Add(d * time.Hour)
		if !e.Deadline.IsZero() && !at.Before(last) {
			break
		}
		if p.settings.Windows.Open(at) {
			all = append(all, at)
		}
	}
	if last.After(p.now) && last.Sub(p.now) < day {
		all = append(all, last)
	}
	for _, c := range []credit.Course{p.before[0], p.before[careful]} { // the first of those before it that ends leaves it processors
		for _, end := range c.Ends {
			if end.After(p.now) && end.Before(e.Deadline) && p.settings.Windows.Open(end) {
				all = append(all, end)
				break
			}
		}
	}
	return all
}

// at plays the scenarios with a job that starts at a time.
func (p *planner) at(start time.Time, e Entry, needs []float64, measured bool) choice {
	worth := 1.0
	if !measured {
		worth = guessWorth
	}
	c := choice{Choice: Choice{Start: start}}
	for i, sc := range p.scenarios {
		with := append(slices.Clip(p.loads[i]), credit.Load{Credits: needs[i], Cores: e.Cores, Start: start})
		after := credit.Outcome(sc.bank, p.v.report.MeterAt, sc.points, with)
		before := p.before[i]
		loss, missed := max(0, after.Throttled-before.Throttled), 0.0
		lost := p.lasting(sc, before, after)
		loss += lost
		if p.v.costsMoney() {
			bought := max(0, p.v.charged(after)-p.v.charged(before))
			owed := p.owed(after, start) - p.owed(before, start)
			over := max(0, bought-p.allowed)
			loss += over
			if i != careful && over > tiny || i == 0 && (lost > p.allowed+tiny || owed > p.allowed+owedFree*sc.bank.Spec.Max) {
				c.Charged = true
			}
			missed = boughtWeight*min(bought, p.allowed) + owedWeight*max(0, owed-p.allowed)
		}
		if i == careful {
			loss += max(0, p.reserved(after)-p.reserved(before))
			c.harm = loss
		}
		for k, other := range p.jobs {
			if other.Deadline.IsZero() {
				continue
			}
			if ends(before.Ends[k], other.Deadline) && !ends(after.Ends[k], other.Deadline) {
				missed += other.Spent + with[k].Credits
			}
		}
		end := after.Ends[len(p.jobs)]
		if !end.IsZero() {
			c.ends += sc.probable
		}
		if e.Deadline.IsZero() || ends(end, e.Deadline) {
			c.InTime += sc.probable
		} else if p.now.Before(e.Deadline) {
			missed += worth * needs[i]
		}
		c.Services += sc.probable * loss
		c.Cost += sc.probable * (ServicesWeight*loss + missed)
		c.courses = append(c.courses, after)
	}
	return c
}

// tiny is an amount that is none.
const tiny = 1e-6

func ends(end, deadline time.Time) bool { return !end.IsZero() && !end.After(deadline) }

// lasting is what the services lose, or what is billed, in the days after the two, if they need more in the long run than
// is earned. What jobs have not spent by then is taken as well.
func (p *planner) lasting(sc scenario, before, after credit.Course) float64 {
	n, spec := len(sc.points), sc.bank.Spec
	days := daysAfter
	if sc.bank.Mode == credit.Unlimited {
		days = daysOwed
	}
	days = min(days, learnedTimes*p.v.report.LongRunDays)
	least := days * day.Minutes() * (p.v.report.LongRun - spec.Baseline())
	if n == 0 || least <= 0 {
		return 0
	}
	if sc.bank.Mode == credit.Unlimited {
		least -= spec.Max
	}
	return max(0, least-after.Positions[n-1]+after.Left) - max(0, least-before.Positions[n-1]+before.Left)
}

// displaced is what a late job takes from the jobs that will come if they need as much as in the last day, or from the services:
// all that would not be thrown away.
func (p *planner) displaced(e Entry, need float64, start time.Time) float64 {
	batches := map[time.Time]float64{}
	for _, h := range p.v.report.Hours {
		batches[h.At] = h.Batch / time.Hour.Minutes()
	}
	sc := p.scenarios[0]
	points := slices.Clone(sc.points)
	for i := range points {
		x := &points[i]
		for back := day; back <= 2*day; back += day { // the points reach two days ahead, the hours one back
			x.Demand.High += batches[x.At.Add(-back-time.Hour/2).UTC().Truncate(time.Hour)]
		}
	}
	discarded := func(ls []credit.Load) float64 {
		return credit.Outcome(sc.bank, p.v.report.MeterAt, points, ls).Discarded
	}
	with := append(slices.Clip(p.loads[0]), credit.Load{Credits: need, Cores: e.Cores, Start: start})
	return max(0, need-max(0, discarded(p.loads[0])-discarded(with)))
}

// reserved is how much of the reserve is missing at the lowest.
func (p *planner) reserved(c credit.Course) float64 {
	lowest := math.Inf(1)
	for _, x := range c.Positions {
		lowest = min(lowest, x)
	}
	return max(0, min(p.settings.Reserve, p.v.floor-lowest))
}

// owed is the surplus a day after a start, as far as it is played, if all goes as usual; where weeks are known to be alike, the least
// from then on.
func (p *planner) owed(c credit.Course, start time.Time) float64 {
	points := p.scenarios[0].points
	i := slices.IndexFunc(points, func(x credit.Point) bool { return !x.At.Before(start.Add(day)) })
	if i < 0 {
		i = len(points) - 1
	}
	if p.v.report.DayAfter != nil {
		return max(0, -slices.Max(c.Positions[i:]))
	}
	return max(0, -c.Positions[i])
}

// keep sets a job for its time.
func (p *planner) keep(e Entry, c choice, needs []float64) {
	p.set(e, needs, c.Start)
	p.before = c.courses
}

func (p *planner) set(e Entry, needs []float64, start time.Time) {
	p.jobs = append(p.jobs, e)
	for i := range p.loads {
		p.loads[i] = append(p.loads[i], credit.Load{Credits: needs[i], Cores: e.Cores, Start: start})
	}
}
