package rehearsal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/nagaya-ecs/nagaya/agent/credit"
)

// Trace is the services' recorded use of CPU, at a regular step.
type Trace struct {
	Start time.Time     `json:"start"`
	Step  time.Duration `json:"step"`
	// Values are per cent of all vCPUs of the machine that was recorded.
	Values []float64 `json:"values"`
	// Filled is the number of values that were missing and are the one before. Stopped is the number of those that were
	// missing for more than an hour: the instance was stopped then, and they are 0.
	Filled  int `json:"filled,omitempty"`
	Stopped int `json:"stopped,omitempty"`
}

const (
	// MaxTrace bounds the text of a trace, in bytes.
	MaxTrace  = 64 << 20
	maxValues = 1_100_000 // two years of minutes
	// mostFilled is the share of missing values from which on a trace is none.
	mostFilled = 0.5
	// mostStopped is the same for all that are missing, when the instance was stopped included.
	mostStopped = 0.9
	// stopped is how long no value may be missing before the instance counts as stopped.
	stopped = time.Hour
)

// ReadPoints reads the points of a trace; Regular makes a trace of them. The text has one of these forms:
//
//   - CSV with a time and a value in each line, in either order, separated by commas, semicolons or tabs. Of several columns of
//     values the one counts that the heading calls CPUUtilization.
//   - The CSV that CloudWatch's console exports, whose first lines describe the metric.
//   - The JSON of 'aws cloudwatch get-metric-statistics' or get-metric-data, the list of data points alone, or what the former
//     prints with --output text.
//
// Points may come in any order. A missing value is the one before, or 0 if more than an hour is missing. Times without a zone are UTC.
// Dates such as 3/2/2026 are read where all lines together say which number is the day. A moment may not have two values
// that differ. The error names the line, or that moment. Points of several files can be put together.
func ReadPoints(text []byte) ([]credit.Measure, error) {
	if len(text) > MaxTrace {
		return nil, fmt.Errorf("it is larger than %d MiB", MaxTrace>>20)
	}
	if bytes.HasPrefix(text, []byte("\x1f\x8b")) {
		return nil, errors.New("it is compressed; unpack it with gunzip")
	}
	text = bytes.TrimPrefix(fromUTF16(text), []byte("\ufeff"))
	read := csvPoints
	if start := bytes.TrimSpace(text); bytes.HasPrefix(start, []byte("{")) || bytes.HasPrefix(start, []byte("[")) {
		read = jsonPoints
	}
	ps, err := read(text)
	if err != nil {
		return nil, err
	}
	return ps, ps.contradiction()
}

// contradiction says which moment has two values that differ, as an hour has in local times when summer time ends.
func (ps points) contradiction() error {
	sorted := slices.SortedStableFunc(slices.Values(ps), func(a, b credit.Measure) int { return a.At.Compare(b.At) })
	for i, p := range sorted[:max(0, len(sorted)-1)] {
		if next := sorted[i+1]; next.At.Equal(p.At) && next.Value != p.Value {
			return fmt.Errorf("%s has two values, %v and %v; give one, and times in UTC if these are local ones where summer time ended",
				p.At.Format(time.DateTime), p.Value, next.Value)
		}
	}
	return nil
}

// fromUTF16 is for what Windows' PowerShell and spreadsheets write: a byte order mark tells of it.
func fromUTF16(text []byte) []byte {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(text, []byte("\xff\xfe")):
		order = binary.LittleEndian
	case bytes.HasPrefix(text, []byte("\xfe\xff")):
		order = binary.BigEndian
	default:
		return text
	}
	units := make([]uint16, len(text)/2)
	for i := range units {
		units[i] = order.Uint16(text[2*i:])
	}
	return []byte(string(utf16.Decode(units)))
}

// timeForms are how people and programs write the time of a point. Names of zones other than UTC are none: time.Parse would take them for UTC.
var timeForms = []string{
	time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly,
	"2006/01/02 15:04:05", "2006/01/02 15:04", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z0700", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04Z07:00",
	"2006-01-02 15:04:05 UTC", "2006-01-02 15:04:05 GMT", "2006-01-02 15:04:05 -0700",
}

