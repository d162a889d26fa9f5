package certs

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The values here flow between the packages beneath: order decides by this package what to order,
// acme speaks with a CA, zone changes a DNS zone, store keeps what must outlive the instance.

// KeyType is the kind of a certificate's key.
type KeyType string

// The kinds of keys.
const (
	ECDSA KeyType = "p256" // ECDSA on the curve P-256, the default
	RSA   KeyType = "rsa2048"
)

// Wish is what a site asks for: one certificate for its names.
type Wish struct {
	// Host is the site's, as in route.Site; Family holds it.
	Host   string `json:"host"`
	Family string `json:"family"`
	// Names are what the certificate is for: DNS names in lower case and ASCII, wildcards, or one
	// IP address. They are sorted, each once, at most 100 (the bound of Let's Encrypt).
	Names []string `json:"names"`
	// KeyType, Profile and Directory are what the site asks for; empty is what the operator set.
	// A directory or profile that the operator did not allow is a problem and is not asked for.
	KeyType   KeyType `json:"key_type,omitempty"`
	Profile   string  `json:"profile,omitempty"`
	Directory string  `json:"directory,omitempty"`
}

// Held is a certificate in the store, without its key.
type Held struct {
	ID      string   `json:"id,omitempty"`
	Names   []string `json:"names"` // sorted
	KeyType KeyType  `json:"key_type,omitempty"`
	// Directory is the ACME directory that it is from; Imported is true for what 'nagaya certs
	// import' brought.
	Directory string    `json:"directory,omitempty"`
	Profile   string    `json:"profile,omitempty"`
	Imported  bool      `json:"imported,omitempty"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	Issuer    string    `json:"-"` // as Pair.Issuer
	// CertID identifies it to the CA (RFC 9773, section 4.1); empty where it has no key
	// identifier of its authority, or a number or identifier of absurd length: a ledger keeps it.
	CertID string `json:"-"`
	// Number counts the certificates as this agent came to know them: one that it has learned of later has a higher one.
	Number uint64 `json:"-"`
}

// Bundle is one certificate with its key and all that belongs to it: one object of the store,
// so that it is read and written as a whole.
type Bundle struct {
	Held
	// Chain and Key are PEM: the certificate of the host first, and its key.
	Chain string `json:"chain"`
	Key   string `json:"key"`
	// Saved is when it was written, by the writer's clock, and Writer who wrote it.
	Saved  time.Time `json:"saved"`
	Writer string    `json:"writer"`
}

// Window is when a certificate should be renewed (RFC 9773): what the CA says, or what follows
// from its lifetime.
type Window struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Again is when the CA is to be asked again.
	Again time.Time `json:"again,omitzero"`
	// Supported is false where the CA does not know the certificate or has no such answers.
	Supported bool `json:"supported"`
}

// Account is one at a CA: an object of the store.
type Account struct {
	Directory string `json:"directory"`
	URL       string `json:"url,omitempty"` // empty until the CA has it
	Email     string `json:"email,omitempty"`
	Key       string `json:"key"` // PEM, ECDSA P-256
}

// Binding is an external account binding (RFC 8555, section 7.3.4).
type Binding struct {
	KeyID  string
	MACKey string // base64url, as the CA gives it
}

// Order is what is asked of a CA.
type Order struct {
	Names    []string
	Profile  string
	Replaces string // identifier of the certificate that it renews (RFC 9773, section 5); empty is none
}

// Challenge is one that proves control of a name.
type Challenge struct {
	Name string `json:"name"` // as in the order, with the wildcard's "*." if it has one
	Type string `json:"type"` // HTTP01 or DNS01
	URL  string `json:"url"`  // of the challenge
	Auth string `json:"auth"` // URL of its authorization
	// Token and Answer are for HTTP-01: the last part of the path and the body of the answer.
	Token  string `json:"token,omitempty"`
	Answer string `json:"answer,omitempty"`
	// Record and Value are for DNS-01: the full name of the TXT record, without the last dot, and its text.
	Record string `json:"record,omitempty"`
	Value  string `json:"value,omitempty"`
}

// The kinds of challenges (RFC 8555, section 8).
const (
	HTTP01 = "http-01"
	DNS01  = "dns-01"
)

// Pending is an order at a CA that is under way. It is kept in the store, so that another agent, or the same
// after a restart, goes on with it.
type Pending struct {
	URL        string      `json:"url"`
	Names      []string    `json:"names"`
	Finalize   string      `json:"finalize"`
	Expires    time.Time   `json:"expires,omitzero"`
	Challenges []Challenge `json:"challenges,omitempty"` // those that have still to be answered
}

// ErrNotFound is returned by a store for an object that is not there.
var ErrNotFound = errors.New("there is no such object")

// ErrConflict is returned by a store where an object is not what the writer saw: nothing was written.
var ErrConflict = errors.New("another writer was first")

// CAError is what a CA, or the way to it, answered.
type CAError struct {
	Directory string
	// Status is that of HTTP, 0 where there was no answer. Type is the last part of the problem's
	// URN (RFC 8555, section 6.7), as "rateLimited", or one of the constants below; empty for none.
	// Detail is the CA's text, or says more about the constant; at most 1,000 bytes.
	Status int
	Type   string
	Detail string
	// RetryAfter is until when the CA wants to be left alone, at most a week from now; zero if it did not say.
	RetryAfter time.Time
	// Names are those that the CA refused, where it named them: names of the order.
	Names []string
	// Over is true where an order can succeed no more: another one has to be begun.
	Over bool
	Err  error
}

// What is wrong by the agent's own judgement, instead of a problem's type. Those of CAs that decide
// something are beside them.
const (
	ProfileNotOffered   = "profileNotOffered"   // the directory does not have the profile; Detail names those that it has
	ChallengeNotOffered = "challengeNotOffered" // none of the wanted kinds for Names
	AccountDeactivated  = "accountDeactivated"  // the CA knows the account and serves it no more
	AccountRefused      = "accountRefused"      // the CA makes no account; Detail has the type of its problem
	WrongCertificate    = "wrongCertificate"    // the chain is not for the key and the names, or not valid now

	AccountDoesNotExist = "accountDoesNotExist" // the account has to be registered again
	AlreadyReplaced     = "alreadyReplaced"     // order again without Replaces (RFC 9773, section 5)
	RateLimited         = "rateLimited"
)

func (e *CAError) Error() string {
	status := ""
	if e.Status >= 400 {
		status = fmt.Sprintf(" %d", e.Status)
	}
	switch {
	case e.Type != "" || e.Detail != "":
		return fmt.Sprintf("%s:%s %s: %.300q", e.Directory, status, e.Type, e.Detail)
	case e.Status != 0:
		return fmt.Sprintf("%s answered%s: %v", e.Directory, status, e.Err)
	}
	return fmt.Sprintf("%s does not answer: %v", e.Directory, e.Err)
}

func (e *CAError) Unwrap() error { return e.Err }

// Place is where the public names of this instance must lead, so that HTTP-01 passes here.
type Place struct {
	// Known is false until it is known whether this instance has the address.
	Known bool
	// Here is true where requests to Addresses come to this instance.
	Here      bool
	Addresses []netip.Addr
}
