// Package systemd talks to the service manager that started the process:
// readiness, status and the watchdog over its notification socket, and log
// lines with fields over the journal's native socket. Without systemd every
// call does nothing, so no caller needs to ask where it runs.
package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// maxStatus bounds the status line, in bytes: it is read in one line of
// `systemctl status`.
const maxStatus = 512

// Notifier reports the state of the service to the service manager. A nil Notifier
// and one without a socket do nothing and return no error.
type Notifier struct {
	socket   string
	watchdog time.Duration
}

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID (sd_notify(3),
// sd_watchdog_enabled(3)) and removes them from the environment, so that no
// child of this process uses them. The error is a WATCHDOG_USEC that
// makes no sense; the Notifier returned with it works, without a watchdog.
func NewNotifier() (*Notifier, error) {
	n := &Notifier{socket: os.Getenv("NOTIFY_SOCKET")}
	if err := os.Unsetenv("NOTIFY_SOCKET"); err != nil {
		return n, fmt.Errorf("removing NOTIFY_SOCKET from the environment: %w", err)
	}
	every, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		return n, fmt.Errorf("reading the watchdog period that systemd gave: %w", err)
	}
	n.watchdog = every
	return n, nil
}

// Ready reports that the service works now, or again after Reloading.
func (n *Notifier) Ready() error { return n.send(daemon.SdNotifyReady) }

// Stopping reports that the service is stopping.
func (n *Notifier) Stopping() error { return n.send(daemon.SdNotifyStopping) }

// Status sets the line that `systemctl status` shows. Control characters become
// spaces, because a line feed would start another assignment of the protocol;
// what is longer than 512 bytes is cut.
func (n *Notifier) Status(text string) error {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	return n.send("STATUS=" + cut(text, maxStatus))
}

// Reloading reports that the configuration is being read again; Ready ends it.
// RELOADING=1 and MONOTONIC_USEC= travel in one datagram: a unit of
// Type=notify-reload ignores the first without the second (sd_notify(3)).
func (n *Notifier) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("reading the monotonic clock: %w", err)
	}
	return n.send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/int64(time.Microsecond)))
}

// send opens the socket again each time: messages are rare, and systemd may have
// been re-executed in between.
func (n *Notifier) send(state string) error {
	if n == nil || n.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("reaching systemd: %w", err)
	}
	defer conn.Close()
	err = conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err == nil {
		_, err = conn.Write([]byte(state))
	}
	if err != nil {
		return fmt.Errorf("notifying systemd: %w", err)
	}
	return nil
}

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
