package operator

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
)

var at = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestStateOutlivesTheAgent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "run", FileName)
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open(file)
	if err != nil || s.leaving() || s.Claims().Released != nil {
		t.Fatalf("at first %+v, %v", s.saved, err)
	}
	want := address.Memory{Released: []string{"eipalloc-1"}, Spent: map[string][]time.Time{"eipalloc-1": {at}}}
	for _, first := range []bool{true, false} {
		if written, err := s.SaveClaims(want); err != nil || written != first {
			t.Fatalf("written %v, %v; want %v", written, err, first)
		}
	}
	if err := s.setLeaving(true); err != nil {
		t.Fatal(err)
	}
	again, err := Open(file)
	if d := cmp.Diff(want, again.Claims()); err != nil || !again.leaving() || d != "" {
		t.Errorf("read %+v, %v; claims (-want +got):\n%s", again.saved, err, d)
	}
	if err := os.WriteFile(file, []byte(`{"leaving": true, "claims"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if broken, err := Open(file); err == nil || broken.leaving() {
		t.Errorf("half a file: %+v, %v", broken.saved, err)
	}
	if err := os.RemoveAll(filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	if err := s.setLeaving(false); err == nil || s.leaving() {
		t.Errorf("without a directory: %v, leaving %v; want an error, and that it holds", err, s.leaving())
	}
	for range 2 { // it is tried again until it succeeds
		if written, err := s.SaveClaims(address.Memory{}); err == nil || !written {
			t.Errorf("without a directory: written %v, %v", written, err)
		}
	}
}

// The file of nagaya 0.1 is read.
func TestFileOfTheVersionBefore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "wishes.json")
	if filepath.Base(file) != FileName {
		t.Errorf("the file is called %s", FileName)
	}
	text := `{"leaving":true,"claims":{"released":["eipalloc-1"],"spent":{"eipalloc-1":["2026-01-02T12:00:00Z"]}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(file)
	want := address.Memory{Released: []string{"eipalloc-1"}, Spent: map[string][]time.Time{"eipalloc-1": {at}}}
	if d := cmp.Diff(want, s.Claims()); err != nil || !s.leaving() || d != "" {
		t.Errorf("read %+v, %v; claims (-want +got):\n%s", s.saved, err, d)
	}
}

func TestLeavingIsANotice(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), FileName))
	if err != nil {
		t.Fatal(err)
	}
	discovered, leaves := latest.New[identity.Identity](), make(chan latest.Question[bool])
	put := make(chan identity.Identity, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, discovered.C(), leaves, func(id identity.Identity) { put <- id }) }()
	leave := func(yes bool) {
		t.Helper()
		if err := latest.Ask(ctx, leaves, yes); err != nil {
			t.Error(err)
		}
	}
	leave(true)
	if len(put) != 0 {
		t.Errorf("an identity is put before one is discovered: %+v", <-put)
	}
	spot := identity.Notice{Kind: identity.SpotInterruption}
	discovered.Put(identity.Identity{Notices: []identity.Notice{spot}})
	if n := (<-put).Notices; len(n) != 2 || n[0] != spot || n[1].Kind != identity.Operator {
		t.Errorf("notices %+v", n)
	}
	leave(false) // it is put before the reply
	if len(put) != 1 || !slices.Equal((<-put).Notices, []identity.Notice{spot}) {
		t.Error("the notice of the operator stays")
	}
	leave(true)
	if len(put) != 1 || !(<-put).Leaving() {
		t.Error("the instance does not leave")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
