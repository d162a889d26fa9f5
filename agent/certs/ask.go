package certs

import (
	"slices"
	"time"
)

const (
	// askEvery is between two questions about renewals for one directory at least, if there are
	// few certificates; a certificate is asked for every 6 to 12 hours.
	askEvery, askRound = 24 * time.Minute, 12 * time.Hour
	// askAgain is when a CA is asked again that does not say when (RFC 9773, section 4.3).
	askAgain = 6 * time.Hour
)

// Ask notes that the CA is asked about the renewal of a certificate, before it is.
func (l Ledger) Ask(h Held, now time.Time) Ledger {
	l, _ = l.Settle(now)
	l.LastAsk = now
	l.Contacts = append(l.Contacts, Contact{At: now, Key: short("ask " + h.ID)})
	return l
}

// Answer notes what it said, err where it said nothing. It is asked again when it says, in a minute to a day.
func (l Ledger) Answer(h Held, w Window, err error, now time.Time) Ledger {
	l, _ = l.Settle(now)
	a := l.Windows[short(h.ID)]
	if !a.NotAfter.Equal(h.NotAfter) {
		a = Asked{NotAfter: h.NotAfter, Replaced: a.Replaced}
	}
	if err == nil {
		key := short("ask " + h.ID)
		l.Contacts = slices.DeleteFunc(l.Contacts, func(c Contact) bool { return c.Key == key })
		a.Window = w
		// A window in the past means to renew at once (RFC 9773, section 4.2); none, one that ends before it starts and one
		// behind the certificate's life say nothing.
		a.Supported = w.Supported && !w.Start.IsZero() && w.End.After(w.Start) && w.Start.Before(h.NotAfter.Add(-leastLeft(h)))
	}
	again := w.Again.Sub(now)
	if err != nil || w.Again.IsZero() {
		again = askAgain
	}
	a.Again = now.Add(min(max(again, time.Minute), 24*time.Hour))
	l.Windows[short(h.ID)] = a
	return l.bounded(now)
}

// leastLeft is how much of a certificate's life is left for its renewal, whatever the CA says.
func leastLeft(h Held) time.Duration { return h.NotAfter.Sub(h.NotBefore) / 20 }

// window is when the certificate should be renewed: what its CA said, as far as it is in the certificate's
// life, else what follows from that.
func (l Ledger) window(h Held) Window {
	last := h.NotAfter.Add(-leastLeft(h))
	if a, ok := l.Windows[short(h.ID)]; ok && a.Supported && a.NotAfter.Equal(h.NotAfter) && a.Start.Before(last) {
		w := a.Window
		w.Start = later(w.Start, h.NotBefore)
		w.End = later(w.Start, earlier(w.End, last))
		return w
	}
	return fallback(h.NotBefore, h.NotAfter)
}

// ask chooses of the certificates that sites ask for the one of which the CA is asked next, and says
// when that is: now, later, or never where next is zero.
func (l Ledger) ask(wanted []Held, now time.Time) (h Held, next time.Time) {
	pause := askEvery
	for _, o := range wanted {
		a := l.Windows[short(o.ID)]
		due := a.Again
		if !a.NotAfter.Equal(o.NotAfter) {
			due = time.Time{}.Add(time.Second) // before all others
		}
		if next.IsZero() || due.Before(next) || due.Equal(next) && o.NotAfter.Before(h.NotAfter) {
			h, next = o, due
		}
		// All have their turn within 12 hours, and within a quarter of the shortest life.
		pause = min(pause, askRound/time.Duration(len(wanted)), o.NotAfter.Sub(o.NotBefore)/time.Duration(4*len(wanted)))
	}
	if next.IsZero() {
		return h, next
	}
	next = later(later(next, now), later(l.LastAsk.Add(pause), l.pause(now)))
	if recent := l.contacts(now); len(recent) >= mostContacts/2 {
		next = later(next, recent[len(recent)-mostContacts/2].At.Add(time.Hour))
	}
	return h, next
}
