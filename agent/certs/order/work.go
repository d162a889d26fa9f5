package order

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/event"
)

const (
	// leaseFor is how long nobody else goes on with an order of an agent that says nothing any more, and
	// attemptFor the bound of an attempt, which is shorter: so no two are at one order.
	leaseFor   = 5 * time.Minute
	attemptFor = 4*time.Minute + 30*time.Second
	// afterwards bounds what is still written when the agent is told to end.
	afterwards = 5 * time.Second
)

// attempt is an order under way. It is a goroutine's own; what it leaves is taken over by the loop.
type attempt struct {
	*loop
	certs.Start
	known seen       // the lease as the loop knew it
	held  certs.Held // what is renewed; zero for none

	lease   lease
	version string // of the lease
	ledger  certs.Ledger
	result  certs.Result
	asked   bool // the CA may have made an order
	issued  *certs.Bundle
	saved   string // version of issued in the store; empty where it is not there
}

// errElsewhere is returned where another agent is at work on the order.
var errElsewhere = errors.New("another instance orders it")

// waits is returned where the ledger allows no attempt yet.
type waits struct{ until time.Time }

func (w *waits) Error() string {
	return "the limits of the CA allow no order before " + w.until.UTC().Format(time.RFC3339)
}

// run makes one attempt, until ctx ends. Whatever fails, what is served stays as it is, and what another attempt needs is in the store.
func (a *attempt) run(ctx context.Context) (err error) {
	a.result = certs.Interrupted
	if err := a.take(ctx); err != nil {
		return err
	}
	if there, err := a.issuedSince(ctx); there || err != nil {
		a.deliver()
		return errors.Join(err, a.clear(ctx, nil))
	}
	if err := a.note(ctx); err != nil {
		return errors.Join(err, a.free(ctx))
	}
	chain, err := a.order(ctx)
	if a.result = certs.ResultOf(err); errors.Is(ctx.Err(), context.Canceled) {
		a.result = certs.Interrupted // the agent ends
	}
	last, done := context.WithTimeout(context.WithoutCancel(ctx), afterwards)
	defer done()
	if err == nil && !a.Trial() {
		if err = a.save(last, chain); err != nil && a.issued == nil {
			a.result = certs.ResultOf(err)
		}
	}
	a.deliver()
	a.end(last, err)
	return errors.Join(err, a.clear(last, err))
}

// deliver has the loop take the certificate, if there is one.
func (a *attempt) deliver() {
	if a.issued == nil {
		return
	}
	b, version := *a.issued, a.saved
	a.then(func() { a.takeBundle(b, version) })
}

// take takes the lease.
func (a *attempt) take(ctx context.Context) error {
	v, version, err := read[lease](ctx, a.Store, leaseName(a.ID))
	if err != nil && !errors.Is(err, errSpoilt) {
		return err
	}
	if v.Owner != "" && v.Owner != a.Owner && (version != a.known.version || time.Now().Before(a.known.runsOut())) {
		return errElsewhere
	}
	a.lease, a.version = v, version
	a.lease.ID, a.lease.Owner, a.lease.For = a.ID, a.Owner, leaseFor
	if err := a.put(ctx); err != nil {
		if errors.Is(err, certs.ErrConflict) {
			return errElsewhere
		}
		return err
	}
	return nil
}

// put writes the lease. After an error it is not known what is there: the loop reads it again.
func (a *attempt) put(ctx context.Context) (err error) {
	if a.lease.Writer != "" && a.version == "" {
		return fmt.Errorf("%s: %w", leaseName(a.ID), certs.ErrConflict)
	}
	a.lease.stamp = a.stamp()
	a.version, err = write(ctx, a.Store, leaseName(a.ID), a.lease, a.version)
	return err
}

// issuedSince looks whether another instance has the certificate since this one decided.
func (a *attempt) issuedSince(ctx context.Context) (bool, error) {
	b, version, err := readBundle(ctx, a.Store, a.ID)
	if errors.Is(err, errSpoilt) {
		return false, nil
	}
	if err != nil || !b.Replaces(a.held, a.wall()) {
		return false, err
	}
	a.issued, a.saved = &b, version
	return true, nil
}

