package files

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// made is a certificate with its key, both as PEM.
type made struct{ cert, key []byte }

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func days(n int) time.Time { return now.AddDate(0, 0, n) }

func makeCert(t *testing.T, from, to time.Time, names ...string) made {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: from, NotAfter: to, DNSNames: names,
		IsCA: len(names) == 0, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pk8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return made{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk8}),
	}
}

func good(t *testing.T, names ...string) made { return makeCert(t, days(-1), days(90), names...) }

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestScan(t *testing.T) {
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	tests := []struct {
		name     string
		files    func(t *testing.T, dir string)
		pairs    []string // names
		problems []string // codes
	}{
		{name: "empty", files: func(*testing.T, string) {}},
		{name: "crt and key", files: func(t *testing.T, d string) {
			c := good(t, "a.test")
			write(t, d+"/a.crt", c.cert)
			write(t, d+"/a.key", c.key)
		}, pairs: []string{"a"}},
		{name: "pem and key", files: func(t *testing.T, d string) {
			c := good(t, "a.test")
			write(t, d+"/a.pem", c.cert)
			write(t, d+"/a.key", c.key)
		}, pairs: []string{"a"}},
		{name: "both in one pem, key first", files: func(t *testing.T, d string) {
			c := good(t, "a.test")
			write(t, d+"/a.pem", append(c.key, c.cert...))
		}, pairs: []string{"a"}},
		{name: "a directory per name", files: func(t *testing.T, d string) {
			c := good(t, "a.test")
			write(t, d+"/a.test/fullchain.pem", c.cert)
			write(t, d+"/a.test/privkey.pem", c.key)
			write(t, d+"/a.test/chain.pem", c.cert)
		}, pairs: []string{"a.test"}},
		{name: "symbolic links", files: func(t *testing.T, d string) {
			c := good(t, "a.test")
			write(t, d+"/archive/1.pem", c.cert)
			write(t, d+"/archive/1.key.pem", c.key)
			link(t, "archive/1.pem", d+"/a.crt")
			link(t, "archive/1.key.pem", d+"/a.key")
		}, pairs: []string{"a"}},
		{name: "side files are passed over", files: func(t *testing.T, d string) {
			ca := good(t)
			write(t, d+"/ca.pem", ca.cert)
			write(t, d+"/root.crt", ca.cert)
			write(t, d+"/a.test.chain.pem", ca.cert)
			write(t, d+"/a.test.ca.crt", ca.cert)
			write(t, d+"/dhparam.pem", []byte("x"))
			write(t, d+"/README", []byte("x"))
		}},
		{name: "a certificate of a host that could sign others, without its key", files: func(t *testing.T, d string) {
			write(t, d+"/a.test.crt", good(t).cert)
		}, problems: []string{"cert-unreadable"}},
		{name: "the same with its key, beside it and in one file", files: func(t *testing.T, d string) {
			c := good(t)
			write(t, d+"/a.test.crt", c.cert)
			write(t, d+"/a.test.key", c.key)
			write(t, d+"/b.test.pem", append(c.cert, c.key...))
		}, pairs: []string{"a.test", "b.test"}},
		{name: "acme-companion's directories", files: func(t *testing.T, d string) {
			for _, host := range []string{"a.test", "_test_a.test", "old.test"} {
				c := good(t, "a.test", "b.test")
				write(t, d+"/"+host+"/fullchain.pem", c.cert)
				write(t, d+"/"+host+"/cert.pem", c.cert)
				write(t, d+"/"+host+"/chain.pem", c.cert)
				write(t, d+"/"+host+"/key.pem", c.key)
			}
			write(t, d+"/accounts/acme-v02.api.letsencrypt.org/account.key", []byte("x"))
			write(t, d+"/dhparam.pem", dhParameters(t, 2048))
			for _, host := range []string{"a.test", "b.test"} {
				link(t, "./a.test/fullchain.pem", d+"/"+host+".crt")
				link(t, "./a.test/key.pem", d+"/"+host+".key")
				link(t, "./a.test/chain.pem", d+"/"+host+".chain.pem")
				link(t, "dhparam.pem", d+"/"+host+".dhparam.pem")
			}
			c := good(t)
			write(t, d+"/default.crt", c.cert)
			write(t, d+"/default.key", c.key)
		}, pairs: []string{"a.test", "b.test", "default"}},
		{name: "certbot's directories", files: func(t *testing.T, d string) {
			c := good(t, "a.test")
			write(t, d+"/README", []byte("x"))
			write(t, d+"/archive/a.test/fullchain1.pem", c.cert)
			write(t, d+"/archive/a.test/privkey1.pem", c.key)
			write(t, d+"/a.test/cert.pem", c.cert)
			link(t, "../archive/a.test/fullchain1.pem", d+"/a.test/fullchain.pem")
			link(t, "../archive/a.test/privkey1.pem", d+"/a.test/privkey.pem")
		}, pairs: []string{"a.test"}},
		{name: "mismatch harms no other", files: func(t *testing.T, d string) {
			a, b := good(t, "a.test"), good(t, "b.test")
			write(t, d+"/a.crt", a.cert)
			write(t, d+"/a.key", b.key)
			write(t, d+"/b.crt", b.cert)
			write(t, d+"/b.key", b.key)
		}, pairs: []string{"b"}, problems: []string{"cert-key-mismatch"}},
		{name: "half-written", files: func(t *testing.T, d string) {
			c := good(t, "a.test")
			write(t, d+"/a.crt", c.cert[:len(c.cert)/2])
			write(t, d+"/a.key", c.key)
		}, problems: []string{"cert-unreadable"}},
		{name: "half of a pair in a directory", files: func(t *testing.T, d string) {
			write(t, d+"/b/fullchain.pem", good(t, "a.test").cert)
		}, problems: []string{"cert-unreadable"}},
		{name: "no key", files: func(t *testing.T, d string) {
			write(t, d+"/a.crt", good(t, "a.test").cert)
		}, problems: []string{"cert-unreadable"}},
		{name: "encrypted key", files: func(t *testing.T, d string) {
			write(t, d+"/a.crt", good(t, "a.test").cert)
			write(t, d+"/a.key", encrypted)
		}, problems: []string{"cert-unreadable"}},
		{name: "a FIFO does not hang", files: func(t *testing.T, d string) {
			if err := syscall.Mkfifo(d+"/a.crt", 0o600); err != nil {
				t.Fatal(err)
			}
			write(t, d+"/a.key", []byte("x"))
		}, problems: []string{"cert-unreadable"}},
		{name: "expired is used and said", files: func(t *testing.T, d string) {
			c := makeCert(t, days(-90), days(-1), "a.test")
			write(t, d+"/a.pem", append(c.cert, c.key...))
		}, pairs: []string{"a"}, problems: []string{"cert-expired"}},
		{name: "expiring", files: func(t *testing.T, d string) {
			c := makeCert(t, days(-80), days(10), "a.test")
			write(t, d+"/a.pem", append(c.cert, c.key...))
		}, pairs: []string{"a"}, problems: []string{"cert-expiring"}},
		{name: "not valid yet is not used", files: func(t *testing.T, d string) {
			c := makeCert(t, days(1), days(90), "a.test")
			write(t, d+"/a.pem", append(c.cert, c.key...))
		}, problems: []string{"cert-not-yet-valid"}},
		{name: "a name that could be more than a name", files: func(t *testing.T, d string) {
			c := good(t, "a.test")
			write(t, d+"/a;b.pem", append(c.cert, c.key...))
		}, problems: []string{"cert-unreadable"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.files(t, dir)
			inv, _, err := scan(dir, kept{}, now)
			if err != nil {
				t.Fatal(err)
			}
			var pairs, problems []string
			for _, p := range inv.Pairs {
				pairs = append(pairs, p.Name)
			}
			for _, p := range inv.Problems {
				problems = append(problems, p.Code)
				if p.Hint == "" || strings.Contains(p.Hint, "root only") { // who reads it is not root
					t.Errorf("problem %s has no hint", p.Code)
				}
			}
			if d := cmp.Diff(tt.pairs, pairs); d != "" {
				t.Errorf("pairs (-want +got):\n%s%+v", d, inv.Problems)
			}
			if d := cmp.Diff(tt.problems, problems); d != "" {
				t.Errorf("problems (-want +got):\n%s%+v", d, inv.Problems)
			}
		})
	}
}

