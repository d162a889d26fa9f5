package claim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

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

// bench is one running claim of i-self in a world.
type bench struct {
	t        *testing.T
	w        *world
	api      *client
	in       *latest.Slot[address.Situation]
	requests chan latest.Question[address.Request]
	mu       sync.Mutex
	last     address.Report
	moved    int
	log      *journal
}

// small is a world with one address, and i-self and i-other, which is older.
func small() *world {
	w := newWorld()
	w.addAddress("eipalloc-1", "203.0.113.7", map[string]string{"Name": "nagaya"})
	w.addMachine("i-self", time.Now().Add(-time.Hour), "10.0.0.5", "10.0.0.6")
	w.addMachine("i-other", time.Now().Add(-24*time.Hour), "10.0.0.15")
	return w
}

func start(t *testing.T, w *world, o Options) *bench {
	t.Helper()
	b := &bench{t: t, w: w, in: latest.New[address.Situation](), requests: make(chan latest.Question[address.Request]), log: &journal{}}
	b.api = &client{w: w, who: "i-self", fail: map[string][]error{}}
	if len(o.Claims) == 0 {
		o.Claims = []address.Claim{{AllocationID: "eipalloc-1"}}
	}
	o.API = func(string) EC2 { return b.api }
	o.Requests = b.requests
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(b.log, nil))
	}
	o.Moved = func() { b.moved++ }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, o, b.in.C(), func(r address.Report) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.last = r
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// now is the situation of i-self.
func (b *bench) now(ready bool) address.Situation {
	return address.Situation{Ready: ready, Unready: "no route is live", Identity: b.w.seenFrom("i-self")}
}

// after lets the given time pass.
func (b *bench) after(d time.Duration) {
	b.t.Helper()
	b.w.turn()
	time.Sleep(d) // virtual: every test runs in a synctest bubble
	synctest.Wait()
	b.w.turn()
}

// report is the last report.
func (b *bench) report() address.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

func (b *bench) ask(r address.Request) error {
	b.w.turn()
	err := latest.Ask(context.Background(), b.requests, r)
	synctest.Wait()
	b.w.turn()
	return err
}

func (b *bench) wantCalls(want ...string) {
	b.t.Helper()
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	var got []string
	for _, c := range b.w.calls {
		got = append(got, c.action)
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("calls %q, want %q", got, want)
	}
	b.w.calls = nil
}

func (b *bench) wantHeld(held bool) {
	b.t.Helper()
	if b.report().Held() != held || held != (b.w.holder("eipalloc-1") == "i-self") {
		b.t.Errorf("EC2's holder is %q; report %+v", b.w.holder("eipalloc-1"), b.report())
	}
}

func (b *bench) wantProblem(code, inHint string) {
	b.t.Helper()
	ps := b.report().Problems
	if len(ps) != 1 || ps[0].Code != code || !strings.Contains(ps[0].Hint, inHint) {
		b.t.Errorf("problems %+v; want %s with %q in the hint", ps, code, inHint)
	}
}

func (b *bench) count(actions ...string) int { return b.w.count("i-self", actions...) }

func in(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func TestFreeAddressIsTakenWithThreeCalls(t *testing.T) {
	in(t, func(t *testing.T) {
		b := start(t, small(), Options{Policy: address.Takeover})
		b.api.cost = 50 * time.Millisecond
		b.in.Put(address.Situation{}) // identity unknown: no call
		b.after(time.Minute)
		b.wantCalls()
		b.in.Put(b.now(false))
		b.after(101 * time.Millisecond)
		b.wantHeld(true) // by EC2's own word, in two calls
		b.after(899 * time.Millisecond)
		b.wantCalls("DescribeAddresses", "AssociateAddress", "DescribeAddresses")
		if r := b.report(); r.Moves != 1 || b.moved != 1 || r.Address.AssociationID != "eipassoc-1" || !r.Claims[0].Verified {
			t.Errorf("report %+v, moved %d", r, b.moved)
		}
		b.in.Put(b.now(false)) // metadata shows it now
		b.after(45 * time.Second)
		// Looked at again because of races, and before because metadata was late.
		b.wantCalls("DescribeAddresses", "DescribeAddresses")
		b.after(5 * time.Minute)
		b.wantCalls()
		if got := strings.Count(b.log.String(), "address decision"); got != 2 {
			t.Errorf("%d decisions logged, want take and keep:\n%s", got, b.log)
		}
	})
}

func TestAddressThatIsOursIsLeftAlone(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-self", "10.0.0.5")
		b := start(t, w, Options{Policy: address.Takeover})
		b.in.Put(b.now(true))
		b.after(time.Second)
		b.wantCalls("DescribeAddresses")
		for range 10 {
			b.in.Put(b.now(true)) // nothing that matters has changed
			b.after(time.Second)
		}
		b.wantCalls()
	})
}

func TestTakeoverWaitsUntilReady(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		b := start(t, w, Options{Policy: address.Takeover})
		b.in.Put(b.now(false))
		b.after(time.Second)
		b.wantCalls("DescribeAddresses", "DescribeInstances")
		if d := b.report().Decision; d.Action != address.Stay || !strings.Contains(d.Reason, "no route is live") {
			t.Errorf("decision %+v", d)
		}
		b.in.Put(b.now(true))
		b.after(time.Second)
		b.wantCalls("DescribeAddresses", "DescribeInstances", "AssociateAddress", "DescribeAddresses")
		b.wantHeld(true)
	})
}

