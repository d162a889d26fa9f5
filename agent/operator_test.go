package agent

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/address/claim"
	"github.com/nagaya-ecs/nagaya/agent/address/operator"
	"github.com/nagaya-ecs/nagaya/agent/awsclient"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

// From the socket to EC2 and back: a request is carried out, shown on the board, and saved.
func TestARequestReachesTheAddress(t *testing.T) {
	p := newPatient(t)
	a, c := newTestAgent(t)
	var err error
	if a.cloud, err = awsclient.New(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.RunDir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.Address.Claim = []string{"tag:Name=nagaya"}
	c.Address.Policy = "manual"
	file := filepath.Join(c.RunDir, operator.FileName)
	said, err := operator.Open(file)
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
	requests := make(chan latest.Question[address.Request])
	o := a.claimOptions(c)
	o.Requests, o.Memory = requests, said.Claims()
	note := func(r address.Report) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, r.Released())
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- claim.Run(ctx, o, situations.C(), latest.Tee(a.board.SetAddress, a.saveClaims(said), note))
	}()
	x := answers{a: a, requests: requests}
	holder := func() string { return p.cloud.State().Addresses[0].InstanceID }

	// Until the situation has been seen the identity is not known.
	for end := time.Now().Add(20 * time.Second); ; {
		if err = x.Address(t.Context(), address.Request{Claim: "tag:Name=nagaya"}); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil || holder() != simaws.DefaultInstance || !x.Status().Address.Held() {
		t.Fatalf("claim: %v, held by %q, %+v", err, holder(), x.Status().Address)
	}
	if err := x.Address(t.Context(), address.Request{Release: true, Now: true}); err != nil || holder() != "" || x.Status().Address.Held() {
		t.Errorf("release: %v, held by %q, %+v", err, holder(), x.Status().Address)
	}
	if err := x.Address(t.Context(), address.Request{Claim: "203.0.113.99"}); err == nil {
		t.Error("a claim that there is not was accepted")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	gone, stop := context.WithCancel(t.Context())
	stop()
	if err := x.Address(gone, address.Request{}); err == nil {
		t.Error("nothing takes the request, and it was carried out")
	}
	again, err := operator.Open(file)
	if m := again.Claims(); err != nil || !slices.Equal(m.Released, c.Address.Claim) || len(m.Spent) != 1 {
		t.Errorf("saved %+v, %v", again.Claims(), err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(told[len(told)-1], c.Address.Claim) {
		t.Errorf("the gate was told %q", told)
	}
}
