package order

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/acme"
	"github.com/nagaya-ecs/nagaya/agent/config"
)

// bring puts a certificate for a host into the store as another program does.
func (w *world) bring(host string, from, to, saved time.Time) certs.Bundle {
	w.t.Helper()
	key, err := acme.NewKey(certs.ECDSA)
	if err != nil {
		w.t.Fatal(err)
	}
	names := []string{host}
	csr, err := acme.NewRequest(key, names)
	if err != nil {
		w.t.Fatal(err)
	}
	chain, err := w.ca.sign(csr, from, to)
	if err != nil {
		w.t.Fatal(err)
	}
	b, err := certs.Bundle{Held: certs.Held{ID: certs.ID(names, certs.ECDSA)}, Chain: chain, Key: key}.Checked()
	if err != nil {
		w.t.Fatal(err)
	}
	b.Imported, b.Saved, b.Writer = true, saved, "import-"+host
	body, err := json.Marshal(b)
	if err != nil {
		w.t.Fatal(err)
	}
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.store.objects[certName(b.ID)] = string(body)
	return b
}

// One that is valid takes the place of one that has expired, although that was issued later.
func TestAnExpiredOneGivesWay(t *testing.T) {
	inBubble(t, func(w *world) {
		w.ca.life = time.Hour
		a := w.instance("a")
		a.start(true, "a.test")
		after(time.Minute)
		w.ca.mu.Lock()
		w.ca.fault = func(string, []string) error { return &certs.CAError{Directory: directory, Status: 503} }
		w.ca.mu.Unlock()
		after(3 * time.Hour)
		now := time.Now()
		b := w.bring("a.test", now.Add(-30*24*time.Hour), now.Add(30*24*time.Hour), now)
		after(6 * time.Minute)
		if got := a.copies()[b.ID]; got == nil || !got.NotAfter.Equal(b.NotAfter) {
			t.Error("the one that was imported is not here")
		}
		if body, _, _ := w.store.Get(t.Context(), certName(b.ID)); !strings.Contains(string(body), "import-a.test") {
			t.Errorf("the expired one was written over it")
		}
	})
}

// When others say that they have written something has no effect: their clocks may be wrong.
func TestRenewBesideOneOfTheYear9999(t *testing.T) {
	inBubble(t, func(w *world) {
		now := time.Now()
		far := time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)
		w.bring("z.test", now.Add(-time.Hour), now.Add(60*24*time.Hour), far)
		own := w.bring("a.test", now.Add(-time.Hour), now.Add(60*24*time.Hour), now)
		a := w.instance("a")
		a.start(true, "a.test", "z.test")
		after(time.Hour)
		w.ca.slow(10 * time.Second)
		asked := make(chan error, 1)
		go func() { asked <- a.renew("a.test") }()
		after(15 * time.Second)
		if text, err := json.Marshal(a.said()); err != nil || strings.Contains(string(text), "9999") {
			t.Errorf("meanwhile: %v, %s", err, text)
		}
		if err := <-asked; err != nil {
			t.Error(err)
		}
		after(time.Minute)
		if got := a.copies()[own.ID]; got == nil || !got.NotBefore.After(own.NotBefore) {
			t.Error("it was not renewed")
		}
		w.ca.mu.Lock()
		w.ca.fault = func(string, []string) error {
			return &certs.CAError{Directory: directory, Status: 429, Type: certs.RateLimited, RetryAfter: time.Now().Add(time.Hour)}
		}
		w.ca.mu.Unlock()
		for range 2 {
			if err := a.renew("a.test"); err == nil || strings.Contains(err.Error(), "9999") {
				t.Errorf("refused: %v", err)
			}
		}
	})
}

// A site that comes and goes has the store listed no more often than others, while one waits for a certificate.
func TestASiteThatFlaps(t *testing.T) {
	inBubble(t, func(w *world) {
		var lists, quickly atomic.Int32
		var last time.Time
		w.store.fault = func(op, _ string, after bool) error {
			if op == "list" && !after {
				if lists.Add(1); time.Since(last) < pollEvery {
					quickly.Add(1)
				}
				last = time.Now()
			}
			return nil
		}
		b := w.instance("b")
		b.start(false, "a.test")
		for range 8 * 60 * 6 {
			b.want("a.test", "flaps.test")
			after(5 * time.Second)
			b.want("a.test")
			after(5 * time.Second)
		}
		if most := int32(2*8*time.Hour/pollEvery) + mostQuick; lists.Load() > most {
			t.Errorf("%d lists in eight hours, %d of them quickly; at most %d", lists.Load(), quickly.Load(), most)
		}
		after(3 * time.Hour)
		quickly.Store(0)
		b.want("a.test", "new.test")
		after(10 * time.Minute)
		if n := quickly.Load(); n < 4 {
			t.Errorf("%d quick lists for a new site", n)
		}
	})
}

// What the operator writes into the file of bindings is taken at the next try, without a restart.
func TestTheFileOfBindingsChanges(t *testing.T) {
	inBubble(t, func(w *world) {
		file := filepath.Join(t.TempDir(), "eab")
		bind := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.ca.binding = "right"
		bind(directory + " wrong mac\n")
		c := config.Default()
		c.StateDir, c.Certs.ACME.EABFile = t.TempDir(), file
		given, err := configured(c, "")
		if err != nil {
			t.Fatal(err)
		}
		a := w.instance("a")
		a.o.Binding = given.Binding
		a.start(true, "a.test")
		after(time.Minute)
		if ps := a.said().Problems; len(ps) != 1 || !strings.Contains(ps[0].Text, "the binding is unknown") {
			t.Errorf("with a wrong one: %+v", ps)
		}
		bind("spoilt")
		after(12 * time.Hour)
		if ps := a.said().Problems; len(ps) == 0 || !strings.Contains(ps[0].Text, "certs.acme.eab-file: line 1") {
			t.Errorf("with a spoilt file: %+v", ps)
		}
		bind(directory + " right mac\n")
		after(12 * time.Hour)
		a.mustHave("with the right one", "a.test")
	})
}
