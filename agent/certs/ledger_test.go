package certs

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func (w *world) times(fits func(begun) bool) (all []time.Time) {
	for _, b := range w.begun {
		if fits(b) {
			all = append(all, b.at)
		}
	}
	return all
}

// limits checks what Let's Encrypt would refuse.
func (w *world) limits() {
	w.t.Helper()
	real := func(b begun) bool { return !b.Trial() && b.Directory == letsEncrypt }
	within(w.t, "orders", w.times(real), 3*time.Hour, 300)
	seen := map[string]bool{}
	for _, b := range w.begun {
		set, domain := strings.Join(b.Names, ","), registered(b.Names[0])
		if !seen[set] {
			within(w.t, "certificates for "+set, w.times(func(o begun) bool {
				return real(o) && o.err == nil && o.Replaces == "" && strings.Join(o.Names, ",") == set
			}), week, 5)
			within(w.t, "failures of "+set, w.times(func(o begun) bool { return real(o) && o.err != nil && slices.Equal(o.Names, b.Names) }), time.Hour, 5)
		}
		if !seen["d "+domain] {
			within(w.t, "certificates for the domain "+domain, w.times(func(o begun) bool {
				return real(o) && o.err == nil && o.Replaces == "" && registered(o.Names[0]) == domain
			}), week, 50)
		}
		seen[set], seen["d "+domain] = true, true
	}
}

// 200 hosts become new at once.
func TestManyNewHosts(t *testing.T) {
	t.Run("over several domains", func(t *testing.T) {
		w := newWorld(t, letsEncrypt)
		for i := range 200 {
			w.wish(fmt.Sprintf("ecs:f%d", i%10), fmt.Sprintf("h%d.domain%d.com", i, i%10))
			w.in.Since[w.in.Wishes[i].Host] = start.Add(-time.Duration(i) * time.Second) // the last has waited longest
		}
		w.run(start.Add(10 * time.Minute))
		if len(w.in.Held) != 200 || len(w.begun) != 200 {
			t.Fatalf("%d certificates by %d orders in 10 minutes", len(w.in.Held), len(w.begun))
		}
		for i, b := range w.begun {
			if want := w.in.Wishes[199-i].Host; b.Host != want {
				t.Fatalf("the order %d is for %s, want %s", i, b.Host, want)
			}
		}
		w.limits()
	})
	t.Run("below one domain", func(t *testing.T) {
		w := newWorld(t, letsEncrypt)
		w.quiet = true
		for i := range 200 {
			w.wish("ecs:a", fmt.Sprintf("h%d.example.com", i))
		}
		d := w.run(start.Add(10 * time.Minute))
		if n := len(w.in.Held); n != ofFamily(mostOfDomain) {
			t.Fatalf("%d certificates in 10 minutes", n)
		}
		var last time.Time
		waiting := 0
		for _, e := range d.Entries {
			if e.State == Waiting {
				waiting++
				if e.Problem != "cert-limited" || e.Renewal.Before(start.Add(week)) || !strings.Contains(e.Reason, e.Renewal.Format(time.RFC3339)) {
					t.Fatalf("%+v", e)
				}
				if e.Renewal.After(last) {
					last = e.Renewal
				}
			}
		}
		if waiting != 160 || last.Before(start.Add(4*week)) || last.After(start.Add(5*week)) {
			t.Errorf("%d wait, the last until %s", waiting, last)
		}
		// Another family gets one at once.
		w.wish("ecs:b", "b.example.com")
		w.run(w.in.Now.Add(time.Minute))
		if b := w.begun[len(w.begun)-1]; b.Host != "b.example.com" {
			t.Errorf("another family waits: the last order is for %s", b.Host)
		}
		w.run(start.Add(5 * week))
		if n := len(w.in.Held); n != 201 {
			t.Errorf("%d certificates after 5 weeks", n)
		}
		w.limits()
	})
	t.Run("from a CA of one's own", func(t *testing.T) {
		w := newWorld(t, private)
		for i := range 200 {
			w.wish("ecs:a", fmt.Sprintf("h%d.test", i))
		}
		w.run(start.Add(10 * time.Minute))
		if n := len(w.in.Held); n != 200 {
			t.Errorf("%d certificates", n)
		}
	})
}

