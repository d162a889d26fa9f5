package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

func TestServeSkipAndReplace(t *testing.T) {
	r := newRig(t)
	r.run()
	a, b := backend(t, "one"), backend(t, "two")
	first := r.tree(site("a.test", a))
	s := r.serve(first)
	if !s.Running || s.PID == 0 || s.Generation != first.Generation || s.Reloads != 1 || s.LoadedAt.IsZero() || len(s.Problems) != 0 {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("a.test", "/"), 200, "one")

	if s := r.serve(first); s.Reloads != 1 {
		t.Errorf("%d reloads after the same tree came again", s.Reloads)
	}
	second := r.tree(site("a.test", b))
	if s := r.serve(second); s.Reloads != 2 || s.Generation != second.Generation {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("a.test", "/"), 200, "two")

	third := r.tree(site("a.test", b), site("b.test", a))
	r.serve(third)
	entries, err := os.ReadDir(filepath.Join(r.o.StateDir, generationsDir))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, e := range entries {
		got[e.Name()] = true
	}
	if diff := cmp.Diff(map[string]bool{second.Generation: true, third.Generation: true}, got); diff != "" {
		t.Errorf("generations on the disk:\n%s", diff)
	}
}

func TestQuarantineByName(t *testing.T) {
	r := newRig(t)
	r.run()
	good, bad := site("a.test", backend(t, "one")), site("b.test", backend(t, "two"))
	tree := r.tree(good, bad)
	file, _ := tree.Site("b.test")
	file.Text += "nonsense on;\n"
	s := r.serve(tree.With(file))
	if len(s.Quarantined) != 1 || s.Quarantined[0].Host != "b.test" || s.Quarantined[0].LastGood ||
		!strings.Contains(s.Quarantined[0].Reason, `unknown directive "nonsense" in sites/b.test.conf`) {
		t.Errorf("quarantined: %+v", s.Quarantined)
	}
	if !hasProblem(s, "site-quarantined") {
		t.Errorf("problems: %+v", s.Problems)
	}
	r.expect(r.http("a.test", "/"), 200, "one")
	r.expect(r.http("b.test", "/"), 404, "No site")

	// The same bytes are not tried again; a change elsewhere goes live.
	s = r.serve(r.tree(good, bad, site("c.test", backend(t, "three"))).With(file))
	if len(s.Quarantined) != 1 {
		t.Errorf("quarantined: %+v", s.Quarantined)
	}
	r.expect(r.http("c.test", "/"), 200, "three")

	if s = r.serve(tree); len(s.Quarantined) != 0 || len(s.Problems) != 0 {
		t.Errorf("after the repair: %+v", s)
	}
	r.expect(r.http("b.test", "/"), 200, "two")
}

func TestQuarantineBySearchKeepsLastGood(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.o.RetryQuarantine = 200 * time.Millisecond
	r.run()
	p := writePair(t, "a.test")
	a := withTLS(site("a.test", backend(t, "one")), p, "serve")
	r.serve(r.tree(a, site("b.test", backend(t, "two"))))
	r.expect(r.https("a.test", "/"), 200, "one")

	// nginx names the certificate, not the site, when it cannot read it.
	gone := p
	gone.CertFile += ".missing"
	b := site("b.test", backend(t, "three"))
	fresh := withTLS(site("c.test", backend(t, "four")), gone, "serve")
	s := r.serve(r.tree(withTLS(a, gone, "serve"), b, fresh, site("d.test", backend(t, "five"))))
	want := []nginx.Quarantine{{Host: "a.test", LastGood: true}, {Host: "c.test"}}
	for i := range s.Quarantined {
		if !strings.Contains(s.Quarantined[i].Reason, ".missing") {
			t.Errorf("reason %q", s.Quarantined[i].Reason)
		}
		s.Quarantined[i].Reason = ""
	}
	if diff := cmp.Diff(want, s.Quarantined); diff != "" {
		t.Error(diff)
	}
	r.expect(r.https("a.test", "/"), 200, "one")
	r.expect(r.http("b.test", "/"), 200, "three")
	r.expect(r.http("d.test", "/"), 200, "five")

	// The file comes back: the retry finds it, without any change of the tree.
	text, err := os.ReadFile(p.CertFile)
	if err != nil {
		t.Fatal(err)
	}
	write(t, gone.CertFile, string(text))
	r.await("end of the quarantine", func(s nginx.Status) bool { return len(s.Quarantined) == 0 && s.Settled && len(s.Problems) == 0 })
	r.expect(r.https("c.test", "/"), 200, "four")
}

