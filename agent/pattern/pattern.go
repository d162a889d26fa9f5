// Package pattern checks texts from outside: their form and their greatest length. The two are kept apart because package regexp unrolls counted
// repetitions: a dozen expressions ending in {0,254} would cost the idle agent
// megabytes.
package pattern

import "regexp"

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

const (
	maxName  = 253 // of a host name, RFC 1035 section 2.3.4 without the closing dot
	maxLabel = 63
)

// Host reports whether s is a DNS name in lower case, of letters, digits and
// hyphens (RFC 1123 section 2.1), or such a name behind "*.".
func Host(s string) bool {
	if len(s) > 2 && s[:2] == "*." {
		s = s[2:]
	}
	if s == "" || len(s) > maxName {
		return false
	}
	length := 0 // of the label so far
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.':
			if length == 0 || s[i-1] == '-' {
				return false
			}
			length = 0
			continue
		case c == '-':
			if length == 0 {
				return false
			}
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		default:
			return false
		}
		if length++; length > maxLabel {
			return false
		}
	}
	return length > 0 && s[len(s)-1] != '-'
}

var hsts = Of(100, `max-age=[0-9]{1,10}(; ?includeSubDomains)?(; ?preload)?`)

// HSTS reports whether s is a value of the header Strict-Transport-Security (RFC 6797,
// section 6.1) in its usual form.
func HSTS(s string) bool { return hsts.MatchString(s) }
