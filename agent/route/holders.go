package route

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// by groups candidates by what one of these functions says of them, and leaves their order.
func by[K comparable](of func(candidate) K, all []candidate) map[K][]candidate {
	groups := map[K][]candidate{}
	for _, c := range all {
		groups[of(c)] = append(groups[of(c)], c)
	}
	return groups
}

// host is what one family holds: a host with all its paths, or a port.
func (c candidate) host() string { return c.key.Host }

func (c candidate) poolKey() PoolKey { return c.key }

// asking is one family at one path or port.
type asking struct {
	base string
	key  PoolKey
}

func (c candidate) asking() asking { return asking{c.base, c.key} }

// hold is who had a host or port in the table before, and whether that is still answered
// for although no container asks for it any more.
type hold struct {
	family string
	kept   bool
}

// heldBefore lists the hosts and ports of the table before.
func (b *builder) heldBefore() map[string]hold {
	held := map[string]hold{}
	for _, p := range b.in.Prev.Places() {
		held[p.Host] = hold{p.Family, slices.ContainsFunc(p.Keys, b.kept)}
	}
	return held
}

// ofHolders leaves the candidates of the family that holds the host, with all its paths: a
// path of another family's host may be where that one takes passwords. The others wait, and
// are problems. So do those of a name that another family's wildcard covers: whoever visits
// such a name is shown that one's certificate.
func (b *builder) ofHolders(all []candidate) []candidate {
	before, groups := b.heldBefore(), by(candidate.host, all)
	holders := map[string]hold{}
	for host, h := range before {
		if h.kept {
			holders[host] = h
		}
	}
	for host, cs := range groups {
		holders[host] = hold{family: b.holder(before[host], cs)}
	}
	oldest, asks := map[string]candidate{}, map[string]bool{} // of the holder's
	for host, cs := range groups {
		for _, c := range slices.Backward(cs) {
			if c.family == holders[host].family {
				oldest[host], asks[host] = c, true
				break
			}
		}
	}
	behind := b.starsBehind(before, holders, oldest)
	covered := map[string]string{}
	for host := range groups {
		over := wildcardsOver(host)
		if strings.HasPrefix(host, "*") {
			over = append(over, behind...)
		}
		if before[host].family != holders[host].family {
			covered[host] = b.coveredBy(host, over, before, holders, oldest)
		}
	}
	b.families = map[string]string{}
	for host, h := range holders {
		if covered[host] == "" {
			b.families[host] = h.family
		}
	}
	return slices.DeleteFunc(all, func(c candidate) bool {
		host, by := c.key.Host, covered[c.key.Host]
		switch {
		case c.family != holders[host].family:
			b.reportTaken(c, holders[host].family, before[host].kept && !asks[host])
		case by != "":
			b.report(c.problem("host-taken", fmt.Sprintf("give it another nagaya.host; or allow names of other families under %s (routes.open-wildcards)", by),
				"%s has names that %s of %s covers, so the route %s%s of %s is left out", host, by, problem.Quoted(holders[by].family), host, c.key.Path, problem.Quoted(c.family)))
		default:
			return false
		}
		b.wait(c, "taken")
		return true
	})
}

// holder is the family that holds a host: the one that had it in the table before, as long
// as it asks for it or the site is kept and there is no successor; else the one that came first.
func (b *builder) holder(was hold, cs []candidate) string {
	switch {
	case slices.ContainsFunc(cs, func(c candidate) bool { return c.family == was.family }):
		return was.family
	case was.kept:
		return cmp.Or(b.successor(was.family, cs), was.family)
	}
	return cs[len(cs)-1].family
}

// coveredBy is the wildcard of another family, of those over a host, that is older, or was in
// the table before; empty for none, and for one that the operator has opened.
func (b *builder) coveredBy(host string, over []string, before, holders map[string]hold, oldest map[string]candidate) string {
	for _, w := range over {
		h, ok := holders[w]
		if !ok || w == host || h.family == holders[host].family || slices.Contains(b.o.OpenWildcards, w) {
			continue
		}
		theirs, asked := oldest[w]
		if before[w].family == h.family || asked && newer(oldest[host], theirs) < 0 {
			return w
		}
	}
	return ""
}

