package install

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/internal/testenv"
)

// hidden is nginx's container, whose processes this one cannot see, with an engine
// that tells of them: process, effective user and group, title. It counts how often it
// was asked.
func hidden(t *testing.T, o Options, rows ...[]string) (_ *container, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		if !strings.HasSuffix(r.URL.Path, "/containers/c/top") {
			return
		}
		asked.Add(1)
		if got := r.URL.Query().Get("ps_args"); got != "-eo pid,euid,egid,args" {
			t.Errorf("ps is asked for %q", got)
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(map[string]any{"Titles": []string{"PID", "EUID", "EGID", "COMMAND"}, "Processes": rows}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(engine.Close)
	o.Docker = "tcp://" + engine.Listener.Addr().String()
	c, err := newContainer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	c.now = place{id: "c", first: 1}
	return c, asked
}

// What the engine calls a process has another number here, or is somebody else.
func TestHiddenWorkersAreNotSignalled(t *testing.T) {
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	c, _ := hidden(t, Options{})
	for what, do := range map[string]func(int) error{"retiring": c.retire, "ending": c.end} {
		if err := do(stranger.Process.Pid); err == nil {
			t.Errorf("%s a worker that cannot be seen is no error", what)
		}
	}
	if err := stranger.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = stranger.Wait() // killed
	if by := stranger.ProcessState.Sys().(syscall.WaitStatus).Signal(); by != syscall.SIGKILL {
		t.Errorf("a stranger got %s", by)
	}
}

// The engine runs ps for each answer, and nginx is looked at every few milliseconds
// while it reloads.
func TestHiddenWorkersAreAskedForNowAndThen(t *testing.T) {
	c, asked := hidden(t, Options{StateDir: "/state"}, []string{"1", "0", "0", "nginx: master process nginx -c /state/current/nginx.conf -p /state"}, []string{"7", "0", "0", "nginx: worker process"})
	look := func() {
		t.Helper()
		if active, _ := c.workers(1); len(active) != 1 || len(c.unborn(1)) != 0 {
			t.Errorf("workers %v", active)
		}
	}
	c.seenAt = time.Now().Add(time.Hour) // it was looked at, and the clock stands still
	c.seen = []shown{{pid: 7, title: "nginx: worker process"}}
	look()
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times for what was seen a moment ago", n)
	}
	c.seenAt = time.Now().Add(-seenFor)
	look()
	if n := asked.Load(); n == 0 {
		t.Error("what was seen long ago is believed")
	}
	before := asked.Load()
	c.seenAt = time.Now().Add(time.Hour)
	if err := c.reload(t.Context(), 1); err == nil {
		t.Error("an engine that runs nothing has told nginx to reload")
	}
	look()
	if asked.Load() == before {
		t.Error("what was seen before a reload is believed after it")
	}
}

// The directory of the sockets is open to nginx as long as it may write there itself,
// whoever it is in its container.
func TestEncloseForNginxInAContainer(t *testing.T) {
	testenv.NeedRoot(t)
	here := fmt.Sprint(os.Getpid()) // a number that is somebody else here
	for _, row := range []struct {
		name           string
		owner          int
		master, worker string
		mode           os.FileMode
		group          uint32
	}{
		{name: "root's, with workers of a user", master: "0", worker: "101", mode: 0o710, group: 4321},
		{name: "a user's, whose directory it is", owner: 101, master: "101", worker: "101", mode: 0o710, group: 4321},
		{name: "a user's, whose group may write", master: "101", worker: "101", mode: 0o730, group: 4321},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := Options{StateDir: "/state", RunDir: t.TempDir()}
			if err := os.Chown(o.RunDir, row.owner, -1); err != nil {
				t.Fatal(err)
			}
			w, _ := hidden(t, o,
				[]string{"1", row.master, "4321", "nginx: master process nginx -c /state/current/nginx.conf -p /state"},
				[]string{here, row.worker, "4321", "nginx: worker process"})
			(&runner{o: o, way: w, pid: 1}).enclose()
			info, err := os.Stat(o.RunDir)
			if err != nil {
				t.Fatal(err)
			}
			if gid := info.Sys().(*syscall.Stat_t).Gid; gid != row.group || info.Mode().Perm() != row.mode {
				t.Errorf("group %d and mode %o, want %d and %o", gid, info.Mode().Perm(), row.group, row.mode)
			}
		})
	}
}
