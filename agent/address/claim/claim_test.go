package claim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
)

// region is an EC2 with one address and the instances i-self and i-other.
type region struct {
	mu        sync.Mutex // only tells the race detector that test and claim take turns
	calls     []string
	owner     string // "", "self", "other", "service"
	assoc     int
	state     types.InstanceStateName
	otherAt   time.Time
	selfAt    time.Time
	addresses int                // how many addresses match; 1 if zero
	fail      map[string][]error // by action, used up one by one
	stale     int                // DescribeAddresses answers this many times what was before
	before    *types.Address
	taken     func() // called by an association, before it happens
}

func (r *region) turn() {
	r.mu.Lock()
	defer r.mu.Unlock()
}

func (r *region) next(action string) error {
	r.turn()
	r.calls = append(r.calls, action)
	if errs := r.fail[action]; len(errs) > 0 {
		r.fail[action] = errs[1:]
		return errs[0]
	}
	return nil
}

func (r *region) address() types.Address {
	a := types.Address{AllocationId: ptr("eipalloc-1"), PublicIp: ptr("203.0.113.7")}
	if r.owner != "" {
		a.AssociationId = ptr(fmt.Sprintf("eipassoc-%d", r.assoc))
		a.NetworkInterfaceId = ptr("eni-" + r.owner)
		if r.owner != "service" {
			a.InstanceId = ptr("i-" + r.owner)
		}
	}
	return a
}

func (r *region) DescribeAddresses(_ context.Context, in *ec2.DescribeAddressesInput, _ ...func(*ec2.Options)) (*ec2.DescribeAddressesOutput, error) {
	if err := r.next("DescribeAddresses"); err != nil {
		return nil, err
	}
	if len(in.Filters) != 1 || *in.Filters[0].Name != "allocation-id" || in.Filters[0].Values[0] != "eipalloc-1" {
		return nil, fmt.Errorf("unexpected filters %+v", in.Filters)
	}
	if r.stale > 0 && r.before != nil {
		r.stale--
		return &ec2.DescribeAddressesOutput{Addresses: []types.Address{*r.before}}, nil
	}
	if r.addresses == 0 {
		r.addresses = 1
	}
	out := &ec2.DescribeAddressesOutput{}
	for range max(r.addresses, 0) {
		out.Addresses = append(out.Addresses, r.address())
	}
	return out, nil
}

func (r *region) DescribeInstances(_ context.Context, in *ec2.DescribeInstancesInput, _ ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error) {
	if err := r.next("DescribeInstances"); err != nil {
		return nil, err
	}
	return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{
		{Instances: []types.Instance{{InstanceId: ptr("i-self"), LaunchTime: &r.selfAt, State: &types.InstanceState{Name: "running"}}}},
		{Instances: []types.Instance{{InstanceId: ptr("i-other"), LaunchTime: &r.otherAt, State: &types.InstanceState{Name: r.state}}}},
	}}, nil
}

func (r *region) AssociateAddress(_ context.Context, in *ec2.AssociateAddressInput, _ ...func(*ec2.Options)) (*ec2.AssociateAddressOutput, error) {
	if err := r.next("AssociateAddress"); err != nil {
		return nil, err
	}
	if in.AllowReassociation == nil || *in.NetworkInterfaceId != "eni-self" || *in.PrivateIpAddress != "10.0.0.5" || in.InstanceId != nil {
		return nil, fmt.Errorf("unexpected input %+v", in)
	}
	if r.taken != nil {
		r.taken()
	}
	if r.owner != "" && r.owner != "self" && !*in.AllowReassociation {
		return nil, &smithy.GenericAPIError{Code: "Resource.AlreadyAssociated", Message: "resource eipalloc-1 is already associated"}
	}
	before := r.address()
	r.before = &before
	r.owner = "self"
	r.assoc++
	return &ec2.AssociateAddressOutput{AssociationId: ptr(fmt.Sprintf("eipassoc-%d", r.assoc))}, nil
}

