package order

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/event"
)

// readPatience bounds one reading of the store, and so how long a start waits for it.
const readPatience = 10 * time.Second

// stored is what is known of the store.
type stored struct {
	versions map[string]string       // of the objects that were read, by name
	leases   map[string]seen         // by id; free ones are not among them
	ledgers  map[string]certs.Ledger // by directory
	err      error                   // of the last reading
	read     bool                    // as a whole, at least once
	next     time.Time               // when it is read again
	lacking  time.Duration           // the pause while a site has no certificate; 0 while none is without
	quick    quick
	known    uint64               // the last Held.Number
	expired  map[string]time.Time // when those certificates expired that were passed over for it, by name
}

// quick are the readings ahead of pollEvery: how many were made, less those that are made up for, as of a time.
type quick struct {
	made float64
	at   time.Time
}

// pause is the wanted pause before a reading, or pollEvery where that would be one too many.
func (q *quick) pause(wanted time.Duration, now time.Time) time.Duration {
	q.made, q.at = max(0, q.made-float64(now.Sub(q.at))/float64(quickEvery)), now
	if wanted >= pollEvery || q.made+1 > mostQuick {
		return pollEvery
	}
	q.made++
	return wanted
}

// seen is a lease, and since when this version of it is known.
type seen struct {
	lease
	version string
	since   time.Time
}

// runsOut is when an owner that does nothing loses the lease.
func (s seen) runsOut() time.Time { return s.since.Add(min(max(s.For, leaseFor), 2*leaseFor)) }

// live reports whether another agent may be at work on it.
func (l *loop) live(s seen, now time.Time) bool {
	return s.Owner != "" && s.Owner != l.Owner && now.Before(s.runsOut())
}

// sync reads what has changed in the store, and writes to it what is newer here.
func (l *loop) sync(ctx context.Context) error {
	ctx, done := context.WithTimeout(ctx, readPatience)
	defer done()
	versions, err := l.Store.List(ctx, "")
	if err != nil {
		return fmt.Errorf("listing the store: %w", err)
	}
	l.forgetRemoved()
	var changed []string
	for name, version := range versions {
		if l.store.versions[name] != version {
			changed = append(changed, name)
		}
	}
	var mu sync.Mutex
	if err := each(changed, func(name string) error {
		take, version, err := l.readObject(ctx, name)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			take()
		case errors.Is(err, errSpoilt): // one that is spoilt keeps no other from being read
			l.Log.Warn("object of the store passed over", event.Key, event.StoreObjectUnusable, "object", name, "err", err)
		default:
			return err
		}
		l.store.versions[name] = version
		return nil
	}); err != nil {
		return err
	}
	for name := range l.store.versions {
		if id, ok := idOf(name, "orders/"); ok && versions[name] == "" {
			l.takeLease(id, lease{}, "")
		}
	}
	l.answers.only(func(id string) bool { return l.store.leases[id].Pending != nil || l.busy[id] })
	l.store.read = true
	return l.push(ctx, versions)
}

// forgetRemoved has certificates read again whose files somebody has removed, and those that had expired by a
// clock which was ahead.
func (l *loop) forgetRemoved() {
	for name, at := range l.store.expired {
		if l.wall().Sub(at) <= keepExpired {
			delete(l.store.expired, name)
			delete(l.store.versions, name)
		}
	}
	for id, h := range l.held {
		if _, err := os.Lstat(filepath.Join(l.Issued, id+".pem")); h.unwritten == nil && errors.Is(err, os.ErrNotExist) {
			delete(l.held, id)
			delete(l.store.versions, certName(id))
		}
	}
}

func idOf(name, kind string) (string, bool) {
	rest, of := strings.CutPrefix(name, kind)
	id, json := strings.CutSuffix(rest, ".json")
	return id, of && json && idForm.MatchString(id)
}

// readObject reads an object; take makes it known.
func (l *loop) readObject(ctx context.Context, name string) (take func(), version string, err error) {
	take = func() {}
	if id, ok := idOf(name, "certs/"); ok {
		b, version, err := readBundle(ctx, l.Store, id)
		return func() { l.takeBundle(b, version) }, version, err
	}
	if id, ok := idOf(name, "orders/"); ok {
		v, version, err := read[lease](ctx, l.Store, name)
		return func() { l.takeLease(id, v, version) }, version, err
	}
	if strings.HasPrefix(name, "budget/") {
		v, version, err := read[certs.Ledger](ctx, l.Store, name)
		if err == nil && ledgerName(v.Directory) == name {
			take = func() { l.takeLedger(v) }
		}
		return take, version, err
	}
	return take, "", nil
}

// takeBundle takes a certificate of the store, if it is newer than the one that is held.
func (l *loop) takeBundle(b certs.Bundle, version string) {
	here, has := l.held[b.ID]
	switch {
	case has && here.Replaces(b.Held, l.wall()):
		here.version = "" // it has to go there
		l.held[b.ID] = here
	case has && !b.Replaces(here.Held, l.wall()):
		here.version = version
		l.held[b.ID] = here
	case l.wall().Sub(b.NotAfter) <= keepExpired:
		l.keep(b, version)
	default:
		l.store.expired[certName(b.ID)] = b.NotAfter
	}
}

// takeLease takes note of how far an order is, and answers its challenges, so that whoever has the
// address does.
func (l *loop) takeLease(id string, v lease, version string) {
	l.store.versions[leaseName(id)] = version
	if v.Owner == "" && v.Pending == nil {
		delete(l.store.leases, id)
	} else {
		l.store.leases[id] = seen{v, version, time.Now()}
	}
	if l.busy[id] {
		return
	}
	if err := l.answers.set(id, v.challenges()); err != nil {
		l.Log.Warn("answer to a challenge not kept", event.Key, event.OrderUnsettled, "order", id, "err", err)
	}
}

// push writes to the store what is held and not there: what was issued while the store did not answer, or
// what another store had.
func (l *loop) push(ctx context.Context, versions map[string]string) error {
	for id, h := range l.held {
		there := versions[certName(id)]
		if h.version != "" && there != "" || !h.NotAfter.After(l.wall()) || l.busy[id] {
			continue
		}
		b, err := l.whole(id)
		if err != nil {
			continue // somebody removes it
		}
		b.Writer = l.Owner
		saved, version, err := Save(ctx, l.Store, b, l.wall())
		if err != nil {
			return err
		}
		l.takeBundle(saved, version)
	}
	return nil
}
