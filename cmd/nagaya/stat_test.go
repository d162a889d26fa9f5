package main

import (
	"math"
	"os"
	"strings"
	"testing"
)

func TestStatMinutes(t *testing.T) {
	// 4242 (a) b) R ...: the name may hold spaces and parentheses.
	fields := func(user, system, children, theirs string) string {
		return "4242 (a) (b) R 1 2 3 4 5 6 7 8 9 10 " + strings.Join([]string{user, system, children, theirs}, " ") + " 20 0 1 0 5 6 7\n"
	}
	for text, want := range map[string]float64{
		fields("3000", "0", "0", "0"):          0.5,
		fields("1500", "1500", "3000", "6000"): 2,
		fields("0", "0", "0", "0"):             0,
		fields("x", "0", "0", "0"):             0,
		fields("-1", "0", "0", "0"):            0,
		"":                                     0,
		"4242 (a":                              0,
		"4242 (a) R 1 2 3":                     0,
	} {
		if got := statMinutes(text); got != want {
			t.Errorf("statMinutes(%q) = %g, want %g", text, got, want)
		}
	}
	if got := cpuMinutes(os.Getpid()); got < 0 || got > 60 {
		t.Errorf("this process has spent %g minutes", got)
	}
	if got := cpuMinutes(-1); got != 0 {
		t.Errorf("no process has spent %g minutes", got)
	}
}

func FuzzStatMinutes(f *testing.F) {
	f.Add("4242 (sh) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 20 0 1 0 5 6 7")
	f.Add("1 (a) ) R 1 2 3 4 5 6 7 8 9 10 18446744073709551615 18446744073709551615 1 1")
	f.Add(")")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if got := statMinutes(text); !(got >= 0) || math.IsInf(got, 0) {
			t.Errorf("statMinutes(%q) = %g", text, got)
		}
	})
}
