package systemd

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMessages(t *testing.T) {
	tests := []struct {
		name string
		send func(*Notifier) error
		want string // regular expression for the whole datagram
	}{
		{"ready", (*Notifier).Ready, `READY=1`},
		{"stopping", (*Notifier).Stopping, `STOPPING=1`},
		{"reloading holds both words", (*Notifier).Reloading, `RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]+`},
		{"status", status("3 routes"), `STATUS=3 routes`},
		{"status cannot smuggle an assignment", status("x\nMAINPID=1\r\x00y"), `STATUS=x MAINPID=1  y`},
		{"long status is cut", status(strings.Repeat("é", 600)), `STATUS=é{254}…`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := listen(t)
			n := &Notifier{socket: d.path}
			if err := tt.send(n); err != nil {
				t.Fatal(err)
			}
			got := d.all(t)
			if len(got) != 1 || !regexp.MustCompile(`^(?:`+tt.want+`)$`).MatchString(got[0]) {
				t.Errorf("datagrams = %q, want one that matches %q", got, tt.want)
			}
		})
	}
}

func status(text string) func(*Notifier) error {
	return func(n *Notifier) error { return n.Status(text) }
}

func TestNewNotifierTakesTheEnvironment(t *testing.T) {
	d := listen(t)
	t.Setenv("NOTIFY_SOCKET", d.path)
	t.Setenv("WATCHDOG_USEC", "60000000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	n, err := NewNotifier()
	if err != nil {
		t.Fatal(err)
	}
	if n.watchdog != time.Minute {
		t.Errorf("watchdog = %v, want 1m", n.watchdog)
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if v, ok := os.LookupEnv(name); ok {
			t.Errorf("%s=%q is left for children", name, v)
		}
	}
	if err := n.Ready(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"READY=1"}, d.all(t)); diff != "" {
		t.Error(diff)
	}
}

func TestWatchdogOfAnotherProcessIsNotOurs(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	t.Setenv("WATCHDOG_USEC", "1000000")
	t.Setenv("WATCHDOG_PID", "1")
	n, err := NewNotifier()
	if err != nil || n.watchdog != 0 {
		t.Errorf("watchdog = %v, %v; want none", n.watchdog, err)
	}
}

func TestBadWatchdogPeriodIsNamed(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "soon")
	t.Setenv("WATCHDOG_PID", "")
	n, err := NewNotifier()
	if err == nil || !strings.Contains(err.Error(), "WATCHDOG_USEC") {
		t.Errorf("err = %v, want one that names WATCHDOG_USEC", err)
	}
	if n == nil || n.Ready() != nil {
		t.Error("the rest of the Notifier does not work")
	}
}

func TestWithoutSystemdNothingHappens(t *testing.T) {
	for name, n := range map[string]*Notifier{"nil": nil, "no socket": {watchdog: time.Second}} {
		t.Run(name, func(t *testing.T) {
			for _, send := range []func(*Notifier) error{(*Notifier).Ready, (*Notifier).Stopping, (*Notifier).Reloading, status("x")} {
				if err := send(n); err != nil {
					t.Error(err)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			n.Watchdog(ctx, func() bool { t.Error("asked"); return true })
		})
	}
}

func TestSocketGoneIsAnError(t *testing.T) {
	n := &Notifier{socket: t.TempDir() + "/gone"}
	if err := n.Ready(); err == nil {
		t.Error("no error")
	}
}

func TestWatchdogPingsOnlyWhileAlive(t *testing.T) {
	d := listen(t)
	synctest.Test(t, func(t *testing.T) {
		var alive atomic.Bool
		alive.Store(true)
		n := &Notifier{socket: d.path, watchdog: time.Minute}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.Watchdog(ctx, alive.Load)
		}()
		pings := func(after time.Duration) int {
			time.Sleep(after)
			synctest.Wait()
			return len(d.all(t))
		}
		if got := pings(0); got != 1 {
			t.Errorf("at the start: %d pings, want 1", got)
		}
		if got := pings(5 * time.Minute); got != 10 {
			t.Errorf("in five minutes: %d pings, want 10", got)
		}
		alive.Store(false)
		if got := pings(5 * time.Minute); got != 0 {
			t.Errorf("while not alive: %d pings, want 0", got)
		}
		alive.Store(true)
		if got := pings(time.Minute / 16); got != 1 {
			t.Errorf("soon after alive again: %d pings, want 1", got)
		}
		cancel()
		<-done
	})
}
