package route

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// Text returns the table for people: one line for every path of a host, and one
// for every container that waits.
func (t Table) Text() string {
	rows := [][]string{{"HOST", "PATH", "TLS", "UPSTREAM", "STATE", "TASK"}}
	for _, s := range t.Sites {
		for _, l := range s.Locations {
			rows = append(rows, t.Pools[s.PoolKey(l)].row(s.Host, l.Path, s.tlsWord(), string(l.Scheme), s.Family))
		}
		if s.Passthrough != nil {
			rows = append(rows, t.Pools[s.PassthroughKey()].row(s.Host, "-", "passed", "tls", s.Family))
		}
	}
	for _, s := range t.Streams {
		tls := "-"
		if s.Listen.Protocol == TLS {
			tls = "only"
		}
		rows = append(rows, t.Pools[s.PoolKey()].row(s.Listen.String(), "-", tls, string(s.Listen.Protocol), s.Family))
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

// row is the line of a pool. Where no server is, it names the family, and why that keeps the place.
func (p Pool) row(host, path, tls, scheme, family string) []string {
	if len(p.Servers) == 0 {
		if p.Kept != "" {
			family += " (" + p.Kept + ")"
		}
		return []string{host, path, tls, "-", "vacant", family}
	}
	var upstreams, refs []string
	for _, s := range p.Servers {
		upstreams, refs = append(upstreams, fmt.Sprintf("%s://%s", scheme, s.Addr)), append(refs, s.Ref)
	}
	state := "ready"
	switch {
	case p.Servers[0].Unhealthy:
		state = "unhealthy"
	case slices.ContainsFunc(p.Servers, func(s Server) bool { return s.WrongProtocol }):
		state = "wrong-protocol"
	}
	return []string{host, path, tls, strings.Join(upstreams, ","), state, strings.Join(refs, ",")}
}

// align pads all columns but the last.
func align(rows [][]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // a Builder takes everything
	return b.String()
}
