package simaws

import (
	"fmt"
	"slices"
	"time"
)

// Maintenance is one scheduled event of an instance, as IMDS shows it under
// events/maintenance/scheduled.
type Maintenance struct {
	// Code is e.g. system-reboot, instance-reboot, system-maintenance,
	// instance-retirement or instance-stop.
	Code        string    `json:"code"`
	Description string    `json:"description"`
	EventID     string    `json:"event_id"`
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	// State is active (the default), completed or canceled.
	State string `json:"state"`
}

// Notices are the announcements that an instance hears through IMDS.
type Notices struct {
	// SpotAction is terminate, stop or hibernate; empty for none.
	SpotAction string    `json:"spot_action,omitempty"`
	SpotTime   time.Time `json:"spot_time,omitzero"`
	// Rebalance is when a rebalance recommendation was given; zero for none.
	Rebalance   time.Time     `json:"rebalance,omitzero"`
	Maintenance []Maintenance `json:"maintenance,omitempty"`
	// TargetLifecycleState is Auto Scaling's, e.g. InService or Terminated; empty for none.
	TargetLifecycleState string `json:"target_lifecycle_state,omitempty"`
}

// spotWarning is how long before it happens an interruption is announced (EC2
// User Guide, "Spot Instance interruption notices").
const spotWarning = 2 * time.Minute

// SetNotices replaces what is announced to an instance. A spot action without a
// time is two minutes away.
func (w *World) SetNotices(id string, n Notices) error {
	switch n.SpotAction {
	case "", "terminate", "stop", "hibernate":
	default:
		return fmt.Errorf("spot action %q is not terminate, stop or hibernate", n.SpotAction)
	}
	return w.with(id, func(i *instance) error {
		if n.SpotAction != "" && n.SpotTime.IsZero() {
			n.SpotTime = w.Now().Add(spotWarning)
		}
		n.Maintenance = slices.Clone(n.Maintenance)
		for k := range n.Maintenance {
			setDefault(&n.Maintenance[k].State, "active")
			setDefault(&n.Maintenance[k].EventID, w.newID("instance-event"))
		}
		i.notices = n
		return nil
	})
}
