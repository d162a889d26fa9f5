package stage

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// CAFile is the certificate of the stage's own authority.
func (s *Stage) CAFile() string { return s.Path("ca.crt") }

// MakeCerts makes an authority, whose certificate is dir/ca.crt, and one certificate for
// each host in dir/certs.
func MakeCerts(dir string, hosts []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nagaya demonstration"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 90), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "ca.crt"), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	for i, host := range hosts {
		if err := makeCert(filepath.Join(dir, "certs", host), ca, key, int64(i)+2, host); err != nil {
			return err
		}
	}
	return nil
}

// copyCerts takes over what another stage has made.
func (s *Stage) copyCerts(of *Stage) error {
	b, err := os.ReadFile(of.CAFile())
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.CAFile(), b, 0o644); err != nil {
		return err
	}
	return os.CopyFS(s.Path("certs"), os.DirFS(of.Path("certs")))
}

func makeCert(path string, ca *x509.Certificate, caKey *ecdsa.PrivateKey, serial int64, host string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 60),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}
	if err := writePEM(path+".crt", "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path+".key", "PRIVATE KEY", private, 0o600)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
