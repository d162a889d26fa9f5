package files

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/latest"
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

// watching runs Watch and returns a function that waits for an inventory that fits.
func watching(t *testing.T, o Options) func(what string, fits func(certs.Inventory) bool) certs.Inventory {
	t.Helper()
	slot := latest.New[certs.Inventory]()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, o, slot.Put) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Watch = %v, want nil", err)
		}
	})
	return func(what string, fits func(certs.Inventory) bool) certs.Inventory {
		t.Helper()
		deadline := time.After(30 * time.Second)
		var last certs.Inventory
		for {
			select {
			case last = <-slot.C():
				if fits(last) {
					return last
				}
			case <-deadline:
				t.Fatalf("never saw %s; last: %+v", what, last)
			}
		}
	}
}

func current(t *testing.T, names ...string) made {
	t.Helper()
	return makeCert(t, time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour), names...)
}

func TestWatchFollowsTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	until := watching(t, Options{Dir: dir, Settle: 10 * time.Millisecond, Poll: 10 * time.Millisecond})
	inv := until("the missing directory", func(certs.Inventory) bool { return true })
	if !inv.Complete || len(inv.Pairs) != 0 || len(inv.Problems) != 0 {
		t.Errorf("a missing directory gave %+v, want a quiet, complete, empty inventory", inv)
	}

	a, b := current(t, "a.test"), current(t, "b.test")
	write(t, dir+"/a.crt", a.cert)
	write(t, dir+"/a.key", a.key)
	until("the first pair", func(v certs.Inventory) bool { return len(v.Pairs) == 1 && len(v.Problems) == 0 })

	write(t, dir+"/b.test/fullchain.pem", b.cert)
	write(t, dir+"/b.test/privkey.pem", b.key)
	until("a pair in a new sub-directory", func(v certs.Inventory) bool { return len(v.Pairs) == 2 && len(v.Problems) == 0 })

	write(t, dir+"/a.crt", a.cert[:40])
	v := until("the pair that broke", func(v certs.Inventory) bool { return len(v.Problems) == 1 })
	if len(v.Pairs) != 1 || v.Pairs[0].Name != "b.test" {
		t.Errorf("a broken pair left %+v, want b.test unharmed", v.Pairs)
	}

	renewed := current(t, "a.test")
	write(t, dir+"/a.crt", renewed.cert)
	write(t, dir+"/a.key", renewed.key)
	until("the renewed pair", func(v certs.Inventory) bool { return len(v.Pairs) == 2 && len(v.Problems) == 0 })
}

// What appears between the reading of a directory and the wait for its changes gives no sign.
func TestWatchMissesNothingBetweenReadingAndWaiting(t *testing.T) {
	a := current(t, "a.test")
	for name, setUp := range map[string]func(t *testing.T, dir string){
		"missing": func(*testing.T, string) {},
		"a file in its place": func(t *testing.T, dir string) {
			write(t, dir, []byte("none"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "certs")
			setUp(t, dir)
			appear := sync.OnceFunc(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
				write(t, dir+"/a.pem", append(a.cert, a.key...))
			})
			slot := latest.New[certs.Inventory]()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- Watch(ctx, Options{Dir: dir, Settle: time.Millisecond, Poll: time.Millisecond}, func(v certs.Inventory) {
					appear()
					slot.Put(v)
				})
			}()
			for deadline := time.After(30 * time.Second); ; {
				select {
				case v := <-slot.C():
					if len(v.Pairs) == 0 {
						continue
					}
				case <-deadline:
					t.Error("the pair was never seen")
				}
				break
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Watch = %v, want nil", err)
			}
		})
	}
}

// The operator gives a certificate up by removing its copy; that is seen at once.
func TestWatchSeesThatACopyIsRemoved(t *testing.T) {
	dir, made := t.TempDir(), filepath.Join(t.TempDir(), "copies")
	a := current(t, "a.test")
	write(t, dir+"/a.pem", append(a.cert, a.key...))
	used := make(chan []string, 1)
	used <- []string{"a"}
	until := watching(t, Options{Dir: dir, Copies: made, Used: used, Settle: 10 * time.Millisecond})
	until("the pair", func(v certs.Inventory) bool { return len(v.Pairs) == 1 })
	remove(t, dir+"/a.pem")
	v := until("its copy", func(v certs.Inventory) bool { return len(v.Problems) == 1 })
	if len(v.Pairs) != 1 || v.Problems[0].Code != "cert-gone" {
		t.Errorf("%+v", v)
	}
	remove(t, made+"/certs/a")
	until("nothing", func(v certs.Inventory) bool { return len(v.Pairs) == 0 && len(v.Problems) == 0 })
}

// Each of the links that lead to a certificate may be the one that changes, that of the directory too.
func TestWatchSeesALinkChange(t *testing.T) {
	root := t.TempDir()
	pair := func(version string) certs.Pair {
		c := current(t, "a.test")
		write(t, root+"/archive/"+version+".pem", append(c.cert, c.key...))
		l, p := read(candidate{name: "a", certFile: root + "/archive/" + version + ".pem", keyFile: root + "/archive/" + version + ".pem"})
		if p != nil {
			t.Fatal(p)
		}
		return l.pair
	}
	relink := func(to, at string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, at+".new"), os.Rename(at+".new", at)); err != nil {
			t.Fatal(err)
		}
	}
	one, two, three := pair("1"), pair("2"), pair("3")
	for _, dir := range []string{"live", "etc", "blue", "green"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link(t, "../archive/1.pem", root+"/live/a.pem") // as certbot does
	link(t, "../live/a.pem", root+"/blue/a.pem")
	link(t, "../archive/3.pem", root+"/green/a.pem")
	link(t, "../blue", root+"/etc/certs")
	until := watching(t, Options{Dir: root + "/etc/certs", Settle: 10 * time.Millisecond})
	is := func(p certs.Pair) func(certs.Inventory) bool {
		return func(v certs.Inventory) bool { return len(v.Pairs) == 1 && v.Pairs[0].Fingerprint == p.Fingerprint }
	}
	until("the pair", is(one))
	relink("../archive/2.pem", root+"/live/a.pem")
	until("another file behind the second link", is(two))
	relink("../green", root+"/etc/certs")
	until("another directory", is(three))
}

func TestWatchSeesTheTargetOfALinkChange(t *testing.T) {
	dir := t.TempDir()
	elsewhere := t.TempDir()
	a := current(t, "a.test")
	write(t, elsewhere+"/a.pem", append(a.cert, a.key...))
	link(t, elsewhere+"/a.pem", dir+"/a.pem")
	until := watching(t, Options{Dir: dir, Settle: 10 * time.Millisecond})
	old := until("the pair", func(v certs.Inventory) bool { return len(v.Pairs) == 1 })
	renewed := current(t, "a.test")
	write(t, elsewhere+"/a.pem", append(renewed.cert, renewed.key...))
	until("the renewed pair", func(v certs.Inventory) bool {
		return len(v.Pairs) == 1 && v.Pairs[0].Fingerprint != old.Pairs[0].Fingerprint
	})
}
