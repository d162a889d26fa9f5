package install

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// settleTime is how long after the first sign of a change the files are looked at, so
// that whoever changes them is done; where change follows change it doubles up to
// maxSettle.
const (
	settleTime = 200 * time.Millisecond
	maxSettle  = 2 * time.Second
)

const trampled = "files-trampled"

// guard notices when somebody changes the files of the current generation, and puts
// them back: a few times, because whoever does so may be a program that goes on.
type guard struct {
	o      Options
	store  *store
	log    *slog.Logger
	notify *fsnotify.Watcher // nil without inotify and while at rest
	// due is when the files are looked at: soon after a sign, else now and then.
	due    *time.Timer
	signed bool // due is soon
	pause  time.Duration

	kept    *nginx.Tree // what the current generation must be; nil while there is none
	workers []int       // who served since kept was loaded; none when that is not certain
	touched bool        // something was amiss since workers were noted
	last    time.Time   // when the last look was
	mended  []time.Time // when files were put back within the last RestorePeriod
	amiss   time.Time   // when something was amiss last
	problem *problem.Problem
}

func newGuard(o Options, s *store) *guard {
	due := time.NewTimer(never)
	return &guard{o: o, store: s, log: o.Log, due: due}
}

// keep makes a tree the one that is guarded: it is the current generation, and nginx
// serves it.
func (g *guard) keep(t nginx.Tree) {
	g.kept = &t
	g.watch()
	if !g.signed {
		g.rearm(time.Now(), g.o.Recheck)
	}
}

// sight is one thing that is not as it was left.
type sight struct{ path, what string }

func (s sight) String() string { return fmt.Sprintf("%s was %s", s.path, s.what) }

// amissNow compares the disk with what is kept.
func (g *guard) amissNow() []sight {
	var all []sight
	t := g.kept
	if to, err := os.Readlink(g.store.path(currentLink)); err != nil {
		all = append(all, sight{g.store.path(currentLink), "removed"})
	} else if to != filepath.Join(generationsDir, t.Generation) {
		all = append(all, sight{g.store.path(currentLink), "changed"})
	}
	dir := g.store.generation(t.Generation)
	known := map[string]bool{}
	for _, f := range t.Files() {
		known[f.Path] = true
		path := filepath.Join(dir, f.Path)
		if text, err := readFile(path); missing(err) {
			all = append(all, sight{path, "removed"})
		} else if err != nil || text != f.Text {
			all = append(all, sight{path, "changed"})
		}
	}
	for _, sub := range treeDirs {
		entries, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			all = append(all, sight{filepath.Join(dir, sub), "removed"})
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".conf") && !known[sub+"/"+e.Name()] {
				all = append(all, sight{filepath.Join(dir, sub, e.Name()), "added"})
			}
		}
	}
	return all
}

// mend puts back what is amiss, each file in one step.
func (g *guard) mend(amiss []sight) error {
	t := g.kept
	return diskTrouble("putting back generation "+t.Generation, g.store.dir, g.putBack(amiss, g.store.generation(t.Generation)))
}

func (g *guard) putBack(amiss []sight, dir string) error {
	dirs := []string{dir}
	for _, sub := range treeDirs {
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
	for _, f := range g.kept.Files() {
		texts[filepath.Join(dir, f.Path)] = f.Text
	}
	for _, s := range amiss {
		text, ours := texts[s.path]
		switch {
		case ours:
			if err := replace(s.path, text); err != nil {
				return err
			}
		case s.what == "added":
			if err := os.RemoveAll(s.path); err != nil {
				return err
			}
		}
	}
	for _, d := range dirs {
		if err := syncPath(d); err != nil {
			return err
		}
	}
	return g.store.relink(g.kept.Generation)
}

// replace gives a path this text and mode in one step, whatever was there.
func replace(path, text string) error {
	next := path + ".tmp"
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		return err
	}
	if err := syncPath(next); err != nil {
		return err
	}
	return renameOver(next, path)
}

