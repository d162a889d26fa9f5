package apply

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// accepted returns as much of a tree as nginx accepts; no is its refusal of all of it, nil
// where that has not been asked yet. The error is a *refusal if the cause is outside the sites
// and the operator's files.
//
// Others wait for it, so it finds families and not sites: what a family has changed
// is left out whole, and tried after the others are served. That takes two tests for one
// family at fault that nginx's message names, whatever its sites, and some more for one
// that it does not name. The sites are looked at only where it is not a change that nginx
// refuses, but what it has accepted before: a file beside them has changed.
func (a *applier) accepted(ctx context.Context, wanted, tree nginx.Tree, no *refusal) (nginx.Tree, error) {
	last := a.live
	if !a.known() {
		last, _ = a.store.read(a.store.current()) // without one nothing was accepted before
	}
	files := changedFiles(last, tree)
	p := &proof{try: a.tester().try, wanted: wanted}
	if a.known() || a.master.pid == 0 { // where nothing is served, no family waits for the sites of another
		var families []part
		p.base, families = byFamily(a.live, tree)
		p.parts = slices.Concat(files, families)
		err := p.prove(ctx, no)
		if _, outside := errors.AsType[*refusal](err); !outside || !a.known() {
			a.leaveOut(p.refused)
			return p.tree, err
		}
	}
	base, sites := bySite(tree)
	p = &proof{try: p.try, base: base, wanted: wanted, parts: slices.Concat(files, sites)}
	if err := p.prove(ctx, no); err != nil {
		return tree, err
	}
	a.leaveOut(p.refused)
	var all []refused
	for _, q := range p.refused {
		if q.file != nil {
			continue
		}
		r := refused{reason: q.reason}
		r.site, _ = p.with(q).Site(q.sites[0].Host) // as it is without the files that are left out
		if good, ok := last.Site(r.site.Host); ok && !good.Equal(r.site) {
			no, err := p.add(ctx, []part{{sites: []nginx.SiteFile{good}}})
			if err != nil {
				return tree, err
			}
			if no == nil {
				r.good = good
			}
		}
		all = append(all, r)
	}
	a.refuse(all...)
	return p.tree, nil
}

// leaveOut puts the operator's files among the parts into quarantine, and makes the families of
// the others suspects.
func (a *applier) leaveOut(parts []part) {
	for _, q := range parts {
		if q.file != nil {
			a.refuseSnippet(*q.file, q.reason)
		} else {
			a.suspect(q)
		}
	}
}

// bySite returns a tree without sites, and each site as a part.
func bySite(tree nginx.Tree) (without nginx.Tree, sites []part) {
	var hosts []string
	for _, s := range tree.Sites {
		hosts = append(hosts, s.Host)
		sites = append(sites, part{sites: []nginx.SiteFile{s}})
	}
	return tree.Without(hosts...), sites
}

// byFamily returns a tree with the files that its sites have in the live one, without those that
// are new, and the others of each family as a part: the smallest parts come first.
func byFamily(live, tree nginx.Tree) (before nginx.Tree, families []part) {
	was := map[string]nginx.SiteFile{}
	for _, s := range live.Sites {
		was[s.Host] = s
	}
	changed := map[string]part{}
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
		changed[s.Owner()] = part{sites: append(changed[s.Owner()].sites, s)}
	}
	for _, family := range slices.Sorted(maps.Keys(changed)) {
		families = append(families, changed[family])
	}
	slices.SortStableFunc(families, func(a, b part) int { return len(a.sites) - len(b.sites) })
	return tree.Without(fresh...).With(old...), families
}
