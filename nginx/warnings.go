package nginx

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// warn adds the problems of a site that is rendered, and not as it was asked for.
func (t *Tree) warn(site route.Site) {
	s, b := t.settings, t.build
	if want := site.Edge.HTTP2; site.TLS && b.HTTP2 && !b.HTTP2Directive && (want == route.On && !s.HTTP2 || want == route.Off && s.HTTP2) {
		t.Problems = append(t.Problems, problem.OfHost(site.Host, "http2-not-by-site",
			"remove nagaya.http2, set nginx.http2 for all sites, or install nginx 1.25.1 or newer",
			"%s wants HTTP/2 %s, and nginx %v can only switch it for all sites of a port at once", site.Host, want, b.Version).AsWarning())
	}
	all, _ := config.PolicyNamed(s.TLSPolicy)
	own, _ := config.PolicyNamed(cmp.Or(site.Edge.TLSPolicy, all.Name))
	if site.TLS && !b.ProtocolsBySite && !slices.Equal(own.Protocols, all.Protocols) {
		t.Problems = append(t.Problems, problem.OfHost(site.Host, "tls-protocols-not-by-site",
			"install nginx 1.29.2 or newer, or choose a policy with these protocols, or set routes.tls-policy for all",
			"%s speaks %s, and not %s as its policy %s says: nginx %v has one choice of protocols for all sites of a port; the policy's ciphers are in force",
			site.Host, strings.Join(all.Protocols, " and "), strings.Join(own.Protocols, " and "), own.Name, b.Version).AsWarning())
	}
	missing := func(l route.Location) bool {
		file := authFile(s, site, l)
		_, found := slices.BinarySearch(s.Passwords, file)
		return file != "" && !found
	}
	if i := slices.IndexFunc(site.Locations, missing); i >= 0 && s.Passwords != nil {
		l := site.Locations[i]
		t.Problems = append(t.Problems, problem.OfHost(site.Host, "auth-file-missing",
			"put the file there (htpasswd -c), readable for nginx's workers, or correct its name (nagaya.auth, or page.auth for the page)",
			"the password file %q of path %q is not in %s, so all requests there are refused", truncated(l.Auth), truncated(l.Path), truncated(s.HtpasswdDir)))
	}
}
