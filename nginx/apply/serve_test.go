package apply

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// echo answers with the request as the container got it.
func echo(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s host=%s for=%s proto=%s fhost=%s port=%s prefix=%s real=%s forwarded=%s proxy=%s body=%d", r.Method, r.URL.RequestURI(), r.Host,
		strings.Join(r.Header.Values("X-Forwarded-For"), "|"), r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"),
		r.Header.Get("X-Forwarded-Port"), r.Header.Get("X-Forwarded-Prefix"), r.Header.Get("X-Real-Ip"),
		r.Header.Get("Forwarded"), r.Header.Get("Proxy"), len(b))
}

func echoServer(t *testing.T) netip.AddrPort {
	s := httptest.NewServer(http.HandlerFunc(echo))
	t.Cleanup(s.Close)
	return addrOf(s)
}

// forged are headers that a client must not get through.
func forged(r *http.Request) *http.Request {
	for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Real-IP", "Forwarded", "Proxy"} {
		r.Header.Set(h, "192.0.2.66")
	}
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("X-Forwarded-Port", "1")
	return r
}

func (r *rig) request(method, url, body string) *http.Request {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	return req
}

func TestServedResponses(t *testing.T) { each(t, testServedResponses) }

func testServedResponses(t *testing.T, r *rig) {
	r.run()
	up := echoServer(t)
	p := writePair(t, "a.test", "*.wild.test", "b.test")
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "sni=%s ", req.TLS.ServerName)
		echo(w, req)
	}))
	t.Cleanup(secure.Close)
	dead := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	deadToo := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), dead.Port())
	write(t, filepath.Join(r.settings.HtpasswdDir, "staff"), "anna:{PLAIN}secret\n")

	stripped := spot("/app", up)
	stripped.StripPrefix = true
	closed := spot("/closed", up)
	closed.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	locked := spot("/locked", up)
	locked.Auth = "staff"
	small := spot("/small", up)
	small.BodySize = 10
	paths := site("paths.test")
	paths.Locations = []nestedLocation{
		stripped, closed, locked, small, spot("/keep", up), spot("/vacant"),
		spot("/dead", dead), spot("/both", dead, deadToo), spot("/closing", closing(t)),
	}
	overTLS := site("s.test", addrOf(secure))
	overTLS.Locations[0].Scheme = route.HTTPS
	deadTLS := site("dead.test", dead)
	deadTLS.Locations[0].Scheme = route.HTTPS
	php := site("php.test", fastCGI(t))
	php.Locations[0].Scheme, php.Locations[0].StripPrefix, php.Locations[0].Path = route.FastCGI, true, "/php"

	s := r.serve(r.tree(
		withTLS(site("a.test", up), p, route.Redirect), withTLS(site("b.test", up), p, route.Refuse),
		withTLS(site("*.wild.test", up), p, route.Serve), paths, overTLS, deadTLS, php, site("vacant.test"),
	))
	if len(s.Problems) > 0 {
		t.Fatalf("problems: %+v", s.Problems)
	}
	port, tlsPort := r.settings.HTTPPort, r.settings.HTTPSPort

	for _, row := range []struct {
		name   string
		req    *http.Request
		status int
		body   string
		header string // "Name: value"
	}{
		{"redirect keeps path and port", r.request("GET", r.http("a.test", "/x?y=z"), ""), 301, "", fmt.Sprintf("Location: https://a.test:%d/x?y=z", tlsPort)},
		{"redirect keeps the method", r.request("POST", r.http("a.test", "/x"), "b"), 308, "", fmt.Sprintf("Location: https://a.test:%d/x", tlsPort)},
		{"a forged proto avoids no redirect", forged(r.request("GET", r.http("a.test", "/"), "")), 301, "", ""},
		{"plain is refused", r.request("GET", r.http("b.test", "/"), ""), 403, "HTTPS only", ""},
		{"headers are overwritten", forged(r.request("POST", r.https("b.test", "/p?q=1"), "body")), 200, fmt.Sprintf(
			"POST /p?q=1 host=b.test:%d for=127.0.0.1 proto=https fhost=b.test:%d port=%d prefix= real=127.0.0.1 forwarded= proxy= body=4", tlsPort, tlsPort, tlsPort), ""},
		{"wildcard", r.request("GET", r.https("x.wild.test", "/"), ""), 200, "host=x.wild.test", ""},
		{"wildcard over plain", r.request("GET", r.http("y.wild.test", "/"), ""), 200, fmt.Sprintf("host=y.wild.test:%d for=127.0.0.1 proto=http", port), ""},
		{"unknown host", r.request("GET", r.http("unknown.test", "/"), ""), 404, "No site of this name", ""},
		{"unknown host over TLS", r.request("GET", r.https("unknown.test", "/"), ""), 0, "unrecognized name", ""},
		{"no TLS for a plain site", r.request("GET", r.https("paths.test", "/"), ""), 0, "unrecognized name", ""},
		{"prefix is stripped", r.request("GET", r.http("paths.test", "/app/x/y?q=1"), ""), 200, "GET /x/y?q=1 host=paths.test", ""},
		{"prefix is told", forged(r.request("GET", r.http("paths.test", "/app/"), "")), 200, "GET / host=", ""},
		{"bare prefix gets its slash", r.request("GET", r.http("paths.test", "/app?q=1"), ""), 301, "", "Location: /app/?q=1"},
		{"bare prefix takes a POST", r.request("POST", r.http("paths.test", "/app"), "body"), 200, "POST / host=", ""},
		{"no half segment", r.request("GET", r.http("paths.test", "/apple"), ""), 404, "Nothing is served at this path", ""},
		{"prefix is kept", r.request("GET", r.http("paths.test", "/keep/x%20y"), ""), 200, "GET /keep/x%20y host=", ""},
		{"bare prefix is kept", r.request("GET", r.http("paths.test", "/keep"), ""), 200, "GET /keep host=", ""},
		{"not allowed", r.request("GET", r.http("paths.test", "/closed/"), ""), 403, "", ""},
		{"no password", r.request("GET", r.http("paths.test", "/locked"), ""), 401, "", ""},
		{"body too large", r.request("POST", r.http("paths.test", "/small"), "01234567890"), 413, "", ""},
		{"body just right", r.request("POST", r.http("paths.test", "/small"), "0123456789"), 200, "body=10", ""},
		{"large body goes through a file", r.request("POST", r.http("paths.test", "/keep"), strings.Repeat("x", 1<<20)), 200, "body=1048576", ""},
		{"vacant path", r.request("GET", r.http("paths.test", "/vacant/x"), ""), 503, "no running container", "Retry-After: 5"},
		{"vacant site", r.request("GET", r.http("vacant.test", "/"), ""), 503, "no running container", "Retry-After: 5"},
		{"nobody takes connections", r.request("GET", r.http("paths.test", "/dead"), ""), 503, "does not answer", "Retry-After: 5"},
		{"neither of two does", r.request("POST", r.http("paths.test", "/both"), "body"), 503, "does not answer", "Retry-After: 5"},
		{"one hangs up", r.request("GET", r.http("paths.test", "/closing"), ""), 502, "does not answer", "Retry-After: 5"},
		{"nobody takes connections for TLS", r.request("GET", r.http("dead.test", "/"), ""), 502, "does not answer", "Retry-After: 5"},
		{"container speaks TLS", r.request("GET", r.http("s.test", "/x"), ""), 200, "sni=s.test GET /x host=s.test", ""},
		{"fastcgi", forged(r.request("POST", r.http("php.test", "/php/x.php?q=1"), "body")), 200, fmt.Sprintf("POST /php/x.php?q=1 host=php.test:%d for=127.0.0.1 proto=http", port), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := r.do(row.req)
			if got.status != row.status || !strings.Contains(got.body, row.body) {
				t.Errorf("%d %q, want %d with %q", got.status, got.body, row.status, row.body)
			}
			if name, value, ok := strings.Cut(row.header, ": "); ok && got.header.Get(name) != value {
				t.Errorf("%s is %q, want %q", name, got.header.Get(name), value)
			}
			if strings.Contains(got.header.Get("Server"), "/") {
				t.Errorf("the version is shown: %s", got.header.Get("Server"))
			}
		})
	}

	locker := r.request("GET", r.http("paths.test", "/locked/x"), "")
	locker.SetBasicAuth("anna", "secret")
	if got := r.do(locker); got.status != 200 {
		t.Errorf("with the password: %d %q", got.status, got.body)
	}
	if got := r.do(forged(r.request("GET", r.http("paths.test", "/app/"), ""))); !strings.Contains(got.body, "prefix=/app ") {
		t.Errorf("stripped prefix is not told: %q", got.body)
	}
	misdirected(t, r)
	websocket(t, r)
}

