package docker

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// A label of a stranger's container is as long as the stranger likes, and the engine repeats it
// in its list, in the inspection and in every event. It takes no memory of the agent, and
// the other containers are followed as before.
func TestALongLabelTakesNoMemory(t *testing.T) {
	const most = 8 << 20
	long := strings.Repeat("ab", 32)
	e := newEngine(t)
	e.labels = map[string]int{long: 20 << 20}
	e.set(long, "running")
	e.set("short", "running")
	e.start(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	until := watching(t, Options{Host: "unix://" + e.socket, Resync: time.Hour})
	got := until("the list", func(c tasks.Containers) bool { return c.Complete && len(c.List) == 2 })
	for _, c := range got.List {
		if c.ID == "short" && c.State != tasks.Running || c.ID == long && (c.State != tasks.Dead || len(c.Labels) > 0) {
			t.Errorf("%.12s is %s with labels %v", c.ID, c.State, c.Labels)
		}
	}
	if len(got.Problems) != 1 || got.Problems[0].Code != "container-unreadable" || !strings.Contains(got.Problems[0].Text, "too long") {
		t.Errorf("problems %+v", got.Problems)
	}
	e.emit("start", long, "LONG")
	e.set("next", "running")
	e.emit("start", "next", "")
	until("the next container", func(c tasks.Containers) bool { return len(c.List) == 3 })
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > most {
		t.Errorf("%d MiB were allocated for answers with a label of 20 MB, want %d at most", took>>20, most>>20)
	}
}
