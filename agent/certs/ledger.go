package certs

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Ledger is what one directory was asked for: an object of the store that all instances share.
// An attempt is noted by Begin, and written, before the CA is spoken to, and End notes how it went.
// The zero Ledger is that of a directory that was never asked. No method changes its receiver. As
// JSON it has at most maxLedger bytes.
type Ledger struct {
	Directory string `json:"directory"`
	// Writer and Number make each body differ from all others; the loop sets them.
	Writer string `json:"writer,omitempty"`
	Number uint64 `json:"number,omitempty"`
	// Orders are those whose number is limited, the oldest first.
	Orders []Noted `json:"orders,omitempty"`
	// Names are those of which an attempt failed or is under way, by the hash of the name.
	Names map[string]Failed `json:"names,omitempty"`
	// Contacts are the attempts and questions of the last hour that have not ended well.
	Contacts []Contact `json:"contacts,omitempty"`
	// Faults counts those that failed because of the CA since it last did its part, and Fault is the last one.
	Faults int    `json:"faults,omitempty"`
	Fault  string `json:"fault,omitempty"`
	// Paused is until when the CA is left alone, and LastAsk when it was last asked about a renewal.
	Paused  time.Time `json:"paused,omitzero"`
	LastAsk time.Time `json:"last_ask,omitzero"`
	// Windows are what the CA said about renewals, by the hash of Held.ID.
	Windows map[string]Asked `json:"windows,omitempty"`
}

// Lost is the ledger of a directory whose own cannot be read any more. The CA is left alone until its limits of hours
// have passed: on orders of an account, and on failures of a name. Those of a week it may have to tell itself.
func Lost(now time.Time) Ledger {
	return Ledger{Faults: 1, Fault: "what the store had of its limits cannot be read, and starts over", Paused: now.Add(ordersIn)}
}

// Result is how an attempt ended.
type Result string

// The results of attempts.
const (
	// Issued: the certificate is in the store; or, of a trial, the staging directory issued one.
	Issued Result = "issued"
	// NameFailed: the CA refused a name, or could not verify it.
	NameFailed Result = "name_failed"
	// DirectoryFailed: the CA did not do its part, or asked to be left alone.
	DirectoryFailed Result = "directory_failed"
	// Replaced: the CA says that the certificate was replaced before (alreadyReplaced, RFC 9773,
	// section 5): it is ordered again without Replaces.
	Replaced Result = "replaced"
	// Interrupted: this agent stopped in good order, or what failed is its own (the store, the disk);
	// the order may be resumed.
	Interrupted Result = "interrupted"
)

// Results are all of them.
var Results = []Result{Issued, NameFailed, DirectoryFailed, Replaced, Interrupted}

// ResultOf says what an error of a CA is about; nil is Issued. What is no *CAError is Interrupted.
func ResultOf(err error) Result {
	answer, ok := errors.AsType[*CAError](err)
	switch {
	case err == nil:
		return Issued
	case !ok:
		return Interrupted
	case answer.Type == "alreadyReplaced":
		return Replaced
	case answer.Status >= 500, slices.Contains(ofDirectory, answer.Type):
		return DirectoryFailed
	case len(answer.Names) > 0, answer.Type != "" && (answer.Status >= 400 || answer.Over):
		return NameFailed // an order that became invalid is told with status 200
	}
	return DirectoryFailed
}

// ofDirectory are the types of errors (RFC 8555, section 6.7) that are about no name.
var ofDirectory = []string{
	"rateLimited", "serverInternal", "badNonce", "badPublicKey", "badSignatureAlgorithm",
	"accountDoesNotExist", "externalAccountRequired", "userActionRequired", "invalidContact", "unsupportedContact",
	AccountDeactivated, AccountRefused, WrongCertificate,
}

// Begin notes an attempt. ok is false where the ledger, which another instance may have changed
// since Decide saw it, does not allow it before until.
func (l Ledger) Begin(s Start, now time.Time) (next Ledger, until time.Time, ok bool) {
	l, _ = l.Settle(now)
	if until := l.wait(s, now, 0); until.After(now) {
		return l, until, false
	}
	key := short(s.ID)
	l.Contacts = append(l.Contacts, Contact{At: now, Key: key})
	for _, name := range s.Names {
		f := l.Names[short(name)]
		f.Open++
		f.Last = now
		l.Names[short(name)] = f
	}
	if i := l.open(s); i >= 0 && s.Resume || s.Trial() {
		return l.bounded(now), now, true
	}
	l.Orders = append(l.Orders, noted(s, now))
	return l.bounded(now), now, true
}

// End notes how the attempt that Begin noted went; err is what the CA answered, nil for a success.
func (l Ledger) End(s Start, result Result, err error, now time.Time) Ledger {
	l, _ = l.Settle(now)
	answer, ok := errors.AsType[*CAError](err)
	if !ok {
		answer = &CAError{}
	}
	if result != DirectoryFailed {
		key := short(s.ID)
		l.Contacts = slices.DeleteFunc(l.Contacts, func(c Contact) bool { return c.Key == key })
	}
	switch result {
	case Issued, NameFailed:
		l.Faults, l.Fault = 0, ""
	case DirectoryFailed:
		l = l.fault(*answer, err, now)
	case Replaced:
		w := l.Windows[short(s.ID)]
		w.Replaced = s.Replaces
		l.Windows[short(s.ID)] = w
	}
	if i := l.open(s); i >= 0 && !s.Trial() {
		switch result {
		case Issued:
			l.Orders[i].State = stateIssued
		case NameFailed, DirectoryFailed, Replaced:
			l.Orders[i].State = stateFailed
		}
	}
	for _, name := range s.Names {
		l.endName(name, s.Trial(), result, *answer, err, now)
	}
	return l.bounded(now)
}

