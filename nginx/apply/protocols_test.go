package apply

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
)

// h2 is a client that speaks HTTP/2 only, in plain text with prior knowledge or over TLS.
func (r *rig) h2() *http.Client {
	t := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		Protocols:       new(http.Protocols),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, _ := net.SplitHostPort(addr)
			return (&net.Dialer{}).DialContext(ctx, network, "127.0.0.1:"+port)
		},
	}
	t.Protocols.SetHTTP2(true)
	t.Protocols.SetUnencryptedHTTP2(true)
	r.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// grpcServer answers as gRPC does: every message that it reads comes back at once, and
// the status is in the trailers. It speaks HTTP/2 in plain text, or over TLS with
// that certificate.
func grpcServer(t *testing.T, with *tls.Config) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.ProtoMajor != 2 || req.Header.Get("Te") != "trailers" {
			http.Error(w, "not gRPC: "+req.Proto, http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		w.WriteHeader(http.StatusOK)
		b := make([]byte, 1024)
		for {
			n, err := req.Body.Read(b)
			if n > 0 {
				w.Write(b[:n])
				w.(http.Flusher).Flush()
			}
			if err != nil {
				break
			}
		}
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set("Grpc-Message", req.Host+" "+req.URL.Path+" "+req.Header.Get("X-Forwarded-For"))
	}))
	s.Config.Protocols = new(http.Protocols)
	if with != nil {
		s.Config.Protocols.SetHTTP2(true)
		s.TLS = with
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}
	t.Cleanup(s.Close)
	return addrOf(s)
}

// call makes a streaming call: two messages, each answered before the next is sent.
func call(t *testing.T, c *http.Client, url string) (status int, message string) {
	t.Helper()
	in, out := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, url, in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	answers := make(chan *http.Response, 1)
	go func() {
		res, err := c.Do(req)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			close(answers)
			return
		}
		answers <- res
	}()
	io.WriteString(out, "one")
	res := <-answers
	if res == nil {
		return 0, ""
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		out.Close()
		return res.StatusCode, ""
	}
	for _, word := range []string{"one", "two"} {
		got := make([]byte, 3)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != word {
			t.Errorf("%s: %q, %v came back, want %q", url, got, err, word)
		}
		if word == "one" {
			io.WriteString(out, "two")
		}
	}
	out.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Errorf("%s: %v", url, err)
	}
	return res.StatusCode, res.Trailer.Get("Grpc-Status") + " " + res.Trailer.Get("Grpc-Message")
}

// authority makes a certificate authority and what signs with it.
func authority(t *testing.T) (file string, issue func(name string) *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "ca.crt")
	write(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return file, func(name string) *tls.Config {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, DNSNames: []string{name}}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	}
}

func speaking(s nestedSite, scheme route.Scheme, change ...func(*nestedLocation)) nestedSite {
	s.Locations[0].Scheme = scheme
	for _, f := range change {
		f(&s.Locations[0])
	}
	return s
}

func TestGRPC(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		ca, issue := authority(t)
		r.settings.UpstreamCA = ca
		r.run()
		p := writePair(t, "g.test", "s.test", "v.test", "w.test", "down.test", "gone.test")
		verify := func(l *nestedLocation) { l.Verify = true }
		over := func(s nestedSite) nestedSite { return withTLS(s, p, route.Redirect) }
		r.serve(r.tree(
			over(speaking(site("g.test", grpcServer(t, nil)), route.GRPC)),
			over(speaking(site("s.test", grpcServer(t, issue("other.test"))), route.GRPCS)),
			over(speaking(site("v.test", grpcServer(t, issue("v.test"))), route.GRPCS, verify)),
			over(speaking(site("w.test", grpcServer(t, issue("other.test"))), route.GRPCS, verify)),
			over(speaking(site("gone.test"), route.GRPC)),
			speaking(site("plain.test", grpcServer(t, nil)), route.GRPC),
		))
		c := r.h2()
		for _, row := range []struct {
			host    string
			status  int
			message string
		}{
			{"g.test", 200, fmt.Sprintf("0 g.test:%d /pkg.Service/Call 127.0.0.1", r.settings.HTTPSPort)},
			{"s.test", 200, fmt.Sprintf("0 s.test:%d /pkg.Service/Call 127.0.0.1", r.settings.HTTPSPort)},
			{"v.test", 200, fmt.Sprintf("0 v.test:%d /pkg.Service/Call 127.0.0.1", r.settings.HTTPSPort)},
			{"w.test", 502, ""},    // gRPC clients read UNAVAILABLE
			{"gone.test", 503, ""}, // and here
		} {
			if status, message := call(t, c, r.https(row.host, "/pkg.Service/Call")); status != row.status || message != row.message {
				t.Errorf("%s: %d %q, want %d %q", row.host, status, message, row.status, row.message)
			}
		}
		if r.o.Build.HTTP2Directive { // older ones cannot tell HTTP/2 from HTTP/1.1 in plain text
			if status, message := call(t, c, r.http("plain.test", "/x")); status != 200 || !strings.HasPrefix(message, "0 plain.test") {
				t.Errorf("in plain text: %d %q", status, message)
			}
		}
	})
}

