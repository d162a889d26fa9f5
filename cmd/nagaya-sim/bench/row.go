package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Row is one line of the result.
type Row struct {
	Part string `json:"part"`
	// What was measured, and what was Got; with the Peers in the same run, and the Ratio
	// of what was got to that.
	What  string `json:"what"`
	Got   string `json:"got"`
	Peers string `json:"peers,omitempty"`
	Ratio string `json:"ratio,omitempty"`
	// Bound is what must hold; empty for a figure that is only shown. Missed is true
	// when it does not hold.
	Bound  string `json:"bound,omitempty"`
	Missed bool   `json:"missed"`
	// Figures are the numbers in Got, by name; durations are in milliseconds.
	Figures map[string]float64 `json:"figures,omitempty"`
}

func printTable(out io.Writer, rows []Row) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "\twhat\tnagaya\tpeers\tratio\tmust hold\t")
	for _, r := range rows {
		verdict := ""
		switch {
		case r.Missed:
			verdict = "BROKEN"
		case r.Bound != "":
			verdict = "holds"
		}
		for i := range max(lines(r.What), lines(r.Got), lines(r.Peers), lines(r.Ratio), lines(r.Bound)) {
			letter := r.Part
			if i > 0 {
				letter, verdict = "", ""
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", letter, line(r.What, i), line(r.Got, i), line(r.Peers, i), line(r.Ratio, i), line(r.Bound, i), verdict)
		}
	}
	w.Flush()
}

// longest is how many characters a line of a cell may have. What is left out, of an
// error, was told when it happened.
const longest = 90

// A cell is broken at semicolons.
func lines(cell string) int { return strings.Count(cell, "; ") + 1 }

func line(cell string, i int) string {
	all := strings.Split(cell, "; ")
	if i >= len(all) {
		return ""
	}
	text := []rune(strings.Join(strings.Fields(all[i]), " "))
	if len(text) > longest {
		return string(text[:longest-1]) + "…"
	}
	return string(text)
}

// spans are samples of a duration.
type spans []time.Duration

// at returns the sample below which the share q lies, 0 without samples.
func (s spans) at(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (s spans) String() string {
	return fmt.Sprintf("%s; range %s to %s, %d runs", s.short(), ms(s.at(0)), ms(s.at(1)), len(s))
}

func (s spans) short() string {
	return fmt.Sprintf("p50 %s, p90 %s", ms(s.at(0.5)), ms(s.at(0.9)))
}

func (s spans) figures() map[string]float64 {
	return map[string]float64{"p50": millis(s.at(0.5)), "p90": millis(s.at(0.9)), "min": millis(s.at(0)), "max": millis(s.at(1)), "n": float64(len(s))}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func ms(d time.Duration) string { return fmt.Sprintf("%.0f ms", millis(d)) }
