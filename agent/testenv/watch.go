package testenv

import (
	"context"
	"testing"
	"time"
)

// Watching runs a source of values until the test ends, and returns a function that waits for a value that fits. The
// source must return nil once its context has ended.
func Watching[T any](t *testing.T, run func(ctx context.Context, put func(T)) error) (until func(what string, fits func(T) bool) T) {
	t.Helper()
	values := make(chan T, 1000) // the source never waits for its reader
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, func(v T) {
			select {
			case values <- v:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the source returned %v after its context had ended, want nil", err)
		}
	})
	return func(what string, fits func(T) bool) T {
		t.Helper()
		deadline := time.After(2 * time.Minute)
		var last T
		for {
			select {
			case last = <-values:
				if fits(last) {
					return last
				}
			case <-deadline:
				t.Fatalf("never saw %s; last value: %+v", what, last)
			}
		}
	}
}
