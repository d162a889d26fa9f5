package credit

import (
	"math"
	"slices"
	"time"
)

// Estimator knows the balance between CloudWatch's late points: it stands on the newest point,
// at that point's own time stamp, and replays what the local meter saw since. Its
// zero value knows nothing. It has no clock: time is what the readings say.
type Estimator struct {
	m    Memory
	last Reading
}

// Resume returns an estimator that continues from what an earlier one knew. What it knows
// of another instance is dropped at the first reading; the services' profile is kept.
func Resume(m Memory) *Estimator { return &Estimator{m: *m.Clone()} }

// Memory returns what the estimator knows, to be kept.
func (e *Estimator) Memory() *Memory { return e.m.Clone() }

// Next takes a reading and says what is known now. Readings that are lost cost nothing;
// one that is older than the last counts as a clock set back.
func (e *Estimator) Next(r Reading) Report {
	e.Update(r)
	return e.Report()
}

// Update takes a reading. A report costs far more.
func (e *Estimator) Update(r Reading) {
	m := &e.m
	m.identify(r)
	m.advance(r)
	m.learn(r)
	m.anchor(r)
	if n := len(m.Hours); n > 0 && !m.AnchorAt.IsZero() && m.Hours[n-1].At.Equal(m.At.UTC().Truncate(time.Hour)) {
		m.Hours[n-1].Balance, m.Hours[n-1].BalanceKnown = m.Bank.Position(), true
	}
	e.last = r
}

// Position returns the estimate as of the last reading, in credits (below 0 it is surplus), and false
// while none is known. It costs far less than a report.
func (e *Estimator) Position() (float64, bool) {
	return e.m.Bank.Position(), !e.m.AnchorAt.IsZero()
}

// Report says what is known as of the last reading.
func (e *Estimator) Report() Report { return e.m.report(e.last) }

// identify forgets what does not hold for the instance that is running now.
func (m *Memory) identify(r Reading) {
	if r.InstanceID == "" {
		return
	}
	another := m.InstanceID != "" && m.InstanceID != r.InstanceID
	resized := m.Type != "" && m.Type != r.Type
	// A stop loses a T2's credits and hides for how long the others earned nothing.
	restarted := !m.StartedAt.IsZero() && !r.StartedAt.IsZero() && !m.StartedAt.Equal(r.StartedAt)
	if another {
		m.Hours, m.Minutes, m.Bill = nil, nil, Bill{}
	} else if (resized || restarted) && !m.AnchorAt.IsZero() {
		m.addToHour(r.At, Account{Charged: m.Bank.Surplus}) // what was owed was charged when it stopped
	}
	if another || resized || restarted {
		m.AnchorAt, m.Bank, m.Surprise, m.Blind = time.Time{}, Bank{}, 0, 0
	}
	if another || resized {
		m.Billed, m.Seen, m.UsageAt = 0, 0, time.Time{}
	}
	m.InstanceID, m.Type = r.InstanceID, r.Type
	if !r.StartedAt.IsZero() {
		m.StartedAt = r.StartedAt
	}
	m.Bank.Spec, _ = Lookup(r.Type)
	m.setMode(r)
	if m.AnchorAt.IsZero() && r.CPU.Known && !r.StartedAt.IsZero() && r.At.Sub(r.StartedAt) <= freshStart {
		m.Bank.Launch = 0
		if m.Bank.Mode != Unlimited {
			// They are spent first, so what was used since the start is gone.
			m.Bank.Launch = max(0, m.Bank.Spec.LaunchCredits-r.CPU.Busy)
		}
	}
}

// setMode takes the mode that EC2 says; without it, surplus points prove unlimited, and
// the rest is treated as standard, which never promises credits that are not there.
func (m *Memory) setMode(r Reading) {
	mode := m.Bank.Mode
	switch {
	case r.ModeKnown:
		mode = r.Mode
	case r.Cloud.Surplus.Known:
		mode = Unlimited
	case mode == "":
		mode = Standard
	}
	if m.AnchorAt.IsZero() || m.Bank.Mode == "" {
		m.Bank.Mode = mode
		return
	}
	var a Account
	if m.Bank, a = m.Bank.Switch(mode); a != (Account{}) {
		m.addToHour(r.At, a)
	}
}

