package certs

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// A certificate is renewed in the CA's window, at once after it, and else by its life.
func TestWhenIsItRenewed(t *testing.T) {
	at := func(n float64) time.Time { return start.Add(time.Duration(n * float64(day))) }
	for _, tt := range []struct {
		name   string
		life   time.Duration
		window Window // relative to the beginning of the certificate
		first  time.Time
		last   time.Time
	}{
		{"90 days without ARI", 90 * day, Window{}, at(60), at(62)},
		{"160 hours without ARI", 160 * time.Hour, Window{}, at(80. / 24), at(84. / 24)},
		{"by ARI", 90 * day, Window{Start: at(20), End: at(21), Supported: true}, at(20), at(21)},
		{"revoked: the window is past", 90 * day, Window{Start: at(-1), End: at(0.01), Supported: true}, at(0), at(0.02)},
		{"revoked at once: the window is before its life", 90 * day, Window{Start: at(-1), End: at(-0.5), Supported: true}, at(0), at(0.02)},
		{"a window that never ends", 90 * day, Window{Start: at(20), End: at(365 * 100), Supported: true}, at(20), at(85.5)},
		{"a window in the last hour", 90 * day, Window{Start: at(89.96), End: at(89.99), Supported: true}, at(60), at(62)},
		{"a window that makes no sense", 90 * day, Window{Start: at(21), End: at(20), Supported: true}, at(60), at(62)},
		{"no window", 90 * day, Window{Supported: true}, at(60), at(62)},
		{"a window after the end", 90 * day, Window{Start: at(91), End: at(92), Supported: true}, at(60), at(62)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, letsEncrypt)
			w.wish("ecs:a", "a.example.com")
			w.hold(held(letsEncrypt, start, tt.life, "a.example.com"))
			first := w.in.Held[0]
			w.windows = func(h Held) Window {
				if h.CertID == first.CertID {
					return tt.window
				}
				return Window{}
			}
			w.run(at(89))
			if len(w.begun) == 0 {
				t.Fatal("it was not renewed")
			}
			if b := w.begun[0]; b.at.Before(tt.first) || b.at.After(tt.last) || b.Replaces != first.CertID || b.Lifetime != tt.life {
				t.Errorf("renewed at %s (%+v), want %s to %s", b.at, b.Start, tt.first, tt.last)
			}
		})
	}
}

func TestMomentIsStableAndSpread(t *testing.T) {
	w := Window{Start: start, End: start.Add(100 * time.Hour)}
	var all []time.Time
	for i := range 100 {
		id := fmt.Sprint(i)
		m := w.Moment(id, "i-1")
		if !m.Equal(w.Moment(id, "i-1")) || m.Before(w.Start) || m.After(w.End) {
			t.Fatalf("%s: %s", id, m)
		}
		all = append(all, m)
	}
	slices.SortFunc(all, time.Time.Compare)
	if all[10].Sub(start) > 25*time.Hour || all[90].Sub(start) < 75*time.Hour || w.Moment("a", "i-1").Equal(w.Moment("a", "i-2")) {
		t.Errorf("not spread: %v", all)
	}
}

