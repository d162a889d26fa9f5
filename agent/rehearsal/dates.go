package rehearsal

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"time"
)

// numericDate is a date in numbers whose year is last: day and month stand in the one order or the other. Points between them are
// for the day first, by custom.
var numericDate = regexp.MustCompile(`^\s*(\d{1,2})([/.-])(\d{1,2})[/.-](\d{4}|\d\d)((?:,? +|T).*)?$`)

// dateOrders are the orders of numbers in such a date.
var dateOrders = [2]string{"1/2/2006", "2/1/2006"}

const monthFirst, dayFirst = 0, 1

// numericTime reads such a time in an order.
func numericTime(text string, order int) (t time.Time, numeric, ok bool) {
	m := numericDate.FindStringSubmatch(text)
	if m == nil {
		return t, false, false
	}
	if m[2] == "." && order == monthFirst {
		return t, true, false
	}
	year := m[4]
	if len(year) == 2 {
		year = "20" + year
	}
	date := m[1] + "/" + m[3] + "/" + year
	clock := cmp.Or(strings.ToUpper(strings.TrimSpace(strings.TrimLeft(m[5], ", T"))), "00:00")
	for _, form := range []string{"15:04:05", "15:04", "3:04:05 PM", "3:04 PM", "3:04:05PM", "3:04PM"} {
		if t, err := time.Parse(dateOrders[order]+" "+form, date+" "+clock); err == nil {
			return t, true, true
		}
	}
	return t, true, false
}

// dateOrder finds the order of day and month in all lines: the one in which every line is a date, or, if both are, the one in
// which the dates follow each other closely.
func dateOrder(text []byte, comma rune) (int, error) {
	type reading struct {
		bad         int // the first line that is none
		badText     string
		first, last time.Time
	}
	var by [2]reading
	numbers, line, ambiguous := 0, 0, ""
	r := newCSV(text, comma)
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		for i := range min(len(row), 2) {
			var times [2]time.Time
			isNumeric := false
			at, _ := r.FieldPos(i)
			for o := range by {
				t, numeric, ok := numericTime(row[i], o)
				isNumeric = isNumeric || numeric
				switch b := &by[o]; {
				case !numeric:
				case !ok && b.bad == 0:
					b.bad, b.badText = at, row[i]
				case ok:
					if b.first.IsZero() || t.Before(b.first) {
						b.first = t
					}
					if t.After(b.last) {
						b.last = t
					}
					times[o] = t
				}
			}
			if isNumeric {
				if numbers++; ambiguous == "" && !times[0].Equal(times[1]) {
					line, ambiguous = at, row[i]
				}
				break
			}
		}
	}
	m, d := by[monthFirst], by[dayFirst]
	switch {
	case numbers == 0 || m.bad == 0 && d.bad > 0:
		return monthFirst, nil
	case m.bad > 0 && d.bad == 0:
		return dayFirst, nil
	case m.bad > 0:
		if d.bad > m.bad {
			m = d
		}
		return 0, notATime(fmt.Sprintf("line %d", m.bad), m.badText)
	}
	spans := [2]float64{m.last.Sub(m.first).Hours(), d.last.Sub(d.first).Hours()}
	switch {
	case ambiguous == "" || spans[monthFirst] < spans[dayFirst]/2:
		return monthFirst, nil
	case spans[dayFirst] < spans[monthFirst]/2:
		return dayFirst, nil
	}
	return 0, fmt.Errorf("line %d: day and month of %.40q may be mistaken for each other, and no other line tells: write 2026-03-02 04:05:00", line, ambiguous)
}

func notATime(where, text string) error {
	return fmt.Errorf("%s: %.40q is not a time such as 2026-03-02 04:05:00", where, text)
}

func newCSV(text []byte, comma rune) *csv.Reader {
	r := csv.NewReader(bytes.NewReader(text))
	r.Comma = comma
	r.FieldsPerRecord, r.TrimLeadingSpace, r.LazyQuotes, r.ReuseRecord = -1, comma != '\t', true, true
	return r
}

// clockTime is a time of day in a column of its own.
var clockTime = regexp.MustCompile(`^\s*\d{1,2}:\d\d(:\d\d(\.\d+)?)?(?i: ?[AP]M)?\s*$`)

// pointFields are the fields of a line without the word that begins those of the AWS CLI's text, and with date and time of day in one.
func pointFields(row []string) []string {
	if len(row) > 2 && row[0] == "DATAPOINTS" {
		row = row[1:]
	}
	if len(row) > 2 && clockTime.MatchString(row[1]) {
		row[1] = strings.TrimSpace(row[0]) + " " + strings.TrimSpace(row[1])
		row = row[1:]
	}
	return row
}

// unit is what a file says of the unit of its values, in headings or behind them.
type unit struct {
	percent, fraction bool
	most              float64
	line              string // of the first value
}

// heading reads a line before the first value.
func (u *unit) heading(row []string) {
	text := strings.ToLower(strings.Join(row, " "))
	for _, word := range []string{"percent", "per cent", "%", "cpuutilization"} { // CloudWatch's metric is in per cent
		u.percent = u.percent || strings.Contains(text, word)
	}
	u.fraction = u.fraction || strings.Contains(text, "fraction")
}

func (u *unit) value(where, text string, v float64) {
	if u.line == "" {
		u.line = where
	}
	u.percent = u.percent || strings.Contains(text, "%")
	u.most = math.Max(u.most, v)
}

// scale makes per cent of the values. If none is above 1, something must say what they are.
func (u *unit) scale(ps points) (points, error) {
	switch {
	case u.percent || u.most == 0 || u.most > 1:
		return ps, nil
	case !u.fraction:
		return nil, fmt.Errorf("%s: no value is above 1, which may be per cent or fractions: write a heading with the word percent or fraction, or a %% behind each value", u.line)
	}
	for i := range ps {
		ps[i].Value *= 100
	}
	return ps, nil
}

// otherMetrics begin the names of the metrics that CloudWatch and its agent have of an instance besides its CPU use.
var otherMetrics = regexp.MustCompile(`(?i)\b(idle|cpu_usage_idle|(mem|swap|disk)_|CPUCredit|CPUSurplus|Network(In|Out|Packets)|Disk(Read|Write)|EBS(Read|Write|IOBalance|ByteBalance)|StatusCheck|MetadataNoToken)\w*`)

// otherMetric names the metric that a heading or label tells of, if it is another than the CPU use.
func otherMetric(text string) string {
	if strings.Contains(strings.ToLower(text), "cpuutilization") {
		return ""
	}
	return otherMetrics.FindString(text)
}

// cpuColumn returns the only column that a heading calls CPUUtilization, behind a time and beside others; 0 is none.
func cpuColumn(row []string) (column int) {
	others := 0
	for i, name := range row {
		switch {
		case i == 0 || strings.TrimSpace(name) == "":
		case !strings.Contains(strings.ToLower(name), "cpuutilization"):
			others++
		case column > 0:
			return 0
		default:
			column = i
		}
	}
	if others == 0 {
		return 0
	}
	return column
}
