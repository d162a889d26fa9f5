package route

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// NginxNetwork is how nginx is connected, from which it must reach the containers.
type NginxNetwork struct {
	// Container is true for an nginx in a container with networks of its own: it
	// reaches others at their addresses on the networks that they share.
	Container bool
	// Networks are the names of nginx's Docker networks, sorted.
	Networks []string
	// Host is the address at which nginx reaches this host and what containers publish
	// on it; invalid while it is not known.
	Host netip.Addr
}

// NetworkOfNginx returns the network of an nginx in the container of that id; an empty id
// is the host itself. local is this host's address, if known; a container that does not
// know it, or whose own it is, reaches the host at the gateway of its first network. ok is
// false for a container that is not in the list: then nothing is known of its networks.
func NetworkOfNginx(id string, list []tasks.Container, local netip.Addr) (_ NginxNetwork, ok bool) {
	n := NginxNetwork{Host: local}
	if id == "" {
		return n, true
	}
	c, ok := byID(list, id)
	if ok && c.NetworkOf != "" {
		c, ok = byID(list, c.NetworkOf)
	}
	if !ok || c.Network == tasks.Host {
		return n, ok
	}
	n.Container = true
	if slices.Contains(c.Addrs, local) {
		n.Host = netip.Addr{}
	}
	for _, on := range c.Networks {
		n.Networks = append(n.Networks, on.Name)
		if !n.Host.IsValid() {
			n.Host = on.Gateway
		}
	}
	return n, true
}

func byID(list []tasks.Container, id string) (tasks.Container, bool) {
	i := slices.IndexFunc(list, func(c tasks.Container) bool { return c.ID == id })
	if i < 0 {
		return tasks.Container{}, false
	}
	return list[i], true
}

// OwnContainer returns the id of the first guess that is listed as running. ok is false
// if there are guesses and none of them is.
func OwnContainer(guesses []string, list []tasks.Container) (id string, ok bool) {
	for _, guess := range guesses {
		for _, c := range list {
			if strings.HasPrefix(c.ID, guess) && c.State == tasks.Running {
				return c.ID, true
			}
		}
	}
	return "", len(guesses) == 0
}

// BesideEngine reports whether one of the containers' gateways is among the addresses of
// this network namespace: then the engine is in it too. It is true where there is no
// gateway to tell by.
func BesideEngine(list []tasks.Container, own []netip.Addr) bool {
	seen := false
	for _, c := range list {
		for _, n := range c.Networks {
			if slices.Contains(own, n.Gateway) {
				return true
			}
			seen = seen || n.Gateway.IsValid()
		}
	}
	return !seen
}

// otherProtocols are TCP ports on which something else than HTTP is spoken (IANA's registry of
// service names): mail, shells, databases, queues. Of several ports none of them is guessed.
var otherProtocols = []uint16{21, 22, 23, 25, 53, 110, 143, 389, 465, 587, 636, 993, 995, 1433, 1521, 1883, 3306, 5432, 5672, 6379, 9042, 11211, 27017}

// portOf says which container port a route leads to: the one that was named, else the only
// exposed one, else of those that may speak HTTP the only published one, else the only exposed
// one, else 80 (not for UDP).
func portOf(c tasks.Container, named uint16, transport string) (uint16, error) {
	if named != 0 {
		return named, nil
	}
	published, likely, all := map[uint16]bool{}, map[uint16]bool{}, map[uint16]bool{}
	for _, p := range c.Ports {
		if p.Protocol != transport {
			continue
		}
		if all[p.Container] = true; transport == "tcp" && slices.Contains(otherProtocols, p.Container) {
			continue
		}
		if likely[p.Container] = true; p.Host != 0 {
			published[p.Container] = true
		}
	}
	for _, some := range []map[uint16]bool{all, published, likely} {
		if len(some) == 1 {
			return slices.Collect(maps.Keys(some))[0], nil
		}
	}
	switch {
	case transport == "udp":
		return 0, fmt.Errorf("it has %d UDP ports", len(all))
	case all[80], len(all) == 0 && c.Network != tasks.Host:
		return 80, nil
	case len(all) == 0:
		return 0, errors.New("it uses the host's network, where only it knows its port")
	}
	return 0, fmt.Errorf("it has %d TCP ports and none of them is 80", len(all))
}