// Which of what is there serves a host, so that nothing is ordered for it.
func TestWhatOrdersNothing(t *testing.T) {
	file := func(until time.Time, names ...string) Pair {
		return Pair{Name: "f", CertFile: "/c/f.crt", DNSNames: names, NotBefore: start.Add(-day), NotAfter: until}
	}
	for _, tt := range []struct {
		name  string
		set   func(*world)
		order bool
		state State
	}{
		{"nothing is there", func(*world) {}, true, Ordering},
		{"ACME is off", func(w *world) { w.in.Settings.Email = "" }, false, ""},
		{"the table is not known", func(w *world) { w.in.WishesKnown = false }, false, Waiting},
		{"the store was not read", func(w *world) { w.in.StoreRead = false }, false, Waiting},
		{"the ledger was not read", func(w *world) { w.in.Ledgers = nil }, false, Waiting},
		{"a file", func(w *world) { w.in.Files.Pairs = []Pair{file(start.Add(50*day), "a.example.com")} }, false, Valid},
		{"a wildcard file", func(w *world) { w.in.Files.Pairs = []Pair{file(start.Add(50*day), "*.example.com")} }, false, Valid},
		{"an expired file", func(w *world) { w.in.Files.Pairs = []Pair{file(start, "a.example.com")} }, true, ""},
		{"a file that has gone", func(w *world) {
			w.in.Files.Pairs, w.in.Files.Gone = []Pair{file(start.Add(50*day), "a.example.com")}, []string{"f"}
		}, true, ""},
		{"its own", func(w *world) { w.hold(held(letsEncrypt, start.Add(-day), 90*day, "a.example.com")) }, false, Valid},
		{"its own for RSA", func(w *world) {
			h := held(letsEncrypt, start.Add(-day), 90*day, "a.example.com")
			h.ID, h.KeyType = ID(h.Names, RSA), RSA
			w.hold(h)
		}, true, Ordering},
		{"a wildcard in the store", func(w *world) { w.hold(held(letsEncrypt, start.Add(-day), 90*day, "*.example.com")) }, false, Valid},
		{"a wildcard in the store that nobody renews", func(w *world) {
			w.hold(held(letsEncrypt, start.Add(-70*day), 90*day, "*.example.com"))
		}, true, Ordering},
		{"an expired wildcard in the store", func(w *world) { w.hold(held(letsEncrypt, start.Add(-91*day), 90*day, "*.example.com")) }, true, Ordering},
		{"one that was imported, with more names", func(w *world) {
			h := held("", start.Add(-day), 90*day, "a.example.com", "b.example.com")
			h.Imported, h.CertID = true, ""
			w.hold(h)
		}, false, Valid},
		{"another instance orders it", func(w *world) {
			w.in.Leases = map[string]Lease{ID([]string{"a.example.com"}, ECDSA): {Live: true}}
		}, false, Ordering},
		{"a standby", func(w *world) { w.in.Place.Here = false }, false, Waiting},
		{"a standby with a zone", func(w *world) {
			w.in.Place.Here, w.in.Covers = false, func(string) bool { return true }
		}, true, Ordering},
		{"the address is not known", func(w *world) { w.in.Place.Known = false }, false, Waiting},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, letsEncrypt)
			w.wish("ecs:a", "a.example.com")
			w.in.Files.At = w.in.Now
			tt.set(w)
			d := Decide(w.in)
			if (len(d.Start) == 1) != tt.order {
				t.Errorf("starts %+v", d.Start)
			}
			if tt.state != "" {
				if e := d.entry(t, "a.example.com"); e.State != tt.state {
					t.Errorf("entry %+v, want %s", e, tt.state)
				}
			}
			if expired := strings.Contains(tt.name, "expired wildcard"); (len(d.Problems) > 0) != expired {
				t.Errorf("problems %+v", d.Problems)
			}
		})
	}
}

// One that was imported is renewed, without Replaces: its CA knows another account.
func TestImportedIsRenewed(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	w.wish("ecs:a", "a.example.com")
	h := held("", start, 90*day, "a.example.com")
	h.Imported = true
	w.hold(h)
	d := w.run(start.Add(70 * day))
	if len(w.begun) != 1 || w.begun[0].Replaces != "" || w.asks > 50 || w.asks < 20 { // the new one is asked for
		t.Errorf("begun %+v, asked %d times", w.begun, w.asks)
	}
	if e := d.entry(t, "a.example.com"); e.Source != "acme" || e.State != Valid {
		t.Errorf("%+v", e)
	}
}

// A wildcard that a site wants serves the hosts below it and renews itself; when it fails to, they
// get their own.
func TestHostsBelowAWantedWildcard(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	w.in.Covers = func(string) bool { return true }
	w.wish("ecs:w", "*.example.com")
	w.wish("ecs:a", "a.example.com")
	w.hold(held(letsEncrypt, start.Add(-61*day), 90*day, "*.example.com"))
	w.answers = func(s Start) error {
		if s.Host == "*.example.com" {
			return errName
		}
		return nil
	}
	w.run(start.Add(day))
	for _, b := range w.begun {
		if b.Host != "*.example.com" || !slices.Equal(b.Kinds["*.example.com"], []string{DNS01}) {
			t.Errorf("begun %+v", b)
		}
	}
	w.run(start.Add(20 * day))
	if !slices.ContainsFunc(w.begun, func(b begun) bool { return b.Host == "a.example.com" }) {
		t.Error("nothing was ordered for the host below it")
	}
}

