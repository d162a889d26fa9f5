package route

import (
	"fmt"
	"maps"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// door is a port of this host that nginx is asked to listen on besides its usual
// ones, and what is spoken there decides who can share it: sites share "http" and
// "https", a stream shares with nobody.
type door struct {
	udp  bool
	port uint16
}

// doors lists the ports that a route asks for, each with what is spoken there.
func (b *builder) doors(l Listen, e Edge) map[door]string {
	all := map[door]string{}
	if l.Port != 0 {
		all[door{l.Protocol == UDP, l.Port}] = string(l.Protocol)
	}
	if e.HTTPPort != 0 && !b.isUsual(e.HTTPPort, 0) {
		all[door{false, e.HTTPPort}] = "http"
	}
	if e.HTTPSPort != 0 && !b.isUsual(e.HTTPSPort, 1) {
		all[door{false, e.HTTPSPort}] = "https"
	}
	return all
}

// isUsual reports whether a port is nginx's own for plain HTTP (0) or HTTPS (1).
func (b *builder) isUsual(port uint16, i int) bool {
	return i < len(b.o.Listen) && b.o.Listen[i] == port
}

// mayOpen reports whether nginx may listen where a route asks for it, and says why
// not.
func (b *builder) mayOpen(c tasks.Container, s said, subject string) bool {
	x := problem.Problem{Severity: problem.Error, Subject: subject, Container: ref(c), Host: s.spots()[0].host}
	doors := b.doors(s.listen, s.edge)
	for _, d := range slices.SortedFunc(maps.Keys(doors), func(a, b door) int { return int(a.port) - int(b.port) }) {
		at := fmt.Sprintf("%s:%d", doors[d], d.port)
		switch by := b.publisher(d); {
		case b.isNginxPort(d.port), slices.Contains(b.o.Reserved, d.port):
			x.Code = "port-reserved"
			x.Text = fmt.Sprintf("it asks for %s, and that port is not for containers, so the route is left out", at)
			x.Hint = "ask for another port; which ones are kept is the setting routes.reserved-ports"
		case by != "":
			x.Code = "host-port-taken"
			x.Text = fmt.Sprintf("it asks for %s, and container %s publishes that port of this host itself, so the route is left out", at, by)
			x.Hint = "publish another port, or a dynamic one (0): nginx is to be the one that listens"
		case s.edge.HTTPPort != 0 && s.edge.HTTPPort == s.edge.HTTPSPort:
			x.Code = "label-invalid"
			x.Text = fmt.Sprintf("it asks for port %d for plain HTTP and for HTTPS", d.port)
			x.Hint = "give EXTERNAL_HTTP_PORT and EXTERNAL_HTTPS_PORT different values"
		default:
			continue
		}
		b.say(x)
		return false
	}
	return true
}

// publisher names a container that publishes a port of this host.
func (b *builder) publisher(d door) string {
	transport := "tcp"
	if d.udp {
		transport = "udp"
	}
	for _, c := range b.in.Snapshot.Containers {
		for _, p := range c.Ports {
			if p.Host == d.port && p.Protocol == transport && wants(c) && !(p.HostIP.IsValid() && p.HostIP.IsLoopback()) {
				return ref(c)
			}
		}
	}
	return ""
}

// contest leaves at each port only claims that speak the same there: what was
// spoken there in the table before, else what the oldest claim speaks. A host or
// another listen of the same number is somebody else's to settle.
func (b *builder) contest(claims map[string][]claim) {
	type tenant struct{ speaks, family string }
	tenants := map[door]tenant{}
	var all []claim
	for _, cs := range claims {
		all = append(all, cs...)
	}
	slices.SortFunc(all, func(x, y claim) int { return newer(y, x) })
	let := func(doors map[door]string, family string, kept bool) {
		for d, speaks := range doors {
			still := slices.ContainsFunc(all, func(c claim) bool { return b.doors(c.listen, c.edge)[d] == speaks })
			moved := slices.ContainsFunc(all, func(c claim) bool {
				now, asks := b.doors(c.listen, c.edge)[d]
				return asks && now != speaks && c.family == family
			})
			if still || kept && !moved {
				tenants[d] = tenant{speaks, family}
			}
		}
	}
	for _, s := range b.in.Prev.Streams {
		let(b.doors(s.Listen, Edge{}), s.Family, b.kept(s.PoolKey()))
	}
	for _, s := range b.in.Prev.Sites {
		let(b.doors(Listen{}, s.Edge), s.Family, b.anyLocationKept(s))
	}
	for _, c := range all {
		for d, speaks := range b.doors(c.listen, c.edge) {
			if _, taken := tenants[d]; !taken {
				tenants[d] = tenant{speaks, c.family}
			}
		}
	}
	for host, cs := range claims {
		claims[host] = slices.DeleteFunc(cs, func(c claim) bool {
			for d, speaks := range b.doors(c.listen, c.edge) {
				if t := tenants[d]; t.speaks != speaks {
					b.wait(c, "taken")
					b.say(problem.Problem{
						Code: "port-taken", Severity: problem.Error, Subject: "container " + c.ref + " route " + host + c.path, Container: c.ref, Host: host,
						Text: fmt.Sprintf("it asks for %s:%d, where %s speaks %s already, so the route is left out", speaks, d.port, quoted(t.family), t.speaks),
						Hint: "ask for another port; or stop the other one, whose port is free when routes.grace is over",
					})
					return true
				}
			}
			return false
		})
		if len(claims[host]) == 0 {
			delete(claims, host)
		}
	}
}