// starsBehind are the wildcards such as www.example.*, of which each other family's *.com takes
// a name: both match www.example.com, and nginx prefers the star in front. They are the one that
// is there first, and the first of another family, which is enough to find another family's.
func (b *builder) starsBehind(before, holders map[string]hold, oldest map[string]candidate) (all []string) {
	for w := range holders {
		if strings.HasSuffix(w, ".*") && !slices.Contains(b.o.OpenWildcards, w) {
			all = append(all, w)
		}
	}
	held := func(w string) bool { return before[w].family == holders[w].family }
	slices.SortFunc(all, func(x, y string) int {
		return cmp.Or(trueFirst(held(x), held(y)), newer(oldest[y], oldest[x]), cmp.Compare(x, y))
	})
	for _, w := range all {
		if holders[w].family != holders[all[0]].family {
			return []string{all[0], w}
		}
	}
	return all[:min(1, len(all))]
}

// wildcardsOver are the wildcard hosts that cover a name, itself included if it is one of them.
func wildcardsOver(name string) (all []string) {
	if strings.HasPrefix(name, "~") {
		return nil
	}
	for i, r := range name {
		if r == '.' {
			all = append(all, "*"+name[i:], name[:i]+".*")
		}
	}
	return all
}

// http3 is spoken over UDP at the port of HTTPS. A site does without it where a stream of UDP
// was there first.
const http3 = "http/3"

// opening is the port of this host, of TCP or UDP, that nginx listens on for it.
func (l Listen) opening() Listen { return Listen{Protocol(l.transport()), l.Port} }

// openings lists the ports of this host that nginx is asked to listen on besides its usual ones, each with what is
// spoken there. That decides who can share it: sites share "http" and "https", a stream shares with no other route.
func (b *builder) openings(l Listen, e Edge) map[Listen]string {
	all := map[Listen]string{}
	if l.Port != 0 {
		all[l.opening()] = string(l.Protocol)
	}
	for i, port := range []uint16{e.HTTPPort, e.HTTPSPort} {
		usual := i < len(b.o.Listen) && b.o.Listen[i] == port
		if port != 0 && !usual {
			all[Listen{TCP, port}] = []string{"http", "https"}[i]
			if i == 1 && (e.HTTP3 == On || e.HTTP3 == Unset && b.o.HTTP3) {
				all[Listen{UDP, port}] = http3
			}
		}
	}
	return all
}

// mayNotListen says why nginx may not listen where a route asks for it; without a code if it may.
func (b *builder) mayNotListen(c candidate) (none problem.Problem) {
	openings := b.openings(c.Listen, c.Edge)
	for _, o := range slices.SortedFunc(maps.Keys(openings), func(x, y Listen) int { return int(x.Port) - int(y.Port) }) {
		at := fmt.Sprintf("%s:%d", openings[o], o.Port)
		if openings[o] == http3 {
			continue
		}
		if b.isNginxPort(o.Port) || slices.Contains(b.o.Reserved, o.Port) {
			return c.problem("port-reserved", "ask for another port; which ones are kept is the setting routes.reserved-ports",
				"it asks for %s, and that port is not for containers, so the route is left out", at)
		}
		if p, published := b.publisherOf(o, c.base); published && !b.in.Nginx.Container { // whose ports are not the host's
			how := "publishes that port of this host itself"
			if !p.Gone.IsZero() {
				how = "published that port of this host until just now, and may come back"
			}
			return c.problem("host-port-taken", "publish another port, or a dynamic one (0): only nginx may listen there",
				"it asks for %s, and container %s %s, so the route is left out", at, p.Ref, how)
		}
	}
	return none
}

func (b *builder) isNginxPort(port uint16) bool {
	return port != 0 && slices.Contains(b.o.Listen, port)
}

// tenant is what is spoken at an opening, and for whom.
type tenant struct{ speaks, family string }

