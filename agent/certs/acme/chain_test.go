package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

func refuse(n *int) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		*n++
		return nil, errors.New("no route")
	}
}

// issued is a chain of two for a request, changed before it is signed.
func issued(t *testing.T, csr []byte, change func(*x509.Certificate)) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "liar"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte{1, 2},
	}
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), DNSNames: r.DNSNames, IPAddresses: r.IPAddresses,
		AuthorityKeyId: []byte{1, 2},
	}
	if change != nil {
		change(leaf)
	}
	var out strings.Builder
	for _, c := range []*x509.Certificate{leaf, issuer} {
		of := any(key.Public())
		if c == leaf {
			of = r.PublicKey
		}
		der, err := x509.CreateCertificate(rand.Reader, c, issuer, of, key)
		if err != nil {
			t.Fatal(err)
		}
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	return out.String()
}

func TestChain(t *testing.T) {
	names := []string{"a.test", "*.a.test", "192.0.2.1", "2001:db8::1"}
	csr := request(t, certs.ECDSA, names)
	good := issued(t, csr, nil)
	end := strings.Index(good, "-----END CERTIFICATE-----\n") + len("-----END CERTIFICATE-----\n")
	leaf, issuer := good[:end], good[end:]
	for _, row := range []struct{ name, chain, want string }{
		{"as it should be", good, ""},
		{"the certificate alone", leaf, ""},
		{"with text around it", "subject=x\n" + leaf + "\n\nissuer=y\n" + issuer + "\n", ""},
		{"nothing", "", "no certificate"},
		{"the wrong way round", issuer + leaf, "the chain is broken"},
		{"two of them", leaf + leaf, "the chain is broken"},
		{"a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + good, "no certificate"},
		{"no DER", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate"},
		{"too many", leaf + strings.Repeat(issuer, 10), "more than 10"},
		{"too large", good + strings.Repeat("x", mostPEM), "larger"},
		{"a CA", issued(t, csr, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "that of a CA"},
	} {
		_, err := readChain([]byte(row.chain))
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func FuzzReadChain(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if chain, err := readChain(text); err == nil && (len(chain) == 0 || len(chain) > mostChain) {
			t.Errorf("%d certificates", len(chain))
		}
	})
}

func TestKeysAndRequests(t *testing.T) {
	for _, kind := range []certs.KeyType{certs.ECDSA, certs.RSA} {
		csr, err := x509.ParseCertificateRequest(request(t, kind, []string{"a.test", "2001:db8::1"}))
		if err != nil {
			t.Fatal(err)
		}
		if len(csr.DNSNames) != 1 || len(csr.IPAddresses) != 1 || csr.CheckSignature() != nil {
			t.Errorf("%s: %+v", kind, csr)
		}
	}
	if _, err := NewKey("x"); err == nil {
		t.Error("a key of no kind")
	}
	for _, text := range []string{"", "secret", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if _, err := NewRequest(text, nil); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// A CA is spoken to only over TLS, and trusted by the roots that the operator names.
func TestTrust(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that does not trust it is part of the test
	dir := t.TempDir()
	roots, empty := filepath.Join(dir, "roots.pem"), filepath.Join(dir, "empty.pem")
	for file, text := range map[string][]byte{roots: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), empty: nil} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct{ directory, roots, want string }{
		{server.URL + "/dir", roots, "404"},
		{server.URL + "/dir", "", "certificate"},
		{server.URL + "/dir", empty, "no certificate in PEM"},
		{server.URL + "/dir", filepath.Join(dir, "none"), "no such file"},
		{strings.Replace(server.URL, "https", "http", 1), "", "no URL with https"},
		{"https://user:password@ca.test/", "", "no URL with https"},
	} {
		ca, err := New(Options{Directory: row.directory, RootsFile: row.roots})
		if err == nil {
			_, err = ca.Register(t.Context(), keyed(t, ""), certs.Binding{})
		}
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s by %q: %v", row.directory, row.roots, err)
		}
	}
}
