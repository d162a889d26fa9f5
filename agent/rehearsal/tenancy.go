package rehearsal

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// Tenant is an instance of today that might share one with others: its services' load and its jobs.
type Tenant struct {
	Name string
	// Spec is its type of today. One that is not burstable has vCPUs alone, and its Price, in US dollars an hour, is needed.
	Spec  credit.Spec
	Price float64
	// Mode is its credit option of today, empty where that is not known. Groups are judged in standard mode, whatever it is.
	Mode credit.Mode
	// Trace is recorded on TraceVCPUs (those of Spec if 0).
	Trace      Trace
	TraceVCPUs float64
	Jobs       []Job
	// Memory is the GiB that its services need; 0 is not known, and then it does not count.
	Memory float64
}

// Type is a candidate, with its price in US dollars an hour.
type Type struct {
	Spec  credit.Spec
	Price float64
	// Memory is its GiB.
	Memory float64
}

// Question is which tenants fit together.
type Question struct {
	Tenants []Tenant
	Types   []Type
	// Sure is the share of resampled times, 0 to 1, in which a group must fit. 0 is 0.9.
	Sure float64
	// Samples is how many times the days are resampled, 100 by default.
	Samples int
	// System is the GiB of memory that the system and the agents take on each instance.
	System float64
	// Progress, if set, is told again and again what part of the whole is done, 0 to 1.
	Progress func(float64)
}

// Group is tenants that share an instance.
type Group struct {
	Tenants []string `json:"tenants"`
	Type    string   `json:"type"`
	// Monthly is the price of 730 hours in US dollars.
	Monthly float64 `json:"monthly"`
	// Sure is the share of resampled times in which the group fits.
	Sure float64 `json:"sure"`
	// Spare is the credits that are left over, as a share of what is earned.
	Spare float64 `json:"spare"`
}

// Answer is the cheapest division of the tenants.
type Answer struct {
	// Before is what they cost today, After what they would, in US dollars a month.
	Before float64 `json:"before"`
	After  float64 `json:"after"`
	Groups []Group `json:"groups"`
	// Unsure are tenants for which no candidate is sure enough; they stay as they are.
	Unsure []string `json:"unsure,omitempty"`
	// MemoryUnknown are tenants whose memory did not count.
	MemoryUnknown []string `json:"memory_unknown,omitempty"`
	Days          int      `json:"days"`
}

// MaxTenants is how many instances a question may have: all their divisions are tried.
const MaxTenants = 8

const (
	hoursOfMonth = 730
	// mostMissed is the share of the jobs' credits, and of the services', that may be missing for a group to fit.
	mostMissed = 0.005
)

// Consolidate answers the question. Every group of tenants is tried on the types from the cheapest on: it fits if the services are
// throttled no more than on instances of their own and all jobs can be in time. How sure that is
// comes from resampling whole days, the same ones for all tenants so that what is busy together stays together. Of
// all divisions into groups that are sure enough the cheapest is taken.
func Consolidate(q Question) (Answer, error) {
	q.Sure, q.Samples = cmp.Or(q.Sure, 0.9), cmp.Or(q.Samples, 100)
	n := len(q.Tenants)
	switch {
	case n == 0 || n > MaxTenants:
		return Answer{}, fmt.Errorf("%d instances; give 1 to %d", n, MaxTenants)
	case len(q.Types) == 0:
		return Answer{}, errors.New("there is no type to choose from")
	case !(q.Sure > 0 && q.Sure <= 1):
		return Answer{}, errors.New("how sure must be more than 0 and at most 1")
	case q.Samples < 0 || q.Samples > 10000:
		return Answer{}, errors.New("the number of samples must be 1 to 10000")
	}
	slices.SortStableFunc(q.Types, func(a, b Type) int { return cmp.Compare(a.Price, b.Price) })
	c, err := newConsolidation(q)
	if err != nil {
		return Answer{}, err
	}
	return c.answer(), nil
}

// consolidation is a question that is being answered. A set of tenants is a number whose bit i stands for tenant i.
type consolidation struct {
	q       Question
	days    int
	samples [][]int     // each the days of one sample
	loads   [][]float64 // of each tenant, in vCPUs, by five minutes, from midnight
	alone   [][]float64 // credits that each is throttled today, by sample; the last is as recorded
	start   time.Time
	best    map[uint]*Group // by set of tenants; nil fits nowhere
}

const perDay = int(24 * time.Hour / credit.Period)

