package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// engine is a pretended Docker Engine on a unix socket: a list, an answer to
// inspect, and a stream of events.
type engine struct {
	socket string
	server *http.Server

	mu       sync.Mutex
	list     map[string]string // id → state
	inspects map[string]int
	lists    int
	broken   map[string]bool // ids whose inspection is not JSON
	stuck    map[string]bool // ids whose inspection has no end
	streams  map[chan string]bool
	filters  string          // what a list was asked for last, but for everything
	fits     map[string]bool // ids that fit the filters
	hold     chan struct{}   // lists wait until it is closed; nil is not at all
	labels   map[string]int  // bytes of a label of the container with that id
	places   string          // what an inspection says of networks
	networks string          // what a list of networks says
	asked    int             // how often it was asked for
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	return &engine{
		socket:   filepath.Join(t.TempDir(), "docker.sock"),
		list:     map[string]string{},
		inspects: map[string]int{},
		broken:   map[string]bool{},
		stuck:    map[string]bool{},
		streams:  map[chan string]bool{},
	}
}

func (e *engine) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.41") })
	mux.HandleFunc("GET /v1.41/containers/json", e.serveList)
	mux.HandleFunc("GET /v1.41/containers/{id}/json", e.serveInspect)
	mux.HandleFunc("GET /v1.41/events", e.serveEvents)
	mux.HandleFunc("GET /v1.41/networks", func(w http.ResponseWriter, _ *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.asked++
		io.WriteString(w, e.networks)
	})
	e.server = &http.Server{Handler: mux}
	go e.server.Serve(l)
	t.Cleanup(func() { e.server.Close() })
}

// stop ends the engine the hard way: open connections break, the socket goes.
func (e *engine) stop() { e.server.Close() }

