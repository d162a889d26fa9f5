package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// bundle makes a certificate for these names, as a CA would.
func bundle(t testing.TB, kind KeyType, names ...string) Bundle {
	t.Helper()
	var key crypto.Signer
	var err error
	if kind == RSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	leaf := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: begin, NotAfter: begin.Add(90 * 24 * time.Hour)}
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil {
			leaf.IPAddresses = append(leaf.IPAddresses, a.AsSlice())
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &leaf, &leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Bundle{
		Held:  Held{ID: ID(names, kind), Names: names, KeyType: kind, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter},
		Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key:   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

func TestChecked(t *testing.T) {
	good := bundle(t, ECDSA, "*.a.example.com", "a.example.com")
	other := bundle(t, ECDSA, "*.a.example.com", "a.example.com")
	for _, b := range []Bundle{good, bundle(t, RSA, "a.example.com"), bundle(t, ECDSA, "2001:db8::1")} {
		said := b
		said.Names, said.KeyType, said.NotBefore, said.NotAfter = nil, "", time.Time{}, b.NotAfter.Add(time.Hour)
		if got, err := said.Checked(); err != nil || !cmp.Equal(got, b) {
			t.Errorf("%q: %+v, %v", b.Names, got, err)
		}
	}
	for _, row := range []struct {
		name   string
		change func(*Bundle)
		want   string
	}{
		{"another id", func(b *Bundle) { b.ID = "x" }, "than its id says"},
		{"another's key", func(b *Bundle) { b.Key = other.Key }, "do not belong together"},
		{"no key", func(b *Bundle) { b.Key = "" }, "do not belong together"},
		{"no chain", func(b *Bundle) { b.Chain = "x" }, "do not belong together"},
		{"no certificate in the chain", func(b *Bundle) { b.Chain = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" }, "do not belong together"},
		{"a key in the chain", func(b *Bundle) { b.Chain += b.Key }, "its chain has a key"},
		{"the chain beside the key", func(b *Bundle) { b.Key += b.Chain }, "its key has a certificate"},
		{"another name", func(b *Bundle) { b.ID = ID([]string{"b.example.com"}, ECDSA) }, "for other names"},
		{"a name more", func(b *Bundle) { b.ID = ID([]string{"a.example.com"}, ECDSA) }, "for other names"},
		{"no names", func(b *Bundle) { *b = bundle(t, ECDSA) }, "0 names"},
		{"another kind", func(b *Bundle) { b.ID = ID(b.Names, RSA) }, "of another kind"},
	} {
		b := good
		row.change(&b)
		if _, err := b.Checked(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
	}
}

func FuzzChecked(f *testing.F) {
	b := bundle(f, ECDSA, "a.example.com")
	body, err := json.Marshal(b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"names":["*"],"key_type":"p256"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var got Bundle
		if json.Unmarshal(body, &got) != nil {
			return
		}
		got, err := got.Checked()
		if err != nil && strings.Contains(err.Error(), "PRIVATE KEY--") {
			t.Errorf("the error has a key: %v", err)
		}
		if err == nil && (got.ID != ID(got.Names, got.KeyType) || len(got.Names) == 0) {
			t.Errorf("%q was taken", got.Names)
		}
	})
}
