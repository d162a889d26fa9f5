package stage

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

// counted is what the agent has counted of a host.
func counted(t *testing.T, s *Stage, host string) (c traffic.Host) {
	t.Helper()
	out, code, err := s.CLI(t.Context(), "routes", "--traffic", "--json")
	must(t, err)
	var r traffic.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || r.Unavailable != "" {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	for _, h := range r.Hosts {
		if h.Host == host {
			return h
		}
	}
	return c
}

// askPlain makes requests of a path over plain HTTP, and reads the answers.
func askPlain(t *testing.T, s *Stage, n int, host, path string) {
	t.Helper()
	c, err := s.Client()
	must(t, err)
	defer c.CloseIdleConnections()
	for range n {
		_, _, err := get(t.Context(), c, s.URL(host, path, false))
		must(t, err)
	}
}

// webSocket opens one to a household.
func webSocket(t *testing.T, s *Stage, host string) io.Closer {
	t.Helper()
	c, err := s.Client()
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL(host, "/socket", false), nil)
	must(t, err)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"} {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	must(t, err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	return resp.Body
}

// Every request is counted once, for its host and path, whatever the lines of the log look like, and while the log
// is rotated, containers are replaced and the configuration changes under load.
func TestTraffic(t *testing.T) {
	tcp, _, err := FreePorts()
	must(t, err)
	s := newStage(t, Options{Hosts: []string{"a.test"}})
	must(t, s.StartCloud(t.Context()))
	must(t, s.StartAgent())
	run(t, s, service("alpha", "1", "a.test"))
	run(t, s, Container{
		Name: "shop-" + s.id, Args: []string{"-name", "shop", "-line", ":9000"}, Ports: map[string]string{"8080/tcp": "0", "9000/tcp": "0"},
		Labels: map[string]string{
			"nagaya.web.host": "shop.test", "nagaya.web.port": "8080", "nagaya.api.host": "shop.test", "nagaya.api.port": "8080", "nagaya.api.path": "/api",
			"nagaya.lines.listen": fmt.Sprintf("tcp:%d", tcp), "nagaya.lines.port": "9000",
		},
	})
	run(t, s, Container{
		Name: "bad-" + s.id, Args: []string{"-name", "bad", "-hostile", "reset"}, Ports: map[string]string{"8080/tcp": "0"}, Labels: map[string]string{"nagaya.host": "bad.test"},
	})
	answers(t, s, "a.test", "alpha 1")
	gets(t, s, "shop.test", "/", 200, "shop")
	gets(t, s, "bad.test", "/", 502, "")
	settled(t, s)

	// same waits until what is counted has grown by that much: nginx logs a request after its answer.
	same := func(what string, want uint64, get func() uint64) {
		t.Helper()
		until(t, what, func() error {
			if got := get(); got != want {
				return fmt.Errorf("%d, want %d", got, want)
			}
			return nil
		})
	}
	before, bad, other := counted(t, s, "shop.test"), counted(t, s, "bad.test"), counted(t, s, traffic.Other)
	askPlain(t, s, 100, "shop.test", "/x?y")
	askPlain(t, s, 20, "shop.test", "//x/../api/y")
	askPlain(t, s, 3, "bad.test", "/")
	askPlain(t, s, 5, "nobody.test", "/api")
	socket := webSocket(t, s, "shop.test")
	open := func() uint64 { return uint64(*counted(t, s, "shop.test").Open) }
	same("connections to shop.test while a WebSocket is open", 1, open) // others are kept for a second
	must(t, socket.Close())
	same("connections to shop.test at its end", 0, open)
	for range 4 {
		_, err := says(t.Context(), "tcp", tcp, "hello")
		must(t, err)
	}
	same("requests of shop.test", before.Requests.All()+121, func() uint64 { return counted(t, s, "shop.test").Requests.All() })
	same("those below /api", before.Paths[0].Requests.All()+20, func() uint64 { return counted(t, s, "shop.test").Paths[0].Requests.All() })
	same("ended websockets", before.Websockets+1, func() uint64 { return counted(t, s, "shop.test").Websockets })
	same("failures of bad.test", bad.Failures+3, func() uint64 { return counted(t, s, "bad.test").Failures })
	same("requests for other names", other.Requests.All()+5, func() uint64 { return counted(t, s, traffic.Other).Requests.All() })
	until(t, "connections of the port", func() error {
		st, err := s.Board(t.Context())
		if err == nil && (len(st.Traffic.Streams) != 1 || st.Traffic.Streams[0].Connections != 4 || st.Traffic.Streams[0].Received != 24) {
			err = fmt.Errorf("%+v", st.Traffic.Streams)
		}
		return err
	})
	out, _, err := s.CLI(t.Context(), "routes", "--traffic")
	must(t, err)
	if !strings.Contains(out, "shop.test") || !strings.Contains(out, "/api") || !strings.Contains(out, fmt.Sprintf("tcp:%d", tcp)) {
		t.Error("the table lacks something")
	}
	t.Log("\n" + out)

	all := counted(t, s, "a.test").Requests[1]
	load, end := unbroken(t, s, "a.test", 100)
	rolled(t, s, load)
	rotated(t, s)
	for _, format := range []string{"log-format: json", `log-format: '$status "$host" $request_time'`} {
		must(t, s.WriteConfig("  "+format+"\n"))
		_, _, err := s.CLI(t.Context(), "reload")
		must(t, err)
		settled(t, s)
	}
	result := end()
	same("the requests under load, and the one to see the rotation", all+uint64(result.Requests)+1, func() uint64 { return counted(t, s, "a.test").Requests[1] })
	before = counted(t, s, "shop.test")
	askPlain(t, s, 10, "shop.test", "/")
	same("in a format of the operator's", before.Requests.All()+10, func() uint64 { return counted(t, s, "shop.test").Requests.All() })
}
