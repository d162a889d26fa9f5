package claim

import (
	"context"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/awserror"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/problem"
)

const (
	// tagRetry is the pause after a tag that could not be written, and tagDeniedRetry
	// after one that may not be; while leaving there is not much time.
	tagRetry        = time.Minute
	tagDeniedRetry  = time.Hour
	tagLeavingRetry = 10 * time.Second
)

// tagWriter is when and why this instance writes its tags.
type tagWriter struct {
	at           time.Time // when it is looked at next; zero is never
	notBefore    time.Time // after a failure
	hostsChanged time.Time // when the live hosts changed last
	hinted       bool      // the hint tag says that this instance is leaving
}

// tagKey is the key of the problem with the tags.
const tagKey = "tag"

// wake lets the tags be looked at no later than then.
func (t *tagWriter) wake(at time.Time) {
	if t.at.IsZero() || at.Before(t.at) {
		t.at = at
	}
}

// writeNow lets the tags be looked at now, even after a failure.
func (t *tagWriter) writeNow() { t.at, t.notBefore = time.Now(), time.Time{} }

// writeTags writes what other instances should know on the addresses that are held here:
// at once that this instance leaves, seldom what it serves. While nothing changes nothing
// is written.
func (c *claimer) writeTags(ctx context.Context) {
	t, now := &c.tags, time.Now()
	t.at = time.Time{}
	if now.Before(t.notBefore) {
		t.at = t.notBefore
		return
	}
	leaving, told := t.hinted && c.situation.Identity.Leaving(), false
	for _, s := range c.states {
		if !s.Report.Held() {
			continue
		}
		tag, due := s.NextTag(c.situation, t.hostsChanged, now)
		leaving = leaving || tag.Leaving
		switch {
		case due.IsZero():
			continue
		case due.After(now):
			t.wake(due)
			continue
		}
		if err := writeTag(ctx, c.api, s.Report.Address.AllocationID, tag.String(), false); err != nil {
			c.tagFailed(ctx, err, tag.Leaving)
			return
		}
		s.Written = address.Written{Tag: tag, At: now, SeenAt: now}
		if tag.Leaving {
			told = true
			c.schedule.Advance(now.Add(time.Minute)) // to see that it is there
		}
		c.o.Log.Info("holder tag written", event.Key, event.AddressTagWritten, "address", s.Report.Address.PublicIP, "holder_tag", tag.String())
	}
	// Standby instances look at the holder most of the time. A change of the hint tag
	// there makes them read the holder tag at once.
	if leaving != t.hinted || told {
		id := c.self().ID
		if err := writeTag(ctx, c.api, id, address.NewHolderTag(id, now, leaving, nil).String(), false); err != nil {
			c.tagFailed(ctx, err, leaving)
			return
		}
	}
	t.hinted = leaving
	delete(c.problems, tagKey)
}

// tagFailed records that other instances could not be told.
func (c *claimer) tagFailed(ctx context.Context, err error, leaving bool) {
	if ctx.Err() != nil {
		return
	}
	pause := tagRetry
	switch {
	case leaving:
		pause = tagLeavingRetry
	case awserror.Denied(err):
		pause = tagDeniedRetry
	}
	p := c.explain(err, "")
	p.Code, p.Severity = "address-tag-failed", problem.Warning
	c.setProblem(tagKey, p, err)
	c.tags.notBefore = time.Now().Add(pause)
	c.tags.at = c.tags.notBefore
}
