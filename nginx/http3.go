package nginx

import (
	"fmt"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// offersQUIC reports whether a site is served over HTTP/3 too.
func offersQUIC(s Settings, b Build, site route.Site) bool {
	return site.TLS && wantsHTTP3(s, site) && withoutHTTP3(s, b, site) == ""
}

func wantsHTTP3(s Settings, site route.Site) bool {
	return site.Edge.HTTP3 == route.On || site.Edge.HTTP3 == route.Unset && s.HTTP3
}

// withoutHTTP3 says what keeps a site from HTTP/3, empty if nothing does. There is no
// HTTP/3 but with TLS 1.3 (RFC 9001, section 4.2); nginx refuses it with other protocols
// alone, for the site and for the default server of the port.
func withoutHTTP3(s Settings, b Build, site route.Site) string {
	name := or(site.Edge.TLSPolicy, s.TLSPolicy)
	own, _ := route.PolicyNamed(name)        // checked before
	all, _ := route.PolicyNamed(s.TLSPolicy) // of the default server
	switch {
	case !b.HTTP3:
		return fmt.Sprintf("nginx %v was built without it", b.Version)
	case site.Passthrough != nil:
		return "its TLS is passed through, over TCP"
	case !slices.Contains(own.Protocols, "TLSv1.3"):
		return fmt.Sprintf("the TLS policy %s has no TLS 1.3", own.Name)
	case !slices.Contains(all.Protocols, "TLSv1.3"):
		return fmt.Sprintf("the TLS policy %s, which is for all, has no TLS 1.3", all.Name)
	}
	return ""
}

// reachHTTP3 complains of HTTP/3 that is asked for and cannot be offered. It takes it
// from the sites whose port is a stream's of UDP too: the kernel would give a part of the
// datagrams to each.
func (t *Tree) reachHTTP3(sites []route.Site, streams []route.Stream) {
	say := func(subject, host, text, hint string) {
		t.Problems = append(t.Problems, problem.Problem{Code: "http3-not-offered", Severity: problem.Warning, Subject: subject, Host: host, Text: text, Hint: hint})
	}
	s := t.settings
	if s.HTTP3 && !t.build.HTTP3 {
		say("nginx", "", fmt.Sprintf("nginx.http3 is on, and nginx %v was built without HTTP/3", t.build.Version),
			"install nginx 1.25 or newer with --with-http_v3_module, or set nginx.http3 to false")
	}
	for i, site := range sites {
		port := or(site.Edge.HTTPSPort, s.HTTPSPort)
		taken := func(st route.Stream) bool { return st.Listen == route.Listen{Protocol: route.UDP, Port: port} }
		why := withoutHTTP3(s, t.build, site)
		switch {
		case why != "" && site.Edge.HTTP3 == route.On && (site.TLS || site.Passthrough != nil):
			say("site "+site.Host, site.Host, fmt.Sprintf("%s is to be offered over HTTP/3, and is not: %s", site.Host, why),
				"remove nagaya.http3, or what is in its way")
		case offersQUIC(s, t.build, site) && slices.ContainsFunc(streams, taken):
			sites[i].Edge.HTTP3 = route.Off
			say("site "+site.Host, site.Host, fmt.Sprintf("%s is to be offered over HTTP/3, and is not: UDP port %d is a stream's", site.Host, port),
				"ask for another port with nagaya.listen, or set nagaya.http3 to off")
		}
	}
}
