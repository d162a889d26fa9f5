package report

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/event"
)

// fleet is the containers of one family that are routed, by their ids, with the names that they have in their task or elsewhere.
type fleet struct {
	now map[string]string
	// before are those that a deployment replaces, and began is when the first of it was seen.
	before map[string]string
	began  time.Time
	// changed is when now last changed.
	changed time.Time
}

// steady is after how long without a change what runs is what the next deployment replaces: a container that was
// added before that was no part of one.
const steady = 30 * time.Minute

// deployed finds the families of which all containers have been replaced. c.behind is what is routed now.
func (c *Chronicle) deployed(s Status) (entries []Entry) {
	now := map[string]map[string]string{}
	for _, p := range s.Routes.Places() {
		now[p.Family] = map[string]string{}
	}
	for _, servers := range c.behind {
		for m, w := range servers {
			now[w.family][m.container] = w.ref
		}
	}
	maps.DeleteFunc(c.fleets, func(family string, _ *fleet) bool { return now[family] == nil })
	if c.fleets == nil {
		c.fleets = map[string]*fleet{}
	}
	for _, family := range slices.Sorted(maps.Keys(now)) {
		f := c.fleets[family]
		if f == nil {
			f = &fleet{}
			c.fleets[family] = f
		}
		if before, took, ok := f.replaced(now[family], s.At); ok {
			old, fresh := names(before, now[family])
			entries = append(entries, Entry{Quiet: true, Message: "service deployed", Fields: []any{
				event.Key, event.ServiceDeployed, "family", family, "old", old, "new", fresh, "servers", len(now[family]), "took", took.Round(time.Second).String(),
			}})
		}
	}
	return entries
}

// replaced takes what runs, and returns what ran before once nothing of that is left.
func (f *fleet) replaced(now map[string]string, at time.Time) (before map[string]string, took time.Duration, ok bool) {
	if maps.Equal(f.now, now) {
		return nil, 0, false
	}
	if at.Sub(f.changed) > steady {
		f.before, f.began = f.now, at
	}
	f.now, f.changed = now, at
	left, added := 0, 0
	for id := range now {
		if _, was := f.before[id]; was {
			left++
		} else {
			added++
		}
	}
	switch before, took = f.before, at.Sub(f.began); {
	case len(now) == 0, left > 0 && added > 0:
		return nil, 0, false // in the midst of it
	case left == 0 && len(before) > 0:
		ok = true
	}
	f.before, f.began = now, at
	return before, took, ok
}

// names are those of two sets of containers, each once; their ids where the names are the same.
func names(before, now map[string]string) (string, string) {
	text := func(of map[string]string) string {
		return strings.Join(slices.Compact(slices.Sorted(maps.Values(of))), ", ")
	}
	if a, b := text(before), text(now); a != b {
		return a, b
	}
	short := func(of map[string]string) string {
		var all []string
		for id, ref := range of {
			all = append(all, ref+" ("+id[:min(len(id), 12)]+")")
		}
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	return short(before), short(now)
}
