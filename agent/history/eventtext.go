package history

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// EventsText is a line for each event, as of the zone of from, which is also that of to.
func EventsText(all []Event, from, to time.Time) string {
	if len(all) == 0 {
		return fmt.Sprintf("No event was recorded between %s and %s.\n", clock(from), clock(to))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s to %s\n\n", clock(from), clock(to))
	w := tabwriter.NewWriter(&b, 18, 0, 2, ' ', 0)
	for _, e := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", e.At.In(from.Location()).Format(time.DateTime), e.Kind, e.Subject, strings.TrimSpace(e.Text+" "+e.figures()))
	}
	_ = w.Flush()
	fmt.Fprintf(&b, "\nThe line of the journal, and of any other event with its words and its time:\n  %s\n", all[len(all)-1].Journal())
	return b.String()
}

// figures are the numbers of the event in brackets.
func (e Event) figures() string {
	var parts []string
	for i, n := range kinds[e.Kind].numbers {
		v := e.Numbers[i]
		if !v.Known() {
			continue
		}
		name, seconds := strings.CutSuffix(n.name, "_seconds")
		if n.name == "seconds" {
			name, seconds = "took", true
		}
		text := number(v)
		if seconds {
			text = time.Duration(float64(v) * float64(time.Second)).Round(time.Millisecond).String()
		}
		parts = append(parts, strings.ReplaceAll(name, "_", " ")+" "+text)
	}
	text := strings.Join(parts, ", ")
	if e.Skipped > 0 {
		text = strings.TrimPrefix(text+fmt.Sprintf("; %d more like it before", e.Skipped), "; ")
	}
	if text == "" {
		return ""
	}
	return "(" + text + ")"
}
