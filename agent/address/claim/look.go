package claim

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/event"
)

// judged reports whether it depends on the holder whether the address may be taken.
func (c *claimer) judged(h *holding) bool {
	return h.report.Known && h.report.Holder.Kind == address.Other && (c.o.Policy == address.Standby || c.o.Policy == address.Takeover)
}

// quick looks at the instances that hold the addresses, in one call: whether they
// run, whether they still have them, and whether they rang the bell. Only a change
// is a reason to look at the addresses too.
func (c *claimer) quick(ctx context.Context) {
	var ids []string
	for _, h := range c.held {
		if c.judged(h) && !slices.Contains(ids, h.report.Holder.InstanceID) {
			ids = append(ids, h.report.Holder.InstanceID)
		}
	}
	all, err := c.instances(ctx, ids)
	if err != nil {
		c.fail(ctx, err)
		return
	}
	c.trouble, c.retry = nil, 0
	delete(c.warned, "")
	now := time.Now()
	full := false
	for _, h := range c.held {
		if !c.judged(h) {
			continue
		}
		is, ok := all[h.report.Holder.InstanceID]
		if !ok || is.state != h.report.Holder.State || is.bell != h.bell || !h.blind && !slices.Contains(is.publics, h.report.Address.PublicIP) {
			full = true
			continue
		}
		h.report.CheckedAt = now
		d := address.Decide(c.input(h))
		c.decided(h, d)
		full = full || d.Action == address.Take
	}
	if full {
		c.full(ctx, all)
		return
	}
	c.quickAt = now.Add(spread(c.o.Every, c.o.Every/200))
}

// full looks at the addresses themselves, decides about each, and takes what may
// be taken. Instances that were just looked at are given along.
func (c *claimer) full(ctx context.Context, known map[string]instance) {
	if err := c.fullLook(ctx, known); err != nil {
		c.fail(ctx, err)
		return
	}
	c.trouble = nil
	delete(c.warned, "")
	c.settle()
}

func (c *claimer) fullLook(ctx context.Context, known map[string]instance) error {
	if c.api == nil {
		api, err := c.o.API(ctx, c.situation.Identity.Instance.Region)
		if err != nil {
			return err
		}
		c.api = api
	}
	all, err := c.addresses(ctx)
	if err != nil {
		return err
	}
	found, errs := pick(c.o.Claims, all)
	if known, err = c.needed(ctx, found, errs, known); err != nil {
		return err
	}
	c.learn(known)
	for i, h := range c.held {
		h.waiting = false
		if h.err = errs[i]; h.err == nil {
			h.waiting = !c.see(h, found[i], known)
		}
	}
	placed := c.place()
	for i, h := range c.held {
		if h.err == nil && !h.waiting {
			h.err = c.act(ctx, h, placed[i])
		}
		c.explained(h)
	}
	return nil
}

