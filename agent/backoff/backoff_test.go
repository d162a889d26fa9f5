package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestBackoff(t *testing.T) {
	b := Backoff{First: time.Second, Most: 30 * time.Second}
	for round := range 2 {
		if b.Failing() {
			t.Errorf("round %d fails before it began", round)
		}
		for i, want := range []int{1, 2, 4, 8, 16, 30, 30} {
			base := time.Duration(want) * time.Second
			if got := b.Next(); got < base*8/10 || got > base*12/10 {
				t.Errorf("round %d, failure %d: pause %v, want %v ± a fifth", round, i, got, base)
			}
			if !b.Failing() {
				t.Errorf("round %d, failure %d is not noted", round, i)
			}
		}
		b.Reset()
	}
}

func TestJitter(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := Jitter(time.Minute, time.Second)
		if d < 59*time.Second || d > 61*time.Second {
			t.Fatalf("a minute ± 1 s became %v", d)
		}
		seen[d] = true
	}
	if len(seen) < 100 {
		t.Errorf("1000 durations have only %d values", len(seen))
	}
	if got := Jitter(5, 0); got != 5 {
		t.Errorf("without a part: %v", got)
	}
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tries := 0
		until := func(n int) func() error {
			return func() error {
				if tries++; tries < n {
					return errors.New("not yet")
				}
				return nil
			}
		}
		if start := time.Now(); Retry(ctx, time.Second, until(3)) != nil || tries != 3 || time.Since(start) != 2*time.Second {
			t.Errorf("%d tries", tries)
		}
		if err := Retry(ctx, time.Second, until(1000)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after its context: %v", err)
		}
	})
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if start := time.Now(); !Sleep(ctx, time.Second) || time.Since(start) != time.Second {
			t.Error("did not sleep for a second")
		}
		if start := time.Now(); Sleep(ctx, time.Hour) || time.Since(start) != 59*time.Second {
			t.Error("did not end with its context")
		}
	})
}