// A second instance that was launched by mistake and serves less than the holder
// must not take the traffic.
func TestTakeoverWaitsUntilAllHostsAreLive(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		other := &client{w: w, who: "i-other"}
		if err := writeTag(t.Context(), other, "eipalloc-1", address.NewHolderTag("i-other", time.Now(), false, []string{"a.test", "b.test"}).String(), false); err != nil {
			t.Fatal(err)
		}
		b := start(t, w, Options{Policy: address.Takeover})
		s := b.now(true)
		s.LiveHosts = []string{"a.test"}
		b.in.Put(s)
		b.after(2 * time.Minute)
		if d := b.report().Decision; b.report().Held() || !strings.Contains(d.Reason, `"b.test"`) {
			t.Errorf("decision %+v", d)
		}
		s.LiveHosts = []string{"a.test", "b.test", "c.test"}
		b.in.Put(s)
		b.after(time.Second)
		b.wantHeld(true)
	})
}

// An instance without certificates waits for them, and says so; from one that leaves it takes the address a
// minute later, so that it can get them at all.
func TestTakeoverWaitsForCertificates(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		other := &client{w: w, who: "i-other"}
		tell := func(leaving bool, hosts ...string) {
			t.Helper()
			for _, at := range []string{"eipalloc-1", "i-other"} {
				if err := writeTag(t.Context(), other, at, address.NewHolderTag("i-other", time.Now(), leaving, hosts).String(), false); err != nil {
					t.Fatal(err)
				}
			}
		}
		tell(false, "a.test:", "b.test")
		b := start(t, w, Options{Policy: address.Takeover})
		s := b.now(true)
		s.LiveHosts = []string{"a.test", "b.test"}
		b.in.Put(s)
		b.after(20 * time.Minute)
		if d := b.report().Decision; b.report().Held() || !strings.Contains(d.Reason, `it serves "a.test" over HTTPS, for which there is no certificate here`) {
			t.Errorf("decision %+v", d)
		}
		tell(true, "a.test:", "b.test")
		b.after(45 * time.Second)
		if b.report().Held() {
			t.Error("it did not wait for the certificate a minute")
		}
		b.after(5 * time.Minute)
		b.wantHeld(true)
	})
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		if err := writeTag(t.Context(), &client{w: w, who: "i-other"}, "eipalloc-1", address.NewHolderTag("i-other", time.Now(), false, []string{"a.test:"}).String(), false); err != nil {
			t.Fatal(err)
		}
		b := start(t, w, Options{Policy: address.Takeover})
		s := b.now(true)
		s.LiveHosts = []string{"a.test"}
		b.in.Put(s)
		b.after(time.Minute)
		s.LiveHosts = []string{"a.test:"} // from the store
		b.in.Put(s)
		b.after(time.Second)
		b.wantHeld(true)
		b.after(2 * time.Minute)
		if tag := w.holderTag("eipalloc-1"); !strings.HasSuffix(tag, "serving a.test:") {
			t.Errorf("the tag is %q", tag)
		}
	})
}

func TestLosingAnAddressIsNoticedAndRespected(t *testing.T) {
	for name, lag := range map[string]time.Duration{"at once": 0, "by late answers": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				w := small()
				w.give("eipalloc-1", "i-self", "10.0.0.5")
				w.lag = func() time.Duration { return lag }
				time.Sleep(time.Minute)
				b := start(t, w, Options{Policy: address.Takeover})
				b.in.Put(b.now(true))
				b.after(time.Minute)
				w.machines["i-other"].launched = time.Now() // a newer instance took it
				w.give("eipalloc-1", "i-other", "10.0.0.15")
				b.in.Put(b.now(true)) // metadata shows no public address any more
				b.after(lag + 6*time.Second)
				b.wantHeld(false)
				if r := b.report(); r.Holder.InstanceID != "i-other" || r.Decision.Action != address.Stay || b.moved == 0 {
					t.Errorf("report %+v", r)
				}
				if !strings.Contains(b.log.String(), "address lost") || strings.Contains(b.log.String(), "holder changed") {
					t.Errorf("the loss was not logged:\n%s", b.log)
				}
				w.give("eipalloc-1", "", "")
				b.after(time.Hour)
				if changed := `event=holder-changed address=203.0.113.7 claim=eipalloc-1 holder="a service" holder_id=""`; strings.Count(b.log.String(), changed) != 1 {
					t.Errorf("log, want %q once:\n%s", changed, b.log)
				}
			})
		})
	}
}

// A tag that is put on another address moves the claim there: what is lost is the one that was held.
func TestTheAddressThatIsLostIsNamed(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.addAddress("eipalloc-2", "203.0.113.8", nil)
		w.give("eipalloc-1", "i-self", "10.0.0.5")
		w.give("eipalloc-2", "i-other", "10.0.0.15")
		time.Sleep(time.Minute)
		b := start(t, w, Options{Policy: address.Wait, Claims: []address.Claim{{TagKey: "Name", TagValue: "nagaya"}}})
		b.in.Put(b.now(true))
		b.after(time.Minute)
		b.wantHeld(true)
		w.tag("eipalloc-1", nil)
		w.tag("eipalloc-2", map[string]string{"Name": "nagaya"})
		b.after(time.Hour)
		if lost := "event=address-lost address=203.0.113.7 claim="; !strings.Contains(b.log.String(), lost) {
			t.Errorf("log, want %q:\n%s", lost, b.log)
		}
	})
}

func TestDeadHolderIsRelievedWithin15Seconds(t *testing.T) {
	for _, state := range []types.InstanceStateName{"stopping", "stopped", "shutting-down", "terminated"} {
		for seed := range 20 {
			in(t, func(t *testing.T) {
				w := small()
				w.give("eipalloc-1", "i-other", "10.0.0.15")
				b := start(t, w, Options{Policy: address.Standby})
				b.api.cost = 50 * time.Millisecond
				b.in.Put(b.now(false))
				b.after(time.Hour + time.Duration(seed)*731*time.Millisecond)
				w.mu.Lock()
				w.machines["i-other"].state = state
				w.mu.Unlock()
				b.after(15 * time.Second)
				b.wantHeld(true)
			})
		}
	}
}

