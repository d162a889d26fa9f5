package tasks

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/problem"
)

// Known is what the ECS agent has said of the containers that exist.
type Known struct {
	// Answered is true once it has answered.
	Answered   bool                      `json:"answered"`
	Containers map[string]AgentContainer `json:"containers,omitempty"`
}

// Next is what is known when the agent and Docker say that. What was known of a container
// stays known as long as it exists: it cannot leave its task, and an id is never used again.
func (k Known) Next(docker Containers, agent Agent) Known {
	next := Known{Answered: k.Answered || agent.Complete, Containers: map[string]AgentContainer{}}
	if !docker.Complete {
		maps.Copy(next.Containers, k.Containers)
	}
	for _, c := range docker.List {
		a, known := agent.Containers[c.ID]
		if !known {
			a, known = k.Containers[c.ID]
		}
		if known {
			next.Containers[c.ID] = a
		}
	}
	return next
}

// Merge makes one snapshot of what all sources list. The local Docker Engine alone decides
// which local containers exist and what they do; the ECS agent adds the task a container
// belongs to, the addresses of a task's own network interface, and that a task is about to
// be stopped. Labels that name a task count for a container that the agent lists alone:
// whoever starts a container can give it any. A source that fails keeps what
// it listed last; one that failed from the start is silent. Either freezes its own part only.
//
// A container that shares another one's network gets that one's ports and
// addresses. The pause containers of ECS exist only for that and are left out.
func Merge(docker Containers, agent Agent, others ...Containers) Snapshot {
	s := Snapshot{
		At: docker.At, Complete: docker.Complete && agent.Heard, Heard: agent.Heard, ECSAgent: agent.Complete,
		Containers: []Container{}, Problems: slices.Concat(docker.Problems, agent.Problems),
	}
	unproven := 0
	owners := ownersOf(docker.List)
	for _, c := range docker.List {
		if c.isPause() {
			continue
		}
		c = shareNetwork(c, owners)
		a, listed := agent.Containers[c.ID]
		if c.Task != (TaskRef{}) && !listed && !agent.TrustLabels {
			c.Task, c.Unlisted = TaskRef{}, agent.Answered
			unproven++
		}
		s.Containers = append(s.Containers, withAgent(c, a))
	}
	if unproven > 0 && agent.Heard && !agent.Answered {
		s.Problems = append(s.Problems, problem.Of("ecs agent", "ecs-agent-unknown",
			"let ecs.agent-url be where the ECS agent answers (systemctl status ecs); if only ECS starts containers with such labels here, set ecs.trust-labels to true",
			"no ECS agent has answered yet that could confirm the labels of ECS on %s, so each counts by its own name, not its task family", problem.Counted(unproven, "container")).AsWarning())
	}
	for _, o := range others {
		s.Complete = s.Complete && (o.Complete || len(o.Problems) > 0)
		s.Silent = append(s.Silent, o.Silent...)
		s.Containers, s.Problems = append(s.Containers, o.List...), append(s.Problems, o.Problems...)
	}
	problem.Sort(s.Problems)
	slices.SortFunc(s.Containers, func(a, b Container) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

// withAgent adds what the ECS agent says of the container.
func withAgent(c Container, a AgentContainer) Container {
	c.Task = TaskRef{
		ARN: cmp.Or(a.Task.ARN, c.Task.ARN), Family: cmp.Or(a.Task.Family, c.Task.Family), Revision: cmp.Or(a.Task.Revision, c.Task.Revision),
		ContainerName: cmp.Or(a.Task.ContainerName, c.Task.ContainerName), Cluster: c.Task.Cluster,
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
