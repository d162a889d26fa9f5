package order

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
)

// watched notes what must never happen in a world.
type watched struct {
	mu     sync.Mutex
	at     map[string]string // who speaks with the CA about a set of names
	newest map[string]certs.Bundle
	wrong  []string
}

func (w *watched) fault(format string, args ...any) {
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// enter notes that an instance begins to speak with the CA about names.
func (w *watched) enter(owner string, names []string) (leave func()) {
	set := strings.Join(names, " ")
	w.mu.Lock()
	defer w.mu.Unlock()
	if other, ok := w.at[set]; ok && other != owner {
		w.fault("%s and %s order %s at once", owner, other, set)
	}
	w.at[set] = owner
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.at, set)
	}
}

// put notes an object that is written.
func (w *watched) put(name, before, after string) {
	if !strings.HasPrefix(name, "certs/") {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var old, b certs.Bundle
	err := json.Unmarshal([]byte(after), &b)
	if b, wrong := b.Checked(); err != nil || wrong != nil {
		w.fault("%s of %q is not whole: %v, %v", name, b.Names, err, wrong)
	}
	if before != "" {
		_ = json.Unmarshal([]byte(before), &old)
		if b.NotBefore.Before(old.NotBefore) {
			w.fault("%s of %s is written over that of %s", name, b.NotBefore, old.NotBefore)
		}
	}
	w.newest[name] = b
}

var seeds = flag.Int("schedules", 30, "how many schedules of two agents are run; 400 take two minutes")

// Two agents share a store that fails, is slow, and writes what it says that it did not; both are killed and
// replaced again and again, the address
// moves, and their clocks step.
func TestSchedules(t *testing.T) {
	n := *seeds
	if testing.Short() {
		n = min(n, 10)
	}
	for seed := range uint64(n) {
		synctest.Test(t, func(t *testing.T) { schedule(t, seed, inMemory) })
		if t.Failed() {
			return
		}
	}
}

// inMemory keeps what the world stores where it is, and has that fail.
func inMemory(w *world, seed uint64, chance func(float64) bool) {
	draw := rand.New(rand.NewPCG(seed, 3))
	w.store.seen = w.seen
	w.store.fault = func(op, name string, after bool) error {
		if chance(0.03) {
			w.store.mu.Lock()
			pause := time.Duration(draw.Int64N(int64(20 * time.Second)))
			w.store.mu.Unlock()
			time.Sleep(pause)
		}
		if chance(0.04) {
			return fmt.Errorf("%s of %s failed", op, name)
		}
		return nil
	}
}

func schedule(t *testing.T, seed uint64, kept func(w *world, seed uint64, chance func(float64) bool)) {
	w, draw, faults := newWorld(t), rand.New(rand.NewPCG(seed, 16)), rand.New(rand.NewPCG(seed, 17))
	seen := &watched{at: map[string]string{}, newest: map[string]certs.Bundle{}}
	w.seen, w.ca.life = seen, 8*time.Hour
	var mu sync.Mutex
	troubled := true
	chance := func(share float64) bool {
		mu.Lock()
		defer mu.Unlock()
		return troubled && faults.Float64() < share
	}
	kept(w, seed, chance)
	hosts := []string{"a.test", "b.zone.test *.b.zone.test"}
	generation := 0
	fresh := func(slot string) *instance {
		generation++
		return w.instance(fmt.Sprintf("%s%d", slot, generation))
	}
	agents := []*instance{fresh("x"), fresh("y")}
	holder := draw.IntN(2)
	for n, a := range agents {
		a.start(n == holder, hosts...)
	}
	for range 40 {
		after(time.Duration(draw.Int64N(int64(20 * time.Minute))))
		n := draw.IntN(2)
		switch draw.IntN(5) {
		case 0: // killed, and restarted
			agents[n].kill()
			agents[n].start(n == holder, hosts...)
		case 1: // replaced
			agents[n].kill()
			agents[n] = fresh("xy"[n : n+1])
			agents[n].start(n == holder, hosts...)
		case 3:
			agents[n].step(time.Duration(draw.Int64N(int64(6*time.Hour))) - 3*time.Hour)
		case 2: // handover
			holder = n
			for i, a := range agents {
				a.hold(i == holder)
			}
		}
	}
	mu.Lock()
	troubled = false
	mu.Unlock()
	if w.calm != nil {
		w.calm()
	}
	for _, a := range agents {
		a.step(0)
	}
	after(5 * time.Hour)
	for range 10 { // a renewal may be under way
		if !w.ordering() {
			break
		}
		after(time.Minute)
	}
	for _, a := range agents {
		if len(a.copies()) != len(hosts) {
			t.Errorf("seed %d: %d certificates at %s; entries: %+v\nstore: %s\nlog:\n%s", seed, len(a.copies()), a.o.Owner, a.said().Entries, w.store.objects, a.log)
		}
	}
	w.mustBeSettled(fmt.Sprintf("seed %d", seed), agents...)
	for _, h := range hosts {
		names := strings.Split(h, " ")
		var last certs.Bundle
		for name, b := range seen.newest {
			if len(b.Names) == len(names) && strings.Contains(h, b.Names[len(b.Names)-1]) {
				last = b
				_ = name
			}
		}
		if issued := w.ca.newest(last.Names); last.Chain == "" || strings.TrimSpace(issued) != strings.TrimSpace(last.Chain) {
			t.Errorf("seed %d: what the CA issued last for %s is not in the store, but %s of %s by %s\n%s\n%s", seed, h, last.NotBefore, last.Saved, last.Writer, agents[0].log, agents[1].log)
		}
	}
	for _, wrong := range seen.wrong {
		t.Errorf("seed %d: %s", seed, wrong)
	}
	for _, a := range agents {
		a.stop()
	}
}
