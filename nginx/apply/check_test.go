package apply

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/nginx"
)

func codes(t *testing.T, r *rig, tree nginx.Tree) []string {
	t.Helper()
	ps, err := Check(t.Context(), r.o.forRun(t), tree)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range ps {
		if p.Hint == "" {
			t.Errorf("%s has no hint", p.Code)
		}
		out = append(out, p.Code+" "+p.Subject)
	}
	return out
}

func TestCheck(t *testing.T) {
	r := newRig(t)
	p := writePair(t, "a.test")
	good := r.tree(withTLS(site("a.test", backend(t, "one")), p, "serve"))
	if diff := cmp.Diff([]string(nil), codes(t, r, good)); diff != "" {
		t.Error(diff)
	}
	for _, d := range []string{r.o.StateDir, r.o.RunDir, r.o.LogDir} {
		if _, err := os.Stat(d); !missing(err) {
			t.Errorf("the check made %s", d)
		}
	}
	gone := p
	gone.KeyFile += ".missing"
	bad := r.tree(withTLS(site("a.test", backend(t, "one")), gone, "serve"), site("b.test", backend(t, "two")))
	if diff := cmp.Diff([]string{"site-quarantined site a.test"}, codes(t, r, bad)); diff != "" {
		t.Error(diff)
	}
	r.put("http.d/bad.conf", "no such directive;\n")
	file := "snippet-not-in-force file " + filepath.Join(r.settings.SnippetDir, "http.d/bad.conf")
	if diff := cmp.Diff([]string{"site-quarantined site a.test", file}, codes(t, r, r.tree(withTLS(site("a.test"), gone, "serve")))); diff != "" {
		t.Error(diff)
	}
	r.settings.Snippets = nil

	l, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", r.settings.HTTPPort))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{fmt.Sprintf("port-in-use port %d", r.settings.HTTPPort)}, codes(t, r, good)); diff != "" {
		t.Error(diff)
	}
	l.Close()
}

// A check beside a running nginx finds that the ports are its own, and leaves
// everything as it was.
func TestCheckBesideRunning(t *testing.T) {
	r := newRig(t)
	r.run()
	first := r.tree(site("a.test", backend(t, "one")))
	r.serve(first)
	list := func() []string {
		var names []string
		filepath.WalkDir(filepath.Dir(r.o.StateDir), func(path string, d os.DirEntry, err error) error {
			info, _ := d.Info()
			names = append(names, fmt.Sprint(path, info.ModTime()))
			return err
		})
		return slices.DeleteFunc(names, func(n string) bool { return strings.Contains(n, "/log/") })
	}
	before := list()
	if diff := cmp.Diff([]string(nil), codes(t, r, r.tree(site("b.test", backend(t, "two"))))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(before, list()); diff != "" {
		t.Error(diff)
	}
	if gen := statusClient(nginx.Socket(r.o.RunDir)).generation(t.Context()); gen != first.Generation {
		t.Errorf("nginx serves %q, want %s", gen, first.Generation)
	}
}
