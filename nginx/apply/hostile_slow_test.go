package apply

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
)

// A client that says nothing, or goes on saying it, holds its connection for a minute at most,
// and no path keeps a worker busy.
func TestHostileClientsAreBounded(t *testing.T) {
	t.Parallel() // it waits for a minute, with both at once
	var slow sync.WaitGroup
	all := map[string]*records{}
	for _, n := range []nginxtest.Nginx{nginxtest.Installed(t), nginxtest.Newer(t)} {
		r, c := newRigOf(t, n), &records{}
		r.run()
		r.serve(r.hostileTable(t, c))
		all[n.Name] = c
		body := "POST /p HTTP/1.1\r\nHost: plain.test\r\nContent-Length: 9\r\n\r\nx"
		for name, row := range map[string]struct{ over, sent, again string }{
			"nothing":                       {"", "", ""},
			"a header that goes on":         {"", "GET /h HTTP/1.1\r\nHost: plain.test\r\nX: ", "x"},
			"half a handshake":              {":tls", "\x16\x03\x01\x02\x00\x01", ""},
			"nothing where TLS is":          {":tls", "", ""},
			"a header that goes on, in TLS": {"tls.test", "GET /h HTTP/1.1\r\nHost: tls.test\r\nX: ", "x"},
			"a body that stops":             {"", body, ""},
		} {
			conn := r.dial(t, row.over, "http/1.1")
			io.WriteString(conn, row.sent)
			slow.Go(func() {
				defer conn.Close()
				trickle := time.NewTicker(time.Second)
				defer trickle.Stop()
				over := make(chan string, 1)
				go func() { over <- answers(t, conn) }()
				for {
					select {
					case said := <-over:
						if said != "" && said != "408" {
							t.Errorf("%s nginx, %s: ends with %s", n.Name, name, said)
						}
						return
					case <-trickle.C:
						io.WriteString(conn, row.again)
					}
				}
			})
		}
		r.busy(t)
	}
	slow.Wait()
	for name, c := range all {
		got, _ := c.heard()
		for _, what := range got {
			if strings.HasSuffix(what, " /h") || strings.HasSuffix(what, " /p") {
				t.Errorf("%s nginx: a request that has no end reached a container: %s", name, what)
			}
		}
	}
}

// busy sends paths that expressions could stumble over, and looks at the CPU time of the workers.
func (r *rig) busy(t *testing.T) {
	t.Helper()
	const most = 20 * time.Millisecond // of a request; a few hundred microseconds is usual
	cpu := func() (took time.Duration) {
		for _, pid := range proc.Children(r.last.PID) {
			took += proc.CPUTime(pid)
		}
		return took
	}
	before, requests := cpu(), 0
	for _, piece := range []string{"/.;", "%2f%2e", ";", "/admin;", "/admin/..", "//", "%5c.", "x", "x;", "/."} {
		target := "/" + strings.Repeat(piece, 7900/len(piece))
		conn := r.dial(t, "", "")
		io.WriteString(conn, strings.Repeat(request("plain.test", target)+request("locked.test", target), 20)+ended("locked.test", target))
		said := answers(t, conn)
		conn.Close()
		// nginx gives up an expression that takes long, with 500.
		n := len(strings.Fields(said))
		if n != 41 || strings.Contains(said, "500") {
			t.Errorf("%s…: 41 requests are answered with %s", target[:10], said)
		}
		requests += n
	}
	if took := cpu() - before; took > time.Duration(requests)*most {
		t.Errorf("%d requests took %s of CPU time", requests, took)
	} else {
		t.Logf("%d requests took %s of CPU time", requests, took)
	}
}
