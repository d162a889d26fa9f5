package route

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// How long a stream may be silent where nobody says otherwise: a connection for
// nginx's own default (nginx.org, proxy_timeout of the stream module); a client of UDP,
// who never says that he is done and holds two of nginx's connections meanwhile, as
// long as Linux itself remembers one (nf_conntrack_udp_timeout).
const (
	streamTimeout   = 10 * time.Minute
	datagramTimeout = 30 * time.Second
)

// transport is what a port of a container is published for.
func (l Listen) transport() string {
	if l.Protocol == UDP {
		return "udp"
	}
	return "tcp"
}

// mayStream reports whether nginx can do what a stream route asks for, and says
// why not.
func (b *builder) mayStream(container, host, subject string) bool {
	if b.o.Stream {
		return true
	}
	b.say(problem.Problem{
		Code: "nginx-without-stream", Severity: problem.Error, Subject: subject, Container: container, Host: host,
		Text: "it needs nginx's stream module, which this nginx does not have, so the route is left out",
		Hint: "install the module (Debian: libnginx-mod-stream; Amazon Linux: nginx-mod-stream)",
	})
	return false
}

// apart parts the claims of ports from those of hosts.
func apart(claims map[string][]claim) (hosts map[string][]claim, ports map[Listen][]claim) {
	ports = map[Listen][]claim{}
	for at, cs := range claims {
		if l, err := parseListen(at); err == nil {
			ports[l] = cs
			delete(claims, at)
		}
	}
	return claims, ports
}

// streams makes the streams of the claims, and keeps those that just lost their
// last container.
func (b *builder) streams(claims map[Listen][]claim) {
	before := map[Listen]Stream{}
	for _, s := range b.in.Prev.Streams {
		before[s.Listen] = s
		if _, claimed := claims[s.Listen]; !claimed && !reused(s.Listen, claims) {
			claims[s.Listen] = nil
		}
	}
	for l, cs := range claims {
		was := before[l]
		if len(cs) > 0 && cs[0].family != was.Family {
			was = Stream{} // another family begins anew
		}
		if s, ok := b.stream(l, was, cs); ok {
			b.t.Streams = append(b.t.Streams, s)
		} else {
			delete(b.t.Pools, s.PoolKey())
		}
	}
	slices.SortFunc(b.t.Streams, func(x, y Stream) int {
		return cmp.Or(cmp.Compare(x.Listen.Protocol, y.Listen.Protocol), cmp.Compare(x.Listen.Port, y.Listen.Port))
	})
}

// reused reports whether a port is claimed for something else.
func reused(l Listen, claims map[Listen][]claim) bool {
	for other := range claims {
		if other != l && other.Port == l.Port && other.transport() == l.transport() {
			return true
		}
	}
	return false
}

// stream makes the stream of the claims of a port's holder, newest first. was is
// the holder's stream in the table before.
func (b *builder) stream(l Listen, was Stream, cs []claim) (s Stream, ok bool) {
	at := Stream{Listen: l}.PoolKey()
	if len(cs) == 0 {
		return was, b.abandon(at)
	}
	how, servers := b.streamOptions(cs)
	switch {
	case len(servers) > 0:
		s = Stream{Listen: l, Family: cs[0].family, StreamOptions: how}
		b.t.Pools[at] = Pool{Servers: servers}
	case was.Family != "":
		s = was
		b.vacate(at)
	default:
		return Stream{}, false
	}
	if l.Protocol != TLS {
		return s, true
	}
	lead, _ := rule(cs)
	if len(lead.hosts) > 0 {
		s.Host = lead.hosts[0]
	}
	if s.Cert, ok = b.pair(s.Host, lead); !ok {
		b.say(problem.Problem{
			Code: "no-certificate", Severity: problem.Error, Subject: "port " + l.String(), Port: l.Port,
			Text: fmt.Sprintf("no certificate is there for %s of %s, so nothing listens", l, lead.ref),
			Hint: "set nagaya.host to a name that a certificate covers, or nagaya.cert to its base name",
		})
		return s, false
	}
	return s, !b.poses(s, lead)
}

// poses reports whether a stream would speak in the name of a host that another
// family has, and says so.
func (b *builder) poses(s Stream, lead claim) bool {
	names := s.Cert.DNSNames
	if _, covered := (certs.Inventory{Pairs: []certs.Pair{s.Cert}}).For(s.Host); covered {
		names = []string{s.Host}
	}
	for _, site := range b.t.Sites {
		if site.Family == lead.family || !slices.Contains(names, site.Host) {
			continue
		}
		b.wait(lead, "taken")
		b.say(problem.Problem{
			Code: "host-taken", Severity: problem.Error, Subject: "container " + lead.ref + " route " + s.Listen.String(), Container: lead.ref, Host: s.Listen.String(),
			Text: fmt.Sprintf("%s belongs to %s, so %s may not show its certificate at %s", site.Host, quoted(site.Family), quoted(lead.family), s.Listen),
			Hint: "set nagaya.host to a name of its own, or give both the same nagaya.upstream",
		})
		return true
	}
	return false
}

// passthrough makes how the TLS connections of a host are passed on, of the claims of
// its holder, newest first; nil when there is nowhere.
func (b *builder) passthrough(at PoolKey, was *StreamOptions, cs []claim) *StreamOptions {
	how, servers := b.streamOptions(cs)
	switch {
	case len(servers) > 0:
		b.t.Pools[at] = Pool{Servers: servers}
		return &how
	case was == nil, len(cs) == 0 && !b.abandon(at):
		return nil
	}
	b.vacate(at)
	return was
}

// streamOptions makes what the claims of a stream, newest first, ask for, and its
// servers: none when none of the claims can serve.
func (b *builder) streamOptions(cs []claim) (StreamOptions, []Server) {
	serving := b.serving(cs)
	if len(serving) == 0 {
		return StreamOptions{}, nil
	}
	lead, silence := serving[0], streamTimeout
	if lead.listen.Protocol == UDP {
		silence = datagramTimeout
	}
	return StreamOptions{
		Balance: lead.balance, Timeout: cmp.Or(lead.timeout, silence), Allow: lead.allow,
		ProxyProtocol: lead.proxyProtocol && lead.listen.Protocol != UDP,
	}, b.servers(serving, func(c claim) bool { return c.proxyProtocol == lead.proxyProtocol })
}

// defaultHost says when the host that should answer for unknown names is not there.
func (b *builder) defaultHost() {
	host := b.o.DefaultHost
	if host == "" || !b.t.Complete || slices.ContainsFunc(b.t.Sites, func(s Site) bool { return s.CatchAll }) {
		return
	}
	b.say(problem.Problem{
		Code: "default-host-missing", Severity: problem.Warning, Subject: "site " + host, Host: host,
		Text: fmt.Sprintf("%s should answer for names that nobody has (routes.default-host), and no container serves it", host),
		Hint: "start its container, or change routes.default-host",
	})
}
