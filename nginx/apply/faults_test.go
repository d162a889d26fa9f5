package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// The catalogue of faults: every TestFault… of the project causes one, and
// checks what must stay true.

// eventually polls until is returns true.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); !is(); {
		select {
		case <-limit:
			t.Fatalf("%s: never came", what)
		case <-tick.C:
		}
	}
}

// silent is a Runtime whose nginx starts, always as the same process, and never answers.
type silent struct{ accounts }

func (silent) Start(context.Context) (int, error)          { return 7, nil }
func (silent) Watch(int) (ended <-chan struct{}, _ func()) { return nil, func() {} }

func TestFaultStartNeverAnswers(t *testing.T) {
	dir := t.TempDir()
	write(t, nginx.ErrorLog(dir), "2006/01/02 15:04:05 [emerg] 7#7: of an earlier start\n")
	o := Options{Runtime: silent{}, Dirs: nginx.Dirs{State: dir, Run: dir, Log: dir}, Limits: Limits{Confirm: 10 * time.Millisecond, Answer: time.Minute}}
	err := newApplier(o, nil).start(t.Context(), "0123456789abcdef")
	if p := ProblemOf(err); p.Code != "nginx-start-failed" || !strings.Contains(p.Text, "did not answer within 10ms") || strings.Contains(p.Hint, "the one before") {
		t.Errorf("%+v", p)
	}
}

// nginx -t accepts what the running master then refuses: the key of a zone of
// shared memory cannot change.
func TestFaultMasterRefusesReload(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run()
	r.put("http.d/x.conf", "limit_req_zone $binary_remote_addr zone=mine:64k rate=1r/s;\n")
	first := r.tree(site("a.test", backend(t, "one")))
	pid := r.serve(first).PID

	r.put("http.d/x.conf", "limit_req_zone $host zone=mine:64k rate=1r/s;\n")
	r.wanted.Put(r.tree(site("a.test", backend(t, "two"))))
	s := r.await("refusal", func(s nginx.Status) bool { return hasProblem(s, "reload-refused") })
	if s.Generation != first.Generation || s.PID != pid || !strings.Contains(s.LastError, `limit_req "mine"`) {
		t.Errorf("status %+v", s)
	}
	st := &store{dir: r.o.StateDir}
	if st.current() != first.Generation {
		t.Errorf("current is %s, want %s", st.current(), first.Generation)
	}
	r.expect(r.http("a.test", "/"), 200, "one")

	// What the file says is as before, and others are not held up.
	r.await("retry", func(s nginx.Status) bool { return s.Settled && hasProblem(s, "snippet-not-in-force") })
	r.expect(r.http("a.test", "/"), 200, "two")
}

func TestFaultMasterKilled(t *testing.T) {
	r := newRig(t)
	r.run()
	s := r.serve(r.tree(site("a.test", backend(t, "one"))))
	old := r.workers(s.PID)
	if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.await("its death", func(n nginx.Status) bool { return !n.Running && hasProblem(n, "nginx-died") })
	n := r.await("another one", func(n nginx.Status) bool { return n.Running && n.Generation == s.Generation && len(n.Problems) == 0 })
	if n.PID == s.PID {
		t.Error("the same process number")
	}
	r.expect(r.http("a.test", "/"), 200, "one")
	for _, pid := range old {
		if title := proc.Title(pid); strings.HasPrefix(title, "nginx: worker process") && !strings.HasSuffix(title, "shutting down") {
			t.Errorf("orphan %d still accepts", pid)
		}
	}
}

// A master that hangs does not answer a reload. The sites before stay, on the
// disk and for clients, it is tried again, and the wanted tree is served when the
// master runs again.
func TestFaultReloadHangs(t *testing.T) {
	r := newRig(t)
	r.o.Confirm = time.Second
	r.run()
	first := r.tree(site("a.test", backend(t, "one")))
	pid := r.serve(first).PID
	stop(t, pid)

	second := r.tree(site("a.test", backend(t, "two")))
	r.wanted.Put(second)
	s := r.await("failure", func(s nginx.Status) bool { return hasProblem(s, "reload-refused") })
	if s.Settled || s.Generation != first.Generation || s.PID != pid {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("a.test", "/"), 200, "one")
	r.await("another try", func(n nginx.Status) bool { return hasProblem(n, "reload-refused") })
	r.expect(r.http("a.test", "/"), 200, "one")

	r.wanted.Put(first)
	s = r.await("the first tree", func(s nginx.Status) bool { return s.Settled })
	if gen := (&store{dir: r.o.StateDir}).current(); gen != first.Generation || s.Generation != gen {
		t.Errorf("current is %s, nginx serves %s, want %s", gen, s.Generation, first.Generation)
	}
	wake(t, pid)
	s = r.serve(second)
	if s.PID != pid || len(s.Problems) != 0 {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("a.test", "/"), 200, "two")
}

