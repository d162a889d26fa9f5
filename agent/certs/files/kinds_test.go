package files

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// What a pair serves follows from its names and addresses, and nginx shows one of each kind of key.
func TestKindsOfPairs(t *testing.T) {
	dir := t.TempDir()
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"ec": ec, "rsa": old} {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "own\nCA"}, NotBefore: days(-1), NotAfter: days(90),
			IPAddresses: []net.IP{net.ParseIP("198.51.100.7"), net.ParseIP("2001:db8::7")},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		pk8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir+"/"+name+".crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
		write(t, dir+"/"+name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk8}))
	}
	inv := look(t, dir, kept{})
	for _, host := range []string{"198.51.100.7", "[2001:db8::7]"} {
		p, ok := inv.For(host)
		other, beside := inv.Beside(host, p)
		if !ok || p.Name != "ec" || p.KeyType != certs.ECDSA || p.Nameless() || p.CommonName != "" || p.Issuer != "own CA" || !beside || other.KeyType != certs.RSA {
			t.Errorf("%s: %+v, beside it %+v", host, p, other)
		}
	}
}

// A certificate that lives for days is no problem for most of them.
func TestExpiringIsRelative(t *testing.T) {
	for _, tt := range []struct {
		age, left time.Duration
		severity  string
	}{
		{60 * time.Hour, 100 * time.Hour, ""},
		{110 * time.Hour, 50 * time.Hour, "warning"},
		{145 * time.Hour, 15 * time.Hour, "error"},
		{60 * 24 * time.Hour, 30 * 24 * time.Hour, ""},
		{72 * 24 * time.Hour, 18 * 24 * time.Hour, "warning"},
		{85 * 24 * time.Hour, 5 * 24 * time.Hour, "error"},
	} {
		dir, c := t.TempDir(), makeCert(t, now.Add(-tt.age), now.Add(tt.left), "a.test")
		write(t, dir+"/a.pem", append(c.cert, c.key...))
		got := ""
		for _, p := range look(t, dir, kept{}).Problems {
			if got += p.Severity.String(); p.Code != "cert-expiring" || p.Severity > problem.Error {
				t.Errorf("%+v", p)
			}
		}
		if got != tt.severity {
			t.Errorf("%s left of %s: %q, want %q", tt.left, tt.age+tt.left, got, tt.severity)
		}
	}
}
