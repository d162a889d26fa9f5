package awsclient

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// A host whose way out is inspected sets AWS_CA_BUNDLE; the clients must take it.
func TestClientsTrustTheBundleOfTheEnvironment(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that does not trust it is part of the test
	s.StartTLS()
	defer s.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(bundle, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		bundle string
		trusts bool
	}{{bundle, true}, {"", false}} {
		t.Setenv("AWS_CA_BUNDLE", row.bundle)
		c, err := New(t.Context())
		if err != nil {
			t.Fatalf("AWS_CA_BUNDLE=%q: %v", row.bundle, err)
		}
		resp, err := c.HTTP.Get(s.URL)
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != row.trusts {
			t.Errorf("AWS_CA_BUNDLE=%q: %v", row.bundle, err)
		}
		c.DropConnections()
	}
}
