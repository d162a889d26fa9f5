package traffic

import (
	"bytes"
	"cmp"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// target returns the path of a request as nginx compares it with locations: without its query, and with
// escapes, repeated slashes and segments of dots resolved.
func target(v *values) []byte {
	p := v[uri]
	if len(p) == 0 {
		_, p, _ = bytes.Cut(v[request], []byte(" "))
	}
	if n := bytes.IndexAny(p, "? "); n >= 0 {
		p = p[:n]
	}
	if len(p) > 0 && p[0] != '/' { // "GET http://host/path"
		if _, after, found := bytes.Cut(p, []byte("://")); found {
			p = after[max(0, bytes.IndexByte(after, '/')):]
		}
	}
	if bytes.IndexByte(p, '%') < 0 && !bytes.Contains(p, []byte("//")) && !bytes.Contains(p, []byte("/.")) {
		return p
	}
	text := string(p)
	if plain, err := url.PathUnescape(text); err == nil { // nginx refuses what is escaped in another way
		text = plain
	}
	clean := path.Clean(text)
	if segment := text[strings.LastIndexByte(text, '/')+1:]; (segment == "" || segment == "." || segment == "..") && clean != "/" {
		clean += "/"
	}
	return []byte(clean)
}

// location is one of a site, for the paths that it serves.
type location struct {
	name   string
	match  route.Match
	path   string // without a slash at its end, where whole segments are compared
	regexp *regexp.Regexp
	counts *Counts
}

// maxPaths bounds the locations of a site that are told apart; those that nginx tries first are.
const maxPaths = 64

// locationsOf are those of a site, in the order in which nginx tries them (nginx.org, location): exact ones,
// expressions in the order in which they are written, and the longest prefix. Where Go does not know an
// expression, which may be any of PCRE's, none is told apart, nor where there are more than maxExpressions, or only one
// location.
func locationsOf(s route.Site) (all []location) {
	if len(s.Locations) < 2 {
		return nil
	}
	rank := map[route.Match]int{route.Exact: -2, route.Regex: -1, route.RegexFold: -1}
	locations := slices.Clone(s.Locations)
	slices.SortStableFunc(locations, func(a, b route.Location) int { // as package nginx writes them
		return cmp.Or(cmp.Compare(rank[a.Match], rank[b.Match]), cmp.Compare(len(b.Path), len(a.Path)), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Match, b.Match))
	})
	expressions := 0
	for _, l := range locations[:min(len(locations), maxPaths)] {
		one := location{name: nameOf(l), match: l.Match, path: l.Path}
		switch l.Match {
		case route.Segments:
			one.path = strings.TrimRight(l.Path, "/")
		case route.Regex, route.RegexFold:
			flags := ""
			if l.Match == route.RegexFold {
				flags = "(?i)"
			}
			var err error
			one.regexp, err = regexp.Compile(flags + l.Path)
			if expressions++; err != nil || expressions > maxExpressions {
				return nil
			}
		}
		all = append(all, one)
	}
	return all
}

// nameOf is the Path of a location.
func nameOf(l route.Location) string {
	switch l.Match {
	case route.Exact:
		return "= " + l.Path
	case route.Regex:
		return "~ " + l.Path
	case route.RegexFold:
		return "~* " + l.Path
	}
	return l.Path
}

// serves reports whether the location serves a path, if none before it does.
func (l location) serves(path []byte) bool {
	switch l.match {
	case route.Exact:
		return string(path) == l.path
	case route.Prefix:
		return bytes.HasPrefix(path, []byte(l.path))
	case route.Regex, route.RegexFold:
		return l.regexp.Match(path)
	}
	rest, found := bytes.CutPrefix(path, []byte(l.path))
	return found && (len(rest) == 0 && l.path != "" || len(rest) > 0 && rest[0] == '/')
}
