package apply

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/readfile"
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

// maxLogTail bounds what is read of the error log, in bytes.
const maxLogTail = 64 << 10

// logSize returns the size of the error log.
func logSize(dirs nginx.Dirs) int64 {
	info, err := os.Stat(nginx.ErrorLog(dirs.Log))
	if dirs.Log == "" || err != nil {
		return 0
	}
	return info.Size()
}

// masterMessage returns the last "[emerg]" message that the master has written into the
// error log since it had that size; "" if there is none. It is shown, or is a reason to ask nginx
// -t, and nothing is decided by it. Text from clients is in the lines of workers, whose
// process numbers are others.
func masterMessage(dirs nginx.Dirs, master int, since int64) string {
	size := logSize(dirs)
	if size == since {
		return ""
	}
	f, err := readfile.Open(nginx.ErrorLog(dirs.Log))
	if dirs.Log == "" || err != nil {
		return ""
	}
	defer f.Close()
	if size < since {
		since = 0 // it was rotated
	}
	b, _ := io.ReadAll(io.NewSectionReader(f, max(since, size-maxLogTail), maxLogTail))
	last, prefix := "", fmt.Sprintf("[emerg] %d#%d: ", master, master)
	for line := range strings.Lines(string(b)) {
		// ngx_log_error_core: date, [level], process#thread.
		line = line[min(len(line), len("2006/01/02 15:04:05 ")):]
		if strings.HasPrefix(line, prefix) {
			last = cmp.Or(nginx.LastEmerg(line), last)
		}
	}
	return last
}
