package agent

import (
	"net/netip"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// vantageOf says from where an nginx in the container of that id reaches the
// others, and at which address it reaches this host: local where that is known,
// else the gateway of its first network. An empty id is the host itself. ok is false
// for a container that is not in the list: then nothing is known of its networks.
func vantageOf(id string, list []tasks.Container, local netip.Addr) (from route.Vantage, at netip.Addr, ok bool) {
	if id == "" {
		return route.Vantage{}, local, true
	}
	i := slices.IndexFunc(list, func(c tasks.Container) bool { return c.ID == id })
	if i < 0 {
		return route.Vantage{}, local, false
	}
	c := list[i]
	if c.Network == tasks.Host {
		return route.Vantage{}, local, true
	}
	from.Container = true
	for _, n := range c.Networks {
		from.Networks = append(from.Networks, n.Name)
		if !local.IsValid() {
			local = n.Gateway
		}
	}
	return from, local, true
}