func ptr[T any](v T) *T { return &v }

// journal collects log lines; a test reads it while the claim may still write.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// bench is one running claim on a pretend EC2.
type bench struct {
	t     *testing.T
	r     *region
	in    *latest.Slot[address.Situation]
	asked chan chan<- error
	last  address.Report
	moved int
	log   *journal
}

func start(t *testing.T, r *region, policy address.Policy) *bench {
	t.Helper()
	noon := time.Now()
	if r.selfAt.IsZero() {
		r.selfAt, r.otherAt = noon.Add(-time.Hour), noon.Add(-24*time.Hour)
	}
	if r.state == "" {
		r.state = "running"
	}
	b := &bench{t: t, r: r, in: latest.New[address.Situation](), asked: make(chan chan<- error), log: &journal{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{
			Claim: address.Claim{AllocationID: "eipalloc-1"}, Policy: policy, Every: time.Minute,
			API:   func(context.Context, string) (EC2, error) { return r, nil },
			Moved: func() { b.moved++ }, Asked: b.asked,
			Log: slog.New(slog.NewTextHandler(b.log, nil)),
		}, b.in.C(), func(rep address.Report) { r.turn(); b.last = rep })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

func situation(ready bool) address.Situation {
	return address.Situation{Ready: ready, Unready: "no route is live", Identity: identity.Identity{Instance: identity.Instance{
		Known: true, ID: "i-self", Region: "eu-west-1", Primary: identity.Interface{ID: "eni-self", LocalAddr: netip.MustParseAddr("10.0.0.5")},
	}}}
}

// after lets the given time pass.
func (b *bench) after(d time.Duration) {
	b.r.turn()
	time.Sleep(d) // virtual: every test runs in a synctest bubble
	synctest.Wait()
}

func (b *bench) wantCalls(want ...string) {
	b.t.Helper()
	if got := strings.Join(b.r.calls, " "); got != strings.Join(want, " ") {
		b.t.Errorf("calls %q, want %q", got, strings.Join(want, " "))
	}
	b.r.calls = nil
}

func (b *bench) wantProblem(code, inHint string) {
	b.t.Helper()
	if len(b.last.Problems) != 1 || b.last.Problems[0].Code != code || !strings.Contains(b.last.Problems[0].Hint, inHint) {
		b.t.Errorf("problems %+v; want %s with %q in the hint", b.last.Problems, code, inHint)
	}
}

func TestFreeAddressIsTakenWithThreeCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &region{}, address.Takeover)
		b.in.Put(address.Situation{}) // identity unknown: no call
		b.after(time.Minute)
		b.wantCalls()
		b.in.Put(situation(false))
		b.after(time.Second)
		b.wantCalls("DescribeAddresses", "AssociateAddress", "DescribeAddresses")
		if !b.last.Held() || b.last.Moves != 1 || b.moved != 1 || b.last.Address.AssociationID != "eipassoc-1" {
			t.Errorf("report %+v, moved %d", b.last, b.moved)
		}
		b.after(recheck)
		b.wantCalls("DescribeAddresses") // looked at again once, because of races
		b.after(5 * time.Minute)
		b.wantCalls()
		if got := strings.Count(b.log.String(), "address decision"); got != 2 {
			t.Errorf("%d decisions logged, want take and keep:\n%s", got, b.log)
		}
	})
}

func TestAddressThatIsOursIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &region{owner: "self"}, address.Takeover)
		b.in.Put(situation(true))
		b.after(time.Second)
		b.wantCalls("DescribeAddresses")
		for range 10 {
			b.in.Put(situation(true)) // nothing that matters has changed
			b.after(time.Second)
		}
		b.wantCalls()
	})
}

func TestTakeoverWaitsUntilReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, &region{owner: "other"}, address.Takeover)
		b.in.Put(situation(false))
		b.after(time.Second)
		b.wantCalls("DescribeAddresses", "DescribeInstances")
		if b.last.Decision.Action != address.Stay || !strings.Contains(b.last.Decision.Reason, "no route is live") {
			t.Errorf("decision %+v", b.last.Decision)
		}
		b.in.Put(situation(true))
		b.after(time.Second)
		b.wantCalls("DescribeAddresses", "DescribeInstances", "AssociateAddress", "DescribeAddresses")
		if !b.last.Held() {
			t.Errorf("report %+v", b.last)
		}
	})
}

func TestLosingAnAddressIsNoticedAndRespected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &region{owner: "self"}
		b := start(t, r, address.Takeover)
		s := situation(true)
		s.Identity.Instance.Primary.PublicAddr = []netip.Addr{netip.MustParseAddr("203.0.113.7")}
		b.in.Put(s)
		b.after(time.Second)
		r.calls = nil
		r.owner, r.otherAt, r.selfAt = "other", time.Now(), time.Now().Add(-time.Hour) // a newer instance took it
		r.assoc++
		b.in.Put(situation(true)) // metadata shows no public address any more
		b.after(time.Second)
		b.wantCalls("DescribeAddresses", "DescribeInstances")
		if b.last.Held() || b.last.Holder.InstanceID != "i-other" || b.last.Decision.Action != address.Stay {
			t.Errorf("report %+v", b.last)
		}
		if !strings.Contains(b.log.String(), "address lost") {
			t.Errorf("the loss was not logged:\n%s", b.log)
		}
		r.state = "terminated"
		b.after(70 * time.Second)
		if !b.last.Held() {
			t.Errorf("a terminated holder keeps the address: %+v", b.last)
		}
	})
}

func TestLostRaceEndsWithTheTruth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &region{}
		r.taken = func() {
			if r.owner == "" {
				r.owner, r.otherAt = "other", r.selfAt.Add(time.Minute) // a newer one was quicker
			}
		}
		b := start(t, r, address.Takeover)
		b.in.Put(situation(true))
		b.after(10 * time.Second)
		b.wantCalls("DescribeAddresses", "AssociateAddress", "DescribeAddresses", "DescribeInstances")
		if b.last.Held() || b.last.Holder.InstanceID != "i-other" || len(b.last.Problems) != 0 {
			t.Errorf("report %+v", b.last)
		}
	})
}

func TestStaleAnswersAreWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &region{stale: 4}
		b := start(t, r, address.Takeover)
		b.in.Put(situation(true))
		b.after(10 * time.Second)
		if !b.last.Held() || b.last.Moves != 1 || len(b.last.Problems) != 0 {
			t.Errorf("report %+v", b.last)
		}
		associations := strings.Count(strings.Join(r.calls, " "), "Associate")
		if associations != 1 {
			t.Errorf("%d associations for one address", associations)
		}
	})
}

func TestErrorsAreExplainedAndOutlived(t *testing.T) {
	api := func(code string) error {
		return &smithy.OperationError{ServiceID: "EC2", OperationName: "AssociateAddress", Err: &smithy.GenericAPIError{Code: code, Message: "no"}}
	}
	for name, row := range map[string]struct {
		r          *region
		code, hint string
	}{
		"permission": {&region{fail: map[string][]error{"AssociateAddress": {api("UnauthorizedOperation")}}}, "address-denied", `"Action":"ec2:AssociateAddress"`},
		"first boot": {&region{fail: map[string][]error{"DescribeAddresses": {api("AuthFailure")}}}, "address-not-ours", "first boot"},
		"throttled":  {&region{fail: map[string][]error{"DescribeAddresses": {api("RequestLimitExceeded")}}}, "ec2-throttled", "by itself"},
		"no way out": {&region{fail: map[string][]error{"DescribeAddresses": {&net.OpError{Op: "dial", Err: errors.New("timeout")}}}}, "ec2-unreachable", "NAT gateway"},
		"none":       {&region{addresses: -1}, "address-not-found", "eu-west-1"},
		"several":    {&region{addresses: 2}, "address-ambiguous", "allocation id"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, row.r, address.Takeover)
				b.in.Put(situation(true))
				b.after(100 * time.Millisecond)
				b.wantProblem(row.code, row.hint)
				row.r.addresses = 1
				b.after(3 * time.Minute)
				if !b.last.Held() || len(b.last.Problems) != 0 {
					t.Errorf("it did not recover: %+v", b.last)
				}
			})
		})
	}
}

