package apply

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/snippets"
)

// A port of a container's that another process holds affects the sites there
// only; at a port that is free no name leads to another site.
func TestSitesAtPortsOfTheirOwn(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := netip.MustParseAddrPort(l.Addr().String()).Port()
	plain, secure := freePort(t), freePort(t)
	r.run()
	p := writePair(t, "own.test", "a.test")
	stuck := site("stuck.test", backend(t, "stuck"))
	stuck.Edge.HTTPPort = busy
	own := withTLS(site("own.test", backend(t, "own")), p, route.Redirect)
	own.Edge.HTTPPort, own.Edge.HTTPSPort = plain, secure
	usual := withTLS(site("a.test", backend(t, "usual")), p, route.Serve)
	for _, when := range []string{"at the start", "in a reload"} {
		tree := r.tree(own, stuck, usual)
		if when == "in a reload" {
			tree = r.tree(own, stuck, usual, site("b.test"))
		}
		s := r.serve(tree)
		var out []string
		for _, q := range s.Quarantined {
			out = append(out, q.Host)
		}
		if want := []string{fmt.Sprintf("http:%d", busy), "stuck.test"}; !slices.Equal(out, want) {
			t.Errorf("%s: quarantined %v, want %v", when, out, want)
		}
		at := func(scheme, host string, port uint16) string { return fmt.Sprintf("%s://%s:%d/", scheme, host, port) }
		r.expect(r.http("a.test", "/"), 200, "usual")
		r.expect(r.https("a.test", "/"), 200, "usual")
		r.expect(at("https", "own.test", secure), 200, "own")
		r.expect(at("http", "a.test", plain), 404, "No site of this name")
		r.expect(at("https", "a.test", secure), 0, "unrecognized name")
		r.expect(r.http("own.test", "/"), 404, "No site of this name")
		r.expect(r.https("own.test", "/"), 0, "unrecognized name")
		if got := r.get(at("http", "own.test", plain)); got.status != 301 || got.header.Get("Location") != at("https", "own.test", secure) {
			t.Errorf("redirect at the own port: %d %s", got.status, got.header.Get("Location"))
		}
		r.crash()
		r.run()
	}
}

// All datagrams of one client come to the container from one address: otherwise it
// would see as many clients as nginx has workers.
func TestUDPClientHasOneAddress(t *testing.T) {
	r := newRig(t)
	r.settings.WorkerProcesses = 4
	r.run()
	up := datagrams(t, func(from net.Addr, _ []byte) string { return from.String() })
	port := freePort(t)
	p := pool(up)
	r.serve(r.table(nestedTable{Streams: []nestedStream{{Listen: route.Listen{Protocol: route.UDP, Port: port}, Family: "game", Pool: p}}}))
	for client := range 4 {
		c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for range 25 {
			c.SetDeadline(time.Now().Add(5 * time.Second))
			c.Write([]byte("x"))
			b := make([]byte, 100)
			n, err := c.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			seen[string(b[:n])] = true
		}
		c.Close()
		if len(seen) != 1 {
			t.Errorf("client %d comes from %d addresses", client, len(seen))
		}
	}
}

// Strict-Transport-Security is for HTTPS only, and there in every answer.
func TestHSTS(t *testing.T) { each(t, testHSTS) }

