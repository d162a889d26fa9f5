package address

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/identity"
)

// State is what this instance knows about one claimed address, and what it did with it.
// Its methods are told what was seen and when.
type State struct {
	Claim  Claim
	Report ClaimReport
	// Requested is true while an operator's request for the address is carried out.
	Requested bool
	// Failed is true when the last look at the address failed or its decision could not
	// be carried out, and Outdated when EC2 showed what was before this agent's own last
	// change.
	Failed, Outdated bool
	Change           Change
	Peer             Peer
	Written          Written
	// LostUntil is until when the address is probably lost: instance metadata has ceased
	// to show it, and EC2 still does.
	LostUntil time.Time
}

// Change is what this agent did last: it made this association, or it ended it.
type Change struct {
	Association string
	Ended       bool
	At          time.Time
}

// Peer is what is known about another instance that holds the address.
type Peer struct {
	// Instance is what EC2 said; it is empty where the policy does not depend on it.
	Instance Instance
	// HintedAt is when its hint tag was seen to change, and LeavingSince since when its
	// holder tag says that it leaves.
	HintedAt, LeavingSince time.Time
	// AnsweredAt is when it last answered over the network, and Silent is true when that
	// is too long ago.
	AnsweredAt time.Time
	Silent     bool
}

// Instance is what EC2 says about one instance; the zero Instance is one that EC2 does
// not know.
type Instance struct {
	ID          string
	State       string // EC2's word, e.g. "running"
	LaunchedAt  time.Time
	HintTag     string // the value of its tag TagKey
	PublicAddrs []netip.Addr
	// Interfaces have the private addresses that a claimed address can go to.
	Interfaces []Interface
}

// Written is the holder tag of an address that is held here.
type Written struct {
	Tag HolderTag
	// At is when this agent wrote it, zero if another did; SeenAt is when it was last
	// read or written.
	At, SeenAt time.Time
}

// lag is for how long after a change EC2 may show what was before it.
const lag = 15 * time.Second

// NewState is what is known about a claim at first.
func NewState(c Claim, p Policy, m Memory) *State {
	text := c.String()
	return &State{Claim: c, Report: ClaimReport{ClaimStatus: ClaimStatus{Claim: text, Policy: p}, Released: slices.Contains(m.Released, text), Spent: m.Spent[text], Seen: m.Seen[text]}}
}

// Contested reports whether it depends on its holder whether the address may be taken.
func (s *State) Contested() bool {
	return s.Report.Known && s.Report.Holder.Kind == Other && s.Report.Policy.DependsOnHolder()
}

// AllocationID is that of the address as far as it is known.
func (s *State) AllocationID() string {
	return cmp.Or(s.Report.Address.AllocationID, s.Claim.AllocationID)
}

// Want is what has to be placed on this instance.
func (s *State) Want() Want {
	w := Want{Claim: s.Claim}
	if s.Report.Held() {
		w.Here = Place{InterfaceID: s.Report.Address.InterfaceID, PrivateAddr: s.Report.Address.PrivateAddr}
	}
	return w
}

// Misplaced reports whether the address is held here, but not where its claim says.
func (s *State) Misplaced() bool {
	a, at := s.Report.Address, s.Claim.Place
	return s.Report.Held() && (at.InterfaceID != "" && at.InterfaceID != a.InterfaceID || at.PrivateAddr.IsValid() && at.PrivateAddr != a.PrivateAddr)
}

// KindOfHolder says who holds the address, seen from this instance.
func KindOfHolder(a Address, self identity.Instance) HolderKind {
	switch {
	case a.AssociationID != "" && (a.InterfaceID == self.Primary.ID || a.InstanceID == self.ID):
		return Self
	case a.AssociationID == "" && a.ServiceManaged == "":
		return Nobody
	case a.InstanceID == "" || a.ServiceManaged != "":
		return Service
	}
	return Other
}

// Observe takes what EC2 shows: the address, and the instances that were asked for. It
// records nothing while that is Outdated.
func (s *State) Observe(a Address, asked map[string]Instance, self identity.Instance, now time.Time) {
	c := s.Change
	s.Outdated = c.Association != "" && now.Sub(c.At) < lag && c.Ended == (c.Association == a.AssociationID)
	if s.Outdated {
		return
	}
	h := Holder{Kind: KindOfHolder(a, self)}
	switch h.Kind {
	case Self:
		h.InstanceID, h.State = self.ID, "running"
		s.Report.Verified = true
		// The tag may be overwritten by an instance that does not know yet that it has
		// lost the address.
		if shown := holderTagOf(a, h); !shown.Equal(s.Written.Tag) && now.Sub(s.Written.SeenAt) >= lag {
			s.Written = Written{Tag: shown, SeenAt: now}
		}
	case Other:
		is, known := asked[a.InstanceID]
		h.InstanceID, h.State, h.LaunchedAt = a.InstanceID, is.State, is.LaunchedAt
		// EC2 may not show yet an instance that has just begun.
		if known && is.ID == "" && s.Report.Holder.InstanceID == a.InstanceID && now.Sub(s.Report.Since) >= lag/2 {
			h.State = "terminated"
		}
		if is.HintTag != s.Peer.Instance.HintTag {
			s.Peer.HintedAt = now
		}
		s.Peer.Instance = is
	}
	s.Record(a, h, now)
}