func newConsolidation(q Question) (*consolidation, error) {
	c := &consolidation{q: q, best: map[uint]*Group{}}
	// The days that all traces have, by the clock: tenants that are busy at the same hours must stay so.
	var starts, ends []time.Time
	for _, t := range q.Tenants {
		starts = append(starts, t.Trace.Start.Add(day-1).Truncate(day))
		ends = append(ends, t.Trace.Start.Add(t.Trace.Length()))
	}
	c.start = slices.MaxFunc(starts, time.Time.Compare)
	c.days = int(slices.MinFunc(ends, time.Time.Compare).Sub(c.start) / day)
	if c.days < 2 {
		return nil, errors.New("the traces have fewer than two whole days (UTC) in common")
	}
	for _, t := range q.Tenants {
		vcpus := cmp.Or(t.TraceVCPUs, float64(t.Spec.VCPUs))
		load := make([]float64, c.days*perDay)
		offset := c.start.Sub(t.Trace.Start)
		for i := range load {
			at := offset + time.Duration(i)*credit.Period
			load[i] = t.Trace.mean(at, at+credit.Period) / 100 * vcpus
		}
		c.loads = append(c.loads, load)
	}
	r := rand.New(rand.NewPCG(1, uint64(c.days)))
	for range q.Samples {
		sample := make([]int, c.days)
		for i := range sample {
			sample[i] = r.IntN(c.days)
		}
		c.samples = append(c.samples, sample)
	}
	c.samples = append(c.samples, nil)
	c.alone = make([][]float64, len(c.samples))
	for k, sample := range c.samples {
		for i, t := range q.Tenants {
			if !credit.Burstable(t.Spec.Type) { // never throttled
				c.alone[k] = append(c.alone[k], 0)
				continue
			}
			o, cut := c.shared(1<<i, t.Spec, sample)
			idle, _, err := withoutJobs(o)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.Name, err)
			}
			c.alone[k] = append(c.alone[k], idle.throttled+cut)
		}
	}
	return c, nil
}

// shared is a rehearsal in which the tenants of a set share a type on the days of a sample (nil is as recorded), and the credits
// that their services want beyond all processors.
func (c *consolidation) shared(set uint, spec credit.Spec, sample []int) (o Options, cut float64) {
	values := make([]float64, c.days*perDay)
	o = Options{Spec: spec, TraceVCPUs: float64(spec.VCPUs), Balance: spec.Max / 2}
	for i, load := range c.loads {
		if set&(1<<i) == 0 {
			continue
		}
		for k := range values {
			from := k
			if sample != nil {
				from = sample[k/perDay]*perDay + k%perDay
			}
			values[k] += 100 * load[from] / float64(spec.VCPUs)
		}
		o.Jobs = append(o.Jobs, c.q.Tenants[i].Jobs...)
	}
	for k, v := range values {
		cut += max(0, v-100) / 100 * float64(spec.VCPUs) * credit.Period.Minutes()
		values[k] = min(v, 100)
	}
	o.Trace = Trace{Start: c.start, Step: credit.Period, Values: values}
	return o, cut
}

// fits says whether a set of tenants can share a type on the days of a sample, by its number.
func (c *consolidation) fits(set uint, spec credit.Spec, k int) (idle *instance, ok bool) {
	o, cut := c.shared(set, spec, c.samples[k])
	idle, o, err := withoutJobs(o)
	if err != nil {
		return nil, false
	}
	runs, err := o.runs()
	if err != nil {
		return nil, false
	}
	idle.throttled += cut
	allowed := mostMissed * (idle.sums.Services + idle.throttled)
	for i, a := range c.alone[k] {
		if set&(1<<i) != 0 {
			allowed += a
		}
	}
	if idle.throttled > allowed || len(runs) == 0 {
		return idle, idle.throttled <= allowed
	}
	b := bound(o, runs, idle)
	return idle, b.relaxed <= mostMissed*b.needed
}

