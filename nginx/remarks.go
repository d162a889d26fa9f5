package nginx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// remark complains of what is written, and is not what somebody asked for.
func (t *Tree) remark(sites []route.Site) {
	s, b := t.settings, t.build
	for _, site := range sites {
		subject := "site " + site.Host
		if want := site.Edge.HTTP2; site.TLS && b.HTTP2 && !b.HTTP2Directive && (want == route.On && !s.HTTP2 || want == route.Off && s.HTTP2) {
			t.Problems = append(t.Problems, problem.Problem{
				Code: "http2-not-by-site", Severity: problem.Warning, Subject: subject, Host: site.Host,
				Text: fmt.Sprintf("%s wants HTTP/2 %s, and nginx %v can only switch it for all sites of a port at once", site.Host, want, b.Version),
				Hint: "remove nagaya.http2, set nginx.http2 for all sites, or install nginx 1.25.1 or newer",
			})
		}
		usual, _ := route.PolicyNamed(s.TLSPolicy)
		policy, _ := route.PolicyNamed(or(site.Edge.TLSPolicy, usual.Name))
		if site.TLS && !b.ProtocolsBySite && !slices.Equal(policy.Protocols, usual.Protocols) {
			t.Problems = append(t.Problems, problem.Problem{
				Code: "tls-protocols-not-by-site", Severity: problem.Warning, Subject: subject, Host: site.Host,
				Text: fmt.Sprintf("%s speaks %s, and not %s as its policy %s says: nginx %v has one choice of protocols for all sites of a port; the policy's ciphers are in force",
					site.Host, strings.Join(usual.Protocols, " and "), strings.Join(policy.Protocols, " and "), policy.Name, b.Version),
				Hint: "install nginx 1.29.2 or newer, or choose a policy with these protocols, or set routes.tls-policy for all",
			})
		}
		for _, l := range site.Locations {
			if l.Auth == "" || s.Passwords == nil || slices.Contains(s.Passwords, l.Auth) {
				continue
			}
			t.Problems = append(t.Problems, problem.Problem{
				Code: "auth-file-missing", Severity: problem.Error, Subject: subject, Host: site.Host,
				Text: fmt.Sprintf("the password file %q of path %q is not in %s, so nobody is let in there", cut(l.Auth), cut(l.Path), cut(s.HtpasswdDir)),
				Hint: "put the file there (htpasswd -c), readable for nginx's workers, or correct nagaya.auth",
			})
			break
		}
	}
	if t.needs.passed && believesForwarded(s, b) {
		t.Problems = append(t.Problems, problem.Problem{
			Code: "trusted-proxies-unseen", Severity: problem.Warning, Subject: "nginx",
			Text: "some site's TLS is passed through, so port " + fmt.Sprint(s.HTTPSPort) + " is shared and nginx takes the address of a trusted proxy itself for the client's: " +
				"nagaya.allow and X-Real-IP see the proxy, X-Forwarded-For is right",
			Hint: "let trusted proxies speak the PROXY protocol (nginx.proxy-protocol), or have no passthrough beside them",
		})
	}
}
