package route

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// ofMembers leaves, where several families share a host, the candidates whose restrictions
// are those in force. For each host and each path the family that came first, its owner, says
// which; the others wait as long as theirs differ, since only one can hold and none may be
// lost. Of an owner's candidates the newest counts, as in a family that shares with no other.
func (b *builder) ofMembers(all []candidate) []candidate {
	shared := map[string][]candidate{}
	left := slices.DeleteFunc(all, func(c candidate) bool {
		if c.family != c.base {
			shared[c.key.Host] = append(shared[c.key.Host], c)
		}
		return c.family != c.base
	})
	for host, cs := range shared {
		was := b.before[host]
		stays := func(k PoolKey) bool { return len(b.in.Prev.Pools[k].Servers) > 0 || b.kept(k) }
		if was.Family != cs[0].family || !slices.ContainsFunc(was.PoolKeys(), stays) {
			was = Site{} // it starts over
		}
		left = append(left, b.members(was, cs)...)
	}
	return left
}

// members leaves such candidates of one host, newest first as cs are, but those of a path's
// owner before the others. was is the site in the table before.
func (b *builder) members(was Site, cs []candidate) []candidate {
	away := b.ownersAway(was, cs)
	owner := b.owner(was.Owner, cs)
	counts := func(c candidate) bool { return c.base == owner }
	if _, isAway := away[was.Owner]; isAway {
		owner, counts = was.Owner, b.served // those that were served ask for the same
	}
	lead, ok := leadOf(slices.DeleteFunc(slices.Clone(cs), func(c candidate) bool { return !counts(c) }))
	var left, paths []candidate
	for _, c := range cs {
		word, by := "", owner
		switch c.siteOwner, c.Owner = owner, owner; {
		case !ok:
			word, by = "its family", was.Owner
		case c.base != owner:
			word = c.edgeDiffers(lead)
			if word == "" && c.TLS == TLSPass {
				word = accessDiffer(c.Location, lead.Location)
			}
		}
		switch {
		case word != "":
			b.differs(c, word, by)
		case c.TLS == TLSPass:
			left = append(left, c)
		default:
			paths = append(paths, c)
		}
	}
	left = append(left, b.ofPaths(was, away, paths)...)
	if len(away) > 0 {
		b.away[cs[0].key.Host] = away
	}
	slices.SortFunc(left, func(x, y candidate) int { return cmp.Or(trueFirst(x.base == x.Owner, y.base == y.Owner), newer(x, y)) })
	return left
}

// ownersAway are the owners of the host or a path of it of which no container asks for it any
// more, with since when: for the grace period they may come back, and stay the owners.
func (b *builder) ownersAway(was Site, cs []candidate) map[string]time.Time {
	away := map[string]time.Time{}
	for _, l := range append(slices.Clone(was.Locations), Location{Owner: was.Owner}) {
		if l.Owner == "" || slices.ContainsFunc(cs, func(c candidate) bool { return c.base == l.Owner }) {
			continue
		}
		if since := b.since(was.Away[l.Owner]); b.isBefore(since.Add(b.o.Grace)) {
			away[l.Owner] = since
		}
	}
	return away
}

// asker is what one family asks for at one path: by all its containers, newest first, of which
// lead counts. rank says who is looked at first: 0 is the owner in the table before, 1 one that
// was served.
type asker struct {
	all  []candidate
	lead candidate
	rank int
}

