package problem

import "testing"

func TestPrintable(t *testing.T) {
	for s, want := range map[string]string{
		"plain": "plain", "a\nb\x1b[2J": "a b [2J", "ä": "ä", "\xffx": "\ufffdx", "12345678": "12345678", "123456789": "12345678…",
		"1234567ä": "1234567…", "a\u202eb": "a b", "": "",
	} {
		if got := Printable(s, 8); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
