package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// MaxObject bounds an object of the store, in bytes, and MaxObjects their number.
const (
	MaxObject  = 256 << 10
	MaxObjects = 10_000
)

// ErrUnusable is returned by a store for an object that is there and cannot be one: it is too large,
// or no file. Its version is returned with it, so that it can be replaced.
var ErrUnusable = errors.New("the object cannot be used")

// StoreError is what a store, or the way to it, answered.
type StoreError struct {
	// Text is a sentence that names the store and what was asked of it, Remedy what to do; each is
	// without a full stop.
	Text   string
	Remedy string
	Err    error
}

func (e *StoreError) Error() string { return e.Text + "; " + e.Remedy }

func (e *StoreError) Unwrap() error { return e.Err }

// maxNames bounds the names of a certificate, as Wish does.
const maxNames = 100

// Checked is the bundle with what its chain says of it, or an error for one that cannot be used: chain and key have to
// belong together, and the id to be that of its names and the kind of its key. The error quotes nothing but names.
func (b Bundle) Checked() (Bundle, error) {
	pair, err := tls.X509KeyPair([]byte(b.Chain), []byte(b.Key))
	if err != nil {
		return b, fmt.Errorf("its chain and key do not belong together: %.200s", err.Error())
	}
	b.Names, b.KeyType, b.Issuer, b.CertID = namesOf(pair.Leaf), KeyTypeOf(pair.Leaf), IssuerOf(pair.Leaf), certID(pair.Leaf)
	b.NotBefore, b.NotAfter = pair.Leaf.NotBefore.UTC(), pair.Leaf.NotAfter.UTC()
	switch {
	case strings.Contains(b.Chain, "PRIVATE KEY"):
		return b, errors.New("its chain has a key")
	case strings.Contains(b.Key, "CERTIFICATE"):
		return b, errors.New("its key has a certificate")
	case len(b.Names) == 0 || len(b.Names) > maxNames:
		return b, fmt.Errorf("it has %d names, not 1 to %d", len(b.Names), maxNames)
	case b.ID != ID(b.Names, b.KeyType):
		return b, errors.New("its certificate is for other names, or its key of another kind, than its id says")
	}
	for _, n := range b.Names {
		if !validName(n) {
			return b, fmt.Errorf("%.100q is no name of a host", n)
		}
	}
	return b, nil
}

// validName reports whether a name is as in Wish.
func validName(name string) bool {
	if a, err := netip.ParseAddr(name); err == nil {
		return a.String() == name && a.Zone() == "" && !a.Is4In6()
	}
	return pattern.Host(name)
}

// namesOf are the names of a certificate as in Wish.
func namesOf(leaf *x509.Certificate) []string {
	var names []string
	for _, n := range leaf.DNSNames {
		names = append(names, strings.ToLower(n))
	}
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	slices.Sort(names)
	return slices.Compact(names)
}
