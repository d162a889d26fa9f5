package files

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// look scans a directory whose copies are in another.
func look(t *testing.T, dir string, k kept) certs.Inventory {
	t.Helper()
	inv, _, err := scan(dir, k, now)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func codes(inv certs.Inventory) (all []string) {
	for _, p := range inv.Problems {
		all = append(all, p.Code)
	}
	return all
}

// A certificate that others have taken the place of is no error, and is not served.
func TestAPairThatHasGoneGivesWay(t *testing.T) {
	dir, k := t.TempDir(), keptIn(filepath.Join(t.TempDir(), "copies"), false)
	for name, c := range map[string]made{"a": good(t, "a.test"), "b": good(t, "b.other"), "wild": good(t, "*.test")} {
		write(t, dir+"/"+name+".crt", c.cert)
		write(t, dir+"/"+name+".key", c.key)
	}
	look(t, dir, k)
	for _, file := range []string{"a.crt", "a.key", "b.crt", "b.key"} {
		remove(t, dir+"/"+file)
	}
	inv := look(t, dir, k)
	for host, want := range map[string]string{"a.test": "wild", "b.other": "b"} {
		if p, _ := inv.For(host); p.Name != want {
			t.Errorf("%s gets the certificate %q, want %q", host, p.Name, want)
		}
	}
	severities := map[string]problem.Severity{}
	for _, p := range inv.Problems {
		severities[p.Subject] = p.Severity
	}
	if d := cmp.Diff(map[string]problem.Severity{"certificate a": problem.Warning, "certificate b": problem.Error}, severities); d != "" {
		t.Error(d)
	}
}

// What nginx reads stays a whole pair, whatever becomes of the operator's files.
func TestAPairThatIsSpoiltIsServedFromItsCopy(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(t *testing.T, d string)
		codes []string
	}{
		{"the key is emptied", func(t *testing.T, d string) { write(t, d+"/a.key", nil) }, []string{"cert-unreadable"}},
		{"the certificate is emptied", func(t *testing.T, d string) { write(t, d+"/a.crt", nil) }, []string{"cert-unreadable"}},
		{"the certificate comes before its key", func(t *testing.T, d string) { write(t, d+"/a.crt", good(t, "a.test").cert) }, []string{"cert-key-mismatch"}},
		{"the key goes", func(t *testing.T, d string) { remove(t, d+"/a.key") }, []string{"cert-unreadable"}},
		{"the certificate goes", func(t *testing.T, d string) { remove(t, d+"/a.crt") }, []string{"cert-gone"}},
		{"both go", func(t *testing.T, d string) { remove(t, d+"/a.crt"); remove(t, d+"/a.key") }, []string{"cert-gone"}},
		{"the directory goes", func(t *testing.T, d string) { remove(t, d) }, []string{"cert-gone", "cert-gone"}},
		{"it is renewed for a time that is still to come", func(t *testing.T, d string) {
			c := makeCert(t, days(1), days(90), "a.test")
			write(t, d+"/a.crt", c.cert)
			write(t, d+"/a.key", c.key)
		}, []string{"cert-not-yet-valid"}},
		{"an expired pair takes its place", func(t *testing.T, d string) {
			c := makeCert(t, days(-90), days(-1), "a.test")
			write(t, d+"/a.crt", c.cert)
			write(t, d+"/a.key", c.key)
		}, []string{"cert-expired"}},
		{"the authority for clients is spoilt", func(t *testing.T, d string) { write(t, d+"/a.ca.crt", nil) }, []string{"cert-unreadable"}},
		{"the authority for clients goes", func(t *testing.T, d string) { remove(t, d+"/a.ca.crt") }, []string{"cert-gone"}},
		{"what it has revoked is spoilt", func(t *testing.T, d string) { write(t, d+"/a.crl.pem", nil) }, []string{"cert-unreadable"}},
		{"what it has revoked goes", func(t *testing.T, d string) { remove(t, d+"/a.crl.pem") }, []string{"cert-unreadable"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir, k := t.TempDir(), keptIn(filepath.Join(t.TempDir(), "copies"), false)
			c, ca, revoked := good(t, "a.test"), good(t), revocations(t, 1)
			write(t, dir+"/a.crt", append(c.cert, ca.cert...))
			write(t, dir+"/a.key", c.key)
			write(t, dir+"/a.ca.crt", ca.cert)
			write(t, dir+"/a.crl.pem", revoked)
			first := look(t, dir, k)
			if len(first.Pairs) != 1 || len(first.Problems) != 0 {
				t.Fatalf("%+v", first)
			}
			p := first.Pairs[0]
			for _, file := range []string{p.CertFile, p.KeyFile} {
				if !strings.HasPrefix(file, k.pairs.dir+"/a/") {
					t.Errorf("nginx would read %s", file)
				}
			}
			row.spoil(t, dir)
			for range 2 { // and after a restart
				inv := look(t, dir, k)
				if d := cmp.Diff(first.Pairs, inv.Pairs); d != "" {
					t.Errorf("pairs (-before +now):\n%s", d)
				}
				if d := cmp.Diff(first.Authorities, inv.Authorities); d != "" || len(inv.Authorities) != 1 {
					t.Errorf("authorities (-before +now):\n%s", d)
				}
				if d := cmp.Diff(row.codes, codes(inv)); d != "" {
					t.Errorf("problems: %s", d)
				}
				for _, p := range inv.Problems {
					if !strings.Contains(p.Text, "a copy is served, of what it was at 20") || p.Hint == "" {
						t.Errorf("problem %+v", p)
					}
				}
			}
			// A whole pair ends it.
			whole := good(t, "a.test")
			write(t, dir+"/a.crt", whole.cert)
			write(t, dir+"/a.key", whole.key)
			write(t, dir+"/a.ca.crt", ca.cert)
			write(t, dir+"/a.crl.pem", revoked)
			inv := look(t, dir, k)
			if len(inv.Pairs) != 1 || inv.Pairs[0].Fingerprint == p.Fingerprint || len(inv.Problems) != 0 {
				t.Errorf("after its renewal: %+v", inv)
			}
			// nginx may go on with the one before.
			if _, err := os.Stat(p.KeyFile); err != nil {
				t.Error(err)
			}
		})
	}
}

