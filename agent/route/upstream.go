package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/tasks"
)

// portOf says which container port a route leads to: the one that was named,
// else the only published one, else the only exposed one, else 80 (not for UDP).
func portOf(c tasks.Container, named uint16, transport string) (uint16, error) {
	if named != 0 {
		return named, nil
	}
	var published, all []uint16
	for _, p := range c.Ports {
		if p.Protocol != transport {
			continue
		}
		all = append(all, p.Container)
		if p.Host != 0 {
			published = append(published, p.Container)
		}
	}
	slices.Sort(published)
	slices.Sort(all)
	published, all = slices.Compact(published), slices.Compact(all)
	switch {
	case len(published) == 1:
		return published[0], nil
	case len(published) == 0 && len(all) == 1:
		return all[0], nil
	case transport == "udp":
		return 0, fmt.Errorf("it has %d UDP ports", len(all))
	case slices.Contains(all, 80), len(all) == 0 && c.Network != tasks.Host:
		return 80, nil
	case len(all) == 0:
		return 0, errors.New("it uses the host's network, where only it knows its port")
	}
	return 0, fmt.Errorf("it has %d TCP ports and none of them is 80", len(all))
}

func schemeOf(named Scheme, port uint16) Scheme {
	switch {
	case named != "":
		return named
	case port == 443, port == 8443:
		return HTTPS
	}
	return HTTP
}

// place is where a container is reached. The probe goes to the container itself
// where it has an address of its own: a published port may be held open by
// Docker's proxy before anything listens behind it.
type place struct {
	addr  netip.AddrPort
	probe netip.AddrPort
}

// placeOf returns where a port of a container is reached by nginx; ok is false
// while it is not reached at all.
//
// A published port is reached at the host's local address, never at loopback:
// there Docker's userland proxy copies every byte, while the kernel forwards what
// is sent to the local address. An nginx in a container prefers the container's own
// address on a network that both are on.
func placeOf(c tasks.Container, port uint16, transport string, in Input) (p place, ok bool) {
	own := netip.AddrPort{}
	if len(c.Addrs) > 0 && c.Network != tasks.Host {
		own = netip.AddrPortFrom(c.Addrs[0], port)
	}
	switch c.Network {
	case tasks.Host:
		local := in.Local
		if !validAddr(local) {
			local = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		at := netip.AddrPortFrom(local, port)
		return place{at, at}, true
	case tasks.Bridge:
		if in.From.Container {
			return placeBeside(c, port, transport, in)
		}
		at, published := publishedAt(c, port, transport, in.Local)
		switch {
		case published && own.IsValid():
			return place{at, own}, true
		case published:
			return place{at, at}, true
		}
	}
	return place{own, own}, own.IsValid()
}

// placeBeside is placeOf between two containers: Docker keeps networks apart, so
// only one that both are on leads from one to the other.
func placeBeside(c tasks.Container, port uint16, transport string, in Input) (p place, ok bool) {
	for _, n := range c.Networks {
		if len(n.Addrs) > 0 && slices.Contains(in.From.Networks, n.Name) {
			at := netip.AddrPortFrom(n.Addrs[0], port)
			return place{at, at}, validAddr(n.Addrs[0])
		}
	}
	at, published := publishedAt(c, port, transport, in.Local)
	return place{at, at}, published
}

func publishedAt(c tasks.Container, port uint16, transport string, local netip.Addr) (netip.AddrPort, bool) {
	var at netip.AddrPort
	for _, p := range c.Ports {
		if p.Container != port || p.Protocol != transport || p.Host == 0 {
			continue
		}
		switch {
		case validAddr(p.HostIP) && !p.HostIP.IsLoopback():
			return netip.AddrPortFrom(p.HostIP, p.Host), true
		case !validAddr(local):
		case p.HostIP.IsUnspecified(): // all addresses of IPv6
			if local.Is6() {
				return netip.AddrPortFrom(local, p.Host), true
			}
		case !p.HostIP.IsValid() && !at.IsValid():
			at = netip.AddrPortFrom(local, p.Host)
		}
	}
	return at, at.IsValid()
}