// note notes the attempt in the ledger, before the CA is spoken to.
func (a *attempt) note(ctx context.Context) error {
	var until time.Time
	ok := false
	ledger, err := a.editLedger(ctx, a.Directory, func(v certs.Ledger) (next certs.Ledger, wanted bool) {
		next, until, ok = v.Begin(a.Start, a.wall())
		return next, ok
	})
	if err != nil {
		return err
	}
	a.ledger = ledger
	if !ok {
		return &waits{until}
	}
	return nil
}

// end notes how it went. Where that cannot be written, the attempt counts as one that has not ended.
func (a *attempt) end(ctx context.Context, why error) {
	ledger, err := a.editLedger(ctx, a.Directory, func(v certs.Ledger) (certs.Ledger, bool) {
		next := v.End(a.Start, a.result, why, a.wall())
		if a.result == certs.Interrupted && !a.asked && !a.Resume {
			next = next.Forget(a.Start)
		}
		return next, true
	})
	if err != nil {
		a.Log.Warn("result of an order not noted", event.Key, event.OrderUnsettled, "order", a.ID, "err", err)
		return
	}
	a.ledger = ledger
}

// order speaks with the CA, from wherever an earlier attempt has left the order.
func (a *attempt) order(ctx context.Context) (chain string, err error) {
	ca := a.CAs[a.At]
	if ca == nil {
		return "", fmt.Errorf("there is no CA for the directory %.200q", a.At)
	}
	who, err := a.account(ctx, ca, false)
	if err != nil {
		return "", err
	}
	a.asked = true
	if !a.Resume || a.lease.Pending == nil || a.lease.At != a.At {
		err = a.begin(ctx, ca, who)
		if refused, ok := errors.AsType[*certs.CAError](err); ok && refused.Type == certs.AccountDoesNotExist {
			if who, err = a.account(ctx, ca, true); err == nil {
				err = a.begin(ctx, ca, who)
			}
		}
		if err != nil {
			return "", err
		}
	}
	if err := a.answer(ctx); err != nil {
		return "", err
	}
	csr, err := a.NewRequest(a.lease.Key, a.Names)
	if err != nil {
		return "", &certs.CAError{Directory: a.At, Over: true, Detail: err.Error()}
	}
	return ca.Finish(ctx, who, *a.lease.Pending, csr)
}

// account is the one in the store, registered with the CA. The first to write a key wins: all use its.
func (a *attempt) account(ctx context.Context, ca CA, again bool) (certs.Account, error) {
	name := accountName(a.At)
	v, _, err := change(ctx, a.Store, name, func(v *account, spoilt error) (bool, error) {
		if v.Key != "" {
			return false, nil
		}
		if spoilt != nil {
			if err := aside(ctx, a.Store, name); err != nil {
				return false, errors.Join(spoilt, err)
			}
			a.Log.Warn("account of the store replaced", event.Key, event.StoreObjectUnusable, "object", name, "err", spoilt)
		}
		key, err := a.NewKey(certs.ECDSA)
		*v = account{a.stamp(), certs.Account{Directory: a.At, Email: a.Settings.Email, Key: key}}
		return true, err
	})
	if err != nil || v.URL != "" && v.Email == a.Settings.Email && !again {
		return v.Account, err
	}
	v.Email = a.Settings.Email
	var binding certs.Binding
	if a.Binding != nil {
		if binding, err = a.Binding(a.At); err != nil {
			return v.Account, err
		}
	}
	registered, err := ca.Register(ctx, v.Account, binding)
	if err != nil {
		if refused, ok := errors.AsType[*certs.CAError](err); ok && certs.ResultOf(err) == certs.NameFailed { // no name was asked for
			said := *refused
			said.Type, said.Detail = certs.AccountRefused, refused.Type+": "+refused.Detail
			err = &said
		}
		return v.Account, err
	}
	v, _, err = change(ctx, a.Store, name, func(v *account, spoilt error) (bool, error) {
		v.stamp, v.URL, v.Email = a.stamp(), registered.URL, registered.Email
		return spoilt == nil, spoilt
	})
	return v.Account, err
}

