package order

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/certs/acme"
	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/latest"
)

// Each time that files are written, nginx loads its configuration again.
func TestManyHostsAtOnce(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.instance("a")
		var hosts []string
		for n := range 200 {
			hosts = append(hosts, fmt.Sprintf("h%d.test", n))
		}
		a.start(true, hosts...)
		have, written, first := 0, 0, time.Duration(0)
		began := time.Now()
		for have < len(hosts) && time.Since(began) < time.Hour {
			after(500 * time.Millisecond)
			entries, _ := os.ReadDir(a.o.Issued)
			if len(entries) != have {
				have, written = len(entries), written+1
				if first == 0 {
					first = time.Since(began)
				}
			}
		}
		if took := time.Since(began); have != len(hosts) || written > 10 || first > 3*time.Second || took > 5*time.Minute {
			t.Errorf("%d certificates in %s, written %d times, the first after %s; problems %+v", have, took, written, first, a.said().Problems)
		}
	})
}

// A store that cannot be read leaves what is here in force, and nothing is ordered.
func TestTheStoreCannotBeRead(t *testing.T) {
	for name, hangs := range map[string]bool{"it fails": false, "it hangs": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				a := w.instance("a")
				a.start(true, "a.test")
				after(10 * time.Second)
				a.stop()
				w.store.fault = func(string, string, bool) error {
					if hangs {
						return errHang
					}
					return errors.New("access denied")
				}
				a.ready = 0 // it has stopped
				a.start(true, "a.test", "b.test")
				after(10 * time.Second)
				if a.readies() != 1 {
					t.Error("it is not ready after 10 s")
				}
				after(10 * time.Minute)
				a.mustHave("without the store", "a.test")
				if ps := a.said().Problems; w.ca.count("begin") != 1 || len(ps) == 0 || ps[0].Code != "store-unreadable" || ps[0].Hint == "" {
					t.Errorf("%d orders, problems %+v", w.ca.count("begin"), ps)
				}
				w.store.mu.Lock()
				w.store.fault = nil
				w.store.mu.Unlock()
				after(3 * time.Minute)
				a.mustHave("with the store again", "a.test", "b.test")
				if len(a.said().Problems) > 0 {
					t.Errorf("problems %+v", a.said().Problems)
				}
			})
		})
	}
}

// What the store does not take is served all the same, and written there later.
func TestTheStoreFailsAfterAnOrder(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.instance("a")
		w.store.fault = func(op, name string, _ bool) error {
			if op == "put" && strings.HasPrefix(name, "certs/") {
				return errors.New("no space")
			}
			return nil
		}
		a.start(true, "a.test")
		after(30 * time.Minute)
		a.mustHave("without the store", "a.test")
		if n := w.ca.count("begin"); n != 1 {
			t.Errorf("%d orders", n)
		}
		w.store.mu.Lock()
		w.store.fault = nil
		w.store.mu.Unlock()
		after(30 * time.Minute)
		if len(w.store.names("certs/")) != 1 || w.ca.count("begin") != 1 {
			t.Errorf("the store has %v after %d orders", w.store.names(""), w.ca.count("begin"))
		}
		w.mustBeSettled("then", a)
	})
}

