package docker

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sys/unix"

	"github.com/nagaya-ecs/nagaya/agent/pattern"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// fromSummary makes what can be made of a line of the list.
func fromSummary(s container.Summary, foreign func(string) bool) detail {
	return fromInspect(container.InspectResponse{
		ID: s.ID, Name: strings.Join(s.Names[:min(1, len(s.Names))], ""), Created: time.Unix(s.Created, 0).Format(time.RFC3339),
		State: &container.State{Status: s.State}, Config: &container.Config{Image: s.Image, Labels: s.Labels},
		HostConfig: &container.HostConfig{NetworkMode: container.NetworkMode(s.HostConfig.NetworkMode)},
	}, foreign)
}

// fromInspect makes a container of docker inspect's answer. No part of the
// answer is taken for granted.
func fromInspect(r container.InspectResponse, foreign func(string) bool) detail {
	c := tasks.Container{
		ID:        r.ID,
		Name:      nameForm.Only(strings.TrimPrefix(r.Name, "/")),
		CreatedAt: when(r.Created),
		Restarts:  r.RestartCount,
	}
	setState(&c, r.State)
	d := detail{stopSignal: int(unix.SIGTERM)}
	var exposed network.PortSet
	if cfg := r.Config; cfg != nil {
		c.Image = bounded(cfg.Image)
		c.Task = tasks.ECSRef(cfg.Labels)
		var dropped []string
		c.Labels, c.Env, dropped = tasks.Keep(cfg.Labels, cfg.Env, foreign)
		c.ServiceKey = tasks.ServiceKey(cfg.Image, cfg.Labels, c.Labels, c.Env)
		if d.problems = droppedWords(c, dropped); len(dropped) > 0 {
			c = c.Unrouted() // what is missing may be what keeps clients out
		}
		d.stopSignal = cmp.Or(signalNumber(cfg.StopSignal), d.stopSignal)
		exposed = cfg.ExposedPorts
	}
	if r.HostConfig != nil {
		c.Network, c.NetworkOf = networkMode(string(r.HostConfig.NetworkMode))
		c.AutoRemove = r.HostConfig.AutoRemove
	}
	var bound network.PortMap
	if r.NetworkSettings != nil {
		bound = r.NetworkSettings.Ports
		c.Networks, d.networks = networks(r.NetworkSettings.Networks)
		for _, n := range c.Networks {
			c.Addrs = append(c.Addrs, n.Addrs...)
		}
		c.Addrs = tasks.IPv4First(c.Addrs)
	}
	c.Ports = ports(exposed, bound)
	d.container = c
	return d
}

func setState(c *tasks.Container, s *container.State) {
	if s == nil {
		c.State = tasks.Dead
		return
	}
	c.State = state(s.Status)
	c.StartedAt = when(s.StartedAt)
	c.FinishedAt = when(s.FinishedAt)
	c.ExitCode = s.ExitCode
	c.OOMKilled = s.OOMKilled
	if s.Health != nil {
		switch h := tasks.Health(s.Health.Status); h {
		case tasks.Starting, tasks.Healthy, tasks.Unhealthy:
			c.Health = h
		}
	}
}

// state takes Docker's word over; a word that is not Docker's counts as dead.
func state(s container.ContainerState) tasks.State {
	if container.ValidateContainerState(s) != nil {
		return tasks.Dead
	}
	return tasks.State(s)
}

// Docker's own pattern for names (daemon/names).
var nameForm = pattern.Of(255, `[A-Za-z0-9][A-Za-z0-9_.-]*`)

// when reads Docker's time stamps. The year 1 is Docker's way to say "never".
func when(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

// networkMode reads HostConfig.NetworkMode; of is the container whose network is
// shared.
func networkMode(mode string) (m tasks.NetworkMode, of string) {
	if of, ok := strings.CutPrefix(mode, "container:"); ok {
		return tasks.None, of
	}
	switch mode {
	case network.NetworkHost:
		return tasks.Host, ""
	case network.NetworkNone:
		return tasks.None, ""
	}
	return tasks.Bridge, ""
}

// networks lists the container's places on Docker networks, by name, and their ids.
func networks(all map[string]*network.EndpointSettings) (out []tasks.Network, ids []string) {
	for _, n := range slices.Sorted(maps.Keys(all)) {
		e := all[n]
		if e == nil || !nameForm.MatchString(n) {
			continue
		}
		at := tasks.Network{Name: n}
		for _, a := range []netip.Addr{e.IPAddress, e.GlobalIPv6Address} {
			if a.IsValid() && !a.IsUnspecified() && a.Zone() == "" {
				at.Addrs = append(at.Addrs, a)
			}
		}
		if !e.Gateway.IsUnspecified() {
			at.Gateway = e.Gateway
		}
		out, ids = append(out, at), append(ids, e.NetworkID)
	}
	return out, ids
}

// isApart reports whether the host of the network's containers reaches none of them there. Linux
// passes nothing between a macvlan or ipvlan interface and its parent, an overlay is in a
// namespace of its own (docs.docker.com, Network drivers), and a bridge may be without an
// address of the host's (gateway mode isolated).
func isApart(n network.Network) bool {
	switch n.Driver {
	case "macvlan", "ipvlan", "overlay", "null":
		return true
	case "bridge":
		return n.Options["com.docker.network.bridge.gateway_mode_ipv4"] == "isolated"
	}
	return false
}

func ports(exposed network.PortSet, bound network.PortMap) []tasks.Port {
	var ps []tasks.Port
	add := func(p network.Port, b network.PortBinding) {
		if p.Proto() != network.TCP && p.Proto() != network.UDP || p.Num() == 0 {
			return
		}
		// A host port that is not there yet stays 0, which means "not bound".
		host, _ := strconv.ParseUint(b.HostPort, 10, 16)
		ps = append(ps, tasks.Port{Container: p.Num(), Protocol: string(p.Proto()), HostIP: b.HostIP, Host: uint16(host)})
	}
	for p := range exposed {
		add(p, network.PortBinding{})
	}
	for p, bindings := range bound {
		add(p, network.PortBinding{})
		for _, b := range bindings {
			add(p, b)
		}
	}
	return tasks.NormalPorts(ps)
}

func droppedWords(c tasks.Container, dropped []string) []problem.Problem {
	if len(dropped) == 0 {
		return nil
	}
	return []problem.Problem{problem.OfContainer(c.Ref(), "label-dropped", "shorten them, or route through fewer labels",
		"it is not routed, because it has more than %d labels or variables of nagaya's, or one that is longer than %d bytes: %q", tasks.MaxWords, tasks.MaxWordLen, dropped)}
}
