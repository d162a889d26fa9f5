package nginx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/route"
)

// Offer is a table together with the generation that was rendered from it, which is empty
// while there is none, and where that has requests logged.
type Offer struct {
	Table      route.Table
	Generation string
	Logs       Logs
}

// Serving returns what of a table nginx serves: the table only when nginx has confirmed the
// generation that was rendered from it.
type Serving struct {
	Newest    Offer
	confirmed route.Table
}

// Table returns the newest table without the sites and ports that nginx does not
// serve yet.
func (s *Serving) Table(n Status) route.Table {
	t := s.Newest.Table
	if s.Newest.Generation != "" && n.Settled && n.Wanted == s.Newest.Generation {
		s.confirmed = t
		return t
	}
	live, valid := map[string]bool{}, map[string]bool{}
	for _, h := range slices.Concat(s.confirmed.LiveHosts(), s.confirmed.LivePorts()) {
		live[h] = true // no host looks like a port
	}
	for _, site := range s.confirmed.Sites {
		valid[site.Host] = site.Valid
	}
	t.Sites = slices.DeleteFunc(slices.Clone(t.Sites), func(site route.Site) bool { return !live[site.Host] })
	for i, site := range t.Sites {
		t.Sites[i].Valid = site.Valid && valid[site.Host]
	}
	t.Streams = slices.DeleteFunc(slices.Clone(t.Streams), func(s route.Stream) bool { return !live[s.Listen.String()] })
	return t
}

// LiveHosts returns the hosts that nginx serves with a container behind them: host names, and
// ports of streams as in "tcp:2222". It is nil while that is not known.
func LiveHosts(t route.Table, n Status) []string {
	if !t.Complete || !n.Running || n.Generation == "" {
		return nil
	}
	all := append(append([]string{}, t.LiveHosts()...), t.LivePorts()...)
	missing := map[string]bool{}
	for _, q := range n.Quarantined {
		missing[q.Host] = !q.LastGood
	}
	return slices.DeleteFunc(all, func(h string) bool { return missing[h] })
}

// HasHTTPS reports whether nginx serves a host over HTTPS with a certificate that is valid. It does not count
// for one in quarantine, of which older files may be served, nor for an expression, which is not one name.
func HasHTTPS(t route.Table, n Status, host string) bool {
	i, found := slices.BinarySearchFunc(t.Sites, host, func(s route.Site, host string) int { return strings.Compare(s.Host, host) })
	return found && t.Sites[i].Valid && !strings.HasPrefix(host, "~") &&
		!slices.ContainsFunc(n.Quarantined, func(q Quarantine) bool { return q.Host == host })
}

// NotReady returns, as one clause, why nginx does not serve one of the named hosts, or no host
// at all if none is named; it is empty if it does.
func NotReady(hosts []string, t route.Table, n Status) string {
	switch {
	case !n.Running || n.Generation == "":
		return "nginx does not answer yet"
	case !t.Complete:
		return "what runs here is not known yet"
	}
	live := LiveHosts(t, n)
	for _, h := range hosts {
		if !slices.Contains(live, h) {
			return fmt.Sprintf("host %s (address.ready) has no live container", h)
		}
	}
	if len(live) == 0 {
		return "no route is live"
	}
	return ""
}
