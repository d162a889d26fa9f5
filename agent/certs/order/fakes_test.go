package order

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// fakeStore is a store in memory. fault, if set, is asked before each call and after it; an error
// after a write leaves it written.
type fakeStore struct {
	mu      sync.Mutex
	objects map[string]string
	fault   func(op, name string, after bool) error
	puts    []string
	seen    *watched
}

func newStore() *fakeStore { return &fakeStore{objects: map[string]string{}} }

func versionOf(body string) string { return fmt.Sprintf("%x", body)[:min(2*len(body), 4000)] }

// errHang is a fault that ends with the caller's patience.
var errHang = errors.New("no answer")

func (s *fakeStore) ask(ctx context.Context, op, name string, after bool) error {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	err := fault(op, name, after)
	if errors.Is(err, errHang) {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (s *fakeStore) List(ctx context.Context, prefix string) (map[string]string, error) {
	if err := errors.Join(ctx.Err(), s.ask(ctx, "list", prefix, false)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]string{}
	for name, body := range s.objects {
		if strings.HasPrefix(name, prefix) {
			all[name] = versionOf(body)
		}
	}
	return all, nil
}

func (s *fakeStore) Get(ctx context.Context, name string) ([]byte, string, error) {
	if err := errors.Join(ctx.Err(), s.ask(ctx, "get", name, false)); err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.objects[name]
	if !ok {
		return nil, "", certs.ErrNotFound
	}
	return []byte(body), versionOf(body), nil
}

func (s *fakeStore) Put(ctx context.Context, name string, body []byte, version string) (string, error) {
	if err := errors.Join(ctx.Err(), s.ask(ctx, "put", name, false)); err != nil {
		return "", err
	}
	s.mu.Lock()
	before, ok := s.objects[name]
	if ok && version != versionOf(before) || !ok && version != "" {
		s.mu.Unlock()
		return "", certs.ErrConflict
	}
	s.objects[name] = string(body)
	if s.seen != nil {
		s.seen.put(name, before, string(body))
	}
	s.puts = append(s.puts, name)
	s.mu.Unlock()
	return versionOf(string(body)), s.ask(ctx, "put", name, true)
}

func (s *fakeStore) names(prefix string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.objects)), func(n string) bool { return !strings.HasPrefix(n, prefix) })
}

// fakeCA issues certificates for what is answered. Each of its calls takes a while.
type fakeCA struct {
	mu       sync.Mutex
	takes    time.Duration
	life     time.Duration
	answered func(certs.Challenge) bool
	fault    func(op string, names []string) error
	orders   map[string]*fakeOrder // by URL
	accounts []string
	binding  string // the id of the key that it has given out
	calls    map[string]int
	issue    func(csr []byte) (chain string, err error) // instead of what is right
	leaves   map[string]*x509.Certificate               // by certs.Held.CertID
	key      *ecdsa.PrivateKey
}

type fakeOrder struct {
	order certs.Order
	chain string
	at    time.Time
}

func newCA(t *testing.T, answered func(certs.Challenge) bool) *fakeCA {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeCA{takes: 300 * time.Millisecond, life: 90 * 24 * time.Hour, answered: answered, orders: map[string]*fakeOrder{}, calls: map[string]int{}, leaves: map[string]*x509.Certificate{}, key: key}
}

// slow sets how long each call takes.
func (c *fakeCA) slow(takes time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takes = takes
}

func (c *fakeCA) call(ctx context.Context, op string, names []string) error {
	c.mu.Lock()
	takes := c.takes
	c.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return &certs.CAError{Directory: directory, Err: ctx.Err()}
	}
	c.mu.Lock()
	c.calls[op]++
	fault := c.fault
	c.mu.Unlock()
	if fault != nil {
		return fault(op, names)
	}
	return nil
}