func testHSTS(t *testing.T, r *rig) {
	r.run()
	const value = "max-age=31536000; includeSubDomains"
	p := writePair(t, "a.test", "dead.test", "gone.test")
	dead := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	sites := []nestedSite{site("a.test", backend(t, "one")), site("dead.test", dead), site("gone.test")}
	for i := range sites {
		sites[i] = withTLS(sites[i], p, route.Serve)
		sites[i].Edge.HSTS = value
	}
	sites[0].Locations = append(sites[0].Locations, spot("/gone"))
	r.serve(r.tree(sites...))
	for _, row := range []struct {
		host, path string
		status     int
	}{{"a.test", "/", 200}, {"a.test", "/gone", 503}, {"dead.test", "/", 503}, {"gone.test", "/", 503}} {
		got := r.get(r.https(row.host, row.path))
		if got.status != row.status || got.header.Get("Strict-Transport-Security") != value {
			t.Errorf("https %s%s: %d, header %q", row.host, row.path, got.status, got.header.Get("Strict-Transport-Security"))
		}
		if row.status > 500 && got.header.Get("Retry-After") == "" {
			t.Errorf("https %s%s: no Retry-After", row.host, row.path)
		}
		got = r.get(r.http(row.host, row.path))
		if got.status != row.status || got.header.Get("Strict-Transport-Security") != "" {
			t.Errorf("http %s%s: %d, header %q", row.host, row.path, got.status, got.header.Get("Strict-Transport-Security"))
		}
	}
}

// The parameters of the connection for FastCGI and uwsgi applications, also behind the
// stream section.
func TestConnectionParameters(t *testing.T) { each(t, testConnectionParameters) }

func testConnectionParameters(t *testing.T, r *rig) {
	r.run()
	p := writePair(t, "php.test", "py.test")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		env, https := fcgi.ProcessEnv(req), ""
		if req.TLS != nil { // how the package tells that HTTPS is on
			https = "on"
		}
		fmt.Fprintf(w, "https=%s port=%s addr=%s script=%s remote=%s", https, env["SERVER_PORT"], env["SERVER_ADDR"], env["SCRIPT_FILENAME"], req.RemoteAddr)
	}))
	php := speaking(site("php.test", netip.MustParseAddrPort(l.Addr().String())), route.FastCGI, func(l *nestedLocation) { l.Root = "/srv/www" })
	py := speaking(site("py.test", uwsgi(t)), route.UWSGI)
	passed := nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(lines(t, "own"))}}
	sites := []nestedSite{withTLS(php, p, route.Serve), withTLS(py, p, route.Serve)}
	for _, all := range [][]nestedSite{sites, append(slices.Clone(sites), passed)} {
		r.serve(r.tree(all...))
		tlsPort, port := r.settings.HTTPSPort, r.settings.HTTPPort
		r.expect(r.https("php.test", "/x.php"), 200, fmt.Sprintf("https=on port=%d addr=127.0.0.1 script=/srv/www/x.php remote=127.0.0.1:", tlsPort))
		r.expect(r.http("php.test", "/"), 200, fmt.Sprintf("https= port=%d addr=127.0.0.1 script=/srv/www/index.php", port))
		r.expect(r.https("py.test", "/a%20b?c=d"), 200, fmt.Sprintf("GET /a b?c=d https=on port=%d host=py.test:%d for=127.0.0.1 proxy=", tlsPort, tlsPort))
		if got := r.do(forged(r.request("POST", r.http("py.test", "/"), "body"))); got.body != fmt.Sprintf("POST /? https= port=%d host=py.test:%d for=127.0.0.1 proxy= body=body", port, port) {
			t.Errorf("uwsgi: %d %q", got.status, got.body)
		}
	}
}

// uwsgi is a server that speaks uwsgi's protocol as far as nginx does
// (uwsgi-docs.readthedocs.io, The uwsgi Protocol): the variables, then the body.
func uwsgi(t *testing.T) netip.AddrPort {
	t.Helper()
	return testenv.Accept(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		head := make([]byte, 4)
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		block := make([]byte, binary.LittleEndian.Uint16(head[1:]))
		if _, err := io.ReadFull(in, block); err != nil {
			return
		}
		env, word := map[string]string{}, func() string {
			n := binary.LittleEndian.Uint16(block)
			w := string(block[2 : 2+n])
			block = block[2+n:]
			return w
		}
		for len(block) > 0 {
			k := word()
			env[k] = word()
		}
		var n int
		fmt.Sscan(env["CONTENT_LENGTH"], &n)
		body := make([]byte, n)
		io.ReadFull(in, body)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n%s %s?%s https=%s port=%s host=%s for=%s proxy=%s body=%s",
			env["REQUEST_METHOD"], env["PATH_INFO"], env["QUERY_STRING"], env["HTTPS"], env["SERVER_PORT"], env["HTTP_HOST"], env["HTTP_X_FORWARDED_FOR"], env["HTTP_PROXY"], body)
	})
}

