package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// script answers attempts by the time since it was made, and counts them.
type script struct {
	mu    sync.Mutex
	start time.Time
	tries []time.Duration
	at    func(since time.Duration) Outcome
}

func (s *script) try(context.Context, route.Probe) Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := time.Since(s.start)
	s.tries = append(s.tries, since)
	return s.at(since)
}

var (
	yes     = Outcome{OK: true, Answered: true}
	refused = Outcome{Detail: "connection refused"}
	status5 = Outcome{Answered: true, Detail: "status 503"}
	tcp     = route.Probe{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Container: "a"}
	health  = route.Probe{Addr: netip.MustParseAddrPort("10.0.0.1:80"), Container: "a", Path: "/h", Scheme: route.HTTP}
)

// states runs one probe for d and returns the states that were put, with the
// second in which each came.
func states(t *testing.T, p route.Probe, d time.Duration, at func(time.Duration) Outcome) (got []string, tries []time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &script{start: time.Now(), at: at}
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		wanted := make(chan []route.Probe, 1)
		wanted <- []route.Probe{p}
		err := Run(ctx, Options{Try: s.try}, wanted, func(r route.Reach) {
			got = append(got, fmt.Sprintf("%d %s %s", int(time.Since(s.start).Seconds()), r[p].State, r[p].Detail))
		})
		if err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
		tries = s.tries
	})
	return got, tries
}

func TestStates(t *testing.T) {
	tests := []struct {
		name  string
		probe route.Probe
		at    func(time.Duration) Outcome
		want  []string
	}{
		{
			name: "connects at once and is not tried again", probe: tcp,
			at: func(since time.Duration) Outcome {
				if since > 0 {
					return refused
				}
				return yes
			},
			want: []string{"0 reachable "},
		},
		{
			name: "connects later", probe: tcp,
			at: func(since time.Duration) Outcome {
				if since < 3*time.Second {
					return refused
				}
				return yes
			},
			want: []string{"0 unreachable connection refused", "3 reachable "},
		},
		{
			name: "a path that fails once is forgiven, twice is not", probe: health,
			at: func(since time.Duration) Outcome {
				switch s := since.Seconds(); {
				case s == 5, s >= 11 && s < 17:
					return status5
				}
				return yes
			},
			// Good at 0, bad at 5, good at 6, bad at 11 and 12, and from 17 on good.
			want: []string{"0 reachable ", "12 failing status 503", "17 reachable "},
		},
		{
			name: "a path that stops answering is failing, not gone", probe: health,
			at: func(since time.Duration) Outcome {
				if since > 0 {
					return refused
				}
				return yes
			},
			want: []string{"0 reachable ", "6 failing connection refused"},
		},
		{
			name: "a path that never was good", probe: health,
			at: func(since time.Duration) Outcome {
				if since < time.Second {
					return refused
				}
				return status5
			},
			want: []string{"0 unreachable connection refused", "1 failing status 503"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := states(t, tt.probe, time.Minute, tt.at)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("states (-want +got):\n%s", d)
			}
		})
	}
}

func TestPace(t *testing.T) {
	_, tries := states(t, tcp, 10*time.Minute, func(time.Duration) Outcome { return refused })
	count := func(from, to time.Duration) (n int) {
		for _, at := range tries {
			if at >= from && at < to {
				n++
			}
		}
		return n
	}
	if got := count(0, 250*time.Millisecond); got != 50 {
		t.Errorf("%d attempts in the first 250 ms, want 50", got)
	}
	for i, at := range tries[1:] { // what begins to listen is found in time
		if gap := at - tries[i]; gap > max(tries[i]/50, shortest) {
			t.Errorf("a pause of %s after %s", gap, tries[i])
		}
	}
	if got := count(250*time.Millisecond, 10*time.Second); got > 200 {
		t.Errorf("%d attempts until ten seconds are over, want fewer than 200", got)
	}
	if got := count(9*time.Minute, 10*time.Minute); got > 13 {
		t.Errorf("%d attempts in the tenth minute, want one in five seconds", got)
	}
}

func TestWhatIsNotWantedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wanted := make(chan []route.Probe)
		var last route.Reach
		s := &script{start: time.Now(), at: func(time.Duration) Outcome { return yes }}
		done := make(chan error)
		go func() {
			done <- Run(ctx, Options{Try: s.try}, wanted, func(r route.Reach) { last = r })
		}()
		wanted <- []route.Probe{tcp}
		synctest.Wait()
		anew := tcp
		anew.Started = time.Unix(1, 0)
		wanted <- []route.Probe{anew}
		synctest.Wait()
		if _, ok := last[tcp]; ok || last[anew].State != route.Reachable {
			t.Errorf("reach = %v, want only the new one", last)
		}
		wanted <- []route.Probe{tcp}
		synctest.Wait()
		if len(s.tries) != 3 {
			t.Errorf("%d attempts, want 3: what came back must prove itself again", len(s.tries))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A container of a stranger may ask for many probes, none of which it answers. Others do not wait for them.
func TestOneThatDoesNotAnswerHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		victim := route.Probe{Container: "victim", Addr: tcp.Addr}
		var ps []route.Probe
		for i := range 128 {
			ps = append(ps, route.Probe{Container: "evil", Path: fmt.Sprintf("/%d", i)})
		}
		try := func(ctx context.Context, p route.Probe) Outcome {
			if p == victim {
				return yes
			}
			time.Sleep(getTimeout)
			return Outcome{Detail: "no answer in 3s"}
		}
		wanted := make(chan []route.Probe, 1)
		wanted <- ps
		var asked, found time.Time
		go func() {
			time.Sleep(100 * time.Millisecond)
			asked = time.Now()
			wanted <- append([]route.Probe{victim}, ps...)
		}()
		if err := Run(ctx, Options{Try: try}, wanted, func(r route.Reach) {
			if r[victim].State == route.Reachable && found.IsZero() {
				found = time.Now()
			}
		}); err != nil {
			t.Error(err)
		}
		if took := found.Sub(asked); took != 0 {
			t.Errorf("the other one was found after %s", took)
		}
	})
}

func TestSlotsBoundTheAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var mu sync.Mutex
		running, most := 0, 0
		try := func(ctx context.Context, _ route.Probe) Outcome {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-ctx.Done()
			mu.Lock()
			running--
			mu.Unlock()
			return refused
		}
		var ps []route.Probe
		for i := range slots + 100 {
			ps = append(ps, route.Probe{Container: fmt.Sprint(i)})
		}
		wanted := make(chan []route.Probe, 1)
		wanted <- ps
		if err := Run(ctx, Options{Try: try}, wanted, func(route.Reach) {}); err != nil {
			t.Error(err)
		}
		if most != slots || running != 0 {
			t.Errorf("%d attempts side by side and %d left over, want %d and 0", most, running, slots)
		}
	})
}

func TestAttempt(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/bad":
			w.WriteHeader(500)
		case r.URL.Path == "/large":
			w.Header().Set("Link", strings.Repeat("x", 40<<10))
		case r.URL.Path == "/endless":
			w.Header().Set("Link", strings.Repeat("x", 200<<10))
		case r.URL.Path == "/moved":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case r.Host != "a.example.com":
			w.WriteHeader(421)
		}
	})
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	defer plain.Close()
	defer secure.Close()
	addr := func(url string) netip.AddrPort {
		return netip.MustParseAddrPort(url[strings.LastIndex(url, "/")+1:])
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := netip.MustParseAddrPort(l.Addr().String())
	l.Close()

	at := func(a netip.AddrPort, scheme route.Scheme, path string) route.Probe {
		return route.Probe{Addr: a, Scheme: scheme, Path: path, Host: "a.example.com"}
	}
	tests := []struct {
		name  string
		probe route.Probe
		want  Outcome
	}{
		{"tcp", route.Probe{Addr: addr(plain.URL)}, Outcome{OK: true}},
		{"tcp refused", route.Probe{Addr: closed}, refused},
		{"http", at(addr(plain.URL), route.HTTP, "/ok"), yes},
		{"http status", at(addr(plain.URL), route.HTTP, "/bad"), Outcome{Answered: true, Detail: "status 500"}},
		{"a redirect is an answer", at(addr(plain.URL), route.HTTP, "/moved"), yes},
		{"a header of 40 KiB", at(addr(plain.URL), route.HTTP, "/large"), yes},
		{"a header of 200 KiB", at(addr(plain.URL), route.HTTP, "/endless"), Outcome{Detail: "no answer that can be understood"}},
		{"http refused", at(closed, route.HTTP, "/ok"), refused},
		{"https with a certificate of its own making", at(addr(secure.URL), route.HTTPS, "/ok"), yes},
		{"https to http", at(addr(plain.URL), route.HTTPS, "/ok"), Outcome{Detail: "it does not speak TLS"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Attempt(t.Context(), tt.probe); got != tt.want {
				t.Errorf("Attempt = %+v, want %+v", got, tt.want)
			}
		})
	}
}

