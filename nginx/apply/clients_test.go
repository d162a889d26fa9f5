package apply

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/route"
)

// A client whose certificate was revoked is none, and a new list counts at once.
func TestRevokedClients(t *testing.T) { each(t, testRevokedClients) }

func testRevokedClients(t *testing.T, r *rig) {
	r.run()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3},
	}
	dir := t.TempDir()
	signed := func(leaf *x509.Certificate) []byte {
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	p := writePair(t, "a.test")
	p.ClientCAFile = filepath.Join(dir, "ca.crt")
	write(t, p.ClientCAFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed(ca)})))
	revoke := func(number int64, sum string) {
		t.Helper()
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: ca.NotBefore, NextUpdate: ca.NotAfter,
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(number), RevocationTime: ca.NotBefore}},
		}, ca, key)
		if err != nil {
			t.Fatal(err)
		}
		// Another file, as the copies are: nginx 1.27.4 keeps what it has read of a file whose time,
		// in seconds, is the same (ssl_object_cache_inheritable).
		p.CRLFile = filepath.Join(dir, sum+".crl.pem")
		write(t, p.CRLFile, string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})))
		p.ClientFingerprint = sum
		s := withTLS(site("a.test", backend(t, "inside")), p, route.Redirect)
		s.Edge.ClientCert = "on"
		r.serve(r.tree(s))
	}
	answers := func(number int64, status int) {
		t.Helper()
		c := r.client()
		leaf := &x509.Certificate{SerialNumber: big.NewInt(number), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}
		c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{signed(leaf)}, PrivateKey: key}}
		defer c.CloseIdleConnections()
		res, err := c.Get(r.https("a.test", "/"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("certificate %d: %d, want %d", number, res.StatusCode, status)
		}
	}
	revoke(2, "ab")
	answers(2, 400)
	answers(3, 200)
	revoke(3, "cd")
	answers(2, 200)
	answers(3, 400)
}

// Parameters beside the certificate let in clients that know no elliptic curves.
func TestParametersBesideTheCertificate(t *testing.T) { each(t, testParametersBesideTheCertificate) }

func testParametersBesideTheCertificate(t *testing.T, r *rig) {
	r.run()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	// One file with both, as in a copy of a pair.
	dir := t.TempDir()
	p := certs.Pair{Name: "a.test", CertFile: filepath.Join(dir, "pair.pem"), KeyFile: filepath.Join(dir, "pair.pem"), DNSNames: c.DNSNames, Fingerprint: "ab"}
	write(t, p.CertFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	s := withTLS(site("a.test", backend(t, "inside")), p, route.Redirect)
	r.serve(r.tree(s))
	r.expect(r.https("a.test", "/"), 200, "inside")
	if got := helloWithDHE(t, r.https("a.test", "")); got[0] != alert {
		t.Errorf("without parameters: a record of type %d, want an alert", got[0])
	}
	s.Cert.DHParamFile = filepath.Join(dir, "dh.pem")
	write(t, s.Cert.DHParamFile, ffdhe2048)
	r.serve(r.tree(s))
	got := helloWithDHE(t, r.https("a.test", ""))
	if got[0] != handshake || got[5] != serverHello {
		t.Errorf("with parameters: % x, want a server's hello", got)
	}
	r.expect(r.https("a.test", "/"), 200, "inside")
}

// The types of records and of what is in them (RFC 5246, appendix A).
const alert, handshake, serverHello = 21, 22, 2

// helloWithDHE begins a TLS 1.2 connection with DHE-RSA-AES128-GCM-SHA256 alone, which crypto/tls does
// not know, and returns the first bytes of the answer.
func helloWithDHE(t *testing.T, url string) []byte {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+req.URL.Port())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	name := "a.test"
	extensions := []byte{0, 0, 0, byte(len(name) + 5), 0, byte(len(name) + 3), 0, 0, byte(len(name))}
	extensions = append(extensions, name...)
	extensions = append(extensions, 0, 13, 0, 4, 0, 2, 4, 1) // signatures: RSA with SHA-256
	hello := append([]byte{3, 3}, make([]byte, 32)...)
	hello = append(hello, 0, 0, 2, 0x00, 0x9e, 1, 0, 0, byte(len(extensions)))
	hello = append(hello, extensions...)
	hello = append([]byte{1, 0, 0, byte(len(hello))}, hello...)
	if _, err := conn.Write(append([]byte{handshake, 3, 1, 0, byte(len(hello))}, hello...)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	return got
}

// ffdhe2048 are parameters of RFC 7919.
const ffdhe2048 = `-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
`