// closing accepts connections and closes them at the first request.
func closing(t *testing.T) netip.AddrPort {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(s.Close)
	return addrOf(s)
}

func fastCGI(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go fcgi.Serve(l, http.HandlerFunc(echo))
	return netip.MustParseAddrPort(l.Addr().String())
}

// misdirected requests one site over a connection that was made for another.
func misdirected(t *testing.T, r *rig) {
	t.Helper()
	for _, row := range []struct {
		sni, host string
		status    int
	}{
		{"b.test", "b.test", 200},
		{"B.Test", "b.TEST", 200},
		{"b.test", "x.wild.test", 421},
		{"x.wild.test", "y.wild.test", 421},
		{"b.test", "unknown.test", 421},
	} {
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPSPort), &tls.Config{InsecureSkipVerify: true, ServerName: row.sni})
		if err != nil {
			t.Errorf("%s: %v", row.sni, err)
			continue
		}
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", row.host)
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != row.status {
			t.Errorf("%s over a connection for %s: %v, %v, want %d", row.host, row.sni, res, err, row.status)
		}
		c.Close()
	}
}

// websocket switches protocols and sends a line both ways.
func websocket(t *testing.T, r *rig) {
	t.Helper()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(req.Header.Get("Connection"), "upgrade") {
			http.Error(w, "no upgrade", http.StatusBadRequest)
			return
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(c, "you said "+line)
	}))
	t.Cleanup(up.Close)
	r.serve(r.tree(site("ws.test", addrOf(up))))
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: ws.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", res, err)
	}
	io.WriteString(c, "hello\n")
	if line, err := in.ReadString('\n'); line != "you said hello\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestTrustedProxy(t *testing.T) { each(t, testTrustedProxy) }

func testTrustedProxy(t *testing.T, r *rig) {
	r.settings.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	r.run()
	p := writePair(t, "a.test")
	r.serve(r.tree(withTLS(site("a.test", echoServer(t)), p, route.Redirect)))
	req := r.request("GET", r.http("a.test", "/"), "")
	for h, v := range map[string]string{
		"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "outside.test", "X-Forwarded-Port": "4443", "Forwarded": "for=192.0.2.7",
	} {
		req.Header.Set(h, v)
	}
	got := r.do(req)
	want := "for=192.0.2.7, 127.0.0.1 proto=https fhost=outside.test port=4443 prefix= real=192.0.2.7 forwarded=for=192.0.2.7"
	if got.status != 200 || !strings.Contains(got.body, want) {
		t.Errorf("%d %q, want %q", got.status, got.body, want)
	}
	if got := r.get(r.http("a.test", "/")); got.status != 301 {
		t.Errorf("without the header: %d, want a redirect", got.status)
	}
}
