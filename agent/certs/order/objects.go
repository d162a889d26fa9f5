package order

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// stamp makes every body of an object differ from all others.
type stamp struct {
	Writer string `json:"writer"`
	Mark   string `json:"mark"`
}

func (l *loop) stamp() stamp { return stamp{l.Owner, rand.Text()} }

// account is the object of an account.
type account struct {
	stamp
	certs.Account
}

// lease is the object of the orders for one set of names: who orders, and how far it is. One whose
// owner is empty is free.
type lease struct {
	stamp
	ID string `json:"id"`
	// Owner orders until For has passed without a change of the object, by the clock of whoever looks.
	Owner string        `json:"owner,omitempty"`
	For   time.Duration `json:"for,omitempty"`
	// Pending is the order at the CA At, with the key that its certificate will have (PEM), and
	// Directory the CA whose ledger it is noted in. The TXT records of its challenges are made after
	// it was written, and removed before it goes.
	Directory string         `json:"directory,omitempty"`
	At        string         `json:"at,omitempty"`
	Pending   *certs.Pending `json:"pending,omitempty"`
	Key       string         `json:"key,omitempty"`
	// Over is true where nothing but the TXT records is left to be done.
	Over bool `json:"over,omitempty"`
}

// challenges are those of the pending order.
func (v lease) challenges() []certs.Challenge {
	if v.Pending == nil {
		return nil
	}
	return v.Pending.Challenges
}

// errSpoilt is wrapped by the error of an object that cannot be understood.
var errSpoilt = errors.New("it cannot be understood: restore an earlier version of that object, or remove it")

// read returns an object and its version; the zero value and "" where there is none.
func read[T any](ctx context.Context, s Store, name string) (v T, version string, err error) {
	body, version, err := s.Get(ctx, name)
	if errors.Is(err, certs.ErrNotFound) {
		return v, "", nil
	}
	if errors.Is(err, certs.ErrUnusable) {
		return v, version, fmt.Errorf("reading %s from the store: %w: %w", name, errSpoilt, err)
	}
	if err != nil {
		return v, "", fmt.Errorf("reading %s from the store: %w", name, err)
	}
	if err := json.Unmarshal(body, &v); err != nil {
		var none T
		return none, version, fmt.Errorf("reading %s from the store: %w", name, errSpoilt) // the decoder may quote a key
	}
	return v, version, nil
}

// write writes an object if its version is still the given one.
func write(ctx context.Context, s Store, name string, v any, version string) (string, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	if version, err = s.Put(ctx, name, body, version); err != nil {
		return "", fmt.Errorf("writing %s to the store: %w", name, err)
	}
	return version, nil
}

// aside keeps a copy of an object that is spoilt, which is about to be replaced: somebody may still find a key in it.
func aside(ctx context.Context, s Store, name string) error {
	body, _, err := s.Get(ctx, name)
	if err == nil {
		_, err = s.Put(ctx, "spoilt/"+hashed(name+string(body))+".json", body, "")
	}
	if errors.Is(err, certs.ErrUnusable) || errors.Is(err, certs.ErrConflict) { // nothing can be kept of it, or it is there
		return nil
	}
	return err
}

// maxTries bounds how often an object is read and written again because another writer was first.
const maxTries = 8

// change reads an object, has it changed, and writes it, again while another writer is first. edit gets the zero
// value for an object that is spoilt, with that error, and returns false where nothing is to be written.
func change[T any](ctx context.Context, s Store, name string, edit func(v *T, spoilt error) (bool, error)) (v T, version string, err error) {
	for range maxTries {
		if v, version, err = read[T](ctx, s, name); err != nil && !errors.Is(err, errSpoilt) {
			return v, version, err
		}
		wanted, err := edit(&v, err)
		if err != nil || !wanted {
			return v, version, err
		}
		version, err = write(ctx, s, name, v, version)
		if !errors.Is(err, certs.ErrConflict) {
			return v, version, err
		}
	}
	return v, "", fmt.Errorf("%s: %w, %d times", name, certs.ErrConflict, maxTries)
}

// readBundle reads a certificate and inspects it. It returns the zero value for one that is spoilt.
func readBundle(ctx context.Context, s Store, id string) (certs.Bundle, string, error) {
	b, version, err := read[certs.Bundle](ctx, s, certName(id))
	if err != nil || version == "" {
		return b, version, err
	}
	if b, err = b.Checked(); err == nil && b.ID != id {
		err = fmt.Errorf("it is %s", b.ID)
	}
	if err != nil {
		return certs.Bundle{}, version, fmt.Errorf("certificate %s: %w: %w", id, errSpoilt, err)
	}
	return b, version, nil
}

// Save writes a certificate to the store, unless there is one that it does not replace, and returns the one that is
// there then, with its version. One that is spoilt is replaced.
func Save(ctx context.Context, s Store, b certs.Bundle, now time.Time) (certs.Bundle, string, error) {
	return change(ctx, s, certName(b.ID), func(there *certs.Bundle, _ error) (bool, error) {
		if old, err := there.Checked(); err == nil && old.ID == b.ID && !b.Replaces(old.Held, now) {
			*there = old
			return false, nil
		}
		b.Saved = now.UTC()
		*there = b
		return true, nil
	})
}

func certName(id string) string     { return "certs/" + id + ".json" }
func leaseName(id string) string    { return "orders/" + id + ".json" }
func ledgerName(dir string) string  { return "budget/" + hashed(dir) + ".json" }
func accountName(dir string) string { return "accounts/" + hashed(dir) + ".json" }

// hashed stands for a URL in the name of an object.
func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// editLedger changes the ledger of a directory, and returns it as it is in the store then.
func (l *loop) editLedger(ctx context.Context, directory string, edit func(certs.Ledger) (next certs.Ledger, wanted bool)) (certs.Ledger, error) {
	v, _, err := change(ctx, l.Store, ledgerName(directory), func(v *certs.Ledger, spoilt error) (bool, error) {
		if spoilt != nil {
			if err := aside(ctx, l.Store, ledgerName(directory)); err != nil {
				return false, errors.Join(spoilt, err)
			}
			*v = certs.Lost(l.wall())
		}
		next, wanted := edit(*v)
		if wanted = wanted || spoilt != nil; wanted {
			next.Directory, next.Writer, next.Number = directory, l.Owner, v.Number+1
			*v = next
		}
		return wanted, nil
	})
	if err != nil {
		return certs.Ledger{}, err
	}
	return v, nil
}
