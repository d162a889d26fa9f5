package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/traffic"
)

// EventsText is a line for each event, as of the zone of from, which is also that of to.
func EventsText(all []Event, from, to time.Time) string {
	if len(all) == 0 {
		return fmt.Sprintf("No event was recorded between %s and %s.\n", clock(from), clock(to))
	}
	var rows [][]string
	for _, e := range all {
		text := e.Text
		if figures := e.Shown().Figures(); figures != "" {
			text = strings.TrimSpace(text + " (" + figures + ")")
		}
		rows = append(rows, []string{e.At.In(from.Location()).Format(time.DateTime), e.Kind, e.Subject, text})
	}
	return fmt.Sprintf("%s to %s\n\n%s\nThe line of the journal, and of any other event with its words and its time:\n  %s\n",
		clock(from), clock(to), route.Align(rows, 0), all[len(all)-1].Journal())
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
	return fmt.Sprintf("%s to %s, in steps of %s\n\n%s", clock(from), clock(to), strings.TrimSuffix(step.String(), "0s"), route.Align(rows, width))
}
