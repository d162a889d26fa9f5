package apply

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// Changes of the files of a generation, and what the guard finds.
func TestGuardFindsAndRestores(t *testing.T) {
	tree := nginx.Tree{Main: "main"}.With(
		nginx.SiteFile{Host: "a.test", Name: "a.test.conf", Text: "server_name a.test;"},
		nginx.SiteFile{Host: "b.test", Name: "b.test.conf", Text: "server_name b.test;"},
		nginx.SiteFile{Host: "tcp:2222", Name: "tcp~2222.conf", Stream: "stream"},
	)
	for _, row := range []struct {
		name string
		do   func(s *store, in func(string) string) error
		want string // the first difference, below the state directory
	}{
		{"a site edited", func(_ *store, in func(string) string) error {
			return os.WriteFile(in("sites/a.test.conf"), []byte("x"), 0o600)
		}, "GEN/sites/a.test.conf was changed"},
		{"a site emptied", func(_ *store, in func(string) string) error { return os.Truncate(in("sites/b.test.conf"), 0) }, "GEN/sites/b.test.conf was changed"},
		{"a site removed", func(_ *store, in func(string) string) error { return os.Remove(in("sites/b.test.conf")) }, "GEN/sites/b.test.conf was removed"},
		{"a site added", func(_ *store, in func(string) string) error {
			return os.WriteFile(in("sites/z.conf"), nil, 0o600)
		}, "GEN/sites/z.conf was added"},
		{"a site added that is a directory", func(_ *store, in func(string) string) error { return os.MkdirAll(in("sites/z.conf/y"), 0o755) }, "GEN/sites/z.conf was added"},
		{"a site that became a directory", func(_ *store, in func(string) string) error {
			return errors.Join(os.Remove(in("sites/a.test.conf")), os.MkdirAll(in("sites/a.test.conf/x"), 0o755))
		}, "GEN/sites/a.test.conf was changed"},
		{"a site that leads elsewhere", func(_ *store, in func(string) string) error {
			return errors.Join(os.Remove(in("sites/a.test.conf")), os.Symlink("/etc/hostname", in("sites/a.test.conf")))
		}, "GEN/sites/a.test.conf was changed"},
		{"a stream removed", func(_ *store, in func(string) string) error { return os.Remove(in("streams/tcp~2222.conf")) }, "GEN/streams/tcp~2222.conf was removed"},
		{"the main file emptied", func(_ *store, in func(string) string) error { return os.Truncate(in(nginx.MainFile), 0) }, "GEN/nginx.conf was changed"},
		{"the generation's name changed", func(_ *store, in func(string) string) error {
			return os.WriteFile(in(nginx.GenerationFile), []byte("return 200 x;"), 0o600)
		}, "GEN/generation.conf was changed"},
		{"the link removed", func(s *store, _ func(string) string) error { return os.Remove(s.link()) }, "current was removed"},
		{"the link to another directory", func(s *store, _ func(string) string) error {
			return errors.Join(os.Remove(s.link()), os.Symlink("/etc", s.link()))
		}, "current was changed"},
		{"the link that became a file", func(s *store, _ func(string) string) error { return replaced(s.link(), "") }, "current was removed"},
		{"the link that became a directory", func(s *store, _ func(string) string) error {
			return errors.Join(os.Remove(s.link()), os.MkdirAll(filepath.Join(s.link(), "x"), 0o755))
		}, "current was removed"},
		{"the sites removed", func(_ *store, in func(string) string) error { return os.RemoveAll(in(nginx.SitesDir)) }, "GEN/sites/a.test.conf was removed"},
		{"the sites that became a file", func(_ *store, in func(string) string) error {
			return errors.Join(os.RemoveAll(in(nginx.SitesDir)), os.WriteFile(in(nginx.SitesDir), nil, 0o600))
		}, "GEN/sites/a.test.conf was changed"},
		{"the generation removed", func(_ *store, in func(string) string) error { return os.RemoveAll(in("")) }, "GEN/nginx.conf was removed"},
		{"the generations moved away", func(s *store, _ func(string) string) error {
			return os.Rename(filepath.Join(s.dir, generationsDir), filepath.Join(s.dir, "x"))
		}, "GEN/nginx.conf was removed"},
		{"everything removed", func(s *store, _ func(string) string) error { return os.RemoveAll(s.dir) }, "current was removed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := &store{dir: filepath.Join(t.TempDir(), "state")}
			if err := errors.Join(s.prepare("", ""), s.stage(tree), s.commit(tree.Generation), s.swap(tree.Generation)); err != nil {
				t.Fatal(err)
			}
			if different := s.compare(tree); len(different) > 0 {
				t.Fatalf("before: %v", different)
			}
			if err := row.do(s, func(p string) string { return filepath.Join(s.generation(tree.Generation), p) }); err != nil {
				t.Fatal(err)
			}
			different := s.compare(tree)
			if want := filepath.Join(s.dir, strings.Replace(row.want, "GEN", generationsDir+"/"+tree.Generation, 1)); len(different) == 0 || different[0].String() != want {
				t.Errorf("found %v, want %s first", different, want)
			}
			if err := s.restore(tree, nginx.Dirs{}); err != nil {
				t.Error(err)
			}
			if different := s.compare(tree); len(different) > 0 {
				t.Errorf("after: %v", different)
			}
			if back, err := s.read(s.current()); err != nil || back.Generation != tree.Generation {
				t.Errorf("read back %v, %v", back.Generation, err)
			}
		})
	}
}

