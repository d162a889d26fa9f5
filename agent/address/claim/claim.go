// Package claim keeps one Elastic IP where package address says it should be. It
// asks EC2 who holds it, takes it when it may, makes sure that it got it, and
// notices when it is gone.
package claim

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
)

// EC2 is the part of EC2's API that a claim needs.
type EC2 interface {
	DescribeAddresses(context.Context, *ec2.DescribeAddressesInput, ...func(*ec2.Options)) (*ec2.DescribeAddressesOutput, error)
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	AssociateAddress(context.Context, *ec2.AssociateAddressInput, ...func(*ec2.Options)) (*ec2.AssociateAddressOutput, error)
}

// Options say what is claimed, and how.
type Options struct {
	Claim  address.Claim
	Policy address.Policy
	// Every is how often EC2 is asked while another instance holds the address.
	// While this one does, it is asked a tenth as often: instance metadata tells
	// a loss at no cost. Default one minute.
	Every time.Duration
	// API returns a client for the Region; called once the Region is known.
	API func(ctx context.Context, region string) (EC2, error)
	// Moved is called after the address came here: connections that were made
	// from the old public address are dead and must be dialled anew. May be nil.
	Moved func()
	// Asked delivers an operator's wish to have the address here now. The error
	// of the attempt, or nil, is sent to the channel that it carries. May be nil.
	Asked <-chan chan<- error
	Log   *slog.Logger
}

const (
	verifyTries = 10
	// recheck is when an address that was just taken is looked at again: another
	// instance may have taken it at the same moment, and EC2's answers are
	// eventually consistent.
	recheck  = 45 * time.Second
	minRetry = time.Second
	maxRetry = time.Minute
	// callTimeout bounds one call with its retries.
	callTimeout = 20 * time.Second
)

// Run keeps the address until ctx ends. Nothing is released at the end: the
// address stays with a stopped instance, and whoever comes next takes it.
func Run(ctx context.Context, o Options, situations <-chan address.Situation, put func(address.Report)) error {
	if o.Every <= 0 {
		o.Every = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &claimer{o: o, put: put}
	c.report.Claim, c.report.Policy = o.Claim.String(), o.Policy
	if o.Claim.IsZero() {
		c.report.Policy = ""
	}
	c.tell()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	var answer chan<- error
	for {
		look := false
		select {
		case <-ctx.Done():
			return nil
		case s := <-situations:
			look = c.matters(s)
			c.situation = s
		case answer = <-o.Asked:
			look = true
		case <-timer.C:
			look = true
		}
		if answer != nil && (o.Claim.IsZero() || !c.situation.Identity.Instance.Known) {
			answer <- c.cannot()
			answer = nil
			continue
		}
		if !look || o.Claim.IsZero() || !c.situation.Identity.Instance.Known {
			continue
		}
		wait, err := c.look(ctx, answer != nil)
		if answer != nil {
			answer <- err
			answer = nil
		}
		c.report.NextCheck = time.Now().Add(wait)
		c.tell()
		timer.Reset(wait)
	}
}

type claimer struct {
	o         Options
	put       func(address.Report)
	api       EC2
	situation address.Situation
	report    address.Report
	budget    address.Budget
	retry     time.Duration
	logged    address.Decision
	warned    string
}

func (c *claimer) tell() {
	r := c.report
	r.Problems = slices.Clone(r.Problems)
	c.put(r)
}

func (c *claimer) cannot() error {
	if c.o.Claim.IsZero() {
		return errors.New("no address is claimed; set address.claim")
	}
	return errors.New("the identity of this instance is not known yet; see 'nagaya status'")
}

// matters reports whether the change of the situation to s is a reason to ask EC2 now.
func (c *claimer) matters(s address.Situation) bool {
	was, is := c.situation.Identity, s.Identity
	switch {
	case !is.Instance.Known:
		return false
	case !was.Instance.Known || was.Instance.ID != is.Instance.ID:
		return true
	case !slices.Equal(was.Instance.Primary.PublicAddr, is.Instance.Primary.PublicAddr):
		return true
	case c.report.Held():
		return false
	}
	return s.Ready && !c.situation.Ready || was.Leaving() != is.Leaving()
}

// look asks, decides and acts once. It returns when to look again.
func (c *claimer) look(ctx context.Context, asked bool) (time.Duration, error) {
	err := c.step(ctx, asked)
	if err == nil {
		c.retry = 0
		c.report.Problems, c.warned = nil, ""
		if c.report.Decision.Action == address.Take {
			return recheck, nil
		}
		every := c.o.Every
		if c.report.Held() {
			every *= 10
		}
		return jitter(every), c.refusal(asked)
	}
	if ctx.Err() != nil {
		return maxRetry, err
	}
	p := c.explain(err)
	c.report.Problems = append(c.report.Problems[:0:0], p)
	if p.Code != c.warned {
		c.o.Log.Warn("address not settled", "address", c.report.Claim, "problem", p.Code, "err", err)
		c.warned = p.Code
	}
	c.retry = min(max(2*c.retry, minRetry), maxRetry)
	return jitter(c.retry), err
}

// refusal tells an operator who asked why nothing was done.
func (c *claimer) refusal(asked bool) error {
	if asked && c.report.Decision.Action == address.Stay {
		return errors.New(c.report.Decision.Reason)
	}
	return nil
}

func jitter(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1)
}

