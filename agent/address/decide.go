package address

import (
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
	// Released is true when an operator gave the address away and has not asked for
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
// two minutes, and its sign may take a quarter of one to be seen.
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
	// false EC2 refuses the call if somebody else was quicker.
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
	d := wanted(in)
	if d.Action != Take {
		return d
	}
	if at := in.Budget.Next(in.Now); at.After(in.Now) {
		return Decision{Action: Stay, Reason: "the budget of associations is used up until " + at.UTC().Format(time.TimeOnly) + " UTC"}
	}
	return d
}

// wanted decides without regard to the budget.
func wanted(in Input) Decision {
	stay := func(format string, args ...any) Decision {
		return Decision{Action: Stay, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case in.Holder.Kind == Service:
		return stay("it is held by a NAT gateway, a load balancer or another service")
	case in.Asked:
		return Decision{Action: Take, Reassociate: in.Holder.Kind != Nobody, Reason: "the operator asked for it"}
	case in.Released:
		return stay("the operator released it; 'nagaya address claim' takes it back")
	case in.Leaving:
		return stay("this instance is leaving")
	case in.Policy == Manual:
		return stay("policy manual: it is taken only by 'nagaya address claim'")
	case in.Holder.Kind == Nobody:
		return Decision{Action: Take, Reason: "nobody holds it"}
	case in.Policy == Wait:
		return stay("policy wait: %s holds it", in.Holder.InstanceID)
	case in.Holder.Gone():
		return Decision{Action: Take, Reassociate: true, Reason: fmt.Sprintf("its holder %s is %s", in.Holder.InstanceID, in.Holder.State)}
	case in.HolderLeaving:
		return relieve(in, stay)
	case in.Silent && in.Ready:
		return Decision{Action: Take, Reassociate: true, Reason: fmt.Sprintf("its holder %s does not answer any more, and this instance is ready", in.Holder.InstanceID)}
	case in.Silent:
		return stay("its holder %s does not answer any more, but this instance is not ready: %s", in.Holder.InstanceID, in.Unready)
	case in.Policy == Standby:
		return stay("policy standby: %s holds it and is %s", in.Holder.InstanceID, stateWord(in.Holder))
	}
	return takeover(in, stay)
}

// relieve is the rule for a running holder that says it is leaving.
func relieve(in Input, stay func(string, ...any) Decision) Decision {
	switch h := in.Holder.InstanceID; {
	case !in.Ready:
		return stay("its holder %s is leaving, but this instance is not ready: %s", h, in.Unready)
	case in.Uncovered != "" && in.HolderLeavingFor < coverPatience:
		return stay("its holder %s is leaving, but there is a minute to wait: %s", h, in.Uncovered)
	}
	return Decision{Action: Take, Reassociate: true, Reason: fmt.Sprintf("its holder %s is leaving, and this instance is ready", in.Holder.InstanceID)}
}

// takeover is the rule between two living instances. The newer one wins, and
// only the newer one: of any two, exactly one may ever take from the other, so
// they cannot take turns.
func takeover(in Input, stay func(string, ...any) Decision) Decision {
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
	return Decision{Action: Take, Reassociate: true, Reason: fmt.Sprintf("this instance is newer than its holder %s, and ready", h.InstanceID)}
}

func stateWord(h Holder) string {
	if h.State == "" {
		return "in a state that EC2 did not tell"
	}
	return h.State
}

// Budget bounds associations: AWS bills remaps beyond the first hundred in a
// month, and two agents at odds must not flap.
type Budget struct {
	spent []time.Time // oldest first, at most perHour
}

// NewBudget returns the budget after associations at those times, oldest first.
func NewBudget(spent []time.Time) Budget {
	if len(spent) > perHour {
		spent = spent[len(spent)-perHour:]
	}
	return Budget{spent: slices.Clone(spent)}
}

// Spent lists the associations that still count, oldest first.
func (b Budget) Spent() []time.Time { return slices.Clone(b.spent) }

const (
	perMinute = time.Minute
	perHour   = 10
)

// Next returns the first moment at or after now at which an association is
// allowed: at least a minute after the last, and at most ten in any hour.
func (b Budget) Next(now time.Time) time.Time {
	at := now
	if n := len(b.spent); n > 0 {
		if t := b.spent[n-1].Add(perMinute); t.After(at) {
			at = t
		}
		if n >= perHour {
			if t := b.spent[n-perHour].Add(time.Hour); t.After(at) {
				at = t
			}
		}
	}
	return at
}

// Spend returns the budget after an association at now.
func (b Budget) Spend(now time.Time) Budget {
	return NewBudget(append(b.Spent(), now))
}
