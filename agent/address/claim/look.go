package claim

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// lookAtHolders describes the instances that hold the addresses, in one call: whether
// they run, whether they still have them, and their hint tags. Only a change is a reason
// to describe the addresses too.
func (c *claimer) lookAtHolders(ctx context.Context) {
	var ids []string
	for _, s := range c.states {
		if s.Contested() {
			ids = append(ids, s.Report.Holder.InstanceID)
		}
	}
	described, err := instances(ctx, c.api, ids, nil)
	if err != nil {
		c.lookFailed(ctx, err)
		return
	}
	delete(c.problems, "")
	now, changed := time.Now(), false
	for _, s := range c.states {
		switch {
		case !s.Contested():
		case s.HolderChanged(described[s.Report.Holder.InstanceID]):
			changed = true
		default:
			s.Report.CheckedAt = now
			changed = c.decide(s).Action == address.Take || changed
		}
	}
	if changed {
		c.lookAtAddresses(ctx, described)
		return
	}
	c.retry.Reset()
	c.schedule.PostponeHolders(c.o.Every, now, jitter())
}

// lookAtAddresses describes the addresses, decides about each, and takes what may be
// taken. Instances that were just described are given along.
func (c *claimer) lookAtAddresses(ctx context.Context, described map[string]address.Instance) {
	found, errs, described, err := c.describe(ctx, described)
	if err != nil {
		c.lookFailed(ctx, err)
		return
	}
	delete(c.problems, "")
	for i, s := range c.states {
		if s.Outdated = false; errs[i] == nil {
			c.observe(s, func() { s.Observe(found[i], described, c.self(), time.Now()) })
		}
	}
	for i, at := range c.places() {
		s := c.states[i]
		if errs[i] == nil && !s.Outdated {
			errs[i] = c.act(ctx, s, at)
		}
		s.Failed = errs[i] != nil
		if !s.Failed && s.Misplaced() {
			errs[i] = newFault("address-misplaced", problem.Warning, "correct the place in address.claim, or run 'nagaya address release --now' and 'nagaya address claim'",
				"it is held on %s of %s, where the claim does not put it", s.Report.Address.PrivateAddr, s.Report.Address.InterfaceID)
		}
		if err := errs[i]; err != nil {
			c.setProblem(s.Report.Claim, c.explain(err, s.Report.Claim), err)
		} else {
			delete(c.problems, s.Report.Claim)
		}
	}
	c.schedule = address.NewSchedule(c.states, c.situation, c.o.Every, time.Now(), jitter())
	c.tags.wake(time.Now())
	if slices.ContainsFunc(c.states, func(s *address.State) bool { return s.Failed }) {
		c.tryAgain()
	} else {
		c.retry.Reset()
	}
}

// describe asks EC2 for the addresses, and for those instances that must be known to
// decide about them.
func (c *claimer) describe(ctx context.Context, described map[string]address.Instance) ([]address.Address, []error, map[string]address.Instance, error) {
	all, err := addresses(ctx, c.api)
	if err != nil {
		return nil, nil, nil, err
	}
	found, errs := pick(c.o.Claims, all, c.self().Region)
	needOwn := c.own == nil && address.NeedInterfaces(c.o.Claims, c.primary())
	var ids []string
	for i, a := range found {
		if errs[i] == nil && c.o.Policy.DependsOnHolder() && address.KindOfHolder(a, c.self()) == address.Other {
			ids = append(ids, a.InstanceID)
			needOwn = needOwn || c.launched.IsZero()
		}
	}
	if needOwn {
		ids = append(ids, c.self().ID)
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { _, ok := described[id]; return ok })
	if len(ids) == 0 {
		return found, errs, described, nil
	}
	more, err := instances(ctx, c.api, ids, found)
	if err != nil {
		return nil, nil, nil, err
	}
	c.setOwn(more)
	for id, is := range described {
		more[id] = is
	}
	return found, errs, more, nil
}

// setOwn keeps what EC2 said of this instance.
func (c *claimer) setOwn(described map[string]address.Instance) {
	if self, ok := described[c.self().ID]; ok {
		c.launched = self.LaunchedAt
		if c.own == nil {
			c.own = address.PrimaryFirst(self.Interfaces, c.self().Primary.ID)
		}
	}
}

