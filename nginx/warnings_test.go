package nginx

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

func TestWarnings(t *testing.T) {
	locked := func(file string) nestedSite {
		return nestedSite{Host: "a.test", Family: "web", Plain: route.Serve, Locations: []nestedLocation{
			with(spot("/", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Auth = file }),
			with(spot("/b", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Auth = file }),
		}}
	}
	secure := func(change func(*route.Edge)) nestedSite {
		s := nestedSite{Host: "a.test", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}}
		change(&s.Edge)
		return s
	}
	passed := nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(server("10.0.0.2:443", 1))}}
	trusting := func(s *Settings) { s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }
	for _, row := range []struct {
		name     string
		build    string
		settings func(*Settings)
		site     nestedSite
		want     []string
	}{
		{"password files are not known", debian122, nil, locked("staff"), nil},
		{"the file is there", debian122, func(s *Settings) { s.Passwords = []string{"staff"} }, locked("staff"), nil},
		{"the file is not there", debian122, func(s *Settings) { s.Passwords = []string{} }, locked("staff"), []string{"auth-file-missing site a.test"}},
		{"HTTP/2 off for one site", debian122, nil, secure(func(e *route.Edge) { e.HTTP2 = route.Off }), []string{"http2-not-by-site site a.test"}},
		{"HTTP/2 on for one site", debian122, func(s *Settings) { s.HTTP2 = false }, secure(func(e *route.Edge) { e.HTTP2 = route.On }), []string{"http2-not-by-site site a.test"}},
		{"HTTP/2 as it is anyway", debian122, nil, secure(func(e *route.Edge) { e.HTTP2 = route.On }), nil},
		{"HTTP/2 by site", upstream128, nil, secure(func(e *route.Edge) { e.HTTP2 = route.Off }), nil},
		{"protocols of one site", upstream128, nil, secure(func(e *route.Edge) { e.TLSPolicy = "Mozilla-Modern" }), []string{"tls-protocols-not-by-site site a.test"}},
		{"ciphers of one site", upstream128, nil, secure(func(e *route.Edge) { e.TLSPolicy = "AWS-TLS13-1-2-2021-06" }), nil},
		{"protocols of all sites", upstream128, func(s *Settings) { s.TLSPolicy = "Mozilla-Modern" }, secure(func(e *route.Edge) { e.TLSPolicy = "Mozilla-Modern" }), nil},
		{"protocols of one site, wider than those of all", upstream128, func(s *Settings) { s.TLSPolicy = "Mozilla-Modern" }, secure(func(e *route.Edge) { e.TLSPolicy = "Mozilla-Intermediate" }), []string{"tls-protocols-not-by-site site a.test"}},
		{"HTTP/3 that this nginx cannot", debian122, func(s *Settings) { s.HTTP3 = true }, secure(func(*route.Edge) {}), []string{"http3-not-offered nginx"}},
		{"HTTP/3 that this nginx cannot, for one site", debian122, nil, secure(func(e *route.Edge) { e.HTTP3 = route.On }), []string{"http3-not-offered site a.test"}},
		{"HTTP/3 without TLS 1.3", debian130, nil, secure(func(e *route.Edge) { e.HTTP3, e.TLSPolicy = route.On, "AWS-TLS-1-2-2017-01" }), []string{"http3-not-offered site a.test"}},
		{"HTTP/3 where no site has TLS 1.3", debian130, func(s *Settings) { s.TLSPolicy = "AWS-TLS-1-2-2017-01" }, secure(func(e *route.Edge) { e.HTTP3, e.TLSPolicy = route.On, "Mozilla-Modern" }), []string{"http3-not-offered site a.test"}},
		{"HTTP/3 of a container's own TLS", debian130, nil, nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Edge: route.Edge{HTTP3: route.On}, Passthrough: passed.Passthrough}, []string{"http3-not-offered site p.test"}},
		{"HTTP/3 for all, and one container's own TLS", debian130, func(s *Settings) { s.HTTP3 = true }, passed, nil},
		{"trusted proxies that speak the PROXY protocol", debian122, func(s *Settings) { trusting(s); s.ProxyProtocol = true }, passed, nil},
	} {
		tree := scene{build: row.build, settings: row.settings, sites: []nestedSite{row.site}}.render(nil)
		var got []string
		for _, p := range tree.Problems {
			got = append(got, p.Code+" "+p.Subject)
			if p.Text == "" || p.Hint == "" || p.Code == "auth-file-missing" && !strings.Contains(p.Hint, "page.auth") {
				t.Errorf("%s: incomplete %+v", row.name, p)
			}
		}
		if d := cmp.Diff(row.want, got); d != "" {
			t.Errorf("%s: problems (-want +got):\n%s", row.name, d)
		}
		if len(tree.Sites) != 1 {
			t.Errorf("%s: the site is not written", row.name)
		}
	}
}
