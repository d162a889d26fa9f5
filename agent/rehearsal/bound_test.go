package rehearsal

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
)

// small is a case in whole credits: pieces of three minutes on one vCPU, which can
// spend three credits in each.
type small struct {
	earn, most, opening int
	wanted              []int // by the services
	jobs                []smallJob
}

type smallJob struct{ from, to, need, cores int } // pieces from..to-1, cores credits a piece

const smallPiece = 3 * time.Minute

// least tries every way to spend whole credits, also those that take some from the services, and
// returns the least score, in which whole jobs count or parts of them.
func (s small) least(whole bool) int {
	type key struct {
		t, bank int
		left    string
	}
	known := map[key]int{}
	left := make([]int, len(s.jobs))
	for k, j := range s.jobs {
		left[k] = j.need
	}
	var try func(t, bank int) int
	try = func(t, bank int) int {
		if t == len(s.wanted) {
			return 0
		}
		at := key{t, bank, fmt.Sprint(left)}
		if v, ok := known[at]; ok {
			return v
		}
		best := math.MaxInt
		var give func(k, spent, done int)
		give = func(k, spent, done int) {
			if spent > bank+s.earn || spent > 3-s.wanted[t] {
				return
			}
			if k == len(s.jobs) {
				for services := range min(s.wanted[t], bank+s.earn-spent) + 1 {
					after := min(s.most, bank+s.earn-spent-services)
					best = min(best, gate.ServicesWeight*(s.wanted[t]-services)-done+try(t+1, after))
				}
				return
			}
			most := 0
			if j := s.jobs[k]; j.from <= t && t < j.to {
				most = min(j.cores, left[k])
			}
			for x := 0; x <= most; x++ {
				left[k] -= x
				counts := x
				if whole {
					counts = 0
					if x > 0 && left[k] == 0 {
						counts = s.jobs[k].need
					}
				}
				give(k+1, spent+x, done+counts)
				left[k] += x
			}
		}
		give(0, 0, 0)
		known[at] = best
		return best
	}
	score := try(0, s.opening)
	for _, j := range s.jobs {
		score += j.need
	}
	bank := s.opening // the services alone are throttled by nobody's fault
	for _, w := range s.wanted {
		got := min(w, bank+s.earn)
		score -= gate.ServicesWeight * (w - got)
		bank = min(s.most, bank+s.earn-got)
	}
	return score
}

// solved is the bound of the same case.
func (s small) solved() *lowerBound {
	spec := credit.Spec{Type: "t9.small", VCPUs: 1, EarnPerHour: 20 * float64(s.earn), Max: float64(s.most)}
	start := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	o := Options{Spec: spec, Trace: Trace{Start: start}, Length: smallPiece * time.Duration(len(s.wanted)), Balance: float64(s.opening)}
	idle := &instance{tick: smallPiece}
	bank := s.opening
	for _, w := range s.wanted {
		got := min(w, bank+s.earn)
		idle.services = append(idle.services, service{float64(w), float64(got)})
		bank = min(s.most, bank+s.earn-got)
	}
	var runs []Run
	for _, j := range s.jobs {
		runs = append(runs, Run{
			Due: start.Add(smallPiece * time.Duration(j.from)), Deadline: start.Add(smallPiece * time.Duration(j.to)),
			Need: float64(j.need), Cores: float64(j.cores) / 3,
		})
	}
	return bound(o, runs, idle).whole()
}

func TestBoundIsTheLeastOfAllPlans(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	parts, wholes, taking := 0, 0, 0
	for range 1200 {
		s := small{earn: 1 + r.IntN(2), most: 1 + r.IntN(9)}
		s.opening = r.IntN(s.most + 1)
		for range 3 + r.IntN(4) {
			s.wanted = append(s.wanted, r.IntN(4))
		}
		for range 1 + r.IntN(4) {
			from := r.IntN(len(s.wanted))
			s.jobs = append(s.jobs, smallJob{from, from + 1 + r.IntN(len(s.wanted)-from), 1 + r.IntN(9), 1 + r.IntN(3)})
		}
		b := s.solved()
		for _, x := range []struct {
			what string
			want int
			got  float64
		}{{"relaxed", s.least(false), b.relaxed}, {"at the least", s.least(true), b.least}, {"the best plan found", s.least(true), b.best}} {
			if math.Abs(float64(x.want)-x.got) > 1e-3 {
				t.Fatalf("%+v: %s %v, the best plan scores %v", s, x.what, x.got, x.want)
			}
		}
		if b.relaxed > 0 {
			parts++
		}
		if b.least > b.relaxed+almost {
			wholes++
		}
		if b.taken > 0 {
			taking++
		}
	}
	t.Logf("%d cases leave something undone, %d more with whole jobs, and %d take something from the services", parts, wholes, taking)
	if parts < 100 || wholes < 50 || taking < 10 {
		t.Error("the search is too easy")
	}
}

// Pairs of jobs that exclude each other, of which each differs from all others, have very many plans that are almost as good: the search keeps no more
// of them than memory there is on a small machine.
func TestTheSearchForTheBoundKeepsLittle(t *testing.T) {
	s := spec(t, "t3.nano")
	o := Options{Spec: s, Trace: byHour(regularDays, loads[5].value).scaled(s, loads[5].scale), Balance: s.Max / 2}
	idle, o, err := withoutJobs(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Jobs = setting{jobs: exclusive, vary: needs[1].of, part: 1}.jobsOf(idle, o, gate.LateRun)
	runs, err := o.runs()
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b := bound(o, runs, idle).whole()
	runtime.ReadMemStats(&after)
	if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 4000 {
		t.Errorf("%d MB were allocated for %d runs", mb, len(runs))
	}
	if b.least > b.best {
		t.Errorf("the bound is %v, and a plan costs %v", b.least, b.best)
	}
	t.Logf("%d MB, bound %v, best plan %v", (after.TotalAlloc-before.TotalAlloc)>>20, b.least, b.best)
}

// Thousands of runs that may all run at any time come to tens of millions of arcs, unless time is cut into larger pieces.
func TestTheBoundOfManyRunsIsCoarser(t *testing.T) {
	s := spec(t, "t3.micro")
	o := Options{Spec: s, Trace: steady(2, 60), Balance: s.Max, Jobs: []Job{every(t, "*/10 * * * *", Job{Name: "a", Need: 1}, 0)}}
	idle, o, err := withoutJobs(o)
	if err != nil {
		t.Fatal(err)
	}
	runs, err := o.runs()
	if err != nil {
		t.Fatal(err)
	}
	b := bound(o, runs, idle)
	if len(runs) < 8000 || len(b.links) > mostLinks || len(b.pieces) < leastNodes {
		t.Errorf("%d runs have %d arcs from %d pieces", len(runs), len(b.links), len(b.pieces))
	}
	if b.relaxed > almost {
		t.Errorf("%v of the %v credits that the runs need are missing, though enough are spare", b.relaxed, b.needed)
	}
}
