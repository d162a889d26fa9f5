package files

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// copies is the directory of what nginx reads: of each pair a copy that never changes,
// DIR/NAME/FINGERPRINT with copiedPair and what lies beside it. So nginx never sees half of
// a renewal, a pair that is spoilt or taken away goes on being served, and nginx starts with
// it after a reboot.
type copies struct {
	dir string // empty: nginx reads the pairs where they are
	// readOnly makes no copies and removes none: a copy is named where it is there already.
	readOnly bool
	// used are the names of the pairs of all sites; nil while that is not known.
	used []string
}

const (
	// copied begins the names of the files of a copy; copiedPair has the certificates and the key.
	copied, copiedPair = "pair", "pair.pem"
	// maxVersions bounds the copies of one name: an older one is what nginx goes on with
	// when it refuses a newer one.
	maxVersions = 4
	// maxGone bounds the names that are copies only, whose pair has gone.
	maxGone = 500
	// goneFor is how long the copy of a pair that has gone is kept while no site uses it.
	goneFor = 30 * 24 * time.Hour
	// touchAfter is how old the time of a copy gets before it is renewed.
	touchAfter = time.Hour
)

// version is the directory of one copy.
func (k copies) version(name, fingerprint string) string {
	return filepath.Join(k.dir, name, fingerprint[:16])
}

// copied returns the pair with the paths of its copy, which it makes if it is not there. With
// an error it returns the pair as it is.
func (k copies) copied(l loaded) (certs.Pair, error) {
	if k.dir == "" {
		return l.pair, nil
	}
	to := k.version(l.pair.Name, l.pair.Fingerprint)
	if pair, ok := k.read(l.pair.Name, to); ok && pair.Fingerprint == l.pair.Fingerprint {
		if !k.readOnly {
			give(to, l)
			touch(to, k.versions(l.pair.Name)[0] != to)
			touch(filepath.Dir(to), false)
		}
		return pair, nil
	}
	if k.readOnly {
		return l.pair, nil
	}
	if err := k.write(to, l); err != nil {
		return l.pair, err
	}
	pair, ok := k.read(l.pair.Name, to)
	if !ok {
		return l.pair, errors.New("it cannot be read back")
	}
	k.dropVersions(l.pair.Name)
	return pair, nil
}

// read reads a copy. One that is not what its name says is none.
func (k copies) read(name, version string) (certs.Pair, bool) {
	pair := filepath.Join(version, copiedPair)
	l, p := read(candidate{name: name, certFile: pair, keyFile: pair, beside: filepath.Join(version, copied)})
	if p != nil || len(l.pair.Fingerprint) < 16 || l.pair.Fingerprint[:16] != filepath.Base(version) {
		return certs.Pair{}, false
	}
	return l.pair, true
}

// write makes a copy in one step, and returns when it is on the disk.
func (k copies) write(to string, l loaded) error {
	name := filepath.Dir(to)
	for _, dir := range []string{k.dir, name} {
		// Whoever reads a file here has to know its name.
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o711); err != nil {
			return err
		}
	}
	left, err := filepath.Glob(filepath.Join(name, "*.tmp")) // of a killed agent
	if err != nil {
		return err
	}
	for _, dir := range append(left, to) { // what is there is no copy
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	next := to + ".tmp"
	defer os.RemoveAll(next)
	if err := os.Mkdir(next, 0o711); err != nil {
		return err
	}
	for file, text := range l.files {
		if err := writeSynced(filepath.Join(next, file), text); err != nil {
			return err
		}
	}
	give(next, l)
	return errors.Join(os.Chmod(next, 0o711), syncDir(next), os.Rename(next, to), syncDir(name), syncDir(k.dir))
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// give lets those read a copy who may read the key, and the group of the agent: nginx need
// not run as the agent's user. Where the agent may not give files away, its own group reads
// them.
func give(version string, l loaded) {
	mode, group := os.FileMode(0o640), os.Getegid()
	if info, err := os.Stat(l.pair.KeyFile); err == nil {
		mode |= info.Mode().Perm() & 0o004
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode()&0o040 != 0 {
			group = int(st.Gid)
		}
	}
	for file := range l.files {
		path := filepath.Join(version, file)
		info, err := os.Lstat(path)
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Gid) != group {
			_ = os.Lchown(path, -1, group)
		}
		if info.Mode().Perm() != mode {
			_ = os.Chmod(path, mode)
		}
	}
}

