package apply

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/dirwatch"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// removeSockets removes the files of all of nginx's sockets.
func removeSockets(t *testing.T, r *rig) {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(r.o.RunDir, "*.sock"))
	if err != nil || len(all) == 0 {
		t.Fatalf("sockets %v, %v", all, err)
	}
	for _, s := range all {
		if err := os.Remove(s); err != nil {
			t.Fatal(err)
		}
	}
}

// Sockets of nginx whose files are removed are opened again, and no
// request that does not need them is lost.
func TestFaultSocketsRemoved(t *testing.T) {
	r := newRig(t)
	r.run()
	own := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "own") }))
	t.Cleanup(own.Close)
	first := r.tree(
		site("a.test", backend(t, "one")), withTLS(site("b.test", backend(t, "two")), writePair(t, "b.test"), route.Redirect),
		nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(addrOf(own))}},
	)
	pid := r.serve(first).PID
	r.expect(r.https("b.test", "/"), 200, "two")

	var failed, done atomic.Int64
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-over:
				return
			default:
			}
			if a := r.get(r.http("a.test", "/")); a.status != 200 {
				t.Logf("%d %q", a.status, a.body)
				failed.Add(1)
			}
			done.Add(1)
		}
	}()
	removeSockets(t, r)
	client := statusClient(nginx.Socket(r.o.RunDir))
	eventually(t, "the generation's answer", func() bool { return client.generation(t.Context()) == first.Generation })
	r.await("a restored state", func(s nginx.Status) bool { return s.Settled && s.Restored > 0 })
	close(over)
	<-ended
	if failed.Load() > 0 || done.Load() == 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), done.Load())
	}
	eventually(t, "the site behind a socket", func() bool { return r.get(r.https("b.test", "/")).body == "two" })
	eventually(t, "the passed site", func() bool { return r.get(r.https("p.test", "/")).body == "own" })

	// And while no agent runs.
	r.crash()
	removeSockets(t, r)
	r.run()
	next := r.tree(site("a.test", backend(t, "three")))
	if s := r.serve(next); s.PID != pid {
		t.Errorf("nginx is process %d, was %d", s.PID, pid)
	}
	r.expect(r.http("a.test", "/"), 200, "three")
	if left, _ := filepath.Glob(filepath.Join(r.o.RunDir, "_*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// At its sockets nginx trusts the address of a client that a peer sends, so no other user
// of the host may connect.
func TestSocketsAreForNginxOnly(t *testing.T) {
	testenv.NeedRoot(t)
	r := newRig(t)
	r.settings.User = "www-data"
	open(t, filepath.Dir(r.o.StateDir))
	r.run()
	r.serve(r.tree(
		withTLS(site("b.test", backend(t, "two")), writePair(t, "b.test"), route.Redirect),
		nestedSite{Host: "p.test", Family: "own", Plain: route.Redirect, Passthrough: &nestedPassthrough{Pool: pool(lines(t, "own"))}},
	))
	r.expect(r.https("b.test", "/"), 200, "two")
	all, err := filepath.Glob(filepath.Join(r.o.RunDir, "*.sock"))
	if err != nil || len(all) != 3 {
		t.Fatalf("sockets %v, %v", all, err)
	}
	for _, s := range all {
		for who, id := range map[string]uint32{"nobody": 65534, "nginx": group(t, "www-data")} {
			cmd := exec.Command("/usr/bin/perl", "-MIO::Socket::UNIX", "-e", "exit(!IO::Socket::UNIX->new(Peer => shift))", s)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
			if err := cmd.Run(); (err == nil) != (who == "nginx") {
				t.Errorf("%s connects to %s: %v", who, s, err)
			}
		}
	}
}

func group(t *testing.T, name string) uint32 {
	t.Helper()
	g, err := user.LookupGroup(name)
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(id)
}

// open gives everybody access to a directory.
func open(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// Logs that were moved are opened again when that is asked for.
func TestLogsAreOpenedAgain(t *testing.T) {
	r := newRig(t)
	r.o.Reopen = make(chan struct{})
	r.run()
	pid := r.serve(r.tree(site("a.test", backend(t, "one")))).PID
	file := filepath.Join(r.o.LogDir, "error.log")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	notify, err := dirwatch.New()
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	if _, err := notify.Only(r.o.LogDir); err != nil {
		t.Fatal(err)
	}
	r.o.Reopen <- struct{}{}
	late, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if _, err := os.Stat(file); err == nil {
			break
		}
		if !notify.Wait(late, time.Second, time.Millisecond) {
			t.Fatal("there is no new log")
		}
	}
	if now := r.find(); now != pid {
		t.Errorf("nginx is process %d, want %d as before", now, pid)
	}
}
