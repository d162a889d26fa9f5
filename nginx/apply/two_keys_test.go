package apply

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// A site with two certificates shows each client the one that it can use.
func TestTwoKeys(t *testing.T) { each(t, testTwoKeys) }

func testTwoKeys(t *testing.T, r *rig) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := withTLS(site("a.test", backend(t, "container")), writePair(t, "a.test"), route.Redirect)
	s.Beside = writePairOf(t, k, "a.test")
	r.run()
	r.serve(r.tree(s))
	for suite, want := range map[uint16]string{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256: "ECDSA", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: "RSA"} {
		c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.settings.HTTPSPort), &tls.Config{
			ServerName: "a.test", InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite},
		})
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		if got := c.ConnectionState().PeerCertificates[0].PublicKeyAlgorithm.String(); got != want {
			t.Errorf("a client of %s is shown a certificate of %s", want, got)
		}
		c.Close()
	}
}
