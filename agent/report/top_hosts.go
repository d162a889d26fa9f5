package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nagaya-ecs/nagaya/agent/traffic"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// hostRow is a row of the screen: a host, or a port of a stream, with what it has served.
type hostRow struct {
	name, state             string
	requests, errors, bytes uint64
	last                    time.Time
	// each is what was served a second; known is false where nothing was seen before that it could be compared with.
	known bool
	each  struct{ requests, errors, bytes float64 }
}

// topHosts are the hosts and streams, those that serve most first.
func (s Status) topHosts(before Status, width int) section {
	all := s.hostRows()
	elapsed := s.At.Sub(before.At).Seconds()
	if !before.At.IsZero() && elapsed > 0 && before.Traffic.Since.Equal(s.Traffic.Since) && s.Traffic.Unavailable == "" {
		were := map[string]hostRow{}
		for _, w := range before.hostRows() {
			were[w.name] = w
		}
		for i := range all {
			all[i].since(were[all[i].name], elapsed)
		}
	}
	slices.SortStableFunc(all, func(a, b hostRow) int {
		return cmp.Or(cmp.Compare(b.each.requests, a.each.requests), cmp.Compare(b.requests, a.requests), strings.Compare(a.name, b.name))
	})
	if len(all) == 0 {
		return section{rows: []Row{{}, {"no hosts", Plain}}}
	}
	names, columns := 4, "%-10s %7s %6s %8s %9s %7s"
	for _, h := range all {
		names = max(names, utf8.RuneCountInString(h.name))
	}
	if width > 0 {
		names = min(names, max(width-len(fmt.Sprintf("   "+columns, "", "", "", "", "", "")), 8))
	}
	row := func(name string, cells ...any) string {
		return fmt.Sprintf("%-*s   ", names, fit(name, names)) + fmt.Sprintf(columns, cells...)
	}
	rows := []Row{{}, {row("HOST", "STATE", "REQ/S", "5XX/S", "KIB/S", "REQUESTS", "LAST"), Heading}}
	if why := s.Traffic.Unavailable; why != "" {
		rows = append(rows, Row{"no figures: " + why, Caution})
	}
	for _, h := range all {
		style := Plain
		if h.known && h.each.errors > 0 || h.state != "live" && h.state != "-" {
			style = Caution
		}
		rows = append(rows, Row{row(h.name, h.cells(s)...), style})
	}
	return section{rows, "nagaya routes"}
}

// hostRows lists the hosts and the streams of the table, and what was counted for no host. Of a stream, connections count as requests, and
// those that no container accepted as errors.
func (s Status) hostRows() (all []hostRow) {
	counts := map[string]traffic.Counts{}
	for _, h := range s.Traffic.Hosts {
		counts[h.Host] = h.Counts
	}
	for _, t := range s.Traffic.Streams {
		counts[t.Listen] = traffic.Counts{Requests: traffic.Classes{1: t.Connections - min(t.Failures, t.Connections), 4: t.Failures}, Bytes: t.Received + t.Sent, Last: t.Last}
	}
	add := func(name, state string) {
		c := counts[name]
		all = append(all, hostRow{name: name, state: state, requests: c.Requests.All(), errors: c.Requests[4], bytes: c.Bytes, last: c.Last})
	}
	for _, h := range s.hostViews() {
		if slices.ContainsFunc(s.Nginx.Quarantined, func(q nginx.Quarantine) bool { return q.Host == h.Host }) {
			h.State = "quarantine"
		}
		add(h.Host, h.State)
	}
	if _, any := counts[traffic.Other]; any {
		add(traffic.Other, "-")
	}
	return all
}

// since makes rates of what was served after w, unless counting started over meanwhile.
func (h *hostRow) since(w hostRow, seconds float64) {
	if h.known = h.requests >= w.requests && h.errors >= w.errors && h.bytes >= w.bytes; !h.known {
		return
	}
	h.each.requests = float64(h.requests-w.requests) / seconds
	h.each.errors = float64(h.errors-w.errors) / seconds
	h.each.bytes = float64(h.bytes-w.bytes) / seconds
}

// cells are all columns but the name.
func (h hostRow) cells(s Status) []any {
	rate := func(each float64) string {
		switch {
		case !h.known:
			return "-"
		case each > 0 && each < 0.05:
			return "<0.1"
		case each < 100:
			return strconv.FormatFloat(each, 'f', 1, 64)
		}
		return strconv.FormatFloat(each, 'f', 0, 64)
	}
	requests, last := "-", "-"
	if s.Traffic.Unavailable == "" {
		requests = strconv.FormatUint(h.requests, 10)
	}
	if !h.last.IsZero() {
		last = short(s.At.Sub(h.last))
	}
	return []any{h.state, rate(h.each.requests), rate(h.each.errors), rate(h.each.bytes / 1024), requests, last}
}