func TestRefusedWithoutASite(t *testing.T) {
	r := newRig(t)
	r.run()
	first := r.tree(site("a.test", backend(t, "one")))
	r.serve(first)
	dir := filepath.Join(r.settings.LogDir, "later")
	r.settings.AccessLog = filepath.Join(dir, "access.log")
	r.wanted.Put(r.tree(site("a.test", backend(t, "two"))))
	s := r.await("refusal", func(s nginx.Status) bool { return hasProblem(s, "nginx-config-refused") })
	if s.Generation != first.Generation || !strings.Contains(s.LastError, r.settings.AccessLog) || len(s.Quarantined) != 0 || s.Settled {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("a.test", "/"), 200, "one")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.await("repair", func(s nginx.Status) bool { return s.Settled && len(s.Problems) == 0 })
	r.expect(r.http("a.test", "/"), 200, "two")
}

func TestAdopt(t *testing.T) {
	r := newRig(t)
	r.run()
	tree := r.tree(site("a.test", backend(t, "one")))
	first := r.serve(tree)
	r.crash()
	r.expect(r.http("a.test", "/"), 200, "one")

	r.run()
	s := r.await("adoption", func(s nginx.Status) bool { return s.Running })
	if s.PID != first.PID || s.Generation != tree.Generation || s.Reloads != 0 {
		t.Errorf("status %+v, want process %d untouched", s, first.PID)
	}
	if s := r.serve(tree); s.Reloads != 0 {
		t.Error("reloaded although it served the wanted tree already")
	}
	r.serve(r.tree(site("a.test", backend(t, "two"))))
	r.expect(r.http("a.test", "/"), 200, "two")
	r.crash()

	// Without its pid file it is found by its socket.
	if err := os.Remove(nginx.PIDFile(r.o.RunDir)); err != nil {
		t.Fatal(err)
	}
	r.run()
	if s := r.await("adoption", func(s nginx.Status) bool { return s.Running }); s.PID != first.PID {
		t.Errorf("process %d, want %d", s.PID, first.PID)
	}
}

// An agent may be killed while nginx is starting: the next
// agent must wait for that nginx and not start a second one.
func TestAdoptStartingNginx(t *testing.T) {
	r := newRig(t)
	r.run()
	tree := r.tree(site("a.test", backend(t, "one")))
	first := r.serve(tree)
	r.crash()
	unix.Kill(first.PID, unix.SIGTERM)
	awaitExit(t, first.PID)

	p := r.o.runtime(t)
	start := exec.Command(r.o.Binary, "-c", r.o.dirs().MainFile(), "-p", r.o.StateDir, "-e", nginx.ErrorLog(r.o.LogDir))
	start.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	pid, err := p.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := start.Wait(); err != nil {
		t.Fatal("the first nginx did not start: ", err)
	}
	if want := p.Find(context.Background()).Master; pid != want || pid == 0 {
		t.Errorf("process %d was adopted, the one that was on its way is %d", pid, want)
	}
	r.run()
	if s := r.serve(tree); s.PID != pid || s.Reloads != 0 {
		t.Errorf("status %+v, want process %d untouched", s, pid)
	}
	r.expect(r.http("a.test", "/"), 200, "one")
}

// An agent may be killed between any two steps.
func TestAdoptAfterCrashInTheMiddle(t *testing.T) {
	r := newRig(t)
	r.run()
	r.serve(r.tree(site("a.test", backend(t, "one"))))
	r.crash()
	next := r.tree(site("a.test", backend(t, "two")))
	st := &store{dir: r.o.StateDir}
	if err := errors.Join(st.stage(next), st.commit(next.Generation), st.swap(next.Generation), st.stage(r.tree())); err != nil {
		t.Fatal(err)
	}
	r.run()
	if s := r.serve(next); s.Reloads != 1 {
		t.Errorf("%d reloads, want the one that the crash had swallowed", s.Reloads)
	}
	r.expect(r.http("a.test", "/"), 200, "two")
	if _, err := os.Stat(st.stagingPath()); !missing(err) {
		t.Errorf("staging directory: %v", err)
	}
}

