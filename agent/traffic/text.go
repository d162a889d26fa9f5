package traffic

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// words are what is missing, for people.
var words = map[string]string{"seconds": "times to answer", "failures": "failures of containers", "connections": "connections of ports"}

// Text renders the report for people, as of now and in its zone: the hosts by how many requests they had, each with its paths, and then
// the ports. Long names are cut so that a line has at most width columns; 0 is no limit.
func (r Report) Text(now time.Time, width int) string {
	var out strings.Builder
	if r.Unavailable != "" {
		fmt.Fprintf(&out, "Requests are not counted: %s.\n\n", r.Unavailable)
	}
	if len(r.Missing) > 0 {
		missing := slices.Clone(r.Missing)
		for i, what := range missing {
			missing[i] = cmp.Or(words[what], what)
		}
		fmt.Fprintf(&out, "Not counted, because nginx's log does not say it: %s.\n\n", strings.Join(missing, ", "))
	}
	hosts := slices.Clone(r.Hosts)
	slices.SortStableFunc(hosts, func(a, b Host) int { return cmp.Compare(b.Requests.All(), a.Requests.All()) })
	rows := [][]string{{"HOST", "PATH", "REQUESTS", "2XX", "3XX", "4XX", "5XX", "FAILED", "SENT", "MEAN", "95 %", "OPEN", "LAST"}}
	for _, h := range hosts {
		row := h.row(h.Host, "", opened(h.Open), now)
		if h.Elsewhere && h.Requests.All() == 0 {
			row[2] = "elsewhere"
		}
		rows = append(rows, row)
		for _, p := range h.Paths {
			rows = append(rows, p.row("", p.Path, "", now))
		}
	}
	out.WriteString(route.Align(rows, width))
	for _, h := range hosts {
		if h.Elsewhere && h.Requests.All() > 0 {
			fmt.Fprintf(&out, "%s is logged elsewhere by a file of yours by now, and may not be counted.\n", h.Host)
		}
	}
	if len(r.Streams) > 0 {
		rows = [][]string{{"PORT", "CONNECTIONS", "FAILED", "RECEIVED", "SENT", "OPEN", "LAST"}}
		for _, s := range r.Streams {
			rows = append(rows, []string{s.Listen, fmt.Sprint(s.Connections), fmt.Sprint(s.Failures), Size(s.Received), Size(s.Sent), opened(s.Open), ago(s.Last, now)})
		}
		out.WriteString("\n" + route.Align(rows, width))
	}
	if !r.Since.IsZero() {
		fmt.Fprintf(&out, "\nsince %s\n", r.Since.In(now.Location()).Format(time.DateTime+" MST"))
	}
	return out.String()
}

func (c Counts) row(host, path, open string, now time.Time) []string {
	row := []string{host, path, fmt.Sprint(c.Requests.All())}
	for _, n := range c.Requests[1:] {
		row = append(row, fmt.Sprint(n))
	}
	mean, most := "-", "-"
	if n := c.Seconds.Count(); n > 0 {
		mean = span(c.Seconds.Sum / float64(n))
		if bound, found := c.Seconds.Within(0.95); found {
			most = "≤ " + span(bound)
		} else {
			most = "> " + span(Bounds[len(Bounds)-1])
		}
	}
	return append(row, fmt.Sprint(c.Failures), Size(c.Bytes), mean, most, open, ago(c.Last, now))
}

// Count is how many durations were counted.
func (h Histogram) Count() (n uint64) {
	for _, b := range h.Buckets {
		n += b
	}
	return n
}

// Within returns the first of Bounds within which a share of the durations are, from 0 to 1; found is
// false where that is none.
func (h Histogram) Within(share float64) (bound float64, found bool) {
	var n uint64
	for i, b := range Bounds {
		if n += h.Buckets[i]; float64(n) >= share*float64(h.Count()) {
			return b, true
		}
	}
	return 0, false
}

// opened writes how many connections are open.
func opened(n *int) string {
	if n == nil {
		return "-"
	}
	return fmt.Sprint(*n)
}

// span writes seconds.
func span(s float64) string {
	if s < 0.001 { // which is all that nginx tells apart
		return "< 1 ms"
	}
	if s < 1 {
		return fmt.Sprintf("%.3g ms", s*1000)
	}
	return fmt.Sprintf("%.3g s", s)
}

// Size writes bytes for people, e.g. "1.5 MiB".
func Size(n uint64) string {
	x, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for x >= 1024 && len(units) > 1 {
		x, units = x/1024, units[1:]
	}
	return fmt.Sprintf("%.*f %s", min(1, 5-len(units)), x, units[0])
}

// ago says how long a time is past.
func ago(at, now time.Time) string {
	if at.IsZero() {
		return "never"
	}
	return max(0, now.Sub(at)).Round(time.Second).String() + " ago"
}