func TestLostRaceEndsWithTheTruth(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		b := start(t, w, Options{Policy: address.Takeover})
		b.api.taken = func() {
			if w.addresses["eipalloc-1"].now().assoc == "" {
				w.machines["i-other"].launched = time.Now() // a newer one was quicker
				w.give("eipalloc-1", "i-other", "10.0.0.15")
			}
		}
		b.in.Put(b.now(true))
		b.after(10 * time.Second)
		b.wantCalls("DescribeAddresses", "AssociateAddress", "DescribeAddresses", "DescribeInstances")
		b.wantHeld(false)
		if r := b.report(); r.Holder.InstanceID != "i-other" || len(r.Problems) != 0 {
			t.Errorf("report %+v", r)
		}
	})
}

// Several standbys that all see by old answers that the holder is gone: one gets
// the address, and the others leave it to that one.
func TestGoneHolderIsRelievedByOne(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		gone := w.give("eipalloc-1", "i-other", "10.0.0.15")
		w.machines["i-other"].state = "terminated"
		time.Sleep(time.Minute)
		w.addMachine("i-third", time.Now().Add(-time.Minute), "10.0.0.25")
		w.give("eipalloc-1", "i-third", "10.0.0.25")
		w.lag = func() time.Duration { return 9 * time.Second }
		b := start(t, w, Options{Policy: address.Standby})
		b.in.Put(b.now(true))
		b.after(time.Minute)
		b.wantHeld(false)
		if n := b.count("AssociateAddress"); n != 0 || w.holder("eipalloc-1") != "i-third" {
			t.Errorf("%d associations by an old answer (%s is gone)", n, gone)
		}
		if ps := b.report().Problems; len(ps) != 0 {
			t.Errorf("problems %+v", ps)
		}
	})
}

// Without the permission to free it, the address is taken from who is gone.
func TestGoneHolderWithoutPermissionToDisassociate(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		w.machines["i-other"].state = "terminated"
		b := start(t, w, Options{Policy: address.Standby})
		b.api.fail["DisassociateAddress"] = []error{refusal("DisassociateAddress", "UnauthorizedOperation", "no")}
		b.in.Put(b.now(true))
		b.after(time.Second)
		b.wantHeld(true)
	})
}

// That each of two addresses cannot be freed is logged for each, and once while it lasts.
func TestEachAddressThatIsNotFreedIsLoggedOnce(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.addAddress("eipalloc-2", "203.0.113.8", nil)
		w.addMachine("i-gone", time.Now().Add(-24*time.Hour), "10.0.0.25")
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		w.give("eipalloc-2", "i-gone", "10.0.0.25")
		w.machines["i-other"].state, w.machines["i-gone"].state = "terminated", "terminated"
		b := start(t, w, Options{Policy: address.Standby, Claims: []address.Claim{{AllocationID: "eipalloc-1"}, {AllocationID: "eipalloc-2"}}})
		for range 9 {
			b.api.fail["DisassociateAddress"] = append(b.api.fail["DisassociateAddress"], api("DisassociateAddress", "UnauthorizedOperation"))
		}
		b.api.fail["AssociateAddress"] = []error{api("AssociateAddress", "UnauthorizedOperation"), api("AssociateAddress", "UnauthorizedOperation")}
		b.in.Put(b.now(true))
		b.after(time.Minute)
		for _, claim := range []string{"eipalloc-1", "eipalloc-2"} {
			if n := strings.Count(b.log.String(), "claim="+claim+" problem=address-not-freed"); n != 1 {
				t.Errorf("%s: %d lines, want 1:\n%s", claim, n, b.log)
			}
		}
		if n := b.count("DisassociateAddress"); n < 4 {
			t.Errorf("%d attempts, want two of each", n)
		}
	})
}

func TestStaleAnswersAreWaitedOut(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.lag = func() time.Duration { return 10 * time.Second }
		b := start(t, w, Options{Policy: address.Takeover})
		b.in.Put(b.now(true))
		for range 30 {
			b.after(time.Second)
			b.wantHeld(true) // never in doubt
		}
		if n := b.count("AssociateAddress"); n != 1 || b.report().Moves != 1 || len(b.report().Problems) != 0 || !b.report().Claims[0].Verified {
			t.Errorf("%d associations for one address; %+v", n, b.report())
		}
		if n := b.count("DescribeAddresses"); n > 15 {
			t.Errorf("%d looks", n)
		}
	})
}

func api(action, code string) error { return refusal(action, code, "no") }

