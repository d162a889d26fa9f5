package certs

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
)

var (
	start   = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	ours    = netip.MustParseAddr("198.51.100.7")
	private = "https://ca.example.internal/acme/directory"
)

// world is a loop, a CA and a clock for Decide. Orders take two seconds.
type world struct {
	t     *testing.T
	in    Input
	life  time.Duration
	ends  []end
	begun []begun
	// answers says what the CA answers; nil issues everything.
	answers func(Start) error
	windows func(Held) Window
	asks    int
	// quiet has the CA know no identifiers, so that it is not asked about renewals.
	quiet  bool
	serial int
}

type end struct {
	at time.Time
	s  Start
}

// begun is an attempt that reached the CA.
type begun struct {
	at time.Time
	Start
	err error
}

func newWorld(t *testing.T, directories ...string) *world {
	return &world{t: t, life: 90 * day, in: Input{
		Now: start, WishesKnown: true, StoreRead: true, Since: map[string]time.Time{},
		Settings: Settings{ACME: config.ACME{Email: "a@example.com", Directories: directories}, Seed: "i-1"},
		Ledgers:  ledgers(directories...), Place: Place{Known: true, Here: true, Addresses: []netip.Addr{ours}},
		Leads: map[string]Lead{}, Asked: map[string]uint64{},
	}}
}

func ledgers(directories ...string) map[string]Ledger {
	all := map[string]Ledger{}
	for _, d := range directories {
		all[d] = Ledger{Directory: d}
	}
	return all
}

// wish adds a site of a family, first seen now.
func (w *world) wish(family string, names ...string) {
	w.in.Wishes = append(w.in.Wishes, Wish{Host: names[0], Family: family, Names: slices.Sorted(slices.Values(names))})
	w.in.Since[names[0]] = w.in.Now
}

func (w *world) hold(h Held) {
	w.in.Held = append(slices.DeleteFunc(slices.Clone(w.in.Held), func(o Held) bool { return o.ID == h.ID }), h)
}

// held is a certificate for names from then on.
func held(directory string, from time.Time, life time.Duration, names ...string) Held {
	from = from.Truncate(time.Second)
	return Held{ID: ID(names, ECDSA), Names: names, KeyType: ECDSA, Directory: directory, CertID: "aki." + short(fmt.Sprint(from, names)), NotBefore: from, NotAfter: from.Add(life)}
}

// store writes a ledger and reads it again.
func (w *world) store(l Ledger) {
	w.t.Helper()
	text, err := json.Marshal(l)
	if err != nil || len(text) > maxLedger {
		w.t.Fatalf("a ledger of %d bytes: %v", len(text), err)
	}
	var back Ledger
	if err := json.Unmarshal(text, &back); err != nil {
		w.t.Fatal(err)
	}
	w.in.Ledgers[l.Directory] = back
}

// turn decides once and starts what may begin.
func (w *world) turn() Decision {
	w.t.Helper()
	w.in.Leases = map[string]Lease{}
	for _, e := range w.ends {
		w.in.Leases[e.s.ID] = Lease{Running: true}
	}
	d := Decide(w.in)
	for _, directory := range d.Settle {
		l, _ := w.in.Ledgers[directory].Settle(w.in.Now)
		w.store(l)
	}
	for _, name := range d.Look {
		w.in.Leads[name] = Lead{At: w.in.Now, Addresses: []netip.Addr{ours}}
	}
	for _, h := range d.Ask {
		w.asks++
		w.store(w.in.Ledgers[h.Directory].Ask(h, w.in.Now))
		var window Window
		if w.windows != nil {
			window = w.windows(h)
		}
		w.store(w.in.Ledgers[h.Directory].Answer(h, window, nil, w.in.Now))
	}
	for _, s := range d.Start {
		l, until, ok := w.in.Ledgers[s.Directory].Begin(s, w.in.Now)
		if !ok {
			w.t.Fatalf("Begin refuses until %s what Decide starts: %+v", until, s)
		}
		w.store(l)
		var err error
		if w.answers != nil {
			err = w.answers(s)
		}
		w.begun = append(w.begun, begun{w.in.Now, s, err})
		w.ends = append(w.ends, end{w.in.Now.Add(2 * time.Second), s})
	}
	if len(d.Look)+len(d.Ask)+len(d.Settle) > 0 {
		d.Next = w.in.Now.Add(time.Millisecond)
	}
	return d
}