func TestResumeBeforeAnythingIsKnown(t *testing.T) {
	r := newRig(t)
	r.run()
	p := writePair(t, "a.test")
	tree := r.tree(withTLS(site("a.test", backend(t, "one")), p, "serve"), site("b.test", backend(t, "two")))
	r.serve(tree)
	r.crash()
	r.stopNginx()
	// A former life left files that mean nothing any more.
	write(t, nginx.PIDFile(r.o.RunDir), fmt.Sprint(os.Getpid()))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: nginx.Socket(r.o.RunDir)})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()

	r.run()
	s := r.await("start", func(s nginx.Status) bool { return s.Running })
	if s.Generation != tree.Generation || s.Wanted != "" {
		t.Errorf("status %+v", s)
	}
	r.expect(r.https("a.test", "/"), 200, "one")
	r.crash()
	r.stopNginx()

	// One site's certificate is gone at the next boot: the others must live.
	if err := os.Remove(p.CertFile); err != nil {
		t.Fatal(err)
	}
	r.run()
	s = r.await("start", func(s nginx.Status) bool { return s.Running })
	if len(s.Quarantined) != 1 || s.Quarantined[0].Host != "a.test" {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("b.test", "/"), 200, "two")
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	for _, logDir := range []string{"log", ""} {
		t.Run("log to "+logDir, func(t *testing.T) {
			r := newRig(t)
			if logDir == "" {
				r.o.LogDir, r.settings.LogDir, r.settings.AccessLog = "", "", "off"
			}
			l, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", r.settings.HTTPPort))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			r.run()
			r.wanted.Put(r.tree(site("a.test", backend(t, "one"))))
			s := r.await("refusal", func(s nginx.Status) bool { return hasProblem(s, "port-in-use") })
			if want := fmt.Sprintf("TCP port %d is held by process %d", r.settings.HTTPPort, os.Getpid()); !strings.Contains(s.LastError, want) {
				t.Errorf("error %q, want %q in it", s.LastError, want)
			}
			if st := (&store{dir: r.o.StateDir}); st.current() != "" {
				t.Error("a generation that never ran is current")
			}
			l.Close()
			r.await("start", func(s nginx.Status) bool { return s.Settled && len(s.Problems) == 0 })
			r.expect(r.http("a.test", "/"), 200, "one")
		})
	}
}

func TestPortInUseAtReload(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.run()
	first := r.tree(site("a.test", backend(t, "one")))
	r.serve(first)
	r.settings.HTTPSPort = freePort(t)
	l, err := net.Listen("tcp", fmt.Sprintf("0.0.0.0:%d", r.settings.HTTPSPort))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r.wanted.Put(r.tree(site("a.test", backend(t, "two"))))
	s := r.await("refusal", func(s nginx.Status) bool { return hasProblem(s, "port-in-use") })
	if s.Generation != first.Generation {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("a.test", "/"), 200, "one")
}

// Idle keep-alive connections are closed by old workers; a client may send a
// GET again, and so none is lost. A POST it may not, and none is lost only where
// nginx has keepalive_min_timeout.
func TestRequestsThroughReloads(t *testing.T) { each(t, testRequestsThroughReloads) }

func testRequestsThroughReloads(t *testing.T, r *rig) {
	r.run()
	a, b := backend(t, "one"), backend(t, "two")
	r.serve(r.tree(site("a.test", a)))

	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var sent, failed atomic.Int64
	var example atomic.Value
	ask := func(method string) {
		c := r.client()
		defer c.CloseIdleConnections()
		for ctx.Err() == nil {
			sent.Add(1)
			if err := fetch(c, r.request(method, r.http("a.test", "/"), "")); err != nil {
				failed.Add(1)
				example.Store(err.Error())
			}
		}
	}
	for range 4 {
		wg.Go(func() { ask(http.MethodGet) })
		if r.o.Build.KeepaliveMinTimeout {
			wg.Go(func() { ask(http.MethodPost) })
		}
	}
	const reloads = 20
	for i := range reloads {
		addr := a
		if i%2 == 0 {
			addr = b
		}
		r.serve(r.tree(site("a.test", addr)))
	}
	stop()
	wg.Wait()
	if r.last.Reloads != reloads+1 {
		t.Errorf("%d reloads, want %d", r.last.Reloads, reloads+1)
	}
	if sent.Load() < reloads || failed.Load() > 0 {
		t.Errorf("%d of %d requests failed, e.g. %v", failed.Load(), sent.Load(), example.Load())
	}
	t.Logf("%d requests over %d reloads", sent.Load(), reloads)
}

// A client whose connection began before the last container of a host went gets the same answer as a
// new one, at once: the worker that drains with it does not try the address that is gone.
func TestGoneOnOldConnections(t *testing.T) { each(t, testGoneOnOldConnections) }