// A master that runs again does the reload that was signalled while it hung, and then
// the next. The workers of the first answer no client once the second is live.
func TestFaultReloadsPileUp(t *testing.T) {
	r := newRig(t)
	r.o.Confirm = 700 * time.Millisecond
	r.run()
	backends := []string{"zero", "one", "two"}
	trees := make([]nginx.Tree, len(backends))
	for i, b := range backends {
		trees[i] = r.tree(site("a.test", backend(t, b)))
	}
	pid := r.serve(trees[0]).PID
	for round := range 4 {
		now, next := trees[round%3], trees[(round+1)%3]
		stop(t, pid)
		r.wanted.Put(next)
		r.await("failure", func(s nginx.Status) bool { return hasProblem(s, "reload-refused") })
		r.wanted.Put(now)
		r.await("the first tree", func(s nginx.Status) bool { return s.Settled })
		r.wanted.Put(next)
		// The next reload comes while the master is at each of the steps of the first.
		wait := time.NewTimer(time.Duration(round) * 10 * time.Millisecond)
		<-wait.C
		wake(t, pid)
		r.await("generation "+next.Generation, func(s nginx.Status) bool {
			return s.Wanted == next.Generation && s.Settled
		})
		for range 4 {
			r.expect(r.http("a.test", "/"), 200, backends[(round+1)%3])
		}
	}
}

// workers returns all workers of a master: the first may answer before the next one
// has its title.
func (r *rig) workers(master int) (active []int) {
	r.t.Helper()
	eventually(r.t, "workers", func() bool {
		active = r.workersOf(master).Active
		return len(active) == r.settings.WorkerProcesses
	})
	return active
}

// stop halts a process as a debugger does, until wake or the end of the test.
func stop(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Kill(pid, unix.SIGCONT) })
}

func wake(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// Where nginx loads a generation that then does not answer, the one before is loaded
// again.
func TestFaultNewGenerationNeverAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.Confirm = 2 * time.Second
	r.run()
	first := r.tree(site("a.test", backend(t, "one")))
	s := r.serve(first)

	// Its answer at the private socket is spoilt after the swap, as if cut off, and
	// before the master reads it.
	second := r.tree(site("a.test", backend(t, "two")))
	st := &store{dir: r.o.StateDir}
	stop(t, s.PID)
	r.wanted.Put(second)
	eventually(t, "swap", func() bool { return st.current() == second.Generation })
	write(t, filepath.Join(st.generation(second.Generation), nginx.GenerationFile), "return 503;\n")
	wake(t, s.PID)
	r.await("failure", func(s nginx.Status) bool { return hasProblem(s, "reload-refused") })
	if gen := st.current(); gen != first.Generation {
		t.Errorf("current is %s, want %s", gen, first.Generation)
	}
	eventually(t, "the sites of before", func() bool { return r.get(r.http("a.test", "/")).body == "one" })
	r.await("the next try", func(s nginx.Status) bool { return s.Settled && s.Generation == second.Generation })
	r.expect(r.http("a.test", "/"), 200, "two")
}

// A certificate may be removed while nginx serves with it. The next reload is refused,
// everything stays, and then all but that site goes live.
func TestFaultCertificateRemovedBeforeReload(t *testing.T) {
	r := newRig(t)
	p := writePair(t, "b.test")
	r.run()
	a, b := site("a.test", backend(t, "one")), withTLS(site("b.test", backend(t, "two")), p, route.Serve)
	r.serve(r.tree(a, b))
	if err := os.Remove(p.CertFile); err != nil {
		t.Fatal(err)
	}
	r.wanted.Put(r.tree(site("a.test", backend(t, "three")), b))
	r.expect(r.http("a.test", "/"), 200, "one")
	r.expect(r.https("b.test", "/"), 200, "two")
	s := r.await("the rest", func(s nginx.Status) bool { return s.Settled })
	if len(s.Quarantined) != 1 || s.Quarantined[0].Host != "b.test" || !strings.Contains(s.Quarantined[0].Reason, p.CertFile) {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("a.test", "/"), 200, "three")
}

// Clients that never end keep old workers, each with its memory: only MaxDraining of them
// go on, and those that are ended are counted.
func TestFaultOldWorkersPileUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.settings.WorkerProcesses, r.o.MaxDraining = 1, 2
	r.run()
	here, gate := make(chan struct{}), make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		here <- struct{}{}
		<-gate
		_, _ = io.WriteString(w, "late")
	}))
	t.Cleanup(up.Close)
	const reloads = 5
	var last <-chan answer
	for i := range reloads {
		s := r.serve(r.tree(site("a.test", addrOf(up)), site(fmt.Sprintf("b%d.test", i), backend(t, "two"))))
		if s.WorkersDraining > r.o.MaxDraining {
			t.Errorf("%d workers drain after %d reloads, want %d at most", s.WorkersDraining, i, r.o.MaxDraining)
		}
		last = r.getLater(r.http("a.test", "/"))
		<-here
	}
	s := r.last
	if s.WorkersDraining != r.o.MaxDraining || s.WorkersEnded != reloads-1-r.o.MaxDraining {
		t.Errorf("%d workers drain and %d were ended, want %d and %d", s.WorkersDraining, s.WorkersEnded, r.o.MaxDraining, reloads-1-r.o.MaxDraining)
	}
	close(gate)
	if a := <-last; a.status != 200 || a.body != "late" {
		t.Errorf("the newest request got %d %q", a.status, a.body)
	}
	r.await("the others to end", func(s nginx.Status) bool { return s.WorkersDraining == 0 })
}

