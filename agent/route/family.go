package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// The kinds of families, which stand in front of their names: no name of one kind is a name
// of another.
const (
	ecsKind      = "ecs:"      // the containers of an ECS task family
	composeKind  = "compose:"  // those of a Compose service, as project/service
	nameKind     = "name:"     // the container of that name
	idKind       = "id:"       // a container without a name
	fileKind     = "file:"     // what an operator's files say under that name
	upstreamKind = "upstream:" // families that share a word of routes.shared-upstreams
	// SharedKind is for families that share without a word of their own.
	SharedKind = "shared:"
)

var familyForm = pattern.Of(255, `[A-Za-z0-9_][A-Za-z0-9_./-]*`)

// basesOf says which containers belong together, by id: those of one ECS task family, of one
// Compose service, or with one name; and those of "docker run" that run the same service, of which
// the oldest that is there to serve names the family. merged are the own families of these, by
// that family.
func basesOf(list []tasks.Container) (bases map[string]string, merged map[string][]string) {
	bases, merged = map[string]string{}, map[string][]string{}
	groups := map[string][]tasks.Container{}
	for _, c := range list {
		bases[c.ID] = ownFamily(c)
		if c.ServiceKey != "" && strings.HasPrefix(bases[c.ID], nameKind) {
			groups[c.ServiceKey] = append(groups[c.ServiceKey], c)
		}
	}
	for _, cs := range groups {
		slices.SortFunc(cs, func(x, y tasks.Container) int {
			return cmp.Or(x.CreatedAt.Compare(y.CreatedAt), cmp.Compare(x.ID, y.ID))
		})
		base := ownFamily(cs[max(0, slices.IndexFunc(cs, active))])
		for _, c := range cs {
			bases[c.ID], merged[base] = base, append(merged[base], ownFamily(c))
		}
	}
	return bases, merged
}

// ownFamily is the family that a container is of without others. No container of Docker is of the
// family of an operator's file.
func ownFamily(c tasks.Container) string {
	composed := c.Labels[tasks.LabelComposeProject] + "/" + c.Labels[tasks.LabelComposeService]
	switch {
	case c.File != "":
		return fileKind + c.Name
	case familyForm.MatchString(c.Task.Family):
		return ecsKind + c.Task.Family
	case familyForm.MatchString(composed) && !strings.HasSuffix(composed, "/") && strings.Count(composed, "/") == 1:
		return composeKind + composed
	case familyForm.MatchString(c.Name):
		return nameKind + c.Name
	}
	return idKind + c.ID
}

// familyOf is the family under which a container claims a route: its own, unless the operator
// lets several families share its hosts. A port of its own is never shared.
func (b *builder) familyOf(c tasks.Container, s Spec, base string) string {
	switch word := b.in.Requests[c.ID].Upstream; {
	case s.Listen.Port != 0:
		return base
	case word != "" && b.o.shares(word, base):
		return upstreamKind + word
	}
	return cmp.Or(s.Family, base)
}

// shares reports whether the operator lets the family use the word.
func (o Options) shares(word, family string) bool {
	families, ok := o.Shared[word]
	return ok && (families == nil || slices.Contains(families, family))
}

// checkUpstream reports a container whose word for a shared upstream is not its family's.
func (b *builder) checkUpstream(c tasks.Container) {
	word, base := b.in.Requests[c.ID].Upstream, b.bases[c.ID]
	if word == "" || b.o.shares(word, base) {
		return
	}
	p := problem.OfContainer(Ref(c), "upstream-not-shared",
		fmt.Sprintf("add %s=%s to the setting routes.shared-upstreams, and the same for the families that it shares hosts with; else remove nagaya.upstream", word, base),
		"nagaya.upstream is %s, which %s may not use, so it shares hosts with its own family alone", word, problem.Quoted(base))
	p.Subject += " label nagaya.upstream"
	b.report(p.AsWarning())
}

// waitForECS leaves out a container whose labels name a task that the ECS agent does not know.
func (b *builder) waitForECS(c tasks.Container) {
	for _, s := range b.routesOf(c) {
		b.wait(candidate{Spec: s, key: s.Keys()[0], ref: Ref(c)}, "unlisted")
	}
	switch {
	case len(b.routesOf(c)) == 0:
	case b.isBefore(c.StartedAt.Add(patience)):
		b.t.StartsExpected = true
	default:
		b.report(problem.OfContainer(Ref(c), "container-not-listed",
			"see that the ECS agent runs (systemctl status ecs); remove the labels com.amazonaws.ecs.* where ECS did not start the container",
			"its labels name a task of ECS, and the ECS agent does not list the container, so it is not routed"))
	}
}

// carry gives what the table before has to the families that its containers are of now: who
// has a host is its containers, and a container that is renamed keeps what it serves.
//
// A family asks for a host under one name, which its newest container says: one that joins a
// shared upstream, or leaves it, takes the others along.
func (b *builder) carry(all []candidate) {
	newest := map[[2]string]string{}
	for i, c := range all {
		by := [2]string{c.key.Host, c.base}
		newest[by] = cmp.Or(newest[by], c.family)
		all[i].family = newest[by]
	}
	groups := by(candidate.host, all)
	sites, streams := slices.Clone(b.in.Prev.Sites), slices.Clone(b.in.Prev.Streams)
	for i, p := range b.in.Prev.Places() {
		family := b.familyNow(p, groups[p.Host])
		if i < len(sites) {
			sites[i].Family = family
			b.before[p.Host] = sites[i]
		} else {
			streams[i-len(sites)].Family = family
		}
		for _, key := range p.Keys {
			b.poolFamily[key] = family
		}
	}
	b.in.Prev.Sites, b.in.Prev.Streams = sites, streams
}

// familyNow is the family of the containers that were in a place and still ask for it: the one that
// they were of, as long as one is, else the oldest one's. Where none of them is left, the family
// goes by its name, and by those of the containers that run the same service. Of a host that
// was shared it is the owner's, if that asks for it. cs are all that ask, newest first.
func (b *builder) familyNow(p Place, cs []candidate) string {
	family, were := p.Family, map[string]bool{}
	for _, k := range p.Keys {
		for _, s := range b.in.Prev.Pools[k].Servers {
			were[s.Container] = true
		}
	}
	if own := slices.DeleteFunc(slices.Clone(cs), func(c candidate) bool { return c.base != p.Owner }); len(own) > 0 {
		if cs = own; !slices.ContainsFunc(cs, func(c candidate) bool { return c.family == family }) {
			return cs[len(cs)-1].family
		}
	}
	var ofServed, ofName string
	for _, c := range slices.Backward(cs) {
		switch served := were[c.container.ID]; {
		case served && c.family == family:
			return family
		case served:
			ofServed = cmp.Or(ofServed, c.family)
		case c.family == family || c.base == family || slices.Contains(b.merged[c.base], family) || ofName == "" && wasNamed(family, c.family):
			ofName = c.family
		}
	}
	return cmp.Or(ofServed, ofName, family)
}

// wasNamed reports whether a family had that name in version 0.1, where kinds were no part of
// the names of most.
func wasNamed(name, family string) bool {
	_, bare, _ := strings.Cut(family, ":")
	return name == bare || name == upstreamKind+"nginx-proxy" && family == SharedKind+"nginx-proxy"
}
