package route_test

import (
	"crypto/sha1"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/nginxproxy"
	. "github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

func TestNginxProxysWords(t *testing.T) {
	const host = "a.example.com"
	site := func(change ...func(*Site)) Site {
		s := Site{
			Host: host, Family: "ecs:web", Plain: Serve, Edge: Edge{HSTS: proxyHSTS},
			Locations: []Location{{
				Path: "/", Scheme: HTTP, Balance: RoundRobin, BodySize: 1 << 20, Timeout: 60e9, Buffering: true,
			}},
		}
		for _, f := range change {
			f(&s)
		}
		return s
	}
	at := func(f func(*Location)) func(*Site) { return func(s *Site) { f(&s.Locations[0]) } }
	edge := func(f func(*Edge)) func(*Site) { return func(s *Site) { f(&s.Edge) } }
	for _, row := range []struct {
		name  string
		words []string
		want  Site
	}{
		{"only the host", nil, site()},
		{"a prefix as nginx compares it", []string{"VIRTUAL_PATH", "/app"}, site(at(func(l *Location) { l.Path, l.Match = "/app", Prefix }))},
		{"the whole path", []string{"VIRTUAL_PATH", "= /app"}, site(at(func(l *Location) { l.Path, l.Match = "/app", Exact }))},
		{"an expression", []string{"VIRTUAL_PATH", "~^/(a|b)/"}, site(at(func(l *Location) { l.Path, l.Match = "^/(a|b)/", Regex }))},
		{"an expression whatever the case", []string{"VIRTUAL_PATH", "~* ^/x"}, site(at(func(l *Location) { l.Path, l.Match = "^/x", RegexFold }))},
		{"another path for the container", []string{"VIRTUAL_PATH", "/app/", "VIRTUAL_DEST", "/"}, site(at(func(l *Location) { l.Path, l.Match, l.Dest = "/app/", Prefix, "/" }))},
		{"PHP", []string{"VIRTUAL_PROTO", "fastcgi", "VIRTUAL_ROOT", "/srv/www"}, site(at(func(l *Location) { l.Scheme, l.Root = FastCGI, "/srv/www" }))},
		{"PHP where nginx-proxy looks for it", []string{"VIRTUAL_PROTO", "fastcgi"}, site(at(func(l *Location) { l.Scheme, l.Root = FastCGI, "/var/www/public" }))},
		{"a switch as Go reads it", []string{proxyLabel + "http2.enable", "F"}, site(edge(func(e *Edge) { e.HTTP2 = Off }))},
		{"uwsgi", []string{"VIRTUAL_PROTO", "uwsgi"}, site(at(func(l *Location) { l.Scheme = UWSGI }))},
		{"ports of its own", []string{"EXTERNAL_HTTP_PORT", "8080", "EXTERNAL_HTTPS_PORT", "8443"}, site(edge(func(e *Edge) { e.HTTPPort, e.HTTPSPort = 8080, 8443 }))},
		{"no HSTS", []string{"HSTS", "off"}, site(edge(func(e *Edge) { e.HSTS = "" }))},
		{"HSTS for below", []string{"HSTS", "max-age=60; includeSubDomains"}, site(edge(func(e *Edge) { e.HSTS = "max-age=60; includeSubDomains" }))},
		{"no HSTS without a redirect", []string{"HTTPS_METHOD", "noredirect"}, site(edge(func(e *Edge) { e.HSTS = "" }))},
		{"a policy", []string{"SSL_POLICY", "AWS-TLS13-1-2-2021-06"}, site(edge(func(e *Edge) { e.TLSPolicy = "AWS-TLS13-1-2-2021-06" }))},
		{"tokens", []string{"SERVER_TOKENS", "on"}, site(edge(func(e *Edge) { e.ServerTokens = On }))},
		{"internal", []string{"NETWORK_ACCESS", "internal"}, site(func(s *Site) {
			for _, p := range []string{"10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"} {
				s.Edge.Allow = append(s.Edge.Allow, netip.MustParsePrefix(p))
			}
			s.Locations[0].Allow = s.Edge.Allow
		})},
		{"no certificate, no answer", []string{"ENABLE_HTTP_ON_MISSING_CERT", "false", "HTTPS_METHOD", "nohttp"}, site(func(s *Site) { s.Plain = Refuse })},
		{"no certificate, no answer but a redirect", []string{"ENABLE_HTTP_ON_MISSING_CERT", "false"}, site(func(s *Site) { s.Plain = Redirect })},
		{"no HTTPS", []string{"HTTPS_METHOD", "nohttps"}, site(func(s *Site) { s.NoTLS = true })},
		{"idle connections", []string{proxyLabel + "keepalive", "auto"}, site(at(func(l *Location) { l.Keepalive = KeepaliveAuto }))},
		{"balance", []string{proxyLabel + "loadbalance", "least_conn;"}, site(at(func(l *Location) { l.Balance = LeastConn }))},
		{"by the client's address", []string{proxyLabel + "loadbalance", "hash  $remote_addr consistent;"}, site(at(func(l *Location) { l.Balance = IPHash }))},
		{"HTTP/2 and HTTP/3", []string{proxyLabel + "http2.enable", "false", proxyLabel + "http3.enable", "true"}, site(edge(func(e *Edge) { e.HTTP2, e.HTTP3 = Off, On }))},
		{"redirect", []string{proxyLabel + "non-get-redirect", "307"}, site(edge(func(e *Edge) { e.RedirectCode = 307 }))},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, as := range []string{"variables", "labels"} {
				words := append([]string{"VIRTUAL_HOST", host}, row.words...)
				c := web("a", env(words...))
				if as == "labels" {
					c = web("a", labels(words...))
				}
				if kept, _, dropped := tasks.Keep(c.Labels, nil, nginxproxy.Knows); len(dropped) > 0 || len(kept) != len(c.Labels) {
					t.Errorf("labels are dropped: %v", dropped)
				}
				got := build(input(c))
				if len(got.Sites) != 1 {
					t.Fatalf("as %s: %s\n%+v", as, lines(got), got.Problems)
				}
				if d := cmp.Diff(row.want, got.Sites[0], equalValues); d != "" {
					t.Errorf("as %s (-want +got):\n%s", as, d)
				}
				servers := []Server{{Addr: netip.MustParseAddrPort("10.0.0.5:32768"), Weight: 1, Container: "a", Ref: "web:1/app"}}
				if d := cmp.Diff(servers, firstServers(got), equalValues); d != "" {
					t.Errorf("servers as %s (-want +got):\n%s", as, d)
				}
				checkTable(t, got)
			}
		})
	}
}

