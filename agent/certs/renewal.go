package certs

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

const day = 24 * time.Hour

// fallback is when to renew a certificate of which no CA says it: from two thirds of its life on,
// from half of one of less than 10 days (what Let's Encrypt recommends).
func fallback(notBefore, notAfter time.Time) Window {
	life := notAfter.Sub(notBefore)
	at := notBefore.Add(life / 3 * 2)
	if life < 10*day {
		at = notBefore.Add(life / 2)
	}
	return Window{Start: at, End: at.Add(life / 50)}
}

// Moment is the time in the window at which this host renews: always the same for an id and a seed.
func (w Window) Moment(id, seed string) time.Time {
	sum := sha256.Sum256([]byte(id + "\n" + seed))
	length := max(w.End.Sub(w.Start), 0)
	share := float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
	return w.Start.Add(time.Duration(share * float64(length)))
}

// Late reports whether a certificate should have been renewed long ago: a tenth of its life after the
// window. Soon is true where it is about to expire: when less is left than a quarter of what was at the end of
// the window, and less than 2 days in any case if it lives for more than 10.
func Late(now, notBefore, notAfter time.Time, w Window) (late, soon bool) {
	life := notAfter.Sub(notBefore)
	least := notAfter.Sub(w.End) / 4
	if life > 10*day {
		least = max(least, 2*day)
	}
	return now.Sub(w.End) > life/10, notAfter.Sub(now) < least
}

// Expiring is Late for a certificate that somebody else renews. One that lives for more than 100 days,
// the most that browsers will take from March 2027 on, counts as one of 100.
func Expiring(now, notBefore, notAfter time.Time) (late, soon bool) {
	if first := notAfter.Add(-100 * day); notBefore.Before(first) {
		notBefore = first
	}
	return Late(now, notBefore, notAfter, fallback(notBefore, notAfter))
}
