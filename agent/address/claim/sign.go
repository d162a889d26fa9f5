package claim

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

const (
	// settled is how long the live hosts must not have changed before they are
	// told: a deployment takes hosts away for a moment.
	settled = time.Minute
	// rarely is the least time between two signs that differ only in the hosts.
	rarely = 10 * time.Minute
	// signRetry is the pause after a sign that could not be written, and deniedRetry
	// after one that may not be; while leaving there is not much time.
	signRetry   = time.Minute
	deniedRetry = time.Hour
	// signCheck is how often a holder that leaves looks whether its sign is there.
	signCheck    = time.Minute
	leavingRetry = 10 * time.Second
)

// signing is what this instance tells others.
type signing struct {
	changed  time.Time // when the live hosts changed last
	rung     bool      // the bell says that this instance is leaving
	retryAt  time.Time
	problems []problem.Problem
}

// text is why nothing could be told.
func (s *signing) text() string {
	if len(s.problems) == 0 {
		return "it is tried again by itself"
	}
	return s.problems[0].Text
}

// wakeSign lets the sign be looked at no later than then.
func (c *claimer) wakeSign(at time.Time) {
	if c.signAt.IsZero() || at.Before(c.signAt) {
		c.signAt = at
	}
}

// sign writes what other instances should know on the addresses that are held
// here: that this instance leaves at once, what it serves seldom. While nothing
// changes nothing is written.
func (c *claimer) sign(ctx context.Context) {
	now := time.Now()
	c.signAt = time.Time{}
	if now.Before(c.signs.retryAt) {
		c.signAt = c.signs.retryAt
		return
	}
	leaving := false
	for _, h := range c.held {
		if !h.report.Held() {
			continue
		}
		if now.Before(h.doubtUntil) {
			c.wakeSign(h.doubtUntil) // it is probably not ours any more to write on
			continue
		}
		want := address.NewSign(c.situation.Identity.Instance.ID, now, c.situation.Identity.Leaving() || h.report.Released, c.situation.LiveHosts)
		leaving = leaving || want.Leaving
		if !c.worthSaying(h, want, now) {
			continue
		}
		if err := c.write(ctx, h.report.Address.AllocationID, want); err != nil {
			c.unsaid(ctx, err, want.Leaving, now)
			return
		}
		h.mine, h.signed, h.assumed = want, now, now
		if want.Leaving && c.fullAt.Sub(now) > signCheck {
			c.fullAt = now.Add(signCheck)
		}
		c.o.Log.Info("address sign written", event.Key, event.AddressSigned, "address", h.report.Address.PublicIP, "sign", want.String())
	}
	c.signs.problems = nil
	delete(c.warned, "sign")
	c.ring(ctx, leaving, now)
}

// worthSaying reports whether the sign says something new, and it is time for it.
func (c *claimer) worthSaying(h *holding, want address.Sign, now time.Time) bool {
	if want.Leaving != h.mine.Leaving {
		return true
	}
	if want.Leaving || c.situation.LiveHosts == nil || want.Same(h.mine) {
		return false
	}
	at := c.signs.changed.Add(settled)
	if t := h.signed.Add(rarely); !h.signed.IsZero() && t.After(at) {
		at = t
	}
	if at.After(now) {
		c.wakeSign(at)
		return false
	}
	return true
}

// resign lets a sign be written again that somebody else has overwritten: an
// instance may not know yet that it has lost the address.
func (c *claimer) resign(h *holding, shown address.Sign, now time.Time) {
	if h.mine.InstanceID == "" || shown.Equal(h.mine) || now.Sub(h.assumed) < lag {
		return
	}
	h.mine, h.signed, h.assumed = shown, time.Time{}, now
	c.signs.rung = false
	c.wakeSign(now)
}

func (c *claimer) write(ctx context.Context, resource string, s address.Sign) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key, value := address.SignTag, s.String()
	_, err := c.api.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{resource}, Tags: []types.Tag{{Key: &key, Value: &value}}})
	return err
}

// ring writes the sign on this instance too when it begins or ceases to leave.
// Stand-bys look at the instance most of the time; what changes there makes them
// look at the address at once. The truth is the sign on the address.
func (c *claimer) ring(ctx context.Context, leaving bool, now time.Time) {
	if leaving == c.signs.rung {
		return
	}
	id := c.situation.Identity.Instance.ID
	if err := c.write(ctx, id, address.NewSign(id, now, leaving, nil)); err != nil {
		c.unsaid(ctx, err, leaving, now)
		return
	}
	c.signs.rung = leaving
}

// unsaid records that other instances could not be told.
func (c *claimer) unsaid(ctx context.Context, err error, leaving bool, now time.Time) {
	if ctx.Err() != nil {
		return
	}
	p := c.explain(err, "")
	pause := signRetry
	switch {
	case leaving:
		pause = leavingRetry
	case p.Code == "address-denied":
		pause = deniedRetry
	}
	p.Code, p.Severity = "address-sign-failed", problem.Warning
	c.warn("sign", p.Code, err)
	c.signs.problems = []problem.Problem{p}
	c.signs.retryAt = now.Add(pause)
	c.signAt = c.signs.retryAt
}
