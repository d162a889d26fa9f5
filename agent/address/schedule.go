package address

import (
	"slices"
	"time"
)

// DefaultEvery is how often EC2 is asked while another instance holds an address that may
// be taken from it. It is the shortest pause with which a standby instance stays below
// 6,000 calls in 24 hours, with 48 looks at the addresses themselves.
const DefaultEvery = 14580 * time.Millisecond

const (
	// holderEvery is how much less often a holder asks, and holderMost how seldom:
	// instance metadata tells it of a loss at no cost.
	holderEvery = 24
	holderMost  = 6 * time.Minute
	// standbyEvery is how much less often a standby instance describes the addresses than
	// the instances that hold them, and standbyMost how seldom.
	standbyEvery = 124
	standbyMost  = 30 * time.Minute
	// recheck is when an address that was just taken is looked at again: another
	// instance may have taken it at the same moment.
	recheck = 45 * time.Second
	// lossEvery is how often EC2 is asked while the address is probably lost, or its holder
	// has just given a hint that the holder tag does not show yet; lossFor is how long that
	// is assumed.
	lossEvery = 5 * time.Second
	lossFor   = 30 * time.Second
	// unshownEvery is how often EC2 is asked, up to the recheck, while instance metadata
	// does not show yet what came here and so could not tell a loss.
	unshownEvery = 12 * time.Second
	// silentEvery is how often a holder asks while instance metadata does not answer.
	silentEvery = 15 * time.Second
	// tagCheckEvery is how often a holder that leaves checks that its tag is there, for
	// as long as tagEvery.
	tagCheckEvery = time.Minute
	// verifyLeast and verifyMost bound the pause until a change is looked at again that
	// EC2 does not show yet. It is as long as the change is ago.
	verifyLeast, verifyMost = 100 * time.Millisecond, 2 * time.Second
	// retryMost is the longest pause after a failure; retryYoung is it up to young after
	// the start, while EC2 may not know the role or the address yet.
	retryMost  = time.Minute
	retryYoung = 5 * time.Second
	young      = time.Minute
)

// Schedule is when EC2 is asked next; the zero time is never.
type Schedule struct {
	// Addresses is when the addresses are described, and Holders when only the instances
	// that hold them are.
	Addresses, Holders time.Time
}

// NewSchedule is when to ask after a look at the addresses. Every is the pause of a
// standby instance, and jitter, between -1 and 1, keeps agents from asking in step.
// Addresses whose look failed have no part in it.
func NewSchedule(states []*State, x Situation, every time.Duration, now time.Time, jitter float64) Schedule {
	var k Schedule
	for _, s := range states {
		if s.unverified() {
			k.Advance(now.Add(min(max(now.Sub(s.Change.At), verifyLeast), verifyMost)))
			continue
		}
		if s.Failed {
			continue
		}
		k.Advance(now.Add(s.pause(x, every, now, jitter)))
		if s.Contested() {
			k.PostponeHolders(every, now, jitter)
		}
	}
	return k
}

// Advance has the addresses described at that time if that is sooner.
func (k *Schedule) Advance(at time.Time) { k.Addresses = earliest(k.Addresses, at) }

// PostponeHolders has the holders described after a pause.
func (k *Schedule) PostponeHolders(every time.Duration, now time.Time, jitter float64) {
	k.Holders = now.Add(vary(every, every/200, jitter))
}

// Next is when EC2 is asked next, for whatever.
func (k Schedule) Next() time.Time { return earliest(k.Addresses, k.Holders) }

// Due reports whether the addresses, and whether only the holders are described now.
func (k Schedule) Due(every time.Duration, now time.Time) (addresses, holders bool) {
	holders = Due(k.Holders, now)
	addresses = Due(k.Addresses, now) || holders && k.Addresses.Sub(now) < every
	return addresses, holders && !addresses
}

// Due reports whether the time has come; it never comes for the zero time.
func Due(at, now time.Time) bool { return !at.IsZero() && !at.After(now) }

// vary changes d by up to a part of it.
func vary(d, part time.Duration, jitter float64) time.Duration {
	return d + time.Duration(jitter*float64(part))
}

// unverified reports whether EC2 has yet to show this agent's own last change.
func (s *State) unverified() bool { return s.Outdated || s.Report.Held() && !s.Report.Verified }

// pause is how long the addresses need not be described on account of this one.
func (s *State) pause(x Situation, every time.Duration, now time.Time, jitter float64) time.Duration {
	if s.Report.Held() {
		return s.holderPause(x, every, now, jitter)
	}
	d := vary(every, every/200, jitter)
	if s.Contested() {
		d = min(standbyEvery*every, standbyMost)
		if !s.Peer.HintedAt.IsZero() && now.Sub(s.Peer.HintedAt) < lag {
			d = min(d, lossEvery)
		}
	}
	if wait := s.Report.Spent.Next(now).Sub(now); wait > 0 {
		d = min(d, wait)
	}
	return d
}

// holderPause is the same for an address that is held here.
func (s *State) holderPause(x Situation, every time.Duration, now time.Time, jitter float64) time.Duration {
	d := min(holderEvery*every, max(every, holderMost))
	d = vary(d, d/10, jitter)
	if left := s.Change.At.Add(recheck).Sub(now); left > 0 {
		d = min(d, left)
	}
	if !s.shownIn(x) && now.Sub(s.Report.Since) < recheck {
		d = min(d, unshownEvery)
	}
	if now.Before(s.LostUntil) {
		d = min(d, lossEvery)
	}
	if s.Written.Tag.Leaving && now.Sub(s.Written.SeenAt) < tagEvery {
		d = min(d, tagCheckEvery)
	}
	if x.Identity.MetadataSilent {
		d = min(d, vary(silentEvery, silentEvery/10, jitter))
	}
	return d
}

// RetryMost is the longest pause after a failure, for an agent that has run for so long.
func RetryMost(states []*State, x Situation, running time.Duration) time.Duration {
	held := func(s *State) bool { return s.Report.Held() }
	lost := func(s *State) bool { return held(s) && !s.shownIn(x) }
	switch silent := x.Identity.MetadataSilent; {
	case running < young, !silent && slices.ContainsFunc(states, lost):
		return retryYoung
	case silent && slices.ContainsFunc(states, held):
		return silentEvery // nothing else would tell a loss
	}
	return retryMost
}

// Young reports whether the agent has run for so short a time that EC2 may not know the
// role or the address yet.
func Young(running time.Duration) bool { return running < young }

// shownIn reports whether instance metadata shows the address on this instance.
func (s *State) shownIn(x Situation) bool {
	return s.Report.Known && slices.Contains(x.Identity.Instance.PublicAddrs(), s.Report.Address.PublicIP)
}

// Follow takes a new situation after the one before, and returns when that is a reason to
// look at the address; zero is never.
func (s *State) Follow(was, x Situation, now time.Time) time.Time {
	held, shown, wasShown := s.Report.Held(), s.shownIn(x), s.shownIn(was)
	silent, wasSilent := x.Identity.MetadataSilent, was.Identity.MetadataSilent
	capable := func(x Situation) bool { return x.Ready && s.Uncovered(x) == "" }
	if shown {
		s.LostUntil = time.Time{}
	}
	switch {
	case held && !shown && (wasShown || wasSilent && !silent):
		s.LostUntil = now.Add(lossFor)
		return now
	case held && silent && !wasSilent:
		return now.Add(silentEvery) // nothing else would tell a loss
	case held:
		return time.Time{}
	case shown && !wasShown, capable(x) && !capable(was), was.Identity.Leaving() && !x.Identity.Leaving():
		return now
	}
	return time.Time{}
}