func TestErrorsAreExplainedAndOutlived(t *testing.T) {
	for name, row := range map[string]struct {
		action     string
		err        error
		code, hint string
	}{
		"permission to take": {"AssociateAddress", api("AssociateAddress", "UnauthorizedOperation"), "address-denied", `{"Effect":"Allow","Action":"ec2:AssociateAddress","Resource":["arn:aws:ec2:eu-west-1:123456789012:elastic-ip/eipalloc-1",`},
		"permission to see":  {"DescribeAddresses", api("DescribeAddresses", "UnauthorizedOperation"), "address-denied", `{"Effect":"Allow","Action":"ec2:DescribeAddresses","Resource":"*"}`},
		"first boot":         {"DescribeAddresses", api("DescribeAddresses", "AuthFailure"), "address-not-ours", "first boot"},
		"throttled":          {"DescribeAddresses", api("DescribeAddresses", "RequestLimitExceeded"), "ec2-throttled", "by itself"},
		"no way out":         {"DescribeAddresses", &net.OpError{Op: "dial", Err: errors.New("timeout")}, "ec2-unreachable", "com.amazonaws.eu-west-1.ec2"},
		"no deadline met":    {"DescribeAddresses", fmt.Errorf("operation error: %w", context.DeadlineExceeded), "ec2-unreachable", "NAT gateway"},
		"no name":            {"DescribeAddresses", &net.DNSError{Err: "no such host", Name: "ec2.test"}, "ec2-unreachable", "public IPv4 address"},
		"place taken":        {"AssociateAddress", refusal("AssociateAddress", "Resource.AlreadyAssociated", "resource eni-1 and 10.0.0.5 is already associated with public address 1.2.3.4"), "address-place-taken", "disassociate"},
		"clock":              {"DescribeAddresses", api("DescribeAddresses", "RequestExpired"), "clock-wrong", "chrony"},
		"no role":            {"DescribeAddresses", errors.New("get identity: get credentials: no EC2 IMDS role found"), "ec2-no-credentials", "instance profile"},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				b := start(t, small(), Options{Policy: address.Takeover})
				b.api.fail[row.action] = []error{row.err}
				b.in.Put(b.now(true))
				b.after(100 * time.Millisecond)
				b.wantProblem(row.code, row.hint)
				b.after(3 * time.Minute)
				b.wantHeld(true)
				if ps := b.report().Problems; len(ps) != 0 {
					t.Errorf("it did not recover: %+v", ps)
				}
			})
		})
	}
}

// The role and the address of a stack may be younger than the instance: EC2
// refuses for up to a minute, and is asked every few seconds meanwhile.
func TestFirstMinuteIsOutlived(t *testing.T) {
	in(t, func(t *testing.T) {
		b := start(t, small(), Options{Policy: address.Takeover})
		begin := time.Now()
		b.api.trouble = func(action string) (error, error) {
			if time.Since(begin) < 50*time.Second {
				return api(action, "AuthFailure"), nil
			}
			return nil, nil
		}
		b.in.Put(b.now(true))
		b.after(10 * time.Second)
		if p := b.report().Problems[0]; p.Severity != problem.Warning {
			t.Errorf("problem %+v", p)
		}
		b.after(46 * time.Second)
		b.wantHeld(true)
	})
}

func TestClaimThatNamesNoneOrSeveral(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		b := start(t, w, Options{Policy: address.Wait, Claims: []address.Claim{{TagKey: "Name", TagValue: "nagaya"}, {PublicIP: netip.MustParseAddr("203.0.113.99")}}})
		w.addAddress("eipalloc-2", "203.0.113.8", map[string]string{"Name": "nagaya"})
		b.in.Put(b.now(true))
		b.after(time.Second)
		ps := b.report().Problems
		if len(ps) != 2 || ps[0].Code != "address-ambiguous" || !strings.Contains(ps[0].Text, "eipalloc-2 (203.0.113.8)") || ps[1].Code != "address-not-found" {
			t.Errorf("problems %+v", ps)
		}
		if b.count("AssociateAddress") != 0 {
			t.Error("one of several was taken")
		}
	})
}

func TestStandingErrorIsLoggedOnceAndRetriedSeldom(t *testing.T) {
	in(t, func(t *testing.T) {
		b := start(t, small(), Options{Policy: address.Wait, Claims: []address.Claim{{AllocationID: "eipalloc-9"}}})
		b.in.Put(b.now(true))
		b.after(time.Hour)
		if n := b.count("DescribeAddresses"); n < 55 || n > 90 {
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
	in(t, func(t *testing.T) {
		b := start(t, small(), Options{Policy: address.Takeover})
		for range 100 {
			b.api.fail["AssociateAddress"] = append(b.api.fail["AssociateAddress"], api("AssociateAddress", "UnauthorizedOperation"))
		}
		b.in.Put(b.now(true))
		b.after(time.Second)
		for range 360 {
			b.after(10 * time.Second)
			b.wantProblem("address-denied", "ec2:AssociateAddress")
		}
		if n := b.count("AssociateAddress"); n < 55 || n > 90 {
			t.Errorf("%d associations were tried in an hour, want about one a minute", n)
		}
		if n := strings.Count(b.log.String(), "address not settled"); n != 1 {
			t.Errorf("the same trouble was logged %d times:\n%s", n, b.log)
		}
		b.w.mu.Lock()
		b.api.fail = nil
		b.w.mu.Unlock()
		b.after(70 * time.Second)
		b.wantHeld(true)
	})
}

// After an answer that was lost the next association is a minute away.
func TestLostAnswersCostTheBudget(t *testing.T) {
	in(t, func(t *testing.T) {
		b := start(t, small(), Options{Policy: address.Takeover})
		b.api.fail["AssociateAddress"] = []error{&net.OpError{Op: "read", Err: errors.New("reset")}, api("AssociateAddress", "InternalError")}
		b.in.Put(b.now(true))
		b.after(59 * time.Second)
		if n := b.count("AssociateAddress"); n != 1 {
			t.Errorf("%d associations within a minute", n)
		}
		b.after(5 * time.Minute)
		if n := b.count("AssociateAddress"); n != 3 {
			t.Errorf("%d associations", n)
		}
		b.wantHeld(true)
	})
}

func TestOperatorAsks(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		b := start(t, w, Options{Policy: address.Manual})
		ask := func() error { return b.ask(address.Request{}) }
		if err := ask(); err == nil || !strings.Contains(err.Error(), "identity") {
			t.Errorf("before the identity is known: %v", err)
		}
		b.in.Put(b.now(false))
		b.after(time.Second)
		b.wantHeld(false)
		if err := ask(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		b.wantHeld(true)
		b.after(time.Minute)
		w.give("eipalloc-1", "", "10.0.0.99") // a NAT gateway
		if err := ask(); err == nil || !strings.Contains(err.Error(), "load balancer") {
			t.Errorf("from a service: %v", err)
		}
		if err := b.ask(address.Request{Claim: "eipalloc-9"}); err == nil {
			t.Error("an unknown claim is accepted")
		}
	})
}

// Right after a restart of the agent a request waits for the identity.
func TestRequestWaitsForTheIdentity(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		b := start(t, w, Options{Policy: address.Manual})
		asked := make(chan error, 1)
		go func() { asked <- b.ask(address.Request{}) }()
		b.after(2 * time.Second)
		if len(asked) != 0 {
			t.Fatalf("answered before the identity is known: %v", <-asked)
		}
		b.in.Put(b.now(false))
		b.after(time.Second)
		if err := <-asked; err != nil {
			t.Error(err)
		}
		b.wantHeld(true)
	})
}

