package address

import (
	"fmt"
	"testing"
	"time"
)

// space calls f with every combination of what a decision depends on.
func space(f func(Input)) int {
	n := 0
	holders := []Holder{{Kind: Nobody}, {Kind: Self, InstanceID: "i-self", State: "running"}, {Kind: Service}}
	for _, state := range []string{"pending", "running", "stopping", "stopped", "shutting-down", "terminated", ""} {
		for _, launched := range []time.Time{older, newer, ours, {}} {
			holders = append(holders, Holder{Kind: Other, InstanceID: "i-other", State: state, LaunchedAt: launched})
		}
	}
	budgets := []Budget{{}, Budget{}.Spend(noon.Add(-time.Second))}
	for _, h := range holders {
		for _, p := range []Policy{Wait, Standby, Takeover, Manual} {
			for _, launched := range []time.Time{ours, {}} {
				for bits := range 1 << 8 {
					bit := func(i int) bool { return bits>>i&1 == 1 }
					for _, b := range budgets {
						in := Input{
							Policy: p, Holder: h, LaunchedAt: launched, Ready: bit(0), Leaving: bit(1), Asked: bit(2), Released: bit(3),
							HolderLeaving: bit(4), Silent: bit(6), Budget: b, Now: noon,
						}
						if bit(5) {
							in.HolderLeavingFor = coverPatience
						}
						if bit(7) {
							in.Uncovered = "it serves more"
						}
						n++
						f(in)
					}
				}
			}
		}
	}
	return n
}

// rule is one thing that must hold of every decision.
type rule struct {
	name  string
	holds func(in Input, d Decision) bool
}

func implies(a, b bool) bool { return !a || b }

// rules name every reason for which an address may be taken, and when it must be.
var rules = []rule{
	{"there is an action with a reason", func(_ Input, d Decision) bool {
		return (d.Action == Keep || d.Action == Take || d.Action == Stay) && d.Reason != ""
	}},
	{"what is ours is kept, and only that", func(in Input, d Decision) bool { return (d.Action == Keep) == (in.Holder.Kind == Self) }},
	{"a service is never taken from", func(in Input, d Decision) bool { return implies(in.Holder.Kind == Service, d.Action == Stay) }},
	{"reassociation means a holder", func(in Input, d Decision) bool {
		return d.Reassociate == (d.Action == Take && in.Holder.Kind == Other)
	}},
	{"the budget binds everybody", func(in Input, d Decision) bool {
		return implies(in.Budget.Next(in.Now).After(in.Now), d.Action != Take)
	}},
	{"wait takes from nobody", func(in Input, d Decision) bool {
		return implies(in.Policy == Wait && !in.Asked && in.Holder.Kind == Other, d.Action == Stay)
	}},
	{"manual takes only when asked", func(in Input, d Decision) bool { return implies(in.Policy == Manual && !in.Asked, d.Action != Take) }},
	{"who leaves takes only when asked", func(in Input, d Decision) bool { return implies(in.Leaving && !in.Asked, d.Action != Take) }},
	{"what was released is taken only when asked", func(in Input, d Decision) bool { return implies(in.Released && !in.Asked, d.Action != Take) }},
	{"asking takes from everybody but a service", func(in Input, d Decision) bool {
		return implies(in.Asked && (in.Holder.Kind == Other || in.Holder.Kind == Nobody) && free(in), d.Action == Take)
	}},
	{"a free address is taken at once", func(in Input, d Decision) bool {
		return implies(in.Holder.Kind == Nobody && willing(in) && free(in), d.Action == Take)
	}},
	{"a holder that is gone is relieved at once", func(in Input, d Decision) bool {
		return implies(in.Holder.Kind == Other && in.Holder.Gone() && willing(in) && bold(in) && free(in), d.Action == Take)
	}},
	{"a running holder is relieved only by who is ready", func(in Input, d Decision) bool {
		return implies(in.Holder.Kind == Other && !in.Holder.Gone() && !in.Asked && !in.Ready, d.Action == Stay)
	}},
	{"standby takes from a running holder only if that leaves or is silent", func(in Input, d Decision) bool {
		return implies(in.Policy == Standby && in.Holder.Kind == Other && !in.Holder.Gone() && !in.Asked && !in.HolderLeaving && !in.Silent, d.Action == Stay)
	}},
	{"takeover takes from a staying holder only if that is older", func(in Input, d Decision) bool {
		older := !in.LaunchedAt.IsZero() && !in.Holder.LaunchedAt.IsZero() && in.LaunchedAt.After(in.Holder.LaunchedAt)
		return implies(in.Policy == Takeover && in.Holder.Kind == Other && !in.Holder.Gone() && !in.Asked && !in.HolderLeaving && !in.Silent && d.Action == Take,
			older && in.Uncovered == "")
	}},
	{"a newer, ready, covering instance takes over", func(in Input, d Decision) bool {
		return implies(in.Policy == Takeover && willing(in) && free(in) && in.Ready && in.Uncovered == "" && in.Holder.Kind == Other &&
			!in.LaunchedAt.IsZero() && in.Holder.LaunchedAt.Equal(older), d.Action == Take)
	}},
	{"a leaving holder is relieved by who is ready, within a minute", func(in Input, d Decision) bool {
		return implies(in.Holder.Kind == Other && in.HolderLeaving && willing(in) && bold(in) && free(in) && in.Ready && in.HolderLeavingFor >= coverPatience, d.Action == Take)
	}},
	{"a leaving holder keeps the address while it serves more", func(in Input, d Decision) bool {
		return implies(in.Holder.Kind == Other && !in.Holder.Gone() && in.HolderLeaving && !in.Asked && in.Uncovered != "" && in.HolderLeavingFor < coverPatience, d.Action == Stay)
	}},
}

