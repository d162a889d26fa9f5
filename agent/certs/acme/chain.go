package acme

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

const (
	mostChain = 10       // certificates
	mostPEM   = 32 << 10 // bytes of a chain, so that it fits with its key into one object of the store
)

// download gets the chain of a valid order.
func (s session) download(ctx context.Context, acc acmez.Account, order acmez.Order) (string, error) {
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
	if chain[0].IsCA {
		return nil, &certs.CAError{Type: certs.WrongCertificate, Over: true, Detail: "the certificate is that of a CA"}
	}
	return chain, nil
}