// Allow lists are applied to the client's address, however the connection came.
func TestAllowListsBesidePassthrough(t *testing.T) { each(t, testAllowListsBesidePassthrough) }

func testAllowListsBesidePassthrough(t *testing.T, r *rig) {
	r.run()
	own := tlsEcho(t)
	here, elsewhere := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	passed := func(host string, allow []netip.Prefix) nestedSite {
		s := nestedSite{Host: host, Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(own)}}
		s.Passthrough.Pool.Allow = allow
		return s
	}
	p := writePair(t, "in.test", "out.test")
	ended := func(host string, allow []netip.Prefix) nestedSite {
		s := withTLS(site(host, echoServer(t)), p, route.Redirect)
		s.Locations[0].Allow = allow
		return s
	}
	port := freePort(t)
	stream := nestedStream{Listen: route.Listen{Protocol: route.TCP, Port: port}, Family: "git", Pool: pool(lines(t, "tcp"))}
	stream.Pool.Allow = elsewhere
	r.serve(r.table(nestedTable{Streams: []nestedStream{stream}, Sites: []nestedSite{
		passed("pin.test", here), passed("pout.test", elsewhere), ended("in.test", here), ended("out.test", elsewhere),
	}}))
	r.expect(r.https("pin.test", "/"), 200, "GET /")
	if got := r.get(r.https("pout.test", "/")); got.status != 0 {
		t.Errorf("passed through to whom it is not for: %d %q", got.status, got.body)
	}
	r.expect(r.https("in.test", "/"), 200, "real=127.0.0.1")
	r.expect(r.https("out.test", "/"), 403, "")
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := ask(c, "hello"); strings.HasPrefix(got, "tcp:") {
		t.Errorf("a stream for others answers %q", got)
	}
}

// A passthrough of a wildcard gets no connection for a name of another site.
func TestPassthroughWildcardBesideSites(t *testing.T) { each(t, testPassthroughWildcardBesideSites) }

func testPassthroughWildcardBesideSites(t *testing.T, r *rig) {
	r.run()
	own := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "wildcard") }))
	t.Cleanup(own.Close)
	p := writePair(t, "in.p.test")
	r.serve(r.tree(
		nestedSite{Host: "*.p.test", Family: "wild", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(addrOf(own))}},
		withTLS(site("in.p.test", backend(t, "inside")), p, route.Redirect), site("plain.p.test", backend(t, "plain")),
	))
	r.expect(r.https("else.p.test", "/"), 200, "wildcard")
	r.expect(r.https("in.p.test", "/"), 200, "inside")
	r.expect(r.http("plain.p.test", "/"), 200, "plain")
	r.expect(r.https("plain.p.test", "/"), 0, "unrecognized name")
}

// One site's passthrough leaves the others as many requests at a time.
func TestPassthroughTakesNoConnectionsFromOthers(t *testing.T) {
	r := newRig(t)
	r.run()
	arrived, end := make(chan bool), make(chan bool)
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- true
		<-end
	}))
	t.Cleanup(func() { close(end); slow.Close() })
	r.serve(r.tree(
		nestedSite{Host: "p.test", Family: "other", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(addrOf(slow))}},
		withTLS(site("a.test", addrOf(slow)), writePair(t, "a.test"), route.Redirect),
	))
	for n := range 350 * r.settings.WorkerProcesses {
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPSPort), &tls.Config{ServerName: "a.test", InsecureSkipVerify: true})
		if err != nil {
			t.Fatalf("after %d requests: %v", n, err)
		}
		defer c.Close()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		<-arrived
	}
}

