package rehearsal

import (
	"math"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// A bound is what no policy can do better, even one that knows all load and jobs
// beforehand and may stop and continue any job at any time.
//
// Taking a credit from a service costs three times what a job's credit is worth, and a credit that a job spends takes at
// most one from the services later; so the best plan leaves the services all that they
// would have had without jobs, and gives the jobs the most that is then possible. That is a
// maximum flow: credits flow from where they are earned (or surplus may be borrowed, on an unlimited instance) forward through
// time, never more than the cap from one moment to the next, to the services and, within
// each job's window, cores and need, and the processors that the services leave, to the jobs.
// Paths that augment a flow never lessen what its sinks receive; so the services' part is set
// first and each job is then given all it can get.
//
// Time is cut into at most maxNodes pieces. Within a piece the order of things is
// free, and a window counts as far as it overlaps the piece; both only widen what is
// possible, so it remains a bound. It counts parts of jobs as done, which no score does.
type lowerBound struct {
	piece  time.Duration
	given  []float64 // credits, by run
	used   []float64 // credits of all jobs, by piece
	needed float64
}

const maxNodes = 2048

// flow is a network with residual capacities; arc i^1 is the reverse of arc i.
type flow struct {
	to, next []int32
	cap      []float64
	head     []int32
	seen     []int32 // by node: the search that last reached it
	via      []int32 // by node: the arc by which
	search   int32
	queue    []int32
}

func newFlow(nodes int) *flow {
	f := &flow{head: make([]int32, nodes), seen: make([]int32, nodes), via: make([]int32, nodes)}
	for i := range f.head {
		f.head[i] = -1
	}
	return f
}

// arc adds an arc and returns its number.
func (f *flow) arc(from, to int, capacity float64) int {
	n := len(f.to)
	f.to = append(f.to, int32(to), int32(from))
	f.cap = append(f.cap, capacity, 0)
	f.next = append(f.next, f.head[from], f.head[to])
	f.head[from], f.head[to] = int32(n), int32(n+1)
	return n
}

// tiny is an amount of credits that is none.
const tiny = 1e-7

// augment finds a shortest path backwards from the sink to the source and sends what it
// can; 0 means that there is none. Backwards, because a job's credits are mostly found near it.
func (f *flow) augment(source, sink int) float64 {
	f.search++
	f.queue = append(f.queue[:0], int32(sink))
	f.seen[sink] = f.search
	for i := 0; i < len(f.queue); i++ {
		at := f.queue[i]
		for a := f.head[at]; a >= 0; a = f.next[a] {
			from := f.to[a]
			if f.cap[a^1] <= tiny || f.seen[from] == f.search {
				continue
			}
			f.seen[from], f.via[from] = f.search, a^1
			if int(from) == source {
				return f.send(source, sink)
			}
			f.queue = append(f.queue, from)
		}
	}
	return 0
}

// fill sends up to so much from node 0 to node 1.
func (f *flow) fill(wanted float64) {
	for wanted > tiny {
		sent := f.augment(0, 1)
		if sent == 0 {
			return
		}
		wanted -= sent
	}
}

func (f *flow) send(source, sink int) float64 {
	most := math.Inf(1)
	for at := source; at != sink; at = int(f.to[f.via[at]]) {
		most = min(most, f.cap[f.via[at]])
	}
	for at := source; at != sink; {
		a := f.via[at]
		f.cap[a] -= most
		f.cap[a^1] += most
		at = int(f.to[a])
	}
	return most
}

// bound solves it. idle is the world without jobs.
func bound(o Options, runs []Run, idle *instance) lowerBound {
	tick := idle.tick
	ticks := len(idle.givenServices)
	per := (ticks + maxNodes - 1) / maxNodes
	b := lowerBound{piece: time.Duration(per) * tick, given: make([]float64, len(runs))}
	n := (ticks + per - 1) / max(per, 1)
	b.used = make([]float64, n)
	if n == 0 {
		return b
	}
	services := make([]float64, n)
	for i, x := range idle.givenServices {
		services[i/per] += x
	}
	// What an unlimited instance may borrow is there from the beginning; the cap grows by it.
	opening, most := o.Balance+credit.Open(o.Spec, o.Mode).Launch, o.Spec.Max
	if o.Mode == credit.Unlimited {
		opening, most = opening+o.Spec.Max, 2*o.Spec.Max
	}
	earn := make([]float64, n)
	span := func(i int) time.Duration { return min(o.Length-time.Duration(i)*b.piece, b.piece) }
	for i := range earn {
		earn[i] = o.Spec.Baseline() * span(i).Minutes()
	}
	earn[0] += opening
	carryCap := most + credit.Open(o.Spec, o.Mode).Launch

	// Nodes: 0 source, 1 sink, 2… the pieces with credits, then the processors of each, then the jobs.
	f := newFlow(2 + 2*n + len(runs))
	piece, processors := func(i int) int { return 2 + i }, func(i int) int { return 2 + n + i }
	for i := range n {
		f.arc(0, piece(i), earn[i])
		if i > 0 {
			f.arc(piece(i-1), piece(i), carryCap)
		}
		f.arc(piece(i), 1, services[i])
		f.fill(services[i])
		f.arc(piece(i), processors(i), max(0, float64(o.Spec.VCPUs)*span(i).Minutes()-services[i]))
	}
	type link struct{ arc, piece int }
	links := make([][]link, len(runs))
	end := o.Trace.Start.Add(o.Length)
	for _, k := range byNeed(runs) {
		r, node := runs[k], 2+2*n+k
		from, to := r.Due.Sub(o.Trace.Start), r.until(end).Sub(o.Trace.Start)
		for i := int(from / b.piece); i < n && time.Duration(i)*b.piece < to; i++ {
			at := time.Duration(i) * b.piece
			within := min(to, at+span(i)) - max(from, at)
			links[k] = append(links[k], link{f.arc(processors(i), node, r.Cores*within.Minutes()), i})
		}
		f.arc(node, 1, r.Need)
		f.fill(r.Need)
		b.needed += r.Need
	}
	for k, ls := range links {
		for _, l := range ls {
			got := f.cap[l.arc^1]
			b.given[k] += got
			b.used[l.piece] += got
		}
	}
	return b
}

// score is the least that any policy can have.
func (b lowerBound) score() float64 {
	var done float64
	for _, x := range b.given {
		done += x
	}
	return max(0, b.needed-done)
}

// result shows the bound in the form of the policies' results.
func (b lowerBound) result(o Options, runs []Run, idle *instance) Result {
	r := Result{Policy: Clairvoyant, Services: idle.sums.Services, Throttled: 60 * idle.throttled, Score: b.score(), Missed: b.score()}
	bank := credit.Open(o.Spec, o.Mode)
	bank.Balance = o.Balance
	per := int(b.piece / idle.tick)
	for i, services := range idle.givenServices {
		piece := i / per
		jobs := b.used[piece] / float64(min(per, len(idle.givenServices)-piece*per))
		var a credit.Account
		bank, a = bank.Advance(idle.tick, (services+jobs)/idle.tick.Minutes())
		r.Account = r.Account.Add(a)
		if o.Steps {
			m := idle.tick.Minutes()
			r.Steps = append(r.Steps, Step{
				At: o.Trace.Start.Add(time.Duration(i+1) * idle.tick), Balance: bank.Position(), Services: services / m, Jobs: jobs / m,
			})
		}
	}
	r.Account.Throttled = idle.throttled
	r.ChargedForJobs = max(0, r.Account.Charged-idle.sums.Account.Charged)
	r.ChargedDollars = o.Settings.For(o.Spec).Dollars(r.Account.Charged)
	for k, x := range runs {
		x.Spent = b.given[k]
		r.Jobs += x.Spent
		if x.Need-x.Spent < 1e-3 {
			x.State, x.InTime = gate.Done, true
			r.InTime++
		} else {
			x.State = gate.Refused
			r.Refused++
		}
		r.Runs = append(r.Runs, x)
	}
	return r
}
