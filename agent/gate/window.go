package gate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Window is a part of the week in which batches may start, by the wall clock of a place: an hour that summer
// time skips is not there, and one that it repeats is there twice.
type Window struct {
	text string
	days [7]bool // on which it begins, by time.Weekday
	// from and to are minutes since midnight; one that ends before it begins ends on the next day.
	from, to int
	zone     *time.Location
}

// windowForm says how a window is written, for people.
const windowForm = "[DAY or DAY-DAY] HH:MM-HH:MM [ZONE], e.g. 22:00-06:00 Asia/Tokyo or Sat-Sun 00:00-24:00; without a zone it is UTC"

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const minutesOfDay = 24 * 60

// parseWindow reads a window in the form of windowForm. The days are those on which it begins, all without one. Zones
// are looked up by zone, which time.LoadLocation is.
func parseWindow(text string, zone func(string) (*time.Location, error)) (Window, error) {
	words := strings.Fields(text)
	w := Window{text: strings.Join(words, " "), zone: time.UTC}
	days := "sun-sat"
	if len(words) > 0 && !strings.Contains(words[0], ":") {
		days, words = words[0], words[1:]
	}
	if err := w.setDays(days); err != nil {
		return w, err
	}
	if len(words) == 0 || len(words) > 2 {
		return w, fmt.Errorf("%.60q is not of the form %s", text, windowForm)
	}
	first, last, _ := strings.Cut(words[0], "-")
	var ok, also bool
	w.from, ok = clockTime(first)
	w.to, also = clockTime(last)
	switch {
	case !ok || !also || w.from == minutesOfDay:
		return w, fmt.Errorf("%.40q is not a span of the day such as 22:00-06:00", words[0])
	case w.from == w.to:
		return w, fmt.Errorf("%.40q begins when it ends; write 00:00-24:00 for whole days", words[0])
	}
	if len(words) == 2 {
		// "Local" is whatever the machine is set to, which the text does not show.
		loc, err := zone(words[1])
		if err != nil || words[1] == "Local" {
			return w, fmt.Errorf("the time zone %.60q is not known; write UTC or one such as Asia/Tokyo", words[1])
		}
		w.zone = loc
	}
	return w, nil
}

func (w *Window) setDays(text string) error {
	first, last, ranged := strings.Cut(strings.ToLower(text), "-")
	if !ranged {
		last = first
	}
	a, b := slices.Index(weekdays, first), slices.Index(weekdays, last)
	if a < 0 || b < 0 {
		return fmt.Errorf("%.40q is neither a day such as Sat nor days such as Mon-Fri", text)
	}
	for i := range (b-a+7)%7 + 1 {
		w.days[(a+i)%7] = true
	}
	return nil
}

// clockTime reads HH:MM, 24:00 included, as minutes since midnight.
func clockTime(text string) (int, bool) {
	if text == "24:00" {
		return minutesOfDay, true
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil && len(text) == len("15:04")
}

// String returns the window as it is written.
func (w Window) String() string { return w.text }

// MarshalText writes the window as it is written.
func (w Window) MarshalText() ([]byte, error) { return []byte(w.text), nil }

// open reports whether t is in the window.
func (w Window) open(t time.Time) bool {
	t = t.In(w.zone)
	today, yesterday := w.days[t.Weekday()], w.days[(t.Weekday()+6)%7]
	m := t.Hour()*60 + t.Minute()
	if w.to > w.from {
		return today && w.from <= m && m < w.to
	}
	return today && m >= w.from || yesterday && m < w.to
}

// edge is the next moment after t at which the window may begin or end.
func (w Window) edge(t time.Time) time.Time {
	t = t.In(w.zone)
	into := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
	next := 24*time.Hour - into
	for _, m := range []int{w.from, w.to} {
		if d := time.Duration(m)*time.Minute - into; d > 0 && d < next {
			next = d
		}
	}
	// Where the clock is set forward or back, what comes behind it is at another distance.
	if _, end := t.ZoneBounds(); !end.IsZero() && end.Sub(t) < next {
		return end
	}
	return t.Add(next)
}

// Windows are all windows together: batches may start in each. None at all is no restriction.
type Windows []Window

// parseWindows reads several windows. All that is wrong is in the error.
func parseWindows(texts []string, zone func(string) (*time.Location, error)) (Windows, error) {
	var all Windows
	var errs []error
	for _, text := range texts {
		w, err := parseWindow(text, zone)
		if err != nil {
			errs = append(errs, err)
		}
		all = append(all, w)
	}
	return all, errors.Join(errs...)
}

// Open reports whether batches may start at t.
func (ws Windows) Open(t time.Time) bool {
	return len(ws) == 0 || slices.ContainsFunc(ws, func(w Window) bool { return w.open(t) })
}

// mostAhead is how far a change is looked for. Windows repeat each week, but for changes of the clock.
const mostAhead = 9 * 24 * time.Hour

// Change is the first moment after t at which Open is not what it is at t; zero when there is none.
func (ws Windows) Change(t time.Time) time.Time {
	if len(ws) == 0 {
		return time.Time{}
	}
	for at, was := t, ws.Open(t); at.Sub(t) < mostAhead; {
		next := ws[0].edge(at)
		for _, w := range ws[1:] {
			if e := w.edge(at); e.Before(next) {
				next = e
			}
		}
		if at = next; ws.Open(at) != was {
			return at.UTC()
		}
	}
	return time.Time{}
}

// lastBefore is the end of the last open span that begins after from and not after t, or t itself when it is open. It is
// false when there is none.
func (ws Windows) lastBefore(from, t time.Time) (time.Time, bool) {
	if ws.Open(t) {
		return t, true
	}
	if oldest := t.Add(-mostAhead); from.Before(oldest) {
		from = oldest
	}
	var last time.Time
	for at := from; ; {
		next := ws.Change(at)
		if next.IsZero() || next.After(t) {
			return last, !last.IsZero()
		}
		if ws.Open(at) {
			last = next
		}
		at = next
	}
}

// closed says why no batch may start at t; empty when one may.
func (ws Windows) closed(t time.Time) string {
	if ws.Open(t) {
		return ""
	}
	why := fmt.Sprintf("it is outside the windows (%s)", ws)
	if next := ws.Change(t); !next.IsZero() {
		why += "; the next begins at " + clock(next)
	}
	return why
}

func (ws Windows) texts() []string {
	var all []string
	for _, w := range ws {
		all = append(all, w.text)
	}
	return all
}

// String joins the windows for people.
func (ws Windows) String() string { return strings.Join(ws.texts(), ", ") }

// lastMinute is how long before its window ends a job that cannot wait for the next must start.
const lastMinute = time.Minute

// moveIntoWindows moves the latest start of jobs that would have to start while no window is open to the end of the
// last one before it. A job for which there is none has the latest start that it had.
func (s *State) moveIntoWindows(ws Windows, now time.Time) {
	if len(ws) == 0 {
		return
	}
	for i := range s.Jobs {
		e := &s.Jobs[i]
		if e.LatestStart.IsZero() || e.Phase != Waiting || ws.Open(e.LatestStart) {
			continue
		}
		if end, ok := ws.lastBefore(now, e.LatestStart); ok {
			e.LatestStart = end.Add(-lastMinute)
		}
	}
}
