package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/address"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/nginx"
)

// readiness tells the claim whether this instance can serve what the address is for.
type readiness struct {
	identity *latest.Slot[identity.Identity]
	offers   *latest.Slot[offer]
	nginx    *latest.Slot[nginx.Status]
	hosts    []string
}

func newReadiness(hosts []string) *readiness {
	return &readiness{
		identity: latest.New[identity.Identity](), offers: latest.New[offer](), nginx: latest.New[nginx.Status](), hosts: hosts,
	}
}

func (r *readiness) run(ctx context.Context, put func(address.Situation)) error {
	var (
		s      = address.Situation{HostsNamed: len(r.hosts) > 0}
		front  serving
		server nginx.Status
	)
	put = latest.Distinct(put)
	for {
		select {
		case <-ctx.Done():
			return nil
		case s.Identity = <-r.identity.C():
		case front.newest = <-r.offers.C():
		case server = <-r.nginx.C():
		}
		table := front.see(server)
		s.LiveHosts = served(table, server)
		s.Ready, s.Unready = ready(r.hosts, table, server)
		put(s)
	}
}

// served lists what nginx serves with a container behind it: host names, and ports
// of their own as in "tcp:2222". It is nil while that is not known.
func served(t route.Table, n nginx.Status) []string {
	if !t.Complete || !n.Running || n.Generation == "" {
		return nil
	}
	all := append(append([]string{}, t.LiveHosts()...), t.LivePorts()...)
	return slices.DeleteFunc(all, func(h string) bool {
		return slices.ContainsFunc(n.Quarantined, func(q nginx.Quarantine) bool { return q.Host == h && !q.LastGood })
	})
}

// ready reports whether nginx serves the named hosts, or anything if none is named;
// and if not, why.
func ready(hosts []string, t route.Table, n nginx.Status) (bool, string) {
	switch {
	case !n.Running || n.Generation == "":
		return false, "nginx does not answer yet"
	case !t.Complete:
		return false, "what runs here is not known yet"
	}
	live := served(t, n)
	for _, h := range hosts {
		if !slices.Contains(live, h) {
			return false, fmt.Sprintf("host %s (address.ready) has no live container", h)
		}
	}
	if len(live) == 0 {
		return false, "no route is live"
	}
	return true, ""
}
