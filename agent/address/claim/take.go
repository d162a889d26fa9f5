package claim

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

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
	case errorCode(err) == noAssociation:
		return false, newFault("address-lost-race", problem.Warning, "who holds it is looked up again by itself", "another instance was quicker")
	case refused(err):
		p := problem.Problem{Code: "address-not-freed"} // in the journal only
		if cause := s.Report.Address.AssociationID + " " + errorCode(err); c.unfreed[s.Report.Claim] != cause {
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
		c.o.Log.Info("address released", event.Key, event.AddressReleased, "claim", s.Report.Claim, "held", s.Report.Held(), "now", now)
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
	if err != nil && errorCode(err) != noAssociation {
		return errors.New(c.explain(err, s.Report.Claim).Text)
	}
	c.observe(s, func() { s.Disassociated(time.Now()) })
	c.schedule.Advance(time.Now().Add(15 * time.Second))
	return nil
}
