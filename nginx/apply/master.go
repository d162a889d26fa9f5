package apply

import (
	"context"
	"fmt"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// minLife is how long nginx must have lived for its death to be no failure of
// the start before.
const minLife = 10 * time.Second

// master is the master process that is followed.
type master struct {
	runtime Runtime
	pid     int // 0 while none runs
	// container and net are those of the nginx.Instance that was found last.
	container, net string
	startedAt      time.Time
	ended          <-chan struct{} // nil when nothing is watched
	unwatch        func()

	// pileup is true after a reload whose end was not seen; workerCount is how many
	// workers there were before it.
	pileup      bool
	workerCount int
	usual       time.Duration // how long nginx took to load a configuration last

	diedYoung bool            // nginx's last life was shorter than minLife
	deaths    backoff.Backoff // the pause after one more such life
}

// find looks for nginx and takes note of where it is.
func (m *master) find(ctx context.Context) nginx.Instance {
	i := m.runtime.Find(ctx)
	m.container, m.net = i.Container, i.Net
	return i
}

// follow watches a master process.
func (m *master) follow(pid int, startedAt time.Time) {
	m.forget()
	m.pid, m.startedAt, m.pileup = pid, startedAt, false
	m.ended, m.unwatch = m.runtime.Watch(pid)
}

func (m *master) forget() {
	if m.unwatch != nil {
		m.unwatch()
	}
	m.pid, m.ended, m.unwatch = 0, nil, nil
}

// restartIn returns how long to wait before nginx is started again. The first death is
// followed by a start at once, a row of short lives is not.
func (m *master) restartIn(now time.Time) time.Duration {
	switch {
	case now.Sub(m.startedAt) >= minLife:
		m.diedYoung = false
		m.deaths.Reset()
	case m.diedYoung:
		return m.deaths.Next()
	default:
		m.diedYoung = true
	}
	return 0
}

func diedFault(format string, args ...any) error {
	return &nginx.Fault{Problem: problem.Problem{
		Code: "nginx-died", Text: fmt.Sprintf(format, args...),
		Hint: "it is started again; if this repeats, read nginx's error log and the kernel's (journalctl -k), e.g. for a lack of memory",
	}}
}
