package nginx

import (
	"net/netip"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// pair stands in golden texts for a certificate; tests with a real nginx
// replace its files.
var pair = certs.Pair{
	Name: "example.com", CertFile: "/etc/nagaya/certs/example.com.crt", KeyFile: "/etc/nagaya/certs/example.com.key",
	Fingerprint: strings.Repeat("ab", 32),
}

// besidePair is one with another key.
var besidePair = certs.Pair{Name: "rsa", CertFile: "/etc/nagaya/certs/rsa.pem", KeyFile: "/etc/nagaya/certs/rsa.pem", Fingerprint: strings.Repeat("cd", 32)}

func server(addr string, weight int) route.Server {
	return route.Server{Addr: netip.MustParseAddrPort(addr), Weight: weight, Container: "c1", Ref: "web:1/app"}
}

func spot(path string, servers ...route.Server) nestedLocation {
	return nestedLocation{route.Location{
		Path: path, Scheme: route.HTTP, Balance: route.RoundRobin, BodySize: 1 << 20, Timeout: time.Minute, Buffering: true,
	}, servers}
}

func pool(servers ...route.Server) nestedPool {
	return nestedPool{route.StreamOptions{Balance: route.RoundRobin, Timeout: 10 * time.Minute}, servers}
}

func with(l nestedLocation, change func(*nestedLocation)) nestedLocation {
	change(&l)
	return l
}

// snippet is a file of the operator's with that text.
func snippet(name, text string) Snippet {
	says, _ := ParseDirectives(text)
	return Snippet{Name: name, Fingerprint: digest(text), Text: text, Says: says}
}

func mustBuild(text string) Build {
	b, err := ParseBuild(text)
	if err != nil {
		panic(err)
	}
	return b
}

// scene is one input of Render. Each has a golden file, and nginx accepts it, rendered for its
// own build.
type scene struct {
	name     string
	build    string
	settings func(*Settings)
	sites    []nestedSite
	streams  []nestedStream
}

var scenes = []scene{
	{name: "empty", build: debian122},
	{name: "plain", build: debian122, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", Plain: route.Serve, Locations: []nestedLocation{spot("/", server("10.0.0.1:32768", 1))}},
	}},
	{name: "tls", build: debian122, sites: []nestedSite{
		{Host: "*.example.com", Family: "rest", TLS: true, Cert: pair, Plain: route.Refuse, Locations: []nestedLocation{
			with(spot("/", server("10.0.0.3:8443", 1)), func(l *nestedLocation) { l.Scheme = route.HTTPS }),
		}},
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []nestedLocation{
			with(spot("/", server("10.0.0.2:80", 3), server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Balance = route.LeastConn }),
		}},
		{Host: "both.example.com", Family: "both", TLS: true, Cert: pair, Plain: route.Serve, Locations: []nestedLocation{
			spot("/", server("[2001:db8::1]:80", 1)),
		}},
	}},
	{name: "paths", build: debian122, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", Plain: route.Serve, Locations: []nestedLocation{
			with(spot("/app", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.StripPrefix = true }),
			spot("/api/v1/", server("10.0.0.2:80", 1)),
			with(spot("/gone"), func(l *nestedLocation) { l.StripPrefix = true }),
			spot("/", server("10.0.0.3:80", 1)),
		}},
		{Host: "b.example.com", Family: "web", Plain: route.Serve, Locations: []nestedLocation{
			spot("/only (this)", server("10.0.0.1:80", 1)), // refused: a space
		}},
		{Host: "c.example.com", Family: "web", Plain: route.Serve, Locations: []nestedLocation{
			spot("/it's-(only)*this", server("10.0.0.1:80", 1)),
		}},
	}},
	{name: "schemes", build: debian122, sites: []nestedSite{
		{Host: "f.example.com", Family: "php", Plain: route.Serve, Locations: []nestedLocation{
			with(spot("/", server("10.0.0.1:9000", 1)), func(l *nestedLocation) { l.Scheme = route.FastCGI }),
			with(spot("/sub.dir", server("10.0.0.1:9000", 1)), func(l *nestedLocation) {
				l.Scheme, l.StripPrefix, l.Buffering = route.FastCGI, true, false
			}),
		}},
		{Host: "g.example.com", Family: "rpc", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []nestedLocation{
			with(spot("/", server("10.0.0.1:50051", 1)), func(l *nestedLocation) { l.Scheme = route.GRPC }),
			with(spot("/x.y", server("10.0.0.1:50052", 1)), func(l *nestedLocation) { l.Scheme, l.StripPrefix = route.GRPCS, true }),
		}},
	}},
	{name: "limits", build: debian122, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", Plain: route.Serve, Locations: []nestedLocation{
			with(spot("/", server("10.0.0.1:80", 1)), func(l *nestedLocation) {
				l.BodySize, l.Timeout, l.Buffering, l.Balance = 0, 1500*time.Millisecond, false, route.IPHash
				l.Auth = "staff"
				l.Allow = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("10.1.2.3/8")}
			}),
		}},
	}},
	{name: "vacant", build: debian122, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []nestedLocation{spot("/")}},
		{Host: "b.example.com", Family: "web", Plain: route.Serve},
		{Host: "c.example.com", Family: "web", Plain: route.Serve, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1)), spot("/api")}},
	}},
	{name: "settings", build: debian122, settings: func(s *Settings) {
		s.HTTPPort, s.HTTPSPort, s.IPv6, s.HTTP2 = 8080, 8443, true, false
		s.User = "www-data"
		s.WorkerProcesses, s.ShutdownTimeout = 2, 90*time.Second
		s.AccessLog = "off"
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
	}},
	{name: "long-names", build: debian122, sites: []nestedSite{
		{Host: strings.Repeat(strings.Repeat("a", 62)+".", 3) + strings.Repeat("b", 63), Family: "web", Plain: route.Serve, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
	}},
	{name: "streams", build: debian122, streams: []nestedStream{
		{Listen: route.Listen{Protocol: route.TCP, Port: 2222}, Family: "git", Pool: pool(server("10.0.0.1:22", 1))},
		{Listen: route.Listen{Protocol: route.TCP, Port: 2223}, Family: "gone", Pool: pool()},
		{Listen: route.Listen{Protocol: route.TLS, Port: 8883}, Family: "mq", Host: "mq.example.com", Cert: pair, Pool: nestedPool{route.StreamOptions{
			Balance: route.IPHash, Timeout: time.Hour, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, ProxyProtocol: true,
		}, []route.Server{server("10.0.0.1:1883", 2), server("10.0.0.2:1883", 1)}}},
		{Listen: route.Listen{Protocol: route.UDP, Port: 5353}, Family: "dns", Pool: pool(server("10.0.0.1:53", 1))},
	}},
	{name: "everybody-trusted", build: debian122, settings: func(s *Settings) {
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	}},
	{name: "default-root", build: debian122, settings: func(s *Settings) { s.DefaultRoot = "301 https://$host/app$request_uri" }, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", Plain: route.Serve, Locations: []nestedLocation{spot("/app", server("10.0.0.1:80", 1))}},
	}},
	{name: "log-stdout", build: debian122, settings: func(s *Settings) {
		s.AccessLog, s.Stderr = "/dev/fd/3", true
		s.LogFormat, s.LogEscape = `$host "$request" it's; \ {`, "none"
	}},
	{name: "disk-low", build: debian122, settings: func(s *Settings) {
		s.Spaces.Logs = Space{Dir: "/var/log/nagaya", Left: 200 << 20, Size: 8 << 30, Low: true}
		s.Spaces.Temp = Space{Dir: "/var/lib/nagaya/nginx/temp", Left: 200 << 20, Size: 8 << 30, Low: true}
	}, streams: []nestedStream{
		{Listen: route.Listen{Protocol: route.TCP, Port: 2222}, Family: "git", Pool: pool(server("10.0.0.1:22", 1))},
	}, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", Plain: route.Serve, Locations: []nestedLocation{
			spot("/", server("10.0.0.1:80", 1)),
			with(spot("/php/", server("10.0.0.1:9000", 1)), func(l *nestedLocation) { l.Scheme = route.FastCGI }),
		}},
	}},
	{name: "log-json", build: debian122, settings: func(s *Settings) { s.LogFormat = "json" }},
	{name: "passthrough", build: debian122, sites: []nestedSite{
		{Host: "*.gone.example.com", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool()}},
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
		{Host: "p.example.com", Family: "own", Plain: route.Serve, Passthrough: &nestedPassthrough{Pool: pool(server("10.0.0.2:443", 1))}, Locations: []nestedLocation{spot("/", server("10.0.0.2:80", 1))}},
	}},
	{name: "proxy-protocol", build: debian122, settings: func(s *Settings) {
		s.ProxyProtocol = true
		s.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	}, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
		{Host: "p.example.com", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(server("10.0.0.2:443", 1))}},
	}},
	{name: "nginx-proxy", build: debian122, settings: func(s *Settings) { s.HostAuth, s.Passwords = true, []string{"a.example.com"} }, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", CatchAll: true, TLS: true, Cert: pair, Plain: route.Redirect, Edge: route.Edge{
			HSTS: "max-age=31536000", TLSPolicy: "AWS-TLS13-1-2-2021-06", ServerTokens: route.On, RedirectCode: 307, HTTP2: route.Off,
			HTTPPort: 8080, HTTPSPort: 8443, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fc00::/7")},
		}, Locations: []nestedLocation{
			with(spot("/app", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Match, l.Dest = route.Prefix, "/" }),
			with(spot("/app", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Match = route.Exact }),
			with(spot("^/(a|b)/", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Match, l.Dest, l.Keepalive = route.Regex, "/x", 32 }),
			with(spot("^/c{2}$", server("10.0.0.1:443", 1)), func(l *nestedLocation) {
				l.Match, l.Scheme, l.Verify, l.ServerName = route.RegexFold, route.HTTPS, true, "inner.example.com"
			}),
			with(spot("/php/", server("10.0.0.1:9000", 1)), func(l *nestedLocation) {
				l.Match, l.Scheme, l.Root, l.Dest = route.Prefix, route.FastCGI, "/srv/www", "/index/"
			}),
			with(spot("/py", server("10.0.0.1:3031", 1)), func(l *nestedLocation) { l.Match, l.Scheme = route.Prefix, route.UWSGI }),
			with(spot("/", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Allow = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")} }),
		}},
		{Host: "www.example.*", Family: "open", Plain: route.Serve, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
		{Host: `~^(a|b{1,2})\.example\.(org|net)$`, Family: "re", Plain: route.Serve, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
		{Host: "~(?<x>a)", Family: "named group", Plain: route.Serve},
	}},
	{name: "quic", build: debian130, settings: func(s *Settings) { s.HTTP3 = true }, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
		{Host: "b.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Edge: route.Edge{HTTP2: route.Off, HTTP3: route.Off}, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
	}},
	{name: "newer", build: upstream128, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", TLS: true, Cert: pair, Plain: route.Redirect, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
	}},
	{name: "tokens", build: debian122, settings: func(s *Settings) {
		s.TokenDir, s.ChallengeDir = TokenDir(s.StateDir), "/usr/share/nginx/html"
	}, sites: []nestedSite{
		{Host: "a.example.com", Family: "web", CatchAll: true, TLS: true, Cert: pair, Beside: besidePair, Plain: route.Redirect, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
		{Host: "b.example.com", Family: "web", Plain: route.Unavailable, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
		{Host: "p.example.com", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(server("10.0.0.2:443", 1))}},
	}},
	{name: "refused", build: debian122, sites: []nestedSite{
		{Host: "a.example.com; return 200 x", Family: "web", Plain: route.Serve},
		{Host: "b.example.com", Family: "web\n}\nevil;", Plain: route.Serve, Locations: []nestedLocation{spot("/$host", server("10.0.0.1:80", 1))}},
		{Host: "c.example.com", Family: "web\n}\nevil;", Plain: route.Serve, Locations: []nestedLocation{spot("/", server("10.0.0.1:80", 1))}},
		{Host: "d.example.com", Family: "web", TLS: true, Cert: certs.Pair{CertFile: "/x/$y.crt", KeyFile: "/x/y.key"}, Plain: route.Serve},
		{Host: "e.example.com", Family: "web", Plain: route.Serve, Locations: []nestedLocation{
			with(spot("/", server("10.0.0.1:80", 1)), func(l *nestedLocation) { l.Auth = "../../shadow" }),
		}},
	}},
}

// defaults are the settings of a configuration without settings.
func defaults() Settings {
	return Settings{
		StateDir: "/var/lib/nagaya/nginx", RunDir: "/run/nagaya/nginx", LogDir: "/var/log/nagaya", Nginx: config.Nginx{
			HTTPPort: 80, HTTPSPort: 443, HTTP2: true, ShutdownTimeout: 240 * time.Second, AccessLog: "/var/log/nagaya/access.log",
			SnippetDir: "/etc/nagaya/nginx", HtpasswdDir: "/etc/nagaya/htpasswd", UpstreamCA: "/etc/ssl/certs/ca-certificates.crt",
		},
	}
}

func (s scene) render(more func(*Settings)) Tree {
	set := defaults()
	if s.settings != nil {
		s.settings(&set)
	}
	if more != nil {
		more(&set)
	}
	b := mustBuild(s.build)
	if b.Stream == "dynamic" {
		b.StreamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"
	}
	shape, pools := flat(s.sites, s.streams)
	return Render(set, b, shape, pools)
}