func testGoneOnOldConnections(t *testing.T, r *rig) {
	r.run()
	gone, live := deaf(t), site("b.test", backend(t, "one"))
	before := r.tree(site("a.test", gone), live)
	r.serve(before)
	c := r.client()
	defer c.CloseIdleConnections()
	ask := func(host string) (int, string) {
		t.Helper()
		req := r.request(http.MethodGet, r.http("b.test", "/"), "") // one connection, whatever the host
		req.Host = host
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	if status, text := ask("b.test"); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	vacated := r.tree(site("a.test"), live)
	r.serve(vacated)
	if status, text := ask("a.test"); status != 503 || !strings.Contains(text, "no running container") {
		t.Errorf("a connection from before: %d %s", status, text)
	}
	// It comes back at the address that it had, which nginx need not be told of if it has not heard that it went.
	if files, _ := os.ReadDir(nginx.GoneDir(r.o.dirs().State)); len(files) != 1 {
		t.Errorf("%d upstreams are said to be gone", len(files))
	}
	r.serve(r.tree(site("a.test", backend(t, "two")), live))
	r.expect(r.http("a.test", "/"), 200, "two")
	if files, _ := os.ReadDir(nginx.GoneDir(r.o.dirs().State)); len(files) != 0 {
		t.Errorf("%d upstreams are still said to be gone", len(files))
	}
}

// deaf is an address at which no connection comes about, and none is refused.
func deaf(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*unix.SockaddrInet4).Port))
	for range 4 { // nobody accepts: once the queue is full, the kernel drops what comes
		if c, err := net.DialTimeout("tcp", at.String(), 100*time.Millisecond); err == nil {
			t.Cleanup(func() { c.Close() })
		}
	}
	return at
}

func fetch(c *http.Client, req *http.Request) error {
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if text := string(b); res.StatusCode != http.StatusOK || text != "one" && text != "two" {
		return fmt.Errorf("%d %q", res.StatusCode, text)
	}
	return nil
}

func TestStateDirFaults(t *testing.T) {
	testenv.NeedRoot(t)
	for _, row := range []struct {
		name, code    string
		live          bool // the kernel lets it happen under a running agent
		break_, amend func(t *testing.T, dir string)
	}{
		{
			"read-only", "state-dir-unwritable", false,
			func(t *testing.T, dir string) { remount(t, dir, unix.MS_RDONLY) },
			func(t *testing.T, dir string) { remount(t, dir, 0) },
		},
		{
			"full", "disk-full", true,
			func(t *testing.T, dir string) { fill(t, filepath.Join(dir, "ballast")) },
			func(t *testing.T, dir string) {
				if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
					t.Error(err)
				}
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t)
			r.onSmallDisk(t)
			r.run()
			first := r.tree(site("a.test", backend(t, "one")))
			r.serve(first)
			second := r.tree(site("a.test", backend(t, "two")))
			troubled := func() {
				r.wanted.Put(second)
				s := r.await("trouble", func(s nginx.Status) bool { return hasProblem(s, row.code) })
				if !s.Running || s.Generation != first.Generation || s.Settled {
					t.Errorf("status %+v", s)
				}
				r.expect(r.http("a.test", "/"), 200, "one")
			}
			if row.live {
				row.break_(t, r.o.StateDir)
				troubled()
				r.crash()
			} else {
				r.crash()
				row.break_(t, r.o.StateDir)
			}
			// The next agent finds the same disk and the running nginx.
			r.run()
			troubled()
			row.amend(t, r.o.StateDir)
			r.await("recovery", func(s nginx.Status) bool { return s.Settled && len(s.Problems) == 0 })
			r.expect(r.http("a.test", "/"), 200, "two")
		})
	}
}

func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
		t.Fatal(err)
	}
}

