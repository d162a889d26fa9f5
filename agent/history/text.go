package history

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

const (
	columns = 72
	rows    = 8
)

// Text draws the records of a time in columns: the balance, who spent credits, and when the gate was open.
func Text(all []Record, from, to time.Time) string {
	var w strings.Builder
	if len(all) == 0 {
		return fmt.Sprintf("Nothing was recorded between %s and %s.\n", clock(from), clock(to))
	}
	n := min(columns, max(1, int(to.Sub(from)/time.Minute))) // what was recorded is not drawn finer than it was
	width := to.Sub(from) / time.Duration(n)
	var parts []Record
	for i := range n {
		start, end := from.Add(time.Duration(i)*width), from.Add(time.Duration(i+1)*width)
		of := slices.DeleteFunc(slices.Clone(all), func(r Record) bool { return r.Start.Before(start) || !r.Start.Before(end) })
		parts = append(parts, slices.Repeat([]Record{Merge(start, of)}, columns/n)...)
	}
	fmt.Fprintf(&w, "%s to %s, in parts of %s\n", clock(from), clock(to), strings.TrimSuffix(width.Round(time.Minute).String(), "0s"))
	plot(&w, "balance", parts, '#', func(r Record) Value { return r.Balance })
	plot(&w, "spent by services (s) and batches (b) in an hour", parts, 's', func(r Record) Value { return hourly(r.Services, r) }, func(r Record) Value { return hourly(r.Services+r.Batches, r) })
	for _, line := range []struct {
		name, mark string
		is         func(Record) bool
	}{
		{"gate open", "=", func(r Record) bool { return r.Open >= 0.5 }},
		{"thrown away", "~", func(r Record) bool { return r.Discarded >= 0.05 }},
		{"charged", "$", func(r Record) bool { return r.Charged > 0 }},
		// A minute is written once it is over.
		{"agent off", "x", func(r Record) bool { return !r.Watched.Known() && r.Start.Before(to.Add(-2*time.Minute)) }},
	} {
		var marks strings.Builder
		for _, p := range parts {
			if line.is(p) {
				marks.WriteString(line.mark)
			} else {
				marks.WriteByte(' ')
			}
		}
		if text := strings.TrimRight(marks.String(), " "); text != "" {
			fmt.Fprintf(&w, "%11s  %s\n", line.name, text)
		}
	}
	t := Merge(from, all)
	fmt.Fprintf(&w, "\nearned %s, services %s, batches %s, thrown away %s, charged %s; the gate was open %s of the time; reloads of nginx: %s\n",
		number(t.Earned), number(t.Services), number(t.Batches), number(t.Discarded), number(t.Charged), percent(t.Open), number(t.Reloads))
	return w.String()
}

// plot draws one value, and above it up to a second one with the letter b.
func plot(w *strings.Builder, title string, parts []Record, mark byte, of ...func(Record) Value) {
	most := Value(0)
	for _, p := range parts {
		for _, f := range of {
			if v := f(p); v.Known() {
				most = max(most, v)
			}
		}
	}
	fmt.Fprintf(w, "\n%11s  %s\n", "", title)
	if most == 0 {
		most = 1
	}
	for row := rows; row > 0; row-- {
		label := ""
		if row%2 == 0 {
			label = number(most * Value(row) / rows)
		}
		level := most * (Value(row) - 0.5) / rows
		line := make([]byte, len(parts))
		for i, p := range parts {
			line[i] = ' '
			switch {
			case of[0](p) >= level:
				line[i] = mark
			case len(of) > 1 && of[1](p) >= level:
				line[i] = 'b'
			}
		}
		fmt.Fprintf(w, "%11s |%s\n", label, strings.TrimRight(string(line), " "))
	}
	fmt.Fprintf(w, "%11s +%s\n", "0", strings.Repeat("-", len(parts)))
}

// hourly is what a sum of a record would be in an hour, by the time that was recorded of it.
func hourly(v Value, r Record) Value { return v * 3600 / max(r.Watched, 1) }

func clock(t time.Time) string { return t.Format("2006-01-02 15:04 MST") }

func number(v Value) string {
	switch {
	case !v.Known():
		return "unknown"
	case math.Abs(float64(v)) >= 99.95 || v == Value(math.Trunc(float64(v))):
		return fmt.Sprintf("%.0f", float64(v))
	}
	return fmt.Sprintf("%.1f", float64(v))
}

func percent(v Value) string {
	if !v.Known() {
		return "an unknown part"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(v))
}