func TestPlainHTTPAtThePortOfHTTPS(t *testing.T) {
	r := newRig(t)
	r.run()
	ended := withTLS(site("a.test", backend(t, "one")), writePair(t, "a.test"), route.Redirect)
	passed := nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(lines(t, "own"))}}
	for _, sites := range [][]nestedSite{{ended}, {ended, passed}} {
		r.serve(r.tree(sites...))
		for _, host := range []string{"a.test", "p.test", "unknown.test"} {
			got := r.get(fmt.Sprintf("http://%s:%d/", host, r.settings.HTTPSPort))
			if got.status != 400 || strings.Contains(got.body, "one") {
				t.Errorf("%d sites, %s: %d %q, want 400", len(sites), host, got.status, got.body)
			}
		}
	}
}

// nginx accepts every policy, and speaks its protocols and no
// others, or there is a problem that this nginx cannot.
func TestTLSPolicies(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.run()
		var sites []nestedSite
		host := func(p config.TLSPolicy) string { return strings.ToLower(p.Name) + ".test" }
		for _, p := range config.TLSPolicies {
			s := withTLS(site(host(p), backend(t, "one")), writePair(t, host(p)), route.Redirect)
			s.Edge.TLSPolicy = p.Name
			sites = append(sites, s)
		}
		tree := render(r.settings, r.o.Build, nestedTable{Sites: sites})
		if s := r.serve(tree); len(s.Quarantined) > 0 {
			t.Errorf("quarantined: %+v", s.Quarantined)
		}
		usual, _ := config.PolicyNamed("")
		versions := map[string]uint16{"TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}
		for _, p := range config.TLSPolicies {
			// An nginx that has one choice of protocols for all says so.
			reported := slices.ContainsFunc(tree.Problems, func(x problem.Problem) bool {
				return x.Code == "tls-protocols-not-by-site" && x.Subject == "site "+host(p)
			})
			if other := !slices.Equal(p.Protocols, usual.Protocols); reported != (other && !r.o.Build.ProtocolsBySite) {
				t.Errorf("%s: problem %v", p.Name, reported)
			}
			if reported {
				p.Protocols = usual.Protocols
			}
			for name, v := range versions {
				c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPSPort), &tls.Config{
					InsecureSkipVerify: true, ServerName: host(p), MinVersion: v, MaxVersion: v,
				})
				if err == nil {
					c.Close()
				}
				if want := slices.Contains(p.Protocols, name); (err == nil) != want {
					t.Errorf("%s, %s: %v, want it to be spoken: %v", p.Name, name, err, want)
				}
			}
		}
	})
}

// The default host also answers TLS clients without a name, or with an unknown one.
func TestDefaultHostOverTLS(t *testing.T) { each(t, testDefaultHostOverTLS) }

func testDefaultHostOverTLS(t *testing.T, r *rig) {
	r.run()
	p := writePair(t, "a.test", "b.test")
	a, b := withTLS(site("a.test", backend(t, "default")), p, route.Redirect), withTLS(site("b.test", backend(t, "other")), p, route.Redirect)
	a.CatchAll = true
	passed := nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(lines(t, "own"))}}
	for _, sites := range [][]nestedSite{{a, b}, {a, b, passed}} {
		r.serve(r.tree(sites...))
		r.expect(r.https("unknown.test", "/"), 200, "default")
		r.expect(r.https("127.0.0.1", "/"), 200, "default")
		r.expect(r.https("b.test", "/"), 200, "other")
	}
	// Without it nobody answers.
	r.serve(r.tree(b))
	r.expect(r.https("127.0.0.1", "/"), 0, "unrecognized name")
}

// Clients show a certificate where there is an authority for them.
func TestClientCertificates(t *testing.T) { each(t, testClientCertificates) }

