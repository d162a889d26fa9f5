package route

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
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
// Compose service, or with one name; and those of "docker run" that are kin, of which the oldest
// that is there to serve names the family. kin are the names that these have as families, by
// that family.
func basesOf(list []tasks.Container) (bases map[string]string, kin map[string][]string) {
	bases, kin = map[string]string{}, map[string][]string{}
	groups := map[string][]tasks.Container{}
	for _, c := range list {
		bases[c.ID] = nameOf(c)
		if c.Kin != "" && strings.HasPrefix(bases[c.ID], nameKind) {
			groups[c.Kin] = append(groups[c.Kin], c)
		}
	}
	for _, cs := range groups {
		slices.SortFunc(cs, func(x, y tasks.Container) int {
			return cmp.Or(x.CreatedAt.Compare(y.CreatedAt), cmp.Compare(x.ID, y.ID))
		})
		base := nameOf(cs[max(0, slices.IndexFunc(cs, active))])
		for _, c := range cs {
			bases[c.ID], kin[base] = base, append(kin[base], nameOf(c))
		}
	}
	return bases, kin
}

// nameOf is the family that a container is of without others. No container of Docker is of the
// family of an operator's file.
func nameOf(c tasks.Container) string {
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