// begin makes an order, and keeps it in the store with the key.
func (a *attempt) begin(ctx context.Context, ca CA, who certs.Account) error {
	if err := a.withdraw(ctx); err != nil { // what an earlier order has left
		return err
	}
	kinds := func(name string) []string { return a.Kinds[name] }
	p, err := ca.Begin(ctx, who, certs.Order{Names: a.Names, Profile: a.Profile, Replaces: a.Replaces}, kinds)
	if err != nil {
		return err
	}
	key, err := a.NewKey(a.KeyType)
	if err != nil {
		return err
	}
	a.lease.Directory, a.lease.At, a.lease.Pending, a.lease.Key = a.Directory, a.At, &p, key
	return a.put(ctx)
}

// answer makes the answers to the challenges.
func (a *attempt) answer(ctx context.Context) error {
	all := a.lease.challenges()
	if err := a.answers.set(a.ID, all); err != nil {
		return err
	}
	if a.DNS == nil {
		return nil
	}
	return eachRecord(ctx, all, a.DNS.Add)
}

// withdraw removes the answers.
func (a *attempt) withdraw(ctx context.Context) error {
	if err := a.answers.set(a.ID, nil); err != nil {
		return err
	}
	if a.DNS == nil {
		return nil
	}
	return eachRecord(ctx, a.lease.challenges(), func(ctx context.Context, record, value string) error {
		if !a.DNS.Covers(record) {
			return nil // its zone is not configured any more
		}
		return a.DNS.Remove(ctx, record, value)
	})
}

// save keeps what the CA issued. Where the store does not take it, it is served all the same, and
// written there later.
func (a *attempt) save(ctx context.Context, chain string) error {
	b, err := certs.Bundle{
		Held:  certs.Held{ID: a.ID, Directory: a.Directory, Profile: a.Profile},
		Chain: strings.TrimSpace(chain) + "\n", Key: a.lease.Key, Writer: a.Owner,
	}.Checked()
	now := a.wall()
	switch {
	case err != nil:
		return &certs.CAError{Directory: a.At, Type: certs.WrongCertificate, Over: true, Detail: err.Error()}
	case now.Before(b.NotBefore) || now.After(b.NotAfter): // it may be valid later, or by a clock that is right
		return &certs.CAError{
			Directory: a.At, Type: certs.WrongCertificate,
			Detail: fmt.Sprintf("the certificate is valid from %s to %s, which is not now: is the clock right?", b.NotBefore.Format(time.RFC3339), b.NotAfter.Format(time.RFC3339)),
		}
	}
	a.issued = &b
	saved, version, err := Save(ctx, a.Store, b, now)
	if err != nil {
		return err
	}
	a.issued, a.saved = &saved, version
	return nil
}

// clear gives the lease back. An order that may still succeed stays in it; one that is over goes, with its
// TXT records.
func (a *attempt) clear(ctx context.Context, err error) error {
	refused, ok := errors.AsType[*certs.CAError](err)
	lost := ok && (refused.Over || refused.Type == certs.AccountDoesNotExist)
	if err != nil && !lost && (a.issued == nil || a.saved == "") {
		return a.free(ctx)
	}
	if err := a.withdraw(ctx); err != nil {
		a.lease.Over = true // the loop removes them later
		return errors.Join(err, a.free(ctx))
	}
	a.lease = lease{stamp: a.lease.stamp, ID: a.ID}
	return a.put(ctx)
}

// free gives the lease back as it is.
func (a *attempt) free(ctx context.Context) error {
	a.lease.Owner, a.lease.For = "", 0
	return a.put(ctx)
}