// endpoint is where a container is reached. The probe goes to the container itself
// where it has an address of its own: a published port may be held open by
// Docker's proxy before anything listens behind it.
type endpoint struct {
	addr  netip.AddrPort
	probe netip.AddrPort
}

// endpointOf returns where nginx reaches a port of a container; it has no valid address
// while it is not reached at all.
//
// A published port is reached at the host's local address, never at loopback:
// there Docker's userland proxy copies every byte, while the kernel forwards what
// is sent to the local address. Docker keeps networks apart, so an nginx in a container
// takes the container's own address on a network that both are on, if there is one. Where a
// network is named, it is the container's address there, and no other.
func (n NginxNetwork) endpointOf(c tasks.Container, port uint16, transport, network string) endpoint {
	if network != "" {
		on, _ := onNetwork(c, network)
		at := at(on.Addrs, port)
		return endpoint{addr: at, probe: at}
	}
	own := at(reachable(c), port)
	switch c.Network {
	case tasks.Host:
		own = netip.AddrPortFrom(n.host(), port)
	case tasks.Bridge:
		published := n.published(c, port, transport)
		switch {
		case n.Container:
			own = n.beside(c, port, published)
		case published.IsValid() && own.IsValid():
			return endpoint{addr: published, probe: own}
		case published.IsValid():
			own = published
		}
	}
	return endpoint{addr: own, probe: own}
}

// reachable are the container's own addresses, those first at which the host reaches it, and of
// these IPv4 first.
func reachable(c tasks.Container) []netip.Addr {
	if c.Network != tasks.Bridge {
		return c.Addrs
	}
	var near []netip.Addr
	for _, on := range c.Networks {
		if !on.Apart {
			near = append(near, on.Addrs...)
		}
	}
	return append(tasks.IPv4First(near), c.Addrs...)
}

// at is a port at the first of the addresses; invalid where there is none.
func at(addrs []netip.Addr, port uint16) netip.AddrPort {
	if len(addrs) == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addrs[0], port)
}

// onNetwork is the container's place on the network of that name, to which Compose adds the
// name of its project.
func onNetwork(c tasks.Container, name string) (_ tasks.Network, ok bool) {
	for _, full := range []string{name, c.Labels[tasks.LabelComposeProject] + "_" + name} {
		if i := slices.IndexFunc(c.Networks, func(on tasks.Network) bool { return on.Name == full }); i >= 0 {
			return c.Networks[i], true
		}
	}
	return tasks.Network{}, false
}

// networksOf names the container's networks for people.
func networksOf(c tasks.Container) string {
	var names []string
	for _, on := range c.Networks {
		names = append(names, on.Name)
	}
	return cmp.Or(listed(names), "no network of Docker's")
}

// host is the address of what uses this host's network.
func (n NginxNetwork) host() netip.Addr {
	if !n.Host.IsValid() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return n.Host
}

// beside is the container's address on a network that nginx is on too, else otherwise.
func (n NginxNetwork) beside(c tasks.Container, port uint16, otherwise netip.AddrPort) netip.AddrPort {
	for _, on := range c.Networks {
		if len(on.Addrs) > 0 && slices.Contains(n.Networks, on.Name) {
			return at(on.Addrs, port)
		}
	}
	return otherwise
}

// published is where this host publishes the port; invalid where it does not.
func (n NginxNetwork) published(c tasks.Container, port uint16, transport string) (at netip.AddrPort) {
	for _, p := range c.Ports {
		if p.Container != port || p.Protocol != transport || p.Host == 0 {
			continue
		}
		everywhere := !p.HostIP.IsValid()
		switch {
		case !everywhere && !p.HostIP.IsUnspecified() && !p.HostIP.IsLoopback():
			return netip.AddrPortFrom(p.HostIP, p.Host)
		case !n.Host.IsValid():
		case p.HostIP.IsUnspecified() && n.Host.Is6(): // all addresses of IPv6
			return netip.AddrPortFrom(n.Host, p.Host)
		case everywhere && !at.IsValid():
			at = netip.AddrPortFrom(n.Host, p.Host)
		}
	}
	return at
}