func TestManagedAddressIsNotTaken(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.addresses["eipalloc-1"].managed = "alb" // and not associated yet
		b := start(t, w, Options{Policy: address.Takeover})
		b.in.Put(b.now(true))
		b.after(time.Hour)
		if b.report().Held() || b.report().Holder.Kind != address.Service || b.count("AssociateAddress") != 0 {
			t.Errorf("report %+v", b.report())
		}
	})
}

func TestReleaseLetsAStandbyTakeIt(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-self", "10.0.0.5")
		b := start(t, w, Options{Policy: address.Takeover})
		b.in.Put(b.now(true))
		b.after(time.Minute)
		if err := b.ask(address.Request{Release: true}); err != nil {
			t.Fatal(err)
		}
		b.wantHeld(true) // it is served until another instance takes it
		if s := w.holderTag("eipalloc-1"); !strings.HasPrefix(s, "i-self ") || !strings.Contains(s, " leaving ") {
			t.Errorf("the holder tag is %q", s)
		}
		if _, ok := w.machines["i-self"].tags[address.TagKey]; !ok {
			t.Error("the hint tag was not written")
		}
		w.give("eipalloc-1", "i-other", "10.0.0.15") // older: by policy it would be taken back
		b.in.Put(b.now(true))
		b.after(time.Hour)
		b.wantHeld(false)
		if d := b.report().Decision; !strings.Contains(d.Reason, "released") {
			t.Errorf("decision %+v", d)
		}
		if err := b.ask(address.Request{}); err != nil {
			t.Error(err)
		}
		b.after(time.Minute)
		b.wantHeld(true)
		if s := w.holderTag("eipalloc-1"); strings.Contains(s, "i-self") && strings.Contains(s, "leaving") {
			t.Errorf("the holder tag is %q after the claim", s)
		}
	})
}

// A restart of the agent forgets neither a release nor what was spent.
func TestMemoryOutlivesARun(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		b := start(t, w, Options{Policy: address.Takeover})
		b.in.Put(b.now(true))
		b.after(time.Second)
		b.wantHeld(true)
		if err := b.ask(address.Request{Release: true, Now: true}); err != nil {
			t.Fatal(err)
		}
		kept := b.report().Memory()
		if !slices.Equal(kept.Released, []string{"eipalloc-1"}) || len(kept.Spent["eipalloc-1"]) != 1 {
			t.Fatalf("kept %+v", kept)
		}
		w.calls = nil
		again := start(t, w, Options{Policy: address.Takeover, Memory: kept})
		again.in.Put(again.now(true))
		again.after(20 * time.Second)
		again.wantHeld(false)
		if r := again.report().Claims[0]; !r.Released || !strings.Contains(r.Decision.Reason, "released") {
			t.Errorf("report %+v", r)
		}
		if err := again.ask(address.Request{}); err == nil || !strings.Contains(err.Error(), "budget") {
			t.Errorf("a claim within the minute: %v", err)
		}
		if kept = again.report().Memory(); len(kept.Released) != 0 {
			t.Errorf("kept %+v after the claim", kept)
		}
		again.after(time.Minute)
		again.wantHeld(true)
	})
}

func TestReleaseNow(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-self", "10.0.0.5")
		w.lag = func() time.Duration { return 10 * time.Second }
		time.Sleep(time.Minute)
		b := start(t, w, Options{Policy: address.Takeover})
		b.in.Put(b.now(true))
		b.after(time.Minute)
		if err := b.ask(address.Request{Release: true, Now: true}); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			b.wantHeld(false)
			b.after(10 * time.Second)
		}
		if h := w.holder("eipalloc-1"); h != "" || b.count("AssociateAddress") != 0 {
			t.Errorf("%q holds it", h)
		}
	})
}

// A holder says in its tag that it leaves, and gives a hint on its instance; a
// standby instance that mostly looks at the instance takes the address within seconds.
func TestLeavingHolderIsRelieved(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		b := start(t, w, Options{Policy: address.Standby})
		b.in.Put(b.now(true))
		old := latest.New[address.Situation]()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- Run(ctx, Options{Claims: []address.Claim{{AllocationID: "eipalloc-1"}}, Policy: address.Takeover, API: func(string) EC2 { return &client{w: w, who: "i-other"} }}, old.C(), func(address.Report) {})
		}()
		s := address.Situation{Ready: true, LiveHosts: []string{"a.test"}, Identity: w.seenFrom("i-other")}
		old.Put(s)
		b.after(20 * time.Minute)
		if n := w.count("i-other", "CreateTags"); n != 1 || !strings.Contains(w.holderTag("eipalloc-1"), "serving a.test") {
			t.Errorf("%d tags, %q", n, w.holderTag("eipalloc-1"))
		}
		s.Identity.Notices = []identity.Notice{{Kind: identity.SpotInterruption}}
		old.Put(s)
		b.after(16 * time.Second)
		if b.report().Held() || !b.report().Claims[0].HolderLeaving {
			t.Errorf("it serves less, and the holder has just begun to leave: %+v", b.report())
		}
		mine := b.now(true)
		mine.LiveHosts = []string{"a.test"}
		b.in.Put(mine)
		b.after(time.Second)
		b.wantHeld(true)
		s.Identity = w.seenFrom("i-other")
		s.Identity.Notices = []identity.Notice{{Kind: identity.SpotInterruption}}
		old.Put(s)
		b.after(time.Hour)
		b.wantHeld(true)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What is told of the hosts follows their changes seldom, and nothing is written
