package route

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

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
	before, below, used := map[Listen]Stream{}, b.hostsBelow(), map[Listen]bool{}
	for _, s := range b.in.Prev.Streams {
		if before[s.Listen] = s; b.silent(s.PoolKey()) {
			b.t.Streams, used[s.Listen.opening()] = append(b.t.Streams, s), true
			b.keepPools(s.PoolKey())
		}
	}
	for l, cs := range listens {
		if !used[l.opening()] {
			b.addStream(l, before[l], cs, below)
			used[l.opening()] = true
		}
	}
	for _, s := range b.in.Prev.Streams {
		if !used[s.Listen.opening()] && b.vacate(s.PoolKey(), false) {
			b.t.Streams = append(b.t.Streams, s)
		}
	}
	slices.SortFunc(b.t.Streams, func(x, y Stream) int {
		return cmp.Or(cmp.Compare(x.Listen.Protocol, y.Listen.Protocol), cmp.Compare(x.Listen.Port, y.Listen.Port))
	})
}

// addStream makes the stream of the candidates of a port's holder, newest first, or keeps
// the holder's from the table before, was, while none of them serves.
func (b *builder) addStream(l Listen, was Stream, cs []candidate, below map[string][]string) {
	s := Stream{Listen: l, Family: cs[0].family}
	if was.Family != s.Family {
		was = Stream{} // another family starts over
	}
	if lead, serves := b.pool(s.PoolKey(), cs); serves {
		s.StreamOptions = lead.streamOptions()
	} else {
		if was.Family == "" {
			return
		}
		s = was
		b.vacate(s.PoolKey(), true)
	}
	if lead, _ := leadOf(cs); l.Protocol == TLS && !b.secureStream(&s, was, lead, below) {
		delete(b.t.Pools, s.PoolKey())
		return
	}
	b.t.Streams = append(b.t.Streams, s)
}

// secureStream chooses the certificate of a stream; false if there is none, or if it is valid
// for a host that another family has. Clients are shown it whatever name they ask for.
func (b *builder) secureStream(s *Stream, was Stream, lead candidate, below map[string][]string) (ok bool) {
	if s.Host = ""; len(lead.Hosts) > 0 {
		s.Host = lead.Hosts[0]
	}
	// Its own certificate stays, also when it has expired or its files have gone: another one
	// may be valid for hosts of others.
	own := b.in.Certs
	own.At, own.Gone = time.Time{}, nil
	ordered := b.wishOfPort(*s, lead, below)
	if s.Cert, ok = b.certFor(own, s.Host, lead.Cert); !ok {
		if ordered {
			return false
		}
		p := problem.Of("port "+s.Listen.String(), "no-certificate", "set nagaya.host to a name that a certificate covers, or nagaya.cert to its base name",
			"no certificate is there for %s of %s, so nothing listens", s.Listen, lead.ref)
		p.Port = s.Listen.Port
		b.report(p)
		return false
	}
	host := b.takenName(s, was, lead.family, below)
	if host == "" {
		return true
	}
	b.wait(lead, "taken")
	b.report(lead.problem("host-taken", "set nagaya.cert to a certificate whose names are no other family's hosts",
		"%s belongs to %s, and certificate %s of %s covers it, so nothing listens at %s",
		host, problem.Quoted(b.families[host]), problem.Quoted(s.Cert.Name), problem.Quoted(lead.family), s.Listen))
	return false
}

// takenName is a host of another family that the stream's certificate is valid for; empty for
// none. What the family's certificate named at that port in the table before is not looked at
// again: a newcomer's host takes no port away.
func (b *builder) takenName(s *Stream, was Stream, family string, below map[string][]string) string {
	for _, name := range s.Cert.Names() {
		if slices.Contains(was.Cert.Names(), name) {
			continue
		}
		hosts := append([]string{name}, below[name]...)
		for _, w := range wildcardsOver(name) {
			if b.families[name] != family && !slices.Contains(b.o.OpenWildcards, w) {
				hosts = append(hosts, w)
			}
			if strings.HasPrefix(name, "*") && strings.HasSuffix(w, ".*") { // both cover www.example.com
				hosts = append(hosts, below[w]...)
			}
		}
		for _, h := range hosts {
			if by, held := b.families[h]; held && by != family {
				return h
			}
		}
	}
	return ""
}

// hostsBelow lists under the wildcard names of certificates the hosts that they are valid
// for: the first of each of two families, which is enough to find another family's.
func (b *builder) hostsBelow() map[string][]string {
	below := map[string][]string{}
	for _, host := range slices.Sorted(maps.Keys(b.families)) {
		label, parent, _ := strings.Cut(host, ".")
		name := "*." + parent
		same := func(other string) bool { return b.families[other] == b.families[host] }
		if label != "*" && !strings.HasPrefix(host, "~") && len(below[name]) < 2 && !slices.ContainsFunc(below[name], same) {
			below[name] = append(below[name], host)
		}
	}
	return below
}

// streamOptions is how connections reach a stream's or a passthrough's containers.
func (c candidate) streamOptions() StreamOptions {
	return StreamOptions{
		Balance: c.Balance, Timeout: c.Timeout, Allow: c.Allow, ProxyProtocol: c.ProxyProtocol && c.Listen.Protocol != UDP,
	}
}
