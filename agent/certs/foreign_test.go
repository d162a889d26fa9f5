package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var today = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// issuer signs certificates for the tests.
type issuer struct {
	t    testing.TB
	name string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	text string
}

func newIssuer(t testing.TB, name string) issuer {
	i := issuer{t: t, name: name, key: newKey(t)}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: today.AddDate(-1, 0, 0), NotAfter: today.AddDate(9, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, i.key.Public(), i.key)
	if err != nil {
		t.Fatal(err)
	}
	i.cert, _ = x509.ParseCertificate(der)
	i.text = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return i
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign makes a certificate that is valid from a day to another, from today on.
func (i issuer) sign(key crypto.Signer, from, to int, names ...string) string {
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(1000 + to)), NotBefore: today.AddDate(0, 0, from), NotAfter: today.AddDate(0, 0, to)}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	parent, by := i.cert, crypto.Signer(i.key)
	if i.cert == nil { // by itself
		parent, by = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), by)
	if err != nil {
		i.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func keyText(t testing.TB, key crypto.Signer) string {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// brief is a found certificate in a line.
func brief(f Found) string {
	return fmt.Sprintf("%s %s %s %s %s %s", strings.Join(f.Names, ","), f.Program, f.File, f.NotAfter.Format(time.DateOnly), f.Directory, f.Why)
}

func found(now time.Time, files map[string]string) []string {
	var all []File
	for path, text := range files {
		all = append(all, File{path, []byte(text)})
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	var lines []string
	for _, f := range Foreign(all, now) {
		lines = append(lines, brief(f))
	}
	return lines
}

func TestForeign(t *testing.T) {
	ca, staging := newIssuer(t, "Test CA"), newIssuer(t, "(STAGING) Pretend Pear")
	key, other := newKey(t), newKey(t)
	leaf, old := ca.sign(key, -10, 50, "b.test", "A.test"), ca.sign(other, -80, 10, "a.test", "b.test")
	k := keyText(t, key)
	sec1, _ := x509.MarshalECPrivateKey(key)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	acme, err := json.Marshal(map[string]any{
		"le": map[string]any{
			"Account":      map[string]any{"Email": "a@b.test", "Registration": map[string]any{"uri": "https://acme-v02.api.letsencrypt.org/acme/acct/1"}},
			"Certificates": []any{map[string]any{"domain": map[string]any{"main": "a.test"}, "certificate": base64.StdEncoding.EncodeToString([]byte(leaf + ca.text)), "key": base64.StdEncoding.EncodeToString([]byte(k)), "Store": "default"}, map[string]any{"certificate": "!", "key": ""}},
		},
		"other": map[string]any{"Certificates": []any{map[string]any{"certificate": base64.StdEncoding.EncodeToString([]byte(old)), "key": base64.StdEncoding.EncodeToString([]byte(keyText(t, other)))}}},
		"none":  nil,
	})
	if err != nil {
		t.Fatal(err)
	}
	const good = "a.test,b.test PEM x.pem 2027-01-20  "
	const server = "https://acme-v02.api.letsencrypt.org/directory"
	for name, row := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"nothing":         {map[string]string{"/x/notes": "hello", "/x/y.json": "{}", "/x/z.json": "{", "/x/w.json": `{"a": []}`}, nil},
		"one file":        {map[string]string{"x.pem": leaf + k}, []string{good}},
		"key of old form": {map[string]string{"x.pem": leaf + string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))}, []string{good}},
		"key elsewhere":   {map[string]string{"x.pem": leaf, "private/any": k}, []string{good}},
		"another's key":   {map[string]string{"x.pem": leaf + keyText(t, other)}, []string{good + "no key was found that belongs to it, or that is not encrypted"}},
		"authority first": {map[string]string{"x.pem": k + ca.text + leaf}, []string{good}},
		"authority alone": {map[string]string{"x.pem": ca.text}, nil},
		"expired":         {map[string]string{"x.pem": ca.sign(key, -90, 0, "a.test") + k}, []string{"a.test PEM x.pem 2026-12-01  it expired on 2026-12-01"}},
		"later":           {map[string]string{"x.pem": ca.sign(key, 1, 9, "a.test") + k}, []string{"a.test PEM x.pem 2026-12-10  it is valid from 2026-12-02 on"}},
		"no names":        {map[string]string{"x.pem": ca.sign(key, -1, 9) + k}, []string{" PEM x.pem 2026-12-10  it has 0 names, not 1 to 100"}},
		"hostile name":    {map[string]string{"x.pem": ca.sign(key, -1, 9, "a b;c.test", "ok.test") + k}, []string{`a b;c.test,ok.test PEM x.pem 2026-12-10  "a b;c.test" is no name of a host`}},
		"an address":      {map[string]string{"x.pem": ca.sign(key, -1, 9, "203.0.113.9") + k}, []string{"203.0.113.9 PEM x.pem 2026-12-10  "}},
		"by itself":       {map[string]string{"x.pem": issuer{t: t}.sign(key, -1, 9, "a.test") + k}, []string{"a.test PEM x.pem 2026-12-10  it is signed by itself; put it into certs.dir if it is to be served"}},
		"staging":         {map[string]string{"x.pem": staging.sign(key, -1, 9, "a.test") + k}, []string{"a.test PEM x.pem 2026-12-10  it is from a staging CA, which no client trusts"}},
		"weak":            {map[string]string{"x.pem": ca.sign(weak, -1, 9, "a.test") + keyText(t, weak)}, []string{"a.test PEM x.pem 2026-12-10  its key is neither ECDSA nor RSA with 2048 bits or more"}},
		"the newer that can be used": {
			map[string]string{"1.pem": leaf, "2.pem": ca.sign(other, -20, 40, "a.test", "b.test"), "3.pem": ca.sign(other, -30, 30, "a.test", "b.test") + keyText(t, other)},
			[]string{
				"a.test,b.test PEM 1.pem 2027-01-20  no key was found that belongs to it, or that is not encrypted",
				"a.test,b.test PEM 2.pem 2027-01-10  ", "a.test,b.test PEM 3.pem 2026-12-31  a newer one for the same names was found",
			},
		},
		"certbot": {
			map[string]string{
				"/etc/letsencrypt/archive/a.test/cert1.pem": old, "/etc/letsencrypt/archive/a.test/fullchain1.pem": old + ca.text, "/etc/letsencrypt/archive/a.test/privkey1.pem": keyText(t, other),
				"/etc/letsencrypt/archive/a.test/cert2.pem": leaf, "/etc/letsencrypt/archive/a.test/fullchain2.pem": leaf + ca.text, "/etc/letsencrypt/archive/a.test/privkey2.pem": k,
				"/etc/letsencrypt/live/a.test/cert.pem": leaf, "/etc/letsencrypt/live/a.test/fullchain.pem": leaf + ca.text, "/etc/letsencrypt/live/a.test/chain.pem": ca.text, "/etc/letsencrypt/live/a.test/privkey.pem": k,
				"/etc/letsencrypt/renewal/a.test.conf": "version = 2.1.0\n[renewalparams]\naccount = 1\nserver = " + server + "\n",
			},
			[]string{
				"a.test,b.test certbot /etc/letsencrypt/live/a.test/fullchain.pem 2027-01-20 " + server + " ",
				"a.test,b.test certbot /etc/letsencrypt/archive/a.test/fullchain1.pem 2026-12-11 " + server + " a newer one for the same names was found",
			},
		},
		"acme.sh": {
			map[string]string{
				"/root/.acme.sh/a.test_ecc/a.test.cer": leaf, "/root/.acme.sh/a.test_ecc/fullchain.cer": leaf + ca.text, "/root/.acme.sh/a.test_ecc/ca.cer": ca.text,
				"/root/.acme.sh/a.test_ecc/a.test.key": k, "/root/.acme.sh/a.test_ecc/a.test.conf": "Le_Domain='a.test'\nLe_API='" + server + "'\n",
			},
			[]string{"a.test,b.test acme.sh /root/.acme.sh/a.test_ecc/fullchain.cer 2027-01-20 " + server + " "},
		},
		"nginx-acme": {
			map[string]string{
				"/s/acme_le/account.key": keyText(t, other), "/s/acme_le/account.url": "https://acme-v02.api.letsencrypt.org/acme/acct/7",
				"/s/acme_le/b.test-1f.crt": leaf + ca.text, "/s/acme_le/b.test-1f.key": k,
			},
			[]string{"a.test,b.test nginx-acme /s/acme_le/b.test-1f.crt 2027-01-20 " + server + " "},
		},
		"Traefik": {
			map[string]string{"acme.json": string(acme)},
			[]string{"a.test,b.test Traefik acme.json 2027-01-20 " + server + " ", "a.test,b.test Traefik acme.json 2026-12-11  a newer one for the same names was found"},
		},
		"Traefik 1": {
			map[string]string{"acme.json": `{"Account": {"Registration": {"uri": "https://ca.test/1"}}, "Certificates": [{"Certificate": "` +
				base64.StdEncoding.EncodeToString([]byte(leaf)) + `", "Key": "` + base64.StdEncoding.EncodeToString([]byte(k)) + `"}]}`},
			[]string{"a.test,b.test Traefik acme.json 2027-01-20  "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, found(today, row.files)); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

// What is kept of a certificate is its chain, the host's first, and the key that belongs to it.
func TestBundleOfForeign(t *testing.T) {
	ca, key := newIssuer(t, "Test CA"), newKey(t)
	leaf := ca.sign(key, -1, 9, "a.test")
	all := Foreign([]File{{"x.pem", []byte("words\n" + ca.text + leaf + keyText(t, key))}}, today)
	want := Bundle{
		Held:  Held{ID: "a.test.P256", Names: []string{"a.test"}, KeyType: ECDSA, Imported: true, NotBefore: today.AddDate(0, 0, -1), NotAfter: today.AddDate(0, 0, 9)},
		Chain: leaf + ca.text, Key: keyText(t, key),
	}
	if len(all) != 1 {
		t.Fatalf("found %v", all)
	}
	if diff := cmp.Diff(want, all[0].Bundle()); diff != "" {
		t.Errorf("the bundle (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(all)
	if err != nil || strings.Contains(string(text), "BEGIN") {
		t.Errorf("in JSON: %s, %v", text, err)
	}
}

// Whatever is in a file: what can be used has valid names and a key.
func FuzzForeign(f *testing.F) {
	ca, key := newIssuer(f, "Test CA"), newKey(f)
	leaf := ca.sign(key, -1, 9, "a.test", "*.a.test")
	f.Add("/live/a/x.pem", []byte(leaf+ca.text+keyText(f, key)))
	f.Add("acme.json", []byte(`{"le":{"Account":{"Registration":{"uri":"x"}},"Certificates":[{"certificate":"`+base64.StdEncoding.EncodeToString([]byte(leaf))+`","key":"`+base64.StdEncoding.EncodeToString([]byte(keyText(f, key)))+`"}]}}`))
	f.Add("/r/a.conf", []byte("server = https://x\n[renewalparams]\n"))
	f.Add("a/b.conf", []byte("Le_API='https://x'\n"))
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		for _, one := range Foreign([]File{{path, body}, {"key", []byte(keyText(t, key))}}, today) {
			b := one.Bundle()
			if one.Why == "" && (len(b.Names) == 0 || b.Key == "" || b.Chain == "" || !b.NotAfter.After(today)) {
				t.Errorf("%+v can be used", one)
			}
		}
	})
}
