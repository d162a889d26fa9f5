package route

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// LiveHosts lists the hosts that have a container behind every path, in order. One that never had a container, and is closed for that
// (guards.go), does not count.
func (t Table) LiveHosts() []string {
	var hosts []string
	for _, s := range t.Sites {
		if t.live(s) {
			hosts = append(hosts, s.Host)
		}
	}
	return hosts
}

func (t Table) live(s Site) bool {
	live := false
	for _, at := range s.PoolKeys() {
		if !t.served(at) && len(t.Pools[at].Were) > 0 {
			return false
		}
		live = live || t.served(at)
	}
	return live
}

// LivePorts lists the streams that have a container behind them, such as "tcp:2222",
// in order.
func (t Table) LivePorts() []string {
	var ports []string
	for _, s := range t.Streams {
		if t.served(s.PoolKey()) {
			ports = append(ports, s.Listen.String())
		}
	}
	return ports
}

func (t Table) served(at PoolKey) bool { return len(t.Pools[at].Servers) > 0 }

// silent reports whether a source is silent about a server of that pool in the table before: what
// is behind it stays as it was, since whether the source still lists that server is unknown.
func (b *builder) silent(at PoolKey) bool {
	return slices.ContainsFunc(b.in.Prev.Pools[at].Servers, func(s Server) bool {
		return slices.ContainsFunc(b.in.Snapshot.Silent, func(begin string) bool { return strings.HasPrefix(s.Container, begin) })
	})
}

// VacantSince is when the last server of a site went away; zero while there is one.
func (t Table) VacantSince(s Site) time.Time {
	var last time.Time
	for _, at := range s.PoolKeys() {
		since := t.Pools[at].VacantSince
		if since.IsZero() {
			return time.Time{}
		}
		if since.After(last) {
			last = since
		}
	}
	return last
}

// Place is what one family has: a host with all its paths, or a port of its own, which listens there.
type Place struct {
	Host          string // of its keys
	Family, Owner string
	// Keys name the pools; the Path of a passthrough's and of a stream's is empty.
	Keys   []PoolKey
	Listen Listen
	Edge   Edge
}

// Places lists the sites, and then the streams.
func (s Shape) Places() (all []Place) {
	for _, x := range s.Sites {
		all = append(all, Place{Host: x.Host, Family: x.Family, Owner: x.Owner, Keys: x.PoolKeys(), Edge: x.Edge})
	}
	for _, x := range s.Streams {
		all = append(all, Place{Host: x.Listen.String(), Family: x.Family, Keys: []PoolKey{x.PoolKey()}, Listen: x.Listen})
	}
	return all
}

// addrs are where the pool's servers are, or were.
func (p Pool) addrs() []netip.AddrPort {
	all := slices.Clone(p.Were)
	for _, s := range p.Servers {
		all = append(all, s.Addr)
	}
	return all
}

// PoolKeys names the pools of a site: of its locations, and of its passthrough.
func (s Site) PoolKeys() []PoolKey {
	var all []PoolKey
	for _, l := range s.Locations {
		all = append(all, s.PoolKey(l))
	}
	if s.Passthrough != nil {
		all = append(all, s.PassthroughKey())
	}
	return all
}
