// Package backoff has the pauses between tries that fail: growing, bounded, and never the
// same on two machines.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the growing pause between tries that fail. One goroutine uses it.
type Backoff struct {
	First time.Duration // the pause after the first failure
	Most  time.Duration // the longest pause
	pause time.Duration // the last one, before jitter; 0 while nothing has failed
}

// Next returns the pause after one more failure: First, then twice the one before up to
// Most, each a fifth shorter or longer, so that many instances do not try in step.
func (b *Backoff) Next() time.Duration {
	b.pause = min(max(2*b.pause, b.First), b.Most)
	return Jitter(b.pause, b.pause/5)
}

// Failing reports whether the last try failed: Next was called after the last Reset.
func (b *Backoff) Failing() bool { return b.pause > 0 }

// Reset notes a success: the next pause is First again.
func (b *Backoff) Reset() { b.pause = 0 }

// Jitter returns a duration between d-part and d+part. A part that is not positive leaves
// d as it is.
func Jitter(d, part time.Duration) time.Duration {
	if part <= 0 {
		return d
	}
	return d - part + rand.N(2*part+1)
}

// Retry tries, with that pause between two tries, until there is no error. Its own error is
// that of ctx.
func Retry(ctx context.Context, pause time.Duration, try func() error) error {
	for try() != nil {
		if !Sleep(ctx, pause) {
			return ctx.Err()
		}
	}
	return nil
}

// Sleep waits for d and reports whether that passed before ctx ended.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
