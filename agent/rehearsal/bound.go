package rehearsal

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// A lowerBound is what no policy can do better, even one that knows all load and jobs
// in advance and may stop and continue any job at any time.
//
// Credits flow from where they are earned (or surplus may be borrowed, on an unlimited instance) forward through
// time, never more than the cap from one moment to the next, to the services and, within
// each job's window, cores and need, and the processors that the services leave, to the jobs.
// The services are given first what they would have without jobs, and paths that augment a flow never lessen what its nodes keep.
//
// If a part of a job counted as done, nothing would be taken from the services: a credit that a job spends takes
// at most one from them, which costs three times what it is worth. Then each job is given all it can get, and the
// bound is what they lack: relaxed.
//
// A score counts whole jobs. Whole finds which of them to do: what the others need is missed, and what those that are done
// cannot get otherwise is taken from the services. It is a branch and bound over the relaxation; where it
// has to end early, least is below the best plan that it has found.
//
// Time is cut into about maxNodes pieces, at the edges of windows too. Within a piece the order of things is
// free, and a window counts as far as it overlaps the piece; both only widen what is
// possible, so it remains a bound.
type lowerBound struct {
	needed  float64
	relaxed float64 // the score if parts of jobs counted
	least   float64 // the score of whole jobs, at least; as relaxed before whole is called
	best    float64 // the score of the best plan that was found
	taken   float64 // from the services by that plan
	stand           // of that plan

	f      *flow
	runs   []Run
	pieces []piece
	links  []link
}

// piece is some ticks.
type piece struct{ from, to int }

// link is the arc by which a piece gives credits to a run.
type link struct{ run, piece, arc int }

const (
	maxNodes = 2048
	// mostLinks bounds the arcs between pieces and runs: a few hundred MB. Where there would be more, the pieces are larger.
	mostLinks, leastNodes = 2_000_000, 32
	// mostWork bounds the search for whole jobs, in arcs that are looked at: about a second.
	mostWork = 100_000_000
	// mostOpen bounds what the search keeps, in arcs of all partial decisions that are open: 512 MB.
	mostOpen = 64_000_000
	// almost is how many credits a job may lack that is done.
	almost = 1e-3
)

// node is the node of a run.
func (b *lowerBound) node(run int) int { return 1 + 2*len(b.pieces) + run }

// lacks is what a run has not got.
func (b *lowerBound) lacks(run int) float64 {
	if x := b.runs[run].Need - b.f.kept[b.node(run)]; x > almost {
		return x
	}
	return 0
}

// bound finds what is possible if parts of jobs count. idle is the world without jobs.
func bound(o Options, runs []Run, idle *instance) *lowerBound {
	b := &lowerBound{runs: runs}
	at := func(tick int) time.Duration { return min(time.Duration(tick)*idle.tick, o.Length) }
	end := o.Trace.Start.Add(o.Length)
	// window returns when a run may run, and the pieces from first to before past that this overlaps.
	window := func(r Run) (from, to time.Duration, first, past int) {
		from, to = r.Due.Sub(o.Trace.Start), r.until(end).Sub(o.Trace.Start)
		first, _ = slices.BinarySearchFunc(b.pieces, from, func(p piece, t time.Duration) int { return cmp.Compare(at(p.to), t+1) })
		past, _ = slices.BinarySearchFunc(b.pieces, to, func(p piece, t time.Duration) int { return cmp.Compare(at(p.from), t) })
		return from, to, first, past
	}
	for nodes := maxNodes; nodes >= leastNodes; nodes /= 2 {
		b.pieces = cut(o, runs, idle, nodes)
		links := 0
		for _, r := range runs {
			_, _, first, past := window(r)
			links += max(0, past-first)
		}
		if links <= mostLinks {
			break
		}
	}
	n := len(b.pieces)
	// What an unlimited instance may borrow is there from the beginning; the cap grows by it.
	launch := credit.Open(o.Spec, o.Mode).Launch
	opening, most := o.Balance+launch, o.Spec.Max+launch
	if o.Mode == credit.Unlimited {
		opening, most = opening+o.Spec.Max, most+o.Spec.Max
	}
	// Nodes: the source, the pieces with credits, then the processors of each, then the jobs.
	b.f = newFlow(1 + 2*n + len(runs))
	f := b.f
	for i, p := range b.pieces {
		var services, wanted float64
		for _, x := range idle.services[p.from:p.to] {
			services, wanted = services+x.given, wanted+x.wanted
		}
		span := (at(p.to) - at(p.from)).Minutes()
		f.arc(source, 1+i, opening+o.Spec.Baseline()*span)
		opening = 0
		if i > 0 {
			f.arc(i, 1+i, most)
		}
		f.fill(1+i, services, free)
		f.price[1+i] = dear
		f.arc(1+i, 1+n+i, max(0, float64(o.Spec.VCPUs)*span-wanted))
	}
	order := make([]int, len(runs)) // the cheap ones first, so that as many as possible are whole
	for k, r := range runs {
		order[k] = k
		from, to, first, past := window(r)
		for i := first; i < past; i++ {
			within := min(to, at(b.pieces[i].to)) - max(from, at(b.pieces[i].from))
			b.links = append(b.links, link{k, i, f.fanned(1+n+i, b.node(k), r.Cores*within.Minutes())})
		}
		f.price[b.node(k)] = cheap
		b.needed += r.Need
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(runs[x].Need, runs[y].Need) })
	for _, k := range order {
		b.relaxed += runs[k].Need - f.fill(b.node(k), runs[k].Need, free)
	}
	b.least, b.best, b.stand = b.relaxed, b.relaxed, f.stand
	return b
}