// Two weeks with 20 hosts of short life, of which some names fail, some CAs do, and all is as the CA allows.
func TestTwoWeeks(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	w := newWorld(t, letsEncrypt)
	w.life = 160 * time.Hour
	for i := range 20 {
		w.wish(fmt.Sprintf("ecs:f%d", i%7), fmt.Sprintf("h%d.domain%d.com", i, i%3))
	}
	w.answers = func(s Start) error {
		switch n := r.IntN(20); {
		case s.Host == "h1.domain1.com" && !s.Trial():
			return errName // the staging directory believes it, the other never does
		case n == 0:
			return errDown
		case n == 1:
			return errName
		}
		return nil
	}
	w.run(start.Add(15 * day))
	d := w.run(start.Add(15*day + time.Hour))
	w.limits()
	for _, e := range d.Entries {
		if e.Hosts[0] != "h1.domain1.com" && e.State != Valid && e.State != Ordering && e.State != Waiting {
			t.Errorf("%+v", e)
		}
	}
	if n := w.times(func(b begun) bool { return b.Host == "h1.domain1.com" }); len(n) > 90 {
		t.Errorf("a name that fails was tried %d times in 15 days", len(n))
	}
}

// The agent is killed in the midst of every attempt and starts again at once, for an hour.
func TestCrashLoop(t *testing.T) {
	for _, hosts := range []int{1, 50} {
		w := newWorld(t, letsEncrypt)
		for i := range hosts {
			w.wish("ecs:a", fmt.Sprintf("h%d.example%d.com", i, i))
			if i > 10 {
				w.hold(held(letsEncrypt, start.Add(-day), 90*day, fmt.Sprintf("h%d.example%d.com", i, i)))
			}
		}
		requests := 0
		for w.in.Now.Before(start.Add(time.Hour)) {
			d := w.turn()
			requests += 5*len(d.Start) + 2*len(d.Ask)
			w.ends = nil
			w.in.Now = w.in.Now.Add(5 * time.Second)
		}
		if requests > 30 || len(w.begun) < 3 {
			t.Errorf("%d hosts: %d requests by %d orders and %d questions in an hour", hosts, requests, len(w.begun), w.asks)
		}
	}
}

// A CA that fails is asked less and less often, and sites keep what they have.
func TestFailingCA(t *testing.T) {
	for name, err := range map[string]*CAError{
		"5xx":                  {Status: 503},
		"no answer":            {Err: errors.New("i/o timeout")},
		"malformed":            {Status: 200, Err: errors.New("invalid character '<'")},
		"limited":              {Status: 429, Type: "rateLimited", RetryAfter: start.Add(10 * time.Hour)},
		"unavailable for long": {Status: 503, RetryAfter: start.Add(10 * time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, letsEncrypt)
			w.wish("ecs:old", "old.example.com")
			w.hold(held(letsEncrypt, start.Add(-65*day), 90*day, "old.example.com"))
			for i := range 20 {
				w.wish("ecs:a", fmt.Sprintf("h%d.example.com", i))
			}
			w.answers = func(Start) error { return err }
			d := w.run(start.Add(59 * time.Minute))
			if n := len(w.begun); n > mostContacts || n == 0 {
				t.Errorf("%d attempts in an hour", n)
			}
			if !slices.Equal(slices.Compact(d.codes()), []string{"acme-failed"}) || len(w.in.Held) != 1 {
				t.Errorf("%+v", d.Problems)
			}
			first := len(w.begun)
			w.answers = nil
			w.run(start.Add(12 * time.Hour))
			if !err.RetryAfter.IsZero() && err.Status == 503 {
				if at := w.begun[first].at; at.Before(err.RetryAfter) {
					t.Errorf("asked again at %s, before %s", at, err.RetryAfter)
				}
			}
			if len(w.in.Held) != 21 {
				t.Errorf("%d certificates when the CA is well again", len(w.in.Held))
			}
		})
	}
}

