package gate

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestExpect(t *testing.T) {
	for _, tt := range []struct {
		costs    []float64
		declared float64
		low      float64
		high     float64
	}{
		{nil, 0, 57, 57},
		{nil, 20, 20, 20},
		{[]float64{30}, 20, 38, 43},
		{[]float64{10, 12}, 27, 17, 20},
		{[]float64{12}, 20, 17, 19},
		{[]float64{10, 12, 14}, 90, 14, 16},
		{[]float64{50, 10, 20, 30, 40}, 0, 46, 60},
		{[]float64{30, 30, 30, 30, 30, 30, 30, 30, 30, 30}, 0, 32, 34},
	} {
		if got := (Past{Costs: tt.costs}).expect(tt.declared, 57); got < tt.low || got > tt.high {
			t.Errorf("costs %v, declared %v: %v, want %v to %v", tt.costs, tt.declared, got, tt.low, tt.high)
		}
	}
}

// Whatever the number of runs, about one of five that vary costs more than is expected, not one of three.
func TestExpectedNeedsAreExceededByOneRunOfFive(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	run := func() float64 { return 50 * math.Exp(0.5*r.NormFloat64()) }
	for _, n := range []int{2, 3, 5, 10} {
		exceeded := 0
		for range 4000 {
			var p Past
			for range n {
				p = p.and(run(), noon, noon)
			}
			if run() > p.expect(0, 0) {
				exceeded++
			}
		}
		if share := float64(exceeded) / 4000; share < 0.15 || share > 0.28 {
			t.Errorf("after %d runs %.0f %% cost more", n, 100*share)
		}
	}
}

// A heavy run on each Sunday has a need of its own, and leaves those of the other nights as they are.
func TestAWeeklyHeavyRunIsToldApart(t *testing.T) {
	var p Past
	at := time.Date(2026, 3, 2, 22, 0, 0, 0, time.UTC) // a Monday
	for i := range 35 {
		cost := 20 + float64(i%3)
		if at.Weekday() == time.Sunday {
			cost = 110 + float64(i%5)
		}
		if i >= 7 {
			got := Past{Costs: p.like(at)}.expect(20, 0)
			if got < 0.95*cost || got > 1.6*cost {
				t.Errorf("%s: expected %.1f, and it cost %.1f", at.Format("Mon 2 Jan"), got, cost)
			}
		}
		p = p.and(cost, at, at)
		at = at.AddDate(0, 0, 1)
	}
	// What differs from night to night is no matter of weekdays; what was recorded before times were kept counts as any night.
	if p = (Past{Costs: []float64{10, 40, 15, 30, 12, 25, 10, 40, 20, 30}}); len(p.like(at)) != 10 {
		t.Errorf("%v", p.like(at))
	}
	for i, cost := range []float64{10, 40, 15, 30, 12, 25, 10, 40, 20, 30, 12, 16} {
		p = p.and(cost, at.AddDate(0, 0, i), at)
	}
	if n := len(p.like(at)); n != usualCosts {
		t.Errorf("%d runs are alike: %v", n, p.like(at))
	}
}

// A run that has spent what is usual is one that needs more than is usual.
func TestWhatIsLeftOfARun(t *testing.T) {
	p := Past{Costs: []float64{60, 100, 80, 125, 100, 166}}
	if whole, left := p.need(0, 0), p.rest(0, 0, 0); left != whole {
		t.Errorf("%v of %v before it has spent any", left, whole)
	}
	last := 0.0
	for _, spent := range []float64{50, 100, 150, 300} {
		usual, more := p.rest(0, 0, spent), p.rest(0, 1.3, spent)
		if !(usual > 0 && more > usual) {
			t.Errorf("%v spent: %v are usual, %v for one that needs more", spent, usual, more)
		}
		if usual+spent <= last {
			t.Errorf("%v spent: a run of %v, of %v with less spent", spent, usual+spent, last)
		}
		last = usual + spent
	}
	if usual := p.rest(0, 0, 100); usual < 15 || usual > 40 { // half of those above the middle one of 100 need as much more
		t.Errorf("%v more than 100", usual)
	}
}
