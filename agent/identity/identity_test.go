package identity

import (
	"testing"
	"time"
)

func TestScheduledKind(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		code string
		in   time.Duration
		want NoticeKind
	}{
		{"instance-retirement", 14 * 24 * time.Hour, Maintenance},
		{"instance-retirement", retireAhead + time.Second, Maintenance},
		{"instance-retirement", retireAhead, Retirement},
		{"instance-stop", time.Minute, Retirement},
		{"instance-stop", -time.Hour, Retirement},
		{"system-reboot", time.Minute, Maintenance},
		{"instance-reboot", -time.Minute, Maintenance},
		{"system-maintenance", 0, Maintenance},
	} {
		if got := ScheduledKind(row.code, now.Add(row.in), now); got != row.want {
			t.Errorf("%s in %s: %s, want %s", row.code, row.in, got, row.want)
		}
	}
	if got := ScheduledKind("instance-stop", time.Time{}, now); got != Retirement {
		t.Errorf("a stop at no known time: %s", got)
	}
}

func TestWhatMakesAnInstanceLeave(t *testing.T) {
	for kind, leaves := range map[NoticeKind]bool{
		SpotInterruption: true, Rebalance: true, AutoScalingTermination: true, Retirement: true, Operator: true, Maintenance: false, "": false,
	} {
		id := Identity{Notices: []Notice{{Kind: Maintenance}, {Kind: kind}}}
		if id.Leaving() != leaves || (id.WhyLeaving() != "") != leaves {
			t.Errorf("%q: leaving %v, %q", kind, id.Leaving(), id.WhyLeaving())
		}
	}
	if (Identity{}).Leaving() {
		t.Error("without a notice")
	}
}
