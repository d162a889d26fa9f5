package claim

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/event"
)

// take associates the address with its place on this instance. It is ours from
// EC2's word on; that it stays so is looked at afterwards.
func (c *claimer) take(ctx context.Context, h *holding, at address.Place, d address.Decision) error {
	reassociate := d.Reassociate
	if reassociate && h.report.Holder.Gone() {
		freed, err := c.free(ctx, h)
		if err != nil {
			return err
		}
		reassociate = !freed
	}
	in := &ec2.AssociateAddressInput{
		AllocationId: &h.report.Address.AllocationID,
		// The interface, not the instance: EC2 refuses an instance id as soon as
		// a task's own interface is attached (API reference, AssociateAddress).
		NetworkInterfaceId: &at.InterfaceID,
		// Always sent: what EC2 does without it differs between clients.
		AllowReassociation: &reassociate,
	}
	if at.PrivateAddr.IsValid() {
		private := at.PrivateAddr.String()
		in.PrivateIpAddress = &private
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.api.AssociateAddress(callCtx, in, onlyThrottled)
	now := time.Now()
	if !refused(err) {
		h.budget = h.budget.Spend(now)
		c.remember()
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
	h.association, h.tookAt, h.rechecked, h.verifyWait = *out.AssociationId, now, false, 0
	h.ended = ""
	a, self := h.report.Address, c.situation.Identity.Instance
	a.AssociationID, a.InterfaceID, a.PrivateAddr, a.InstanceID = *out.AssociationId, at.InterfaceID, at.PrivateAddr, self.ID
	h.report.Moves++
	h.report.Verified = false
	c.saw(h, a, address.Holder{Kind: address.Self, InstanceID: self.ID, State: "running"}, now)
	c.o.Log.Info("address held", event.Key, event.AddressHeld, "address", a.PublicIP, "association_id", a.AssociationID, "interface", at.InterfaceID, "private_addr", at.PrivateAddr)
	return nil
}

// free ends the association of a holder that is gone. The association id is a
// fence: of several instances that want the address, also by an old answer of
// EC2's, one can free it, and one can have what is free; nobody takes it from the
// one who was quicker. It is false, without an error, when EC2 refuses: then the
// address is taken as from a living holder.
func (c *claimer) free(ctx context.Context, h *holding) (bool, error) {
	err := c.disassociate(ctx, h.report.Address.AssociationID)
	var api smithy.APIError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &api) && api.ErrorCode() == "InvalidAssociationID.NotFound":
		return false, &quicker{}
	case refused(err):
		c.warn("free", "address-not-freed", err)
		return false, nil
	}
	return false, err
}

func (c *claimer) disassociate(ctx context.Context, association string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := c.api.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: &association})
	return err
}

// release gives the addresses away, to whoever is ready, or now to nobody.
func (c *claimer) release(ctx context.Context, meant []*holding, now bool) error {
	for _, h := range meant {
		h.report.Released = true
		c.o.Log.Info("address released", event.Key, event.AddressReleased, "claim", h.report.Claim, "held", h.report.Held(), "now", now)
	}
	c.remember()
	var errs []error
	if now {
		for _, h := range meant {
			if h.report.Held() {
				errs = append(errs, c.letGo(ctx, h))
			}
		}
	}
	c.signAt, c.signs.retryAt = time.Now(), time.Time{}
	c.sign(ctx)
	for _, h := range meant {
		if h.report.Held() && !h.mine.Leaving {
			errs = append(errs, errors.New("no other instance could be told: "+c.signs.text()))
		}
	}
	for _, h := range c.held {
		c.decided(h, address.Decide(c.input(h)))
	}
	return errors.Join(errs...)
}

// letGo ends this instance's own association. The id that it remembers is the
// fence: it can never be somebody else's.
func (c *claimer) letGo(ctx context.Context, h *holding) error {
	id := h.report.Address.AssociationID
	err := c.disassociate(ctx, id)
	if c.o.Moved != nil {
		c.o.Moved()
	}
	var api smithy.APIError
	if err != nil && (!errors.As(err, &api) || api.ErrorCode() != "InvalidAssociationID.NotFound") {
		return errors.New(c.explain(err, h.report.Claim).Text)
	}
	a := h.report.Address
	a.AssociationID, a.InterfaceID, a.InstanceID, a.PrivateAddr = "", "", "", address.Place{}.PrivateAddr
	h.ended, h.endedAt, h.association = id, time.Now(), ""
	c.saw(h, a, address.Holder{Kind: address.Nobody}, time.Now())
	c.fullAt = time.Now().Add(lag)
	return nil
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
