package acme

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// liar is a CA that a test makes lie. It checks nothing.
type liar struct {
	base   string // URL
	answer func(w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	requests []string
	order    map[string]any
	auth     map[string]any
	chain    func(csr []byte) string
	csr      []byte
}

var liars atomic.Int32 // each has a directory of its own, as acmez keeps them by URL

// startLiar runs one in the test's bubble.
func startLiar(t *testing.T, names ...string) (*liar, *CA) {
	t.Helper()
	l := &liar{base: fmt.Sprintf("https://ca.test/%d/", liars.Add(1))}
	l.order = map[string]any{
		"status": "pending", "expires": time.Now().Add(time.Hour), "finalize": l.base + "finalize", "certificate": l.base + "cert",
		"identifiers": identifiers(names...), "authorizations": []string{l.base + "auth"},
	}
	l.auth = map[string]any{
		"status": "pending", "identifier": map[string]string{"type": "dns", "value": names[0]},
		"challenges": []any{map[string]any{"type": "http-01", "status": "pending", "url": l.base + "challenge", "token": "tok-en_1"}},
	}
	conns := make(pipe)
	var open atomic.Int32
	server := &http.Server{Handler: l, ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(conns) }()
	t.Cleanup(func() {
		if synctest.Wait(); open.Load() != 0 {
			t.Errorf("%d connections are left open", open.Load())
		}
		server.Close()
		<-done
	})
	ca, err := New(Options{Directory: l.base + "dir", UserAgent: "nagaya/test"})
	if err != nil {
		t.Fatal(err)
	}
	ca.http.Transport.(*transport).base.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		a, b := net.Pipe()
		select {
		case conns <- b:
			return a, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return l, ca
}

func identifiers(names ...string) (all []map[string]string) {
	for _, name := range names {
		all = append(all, map[string]string{"type": "dns", "value": name})
	}
	return all
}

// pipe listens in memory, so that a bubble's clock goes on while nothing happens.
type pipe chan net.Conn

func (p pipe) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipe) Close() error   { close(p); return nil }
func (p pipe) Addr() net.Addr { return &net.UnixAddr{} }

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	l.requests = append(l.requests, what)
	w.Header().Set("Replay-Nonce", fmt.Sprintf("nonce-%d", len(l.requests)))
	body, _ := io.ReadAll(r.Body)
	if l.answer != nil && l.answer(w, r) {
		return
	}
	switch what {
	case "dir":
		put(w, 200, map[string]any{
			"newNonce": l.base + "nonce", "newAccount": l.base + "account", "newOrder": l.base + "orders", "renewalInfo": l.base + "renewal",
			"meta": map[string]any{"profiles": map[string]string{"classic": "", "short": ""}},
		})
	case "nonce":
	case "account":
		w.Header().Set("Location", l.base+"account/1")
		put(w, 201, map[string]any{"status": "valid"})
	case "orders":
		w.Header().Set("Location", l.base+"order")
		put(w, 201, l.order)
	case "order":
		put(w, 200, l.order)
	case "auth":
		put(w, 200, l.auth)
	case "challenge":
		l.order["status"] = "ready"
		put(w, 200, map[string]any{"type": "http-01", "status": "processing"})
	case "finalize":
		var jws struct{ Payload string }
		_ = json.Unmarshal(body, &jws)
		text, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
		var payload struct{ CSR string }
		_ = json.Unmarshal(text, &payload)
		l.csr, _ = base64.RawURLEncoding.DecodeString(payload.CSR)
		l.order["status"] = "valid"
		put(w, 200, l.order)
	case "cert":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		fmt.Fprint(w, l.chain(l.csr))
	default:
		problem(w, 404, "malformed", "there is no "+what)
	}
}

// asked are the requests that it got. One that hangs keeps the lock until its connection has ended.
func (l *liar) asked() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests)
}

func put(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func problem(w http.ResponseWriter, status int, kind, detail string) bool {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "urn:ietf:params:acme:error:" + kind, "status": status, "detail": detail})
	return true
}

func caError(t *testing.T, err error) *certs.CAError {
	t.Helper()
	e, ok := errors.AsType[*certs.CAError](err)
	if !ok {
		t.Fatalf("%v is no CAError", err)
	}
	return e
}
