package apply

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/nagaya-ecs/nagaya/agent/atomicfile"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// settleTime is how long after the first sign of a change the files are compared, so
// that whatever changes them is done.
const settleTime = 200 * time.Millisecond

// guard notices when something else changes the files of the current generation, and
// restores them: once, because it may be a program that goes on.
type guard struct {
	o       Options
	store   *store
	watcher *fsnotify.Watcher // nil without inotify, and while the files are left alone
	// due is when the files are compared: soon after a sign of a change, else now and then.
	due     *time.Timer
	pending bool // due is soon

	tree *nginx.Tree // what the current generation must be; nil while there is none
	// workers are those that served when tree was loaded; none while that is not certain.
	workers  []int
	touched  bool      // a file was different since workers were noted
	restored time.Time // when files were restored last
	last     time.Time // when a file was different last
	problem  *problem.Problem
	// leftAlone is true while the problem is that files are left as they are.
	leftAlone bool
}

func newGuard(o Options, s *store) *guard {
	return &guard{o: o, store: s, due: time.NewTimer(never)}
}

// keep makes a tree the one that is guarded: it is the current generation, and nginx
// serves it.
func (g *guard) keep(t nginx.Tree) {
	g.tree = &t
	g.watch()
	if !g.pending {
		g.recheckIn(g.o.Limits.Recheck)
	}
}

// difference is one file that is not as it was left.
type difference struct{ path, what string }

func (d difference) String() string { return fmt.Sprintf("%s was %s", d.path, d.what) }

// compare compares the disk with the tree.
func (g *guard) compare() []difference {
	var all []difference
	add := func(path, what string) { all = append(all, difference{path, what}) }
	t := g.tree
	if to, err := os.Readlink(g.store.link()); err != nil {
		add(g.store.link(), "removed")
	} else if to != filepath.Join(generationsDir, t.Generation) {
		add(g.store.link(), "changed")
	}
	dir := g.store.generation(t.Generation)
	known := map[string]bool{}
	for _, f := range t.Files() {
		path := filepath.Join(dir, f.Path)
		known[path] = true
		if text, err := readFile(path); missing(err) {
			add(path, "removed")
		} else if err != nil || text != f.Text {
			add(path, "changed")
		}
	}
	for _, sub := range nginx.TreeDirs {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			add(filepath.Join(dir, sub), "removed")
		}
		for _, e := range entries {
			if path := filepath.Join(dir, sub, e.Name()); strings.HasSuffix(path, ".conf") && !known[path] {
				add(path, "added")
			}
		}
	}
	return all
}

// restore puts back what is different, each file in one step.
func (g *guard) restore(different []difference) error {
	dir := g.store.generation(g.tree.Generation)
	return diskFault("restoring generation "+g.tree.Generation, g.store.dir, g.rewrite(different, dir))
}

