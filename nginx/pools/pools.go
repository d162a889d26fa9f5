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
	// burst is how many reloads a site may cause at once, and every how often it may cause
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
	// calm is how long after the last tree a series of starts is over.
	calm = 5 * time.Second
)

// Reloads decides when nginx is reloaded. Each site has a budget of its own, so that one
// that flaps delays no other. While containers are starting, each pause is twice the
// one before. It is for one goroutine.
type Reloads struct {
	every time.Duration
	sites map[string]*bucket

	changed []string // sites that differ from those that are served
	urgent  bool     // a server is removed
	more    bool     // containers are starting
	newest  string   // the wanted generation
	asked   time.Time
	loaded  time.Time
	streak  int // reloads in this series of starts; a removed server ends it
}

// NewReloads returns a Reloads before the first reload.
func NewReloads() *Reloads { return &Reloads{every: every, sites: map[string]*bucket{}} }

// Want sets the wanted tree; live is the one that nginx serves.
func (r *Reloads) Want(now time.Time, live nginx.Tree, wanted nginx.Wanted) {
	r.more, r.every = wanted.More, every
	if wanted.LowCredits {
		r.every = everyLow
	}
	r.changed = changedSites(live, wanted.Tree)
	servers := wanted.Tree.Servers()
	r.urgent = slices.ContainsFunc(live.Servers(), func(s string) bool {
		_, found := slices.BinarySearch(servers, s)
		return !found
	})
	if wanted.Tree.Generation == r.newest {
		return
	}
	r.newest = wanted.Tree.Generation
	if r.urgent || now.Sub(r.asked) > calm {
		r.streak = 0
	}
	r.asked = now
}

// changedSites lists the names of the files that differ.
func changedSites(a, b nginx.Tree) (names []string) {
	before := map[string]nginx.SiteFile{}
	for _, s := range a.Sites {
		before[s.Name] = s
	}
	for _, s := range b.Sites {
		if was, ok := before[s.Name]; !ok || !was.Equal(s) {
			names = append(names, s.Name)
		}
		delete(before, s.Name)
	}
	for name := range before {
		names = append(names, name)
	}
	return names
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

// least returns the least wait of the changed sites.
func (r *Reloads) least(now time.Time, wait func(*bucket) time.Duration) time.Duration {
	least := time.Duration(-1)
	for _, name := range r.changed {
		b := r.sites[name]
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

// Loaded takes a reload from the budgets of the changed sites, which may overdraw them.
func (r *Reloads) Loaded(now time.Time) {
	for name, b := range r.sites {
		if b.fill(now, r.every); b.level >= burst {
			delete(r.sites, name)
		}
	}
	for _, name := range r.changed {
		b := r.sites[name]
		if b == nil {
			b = &bucket{level: burst, at: now}
			r.sites[name] = b
		}
		b.level = max(-burst, b.level-1)
	}
	r.changed, r.urgent, r.loaded = nil, false, now
	r.streak++
}

// bucket is a token bucket for the reloads of one site.
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