// step reads the truth, decides, and makes at most one change.
func (c *claimer) step(ctx context.Context, asked bool) error {
	if c.api == nil {
		api, err := c.o.API(ctx, c.situation.Identity.Instance.Region)
		if err != nil {
			return err
		}
		c.api = api
	}
	found, err := c.find(ctx)
	if err != nil {
		return err
	}
	holder, launched, err := c.holder(ctx, found)
	if err != nil {
		return err
	}
	c.saw(found, holder)
	d := address.Decide(address.Input{
		Policy: c.o.Policy, Holder: holder, LaunchedAt: launched,
		Ready: c.situation.Ready, Unready: c.situation.Unready, Leaving: c.situation.Identity.Leaving(),
		Asked: asked, Budget: c.budget, Now: time.Now(),
	})
	c.report.Decision = d
	c.logDecision(d, holder, launched)
	if d.Action != address.Take {
		return nil
	}
	return c.take(ctx, found, d)
}

// saw records who holds the address.
func (c *claimer) saw(found address.Address, holder address.Holder) {
	now := time.Now()
	if !c.report.Known || c.report.Holder.Kind != holder.Kind || c.report.Holder.InstanceID != holder.InstanceID {
		if c.report.Held() {
			c.o.Log.Warn("address lost", "address", found.PublicIP, "holder", holder.InstanceID)
		}
		c.report.Since = now
	}
	c.report.Known, c.report.Address, c.report.Holder, c.report.CheckedAt = true, found, holder, now
}

// logDecision writes one line with everything the decision was made of, when it
// differs from the last.
func (c *claimer) logDecision(d address.Decision, h address.Holder, launched time.Time) {
	if d == c.logged {
		return
	}
	c.logged = d
	c.o.Log.Info("address decision", "action", d.Action, "reason", d.Reason, "reassociate", d.Reassociate,
		"address", c.report.Address.PublicIP, "allocation_id", c.report.Address.AllocationID, "policy", c.o.Policy,
		"holder", h.Kind, "holder_id", h.InstanceID, "holder_state", h.State, "holder_launched", h.LaunchedAt,
		"launched", launched, "ready", c.situation.Ready, "leaving", c.situation.Identity.Leaving())
}

