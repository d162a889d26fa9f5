package certs

import (
	"testing"
	"time"
)

func TestFor(t *testing.T) {
	day := func(n int) time.Time { return time.Unix(0, 0).AddDate(0, 0, n) }
	v := Inventory{Pairs: []Pair{
		{Name: "a-old", DNSNames: []string{"a.example.com"}, NotAfter: day(1)},
		{Name: "a-new", DNSNames: []string{"A.example.com", "b.example.com"}, NotAfter: day(9)},
		{Name: "wild", DNSNames: []string{"*.example.com"}, NotAfter: day(99)},
		{Name: "twin2", DNSNames: []string{"twin.test"}, NotAfter: day(5)},
		{Name: "twin1", DNSNames: []string{"twin.test"}, NotAfter: day(5)},
	}}
	tests := []struct{ name, host, want string }{
		{"exact, expiring last", "a.example.com", "a-new"},
		{"exact before wildcard", "b.example.com", "a-new"},
		{"wildcard", "c.example.com", "wild"},
		{"case and final dot", "C.EXAMPLE.com.", "wild"},
		{"wildcard covers one label only", "x.c.example.com", ""},
		{"wildcard does not cover its parent", "example.com", ""},
		{"a wildcard host", "*.example.com", "wild"},
		{"a wildcard host is not covered by the wildcard above", "*.c.example.com", ""},
		{"equal expiry: by name", "twin.test", "twin1"},
		{"single label", "localhost", ""},
		{"empty", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := v.For(tt.host)
			if p.Name != tt.want || ok != (tt.want != "") {
				t.Errorf("For(%q) = %q, %v; want %q", tt.host, p.Name, ok, tt.want)
			}
		})
	}
}

// A pair that has expired, or whose files have gone, gives way to whatever else serves the host.
func TestForTheLast(t *testing.T) {
	day := func(n int) time.Time { return time.Unix(0, 0).AddDate(0, 0, n) }
	v := Inventory{
		At: day(10),
		Pairs: []Pair{
			{Name: "asked", DNSNames: []string{"asked.example.com"}, NotAfter: day(20)},
			{Name: "expired", DNSNames: []string{"expired.example.com", "expired.test"}, NotAfter: day(9)},
			{Name: "gone", DNSNames: []string{"gone.example.com", "gone.test"}, NotAfter: day(20)},
			{Name: "renamed", DNSNames: []string{"gone.example.com"}, NotAfter: day(15)},
			{Name: "wild", DNSNames: []string{"*.example.com"}, NotAfter: day(12)},
		},
		Gone:        []string{"asked", "gone"},
		Authorities: []Authority{{Name: "asked", Unusable: true}},
	}
	for host, want := range map[string]string{
		"gone.example.com":    "renamed",
		"gone.test":           "gone",
		"expired.example.com": "wild",
		"expired.test":        "expired",
		"asked.example.com":   "asked", // clients need a certificate by asked.ca.crt
	} {
		if p, _ := v.For(host); p.Name != want {
			t.Errorf("For(%q) = %q, want %q", host, p.Name, want)
		}
	}
}

func TestNamed(t *testing.T) {
	v := Inventory{Pairs: []Pair{{Name: "shared"}}}
	if p, ok := v.Named("shared"); !ok || p.Name != "shared" {
		t.Errorf("Named(shared) = %+v, %v", p, ok)
	}
	if p, ok := v.Named("other"); ok {
		t.Errorf("Named(other) = %+v", p)
	}
}
