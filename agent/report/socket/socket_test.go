package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// patience bounds every wait of these tests; none is meant to take it.
const patience = 20 * time.Second

// pretended is an agent that answers what the test wants.
type pretended struct {
	status report.Status
	ask    func(address.Request) error
	reload func() error
	leave  func(bool) error
	job    func(context.Context, gate.Asked) (gate.Entry, error)
}

func (p pretended) Status() report.Status { return p.status }
func (p pretended) Renew(_ context.Context, host string) error {
	if host != "a.test" {
		return errors.New(host + " is not known")
	}
	return nil
}

func (p pretended) Address(_ context.Context, r address.Request) error { return p.ask(r) }
func (p pretended) Leave(_ context.Context, yes bool) error            { return p.leave(yes) }
func (p pretended) Reload() error                                      { return p.reload() }

func (p pretended) Job(ctx context.Context, a gate.Asked) (gate.Entry, error) { return p.job(ctx, a) }

// serve answers on a real socket until the test ends or stop is called, which
// returns what Serve returned.
func serve(t *testing.T, a Agent) (path string, stop func() error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, a) }()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("Serve does not end")
		}
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return path, stop
}

func TestRoundTrip(t *testing.T) {
	want := report.Status{Version: "1.2.3", PID: 7, StartedAt: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	var heard gate.Asked
	var requests []address.Request
	var left []bool
	a := pretended{
		status: want,
		ask:    func(w address.Request) error { requests = append(requests, w); return nil },
		leave:  func(yes bool) error { left = append(left, yes); return nil },
		job: func(_ context.Context, asked gate.Asked) (gate.Entry, error) {
			heard = asked
			return gate.Entry{Job: asked.Job, Phase: gate.Admitted, Reason: "there is room"}, nil
		},
	}
	path, _ := serve(t, a)
	c := Dial(path)
	got, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); d != "" {
		t.Errorf("status (-want +got):\n%s", d)
	}
	for _, w := range []address.Request{{}, {Claim: "tag:a=b c%/d", Release: true, Now: true}} {
		if err := c.Address(t.Context(), w); err != nil || requests[len(requests)-1] != w {
			t.Errorf("request %+v: the agent heard %+v, %v", w, requests, err)
		}
	}
	for _, yes := range []bool{true, false} {
		if err := c.Leave(t.Context(), yes); err != nil || left[len(left)-1] != yes {
			t.Errorf("leave %v: the agent heard %v, %v", yes, left, err)
		}
	}
	asked := gate.Asked{
		Job:   gate.Job{ID: "a/b?c d%", Name: "report", Need: 12.5, Cores: 1, Deadline: want.StartedAt, Late: gate.LateRefuse},
		State: gate.Running, Spent: 1.25,
	}
	e, err := c.Job(t.Context(), asked, time.Second)
	if err != nil || e.Phase != gate.Admitted || e.Reason != "there is room" || e.Job != asked.Job {
		t.Errorf("job %+v, %v", e, err)
	}
	if d := cmp.Diff(asked, heard); d != "" {
		t.Errorf("the agent heard another job (-said +heard):\n%s", d)
	}
}

func TestErrorsOfTheAgent(t *testing.T) {
	path, _ := serve(t, pretended{
		ask:    func(address.Request) error { return errors.New("no address is claimed") },
		reload: func() error { return errors.New("log-level: no such word") },
		job: func(context.Context, gate.Asked) (gate.Entry, error) {
			return gate.Entry{}, errors.New("name must be there")
		},
	})
	c := Dial(path)
	if err := c.Address(t.Context(), address.Request{}); err == nil || err.Error() != "no address is claimed" {
		t.Errorf("claim: %v", err)
	}
	if err := c.Reload(t.Context()); err == nil || err.Error() != "log-level: no such word" {
		t.Errorf("reload: %v", err)
	}
	if _, err := c.Job(t.Context(), gate.Asked{Job: gate.Job{ID: "x"}}, 0); err == nil || err.Error() != "name must be there" {
		t.Errorf("job: %v", err)
	}
}

// An agent that takes a change up by itself has no socket for a moment, in which it is asked to.
func TestTheSocketIsMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c, came := Dial(path), make(chan struct{}, 1000)
	dial := c.http.Transport.(*http.Transport).DialContext
	c.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer func() { came <- struct{}{} }()
		return dial(ctx, network, addr)
	}
	outcome := make(chan error, 1)
	go func() { outcome <- c.Reload(t.Context()) }()
	<-came // there is none
	rude, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := rude.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close() // by the agent that ends its work
	rude.Close()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, pretended{reload: func() error { return nil }}) }()
	if err := <-outcome; err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// hungUp is a connection that the agent has closed before it was asked anything.
type hungUp struct{ net.Conn }

func (hungUp) Write([]byte) (int, error) { return 0, &net.OpError{Op: "write", Err: syscall.EPIPE} }

func TestAnAgentThatHangsUpIsAskedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = Serve(t.Context(), l, pretended{reload: func() error { return nil }}) }()
	c, dials := Dial(path), 0
	dial := c.http.Transport.(*http.Transport).DialContext
	c.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if dials++; dials == 1 && err == nil {
			conn = hungUp{conn}
		}
		return conn, err
	}
	if err := c.Reload(t.Context()); err != nil || dials < 2 {
		t.Errorf("after %d attempts: %v", dials, err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	c := Dial(filepath.Join(dir, "absent"))
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoAgent) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("absent socket: %v", err)
	}
	// Something that listens and hangs up is no agent either.
	path := filepath.Join(dir, "rude")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	testenv.AcceptFrom(t, l, func(net.Conn) {})
	if _, err := Dial(path).Status(t.Context()); !errors.Is(err, ErrNoAgent) {
		t.Errorf("rude socket: %v", err)
	}
	// systemd holds the socket of an agent that does not come.
	held, err := net.Listen("unix", filepath.Join(dir, "held"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	c = Dial(filepath.Join(dir, "held"))
	c.patience = 10 * time.Millisecond
	for what, ask := range map[string]func() error{
		"status":  func() error { _, err := c.Status(t.Context()); return err },
		"reload":  func() error { return c.Reload(t.Context()) },
		"address": func() error { return c.Address(t.Context(), address.Request{}) },
		"job":     func() error { _, err := c.Job(t.Context(), gate.Asked{}, time.Millisecond); return err },
	} {
		if err := ask(); !errors.Is(err, ErrNoAgent) || !strings.Contains(err.Error(), "within 1") {
			t.Errorf("%s of an agent that does not come: %v", what, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A job that waits is held for the patience that it named, and for no longer than
// the agent allows.
func TestPatience(t *testing.T) {
	deadlines := make(chan time.Duration, 1)
	path, _ := serve(t, pretended{job: func(ctx context.Context, a gate.Asked) (gate.Entry, error) {
		end, ok := ctx.Deadline()
		if !ok {
			return gate.Entry{}, errors.New("no deadline")
		}
		deadlines <- time.Until(end)
		return gate.Entry{Phase: gate.Waiting}, nil
	}})
	c := Dial(path)
	for _, row := range []struct{ ask, most time.Duration }{
		{0, 0}, {10 * time.Second, 10 * time.Second}, {maxPatience, maxPatience}, {time.Hour, maxPatience},
	} {
		if _, err := c.Job(t.Context(), gate.Asked{Job: gate.Job{ID: "x"}}, row.ask); err != nil {
			t.Fatal(err)
		}
		if got := <-deadlines; got > row.most || got < row.most-patience/2 {
			t.Errorf("patience of %s gives %s, want at most %s", row.ask, got, row.most)
		}
	}
	if maxPatience >= gate.Silence {
		t.Errorf("a job may be held for %s, and is forgotten after %s of silence", maxPatience, gate.Silence)
	}
}

// A question that is held open ends with the agent, and with its asker.
func TestHeldQuestionsEnd(t *testing.T) {
	held, let := make(chan struct{}), make(chan struct{})
	a := pretended{job: func(ctx context.Context, a gate.Asked) (gate.Entry, error) {
		held <- struct{}{}
		<-ctx.Done()
		close(let)
		return gate.Entry{Phase: gate.Waiting, Reason: "not yet"}, nil
	}}
	path, stop := serve(t, a)
	answered := make(chan error, 1)
	go func() {
		e, err := Dial(path).Job(t.Context(), gate.Asked{Job: gate.Job{ID: "x"}}, time.Hour)
		if err == nil && e.Reason != "not yet" {
			err = errors.New("another answer: " + e.Reason)
		}
		answered <- err
	}()
	<-held
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the agent's end: %v; want the last answer", err)
	}

	let = make(chan struct{})
	path, _ = serve(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := Dial(path).Job(ctx, gate.Asked{Job: gate.Job{ID: "x"}}, time.Hour)
		answered <- err
	}()
	<-held
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("the asker's end: %v", err)
	}
	select {
	case <-let:
	case <-time.After(patience):
		t.Error("the question is held although its asker went away")
	}
}

// ask makes one plain request.
func ask(t *testing.T, path, method, url string, body io.Reader) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://agent"+url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := Dial(path).http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestWhatIsRefused(t *testing.T) {
	path, _ := serve(t, pretended{
		ask: func(address.Request) error { return nil },
		job: func(_ context.Context, a gate.Asked) (gate.Entry, error) {
			return gate.Entry{Job: a.Job, Phase: gate.Waiting}, nil
		},
	})
	good := `{"name": "report", "state": "waiting"}`
	long := `{"name": "` + strings.Repeat("x", maxBody) + `", "state": "waiting"}`
	for _, row := range []struct {
		name, method, url, body string
		status                  int
		say                     string
	}{
		{"a job", "PUT", "/v1/jobs/x", good, 200, `"id":"x"`},
		{"the id of the path counts", "PUT", "/v1/jobs/x", `{"id": "y", "name": "r", "state": "waiting"}`, 200, `"id":"x"`},
		{"an unknown field", "PUT", "/v1/jobs/x", `{"name": "report", "root": true}`, 409, `unknown field \"root\"`},
		{"no JSON", "PUT", "/v1/jobs/x", `name=report`, 409, "reading the job"},
		{"nothing", "PUT", "/v1/jobs/x", "", 409, "reading the job"},
		{"more than one", "PUT", "/v1/jobs/x", good + good, 409, "reading the job"},
		{"too long", "PUT", "/v1/jobs/x", long, 409, "too large"},
		{"compressed", "PUT", "/v1/jobs/x", "\x1f\x8b\x08" + long, 409, "invalid character"},
		{"a strange patience", "PUT", "/v1/jobs/x?wait=soon", good, 409, "not a duration"},
		{"a patience of less than none", "PUT", "/v1/jobs/x?wait=-1s", good, 409, "not a duration"},
		{"another method", "DELETE", "/v1/status", "", 405, ""},
		{"a job by POST", "POST", "/v1/jobs/x", good, 405, ""},
		{"a reload by GET", "GET", "/v1/reload", "", 405, ""},
		{"a claim by GET", "GET", "/v1/address", "", 405, ""},
		{"a request without words", "POST", "/v1/address", "", 409, "reading the request"},
		{"a request with an unknown field", "POST", "/v1/address", `{"force": true}`, 409, `unknown field \"force\"`},
		{"leaving by POST", "POST", "/v1/leaving", "", 405, ""},
		{"another path", "GET", "/", "", 404, ""},
	} {
		status, body := ask(t, path, row.method, row.url, strings.NewReader(row.body))
		if status != row.status || !strings.Contains(body, row.say) {
			t.Errorf("%s: status %d, %s; want %d and %q", row.name, status, body, row.status, row.say)
		}
		var f failure
		if status == http.StatusConflict && (json.Unmarshal([]byte(body), &f) != nil || f.Error == "") {
			t.Errorf("%s: the error is not JSON: %s", row.name, body)
		}
	}
}

// A client is not filled up by whatever answers on the socket.
func TestEndlessAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		junk := bytes.Repeat([]byte(" "), 1<<20)
		for range 64 {
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	})}
	defer s.Close()
	go func() { _ = s.Serve(l) }()
	if _, err := Dial(path).Status(t.Context()); err == nil {
		t.Error("an endless answer was taken for a status")
	}
}

