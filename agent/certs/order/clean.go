package order

import (
	"context"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/certs"
	"github.com/nagaya-ecs/nagaya/agent/event"
)

// clean removes what orders have left that are over, or that nobody wants: TXT records, and the lease.
func (l *loop) clean(ctx context.Context, now time.Time, wanted []string) {
	if !l.now.WishesKnown || l.store.err != nil {
		return
	}
	for id, s := range l.store.leases {
		if l.busy[id] || l.live(s, now) {
			continue
		}
		expired := s.Pending != nil && !s.Pending.Expires.IsZero() && s.Pending.Expires.Before(now)
		// One that is not wanted here may be of an instance with other sites.
		abandoned := !slices.Contains(wanted, id) && (s.Owner == l.Owner || now.Sub(s.since) > abandonedAfter)
		if s.Pending != nil && !s.Over && !expired && !abandoned && !l.isIssued(id, s.Key) {
			continue
		}
		a := &attempt{loop: l, Start: certs.Start{ID: id}, known: s}
		l.do(ctx, id, attemptFor, func(ctx context.Context) (func(), error) {
			err := a.take(ctx)
			if err == nil {
				err = a.clear(ctx, nil)
			}
			if err != nil {
				l.Log.Warn("left of an order not removed", event.Key, event.OrderUnsettled, "order", id, "err", err)
			}
			return func() { l.returned(a) }, err
		})
	}
}

// abandonedAfter is how long an order stays that no site here wants and nobody touches.
const abandonedAfter = time.Hour

// isIssued reports whether the certificate for a key is in the store: the order for it is over.
func (l *loop) isIssued(id, key string) bool {
	if l.held[id].version == "" {
		return false
	}
	b, _, err := readCopy(l.Issued, id)
	return err == nil && b.Key == key
}
