package pools

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/nginx"
)

// fixture is a Reloads with a live and a wanted tree.
type fixture struct {
	*Reloads
	live, wanted nginx.Tree
	more, orders bool
	n            int
}

func newFixture() *fixture { return &fixture{Reloads: NewReloads()} }

// site is a site with that many servers; each version of it is another file. Its family is
// its name, up to a dot.
func site(name string, version, servers int) nginx.SiteFile {
	family, _, _ := strings.Cut(name, ".")
	s := nginx.SiteFile{Host: name, Name: name, Family: family, Text: fmt.Sprint(version)}
	for i := range servers {
		s.Facts.Servers = append(s.Facts.Servers, fmt.Sprint(i))
	}
	return s
}

// change wants a newer version of a site with that many servers.
func (w *fixture) change(now time.Time, name string, servers int) time.Duration {
	w.n++
	w.wanted = w.wanted.With(site(name, w.n, servers))
	return w.ask(now)
}

func (w *fixture) ask(now time.Time) time.Duration {
	w.Want(now, w.live, nginx.Wanted{Tree: w.wanted, More: w.more, Orders: w.orders})
	return w.Wait(now)
}

func (w *fixture) load(now time.Time) {
	w.Loaded(now)
	w.live = w.wanted
}

func TestASiteHasABurstAndThenARate(t *testing.T) {
	now := time.Unix(1000, 0)
	w := newFixture()
	for i := range 3 {
		if d := w.change(now, "a", 1); d != 0 {
			t.Errorf("reload %d of the burst waits %v", i, d)
		}
		w.load(now)
	}
	if d := w.change(now, "a", 1); d != time.Second {
		t.Errorf("the fourth waits %v", d)
	}
	now = now.Add(400 * time.Millisecond)
	if d := w.Wait(now).Round(time.Millisecond); d != 600*time.Millisecond {
		t.Errorf("a while later it waits %v", d)
	}
	now = now.Add(time.Hour)
	for range 3 {
		w.change(now, "a", 1)
		w.load(now)
	}
	if d := w.change(now, "a", 1); d != time.Second {
		t.Errorf("an hour saved more than the burst: the fourth waits %v", d)
	}
	now = now.Add(-time.Minute)
	if d := w.Wait(now); d > time.Minute+time.Second {
		t.Errorf("a clock that was set back makes it wait %v", d)
	}
}

// A site that flaps forever delays no other site, and causes one reload a second.
func TestASiteThatFlapsDelaysNoOther(t *testing.T) {
	w := newFixture()
	now := time.Unix(1000, 0)
	reloads := 0
	for range 600 {
		for _, servers := range []int{1, 0} {
			if w.change(now, "flap", servers) == 0 {
				w.load(now)
				reloads++
			}
			now = now.Add(100 * time.Millisecond)
		}
	}
	if reloads < 60 || reloads > 250 {
		t.Errorf("%d reloads in two minutes", reloads)
	}
	if d := w.change(now, "other", 1); d > settle {
		t.Errorf("another site waits %v", d)
	}
}

// A family with hundreds of sites, of which another one flaps each time, has one budget and
// makes no series of starts: a new family is served at once, also while its containers are
// always starting, and also after others have started.
func TestAFamilyOfManySitesHasOneBudget(t *testing.T) {
	w := newFixture()
	now := time.Unix(1000, 0)
	for i := range 50 { // a host that has started
		now = now.Add(w.change(now, fmt.Sprint(i), 1))
		w.load(now)
	}
	w.more = true
	reloads := 0
	for i := range 1200 {
		if w.change(now, fmt.Sprintf("flap.%d", i%200), 1) == 0 {
			w.load(now)
			reloads++
		}
		if i%80 == 79 { // longer than a series of starts is calm
			if d := w.change(now, fmt.Sprintf("new%d", i), 1); d > 0 {
				t.Errorf("after %d: another's new site waits %v", i, d)
			}
			w.load(now)
		}
		now = now.Add(100 * time.Millisecond)
	}
	if reloads < 60 || reloads > 130 {
		t.Errorf("%d reloads in two minutes", reloads)
	}
}

// A site that is wanted, and that nginx does not serve, because it refuses it, takes nothing
// from its family's budget while others change.
func TestWhatIsNotServedCostsNothing(t *testing.T) {
	w := newFixture()
	now := time.Unix(1000, 0)
	w.change(now, "a.refused", 1)
	w.Loaded(now) // and w.live stays without it
	for range 20 {
		now = now.Add(time.Second)
		w.change(now, "b", 1)
		w.Loaded(now)
	}
	if d := w.change(now, "a.refused", 1); d != 0 {
		t.Errorf("its next change waits %v", d)
	}
}