// A store that can be read and not written is a problem, and so is a record that cannot be made.
func TestOrdersThatFailHere(t *testing.T) {
	denied := &certs.StoreError{Text: "s3:PutObject is denied", Remedy: "allow it"}
	for code, name := range map[string]string{"store-unreadable": "a.test", "cert-order-failed": "*.zone.test"} {
		t.Run(code, func(t *testing.T) {
			inBubble(t, func(w *world) {
				a := w.instance("a")
				if code == "store-unreadable" {
					w.store.fault = func(op, name string, _ bool) error {
						if op == "put" && strings.HasPrefix(name, "orders/") {
							return denied
						}
						return nil
					}
				} else {
					w.dns.fault = func(string, string) error { return errors.New("route53:ChangeResourceRecordSets is denied") }
				}
				a.start(true, name)
				after(5 * time.Second)
				if e := a.said().Entries[0]; e.State != certs.Waiting || !strings.Contains(e.Reason, "is denied") || len(a.said().Problems) > 0 {
					t.Errorf("after one failure: %+v, problems %+v", e, a.said().Problems)
				}
				after(time.Minute)
				ps := a.said().Problems
				if len(ps) != 1 || ps[0].Code != code || !strings.Contains(ps[0].Text, "is denied") || ps[0].Hint == "" {
					t.Errorf("problems %+v", ps)
				}
				w.store.mu.Lock()
				w.store.fault, w.dns.fault = nil, nil
				w.store.mu.Unlock()
				after(time.Hour)
				a.mustHave("afterwards", name)
				if len(a.said().Problems) > 0 {
					t.Errorf("afterwards: problems %+v", a.said().Problems)
				}
			})
		})
	}
}

// A CA that makes no account has said nothing about a name.
func TestAnAccountIsRefused(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.instance("a")
		w.ca.fault = func(op string, _ []string) error {
			if op == "register" {
				return &certs.CAError{Directory: directory, Status: 403, Type: "unauthorized", Detail: "the binding is wrong"}
			}
			return nil
		}
		a.start(true, "a.test")
		after(10 * time.Second)
		if ps := a.said().Problems; len(ps) != 1 || ps[0].Code != "acme-failed" || !strings.Contains(ps[0].Text, "accountRefused: 'unauthorized: the binding is wrong'") {
			t.Errorf("problems %+v", ps)
		}
	})
}

// What a CA issues is kept only if it is what was ordered.
func TestAWrongCertificate(t *testing.T) {
	key, err := acme.NewKey(certs.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	other, err := acme.NewRequest(key, []string{"a.test"})
	if err != nil {
		t.Fatal(err)
	}
	for want, issue := range map[string]func(c *fakeCA, csr []byte) (string, error){
		"do not belong together": func(c *fakeCA, _ []byte) (string, error) {
			return c.sign(other, time.Now().Add(-time.Minute), time.Now().Add(time.Hour))
		},
		"is the clock right": func(c *fakeCA, csr []byte) (string, error) {
			return c.sign(csr, time.Now().Add(time.Hour), time.Now().Add(2*time.Hour))
		},
	} {
		t.Run(want, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.ca.issue = func(csr []byte) (string, error) { return issue(w.ca, csr) }
				a := w.instance("a")
				a.start(true, "a.test")
				after(10 * time.Second)
				if ps := a.said().Problems; len(ps) != 1 || ps[0].Code != "acme-failed" || !strings.Contains(ps[0].Text, want) || !strings.Contains(ps[0].Text, certs.WrongCertificate) {
					t.Errorf("problems %+v", ps)
				}
				if all := w.store.names("certs/"); len(all) > 0 {
					t.Errorf("kept: %v", all)
				}
			})
		})
	}
}

// Who asks before the sites are known is told so.
func TestAskedTooEarly(t *testing.T) {
	l, reply := &loop{}, make(chan error, 1)
	l.ask(latest.Question[string]{Value: "a.test", Reply: reply})
	if err := <-reply; err == nil || !strings.Contains(err.Error(), "ask again") {
		t.Error(err)
	}
}

// Whoever has the address answers the challenges of orders that others have begun.
func TestHandoverInTheMidstOfAnOrder(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.instance("a"), w.instance("b")
		a.start(true, "a.test")
		b.start(false, "a.test")
		w.ca.slow(10 * time.Second)
		after(25 * time.Second) // registered, begun
		a.hold(false)
		b.hold(true)
		after(20 * time.Second)
		a.mustHave("after the handover", "a.test")
		after(30 * time.Second)
		b.mustHave("too", "a.test")
		if n := w.ca.count("begin"); n != 1 {
			t.Errorf("%d orders", n)
		}
		w.mustBeSettled("then", a, b)
	})
}

