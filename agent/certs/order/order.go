// Package order gets certificates and renews them: it keeps the store, the local copy, the CA and
// the challenges as package certs decides.
package order

import (
	"context"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// Store keeps what must outlive the instance. Objects are small (certs.MaxObject) and change by
// compare-and-swap alone: nobody locks, nobody deletes.
type Store interface {
	// List returns the versions of all objects whose names begin with prefix, at most 10,000.
	List(ctx context.Context, prefix string) (map[string]string, error)
	// Get returns an object and its version, or certs.ErrNotFound.
	Get(ctx context.Context, name string) (body []byte, version string, err error)
	// Put writes an object if its version is still the given one; "" is for one that is not there
	// yet. It returns the new version, or certs.ErrConflict. Every body differs from all others
	// (it names its writer and has a number or time), so that a write whose answer was lost is recognised.
	Put(ctx context.Context, name string, body []byte, version string) (string, error)
}

// CA speaks with one ACME directory. Its errors are *certs.CAError, but those of a key or request (CSR) that
// cannot be read.
type CA interface {
	// Register makes the account, or finds the one that its key has, and returns it with its URL. It may be
	// called again at any time, as when an order is refused as unauthorized: certs.AccountDeactivated
	// says that another key is needed.
	Register(ctx context.Context, a certs.Account, eab certs.Binding) (certs.Account, error)
	// Begin makes an order and says what has to be answered. The kinds are HTTP01 and DNS01 in the
	// order in which they are preferred, for each name.
	Begin(ctx context.Context, a certs.Account, o certs.Order, kinds func(name string) []string) (certs.Pending, error)
	// Finish has the CA look at the answers, waits for it, and returns the chain as PEM for the request (CSR,
	// DER). It goes on with an order that an agent left in any state, and waits 3 minutes at most. Where Over is
	// false in its error, it may be called again for the same order.
	Finish(ctx context.Context, a certs.Account, p certs.Pending, csr []byte) (chain string, err error)
	// Renewal asks when the certificate with that certs.Held.CertID should be renewed.
	Renewal(ctx context.Context, certID string) (certs.Window, error)
}

// DNS changes TXT records.
type DNS interface {
	// Covers reports whether the name is in one of the zones.
	Covers(name string) bool
	// Add adds a value to the record, beside others that are there, and returns when all name servers have it.
	Add(ctx context.Context, record, value string) error
	// Remove takes it away again; a record or value that is not there is no error.
	Remove(ctx context.Context, record, value string) error
}