// while nothing changes.
func TestHolderTagIsWrittenSeldom(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		b := start(t, w, Options{Policy: address.Takeover})
		s := b.now(true)
		for i := range 600 { // ten minutes of deployments
			s.LiveHosts = []string{fmt.Sprintf("h%d.test", i)}
			b.in.Put(s)
			b.after(time.Second)
		}
		if n := b.count("CreateTags"); n != 0 {
			t.Errorf("%d tags while the hosts change every second", n)
		}
		b.after(time.Hour)
		for range 4 {
			s.LiveHosts = []string{"x.test"}
			b.in.Put(s)
			b.after(2 * time.Minute)
			s.LiveHosts = []string{"y.test"}
			b.in.Put(s)
			b.after(2 * time.Minute)
		}
		if n := b.count("CreateTags"); n < 2 || n > 4 {
			t.Errorf("%d tags in 16 minutes, want at most one in ten", n)
		}
		b.after(24 * time.Hour)
		if n := b.count("CreateTags"); n > 5 || !strings.HasSuffix(w.holderTag("eipalloc-1"), "serving y.test") {
			t.Errorf("%d tags, the last %q", n, w.holderTag("eipalloc-1"))
		}
	})
}

func TestHolderTagThatMayNotBeWritten(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		b := start(t, w, Options{Policy: address.Takeover})
		for range 3 {
			b.api.fail["CreateTags"] = append(b.api.fail["CreateTags"], api("CreateTags", "UnauthorizedOperation"))
		}
		s := b.now(true)
		s.LiveHosts = []string{"a.test"}
		b.in.Put(s)
		b.after(2 * time.Minute)
		b.wantHeld(true)
		b.wantProblem("address-tag-failed", `"Action":"ec2:CreateTags","Resource":["arn:aws:ec2:eu-west-1:123456789012:elastic-ip/eipalloc-1","arn:aws:ec2:eu-west-1:123456789012:instance/i-self"]`)
		if p := b.report().Problems[0]; p.Severity != problem.Warning {
			t.Errorf("problem %+v", p)
		}
		if err := b.ask(address.Request{Release: true}); err == nil || !strings.Contains(err.Error(), "CreateTags") {
			t.Errorf("a release that no instance can see: %v", err)
		}
	})
}

func TestSeveralClaims(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.addAddress("eipalloc-2", "203.0.113.8", nil)
		w.addAddress("eipalloc-3", "203.0.113.9", nil)
		b := start(t, w, Options{Policy: address.Takeover, Claims: []address.Claim{
			{TagKey: "Name", TagValue: "nagaya"}, {AllocationID: "eipalloc-2"}, {PublicIP: netip.MustParseAddr("203.0.113.9")},
		}})
		b.in.Put(b.now(true))
		b.after(500 * time.Millisecond)
		b.wantProblem("address-no-private-ip", "assign-private-ip-addresses")
		if !strings.Contains(b.log.String(), "10.0.0.6") {
			t.Errorf("log:\n%s", b.log)
		}
		if calls := b.count("DescribeAddresses"); calls > 3 || w.addresses["eipalloc-1"].now().privateIP != "10.0.0.5" || w.addresses["eipalloc-2"].now().privateIP != "10.0.0.6" {
			t.Errorf("%d looks; %+v %+v", calls, w.addresses["eipalloc-1"].now(), w.addresses["eipalloc-2"].now())
		}
		w.mu.Lock()
		w.machines["i-self"].private = append(w.machines["i-self"].private, "10.0.0.7", "10.0.0.8")
		w.machines["i-self"].foreign = map[string]string{"10.0.0.7": "198.51.100.1"}
		w.mu.Unlock()
		b.after(2 * time.Minute)
		if got := w.addresses["eipalloc-3"].now().privateIP; got != "10.0.0.8" || len(b.report().Problems) != 0 {
			t.Errorf("the third is on %q; %+v", got, b.report().Problems)
		}
		if r := b.report(); len(r.Claims) != 3 || !r.Held() || !r.Claims[2].Held() {
			t.Errorf("report %+v", r)
		}
	})
}

func TestClaimThatNamesItsPlace(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		b := start(t, w, Options{Policy: address.Takeover, Claims: []address.Claim{{AllocationID: "eipalloc-1", Place: address.Place{PrivateAddr: netip.MustParseAddr("10.0.0.6")}}}})
		b.in.Put(b.now(true))
		b.after(time.Second)
		b.wantHeld(true)
		if got := w.addresses["eipalloc-1"].now().privateIP; got != "10.0.0.6" {
			t.Errorf("it is on %s", got)
		}
		b.in.Put(b.now(true))
		b.after(time.Minute)
		w.give("eipalloc-1", "i-self", "10.0.0.5") // somebody moved it
		b.after(10 * time.Minute)
		b.wantProblem("address-misplaced", "address.claim")
		if n := b.count("DescribeAddresses"); n > 6 {
			t.Errorf("%d looks", n)
		}
	})
}

// Another Elastic IP of the account is not pushed from the place that it has.
func TestNoOtherAddressIsDisplaced(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		w.machines["i-self"].foreign = map[string]string{"10.0.0.5": "198.51.100.1"}
		b := start(t, w, Options{Policy: address.Takeover})
		b.in.Put(b.now(true))
		b.after(time.Second)
		b.wantHeld(true)
		if got := w.addresses["eipalloc-1"].now().privateIP; got != "10.0.0.6" {
			t.Errorf("it is on %s", got)
		}
	})
}

