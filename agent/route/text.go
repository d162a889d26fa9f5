package route

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// upstream heads the column of addresses.
const upstream = "UPSTREAM"

// Text returns the table for people: one line for every server behind each path of a host, and
// one for every container that waits. Long cells are cut so that a line has at most width
// columns; 0 is no limit.
func (t Table) Text(width int) string {
	rows := [][]string{{"HOST", "PATH", "TLS", upstream, "STATE", "TASK"}}
	for _, s := range t.Sites {
		for _, l := range s.Locations {
			rows = append(rows, t.Pools[s.PoolKey(l)].rows(s.Host, l.Path, s.tlsWord(), string(l.Scheme), s.Family)...)
		}
		if s.Passthrough != nil {
			rows = append(rows, t.Pools[s.PassthroughKey()].rows(s.Host, "-", "passed", "tls", s.Family)...)
		}
	}
	for _, s := range t.Streams {
		tls := "-"
		if s.Listen.Protocol == TLS {
			tls = "only"
		}
		rows = append(rows, t.Pools[s.PoolKey()].rows(s.Listen.String(), "-", tls, string(s.Listen.Protocol), s.Family)...)
	}
	for _, w := range t.Waiting {
		at := "-"
		if w.Addr.IsValid() {
			at = w.Addr.String()
		}
		rows = append(rows, []string{w.Host, w.Path, "-", at, w.Why, w.Ref})
	}
	return Align(rows, width)
}

func (s Site) tlsWord() string {
	switch {
	case s.Waiting:
		return "waiting"
	case s.TLS && s.Plain == Redirect:
		return "redirect"
	case s.TLS && s.Plain == Refuse:
		return "only"
	case s.TLS:
		return "both"
	case s.Plain == Refuse:
		return "missing"
	}
	return "off"
}

// rows are the lines of a pool. Where no server is, it names the family, and why that keeps the place.
func (p Pool) rows(host, path, tls, scheme, family string) (rows [][]string) {
	if len(p.Servers) == 0 {
		if p.Kept != "" {
			family += " (" + p.Kept + ")"
		}
		return [][]string{{host, path, tls, "-", "vacant", family}}
	}
	for _, s := range p.Servers {
		rows = append(rows, []string{host, path, tls, fmt.Sprintf("%s://%s", scheme, s.Addr), s.State(), s.Ref})
	}
	return rows
}

// Align pads all columns but the last, and cuts the widest ones, the addresses last, so that a line
// has at most width columns, if that can be; 0 is no limit.
func Align(rows [][]string, width int) string {
	const gap, least = 2, 8
	widths := make([]int, len(rows[0]))
	sum := gap * (len(widths) - 1)
	for i := range widths {
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
		}
		sum += widths[i]
	}
	last := slices.Index(rows[0], upstream) // an address is of no use without its end
	for ; width > 0 && sum > width; sum-- {
		widest := 0
		for i, w := range widths {
			if i != last && w > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= least && last >= 0 {
			widest = last
		}
		if widths[widest] <= least {
			break
		}
		widths[widest]--
	}
	var b strings.Builder
	for _, r := range rows {
		line := ""
		for i, cell := range r {
			if text := []rune(cell); len(text) > widths[i] {
				cell = string(text[:widths[i]-1]) + "…"
			}
			line += fmt.Sprintf("%-*s", widths[i]+gap, cell)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}
