package nginx

import (
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// place is what a block location of nginx is for: the sign of how a path is compared, and the path. A
// server may have one block for each.
type place struct{ sign, path string }

// places are those of a path. nginx's own prefixes know no path segments, so "/app" has two: exactly
// "/app", and all below "/app/"; "/apple" is in neither.
func places(l route.Location) []place {
	base := strings.TrimRight(l.Path, "/")
	switch {
	case l.Match != route.Segments:
		return []place{{map[route.Match]string{route.Exact: "=", route.Regex: "~", route.RegexFold: "~*"}[l.Match], l.Path}}
	case base == "":
		return []place{{"", "/"}}
	}
	return []place{{"=", base}, {"", base + "/"}}
}

// owners says which of a site's locations, by its pool, has each place: "/app" and the prefix "/app/" have one in
// common, for which nginx would refuse the site. One with a container comes first, then the longest path.
func owners(site route.Site, sorted []route.Location, isVacant func(route.Location) bool) map[place]route.PoolKey {
	all := map[place]route.PoolKey{}
	for _, vacant := range []bool{false, true} {
		for _, l := range sorted {
			for _, p := range places(l) {
				if _, taken := all[p]; !taken && isVacant(l) == vacant {
					all[p] = site.PoolKey(l)
				}
			}
		}
	}
	return all
}

// location writes those of its places that a location has.
func location(t *text, site route.Site, l route.Location, isVacant bool, has func(place) bool) {
	if files := overrideFor(t.settings, site, l); !isVacant && len(files) > 0 {
		include(t, files)
		return
	}
	for _, p := range places(l) {
		if !has(p) {
			continue
		}
		args, at := []string{p.sign, p.path}, p.path
		if p.sign == "" {
			args = args[1:]
		}
		if at == "/" && l.Match == route.Segments {
			at = ""
		}
		t.block("location", args, func() {
			if p.sign == "=" && l.Match == route.Segments && l.StripPrefix && !isVacant && (l.Scheme == route.HTTP || l.Scheme == route.HTTPS) {
				t.comment("Relative links of a page at / are right only below a closing slash.")
				t.returnIf("$nagaya_get", "301", at+"/$is_args$args")
			}
			locationBody(t, site, l, isVacant, at)
		})
	}
}

// locationBody writes the directives for a request that matched at, which is empty
// for the whole site.
func locationBody(t *text, site route.Site, l route.Location, isVacant bool, at string) {
	if isVacant {
		vacant(t, site)
		return
	}
	files := filesForLocation(t.settings, site, l)
	t.at(levelOf(files...), func() {
		refuseForSnippet(t, closes(files))
		ownLocation(t, site, l, at)
		include(t, files)
	})
}