func TestVerifiedUpstreams(t *testing.T) {
	r := newRig(t)
	ca, issue := authority(t)
	r.settings.UpstreamCA = ca
	r.run()
	named := func(certificate string) netip.AddrPort {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, "sni="+req.TLS.ServerName) }))
		s.TLS = issue(certificate)
		s.StartTLS()
		t.Cleanup(s.Close)
		return addrOf(s)
	}
	verify := func(l *nestedLocation) { l.Verify = true }
	asked := func(name string) func(*nestedLocation) { return func(l *nestedLocation) { l.ServerName = name } }
	r.serve(r.tree(
		speaking(site("any.test", named("else.test")), route.HTTPS),
		speaking(site("right.test", named("right.test")), route.HTTPS, verify),
		speaking(site("wrong.test", named("else.test")), route.HTTPS, verify),
		speaking(site("asked.test", named("inner.test")), route.HTTPS, verify, asked("inner.test")),
		speaking(site("self.test", tlsEcho(t)), route.HTTPS, verify),
	))
	for host, want := range map[string]struct {
		status int
		body   string
	}{
		"any.test": {200, "sni=any.test"}, "right.test": {200, "sni=right.test"}, "asked.test": {200, "sni=inner.test"},
		"wrong.test": {502, "does not answer"}, "self.test": {502, "does not answer"},
	} {
		r.expect(r.http(host, "/"), want.status, want.body)
	}
}

func tlsEcho(t *testing.T) netip.AddrPort {
	s := httptest.NewTLSServer(http.HandlerFunc(echo))
	t.Cleanup(s.Close)
	return addrOf(s)
}

// each runs a test with the installed and the newer nginx.
func each(t *testing.T, test func(t *testing.T, r *rig)) {
	nginxtest.Each(t, func(t *testing.T, n nginxtest.Nginx) { test(t, newRigOf(t, n)) })
}

func TestHTTP2ToClients(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		r.run()
		p := writePair(t, "two.test", "one.test")
		two := withTLS(site("two.test", echoServer(t)), p, route.Redirect)
		one := withTLS(site("one.test", echoServer(t)), p, route.Redirect)
		one.Edge.HTTP2 = route.Off
		tree := render(r.settings, r.o.Build, nestedTable{Sites: []nestedSite{two, one}})
		want := "h2 http/1.1"
		if !r.o.Build.HTTP2Directive {
			want = "h2 h2"
			if len(tree.Problems) != 1 || tree.Problems[0].Code != "http2-not-by-site" {
				t.Errorf("problems: %+v", tree.Problems)
			}
		} else if len(tree.Problems) > 0 {
			t.Errorf("problems: %+v", tree.Problems)
		}
		r.serve(tree)
		if got := r.alpn("two.test") + " " + r.alpn("one.test"); got != want {
			t.Errorf("spoken with two.test and one.test: %s, want %s", got, want)
		}
		res, err := r.h2().Get(r.https("two.test", "/x"))
		if err != nil || res.ProtoMajor != 2 || res.StatusCode != 200 {
			t.Errorf("over HTTP/2: %v, %v", res, err)
		}
		r.settings.HTTP2 = false
		r.serve(render(r.settings, r.o.Build, nestedTable{Sites: []nestedSite{two}}))
		if got := r.alpn("two.test"); got != "http/1.1" && got != "" {
			t.Errorf("with nginx.http2=false it speaks %s", got)
		}
		r.expect(r.https("two.test", "/x"), 200, "GET /x")
	})
}

// alpn is the protocol of a site for a client that offers both.
func (r *rig) alpn(host string) string {
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPSPort), &tls.Config{InsecureSkipVerify: true, ServerName: host, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		r.t.Error(err)
		return ""
	}
	defer c.Close()
	return c.ConnectionState().NegotiatedProtocol
}

// echoing is a backend that returns each line of a websocket.
func echoing(t *testing.T, before string) netip.AddrPort {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(c, before+line)
		}
	}))
	t.Cleanup(up.Close)
	return addrOf(up)
}

func TestWebsocketThroughAReload(t *testing.T) {
	r := newRig(t)
	r.run()
	up := echoing(t, "you said ")
	r.serve(r.tree(site("ws.test", up)))
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: ws.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	in := bufio.NewReader(c)
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", res, err)
	}
	for i, tree := range []nginx.Tree{r.tree(site("ws.test", up), site("b.test")), r.tree(site("b.test"))} {
		r.serve(tree)
		io.WriteString(c, "hello\n")
		if line, err := in.ReadString('\n'); line != "you said hello\n" {
			t.Errorf("after reload %d: %q, %v", i+1, line, err)
		}
	}
}