// take associates the address with the primary interface and makes sure of it.
func (c *claimer) take(ctx context.Context, found address.Address, d address.Decision) error {
	primary := c.situation.Identity.Instance.Primary
	in := &ec2.AssociateAddressInput{
		AllocationId: &found.AllocationID,
		// The interface, not the instance: EC2 refuses an instance id as soon as
		// a task's own interface is attached (API reference, AssociateAddress).
		NetworkInterfaceId: &primary.ID,
		// Always sent: what EC2 does without it differs between clients.
		AllowReassociation: &d.Reassociate,
	}
	if primary.LocalAddr.IsValid() {
		private := primary.LocalAddr.String()
		in.PrivateIpAddress = &private
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.api.AssociateAddress(callCtx, in, onlyThrottled)
	if !refused(err) {
		c.budget = c.budget.Spend(time.Now())
	}
	if c.o.Moved != nil {
		// Also after an error: the call may have taken effect before it was cut.
		c.o.Moved()
	}
	if err != nil {
		return err
	}
	if out.AssociationId == nil {
		return errors.New("EC2 accepted the association but named no association id")
	}
	return c.verify(ctx, *out.AssociationId)
}

// refused reports whether EC2 said no, so that certainly nothing was done. After
// any other error the call may have taken effect.
func refused(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	code := api.ErrorCode()
	// EC2's errors of its own: InternalError, InternalFailure, Unavailable,
	// ServiceUnavailable (EC2 API reference, "Error codes", server errors).
	return !strings.HasPrefix(code, "Internal") && !strings.HasSuffix(code, "Unavailable")
}

// onlyThrottled keeps the SDK from repeating a call whose answer was lost: it may
// have taken effect, and by the second time somebody else may hold the address.
// Who holds it is looked up instead.
func onlyThrottled(o *ec2.Options) {
	o.Retryer = throttledOnly{o.Retryer}
}

type throttledOnly struct{ aws.Retryer }

// IsErrorRetryable reports whether EC2 refused the call for being one too many.
func (r throttledOnly) IsErrorRetryable(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	_, throttled := retry.DefaultThrottleErrorCodes[api.ErrorCode()]
	return throttled
}

// verify asks until EC2 shows the association, which is the fence: a newer one
// means that somebody else has taken the address since.
func (c *claimer) verify(ctx context.Context, association string) error {
	wait := 100 * time.Millisecond
	for try := 1; ; try++ {
		found, err := c.find(ctx)
		if err == nil && found.AssociationID == association {
			c.saw(found, address.Holder{Kind: address.Self, InstanceID: c.situation.Identity.Instance.ID, State: "running"})
			c.report.Moves++
			c.o.Log.Info("address held", "address", found.PublicIP, "association_id", association, "tries", try)
			return nil
		}
		if try == verifyTries {
			return &unverified{association: association, found: found.AssociationID, err: err}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// find returns the one address that the claim names.
func (c *claimer) find(ctx context.Context) (address.Address, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.api.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: filters(c.o.Claim)})
	if err != nil {
		return address.Address{}, err
	}
	var all []address.Address
	for _, a := range out.Addresses {
		ip, err := netip.ParseAddr(deref(a.PublicIp))
		if err != nil || deref(a.AllocationId) == "" {
			continue
		}
		all = append(all, address.Address{
			AllocationID: deref(a.AllocationId), AssociationID: deref(a.AssociationId), PublicIP: ip,
			InterfaceID: deref(a.NetworkInterfaceId), InstanceID: deref(a.InstanceId),
		})
	}
	if len(all) != 1 {
		return address.Address{}, &notOne{all: all}
	}
	return all[0], nil
}

// holder says who has the address, and when this instance was launched if that
// is needed to decide. Instances are described only when another one holds it.
func (c *claimer) holder(ctx context.Context, a address.Address) (address.Holder, time.Time, error) {
	self := c.situation.Identity.Instance
	switch {
	case a.AssociationID == "":
		return address.Holder{Kind: address.Nobody}, time.Time{}, nil
	case a.InterfaceID == self.Primary.ID || a.InterfaceID == "" && a.InstanceID == self.ID:
		return address.Holder{Kind: address.Self, InstanceID: self.ID, State: "running"}, time.Time{}, nil
	case a.InstanceID == "":
		return address.Holder{Kind: address.Service}, time.Time{}, nil
	}
	holder := address.Holder{Kind: address.Other, InstanceID: a.InstanceID}
	states, err := c.describe(ctx, self.ID, a.InstanceID)
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "InvalidInstanceID.NotFound" {
		holder.State = "terminated"
		return holder, time.Time{}, nil
	}
	if err != nil {
		return holder, time.Time{}, err
	}
	holder.State, holder.LaunchedAt = states[a.InstanceID].state, states[a.InstanceID].launched
	return holder, states[self.ID].launched, nil
}

type instance struct {
	state    string
	launched time.Time
}

func (c *claimer) describe(ctx context.Context, ids ...string) (map[string]instance, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: ids})
	if err != nil {
		return nil, err
	}
	all := map[string]instance{}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			one := instance{}
			if i.State != nil {
				one.state = string(i.State.Name)
			}
			if i.LaunchTime != nil {
				one.launched = *i.LaunchTime
			}
			all[deref(i.InstanceId)] = one
		}
	}
	return all, nil
}
