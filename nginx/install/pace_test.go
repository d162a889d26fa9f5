package install

import (
	"fmt"
	"math/rand/v2"
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

// Whoever starts fifty containers gets few reloads, and the last one soon.
func TestBudgetWhileTreesKeepComing(t *testing.T) {
	const toMake = 200 * time.Millisecond // from one that is ready to the next that is made
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name    string
		gap     func() time.Duration
		n, most int
		longest time.Duration
	}{
		{"a fast engine", func() time.Duration { return 200 * time.Millisecond }, 50, 8, longestPause},
		{"a slow engine", func() time.Duration { return 700 * time.Millisecond }, 50, 10, longestPause},
		{"an uneven one", func() time.Duration { return time.Duration(random.ExpFloat64() * float64(700*time.Millisecond)) }, 50, 10, longestPause},
		{"a very slow one", func() time.Duration { return 1500 * time.Millisecond }, 50, 15, longestPause},
		{"one every ten seconds", func() time.Duration { return 10 * time.Second }, 50, 50, 0},
	} {
		var (
			b       = budget{burst: 3, every: func() time.Duration { return time.Second }}
			now     = time.Unix(1000, 0)
			due     time.Time
			first   time.Time // when the oldest waiting tree came
			longest time.Duration
			reloads int
			last    time.Duration
			made    time.Time // when the next container is made
		)
		next := now
		for left := c.n; left > 0 || !due.IsZero(); {
			if left > 0 && !b.coming && made.Before(next) && (due.IsZero() || !due.Before(made)) {
				now = made
				if b.coming = true; !due.IsZero() {
					due = now.Add(b.wait(now))
				}
				continue
			}
			if left > 0 && (due.IsZero() || !due.Before(next)) {
				now = next
				next, made = next.Add(c.gap()), next.Add(toMake)
				left--
				b.ask(now, false)
				b.coming = false
				if due.IsZero() {
					first = now
				}
				due = now.Add(b.wait(now))
				continue
			}
			now = due
			b.take(now)
			reloads++
			longest, last, due = max(longest, now.Sub(first)), now.Sub(b.asked), time.Time{}
		}
		t.Logf("%s: %d reloads, the last tree waited %v, the longest %v", c.name, reloads, last, longest)
		if reloads > c.most || last > 1200*time.Millisecond || longest > c.longest {
			t.Errorf("%s: %d reloads, the last tree waited %v, the longest %v", c.name, reloads, last, longest)
		}
	}
}

// While another container is on its way, the reload waits for it; and not for ever.
func TestBudgetWhileOthersAreComing(t *testing.T) {
	b := budget{burst: 3, every: func() time.Duration { return time.Second }}
	now := time.Unix(1000, 0)
	b.coming = true
	var waits []time.Duration
	for range 8 {
		first := now
		for b.ask(now, false); b.wait(now) > 0; b.ask(now, false) {
			now = now.Add(min(time.Second, b.wait(now)))
		}
		b.take(now)
		waits = append(waits, now.Sub(first))
	}
	if got, want := fmt.Sprint(waits), "[0s 0s 0s 2s 4s 8s 8s 8s]"; got != want {
		t.Errorf("the trees wait %s, want %s", got, want)
	}
	b.ask(now, false)
	if b.coming = false; b.wait(now) > lastOne {
		t.Errorf("the last one waits %v", b.wait(now))
	}
	b.ask(now, true) // one goes: this is no crowd
	if b.coming = true; b.wait(now) > time.Second {
		t.Errorf("the next after one went waits %v", b.wait(now))
	}
}

// Whoever starts and stops one container after the other is served at once, however
// long it goes on.
func TestBudgetForOneAfterTheOther(t *testing.T) {
	b := budget{burst: 3, every: func() time.Duration { return time.Second }}
	now := time.Unix(1000, 0)
	for n := range 30 {
		b.ask(now, false)
		if wait := b.wait(now); wait != 0 {
			t.Fatalf("start %d waits %v", n, wait)
		}
		b.take(now)
		now = now.Add(500 * time.Millisecond)
		b.ask(now, true)
		b.take(now.Add(b.waitDrain(now)))
		now = now.Add(2 * time.Second)
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
