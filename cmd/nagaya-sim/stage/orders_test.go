package stage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// orderingStage is a stage whose certificates come from Pebble, and are kept in the simulated S3. Its address is
// not claimed, and no name is looked up: they are of no public DNS.
func orderingStage(t *testing.T, o testenv.PebbleOptions, env ...string) (*Stage, *testenv.Pebble) {
	t.Helper()
	s := newStage(t, Options{Hosts: []string{}})
	o.HTTPPort = s.HTTPPort
	ca := testenv.StartPebble(t, o)
	must(t, s.StartCloud(t.Context()))
	s.Env = append(s.Env, "NAGAYA_CERTS_ACME_EMAIL=ops@example.com", "NAGAYA_CERTS_ACME_DIRECTORY="+ca.Directory, "NAGAYA_CERTS_ACME_CA_FILE="+ca.Roots,
		"NAGAYA_CERTS_STORE=s3://nagaya-certs/stage", "NAGAYA_CERTS_ACME_CHECK_ADDRESS=false")
	s.Env = append(s.Env, env...)
	must(t, s.StartAgent())
	return s, ca
}

// served is the certificate of a host.
func (s *Stage) served(host, roots string) (*x509.Certificate, error) {
	pem, err := os.ReadFile(roots)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{ServerName: host, RootCAs: pool}}
	conn, err := dialer.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.HTTPSPort))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// orders counts the orders that the agent has made since it started.
func orders(t *testing.T, s *Stage) (issued uint64) {
	t.Helper()
	st, err := s.status(t.Context())
	must(t, err)
	return st.Orders.Orders[certs.Issued]
}

// A label is all that a service needs for HTTPS, which outlives the state of its instance; renewing it
// costs no request.
func TestHTTPSByItself(t *testing.T) {
	s, ca := orderingStage(t, testenv.PebbleOptions{})
	must(t, Until(t.Context(), 20*time.Second, "nginx runs", func() error {
		st, err := s.status(t.Context())
		if err == nil && (st.Nginx.Generation == "" || !st.Orders.StoreRead) {
			err = errors.New("no generation is live, or the store was not read")
		}
		return err
	}))
	_, err := s.Run(t.Context(), service("alpha", "1", "a.test"))
	must(t, err)
	began := time.Now()
	var first *x509.Certificate
	must(t, Until(t.Context(), 20*time.Second, "a.test has HTTPS", func() error {
		first, err = s.served("a.test", ca.Issuer)
		return err
	}))
	took := time.Since(began)
	t.Logf("HTTPS %s after the start of the container", took.Round(10*time.Millisecond))
	if n := orders(t, s); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}

	client, err := Trusting(ca.Issuer, func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", s.HTTPSPort))
	})
	must(t, err)
	load := StartVisits(t.Context(), 50, func(int) *http.Client { return client }, fmt.Sprintf("https://a.test:%d/", s.HTTPSPort))
	if out, code, err := s.CLI(t.Context(), "certs", "renew", "a.test"); err != nil || code != 0 {
		t.Fatalf("renewing: %v, exit code %d: %s", err, code, out)
	}
	must(t, Until(t.Context(), 20*time.Second, "the new certificate is served", func() error {
		now, err := s.served("a.test", ca.Issuer)
		if err == nil && now.SerialNumber.Cmp(first.SerialNumber) == 0 {
			err = errors.New("it is the old one")
		}
		return err
	}))
	if r := load.Stop(); r.Failed > 0 || r.Requests == 0 {
		t.Errorf("renewing: %+v", r)
	}

	if out, _, err := s.CLI(t.Context(), "certs"); err != nil || !strings.Contains(out, "a.test") {
		t.Errorf("nagaya certs: %v\n%s", err, out)
	} else {
		t.Log(out)
	}

	// The instance is replaced.
	must(t, s.StopAgent())
	must(t, s.endNginx())
	for _, dir := range []string{"state", "run"} {
		must(t, os.RemoveAll(s.Path(dir)))
		must(t, os.MkdirAll(s.Path(dir), 0o755))
	}
	must(t, s.StartAgent())
	must(t, Until(t.Context(), 20*time.Second, "a.test has HTTPS again", func() error {
		_, err = s.served("a.test", ca.Issuer)
		return err
	}))
	if n := orders(t, s); n != 0 {
		t.Errorf("%d orders after it was replaced, want 0", n)
	}
	st, err := s.status(t.Context())
	must(t, err)
	if len(st.Problems) > 0 {
		t.Errorf("problems: %+v", st.Problems)
	}
}