// cut cuts the time of a rehearsal into about so many pieces.
func cut(o Options, runs []Run, idle *instance, nodes int) (all []piece) {
	ticks := len(idle.services)
	var edges []int
	for i := 0; i < ticks; i += (ticks + nodes - 1) / nodes {
		edges = append(edges, i)
	}
	if len(runs) < nodes {
		end := o.Trace.Start.Add(o.Length)
		for _, r := range runs {
			from, to := r.Due.Sub(o.Trace.Start), r.until(end).Sub(o.Trace.Start)
			edges = append(edges, int(from/idle.tick), int((to+idle.tick-1)/idle.tick))
		}
	}
	edges = append(edges, ticks)
	slices.Sort(edges)
	for i, e := range edges[1:] {
		if from, to := edges[i], min(e, ticks); from < to {
			all = append(all, piece{from, to})
		}
	}
	return all
}

// partial is a decision about some of the jobs, and how the network stands with it.
type partial struct {
	stand
	spent float64 // what the decisions cost
	taken float64 // that part of it which is credits taken from services, 3 for each
	least float64 // the least cost of all plans with these decisions
	next  int     // the run to decide about; less than 0 if the rest can be done as well
}

// whole finds the best plan of whole jobs.
func (b *lowerBound) whole() *lowerBound {
	b.best = math.Inf(1)
	open := []partial{b.judge(partial{stand: b.f.stand})}
	for start := b.f.work; len(open) > 0; {
		i := 0
		for k := range open {
			if open[k].least < open[i].least {
				i = k
			}
		}
		p := open[i]
		if b.least = min(p.least, b.best); p.least >= b.best-almost || b.f.work-start > mostWork || len(open)*len(b.f.room) > mostOpen {
			return b
		}
		open = slices.Delete(open, i, i+1)
		for _, child := range []func(partial) (partial, bool){b.do, b.drop} {
			if c, ok := child(p); ok {
				if c = b.judge(c); c.next >= 0 && c.least < b.best-almost {
					open = append(open, c)
				}
			}
		}
	}
	b.least = b.best
	return b
}

// do decides that a run is done, whatever it takes. It is false if that is impossible.
func (b *lowerBound) do(p partial) (partial, bool) {
	p.stand = p.clone()
	b.f.stand = p.stand
	node := b.node(p.next)
	b.f.price[node] = fixed
	b.f.fill(node, b.lacks(p.next), cheap)
	taken := b.f.fill(node, b.lacks(p.next), dear)
	p.taken += taken
	p.spent += gate.ServicesWeight * taken
	return p, b.lacks(p.next) == 0
}

// drop decides that a run is not done, and gives the others what it has.
func (b *lowerBound) drop(p partial) (partial, bool) {
	p.stand = p.clone()
	b.f.stand = p.stand
	b.f.price[b.node(p.next)] = free
	p.spent += b.runs[p.next].Need
	for k := range b.runs {
		if b.f.price[b.node(k)] == cheap {
			b.f.fill(b.node(k), b.lacks(k), free)
		}
	}
	return p, true
}

