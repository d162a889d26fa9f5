// Package testenv says what a test needs of the machine that it runs on. It is for tests
// alone and is never linked into the program.
package testenv

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Need skips the test if err says that the machine lacks what the test needs. Where CI is
// set nothing may be lacking, and the test fails. No other function may skip a test:
// TestRuleOnlyNeedSkips of package agent finds it.
func Need(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case CI():
		t.Fatalf("CI is set, and this machine lacks what the test needs: %v", err)
	default:
		t.Skipf("this machine lacks what the test needs: %v", err)
	}
}

// NeedRoot is Need for tests that only root can run.
func NeedRoot(t testing.TB) {
	t.Helper()
	if uid := os.Geteuid(); uid != 0 {
		Need(t, fmt.Errorf("root, and this is user %d", uid))
	}
}

// NeedCommand is Need for a program in PATH and returns its path.
func NeedCommand(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	Need(t, err)
	return path
}

// NeedFile is Need for a file below the top directory of the repository, which the
// script of that name makes there. It returns the absolute path.
func NeedFile(t testing.TB, script, file string) string {
	t.Helper()
	top, err := Top()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(top, file)
	if _, err := os.Stat(path); err != nil {
		Need(t, fmt.Errorf("%w (%s makes it)", err, script))
	}
	return path
}

// ExitWithout ends the process if why says that the machine lacks what all tests of a
// package need: with success, or with 1 where CI is set. It is Need for TestMain.
func ExitWithout(why error) {
	if why != nil {
		os.Exit(explain(os.Stderr, why))
	}
}

func explain(w io.Writer, why error) (code int) {
	fmt.Fprintln(w, "this machine lacks what the tests of this package need:", why)
	if CI() {
		return 1
	}
	fmt.Fprintln(w, "they are skipped; run them with 'make test'")
	return 0
}

// CI reports whether the tests run in continuous integration, as they do in 'make test'.
func CI() bool { return os.Getenv("CI") != "" }

// Top is the top directory of the repository that the test belongs to.
func Top() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("there is no go.mod above the test's directory")
		}
	}
}