// group finds the cheapest type that is sure enough for a set.
func (c *consolidation) group(set uint) *Group {
	if g, known := c.best[set]; known {
		return g
	}
	c.best[set] = nil
	if c.q.Progress != nil {
		c.q.Progress(float64(len(c.best)-1) / float64(uint(1)<<len(c.q.Tenants)-1))
	}
	memory := c.q.System
	var names []string
	for i, t := range c.q.Tenants {
		if set&(1<<i) != 0 {
			memory += t.Memory
			names = append(names, t.Name)
		}
	}
	for _, t := range c.q.Types {
		if memory > t.Memory {
			continue
		}
		idle, ok := c.fits(set, t.Spec, len(c.samples)-1)
		if !ok {
			continue
		}
		if sure := c.sure(set, t.Spec); sure >= c.q.Sure {
			c.best[set] = &Group{Tenants: names, Type: t.Spec.Type, Monthly: hoursOfMonth * t.Price, Sure: sure, Spare: idle.sums.Account.Discarded / idle.sums.Account.Earned}
			break
		}
	}
	return c.best[set]
}

func (c *consolidation) sure(set uint, spec credit.Spec) float64 {
	n := 0
	for k := range c.q.Samples {
		if _, ok := c.fits(set, spec, k); ok {
			n++
		}
	}
	return float64(n) / float64(c.q.Samples)
}

// division is one way to divide a set of tenants into groups.
type division struct {
	cost   float64
	groups []*Group
}

func (c *consolidation) answer() Answer {
	a := Answer{Days: c.days}
	price := map[string]float64{}
	for _, t := range c.q.Types {
		price[t.Spec.Type] = t.Price
	}
	for i, t := range c.q.Tenants {
		kept := !credit.Burstable(t.Spec.Type) // as it is, all fits
		cost := hoursOfMonth * price[t.Spec.Type]
		if kept {
			cost = hoursOfMonth * t.Price
		}
		a.Before += cost
		if t.Memory == 0 {
			a.MemoryUnknown = append(a.MemoryUnknown, t.Name)
		}
		// To stay as it is costs what it costs today, and is never worse than that.
		if g := c.group(1 << i); g == nil || g.Monthly > cost+1e-9 {
			stays := &Group{Tenants: []string{t.Name}, Type: t.Spec.Type, Monthly: cost, Sure: 1}
			if !kept {
				stays.Sure = c.sure(1<<i, t.Spec)
				if idle, _ := c.fits(1<<i, t.Spec, len(c.samples)-1); idle != nil {
					stays.Spare = idle.sums.Account.Discarded / idle.sums.Account.Earned
				}
			}
			if stays.Sure < c.q.Sure {
				a.Unsure = append(a.Unsure, t.Name)
			}
			c.best[1<<i] = stays
		}
	}
	d := c.divide(1<<len(c.q.Tenants)-1, map[uint]division{0: {}})
	a.After = d.cost
	for _, g := range d.groups {
		a.Groups = append(a.Groups, *g)
	}
	return a
}

// divide finds the cheapest division of a set: its first tenant is grouped with
// each part of the others, and the rest is divided likewise.
func (c *consolidation) divide(set uint, known map[uint]division) division {
	if d, ok := known[set]; ok {
		return d
	}
	first := uint(1) << bits.TrailingZeros(set)
	rest := set &^ first
	var best division
	for part := rest; ; part = (part - 1) & rest {
		if g := c.group(first | part); g != nil {
			if d := c.divide(rest&^part, known); best.groups == nil || d.cost+g.Monthly <= best.cost+1e-9 { // the smaller groups at the same price
				best = division{d.cost + g.Monthly, append([]*Group{g}, d.groups...)}
			}
		}
		if part == 0 {
			break
		}
	}
	known[set] = best
	return best
}

// Text renders the answer for people. It ends with a line feed.
func (a Answer) Text() string {
	var w strings.Builder
	t := tabwriter.NewWriter(&w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "together\ton\t$ a month\tsure\tcredits to spare")
	for _, g := range a.Groups {
		fmt.Fprintf(t, "%s\t%s\t%.2f\t%.0f %%\t%.0f %%\n", strings.Join(g.Tenants, ", "), g.Type, g.Monthly, 100*g.Sure, 100*g.Spare)
	}
	t.Flush()
	fmt.Fprintf(&w, "\nbefore $%.2f a month, after $%.2f; judged by %d days, resampled\n", a.Before, a.After, a.Days)
	w.WriteString("jobs are in time by a bound that knows the future; the gate may need a little more: nagaya simulate shows how much\n")
	if len(a.Unsure) > 0 {
		fmt.Fprintf(&w, "not sure on any type that costs no more, so left as they are: %s\n", strings.Join(a.Unsure, ", "))
	}
	if len(a.MemoryUnknown) > 0 {
		fmt.Fprintf(&w, "their memory was not given and does not count: %s\n", strings.Join(a.MemoryUnknown, ", "))
	}
	return w.String()
}
