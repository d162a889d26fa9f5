package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// stopNginx ends nginx after its Run has ended.
func (r *rig) stopNginx() {
	r.t.Helper()
	if err := r.o.stop(r.t, context.Background()); err != nil {
		r.t.Error(err)
	}
	if pid := r.find(); pid != 0 {
		r.t.Fatalf("nginx (%d) runs after Stop", pid)
	}
}

// slow starts a server for one request, whose answer takes until release is
// called; arrived is closed when it is there.
func slow(t *testing.T) (s *httptest.Server, arrived <-chan struct{}, release func()) {
	t.Helper()
	here, gate := make(chan struct{}), make(chan struct{})
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(here)
		<-gate
		_, _ = io.WriteString(w, "late")
	}))
	t.Cleanup(s.Close)
	return s, here, func() { close(gate) }
}

// getLater sends a request and delivers the answer when it comes.
func (r *rig) getLater(url string) <-chan answer {
	r.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	got := make(chan answer, 1)
	go func() { got <- r.do(req) }()
	return got
}

func TestStopFinishesRequests(t *testing.T) {
	r := newRig(t)
	r.run()
	s, arrived, release := slow(t)
	pid := r.serve(r.tree(site("a.test", addrOf(s)))).PID
	got := r.getLater(r.http("a.test", "/"))
	<-arrived

	if err := r.o.stop(t, t.Context()); !errors.Is(err, ErrLocked) || r.find() != pid {
		t.Errorf("got %v while an agent works with it, want ErrLocked and nginx untouched", err)
	}
	r.crash()
	stopped := make(chan error, 1)
	go func() { stopped <- r.o.stop(t, context.WithoutCancel(t.Context())) }()
	// The listener is gone when nginx has begun to end.
	for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPPort))
		if err != nil {
			tick.Stop()
			break
		}
		c.Close()
	}
	select {
	case err := <-stopped:
		t.Errorf("Stop returned %v before the request was answered", err)
	default:
	}
	release()
	if a := <-got; a.status != 200 || a.body != "late" {
		t.Errorf("the request that was under way got %d %q", a.status, a.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	r.stopNginx() // once more is no error
}

func TestStopTimeout(t *testing.T) {
	r := newRig(t)
	r.o.StopTimeout = 50 * time.Millisecond
	r.run()
	s, arrived, release := slow(t)
	defer release()
	r.serve(r.tree(site("a.test", addrOf(s))))
	r.getLater(r.http("a.test", "/"))
	<-arrived
	r.crash()
	r.stopNginx()
}
