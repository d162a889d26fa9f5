package apply

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// acceptedSites returns as much of a tree as nginx accepts, which refuses all of it. The error is
// a *refusal if the cause is outside the sites.
//
// Others wait for it, so it finds families and not sites: what a family has changed
// is left out whole, and tried after the others are served. That takes two tests for one
// family at fault that nginx's message names, whatever its sites, and some more for one
// that it does not name. The sites are looked at only where it is not a change that nginx
// refuses, but what it has accepted before: a file beside them has changed.
func (a *applier) acceptedSites(ctx context.Context, tree nginx.Tree, no *refusal) (nginx.Tree, error) {
	p := prover{a.tester().try}
	if a.live != nil {
		before, families := byFamily(*a.live, tree)
		proved, err := p.prove(ctx, before, families, no)
		if _, ok := errors.AsType[*refusal](err); !ok {
			a.suspect(proved.refused...)
			return proved.tree, err
		}
	}
	if a.master.pid == 0 && a.live == nil {
		// Nothing is served, and no family waits for the sites of another.
		without, families := byFamily(nginx.Tree{}, tree)
		proved, err := p.prove(ctx, without, families, no)
		a.suspect(proved.refused...)
		return proved.tree, err
	}
	without, sites := bySite(tree)
	proved, err := p.prove(ctx, without, sites, no)
	if err != nil {
		return tree, err
	}
	var all []refused
	for _, g := range proved.refused {
		r := refused{site: g.sites[0], reason: g.reason}
		if good, ok := a.lastGood(r.site); ok {
			better := proved.tree.With(good)
			no, err := p.ask(ctx, better)
			if err != nil {
				return tree, err
			}
			if no == nil {
				proved.tree, r.good = better, good
			}
		}
		all = append(all, r)
	}
	a.suspect(proved.refused...)
	a.refuse(all...)
	return proved.tree, nil
}

// lastGood returns the file of a site in the current generation, if that is another one.
func (a *applier) lastGood(site nginx.SiteFile) (nginx.SiteFile, bool) {
	tree, err := a.treeOf(a.store.current())
	if err != nil {
		return nginx.SiteFile{}, false
	}
	good, ok := tree.Site(site.Host)
	return good, ok && !good.Equal(site)
}

// bySite returns a tree without sites, and each site as a group.
func bySite(tree nginx.Tree) (without nginx.Tree, sites []siteGroup) {
	var hosts []string
	for _, s := range tree.Sites {
		hosts = append(hosts, s.Host)
		sites = append(sites, siteGroup{sites: []nginx.SiteFile{s}})
	}
	return tree.Without(hosts...), sites
}

// byFamily returns a tree with the files that its sites have in the live one, without those that
// are new, and the others of each family as a group: the smallest groups come first.
func byFamily(live, tree nginx.Tree) (before nginx.Tree, families []siteGroup) {
	was := map[string]nginx.SiteFile{}
	for _, s := range live.Sites {
		was[s.Host] = s
	}
	changed := map[string]siteGroup{}
	var fresh []string
	var old []nginx.SiteFile
	for _, s := range tree.Sites {
		good, found := was[s.Host]
		switch {
		case !found:
			fresh = append(fresh, s.Host)
		case good.Equal(s):
			continue
		default:
			old = append(old, good)
		}
		changed[s.Owner()] = siteGroup{sites: append(changed[s.Owner()].sites, s)}
	}
	for _, family := range slices.Sorted(maps.Keys(changed)) {
		families = append(families, changed[family])
	}
	slices.SortStableFunc(families, func(a, b siteGroup) int { return len(a.sites) - len(b.sites) })
	return tree.Without(fresh...).With(old...), families
}
