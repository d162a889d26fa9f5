// Package pattern checks texts from outside: their form and their greatest length. The two are kept apart because package regexp unrolls counted
// repetitions: a dozen expressions ending in {0,254} would cost the idle agent
// megabytes.
package pattern

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Pattern is a regular expression with a bound on the length of what it matches.
type Pattern struct {
	form *regexp.Regexp
	max  int
}

// Of returns the pattern of texts of at most max bytes that match expr as a
// whole. It panics if expr is not a regular expression, so it is for variables
// of packages only.
func Of(max int, expr string) Pattern {
	return Pattern{form: regexp.MustCompile(`^(?:` + expr + `)$`), max: max}
}

// MatchString reports whether s has the form, from its first to its last byte.
func (p Pattern) MatchString(s string) bool {
	return len(s) <= p.max && p.form.MatchString(s)
}

// Only returns s if it has the form, and the empty text if not.
func (p Pattern) Only(s string) string {
	if p.MatchString(s) {
		return s
	}
	return ""
}

// InterfaceID is the form of the id of a network interface of EC2.
var InterfaceID = Of(40, `eni-[0-9a-f]{8,32}`)

const (
	maxName  = 253 // of a host name, RFC 1035 section 2.3.4 without the closing dot
	maxLabel = 63
)

// Host reports whether s is a DNS name in lower case, of letters, digits, hyphens
// (RFC 1123 section 2.1) and underscores, or such a name behind "*.". No part of it is of
// underscores only.
func Host(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if len(s) > maxName {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if len(part) > maxLabel || strings.Trim(part, "_") == "" || part[0] == '-' || part[len(part)-1] == '-' {
			return false
		}
		if strings.ContainsFunc(part, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
		}) {
			return false
		}
	}
	return true
}

// Switch reads true, t, yes, y, on or 1, or false, f, no, n, off or 0, in any case; ok is false for
// anything else.
func Switch(s string) (on, ok bool) {
	switch strings.ToLower(s) {
	case "true", "t", "yes", "y", "on", "1":
		return true, true
	case "false", "f", "no", "n", "off", "0":
		return false, true
	}
	return false, false
}

// names is how browsers read a name that is not of ASCII (Unicode Technical Standard 46).
var names = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.StrictDomainName(false))

// CanonicalHost is the one form of a name that is written in any letters, with a closing dot
// or not, or of an IPv6 address in brackets; ok is false for what is neither.
func CanonicalHost(s string) (host string, ok bool) {
	host = strings.ToLower(s)
	if inside, is := strings.CutPrefix(host, "["); is {
		a, err := netip.ParseAddr(strings.TrimSuffix(inside, "]"))
		host = "[" + a.String() + "]"
		return host, err == nil && strings.HasSuffix(s, "]") && Address(host)
	}
	if star, rest := "*.", strings.TrimPrefix(host, "*."); strings.ContainsFunc(rest, func(r rune) bool { return r >= utf8.RuneSelf }) {
		if rest == host {
			star = ""
		}
		ascii, err := names.ToASCII(rest)
		if err != nil {
			return "", false
		}
		host = star + ascii
	}
	host = strings.TrimSuffix(host, ".")
	return host, Host(host)
}

// Address reports whether s is an IPv6 address in brackets, in its one form (RFC 5952).
func Address(s string) bool {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil && a.Is6() && !a.Is4In6() && a.Zone() == "" && s == "["+a.String()+"]"
}

// HSTS reads a value of the header Strict-Transport-Security (RFC 6797, section 6.1), and
// returns its one form. Directives that the RFC does not define are left as they are.
func HSTS(s string) (value string, ok bool) {
	if len(s) > 200 {
		return "", false
	}
	var all, seen []string
	for part := range strings.SplitSeq(s, ";") {
		name, argument, given := strings.Cut(strings.TrimSpace(part), "=")
		name, argument = strings.TrimSpace(name), strings.TrimSpace(argument)
		if name == "" && !given {
			continue // the grammar allows nothing between two semicolons
		}
		lower := strings.ToLower(name)
		if !token.MatchString(name) || slices.Contains(seen, lower) {
			return "", false
		}
		seen = append(seen, lower)
		bare := strings.TrimSuffix(strings.TrimPrefix(argument, `"`), `"`)
		switch lower {
		case "max-age":
			if !seconds.MatchString(bare) || len(argument)-len(bare) == 1 {
				return "", false
			}
			part = "max-age=" + bare
		case "includesubdomains", "preload":
			if given {
				return "", false
			}
			if part = lower; lower != "preload" {
				part = "includeSubDomains"
			}
		default:
			if part = name; given {
				part += "=" + argument
			}
			if given && !token.MatchString(argument) && !quoted.MatchString(argument) {
				return "", false
			}
		}
		all = append(all, part)
	}
	return strings.Join(all, "; "), slices.Contains(seen, "max-age")
}

// What a directive is made of (RFC 7230, section 3.2.6), without '$', which nginx would take for
// a variable.
var (
	token   = Of(64, "[A-Za-z0-9!#%&'*+.^_`|~-]+")
	quoted  = Of(100, `"[ !#%-\[\]-~]*"`)
	seconds = Of(10, `[0-9]+`)
)

// Nearest returns the word that looks most like name.
func Nearest(name string, words []string) string {
	return slices.MinFunc(words, func(a, b string) int { return cmp.Compare(Distance(name, a), Distance(name, b)) })
}

// Distance is the Levenshtein distance of two short words.
func Distance(a, b string) int {
	a = a[:min(len(a), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			swap := diagonal
			if a[i] != b[j] {
				swap++
			}
			diagonal = row[j+1]
			row[j+1] = min(swap, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
