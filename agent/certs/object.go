package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
)

// MaxObject bounds an object of the store, in bytes, and MaxObjects their number.
const (
	MaxObject  = 64 << 10
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

// DecodeBundle reads the object of a certificate. Others may have written it, so it has to be what it
// says. The error quotes nothing of it but names.
func DecodeBundle(id string, body []byte) (Bundle, error) {
	var b Bundle
	if len(body) > MaxObject {
		return Bundle{}, fmt.Errorf("it has %d bytes, more than %d", len(body), MaxObject)
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return Bundle{}, errors.New("it is no JSON of a certificate") // the decoder may quote from it
	}
	if b.ID != id {
		return Bundle{}, errors.New("its id is not that of its name")
	}
	if err := b.Check(); err != nil {
		return Bundle{}, err
	}
	return b, nil
}

// Check says what is wrong with a certificate and its key: the chain has to be a chain for exactly
// these names, with this key, and the bundle's id that of both.
func (b Bundle) Check() error {
	pair, err := tls.X509KeyPair([]byte(b.Chain), []byte(b.Key))
	switch {
	case err != nil:
		return fmt.Errorf("its chain and key do not belong together: %.200s", err.Error())
	case strings.Contains(b.Chain, "PRIVATE KEY"):
		return errors.New("its chain has a key")
	case strings.Contains(b.Key, "CERTIFICATE"):
		return errors.New("its key has a certificate")
	case len(b.Names) == 0 || len(b.Names) > maxNames:
		return fmt.Errorf("it has %d names, not 1 to %d", len(b.Names), maxNames)
	case !slices.Equal(NamesOf(pair.Leaf), b.Names):
		return errors.New("its certificate is for other names")
	case KeyTypeOf(pair.Leaf) != keyKind(b.KeyType):
		return errors.New("its key is not of the kind that it says")
	case b.ID != ID(b.Names, b.KeyType):
		return errors.New("its id is not that of its names")
	case !b.NotBefore.Equal(pair.Leaf.NotBefore) || !b.NotAfter.Equal(pair.Leaf.NotAfter):
		return errors.New("its certificate is valid at another time")
	}
	for _, n := range b.Names {
		if !validName(n) {
			return fmt.Errorf("%.100q is no name of a host", n)
		}
	}
	return nil
}

// keyKind is a kind of key as KeyTypeOf says it.
func keyKind(k KeyType) KeyType {
	if k == ECDSA {
		return ECDSA
	}
	return RSA
}

// validName reports whether a name is as in Wish.
func validName(name string) bool {
	if a, err := netip.ParseAddr(name); err == nil {
		return a.String() == name
	}
	host := strings.TrimPrefix(name, "*.")
	return pattern.Host(host) && host == strings.ToLower(host)
}

// NamesOf are the names of a certificate as in Wish.
func NamesOf(leaf *x509.Certificate) []string {
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