func pointTime(text string) (time.Time, bool) {
	text = strings.TrimSpace(text)
	for _, form := range timeForms {
		if t, err := time.Parse(form, text); err == nil {
			return t.UTC(), true
		}
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && s >= 1e8 && s < 1e14 {
		if s < 1e11 {
			s *= 1000 // seconds
		}
		return time.UnixMilli(int64(s)).UTC(), true
	}
	return time.Time{}, false
}

// points gathers the points of a trace; where says where a faulty one stands.
type points []credit.Measure

func (ps *points) add(where string, at string, v float64) error {
	t, ok := pointTime(at)
	switch {
	case !ok:
		return notATime(where, at)
	case !(v >= 0 && v <= 101):
		return fmt.Errorf("%s: %v is not 0 to 100 per cent", where, v)
	case len(*ps) >= maxValues:
		return fmt.Errorf("%s: more than %d values", where, maxValues)
	}
	*ps = append(*ps, credit.Measure{At: t, Value: min(v, 100)})
	return nil
}

// separator is what stands between the fields: the first of tab, semicolon and comma that the last line has.
func separator(text []byte) rune {
	text = bytes.TrimSpace(text)
	last := text[bytes.LastIndexByte(text, '\n')+1:]
	for _, c := range "\t;" {
		if bytes.ContainsRune(last, c) {
			return c
		}
	}
	return ','
}

// number reads a value, which has a decimal comma where the fields are not separated by commas.
func number(text string, comma bool) (float64, error) {
	text = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "%"))
	if comma {
		text = strings.Replace(text, ",", ".", 1)
	}
	return strconv.ParseFloat(text, 64)
}

// csvPoints reads the lines. Those before the first that has a time are a heading.
func csvPoints(text []byte) (ps points, err error) {
	comma := separator(text)
	order, err := dateOrder(text, comma)
	if err != nil {
		return nil, err
	}
	var u unit
	column := 0 // of the CPU use, if a heading names it among others
	r := newCSV(text, comma)
	var other error // what the last line is if it is no point
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			if len(ps) == 0 && other != nil {
				return nil, other
			}
			return u.scale(ps)
		}
		if err != nil {
			return nil, err
		}
		line, _ := r.FieldPos(0)
		where := fmt.Sprintf("line %d", line)
		row = pointFields(row)
		for i := range min(len(row), 2) {
			if t, _, ok := numericTime(row[i], order); ok {
				row[i] = t.Format(time.RFC3339)
			}
		}
		_, isTime := pointTime(row[0])
		if isTime && column > 0 {
			if column >= len(row) {
				return nil, fmt.Errorf("%s: there is no column %d, which the heading calls CPUUtilization", where, column+1)
			}
			row = []string{row[0], row[column]}
		}
		if !isTime && len(row) > 1 {
			if _, second := pointTime(row[1]); second {
				row[0], row[1], isTime = row[1], row[0], true
			}
		}
		var v float64
		switch {
		case !isTime && len(ps) == 0:
			if other := otherMetric(strings.Join(row, " ")); other != "" {
				return nil, fmt.Errorf("%s: it is about %s; give CPUUtilization", where, other)
			}
			u.heading(row)
			column = cmp.Or(cpuColumn(row), column)
			other = fmt.Errorf("%s: %.60q is not a time and a value such as 2026-03-02 04:05:00,12.5, nor is any line before", where, strings.Join(row, string(comma)))
			continue
		case isTime && len(row) < 2:
			return nil, fmt.Errorf("%s: there is no value behind the time", where)
		case isTime && strings.TrimSpace(row[1]) == "":
			continue // CloudWatch had none
		case isTime:
			if v, err = number(row[1], comma != ','); err != nil {
				return nil, fmt.Errorf("%s: %.40q is not a number", where, row[1])
			}
			u.value(where, row[1], v)
		}
		if isTime && len(row) > 2 {
			if _, err := number(row[2], comma != ','); err == nil {
				return nil, fmt.Errorf("%s: there are several values behind the time; give one metric, in per cent", where)
			}
		}
		if err := ps.add(where, row[0], v); err != nil {
			return nil, err
		}
	}
}