// What lies beside a certificate is by what clients' certificates are verified, and what nginx
// needs for old ciphers. A change of any part makes another fingerprint.
func TestFilesBesideACertificate(t *testing.T) {
	dir := t.TempDir()
	c, ca := good(t, "a.test"), good(t)
	seen := map[string]string{}
	note := func(what string, authorities int) (certs.Pair, certs.Authority) {
		t.Helper()
		inv, _, err := scan(dir, kept{}, now)
		if err != nil || len(inv.Pairs) != 1 || len(inv.Problems) != 0 || len(inv.Authorities) != authorities {
			t.Fatalf("%s: %+v, %v", what, inv, err)
		}
		p, a := inv.Pairs[0], certs.Authority{}
		if authorities > 0 {
			a = inv.Authorities[0]
		}
		if sum := p.Fingerprint + a.Fingerprint; seen[sum] != "" {
			t.Errorf("%s has the fingerprint of %s", what, seen[sum])
		} else {
			seen[sum] = what
		}
		return p, a
	}
	write(t, dir+"/a.crt", c.cert)
	write(t, dir+"/a.key", c.key)
	if p, _ := note("the certificate alone", 0); p.DHParamFile != "" {
		t.Errorf("alone: %+v", p)
	}
	write(t, dir+"/a.crt", append(c.cert, ca.cert...))
	note("with a chain", 0)
	write(t, dir+"/a.dhparam.pem", dhParameters(t, 2048))
	if p, _ := note("with parameters", 0); p.DHParamFile != dir+"/a.dhparam.pem" {
		t.Errorf("with parameters: %+v", p)
	}
	write(t, dir+"/a.ca.crt", ca.cert)
	if _, a := note("with an authority", 1); a.Name != "a" || a.CAFile != dir+"/a.ca.crt" || a.CRLFile != "" {
		t.Errorf("with an authority: %+v", a)
	}
	write(t, dir+"/a.ca.crt", good(t).cert)
	note("with another authority", 1)
	write(t, dir+"/a.crl.pem", revocations(t, 1))
	if _, a := note("with revocations", 1); a.CRLFile != dir+"/a.crl.pem" {
		t.Errorf("with revocations: %+v", a)
	}
	write(t, dir+"/a.crl.pem", revocations(t, 2))
	note("with other revocations", 1)
	write(t, dir+"/ca.crt", ca.cert)
	write(t, dir+"/ca.crl.pem", revocations(t, 3))
	write(t, dir+"/0123456789abcdef0123456789abcdef01234567.ca.crt", ca.cert)
	inv, _, err := scan(dir, kept{}, now)
	if err != nil || len(inv.Authorities) != 3 || len(inv.Problems) != 0 {
		t.Fatalf("with one for all: %+v, %v", inv, err)
	}
	if a, ok := inv.AuthorityOf("none", certs.GlobalAuthority); !ok || a.CAFile != dir+"/ca.crt" || a.CRLFile != dir+"/ca.crl.pem" {
		t.Errorf("the one for all: %+v", a)
	}

	// A site must not be open to everybody because its authority cannot be used.
	for file, text := range map[string][]byte{"a.ca.crt": []byte("none"), "a.crl.pem": []byte("none"), "ca.crl.pem": pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("x")})} {
		before, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), text)
		inv, _, err := scan(dir, kept{}, now)
		a, ok := inv.AuthorityOf(strings.TrimSuffix(strings.TrimSuffix(file, ".ca.crt"), ".crl.pem"))
		if err != nil || !ok || !a.Unusable || a.CAFile != "" || len(inv.Problems) != 1 || inv.Problems[0].Code != "cert-unreadable" || inv.Problems[0].File != filepath.Join(dir, file) {
			t.Errorf("with %s that is none: %+v, %v", file, inv, err)
		}
		write(t, filepath.Join(dir, file), before)
	}
}

