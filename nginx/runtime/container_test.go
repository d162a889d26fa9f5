package runtime

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
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
	t.Cleanup(func() { c.cli.Close() })
	c.found = found{id: "c", first: 1}
	return c, asked
}

// What the engine calls a process has another number here, or is somebody else.
func TestHiddenWorkersAreNotSignalled(t *testing.T) {
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	c, _ := hidden(t, Options{})
	for what, s := range map[string]nginx.Signal{"retiring": nginx.Retire, "ending": nginx.End} {
		if err := c.Signal(t.Context(), stranger.Process.Pid, s); err == nil {
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
	c, asked := hidden(t, Options{Dirs: nginx.Dirs{State: "/state"}}, []string{"1", "0", "0", "nginx: master process nginx -c /state/current/nginx.conf -p /state"}, []string{"7", "0", "0", "nginx: worker process"})
	look := func() {
		t.Helper()
		if w := c.Workers(1); len(w.Active) != 1 || len(w.Starting) != 0 {
			t.Errorf("workers %+v", w)
		}
	}
	c.listedAt = time.Now().Add(time.Hour) // it was looked at, and the clock stands still
	c.listed = []listedProcess{{pid: 7, title: "nginx: worker process"}}
	look()
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times for what was seen a moment ago", n)
	}
	c.listedAt = time.Now().Add(-listedFor)
	look()
	if n := asked.Load(); n == 0 {
		t.Error("what was seen long ago is believed")
	}
	before := asked.Load()
	c.listedAt = time.Now().Add(time.Hour)
	if err := c.Signal(t.Context(), 1, nginx.Reload); err == nil {
		t.Error("an engine that runs nothing has told nginx to reload")
	}
	look()
	if asked.Load() == before {
		t.Error("what was seen before a reload is believed after it")
	}
}