// Record takes who holds the address.
func (s *State) Record(a Address, h Holder, now time.Time) {
	r := &s.Report
	seen := Sighting{Address: a.PublicIP.String(), Association: a.AssociationID, Instance: h.InstanceID}
	if !r.Known || r.Holder.Kind != h.Kind || r.Holder.InstanceID != h.InstanceID {
		r.Since = now
		if seen.Since = r.Seen.Since; !r.Known && seen == r.Seen {
			r.Since = r.Seen.Since
		}
		s.Peer.LeavingSince, s.Peer.AnsweredAt, s.Peer.Silent = time.Time{}, time.Time{}, false
		if h.Kind == Self {
			s.Written.Tag, s.Written.SeenAt = holderTagOf(a, h), now
		}
	}
	seen.Since = r.Since
	r.Known, r.Address, r.Holder, r.CheckedAt, r.Seen = true, a, h, now, seen
	r.HolderLeaving = h.Kind == Other && holderTagOf(a, h).Leaving
	switch {
	case !r.HolderLeaving:
		s.Peer.LeavingSince = time.Time{}
	case s.Peer.LeavingSince.IsZero():
		s.Peer.LeavingSince = now
	}
}

// Associated takes that this agent has associated the address with a place here.
func (s *State) Associated(association string, at Place, self string, now time.Time) {
	a := s.Report.Address
	a.AssociationID, a.InterfaceID, a.PrivateAddr, a.InstanceID = association, at.InterfaceID, at.PrivateAddr, self
	s.Change = Change{Association: association, At: now}
	s.Report.Moves++
	s.Report.Verified = false
	s.Record(a, Holder{Kind: Self, InstanceID: self, State: "running"}, now)
}

// Disassociated takes that this agent has ended its own association.
func (s *State) Disassociated(now time.Time) {
	a := s.Report.Address
	s.Change = Change{Association: a.AssociationID, Ended: true, At: now}
	a.AssociationID, a.InterfaceID, a.PrivateAddr, a.InstanceID = "", "", netip.Addr{}, ""
	s.Record(a, Holder{Kind: Nobody}, now)
}

// HolderChanged reports whether what EC2 says now about the instance that holds the
// address is a reason to look at the address itself.
func (s *State) HolderChanged(is Instance) bool {
	return is.ID == "" || is.State != s.Report.Holder.State || is.HintTag != s.Peer.Instance.HintTag || !slices.Contains(is.PublicAddrs, s.Report.Address.PublicIP)
}

// Answered takes whether the holder answered over the network, and reports whether it has
// just become silent. One that never answered this instance is not silent, because a
// firewall may lie between the two.
func (s *State) Answered(yes bool, patience time.Duration, now time.Time) bool {
	p := &s.Peer
	if yes {
		p.AnsweredAt, p.Silent = now, false
		return false
	}
	was := p.Silent
	p.Silent = p.Silent || !p.AnsweredAt.IsZero() && now.Sub(p.AnsweredAt) >= patience
	return p.Silent && !was
}

// Uncovered says, as one clause, what the holder serves and this instance does not.
// Where the operator named the hosts that matter, nothing else does.
func (s *State) Uncovered(x Situation) string {
	tag := holderTagOf(s.Report.Address, s.Report.Holder)
	if len(x.Named) > 0 {
		return tag.missingOf(x.Named, x.LiveHosts)
	}
	return tag.Missing(x.LiveHosts)
}

// Input is what a decision about the address depends on.
func (s *State) Input(x Situation, launched, now time.Time) Input {
	in := Input{
		Policy: s.Report.Policy, Holder: s.Report.Holder, LaunchedAt: launched,
		Ready: x.Ready, Unready: x.Unready, Uncovered: s.Uncovered(x),
		Leaving: x.Identity.Leaving(), Asked: s.Requested, Released: s.Report.Released,
		HolderLeaving: s.Report.HolderLeaving, Silent: s.Peer.Silent, Budget: s.Report.Spent, Now: now,
	}
	if !s.Peer.LeavingSince.IsZero() {
		in.HolderLeavingFor = now.Sub(s.Peer.LeavingSince)
	}
	return in
}

const (
	// hostsStable is how long the live hosts must not have changed before the tag says
	// so: a deployment takes hosts away for a moment.
	hostsStable = time.Minute
	// tagEvery is the least time between two tags that differ only in the hosts.
	tagEvery = 10 * time.Minute
)

// NextTag is the holder tag that the address should have while it is held here, and when
// it is to be written; zero is not. The hosts here changed last at hostsChanged.
func (s *State) NextTag(x Situation, hostsChanged, now time.Time) (HolderTag, time.Time) {
	tag := NewHolderTag(x.Identity.Instance.ID, now, x.Identity.Leaving() || s.Report.Released, x.LiveHosts)
	w, at := s.Written, now
	if tag.Leaving == w.Tag.Leaving {
		if tag.Leaving || x.LiveHosts == nil || tag.sameHosts(w.Tag) {
			return tag, time.Time{}
		}
		at = latest(at, hostsChanged.Add(hostsStable))
		if !w.At.IsZero() {
			at = latest(at, w.At.Add(tagEvery))
		}
	}
	return tag, latest(at, s.LostUntil) // while it is probably lost it is not ours to write on
}
