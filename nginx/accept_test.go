package nginx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx/nginxtest"
)

// The newer nginx has all features that depend on the version, and the installed one has
// none of them, as Debian 12's.
func TestVersionsUnderTest(t *testing.T) {
	nginxtest.Each(t, func(t *testing.T, n nginxtest.Nginx) {
		b, err := ParseBuild(n.Version)
		if err != nil {
			t.Fatal(err)
		}
		want := n.Name == "newer"
		for what, has := range map[string]bool{
			"HTTP/3": b.HTTP3, "the directive http2": b.HTTP2Directive, "keepalive_min_timeout": b.KeepaliveMinTimeout,
			"a variable with the port of a request": b.RequestPort, "TLS protocols by site": b.ProtocolsBySite,
		} {
			if has != want {
				testenv.Need(t, fmt.Errorf("the %s nginx %v has %s: %v, want %v", n.Name, b.Version, what, has, want))
			}
		}
	})
}

// TestAccepted has nginx test every scene, rendered for that nginx.
func TestAccepted(t *testing.T) { nginxtest.Each(t, testAccepted) }

func testAccepted(t *testing.T, n nginxtest.Nginx) {
	if _, err := ParseBuild(n.Version); err != nil {
		t.Fatal(err)
	}
	crt, key := writePair(t)
	real := func(c *certs.Pair) {
		if c.CertFile == pair.CertFile || c.CertFile == besidePair.CertFile {
			c.CertFile, c.KeyFile = crt, key
		}
	}
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			s.build = n.Version
			s.sites = slices.Clone(s.sites)
			for i := range s.sites {
				real(&s.sites[i].Cert)
				real(&s.sites[i].Beside)
			}
			s.streams = slices.Clone(s.streams)
			for i := range s.streams {
				real(&s.streams[i].Cert)
			}
			dir := t.TempDir()
			tree := s.render(func(set *Settings) {
				if os.Getuid() != 0 {
					set.HTTPPort, set.HTTPSPort, set.User = 18080, 18443, ""
				}
				if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
					set.IPv6 = false
				} else {
					l.Close()
				}
				set.Snippets = []Snippet{
					snippet("http.d/a.conf", "map $host $mine { default 1; }\n"),
					snippet("site.d/a.example.com.conf", "add_header X-Mine $mine;\n"),
				}
			}).Under(dir)
			out, err := accepts(t, n.Binary, dir, tree.Files())
			if err != nil || strings.Contains(strings.ReplaceAll(out, `the "user" directive makes sense only`, ""), "[warn]") {
				t.Errorf("nginx -t: %v\n%s\n%s", err, out, tree)
			}
		})
	}
}

// accepts writes files below a directory and runs nginx -t.
func accepts(t *testing.T, binary, dir string, files []File) (output string, err error) {
	t.Helper()
	for _, d := range []string{"run", "log", filepath.Base(TempDir(dir)), SitesDir, StreamsDir, SNIDir} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f.Path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Path), []byte(f.Text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(binary, "-t", "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, MainFile)).CombinedOutput()
	return string(out), err
}

// writePair makes a self-signed certificate for example.com and its key.
func writePair(t *testing.T) (crt, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.com"}, DNSNames: []string{"example.com", "*.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	crt, key = filepath.Join(dir, "c.crt"), filepath.Join(dir, "c.key")
	for _, f := range []struct{ path, kind, text string }{
		{crt, "CERTIFICATE", string(der)}, {key, "PRIVATE KEY", string(kder)},
	} {
		if err := os.WriteFile(f.path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: []byte(f.text)}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return crt, key
}
