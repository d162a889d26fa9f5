// Package ecsagent asks the ECS agent of this host, over its introspection
// API, which tasks it runs. The agent sends no events, so it is polled; an
// answer equal to the last one is not put again.
package ecsagent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/nagaya-ecs/nagaya/agent/backoff"
	"github.com/nagaya-ecs/nagaya/agent/ecsapi"
	"github.com/nagaya-ecs/nagaya/agent/event"
	"github.com/nagaya-ecs/nagaya/agent/latest"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/sockdiag"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// Options say where the agent is.
type Options struct {
	// URL is the agent's introspection endpoint.
	URL string
	// Again receives a value when there is reason to ask at once: a container that the agent may
	// have started meanwhile. Nil is never.
	Again <-chan []string
	// Log receives one line when the agent starts or ceases to answer; nil discards.
	Log *slog.Logger
	// Transport carries the requests. Nil means the default one.
	Transport http.RoundTripper
}

// every is the pause between two questions. What is urgent comes from Docker; the agent adds what Docker does not know,
// and says the rest a little earlier. Whether it has started a container it is asked at once.
const every = 15 * time.Second

// retryMax is the longest pause while no agent answers.
const retryMax = 30 * time.Second

// soon is the pause between two questions after a value of Again: it doubles with each one up to
// the usual pause. It is also the shortest.
const soon = 100 * time.Millisecond

// Watch puts what the agent says whenever it changed, until ctx ends; then it
// returns nil. The first value comes after the first attempt, answered or not.
// That no agent answers is not a problem, since not every host has an ECS agent:
// the value then has Complete false and the containers that were listed last. An answer
// that is not the agent's is a problem, ecs-agent-unreadable.
func Watch(ctx context.Context, o Options, put func(tasks.Agent)) error {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	put = latest.Distinct(put)
	var last tasks.Agent
	api, failed := ecsapi.Client{URL: o.URL, PeerUser: sockdiag.PeerUser, Transport: o.Transport}, backoff.Backoff{First: 2 * every, Most: retryMax}
	hurry := backoff.Backoff{First: every, Most: every}
	for {
		pause := hurry.Next()
		now, err := ask(ctx, api)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			if last.Complete {
				o.Log.Warn("ecs agent does not answer; keeping what it said last", event.Key, event.ECSAgentSilent, "url", o.URL, "err", err, "tasks", last.Tasks)
			}
			last.Complete, last.Problems = false, o.unreadable(err)
			pause = failed.Next()
		default:
			if !last.Complete {
				o.Log.Info("ecs agent answers", event.Key, event.ECSAgentAnswers, "url", o.URL, "tasks", now.Tasks)
			}
			last = now
			failed.Reset()
		}
		put(last)
		wake := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			return nil
		case <-wake.C:
		case <-o.Again:
			hurry = backoff.Backoff{First: soon, Most: every}
			if !backoff.Sleep(ctx, hurry.Next()) {
				return nil
			}
		}
	}
}

func ask(ctx context.Context, api ecsapi.Client) (tasks.Agent, error) {
	var a answer
	if err := api.Get(ctx, "/v1/tasks", &a); err != nil {
		return tasks.Agent{}, err
	}
	own, err := proc.Addrs()
	if err != nil {
		return tasks.Agent{}, err
	}
	return a.agent(own)
}

// unreadable is the problem of an answer that is not the agent's.
func (o Options) unreadable(err error) []problem.Problem {
	if !errors.Is(err, ecsapi.ErrNotAgent) {
		return nil
	}
	p := problem.Of("ecs agent", "ecs-agent-unreadable", "restart the agent (systemctl restart ecs), or look who listens on that port",
		"what answers at %q is not the ECS agent's list of tasks: %q", o.URL, problem.Printable(err.Error(), 200))
	return []problem.Problem{p.AsWarning()}
}

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