// needed describes the instances that must be known to decide and are not yet.
func (c *claimer) needed(ctx context.Context, found []address.Address, errs []error, known map[string]instance) (map[string]instance, error) {
	var ids []string
	self := c.situation.Identity.Instance
	need := func(id string) {
		if _, ok := known[id]; !ok && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for i, a := range found {
		if errs[i] != nil || c.kind(c.held[i], a) != address.Other || c.o.Policy != address.Standby && c.o.Policy != address.Takeover {
			continue
		}
		need(a.InstanceID)
		if c.launched.IsZero() {
			need(self.ID)
		}
	}
	if c.own == nil && address.NeedInterfaces(c.o.Claims, c.primary()) {
		need(self.ID)
	}
	if len(ids) == 0 {
		return known, nil
	}
	more, err := c.instances(ctx, ids)
	if err != nil {
		return nil, err
	}
	for id, is := range known {
		more[id] = is
	}
	return more, nil
}

// learn keeps what EC2 said of this instance.
func (c *claimer) learn(known map[string]instance) {
	if self, ok := known[c.situation.Identity.Instance.ID]; ok {
		c.launched = self.launched
		if c.own == nil {
			c.own = c.ownInterfaces(self)
		}
	}
}

// kind says who holds the address.
func (c *claimer) kind(h *holding, a address.Address) address.HolderKind {
	self := c.situation.Identity.Instance
	switch {
	case a.AssociationID != "" && (a.InterfaceID == self.Primary.ID || a.InstanceID == self.ID):
		return address.Self
	case a.AssociationID == "" && a.ServiceManaged == "":
		return address.Nobody
	case a.InstanceID == "" || a.ServiceManaged != "":
		return address.Service
	}
	return address.Other
}

// see records who holds the address. It is false, and nothing is recorded, while
// EC2 shows what was before this agent's last own change.
func (c *claimer) see(h *holding, a address.Address, known map[string]instance) bool {
	now := time.Now()
	kind := c.kind(h, a)
	switch {
	case h.association != "" && a.AssociationID == h.association:
		h.report.Verified = true
	case h.association != "" && now.Sub(h.tookAt) < lag:
		return false
	case h.ended != "" && a.AssociationID == h.ended && now.Sub(h.endedAt) < lag:
		return false
	}
	holder := address.Holder{Kind: kind}
	switch kind {
	case address.Self:
		holder.InstanceID, holder.State = c.situation.Identity.Instance.ID, "running"
		h.report.Verified = true
		c.resign(h, address.SignOf(a, holder), now)
	case address.Other:
		holder.InstanceID = a.InstanceID
		is, ok := known[a.InstanceID]
		holder.State, holder.LaunchedAt = is.state, is.launched
		if !ok && c.vanished(h, a.InstanceID, known) {
			holder.State = "terminated"
		}
		if is.bell != h.bell {
			h.rungAt = now
		}
		h.bell, h.blind = is.bell, ok && !slices.Contains(is.publics, a.PublicIP)
	}
	c.saw(h, a, holder, now)
	return true
}

// vanished reports whether EC2 was asked for the instance and does not know it.
// An instance that has just begun may not be shown yet; so it must have been
// missing before.
func (c *claimer) vanished(h *holding, id string, known map[string]instance) bool {
	return known != nil && h.report.Known && h.report.Holder.InstanceID == id && time.Since(h.report.Since) >= lag/2
}

// saw records who holds the address.
func (c *claimer) saw(h *holding, a address.Address, holder address.Holder, now time.Time) {
	r := &h.report
	if !r.Known || r.Holder.Kind != holder.Kind || r.Holder.InstanceID != holder.InstanceID {
		if r.Held() {
			c.o.Log.Warn("address lost", event.Key, event.AddressLost, "address", a.PublicIP, "holder", holder.Kind, "holder_id", holder.InstanceID)
			h.association, h.mine = "", address.Sign{}
			if c.o.Moved != nil {
				c.o.Moved()
			}
		}
		r.Since = now
		h.answered, h.silent, h.leavingSince = false, false, time.Time{}
		if holder.Kind == address.Self {
			h.mine, h.assumed = address.SignOf(a, holder), now
			c.wakeSign(now)
		}
	}
	r.Known, r.Address, r.Holder, r.CheckedAt = true, a, holder, now
	r.HolderLeaving = holder.Kind == address.Other && address.SignOf(a, holder).Leaving
	switch {
	case !r.HolderLeaving:
		h.leavingSince = time.Time{}
	case h.leavingSince.IsZero():
		h.leavingSince = now
	}
	h.inMetadata = slices.Contains(c.situation.Identity.Instance.PublicAddrs(), a.PublicIP)
	h.wasAble = c.situation.Ready && c.uncovered(h) == ""
	if c.judged(h) && c.o.Reach != nil && c.o.Unreachable > 0 && c.reachAt.IsZero() && !c.reaching {
		c.reachAt = now
	}
}

// uncovered says what the holder serves and this instance does not.
func (c *claimer) uncovered(h *holding) string {
	if c.o.Named {
		return ""
	}
	return address.SignOf(h.report.Address, h.report.Holder).Missing(c.situation.LiveHosts)
}

func (c *claimer) input(h *holding) address.Input {
	now := time.Now()
	in := address.Input{
		Policy: c.o.Policy, Holder: h.report.Holder, LaunchedAt: c.launched,
		Ready: c.situation.Ready, Unready: c.situation.Unready, Uncovered: c.uncovered(h),
		Leaving: c.situation.Identity.Leaving(), Asked: h.asked, Released: h.report.Released,
		HolderLeaving: h.report.HolderLeaving, Silent: h.silent, Budget: h.budget, Now: now,
	}
	if !h.leavingSince.IsZero() {
		in.HolderLeavingFor = now.Sub(h.leavingSince)
	}
	return in
}

// decided writes one line with everything the decision was made of, when it
// differs from the last.
func (c *claimer) decided(h *holding, d address.Decision) {
	h.report.Decision = d
	if d == h.logged {
		return
	}
	h.logged = d
	r, in := h.report, c.input(h)
	c.o.Log.Info("address decision", event.Key, event.AddressDecided, "decision", d.Action, "reason", d.Reason, "reassociate", d.Reassociate,
		"address", r.Address.PublicIP, "allocation_id", r.Address.AllocationID, "policy", c.o.Policy,
		"holder", r.Holder.Kind, "holder_id", r.Holder.InstanceID, "holder_state", r.Holder.State, "holder_launched", r.Holder.LaunchedAt,
		"holder_leaving", in.HolderLeaving, "holder_leaving_for", in.HolderLeavingFor.String(), "holder_silent", in.Silent,
		"launched", in.LaunchedAt, "ready", in.Ready, "unready", in.Unready,
		"uncovered", in.Uncovered, "leaving", in.Leaving, "asked", in.Asked, "released", in.Released, "budget_at", in.Budget.Next(in.Now))
}

// primary is the primary interface as far as metadata tells it.
func (c *claimer) primary() address.Interface {
	n := c.situation.Identity.Instance.Primary
	return address.Interface{ID: n.ID, PrivateAddrs: []netip.Addr{n.LocalAddr}}
}

// place says where each claim goes.
func (c *claimer) place() []address.Placed {
	own := c.own
	if own == nil {
		own = []address.Interface{c.primary()}
	}
	wants := make([]address.Want, len(c.held))
	for i, h := range c.held {
		wants[i].Claim = h.claim
		if h.report.Held() {
			wants[i].Here = address.Place{InterfaceID: h.report.Address.InterfaceID, PrivateAddr: h.report.Address.PrivateAddr}
		}
	}
	return address.PutOn(wants, own)
}

// act decides about one address, and takes it if it may.
func (c *claimer) act(ctx context.Context, h *holding, placed address.Placed) error {
	h.report.Place = placed.Place
	d := address.Decide(c.input(h))
	c.decided(h, d)
	if d.Action != address.Take {
		return c.misplaced(h)
	}
	self := c.situation.Identity.Instance
	if group := address.BorderGroup(self.Region, self.Zone); group != "" && h.report.Address.BorderGroup != "" && group != h.report.Address.BorderGroup {
		return &abroad{address: h.report.Address.BorderGroup, self: group}
	}
	if placed.Reason != "" {
		c.own = nil // read again next time: the operator may have mended it
		return &noPlace{reason: placed.Reason}
	}
	return c.take(ctx, h, placed.Place, d)
}

// misplaced is the error of an address that is held, but not where its claim says.
func (c *claimer) misplaced(h *holding) error {
	a := h.report.Address
	if !h.report.Held() || h.claim.InterfaceID == "" && !h.claim.PrivateAddr.IsValid() {
		return nil
	}
	if h.claim.InterfaceID == a.InterfaceID || h.claim.PrivateAddr.IsValid() && h.claim.PrivateAddr == a.PrivateAddr {
		return nil
	}
	return &noPlace{held: true, reason: fmt.Sprintf("it is held on %s of %s, where the claim does not put it", a.PrivateAddr, a.InterfaceID)}
}

// settle decides when to look again after a look that was answered.
func (c *claimer) settle() {
	now := time.Now()
	c.fullAt, c.quickAt = time.Time{}, time.Time{}
	at := func(t time.Time) {
		if c.fullAt.IsZero() || t.Before(c.fullAt) {
			c.fullAt = t
		}
	}
	failed := false
	for _, h := range c.held {
		switch {
		case h.waiting || h.report.Held() && !h.report.Verified:
			at(now.Add(h.verifyWait))
			h.verifyWait = min(max(2*h.verifyWait, 100*time.Millisecond), 2*time.Second)
			continue
		case h.err != nil && !isMisplaced(h.err):
			failed = true
			continue
		}
		at(now.Add(c.pause(h, now)))
		if c.judged(h) {
			c.quickAt = now.Add(spread(c.o.Every, c.o.Every/200))
		}
	}
	if !failed {
		c.retry = 0
		return
	}
	at(now.Add(c.backoff(minRetry)))
}

// pause is how long the addresses need not be looked at on account of this one.
func (c *claimer) pause(h *holding, now time.Time) time.Duration {
	every := c.o.Every
	switch {
	case h.report.Held():
		return c.holderPause(h, now)
	case c.judged(h):
		d := min(anyway*every, anywayLeast)
		if h.blind {
			d = 2 * every
		}
		if !h.rungAt.IsZero() && now.Sub(h.rungAt) < lag {
			d = min(d, doubtEvery) // the sign on the address may not be shown yet
		}
		if at := h.budget.Next(now); at.After(now) {
			d = min(d, at.Sub(now))
		}
		return d
	}
	if at := h.budget.Next(now); at.After(now) && at.Sub(now) < every {
		return at.Sub(now)
	}
	return spread(every, every/200)
}

// holderPause is how long what is held here need not be looked at.
func (c *claimer) holderPause(h *holding, now time.Time) time.Duration {
	d := min(holderEvery*c.o.Every, max(c.o.Every, holderMost))
	d = spread(d, d/10)
	if !h.rechecked && !h.tookAt.IsZero() {
		left := h.tookAt.Add(recheck).Sub(now)
		if left > 0 {
			d = min(d, left)
		}
		h.rechecked = left <= 0
	}
	if !h.inMetadata && now.Sub(h.report.Since) < recheck {
		d = min(d, unshownEvery)
	}
	if now.Before(h.doubtUntil) {
		d = min(d, doubtEvery)
	}
	if h.mine.Leaving && now.Sub(h.assumed) < rarely {
		d = min(d, signCheck)
	}
	if metadataSilent(c.situation) {
		d = min(d, spread(blindEvery, blindEvery/10))
	}
	return d
}

// metadataSilent reports whether instance metadata, which would tell a loss, does
// not answer.
func metadataSilent(s address.Situation) bool {
	for _, p := range s.Identity.Problems {
		if p.Code == "imds-unreachable" {
			return true
		}
	}
	return false
}

// backoff returns the pause after a failure; it doubles with every further one.
func (c *claimer) backoff(least time.Duration) time.Duration {
	c.retry = min(max(2*c.retry, least), maxRetry)
	d := c.retry
	if time.Since(c.born) < young {
		d = min(d, youngRetry)
	}
	if slices.ContainsFunc(c.held, func(h *holding) bool { return h.report.Held() && (!h.inMetadata || metadataSilent(c.situation)) }) {
		d = min(d, blindEvery) // nothing else would tell a loss
	}
	if !metadataSilent(c.situation) && slices.ContainsFunc(c.held, func(h *holding) bool { return h.report.Held() && !h.inMetadata }) {
		d = min(d, doubtEvery) // it is probably lost
	}
	return spread(d, d/10)
}

// fail records that EC2 could not be asked. What was known stays known.
func (c *claimer) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	p := c.explain(err, "")
	c.trouble = &p
	c.warn("", p.Code, err)
	least := minRetry
	if p.Code == "ec2-throttled" {
		least = youngRetry
	}
	c.fullAt, c.quickAt = time.Now().Add(c.backoff(least)), time.Time{}
}

// explained turns the error of one claim into its problem.
func (c *claimer) explained(h *holding) {
	if h.err == nil {
		h.report.Problems = nil
		delete(c.warned, h.report.Claim)
		return
	}
	p := c.explain(h.err, h.report.Claim)
	h.report.Problems = append(h.report.Problems[:0:0], p)
	c.warn(h.report.Claim, p.Code, h.err)
}

// warn logs a trouble that was not there before.
func (c *claimer) warn(claim, code string, err error) {
	if c.warned[claim] != code {
		c.o.Log.Warn("address not settled", event.Key, event.AddressUnsettled, "claim", claim, "problem", code, "err", err)
		c.warned[claim] = code
	}
}