func TestStandingErrorIsLoggedOnceAndRetriedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &region{addresses: -1}
		b := start(t, r, address.Wait)
		b.in.Put(situation(true))
		b.after(time.Hour)
		if n := len(r.calls); n < 55 || n > 80 {
			t.Errorf("%d calls in an hour, want about one a minute", n)
		}
		if n := strings.Count(b.log.String(), "\n"); n != 1 {
			t.Errorf("%d lines logged, want 1:\n%s", n, b.log)
		}
	})
}

// What EC2 refuses is no association and costs none of the budget: it is tried
// again about once a minute, and stays a problem all the while.
func TestRefusedAssociationStandsAndIsRetriedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		denied := make([]error, 100)
		for i := range denied {
			denied[i] = &smithy.OperationError{ServiceID: "EC2", OperationName: "AssociateAddress", Err: &smithy.GenericAPIError{Code: "UnauthorizedOperation", Message: "no"}}
		}
		r := &region{fail: map[string][]error{"AssociateAddress": denied}}
		b := start(t, r, address.Takeover)
		b.in.Put(situation(true))
		b.after(time.Second)
		for range 360 {
			b.after(10 * time.Second)
			b.wantProblem("address-denied", "ec2:AssociateAddress")
		}
		if n := strings.Count(strings.Join(r.calls, " "), "Associate"); n < 55 || n > 80 {
			t.Errorf("%d associations were tried in an hour, want about one a minute", n)
		}
		if n := strings.Count(b.log.String(), "address not settled"); n != 1 {
			t.Errorf("the same trouble was logged %d times:\n%s", n, b.log)
		}
		r.fail = nil
		b.after(70 * time.Second)
		if !b.last.Held() || len(b.last.Problems) != 0 {
			t.Errorf("it did not recover: %+v", b.last)
		}
	})
}

// After an answer that was lost the next association is a minute away.
func TestLostAnswersCostTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &region{fail: map[string][]error{"AssociateAddress": {
			&net.OpError{Op: "read", Err: errors.New("reset")},
			&smithy.GenericAPIError{Code: "InternalError", Message: "no"},
		}}}
		b := start(t, r, address.Takeover)
		b.in.Put(situation(true))
		b.after(59 * time.Second)
		if n := strings.Count(strings.Join(r.calls, " "), "Associate"); n != 1 {
			t.Errorf("%d associations within a minute", n)
		}
		b.after(5 * time.Minute)
		if n := strings.Count(strings.Join(r.calls, " "), "Associate"); n != 3 || !b.last.Held() {
			t.Errorf("%d associations, report %+v", n, b.last)
		}
	})
}

func TestOperatorAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &region{owner: "other"}
		b := start(t, r, address.Manual)
		ask := func() error {
			reply := make(chan error, 1)
			b.asked <- reply
			return <-reply
		}
		if err := ask(); err == nil || !strings.Contains(err.Error(), "identity") {
			t.Errorf("before the identity is known: %v", err)
		}
		b.in.Put(situation(false))
		b.after(time.Second)
		if b.last.Held() {
			t.Fatal("policy manual took the address by itself")
		}
		if err := ask(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if !b.last.Held() {
			t.Errorf("report %+v", b.last)
		}
		r.owner = "service"
		r.assoc++
		if err := ask(); err == nil || !strings.Contains(err.Error(), "load balancer") {
			t.Errorf("from a service: %v", err)
		}
	})
}
