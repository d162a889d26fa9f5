package rehearsal

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Column is a part of a rehearsal as the plot shows it.
type Column struct {
	// Lowest is the bank's lowest position; infinite where the part is shorter than a step.
	Lowest float64
	// Jobs is what jobs spent, Throttled what services wanted and did not get, in credits.
	Jobs, Throttled float64
}

const (
	plotColumns = 72
	plotRows    = 8
)

// note adds a step to its column.
func (w *instance) note(position, jobs, throttled float64) {
	if w.plot == nil {
		w.plot = make([]Column, plotColumns)
		for i := range w.plot {
			w.plot[i].Lowest = math.Inf(1)
		}
	}
	// The time is that of the step's end.
	i := int(float64(w.now.Sub(w.start)-1) / float64(w.o.Length) * plotColumns)
	c := &w.plot[min(max(i, 0), plotColumns-1)]
	c.Lowest = min(c.Lowest, position)
	c.Jobs += jobs
	c.Throttled += throttled
}

// plotText draws the lowest balance, when jobs ran and when services were throttled.
func (r Report) plotText(x Result, most float64) string {
	var w strings.Builder
	fmt.Fprintf(&w, "lowest balance with the policy %s, in parts of %s\n", x.Policy, strings.TrimSuffix((r.To.Sub(r.From)/plotColumns).Round(time.Minute).String(), "0s"))
	for row := plotRows; row > 0; row-- {
		label := ""
		if row%2 == 0 {
			label = fmt.Sprintf("%.0f", most*float64(row)/plotRows)
		}
		line := x.marks("#", func(c Column) bool { return c.Lowest >= most*(float64(row)-0.5)/plotRows })
		fmt.Fprintf(&w, "%10s |%s\n", label, line)
	}
	fmt.Fprintf(&w, "%10s +%s\n", "0", strings.Repeat("-", plotColumns))
	for _, row := range []struct {
		name, mark string
		is         func(Column) bool
	}{
		{"jobs run", "=", func(c Column) bool { return c.Jobs > tiny }},
		{"throttled", "!", func(c Column) bool { return c.Throttled > tiny }},
		{"owed", "$", func(c Column) bool { return c.Lowest < -tiny }},
	} {
		if line := x.marks(row.mark, row.is); line != "" {
			fmt.Fprintf(&w, "%10s  %s\n", row.name, line)
		}
	}
	const form = "2006-01-02 15:04"
	fmt.Fprintf(&w, "%10s  %-*s%s\n", "", plotColumns-len(form), r.From.Format(form), r.To.Format(form))
	return w.String()
}

// marks is a line with a mark in each column that is so.
func (x Result) marks(mark string, is func(Column) bool) string {
	var line strings.Builder
	for _, c := range x.Plot {
		if is(c) {
			line.WriteString(mark)
		} else {
			line.WriteByte(' ')
		}
	}
	return strings.TrimRight(line.String(), " ")
}

// At the baseline a throttled instance uses what it earns, within plateauWidth of it, and steadily for plateauLeast.
const (
	plateauWidth = 0.03
	plateauLeast = time.Hour
)

// plateau is how long values stand at one value, for some time each time.
func (t Trace) plateau(value float64) (sum time.Duration) {
	run := 0
	for i := range len(t.Values) + 1 {
		if i < len(t.Values) && math.Abs(t.Values[i]-value) <= plateauWidth*value {
			run++
			continue
		}
		if span := time.Duration(run) * t.Step; span >= plateauLeast {
			sum += span
		}
		run = 0
	}
	return sum
}
