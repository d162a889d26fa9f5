package apply

import (
	"context"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// Left to itself, nginx's master lets the old workers accept connections for another
// 100 ms beside the new ones (ngx_process_cycle.c, all versions up to 1.30), and the
// kernel wakes the oldest waiting worker first: the new generation is there, and no
// client sees it. So the old workers are retired as soon as a new one accepts.
// The row "start" of `make bench-routes` pays for it: 100 ms less for each start.

const (
	// masterWaits is how long the master waits before it retires the old workers itself.
	masterWaits = 100 * time.Millisecond
	// extraWorkersEnd is how long a master that was signalled to reload more than once
	// may take to retire the workers of the reloads before; it does so after masterWaits.
	extraWorkersEnd = 300 * time.Millisecond
)

// oldWorkersAccept reports whether one of the old workers still accepts connections, and
// retires them as soon as a new one accepts. The reload is not over before as many new ones
// accept: one that is still starting when the next reload begins would be taken for
// one of that. A worker that ends before the master has signalled it is no crash for the
// master: it blocks the signals of its children until then.
func (a *applier) oldWorkersAccept(l *loading) bool {
	if len(l.old) == 0 {
		return false
	}
	isOld := func(pid int) bool { return slices.Contains(l.old, pid) }
	w := a.o.Runtime.Workers(a.master.pid)
	accept := slices.ContainsFunc(w.Active, isOld) || slices.ContainsFunc(w.Starting, isOld)
	old := slices.DeleteFunc(slices.Clone(w.Active), func(pid int) bool { return !isOld(pid) })
	if len(old) == len(w.Active) {
		return accept
	}
	if l.newSince.IsZero() {
		l.newSince = time.Now()
	}
	for _, pid := range old {
		if err := a.o.Runtime.Signal(context.Background(), pid, nginx.Retire); err != nil {
			a.log.Debug("old worker left to the master", "pid", pid, "err", err)
		}
	}
	return accept || len(w.Active)-len(old) < len(l.old) && time.Since(l.newSince) < masterWaits
}

// noExtraWorkers reports whether no more workers accept than before the first reload that
// was not confirmed. A master that hung and then does an older reload too makes workers of
// that one, which are not among the old ones and answer until the master retires them.
func (a *applier) noExtraWorkers(l *loading) bool {
	return time.Since(l.answered) > extraWorkersEnd || len(a.o.Runtime.Workers(a.master.pid).Active) <= a.master.workerCount
}
