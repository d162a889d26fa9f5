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
// client sees it. So the old workers are told to retire as soon as a new one accepts.
// The row "start" of `make bench-routes` pays for it: 100 ms less for each start.

const (
	// masterWaits is how long the master waits before it retires the old workers itself.
	masterWaits = 100 * time.Millisecond
	// pileupWithin is how long a master that was told to reload more than once
	// has to retire what it made of the times before; it does so after masterWaits.
	pileupWithin = 300 * time.Millisecond
)

// oldAccept reports whether one of the old workers still takes new connections, and
// retires them as soon as a new one does. The reload is not over before as many new ones
// accept: one that is not a worker yet when the next reload begins would be taken for
// one of that. The master does not notice a worker that ends before it has told it to: it
// holds back the signals of its children until then.
func (a *applier) oldAccept(l *loading) bool {
	if len(l.old) == 0 {
		return false
	}
	isOld := func(pid int) bool { return slices.Contains(l.old, pid) }
	w := a.o.Runtime.Workers(a.master.pid)
	accepting := slices.ContainsFunc(w.Active, isOld) || slices.ContainsFunc(w.Starting, isOld)
	fresh := 0
	for _, pid := range w.Active {
		if !isOld(pid) {
			fresh++
		}
	}
	if fresh == 0 {
		return accepting
	}
	if l.fresh.IsZero() {
		l.fresh = time.Now()
	}
	for _, pid := range w.Active {
		if !isOld(pid) {
			continue
		}
		if err := a.o.Runtime.Signal(context.Background(), pid, nginx.Retire); err != nil {
			a.log.Debug("old worker left to the master", "pid", pid, "err", err)
		}
	}
	return accepting || fresh < len(l.old) && time.Since(l.fresh) < masterWaits
}

// loadedOnce reports whether no more workers accept than did while all was well. A
// master that hung and wakes with an older reload to do makes workers of that one too,
// which are not known as old ones and answer until the master retires them.
func (a *applier) loadedOnce(l *loading) bool {
	return time.Since(l.answered) > pileupWithin || len(a.o.Runtime.Workers(a.master.pid).Active) <= a.master.workerCount
}
