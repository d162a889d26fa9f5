package acme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// NewKey makes a private key, of an account (certs.ECDSA) or of a certificate, as PEM (PKCS #8).
func NewKey(kind certs.KeyType) (string, error) {
	var key crypto.Signer
	var err error
	switch kind {
	case certs.ECDSA:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case certs.RSA:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		err = fmt.Errorf("there is no kind of key %q", kind)
	}
	var der []byte
	if err == nil {
		der, err = x509.MarshalPKCS8PrivateKey(key)
	}
	if err != nil {
		return "", fmt.Errorf("making a key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// NewRequest makes the request (CSR, DER) for names with a key of NewKey.
func NewRequest(key string, names []string) ([]byte, error) {
	signer, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	var r x509.CertificateRequest
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			r.IPAddresses = append(r.IPAddresses, ip)
		} else {
			r.DNSNames = append(r.DNSNames, name)
		}
	}
	return x509.CreateCertificateRequest(rand.Reader, &r, signer)
}

// parseKey reads a key of NewKey. Its errors say nothing of the text.
func parseKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the private key is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, errors.New("the private key is not one in PKCS #8")
	}
	return signer, nil
}
