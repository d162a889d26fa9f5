package stage

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// Clients need certificates where nginx-proxy would have them need one, and those that are
// revoked are none.
func TestImageAsksClientsForCertificates(t *testing.T) {
	const expr = `~^re[0-9]\.np\.test$`
	p := newProxy(t, Options{Hosts: []string{"own.np.test", "may.np.test", "all.np.test", "cert", "spoilt.np.test"}})
	a, other := newAuthority(t), newAuthority(t)
	for _, name := range []string{"own.np.test", "may.np.test", certs.FileName(expr)} {
		p.put("certs/"+name+".ca.crt", a.ca)
		p.put("certs/"+name+".crl.pem", a.revoked)
	}
	p.put("certs/ca.crt", a.ca)
	p.put("certs/ca.crl.pem", a.revoked)
	p.put("certs/spoilt.np.test.ca.crt", "")
	p.put("vhost.d/default", "add_header X-Verified $ssl_client_verify always;\n")
	p.run(append(documentedRun(t), "-e", "NAGAYA_ROUTES_EXPRESSIONS=true")...)
	for name, host := range map[string]string{"own": "own.np.test", "may": "may.np.test", "all": "all.np.test", "spoilt": "spoilt.np.test", "re": expr} {
		c := Container{Env: []string{"VIRTUAL_HOST=" + host, "VIRTUAL_PORT=8080"}}
		switch name {
		case "may":
			c.Labels = map[string]string{"com.github.nginx-proxy.nginx-proxy.ssl_verify_client": "optional"}
		case "re":
			c.Env = append(c.Env, "CERT_NAME=cert")
		}
		p.beside(name, c)
	}
	good, bad, strange := a.issue(t, 2), a.issue(t, 3), other.issue(t, 2)
	check := func(host string, with *tls.Certificate, status int, verified string) {
		t.Helper()
		c := p.client()
		if with != nil {
			c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{*with}
		}
		until(t, fmt.Sprintf("%s answers %d", host, status), func() error {
			defer c.CloseIdleConnections()
			got, err := c.Get(p.at("https://" + host + "/"))
			if err != nil {
				return err
			}
			got.Body.Close()
			if got.StatusCode != status || !strings.HasPrefix(got.Header.Get("X-Verified"), verified) {
				return fmt.Errorf("%s, X-Verified %q", got.Status, got.Header.Get("X-Verified"))
			}
			return nil
		})
	}
	for _, host := range []string{"own.np.test", "re1.np.test", "all.np.test"} {
		check(host, nil, 400, "NONE")
		check(host, &good, 200, "SUCCESS")
		check(host, &bad, 400, "FAILED")
		check(host, &strange, 400, "FAILED")
	}
	check("may.np.test", nil, 200, "NONE")
	check("may.np.test", &good, 200, "SUCCESS")
	check("may.np.test", &bad, 400, "FAILED")
	p.gets("http://spoilt.np.test/", 503, "")
	p.refused("spoilt.np.test")

	// What is spoilt or goes away opens no site.
	p.put("certs/own.np.test.crl.pem", "")
	must(t, os.Remove(p.s.Path("certs", "ca.crt")))
	until(t, "that is seen", func() error {
		st, err := p.status()
		if err == nil && !(names(st, "cert-unreadable", "own.np.test.crl.pem") && names(st, "cert-gone", "ca")) {
			err = errNotYet
		}
		return err
	})
	for _, host := range []string{"own.np.test", "all.np.test"} {
		check(host, nil, 400, "NONE")
		check(host, &good, 200, "SUCCESS")
		check(host, &bad, 400, "FAILED")
	}
}

// signer is an authority for clients, which has revoked its certificate number 3.
type signer struct {
	cert        *x509.Certificate
	key         *ecdsa.PrivateKey
	ca, revoked string
}

func newAuthority(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3},
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	must(t, err)
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: ca.NotBefore, NextUpdate: ca.NotAfter,
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(3), RevocationTime: ca.NotBefore}},
	}, ca, key)
	must(t, err)
	text := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return signer{ca, key, text("CERTIFICATE", der), text("X509 CRL", crl)}
}

// issue signs a client's certificate.
func (a signer) issue(t *testing.T, number int64) tls.Certificate {
	t.Helper()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(number), Subject: pkix.Name{CommonName: "client"}, NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, a.cert, a.key.Public(), a.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}