// A standby has the certificates of the holder soon after they were ordered, and is idle otherwise.
func TestAStandby(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.instance("a"), w.instance("b")
		b.start(false, "a.test")
		after(time.Minute)
		a.start(true, "a.test")
		after(2 * time.Minute)
		b.mustHave("soon", "a.test")
		b.mu.Lock()
		before := b.calls
		b.mu.Unlock()
		after(time.Hour)
		if n := b.calls - before; n > 13 {
			t.Errorf("%d calls in an idle hour", n)
		}
	})
}

// What fails here before the CA is asked for an order uses up no limit.
func TestAnAccountThatIsSpoilt(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.instance("a")
		a.start(true, "a.test")
		after(time.Minute)
		w.store.mu.Lock()
		w.store.objects[accountName(directory)] = "{key"
		w.store.mu.Unlock()
		a.want("a.test", "b.test")
		after(time.Minute)
		a.mustHave("with a new account", "a.test", "b.test")
		if kept := w.store.names("spoilt/"); len(kept) != 1 || w.store.objects[kept[0]] != "{key" || !strings.Contains(fmt.Sprint(a.log), "accounts/") {
			t.Errorf("set aside: %v; log:\n%s", kept, a.log)
		}
	})
}

// The budget of a CA starts over, after as long as the CA counts orders and failures.
func TestABudgetThatIsSpoilt(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.instance("a")
		a.start(true, "a.test")
		after(time.Minute)
		w.store.mu.Lock()
		w.store.objects[ledgerName(directory)] = "{"
		w.store.mu.Unlock()
		a.want("a.test", "b.test")
		after(170 * time.Minute)
		a.mustHave("while the limits may be used up", "a.test")
		if ps := a.said().Problems; len(ps) != 1 || ps[0].Code != "acme-failed" || !strings.Contains(ps[0].Text, "cannot be read, and starts over") {
			t.Errorf("problems %+v", ps)
		}
		if kept := w.store.names("spoilt/"); len(kept) != 1 {
			t.Errorf("set aside: %v", kept)
		}
		after(20 * time.Minute)
		a.mustHave("then", "a.test", "b.test")
	})
}

// A standby whose clock was a year ahead takes the certificates of the store once its clock is right.
func TestAStandbyThatWasAhead(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.instance("a"), w.instance("b")
		a.start(true, "a.test")
		after(time.Minute)
		b.step(365 * 24 * time.Hour)
		b.start(false, "a.test")
		after(10 * time.Minute)
		b.step(0)
		after(10 * time.Minute)
		b.mustHave("by a clock that is right", "a.test")
	})
}

// What another program has written to the store is here at once, if somebody says so.
func TestAskedToLookAgain(t *testing.T) {
	inBubble(t, func(w *world) {
		a, b := w.instance("a"), w.instance("b")
		b.start(false)
		after(10 * time.Second)
		a.start(true, "a.test")
		after(10 * time.Second)
		if n := len(b.copies()); n > 0 {
			t.Errorf("%d certificates are here already", n)
		}
		b.in.Again.Put(struct{}{})
		after(time.Second)
		b.mustHave("at once", "a.test")
	})
}

func (i *instance) renew(host string) error {
	return latest.Ask(i.t.Context(), i.in.Questions, host)
}

func TestRenewNow(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.instance("a")
		a.start(true, "a.test")
		after(time.Hour)
		before := a.copies()
		if err := a.renew("a.test"); err != nil {
			t.Errorf("%v; log:\n%s", err, a.log)
		}
		after(time.Minute)
		id := certs.ID([]string{"a.test"}, certs.ECDSA)
		if now := a.copies(); !now[id].NotBefore.After(before[id].NotBefore) {
			t.Errorf("it is that of %s still", now[id].NotBefore)
		}
		if err := a.renew("b.test"); err == nil || !strings.Contains(err.Error(), "certs.acme.email") {
			t.Errorf("of another host: %v", err)
		}
		for range 10 {
			if err := a.renew("a.test"); err != nil {
				if !strings.Contains(err.Error(), "limits") {
					t.Errorf("beyond the limits: %v", err)
				}
				return
			}
		}
		t.Errorf("it is ordered ten times: %d; %d entries; log:\n%s", w.ca.count("begin"), len(a.said().Entries), a.log)
	})
}

