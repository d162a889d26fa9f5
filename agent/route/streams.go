package route

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// transport is what a port of a container is published for.
func (l Listen) transport() string {
	if l.Protocol == UDP {
		return "udp"
	}
	return "tcp"
}

// makeStreams makes the streams of the candidates, and keeps those that just lost their
// last container.
func (b *builder) makeStreams(all []candidate) {
	listens := map[Listen][]candidate{}
	for _, c := range all {
		if c.Listen.Port != 0 {
			listens[c.Listen] = append(listens[c.Listen], c)
		}
	}
	for l, cs := range listens {
		b.addStream(l, cs)
	}
	for _, s := range b.in.Prev.Streams {
		reused := slices.ContainsFunc(all, func(c candidate) bool {
			return c.Listen.Port == s.Listen.Port && c.Listen.transport() == s.Listen.transport()
		})
		if !reused && b.abandon(s.PoolKey()) {
			b.t.Streams = append(b.t.Streams, s)
		}
	}
	slices.SortFunc(b.t.Streams, compareStreams)
}

func compareStreams(x, y Stream) int {
	return cmp.Or(cmp.Compare(x.Listen.Protocol, y.Listen.Protocol), cmp.Compare(x.Listen.Port, y.Listen.Port))
}

// addStream makes the stream of the candidates of a port's holder, newest first, or keeps
// the holder's from the table before while none of them serves.
func (b *builder) addStream(l Listen, cs []candidate) {
	s := Stream{Listen: l, Family: cs[0].family}
	if lead, serves := b.pool(s.PoolKey(), cs); serves {
		s.StreamOptions = lead.streamOptions()
	} else {
		i := slices.IndexFunc(b.in.Prev.Streams, func(was Stream) bool { return was.Listen == l && was.Family == s.Family })
		if i < 0 {
			return
		}
		s = b.in.Prev.Streams[i]
		b.vacate(s.PoolKey())
	}
	if lead, _ := leadOf(cs); l.Protocol == TLS && !b.secureStream(&s, lead) {
		delete(b.t.Pools, s.PoolKey())
		return
	}
	b.t.Streams = append(b.t.Streams, s)
}

// secureStream chooses the certificate of a stream; false if there is none, or if it is in
// the name of a host that another family has.
func (b *builder) secureStream(s *Stream, lead candidate) (ok bool) {
	if s.Host = ""; len(lead.Hosts) > 0 {
		s.Host = lead.Hosts[0]
	}
	if s.Cert, ok = b.certFor(s.Host, lead.Cert); !ok {
		b.report(problem.Problem{
			Code: "no-certificate", Severity: problem.Error, Subject: "port " + s.Listen.String(), Port: s.Listen.Port,
			Text: fmt.Sprintf("no certificate is there for %s of %s, so nothing listens", s.Listen, lead.ref),
			Hint: "set nagaya.host to a name that a certificate covers, or nagaya.cert to its base name",
		})
		return false
	}
	held := func(was Stream) bool {
		return was.Listen == s.Listen && was.Family == lead.family && was.Host == s.Host
	}
	if slices.ContainsFunc(b.in.Prev.Streams, held) {
		return true // it was first, and a newcomer's site of that name takes nothing away
	}
	names := s.Cert.DNSNames
	if _, covered := (certs.Inventory{Pairs: []certs.Pair{s.Cert}}).For(s.Host); covered {
		names = []string{s.Host}
	}
	for _, site := range b.t.Sites {
		if site.Family != lead.family && slices.Contains(names, site.Host) {
			b.wait(lead, "taken")
			b.report(lead.problem("host-taken", "set nagaya.host to a name of its own, or give both the same nagaya.upstream",
				"%s belongs to %s, so %s may not show its certificate at %s", site.Host, problem.Quoted(site.Family), problem.Quoted(lead.family), s.Listen))
			return false
		}
	}
	return true
}

// streamOptions is how connections reach a stream's or a passthrough's containers.
func (c candidate) streamOptions() StreamOptions {
	return StreamOptions{
		Balance: c.Balance, Timeout: c.Timeout, Allow: c.Allow, ProxyProtocol: c.ProxyProtocol && c.Listen.Protocol != UDP,
	}
}
