// Package claim puts Elastic IPs where package address says they should be. It asks EC2
// who holds them, associates those that may be taken, checks that they stay, and writes
// the holder tag.
package claim

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Options say what is claimed, and how.
type Options struct {
	// Claims are the addresses that belong here, none of them zero; without any there is
	// nothing to do.
	Claims []address.Claim
	Policy address.Policy
	// Every is how often EC2 is asked while a running instance that the policy may
	// take the address from holds it; default address.DefaultEvery. A holder that EC2
	// reports gone is relieved within it. While this instance holds the address, EC2 is
	// asked every 24th time only, at the longest every six minutes.
	Every time.Duration
	// API returns a client for the Region; called once the Region is known.
	API func(region string) EC2
	// Moved is called when the public address of this instance may have changed:
	// connections that were made from the old one are dead and must be dialled
	// again. May be nil.
	Moved func()
	// Requests delivers what the operator asks for. May be nil.
	Requests <-chan latest.Question[address.Request]
	// Memory is the one of the last report of a former Run.
	Memory address.Memory
	// Reach asks, at no cost in EC2, whether the holder of the public address answers at
	// all; see Dial. It is called every ten seconds while another running instance holds
	// the address. May be nil.
	Reach func(ctx context.Context, public netip.Addr) error
	// Unreachable is for how long a running holder that used to answer must not have
	// answered before a ready instance with policy standby or takeover takes the
	// address. Zero is never.
	Unreachable time.Duration
	Log         *slog.Logger
}

// Run keeps the addresses until ctx ends. Nothing is released at the end: an
// address stays with a stopped instance until another instance takes it.
func Run(ctx context.Context, o Options, situations <-chan address.Situation, put func(address.Report)) error {
	c := newClaimer(o, put)
	defer c.reach.running.Wait()
	c.report()
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	identityWait := time.After(identityPatience)
	waited := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-identityWait:
			waited = true
		case s := <-situations:
			c.follow(s)
		case r := <-c.requests(waited):
			err := c.carryOut(ctx, r.Value)
			c.report() // the operator looks at it next
			r.Reply <- err
		case round := <-c.reach.rounds:
			c.takeAnswers(round)
		case <-timer.C:
		}
		if c.active() {
			c.doDue(ctx)
			c.report()
			timer.Reset(time.Until(c.next()))
		}
	}
}

// identityPatience is how long a request waits for the identity of this instance after a
// start, before it is refused.
const identityPatience = 10 * time.Second

// requests is the channel of requests, nil while they wait for the identity.
func (c *claimer) requests(waited bool) <-chan latest.Question[address.Request] {
	if len(c.states) > 0 && !c.self().Known && !waited {
		return nil
	}
	return c.o.Requests
}

// claimer is a running claim.
type claimer struct {
	o         Options
	put       func(address.Report)
	api       EC2
	situation address.Situation
	states    []*address.State
	own       []address.Interface // of this instance; nil is unknown
	launched  time.Time           // when this instance was; zero is unknown
	started   time.Time
	schedule  address.Schedule
	retry     backoff.Backoff
	problems  map[string]problem.Problem // see setProblem
	unfreed   map[string]string          // by claim: the association that could not be ended, and why
	tags      tagWriter
	reach     reacher
}

func newClaimer(o Options, put func(address.Report)) *claimer {
	o.Every = cmp.Or(o.Every, address.DefaultEvery)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Moved == nil {
		o.Moved = func() {}
	}
	c := &claimer{
		o: o, put: put, started: time.Now(), retry: backoff.Backoff{First: time.Second, Most: time.Minute}, problems: map[string]problem.Problem{}, unfreed: map[string]string{},
		reach: reacher{rounds: make(chan []answer, 1)},
	}
	for _, one := range o.Claims {
		c.states = append(c.states, address.NewState(one, o.Policy, o.Memory))
	}
	return c
}

func (c *claimer) self() identity.Instance { return c.situation.Identity.Instance }

// active reports whether there is something to claim and the identity is known.
func (c *claimer) active() bool { return len(c.states) > 0 && c.self().Known }

// report puts how everything stands.
func (c *claimer) report() {
	all := make([]address.ClaimReport, 0, len(c.states))
	for _, s := range c.states {
		one := s.Report
		one.NextCheck = c.schedule.Next()
		if p, ok := c.problems[one.Claim]; ok {
			one.Problems = []problem.Problem{p}
		}
		all = append(all, one)
	}
	r := address.NewReport(all)
	for _, key := range []string{"", tagKey} {
		if p, ok := c.problems[key]; ok {
			r.Problems = append(r.Problems, p)
		}
	}
	c.put(r)
}

// follow takes the new situation, and decides whether it is a reason to ask EC2 now.
func (c *claimer) follow(x address.Situation) {
	was, now := c.situation, time.Now()
	c.situation = x
	if !x.Identity.Instance.Known {
		return
	}
	before, self := was.Identity.Instance, x.Identity.Instance
	if !before.Known || before.ID != self.ID {
		c.schedule.Advance(now)
		c.launched, c.own = time.Time{}, nil
		c.api = c.o.API(self.Region)
	}
	if before.Known && !slices.Equal(before.PublicAddrs(), self.PublicAddrs()) {
		c.o.Moved()
	}
	for _, s := range c.states {
		c.schedule.Advance(s.Follow(was, x, now))
	}
	if was.Identity.Leaving() != x.Identity.Leaving() {
		c.tags.writeNow()
	}
	if !slices.Equal(was.LiveHosts, x.LiveHosts) {
		c.tags.hostsChanged = now
		c.tags.wake(now)
	}
}

// next is when there is something to do.
func (c *claimer) next() time.Time {
	next := c.schedule.Next()
	for _, t := range []time.Time{c.tags.at, c.reach.at} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return next
}

// doDue does what is due.
func (c *claimer) doDue(ctx context.Context) {
	switch addresses, holders := c.schedule.Due(c.o.Every, time.Now()); {
	case addresses:
		c.lookAtAddresses(ctx, nil)
	case holders:
		c.lookAtHolders(ctx)
	}
	if address.Due(c.tags.at, time.Now()) {
		c.writeTags(ctx)
	}
	if address.Due(c.reach.at, time.Now()) {
		c.reachHolders(ctx)
	}
}

// carryOut does what the operator asks for, at once.
func (c *claimer) carryOut(ctx context.Context, r address.Request) error {
	switch {
	case len(c.states) == 0:
		return errors.New("no address is claimed; set address.claim")
	case !c.active():
		return errors.New("the identity of this instance is not known yet; see 'nagaya status'")
	}
	meant := slices.DeleteFunc(slices.Clone(c.states), func(s *address.State) bool { return r.Claim != "" && r.Claim != s.Report.Claim })
	if len(meant) == 0 {
		return errors.New("no claim is named so; see 'nagaya address'")
	}
	if r.Release {
		return c.release(ctx, meant, r.Now)
	}
	for _, s := range meant {
		s.Requested, s.Report.Released = true, false
	}
	c.tags.writeNow()
	c.lookAtAddresses(ctx, nil)
	var errs []error
	for _, s := range meant {
		s.Requested = false
		trouble, failed := c.problems[""]
		switch {
		case failed:
			errs = append(errs, errors.New(trouble.Text))
		case s.Failed:
			errs = append(errs, errors.New(c.problems[s.Report.Claim].Text))
		case s.Report.Decision.Action == address.Stay:
			errs = append(errs, errors.New(s.Report.Decision.Reason))
		}
	}
	return errors.Join(errs...)
}

// jitter varies a pause, so that agents do not ask in step.
func jitter() float64 { return 2*rand.Float64() - 1 }
