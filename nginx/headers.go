package nginx

import (
	"cmp"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// headers writes the headers of every answer, and more. nginx inherits these lines
// only where a location has none of its own.
func headers(t *text, site route.Site, more ...[]string) {
	if t.quic {
		port := cmp.Or(site.Edge.HTTPSPort, t.settings.HTTPSPort)
		offer := `h3=":` + number(port) + `"; ma=86400`
		if t.settings.NginxProxy {
			offer += ";"
		}
		t.overQUIC(port, func() { t.set("add_header", "Alt-Svc", offer, "always") })
	}
	if site.TLS && site.Edge.HSTS != "" {
		more = slices.Insert(slices.Clone(more), 0, []string{"Strict-Transport-Security", hstsVariable(site.Edge.HSTS), "always"})
	}
	if t.list("add_header", more); t.quic && len(more) == 0 {
		t.carry("add_header")
	}
}

// answer writes the headers of an answer of nagaya's own, inside a block of its own.
func answer(t *text, site route.Site) {
	t.at(level{}, func() { headers(t, site, []string{"Retry-After", retryAfter, "always"}) })
}

// hstsVariable has the header's value over HTTPS only: over plain HTTP the header
// must not be sent (RFC 6797, section 7.2). Sites with one value share the variable.
func hstsVariable(value string) string { return "$nagaya_hsts_" + digest(value) }

// errorPages writes who answers where a container does not; @nagaya_down decides about the
// status.
func errorPages(t *text) {
	t.list("error_page", [][]string{{"502", "=", downLocation}, {"504", downLocation}})
}