// A worker that is killed is replaced by its master, and nginx serves the same.
func TestFaultWorkerKilled(t *testing.T) {
	r := newRig(t)
	r.run()
	s := r.serve(r.tree(site("a.test", backend(t, "one"))))
	old := r.workers(s.PID)
	for _, pid := range old {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "new workers", func() bool {
		now := r.workersOf(s.PID).Active
		return len(now) == r.settings.WorkerProcesses && !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(old, pid) })
	})
	r.expect(r.http("a.test", "/"), 200, "one")
	if n := r.serve(r.tree(site("a.test", backend(t, "two")))); n.PID != s.PID || n.Reloads != 2 || len(n.Problems) != 0 {
		t.Errorf("status %+v", n)
	}
	r.expect(r.http("a.test", "/"), 200, "two")
}

func TestFaultTwoAgents(t *testing.T) {
	r := newRig(t)
	r.run()
	r.serve(r.tree(site("a.test", backend(t, "one"))))
	err := Run(t.Context(), r.o.forRun(t), newTrees().C(), func(nginx.Status) {})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("got %v, want ErrLocked with the process that holds it", err)
	}
	r.expect(r.http("a.test", "/"), 200, "one")
}

// The wall clock may be set to any time: files that are changed are restored all the same.
func TestFaultClockJump(t *testing.T) {
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC) // without a monotonic reading
	tree := nginx.Render(nginx.Settings{Nginx: config.Nginx{HTTP2: true}}, nginx.Build{Version: nginx.MinVersion}, route.Shape{}, nil)
	for _, jump := range []time.Duration{-100 * 24 * time.Hour, -time.Second, time.Second, 100 * 24 * time.Hour} {
		dir := t.TempDir()
		a := newApplier(Options{Dirs: nginx.Dirs{State: dir, Run: dir}, Limits: Limits{RestorePeriod: 10 * time.Minute, Recheck: time.Hour}, Log: slog.New(slog.DiscardHandler)}, func(nginx.Status) {})
		s := a.store
		if err := errors.Join(s.prepare("", ""), s.stage(tree), s.commit(tree.Generation), s.swap(tree.Generation)); err != nil {
			t.Fatal(err)
		}
		a.setLive(tree)
		change := func(at time.Time) (restored bool) {
			t.Helper()
			before := a.report.status.Restored
			if err := os.Remove(s.link()); err != nil && !missing(err) {
				t.Fatal(err)
			}
			a.checkFiles(at)
			return a.report.status.Restored > before
		}
		if !change(start) || change(start.Add(time.Second)) {
			t.Fatal("files are not restored once")
		}
		after := start.Add(jump)
		if change(after) != (jump < 0 || jump > time.Hour) {
			t.Errorf("after a jump of %s the files are restored, or not, unlike before", jump)
		}
		if !change(after.Add(10 * time.Minute)) {
			t.Errorf("after a jump of %s the files are not restored any more", jump)
		}
	}
}

// picky is a Runtime whose nginx refuses what has a certain word in it, and does not start.
type picky struct{ accounts }

func (picky) Command(_ context.Context, args ...string) (string, int, error) {
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(args[2]), nginx.SitesDir, "*.conf"))
	for _, f := range files {
		if b, _ := os.ReadFile(f); strings.Contains(string(b), "nonsense") {
			return fmt.Sprintf("nginx: [emerg] unknown directive \"nonsense\" in %s:1\n", f), 1, nil
		}
	}
	return "", 0, nil
}

func (picky) Start(context.Context) (int, error) { return 0, errors.New("no memory") }

// An nginx that does not start with what it accepts, while a family is a suspect, has both said.
func TestFaultNoStartBesideARefusedSite(t *testing.T) {
	dir := t.TempDir()
	var last nginx.Status
	o := Options{Runtime: picky{}, Dirs: nginx.Dirs{State: dir, Run: filepath.Join(dir, "run")}, Pacer: atOnce{}}.withDefaults()
	a := newApplier(o, func(s nginx.Status) { last = s })
	a.setWanted(nginx.Wanted{Tree: nginx.Tree{}.With(
		nginx.SiteFile{Host: "a.test", Name: "a.test.conf", Text: "fine"},
		nginx.SiteFile{Host: "bad.test", Name: "bad.test.conf", Text: "nonsense"},
	)})
	for range 2 {
		a.pass(t.Context())
		if len(last.Quarantined) != 1 || last.Quarantined[0].Host != "bad.test" || !strings.Contains(last.LastError, "no memory") {
			t.Errorf("status %+v", last)
		}
	}
}
