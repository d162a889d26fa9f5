package history

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
	"github.com/nagaya-ecs/nagaya/agent/gate"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// Between is the record of the time between two looks at the status, of which the span begins at start.
func Between(before, now report.Status, start time.Time) Record {
	r := Merge(start, nil)
	r.Watched = Value(now.At.Sub(before.At).Seconds())
	if c := now.Credit; c.Known {
		r.Balance, r.Error, r.Surplus = Value(c.Balance), Value(c.ErrorBar), Value(c.Surplus)
	}
	if a, ok := spent(before.Credit.Hours, now.Credit.Hours); ok {
		r.Services, r.Batches = Value(a.Services), Value(a.Batch)
		if now.Credit.Known {
			r.Earned, r.Discarded, r.Charged = Value(a.Earned), Value(a.Discarded), Value(a.Charged)
		}
	}
	r.Reloads = Value(max(int64(now.Nginx.Reloads)-int64(before.Nginx.Reloads), 0))
	r.Open, r.Running = 0, 0
	if now.Gate.Decision.Open {
		r.Open = 1
	}
	for _, j := range now.Gate.Decision.Jobs {
		if j.Phase == gate.Running {
			r.Running++
		}
	}
	if n := len(now.Address.Claims); n > 0 {
		r.Held = 0
		for _, c := range now.Address.Claims {
			if c.Held() {
				r.Held += 1 / Value(n)
			}
		}
	}
	return r
}

// spent is what was added to the accounts of the hours since the look before; ok is false where that
// is not known. An account that was corrected to less counts as nothing added.
func spent(before, now []credit.Hour) (sum credit.Hour, ok bool) {
	if len(before) == 0 || len(now) == 0 {
		return sum, false
	}
	last := before[len(before)-1]
	for _, h := range now {
		if h.At.Before(last.At) {
			continue
		}
		ok = true
		was := credit.Hour{}
		if h.At.Equal(last.At) {
			was = last
		}
		sum.Services += max(h.Services-was.Services, 0)
		sum.Batch += max(h.Batch-was.Batch, 0)
		sum.Earned += max(h.Earned-was.Earned, 0)
		sum.Discarded += max(h.Discarded-was.Discarded, 0)
		sum.Charged += max(h.Charged-was.Charged, 0)
	}
	return sum, ok
}