// A CA that says 429 about one domain holds up others for an hour at most.
func TestOneDomainIsLimited(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	w.wish("ecs:a", "a.example.com")
	w.answers = func(s Start) error {
		if s.Host == "a.example.com" {
			return &CAError{Status: 429, Type: "rateLimited", RetryAfter: start.Add(2 * day)}
		}
		return nil
	}
	w.run(start.Add(time.Minute))
	w.wish("ecs:b", "b.example.org")
	w.run(start.Add(61 * time.Minute))
	if n := len(w.in.Held); n != 1 {
		t.Errorf("%d certificates after an hour", n)
	}
	w.run(start.Add(47 * time.Hour))
	if n := len(w.times(func(b begun) bool { return b.Host == "a.example.com" })); n != 1 {
		t.Errorf("the limited name was tried %d times", n)
	}
}

func TestNextDirectoryAndStaging(t *testing.T) {
	w := newWorld(t, letsEncrypt, private)
	w.wish("ecs:a", "a.example.com")
	w.answers = func(s Start) error {
		if s.Directory == letsEncrypt {
			return errDown
		}
		return nil
	}
	w.run(start.Add(time.Minute))
	if len(w.begun) != 2 || w.begun[1].Directory != private || len(w.in.Held) != 1 {
		t.Errorf("%+v", w.begun)
	}

	// What is valid for long enough is not renewed elsewhere at the first failure.
	w = newWorld(t, letsEncrypt, private)
	w.wish("ecs:a", "a.example.com")
	w.hold(held(letsEncrypt, start.Add(-62*day), 90*day, "a.example.com"))
	w.answers = func(s Start) error {
		if s.Directory == letsEncrypt {
			return errDown
		}
		return nil
	}
	w.run(start.Add(5 * day))
	if elsewhere := w.times(func(b begun) bool { return b.Directory == private }); len(elsewhere) > 0 {
		t.Errorf("ordered elsewhere at %v", elsewhere)
	}
	w.run(start.Add(20 * day))
	if elsewhere := w.times(func(b begun) bool { return b.Directory == private }); len(elsewhere) != 1 {
		t.Errorf("when it is overdue: ordered elsewhere at %v", elsewhere)
	}

	w = newWorld(t, letsEncrypt)
	w.wish("ecs:a", "a.example.com")
	works := false
	w.answers = func(Start) error {
		if !works {
			return errName
		}
		return nil
	}
	w.run(start.Add(10 * time.Minute))
	var at []string
	for _, b := range w.begun {
		at = append(at, b.at.Sub(start).Round(time.Second).String()+" "+map[bool]string{true: "trial", false: "real"}[b.Trial()])
	}
	if d := cmp.Diff([]string{"0s real", "1m2s real", "3m4s trial", "7m6s trial"}, at); d != "" {
		t.Error(d)
	}
	works = true
	w.run(start.Add(30 * time.Minute))
	last := w.begun[len(w.begun)-2:]
	if len(w.in.Held) != 1 || !last[0].Trial() || last[1].Trial() || last[1].at.Sub(last[0].at) > 3*time.Second {
		t.Errorf("%+v", last)
	}
	if l := w.in.Ledgers[letsEncrypt]; len(l.Names) > 0 || len(l.Contacts) > 0 {
		t.Errorf("left: %+v", l)
	}
}

// alreadyReplaced: it is ordered again at once, without Replaces.
func TestAlreadyReplaced(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	w.wish("ecs:a", "a.example.com")
	w.hold(held(letsEncrypt, start.Add(-65*day), 90*day, "a.example.com"))
	w.answers = func(s Start) error {
		if s.Replaces != "" {
			return &CAError{Status: 409, Type: "alreadyReplaced"}
		}
		return nil
	}
	w.run(start.Add(10 * time.Second))
	if len(w.begun) != 2 || w.begun[0].Replaces == "" || w.begun[1].Replaces != "" || !w.in.Held[0].NotBefore.After(start) {
		t.Errorf("%+v", w.begun)
	}
}