// Parameters that nginx would refuse cost no site its certificate.
func TestParametersThatCannotBeUsed(t *testing.T) {
	for name, text := range map[string][]byte{"weak": dhParameters(t, 1024), "none": []byte("x"), "no numbers": pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS", Bytes: []byte("x")})} {
		dir, c := t.TempDir(), good(t, "a.test")
		write(t, dir+"/a.pem", append(c.cert, c.key...))
		write(t, dir+"/a.dhparam.pem", text)
		inv, _, err := scan(dir, kept{}, now)
		if err != nil || len(inv.Pairs) != 1 || inv.Pairs[0].DHParamFile != "" || len(inv.Problems) != 1 || inv.Problems[0].File != dir+"/a.dhparam.pem" {
			t.Errorf("%s: %+v, %v", name, inv, err)
		}
	}
}

// dhParameters are as long as real ones.
func dhParameters(t *testing.T, bits uint) []byte {
	t.Helper()
	p := new(big.Int).Lsh(big.NewInt(1), bits-1)
	der, err := asn1.Marshal(struct{ P, G *big.Int }{p.Add(p, big.NewInt(1)), big.NewInt(2)})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "DH PARAMETERS", Bytes: der})
}

// revocations is a list of revoked certificates.
func revocations(t *testing.T, number int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1}, Subject: pkix.Name{CommonName: "test"}}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: days(-1), NextUpdate: days(1)}, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		t.Fatal(err)
	}
}

// Of 500 hosts acme-companion keeps five files each, beside authorities that keep sites closed.
func TestADirectoryOfManyHostsIsReadWhole(t *testing.T) {
	dir := t.TempDir()
	ca := makeCert(t, now.Add(-time.Hour), now.Add(time.Hour))
	write(t, filepath.Join(dir, "a.test.ca.crt"), ca.cert)
	for n := range 2500 {
		write(t, filepath.Join(dir, strconv.Itoa(n)+".txt"), nil)
	}
	write(t, filepath.Join(dir, "b.test.ca.crt"), ca.cert)
	inv, _, err := scan(dir, kept{}, now)
	if err != nil || len(inv.Problems) > 0 || len(inv.Authorities) != 2 {
		t.Errorf("%+v, %+v, %v", inv.Authorities, inv.Problems, err)
	}
}

func TestADirectoryWithTooMuchInItIsAProblem(t *testing.T) {
	dir := t.TempDir()
	for n := range maxEntries {
		write(t, filepath.Join(dir, strconv.Itoa(n)+".txt"), nil)
		if n < maxEntries-2 {
			continue
		}
		inv, _, err := scan(dir, kept{}, now)
		if err != nil || (len(inv.Problems) == 1 && inv.Problems[0].Code == "cert-unreadable") != (n == maxEntries-1) {
			t.Errorf("%d files: %+v, %v", n+1, inv.Problems, err)
		}
	}
}
