package apply

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/snippets"
)

// table renders a table that has more than sites.
func (r *rig) table(t nestedTable) nginx.Tree {
	r.t.Helper()
	tree := render(r.settings, r.o.Build, t)
	if len(tree.Problems) > 0 {
		r.t.Fatalf("rendering: %v", tree.Problems)
	}
	return tree
}

func pool(addrs ...netip.AddrPort) nestedPool {
	return nestedPool{route.StreamOptions{Balance: route.RoundRobin, Timeout: time.Minute}, spot("/", addrs...).Servers}
}

// lines is a TCP server that sends every line back behind its name.
func lines(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	return testenv.Accept(t, func(c net.Conn) {
		for in := bufio.NewScanner(c); in.Scan(); {
			fmt.Fprintf(c, "%s: %s\n", name, in.Text())
		}
	})
}

// ask sends a line and returns the answer's first.
func ask(c net.Conn, line string) string {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprintf(c, "%s\n", line)
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(answer, "\n")
}

// datagrams answers each datagram until the test ends.
func datagrams(t *testing.T, answer func(from net.Addr, b []byte) string) netip.AddrPort {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			l.WriteTo([]byte(answer(from, b[:n])), from)
		}
	}()
	return netip.MustParseAddrPort(l.LocalAddr().String())
}

func TestStreams(t *testing.T) { each(t, testStreams) }

