package claim

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
)

const (
	host = simaws.DefaultInstance
	eip  = simaws.DefaultAllocation
)

// scene is a claim that runs with the real SDK on an instance of a simulated cloud.
type scene struct {
	t       *testing.T
	log     *slog.Logger // nil discards
	cloud   *simaws.Cloud
	reports chan address.Report
	last    address.Report
}

func newScene(t *testing.T) *scene {
	t.Helper()
	world := simaws.New(simaws.Options{})
	if _, err := world.Populate("default", simaws.ScenarioOptions{}); err != nil {
		t.Fatal(err)
	}
	cloud, err := simaws.Serve(world, simaws.ServeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Close)
	return &scene{t: t, cloud: cloud, reports: make(chan address.Report, 1000)}
}

// start lets the claim run until the test ends. The client is made as the agent
// makes it: endpoints and credentials are found as on a real instance.
func (s *scene) start(policy address.Policy) {
	s.t.Helper()
	for _, line := range os.Environ() {
		if k, _, _ := strings.Cut(line, "="); strings.HasPrefix(k, "AWS_") {
			s.t.Setenv(k, "")
			_ = os.Unsetenv(k)
		}
	}
	s.t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	s.t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	for k, v := range s.cloud.Env(host) {
		s.t.Setenv(k, v)
	}
	cfg, err := config.LoadDefaultConfig(s.t.Context())
	s.must(err)
	instance, _ := s.cloud.State().Instance(host)
	in := latest.New[address.Situation]()
	in.Put(address.Situation{Ready: true, Identity: identity.Identity{Instance: identity.Instance{
		Known: true, ID: host, Region: s.cloud.Region(),
		Primary: identity.Interface{ID: instance.InterfaceIDs[0], LocalAddr: netip.MustParseAddr(instance.PrivateIPs[0])},
	}}})
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{
			Claims: []address.Claim{{TagKey: "Name", TagValue: "nagaya"}}, Policy: policy, Every: 10 * time.Millisecond, Log: s.log,
			API: func(region string) EC2 {
				return ec2.NewFromConfig(cfg, func(o *ec2.Options) { o.Region = region })
			},
		}, in.C(), func(r address.Report) { s.reports <- r })
	}()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	})
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// until waits for a report that is as wanted. No wait is meant to take long.
func (s *scene) until(what string, wanted func(address.Report) bool) address.Report {
	s.t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case s.last = <-s.reports:
			if wanted(s.last) {
				return s.last
			}
		case <-late:
			s.t.Fatalf("waited for %s; last was %+v", what, s.last)
		}
	}
}

func (s *scene) wantAssociations(n int) {
	s.t.Helper()
	if got := s.cloud.Count("ec2", "AssociateAddress"); got != n {
		s.t.Errorf("AssociateAddress was called %d times, want %d", got, n)
	}
}

func (s *scene) wantHolder(instance string) {
	s.t.Helper()
	if a, _ := s.cloud.State().Address(eip); a.InstanceID != instance {
		s.t.Errorf("EC2 says that %q holds the address, want %q", a.InstanceID, instance)
	}
}

// other puts the address on another instance.
func (s *scene) other(launched time.Time) string {
	s.t.Helper()
	id, err := s.cloud.AddInstance(simaws.InstanceSpec{LaunchTime: launched})
	s.must(err)
	_, err = s.cloud.Associate(eip, id, "")
	s.must(err)
	return id
}

func TestFreeAddressOfACloud(t *testing.T) {
	s := newScene(t)
	s.start(address.Wait)
	got := s.until("the address", address.Report.Held)
	s.wantHolder(host)
	s.wantAssociations(1)
	a, _ := s.cloud.State().Address(eip)
	want := address.Address{
		AllocationID: eip, AssociationID: a.AssociationID, PublicIP: netip.MustParseAddr(simaws.DefaultPublicIP),
		InterfaceID: a.InterfaceID, InstanceID: host, PrivateAddr: netip.MustParseAddr(a.PrivateIP), BorderGroup: s.cloud.Region(),
	}
	if got.Address != want || got.Moves != 1 || len(got.Problems) != 0 {
		t.Errorf("report %+v, want the address %+v", got, want)
	}
}

func TestAddressOfAnotherInstance(t *testing.T) {
	now := time.Now()
	older, younger := now.Add(-48*time.Hour), now.Add(-time.Hour) // the host has run for a day
	for name, row := range map[string]struct {
		policy   address.Policy
		launched time.Time
		reason   string // empty: it is taken
	}{
		"older, takeover":   {address.Takeover, older, ""},
		"younger, takeover": {address.Takeover, younger, "not older"},
		"older, standby":    {address.Standby, older, "is running"},
		"older, wait":       {address.Wait, older, "holds it"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			id := s.other(row.launched)
			s.start(row.policy)
			if row.reason == "" {
				s.until("the address", address.Report.Held)
				s.wantHolder(host)
				s.wantAssociations(1)
				return
			}
			got := s.until("a decision", func(r address.Report) bool { return r.Decision.Action == address.Stay })
			if got.Holder.InstanceID != id || !strings.Contains(got.Decision.Reason, row.reason) {
				t.Errorf("report %+v; want %q in the reason", got, row.reason)
			}
			s.wantHolder(id)
			s.wantAssociations(0)
			if row.policy == address.Wait {
				return
			}
			s.must(s.cloud.SetState(id, "stopped"))
			s.until("the address of a stopped instance", address.Report.Held)
			s.wantHolder(host)
			s.wantAssociations(1)
		})
	}
}

func TestRoleWithoutPermission(t *testing.T) {
	for _, action := range []string{"DescribeAddresses", "AssociateAddress"} {
		t.Run(action, func(t *testing.T) {
			s := newScene(t)
			id, err := s.cloud.AddFault(simaws.Fault{Service: "ec2", Action: action, Code: "UnauthorizedOperation"})
			s.must(err)
			s.start(address.Wait)
			got := s.until("the problem", func(r address.Report) bool { return len(r.Problems) > 0 })
			if p := got.Problems[0]; p.Code != "address-denied" || !strings.Contains(p.Hint, `"ec2:`+action+`"`) {
				t.Errorf("problem %+v", p)
			}
			s.wantHolder("")
			s.must(s.cloud.ClearFault(id))
			if action == "DescribeAddresses" { // the other is tried again in a minute
				s.until("the address", func(r address.Report) bool { return r.Held() && len(r.Problems) == 0 })
			}
		})
	}
}

// An association whose answer was lost is not made again: by then another
// instance may hold the address, and would lose it without a decision.
func TestLostAnswer(t *testing.T) {
	s := newScene(t)
	s.other(time.Now().Add(-48 * time.Hour))
	_, err := s.cloud.AddFault(simaws.Fault{Service: "ec2", Action: "AssociateAddress", Drop: "after", Times: 1})
	s.must(err)
	s.start(address.Takeover)
	s.until("the address", func(r address.Report) bool { return r.Held() && len(r.Problems) == 0 })
	s.wantHolder(host)
	s.wantAssociations(1)
}

// A refusal for too many calls had no effect, and is tried again at once.
func TestThrottledAssociation(t *testing.T) {
	s := newScene(t)
	_, err := s.cloud.AddFault(simaws.Fault{Service: "ec2", Action: "AssociateAddress", Code: "RequestLimitExceeded", Times: 1})
	s.must(err)
	s.start(address.Wait)
	got := s.until("the address", address.Report.Held)
	if len(got.Problems) != 0 || got.Moves != 1 {
		t.Errorf("report %+v", got)
	}
	s.wantAssociations(2)
}
