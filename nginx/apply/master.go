package apply

import (
	"context"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// minLife is how long nginx must have run so that its end is no failure of the start.
const minLife = 10 * time.Second

// master is nginx's master process, which is watched.
type master struct {
	runtime Runtime
	pid     int // 0 while none runs
	// container and net are those of the nginx.Instance that was found last.
	container, net string
	account        *nginx.Account // nil where it cannot be seen
	startedAt      time.Time
	ended          <-chan struct{} // nil when nothing is watched
	unwatch        func()

	// unconfirmed is true after a reload that was not confirmed; workerCount is how many
	// workers there were before it.
	unconfirmed bool
	workerCount int
	usual       time.Duration // how long nginx took to load a configuration last

	shortLived bool            // the last master lived shorter than minLife
	restarts   backoff.Backoff // the pause after one more such master
}

// find finds nginx and notes where it is.
func (m *master) find(ctx context.Context) nginx.Instance {
	i := m.runtime.Find(ctx)
	m.container, m.net, m.account = i.Container, i.Net, i.MasterAccount
	return i
}

// sharesUser reports whether the master runs on this host as this user, who is not root.
func (m *master) sharesUser(user int) bool {
	return m.pid != 0 && m.container == "" && m.account != nil && m.account.UID == user && user != 0
}

// follow watches a master process.
func (m *master) follow(pid int, startedAt time.Time) {
	m.forget()
	m.pid, m.startedAt, m.unconfirmed = pid, startedAt, false
	m.ended, m.unwatch = m.runtime.Watch(pid)
}

// forget ends the watching: no master runs, or none is known.
func (m *master) forget() {
	if m.unwatch != nil {
		m.unwatch()
	}
	m.pid, m.ended, m.unwatch = 0, nil, nil
}

// restartIn returns how long to wait before nginx is started again: not at all, but for
// masters that end shortly after their start one after the other.
func (m *master) restartIn(now time.Time) time.Duration {
	switch {
	case now.Sub(m.startedAt) >= minLife:
		m.shortLived = false
		m.restarts.Reset()
	case m.shortLived:
		return m.restarts.Next()
	default:
		m.shortLived = true
	}
	return 0
}