// askers lists them in the order in which they came.
func (b *builder) askers(places map[PoolKey]Location, cs []candidate) []asker {
	var all []asker
	for at, cs := range by(candidate.asking, cs) {
		lead, _ := leadOf(cs)
		a := asker{cs, lead, 2}
		if slices.ContainsFunc(cs, b.served) {
			a.rank = 1
		}
		if places[at.key].Owner == at.base {
			a.rank = 0
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(x, y asker) int {
		return cmp.Or(cmp.Compare(x.rank, y.rank), newer(y.all[len(y.all)-1], x.all[len(x.all)-1]), cmp.Compare(x.lead.Match, y.lead.Match))
	})
	return all
}

// ofPaths leaves, of those that ask for the paths of one host, what a path's owner asks for, and
// others' that is restricted in the same way. was is the site in the table before, and away who
// stays an owner although it asks for nothing.
func (b *builder) ofPaths(was Site, away map[string]time.Time, cs []candidate) (left []candidate) {
	places, byKey := map[PoolKey]Location{}, by(candidate.poolKey, cs)
	for _, l := range was.Locations {
		key := was.PoolKey(l)
		if _, isAway := away[l.Owner]; !isAway {
			l.Owner = cmp.Or(b.owner(l.Owner, byKey[key]), l.Owner)
		}
		places[key] = l
	}
	for _, a := range b.askers(places, cs) {
		lead := a.lead
		at, there := places[lead.key]
		others := there && at.Owner != lead.base
		word, by := "", at.Owner
		if !others {
			at.Owner = lead.base
			if word, by = lead.accessDiffers(places); word == "" {
				lead.Owner = lead.base
				places[lead.key] = lead.Location
			}
		}
		for _, c := range a.all {
			if others {
				word = accessDiffer(c.Location, at)
			}
			if word != "" {
				b.differs(c, word, by)
				continue
			}
			c.Owner = at.Owner
			left = append(left, c)
		}
	}
	return left
}

// differs leaves a candidate out whose restrictions are not those of the host that it shares.
func (b *builder) differs(c candidate, word, by string) {
	b.wait(c, "differs")
	b.report(c.problem("upstream-differs", "let both ask for the same, or give it a host of its own",
		"several families share %s, and %s of %s differs from what %s has set there, so the route is left out",
		c.key.Host+c.key.Path, word, problem.Quoted(c.base), problem.Quoted(by)))
}

// owner is who goes on as the owner: the one before as long as it asks, else the oldest that
// was served before, else, where there was none, the oldest. cs are those that ask, newest first.
func (b *builder) owner(was string, cs []candidate) string {
	var served, oldest string
	for _, c := range slices.Backward(cs) {
		if c.base == was {
			return was
		}
		if oldest = cmp.Or(oldest, c.base); b.served(c) {
			served = cmp.Or(served, c.base)
		}
	}
	if was == "" {
		return cmp.Or(served, oldest)
	}
	return served
}

// edgeDiffers names what two candidates ask for differently that a whole site has once and
// that keeps clients out; empty for nothing.
func (c candidate) edgeDiffers(o candidate) string {
	switch {
	case c.TLS != o.TLS || c.HTTPSOnly != o.HTTPSOnly:
		return "the TLS mode (nagaya.tls, HTTPS_METHOD)"
	case c.Edge.TLSPolicy != o.Edge.TLSPolicy:
		return "the TLS policy (SSL_POLICY)"
	case c.Edge.ClientCert != o.Edge.ClientCert:
		return "the use of client certificates"
	}
	return ""
}

// accessDiffers names what keeps clients out of a path of the candidate's own and is not what is
// in force above it, and who has set that: another family, at the nearest path above, where that
// keeps clients out. What an owner does not change goes on, and so does what it has at a nearer
// path of its own. Empty for nothing.
func (c candidate) accessDiffers(places map[PoolKey]Location) (word, by string) {
	if at, there := places[c.key]; there && accessDiffer(c.Location, at) == "" {
		return "", ""
	}
	var over, own Location
	for _, key := range slices.SortedFunc(maps.Keys(places), PoolKey.compare) {
		l, near := places[key], &over
		if l.Owner == c.base {
			near = &own
		}
		switch restricts := l.Auth != "" || len(l.Allow) > 0; {
		case !l.covers(c.Location), l.isExpression() && l.Owner == c.base:
		case l.Owner != c.base && (c.isExpression() || l.isExpression()):
			if word = accessDiffer(c.Location, l); restricts && word != "" {
				return word, l.Owner
			}
		case cmp.Or(cmp.Compare(len(l.Path), len(near.Path)), cmp.Compare(l.Match, near.Match)) > 0:
			*near = l
		}
	}
	if over.Auth == "" && len(over.Allow) == 0 || len(own.Path) > len(over.Path) && accessDiffer(c.Location, own) == "" {
		return "", ""
	}
	return accessDiffer(c.Location, over), over.Owner
}

func accessDiffer(x, y Location) string {
	switch {
	case x.Auth != y.Auth:
		return "the password file (nagaya.auth)"
	case !slices.Equal(x.Allow, y.Allow):
		return "the list of clients (nagaya.allow, NETWORK_ACCESS)"
	}
	return ""
}

func (l Location) isExpression() bool { return l.Match == Regex || l.Match == RegexFold }

// covers reports whether requests that l would get go to the other location instead.
func (l Location) covers(o Location) bool {
	switch {
	case o.isExpression():
		return true
	case l.isExpression():
		return o.Match == Exact || o.Match == Segments && o.Path != "/" // exact paths come first, and it may match this one
	case l.Match == Exact:
		return false
	case l.Match == Prefix || l.Path == "/" || l.Path == o.Path:
		return strings.HasPrefix(o.Path, l.Path)
	}
	return strings.HasPrefix(o.Path, l.Path+"/")
}

// maxWeight is the largest weight of a server.
const maxWeight = 1000

// spread lowers the weights of families that share a path with its owner, so that none of
// them gets more requests than the owner does. bases are the servers' families, by container.
func spread(servers []Server, bases map[string]string, owner string) {
	sums := map[string]int{}
	for _, s := range servers {
		sums[bases[s.Container]] += s.Weight
	}
	most, heaviest := sums[owner], 0
	for base, sum := range sums {
		if base != owner {
			heaviest = max(heaviest, sum)
		}
	}
	if most == 0 || heaviest <= most {
		return
	}
	largest := 0.0
	share := func(s Server) float64 {
		return float64(s.Weight) * min(1, float64(most)/float64(sums[bases[s.Container]]))
	}
	for _, s := range servers {
		largest = max(largest, share(s))
	}
	for i, s := range servers {
		servers[i].Weight = max(1, int(share(s)*maxWeight/largest))
	}
}
