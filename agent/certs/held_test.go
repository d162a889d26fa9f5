package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

// A certificate from the store serves where the operator has no valid file.
func TestForFilesAndIssued(t *testing.T) {
	at := func(days int) time.Time { return start.AddDate(0, 0, days) }
	v := Inventory{
		At: start,
		Pairs: []Pair{
			{Name: "f-valid", DNSNames: []string{"valid.test"}, NotAfter: at(1)},
			{Name: "f-expired", DNSNames: []string{"expired.test", "only.test"}, NotAfter: at(-1)},
			{Name: "f-gone", DNSNames: []string{"gone.test"}, NotAfter: at(50)},
			{Name: "f-wild", DNSNames: []string{"*.wild.test"}, NotAfter: at(50), KeyType: RSA},
		},
		Gone: []string{"f-gone"},
		Issued: []Pair{
			{Name: "i-valid", DNSNames: []string{"valid.test"}, NotAfter: at(80)},
			{Name: "i-expired", DNSNames: []string{"expired.test"}, NotAfter: at(2)},
			{Name: "i-longer", DNSNames: []string{"expired.test"}, NotAfter: at(3)},
			{Name: "i-gone", DNSNames: []string{"gone.test"}, NotAfter: at(2)},
			{Name: "i-wild", DNSNames: []string{"a.wild.test"}, NotAfter: at(80), KeyType: ECDSA},
			{Name: "i-ip", IPs: []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")}, NotAfter: at(6), KeyType: ECDSA},
			{Name: "i-ip-old", IPs: []netip.Addr{netip.MustParseAddr("198.51.100.7")}, NotAfter: at(-6), KeyType: RSA},
		},
	}
	for host, want := range map[string]string{
		"valid.test": "f-valid", "expired.test": "i-longer", "only.test": "f-expired", "gone.test": "i-gone",
		"a.wild.test": "f-wild", // the operator's, though it names the host less exactly
		"b.wild.test": "f-wild", "198.51.100.7": "i-ip", "[2001:db8::7]": "i-ip", "2001:DB8:0::7": "i-ip", "198.51.100.8": "",
	} {
		if p, ok := v.For(host); p.Name != want || ok != (want != "") {
			t.Errorf("For(%q) = %q, %v; want %q", host, p.Name, ok, want)
		}
	}
	for host, want := range map[string]string{"a.wild.test": "i-wild", "b.wild.test": "", "valid.test": "", "198.51.100.7": ""} {
		p, _ := v.For(host)
		if o, ok := v.Beside(host, p); o.Name != want || ok != (want != "") {
			t.Errorf("Beside(%q) = %q, want %q", host, o.Name, want)
		}
	}
	if _, ok := v.Named("i-valid"); ok {
		t.Error("one from the store is chosen by its name")
	}
	if _, ok := v.NamedLike("i-valid"); ok {
		t.Error("one from the store is chosen by its name")
	}
}

func TestHeldOfABundle(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// The serial and the identifier of the example of RFC 9773, section 4.1.
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte{0x87, 0x65, 0x43, 0x21}), NotBefore: start, NotAfter: start.Add(90 * day), DNSNames: []string{"a.test"},
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "E7", Organization: []string{"Let's Encrypt"}}, SubjectKeyId: []byte{
		0x69, 0x88, 0x5B, 0x6B, 0x87, 0x46, 0x40, 0x41, 0xE1, 0xB3, 0x7B, 0x84, 0x7B, 0xA0, 0xAE, 0x2C, 0xDE, 0x01, 0xC8, 0xD4,
	}}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	b := Bundle{Held: Held{ID: "a.test.P256", Directory: letsEncrypt}, Chain: text("CERTIFICATE", der), Key: text("PRIVATE KEY", private), Saved: start}
	got, err := b.Checked()
	want := Held{
		ID: "a.test.P256", Names: []string{"a.test"}, KeyType: ECDSA, Directory: letsEncrypt, Issuer: "Let's Encrypt E7", CertID: "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE",
		NotBefore: start, NotAfter: start.Add(90 * day),
	}
	if d := cmp.Diff(want, got.Held); d != "" || err != nil {
		t.Error(d, err)
	}
}

func TestSettings(t *testing.T) {
	c := config.Default().Certs
	if (Settings{ACME: c.ACME}).On() {
		t.Error("orders are on by default")
	}
	c.ACME.Email, c.ACME.Key = "a@example.com", "both"
	s := Settings{ACME: c.ACME, Seed: "i-1"}
	if !s.On() || !cmp.Equal(s.Keys(), []KeyType{ECDSA, RSA}) || s.StagingOf(letsEncrypt) != letsEncryptStaging || s.StagingOf(private) != "" {
		t.Errorf("%+v", s)
	}
	s.Staging = private
	if s.StagingOf(letsEncrypt) != private || s.StagingOf(private) != "" {
		t.Error("the operator's staging directory is not used")
	}
}
