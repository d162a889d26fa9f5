package certs

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

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

// mostCertID bounds the identifier of a certificate, in bytes.
const mostCertID = 100

// certID is Held.CertID.
func certID(leaf *x509.Certificate) string {
	text := base64.RawURLEncoding.EncodeToString
	serial := leaf.SerialNumber.Bytes()
	if len(serial) > 0 && serial[0] >= 0x80 { // DER puts a zero before it
		serial = append([]byte{0}, serial...)
	}
	id := text(leaf.AuthorityKeyId) + "." + text(serial)
	if len(leaf.AuthorityKeyId) == 0 || len(id) > mostCertID {
		return ""
	}
	return id
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