// may reports whether files may be put back once more.
func (g *guard) may(now time.Time) bool {
	g.mended = slices.DeleteFunc(g.mended, func(at time.Time) bool { age := now.Sub(at); return age < 0 || age >= g.o.RestorePeriod })
	return len(g.mended) < g.o.Restores
}

// loaded notes who serves what nginx has just loaded of that generation.
func (g *guard) loaded(gen string, workers []int) {
	g.workers, g.touched = workers, false
	if g.kept != nil && g.kept.Generation == gen && len(g.amissNow()) > 0 {
		g.workers = nil // it may have read what was changed meanwhile
	}
}

// replaced reports whether one of the workers that had loaded what is kept is gone:
// whoever is in its place may have loaded something else.
func (g *guard) replaced(active []int) bool {
	return len(active) > 0 && len(g.workers) == 0 || slices.ContainsFunc(g.workers, func(pid int) bool { return !slices.Contains(active, pid) })
}

// whole is called when nothing is amiss. It returns true when nginx may have loaded
// what was amiss before.
func (g *guard) whole(now time.Time, active []int) (load bool) {
	load = g.touched && g.replaced(active)
	g.workers, g.touched = active, false
	if g.problem != nil && now.Sub(g.amiss) >= g.o.RestorePeriod {
		g.log.Info("nobody changes the files of nginx any more", event.Key, event.FilesAtPeace, "dir", g.store.dir)
		g.problem = nil
	}
	g.rearm(now, g.o.Recheck)
	return load
}

// giveUp leaves the files as they are until some time has passed, and says so. loaded
// means that nginx may have read them.
func (g *guard) giveUp(now time.Time, amiss []sight, loaded bool) {
	again := g.mended[0].Add(g.o.RestorePeriod)
	if g.problem == nil {
		g.log.Warn("the files of nginx are changed again and again; they are left alone for a while", event.Key, event.FilesLeftAlone, "first", amiss[0].path, "was", amiss[0].what, "until", again.Format(time.TimeOnly))
	}
	g.problem = &problem.Problem{
		Code: trampled, Severity: problem.Warning, Subject: "nginx",
		Text: fmt.Sprintf("somebody keeps changing the agent's own files: %s after they were put back %d times", bounded(amiss[0].String()), len(g.mended)),
		Hint: "find who writes there (e.g. auditctl -w " + g.store.dir + " -p wa) and stop it; put directives of your own into the snippet directory instead; nginx goes on with what it has loaded, and the files are put back again later",
	}
	if loaded {
		g.problem.Severity = problem.Error
		g.problem.Text += ", and nginx may have loaded that"
	}
	g.rest()
	g.rearm(now, again.Sub(now))
}

// rearm sets when the next look is, unless there is a sign before.
func (g *guard) rearm(now time.Time, pause time.Duration) {
	if g.problem != nil {
		pause = min(pause, max(time.Second, g.amiss.Add(g.o.RestorePeriod).Sub(now)))
	}
	g.last, g.signed = now, false
	g.due.Reset(pause)
}

// sign notes that something may have changed.
func (g *guard) sign() {
	if g.signed || g.kept == nil {
		return
	}
	if time.Since(g.last) < maxSettle {
		g.pause = min(maxSettle, 2*g.pause)
	} else {
		g.pause = 0
	}
	g.pause = max(g.pause, settleTime)
	g.signed = true
	g.due.Reset(g.pause)
}

// signs returns the channels on which changes, and losses of such news, are told.
func (g *guard) signs() (<-chan fsnotify.Event, <-chan error) {
	if g.notify == nil {
		return nil, nil
	}
	return g.notify.Events, g.notify.Errors
}

