package nginx

import (
	"slices"
	"strings"
)

// restricting are the directives by which access is restricted, but for those that only
// answer something else.
func restricting(name string) bool {
	switch name {
	case "allow", "deny", "satisfy", "limit_except", "return", "rewrite", "internal", "ssl_verify_client", "secure_link", "valid_referers":
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
	return restricts(s.Says)
}

func restricts(all []Directive) bool {
	return slices.ContainsFunc(all, func(d Directive) bool {
		return restricting(d.Name) || d.Name != "server" && d.Name != "upstream" && restricts(d.Block)
	})
}

// ClosedServers are the names of its servers that may restrict who is let in. They come before
// sites of the same names, which stay closed where the file is left out.
func (s Snippet) ClosedServers() (names []string) {
	for _, server := range s.Says {
		if server.Name != "server" || !restricts(server.Block) {
			continue
		}
		for _, d := range server.Block {
			if d.Name == "server_name" {
				names = append(names, strings.Fields(strings.ToLower(strings.Join(d.Args, " ")))...)
			}
		}
	}
	for _, name := range names {
		if host, both := strings.CutPrefix(name, "."); both {
			names = append(names, host, "*."+host)
		}
	}
	return names
}

// closedServers are those of the files that are left out.
func closedServers(all []Snippet) (names []string) {
	for _, sn := range all {
		if sn.Out {
			names = append(names, sn.ClosedServers()...)
		}
	}
	return names
}
