package agent

import (
	"context"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/address/claim"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
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

// From the socket to EC2 and back: a wish is obeyed, shown on the board, told to the
// gate and kept.
func TestAWishReachesTheAddress(t *testing.T) {
	p := newPatient(t)
	a, c := newTestAgent(t)
	var err error
	if a.cloud, err = newCloud(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.Address.Claim = []string{"tag:Name=nagaya"}
	c.Address.Policy = "manual"
	w, err := openWishes(c)
	if err != nil {
		t.Fatal(err)
	}
	host := p.cloud.State().Instances[0]
	situations := latest.New[address.Situation]()
	situations.Put(address.Situation{Identity: identity.Identity{Instance: identity.Instance{
		Known: true, ID: simaws.DefaultInstance, Region: p.cloud.Region(), Zone: host.Zone,
		Primary: identity.Interface{ID: host.InterfaceIDs[0], LocalAddr: netip.MustParseAddr(host.PrivateIPs[0])},
	}}})
	var mu sync.Mutex
	var told [][]string
	asked := make(chan claim.Wish)
	o := a.remembering(a.claimOptions(c), w, asked, func(released []string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, released)
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- claim.Run(ctx, o, situations.C(), a.board.address) }()
	x := answers{a: a, asked: asked}
	holder := func() string { return p.cloud.State().Addresses[0].InstanceID }

	// Until the situation has been seen the identity is not known.
	for end := time.Now().Add(20 * time.Second); ; {
		if err = x.Address(t.Context(), address.Wish{Claim: "tag:Name=nagaya"}); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil || holder() != simaws.DefaultInstance || !x.Status().Address.Held() {
		t.Fatalf("claim: %v, held by %q, %+v", err, holder(), x.Status().Address)
	}
	if err := x.Address(t.Context(), address.Wish{Release: true, Now: true}); err != nil || holder() != "" || x.Status().Address.Held() {
		t.Errorf("release: %v, held by %q, %+v", err, holder(), x.Status().Address)
	}
	if err := x.Address(t.Context(), address.Wish{Claim: "203.0.113.99"}); err == nil {
		t.Error("a claim that there is not was accepted")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if err := x.Address(gone, address.Wish{}); err == nil {
		t.Error("nobody takes the wish, and it was obeyed")
	}
	again, err := openWishes(c)
	if m := again.memory(); err != nil || !slices.Equal(m.Released, c.Address.Claim) || len(m.Spent) != 1 {
		t.Errorf("kept %+v, %v", again.said, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(told[len(told)-1], c.Address.Claim) {
		t.Errorf("the gate was told %q", told)
	}
}