// Forget takes back the order that Begin noted last for an attempt in which the CA was asked for none.
func (l Ledger) Forget(s Start) Ledger {
	if i := l.open(s); i >= 0 && !s.Trial() {
		l.Orders = slices.Delete(slices.Clone(l.Orders), i, i+1)
	}
	return l
}

func (l Ledger) endName(name string, trial bool, result Result, answer CAError, err error, now time.Time) {
	key := short(name)
	f := l.Names[key]
	f.Open = 0
	switch {
	case result == Issued && !trial:
		delete(l.Names, key)
		return
	case result == Issued:
		f.Passed = true
	case result == DirectoryFailed && answer.Type == "rateLimited":
		f.Until = earlier(answer.RetryAfter, now.Add(week))
		f.Reason = reason(err)
	case result == NameFailed && (len(answer.Names) == 0 || slices.Contains(answer.Names, name)):
		f.Count, f.Last, f.Passed = f.Count+1, now, false
		f.Reason = reason(err)
		f.Until = earlier(answer.RetryAfter, now.Add(week))
		if !trial {
			f.Recent = append(slices.Clone(f.Recent), now)
			f.Recent = f.Recent[max(0, len(f.Recent)-mostFailures):]
		}
	}
	if l.Names[key] = f; f.Count == 0 && !f.Until.After(now) {
		delete(l.Names, key)
	}
}

// fault leaves the CA alone for a while. What it says of one order (429) leaves others waiting for
// an hour at most: the order may be one of a domain whose limit strangers have used up.
func (l Ledger) fault(answer CAError, err error, now time.Time) Ledger {
	l.Faults++
	l.Fault = reason(err)
	most := 24 * time.Hour
	if answer.Type == "rateLimited" {
		most = time.Hour
	}
	l.Paused = later(l.Paused, later(now.Add(doubling(l.Faults, time.Hour)), earlier(answer.RetryAfter, now.Add(most))))
	return l
}

// Settle puts right what a clock that was ahead has noted, and forgets what counts no more. changed is
// true where the ledger has to be written again, because time alone would not put it right.
func (l Ledger) Settle(now time.Time) (next Ledger, changed bool) {
	past := func(at time.Time, most time.Duration) time.Time {
		if at.Sub(now) <= most {
			return at
		}
		changed = true
		return now.Add(most)
	}
	l.Orders, l.Contacts = slices.Clone(l.Orders), slices.Clone(l.Contacts)
	for i := range l.Orders {
		l.Orders[i].At = past(l.Orders[i].At, ahead)
	}
	for i := range l.Contacts {
		l.Contacts[i].At = past(l.Contacts[i].At, ahead)
	}
	l.Contacts = slices.DeleteFunc(l.Contacts, func(c Contact) bool { return now.Sub(c.At) >= time.Hour })
	l.Paused, l.LastAsk = past(l.Paused, 24*time.Hour), past(l.LastAsk, ahead)
	l.Names, l.Windows = copied(l.Names), copied(l.Windows)
	for key, f := range l.Names {
		f.Last, f.Until = past(f.Last, ahead), past(f.Until, week)
		f.Recent = slices.Clone(f.Recent)
		for i := range f.Recent {
			f.Recent[i] = past(f.Recent[i], ahead)
		}
		l.Names[key] = f
	}
	for key, w := range l.Windows {
		w.Again = past(w.Again, 24*time.Hour)
		l.Windows[key] = w
	}
	return l, changed
}

// copied is a map with the same, which may be written to.
func copied[V any](m map[string]V) map[string]V {
	out := make(map[string]V, len(m)+1)
	maps.Copy(out, m)
	return out
}

// bounded keeps the ledger small: what counts no more goes first. Of names and windows the oldest
// go; so many attempts lie between that a name that was forgotten stays below the limits.
func (l Ledger) bounded(now time.Time) Ledger {
	if l.size(func(Noted) bool { return true }) > mostKept/2 {
		l.Orders = slices.DeleteFunc(l.Orders, func(o Noted) bool { return !o.counts(now) })
	}
	dropOldest(l.Names, mostNames, func(f Failed) time.Time { return f.Last })
	dropOldest(l.Windows, mostWindows, func(a Asked) time.Time { return a.NotAfter })
	return l
}

// dropOldest leaves the newest of a map.
func dropOldest[V any](all map[string]V, most int, at func(V) time.Time) {
	keys := slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Or(at(all[b]).Compare(at(all[a])), strings.Compare(b, a)) })
	for _, key := range keys[min(len(keys), most):] {
		delete(all, key)
	}
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare)
}

// earlier is the earlier of two times; zero if the first is.
func earlier(a, b time.Time) time.Time {
	return slices.MinFunc([]time.Time{a, b}, time.Time.Compare)
}

// reason is an error in words that fit a line, without what JSON writes in several bytes.
func reason(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if answer, ok := errors.AsType[*CAError](err); ok {
		text = strings.TrimLeft(strings.TrimPrefix(text, answer.Directory), ": ") // whose ledger it is
	}
	return plain.Replace(problem.Printable(text, mostReason))
}

var plain = strings.NewReplacer(`\`, "/", `"`, "'", "<", "(", ">", ")", "&", "+")

// doubling is the pause after n failures in a row: a minute, doubling to the most.
func doubling(n int, most time.Duration) time.Duration {
	return min(time.Minute<<min(max(n-1, 0), 12), most)
}
