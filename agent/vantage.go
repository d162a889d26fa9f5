package agent

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/route"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// vantageOf says from where an nginx in the container of that id reaches the
// others, and at which address it reaches this host: local where that is known and
// not the container's own, else the gateway of its first network. An empty id is the
// host itself. ok is false for a container that is not in the list: then nothing is
// known of its networks.
func vantageOf(id string, list []tasks.Container, local netip.Addr) (from route.Vantage, at netip.Addr, ok bool) {
	if id == "" {
		return route.Vantage{}, local, true
	}
	c, ok := byID(list, id)
	if !ok {
		return route.Vantage{}, local, false
	}
	if c.NetworkOf != "" {
		if c, ok = byID(list, c.NetworkOf); !ok {
			return route.Vantage{}, local, false
		}
	}
	if c.Network == tasks.Host {
		return route.Vantage{}, local, true
	}
	from.Container = true
	if slices.Contains(c.Addrs, local) {
		local = netip.Addr{}
	}
	for _, n := range c.Networks {
		from.Networks = append(from.Networks, n.Name)
		if !local.IsValid() {
			local = n.Gateway
		}
	}
	return from, local, true
}

func byID(list []tasks.Container, id string) (tasks.Container, bool) {
	i := slices.IndexFunc(list, func(c tasks.Container) bool { return c.ID == id })
	if i < 0 {
		return tasks.Container{}, false
	}
	return list[i], true
}

// ownIDs returns the ids that the container of this process may have; none on the
// host itself.
func ownIDs() []string {
	read := func(name string) string {
		b, _ := os.ReadFile(name) // without it there are fewer guesses
		return string(b)
	}
	name, _ := os.Hostname()
	return identity.ContainerIDs(read("/proc/self/cgroup"), read("/proc/self/mountinfo"), name)
}

// ownContainer returns the id of the first guess that the engine lists as running.
// ok is false if there are guesses and it lists none of them.
func ownContainer(guesses []string, list []tasks.Container) (id string, ok bool) {
	for _, guess := range guesses {
		for _, c := range list {
			if strings.HasPrefix(c.ID, guess) && c.State == tasks.Running {
				return c.ID, true
			}
		}
	}
	return "", len(guesses) == 0
}

// besideEngine reports whether one of the containers' gateways is an address of this
// network namespace: then the engine is in it too, whatever both are in. It is true
// where there is no gateway to tell by.
func besideEngine(list []tasks.Container, own []net.Addr) bool {
	seen := false
	for _, c := range list {
		for _, n := range c.Networks {
			if !n.Gateway.IsValid() {
				continue
			}
			seen = true
			if slices.ContainsFunc(own, func(a net.Addr) bool {
				p, err := netip.ParsePrefix(a.String())
				return err == nil && p.Addr().Unmap() == n.Gateway
			}) {
				return true
			}
		}
	}
	return !seen
}

// ownUnknown says that this container is another engine's.
func ownUnknown(host string) problem.Problem {
	return problem.Problem{
		Code: "own-container-unknown", Severity: problem.Warning, Subject: "nginx",
		Text: "this agent seems to be in a container that the Docker Engine at " + host + " does not have, so the others are looked for where the host itself would reach them",
		Hint: "mount the socket of the engine that runs this container, or let it use the host's network (--network host)",
	}
}
