package agent

import (
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// offer is a table together with the generation of nginx that serves it, which is
// empty while none was made of it.
type offer struct {
	table      route.Table
	generation string
}

// serving follows how far nginx is behind the table: what a table says is served
// only when nginx has confirmed the generation that was made of it.
type serving struct {
	newest    offer
	confirmed route.Table
}

// see returns the newest table without the sites and ports that nginx does not
// serve yet.
func (s *serving) see(n nginx.Status) route.Table {
	t := s.newest.table
	if s.newest.generation != "" && n.Settled && n.Wanted == s.newest.generation {
		s.confirmed = t
		return t
	}
	live, ports := s.confirmed.LiveHosts(), s.confirmed.LivePorts()
	t.Sites = slices.DeleteFunc(slices.Clone(t.Sites), func(site route.Site) bool { return !slices.Contains(live, site.Host) })
	t.Streams = slices.DeleteFunc(slices.Clone(t.Streams), func(one route.Stream) bool {
		return !slices.Contains(ports, one.Listen.String())
	})
	return t
}