func testStreams(t *testing.T, r *rig) {
	r.run()
	udp := datagrams(t, func(_ net.Addr, b []byte) string { return "udp: " + string(b) })
	tcp, told, secret, dns, gone := freePort(t), freePort(t), freePort(t), freePort(t), freePort(t)
	streams := []nestedStream{
		{Listen: route.Listen{Protocol: route.TCP, Port: tcp}, Family: "git", Pool: pool(lines(t, "tcp"))},
		{Listen: route.Listen{Protocol: route.TCP, Port: told}, Family: "told", Pool: pool(lines(t, "told"))},
		{Listen: route.Listen{Protocol: route.TLS, Port: secret}, Family: "mq", Host: "mq.test", Cert: writePair(t, "mq.test"), Pool: pool(lines(t, "tls"))},
		{Listen: route.Listen{Protocol: route.UDP, Port: dns}, Family: "dns", Pool: pool(udp)},
		{Listen: route.Listen{Protocol: route.TCP, Port: gone}, Family: "gone", Pool: pool()},
	}
	streams[1].Pool.ProxyProtocol = true
	r.serve(r.table(nestedTable{Streams: streams, Sites: []nestedSite{site("a.test", backend(t, "one"))}}))
	r.expect(r.http("a.test", "/"), 200, "one")
	dial := func(network string, port uint16) net.Conn {
		t.Helper()
		c, err := net.Dial(network, fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for _, row := range []struct{ what, got, want string }{
		{"tcp", ask(dial("tcp", tcp), "hello"), "tcp: hello"},
		{"udp", ask(dial("udp", dns), "hello"), "udp: hello"},
		{"tls", ask(tls.Client(dial("tcp", secret), &tls.Config{InsecureSkipVerify: true}), "hello"), "tls: hello"},
		{"nothing behind it", ask(dial("tcp", gone), "hello"), "EOF"},
	} {
		if row.got != row.want && !(row.want == "EOF" && strings.Contains(row.got, "reset")) {
			t.Errorf("%s: got %q, want %q", row.what, row.got, row.want)
		}
	}
	if got := ask(dial("tcp", told), "hello"); !strings.HasPrefix(got, "told: PROXY TCP4 127.0.0.1 127.0.0.1 ") {
		t.Errorf("with the PROXY protocol the container reads %q", got)
	}
	// A connection that lives through a reload goes on.
	held := dial("tcp", tcp)
	if got := ask(held, "before"); got != "tcp: before" {
		t.Fatal(got)
	}
	r.serve(r.table(nestedTable{Streams: streams[:1]}))
	if got := ask(held, "after"); got != "tcp: after" {
		t.Errorf("after a reload: %q", got)
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", secret)); err == nil {
		c.Close()
		t.Error("a port that nobody asks for any more is open")
	}
}

// A port that another process holds affects only the stream that asks for it.
func TestStreamPortHeldByAnotherProcess(t *testing.T) {
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	testStreamPortHeld(t, route.TCP, l.Addr())
}

// So does one that a connection was opened from.
func TestStreamPortOfAConnection(t *testing.T) {
	conn, err := net.Dial("tcp", lines(t, "tcp").String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	testStreamPortHeld(t, route.TCP, conn.LocalAddr())
}

// So does one of a socket that has a peer, which the kernel does not list among those that are
// open to everybody.
func TestStreamPortOfAUDPSocketWithAPeer(t *testing.T) {
	conn, err := net.Dial("udp", "127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	testStreamPortHeld(t, route.UDP, conn.LocalAddr())
}

func testStreamPortHeld(t *testing.T, protocol route.Protocol, addr net.Addr) {
	r := newRig(t)
	busy := netip.MustParseAddrPort(addr.String()).Port()
	stream := nestedStream{Listen: route.Listen{Protocol: protocol, Port: busy}, Family: "git", Pool: pool(lines(t, "tcp"))}
	tree := r.table(nestedTable{Sites: []nestedSite{site("a.test", backend(t, "one"))}, Streams: []nestedStream{stream}})
	for _, when := range []string{"at the start", "in a reload"} {
		r.run()
		s := r.serve(tree)
		if len(s.Quarantined) != 1 || s.Quarantined[0].Host != stream.Listen.String() || !strings.Contains(s.Quarantined[0].Reason, "is held by") {
			t.Errorf("%s: quarantined %+v", when, s.Quarantined)
		}
		r.expect(r.http("a.test", "/"), 200, "one")
		r.crash()
		tree = r.table(nestedTable{Sites: []nestedSite{site("a.test", backend(t, "one")), site("b.test")}, Streams: []nestedStream{stream}})
	}
}

func TestPassthroughBesideTermination(t *testing.T) { each(t, testPassthroughBesideTermination) }

func testPassthroughBesideTermination(t *testing.T, r *rig) {
	r.settings.HTTP2 = true
	r.run()
	own := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own certificate") }))
	own.StartTLS()
	t.Cleanup(own.Close)
	p := writePair(t, "a.test")
	ended := withTLS(site("a.test", echoServer(t)), p, route.Redirect)
	passed := nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(addrOf(own))}}
	wild := nestedSite{Host: "*.p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(addrOf(own))}}
	gone := nestedSite{Host: "gone.test", Family: "gone", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool()}}

	// From HTTPS in the http section to a shared port and back, with a client on.
	r.serve(r.tree(ended))
	r.expect(r.https("a.test", "/"), 200, "real=127.0.0.1")
	r.serve(r.tree(ended, passed, wild, gone))
	for _, row := range []struct {
		url    string
		status int
		body   string
	}{
		{r.https("a.test", "/x"), 200, "GET /x host=a.test:"},
		{r.https("a.test", "/x"), 200, fmt.Sprintf("for=127.0.0.1 proto=https fhost=a.test:%d port=%d prefix= real=127.0.0.1 ", r.settings.HTTPSPort, r.settings.HTTPSPort)},
		{r.https("p.test", "/"), 200, "own certificate"},
		{r.https("deep.p.test", "/"), 200, "own certificate"},
		{r.http("p.test", "/"), 301, ""},
		{r.https("unknown.test", "/"), 0, "unrecognized name"},
		{r.http("unknown.test", "/"), 404, ""},
	} {
		r.expect(row.url, row.status, row.body)
	}
	// Whether nginx has read what it refuses to pass on decides between these two.
	if got := r.get(r.https("gone.test", "/")); got.status != 0 || !strings.HasSuffix(got.body, "EOF") && !strings.HasSuffix(got.body, "connection reset by peer") {
		t.Errorf("a container's own TLS without a container: %d %q, want a closed connection", got.status, got.body)
	}
	if sockets, _ := filepath.Glob(filepath.Join(r.o.RunDir, "*.sock")); len(sockets) != 5 {
		t.Errorf("sockets: %v", sockets)
	}
	r.serve(r.tree(ended))
	r.expect(r.https("a.test", "/"), 200, "real=127.0.0.1")
	r.expect(r.https("p.test", "/"), 0, "unrecognized name")
	if sockets, _ := filepath.Glob(filepath.Join(r.o.RunDir, "*.sock")); len(sockets) != 1 {
		t.Errorf("sockets that nobody needs: %v", sockets)
	}
}

// The sockets of an nginx that was killed do not keep the next from starting.
func TestPassthroughAfterAKill(t *testing.T) {
	r := newRig(t)
	r.run()
	own := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own certificate") }))
	t.Cleanup(own.Close)
	tree := r.tree(nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(addrOf(own))}})
	s := r.serve(tree)
	if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.await("nginx again", func(s nginx.Status) bool { return s.Running && s.Settled && s.Generation == tree.Generation })
	r.expect(r.https("p.test", "/"), 200, "own certificate")
}

func TestPROXYProtocolFromABalancer(t *testing.T) { each(t, testPROXYProtocolFromABalancer) }