func TestNginxProxysWordsRefused(t *testing.T) {
	for _, row := range [][2]string{
		{"VIRTUAL_HOST", `~^(?P<x>a)$`},
		{"VIRTUAL_HOST", `~(a+)+`},
		{"VIRTUAL_HOST", `~(?=a)`},
		{"VIRTUAL_HOST", `~a"; }`},
		{"VIRTUAL_HOST", "a.*.b"},
		{"VIRTUAL_HOST", "*.a.*"},
		{"VIRTUAL_PATH", "/a; b"},
		{"VIRTUAL_DEST", "http://x"},
		{"VIRTUAL_PROTO", "ftp"},
		{"HSTS", "max-age=1\"; x"},
		{"SSL_POLICY", "mine"},
		{"NETWORK_ACCESS", "all"},
		{"VIRTUAL_HOST_MULTIPORTS", "a.test: {/: {port: x}}"},
		{"VIRTUAL_HOST_MULTIPORTS", "a.test: {/: {root: /}}"},
		{"VIRTUAL_HOST_MULTIPORTS", "[1]"},
		{proxyLabel + "loadbalance", "random; } evil"},
		{proxyLabel + "loadbalance", "hash $request_uri;"},
		{proxyLabel + "keepalive", "-1"},
	} {
		words := map[string]string{"VIRTUAL_HOST": "a.example.com", row[0]: row[1]}
		got := build(input(web("a", func(c *tasks.Container) { c.Labels = words })))
		if len(got.Sites) > 0 || len(got.Problems) != 1 || got.Problems[0].Code != "label-invalid" {
			t.Errorf("%s=%s: %d sites, problems %v", row[0], row[1], len(got.Sites), got.Problems)
		}
	}
}

