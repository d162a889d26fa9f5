package ecsagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
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
	KnownStatus   string
	Family        string
	Version       string
	Containers    []containerWord
}

type containerWord struct {
	DockerID   string `json:"DockerId"`
	DockerName string
	Name       string
	Ports      []struct {
		ContainerPort uint16
		Protocol      string
		HostPort      uint16 // absent until a dynamic port is bound
		HostIP        string `json:"HostIp"`
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
	maxContainers = 10 // ECS: containers in a task definition
	maxAddrs      = 32
)

// What the agent's words look like; a word of another form is left empty.
var (
	dockerID = pattern.Of(64, `[0-9a-f]{64}`)
	word     = pattern.Of(255, `[A-Za-z0-9_.~-]+`)
	arn      = pattern.Of(600, `arn:[A-Za-z0-9-]+:ecs:[A-Za-z0-9:/_-]+`)
)

func decode(body []byte) ([]tasks.Task, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("reading the list of tasks: %w", err)
	}
	if a.Tasks == nil {
		return nil, errors.New("the answer has no field Tasks")
	}
	if len(*a.Tasks) > maxTasks {
		return nil, fmt.Errorf("the answer has %d tasks, at most %d are read", len(*a.Tasks), maxTasks)
	}
	out := make([]tasks.Task, 0, len(*a.Tasks))
	for _, t := range *a.Tasks {
		out = append(out, tasks.Task{
			ARN:        arn.Only(t.Arn),
			Family:     word.Only(t.Family),
			Revision:   word.Only(t.Version),
			Desired:    status(t.DesiredStatus),
			Known:      status(t.KnownStatus),
			Containers: containers(t.Containers),
		})
	}
	return out, nil
}

func containers(words []containerWord) []tasks.TaskContainer {
	// Pause containers are not listed, so the limit of ECS is the limit here.
	words = words[:min(len(words), maxContainers)]
	out := make([]tasks.TaskContainer, 0, len(words))
	for _, w := range words {
		c := tasks.TaskContainer{
			ID:         dockerID.Only(w.DockerID),
			DockerName: word.Only(w.DockerName),
			Name:       word.Only(w.Name),
		}
		for _, p := range w.Ports[:min(len(w.Ports), tasks.MaxPorts)] {
			if p.ContainerPort == 0 || p.Protocol != "tcp" && p.Protocol != "udp" {
				continue
			}
			ip, _ := netip.ParseAddr(p.HostIP) // absent in most answers
			c.Ports = append(c.Ports, tasks.Port{Container: p.ContainerPort, Protocol: p.Protocol, HostIP: ip, Host: p.HostPort})
		}
		c.Ports = tasks.NormalPorts(c.Ports)
		for _, n := range w.Networks {
			if c.NetworkMode == "" {
				c.NetworkMode = word.Only(n.NetworkMode)
			}
			c.Addrs = append(c.Addrs, addresses(n.IPv4Addresses, maxAddrs-len(c.Addrs))...)
			c.Addrs = append(c.Addrs, addresses(n.IPv6Addresses, maxAddrs-len(c.Addrs))...)
		}
		out = append(out, c)
	}
	return out
}

func addresses(words []string, most int) []netip.Addr {
	var out []netip.Addr
	for _, w := range words {
		if a, err := netip.ParseAddr(w); err == nil && a.Zone() == "" && !a.IsUnspecified() && len(out) < most {
			out = append(out, a)
		}
	}
	return out
}

// status keeps the three words that the API knows.
func status(s string) string {
	switch s {
	case "PENDING", "RUNNING", "STOPPED":
		return s
	}
	return ""
}