func free(in Input) bool    { return !in.Budget.Next(in.Now).After(in.Now) }
func willing(in Input) bool { return !in.Leaving && !in.Released && in.Policy != Manual }
func bold(in Input) bool    { return in.Policy == Standby || in.Policy == Takeover }

func TestEveryDecisionKeepsTheRules(t *testing.T) {
	taken, broken := 0, map[string]int{}
	n := space(func(in Input) {
		d := Decide(in)
		if d.Action == Take {
			taken++
		}
		for _, r := range rules {
			if !r.holds(in, d) {
				if broken[r.name]++; broken[r.name] <= 3 {
					t.Errorf("%s: %+v for %+v", r.name, d, in)
				}
			}
		}
	})
	if n != 31*4*2*256*2 || taken == 0 || taken == n {
		t.Errorf("%d states, of which %d take", n, taken)
	}
}

// Of two running instances at most one may ever take the address from the other
// without being asked, whatever their launch times and policies, and whether one
// of them leaves or was released.
func TestTwoAgentsNeverTakeTurns(t *testing.T) {
	type agent struct {
		policy                   Policy
		launched                 time.Time
		ready, leaving, released bool
	}
	var all []agent
	for _, p := range []Policy{Wait, Standby, Takeover, Manual} {
		for _, at := range []time.Time{{}, older, ours, newer} {
			for bits := range 8 {
				all = append(all, agent{p, at, bits&1 != 0, bits&2 != 0, bits&4 != 0})
			}
		}
	}
	takes := func(a, from agent) bool {
		return Decide(Input{
			Policy: a.policy, LaunchedAt: a.launched, Ready: a.ready, Leaving: a.leaving, Released: a.released,
			Holder:        Holder{Kind: Other, InstanceID: "i-from", State: "running", LaunchedAt: from.launched},
			HolderLeaving: from.leaving || from.released, HolderLeavingFor: time.Hour, Now: noon,
		}).Action == Take
	}
	some := false
	for _, a := range all {
		for _, b := range all {
			fromB, fromA := takes(a, b), takes(b, a)
			some = some || fromB
			if fromA && fromB {
				t.Errorf("%+v and %+v would take the address from each other", a, b)
			}
		}
	}
	if !some {
		t.Error("nobody ever takes an address")
	}
}

// A chain of takers ends: there is no ring of running instances in which each may
// take from the one before.
func TestNoRingOfTakers(t *testing.T) {
	times := []time.Time{older, ours, newer}
	for bits := range 1 << 6 {
		next := func(i int) (j int, ok bool) {
			for j := range times {
				in := Input{
					Policy: Takeover, Ready: true, LaunchedAt: times[j], Leaving: bits>>j&1 == 1, Now: noon,
					Holder:        Holder{Kind: Other, InstanceID: fmt.Sprint("i-", i), State: "running", LaunchedAt: times[i]},
					HolderLeaving: bits>>i&1 == 1, HolderLeavingFor: time.Hour,
				}
				if j != i && Decide(in).Action == Take {
					return j, true
				}
			}
			return 0, false
		}
		for start := range times {
			i, moves := start, 0
			for j, ok := next(i); ok; j, ok = next(i) {
				if i = j; moves > len(times) {
					t.Fatalf("the address moves forever (leaving %b)", bits)
				}
				moves++
			}
		}
	}
}
