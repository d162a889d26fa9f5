package certs

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// short10 is the life below which a certificate is renewed after half of it.
const short10 = 10 * 24 * time.Hour

// Fallback is when to renew a certificate of which no CA says it: from two thirds of its life on,
// from half of one of less than 10 days (what Let's Encrypt recommends).
func Fallback(notBefore, notAfter time.Time) Window {
	life := notAfter.Sub(notBefore)
	at := notBefore.Add(life / 3 * 2)
	if life < short10 {
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