func (e *engine) serveList(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	hold := e.hold
	e.mu.Unlock()
	if hold != nil {
		<-hold
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lists++
	asked := r.URL.Query().Get("filters")
	if asked != "" {
		e.filters = asked
	}
	between := "["
	for id, state := range e.list {
		if asked != "" && !e.fits[id] {
			continue
		}
		fmt.Fprintf(w, `%s{"Id":%q,"Names":["/%s"],"State":%q,"Created":1,"Labels":{"long":"`, between, id, id, state)
		writeLong(w, e.labels[id])
		fmt.Fprint(w, `"}}`)
		between = ","
	}
	fmt.Fprint(w, strings.TrimPrefix(between, ",")+"]")
}

func (e *engine) serveInspect(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := r.PathValue("id")
	if e.stuck[id] {
		e.inspects[id]++
		e.mu.Unlock()
		<-r.Context().Done()
		e.mu.Lock()
		return
	}
	state, ok := e.list[id]
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"message":"no such container"}`)
		return
	}
	e.inspects[id]++
	if e.broken[id] {
		fmt.Fprint(w, `{"Id":7}`)
		return
	}
	fmt.Fprintf(w, `{"Id":%q,"Name":"/%s","State":{"Status":%q,"StartedAt":"2026-11-22T00:00:00Z"},"Config":{"StopSignal":"QUIT","Labels":{"nagaya.host":"a.test","nagaya.batch":"false","long":"`, id, id, state)
	writeLong(w, e.labels[id])
	fmt.Fprintf(w, `"},"Env":["VIRTUAL_HOST=b.test"]},"NetworkSettings":{"Networks":{%s}}}`, e.places)
}

func (e *engine) serveEvents(w http.ResponseWriter, r *http.Request) {
	c := make(chan string, 16)
	e.mu.Lock()
	e.streams[c] = true
	e.mu.Unlock()
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case line := <-c:
			head, tail, _ := strings.Cut(line, "LONG")
			fmt.Fprint(w, head)
			if tail != "" {
				writeLong(w, 70<<20)
			}
			fmt.Fprintln(w, tail)
			w.(http.Flusher).Flush()
		}
	}
}

// writeLong writes a long word, which takes no memory.
func writeLong(w io.Writer, n int) {
	for ; n > 0; n -= len(piece) {
		_, _ = w.Write(piece[:min(n, len(piece))])
	}
}

var piece = bytes.Repeat([]byte("x"), 1<<16)

// set changes a container without an event; an empty state removes it.
func (e *engine) set(id, state string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if state == "" {
		delete(e.list, id)
		return
	}
	e.list[id] = state
}

// emit sends an event. LONG in the signal stands for 70 MB.
func (e *engine) emit(action, id, signal string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.streams {
		c <- fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":%q,"Attributes":{"signal":%q}},"timeNano":%d}`, action, id, signal, time.Now().UnixNano())
	}
}

func (e *engine) inspected(id string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inspects[id]
}

// watching runs Watch and returns a function that waits for a value that fits.
func watching(t *testing.T, o Options) (until func(what string, fits func(tasks.Containers) bool) tasks.Containers) {
	t.Helper()
	return testenv.Watching(t, func(ctx context.Context, put func(tasks.Containers)) error { return Watch(ctx, o, put) })
}

func unreachable(c tasks.Containers) bool {
	for _, p := range c.Problems {
		if p.Code == "docker-unreachable" && p.Hint != "" {
			return true
		}
	}
	return false
}

func TestEngineComesGoesAndReturns(t *testing.T) {
	e := newEngine(t)
	var log bytes.Buffer
	until := watching(t, Options{Host: "unix://" + e.socket, Log: slog.New(slog.NewTextHandler(&log, nil))})

	c := until("a missing engine", unreachable)
	if c.Complete {
		t.Error("the list is complete before the engine answered once")
	}
	e.set("a", "running")
	e.start(t)
	c = until("the engine", func(c tasks.Containers) bool { return c.Complete })
	if len(c.List) != 1 || c.List[0].Name != "a" || unreachable(c) {
		t.Errorf("after the engine came: %+v", c)
	}

	e.stop()
	c = until("the loss", unreachable)
	if !c.Complete || len(c.List) != 1 {
		t.Errorf("losing the engine changed the list: %+v", c)
	}
	e.set("b", "running")
	e.start(t)
	c = until("the return", func(c tasks.Containers) bool { return !unreachable(c) && len(c.List) == 2 })
	if !c.Complete {
		t.Error("the list is not complete after the engine returned")
	}
}

func TestKillIsTheSignToDrain(t *testing.T) {
	e := newEngine(t)
	e.set("a", "running")
	e.start(t)
	until := watching(t, Options{Host: "unix://" + e.socket})
	until("the list", func(c tasks.Containers) bool { return c.Complete })

	e.emit("kill", "a", "15") // its stop signal is SIGQUIT
	c := until("a list after kill -TERM", func(tasks.Containers) bool { return true })
	if c.List[0].Stopping {
		t.Error("a signal that is not the stop signal made it stopping")
	}
	e.emit("kill", "a", "3")
	until("stopping", func(c tasks.Containers) bool { return len(c.List) == 1 && c.List[0].Stopping })
	if got := e.inspected("a"); got != 1 {
		t.Errorf("inspected %d times, want once: an inspection may wait until the container has ended", got)
	}
}

// A container that is about to stop is known before the engine has listed all.
func TestAKillDoesNotWaitForTheList(t *testing.T) {
	e := newEngine(t)
	e.set("a", "created")
	e.set("b", "running")
	e.start(t)
	until := watching(t, Options{Host: "unix://" + e.socket})
	until("the list", func(c tasks.Containers) bool { return c.Complete })
	hold := make(chan struct{})
	e.mu.Lock()
	e.hold = hold
	e.mu.Unlock()
	e.emit("kill", "b", "3")
	until("the kill, while the list is made", func(c tasks.Containers) bool { return len(c.List) == 2 && c.List[1].Stopping })
	close(hold)
}

// A container that lives on after its stop signal gets its routes back.
func TestAStopSignalIsNotBelievedForEver(t *testing.T) {
	start := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	killed := start.Add(time.Hour)
	s := newNotes()
	s.add(events.Message{Type: events.ContainerEventType, Action: events.ActionKill, Actor: events.Actor{ID: "a", Attributes: map[string]string{"signal": "15"}}, TimeNano: killed.UnixNano()})
	for _, row := range []struct {
		state    tasks.State
		after    time.Duration
		stopping bool
	}{
		{tasks.Running, time.Second, true},
		{tasks.Running, 14 * time.Minute, true},
		{tasks.Running, 16 * time.Minute, false},
		{tasks.Exited, 16 * time.Minute, true},
	} {
		c := tasks.Container{ID: "a", State: row.state, StartedAt: start}
		if got := s.isStopping("a", 15, countsFrom(c, killed.Add(row.after))); got != row.stopping {
			t.Errorf("%s, %v after the signal: stopping %v, want %v", row.state, row.after, got, row.stopping)
		}
	}
}

func TestInspectsOnlyWhatChanged(t *testing.T) {
	e := newEngine(t)
	e.set("a", "running")
	e.set("b", "running")
	e.set("new", "created")
	e.start(t)
	until := watching(t, Options{Host: "unix://" + e.socket})
	until("the list", func(c tasks.Containers) bool { return len(c.List) == 3 })

	e.set("b", "exited")
	e.emit("die", "b", "")
	until("b exited", func(c tasks.Containers) bool { return c.List[1].State == tasks.Exited })
	e.set("a", "")
	e.emit("destroy", "a", "")
	until("a gone", func(c tasks.Containers) bool { return len(c.List) == 2 })

	for id, want := range map[string]int{"a": 1, "b": 2, "new": 0} {
		if got := e.inspected(id); got != want {
			t.Errorf("container %s was inspected %d times, want %d", id, got, want)
		}
	}
}

func TestOneUnreadableContainerHarmsNoOther(t *testing.T) {
	e := newEngine(t)
	e.set("a", "running")
	e.set("bad", "running")
	e.broken["bad"] = true
	e.start(t)
	until := watching(t, Options{Host: "unix://" + e.socket})
	c := until("the list", func(c tasks.Containers) bool { return c.Complete })
	if len(c.List) != 2 || c.List[0].State != tasks.Running || c.List[1].State != tasks.Dead {
		t.Errorf("list = %+v", c.List)
	}
	if len(c.Problems) != 1 || c.Problems[0].Code != "container-unreadable" {
		t.Errorf("problems = %+v", c.Problems)
	}
}

// The engine answers no question about a container that it is starting or removing, which may take as long as a volume
// or a driver of logs has no answer. The others go on being followed.
func TestOneInspectionThatHangsHarmsNoOther(t *testing.T) {
	e := newEngine(t)
	e.set("a", "running")
	e.set("fresh", "running")
	e.set("restarted", "exited")
	e.stuck["fresh"], e.stuck["restarted"] = true, true
	e.start(t)
	until := watching(t, Options{Host: "unix://" + e.socket, Timeout: 600 * time.Millisecond})
	c := until("the list", func(c tasks.Containers) bool { return c.Complete && c.List[0].State == tasks.Running })
	if len(c.List) != 3 || c.List[1].State != tasks.Dead || c.List[2].State != tasks.Exited || len(c.Problems) != 1 || c.Problems[0].Code != "container-unreadable" {
		t.Errorf("list %+v, problems %+v", c.List, c.Problems)
	}
	e.mu.Lock()
	e.stuck["a"] = true
	e.mu.Unlock()
	e.emit("health_status", "a", "")
	e.set("b", "running")
	e.emit("start", "b", "")
	c = until("another container", func(c tasks.Containers) bool { return len(c.List) == 4 && c.List[1].State == tasks.Running })
	if c.List[0].State != tasks.Running || len(c.Problems) != 1 {
		t.Errorf("what was known of a container is lost: %+v, problems %+v", c.List[0], c.Problems)
	}
	e.set("a", "removing")
	e.emit("die", "a", "")
	until("that it ends", func(c tasks.Containers) bool { return c.List[0].State == tasks.Removing })
	e.mu.Lock()
	clear(e.stuck)
	e.list["restarted"] = "running"
	e.mu.Unlock()
	e.emit("start", "restarted", "")
	e.emit("start", "fresh", "")
	until("the others", func(c tasks.Containers) bool {
		return len(c.Problems) == 0 && c.List[2].State == tasks.Running && c.List[3].State == tasks.Running
	})
}

func TestResyncSeesWhatNoEventTold(t *testing.T) {
	e := newEngine(t)
	e.start(t)
	until := watching(t, Options{Host: "unix://" + e.socket, Resync: 20 * time.Millisecond})
	until("the empty list", func(c tasks.Containers) bool { return c.Complete && len(c.List) == 0 })
	e.set("a", "running")
	until("a", func(c tasks.Containers) bool { return len(c.List) == 1 })
}

func TestWatchRefusesAHostThatIsNone(t *testing.T) {
	err := Watch(t.Context(), Options{Host: "nonsense"}, func(tasks.Containers) {})
	if err == nil || !strings.Contains(err.Error(), `"nonsense"`) {
		t.Errorf("Watch = %v, want an error that names the host", err)
	}
}

func TestRemediesNameTheSetting(t *testing.T) {
	for _, err := range []error{errors.New("connection refused"), os.ErrNotExist} {
		if r := remedy(err); !strings.Contains(r, "docker.host") {
			t.Errorf("%v: %s", err, r)
		}
	}
}

func TestRetryOnAUnixSocketIsQuick(t *testing.T) {
	if got := (Options{}).withDefaults().retryMost(); got > time.Second/2 {
		t.Errorf("retryMost = %s, want at most 0.5s", got)
	}
}

// What does not fit the filters is known, and asks for no route.
func TestFilters(t *testing.T) {
	e := newEngine(t)
	e.set("in", "running")
	e.set("out", "running")
	e.fits = map[string]bool{"in": true}
	e.start(t)
	until := watching(t, Options{Host: "unix://" + e.socket, Filters: []string{"label=zone=public", "network=front"}, Foreign: virtualHost})
	got := until("both are listed", func(c tasks.Containers) bool { return len(c.List) == 2 })
	for _, c := range got.List {
		want := tasks.Container{Labels: map[string]string{"nagaya.batch": "false"}, Env: map[string]string{}}
		if c.ID == "in" {
			want = tasks.Container{Labels: map[string]string{"nagaya.batch": "false", "nagaya.host": "a.test"}, Env: map[string]string{"VIRTUAL_HOST": "b.test"}}
		}
		if !maps.Equal(c.Labels, want.Labels) || !maps.Equal(c.Env, want.Env) || c.State != tasks.Running {
			t.Errorf("container %s: labels %v, environment %v, %s", c.ID, c.Labels, c.Env, c.State)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if want := `{"label":{"zone=public":true},"network":{"front":true}}`; e.filters != want {
		t.Errorf("the engine was asked for %s, want %s", e.filters, want)
	}
}