// An address on another interface than the primary one is watched in the metadata too.
func TestLossOnAnotherInterface(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		e := w.addresses["eipalloc-1"]
		e.past = append(e.past, holds{at: time.Now(), assoc: "eipassoc-9", instance: "i-self", iface: "eni-extra", privateIP: "10.0.0.9"})
		b := start(t, w, Options{Policy: address.Takeover, Claims: []address.Claim{{AllocationID: "eipalloc-1", Place: address.Place{InterfaceID: "eni-extra"}}}})
		s := b.now(true)
		s.Identity.Instance.Others = []identity.Interface{{ID: "eni-extra", PublicAddr: s.Identity.Instance.Primary.PublicAddr}}
		s.Identity.Instance.Primary.PublicAddr = nil
		b.in.Put(s)
		b.after(time.Minute)
		b.wantHeld(true)
		before := b.count("DescribeAddresses")
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		s.Identity.Instance.Others = []identity.Interface{{ID: "eni-extra"}}
		b.in.Put(s)
		b.after(time.Second)
		if b.report().Held() || b.count("DescribeAddresses") == before {
			t.Errorf("the loss was not noticed: %+v", b.report())
		}
	})
}

func TestBorderGroupsAreCompared(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.addresses["eipalloc-1"].border = "us-west-2-lax-1"
		b := start(t, w, Options{Policy: address.Takeover})
		b.in.Put(b.now(true))
		b.after(time.Minute)
		b.wantProblem("address-border-group", "network border group")
		if b.count("AssociateAddress") != 0 {
			t.Error("it was tried nevertheless")
		}
	})
}

func TestSilentHolder(t *testing.T) {
	for name, row := range map[string]struct {
		policy   address.Policy
		patience time.Duration
		answered bool // before it fell silent
		want     bool
	}{
		"standby":            {address.Standby, 40 * time.Second, true, true},
		"takeover":           {address.Takeover, 40 * time.Second, true, true},
		"wait":               {address.Wait, 40 * time.Second, true, false},
		"never":              {address.Standby, 0, true, false},
		"a firewall between": {address.Standby, 40 * time.Second, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T) {
				w := small()
				w.machines["i-other"].launched = time.Now()
				w.give("eipalloc-1", "i-other", "10.0.0.15")
				begin := time.Now()
				b := start(t, w, Options{Policy: row.policy, Unreachable: row.patience, Reach: func(_ context.Context, ip netip.Addr) error {
					if ip != netip.MustParseAddr("203.0.113.7") {
						t.Errorf("asked %s", ip)
					}
					if row.answered && time.Since(begin) < 10*time.Minute {
						return nil
					}
					time.Sleep(reachTimeout)
					return context.DeadlineExceeded
				}})
				b.in.Put(b.now(true))
				b.after(10*time.Minute + 60*time.Second)
				b.wantHeld(row.want)
			})
		})
	}
}

func TestOutagesGiveNothingUp(t *testing.T) {
	for _, owner := range []string{"i-self", "i-other"} {
		t.Run(owner, func(t *testing.T) {
			in(t, func(t *testing.T) {
				w := small()
				w.give("eipalloc-1", owner, w.machines[owner].private[0])
				b := start(t, w, Options{Policy: address.Standby})
				b.in.Put(b.now(true))
				b.after(10 * time.Minute)
				before := b.report().Holder
				outage := true
				b.api.trouble = func(string) (error, error) {
					if outage {
						return &net.OpError{Op: "dial", Err: errors.New("timeout")}, nil
					}
					return nil, nil
				}
				for range 360 {
					b.after(10 * time.Second)
					if r := b.report(); r.Holder != before || r.Decision.Action == address.Take {
						t.Fatalf("report %+v", r)
					}
				}
				w.mu.Lock()
				outage = false
				w.mu.Unlock()
				b.after(2 * time.Minute)
				if r := b.report(); r.Holder != before || len(r.Problems) != 0 || b.count("AssociateAddress") != 0 {
					t.Errorf("report %+v", r)
				}
				w.mu.Lock()
				w.calls = nil
				w.mu.Unlock()
				s := b.now(true) // an hour without instance metadata: what it said stays
				s.Identity.MetadataSilent = true
				b.in.Put(s)
				b.after(time.Hour)
				if r := b.report(); r.Holder != before || b.count("AssociateAddress") != 0 {
					t.Errorf("report %+v", r)
				}
				n := b.count("DescribeAddresses", "DescribeInstances")
				if n > 260 {
					t.Errorf("%d looks in an hour without metadata", n)
				}
				t.Attr("Associate", strconv.Itoa(b.count("AssociateAddress")))
				t.Attr("Describe-in-the-hour-without-metadata", strconv.Itoa(n))
			})
		})
	}
}

// A lost address is noticed while metadata is silent too.
func TestLossWithoutMetadata(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-self", "10.0.0.5")
		b := start(t, w, Options{Policy: address.Standby})
		s := b.now(true)
		s.Identity.MetadataSilent = true
		b.in.Put(s)
		b.after(10 * time.Minute)
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		b.after(20 * time.Second)
		b.wantHeld(false)
	})
}

// An instance that loses the address before metadata has shown it learns that in half a
// minute, though EC2 refuses three looks for being too many.
func TestLossBeforeMetadataShowsIt(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		b := start(t, w, Options{Policy: address.Wait})
		b.in.Put(b.now(true))
		b.after(10 * time.Minute)
		w.addresses["eipalloc-1"].change(holds{})
		for range 20 {
			if b.after(time.Second); b.report().Held() {
				break
			}
		}
		b.wantHeld(true)
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		throttled := api("DescribeAddresses", "RequestLimitExceeded")
		b.api.fail["DescribeAddresses"] = []error{throttled, throttled, throttled}
		b.after(30 * time.Second)
		b.wantHeld(false)
	})
}