// A client must not speak HTTP/2 with a container over an upgraded connection.
func TestNoUpgradeToPlainHTTP2(t *testing.T) {
	r := newRig(t)
	r.run()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "upgrade=%q connection=%q", req.Header.Get("Upgrade"), req.Header.Get("Connection"))
	}))
	t.Cleanup(up.Close)
	r.serve(r.tree(site("a.test", addrOf(up))))
	for _, row := range [][2]string{{"h2c", `upgrade="" connection=""`}, {"websocket, H2C", `upgrade="" connection=""`}, {"websocket", `upgrade="websocket" connection="upgrade"`}} {
		req := r.request("GET", r.http("a.test", "/"), "")
		req.Header.Set("Upgrade", row[0])
		req.Header.Set("Connection", "Upgrade, HTTP2-Settings")
		req.Header.Set("HTTP2-Settings", "AAMAAABkAAQAAP__")
		if got := r.do(req); got.body != row[1] {
			t.Errorf("Upgrade: %s reaches the container as %s, want %s", row[0], got.body, row[1])
		}
	}
}

// Server-sent events come through one by one, and so does what a client sends.
func TestUnbuffered(t *testing.T) {
	r := newRig(t)
	r.run()
	next := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-req.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(up.Close)
	begun := make(chan string, 1)
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b := make([]byte, 5)
		io.ReadFull(req.Body, b)
		begun <- string(b)
		io.Copy(io.Discard, req.Body)
	}))
	t.Cleanup(down.Close)
	off := func(l *nestedLocation) { l.Buffering = false }
	r.serve(r.tree(speaking(site("events.test", addrOf(up)), route.HTTP, off), speaking(site("up.test", addrOf(down)), route.HTTP, off)))
	res, err := r.client().Get(r.http("events.test", "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := in.ReadString('\n')
		if line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q, %v", i, line, err)
		}
		in.ReadString('\n')
		next <- struct{}{}
	}
	body, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		res, err := r.client().Post(r.http("up.test", "/"), "text/plain", body)
		if err == nil {
			res.Body.Close()
		}
		sent <- err
	}()
	io.WriteString(w, "begin")
	select {
	case got := <-begun:
		if got != "begin" {
			t.Errorf("the container read %q", got)
		}
	case <-time.After(5 * time.Second):
		t.Error("the container saw nothing of a body that is not whole")
	}
	w.Close()
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// A header of 20 kB reaches the client. One that no buffer holds is not said to be silence.
func TestLargeResponseHeader(t *testing.T) { each(t, testLargeResponseHeader) }

func testLargeResponseHeader(t *testing.T, r *rig) {
	r.run()
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n, _ := strconv.Atoi(strings.Trim(req.URL.Path, "/"))
		for range n {
			w.Header().Add("Set-Cookie", strings.Repeat("c", 1000))
		}
	}))
	t.Cleanup(up.Close)
	r.serve(r.tree(site("headers.test", addrOf(up))))
	r.expect(r.http("headers.test", "/20"), 200, "")
	r.expect(r.http("headers.test", "/80"), 502, "cannot be passed on")
	for _, line := range []string{"proxy_buffers 4 8k;", "proxy_busy_buffers_size 16k;", "proxy_buffer_size 128k; proxy_buffers 4 128k;"} {
		r.put("conf.d/sizes.conf", line)
		if s := r.serve(r.tree(site("headers.test", addrOf(up)))); len(s.Problems) > 0 {
			t.Errorf("%s: %+v", line, s.Problems)
		}
	}
	r.expect(r.http("headers.test", "/80"), 200, "")
}

func TestTimeoutAndBodySize(t *testing.T) {
	r := newRig(t)
	r.run()
	release := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/slow" {
			<-release
		}
		n, _ := io.Copy(io.Discard, req.Body)
		fmt.Fprintf(w, "body=%d", n)
	}))
	t.Cleanup(up.Close)
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	limits := func(size int64, timeout time.Duration) func(*nestedLocation) {
		return func(l *nestedLocation) { l.BodySize, l.Timeout = size, timeout }
	}
	r.serve(r.tree(
		speaking(site("small.test", addrOf(up)), route.HTTP, limits(1<<20, time.Second)),
		speaking(site("large.test", addrOf(up)), route.HTTP, limits(20<<20, time.Minute)),
		speaking(site("any.test", addrOf(up)), route.HTTP, limits(0, time.Minute)),
	))
	r.expect(r.http("small.test", "/slow"), 504, "does not answer")
	large := strings.Repeat("x", 20<<20)
	for _, row := range []struct {
		host   string
		size   int
		status int
	}{
		{"small.test", 1 << 20, 200},
		{"small.test", 1<<20 + 1, 413},
		{"large.test", 20 << 20, 200},
		{"any.test", 20 << 20, 200},
	} {
		if got := r.do(r.request("POST", r.http(row.host, "/"), large[:row.size])); got.status != row.status || row.status == 200 && got.body != fmt.Sprintf("body=%d", row.size) {
			t.Errorf("%s, %d bytes: %d %q, want %d", row.host, row.size, got.status, got.body, row.status)
		}
	}
}
