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
		"a-.b": false, "A.test": false, "a_b": false, "a.*.b": false, "*.*.a": false, "ä.test": false, "a b": false,
		long + "a.test": false, strings.Repeat("a.", 127) + "a": false, "a;b": false, "a\n": false,
	} {
		if got := Host(s); got != want {
			t.Errorf("%q: %v, want %v", s, got, want)
		}
	}
}

// The rule written as an expression is the oracle.
func FuzzHost(f *testing.F) {
	oracle := regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	for _, s := range []string{"a.test", "*.a", "a-", "-", "a..b", strings.Repeat("a", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := strings.TrimPrefix(s, "*.")
		want := len(name) <= 253 && oracle.MatchString(s)
		if got := Host(s); got != want {
			t.Errorf("%q: %v, the expression says %v", s, got, want)
		}
	})
}
