// Package pools decides when a change of the containers behind the sites goes live.
// Today each is a reload of nginx, which costs CPU time, and memory for old workers that
// finish their requests: so changes that follow each other closely share one.
package pools

import (
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

const (
	// burst is how many reloads a family may cause at once, and every how often it may cause
	// one in the long run. A reload of a hundred sites costs about 0.2 s of CPU time:
	// harmless once, and more than a t4g.nano earns if a container that crashes causes
	// one every second. So everyLow takes the place of every while credits are low.
	burst    = 3
	every    = time.Second
	everyLow = 5 * time.Second
	// longestPause is the most that a change waits while containers are starting.
	longestPause = 8 * time.Second
	// settle is how long a change waits in a series of starts for the next container: one that
	// is started after the other is created some 200 ms after the last is ready.
	settle = 220 * time.Millisecond
	// calm is how long after its last family a series of starts is over.
	calm = 5 * time.Second
	// longestIssue is the most that a certificate waits while sites wait for others. The first is loaded at
	// once, and then each pause is twice the one before, from two seconds on: it waits about as long as
	// orders have taken already, and nine reloads are enough for what is issued in six minutes.
	longestIssue = 128 * time.Second
)

// Reloads decides when nginx is reloaded. Each family has a budget of its own, however many
// sites it has, so that one that flaps delays no other. While one family after the other
// is starting, each pause is twice the one before. It is for one goroutine.
type Reloads struct {
	every    time.Duration
	families map[string]*bucket

	wanted, last nginx.Tree // the newest, and the one of the last reload

	changed []string // families whose sites differ from those of the last reload
	urgent  bool     // a server is removed
	more    bool     // containers are starting
	orders  bool     // certificates are on their way
	same    bool     // the servers are those of the last reload: certificates have come, or little else
	issues  int      // reloads for that while certificates were on their way
	loaded  time.Time

	// series are the families that have come in this series of starts, asked is when the last
	// one came, started whether that was after the last reload, and streak how many reloads
	// the series took. A family counts once, so that one alone makes no series. A removed
	// server ends it.
	series  map[string]bool
	asked   time.Time
	started bool
	streak  int
}

// NewReloads returns a Reloads before the first reload.
func NewReloads() *Reloads {
	return &Reloads{every: every, families: map[string]*bucket{}, series: map[string]bool{}}
}

// Want sets the wanted tree; live is the one that nginx serves.
func (r *Reloads) Want(now time.Time, live nginx.Tree, wanted nginx.Wanted) {
	r.more, r.orders, r.every = wanted.More, wanted.Orders, every
	if !r.orders {
		r.issues = 0
	}
	if wanted.LowCredits {
		r.every = everyLow
	}
	if r.last.Generation == "" {
		r.last = live
	}
	if wanted.Tree.Generation == r.wanted.Generation {
		return
	}
	r.wanted = wanted.Tree
	r.changed = nginx.ChangedFamilies(r.last, wanted.Tree)
	servers, before := wanted.Tree.Servers(), r.last.Servers()
	r.same = slices.Equal(servers, before)
	r.urgent = slices.ContainsFunc(before, func(s string) bool {
		_, found := slices.BinarySearch(servers, s)
		return !found
	})
	if r.urgent || now.Sub(r.asked) > calm {
		r.streak = 0
		clear(r.series)
	}
	for _, family := range r.changed {
		if !r.series[family] {
			r.series[family], r.started, r.asked = true, true, now
		}
	}
}

// Wait returns how long from now on the next reload must wait.
func (r *Reloads) Wait(now time.Time) time.Duration {
	if r.urgent {
		// A container is about to be killed: the budget is overdrawn. Only beyond a limit
		// does the change wait too, so that containers which crash all the time cost little.
		return r.least(now, func(b *bucket) time.Duration {
			if b.level > -burst {
				return 0
			}
			return r.every / 4
		})
	}
	wait := r.least(now, func(b *bucket) time.Duration { return time.Duration(max(0, 1-b.level) * float64(r.every)) })
	if r.orders && r.same && r.issues > 0 {
		wait = max(wait, r.loaded.Add(min(time.Second<<min(r.issues, 8), longestIssue)).Sub(now))
	}
	if r.streak < burst {
		return wait
	}
	// A series of starts: wait for the next container while one is starting.
	till := r.loaded.Add(min(r.every<<min(r.streak-burst+1, 8), longestPause))
	if settled := r.asked.Add(settle); !r.more && settled.Before(till) {
		till = settled
	}
	return max(wait, till.Sub(now))
}

// least returns the least wait of the changed families.
func (r *Reloads) least(now time.Time, wait func(*bucket) time.Duration) time.Duration {
	least := time.Duration(-1)
	for _, family := range r.changed {
		b := r.families[family]
		if b == nil {
			return 0
		}
		b.fill(now, r.every)
		if w := wait(b); least < 0 || w < least {
			least = w
		}
	}
	return max(0, least)
}

// Loaded takes a reload from the budgets of the changed families, which may overdraw them.
func (r *Reloads) Loaded(now time.Time) {
	for family, b := range r.families {
		if b.fill(now, r.every); b.level >= burst {
			delete(r.families, family)
		}
	}
	if r.started {
		r.streak++
	}
	if r.orders && r.same {
		r.issues++
	}
	for _, family := range r.changed {
		b := r.families[family]
		if b == nil {
			b = &bucket{level: burst, at: now}
			r.families[family] = b
		}
		b.level = max(-burst, b.level-1)
	}
	r.changed, r.urgent, r.started, r.loaded, r.last = nil, false, false, now, r.wanted
}

// bucket is a token bucket for the reloads of one family.
type bucket struct {
	level float64
	at    time.Time
}

func (b *bucket) fill(now time.Time, every time.Duration) {
	if d := now.Sub(b.at); d > 0 {
		b.level = min(burst, b.level+float64(d)/float64(every))
	}
	b.at = now
}
