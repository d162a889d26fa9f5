package install

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// What is in the state directory. currentLink points to one of generations.
const (
	currentLink    = "current"
	generationsDir = "generations"
	stagingDir     = "staging.tmp" // inside generations; what a crash left there is worth nothing
	aheadDir       = "ahead.tmp"   // the same for what is tested ahead
)

// Bounds of what is read back from the state directory.
const (
	maxFileSize = 8 << 20 // bytes
	maxFiles    = 20000
)

// treeDirs are the directories of a generation.
var treeDirs = []string{nginx.SitesDir, nginx.StreamsDir, nginx.SNIDir}

var generationName = regexp.MustCompile(`^[0-9a-f]{16}$`)

// store is the state directory: generations, and which of them is current.
type store struct {
	dir string
	// staging is the directory inside generations in which trees are staged; empty is
	// stagingDir.
	staging string
	// fresh are the staged files that are not on the disk for certain; syncing gets the
	// result of bringing them there, nil when that was not begun.
	fresh   []string
	syncing chan error
	// holds is the generation that is staged, "" for none.
	holds string
}

func (s *store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *store) generation(gen string) string { return s.path(generationsDir, gen) }
func (s *store) staged() string               { return s.path(generationsDir, cmp.Or(s.staging, stagingDir)) }

// prepare makes the directories that must exist.
func (s *store) prepare(others ...string) error {
	for _, d := range append([]string{s.path(generationsDir), nginx.TempDir(s.dir)}, others...) {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return diskTrouble("making "+d, d, err)
		}
	}
	return nil
}

