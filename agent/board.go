package agent

import (
	"os"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

type status = report.Status

// board holds the one status of the program. Every stage writes its own part;
// nothing upstream reads it.
type board struct {
	mu       sync.Mutex
	status   status
	standing []problem.Problem
	alive    time.Time
	// changed holds one unread "something was written".
	changed *latest.Slot[struct{}]
	// news holds the same, for another reader.
	news *latest.Slot[struct{}]
}

func newBoard(version string, now time.Time) *board {
	b := &board{changed: latest.New[struct{}](), news: latest.New[struct{}]()}
	b.status = status{Version: version, PID: os.Getpid(), StartedAt: now}
	return b
}

// write changes the status.
func (b *board) write(change func(*status)) {
	b.mu.Lock()
	change(&b.status)
	b.standing = b.status.Standing(b.standing, time.Now())
	b.mu.Unlock()
	b.changed.Put(struct{}{})
	b.news.Put(struct{}{})
}

// read returns the status as of now. What it points to is never changed.
func (b *board) read() status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.status
	s.At, s.Problems = time.Now(), b.standing
	return s
}

// beat notes that the flow advances. The watchdog is pinged only while it does.
func (b *board) beat() {
	b.mu.Lock()
	b.alive = time.Now()
	b.mu.Unlock()
}

// alivePatience is how long the flow may be silent before the watchdog is no longer
// pinged, and systemd restarts the agent. Its slowest step, a reload that nginx refuses, takes ten seconds.
const alivePatience = 45 * time.Second

func (b *board) isAlive() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Since(b.alive) < alivePatience
}
