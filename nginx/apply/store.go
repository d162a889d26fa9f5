package apply

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/lock"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// What is in the state directory. nginx.CurrentLink leads to one of generations.
const (
	generationsDir = "generations"
	stagingDir     = "staging.tmp"  // inside generations: a tree that is written
	replacedDir    = "replaced.tmp" // inside generations: one that is removed
	trialDir       = "trial.tmp"    // inside generations: a tree of a trial
)

// maxFileSize bounds what is read back from the state directory, in bytes.
const maxFileSize = 8 << 20

// store is the state directory: generations, and which of them is current.
type store struct {
	dir     string
	lock    *lock.Lock
	staging string   // the name of the directory where trees are staged; default stagingDir
	fresh   []string // files that may not be on the disk yet, by their paths in a tree
}

func (s *store) generation(gen string) string { return filepath.Join(s.dir, generationsDir, gen) }

// stagingPath is where trees are staged.
func (s *store) stagingPath() string { return s.generation(cmp.Or(s.staging, stagingDir)) }

func (s *store) link() string { return filepath.Join(s.dir, nginx.CurrentLink) }

// perSite is what nginx may take longer for each site that it reads: a certificate costs a
// busy, small machine a few milliseconds.
const perSite = 20 * time.Millisecond

// patience is how long nginx may take to read the files in a directory; few is how long for
// those of no site.
func patience(few time.Duration, dir string) time.Duration {
	sites, _ := os.ReadDir(filepath.Join(dir, nginx.SitesDir))
	return few + time.Duration(len(sites))*perSite
}

// prepare makes the directories that nginx needs; an empty one is none. That of the sockets
// is closed to others from the beginning.
func (s *store) prepare(run, log string) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{s.generation(""), 0o755}, {nginx.TempDir(s.dir), 0o755}, {filepath.Dir(run), 0o755}, {run, 0o750}, {log, 0o755}} {
		if d.path == "" || d.path == "." {
			continue
		}
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return diskFault("making "+d.path, d.path, err)
		}
	}
	return nil
}

// current returns the generation that nginx reads when it starts or reloads,
// or "" if there is none.
func (s *store) current() string {
	to, err := os.Readlink(s.link())
	gen := filepath.Base(to)
	if err != nil || to != filepath.Join(generationsDir, gen) || !nginx.IsGeneration(gen) {
		return ""
	}
	if _, err := os.Stat(filepath.Join(s.generation(gen), nginx.MainFile)); err != nil {
		return ""
	}
	return gen
}

// install makes a tree the current generation.
func (s *store) install(t nginx.Tree) error {
	if err := s.stage(t); err != nil {
		return err
	}
	if err := s.commit(t.Generation); err != nil {
		return err
	}
	return s.swap(t.Generation)
}

// stage writes a tree into the staging directory. A file that is the same in
// the current generation becomes a second name of it: it is on the disk already.
func (s *store) stage(t nginx.Tree) error {
	if err := atomicfile.WithReserve(s.dir, func() error { return s.write(t) }); err != nil {
		s.unstage()
		return diskFault("writing generation "+t.Generation, s.dir, err)
	}
	return nil
}

// unstage removes what is staged.
func (s *store) unstage() {
	s.fresh = nil
	os.RemoveAll(s.stagingPath())
}

func (s *store) write(t nginx.Tree) error {
	dir := s.stagingPath()
	s.unstage()
	for _, sub := range nginx.TreeDirs {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	current := s.current()
	for _, f := range t.Files() {
		to := filepath.Join(dir, f.Path)
		if current != "" && f.Path != nginx.GenerationFile {
			old := filepath.Join(s.generation(current), f.Path)
			if text, err := readFile(old); err == nil && text == f.Text && os.Link(old, to) == nil {
				continue
			}
		}
		mode := os.FileMode(0o644)
		if f.Private {
			mode = 0o640
		}
		if err := os.WriteFile(to, []byte(f.Text), mode); err != nil {
			return err
		}
		s.fresh = append(s.fresh, f.Path)
	}
	return nil
}

// commit makes the staged tree a generation, in place of what has its name.
func (s *store) commit(gen string) error {
	to, replaced := s.generation(gen), s.generation(replacedDir)
	err := os.RemoveAll(replaced)
	if err == nil {
		err = os.Rename(to, replaced)
	}
	if err == nil || missing(err) {
		err = os.Rename(s.stagingPath(), to)
	}
	if err == nil {
		err = os.RemoveAll(replaced)
	}
	return diskFault("keeping generation "+gen, s.dir, err)
}

// sync writes the newest generation and the link to it to the disk, so that they survive a
// power cut. That takes longer than a reload, so it comes after it: until then the
// generation before is on the disk, and a file that a power cut has emptied is noticed by
// the generation's name.
func (s *store) sync(gen string) error {
	dir := s.generation(gen)
	paths := []string{dir, filepath.Dir(dir), s.dir}
	for _, path := range slices.Concat(nginx.TreeDirs, s.fresh) {
		paths = append(paths, filepath.Join(dir, path))
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil {
			return diskFault("keeping generation "+gen, s.dir, err)
		}
	}
	s.fresh = nil
	return nil
}

// swap makes a generation the current one in one step; "" removes the link.
func (s *store) swap(gen string) (err error) {
	defer func() { err = diskFault("switching to generation "+gen, s.dir, err) }()
	link := s.link()
	if info, err := os.Lstat(link); gen == "" || err == nil && info.IsDir() {
		if err := os.RemoveAll(link); err != nil || gen == "" {
			return err
		}
	}
	next := link + ".tmp"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(generationsDir, gen), next); err != nil {
		return err
	}
	return os.Rename(next, link)
}

