package docker

import (
	"fmt"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// A storm of events costs a bounded number of lists a second, and what is true after
// it is seen.
func TestFaultEventStorm(t *testing.T) {
	e := newEngine(t)
	e.set("a", "running")
	e.start(t)
	until := watching(t, Options{Host: "unix://" + e.socket, Resync: time.Hour})
	until("the list", func(c tasks.Containers) bool { return c.Complete })

	const events = 10000
	began := time.Now()
	for i := range events {
		e.emit("die", fmt.Sprintf("short-lived-%d", i), "")
	}
	e.set("a", "")
	e.set("b", "running")
	e.emit("start", "b", "")
	until("what is true after the storm", func(c tasks.Containers) bool { return len(c.List) == 1 && c.List[0].Name == "b" })
	took := time.Since(began)
	e.mu.Lock()
	defer e.mu.Unlock()
	if most := 2 + listBurst + int(took/listEvery); e.lists > most {
		t.Errorf("%d lists for %d events in %s, want %d at most", e.lists, events, took, most)
	}
	t.Logf("%d lists for %d events in %s", e.lists, events, took.Round(time.Millisecond))
}

// A deployment's handful of events waits for nothing, a stream of them is spread, and
// a clock that is set back makes nobody wait for it.
func TestFaultClockJumpBetweenLists(t *testing.T) {
	var p pace
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for i := range listBurst {
		if d := p.wait(now); d != 0 {
			t.Errorf("list %d waits %s", i, d)
		}
	}
	for i := range 3 {
		d := p.wait(now)
		if d != listEvery {
			t.Errorf("list %d beyond the burst waits %s, want %s", i, d, listEvery)
		}
		now = now.Add(d)
	}
	if d := p.wait(now.Add(-time.Hour)); d > listEvery {
		t.Errorf("with the clock set back an hour a list waits %s", d)
	}
	if d := p.wait(now.Add(time.Hour)); d != 0 {
		t.Errorf("after a quiet hour a list waits %s", d)
	}
}
