package simaws

import (
	"time"
)

// CreditMode is how a burstable instance behaves when its balance is gone.
type CreditMode string

// The two modes of a burstable instance.
const (
	Standard  CreditMode = "standard"
	Unlimited CreditMode = "unlimited"
)

// Credits are the credits of one instance at one moment, in vCPU-minutes.
type Credits struct {
	// Balance is what has been earned and not spent, without launch credits.
	Balance float64 `json:"balance"`
	// Launch are the launch credits that a T2 in standard mode has left.
	Launch float64 `json:"launch"`
	// Surplus are the credits spent on trust in unlimited mode.
	Surplus float64 `json:"surplus"`
	// Used and Charged count from the start of the ledger and only grow.
	Used    float64 `json:"used"`
	Charged float64 `json:"charged"`
}

// sample is one five-minute row of what CloudWatch learns of an instance.
type sample struct {
	at      time.Time
	visible time.Time
	usage   float64
	balance float64
	surplus float64
	charged float64
	percent float64
	mode    CreditMode
}

// sampleEvery is the frequency of the credit metrics; detailed monitoring does
// not change it (EC2 User Guide, "Monitor your CPU credits").
const sampleEvery = 5 * time.Minute

// keptSamples is how many rows of an instance are kept: two weeks.
const keptSamples = 14 * 24 * 12

// keepAfterStop is how long a stopped T3, T3a or T4g keeps its balance.
const keepAfterStop = 7 * 24 * time.Hour

// ledger is the credit account of one instance. It is brought forward lazily:
// whoever reads or changes it first calls advance.
type ledger struct {
	hw      hardware
	mode    CreditMode
	running bool
	stopped time.Time
	percent float64
	now     Credits
	at      time.Time
	// used, charged and since are the counters at the last row, and its moment.
	used    float64
	charged float64
	since   time.Time
	rows    []sample
}

// advance brings the ledger forward to t and writes a row at every whole five
// minutes that it passes. A row is stamped with the moment at which its balance
// is exact; its usage is that of the five minutes before.
func (l *ledger) advance(t time.Time, lag time.Duration) {
	for l.at.Before(t) {
		next := l.at.Truncate(sampleEvery).Add(sampleEvery)
		if next.After(t) {
			l.run(t.Sub(l.at))
			l.at = t
			return
		}
		l.run(next.Sub(l.at))
		l.at = next
		if l.running || l.now.Charged > l.charged {
			l.write(next, next.Add(lag))
		}
		l.used, l.charged, l.since = l.now.Used, l.now.Charged, next
	}
}

// write adds the row of the moment at.
func (l *ledger) write(at, visible time.Time) {
	s := sample{
		at:      at,
		visible: visible,
		usage:   l.now.Used - l.used,
		balance: l.now.Balance + l.now.Launch,
		surplus: l.now.Surplus,
		charged: l.now.Charged - l.charged,
		mode:    l.mode,
	}
	if minutes := at.Sub(l.since).Minutes(); minutes > 0 {
		s.percent = 100 * s.usage / (minutes * float64(l.hw.vcpus))
	}
	l.rows = append(l.rows, s)
	if extra := len(l.rows) - keptSamples; extra > 0 {
		l.rows = append(l.rows[:0], l.rows[extra:]...)
	}
}

// run lets d pass at the present CPU use.
func (l *ledger) run(d time.Duration) {
	hours := d.Hours()
	spend := float64(l.hw.vcpus) * l.percent / 100 * 60
	switch {
	case !l.running:
		return
	case !l.hw.burstable():
		l.now.Used += spend * hours
	case l.mode == Unlimited:
		l.runUnlimited(hours, spend)
	default:
		l.runStandard(hours, spend)
	}
}

// runStandard spends launch credits first, then the balance; at zero the
// processor gives no more than is earned (EC2 User Guide, "Standard mode concepts").
func (l *ledger) runStandard(hours, spend float64) {
	earn, full := l.hw.earnPerHour, l.hw.full()
	if l.now.Launch > 0 && spend > 0 {
		part := min(hours, l.now.Launch/spend)
		l.now.Balance = min(full, l.now.Balance+earn*part)
		l.now.Used += spend * part
		if part < hours {
			l.now.Launch = 0
		} else {
			l.now.Launch -= spend * part
		}
		hours -= part
	}
	if hours <= 0 {
		return
	}
	if spend <= earn {
		l.now.Balance = min(full, l.now.Balance+(earn-spend)*hours)
		l.now.Used += spend * hours
		return
	}
	burst := min(hours, l.now.Balance/(spend-earn))
	l.now.Used += spend*burst + earn*(hours-burst)
	if burst < hours {
		l.now.Balance = 0
	} else {
		l.now.Balance -= (spend - earn) * burst
	}
}

// runUnlimited goes below zero on surplus credits, which earnings repay before
// the balance grows; beyond the 24-hour maximum they are charged (EC2 User
// Guide, "Unlimited mode concepts").
func (l *ledger) runUnlimited(hours, spend float64) {
	full := l.hw.full()
	l.now.Used += spend * hours
	worth := l.now.Balance - l.now.Surplus + (l.hw.earnPerHour-spend)*hours
	switch {
	case worth >= 0:
		l.now.Balance, l.now.Surplus = min(full, worth), 0
	case worth >= -full:
		l.now.Balance, l.now.Surplus = 0, -worth
	default:
		l.now.Balance, l.now.Surplus = 0, full
		l.now.Charged += -worth - full
	}
}

// settle charges all surplus at once, as happens on stop, on termination and on
// the switch to standard mode.
func (l *ledger) settle() {
	l.now.Charged += l.now.Surplus
	l.now.Surplus = 0
}

func (l *ledger) setMode(m CreditMode) {
	if m == l.mode {
		return
	}
	if m == Standard {
		l.settle()
	} else {
		l.now.Launch = 0
	}
	l.mode = m
}

// stop halts earning and spending. A T2 loses everything; the others keep
// their balance for seven days.
func (l *ledger) stop() {
	if !l.running {
		return
	}
	l.settle()
	l.running, l.stopped = false, l.at
	l.now.Launch = 0
	if l.hw.xen {
		l.now.Balance = 0
	}
}

// start begins a new run; a T2 in standard mode is given its launch credits.
func (l *ledger) start() {
	if l.running {
		return
	}
	if !l.stopped.IsZero() && l.at.Sub(l.stopped) > keepAfterStop {
		l.now.Balance = 0
	}
	l.running = true
	if l.mode == Standard {
		l.now.Launch = l.hw.launch
	}
	l.used, l.charged, l.since = l.now.Used, l.now.Charged, l.at
}
