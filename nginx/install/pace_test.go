package install

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	now := time.Unix(1000, 0)
	b := budget{burst: 3, every: func() time.Duration { return time.Second }}
	for i := range 3 {
		if w := b.wait(now); w != 0 {
			t.Errorf("reload %d of the burst waits %v", i, w)
		}
		b.take(now)
	}
	if w := b.wait(now); w != time.Second {
		t.Errorf("the fourth waits %v", w)
	}
	now = now.Add(400 * time.Millisecond)
	if w := b.wait(now).Round(time.Millisecond); w != 600*time.Millisecond {
		t.Errorf("a while later it waits %v", w)
	}
	now = now.Add(time.Hour)
	for range 3 {
		b.take(now)
	}
	if w := b.wait(now); w != time.Second {
		t.Errorf("an hour saved more than the burst: the fourth waits %v", w)
	}
	now = now.Add(-time.Minute)
	if w := b.wait(now); w > time.Second {
		t.Errorf("a clock that was set back makes it wait %v", w)
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		got := b.next()
		if low, high := want*time.Second*8/10, want*time.Second*12/10; got < low || got > high {
			t.Errorf("pause %d is %v, want %v to %v", i, got, low, high)
		}
	}
	b.reset()
	if got := b.next(); got > 1200*time.Millisecond {
		t.Errorf("after a success the pause is %v", got)
	}
}