// An order that a killed agent left is resumed at once, and then less and less often; it is no new order.
func TestResume(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	w.wish("ecs:a", "a.example.com")
	s := w.turn().Start[0]
	w.ends = nil
	orders := len(w.in.Ledgers[letsEncrypt].Orders)
	w.in.Now = w.in.Now.Add(time.Second)
	w.in.Leases = map[string]Lease{s.ID: {Directory: s.Directory, At: s.At}}
	d := Decide(w.in)
	if len(d.Start) != 1 || !d.Start[0].Resume {
		t.Fatalf("%+v", d)
	}
	l, _, ok := w.in.Ledgers[letsEncrypt].Begin(d.Start[0], w.in.Now)
	if !ok || len(l.Orders) != orders {
		t.Errorf("%+v", l)
	}
	w.in.Ledgers[letsEncrypt] = l
	if d := Decide(w.in); len(d.Start) > 0 {
		t.Errorf("a second time: %+v", d)
	}
	// One that was left in good order goes on at once.
	l = l.End(s, Interrupted, errors.New("the agent ends"), w.in.Now)
	w.in.Ledgers[letsEncrypt] = l
	if d := Decide(w.in); len(d.Start) != 1 || len(l.Contacts) > 0 {
		t.Errorf("after an interruption: %+v", d)
	}
}

func TestClockSteps(t *testing.T) {
	s := Start{ID: "a", Names: []string{"a.example.com"}, Directory: letsEncrypt, At: letsEncrypt}
	spent := func(at time.Time) Ledger {
		l := Ledger{Directory: letsEncrypt}
		for range mostOfSet {
			var ok bool
			if l, _, ok = l.Begin(s, at); !ok {
				t.Fatal("refused")
			}
			l = l.End(s, Issued, nil, at)
		}
		l = l.fault(CAError{RetryAfter: at.Add(20 * time.Hour)}, errDown, at)
		return l.Ask(Held{ID: "a"}, at).Answer(Held{ID: "a"}, Window{}, nil, at)
	}
	// The clock was a year ahead.
	l := spent(start.AddDate(1, 0, 0))
	if _, until, ok := l.Begin(s, start); ok || until.After(start.Add(week+time.Hour)) {
		t.Errorf("after the step: until %s, %v", until, ok)
	}
	l, changed := l.Settle(start)
	if !changed {
		t.Error("Settle changes nothing")
	}
	if _, again := l.Settle(start.Add(time.Minute)); again {
		t.Error("Settle changes it again")
	}
	if _, until, ok := l.Begin(s, start.Add(6*day)); ok {
		t.Errorf("the budget was freed: %s", until)
	}
	if _, until, ok := l.Begin(s, start.Add(week+time.Hour)); !ok {
		t.Errorf("blocked until %s", until)
	}
	// So an agent whose clock was a year ahead orders again after a week.
	w := newWorld(t, letsEncrypt)
	w.wish("ecs:a", "a.example.com")
	w.in.Ledgers[letsEncrypt] = spent(start.AddDate(1, 0, 0))
	w.run(start.Add(6 * day))
	if len(w.begun) > 0 {
		t.Errorf("the budget was freed: %+v", w.begun)
	}
	w.run(start.Add(9 * day))
	if len(w.begun) != 1 {
		t.Errorf("%d orders after a week", len(w.begun))
	}
	// It goes a year ahead for a moment and back: what was spent stays spent.
	l = spent(start)
	l, _, _ = l.Begin(Start{ID: "b", Names: []string{"b.example.com"}, Directory: letsEncrypt, At: letsEncrypt}, start.AddDate(1, 0, 0))
	l, _ = l.Settle(start.Add(time.Minute))
	if _, _, ok := l.Begin(s, start.Add(day)); ok {
		t.Error("a step ahead and back freed the budget")
	}
}

// A clock that is behind makes nobody forget what was ordered.
func TestClockBehind(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	w.wish("ecs:a", "a.example.com")
	w.run(start.Add(day))
	before := w.in.Ledgers[letsEncrypt]
	w.wish("ecs:a", "b.example.com")
	w.in.Now = start.AddDate(-1, 0, 0)
	d := w.turn()
	if e := d.entry(t, "b.example.com"); len(d.Start)+len(d.Ask)+len(d.Settle) > 0 || !strings.Contains(e.Reason, "behind") {
		t.Errorf("%+v", d)
	}
	if diff := cmp.Diff(before, w.in.Ledgers[letsEncrypt]); diff != "" {
		t.Error(diff)
	}
}