// ofPorts leaves the candidates that speak the same at each port: what was spoken there in
// the table before, as long as a candidate goes on with it or it is still answered for, else
// what the oldest one speaks. The others wait, and are problems. That a host or a port has
// one family is settled before.
func (b *builder) ofPorts(all []candidate) []candidate {
	asked := map[Listen][]tenant{} // oldest first
	first, onHost := map[Listen]candidate{}, map[Listen]candidate{}
	for _, c := range slices.Backward(all) {
		for o, speaks := range b.openings(c.Listen, c.Edge) {
			if asked[o] = append(asked[o], tenant{speaks, c.family}); len(asked[o]) == 1 {
				first[o] = c
			}
		}
		if _, older := onHost[c.upstreamPort()]; !older && c.onHost() && !b.in.Nginx.Container {
			onHost[c.upstreamPort()] = c
		}
	}
	// Where a container in the host's network is expected, nginx cannot listen, and would be
	// its own upstream: who was served before has the port, also between two containers, else
	// the older one.
	tenants, free, hosted := map[Listen]tenant{}, map[Listen]bool{}, b.hostedBefore()
	before, kept := b.tenantsBefore()
	for o, askers := range asked {
		tenants[o] = askers[0]
		was := before[o]
		user, used := onHost[o]
		itself := slices.ContainsFunc(askers, func(t tenant) bool { return t.family == hosted[o] })
		free[o] = was != tenant{} || !used && (hosted[o] == "" || itself) || used && hosted[o] == "" && newer(user, first[o]) < 0
		goesOn := slices.ContainsFunc(askers, func(t tenant) bool { return t.speaks == was.speaks })
		moved := slices.ContainsFunc(askers, func(t tenant) bool { return t.family == was.family && t.speaks != was.speaks })
		if goesOn || kept[o] && !moved {
			tenants[o] = was
		}
	}
	return slices.DeleteFunc(all, func(c candidate) bool {
		if o := c.upstreamPort(); c.onHost() && free[o] && !b.in.Nginx.Container {
			b.report(c.portIsNginx(o.Port))
			return true
		}
		for o, speaks := range b.openings(c.Listen, c.Edge) {
			if speaks == http3 {
				continue
			}
			if !free[o] {
				b.report(c.problem("host-port-taken", "ask for another port",
					"it asks for %s:%d, and a container of %s is expected at that port of this host, so the route is left out",
					speaks, o.Port, problem.Quoted(cmp.Or(onHost[o].base, hosted[o]))))
				return true
			}
			if t := tenants[o]; t.speaks != speaks {
				b.wait(c, "taken")
				b.report(c.problem("port-taken", "ask for another port; or stop the other one, whose port is free when routes.grace is over",
					"it asks for %s:%d, where %s speaks %s already, so the route is left out", speaks, o.Port, problem.Quoted(t.family), t.speaks))
				return true
			}
		}
		return false
	})
}

// hostedBefore are the families whose servers are at ports of this host in the table before, or
// were and are expected again.
func (b *builder) hostedBefore() map[Listen]string {
	all := map[Listen]string{}
	for _, p := range b.in.Prev.Places() {
		for _, key := range p.Keys {
			for _, at := range b.in.Prev.Pools[key].addrs() {
				if at.Addr() == b.in.Nginx.host() && !b.in.Nginx.Container && b.kept(key) {
					all[Listen{Protocol(p.Listen.transport()), at.Port()}] = p.Family
				}
			}
		}
	}
	return all
}

// served reports whether the container was behind its key in the table before.
func (b *builder) served(c candidate) bool {
	return slices.ContainsFunc(b.in.Prev.Pools[c.key].Servers, func(s Server) bool { return s.Container == c.container.ID })
}

// onHost reports whether the container has the host's network and an address.
func (c candidate) onHost() bool { return c.container.Network == tasks.Host && c.addr.IsValid() }

// upstreamPort is where nginx connects to the container.
func (c candidate) upstreamPort() Listen {
	return Listen{Protocol(c.Listen.transport()), c.addr.Port()}
}

// portIsNginx is the problem of a container in the host's network that names a port of nginx's.
func (c candidate) portIsNginx(port uint16) problem.Problem {
	return c.problem("port-is-nginx", "let the application listen on another port and set nagaya.port to it",
		"it uses the host's network, where port %d is nginx's own", port)
}

// tenantsBefore are what was spoken at ports in the table before, and which of them are
// still answered for.
func (b *builder) tenantsBefore() (tenants map[Listen]tenant, kept map[Listen]bool) {
	tenants, kept = map[Listen]tenant{}, map[Listen]bool{}
	for _, p := range b.in.Prev.Places() {
		for o, speaks := range b.openings(p.Listen, p.Edge) {
			if !kept[o] || p.Listen.Port != 0 { // a stream, which comes before HTTP/3
				tenants[o], kept[o] = tenant{speaks, p.Family}, slices.ContainsFunc(p.Keys, b.kept)
			}
		}
	}
	return tenants, kept
}