// advance moves the estimate to the reading by what the guest used meanwhile.
func (m *Memory) advance(r Reading) {
	if !r.CPU.Known || (m.CPU.Known && r.At.Equal(m.At)) {
		return
	}
	prev, from := m.CPU, m.At
	m.CPU, m.At = r.CPU, r.At
	switch {
	case !prev.Known || from.IsZero():
		return
	case r.At.Before(from): // the clock was set back
		m.Minutes = slices.DeleteFunc(m.Minutes, func(x Minute) bool { return x.At.After(r.At) })
		m.Hours = slices.DeleteFunc(m.Hours, func(x Hour) bool { return x.At.After(r.At) })
		return
	}
	minutes := r.At.Sub(from).Minutes()
	rebooted := prev.Boot != r.CPU.Boot
	if rebooted {
		prev.Busy, prev.Steal, prev.Waiting = 0, 0, 0
	}
	limit := minutes * float64(max(r.CPU.Online, m.Bank.Spec.VCPUs, 1))
	u := usage{busy: clamp(r.CPU.Busy-prev.Busy, 0, limit), steal: clamp(r.CPU.Steal-prev.Steal, 0, limit)}
	apart := prev.Meter == r.CPU.Meter && !rebooted
	if apart {
		u.batch = clamp(r.CPU.Batch-prev.Batch, 0, u.busy)
	}
	if rebooted {
		m.Blind += minutes * float64(m.Bank.Spec.VCPUs)
	} else {
		m.addToMinutes(from, r.At, u)
	}
	f := m.factor()
	// While the meter was down it is not known what was a batch: the services' profile must not learn from it.
	if apart && minutes <= Period.Minutes() {
		withheld, known := m.withheld(r.At, u, clamp(r.CPU.Waiting-prev.Waiting, 0, minutes)*limit/minutes)
		if known {
			m.Profile.Observe(from, r.At, (u.busy-u.batch)*f+withheld)
		}
	}
	m.spend(r.At, minutes, usage{busy: u.busy * f, batch: u.batch * f})
}

// withheld is what the services wanted and an empty bank did not give them: while they are throttled, what they use says
// little of what they need. Steal tells, or, where the hypervisor does not show it, that processes wait: all processors are wanted then,
// which pressed says in credits. Whether it was withheld from services or from batches beside them is not known: then false is returned.
func (m *Memory) withheld(at time.Time, u usage, pressed float64) (credits float64, known bool) {
	credits = max(u.steal, pressed-u.busy, 0)
	if !m.empty() || credits == 0 {
		return 0, true
	}
	if batches, _ := m.measured(at.Add(-batchSpan), at); batches.batch > batchLeast {
		return 0, false
	}
	return credits, true
}

// empty reports whether CPU time is withheld for want of credits.
func (m *Memory) empty() bool {
	return !m.AnchorAt.IsZero() && m.Bank.Mode != Unlimited && m.Bank.Position() <= emptyShareOfMax*m.Bank.Spec.Max
}

// spend advances the bank and writes the account of the hour.
func (m *Memory) spend(at time.Time, minutes float64, u usage) {
	h := m.hour(at)
	h.Batch += u.batch
	h.Services += u.busy - u.batch
	if m.Bank.Spec.VCPUs == 0 {
		return
	}
	if m.AnchorAt.IsZero() {
		m.addToHour(at, Account{Earned: m.Bank.Spec.Baseline() * minutes, Spent: u.busy})
		return
	}
	var a Account
	m.Bank, a = m.Bank.Advance(time.Duration(minutes*float64(time.Minute)), u.busy/minutes)
	m.addToHour(at, a)
	m.Replayed += u.busy
}

const (
	// priorUsage is how many credits of CPUCreditUsage must have been compared
	// before they count as much as the assumption that guest and bill agree.
	priorUsage      = 5.0
	halfLifeUsage   = 24 * time.Hour
	factorLow       = 0.5
	factorHigh      = 2.0
	leastMeasured   = 0.98 // of a period, to be compared with the bill
	leastShare      = 0.01 // of a minute, to count as measured
	futureTolerance = time.Minute
	// freshStart is how long ago a start may be for the boot's counters to hold all that was spent since.
	freshStart       = time.Hour
	surpriseWeight   = 0.3
	replayError      = 0.1  // of what was spent since the anchor
	driftError       = 0.02 // of what was earned since the anchor
	oldAnchor        = 30 * time.Minute
	forecastHorizon  = 24 * time.Hour
	forecastStep     = time.Hour
	recentSpan       = 5 * time.Minute
	stealSpan        = 10 * time.Minute
	stealShare       = 0.1
	stealLeast       = 0.5 // credits in stealSpan
	batchSpan        = 30 * time.Minute
	batchLeast       = 0.05 // credits in batchSpan, for a batch to run
	emptyShareOfMax  = 0.05 // below it, throttling is expected
	tooSmallLeastDay = 20   // hours seen before an instance is called too small
)

// factor turns the guest's view into the bill's.
func (m *Memory) factor() float64 {
	return clamp((m.Billed+priorUsage)/(m.Seen+priorUsage), factorLow, factorHigh)
}