// Whatever a certificate has, the ledger can be read again: no instance orders by one that cannot.
func TestStrangeCertificatesSpoilNoLedger(t *testing.T) {
	h := held(letsEncrypt, start, 90*day, "a.example.com")
	for name, s := range map[string]Start{
		"a life that ends before it begins": {ID: h.ID, Names: h.Names, Directory: letsEncrypt, At: letsEncrypt, Replaces: h.CertID, Lifetime: -day},
		"a long identifier":                 {ID: h.ID, Names: h.Names, Directory: letsEncrypt, At: letsEncrypt, Replaces: strings.Repeat("a", 300)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, letsEncrypt)
			l, _, _ := w.in.Ledgers[letsEncrypt].Begin(s, start)
			w.store(l)
			w.store(l.End(s, Replaced, &CAError{Status: 409, Type: AlreadyReplaced}, start))
		})
	}
}

// Names of domains whose limits strangers have used up do not keep others from renewing.
func TestOthersUsedUpALimit(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	w.wish("ecs:a", "a.example.com")
	w.hold(held(letsEncrypt, start.Add(-58*day), 90*day, "a.example.com"))
	w.answers = func(s Start) error {
		if s.Family == "ecs:a" {
			return nil
		}
		return &CAError{Directory: letsEncrypt, Status: 429, Type: "rateLimited", RetryAfter: w.in.Now.Add(day)}
	}
	for at := start; at.Before(start.Add(8 * day)); at = at.Add(30 * time.Minute) {
		w.wish("ecs:stranger", fmt.Sprintf("h%d.example.net", at.Unix()))
		w.run(at)
		if slices.ContainsFunc(w.begun, func(b begun) bool { return b.Family == "ecs:a" }) {
			return
		}
	}
	t.Errorf("not renewed; %d orders of the stranger's", len(w.begun))
}

// Whatever is noted, a ledger is as large as an object of the store may be, reads back as it was, and
// its methods leave what they were called on alone.
func TestLedgerIsBounded(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	l := Ledger{Directory: letsEncrypt, Writer: strings.Repeat("i", 60), Number: 1 << 60}
	now := start
	for i := range 1200 {
		host := fmt.Sprintf("h%d.example%d.com", i, r.IntN(400))
		s := Start{ID: host, Family: fmt.Sprint(i % 9), Names: []string{host, "www." + host}, Directory: letsEncrypt, At: letsEncrypt}
		h := held(letsEncrypt, now, 90*day, host)
		var before []byte
		if i%100 == 0 {
			before, _ = json.Marshal(l)
		}
		next, _, ok := l.Begin(s, now)
		if ok {
			err := error(&CAError{Status: 403, Type: "unauthorized", Detail: strings.Repeat("<\"\\\u2028&ä>", 99), RetryAfter: now.Add(time.Hour)})
			if r.IntN(3) == 0 {
				err = nil
			}
			next = next.End(s, ResultOf(err), err, now)
		}
		next = next.Ask(h, now).Answer(h, Window{Start: now, End: now.Add(day), Supported: true}, nil, now)
		if after, _ := json.Marshal(l); before != nil && string(after) != string(before) {
			t.Fatal("a method changed its receiver")
		}
		l, now = next, now.Add(time.Duration(r.IntN(90))*time.Second)
	}
	text, err := json.Marshal(l)
	if err != nil || len(text) > maxLedger || maxLedger > MaxObject {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	t.Logf("%d bytes: %d orders, %d names, %d windows", len(text), len(l.Orders), len(l.Names), len(l.Windows))
	var back Ledger
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	again, _ := json.Marshal(back)
	if string(text) != string(again) {
		t.Error("it does not read back as it was")
	}
	if d := cmp.Diff(l, back, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(time.Second)); d != "" {
		t.Error(d)
	}
}

func TestResultOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want Result
	}{
		{nil, Issued},
		{errors.New("no space left"), Interrupted},
		{&CAError{Status: 500, Type: "serverInternal"}, DirectoryFailed},
		{&CAError{Err: errors.New("timeout")}, DirectoryFailed},
		{&CAError{Status: 200, Err: errors.New("malformed")}, DirectoryFailed},
		{&CAError{Status: 404}, DirectoryFailed},
		{&CAError{Status: 429, Type: "rateLimited"}, DirectoryFailed},
		{&CAError{Status: 400, Type: "badNonce"}, DirectoryFailed},
		{&CAError{Status: 400, Type: "malformed"}, NameFailed},
		{&CAError{Status: 400, Type: "rejectedIdentifier"}, NameFailed},
		{fmt.Errorf("ordering: %w", &CAError{Status: 403, Type: "unauthorized"}), NameFailed},
		{&CAError{Status: 403, Type: "caa"}, NameFailed},
		{&CAError{Status: 200, Type: "connection", Names: []string{"a.test"}, Over: true}, NameFailed},
		{&CAError{Status: 200, Names: []string{"a.test"}, Over: true}, NameFailed},
		{&CAError{Status: 200, Type: "unauthorized", Over: true}, NameFailed},
		{&CAError{Type: ChallengeNotOffered, Names: []string{"a.test"}}, NameFailed},
		{&CAError{Status: 429, Type: "rateLimited", Names: []string{"a.test"}}, DirectoryFailed},
		{&CAError{Status: 200, Type: "serverInternal", Names: []string{"a.test"}, Over: true}, DirectoryFailed},
		{&CAError{Status: 403, Type: AccountDeactivated}, DirectoryFailed},
		{&CAError{Status: 403, Type: AccountRefused}, DirectoryFailed},
		{&CAError{Type: WrongCertificate, Over: true}, DirectoryFailed},
		{&CAError{Status: 200, Err: errors.New("the order is still processing")}, DirectoryFailed},
		{&CAError{Status: 409, Type: "alreadyReplaced"}, Replaced},
	} {
		if got := ResultOf(tt.err); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
}