// Who may open the socket sees the status and starts batches; the address and the configuration are
// for root and the agent's user.
func TestOthersChangeNothing(t *testing.T) {
	testenv.NeedRoot(t)
	a := pretended{
		job: func(_ context.Context, a gate.Asked) (gate.Entry, error) {
			return gate.Entry{Job: a.Job, Phase: gate.Admitted}, nil
		},
		ask:    func(address.Request) error { return nil },
		reload: func() error { return nil },
		leave:  func(bool) error { return nil },
	}
	path, _ := serve(t, a)
	for at, mode := range map[string]os.FileMode{path: 0o666, filepath.Dir(path): 0o755, filepath.Dir(filepath.Dir(path)): 0o755} { // as for a member of its group
		if err := os.Chmod(at, mode); err != nil {
			t.Fatal(err)
		}
	}
	c := Dial(path)
	c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		type dialled struct {
			conn net.Conn
			err  error
		}
		result := make(chan dialled)
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with this
			if _, _, no := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); no != 0 {
				result <- dialled{nil, no}
				return
			}
			conn, err := net.Dial("unix", path)
			result <- dialled{conn, err}
		}()
		d := <-result
		return d.conn, d.err
	}
	ask := gate.Asked{Job: gate.Job{ID: "a-1", Name: "a"}, State: gate.Waiting}
	for what, row := range map[string]struct {
		do  func(*Client) error
		may bool
	}{
		"status":  {func(c *Client) error { _, err := c.Status(t.Context()); return err }, true},
		"job":     {func(c *Client) error { _, err := c.Job(t.Context(), ask, 0); return err }, true},
		"address": {func(c *Client) error { return c.Address(t.Context(), address.Request{}) }, false},
		"renew":   {func(c *Client) error { return c.Renew(t.Context(), "a.test") }, false},
		"reload":  {func(c *Client) error { return c.Reload(t.Context()) }, false},
		"leave":   {func(c *Client) error { return c.Leave(t.Context(), true) }, false},
		"stay":    {func(c *Client) error { return c.Leave(t.Context(), false) }, false},
	} {
		if err := row.do(c); (err == nil) != row.may || err != nil && !strings.Contains(err.Error(), "only root") {
			t.Errorf("%s by another user: %v", what, err)
		}
		if err := row.do(Dial(path)); err != nil {
			t.Errorf("%s by root: %v", what, err)
		}
	}
}