func testClientCertificates(t *testing.T, r *rig) {
	r.settings.HTTP3 = r.o.Build.HTTP3
	r.run()
	ca, issue := authority(t)
	sites := []nestedSite{site("must.test", backend(t, "inside")), site("may.test", backend(t, "inside")), site("free.test", backend(t, "inside"))}
	p := writePair(t, "must.test", "may.test", "free.test")
	p.ClientCAFile = ca
	for i, ask := range []string{"on", "optional", ""} {
		sites[i] = withTLS(sites[i], p, route.Redirect)
		sites[i].Edge.ClientCert = ask
	}
	r.serve(r.tree(sites...))
	known, unknown := issue("client").Certificates, []tls.Certificate{}
	_, other := authority(t)
	unknown = append(unknown, other("client").Certificates...)
	for _, row := range []struct {
		host   string
		with   []tls.Certificate
		status int
	}{
		{"must.test", known, 200},
		{"must.test", nil, 400},
		{"must.test", unknown, 400},
		{"may.test", known, 200},
		{"may.test", nil, 200},
		{"may.test", unknown, 400},
		{"free.test", nil, 200},
	} {
		c := r.client()
		c.Transport.(*http.Transport).TLSClientConfig.Certificates = row.with
		res, err := c.Get(r.https(row.host, "/"))
		if err != nil {
			t.Errorf("%s, %d certificates: %v", row.host, len(row.with), err)
			continue
		}
		res.Body.Close()
		c.CloseIdleConnections()
		if res.StatusCode != row.status {
			t.Errorf("%s, %d certificates: %d, want %d", row.host, len(row.with), res.StatusCode, row.status)
		}
		if !r.settings.HTTP3 {
			continue
		}
		fast := r.h3("127.0.0.1", p)
		fast.TLSClientConfig.Certificates = row.with
		if got, err := over(fast, r.request("GET", r.https(row.host, "/"), "")); err != nil || got.status != row.status {
			t.Errorf("%s, %d certificates over HTTP/3: %d, %v, want %d", row.host, len(row.with), got.status, err, row.status)
		}
	}
}

// Headers of a client that only a proxy may set reach no container.
func TestForgedHeadersAreRemoved(t *testing.T) {
	r := newRig(t)
	r.run()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		for name, values := range req.Header {
			if strings.Contains(strings.Join(values, " "), "forged") {
				fmt.Fprintf(w, "%s: %s\n", name, values)
			}
		}
		fmt.Fprintf(w, "ssl=%s scheme=%s uri=%s", req.Header.Get("X-Forwarded-Ssl"), req.Header.Get("X-Forwarded-Scheme"), req.Header.Get("X-Original-Uri"))
	}))
	t.Cleanup(up.Close)
	stripped := spot("/app", addrOf(up))
	stripped.StripPrefix = true
	s := withTLS(site("a.test", addrOf(up)), writePair(t, "a.test"), route.Serve)
	s.Locations = append(s.Locations, stripped)
	r.serve(r.tree(s))
	for _, row := range [][2]string{
		{r.http("a.test", "/x?y"), "ssl=off scheme=http uri=/x?y"},
		{r.https("a.test", "/app/x?y"), "ssl=on scheme=https uri=/app/x?y"},
	} {
		req := r.request("GET", row[0], "")
		for _, h := range []string{
			"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Forwarded-Ssl", "X-Forwarded-Host", "X-Forwarded-Port",
			"X-Forwarded-Prefix", "X-Real-IP", "X-Original-URI", "Forwarded", "Proxy", "X_Forwarded_For",
		} {
			req.Header.Set(h, "forged")
		}
		if got := r.do(req); got.body != row[1] {
			t.Errorf("%s: the container got %q, want %q", row[0], got.body, row[1])
		}
	}
}

// The operator's snippets have effect in their sections, and a broken one affects only its
// section and is named.
func TestSnippetsOfEveryLevel(t *testing.T) {
	t.Parallel()
	each(t, testSnippetsOfEveryLevel)
}

