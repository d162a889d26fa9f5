// Package claim keeps Elastic IPs where package address says they should be. It
// asks EC2 who holds them, takes them when it may, makes sure that it got them,
// notices when they are gone, and tells other instances when this one is leaving.
package claim

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// EC2 is the part of EC2's API that a claim needs.
type EC2 interface {
	DescribeAddresses(context.Context, *ec2.DescribeAddressesInput, ...func(*ec2.Options)) (*ec2.DescribeAddressesOutput, error)
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
	AssociateAddress(context.Context, *ec2.AssociateAddressInput, ...func(*ec2.Options)) (*ec2.AssociateAddressOutput, error)
	DisassociateAddress(context.Context, *ec2.DisassociateAddressInput, ...func(*ec2.Options)) (*ec2.DisassociateAddressOutput, error)
	CreateTags(context.Context, *ec2.CreateTagsInput, ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error)
}

// Options say what is claimed, and how.
type Options struct {
	// Claims are the addresses that belong here; none leaves nothing to do.
	Claims []address.Claim
	Policy address.Policy
	// Named is true when the operator named the hosts that this instance must serve
	// to be ready. What a holder says it serves does not matter then.
	Named bool
	// Every is how often EC2 is asked while a running instance that the policy may
	// take the address from holds it. The default, 14.58 s, is the shortest that
	// stays within 6,000 calls a day; a holder that EC2 reports gone is relieved
	// within it. While this instance holds the address, EC2 is asked every 24th
	// time only, at the longest every six minutes: instance metadata tells a loss at
	// no cost.
	Every time.Duration
	// API returns a client for the Region; called once the Region is known.
	API func(ctx context.Context, region string) (EC2, error)
	// Moved is called when the public address of this instance may have changed:
	// connections that were made from the old one are dead and must be dialled
	// anew. May be nil.
	Moved func()
	// Wishes delivers the operator's wishes. May be nil.
	Wishes <-chan Wish
	// Memory is what a former Run remembered, and Remember is called with what has
	// changed of that since. It may be nil.
	Memory   Memory
	Remember func(Memory)
	// Reach asks, at no cost in EC2, whether whoever holds the public address
	// answers at all; see Dial. It is called every ten seconds while another
	// running instance holds the address. May be nil.
	Reach func(ctx context.Context, public netip.Addr) error
	// Unreachable is how long a running holder that used to answer must not have
	// answered before a ready instance with policy standby or takeover takes the
	// address. Zero is for ever.
	Unreachable time.Duration
	Log         *slog.Logger
}

// Memory is what must outlive one Run: a restart of the agent may neither take back
// what the operator gave away nor begin the budget anew. It is kept by the text of
// the claim.
type Memory struct {
	Released []string               `json:"released,omitempty"`
	Spent    map[string][]time.Time `json:"spent,omitempty"`
}

// Wish is what an operator wants.
type Wish struct {
	// Release gives the address away: a stand-by that is ready takes it, and this
	// instance does not take it again until it is asked to. Until then it is served
	// here. Without Release the address is wanted here.
	Release bool
	// Now lets a release not wait for another instance: nobody holds the address then.
	Now bool
	// Claim is the text of the one claim that is meant; empty means all.
	Claim string
	// Reply is sent the error, or nil, once; it must have room for it.
	Reply chan<- error
}

const (
	// defaultEvery keeps a stand-by below 6,000 calls in 24 hours, with 48 looks at
	// the addresses themselves.
	defaultEvery = 14580 * time.Millisecond
	// holderEvery is how much less often a holder asks, and holderMost how seldom.
	holderEvery = 24
	holderMost  = 6 * time.Minute
	// anyway is how often a stand-by looks at the addresses when the instance that
	// holds them shows no change.
	anyway      = 124
	anywayLeast = 30 * time.Minute
	// recheck is when an address that was just taken is looked at again: another
	// instance may have taken it at the same moment.
	recheck = 45 * time.Second
	// lag is for how long after a change EC2 may show what was before it.
	lag = 15 * time.Second
	// doubt is for how long EC2 is asked again when it still shows what instance
	// metadata does not show any more, and doubtEvery how often.
	doubt      = 30 * time.Second
	doubtEvery = 5 * time.Second
	// unshownEvery is how often EC2 is asked, up to the recheck, while instance
	// metadata does not show yet what came here: it could not tell a loss.
	unshownEvery = 12 * time.Second
	// blindEvery is how often a holder asks while instance metadata does not answer.
	blindEvery = 15 * time.Second
	minRetry   = time.Second
	maxRetry   = time.Minute
	// youngRetry is the longest pause while EC2 may not yet know the role or the
	// address: up to young after the start.
	youngRetry = 5 * time.Second
	young      = time.Minute
	// callTimeout bounds one call with its retries.
	callTimeout = 20 * time.Second
)