func TestTwoKeysAndAddress(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	w.in.Settings.Key, w.in.Settings.IP = "both", true
	w.wish("ecs:a", "a.example.com")
	w.run(start.Add(time.Minute))
	var got []string
	for _, b := range w.begun {
		got = append(got, b.ID+" "+b.Profile)
	}
	slices.Sort(got)
	want := []string{ID([]string{ours.String()}, ECDSA) + " shortlived", ID([]string{ours.String()}, RSA) + " shortlived", "a.example.com.P256 ", "a.example.com.RSA2048 "}
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestHostsThatLeadElsewhere(t *testing.T) {
	other := netip.MustParseAddr("203.0.113.9")
	for _, tt := range []struct {
		name string
		lead Lead
		code string
	}{
		{"here", Lead{Addresses: []netip.Addr{ours}}, ""},
		{"elsewhere", Lead{Addresses: []netip.Addr{other}}, "cert-host-elsewhere"},
		{"to both", Lead{Addresses: []netip.Addr{ours, other}}, "cert-host-elsewhere"},
		{"nowhere", Lead{}, "cert-host-elsewhere"},
		{"unknown", Lead{Err: "no such\nhost"}, "cert-host-elsewhere"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, letsEncrypt)
			w.in.Settings.CheckAddress = true
			w.wish("ecs:a", "a.example.com")
			d := Decide(w.in)
			if !slices.Equal(d.Look, []string{"a.example.com"}) || len(d.Start) > 0 || len(d.Problems) > 0 {
				t.Fatalf("before: %+v", d)
			}
			tt.lead.At = w.in.Now
			w.in.Leads["a.example.com"] = tt.lead
			d = Decide(w.in)
			if (len(d.Start) == 1) != (tt.code == "") || strings.Join(d.codes(), " ") != tt.code || len(d.Look) > 0 {
				t.Errorf("after: %+v", d)
			}
			for _, p := range d.Problems {
				if p.Host != "a.example.com" || p.Hint == "" || p.Severity != problem.Error || strings.Contains(p.Text, "\n") || d.entry(t, p.Host).Problem != tt.code {
					t.Errorf("%+v", p)
				}
			}
			if w.in.Now = w.in.Now.Add(3 * time.Minute); tt.code != "" && len(Decide(w.in).Look) != 1 {
				t.Error("it is not looked up again")
			}
			w.in.Covers = func(string) bool { return true }
			if d := Decide(w.in); len(d.Start) != 1 {
				t.Errorf("with a zone: %+v", d)
			}
		})
	}
}

// What a container may choose is the operator's to allow.
func TestChoicesOfContainers(t *testing.T) {
	w := newWorld(t, letsEncrypt, private)
	w.in.Wishes = []Wish{
		{Host: "a.example.com", Names: []string{"a.example.com"}, Directory: private, Profile: "tlsserver", KeyType: RSA},
		{Host: "b.example.com", Names: []string{"b.example.com"}, Directory: "https://evil.example/", Profile: "odd"},
		{Host: "c.example.com", Names: []string{"c.example.com"}, Directory: letsEncryptStaging},
	}
	w.in.Ledgers[letsEncryptStaging] = Ledger{Directory: letsEncryptStaging}
	got := map[string]string{}
	d := Decide(w.in)
	for _, s := range d.Start {
		got[s.Host] = s.At + " " + s.Profile + " " + string(s.KeyType)
	}
	if d := cmp.Diff(map[string]string{"a.example.com": private + " tlsserver rsa2048", "b.example.com": letsEncrypt + "  p256", "c.example.com": letsEncryptStaging + "  p256"}, got); d != "" {
		t.Error(d)
	}
	if !slices.Equal(d.codes(), []string{"cert-choice-refused"}) || d.Problems[0].Severity != problem.Warning {
		t.Errorf("%+v", d.Problems)
	}
}