// A copy does not take the place of an expired pair that has more names, nor one that has expired too.
func TestAnExpiredPairWithoutAValidCopy(t *testing.T) {
	for name, before := range map[string]made{
		"other names": good(t, "a.test"), "expired too": makeCert(t, days(-90), days(-2), "a.test", "b.test"),
	} {
		t.Run(name, func(t *testing.T) {
			dir, k := t.TempDir(), keptIn(t.TempDir(), false)
			expired := makeCert(t, days(-90), days(-1), "a.test", "b.test")
			for _, c := range []made{before, expired} {
				write(t, dir+"/a.pem", append(c.cert, c.key...))
				if inv := look(t, dir, k); len(inv.Pairs) != 1 {
					t.Fatalf("%+v", inv)
				} else if p := inv.Pairs[0]; !strings.HasSuffix(filepath.Dir(p.CertFile), sumOf(map[string][]byte{copiedPair: onlyPair(c.cert, c.key)})) {
					t.Errorf("served is %s", p.CertFile)
				}
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// The newest whole pair is served, even where an older one has come back since.
func TestTheCopyOfThePairThatWasThereLast(t *testing.T) {
	dir, k := t.TempDir(), keptIn(t.TempDir(), false)
	old, renewed := good(t, "a.test"), good(t, "a.test")
	var want string
	for _, c := range []made{old, renewed, old} {
		write(t, dir+"/a.pem", append(c.cert, c.key...))
		want = look(t, dir, k).Pairs[0].Fingerprint
	}
	remove(t, dir+"/a.pem")
	if got := look(t, dir, k).Pairs; len(got) != 1 || got[0].Fingerprint != want {
		t.Errorf("pairs %+v, want the one with %s", got, want)
	}
}

// A copy that was changed is none, and is made again.
func TestACopyThatIsSpoilt(t *testing.T) {
	dir, k := t.TempDir(), keptIn(t.TempDir(), false)
	c := good(t, "a.test")
	write(t, dir+"/a.pem", append(c.cert, c.key...))
	p := look(t, dir, k).Pairs[0]
	other := good(t, "a.test")
	for _, text := range [][]byte{nil, append(other.cert, other.key...)} {
		if err := os.WriteFile(p.CertFile, text, 0o640); err != nil {
			t.Fatal(err)
		}
		inv := look(t, dir, k)
		if d := cmp.Diff([]certs.Pair{p}, inv.Pairs); d != "" || len(inv.Problems) != 0 {
			t.Errorf("pairs (-want +got):\n%s%+v", d, inv.Problems)
		}
	}
	if err := os.WriteFile(p.CertFile, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	remove(t, dir+"/a.pem")
	if inv := look(t, dir, k); len(inv.Pairs) != 0 {
		t.Errorf("a copy with nothing in it: %+v", inv.Pairs)
	}
}

// Nobody reads the copies but the agent, and who may read the keys themselves.
func TestWhoMayReadACopy(t *testing.T) {
	testenv.NeedRoot(t) // to give files away
	dir, k := t.TempDir(), keptIn(filepath.Join(t.TempDir(), "copies"), false)
	c := good(t, "a.test")
	write(t, dir+"/a.pem", append(c.cert, c.key...))
	for _, row := range []struct {
		group     int
		mode, now os.FileMode
		owner     int
	}{{0, 0o600, 0o640, 0}, {4321, 0o640, 0o640, 4321}, {4321, 0o600, 0o640, 0}, {4321, 0o644, 0o644, 4321}} {
		if err := os.Chown(dir+"/a.pem", 0, row.group); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir+"/a.pem", row.mode); err != nil {
			t.Fatal(err)
		}
		p := look(t, dir, k).Pairs[0]
		info, err := os.Stat(p.KeyFile)
		if err != nil {
			t.Fatal(err)
		}
		if gid := int(info.Sys().(*syscall.Stat_t).Gid); info.Mode() != row.now || gid != row.owner {
			t.Errorf("of %o and group %d: %o and group %d, want %o and %d", row.mode, row.group, info.Mode(), gid, row.now, row.owner)
		}
		for at := filepath.Dir(p.KeyFile); strings.HasPrefix(at, k.pairs.dir); at = filepath.Dir(at) {
			if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o711 {
				t.Errorf("%s: %v, %v", at, info.Mode(), err)
			}
		}
	}
}

// What only looks leaves no trace, and names what is there.
func TestLookingMakesNoCopies(t *testing.T) {
	dir, k := t.TempDir(), keptIn(filepath.Join(t.TempDir(), "copies"), true)
	c := good(t, "a.test")
	write(t, dir+"/a.pem", append(c.cert, c.key...))
	if got := look(t, dir, k).Pairs[0].CertFile; got != dir+"/a.pem" {
		t.Errorf("without a copy: %s", got)
	}
	if _, err := os.Stat(k.pairs.dir); err == nil {
		t.Error("there is a directory of copies now")
	}
	made := look(t, dir, keptIn(filepath.Dir(k.pairs.dir), false)).Pairs
	if d := cmp.Diff(made, look(t, dir, k).Pairs); d != "" {
		t.Errorf("with a copy (-want +got):\n%s", d)
	}
}

// A copy that cannot be made costs no site its HTTPS.
func TestNoPlaceForCopies(t *testing.T) {
	dir, k := t.TempDir(), keptIn(filepath.Join(t.TempDir(), "file", "copies"), false)
	write(t, filepath.Dir(filepath.Dir(k.pairs.dir)), []byte("in the way"))
	c := good(t, "a.test")
	write(t, dir+"/a.pem", append(c.cert, c.key...))
	inv := look(t, dir, k)
	if len(inv.Pairs) != 1 || inv.Pairs[0].CertFile != dir+"/a.pem" {
		t.Errorf("pairs %+v", inv.Pairs)
	}
	if d := cmp.Diff([]string{"cert-not-copied"}, codes(inv)); d != "" || !strings.Contains(inv.Problems[0].Text, `no copy of "`+dir+`/a.pem"`) {
		t.Errorf("problems: %s %+v", d, inv.Problems)
	}
	for _, name := range []string{"b", "c"} { // what hinders one hinders all, and is one problem
		c := good(t, name+".test")
		write(t, dir+"/"+name+".pem", append(c.cert, c.key...))
		write(t, dir+"/"+name+".ca.crt", c.cert)
	}
	inv = look(t, dir, k)
	if d := cmp.Diff([]string{"cert-not-copied", "cert-not-copied"}, codes(inv)); d != "" || len(inv.Pairs) != 3 { // of pairs, and of authorities
		t.Errorf("problems: %s %+v", d, inv.Problems)
	}
	for i, want := range []string{"no copies of 3 certificates, such as \"" + dir + "/a.pem\"", "no copies of 2 certificates, such as \"" + dir + "/b.ca.crt\""} {
		if p := inv.Problems[i]; !strings.Contains(p.Text, want) || !strings.HasPrefix(p.Hint, "let the agent write to") {
			t.Errorf("problem %+v, without %q", p, want)
		}
	}
	full := uncopied{[]string{"/a.pem"}, fmt.Errorf("write: %w", syscall.ENOSPC)}
	if p := full.problems("/copies")[0]; p.Hint != "free some space or inodes on the file system of /copies" {
		t.Errorf("on a full disk: %s", p.Hint)
	}
}

// A copy that could not be made is tried again, though nothing tells that it can be made now; and trying changes nothing
// by which the directory would be read again at once.
func TestACopyIsTriedAgain(t *testing.T) {
	dir, made := t.TempDir(), t.TempDir()
	write(t, made+"/certs/a", []byte("in the way"))
	c := good(t, "a.test")
	write(t, dir+"/a.pem", append(c.cert, c.key...))
	w := &watch{Options: Options{Dir: dir, Copies: made, Poll: time.Second, Log: slog.New(slog.DiscardHandler)}, kept: keptIn(made, false), put: func(certs.Inventory) {}}
	var err error
	if w.notify, err = dirwatch.New(); err != nil {
		t.Fatal(err)
	}
	defer w.notify.Close()
	changed := func() syscall.Timespec {
		info, err := os.Stat(made + "/certs")
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Ctim
	}
	w.update()
	before := changed()
	if pause := w.update(); pause != copyAgain || changed() != before {
		t.Errorf("read again after %s; the directory of copies was changed at %v, and at %v", pause, before, changed())
	}
	remove(t, made+"/certs/a")
	w.update() // the directory of the copy is new
	if pause := w.update(); pause != recheck || len(w.last.Problems) != 0 {
		t.Errorf("with a copy it is read again after %s: %+v", pause, w.last.Problems)
	}
}

// Copies that were made while the clock was ahead are older than what is copied now.
func TestCopiesOfATimeToCome(t *testing.T) {
	k := copies{dir: t.TempDir()}
	text := func(n int) map[string][]byte { return map[string][]byte{copiedPair: fmt.Append(nil, n)} }
	for n := range maxVersions {
		version, err := k.keep(original{name: "a", files: text(n)})
		if err != nil {
			t.Fatal(err)
		}
		ahead := time.Now().Add(time.Duration(1+n) * 24 * time.Hour)
		if err := os.Chtimes(version, ahead, ahead); err != nil {
			t.Fatal(err)
		}
	}
	version, err := k.keep(original{name: "a", files: text(maxVersions)})
	if err != nil {
		t.Fatal(err)
	}
	if newest, _, _ := k.newest("a"); newest != version || !isWhole(version) {
		t.Errorf("the newest copy is %s, whole %v, of %s", newest, isWhole(version), version)
	}
}

// Copies are bounded in number, and those that nobody needs go away.
func TestCopiesAreRemoved(t *testing.T) {
	dir, k := t.TempDir(), keptIn(t.TempDir(), false)
	pem := func(names ...string) []byte { c := good(t, names...); return append(c.cert, c.key...) }
	for range maxVersions + 2 {
		write(t, dir+"/often.pem", pem("often.test"))
		look(t, dir, k)
	}
	if n := len(k.pairs.versions("often")); n != maxVersions {
		t.Errorf("%d copies of one name, want %d", n, maxVersions)
	}
	for _, name := range []string{"gone", "used", "fresh", "there"} {
		write(t, dir+"/"+name+".pem", pem(name+".test"))
	}
	look(t, dir, k)
	for _, name := range []string{"gone", "used", "fresh"} {
		remove(t, dir+"/"+name+".pem")
	}
	long := time.Now().Add(-goneFor - time.Hour)
	for _, name := range []string{"gone", "used", "there"} {
		if err := os.Chtimes(filepath.Join(k.pairs.dir, name), long, long); err != nil {
			t.Fatal(err)
		}
	}
	names := func(v certs.Inventory) (all []string) {
		for _, p := range v.Pairs {
			all = append(all, p.Name)
		}
		return all
	}
	if d := cmp.Diff([]string{"fresh", "gone", "often", "there", "used"}, names(look(t, dir, k))); d != "" {
		t.Errorf("while it is not known which are used (-want +got):\n%s", d)
	}
	k.pairs.used = []string{"used"}
	for range 2 {
		if d := cmp.Diff([]string{"fresh", "often", "there", "used"}, names(look(t, dir, k))); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	k.pairs.used = []string{}
	look(t, dir, k)
	if _, err := os.Stat(k.pairs.dir + "/used"); err != nil {
		t.Errorf("it was used a moment ago: %v", err)
	}

	ages := map[string]time.Duration{}
	for i := range maxGone + 10 {
		ages[fmt.Sprintf("many%d", i)] = time.Duration(i) * time.Minute
	}
	for name, age := range ages {
		if err := os.CopyFS(filepath.Join(k.pairs.dir, name), os.DirFS(filepath.Join(k.pairs.dir, "fresh"))); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-time.Hour - age)
		if err := os.Chtimes(filepath.Join(k.pairs.dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	left := names(look(t, dir, k))
	if len(left) != maxGone+2 || !slices.Contains(left, "many0") || slices.Contains(left, fmt.Sprintf("many%d", maxGone)) {
		t.Errorf("%d of %d copies are left, or others than the newest", len(left), len(ages))
	}
}

// Who gives a certificate up removes its copies.
func TestACopyThatHasGoneIsNotTheNewest(t *testing.T) {
	k := copies{dir: t.TempDir()}
	version, err := k.keep(original{"a", map[string][]byte{"pair.pem": []byte("x")}, "none"})
	if newest, _, ok := k.newest("a"); err != nil || !ok || newest != version {
		t.Errorf("copy %q, %v; the newest is %q", version, err, newest)
	}
	remove(t, filepath.Join(k.dir, "a"))
	if newest, _, ok := k.newest("a"); ok {
		t.Errorf("%q is the newest although it has gone", newest)
	}
}
