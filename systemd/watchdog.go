package systemd

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Watchdog pings the service manager every half of WatchdogSec= while alive
// returns true, and stops while it does not, so that systemd restarts a
// process that lives but does not work. It returns when ctx ends, also where no
// watchdog is set. alive must not block for long: a ping waits for it.
//
// After a false answer it asks again eight times as often: one bad moment at
// the wrong time is not worth a restart.
func (n *Notifier) Watchdog(ctx context.Context, alive func() bool) {
	if n == nil || n.socket == "" || n.watchdog <= 0 {
		<-ctx.Done()
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		// A ping that was not sent is as good as one that was not due: try soon.
		if alive() && n.send(daemon.SdNotifyWatchdog) == nil {
			timer.Reset(n.watchdog / 2)
		} else {
			timer.Reset(n.watchdog / 16)
		}
	}
}
