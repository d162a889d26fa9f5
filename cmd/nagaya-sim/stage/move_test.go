package stage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
	"github.com/nagaya-ecs/nagaya/agent/simaws"
	"github.com/nagaya-ecs/nagaya/agent/testenv"
)

// newRegion makes a cloud with a network whose addresses are real, and one free
// Elastic IP. It shows the agents' logs if the test failed.
func newRegion(t *testing.T) *Region {
	t.Helper()
	r, err := NewRegion(t.Context(), bin)
	testenv.Need(t, err)
	t.Cleanup(func() {
		for _, i := range r.hosts {
			if t.Failed() {
				t.Logf("the log of %s:\n%s", i.InstanceID, i.AgentLog())
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	_, err = r.Cloud.AddAddress(simaws.AddressSpec{
		AllocationID: simaws.DefaultAllocation, PublicIP: simaws.DefaultPublicIP, Tags: map[string]string{"Name": "nagaya"},
	})
	must(t, err)
	return r
}

// launch sets up an instance and starts its agent.
func launch(t *testing.T, r *Region, l Launch) *Instance {
	t.Helper()
	i, err := r.Launch(t.Context(), l)
	must(t, err)
	must(t, i.StartAgent())
	return i
}

// holds waits until EC2 says that the instance has the address.
func holds(t *testing.T, r *Region, i *Instance, within time.Duration) {
	t.Helper()
	must(t, Until(t.Context(), within, i.InstanceID+" has the address", func() error {
		if a, _ := r.Cloud.State().Address(simaws.DefaultAllocation); a.InstanceID != i.InstanceID {
			return errors.New("held by " + a.InstanceID)
		}
		return nil
	}))
}

// inRegion lets the container be reached at its own address: ports are published
// on the machine, which is none of the hosts of a region.
func inRegion(c Container) Container {
	c.Ports = nil
	c.Labels["nagaya.port"] = "8080"
	return c
}

// The move that nagaya was made for: the services run on a small instance of a
// cluster; then on a bigger one that AWS Batch launched for a night, not
// burstable, in its own cluster. It takes the address when it can serve, and no
// connection is lost on the way there.
func TestMoveToAnInstanceOfBatch(t *testing.T) {
	r := newRegion(t)
	must(t, r.Cloud.AddCluster("home"))
	night, err := r.Cloud.AddComputeEnvironment(simaws.ComputeEnvironmentSpec{Name: "night", Type: "MANAGED"})
	must(t, err)
	const config = "address: {claim: 'tag:Name=nagaya'}\n"
	old := launch(t, r, Launch{
		Spec: simaws.InstanceSpec{Type: "t3.micro", LaunchTime: time.Now().Add(-24 * time.Hour)}, Cluster: "home", Config: config, Hosts: []string{"a.test"},
	})
	holds(t, r, old, 10*time.Second)
	_, err = old.Run(t.Context(), inRegion(service("alpha", "1", "a.test")))
	must(t, err)
	visitor, err := r.Client(simaws.DefaultPublicIP)
	must(t, err)
	visit := func() (body string, err error) {
		code, body, err := get(t.Context(), visitor, "https://a.test/")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		return body, err
	}
	until(t, "a.test is served at the address", func() error { _, err := visit(); return err })

	fresh := launch(t, r, Launch{Spec: simaws.InstanceSpec{Type: "m5.large"}, Cluster: night, Config: config})
	until(t, "the new agent knows who holds the address", func() error {
		st, err := fresh.Board(t.Context())
		if err == nil && st.Address.Holder.InstanceID != old.InstanceID {
			err = fmt.Errorf("%+v", st.Address)
		}
		return err
	})
	st, err := fresh.Board(t.Context())
	must(t, err)
	if st.Address.Held() || !strings.Contains(st.Address.Decision.Reason, "not ready") {
		t.Errorf("an instance without services: %+v", st.Address.Decision)
	}

	load := startVisits(t, r)
	_, err = fresh.Run(t.Context(), inRegion(service("alpha", "2", "a.test")))
	must(t, err)
	holds(t, r, fresh, 20*time.Second)
	until(t, "the services answer from the new instance", func() error {
		if load.Seen("alpha 2") == 0 {
			return errNotYet
		}
		return nil
	})
	until(t, "the old agent knows that it has lost the address", func() error {
		st, err := old.Board(t.Context())
		if err == nil && st.Address.Holder.InstanceID != fresh.InstanceID {
			err = fmt.Errorf("%+v", st.Address)
		}
		return err
	})
	met := load.Stop()
	t.Logf("%d connections, by %v", met.Requests, met.By)
	if met.Failed != 0 {
		t.Errorf("%d of %d connections failed, the first: %s", met.Failed, met.Requests, met.First)
	}
	if n := r.Cloud.Count("ec2", "AssociateAddress"); n != 2 {
		t.Errorf("%d associations, want one for each instance", n)
	}
	if n := r.Cloud.Count("ec2", "DisassociateAddress"); n != 0 {
		t.Errorf("%d disassociations; the move is one call", n)
	}
	if st, err := fresh.Board(t.Context()); err != nil || st.Identity.ECS.Cluster != night || hasProblem(st, "credits") {
		t.Errorf("%v; the new instance: %+v, problems %+v", err, st.Identity.ECS, st.Problems)
	}
}

// An operator gives the address away: whoever stands by and serves as much takes
// it, with one call, and nobody is turned away meanwhile.
func TestReleaseMovesTheAddress(t *testing.T) {
	r := newRegion(t)
	const config = "address: {claim: 'tag:Name=nagaya', policy: standby, every: 1s}\n"
	var hosts []*Instance
	for n, version := range []string{"1", "2"} {
		i := launch(t, r, Launch{Config: config, Hosts: []string{"a.test"}})
		_, err := i.Run(t.Context(), inRegion(service("alpha", version, "a.test")))
		must(t, err)
		shows(t, i.Stage, "a.test is live", func(st report.Status) bool { return len(st.Routes.LiveHosts()) == 1 && st.Nginx.Settled })
		if n == 0 {
			holds(t, r, i, 10*time.Second)
		}
		hosts = append(hosts, i)
	}
	shows(t, hosts[1].Stage, "the standby knows the holder", func(st report.Status) bool {
		return st.Address.Holder.InstanceID == hosts[0].InstanceID
	})
	load := startVisits(t, r)
	out, code, err := hosts[0].CLI(t.Context(), "address", "release")
	if err != nil || code != 0 {
		t.Fatalf("nagaya address release: %v, exit code %d: %s", err, code, out)
	}
	holds(t, r, hosts[1], 20*time.Second)
	until(t, "the standby answers", func() error {
		if load.Seen("alpha 2") == 0 {
			return errNotYet
		}
		return nil
	})
	met := load.Stop()
	t.Logf("%d connections, by %v", met.Requests, met.By)
	if met.Failed != 0 {
		t.Errorf("%d of %d connections failed, the first: %s", met.Failed, met.Requests, met.First)
	}
	if n := r.Cloud.Count("ec2", "DisassociateAddress"); n != 0 {
		t.Errorf("%d disassociations; the move is one call", n)
	}
}

func hasProblem(st report.Status, part string) bool {
	for _, p := range st.Problems {
		if strings.Contains(p.Code, part) {
			return true
		}
	}
	return false
}

// startVisits asks for a.test at the address, 100 times a second, each time on a
// new connection.
func startVisits(t *testing.T, r *Region) *Load {
	t.Helper()
	c, err := r.Client(simaws.DefaultPublicIP)
	must(t, err)
	c.Transport.(*http.Transport).DisableKeepAlives = true
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return StartVisits(ctx, 100, func(int) *http.Client { return c }, "https://a.test/")
}