// Fifty containers need few reloads, and the last one is served soon.
func TestReloadsInASeriesOfStarts(t *testing.T) {
	const toMake = 200 * time.Millisecond // from one that is ready to the next that is made
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name    string
		gap     func() time.Duration
		n, most int
		longest time.Duration
	}{
		{"a fast engine", func() time.Duration { return 200 * time.Millisecond }, 50, 8, longestPause},
		{"a slow engine", func() time.Duration { return 700 * time.Millisecond }, 50, 10, longestPause},
		{"an uneven one", func() time.Duration { return time.Duration(random.ExpFloat64() * float64(700*time.Millisecond)) }, 50, 10, longestPause},
		{"a very slow one", func() time.Duration { return 1500 * time.Millisecond }, 50, 15, longestPause},
		{"one every ten seconds", func() time.Duration { return 10 * time.Second }, 50, 50, 0},
	} {
		var (
			w       = newFixture()
			now     = time.Unix(1000, 0)
			due     time.Time
			first   time.Time // when the oldest waiting tree came
			newest  time.Time
			longest time.Duration
			reloads int
			last    time.Duration
			made    time.Time // when the next container is made
		)
		next := now
		for left := c.n; left > 0 || !due.IsZero(); {
			switch {
			case left > 0 && !w.more && made.Before(next) && (due.IsZero() || !due.Before(made)):
				now, w.more = made, true
				if d := w.ask(now); !due.IsZero() {
					due = now.Add(d)
				}
			case left > 0 && (due.IsZero() || !due.Before(next)):
				now = next
				next, made = next.Add(c.gap()), next.Add(toMake)
				left--
				w.more = false
				if due.IsZero() {
					first = now
				}
				due, newest = now.Add(w.change(now, fmt.Sprint(left), 1)), now
			default:
				now = due
				w.load(now)
				reloads++
				longest, last, due = max(longest, now.Sub(first)), now.Sub(newest), time.Time{}
			}
		}
		t.Logf("%s: %d reloads, the last tree waited %v, the longest %v", c.name, reloads, last, longest)
		if reloads > c.most || last > settle || longest > c.longest {
			t.Errorf("%s: %d reloads, the last tree waited %v, the longest %v", c.name, reloads, last, longest)
		}
	}
}

// While another container is starting, the reload waits for it, within bounds.
func TestReloadsWhileContainersStart(t *testing.T) {
	w := newFixture()
	now := time.Unix(1000, 0)
	w.more = true
	var waits []time.Duration
	n := 0
	another := func() time.Duration { n++; return w.change(now, fmt.Sprint(n), 1) }
	for range 8 {
		first := now
		for d := another(); d > 0; d = another() {
			now = now.Add(min(time.Second, d))
		}
		w.load(now)
		waits = append(waits, now.Sub(first))
	}
	if got, want := fmt.Sprint(waits), "[0s 0s 0s 2s 4s 8s 8s 8s]"; got != want {
		t.Errorf("the trees wait %s, want %s", got, want)
	}
	w.more = false
	if d := another(); d > settle {
		t.Errorf("the last one waits %v", d)
	}
	w.more = true
	if d := w.change(now, "1", 0); d != 0 { // a server is removed: the series ends
		t.Errorf("one that goes waits %v", d)
	}
	w.load(now)
	if d := another(); d > time.Second {
		t.Errorf("the next after one went waits %v", d)
	}
}

// A container that starts and stops again and again, but seldom, is served at once.
func TestReloadsForRestartsOfOneContainer(t *testing.T) {
	w := newFixture()
	now := time.Unix(1000, 0)
	for n := range 30 {
		if d := w.change(now, "a", 1); d != 0 {
			t.Fatalf("start %d waits %v", n, d)
		}
		w.load(now)
		now = now.Add(500 * time.Millisecond)
		now = now.Add(w.change(now, "a", 0))
		w.load(now)
		now = now.Add(2 * time.Second)
	}
}

func TestReloadsAreRarerWhileCreditsAreLow(t *testing.T) {
	w := newFixture()
	now := time.Unix(1000, 0)
	for range 3 {
		w.change(now, "a", 1)
		w.load(now)
	}
	w.change(now, "a", 1)
	w.Want(now, w.live, nginx.Wanted{Tree: w.wanted, LowCredits: true})
	if d := w.Wait(now); d != everyLow {
		t.Errorf("the fourth waits %v", d)
	}
}

// Of 200 hosts that wait for their first certificates nginx is reloaded nine times at most, whichever families they
// are of and however fast a CA is; the first is served at once, and a new container is too.
func TestManyCertificates(t *testing.T) {
	for _, one := range []bool{false, true} {
		for _, every := range []time.Duration{10 * time.Millisecond, 300 * time.Millisecond, 1600 * time.Millisecond} {
			w, now, reloads := newFixture(), time.Unix(1000, 0), 0
			name := func(i int) string {
				if one {
					return fmt.Sprintf("web.%d", i)
				}
				return fmt.Sprintf("web%d", i)
			}
			for i := range 200 {
				w.change(now, name(i), 1)
			}
			w.load(now)
			w.orders = true
			step := func(until time.Time, wait time.Duration) {
				for now.Add(wait).Before(until) && w.wanted.Generation != w.live.Generation {
					now = now.Add(wait)
					w.load(now)
					reloads++
					wait = w.Wait(now)
				}
				now = until
			}
			for i := range 200 {
				w.orders = i < 199
				wait := w.change(now, name(i), 1)
				if i == 0 && wait > 0 || i == 1 && wait > 2*time.Second {
					t.Errorf("one family %v, every %s: the certificate %d waits %s", one, every, i, wait)
				}
				step(now.Add(every), wait)
			}
			if w.orders {
				t.Error("orders are left")
			}
			step(now.Add(time.Minute), w.Wait(now))
			if reloads > 9 || reloads < 2 || w.wanted.Generation != w.live.Generation {
				t.Errorf("one family %v, every %s: %d reloads, all are loaded: %v", one, every, reloads, w.wanted.Generation == w.live.Generation)
			}
		}
	}
	w, now := newFixture(), time.Unix(1000, 0)
	w.orders = true
	for i := range 9 {
		now = now.Add(w.change(now, fmt.Sprintf("web%d", i%3), 0))
		w.load(now)
	}
	w.change(now, "web0", 0)
	if d := w.change(now, "new", 1); d > settle {
		t.Errorf("a new container waits %s for certificates", d)
	}
	w.live = w.wanted
	w.load(now)
	if d := w.change(now, "web1", 0); d > longestIssue {
		t.Errorf("a certificate waits %s", d)
	}
}