// Files of the current generation that another program changes are restored, without a
// reload where nginx has not read them.
func TestFaultFilesChanged(t *testing.T) {
	r := newRig(t)
	r.o.RestorePeriod = time.Nanosecond
	r.run()
	tree := r.tree(site("a.test", backend(t, "one")), site("b.test", backend(t, "two")))
	reloads := r.serve(tree).Reloads
	st := &store{dir: r.o.StateDir}
	for i, row := range []struct {
		name string
		do   func() error
		load bool // nginx needs directories that only loading makes
	}{
		{"a site emptied", func() error { return os.Truncate(st.generation(tree.Generation)+"/sites/b.test.conf", 0) }, false},
		{"the link removed", func() error { return os.Remove(st.link()) }, false},
		{"the generation removed", func() error { return os.RemoveAll(st.generation(tree.Generation)) }, false},
		{"the state directory moved away", func() error { return os.Rename(st.dir, st.dir+".old") }, true},
	} {
		if err := row.do(); err != nil {
			t.Fatal(err)
		}
		s := r.await(row.name, func(s nginx.Status) bool { return s.Restored == i+1 })
		if back, err := st.read(st.current()); err != nil || back.Generation != tree.Generation {
			t.Errorf("%s: read back %v, %v", row.name, back.Generation, err)
		}
		if row.load {
			reloads++
			s = r.await(row.name, func(s nginx.Status) bool { return s.Reloads == reloads })
		}
		if s.Reloads != reloads || len(s.Problems) > 0 {
			t.Errorf("%s: %d reloads, want %d; problems %v", row.name, s.Reloads, reloads, s.Problems)
		}
		r.expect(r.http("a.test", "/"), 200, "one")
		r.expect(r.http("b.test", "/"), 200, "two")
	}
	if _, err := lockDir(r.o.StateDir); err == nil {
		t.Error("the lock that was removed has not been taken again")
	}
	// The next change builds on what was restored.
	r.serve(r.tree(site("a.test", backend(t, "three"))))
	r.expect(r.http("a.test", "/"), 200, "three")
}

// An nginx that has loaded a changed file loads the restored one.
func TestFaultChangedFileLoaded(t *testing.T) {
	for _, agent := range []string{"runs", "comes later"} {
		t.Run("while the agent "+agent, func(t *testing.T) {
			r := newRig(t)
			r.run()
			tree := r.tree(site("a.test", backend(t, "one")))
			s := r.serve(tree)
			r.workers(s.PID)
			if agent != "runs" {
				r.crash()
			}
			file := (&store{dir: r.o.StateDir}).generation(tree.Generation) + "/sites/a.test.conf"
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			write(t, file, strings.Replace(string(text), "location / {", "location / { return 418;", 1))
			if err := unix.Kill(s.PID, unix.SIGHUP); err != nil {
				t.Fatal(err)
			}
			if agent != "runs" {
				eventually(t, "the changed site", func() bool { return r.get(r.http("a.test", "/")).status == 418 })
				r.run()
				r.wanted.Put(tree)
			}
			s = r.await("the right one", func(n nginx.Status) bool {
				return n.Restored == 1 && n.Settled && n.Reloads == s.Reloads+1 || agent != "runs" && n.Reloads == 1
			})
			if s.Restored != 1 || len(s.Problems) > 0 {
				t.Errorf("status %+v", s)
			}
			eventually(t, "the site", func() bool { return r.get(r.http("a.test", "/")).body == "one" })
		})
	}
}

