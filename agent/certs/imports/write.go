package imports

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/proc"
)

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

// write brings one certificate into the store, unless what is there is not older (certs.Held.Replaces).
func (o Options) write(ctx context.Context, b certs.Bundle) (Outcome, string) {
	b.Writer = "import-" + rand.Text() // no two bodies are equal
	there, err := o.Save(ctx, b)
	switch {
	case err != nil:
		return Failed, err.Error()
	case there.Writer == b.Writer && o.Dry:
		return Wanted, ""
	case there.Writer == b.Writer:
		return Imported, ""
	case there.Chain == b.Chain:
		return Present, "the store has it"
	}
	return Present, fmt.Sprintf("the store has one that was issued on %s and is valid until %s", there.NotBefore.Format(time.DateOnly), there.NotAfter.Format(time.DateOnly))
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
	// Save writes a certificate unless the store has one that it does not replace, and returns the one that is there
	// then. Where Dry is true, it only says what would be there.
	Save func(context.Context, certs.Bundle) (certs.Bundle, error)
	Name string // of the store, for people
	// Owner is a directory of the agent's user, in whose name root writes.
	Owner string
	Dry   bool
}

// Import reads the paths and brings what can be used in them into the store.
func Import(ctx context.Context, o Options) (Report, error) {
	files, wrong := Read(o.Paths...)
	r := Report{Store: o.Name}
	for _, err := range wrong {
		r.Unread = append(r.Unread, err.Error())
	}
	err := proc.AsOwnerOf(o.Owner, func() error {
		for _, f := range certs.Foreign(files, time.Now()) {
			one := Result{Found: f, Outcome: LeftOut, Note: f.Why}
			if f.Why == "" {
				one.Outcome, one.Note = o.write(ctx, f.Bundle())
			}
			r.Certificates = append(r.Certificates, one)
		}
		return nil
	})
	return r, err
}
