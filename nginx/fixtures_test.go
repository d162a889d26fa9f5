package nginx

import (
	"net/netip"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// pair stands in golden texts for a certificate; tests with a real nginx
// replace its files.
var pair = certs.Pair{
	Name: "example.com", CertFile: "/etc/nagaya/certs/example.com.crt", KeyFile: "/etc/nagaya/certs/example.com.key",
	Fingerprint: strings.Repeat("ab", 32),
}

func server(addr string, weight int) route.Server {
	return route.Server{Addr: netip.MustParseAddrPort(addr), Weight: weight, Container: "c1", Ref: "web:1/app"}
}

func spot(path string, servers ...route.Server) route.Location {
	return route.Location{
		Path: path, Scheme: route.HTTP, Balance: route.RoundRobin, Servers: servers,
		BodySize: 1 << 20, Timeout: time.Minute, Buffering: true,
	}
}

func with(l route.Location, change func(*route.Location)) route.Location {
	change(&l)
	return l
}

func mustBuild(text string) Build {
	b, err := ParseBuild(text)
	if err != nil {
		panic(err)
	}
	return b
}

// scene is one input of Render. All scenes are golden, and a real nginx accepts
// those that are written for a build that it is.
type scene struct {
	name     string
	build    string
	settings func(*Settings)
	sites    []route.Site
}

var scenes = []scene{
	{name: "empty", build: debian122},
	{name: "plain", build: debian122, sites: []route.Site{
		{Host: "a.example.com", Family: "web", Plain: route.Serve, Locations: []route.Location{spot("/", server("10.0.0.1:32768", 1))}},
	}},
	{name: "tls", build: debian122, sites: []route.Site{
		{Host: "*.example.com", Family: "rest", TLS: true, Cert: pair, Plain: route.Refuse, Locations: []route.Location{
			with(spot("/", server("10.0.0.3:8443", 1)), func(l *route.Location) { l.Scheme = route.HTTPS }),
		}},
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []route.Location{
			with(spot("/", server("10.0.0.2:80", 3), server("10.0.0.1:80", 1)), func(l *route.Location) { l.Balance = route.LeastConn }),
		}},
		{Host: "both.example.com", Family: "both", TLS: true, Cert: pair, Plain: route.Serve, Locations: []route.Location{
			spot("/", server("[2001:db8::1]:80", 1)),
		}},
	}},
	{name: "paths", build: debian122, sites: []route.Site{
		{Host: "a.example.com", Family: "web", Plain: route.Serve, Locations: []route.Location{
			with(spot("/app", server("10.0.0.1:80", 1)), func(l *route.Location) { l.StripPrefix = true }),
			spot("/api/v1/", server("10.0.0.2:80", 1)),
			with(spot("/gone"), func(l *route.Location) { l.StripPrefix = true }),
			spot("/", server("10.0.0.3:80", 1)),
		}},
		{Host: "b.example.com", Family: "web", Plain: route.Serve, Locations: []route.Location{
			spot("/only (this)", server("10.0.0.1:80", 1)), // refused: a space
		}},
		{Host: "c.example.com", Family: "web", Plain: route.Serve, Locations: []route.Location{
			spot("/it's-(only)*this", server("10.0.0.1:80", 1)),
		}},
	}},
	{name: "schemes", build: debian122, sites: []route.Site{
		{Host: "f.example.com", Family: "php", Plain: route.Serve, Locations: []route.Location{
			with(spot("/", server("10.0.0.1:9000", 1)), func(l *route.Location) { l.Scheme = route.FastCGI }),
			with(spot("/sub.dir", server("10.0.0.1:9000", 1)), func(l *route.Location) {
				l.Scheme, l.StripPrefix, l.Buffering = route.FastCGI, true, false
			}),
		}},
		{Host: "g.example.com", Family: "rpc", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []route.Location{
			with(spot("/", server("10.0.0.1:50051", 1)), func(l *route.Location) { l.Scheme = route.GRPC }),
			with(spot("/x.y", server("10.0.0.1:50052", 1)), func(l *route.Location) { l.Scheme, l.StripPrefix = route.GRPCS, true }),
		}},
	}},
	{name: "limits", build: debian122, sites: []route.Site{
		{Host: "a.example.com", Family: "web", Plain: route.Serve, Locations: []route.Location{
			with(spot("/", server("10.0.0.1:80", 1)), func(l *route.Location) {
				l.BodySize, l.Timeout, l.Buffering, l.Balance = 0, 1500*time.Millisecond, false, route.IPHash
				l.Auth = "staff"
				l.Allow = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("10.1.2.3/8")}
			}),
		}},
	}},
	{name: "vacant", build: debian122, sites: []route.Site{
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []route.Location{spot("/")}},
		{Host: "b.example.com", Family: "web", Plain: route.Serve},
		{Host: "c.example.com", Family: "web", Plain: route.Serve, Locations: []route.Location{spot("/", server("10.0.0.1:80", 1)), spot("/api")}},
	}},
	{name: "settings", build: debian122, settings: func(s *Settings) {
		s.HTTPPort, s.HTTPSPort, s.IPv6, s.HTTP2 = 8080, 8443, true, false
		s.User, s.Group = "www-data", "adm"
		s.WorkerProcesses, s.WorkerConnections, s.ShutdownTimeout = 2, 512, 90*time.Second
		s.AccessLog = "off"
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}, sites: []route.Site{
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []route.Location{spot("/", server("10.0.0.1:80", 1))}},
	}},
	{name: "long-names", build: debian122, sites: []route.Site{
		{Host: strings.Repeat(strings.Repeat("a", 62)+".", 3) + strings.Repeat("b", 63), Family: "web", Plain: route.Serve, Locations: []route.Location{spot("/", server("10.0.0.1:80", 1))}},
	}},
	{name: "newer", build: upstream128, sites: []route.Site{
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []route.Location{spot("/", server("10.0.0.1:80", 1))}},
	}},
	{name: "refused", build: debian122, sites: []route.Site{
		{Host: "a.example.com; return 200 x", Family: "web", Plain: route.Serve},
		{Host: "b.example.com", Family: "web\n}\nevil;", Plain: route.Serve, Locations: []route.Location{spot("/$host", server("10.0.0.1:80", 1))}},
		{Host: "c.example.com", Family: "web\n}\nevil;", Plain: route.Serve, Locations: []route.Location{spot("/", server("10.0.0.1:80", 1))}},
		{Host: "c.example.com", Family: "web", Plain: route.Serve},
		{Host: "d.example.com", Family: "web", TLS: true, Cert: certs.Pair{CertFile: "/x/$y.crt", KeyFile: "/x/y.key"}, Plain: route.Serve},
		{Host: "e.example.com", Family: "web", Plain: route.Serve, Locations: []route.Location{
			with(spot("/", server("10.0.0.1:80", 1)), func(l *route.Location) { l.Auth = "../../shadow" }),
		}},
	}},
}

func (s scene) render(more func(*Settings)) Tree {
	set := Default()
	if s.settings != nil {
		s.settings(&set)
	}
	if more != nil {
		more(&set)
	}
	return Render(set, mustBuild(s.build), route.Table{Complete: true, Sites: s.sites})
}