// onSmallDisk gives the state directory a file system of its own, of 1 MiB.
func (r *rig) onSmallDisk(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(r.o.StateDir, 0o755); err != nil {
		t.Fatal(err)
	}
	testenv.Need(t, unix.Mount("tmpfs", r.o.StateDir, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() {
		r.crash()
		if err := unix.Unmount(r.o.StateDir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 512)
	for range 10000 {
		if _, err := f.Write(block); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("the file system never got full")
}

// countTests counts the runs of nginx -t of a rig.
func (r *rig) countTests() func() int {
	r.t.Helper()
	count := filepath.Join(r.settings.SnippetDir, "tests")
	counting := filepath.Join(r.settings.SnippetDir, "nginx")
	write(r.t, counting, fmt.Sprintf("#!/bin/sh\n[ \"$1\" = -t ] && echo test >>%s\nexec %s \"$@\"\n", count, r.o.Binary))
	if err := os.Chmod(counting, 0o755); err != nil {
		r.t.Fatal(err)
	}
	r.o.Binary = counting
	return func() int {
		b, err := os.ReadFile(count)
		if err != nil && !missing(err) {
			r.t.Fatal(err)
		}
		return strings.Count(string(b), "test")
	}
}

// nginx -t runs only where the operator's own files have
// changed, and where the master has refused.
func TestWhenNginxTestRuns(t *testing.T) {
	r := newRig(t)
	r.o.Answer = time.Minute // a busy machine that answers late is no reason for a test
	tests := r.countTests()
	pair := writePair(t, "a.test")
	secure := func(addrs ...netip.AddrPort) nginx.Tree {
		return r.tree(withTLS(site("a.test", addrs...), pair, route.Serve), site("b.test", addrs[0]))
	}
	r.run()
	one, two := backend(t, "one"), backend(t, "two")
	r.serve(secure(one))
	if n := tests(); n != 1 {
		t.Fatalf("the first tree took %d tests, want 1", n)
	}
	r.serve(secure(two))
	r.expect(r.http("a.test", "/"), 200, "two")
	r.serve(secure(two, one))
	r.serve(r.tree(withTLS(site("a.test", one), pair, route.Redirect), site("c.test", one)))
	r.expect(r.http("c.test", "/"), 200, "one")
	r.serve(secure(one))
	if n := tests(); n != 1 {
		t.Errorf("%d tests after sites had changed, want 1", n)
	}
	r.put("http.d/x.conf", "# mine\n")
	r.serve(secure(one))
	if n := tests(); n != 2 {
		t.Errorf("%d tests after a snippet had come, want 2", n)
	}
	r.serve(secure(two))
	if n := tests(); n != 2 {
		t.Errorf("%d tests after a site had changed beside a snippet, want 2", n)
	}

	// What the master refuses is tested, so that the site at fault is found.
	if err := os.Remove(pair.KeyFile); err != nil {
		t.Fatal(err)
	}
	before := tests()
	r.wanted.Put(secure(one))
	s := r.await("the site at fault", func(s nginx.Status) bool { return s.Settled && len(s.Quarantined) > 0 })
	if s.Quarantined[0].Host != "a.test" || tests() == before {
		t.Errorf("quarantined %+v after %d more tests", s.Quarantined, tests()-before)
	}
	r.expect(r.http("b.test", "/"), 200, "one")

	// With the site in quarantine, others are loaded without a test.
	before = tests()
	r.serve(r.tree(withTLS(site("a.test", one), pair, route.Serve), site("b.test", two)))
	r.expect(r.http("b.test", "/"), 200, "two")
	if n := tests() - before; n != 0 {
		t.Errorf("%d more tests beside a site in quarantine, want none", n)
	}
}

// A tree with the same text may have other problems.
func TestProblemsOfTheNewestTreeAreShown(t *testing.T) {
	r := newRig(t)
	r.run()
	tree := r.tree(site("a.test", backend(t, "one")))
	r.serve(tree)
	tree.Problems = []problem.Problem{{Code: "auth-file-missing", Subject: "site a.test"}}
	r.wanted.Put(tree)
	s := r.await("the problem", func(s nginx.Status) bool { return hasProblem(s, "auth-file-missing") })
	if !s.Settled || s.Reloads != 1 {
		t.Errorf("status %+v", s)
	}
}

// A master that dies after the swap, before it has answered, is started again with all
// but the site that it would refuse.
func TestMasterDiesBetweenSwapAndAnswer(t *testing.T) {
	r := newRig(t)
	r.run()
	pair := writePair(t, "b.test")
	a := site("a.test", backend(t, "one"))
	first := r.serve(r.tree(a))
	if err := os.Remove(pair.KeyFile); err != nil {
		t.Fatal(err)
	}
	bad := r.tree(a, withTLS(site("b.test", backend(t, "two")), pair, route.Serve))
	st := &store{dir: r.o.StateDir}
	stop(t, first.PID)
	r.wanted.Put(bad)
	eventually(t, "swap", func() bool { return st.current() == bad.Generation })
	if err := unix.Kill(first.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s := r.await("the rest", func(s nginx.Status) bool { return s.Running && s.PID != first.PID && s.Settled })
	if len(s.Quarantined) != 1 || s.Quarantined[0].Host != "b.test" {
		t.Errorf("status %+v", s)
	}
	r.expect(r.http("a.test", "/"), 200, "one")
}
