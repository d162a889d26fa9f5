package history

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
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
	text := trailing.ReplaceAllString(b.String(), "\n")
	b.Reset()
	b.WriteString(text)
	fmt.Fprintf(&b, "\nThe line of the journal, and of any other event with its words and its time:\n  %s\n", all[len(all)-1].Journal())
	return b.String()
}

// Text is a line for each host, those with most requests first, with the last time at which it had some. The zone is that of
// from. Long names are cut so that a line has at most width columns; 0 is no limit.
func (t Traffic) Text(from, to time.Time, width int) string {
	if len(t.Hosts) == 0 {
		return fmt.Sprintf("Nothing was served between %s and %s, as far as it was recorded.\n", clock(from), clock(to))
	}
	hosts, sums := slices.Clone(t.Hosts), map[string]Counts{}
	for _, h := range hosts {
		sums[h.Host] = h.Sum()
	}
	slices.SortStableFunc(hosts, func(a, b HostTraffic) int { return cmp.Compare(sums[b.Host].Requests, sums[a.Host].Requests) })
	rows := [][]string{{"HOST", "REQUESTS", "5XX", "SENT", "LAST"}}
	for _, h := range hosts {
		c := sums[h.Host]
		last := h.Points[len(h.Points)-1].Start.In(from.Location())
		rows = append(rows, []string{h.Host, number(c.Requests), number(c.Errors), traffic.Size(uint64(max(c.Bytes, 0))), last.Format("2006-01-02 15:04")})
	}
	step := time.Duration(t.Step * float64(time.Second))
	return fmt.Sprintf("%s to %s, in steps of %s\n\n%s", clock(from), clock(to), step, route.Align(rows, width))
}

var trailing = regexp.MustCompile(` +\n`)

// figures are the numbers of the event in brackets. The words of the gate have its numbers already.
func (e Event) figures() string {
	var parts []string
	for i, n := range kinds[e.Kind].numbers {
		v := e.Numbers[i]
		if !v.Known() || e.Group() == "gate" {
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