// What answers a request for HTTP or HTTPS with something else is said by how it begins; who is
// slow, or odd, is not judged.
func TestWhatIsSpoken(t *testing.T) {
	serves := func(say string) netip.AddrPort {
		return testenv.Accept(t, func(c net.Conn) {
			c.Read(make([]byte, 1))
			fmt.Fprint(c, say)
		})
	}
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	plain, secure := httptest.NewServer(ok), httptest.NewTLSServer(ok)
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	alert := "\x15\x03\x01\x00\x02\x02\x46"
	for name, row := range map[string]struct {
		at     netip.AddrPort
		scheme route.Scheme
		want   string
	}{
		"ssh":                  {serves("SSH-2.0-OpenSSH_9.2p1\r\n"), route.HTTP, "SSH-2.0-OpenSSH_9.2p1\r\n"},
		"mysql":                {serves("J\x00\x00\x00\n8.0.36\x00"), route.HTTP, "J\x00\x00\x00\n8.0.36\x00"},
		"TLS at a plain port":  {serves(alert), route.HTTP, alert},
		"no more than this":    {serves(strings.Repeat("x", 1000)), route.HTTP, strings.Repeat("x", 48)},
		"http":                 {netip.MustParseAddrPort(plain.Listener.Addr().String()), route.HTTP, ""},
		"TLS that explains":    {netip.MustParseAddrPort(secure.Listener.Addr().String()), route.HTTP, ""},
		"an error":             {serves("HTTP/1.0 500 x\r\n"), route.HTTP, ""},
		"the beginning of one": {serves("HTT"), route.HTTP, ""},
		"nothing":              {serves(""), route.HTTP, ""},
		"https":                {netip.MustParseAddrPort(secure.Listener.Addr().String()), route.HTTPS, ""},
		"http for https":       {netip.MustParseAddrPort(plain.Listener.Addr().String()), route.HTTPS, "HTTP/"},
		"ssh for https":        {serves("SSH-2.0-OpenSSH_9.2p1\r\n"), route.HTTPS, "SSH-2"},
	} {
		if got := Said(t.Context(), route.Probe{Addr: row.at, Scheme: row.scheme}); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

// A container is routed as soon as it connects, and then asked what it speaks, once.
func TestALookHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start, looks := time.Now(), 0
		look := func(context.Context, route.Probe) string {
			looks++
			time.Sleep(4 * time.Second)
			return "SSH-2.0"
		}
		p := route.Probe{Addr: tcp.Addr, Scheme: route.HTTP}
		wanted := make(chan []route.Probe, 1)
		wanted <- []route.Probe{p}
		var got []string
		put := func(r route.Reach) {
			got = append(got, fmt.Sprintf("%d %s %s", int(time.Since(start).Seconds()), r[p].State, r[p].Said))
		}
		if err := Run(ctx, Options{Try: func(context.Context, route.Probe) Outcome { return yes }, Look: look}, wanted, put); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]string{"0 reachable ", "4 reachable SSH-2.0"}, got); d != "" || looks != 1 {
			t.Errorf("%d looks; states (-want +got):\n%s", looks, d)
		}
	})
}
