package route

import (
	"cmp"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Issue says which certificates a route asks for, where the operator has them ordered (Options.ACME).
type Issue struct {
	// Listed is true where one is asked for Names alone, and otherwise one for each of the route's hosts.
	Listed bool
	// Names are DNS names in lower case and ASCII, wildcards included. Single asks for a certificate
	// for each of them.
	Names  []string
	Single bool
	// KeyType, Profile and Directory are those of certs.Wish.
	KeyType   certs.KeyType
	Profile   string
	Directory string
}

// maxNames is how many names a certificate may have (letsencrypt.org, Rate Limits).
const maxNames = 100

// wish notes which certificates the containers of a host ask for, and reports whether it will be
// served by one of them. Families ask for their own hosts alone.
func (b *builder) wish(host string, lead candidate) (served bool) {
	if !b.o.ACME || lead.TLS == TLSOff || lead.TLS == TLSPass || lead.Cert.Name != "" {
		return false
	}
	x := lead.ACME
	names := []string{host}
	if x.Listed {
		var others []string
		names = slices.DeleteFunc(slices.Clone(x.Names), func(n string) bool {
			other := b.families[n] != lead.family
			if other {
				others = append(others, n)
			}
			return other
		})
		b.reportNamesOfOthers(lead, others)
	}
	// Expressions, addresses and www.example.* have no certificates.
	names = slices.DeleteFunc(names, func(n string) bool { return !pattern.Host(n) })
	size := maxNames
	if x.Single {
		size = 1
	}
	for part := range slices.Chunk(names, size) {
		w := certs.Wish{Host: part[0], Family: lead.family, Names: part, KeyType: x.KeyType, Profile: x.Profile, Directory: x.Directory}
		if slices.Contains(part, host) {
			w.Host, served = host, true
		}
		b.wishes = append(b.wishes, w)
	}
	return served
}

// reportNamesOfOthers names, once for a container, what it asks a certificate for and does not have.
func (b *builder) reportNamesOfOthers(c candidate, names []string) {
	if len(names) == 0 || b.named[c.ref] {
		return
	}
	b.named[c.ref] = true
	b.report(problem.OfContainer(c.ref, "cert-choice-refused", "let the container have these hosts too (VIRTUAL_HOST), or remove them from ACME_HOST or LETSENCRYPT_HOST",
		"it asks for a certificate for %s, which are no hosts of %s, so none is ordered for them", problem.Quoted(listed(names)), problem.Quoted(c.family)).AsWarning())
}

// wishOfPort notes the certificate for the name of a port, unless that is a host of another family, and
// reports whether it has.
func (b *builder) wishOfPort(s Stream, lead candidate, below map[string][]string) bool {
	s.Cert = certs.Pair{DNSNames: []string{s.Host}}
	if !b.o.ACME || lead.Cert.Name != "" || !pattern.Host(s.Host) || b.takenName(&s, Stream{}, lead.family, below) != "" {
		return false
	}
	b.wishes = append(b.wishes, certs.Wish{Host: s.Host, Family: lead.family, Names: []string{s.Host}})
	return true
}

// makeWishes lists what was noted, each name once: the first of the hosts whose certificate would
// have it gets it. Of a site of which nothing is known now the wishes before stand.
func (b *builder) makeWishes() {
	for _, w := range b.in.Prev.Wishes {
		if i, here := slices.BinarySearchFunc(b.t.Sites, w.Host, func(s Site, host string) int { return cmp.Compare(s.Host, host) }); here && !b.decided[w.Host] && b.t.Sites[i].Family == w.Family {
			b.wishes = append(b.wishes, w)
		}
	}
	slices.SortFunc(b.wishes, compareWishes)
	taken := map[string]bool{}
	for _, w := range b.wishes {
		w.Names = slices.DeleteFunc(slices.Clone(w.Names), func(n string) bool { return taken[n] })
		for _, n := range w.Names {
			taken[n] = true
		}
		if len(w.Names) == 0 {
			continue
		}
		if !slices.Contains(w.Names, w.Host) {
			w.Host = w.Names[0]
		}
		b.t.Wishes = append(b.t.Wishes, w)
	}
	slices.SortFunc(b.t.Wishes, compareWishes)
}

func compareWishes(x, y certs.Wish) int {
	return cmp.Or(cmp.Compare(x.Host, y.Host), slices.Compare(x.Names, y.Names), cmp.Compare(x.Family, y.Family),
		cmp.Compare(x.KeyType, y.KeyType), cmp.Compare(x.Profile, y.Profile), cmp.Compare(x.Directory, y.Directory))
}
