package certs

import "time"

// What a ledger has hundreds of has hashes for what it is about.

// Noted is an order.
type Noted struct {
	At time.Time `json:"at"`
	// In is how long it counts for its set of names.
	In    time.Duration `json:"in,omitempty"`
	State string        `json:"state"`
	// Set is the hash of the names; of a renewal that of the certificate's id.
	Set    string `json:"set"`
	Family string `json:"family"`
	// Domains are registered ones that it counts for; none for a renewal.
	Domains []string `json:"domains,omitempty"`
}

// The states of an order: it may still lead to a certificate, it has, or it has not.
const (
	stateOpen   = "open"
	stateIssued = "issued"
	stateFailed = "failed"
)

// size is about the most that it takes as JSON, in bytes.
func (o Noted) size() int { return 180 + 15*len(o.Domains) }

// Failed is a name that failed, or is being tried.
type Failed struct {
	// Count is how often it failed since it last had a certificate; Open how many attempts began that
	// nobody has ended since.
	Count int `json:"count,omitempty"`
	Open  int `json:"open,omitempty"`
	// Last is when it was tried last, Until when the CA wants no more of it.
	Last  time.Time `json:"last"`
	Until time.Time `json:"until,omitzero"`
	// Passed is true where the staging directory has issued a certificate for it since.
	Passed bool `json:"passed,omitempty"`
	// Recent are the last failures that a CA counts, at most mostFailures.
	Recent []time.Time `json:"recent,omitempty"`
	// Reason is what the CA said.
	Reason string `json:"reason,omitempty"`
}

// Contact is one attempt or question that has not ended well.
type Contact struct {
	At  time.Time `json:"t"`
	Key string    `json:"k"`
}

// Asked is what a CA said about the renewal of a certificate.
type Asked struct {
	Window
	// NotAfter is of the certificate that it is about: a newer one is asked for again.
	NotAfter time.Time `json:"not_after"`
	// Replaced is the identifier of a certificate of which the CA says that it was replaced before.
	Replaced string `json:"replaced,omitempty"`
}
