package testenv

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// The Makefile builds them by these names.
const (
	pebbleFile       = ".cache/bin/pebble-2.10.3"
	challtestsrvFile = ".cache/bin/pebble-challtestsrv-2.10.3"
)

// PebbleOptions say how Let's Encrypt's test server behaves. The zero value refuses 5% of all nonces, takes up
// to a second for each validation, and gives an order without a profile a random one.
type PebbleOptions struct {
	Address    string            // IP at which its servers listen; empty is 127.0.0.1
	Names      string            // address of a DNS server, as that of ServeNames; empty is one of its own
	HTTPPort   int               // at which it looks for answers of HTTP-01; 0 is a free one
	Bindings   map[string]string // MAC keys of external account bindings by their ids; any make it ask for one
	RetryAfter int               // s, that it asks for while it works on an order; 0 is 1
	Env        []string          // more variables of Pebble, as PEBBLE_WFE_NONCEREJECT=50
	// Within runs a function in the network where its servers are; nil is that of this process.
	Within func(func() error) error
}

// Pebble is a running one. In a DNS server of its own every name leads to 127.0.0.1.
type Pebble struct {
	Directory string // URL
	Roots     string // file by which the server is trusted
	Issuer    string // file by which its certificates are
	HTTPPort  int

	manage, dns string // URLs of the interfaces of management
	client      *http.Client
}

// StartPebble starts Pebble and pebble-challtestsrv until the test ends.
func StartPebble(t testing.TB, o PebbleOptions) *Pebble {
	t.Helper()
	pebble := NeedFile(t, "make "+pebbleFile, pebbleFile)
	challtestsrv := NeedFile(t, "make "+challtestsrvFile, challtestsrvFile)
	if o.Address == "" {
		o.Address = "127.0.0.1"
	}
	if o.Within == nil {
		o.Within = func(do func() error) error { return do() }
	}
	dir := t.TempDir()
	EndWithTest(dir)
	ports := freePorts(t, o, 5)
	if o.HTTPPort == 0 {
		o.HTTPPort = ports[4]
	}
	at := func(i int) string { return net.JoinHostPort(o.Address, strconv.Itoa(ports[i])) }
	p := &Pebble{
		Directory: "https://" + at(0) + "/dir", Roots: filepath.Join(dir, "roots.pem"), HTTPPort: o.HTTPPort,
		manage: "https://" + at(1), dns: "http://" + at(3),
	}
	dial := func(ctx context.Context, _, at string) (c net.Conn, err error) {
		err = o.Within(func() error {
			c, err = new(net.Dialer).DialContext(ctx, "tcp4", at)
			return err
		})
		return c, err
	}
	p.client = &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: writeServerCertificate(t, dir, o.Address)}}}
	t.Cleanup(p.client.CloseIdleConnections)
	config := filepath.Join(dir, "pebble.json")
	retry := max(o.RetryAfter, 1)
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": at(0), "managementListenAddress": at(1), "certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": o.HTTPPort, "tlsPort": 1, "keyAlgorithm": "ecdsa", "domainBlocklist": []string{"blocked.example"},
		"externalAccountBindingRequired": len(o.Bindings) > 0, "externalAccountMACKeys": o.Bindings,
		"retryAfter": map[string]int{"authz": retry, "order": retry},
		"profiles": map[string]any{
			"default":    map[string]any{"description": "90 days", "validityPeriod": 90 * 86400},
			"tlsserver":  map[string]any{"description": "45 days", "validityPeriod": 45 * 86400},
			"shortlived": map[string]any{"description": "160 hours", "validityPeriod": 160 * 3600},
		},
	}})
	if err == nil {
		err = os.WriteFile(config, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	start(t, o, dir, nil, challtestsrv, "-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "", "-dnsserver", at(2), "-management", at(3), "-defaultIPv6", "")
	// Pebble sleeps less than the given number of whole seconds.
	start(t, o, dir, append([]string{"PEBBLE_VA_SLEEPTIME=2"}, o.Env...), pebble, "-strict", "-config", config, "-dnsserver", cmp.Or(o.Names, at(2)))
	p.answer(t, p.dns+"/dns-request-history", `{"host":"x"}`)
	p.answer(t, p.Directory, "")
	p.Issuer = filepath.Join(dir, "issuer.pem")
	if err := os.WriteFile(p.Issuer, p.answer(t, p.manage+"/roots/0", ""), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// SetAddress has a name lead to an IPv4 address.
func (p *Pebble) SetAddress(t testing.TB, host, ip string) {
	t.Helper()
	p.post(t, p.dns+"/add-a", map[string]any{"host": host + ".", "addresses": []string{ip}})
}

// SetDefaultAddress has all names lead to an IPv4 address that SetAddress does not say otherwise of.
func (p *Pebble) SetDefaultAddress(t testing.TB, ip string) {
	t.Helper()
	p.post(t, p.dns+"/set-default-ipv4", map[string]any{"ip": ip})
}

// AddTXT adds a value to a TXT record.
func (p *Pebble) AddTXT(t testing.TB, record, value string) {
	t.Helper()
	p.post(t, p.dns+"/set-txt", map[string]any{"host": record + ".", "value": value})
}

// SetRenewal has Pebble answer when a certificate (PEM) should be renewed.
func (p *Pebble) SetRenewal(t testing.TB, chain string, from, to time.Time) {
	t.Helper()
	p.SetRenewalAnswer(t, chain, fmt.Sprintf(`{"suggestedWindow": {"start": %q, "end": %q}}`, from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339)))
}

// SetRenewalAnswer is SetRenewal with the body of the answer.
func (p *Pebble) SetRenewalAnswer(t testing.TB, chain, body string) {
	t.Helper()
	p.post(t, p.manage+"/set-renewal-info/", map[string]any{"Certificate": chain, "ARIResponse": body})
}

func (p *Pebble) post(t testing.TB, url string, body any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ask(url, string(text)); err != nil {
		t.Fatal(err)
	}
}

// ask posts a body, or gets where there is none.
func (p *Pebble) ask(url, body string) ([]byte, error) {
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequest(method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, text)
	}
	return text, err
}

// answer asks until a server that has been started answers.
func (p *Pebble) answer(t testing.TB, url, body string) []byte {
	t.Helper()
	for i := 0; ; i++ {
		text, err := p.ask(url, body)
		if err == nil {
			return text
		}
		if i == 600 {
			t.Fatalf("%s does not answer: %v", url, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// start runs a program until the test ends; what it prints is shown if the test fails.
func start(t testing.TB, o PebbleOptions, dir string, env []string, program string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, filepath.Base(program)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := o.Within(cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s printed:\n%s", filepath.Base(program), text[max(0, len(text)-8000):])
		}
	})
}

// freePorts are ports that nothing listens on.
func freePorts(t testing.TB, o PebbleOptions, n int) []int {
	t.Helper()
	var ports []int
	for range n {
		var l net.Listener
		if err := o.Within(func() (err error) {
			l, err = net.Listen("tcp", net.JoinHostPort(o.Address, "0"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// writeServerCertificate makes the certificate of Pebble's servers, which is its own root.
func writeServerCertificate(t testing.TB, dir, address string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.ParseIP(address)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{
		"cert.pem": cert, "roots.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}
