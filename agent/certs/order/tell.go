package order

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// ask takes a question.
func (l *loop) ask(q latest.Question[string]) {
	if !l.now.WishesKnown {
		q.Reply <- errors.New("the agent has just started, and does not know its sites yet: ask again in a few seconds")
		return
	}
	if !slices.ContainsFunc(l.now.Wishes, func(w certs.Wish) bool { return w.Host == q.Value }) {
		q.Reply <- errors.New("no site of that name asks for a certificate: its labels, and certs.acme.email, say whether one does")
		return
	}
	if len(l.waiting[q.Value]) >= 4 {
		q.Reply <- errors.New("others wait for the same")
		return
	}
	if len(l.waiting[q.Value]) == 0 {
		l.now.Asked[q.Value] = l.store.known
	}
	l.waiting[q.Value] = append(l.waiting[q.Value], q.Reply)
}

// answer answers whoever asked for a host.
func (l *loop) answer(host string, err error) {
	for _, reply := range l.waiting[host] {
		reply <- err
	}
	delete(l.waiting, host)
	delete(l.now.Asked, host)
}

// tell writes the line of an attempt.
func (l *loop) tell(a *attempt, err error, took time.Duration) {
	took = took.Round(time.Millisecond)
	switch {
	case errors.Is(err, errElsewhere):
		l.Log.Debug("order left to another instance", "host", a.Host, "order", a.ID)
	case err != nil:
		l.Log.Warn("certificate not ordered", event.Key, event.CertificateOrderFailed, "host", a.Host, "family", a.Family, "order", a.ID, "ca", a.At, "result", string(a.result), "took", took, "err", err)
	case a.issued == nil:
		l.Log.Info("trial order succeeded", event.Key, event.CertificateTried, "host", a.Host, "family", a.Family, "order", a.ID, "ca", a.At, "took", took)
	case a.held.ID != "":
		l.Log.Info("certificate renewed", event.Key, event.CertificateRenewed, "host", a.Host, "family", a.Family, "order", a.ID, "ca", a.At, "took", took, "not_after", a.issued.NotAfter)
	default:
		l.Log.Info("certificate ordered", event.Key, event.CertificateOrdered, "host", a.Host, "family", a.Family, "order", a.ID, "ca", a.At, "took", took, "not_after", a.issued.NotAfter)
	}
}

// explain answers whoever asked for a host that is not ordered now.
func (l *loop) explain(host string, d certs.Decision) {
	if l.store.err != nil {
		l.answer(host, l.store.err)
		return
	}
	if !l.store.read || slices.ContainsFunc(d.Start, func(s certs.Start) bool { return s.Host == host }) || len(d.Look) > 0 {
		return
	}
	for _, e := range d.Entries {
		if !slices.Contains(e.Hosts, host) || l.busy[e.ID] {
			continue
		}
		if l.held[e.ID].Number > l.now.Asked[host] { // another instance has ordered it
			l.answer(host, nil)
			return
		}
		if e.Reason != "" {
			l.answer(host, errors.New(e.Reason))
			return
		}
	}
}

// show puts the report if it differs from the last one.
func (l *loop) show(d certs.Decision, now time.Time) {
	own := l.stuck(d.Entries, now)
	r := certs.Report{On: true, StoreRead: l.store.read, Store: l.StoreName, Entries: d.Entries, Orders: maps.Clone(l.counts), Problems: slices.Concat(l.problems(), own, d.Problems)}
	if reflect.DeepEqual(r, l.report) {
		return
	}
	l.report = r
	r.At = now
	l.out.Report(r)
}

// problems are those of the store and the disk.
func (l *loop) problems() (all []problem.Problem) {
	if l.store.err != nil {
		all = append(all, l.unusable(l.store.err))
	}
	if l.copies.err != nil {
		all = append(all, problem.Of("certificate "+l.Issued, "cert-not-kept", "let the agent write to the directory "+l.Issued,
			"new certificates cannot be written: %s", problem.Printable(l.copies.err.Error(), 300)))
	}
	return all
}

// unusable is the problem of a store that cannot be used.
func (l *loop) unusable(err error) problem.Problem {
	what, hint := "certificates are kept in "+l.StoreName+", which cannot be used: "+problem.Printable(err.Error(), 300), "let the agent list, read and write it: nagaya doctor says what is missing"
	if known, ok := errors.AsType[*certs.StoreError](err); ok {
		what, hint = known.Text, known.Remedy
	}
	return problem.Of("store "+l.StoreName, "store-unreadable", hint, "%s; the certificates that are here are served, and nothing is ordered", what)
}

// stuck says of which entries the order fails by a fault of this side, and returns the problems of those that
// have failed more than once.
func (l *loop) stuck(entries []certs.Entry, now time.Time) (all []problem.Problem) {
	for i := range entries {
		e := &entries[i]
		p, failed := l.paused[e.ID]
		if !failed || errors.Is(p.err, errElsewhere) || !now.Before(p.until) && !l.busy[e.ID] {
			continue
		}
		e.Reason = "the order failed here: " + problem.Printable(p.err.Error(), 300)
		if !l.busy[e.ID] {
			e.State, e.Renewal = certs.Waiting, p.until
		}
		if p.last == busyEvery || len(e.Hosts) == 0 {
			continue
		}
		const hint = "correct what it names; nagaya doctor tries the store and the zones, and it is tried again by itself"
		own := problem.OfHost(problem.Printable(e.Hosts[0], 253), "cert-order-failed", hint, "%s", e.Reason)
		if _, ok := errors.AsType[*certs.StoreError](p.err); ok {
			own = l.unusable(p.err)
		}
		e.Problem = own.Code
		if l.store.err == nil && !slices.ContainsFunc(all, func(o problem.Problem) bool { return o.Code == own.Code && o.Subject == own.Subject }) {
			all = append(all, own)
		}
	}
	return all
}