// current returns the generation that nginx reads when it starts or reloads,
// or "" if there is none.
func (s *store) current() string {
	to, err := os.Readlink(s.path(currentLink))
	if err != nil {
		return ""
	}
	gen := filepath.Base(to)
	if to != filepath.Join(generationsDir, gen) || !generationName.MatchString(gen) {
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
	if s.holds == t.Generation {
		return nil
	}
	if err := s.restage(s.staged(), t); err != nil {
		s.unstage()
		return diskTrouble("writing generation "+t.Generation, s.dir, err)
	}
	return nil
}

// unstage removes what is staged.
func (s *store) unstage() {
	s.drop()
	os.RemoveAll(s.staged())
}

// drop forgets what is staged.
func (s *store) drop() {
	if s.syncing != nil {
		<-s.syncing
	}
	s.holds, s.fresh, s.syncing = "", nil, nil
}

func (s *store) restage(dir string, t nginx.Tree) error {
	s.drop()
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for _, sub := range treeDirs {
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
		s.fresh = append(s.fresh, to)
	}
	s.holds = t.Generation
	return nil
}

// commit makes the staged tree a generation that survives a power cut.
func (s *store) commit(gen string) error {
	return diskTrouble("keeping generation "+gen, s.dir, s.keep(gen))
}

// sync begins to bring what is staged to the disk, which takes as long as nginx -t
// on a slow one: both can go on at once.
func (s *store) sync() {
	if s.syncing != nil {
		return
	}
	dir := s.staged()
	made := append(s.fresh, dir)
	for _, sub := range treeDirs {
		made = append(made, filepath.Join(dir, sub))
	}
	done := make(chan error, 1)
	go func() { done <- syncAll(made) }()
	s.syncing = done
}

func (s *store) keep(gen string) error {
	s.sync()
	err := <-s.syncing
	s.syncing = nil
	if err != nil {
		return err
	}
	dir := s.staged()
	to := s.generation(gen)
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.Rename(dir, to); err != nil {
		return err
	}
	s.drop()
	return syncPath(s.path(generationsDir))
}

// syncAll syncs side by side: what waits together is written together, and somebody
// waits for the reload that comes after it.
func syncAll(paths []string) error {
	const atOnce = 16
	var (
		errs  = make([]error, len(paths))
		slots = make(chan struct{}, atOnce)
		all   sync.WaitGroup
	)
	for i, p := range paths {
		slots <- struct{}{}
		all.Go(func() {
			errs[i] = syncPath(p)
			<-slots
		})
	}
	all.Wait()
	return errors.Join(errs...)
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
	return diskTrouble("switching to generation "+gen, s.dir, s.relink(gen))
}

func (s *store) relink(gen string) error {
	link := s.path(currentLink)
	if gen == "" {
		if err := os.Remove(link); err != nil && !missing(err) {
			return err
		}
		return syncPath(s.dir)
	}
	next := link + ".tmp"
	if err := os.Remove(next); err != nil && !missing(err) {
		return err
	}
	if err := os.Symlink(filepath.Join(generationsDir, gen), next); err != nil {
		return err
	}
	if err := renameOver(next, link); err != nil {
		return err
	}
	return syncPath(s.dir)
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

// read returns the tree of a generation as it is on the disk.
func (s *store) read(gen string) (nginx.Tree, error) {
	dir := s.generation(gen)
	main, err := readFile(filepath.Join(dir, nginx.MainFile))
	if err != nil {
		return nginx.Tree{}, fmt.Errorf("reading generation %s: %w", gen, err)
	}
	files := []nginx.File{{Path: nginx.MainFile, Text: main}}
	for _, sub := range treeDirs {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil && !missing(err) {
			return nginx.Tree{}, fmt.Errorf("reading generation %s: %w", gen, err)
		}
		for _, e := range entries[:min(len(entries), maxFiles)] {
			if !strings.HasSuffix(e.Name(), ".conf") {
				continue
			}
			text, err := readFile(filepath.Join(dir, sub, e.Name()))
			if err != nil {
				return nginx.Tree{}, fmt.Errorf("reading generation %s: %w", gen, err)
			}
			files = append(files, nginx.File{Path: sub + "/" + e.Name(), Text: text})
		}
	}
	return nginx.NewTree(files), nil
}

func readFile(p string) (string, error) {
	f, err := os.Open(p)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err == nil && len(b) > maxFileSize {
		err = fmt.Errorf("%s is larger than %d bytes", p, maxFileSize)
	}
	return string(b), err
}

// lastGood returns the file of a site in the current generation.
func (s *store) lastGood(site nginx.SiteFile) (nginx.SiteFile, bool) {
	gen := s.current()
	if gen == "" {
		return nginx.SiteFile{}, false
	}
	good := nginx.SiteFile{Host: site.Host, Name: site.Name}
	for sub, text := range map[string]*string{nginx.SitesDir: &good.Text, nginx.StreamsDir: &good.Stream, nginx.SNIDir: &good.SNI} {
		var err error
		if *text, err = readFile(filepath.Join(s.generation(gen), sub, site.Name)); err != nil && !missing(err) {
			return nginx.SiteFile{}, false
		}
	}
	none := nginx.SiteFile{Host: site.Host, Name: site.Name}
	return good, good != site && good != none
}

// readKept returns a generation as it is on the disk if that is what it was made of.
func (s *store) readKept(gen string) (nginx.Tree, error) {
	t, err := s.read(gen)
	if err == nil && t.Generation != gen {
		err = fmt.Errorf("the files of generation %s are not what they were", gen)
	}
	return t, err
}

// whole returns the generations on the disk that are what they were made of, the
// newest first, but for one.
func (s *store) whole(but string) []string {
	entries, err := os.ReadDir(s.path(generationsDir))
	if err != nil {
		return nil
	}
	made := map[string]time.Time{}
	var gens []string
	for _, e := range entries {
		gen := e.Name()
		info, err := e.Info()
		if err != nil || gen == but || !generationName.MatchString(gen) {
			continue
		}
		if _, err := s.readKept(gen); err == nil {
			gens, made[gen] = append(gens, gen), info.ModTime()
		}
	}
	slices.SortFunc(gens, func(a, b string) int { return made[b].Compare(made[a]) })
	return gens
}

// clean removes what a crash left half done.
func (s *store) clean() {
	s.unstage()
	os.Remove(s.path(currentLink) + ".tmp")
}

// sweep removes every generation but these, and what crashes left behind.
// Failing is no harm: the next sweep tries again.
func (s *store) sweep(keep ...string) {
	entries, err := os.ReadDir(s.path(generationsDir))
	if err != nil {
		return
	}
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) && e.Name() != aheadDir {
			os.RemoveAll(s.path(generationsDir, e.Name()))
		}
	}
}
