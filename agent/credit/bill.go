package credit

import "time"

// Bill is the surplus that was charged in the present day and month, in UTC as AWS bills.
type Bill struct {
	Day     time.Time `json:"day,omitzero"`
	Month   time.Time `json:"month,omitzero"`
	OfDay   float64   `json:"of_day,omitempty"`
	OfMonth float64   `json:"of_month,omitempty"`
}

// at returns the bill as of a time: a new day and a new month begin with nothing. A clock that was set back
// does not make a bill less.
func (b Bill) at(t time.Time) Bill {
	t = t.UTC()
	if day := t.Truncate(24 * time.Hour); day.After(b.Day) {
		b.Day, b.OfDay = day, 0
	}
	if month := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC); month.After(b.Month) {
		b.Month, b.OfMonth = month, 0
	}
	return b
}

func (b Bill) add(t time.Time, credits float64) Bill {
	b = b.at(t)
	b.OfDay += credits
	b.OfMonth += credits
	return b
}
