package certs

import (
	"net/netip"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Input is all that Decide knows.
type Input struct {
	Now      time.Time
	Settings Settings
	// Wishes are what all sites ask for. WishesKnown is false until the table is known, and StoreRead
	// until the whole store was read: before, nothing is ordered.
	Wishes      []Wish
	WishesKnown bool
	StoreRead   bool
	// Since is when each host, by Wish.Host, was first seen to ask.
	Since map[string]time.Time
	// Files are the operator's; Issued in it is not looked at.
	Files Inventory
	Held  []Held
	// Ledgers are by directory. From one whose ledger was not read nothing is ordered.
	Ledgers map[string]Ledger
	Leases  []Lease
	Place   Place
	// Covers reports whether a zone that the agent may change has the name; nil is never.
	Covers func(name string) bool
	// Leads are where names lead, as they were looked up.
	Leads map[string]Lead
	// Asked are the hosts of which the operator wants a new certificate now, and since when.
	Asked map[string]time.Time
}

// Lease is the object of a set of names in the store that an agent orders, or has ordered.
type Lease struct {
	ID string
	// Running is true where this process orders it; Live where the lease of another has not run out.
	Running, Live bool
	// Directory and At are those of the pending order, as in Start; empty for none.
	Directory, At string
}

// Lead is where a name leads by the public DNS.
type Lead struct {
	At        time.Time
	Addresses []netip.Addr
	// Err is why it could not be looked up, in the resolver's words.
	Err string
}

// Decision is what is to be done.
type Decision struct {
	// Start are the orders that may begin now, the one that is needed soonest first; at most as many
	// as may run at once.
	Start []Start
	// Ask are the certificates of which the CA is to be asked now when to renew them: at most one for
	// each directory. Look are names to look up now.
	Ask  []Held
	Look []string
	// Next is when to decide again at the latest, if nothing changes; zero for never.
	Next time.Time
	// Entries are for the report, sorted by host. Wanted are the ids of the certificates that sites
	// ask for.
	Entries  []Entry
	Wanted   []string
	Problems []problem.Problem
}

// Start is an order that may begin, or be resumed.
type Start struct {
	ID      string
	Host    string
	Family  string
	Names   []string
	KeyType KeyType
	// Directory is the CA whose ledger the attempt is noted in. At is where the order goes: the same,
	// or its staging directory, whose certificate is thrown away.
	Directory string
	At        string
	Profile   string
	// Replaces is the identifier of the certificate that it renews, for Order; empty for none.
	Replaces string
	// Lifetime is that of the certificate that it renews; 0 for none.
	Lifetime time.Duration
	// Kinds are the kinds of challenges for each name, the preferred one first.
	Kinds map[string][]string
	// Resume is true where Lease has a pending order at At, which goes on.
	Resume bool
}

// Trial reports whether the order is a trial at the staging directory.
func (s Start) Trial() bool { return s.At != s.Directory }

// Decide says what is to be done.
func Decide(in Input) Decision { return Decision{} }
