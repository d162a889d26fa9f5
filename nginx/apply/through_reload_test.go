package apply

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Long connections go on through reloads, also after their route is removed.
func TestLongConnectionsThroughReloads(t *testing.T) { each(t, testLongConnectionsThroughReloads) }

func testLongConnectionsThroughReloads(t *testing.T, r *rig) {
	r.run()
	p := writePair(t, "g.test", "mq.test")
	grpc := withTLS(speaking(site("g.test", grpcServer(t, nil)), route.GRPC), p, route.Redirect)
	tcp, secret := freePort(t), freePort(t)
	streams := []nestedStream{
		{Listen: route.Listen{Protocol: route.TCP, Port: tcp}, Family: "git", Pool: pool(lines(t, "tcp"))},
		{Listen: route.Listen{Protocol: route.TLS, Port: secret}, Family: "mq", Host: "mq.test", Cert: p, Pool: pool(lines(t, "tls"))},
	}
	r.serve(r.table(nestedTable{Sites: []nestedSite{grpc}, Streams: streams}))

	in, out := io.Pipe()
	defer out.Close()
	req, err := http.NewRequest(http.MethodPost, r.https("g.test", "/pkg.Service/Watch"), in)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	c := r.h2()
	c.Timeout = 30 * time.Second
	answers := make(chan *http.Response, 1)
	go func() {
		res, err := c.Do(req)
		if err != nil {
			t.Errorf("gRPC: %v", err)
		}
		answers <- res
	}()
	io.WriteString(out, "0")
	res := <-answers
	if res == nil {
		return
	}
	defer res.Body.Close()
	got := make([]byte, 1)
	if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != "0" {
		t.Fatalf("gRPC: %q, %v before any reload", got, err)
	}
	dial := func(port uint16) net.Conn {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	plain, over := dial(tcp), net.Conn(tls.Client(dial(secret), &tls.Config{InsecureSkipVerify: true}))
	if got := ask(plain, "0") + ", " + ask(over, "0"); got != "tcp: 0, tls: 0" {
		t.Fatalf("%s before any reload", got)
	}
	for i, table := range []nestedTable{
		{Sites: []nestedSite{grpc, site("b.test")}, Streams: streams},
		{Sites: []nestedSite{grpc}, Streams: streams},
		{Sites: []nestedSite{site("b.test")}},
	} {
		r.serve(r.table(table))
		n := fmt.Sprint(i + 1)
		io.WriteString(out, n)
		if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != n {
			t.Errorf("after reload %s gRPC answers %q, %v", n, got, err)
		}
		if got, want := ask(plain, n)+", "+ask(over, n), "tcp: "+n+", tls: "+n; got != want {
			t.Errorf("after reload %s: %s, want %s", n, got, want)
		}
	}
	out.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("gRPC ends with %v, status %q", err, res.Trailer.Get("Grpc-Status"))
	}
}

// Datagrams are answered while nginx reloads. A question that an old worker has taken when
// it retires stays without an answer: nginx ends a UDP session with its worker
// (ngx_stream_proxy_process), and a client that reloads ten times in three seconds meets
// that more than once. A client that asks again gets an answer; and when the
// old workers are gone, every datagram gets one.
func TestDatagramsThroughReloads(t *testing.T) {
	t.Parallel()
	each(t, testDatagramsThroughReloads)
}

func testDatagramsThroughReloads(t *testing.T, r *rig) {
	const reloads, clients, tries = 10, 4, 5
	r.run()
	up := datagrams(t, func(_ net.Addr, b []byte) string { return "re: " + string(b) })
	port := freePort(t)
	dns := pool(up)
	dns.Timeout = time.Second // as long as a session, and so its old worker, is kept
	streams := []nestedStream{{Listen: route.Listen{Protocol: route.UDP, Port: port}, Family: "dns", Pool: dns}}
	r.serve(r.table(nestedTable{Streams: streams}))
	var stop atomic.Bool
	var asked, again atomic.Int32
	var load sync.WaitGroup
	client := func(kept bool) {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		var c net.Conn
		for ; !stop.Load(); <-tick.C {
			if c == nil || !kept {
				var err error
				if c, err = net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port)); err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
			}
			n, answered := asked.Add(1), false
			for try := 0; try < tries && !answered; try++ {
				if try > 0 {
					again.Add(1)
				}
				answered = question(c, n)
			}
			if !answered {
				t.Errorf("question %d was asked %d times and not answered", n, tries)
			}
		}
	}
	for i := range clients {
		load.Go(func() { client(i%2 == 0) })
	}
	for i := range reloads {
		r.serve(r.table(nestedTable{Streams: streams, Sites: []nestedSite{site(fmt.Sprintf("b%d.test", i%2))}}))
	}
	stop.Store(true)
	load.Wait()
	t.Logf("%d of %d questions were asked again in %d reloads", again.Load(), asked.Load(), reloads)
	if most := int32(reloads * clients); again.Load() > most {
		t.Errorf("%d questions were asked again: more than the %d that the retiring workers can have taken", again.Load(), most)
	}
	r.retired()
	c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for n := range int32(100) {
		if !question(c, -n) {
			t.Errorf("question %d was not answered, and nothing reloads", -n)
		}
	}
}

// question asks by a datagram and reports whether its answer came.
func question(c net.Conn, n int32) bool {
	c.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprint(c, n)
	b := make([]byte, 100)
	for {
		k, err := c.Read(b)
		if err != nil {
			return false
		}
		if string(b[:k]) == fmt.Sprintf("re: %d", n) { // and not the late one of a question before
			return true
		}
	}
}

// A websocket goes on without its route, until nginx.shutdown-timeout ends it.
func TestWebsocketEndsWithTheShutdownTimeout(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.settings.ShutdownTimeout = 2 * time.Second
	r.run()
	r.serve(r.tree(site("ws.test", echoing(t, ""))))
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: ws.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	in := bufio.NewReader(c)
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", res, err)
	}
	r.serve(r.tree(site("b.test")))
	io.WriteString(c, "hello\n")
	if line, err := in.ReadString('\n'); line != "hello\n" {
		t.Fatalf("after the reload: %q, %v", line, err)
	}
	if _, err := in.ReadByte(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the websocket is still open: %v", err)
	}
	r.retired()
}
