package route

import (
	"fmt"
	"strings"
)

// Text returns the table for people: one line for every path of a host, and one
// for every container that waits.
func (t Table) Text() string {
	rows := [][]string{{"HOST", "PATH", "TLS", "UPSTREAM", "STATE", "TASK"}}
	for _, s := range t.Sites {
		for _, l := range s.Locations {
			p := t.Pools[s.PoolKey(l)]
			rows = append(rows, []string{s.Host, l.Path, s.tlsWord(), p.upstreams(string(l.Scheme)), p.state(), p.refs(s.Family)})
		}
		if s.Passthrough != nil {
			p := t.Pools[s.PassthroughKey()]
			rows = append(rows, []string{s.Host, "-", "passed", p.upstreams("tls"), p.state(), p.refs(s.Family)})
		}
	}
	for _, s := range t.Streams {
		p := t.Pools[s.PoolKey()]
		rows = append(rows, []string{s.Listen.String(), "-", s.tlsWord(), p.upstreams(string(s.Listen.Protocol)), p.state(), p.refs(s.Family)})
	}
	for _, w := range t.Waiting {
		at := "-"
		if w.Addr.IsValid() {
			at = w.Addr.String()
		}
		rows = append(rows, []string{w.Host, w.Path, "-", at, w.Why, w.Ref})
	}
	return align(rows)
}

func (s Stream) tlsWord() string {
	if s.Listen.Protocol == TLS {
		return "only"
	}
	return "-"
}

func (s Site) tlsWord() string {
	switch {
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

func (p Pool) upstreams(scheme string) string {
	var words []string
	for _, s := range p.Servers {
		words = append(words, fmt.Sprintf("%s://%s", scheme, s.Addr))
	}
	return orDash(words)
}

// refs names the servers, or the family whose they would be.
func (p Pool) refs(family string) string {
	var words []string
	for _, s := range p.Servers {
		words = append(words, s.Ref)
	}
	if len(words) == 0 {
		return family
	}
	return orDash(words)
}

func (p Pool) state() string {
	switch {
	case len(p.Servers) == 0:
		return "vacant"
	case p.Servers[0].Unhealthy:
		return "unhealthy"
	}
	return "ready"
}

func orDash(words []string) string {
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ",")
}

// align pads the columns; the last one is left as it is.
func align(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, cell := range r {
			width[i] = max(width[i], len(cell))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		for i, cell := range r {
			if i == len(r)-1 {
				b.WriteString(cell + "\n")
				break
			}
			fmt.Fprintf(&b, "%-*s  ", width[i], cell)
		}
	}
	return b.String()
}
