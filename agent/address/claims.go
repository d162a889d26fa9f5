package address

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// Claim names an Elastic IP that belongs to this instance, in one of three ways,
// and where it goes; the zero Claim names none.
type Claim struct {
	AllocationID string
	PublicIP     netip.Addr
	TagKey       string
	TagValue     string
	// Place has the private address of this instance that it is associated with, or the
	// network interface. At most one of them is set; without either it goes to the next
	// private address of the primary interface.
	Place Place
}

// maxClaims bounds how many addresses one instance claims: no instance type has
// more private IPv4 addresses on an interface (EC2 User Guide, "Maximum IP
// addresses per network interface").
const maxClaims = 50

// ParseClaims reads what is claimed, one claim per text; empty ones are left out.
// It refuses two that are equal or that want the same place.
func ParseClaims(texts []string) ([]Claim, error) {
	var all []Claim
	named, placed := map[Claim]bool{}, map[string]bool{}
	for _, s := range texts {
		c := parseClaim(strings.TrimSpace(s))
		if c.IsZero() {
			continue
		}
		if named[c.bare()] {
			return nil, fmt.Errorf("%q is claimed twice", c.bare().String())
		}
		named[c.bare()] = true
		if at := c.Place.String(); at != "" {
			if placed[at] {
				return nil, fmt.Errorf("two addresses cannot go to one place: %q", at)
			}
			placed[at] = true
		}
		if all = append(all, c); len(all) > maxClaims {
			return nil, fmt.Errorf("more than %d addresses are claimed", maxClaims)
		}
	}
	return all, nil
}

// parseClaim reads "eipalloc-…", an IPv4 address, or "tag:KEY=VALUE", followed if
// wanted by "@" and where it goes: a private IPv4 address or "eni-…". What follows
// the last "@" of a tag belongs to its value unless it is such a place. The empty
// text is the zero Claim. Package config has checked the form.
func parseClaim(s string) (c Claim) {
	what := s
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		if at, ok := parsePlace(s[i+1:]); ok {
			what, c.Place = s[:i], at
		}
	}
	if strings.HasPrefix(what, "eipalloc-") {
		c.AllocationID = what
	} else if tag, ok := strings.CutPrefix(what, "tag:"); ok {
		c.TagKey, c.TagValue, _ = strings.Cut(tag, "=")
	} else {
		c.PublicIP, _ = netip.ParseAddr(what)
	}
	return c
}

func parsePlace(s string) (Place, bool) {
	if pattern.InterfaceID.MatchString(s) {
		return Place{InterfaceID: s}, true
	}
	a, err := netip.ParseAddr(s)
	return Place{PrivateAddr: a}, err == nil && a.Is4()
}

// IsZero reports whether no address is claimed.
func (c Claim) IsZero() bool { return c.bare() == Claim{} }

// bare is the claim without its place.
func (c Claim) bare() Claim {
	c.Place = Place{}
	return c
}

// String writes what parseClaim reads.
func (c Claim) String() string {
	s := ""
	switch {
	case c.AllocationID != "":
		s = c.AllocationID
	case c.PublicIP.IsValid():
		s = c.PublicIP.String()
	case c.TagKey != "":
		s = "tag:" + c.TagKey + "=" + c.TagValue
	}
	if c.Place != (Place{}) {
		s += "@" + c.Place.String()
	}
	return s
}