func testPROXYProtocolFromABalancer(t *testing.T, r *rig) {
	r.settings.ProxyProtocol = true
	r.settings.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	r.run()
	p := writePair(t, "a.test")
	ended := withTLS(site("a.test", echoServer(t)), p, route.Serve)
	passed := nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(lines(t, "own"))}}
	for _, sites := range [][]nestedSite{{ended}, {ended, passed}} {
		r.serve(r.tree(sites...))
		for _, port := range []uint16{r.settings.HTTPPort, r.settings.HTTPSPort} {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(c, "PROXY TCP4 198.51.100.7 198.51.100.1 4321 %d\r\n", port)
			if port == r.settings.HTTPSPort {
				c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, ServerName: "a.test"})
			}
			c.SetDeadline(time.Now().Add(5 * time.Second))
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 192.0.2.66\r\nConnection: close\r\n\r\n")
			b, err := io.ReadAll(c)
			c.Close()
			if err != nil || !strings.Contains(string(b), "for=198.51.100.7 ") || !strings.Contains(string(b), "real=198.51.100.7") {
				t.Errorf("%d sites, port %d: %v %q", len(sites), port, err, b)
			}
		}
	}
}

// nginx-proxy's variables and files have the same effect here.
func TestNginxProxyFiles(t *testing.T) { each(t, testNginxProxyFiles) }

func testNginxProxyFiles(t *testing.T, r *rig) {
	r.settings.SnippetDir = t.TempDir()
	vhost := filepath.Join(t.TempDir(), "vhost.d")
	if err := os.MkdirAll(vhost, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(vhost, "a.test"), "add_header X-Vhost a always;\n")
	write(t, filepath.Join(vhost, "default"), "add_header X-Vhost default always;\n")
	write(t, filepath.Join(vhost, "a.test_location"), "add_header X-Location a always;\n")
	files, err := snippets.List(snippets.Options{Vhost: vhost})
	if err != nil {
		t.Fatal(err)
	}
	r.settings.Snippets = files.Snippets
	r.run()
	up := echoServer(t)
	at := func(path string, match route.Match, dest string) nestedLocation {
		l := spot(path, up)
		l.Match, l.Dest = match, dest
		return l
	}
	a := site("a.test", up)
	a.Locations = []nestedLocation{at("/app", route.Prefix, "/"), at("/api/", route.Prefix, "/v1/"), at("/one", route.Exact, ""), at(`^/(x|y)/`, route.Regex, ""), at("/", route.Segments, "")}
	some := site("*.some.test", backend(t, "wildcard"))
	open := site("www.open.*", backend(t, "open end"))
	re := site(`~^(n|m)[0-9]+\.re\.test$`, backend(t, "expression"))
	all := site("z.test", backend(t, "catch all"))
	all.CatchAll = true
	secure := withTLS(site("s.test", backend(t, "secure")), writePair(t, "s.test"), route.Redirect)
	secure.Edge = route.Edge{HSTS: "max-age=31536000", RedirectCode: 307, TLSPolicy: "AWS-TLS13-1-2-2021-06"}
	closed := site("closed.test", backend(t, "closed"))
	closed.Edge.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	r.serve(r.tree(a, some, open, re, all, secure, closed))
	for _, row := range []struct {
		url    string
		status int
		body   string
	}{
		{r.http("a.test", "/apple"), 200, "GET /le host="},
		{r.http("a.test", "/api/x?y=1"), 200, "GET /v1/x?y=1 "},
		{r.http("a.test", "/one"), 200, "GET /one "},
		{r.http("a.test", "/x/2"), 200, "GET /x/2 "},
		{r.http("a.test", "/else"), 200, "GET /else "},
		{r.http("b.some.test", "/"), 200, "wildcard"},
		{r.http("www.open.example", "/"), 200, "open end"},
		{r.http("n12.re.test", "/"), 200, "expression"},
		{r.http("x12.re.test", "/"), 200, "catch all"},
		{r.http("127.0.0.1", "/"), 200, "catch all"},
		{r.http("closed.test", "/"), 403, ""},
		{r.https("s.test", "/"), 200, "secure"},
		{r.https("other.test", "/"), 0, "unrecognized name"},
	} {
		r.expect(row.url, row.status, row.body)
	}
	if h := r.get(r.https("s.test", "/")).header; h.Get("Strict-Transport-Security") != "max-age=31536000" || h.Get("X-Vhost") != "" && h.Get("X-Vhost") != "default" {
		t.Errorf("headers of HTTPS: %v", h)
	}
	if got := r.do(r.request(http.MethodPost, r.http("s.test", "/"), "x")); got.status != 307 {
		t.Errorf("a POST in plain HTTP gets %d", got.status)
	}
	if h := r.get(r.http("a.test", "/")).header; h.Get("X-Location") != "a" {
		t.Errorf("headers with a snippet for locations: %v", h)
	}
}