// jsonPoints reads the answers of CloudWatch's two ways to ask.
func jsonPoints(text []byte) (ps points, err error) {
	var answer struct {
		Datapoints []struct {
			Timestamp string
			Average   *float64
			Unit      string
		}
		Label             string
		MetricDataResults []struct {
			Label      string
			Timestamps []string
			Values     []float64
		}
	}
	into := any(&answer)
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		into = &answer.Datapoints
	}
	if err := json.Unmarshal(text, into); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, fmt.Errorf("at byte %d stands a JSON %s where none is in what get-metric-statistics and get-metric-data of 'aws cloudwatch' print", wrong.Offset, wrong.Value)
		}
		return nil, err
	}
	if other := otherMetric(answer.Label); other != "" {
		return nil, fmt.Errorf("it is about %s; ask for CPUUtilization", other)
	}
	if answer.Datapoints == nil && answer.MetricDataResults == nil {
		return nil, errors.New("it has neither Datapoints nor MetricDataResults, which get-metric-statistics and get-metric-data of 'aws cloudwatch' print")
	}
	for i, p := range answer.Datapoints {
		where, v := fmt.Sprintf("data point %d", i+1), p.Average
		switch {
		case v == nil:
			return nil, fmt.Errorf("%s has no Average; ask with --statistics Average", where)
		case p.Unit != "" && p.Unit != "Percent":
			return nil, fmt.Errorf("%s is in %.20q, not in Percent; ask for CPUUtilization", where, p.Unit)
		}
		if err := ps.add(where, p.Timestamp, *v); err != nil {
			return nil, err
		}
	}
	if n := len(answer.MetricDataResults); n > 1 {
		return nil, fmt.Errorf("%d metrics are in it; give one", n)
	}
	for _, m := range answer.MetricDataResults {
		if other := otherMetric(m.Label); other != "" {
			return nil, fmt.Errorf("it is about %s; ask for CPUUtilization", other)
		}
		if len(m.Timestamps) > len(m.Values) {
			return nil, errors.New("there are more Timestamps than Values")
		}
		for i, stamp := range m.Timestamps {
			if err := ps.add(fmt.Sprintf("data point %d", i+1), stamp, m.Values[i]); err != nil {
				return nil, err
			}
		}
	}
	if len(ps) == 0 {
		return nil, errors.New("CloudWatch had no data points; see that the instance, its Region and the times were right")
	}
	return ps, nil
}

// Regular puts points on a grid whose step is the distance that most of them have.
func Regular(points []credit.Measure) (Trace, error) {
	slices.SortStableFunc(points, func(a, b credit.Measure) int { return a.At.Compare(b.At) })
	// Of two points of one moment, which only several files have, the last counts.
	kept := points[:0]
	for _, p := range points {
		if n := len(kept); n > 0 && kept[n-1].At.Equal(p.At) {
			kept[n-1] = p
		} else {
			kept = append(kept, p)
		}
	}
	points = kept
	if len(points) < 2 {
		return Trace{}, errors.New("there are no two lines with a time and a value in it")
	}
	times := map[time.Duration]int{}
	for i := range points[1:] {
		times[points[i+1].At.Sub(points[i].At)]++
	}
	t := Trace{Start: points[0].At}
	for d, n := range times {
		if n > times[t.Step] || n == times[t.Step] && d < t.Step {
			t.Step = d
		}
	}
	if t.Step < time.Second || t.Step > 24*time.Hour {
		return Trace{}, fmt.Errorf("most values are %.0f s apart; 1 s to 24 hours can be used", t.Step.Seconds())
	}
	n := int(math.Round(float64(points[len(points)-1].At.Sub(t.Start))/float64(t.Step))) + 1
	if n > maxValues {
		return Trace{}, fmt.Errorf("from %s to %s at a step of %s are more than %d values",
			t.Start.Format(time.DateTime), points[len(points)-1].At.Format(time.DateTime), t.Step, maxValues)
	}
	t.Values = make([]float64, n)
	seen := make([]bool, n)
	for _, p := range points {
		i := int(math.Round(float64(p.At.Sub(t.Start)) / float64(t.Step)))
		t.Values[i], seen[i] = p.Value, true
	}
	for i, last := 0, 0; i < n; i++ {
		switch gap := time.Duration(i-last) * t.Step; {
		case seen[i] && gap > stopped+t.Step:
			for k := last + 1; k < i; k++ {
				t.Values[k] = 0
			}
			t.Stopped += i - last - 1
			t.Filled -= i - last - 1
			last = i
		case seen[i]:
			last = i
		default:
			t.Values[i] = t.Values[i-1]
			t.Filled++
		}
	}
	if float64(t.Filled) > mostFilled*float64(n) || float64(t.Filled+t.Stopped) > mostStopped*float64(n) {
		return Trace{}, fmt.Errorf("%d of %d values are missing", t.Filled+t.Stopped, n)
	}
	return t, nil
}

// Length is the time that the trace covers.
func (t Trace) Length() time.Duration { return time.Duration(len(t.Values)) * t.Step }

// at returns the value with an index; beyond the end the last day repeats, or all
// of the trace if it is shorter than a day.
func (t Trace) at(i int) float64 {
	if n := len(t.Values); i >= n {
		day := min(max(int(24*time.Hour/t.Step), 1), n)
		i = n - day + (i-n)%day
	}
	return t.Values[i]
}

// mean returns the mean value between two times since the start.
func (t Trace) mean(from, to time.Duration) float64 {
	var sum float64
	for at := from; at < to; {
		i := int(at / t.Step)
		end := min(time.Duration(i+1)*t.Step, to)
		sum += t.at(i) * float64(end-at)
		at = end
	}
	return sum / float64(to-from)
}
