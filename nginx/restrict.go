package nginx

import (
	"slices"
	"strings"
)

// restricting are the directives by which access is restricted, but for those that only
// answer something else.
func restricting(name string) bool {
	switch name {
	case "allow", "deny", "satisfy", "limit_except", "return", "internal", "ssl_verify_client", "secure_link", "valid_referers":
		return true
	}
	return strings.HasPrefix(name, "auth_") || strings.HasPrefix(name, "access_by_lua") || strings.HasPrefix(name, "rewrite_by_lua") ||
		strings.HasPrefix(name, "modsecurity") || strings.HasPrefix(name, "js_access")
}

// MayRestrict reports whether a file that is left out may have restricted who is let in where it
// is included. What is in servers of its own goes with them. In one that cannot be read any
// word counts.
func (s Snippet) MayRestrict() bool {
	if s.Unreadable {
		return true
	}
	if s.Says == nil {
		return slices.ContainsFunc(strings.FieldsFunc(s.Text, func(r rune) bool { return r != '_' && !alphanumeric(r) }), restricting)
	}
	var in func([]Directive) bool
	in = func(all []Directive) bool {
		return slices.ContainsFunc(all, func(d Directive) bool {
			return restricting(d.Name) || d.Name != "server" && d.Name != "upstream" && in(d.Block)
		})
	}
	return in(s.Says)
}
