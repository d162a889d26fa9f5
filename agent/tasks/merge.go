package tasks

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Merge makes one snapshot of what all sources list. The local Docker Engine alone decides
// which local containers exist and what they do; the ECS agent adds the task a container
// belongs to, the addresses of a task's own network interface, and that a task is about to
// be stopped. Where the agent says nothing, nothing changes. A source that fails keeps what
// it listed last; one that failed from the start is silent. Either freezes its own part only.
//
// A container that shares another one's network gets that one's ports and
// addresses. The pause containers of ECS exist only for that and are left out.
func Merge(docker Containers, agent Agent, others ...Containers) Snapshot {
	s := Snapshot{At: docker.At, Complete: docker.Complete, Containers: []Container{}, Problems: slices.Concat(docker.Problems, agent.Problems)}
	owners := ownersOf(docker.List)
	for _, c := range docker.List {
		if c.IsPause() {
			continue
		}
		s.Containers = append(s.Containers, withAgent(shareNetwork(c, owners), agent.Containers[c.ID]))
	}
	for _, o := range others {
		s.Complete = s.Complete && (o.Complete || len(o.Problems) > 0)
		if !o.Complete {
			s.Silent = append(s.Silent, o.Origin)
		}
		s.Containers, s.Problems = append(s.Containers, o.List...), append(s.Problems, o.Problems...)
	}
	problem.Sort(s.Problems)
	slices.SortFunc(s.Containers, func(a, b Container) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

// withAgent adds what the ECS agent says of the container.
func withAgent(c Container, a AgentContainer) Container {
	c.Task = TaskRef{
		ARN: cmp.Or(c.Task.ARN, a.Task.ARN), Family: cmp.Or(c.Task.Family, a.Task.Family), Revision: cmp.Or(c.Task.Revision, a.Task.Revision),
		ContainerName: cmp.Or(c.Task.ContainerName, a.Task.ContainerName), Cluster: c.Task.Cluster,
	}
	c.Stopping = c.Stopping || a.Stopping
	if a.TaskNetwork && c.NetworkOf != "" {
		// Docker knows nothing of a task's own interface: it only sees a shared
		// network namespace without networks. Nothing is published on the host. A
		// container with a network of its own from Docker is in no task's.
		c.Network = AWSVPC
		if len(a.Addrs) > 0 {
			c.Addrs = IPv4First(a.Addrs)
		}
		var ports []Port
		for _, p := range slices.Concat(c.Ports, a.Ports) {
			ports = append(ports, Port{Container: p.Container, Protocol: p.Protocol})
		}
		c.Ports = NormalPorts(ports)
	}
	return c
}

// IPv4First returns the addresses without duplicates, IPv4 before IPv6.
func IPv4First(addrs []netip.Addr) []netip.Addr {
	out := slices.Clone(addrs)
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return slices.Compact(out)
}

// ownersOf indexes containers by id and by name: Docker accepts both in
// "container:<...>".
func ownersOf(list []Container) map[string]*Container {
	owners := make(map[string]*Container, 2*len(list))
	for i := range list {
		owners[list[i].Name] = &list[i]
	}
	for i := range list {
		owners[list[i].ID] = &list[i]
	}
	return owners
}

// maxShare bounds how many containers may stand behind each other's network;
// Docker itself refuses loops, a list read in the middle of a change may not.
const maxShare = 4

func shareNetwork(c Container, owners map[string]*Container) Container {
	of := c.NetworkOf
	for range maxShare {
		owner, ok := owners[of]
		if of == "" || !ok || owner.ID == c.ID {
			return c
		}
		c.Network = owner.Network
		c.Addrs, c.Networks = owner.Addrs, owner.Networks
		c.Ports = NormalPorts(slices.Concat(c.Ports, owner.Ports))
		of = owner.NetworkOf
	}
	return c
}

// NormalPorts returns the ports sorted and without duplicates: Docker and the
// ECS agent list a dual-stack binding twice, and a port that is published is also
// exposed. The two halves of a dual-stack binding are one port only where they
// have the same number: Docker chooses dynamic ports for IPv4 and IPv6 apart. The
// input is not changed.
func NormalPorts(ports []Port) []Port {
	if len(ports) == 0 {
		return nil
	}
	ps := slices.Clone(ports)
	for i := range ps {
		ps[i].Protocol = strings.ToLower(ps[i].Protocol)
		if ps[i].HostIP.Is4() && ps[i].HostIP.IsUnspecified() {
			ps[i].HostIP = netip.Addr{} // every address
		}
	}
	slices.SortFunc(ps, comparePorts)
	ps = slices.Compact(ps)
	published, every := map[Port]bool{}, map[Port]bool{}
	for _, p := range ps {
		if p.Host != 0 {
			published[Port{Container: p.Container, Protocol: p.Protocol}] = true
		}
		every[p] = true
	}
	ps = slices.DeleteFunc(ps, func(p Port) bool {
		if p.Host == 0 {
			return published[Port{Container: p.Container, Protocol: p.Protocol}]
		}
		second := p
		second.HostIP = netip.Addr{}
		return p.HostIP.IsUnspecified() && every[second]
	})
	return ps[:min(len(ps), MaxPorts)]
}

func comparePorts(a, b Port) int {
	return cmp.Or(
		cmp.Compare(a.Container, b.Container),
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Host, b.Host),
		a.HostIP.Compare(b.HostIP),
	)
}
