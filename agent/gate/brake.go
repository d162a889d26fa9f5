package gate

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// Slow says how batches that run are held back when the forecast turns: when even without them the services may need what
// must stay.
type Slow string

// The ways. The empty Slow is SlowOff.
const (
	SlowOff   Slow = "off"
	SlowQuota Slow = "quota"
	SlowPause Slow = "pause"
)

// Brake is how running batches are held back. Jobs that were admitted at their latest start although
// they did not fit are not held back: their owners chose that.
type Brake struct {
	// Way is SlowOff while batches run freely.
	Way Slow `json:"way"`
	// Each is the vCPUs that each batch may use with the way SlowQuota.
	Each float64 `json:"each,omitempty"`
	// Since is when Way last changed, Reason why.
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

const (
	// leastQuota is what each batch is left, in vCPUs: the least that the kernel's scheduler divides well.
	leastQuota = 0.02
	// quotaStep is the share by which a quota must change to be set again.
	quotaStep = 0.2
	// idleBatch is the use in vCPUs of batch containers below which none counts as running.
	idleBatch = 0.01
)

// setBrake puts the brake on or takes it off. While the credits are not known it stays as it is.
func (s *State) setBrake(in Input, set Settings, v view, d *Decision) {
	was, now := s.Brake, in.Now
	running := in.Batches
	for _, e := range s.Jobs {
		if e.Phase == Running && !e.Overdue {
			running++
		}
	}
	ls, _ := loads(s.Jobs)
	if len(ls) == 0 {
		ls = append(ls, unnamed)
	}
	billed := d.Known && set.Slow != SlowOff && running > 0 && v.billed(set, ls...)
	each := func() float64 {
		if billed {
			return min(v.quota(set, running), leastQuota)
		}
		return v.quota(set, running)
	}
	switch {
	case set.Slow == SlowOff || d.Known && !v.credits:
		s.endBrake("batches are not to be held back", now)
	case !d.Known:
	case !s.Brake.On():
		low := d.Headroom <= 0 && (running > 0 || in.Credits.Now.Batch > idleBatch)
		if low || billed {
			s.Brake = Brake{Way: set.Slow, Since: now, Each: each()}
			why := "more surplus would be charged within two days than is allowed"
			if low {
				why = v.whyNothingLeft()
			}
			s.Brake.Reason = fmt.Sprintf("batches are %s: %s", s.Brake.text(), why)
		}
	case !billed && d.Headroom >= set.OpenMark && now.Sub(was.Since) >= set.Dwell:
		s.endBrake(fmt.Sprintf("batches run freely again: they may spend %.1f credits", d.Headroom), now)
	default:
		each := each()
		if s.Brake.Way != set.Slow {
			s.Brake.Way, s.Brake.Since = set.Slow, now
		}
		if set.Slow != SlowQuota || s.Brake.Each == 0 || math.Abs(each-s.Brake.Each) > quotaStep*s.Brake.Each {
			s.Brake.Each = each
		}
	}
	d.Brake = s.Brake
	for i := range s.Jobs {
		s.Jobs[i].setBrake(s.Brake)
	}
}

func (s *State) endBrake(reason string, now time.Time) {
	if s.Brake.On() {
		s.Brake = Brake{Way: SlowOff, Since: now, Reason: reason}
	}
}

// On reports whether batches are held back.
func (b Brake) On() bool { return b.Way == SlowQuota || b.Way == SlowPause }

func (b Brake) text() string {
	if b.Way == SlowPause {
		return "paused"
	}
	return fmt.Sprintf("slowed to %.2f vCPUs each", b.Each)
}

// setBrake says to a running job how it is held back.
func (e *Entry) setBrake(b Brake) {
	e.Slow, e.Quota = "", 0
	if e.Phase == Running && !e.Overdue && b.On() {
		e.Slow, e.Quota = b.Way, b.Each
		e.Reason = fmt.Sprintf("has spent %.1f of %.1f credits; it is %s", e.Spent, e.Expected, b.text())
	}
}

// quota is what each of so many batches may use such that the reserve stays whole at the services' usual demand.
func (v view) quota(set Settings, batches int) float64 {
	if set.Slow != SlowQuota {
		return 0
	}
	points := slices.Clone(v.points)
	for i := range points {
		points[i].Demand.High = points[i].Demand.Mean
	}
	low, high := 0.0, float64(max(v.report.VCPUs, 1))
	if len(points) > 0 {
		minutes := points[len(points)-1].At.Sub(v.report.MeterAt).Minutes()
		for high-low > leastQuota/2 {
			rate := (low + high) / 2
			if lowest, _ := credit.Lowest(v.bank, v.report.MeterAt, points, []credit.Load{{Credits: rate * minutes, Cores: rate}}); lowest >= v.floor {
				low = rate
			} else {
				high = rate
			}
		}
	}
	return max(low/float64(max(batches, 1)), leastQuota)
}
