package credit

import (
	"slices"
	"sort"
	"time"
)

// Memory is all that an Estimator knows, as plain data that may be kept as JSON across a restart.
type Memory struct {
	InstanceID string    `json:"instance_id,omitempty"`
	Type       string    `json:"type,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	// Bank is the estimate as of At; it means nothing while AnchorAt is zero.
	Bank Bank `json:"bank"`
	// At is the time of the last reading.
	At time.Time `json:"at,omitzero"`
	// AnchorAt is the time stamp of the CloudWatch point that the estimate stands on.
	AnchorAt time.Time `json:"anchor_at,omitzero"`
	// Surprise is by how many credits new points differed from the estimate lately.
	Surprise float64 `json:"surprise,omitempty"`
	// Blind is how far wrong the estimate may be because of minutes that were not measured since the anchor.
	Blind float64 `json:"blind,omitempty"`
	// Replayed is the credits spent since the anchor according to the local meter.
	Replayed float64 `json:"replayed,omitempty"`
	// Billed and Seen are CPUCreditUsage and the guest's view of the same minutes, faded by age.
	Billed  float64   `json:"billed,omitempty"`
	Seen    float64   `json:"seen,omitempty"`
	UsageAt time.Time `json:"usage_at,omitzero"`
	CPU     CPU       `json:"cpu"`
	// Minutes are the last measured minutes, oldest first.
	Minutes []Minute `json:"minutes,omitempty"`
	// Hours are the last clock hours, oldest first, the running one last.
	Hours []Hour `json:"hours,omitempty"`
	// Bill is the surplus that this instance was charged.
	Bill    Bill    `json:"bill,omitzero"`
	Profile Profile `json:"profile"`
}

// Minute is what the guest used in a clock minute, in credits.
type Minute struct {
	At time.Time `json:"at"`
	// Share is how much of the minute was measured, 0 to 1.
	Share float64 `json:"share"`
	Busy  float64 `json:"busy"`
	Batch float64 `json:"batch,omitempty"`
	Steal float64 `json:"steal,omitempty"`
}

// Hour is the account of a clock hour.
type Hour struct {
	At time.Time `json:"at"`
	// Balance is the position at its end, or at the last reading of the running one; it means
	// nothing unless BalanceKnown.
	Balance      float64 `json:"balance,omitempty"`
	BalanceKnown bool    `json:"balance_known,omitempty"`
	Services     float64 `json:"services"`
	Batch        float64 `json:"batch"`
	Account
}

const (
	// keptMinutes is how far back a late CloudWatch point can be replayed from.
	keptMinutes = 4 * 60
	keptHours   = 48
)

// Clone returns a copy that shares nothing with m. It is 70 kB large.
func (m *Memory) Clone() *Memory {
	c := *m
	c.Minutes = slices.Clone(m.Minutes)
	c.Hours = slices.Clone(m.Hours)
	return &c
}

// usage is guest CPU time of a span, in credits.
type usage struct{ busy, batch, steal float64 }

// addToMinutes spreads what was used between two moments over the clock minutes.
func (m *Memory) addToMinutes(from, to time.Time, u usage) {
	if oldest := to.Add(-keptMinutes * time.Minute); from.Before(oldest) {
		f := float64(keptMinutes*time.Minute) / float64(to.Sub(from))
		u = usage{u.busy * f, u.batch * f, u.steal * f}
		from = oldest
	}
	whole := to.Sub(from)
	for from.Before(to) {
		at := from.Truncate(time.Minute)
		end := earlier(at.Add(time.Minute), to)
		n := len(m.Minutes)
		if n == 0 || m.Minutes[n-1].At.Before(at) {
			m.Minutes = append(m.Minutes, Minute{At: at})
			n++
		}
		f := float64(end.Sub(from)) / float64(whole)
		last := &m.Minutes[n-1]
		last.Share += float64(end.Sub(from)) / float64(time.Minute)
		last.Busy += u.busy * f
		last.Batch += u.batch * f
		last.Steal += u.steal * f
		from = end
	}
	m.Minutes = slices.Delete(m.Minutes, 0, max(len(m.Minutes)-keptMinutes, 0))
}

// measured sums the minutes between two moments and says how many minutes were measured.
// A minute that lies partly within counts in proportion.
func (m *Memory) measured(from, to time.Time) (u usage, minutes float64) {
	for _, x := range m.Minutes[m.minuteOf(from):] {
		if !x.At.Before(to) {
			break
		}
		f := overlap(x.At, x.At.Add(time.Minute), from, to)
		u.busy += f * x.Busy
		u.batch += f * x.Batch
		u.steal += f * x.Steal
		minutes += f * x.Share
	}
	return u, minutes
}

// minuteOf returns the index of the first minute that ends after t.
func (m *Memory) minuteOf(t time.Time) int {
	return sort.Search(len(m.Minutes), func(i int) bool { return m.Minutes[i].At.Add(time.Minute).After(t) })
}

// overlap is how much of the span a–b lies between from and to, 0 to 1.
func overlap(a, b, from, to time.Time) float64 {
	start := a
	if from.After(start) {
		start = from
	}
	return max(0, float64(earlier(b, to).Sub(start))/float64(b.Sub(a)))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// hour returns the account of the clock hour of t, opening it if necessary.
func (m *Memory) hour(t time.Time) *Hour {
	at := t.UTC().Truncate(time.Hour)
	if n := len(m.Hours); n == 0 || m.Hours[n-1].At.Before(at) {
		m.Hours = append(m.Hours, Hour{At: at})
		m.Hours = slices.Delete(m.Hours, 0, max(len(m.Hours)-keptHours, 0))
	}
	return &m.Hours[len(m.Hours)-1]
}

// addToHour adds what happened to the account of the hour, and what is charged to the bill.
func (m *Memory) addToHour(at time.Time, a Account) {
	h := m.hour(at)
	h.Account = h.Add(a)
	m.Bill = m.Bill.add(at, a.Charged)
}

// since sums the hours that end after t.
func (m *Memory) since(t time.Time) Hour {
	sum := Hour{At: t}
	for _, h := range m.Hours {
		if h.At.Add(time.Hour).After(t) {
			sum.Services += h.Services
			sum.Batch += h.Batch
			sum.Account = sum.Add(h.Account)
		}
	}
	return sum
}
