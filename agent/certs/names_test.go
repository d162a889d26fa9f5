package certs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

func TestCheck(t *testing.T) {
	const invalid = "no host name"
	long := strings.Repeat("a", 63) + "."
	for _, tt := range []struct {
		name            string
		public, private string // part of the cause; empty where it may be ordered
	}{
		{"a.example.com", "", ""},
		{"example.com", "", ""},
		{"*.example.com", "", ""},
		{"example.co.uk", "", ""},
		{"xn--bcher-kva.example.com", "", ""},
		{"a.github.io", "", ""},
		{"github.io", "", ""},
		{"*.github.io", "wildcard for all domains", ""},
		{"203.0.113.7", "", ""},
		{"2001:db8::7", "", ""},
		{"10.1.2.3", "private address", ""},
		{"127.0.0.1", "private address", ""},
		{"fe80::1%eth0", invalid, invalid},
		{"::ffff:203.0.113.7", invalid, invalid},
		{"2001:DB8::7", invalid, invalid},
		{"1.2.3", invalid, invalid},
		{"a.test", "private name", ""},
		{"test", "one label", ""},
		{"a.local", "private name", ""},
		{"a.internal", "private name", ""},
		{"ip-10-0-0-1.eu-west-1.compute.internal", "private name", ""},
		{"a.home.arpa", "private name", ""},
		{"a.corp", "private name", ""},
		{"web", "one label", ""},
		{"a.nosuchtld", "no top-level domain", ""},
		{"localhost", "no CA", "no CA"},
		{"a.onion", "no CA", "no CA"},
		{"com", "public suffix", ""},
		{"co.uk", "public suffix", ""},
		{"*.com", "wildcard for all domains", ""},
		{"*.co.uk", "wildcard for all domains", ""},
		{"", invalid, invalid},
		{"a.example.com.", invalid, invalid},
		{"*.*.example.com", invalid, invalid},
		{"a.*.example.com", invalid, invalid},
		{"*", invalid, invalid},
		{"a_b.example.com", "underscore", "underscore"},
		{"bücher.example.com", invalid, invalid},
		{"xn--zz--zz.example.com", "can be read", "can be read"},
		{"ab--c.example.com", "can be read", "can be read"},
		{"~^a.*", invalid, invalid},
		{"~^(a|b)$", invalid, invalid},
		{"A.example.com", invalid, invalid},
		{"-a.example.com", invalid, invalid},
		{"a..example.com", invalid, invalid},
		{"a b.example.com", invalid, invalid},
		{"a.example.com/x", invalid, invalid},
		{strings.Repeat("a", 64) + ".example.com", invalid, invalid},
		{strings.Repeat(long, 4) + "example.com", invalid, invalid},
	} {
		for directory, want := range map[string]string{letsEncrypt: tt.public, private: tt.private} {
			r := check([]string{tt.name}, directory)
			switch {
			case (r != nil) != (want != ""):
				t.Errorf("%q at %s: %+v", tt.name, directory, r)
			case r != nil && (!strings.Contains(r.text, want) || r.hint == "" || !strings.HasPrefix(r.text, problem.Quoted(tt.name))):
				t.Errorf("%q at %s: %+v, want %q", tt.name, directory, r, want)
			}
		}
	}
	if check([]string{"198.51.100.7", "a.example.com"}, private) == nil {
		t.Error("an address beside a name")
	}
}

// A host with names that cannot be ordered is a problem, and no order.
func TestRefusedNames(t *testing.T) {
	for _, names := range [][]string{{"a.local"}, {"*.example.com"}, {"203.0.113.9"}, {"bücher.example"}, {"a.example.com."}, {"ok.example.com", "web"}} {
		w := newWorld(t, letsEncrypt)
		w.wish("ecs:a", names...)
		d := Decide(w.in)
		e := d.entry(t, names[0])
		if len(d.Start) > 0 || e.State != Refused || e.Problem != "cert-refused" || len(d.Problems) != 1 || d.Problems[0].Host != names[0] || d.Problems[0].Hint == "" {
			t.Errorf("%q: %+v", names, d)
		}
	}
	w := newWorld(t, letsEncrypt, private)
	w.wish("ecs:a", "a.test")
	if d := Decide(w.in); len(d.Start) != 1 || d.Start[0].Directory != private {
		t.Errorf("a private name is ordered where that can be: %+v", d)
	}
}

func TestPublicCA(t *testing.T) {
	for directory, want := range map[string]bool{
		letsEncrypt: true, letsEncryptStaging: true, "https://acme.zerossl.com/v2/DV90": true, "https://dv.acme-v02.api.pki.goog/directory": true,
		private: false, "https://127.0.0.1:14000/dir": false, "https://notletsencrypt.org/": false, "": false, ":": false,
	} {
		if publicCA(directory) != want {
			t.Errorf("%q: %v", directory, !want)
		}
	}
}

var fileSafe = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func TestID(t *testing.T) {
	seen := map[string]string{}
	for _, names := range [][]string{
		{"a.example.com"},
		{"b.example.com"},
		{"a.example.com", "b.example.com"},
		{"*.example.com"},
		{"198.51.100.7"},
		{"2001:db8::7"},
		{strings.Repeat("a", 63) + "." + strings.Repeat("b", 63)},
		{"a.example.com.p256"},
		{"set-00"},
	} {
		for _, key := range []KeyType{ECDSA, RSA} {
			id := ID(names, key)
			if !fileSafe.MatchString(id) || len(id) > 120 || seen[id] != "" {
				t.Errorf("%v: %q, which %q has", names, id, seen[id])
			}
			seen[id] = fmt.Sprint(names, key)
		}
	}
	if a, b := ID([]string{"b.test", "a.test", "b.test"}, ECDSA), ID([]string{"a.test", "b.test"}, ECDSA); a != b {
		t.Errorf("%q and %q for one set", a, b)
	}
	if id := ID([]string{"a.example.com"}, ECDSA); id != "a.example.com.P256" {
		t.Error(id)
	}
}

// Whatever a container asks for: what may be ordered is a name that DNS has, and an id a file name.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"a.example.com", "*.example.com", "xn--bcher-kva.de", "~^a", "198.51.100.7", "a..b", "com", "a.test.", "[::1]", "*", ".", "-"} {
		f.Add(s, "b.example.com")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, directory := range []string{letsEncrypt, private} {
			r := check([]string{a}, directory)
			if id := ID([]string{a, b}, ECDSA); !fileSafe.MatchString(id) {
				t.Errorf("%q, %q: %q", a, b, id)
			}
			if id := ID([]string{a}, RSA); r == nil && !fileSafe.MatchString(id) {
				t.Errorf("%q: %q", a, id)
			}
			switch {
			case r == nil && (len(a) > 255 || strings.Trim(a, "abcdefghijklmnopqrstuvwxyz0123456789.-*:") != "" || strings.HasSuffix(a, ".")):
				t.Errorf("%q may be ordered", a)
			case r != nil && strings.ContainsFunc(r.text+r.hint, func(c rune) bool { return !unicode.IsPrint(c) }):
				t.Errorf("%q: %q, %q", a, r.text, r.hint)
			}
			if r == nil && directory == letsEncrypt && !isIP(a) && !strings.Contains(a, ".") {
				t.Errorf("%q may be ordered from a public CA", a)
			}
		}
	})
}