func TestMultiports(t *testing.T) {
	c := web("a", env("VIRTUAL_HOST", "ignored.test", "VIRTUAL_HOST_MULTIPORTS", `
a.test:
  "/":
    port: 8000
  /api/:
    port: 9000
    dest: /
    proto: https
b.test:
`), func(c *tasks.Container) { c.Ports = []tasks.Port{{Container: 8080, Protocol: "tcp"}} })
	want := "a.test/api/ https 172.17.0.2:9000\na.test/ http 172.17.0.2:8000\nb.test/ http 172.17.0.2:8080\n"
	got := build(input(c))
	if d := cmp.Diff(want, lines(got)); d != "" {
		t.Errorf("table (-want +got):\n%s\n%v", d, got.Problems)
	}
	checkTable(t, got)
}

// nginx-proxy chooses a certificate by the name of its file.
func TestCertificatesByTheirFiles(t *testing.T) {
	all := []certs.Pair{
		{Name: "cn.test", CommonName: "subject.test"},
		{Name: "com", DNSNames: []string{"old.test"}},
		{Name: "default", DNSNames: []string{"fits.test"}},
		{Name: "example.com", DNSNames: []string{"old.test"}},
		{Name: "named", DNSNames: []string{"x.sub.test"}},
	}
	for _, row := range []struct {
		name  string
		words []string
		want  string // name of the certificate and what clients need
	}{
		{"of the parent domain", []string{"VIRTUAL_HOST", "b.example.com"}, "example.com "},
		{"one level only", []string{"VIRTUAL_HOST", "a.b.example.com"}, "default "},
		{"no top-level domain's", []string{"VIRTUAL_HOST", "else.com"}, "default "},
		{"one without names, by the name of its file", []string{"VIRTUAL_HOST", "cn.test"}, "cn.test  cert-without-names"},
		{"the same, for nagaya's own words", []string{"nagaya.host", "cn.test"}, "cn.test  cert-without-names"},
		{"one without names, by its base name", []string{"nagaya.host", "any.test", "nagaya.cert", "cn.test"}, "cn.test  cert-without-names"},
		{"one without names is not for what its subject says", []string{"nagaya.host", "subject.test"}, " "},
		{"nagaya's own words: one with other names is not for the name of its file", []string{"nagaya.host", "example.com"}, " "},
		{"not the default, although it has the name", []string{"VIRTUAL_HOST", "fits.test", proxyLabel + "trust-default-cert", "false"}, " "},
		{"the default, which has the name", []string{"VIRTUAL_HOST", "fits.test"}, "default "},
		{"the names in it come first", []string{"VIRTUAL_HOST", "x.sub.test"}, "named on"},
		{"clients' certificates optional", []string{"VIRTUAL_HOST", "x.sub.test", proxyLabel + "ssl_verify_client", "optional"}, "named optional"},
		{"default", []string{"VIRTUAL_HOST", "else.test"}, "default "},
		{"no HTTPS, so no certificates of clients", []string{"VIRTUAL_HOST", "x.sub.test", "HTTPS_METHOD", "nohttps", proxyLabel + "ssl_verify_client", "off"}, " "},
		{"by name", []string{"VIRTUAL_HOST", "else.test", "CERT_NAME", "named"}, "named on"},
		{"not the default", []string{"VIRTUAL_HOST", "else.test", proxyLabel + "trust-default-cert", "false"}, " "},
		{"not for nagaya's own words", []string{"nagaya.host", "else.test"}, " "},
	} {
		in := input(web("a", labels(row.words...)))
		in.Certs.Pairs, in.Certs.Authorities = all, []certs.Authority{{Name: "named", CAFile: "/c/named.ca.crt"}}
		table := build(in)
		s := table.Sites[0]
		got := s.Cert.Name + " " + s.Edge.ClientCert
		for _, p := range table.Problems {
			if p.Code != "no-certificate" {
				got += " " + p.Code
			}
		}
		if got != row.want || s.TLS != (s.Cert.Name != "") {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

// Clients need a certificate where there is an authority for the host, by the name of the host,
// of its certificate, or for all; and where that cannot be used, nobody is let in.
func TestAuthoritiesForClients(t *testing.T) {
	const expr = `~^(www|shop)\.re\.test$`
	verify := func(how string) []string { return []string{proxyLabel + "ssl_verify_client", how} }
	all := []string{"a.test", "b.test", "re.test", "*.re.test", "spoilt.test"}
	for _, row := range []struct {
		name   string
		words  []string
		labels []string
		global bool
		want   string // what clients need, by what, what plain HTTP gets, and the problem
	}{
		{"by the host", []string{"VIRTUAL_HOST", "a.test"}, nil, false, "on a.test redirect"},
		{"by the host, for nagaya's own words", []string{"nagaya.host", "a.test"}, nil, false, "on a.test redirect"},
		{"optional", []string{"VIRTUAL_HOST", "a.test"}, verify("optional"), false, "optional a.test redirect"},
		{"off", []string{"VIRTUAL_HOST", "a.test"}, verify("off"), false, "  redirect"},
		{"by the expression", []string{"VIRTUAL_HOST", expr}, nil, false, "on " + certs.FileName(expr) + " redirect"},
		{"of none", []string{"VIRTUAL_HOST", "b.test"}, nil, false, "  redirect"},
		{"for all", []string{"VIRTUAL_HOST", "b.test"}, nil, true, "on ca redirect"},
		{"for all, optional", []string{"VIRTUAL_HOST", "b.test"}, verify("optional"), true, "optional ca redirect"},
		{"the host's own before that for all", []string{"VIRTUAL_HOST", "a.test"}, nil, true, "on a.test redirect"},
		{"that for all is not for nagaya's own words", []string{"nagaya.host", "b.test"}, nil, true, "  redirect"},
		{"unusable", []string{"VIRTUAL_HOST", "spoilt.test"}, nil, true, "  refuse client-authority-missing"},
		{"unusable, and asked for", []string{"VIRTUAL_HOST", "spoilt.test"}, verify("optional"), true, "  refuse client-authority-missing"},
		{"unusable, and not asked for", []string{"VIRTUAL_HOST", "spoilt.test"}, verify("off"), true, "  redirect"},
		{"asked for, and none is there", []string{"VIRTUAL_HOST", "b.test"}, verify("on"), false, "  refuse client-authority-missing"},
		{"optional, and none is there", []string{"VIRTUAL_HOST", "b.test"}, verify("optional"), false, "  redirect"},
		{"without a certificate of the host", []string{"VIRTUAL_HOST", "plain.test"}, nil, false, "  refuse no-certificate"},
		{"without a certificate of the host, and optional", []string{"VIRTUAL_HOST", "plain.test"}, verify("optional"), false, "  serve no-certificate"},
	} {
		in := input(web("a", labels(append(row.words, row.labels...)...)))
		in.Certs.Pairs = []certs.Pair{{Name: "x", DNSNames: all}}
		for _, name := range []string{"a.test", certs.FileName(expr), "plain.test"} {
			in.Certs.Authorities = append(in.Certs.Authorities, certs.Authority{Name: name, CAFile: name, CRLFile: "crl", Fingerprint: "1"})
		}
		in.Certs.Authorities = append(in.Certs.Authorities, certs.Authority{Name: "spoilt.test", Unusable: true})
		if row.global {
			in.Certs.Authorities = append(in.Certs.Authorities, certs.Authority{Name: "ca", CAFile: "ca", CRLFile: "crl", Fingerprint: "1"})
		}
		table := build(in)
		for range 2 { // and while the last container is away
			s := table.Sites[0]
			got := fmt.Sprint(s.Edge.ClientCert, " ", s.Cert.ClientCAFile, " ", s.Plain)
			for _, p := range table.Problems {
				got += " " + p.Code
			}
			if got != row.want || (s.Cert.ClientCAFile == "") != (s.Cert.CRLFile == "") || (s.Cert.CRLFile == "") != (s.Cert.ClientFingerprint == "") {
				t.Errorf("%s: got %q, want %q", row.name, got, row.want)
			}
			if !strings.Contains(row.want, "redirect") {
				break
			}
			in.Prev, in.Snapshot.Containers = table, nil
			table = build(in)
		}
	}
}

// Where hosts are shared, containers of several names serve one together, by path and
// side by side; but only those that speak nginx-proxy's words.
func TestSharedHosts(t *testing.T) {
	named := func(name string, port uint16, words ...string) tasks.Container {
		return web(name, env(append([]string{"VIRTUAL_HOST", "a.example.com"}, words...)...), hostPort(port), func(c *tasks.Container) { c.Task = tasks.TaskRef{} })
	}
	stranger := web("d", hostPort(4), of("api"), age(time.Second))
	in := input(named("a", 1), named("b", 2), named("c", 3, "VIRTUAL_PATH", "/api/"), stranger)
	want := "a.example.com/api/ http 10.0.0.5:3\na.example.com/ http 10.0.0.5:1 10.0.0.5:2\nwaits a.example.com/ api:1/app taken\nerror host-taken\n"
	got := buildSharing(in, true)
	if d := cmp.Diff(want, lines(got)); d != "" {
		t.Errorf("shared (-want +got):\n%s", d)
	}
	checkTable(t, got)
	if got := build(in); len(firstServers(got)) != 1 || len(got.Waiting) != 3 {
		t.Errorf("not shared:\n%s", lines(got))
	}
}

// NETWORK_ACCESS keeps nobody out beside nagaya.host, and that is said.
func TestNetworkAccessBesideLabels(t *testing.T) {
	in := func(access string, words ...string) string {
		c := web("a", labels(words...))
		c.Env = map[string]string{"NETWORK_ACCESS": access}
		return lines(build(input(c)))
	}
	served := "a.example.com/ http 10.0.0.5:32768\n"
	for name, row := range map[string][2]string{
		"internal": {in("internal", "nagaya.host", "a.example.com"), served + "warning label-without-effect\n"},
		"external": {in("external", "nagaya.host", "a.example.com"), served},
		"in force": {in("internal", "VIRTUAL_HOST", "a.example.com"), served},
		"no route": {in("internal", "x", "y"), ""},
	} {
		if d := cmp.Diff(row[1], row[0]); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

// A public port that nagaya's own container publishes is no other container's.
func TestExternalPortsOfAContainer(t *testing.T) {
	proxy := web("proxy", labels("x", "y"), of("proxy"), func(c *tasks.Container) {
		c.Ports = []tasks.Port{{Container: 8080, Host: 8080, Protocol: "tcp"}, {Container: 8443, Host: 8443, Protocol: "tcp"}}
	})
	in := input(proxy, web("a", env("VIRTUAL_HOST", "a.test", "EXTERNAL_HTTP_PORT", "8080", "EXTERNAL_HTTPS_PORT", "8443")))
	if got := build(in); len(got.Sites) != 0 || len(problems(got, "host-port-taken")) != 1 {
		t.Errorf("nginx on the host: %s", lines(got))
	}
	in.Nginx.Container, in.Nginx.Networks = true, []string{"bridge"}
	if got := build(in); len(got.Sites) != 1 || got.Sites[0].Edge.HTTPPort != 8080 || got.Sites[0].Edge.HTTPSPort != 8443 {
		t.Errorf("nginx in a container: %s%+v", lines(got), got.Problems)
	}
}

// Of containers that share a host, public ports in VIRTUAL_HOST_MULTIPORTS come first.
func TestPortsOfMultiportsComeFirst(t *testing.T) {
	shared := env("VIRTUAL_HOST", "a.test", "VIRTUAL_PATH", "/b", "EXTERNAL_HTTPS_PORT", "8443")
	several := env("VIRTUAL_HOST_MULTIPORTS", "{a.test: {external_https_port: 9443, /a: }}")
	for _, ages := range [][]time.Duration{{time.Hour, time.Minute}, {time.Minute, time.Hour}} {
		in := input(web("a", several, age(ages[0])), web("b", shared, age(ages[1])))
		got := build(in)
		if len(got.Sites) != 1 || len(got.Sites[0].Locations) != 2 || got.Sites[0].Edge.HTTPSPort != 9443 || got.Sites[0].Edge.HTTPPort != 0 {
			t.Errorf("%v: %s%+v", ages, lines(got), got)
		}
	}
}

func sha1Of(text string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(text))) }

// What the operator's files are named like follows from how the container writes the host.
func TestFilesOfAHost(t *testing.T) {
	for written, want := range map[string]string{
		"a.test": "", "A.test": "A.test", ".a.test": ".a.test", "~^a[.]test$": sha1Of("~^a[.]test$"), "Bücher.test": "Bücher.test", "~^a[0-9]+$": "",
	} {
		got := build(input(web("a", env("VIRTUAL_HOST", written))))
		for _, s := range got.Sites {
			if s.File != want {
				t.Errorf("%s: the files of %s begin with %q", written, s.Host, s.File)
			}
		}
		if len(got.Sites) == 0 {
			t.Errorf("%s: %+v", written, got.Problems)
		}
	}
}

// The passwords of a shared host are those of its owner, also while that is away.
func TestFilesOfASharedHost(t *testing.T) {
	owner := web("a", of("owner"), env("VIRTUAL_HOST", "~^a[.]test$"), age(time.Hour))
	other := web("b", of("other"), env("VIRTUAL_HOST", "a.test", "VIRTUAL_PATH", "/b"), age(time.Minute))
	in := input(owner, other)
	for _, step := range []string{"both are there", "the owner is away"} {
		got := buildSharing(in, true)
		if len(got.Sites) != 1 || got.Sites[0].Owner != "ecs:owner" || got.Sites[0].File != sha1Of("~^a[.]test$") {
			t.Errorf("%s: %+v", step, got.Sites)
		}
		in.Prev, in.Snapshot.Containers = got, in.Snapshot.Containers[1:]
	}
}

// NETWORK_ACCESS is about a container's path: those of others beside it stay as they are.
func TestInternalIsOnePath(t *testing.T) {
	in := input(
		web("one", env("VIRTUAL_HOST", "a.test", "VIRTUAL_PATH", "/one/", "NETWORK_ACCESS", "internal"), of("one")),
		web("two", env("VIRTUAL_HOST", "a.test", "VIRTUAL_PATH", "/two/"), of("two")),
	)
	table := buildSharing(in, true)
	if len(table.Sites) != 1 || len(table.Waiting) != 0 || len(table.Sites[0].Edge.Allow) != 0 {
		t.Fatalf("%+v, %+v", table.Sites, table.Problems)
	}
	for _, l := range table.Sites[0].Locations {
		if (len(l.Allow) > 0) != (l.Path == "/one/") {
			t.Errorf("%s lets in %v", l.Path, l.Allow)
		}
	}
	// Nobody opens a path by one below it.
	in = input(
		web("one", env("VIRTUAL_HOST", "a.test", "NETWORK_ACCESS", "internal"), of("one"), age(time.Hour)),
		web("two", env("VIRTUAL_HOST", "a.test", "VIRTUAL_PATH", "/two/"), of("two")),
	)
	if table := buildSharing(in, true); len(table.Sites) != 1 || len(table.Sites[0].Locations) != 1 || len(table.Sites[0].Edge.Allow) == 0 {
		t.Errorf("%+v", table.Sites)
	}
}
