package pattern

import (
	"regexp"
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	p := Of(4, `[a-z]+|x1`)
	for s, want := range map[string]bool{"a": true, "abcd": true, "abcde": false, "x1": true, "ax1": false, "": false, "a\n": false, "a\nb": false} {
		if got := p.MatchString(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
		if got := p.Only(s); got != s && want || got != "" && !want {
			t.Errorf("only %q: %q", s, got)
		}
	}
}

func TestHost(t *testing.T) {
	long := strings.Repeat("a", 63)
	for s, want := range map[string]bool{
		"a": true, "a.test": true, "*.a.test": true, "1.2": true, "a-b.c": true, long + ".test": true,
		"": false, ".": false, "*.": false, "*": false, "a.": false, ".a": false, "a..b": false, "-a": false, "a-": false,
		"a-.b": false, "A.test": false, "a_b": true, "_a.b_": true, "_": false, "_.a": false, "__.a": false, "a.*.b": false, "*.*.a": false, "ä.test": false, "a b": false,
		long + "a.test": false, strings.Repeat("a.", 127) + "a": false, "a;b": false, "a\n": false,
	} {
		if got := Host(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// The rule written as an expression is the oracle.
func FuzzHost(f *testing.F) {
	oracle := regexp.MustCompile(`^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
	underscores := regexp.MustCompile(`(^|\.)_+(\.|$)`)
	for _, s := range []string{"a.test", "*.a", "a-", "-", "a..b", strings.Repeat("a", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := strings.TrimPrefix(s, "*.")
		want := len(name) <= 253 && oracle.MatchString(s) && !underscores.MatchString(name)
		if got := Host(s); got != want {
			t.Errorf("%q: %v, the expression says %v", s, got, want)
		}
	})
}

// All ways to write a name are one host, so that nobody gets another's by another spelling.
func TestCanonicalHost(t *testing.T) {
	for want, spellings := range map[string][]string{
		"xn--bcher-kva.example": {"bücher.example", "BÜCHER.Example.", "bu\u0308cher.example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE", "bücher。example", "ｂücher．example"},
		"*.xn--bcher-kva.test":  {"*.bücher.test", "*.XN--bcher-kva.test"},
		"example.com":           {"ＥＸＡＭＰＬＥ.com", "example.com.", "Example.com"},
		"xn--strae-oqa.example": {"straße.example"},
		"xn--i-7iq.ws":          {"i❤.ws", "xn--i-7iq.ws"},
		"a_b.test":              {"A_b.test"},
		"xn--a.test":            {"xn--a.test"}, // no name that anybody could write otherwise
		"[fd00::1]":             {"[fd00::1]", "[FD00:0:0::01]"},
		"10.0.0.1":              {"10.0.0.1"},
		"":                      {"", "..", "a..b", "bü cher.test", "\u0301a.test", "[fd00::1", "[]", "[10.0.0.1]", "[::1%lo]", "[::ffff:1.2.3.4]", "a\u2028b.test", strings.Repeat("ü", 63) + ".test"},
	} {
		for _, s := range spellings {
			host, ok := CanonicalHost(s)
			if ok != (want != "") || ok && host != want {
				t.Errorf("%q: %q, %v; want %q", s, host, ok, want)
			}
		}
	}
}

func FuzzCanonicalHost(f *testing.F) {
	f.Add("bücher.example")
	f.Add("[fd00::1]")
	f.Fuzz(func(t *testing.T, s string) {
		host, ok := CanonicalHost(s)
		again, still := CanonicalHost(host)
		if ok && (!still || again != host || !Host(host) && !Address(host)) {
			t.Errorf("%q: %q, then %q, %v", s, host, again, still)
		}
	})
}

func TestHSTS(t *testing.T) {
	for s, want := range map[string]string{
		"max-age=60":                              "max-age=60",
		"max-age=60;preload;includeSubDomains":    "max-age=60; preload; includeSubDomains",
		"includesubdomains ; MAX-AGE = \"60\" ;;": "includeSubDomains; max-age=60",
		"max-age=60; future=\"a b\"; x=y; z":      "max-age=60; future=\"a b\"; x=y; z",
		"":                                        "", "includeSubDomains": "", "max-age": "", "max-age=": "", "max-age=\"60": "", "max-age=-1": "",
		"max-age=60; max-age=60": "", "max-age=60; preload=1": "", "max-age=60; x=$host": "", "max-age=60; x=\"$host\"": "", "max-age=60; a b": "",
		"max-age=60; x=\"a\\b\"": "", "max-age=60; =x": "", "max-age=60\nX: y": "", "max-age=60; x=" + strings.Repeat("y", 300): "",
	} {
		if got, ok := HSTS(s); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v; want %q", s, got, ok, want)
		}
	}
}
