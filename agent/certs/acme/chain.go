package acme

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

const (
	mostChain = 10       // certificates
	mostPEM   = 32 << 10 // bytes of a chain, so that it fits with its key into one object of the store
)

// download gets the chain of a valid order.
func (s session) download(ctx context.Context, acc acmez.Account, order acmez.Order, p certs.Pending, csr *x509.CertificateRequest) (string, error) {
	if !httpsURL(order.Certificate) {
		return "", fmt.Errorf("the certificate has no URL: %.200q", order.Certificate)
	}
	// acmez v3.1.7 would also get every alternate chain and ask for renewal information, which takes seconds
	// where that fails. GetOrder is one signed request for a URL; that the body is no order does not matter.
	_, err := s.GetOrder(ctx, acc, acmez.Order{Location: order.Certificate})
	if s.err != nil || s.status != http.StatusOK {
		return "", s.over(err)
	}
	chain, err := readChain(s.body)
	if err != nil {
		return "", err
	}
	if err := fits(chain[0], csr, p.Names, time.Now()); err != nil {
		err.Status = s.status
		return "", err
	}
	var out bytes.Buffer
	for _, c := range chain {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	}
	return out.String(), nil
}

// readChain reads the certificates of a chain, each of which has signed the one before it.
func readChain(text []byte) ([]*x509.Certificate, error) {
	if len(text) > mostPEM {
		return nil, fmt.Errorf("the chain is larger than %d bytes", mostPEM)
	}
	var chain []*x509.Certificate
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		c, err := x509.ParseCertificate(block.Bytes)
		switch {
		case block.Type != "CERTIFICATE" || err != nil:
			return nil, fmt.Errorf("the chain has a %.40q that is no certificate", block.Type)
		case len(chain) == mostChain:
			return nil, fmt.Errorf("the chain has more than %d certificates", mostChain)
		case len(chain) > 0 && chain[len(chain)-1].CheckSignatureFrom(c) != nil:
			return nil, fmt.Errorf("the chain is broken: certificate %d has not signed the one before it", len(chain)+1)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, errors.New("the chain has no certificate")
	}
	return chain, nil
}

// fits says why a certificate cannot be used for the request and the names. One that is not valid now may
// be so later, or by a clock that is right.
func fits(leaf *x509.Certificate, csr *x509.CertificateRequest, names []string, now time.Time) *certs.CAError {
	var has []string
	for _, name := range leaf.DNSNames {
		has = append(has, plain(name))
	}
	for _, ip := range leaf.IPAddresses {
		has = append(has, ip.String())
	}
	want := slices.Clone(names)
	slices.Sort(has)
	slices.Sort(want)
	key, ok := csr.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	wrong := &certs.CAError{Type: certs.WrongCertificate, Over: true}
	switch {
	case !ok || !key.Equal(leaf.PublicKey):
		wrong.Detail = "the certificate is for another key"
	case !slices.Equal(slices.Compact(has), want):
		wrong.Detail = cut(fmt.Sprintf("the certificate is for other names: %.60q", has[:min(len(has), 10)]))
	case leaf.IsCA:
		wrong.Detail = "the certificate is that of a CA"
	case now.Before(leaf.NotBefore) || now.After(leaf.NotAfter):
		wrong.Over = false
		wrong.Detail = fmt.Sprintf("the certificate is valid from %s to %s, which is not now: is the clock right?",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
	default:
		return nil
	}
	return wrong
}
