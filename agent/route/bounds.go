package route

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

const (
	// What one family and all together may have where the options do not say.
	maxOfFamily = 256
	maxOfAll    = 2048
	// maxProbes is how many probes there may be at a time: each has a goroutine.
	maxProbes = 4096
)

// claim is what a family asks for or has together: paths of one host, a port, or a probe.
type claim struct {
	part
	key   PoolKey // of what is vacant
	probe Probe
	// n is how many places it takes; at and id are of the oldest container that asks.
	n  int
	at time.Time
	id string
}

// part is what a family has of a host, or asks for besides.
type part struct {
	family string // the container's own, whoever shares the host with it
	host   string
	had    bool
}

// older orders claims: what a family has already comes first, then what was asked for first.
func older(x, y claim) int {
	return cmp.Or(trueFirst(x.had, y.had), x.at.Compare(y.at), cmp.Compare(x.id, y.id), cmp.Compare(x.host, y.host), compareProbes(x.probe, y.probe))
}

// trueFirst orders those of which something is true before the others.
func trueFirst(x, y bool) int {
	switch {
	case x == y:
		return 0
	case x:
		return -1
	}
	return 1
}

// fairly gives places to claims in their order: at most each of them to a family, and where there
// are not enough for all, nobody gets many before everybody has few. used counts the places of
// each family. It returns the claims for which there is no room in their family, or in all.
func fairly(claims []claim, used map[string]int, each, all int) (ofFamily, ofAll []claim) {
	type placed struct {
		claim
		place int
	}
	var left []placed
	for _, c := range claims {
		if used[c.family]+c.n > each {
			ofFamily = append(ofFamily, c)
			continue
		}
		left = append(left, placed{c, used[c.family]})
		used[c.family] += c.n
	}
	slices.SortStableFunc(left, func(x, y placed) int { return cmp.Compare(x.place, y.place) })
	for _, c := range left {
		if c.n > all {
			ofAll = append(ofAll, c.claim)
			continue
		}
		all -= c.n
	}
	return ofFamily, ofAll
}

// ofBounds leaves the candidates for which there is room. What was served before goes on, and
// then the oldest comes first; what no container asks for any more has what room is left, and is
// forgotten at once where there is none, the longest vacant first. New paths of a host stand or
// fall together, and so do those that it had, since requests to one that is missing would go to
// another, which may ask for no password. This comes before anybody holds anything: what there
// is no room for keeps no host from others.
func (b *builder) ofBounds(all []candidate) []candidate {
	owners := b.ownersBefore()
	partOf := func(c candidate) part { return part{c.base, c.key.Host, owners[c.key].family == c.base} }
	seen, wanted, parts := map[asking]bool{}, map[PoolKey]bool{}, map[part]claim{}
	for _, c := range slices.Backward(all) {
		if by := c.asking(); !seen[by] {
			seen[by], wanted[c.key] = true, true
			p, again := parts[partOf(c)]
			if !again {
				p = claim{part: partOf(c), at: c.container.CreatedAt, id: c.container.ID}
			}
			p.n++
			parts[p.part] = p
		}
	}
	var vacant []claim
	for key, owner := range owners {
		switch had := (part{owner.family, key.Host, true}); {
		case b.silent(key) && !seen[asking{owner.family, key}]: // it is kept in any case
			parts[had] = claim{part: had, n: parts[had].n + 1, at: parts[had].at, id: parts[had].id}
		case !wanted[key] && b.kept(key):
			vacant = append(vacant, claim{part: had, key: key, n: 1, at: b.vacantSince(key)})
		}
	}
	asked, used, room := slices.SortedFunc(maps.Values(parts), older), map[string]int{}, b.o.Max
	ofFamily, ofAll := fairly(asked, used, b.o.MaxOfFamily, b.o.Max)
	refused := b.reportBounds(asked, ofFamily, ofAll)
	for _, c := range asked {
		if !refused[c.part] {
			room -= c.n
		}
	}
	slices.SortFunc(vacant, func(x, y claim) int { return cmp.Or(y.at.Compare(x.at), x.key.compare(y.key)) })
	ofFamily, ofAll = fairly(vacant, used, b.o.MaxOfFamily, room)
	for _, c := range slices.Concat(ofFamily, ofAll) {
		b.forgotten[c.key] = true
	}
	for key, owner := range owners {
		if refused[part{owner.family, key.Host, true}] && !owner.shares {
			b.forgotten[key] = true
		}
	}
	return slices.DeleteFunc(all, func(c candidate) bool {
		if !refused[partOf(c)] && !refused[part{c.base, c.key.Host, true}] {
			return false
		}
		b.wait(c, "too-many")
		return true
	})
}

