package route

import (
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// A route that says who is let in, and does not serve, opens no other: what else its container has would get its requests, from
// everybody.

// ofGuards leaves out what a container has besides such a route that is left out, where nothing else is at its place.
func (b *builder) ofGuards(all []candidate) []candidate {
	there, lost := map[PoolKey]bool{}, map[string][]string{} // hosts, by container
	for _, c := range all {
		there[c.key] = true
	}
	for id, r := range b.in.Requests {
		lost[id] = r.Unguarded
		for _, s := range r.Routes {
			for _, key := range s.Keys() {
				if s.Guards() && !there[key] {
					lost[id] = append(slices.Clip(lost[id]), key.Host)
				}
			}
		}
	}
	return slices.DeleteFunc(all, func(c candidate) bool {
		i := slices.IndexFunc(lost[c.container.ID], func(host string) bool { return b.getsInstead(c.key.Host, host) })
		if i < 0 || c.IsStream() {
			return false
		}
		b.wait(c, "unguarded")
		b.report(problem.OfContainer(c.ref, "route-not-guarded", "see the other problem of this container, and correct what it names; 'nagaya routes' lists the others as unguarded",
			"a route of the container that says who is let in is left out, so the others that would get its requests are, rather than opened to everybody"))
		return true
	})
}

// getsInstead reports whether requests for one host go to the site of the other if it has none of its own.
func (b *builder) getsInstead(site, host string) bool {
	return site == host || host == "" || site == b.o.DefaultHost || strings.HasPrefix(site, "~") ||
		slices.Contains(wildcardsOver(host), site) || strings.HasPrefix(host, "*") && strings.HasSuffix(site, ".*")
}

// closePaths adds to a site the places of such routes, without a server, while their containers serve something else. byKey are the
// site's candidates.
func (b *builder) closePaths(s *Site, byKey map[PoolKey][]candidate) {
	for key, cs := range byKey {
		i := slices.IndexFunc(cs, func(c candidate) bool { return c.Guards() && b.mayServe[c.container.ID] })
		if _, done := b.t.Pools[key]; done || i < 0 {
			continue
		}
		b.t.Pools[key] = Pool{Servers: []Server{}, VacantSince: b.in.Now}
		if key == s.PassthroughKey() {
			s.Passthrough = new(cs[i].streamOptions())
		} else {
			s.Locations = append(s.Locations, cs[i].Location)
		}
	}
}