// finish ends the orders that are due.
func (w *world) finish() {
	for _, e := range slices.Clone(w.ends) {
		if e.at.After(w.in.Now) {
			continue
		}
		w.ends = slices.DeleteFunc(w.ends, func(o end) bool { return o.s.ID == e.s.ID })
		i := slices.IndexFunc(w.begun, func(b begun) bool { return b.ID == e.s.ID && b.at.Equal(e.at.Add(-2*time.Second)) })
		err := w.begun[i].err
		w.store(w.in.Ledgers[e.s.Directory].End(e.s, ResultOf(err), err, w.in.Now))
		if err == nil && !e.s.Trial() {
			w.serial++
			h := held(e.s.Directory, w.in.Now, w.life, e.s.Names...)
			h.ID, h.KeyType, h.CertID = e.s.ID, e.s.KeyType, fmt.Sprintf("aki.%d", w.serial)
			if w.quiet {
				h.CertID = ""
			}
			w.hold(h)
		}
	}
}

// run lets time pass until then, or until nothing is left to wait for.
func (w *world) run(until time.Time) (d Decision) {
	w.t.Helper()
	for turns := 0; ; turns++ {
		if turns > 100_000 {
			w.t.Fatal("there is no end of decisions")
		}
		d = w.turn()
		next := d.Next
		for _, e := range w.ends {
			if next.IsZero() || e.at.Before(next) {
				next = e.at
			}
		}
		if next.IsZero() || next.After(until) {
			w.in.Now = until
			w.finish()
			return w.turn()
		}
		if !next.After(w.in.Now) {
			w.t.Fatalf("the next decision at %s is not after %s", next, w.in.Now)
		}
		w.in.Now = next
		w.finish()
	}
}

func (d Decision) entry(t *testing.T, host string) Entry {
	t.Helper()
	for _, e := range d.Entries {
		if slices.Contains(e.Hosts, host) {
			return e
		}
	}
	t.Fatalf("no entry of %s in %+v", host, d.Entries)
	return Entry{}
}

func (d Decision) codes() (all []string) {
	for _, p := range d.Problems {
		all = append(all, p.Code)
	}
	return all
}

// within fails where more than most fall into any span.
func within(t *testing.T, what string, at []time.Time, span time.Duration, most int) {
	t.Helper()
	for i := range at {
		if j := i + most; j < len(at) && at[j].Sub(at[i]) < span {
			t.Errorf("%s: %d from %s to %s, at most %d in %s", what, most+1, at[i], at[j], most, span)
			return
		}
	}
}

var errDown = &CAError{Directory: letsEncrypt, Status: 503}

var errName = &CAError{Directory: letsEncrypt, Status: 403, Type: "unauthorized", Detail: "Invalid response from <http://a/>: \"404\""}

func TestNewHostIsOrderedAtOnce(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	w.wish("ecs:a", "a.example.com")
	d := w.run(start.Add(10 * time.Second))
	if len(w.begun) != 1 || len(w.in.Held) != 1 {
		t.Fatalf("begun %+v, held %+v", w.begun, w.in.Held)
	}
	e := d.entry(t, "a.example.com")
	if e.State != Valid || e.Source != "acme" || e.Renewal.Before(start.Add(59*day)) || len(d.Problems) > 0 {
		t.Errorf("entry %+v, problems %v", e, d.Problems)
	}
}