// A problem is relative to the life of the certificate.
func TestProblemsFollowTheLife(t *testing.T) {
	for _, tt := range []struct {
		life, age time.Duration
		state     State
		severity  string
	}{
		{90 * day, 59 * day, Valid, ""},
		{90 * day, 65 * day, Waiting, ""},
		{90 * day, 72 * day, Overdue, "warning"},
		{90 * day, 83 * day, Overdue, "error"},
		{90 * day, 90 * day, Expired, "error"},
		{12 * day, 10*day + time.Hour, Overdue, "error"}, // 2 days at least
		{160 * time.Hour, 70 * time.Hour, Valid, ""},
		{160 * time.Hour, 90 * time.Hour, Waiting, ""},
		{160 * time.Hour, 110 * time.Hour, Overdue, "warning"},
		{160 * time.Hour, 145 * time.Hour, Overdue, "error"},
	} {
		t.Run(fmt.Sprintf("%s of %s", tt.age, tt.life), func(t *testing.T) {
			w := newWorld(t, letsEncrypt)
			w.in.Place.Here = false // so it cannot be renewed here
			w.wish("ecs:a", "a.example.com")
			w.hold(held(letsEncrypt, start.Add(-tt.age), tt.life, "a.example.com"))
			d := Decide(w.in)
			severity := ""
			for _, p := range d.Problems {
				severity += p.Severity.String()
			}
			if e := d.entry(t, "a.example.com"); e.State != tt.state || severity != tt.severity {
				t.Errorf("%s %q, want %s %q: %+v", e.State, severity, tt.state, tt.severity, d.Problems)
			}
			if e := d.entry(t, "a.example.com"); e.Overdue != (tt.severity != "") {
				t.Errorf("overdue: %v", e.Overdue)
			}
			// A file of that age counts alike, but that it is the operator's to renew.
			overdue, soon := Expiring(start, start.Add(-tt.age), start.Add(tt.life-tt.age))
			if want := tt.severity != ""; (overdue || soon) != want || soon != (tt.severity == "error") {
				t.Errorf("Expiring: %v, %v", overdue, soon)
			}
		})
	}
	if overdue, soon := Expiring(start, start.AddDate(-9, 0, 0), start.AddDate(1, 0, 0)); overdue || soon {
		t.Error("a certificate of 10 years is a problem a year before its end")
	}
}

// Whatever the world does, a decision is the same for the same input, starts nothing twice and nothing
// that is refused, and does not ask to be made again at once.
func TestDecisionsOfRandomWorlds(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, letsEncrypt, private)
		w.in.Settings.CheckAddress = seed%2 == 0
		w.answers = func(Start) error { return []error{nil, nil, errDown, errName}[r.IntN(4)] }
		w.windows = func(h Held) Window {
			at := h.NotBefore.Add(time.Duration(r.Int64N(int64(w.life))))
			return Window{Start: at, End: at.Add(time.Duration(r.Int64N(int64(day)))), Supported: r.IntN(2) == 0}
		}
		w.life = []time.Duration{90 * day, 160 * time.Hour}[r.IntN(2)]
		for i := range 1 + r.IntN(12) {
			w.wish("ecs:"+string(rune('a'+r.IntN(3))), []string{fmt.Sprintf("h%d.example.com", i), fmt.Sprintf("h%d.test", i), fmt.Sprintf("*.h%d.example.org", i), "localhost"}[r.IntN(4)])
		}
		for range 20 {
			a := w.turn()
			seen := map[string]bool{}
			for _, s := range a.Start {
				if seen[s.ID] || check(s.Names, s.Directory) != nil {
					t.Fatalf("seed %d: %+v", seed, s)
				}
				seen[s.ID] = true
			}
			if diff := cmp.Diff(Decide(w.in), Decide(w.in)); diff != "" {
				t.Fatalf("seed %d: %s", seed, diff)
			}
			w.in.Now = w.in.Now.Add(time.Duration(r.Int64N(int64(3 * day))))
			w.finish()
		}
	}
}
