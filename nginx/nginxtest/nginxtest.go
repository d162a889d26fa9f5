// Package nginxtest chooses the nginx that a test runs: that of this system, and a newer
// one, which .ci/sid-nginx fetches. It is for tests alone and is never linked into the
// program.
package nginxtest

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// HTTP3 is the configure argument of an nginx that speaks HTTP/3.
const HTTP3 = "--with-http_v3_module"

// Nginx is one that a test runs.
type Nginx struct {
	Name    string // "installed" or "newer"
	Binary  string
	Version string // what nginx -V prints
}

// Has reports whether the nginx was built with a configure argument, e.g. HTTP3.
func (n Nginx) Has(argument string) bool {
	_, arguments, _ := strings.Cut(n.Version, "configure arguments:")
	for word := range strings.FieldsSeq(arguments) {
		if word == argument {
			return true
		}
	}
	return false
}

// Installed is the nginx of this system, or the one that NAGAYA_TEST_NGINX names.
func Installed(t testing.TB) Nginx {
	t.Helper()
	return ask(t, "installed", testenv.NeedCommand(t, cmp.Or(os.Getenv("NAGAYA_TEST_NGINX"), "nginx")))
}

// Newer is the nginx of Debian unstable. Its program enters a mount namespace, which
// takes root.
func Newer(t testing.TB) Nginx {
	t.Helper()
	const script = ".ci/sid-nginx"
	binary := testenv.NeedFile(t, script, ".cache/sid-nginx/nginx")
	testenv.NeedRoot(t)
	return ask(t, "newer", binary)
}

func ask(t testing.TB, name, binary string) Nginx {
	t.Helper()
	output, err := exec.Command(binary, "-V").CombinedOutput()
	if err != nil {
		t.Fatalf("%s -V: %v\n%s", binary, err, output)
	}
	return Nginx{name, binary, string(output)}
}

// Each runs a test with both, as subtests of their names.
func Each(t *testing.T, test func(t *testing.T, n Nginx)) {
	t.Helper()
	t.Run("installed", func(t *testing.T) { test(t, Installed(t)) })
	t.Run("newer", func(t *testing.T) { test(t, Newer(t)) })
}

// EachWith runs a test with those of the two that were built with a configure argument.
// One of them must have been.
func EachWith(t *testing.T, argument string, test func(t *testing.T, n Nginx)) {
	t.Helper()
	newer := Newer(t)
	all := []Nginx{Installed(t), newer}
	ran := false
	for _, n := range all {
		if n.Has(argument) {
			t.Run(n.Name, func(t *testing.T) { test(t, n) })
			ran = true
		}
	}
	if !ran {
		testenv.Need(t, errors.New("an nginx "+argument))
	}
}
