package discover

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"

	"github.com/nagaya-ecs/nagaya/agent/ecsapi"
	"github.com/nagaya-ecs/nagaya/agent/identity"
	"github.com/nagaya-ecs/nagaya/agent/problem"
	"github.com/nagaya-ecs/nagaya/agent/proc"
	"github.com/nagaya-ecs/nagaya/agent/sockdiag"
)

// host is what the machine knows about itself. primary is the address that EC2
// gave the primary interface, or the zero Addr.
func (w *watcher) host(primary netip.Addr) identity.Host {
	name, err := os.Hostname()
	if err != nil {
		name = "localhost"
	}
	h := identity.Host{Name: name, CPUs: runtime.NumCPU(), LocalAddr: w.o.LocalAddr}
	if !h.LocalAddr.IsValid() {
		own, _ := proc.Addrs()
		h.LocalAddr = localAddr(primary, own, routeSource())
	}
	return h
}

// localAddr chooses the address at which this host reaches its own published
// ports: the one of EC2 if it is an address of this network namespace, else the
// source address of the default route, else any address that is not loopback.
func localAddr(primary netip.Addr, own []netip.Addr, route netip.Addr) netip.Addr {
	if primary.IsValid() && slices.Contains(own, primary) {
		return primary
	}
	if route.IsValid() {
		return route
	}
	for _, a := range own {
		if a.Is4() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			return a
		}
	}
	return netip.Addr{}
}

// routeSource asks the kernel which source address it would use for a far
// destination. Connecting a UDP socket looks the route up and sends nothing; the
// destination is from a range for documentation (RFC 5737).
func routeSource() netip.Addr {
	c, err := net.Dial("udp4", "198.51.100.1:9")
	if err != nil {
		return netip.Addr{}
	}
	defer c.Close()
	from := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	if from.IsLoopback() {
		return netip.Addr{}
	}
	return from
}

func noLocalAddr() problem.Problem {
	return problem.Of("identity", "no-local-address", "set local-address to an address of this host",
		"this host has no address besides loopback, so published container ports cannot be reached")
}

// ecs asks the ECS agent which cluster it joined. ok is false when no agent
// answers, which changes nothing: it may be restarting.
func (w *watcher) ecs(ctx context.Context) (identity.ECS, bool) {
	if w.o.AgentURL == "" {
		return identity.ECS{}, false
	}
	var m struct {
		Cluster              string
		ContainerInstanceArn *string // null until the agent has registered
		Version              string
	}
	if (ecsapi.Client{URL: w.o.AgentURL, PeerUser: sockdiag.PeerUser}).Get(ctx, "/v1/metadata", &m) != nil {
		return identity.ECS{}, false
	}
	e := identity.ECS{Known: true, Cluster: printable(m.Cluster), AgentVersion: printable(m.Version)}
	if m.ContainerInstanceArn != nil {
		e.ContainerInstanceARN = printable(*m.ContainerInstanceArn)
	}
	return e, true
}

// OwnContainer returns the ids that the container of this process may have; none on the
// host itself.
func OwnContainer() []string {
	read := func(name string) string {
		b, _ := os.ReadFile(name) // without it there are fewer guesses
		return string(b)
	}
	name, _ := os.Hostname()
	return identity.ContainerIDs(read("/proc/self/cgroup"), read("/proc/self/mountinfo"), name)
}
