package rehearsal

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Schedule is a cron line's five fields, in a time zone.
type Schedule struct {
	minute, hour, day, month, weekday uint64 // bit i stands for the value i
	// anyDay and anyWeekday are true for a star: if neither is, one of the two is enough.
	anyDay, anyWeekday bool
	zone               *time.Location
}

var (
	monthNames = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}
	dayNames   = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}
	nicknames  = map[string]string{
		"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
		"@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
	}
)

// ParseSchedule reads the five time fields of crontab(5), with its names, ranges, steps and nicknames.
func ParseSchedule(text string, zone *time.Location) (Schedule, error) {
	if long, ok := nicknames[strings.TrimSpace(text)]; ok {
		text = long
	}
	f := strings.Fields(text)
	if len(f) != 5 {
		return Schedule{}, fmt.Errorf("%.80q has %d fields; cron has five: minute hour day month weekday", text, len(f))
	}
	s := Schedule{zone: zone, anyDay: strings.HasPrefix(f[2], "*"), anyWeekday: strings.HasPrefix(f[4], "*")}
	for _, x := range []struct {
		to        *uint64
		text      string
		what      string
		low, high int
		names     []string
		first     int
	}{
		{&s.minute, f[0], "minute", 0, 59, nil, 0},
		{&s.hour, f[1], "hour", 0, 23, nil, 0},
		{&s.day, f[2], "day of the month", 1, 31, nil, 0},
		{&s.month, f[3], "month", 1, 12, monthNames, 1},
		{&s.weekday, f[4], "day of the week", 0, 7, dayNames, 0},
	} {
		for _, part := range strings.Split(x.text, ",") {
			bits, err := cronPart(part, x.low, x.high, x.names, x.first)
			if err != nil {
				return Schedule{}, fmt.Errorf("the %s %.40q: %w", x.what, x.text, err)
			}
			*x.to |= bits
		}
	}
	if s.weekday&(1<<7) != 0 {
		s.weekday |= 1 // 7 is Sunday as well
	}
	return s, nil
}

func cronPart(part string, low, high int, names []string, first int) (uint64, error) {
	span, stepText, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		n, err := strconv.Atoi(stepText)
		if err != nil || n < 1 || n > high {
			return 0, fmt.Errorf("the step %.20q is not 1 to %d", stepText, high)
		}
		step = n
	}
	number := func(text string) (int, error) {
		for i, name := range names {
			if strings.EqualFold(text, name) {
				return i + first, nil
			}
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("%.20q is not %d to %d", text, low, high)
		}
		return n, nil
	}
	from, to := low, high
	if span != "*" {
		a, b, ranged := strings.Cut(span, "-")
		var err error
		if from, err = number(a); err != nil {
			return 0, err
		}
		switch {
		case ranged:
			if to, err = number(b); err != nil {
				return 0, err
			}
		case !stepped:
			to = from
		}
		if to < from {
			return 0, fmt.Errorf("%.20q runs backwards", span)
		}
	}
	var bits uint64
	for i := from; i <= to; i += step {
		bits |= 1 << i
	}
	return bits, nil
}

// Between returns the moments of the schedule from one moment up to, but without, another.
// A local time that a change of the clocks leaves out is taken an hour later, and one
// that it repeats is taken once.
func (s Schedule) Between(from, to time.Time) []time.Time {
	var all []time.Time
	at := from.In(s.zone)
	for day := time.Date(at.Year(), at.Month(), at.Day(), 12, 0, 0, 0, s.zone); day.Add(-24 * time.Hour).Before(to); day = day.AddDate(0, 0, 1) {
		if !s.on(day) {
			continue
		}
		for h := range 24 {
			for m := range 60 {
				if s.hour&(1<<h) == 0 || s.minute&(1<<m) == 0 {
					continue
				}
				t := time.Date(day.Year(), day.Month(), day.Day(), h, m, 0, 0, s.zone)
				if !t.Before(from) && t.Before(to) {
					all = append(all, t.UTC())
				}
			}
		}
	}
	return all
}

func (s Schedule) on(day time.Time) bool {
	if s.month&(1<<int(day.Month())) == 0 {
		return false
	}
	inMonth, inWeek := s.day&(1<<day.Day()) != 0, s.weekday&(1<<int(day.Weekday())) != 0
	if !s.anyDay && !s.anyWeekday {
		return inMonth || inWeek
	}
	return inMonth && inWeek
}
