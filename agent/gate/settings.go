// Package gate decides whether a batch may start now, so that saved credits
// are used and the services are never throttled or a surplus charged. It keeps the queue of waiting jobs
// and the ledger of what was promised to them. It holds values and functions on
// them; the packages below it run it, publish its decision and hold back batches.
package gate

import (
	"time"

	"github.com/nagaya-ecs/nagaya/agent/config"
	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// Settings are the operator's choices. A zero field means its default.
type Settings struct {
	// Reserve is the credits that a batch must leave for the services, for what the forecast could not
	// know. The default is an hour of all vCPUs beyond the baseline, but no more than 20 % of
	// the type's cap: what a burst needs does not grow with the cap, and on a nano it would be most of
	// it. Less than 0 means none.
	Reserve float64 `json:"reserve"`
	// OpenMark is the headroom in credits from which on the gate opens; it closes again below half of it.
	// The default is 5 % of the type's cap.
	OpenMark float64 `json:"open_mark"`
	// Horizon is how far ahead the reserve must hold, 12 h by default and at most what is forecast (24 h).
	Horizon time.Duration `json:"horizon"`
	// Dwell is the least time between two changes of the gate, 5 min by default. Want of
	// knowledge, a hold and exhausted headroom close it at once.
	Dwell time.Duration `json:"dwell"`
	// StaleAfter is an age of CloudWatch's newest point at which the balance counts as unknown; 0 is none. It also
	// does when that point is older than usual and the balance may be wrong by a fifth of the type's cap.
	StaleAfter time.Duration `json:"stale_after"`
	// SurplusLimit is the surplus credits that an unlimited instance may be charged and owe in a SurplusPeriod,
	// and SurplusDollars what they may cost in US dollars at SurplusPrice a vCPU-hour. 0 is not set: if both are set
	// the lesser holds, and if neither is, which is the default, nothing may be charged. It lowers the floor that Reserve sets.
	SurplusLimit   float64 `json:"surplus_limit"`
	SurplusDollars float64 `json:"surplus_dollars,omitempty"`
	SurplusPeriod  Period  `json:"surplus_period,omitempty"`
	// SurplusPrice is what AWS asks with Linux by default.
	SurplusPrice float64 `json:"surplus_price,omitempty"`
	priceAssumed bool
	// DefaultNeed is the credits assumed for a job that declares none and has never run, by default 10 % of the type's cap.
	DefaultNeed float64 `json:"default_need"`
	// Busy is the services' share of all processors, 0 to 1, from which on the gate of an instance
	// without credits stays closed, 0.5 by default. It closes a fifth above it.
	Busy float64 `json:"busy"`
	// Slow says how batches that run are held back when the forecast turns; SlowOff by default.
	Slow Slow `json:"slow,omitempty"`
	// Windows are when batches may start; none is always.
	Windows Windows `json:"windows,omitempty"`
}

// Defaults for the fields of Settings, and the shares that the others are derived from.
const (
	defaultHorizon = 12 * time.Hour
	defaultDwell   = 5 * time.Minute
	defaultBusy    = 0.5

	reserveBurst      = 60 // minutes
	reserveMostOfMax  = 0.20
	openMarkOfMax     = 0.05
	defaultNeedOfMax  = 0.10
	closeShare        = 0.5
	busyCloseShare    = 1.2
	meterStale        = time.Minute
	anchorLate        = 30 * time.Minute // an age that points of CloudWatch do not have while it answers
	vagueOfMax        = 0.20
	leastDefaultNeed  = 1.0
	latestStartMargin = 1.25
	guessed           = 2.0 // times wrong a declared need may be
	leastMargin       = 5 * time.Minute
	leastCores        = 0.05 // that a job gets of processors however busy they are
)

// For returns the settings with every default filled in for a type.
func (s Settings) For(spec credit.Spec) Settings {
	switch {
	case s.Reserve < 0:
		s.Reserve = 0
	case s.Reserve == 0:
		s.Reserve = min(reserveBurst*(float64(spec.VCPUs)-spec.Baseline()), reserveMostOfMax*spec.Max)
	}
	s.OpenMark = positive(s.OpenMark, openMarkOfMax*spec.Max)
	s.DefaultNeed = positive(s.DefaultNeed, max(defaultNeedOfMax*spec.Max, leastDefaultNeed))
	s.Horizon = positive(s.Horizon, defaultHorizon)
	s.Dwell = positive(s.Dwell, defaultDwell)
	s.StaleAfter = max(s.StaleAfter, 0)
	s.Busy = positive(s.Busy, defaultBusy)
	s.SurplusLimit = max(s.SurplusLimit, 0)
	if s.SurplusPrice <= 0 {
		s.SurplusPrice, s.priceAssumed = spec.SurplusPrice(), true
	}
	if s.Slow == "" {
		s.Slow = SlowOff
	}
	if s.SurplusPeriod == "" {
		s.SurplusPeriod = Monthly
	}
	return s
}

func positive[T float64 | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

// noCredits is an amount that is as good as none.
const noCredits = 1e-6

// NewSettings translates the configuration, in which 0 is 0 and config.Auto leaves the choice to the type, into Settings, in
// which 0 is the default and less is none. Zones are looked up by zone, which time.LoadLocation is. The error is a
// *config.Error that names the field.
func NewSettings(c config.Gate, zone func(string) (*time.Location, error)) (Settings, error) {
	s := Settings{
		Horizon: c.Horizon, Dwell: c.Dwell, StaleAfter: c.StaleAfter, Busy: c.Busy, Slow: Slow(c.Slow),
		SurplusLimit: c.SurplusLimit, SurplusDollars: c.SurplusDollars, SurplusPeriod: Period(c.SurplusPeriod), SurplusPrice: max(c.SurplusPrice, 0),
	}
	switch c.Reserve {
	case config.Auto:
	case 0:
		s.Reserve = -1
	default:
		s.Reserve = c.Reserve
	}
	if c.OpenMark != config.Auto {
		s.OpenMark = max(c.OpenMark, noCredits)
	}
	var err error
	if s.Windows, err = parseWindows(c.Windows, zone); err != nil {
		return s, &config.Error{Field: "gate.windows", Reason: err.Error()}
	}
	return s, nil
}