func (c *fakeCA) count(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

func (c *fakeCA) Register(ctx context.Context, a certs.Account, b certs.Binding) (certs.Account, error) {
	if err := c.call(ctx, "register", nil); err != nil {
		return a, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.binding != b.KeyID {
		return a, &certs.CAError{Directory: directory, Status: 403, Type: "unauthorized", Detail: "the binding is unknown"}
	}
	if !slices.Contains(c.accounts, a.Key) {
		c.accounts = append(c.accounts, a.Key)
	}
	a.URL = directory + "/account/" + fmt.Sprint(slices.Index(c.accounts, a.Key))
	return a, nil
}

func (c *fakeCA) Begin(ctx context.Context, a certs.Account, o certs.Order, kinds func(string) []string) (certs.Pending, error) {
	if err := c.call(ctx, "begin", o.Names); err != nil {
		return certs.Pending{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.accounts, a.Key) {
		return certs.Pending{}, &certs.CAError{Directory: directory, Status: 400, Type: "accountDoesNotExist"}
	}
	n := len(c.orders)
	p := certs.Pending{URL: fmt.Sprintf("%s/order/%d", directory, n), Names: o.Names, Finalize: "f", Expires: time.Now().Add(24 * time.Hour)}
	for i, name := range o.Names {
		ch := certs.Challenge{Name: name, Type: kinds(name)[0], URL: fmt.Sprint(n, "-", i)}
		if ch.Type == certs.HTTP01 {
			ch.Token = fmt.Sprintf("token%d_%d", n, i)
			ch.Answer = ch.Token + ".print"
		} else {
			ch.Record, ch.Value = "_acme-challenge."+strings.TrimPrefix(name, "*."), fmt.Sprintf("value%d-%d", n, i)
		}
		p.Challenges = append(p.Challenges, ch)
	}
	c.orders[p.URL] = &fakeOrder{order: o, at: time.Now()}
	return p, nil
}

func (c *fakeCA) Finish(ctx context.Context, _ certs.Account, p certs.Pending, csr []byte) (_ string, err error) {
	if err := c.call(ctx, "finish", p.Names); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.orders[p.URL]
	if o == nil {
		return "", &certs.CAError{Directory: directory, Status: 404, Type: "malformed"}
	}
	if o.chain != "" {
		return o.chain, nil
	}
	for _, ch := range p.Challenges {
		if !c.answered(ch) {
			return "", &certs.CAError{Directory: directory, Status: 403, Type: "unauthorized", Detail: "no answer for " + ch.Name, Names: []string{ch.Name}}
		}
	}
	o.at = time.Now()
	if c.issue != nil {
		return c.issue(csr)
	}
	o.chain, err = c.sign(csr, o.at.Add(-time.Minute), o.at.Add(c.life))
	return o.chain, err
}

// sign issues a certificate that is valid at some time.
func (c *fakeCA) sign(csr []byte, from, to time.Time) (chain string, err error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return "", err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(c.calls)) + time.Now().UnixNano()), Subject: pkix.Name{CommonName: "fake"},
		NotBefore: from, NotAfter: to, DNSNames: req.DNSNames, IPAddresses: req.IPAddresses, AuthorityKeyId: []byte{1, 2, 3},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, &x509.Certificate{Subject: pkix.Name{CommonName: "fake"}}, req.PublicKey, c.key)
	if err != nil {
		return "", err
	}
	if leaf, err = x509.ParseCertificate(der); err == nil {
		var id string
		id, err = acmez.ARIUniqueIdentifier(leaf)
		c.leaves[id] = leaf
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), err
}

func (c *fakeCA) Renewal(ctx context.Context, certID string) (certs.Window, error) {
	if err := c.call(ctx, "renewal", nil); err != nil {
		return certs.Window{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	leaf := c.leaves[certID]
	if leaf == nil {
		return certs.Window{}, nil
	}
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return certs.Window{Start: leaf.NotBefore.Add(life * 2 / 3), End: leaf.NotBefore.Add(life * 3 / 4), Again: time.Now().Add(6 * time.Hour), Supported: true}, nil
}

const directory = "https://ca.test/directory"

// newest is the chain that was issued last for these names.
func (c *fakeCA) newest(names []string) (chain string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last time.Time
	for _, o := range c.orders {
		if slices.Equal(o.order.Names, names) && o.chain != "" && o.at.After(last) {
			last, chain = o.at, o.chain
		}
	}
	return chain
}

// fakeDNS has TXT records.
type fakeDNS struct {
	mu      sync.Mutex
	zone    string
	records map[string][]string
	added   int
	fault   func(op, record string) error
}

func (d *fakeDNS) Covers(name string) bool {
	return name == d.zone || strings.HasSuffix(name, "."+d.zone)
}

func (d *fakeDNS) Add(_ context.Context, record, value string) error {
	time.Sleep(2 * time.Second)
	return d.edit("add", record, func() {
		d.added++
		if !slices.Contains(d.records[record], value) {
			d.records[record] = append(d.records[record], value)
		}
	})
}

func (d *fakeDNS) Remove(_ context.Context, record, value string) error {
	return d.edit("remove", record, func() {
		left := slices.DeleteFunc(d.records[record], func(v string) bool { return v == value })
		if d.records[record] = left; len(left) == 0 {
			delete(d.records, record)
		}
	})
}

func (d *fakeDNS) edit(op, record string, do func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != nil {
		if err := d.fault(op, record); err != nil {
			return err
		}
	}
	do()
	return nil
}

func (d *fakeDNS) has(record, value string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Contains(d.records[record], value)
}

// servedFrom answers HTTP challenges from the files below a directory.
func servedFrom(dir func() string, dns *fakeDNS) func(certs.Challenge) bool {
	return func(c certs.Challenge) bool {
		if c.Type == certs.DNS01 {
			return dns.has(c.Record, c.Value)
		}
		text, err := os.ReadFile(filepath.Join(dir(), challengePath, c.Token))
		return err == nil && string(text) == c.Answer
	}
}
