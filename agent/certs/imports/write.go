package imports

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/proc"
)

// Store is where certificates are kept. Put writes an object if its version is still the given one,
// "" for none; else its error is certs.ErrConflict, as that of Get is certs.ErrNotFound for one that is not there.
type Store interface {
	Get(ctx context.Context, name string) (body []byte, version string, err error)
	Put(ctx context.Context, name string, body []byte, version string) (string, error)
}

// Outcome is what was done with a certificate.
type Outcome string

// The outcomes.
const (
	Imported Outcome = "imported"
	Wanted   Outcome = "would-import" // in a dry run
	Present  Outcome = "present"      // the store has this one, or one that was issued later
	LeftOut  Outcome = "left-out"     // Found.Why says why
	Failed   Outcome = "failed"       // the store could not be read or written
)

// Result is what became of a certificate. Note says why, where it was not imported.
type Result struct {
	certs.Found
	Outcome Outcome `json:"outcome"`
	Note    string  `json:"note,omitempty"`
}

// maxTries bounds how often one object is written again because another writer was first.
const maxTries = 5

// Write brings the certificates that can be used into the store, where they replace what is there for the same names
// and kind of key, as agents see it (certs.Held.Replaces). In a dry run it writes nothing.
func Write(ctx context.Context, s Store, found []certs.Found, dry bool) []Result {
	results := make([]Result, len(found))
	for i, f := range found {
		r := Result{Found: f, Outcome: LeftOut, Note: f.Why}
		if f.Why == "" {
			r.Outcome, r.Note = write(ctx, s, f.Bundle(), dry)
		}
		results[i] = r
	}
	return results
}

func write(ctx context.Context, s Store, b certs.Bundle, dry bool) (Outcome, string) {
	name := "certs/" + b.ID + ".json"
	for range maxTries {
		body, version, err := s.Get(ctx, name)
		if err != nil && !errors.Is(err, certs.ErrNotFound) && !errors.Is(err, certs.ErrUnusable) {
			return Failed, err.Error()
		}
		// What cannot be used is replaced.
		if old, wrong := certs.DecodeBundle(b.ID, body); err == nil && wrong == nil && !replaces(b, old) {
			if old.Chain == b.Chain {
				return Present, "the store has it"
			}
			return Present, fmt.Sprintf("the store has one that was issued on %s and is valid until %s", old.NotBefore.UTC().Format(time.DateOnly), old.NotAfter.UTC().Format(time.DateOnly))
		}
		if dry {
			return Wanted, ""
		}
		b.Saved, b.Writer = time.Now().UTC(), "import-"+rand.Text() // no two bodies are equal
		if body, err = json.Marshal(b); err != nil {
			return Failed, err.Error()
		}
		if _, err = s.Put(ctx, name, body, version); err == nil {
			return Imported, ""
		}
		if !errors.Is(err, certs.ErrConflict) {
			return Failed, err.Error()
		}
	}
	return Failed, fmt.Sprintf("another writer was first, %d times", maxTries)
}

// replaces compares two that were checked.
func replaces(b, old certs.Bundle) bool {
	h, _ := b.Held()
	there, _ := old.Held()
	return h.Replaces(there, time.Now())
}

// Report is what an import came to.
type Report struct {
	Store        string   `json:"store"`
	Certificates []Result `json:"certificates"`
	// Unread says what could not be read.
	Unread []string `json:"unread,omitempty"`
}

// Count returns how many certificates have the outcome.
func (r Report) Count(o Outcome) (n int) {
	for _, one := range r.Certificates {
		if one.Outcome == o {
			n++
		}
	}
	return n
}

// Failed reports whether something that may be needed is not in the store: a certificate that is valid, a
// file that could not be read, or everything.
func (r Report) Failed() bool {
	left := slices.ContainsFunc(r.Certificates, func(one Result) bool { return one.Outcome == Failed || one.Outcome == LeftOut && !one.Past })
	return left || len(r.Unread) > 0 || len(r.Certificates) == 0
}

// Options say what is brought where.
type Options struct {
	Paths []string
	Store Store
	Name  string // of the store, for people
	// Owner is a directory of the agent's user, in whose name root writes.
	Owner string
	Dry   bool // nothing is written
}

// Import reads the paths and brings what can be used in them into the store.
func Import(ctx context.Context, o Options) (Report, error) {
	files, wrong := Read(o.Paths...)
	r := Report{Store: o.Name}
	for _, err := range wrong {
		r.Unread = append(r.Unread, err.Error())
	}
	err := proc.AsOwnerOf(o.Owner, func() error {
		r.Certificates = Write(ctx, o.Store, certs.Foreign(files, time.Now()), o.Dry)
		return nil
	})
	return r, err
}
