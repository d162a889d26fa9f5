package page

import (
	"html/template"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/report"
)

// functions are what the templates write values with. Times are in the host's zone, on a clock of 24 hours.
var functions = template.FuncMap{
	"when":    when,
	"minute":  func(t time.Time) string { return t.Local().Format("2006-01-02 15:04") },
	"step":    step,
	"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"unix":    func(at int64) time.Time { return time.Unix(at, 0) },
	"zone":    func(t time.Time) string { return t.Local().Format("MST, UTC-07:00") },
	"offset":  func(t time.Time) int { _, s := t.Local().Zone(); return s },
	"lines":   func(s string) []string { return strings.Split(s, "\n") },
	"number":  number,
	"summary": summary,
	"table":   table,
}

func when(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// step is the length of a span of a series.
func step(seconds int64) string {
	for _, unit := range []struct {
		length int64
		name   string
	}{{86400, "day"}, {3600, "hour"}, {60, "minute"}} {
		if n := seconds / unit.length; n == 1 && seconds%unit.length == 0 {
			return "a " + unit.name
		} else if n > 1 && seconds%unit.length == 0 {
			return strconv.FormatInt(n, 10) + " " + unit.name + "s"
		}
	}
	return strconv.FormatInt(seconds, 10) + " seconds"
}

// number has one decimal, and is a dash where it is not known.
func number(x float64) string {
	if math.IsNaN(x) {
		return "–"
	}
	return strconv.FormatFloat(x, 'f', 1, 64)
}

// summary is what a screen reader is told whenever it changes, so it has nothing that always does.
func summary(v report.View) string {
	live := 0
	for _, h := range v.Hosts {
		if h.State == "live" {
			live++
		}
	}
	text := "no problems"
	switch n := len(v.Problems); {
	case n == 1:
		text = "1 problem"
	case n > 1:
		text = strconv.Itoa(n) + " problems"
	}
	return text + ", " + strconv.Itoa(live) + " of " + strconv.Itoa(len(v.Hosts)) + " hosts live, gate " + v.Gate.Word
}

// row is one of a table of a series.
type row struct {
	At    time.Time
	Cells []string
}

// table has the named columns of a series, the newest row first.
func table(s report.Series, names ...string) (rows []row) {
	for i := len(s.Times) - 1; i >= 0; i-- {
		r := row{At: time.Unix(s.Times[i], 0)}
		for _, name := range names {
			x := math.NaN()
			if c := s.Column(name); i < len(c) {
				x = c[i]
			}
			r.Cells = append(r.Cells, number(x))
		}
		rows = append(rows, r)
	}
	return rows
}