// Orders that did not end, as of an agent that is killed, are no failures of the CA, and are told.
func TestOrdersThatDidNotEnd(t *testing.T) {
	w := newWorld(t, letsEncrypt)
	l := Ledger{Directory: letsEncrypt}
	for i := range mostContacts {
		l.Contacts = append(l.Contacts, Contact{At: start, Key: fmt.Sprint(i)})
	}
	w.in.Ledgers[letsEncrypt] = l
	w.wish("ecs:a", "a.example.com")
	w.turn() // looks the name up
	d := w.turn()
	if len(d.Start) > 0 || len(d.Problems) != 1 || d.Problems[0].Code != "cert-limited" || !strings.Contains(d.Problems[0].Text, "did not end") {
		t.Errorf("started %v, problems %+v", d.Start, d.Problems)
	}
}

// The words of the CA are kept, and not those that everybody knows.
func TestReason(t *testing.T) {
	err := &CAError{Directory: "https://acme.test/directory", Status: 400, Type: "rejectedIdentifier", Detail: "no certificates for \"a.test\""}
	if got, want := reason(err), "400 rejectedIdentifier: 'no certificates for /'a.test/''"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// Another program may have written what a ledger is read from.
func FuzzLedger(f *testing.F) {
	f.Add([]byte(`{"orders":[{"at":"2027-01-01T00:00:00Z","in":2,"state":"issued","set":"a","domains":["c"]}],"names":{"a":{"count":1,"until":"2027-01-01T00:00:00Z"}},"windows":{"a":{"start":"2027-01-01T00:00:00Z","supported":true}},"paused":"2027-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"names":{"a":{"count":1,"open":99999999999,"recent":["2027-01-01T00:00:00Z"]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var l Ledger
		if json.Unmarshal(text, &l) != nil {
			return
		}
		s := Start{ID: "a", Names: []string{"a.example.com"}, Directory: letsEncrypt, At: letsEncrypt}
		l, _ = l.Settle(start)
		_, until, ok := l.Begin(s, start)
		if !ok && until.After(start.Add(2*week)) {
			t.Errorf("blocked until %s", until)
		}
		l.ask([]Held{held(letsEncrypt, start, day, "a.example.com")}, start)
	})
}
