package acme

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// site answers HTTP-01 and DNS-01 for a Pebble.
type site struct {
	*testenv.Pebble
	mu      sync.Mutex
	answers map[string]string
}

func startSite(t *testing.T, o testenv.PebbleOptions) *site {
	t.Helper()
	s := &site{Pebble: testenv.StartPebble(t, o), answers: map[string]string{}}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", s.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprint(w, s.answers[strings.TrimPrefix(r.URL.Path, "/.well-known/acme-challenge/")])
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return s
}

func (s *site) publish(t *testing.T, p certs.Pending) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range p.Challenges {
		switch c.Type {
		case certs.HTTP01:
			s.answers[c.Token] = c.Answer
		case certs.DNS01:
			s.AddTXT(t, c.Record, c.Value)
		}
	}
}

// newCA is one of an agent; several have nothing in common.
func (s *site) newCA(t *testing.T) *CA {
	t.Helper()
	ca, err := New(Options{Directory: s.Directory, RootsFile: s.Roots, UserAgent: "nagaya/test"})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newAccount(t *testing.T, s *site) certs.Account {
	t.Helper()
	a, err := s.newCA(t).Register(t.Context(), keyed(t, s.Directory), certs.Binding{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func keyed(t *testing.T, directory string) certs.Account {
	t.Helper()
	key, err := NewKey(certs.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	return certs.Account{Directory: directory, Email: "ops@example.com", Key: key}
}

func byHTTP(string) []string { return []string{certs.HTTP01, certs.DNS01} }
func byDNS(string) []string  { return []string{certs.DNS01} }

// issue orders a certificate, each step by an agent of its own, as if the one before had been killed.
func (s *site) issue(t *testing.T, a certs.Account, o certs.Order, kind certs.KeyType, kinds func(string) []string) string {
	t.Helper()
	p, err := s.newCA(t).Begin(t.Context(), a, o, kinds)
	if err != nil {
		t.Fatal(err)
	}
	s.publish(t, p)
	csr := request(t, kind, o.Names)
	chain, err := s.newCA(t).Finish(t.Context(), a, p, csr)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.newCA(t).Finish(t.Context(), a, p, csr)
	if err != nil || again != chain {
		t.Errorf("a finished order gives another chain, or none: %v", err)
	}
	return chain
}

func request(t *testing.T, kind certs.KeyType, names []string) []byte {
	t.Helper()
	key, err := NewKey(kind)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewRequest(key, names)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func leaf(t *testing.T, chain string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(chain))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestPebbleIssues(t *testing.T) {
	t.Parallel()
	s := startSite(t, testenv.PebbleOptions{Env: []string{"PEBBLE_WFE_NONCEREJECT=15"}})
	a := newAccount(t, s)
	root, err := os.ReadFile(s.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	issuer := x509.NewCertPool()
	issuer.AppendCertsFromPEM(root)
	for _, row := range []struct {
		name    string
		names   []string
		profile string
		kind    certs.KeyType
		kinds   func(string) []string
		life    time.Duration // 0 is that of any profile
	}{
		{"one name", []string{"a.example.com"}, "", certs.ECDSA, byHTTP, 0},
		{"several", []string{"a.example.com", "b.example.com", "c.example.com"}, "tlsserver", certs.RSA, byHTTP, 45 * 24 * time.Hour},
		{"apex and wildcard", []string{"*.example.com", "example.com"}, "default", certs.ECDSA, byDNS, 90 * 24 * time.Hour},
		{"an address", []string{"127.0.0.1"}, "shortlived", certs.ECDSA, byHTTP, 160 * time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			chain := s.issue(t, a, certs.Order{Names: row.names, Profile: row.profile}, row.kind, row.kinds)
			c := leaf(t, chain)
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM([]byte(chain))
			for _, name := range row.names {
				if strings.HasPrefix(name, "*.") {
					name = "x" + name[1:]
				}
				if _, err := c.Verify(x509.VerifyOptions{DNSName: name, Roots: issuer, Intermediates: pool}); err != nil {
					t.Error(err)
				}
			}
			if life := c.NotAfter.Sub(c.NotBefore).Round(time.Hour); row.life != 0 && life != row.life {
				t.Errorf("it is valid for %s", life)
			}
		})
	}
}

func TestPebbleRenews(t *testing.T) {
	t.Parallel()
	s := startSite(t, testenv.PebbleOptions{Env: []string{"PEBBLE_VA_NOSLEEP=1"}})
	a := newAccount(t, s)
	names := []string{"a.example.com"}
	chain := s.issue(t, a, certs.Order{Names: names}, certs.ECDSA, byHTTP)
	id, err := acmez.ARIUniqueIdentifier(leaf(t, chain))
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.newCA(t).Renewal(t.Context(), id)
	if err != nil || !w.Supported || !w.Start.Before(w.End) || w.End.After(leaf(t, chain).NotAfter) {
		t.Fatalf("the window is %+v: %v", w, err)
	}
	if in := time.Until(w.Again); in < 5*time.Hour || in > 6*time.Hour { // as Pebble says
		t.Errorf("it is asked again in %s", in)
	}
	from := time.Now().Add(-time.Hour).Truncate(time.Second)
	s.SetRenewal(t, chain, from, from.Add(time.Minute))
	w, err = s.newCA(t).Renewal(t.Context(), id)
	if diff := cmp.Diff(certs.Window{Start: from, End: from.Add(time.Minute), Supported: true}, w, cmpopts.IgnoreFields(certs.Window{}, "Again")); diff != "" || err != nil {
		t.Errorf("the window that was set: %v\n%s", err, diff)
	}
	s.SetRenewalAnswer(t, chain, `{`)
	if w, err = s.newCA(t).Renewal(t.Context(), id); err == nil {
		t.Errorf("what is no JSON is %+v", w)
	}

	renewal := certs.Order{Names: names, Replaces: id}
	s.issue(t, a, renewal, certs.ECDSA, byHTTP)
	_, err = s.newCA(t).Begin(t.Context(), a, renewal, byHTTP)
	if e, ok := errors.AsType[*certs.CAError](err); !ok || e.Type != certs.AlreadyReplaced || e.Status != http.StatusConflict {
		t.Errorf("a certificate that is replaced: %v", err)
	}

	other := startSite(t, testenv.PebbleOptions{Env: []string{"PEBBLE_VA_NOSLEEP=1"}})
	if w, err = other.newCA(t).Renewal(t.Context(), id); err != nil || w.Supported {
		t.Errorf("a CA that does not know the certificate: %+v, %v", w, err)
	}
}