// primary is the primary interface as far as metadata tells it.
func (c *claimer) primary() address.Interface {
	n := c.self().Primary
	return address.Interface{ID: n.ID, PrivateAddrs: []netip.Addr{n.LocalAddr}}
}

// places says where each claim goes.
func (c *claimer) places() []address.Placed {
	own := c.own
	if own == nil {
		own = []address.Interface{c.primary()}
	}
	wants := make([]address.Want, len(c.states))
	for i, s := range c.states {
		wants[i] = s.Want()
	}
	return address.AssignPlaces(wants, own)
}

// observe lets the state see something, and notices a loss, and when others hand the address on.
func (c *claimer) observe(s *address.State, see func()) {
	before := s.Report
	had := before.Address.PublicIP
	see()
	switch r := s.Report; {
	case !before.Held():
		if before.Known && r.Address.PublicIP == had && (r.Holder.Kind != before.Holder.Kind || r.Holder.InstanceID != before.Holder.InstanceID) {
			c.o.Log.Info("address holder changed", event.Key, event.HolderChanged, "address", had, "claim", r.Claim, "holder", r.Holder.Kind, "holder_id", r.Holder.InstanceID)
		}
	case !r.Held():
		holder := r.Holder
		if r.Address.PublicIP != had { // the claim's tag is on another one; who holds this is not looked at any more
			holder = address.Holder{}
		}
		c.o.Log.Warn("address lost", event.Key, event.AddressLost, "address", had, "claim", r.Claim, "holder", holder.Kind, "holder_id", holder.InstanceID)
		c.o.Moved()
	}
	if s.Contested() && c.o.Reach != nil && c.o.Unreachable > 0 {
		c.reach.start()
	}
}

// decide writes one line with everything the decision was made of, when it differs from
// the last.
func (c *claimer) decide(s *address.State) address.Decision {
	in := s.Input(c.situation, c.launched, time.Now())
	d := address.Decide(in)
	if d == s.Report.Decision {
		return d
	}
	s.Report.Decision = d
	r := s.Report
	c.o.Log.Info("address decision", event.Key, event.AddressDecided, "decision", d.Action, "reason", d.Reason, "reassociate", d.Reassociate,
		"address", r.Address.PublicIP, "allocation_id", r.Address.AllocationID, "policy", c.o.Policy,
		"holder", r.Holder.Kind, "holder_id", r.Holder.InstanceID, "holder_state", r.Holder.State, "holder_launched", r.Holder.LaunchedAt,
		"holder_leaving", in.HolderLeaving, "holder_leaving_for", in.HolderLeavingFor.String(), "holder_silent", in.Silent,
		"launched", in.LaunchedAt, "ready", in.Ready, "unready", in.Unready,
		"uncovered", in.Uncovered, "leaving", in.Leaving, "asked", in.Asked, "released", in.Released, "budget_at", in.Budget.Next(in.Now))
	return d
}

// act decides about one address, and takes it if it may.
func (c *claimer) act(ctx context.Context, s *address.State, at address.Placed) error {
	s.Report.Place = at.Place
	d := c.decide(s)
	if d.Action != address.Take {
		return nil
	}
	if err := placeError(s.Report.Address, at, c.self()); err != nil {
		if at.Reason != "" {
			c.own = nil // read again next time: the operator may have corrected it
		}
		return err
	}
	return c.take(ctx, s, at.Place, d.Reassociate)
}

// lookFailed records that EC2 could not be asked. What was known stays known.
func (c *claimer) lookFailed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	c.setProblem("", c.explain(err, ""), err)
	c.schedule = address.Schedule{}
	c.tryAgain()
}

// tryAgain has the addresses described after a pause that grows with every failure.
func (c *claimer) tryAgain() {
	most := address.RetryMost(c.states, c.situation, time.Since(c.started))
	c.schedule.Advance(time.Now().Add(min(c.retry.Next(), backoff.Jitter(most, most/10))))
}

