package agent

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address/claim"
	"github.com/nagaya-ecs/nagaya/agent/identity"
)

func TestWishesOutliveTheAgent(t *testing.T) {
	_, c := newTestAgent(t)
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := openWishes(c)
	if err != nil || w.leaving() || w.memory().Released != nil {
		t.Fatalf("at first %+v, %v", w.said, err)
	}
	at := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	if err := w.remember(claim.Memory{Released: []string{"eipalloc-1"}, Spent: map[string][]time.Time{"eipalloc-1": {at}}}); err != nil {
		t.Fatal(err)
	}
	if err := w.leave(true); err != nil {
		t.Fatal(err)
	}
	again, err := openWishes(c)
	if m := again.memory(); err != nil || !again.leaving() || !slices.Equal(m.Released, []string{"eipalloc-1"}) || len(m.Spent["eipalloc-1"]) != 1 || !m.Spent["eipalloc-1"][0].Equal(at) {
		t.Errorf("recalled %+v, %v", again.said, err)
	}
	if err := os.WriteFile(w.file, []byte(`{"leaving": true, "claims"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if broken, err := openWishes(c); err == nil || broken.leaving() {
		t.Errorf("half a file: %+v, %v", broken.said, err)
	}
	if err := os.RemoveAll(c.RunDir); err != nil {
		t.Fatal(err)
	}
	if err := w.leave(false); err == nil || w.leaving() {
		t.Errorf("without a directory: %v, leaving %v; want an error, and that it holds", err, w.leaving())
	}
}

func TestTheOperatorsWordIsANotice(t *testing.T) {
	_, c := newTestAgent(t)
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := openWishes(c)
	if err != nil {
		t.Fatal(err)
	}
	var told []identity.Identity
	s := &self{wishes: w, put: func(id identity.Identity) { told = append(told, id) }}
	if err := s.leave(true); err != nil || len(told) != 0 {
		t.Fatalf("before anything is known: %v, told %+v", err, told)
	}
	spot := identity.Notice{Kind: identity.SpotInterruption}
	s.saw(identity.Identity{Notices: []identity.Notice{spot}})
	if n := told[len(told)-1].Notices; len(n) != 2 || n[0] != spot || n[1].Kind != identity.Operator {
		t.Errorf("notices %+v", n)
	}
	if err := s.leave(false); err != nil {
		t.Fatal(err)
	}
	if n := told[len(told)-1].Notices; len(told) != 2 || len(n) != 1 {
		t.Errorf("told %+v", told)
	}
	if err := s.leave(true); err != nil || len(told) != 3 || !told[2].Leaving() {
		t.Errorf("told %+v, %v", told, err)
	}
}