// Run keeps the addresses until ctx ends. Nothing is released at the end: an
// address stays with a stopped instance, and whoever comes next takes it.
func Run(ctx context.Context, o Options, situations <-chan address.Situation, put func(address.Report)) error {
	c := newClaimer(o, put)
	defer c.busy.Wait()
	c.tell()
	if len(c.held) == 0 {
		return c.refuseAll(ctx, situations)
	}
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-situations:
			c.meet(s)
		case wish := <-c.o.Wishes:
			err := errors.New("the identity of this instance is not known yet; see 'nagaya status'")
			if c.known() {
				err = c.obey(ctx, wish)
				c.tell() // whoever asked looks at the report next
			}
			wish.Reply <- err
		case heard := <-c.heard:
			c.hear(heard)
		case <-timer.C:
		}
		if !c.known() {
			continue
		}
		c.pass(ctx)
		c.tell()
		timer.Reset(time.Until(c.next()))
	}
}

// refuseAll answers whoever asks that nothing is claimed.
func (c *claimer) refuseAll(ctx context.Context, situations <-chan address.Situation) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-situations:
		case w := <-c.o.Wishes:
			w.Reply <- errors.New("no address is claimed; set address.claim")
		}
	}
}

type claimer struct {
	o         Options
	put       func(address.Report)
	api       EC2
	situation address.Situation
	held      []*holding
	own       []address.Interface
	launched  time.Time // when this instance was; zero is unknown
	born      time.Time

	// When each kind of look is due; zero is not.
	fullAt, quickAt, signAt, reachAt time.Time
	retry                            time.Duration
	trouble                          *problem.Problem // of the last look as a whole
	warned                           map[string]string
	signs                            signing

	reaching bool
	heard    chan heard
	busy     sync.WaitGroup
}

// holding is what is known of one claim.
type holding struct {
	claim  address.Claim
	report address.ClaimReport
	budget address.Budget
	logged address.Decision
	asked  bool
	err    error // of the last look
	// waiting is true while EC2 shows what was before our own last change.
	waiting bool

	// The last association by this agent, and whether it was looked at again.
	association string
	tookAt      time.Time
	rechecked   bool
	verifyWait  time.Duration
	// The association that this agent has ended, and when.
	ended   string
	endedAt time.Time

	inMetadata   bool      // instance metadata shows the address here
	doubtUntil   time.Time // it has ceased to
	leavingSince time.Time // the holder has been known to be leaving
	bell         string    // what the holder's instance shows in address.SignTag
	rungAt       time.Time // it changed
	blind        bool      // what the holder's instance shows does not tell that it has the address
	wasAble      bool

	answered, silent bool // the holder, over the network
	answeredAt       time.Time

	mine    address.Sign // what this agent last said on the address
	signed  time.Time
	assumed time.Time // when mine was last read or written
}

