package nginx

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// offersHTTP3 reports whether a site is served over HTTP/3 too.
func offersHTTP3(s Settings, b Build, site route.Site) bool {
	wanted := site.Edge.HTTP3 == route.On || site.Edge.HTTP3 == route.Unset && s.HTTP3
	return site.TLS && wanted && withoutHTTP3(s, b, site) == ""
}

// withoutHTTP3 returns why a site cannot be served over HTTP/3, empty if it can. HTTP/3
// needs TLS 1.3 (RFC 9001, section 4.2); nginx refuses it with other protocols
// alone, for the site and for the default server of the port.
func withoutHTTP3(s Settings, b Build, site route.Site) string {
	own, _ := config.PolicyNamed(cmp.Or(site.Edge.TLSPolicy, s.TLSPolicy))
	all, _ := config.PolicyNamed(s.TLSPolicy) // of the default server
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

// checkHTTP3 adds the problems of HTTP/3 that is asked for and cannot be offered. It switches
// HTTP/3 off for the sites whose port is a stream's of UDP too: the kernel would give a part
// of the datagrams to each.
func (t *Tree) checkHTTP3(sites []route.Site, streams []route.Stream) {
	s := t.settings
	if s.HTTP3 && !t.build.HTTP3 {
		t.Problems = append(t.Problems, problem.Of("nginx", "http3-not-offered", "install nginx 1.25 or newer with --with-http_v3_module, or set nginx.http3 to false",
			"nginx.http3 is on, and nginx %v was built without HTTP/3", t.build.Version).AsWarning())
	}
	taken := map[uint16]bool{}
	for _, st := range streams {
		taken[st.Listen.Port] = taken[st.Listen.Port] || st.Listen.Protocol == route.UDP
	}
	for i, site := range sites {
		port := cmp.Or(site.Edge.HTTPSPort, s.HTTPSPort)
		why, hint := withoutHTTP3(s, t.build, site), "remove nagaya.http3, or what is in its way"
		switch {
		case why != "" && site.Edge.HTTP3 == route.On && (site.TLS || site.Passthrough != nil):
		case offersHTTP3(s, t.build, site) && taken[port]:
			sites[i].Edge.HTTP3 = route.Off
			why, hint = fmt.Sprintf("UDP port %d is a stream's", port), "ask for another port with nagaya.listen, or set nagaya.http3 to off"
		default:
			continue
		}
		t.Problems = append(t.Problems, problem.OfHost(site.Host, "http3-not-offered", hint, "HTTP/3 is not offered for %s: %s", site.Host, why).AsWarning())
	}
}
