package report

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Series is what was recorded over a time, in columns of the same length: a value for each span of time.
type Series struct {
	// Step is how long a span is, in seconds; Times are when they begin, in seconds since 1970.
	Step    int64    `json:"step"`
	Times   []int64  `json:"time"`
	Columns []Column `json:"columns"`
}

// Column is one quantity of a series.
type Column struct {
	Name   string `json:"name"`
	Values Values `json:"values"`
}

// Values are numbers of which some may be unknown (NaN); JSON has null then, and at most three decimals.
type Values []float64

// MarshalJSON implements json.Marshaler.
func (v Values) MarshalJSON() ([]byte, error) {
	b := append(make([]byte, 0, 8*len(v)+2), '[')
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		if math.IsNaN(x) || math.IsInf(x, 0) {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, math.Round(x*1000)/1000, 'g', -1, 64)
		}
	}
	return append(b, ']'), nil
}

// Column returns the values of a column; nil where there is none of that name.
func (s Series) Column(name string) Values {
	for _, c := range s.Columns {
		if c.Name == name {
			return c.Values
		}
	}
	return nil
}

// ParseSpan reads a number with m, h, d or w, as in 'nagaya credits --since 7d': more than none, and at most 366 days.
func ParseSpan(text string) (time.Duration, error) {
	units := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	const most = 366 * 24 * time.Hour
	if text != "" {
		n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
		if unit := units[text[len(text)-1]]; err == nil && n > 0 && unit > 0 && time.Duration(n) <= most/unit {
			return time.Duration(n) * unit, nil
		}
	}
	return 0, fmt.Errorf("%.20q is no time such as 90m, 12h, 7d or 52w (at most 366d)", text)
}
