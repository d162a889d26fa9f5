package install

import (
	"math/rand/v2"
	"time"
)

// budget is a token bucket for reloads: each one costs CPU time, and old
// workers that finish what they had begun cost memory. While trees keep coming after
// it was emptied, as when a host starts all its containers, each pause is twice the
// one before. It ends early once none has come for a while and none is on its way.
type budget struct {
	burst int
	every func() time.Duration
	level float64
	at    time.Time

	asked  time.Time // when the newest tree came
	paid   time.Time // when the last reload was
	coming bool      // another tree is to be expected
	streak int       // reloads since trees came after a calm, or one took a container out
}

const (
	longestPause = 8 * time.Second         // the most that a tree waits while others keep coming
	lastOne      = 1100 * time.Millisecond // a tree that none has followed for so long is the last one
	calm         = 5 * time.Second         // without a tree for so long they have stopped coming
)

// ask notes that a tree has come. One that takes a container out is no sign of a
// crowd that comes, and whoever goes up and down must not make others wait for long.
func (b *budget) ask(now time.Time, takesOut bool) {
	if takesOut || now.Sub(b.asked) > calm {
		b.streak = 0
	}
	b.asked = now
}

// wait returns how long from now on the next reload must wait.
func (b *budget) wait(now time.Time) time.Duration {
	b.fill(now)
	wait := time.Duration(0)
	if b.level < 1 {
		wait = time.Duration((1 - b.level) * float64(b.every()))
	}
	if b.streak < b.burst {
		return wait
	}
	till := b.paid.Add(min(b.every()<<min(b.streak-b.burst+1, 8), longestPause))
	if last := b.asked.Add(lastOne); !b.coming && last.Before(till) {
		till = last
	}
	return max(wait, till.Sub(now))
}

// waitDrain is wait for a reload that takes a container out, which somebody
// waits for who is about to be killed: it is paid for later. Only a heap of debts
// makes it wait too, so that a crowd of crashing containers stays affordable.
func (b *budget) waitDrain(now time.Time) time.Duration {
	b.fill(now)
	if b.level > float64(-b.burst) {
		return 0
	}
	return b.every() / 4
}

// take pays for one reload, on credit if need be.
func (b *budget) take(now time.Time) {
	b.fill(now)
	b.level = max(float64(-b.burst), b.level-1)
	b.paid = now
	b.streak++
}

func (b *budget) fill(now time.Time) {
	if b.at.IsZero() {
		b.level = float64(b.burst)
	} else if d := now.Sub(b.at); d > 0 {
		b.level = min(float64(b.burst), b.level+float64(d)/float64(b.every()))
	}
	b.at = now
}

// Bounds of the pause after a failure.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// backoff is the growing pause between tries that fail.
type backoff struct{ tries int }

// next returns the pause after one more failure, 1 s doubling up to 30 s, a
// fifth more or less so that many instances do not try in step.
func (b *backoff) next() time.Duration {
	pause := lastPause
	if b.tries < 5 {
		pause = min(lastPause, firstPause<<b.tries)
		b.tries++
	}
	return time.Duration(float64(pause) * (0.8 + 0.4*rand.Float64()))
}

func (b *backoff) reset() { b.tries = 0 }
