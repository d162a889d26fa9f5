package acme

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// killer is a log whose n-th line ends a context: each request has one, after its answer.
type killer struct {
	slog.Handler
	mu   sync.Mutex
	left int
	kill context.CancelFunc
}

func (k *killer) Enabled(context.Context, slog.Level) bool { return true }

func (k *killer) Handle(context.Context, slog.Record) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left--; k.left == 0 {
		k.kill()
	}
	return nil
}

// An agent is killed after each of its requests in turn; another one, which knows what is in the store, goes on.
// All of them have one account, and run at once.
func TestPebbleOrdersGoOn(t *testing.T) {
	t.Parallel()
	s := startSite(t, testenv.PebbleOptions{Env: []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0"}})
	a := newAccount(t, s)
	for left := 1; left <= 14; left++ {
		t.Run(strconv.Itoa(left), func(t *testing.T) {
			t.Parallel()
			names := []string{"a" + strconv.Itoa(left) + ".example.com", "b.example.com"}
			p, err := s.newCA(t).Begin(t.Context(), a, certs.Order{Names: names}, byHTTP)
			if err != nil {
				t.Fatal(err)
			}
			s.publish(t, p)
			csr := request(t, certs.ECDSA, names)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			killed := s.newCA(t)
			killed.http.Transport.(*transport).log = slog.New(&killer{left: left, kill: cancel})
			if chain, err := killed.Finish(ctx, a, p, csr); err == nil && left < 8 {
				t.Errorf("it was killed and got %q", chain)
			}
			if chain, err := s.newCA(t).Finish(t.Context(), a, p, csr); err != nil {
				t.Errorf("the next one: %v", err)
			} else if diff := cmp.Diff(names, leaf(t, chain).DNSNames); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPebbleRegisters(t *testing.T) {
	t.Parallel()
	mac := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("k\xff", 16)))
	s := startSite(t, testenv.PebbleOptions{Bindings: map[string]string{"kid-1": mac}, Env: []string{"PEBBLE_VA_NOSLEEP=1"}})
	a := keyed(t, s.Directory)
	for _, row := range []struct {
		eab  certs.Binding
		want string
	}{
		{certs.Binding{}, "externalAccountRequired"},
		{certs.Binding{KeyID: "kid-1", MACKey: "?"}, "not in base64url"},
		{certs.Binding{KeyID: "kid-2", MACKey: mac}, "unauthorized"},
		{certs.Binding{KeyID: "kid-1", MACKey: base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("x", 32)))}, "unauthorized"},
	} {
		if _, err := s.newCA(t).Register(t.Context(), a, row.eab); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: %v", row.eab, err)
		}
	}
	// Two agents register one key at once; one of them has the key as another CA prints it.
	std := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k\xff", 16)))
	var got [2]certs.Account
	var wait sync.WaitGroup
	for i, key := range []string{mac, std} {
		wait.Go(func() {
			var err error
			if got[i], err = s.newCA(t).Register(t.Context(), a, certs.Binding{KeyID: "kid-1", MACKey: key}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if got[0].URL == "" || got[0] != got[1] {
		t.Errorf("the accounts are %q and %q", got[0].URL, got[1].URL)
	}
	if again, err := s.newCA(t).Register(t.Context(), a, certs.Binding{}); err != nil || again != got[0] {
		t.Errorf("it has the URL %q: %v", again.URL, err)
	}

	names := []string{"a.example.com"}
	unknown := got[0]
	unknown.URL += "x"
	if _, err := s.newCA(t).Begin(t.Context(), unknown, certs.Order{Names: names}, byHTTP); caError(t, err).Type != certs.AccountDoesNotExist {
		t.Errorf("an account that is not there: %v", err)
	}
	deactivate(t, s, got[0])
	if _, err := s.newCA(t).Register(t.Context(), a, certs.Binding{}); caError(t, err).Type != certs.AccountDeactivated {
		t.Errorf("a deactivated account: %v", err)
	}
}

func TestPebbleRefuses(t *testing.T) {
	t.Parallel()
	s := startSite(t, testenv.PebbleOptions{Env: []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0"}})
	a := newAccount(t, s)
	ca := s.newCA(t)
	_, err := ca.Begin(t.Context(), a, certs.Order{Names: []string{"a.example.com", "www.blocked.example"}}, byHTTP)
	if e := caError(t, err); e.Type != "rejectedIdentifier" || e.Status != http.StatusBadRequest && e.Status != http.StatusForbidden {
		t.Errorf("%d %q: %v", e.Status, e.Type, e)
	}
	_, err = ca.Begin(t.Context(), a, certs.Order{Names: []string{"a.example.com"}, Profile: "long"}, byHTTP)
	if e := caError(t, err); e.Type != certs.ProfileNotOffered || !strings.Contains(e.Detail, `["default" "shortlived" "tlsserver"]`) {
		t.Error(e)
	}
	// One of two names is not answered for.
	names := []string{"a.example.com", "b.example.com"}
	p, err := ca.Begin(t.Context(), a, certs.Order{Names: names}, byHTTP)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range p.Challenges {
		if c.Name == "a.example.com" {
			s.publish(t, certs.Pending{Challenges: []certs.Challenge{c}})
		}
	}
	for range 2 { // the second time it is invalid already
		_, err = ca.Finish(t.Context(), a, p, request(t, certs.ECDSA, names))
		e := caError(t, err)
		if diff := cmp.Diff([]string{"b.example.com"}, e.Names); diff != "" || !e.Over || e.Type != "unauthorized" || !strings.Contains(e.Detail, "b.example.com: ") {
			t.Errorf("over: %v, %q, %v\n%s", e.Over, e.Type, e, diff)
		}
	}
	p.URL += "x"
	if _, err = ca.Finish(t.Context(), a, p, request(t, certs.ECDSA, names)); !caError(t, err).Over {
		t.Errorf("an order that is not there: %v", err)
	}
}

// deactivate does what the operator may have done by other means.
func deactivate(t *testing.T, s *site, a certs.Account) {
	t.Helper()
	acc, err := account(a)
	if err != nil {
		t.Fatal(err)
	}
	acc.Status = acmez.StatusDeactivated
	if err := s.newCA(t).session(t.Context(), 10, func(ctx context.Context, s session) error {
		if _, err := s.GetDirectory(ctx); err != nil {
			return err
		}
		_, err := s.UpdateAccount(ctx, acc)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
