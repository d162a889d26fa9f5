package ecsagent

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/ecsapi"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// The agent's answer to /v1/tasks, as far as it is read
// (amazon-ecs-agent, agent/handlers/v1/response.go).
type answer struct {
	Tasks *[]task
}

type task struct {
	Arn           string
	DesiredStatus string // absent when the agent is in the middle of a change
	Family        string
	Version       string
	Containers    []taskContainer
}

type taskContainer struct {
	DockerID string `json:"DockerId"`
	Name     string
	Ports    []struct {
		ContainerPort uint16
		Protocol      string
	}
	Networks []struct {
		NetworkMode   string
		IPv4Addresses []string
		IPv6Addresses []string
	}
}

// Bounds on one answer. A host of nagaya's size runs dozens of tasks.
const (
	maxTasks      = 2000
	maxContainers = 10 // ECS: containers in a task definition; pause containers are not listed
	maxAddrs      = 32
)

// agent is what the answer says. What in it does not look like the agent's is left out.
// own are the addresses of this host.
func (a answer) agent(own []netip.Addr) (tasks.Agent, error) {
	if a.Tasks == nil {
		return tasks.Agent{}, fmt.Errorf("%w: it has no field Tasks", ecsapi.ErrNotAgent)
	}
	if len(*a.Tasks) > maxTasks {
		return tasks.Agent{}, fmt.Errorf("%w: it has %d tasks, at most %d are read", ecsapi.ErrNotAgent, len(*a.Tasks), maxTasks)
	}
	all := map[string]tasks.AgentContainer{}
	for _, t := range *a.Tasks {
		for _, c := range t.Containers[:min(len(t.Containers), maxContainers)] {
			if c.DockerID != "" {
				all[c.DockerID] = t.container(c, own)
			}
		}
	}
	return tasks.Agent{Complete: true, Tasks: len(*a.Tasks), Containers: all}, nil
}

func (t task) container(c taskContainer, own []netip.Addr) tasks.AgentContainer {
	out := tasks.AgentContainer{
		Task:     tasks.TaskRef{ARN: t.Arn, Family: t.Family, Revision: t.Version, ContainerName: c.Name}.Checked(),
		Stopping: t.DesiredStatus == "STOPPED",
	}
	for _, p := range c.Ports[:min(len(c.Ports), tasks.MaxPorts)] {
		if p.ContainerPort != 0 && (p.Protocol == "tcp" || p.Protocol == "udp") {
			out.Ports = append(out.Ports, tasks.Port{Container: p.ContainerPort, Protocol: p.Protocol})
		}
	}
	out.Ports = tasks.NormalPorts(out.Ports)
	for _, n := range c.Networks {
		out.TaskNetwork = out.TaskNetwork || n.NetworkMode == "awsvpc"
		for _, text := range slices.Concat(n.IPv4Addresses, n.IPv6Addresses) {
			if a, ok := taskAddr(text); ok && !slices.Contains(own, a) && len(out.Addrs) < maxAddrs {
				out.Addrs = append(out.Addrs, a)
			}
		}
	}
	return out
}

// aws is where AWS's own services answer on every instance, instance metadata too, besides
// the link-local addresses (EC2 User Guide, "Link-local addresses").
var aws = netip.MustParsePrefix("fd00:ec2::/32")

// taskAddr reads an address that a task can have in its network: none of loopback, a link or
// a group, and none of AWS's own.
func taskAddr(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	a = a.Unmap()
	return a, err == nil && a.Zone() == "" && a.IsGlobalUnicast() && !aws.Contains(a)
}