func (k PoolKey) compare(o PoolKey) int {
	return cmp.Or(cmp.Compare(k.Host, o.Host), cmp.Compare(k.Path, o.Path), cmp.Compare(k.Match, o.Match))
}

// owner is the family that a key of the table before counts for, and whether others share its host.
type owner struct {
	family string
	shares bool
}

func (b *builder) ownersBefore() map[PoolKey]owner {
	owners := map[PoolKey]owner{}
	for _, s := range b.in.Prev.Sites {
		for _, l := range s.Locations {
			owners[s.PoolKey(l)] = owner{cmp.Or(l.Owner, s.Family), l.Owner != ""}
		}
		if s.Passthrough != nil {
			owners[s.PassthroughKey()] = owner{cmp.Or(s.Owner, s.Family), s.Owner != ""}
		}
	}
	for _, s := range b.in.Prev.Streams {
		owners[s.PoolKey()] = owner{s.Family, false}
	}
	return owners
}

// reportBounds reports the families of which something is left out, and returns what is.
func (b *builder) reportBounds(asked, ofFamily, ofAll []claim) (refused map[part]bool) {
	refused = map[part]bool{}
	sums, all := map[string]int{}, 0
	for _, c := range asked {
		sums[c.family] += c.n
		all += c.n
	}
	report := func(dropped []claim, hint, why string) {
		lost, first := map[string]int{}, map[string]string{}
		for _, c := range dropped {
			refused[c.part] = true
			if lost[c.family] += c.n; first[c.family] == "" {
				first[c.family] = c.host
			}
		}
		for family, n := range lost {
			p := problem.Of("family "+problem.Quoted(family), "routes-limited", hint+"; what was served before goes on, and then what was asked for first",
				"%s asks for %d paths of hosts and ports, %d too many, so some are left out, such as those of %s: %s", problem.Quoted(family), sums[family], n, first[family], why)
			p.Host = first[family]
			b.report(p)
		}
	}
	report(ofFamily, "ask for fewer, or raise the setting routes.max-per-family", fmt.Sprintf("routes.max-per-family is %d", b.o.MaxOfFamily))
	report(ofAll, "ask for fewer, or raise the setting routes.max",
		fmt.Sprintf("all families ask for %d and routes.max is %d, so those that ask for most give way", all, b.o.Max))
	return refused
}

// boundProbes leaves as many probes as may be made, those that have found something first.
func (b *builder) boundProbes() {
	slices.SortFunc(b.probes, func(x, y claim) int { return cmp.Or(compareProbes(x.probe, y.probe), older(x, y)) })
	b.probes = slices.CompactFunc(b.probes, func(x, y claim) bool { return x.probe == y.probe })
	slices.SortFunc(b.probes, older)
	used, lost, dropped := map[string]int{}, map[string]int{}, map[Probe]bool{}
	_, ofAll := fairly(b.probes, used, math.MaxInt, maxProbes)
	for _, c := range ofAll {
		lost[c.family]++
		dropped[c.probe] = true
	}
	for _, c := range b.probes {
		if !dropped[c.probe] {
			b.t.Probes = append(b.t.Probes, c.probe)
		}
	}
	slices.SortFunc(b.t.Probes, compareProbes)
	for family, n := range lost {
		b.report(problem.Of("family "+problem.Quoted(family), "probes-limited",
			"give the images a HEALTHCHECK, which needs no probe; or run fewer containers, or routes to fewer ports of them",
			"%s has %d ports and paths to be probed, %d too many, so what is behind some is not served: there may be %d in all, and those that have most give way",
			problem.Quoted(family), used[family], n, maxProbes))
	}
}
