package apply

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/lock"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// What is in the state directory. nginx.CurrentLink leads to one of generations.
const (
	generationsDir = "generations"
	stagingDir     = "staging.tmp" // inside generations; what a crash left there is worth nothing
)

// maxFileSize bounds what is read back from the state directory, in bytes.
const maxFileSize = 8 << 20

// store is the state directory: generations, and which of them is current.
type store struct {
	dir    string
	lock   *lock.Lock
	fresh  []string // files that may not be on the disk yet, by their paths in a tree
	staged string   // the generation that is staged, "" for none
}

func (s *store) generation(gen string) string {
	return filepath.Join(s.dir, generationsDir, gen)
}

// stagingPath is where trees are staged.
func (s *store) stagingPath() string { return filepath.Join(s.dir, generationsDir, stagingDir) }

func (s *store) link() string { return filepath.Join(s.dir, nginx.CurrentLink) }

// prepare makes the directories that nginx needs; an empty one is none.
func (s *store) prepare(others ...string) error {
	for _, d := range append([]string{filepath.Join(s.dir, generationsDir), nginx.TempDir(s.dir)}, others...) {
		if d == "" {
			continue
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return diskFault("making "+d, d, err)
		}
	}
	return nil
}

// current returns the generation that nginx reads when it starts or reloads,
// or "" if there is none.
func (s *store) current() string {
	to, err := os.Readlink(s.link())
	if err != nil {
		return ""
	}
	gen := filepath.Base(to)
	if to != filepath.Join(generationsDir, gen) || !nginx.IsGeneration(gen) {
		return ""
	}
	if _, err := os.Stat(filepath.Join(s.generation(gen), nginx.MainFile)); err != nil {
		return ""
	}
	return gen
}

// stage writes a tree into the staging directory. A file that is the same in
// the current generation becomes a second name of it: it is on the disk already.
func (s *store) stage(t nginx.Tree) error {
	if s.staged == t.Generation {
		return nil
	}
	if err := s.write(t); err != nil {
		s.unstage()
		return diskFault("writing generation "+t.Generation, s.dir, err)
	}
	return nil
}

// unstage removes what is staged.
func (s *store) unstage() {
	s.staged, s.fresh = "", nil
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
			if b, err := os.ReadFile(old); err == nil && string(b) == f.Text && os.Link(old, to) == nil {
				continue
			}
		}
		if err := os.WriteFile(to, []byte(f.Text), 0o644); err != nil {
			return err
		}
		s.fresh = append(s.fresh, f.Path)
	}
	s.staged = t.Generation
	return nil
}

// commit makes the staged tree a generation.
func (s *store) commit(gen string) error {
	to := s.generation(gen)
	err := os.RemoveAll(to)
	if err == nil {
		err = os.Rename(s.stagingPath(), to)
	}
	if err == nil {
		s.staged = ""
	}
	return diskFault("keeping generation "+gen, s.dir, err)
}

// sync has the newest generation and the link to it survive a power cut. That takes longer
// than a reload, so it comes after it: until then the generation of before is on the disk,
// and a file that a power cut has emptied is noticed by the generation's name.
func (s *store) sync(gen string) error {
	dir := s.generation(gen)
	paths := []string{dir, filepath.Dir(dir), s.dir}
	for _, sub := range nginx.TreeDirs {
		paths = append(paths, filepath.Join(dir, sub))
	}
	for _, f := range s.fresh {
		paths = append(paths, filepath.Join(dir, f))
	}
	for _, path := range paths {
		if err := syncPath(path); err != nil {
			return diskFault("keeping generation "+gen, s.dir, err)
		}
	}
	s.fresh = nil
	return nil
}

func syncPath(p string) error {
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// swap makes a generation the current one in one step; "" removes the link.
func (s *store) swap(gen string) error {
	return diskFault("switching to generation "+gen, s.dir, s.relink(gen))
}

func (s *store) relink(gen string) error {
	link := s.link()
	if gen == "" {
		if err := os.Remove(link); err != nil && !missing(err) {
			return err
		}
		return nil
	}
	next := link + ".tmp"
	if err := os.Remove(next); err != nil && !missing(err) {
		return err
	}
	if err := os.Symlink(filepath.Join(generationsDir, gen), next); err != nil {
		return err
	}
	return renameOver(next, link)
}

// renameOver is os.Rename in place of whatever is there, even of a directory.
func renameOver(from, to string) error {
	if info, err := os.Lstat(to); err == nil && info.IsDir() {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	return os.Rename(from, to)
}

// read returns the tree of a generation on the disk. The error says so if its files are
// not what they were, or if a version before this one has written it, which kept no manifest.
func (s *store) read(gen string) (nginx.Tree, error) {
	t, err := nginx.ReadTree(func(path string) (string, error) {
		return readFile(filepath.Join(s.generation(gen), path))
	})
	if err == nil && t.Generation != gen {
		err = errors.New("its files are not what they were")
	}
	if err != nil {
		return nginx.Tree{}, fmt.Errorf("reading generation %s: %w", gen, err)
	}
	return t, nil
}

func readFile(p string) (string, error) {
	b, err := readfile.Any(p, maxFileSize)
	return string(b), err
}

// whole returns the generations on the disk that can be read, the newest first, but
// for one.
func (s *store) whole(but string) []string {
	entries, err := os.ReadDir(filepath.Join(s.dir, generationsDir))
	if err != nil {
		return nil
	}
	made := map[string]time.Time{}
	var gens []string
	for _, e := range entries {
		gen := e.Name()
		info, err := e.Info()
		if err != nil || gen == but || !nginx.IsGeneration(gen) {
			continue
		}
		if _, err := s.read(gen); err == nil {
			gens, made[gen] = append(gens, gen), info.ModTime()
		}
	}
	slices.SortFunc(gens, func(a, b string) int { return made[b].Compare(made[a]) })
	return gens
}

// clean removes what a crash left half done.
func (s *store) clean() {
	s.unstage()
	os.Remove(s.link() + ".tmp")
}

// sweep removes every generation but these, and what crashes left behind.
// Failing is no harm: the next sweep tries again.
func (s *store) sweep(keep ...string) {
	entries, err := os.ReadDir(filepath.Join(s.dir, generationsDir))
	if err != nil {
		return
	}
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			os.RemoveAll(s.generation(e.Name()))
		}
	}
}

func missing(err error) bool { return errors.Is(err, os.ErrNotExist) }