func TestCallsOfADay(t *testing.T) {
	for owner, most := range map[string]int{"i-self": 300, "i-other": 6000} {
		for name, w := range map[string]int{"one": 1, "three": 3} {
			t.Run(owner+" "+name, func(t *testing.T) {
				in(t, func(t *testing.T) {
					world := small()
					world.machines["i-other"].private = []string{"10.0.0.15", "10.0.0.16", "10.0.0.17"}
					world.machines["i-self"].private = []string{"10.0.0.5", "10.0.0.6", "10.0.0.7"}
					o := Options{Policy: address.Standby}
					for i := range w {
						id := fmt.Sprintf("eipalloc-%d", i+1)
						if i > 0 {
							world.addAddress(id, fmt.Sprintf("203.0.113.1%d", i), nil)
						}
						world.give(id, owner, world.machines[owner].private[i])
						o.Claims = append(o.Claims, address.Claim{AllocationID: id})
					}
					b := start(t, world, o)
					s := b.now(true)
					s.LiveHosts = []string{"a.test"}
					b.in.Put(s)
					b.after(24 * time.Hour)
					n := b.count("DescribeAddresses", "DescribeInstances")
					t.Attr("Describe", strconv.Itoa(n))
					t.Attr("of-them-DescribeAddresses", strconv.Itoa(b.count("DescribeAddresses")))
					t.Attr("Associate", strconv.Itoa(b.count("AssociateAddress")))
					t.Attr("CreateTags", strconv.Itoa(b.count("CreateTags")))
					if n > most || n < most/3 || b.count("AssociateAddress") != 0 || b.count("CreateTags") > w {
						t.Errorf("%d describes, %d associations, %d tags", n, b.count("AssociateAddress"), b.count("CreateTags"))
					}
				})
			})
		}
	}
}

func TestProve(t *testing.T) {
	in(t, func(t *testing.T) {
		w := small()
		w.give("eipalloc-1", "i-other", "10.0.0.15")
		w.addAddress("eipalloc-nat", "203.0.113.9", nil)
		w.addresses["eipalloc-nat"].managed = "alb"
		var tried []string
		prove := func(fail map[string][]error, claims ...address.Claim) (codes []string) {
			c := &client{w: w, who: "i-self", fail: fail}
			o := Options{Claims: claims, API: func(string) EC2 { return c }}
			for _, one := range Prove(t.Context(), o, address.Situation{Identity: w.seenFrom("i-self")}) {
				p := one.Problem
				if one.What == "" || (p == nil) == (one.Found == "") || p != nil && (p.Hint == "" || p.Text == "") {
					t.Errorf("proof %+v", one)
				}
				if p != nil {
					codes = append(codes, p.Severity.String()+" "+p.Code)
				}
				tried = append(tried, one.What)
			}
			return codes
		}
		one := address.Claim{AllocationID: "eipalloc-1"}
		denied := func(actions ...string) map[string][]error {
			all := map[string][]error{}
			for _, a := range actions {
				all[a] = []error{api(a, "UnauthorizedOperation"), api(a, "UnauthorizedOperation")}
			}
			return all
		}
		for name, row := range map[string]struct{ got, want []string }{
			"all well":      {prove(nil, one), nil},
			"nothing":       {prove(nil), nil},
			"see":           {prove(denied("DescribeAddresses"), one), []string{"error address-denied"}},
			"see instances": {prove(denied("DescribeInstances"), one), []string{"error address-denied"}},
			"take":          {prove(denied("AssociateAddress"), one), []string{"error address-denied"}},
			"free":          {prove(denied("DisassociateAddress"), one), []string{"warning address-denied"}},
			"tell":          {prove(denied("CreateTags"), one), []string{"warning address-denied", "warning address-denied"}},
			"unknown":       {prove(nil, one, address.Claim{AllocationID: "eipalloc-9"}), []string{"error address-not-found"}},
			"no place":      {prove(nil, address.Claim{AllocationID: "eipalloc-1", Place: address.Place{InterfaceID: "eni-9"}}), []string{"error address-no-private-ip"}},
			"of a service":  {prove(nil, address.Claim{AllocationID: "eipalloc-nat"}), []string{"error address-of-a-service"}},
		} {
			if !slices.Equal(row.got, row.want) {
				t.Errorf("%s: %q, want %q", name, row.got, row.want)
			}
		}
		tried = nil
		prove(nil, one)
		if want := []string{"ec2:DescribeAddresses", "ec2:DescribeInstances", "address", "ec2:AssociateAddress", "ec2:DisassociateAddress", "ec2:CreateTags", "ec2:CreateTags"}; !slices.Equal(tried, want) {
			t.Errorf("tried %q, want %q", tried, want)
		}
		if ps := Prove(t.Context(), Options{Claims: []address.Claim{one}}, address.Situation{}); len(ps) != 1 || ps[0].Problem.Code != "address-identity-unknown" {
			t.Errorf("without an identity: %+v", ps)
		}
		if w.holder("eipalloc-1") != "i-other" {
			t.Error("a dry run moved the address")
		}
	})
}

func TestDialCountsEveryAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(l.Addr().String())
	if err := Dial(at.Port())(t.Context(), at.Addr()); err != nil {
		t.Errorf("a listening host: %v", err)
	}
	_ = l.Close()
	if err := Dial(at.Port())(t.Context(), at.Addr()); err != nil {
		t.Errorf("a host that refuses: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Dial(at.Port(), 9)(ctx, at.Addr()); err == nil {
		t.Error("no answer counts as one")
	}
}