// touch renews the time of a directory: always, or when it is old.
func touch(dir string, always bool) {
	if now := time.Now(); always || now.Sub(modified(dir)).Abs() > touchAfter {
		_ = os.Chtimes(dir, now, now)
	}
}

// modified is the time of a file; zero for none.
func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// fallBack adds the copies of pairs that cannot be used or have gone, and says so.
func (k copies) fallBack(inv certs.Inventory, wrong map[string]problem.Problem) certs.Inventory {
	var gone []string
	for _, name := range k.names() {
		if _, ok := inv.Named(name); ok {
			continue
		}
		p, spoilt := wrong[name]
		if !spoilt {
			gone = append(gone, name)
			continue
		}
		if pair, seen, ok := k.newest(name); ok {
			inv.Pairs = append(inv.Pairs, pair)
			p.Text += ", so a copy is served, of the pair as it was at " + seen
			wrong[name] = p
		}
	}
	for _, name := range k.drop(gone) {
		if pair, seen, ok := k.newest(name); ok {
			inv.Pairs = append(inv.Pairs, pair)
			inv.Problems = append(inv.Problems, problem.Problem{
				Code: "cert-gone", Severity: problem.Error, Subject: "certificate " + name, File: pair.CertFile,
				Text: fmt.Sprintf("the files of the certificate %q have gone, so a copy is served, of the pair as it was at %s", name, seen),
				Hint: "put them back; or, to give the certificate up, rm -r " + filepath.Join(k.dir, name) + ", and set nagaya.tls=off where its hosts shall be served over plain HTTP",
			})
		}
	}
	slices.SortStableFunc(inv.Pairs, func(a, b certs.Pair) int { return cmp.Compare(a.Name, b.Name) })
	return inv
}

// drop removes copies of pairs that have gone: what no site has used for long, and the oldest
// where there are too many. It returns the names that are left.
func (k copies) drop(gone []string) (left []string) {
	if k.readOnly || k.used == nil {
		return gone
	}
	at := map[string]time.Time{}
	for _, name := range gone {
		dir := filepath.Join(k.dir, name)
		if slices.Contains(k.used, name) {
			touch(dir, false)
		}
		at[name] = modified(dir)
	}
	slices.SortStableFunc(gone, func(a, b string) int { return at[b].Compare(at[a]) })
	for i, name := range gone {
		if i >= maxGone || time.Since(at[name]) > goneFor {
			_ = os.RemoveAll(filepath.Join(k.dir, name)) // tried again at the next look
			continue
		}
		left = append(left, name)
	}
	return left
}

// names lists what there are copies of.
func (k copies) names() []string {
	if k.dir == "" {
		return nil
	}
	entries, err := readDir(k.dir)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(entries, func(e string) bool { return !baseName.MatchString(e) })
}

// versions lists the copies of a name, newest first.
func (k copies) versions(name string) []string {
	entries, err := readDir(filepath.Join(k.dir, name))
	if err != nil {
		return nil
	}
	at := map[string]time.Time{}
	for i, e := range entries {
		entries[i] = filepath.Join(k.dir, name, e)
		at[entries[i]] = modified(entries[i])
	}
	slices.SortStableFunc(entries, func(a, b string) int { return at[b].Compare(at[a]) })
	return entries
}

// newest is the newest copy of a name that can be used, and when its pair was last seen.
func (k copies) newest(name string) (pair certs.Pair, seen string, ok bool) {
	for _, v := range k.versions(name) {
		if pair, ok := k.read(name, v); ok {
			return pair, modified(v).UTC().Format(time.RFC3339), true
		}
	}
	return certs.Pair{}, "", false
}

// dropVersions removes the oldest copies of a name.
func (k copies) dropVersions(name string) {
	for i, old := range k.versions(name) {
		if i >= maxVersions {
			_ = os.RemoveAll(old)
		}
	}
}