// Where a program goes on changing files, they are restored once, and that is a problem.
// An nginx that ends meanwhile is still started with the restored files.
func TestFaultFilesChangedWithoutEnd(t *testing.T) {
	r := newRig(t)
	r.o.RestorePeriod = 5 * time.Second
	r.run()
	tree := r.tree(site("a.test", backend(t, "one")))
	first := r.serve(tree)
	file := (&store{dir: r.o.StateDir}).generation(tree.Generation) + "/sites/a.test.conf"

	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ctx.Err() == nil; n++ {
			_ = os.WriteFile(file, fmt.Appendf(nil, "server { return 418; } # %d\n", n), 0o644)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	defer end()
	s := r.await("the problem", func(s nginx.Status) bool { return hasProblem(s, "files-changed") })
	if s.Restored != 1 || s.Reloads != first.Reloads || s.PID != first.PID || !s.Settled {
		t.Errorf("status %+v", s)
	}
	for _, p := range s.Problems {
		if p.Code == "files-changed" && (!strings.Contains(p.Text, file+" was changed") || p.Hint == "") {
			t.Errorf("problem %+v", p)
		}
	}
	r.expect(r.http("a.test", "/"), 200, "one")

	end()
	<-ended
	if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s = r.await("another nginx and stable files", func(s nginx.Status) bool {
		return s.Running && s.PID != first.PID && s.Generation == tree.Generation && !hasProblem(s, "files-changed")
	})
	r.expect(r.http("a.test", "/"), 200, "one")
	if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "418") {
		t.Errorf("the file is %q, %v", text, err)
	}
	if len(s.Problems) > 0 {
		t.Errorf("problems %v", s.Problems)
	}
}

// The kernel drops events when its queue is full. The changes are noticed all the same.
func TestFaultInotifyQueueOverflow(t *testing.T) {
	r := newRig(t)
	r.o.Recheck = time.Hour
	r.wanted, r.statuses, r.ended = newTrees(), make(chan nginx.Status, 1000), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	busy, free := make(chan struct{}), make(chan struct{})
	var block bool
	go func() {
		r.ended <- Run(ctx, r.o.forRun(t), r.wanted.C(), func(s nginx.Status) {
			r.statuses <- s
			if s.Settled && !block {
				block = true
				close(busy)
				<-free
			}
		})
	}()
	tree := r.tree(site("a.test", backend(t, "one")))
	r.wanted.Put(tree)
	<-busy
	dir := (&store{dir: r.o.StateDir}).generation(tree.Generation) + "/sites/"
	overflow(t, dir)
	if err := os.Remove(dir + "a.test.conf"); err != nil {
		t.Fatal(err)
	}
	close(free)
	r.await("the file", func(s nginx.Status) bool { return s.Restored == 1 })
	if _, err := os.Stat(dir + "a.test.conf"); err != nil {
		t.Error(err)
	}
}

// overflow makes more events in a directory than the kernel keeps for a watcher.
func overflow(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	var most int
	if _, err := fmt.Sscan(string(b), &most); err != nil || most > 1<<20 {
		testenv.Need(t, fmt.Errorf("a short queue of inotify, and it holds %s events", b))
	}
	var files [2]*os.File
	for i := range files {
		if files[i], err = os.Create(fmt.Sprintf("%s/noise%d", dir, i)); err != nil {
			t.Fatal(err)
		}
		defer files[i].Close()
	}
	for i := range most + 5000 { // equal events in a row are one
		if _, err := files[i%2].WriteAt([]byte{'x'}, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// At boot, before it is known what runs, nginx starts with the newest generation that
// can be read.
func TestBootWithDamagedFiles(t *testing.T) {
	for _, row := range []struct {
		name   string
		damage func(s *store, newer nginx.Tree) error
		body   string
	}{
		{"no link", func(s *store, _ nginx.Tree) error { return os.Remove(s.link()) }, "two"},
		{"no main file", func(s *store, newer nginx.Tree) error {
			return os.Remove(filepath.Join(s.generation(newer.Generation), nginx.MainFile))
		}, "one"},
		{"an empty main file", func(s *store, newer nginx.Tree) error {
			return replaced(filepath.Join(s.generation(newer.Generation), nginx.MainFile), "")
		}, "one"},
		{"leftovers of a crash", func(s *store, newer nginx.Tree) error {
			if err := os.Symlink("nowhere", s.link()+".tmp"); err != nil {
				return err
			}
			return s.stage(newer)
		}, "two"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t)
			r.run()
			older, newer := r.tree(site("a.test", backend(t, "one"))), r.tree(site("a.test", backend(t, "two")))
			r.serve(older)
			r.serve(newer)
			r.crash()
			r.stopNginx()
			st := &store{dir: r.o.StateDir}
			if err := row.damage(st, newer); err != nil {
				t.Fatal(err)
			}
			r.run()
			r.await("start", func(s nginx.Status) bool { return s.Running })
			r.expect(r.http("a.test", "/"), http.StatusOK, row.body)
			for _, left := range []string{st.stagingPath(), st.link() + ".tmp"} {
				if _, err := os.Lstat(left); !missing(err) {
					t.Errorf("%s is left: %v", left, err)
				}
			}
			r.serve(newer)
			r.expect(r.http("a.test", "/"), http.StatusOK, "two")
		})
	}
}

// replaced gives a path this text in a new file.
func replaced(path, text string) error {
	return errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(text), 0o600))
}
