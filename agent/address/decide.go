package address

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Input is everything that the decision depends on.
type Input struct {
	Policy Policy
	Holder Holder
	// LaunchedAt is when this instance was launched, by EC2's clock like the holder's.
	LaunchedAt time.Time
	// Ready says that this instance can serve; Unready says why not.
	Ready   bool
	Unready string
	// Uncovered says what the holder serves and this instance does not, as one
	// clause; empty when there is nothing such, or it is not known, or does not matter.
	Uncovered string
	// Leaving is true when this instance was told that it will go away.
	Leaving bool
	// Asked is true when an operator wants the address here now.
	Asked bool
	// Released is true when an operator released the address and has not asked for
	// it since.
	Released bool
	// HolderLeaving is true when the holder says that it goes away, and
	// HolderLeavingFor how long this instance has known that.
	HolderLeaving    bool
	HolderLeavingFor time.Duration
	// Silent is true when the holder, which used to answer this instance, has not
	// answered for as long as the operator lets pass.
	Silent bool
	Budget Budget
	Now    time.Time
}

// coverPatience is how long an instance that is ready, but serves less than the
// holder, leaves the address with a holder that is leaving. A Spot Instance has
// two minutes, and its holder tag may take a quarter of one to be seen.
const coverPatience = time.Minute

// Action is what to do about the address.
type Action string

// What may be done.
const (
	// Keep: it is ours, no call is made.
	Keep Action = "keep"
	// Take: associate it with this instance.
	Take Action = "take"
	// Stay: leave it where it is, and look again.
	Stay Action = "stay"
)

// Decision says what to do and why.
type Decision struct {
	Action Action `json:"action,omitempty"`
	// Reassociate is true when the address is taken from a holder. When it is
	// false EC2 refuses the call if another instance was quicker.
	Reassociate bool `json:"reassociate,omitempty"`
	// Reason is one clause without a full stop.
	Reason string `json:"reason,omitempty"`
}

// Decide says whether the address may be taken now. It is a function of its
// input alone.
func Decide(in Input) Decision {
	if in.Holder.Kind == Self {
		return Decision{Action: Keep, Reason: "this instance holds it"}
	}
	d := decideUnbudgeted(in)
	if d.Action != Take {
		return d
	}
	if at := in.Budget.Next(in.Now); at.After(in.Now) {
		return Decision{Action: Stay, Reason: "the budget of associations (one a minute, ten an hour) is used up until " + at.UTC().Format(time.TimeOnly) + " UTC"}
	}
	return d
}

// decideUnbudgeted decides without regard to the budget.
func decideUnbudgeted(in Input) Decision {
	h := in.Holder
	switch {
	case h.Kind == Service:
		return stay("it is held by a NAT gateway, a load balancer or another service")
	case in.Asked:
		return Decision{Action: Take, Reassociate: h.Kind != Nobody, Reason: "the operator asked for it"}
	case in.Released:
		return stay("the operator released it; 'nagaya address claim' takes it back")
	case in.Leaving:
		return stay("this instance is leaving")
	case in.Policy == Manual:
		return stay("policy manual: it is taken only by 'nagaya address claim'")
	case h.Kind == Nobody:
		return Decision{Action: Take, Reason: "it is free"}
	case in.Policy == Wait:
		return stay("policy wait: %s holds it", h.InstanceID)
	case h.Gone():
		return takeFrom("its holder %s is %s", h.InstanceID, h.State)
	case in.HolderLeaving:
		return decideLeaving(in)
	case in.Silent && in.Ready:
		return takeFrom("its holder %s does not answer any more, and this instance is ready", h.InstanceID)
	case in.Silent:
		return stay("its holder %s does not answer any more, but this instance is not ready: %s", h.InstanceID, in.Unready)
	case in.Policy == Standby:
		return stay("policy standby: %s holds it and is %s", h.InstanceID, cmp.Or(h.State, "in a state that EC2 did not tell"))
	}
	return decideRunning(in)
}

// decideLeaving is the rule for a running holder that says it is leaving.
func decideLeaving(in Input) Decision {
	switch h := in.Holder.InstanceID; {
	case !in.Ready:
		return stay("its holder %s is leaving, but this instance is not ready: %s", h, in.Unready)
	case in.Uncovered != "" && in.HolderLeavingFor < coverPatience:
		return stay("its holder %s is leaving, but there is a minute to wait: %s", h, in.Uncovered)
	}
	return takeFrom("its holder %s is leaving, and this instance is ready", in.Holder.InstanceID)
}

// decideRunning is the rule between two running instances. Only the newer one may take
// the address from the other, so they cannot take turns.
func decideRunning(in Input) Decision {
	h := in.Holder
	switch {
	case h.LaunchedAt.IsZero() || in.LaunchedAt.IsZero():
		return stay("it is not known whether %s is older than this instance", h.InstanceID)
	case !in.LaunchedAt.After(h.LaunchedAt):
		return stay("its holder %s is not older than this instance", h.InstanceID)
	case !in.Ready:
		return stay("this instance is not ready to take it from %s: %s", h.InstanceID, in.Unready)
	case in.Uncovered != "":
		return stay("this instance does not serve all that %s does: %s", h.InstanceID, in.Uncovered)
	}
	return takeFrom("this instance is newer than its holder %s, and ready", h.InstanceID)
}

func stay(format string, args ...any) Decision {
	return Decision{Action: Stay, Reason: fmt.Sprintf(format, args...)}
}

func takeFrom(format string, args ...any) Decision {
	return Decision{Action: Take, Reassociate: true, Reason: fmt.Sprintf(format, args...)}
}

// Budget bounds associations, because AWS bills remaps beyond the first hundred in a
// month, and two agents at odds must not flap. It holds the times of the associations that
// count, oldest first.
type Budget []time.Time

const (
	perMinute = time.Minute
	perHour   = 10
)

// Next returns the first moment at or after now at which an association is
// allowed: at least a minute after the last, and at most ten in any hour.
func (b Budget) Next(now time.Time) time.Time {
	b = b.until(now)
	at := now
	if n := len(b); n > 0 {
		at = latest(at, b[n-1].Add(perMinute))
		if n >= perHour {
			at = latest(at, b[n-perHour].Add(time.Hour))
		}
	}
	return at
}

// Spend returns the budget after an association at now.
func (b Budget) Spend(now time.Time) Budget {
	b = append(b.until(now), now)
	return b[max(0, len(b)-perHour):]
}

// until is the budget without what is still to come: the clock was set back since.
func (b Budget) until(now time.Time) Budget {
	return slices.DeleteFunc(slices.Clone(b), now.Before)
}

func latest(a, b time.Time) time.Time {
	return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare)
}

// earliest is the earlier of both; the zero time is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