// Files that are old, of a killed order, spoilt, or gone.
func TestFilesOfTheLocalCopy(t *testing.T) {
	inBubble(t, func(w *world) {
		a := w.instance("a")
		a.start(true, "a.test", "b.test")
		after(10 * time.Second)
		a.stop()
		stray := filepath.Join(a.o.Challenges, challengePath, "stray")
		if err := os.WriteFile(stray, []byte("stray.x"), 0o644); err != nil {
			t.Fatal(err)
		}
		spoilt := filepath.Join(a.o.Issued, certs.ID([]string{"a.test"}, certs.ECDSA)+".pem")
		if err := os.WriteFile(spoilt, []byte("nagaya {}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		a.start(true, "a.test")
		after(time.Minute)
		a.mustHave("after one was spoilt", "a.test", "b.test")
		if _, err := os.Stat(stray); err == nil {
			t.Error("a stray answer is left")
		}
		if err := os.Remove(spoilt); err != nil {
			t.Fatal(err)
		}
		after(6 * time.Minute)
		a.mustHave("after one went", "a.test", "b.test")
		after(121 * 24 * time.Hour)
		if len(a.copies()) != 1 {
			t.Errorf("that of b.test has expired a month ago, and is left: %v", a.copies())
		}
		if n := w.ca.count("begin"); n > 6 {
			t.Errorf("%d orders", n)
		}
	})
}

// Objects of the store that are not what they should be keep nothing else from being read.
func TestSpoiltObjects(t *testing.T) {
	inBubble(t, func(w *world) {
		id := certs.ID([]string{"a.test"}, certs.ECDSA)
		for _, name := range []string{certName(id), leaseName(id), certName("../../etc/passwd"), certName("x"), "other/thing"} {
			w.store.objects[name] = "{spoilt"
		}
		a := w.instance("a")
		a.start(true, "a.test")
		after(time.Minute)
		a.mustHave("beside spoilt objects", "a.test")
		if w.store.objects[certName("x")] != "{spoilt" {
			t.Error("another's object was changed")
		}
	})
}

// An agent that is started again and again asks a CA that fails no more than one that runs.
func TestCrashLoop(t *testing.T) {
	for name, fault := range map[string]*certs.CAError{
		"5xx":       {Directory: directory, Status: 503},
		"429":       {Directory: directory, Status: 429, Type: certs.RateLimited, RetryAfter: time.Date(2000, 1, 1, 2, 0, 0, 0, time.UTC)},
		"malformed": {Directory: directory, Status: 200, Type: "malformed"},
		"refused":   {Directory: directory, Status: 403, Type: "unauthorized", Over: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.ca.fault = func(string, []string) error { return fault }
				a := w.instance("a")
				for range 360 {
					a.start(true, "a.test", "b.test", "c.zone.test")
					after(10 * time.Second)
					a.kill()
				}
				all := 0
				for _, n := range w.ca.calls {
					all += n
				}
				if all > 15 {
					t.Errorf("%d calls in an hour: %v", all, w.ca.calls)
				}
			})
		})
	}
}

// Two instances that were made of one image, the file of the owner included, are two owners; one that restarts is the same.
func TestOwnersOfOneImage(t *testing.T) {
	c := config.Default()
	c.StateDir = t.TempDir()
	owner := func(instance string) string {
		o, err := configured(c, instance)
		if err != nil {
			t.Fatal(err)
		}
		return o.Owner
	}
	a := owner("i-0a1b2c3d4e5f60718")
	if b := owner("i-0b1b2c3d4e5f60718"); a == b {
		t.Errorf("both are %q", a)
	}
	if again := owner("i-0a1b2c3d4e5f60718"); a != again {
		t.Errorf("after a restart %q is %q", a, again)
	}
}
