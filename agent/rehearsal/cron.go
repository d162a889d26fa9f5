package rehearsal

import (
	"fmt"
	"regexp"
	"slices"
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

// field is one of the five fields; names stand for its values from low on.
type field struct {
	what      string
	low, high int
	names     []string
}

var (
	fields = []field{
		{what: "minute", high: 59},
		{what: "hour", high: 23},
		{what: "day of the month", low: 1, high: 31},
		{"month", 1, 12, []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
		{"day of the week", 0, 7, []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
	}
	nicknames = map[string]string{
		"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
		"@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
	}
)

// relativeDay is one that EventBridge counts from the end of the month, by working days or by weeks.
var relativeDay = regexp.MustCompile(`#|\dW|\d?L`)

// fromEventBridge turns a schedule expression of EventBridge into a cron line: cron(minute hour day month weekday year), in which
// Sunday is 1, and rate(number unit), where it divides an hour or a day.
func fromEventBridge(text string) (string, error) {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "cron("); ok {
		words := strings.Fields(strings.ReplaceAll(strings.TrimSuffix(inner, ")"), "?", "*"))
		if len(words) != 6 || words[5] != "*" {
			return "", fmt.Errorf("%.80q is not cron(minute hour day month weekday *)", text)
		}
		if relativeDay.MatchString(words[2] + " " + words[4]) {
			return "", fmt.Errorf("%.80q: days with L, W or # are not known here; write them as times", text)
		}
		days, step, stepped := strings.Cut(words[4], "/")
		days = strings.Map(func(c rune) rune {
			if c >= '1' && c <= '7' {
				return c - 1
			}
			return c
		}, days)
		if words[4] = days; stepped {
			words[4] += "/" + step
		}
		return strings.Join(words[:5], " "), nil
	}
	inner, ok := strings.CutPrefix(text, "rate(")
	if !ok {
		return text, nil
	}
	number, unit, _ := strings.Cut(strings.TrimSuffix(inner, ")"), " ")
	n, err := strconv.Atoi(number)
	unit = strings.TrimSuffix(unit, "s")
	switch {
	case err == nil && unit == "minute" && n > 0 && 60%n == 0:
		return fmt.Sprintf("*/%d * * * *", min(n, 59)), nil
	case err == nil && unit == "hour" && n > 0 && 24%n == 0:
		return fmt.Sprintf("0 */%d * * *", min(n, 23)), nil
	case err == nil && unit == "day" && n == 1:
		return "@daily", nil
	}
	return "", fmt.Errorf("%.80q is not a number of minutes that divides an hour, of hours that divides a day, or rate(1 day)", text)
}

// parseSchedule reads the five time fields of crontab(5), with its names, ranges, steps and nicknames, or an expression of
// EventBridge.
func parseSchedule(text string, zone *time.Location) (Schedule, error) {
	text, err := fromEventBridge(text)
	if err != nil {
		return Schedule{}, err
	}
	if long, ok := nicknames[strings.TrimSpace(text)]; ok {
		text = long
	}
	words := strings.Fields(text)
	if len(words) != len(fields) {
		return Schedule{}, fmt.Errorf("%.80q has %d fields; cron has five: minute hour day month weekday", text, len(words))
	}
	s := Schedule{zone: zone, anyDay: strings.HasPrefix(words[2], "*"), anyWeekday: strings.HasPrefix(words[4], "*")}
	for i, set := range []*uint64{&s.minute, &s.hour, &s.day, &s.month, &s.weekday} {
		for part := range strings.SplitSeq(words[i], ",") {
			bits, err := fields[i].parse(part)
			if err != nil {
				return Schedule{}, fmt.Errorf("the %s %.40q: %w", fields[i].what, words[i], err)
			}
			*set |= bits
		}
	}
	s.weekday |= s.weekday >> 7 & 1 // 7 is Sunday as well
	return s, nil
}

// parse reads a value, a range or a star, with or without a step.
func (f field) parse(part string) (bits uint64, err error) {
	span, stepText, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		if step, err = strconv.Atoi(stepText); err != nil || step < 1 || step > f.high {
			return 0, fmt.Errorf("the step %.20q is not 1 to %d", stepText, f.high)
		}
	}
	from, to := f.low, f.high
	if span != "*" {
		first, last, ranged := strings.Cut(span, "-")
		if from, err = f.value(first); err != nil {
			return 0, err
		}
		if ranged {
			if to, err = f.value(last); err != nil {
				return 0, err
			}
		} else if !stepped {
			to = from
		}
		if to < from {
			return 0, fmt.Errorf("%.20q runs backwards", span)
		}
	}
	for i := from; i <= to; i += step {
		bits |= 1 << i
	}
	return bits, nil
}

func (f field) value(text string) (int, error) {
	if i := slices.Index(f.names, strings.ToLower(text)); i >= 0 {
		return f.low + i, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < f.low || n > f.high {
		return 0, fmt.Errorf("%.20q is not %d to %d", text, f.low, f.high)
	}
	return n, nil
}

// Between returns the moments of the schedule from one moment up to, but without, another.
// A local time that a change of the clocks leaves out is taken an hour later, and one
// that it repeats is taken once.
func (s Schedule) Between(from, to time.Time) []time.Time {
	var all []time.Time
	at := from.In(s.zone)
	for day := time.Date(at.Year(), at.Month(), at.Day(), 12, 0, 0, 0, s.zone); day.Add(-24 * time.Hour).Before(to); day = day.AddDate(0, 0, 1) {
		for m := range 24 * 60 {
			if s.hour&(1<<(m/60)) == 0 || s.minute&(1<<(m%60)) == 0 || !s.on(day) {
				continue
			}
			t := time.Date(day.Year(), day.Month(), day.Day(), 0, m, 0, 0, s.zone)
			if !t.Before(from) && t.Before(to) {
				all = append(all, t.UTC())
			}
		}
	}
	return all
}

func (s Schedule) on(day time.Time) bool {
	inMonth, inWeek := s.day&(1<<day.Day()) != 0, s.weekday&(1<<int(day.Weekday())) != 0
	either := inMonth && inWeek || !s.anyDay && !s.anyWeekday && (inMonth || inWeek)
	return s.month&(1<<int(day.Month())) != 0 && either
}