// watch has the kernel tell of changes. Without inotify, whose instances are limited,
// Recheck finds them.
func (g *guard) watch() {
	if g.notify == nil {
		n, err := fsnotify.NewWatcher()
		if err != nil {
			g.log.Debug("changes of the files cannot be watched", "err", err)
			return
		}
		g.notify = n
	}
	dir := g.store.generation(g.kept.Generation)
	want := []string{g.store.dir, g.store.path(generationsDir), dir, g.o.RunDir}
	for _, sub := range treeDirs {
		want = append(want, filepath.Join(dir, sub))
	}
	for _, was := range g.notify.WatchList() {
		if !slices.Contains(want, was) {
			_ = g.notify.Remove(was) // it may have gone with its directory
		}
	}
	for _, d := range want {
		if err := g.notify.Add(d); err != nil && !missing(err) {
			g.log.Debug("changes of the files cannot be watched", "dir", d, "err", err)
		}
	}
}

// rest ends the watching until the next look.
func (g *guard) rest() {
	if g.notify != nil {
		g.notify.Close()
		g.notify = nil
	}
}

// look compares the files of the current generation with what they must be and puts
// them back. It returns true when nginx has to load them, because it may have loaded
// something else.
func (r *runner) look(now time.Time) (load bool) {
	g := r.guard
	problem, restored := g.problem, r.status.Restored
	defer func() {
		if g.problem != problem || r.status.Restored != restored {
			r.publish()
		}
	}()
	if g.kept == nil {
		g.rearm(now, never)
		return false
	}
	g.watch()
	amiss := g.amissNow()
	var (
		active []int
		closed []sight
	)
	if r.pid != 0 {
		active, _ = r.way.workers(r.pid)
		for _, s := range lostSockets(*g.kept) {
			closed = append(closed, sight{s, "removed"})
		}
		amiss = append(amiss, closed...)
	}
	if len(amiss) == 0 {
		return g.whole(now, active)
	}
	g.amiss, g.touched = now, true
	loaded := g.replaced(active)
	if !g.may(now) {
		g.giveUp(now, amiss, loaded)
		return false
	}
	return r.mend(now, amiss, loaded) || len(closed) > 0
}

// mend puts files back, whatever was put back before. loaded means that nginx may have
// read others.
func (r *runner) mend(now time.Time, amiss []sight, loaded bool) (load bool) {
	g := r.guard
	temp := dirEmpty(nginx.TempDir(r.o.StateDir))
	err := r.prepare()
	if err == nil {
		err = r.holdLock()
	}
	if err == nil {
		err = g.mend(amiss)
	}
	if err != nil {
		p := asProblem(err)
		if g.problem == nil {
			r.log.Warn("changed files of nginx could not be put back", event.Key, event.FilesNotRestored, "err", err, "first", amiss[0].path)
		}
		g.problem = &p
		g.rearm(now, lastPause)
		return false
	}
	g.mended = append(g.mended, now)
	if g.problem != nil && g.problem.Code != trampled {
		g.problem = nil
	}
	r.status.Restored++
	load = loaded || temp
	r.log.Warn("files of nginx were changed by somebody and are put back", event.Key, event.FilesRestored, "first", amiss[0].path, "was", amiss[0].what, "files", len(amiss), "reload", load)
	g.watch() // directories may be new
	g.rearm(now, g.o.Recheck)
	return load
}

// readyToStart sees to the files that a starting nginx is about to read.
func (r *runner) readyToStart() {
	if r.guard.kept != nil {
		r.guard.watch()
		if amiss := r.guard.amissNow(); len(amiss) > 0 {
			r.mend(time.Now(), amiss, false)
		}
		return
	}
	if r.wanted != nil || r.store.current() != "" {
		return
	}
	if whole := r.store.whole(""); len(whole) > 0 {
		r.log.Warn("the link to the current generation was missing; the newest generation takes its place", event.Key, event.GenerationGuessed, "generation", whole[0])
		if err := r.store.swap(whole[0]); err != nil {
			r.log.Warn("it could not be made the current one", event.Key, event.GenerationGuessed, "generation", whole[0], "err", err)
		}
	}
}

func dirEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err != nil || len(entries) == 0
}

// holdLock takes the lock again when its file has gone.
func (r *runner) holdLock() error {
	if r.held == nil || r.held.holds() {
		return nil
	}
	fresh, err := lockStore(r.o.StateDir)
	if err != nil {
		return err
	}
	r.held.unlock()
	r.held = fresh
	return nil
}