func newClaimer(o Options, put func(address.Report)) *claimer {
	if o.Every <= 0 {
		o.Every = defaultEvery
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Claims = slices.DeleteFunc(slices.Clone(o.Claims), address.Claim.IsZero)
	c := &claimer{o: o, put: put, born: time.Now(), heard: make(chan heard, 1), warned: map[string]string{}}
	for _, one := range o.Claims {
		text := one.String()
		c.held = append(c.held, &holding{
			claim: one, budget: address.NewBudget(o.Memory.Spent[text]),
			report: address.ClaimReport{Claim: text, Policy: o.Policy, Released: slices.Contains(o.Memory.Released, text)},
		})
	}
	return c
}

// remember tells what must outlive this Run.
func (c *claimer) remember() {
	if c.o.Remember == nil {
		return
	}
	m := Memory{Spent: map[string][]time.Time{}}
	for _, h := range c.held {
		if h.report.Released {
			m.Released = append(m.Released, h.report.Claim)
		}
		if spent := h.budget.Spent(); len(spent) > 0 {
			m.Spent[h.report.Claim] = spent
		}
	}
	c.o.Remember(m)
}

func (c *claimer) known() bool { return c.situation.Identity.Instance.Known }

func (c *claimer) tell() {
	all := make([]address.ClaimReport, 0, len(c.held))
	for _, h := range c.held {
		r := h.report
		r.NextCheck = c.nextLook()
		r.Problems = slices.Clone(r.Problems)
		all = append(all, r)
	}
	r := address.NewReport(all)
	if c.trouble != nil {
		r.Problems = append(r.Problems, *c.trouble)
	}
	r.Problems = append(r.Problems, c.signs.problems...)
	c.put(r)
}

// meet takes the new situation, and decides whether it is a reason to ask EC2 now.
func (c *claimer) meet(s address.Situation) {
	was := c.situation
	c.situation = s
	now := time.Now()
	if !s.Identity.Instance.Known {
		return
	}
	if !was.Identity.Instance.Known || was.Identity.Instance.ID != s.Identity.Instance.ID {
		c.fullAt, c.launched, c.own = now, time.Time{}, nil
	}
	if !slices.Equal(was.Identity.Instance.PublicAddrs(), s.Identity.Instance.PublicAddrs()) && c.o.Moved != nil && was.Identity.Instance.Known {
		c.o.Moved()
	}
	silent := metadataSilent(s)
	for _, h := range c.held {
		c.compare(h, now)
		switch {
		case !h.report.Held() || silent == metadataSilent(was):
		case silent && c.fullAt.Sub(now) > blindEvery:
			c.fullAt = now.Add(blindEvery) // nothing else would tell a loss
		case !silent && !h.inMetadata:
			c.fullAt, h.doubtUntil = now, now.Add(doubt)
		}
	}
	if was.Identity.Leaving() != s.Identity.Leaving() {
		c.signAt, c.signs.retryAt = now, time.Time{}
		if !c.allHeld() && !s.Identity.Leaving() {
			c.fullAt = now
		}
	}
	if !slices.Equal(was.LiveHosts, s.LiveHosts) {
		c.signs.changed = now
		c.wakeSign(now.Add(settled))
	}
}

// compare sees what the situation says of one address.
func (c *claimer) compare(h *holding, now time.Time) {
	shown := h.report.Known && slices.Contains(c.situation.Identity.Instance.PublicAddrs(), h.report.Address.PublicIP)
	switch {
	case shown:
		h.doubtUntil = time.Time{}
		if !h.report.Held() && !h.inMetadata {
			c.fullAt = now
		}
	case h.report.Held() && h.inMetadata:
		h.doubtUntil = now.Add(doubt)
		c.fullAt = now
	}
	h.inMetadata = shown
	able := c.situation.Ready && c.uncovered(h) == ""
	if able && !h.wasAble && !h.report.Held() {
		c.fullAt = now
	}
	h.wasAble = able
}

func (c *claimer) allHeld() bool {
	return !slices.ContainsFunc(c.held, func(h *holding) bool { return !h.report.Held() })
}

// next is when there is something to do.
func (c *claimer) next() time.Time {
	at := c.nextLook()
	for _, t := range []time.Time{c.signAt, c.reachAt} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// nextLook is when EC2 is asked next.
func (c *claimer) nextLook() time.Time {
	if c.fullAt.IsZero() || !c.quickAt.IsZero() && c.quickAt.Before(c.fullAt) {
		return c.quickAt
	}
	return c.fullAt
}

// due reports whether the moment has come.
func due(t, now time.Time) bool { return !t.IsZero() && !t.After(now) }

// pass does what is due.
func (c *claimer) pass(ctx context.Context) {
	now := time.Now()
	switch {
	case due(c.fullAt, now), due(c.quickAt, now) && c.fullAt.Sub(now) < c.o.Every:
		c.full(ctx, nil)
	case due(c.quickAt, now):
		c.quick(ctx)
	}
	if due(c.signAt, time.Now()) {
		c.sign(ctx)
	}
	if due(c.reachAt, time.Now()) {
		c.reach(ctx)
	}
}

// obey does what the operator wants, at once.
func (c *claimer) obey(ctx context.Context, w Wish) error {
	var meant []*holding
	for _, h := range c.held {
		if w.Claim == "" || w.Claim == h.report.Claim {
			meant = append(meant, h)
		}
	}
	if len(meant) == 0 {
		return errors.New("no claim is named so; see 'nagaya address'")
	}
	if w.Release {
		return c.release(ctx, meant, w.Now)
	}
	for _, h := range meant {
		h.asked, h.report.Released = true, false
	}
	c.remember()
	c.signAt, c.signs.retryAt = time.Now(), time.Time{}
	c.full(ctx, nil)
	var errs []error
	for _, h := range meant {
		h.asked = false
		switch {
		case c.trouble != nil:
			errs = append(errs, errors.New(c.trouble.Text))
		case h.err != nil:
			errs = append(errs, h.err)
		case h.report.Decision.Action == address.Stay:
			errs = append(errs, errors.New(h.report.Decision.Reason))
		}
	}
	return errors.Join(errs...)
}

// spread varies a pause by a part of it, so that agents do not ask in step.
func spread(d, part time.Duration) time.Duration {
	if part <= 0 {
		return d
	}
	return d - part + rand.N(2*part+1)
}