func (g *guard) rewrite(different []difference, dir string) error {
	dirs := []string{dir}
	for _, sub := range nginx.TreeDirs {
		dirs = append(dirs, filepath.Join(dir, sub))
	}
	for _, d := range dirs {
		if info, err := os.Lstat(d); err == nil && info.Mode().IsRegular() {
			if err := os.Remove(d); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	texts := map[string]string{}
	for _, f := range g.tree.Files() {
		texts[filepath.Join(dir, f.Path)] = f.Text
	}
	for _, d := range different {
		text, ours := texts[d.path]
		switch {
		case ours:
			if err := replaceFile(d.path, text); err != nil {
				return err
			}
		case d.what == "added":
			if err := os.RemoveAll(d.path); err != nil {
				return err
			}
		}
	}
	for _, d := range dirs {
		if err := syncPath(d); err != nil {
			return err
		}
	}
	return g.store.relink(g.tree.Generation)
}

// replaceFile gives a path this text and mode in one step, even where a directory is.
func replaceFile(path, text string) error {
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return atomicfile.Write(path, []byte(text), 0o644)
}

// loaded notes the workers that serve what nginx has just loaded of that generation.
func (g *guard) loaded(gen string, workers []int) {
	g.workers, g.touched = workers, false
	if g.tree != nil && g.tree.Generation == gen && len(g.compare()) > 0 {
		g.workers = nil // it may have read what was changed meanwhile
	}
}

// replaced reports whether one of the workers that had loaded the tree is gone:
// the one in its place may have loaded something else.
func (g *guard) replaced(active []int) bool {
	return len(active) > 0 && len(g.workers) == 0 || slices.ContainsFunc(g.workers, func(pid int) bool { return !slices.Contains(active, pid) })
}

// recheckIn sets when the files are compared, unless there is a sign before.
func (g *guard) recheckIn(pause time.Duration) {
	g.pending = false
	g.due.Reset(pause)
}

// changed notes that something may have changed.
func (g *guard) changed() {
	if !g.pending && g.tree != nil {
		g.pending = true
		g.due.Reset(settleTime)
	}
}

// changes returns the channels on which changes, and losses of such news, come.
func (g *guard) changes() (<-chan fsnotify.Event, <-chan error) {
	if g.watcher == nil {
		return nil, nil
	}
	return g.watcher.Events, g.watcher.Errors
}

// watch has the kernel tell of changes. Without inotify, whose instances are limited,
// Limits.Recheck finds them.
func (g *guard) watch() {
	if g.watcher == nil {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			g.o.Log.Debug("changes of the files cannot be watched", "err", err)
			return
		}
		g.watcher = w
	}
	dir := g.store.generation(g.tree.Generation)
	want := []string{g.store.dir, filepath.Dir(dir), dir, g.o.Dirs.Run}
	for _, sub := range nginx.TreeDirs {
		want = append(want, filepath.Join(dir, sub))
	}
	for _, was := range g.watcher.WatchList() {
		if !slices.Contains(want, was) {
			_ = g.watcher.Remove(was) // it may have gone with its directory
		}
	}
	for _, d := range want {
		if err := g.watcher.Add(d); err != nil && !missing(err) {
			g.o.Log.Debug("changes of the files cannot be watched", "dir", d, "err", err)
		}
	}
}

// close ends the watching until the next look.
func (g *guard) close() {
	if g.watcher != nil {
		g.watcher.Close()
		g.watcher = nil
	}
}

// checkFiles compares the files of the current generation with what they must be and
// restores them, once in a RestorePeriod. It returns true when nginx has to load them,
// because it may have loaded something else.
func (a *applier) checkFiles(now time.Time) (load bool) {
	g := a.guard
	before, restored := g.problem, a.report.status.Restored
	defer func() {
		if g.problem != before || a.report.status.Restored != restored {
			a.publish()
		}
	}()
	if g.tree == nil {
		g.recheckIn(never)
		return false
	}
	g.watch()
	different := g.compare()
	var active []int
	var lost []string
	if a.master.pid != 0 {
		active = a.o.Runtime.Workers(a.master.pid).Active
		lost = lostSockets(*g.tree)
		for _, s := range lost {
			different = append(different, difference{s, "removed"})
		}
	}
	if len(different) == 0 {
		load = g.touched && g.replaced(active)
		g.workers, g.touched = active, false
		g.stable(now)
		return load
	}
	g.last, g.touched = now, true
	loaded := g.replaced(active)
	if age := now.Sub(g.restored); age >= 0 && age < a.o.Limits.RestorePeriod && !g.restored.IsZero() {
		g.leaveAlone(now, different, loaded)
		return false
	}
	return a.restoreFiles(now, different, loaded) || len(lost) > 0
}

// stable is called when no file is different.
func (g *guard) stable(now time.Time) {
	pause := g.o.Limits.Recheck
	if g.problem != nil {
		left := g.last.Add(g.o.Limits.RestorePeriod).Sub(now)
		if left <= 0 {
			g.o.Log.Info("the files of nginx are stable", event.Key, event.FilesStable, "dir", g.store.dir)
			g.problem, g.leftAlone = nil, false
		} else {
			pause = min(pause, left)
		}
	}
	g.recheckIn(pause)
}

// leaveAlone leaves the files as they are for a while, and says so. loaded
// means that nginx may have read them.
func (g *guard) leaveAlone(now time.Time, different []difference, loaded bool) {
	again := g.restored.Add(g.o.Limits.RestorePeriod)
	if g.problem == nil {
		g.o.Log.Warn("the files of nginx were changed again after they had been restored; they are left alone for a while", event.Key, event.FilesLeftAlone, "first", different[0].path, "was", different[0].what, "until", again.Format(time.TimeOnly))
	}
	g.problem = &problem.Problem{
		Code: "files-trampled", Severity: problem.Warning, Subject: "nginx",
		Text: fmt.Sprintf("another program keeps changing the agent's own files: %s after they had been restored", nginx.Printable(different[0].String())),
		Hint: "find what writes there (e.g. auditctl -w " + g.store.dir + " -p wa) and stop it; put directives of your own into the snippet directory instead; nginx goes on with what it has loaded, and the files are restored again later",
	}
	if loaded {
		g.problem.Severity = problem.Error
		g.problem.Text += ", and nginx may have loaded that"
	}
	g.leftAlone = true
	g.close()
	g.recheckIn(again.Sub(now))
}

// restoreFiles restores files. loaded means that nginx may have read others.
func (a *applier) restoreFiles(now time.Time, different []difference, loaded bool) (load bool) {
	g := a.guard
	temp, _ := os.ReadDir(nginx.TempDir(a.o.Dirs.State))
	err := a.store.prepare(a.o.Dirs.Run, a.o.Dirs.Log)
	if err == nil {
		err = a.store.relock()
	}
	if err == nil {
		err = g.restore(different)
	}
	if err != nil {
		p := ProblemOf(err)
		if g.problem == nil {
			a.log.Warn("changed files of nginx could not be restored", event.Key, event.FilesNotRestored, "err", err, "first", different[0].path)
		}
		g.problem = &p
		g.recheckIn(maxPause)
		return false
	}
	g.restored = now
	if !g.leftAlone {
		g.problem = nil
	}
	a.report.status.Restored++
	load = loaded || len(temp) == 0
	a.log.Warn("files of nginx were changed by another program and are restored", event.Key, event.FilesRestored, "first", different[0].path, "was", different[0].what, "files", len(different), "reload", load)
	g.watch() // directories may be new
	g.recheckIn(g.o.Limits.Recheck)
	return load
}

// restoreBeforeStart restores the files that a starting nginx is about to read.
func (a *applier) restoreBeforeStart() {
	if a.guard.tree != nil {
		a.guard.watch()
		if different := a.guard.compare(); len(different) > 0 {
			a.restoreFiles(time.Now(), different, false)
		}
		return
	}
	if a.wanted != nil || a.store.current() != "" {
		return
	}
	if whole := a.store.whole(""); len(whole) > 0 {
		a.log.Warn("the link to the current generation was missing; the newest generation takes its place", event.Key, event.GenerationGuessed, "generation", whole[0])
		if err := a.store.swap(whole[0]); err != nil {
			a.log.Warn("it could not be made the current one", event.Key, event.GenerationGuessed, "generation", whole[0], "err", err)
		}
	}
}
