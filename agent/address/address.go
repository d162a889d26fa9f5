// Package address decides which Elastic IP should be this instance's and whether
// it may be taken now. It holds values and one decision; package claim below it
// talks to EC2.
package address

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Claim names the Elastic IP that belongs to this instance, in one of three
// ways; the zero Claim names none.
type Claim struct {
	AllocationID string
	PublicIP     netip.Addr
	TagKey       string
	TagValue     string
}

// ParseClaim reads "eipalloc-…", an IPv4 address, or "tag:KEY=VALUE". The empty
// text is the zero Claim.
func ParseClaim(s string) (Claim, error) {
	if s == "" {
		return Claim{}, nil
	}
	if strings.HasPrefix(s, "eipalloc-") {
		return Claim{AllocationID: s}, nil
	}
	if rest, ok := strings.CutPrefix(s, "tag:"); ok {
		k, v, ok := strings.Cut(rest, "=")
		if !ok || k == "" {
			return Claim{}, fmt.Errorf("%q has no KEY=VALUE behind tag", s)
		}
		return Claim{TagKey: k, TagValue: v}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() {
		return Claim{}, fmt.Errorf("%q is neither an allocation id, nor an IPv4 address, nor tag:KEY=VALUE", s)
	}
	return Claim{PublicIP: a}, nil
}

// IsZero reports whether no address is claimed.
func (c Claim) IsZero() bool { return c == Claim{} }

// String writes what ParseClaim reads.
func (c Claim) String() string {
	switch {
	case c.AllocationID != "":
		return c.AllocationID
	case c.PublicIP.IsValid():
		return c.PublicIP.String()
	case c.TagKey != "":
		return "tag:" + c.TagKey + "=" + c.TagValue
	}
	return ""
}

// Policy says from whom the address may be taken.
type Policy string

// The policies, from the most patient to the boldest, and by hand.
const (
	// Wait takes the address only while nobody holds it.
	Wait Policy = "wait"
	// Standby also takes it from an instance that is not running any more.
	Standby Policy = "standby"
	// Takeover also takes it from a running instance that was launched before this one.
	Takeover Policy = "takeover"
	// Manual takes it only when an operator says so.
	Manual Policy = "manual"
)

// ParsePolicy reads a policy's word.
func ParsePolicy(s string) (Policy, error) {
	switch p := Policy(s); p {
	case Wait, Standby, Takeover, Manual:
		return p, nil
	}
	return "", errors.New(s + " is none of wait, standby, takeover, manual")
}

// Address is one Elastic IP as DescribeAddresses shows it.
type Address struct {
	AllocationID  string     `json:"allocation_id"`
	AssociationID string     `json:"association_id,omitempty"`
	PublicIP      netip.Addr `json:"public_ip"`
	InterfaceID   string     `json:"interface_id,omitempty"`
	InstanceID    string     `json:"instance_id,omitempty"`
}

// Holder is who has the address now.
type Holder struct {
	Kind HolderKind `json:"kind"`
	// InstanceID, State and LaunchedAt are known for instances; State is EC2's
	// word, e.g. "running", or empty when EC2 did not say.
	InstanceID string    `json:"instance_id,omitempty"`
	State      string    `json:"state,omitempty"`
	LaunchedAt time.Time `json:"launched_at,omitzero"`
}

// HolderKind tells the kinds of holders apart.
type HolderKind string

// Who may hold an address.
const (
	Nobody HolderKind = "nobody"
	Self   HolderKind = "this instance"
	Other  HolderKind = "another instance"
	// Service is a NAT gateway, a load balancer or whatever else is no instance:
	// an address with an association and no instance id.
	Service HolderKind = "a service"
)

// gone reports whether the holder's state says that it serves nobody any more.
// A state that is not known is not gone.
func (h Holder) gone() bool {
	switch h.State {
	case "shutting-down", "terminated", "stopping", "stopped":
		return true
	}
	return false
}

// Report is what is known about the claimed address, for status and metrics.
type Report struct {
	// Claim is empty when no address is claimed; nothing else is then filled in.
	Claim  string `json:"claim,omitempty"`
	Policy Policy `json:"policy,omitempty"`
	// Known is false until EC2 has been asked successfully once.
	Known   bool    `json:"known"`
	Address Address `json:"address"`
	Holder  Holder  `json:"holder"`
	// Since is when this agent first saw the present holder.
	Since time.Time `json:"since,omitzero"`
	// CheckedAt is when EC2 last answered; NextCheck when it is asked again.
	CheckedAt time.Time `json:"checked_at,omitzero"`
	NextCheck time.Time `json:"next_check,omitzero"`
	// Decision is the last decision, with its reason.
	Decision Decision `json:"decision"`
	// Moves counts the successful associations by this agent.
	Moves    int               `json:"moves"`
	Problems []problem.Problem `json:"problems,omitempty"`
}

// Held reports whether this instance has the address, as far as is known.
func (r Report) Held() bool { return r.Known && r.Holder.Kind == Self }

// Situation is what the rest of the program knows that bears on the address.
type Situation struct {
	Identity identity.Identity
	// Ready says that this instance can serve what the address is for; Unready
	// says why not, as one clause.
	Ready   bool
	Unready string
}
