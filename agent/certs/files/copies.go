package files

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
)

// copies is a directory of what nginx reads: of each name copies that never change,
// DIR/NAME/SUM, where SUM is that of the files in it. So nginx never sees half of a renewal,
// what is spoilt or taken away goes on being served, and nginx starts with it after a reboot.
type copies struct {
	dir string // empty: nginx reads the files where they are
	// what has the copies: the subject of problems. giveUp says when somebody may remove one.
	what, giveUp string
	// readOnly makes no copies and removes none: a copy is named where it is there already.
	readOnly bool
	// issued is Options.Issued.
	issued bool
	// used are the names that are not forgotten; nil while that is not known.
	used []string
}

const (
	// maxVersions bounds the copies of one name: an older one is what nginx goes on with
	// when it refuses a newer one.
	maxVersions = 4
	// maxGone bounds the names that are copies only, whose files have gone.
	maxGone = 500
	// goneFor is how long the copy of files that have gone is kept while no site uses it.
	goneFor = 30 * 24 * time.Hour
	// touchAfter is how old the time of a copy gets before it is renewed.
	touchAfter = time.Hour
)

// original is what is copied.
type original struct {
	name  string
	files map[string][]byte // by their names in the copy
	like  string            // the file whose readers may read the copy
}

// sumOf names a copy.
func sumOf(files map[string][]byte) string {
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(sum, "%s %d\n%s", name, len(files[name]), files[name])
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// keep returns the directory of the copy, which it makes if it is not there; "" for none.
func (k copies) keep(o original) (version string, err error) {
	if k.dir == "" {
		return "", nil
	}
	version = filepath.Join(k.dir, o.name, sumOf(o.files))
	switch whole := isWhole(version); {
	case whole && !k.readOnly:
		give(version, o)
		all := k.versions(o.name) // none if somebody gives the name up at this moment
		touch(version, len(all) == 0 || all[0] != version)
		touch(filepath.Dir(version), false)
	case whole:
	case k.readOnly:
		return "", nil
	default:
		if err := atomicfile.WithReserve(k.dir, func() error { return k.write(version, o) }); err != nil {
			return "", err
		}
		k.dropVersions(o.name)
	}
	return version, nil
}

// isWhole reports whether a copy is what its name says.
func isWhole(version string) bool {
	entries, err := os.ReadDir(version)
	if err != nil || len(entries) == 0 || len(entries) > 8 {
		return false
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if files[e.Name()], err = readfile.Regular(filepath.Join(version, e.Name()), 2*maxFile); err != nil {
			return false
		}
	}
	return sumOf(files) == filepath.Base(version)
}

// write makes a copy in one step, and returns when it is on the disk.
func (k copies) write(to string, o original) error {
	name := filepath.Dir(to)
	for _, dir := range []string{k.dir, name} {
		// Whoever reads a file here has to know its name.
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
		info, err := os.Stat(dir)
		if err == nil && info.Mode().Perm() != 0o711 { // a change would be a sign to look again, also where no copy can be made
			err = os.Chmod(dir, 0o711)
		}
		if err != nil {
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
	for file, text := range o.files {
		if err := atomicfile.Write(filepath.Join(next, file), text, 0o640); err != nil {
			return err
		}
	}
	give(next, o)
	return errors.Join(os.Chmod(next, 0o711), syncDir(next), os.Rename(next, to), syncDir(name), syncDir(k.dir))
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// give lets those read a copy who may read the file that it is like, and the group of the agent: nginx need
// not run as the agent's user. Where the agent may not give files away, its own group reads
// them.
func give(version string, o original) {
	mode, group := os.FileMode(0o640), os.Getegid()
	if info, err := os.Stat(o.like); err == nil {
		mode |= info.Mode().Perm() & 0o004
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode()&0o040 != 0 {
			group = int(st.Gid)
		}
	}
	for file := range o.files {
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

// fallBack has the copies added of what cannot be used or has gone, and says so. found are the
// names that need none; wrong has the problems by name.
func (k copies) fallBack(found func(name string) bool, wrong map[string]problem.Problem, add func(name, version string)) (problems []problem.Problem) {
	var gone []string
	for _, name := range k.names() {
		p, spoilt := wrong[name]
		version, seen, ok := k.newest(name)
		switch {
		case found(name) || !ok:
		case spoilt:
			add(name, version)
			p.Text += ", so a copy is served, of what it was at " + seen
			wrong[name] = p
		default:
			gone = append(gone, name)
		}
	}
	for _, name := range k.drop(gone) {
		version, seen, ok := k.newest(name)
		if !ok {
			continue
		}
		add(name, version)
		hint := fmt.Sprintf("put them back; or, %s, rm -r %s", k.giveUp, filepath.Join(k.dir, name))
		p := problem.Of(k.what+" "+name, "cert-gone", hint, "the files of the %s %q have gone, so a copy is served, of what it was at %s", k.what, name, seen)
		p.File = version
		problems = append(problems, p)
	}
	return problems
}

// drop removes copies of what has gone: what no site has used for long, and the oldest
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
		if i >= maxGone || time.Since(at[name]) > goneFor || k.issued && k.isExpired(name) {
			_ = os.RemoveAll(filepath.Join(k.dir, name)) // tried again at the next look
			continue
		}
		left = append(left, name)
	}
	return left
}

// isExpired reports whether the newest copy of a name has expired.
func (k copies) isExpired(name string) bool {
	version, _, _ := k.newest(name)
	pair, ok := pairIn(name, version)
	return ok && !pair.NotAfter.After(time.Now())
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
	at, now := map[string]time.Time{}, time.Now()
	for i, e := range entries {
		entries[i] = filepath.Join(k.dir, name, e)
		if made := modified(entries[i]); !made.After(now) { // else the clock was set back
			at[entries[i]] = made
		}
	}
	slices.SortStableFunc(entries, func(a, b string) int { return at[b].Compare(at[a]) })
	return entries
}

// newest is the newest whole copy of a name, and when its files were last seen.
func (k copies) newest(name string) (version, seen string, ok bool) {
	for _, v := range k.versions(name) {
		if isWhole(v) {
			return v, modified(v).UTC().Format(time.RFC3339), true
		}
	}
	return "", "", false
}

// pairIn is the pair in a copy.
func pairIn(name, version string) (certs.Pair, bool) {
	if version == "" {
		return certs.Pair{}, false
	}
	file := filepath.Join(version, copiedPair)
	l, p := read(candidate{name: name, certFile: file, keyFile: file, beside: filepath.Join(version, copied)})
	return l.pair, p == nil && l.leaf != nil
}

// valid is the newest copy that can stand in for a pair that has expired: one for the same hosts,
// and what it was at that time.
func (k copies) valid(expired certs.Pair, now time.Time) (pair certs.Pair, seen string, ok bool) {
	if k.dir == "" || expired.NotAfter.After(now) {
		return certs.Pair{}, "", false
	}
	for _, v := range k.versions(expired.Name) {
		pair, ok := pairIn(expired.Name, v)
		if ok && isWhole(v) && pair.NotAfter.After(now) && slices.Equal(pair.Names(), expired.Names()) {
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

// uncopied are the files of which no copy could be made in a directory, and why there is none of the first.
type uncopied struct {
	files []string
	err   error
}

func (u *uncopied) add(file string, err error) {
	u.files, u.err = append(u.files, file), cmp.Or(u.err, err)
}

// problems is one problem for all of them: a disk that is full is so for each.
func (u uncopied) problems(dir string) []problem.Problem {
	if len(u.files) == 0 {
		return nil
	}
	why := bounded(u.err.Error())
	text := fmt.Sprintf("no copy of %q can be kept (%q), so nginx reads the file itself, and what it has is lost with the next change for the worse", u.files[0], why)
	if n := len(u.files); n > 1 {
		text = fmt.Sprintf("no copies of %d certificates, such as %q, can be kept (%q), so nginx reads the files themselves, and what they have is lost with the next change for the worse", n, u.files[0], why)
	}
	hint := "let the agent write to the directory " + dir
	if errors.Is(u.err, syscall.ENOSPC) || errors.Is(u.err, syscall.EDQUOT) {
		hint = "free some space or inodes on the file system of " + dir
	}
	return []problem.Problem{*about("cert-not-copied", problem.Warning, u.files[0], text, hint)}
}
