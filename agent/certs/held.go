package certs

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Held is a certificate in the store, without its key.
type Held struct {
	ID        string
	Names     []string // sorted
	KeyType   KeyType
	Directory string // empty for one that was imported
	Profile   string
	Imported  bool
	Issuer    string // as Pair.Issuer
	// CertID identifies it to the CA (RFC 9773, section 4.1); empty where it has no key
	// identifier of its authority, or a number or identifier of absurd length: a ledger keeps it.
	CertID    string
	NotBefore time.Time
	NotAfter  time.Time
	// Number counts the certificates as this agent came to know them: one that it has learned of later has a higher one.
	Number uint64
}

// Replaces reports whether a certificate takes the place of an older one for the same names and kind of key: one that is valid that of
// one that has expired, else the one that was issued later. Which of them expires later does not count: an operator may have
// asked for a shorter life.
func (h Held) Replaces(old Held, now time.Time) bool {
	if valid := now.Before(h.NotAfter); valid != now.Before(old.NotAfter) {
		return valid
	}
	if !h.NotBefore.Equal(old.NotBefore) {
		return h.NotBefore.After(old.NotBefore)
	}
	return h.NotAfter.After(old.NotAfter)
}

// Held is the bundle without what is secret. It returns an error for a chain that cannot be read.
func (b Bundle) Held() (Held, error) {
	block, _ := pem.Decode([]byte(b.Chain))
	if block == nil || block.Type != "CERTIFICATE" {
		return Held{}, errors.New("its chain does not begin with a certificate as PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return Held{}, fmt.Errorf("its certificate cannot be parsed: %w", err)
	}
	names := slices.Clone(b.Names)
	slices.Sort(names)
	h := Held{
		ID: b.ID, Names: slices.Compact(names), KeyType: b.KeyType, Directory: b.Directory, Profile: b.Profile, Imported: b.Imported,
		Issuer: IssuerOf(leaf), NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(),
	}
	if len(leaf.AuthorityKeyId) > 0 {
		text := base64.RawURLEncoding.EncodeToString
		serial := leaf.SerialNumber.Bytes()
		if len(serial) > 0 && serial[0] >= 0x80 { // DER puts a zero before it
			serial = append([]byte{0}, serial...)
		}
		if id := text(leaf.AuthorityKeyId) + "." + text(serial); len(id) <= mostCertID {
			h.CertID = id
		}
	}
	return h, nil
}

// IssuerOf names who signed a certificate, for people.
func IssuerOf(leaf *x509.Certificate) string {
	name := leaf.Issuer.CommonName
	if org := leaf.Issuer.Organization; len(org) > 0 {
		name = strings.TrimSpace(org[0] + " " + name)
	}
	return problem.Printable(name, 64)
}

// KeyTypeOf is the kind of a certificate's key; empty for one that is neither.
func KeyTypeOf(leaf *x509.Certificate) KeyType {
	switch leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return ECDSA
	case *rsa.PublicKey:
		return RSA
	}
	return ""
}

// covers reports whether a certificate with these names serves all the others.
func covers(names, others []string) bool {
	return !slices.ContainsFunc(others, func(o string) bool {
		return !slices.ContainsFunc(hostNames(o), func(n string) bool { return slices.Contains(names, n) })
	})
}

// isIP reports whether a name of a certificate is an IP address.
func isIP(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}
