package route

import (
	"fmt"
	"maps"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// byHost groups candidates by what one family holds: a host with all its paths, or a port.
func byHost(all []candidate) map[string][]candidate {
	groups := map[string][]candidate{}
	for _, c := range all {
		groups[c.key.Host] = append(groups[c.key.Host], c)
	}
	return groups
}

// ofHolders leaves the candidates of the family that holds the host, with all its paths: a
// path of another family's host may be where that one takes passwords. The others wait, and
// are problems.
func (b *builder) ofHolders(all []candidate) []candidate {
	holders := map[string]string{}
	for host, cs := range byHost(all) {
		holders[host] = b.holder(host, cs)
	}
	return slices.DeleteFunc(all, func(c candidate) bool {
		holder := holders[c.key.Host]
		if c.family == holder {
			return false
		}
		b.wait(c, "taken")
		b.report(c.problem("host-taken", "give it another nagaya.host; or stop the other one, whose host name is free when routes.grace is over",
			"%s belongs to %s, so the route %s%s of %s is left out", c.key.Host, problem.Quoted(holder), c.key.Host, c.key.Path, problem.Quoted(c.family)))
		return true
	})
}

// holder is the family that holds a host: the one that had it in the table before, as long
// as it asks for it or the site is kept; else the one that came first.
func (b *builder) holder(host string, cs []candidate) string {
	if family, kept := b.heldBefore(host); kept || slices.ContainsFunc(cs, func(c candidate) bool { return c.family == family }) {
		return family
	}
	return cs[len(cs)-1].family
}

// heldBefore is the family that had a host or port in the table before, and whether that is
// still answered for; empty for none.
func (b *builder) heldBefore(host string) (family string, kept bool) {
	for _, s := range b.in.Prev.Sites {
		if s.Host == host {
			return s.Family, slices.ContainsFunc(s.poolKeys(), b.kept)
		}
	}
	for _, s := range b.in.Prev.Streams {
		if s.Listen.String() == host {
			return s.Family, b.kept(s.PoolKey())
		}
	}
	return "", false
}

// opening is a port of this host that nginx is asked to listen on besides its usual
// ones. What is spoken there decides who can share it: sites share "http" and
// "https", a stream shares with no other route.
type opening struct {
	udp  bool
	port uint16
}

// openings lists the ports that a route asks for, each with what is spoken there.
func (b *builder) openings(l Listen, e Edge) map[opening]string {
	all := map[opening]string{}
	if l.Port != 0 {
		all[opening{l.Protocol == UDP, l.Port}] = string(l.Protocol)
	}
	for i, port := range []uint16{e.HTTPPort, e.HTTPSPort} {
		usual := i < len(b.o.Listen) && b.o.Listen[i] == port
		if port != 0 && !usual {
			all[opening{false, port}] = []string{"http", "https"}[i]
		}
	}
	return all
}

// mayListen reports whether nginx may listen where a route asks for it, and reports why
// not.
func (b *builder) mayListen(c candidate) bool {
	openings := b.openings(c.Listen, c.Edge)
	for _, o := range slices.SortedFunc(maps.Keys(openings), func(x, y opening) int { return int(x.port) - int(y.port) }) {
		at := fmt.Sprintf("%s:%d", openings[o], o.port)
		if b.isNginxPort(o.port) || slices.Contains(b.o.Reserved, o.port) {
			b.report(c.problem("port-reserved", "ask for another port; which ones are kept is the setting routes.reserved-ports",
				"it asks for %s, and that port is not for containers, so the route is left out", at))
			return false
		}
		if by := b.publisher(o); by != "" {
			b.report(c.problem("host-port-taken", "publish another port, or a dynamic one (0): only nginx may listen there",
				"it asks for %s, and container %s publishes that port of this host itself, so the route is left out", at, by))
			return false
		}
	}
	return true
}

// publisher names a container that publishes a port of this host.
func (b *builder) publisher(o opening) string {
	transport := "tcp"
	if o.udp {
		transport = "udp"
	}
	for _, c := range b.in.Snapshot.Containers {
		for _, p := range c.Ports {
			if c.Origin == tasks.Local && p.Host == o.port && p.Protocol == transport && active(c) && !p.HostIP.IsLoopback() {
				return Ref(c)
			}
		}
	}
	return ""
}

// checkPublished reports a container that publishes a port which nginx needs. The ports of
// an nginx in a container are not the host's, and the container that publishes them is its own.
func (b *builder) checkPublished(c tasks.Container) {
	if b.in.Nginx.Container || c.Origin != tasks.Local {
		return
	}
	for _, p := range c.Ports {
		if p.Protocol != "tcp" || !b.isNginxPort(p.Host) || p.HostIP.IsValid() && !p.HostIP.IsUnspecified() && p.HostIP != b.in.Nginx.Host {
			continue
		}
		x := containerProblem(Ref(c), "host-port-taken", fmt.Sprintf("publish another port, or a dynamic one (0); on ECS add %d to ECS_RESERVED_PORTS", p.Host),
			"it publishes port %d of this host, so what should reach nginx there reaches the container", p.Host)
		x.Subject, x.Port = fmt.Sprintf("%s port %d", x.Subject, p.Host), p.Host
		b.report(x)
	}
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
	asked := map[opening][]tenant{} // oldest first
	for _, c := range slices.Backward(all) {
		for o, speaks := range b.openings(c.Listen, c.Edge) {
			asked[o] = append(asked[o], tenant{speaks, c.family})
		}
	}
	tenants := map[opening]tenant{}
	for o, askers := range asked {
		tenants[o] = askers[0]
		was, kept := b.tenantBefore(o)
		goesOn := slices.ContainsFunc(askers, func(t tenant) bool { return t.speaks == was.speaks })
		moved := slices.ContainsFunc(askers, func(t tenant) bool { return t.family == was.family && t.speaks != was.speaks })
		if goesOn || kept && !moved {
			tenants[o] = was
		}
	}
	return slices.DeleteFunc(all, func(c candidate) bool {
		for o, speaks := range b.openings(c.Listen, c.Edge) {
			if t := tenants[o]; t.speaks != speaks {
				b.wait(c, "taken")
				b.report(c.problem("port-taken", "ask for another port; or stop the other one, whose port is free when routes.grace is over",
					"it asks for %s:%d, where %s speaks %s already, so the route is left out", speaks, o.port, problem.Quoted(t.family), t.speaks))
				return true
			}
		}
		return false
	})
}

// tenantBefore is what was spoken at a port in the table before, and whether that is still
// answered for.
func (b *builder) tenantBefore(o opening) (t tenant, kept bool) {
	for _, s := range b.in.Prev.Sites {
		if speaks, ok := b.openings(Listen{}, s.Edge)[o]; ok && !kept {
			t, kept = tenant{speaks, s.Family}, slices.ContainsFunc(s.poolKeys(), b.kept)
		}
	}
	for _, s := range b.in.Prev.Streams {
		if speaks, ok := b.openings(s.Listen, Edge{})[o]; ok {
			t, kept = tenant{speaks, s.Family}, b.kept(s.PoolKey())
		}
	}
	return t, kept
}