// read returns the tree of a generation on the disk. The error says so if its files were
// changed, or if a version of nagaya wrote it that wrote no manifest.
func (s *store) read(gen string) (nginx.Tree, error) {
	t, err := nginx.ReadTree(func(path string) (string, error) {
		return readFile(filepath.Join(s.generation(gen), path))
	})
	if err == nil && t.Generation != gen {
		err = errors.New("its files were changed")
	}
	if err != nil {
		return nginx.Tree{}, fmt.Errorf("reading generation %s: %w", gen, err)
	}
	return t, nil
}

func readFile(p string) (string, error) {
	b, err := readfile.Regular(p, maxFileSize)
	return string(b), err
}

// addManifest writes the manifest of a generation that has none, because an older version of
// nagaya wrote it. Should that fail, the guard tries again.
func (s *store) addManifest(t nginx.Tree) {
	path := filepath.Join(s.generation(t.Generation), nginx.ManifestFile)
	if _, err := os.Lstat(path); missing(err) {
		_ = os.WriteFile(path, []byte(t.Manifest()), 0o644)
	}
}

// readable returns the generations on the disk that can be read, the newest first, except
// one.
func (s *store) readable(except string) (gens []string) {
	made := map[string]time.Time{}
	for _, e := range s.entries() {
		gen := e.Name()
		info, err := e.Info()
		if err != nil || gen == except || !nginx.IsGeneration(gen) {
			continue
		}
		if _, err := s.read(gen); err == nil {
			gens, made[gen] = append(gens, gen), info.ModTime()
		}
	}
	slices.SortFunc(gens, func(a, b string) int { return made[b].Compare(made[a]) })
	return gens
}

// entries lists the directory of generations; one that cannot be read has none.
func (s *store) entries() []os.DirEntry {
	entries, _ := os.ReadDir(s.generation(""))
	return entries
}

// clean removes what a crash has left incomplete.
func (s *store) clean() {
	s.unstage()
	os.Remove(s.link() + ".tmp")
}

// sweep removes every generation but these, and what crashes left behind.
// What cannot be removed is left to the next sweep.
func (s *store) sweep(keep ...string) {
	for _, e := range s.entries() {
		if !slices.Contains(keep, e.Name()) {
			os.RemoveAll(s.generation(e.Name()))
		}
	}
}

func missing(err error) bool { return errors.Is(err, os.ErrNotExist) }

// ErrLocked is wrapped by the error of Run and Stop when another nagaya works in the
// state directory.
var ErrLocked = errors.New("another nagaya works in this state directory")

// lockDir takes the lock of a state directory, so that two agents never write the same
// nginx's files.
func lockDir(dir string) (*lock.Lock, error) {
	l, err := lock.Take(filepath.Join(dir, "lock"))
	if held, ok := errors.AsType[*lock.HeldError](err); ok {
		return nil, fmt.Errorf("%w: %w; stop it first, or give this one a directory of its own", ErrLocked, held)
	}
	return l, diskFault("locking "+dir, dir, err)
}

// relock takes the lock again when its file was removed.
func (s *store) relock() error {
	if s.lock == nil || s.lock.InPlace() {
		return nil
	}
	fresh, err := lockDir(s.dir)
	if err != nil {
		return err
	}
	s.lock.Release()
	s.lock = fresh
	return nil
}
