package certs

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

// The limits of Let's Encrypt (letsencrypt.org/docs/rate-limits), each with a margin. Those of
// other CAs are not published, or are wider; these hold there too, but that on domains.
const (
	week = 7 * 24 * time.Hour
	// Orders of an account: 300 in 3 hours.
	mostOrders, ordersIn = 250, 3 * time.Hour
	// Certificates for a registered domain, or an address: 50 in 7 days. Renewals do not count.
	mostOfDomain = 45
	// Certificates for one set of names: 5 in 7 days. We have as many renewals in a week, or in the
	// life of the certificate if that is shorter; the CA does not limit those.
	mostOfSet = 4
	// Failed validations of a name: 5 in an hour.
	mostFailures = 4
	// Attempts and questions in an hour that do not end well, and one less once one of them is older than an attempt
	// usually takes. The first attempt of a site makes up to 13 requests of a CA that fails at its end, and each
	// after it 5, or 7 where the CA refuses all nonces: 30 in an hour at most, and 13 for each site that was begun at the
	// same time.
	mostContacts = 5
	usualAttempt = 30 * time.Second
	// ahead is how far another instance's clock may be ahead.
	ahead = 10 * time.Minute
)

// The most that a ledger keeps. maxLedger bounds all of it as JSON, in bytes.
const (
	mostKept    = 80 << 10 // bytes of Orders
	mostNames   = 150
	mostWindows = 150
	mostReason  = 200 // bytes
	maxLedger   = MaxObject - 10<<10
)

// ofFamily is the share of a limit that one family may use up; the rest is for others.
func ofFamily(limit int) int { return limit - limit/8 }

// wait is until when the ledger does not allow an attempt; a time that is not after now allows it.
// before counts the orders for the same domain that come first.
func (l Ledger) wait(s Start, now time.Time, before int) (until time.Time) {
	until = l.pause(now)
	for _, name := range s.Names {
		until = later(until, l.Names[short(name)].wait())
	}
	if s.Trial() || s.Resume && l.open(s) >= 0 {
		return until
	}
	n := noted(s, now)
	free := func(limit int, in time.Duration, before int, fits func(Noted) bool) {
		var at []time.Time
		for _, o := range l.Orders {
			if now.Sub(o.At) < in && fits(o) {
				at = append(at, o.At)
			}
		}
		slices.SortFunc(at, time.Time.Compare)
		if i := len(at) - limit + before; i >= 0 && len(at) > 0 {
			until = later(until, at[i%len(at)].Add(in*time.Duration(1+i/len(at))))
		}
	}
	family := func(o Noted) bool { return o.Family == n.Family }
	free(mostOrders, ordersIn, 0, func(Noted) bool { return true })
	free(ofFamily(mostOrders), ordersIn, 0, family)
	free(mostOfSet, n.In, 0, func(o Noted) bool { return o.State != stateFailed && o.Set == n.Set })
	for _, domain := range n.Domains {
		counts := func(o Noted) bool { return o.State != stateFailed && slices.Contains(o.Domains, domain) }
		free(mostOfDomain, week, before, counts)
		free(ofFamily(mostOfDomain), week, before, func(o Noted) bool { return counts(o) && family(o) })
	}
	if size := l.size(func(o Noted) bool { return o.counts(now) }) + n.size(); size > mostKept {
		until = later(until, now.Add(time.Hour))
	}
	return until
}

// pause is until when the CA is left alone.
func (l Ledger) pause(now time.Time) time.Time {
	until := earlier(l.Paused, now.Add(24*time.Hour))
	recent, most := l.contacts(now), mostContacts
	if len(recent) > 0 && now.Sub(recent[0].At) > usualAttempt {
		most--
	}
	if len(recent) >= most {
		return later(until, recent[len(recent)-most].At.Add(time.Hour))
	}
	return until
}

// contacts are those of the last hour, the oldest first.
func (l Ledger) contacts(now time.Time) []Contact {
	all := slices.DeleteFunc(slices.Clone(l.Contacts), func(c Contact) bool { return now.Sub(c.At) >= time.Hour })
	slices.SortStableFunc(all, func(a, b Contact) int { return a.At.Compare(b.At) })
	return all
}

// wait is until when the name is not tried. One attempt that nobody ended is resumed at once.
func (f Failed) wait() (until time.Time) {
	if n := f.Count + max(0, f.Open-1); n > 0 && !f.Passed {
		until = f.Last.Add(doubling(n, 24*time.Hour))
	}
	if len(f.Recent) >= mostFailures {
		until = later(until, f.Recent[0].Add(time.Hour))
	}
	return later(until, f.Until)
}

// size is how many bytes the orders take that fit.
func (l Ledger) size(fits func(Noted) bool) (n int) {
	for _, o := range l.Orders {
		if fits(o) {
			n += o.size()
		}
	}
	return n
}

// counts reports whether a limit counts the order still.
func (o Noted) counts(now time.Time) bool {
	age := now.Sub(o.At)
	return age < ordersIn || o.State != stateFailed && (age < o.In || age < week && len(o.Domains) > 0)
}

// noted is an order as the ledger keeps it.
func noted(s Start, now time.Time) Noted {
	n := Noted{At: now.Truncate(time.Second), State: stateOpen, In: week, Set: short(strings.Join(s.Names, "\n")), Family: short(s.Family)}
	if s.Replaces != "" || s.Lifetime > 0 && s.Directory != letsEncrypt {
		n.Set = short(s.ID)
		n.In = max(0, min(week, s.Lifetime)) // a certificate of the store may end before it begins
	}
	if s.Directory == letsEncrypt && s.Replaces == "" {
		for _, name := range s.Names {
			n.Domains = append(n.Domains, short(registered(name)))
		}
		slices.Sort(n.Domains)
		n.Domains = slices.Compact(n.Domains)
	}
	return n
}

// open is the index of the order that an attempt is for, -1 for none.
func (l Ledger) open(s Start) int {
	n := noted(s, time.Time{})
	for i := len(l.Orders) - 1; i >= 0; i-- {
		if o := l.Orders[i]; o.State == stateOpen && o.Set == n.Set {
			return i
		}
	}
	return -1
}

// registered is the domain that somebody registered, by the public suffix list: the name itself
// where there is none.
func registered(name string) string {
	name = strings.TrimPrefix(name, "*.")
	if domain, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil && !isIP(name) {
		return domain
	}
	return name
}
