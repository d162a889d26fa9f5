package files

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

const (
	// waitingName is that of the pair, and of its directory in Options.Copies.
	waitingName = "@waiting"
	// waitingSubject is the common name that whoever looks at the certificate reads.
	waitingSubject = "nagaya: waiting for a certificate"
	waitingFor     = 10 * 365 * 24 * time.Hour
)

// waiting is the certificate of sites that have none yet: self-signed, for no host, and made once.
func waiting(dir string, readOnly bool, now time.Time) (certs.Pair, *problem.Problem) {
	k := copies{dir: filepath.Join(dir, "waiting"), readOnly: readOnly}
	version, _, ok := k.newest(waitingName)
	if pair, usable := pairIn(waitingName, version); ok && usable && pair.NotAfter.After(now.AddDate(0, 1, 0)) || readOnly {
		return pair, nil
	}
	text, err := selfSigned(now)
	if err == nil {
		version, err = k.keep(original{name: waitingName, files: map[string][]byte{copiedPair: text}})
	}
	if pair, usable := pairIn(waitingName, version); err == nil && usable {
		return pair, nil
	}
	why := fmt.Sprintf("the certificate for sites that wait for their own cannot be kept (%q), so they wait without HTTPS", bounded(fmt.Sprint(err)))
	p := about("cert-not-copied", problem.Warning, k.dir, why, "let the agent write to the directory "+k.dir)
	p.Subject = "certificate " + waitingName
	return certs.Pair{}, p
}

// selfSigned makes a certificate and its key, as PEM.
func selfSigned(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: waitingSubject},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(waitingFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}
