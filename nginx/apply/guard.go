package apply

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// settleTime is how long the files must have been unchanged before they are compared.
const settleTime = 200 * time.Millisecond

// lookAgain is how long after files were restored it is looked whether nginx was loading them.
const lookAgain = 2 * time.Second

// guard notices when another program changes the files of the current generation, which are
// restored: once in a RestorePeriod, because that program may go on.
type guard struct {
	watcher *dirwatch.Watcher
	events  chan struct{} // the files may have changed
	due     *time.Timer   // when they are compared without an event

	workers  []int     // those that have loaded the live tree; none while that is not certain
	restored time.Time // when files were restored last
	problem  *problem.Problem
}

func newGuard() *guard {
	return &guard{watcher: &dirwatch.Watcher{}, events: make(chan struct{}), due: time.NewTimer(never)}
}

// watch sends events until ctx ends. Without inotify, whose instances are limited,
// Limits.Recheck finds changes.
func (g *guard) watch(ctx context.Context) {
	for g.watcher.Wait(ctx, never, settleTime) {
		select {
		case g.events <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// watchDirs watches the directories of the live tree, which may be new.
func (a *applier) watchDirs() {
	dir := a.store.generation(a.live.Generation)
	dirs := []string{a.store.dir, filepath.Dir(dir), dir, a.o.Dirs.Run}
	for _, sub := range nginx.TreeDirs {
		dirs = append(dirs, filepath.Join(dir, sub))
	}
	if _, err := a.guard.watcher.Only(dirs...); err != nil {
		a.log.Debug("changes of the files cannot be watched", "err", err)
	}
}

// difference is one file that was changed.
type difference struct{ path, what string }

func (d difference) String() string { return fmt.Sprintf("%s was %s", d.path, d.what) }

// compare compares the current generation on the disk with the tree that it must be.
func (s *store) compare(tree nginx.Tree) []difference {
	var all []difference
	add := func(path, what string) { all = append(all, difference{path, what}) }
	if to, err := os.Readlink(s.link()); err != nil {
		add(s.link(), "removed")
	} else if to != filepath.Join(generationsDir, tree.Generation) {
		add(s.link(), "changed")
	}
	dir := s.generation(tree.Generation)
	known := map[string]bool{}
	for _, f := range tree.Files() {
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
		if err != nil && sub != nginx.SnippetsDir { // an older version of nagaya made none
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

// restore writes a generation and the link to it again.
func (s *store) restore(tree nginx.Tree, dirs nginx.Dirs) error {
	err := s.prepare(dirs.Run, dirs.Log)
	if err == nil {
		err = s.relock()
	}
	if err == nil {
		s.unstage()
		err = s.install(tree)
	}
	if err == nil {
		err = s.sync(tree.Generation)
	}
	return err
}

// checkFiles compares the files of the current generation with what they must be and
// restores them, once in a RestorePeriod. It returns true when nginx has to load them,
// because it may have loaded what was changed.
func (a *applier) checkFiles(now time.Time) (load bool) {
	g := a.guard
	if !a.known() {
		return false
	}
	a.lookForShared()
	left := time.Duration(0) // of the RestorePeriod
	if age := now.Sub(g.restored); !g.restored.IsZero() && age >= 0 {
		left = max(0, a.o.Limits.RestorePeriod-age)
	}
	if g.problem != nil && left > 0 {
		g.due.Reset(left)
		return false
	}
	a.watchDirs()
	different := a.store.compare(a.live)
	var sockets []string
	if a.master.pid != 0 {
		sockets = lostSockets(a.live)
	}
	for _, s := range sockets {
		different = append(different, difference{s, "removed"})
	}
	g.due.Reset(cmp.Or(left, a.o.Limits.Recheck))
	switch {
	case len(different) > 0 && left > 0:
		first := different[0]
		a.log.Warn("the files of nginx were changed again after they had been restored; they stay as they are for a while", event.Key, event.FilesLeftAlone,
			"first", first.path, "was", first.what, "until", now.Add(left).Format(time.TimeOnly))
		p := problem.Of("nginx", "files-changed", "find what writes there (e.g. auditctl -w "+a.store.dir+" -p wa) and stop it; "+
			"put directives of your own into the snippet directory instead; nginx goes on with what it has loaded, and the files are restored again later",
			"another program keeps changing the agent's own files: %s after they had been restored", nginx.Printable(first.String())).AsWarning()
		g.problem = &p
	case len(different) > 0:
		return a.restoreFiles(now, different) || len(sockets) > 0
	case a.master.pid != 0 && g.restored.After(a.report.status.LoadedAt) && a.workersReplaced():
		return true // it was about to load what was changed when that was restored
	case g.problem != nil:
		a.log.Info("the files of nginx are stable", event.Key, event.FilesStable, "dir", a.store.dir)
		g.problem = nil
	default:
		return false
	}
	a.publish()
	return false
}

// workersReplaced reports whether nginx may have loaded its files again after the agent had it do that.
func (a *applier) workersReplaced() bool {
	active := a.o.Runtime.Workers(a.master.pid).Active
	gone := func(pid int) bool { return !slices.Contains(active, pid) }
	return len(a.guard.workers) == 0 || slices.ContainsFunc(a.guard.workers, gone)
}

// restoreFiles restores files. It returns true when nginx has to load them: workers that are
// gone were replaced by some that may have loaded others, and it makes directories for
// temporary files when it loads.
func (a *applier) restoreFiles(now time.Time, different []difference) (load bool) {
	g := a.guard
	defer a.publish()
	temp, _ := os.ReadDir(nginx.TempDir(a.o.Dirs.State))
	if err := a.store.restore(a.live, a.o.Dirs); err != nil {
		p := ProblemOf(err)
		if g.problem == nil {
			a.log.Warn("changed files of nginx could not be restored", event.Key, event.FilesNotRestored, "err", err, "first", different[0].path)
		}
		g.problem = &p
		g.due.Reset(maxPause)
		return false
	}
	g.restored, g.problem = now, nil
	a.report.status.Restored++
	load = a.master.pid != 0 && (a.workersReplaced() || len(temp) == 0)
	g.due.Reset(lookAgain)
	a.log.Warn("files of nginx were changed by another program and are restored", event.Key, event.FilesRestored, "first", different[0].path, "was", different[0].what, "files", len(different), "reload", load)
	a.watchDirs()
	return load
}

// restoreBeforeStart restores the files that a starting nginx is about to read.
func (a *applier) restoreBeforeStart() {
	if a.known() {
		if different := a.store.compare(a.live); len(different) > 0 {
			a.restoreFiles(time.Now(), different)
		}
		return
	}
	if a.wanted != nil || a.store.current() != "" {
		return
	}
	if gens := a.store.readable(""); len(gens) > 0 {
		a.log.Warn("the link to the current generation was missing; the newest generation takes its place", event.Key, event.GenerationGuessed, "generation", gens[0])
		if err := a.store.swap(gens[0]); err != nil {
			a.log.Warn("it could not be made the current one", event.Key, event.GenerationGuessed, "generation", gens[0], "err", err)
		}
	}
}