func testSnippetsOfEveryLevel(t *testing.T, r *rig) {
	r.run()
	up := backend(t, "one")
	port := freePort(t)
	stream := nestedStream{Listen: route.Listen{Protocol: route.TCP, Port: freePort(t)}, Family: "git", Pool: pool(lines(t, "tcp"))}
	a := site("a.test", up)
	a.Locations = append(a.Locations, spot("/api", up))
	put := func(name, text string) {
		t.Helper()
		file := filepath.Join(r.settings.SnippetDir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, file, text)
		files, err := snippets.List(snippets.Options{Own: r.settings.SnippetDir})
		if err != nil {
			t.Fatal(err)
		}
		r.settings.Snippets = files.Snippets
	}
	tree := func() nginx.Tree {
		return r.table(nestedTable{Streams: []nestedStream{stream}, Sites: []nestedSite{a, site("b.test", up)}})
	}
	put("http.d/own.conf", "map $host $mine { default http; }\n")
	put("site.d/a.test.conf", "location = /own { return 200 \"site $mine\"; }\n")
	put("location.d/a.test.conf", "add_header X-Location all always;\n")
	put("location.d/a.test,api.conf", "add_header X-Path api always;\n")
	put("stream.d/own.conf", fmt.Sprintf("server { listen %d; return \"stream\\n\"; }\n", port))
	r.serve(tree())
	r.expect(r.http("a.test", "/own"), 200, "site http")
	if h := r.get(r.http("a.test", "/")).header; h.Get("X-Location") != "all" || h.Get("X-Path") != "" {
		t.Errorf("headers of /: %v", h)
	}
	if h := r.get(r.http("a.test", "/api/x")).header; h.Get("X-Location") != "all" || h.Get("X-Path") != "api" {
		t.Errorf("headers of /api: %v", h)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := ask(c, "x"); got != "stream" {
		t.Errorf("the stream snippet answers %q", got)
	}

	for _, name := range []string{"site.d/b.test.conf", "location.d/b.test.conf"} {
		put(name, "no such directive;\n")
		s := r.serve(tree())
		if len(s.Quarantined) != 1 || s.Quarantined[0].Host != "b.test" || !strings.Contains(s.Quarantined[0].Reason, name) {
			t.Errorf("%s: quarantined %+v", name, s.Quarantined)
		}
		r.expect(r.http("a.test", "/"), 200, "one")
		put(name, "\n")
		r.serve(tree())
	}
	for _, name := range []string{"http.d/bad.conf", "stream.d/bad.conf"} {
		put(name, "no such directive;\n")
		s := r.serve(tree())
		if len(s.Problems) != 1 || !strings.Contains(s.Problems[0].Text, name+":1") || s.LastError != "" {
			t.Errorf("%s is not named: %q, %+v", name, s.LastError, s.Problems)
		}
		r.expect(r.http("a.test", "/"), 200, "one")
		put(name, "\n")
		r.serve(tree())
	}
}

// Clients of a port of UDP, which need no answer to be one, take no connections from sites, and
// not all from another port of UDP.
func TestClientsOfUDPTakeNoConnectionsFromOthers(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.settings.WorkerProcesses = 2
		r.run()
		flooded := nestedStream{Listen: route.Listen{Protocol: route.UDP, Port: freePort(t)}, Family: "game", Pool: pool(datagrams(t, func(net.Addr, []byte) string { return "" }))}
		other := nestedStream{Listen: route.Listen{Protocol: route.UDP, Port: freePort(t)}, Family: "dns", Pool: pool(datagrams(t, func(net.Addr, []byte) string { return "good" }))}
		r.serve(r.table(nestedTable{Sites: []nestedSite{site("a.test", backend(t, "one"))}, Streams: []nestedStream{flooded, other}}))
		for range 4000 {
			c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", flooded.Listen.Port))
			if err != nil {
				t.Fatal(err)
			}
			c.Write([]byte("x"))
			c.Close()
		}
		if got := r.get(fmt.Sprintf("http://a.test:%d/", r.settings.HTTPPort)); got.body != "one" {
			t.Errorf("a site: %d %q", got.status, got.body)
		}
		c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", other.Listen.Port))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		b := make([]byte, 10)
		c.Write([]byte("x"))
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(b); string(b[:n]) != "good" {
			t.Errorf("another port of UDP: %q, %v", b[:n], err)
		}
	})
}
