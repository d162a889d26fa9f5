package page

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	template "github.com/DataDog/datadog-agent/pkg/template/html" // that of Go keeps the linker from leaving out what is not called

	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/report"
)

// functions are what the templates write values with. Times are in the host's zone, on a clock of 24 hours.
var functions = template.FuncMap{
	"when":     when,
	"known":    func(t time.Time) bool { return !t.IsZero() }, // templates call no methods
	"minute":   func(t time.Time) string { return t.Local().Format("2006-01-02 15:04") },
	"step":     step,
	"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"unix":     func(at int64) time.Time { return time.Unix(at, 0) },
	"zone":     func(t time.Time) string { return t.Local().Format("MST, UTC-07:00") },
	"offset":   func(t time.Time) int { _, s := t.Local().Zone(); return s },
	"count":    func(x float64) string { return decimals(x, 0) },
	"lines":    func(s string) []string { return strings.Split(s, "\n") },
	"number":   func(x float64) string { return decimals(x, 1) },
	"summary":  summary,
	"table":    func(s report.Series, names ...string) []row { return table(s, 1, names) },
	"counts":   func(s report.Series, names ...string) []row { return table(s, 0, names) },
	"served":   inTime,
	"together": together,
	"since":    nameOf,
	"figures":  report.Event.Figures,
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

// decimals writes a number with so many decimals, and a dash where it is not known.
func decimals(x float64, n int) string {
	if math.IsNaN(x) {
		return "–"
	}
	return strconv.FormatFloat(x, 'f', n, 64)
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
	if n := len(v.Problems); n > 0 {
		text = problem.Counted(n, "problem")
	}
	return fmt.Sprintf("%s, %d of %s live, gate %s", text, live, problem.Counted(len(v.Hosts), "host"), v.Gate.Word)
}

// row is one of a table of a series.
type row struct {
	At    time.Time
	Cells []string
}

// table has the named columns of a series with so many decimals, the newest row first.
func table(s report.Series, n int, names []string) (rows []row) {
	for i := len(s.Times) - 1; i >= 0; i-- {
		r := row{At: time.Unix(s.Times[i], 0)}
		for _, name := range names {
			x := math.NaN()
			if c := s.Column(name); i < len(c) {
				x = c[i]
			}
			r.Cells = append(r.Cells, decimals(x, n))
		}
		rows = append(rows, r)
	}
	return rows
}

// host is what a host has served in the time that is shown.
type host struct {
	Requests, Errors float64
	// Line are the points of a line through its requests, in a picture of 120 by 24.
	Line string
}

// inTime finds a host in what was recorded; nil where nothing of it was.
func inTime(s hosted, name string) *host {
	i, ok := slices.BinarySearchFunc(s.Hosts, name, func(h report.ServedHost, name string) int { return strings.Compare(h.Host, name) })
	if !ok {
		return nil
	}
	h, most := host{}, 1.0
	for k, x := range s.Hosts[i].Requests {
		h.Requests += x
		h.Errors += s.Hosts[i].Errors[k]
		most = max(most, x)
	}
	line, last := []byte{}, max(1, len(s.Times)-1)
	for k, x := range s.Hosts[i].Requests {
		line = strconv.AppendInt(line, int64(120*k/last), 10)
		line = append(line, ',')
		line = strconv.AppendInt(line, int64(math.Round(23-22*x/most)), 10)
		line = append(line, ' ')
	}
	h.Line = string(line)
	return &h
}

// together is what all hosts have served in the spans of one host.
func together(s hosted) report.Series {
	out := report.Series{Step: s.Step, Times: s.Times}
	for _, name := range []string{"requests", "errors", "bytes"} {
		out.Columns = append(out.Columns, report.Column{Name: name, Values: make(report.Values, len(s.Times))})
	}
	for _, h := range s.Hosts {
		for k := range s.Times {
			out.Columns[0].Values[k] += h.Requests[k]
			out.Columns[1].Values[k] += h.Errors[k]
			out.Columns[2].Values[k] += h.Bytes[k]
		}
	}
	return out
}

// nameOf is the word for a time that is shown.
func nameOf(since string) string {
	for _, r := range ranges {
		if r.Since == since {
			return r.Name
		}
	}
	return since
}