// judge says what a partial decision costs at least, and takes it for a plan: undecided runs that lack nothing are done.
//
// Runs that lack something share what there is with those from which they could take it. No choice among
// these runs gets more, so the cheapest whole choice among them is part of the least cost.
func (b *lowerBound) judge(p partial) partial {
	f := b.f
	f.stand = p.stand
	p.least, p.next = p.spent, -1
	missed := p.spent
	group := make([]int, len(b.runs)) // by run: the run whose group it is in
	for k := range group {
		group[k] = -1
	}
	undecided := func(k int) bool { return f.price[b.node(k)] == cheap }
	for k, r := range b.runs {
		if !undecided(k) || b.lacks(k) == 0 {
			continue
		}
		missed += r.Need
		if group[k] >= 0 {
			continue
		}
		f.reach(b.node(k), free)
		for _, at := range f.queue {
			i := int(at) - b.node(0)
			if i < 0 || !undecided(i) {
				continue
			}
			if old := group[i]; old >= 0 && old != k {
				for j := range group {
					if group[j] == old {
						group[j] = k
					}
				}
			}
			group[i] = k
		}
	}
	if missed < b.best {
		b.best, b.taken, b.stand = missed, p.taken, p.stand
	}
	most := -1.0
	for k := range group {
		var needs []float64
		var lack, largest float64
		of := -1
		for i, g := range group {
			if g == k {
				needs = append(needs, b.runs[i].Need)
				lack += b.lacks(i)
				if b.runs[i].Need > largest {
					of, largest = i, b.runs[i].Need
				}
			}
		}
		if of < 0 {
			continue
		}
		cost := cheapest(needs, lack)
		p.least += cost
		if cost-lack > most {
			p.next, most = of, cost-lack
		}
	}
	return p
}

// mostSums bounds the work of cheapest.
const mostSums = 2000

// cheapest is the least cost of leaving out some of the needs that together lack so much, and taking the rest of it
// from the services.
func cheapest(needs []float64, lack float64) float64 {
	enough := math.Inf(1) // the least sum that is no less than lack
	less := []float64{0}  // the sums that are
	for _, x := range needs {
		for _, s := range less {
			if s += x; s < lack-almost {
				less = append(less, s)
			} else {
				enough = min(enough, s)
			}
		}
		slices.Sort(less)
		less = slices.CompactFunc(less, func(a, b float64) bool { return math.Abs(a-b) < tiny })
		if len(less) > mostSums {
			return lack
		}
	}
	return max(lack, min(enough, gate.ServicesWeight*lack-(gate.ServicesWeight-1)*less[len(less)-1]))
}

// result shows the bound in the form of the policies' results: its score, and the runs of the best plan.
func (b *lowerBound) result(o Options, idle *instance) Result {
	r := Result{
		Policy: Clairvoyant, Services: idle.sums.Services - b.taken, Throttled: 60 * (idle.throttled + b.taken), ThrottledByJobs: 60 * b.taken,
		Score: b.least,
	}
	given, used := make([]float64, len(b.runs)), make([]float64, len(b.pieces))
	for _, l := range b.links {
		if k := b.node(l.run); b.runs[l.run].Need-b.kept[k] < almost && b.price[k] != free {
			given[l.run] += b.room[l.arc^1]
			used[l.piece] += b.room[l.arc^1]
		}
	}
	bank := credit.Open(o.Spec, o.Mode)
	bank.Balance = o.Balance
	m := idle.tick.Minutes()
	for i, p := range b.pieces {
		jobs := used[i] / float64(p.to-p.from)
		for k, x := range idle.services[p.from:p.to] {
			var a credit.Account
			bank, a = bank.Advance(idle.tick, (x.given+jobs)/m)
			r.Account = r.Account.Add(a)
			if o.Steps {
				r.Steps = append(r.Steps, Step{
					At: o.Trace.Start.Add(time.Duration(p.from+k+1) * idle.tick), Balance: bank.Position(), Services: x.given / m, Jobs: jobs / m,
				})
			}
		}
	}
	r.Account.Throttled = idle.throttled + b.taken
	r.ChargedForJobs = max(0, r.Account.Charged-idle.sums.Account.Charged)
	r.ChargedDollars = o.Settings.For(o.Spec).Dollars(r.Account.Charged)
	for k, x := range b.runs {
		x.Spent, x.State = given[k], gate.Refused
		r.Jobs += x.Spent
		if x.InTime = x.Need-x.Spent < almost; x.InTime {
			x.State = gate.Done
			r.InTime++
		} else {
			r.Refused++
			r.Missed += x.Need
		}
		r.Runs = append(r.Runs, x)
	}
	return r
}
