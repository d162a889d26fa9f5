package runtime

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// invisibleContainer is nginx's container, whose processes are not in our /proc, with an
// engine that lists them: process, effective user and group, title. It counts the requests.
func invisibleContainer(t *testing.T, o Options, rows ...[]string) (_ *container, asked *atomic.Int32) {
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

// The engine's process numbers may be those of other processes here.
func TestInvisibleWorkersAreNotSignalled(t *testing.T) {
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	c, _ := invisibleContainer(t, Options{})
	for what, s := range map[string]nginx.Signal{"retiring": nginx.Retire, "ending": nginx.End} {
		if err := c.Signal(t.Context(), other.Process.Pid, s); err == nil {
			t.Errorf("%s a worker that cannot be seen is no error", what)
		}
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // killed
	if by := other.ProcessState.Sys().(syscall.WaitStatus).Signal(); by != syscall.SIGKILL {
		t.Errorf("another process got %s", by)
	}
}

// The engine runs ps for each request, and processes are listed every few milliseconds
// during a reload.
func TestInvisibleProcessesAreCached(t *testing.T) {
	c, asked := invisibleContainer(t, Options{Dirs: nginx.Dirs{State: "/state"}}, []string{"1", "0", "0", "nginx: master process nginx -c /state/current/nginx.conf -p /state"}, []string{"7", "0", "0", "nginx: worker process"})
	list := func() {
		t.Helper()
		if w := c.Workers(1); len(w.Active) != 1 || len(w.Starting) != 0 {
			t.Errorf("workers %+v", w)
		}
	}
	c.listedAt = time.Now().Add(time.Hour) // just listed
	c.listed = []listedProcess{{pid: 7, title: "nginx: worker process"}}
	list()
	if n := asked.Load(); n != 0 {
		t.Errorf("%d requests for a list that is new", n)
	}
	c.listedAt = time.Now().Add(-listedFor)
	list()
	if n := asked.Load(); n == 0 {
		t.Error("an old list is used")
	}
	before := asked.Load()
	c.listedAt = time.Now().Add(time.Hour)
	if err := c.Signal(t.Context(), 1, nginx.Reload); err == nil {
		t.Error("an engine that runs nothing has reloaded nginx")
	}
	list()
	if asked.Load() == before {
		t.Error("the list before a reload is used after it")
	}
}

// Whoever may start a container may give it the label of nginx's. Only one that has this
// host's directory counts; the others neither stand in its way nor get commands.
func TestAStrangersLabelIsNotNginx(t *testing.T) {
	state := t.TempDir()
	bind := func(source string) string {
		return fmt.Sprintf(`[{"Type":"bind","Source":%q,"Destination":%q,"RW":true}]`, source, state)
	}
	ours, volume, none := bind(state), bind(t.TempDir()), "[]"
	for name, row := range map[string]struct {
		label, other map[string]string // mounts by container
		want, fault  string
	}{
		"beside nginx":                  {map[string]string{"stranger": none, "nginx": ours, "third": volume}, nil, "nginx", ""},
		"beside one with another label": {map[string]string{"stranger": volume}, map[string]string{"nginx": ours}, "nginx", ""},
		"alone":                         {map[string]string{"stranger": none}, nil, "", "does not see"},
		"alone, with a volume":          {map[string]string{"stranger": volume}, nil, "", "is not this host's directory"},
		"two that are nginx":            {map[string]string{"a": ours, "b": ours}, nil, "", "only one can be"},
		"two strangers":                 {map[string]string{"a": volume, "b": none}, nil, "", "is not this host's directory"},
	} {
		engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			w.Header().Set("Content-Type", "application/json")
			all := row.label
			if strings.Contains(r.URL.RawQuery, "second") {
				all = row.other
			}
			switch parts := strings.Split(r.URL.Path, "/"); {
			case strings.HasSuffix(r.URL.Path, "/containers/json"):
				var items []string
				for _, id := range slices.Sorted(maps.Keys(all)) {
					items = append(items, fmt.Sprintf(`{"Id":%q,"Names":["/%s"],"State":"running","Mounts":%s}`, id, id, all[id]))
				}
				fmt.Fprintf(w, "[%s]", strings.Join(items, ","))
			case r.Method == http.MethodGet && len(parts) > 3:
				id := parts[3]
				fmt.Fprintf(w, `{"Id":%q,"Name":"/%s","State":{"Running":true,"Pid":1},"Config":{},"Mounts":%s}`, id, id, cmp.Or(row.label[id], row.other[id]))
			case r.Method != http.MethodHead:
				t.Errorf("%s: %s %s", name, r.Method, r.URL)
			}
		}))
		c, err := newContainer(Options{Docker: "tcp://" + engine.Listener.Addr().String(), Labels: []string{"first", "second"}, Dirs: nginx.Dirs{State: state}})
		if err != nil {
			t.Fatal(err)
		}
		err = c.locate(t.Context())
		if (err == nil) != (row.fault == "") || err != nil && !strings.Contains(err.Error(), row.fault) || row.want != "" && c.found.id != row.want {
			t.Errorf("%s: found %q, error %v; want %q, %q", name, c.found.id, err, row.want, row.fault)
		}
		c.cli.Close()
		engine.Close()
	}
}
