package testenv

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
)

// recorder is a test that only notes what becomes of it.
type recorder struct {
	testing.TB
	fate string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.fate = "failed: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.fate = "skipped: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func fate(need func(t testing.TB)) string {
	r := &recorder{fate: "went on"}
	done := make(chan bool)
	go func() {
		defer close(done)
		need(r)
	}()
	<-done
	return r.fate
}

func TestNeed(t *testing.T) {
	for _, row := range []struct {
		ci   string
		need func(t testing.TB)
		want string
	}{
		{"", func(t testing.TB) { Need(t, nil) }, "went on"},
		{"1", func(t testing.TB) { Need(t, nil) }, "went on"},
		{"", func(t testing.TB) { Need(t, errors.New("no disk")) }, "skipped: this machine lacks what the test needs: no disk"},
		{"1", func(t testing.TB) { Need(t, errors.New("no disk")) }, "failed: CI is set, and this machine lacks what the test needs: no disk"},
		{"", func(t testing.TB) { NeedCommand(t, "go") }, "went on"},
		{"1", func(t testing.TB) { NeedCommand(t, "no-such-command") }, `failed: CI is set, and this machine lacks what the test needs: exec: "no-such-command": executable file not found in $PATH`},
		{"1", func(t testing.TB) { NeedFile(t, ".ci/x", "go.mod") }, "went on"},
	} {
		t.Setenv("CI", row.ci)
		if got := fate(row.need); got != row.want {
			t.Errorf("with CI=%q: %s, want %s", row.ci, got, row.want)
		}
	}
}

func TestExitWithout(t *testing.T) {
	for ci, want := range map[string]int{"": 0, "true": 1} {
		t.Setenv("CI", ci)
		if got := explain(io.Discard, errors.New("no Docker")); got != want {
			t.Errorf("with CI=%q the exit code is %d, want %d", ci, got, want)
		}
	}
}
