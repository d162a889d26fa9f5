package files

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// watching runs Watch and returns a function that waits for an inventory that fits.
func watching(t *testing.T, o Options) (until func(what string, fits func(certs.Inventory) bool) certs.Inventory) {
	t.Helper()
	return testenv.Watching(t, func(ctx context.Context, put func(certs.Inventory)) error { return Watch(ctx, o, put) })
}

func current(t *testing.T, names ...string) made {
	t.Helper()
	return makeCert(t, time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour), names...)
}

func TestWatchFollowsTheDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	until := watching(t, Options{Dir: dir, Settle: 10 * time.Millisecond, Poll: 10 * time.Millisecond})
	inv := until("the missing directory", func(certs.Inventory) bool { return true })
	if !inv.Complete || len(inv.Pairs) != 0 || len(inv.Problems) != 0 {
		t.Errorf("a missing directory gave %+v, want a quiet, complete, empty inventory", inv)
	}

	a, b := current(t, "a.test"), current(t, "b.test")
	write(t, dir+"/a.crt", a.cert)
	write(t, dir+"/a.key", a.key)
	until("the first pair", func(v certs.Inventory) bool { return len(v.Pairs) == 1 && len(v.Problems) == 0 })

	write(t, dir+"/b.test/fullchain.pem", b.cert)
	write(t, dir+"/b.test/privkey.pem", b.key)
	until("a pair in a new sub-directory", func(v certs.Inventory) bool { return len(v.Pairs) == 2 && len(v.Problems) == 0 })

	write(t, dir+"/a.crt", a.cert[:40])
	v := until("the pair that broke", func(v certs.Inventory) bool { return len(v.Problems) == 1 })
	if len(v.Pairs) != 1 || v.Pairs[0].Name != "b.test" {
		t.Errorf("a broken pair left %+v, want b.test unharmed", v.Pairs)
	}

	renewed := current(t, "a.test")
	write(t, dir+"/a.crt", renewed.cert)
	write(t, dir+"/a.key", renewed.key)
	until("the renewed pair", func(v certs.Inventory) bool { return len(v.Pairs) == 2 && len(v.Problems) == 0 })
}

// What appears between the reading of a directory and the wait for its changes gives no sign.
func TestWatchMissesNothingBetweenReadingAndWaiting(t *testing.T) {
	a := current(t, "a.test")
	for name, setUp := range map[string]func(t *testing.T, dir string){
		"missing": func(*testing.T, string) {},
		"a file in its place": func(t *testing.T, dir string) {
			write(t, dir, []byte("none"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, ready := filepath.Join(t.TempDir(), "certs"), filepath.Join(t.TempDir(), "ready")
			setUp(t, dir)
			write(t, ready+"/a.pem", append(a.cert, a.key...))
			appear := sync.OnceFunc(func() {
				if err := errors.Join(os.RemoveAll(dir), os.Rename(ready, dir)); err != nil {
					t.Error(err)
				}
			})
			until := testenv.Watching(t, func(ctx context.Context, put func(certs.Inventory)) error {
				return Watch(ctx, Options{Dir: dir, Settle: time.Millisecond, Poll: time.Millisecond}, func(v certs.Inventory) {
					appear()
					put(v)
				})
			})
			until("the pair", func(v certs.Inventory) bool { return len(v.Pairs) > 0 })
		})
	}
}

// The operator gives a certificate up by removing its copy; that is seen at once.
func TestWatchSeesThatACopyIsRemoved(t *testing.T) {
	dir, made := t.TempDir(), filepath.Join(t.TempDir(), "copies")
	a := current(t, "a.test")
	write(t, dir+"/a.pem", append(a.cert, a.key...))
	used := make(chan []string, 1)
	used <- []string{"a"}
	until := watching(t, Options{Dir: dir, Copies: made, Used: used, Settle: 10 * time.Millisecond})
	until("the pair", func(v certs.Inventory) bool { return len(v.Pairs) == 1 })
	remove(t, dir+"/a.pem")
	v := until("its copy", func(v certs.Inventory) bool { return len(v.Problems) == 1 })
	if len(v.Pairs) != 1 || v.Problems[0].Code != "cert-gone" {
		t.Errorf("%+v", v)
	}
	remove(t, made+"/certs/a")
	until("nothing", func(v certs.Inventory) bool { return len(v.Pairs) == 0 && len(v.Problems) == 0 })
}

// Each of the links that lead to a certificate may be the one that changes, that of the directory too.
func TestWatchSeesALinkChange(t *testing.T) {
	root := t.TempDir()
	pair := func(version string) certs.Pair {
		c := current(t, "a.test")
		write(t, root+"/archive/"+version+".pem", append(c.cert, c.key...))
		l, p := read(candidate{name: "a", certFile: root + "/archive/" + version + ".pem", keyFile: root + "/archive/" + version + ".pem"})
		if p != nil {
			t.Fatal(p)
		}
		return l.pair
	}
	relink := func(to, at string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, at+".new"), os.Rename(at+".new", at)); err != nil {
			t.Fatal(err)
		}
	}
	one, two, three := pair("1"), pair("2"), pair("3")
	for _, dir := range []string{"live", "etc", "blue", "green"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	link(t, "../archive/1.pem", root+"/live/a.pem") // as certbot does
	link(t, "../live/a.pem", root+"/blue/a.pem")
	link(t, "../archive/3.pem", root+"/green/a.pem")
	link(t, "../blue", root+"/etc/certs")
	until := watching(t, Options{Dir: root + "/etc/certs", Settle: 10 * time.Millisecond})
	is := func(p certs.Pair) func(certs.Inventory) bool {
		return func(v certs.Inventory) bool { return len(v.Pairs) == 1 && v.Pairs[0].Fingerprint == p.Fingerprint }
	}
	until("the pair", is(one))
	relink("../archive/2.pem", root+"/live/a.pem")
	until("another file behind the second link", is(two))
	relink("../green", root+"/etc/certs")
	until("another directory", is(three))
}

func TestWatchSeesTheTargetOfALinkChange(t *testing.T) {
	dir := t.TempDir()
	elsewhere := t.TempDir()
	a := current(t, "a.test")
	write(t, elsewhere+"/a.pem", append(a.cert, a.key...))
	link(t, elsewhere+"/a.pem", dir+"/a.pem")
	until := watching(t, Options{Dir: dir, Settle: 10 * time.Millisecond})
	old := until("the pair", func(v certs.Inventory) bool { return len(v.Pairs) == 1 })
	renewed := current(t, "a.test")
	write(t, elsewhere+"/a.pem", append(renewed.cert, renewed.key...))
	until("the renewed pair", func(v certs.Inventory) bool {
		return len(v.Pairs) == 1 && v.Pairs[0].Fingerprint != old.Pairs[0].Fingerprint
	})
}
