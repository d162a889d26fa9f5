package traffic

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

const (
	// maxHosts bounds the sites that are told apart; the first by name are.
	maxHosts = 512
	// maxExpressions bounds the hosts that are expressions, each of which is tried for each name that is new, and
	// the locations of a site that are.
	maxExpressions = 16
	// maxSeen bounds the names that are remembered because no site has them as they are.
	maxSeen = 1024
)

// site is a site whose requests are counted.
type site struct {
	host      string
	pools     []route.PoolKey // of its locations
	locations []location
	counts    *Counts
	pathless  *Classes
}

// names finds the site that answers for a name, as nginx does (nginx.org, "Server names"): the one of that
// name, the one with the longest wildcard at the front, at the end, the first expression.
type names struct {
	exact       map[string]*site
	front, back []pattern // the longest first
	expressions []pattern // the oldest first
	otherwise   *site
	seen        map[string]*site
}

// pattern is a host that stands for several names.
type pattern struct {
	fixed  string // without its star
	regexp *regexp.Regexp
	since  time.Time
	site   *site
}

// add adds the site of a host.
func (n *names) add(s *site, r route.Site) {
	if r.CatchAll {
		n.otherwise = s
	}
	switch h := r.Host; {
	case strings.HasPrefix(h, "~"):
		if e, err := regexp.Compile(h[1:]); err == nil { // Go does not know all of PCRE's
			n.expressions = append(n.expressions, pattern{regexp: e, since: r.Since, site: s})
		}
	case strings.HasPrefix(h, "*"):
		n.front = append(n.front, pattern{fixed: h[1:], site: s})
	case strings.HasSuffix(h, "*"):
		n.back = append(n.back, pattern{fixed: h[:len(h)-1], site: s})
	default:
		n.exact[h] = s
	}
}

// sort puts the patterns into the order in which they are tried.
func (n *names) sort() {
	longer := func(a, b pattern) int { return len(b.fixed) - len(a.fixed) }
	slices.SortStableFunc(n.front, longer)
	slices.SortStableFunc(n.back, longer)
	slices.SortStableFunc(n.expressions, func(a, b pattern) int { return a.since.Compare(b.since) })
	n.expressions = n.expressions[:min(len(n.expressions), maxExpressions)]
}

// find returns the site for a name in lower case, or the one for names that no site has.
func (n *names) find(name []byte) *site {
	if s, found := n.exact[string(name)]; found {
		return s
	}
	if s, found := n.seen[string(name)]; found {
		return s
	}
	s := n.match(string(name))
	if len(n.seen) >= maxSeen {
		clear(n.seen)
	}
	n.seen[string(name)] = s
	return s
}

func (n *names) match(name string) *site {
	for _, p := range n.front {
		if len(name) > len(p.fixed) && strings.HasSuffix(name, p.fixed) {
			return p.site
		}
	}
	for _, p := range n.back {
		if len(name) > len(p.fixed) && strings.HasPrefix(name, p.fixed) {
			return p.site
		}
	}
	for _, p := range n.expressions {
		if p.regexp.MatchString(name) {
			return p.site
		}
	}
	return n.otherwise
}
