package board

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/nginx"
	"github.com/nagaya-ecs/nagaya/systemd"
)

// The watchdog must see that a flow which is stuck does not live.
func TestAliveEndsAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New("test")
		b.Beat()
		if !b.Alive() {
			t.Error("the flow has just advanced, and does not count as alive")
		}
		time.Sleep(alivePatience)
		if b.Alive() {
			t.Error("nothing was heard for long, and the flow counts as alive")
		}
	})
}

// A stage that the next flow does not have cannot take its problem back.
func TestProblemsOfAFormerFlowAreDropped(t *testing.T) {
	b := New("test")
	b.SetUpkeep("metrics", []problem.Problem{{Code: "metrics-unavailable"}})
	b.SetUpkeep("socket", []problem.Problem{{Code: "socket-unavailable"}})
	if u := b.Status().Upkeep; len(u) != 2 || len(b.Status().Problems) != 2 {
		t.Errorf("upkeep %+v", u)
	}
	b.SetUpkeep("socket", nil)
	if u := b.Status().Upkeep; len(u) != 1 || u[0].Code != "metrics-unavailable" {
		t.Errorf("upkeep %+v after one problem was solved", u)
	}
	b.ResetUpkeep()
	if u := b.Status().Upkeep; len(u) != 0 {
		t.Errorf("upkeep %+v", u)
	}
	b.SetUpkeep("directories", nil)
	if u := b.Status().Upkeep; len(u) != 0 {
		t.Errorf("upkeep %+v after another one was set", u)
	}
}

func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		serving := report.Status{StartedAt: time.Now(), Nginx: nginx.Status{Running: true}}
		claimed := func(all ...address.ClaimReport) func(*report.Status) {
			return func(s *report.Status) { s.Address = address.NewReport(all) }
		}
		here := address.ClaimReport{ClaimStatus: address.ClaimStatus{Claim: "x", Known: true, Holder: address.Holder{Kind: address.Self}}}
		elsewhere := address.ClaimReport{ClaimStatus: address.ClaimStatus{Claim: "x", Known: true, Decision: address.Decision{Action: address.Stay}}}
		for name, row := range map[string]struct {
			change func(*report.Status)
			want   bool
		}{
			"nothing is claimed":         {func(*report.Status) {}, true},
			"nothing is known":           {func(s *report.Status) { *s = report.Status{StartedAt: time.Now()} }, false},
			"EC2 was not asked":          {claimed(address.ClaimReport{ClaimStatus: address.ClaimStatus{Claim: "x"}}), false},
			"the address is here":        {claimed(here), true},
			"the address is elsewhere":   {claimed(elsewhere), true},
			"the address is being taken": {claimed(address.ClaimReport{ClaimStatus: address.ClaimStatus{Claim: "x", Known: true, Decision: address.Decision{Action: address.Take}}}), false},
			"the second one is not here": {claimed(here, address.ClaimReport{ClaimStatus: address.ClaimStatus{Claim: "y"}}), false},
			"both are settled":           {claimed(here, elsewhere), true},
			"it took too long":           {func(s *report.Status) { *s = report.Status{StartedAt: time.Now().Add(-readyPatience)} }, true},
		} {
			s := serving
			row.change(&s)
			if got := settled(s); got != row.want {
				t.Errorf("%s: settled %v", name, got)
			}
		}
	})
}

func TestNotifySystemd(t *testing.T) {
	b := New("test")
	n, heard := notifier(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.NotifySystemd(ctx, n, slog.New(slog.DiscardHandler)) }()
	b.write(func(s *report.Status) { s.Version = "2" })
	if got := heard(); got != "STATUS=0 of 0 hosts live, gate undecided" {
		t.Errorf("at first systemd was told %q", got)
	}
	b.write(func(s *report.Status) { s.Nginx = nginx.Status{Running: true} })
	if got := heard(); got != "READY=1" {
		t.Errorf("systemd was told %q, want READY=1", got)
	}
	// The same line, and the same readiness, are not told again.
	b.write(func(s *report.Status) { s.Nginx = nginx.Status{Running: true, Reloads: 1} })
	b.write(func(s *report.Status) { s.Address = address.Report{ClaimStatus: address.ClaimStatus{Claim: "x"}} })
	if got := heard(); got != "STATUS=0 of 0 hosts live, address unknown, gate undecided" {
		t.Errorf("systemd was told %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// notifier reports to a systemd of the test; heard returns what that hears next.
func notifier(t *testing.T) (n *systemd.Notifier, heard func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	if n, err = systemd.NewNotifier(); err != nil {
		t.Fatal(err)
	}
	return n, func() string {
		t.Helper()
		b := make([]byte, 4096)
		if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}