// setProblem sets the problem of a claim, or that of the tag, and logs
// one that was not there before. No key is the last look as a whole.
func (c *claimer) setProblem(key string, p problem.Problem, err error) {
	if c.problems[key].Code != p.Code {
		c.o.Log.Warn("address not settled", event.Key, event.AddressUnsettled, "claim", key, "problem", p.Code, "err", err)
	}
	c.problems[key] = p
}

// take associates the address with its place on this instance. It is held here as soon as
// EC2 says so; that it stays is looked at afterwards.
func (c *claimer) take(ctx context.Context, s *address.State, at address.Place, reassociate bool) error {
	if reassociate && s.Report.Holder.Gone() {
		freed, err := c.free(ctx, s)
		if err != nil {
			return err
		}
		reassociate = !freed
	}
	association, err := associate(ctx, c.api, s.Report.Address.AllocationID, at, reassociate, false)
	now := time.Now()
	if !refused(err) {
		s.Report.Spent = s.Report.Spent.Spend(now)
	}
	c.o.Moved() // also after an error: the call may have taken effect before it was cut
	if err != nil {
		return err
	}
	s.Associated(association, at, c.self().ID, now)
	c.o.Log.Info("address held", event.Key, event.AddressHeld, "address", s.Report.Address.PublicIP, "association_id", association, "interface", at.InterfaceID, "private_addr", at.PrivateAddr)
	return nil
}

// free ends the association of a holder that is gone. EC2 takes the association id once:
// of several instances that want the address, also by an old answer of EC2's, one can free
// it and take it, and none takes it from the one that was quicker. It is
// false, without an error, when EC2 refuses: then the address is taken as from a living
// holder.
func (c *claimer) free(ctx context.Context, s *address.State) (bool, error) {
	err := disassociate(ctx, c.api, s.Report.Address.AssociationID, false)
	switch {
	case err == nil:
		return true, nil
	case awserror.Code(err) == noAssociation:
		return false, newFault("address-lost-race", problem.Warning, "who holds it is looked up again by itself", "another instance was quicker")
	case refused(err):
		p := problem.Problem{Code: "address-not-freed"} // in the journal only
		if cause := s.Report.Address.AssociationID + " " + awserror.Code(err); c.unfreed[s.Report.Claim] != cause {
			c.unfreed[s.Report.Claim] = cause
			c.o.Log.Warn("address not settled", event.Key, event.AddressUnsettled, "claim", s.Report.Claim, "problem", p.Code, "err", err)
		}
		return false, nil
	}
	return false, err
}

// noAssociation is EC2's answer to an association id that is not, or not any more.
const noAssociation = "InvalidAssociationID.NotFound"

// release gives the addresses away, to an instance that is ready, or now to none.
func (c *claimer) release(ctx context.Context, meant []*address.State, now bool) error {
	var errs []error
	for _, s := range meant {
		s.Report.Released = true
		c.o.Log.Info("address released", event.Key, event.AddressReleased, "address", s.Report.Address.PublicIP, "claim", s.Report.Claim, "held", s.Report.Held(), "now", now)
		if now && s.Report.Held() {
			errs = append(errs, c.disassociateOwn(ctx, s))
		}
	}
	c.tags.writeNow()
	c.writeTags(ctx)
	for _, s := range meant {
		if s.Report.Held() && !s.Written.Tag.Leaving {
			errs = append(errs, errors.New("no other instance could be told: "+cmp.Or(c.problems[tagKey].Text, "it is tried again by itself")))
		}
	}
	for _, s := range c.states {
		c.decide(s)
	}
	return errors.Join(errs...)
}

// disassociateOwn ends this instance's own association, which it knows by its id: it
// cannot be that of another instance.
func (c *claimer) disassociateOwn(ctx context.Context, s *address.State) error {
	err := disassociate(ctx, c.api, s.Report.Address.AssociationID, false)
	c.o.Moved()
	if err != nil && awserror.Code(err) != noAssociation {
		return errors.New(c.explain(err, s.Report.Claim).Text)
	}
	c.observe(s, func() { s.Disassociated(time.Now()) })
	c.schedule.Advance(time.Now().Add(15 * time.Second))
	return nil
}