// learn compares what was billed with what the guest saw in the same five minutes. While the bank is empty the guest may have
// counted what it was not given.
func (m *Memory) learn(r Reading) {
	for _, p := range r.Cloud.Usage {
		end := p.At.Add(Period)
		if !p.At.After(m.UsageAt) || end.After(m.At) || !(p.Value >= 0) {
			continue
		}
		m.UsageAt = p.At
		u, minutes := m.measured(p.At, end)
		if minutes < leastMeasured*Period.Minutes() || m.empty() {
			continue
		}
		f := fade(Period, halfLifeUsage)
		m.Billed = f*m.Billed + p.Value
		m.Seen = f*m.Seen + u.busy
	}
}

// anchor puts the estimate on a newer point of CloudWatch, if there is one.
func (m *Memory) anchor(r Reading) {
	p := r.Cloud.Balance
	switch {
	case !p.Known || m.Bank.Spec.VCPUs == 0 || !(p.Value >= 0):
		return
	case !p.At.After(m.AnchorAt) || p.At.After(m.At.Add(futureTolerance)):
		// Nothing new, or nothing to replay from it: the meter does not reach that far.
		return
	case p.At.Add(Period).Before(m.StartedAt):
		// The point is from before the last stop.
		return
	}
	old, had := m.Bank, !m.AnchorAt.IsZero()
	m.AnchorAt = p.At
	m.Bank = m.bankAt(p.Measure, r.Cloud.Surplus)
	m.replay(p.At)
	if had {
		diff := math.Abs(old.Position() - m.Bank.Position())
		m.Surprise += surpriseWeight * (diff - m.Surprise)
	}
}

// bankAt reads the state of the bank out of CloudWatch's points.
func (m *Memory) bankAt(balance Measure, surplus Metric) Bank {
	b := m.Bank
	if b.Mode == Unlimited {
		owed := b.Surplus
		switch {
		case surplus.Known && surplus.At.Sub(balance.At).Abs() <= Period:
			owed = surplus.Value
		case balance.Value > 0:
			owed = 0
		}
		return b.Holding(balance.Value - owed)
	}
	// CPUCreditBalance holds a T2's launch credits too; what is above the cap must be launch credits.
	launch := b.Launch
	if launch > 0 {
		// The point is older than the estimate: what was spent since then was launch credits, and is replayed.
		since, _ := m.measured(balance.At, m.At)
		launch += since.busy * m.factor()
	}
	launch = clamp(launch, max(0, balance.Value-b.Spec.Max), max(0, min(balance.Value, b.Spec.LaunchCredits)))
	b = b.Holding(balance.Value - launch)
	b.Launch = launch
	return b
}

// replay advances the bank from a moment to the last reading through the measured minutes.
// Holes count as the services' usual demand, and widen the error bar by all that could have been used.
func (m *Memory) replay(from time.Time) {
	f := m.factor()
	m.Blind, m.Replayed = 0, 0
	for _, x := range m.Minutes[m.minuteOf(from):] {
		end := earlier(x.At.Add(time.Minute), m.At)
		if !end.After(from) || x.Share < leastShare {
			continue
		}
		if x.At.After(from) {
			m.advanceUnmeasured(from, x.At)
			from = x.At
		}
		span := end.Sub(from)
		demand := x.Busy * f / x.Share
		seen := clamp(x.Share*float64(time.Minute)/float64(end.Sub(x.At)), 0, 1)
		m.Blind += (1 - seen) * span.Minutes() * float64(m.Bank.Spec.VCPUs)
		m.Bank, _ = m.Bank.Advance(span, demand)
		m.Replayed += demand * span.Minutes()
		from = end
	}
	m.advanceUnmeasured(from, m.At)
}

// advanceUnmeasured advances through minutes that were not measured.
func (m *Memory) advanceUnmeasured(from, to time.Time) {
	if !to.After(from) {
		return
	}
	m.Blind += to.Sub(from).Minutes() * float64(m.Bank.Spec.VCPUs)
	demand := m.Profile.At(from, m.Bank.Spec).Mean
	m.Bank, _ = m.Bank.Advance(to.Sub(from), demand)
}

// errorBar is how far the position may be wrong, in credits: half a period's
// change for the point's inexact time stamp, the recent surprises, a part of what was
// replayed and earned since, and all that was not measured.
func (m *Memory) errorBar(rate float64) float64 {
	s := m.Bank.Spec
	age := max(0, m.At.Sub(m.AnchorAt).Minutes())
	bar := Period.Minutes()/2*max(s.Baseline(), rate) +
		m.Surprise + replayError*m.Replayed + driftError*s.Baseline()*age + m.Blind
	most := s.Max + s.LaunchCredits
	if m.Bank.Mode == Unlimited {
		most += s.Max
	}
	return min(bar, most)
}
