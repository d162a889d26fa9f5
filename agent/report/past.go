package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
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

// Served is what hosts have served over a time. A span in which nothing was served has 0.
type Served struct {
	// All is that of all hosts together, with the columns "requests", "errors" and "bytes".
	All Series `json:"all"`
	// Step and Times are those of the hosts' columns, which have fewer spans.
	Step  int64        `json:"step"`
	Times []int64      `json:"time"`
	Hosts []ServedHost `json:"hosts"`
}

// ServedHost is what one host has served; errors are the requests that were answered with 5xx.
type ServedHost struct {
	Host     string `json:"host"`
	Requests Values `json:"requests"`
	Errors   Values `json:"errors"`
	Bytes    Values `json:"bytes"`
}

// Event is what happened at a time, as the journal has it too.
type Event struct {
	At time.Time `json:"at"`
	// Group is what it is about: "agent", "address", "nginx", "deploy", "certificate", "gate" or "job"; Kind is the
	// journal's word for it.
	Group   string `json:"group"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	// Numbers are credits, and seconds that something took, by name.
	Numbers map[string]float64 `json:"numbers"`
	// Skipped is how many of its kind and subject came before it that were too many to be kept.
	Skipped uint32 `json:"skipped,omitempty"`
	// Journal is the command that shows it in the journal.
	Journal string `json:"journal"`
}

// Figures are the numbers that are not 0, by name, and how many events were skipped. The text of the gate has its numbers already.
func (e Event) Figures() string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(e.Numbers)) {
		x := e.Numbers[name]
		if x == 0 || e.Group == "gate" {
			continue
		}
		text := strconv.FormatFloat(math.Round(10*x)/10, 'f', -1, 64)
		what, seconds := strings.CutSuffix(name, "_seconds")
		if name == "seconds" {
			what, seconds = "took", true
		}
		if seconds {
			text = time.Duration(x * float64(time.Second)).Round(time.Millisecond).String()
		}
		all = append(all, strings.ReplaceAll(what, "_", " ")+" "+text)
	}
	if e.Skipped > 0 {
		all = append(all, fmt.Sprintf("%d like it before are not kept", e.Skipped))
	}
	return strings.Join(all, ", ")
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
