package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/imports"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/doctest"
)

// pemOf is a certificate for the host that is valid for so many days, and its key.
func pemOf(t *testing.T, host string, days int) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{host}, NotBefore: now.AddDate(0, 0, -30), NotAfter: now.AddDate(0, 0, days)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func TestCertsImport(t *testing.T) {
	dir := t.TempDir()
	state, source := filepath.Join(dir, "state"), filepath.Join(dir, "pem")
	for _, d := range []string{state, source} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"good.pem": pemOf(t, "good.test", 60), "old.pem": pemOf(t, "old.test", -1), "notes.txt": "hello",
		"../nagaya.yaml": fmt.Sprintf("state-dir: %s\nrun-dir: %s\nimds: false\n", state, dir),
	} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	try := func(code int, want string, args ...string) ran {
		t.Helper()
		r := nagaya(t, append([]string{"--config", filepath.Join(dir, "nagaya.yaml"), "certs", "import"}, args...)...)
		if r.code != code || !strings.Contains(r.out+r.errs, want) {
			t.Errorf("%v: code %d\n%s%s\nwant %d, %q", args, r.code, r.out, r.errs, code, want)
		}
		return r
	}
	store := filepath.Join(state, "store")
	r := try(0, "2 certificates found, 1 would be imported, 1 left out; the store is "+store, "--dry-run", source)
	for _, line := range []string{
		"would be imported  good.test\n                   PEM: " + source + "/good.pem, valid until ",
		"left out           old.test\n                   PEM: " + source + "/old.pem, valid until ",
		"→ it expired on ",
	} {
		if !strings.Contains(r.out, line) {
			t.Errorf("%q is not in\n%s", line, r.out)
		}
	}
	if _, err := os.Stat(store); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a dry run has made the store: %v", err)
	}
	try(0, "1 imported, 1 left out", source)
	try(0, "→ the store has it", source)
	r = try(0, "", "--json", source)
	var got imports.Report
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || got.Store != store || len(got.Certificates) != 2 || got.Certificates[0].Outcome != imports.Present || strings.Contains(r.out, "PRIVATE") {
		t.Errorf("%v: %s", err, r.out)
	}
	if info, err := os.Stat(store + "/certs/good.test.P256.json"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the object: %v, %v", info, err)
	}

	if !strings.Contains(r.errs, "certs.acme.email is not set") {
		t.Errorf("with ACME off it says %q", r.errs)
	}

	try(1, "0 certificates found", source+"/notes.txt")
	try(1, "cannot be read", source+"/none")
	try(2, "an argument is missing")
	if err := os.WriteFile(filepath.Join(dir, "nagaya.yaml"), []byte("certs: {stor: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	try(2, "stor", source)
}

func day(text string) time.Time {
	d, _ := time.Parse(time.DateOnly, text)
	return d
}

// The certificates that the page shows are what the program prints.
func TestDocsShowTheCertificates(t *testing.T) {
	r := certs.Report{On: true, StoreRead: true, Store: "s3://BUCKET/nagaya", Entries: []certs.Entry{
		{Hosts: []string{"blog.example.com"}, Names: []string{"blog.example.com"}, Source: "acme", State: certs.Waiting, Reason: "the name blog.example.com has no address"},
		{Hosts: []string{"mail.example.com"}, Names: []string{"*.example.com"}, Issuer: "Example CA", Source: "file", KeyType: certs.RSA, NotAfter: day("2027-08-01"), State: certs.Valid},
		{Hosts: []string{"shop.example.com"}, Names: []string{"shop.example.com"}, Issuer: "Let's Encrypt E7", Directory: config.Default().Certs.ACME.Directories[0], Source: "acme", KeyType: certs.ECDSA, NotAfter: day("2027-02-12"), Renewal: day("2027-01-22"), State: certs.Valid},
	}}
	doctest.Printed(t, "docs/certificates.md", "nagaya certs", r.Text(day("2026-12-10")))
}

// The import that the page shows is what the program prints.
func TestDocsShowAnImport(t *testing.T) {
	found := func(file, until, why string, names ...string) certs.Found {
		return certs.Found{Held: certs.Held{Names: names, NotAfter: day(until)}, Program: "certbot", File: "/etc/letsencrypt/" + file, Why: why}
	}
	const older, expired = "a newer one for the same names was found", "it expired on 2026-10-03"
	doctest.Printed(t, "docs/certificates.md", "nagaya certs import --dry-run /etc/letsencrypt", importText(imports.Report{
		Store: "s3://BUCKET/nagaya",
		Certificates: []imports.Result{
			{Found: found("live/blog.example.com/fullchain.pem", "2026-10-03", expired, "blog.example.com"), Outcome: imports.LeftOut, Note: expired},
			{Found: found("live/shop.example.com/fullchain.pem", "2027-02-12", "", "shop.example.com", "www.shop.example.com"), Outcome: imports.Wanted},
			{Found: found("archive/shop.example.com/fullchain4.pem", "2026-12-14", older, "shop.example.com", "www.shop.example.com"), Outcome: imports.LeftOut, Note: older},
		},
	}))
}
