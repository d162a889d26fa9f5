// Package address decides which Elastic IPs should be on this instance, whether one
// may be taken now, and when EC2 is asked again. It holds values and functions on them;
// package claim below it calls EC2, and package operator keeps what the operator said.
package address

import (
	"net/netip"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Policy says from whom the address may be taken.
type Policy string

// The policies, from the most patient to the boldest, and by hand.
const (
	// Wait takes the address only while it is free.
	Wait Policy = "wait"
	// Standby also takes it from an instance that is not running any more, or that
	// says it is leaving.
	Standby Policy = "standby"
	// Takeover also takes it from a running instance that was launched before this one.
	Takeover Policy = "takeover"
	// Manual takes it only when an operator says so.
	Manual Policy = "manual"
)

// DependsOnHolder reports whether it depends on the instance that holds the address
// whether it may be taken.
func (p Policy) DependsOnHolder() bool { return p == Standby || p == Takeover }

// Address is one Elastic IP as DescribeAddresses shows it.
type Address struct {
	AllocationID  string     `json:"allocation_id"`
	AssociationID string     `json:"association_id,omitempty"`
	PublicIP      netip.Addr `json:"public_ip"`
	InterfaceID   string     `json:"interface_id,omitempty"`
	InstanceID    string     `json:"instance_id,omitempty"`
	// PrivateAddr is the private address of the interface that it leads to.
	PrivateAddr netip.Addr `json:"private_addr,omitzero"`
	// BorderGroup is the network border group that advertises it; it cannot be
	// associated with an interface of another one.
	BorderGroup string `json:"border_group,omitempty"`
	// ServiceManaged names the service of AWS that manages it, e.g. "alb".
	ServiceManaged string `json:"service_managed,omitempty"`
	// HolderTag is the value of the tag TagKey.
	HolderTag string `json:"sign,omitempty"`
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

// String names the instance and its state, or else the kind of holder.
func (h Holder) String() string {
	switch {
	case h.InstanceID == "":
		return string(h.Kind)
	case h.State == "":
		return h.InstanceID
	}
	return h.InstanceID + " (" + h.State + ")"
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

// Gone reports whether the holder's state says that it serves no client any more.
// A state that is not known is not gone.
func (h Holder) Gone() bool {
	switch h.State {
	case "shutting-down", "terminated", "stopping", "stopped":
		return true
	}
	return false
}

// ClaimStatus is who holds one claimed address, and what was decided about it.
type ClaimStatus struct {
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
	Moves int `json:"moves"`
}

// Held reports whether this instance has the address, as far as is known.
func (s ClaimStatus) Held() bool { return s.Known && s.Holder.Kind == Self }

// Report is what is known about the claimed addresses, for status and metrics.
type Report struct {
	// ClaimStatus is that of the first one.
	ClaimStatus
	// Claims are all claims, the first one too, in the order of the configuration.
	Claims []ClaimReport `json:"claims,omitempty"`
	// Problems are those of all claims.
	Problems []problem.Problem `json:"problems,omitempty"`
}

// ClaimReport is what is known about one claimed address.
type ClaimReport struct {
	ClaimStatus
	// Place is where on this instance the address is or would be put.
	Place Place `json:"place"`
	// Verified is false from an association by this agent until EC2 has shown it.
	Verified bool `json:"verified"`
	// Released is true after the operator's release, until it is claimed again or the
	// host reboots.
	Released bool `json:"released,omitempty"`
	// Spent are the associations that count against the budget, oldest first.
	Spent Budget `json:"-"`
	// Seen is the present holder, for the next run.
	Seen Sighting `json:"-"`
	// HolderLeaving is true when another holder says that it is leaving.
	HolderLeaving bool              `json:"holder_leaving,omitempty"`
	Problems      []problem.Problem `json:"problems,omitempty"`
}

// All are the reports of all claims. A report without them tells of the first one alone.
func (r Report) All() []ClaimReport {
	if len(r.Claims) == 0 && r.Claim != "" {
		return []ClaimReport{{ClaimStatus: r.ClaimStatus, Verified: true}}
	}
	return r.Claims
}

// NewReport puts the reports of all claims into one.
func NewReport(claims []ClaimReport) Report {
	if len(claims) == 0 {
		return Report{}
	}
	r := Report{ClaimStatus: claims[0].ClaimStatus, Claims: claims}
	for _, c := range claims {
		r.Problems = append(r.Problems, c.Problems...)
	}
	return r
}

// Memory is what must outlive a restart of the agent, which may neither take back what
// the operator gave away nor restart the budget, and knows the holder since before. The keys are the texts of the claims.
type Memory struct {
	Released []string               `json:"released,omitempty"`
	Spent    map[string][]time.Time `json:"spent,omitempty"`
	Seen     map[string]Sighting    `json:"seen,omitempty"`
}

// Sighting is since when a holder has been seen: of an address that has gone and come back the association is another.
type Sighting struct {
	Address     string    `json:"address"`
	Association string    `json:"association,omitempty"`
	Instance    string    `json:"instance,omitempty"`
	Since       time.Time `json:"since"`
}

// Memory is what of the report must outlive a restart.
func (r Report) Memory() Memory {
	m := Memory{Released: r.Released()}
	for _, c := range r.Claims {
		if !c.Seen.Since.IsZero() {
			if m.Seen == nil {
				m.Seen = map[string]Sighting{}
			}
			m.Seen[c.Claim] = c.Seen
		}
		if len(c.Spent) > 0 {
			if m.Spent == nil {
				m.Spent = map[string][]time.Time{}
			}
			m.Spent[c.Claim] = c.Spent
		}
	}
	return m
}

// Released are the claims that the operator released.
func (r Report) Released() []string {
	var all []string
	for _, c := range r.Claims {
		if c.Released {
			all = append(all, c.Claim)
		}
	}
	return all
}

// Proof is one thing that was tried to see whether the claims can be kept.
type Proof struct {
	// What was tried: an action of EC2, e.g. "ec2:AssociateAddress", or "address",
	// whether a claim names one that can come here.
	What string
	// Claim is the text of the claim that it is about; empty is all.
	Claim string
	// Found is what was found where nothing is wrong.
	Found string
	// Problem is what is wrong; nil when nothing is. What only a better handover
	// needs is a warning.
	Problem *problem.Problem
}

// Situation is what the rest of the program knows that bears on the addresses.
type Situation struct {
	Identity identity.Identity
	// Ready says that this instance can serve what the address is for; Unready
	// says why not, as one clause.
	Ready   bool
	Unready string
	// LiveHosts are the host names that are served here now, as a holder tells them
	// to others and as they are compared with what a holder says: with HTTPSMark behind those
	// that are served over HTTPS with a certificate that is valid. Nil is unknown.
	LiveHosts []string
	// Named are the hosts that this instance must serve to be ready, if the operator named them. What
	// a holder says it serves does not matter then, but for the HTTPS of these.
	Named []string
}

// Request is what an operator asks to be done with the addresses.
type Request struct {
	// Claim is the text of the one claim that is meant; empty means all.
	Claim string `json:"claim,omitempty"`
	// Release gives the address away as soon as another instance is ready for it, and
	// this instance does not take it again until it is asked to; without it the address
	// is taken now.
	Release bool `json:"release,omitempty"`
	// Now lets a release not wait for another instance: the address is free then.
	Now bool `json:"now,omitempty"`
}
